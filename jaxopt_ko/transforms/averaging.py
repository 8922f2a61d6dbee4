"""Exponential moving averages: of any tree that passes, and of the parameters that the steps lead to."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from jaxopt_ko.core.evaluation import evaluated, keeps_average
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import with_record
from jaxopt_ko.core.numerics import ratio
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_copy, wide_like
from jaxopt_ko.errors import FRACTION, UNIT
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, State, Updates


@quantizable(signed=("ema",))
class EmaState(NamedTuple):
    """State of `ema`."""

    count: Array  # int32[]                t, values seen
    ema: Updates  # like what passes, f32+ s_t, not corrected


@options
def ema(decay: Hyper, debias: bool = True, accumulator_dtype: DType | None = None) -> GradientTransformation:
    """u = s_t / (1 - decay**t), the mean of what has passed, recent values weighing most.

    s_t = decay s + (1 - decay) x;   debias=False: u = s_t

    decay is the weight of the past; a text that writes s <- alpha x + (1 - alpha) s has alpha = 1 - decay.
    To average parameters, give them as the updates: mean, state = ema(0.999).update(params, state).
    """

    def init(p: Array) -> Memory:
        return (wide_like(p, 0, accumulator_dtype),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"c": h.gathered("decay")}

    def rule(x: Array, p: Array, s: Array, h: Scalars) -> Step:
        s = h.decay * s + (1 - h.decay) * x
        return (s / h.c if debias else s), s

    hypers = {"decay": (decay, FRACTION if debias else UNIT)}
    dtypes = {"accumulator_dtype": accumulator_dtype}
    return leafwise(
        "ema", EmaState, init=init, shared=shared if debias else None, rule=rule, hypers=hypers, dtypes=dtypes,
        debiased=("decay",) if debias else (),
    )  # fmt: skip


def _mean(own: AverageParamsState, p: Array, s: Array) -> Array:
    return s


@keeps_average("mean", _mean, "weight")
class AverageParamsState(NamedTuple):
    """State of `average_params`."""

    weight: Array  # float[]             1 - decay**t, what the average has gathered
    mean: Params  # like params, f32+    s_t, corrected; the parameters themselves at first; of floating leaves


def average_params(decay: Hyper) -> GradientTransformation:
    """u = g, and beside it the mean of p + u, the parameters after each step. To be the last of a chain; needs params.

    w_t = decay w + 1 - decay
    s_t = s + (1 - decay) / w_t (p + u - s)     as it was at first while decay is 1 (w_t = 0)

    Evaluate at s: `eval_params`, `averaged_params`. Leaves that cannot be trained, counters and keys, are left out.
    Not before what changes the updates.
    """

    def init(p: Array) -> Memory:
        return (wide_copy(p),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        weight = h.decay * h.weight + (1 - h.decay)
        return {"weight": weight, "c": ratio(1 - h.decay, weight)}

    def rule(g: Array, p: Array, s: Array, h: Scalars) -> Step:
        return g, s + h.c * (p + g - s)

    made = leafwise(
        "average_params", AverageParamsState, init=init, rule=rule, hypers={"decay": (decay, FRACTION)},
        scalars={"weight": 0.0}, shared=shared, needs_params=True, beside=True,
    )  # fmt: skip
    return with_record(made, passes=True)


def averaged_params(state: State, params: Params) -> Params:
    """The mean of the parameters, in their dtypes; of those leaves that `average_params` saw, the others as they are.

    state: of the whole optimizer, with one `AverageParamsState` in it or several for different leaves. Leaves that
    none of them covers stay as they are. Raises StateError if there is none, or if two cover one leaf. `eval_params` is
    the same for every kind of average.
    params: the parameters, a tree of floating arrays.
    """
    return evaluated("averaged_params", state, params, (AverageParamsState,))
