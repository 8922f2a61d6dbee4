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
from jaxopt_ko.core.numerics import first_true, largest, next_count, norm, or_one, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, StateError, TransformationError, check_hyper, describe, say
from jaxopt_ko.solvers.engine.convergence import (
    IDLE,
    Course,
    bound,
    carried_off,
    course,
    endless,
    flat,
    onward,
    pending,
    short,
    spent,
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
    """Steps along `direction`, as long as `linesearch` finds them; `minimize` takes it flat.

    direction: its updates are the p to search along, so they point downhill: chain(scale_by_lbfgs(), scale(-1.0)).
    linesearch: scale_by_zoom_linesearch(...) and its kin.

    init(params, value_fn=, has_aux=False) and update(updates, state, params, value_fn=, has_aux=False, tol=None):
    the flat reading. An update evaluates value_fn and its gradient at x + a p for one a, the first at x itself; it is
    zero until the search has found its a, and then a p. The direction sees the parameters as one vector, float32 at
    least. After a search that finds nothing the direction starts anew, once; the next such search ends the run.
    init(params) and update(updates, state, params, value=, grad=, value_fn=): optax's reading.

    gtol: converged when max|g| <= gtol; `tol` takes its place. By default sqrt(eps) min(1, G / (16 eps**(1/6))), G the
    largest max|g| so far, or sqrt(eps) where a minimum along p is seen within sqrt(eps) |x| or, where searches begin
    with the full step, eps**0.38 min(1, G / (16 eps**(1/6))) and the next one is to lower f by no more than
    eps**(5/6), or less if f has hardly fallen; there max|g| <= eps**(1/4) |f|, too, unless |f| <= eps**(5/6).
    ftol: converged when f falls, and was to fall, by no more than ftol |f|, and |g| not by half, in three steps shorter
    than eps**(1/3) |x|, or in one than sqrt(eps) |x|; eps by default. Also when the step is lost in x's rounding.
    A gtol or tol that was given is sought for as long as |g| falls by half, though f tells no more.
    UNBOUNDED where f is -inf at a trial, or falls on and on along steps that get longer but no flatter.
    name: how errors call it.
    """
    direction = errors.check_pair("descent", "direction", direction)
    searching = method_of(errors.check_pair("descent", "linesearch", linesearch)).search
    _check_search("descent", linesearch.update, searching is not None)
    name = name or f"descent({name_of(direction)}, {name_of(linesearch)})"
    for word, tolerance in (("gtol", gtol), ("ftol", ftol)):
        if tolerance is not None:
            check_hyper("descent", word, tolerance, NONNEGATIVE)
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
        info = Info(
            jnp.full_like(zero, jnp.inf), jnp.full_like(zero, jnp.inf), zero, no,
            Evaluations(zero_count(), zero_count(), zero_count()), Status(jnp.asarray(np.int32(Code.RUNNING))),
        )  # fmt: skip
        line = search.start(zero, zero, zero)
        state = DescentState(
            zero_count(), here, nil, direction.init(nil), line, here, no, course(zero, nil, zero), info
        )  # fmt: skip
        return jax.tree.map(jnp.copy, state)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

    def aim(problem: Objective, memory: State, value: Array, g: Array) -> tuple[Array, Array, State]:
        """The direction from problem.x, the slope along it, the new memory."""
        p, memory = filter_kwargs(direction.update, 3)(
            g, memory, problem.x, value=value, grad=g, value_fn=problem.value
        )
        slope = g @ p
        down = slope < 0
        return jnp.where(down, p, -g), jnp.where(down, slope, -(g @ g)), memory

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
        count, here, p, memory, line, safe, follows, run, info = state
        x = problem.x
        eps = np.finfo(x.dtype).eps
        given = gtol if tol is None else tol
        gtol_ = jnp.asarray(eps**0.5 if given is None else value_at(given, count), x.dtype)
        ftol_ = jnp.asarray(eps if ftol is None else value_at(ftol, count), x.dtype)

        first, count = count == 0, next_count(count)
        line, last, safe, taken = try_one(search, problem, p, line, safe, at_start=first)
        gradients = count if search.needs_slope else info.evaluations.gradient + taken.astype(jnp.int32)
        info = info._replace(accepted=jnp.zeros((), bool), evaluations=Evaluations(count, gradients, products(memory)))
        bottomless, close = line.bottomless & ~first, jnp.zeros((), bool)
        if given is None and search.needs_slope:  # g is small, and along p a minimum is near
            close = ~first & (info.optimality <= gtol_) & (line.done | (line.phase > 0))
            close &= short(run, x, line.last.stepsize * p, 0.5)

        def turn() -> tuple[Array, Evaluation, Array, State, LineSearchState, Evaluation, Array, Course, Info]:
            """The search is over: the step, and where to look next."""
            from_last = first | (takes_last(line) & ~bottomless)
            end = tree.where(from_last, line.last, line.safe)
            x_new = jnp.where(~first & (end.stepsize > 0), problem.reach(x, end.stepsize * p), x)
            moved = jnp.any(x_new != x)
            arrived = first | moved
            step = jnp.where(moved, end.stepsize * p, 0)
            value = jnp.where(arrived, end.value, info.value)
            new = tree.where(arrived, tree.where(from_last, last, safe), here)
            start = tree.where(arrived, memory, direction.init(x))
            p_new, slope, remembered = aim(problem._replace(x=x_new), start, value, new.grad)
            guess = jnp.where(moved, search.guess(end.stepsize, line.start.slope, slope), search.first_guess(p_new))
            # what never met an interval goes on from where it stopped
            guess = jnp.where(moved & line.outward, jnp.maximum(guess, norm(step) / or_one(norm(p_new))), guess)

            # Is it over?
            optimality = largest(new.grad)
            decrease, predicted = info.value - value, -end.stepsize * line.start.slope
            unheard = ftol_ * jnp.abs(value)
            lost = moved & (count > 2) & (decrease <= unheard) & (predicted <= unheard)
            lost &= optimality > 0.5 * info.optimality  # and g no longer tells more than f
            gone = moved & spent(run, x_new, value, step, decrease)
            after = tree.where(first, course(value, x, optimality), onward(run, optimality, moved, lost | gone))

            ahead = -0.5 * guess * slope  # what the next step should bring, to first order
            level = flat(after, x_new, step, lost)
            brief = short(after, x_new, step, 0.5) & short(after, x_new, guess * p_new, 0.5)
            level |= moved & (count > 2) & brief & (ahead <= unheard) & ~pending(given, optimality, info.optimality)

            small = optimality <= bound(after, gtol_, given)
            if given is None:
                small |= close
            if given is None and search.unit:
                near = moved & (count > 2) & (optimality <= eps**0.38 * unit(after.steepest))
                near &= ahead <= eps ** (5 / 6) * unit(after.value - value)
                # no stop in a flat valley
                near &= (optimality <= eps**0.25 * jnp.abs(value)) | (jnp.abs(value) <= eps ** (5 / 6))
                small |= near
            still = moved & nowhere(problem, x_new, 0.25 * (x_new - x))
            still |= gone & (after.idle >= IDLE)
            if search.unit:
                still |= moved & nowhere(problem, x_new, guess * p_new)
            stuck = ~arrived & ~follows
            unfelt = -line.guess * line.start.slope <= 10 * eps * jnp.abs(value)  # f cannot tell such a step from none
            narrowed = short(run, x, line.last.stepsize * p, 0.5)
            still |= stuck & (value < run.value) & nowhere(problem, x, line.last.stepsize * p)
            good = small | still | level | (stuck & unfelt & narrowed)
            falls = bottomless | (good & carried_off(after, x_new, value, new.grad))
            falls |= moved & ~good & endless(after, x_new, value, step, here.grad, new.grad)
            code = first_true(
                [
                    (info.status.code == np.int32(Code.NOT_FINITE)) | (first & ~jnp.isfinite(value + optimality)),
                    falls,
                    small,
                    still,
                    good,
                    stuck,
                ],
                [
                    Code.NOT_FINITE, Code.UNBOUNDED, Code.GRADIENT_SMALL, Code.STEP_SMALL, Code.DECREASE_SMALL,
                    Code.SEARCH_FAILED,
                ],
                Code.RUNNING,
            )  # fmt: skip
            told = info._replace(
                value=value, optimality=optimality, step_norm=jnp.where(moved, norm(step), info.step_norm),
                accepted=moved, evaluations=info.evaluations._replace(product=products(remembered)),
                status=Status(code),
            )  # fmt: skip
            return step, new, p_new, remembered, search.start(value, slope, guess), new, moved, after, told

        def go_on() -> tuple[Array, Evaluation, Array, State, LineSearchState, Evaluation, Array, Course, Info]:
            return jnp.zeros_like(p), here, p, memory, line, safe, follows, run, info

        step, *rest = jax.lax.cond(first | line.over | bottomless | close, turn, go_on)
        return problem.unravel(step), DescentState(count, *rest)

    return transform(name, init, update, needs_params=True, state_type=DescentState, solver=True)


def nowhere(problem: Objective, x: Array, p: Array) -> Array:
    """bool[]: is the step p from x lost in the rounding of the parameters?"""
    return jnp.all(problem.reach(x, p) == x)


def check_vector(name: str, vector: Any, size: int) -> None:
    """A state that holds all leaves as one vector fits trees with as many elements."""
    if np.shape(vector) != (size,):
        say(StateError, name, f"the state is for parameters of {math.prod(np.shape(vector))} elements in all",
            f"gradients of {size}", "Pass trees made for the same parameters, or make the state anew with init. "
            "A leaf without gradient cannot be left out here: use masked")  # fmt: skip
