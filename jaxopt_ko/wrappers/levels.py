"""How high loss and gradient norm have been at the last steps that were taken, and whether a new one stands out."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_period
from jaxopt_ko.core.numerics import length, next_count, scalar_dtype, zero_count
from jaxopt_ko.errors import TreeError, describe, say
from jaxopt_ko.types import Updates

TAKEN, NOT_FINITE, HIGH_LOSS, HIGH_NORM = range(4)  # what became of a step, and why


class Levels(NamedTuple):
    """The last steps that were taken: rings, the oldest of which is overwritten next."""

    losses: Array  # float[window]  of those with a loss; 0 where there is none yet
    norms: Array  # float[window]   of their gradients, likewise
    with_loss: Array  # int32[]     losses written since the ring was empty
    accepted: Array  # int32[]      norms, likewise


class Verdict(NamedTuple):
    """What a step is judged to be."""

    reason: Array  # int32[]  TAKEN, NOT_FINITE, HIGH_LOSS or HIGH_NORM; the first that holds, in this order
    loss: Array | None  # float[]  None where none was given
    norm: Array  # float[]


def empty(window: int) -> Levels:
    """No step taken yet."""
    losses, norms = (jnp.zeros(window, scalar_dtype()) for _ in range(2))
    return Levels(losses, norms, zero_count(), zero_count())


def written(levels: Levels, verdict: Verdict) -> Levels:
    """The levels with one more step."""
    losses, norms, m, n = levels
    if verdict.loss is not None:
        losses, m = losses.at[m % losses.shape[0]].set(verdict.loss), next_count(m)
    return Levels(losses, norms.at[n % norms.shape[0]].set(verdict.norm), m, next_count(n))


def judged(
    name: str, levels: Levels, g: Updates, value: Any, sigma: Array, least: int, axis_name: tree.AxisName
) -> Verdict:
    """The gradients g and the loss `value`, or None, beside the steps before; least: of them, to say anything."""
    norm = tree.global_norm(tree.floating_only(g), axis_name=axis_name).astype(levels.norms.dtype)
    finite, loss = jnp.isfinite(norm), None
    reason = jnp.where(_stands_out(levels.norms, levels.accepted, norm, sigma, least), HIGH_NORM, TAKEN)
    if value is not None:
        loss = _loss(name, value).astype(norm.dtype)
        finite &= jnp.isfinite(loss)
        reason = jnp.where(_stands_out(levels.losses, levels.with_loss, loss, sigma, least), HIGH_LOSS, reason)
    return Verdict(jnp.where(finite, reason, NOT_FINITE).astype(jnp.int32), loss, norm)


def _stands_out(ring: Array, count: Array, x: Array, sigma: Array, least: int) -> Array:
    """bool[]: x - mean > sigma sd, of the numbers that are in the ring, at least `least` of them.

    A ring of equal numbers has sd = 0, and rounding would stand out: sd is sqrt(eps) |mean| at least.
    """
    n = jnp.minimum(count, ring.shape[0]).astype(ring.dtype)
    known, many = jnp.arange(ring.shape[0], dtype=jnp.int32) < count, jnp.maximum(n, 2)
    mean = jnp.sum(jnp.where(known, ring / many, 0))
    sd = length(jnp.where(known, ring - mean, 0)) / jnp.sqrt(many - 1)
    sd = jnp.maximum(sd, float(np.sqrt(np.finfo(ring.dtype).eps)) * jnp.abs(mean))
    return (n >= least) & (x - mean > sigma.astype(ring.dtype) * sd)


def _loss(name: str, value: Any) -> Array:
    """The loss that was given: one real number."""
    if np.shape(value) != () or not errors.is_number(value):
        say(TreeError, name, "value must be one real number (shape ())", describe(value),
            "Give the loss that the gradients are of: update(grads, state, params, value=loss)")  # fmt: skip
    return jnp.asarray(value)


def check_window(name: str, window: Any, warmup: Any) -> tuple[int, int]:
    """(window, steps taken before any is judged): static, as they are shapes and bounds."""
    window = check_period(name, "window", window, least=2)
    least = max(2, window // 2) if warmup is None else check_period(name, "warmup", warmup, least=2)
    if least > window:
        say(errors.HyperparameterError, name, "warmup must be at most window, or no step would ever be judged",
            f"warmup={least}, window={window}", "Give a longer window")  # fmt: skip
    return window, least
