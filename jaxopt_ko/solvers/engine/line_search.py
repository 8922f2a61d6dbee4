"""Line searches as machines of one trial each: phi(a) = f(x + a p), for whichever loop drives them.

line = search.start(phi(0), phi'(0), guess)
until line.over:
    a = search.trial(line)
    line = search.tell(line, a, phi(a), phi'(a))
Then takes_last(line) tells whether to go to line.last or to line.safe, whose stepsize is 0 if none lowers f.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.numerics import next_count, once, safe_rsqrt, zero_count
from jaxopt_ko.errors import missing_argument
from jaxopt_ko.solvers.problem.objective import Objective
from jaxopt_ko.types import Hyper, PyTree

GUESSES = ("one", "keep", "slope")
INTERPOLATIONS = ("values", "slopes")
ROUNDING = 10  # times eps |f|: what f cannot tell
HEARD = 0.75  # eps to this power, times |f|: a smaller decrease may be lost where f is ill-conditioned
FIRST_STEP = 0.3  # |a p| of the very first trial, at most


class Point(NamedTuple):
    """A stepsize that was tried."""

    stepsize: Array  # float[]  a
    value: Array  # float[]     phi(a)
    slope: Array  # float[]     phi'(a)


START, LAST, SAFE, LOW, HIGH, THIRD, NEW = range(7)  # rows of a Line's points, and the trial to come
DONE, FAILED = -1, -2  # phases at the end of a search


class LineSearchState(NamedTuple):
    """Where a line search stands."""

    count: Array  # int32[]        trials made
    phase: Array  # int32[]        0 while there is no interval yet, DONE or FAILED at the end; else the search's own
    guess: Array  # float[]        the first stepsize to try
    points: Array  # float[6,3]    stepsize, value and slope of the points below

    @property
    def start(self) -> Point:
        """Of a = 0."""
        return self._point(START)

    @property
    def last(self) -> Point:
        """The last trial."""
        return self._point(LAST)

    @property
    def safe(self) -> Point:
        """The trial of sufficient decrease to fall back on; a = 0 if there is none."""
        return self._point(SAFE)

    @property
    def low(self) -> Point:
        """The end of the interval with the lower value."""
        return self._point(LOW)

    @property
    def high(self) -> Point:
        """Its other end."""
        return self._point(HIGH)

    @property
    def third(self) -> Point:
        """One that was an end before."""
        return self._point(THIRD)

    @property
    def done(self) -> Array:
        """bool[]: the last trial will do."""
        return self.phase == np.int32(DONE)

    @property
    def failed(self) -> Array:
        """bool[]: no trial did, and there will be no more."""
        return self.phase == np.int32(FAILED)

    @property
    def outward(self) -> Array:
        """bool[]: failed on the way out, where every trial was lower than the one before."""
        last, safe = self.last, self.safe
        return self.failed & (self.high.stepsize == 0) & (last.slope < 0) & (last.stepsize == safe.stepsize)

    @property
    def bottomless(self) -> Array:
        """bool[]: the last trial found -inf."""
        return jnp.isneginf(self.last.value)

    @property
    def over(self) -> Array:
        """bool[]: done or failed."""
        return self.phase < 0

    def _point(self, row: int) -> Point:
        return Point(*(jax.lax.slice(self.points, (row, i), (row + 1, i + 1)).reshape(()) for i in range(3)))

    def told(self, new: Point, phase: Array, done: Array, failed: Array, **rows: Any) -> LineSearchState:
        """After the trial `new`; each of safe, low, high and third is now that row, as it was or NEW."""
        done, failed = once(done), once(failed)
        after = jnp.where(done, np.int32(DONE), jnp.where(failed, np.int32(FAILED), phase))
        table = jnp.concatenate([self.points, jnp.stack(new)[None]])
        row = {"start": START, "last": NEW, "safe": SAFE, "low": LOW, "high": HIGH, "third": THIRD, **rows}
        index = jnp.stack([jnp.asarray(r, jnp.int32) for r in row.values()])
        points = table.at[index].get(mode="promise_in_bounds")
        return LineSearchState(next_count(self.count), after, self.guess, points)


def row(condition: Array, yes: int | Array, no: int | Array) -> Array:
    """int32[]: `where` for rows."""
    return jnp.where(condition, jnp.asarray(yes, jnp.int32), jnp.asarray(no, jnp.int32))


class Evaluation(NamedTuple):
    """What was evaluated at one trial point."""

    grad: Array  # float[n]
    aux: PyTree  # what the function returned beside its value


class LineSearch(NamedTuple):
    """A line search; see the head of this page."""

    trial: Callable[[LineSearchState], Array]
    tell: Callable[[LineSearchState, Array, Array, Array], LineSearchState]
    missed: Callable[
        [LineSearchState, Point], tuple[Array, Array]
    ]  # by how much a trial misses small decrease and small slope
    next_guess: Callable[[Array, Array], Array]  # of the last search's stepsize and the ratio of its slope to the new
    needs_slope: bool  # at every trial, or only at the last
    unit: bool  # is the first trial always the full step?

    @staticmethod
    def start(value: Array, slope: Array, guess: Array) -> LineSearchState:
        """No trial made yet."""
        start = jnp.stack([jnp.zeros_like(value), value, slope])
        return LineSearchState(zero_count(), zero_count(), guess, jnp.broadcast_to(start, (6, 3)))

    @staticmethod
    def first_guess(p: Array) -> Array:
        """The first stepsize of the first search, along p: nothing is known yet of f's scale."""
        return jnp.minimum(FIRST_STEP * safe_rsqrt(p @ p), 1)

    def guess(self, previous: Array, slope_before: Array, slope: Array) -> Array:
        """The first stepsize of a search after one that began at `slope_before` and found `previous`."""
        known = (slope < 0) & jnp.isfinite(slope_before)
        ratio = jnp.where(known, slope_before / jnp.where(known, slope, -1), 1)
        guess = self.next_guess(jnp.where(previous > 0, previous, 1), jnp.clip(ratio, 0.0, 10.0))
        return jnp.where((guess > 0) & jnp.isfinite(guess), guess, 1)


