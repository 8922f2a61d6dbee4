"""Losses of scores by their margins, and Fenchel-Young losses, of which they are cases.

Blondel, Martins & Niculae 2020, arXiv:1901.02324: L(z; y) = max over p of (<p, z> - W(p)) + W(y) - <y, z>, with the
convex functions W of their table 1. The gradient by z is p - y.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import compute_dtype
from jaxopt_ko.errors import TreeError, describe, say
from jaxopt_ko.losses.arrays import chosen, real_array, same_shape
from jaxopt_ko.projections import projection_simplex


def hinge_loss(predictor_outputs: ArrayLike, targets: ArrayLike) -> jax.Array:
    """max(0, 1 - p t) for targets of -1 and 1: 0 for a prediction that is right by a margin of one."""
    p, t = same_shape("hinge_loss", predictor_outputs=predictor_outputs, targets=targets)
    return jnp.maximum(0, 1 - p * t)


def perceptron_loss(predictor_outputs: ArrayLike, targets: ArrayLike) -> jax.Array:
    """max(0, -p t) for targets of -1 and 1: 0 for a prediction that is right. Rosenblatt 1958."""
    p, t = same_shape("perceptron_loss", predictor_outputs=predictor_outputs, targets=targets)
    return jnp.maximum(0, -p * t)


def sparsemax_loss(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """f(-z) for the label 1, f(z) for 0; f(z) = 0 below -1, (z + 1)**2 / 4 up to 1, z beyond. Shape of `logits`.

    As `sigmoid_binary_cross_entropy`, but 0 for what is right by a margin of one. labels: 0 and 1, or
    bools. Section 4.4 of the paper above.
    """
    z, y = same_shape("sparsemax_loss", logits=logits, labels=labels)
    z = jnp.where(y != 0, -z, z)
    return jnp.where(z >= 1, z, jnp.square(jnp.maximum(jnp.minimum(z, 1) + 1, 0)) / 4)


def multiclass_hinge_loss(scores: ArrayLike, labels: ArrayLike) -> jax.Array:
    """max_j(z_j + [j != y]) - z_y: 0 where the label's score is the highest by a margin of one.

    scores: float[..., classes]; labels: int[...], NaN for one that is no class. Crammer & Singer 2001.
    """
    z, z_y, one_hot = chosen("multiclass_hinge_loss", scores, labels)
    return jnp.max(z + 1 - one_hot, axis=-1) - z_y


def multiclass_perceptron_loss(scores: ArrayLike, labels: ArrayLike) -> jax.Array:
    """max_j z_j - z_y: 0 where the label's score is the highest.

    scores: float[..., classes]; labels: int[...], NaN for one that is no class. Collins 2002, EMNLP.
    """
    z, z_y, _ = chosen("multiclass_perceptron_loss", scores, labels)
    return jnp.max(z, axis=-1) - z_y


def multiclass_sparsemax_loss(scores: ArrayLike, labels: ArrayLike) -> jax.Array:
    """<p, z> - |p|**2 / 2 + 1/2 - z_y, p the projection of z onto the simplex: sparse probabilities.

    scores: float[..., classes]; labels: int[...], NaN for one that is no class. Martins & Astudillo 2016,
    arXiv:1602.02068, equation 9.
    """
    z, z_y, _ = chosen("multiclass_sparsemax_loss", scores, labels)
    rows = z.reshape(-1, z.shape[-1])
    p = jax.vmap(projection_simplex)(rows).reshape(z.shape) if rows.size else z
    above = jnp.where(p > 0, z - z_y[..., None], jnp.zeros_like(z))  # -inf may be a score, where p is 0
    return jnp.sum(p * above - jnp.square(p) / 2, axis=-1) + 0.5


@options
def make_fenchel_young_loss(max_fun: Callable[..., Any]) -> Callable[..., jax.Array]:
    """The loss max_fun(z) - <y, z> of a convex function of one vector of scores; jax.nn.logsumexp: cross entropy.

    max_fun(z, *args, **kwargs) -> float[], z: float[n]. Returns loss(scores, targets, *args, **kwargs) -> float[...],
    scores and targets float[..., n], row by row. It lacks the term W(y), which does not depend on the scores.

        loss = make_fenchel_young_loss(jax.nn.logsumexp)
        loss(scores, jax.nn.one_hot(labels, 10))
    """

    def fenchel_young_loss(scores: ArrayLike, targets: ArrayLike, *args: Any, **kwargs: Any) -> jax.Array:
        name = "fenchel_young_loss"
        z, y = same_shape(name, scores=scores, targets=targets)
        if not z.ndim:
            say(TreeError, name, "scores must be vectors, float[..., n]", describe(z))
        given = real_array(name, "scores", scores)  # in the dtype of the scores that the user's function is given
        value = jnp.vectorize(lambda one: max_fun(one, *args, **kwargs), signature="(n)->()")(given)
        wide = compute_dtype(z.dtype, value.dtype)
        loss: jax.Array = value.astype(wide) - jnp.sum(y * z, axis=-1).astype(wide)
        return loss

    return fenchel_young_loss
