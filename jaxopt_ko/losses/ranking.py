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
    """-sum_i w_i y_i log softmax(z)_i over the items of each list, then their mean: ListNet.

    logits: scores of the items of each list, float[..., items].
    labels: relevances of the same shape, real numbers >= 0.
    where: bool[..., items], which items there are: the others count for nothing, NaN neither. None: all.
    weights: float[..., items], of the items; None: 1 for each.
    reduce_fn: reduce_fn(loss, where=…) over the lists, jnp.mean or jnp.sum; a list without items does not count, and
        the mean of no list is 0. None: no reduction.

    Returns float[], in float32 at least; with reduce_fn=None float[...], one for each list, 0 for one without items.
    Raises TreeError for arrays of another shape than logits, and for what is not real.
    Source: Cao et al. 2007, ICML, ListNet.

    >>> logits, labels = jnp.array([[2.0, 1.0, 0.0]]), jnp.array([[1.0, 0.0, 0.0]])
    >>> round(float(jo.losses.ranking_softmax_loss(logits, labels)), 4)
    0.4076
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
