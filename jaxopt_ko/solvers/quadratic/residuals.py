"""How good is a point: as a solution in the problem's own units, and as a certificate that there is none?"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.numerics import joined, largest
from jaxopt_ko.solvers.quadratic.program import Equilibration, GivenProgram
from jaxopt_ko.solvers.quadratic.variables import HomogeneousPoint
from jaxopt_ko.types import KKT


class JudgedPoint(NamedTuple):
    """A point in the problem's own units."""

    x: Array  # float[n]      inside the bounds
    y: Array  # float[m]      the multipliers
    z: Array  # float[k]
    lower: Array  # float[n]
    upper: Array  # float[n]
    value: Array  # float[]
    kkt: KKT
    merit: Array  # float[]   the largest relative residual
    infeasible: Array  # float[]  how far from 0 = (A'y + N'z)'x <= b'y + k'z < 0, inf if far
    unbounded: Array  # float[]   how far from Q x = 0, A x = 0, N x <= 0, c'x < 0


def judged(given: GivenProgram, scaling: Equilibration, point: HomogeneousPoint) -> JudgedPoint:
    """A point of the scaled embedding, in the problem\'s own units."""
    p, fixed, tau = given.full, given.fixed, point.tau
    (D, E, F, cost), k, n = scaling, scaling.F.size, scaling.D.size
    ray, y, z = D * point.x, E * point.y / cost, joined([F, 1 / D, 1 / D]) * point.z / cost

    def with_fixed(g: Array, z: Array) -> tuple[Array, Array]:
        """All of g + N'z, and z with the multipliers of fixed parameters, which take up what is left there."""
        left = jnp.where(fixed, g + p.columns(z), 0)
        z = z + joined([jnp.zeros_like(F), jnp.maximum(left, 0), jnp.maximum(-left, 0)])
        return g + p.columns(z), z

    # As a solution, (x, y, z) / tau
    x = jnp.where(fixed, given.lower, jnp.clip(ray / tau, given.lower, given.upper))
    y_, Qx, Ax, room = y / tau, p.curve(x), p.A @ x, jnp.where(p.has, p.k - p.rows(x), 0)
    slope, z_ = with_fixed(Qx + p.c + p.A.T @ y_, z / tau)
    kkt = KKT(largest(slope), jnp.maximum(largest(Ax - p.b), jnp.max(-room, initial=0)), largest(z_ * room))
    quadratic, linear, dual = x @ Qx, p.c @ x, p.b @ y_ + p.k @ z_
    value = quadratic / 2 + linear
    size = jnp.minimum(jnp.abs(value), jnp.abs(quadratic / 2 + dual))
    residuals = [
        kkt.stationarity / (1 + largest(p.c)),
        kkt.feasibility / (1 + jnp.maximum(largest(p.b), largest(p.k))),
        jnp.abs(quadratic + linear + dual) / (1 + size),
    ]
    merit = jnp.max(jnp.stack(residuals))

    # As a certificate
    left, z0 = with_fixed(p.A.T @ y, z)
    fall, drop = -(p.b @ y + p.k @ z0), -(p.c @ ray)
    along = jnp.stack([largest(p.curve(ray)), largest(p.A @ ray), jnp.max(p.rows(ray), initial=0)])
    none = point.kappa > tau

    def ratio(off: Array, by: Array) -> Array:
        sure = none & (by > 0)
        return jnp.where(sure, off / jnp.where(sure, by, 1), jnp.inf)

    zg, lower, upper = jnp.split(z_, [k, k + n])
    merit = jnp.where(jnp.isfinite(merit), merit, jnp.inf)
    return JudgedPoint(
        x, y_, zg, lower, upper, value, kkt, merit, ratio(largest(left), fall), ratio(jnp.max(along), drop)
    )
