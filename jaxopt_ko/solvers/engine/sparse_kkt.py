"""The primal-dual system of an interior-point method by a sparse factor, in the words of `condensed`.

[ H + Sx + delta   Je'      Ji'     ]
[ Je              -gamma    .       ]    omega' = gamma + 1 / (Ss + delta), once s is eliminated
[ Ji               .       -omega'  ]

delta is the least of the same sequence for which the matrix has as many negative eigenvalues as y has elements.
Each row of y is tied to an x that it depends on (`jaxopt_ko.linalg.sparse_indefinite`), and its diagonal is made a
little less than 0, as in Waechter & Biegler 2006, equation (13); the solution is refined on the system as it was.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import joined
from jaxopt_ko.linalg.coloring import Coloring
from jaxopt_ko.linalg.sparse_cholesky import Factor, Plan, any_signs, factorize, solve
from jaxopt_ko.solvers.engine.condensed import BlockVector
from jaxopt_ko.solvers.problem.sparsity import ProgramPattern


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

    def good(self, factor: Factor) -> Array:
        """bool[]: are as many eigenvalues below 0 as y has elements, and no others lost?"""
        return factor.finite & (factor.negative == self.layout.m) & (factor.lost == 0)

    def once(self, factor: Factor, delta: Array, r: BlockVector) -> BlockVector:
        """The solution for r."""
        solved = solve(factor, joined([r.x, r.e, r.i - r.s / (self.ss + delta)]), refine=0)
        x, e, i = jnp.split(solved, [self.layout.n, self.layout.n + r.e.size])
        return BlockVector(x, (r.s - i) / (self.ss + delta), e, i)
