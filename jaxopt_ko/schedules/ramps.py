"""Ramps: from one value to the next along a line, a cosine or a power."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.core.numerics import scalar_dtype
from jaxopt_ko.schedules.steps import fits, steps_since

Weights: TypeAlias = tuple[jax.Array, jax.Array]  # of the two ends of a ramp
RampShape: TypeAlias = Callable[[jax.Array, jax.Array], Weights]  # from the parts of the ramp (gone, left)
Ramp: TypeAlias = tuple[int, int, ArrayLike, RampShape]  # first step, how many (0: a jump), end value, shape


def line(gone: jax.Array, left: jax.Array) -> Weights:
    """Straight."""
    return left, gone


def cosine(gone: jax.Array, left: jax.Array) -> Weights:
    """(1 +- cos(pi gone)) / 2, as squares: they lose no digits where they are small."""
    return jnp.sin(0.5 * math.pi * left) ** 2, jnp.sin(0.5 * math.pi * gone) ** 2


def _one_minus_sqrt(gone: jax.Array, left: jax.Array) -> Weights:
    root = jnp.sqrt(gone)
    return left / (1 + root), root


def raised(shape: RampShape, exponent: ArrayLike) -> RampShape:
    """The shape whose weight of the start is that of `shape` to a power."""

    def powered(gone: jax.Array, left: jax.Array) -> Weights:
        weight, _ = shape(gone, left)
        some = weight > 0  # 0 stays 0, with finite derivatives
        weight = jnp.where(some, jnp.power(jnp.where(some, weight, 1), as_scalar(exponent)), 0)
        return weight, 1 - weight

    return powered


SHAPES: dict[str, RampShape] = {"linear": line, "cosine": cosine, "sqrt": _one_minus_sqrt}


def as_scalar(x: ArrayLike) -> jax.Array:
    """In the dtype of schedules' values."""
    return jnp.asarray(x, scalar_dtype())


def follow(step: ArrayLike, start: ArrayLike, *ramps: Ramp) -> jax.Array:
    """The value at `step`: `start`, then from ramp to ramp, each held at its end until the next begins."""
    value = jnp.broadcast_to(as_scalar(start), jnp.shape(step))
    for begin, length, end, shape in ramps:
        if not fits(step, begin):
            break
        gone, size = steps_since(step, begin), max(length, 1)
        ends = fits(step, length)
        if ends:
            gone = jnp.minimum(gone, length) if length else jnp.where(jnp.less(step, begin), 0, 1)
        left = as_scalar(size - gone) if ends else float(size) - as_scalar(gone)
        at_start, at_end = shape(as_scalar(gone) / float(size), left / float(size))
        between = at_start * as_scalar(start) + at_end * as_scalar(end)
        inside = jnp.where(gone < size, between, as_scalar(end)) if ends else between
        value = jnp.where(gone == 0, value, inside)  # the ends, bit by bit
        start = end
    return value


def levels_of(init_value: ArrayLike, scales: Mapping[int, ArrayLike]) -> list[jax.Array]:
    """init_value, and what it becomes by each scale in turn."""
    return list(accumulate(map(as_scalar, scales.values()), operator.mul, initial=as_scalar(init_value)))


def through(step: ArrayLike, knots: Sequence[int], levels: Sequence[ArrayLike], shape: RampShape) -> jax.Array:
    """The levels at the knots, the first of both at step 0, and ramps from one to the next."""
    ramps = [(a, b - a, end, shape) for (a, b), end in zip(pairwise(knots), levels[1:], strict=True)]
    return follow(step, levels[0], *ramps)
