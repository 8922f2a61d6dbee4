"""RMSProp. Tieleman & Hinton 2012, lecture 6e; centered after Graves 2013, arXiv:1308.0850, equations 38-45."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.basic import identity
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_rsqrt, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, UNIT, check_hyper
from jaxopt_ko.transforms.momentum import trace
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Updates


@quantizable(nonnegative=("nu",))
class ScaleByRmsState(NamedTuple):
    """State of `scale_by_rms`."""

    nu: Updates  # like params, f32+  v_t, mean of g**2


@quantizable(nonnegative=("nu",))
class ScaleByRmsWithCountState(NamedTuple):
    """State of `scale_by_rms` with bias correction."""

    count: Array  # int32[]           t, steps taken
    nu: Updates  # like params, f32+  v_t, mean of g**2


class ScaleByRStdDevState(NamedTuple):
    """State of `scale_by_stddev`."""

    mu: Updates  # like params, f32+  m_t, mean of g
    nu: Updates  # like params, f32+  v_t, mean of g**2


class ScaleByRStdDevWithCountState(NamedTuple):
    """State of `scale_by_stddev` with bias correction."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g
    nu: Updates  # like params, f32+  v_t, mean of g**2


@options
def scale_by_rms(
    decay: Hyper = 0.9,
    eps: Hyper = 1e-8,
    initial_scale: Hyper = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    *,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Each element over the root of the mean of its squares.

    v_t = decay v + (1 - decay) g**2,  v_0 = initial_scale
    u   = g / sqrt(v_t + eps)        eps_in_sqrt=True: optax
    u   = g / (sqrt(v_t) + eps)      eps_in_sqrt=False: torch, the textbook

    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    bias_correction: v_t / (1 - decay**t) in the place of v_t, without which the first steps are too long.
    nu_dtype: of v, float32 at least by default.
    """
    start = check_hyper("scale_by_rms", "initial_scale", initial_scale, NONNEGATIVE)

    def init(p: Array) -> Memory:
        return (wide_like(p, value_at(start, zero_count()), nu_dtype),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"c": h.gathered("decay")}

    def rule(g: Array, p: Array, v: Array, h: Scalars) -> Step:
        v = h.decay * v + inner((1 - h.decay) * g, g)
        v_hat = v / h.c if bias_correction else v
        return (g * safe_rsqrt(v_hat + h.eps) if eps_in_sqrt else ratio(g, safe_sqrt(v_hat) + h.eps, h.eps)), v

    hypers = {"decay": (decay, FRACTION if bias_correction else UNIT), "eps": (eps, NONNEGATIVE)}
    dtypes = {"nu_dtype": nu_dtype}
    if not bias_correction:
        return leafwise(
            "scale_by_rms", ScaleByRmsState, init=init, rule=rule, hypers=hypers, dtypes=dtypes, squares=("nu",)
        )
    return leafwise(
        "scale_by_rms", ScaleByRmsWithCountState, init=init, shared=shared, rule=rule, hypers=hypers,
        dtypes=dtypes, debiased=("decay",), squares=("nu",),
    )  # fmt: skip


@options
def scale_by_stddev(
    decay: Hyper = 0.9,
    eps: Hyper = 1e-8,
    initial_scale: Hyper = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    *,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """`scale_by_rms` with the variance v_t - m_t**2 in the place of v_t.

    m_t = decay m + (1 - decay) g,  m_0 = 0; corrected like v_t if bias_correction

    With bias_correction and initial_scale=0 the first variance is 0 but for rounding, and the first step g / eps:
    give a large eps there (optax returns NaN for it at times; here the variance never falls below 0).

    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    bias_correction: divide means by the weight that they have gathered, as all start at 0.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    """
    start = check_hyper("scale_by_stddev", "initial_scale", initial_scale, NONNEGATIVE)

    def init(p: Array) -> Memory:
        return wide_like(p), wide_like(p, value_at(start, zero_count()), nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"c": h.gathered("decay")}

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        m = h.decay * m + (1 - h.decay) * g
        v = h.decay * v + inner((1 - h.decay) * g, g)
        m_hat, v_hat = (m / h.c, v / h.c) if bias_correction else (m, v)
        variance = jnp.maximum(v_hat - inner(m_hat, m_hat), 0)  # rounding alone can take it below zero
        return (g * safe_rsqrt(variance + h.eps) if eps_in_sqrt else ratio(g, safe_sqrt(variance) + h.eps, h.eps)), m, v

    hypers = {"decay": (decay, FRACTION if bias_correction else UNIT), "eps": (eps, NONNEGATIVE)}
    dtypes = {"nu_dtype": nu_dtype}
    if not bias_correction:
        return leafwise(
            "scale_by_stddev", ScaleByRStdDevState, init=init, rule=rule, hypers=hypers, dtypes=dtypes, squares=("nu",)
        )
    return leafwise(
        "scale_by_stddev", ScaleByRStdDevWithCountState, init=init, shared=shared, rule=rule, hypers=hypers,
        dtypes=dtypes, debiased=("decay",), squares=("nu",),
    )  # fmt: skip


@recipe
def rmsprop(
    learning_rate: Hyper,
    decay: Hyper = 0.9,
    eps: Hyper = 1e-8,
    initial_scale: Hyper = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Hyper | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    *,
    lr_in_velocity: bool = True,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """AdaGrad that forgets: the rate of each element follows its recent gradients; see `scale_by_rms`.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    centered: over the standard deviation, `scale_by_stddev`. momentum: a velocity of the scaled gradients, none
    kept if None; lr_in_velocity as in `sgd`: True is optax's form, False torch's. torch.optim.RMSprop is
    decay=0.99, eps_in_sqrt=False, lr_in_velocity=False.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    bias_correction: divide means by the weight that they have gathered, as all start at 0.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    """
    rule = scale_by_stddev if centered else scale_by_rms
    scaled = rule(decay, eps, initial_scale, eps_in_sqrt, bias_correction, nu_dtype=nu_dtype)
    step = scale_by_learning_rate(learning_rate)
    if momentum is not None:
        check_hyper("rmsprop", "momentum", momentum, UNIT)
    velocity = identity() if momentum is None else trace(momentum, nesterov)
    return chain(scaled, step, velocity) if lr_in_velocity else chain(scaled, velocity, step)
