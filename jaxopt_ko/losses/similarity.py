"""How alike vectors are, by their angle alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.core.numerics import ratio
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import compute_dtype
from jaxopt_ko.errors import FINITE, NONNEGATIVE, POSITIVE, TreeError, check_number, describe, say
from jaxopt_ko.losses.arrays import Axis, norm_where, power, real_array, same_shape, sum_where


@options
def cosine_similarity(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: float = 0.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """<p, t> / (max(|p|, epsilon) max(|t|, epsilon)) along `axis`: the cosine of the angle; 0 for a vector of zeros.

    predictions: what the model says, float[...]: real floating numbers of any shape.
    targets: real numbers of the same shape; nothing is broadcast.
    epsilon: what a length is at least, a number >= 0: shorter vectors count for less; 0 divides by the length as it is.
    axis: the axis of the vectors' elements, or several; -1, the last; None: all.
    where: bool[...], broadcast to the shape of the first: the elements that count; None: all.

    Returns float[...] without `axis`, in float32 at least.
    Raises TreeError if the two differ in shape, or are not real numbers, predictions floating ones; HyperparameterError
    for a negative epsilon.

    >>> p, t = jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([[3.0, 4.0], [1.0, 0.0]])
    >>> [round(x, 4) for x in jo.losses.cosine_similarity(p, t).tolist()]
    [0.6, 0.0]
    """
    name = "cosine_similarity"
    check_number(name, "epsilon", epsilon, NONNEGATIVE)
    p, t = same_shape(name, predictions=predictions, targets=targets)
    p, t = (ratio(x, jnp.maximum(norm_where(x, axis, where), epsilon)) for x in (p, t))
    return sum_where(p * t, axis, where)


@options
def cosine_distance(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: float = 0.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """1 - `cosine_similarity`, of the same arguments: 0 for one direction, 2 for opposite ones.

    predictions: what the model says, float[...]: real floating numbers of any shape.
    targets: real numbers of the same shape; nothing is broadcast.
    epsilon: what a length is at least, a number >= 0: shorter vectors count for less; 0 divides by the length as it is.
    axis: the axis of the vectors' elements, or several; -1, the last; None: all.
    where: bool[...], broadcast to the shape of the first: the elements that count; None: all.

    Returns float[...] without `axis`, in float32 at least; 1 for a vector of zeros.
    Raises TreeError and HyperparameterError as `cosine_similarity` does.

    >>> round(float(jo.losses.cosine_distance(jnp.array([1.0, 0.0]), jnp.array([3.0, 4.0]))), 4)
    0.4
    """
    return 1 - cosine_similarity(predictions, targets, epsilon=epsilon, axis=axis, where=where)


@options
def triplet_margin_loss(
    anchors: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    axis: int = -1,
    norm_degree: float = 2,
    margin: float = 1.0,
    eps: float = 1e-6,
) -> jax.Array:
    """An anchor is to be nearer to its positive than to its negative by a margin.

    max(0, d(a, p) - d(a, n) + margin),  d(x, y) = (sum |x - y|**k + eps)**(1/k) along `axis`, k = norm_degree

    anchors: float[...], the vectors that are compared.
    positives: of the same shape: what each should be near to.
    negatives: of the same shape: what it should be far from.
    axis: the axis of the vectors' elements; -1, the last.
    norm_degree: k > 0, the norm that measures the distance; 2, Euclid's, as in the paper.
    margin: how much nearer, a finite number in the unit of the distance.
    eps: added under the root, >= 0: above 0 it bounds the derivative where two vectors agree.

    Returns float[...] without `axis`, in float32 at least.
    Raises TreeError for another shape and for what is not real, HyperparameterError for numbers outside their domains.
    Source: Balntas et al. 2016, BMVC.

    >>> a, p, n = jnp.array([0.0, 0.0]), jnp.array([3.0, 4.0]), jnp.array([0.0, 1.0])
    >>> round(float(jo.losses.triplet_margin_loss(a, p, n)), 4)
    5.0
    """
    name = "triplet_margin_loss"
    for argument, number, domain in (
        ("norm_degree", norm_degree, POSITIVE), ("margin", margin, FINITE), ("eps", eps, NONNEGATIVE)
    ):  # fmt: skip
        check_number(name, argument, number, domain)
    a, p, n = same_shape(name, anchors=anchors, positives=positives, negatives=negatives)

    def distance(x: jax.Array) -> jax.Array:
        powers = jnp.square(x) if norm_degree == 2 else power(jnp.abs(x), norm_degree)
        return power(jnp.sum(powers, axis=axis) + eps, 1 / norm_degree)

    return jnp.maximum(distance(a - p) - distance(a - n) + margin, 0)


def ntxent(embeddings: ArrayLike, labels: ArrayLike, temperature: float = 0.07) -> jax.Array:
    """Cross entropy of telling pairs of one label from pairs of two, by cosine over temperature.

    The mean over pairs (i, j) of one label, i != j, of -log(e_ij / (e_ij + sum of e_ik over k of other labels)),
    e_ij = exp(cosine(i, j) / temperature).

    embeddings: float[batch, n], one vector an example, of any length.
    labels: [batch], equal for examples that belong together: two views of one image, or one class.
    temperature: a number > 0: the lower, the more the nearest of other labels count; 0.07 as in optax.

    Returns float[], in float32 at least; 0 without pairs of one label.
    Raises TreeError for other shapes and embeddings that are not floating, HyperparameterError for temperature <= 0.
    Source: SimCLR, Chen et al. 2020, arXiv:2002.05709; several of one label: Khosla et al. 2020, arXiv:2004.11362.

    >>> embeddings = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    >>> jo.losses.ntxent(embeddings, jnp.array([0, 0, 1, 1]), temperature=0.5).shape
    ()
    """
    name = "ntxent"
    check_number(name, "temperature", temperature, POSITIVE)
    x, label = real_array(name, "embeddings", embeddings), jnp.asarray(labels)
    if x.ndim != 2 or label.shape != x.shape[:1]:
        say(TreeError, name, "embeddings must be [batch, n] and labels [batch]", f"{describe(x)} and {describe(label)}")
    x = x.astype(compute_dtype(x.dtype))
    unit = ratio(x, norm_where(x, -1))
    s = unit @ unit.T / temperature
    same = label[:, None] == label[None, :]
    pairs = same & ~jnp.eye(len(label), dtype=bool)
    s_other = jnp.where(same, jnp.full_like(s, -jnp.inf), s)
    some = jnp.any(~same, axis=1, keepdims=True)
    others = jax.nn.logsumexp(jnp.where(some, s_other, jnp.zeros_like(s)), axis=1, keepdims=True)
    others = jnp.where(some, others, jnp.full_like(others, jnp.finfo(s.dtype).min))  # type: ignore[no-untyped-call]
    loss = jnp.where(pairs, jnp.logaddexp(s, jnp.broadcast_to(others, s.shape)) - s, jnp.zeros_like(s))
    return jnp.sum(loss) / jnp.maximum(jnp.sum(pairs), 1).astype(s.dtype)
