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
    """max(0, 1 - p t): 0 for a prediction that is right by a margin of one.

    predictor_outputs: scores, float[...]: above 0 for the class 1, below for -1.
    targets: -1 or 1 for each, real numbers of the same shape; nothing is broadcast.

    Returns float[...] like predictor_outputs, in float32 at least.
    Raises TreeError if the two differ in shape, or are not real numbers, predictor_outputs floating ones.
    Not for targets of 0 and 1: 2 t - 1 makes them -1 and 1.

    >>> jo.losses.hinge_loss(jnp.array([2.0, 0.5, -1.0]), jnp.array([1, 1, 1])).tolist()
    [0.0, 0.5, 2.0]
    """
    p, t = same_shape("hinge_loss", predictor_outputs=predictor_outputs, targets=targets)
    return jnp.maximum(0, 1 - p * t)


def perceptron_loss(predictor_outputs: ArrayLike, targets: ArrayLike) -> jax.Array:
    """max(0, -p t): 0 for a prediction that is right.

    predictor_outputs: scores, float[...]: above 0 for the class 1, below for -1.
    targets: -1 or 1 for each, real numbers of the same shape; nothing is broadcast.

    Returns float[...] like predictor_outputs, in float32 at least.
    Raises TreeError as `hinge_loss` does.
    Source: Rosenblatt 1958, Psychological Review 65, 386.
    Not for models that can make all scores 0, where it is 0, too: `hinge_loss` asks for a margin.

    >>> jo.losses.perceptron_loss(jnp.array([2.0, 0.5, -1.0]), jnp.array([1, 1, 1])).tolist()
    [0.0, 0.0, 1.0]
    """
    p, t = same_shape("perceptron_loss", predictor_outputs=predictor_outputs, targets=targets)
    return jnp.maximum(0, -p * t)


def sparsemax_loss(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """As `sigmoid_binary_cross_entropy`, but 0 for what is right by a margin of one.

    f(-z) for the label 1, f(z) for 0;  f(z) = 0 below -1, (z + 1)**2 / 4 up to 1, z beyond

    logits: scores, before a sigmoid or softmax, float[...]: real floating numbers.
    labels: 0 and 1, or bools, of the same shape; what is not 0 counts as 1.

    Returns float[...] like logits, in float32 at least.
    Raises TreeError if the two differ in shape, or are not real numbers, the logits floating ones.
    Source: Blondel, Martins & Niculae 2020, arXiv:1901.02324, section 4.4.

    >>> jo.losses.sparsemax_loss(jnp.array([2.0, 0.0, -2.0]), jnp.array([1, 1, 1])).tolist()
    [0.0, 0.25, 2.0]
    """
    z, y = same_shape("sparsemax_loss", logits=logits, labels=labels)
    z = jnp.where(y != 0, -z, z)
    return jnp.where(z >= 1, z, jnp.square(jnp.maximum(jnp.minimum(z, 1) + 1, 0)) / 4)


def multiclass_hinge_loss(scores: ArrayLike, labels: ArrayLike) -> jax.Array:
    """max_j(z_j + [j != y]) - z_y: 0 where the label's score is the highest by a margin of one.

    scores: float[..., classes], one for each class along the last axis.
    labels: int[...], the index of a class for each; one that is no class gives NaN.

    Returns float[...] like labels, in float32 at least; NaN for a label that is no class.
    Raises TreeError for scores that are not floating, labels that are not integers, shapes that do not fit.
    Source: Crammer & Singer 2001, JMLR 2, 265.

    >>> scores = jnp.array([[3.0, 1.0, 0.0], [1.0, 0.5, 0.0]])
    >>> jo.losses.multiclass_hinge_loss(scores, jnp.array([0, 0])).tolist()
    [0.0, 0.5]
    """
    z, z_y, one_hot = chosen("multiclass_hinge_loss", scores, labels)
    return jnp.max(z + 1 - one_hot, axis=-1) - z_y


def multiclass_perceptron_loss(scores: ArrayLike, labels: ArrayLike) -> jax.Array:
    """max_j z_j - z_y: 0 where the label's score is the highest.

    scores: float[..., classes], one for each class along the last axis.
    labels: int[...], the index of a class for each; one that is no class gives NaN.

    Returns float[...] like labels, in float32 at least; NaN for a label that is no class.
    Raises TreeError as `multiclass_hinge_loss` does.
    Source: Collins 2002, EMNLP.
    Not for models that can make all scores equal, where it is 0, too: `multiclass_hinge_loss` asks for a margin.

    >>> scores = jnp.array([[3.0, 1.0, 0.0], [1.0, 1.5, 0.0]])
    >>> jo.losses.multiclass_perceptron_loss(scores, jnp.array([0, 0])).tolist()
    [0.0, 0.5]
    """
    z, z_y, _ = chosen("multiclass_perceptron_loss", scores, labels)
    return jnp.max(z, axis=-1) - z_y


def multiclass_sparsemax_loss(scores: ArrayLike, labels: ArrayLike) -> jax.Array:
    """The cross entropy's kin for sparse probabilities, 0 where the label's score is the highest by a margin of one.

    <p, z> - |p|**2 / 2 + 1/2 - z_y,  p the projection of z onto the simplex

    scores: float[..., classes], one for each class along the last axis.
    labels: int[...], the index of a class for each; one that is no class gives NaN.

    Returns float[...] like labels, in float32 at least; NaN for a label that is no class.
    Raises TreeError as `multiclass_hinge_loss` does.
    Source: Martins & Astudillo 2016, arXiv:1602.02068, equation 9.

    >>> scores = jnp.array([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    >>> [round(x, 4) for x in jo.losses.multiclass_sparsemax_loss(scores, jnp.array([0, 0])).tolist()]
    [0.0, 0.3333]
    """
    z, z_y, _ = chosen("multiclass_sparsemax_loss", scores, labels)
    rows = z.reshape(-1, z.shape[-1])
    p = jax.vmap(projection_simplex)(rows).reshape(z.shape) if rows.size else z
    above = jnp.where(p > 0, z - z_y[..., None], jnp.zeros_like(z))  # -inf may be a score, where p is 0
    return jnp.sum(p * above - jnp.square(p) / 2, axis=-1) + 0.5


@options
def make_fenchel_young_loss(max_fun: Callable[..., Any]) -> Callable[..., jax.Array]:
    """The loss max_fun(z) - <y, z> of a convex function of one vector of scores; jax.nn.logsumexp: cross entropy.

    It lacks the term W(y) of a Fenchel-Young loss, which does not depend on the scores.

    max_fun: max_fun(z, *args, **kwargs) -> float[] of z, float[n], in the scores' own dtype.

    Returns loss(scores, targets, *args, **kwargs) -> float[...], float32 at least, of scores and targets float[..., n],
    row by row. It raises TreeError for scores of no axis or that are not floating, and for targets of another shape.
    Raises TransformationError if max_fun is no function.
    Source: Blondel, Martins & Niculae 2020, arXiv:1901.02324.

    >>> loss = jo.losses.make_fenchel_young_loss(jax.nn.logsumexp)
    >>> scores, targets = jnp.array([[2.0, 0.0], [0.0, 0.0]]), jax.nn.one_hot(jnp.array([0, 1]), 2)
    >>> [round(x, 4) for x in loss(scores, targets).tolist()]
    [0.1269, 0.6931]
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
