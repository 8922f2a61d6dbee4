"""AdamP and SGDP: no step along weights whose length is undone. Heo et al. 2021, arXiv:2006.08217, Algorithms 1, 2."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars, adam_corrections
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, length, ratio, safe_sqrt
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.optimizers.adam import ScaleByAdamState
from jaxopt_ko.transforms.decay import decaying_by_mask
from jaxopt_ko.transforms.momentum import TraceState
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree


def _tangential(u: Array, g: Array, p: Array, axis: int, h: Scalars) -> tuple[Array, Array]:
    """u without its part along p, channel by channel or in the leaf, where g is orthogonal to p; else u. And the factor
    of the decay."""
    if p.ndim < 2 or not p.size:
        return u, jnp.ones((), p.real.dtype)
    channels = tuple(a for a in range(p.ndim) if a != axis % p.ndim)
    found = jnp.zeros((), bool)
    for axes in (channels, tuple(range(p.ndim))):
        size = length(p, axes, keepdims=True)
        sizes = jnp.maximum(size, h.eps) * jnp.maximum(length(g, axes, keepdims=True), h.eps)
        cosine = ratio(jnp.abs(jnp.sum(inner(p, g), axes, keepdims=True)), sizes)
        free = jnp.max(cosine) < h.delta / np.sqrt(p.size / size.size).astype(size.dtype)
        unit = ratio(p, size + h.eps)
        tangent = u - unit * jnp.sum(inner(unit, u), axes, keepdims=True)
        u = jnp.where(free & ~found, tangent, u)
        found = found | free
    return u, jnp.where(found, h.wd_ratio, jnp.ones_like(h.wd_ratio))


@options
def scale_by_adamp(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    *,
    delta: Hyper = 0.1,
    wd_ratio: Hyper = 0.1,
    nesterov: bool = False,
    channel_axis: int = -1,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Adam's direction, in a leaf whose length does not count without its part along the weights.

    u = m_hat / (sqrt(v_hat) + eps), as in `scale_by_adam`
    where |cos(p, g)| < delta / sqrt(dim p) in every channel, or in the leaf:
        u = u - <p, u> p / |p|**2 of each channel, or of the leaf;   weight_decay wd_ratio in the place of weight_decay
    u = u + weight_decay p

    Leaves with fewer than two axes are left to Adam.

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, and to |p|, >= 0; the authors' 1e-8.
    weight_decay: lambda >= 0, of which the projected leaves have wd_ratio; at 0 no leaf decays.
    delta: how small a cosine is one of a normalized weight, >= 0; the paper's 0.1; 0: never.
    wd_ratio: factor of the decay of such leaves, >= 0; the paper's 0.1.
    nesterov: take the mean one gradient ahead: (b1 m_t + (1 - b1) g) / (1 - b1**t).
    channel_axis: the axis of a leaf that counts channels, outputs: -1 of kernels [in, out], 0 of torch's and equinox's.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: that of `scale_by_adam`, m and v, 8 bytes a parameter. Needs params.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Heo et al. 2021, arXiv:2006.08217, Algorithm 2.
    Not for use alone: u points up the gradient; `adamp` turns it.

    >>> rule = jo.scale_by_adamp()
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        v = h.b2 * v + inner((1 - h.b2) * g, g)
        ahead = h.b1 * m + (1 - h.b1) * g if nesterov else m
        u, share = _tangential(ratio(ahead / h.c1, safe_sqrt(v / h.c2) + h.eps, h.eps), g, p, channel_axis, h)
        return u + share * h.weight_decay * p, m, v

    hypers = FRACTION.of(b1=b1, b2=b2) | NONNEGATIVE.of(
        eps=eps, weight_decay=weight_decay, delta=delta, wd_ratio=wd_ratio
    )
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_adamp", ScaleByAdamState, init=init, shared=adam_corrections, rule=rule, hypers=hypers, dtypes=dtypes,
        squares=("nu",), debiased=("b1", "b2"), needs_params=True, stack_axes=stack_axes,
    )  # fmt: skip


@options
def scale_by_sgdp(
    momentum: Hyper = 0.9,
    weight_decay: Hyper = 0.0,
    *,
    delta: Hyper = 0.1,
    wd_ratio: Hyper = 0.1,
    eps: Hyper = 1e-8,
    nesterov: bool = False,
    channel_axis: int = -1,
    accumulator_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The velocity, in a leaf whose length does not count without its part along the weights.

    v <- momentum v + g;   u = v, or, with nesterov, g + momentum v
    u without its part along p as in `scale_by_adamp`;   u = u + weight_decay / (1 - momentum) p

    momentum: decay of the velocity, in [0, 1), usually 0.9.
    weight_decay: lambda >= 0, of which the projected leaves have wd_ratio; at 0 no leaf decays. As of a decay in the
        gradient, of which the velocity would sum 1 / (1 - momentum).
    delta: how small a cosine is one of a normalized weight, >= 0; the paper's 0.1; 0: never.
    wd_ratio: factor of the decay of such leaves, >= 0; the paper's 0.1.
    eps: added to |p|, >= 0; the authors' 1e-8.
    nesterov: take the velocity one gradient ahead.
    channel_axis: the axis of a leaf that counts channels, outputs: -1 of kernels [in, out], 0 of torch's and equinox's.
    accumulator_dtype: dtype of the velocity; None: float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: that of `trace`, 4 bytes a parameter. Needs params.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Heo et al. 2021, arXiv:2006.08217, Algorithm 1.
    Not for use alone: u points up the gradient; `sgdp` turns it.

    >>> rule = jo.scale_by_sgdp()
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return (wide_like(p, 0, accumulator_dtype),)

    def rule(g: Array, p: Array, v: Array, h: Scalars) -> Step:
        v = h.momentum * v + g
        u, share = _tangential(g + h.momentum * v if nesterov else v, g, p, channel_axis, h)
        return u + share * h.weight_decay / (1 - h.momentum) * p, v

    hypers = FRACTION.of(momentum=momentum) | NONNEGATIVE.of(
        eps=eps, weight_decay=weight_decay, delta=delta, wd_ratio=wd_ratio
    )
    return leafwise(
        "scale_by_sgdp", TraceState, init=init, rule=rule, hypers=hypers, needs_params=True, stack_axes=stack_axes,
        dtypes={"accumulator_dtype": accumulator_dtype},
    )  # fmt: skip


@recipe
def adamp(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    delta: Hyper = 0.1,
    wd_ratio: Hyper = 0.1,
    nesterov: bool = False,
    channel_axis: int = -1,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr u of `scale_by_adamp`: AdamW for networks whose normalized weights momentum would make ever longer.

    Where |cos(p, g)| < delta / sqrt(dim p) the weights' length does not count, as before a normalization: u loses its
    part along p, and the decay is wd_ratio of what it is elsewhere.

    Carried by timm, torch_optimizer and pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, and to |p|, >= 0; the authors' 1e-8.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step, projected
        leaves by wd_ratio of it.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    delta: how small a cosine is one of a normalized weight, >= 0; the paper's 0.1; 0: never.
    wd_ratio: factor of the decay of such leaves, >= 0; the paper's 0.1.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    channel_axis: the axis of a leaf that counts channels, outputs: -1 of kernels [in, out], 0 of torch's and equinox's.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: m and v, 8 bytes a parameter. Needs params.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Heo et al. 2021, arXiv:2006.08217, Algorithm 2.
    Not for models without normalizations behind their weights: it is then AdamW, dearer.

    >>> opt = jo.adamp(1e-3, weight_decay=1e-2)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = functools.partial(
        scale_by_adamp, b1, b2, eps, delta=delta, wd_ratio=wd_ratio, nesterov=nesterov, channel_axis=channel_axis,
        mu_dtype=mu_dtype, nu_dtype=nu_dtype, stack_axes=stack_axes,
    )  # fmt: skip
    return chain(decaying_by_mask(rule, weight_decay, mask), scale_by_learning_rate(learning_rate))


@recipe
def sgdp(
    learning_rate: Hyper,
    momentum: Hyper = 0.9,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    delta: Hyper = 0.1,
    wd_ratio: Hyper = 0.1,
    eps: Hyper = 1e-8,
    nesterov: bool = False,
    channel_axis: int = -1,
    accumulator_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr u of `scale_by_sgdp`: momentum for convolutional networks, without what makes their weights longer.

    v <- momentum v + g;   u = v without its part along p where |cos(p, g)| < delta / sqrt(dim p)
    p <- p - lr (u + weight_decay / (1 - momentum) p)

    Carried by timm, torch_optimizer and pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    momentum: decay of the velocity, in [0, 1), usually 0.9.
    weight_decay: lambda >= 0, as of a decay in the gradient, of which projected leaves have wd_ratio.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    delta: how small a cosine is one of a normalized weight, >= 0; the paper's 0.1; 0: never.
    wd_ratio: factor of the decay of such leaves, >= 0; the paper's 0.1.
    eps: added to |p|, >= 0; the authors' 1e-8.
    nesterov: take the velocity one gradient ahead, as Nesterov does.
    channel_axis: the axis of a leaf that counts channels, outputs: -1 of kernels [in, out], 0 of torch's and equinox's.
    accumulator_dtype: dtype of the velocity; None: float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: v, 4 bytes a parameter. Needs params.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Heo et al. 2021, arXiv:2006.08217, Algorithm 1.
    Not for models without normalizations behind their weights: it is then SGD, dearer.

    >>> opt = jo.sgdp(0.1, weight_decay=1e-4, nesterov=True)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = functools.partial(
        scale_by_sgdp, momentum, delta=delta, wd_ratio=wd_ratio, eps=eps, nesterov=nesterov, channel_axis=channel_axis,
        accumulator_dtype=accumulator_dtype, stack_axes=stack_axes,
    )  # fmt: skip
    return chain(decaying_by_mask(rule, weight_decay, mask), scale_by_learning_rate(learning_rate))
