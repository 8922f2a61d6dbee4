"""The problem as arrays, and the scaling in which it is solved.

min x'Qx/2 + c'x   with   A x = b,   N x + s = k, s >= 0        N = [G; -I; I],  k = [h; -lower; upper]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.numerics import joined, largest
from jaxopt_ko.errors import TreeError, describe, missing_argument, say
from jaxopt_ko.linalg.equilibration import Scales, ruiz
from jaxopt_ko.solvers.engine.banded import blocks, factor
from jaxopt_ko.solvers.problem.bounds import box
from jaxopt_ko.types import Params, PyTree

RUIZ = 10  # rounds of equilibration
EXTREME = 1e4  # scalings stay between this and its inverse


class QuadraticProgram(NamedTuple):
    """The problem as arrays: fixed parameters at the right-hand side, what is no row or no bound zeroed."""

    Q: Array | None  # float[n,n]
    c: Array  # float[n]
    A: Array  # float[m,n]
    b: Array  # float[m]
    G: Array  # float[k,n]
    k: Array  # float[l]  h, -lower, upper; 0 where there is no row
    has: Array  # bool[l]  is there a row?

    def rows(self, x: Array) -> Array:
        """N x."""
        return jnp.where(self.has, joined([self.G @ x, -x, x]), 0)

    def columns(self, z: Array) -> Array:
        """N'z, z being zero where there is no row."""
        n = self.c.size
        g, low, high = jnp.split(z, [z.size - 2 * n, z.size - n])
        return self.G.T @ g - low + high

    def curve(self, x: Array) -> Array:
        """Q x."""
        return jnp.zeros_like(x) if self.Q is None else self.Q @ x


class GivenProgram(NamedTuple):
    """A problem in its own units, and without its fixed parameters, which are moved to the right-hand side."""

    x: Array  # float[n]  params
    unravel: Callable[[Array], Params]
    full: QuadraticProgram
    free: QuadraticProgram
    lower: Array  # float[n]
    upper: Array  # float[n]
    fixed: Array  # bool[n]
    sound: Array  # bool[]  is nothing NaN or infinite that must not be?


class Equilibration(NamedTuple):
    """Of the problem that is solved: Q^ = cost D Q D, A^ = E A D, G^ = F G D."""

    D: Array  # float[n]
    E: Array  # float[m]
    F: Array  # float[k]
    cost: Array  # float[]


def given_program(
    name: str,
    params: Params,
    *,
    c: PyTree = None,
    Q: Any = None,
    A: Any = None,
    b: Any = None,
    G: Any = None,
    h: Any = None,
    bounds: Any = None,
    **_: Any,
) -> GivenProgram:
    """The arguments of a method as arrays; `bounds` may be traced and crossed."""
    x, unravel = tree.ravel(params)
    n, dtype = x.size, x.dtype
    check_program(name, params, n, c, Q, (A, b), (G, h))
    lower, upper = sides(name, params, bounds)

    def arrays(matrix: Any, right: Any) -> tuple[Array, Array]:
        if matrix is None:
            return jnp.zeros((0, n), dtype), jnp.zeros(0, dtype)
        return jnp.asarray(matrix).astype(dtype), jnp.asarray(right).astype(dtype)

    c, (A, b), (G, h) = tree.ravel(c)[0].astype(dtype), arrays(A, b), arrays(G, h)
    if Q is not None:
        Q = jnp.asarray(Q).astype(dtype)
        Q = 0.5 * (Q + Q.T)

    real = h != jnp.inf
    has = joined([real, lower != -jnp.inf, upper != jnp.inf])
    G, k = jnp.where(real[:, None], G, 0), jnp.where(has, joined([h, -lower, upper]), 0)
    full = QuadraticProgram(Q, c, A, b, G, k, has)
    sound = jnp.all(jnp.stack([jnp.all(jnp.isfinite(v)) for v in jax.tree.leaves(full)]))

    fixed = lower == upper
    free, at = ~fixed, jnp.where(fixed, lower, 0)
    has = has & joined([jnp.ones_like(real), free, free])
    without = QuadraticProgram(
        None if Q is None else jnp.where(free[:, None] & free[None, :], Q, 0),
        jnp.where(free, c + full.curve(at), 0),
        jnp.where(free[None, :], A, 0), b - A @ at,
        jnp.where(free[None, :], G, 0), jnp.where(has, k - jnp.pad(G @ at, (0, 2 * n)), 0), has,
    )  # fmt: skip
    return GivenProgram(x, unravel, full, without, lower, upper, fixed, sound)


