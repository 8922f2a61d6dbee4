"""How far predictions are from their targets, element by element or as one mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import POSITIVE, check_number, missing_argument
from jaxopt_ko.losses.arrays import difference


def squared_error(predictions: ArrayLike, targets: ArrayLike | None = None) -> jax.Array:
    """(p - t)**2 for every element, p**2 without targets; shape of `predictions`, float32 at least.

    Raises TreeError if the two differ in shape or `predictions` are not real floating numbers.
    Not for targets with gross outliers: one of them outweighs all the rest.
    """
    return jnp.square(difference("squared_error", predictions, targets))


def l2_loss(predictions: ArrayLike, targets: ArrayLike | None = None) -> jax.Array:
    """(p - t)**2 / 2 for every element: `squared_error` without the factor 2 in its derivative, p - t."""
    return 0.5 * jnp.square(difference("l2_loss", predictions, targets))


@options
def mean_squared_error(predictions: ArrayLike, targets: ArrayLike, *, half: bool = False) -> jax.Array:
    """mean((p - t)**2) over all elements, a scalar; with half=True half of it, whose gradient has no factor 2.

    The half trains at twice the learning rate as the whole does. Raises as `squared_error` does.
    """
    if targets is None:
        missing_argument("mean_squared_error", "targets", "Give an array like the predictions")
    mean = jnp.mean(jnp.square(difference("mean_squared_error", predictions, targets)))
    return 0.5 * mean if half else mean


def huber_loss(predictions: ArrayLike, targets: ArrayLike | None = None, *, delta: float = 1.0) -> jax.Array:
    """(p - t)**2 / 2 where |p - t| <= delta, delta (|p - t| - delta / 2) beyond (Huber 1964): outliers weigh less."""
    check_number("huber_loss", "delta", delta, POSITIVE)
    apart = jnp.abs(difference("huber_loss", predictions, targets))
    near = jnp.minimum(apart, delta)
    return 0.5 * near * near + delta * (apart - near)


def log_cosh(predictions: ArrayLike, targets: ArrayLike | None = None) -> jax.Array:
    """log cosh(p - t): (p - t)**2 / 2 near 0, |p - t| - log 2 far away; smooth everywhere."""
    apart = jnp.abs(difference("log_cosh", predictions, targets))
    small = jnp.minimum(apart, 1)
    near = jnp.log1p(2 * jnp.square(jnp.sinh(small / 2)))  # the difference below would lose the digits of a small p - t
    return jnp.where(apart < 1, near, apart + jnp.log1p(jnp.exp(-2 * apart)) - jnp.asarray(jnp.log(2.0), apart.dtype))
