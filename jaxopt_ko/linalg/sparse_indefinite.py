"""Sparse symmetric systems whose pivots may have any sign: fronts by blocks of a few pivots, each inverted whole.

front F = [F11 F21'; F21 F22]:  F11 = V Lambda V',  X = V Lambda^-1 V',  L21 = F21 X,  F22 - L21 F21' goes on

Of many blocks at once X is found by pairs of pivots, which take less time, where that is sure to tell the same.

Rows that have nothing on their diagonal are tied to a neighbour each beforehand, by a matching, so that what begins as
a zero pivot is half of a block [0 a; a 0]; the negative eigenvalues of all blocks are as many as those of the matrix
(Sylvester). No row leaves its front, for where the entries are is known and their size is not: pivots that are lost in
rounding are made larger, and told. Schenk & Gärtner 2006, ETNA 23, 158-179; fronts as in `sparse_cholesky`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import or_one
from jaxopt_ko.linalg.symbolic import Batch, Ints

PANEL = 8  # pivots of a block: the time of eigenvalues grows with their cube
LOST = 0.75  # eps to this power: eigenvalues of a block below it, where rows have entries of size one, are made that
LEAN = 0.5  # eps to this power is taken from the diagonal of tied rows, for those that depend on each other
ROUNDS = 3  # of equilibration
MANY = 16  # blocks for which pivots by pairs, all blocks side by side, take less time than their eigenvalues
TRUST = 100.0  # eps |A| |X| times this: what A X - I of pivots by pairs may be


class AnyBlock(NamedTuple):
    """The columns of L for one batch of fronts, and the inverse pivots, panel by panel."""

    inverse: tuple[Array, ...]  # float[T,B,b,b]   X
    below: tuple[Array, ...]  # float[T,B,f-..,b]  L21
    negative: Array  # int32[T]  eigenvalues below 0
    lost: Array  # int32[T]      eigenvalues that were made larger


def panels(width: int) -> list[int]:
    """The pivots of a front in blocks."""
    return [min(PANEL, width - k) for k in range(0, width, PANEL)]


def eliminate(batch: Batch, F: Array) -> tuple[Array, AnyBlock]:
    """What is left of B fronts float[B,f,f], of which the lower triangles count, and their part of the factor."""
    least = float(np.finfo(F.dtype).eps) ** LOST
    inverse, below, negative, lost = [], [], [], []
    for b in panels(batch.plus):
        X, below_zero, small = _pivots(F[:, :b, :b], least)
        negative.append(below_zero)
        lost.append(small)
        inverse.append(X)
        A = F[:, b:, :b]
        L = jnp.matmul(A, X, precision="highest")
        below.append(L)
        F = F[:, b:, b:] - jnp.matmul(L, A.swapaxes(1, 2), precision="highest")
    counts = (jnp.sum(jnp.stack(made), dtype=jnp.int32) for made in (negative, lost))
    return F, AnyBlock(tuple(inverse), tuple(below), *counts)


def _pivots(A: Array, least: float) -> tuple[Array, Array, Array]:
    """X float[B,b,b] of blocks whose lower triangles count, and how many eigenvalues are below 0, and were lost.

    Of many blocks by pairs of pivots, if that is sure to tell the same: |X| < 1 / least, so that no eigenvalue is lost,
    and A X = I up to rounding. Otherwise, and where a block is not finite, by the eigenvalues of all.
    """
    if A.shape[0] < MANY or A.shape[1] < 2:
        return _by_eigenvalues(A, least)
    A = jnp.tril(A) + jnp.tril(A, -1).swapaxes(1, 2)
    X, negative = _by_pairs(A)
    off = jnp.matmul(A, X, precision="highest") - jnp.eye(A.shape[1], dtype=A.dtype)[None]
    size = jnp.sqrt(jnp.sum(X * X, axis=(1, 2)))
    unit = TRUST * float(np.finfo(A.dtype).eps) * jnp.sqrt(jnp.sum(A * A, axis=(1, 2)))
    sure = jnp.all((size < 1 / least) & (jnp.max(jnp.abs(off), axis=(1, 2)) <= unit * size))
    found = (X, negative, jnp.zeros((), jnp.int32))
    return jax.lax.cond(sure, lambda _: found, lambda A: _by_eigenvalues(A, least), A)  # type: ignore[no-any-return]


def _by_eigenvalues(A: Array, least: float) -> tuple[Array, Array, Array]:
    values, V = jnp.linalg.eigh(A, symmetrize_input=False)
    small = jnp.abs(values) < least
    negative, lost = (jnp.sum(which, dtype=jnp.int32) for which in (values < 0, small))
    values = jnp.where(small, jnp.where(values < 0, -least, least), values)
    return jnp.matmul(V / values[:, None], V.swapaxes(1, 2), precision="highest"), negative, lost


def _by_pairs(A: Array) -> tuple[Array, Array]:
    """The inverses float[B,b,b] of symmetric blocks, and how many of all their eigenvalues are below 0.

    A' = [-P  P C'; C P  R - C P C'],  P = [a_ii a_ij; a_ij a_jj]^-1,  of those left the two whose |det| is largest

    After all pairs that is -A^-1 (the sweep operator: Goodnight 1979, doi:10.1080/00031305.1979.10482685; pivots of
    size two: Bunch & Parlett 1971, doi:10.1137/0708060).
    """
    B, b, _ = A.shape
    n = b + b % 2
    M = jnp.moveaxis(A, 0, 2)  # the blocks side by side in memory
    if n > b:
        one = jnp.asarray(np.eye(n)[:, :, None] * (np.arange(n) >= b)[:, None, None], A.dtype)
        M = jnp.pad(M, ((0, 1), (0, 1), (0, 0))) + one
    first, second = np.triu_indices(n, 1)
    rows, numbers = np.arange(n)[:, None], np.arange(first.size, dtype=np.int32)[:, None]
    left = jnp.ones((n, B), bool)
    negative = jnp.zeros((), jnp.int32)
    for _ in range(n // 2):
        diagonal = M[np.arange(n), np.arange(n)]
        dets = jnp.abs(diagonal[first] * diagonal[second] - M[first, second] ** 2)
        dets = jnp.where(left[first] & left[second], dets, -1.0)
        best = jnp.where(dets == jnp.max(dets, axis=0, keepdims=True), numbers, first.size - 1)
        best = jnp.min(best, axis=0)  # argmax, by reductions that run over all blocks at once
        i, j = (rows == jnp.asarray(which)[best][None] for which in (first, second))  # bool[n,B]
        u, v = (jnp.sum(jnp.where(which[:, None], M, 0), axis=0) for which in (i, j))
        a, c, d = (jnp.sum(jnp.where(w, of, 0), axis=0) for w, of in ((i, u), (j, u), (j, v)))
        det = a * d - c * c
        negative += jnp.sum(jnp.where(det < 0, 1, jnp.where(a + d < 0, 2, 0)), dtype=jnp.int32)
        u, v = jnp.where(i, -1.0, jnp.where(j, 0.0, u)), jnp.where(j, -1.0, jnp.where(i, 0.0, v))
        p, q = (u * d[None] - v * c[None]) / det[None], (v * a[None] - u * c[None]) / det[None]
        kept = ~(i | j)
        M = jnp.where(kept[:, None] & kept[None], M, 0) - (p[:, None] * u[None] + q[:, None] * v[None])
        left &= kept
    return -jnp.moveaxis(M[:b, :b], 2, 0), negative


def forward(batch: Batch, x: Array, given: Any) -> tuple[Array, None]:
    """L y = b for the fronts of a step."""
    (_, pivots, rows, *_), block = given
    w, done = pivots.shape[-1], 0
    v = jnp.pad(x.at[pivots].get(mode="fill", fill_value=0), ((0, 0), (0, batch.below), (0, 0)))
    for L in block.below:
        b = L.shape[-1]
        v = v.at[:, done + b :].add(-jnp.matmul(L, v[:, done : done + b], precision="highest"))
        done += b
    x = x.at[pivots].set(v[:, :w], mode="drop")
    return (x.at[rows].add(v[:, w:], mode="drop") if batch.below else x), None


def back(x: Array, given: Any) -> tuple[Array, None]:
    """D L' x = y."""
    (_, pivots, rows, *_), block = given
    v = jnp.concatenate([x.at[which].get(mode="fill", fill_value=0) for which in (pivots, rows)], axis=1)
    end = pivots.shape[-1]
    for X, L in zip(block.inverse[::-1], block.below[::-1], strict=True):
        b = X.shape[-1]
        own = jnp.matmul(X, v[:, end - b : end], precision="highest")
        own = own - jnp.matmul(L.swapaxes(-1, -2), v[:, end:], precision="highest")
        v, end = v.at[:, end - b : end].set(own), end - b
    return x.at[pivots].set(v[:, : pivots.shape[-1]], mode="drop"), None


