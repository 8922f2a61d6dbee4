"""How good is a point: as a solution in the problem's own units, and as a certificate that there is none?"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import joined, largest
from jaxopt_ko.solvers.quadratic.program import Equilibration, GivenProgram
from jaxopt_ko.solvers.quadratic.variables import HomogeneousPoint
from jaxopt_ko.types import KKT, Code, Multipliers, Params, Status

LARGE = 1e4  # right-hand sides, or c, that are so many times larger make a certificate as many times surer
CANCELLED = 0.4  # eps to this power: what a certificate leaves over what it is made of, as it is solved, at most


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
    missed: Array  # float[]  that of the constraints
    slope: Array  # float[]   that of the stationarity
    infeasible: Array  # float[]  how far from 0 = (A'y + N'z)'x <= b'y + k'z < 0, inf if far
    unbounded: Array  # float[]   how far from Q x = 0, A x = 0, N x <= 0, c'x < 0


class Certificate(NamedTuple):
    """Why a program has no solution: a combination of its rows that no point satisfies, or a ray."""

    multipliers: Multipliers  # A'y + G'z - z_lower + z_upper = 0, b'y + h'z - lower'z_lower + upper'z_upper = -1
    ray: Params  # like params  Q r = 0, A r = 0, G r <= 0, off the bounds' sides, c'r = -1


class _Ray(NamedTuple):
    """What a point says of the problem without b, k and c, in the problem's own units."""

    x: Array  # float[n]
    y: Array  # float[m]
    z: Array  # float[l]
    left: Array  # float[n]  A'y + N'z
    fall: Array  # float[]   -(b'y + k'z)
    off: Array  # float[]    the largest of |Q x|, |A x| and N x
    drop: Array  # float[]   -c'x
    opposed: Array  # bool[]  is left small because terms cancel, rather than as all that there is is small?
    straight: Array  # bool[]  the same of off


def _with_fixed(given: GivenProgram, g: Array, z: Array) -> tuple[Array, Array]:
    """All of g + N'z, and z with the multipliers of fixed parameters, which take up what is left there."""
    p, n = given.full, given.fixed.size
    left = jnp.where(given.fixed, g + p.columns(z), 0)
    z = z + joined([jnp.zeros_like(p.k[: p.k.size - 2 * n]), jnp.maximum(left, 0), jnp.maximum(-left, 0)])
    return g + p.columns(z), z


def _unscaled(scaling: Equilibration, point: HomogeneousPoint) -> tuple[Array, Array, Array]:
    D, E, F, cost = scaling
    return D * point.x, E * point.y / cost, joined([F, 1 / D, 1 / D]) * point.z / cost


def _ray(given: GivenProgram, scaling: Equilibration, point: HomogeneousPoint) -> _Ray:
    p, (D, E, F, cost), (x, y, z) = given.full, scaling, _unscaled(scaling, point)
    left, z = _with_fixed(given, p.A.T @ y, z)
    Qx, Ax, Nx = p.curve(x), p.A @ x, p.rows(x)

    def off(Qx: Array, Ax: Array, Nx: Array) -> Array:
        return jnp.max(jnp.stack([largest(Qx), largest(Ax), jnp.max(Nx, initial=0)]))

    small, rows = np.finfo(x.dtype).eps ** CANCELLED, joined([F, 1 / D, 1 / D])
    opposed = cost * largest(D * left) <= small * largest(joined([point.y, point.z]))
    straight = off(cost * D * Qx, E * Ax, rows * Nx) <= small * largest(point.x)
    return _Ray(x, y, z, left, -(p.b @ y + p.k @ z), off(Qx, Ax, Nx), -(p.c @ x), opposed, straight)


def certificate(given: GivenProgram, scaling: Equilibration, point: HomogeneousPoint, status: Status) -> Certificate:
    """That of a run that ended as infeasible or as unbounded; zeros where it is none."""
    ray = _ray(given, scaling, point)
    k, n, unravel = scaling.F.size, scaling.D.size, given.unravel

    def share(code: Code, by: Array) -> Array:
        said = (status.code == int(code)) & (by > 0)
        return jnp.where(said, 1 / jnp.where(said, by, 1), 0)

    none, endless = share(Code.INFEASIBLE, ray.fall), share(Code.UNBOUNDED, ray.drop)
    z, lower, upper = jnp.split(none * ray.z, [k, k + n])
    return Certificate(Multipliers(none * ray.y, z, unravel(lower), unravel(upper)), unravel(endless * ray.x))


def judged(given: GivenProgram, scaling: Equilibration, point: HomogeneousPoint) -> JudgedPoint:
    """A point of the scaled embedding, in the problem's own units."""
    p, tau, k, n = given.full, point.tau, scaling.F.size, scaling.D.size
    ray, y, z = _unscaled(scaling, point)

    # As a solution, (x, y, z) / tau
    x = jnp.where(given.fixed, given.lower, jnp.clip(ray / tau, given.lower, given.upper))
    y_, Qx, Ax, Nx = y / tau, p.curve(x), p.A @ x, p.rows(x)
    room = jnp.where(p.has, p.k - Nx, 0)
    slope, z_ = _with_fixed(given, Qx + p.c + p.A.T @ y_, z / tau)
    kkt = KKT(largest(slope), jnp.maximum(largest(Ax - p.b), jnp.max(-room, initial=0)), largest(z_ * room))
    quadratic, linear, dual = x @ Qx, p.c @ x, p.b @ y_ + p.k @ z_
    value = quadratic / 2 + linear
    size = jnp.minimum(jnp.abs(value), jnp.abs(quadratic / 2 + dual))
    slope_, missed = kkt.stationarity / (1 + largest(p.c)), kkt.feasibility / (1 + largest(joined([p.b, Nx[:k]])))
    merit = jnp.max(jnp.stack([slope_, missed, jnp.abs(quadratic + linear + dual) / (1 + size)]))

    # As a certificate
    end, none = _ray(given, scaling, point), point.kappa > tau

    def ratio(off: Array, by: Array, sure: Array) -> Array:
        sure &= none & (by > 0)
        return jnp.where(sure, off / jnp.where(sure, by, 1), jnp.inf)

    zg, lower, upper = jnp.split(z_, [k, k + n])
    merit = jnp.where(jnp.isfinite(merit), merit, jnp.inf)
    away = jnp.maximum(largest(p.b), jnp.max(-p.k, initial=0))  # what 0 misses
    wide, steep = (jnp.maximum(size / LARGE, 1) for size in (away, largest(p.c)))
    infeasible = ratio(wide * largest(end.left), end.fall, end.opposed)
    unbounded = ratio(steep * end.off, end.drop, end.straight)
    return JudgedPoint(x, y_, zg, lower, upper, value, kkt, merit, missed, slope_, infeasible, unbounded)
