"""Symmetric positive definite matrices with a band, as block tridiagonal ones, by Cholesky factors of the blocks.

K = [D_1 C_1'; C_1 D_2 C_2'; ...]

Every other block is eliminated at once, which leaves a matrix of the same kind with half as many (cyclic reduction:
Golub & Van Loan 2013, Matrix Computations, section 4.5.4): it is the Cholesky factor of K with its blocks in another
order, in log2 N batches of small products in place of N steps one after the other. N blocks of w rows take some
10 N w**3 operations, a dense factor (N w)**3 / 3.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular

WHOLE = 64  # rows of what is left when the rest is factorized as one dense matrix


class Banded(NamedTuple):
    """A block tridiagonal matrix float[n,n], n = N w."""

    D: Array  # float[N,w,w]    on the diagonal
    C: Array  # float[N-1,w,w]  below it

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        n = self.D.shape[0] * self.D.shape[1]
        return n, n

    @property
    def dtype(self) -> jnp.dtype:
        """Of the elements."""
        return self.D.dtype

    def __matmul__(self, x: Array) -> Array:
        """The product with x float[n]."""
        x = x.reshape(self.D.shape[:2])
        below = jnp.einsum("nij,nj->ni", self.C, x[:-1])
        above = jnp.einsum("nji,nj->ni", self.C, x[1:])
        return (jnp.einsum("nij,nj->ni", self.D, x).at[1:].add(below).at[:-1].add(above)).reshape(-1)

    def scaled(self, d: Array) -> Banded:
        """diag(d) K diag(d), d float[n]."""
        d = d.reshape(self.D.shape[:2])
        return Banded(d[:, :, None] * self.D * d[:, None], d[1:, :, None] * self.C * d[:-1, None])

    def within(self, which: Array) -> Banded:
        """With zeros in the rows and columns that are not bool[n] which."""
        which = which.reshape(self.D.shape[:2])
        D = jnp.where(which[:, :, None] & which[:, None], self.D, 0)
        return Banded(D, jnp.where(which[1:, :, None] & which[:-1, None], self.C, 0))

    def sizes(self) -> Array:
        """float[n]: the largest element of each row."""
        D, C = jnp.abs(self.D), jnp.abs(self.C)
        sizes = jnp.max(D, axis=2).at[1:].max(jnp.max(C, axis=2)).at[:-1].max(jnp.max(C, axis=1))
        return sizes.reshape(-1)

    def with_diagonal(self, d: Array) -> Banded:
        """K + diag(d), d float[n]."""
        at = jnp.arange(self.D.shape[1])
        return Banded(self.D.at[:, at, at].add(d.reshape(self.D.shape[:2])), self.C)


class BlockFactor(NamedTuple):
    """What is known of a positive definite block tridiagonal matrix when it has been factorized."""

    levels: tuple[Elimination, ...]
    rest: Array  # float[r,r]  the Cholesky factor of what is left


class Elimination(NamedTuple):
    """Every other block, the first of them the first, h in all, eliminated from N blocks, N even or one more."""

    inverse: Array  # float[h,w,w]  L^-1, L L' = D of each
    before: Array  # float[h,w,w]   L^-1 times what joins it with the block before, 0 for the first
    after: Array  # float[h,w,w]    with the block after it


def blocks(K: Array, width: int) -> Banded:
    """The band |i - j| <= width of K float[n,n], with ones where the last block goes beyond n."""
    n = K.shape[0]
    N = -(-n // width)
    K = jnp.pad(K, (0, N * width - n)).reshape(N, width, N, width)
    at = jnp.arange(N)
    D, C = K[at, :, at], K[at[1:], :, at[:-1]]
    beyond = (jnp.arange(N * width) >= n).astype(K.dtype).reshape(N, width)
    return Banded(D + jax.vmap(jnp.diag)(beyond), C)


def gram(G: Array, weights: Array, width: int) -> Banded:
    """The band of G' diag(weights) G, for G float[k,n]."""
    k, n = G.shape
    N = -(-n // width)
    G = jnp.pad(G, ((0, 0), (0, N * width - n))).reshape(k, N, width).swapaxes(0, 1)
    heavy = weights[None, :, None] * G
    return Banded(jnp.einsum("nki,nkj->nij", G, heavy), jnp.einsum("nki,nkj->nij", G[1:], heavy[:-1]))


def total(*matrices: Banded) -> Banded:
    """Their sum."""
    return Banded(*(sum(parts[1:], start=parts[0]) for parts in zip(*matrices, strict=True)))


def factor(K: Banded) -> BlockFactor:
    """The factor, with NaN in `rest` if K is not positive definite."""
    (D, C), levels = K, []
    width = D.shape[1]
    eye = jnp.eye(width, dtype=D.dtype)
    while D.shape[0] > 1 and D.shape[0] * width > WHOLE:
        N, h = D.shape[0], (D.shape[0] + 1) // 2
        gone, left = D[0::2], D[1::2]
        after = _filled(C[0::2], 0, h - C[0::2].shape[0])  # [left_i, gone_i]
        before = _filled(C[1::2], 1, 0)  # [gone_i, left_i-1]
        L = jnp.linalg.cholesky(gone, symmetrize_input=False)
        inverse = solve_triangular(L, jnp.broadcast_to(eye, L.shape), lower=True)
        before, after = inverse @ before, inverse @ after.mT
        levels.append(Elimination(inverse, before, after))
        left = left - (after.mT @ after)[: N // 2]
        left = left.at[: h - 1].add(-(before.mT @ before)[1:])
        D, C = left, -(after.mT @ before)[1 : N // 2]
    N = D.shape[0]
    whole = jnp.zeros((N, width, N, width), D.dtype)
    at = jnp.arange(N)
    whole = whole.at[at, :, at].set(D)
    if N > 1:
        whole = whole.at[at[1:], :, at[:-1]].set(C)
    rest = jnp.linalg.cholesky(whole.reshape(N * width, N * width), symmetrize_input=False)
    return BlockFactor(tuple(levels), rest)


def _filled(C: Array, first: int, last: int) -> Array:
    """With blocks of zeros before and after."""
    return jnp.pad(C, ((first, last), (0, 0), (0, 0)))


def substitute(factor: BlockFactor, b: Array) -> Array:
    """K^-1 b, float[n]; b may be shorter than K by what its last block has too many."""
    n, width = b.size, factor.levels[0].inverse.shape[1] if factor.levels else factor.rest.shape[0]
    N = sum(level.inverse.shape[0] for level in factor.levels) + factor.rest.shape[0] // width
    b, kept = jnp.pad(b, (0, N * width - n)).reshape(N, width), []
    for level in factor.levels:
        v = jnp.einsum("nij,nj->ni", level.inverse, b[0::2])
        kept.append(v)
        left = b[1::2]
        left = left - jnp.einsum("nji,nj->ni", level.after, v)[: left.shape[0]]
        b = left.at[: v.shape[0] - 1].add(-jnp.einsum("nji,nj->ni", level.before, v)[1:])
    v = solve_triangular(factor.rest, b.reshape(-1), lower=True)
    x = solve_triangular(factor.rest, v, lower=True, trans=1).reshape(-1, width)
    for level, v in zip(reversed(factor.levels), reversed(kept), strict=True):
        h, left = v.shape[0], x.shape[0]
        before = jnp.pad(x, ((1, 0), (0, 0)))[:h]
        after = jnp.pad(x, ((0, h - left), (0, 0)))
        joins = jnp.einsum("nij,nj->ni", level.before, before) + jnp.einsum("nij,nj->ni", level.after, after)
        gone = jnp.einsum("nji,nj->ni", level.inverse, v - joins)
        both = jnp.stack([gone, after], axis=1).reshape(2 * h, width)
        x = both[: h + left]
    return x.reshape(-1)[:n]