def guessing(strategy: str) -> Callable[[Array, Array], Array]:
    """ "one": the full step. "keep": the last stepsize. "slope": as if f were to fall by as much, to first order."""
    return {"one": lambda a, _: jnp.ones_like(a), "keep": lambda a, _: a, "slope": lambda a, ratio: a * ratio}[strategy]


def like(value: Array, *hypers: Any) -> tuple[Any, ...]:
    """Hyperparameters as they go with `value`: numbers as they are, arrays in its dtype."""
    return tuple(h if h is None or isinstance(h, int | float) else jnp.asarray(h).astype(value.dtype) for h in hypers)


def takes_last(line: LineSearchState) -> Array:
    """bool[]: the point to go to is the last trial, as it will do or at least climbs not; else it is the safe one."""
    return line.done | ((line.safe.stepsize <= 0) & (line.last.value <= line.start.value))


def decrease_error(line: LineSearchState, new: Point, slope_rtol: Any, approx_dec_rtol: Any, rtol: Any = 0.0) -> Array:
    """By how much `new` misses the Armijo condition or, near the minimum, Hager and Zhang's; inf if not finite."""
    value, slope = line.start.value, line.start.slope
    error = new.value - (1.0 + rtol) * value - slope_rtol * new.stepsize * slope
    if approx_dec_rtol is not None:
        level = new.value - value - approx_dec_rtol * jnp.abs(value)
        error = jnp.minimum(error, jnp.maximum(new.slope - (2.0 * slope_rtol - 1.0) * slope, level))
    return jnp.where(jnp.isfinite(new.value) & ~jnp.isnan(error), jnp.maximum(error, 0.0), jnp.inf)


def backtracking(
    max_backtracking_steps: int,
    slope_rtol: Hyper = 1e-4,
    decrease_factor: Hyper = 0.8,
    increase_factor: Hyper = 1.5,
    max_learning_rate: Hyper = 1.0,
    atol: Hyper = 0.0,
    rtol: Hyper = 0.0,
) -> LineSearch:
    """Armijo's condition. Nocedal & Wright 2006, algorithm 3.1.

    phi(a) <= (1 + rtol) phi(0) + slope_rtol a phi'(0) + atol,  a <- decrease_factor a until it holds
    """

    def trial(line: LineSearchState) -> Array:
        (factor,) = like(line.guess, decrease_factor)
        return jnp.where(line.count == 0, line.guess, factor * line.last.stepsize)

    def missed(line: LineSearchState, new: Point) -> tuple[Array, Array]:
        c1, rtol_ = like(new.value, slope_rtol, rtol)
        return decrease_error(line, new, c1, None, rtol_), jnp.zeros_like(new.value)

    def tell(line: LineSearchState, a: Array, value: Array, slope: Array) -> LineSearchState:
        new = Point(a, value, slope)
        (atol_,) = like(value, atol)
        done = missed(line, new)[0] <= atol_
        return line.told(new, line.phase, done, line.count >= max_backtracking_steps, safe=row(done, NEW, SAFE))

    def next_guess(a: Array, _: Array) -> Array:
        factor, largest = like(a, increase_factor, max_learning_rate)
        return jnp.minimum(factor * a, largest)

    return LineSearch(trial, tell, missed, next_guess, needs_slope=False, unit=False)


