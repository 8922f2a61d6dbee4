"""How well predicted regions overlap the true ones: for images whose classes are of very different sizes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import NONNEGATIVE, TreeError, check_choice, check_number, describe, say
from jaxopt_ko.losses.arrays import Axis, real_array, same_shape

REDUCTIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "mean": lambda loss: jnp.mean(loss, axis=-1),
    "sum": lambda loss: jnp.sum(loss, axis=-1),
    "none": lambda loss: loss,
}


@options
def dice_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    smooth: float = 1.0,
    alpha: float = 0.5,
    beta: float = 0.5,
    apply_softmax: bool = True,
    reduction: str = "mean",
    ignore_background: bool = False,
    axis: Axis = None,
) -> jax.Array:
    """One minus how well a predicted region overlaps the true one, of each class.

    1 - (I + smooth) / (I + alpha (P - I) + beta (T - I) + smooth)

    I = sum p t, P = sum p, T = sum t over the places, for probabilities p and targets t. With alpha = beta = 1/2 it
    is 1 minus the Dice coefficient; alpha weighs what is wrongly in a region, beta what it misses (Tversky).

    predictions: float[batch, …, classes], logits: softmax makes probabilities of them, the sigmoid of one class alone.
        With apply_softmax=False they are probabilities already, which add up to one over several classes; this
        is checked where they are concrete.
    targets: like predictions, one-hot or soft. An axis of one class may be left out of either.
    class_weights: float[classes], a factor to the loss of each class; None: 1.
    smooth: a number >= 0; above 0 a class that is nowhere, neither predicted nor there, costs 0 and not NaN.
    alpha: weight of what is wrongly in the region, a number >= 0; 1/2 for Dice.
    beta: weight of what the region misses, a number >= 0; above 1/2 for small regions that must not be missed.
    apply_softmax: whether predictions are logits.
    reduction: "mean" or "sum" over the classes, float[batch] with the default axis, or "none", float[batch, classes].
    ignore_background: the first of several classes does not count.
    axis: the places, an integer or several; None: all axes but the first and the last.

    Returns float[batch] with the default axis, float[batch, classes] with reduction="none"; in float32 at least.
    Raises TreeError for shapes that do not fit and for what are no probabilities, HyperparameterError for another
    reduction and for numbers below 0.
    Source: Milletari, Navab & Ahmadi 2016, arXiv:1606.04797; Salehi, Erdogmus & Gholipour 2017, arXiv:1706.05721.

    >>> p = jnp.array([[0.9, 0.8, 0.1, 0.0]])[..., None]
    >>> t = jnp.array([[1.0, 1.0, 0.0, 0.0]])[..., None]
    >>> [round(x, 4) for x in jo.losses.dice_loss(p, t, apply_softmax=False).tolist()]
    [0.069]
    """
    name = "dice_loss"
    check_choice(name, "reduction", reduction, tuple(REDUCTIONS))
    for argument, number in (("smooth", smooth), ("alpha", alpha), ("beta", beta)):
        check_number(name, argument, number, NONNEGATIVE)
    x, y = real_array(name, "predictions", predictions), jnp.asarray(targets)
    x, y = (a[..., None] if a.ndim == b.ndim - 1 else a for a, b in ((x, y), (y, x)))
    x, t = same_shape(name, predictions=x, targets=y)
    if x.ndim < 2:
        say(TreeError, name, "predictions must have a batch and a class axis, float[batch, …, classes]", describe(x),
            "Give one image as a batch of one: predictions[None]")  # fmt: skip
    one = x.shape[-1] == 1
    if apply_softmax:
        p = jax.nn.sigmoid(x) if one else jax.nn.softmax(x, axis=-1)
    else:
        p = x
        _check_probabilities(name, x, one)
    places = tuple(range(1, x.ndim - 1)) if axis is None else axis
    both, said, true = (jnp.sum(a, axis=places) for a in (p * t, p, t))
    loss = 1 - (both + smooth) / (both + alpha * (said - both) + beta * (true - both) + smooth)
    if class_weights is not None:
        w = jnp.asarray(class_weights)
        if w.shape != (x.shape[-1],):
            say(TreeError, name, f"class_weights must be [{x.shape[-1]}], one for each class", describe(w))
        loss = loss * jnp.broadcast_to(w.astype(loss.dtype), loss.shape)
    return REDUCTIONS[reduction](loss[..., 1:] if ignore_background and not one else loss)


def _check_probabilities(name: str, p: jax.Array, one: bool) -> None:
    """Concrete ones must lie in [0, 1], and add up to one over several classes."""
    if isinstance(p, jax.core.Tracer) or not p.size:
        return
    values = np.asarray(p, np.float64)
    if one and not ((values >= 0) & (values <= 1)).all():
        say(TreeError, name, "predictions must be probabilities, in [0, 1], where they are no logits",
            f"{values.min():.6g} to {values.max():.6g}",
            "Leave the sigmoid to the loss, or apply it first")  # fmt: skip
    total = values.sum(axis=-1)
    if not one and not np.allclose(total, 1, rtol=1e-2 if p.dtype.itemsize < 4 else 1e-5):
        say(TreeError, name, "predictions must be valid probability distributions, which add up to 1 over the classes, "
            "where they are no logits", f"sums from {total.min():.6g} to {total.max():.6g}",
            "Leave the softmax to the loss, or apply it first")  # fmt: skip


@options
def multiclass_generalized_dice_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    smooth: float = 1.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
) -> jax.Array:
    """The mean over batch and classes of `dice_loss`, each class weighted by 1 / (its targets' sum)**2.

    The weights are those over the whole batch, and add up to the number of classes: rare classes count as much as
    large ones.

    predictions: float[batch, …, classes], logits of softmax, or with apply_softmax=False probabilities.
    targets: of the same shape, one-hot or soft; nothing is broadcast.
    smooth: as of `dice_loss`, a number >= 0.
    apply_softmax: whether predictions are logits.
    ignore_background: the first of several classes does not count.

    Returns float[], in float32 at least.
    Raises TreeError for shapes that do not fit, and as `dice_loss` does.
    Source: Sudre et al. 2017, arXiv:1707.03237.
    Not for batches that lack a class: it counts for nearly everything then. Leave it out.

    >>> logits, targets = jnp.array([[[2.0, 0.0], [0.0, 2.0]]]), jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    >>> round(float(jo.losses.multiclass_generalized_dice_loss(logits, targets)), 4)
    0.0596
    """
    name = "multiclass_generalized_dice_loss"
    x, t = same_shape(name, predictions=predictions, targets=targets)
    if x.ndim < 2:
        say(TreeError, name, "predictions must have a batch and a class axis, float[batch, …, classes]", describe(x))
    w = 1 / (jnp.square(jnp.sum(t, axis=tuple(range(t.ndim - 1)))) + 1e-7)
    weights = w / jnp.sum(w) * len(w)
    whole = {"smooth": smooth, "apply_softmax": apply_softmax, "ignore_background": ignore_background}
    return jnp.mean(dice_loss(predictions, targets, class_weights=weights, reduction="none", **whole))  # type: ignore[arg-type]


@options
def binary_dice_loss(
    predictions: ArrayLike, targets: ArrayLike, *, smooth: float = 1.0, apply_sigmoid: bool = True
) -> jax.Array:
    """`dice_loss` of one region.

    predictions: float[batch, …] or float[batch, …, 1], logits, or with apply_sigmoid=False probabilities.
    targets: 0 and 1, of the same shape but for a last axis of 1.
    smooth: as of `dice_loss`, a number >= 0.
    apply_sigmoid: whether predictions are logits.

    Returns float[batch], in float32 at least.
    Raises TreeError for shapes that do not fit and for what are no probabilities, HyperparameterError for smooth < 0.

    >>> p, t = jnp.array([[0.9, 0.8, 0.1, 0.0]]), jnp.array([[1.0, 1.0, 0.0, 0.0]])
    >>> [round(x, 4) for x in jo.losses.binary_dice_loss(p, t, apply_sigmoid=False).tolist()]
    [0.069]
    """
    x, t = jnp.asarray(predictions), jnp.asarray(targets)
    if x.ndim == t.ndim and x.shape[-1:] != (1,):
        x, t = x[..., None], t[..., None]
    return dice_loss(x, t, smooth=smooth, apply_softmax=apply_sigmoid)
