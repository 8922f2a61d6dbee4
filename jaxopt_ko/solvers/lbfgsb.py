"""L-BFGS-B: limited-memory BFGS in a box. Byrd, Lu, Nocedal & Zhu 1995, doi:10.1137/0916069; Morales & Nocedal 2011,
doi:10.1145/2049662.2049669.

min f(x)  subject to  lower <= x <= upper;   P(x) is x clipped to the box
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
from jaxopt_ko.core.numerics import next_count, or_one, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, check_size
from jaxopt_ko.solvers.engine.compact_bfgs import LBFGSBMemory, direction, plain_length, remember, renewed
from jaxopt_ko.solvers.engine.convergence import (
    IDLE,
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
    flat,
    is_running,
    onward,
    own_buffers,
    pending,
    short,
    spent,
    status,
    tolerance,
)
from jaxopt_ko.solvers.engine.line_search import Evaluation, LineSearch, LineSearchState, takes_last, zoom
from jaxopt_ko.solvers.problem.bounds import box, step_into
from jaxopt_ko.solvers.problem.objective import ValueAndGradient, objective
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Status, Updates

UPHILL = 100  # times eps |f|: by so much may f rise in a step whose slopes say that it falls
LOST_TRIALS = 3  # of a search for less than that


class LBFGSBState(NamedTuple):
    """State of L-BFGS-B; the vectors hold all leaves one after the other, n elements in all."""

    count: Array  # int32[]       updates made
    here: Evaluation  # at the parameters as they now are
    direction: Array  # float[n]  p, along which the search goes; x + p is in the box
    line: LineSearchState  # of the search
    safe: Evaluation  # at the safe point of the search
    memory: LBFGSBMemory  # of the m newest pairs
    products: Array  # float[2m,2m]  of the rows of its Y and S with each other
    skipped: Array  # int32[]     pairs left out
    restarts: Array  # int32[]    times that a search or a direction failed and the memory was emptied
    course: Course  # of the run
    info: Info  # of the last update

    @property
    def aux(self) -> PyTree:
        """What the function returned beside its value, at the parameters as they now are."""
        return self.here.aux


@cached_factory
def lbfgsb(
    memory_size: int = 10,
    *,
    gtol: Hyper | None = None,
    ftol: Hyper | None = None,
    max_linesearch_steps: int = 20,
) -> GradientTransformation:
    """Limited-memory BFGS in a box: one trial an update, f and its gradient at one new point of the box.

    q(x + z) = f + g'z + z'Bz/2       B = theta (I + V'EV), from the last `memory_size` pairs
    x_c: the first local minimizer of q on the path P(x - t g), t >= 0
    x_s: the minimizer of q over what x_c leaves free;  p = P(x_s) - x, if that points downhill
    x + a p: by a search for the strong Wolfe conditions that begins with a = 1 and ends at the bound

    memory_size: how many pairs (s, y) are kept, an int >= 1; 10, as more seldom save evaluations.
    gtol: converged when max|P(x - g) - x| <= gtol, >= 0; `tol` takes its place. None: that of `descent`.
    ftol: converged when f falls, and was to fall, by no more than ftol |f|, in short steps as in `descent`; None: eps.
        Also when the step is lost in x's rounding. UNBOUNDED as in `descent`.
    max_linesearch_steps: trials in one search, an int >= 1.

    init(params, value_fn=, bounds=None, has_aux=False) and update(updates, state, params, value_fn=, bounds=None,
    has_aux=False, tol=None). bounds = (lower, upper), each None, a number or a tree like params or its upper part
    with numbers, arrays and None for its leaves. f is never evaluated outside: a start outside is moved into the box,
    by the first update. A rejected step is otherwise exactly zero; the updates that come in are not read.
    After a search that finds nothing the memory is emptied, once; the next such search ends the run.

    State: 2 memory_size + 3 numbers a parameter, and 4 memory_size**2 in all. Where a step along the model's minimizer
    meets no bound it costs what one of `lbfgs` does; the bends of the path are sorted only where there are some (under
    `vmap` both, for all lanes).

    Raises HyperparameterError, when made, for numbers outside their domain; MissingArgumentError, when traced, without
    value_fn; TreeError for a value that is not one number, bounds of another structure and bounds that cross. Source:
    Byrd, Lu, Nocedal & Zhu 1995, doi:10.1137/0916069; Morales & Nocedal 2011, doi:10.1145/2049662.2049669. Not for
    constraints other than bounds; without bounds `lbfgs` is cheaper.

    >>> found = jo.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(2), jo.lbfgsb(), bounds=(None, 0.5))
    >>> [round(float(x), 4) for x in found.params]
    [0.5, 0.5]
    """
    name = "lbfgsb"
    check_size(name, "memory_size", memory_size)
    check_size(name, "max_linesearch_steps", max_linesearch_steps)
    check_given(name, NONNEGATIVE, gtol=gtol, ftol=ftol)

    def init(
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        bounds: tuple[PyTree, PyTree] | None = None,
        has_aux: bool = False,
        **extra_args: Any,
    ) -> LBFGSBState:
        problem = _boxed(name, params, value_fn, bounds, has_aux, extra_args)
        return _begin(problem, memory_size)

    def update(
        updates: Updates,
        state: LBFGSBState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        bounds: tuple[PyTree, PyTree] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, LBFGSBState]:
        problem = _boxed(name, params, value_fn, bounds, has_aux, extra_args)
        x, eps = problem.x, eps_of(problem.x)
        gtol_, ftol_ = tolerance(x, state.count, eps**0.5, gtol, tol), tolerance(x, state.count, eps, ftol)
        return _advance(problem, state, gtol_, ftol_, max_linesearch_steps)

    return transform(name, init, update, needs_params=True, state_type=LBFGSBState, solver=True)


# ---- an update ----------------------------------------------------------------------------------------------


class _Boxed(NamedTuple):
    """f in its box."""

    x: Array  # float[n]  the parameters, moved into the box
    into: Updates  # the step from the parameters to x
    lower: Array  # float[n]
    upper: Array  # float[n]
    walls: bool  # are there any, or is all of R^n the box?
    move: Callable[[Array], tuple[Updates, Array]]  # to -> the step from the parameters there, where it leads
    move_on: Callable[[Array, Array], Array]  # x, p -> where the step p from x leads
    evaluate: Callable[[Array], ValueAndGradient]

    def optimality(self, x: Array, g: Array) -> Array:
        """max|P(x - g) - x|: 0 at a solution."""
        return jnp.max(jnp.abs(downhill(x, g, self.lower, self.upper)), initial=0.0)


class _Trial(NamedTuple):
    """One trial of a search."""

    x: Array  # float[n]         where it was
    line: LineSearchState  # after it
    last: Evaluation  # at the trial
    safe: Evaluation  # at the safe point
    bottomless: Array  # bool[]  did it find -inf?
    lost: Array  # bool[]        can f tell no step along p from none?
    close: Array  # bool[]       is g small, and a minimum along p near?
    over: Array  # bool[]        is the search over?


class _End(NamedTuple):
    """Where a search ended; or, as long as it goes on, where it began."""

    x: Array  # float[n]
    step: Updates  # that leads there
    stepsize: Array  # float[]  a, of the step that the search has found
    value: Array  # float[]
    here: Evaluation
    taken: Array  # bool[]  is it elsewhere than before?


def _boxed(
    name: str,
    params: Params,
    value_fn: Callable[..., Any] | None,
    bounds: tuple[PyTree, PyTree] | None,
    has_aux: bool,
    extra_args: Any,
) -> _Boxed:
    problem = objective(name, params, value_fn, has_aux, extra_args)
    lower, upper = box(name, params, bounds)

    def move(to: Array) -> tuple[Updates, Array]:
        return step_into(problem.unravel, params, problem.x, jnp.clip(to, lower, upper), lower, upper)

    def move_on(x: Array, p: Array) -> Array:
        to = jnp.clip(x + p, lower, upper)
        return step_into(problem.unravel, problem.unravel(x), x, to, lower, upper)[1]

    into, x = move(problem.x)
    return _Boxed(x, into, lower, upper, bounds is not None, move, move_on, problem.evaluate)


def _advance(
    problem: _Boxed, state: LBFGSBState, gtol: Tolerance, ftol: Tolerance, max_linesearch_steps: int
) -> tuple[Updates, LBFGSBState]:
    """One trial: the step, if the search is over, and the new state."""
    x = problem.x
    trial = _try(problem, state, gtol, max_linesearch_steps)
    end = _arrive(problem, state, trial)
    run, stands = _judge(problem, state, trial, end, gtol, ftol)
    # before a search is over end.x is x, a pair without curvature: outside of a branch the memory is written in place
    before = state.memory._replace(stored=jnp.where(trial.over & ~end.taken, 0, state.memory.stored))
    memory = remember(before, end.x - x, end.here.grad - state.here.grad)
    p, products, stored = jax.lax.cond(
        trial.over,
        lambda: _turn(problem, state, end, before.stored, memory),
        lambda: (state.direction, state.products, memory.stored),
    )
    left_out = end.taken & (memory.stored == before.stored)
    skipped = state.skipped + left_out.astype(jnp.int32)
    memory = memory._replace(stored=stored)
    emptied = (state.memory.stored > 0) & (stored == 0)
    # what never met an interval goes on from where it stopped
    further = jnp.maximum(1.0, plain_length(end.x - x) / or_one(plain_length(p)))
    guess = jnp.where(end.taken & trial.line.outward, further, jnp.ones_like(end.value))
    fresh = LineSearch.start(end.value, end.here.grad @ p, guess)
    info = Info(
        end.value, problem.optimality(end.x, end.here.grad), plain_length(trial.x - x), end.taken,
        counted(state.info.evaluations), stands,
    )  # fmt: skip
    step = jax.tree.map(lambda s: jnp.where(is_running(state.info), s, jnp.zeros_like(s)), end.step)
    return step, LBFGSBState(
        next_count(state.count), end.here, p, tree.where(trial.over, fresh, trial.line),
        tree.where(trial.over, end.here, trial.safe), memory, products, skipped,
        state.restarts + emptied.astype(jnp.int32), run, info,
    )  # fmt: skip


def _begin(problem: _Boxed, memory_size: int) -> LBFGSBState:
    """The state at the start."""
    x, (f, aux, g) = problem.x, problem.evaluate(problem.x)
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g))
    p = cautious(x, g, problem.lower, problem.upper)
    line = LineSearch.start(f, g @ p, jnp.ones_like(f))
    here, rows = Evaluation(g, aux), jnp.zeros((memory_size, x.size), x.dtype)
    optimality = problem.optimality(x, g)
    info = first_info(f, optimality, status((~finite, Code.NOT_FINITE)), function=1, gradient=1)
    memory, run = LBFGSBMemory(rows, rows, zero_count()), course(f, x, optimality)
    products, nil = jnp.zeros((2 * memory_size, 2 * memory_size), x.dtype), zero_count()
    return own_buffers(LBFGSBState(nil, here, p, line, here, memory, products, nil, nil, run, info))


def _try(problem: _Boxed, state: LBFGSBState, gtol: Tolerance, max_linesearch_steps: int) -> _Trial:
    """The next trial of the search along p, and whether it is the last."""
    x, p, info, run, eps = problem.x, state.direction, state.info, state.course, eps_of(problem.x)
    running = is_running(info)
    largest = longest(x, p, problem.lower, problem.upper)
    search = zoom(max_linesearch_steps, largest, approx_dec_rtol=UPHILL * eps)
    a = jax.lax.stop_gradient(search.trial(state.line))  # unrolled, the stepsizes are constants
    _, x_trial = problem.move(x + a * p)
    f, aux, g = problem.evaluate(x_trial)
    bottomless = running & jnp.isneginf(f)
    f = jnp.where(jnp.all(jnp.isfinite(g)) & ~bottomless, f, jnp.inf)
    line, last = search.tell(state.line, a, f, g @ p), Evaluation(g, aux)
    safe = tree.where(line.safe.stepsize == a, last, state.safe)

    lost = -line.start.slope <= UPHILL * eps * jnp.abs(info.value)  # f cannot tell such a step from none
    enough = (line.count >= LOST_TRIALS) & short(run, x, x_trial - x, 1 / 3)
    close = jnp.zeros((), bool)
    if not gtol.asked:  # the gradient is small, and along p a minimum is near
        close = (info.optimality <= gtol.value * jnp.minimum(1, run.steepest)) & (line.done | (line.phase > 0))
        close &= short(run, x, x_trial - x, 0.5)
    over = running & (line.over | (lost & enough) | bottomless | close)
    return _Trial(x_trial, line, last, safe, bottomless, lost, close, over)


def _arrive(problem: _Boxed, state: LBFGSBState, trial: _Trial) -> _End:
    """Where the search ends, if it is over."""
    x, line, value = problem.x, trial.line, state.info.value
    from_last = takes_last(line)
    a = tree.where(from_last, line.last, line.safe).stepsize
    step, x_new = problem.move(x + a * state.direction)
    taken = trial.over & (a > 0) & jnp.any(x_new != x)
    step, x_new = tree.where(taken, step, problem.into), jnp.where(taken, x_new, x)
    value = jnp.where(taken, jnp.where(from_last, line.last.value, line.safe.value), value)
    return _End(
        x_new, step, a, value, tree.where(taken, tree.where(from_last, trial.last, trial.safe), state.here), taken
    )


def _judge(
    problem: _Boxed, state: LBFGSBState, trial: _Trial, end: _End, gtol: Tolerance, ftol: Tolerance
) -> tuple[Course, Status]:
    """Is the run over?"""
    x, info, taken, g = problem.x, state.info, end.taken, end.here.grad
    running, moved = is_running(info), end.x - problem.x
    optimality, unheard = problem.optimality(end.x, g), ftol.value * jnp.abs(end.value)
    decrease, predicted = info.value - end.value, -end.stepsize * trial.line.start.slope
    unfelt = taken & (state.count > 0) & (decrease <= unheard) & (predicted <= unheard)
    unfelt &= ~pending(gtol, optimality, info.optimality)
    gone = taken & spent(state.course, end.x, end.value, moved, decrease)
    run = onward(state.course, optimality, taken, unfelt | gone)
    failed = trial.over & ~taken
    small = (optimality <= bound(run, gtol)) | (running & trial.close)
    further = 1.25 * moved  # or back where that is outside, and cut to nothing however long the step was
    outside = (end.x + further < problem.lower) | (end.x + further > problem.upper)
    again = problem.move_on(end.x, jnp.where(outside, -further, further))
    still = (taken & jnp.all(again == end.x)) | (gone & (run.idle >= IDLE))
    narrowed = short(state.course, x, trial.x - x, 0.5)
    good = small | still | flat(run, end.x, moved, unfelt) | (failed & trial.lost & narrowed)
    way = downhill(end.x, g, problem.lower, problem.upper)
    falls = trial.bottomless | (good & carried_off(run, end.x, end.value, -way))
    falls |= taken & ~good & endless(run, end.x, end.value, moved, state.here.grad, g)
    return run, status(
        (~running, info.status.code),
        (falls, Code.UNBOUNDED),
        (small, Code.GRADIENT_SMALL),
        (still, Code.STEP_SMALL),
        (good, Code.DECREASE_SMALL),
        (failed & (state.memory.stored == 0), Code.SEARCH_FAILED),
    )


def _turn(
    problem: _Boxed, state: LBFGSBState, end: _End, stored: Array, memory: LBFGSBMemory
) -> tuple[Array, Array, Array]:
    """Where to look next: the direction, the products of the memory that it is made of, and how many pairs that holds.

    stored: how many it held before the last pair."""
    g, lower, upper = end.here.grad, problem.lower, problem.upper
    products = renewed(state.products, memory, stored % np.int32(len(memory.S)))
    p = direction(memory, end.x, g, lower, upper, products, problem.walls)
    down = (memory.stored > 0) & (g @ p < 0)
    return jnp.where(down, p, cautious(end.x, g, lower, upper)), products, jnp.where(down, memory.stored, 0)


# ---- the box ------------------------------------------------------------------------------------------------


def downhill(x: Array, g: Array, lower: Array, upper: Array) -> Array:
    """P(x - g) - x, which is not lost in the rounding of a large x."""
    return jnp.clip(-g, lower - x, upper - x)


def longest(x: Array, p: Array, lower: Array, upper: Array) -> Array:
    """The largest a with x + a p in the box, 1 at least; what moves by its rounding only does not count."""
    moves = jnp.abs(p) > 8 * np.finfo(x.dtype).eps * jnp.abs(x)
    room = jnp.where(p < 0, lower - x, upper - x) / jnp.where(moves, p, 1)
    return jnp.maximum(jnp.min(jnp.where(moves, room, jnp.inf), initial=jnp.inf), 1.0)


def cautious(x: Array, g: Array, lower: Array, upper: Array) -> Array:
    """P(x - g / theta) - x, of length 1 at most: the direction without a memory."""
    free = jnp.where(g < 0, x < upper, x > lower)
    theta = jnp.maximum(plain_length(jnp.where(free, g, 0)), 1.0)
    return jnp.clip(-g / theta, lower - x, upper - x)
