"""Losses of a model's outputs, element by element or as one mean; none of them broadcasts its arguments.

All compute in float32 at least and return what they computed in: a float16 does not hold the square of 300.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.errors import TreeError, describe, missing_argument, say
from jaxopt_ko.tree import compute_dtype


def squared_error(predictions: ArrayLike, targets: ArrayLike | None = None) -> jax.Array:
    """(p - t)**2 for every element, p**2 without targets; shape of `predictions`, float32 at least.

    Raises TreeError if the two differ in shape or `predictions` are not real floating numbers.
    Not for targets with gross outliers: one of them outweighs all the rest.
    """
    return jnp.square(_difference("squared_error", predictions, targets))


def l2_loss(predictions: ArrayLike, targets: ArrayLike | None = None) -> jax.Array:
    """(p - t)**2 / 2 for every element: `squared_error` without the factor 2 in its derivative, p - t."""
    return 0.5 * jnp.square(_difference("l2_loss", predictions, targets))


def mean_squared_error(predictions: ArrayLike, targets: ArrayLike, *, half: bool = False) -> jax.Array:
    """mean((p - t)**2) over all elements, a scalar; half=True halves it: no factor 2 in the gradient.

    With twice the learning rate the halved form trains as the other does. Raises as `squared_error` does.
    """
    if targets is None:
        missing_argument("mean_squared_error", "targets", "Give an array like the predictions")
    mean = jnp.mean(jnp.square(_difference("mean_squared_error", predictions, targets)))
    return 0.5 * mean if half else mean


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: int | tuple[int, ...] = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """log(sum_j exp(z_j)) - z_label for every example: -log of the probability that softmax gives its label.

    logits: float[..., classes], the classes along `axis`; several axes count as one, in the order given.
    labels: int[...], the shape of logits without `axis`. A label outside 0 .. classes - 1, negative or too
        large, gives NaN, not another class.
    where: bool[...] like labels (whole examples) or like logits (single classes): what takes part. An example
        of which nothing takes part costs 0, whatever its label.
    Returns float[...] like labels, float32 at least.

    Raises TreeError for logits that are not floating, labels that are not integers, shapes that do not fit.
    Not for soft labels, nor for several per example.
    """
    who = "softmax_cross_entropy_with_integer_labels"
    z, y = _floating(who, "logits", logits), jnp.asarray(labels)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        say(TreeError, who, "labels must be integers, one class index for each example", describe(y),
            "For one-hot labels pass jnp.argmax(labels, axis)")  # fmt: skip
    axes = _axes(who, axis, z.ndim)
    batch_axes = tuple(a for a in range(z.ndim) if a not in axes)
    batch = tuple(z.shape[a] for a in batch_axes)
    classes = math.prod(z.shape[a] for a in axes)
    if y.shape != batch:
        say(TreeError, who, f"labels must have the shape {batch}, that of {describe(z)} without axis {axis}",
            describe(y), "Reshape the labels (nothing is broadcast), or name the classes' axis")  # fmt: skip

    def classes_last(x: jax.Array) -> jax.Array:
        return x.transpose(batch_axes + axes).reshape(*batch, classes)

    z = classes_last(z.astype(compute_dtype(z.dtype)))
    top = min(classes - 1, jnp.iinfo(y.dtype).max)  # type: ignore[no-untyped-call]  # in the labels' own dtype, which may be as narrow as uint8
    inside = (y >= 0) & (y <= jnp.asarray(top, y.dtype))
    label = jnp.where(inside, y, jnp.zeros_like(y)).astype(jnp.int32)

    def chosen(z: jax.Array) -> jax.Array:
        return jnp.take_along_axis(z, label[..., None], axis=-1)[..., 0]

    if where is None:
        return jnp.where(inside, jax.nn.logsumexp(z, axis=-1) - chosen(z), jnp.nan)
    mask = jnp.asarray(where).astype(bool)
    if mask.shape not in (batch, jnp.shape(logits)):
        say(TreeError, who, f"where must have the shape {batch} of labels or {jnp.shape(logits)} of logits",
            describe(mask), "Shapes are never broadcast: reshape the mask")  # fmt: skip
    mask = mask[..., None] if mask.shape == batch else classes_last(mask)
    some = jnp.any(mask, axis=-1)
    mask = jnp.broadcast_to(mask | ~some[..., None], z.shape)  # an empty sum has no usable derivative
    z = jnp.where(some[..., None], z, jnp.zeros_like(z))  # nor has what takes no part, be it NaN
    among = jnp.where(mask, z, jnp.zeros_like(z))
    loss = jnp.where(inside, jax.nn.logsumexp(among, axis=-1, where=mask) - chosen(z), jnp.nan)
    return jnp.where(some, loss, jnp.zeros_like(loss))


def _floating(who: str, what: str, x: ArrayLike) -> jax.Array:
    array = jnp.asarray(x)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        say(TreeError, who, f"{what} must be real floating-point numbers", describe(array),
            f"Convert them, for example {what}.astype(jnp.float32)")  # fmt: skip
    return array


def _difference(who: str, predictions: ArrayLike, targets: ArrayLike | None) -> jax.Array:
    """p - t, or p, in float32 at least."""
    p = _floating(who, "predictions", predictions)
    if targets is None:
        return p.astype(compute_dtype(p.dtype))
    t = jnp.asarray(targets)
    if t.shape != p.shape:
        say(TreeError, who, f"targets must have the predictions' shape {p.shape}", describe(t),
            "Shapes are never broadcast: [n] against [n, 1] would compare all pairs")  # fmt: skip
    if jnp.issubdtype(t.dtype, jnp.complexfloating):
        say(TreeError, who, "targets must be real", describe(t), "Compare real and imaginary parts apart")
    wide = compute_dtype(p.dtype, *([t.dtype] if jnp.issubdtype(t.dtype, jnp.floating) else []))
    return p.astype(wide) - t.astype(wide)


def _axes(who: str, axis: int | tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """The axes of the classes, counted from the front."""
    given = axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(a + ndim if a < 0 else a for a in given)
    if not axes or len(set(axes)) != len(axes) or any(not 0 <= a < ndim for a in axes):
        say(TreeError, who, f"axis must name different axes of logits with {ndim} of them", f"axis={axis}",
            "Give the axis along which the classes lie, -1 for the last")  # fmt: skip
    return axes
