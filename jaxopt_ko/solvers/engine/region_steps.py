"""Steps of a trust region: two ways to solve its subproblem, by eigenvalues and by products.

minimize g'p + p'Hp / 2  over |p| <= Delta
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import largest, next_count, or_one, safe_sqrt, zero_count
from jaxopt_ko.solvers.engine.convergence import eps_of

SECULAR_STEPS = 60  # of Newton on |p| = Delta, at most; some four reach the last digit, 30 in nearly hard cases


# ---- the subproblem by eigenvalues ----------------------------------------------------------------------


def decompose(H: Array) -> tuple[Array, Array]:
    """Eigenvalues of H, lowest first, and eigenvectors in columns; as constants, for derivatives go by H itself."""
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(H))
    return values, vectors


@jax.custom_jvp
def exact_step(H: Array, values: Array, vectors: Array, g: Array, radius: Array) -> tuple[Array, Array]:
    """The p with |p| <= Delta where g'p + p'Hp / 2 is lowest, and its lambda. Moré & Sorensen 1983, SISSC 4(3).

    (H + lambda I) p = -g    H + lambda I positive semidefinite    lambda >= 0, and 0 unless |p| = Delta

    With b = Q'g and s = lambda + lambda_1 the length |p(s)|**2 = sum_i b_i**2 / (lambda_i - lambda_1 + s)**2 falls
    with s. Newton's method on 1 / |p(s)| = 1 / Delta climbs to the root from any s below it, such as the largest
    |b_i| / Delta - (lambda_i - lambda_1), where one component alone is Delta long. Where even s = 0 gives a shorter
    p and lambda_1 < 0, the hard case, a multiple of the first eigenvector fills it up.

    values, vectors: float[n], float[n,n], decompose(H). The derivatives are those of the equations above.
    """
    if g.size == 0:
        return g, jnp.zeros_like(radius)
    b, lowest = g @ vectors, values[0]
    gaps, floor = values - lowest, jnp.maximum(lowest, 0)
    noise = b.size * eps_of(b) * jnp.max(jnp.abs(values))  # no more is known of any eigenvalue
    b = jnp.where((jnp.abs(values) <= noise) & (jnp.abs(b) <= b.size * eps_of(b) * jnp.linalg.norm(b)), 0, b)
    start = jnp.maximum(jnp.max(jnp.abs(b) / radius - gaps), floor)
    p, length = _shifted(b, gaps, floor)
    inside, down = (start <= floor) & (length <= radius), lowest < -noise

    def newton(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        s, _, k = carry
        p, length = _shifted(b, gaps, s)
        unit = jnp.min(jnp.where(p != 0, gaps + s, jnp.inf))  # in which nothing overflows
        slope = jnp.sum((p / or_one(length)) ** 2 * (unit / or_one(gaps + s)))  # -|p|' / |p|
        new = s + unit * (length - radius) / (radius * or_one(slope))
        return jnp.maximum(new, s), (length > radius * (1 + 16 * eps_of(b))) & (new > s), next_count(k)

    s, _, _ = jax.lax.while_loop(lambda c: c[1] & (c[2] < SECULAR_STEPS), newton, (start, ~inside, zero_count()))
    bounded, _ = _shifted(b, gaps, s)
    fill = jnp.where(down, jnp.sqrt(jnp.maximum(radius**2 - length**2, 0)), 0)
    filled = p + jnp.where(jnp.arange(b.size) == 0, fill, 0)
    lam = jnp.where(inside, jnp.where(down, -lowest, 0), s - lowest)
    return vectors @ jnp.where(inside, filled, bounded), lam


@exact_step.defjvp
def _exact_step_jvp(
    primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (H, values, vectors, g, radius), (dH, _, _, dg, d_radius) = primals, tangents
    p, lam = exact_step(H, values, vectors, g, radius)
    inverse = jnp.where(values + lam > 0, 1 / or_one(values + lam), 0)

    def solve(v: Array) -> Array:
        return vectors @ (inverse * (v @ vectors))

    right, along = dg + dH @ p, p @ solve(p)
    bounded = (lam > 0) & (along > 0)
    d_lam = jnp.where(bounded, -(p @ solve(right) + radius * d_radius) / jnp.where(bounded, along, 1), 0)
    return (p, lam), (-solve(right + d_lam * p), d_lam)


def _shifted(b: Array, gaps: Array, s: Array) -> tuple[Array, Array]:
    """p(s) in the eigenvectors' coordinates, without the components that s = 0 leaves open, and its length."""
    p = jnp.where(gaps + s > 0, -b / or_one(gaps + s), 0)
    return p, jnp.linalg.norm(p)


# ---- the subproblem by products -------------------------------------------------------------------------


class Truncated(NamedTuple):
    """Where conjugate gradients stopped."""

    step: Array  # float[n]       p
    predicted: Array  # float[]  -g'p - p'Hp / 2
    free: Array  # bool[]        is p inside the region?
    products: Array  # int32[]   iterations made
    length: Array  # float[]     |p|_M
    direction: Array  # float[n]  d, the last
    stretch: Array  # float[]    |d|_M
    curvature: Array  # float[]  d'Hd / |d|_M**2