def zoom(
    max_linesearch_steps: int,
    max_learning_rate: Hyper | None = None,
    tol: Hyper = 0.0,
    increase_factor: Hyper = 2.0,
    slope_rtol: Hyper = 1e-4,
    curv_rtol: Hyper = 0.9,
    approx_dec_rtol: Hyper | None = 1e-6,
    stepsize_precision: Hyper = 1e-5,
    initial_guess_strategy: str = "keep",
    interpolation: str = "slopes",
) -> LineSearch:
    """Strong Wolfe conditions. Nocedal & Wright 2006, algorithms 3.5 and 3.6 as one.

    phi(a)    <= phi(0) + slope_rtol a phi'(0)      or near the minimum: phi'(a) <= (2 slope_rtol - 1) phi'(0)
    |phi'(a)| <= curv_rtol |phi'(0)|                   and phi(a) <= phi(0) + approx_dec_rtol |phi(0)|

    interpolation: within an interval and beyond the last trial, "slopes" goes to the minimizer of the cubic with the
    values and slopes of two points, no value above phi(0) + 10 eps |phi(0)| will do, and a trial too short to tell
    phi(a) from phi(0), to eps**0.75 |phi(0)|, ends the way outward only by its slope; "values" takes three values and
    one slope, and increase_factor, as optax does.
    """
    slopes = interpolation == "slopes"

    def trial(line: LineSearchState) -> Array:
        factor, largest = like(line.guess, increase_factor, max_learning_rate)
        larger = extrapolate(line.third, line.low) if slopes else factor * line.last.stepsize
        larger = jnp.where(line.count == 0, line.guess, larger)
        if largest is not None:
            larger = jnp.minimum(larger, largest)
        within = between(line.low, line.high) if slopes else interpolate(line.low, line.high, line.third)
        return jnp.where(line.phase == 0, larger, within)

    def missed(line: LineSearchState, new: Point) -> tuple[Array, Array]:
        c1, c2, approximate = like(new.value, slope_rtol, curv_rtol, approx_dec_rtol)
        if slopes and approximate is not None:  # never uphill by more than f's rounding
            approximate = jnp.minimum(approximate, ROUNDING * np.finfo(new.value.dtype).eps)
        curvature = jnp.maximum(jnp.abs(new.slope) - c2 * jnp.abs(line.start.slope), 0.0)
        return decrease_error(line, new, c1, approximate), jnp.where(jnp.isnan(curvature), jnp.inf, curvature)

    def tell(line: LineSearchState, a: Array, value: Array, slope: Array) -> LineSearchState:
        new, low, high, zooming = Point(a, value, slope), line.low, line.high, line.phase > 0
        tol_, precision, largest = like(value, tol, stepsize_precision, max_learning_rate)
        decrease, curvature = missed(line, new)
        good = jnp.maximum(decrease, curvature) <= tol_

        beyond = (decrease > 0) | ((value >= low.value) & (line.count > 0))  # a minimum lies between low and new
        if slopes:
            change = jnp.maximum(value - line.start.value, -a * line.start.slope)
            heard = change > np.finfo(value.dtype).eps ** HEARD * jnp.abs(line.start.value)
            beyond &= zooming | (slope >= 0) | heard | jnp.isnan(change)
        turned = ~beyond & (slope * jnp.where(zooming, high.stepsize - low.stepsize, 1.0) >= 0)  # and here, too
        low_, high_ = row(beyond, LOW, NEW), row(beyond, NEW, row(turned, LOW, HIGH))
        third = row(zooming, row(beyond | turned, HIGH, LOW), LOW if slopes else low_)

        keeps = (decrease <= tol_) & (~zooming | (value < line.safe.value))
        found = zooming | beyond | turned
        limit = False if largest is None else a >= largest
        narrow = zooming & (jnp.abs(high.stepsize - low.stepsize) <= precision) & (keeps | (line.safe.stepsize > 0))
        failed = narrow | (line.count + 1 >= max_linesearch_steps)
        return line.told(
            new, found.astype(jnp.int32), good | (limit & ~found), failed,
            safe=row(keeps, NEW, SAFE), low=low_, high=high_, third=third,
        )  # fmt: skip

    strategy = guessing(initial_guess_strategy)
    return LineSearch(trial, tell, missed, strategy, needs_slope=True, unit=initial_guess_strategy == "one")


