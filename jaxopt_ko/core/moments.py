"""optax's functions of moments: decaying means of powers of the gradient, and their bias correction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_ko.core.leaves import compute_dtype, dtype_of
from jaxopt_ko.core.left_out import map_given
from jaxopt_ko.core.numerics import gathered_weight, narrowed, real_dtype, scalar_dtype
from jaxopt_ko.types import PyTree

__all__ = [
    "bias_correction", "update_infinity_moment", "update_moment", "update_moment_per_elem_norm",
]  # fmt: skip


def update_moment(updates: PyTree, moments: PyTree, decay: Any, order: int) -> PyTree:
    """decay m + (1 - decay) g**order, leaf by leaf.

    updates: the gradients, or what the transformation before made of them, a tree like params.
    moments: m, a tree like updates.
    decay: a number in [0, 1], which may be traced.
    order: of the moment: 1 for a mean of gradients, 2 for one of squares.

    Returns a tree like moments, in its dtypes, computed in float32 at least; None where the gradient is None.
    Raises ValueError, JAX's, for another structure.

    >>> jo.update_moment(jnp.array([2.0]), jnp.array([0.0]), 0.75, 2).tolist()
    [1.0]
    """
    return _averaged(lambda g: g**order, updates, moments, decay)


def update_moment_per_elem_norm(updates: PyTree, moments: PyTree, decay: Any, order: int) -> PyTree:
    """decay m + (1 - decay) |g|**order, leaf by leaf; the powers of a complex number's length, too.

    updates: the gradients, or what the transformation before made of them, a tree like params.
    moments: m, a tree like updates.
    decay: a number in [0, 1], which may be traced.
    order: of the moment: 1 for a mean of lengths, 2 for one of their squares.

    Returns a tree like moments, in its dtypes, computed in float32 at least; None where the gradient is None.
    Raises ValueError, JAX's, for another structure.

    >>> jo.update_moment_per_elem_norm(jnp.array([-2.0]), jnp.array([0.0]), 0.75, 1).tolist()
    [0.5]
    """
    return _averaged(lambda g: (jnp.abs(g) ** order).astype(g.dtype), updates, moments, decay)


def update_infinity_moment(updates: PyTree, moments: PyTree, decay: Any, eps: Any) -> PyTree:
    """max(decay m, |g| + eps), leaf by leaf.

    updates: the gradients, or what the transformation before made of them, a tree like params.
    moments: m, a tree like updates.
    decay: a number in [0, 1], which may be traced.
    eps: added to the length, a number >= 0, which may be traced; above 0 where the moment is a divisor.

    Returns a tree like moments, in its dtypes, computed in float32 at least; None where the gradient is None.
    Raises ValueError, JAX's, for another structure.

    >>> jo.update_infinity_moment(jnp.array([-1.0, 0.0]), jnp.array([0.0, 4.0]), 0.5, 0.0).tolist()
    [1.0, 2.0]
    """

    def leaf(g: Any, m: Any) -> Any:
        wide = real_dtype(compute_dtype(dtype_of(g), dtype_of(m)))
        d, e = (jnp.asarray(x).astype(wide) for x in (decay, eps))
        now = jnp.abs(jnp.asarray(g)).astype(wide) + e
        return jnp.maximum(d * narrowed(jnp.asarray(m), wide), now).astype(dtype_of(m))

    return map_given(leaf, updates, moments)


def _averaged(power: Callable[[jax.Array], jax.Array], updates: PyTree, moments: PyTree, decay: Any) -> PyTree:
    def leaf(g: Any, m: Any) -> Any:
        wide = compute_dtype(dtype_of(g), dtype_of(m))
        d = jnp.asarray(decay).astype(wide)
        return (d * jnp.asarray(m).astype(wide) + (1 - d) * power(jnp.asarray(g).astype(wide))).astype(dtype_of(m))

    return map_given(leaf, updates, moments)


def bias_correction(moment: PyTree, decay: Any, count: jax.Array) -> PyTree:
    """m / (1 - decay**count), leaf by leaf: the mean without the weight of its start at 0.

    moment: m, a tree of floating arrays.
    decay: a number in [0, 1], which may be traced.
    count: int32[], how many steps it has gathered, >= 1.

    Returns a tree like it, in its dtypes, computed in float32 at least.
    Not for count = 0, where nothing is gathered: 0 / 0.

    >>> [round(x, 4) for x in jo.bias_correction(jnp.array([0.19]), 0.9, jnp.int32(2)).tolist()]
    [1.0]
    """
    weight = gathered_weight(jnp.asarray(decay).astype(scalar_dtype()), jnp.asarray(count))

    def leaf(m: Any) -> jax.Array:
        wide = compute_dtype(dtype_of(m))
        return (jnp.asarray(m).astype(wide) / weight.astype(wide)).astype(dtype_of(m))

    return jax.tree.map(leaf, moment)
