"""Schedules: functions step (int32[], from 0) -> value (float[]), for any hyperparameter of any method.

Nearly all are ramps, from one value to the next along a line, a cosine or a power. Steps are compared as integers,
so the largest int32 step is as exact as the first. A step may be of any dtype, an array too; what is negative counts
as 0. Values may be traced, and pass unchecked then.

The types in a signature say what an argument must be. For any other, HyperparameterError is raised when the schedule
is made; its subclass HyperparameterTypeError for what is no number, no static whole number, no function.

Where optax 0.2.8 has the name, arguments and values are its own, but for these, each with a test beside it:
    warmup_constant_schedule with warmup_steps=0      the peak at once; optax stays at init_value for ever
    warmup_cosine_decay_schedule to a peak of 0       ends at end_value; optax ends at 0
    linear_onecycle_schedule, two boundaries in one   both are heeded; optax loses one of them
    exponential_decay, staircase, after 2**24 steps   counted in integers; optax rounds the step to float32
    exponential_decay with rate > 1 past end_value    derivative 0; optax's is NaN once the power has overflowed
    linear and polynomial, 1e-8 beside 1              the ends to the bit; optax takes their difference, and gives 0
    join_schedules                                    as many boundaries as it takes, or an error: optax drops what is
                                                      left over; each part is asked for its own steps alone
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Any, ParamSpec, TypeAlias, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jaxopt_ko.compose.inject import (
    InjectHyperparamsState,
    InjectStatefulHyperparamsState,
    StatefulSchedule,
    WrappedSchedule,
    inject_hyperparams,
    inject_stateful_hyperparams,
)
from jaxopt_ko.core.numerics import compute_dtype, scalar_dtype
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, say
from jaxopt_ko.types import Schedule

__all__ = [
    "InjectHyperparamsState",
    "InjectStatefulHyperparamsState",
    "Schedule",
    "StatefulSchedule",
    "WrappedSchedule",
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "inject_hyperparams",
    "inject_stateful_hyperparams",
    "inverse_sqrt_schedule",
    "inverse_time_decay",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "sgdr_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "warmup_stable_decay_schedule",
]  # fmt: skip

# ---- arguments: each type carries its check -------------------------------------------------------------

P = ParamSpec("P")
Check: TypeAlias = Callable[[str, str, Any], Any]  # (name, argument, value) -> value, or an error


def _must(kind: type[Exception], holds: bool, name: str, argument: str, value: Any, words: str) -> None:
    if not holds:
        say(kind, name, f"{argument} must be {words}", f"{argument}={value!r}", f"Give {argument} {words}")


def _number(words: str, holds: Callable[[float], bool], static: type | None = None) -> Check:
    """One real number; if `static`, a concrete one, made an int or a float."""

    def check(name: str, argument: str, value: Any) -> Any:
        traced = isinstance(value, jax.core.Tracer)
        number = _is_real(value) and np.shape(value) == () and not (static and traced)
        if static is int and number:  # 1e3, too, and what total * 0.1 gives if it is whole
            number = float(value).is_integer()
        _must(HyperparameterTypeError, number, name, argument, value, words)
        _must(HyperparameterError, traced or holds(float(value)), name, argument, value, words)
        return static(value) if static else value

    return check


def _is_real(value: Any) -> bool:
    if not isinstance(value, int | float | np.generic | np.ndarray | jax.Array):
        return False
    kind: Any = getattr(value, "dtype", type(value))
    return any(jnp.issubdtype(kind, known) for known in (jnp.integer, jnp.floating))


def _that(
    words: str, holds: Callable[[Any], bool], each: Check | None = None, kind: type[Exception] = HyperparameterTypeError
) -> Check:
    def check(name: str, argument: str, value: Any) -> Any:
        _must(kind, holds(value), name, argument, value, words)
        return value if each is None else [each(name, f"{argument}[{i}]", item) for i, item in enumerate(value)]

    return check


def _one_of(*names: str) -> Check:
    return _that(f"one of {names}", names.__contains__, kind=HyperparameterError)


def _list_of(each: Check) -> Check:
    return _that("a list", lambda value: isinstance(value, Iterable), each)


def _scales(name: str, argument: str, value: Any) -> dict[int, Any]:
    words, scale = "a dict, as {1000: 0.1, 2000: 0.1}", _number("one finite number >= 0", lambda x: 0 <= x < math.inf)
    _must(HyperparameterTypeError, value is None or isinstance(value, Mapping), name, argument, value, words)
    checked = {_steps(name, "boundary", b): scale(name, f"scale at {b}", s) for b, s in (value or {}).items()}
    return dict(sorted(checked.items()))


def _none_below(what: str) -> Check:
    """A whole number, of which a negative one counts as 0, as in optax."""
    whole = _number("a static whole number, as int(0.1 * n)", lambda n: True, static=int)

    def check(name: str, argument: str, value: Any) -> int:
        number: int = whole(name, argument, value)
        if number < 0:
            _note(name, f"{argument}={number} is negative: {what}")
        return max(number, 0)

    return check


def _note(name: str, what: str) -> None:
    """Log what was made of an argument that is allowed, but rarely meant."""
    logging.getLogger(__package__).info("%s: %s", name, what)


_finite = _number("one finite number", math.isfinite)
_steps = _number("a static whole number >= 0, as int(0.1 * n)", lambda n: n >= 0, static=int)

Value: TypeAlias = Annotated[ArrayLike, _finite]
Bound: TypeAlias = Annotated[ArrayLike | None, lambda *given: None if given[-1] is None else _finite(*given)]
Threshold: TypeAlias = Annotated[ArrayLike, _number("one number, not NaN", lambda x: not math.isnan(x))]
Positive: TypeAlias = Annotated[ArrayLike, _number("one finite number > 0", lambda x: 0 < x < math.inf)]
Share: TypeAlias = Annotated[float, _number("one static number in (0, 1)", lambda x: 0 < x < 1, static=float)]
Steps: TypeAlias = Annotated[int, _steps]
SomeSteps: TypeAlias = Annotated[int, _number("a static whole number > 0", lambda n: n > 0, static=int)]
Transition: TypeAlias = Annotated[int, _none_below("the value stays as it is at first")]
Begin: TypeAlias = Annotated[int, _none_below("the transition begins at step 0")]
Scales: TypeAlias = Annotated[Mapping[int, ArrayLike] | None, _scales]  # {boundary: scale}


def _checked(make: Callable[P, Schedule]) -> Callable[P, Schedule]:
    """Every argument through the check that its type carries; `make` sees counts as Python ints."""
    signature, hints = inspect.signature(make), get_type_hints(make, include_extras=True)
    checks = {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}

    @functools.wraps(make)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, check in checks.items():
            bound.arguments[name] = check(make.__name__, name, bound.arguments[name])
        schedule = make(*bound.args, **bound.kwargs)
        return lambda step: schedule(_counted(step))

    return checked


def _counted(step: ArrayLike) -> jax.Array:
    """A step from 0 on, as an integer of 32 bits at least, or as a float of as many: of any integer's dtype its number,
    the largest where it is beyond them all."""
    wide = np.int64 if jax.dtypes.canonicalize_dtype(np.int64) == np.int64 else np.int32
    if isinstance(step, int | float):  # weakly typed, as it was
        return jnp.asarray(max(min(step, int(np.iinfo(wide).max)) if isinstance(step, int) else step, 0))
    if not isinstance(step, jax.Array):  # NumPy's may have more bits than there are here
        numbers = np.asarray(step)
        if numbers.dtype.kind in "iu":
            numbers = np.minimum(numbers, np.asarray(_most(wide, numbers.dtype), numbers.dtype)).astype(wide)
        step = jnp.asarray(numbers)
    if jnp.issubdtype(step.dtype, jnp.floating):
        return jnp.maximum(step.astype(compute_dtype(step.dtype)), 0)
    if step.dtype == bool or step.dtype.itemsize < 4:
        return jnp.maximum(step.astype(np.int32), 0)
    if step.dtype != np.int32:
        step = jnp.minimum(step, np.asarray(_most(wide, step.dtype), step.dtype)).astype(wide)
    return jnp.maximum(step, 0)


def _most(*kinds: DTypeLike) -> int:
    return min(int(np.iinfo(kind).max) for kind in kinds)


# ---- ramps ----------------------------------------------------------------------------------------------

Weights: TypeAlias = tuple[jax.Array, jax.Array]  # of the two ends of a ramp
Shape: TypeAlias = Callable[[jax.Array, jax.Array], Weights]  # from the parts of the ramp (gone, left)
Ramp: TypeAlias = tuple[int, int, ArrayLike, Shape]  # first step, how many (0: a jump), end value, shape


def _line(gone: jax.Array, left: jax.Array) -> Weights:
    return left, gone


def _cosine(gone: jax.Array, left: jax.Array) -> Weights:
    # (1 +- cos(pi gone)) / 2 as squares, which lose no digits where they are small
    return jnp.sin(0.5 * math.pi * left) ** 2, jnp.sin(0.5 * math.pi * gone) ** 2


def _one_minus_sqrt(gone: jax.Array, left: jax.Array) -> Weights:
    root = jnp.sqrt(gone)
    return left / (1 + root), root


def _power(shape: Shape, exponent: ArrayLike) -> Shape:
    def powered(gone: jax.Array, left: jax.Array) -> Weights:
        weight, _ = shape(gone, left)
        some = weight > 0  # 0 stays 0, with finite derivatives
        weight = jnp.where(some, jnp.power(jnp.where(some, weight, 1), _real(exponent)), 0)
        return weight, 1 - weight

    return powered


_SHAPES: dict[str, Shape] = {"linear": _line, "cosine": _cosine, "sqrt": _one_minus_sqrt}


def _real(x: ArrayLike) -> jax.Array:
    return jnp.asarray(x, scalar_dtype())


def _fits(step: ArrayLike, count: int) -> bool:
    """Can a step be as large? One of 32 bits never comes to 10**10."""
    dtype = jnp.result_type(step)
    return not jnp.issubdtype(dtype, jnp.integer) or count <= _most(dtype)


def _since(step: ArrayLike, begin: int) -> jax.Array:
    """Steps since `begin`, 0 before it."""
    return jnp.maximum(step, begin) - begin if _fits(step, begin) else jnp.zeros_like(step)


def _follow(step: ArrayLike, start: ArrayLike, *ramps: Ramp) -> jax.Array:
    """The value at `step`: `start`, then from ramp to ramp, each held at its end until the next begins."""
    value = jnp.broadcast_to(_real(start), jnp.shape(step))
    for begin, length, end, shape in ramps:
        if not _fits(step, begin):
            break
        gone, size = _since(step, begin), max(length, 1)
        ends = _fits(step, length)
        if ends:
            gone = jnp.minimum(gone, length) if length else jnp.where(jnp.less(step, begin), 0, 1)
        left = _real(size - gone) if ends else float(size) - _real(gone)
        at_start, at_end = shape(_real(gone) / float(size), left / float(size))
        between = at_start * _real(start) + at_end * _real(end)
        inside = jnp.where(gone < size, between, _real(end)) if ends else between
        value = jnp.where(gone == 0, value, inside)  # the ends, bit by bit
        start = end
    return value


# ---- schedules of one piece -----------------------------------------------------------------------------


@_checked
def constant_schedule(value: Threshold) -> Schedule:
    """The same value at every step; infinity too, as for a clipping threshold that is not yet in force."""
    return lambda step: _follow(step, value)


@_checked
def linear_schedule(
    init_value: Value, end_value: Value, transition_steps: Transition, transition_begin: Begin = 0
) -> Schedule:
    """A line over T steps from step B on: I + (E - I) clip((t - B) / T, 0, 1); T = 0 stays at I."""
    end = end_value if transition_steps else init_value
    return lambda step: _follow(step, init_value, (transition_begin, transition_steps, end, _line))


@_checked
def polynomial_schedule(
    init_value: Value, end_value: Value, power: Positive, transition_steps: Transition, transition_begin: Begin = 0
) -> Schedule:
    """A power of what is left of the line: E + (I - E) (1 - clip((t - B) / T, 0, 1))**power; T = 0 stays at I."""
    end, shape = end_value if transition_steps else init_value, _power(_line, power)
    return lambda step: _follow(step, init_value, (transition_begin, transition_steps, end, shape))


@_checked
def cosine_decay_schedule(
    init_value: Value, decay_steps: SomeSteps, alpha: Value = 0.0, exponent: Positive = 1.0
) -> Schedule:
    """Half a cosine from I to alpha I: I (alpha + (1 - alpha) ((1 + cos(pi min(t / decay_steps, 1))) / 2)**exponent).

    Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5.
    """
    shape = _power(_cosine, exponent)
    return lambda step: _follow(step, init_value, (0, decay_steps, _real(init_value) * _real(alpha), shape))


@options
@_checked
def exponential_decay(
    init_value: Value, transition_steps: Transition, decay_rate: Positive,
    transition_begin: Begin = 0, staircase: bool = False, end_value: Bound = None,
) -> Schedule:  # fmt: skip
    """I rate**n, n = max(t - B, 0) / T (floored if `staircase`); end_value bounds it: below if rate < 1, else above."""
    timing, falls = (transition_steps, transition_begin, staircase), lambda: _real(decay_rate) < 1
    return _decay(lambda n: _real(init_value) * _real(decay_rate) ** n, timing, end_value, falls)


@options
@_checked
def inverse_time_decay(
    init_value: Value, transition_steps: Transition, decay_rate: Positive,
    transition_begin: Begin = 0, staircase: bool = False, end_value: Bound = None,
) -> Schedule:  # fmt: skip
    """I / (1 + rate n), n = max(t - B, 0) / T (floored if `staircase`); end_value bounds it below."""
    timing = (transition_steps, transition_begin, staircase)
    return _decay(lambda n: _real(init_value) / (1 + _real(decay_rate) * n), timing, end_value, lambda: True)


def _decay(
    law: Callable[[jax.Array], jax.Array], timing: tuple[int, int, bool],
    end: ArrayLike | None, falls: Callable[[], ArrayLike],
) -> Schedule:  # fmt: skip
    """law(n), or `end` where that is past it: no derivative is taken there, it may have overflowed."""
    length, begin, staircase = timing

    def schedule(step: ArrayLike) -> jax.Array:
        t, size = (_since(step, begin), length) if length else (jnp.zeros_like(step), 1)
        whole = t // size if staircase and _fits(step, size) else jnp.zeros_like(t)
        n = _real(whole) if staircase else _real(t) / float(size)
        if end is None:
            return law(n)
        past = jnp.where(falls(), law(n) < _real(end), law(n) > _real(end))
        return jnp.where(past, _real(end), law(jnp.where(past, 0, n)))

    return schedule


@_checked
def inverse_sqrt_schedule(peak_value: Value, warmup_steps: Steps, init_value: Value = 0.0) -> Schedule:
    """A line init -> peak over W warmup steps, then peak sqrt(W / t); W = 0: peak / sqrt(max(t, 1)).

    Vaswani et al. 2017, arXiv:1706.03762, eq. 3, where peak = (d_model W)**-0.5.
    """
    least = max(warmup_steps, 1)
    warmup = warmup_constant_schedule(init_value, peak_value, warmup_steps)

    def schedule(step: jax.Array) -> jax.Array:
        if not _fits(step, least):
            return warmup(step)
        return warmup(step) * jnp.sqrt(least / _real(jnp.maximum(step, least)))

    return schedule


# ---- schedules of several pieces ------------------------------------------------------------------------


def _levels(init_value: ArrayLike, scales: Mapping[int, ArrayLike]) -> list[jax.Array]:
    return list(accumulate(map(_real, scales.values()), operator.mul, initial=_real(init_value)))


def _through(step: ArrayLike, knots: Sequence[int], levels: Sequence[ArrayLike], shape: Shape) -> jax.Array:
    """The levels at the knots, the first of both at step 0, and ramps from one to the next."""
    ramps = [(a, b - a, end, shape) for (a, b), end in zip(pairwise(knots), levels[1:], strict=True)]
    return _follow(step, levels[0], *ramps)


@_checked
def piecewise_constant_schedule(init_value: Value, boundaries_and_scales: Scales = None) -> Schedule:
    """init_value times the scales of all boundaries <= t: {1000: 0.1, 2000: 0.1} divides by 10 twice."""
    scales = boundaries_and_scales or {}
    return lambda step: _follow(
        step, init_value, *((b, 0, v, _line) for b, v in zip(scales, _levels(init_value, scales)[1:], strict=True))
    )


@_checked
def piecewise_interpolate_schedule(
    interpolate_type: Annotated[str, _one_of("linear", "cosine")],
    init_value: Value,
    boundaries_and_scales: Scales = None,
) -> Schedule:
    """The values of `piecewise_constant_schedule` at 0 and the boundaries, joined by lines or half cosines."""
    scales, shape = boundaries_and_scales or {}, _SHAPES[interpolate_type]
    return lambda step: _through(step, [0, *scales], _levels(init_value, scales), shape)


@_checked
def linear_onecycle_schedule(
    transition_steps: SomeSteps, peak_value: Value, pct_start: Share = 0.3, pct_final: Share = 0.85,
    div_factor: Positive = 25.0, final_div_factor: Positive = 1e4,
) -> Schedule:  # fmt: skip
    """Lines peak/div -> peak -> peak/div -> peak/div/final_div at steps 0, pct_start T, pct_final T (floors), T.

    Smith & Topin 2018, arXiv:1708.07120.
    """
    more, name = f"greater than pct_start={pct_start}", "linear_onecycle_schedule"
    _must(HyperparameterError, pct_final > pct_start, name, "pct_final", pct_final, more)
    knots = (0, int(pct_start * transition_steps), int(pct_final * transition_steps), transition_steps)

    def schedule(step: ArrayLike) -> jax.Array:
        low = _real(peak_value) / _real(div_factor)
        return _through(step, knots, (low, peak_value, low, low / _real(final_div_factor)), _line)

    return schedule


@_checked
def cosine_onecycle_schedule(
    transition_steps: SomeSteps, peak_value: Value, pct_start: Share = 0.3,
    div_factor: Positive = 25.0, final_div_factor: Positive = 1e4,
) -> Schedule:  # fmt: skip
    """Half cosines peak/div -> peak -> peak/div/final_div at steps 0, pct_start T (floor), T.

    Smith & Topin 2018, arXiv:1708.07120, with fastai's cosines for its lines.
    """
    knots = (0, int(pct_start * transition_steps), transition_steps)

    def schedule(step: ArrayLike) -> jax.Array:
        low = _real(peak_value) / _real(div_factor)
        return _through(step, knots, (low, peak_value, low / _real(final_div_factor)), _cosine)

    return schedule


@_checked
def warmup_constant_schedule(init_value: Value, peak_value: Value, warmup_steps: Steps) -> Schedule:
    """init + (peak - init) min(t / warmup_steps, 1); without warmup steps, peak_value at once."""
    return lambda step: _follow(step, init_value, (0, warmup_steps, peak_value, _line))


@_checked
def warmup_cosine_decay_schedule(
    init_value: Value, peak_value: Value, warmup_steps: Steps, decay_steps: SomeSteps,
    end_value: Value = 0.0, exponent: Positive = 1.0,
) -> Schedule:  # fmt: skip
    """A line init -> peak, then half a cosine (to the power `exponent`) peak -> end, there at step decay_steps."""
    more, name = f"more than warmup_steps={warmup_steps}, which it includes", "warmup_cosine_decay_schedule"
    _must(HyperparameterError, decay_steps > warmup_steps, name, "decay_steps", decay_steps, more)
    fall = (warmup_steps, decay_steps - warmup_steps, end_value, _power(_cosine, exponent))
    return lambda step: _follow(step, init_value, (0, warmup_steps, peak_value, _line), fall)


@options
@_checked
def warmup_exponential_decay_schedule(
    init_value: Value, peak_value: Value, warmup_steps: Steps, transition_steps: Transition, decay_rate: Positive,
    transition_begin: Begin = 0, staircase: bool = False, end_value: Bound = None,
) -> Schedule:  # fmt: skip
    """A line init -> peak over the warmup, then `exponential_decay` from peak, its steps counted from there."""
    warmup = warmup_constant_schedule(init_value, peak_value, warmup_steps)
    decay = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    return join_schedules([warmup, decay], [warmup_steps])


@_checked
def warmup_stable_decay_schedule(
    init_value: Value, peak_value: Value, warmup_steps: Steps, stable_steps: Steps, decay_steps: SomeSteps,
    end_value: Value = 0.0, decay: Annotated[str, _one_of(*_SHAPES)] = "linear",
) -> Schedule:  # fmt: skip
    """A line init -> peak, peak held, then end + (peak - end) f(s) with s from 0 to 1 over decay_steps.

    f = 1 - s for "linear", (1 + cos(pi s)) / 2 for "cosine", 1 - sqrt(s) for "sqrt".
    Hu et al. 2024 (MiniCPM), arXiv:2404.06395, section 4; the falls: Hägele et al. 2024, arXiv:2405.18392.
    """
    begin = _steps("warmup_stable_decay_schedule", "warmup_steps + stable_steps", warmup_steps + stable_steps)
    fall = (begin, decay_steps, end_value, _SHAPES[decay])
    return lambda step: _follow(step, init_value, (0, warmup_steps, peak_value, _line), fall)


@_checked
def sgdr_schedule(cosine_kwargs: Annotated[Iterable[Mapping[str, Any]], _list_of(lambda *a: a[-1])]) -> Schedule:
    """Cosine cycles in a row, at least one: for each, the arguments of `warmup_cosine_decay_schedule` in a dict.

    Loshchilov & Hutter 2017, arXiv:1608.03983.
    """
    cycles, ends = [], [0]
    for i, kwargs in enumerate(cosine_kwargs):
        try:
            cycles.append(warmup_cosine_decay_schedule(**kwargs))
        except (TypeError, HyperparameterError) as problem:
            kind = HyperparameterTypeError if isinstance(problem, TypeError) else HyperparameterError
            say(kind, "sgdr_schedule", f"cosine_kwargs[{i}] is refused", repr(kwargs), str(problem))
        ends.append(ends[-1] + int(kwargs["decay_steps"]))
    _must(HyperparameterError, cycles != [], "sgdr_schedule", "cosine_kwargs", cycles, "a list of at least one dict")
    return join_schedules(cycles, ends[1:-1])


@_checked
def join_schedules(
    schedules: Annotated[Sequence[Schedule], _list_of(_that("a function of the step", callable))],
    boundaries: Annotated[Sequence[int], _list_of(_steps)],
) -> Schedule:
    """schedules[i] from boundaries[i - 1] to boundaries[i], each counting its steps from 0, asked for no others."""
    name, count = "join_schedules", f"one for each schedule but the first, of {len(schedules)}"
    _must(HyperparameterError, len(boundaries) == len(schedules) - 1, name, "boundaries", boundaries, count)
    increasing = all(a < b for a, b in pairwise(boundaries))
    _must(HyperparameterError, increasing, name, "boundaries", boundaries, "strictly increasing")

    def schedule(step: ArrayLike) -> jax.Array:
        joined, last = _real(0), 1 if jnp.issubdtype(jnp.result_type(step), jnp.integer) else 0
        for part, begin, end in zip(schedules, [0, *boundaries], [*boundaries, None], strict=True):
            since = _since(step, begin)
            length = None if end is None else max(end - begin - last, 0)
            own = since if length is None or not _fits(since, length) else jnp.minimum(since, length)
            with jax.numpy_dtype_promotion("standard"):  # a schedule is free to mix its step with floats
                value = part(own)
            _must(HyperparameterTypeError, _is_real(value), name, "a schedule's value", value, "a real number")
            joined = jnp.where(jnp.less(step, begin), joined, _real(value)) if _fits(step, begin) else joined
        return joined

    return schedule