EXPAND, BISECT, SECANT, AGAIN, MIDDLE = range(5)  # phases of the next search


def hager_zhang(
    max_linesearch_steps: int,
    max_learning_rate: Hyper | None = None,
    slope_rtol: Hyper = 0.1,
    curv_rtol: Hyper = 0.9,
    approx_dec_rtol: Hyper = 1e-6,
    increase_factor: Hyper = 5.0,
    initial_guess_strategy: str = "slope",
) -> LineSearch:
    """Wolfe or approximate Wolfe conditions by double secant steps. Hager & Zhang 2005, SIAM J. Optim. 16, section 4.

    phi'(a) >= curv_rtol phi'(0)  and  phi(a) <= phi(0) + slope_rtol a phi'(0)
                                  or   phi'(a) <= (2 slope_rtol - 1) phi'(0),  phi(a) <= phi(0) + e
    e = approx_dec_rtol |phi(0)|;  low and high are the paper's a and b: phi(a) <= phi(0) + e, phi'(a) < 0 <= phi'(b)
    """
    shrink = 2.0 / 3.0  # the paper's gamma: an interval that two secant steps leave longer than this is halved

    def secant(p: Point, q: Point) -> Array:
        return (p.stepsize * q.slope - q.stepsize * p.slope) / (q.slope - p.slope)

    def trial(line: LineSearchState) -> Array:
        low, high, third, phase = line.low, line.high, line.third, line.phase
        factor, largest = like(line.guess, increase_factor, max_learning_rate)
        larger = jnp.where(line.count == 0, line.guess, factor * line.last.stepsize)
        if largest is not None:
            larger = jnp.minimum(larger, largest)
        ahead = third.slope < 0
        again = secant(third, Point(*(jnp.where(ahead, p, q) for p, q in zip(low, high, strict=True))))
        c = jnp.where(phase == SECANT, secant(low, high), again)
        fits = ((phase == SECANT) | (phase == AGAIN)) & (c > low.stepsize) & (c < high.stepsize)
        middle = 0.5 * (low.stepsize + high.stepsize)
        return jnp.where(phase == EXPAND, larger, jnp.where(fits, c, middle))

    def missed(line: LineSearchState, new: Point) -> tuple[Array, Array]:
        c1, c2, approximate = like(new.value, slope_rtol, curv_rtol, approx_dec_rtol)
        curvature = jnp.maximum(c2 * line.start.slope - new.slope, 0.0)
        return decrease_error(line, new, c1, approximate), jnp.where(jnp.isnan(curvature), jnp.inf, curvature)

    def tell(line: LineSearchState, a: Array, value: Array, slope: Array) -> LineSearchState:
        new, low, high, phase, start = Point(a, value, slope), line.low, line.high, line.phase, line.start
        approximate, largest = like(value, approx_dec_rtol, max_learning_rate)
        decrease, curvature = missed(line, new)
        done = (decrease <= 0) & (curvature <= 0)

        up = jnp.isfinite(value) & (slope >= 0)
        below = ~up & (value <= start.value + approximate * jnp.abs(start.value)) & (slope < 0)
        expanding = (phase == EXPAND) & below
        before = jnp.where(
            line.third.slope < 0, high.stepsize - line.third.stepsize, line.third.stepsize - low.stepsize
        )
        slow = jnp.where(below, high.stepsize - a, a - low.stepsize) > shrink * before
        after = jnp.select(
            [phase == SECANT, (phase == AGAIN) & slow], [np.int32(AGAIN), np.int32(MIDDLE)], np.int32(SECANT)
        )
        bisect = (~up & ~below) | ((phase == BISECT) & below)
        phase = jnp.where(expanding, np.int32(EXPAND), jnp.where(bisect, np.int32(BISECT), after))

        keeps = (decrease <= 0) & (value < line.safe.value)
        if largest is not None:
            done |= expanding & (decrease <= 0) & (a >= largest)
        return line.told(
            new, phase, done, line.count + 1 >= max_linesearch_steps, safe=row(keeps, NEW, SAFE),
            low=row(below, NEW, LOW), high=row(below, HIGH, NEW),
            third=row(below, LOW, HIGH),  # the end that new took the place of
        )  # fmt: skip

    strategy = guessing(initial_guess_strategy)
    return LineSearch(trial, tell, missed, strategy, needs_slope=True, unit=initial_guess_strategy == "one")


