"""Losses of lists whose items are to be put in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.core.signature import options
from jaxopt_ko.losses.arrays import listed, same_shape


@options
def ranking_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reduce_fn: Callable[..., Any] | None = jnp.mean,
) -> jax.Array:
    """-sum_i w_i y_i log softmax(z)_i over the items of each list, then their mean; ListNet, Cao et al. 2007.

    logits, labels: float[..., items], scores and relevances. where: bool[..., items], which items there are.
    weights: float[..., items], of the items. reduce_fn(loss, where=…): over the lists, of which one without items does
        not count; None: float[...], 0 for such a list. The mean of no list is 0.
    """
    name = "ranking_softmax_loss"
    z, y = same_shape(name, logits=logits, labels=labels)
    if weights is not None:
        y = y * same_shape(name, logits=logits, weights=weights)[1]
    if where is None:
        loss = -jnp.sum(y * jax.nn.log_softmax(z, axis=-1), axis=-1)
        return loss if reduce_fn is None else reduce_fn(loss, where=None)
    there = listed(name, "where", where, z.shape)
    some = jnp.any(there, axis=-1)
    z, y = (jnp.where(there, x, jnp.zeros_like(x)) for x in (z, y))  # an item that is not there may be NaN
    log_p = jax.nn.log_softmax(z, axis=-1, where=there | ~some[..., None])  # an empty sum has a NaN for derivative
    loss = -jnp.sum(y * jnp.where(there, log_p, jnp.zeros_like(z)), axis=-1)
    if reduce_fn is None:
        return loss
    reduced: jax.Array = reduce_fn(loss, where=some)
    return jnp.where(jnp.any(some), reduced, jnp.zeros_like(reduced)) if reduce_fn is jnp.mean else reduced
