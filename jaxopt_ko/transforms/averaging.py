"""The exponential moving average of any tree that passes: gradients, parameters, metrics."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from jaxopt_ko.compose import leafwise
from jaxopt_ko.errors import FRACTION
from jaxopt_ko.lift import Memory, Scalars, Step
from jaxopt_ko.numerics import bias_correction
from jaxopt_ko.tree import wide_like
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Updates


class EmaState(NamedTuple):
    """State of `ema`."""

    count: Array  # int32[]                t, values seen
    ema: Updates  # like what passes, f32+ s_t, not corrected


def ema(decay: Hyper, debias: bool = True, accumulator_dtype: DType | None = None) -> GradientTransformation:
    """u = s_t / (1 - decay**t), the mean of what has passed, recent values weighing most.

    s_t = decay s + (1 - decay) x;   debias=False: u = s_t

    decay is the weight of the past; a text that writes s <- alpha x + (1 - alpha) s has alpha = 1 - decay.
    To average parameters, give them as the updates: mean, state = ema(0.999).update(params, state).
    """

    def init(p: Array) -> Memory:
        return (wide_like(p, 0, accumulator_dtype),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"c": bias_correction(h.decay, t)}

    def rule(x: Array, p: Array, s: Array, h: Scalars) -> Step:
        s = h.decay * s + (1 - h.decay) * x
        return (s / h.c if debias else s), s

    hypers = {"decay": (decay, FRACTION)}
    dtypes = {"accumulator_dtype": accumulator_dtype}
    return leafwise("ema", EmaState, init=init, shared=shared, rule=rule, hypers=hypers, dtypes=dtypes)
