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

    decay: of v, in [0, 1], with bias_correction in [0, 1): it remembers about 1 / (1 - decay) squares; the lecture's
        0.9.
    eps: added under the root or to it, >= 0; 1e-8 is optax's and torch's.
    initial_scale: v_0 >= 0.
    eps_in_sqrt: whether eps stands under the root.
    bias_correction: v_t / (1 - decay**t) in the place of v_t, without which the first steps are too long.
    nu_dtype: of v, float32 at least by default.

    State: v, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Tieleman & Hinton 2012, lecture 6e.
    Not for use alone: u points up the gradient; `rmsprop` turns it.

    >>> rule = jo.scale_by_rms(eps=0.0, bias_correction=True)
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = rule.update({"w": jnp.array([3.0, -4.0])}, rule.init(params))
    >>> print(updates["w"].round())
    [ 1. -1.]
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
    u   = g / sqrt(v_t - m_t**2 + eps)

    With bias_correction and initial_scale=0 the first variance is 0 but for rounding, and the first step g / eps:
    give a large eps there (optax returns NaN for it at times; here the variance never falls below 0).

    decay: of m and v, in [0, 1], with bias_correction in [0, 1): they remember about 1 / (1 - decay) gradients.
    eps: added under the root or to it, >= 0: it bounds the step where the gradient hardly varies.
    initial_scale: v_0 >= 0.
    eps_in_sqrt: whether eps stands under the root, as in optax; False: torch's.
    bias_correction: divide m and v by the weight that they have gathered, 1 - decay**t.
    nu_dtype: of v, float32 at least by default.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Graves 2013, arXiv:1308.0850, equations 38-45.
    Not for a small eps: where the gradient hardly varies the step explodes.

    >>> rule = jo.scale_by_stddev(eps=1e-4)
    >>> state = rule.init({"w": jnp.ones((2, 3))})
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

    v_t = decay v + (1 - decay) g**2
    p  <- p - lr g / sqrt(v_t + eps)

    torch.optim.RMSprop is decay=0.99, eps_in_sqrt=False, lr_in_velocity=False.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    decay: of v, in [0, 1], with bias_correction in [0, 1): it remembers about 1 / (1 - decay) squares; the lecture's
        0.9.
    eps: added under the root or to it, >= 0; 1e-8 is optax's and torch's.
    initial_scale: v_0 >= 0.
    eps_in_sqrt: whether eps stands under the root, as in optax; False: torch's, the textbook.
    centered: over the standard deviation, `scale_by_stddev`.
    momentum: decay of a velocity of the scaled gradients, in [0, 1]; None: no velocity is kept.
    nesterov: with momentum: take the velocity one step ahead.
    bias_correction: v_t / (1 - decay**t) in the place of v_t, without which the first steps are too long.
    lr_in_velocity: the learning rate inside the velocity, as in optax, or before it, False, as in torch; see `sgd`.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: v, 4 bytes a parameter; 4 more if centered, and 4 more with momentum.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Tieleman & Hinton 2012, lecture 6e; centered, Graves 2013, arXiv:1308.0850, equations 38-45.
    Not for a start that must be careful: without bias_correction the first steps are too long.

    >>> opt = jo.rmsprop(1e-3, momentum=0.9, bias_correction=True)
    >>> like_torch = jo.rmsprop(1e-2, 0.99, eps_in_sqrt=False, lr_in_velocity=False)
    >>> state = like_torch.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_stddev if centered else scale_by_rms
    scaled = rule(decay, eps, initial_scale, eps_in_sqrt, bias_correction, nu_dtype=nu_dtype)
    step = scale_by_learning_rate(learning_rate)
    if momentum is not None:
        check_hyper("rmsprop", "momentum", momentum, UNIT)
    velocity = identity() if momentum is None else trace(momentum, nesterov)
    return chain(scaled, step, velocity) if lr_in_velocity else chain(scaled, velocity, step)
