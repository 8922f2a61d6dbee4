"""The derivatives of F = (f, c_e, c_i) and of v'F, dense or sparse: how they are made, kept in a state and used.

J = dF/dx      H = the Hessian of v'F
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import joined
from jaxopt_ko.linalg.coloring import Coloring
from jaxopt_ko.linalg.sparse import value_and_entries
from jaxopt_ko.solvers.engine import condensed, sparse_kkt
from jaxopt_ko.solvers.engine.condensed import BlockVector, CondensedSystem, Solved
from jaxopt_ko.solvers.problem.constraints import Program, program_pattern
from jaxopt_ko.solvers.problem.sparsity import ProgramPattern


class Weights(NamedTuple):
    """What is added to H in the matrix of a step."""

    sx: Array  # float[n]    on the diagonal
    ss: Array  # float[q]    on that of the slacks
    gamma: Array  # float[]  0, or so large that the constraints are but a penalty
    alone: Array  # bool[]   is the identity to stand for H?
    free: Array  # bool[n]   rows and columns of what is held are those of the identity


class Derivatives(Protocol):
    """J and H, by whatever arrays a state keeps of them."""

    def empty(self) -> tuple[Array, Array]:
        """J and H of zeros."""

    def look(self, x: Array, v: Array) -> tuple[Array, Array]:
        """J and H at x, without scaling."""

    def scaled(self, J: Array, scale: Array) -> Array:
        """J of scale F."""

    def steepest(self, J: Array) -> Array:
        """float[1+m]: the largest modulus of each gradient."""

    def gradient(self, J: Array) -> Array:
        """float[n]: of f."""

    def along(self, J: Array, dx: Array) -> Array:
        """float[m]: of c along dx."""

    def transposed(self, J: Array, y: Array) -> Array:
        """float[n]: of y'c."""

    def solve(self, J: Array, H: Array, weights: Weights, b: BlockVector, last: Array) -> Solved:
        """The primal-dual system, see `condensed`."""


def derivatives(name: str, problem: Program, hess_sparsity: Any, jac_sparsity: Any) -> Derivatives:
    """Sparse ones where a pattern is given, or "detect"; what is not given then is detected, too."""
    if hess_sparsity is None and jac_sparsity is None:
        return Dense(problem)
    return Sparse(problem, program_pattern(name, problem, hess_sparsity, jac_sparsity))


class Dense:
    """J float[1+m,n] and H float[n,n]."""

    def __init__(self, problem: Program) -> None:
        self.problem = problem

    def empty(self) -> tuple[Array, Array]:
        """J and H of zeros."""
        n, dtype = self.problem.x.size, self.problem.x.dtype
        return jnp.zeros((1 + self.problem.p + self.problem.q, n), dtype), jnp.zeros((n, n), dtype)

    def look(self, x: Array, v: Array) -> tuple[Array, Array]:
        """By n products."""

        def both(x: Array) -> tuple[Array, Array]:
            F, pull = jax.vjp(lambda x: self.problem.evaluate(x)[0], x)
            return F, pull(v)[0]

        _, push = jax.linearize(both, x)
        J, H = jax.vmap(push, out_axes=-1)(jnp.eye(x.size, dtype=x.dtype))
        return J, 0.5 * (H + H.T)

    def scaled(self, J: Array, scale: Array) -> Array:
        """J of scale F."""
        return J * scale[:, None]

    def steepest(self, J: Array) -> Array:
        """float[1+m]: the largest modulus of each gradient."""
        return jnp.max(jnp.abs(J), axis=1, initial=0.0)

    def gradient(self, J: Array) -> Array:
        """float[n]: of f."""
        return J[0]

    def along(self, J: Array, dx: Array) -> Array:
        """float[m]: of c along dx."""
        return J[1:] @ dx

    def transposed(self, J: Array, y: Array) -> Array:
        """float[n]: of y'c."""
        return y @ J[1:]

    def solve(self, J: Array, H: Array, weights: Weights, b: BlockVector, last: Array) -> Solved:
        """By Cholesky factors."""
        sx, ss, gamma, alone, free = weights
        H = jnp.where(alone | ~(free[:, None] & free[None]), jnp.eye(free.size, dtype=H.dtype), H)
        C, p = jnp.where(free[None], J[1:], 0), self.problem.p
        return condensed.solve(CondensedSystem(H, sx, ss, C[:p], C[p:], gamma), b, last)


class Sparse:
    """J float[n+nnz], f's gradient and the entries of dc/dx, and H float[nnz]."""

    def __init__(self, problem: Program, pattern: ProgramPattern) -> None:
        self.problem, self.n = problem, problem.x.size
        self.layout = sparse_kkt.layout(pattern)
        self.H: Coloring = pattern.hessian.colors
        self.J: Coloring = pattern.jacobian.colors

    def empty(self) -> tuple[Array, Array]:
        """J and H of zeros."""
        dtype = self.problem.x.dtype
        return jnp.zeros(self.n + self.J.rows.size, dtype), jnp.zeros(self.H.rows.size, dtype)

    def look(self, x: Array, v: Array) -> tuple[Array, Array]:
        """By as many products as there are colours."""

        def values(x: Array) -> Array:
            return self.problem.evaluate(x)[0]

        g = jax.grad(lambda x: values(x)[0])(x)
        _, J = value_and_entries("interior_point", lambda x: values(x)[1:], x, self.J)
        _, H = value_and_entries("interior_point", jax.grad(lambda x: v @ values(x)), x, self.H)
        return joined([g, J]), H

    def scaled(self, J: Array, scale: Array) -> Array:
        """J of scale F."""
        return joined([scale[0] * J[: self.n], scale[1:][self.J.rows] * J[self.n :]])

    def steepest(self, J: Array) -> Array:
        """float[1+m]: the largest modulus of each gradient."""
        rows = np.concatenate([np.zeros(self.n, np.int32), 1 + self.J.rows])
        return jnp.zeros(1 + self.J.shape[0], J.dtype).at[rows].max(jnp.abs(J), indices_are_sorted=True)

    def gradient(self, J: Array) -> Array:
        """float[n]: of f."""
        return J[: self.n]

    def along(self, J: Array, dx: Array) -> Array:
        """float[m]: of c along dx."""
        c = J[self.n :] * dx[self.J.cols]
        return jnp.zeros(self.J.shape[0], J.dtype).at[self.J.rows].add(c, indices_are_sorted=True)

    def transposed(self, J: Array, y: Array) -> Array:
        """float[n]: of y'c."""
        return jnp.zeros(self.n, J.dtype).at[self.J.cols].add(J[self.n :] * y[self.J.rows])

    def solve(self, J: Array, H: Array, weights: Weights, b: BlockVector, last: Array) -> Solved:
        """By a sparse factor."""
        sx, ss, gamma, alone, free = weights
        rows, cols = self.H.rows, self.H.cols
        H = jnp.where(alone | ~(free[rows] & free[cols]), (rows == cols).astype(H.dtype), H)
        C = jnp.where(free[self.J.cols], J[self.n :], 0)
        return sparse_kkt.solve(sparse_kkt.SparseSystem(self.layout, H, sx, ss, C, gamma), b, last)
