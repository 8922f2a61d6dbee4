"""The primal-dual system of an interior-point method by a sparse factor, in the words of `condensed`.

[ H + Sx + delta   Je'      Ji'     ]
[ Je              -gamma    .       ]    omega' = gamma + 1 / (Ss + delta), once s is eliminated
[ Ji               .       -omega'  ]

delta is the least of the same sequence for which the matrix has as many negative eigenvalues as y has elements.
Each row of y is tied to an x that it depends on (`jaxopt_ko.linalg.sparse_indefinite`), and its diagonal is made a
little less than 0, as in Waechter & Biegler 2006, equation (13); the solution is refined on the system as it was.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import joined, largest
from jaxopt_ko.linalg.coloring import Coloring
from jaxopt_ko.linalg.sparse_cholesky import Factor, Plan, any_signs, factorize
from jaxopt_ko.linalg.sparse_cholesky import solve as by_factor
from jaxopt_ko.solvers.engine.condensed import MOST, BlockVector, Solved, next_delta
from jaxopt_ko.solvers.problem.sparsity import ProgramPattern

ROUNDS = 8  # of solving, at most; all but the first refine
ENOUGH = 8.0  # times eps and the right-hand side: a residual that is no longer refined


class Layout(NamedTuple):
    """Where the entries of the matrix come from; n parameters, m constraints."""

    n: int
    m: int
    hessian: Coloring
    jacobian: Coloring
    lower: Any  # int32[k]  those of H's entries that are in its lower triangle
    plan: Plan  # of the lower triangle: H's, J's, the whole diagonal


@functools.lru_cache(maxsize=16)
def layout(pattern: ProgramPattern) -> Layout:
    """Of a program's patterns; on the host, once. What is bent least is tied to constraints first."""
    H, J = pattern.hessian.colors, pattern.jacobian.colors
    m, n = J.shape
    lower = np.flatnonzero(H.rows >= H.cols).astype(np.int32)
    diagonal = np.arange(n + m, dtype=np.int32)
    rows = np.concatenate([H.rows[lower], J.rows + n, diagonal]).astype(np.int32)
    cols = np.concatenate([H.cols[lower], J.cols, diagonal]).astype(np.int32)
    weak = np.concatenate([np.frombuffer(pattern.bent, np.int8), np.ones(m, np.int8)])
    return Layout(n, m, H, J, lower, any_signs(rows, cols, weak))


class SparseSystem(NamedTuple):
    """The matrix, without delta."""

    layout: Layout
    H: Array  # float[nnz]  entries, both triangles
    sx: Array  # float[n]
    ss: Array  # float[q]
    J: Array  # float[nnz]  entries
    gamma: Array  # float[]  0, or so large that the constraints are but a penalty

    def times(self, delta: Array, v: BlockVector) -> BlockVector:
        """The matrix times a vector."""
        H, J = self.layout.hessian, self.layout.jacobian
        y = joined([v.e, v.i])
        x = jnp.zeros_like(v.x).at[H.rows].add(self.H * v.x[H.cols], indices_are_sorted=True)
        x = x.at[J.cols].add(self.J * y[J.rows]) + (self.sx + delta) * v.x
        c = jnp.zeros_like(y).at[J.rows].add(self.J * v.x[J.cols], indices_are_sorted=True) - self.gamma * y
        return BlockVector(x, (self.ss + delta) * v.s + v.i, c[: v.e.size], c[v.e.size :] + v.s)

    def factor(self, delta: Array) -> Factor:
        """With s eliminated."""
        below = jnp.full(self.layout.m - self.ss.size, self.gamma, self.H.dtype)
        below = joined([below, self.gamma + 1 / (self.ss + delta)])
        return factorize(self.layout.plan, joined([self.H[self.layout.lower], self.J, self.sx + delta, -below]))


def solve(A: SparseSystem, b: BlockVector, last: Array) -> Solved:
    """The solution for the right-hand side b; last: the delta above 0 that was needed last, 0 if none was."""
    one = jnp.ones((), b.x.dtype)

    def attempt(carry: tuple[Array, Factor, Array]) -> tuple[Array, Factor, Array]:
        delta = next_delta(carry[0], last)
        factor = A.factor(delta)
        good = factor.finite & (factor.negative == A.layout.m) & (factor.lost == 0)
        return delta, factor, good

    def fails(carry: tuple[Array, Factor, Array]) -> Array:
        return ~carry[2] & (carry[0] < MOST)

    nil = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(A.factor, one))
    delta, factor, good = jax.lax.while_loop(fails, attempt, (-one, nil, one < 0))
    factor = dataclasses.replace(factor, values=A.factor(delta).values)  # derivatives go by these

    def once(r: BlockVector) -> BlockVector:
        slack = r.i - r.s / (A.ss + delta)
        solved = by_factor(factor, joined([r.x, r.e, slack]), refine=0)
        x, e, i = jnp.split(solved, [A.layout.n, A.layout.n + r.e.size])
        return BlockVector(x, (r.s - i) / (A.ss + delta), e, i)

    def refine(carry: tuple[BlockVector, BlockVector, Array, Array]) -> tuple[BlockVector, BlockVector, Array, Array]:
        v, r, k, _ = carry
        new = jax.tree.map(jnp.add, v, once(r))
        left = jax.tree.map(jnp.subtract, b, A.times(delta, new))
        before, after = largest(joined(r)), largest(joined(left))
        better = after < before
        v, r = jax.tree.map(lambda a, b: jnp.where(better, a, b), (new, left), (v, r))
        return v, r, k + 1, better & (after > enough) & (k + 1 < ROUNDS)

    enough = ENOUGH * float(np.finfo(b.x.dtype).eps) * largest(joined(b))
    start = (jax.tree.map(jnp.zeros_like, b), b, jnp.zeros((), jnp.int32), largest(joined(b)) > 0)
    v, *_ = jax.lax.while_loop(lambda carry: carry[3], refine, start)
    return Solved(v, delta, good)
