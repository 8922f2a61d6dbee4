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
    """<p, t> / (max(|p|, epsilon) max(|t|, epsilon)) along `axis`: the cosine of the angle; 0 for a vector of zeros."""
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
    """1 - `cosine_similarity`, of the same arguments: 0 for one direction, 2 for opposite ones."""
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
    """max(0, d(a, p) - d(a, n) + margin), d(x, y) = (sum |x - y|**k + eps)**(1/k) along `axis`, k = norm_degree.

    An anchor is to be nearer to its positive than to its negative by a margin. The three: float[...] of one shape.
    Balntas et al. 2016, BMVC.
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
    """Cross entropy of telling pairs of one label from pairs of two, by cosine over temperature; float[].

    The mean over pairs (i, j) of one label, i != j, of -log(e_ij / (e_ij + sum of e_ik over k of other labels)),
    e_ij = exp(cosine(i, j) / temperature).

    embeddings: float[batch, n]; labels: int[batch]. 0 without such pairs. SimCLR: Chen et al. 2020, arXiv:2002.05709;
    several of one label: Khosla et al. 2020, arXiv:2004.11362.
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
