"""Trust regions: the frame that methods of the kind share, and two ways to solve its subproblem.

minimize m(p) = g'p + p'Hp / 2  over |p| <= Delta           rho = (f(x) - f(x + p)) / -m(p)
Conn, Gould & Toint 2000, Trust-Region Methods, algorithm 6.1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import first_true, largest, next_count, norm, or_one, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE, check_hyper
from jaxopt_ko.solvers.engine.convergence import (
    Course,
    bound,
    carried_off,
    course,
    endless,
    flat,
    onward,
    pending,
    short,
)
from jaxopt_ko.solvers.problem.objective import Objective, objective
from jaxopt_ko.types import (
    Code,
    Evaluations,
    GradientTransformation,
    Hyper,
    Info,
    Params,
    PyTree,
    State,
    Status,
    Updates,
)

ACCEPT, POOR, GOOD = 1e-4, 0.25, 0.9  # bounds on rho: x + p is taken; Delta shrinks; Delta grows
LEAST_CUT, MOST_CUT, BLIND_CUT = 0.5, 0.25, 0.1  # of |p|, what Delta shrinks to; the last where f is not finite
DOUBT, ROUND_OFF = 100, 10  # times f's rounding: a smaller decrease need not be true; cannot be trusted at all
SECULAR_STEPS = 60  # of Newton on |p| = Delta, at most; some four reach the last digit, 30 in nearly hard cases


# ---- the frame ------------------------------------------------------------------------------------------


class Proposal(NamedTuple):
    """A minimizer of the model within the region."""

    step: Array  # float[n]     p
    predicted: Array  # float[]  -m(p)
    free: Array  # bool[]       would p be the same without the region?
    size: Array  # float[]      x'|H|x, which tells f's rounding; may be 0 where -m(p) is no small part of |f|
    products: Array  # int32[]  of H with vectors, made to find p
    memory: State


class Model(NamedTuple):
    """A quadratic model of f about x; its memory is all it knows there."""

    begin: Callable[[Objective, Array, Array], tuple[State, Array, Array]]
    # (problem, g, does a run end here?) -> memory at the start, u'Hu along u = g / |g|, int32[] products made
    propose: Callable[[Objective, State, Array, Array, Array, Array], Proposal]
    # (problem, memory, f(x), g, Delta, count)
    renew: Callable[[Objective, State, Array], tuple[State, Array]]
    # (problem, old memory, does a run end here unless H has a negative eigenvalue?) -> memory at problem.x, int32[]
    # products made
    spectrum: Callable[[State], tuple[Array, Array]]  # memory -> lowest eigenvalue of H known, and largest modulus


class TrustRegionState(NamedTuple):
    """State of a trust-region method; all of it at the parameters as they now are."""

    count: Array  # int32[]      updates made
    gradient: Array  # float[n]  g
    aux: PyTree  # what the function returned beside its value
    radius: Array  # float[]     Delta, bound on |p|
    memory: State  # of the model
    course: Course  # of the run
    info: Info  # of the last update


def trust_region(
    name: str, model: Model, *, radius: Hyper | None = None, gtol: Hyper | None = None, ftol: Hyper | None = None
) -> GradientTransformation:
    """One trial step of a trust-region method an update: f and g at one new point, kept if f falls.

    x + p is taken if rho > 1e-4. Delta shrinks, to between |p|/4 and |p|/2 by interpolation, if rho < 1/4, and
    becomes 2 |p| at least if rho > 0.9. The first Delta is |g| / u'Hu with u = g / |g|, so that the first step ends
    where the model is lowest along -g; where it falls for ever, max(1, |x|).

    Where the decrease may be lost in f's rounding, eps (|f| + sqrt(|f| x'|H|x)), it is taken from the gradients, as
    -(g + g_new)'p / 2. Where it is lost, a p that the region does not bound has to lower |g| by a tenth; the run
    ends when a p is not taken. A point where g is small but H has a negative eigenvalue is no solution: the run
    goes on along its eigenvector.

    radius: the first Delta instead. gtol, or `tol` given to init and update in its place: converged when max|g| <=
    gtol, by default eps**(2/3) min(1, G / (16 eps**(1/6))), G the largest max|g| so far. ftol: converged when steps
    that the region did not bound were to lower f, and did, by no more than ftol |f|: one shorter than sqrt(eps) |x|,
    or three than eps**(1/3) |x|; eps by default. The run also ends when no element of x changes, and as UNBOUNDED
    where f is -inf at a trial or falls on and on along steps that get longer but no flatter.
    """
    for argument, hyper, domain in (
        ("radius", radius, POSITIVE),
        ("gtol", gtol, NONNEGATIVE),
        ("ftol", ftol, NONNEGATIVE),
    ):
        if hyper is not None:
            check_hyper(name, argument, hyper, domain)

    def tolerance(tol: Any, default: float, count: Array, dtype: Any) -> Array:
        return jnp.asarray(default if tol is None else value_at(tol, count), dtype)

    def init(
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> TrustRegionState:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        x, count = problem.x, zero_count()
        value, aux, g = problem.evaluate(x)
        gtol_ = tolerance(gtol if tol is None else tol, _eps(x) ** (2 / 3), count, x.dtype)
        run = course(value, x, largest(g))
        small = run.steepest <= bound(run, gtol_, gtol if tol is None else tol)
        memory, curvature, products = model.begin(problem, g, small)
        first = _first_radius(x, g, curvature) if radius is None else value_at(radius, count).astype(x.dtype)
        finite = jnp.isfinite(value) & _finite((g, memory))
        code = jnp.select(
            [~finite, small & _convex(x, model.spectrum(memory))],
            [np.int32(Code.NOT_FINITE), np.int32(Code.GRADIENT_SMALL)],
            np.int32(Code.RUNNING),
        )
        one = jnp.ones((), jnp.int32)
        evaluations = Evaluations(one, jnp.copy(one), products)
        info = Info(value, run.steepest, jnp.zeros_like(value), jnp.zeros((), bool), evaluations, Status(code))
        return TrustRegionState(count, g, aux, first, memory, jax.tree.map(jnp.copy, run), info)

    def update(
        updates: Updates,
        state: TrustRegionState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, TrustRegionState]:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        count, g, aux, radius, memory, run, info = state
        x, f, eps = problem.x, info.value, _eps(problem.x)
        given = gtol if tol is None else tol
        gtol_ = tolerance(given, eps ** (2 / 3), count, x.dtype)
        ftol_ = tolerance(ftol, eps, count, x.dtype)

        # The step
        p, predicted, free, size, products, memory = model.propose(problem, memory, f, g, radius, count)
        x_new = problem.reach(x, p)
        f_new, aux_new, g_new = problem.evaluate(x_new)
        bottomless = jnp.isneginf(f_new)
        finite = jnp.isfinite(f_new) & _finite(g_new)
        actual = f - jnp.where(finite, f_new, jnp.inf)
        rounding = eps * (jnp.abs(f) + jnp.sqrt(jnp.abs(f)) * jnp.sqrt(size))
        doubtful, lost = (jnp.maximum(predicted, -actual) <= times * rounding for times in (DOUBT, ROUND_OFF))
        actual = jnp.where(doubtful & finite, -0.5 * (g + g_new) @ p, actual)
        rho = jnp.where(predicted > 0, actual / jnp.where(predicted > 0, predicted, 1), 0)

        # Is it taken?
        over = info.status.code != np.int32(Code.RUNNING)
        flatter = jnp.linalg.norm(g_new) < 0.9 * jnp.linalg.norm(g)
        brief = short(run, x, p, 1 / 3)
        looks = finite & (rho > ACCEPT) & (flatter | ~(lost & free & brief)) & ~over
        unfelt = free & (jnp.maximum(actual, predicted) <= ftol_ * jnp.abs(f_new))
        unfelt &= ~pending(given, largest(g_new), largest(g))
        after = onward(run, largest(g_new), looks, unfelt)
        small = largest(g_new) <= bound(after, gtol_, given)
        level = (count > 0) & flat(after, x_new, p, unfelt)
        renewed, renewal = jax.lax.cond(
            looks,
            lambda: model.renew(problem._replace(x=x_new), memory, small | level),
            lambda: (memory, jnp.zeros((), jnp.int32)),
        )
        taken = looks & _finite(renewed)

        # The next radius
        length, slope = safe_sqrt(p @ p), g @ p
        bend = -actual - slope
        cut = jnp.where(bend > 0, jnp.clip(-slope / (2 * jnp.where(bend > 0, bend, 1)), MOST_CUT, LEAST_CUT), MOST_CUT)
        cut = jnp.where(finite & (taken | ~looks), cut, BLIND_CUT)
        shrinks, grows = ~(rho >= POOR) | (looks & ~taken), rho > GOOD
        radius = jnp.select(
            [over, shrinks, grows],
            [radius, cut * length, jnp.maximum(radius, 2 * length)],
            radius,
        )

        # Is it over?
        used, at, before = jnp.where(taken, f_new, f), jnp.where(taken, x_new, x), g
        g, aux, memory, run = (
            tree.where(taken, new, old) for new, old in ((g_new, g), (aux_new, aux), (renewed, memory), (after, run))
        )
        still = jnp.all(jnp.abs(p) <= eps * jnp.abs(x)) | (length <= eps**2 * norm(x)) | jnp.all(x_new == x)
        unheard = (lost | (doubtful & free)) & ~taken & brief
        small &= taken & _convex(x, model.spectrum(memory))
        good = small | (taken & level & _convex(x, model.spectrum(memory))) | (free & still)
        good |= unheard & (free | (length > jnp.sqrt(eps) * norm(x)))
        falls = bottomless | (good & carried_off(run, at, used, g))
        falls |= taken & ~good & endless(run, at, used, p, before, g)
        code = first_true(
            [over, falls, small, free & still, good, unheard | (~taken & still)],
            [
                info.status.code, Code.UNBOUNDED, Code.GRADIENT_SMALL, Code.STEP_SMALL, Code.DECREASE_SMALL,
                Code.SEARCH_FAILED,
            ],
            Code.RUNNING,
        )  # fmt: skip
        n_function, n_gradient, n_product = info.evaluations
        evaluations = Evaluations(
            next_count(n_function),
            next_count(n_gradient),
            n_product + products + renewal,
        )
        info = Info(used, largest(g), length, taken, evaluations, Status(code))
        step = problem.unravel(jnp.where(taken, p, jnp.zeros_like(p)))
        return step, TrustRegionState(next_count(count), g, aux, radius, memory, run, info)

    return transform(name, init, update, needs_params=True, state_type=TrustRegionState, solver=True)


def _eps(x: Array) -> float:
    return float(np.finfo(x.dtype).eps)


def _finite(tree: PyTree) -> Array:
    """bool[]: is every number in these arrays finite?"""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def _first_radius(x: Array, g: Array, curvature: Array) -> Array:
    length, most = safe_sqrt(g @ g), float(np.finfo(x.dtype).max) ** 0.25
    bends = (curvature > 0) & (length > 0)
    cauchy = length / jnp.where(bends, curvature, 1)
    return jnp.minimum(jnp.where(bends, cauchy, jnp.maximum(1.0, safe_sqrt(x @ x))), most)


def _convex(x: Array, spectrum: tuple[Array, Array]) -> Array:
    """bool[]: is no eigenvalue of H negative beyond its rounding? spectrum: the lowest, and the largest modulus."""
    lowest, most = spectrum
    convex: Array = -lowest <= _eps(x) ** 0.5 * most
    return convex


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
    noise = b.size * _eps(b) * jnp.max(jnp.abs(values))  # no more is known of any eigenvalue
    b = jnp.where((jnp.abs(values) <= noise) & (jnp.abs(b) <= b.size * _eps(b) * jnp.linalg.norm(b)), 0, b)
    start = jnp.maximum(jnp.max(jnp.abs(b) / radius - gaps), floor)
    p, length = _shifted(b, gaps, floor)
    inside, down = (start <= floor) & (length <= radius), lowest < -noise

    def newton(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        s, _, k = carry
        p, length = _shifted(b, gaps, s)
        unit = jnp.min(jnp.where(p != 0, gaps + s, jnp.inf))  # in which nothing overflows
        slope = jnp.sum((p / or_one(length)) ** 2 * (unit / or_one(gaps + s)))  # -|p|' / |p|
        new = s + unit * (length - radius) / (radius * or_one(slope))
        return jnp.maximum(new, s), (length > radius * (1 + 16 * _eps(b))) & (new > s), next_count(k)

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
    direction: Array  # float[n]  d, the last
    curvature: Array  # float[]  d'Hd / d'd


def truncated_step(
    product: Callable[[Array], Array], g: Array, radius: Array | None, tolerance: Array, max_steps: int
) -> Truncated:
    """Conjugate gradients on H p = -g until |H p + g| <= tolerance, or out to |p| = Delta. Steihaug 1983.

    Nocedal & Wright 2006, algorithm 7.2: the path of the iterates, whose lengths grow, is followed to where it
    leaves the region, and along the first direction with d'Hd <= 0 to the region's edge. With radius=None, for a
    line search, the last step is along such a direction, as long as it would be for the opposite curvature.

    product: v -> H v. A `while_loop`: forward-mode derivatives only.
    """

    def goes_on(c: _Path) -> Array:
        return ~c.done & (c.k < max_steps)

    def to_edge(z: Array, d: Array, rr: Array, dHd: Array) -> Array:
        """The alpha with |z + alpha d| = Delta, or that for the opposite curvature."""
        if radius is None:
            return rr / or_one(jnp.abs(dHd))
        dd, zd, room = d @ d, z @ d, jnp.maximum(radius**2 - z @ z, 0)
        root = jnp.sqrt(zd * zd + dd * room)
        return jnp.where(zd > 0, room / or_one(zd + root), (root - zd) / or_one(dd))

    def iterate(c: _Path) -> _Path:
        d = c.rr / or_one(c.before) * c.d - c.r
        Hd = product(d)
        dHd = d @ Hd
        negative = ~(dHd > 0)
        alpha, edge = c.rr / jnp.where(negative, 1, dHd), to_edge(c.z, d, c.rr, dHd)
        free = ~negative if radius is None else ~negative & (alpha < edge)
        alpha = jnp.where(free, alpha, edge)
        r = c.r + alpha * Hd
        rr, gain = r @ r, c.gain + alpha * c.rr - 0.5 * alpha**2 * dHd
        done = ~free | (jnp.sqrt(rr) <= tolerance)
        return _Path(c.z + alpha * d, r, d, rr, c.rr, dHd, gain, next_count(c.k), free, done)

    most = largest(g)
    large = float(np.finfo(g.dtype).max) ** 0.25
    unit = jnp.where((most > 0) & ((most > large) | (most * large < 1)), most, 1)  # in which no square is inf or 0
    g, tolerance, whole = g / unit, tolerance / unit, product
    product = lambda v: whole(v) / unit  # noqa: E731
    rr, zero = g @ g, jnp.zeros_like(g)
    nil = jnp.zeros_like(rr)
    start = _Path(zero, g, zero, rr, jnp.copy(nil), nil, nil, zero_count(), jnp.ones((), bool), ~(rr > 0))
    end = jax.lax.while_loop(goes_on, iterate, start)
    curvature = unit * (end.curvature / or_one(end.d @ end.d))
    return Truncated(end.z, unit * end.gain, end.free, end.k, end.d, curvature)


class _Path(NamedTuple):
    """Conjugate gradients on their way."""

    z: Array  # float[n]     the iterate
    r: Array  # float[n]     H z + g
    d: Array  # float[n]     the last direction
    rr: Array  # float[]     r'r
    before: Array  # float[]  r'r before it, 0 at the start
    curvature: Array  # float[]  d'Hd
    gain: Array  # float[]   -g'z - z'Hz / 2
    k: Array  # int32[]      products made
    free: Array  # bool[]    is z inside the region?
    done: Array  # bool[]
