"""The variables of the interior-point method for quadratic programs, and its step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.numerics import joined, largest
from jaxopt_ko.solvers.quadratic.kkt import Vectors, kkt_solver
from jaxopt_ko.solvers.quadratic.program import Equilibration, QuadraticProgram
from jaxopt_ko.types import KKT, Info, Multipliers, Params

NEAR = 0.99  # share of a start in where a run begins
TO_BOUNDARY = 0.99  # of the way to the boundary


class HomogeneousPoint(NamedTuple):
    """Of the homogeneous embedding; rows are those of G, the lower and the upper bounds, l = k + 2n."""

    x: Array  # float[n]
    y: Array  # float[m]    multipliers of A x = b
    z: Array  # float[l]    of the rows
    s: Array  # float[l]    room left by the rows
    tau: Array  # float[]
    kappa: Array  # float[]


class Start(NamedTuple):
    """A point near the solution, in the problem's own units."""

    x: Array  # float[n]
    y: Array  # float[m]
    z: Array  # float[k]
    lower: Array  # float[n]  multipliers
    upper: Array  # float[n]
    good: Array  # bool[]     is it one?


class QuadraticState(NamedTuple):
    """State of `quadratic_interior_point`: n parameters, m equations, k inequalities, l = k + 2n rows."""

    count: Array  # int32[]       updates made
    point: HomogeneousPoint  # of the scaled problem
    scaling: Equilibration  # of the problem
    delta: Array  # float[]       regularization of the factorized matrices
    merit: Array  # float[]       the least so far of the largest relative residual, of the best point
    progress: Array  # float[]    the least so far of merit and the certificates' residuals
    stalled: Array  # int32[]     updates since that fell
    best: Params  # like params   the point of least merit
    multipliers: Multipliers  # there
    kkt: KKT  # there
    info: Info  # of the last update


def initial_point(p: QuadraticProgram, delta: Array, bandwidth: int | None) -> HomogeneousPoint:
    """Where x and s miss the rows least, and z the stationarity, moved inside."""
    has = p.has
    solve = kkt_solver(p, jnp.ones_like(p.k), delta, bandwidth)
    rights = (jnp.stack([jnp.zeros_like(p.c), -p.c]), jnp.stack([p.b, 0 * p.b]), jnp.stack([p.k, 0 * p.k]))
    (x, x2), (_, y), (s, z) = jax.vmap(solve)(*rights)
    if p.Q is not None:
        x, z = x + x2, s + z
        s = z

    def inside(v: Array) -> Array:
        least = jnp.min(jnp.where(has, v, jnp.inf), initial=jnp.inf)
        return jnp.where(least > 0, v, v - least + 1)

    one = jnp.ones((), p.c.dtype)
    return HomogeneousPoint(x, y, jnp.where(has, inside(z), 0), jnp.where(has, inside(-s), 1), one, one)


def near_point(p: QuadraticProgram, scaling: Equilibration, start: Start, cold: HomogeneousPoint) -> HomogeneousPoint:
    """A start, moved inside by a share of the way to 1 (Skajaa, Andersen & Ye 2013, doi:10.1007/s12532-012-0046-z,
    equation 6); `cold` if it is not good, or if that misses the conditions less."""
    D, E, F, cost = scaling
    rows = joined([F, 1 / D, 1 / D])
    x, y = start.x / D, start.y * cost / E
    z = joined([start.z, start.lower, start.upper]) * cost / rows
    one, has = jnp.ones((), p.c.dtype), p.has

    def inside(v: Array, empty: int) -> Array:
        return jnp.where(has, NEAR * jnp.maximum(v, 0) + (1 - NEAR), empty)

    s, z = inside(p.k - p.rows(x), 1), inside(z, 0)
    mean = (s @ z) / jnp.maximum(jnp.sum(has), 1).astype(x.dtype)
    near = HomogeneousPoint(x, y, z, s, one, jnp.where(jnp.any(has), mean, 1 - NEAR))
    near_by, far = _missed(p, near), _missed(p, cold)
    good = start.good & jnp.isfinite(near_by) & ~(far <= near_by)
    return jax.tree.map(lambda a, b: jnp.where(good, a, b), near, cold)  # type: ignore[no-any-return]


