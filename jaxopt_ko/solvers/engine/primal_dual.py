"""The primal-dual system of `condensed` by whatever factor there is: regularized until that is good, then refined.

Two kinds stand here: with a diagonal H and a dense J, by the normal equations of the constraints; and any kind with a
few products more, H + U'diag(sign)U, by Woodbury's formula.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import cho_solve

from jaxopt_ko.core.numerics import joined, largest
from jaxopt_ko.solvers.engine.condensed import MOST, BlockVector, Solved, next_delta

ROUNDS = 8  # of solving, at most; all but the first refine
ENOUGH = 8.0  # times eps and the right-hand side: a residual that is no longer refined


class System(Protocol):
    """A matrix, without delta."""

    def times(self, delta: Array, v: BlockVector) -> BlockVector:
        """The matrix times a vector."""

    def factor(self, delta: Array) -> Any:
        """A tree of arrays."""

    def good(self, factor: Any) -> Array:
        """bool[]: has the matrix as many positive eigenvalues as (x, s) has elements?"""

    def once(self, factor: Any, delta: Array, r: BlockVector) -> BlockVector:
        """The solution for r, up to what the factor lacks."""


def solve(A: System, b: BlockVector, last: Array, begin: Array | float = 0.0) -> Solved:
    """The solution for the right-hand side b; last: the delta above 0 that was needed last, 0 if none was; begin: the
    first that is tried."""
    one = jnp.ones((), b.x.dtype)

    def attempt(carry: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
        delta = next_delta(carry[0], last, begin)
        factor = A.factor(delta)
        return delta, factor, A.good(factor)

    def fails(carry: tuple[Array, Any, Array]) -> Array:
        return ~carry[2] & (carry[0] < MOST)

    nil = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(A.factor, one))
    delta, factor, good = jax.lax.while_loop(fails, attempt, (-one, nil, one < 0))

    def refine(carry: tuple[BlockVector, BlockVector, Array, Array]) -> tuple[BlockVector, BlockVector, Array, Array]:
        v, r, k, _ = carry
        new = jax.tree.map(jnp.add, v, A.once(factor, delta, r))
        left = jax.tree.map(jnp.subtract, b, A.times(delta, new))
        before, after = largest(joined(r)), largest(joined(left))
        better = after < before
        v, r = jax.tree.map(lambda a, b: jnp.where(better, a, b), (new, left), (v, r))
        return v, r, k + np.int32(1), better & (after > enough) & (k + 1 < ROUNDS)

    enough = ENOUGH * float(np.finfo(b.x.dtype).eps) * largest(joined(b))
    start = (jax.tree.map(jnp.zeros_like, b), b, jnp.zeros((), jnp.int32), largest(joined(b)) > 0)
    v, *_ = jax.lax.while_loop(lambda carry: carry[3], refine, start)
    return Solved(v, delta, good)


class RangeSystem(NamedTuple):
    """With a diagonal H, which is positive: J H^-1 J' + gamma is factorized."""

    h: Array  # float[n]     H + Sx
    ss: Array  # float[q]
    J: Array  # float[m,n]   [Je; Ji]
    gamma: Array  # float[]

    def times(self, delta: Array, v: BlockVector) -> BlockVector:
        """The matrix times a vector."""
        y, p = joined([v.e, v.i]), v.e.size
        c = self.J @ v.x - self.gamma * y
        return BlockVector((self.h + delta) * v.x + y @ self.J, (self.ss + delta) * v.s + v.i, c[:p], c[p:] + v.s)

    def factor(self, delta: Array) -> Array:
        """float[m,m]: with sqrt(eps) more on the diagonal, for equations that depend on each other."""
        if not len(self.J):
            return jnp.zeros((0, 0), self.h.dtype)
        p, dtype = len(self.J) - self.ss.size, self.h.dtype
        A = (self.J / (self.h + delta)[None]) @ self.J.T
        below = joined([jnp.full(p, self.gamma, dtype), self.gamma + 1 / (self.ss + delta)])
        more = float(np.finfo(dtype).eps) ** 0.5 * jnp.diagonal(A) + float(np.finfo(dtype).tiny)
        made: Array = jnp.linalg.cholesky(A + jnp.diag(below + more))
        return made

    def good(self, factor: Array) -> Array:
        """bool[]: is there one?"""
        return jnp.all(jnp.isfinite(factor))

    def once(self, factor: Array, delta: Array, r: BlockVector) -> BlockVector:
        """The solution for r."""
        h, ss, p = self.h + delta, self.ss + delta, r.e.size
        y = cho_solve((factor, True), self.J @ (r.x / h) - joined([r.e, r.i - r.s / ss])) if len(self.J) else r.e[:0]
        return BlockVector((r.x - y @ self.J) / h, (r.s - y[p:]) / ss, y[:p], y[p:])


class LowRankSystem(NamedTuple):
    """Another system, with U'diag(sign)U added to H."""

    of: System
    U: Array  # float[k,n]
    sign: Array  # float[k]  1 or -1
    sizes: tuple[int, int, int]  # of (s, y_e, y_i)

    def times(self, delta: Array, v: BlockVector) -> BlockVector:
        """The matrix times a vector."""
        made = self.of.times(delta, v)
        return made._replace(x=made.x + (self.sign * (self.U @ v.x)) @ self.U)

    def factor(self, delta: Array) -> tuple[Any, BlockVector, Array]:
        """That of the other system, its solutions for U, and diag(sign) + U K^-1 U'."""
        factor = self.of.factor(delta)
        nil = [jnp.zeros(size, self.U.dtype) for size in self.sizes]
        V = jax.vmap(lambda u: self.of.once(factor, delta, BlockVector(u, *nil)))(self.U)
        return factor, V, jnp.diag(self.sign) + self.U @ V.x.T

    def good(self, factor: tuple[Any, BlockVector, Array]) -> Array:
        """bool[]: H + U'diag(sign)U is positive definite where its own is."""
        return self.of.good(factor[0]) & jnp.all(jnp.isfinite(factor[2]))

    def once(self, factor: tuple[Any, BlockVector, Array], delta: Array, r: BlockVector) -> BlockVector:
        """The solution for r."""
        inner, V, small = factor
        v = self.of.once(inner, delta, r)
        c = jnp.linalg.solve(small, self.U @ v.x)
        less: BlockVector = jax.tree.map(lambda a, B: a - c @ B, v, V)
        return less
