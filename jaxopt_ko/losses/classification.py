"""How well scores tell classes apart."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.core.checks import check_numbers
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import compute_dtype
from jaxopt_ko.errors import (
    FINITE,
    FRACTION,
    NONNEGATIVE,
    UNIT,
    WITH_OPTAX,
    TreeError,
    check_number,
    deprecated,
    describe,
    say,
)
from jaxopt_ko.losses.arrays import Axis, axes_of, power, real_array, same_shape, sum_where, taking_part


@options
def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: int | tuple[int, ...] = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """log(sum_j exp(z_j)) - z_label for every example: -log of the probability that softmax gives its label.

    logits: float[..., classes], the classes along `axis`; several axes count as one, in the order given.
    labels: int[...], the shape of logits without `axis`. A label outside 0 .. classes - 1, negative or too
        large, gives NaN, not another class.
    axis: the axis of the classes, or several that count as one; -1, the last, as layers have it.
    where: bool[...] like labels (whole examples) or like logits (single classes): those that count. An example
        without a class that counts costs 0, whatever its label. None: all.

    Returns float[...] like labels, in float32 at least.
    Raises TreeError for logits that are not floating, labels that are not integers, shapes that do not fit.
    Not for soft labels, nor for several per example: see `softmax_cross_entropy` and `sigmoid_binary_cross_entropy`.

    >>> logits, labels = jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), jnp.array([0, 2])
    >>> loss = jo.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    >>> [round(x, 4) for x in loss.tolist()]
    [0.2395, 1.0986]
    """
    name = "softmax_cross_entropy_with_integer_labels"
    z, y = real_array(name, "logits", logits), jnp.asarray(labels)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        say(TreeError, name, "labels must be integers, one class index for each example", describe(y),
            "For one-hot labels pass jnp.argmax(labels, axis)")  # fmt: skip
    axes = axes_of(name, axis, z.ndim)
    batch_axes = tuple(a for a in range(z.ndim) if a not in axes)
    batch = tuple(z.shape[a] for a in batch_axes)
    classes = math.prod(z.shape[a] for a in axes)
    if y.shape != batch:
        say(TreeError, name, f"labels must have the shape {batch}, that of {describe(z)} without axis {axis}",
            describe(y), "Reshape the labels (nothing is broadcast), or name the classes' axis")  # fmt: skip

    def classes_last(x: jax.Array) -> jax.Array:
        return x.transpose(batch_axes + axes).reshape(*batch, classes)

    z = classes_last(z.astype(compute_dtype(z.dtype)))
    top = min(classes - 1, jnp.iinfo(y.dtype).max)  # type: ignore[no-untyped-call]  # in the labels' own dtype, which may be as narrow as uint8
    inside = (y >= 0) & (y <= jnp.asarray(top, y.dtype))
    label = jnp.where(inside, y, jnp.zeros_like(y)).astype(jnp.int32)

    def chosen(z: jax.Array) -> jax.Array:
        return jnp.take_along_axis(z, label[..., None], axis=-1)[..., 0]

    if where is None:
        return jnp.where(inside, jax.nn.logsumexp(z, axis=-1) - chosen(z), jnp.nan)
    check_numbers(name, "where", where)
    mask = jnp.asarray(where).astype(bool)
    if mask.shape not in (batch, jnp.shape(logits)):
        say(TreeError, name, f"where must have the shape {batch} of labels or {jnp.shape(logits)} of logits",
            describe(mask), "Shapes are never broadcast: reshape the mask")  # fmt: skip
    mask = mask[..., None] if mask.shape == batch else classes_last(mask)
    some = jnp.any(mask, axis=-1)
    mask = jnp.broadcast_to(mask | ~some[..., None], z.shape)  # an empty sum would have a derivative of NaN
    z = jnp.where(some[..., None], z, jnp.zeros_like(z))  # and so would an example of NaNs that does not count
    among = jnp.where(mask, z, jnp.zeros_like(z))
    loss = jnp.where(inside, jax.nn.logsumexp(among, axis=-1, where=mask) - chosen(z), jnp.nan)
    return jnp.where(some, loss, jnp.zeros_like(loss))


@options
def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """-sum_j y_j log softmax(z)_j along `axis`: for soft labels, whose probabilities need not add up to one.

    logits: scores, before a sigmoid or softmax, float[...]: real floating numbers.
    labels: weights of the classes, real numbers >= 0 of the same shape: one-hot, smoothed, or probabilities.
    axis: the axis of the classes, or several that count as one; -1, the last; None: all.
    where: bool[...], which classes take part, or without `axis` which rows; the others' logits and labels count for
        nothing, NaN neither. None: all.

    Returns float[...] without `axis`, in float32 at least; a logit of -inf whose label is 0 costs nothing.
    Raises TreeError if the two differ in shape, or are not real numbers, the logits floating ones.
    Not for one class per example where the classes are many: `softmax_cross_entropy_with_integer_labels` needs no
    one-hot array.

    >>> loss = jo.losses.softmax_cross_entropy(jnp.array([[2.0, 0.0]]), jnp.array([[0.9, 0.1]]))
    >>> [round(x, 4) for x in loss.tolist()]
    [0.3269]
    """
    name = "softmax_cross_entropy"
    z, y = same_shape(name, logits=logits, labels=labels)
    there = taking_part(where)
    if there is not None:
        there = there if there.ndim == z.ndim or axis is None else jnp.expand_dims(there, axis)
        there = jnp.broadcast_to(there, z.shape)
        z = jnp.where(there, z, jnp.zeros_like(z))  # which may be NaN
    some = None if there is None else there | ~jnp.any(there, axis, keepdims=True)  # an empty sum has no derivative
    log_p = jax.nn.log_softmax(z, axis=axis, where=some)
    used = (y != 0) | jnp.isfinite(log_p)  # the derivative by a label of 0 is -log p, too
    used = used if there is None else used & there
    log_p = jnp.where(used, log_p, jnp.zeros_like(log_p))
    return -sum_where(y * log_p, axis, there)


def safe_softmax_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """`softmax_cross_entropy` along the last axis: optax's name for the form that is safe with logits of -inf.

    logits: scores, before a sigmoid or softmax, float[...]: real floating numbers.
    labels: weights of the classes, real numbers >= 0 of the same shape: one-hot, smoothed, or probabilities.

    Returns float[...] without the last axis, in float32 at least.
    Raises TreeError as `softmax_cross_entropy` does.

    >>> logits = jnp.array([0.0, 0.0, -jnp.inf])
    >>> round(float(jo.losses.safe_softmax_cross_entropy(logits, jnp.array([1.0, 0.0, 0.0]))), 4)
    0.6931
    """
    return softmax_cross_entropy(logits, labels)


@options
def poly_loss_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, epsilon: float = 2.0, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """`softmax_cross_entropy` plus epsilon times sum_j y_j (1 - p_j): more weight for examples that are nearly right.

    -sum_j y_j log p_j + epsilon sum_j y_j (1 - p_j),  p = softmax(z)

    The first two terms of the series of the cross entropy in 1 - p, the first with another factor.

    logits: scores, before a sigmoid or softmax, float[...]: real floating numbers.
    labels: weights of the classes, real numbers >= 0 of the same shape: one-hot, smoothed, or probabilities.
    epsilon: a finite number, 0 for the cross entropy alone; in the paper 2 for images' classes, -1 for detection.
    axis: the axis of the classes, or several that count as one; -1, the last; None: all.
    where: bool[...], broadcast to the shape of the first: the elements that count; None: all.

    Returns float[...] without `axis`, in float32 at least.
    Raises TreeError as `softmax_cross_entropy` does, HyperparameterError for an epsilon that is no finite number.
    Source: Leng et al. 2022, arXiv:2204.12511, equation 6.

    >>> logits, labels = jnp.array([2.0, 0.0]), jnp.array([1.0, 0.0])
    >>> round(float(jo.losses.poly_loss_cross_entropy(logits, labels, epsilon=1.0)), 4)
    0.2461
    """
    name = "poly_loss_cross_entropy"
    check_number(name, "epsilon", epsilon, FINITE)
    z, y = same_shape(name, logits=logits, labels=labels)
    p = jax.nn.softmax(z, axis=axis, where=taking_part(where))
    return softmax_cross_entropy(z, y, axis, where) + epsilon * sum_where(y * (1 - p), axis, where)


def sigmoid_binary_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """-y log sigmoid(z) - (1 - y) log(1 - sigmoid(z)) for every element: classes that do not exclude each other.

    logits: scores, before a sigmoid or softmax, float[...]: real floating numbers.
    labels: probabilities in [0, 1] of the same shape, or 0 and 1, or bools.

    Returns float[...] like logits, in float32 at least; take the sum or the mean by yourself.
    Raises TreeError if the two differ in shape, or are not real numbers, the logits floating ones.
    Not for classes of which one alone is right: see `softmax_cross_entropy_with_integer_labels`.

    >>> loss = jo.losses.sigmoid_binary_cross_entropy(jnp.array([0.0, 4.0]), jnp.array([1, 1]))
    >>> [round(x, 4) for x in loss.tolist()]
    [0.6931, 0.0181]
    """
    z, y = same_shape("sigmoid_binary_cross_entropy", logits=logits, labels=labels)
    return -y * jax.nn.log_sigmoid(z) - (1 - y) * jax.nn.log_sigmoid(-z)


def sigmoid_focal_loss(
    logits: ArrayLike, labels: ArrayLike, *, alpha: float | None = None, gamma: float = 2.0
) -> jax.Array:
    """(1 - p_t)**gamma times `sigmoid_binary_cross_entropy`, p_t the probability of the true class.

    Examples that are nearly certain weigh little: for detectors, where nearly everything is background.

    logits: scores, before a sigmoid or softmax, float[...]: real floating numbers.
    labels: probabilities in [0, 1] of the same shape, or 0 and 1, or bools.
    alpha: weight of the class 1, 1 - alpha that of the class 0, in [0, 1]; the paper's is 0.25. None: 1 for both.
    gamma: how fast certain examples lose weight, >= 0: 0 for the cross entropy itself, 2 as in the paper.

    Returns float[...] like logits, in float32 at least.
    Raises TreeError as `sigmoid_binary_cross_entropy` does, HyperparameterError for alpha outside [0, 1] or a
        negative gamma.
    Source: Lin et al. 2017, arXiv:1708.02002, equation 5.

    >>> loss = jo.losses.sigmoid_focal_loss(jnp.array([0.0, 4.0]), jnp.array([1, 1]), gamma=2.0)
    >>> [round(x, 4) for x in loss.tolist()]
    [0.1733, 0.0]
    """
    name = "sigmoid_focal_loss"
    check_number(name, "gamma", gamma, NONNEGATIVE)
    z, y = same_shape(name, logits=logits, labels=labels)
    p = jax.nn.sigmoid(z)
    wrong = p * (1 - y) + (1 - p) * y
    modulated = jnp.ones_like(wrong) if isinstance(gamma, int | float) and gamma == 0 else power(wrong, gamma)
    loss = modulated * sigmoid_binary_cross_entropy(z, y)
    if alpha is None:
        return loss
    check_number(name, "alpha", alpha, UNIT)
    return (alpha * y + (1 - alpha) * (1 - y)) * loss


@options
def smooth_labels(labels: ArrayLike, alpha: float, *, axis: Axis = -1, where: ArrayLike | None = None) -> jax.Array:
    """(1 - alpha) y + alpha / classes: part of each label's weight goes to every class along `axis`.

    labels: one-hot or soft labels, float[...]; jax.nn.one_hot makes them of integers.
    alpha: the part that goes to all classes, in [0, 1); 0.1 is usual.
    axis: the axis of the classes, or several that count as one; -1, the last; None: all.
    where: bool[...], broadcast to the labels' shape: the classes that there are, among which alpha is shared. The
        others get the same share, for the loss to leave out by the same mask. None: all.

    Returns float[...] like labels, in float32 at least.
    Raises TreeError for labels that are not real floating numbers, HyperparameterError for alpha outside [0, 1).
    Source: Müller, Kornblith & Hinton 2019, arXiv:1906.02629.

    >>> [round(x, 4) for x in jo.losses.smooth_labels(jax.nn.one_hot(1, 4), 0.1).tolist()]
    [0.025, 0.925, 0.025, 0.025]
    """
    name = "smooth_labels"
    check_number(name, "alpha", alpha, FRACTION)
    y = real_array(name, "labels", labels)
    y = y.astype(compute_dtype(y.dtype))
    there = taking_part(where)
    there = jnp.ones(y.shape, bool) if there is None else jnp.broadcast_to(there, y.shape)
    classes = jnp.sum(there, axis=axis, keepdims=True).astype(y.dtype)
    return (1 - alpha) * y + alpha / classes


@options
def kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """sum t (log t - log p) along `axis`, from log-probabilities and probabilities; 0 log 0 is 0.

    log_predictions: logarithms of the predicted probabilities, float[...], as jax.nn.log_softmax makes.
    targets: probabilities, real numbers >= 0 of the same shape; nothing is broadcast.
    axis: the axis of the classes, or several that count as one; -1, the last; None: all.
    where: bool[...], broadcast to the shape of the first: the elements that count; None: all.

    Returns float[...] without `axis`, in float32 at least.
    Raises TreeError if the two differ in shape, or are not real numbers, log_predictions floating ones.
    Not for sums other than one, where it can be negative: see `generalized_kl_divergence`.

    >>> log_p, t = jnp.log(jnp.array([0.5, 0.5])), jnp.array([1.0, 0.0])
    >>> round(float(jo.losses.kl_divergence(log_p, t)), 4)
    0.6931
    """
    log_p, t = same_shape("kl_divergence", log_predictions=log_predictions, targets=targets)
    return sum_where(_relative(log_p, t), axis, where)


@options
def kl_divergence_with_log_targets(
    log_predictions: ArrayLike, log_targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """sum t (log t - log p) along `axis`, from the logarithms of both; 0 log 0 is 0.

    log_predictions: logarithms of the predicted probabilities, float[...], as jax.nn.log_softmax makes.
    log_targets: logarithms of probabilities, real numbers of the same shape; -inf for one of 0.
    axis: the axis of the classes, or several that count as one; -1, the last; None: all.
    where: bool[...], broadcast to the shape of the first: the elements that count; None: all.

    Returns float[...] without `axis`, in float32 at least.
    Raises TreeError if the two differ in shape, or are not real numbers, log_predictions floating ones.

    >>> log_p, log_t = jax.nn.log_softmax(jnp.array([[0.0, 0.0], [0.0, 2.0]]))
    >>> round(float(jo.losses.kl_divergence_with_log_targets(log_p, log_t)), 4)
    0.3278
    """
    both = {"log_predictions": log_predictions, "log_targets": log_targets}
    log_p, log_t = same_shape("kl_divergence_with_log_targets", **both)
    t = jnp.exp(log_t)
    positive = t > 0
    apart = jnp.where(positive, log_t, jnp.zeros_like(t)) - jnp.where(positive, log_p, jnp.zeros_like(t))
    return sum_where(t * apart, axis, where)


@options
def generalized_kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """sum t (log t - log p) + p - t: `kl_divergence` for sums other than one, convex and never negative.

    log_predictions: logarithms of the predicted probabilities, float[...], as jax.nn.log_softmax makes.
    targets: real numbers >= 0 of the same shape, of any sum; nothing is broadcast.
    axis: the axis of the classes, or several that count as one; -1, the last; None: all.
    where: bool[...], broadcast to the shape of the first: the elements that count; None: all.

    Returns float[...] without `axis`, in float32 at least.
    Raises TreeError if the two differ in shape, or are not real numbers, log_predictions floating ones.

    >>> log_p, t = jnp.log(jnp.array([0.5, 0.5])), jnp.array([1.0, 1.0])
    >>> round(float(jo.losses.generalized_kl_divergence(log_p, t)), 4)
    0.3863
    """
    log_p, t = same_shape("generalized_kl_divergence", log_predictions=log_predictions, targets=targets)
    return sum_where(_relative(log_p, t) + jnp.exp(log_p) - t, axis, where)


@options
def convex_kl_divergence(
    log_predictions: ArrayLike, targets: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """Deprecated name of `generalized_kl_divergence`.

    log_predictions: logarithms of the predicted probabilities, float[...], as jax.nn.log_softmax makes.
    targets: real numbers >= 0 of the same shape, of any sum; nothing is broadcast.
    axis: the axis of the classes, or several that count as one; -1, the last; None: all.
    where: bool[...], broadcast to the shape of the first: the elements that count; None: all.

    Returns what that function does, with a DeprecationWarning.
    Raises TreeError as that function does.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     float(jo.losses.convex_kl_divergence(jnp.zeros(2), jnp.ones(2)))
    0.0
    """
    deprecated("convex_kl_divergence", "generalized_kl_divergence", "0.1.0", WITH_OPTAX)
    return generalized_kl_divergence(log_predictions, targets, axis, where)


def _relative(log_p: jax.Array, t: jax.Array) -> jax.Array:
    """t (log t - log p), 0 where t is."""
    positive = t > 0
    log_t = jnp.log(jnp.where(positive, t, jnp.ones_like(t)))
    return jnp.where(positive, t * (log_t - jnp.where(positive, log_p, jnp.zeros_like(log_p))), jnp.zeros_like(t))
