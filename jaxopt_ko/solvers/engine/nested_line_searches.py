"""Line searches as transformations: updates come in as a direction p and go out as a step a p.

Chained behind a direction they are optax's reading, the whole search in one update. Handed to `descent`, or to a
method's `linesearch`, they are read flat, one trial an update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.method import cached_factory, with_record
from jaxopt_ko.core.numerics import zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE, THRESHOLD, StateError, check_choice, check_size, say
from jaxopt_ko.solvers.engine.convergence import check_given
from jaxopt_ko.solvers.engine.line_search import (
    GUESSES,
    Evaluation,
    LineSearch,
    LineSearchState,
    backtracking,
    check_evaluated,
    hager_zhang,
    takes_last,
    try_one,
    zoom,
)
from jaxopt_ko.solvers.problem.objective import Objective, as_jax_grad, objective
from jaxopt_ko.types import GradientTransformation, Hyper, Params, State, Updates


class BacktrackingLinesearchInfo(NamedTuple):
    """How the last search went."""

    num_linesearch_steps: Array  # int32[]
    decrease_error: Array  # float[]  by how much the last trial missed sufficient decrease; 0 if it did not


class ScaleByBacktrackingLinesearchState(NamedTuple):
    """State of `scale_by_backtracking_linesearch`, at the parameters with the update added."""

    learning_rate: Array  # float[]  the last stepsize tried; it was taken unless the update is zero
    value: Array  # float[]          inf at first
    grad: Updates  # like params, or None without store_grad
    info: BacktrackingLinesearchInfo  # of the last search


class ZoomLinesearchInfo(NamedTuple):
    """How the last search went."""

    num_linesearch_steps: Array  # int32[]
    decrease_error: Array  # float[]   by how much the last trial missed sufficient decrease; 0 if it did not
    curvature_error: Array  # float[]  by how much it missed small curvature


class SlopeLinesearchInfo(NamedTuple):
    """The same of a search whose first trial follows from the slopes of two searches."""

    num_linesearch_steps: Array  # int32[]
    decrease_error: Array  # float[]
    curvature_error: Array  # float[]
    slope: Array  # float[]            phi'(0), at which the search began; -inf at first


class ScaleByZoomLinesearchState(NamedTuple):
    """State of `scale_by_zoom_linesearch` and its kin, at the parameters with the update added."""

    learning_rate: Array  # float[]  the stepsize that was found, 0 if none
    value: Array  # float[]          inf at first
    grad: Updates  # like params
    info: ZoomLinesearchInfo | SlopeLinesearchInfo  # of the last search


@cached_factory
def scale_by_backtracking_linesearch(
    max_backtracking_steps: int,
    slope_rtol: Hyper = 1e-4,
    decrease_factor: Hyper = 0.8,
    increase_factor: Hyper = 1.5,
    max_learning_rate: Hyper = 1.0,
    atol: Hyper = 0.0,
    rtol: Hyper = 0.0,
    store_grad: bool = False,
    verbose: bool = False,
) -> GradientTransformation:
    """The first stepsize of a, decrease_factor a, … that lowers f enough.

    u = a p, p what comes in, with f(x + a p) <= (1 + rtol) f(x) + slope_rtol a g'p + atol

    max_backtracking_steps: trials in one search, an int >= 1.
    slope_rtol: the part of the decrease that the slope promises, >= 0; 1e-4, so that almost any decrease will do.
    decrease_factor: what a is multiplied by after a trial, > 0, below 1; 0.8 as in optax.
    increase_factor: a search begins at this times the last a, > 0; infinity begins at max_learning_rate always.
    max_learning_rate: the longest stepsize, > 0; 1, the full step.
    atol: an amount of f that is let pass besides, >= 0.
    rtol: the same as a part of f(x), >= 0.
    store_grad: keep the gradient at the end, for `value_and_grad_from_state`; False, as it costs a reverse pass a
        trial.
    verbose: print the searches that fail.

    update(updates, state, params, value=, grad=, value_fn=, has_aux=False): value and grad at params. State: some
    numbers; with store_grad one a parameter. A search that fails takes its last step if f does not rise, and else none.

    Raises HyperparameterError, when made, for numbers outside their domain; MissingArgumentError, when traced, without
    value, grad, value_fn or params. Source: Nocedal & Wright 2006, algorithm 3.1. Not behind directions that may point
    uphill (Adam's may).

    >>> tx = jo.chain(jo.sgd(1.0), jo.scale_by_backtracking_linesearch(20))
    >>> x = jnp.ones(2)
    >>> f = lambda x: jnp.sum(x**2)
    >>> u, state = tx.update(jax.grad(f)(x), tx.init(x), x, value=f(x), grad=jax.grad(f)(x), value_fn=f)
    """
    name = "scale_by_backtracking_linesearch"
    check_size(name, "max_backtracking_steps", max_backtracking_steps)
    check_given(name, POSITIVE, decrease_factor=decrease_factor, max_learning_rate=max_learning_rate)
    check_given(name, THRESHOLD, increase_factor=increase_factor)
    check_given(name, NONNEGATIVE, slope_rtol=slope_rtol, atol=atol, rtol=rtol)
    search = backtracking(
        max_backtracking_steps, slope_rtol, decrease_factor, increase_factor, max_learning_rate, atol, rtol
    )

    def init(params: Params) -> ScaleByBacktrackingLinesearchState:
        one = jnp.ones((), tree.zeros_vector(params).dtype)
        inf = jnp.full_like(one, jnp.inf)
        grad = tree.zeros_like(params) if store_grad else None
        info = BacktrackingLinesearchInfo(zero_count(), jnp.copy(inf))
        return ScaleByBacktrackingLinesearchState(one, inf, grad, info)

    def along(
        problem: Objective, p: Array, g: Array, value: Array, state: ScaleByBacktrackingLinesearchState
    ) -> tuple[Array, ScaleByBacktrackingLinesearchState]:
        line, a, value, g = _search(
            name, search, problem, p, g, value, state.learning_rate, -jnp.inf, store_grad, verbose
        )
        info = BacktrackingLinesearchInfo(line.count, search.missed(line, line.last)[0])
        grad = as_jax_grad(problem, g) if store_grad else None
        return a * p, ScaleByBacktrackingLinesearchState(line.last.stepsize, value, grad, info)

    return _searching(name, init, along, search, ScaleByBacktrackingLinesearchState)


@cached_factory
def scale_by_zoom_linesearch(
    max_linesearch_steps: int,
    max_learning_rate: Hyper | None = None,
    tol: Hyper = 0.0,
    increase_factor: Hyper = 2.0,
    slope_rtol: Hyper = 1e-4,
    curv_rtol: Hyper = 0.9,
    approx_dec_rtol: Hyper | None = 1e-6,
    stepsize_precision: Hyper = 1e-5,
    initial_guess_strategy: str = "keep",
    verbose: bool = False,
) -> GradientTransformation:
    """A stepsize of sufficient decrease and small curvature, the strong Wolfe conditions.

    u = a p,  p what comes in
    f(x + a p)  <= f(x) + slope_rtol a g'p
    |g(x + a p)'p| <= curv_rtol |g'p|
    or, in the place of the first:
    g(x + a p)'p <= (2 slope_rtol - 1) g'p and f(x + a p) <= f(x) + approx_dec_rtol |f(x)|

    max_linesearch_steps: trials in one search, an int >= 1.
    max_learning_rate: the longest stepsize, > 0; None: no bound.
    tol: on the amounts by which the conditions may be missed, >= 0.
    increase_factor: what a is multiplied by while f still falls steeply, > 0; 2 as in optax.
    slope_rtol: the part of the decrease that the slope promises, >= 0; 1e-4, so that almost any decrease will do.
    curv_rtol: the part of the slope that may be left, > 0; 0.9 behind quasi-Newton directions, 0.1 behind conjugate
        gradients.
    approx_dec_rtol: by how much f may seem to rise near a minimum, where its decrease drowns in rounding, >= 0; None:
        not.
    stepsize_precision: an interval this short is given up, >= 0.
    initial_guess_strategy: "one", "keep" the last stepsize, or "slope": the last one times the ratio of the slopes.
    verbose: print the searches that fail.

    update(updates, state, params, value=, grad=, value_fn=, has_aux=False): value and grad at params. State: one number
    a parameter. Interpolates as optax does when nested; flat, where only the count of evaluations matters, with the
    slopes of both ends. When the budget ends the best point of sufficient decrease is taken, and if there is none,
    none.

    Raises HyperparameterError, when made, for numbers outside their domain; MissingArgumentError, when traced, without
    value, grad, value_fn or params. Source: Nocedal & Wright 2006, algorithms 3.5 and 3.6; Hager & Zhang 2005, equation
    (4.1). Not behind directions that may point uphill (Adam's may).

    >>> tx = jo.chain(jo.scale_by_lbfgs(), jo.scale(-1.0), jo.scale_by_zoom_linesearch(20))
    >>> state = tx.init(jnp.zeros(2))
    """
    name = "scale_by_zoom_linesearch"
    check_size(name, "max_linesearch_steps", max_linesearch_steps)
    check_choice(name, "initial_guess_strategy", initial_guess_strategy, GUESSES)
    check_given(
        name, POSITIVE, max_learning_rate=max_learning_rate, increase_factor=increase_factor, curv_rtol=curv_rtol
    )
    check_given(name, NONNEGATIVE, tol=tol, slope_rtol=slope_rtol, approx_dec_rtol=approx_dec_rtol,
           stepsize_precision=stepsize_precision)  # fmt: skip
    nested, flat = (
        zoom(max_linesearch_steps, max_learning_rate, tol, increase_factor, slope_rtol, curv_rtol, approx_dec_rtol,
             stepsize_precision, initial_guess_strategy, interpolation)
        for interpolation in ("values", "slopes")
    )  # fmt: skip
    return _wolfe(name, nested, flat, verbose, initial_guess_strategy == "slope")


@cached_factory
def scale_by_hager_zhang_linesearch(
    max_linesearch_steps: int,
    max_learning_rate: Hyper | None = None,
    slope_rtol: Hyper = 0.1,
    curv_rtol: Hyper = 0.9,
    approx_dec_rtol: Hyper = 1e-6,
    increase_factor: Hyper = 5.0,
    initial_guess_strategy: str = "slope",
    verbose: bool = False,
) -> GradientTransformation:
    """A stepsize of the Wolfe or the approximate Wolfe conditions, by double secant steps.

    u = a p,  p what comes in

    The conditions are those of `scale_by_zoom_linesearch` with g(x + a p)'p >= curv_rtol g'p in the place of the
    second.

    max_linesearch_steps: trials in one search, an int >= 1.
    max_learning_rate: the longest stepsize, > 0; None: no bound.
    slope_rtol: the part of the decrease that the slope promises, >= 0; 0.1 in the paper.
    curv_rtol: the part of the slope that may be left, > 0; 0.9 in the paper.
    approx_dec_rtol: by how much f may seem to rise near a minimum, as a part of |f|, >= 0; 1e-6 in the paper.
    increase_factor: what a is multiplied by until the minimum is bracketed, > 0; 5 in the paper.
    initial_guess_strategy: "one", "keep" the last stepsize, or "slope": the last one times the ratio of the slopes.
    verbose: print the searches that fail.

    update and state are those of `scale_by_zoom_linesearch`. Finds minima along p to half the digits of f where
    Armijo's condition drowns in f's rounding.

    Raises HyperparameterError, when made, for numbers outside their domain; MissingArgumentError, when traced, without
    value, grad, value_fn or params. Source: Hager & Zhang 2005, SIAM J. Optim. 16, section 4. Not where evaluations are
    to be few and f precise: the zoom search takes fewer.

    >>> method = jo.nonlinear_cg(linesearch=jo.scale_by_hager_zhang_linesearch(30))
    >>> state = method.init(jnp.zeros(2))
    """
    name = "scale_by_hager_zhang_linesearch"
    check_size(name, "max_linesearch_steps", max_linesearch_steps)
    check_choice(name, "initial_guess_strategy", initial_guess_strategy, GUESSES)
    check_given(
        name, POSITIVE, max_learning_rate=max_learning_rate, increase_factor=increase_factor, curv_rtol=curv_rtol
    )
    check_given(name, NONNEGATIVE, slope_rtol=slope_rtol, approx_dec_rtol=approx_dec_rtol)
    search = hager_zhang(
        max_linesearch_steps, max_learning_rate, slope_rtol, curv_rtol, approx_dec_rtol, increase_factor,
        initial_guess_strategy,
    )  # fmt: skip
    return _wolfe(name, search, search, verbose, initial_guess_strategy == "slope")


@options
def value_and_grad_from_state(
    value_fn: Callable[..., Any], *, has_aux: bool = False
) -> Callable[..., tuple[Any, Updates]]:
    """`jax.value_and_grad` of a function, but taken from the state where the last update left them there.

    (value, grad) of the line search in the state, else f evaluated anew

    value_fn: the function to minimize, (params, *args, **kwargs) -> float[], or (float[], aux) with has_aux.
    has_aux: does value_fn return a pair? aux is dropped.

    Returns a function (params, *args, state=state, **kwargs) -> (value, grad): only the first call evaluates f. Raises
    StateError if the state has no value and gradient, or more than one. Source: optax's value_and_grad_from_state. Not
    for a loss whose batch changes from step to step: the value in the state is of the old one.

    >>> tx, f = jo.lbfgs(), lambda x: jnp.sum(x**2)
    >>> value, grad = jo.value_and_grad_from_state(f)(jnp.ones(2), state=tx.init(jnp.ones(2)))
    >>> float(value)
    2.0
    """

    def value_and_grad(params: Params, *args: Any, state: State, **kwargs: Any) -> tuple[Any, Updates]:
        value, grad = _check_one_evaluation("value_and_grad_from_state", _evaluations(state))

        def evaluate() -> tuple[Any, Updates]:
            new, slope = jax.value_and_grad(value_fn, has_aux=has_aux)(params, *args, **kwargs)
            new = new[0] if has_aux else new
            return jnp.asarray(new).astype(value.dtype), jax.tree.map(lambda g, s: s.astype(g.dtype), grad, slope)

        return jax.lax.cond(jnp.isfinite(value), lambda: (value, grad), evaluate)  # type: ignore[no-any-return]

    return value_and_grad


def _check_one_evaluation(name: str, found: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Of all searches in a state, one must have left a value and a gradient."""
    found = [pair for pair in found if pair[1] is not None]
    if len(found) != 1:
        say(StateError, name, "the state must hold the value and the gradient of one line search", f"{len(found)}",
            "Pass the state of a chain with one line search in it, with store_grad=True if it has that")  # fmt: skip
    return found[0]


def _evaluations(state: State) -> list[tuple[Array, Updates]]:
    """The (value, grad) of every search whose state is somewhere in `state`."""
    if isinstance(state, ScaleByZoomLinesearchState | ScaleByBacktrackingLinesearchState):
        return [(state.value, state.grad)]
    if isinstance(state, dict):
        state = tuple(state.values())
    return [found for part in state for found in _evaluations(part)] if isinstance(state, tuple | list) else []


# ---- the search in a loop -------------------------------------------------------------------------------


Along = Callable[[Objective, Array, Array, Array, State], tuple[Array, State]]


class Searching(NamedTuple):
    """A line search as a direction needs it, in the record of its method."""

    along: Along  # nested, on vectors
    flat: LineSearch  # trial by trial


def _searching(
    name: str, init: Callable[[Params], State], along: Along, flat: LineSearch, state_type: type
) -> GradientTransformation:
    def update(
        updates: Updates,
        state: State,
        params: Params,
        *,
        value: Any = None,
        grad: Updates = None,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        **extra_args: Any,
    ) -> tuple[Updates, State]:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        here = check_evaluated(name, value, grad, params)
        p, g = (tree.ravel(t)[0].astype(problem.x.dtype) for t in (updates, here))
        step, state = along(problem, p, g, jnp.asarray(value).astype(p.dtype), state)
        return problem.unravel(step), state

    pair = transform(name, init, update, needs_params=True, state_type=state_type)
    return with_record(pair, search=Searching(along, flat))


def _search(
    name: str,
    search: LineSearch,
    problem: Objective,
    p: Array,
    g: Array,
    value: Array,
    learning_rate: Array,
    slope_before: Any,
    wants_grad: bool,
    verbose: bool,
) -> tuple[LineSearchState, Array, Array, Array]:
    """The whole search along p: how it went, the stepsize, and f and its gradient there."""
    slope = g @ p
    guess = search.guess(learning_rate.astype(p.dtype), jnp.asarray(slope_before, p.dtype), slope)
    start, here = search.start(value, slope, guess), Evaluation(g, None)

    def step(carry: tuple[LineSearchState, Evaluation, Evaluation]) -> tuple[LineSearchState, Evaluation, Evaluation]:
        line, last, safe = carry
        if not (wants_grad or search.needs_slope):
            a = search.trial(line)
            return search.tell(line, a, problem.value(problem.x + a * p), jnp.zeros_like(a)), last, safe
        line, last, safe, _ = try_one(search, problem, p, line, safe)
        return line, last._replace(aux=None), safe._replace(aux=None)

    line, last, safe = jax.lax.while_loop(lambda c: ~c[0].over, step, (start, here, here))
    from_last = takes_last(line)
    end = tree.where(from_last, line.last, line.safe)
    if verbose:
        message = name + ": no good step. value {v}, slope {s}, last stepsize {a}, decrease missed by {d}"
        shown = {"v": value, "s": slope, "a": line.last.stepsize, "d": search.missed(line, line.last)[0]}
        jax.lax.cond(line.failed, lambda: jax.debug.print(message, **shown), lambda: None)  # type: ignore[call-overload]
    return line, end.stepsize, end.value, tree.where(from_last, last, safe).grad


def _wolfe(name: str, nested: LineSearch, flat: LineSearch, verbose: bool, by_slopes: bool) -> GradientTransformation:
    def told(steps: Array, decrease: Array, curvature: Array, slope: Array) -> ZoomLinesearchInfo | SlopeLinesearchInfo:
        if by_slopes:
            return SlopeLinesearchInfo(steps, decrease, curvature, slope)
        return ZoomLinesearchInfo(steps, decrease, curvature)

    def init(params: Params) -> ScaleByZoomLinesearchState:
        one = jnp.ones((), tree.zeros_vector(params).dtype)
        inf = jnp.full_like(one, jnp.inf)
        info = told(zero_count(), jnp.copy(inf), jnp.copy(inf), -jnp.copy(inf))
        return ScaleByZoomLinesearchState(one, inf, tree.zeros_like(params), info)

    def along(
        problem: Objective, p: Array, g: Array, value: Array, state: ScaleByZoomLinesearchState
    ) -> tuple[Array, ScaleByZoomLinesearchState]:
        before = state.info.slope if isinstance(state.info, SlopeLinesearchInfo) else -jnp.inf
        line, a, value, grad = _search(name, nested, problem, p, g, value, state.learning_rate, before, True, verbose)
        info = told(line.count, *nested.missed(line, line.last), line.start.slope)
        return a * p, ScaleByZoomLinesearchState(a, value, as_jax_grad(problem, grad), info)

    return _searching(name, init, along, flat, ScaleByZoomLinesearchState)