def cubic_minimizer(p: Point, q: Point) -> Array:
    """Of the cubic with the values and slopes of p and q; NaN if it has none. Nocedal & Wright 2006, (3.59)."""
    d1 = p.slope + q.slope - 3.0 * (p.value - q.value) / (p.stepsize - q.stepsize)
    d2 = jnp.sign(q.stepsize - p.stepsize) * jnp.sqrt(d1 * d1 - p.slope * q.slope)
    return q.stepsize - (q.stepsize - p.stepsize) * (q.slope + d2 - d1) / (q.slope - p.slope + 2.0 * d2)


def between(low: Point, high: Point) -> Array:
    """The cubic's minimizer, at least a tenth of the interval away from its ends; the middle if there is none."""
    a = cubic_minimizer(low, high)
    left, right = jnp.minimum(low.stepsize, high.stepsize), jnp.maximum(low.stepsize, high.stepsize)
    margin = 0.1 * (right - left)
    return jnp.where(jnp.isfinite(a), jnp.clip(a, left + margin, right - margin), 0.5 * (left + right))


def extrapolate(before: Point, last: Point) -> Array:
    """The cubic's minimizer beyond the last point, from 1.1 to 4 times the last stride away; 4 if there is none."""
    a, stride = cubic_minimizer(before, last), last.stepsize - before.stepsize
    beyond = jnp.isfinite(a) & (a > last.stepsize)
    return jnp.clip(jnp.where(beyond, a, jnp.inf), last.stepsize + 1.1 * stride, last.stepsize + 4.0 * stride)


def interpolate(low: Point, high: Point, third: Point) -> Array:
    """Between low and high: the minimizer of the cubic through low (and its slope), high and third; else of the
    parabola through low (and its slope) and high; else the middle."""
    db, dc = high.stepsize - low.stepsize, third.stepsize - low.stepsize
    rb, rc = high.value - low.value - low.slope * db, third.value - low.value - low.slope * dc
    scale = (db * dc) ** 2 * (db - dc)
    rows = jnp.array([[dc**2, -(db**2)], [-(dc**3), db**3]])  # as one product, like optax: rounded alike
    A, B = jnp.dot(rows, jnp.array([rb, rc]), precision=jax.lax.Precision.HIGHEST) / scale
    cubic = low.stepsize + (-B + jnp.sqrt(B * B - 3.0 * A * low.slope)) / (3.0 * A)
    parabola = low.stepsize - low.slope / (2.0 * (rb / db**2))
    left, right, width = jnp.minimum(low.stepsize, high.stepsize), jnp.maximum(low.stepsize, high.stepsize), jnp.abs(db)

    def inside(a: Array, margin: float) -> Array:
        return (a > left + margin * width) & (a < right - margin * width)

    middle = 0.5 * (low.stepsize + high.stepsize)
    return jnp.where(inside(cubic, 0.2), cubic, jnp.where(inside(parabola, 0.1), parabola, middle))


# ---- with a problem -------------------------------------------------------------------------------------


def try_one(
    search: LineSearch,
    problem: Objective,
    p: Array,
    line: LineSearchState,
    safe: Evaluation,
    at_start: Array | bool = False,
) -> tuple[LineSearchState, Evaluation, Evaluation, Array]:
    """One trial of a search from problem.x along p: the search, what is at the trial, what is at the safe point,
    and whether the gradient was taken; it is if the search reads the slope, or else if the trial will do. A value
    whose gradient is not finite counts as inf, unless it is -inf.
    at_start: try a = 0."""
    a = jnp.where(at_start, 0, jax.lax.stop_gradient(search.trial(line)))  # unrolled, the stepsizes are constants
    x = problem.reach(problem.x, a * p)
    if search.needs_slope:
        value, aux, grad = problem.evaluate(x)
        value = jnp.where(jnp.all(jnp.isfinite(grad)) | jnp.isneginf(value), value, jnp.inf)
        line, taken = search.tell(line, a, value, grad @ p), jnp.ones((), bool)
    else:
        value, aux, gradient = problem.linearize(x)
        line = search.tell(line, a, value, jnp.zeros_like(value))
        taken = at_start | (line.over & takes_last(line))
        grad = jax.lax.cond(taken, gradient, lambda: jnp.zeros_like(p))
    last = Evaluation(grad, aux)
    return line, last, tree.where(line.safe.stepsize == a, last, safe), taken


def check_evaluated(name: str, value: Any, grad: Any, params: Any) -> Any:
    """A search must be told the value and the gradient where it starts."""
    for argument, given in (("value", value), ("grad", grad)):
        if given is None and jax.tree.leaves(params):
            missing_argument(name, argument, f"Pass {argument}=..., at params; value_and_grad_from_state gives it")
    check_same_trees(name, "grad", grad, "params", params)
    return grad
