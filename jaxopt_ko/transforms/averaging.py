"""Exponential moving averages: of any tree that passes, and of the parameters that the steps lead to."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.evaluation import evaluated, keeps_average
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import with_record
from jaxopt_ko.core.numerics import ratio
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_copy, wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE, UNIT, Domain, MissingArgumentError, say
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, State, Updates

LEAST_ONE = Domain(1.0, math.inf, "a finite number >= 1")


@quantizable(signed=("ema",))
class EmaState(NamedTuple):
    """State of `ema`."""

    count: Array  # int32[]                t, values seen
    ema: Updates  # like what passes, f32+ s_t, not corrected


@options
def ema(decay: Hyper, debias: bool = True, accumulator_dtype: DType | None = None) -> GradientTransformation:
    """The exponential moving average of what passes.

    s_t = decay s + (1 - decay) x;   u = s_t / (1 - decay**t), or s_t with debias=False

    decay: the weight of the past, in [0, 1), with debias=False in [0, 1]: it remembers about 1 / (1 - decay) values. A
        text that writes s <- alpha x + (1 - alpha) s has alpha = 1 - decay.
    debias: divide by the weight that the mean has gathered, as it starts at 0; True, so that the first mean is the
        first value.
    accumulator_dtype: dtype of s; None: float32 at least.

    State: 4 bytes a parameter, or those of accumulator_dtype, and a count. Raises HyperparameterError, when made, for a
    decay outside its domain. Source: Kingma & Ba 2015, arXiv:1412.6980, section 3, for the correction; optax's ema. Not
    for averages of parameters within a chain, for what passes there are steps: `average_params`; to average parameters
    by hand, give them as the updates.

    >>> mean = jo.ema(0.999)
    >>> average, state = mean.update(jnp.array([1.0, 2.0]), mean.init(jnp.ones(2)))
    >>> [round(float(x), 4) for x in average]
    [1.0, 2.0]
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


@keeps_average("mean", _mean, "count")
class PowerAverageState(NamedTuple):
    """State of `average_params` with a power."""

    count: Array  # int32[]              t, steps taken
    mean: Params  # like params, f32+    s_t; the parameters themselves at first; of floating leaves


@options
def average_params(decay: Hyper | None = None, *, power: Hyper | None = None) -> GradientTransformation:
    """The mean of the parameters after each step, kept beside them; updates pass as they are.

    w_t = decay w + 1 - decay
    s_t = s + (1 - decay) / w_t (p + u - s)     as it was at first while decay is 1 (w_t = 0);   u = g
    s_t = b s + (1 - b) (p + u),   b = (1 - 1 / t)**(power + 1)                            with power

    decay: the weight of the past, in [0, 1): the mean is over about 1 / (1 - decay) steps, with less weight on the
        older ones; as it is corrected, early means are good, too.
    power: in its place: the mean is over a constant part of the run so far, the weight of step n as n**power, > 0.
        `average_power` tells it for the width of that part: 16.97 for 5 % of the run, 6.94 for 10 %.

    State: 4 bytes a parameter, and a weight or, with power, a count. Needs params. Evaluate at s: `eval_params`,
    `averaged_params`; of means of two powers, kept at several steps, `posthoc_average` makes one of any width. Leaves
    that cannot be trained, counters and keys, are left out.

    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError for neither or both,
    and, when traced, without params. Source: Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4), with a mean that
    forgets; power, Karras et al. 2024, arXiv:2312.02696, section 3.1. Not before what changes the updates: it is to be
    the last of a chain.

    >>> tx = jo.chain(jo.adam(1e-3), jo.average_params(0.999))
    >>> params = {"w": jnp.ones(2)}
    >>> best = jo.eval_params(tx.init(params), params)
    >>> wide = jo.chain(jo.adam(1e-3), jo.average_params(power=6.94))
    """
    if decay is not None and power is None:
        return _forgetting(decay)
    if decay is None and power is not None:
        return _of_a_part(power)
    say(MissingArgumentError, "average_params", "either decay or power must be given", f"decay={decay}, power={power}",
        "It says what the mean is over")  # fmt: skip


