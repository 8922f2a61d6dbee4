"""Early stopping: a pure pair that watches a number and says when it has been enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import scalar_dtype, zero_count
from jaxopt_ko.errors import NONNEGATIVE, MissingArgumentError, StateError, TreeError, describe, say
from jaxopt_ko.training.checks import check_whole
from jaxopt_ko.types import Params


class EarlyStoppingState(NamedTuple):
    """What early stopping remembers."""

    best: jax.Array  # float[]  the best value so far, infinitely bad before the first
    best_params: Params  # like params  where it was reached; None if init got none
    wait: jax.Array  # int32[]  checks since then
    should_stop: jax.Array  # bool[]  wait has reached the patience; stays True


class EarlyStopping(NamedTuple):
    """A pure pair.

    init(params=None) -> state
    update(value, state, params=None) -> state, to be called at each check with a number to watch
    """

    init: Callable[..., EarlyStoppingState]
    update: Callable[..., EarlyStoppingState]


def early_stopping(
    patience: int | jax.Array, *, min_delta: float | jax.Array = 0.0, mode: str = "min"
) -> EarlyStopping:
    """A pure pair that says stop after so many checks in a row without a better value.

    better:  value < best - min_delta  ("min"), value > best + min_delta  ("max");   stop once wait = patience

    patience: checks, an integer >= 1, traced too.
    min_delta: by how much a better value is better, in its units, >= 0.
    mode: "min" if lower is better (a loss), "max" if higher is (an accuracy).

    Returns an `EarlyStopping`: init(params=None) -> state, update(value, state, params=None) -> state. NaN is never
    better. If init and every update are given the parameters, the state keeps a copy of the best ones.

    Raises HyperparameterError for a patience below 1, a negative min_delta, an unknown mode; MissingArgumentError if
    update gets no params though init did. Source: Prechelt 1998, doi:10.1007/3-540-49430-8_3. Not for a noisy value
    checked at every step: its luckiest draw looks like a best that nothing beats.

    >>> watch = jo.loop.early_stopping(patience=2)
    >>> state = watch.update(0.5, watch.init())
    >>> bool(state.should_stop)
    False
    """
    errors.check_choice("early_stopping", "mode", mode, ("min", "max"))
    check_whole("early_stopping", "patience", patience, 1)
    errors.check_number("early_stopping", "min_delta", min_delta, NONNEGATIVE)
    sign = 1.0 if mode == "min" else -1.0

    def init(params: Params = None) -> EarlyStoppingState:
        best = jnp.full((), sign * math.inf, scalar_dtype())
        return EarlyStoppingState(best, params, zero_count(), jnp.zeros((), bool))

    def update(value: jax.typing.ArrayLike, state: EarlyStoppingState, params: Params = None) -> EarlyStoppingState:
        if not isinstance(state, EarlyStoppingState):
            say(StateError, "early_stopping", "the state must be an EarlyStoppingState", describe(state),
                "Call update(value, state, params) with what init or the last update returned")  # fmt: skip
        if (not hasattr(value, "dtype") and not isinstance(value, int | float)) or jnp.shape(value) != ():
            say(TreeError, "early_stopping", "the value to watch must be one number (shape ())",
                describe(value), "Take its mean; vmap over several runs")  # fmt: skip
        keeps = bool(jax.tree.leaves(state.best_params))
        if keeps and params is None:
            say(MissingArgumentError, "early_stopping", "params are missing", "params=None",
                "Call update(value, state, params), or init() without params to keep none")  # fmt: skip
        value = jnp.asarray(value).astype(state.best.dtype)
        better = sign * (state.best - value) > jnp.asarray(min_delta).astype(value.dtype)
        wait = jnp.where(better, jnp.zeros_like(state.wait), state.wait + np.int32(1))
        best_params = tree.where(better, params, state.best_params) if keeps else state.best_params
        stop = state.should_stop | (wait >= jnp.asarray(patience).astype(wait.dtype))
        return EarlyStoppingState(jnp.where(better, value, state.best), best_params, wait, stop)

    return EarlyStopping(init, update)
