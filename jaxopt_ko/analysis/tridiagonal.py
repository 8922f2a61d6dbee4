"""The eigenvalues of a tridiagonal matrix at its ends and next to 0, by counts of signs and inverse iteration."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

SPLIT = 15  # points between the ends, in one pass of the search for an eigenvalue
SHIFTS = (1.0, -1.5, 3.5)  # times eps |T|, of inverse iteration


class Tridiagonal(NamedTuple):
    """T, and the row that leads out of it."""

    diagonal: Array  # float[steps]  alpha_j, 0 beyond rows
    beside: Array  # float[steps]    beta_j, between j and j + 1
    rows: Array  # int32[]           made so far
    closed: Array  # bool[]          the last beta is 0: nothing leads out


def _scaled(T: Tridiagonal) -> tuple[Tridiagonal, Array]:
    """T over its norm, or about that, and the norm."""
    before = jnp.roll(T.beside, 1).at[0].set(0)
    size = jnp.max(jnp.abs(T.diagonal) + T.beside + before)
    unit = jnp.where(size > 0, size, 1)
    return T._replace(diagonal=T.diagonal / unit, beside=T.beside / unit), size


def _below(T: Tridiagonal, shifts: Array, rows: Array) -> tuple[Array, Array]:
    """How many eigenvalues of T's first rows are below each shift, by the signs of pivots; and the last pivots."""
    floor = 4 * float(np.finfo(T.diagonal.dtype).tiny)
    square = jnp.roll(T.beside, 1).at[0].set(0) ** 2

    def row(carry: tuple[Array, Array], x: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        (pivot, below), (a, b2, used) = carry, x
        new = a - shifts - b2 / pivot
        new = jnp.where(jnp.abs(new) < floor, -floor, new)
        return (jnp.where(used, new, pivot), below + (used & (new < 0)).astype(jnp.int32)), None

    used = jnp.arange(T.diagonal.size, dtype=jnp.int32) < rows
    start = jnp.ones_like(shifts), jnp.zeros_like(shifts, dtype=jnp.int32)
    (pivot, below), _ = jax.lax.scan(row, start, (T.diagonal, square, used))
    return below, pivot


def _section(below: Callable[[Array], Array], low: Array, wanted: Array) -> Array:
    """For each row the least s in [low, 2] with below(s) >= wanted."""
    high = jnp.full_like(low, 2)
    between = jnp.arange(1, SPLIT + 1).astype(low.dtype) / (SPLIT + 1)
    passes = math.ceil(-math.log2(float(np.finfo(low.dtype).eps) / 8) / math.log2(SPLIT + 1))

    def narrow(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        points = low[:, None] + (high - low)[:, None] * between[None, :]
        enough = below(points.reshape(-1)).reshape(points.shape) >= wanted[:, None]
        edges = jnp.concatenate([low[:, None], points, high[:, None]], axis=1)
        first = jnp.sum(~enough, axis=1, dtype=jnp.int32)
        pick = jnp.take_along_axis(edges, jnp.stack([first, first + 1], axis=1), axis=1)
        return pick[:, 0], pick[:, 1]

    low, high = jax.lax.fori_loop(0, passes, narrow, (low, high))
    middle: Array = (low + high) / 2
    return middle


def _eigenvector(diagonal: Array, beside: Array, value: Array, start: Array) -> Array:
    """Of a tridiagonal matrix, by inverse iteration: among copies of an eigenvalue what `start` has of it.

    For a few shifts, as one may be an eigenvalue to the last bit; of what they give, the best.
    """
    lower, upper = jnp.roll(beside, 1).at[0].set(0), beside.at[-1].set(0)

    def attempt(shift: Array) -> tuple[Array, Array]:
        x = start
        for _ in range(2):
            (y,) = jax.lax.linalg.tridiagonal_solve(lower, diagonal - shift, upper, x[:, None]).T
            y = y / jnp.max(jnp.abs(y))
            x = y / jnp.sqrt(y @ y)
        image = (diagonal - value) * x + upper * jnp.roll(x, -1) + lower * jnp.roll(x, 1)
        return x, jnp.sum(image**2)

    eps = float(np.finfo(diagonal.dtype).eps)
    xs, errors_ = jax.vmap(attempt)(value + eps * jnp.asarray(SHIFTS, value.dtype))
    best: Array = xs[jnp.argmin(jnp.where(jnp.isfinite(errors_), errors_, jnp.inf))]
    return best


def ends(T: Tridiagonal) -> tuple[Array, list[Array], Array]:
    """float[2] the smallest and the largest eigenvalue of T, their vectors, and the residuals |beta_m y_m|."""
    T, size = _scaled(T)
    wanted = jnp.stack([jnp.ones_like(T.rows), T.rows])
    low = jnp.full_like(size, -2, shape=(2,))
    values = _section(lambda s: _below(T, s, T.rows)[0], low, wanted)
    inside = T.beside.at[T.rows - 1].set(0)
    first = jnp.zeros_like(T.diagonal).at[0].set(1)
    vectors = [_eigenvector(T.diagonal, inside, value, first) for value in values]
    out = T.beside[T.rows - 1]
    residuals = jnp.stack([jnp.abs(out * y[T.rows - 1]) for y in vectors])
    return size * values, vectors, size * residuals


def least_singular(T: Tridiagonal) -> tuple[Array, Array]:
    """The smallest singular value of [T_m; beta_m e_m'], m = rows - 1 unless T is closed, and its error.

    Those values, and their negatives, are the eigenvalues of the tridiagonal J, beside a 0:

    p = (u + v) / sqrt(2), q = (u - v) / sqrt(2):    J = | T              b e_m            |
    H V u = sigma V v,  H V v = sigma V u                | b e_m'    0   -b e_m'           |
    b = beta_m / sqrt(2)                                 |          -b e_m         -T      |
    """
    T, size = _scaled(T)
    rows = jnp.where(T.closed, T.rows, T.rows - 1)
    out = T.beside[rows - 1]

    def below(s: Array) -> Array:
        count, pivot = _below(T, jnp.concatenate([s, -s]), rows)
        (low, high), (right, left) = jnp.split(count, 2), jnp.split(pivot, 2)
        middle = -s - out**2 / 2 * (1 / right - 1 / left)
        return low + (rows - high) + (middle < 0).astype(jnp.int32)

    (sigma,) = _section(below, jnp.zeros_like(size, shape=(1,)), jnp.stack([rows + 2]))
    # J, with T rolled so that row m comes last
    many = T.diagonal.size
    index = jnp.arange(many, dtype=jnp.int32)
    roll = functools.partial(jnp.roll, shift=many - rows)
    alpha = roll(jnp.where(index < rows, T.diagonal, 0))
    beta = roll(jnp.where(index < rows - 1, T.beside, 0))[:-1]
    b = out / math.sqrt(2)
    diagonal = jnp.concatenate([alpha, jnp.zeros_like(b)[None], -alpha[::-1]])
    beside = jnp.concatenate([beta, b[None], -b[None], -beta[::-1], jnp.zeros_like(b)[None]])
    first = roll(jnp.where(index == 0, jnp.ones_like(T.diagonal), 0))
    z = _eigenvector(diagonal, beside, sigma, jnp.concatenate([first, jnp.zeros_like(b)[None], -first[::-1]]))
    u_m, u_out = (z[many - 1] + z[many + 1]) / math.sqrt(2), z[many]
    beyond = jnp.where(T.closed, 0, jnp.stack([T.diagonal[rows], T.beside[rows]]))
    error = jnp.hypot(out * u_m + beyond[0] * u_out, beyond[1] * u_out)
    return size * sigma, size * error