def check_program(name: str, params: PyTree, n: int, c: PyTree, Q: Any, *pairs: tuple[Any, Any]) -> None:
    """The parts of a linear or quadratic program: c, Q, then (A, b) and (G, h)."""
    if c is None:
        missing_argument(name, "c", "Pass c=..., the linear part of the objective, a tree like params")
    check_same_trees(name, "c", c, "params", params)
    if Q is not None and np.shape(Q) != (n, n):
        say(TreeError, name, f"Q must be a symmetric matrix float[{n},{n}], as there are {n} parameters", describe(Q),
            "The objective is x'Qx/2 + c'x, with the elements of params as one vector x")  # fmt: skip
    for (left, right), (matrix, vector) in zip((("A", "b"), ("G", "h")), pairs, strict=True):
        if (matrix is None) != (vector is None):
            missing = right if vector is None else left
            missing_argument(name, missing, f"{left} and {right} come together: "
                             f"{left} x {'=' if left == 'A' else '<='} {right}")  # fmt: skip
        if matrix is None:
            continue
        if np.ndim(matrix) != 2 or np.shape(matrix)[1] != n:
            say(TreeError, name, f"{left} must be a matrix with a column for each of {n} parameters", describe(matrix),
                "One row for each constraint; a single one is a matrix of one row")  # fmt: skip
        if np.shape(vector) != np.shape(matrix)[:1]:
            say(TreeError, name, f"{right} must have one number for each of the {np.shape(matrix)[0]} rows of {left}",
                describe(vector), "Shapes are not broadcast here")  # fmt: skip
    numbers = [("Q", Q)] + [pair for both, names in zip(pairs, ("Ab", "Gh"), strict=True)
                            for pair in zip(names, both, strict=True)]  # fmt: skip
    for argument, array in numbers:
        dtype = getattr(array, "dtype", None)
        if dtype is not None and not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            say(TreeError, name, f"{argument} must be real numbers", describe(array), "Give a floating-point array")


def sides(name: str, params: Params, bounds: Any) -> tuple[Array, Array]:
    """The bounds as two vectors float[n]; traced ones may be crossed, which makes the problem infeasible."""
    box(name, params, bounds)  # raises what is wrong with them
    low, high = (None, None) if bounds is None else bounds
    return box(name, params, (low, None))[0], box(name, params, (None, high))[1]


def equilibrated(p: QuadraticProgram) -> Equilibration:
    """D, E, F after which the largest elements of all rows and columns are near 1."""

    def rows(matrix: Array) -> Array:
        return jnp.max(jnp.abs(matrix), axis=1, initial=0)

    def sizes(D: Array, E: Array, F: Array) -> Scales:
        q = jnp.zeros_like(D) if p.Q is None else rows(D[:, None] * p.Q * D[None, :])
        a, g = E[:, None] * p.A * D[None, :], F[:, None] * p.G * D[None, :]
        return jnp.maximum(q, jnp.maximum(rows(a.T), rows(g.T))), rows(a), rows(g)

    start = (jnp.ones_like(p.c), jnp.ones_like(p.b), jnp.ones_like(p.G[:, 0]))
    D, E, F = ruiz(sizes, start, RUIZ, EXTREME)
    size = largest(D * p.c)
    if p.Q is not None:
        size = jnp.maximum(size, jnp.mean(rows(D[:, None] * p.Q * D[None, :])))
    return Equilibration(
        D, E, F, jnp.clip(jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 1), 1 / EXTREME, EXTREME)
    )


def scaled(p: QuadraticProgram, scaling: Equilibration) -> QuadraticProgram:
    """The problem in that scaling."""
    D, E, F, cost = scaling
    Q = None if p.Q is None else cost * D[:, None] * p.Q * D[None, :]
    rows = joined([F, 1 / D, 1 / D])
    return QuadraticProgram(Q, cost * D * p.c, E[:, None] * p.A * D[None, :], E * p.b, F[:, None] * p.G * D[None, :],
                    rows * p.k, p.has)  # fmt: skip


def is_convex(p: QuadraticProgram, bandwidth: int | None) -> Array:
    """bool[]: is Q positive semidefinite, but for rounding?"""
    if p.Q is None:
        return jnp.ones((), bool)
    n = p.c.size
    K = p.Q + float(np.finfo(p.c.dtype).eps ** 0.5) * jnp.eye(n, dtype=p.c.dtype)
    L = jnp.linalg.cholesky(K) if bandwidth is None else factor(blocks(K, bandwidth)).D
    return jnp.all(jnp.isfinite(L))
