"""Schedules of the record runs of modded-nanogpt's third track (records/track_3_optimization): how a rate falls there,
and how momentum rises and falls."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.errors import HyperparameterError, say
from jaxopt_ko.schedules.arguments import Positive, SomeSteps, Steps, Value, checked
from jaxopt_ko.schedules.ramps import SHAPES, Ramp, RampShape, Weights, as_scalar, follow, line
from jaxopt_ko.schedules.steps import fits
from jaxopt_ko.types import Schedule

__all__ = ["fast_slow_decay", "momentum_warmup_cooldown", "one_minus_sqrt", "power_cooldown"]


@checked
def power_cooldown(peak_value: Value, c: Positive, total_steps: SomeSteps, power: Positive = 1.2) -> Schedule:
    """Held, then down to 0 as a power of the steps that are left.

    min(peak_value, c max(total_steps - t, 0)**power)

    peak_value: the value at first: a finite number, which may be traced.
    c: how steep the fall is, a finite number > 0, which may be traced: peak_value / n**power for a fall over the last n
        steps. Groups of one c and several peaks come down along one curve, the higher ones first.
    total_steps: where it comes to 0, a static whole number > 0.
    power: a finite number > 0, which may be traced; 1.2 in the record runs.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.
    Source: modded-nanogpt, records/track_3_optimization, PowerCool of pull request #291.

    >>> rate = jo.schedules.power_cooldown(1.0, 1.0 / 40**1.2, total_steps=100)
    >>> [round(float(rate(t)), 4) for t in (0, 60, 80, 100)]
    [1.0, 1.0, 0.4353, 0.0]
    """

    def schedule(step: ArrayLike) -> jax.Array:
        ends = fits(step, total_steps)
        left = as_scalar(jnp.maximum(total_steps - step, 0) if ends else float(total_steps))
        some = jnp.less(step, total_steps) if ends else True  # 0 stays 0, with finite derivatives
        fall = as_scalar(c) * jnp.where(some, left, 1) ** as_scalar(power)
        return jnp.minimum(as_scalar(peak_value), jnp.where(some, fall, 0))

    return schedule


@checked
def one_minus_sqrt(
    peak_value: Value, total_steps: SomeSteps, warmup_steps: Steps = 0, end_value: Value = 0.0
) -> Schedule:
    """A line up, then down at once, fast at first: by the root of the part of the run that is over.

    peak (t + 1) / W  for t < W,  then  end + (peak - end) (1 - sqrt((t - W) / (T - W)))

    peak_value: the largest value, where the warmup ends: a finite number, which may be traced.
    total_steps: T, where it comes to end_value, a static whole number > warmup_steps.
    warmup_steps: W, a static whole number >= 0; 0: none.
    end_value: the last value: a finite number, which may be traced.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.
    Source: modded-nanogpt, records/track_3_optimization, pull request #343; the shape, Hägele et al. 2024,
    arXiv:2405.18392. With a stretch between in which the value is held: `warmup_stable_decay_schedule(decay="sqrt")`.

    >>> rate = jo.schedules.one_minus_sqrt(1.0, total_steps=110, warmup_steps=10)
    >>> [round(float(rate(t)), 4) for t in (0, 9, 10, 35, 110)]
    [0.1, 1.0, 1.0, 0.5, 0.0]
    """
    if warmup_steps >= total_steps:
        say(HyperparameterError, "one_minus_sqrt", "warmup_steps must be less than total_steps",
            f"warmup_steps={warmup_steps}, total_steps={total_steps}",
            "Shorten the warmup, or lengthen the run")  # fmt: skip
    fall = total_steps - warmup_steps
    return _warmed(peak_value, warmup_steps, (warmup_steps, fall, end_value, SHAPES["sqrt"]))


@checked
def fast_slow_decay(
    peak_value: Value, floor_value: Value, warmup_steps: Steps, stable_steps: Steps, fast_steps: Steps,
    slow_steps: SomeSteps, power: Positive = 0.6, end_value: Value = 0.0,
) -> Schedule:  # fmt: skip
    """Up, held shortly, down fast to a floor in the first half of a run, and slowly to the end in the second.

    peak (t + 1) / W                              t < W = warmup_steps
    peak                                          for stable_steps
    peak + (floor - peak) s**power                s from 0 to 1 over fast_steps
    floor + (end - floor) s                       s from 0 to 1 over slow_steps

    peak_value: the largest value, where the warmup ends: a finite number, which may be traced.
    floor_value: the value between fast and slow: a finite number, which may be traced; a fifth of the peak there.
    warmup_steps: W, a static whole number >= 0; 0: none.
    stable_steps: how many steps the peak is held, a static whole number >= 0.
    fast_steps: how many steps the fast fall takes, a static whole number >= 0.
    slow_steps: how many steps the slow fall takes, a static whole number > 0.
    power: of the fast fall, a finite number > 0, which may be traced; below 1 it is steepest at first.
    end_value: the last value: a finite number, which may be traced.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.
    Source: modded-nanogpt, records/track_3_optimization, pull request #351, whose run of 3,125 steps is the example.

    >>> rate = jo.schedules.fast_slow_decay(0.030, 0.006, 100, 100, fast_steps=1550, slow_steps=1375)
    >>> [round(float(rate(t)), 4) for t in (0, 99, 199, 975, 1750, 3125)]
    [0.0003, 0.03, 0.03, 0.0142, 0.006, 0.0]
    """
    begin = warmup_steps + stable_steps
    fast = (begin, fast_steps, floor_value, _of_gone(power))
    return _warmed(peak_value, warmup_steps, fast, (begin + fast_steps, slow_steps, end_value, line))


@checked
def momentum_warmup_cooldown(
    total_steps: SomeSteps, low: Value = 0.85, high: Value = 0.95, warmup_steps: Steps = 300,
    cooldown_steps: Steps = 200,
) -> Schedule:  # fmt: skip
    """A momentum that rises along a line at first, and falls back along one at the end of a run.

    low + (high - low) min(t / W, 1, (T - t) / C),   low after T

    total_steps: T, a static whole number >= W + C.
    low, high: the ends, finite numbers, which may be traced; 0.85 and 0.95 are those of Muon's record runs.
    warmup_steps: W, how many steps it rises, a static whole number >= 0.
    cooldown_steps: C, how many steps it falls, a static whole number >= 0.

    Returns a schedule: step int[...] -> float32[...], float64 with x64.
    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.
    Source: modded-nanogpt, records/track_3_optimization, pull request #300.

    >>> beta = jo.schedules.momentum_warmup_cooldown(2900)
    >>> [round(float(beta(t)), 4) for t in (0, 150, 300, 2700, 2800, 2900)]
    [0.85, 0.9, 0.95, 0.95, 0.9, 0.85]
    >>> rule = jo.scale_by_muon(beta=beta)
    """
    rises = warmup_steps + cooldown_steps
    if rises > total_steps:
        say(HyperparameterError, "momentum_warmup_cooldown",
            "total_steps must be warmup_steps + cooldown_steps at least",
            f"total_steps={total_steps}, {warmup_steps} + {cooldown_steps}",
            "Shorten the two, or lengthen the run")  # fmt: skip
    ramps = (0, warmup_steps, high, line), (total_steps - cooldown_steps, cooldown_steps, low, line)
    return lambda step: follow(step, low, *ramps)


def _warmed(peak: ArrayLike, warmup_steps: int, *falls: Ramp) -> Schedule:
    """peak (t + 1) / W, so that no step is of length 0, and the ramps behind."""
    start = as_scalar(peak) / max(warmup_steps, 1)
    return lambda step: follow(step, start, (0, max(warmup_steps - 1, 0), peak, line), *falls)


def _of_gone(power: ArrayLike) -> RampShape:
    """The weight of the end is a power of what is gone."""

    def shape(gone: jax.Array, left: jax.Array) -> Weights:
        some = gone > 0  # 0 stays 0, with finite derivatives
        weight = jnp.where(some, jnp.where(some, gone, 1) ** as_scalar(power), 0)
        return 1 - weight, weight

    return shape
