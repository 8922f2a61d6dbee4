"""Descent: any direction with any line search, read in two ways.

flat     init(params, value_fn=f): one update is one evaluation of f and its gradient, at one trial point
nested   init(params): one update is one iteration, with the whole search in a loop inside, as in optax
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors, tree
from jaxopt_ko.compose import chain
from jaxopt_ko.errors import NONNEGATIVE, check_hyper
from jaxopt_ko.lift import name_of, named, once, taking, transform
from jaxopt_ko.numerics import next_count, norm, value_at, zero_count
from jaxopt_ko.solvers.linesearch import SearchUpdate
from jaxopt_ko.solvers.objective import Objective, objective
from jaxopt_ko.solvers.search import Line, LineSearch, Reached, pick, step_length, try_one
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


class DescentState(NamedTuple):
    """State of the flat reading; the vectors hold all leaves one after the other, n elements in all."""

    count: Array  # int32[]         updates made
    here: Reached  # at the parameters as they now are
    direction: Array  # float[n]    p, along which the search goes
    memory: State  # of the direction
    line: Line  # of the search
    safe: Reached  # at the safe point of the search
    restarts: Array  # int32[]      searches that failed and made the direction forget
    forgot: Array  # bool[]         is this direction the first of its kind, or the first since a restart?
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


@once
def descent(
    direction: GradientTransformation,
    linesearch: GradientTransformation,
    *,
    gtol: Hyper | None = None,
    ftol: Hyper | None = None,
) -> GradientTransformation:
    """Steps along `direction`, as long as `linesearch` finds them; `minimize` takes it flat.

    direction: its updates are the p to search along, so they point downhill: chain(scale_by_lbfgs(), scale(-1.0)).
    linesearch: scale_by_zoom_linesearch(...) and its kin.

    init(params, value_fn=, has_aux=False) and update(updates, state, params, value_fn=, has_aux=False, tol=None):
    the flat reading. An update evaluates value_fn and its gradient at x + a p for one a, the first at x itself; it is
    zero until the search has found its a, and then a p. The direction sees the parameters as one vector, float32 at
    least. After a search that finds nothing the direction starts anew, once; the next such search ends the run.
    init(params) and update(updates, state, params, value=, grad=, value_fn=): optax's reading.

    gtol: converged when max|g| <= gtol max(1, |f|); eps**(2/3) by default; `tol` takes its place.
    ftol: converged when f falls, and was to fall, by no more than ftol |f|, and |g| not by half; eps by default.
    """
    direction = errors.check_pair("descent", "direction", direction)
    searching: Any = errors.check_pair("descent", "linesearch", linesearch).update
    errors.check_search("descent", searching, isinstance(searching, SearchUpdate))
    who = f"descent({name_of(direction)}, {name_of(linesearch)})"
    for name, tolerance in (("gtol", gtol), ("ftol", ftol)):
        if tolerance is not None:
            check_hyper("descent", name, tolerance, NONNEGATIVE)
    nested, flat = _nested(who, direction, linesearch), _flat(who, direction, searching.flat, gtol, ftol)

    def init(params: Params, **problem: Any) -> State:
        return flat.init(params, **problem) if problem.get("value_fn") is not None else nested.init(params)

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        if isinstance(state, DescentState):
            return flat.update(updates, state, params, **extra)
        if type(state) is not tuple:
            errors.check_state_type(who, state, DescentState)
        return nested.update(updates, state, params, **extra)

    return GradientTransformation(init, named(update, who))


def searched(
    direction: GradientTransformation,
    linesearch: GradientTransformation | None,
    gtol: Hyper | None,
    ftol: Hyper | None,
) -> GradientTransformation:
    """`descent`, or a plain chain where linesearch is None or foreign."""
    if linesearch is None:
        return direction
    if not isinstance(linesearch.update, SearchUpdate):
        return chain(direction, linesearch)
    return descent(direction, linesearch, gtol=gtol, ftol=ftol)


def _nested(who: str, direction: GradientTransformation, linesearch: GradientTransformation) -> GradientTransformation:
    """chain(direction, linesearch), with the tree made one vector once for both."""
    searching: Any = linesearch.update

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
        **words: Any,
    ) -> tuple[Updates, tuple[State, ...]]:
        errors.check_state_tuple(who, state, (name_of(direction), name_of(linesearch)), more=True)
        *memory, search_state = state
        problem = objective(who, params, value_fn, has_aux, words)
        here = errors.check_evaluated(who, value, grad, params)
        g = tree.ravel(updates)[0].astype(problem.x.dtype)
        g_here = g if grad is updates else tree.ravel(here)[0].astype(problem.x.dtype)
        value = jnp.asarray(value).astype(problem.x.dtype)
        p, remembered = taking(direction.update, 3)(
            g, memory[0] if len(memory) == 1 else tuple(memory), problem.x, value=value, grad=g_here,
            value_fn=problem.value,
        )  # fmt: skip
        step, search_state = searching.along(problem, p, g_here, value, search_state)
        return problem.unravel(step), (*_parts(remembered), search_state)

    return transform(who, init, update, needs_params=True)


def _parts(state: State) -> tuple[State, ...]:
    """The states of a chain, or the one state of one rule."""
    return state if type(state) is tuple and len(state) > 1 else (state,)


def _flat(
    who: str, direction: GradientTransformation, search: LineSearch, gtol: Hyper | None, ftol: Hyper | None
) -> GradientTransformation:
    def init(
        params: Params, *, value_fn: Callable[..., Any] | None = None, has_aux: bool = False, **words: Any
    ) -> DescentState:
        problem = objective(who, params, value_fn, has_aux, words)
        nil, no = jnp.zeros_like(problem.x), jnp.zeros((), bool)
        zero = jnp.zeros((), nil.dtype)
        _, aux, _ = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(problem.evaluate, problem.x))
        here = Reached(nil, aux)
        info = Info(
            jnp.full_like(zero, jnp.inf), jnp.full_like(zero, jnp.inf), zero, no,
            Evaluations(zero_count(), zero_count(), zero_count()), Status(jnp.asarray(np.int32(Code.RUNNING))),
        )  # fmt: skip
        line = search.start(zero, zero, zero)
        state = DescentState(zero_count(), here, nil, direction.init(nil), line, here, zero_count(), no, info)
        return jax.tree.map(jnp.copy, state)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

    def aim(problem: Objective, memory: State, value: Array, g: Array) -> tuple[Array, Array, State]:
        """The direction from problem.x, the slope along it, the new memory."""
        p, memory = taking(direction.update, 3)(g, memory, problem.x, value=value, grad=g, value_fn=problem.value)
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
        **words: Any,
    ) -> tuple[Updates, DescentState]:
        problem = objective(who, params, value_fn, has_aux, words)
        count, here, p, memory, line, safe, restarts, forgot, info = state
        x = problem.x
        eps = np.finfo(x.dtype).eps
        given = gtol if tol is None else tol
        gtol_ = jnp.asarray(eps**0.5 if given is None else value_at(given, count), x.dtype)
        ftol_ = jnp.asarray(eps if ftol is None else value_at(ftol, count), x.dtype)

        first = count == 0
        line, last, safe, taken = try_one(search, problem, p, line, safe, at_start=first)
        over = first | line.done | line.failed
        a = step_length(line)
        moved = over & (a > 0) & ~first
        arrived = first | moved
        step = jnp.where(moved, a * p, jnp.zeros_like(p))
        from_last = first | (a == line.last.stepsize)
        value = jnp.where(arrived, jnp.where(from_last, line.last.value, line.safe.value), info.value)
        new = pick(arrived, pick(from_last, last, safe), here)

        # Where to look next
        def turn() -> tuple[Array, Array, State]:
            start = pick(arrived, memory, direction.init(x))
            return aim(problem._replace(x=x + step), start, value, new.grad)

        p_new, slope, memory = jax.lax.cond(over, turn, lambda: (p, line.start.slope, memory))
        guess = jnp.where(moved, search.guess(a, line.start.slope, slope), search.first_guess(p_new))
        fresh = search.start(value, slope, guess)

        # Is it over?
        optimality, size = jnp.max(jnp.abs(new.grad), initial=0.0), jnp.maximum(1.0, jnp.abs(value))
        decrease, predicted = info.value - value, -a * line.start.slope
        near = jnp.zeros((), bool)
        if given is None and search.unit:
            ahead = -0.5 * guess * slope  # what the next step should bring, to first order
            near = moved & (count > 1) & (optimality <= eps**0.38 * size) & (ahead <= eps ** (5 / 6) * size)
        small = moved & (count > 1) & (decrease <= ftol_ * jnp.abs(value)) & (predicted <= ftol_ * jnp.abs(value))
        small &= optimality > 0.5 * info.optimality  # and g no longer tells more than f
        failed = over & ~arrived
        stuck = failed & forgot
        lost = -line.guess * line.start.slope <= 10 * eps * jnp.abs(value)  # f cannot tell such a step from none
        code = jnp.select(
            [
                (info.status.code == np.int32(Code.NOT_FINITE)) | (first & ~jnp.isfinite(value + jnp.sum(new.grad))),
                (optimality <= gtol_ * size) | near,
                small | (stuck & lost),
                stuck,
            ],
            [np.int32(c) for c in (Code.NOT_FINITE, Code.GRADIENT_SMALL, Code.DECREASE_SMALL, Code.SEARCH_FAILED)],
            np.int32(Code.RUNNING),
        )

        info = Info(
            value,
            optimality,
            jnp.where(moved, norm(step), info.step_norm),
            moved,
            Evaluations(
                next_count(info.evaluations.function),
                info.evaluations.gradient + taken.astype(jnp.int32),
                products(memory),
            ),
            Status(code),
        )
        return problem.unravel(step), DescentState(
            next_count(count), new, p_new, memory, pick(over, fresh, line), pick(over, new, safe),
            restarts + failed.astype(jnp.int32), jnp.where(over, ~moved, forgot), info,
        )  # fmt: skip

    return transform(who, init, update, needs_params=True, state_type=DescentState)
