"""The derivatives of F = (f, c_e, c_i) and of v'F, dense or sparse: how they are made, kept in a state and used.

J = dF/dx      H = the Hessian of v'F
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import joined
from jaxopt_ko.linalg.coloring import Coloring
from jaxopt_ko.linalg.sparse import value_and_entries
from jaxopt_ko.solvers.engine import condensed, primal_dual
from jaxopt_ko.solvers.engine.condensed import BlockVector, CondensedSystem, Solved
from jaxopt_ko.solvers.engine.sparse_kkt import SparseSystem, layout
from jaxopt_ko.solvers.problem.constraints import Program
from jaxopt_ko.solvers.problem.sparsity import ProgramPattern
from jaxopt_ko.types import PyTree


class Weights(NamedTuple):
    """What is added to H in the matrix of a step."""

    sx: Array  # float[n]    on the diagonal
    ss: Array  # float[q]    on that of the slacks
    gamma: Array  # float[]  0, or so large that the constraints are but a penalty
    alone: Array  # bool[]   is the identity to stand for H?
    free: Array  # bool[n]   rows and columns of what is held are those of the identity
    restores: Array  # bool[]
    begin: Array  # float[]  the regularization that is tried first
    soft: Array  # float[]   in a restoration, times the identity, what stands for a Hessian that is not evaluated


class Change(NamedTuple):
    """A step that was taken, for what learns of it."""

    s: Array  # float[n]      of x
    before: Array  # J at its begin
    after: Array  # J at its end
    y: Array  # float[m]      multipliers there
    free: Array  # bool[n]    what is not held
    wanted: Array  # bool[]   is it one, and no part of a restoration?


class Derivatives(Protocol):
    """J and H, by whatever arrays a state keeps of them."""

    @property
    def products(self) -> int:
        """With H, at each point."""

    def empty(self) -> tuple[Array, PyTree]:
        """J and H at the start."""

    def look(self, x: Array, v: Array) -> tuple[Array, PyTree]:
        """J and H at x, without scaling."""

    def kept(self, old: PyTree, H: PyTree, change: Change) -> PyTree:
        """The new H, of what was found at x or of what the change tells."""

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

    def solve(self, J: Array, H: PyTree, weights: Weights, b: BlockVector, last: Array) -> Solved:
        """The primal-dual system, see `condensed`."""


class Dense:
    """J float[1+m,n] and H float[n,n]."""

    def __init__(self, problem: Program) -> None:
        self.problem = problem

    def empty(self) -> tuple[Array, PyTree]:
        """J and H of zeros."""
        n, dtype = self.problem.x.size, self.problem.x.dtype
        return jnp.zeros((1 + self.problem.p + self.problem.q, n), dtype), jnp.zeros((n, n), dtype)

    @property
    def products(self) -> int:
        """With H, at each point."""
        return self.problem.x.size

    def kept(self, old: PyTree, H: PyTree, change: Change) -> PyTree:
        """What was found."""
        return H

    def look(self, x: Array, v: Array) -> tuple[Array, PyTree]:
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

    def solve(self, J: Array, H: PyTree, weights: Weights, b: BlockVector, last: Array) -> Solved:
        """By Cholesky factors."""
        sx, ss, gamma, alone, free, *_ = weights
        H = jnp.where(alone | ~(free[:, None] & free[None]), jnp.eye(free.size, dtype=H.dtype), H)
        C, p = jnp.where(free[None], J[1:], 0), self.problem.p
        return condensed.solve(CondensedSystem(H, sx, ss, C[:p], C[p:], gamma), b, last, weights.begin)


class Sparse:
    """J float[n+nnz], f's gradient and the entries of dc/dx, and H float[nnz]."""

    def __init__(self, problem: Program, pattern: ProgramPattern) -> None:
        self.problem, self.n = problem, problem.x.size
        self.layout = layout(pattern)
        self.H: Coloring = pattern.hessian.colors
        self.J: Coloring = pattern.jacobian.colors

    @property
    def products(self) -> int:
        """With H, at each point."""
        return self.H.count

    def kept(self, old: PyTree, H: PyTree, change: Change) -> PyTree:
        """What was found."""
        return H

    def empty(self) -> tuple[Array, PyTree]:
        """J and H of zeros."""
        dtype = self.problem.x.dtype
        return jnp.zeros(self.n + self.J.rows.size, dtype), jnp.zeros(self.H.rows.size, dtype)

    def look(self, x: Array, v: Array) -> tuple[Array, PyTree]:
        """By as many products as there are colours."""
        gradient = jax.grad(lambda x: v @ self.problem.evaluate(x)[0])
        return self.jacobian(x), value_and_entries("interior_point", gradient, x, self.H)[1]

    def jacobian(self, x: Array) -> Array:
        """float[n+nnz]."""
        g = jax.grad(lambda x: self.problem.evaluate(x)[0][0])(x)
        return joined([g, value_and_entries("interior_point", lambda x: self.problem.evaluate(x)[0][1:], x, self.J)[1]])

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

    def solve(self, J: Array, H: PyTree, weights: Weights, b: BlockVector, last: Array) -> Solved:
        """By a sparse factor."""
        sx, ss, gamma, alone, free, *_ = weights
        rows, cols = self.H.rows, self.H.cols
        H = jnp.where(alone | ~(free[rows] & free[cols]), (rows == cols).astype(H.dtype), H)
        system = SparseSystem(self.layout, H, sx, ss, self.masked(J, free), gamma)
        return primal_dual.solve(system, b, last, weights.begin)

    def masked(self, J: Array, free: Array) -> Array:
        """The entries of dc/dx, those by what is held 0."""
        return jnp.where(free[self.J.cols], J[self.n :], 0)
