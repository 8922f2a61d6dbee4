"""What least squares are measured by: the scale D of the parameters, a cosine that is 0 at a solution, f's rounding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.numerics import or_one, safe_sqrt
from jaxopt_ko.solvers.engine.convergence import eps_of
from jaxopt_ko.solvers.problem.residuals import Box, Residuals
from jaxopt_ko.types import Updates

ACCEPT = 1e-4  # bound on rho: x + p is taken
LOST = 100  # times f's own rounding: a smaller decrease cannot be trusted
ZERO = 10  # times that, what f is no more than where r vanishes
TALL = 1000  # rows of J, from which on going through them counts
SHARE = 0.2  # of |D x|, at least, for each D_j |x_j|


def rounding_of(f: Array, size: Array) -> Array:
    """eps (f + |r| |J| |x|), f's own rounding; size: |J| |x|, or about that."""
    return eps_of(f) * (f + jnp.sqrt(2 * f) * size)


def vanishes(f: Array, rounding: Array) -> Array:
    """bool[]: is r 0, as far as f's rounding tells?"""
    return f <= ZERO * LOST * rounding


def step_or_home(problem: Residuals, taken: Array, running: Array, step: Updates) -> Updates:
    """The step if it is taken, else into the box; nothing at all once the run is over."""
    return jax.tree.map(
        lambda s, h: jnp.where(taken, s, jnp.where(running, h, jnp.zeros_like(h))), step, problem.home
    )  # fmt: skip


def active(x: Array, g: Array, box: Box | None) -> Array:
    """bool[n]: the elements of x at a bound that f's gradient g keeps there, and those that have no room."""
    if box is None:
        return jnp.zeros(x.shape, bool)
    lower, upper = box
    return ((x <= lower) & (g > 0)) | ((x >= upper) & (g < 0)) | (lower >= upper)


def cosine(g: Array, norms: Array, f: Array, x: Array, box: Box | None) -> Array:
    """The largest |cosine| between r and a column of J: 0 at a stationary point, whatever the units.

    g: J'r. norms: of J's columns. In a box no element counts for more than its bound lets it go.
    """
    slope = jnp.abs(g)
    if box is not None:
        room = jnp.where(g > 0, x - box[0], box[1] - x)
        slope = jnp.minimum(slope, jnp.where(jnp.isfinite(room), norms * norms * room, jnp.inf))
    product = norms * jnp.sqrt(2 * f)
    return jnp.max(jnp.where(product > 0, slope / jnp.where(product > 0, product, 1), 0), initial=0.0)


def variable_scale(norms: Array, sizes: Array) -> Array:
    """D: norms, the largest so far of each column of J, but enough to hold each x_j within 1 / SHARE of its size.

    sizes: the largest |x_j| so far. D_j sizes_j >= SHARE |D x|, so that |D p| <= Delta leaves no variable that r does
    not depend on now to be carried off.
    """
    whole = safe_sqrt(jnp.sum((norms * sizes) ** 2))
    return jnp.maximum(norms, jnp.where(sizes > 0, SHARE * whole / jnp.where(sizes > 0, sizes, 1), 0))


def column_norms(J: Array) -> Array:
    """float[n]."""
    norms: Array = safe_sqrt(jnp.sum(J * J, axis=0))
    return norms


def norms_of(J: Array, R: Array) -> Array:
    """float[n], of the columns of J, from the R of its QR decomposition where J has so many rows that it counts."""
    return _by_triangle(J, R) if len(J) >= TALL else column_norms(J)


@jax.custom_jvp
def _by_triangle(J: Array, R: Array) -> Array:
    return column_norms(R)


@_by_triangle.defjvp
def _by_triangle_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    norms = _by_triangle(*primals)
    return norms, jnp.sum(primals[0] * tangents[0], axis=0) / or_one(norms)


def at_most(radius: Array, length: Array) -> Array:
    """What to shorten a step of this length with."""
    return jnp.where(length > radius, radius, 1) / jnp.where(length > radius, length, 1)
