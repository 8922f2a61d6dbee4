"""Proximal and projected gradient, accelerated. Beck & Teboulle 2009, SIAM J. Imaging Sciences 2.

x_new = prox(y - s g(y), s)        y = x_new + beta (x_new - x)        prox: see `problem.prox`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.method import cached_factory, with_record
from jaxopt_ko.core.numerics import largest, next_count, norm, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE
from jaxopt_ko.solvers.engine.convergence import (
    Course,
    Tolerance,
    bound,
    carried_off,
    check_given,
    counted,
    course,
    endless,
    eps_of,
    first_info,
    is_running,
    onward,
    own_buffers,
    status,
    tolerance,
)
from jaxopt_ko.solvers.problem.objective import Objective, objective
from jaxopt_ko.solvers.problem.prox import Prox
from jaxopt_ko.types import (
    Code,
    EmptyState,
    GradientTransformation,
    Hyper,
    Info,
    Params,
    PyTree,
    Status,
    Updates,
)

Projection = Callable[[PyTree], PyTree]

BLUR = 1e4  # times eps |f|: what f cannot tell well enough


def keep_in(projection: Projection) -> GradientTransformation:
    """Updates that end in a set: for the end of any chain.

    u = P(p + u) - p

    projection: P, a function of trees like params, such as projections.projection_simplex.

    No state; needs params. Raises TransformationError if projection is no function; MissingArgumentError, when traced,
    without params; TreeError where P returns another tree. Source: Goldstein 1964, Levitin & Polyak 1966, the projected
    gradient. Not for a method that remembers where it went (lbfgs): it would learn steps that were not made.
    Nor, but for a box, behind steps that are scaled by coordinate (adam): the nearest point is then another one than
    the scaling asks for, and the run stops where it is no minimum.

    >>> tx = jo.chain(jo.sgd(0.1), jo.keep_in(jo.projections.projection_simplex))
    >>> state = tx.init(jnp.array([0.5, 0.5]))
    """
    project = errors.check_function("keep_in", "projection", projection)

    def update(updates: Updates, state: EmptyState, params: Params) -> tuple[Updates, EmptyState]:
        there = project(apply_updates(params, updates))
        check_same_trees("keep_in", "projection's result", there, "params", params)
        step = jax.tree.map(lambda to, p, u: (to - jnp.asarray(p)).astype(tree.dtype_of(u)), there, params, updates)
        return step, state

    return transform("keep_in", lambda params: EmptyState(), update, needs_params=True, state_type=EmptyState)


class ProximalGradientState(NamedTuple):
    """State of `proximal_gradient`; the vectors hold all leaves one after the other, n elements in all."""

    count: Array  # int32[]      updates made
    y: Array  # float[n]         where f's gradient was, or is to be, taken; the parameters are x
    value: Array  # float[]      f(y)
    grad: Array  # float[n]      f's gradient at y
    looks: Array  # bool[]       is the next update to take these two, in the place of a trial?
    stepsize: Array  # float[]   s
    momentum: Array  # float[]   t, 1 at the start and after each restart
    aux: PyTree  # what the function returned beside its value, at x
    course: Course  # of the run
    info: Info  # of the last update; its value is f(x), without h


@cached_factory
def proximal_gradient(
    prox: Prox,
    stepsize: Hyper = 1.0,
    *,
    acceleration: bool = True,
    decrease_factor: Hyper = 0.5,
    increase_factor: Hyper = 1.2,
    gtol: Hyper | None = None,
) -> GradientTransformation:
    """min f(x) + h(x), f smooth and h known by its prox: one evaluation of f and its gradient an update.

    x_new = prox(y - s g(y), s), kept if f(x_new) <= f(y) + g'd + |d|**2 / 2 s, d = x_new - y; else s is decreased
    y = x_new + (t - 1) / t_new (x_new - x),  t_new = (1 + sqrt(1 + 4 t**2)) / 2;  y = x_new without acceleration

    prox: (x, s) -> argmin |y - x|**2 / 2 + s h(y): see `prox_lasso` and its kin, as in lambda x, s: prox_lasso(x, 0.1,
        s).
    stepsize: the first s, > 0.
    acceleration: look ahead along the last step; False: plain proximal gradient, which is monotone. t goes back to 1
        where (y - x_new)'(x_new - x) > 0 (O'Donoghue & Candès 2015).
    decrease_factor: what s is multiplied by where it was too long, in [0, 1).
    increase_factor: what s is multiplied by after each iteration, > 0; above 1, so that s finds f's scale by itself.
    gtol: converged when max|d| / s <= gtol, >= 0; `tol` takes its place. None: sqrt(eps), or less where no gradient was
        large (see `descent`). Also when no element of x changes.

    init(params, value_fn=, has_aux=False) and update(updates, state, params, value_fn=, has_aux=False, tol=None);
    the updates that come in are not read. The first steps are from prox(x, s) on, so a start may be outside. An
    accelerated iteration takes two updates, one at x_new and one at y: the second is zero.

    State: 2 numbers a parameter. Info's value is f(x), without h.

    Raises HyperparameterError, when made, for numbers outside their domain, TransformationError for a prox that is no
    function; MissingArgumentError, when traced, without value_fn. Source: Beck & Teboulle 2009, SIAM J. Imaging
    Sciences 2. Not where f is ill-conditioned and h a box: `lbfgsb`.

    >>> lasso = jo.proximal_gradient(lambda x, s: jo.prox_lasso(x, 1.0, s))
    >>> found = jo.minimize(lambda x: jnp.sum((x - 1) ** 2) / 2, jnp.zeros(2), lasso)
    >>> [round(float(x), 4) for x in found.params]
    [0.0, 0.0]
    """
    return _gradient("proximal_gradient", prox, stepsize, acceleration, decrease_factor, increase_factor, gtol)


@cached_factory
def projected_gradient(
    projection: Projection,
    stepsize: Hyper = 1.0,
    *,
    acceleration: bool = True,
    decrease_factor: Hyper = 0.5,
    increase_factor: Hyper = 1.2,
    gtol: Hyper | None = None,
) -> GradientTransformation:
    """min f(x) over a set, f smooth: `proximal_gradient` with the set's projection for the prox.

    x_new = P(y - s g(y)),  y as of `proximal_gradient`

    projection: P, a function of trees like params, such as projections.projection_simplex.
    stepsize: the first s, > 0.
    acceleration: look ahead along the last step; False: plain projected gradient, which is monotone.
    decrease_factor: what s is multiplied by where it was too long, in [0, 1).
    increase_factor: what s is multiplied by after each iteration, > 0.
    gtol: converged when max|d| / s <= gtol, d the step, >= 0; None: as of `proximal_gradient`.

    State: 2 numbers a parameter. init, update and what it raises are those of `proximal_gradient`, and
    TransformationError for a projection that is no function. Source: Beck & Teboulle 2009, SIAM J. Imaging Sciences 2.
    Not for a box: `lbfgsb`.

    >>> method = jo.projected_gradient(jo.projections.projection_simplex)
    >>> found = jo.minimize(lambda x: jnp.sum((x - jnp.array([2.0, 0.0])) ** 2), jnp.ones(2) / 2, method)
    >>> [round(float(x), 4) for x in found.params]
    [1.0, 0.0]
    """
    name = "projected_gradient"
    project = errors.check_function(name, "projection", projection)
    return _gradient(
        name, lambda x, s: project(x), stepsize, acceleration, decrease_factor, increase_factor, gtol
    )  # fmt: skip


def _gradient(
    name: str,
    prox: Prox,
    stepsize: Hyper,
    acceleration: bool,
    decrease_factor: Hyper,
    increase_factor: Hyper,
    gtol: Hyper | None,
) -> GradientTransformation:
    errors.check_function(name, "prox", prox)
    errors.check_hyper(name, "stepsize", stepsize, POSITIVE)
    errors.check_hyper(name, "decrease_factor", decrease_factor, FRACTION)
    errors.check_hyper(name, "increase_factor", increase_factor, POSITIVE)
    check_given(name, NONNEGATIVE, gtol=gtol)

    def near(problem: Objective, v: Array, s: Array) -> Array:
        like = problem.unravel(v)
        result = prox(like, s)
        check_same_trees(name, "prox's result", result, "params", like)
        return tree.ravel(result)[0].astype(v.dtype)

    def init(
        params: Params, *, value_fn: Callable[..., Any] | None = None, has_aux: bool = False, **extra_args: Any
    ) -> ProximalGradientState:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        aux = jax.eval_shape(problem.evaluate, problem.x)[1] if has_aux else None
        return _start(problem, value_at(stepsize, zero_count()).astype(problem.x.dtype), aux)

    def update(
        updates: Updates,
        state: ProximalGradientState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, ProximalGradientState]:
        problem, count = objective(name, params, value_fn, has_aux, extra_args), state.count
        x = problem.x
        shorter = value_at(decrease_factor, count).astype(x.dtype)
        longer = value_at(increase_factor, count).astype(x.dtype)
        limit = tolerance(x, count, eps_of(x) ** 0.5, gtol, tol)
        trial = _look(problem, near, state)
        step = _judge(problem, state, trial, acceleration)
        return _advance(problem, state, trial, step, shorter, longer, limit)

    pair = transform(name, init, update, needs_params=True, state_type=ProximalGradientState, solver=True)
    return with_record(pair, prox=prox)


class _Trial(NamedTuple):
    """The one evaluation of an update."""

    first: Array  # bool[]  is it the start, P(x)?
    x: Array  # float[n]    prox(y - s g, s)
    d: Array  # float[n]    x - y
    dd: Array  # float[]    |d|**2
    value: Array  # float[]  f there, or at y if the update looks
    grad: Array  # float[n]  f's gradient there
    aux: PyTree
    finite: Array  # bool[]


class _Step(NamedTuple):
    """What becomes of a trial."""

    taken: Array  # bool[]
    rejected: Array  # bool[]
    lost: Array  # bool[]     y is too far on
    step: Array  # float[n]   of the parameters
    momentum: Array  # float[]  t_new
    beta: Array  # float[]    (t - 1) / t_new


def _start(problem: Objective, s: Array, aux: PyTree) -> ProximalGradientState:
    """The state before the first update, which evaluates f; aux: shapes of what the function returns beside it."""
    inf, nil = jnp.full_like(s, jnp.inf), jnp.zeros_like(s)
    return own_buffers(
        ProximalGradientState(
            count=zero_count(),
            y=problem.x,
            value=inf,
            grad=jnp.zeros_like(problem.x),
            looks=jnp.ones((), bool),
            stepsize=s,
            momentum=jnp.ones_like(s),
            aux=jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), aux),
            course=course(nil, problem.x, nil),
            info=first_info(inf, inf, status()),
        )
    )


def _look(problem: Objective, near: Callable[..., Array], state: ProximalGradientState) -> _Trial:
    """One evaluation: at y, the first time at P(x), or at the trial."""
    first, y, s = state.count == 0, state.y, state.stepsize
    x = near(problem, jnp.where(first, problem.x, y - s * state.grad), s)
    value, aux, grad = problem.evaluate(jnp.where(state.looks & ~first, y, x))
    d = x - y
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
    return _Trial(first, x, d, d @ d, value, grad, aux, finite)


def _judge(problem: Objective, state: ProximalGradientState, trial: _Trial, acceleration: bool) -> _Step:
    """Is the trial taken, and how far beyond it is the next y? Where f cannot tell, its slopes do."""
    running, looks, first = is_running(state.info), state.looks, trial.first
    g, f, d, dd, s = state.grad, state.value, trial.d, trial.dd, state.stepsize
    fine = dd / (2 * s) > BLUR * eps_of(f) * jnp.abs(f)
    enough = jnp.where(fine, trial.value <= f + g @ d + dd / (2 * s), (trial.grad - g) @ d <= dd / s)
    taken = running & trial.finite & jnp.where(looks, first, enough)
    lost = looks & ~first & ~trial.finite
    again = (state.y - trial.x) @ (trial.x - problem.x) > 0
    t = jnp.where(again | first | lost, 1, state.momentum)
    t_new = 0.5 * (1 + jnp.sqrt(1 + 4 * t * t)) if acceleration else jnp.ones_like(t)
    return _Step(
        taken=taken,
        rejected=running & ~looks & ~taken,
        lost=lost,
        step=jnp.where(taken, trial.x - problem.x, 0),
        momentum=t_new,
        beta=(t - 1) / t_new if acceleration else jnp.zeros_like(t),
    )


def _advance(
    problem: Objective,
    state: ProximalGradientState,
    trial: _Trial,
    step: _Step,
    shorter: Array,
    longer: Array,
    gtol: Tolerance,
) -> tuple[Updates, ProximalGradientState]:
    """Where to look next; shorter, longer: what s is multiplied by."""
    taken, lost, first, s, info = step.taken, step.lost, trial.first, state.stepsize, state.info
    value = jnp.where(taken, trial.value, info.value)
    measure = jnp.where(first, largest(trial.grad), largest(trial.d) / s)
    optimality = jnp.where(taken | first, measure, info.optimality)
    after = onward(state.course, optimality, taken, jnp.zeros((), bool))
    after = tree.where(first, course(value, trial.x, measure), after)
    known = state.looks | (taken & (step.beta == 0))  # f and g at the next y
    return problem.unravel(step.step), ProximalGradientState(
        count=next_count(state.count),
        y=jnp.where(taken, trial.x + step.beta * step.step, jnp.where(lost, problem.x, state.y)),
        value=jnp.where(known, trial.value, state.value),
        grad=jnp.where(known, trial.grad, state.grad),
        looks=(taken & ~known) | lost,
        stepsize=jnp.where(step.rejected, shorter * s, jnp.where(taken & ~first, longer * s, s)),
        momentum=jnp.where(taken | lost, step.momentum, state.momentum),
        aux=tree.where(taken, trial.aux, state.aux),
        course=after,
        info=Info(
            value=value,
            optimality=optimality,
            step_norm=jnp.where(taken, norm(step.step), info.step_norm),
            accepted=taken,
            evaluations=counted(info.evaluations),
            status=_status(problem, state, trial, step, after, value, optimality, gtol),
        ),
    )


def _status(
    problem: Objective,
    state: ProximalGradientState,
    trial: _Trial,
    step: _Step,
    after: Course,
    value: Array,
    optimality: Array,
    gtol: Tolerance,
) -> Status:
    """Is the run over? value, optimality: of the point after the update."""
    x, d, eps, running = problem.x, trial.d, eps_of(problem.x), is_running(state.info)
    another = step.taken & ~trial.first
    small = another & (optimality <= bound(after, gtol))
    falls = (running & ~trial.first & jnp.isneginf(trial.value)) | (
        small & carried_off(after, trial.x, value, -d / state.stepsize)
    )
    falls |= another & ~small & endless(after, trial.x, value, d, state.grad, trial.grad)
    return status(
        (~running, state.info.status.code),
        (trial.first & ~trial.finite, Code.NOT_FINITE),
        (falls, Code.UNBOUNDED),
        (small, Code.GRADIENT_SMALL),
        (another & jnp.all(jnp.abs(d) <= eps * jnp.abs(state.y)), Code.STEP_SMALL),
        (step.rejected & (jnp.sqrt(trial.dd) <= eps * norm(x)), Code.SEARCH_FAILED),
    )
