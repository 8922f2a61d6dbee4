"""How far predictions are from their targets, element by element or as one mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import POSITIVE, check_number, missing_argument
from jaxopt_ko.losses.arrays import difference


def squared_error(predictions: ArrayLike, targets: ArrayLike | None = None) -> jax.Array:
    """(p - t)**2 for every element, p**2 without targets.

    predictions: what the model says, float[...]: real floating numbers of any shape.
    targets: real numbers of the same shape, nothing is broadcast; None: 0.

    Returns float[...] like predictions, in float32 at least.
    Raises TreeError if the two differ in shape, predictions are not real floating numbers, or targets are complex.
    Not for targets with gross outliers: one of them outweighs all the rest.

    >>> jo.losses.squared_error(jnp.array([2.0, 0.0]), jnp.array([1.0, 3.0])).tolist()
    [1.0, 9.0]
    """
    return jnp.square(difference("squared_error", predictions, targets))


def l2_loss(predictions: ArrayLike, targets: ArrayLike | None = None) -> jax.Array:
    """(p - t)**2 / 2 for every element: `squared_error` without the factor 2 in its derivative, p - t.

    predictions: what the model says, float[...]: real floating numbers of any shape.
    targets: real numbers of the same shape, nothing is broadcast; None: 0.

    Returns float[...] like predictions, in float32 at least.
    Raises TreeError as `squared_error` does.
    Not for targets with gross outliers: see `huber_loss`.

    >>> loss = lambda p: jo.losses.l2_loss(p, 1.0)
    >>> float(loss(3.0)), float(jax.grad(loss)(3.0))
    (2.0, 2.0)
    """
    return 0.5 * jnp.square(difference("l2_loss", predictions, targets))


@options
def mean_squared_error(predictions: ArrayLike, targets: ArrayLike, *, half: bool = False) -> jax.Array:
    """mean((p - t)**2) over all elements, one number; with half=True half of it, whose gradient has no factor 2.

    predictions: what the model says, float[...]: real floating numbers of any shape.
    targets: real numbers of the same shape, which cannot be left out; nothing is broadcast.
    half: the half, whose gradient is (p - t) / n; it trains at twice the learning rate as the whole does.

    Returns float[], in float32 at least; NaN of no elements.
    Raises TreeError as `squared_error` does, MissingArgumentError for targets=None.
    Not for batches that are filled up with rows that do not count: take the mean of `squared_error` by yourself.

    >>> p, t = jnp.array([2.0, 0.0]), jnp.array([1.0, 3.0])
    >>> float(jo.losses.mean_squared_error(p, t)), float(jo.losses.mean_squared_error(p, t, half=True))
    (5.0, 2.5)
    """
    if targets is None:
        missing_argument("mean_squared_error", "targets", "Give an array like the predictions")
    mean = jnp.mean(jnp.square(difference("mean_squared_error", predictions, targets)))
    return 0.5 * mean if half else mean


def huber_loss(predictions: ArrayLike, targets: ArrayLike | None = None, *, delta: float = 1.0) -> jax.Array:
    """A square for small differences, a line for large ones: outliers weigh less.

    (p - t)**2 / 2             where |p - t| <= delta
    delta (|p - t| - delta / 2)  beyond

    predictions: what the model says, float[...]: real floating numbers of any shape.
    targets: real numbers of the same shape, nothing is broadcast; None: 0.
    delta: where the line begins, a number > 0, which may be traced, in the targets' unit: about as large as the noise.

    Returns float[...] like predictions, in float32 at least; its derivative is p - t, at most delta in size.
    Raises TreeError as `squared_error` does, HyperparameterError for delta <= 0.
    Source: Huber 1964, Ann. Math. Statist. 35, 73.

    >>> jo.losses.huber_loss(jnp.array([0.5, 10.0]), jnp.zeros(2)).tolist()
    [0.125, 9.5]
    """
    check_number("huber_loss", "delta", delta, POSITIVE)
    apart = jnp.abs(difference("huber_loss", predictions, targets))
    near = jnp.minimum(apart, delta)
    return 0.5 * near * near + delta * (apart - near)


def log_cosh(predictions: ArrayLike, targets: ArrayLike | None = None) -> jax.Array:
    """log cosh(p - t): (p - t)**2 / 2 near 0, |p - t| - log 2 far away; smooth everywhere.

    predictions: what the model says, float[...]: real floating numbers of any shape.
    targets: real numbers of the same shape, nothing is broadcast; None: 0.

    Returns float[...] like predictions, in float32 at least; no exponential overflows, and small differences keep
    their digits. Its derivative is tanh(p - t).
    Raises TreeError as `squared_error` does.

    >>> [round(float(jo.losses.log_cosh(p)), 4) for p in (0.0, 1.0, 1000.0)]
    [0.0, 0.4338, 999.3068]
    """
    apart = jnp.abs(difference("log_cosh", predictions, targets))
    small = jnp.minimum(apart, 1)
    near = jnp.log1p(2 * jnp.square(jnp.sinh(small / 2)))  # the difference below would lose the digits of a small p - t
    return jnp.where(apart < 1, near, apart + jnp.log1p(jnp.exp(-2 * apart)) - jnp.asarray(jnp.log(2.0), apart.dtype))
