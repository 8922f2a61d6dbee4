"""The inside of a nonlinear program: the room left to the bounds and slacks, and what is missed of the constraints.

r = (x - lower, upper - x, s) > 0        c = (c_e, c_i + s) = 0        F = (f, c_e, c_i),  J = dF/dx
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.numerics import joined
from jaxopt_ko.solvers.engine.convergence import eps_of
from jaxopt_ko.solvers.interior_point.derivatives import Derivatives
from jaxopt_ko.solvers.problem.constraints import Program

PUSH, SHARE = 1e-2, 1e-2  # kappa_1, kappa_2 of section 3.6: how far the start is from its bounds
RELAXED, CRAMPED = 0.5, 0.6  # eps to these powers: by how much a bound is relaxed where the room over mu is less


class Space:
    """The rooms r and the violation c of a program."""

    def __init__(self, problem: Program, of: Derivatives, relaxed: Array) -> None:
        self.problem, self.of = problem, of
        self.n, self.p, self.relaxed = problem.x.size, problem.p, relaxed
        lower, upper = problem.lower, problem.upper
        self.fixed = lower >= upper
        slack = jnp.ones(problem.q, bool)
        self.there = joined([jnp.isfinite(lower) & ~self.fixed, jnp.isfinite(upper) & ~self.fixed, slack])
        bounds = joined([lower, upper, jnp.zeros(problem.q, lower.dtype)])
        self.eps = eps_of(lower)
        self.size = jnp.maximum(1, jnp.where(self.there, jnp.abs(bounds), 0))

    def inside(self, x: Array) -> Array:
        """Section 3.6: x, a little away from the bounds."""
        lower, upper = self.problem.lower, self.problem.upper
        share = SHARE * (upper - lower)
        low = lower + jnp.minimum(PUSH * jnp.maximum(1, jnp.abs(lower)), share)
        high = upper - jnp.minimum(PUSH * jnp.maximum(1, jnp.abs(upper)), share)
        low, high = jnp.where(jnp.isfinite(lower), low, lower), jnp.where(jnp.isfinite(upper), high, upper)
        return jnp.clip(x, low, high)

    def rooms(self, x: Array, s: Array) -> Array:
        """float[2n+q]: r, 1 where there is no bound."""
        r = joined([x - self.problem.lower, self.problem.upper - x, s]) + self.relaxed
        return jnp.where(self.there, jnp.maximum(r, self.eps * self.size), 1)

    def cramped(self, r: Array, mu: Array) -> tuple[Array, Array]:
        """Section 3.5: which of r are so small that no interior is left, and how far the bounds are then relaxed.

        Equations that hold a variable at its bound make multipliers without bound of both. f and c see x no further
        than the bound itself.
        """
        small = self.there & (self.relaxed == 0) & (r < self.eps**CRAMPED * mu)
        return small, jnp.where(small, self.eps**RELAXED * self.size, self.relaxed)

    def change(self, step: Array) -> Array:
        """float[2n+q]: of r along (dx, ds)."""
        return jnp.where(self.there, joined([step[: self.n], -step[: self.n], step[self.n :]]), 0)

    def fold(self, q: Array) -> Array:
        """float[n+q]: from a diagonal by r to that by (x, s)."""
        q = jnp.where(self.there, q, 0)
        return joined([q[: self.n] + q[self.n : 2 * self.n], q[2 * self.n :]])

    def violation(self, F: Array, s: Array) -> Array:
        """float[p+q]: c."""
        c = F[1:]
        return joined([c[: self.p], c[self.p :] + s])

    def residual(self, J: Array, y: Array, z: Array, restores: Array) -> Array:
        """float[n+q]: the gradient of the Lagrangian by x and s; in a restoration without that of f."""
        g = jnp.where(restores, 0, self.of.gradient(J))
        z = jnp.where(self.there, z, 0)
        by_x = g + self.of.transposed(J, y) - z[: self.n] + z[self.n : 2 * self.n]
        return joined([jnp.where(self.fixed, 0, by_x), y[self.p :] - z[2 * self.n :]])

    def along(self, J: Array, step: Array) -> Array:
        """float[p+q]: the derivative of c along (dx, ds)."""
        Jd = self.of.along(J, jnp.where(self.fixed, 0, step[: self.n]))
        return joined([Jd[: self.p], Jd[self.p :] + step[self.n :]])

    def dual_step(self, r: Array, z: Array, mu: Array, step: Array) -> Array:
        """float[2n+q]: dz of (12)."""
        return jnp.where(self.there, (mu - z * self.change(step)) / r - z, 0)


def share(r: Array, d: Array, tau: Array) -> Array:
    """(15): the largest alpha <= 1 with r + alpha d >= (1 - tau) r."""
    falls = d < 0
    return jnp.minimum(1, jnp.min(jnp.where(falls, -tau * r / jnp.where(falls, d, 1), jnp.inf), initial=jnp.inf))
