"""StableAdamW: AdamW with Adafactor's clipping. Wortsman et al. 2023, arXiv:2304.13013, Algorithm 2."""

from __future__ import annotations

import functools

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars, adam_corrections
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, root_mean_square, safe_sqrt
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, THRESHOLD
from jaxopt_ko.optimizers.adam import ScaleByAdamState
from jaxopt_ko.transforms.decay import decaying_by_mask
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree


@options
def scale_by_stable_adam(
    b1: Hyper = 0.9,
    b2: Hyper = 0.99,
    eps: Hyper = 1e-6,
    weight_decay: Hyper = 0.0,
    *,
    clipping_threshold: Hyper = 1.0,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Adam's direction, shorter in a leaf where gradients are larger than their mean square foretells.

    m_hat, v_hat as in `scale_by_adam`
    s = max(1, rms(g / max(sqrt(v_hat), eps)) / clipping_threshold)      of each leaf
    u = (m_hat / (sqrt(v_hat) + eps) + weight_decay p) / s

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0, which s divides too; at 0 params are not needed.
    clipping_threshold: the largest root mean square that is left as it is, > 0; 1, the paper's and Adafactor's;
        infinity switches it off.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: that of `scale_by_adam`, m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Wortsman et al. 2023, arXiv:2304.13013, Algorithm 2.
    Not for use alone: u points up the gradient; `stable_adamw` turns it.

    >>> rule = jo.scale_by_stable_adam()
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """
    off = isinstance(weight_decay, int | float) and weight_decay == 0

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        v = h.b2 * v + inner((1 - h.b2) * g, g)
        root = safe_sqrt(v / h.c2)
        s = jnp.maximum(1, root_mean_square(ratio(g, jnp.maximum(root, h.eps))) / h.clipping_threshold)
        u = ratio(m / h.c1, root + h.eps, h.eps)
        return (u if off else u + h.weight_decay * p) / s, m, v

    hypers = (
        FRACTION.of(b1=b1, b2=b2)
        | NONNEGATIVE.of(eps=eps, weight_decay=weight_decay)
        | THRESHOLD.of(clipping_threshold=clipping_threshold)
    )
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_stable_adam", ScaleByAdamState, init=init, shared=adam_corrections, rule=rule, hypers=hypers,
        dtypes=dtypes, squares=("nu",), debiased=("b1", "b2"), needs_params=not off, stack_axes=stack_axes,
    )  # fmt: skip


@recipe
def stable_adamw(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.99,
    eps: Hyper = 1e-6,
    weight_decay: Hyper = 1e-2,
    mask: MaskOrFn | None = None,
    *,
    clipping_threshold: Hyper = 1.0,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr u of `scale_by_stable_adam`: AdamW without loss spikes, where clipping of gradients is left out.

    s  = max(1, rms(g / max(sqrt(v_hat), eps)) / clipping_threshold)      of each leaf;  m_hat, v_hat as in `adam`
    p <- p - lr / s (m_hat / (sqrt(v_hat) + eps) + weight_decay p)

    After a long time of small gradients v is out of date, and the first large one would make Adam's step too long: s
    is then large. Carried by optimi and pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares; 0.99 is optimi's.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times lr / s a step; 1e-2 is optimi's.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    clipping_threshold: the largest root mean square that is left as it is, > 0; 1, the paper's and Adafactor's;
        infinity switches it off: AdamW.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Wortsman et al. 2023, arXiv:2304.13013, Algorithm 2.
    Not beside `clip_by_global_norm`, which it takes the place of.

    >>> opt = jo.stable_adamw(1e-3, weight_decay=0.1, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
    >>> state = opt.init({"w": jnp.ones((2, 3)), "b": jnp.zeros(3)})
    """
    rule = functools.partial(
        scale_by_stable_adam, b1, b2, eps, clipping_threshold=clipping_threshold, mu_dtype=mu_dtype,
        nu_dtype=nu_dtype, stack_axes=stack_axes,
    )  # fmt: skip
    return chain(decaying_by_mask(rule, weight_decay, mask), scale_by_learning_rate(learning_rate))