def equilibrated(n: int, row: Ints, col: Ints, values: Array) -> Array:
    """float[n]: d for which the largest |d_i v_ij d_j| of each row is about 1; of both triangles (Ruiz 2001)."""
    size, d = jnp.abs(values), jnp.ones(n, values.dtype)
    for _ in range(ROUNDS):
        most = jnp.zeros(n, values.dtype).at[row].max(size * d[row] * d[col], indices_are_sorted=True)
        d = d / jnp.sqrt(or_one(most))
    return d


def tied(n: int, rows: Ints, cols: Ints, weak: Ints) -> Ints:
    """int32[n]: a number for each row, the same for a weak row and the neighbour that it is tied to.

    weak: int[n], above 0 for weak rows; below, the lower the more a row needs to be tied to one: it may be 0 on its
    diagonal, too. As many as can be are, those that need it most first: where all are tied one by one, each by an
    augmenting path, those that were stay so (Edmonds & Fulkerson 1965, doi:10.6028/jres.069B.016).
    """
    near: list[list[int]] = [[] for _ in range(n)]
    for i, j in zip(rows.tolist(), cols.tolist(), strict=True):
        if weak[i] > 0 >= weak[j]:
            near[j].append(i)
        elif weak[j] > 0 >= weak[i]:
            near[i].append(j)
    degree = np.bincount(np.concatenate([rows, cols]), minlength=n)
    owner = [-1] * n  # of each weak row
    for x in sorted(np.flatnonzero(weak <= 0).tolist(), key=lambda x: (weak[x], len(near[x]))):
        near[x].sort(key=lambda y: degree[y])
        _tie(x, near, owner)
    number = np.arange(n, dtype=np.int32)
    for y, x in enumerate(owner):
        if x >= 0:
            number[y] = x
    return np.unique(number, return_inverse=True)[1].reshape(-1).astype(np.int32)


def _tie(start: int, near: Sequence[list[int]], owner: list[int]) -> None:
    """An augmenting path from a row to a weak one that is free, if there is one."""
    for y in near[start]:
        if owner[y] < 0:
            owner[y] = start
            return
    seen: set[int] = set()
    path = [(start, iter(near[start]))]
    taken: list[int] = []  # the weak rows on the path
    while path:
        x, choices = path[-1]
        y = next((y for y in choices if y not in seen), -1)
        if y < 0:
            path.pop()
            if taken:
                taken.pop()
            continue
        seen.add(y)
        taken.append(y)
        if owner[y] < 0:
            for (x, _), y in zip(path, taken, strict=True):
                owner[y] = x
            return
        path.append((owner[y], iter(near[owner[y]])))
