"""Smaller steps once a value stops falling. After Keras's and torch's ReduceLROnPlateau."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_objective, check_period
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.numerics import next_count, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, Domain
from jaxopt_ko.types import GradientTransformation, Hyper, Params, Updates

FACTOR = Domain(0.0, 1.0, "in (0, 1)", low_open=True)
SHARE = Domain(0.0, 1.0, "in [0, 1]", infinite=True)


class ReduceLROnPlateauState(NamedTuple):
    """State of `reduce_on_plateau`."""

    scale: Array  # float[]         s, what updates are multiplied by
    best_value: Array  # float[]    v*, the smallest mean seen
    plateau_count: Array  # int32[] means in a row that were no better than v*
    cooldown_count: Array  # int32[] means to wait before counting again
    count: Array  # int32[]         values in the mean that is being taken
    avg_value: Array  # float[]     v, that mean


def reduce_on_plateau(
    factor: Hyper = 0.1,
    patience: int | Array = 10,
    rtol: Hyper = 1e-4,
    atol: Hyper = 0.0,
    cooldown: int | Array = 0,
    accumulation_size: int | Array = 1,
    min_scale: Hyper = 0.0,
) -> GradientTransformation:
    """Smaller steps once a value stops falling.

    u = s g;   s becomes max(factor s, min_scale) when `patience` means in a row were no better than the best, v*
    v = mean of the last accumulation_size values;   better:  v < v* - rtol |v*| - atol

    factor: what s is multiplied by, in (0, 1).
    patience: means that may be no better, an integer >= 0; 10 as in Keras and torch.
    rtol: the part of |v*| by which a better mean is lower, in [0, 1]; of |v*|, not v*, since a value may be below zero.
    atol: the amount by which it is lower besides, in the value's units, >= 0.
    cooldown: means that pass after a reduction before counting begins again, an integer >= 0.
    accumulation_size: values in a mean, an integer >= 1: the steps of an epoch, say, for a noisy loss.
    min_scale: the least s, >= 0.

    State: 24 bytes, float32 at least. Put it behind the optimizer, and give each update its loss: update(…,
    value=loss).

    Raises HyperparameterError for numbers outside their domain; MissingArgumentError, when traced, without value;
    TreeError for a value that is not one real number. Source: Keras's and torch's ReduceLROnPlateau. Not for a loss of
    single batches with the default accumulation_size: its luckiest value looks like a best that nothing beats.

    >>> tx = jo.chain(jo.adam(1e-3), jo.reduce_on_plateau(0.5, patience=5, accumulation_size=100))
    >>> state = tx.init(jnp.ones(2))
    """
    name = "reduce_on_plateau"
    specs = {
        "factor": (factor, FACTOR),
        "rtol": (rtol, SHARE),
        "atol": (atol, NONNEGATIVE),
        "min_scale": (min_scale, NONNEGATIVE),
    }
    patience = check_period(name, "patience", patience, least=0)
    cooldown = check_period(name, "cooldown", cooldown, least=0)
    size = check_period(name, "accumulation_size", accumulation_size)

    def init(params: Params) -> ReduceLROnPlateauState:
        float_ = tree.scalar_dtype_like(params)
        scale, best, mean = jnp.ones((), float_), jnp.full((), jnp.inf, float_), jnp.zeros((), float_)
        return ReduceLROnPlateauState(scale, best, zero_count(), zero_count(), zero_count(), mean)

    def update(
        updates: Updates, state: ReduceLROnPlateauState, params: Params = None, *, h: Scalars, value: Any = None
    ) -> tuple[Updates, ReduceLROnPlateauState]:
        if value is None:
            errors.missing_argument(name, "value", "Call update(updates, state, params, value=loss)")
        check_objective(name, value)
        scale, best, waited, rest, n, mean = jax.tree.map(jnp.real, state)
        n = next_count(n)
        mean = mean + (jnp.asarray(value).astype(mean.dtype) - mean) / n.astype(mean.dtype)
        mean = jnp.where(n == 1, jnp.asarray(value).astype(mean.dtype), mean)
        full = n >= size
        bar = jnp.where(jnp.isfinite(best), best - h.rtol * jnp.abs(best) - h.atol, best)
        better = mean < bar
        waiting = rest > 0
        worse = jnp.where(better | waiting, zero_count(), next_count(waited))
        reduced = (worse > 0) & (worse >= patience)
        smaller = jnp.maximum(scale * h.factor, h.min_scale)
        pause = jnp.where(reduced, jnp.asarray(cooldown, jnp.int32), jnp.maximum(rest - 1, zero_count()))
        after = ReduceLROnPlateauState(
            jnp.where(reduced, smaller, scale),
            jnp.where(better, mean, best),
            jnp.where(reduced, zero_count(), worse),
            pause,
            zero_count(),
            jnp.zeros_like(mean),
        )
        new = tree.where(full, after, ReduceLROnPlateauState(scale, best, waited, rest, n, mean))
        steps = jax.tree.map(lambda g: _times(new.scale, g), updates)
        return steps, tree.cast_like(new, state)

    return transform(name, init, update, state_type=ReduceLROnPlateauState, hypers=specs, own=None)


@jax.jit
def _times(scale: Array, g: Array) -> Array:
    wide = tree.compute_dtype(g.dtype)
    return (scale.astype(wide) * g.astype(wide)).astype(g.dtype)
