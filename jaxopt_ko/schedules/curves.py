"""Schedules of one piece and of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, say
from jaxopt_ko.schedules.arguments import (
    Begin,
    Bound,
    Moment,
    Positive,
    Scales,
    Share,
    SomeSteps,
    Steps,
    Threshold,
    Transition,
    Value,
    checked,
    is_real,
    list_of,
    one_of,
    require,
    value_that,
    whole_steps,
)
from jaxopt_ko.schedules.ramps import SHAPES, as_scalar, cosine, follow, levels_of, line, raised, through
from jaxopt_ko.schedules.steps import fits, steps_since
from jaxopt_ko.types import GivenSchedule, Schedule

__all__ = [
    "constant_schedule", "cosine_decay_schedule", "cosine_onecycle_schedule", "exponential_decay",
    "inverse_sqrt_schedule", "inverse_time_decay", "join_schedules", "linear_onecycle_schedule", "linear_schedule",
    "piecewise_constant_schedule", "piecewise_interpolate_schedule", "polynomial_schedule", "rewarm", "sgdr_schedule",
    "warmup_constant_schedule", "warmup_cosine_decay_schedule", "warmup_exponential_decay_schedule",
    "warmup_stable_decay_schedule",
]  # fmt: skip

# ---- of one piece -------------------------------------------------------------------------------------


@checked
def constant_schedule(value: Threshold) -> Schedule:
    """The same value at every step.

    value: any number but NaN, which may be traced; infinity too, as for a clipping threshold that is not yet in force.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for NaN, HyperparameterTypeError for what is no number.

    >>> rate = jo.constant_schedule(0.1)
    >>> round(float(rate(1000)), 4)
    0.1
    """
    return lambda step: follow(step, value)


@checked
def linear_schedule(
    init_value: Value, end_value: Value, transition_steps: Transition, transition_begin: Begin = 0
) -> Schedule:
    """A line over T steps from step B on.

    I + (E - I) clip((t - B) / T, 0, 1),  I = init_value, E = end_value

    init_value: the value at step 0: a finite number, which may be traced.
    end_value: the value from the end of the transition on: a finite number, which may be traced.
    transition_steps: T, how many steps it takes, a static whole number; 0 or less: it stays at init_value.
    transition_begin: B, the step where it begins, a static whole number; what is negative counts as 0.

    Returns a schedule: step int[...] -> float32[...], float64 with x64; the ends are exact.
    Raises HyperparameterError for values that are not finite, its subclass HyperparameterTypeError for other types.

    >>> rate = jo.linear_schedule(1.0, 0.0, transition_steps=10)
    >>> [float(rate(t)) for t in (0, 5, 20)]
    [1.0, 0.5, 0.0]
    """
    end = end_value if transition_steps else init_value
    return lambda step: follow(step, init_value, (transition_begin, transition_steps, end, line))


@checked
def polynomial_schedule(
    init_value: Value, end_value: Value, power: Positive, transition_steps: Transition, transition_begin: Begin = 0
) -> Schedule:
    """A power of what is left of the line.

    E + (I - E) (1 - clip((t - B) / T, 0, 1))**power,  I = init_value, E = end_value

    init_value: the value at step 0: a finite number, which may be traced.
    end_value: the value from the end of the transition on: a finite number, which may be traced.
    power: a finite number > 0, which may be traced; 1: `linear_schedule`.
    transition_steps: T, how many steps it takes, a static whole number; 0 or less: it stays at init_value.
    transition_begin: B, the step where it begins, a static whole number; what is negative counts as 0.

    Returns a schedule: step int[...] -> float32[...], float64 with x64; the ends are exact.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.

    >>> rate = jo.polynomial_schedule(1.0, 0.0, power=2, transition_steps=10)
    >>> [float(rate(t)) for t in (0, 5, 20)]
    [1.0, 0.25, 0.0]
    """
    end, shape = end_value if transition_steps else init_value, raised(line, power)
    return lambda step: follow(step, init_value, (transition_begin, transition_steps, end, shape))


@checked
def cosine_decay_schedule(
    init_value: Value, decay_steps: SomeSteps, alpha: Value = 0.0, exponent: Positive = 1.0
) -> Schedule:
    """Half a cosine from init_value I to alpha I.

    I (alpha + (1 - alpha) ((1 + cos(pi min(t / decay_steps, 1))) / 2)**exponent)

    init_value: the value at step 0: a finite number, which may be traced.
    decay_steps: how many steps the fall takes, a static whole number > 0; the value stays where it ends.
    alpha: the last value over the first, a finite number, which may be traced; 0: down to 0.
    exponent: power of the cosine, a finite number > 0, which may be traced; 1: the cosine itself.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.
    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5.
    Not for runs whose length is not known before: see `warmup_stable_decay_schedule`.

    >>> rate = jo.cosine_decay_schedule(1.0, decay_steps=10)
    >>> [round(float(rate(t)), 4) for t in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """
    shape = raised(cosine, exponent)
    return lambda step: follow(step, init_value, (0, decay_steps, as_scalar(init_value) * as_scalar(alpha), shape))


@options
@checked
def exponential_decay(
    init_value: Value, transition_steps: Transition, decay_rate: Positive,
    transition_begin: Begin = 0, staircase: bool = False, end_value: Bound = None,
) -> Schedule:  # fmt: skip
    """The value times `decay_rate` every T steps.

    init_value decay_rate**n,  n = max(t - B, 0) / T, rounded down if `staircase`

    init_value: the value at step 0: a finite number, which may be traced.
    transition_steps: T, in how many steps the value is multiplied once by decay_rate, a static whole number; 0 or less:
        it stays as it is at first.
    decay_rate: what it is multiplied by, a finite number > 0, which may be traced; below 1 it falls.
    transition_begin: B, the step where it begins, a static whole number; what is negative counts as 0.
    staircase: round n down, so that the value falls in stairs.
    end_value: a bound, from below if decay_rate < 1, else from above: a finite number, which may be traced; None: none.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.

    >>> rate = jo.exponential_decay(1.0, transition_steps=10, decay_rate=0.5, staircase=True)
    >>> [float(rate(t)) for t in (0, 9, 10, 20)]
    [1.0, 1.0, 0.5, 0.25]
    """
    timing, falls = (transition_steps, transition_begin, staircase), lambda: as_scalar(decay_rate) < 1
    return _decay(lambda n: as_scalar(init_value) * as_scalar(decay_rate) ** n, timing, end_value, falls)


@options
@checked
def inverse_time_decay(
    init_value: Value, transition_steps: Transition, decay_rate: Positive,
    transition_begin: Begin = 0, staircase: bool = False, end_value: Bound = None,
) -> Schedule:  # fmt: skip
    """The value over one plus `decay_rate` for every T steps.

    init_value / (1 + decay_rate n),  n = max(t - B, 0) / T, rounded down if `staircase`

    init_value: the value at step 0: a finite number, which may be traced.
    transition_steps: T, what steps are counted in, a static whole number; 0 or less: the value stays as it is at first.
    decay_rate: how fast it falls, a finite number > 0, which may be traced.
    transition_begin: B, the step where it begins, a static whole number; what is negative counts as 0.
    staircase: round n down, so that the value falls in stairs.
    end_value: a bound from below, a finite number, which may be traced; None: none.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.

    >>> rate = jo.schedules.inverse_time_decay(1.0, transition_steps=10, decay_rate=1.0)
    >>> [float(rate(t)) for t in (0, 10, 30)]
    [1.0, 0.5, 0.25]
    """
    timing = (transition_steps, transition_begin, staircase)
    return _decay(lambda n: as_scalar(init_value) / (1 + as_scalar(decay_rate) * n), timing, end_value, lambda: True)


def _decay(
    law: Callable[[jax.Array], jax.Array], timing: tuple[int, int, bool],
    end: ArrayLike | None, falls: Callable[[], ArrayLike],
) -> Schedule:  # fmt: skip
    """law(n), or `end` where that is past it: no derivative is taken there, it may have overflowed."""
    length, begin, staircase = timing

    def schedule(step: ArrayLike) -> jax.Array:
        t, size = (steps_since(step, begin), length) if length else (jnp.zeros_like(step), 1)
        whole = t // size if staircase and fits(step, size) else jnp.zeros_like(t)
        n = as_scalar(whole) if staircase else as_scalar(t) / float(size)
        if end is None:
            return law(n)
        past = jnp.where(falls(), law(n) < as_scalar(end), law(n) > as_scalar(end))
        return jnp.where(past, as_scalar(end), law(jnp.where(past, 0, n)))

    return schedule


@checked
def inverse_sqrt_schedule(peak_value: Value, warmup_steps: Steps, init_value: Value = 0.0) -> Schedule:
    """A line over W warmup steps, then the inverse root of the step: as transformers were trained first.

    init + (peak - init) t / W  up to step W, then  peak sqrt(W / t);  W = 0: peak / sqrt(max(t, 1))

    peak_value: the largest value, where the warmup ends: a finite number, which may be traced.
    warmup_steps: W, how many steps the warmup takes, a static whole number >= 0.
    init_value: the value at step 0: a finite number, which may be traced.

    Returns a schedule: step int[...] -> float32[...], float64 with x64. It never ends, and needs no length of the run.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.
    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 3, where peak = (d_model W)**-0.5.

    >>> rate = jo.schedules.inverse_sqrt_schedule(1.0, warmup_steps=100)
    >>> [round(float(rate(t)), 4) for t in (50, 100, 400)]
    [0.5, 1.0, 0.5]
    """
    least = max(warmup_steps, 1)
    warmup = warmup_constant_schedule(init_value, peak_value, warmup_steps)

    def schedule(step: jax.Array) -> jax.Array:
        if not fits(step, least):
            return warmup(step)
        return warmup(step) * jnp.sqrt(least / as_scalar(jnp.maximum(step, least)))

    return schedule


# ---- of several pieces --------------------------------------------------------------------------------


@checked
def piecewise_constant_schedule(init_value: Value, boundaries_and_scales: Scales = None) -> Schedule:
    """A value that is multiplied at each boundary: {1000: 0.1, 2000: 0.1} divides by 10 twice.

    init_value times the scales of all boundaries <= t

    init_value: the value at step 0: a finite number, which may be traced.
    boundaries_and_scales: {step: factor >= 0}, steps static and factors traced if need be; None: none.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for a scale below 0 or a boundary that is no static whole number >= 0,
    its subclass HyperparameterTypeError for what is no dict.

    >>> rate = jo.piecewise_constant_schedule(1.0, {10: 0.5, 20: 0.5})
    >>> [float(rate(t)) for t in (9, 10, 20)]
    [1.0, 0.5, 0.25]
    """
    scales = boundaries_and_scales or {}
    return lambda step: follow(
        step, init_value, *((b, 0, v, line) for b, v in zip(scales, levels_of(init_value, scales)[1:], strict=True))
    )


@checked
def piecewise_interpolate_schedule(
    interpolate_type: Annotated[str, one_of("linear", "cosine")],
    init_value: Value,
    boundaries_and_scales: Scales = None,
) -> Schedule:
    """The values of `piecewise_constant_schedule` at 0 and the boundaries, joined by lines or half cosines.

    interpolate_type: "linear" or "cosine".
    init_value: the value at step 0: a finite number, which may be traced.
    boundaries_and_scales: {step: factor >= 0}, steps static and factors traced if need be; None: none.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for another type, and as `piecewise_constant_schedule` does.

    >>> rate = jo.piecewise_interpolate_schedule("linear", 1.0, {10: 0.5, 20: 0.0})
    >>> [float(rate(t)) for t in (0, 5, 10, 15)]
    [1.0, 0.75, 0.5, 0.25]
    """
    scales, shape = boundaries_and_scales or {}, SHAPES[interpolate_type]
    return lambda step: through(step, [0, *scales], levels_of(init_value, scales), shape)


@checked
def linear_onecycle_schedule(
    transition_steps: SomeSteps, peak_value: Value, pct_start: Share = 0.3, pct_final: Share = 0.85,
    div_factor: Positive = 25.0, final_div_factor: Positive = 1e4,
) -> Schedule:  # fmt: skip
    """Up to the peak, down again, and further down, along lines.

    peak / div -> peak -> peak / div -> peak / div / final_div  at steps  0, pct_start T, pct_final T (rounded down), T

    transition_steps: T, how many steps there are in all, a static whole number > 0; the value stays where it ends.
    peak_value: the largest value, where the warmup ends: a finite number, which may be traced.
    pct_start: share of the steps until the peak, a static number in (0, 1); 0.3 as in optax.
    pct_final: share of the steps where the first value is reached again, a static number in (pct_start, 1); 0.85 as in
        optax.
    div_factor: the peak over the first value, a finite number > 0, which may be traced; 25 as in optax.
    final_div_factor: the first value over the last, a finite number > 0, which may be traced; as in optax.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains and for pct_final <= pct_start, its subclass
    HyperparameterTypeError for other types.
    Source: Smith & Topin 2018, arXiv:1708.07120.

    >>> rate = jo.linear_onecycle_schedule(100, peak_value=1.0, div_factor=10.0)
    >>> [round(float(rate(t)), 4) for t in (0, 30, 85, 100)]
    [0.1, 1.0, 0.1, 0.0]
    """
    more, name = f"greater than pct_start={pct_start}", "linear_onecycle_schedule"
    require(HyperparameterError, pct_final > pct_start, name, "pct_final", pct_final, more)
    knots = (0, int(pct_start * transition_steps), int(pct_final * transition_steps), transition_steps)

    def schedule(step: ArrayLike) -> jax.Array:
        low = as_scalar(peak_value) / as_scalar(div_factor)
        return through(step, knots, (low, peak_value, low, low / as_scalar(final_div_factor)), line)

    return schedule


@checked
def cosine_onecycle_schedule(
    transition_steps: SomeSteps, peak_value: Value, pct_start: Share = 0.3,
    div_factor: Positive = 25.0, final_div_factor: Positive = 1e4,
) -> Schedule:  # fmt: skip
    """Up to the peak and far down, along half cosines.

    peak / div -> peak -> peak / div / final_div  at steps  0, pct_start T (rounded down), T

    transition_steps: T, how many steps there are in all, a static whole number > 0; the value stays where it ends.
    peak_value: the largest value, where the warmup ends: a finite number, which may be traced.
    pct_start: share of the steps until the peak, a static number in (0, 1); 0.3 as in optax.
    div_factor: the peak over the first value, a finite number > 0, which may be traced; 25 as in optax.
    final_div_factor: the first value over the last, a finite number > 0, which may be traced; as in optax.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.
    Source: Smith & Topin 2018, arXiv:1708.07120, with fastai's cosines for its lines.

    >>> rate = jo.cosine_onecycle_schedule(100, peak_value=1.0, div_factor=10.0)
    >>> [round(float(rate(t)), 4) for t in (0, 30, 65)]
    [0.1, 1.0, 0.5]
    """
    knots = (0, int(pct_start * transition_steps), transition_steps)

    def schedule(step: ArrayLike) -> jax.Array:
        low = as_scalar(peak_value) / as_scalar(div_factor)
        return through(step, knots, (low, peak_value, low / as_scalar(final_div_factor)), cosine)

    return schedule


@checked
def warmup_constant_schedule(init_value: Value, peak_value: Value, warmup_steps: Steps) -> Schedule:
    """A line up to the peak, then the peak.

    init + (peak - init) min(t / warmup_steps, 1)

    init_value: the value at step 0: a finite number, which may be traced.
    peak_value: the largest value, where the warmup ends: a finite number, which may be traced.
    warmup_steps: how many steps the warmup takes, a static whole number >= 0; 0: the peak at once.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.

    >>> rate = jo.warmup_constant_schedule(0.0, 1.0, warmup_steps=10)
    >>> [float(rate(t)) for t in (0, 5, 100)]
    [0.0, 0.5, 1.0]
    """
    return lambda step: follow(step, init_value, (0, warmup_steps, peak_value, line))


@checked
def warmup_cosine_decay_schedule(
    init_value: Value, peak_value: Value, warmup_steps: Steps, decay_steps: SomeSteps,
    end_value: Value = 0.0, exponent: Positive = 1.0,
) -> Schedule:  # fmt: skip
    """A line init -> peak, then half a cosine (to the power `exponent`) peak -> end, there at step decay_steps.

    init_value: the value at step 0: a finite number, which may be traced.
    peak_value: the largest value, where the warmup ends: a finite number, which may be traced.
    warmup_steps: how many steps the warmup takes, a static whole number >= 0; 0: none.
    decay_steps: how many steps there are in all, the warmup included: a static whole number > warmup_steps.
    end_value: the value from step decay_steps on: a finite number, which may be traced; 0: to the end.
    exponent: power of the cosine, a finite number > 0, which may be traced; 1: the cosine itself.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains and for decay_steps <= warmup_steps, its subclass
    HyperparameterTypeError for other types.
    Source: the fall, Loshchilov & Hutter 2017, arXiv:1608.03983, equation 5.
    Not for runs whose length is not known before: see `warmup_stable_decay_schedule`.

    >>> rate = jo.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps=10, decay_steps=110)
    >>> [round(float(rate(t)), 4) for t in (5, 10, 60, 110)]
    [0.5, 1.0, 0.5, 0.0]
    >>> opt = jo.adamw(rate)
    """
    more, name = f"more than warmup_steps={warmup_steps}, which it includes", "warmup_cosine_decay_schedule"
    require(HyperparameterError, decay_steps > warmup_steps, name, "decay_steps", decay_steps, more)
    fall = (warmup_steps, decay_steps - warmup_steps, end_value, raised(cosine, exponent))
    return lambda step: follow(step, init_value, (0, warmup_steps, peak_value, line), fall)


@options
@checked
def warmup_exponential_decay_schedule(
    init_value: Value, peak_value: Value, warmup_steps: Steps, transition_steps: Transition, decay_rate: Positive,
    transition_begin: Begin = 0, staircase: bool = False, end_value: Bound = None,
) -> Schedule:  # fmt: skip
    """A line init -> peak over the warmup, then `exponential_decay` from peak, its steps counted from there.

    init_value: the value at step 0: a finite number, which may be traced.
    peak_value: the largest value, where the warmup ends: a finite number, which may be traced.
    warmup_steps: how many steps the warmup takes, a static whole number >= 0; 0: none.
    transition_steps: T, in how many steps the value is multiplied once by decay_rate, a static whole number; 0 or less:
        it stays at the peak.
    decay_rate: what it is multiplied by, a finite number > 0, which may be traced; below 1 it falls.
    transition_begin: after how many steps from the end of the warmup the fall begins, a static whole number; what is
        negative counts as 0.
    staircase: round n down, so that the value falls in stairs.
    end_value: a bound, from below if decay_rate < 1, else from above: a finite number, which may be traced; None: none.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.

    >>> rate = jo.warmup_exponential_decay_schedule(0.0, 1.0, 10, transition_steps=20, decay_rate=0.5)
    >>> [float(rate(t)) for t in (5, 10, 30)]
    [0.5, 1.0, 0.5]
    """
    warmup = warmup_constant_schedule(init_value, peak_value, warmup_steps)
    decay = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    return join_schedules([warmup, decay], [warmup_steps])


@checked
def warmup_stable_decay_schedule(
    init_value: Value, peak_value: Value, warmup_steps: Steps, stable_steps: Steps, decay_steps: SomeSteps,
    end_value: Value = 0.0, decay: Annotated[str, one_of(*SHAPES)] = "linear",
) -> Schedule:  # fmt: skip
    """Up, held, and down at the end: the run may be lengthened as long as the fall has not begun.

    A line init -> peak, peak held, then end + (peak - end) f(s) with s from 0 to 1 over decay_steps;
    f = 1 - s for "linear", (1 + cos(pi s)) / 2 for "cosine", 1 - sqrt(s) for "sqrt".

    init_value: the value at step 0: a finite number, which may be traced.
    peak_value: the largest value, where the warmup ends: a finite number, which may be traced.
    warmup_steps: how many steps the warmup takes, a static whole number >= 0; 0: none.
    stable_steps: how many steps the peak is held, a static whole number >= 0.
    decay_steps: how many steps the fall takes, a static whole number > 0; a tenth to a fifth of the run is usual.
    end_value: the last value: a finite number, which may be traced.
    decay: shape of the fall, "linear", "cosine" or "sqrt".

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains and for another shape, its subclass
    HyperparameterTypeError for other types.
    Source: Hu et al. 2024 (MiniCPM), arXiv:2404.06395, section 4; the falls: Hägele et al. 2024, arXiv:2405.18392.

    >>> rate = jo.schedules.warmup_stable_decay_schedule(0.0, 1.0, 10, stable_steps=80, decay_steps=10)
    >>> [float(rate(t)) for t in (5, 50, 95, 100)]
    [0.5, 1.0, 0.5, 0.0]
    """
    begin = whole_steps("warmup_stable_decay_schedule", "warmup_steps + stable_steps", warmup_steps + stable_steps)
    fall = (begin, decay_steps, end_value, SHAPES[decay])
    return lambda step: follow(step, init_value, (0, warmup_steps, peak_value, line), fall)


@checked
def sgdr_schedule(cosine_kwargs: Annotated[Iterable[Mapping[str, Any]], list_of(lambda *a: a[-1])]) -> Schedule:
    """Cosine cycles in a row: warm restarts.

    cosine_kwargs: for each cycle a dict of the arguments of `warmup_cosine_decay_schedule`, at least one; a cycle has
        decay_steps steps, its warmup included.

    Returns a schedule: step int[...] -> float32[...], float64 with x64; after the last cycle its end_value.
    Raises HyperparameterError for no cycle and for arguments that a cycle refuses, its subclass HyperparameterTypeError
    for what is no list, and for arguments that are missing or unknown.
    Source: Loshchilov & Hutter 2017, arXiv:1608.03983.

    >>> cycle = {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 2, "decay_steps": 10}
    >>> rate = jo.sgdr_schedule([cycle, {**cycle, "peak_value": 0.5}])
    >>> [float(rate(t)) for t in (2, 10, 12)]
    [1.0, 0.0, 0.5]
    """
    cycles, ends = [], [0]
    for i, kwargs in enumerate(cosine_kwargs):
        try:
            cycles.append(warmup_cosine_decay_schedule(**kwargs))
        except (TypeError, HyperparameterError) as problem:
            kind = HyperparameterTypeError if isinstance(problem, TypeError) else HyperparameterError
            say(kind, "sgdr_schedule", f"cosine_kwargs[{i}] is refused", repr(kwargs), str(problem))
        ends.append(ends[-1] + int(kwargs["decay_steps"]))
    require(HyperparameterError, cycles != [], "sgdr_schedule", "cosine_kwargs", cycles, "a list of at least one dict")
    return join_schedules(cycles, ends[1:-1])


@checked
def join_schedules(
    schedules: Annotated[Sequence[GivenSchedule], list_of(value_that("a function of the step", callable))],
    boundaries: Annotated[Sequence[int], list_of(whole_steps)],
) -> Schedule:
    """One schedule after the other, each counting its steps from 0, and asked for no others.

    schedules[i](t - boundaries[i - 1])  for boundaries[i - 1] <= t < boundaries[i]

    schedules: functions of the step, each of which returns one real number.
    boundaries: static whole numbers >= 0, strictly increasing: one for each schedule but the first.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for another number of boundaries and for ones that do not increase, its subclass
    HyperparameterTypeError for what is no function, and when it is asked, for a schedule that returns no number.

    >>> parts = [jo.linear_schedule(0.0, 1.0, 10), jo.exponential_decay(1.0, 10, 0.5)]
    >>> rate = jo.join_schedules(parts, [10])
    >>> [float(rate(t)) for t in (5, 10, 20)]
    [0.5, 1.0, 0.5]
    """
    name, count = "join_schedules", f"one for each schedule but the first, of {len(schedules)}"
    require(HyperparameterError, len(boundaries) == len(schedules) - 1, name, "boundaries", boundaries, count)
    increasing = all(a < b for a, b in pairwise(boundaries))
    require(HyperparameterError, increasing, name, "boundaries", boundaries, "strictly increasing")

    def schedule(step: ArrayLike) -> jax.Array:
        joined, last = as_scalar(0), 1 if jnp.issubdtype(jnp.result_type(step), jnp.integer) else 0
        for part, begin, end in zip(schedules, [0, *boundaries], [*boundaries, None], strict=True):
            since = steps_since(step, begin)
            length = None if end is None else max(end - begin - last, 0)
            own = since if length is None or not fits(since, length) else jnp.minimum(since, length)
            with jax.numpy_dtype_promotion("standard"):  # a schedule is free to mix its step with floats
                value = part(own)
            require(HyperparameterTypeError, is_real(value), name, "a schedule's value", value, "a real number")
            joined = jnp.where(jnp.less(step, begin), joined, as_scalar(value)) if fits(step, begin) else joined
        return joined

    return schedule


@checked
def rewarm(
    schedule: Annotated[
        GivenSchedule | float, value_that("a number or a function of the step", lambda s: callable(s) or is_real(s))
    ],
    at: Moment,
    steps: SomeSteps,
) -> Schedule:
    """The schedule, warmed up anew from step `at` on: after a state was loaded of which some starts anew.

    r(t) = s(t)                               for t < at
    r(t) = s(t) min((t - at + 1) / steps, 1)  from there on

    schedule: a function of the step, or a number.
    at: the step of the saved count, say: a whole number >= 0, which may be traced.
    steps: how many steps the new warmup takes, a static whole number > 0.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types;
    when it is asked, HyperparameterTypeError for a schedule that returns no number.

    >>> rate = jo.schedules.rewarm(jo.linear_schedule(1.0, 0.0, 100), at=50, steps=10)
    >>> [round(float(rate(t)), 4) for t in (49, 50, 59)]
    [0.51, 0.05, 0.41]
    >>> opt = jo.adamw(rate)
    """

    def warmed(step: jax.Array) -> jax.Array:
        with jax.numpy_dtype_promotion("standard"):  # a schedule is free to mix its step with floats
            value = schedule(step) if callable(schedule) else schedule
        require(HyperparameterTypeError, is_real(value), "rewarm", "the schedule's value", value, "a real number")
        begin = at.astype(jnp.result_type(step)) if isinstance(at, jax.core.Tracer) else int(at)  # type: ignore[arg-type]
        if isinstance(begin, int) and not fits(step, begin):
            return as_scalar(value)
        gone = as_scalar(jnp.maximum(step, begin) - begin)
        part = jnp.where(jnp.less(step, begin), as_scalar(1), jnp.minimum((gone + 1) / float(steps), 1))
        return part * as_scalar(value)

    return warmed
