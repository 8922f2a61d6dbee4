"""Means of parameters taken every so many steps: all of them from a step on, or the last few.

Stochastic weight averaging: Izmailov et al. 2018, arXiv:1803.05407. The last few: Kaddour 2022, arXiv:2209.14981.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.evaluation import keeps_average
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import with_record
from jaxopt_ko.core.numerics import scalar_dtype
from jaxopt_ko.core.tree import wide_copy
from jaxopt_ko.types import GradientTransformation, Params


def _mean(own: SwaState, p: Array, mean: Array) -> Array:
    return jnp.where(own.taken > 0, mean, p)


@keeps_average("mean", _mean, "taken")
class SwaState(NamedTuple):
    """State of `swa`."""

    count: Array  # int32[]            t, steps taken
    taken: Array  # int32[]            n, how many parameters are in the mean
    mean: Params  # like params, f32+  their mean; the parameters at the start until there are any


def swa(start: int, every: int = 1) -> GradientTransformation:
    """The plain mean of the parameters from a step on; updates pass as they are.

    n <- n + 1;  mean <- mean + (W_t - mean) / n      for t = start, start + every, …;   W_t = p + u, u = g

    start: the first step whose parameters count, an integer >= 1; where the learning rate is constant or cyclic, about
        3/4 of the run.
    every: steps from one to the next, an integer >= 1: the length of a cycle, or 1.

    State: 4 bytes a parameter and two counts. Needs params. Evaluate at the mean: `eval_params`; before step `start` it
    gives the parameters themselves. A model with batch normalization needs its statistics anew there. Leaves that
    cannot be trained, counters and keys, are left out.

    Raises HyperparameterError, when made, for other numbers; MissingArgumentError, when traced, without params. Source:
    Izmailov et al. 2018, arXiv:1803.05407, Algorithm 1. Not before what changes the updates: it is to be the last of a
    chain; nor where the learning rate falls to 0: `tail_average`.

    >>> tx = jo.chain(jo.sgd(0.1, 0.9), jo.swa(start=750))
    >>> params = {"w": jnp.ones(2)}
    >>> best = jo.eval_params(tx.init(params), params)
    """
    start, every = errors.check_steps("swa", "start", start), errors.check_steps("swa", "every", every)

    def init(p: Array) -> Memory:
        return (wide_copy(p),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        late = t - np.int32(start)
        due = (late >= 0) & (late % np.int32(every) == 0)
        taken = h.taken + due.astype(h.taken.dtype)
        n = jnp.maximum(taken, 1).astype(scalar_dtype())
        c = jnp.where(due, 1 / n, jnp.zeros_like(n))
        return {"taken": taken, "c": c}

    def rule(g: Array, p: Array, mean: Array, h: Scalars) -> Step:
        return g, mean + h.c * (p + g - mean)

    made = leafwise(
        "swa", SwaState, init=init, rule=rule, shared=shared, scalars={"taken": 0}, needs_params=True, beside=True
    )
    return with_record(made, passes=True)


def _last(own: LawaState, p: Array, ring: Array) -> Array:
    held = jnp.minimum(own.taken, ring.shape[0]).astype(ring.dtype)
    return jnp.where(own.taken > 0, jnp.sum(ring, axis=0) / jnp.maximum(held, 1), p)


@keeps_average("ring", _last, "taken", leading=True)
class LawaState(NamedTuple):
    """State of `lawa`."""

    count: Array  # int32[]             t, steps taken
    taken: Array  # int32[]             how many parameters have been kept
    ring: Params  # float[k, …] f32+    the last k of them, 0 where there was none yet


def lawa(k: int, every: int) -> GradientTransformation:
    """The mean of the parameters at the last k of every so many steps; updates pass as they are.

    mean of W_t over the last k of t = every, 2 every, …;   W_t = p + u, u = g

    k: how many are kept, an integer >= 1; the paper's 6.
    every: steps from one to the next, an integer >= 1: an epoch, or 1,000 steps of a language model.

    State: 4 k bytes a parameter and two counts. Needs params. Evaluate at the mean: `eval_params`; before step `every`
    it gives the parameters themselves. Leaves that cannot be trained, counters and keys, are left out.

    Raises HyperparameterError, when made, for other numbers; MissingArgumentError, when traced, without params. Source:
    Kaddour 2022, arXiv:2209.14981. Not before what changes the updates: it is to be the last of a chain; nor where
    memory counts: `average_params` keeps one copy.

    >>> tx = jo.chain(jo.adam(1e-3), jo.lawa(k=6, every=1000))
    >>> params = {"w": jnp.ones(2)}
    >>> best = jo.eval_params(tx.init(params), params)
    """
    k, every = errors.check_size("lawa", "k", k), errors.check_steps("lawa", "every", every)

    def init(p: Array) -> Memory:
        own = wide_copy(p)
        return (jnp.broadcast_to(jnp.zeros_like(own), (k, *own.shape)),)  # which keeps explicit shardings

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        due = t % np.int32(every) == 0
        return {"taken": h.taken + due.astype(h.taken.dtype), "due": due, "place": h.taken % np.int32(k)}

    def rule(g: Array, p: Array, ring: Array, h: Scalars) -> Step:
        kept = jax.lax.dynamic_index_in_dim(ring, h.place, keepdims=False)
        return g, jax.lax.dynamic_update_index_in_dim(ring, jnp.where(h.due, p + g, kept), h.place, 0)

    made = leafwise(
        "lawa", LawaState, init=init, rule=rule, shared=shared, scalars={"taken": 0}, needs_params=True, beside=True
    )
    return with_record(made, passes=True)
