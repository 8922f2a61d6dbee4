"""Descent: any direction with any line search, read in two ways.

flat     init(params, value_fn=f): one update is one evaluation of f and its gradient, at one trial point
nested   init(params): one update is one iteration, with the whole search in a loop inside, as in optax
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_state_tuple, wrong_state
from jaxopt_ko.core.method import Method, cached_factory, filter_kwargs, make_transformation, method_of, name_of
from jaxopt_ko.core.numerics import largest, next_count, norm, once, or_one, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, StateError, TransformationError, describe, say
from jaxopt_ko.solvers.engine.convergence import (
    IDLE,
    Course,
    Tolerance,
    bound,
    carried_off,
    check_given,
    course,
    endless,
    first_info,
    flat,
    onward,
    own_buffers,
    pending,
    short,
    spent,
    status,
    tolerance,
    unit,
)
from jaxopt_ko.solvers.engine.line_search import (
    Evaluation,
    LineSearch,
    LineSearchState,
    check_evaluated,
    takes_last,
    try_one,
)
from jaxopt_ko.solvers.problem.objective import Objective, objective
from jaxopt_ko.types import (
    Code,
    EmptyState,
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


class DescentState(NamedTuple):
    """State of the flat reading; the vectors hold all leaves one after the other, n elements in all."""

    count: Array  # int32[]         updates made
    here: Evaluation  # at the parameters as they now are
    direction: Array  # float[n]    p, along which the search goes
    memory: State  # of the direction
    line: LineSearchState  # of the search
    safe: Evaluation  # at the safe point of the search
    follows: Array  # bool[]        did a step lead here? else this direction is the first, or the first after a restart
    course: Course  # of the run
    info: Info  # of the last update

    @property
    def aux(self) -> PyTree:
        """What the function returned beside its value, at the parameters as they now are."""
        return self.here.aux


def products(memory: State) -> Array:
    """int32[]: Hessian-vector products that directions have counted in their states, in a field `products`."""
    if isinstance(memory, tuple) and not hasattr(memory, "products"):
        return sum((products(part) for part in memory), start=zero_count())
    count: Array = getattr(memory, "products", zero_count())
    return count


@cached_factory
def descent(
    direction: GradientTransformation,
    linesearch: GradientTransformation,
    *,
    gtol: Hyper | None = None,
    ftol: Hyper | None = None,
    name: str | None = None,
) -> GradientTransformation:
    """Steps along a direction, as long as a line search finds them; `minimize` takes it flat.

    x <- x + a p,  p the update of direction, a by the search

    direction: its updates are the p to search along, so they point downhill: chain(scale_by_lbfgs(), scale(-1.0)).
    linesearch: scale_by_zoom_linesearch(…) and its kin.
    gtol: converged when max|g| <= gtol, >= 0; `tol` takes its place. None: sqrt(eps) min(1, G / (16 eps**(1/6))), G the
        largest max|g| so far, or sqrt(eps) where a minimum along p is seen within sqrt(eps) |x| or, where searches
        begin with the full step, eps**0.38 min(1, G / (16 eps**(1/6))) and the next one is to lower f by no more than
        eps**(5/6), or less if f has hardly fallen; there max|g| <= eps**(1/4) |f|, too, unless |f| <= eps**(5/6).
    ftol: converged when f falls, and was to fall, by no more than ftol |f|, and |g| not by half, in three steps shorter
        than eps**(1/3) |x|, or in one than sqrt(eps) |x|; >= 0; None: eps. Also when the step is lost in x's rounding.
    name: how errors call it; None: a name made of its two parts'.

    init(params, value_fn=, has_aux=False) and update(updates, state, params, value_fn=, has_aux=False, tol=None):
    the flat reading. An update evaluates value_fn and its gradient at x + a p for one a, the first at x itself; it is
    zero until the search has found its a, and then a p. The direction sees the parameters as one vector, float32 at
    least. After a search that finds nothing the direction starts anew, once; the next such search ends the run.
    init(params) and update(updates, state, params, value=, grad=, value_fn=): optax's reading.

    State: that of the direction, and 3 numbers a parameter. A gtol or tol that was given is sought for as long as |g|
    falls by half, though f tells no more. UNBOUNDED where f is -inf at a trial, or falls on and on along steps that get
    longer but no flatter.

    Raises TransformationError if direction is no transformation or linesearch none of the scale_by_*_linesearch;
    HyperparameterError for negative tolerances; StateError, in update, for a state of neither reading. Source: Nocedal
    & Wright 2006, chapter 3. Not for directions that may point uphill (Adam's may).

    >>> method = jo.descent(jo.chain(jo.scale_by_lbfgs(), jo.scale(-1.0)), jo.scale_by_zoom_linesearch(20))
    >>> state = method.init(jnp.zeros(2))
    """
    direction = errors.check_pair("descent", "direction", direction)
    searching = method_of(errors.check_pair("descent", "linesearch", linesearch)).search
    _check_search("descent", linesearch.update, searching is not None)
    name = name or f"descent({name_of(direction)}, {name_of(linesearch)})"
    check_given("descent", NONNEGATIVE, gtol=gtol, ftol=ftol)
    nested, flat = _nested(name, direction, linesearch), _flat(name, direction, searching.flat, gtol, ftol)

    def init(params: Params, **problem: Any) -> State:
        return flat.init(params, **problem) if problem.get("value_fn") is not None else nested.init(params)

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        if isinstance(state, DescentState):
            return flat.update(updates, state, params, **extra)
        if type(state) is not tuple:
            wrong_state(name, state, DescentState)
        return nested.update(updates, state, params, **extra)

    return make_transformation(Method(name, solver=True), init, update)


def _check_search(name: str, update: Any, fits: bool) -> None:
    """What goes along a direction must be a line search of this package."""
    if not fits:
        say(TransformationError, name, "linesearch must be one of the scale_by_*_linesearch",
            describe(update),
            "Put any other transformation behind the direction with chain")  # fmt: skip


DOWNHILL = transform("downhill", lambda params: EmptyState(), lambda g, state: (jax.tree.map(jnp.negative, g), state))


def searched(
    name: str,
    direction: GradientTransformation,
    linesearch: GradientTransformation | None,
    gtol: Hyper | None,
    ftol: Hyper | None,
) -> GradientTransformation:
    """`descent`, or a plain chain where linesearch is None or foreign."""
    if linesearch is None:
        return direction
    if method_of(linesearch).search is None:
        return chain(direction, linesearch)
    return descent(direction, linesearch, gtol=gtol, ftol=ftol, name=name)


def _nested(name: str, direction: GradientTransformation, linesearch: GradientTransformation) -> GradientTransformation:
    """chain(direction, linesearch), with the tree made one vector once for both."""
    searching = method_of(linesearch).search

    def init(params: Params) -> tuple[State, ...]:
        return *_parts(direction.init(tree.zeros_vector(params))), linesearch.init(params)

    def update(
        updates: Updates,
        state: tuple[State, ...],
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        value: Any = None,
        grad: Updates = None,
        has_aux: bool = False,
        **extra_args: Any,
    ) -> tuple[Updates, tuple[State, ...]]:
        check_state_tuple(name, state, (name_of(direction), name_of(linesearch)), more=True)
        *memory, search_state = state
        problem = objective(name, params, value_fn, has_aux, extra_args)
        here = check_evaluated(name, value, grad, params)
        g = tree.ravel(updates)[0].astype(problem.x.dtype)
        g_here = g if grad is updates else tree.ravel(here)[0].astype(problem.x.dtype)
        value = jnp.asarray(value).astype(problem.x.dtype)
        p, remembered = filter_kwargs(direction.update, 3)(
            g, memory[0] if len(memory) == 1 else tuple(memory), problem.x, value=value, grad=g_here,
            value_fn=problem.value,
        )  # fmt: skip
        step, search_state = searching.along(problem, p, g_here, value, search_state)
        return problem.unravel(step), (*_parts(remembered), search_state)

    return transform(name, init, update, needs_params=True)


def _parts(state: State) -> tuple[State, ...]:
    """The states of a chain, or the one state of one rule."""
    return state if type(state) is tuple and len(state) > 1 else (state,)


class _Trial(NamedTuple):
    """One trial of a search."""

    count: Array  # int32[]     updates made, this one too
    first: Array  # bool[]      is it the first update, at the start itself?
    line: LineSearchState  # after it
    last: Evaluation  # at the trial
    safe: Evaluation  # at the safe point
    bottomless: Array  # bool[]  did it find -inf?
    close: Array  # bool[]      is g small, and a minimum along p near?


class _End(NamedTuple):
    """Where a search ended."""

    x: Array  # float[n]
    step: Array  # float[n]      that leads there, 0 if it found nothing
    stepsize: Array  # float[]
    value: Array  # float[]
    here: Evaluation
    moved: Array  # bool[]       is it elsewhere than before?
    arrived: Array  # bool[]     that, or is it the start?


class _Aim(NamedTuple):
    """Where to look next."""

    direction: Array  # float[n]  p
    slope: Array  # float[]       g'p
    memory: State
    guess: Array  # float[]       the first stepsize to try


def _flat(
    name: str, direction: GradientTransformation, search: LineSearch, gtol: Hyper | None, ftol: Hyper | None
) -> GradientTransformation:
    def init(
        params: Params, *, value_fn: Callable[..., Any] | None = None, has_aux: bool = False, **extra_args: Any
    ) -> DescentState:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        nil, no = jnp.zeros_like(problem.x), jnp.zeros((), bool)
        zero = jnp.zeros((), nil.dtype)
        aux = jax.eval_shape(problem.evaluate, problem.x)[1] if has_aux else None
        here = Evaluation(nil, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), aux))
        inf = jnp.full_like(zero, jnp.inf)
        line = search.start(zero, zero, zero)
        run, info = course(zero, nil, zero), first_info(inf, inf, status())
        return own_buffers(DescentState(zero_count(), here, nil, direction.init(nil), line, here, no, run, info))

    def update(
        updates: Updates,
        state: DescentState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, DescentState]:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        eps = np.finfo(problem.x.dtype).eps
        limits = (
            tolerance(problem.x, state.count, eps**0.5, gtol, tol), tolerance(problem.x, state.count, eps, ftol)
        )  # fmt: skip
        trial, info = _try(search, problem, state, limits[0])

        def turn() -> tuple[Array, DescentState]:
            """The search is over: the step, and where to look next."""
            end = _arrive(problem, state, trial)
            aim = _aim(direction, search, problem, state, trial, end)
            run, stands = _judge(search, problem, state, trial, end, aim, *limits)
            told = info._replace(
                value=end.value, optimality=largest(end.here.grad),
                step_norm=jnp.where(end.moved, norm(end.step), info.step_norm), accepted=end.moved,
                evaluations=info.evaluations._replace(product=products(aim.memory)), status=stands,
            )  # fmt: skip
            line = search.start(end.value, aim.slope, aim.guess)
            return end.step, DescentState(
                trial.count, end.here, aim.direction, aim.memory, line, end.here, end.moved, run, told
            )

        def go_on() -> tuple[Array, DescentState]:
            return jnp.zeros_like(problem.x), state._replace(
                count=trial.count, line=trial.line, safe=trial.safe, info=info
            )

        over = once(trial.first | trial.line.over | trial.bottomless | trial.close)
        step, new = jax.lax.cond(over, turn, go_on)
        return problem.unravel(step), new

    return transform(name, init, update, needs_params=True, state_type=DescentState, solver=True)


def _try(search: LineSearch, problem: Objective, state: DescentState, gtol: Tolerance) -> tuple[_Trial, Info]:
    """The next trial of the search; and the info with its evaluations, no step taken."""
    first, count = state.count == 0, next_count(state.count)
    p, info = state.direction, state.info
    line, last, safe, taken = try_one(search, problem, p, state.line, state.safe, at_start=first)
    gradients = count if search.needs_slope else info.evaluations.gradient + taken.astype(jnp.int32)
    evaluations = Evaluations(count, gradients, products(state.memory))
    bottomless, close = line.bottomless & ~first, jnp.zeros((), bool)
    if not gtol.asked and search.needs_slope:  # g is small, and along p a minimum is near
        close = ~first & (info.optimality <= gtol.value) & (line.done | (line.phase > 0))
        close &= short(state.course, problem.x, line.last.stepsize * p, 0.5)
    trial = _Trial(count, first, line, last, safe, bottomless, close)
    return trial, info._replace(accepted=jnp.zeros((), bool), evaluations=evaluations)


def _arrive(problem: Objective, state: DescentState, trial: _Trial) -> _End:
    """Where the search ends, after this trial."""
    line, first, x, p = trial.line, trial.first, problem.x, state.direction
    from_last = once(first | (takes_last(line) & ~trial.bottomless))
    end = tree.where(from_last, line.last, line.safe)
    x_new = jnp.where(~first & (end.stepsize > 0), problem.reach(x, end.stepsize * p), x)
    moved = once(jnp.any(x_new != x))
    arrived = first | moved
    step = jnp.where(moved, end.stepsize * p, 0)
    value = jnp.where(arrived, end.value, state.info.value)
    here = tree.where(arrived, tree.where(from_last, trial.last, trial.safe), state.here)
    return _End(x_new, step, end.stepsize, value, here, moved, arrived)


def _aim(
    direction: GradientTransformation,
    search: LineSearch,
    problem: Objective,
    state: DescentState,
    trial: _Trial,
    end: _End,
) -> _Aim:
    """The direction from where the search ended, or -g where that does not lead down; anew where it found nothing."""
    at, g = problem._replace(x=end.x), end.here.grad
    memory = tree.where(end.arrived, state.memory, direction.init(problem.x))
    p, memory = filter_kwargs(direction.update, 3)(
        g, memory, at.x, value=end.value, grad=g, value_fn=at.value
    )  # fmt: skip
    slope = g @ p
    down = slope < 0
    p, slope = jnp.where(down, p, -g), jnp.where(down, slope, -(g @ g))
    guess = jnp.where(end.moved, search.guess(end.stepsize, trial.line.start.slope, slope), search.first_guess(p))
    # what never met an interval goes on from where it stopped
    outward = end.moved & trial.line.outward
    guess = jnp.where(outward, jnp.maximum(guess, norm(end.step) / or_one(norm(p))), guess)
    return _Aim(p, slope, memory, guess)


def _judge(
    search: LineSearch,
    problem: Objective,
    state: DescentState,
    trial: _Trial,
    end: _End,
    aim: _Aim,
    gtol: Tolerance,
    ftol: Tolerance,
) -> tuple[Course, Status]:
    """Is the run over, where this search ended?"""
    x, info, line, first, late = problem.x, state.info, trial.line, trial.first, trial.count > 2
    value, g, moved, eps = end.value, end.here.grad, end.moved, np.finfo(x.dtype).eps
    optimality = largest(g)
    decrease, predicted = info.value - value, -end.stepsize * line.start.slope
    unheard = ftol.value * jnp.abs(value)
    lost = moved & late & (decrease <= unheard) & (predicted <= unheard)
    lost &= optimality > 0.5 * info.optimality  # and g no longer tells more than f
    gone = moved & spent(state.course, end.x, value, end.step, decrease)
    run = tree.where(first, course(value, x, optimality), onward(state.course, optimality, moved, lost | gone))

    ahead = -0.5 * aim.guess * aim.slope  # what the next step should bring, to first order
    level = flat(run, end.x, end.step, lost)
    brief = short(run, end.x, end.step, 0.5) & short(run, end.x, aim.guess * aim.direction, 0.5)
    level |= moved & late & brief & (ahead <= unheard) & ~pending(gtol, optimality, info.optimality)

    small = optimality <= bound(run, gtol)
    if not gtol.asked:
        small |= trial.close
    if not gtol.asked and search.unit:
        near = moved & late & (optimality <= eps**0.38 * unit(run.steepest))
        near &= ahead <= eps ** (5 / 6) * unit(run.value - value)
        # no stop in a flat valley
        near &= (optimality <= eps**0.25 * jnp.abs(value)) | (jnp.abs(value) <= eps ** (5 / 6))
        small |= near
    still = moved & nowhere(problem, end.x, 0.25 * (end.x - x))
    still |= gone & (run.idle >= IDLE)
    if search.unit:
        still |= moved & nowhere(problem, end.x, aim.guess * aim.direction)
    stuck = ~end.arrived & ~state.follows
    last = line.last.stepsize * state.direction
    unfelt = -line.guess * line.start.slope <= 10 * eps * jnp.abs(value)  # f cannot tell such a step from none
    narrowed = short(state.course, x, last, 0.5)
    still |= stuck & (value < state.course.value) & nowhere(problem, x, last)
    good = small | still | level | (stuck & unfelt & narrowed)
    falls = trial.bottomless | (good & carried_off(run, end.x, value, g))
    falls |= moved & ~good & endless(run, end.x, value, end.step, state.here.grad, g)
    return run, status(
        (
            (info.status.code == np.int32(Code.NOT_FINITE)) | (first & ~jnp.isfinite(value + optimality)),
            Code.NOT_FINITE,
        ),
        (falls, Code.UNBOUNDED),
        (small, Code.GRADIENT_SMALL),
        (still, Code.STEP_SMALL),
        (good, Code.DECREASE_SMALL),
        (stuck, Code.SEARCH_FAILED),
    )


def nowhere(problem: Objective, x: Array, p: Array) -> Array:
    """bool[]: is the step p from x lost in the rounding of the parameters?"""
    return jnp.all(problem.reach(x, p) == x)


def check_vector(name: str, vector: Any, size: int) -> None:
    """A state that holds all leaves as one vector fits trees with as many elements."""
    if np.shape(vector) != (size,):
        say(StateError, name, f"the state is for parameters of {math.prod(np.shape(vector))} elements in all",
            f"gradients of {size}", "Pass trees made for the same parameters, or make the state anew with init. "
            "A leaf without gradient cannot be left out here: use masked")  # fmt: skip
