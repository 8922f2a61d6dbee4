"""Levenberg-Marquardt and Gauss-Newton, bounded by a scaled trust region, in a box, with robust losses.

minimize f(x) = |r(x)|**2 / 2 over lower <= x <= upper, r: R^n -> R^m
Moré 1978, Lecture Notes in Mathematics 630, sections 4 to 7; Powell 1970 for the dogleg.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import next_count, or_one, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import POSITIVE, check_choice, check_hyper
from jaxopt_ko.solvers.engine.convergence import (
    check_given,
    counted,
    cut_of,
    eps_of,
    first_info,
    gain_ratio,
    is_running,
    own_buffers,
    status,
    tolerance,
)
from jaxopt_ko.solvers.engine.damped import (
    DECOMPOSITIONS,
    Decompose,
    LinearModel,
    in_ball,
    in_box,
    newton_step,
    triangle,
)
from jaxopt_ko.solvers.engine.matrix_free import matrix_free
from jaxopt_ko.solvers.engine.residual_measures import (
    ACCEPT,
    LOST,
    TALL,
    active,
    at_most,
    column_norms,
    cosine,
    norms_of,
    rounding_of,
    step_or_home,
    vanishes,
    variable_scale,
)
from jaxopt_ko.solvers.engine.sparse_fit import sparse_fit
from jaxopt_ko.solvers.problem.residuals import Residuals, residuals
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Updates

POOR, GOOD = 0.25, 0.75  # bounds on rho: Delta shrinks; Delta grows
GROWTH = 4  # times |D p|, what Delta grows to
REACH = 0.7  # times |D x|, what Delta is kept to unless the last step found r linear
LINEAR = 0.2  # times |J p|, how far r may be from r + J p to be linear
NEAR = 0.1  # of the length of x: only closer than that to a solution a step is judged by the next one's length


class LeastSquaresState(NamedTuple):
    """State of `levenberg_marquardt` and `gauss_newton`; all of it at the parameters as they now are."""

    count: Array  # int32[]       updates made
    residual: Array  # float[m]   r
    jacobian: Array  # float[m,n] J = dr/dx
    triangle: Array  # float[n,n] R of the QR decomposition of [J r], both corrected for the loss
    projected: Array  # float[n]  q, the r of it
    norms: Array  # float[n]      largest norm so far of each column of J
    sizes: Array  # float[n]      largest |x_j| so far
    radius: Array  # float[]      Delta, bound on |D p|
    error: Array  # float[]      length of the next Gauss-Newton step over that of x, both scaled
    released: Array  # bool[]    has the whole step been tried since f last fell by more than rounding?
    aux: PyTree  # what the function returned beside the residuals
    info: Info  # of the last update


class StepRule(NamedTuple):
    """How far to go, of the Gauss-Newton step."""

    step: Callable[[LinearModel, Decompose, Array, Array], tuple[Array, Array, Array]]
    # (model, decompose, free, Delta) -> p, lambda, |D p| if Delta did not bound it
    bounded: bool  # does Delta outlive a step that is taken?


@cached_factory
def levenberg_marquardt(
    factor: Hyper = 0.3, *, gtol: Hyper | None = None, xtol: Hyper | None = None, linear_solver: str = "auto"
) -> GradientTransformation:
    """One trial step of Levenberg-Marquardt an update: r and J at one new point, kept if f falls.

    min |r + J p|  subject to  |D p| <= Delta:   p = -(J'J + lambda D**2)^-1 J'r,  lambda = 0 or |D p| = Delta
    rho = (f(x) - f(x + p)) / (f(x) - |r + J p|**2 / 2)
    x + p is taken if rho > 1e-4; Delta is halved or worse if rho < 1/4, and 4 |D p| if rho > 3/4, but no more than
    0.7 |D x| unless r(x + p) was within 0.2 |J p| of r + J p: a fall of f alone does not show that r is linear

    D: the largest norm so far of each column of J, and enough of it to keep each x_j near its size (`scale`). Once
    the predicted decrease is lost in f's rounding, steps are judged by the length of the next Gauss-Newton step
    instead of by f, and the run ends when that stops falling: this is worth three digits of the parameters.

    factor: the first Delta is factor |D x|, > 0.
    gtol: bound on the cosine between r and a column of J, > 0; None: eps of the dtype.
    xtol: bound on the length of the next Gauss-Newton step over that of x, both scaled, > 0; None: 500 eps.
    linear_solver: "auto" is "svd" up to 32 parameters and "qr" above. Both make a triangle R of J once a step; "svd"
        takes the singular values of R, "qr" R itself and Cholesky factors of R'R + lambda D**2, at a small part of the
        work, and the singular values where those would lose more than half of the digits; "sparse" has the entries of J
        alone and a sparse Cholesky factor of J'J, for many parameters of which each residual depends on few
        (`sparse_fit`), and needs jac_sparsity; "lsmr" has no J but its products with vectors, for very many parameters
        (`matrix_free`).

    init and update(updates, state, params) take these arguments, the same at each step:
    residual_fn(params, …) -> pytree of the m residuals, or (residuals, aux) with has_aux=True. Fewer than n are filled
    up with zeros: the step is then the shortest one, in the scale D.
    jacobian_fn(params, …) -> what jax.jacobian(residual_fn) would return, or the matrix float[m,n].
    loss: "linear", "huber", "soft_l1", "cauchy", "arctan" or rho(z), of z = (r / loss_scale)**2; f is then
    loss_scale**2 / 2 sum rho(z), see `robust`.
    jac_sparsity: with "sparse", where J may have entries: bool[m,n], a BCOO matrix or a `sparse.Coloring`.
    bounds=(lower, upper): each None, a number or a tree like params or its upper part. r is never evaluated outside;
    a start outside is moved into the box, with the first update at the latest. See `in_box` for the step there.
    tol: takes the place of both gtol and xtol.
    A rejected step is exactly zero. The updates that come in are not read.

    State: m n + n**2 numbers, by "sparse" the entries of J, m and 3 n, by "lsmr" 3 n. Raises TreeError, when traced,
    for residuals that are one number, or complex with a robust loss, for bounds that cross
    or do not fit and for a Jacobian or a jac_sparsity of another shape; MissingArgumentError without residual_fn;
    TransformationError by "sparse" without jac_sparsity or with a jacobian_fn; HyperparameterError for another
    linear_solver. Source: Moré 1978, Lecture Notes in Mathematics 630, sections 4 to 7. Not for more than some thousand
    parameters unless by "sparse" or "lsmr": J is dense.

    >>> residual = lambda x: jnp.stack([x[0] - 1, 10 * (x[1] - x[0] ** 2)])
    >>> found = jo.least_squares(residual, jnp.zeros(2), jo.levenberg_marquardt())
    >>> [round(float(x), 4) for x in found.params]
    [1.0, 1.0]
    """
    name = "levenberg_marquardt"
    check_choice(name, "linear_solver", linear_solver, [*DECOMPOSITIONS, "sparse", "lsmr"])
    if linear_solver in ("sparse", "lsmr"):
        return (sparse_fit if linear_solver == "sparse" else matrix_free)(name, factor, gtol=gtol, xtol=xtol)
    return _method(name, StepRule(in_ball, True), linear_solver, factor, gtol, xtol)


@cached_factory
def gauss_newton(
    search: str = "dogleg",
    *,
    factor: Hyper = 1.0,
    gtol: Hyper | None = None,
    xtol: Hyper | None = None,
    linear_solver: str = "auto",
) -> GradientTransformation:
    """One trial step of Gauss-Newton an update: r and J at one new point, kept if f falls.

    p_n: the shortest p for the least |r + J p|;   p: a part of the way to p_n, as search says

    search: "dogleg": p is where the way from 0 by p_c, the least |r + J p| along -D**-2 J'r, to p_n leaves the region
        |D p| <= Delta, whose Delta follows the rules of `levenberg_marquardt`. "line": p = t p_n, t = 1 first and
        shortened by interpolation until f falls by 1e-4 of what is predicted.
    factor: the first Delta is factor |D x|, > 0.
    gtol, xtol: bounds on a cosine and on a length, > 0, as of `levenberg_marquardt`; None: eps and 500 eps of the
        dtype.
    linear_solver: "auto", "svd" or "qr", as of `levenberg_marquardt`.

    The arguments of init and update and the state are those of `levenberg_marquardt`.

    Raises what `levenberg_marquardt` does; HyperparameterError for another search. Source: Powell 1970 for the dogleg;
    Nocedal & Wright 2006, section 10.3. Not for J near losing its rank, where p_n is long and badly known:
    levenberg_marquardt turns away from it; nor far from the solution with search="line".

    >>> import functools
    >>> fit = functools.partial(jo.least_squares, method=jo.gauss_newton("line"))
    """
    name = "gauss_newton"
    check_choice(name, "search", search, ["dogleg", "line"])
    check_choice(name, "linear_solver", linear_solver, list(DECOMPOSITIONS))
    return _method(
        name,
        StepRule(_dogleg, True) if search == "dogleg" else StepRule(_line, False),
        linear_solver,
        factor,
        gtol,
        xtol,
    )


def _dogleg(model: LinearModel, decompose: Decompose, free: Array, radius: Array) -> tuple[Array, Array, Array]:
    D, nil = model.D, jnp.zeros_like(radius)
    n = newton_step(model, decompose, free, jnp.zeros_like(D), nil)
    u = jnp.where(free, -(model.r @ model.J) / D**2, 0)
    bend = jnp.sum((model.J @ u) ** 2)
    c = jnp.sum((D * u) ** 2) / jnp.where(bend > 0, bend, 1) * u
    to_n, to_c = safe_sqrt(jnp.sum((D * n) ** 2)), safe_sqrt(jnp.sum((D * c) ** 2))
    # |D (c + t (n - c))| = Delta
    leg, along = jnp.sum((D * (n - c)) ** 2), jnp.sum(D * c * D * (n - c))
    short = radius**2 - to_c**2
    root = safe_sqrt(jnp.maximum(along**2 + leg * short, 0))
    t = jnp.where(along > 0, short / or_one(along + root), (root - along) / or_one(leg))
    outer = jnp.where(to_c < radius, c + t * (n - c), radius / or_one(to_c) * c)
    return jnp.where(to_n <= radius, n, outer), nil, to_n


def _line(model: LinearModel, decompose: Decompose, free: Array, radius: Array) -> tuple[Array, Array, Array]:
    n = newton_step(model, decompose, free, jnp.zeros_like(model.D), jnp.zeros_like(radius))
    length = safe_sqrt(jnp.sum((model.D * n) ** 2))
    return at_most(radius, length) * n, jnp.zeros_like(radius), length


def _method(
    name: str, rule: StepRule, linear_solver: str, factor: Hyper, gtol: Hyper | None, xtol: Hyper | None
) -> GradientTransformation:
    check_hyper(name, "factor", factor, POSITIVE)
    check_given(name, POSITIVE, gtol=gtol, xtol=xtol)
    decompose = DECOMPOSITIONS[linear_solver]

    def init(params: Params, *, tol: Any = None, **extra_args: Any) -> LeastSquaresState:
        problem = residuals(name, params, **extra_args)
        limit = tolerance(problem.x, zero_count(), eps_of(problem.x), gtol, tol)
        return _begin(problem, rule, decompose, factor, limit.value)

    def update(
        updates: Updates, state: LeastSquaresState, params: Params, *, tol: Any = None, **extra_args: Any
    ) -> tuple[Updates, LeastSquaresState]:
        problem = residuals(name, params, **extra_args)
        x, eps = problem.x, eps_of(problem.x)
        gtol_, xtol_ = tolerance(x, state.count, eps, gtol, tol), tolerance(x, state.count, 500 * eps, xtol, tol)
        trial = _propose(problem, rule, decompose, state)
        verdict = _judge(problem, decompose, state, trial)
        radius, length = _resize(problem, rule, state, trial, verdict)
        new = _stop(problem, state, trial, verdict, radius, length, gtol_.value, xtol_.value)
        return step_or_home(problem, verdict.taken, is_running(state.info), trial.step), new

    return transform(name, init, update, needs_params=True, state_type=LeastSquaresState, solver=True)


# ---- an update ----------------------------------------------------------------------------------------------


class _Point(NamedTuple):
    """What J at one point is made into."""

    jacobian: Array  # float[m,n]
    triangle: Array  # float[n,n]
    projected: Array  # float[n]
    norms: Array  # float[n]  of the columns of J, corrected for the loss
    error: Array  # float[]
    finite: Array  # bool[]


class _Trial(NamedTuple):
    """A step p, and what was found at x + p."""

    p: Array  # float[n]
    lam: Array  # float[]      lambda
    longest: Array  # float[]  |D p| if Delta did not bound it
    D: Array  # float[n]
    length: Array  # float[]   |D p|
    norms: Array  # float[n]   of the columns of J at x, corrected for the loss
    step: Updates  # that leads to x + p
    x: Array  # float[n]       x + p
    residual: Array  # float[m]  r there
    aux: PyTree
    value: Array  # float[]    f there
    finite: Array  # bool[]    is it?
    jacobian: Callable[[], Array]  # J there, float[m,n], when called for
    slope: Array  # float[]    of f along p
    actual: Array  # float[]   f(x) - f(x + p)
    rho: Array  # float[]
    rounding: Array  # float[]  f's own
    lost: Array  # bool[]      is the decrease lost in that?


class _Verdict(NamedTuple):
    """Is x + p taken?"""

    looks: Array  # bool[]  is it to be, so that J is evaluated there?
    blind: Array  # bool[]  r is finite there, J is not
    taken: Array  # bool[]
    there: _Point  # at x + p if that was looked at
    here: _Point  # at x


def _look(problem: Residuals, decompose: Decompose, x: Array, r: Array, J: Array) -> _Point:
    """What r and J at x are made into."""
    if len(J) < TALL:
        finite = jnp.all(jnp.isfinite(column_norms(J)))
        r_, J_ = problem.correct(r, jnp.where(finite, J, 0))
        R, q = triangle(J_, r_)
    else:  # what is not finite is so in R
        r_, J_ = problem.correct(r, J)
        R, q = triangle(J_, r_)
        finite = jnp.all(jnp.isfinite(R)) & jnp.all(jnp.isfinite(q))
        R, q, J_ = (jnp.where(finite, a, 0) for a in (R, q, J_))
    norms = norms_of(J_, R)
    D = jax.lax.stop_gradient(or_one(norms))
    free, nil = ~active(x, q @ R, problem.box), jnp.zeros_like(x)
    model = jax.lax.stop_gradient(LinearModel(r_, J_, R, q, D))
    p = newton_step(model, decompose, free, nil, jnp.zeros((), x.dtype))
    if problem.box is not None:
        p = jnp.clip(x + p, *problem.box) - x
    error = jnp.linalg.norm(D * p) / jnp.maximum(jnp.linalg.norm(D * x), float(np.finfo(x.dtype).tiny))
    return _Point(J, R, q, norms, jax.lax.stop_gradient(error), finite)


def _begin(problem: Residuals, rule: StepRule, decompose: Decompose, factor: Hyper, gtol: Array) -> LeastSquaresState:
    """The state at the start."""
    x, count = problem.x, zero_count()
    r, aux, jacobian = problem.linearize(x)
    f = problem.cost(r)
    at = _look(problem, decompose, x, r, jacobian())
    norms, sizes = or_one(at.norms), jnp.abs(x)
    radius = jnp.full((), jnp.inf, x.dtype)
    if rule.bounded:
        r_, J_ = problem.correct(r, at.jacobian)
        radius = value_at(factor, count).astype(x.dtype) * _first_radius(r_, J_, variable_scale(norms, sizes), x)
    optimality = cosine(at.projected @ at.triangle, at.norms, f, x, problem.box)
    finite, small = jnp.isfinite(f) & at.finite, problem.inside & (optimality <= gtol)
    info = first_info(
        f, optimality, status((~finite, Code.NOT_FINITE), (small, Code.GRADIENT_SMALL)), function=1, gradient=1
    )
    return own_buffers(LeastSquaresState(
        count, r, at.jacobian, at.triangle, at.projected, norms, sizes, radius, at.error, jnp.zeros((), bool), aux,
        info,
    ))  # fmt: skip


def _step(
    problem: Residuals, rule: StepRule, decompose: Decompose, model: LinearModel, radius: Array
) -> tuple[Array, Array, Array]:
    """p, lambda and |D p| if Delta did not bound it; in the box."""
    free = ~active(problem.x, model.q @ model.R, problem.box)
    p, lam, longest = rule.step(model, decompose, free, radius)
    if problem.box is None:
        return p, lam, longest
    low, high = (bound - problem.x for bound in problem.box)

    def bent() -> Array:
        p, _ = in_box(model.face(decompose, lam), low, high)
        length = safe_sqrt(jnp.sum((model.D * p) ** 2))
        return at_most(radius, length) * p

    return jax.lax.cond(jnp.all((p >= low) & (p <= high)), lambda: p, bent), lam, longest


def _propose(problem: Residuals, rule: StepRule, decompose: Decompose, state: LeastSquaresState) -> _Trial:
    """A step, and r where it leads."""
    x, f = problem.x, state.info.value
    r_, J_ = problem.correct(state.residual, state.jacobian)
    D = variable_scale(state.norms, state.sizes)
    model = LinearModel(r_, J_, state.triangle, state.projected, D)
    p, lam, longest = _step(problem, rule, decompose, model, state.radius)
    step, x_new = problem.move(p)
    r_new, aux, jacobian = problem.linearize(x_new)
    f_new = problem.cost(r_new)
    Jp, length = J_ @ p, safe_sqrt(jnp.sum((D * p) ** 2))
    slope = r_ @ Jp
    predicted = -slope - 0.5 * jnp.sum(Jp**2)
    finite = jnp.isfinite(f_new)
    actual = f - jnp.where(finite, f_new, jnp.inf)
    norms = norms_of(J_, state.triangle)
    rounding = rounding_of(f, jnp.sum(norms * jnp.abs(x)))
    lost = jnp.maximum(predicted, -actual) <= LOST * rounding
    return _Trial(
        p, lam, longest, D, length, norms, step, x_new, r_new, aux, f_new, finite, jacobian, slope, actual,
        gain_ratio(actual, predicted), rounding, lost,
    )  # fmt: skip


def _judge(problem: Residuals, decompose: Decompose, state: LeastSquaresState, trial: _Trial) -> _Verdict:
    """Is x + p taken? By the fall of f, or where that is lost by the length of the next Gauss-Newton step."""
    looks = trial.finite & ((trial.rho > ACCEPT) | trial.lost) & is_running(state.info)
    here = _Point(
        state.jacobian, state.triangle, state.projected, trial.norms, state.error, jnp.zeros((), bool)
    )  # fmt: skip
    there = jax.lax.cond(
        looks, lambda: _look(problem, decompose, trial.x, trial.residual, trial.jacobian()), lambda: here
    )
    nearer = (state.error < NEAR) & (there.error < 0.9 * state.error)
    return _Verdict(looks, looks & ~there.finite, looks & there.finite & (~trial.lost | nearer), there, here)


def _resize(
    problem: Residuals, rule: StepRule, state: LeastSquaresState, trial: _Trial, verdict: _Verdict
) -> tuple[Array, Array]:
    """The next Delta, and |D p|."""
    over, taken, rho, radius = ~is_running(state.info), verdict.taken, trial.rho, state.radius
    cut = cut_of(trial.slope, trial.actual, 0.1, 0.5)
    cut = jnp.where(trial.finite & ~verdict.blind, cut, 0.1)
    length = jnp.where(jnp.isfinite(trial.length), trial.length, radius)
    if not rule.bounded:
        return jnp.where(taken, jnp.inf, cut * length), length
    bound = jnp.where(state.count == 0, jnp.minimum(radius, length), radius)
    radius = jnp.select(
        [over, trial.lost, ~(rho >= POOR) | verdict.blind, (rho > GOOD) | (trial.lam == 0)],
        [
            radius,
            jnp.maximum(bound, 2 * trial.longest),
            cut * jnp.minimum(bound, 2 * length),
            jnp.maximum(bound, GROWTH * length),
        ],
        bound,
    )
    change = state.jacobian @ trial.p
    whole = safe_sqrt(jnp.sum((trial.D * jnp.where(taken, trial.x, problem.x)) ** 2))
    linear = jnp.linalg.norm(trial.residual - state.residual - change) <= LINEAR * jnp.linalg.norm(change)
    far = ~(over | trial.lost | linear) & (whole > 0)
    return jnp.where(far, jnp.minimum(radius, REACH * whole), radius), length


def _stop(
    problem: Residuals,
    state: LeastSquaresState,
    trial: _Trial,
    verdict: _Verdict,
    radius: Array,
    length: Array,
    gtol: Array,
    xtol: Array,
) -> LeastSquaresState:
    """The new state; is the run over?"""
    info, taken, eps, over = state.info, verdict.taken, eps_of(problem.x), ~is_running(state.info)
    x = jnp.where(taken, trial.x, problem.x)
    at = tree.where(taken, verdict.there, verdict.here)
    r, aux, f = tree.where(taken, (trial.residual, trial.aux, trial.value), (state.residual, state.aux, info.value))
    norms, sizes = jnp.maximum(state.norms, at.norms), jnp.maximum(state.sizes, jnp.abs(x))
    g = at.projected @ at.triangle
    optimality = cosine(g, at.norms, f, x, problem.box)
    stuck = (trial.lost & ~taken) | (radius <= eps * jnp.linalg.norm(variable_scale(norms, sizes) * x))
    flat = (cosine(g, norms, f, x, problem.box) <= eps ** (1 / 3)) | vanishes(f, trial.rounding)
    # D may hold what starts small and is to grow: before the run fails, the whole step is tried in the scale of J
    release = stuck & ~flat & ~state.released & ~over
    sizes, radius = jnp.where(release, 0, sizes), jnp.where(release, jnp.inf, radius)
    released = release | (state.released & ~(taken & ~trial.lost))
    stuck &= ~release
    stands = status(
        (over, info.status.code),
        (optimality <= gtol, Code.GRADIENT_SMALL),
        (at.error <= xtol, Code.STEP_SMALL),
        (stuck & flat, Code.DECREASE_SMALL),
        (stuck, Code.SEARCH_FAILED),
    )
    info = Info(f, optimality, length, taken, counted(info.evaluations, gradient=verdict.looks), stands)
    return LeastSquaresState(
        next_count(state.count), r, at.jacobian, at.triangle, at.projected, norms, sizes, radius, at.error, released,
        aux, info,
    )  # fmt: skip


def _first_radius(r: Array, J: Array, D: Array, x: Array) -> Array:
    """|D x|, with the step to the least |r + J p| along -D**-2 J'r in the place of each x_j that is 0."""
    g = (r @ J) / D
    bend = jnp.sum((J @ (g / D)) ** 2)
    cauchy = jnp.where(bend > 0, jnp.sum(g * g) / or_one(bend), 0) * g
    length = safe_sqrt(jnp.sum(jnp.where(x == 0, cauchy, D * x) ** 2))
    return or_one(length)