def _of_a_part(power: Hyper) -> GradientTransformation:
    def init(p: Array) -> Memory:
        return (wide_copy(p),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        one = jnp.ones_like(h.power)
        t = t.astype(h.power.dtype)
        later = t > 1
        c = -jnp.expm1((h.power + 1) * jnp.log1p(-1 / jnp.where(later, t, one + 1)))
        return {"c": jnp.where(later, c, one)}

    def rule(g: Array, p: Array, s: Array, h: Scalars) -> Step:
        return g, s + h.c * (p + g - s)

    made = leafwise(
        "average_params", PowerAverageState, init=init, rule=rule, shared=shared, hypers={"power": (power, POSITIVE)},
        needs_params=True, beside=True,
    )  # fmt: skip
    return with_record(made, passes=True)


def _forgetting(decay: Hyper) -> GradientTransformation:
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
    """The mean of the parameters that `average_params` has kept, in the parameters' dtypes.

    s of the leaves that it saw, the others as they are

    state: of the whole optimizer, with one `AverageParamsState` or `PowerAverageState` in it or several for different
        leaves; or the part of it that is meant.
    params: the parameters, a tree of floating arrays, as they are after the step that made the state.

    Returns a tree like params. Raises StateError if there is no such state, or if two cover one leaf. Source: Polyak &
    Juditsky 1992. Not for other kinds of averages: `eval_params` reads all of them.

    >>> tx = jo.chain(jo.adam(1e-3), jo.average_params(0.999))
    >>> params = {"w": jnp.ones(2)}
    >>> jo.averaged_params(tx.init(params), params)["w"].tolist()
    [1.0, 1.0]
    """
    return evaluated("averaged_params", state, params, (AverageParamsState, PowerAverageState))


def _blend(own: TailAverageState, p: Array, e: Array) -> Array:
    return p + own.lam.astype(p.dtype) * (e - p)


@keeps_average("mean", _blend, "lam")
class TailAverageState(NamedTuple):
    """State of `tail_average`."""

    count: Array  # int32[]            t, steps taken
    lam: Array  # float[]              lam, the weight of the mean where it is read
    mean: Params  # like params, f32+  e_t, mean of the tail; the parameters themselves until it begins


def tail_average(tau: Hyper = 150.0, start: Hyper = 0, lam: Hyper = 0.6) -> GradientTransformation:
    """A mean of the parameters over the end of a run, of which a part is read; updates pass as they are.

    e_t = W_t                                       t <= start
    e_t = e + (W_t - e) / tau                       t > start
    read: (1 - lam) W + lam e                       W_t = p + u the parameters after step t = 1, 2, …;   u = g

    tau: how many steps the mean remembers, >= 1; 150 of a run of 2,900 steps.
    start: the step after which the mean begins, >= 0: where the learning rate falls, about 5/6 of the run; a number,
        or an array.
    lam: the weight of the mean where it is read, in [0, 1]; 0.6: a whole mean lags behind parameters that still move.

    State: 4 bytes a parameter, a count and lam. Needs params. Evaluate at the blend: `eval_params`,
    `tail_averaged_params`; behind `ema_nesterov`, which keeps an average, too, by the latter, and from a start on
    where its beta is 0. Leaves that cannot be trained, counters and keys, are left out.

    Raises HyperparameterError, when made, for numbers outside their domains; MissingArgumentError, when traced, without
    params. Source: modded-nanogpt, records/track_3_optimization, pull request #325. Not before what changes the
    updates: it is to be the last of a chain; nor for a whole run: `average_params` is corrected for its start.

    >>> tx = jo.chain(jo.adam(1e-3), jo.tail_average(tau=150, start=2400))
    >>> params = {"w": jnp.ones(2)}
    >>> best = jo.eval_params(tx.init(params), params)
    """

    def init(p: Array) -> Memory:
        return (wide_copy(p),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        late = t.astype(h.start.dtype) > h.start
        return {"kept": h.lam, "c": jnp.where(late, 1 / h.tau, jnp.ones_like(h.tau))}

    def rule(g: Array, p: Array, e: Array, h: Scalars) -> Step:
        return g, e + h.c * (p + g - e)

    hypers = {"tau": (tau, LEAST_ONE), "start": (start, NONNEGATIVE), "lam": (lam, UNIT)}
    made = leafwise(
        "tail_average", TailAverageState, init=init, rule=rule, shared=shared, hypers=hypers, scalars={"kept": 0.0},
        needs_params=True, beside=True,
    )  # fmt: skip
    return with_record(made, passes=True)


def tail_averaged_params(state: State, params: Params) -> Params:
    """The blend of the parameters with their mean that `tail_average` has kept, in the parameters' dtypes.

    (1 - lam) W + lam e of the leaves that it saw, the others as they are

    state: of the whole optimizer, with one `TailAverageState` in it or several for different leaves.
    params: the parameters W, a tree of floating arrays, as they are after the step that made the state.

    Returns a tree like params. Raises StateError if there is no such state, or if two cover one leaf. Source:
    modded-nanogpt, records/track_3_optimization, pull request #325. Not for other kinds of averages: `eval_params`
    reads all of them.

    >>> tx = jo.chain(jo.adam(1e-3), jo.tail_average(tau=150, start=2400))
    >>> params = {"w": jnp.ones(2)}
    >>> jo.tail_averaged_params(tx.init(params), params)["w"].tolist()
    [1.0, 1.0]
    """
    return evaluated("tail_averaged_params", state, params, (TailAverageState,))