def _missed(p: QuadraticProgram, point: HomogeneousPoint) -> Array:
    """float[]: by how much a point is no solution."""
    f1, f2, f3, _ = _residuals(p, point, p.curve(point.x / point.tau))
    gap = jnp.where(p.has, point.s * point.z, 0)
    return jnp.max(jnp.stack([largest(part) for part in (f1, f2, f3, gap)]))


def _residuals(p: QuadraticProgram, point: HomogeneousPoint, Qxi: Array) -> tuple[Array, Array, Array, Array]:
    """What the four equations of the homogeneous embedding leave; Qxi: Q x / tau."""
    x, y, z, s, tau, kappa = point
    f1 = tau * Qxi + p.A.T @ y + p.columns(z) + p.c * tau
    f2 = p.A @ x - p.b * tau
    f3 = jnp.where(p.has, p.rows(x) + s - p.k * tau, 0)
    return f1, f2, f3, kappa + p.c @ x + p.b @ y + p.k @ z + x @ Qxi


def gap_of(point: HomogeneousPoint) -> Array:
    """float[]: s'z + tau kappa, which is tau**2 times the gap of the point itself."""
    gap: Array = point.s @ point.z + point.tau * point.kappa
    return gap


def predictor_corrector(
    program: QuadraticProgram, point: HomogeneousPoint, delta: Array, bandwidth: int | None
) -> tuple[HomogeneousPoint, Array]:
    """One predictor-corrector step, and its length."""
    p, (x, _, z, s, tau, kappa) = program, point
    has = p.has
    t = jnp.where(has, s / z, 1)
    solve = kkt_solver(p, t, delta, bandwidth)
    xi = x / tau
    Qxi = p.curve(xi)
    f1, f2, f3, f4 = _residuals(p, point, Qxi)
    count = jnp.sum(has).astype(x.dtype) + 1
    mu = gap_of(point) / count

    def right(eta: Any, rc: Array) -> Vectors:
        return -eta * f1, -eta * f2, jnp.where(has, -eta * f3 + rc / z, 0)

    def completed(d: Vectors, eta: Any, rc: Array, rt: Array) -> HomogeneousPoint:
        x1, y1, z1 = d
        dtau = (rt / tau - eta * f4 - (p.c + 2 * Qxi) @ x1 - p.b @ y1 - p.k @ z1) / lever
        dx, dy, dz = x1 + dtau * x2, y1 + dtau * y2, z1 + dtau * z2
        ds = jnp.where(has, -rc / z - t * dz, 0)
        return HomogeneousPoint(dx, dy, dz, ds, dtau, -(rt + kappa * dtau) / tau)

    def longest(d: HomogeneousPoint) -> Array:
        def ratio(v: Array, dv: Array) -> Array:
            return jnp.min(jnp.where(dv < 0, -v / jnp.where(dv < 0, dv, 1), jnp.inf), initial=jnp.inf)

        ends = [ratio(z, d.z), ratio(s, d.s), ratio(tau, d.tau), ratio(kappa, d.kappa)]
        return jnp.minimum(jnp.min(jnp.stack(ends)), 1 / TO_BOUNDARY)

    both = jax.tree.map(lambda *pair: jnp.stack(pair), (-p.c, p.b, p.k), right(1, s * z))
    (x2, d1), (y2, e1), (z2, g1) = jax.vmap(solve)(*both)
    lever = (p.c + 2 * Qxi) @ x2 + p.b @ y2 + p.k @ z2 - xi @ Qxi - kappa / tau
    affine = completed((d1, e1, g1), 1, s * z, tau * kappa)
    sigma = (1 - jnp.minimum(longest(affine), 1)) ** 3
    rc = jnp.where(has, s * z + affine.s * affine.z - sigma * mu, 0)
    rt = tau * kappa + affine.tau * affine.kappa - sigma * mu
    d = completed(solve(*right(1 - sigma, rc)), 1 - sigma, rc, rt)
    alpha = TO_BOUNDARY * longest(d)
    new = jax.tree.map(lambda v, dv: v + alpha * dv, point, d)
    size = jnp.maximum(new.tau, new.kappa)
    new = jax.tree.map(lambda v: v / size, new)
    return new._replace(s=jnp.where(has, new.s, 1), z=jnp.where(has, new.z, 0)), alpha
