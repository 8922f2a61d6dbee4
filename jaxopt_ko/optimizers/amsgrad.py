"""AMSGrad. Reddi, Kale & Kumar 2018, arXiv:1904.09237, Algorithm 2."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars, adam_corrections
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, check_choice
from jaxopt_ko.transforms.decay import decay_if_any
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Updates


@quantizable(signed=("mu",), nonnegative=("nu", "nu_max"), divisor="nu_max")
class ScaleByAmsgradState(NamedTuple):
    """State of `scale_by_amsgrad`."""

    count: Array  # int32[]               t, steps taken
    mu: Updates  # like params, f32+      m_t, mean of g
    nu: Updates  # like params, f32+      v_t, mean of g**2
    nu_max: Updates  # like params, f32+  largest v so far, corrected or raw


@options
def scale_by_amsgrad(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
    *,
    maximum: str = "corrected",
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam over the largest mean square so far, so that no element's rate ever rises.

    m_t, v_t as in Adam;  c1 = 1 - b1**t, c2 = 1 - b2**t (1 where the correction is off)
    u = m_t / c1 / (sqrt(w_t + eps_root) + eps)

    maximum="corrected": w_t = max(w, v_t / c2)                optax
    maximum="raw":       w_t = max(v_1, ..., v_t) / c2          torch; the paper with both corrections off

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    bias_correction_mu, bias_correction_nu: divide m, and v, by the weight that they have gathered, as both start at 0.
    maximum: "corrected" or "raw": whether the largest is sought after the correction or before it.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m, v and the largest v, 12 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; also for another maximum.
    Source: Reddi, Kale & Kumar 2018, arXiv:1904.09237, Algorithm 2; b1, b2 and eps are Adam's.
    Not for scarce memory: one array more than Adam, and seldom better.

    >>> rule = jo.scale_by_amsgrad(maximum="raw")
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """
    check_choice("scale_by_amsgrad", "maximum", maximum, ("corrected", "raw"))

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype), wide_like(p, 0, nu_dtype)

    def rule(g: Array, p: Array, m: Array, v: Array, w: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        v = h.b2 * v + inner((1 - h.b2) * g, g)
        m_hat = m / h.c1 if bias_correction_mu else m
        c2 = h.c2 if bias_correction_nu else jnp.ones_like(h.c2)
        w = jnp.maximum(w, v / c2 if maximum == "corrected" else v)
        w_hat = w if maximum == "corrected" else w / c2
        return ratio(m_hat, safe_sqrt(w_hat + h.eps_root) + h.eps), m, v, w

    hypers = {
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "eps": (eps, NONNEGATIVE),
        "eps_root": (eps_root, NONNEGATIVE),
    }
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_amsgrad", ScaleByAmsgradState, init=init, shared=adam_corrections, rule=rule, hypers=hypers,
        dtypes=dtypes, squares=("nu", "nu_max"), debiased=("b1", "b2"),
    )  # fmt: skip


@recipe
def amsgrad(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
    *,
    maximum: str = "corrected",
    nu_dtype: DType | None = None,
    weight_decay: Hyper | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """The step -lr u of `scale_by_amsgrad`: Adam with a proof of convergence.

    p <- p - lr m_hat / (sqrt(w_t + eps_root) + eps),   w_t the largest v_hat so far

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    bias_correction_mu, bias_correction_nu: divide m, and v, by the weight that they have gathered, as both start at 0.
    maximum: "corrected", optax's, or "raw", torch's: whether the largest is sought after the correction or before it.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step;
        None: not at all.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: m, v and the largest v, 12 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; also for another maximum.
        MissingArgumentError, in update, without params where there is a weight_decay.
    Source: Reddi, Kale & Kumar 2018, arXiv:1904.09237, Algorithm 2; b1, b2 and eps are Adam's.
    Not for scarce memory: one array more than Adam, and seldom better.

    >>> opt = jo.amsgrad(1e-3, maximum="raw")
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_amsgrad(
        b1,
        b2,
        eps,
        eps_root,
        mu_dtype,
        bias_correction_mu,
        bias_correction_nu,
        maximum=maximum,
        nu_dtype=nu_dtype,
    )
    return chain(rule, *decay_if_any(weight_decay, mask), scale_by_learning_rate(learning_rate))
