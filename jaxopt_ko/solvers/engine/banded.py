"""Symmetric positive definite matrices with a band, as block tridiagonal ones, by Cholesky factors of the blocks.

K = [D_1 C_1'; C_1 D_2 C_2'; ...]    L_1 L_1' = D_1    B_i = C_i L_i'^-1    L_i+1 L_i+1' = D_i+1 - B_i B_i'

Golub & Van Loan 2013, Matrix Computations, section 4.5.1. N blocks of w rows: N w**3 operations, where a dense factor
takes (N w)**3 / 3.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import solve_triangular


class Banded(NamedTuple):
    """The blocks of a matrix, or of its factor: then D has the L_i, and C the B_i."""

    D: Array  # float[N,w,w]    on the diagonal
    C: Array  # float[N-1,w,w]  below it


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


def factor(K: Banded) -> Banded:
    """The factor, NaN if K is not positive definite."""
    first = jnp.linalg.cholesky(K.D[0])

    def block(L: Array, below: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        C, D = below
        B = solve_triangular(L, C.T, lower=True).T
        L = jnp.linalg.cholesky(D - B @ B.T)
        return L, (L, B)

    _, (L, B) = jax.lax.scan(block, first, (K.C, K.D[1:]))
    return Banded(jnp.concatenate([first[None], L]), B)


def substitute(factor: Banded, b: Array) -> Array:
    """K^-1 b, float[n]."""
    (L, B), n = factor, b.size
    N, width = L.shape[:2]
    b = jnp.pad(b, (0, N * width - n)).reshape(N, width)

    def forward(v: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        L, B, b = row
        v = solve_triangular(L, b - B @ v, lower=True)
        return v, v

    def back(x: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        L, B, v = row  # B of the block below
        x = solve_triangular(L.T, v - B.T @ x, lower=False)
        return x, x

    none = jnp.zeros((1, width, width), L.dtype)
    nil = jnp.zeros(width, L.dtype)
    _, v = jax.lax.scan(forward, nil, (L, jnp.concatenate([none, B]), b))
    _, x = jax.lax.scan(back, nil, (L, jnp.concatenate([B, none]), v), reverse=True)
    return x.reshape(-1)[:n]
