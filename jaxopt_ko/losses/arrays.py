"""What losses take: arrays of real numbers, computed in float32 at least, never broadcast."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.core.checks import check_numbers
from jaxopt_ko.core.numerics import or_one, safe_sqrt
from jaxopt_ko.core.tree import compute_dtype
from jaxopt_ko.errors import TreeError, describe, say

Axis = int | tuple[int, ...] | None


def real_array(name: str, what: str, x: ArrayLike) -> jax.Array:
    """An array of real floating-point numbers, as given.

    name: who speaks, in error messages.
    what: what the argument is called there.
    x: the array, or numbers and lists of them that make one.

    Returns float[...], x as a JAX array in its own dtype.
    Raises TreeError for what is no number, and for integers, truth values and complex numbers.

    >>> from jaxopt_ko.losses.arrays import real_array
    >>> real_array("my_loss", "predictions", [0.5, 1.5]).shape
    (2,)
    """
    check_numbers(name, what, x)
    array = jnp.asarray(x)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        say(TreeError, name, f"{what} must be real floating-point numbers", describe(array),
            f"Convert them, for example {what}.astype(jnp.float32)")  # fmt: skip
    return array


def difference(name: str, predictions: ArrayLike, targets: ArrayLike | None) -> jax.Array:
    """p - t, or p, in float32 at least."""
    p = real_array(name, "predictions", predictions)
    if targets is None:
        return p.astype(compute_dtype(p.dtype))
    check_numbers(name, "targets", targets)
    t = jnp.asarray(targets)
    if t.shape != p.shape:
        say(TreeError, name, f"targets must have the predictions' shape {p.shape}", describe(t),
            "Shapes are never broadcast: [n] against [n, 1] would compare all pairs")  # fmt: skip
    if jnp.issubdtype(t.dtype, jnp.complexfloating):
        say(TreeError, name, "targets must be real", describe(t), "Compare real and imaginary parts apart")
    wide = compute_dtype(p.dtype, *([t.dtype] if jnp.issubdtype(t.dtype, jnp.floating) else []))
    return p.astype(wide) - t.astype(wide)


def axes_of(name: str, axis: int | tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """The axes of the classes, counted from the front."""
    given = axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(a + ndim if a < 0 else a for a in given)
    if not axes or len(set(axes)) != len(axes) or any(not 0 <= a < ndim for a in axes):
        say(TreeError, name, f"axis must name different axes of logits with {ndim} of them", f"axis={axis}",
            "Give the axis along which the classes lie, -1 for the last")  # fmt: skip
    return axes


def same_shape(name: str, **arrays: ArrayLike) -> list[jax.Array]:
    """Arrays of one shape, in float32 at least; the first must be floating, the others may be integers or bools."""
    (argument, first), *rest = arrays.items()
    x = real_array(name, argument, first)
    for other, value in rest:
        check_numbers(name, other, value)
    others = [(other, jnp.asarray(value)) for other, value in rest]
    for other, y in others:
        if y.shape != x.shape:
            say(TreeError, name, f"{other} must have the shape {x.shape} of {argument}", describe(y),
                "Shapes are never broadcast: use jnp.broadcast_to where that is meant")  # fmt: skip
        if jnp.issubdtype(y.dtype, jnp.complexfloating):
            say(TreeError, name, f"{other} must be real", describe(y), "Compare real and imaginary parts apart")
    wide = compute_dtype(x.dtype, *(y.dtype for _, y in others if jnp.issubdtype(y.dtype, jnp.floating)))
    return [x.astype(wide), *(y.astype(wide) for _, y in others)]


def taking_part(where: ArrayLike | None) -> jax.Array | None:
    """The elements that count, bool[...], or None for all."""
    if where is None:
        return None
    check_numbers("where", "what takes part", where)
    return jnp.asarray(where).astype(bool)


def sum_where(x: jax.Array, axis: Axis, where: ArrayLike | None = None) -> jax.Array:
    """The sum over some axes of the elements that count."""
    return jnp.sum(x, axis=axis, where=taking_part(where))


def listed(name: str, what: str, x: ArrayLike, shape: tuple[int, ...]) -> jax.Array:
    """bool[...] of that shape."""
    check_numbers(name, what, x)
    mask = jnp.asarray(x).astype(bool)
    if mask.shape != shape:
        say(TreeError, name, f"{what} must have the shape {shape}", describe(mask),
            "Shapes are never broadcast: use jnp.broadcast_to where that is meant")  # fmt: skip
    return mask


def chosen(name: str, scores: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores float[..., classes] in float32 at least; that of each label, NaN where it is no class; the labels one-hot.

    labels: int[...].
    """
    z, y = real_array(name, "scores", scores), jnp.asarray(labels)
    z = z.astype(compute_dtype(z.dtype))
    if not jnp.issubdtype(y.dtype, jnp.integer) or y.shape != z.shape[:-1] or not z.ndim:
        say(TreeError, name, "scores must be float[..., classes], labels int[...], the index of a class for each",
            f"{describe(z)} and {describe(y)}", "For one-hot labels pass jnp.argmax(labels, -1)")  # fmt: skip
    one_hot = jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype)
    found = jnp.sum(jnp.where(one_hot > 0, z, jnp.zeros_like(z)), axis=-1)
    inside = jnp.any(one_hot > 0, axis=-1)
    return z, jnp.where(inside, found, jnp.full_like(found, jnp.nan)), one_hot


def power(x: jax.Array, exponent: ArrayLike) -> jax.Array:
    """x**exponent for x >= 0, with derivative 0 at 0."""
    positive = x > 0
    raised = jnp.power(jnp.where(positive, x, jnp.ones_like(x)), jnp.asarray(exponent).astype(x.dtype))
    return jnp.where(positive, raised, jnp.zeros_like(x))


def norm_where(x: jax.Array, axis: Axis, where: ArrayLike | None = None) -> jax.Array:
    """The Euclidean norm over some axes, kept as ones, with derivative 0 at 0; no square overflows."""
    there = taking_part(where)
    x = x if there is None else jnp.where(there, x, jnp.zeros_like(x))
    most = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, keepdims=True, initial=0.0))
    unit = or_one(most)
    return unit * safe_sqrt(jnp.sum(jnp.square(x / unit), axis=axis, keepdims=True))