def truncated_step(
    product: Callable[[Array], Array],
    g: Array,
    radius: Array | None,
    tolerance: Array,
    max_steps: int,
    inverse: Callable[[Array], Array] | None = None,
) -> Truncated:
    """Conjugate gradients on H p = -g until |H p + g| <= tolerance, or out to |p|_M = Delta. Steihaug 1983.

    Nocedal & Wright 2006, algorithm 7.2: the path of the iterates, whose lengths grow, is followed to where it
    leaves the region, and along the first direction with d'Hd <= 0 to the region's edge. With radius=None, for a
    line search, the last step is along such a direction, as long as it would be for the opposite curvature.

    With a preconditioner M ~ H, positive definite, the length is |p|_M = sqrt(p'Mp), as it is of this that the
    iterates have more and more; Conn, Gould & Toint 2000, algorithm 7.5.1. Only M^-1 is needed: M d and M p go by the
    same recurrences as d and p. Where r'M^-1 r is not positive, M is not, and the path ends; at its start M = I then.

    product: v -> H v; inverse: r -> M^-1 r; None: M = I. A `while_loop`: forward-mode derivatives only.
    """

    def goes_on(c: _Path) -> Array:
        return ~c.done & (c.k < max_steps)

    def to_edge(z: Array, Mz: Array, d: Array, Md: Array, ry: Array, dHd: Array) -> Array:
        """The alpha with |z + alpha d|_M = Delta, or that for the opposite curvature."""
        if radius is None:
            return ry / or_one(jnp.abs(dHd))
        dd, zd, room = d @ Md, z @ Md, jnp.maximum(radius**2 - z @ Mz, 0)
        root = jnp.sqrt(zd * zd + dd * room)
        return jnp.where(zd > 0, room / or_one(zd + root), (root - zd) / or_one(dd))

    def iterate(c: _Path) -> _Path:
        beta = c.ry / or_one(c.before)
        d = beta * c.d - (c.r if c.dual is None else c.dual.y)
        Md, Mz = (d, c.z) if c.dual is None else (beta * c.dual.Md - c.r, c.dual.Mz)
        Hd = product(d)
        dHd = d @ Hd
        negative = ~(dHd > 0)
        alpha, edge = c.ry / jnp.where(negative, 1, dHd), to_edge(c.z, Mz, d, Md, c.ry, dHd)
        free = ~negative if radius is None else ~negative & (alpha < edge)
        alpha = jnp.where(free, alpha, edge)
        r = c.r + alpha * Hd
        rr, gain = r @ r, c.gain + alpha * c.ry - 0.5 * alpha**2 * dHd
        done = ~free | (jnp.sqrt(rr) <= tolerance)
        new = c._replace(
            z=c.z + alpha * d, r=r, d=d, ry=rr, before=c.ry, curvature=dHd, gain=gain, k=next_count(c.k), free=free,
            done=done,
        )  # fmt: skip
        if inverse is None:
            return new
        y = inverse(r)
        ry = r @ y
        return new._replace(ry=ry, done=done | ~(sound & (ry > 0)), dual=_Dual(y, Mz + alpha * Md, Md))

    most = largest(g)
    large = float(np.finfo(g.dtype).max) ** 0.25
    unit = jnp.where((most > 0) & ((most > large) | (most * large < 1)), most, 1)  # in which no square is inf or 0
    g, tolerance, whole = g / unit, tolerance / unit, product
    product = lambda v: whole(v) / unit  # noqa: E731
    rr, zero = g @ g, jnp.zeros_like(g)
    nil, ry, dual = jnp.zeros_like(rr), rr, None
    if inverse is not None:
        y = inverse(g)
        sound = g @ y > 0
        y = jnp.where(sound, y, g)
        ry, dual = g @ y, _Dual(y, zero, zero)
    true = jnp.ones((), bool)
    start = _Path(zero, g, zero, ry, jnp.copy(nil), nil, nil, zero_count(), true, ~(rr > 0), dual)
    end = jax.lax.while_loop(goes_on, iterate, start)
    Mz, Md = (end.z, end.d) if end.dual is None else (end.dual.Mz, end.dual.Md)
    dMd = end.d @ Md
    curvature = unit * (end.curvature / or_one(dMd))
    return Truncated(end.z, unit * end.gain, end.free, end.k, safe_sqrt(end.z @ Mz), end.d, safe_sqrt(dMd), curvature)


class _Path(NamedTuple):
    """Conjugate gradients on their way."""

    z: Array  # float[n]     the iterate
    r: Array  # float[n]     H z + g
    d: Array  # float[n]     the last direction
    ry: Array  # float[]     r'M^-1 r
    before: Array  # float[]  that before it, 0 at the start
    curvature: Array  # float[]  d'Hd
    gain: Array  # float[]   -g'z - z'Hz / 2
    k: Array  # int32[]      products made
    free: Array  # bool[]    is z inside the region?
    done: Array  # bool[]
    dual: _Dual | None  # None: M = I


class _Dual(NamedTuple):
    """What a preconditioner M adds."""

    y: Array  # float[n]  M^-1 r
    Mz: Array  # float[n]
    Md: Array  # float[n]
