"""The Hessian of the Lagrangian learned from gradients: BFGS with Powell's damping, as a matrix or by a few pairs.

s = x_new - x        y = grad L(x_new) - grad L(x),  L = f + multipliers'c, the multipliers those at x_new
Nocedal & Wright 2006, section 18.3.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.errors import TransformationError, describe, say
from jaxopt_ko.linalg.coloring import by_star
from jaxopt_ko.solvers.engine import condensed, primal_dual
from jaxopt_ko.solvers.engine.compact_bfgs import LBFGSBMemory
from jaxopt_ko.solvers.engine.condensed import BlockVector, CondensedSystem, Solved
from jaxopt_ko.solvers.engine.damped_bfgs import first_matrix, first_memory, learned, low_rank, recalled
from jaxopt_ko.solvers.engine.primal_dual import LowRankSystem, RangeSystem
from jaxopt_ko.solvers.engine.sparse_kkt import SparseSystem
from jaxopt_ko.solvers.interior_point.derivatives import Change, Dense, Derivatives, Sparse, Weights
from jaxopt_ko.solvers.problem.constraints import Program, program_pattern
from jaxopt_ko.solvers.problem.sparsity import Pattern, ProgramPattern
from jaxopt_ko.types import PyTree

FEW = 300  # parameters, beyond which pairs are kept unless asked for otherwise
PAIRS = 10


def derivatives(
    name: str, problem: Program, hess_sparsity: Any, jac_sparsity: Any, hessian: str, memory: int | None
) -> Derivatives:
    """Sparse ones where a pattern is given, or "detect"; what is not given then is detected, too. hessian: "exact" or
    "bfgs", with so many pairs as memory says."""
    given = hess_sparsity is not None or jac_sparsity is not None
    if hessian == "exact":
        if not given:
            return Dense(problem)
        return Sparse(problem, program_pattern(name, problem, hess_sparsity, jac_sparsity))
    pairs = PAIRS if memory is None else memory
    if given:
        if hess_sparsity is not None and not isinstance(hess_sparsity, ProgramPattern):
            say(TransformationError, name, "hess_sparsity is of no use with hessian='bfgs'", describe(hess_sparsity),
                "Leave it out, and give jac_sparsity alone")  # fmt: skip
        return SparsePairs(problem, program_pattern(name, problem, hess_sparsity, jac_sparsity), pairs)
    return DenseMatrix(problem) if memory is None and problem.x.size <= FEW else DensePairs(problem, pairs)


def _pair(of: Derivatives, change: Change) -> tuple[Array, Array]:
    """s and y."""
    more = change.after - change.before
    return change.s, jnp.where(change.free, of.gradient(more) + of.transposed(more, change.y), 0)


class DenseMatrix(Dense):
    """J float[1+m,n] and B float[n,n]."""

    @property
    def products(self) -> int:
        """None."""
        return 0

    def empty(self) -> tuple[Array, PyTree]:
        """J of zeros, B = I."""
        return super().empty()[0], first_matrix(self.problem.x.size, self.problem.x.dtype)

    def look(self, x: Array, v: Array) -> tuple[Array, PyTree]:
        """J alone, by rows or by columns, whichever are fewer."""

        def values(x: Array) -> Array:
            return self.problem.evaluate(x)[0]

        rows = 1 + self.problem.p + self.problem.q
        return (jax.jacrev if rows <= x.size else jax.jacfwd)(values)(x), None

    def kept(self, old: PyTree, H: PyTree, change: Change) -> PyTree:
        """B with the pair."""
        return learned(old, *_pair(self, change), change.wanted)

    def solve(self, J: Array, H: PyTree, weights: Weights, b: BlockVector, last: Array) -> Solved:
        """By Cholesky factors."""
        sx, ss, gamma, alone, free, restores, begin, soft = weights
        eye = jnp.eye(free.size, dtype=J.dtype)
        B = jnp.where(restores, soft * eye, H.B)
        B = jnp.where(alone | ~(free[:, None] & free[None]), eye, B)
        C, p = jnp.where(free[None], J[1:], 0), self.problem.p
        return condensed.solve(CondensedSystem(B, sx, ss, C[:p], C[p:], gamma), b, last, begin)


def _parts(H: LBFGSBMemory, weights: Weights) -> tuple[Array, Array, Array]:
    """h float[n], U float[2k,n] and sign float[2k]: B = diag(h) + U'diag(sign)U, as the step is to see it."""
    theta, U, sign = low_rank(H)
    instead = weights.alone | weights.restores
    theta = jnp.where(weights.alone, 1, jnp.where(weights.restores, weights.soft, theta))
    return jnp.where(weights.free, theta, 1), jnp.where(instead | ~weights.free[None], 0, U), sign


class DensePairs(DenseMatrix):
    """J float[1+m,n] and the pairs that B is made of."""

    def __init__(self, problem: Program, pairs: int) -> None:
        super().__init__(problem)
        self.pairs = pairs

    def empty(self) -> tuple[Array, PyTree]:
        """J of zeros, B = I."""
        return super().empty()[0], first_memory(self.problem.x.size, self.pairs, self.problem.x.dtype)

    def kept(self, old: PyTree, H: PyTree, change: Change) -> PyTree:
        """The pairs with the new one."""
        return recalled(old, *_pair(self, change), change.wanted)

    def solve(self, J: Array, H: PyTree, weights: Weights, b: BlockVector, last: Array) -> Solved:
        """By the normal equations of the constraints, and Woodbury's formula."""
        h, U, sign = _parts(H, weights)
        system = RangeSystem(h + weights.sx, weights.ss, jnp.where(weights.free[None], J[1:], 0), weights.gamma)
        return primal_dual.solve(LowRankSystem(system, U, sign, (b.s.size, b.e.size, b.i.size)), b, last, weights.begin)


class SparsePairs(Sparse):
    """J float[n+nnz], f's gradient and the entries of dc/dx, and the pairs that B is made of."""

    def __init__(self, problem: Program, pattern: ProgramPattern, pairs: int) -> None:
        diagonal = np.arange(problem.x.size, dtype=np.int32)
        alone = Pattern(by_star(diagonal, diagonal, (diagonal.size, diagonal.size)))
        bent = np.zeros(diagonal.size, np.int8).tobytes()
        super().__init__(problem, ProgramPattern(alone, pattern.jacobian, bent))
        self.pairs = pairs

    @property
    def products(self) -> int:
        """None."""
        return 0

    def empty(self) -> tuple[Array, PyTree]:
        """J of zeros, B = I."""
        return super().empty()[0], first_memory(self.n, self.pairs, self.problem.x.dtype)

    def look(self, x: Array, v: Array) -> tuple[Array, PyTree]:
        """J alone."""
        return self.jacobian(x), None

    def kept(self, old: PyTree, H: PyTree, change: Change) -> PyTree:
        """The pairs with the new one."""
        return recalled(old, *_pair(self, change), change.wanted)

    def solve(self, J: Array, H: PyTree, weights: Weights, b: BlockVector, last: Array) -> Solved:
        """By a sparse factor, and Woodbury's formula."""
        h, U, sign = _parts(H, weights)
        system = SparseSystem(self.layout, h, weights.sx, weights.ss, self.masked(J, weights.free), weights.gamma)
        return primal_dual.solve(LowRankSystem(system, U, sign, (b.s.size, b.e.size, b.i.size)), b, last, weights.begin)
