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
from jaxopt_ko.linalg.sparse_cholesky import factorize
from jaxopt_ko.solvers.engine.banded import Banded, blocks, factor
from jaxopt_ko.solvers.problem.bounds import box
from jaxopt_ko.solvers.quadratic.matrices import (
    BlockRows,
    Rows,
    Sparse,
    Square,
    row_sizes,
    rows_within,
    scaled_rows,
    scaled_square,
    square_sizes,
    square_within,
)
from jaxopt_ko.solvers.quadratic.sparse import SparsePlan
from jaxopt_ko.types import Params, PyTree

RUIZ = 10  # rounds of equilibration
ENDLESS = 1e20  # right-hand sides and bounds from here on are none
EXTREME = 1e4  # scalings stay between this and its inverse


class QuadraticProgram(NamedTuple):
    """The problem as arrays: fixed parameters at the right-hand side, what is no row or no bound zeroed."""

    Q: Square | None  # float[n,n]
    c: Array  # float[n]
    A: Rows  # float[m,n]
    b: Array  # float[m]
    G: Rows  # float[k,n]
    k: Array  # float[l]  h, -lower, upper; 0 where there is no row
    has: Array  # bool[l]  is there a row?
    AA: Square | None = None  # float[n,n]  A'A, where it has been computed
    plan: SparsePlan | None = None  # of sparse matrices

    def rows(self, x: Array) -> Array:
        """N x."""
        return jnp.where(self.has, joined([self.G @ x, -x, x]), 0)

    def columns(self, z: Array) -> Array:
        """N'z, z being zero where there is no row."""
        n = self.c.size
        g, low, high = jnp.split(z, [z.size - 2 * n, z.size - n])
        columns: Array = self.G.T @ g - low + high
        return columns

    def curve(self, x: Array) -> Array:
        """Q x."""
        return jnp.zeros_like(x) if self.Q is None else self.Q @ x

    @property
    def in_blocks(self) -> bool:
        """Are the matrices in blocks?"""
        return any(isinstance(M, Banded | BlockRows) for M in (self.Q, self.A, self.G))


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


class PreparedProgram(NamedTuple):
    """A problem and what is the same in every update."""

    given: GivenProgram
    scaling: Equilibration
    program: QuadraticProgram  # what is solved


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

    def arrays(matrix: Any, right: Any) -> tuple[Rows, Array]:
        if matrix is None:
            return jnp.zeros((0, n), dtype), jnp.zeros(0, dtype)
        if not isinstance(matrix, BlockRows | Sparse):
            matrix = jnp.asarray(matrix)
        if not isinstance(matrix, BlockRows):
            matrix = matrix.astype(dtype)
        return matrix, jnp.asarray(right).astype(dtype)

    c, (A, b), (G, h) = tree.ravel(c)[0].astype(dtype), arrays(A, b), arrays(G, h)
    if isinstance(Q, Sparse):
        Q = Q.astype(dtype)
    elif Q is not None and not isinstance(Q, Banded):
        Q = jnp.asarray(Q).astype(dtype)
        Q = 0.5 * (Q + Q.T)

    real = ~(h >= ENDLESS)
    has = joined([real, ~(lower <= -ENDLESS), ~(upper >= ENDLESS)])
    G, k = rows_within(G, real, None), jnp.where(has, joined([h, -lower, upper]), 0)
    full = QuadraticProgram(Q, c, A, b, G, k, has)
    sound = jnp.all(jnp.stack([jnp.all(jnp.isfinite(v)) for v in jax.tree.leaves(full)]))

    fixed = lower == upper
    free, at = ~fixed, jnp.where(fixed, lower, 0)
    has = has & joined([jnp.ones_like(real), free, free])
    without = QuadraticProgram(
        None if Q is None else square_within(Q, free),
        jnp.where(free, c + full.curve(at), 0),
        rows_within(A, None, free), b - A @ at,
        rows_within(G, None, free), jnp.where(has, k - jnp.pad(G @ at, (0, 2 * n)), 0), has,
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

    def sizes(D: Array, E: Array, F: Array) -> Scales:
        q = jnp.zeros_like(D) if p.Q is None else square_sizes(scaled_square(p.Q, D))
        (a, by_a), (g, by_g) = row_sizes(scaled_rows(p.A, E, D)), row_sizes(scaled_rows(p.G, F, D))
        return jnp.maximum(q, jnp.maximum(by_a, by_g)), a, g

    k = p.k.size - 2 * p.c.size
    D, E, F = ruiz(sizes, (jnp.ones_like(p.c), jnp.ones_like(p.b), jnp.ones_like(p.k[:k])), RUIZ, EXTREME)
    size = largest(D * p.c)
    if p.Q is not None:
        size = jnp.maximum(size, jnp.mean(square_sizes(scaled_square(p.Q, D))))
    return Equilibration(
        D, E, F, jnp.clip(jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 1), 1 / EXTREME, EXTREME)
    )


def scaled(p: QuadraticProgram, scaling: Equilibration, bandwidth: int | None) -> QuadraticProgram:
    """The problem in that scaling."""
    D, E, F, cost = scaling
    Q = None if p.Q is None else scaled_square(p.Q, jnp.sqrt(cost) * D)
    rows = joined([F, 1 / D, 1 / D])
    A, G = scaled_rows(p.A, E, D), scaled_rows(p.G, F, D)
    AA = None
    if isinstance(A, BlockRows):
        AA = A.gram(jnp.ones_like(p.b))
    elif p.b.size and bandwidth is None and not isinstance(A, Sparse):
        AA = A.T @ A
    return QuadraticProgram(Q, cost * D * p.c, A, E * p.b, G, rows * p.k, p.has, AA)


def prepared(
    given: GivenProgram, scaling: Equilibration | None, bandwidth: int | None, plan: SparsePlan | None = None
) -> PreparedProgram:
    """A problem, its scaling (anew if it is None) and what is solved."""
    scaling = equilibrated(given.free) if scaling is None else scaling
    return PreparedProgram(given, scaling, scaled(given.free, scaling, bandwidth)._replace(plan=plan))


def is_convex(p: QuadraticProgram, bandwidth: int | None) -> Array:
    """bool[]: is Q positive semidefinite, but for rounding?"""
    if p.Q is None:
        return jnp.ones((), bool)
    n = p.c.size
    tiny = float(np.finfo(p.c.dtype).eps ** 0.5)
    if isinstance(p.Q, Sparse):
        both = jnp.concatenate([jnp.full(n, tiny, p.c.dtype), p.Q.lower()])
        return factorize(p.plan.curve, both).finite  # type: ignore[union-attr, arg-type]
    if isinstance(p.Q, Banded):
        K = p.Q.with_diagonal(jnp.full(n, tiny, p.c.dtype))
    else:
        K = p.Q + tiny * jnp.eye(n, dtype=p.c.dtype)
        if bandwidth is None:
            return jnp.all(jnp.isfinite(jnp.diagonal(jnp.linalg.cholesky(K, symmetrize_input=False))))
        K = blocks(K, bandwidth)
    return jnp.all(jnp.isfinite(factor(K).rest))
