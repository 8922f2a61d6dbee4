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
    """1 - (I + smooth) / (I + alpha (P - I) + beta (T - I) + smooth) of each class.

    I = sum p t, P = sum p, T = sum t over the places, for probabilities p and targets t. With alpha = beta = 1/2 it
    is 1 minus the Dice coefficient (Milletari, Navab & Ahmadi 2016, arXiv:1606.04797); alpha weighs what is wrongly
    in a region, beta what it misses (Tversky: Salehi, Erdogmus & Gholipour 2017, arXiv:1706.05721).

    predictions: float[batch, …, classes], logits: softmax makes probabilities of them, the sigmoid of one class alone.
        With apply_softmax=False they are probabilities already, which add up to one over several classes; this
        is checked where they are concrete.
    targets: like predictions, one-hot or soft. An axis of one class may be left out of either.
    class_weights: float[classes]. ignore_background: the first of several classes does not count.
    axis: the places; None: all axes but the first and the last.
    reduction: "mean" or "sum" over the classes, float[batch] with the default axis, or "none", float[batch, classes].

    Raises TreeError for shapes that do not fit, HyperparameterError for another reduction.
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
    """The mean over batch and classes of `dice_loss`, each class weighted by 1 / (its targets' sum)**2; float[].

    The weights are those over the whole batch, and add up to the number of classes. Rare classes count as much as
    large ones, and one that is not there at all counts for nearly everything: leave it out. predictions, targets:
    float[batch, …, classes]. Sudre et al. 2017, arXiv:1707.03237.
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
    """`dice_loss` of one region; float[batch].

    predictions: float[batch, …] or float[batch, …, 1], logits, or with apply_sigmoid=False probabilities; targets
    alike, 0 and 1.
    """
    x, t = jnp.asarray(predictions), jnp.asarray(targets)
    if x.ndim == t.ndim and x.shape[-1:] != (1,):
        x, t = x[..., None], t[..., None]
    return dice_loss(x, t, smooth=smooth, apply_softmax=apply_sigmoid)
