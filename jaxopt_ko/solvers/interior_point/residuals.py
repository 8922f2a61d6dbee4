"""How far is a point from a solution? The error (5), the next mu (7), the conditions without scaling."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.numerics import joined, largest
from jaxopt_ko.solvers.interior_point.filter import STARTED
from jaxopt_ko.solvers.interior_point.rooms import Space
from jaxopt_ko.solvers.interior_point.variables import Iterate, Outcome, UpdateContext
from jaxopt_ko.solvers.problem.constraints import Program
from jaxopt_ko.types import KKT, Multipliers

MU_FACTOR, MU_POWER, MU_ERROR = 0.2, 1.5, 10.0  # kappa_mu, theta_mu, kappa_epsilon of (7)
FALLS = 6  # of mu at one point, at most
S_MAX = 100.0  # of (5)
SCALED = 100.0  # the most that (5) is divided by


class KKTResiduals(NamedTuple):
    """What the error (5) is made of, after scaling."""

    missed: Array  # float[]  |c|
    worst: Array  # float[]   the larger of |c| and the gradient of the Lagrangian over s_d
    most: Array  # float[]    of r z
    least: Array  # float[]   of r z
    s_c: Array  # float[]

    def error(self, mu: Array) -> Array:
        """(5), by mu."""
        return jnp.maximum(self.worst, jnp.maximum(self.most - mu, mu - self.least) / self.s_c)


class Unscaled(NamedTuple):
    """A point in the problem's own units."""

    f: Array  # float[]
    steepest: Array  # float[]  max|df/dx|
    multipliers: Multipliers
    kkt: KKT


def kkt_residuals(space: Space, at: Iterate, restores: Array) -> KKTResiduals:
    """Of a point; a restoration minimizes what is missed of c, which then counts for nothing."""
    rest = space.residual(at.J, at.y, at.z, restores)
    z_sum, y_sum = jnp.sum(at.z), jnp.sum(jnp.abs(at.y))
    s_d = jnp.clip((y_sum + z_sum) / max(1, at.y.size + at.z.size) / S_MAX, 1, SCALED)
    s_c = jnp.clip(z_sum / max(1, at.z.size) / S_MAX, 1, SCALED)
    missed, product = largest(at.c), at.r * at.z
    return KKTResiduals(
        missed=missed,
        worst=jnp.maximum(largest(rest) / s_d, jnp.where(restores, 0, missed)),
        most=jnp.max(jnp.where(space.there, product, 0), initial=0.0),
        least=jnp.min(jnp.where(space.there, product, jnp.inf), initial=jnp.inf),
        s_c=s_c,
    )


def next_mu(run: UpdateContext, found: Outcome, far: KKTResiduals) -> tuple[Array, Array]:
    """mu at the new point before and after it falls: (7), as often as the error allows, or once where x stands still.

    A restoration begins with a mu of its own, and leaves with that of the problem.
    """
    mu = run.reals.mu

    def lower(mu: Array) -> Array:
        return jnp.maximum(run.gtol / 10, jnp.minimum(MU_FACTOR * mu, mu**MU_POWER))

    before = jnp.where(found.enters, jnp.maximum(mu, far.missed), mu)
    before = jnp.where(found.leaves, run.reals.kept, before)
    mu, near = before, (found.moves & ~found.leaves) | (found.event == STARTED)
    for _ in range(FALLS):
        near = near & (far.error(mu) <= MU_ERROR * mu)
        mu = jnp.where(near, lower(mu), mu)
    return before, jnp.where(found.moves & found.tiny & (mu == before), lower(mu), mu)


def unscaled(problem: Program, space: Space, at: Iterate) -> Unscaled:
    """The value, the multipliers and the conditions of Karush, Kuhn and Tucker; a fixed x takes up what is left."""
    n, p = problem.x.size, problem.p
    y, c = at.y * at.scale[1:] / at.scale[0], at.F[1:] / at.scale[1:]
    g_f = space.of.gradient(at.J)
    g = (g_f + space.of.transposed(at.J, at.y)) / at.scale[0]
    z_x = at.z[: 2 * n].reshape(2, n) / at.scale[0]
    z_x = jnp.where(space.fixed[None], jnp.maximum(0, jnp.stack([g, -g])), z_x)
    kkt = KKT(
        stationarity=largest(g - z_x[0] + z_x[1]),
        feasibility=jnp.maximum(largest(c[:p]), jnp.max(c[p:], initial=0.0)),
        complementarity=largest(joined([(at.r * at.z)[: 2 * n] / at.scale[0], c[p:] * y[p:]])),
    )
    multipliers = Multipliers(*problem.unstack(y), problem.unravel(z_x[0]), problem.unravel(z_x[1]))
    return Unscaled(at.F[0] / at.scale[0], largest(g_f) / at.scale[0], multipliers, kkt)
