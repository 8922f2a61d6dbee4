"""Batch normalization: a pure pair whose running mean and variance are a state for `lax.scan`.

Ioffe & Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2. Parameters and state are apart, since an optimizer steps
on the first and none may step on the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import next_count, or_one, safe_rsqrt, scalar_dtype, value_at, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import compute_dtype
from jaxopt_ko.errors import (
    NONNEGATIVE,
    UNIT,
    HyperparameterError,
    HyperparameterTypeError,
    StateError,
    TreeError,
    check_dtype,
    check_hyper,
    check_size,
    describe,
    say,
)
from jaxopt_ko.losses.arrays import real_array
from jaxopt_ko.types import DType, Hyper


class BatchNormParams(NamedTuple):
    """What an optimizer trains; both None with affine=False."""

    scale: jax.Array | None  # float[features]   gamma, 1 at first
    offset: jax.Array | None  # float[features]  beta, 0 at first


class BatchNormState(NamedTuple):
    """The running statistics, float32 or float64."""

    count: jax.Array  # int32[]  t, batches that went into them
    mean: jax.Array  # float[features]   E, of the batches' means, 0 at first
    var: jax.Array  # float[features]    V, of their variances, unbiased, 1 at first


class BatchNorm(NamedTuple):
    """A pure pair.

    init(features, dtype=None) -> (params, state)
    apply(params, state, x, *, train, weights=None) -> (y, state), y of the shape and dtype of x
    """

    init: Callable[..., tuple[BatchNormParams, BatchNormState]]
    apply: Callable[..., tuple[jax.Array, BatchNormState]]


@options
def batch_norm(
    *,
    momentum: Hyper | None = 0.1,
    eps: Hyper = 1e-5,
    feature_axis: int | tuple[int, ...] = -1,
    axis_name: str | tuple[str, ...] | None = None,
    affine: bool = True,
) -> BatchNorm:
    """Each feature less its mean, over its standard deviation: of the batch in training, running ones in evaluation.

    mu = mean of x    var = mean of (x - mu)**2                     over all axes but feature_axis, n values
    train=True:   y = gamma (x - mu) / sqrt(var + eps) + beta
                  E <- (1 - a) E + a mu    V <- (1 - a) V + a n / (n - 1) var
    train=False:  y = gamma (x - E) / sqrt(V + eps) + beta          the state stays as it is

    momentum: a in [0, 1], the weight of the new batch, as in torch (one minus that of flax and Keras); a schedule is
        read at the state's count. None: a = 1 / t, which makes E and V plain averages over all batches.
    eps: >= 0, in the units of x**2; with 0 a constant feature becomes beta, up to rounding.
    feature_axis: the axis, or the axes, that keep statistics of their own: -1 for [n, features] and [n, h, w,
        channels], 1 for torch's [n, channels, h, w], (1, 2) for a mean for each element of [n, h, w].
    axis_name: the axis of pmap, shard_map or vmap, or several, that further parts of the batch lie along: mu, var
        and n are of all of them, in two all-reduces, and the new state is the same on each.
    affine: with False there are no gamma and beta.

    init: features is the length of feature_axis (a tuple for several, in the order of x's axes); dtype that of gamma
        and beta, JAX's default float. The state has it too, float32 at least.
    apply: x: float[...]; computed in float32 at least, whatever its dtype. train: a Python bool. weights: how often
        each example counts (0 for padding), numbers >= 0 or bools in the shape of x's first axes, or with ones in it
        where they are the same, as on the feature axes. Examples of weight 0 are normalized like the others.

    A batch whose mean or variance is not finite leaves the state as it is, and so does one whose weights sum to 1 or
    less, which is normalized as in evaluation. Everything can be differentiated, the new state too.

    Raises TreeError where x has one value a feature to train on, or does not fit params and state; StateError for
    those of another function; HyperparameterError for a momentum or eps out of range, an axis that x does not have.
    Not for batches of a few examples, whose statistics are noise, nor for sequences trained step by step.

    >>> norm = jo.batch_norm()
    >>> params, state = norm.init(3)
    >>> apply = jax.jit(norm.apply, static_argnames="train")
    >>> y, state = apply(params, state, jnp.ones((32, 3)), train=True)

    In training, return the state beside the loss and carry it on: `jax.value_and_grad(loss, has_aux=True)`. Or leave
    it out (`loop.fit`), and at the end gather statistics of the trained network, once over the data, by momentum=None
    and train=True; that is the better estimate (Wu & Johnson 2021, arXiv:2105.07576, section 3).
    """
    if momentum is not None:
        check_hyper("batch_norm", "momentum", momentum, UNIT)
    check_hyper("batch_norm", "eps", eps, NONNEGATIVE)
    axes = _axes(feature_axis)

    def init(features: int | tuple[int, ...], dtype: DType | None = None) -> tuple[BatchNormParams, BatchNormState]:
        shape = _shape(features, feature_axis)
        check_dtype("batch_norm.init", "dtype", dtype)
        kind = scalar_dtype() if dtype is None else jnp.dtype(dtype)
        wide = compute_dtype(kind)
        params = (
            BatchNormParams(jnp.ones(shape, kind), jnp.zeros(shape, kind)) if affine else BatchNormParams(None, None)
        )
        return params, BatchNormState(zero_count(), jnp.zeros(shape, wide), jnp.ones(shape, wide))

    def apply(
        params: BatchNormParams, state: BatchNormState, x: ArrayLike, *, train: bool, weights: ArrayLike | None = None
    ) -> tuple[jax.Array, BatchNormState]:
        given, w, over = _checked(params, state, x, train, weights, axes)
        batch = _Batch(given.astype(compute_dtype(given.dtype)), w, over, axis_name)
        floor = value_at(eps, state.count, "batch_norm", "eps").astype(batch.x.dtype)
        apart, var = batch.x - batch.spread(state.mean), batch.spread(state.var)
        if train:
            apart, var, state = _trained(batch, given, momentum, (apart, var, state))
        under = var + floor
        y = jnp.where(under > 0, apart, jnp.zeros_like(apart)) * safe_rsqrt(under)
        if params.scale is not None and params.offset is not None:
            y = y * batch.spread(params.scale) + batch.spread(params.offset)
        return y.astype(given.dtype), state

    return BatchNorm(init, apply)


def _axes(feature_axis: int | tuple[int, ...]) -> tuple[int, ...]:
    axes = feature_axis if isinstance(feature_axis, tuple) else (feature_axis,)
    if not all(isinstance(axis, int | np.integer) and not isinstance(axis, bool) for axis in axes):
        say(HyperparameterTypeError, "batch_norm", "feature_axis must be an integer or a tuple of them",
            describe(feature_axis), "Give -1 for the last axis, 1 for torch's channels")  # fmt: skip
    return axes


def _shape(features: int | tuple[int, ...], feature_axis: int | tuple[int, ...]) -> tuple[int, ...]:
    sizes, axes = features if isinstance(features, tuple) else (features,), _axes(feature_axis)
    shape = tuple(check_size("batch_norm.init", "features", size) for size in sizes)
    if len(shape) != len(axes):
        say(HyperparameterError, "batch_norm.init", f"features must be one size for each of {len(axes)} axes",
            f"features={features}, feature_axis={feature_axis}", "Give their lengths in x's order")  # fmt: skip
    return shape


class _Batch(NamedTuple):
    """Examples, in the dtype that is computed in."""

    x: jax.Array  # float[...]
    weights: jax.Array | None  # of the same dtype, with an axis for each of x's
    over: tuple[int, ...]  # axes of x to reduce over
    axis_name: str | tuple[str, ...] | None  # axes of the mesh to reduce over

    def spread(self, value: jax.Array) -> jax.Array:
        """A value of each feature, along x."""
        shape = tuple(1 if axis in self.over else size for axis, size in enumerate(self.x.shape))
        return value.astype(self.x.dtype).reshape(shape)

    def totals(self, *values: jax.Array) -> list[jax.Array]:
        """The weighted sums over all examples, on whatever device they are."""
        weighted = [value if self.weights is None else self.weights * value for value in values]
        sums = [jnp.sum(value, axis=self.over, keepdims=True) for value in weighted]
        return sums if self.axis_name is None else jax.lax.psum(sums, self.axis_name)  # type: ignore[no-untyped-call]


def _trained(
    batch: _Batch, given: jax.Array, momentum: Hyper | None, as_before: tuple[jax.Array, jax.Array, BatchNormState]
) -> tuple[jax.Array, jax.Array, BatchNormState]:
    """x - mu, var and the new state; what they are in evaluation where the weights sum to 1 or less."""
    x, w, over, axis_name = batch
    state = as_before[-1]
    least: Any
    unbiased: Any
    if w is None:
        n = math.prod(x.shape[axis] for axis in over) * _lanes(axis_name)
        if n < 2:
            say(TreeError, "batch_norm.apply", "training needs more than one value of each feature",
                describe(given), "Give a larger batch, or train=False for the running statistics")  # fmt: skip
        sums, least, unbiased = batch.totals(x)[0], n, n / (n - 1)
    else:
        x = jnp.where((w > 0) | jnp.isfinite(x), x, jnp.zeros_like(x))  # 0 times NaN is NaN
        ones = jnp.ones([size if axis in over else 1 for axis, size in enumerate(x.shape)], x.dtype)
        weight, sums = batch.totals(ones, x)
        least, unbiased = or_one(weight), weight / or_one(weight - 1)
    # First about the rounded mean, then about the rest that it was off by: features far from 0 lose no digits.
    rough = sums / least
    apart = x - rough
    rest, squares = (total / least for total in batch.totals(apart, jnp.square(apart)))
    var = squares - jnp.square(rest)
    var = jnp.where(var > 0, var, jnp.zeros_like(var))
    found = apart - rest, var, _gathered(state, momentum, rough + rest, var * unbiased)
    return found if w is None else tree.where((weight > 1).reshape(()), found, as_before)


def _gathered(state: BatchNormState, momentum: Hyper | None, mean: jax.Array, var: jax.Array) -> BatchNormState:
    """The running statistics with one more batch taken in, if its own are finite."""
    t, dtype = next_count(state.count), state.mean.dtype
    a = 1 / t.astype(dtype) if momentum is None else value_at(momentum, state.count, "batch_norm", "momentum")
    a = a.astype(dtype)
    mean, var = (value.astype(dtype).reshape(state.mean.shape) for value in (mean, var))
    new = BatchNormState(t, (1 - a) * state.mean + a * mean, (1 - a) * state.var + a * var)
    return tree.where(jnp.all(jnp.isfinite(mean) & jnp.isfinite(var)), new, state)  # type: ignore[no-any-return]


def _lanes(axis_name: str | tuple[str, ...] | None) -> int:
    """How many parts of the batch there are."""
    return 1 if axis_name is None else int(jax.lax.axis_size(axis_name))


def _checked(
    params: BatchNormParams, state: BatchNormState, x: ArrayLike, train: bool, weights: ArrayLike | None,
    axes: tuple[int, ...],
) -> tuple[jax.Array, Any, tuple[int, ...]]:  # fmt: skip
    """x, the weights with an axis for each of its own, and the axes to reduce over."""
    name = "batch_norm.apply"
    for argument, value, kind in (("params", params, BatchNormParams), ("state", state, BatchNormState)):
        if not isinstance(value, kind):
            say(StateError, name, f"{argument} must be {kind.__name__}", describe(value),
                "Call apply(params, state, x, train=…) with what init(features) returns")  # fmt: skip
    if not isinstance(train, bool | np.bool_):
        say(HyperparameterTypeError, name, "train must be True or False", describe(train),
            "It decides what is computed: name it in jax.jit's static_argnames, or use jax.lax.cond")  # fmt: skip
    array = real_array(name, "x", x)
    ndim = array.ndim
    kept = sorted({axis + ndim if axis < 0 else axis for axis in axes})
    if len(kept) != len(axes) or not all(0 <= axis < ndim for axis in kept):
        say(HyperparameterError, name, f"feature_axis must name different axes of x, which has {ndim}",
            f"feature_axis={axes}", "Give -1 for the last axis, 1 for torch's channels")  # fmt: skip
    features = tuple(array.shape[axis] for axis in kept)
    for of in jax.tree.leaves((params, state.mean, state.var)):
        if of.shape != features:
            say(TreeError, name, f"x must have {of.shape} features, as params and state do, along axes {tuple(kept)}",
                describe(array), "Give init the length of feature_axis, and feature_axis where it is")  # fmt: skip
    if weights is None:
        return array, None, tuple(axis for axis in range(ndim) if axis not in kept)
    w = jnp.asarray(weights)
    shape = w.shape + (1,) * (ndim - w.ndim)
    fits = len(shape) == ndim and all(
        size == 1 or (size == array.shape[axis] and axis not in kept) for axis, size in enumerate(shape)
    )
    if not fits or jnp.issubdtype(w.dtype, jnp.complexfloating):
        say(TreeError, name, f"weights must be real, one for each example of x with shape {array.shape}",
            describe(w), "Give the shape of x's first axes, 1 on the feature axis")  # fmt: skip
    return (
        array,
        w.reshape(shape).astype(compute_dtype(array.dtype)),
        tuple(axis for axis in range(ndim) if axis not in kept),
    )
