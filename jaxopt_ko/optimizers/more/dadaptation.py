"""D-Adaptation for AdamW, SGD and Lion. Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithms 4 and 5.

For Lion: the authors' code, github.com/facebookresearch/dadaptation.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import first_value, inner, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.tree import wide_copy, wide_like
from jaxopt_ko.core.treewise import Vector, VectorStep, treewise
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE, check_hyper
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, Updates


@quantizable(signed=("exp_avg",), nonnegative=("exp_avg_sq",), divisor="exp_avg_sq")
class DAdaptAdamWState(NamedTuple):
    """State of `dadapt_adamw`."""

    exp_avg: Updates  # like params, f32+     m_t, mean of a g
    exp_avg_sq: Updates  # like params, f32+  v_t, mean of g**2
    grad_sum: Updates  # like params, f32+    s_t, mean of a g, slower
    estim_lr: Array  # float[]                d_t, a lower bound of the distance from the start to the solution
    numerator_weighted: Array  # float[]      r_t, mean of a <g, s / (sqrt(v) + eps)>
    count: Array  # int32[]                   t, steps taken


class DAdaptSgdState(NamedTuple):
    """State of `dadapt_sgd`."""

    grad_sum: Updates  # like params, f32+  s_t, sum of a g
    params0: Params  # like params, f32+    x_0, the parameters at the start
    estim_lr: Array  # float[]              d_t, a lower bound of the distance from the start to the solution
    numerator_weighted: Array  # float[]    r_t, sum of a <g, s>
    first_norm: Array  # float[]            |g| of the first gradient that is not 0, 0 before


@quantizable(signed=("exp_avg",))
class DAdaptLionState(NamedTuple):
    """State of `dadapt_lion`."""

    exp_avg: Updates  # like params, f32+   m_t, mean of a g
    grad_sum: Updates  # like params, f32+  s_t, mean of a u
    estim_lr: Array  # float[]              d_t, a lower bound of the distance from the start to the solution
    numerator_weighted: Array  # float[]    r_t, mean of a <u, s>


@recipe
def dadapt_adamw(
    learning_rate: Hyper = 1.0,
    betas: tuple[Hyper, Hyper] = (0.9, 0.999),
    eps: Hyper = 1e-8,
    estim_lr0: Hyper = 1e-6,
    weight_decay: Hyper = 0.0,
    *,
    bias_correction: bool = True,
    nu_dtype: DType | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """AdamW times an estimate d of the distance to the solution.

    a   = d lr sqrt(1 - b2**t) / (1 - b1**t)         bias_correction=False: a = d lr;   b = sqrt(b2)
    r_t = b r + (1 - b) a <g, s / (sqrt(v) + eps)>
    m_t = b1 m + (1 - b1) a g;   v_t = b2 v + (1 - b2) g**2;   s_t = b s + (1 - b) a g
    u   = -(m_t / (sqrt(v_t) + eps) + weight_decay a x)
    d  <- max(d, r_t / ((1 - b) |s_t|_1))

    learning_rate: a factor of the estimate, >= 0: leave it at 1, or let it be a schedule that falls from there.
    betas: (b1, b2), the decays of m and of v, in [0, 1); Adam's.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    estim_lr0: d_0 > 0, a guess that is no larger than the distance; the authors' 1e-6.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times a a step.
    bias_correction: divide means by the weight that they have gathered, as all start at 0.
    nu_dtype: of v, float32 at least by default.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: m, v and s, 12 bytes a parameter, and two numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 5.
    Not where the estimate must grow fast: `prodigy`'s does.

    >>> opt = jo.dadapt_adamw(jo.cosine_decay_schedule(1.0, 1000))
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    >>> print(state.estim_lr)
    1e-06
    """
    b1, b2 = (check_hyper("dadapt_adamw", f"betas[{i}]", b, FRACTION) for i, b in enumerate(betas))

    def init(p: Array) -> Memory:
        return wide_like(p), wide_like(p, 0, nu_dtype), wide_like(p)

    def rule(g: Vector, x: Vector, m: Vector, v: Vector, s: Vector, d: Array, r: Array, h: Scalars) -> VectorStep:
        b = safe_sqrt(h.b2)
        a = d * h.learning_rate
        if bias_correction:
            a = a * safe_sqrt(h.gathered("b2")) / h.gathered("b1")
        weighted = s.map(ratio, v.map(safe_sqrt) + h.eps)
        r = b * r + (1 - b) * a * g.dot(weighted)
        m = h.b1 * m + ((1 - h.b1) * a) * g
        v = h.b2 * v + (1 - h.b2) * g.map(inner, g)
        s = b * s + ((1 - b) * a) * g
        d = jnp.maximum(d, ratio(r, (1 - b) * s.sum_abs()))
        u = -(m.map(ratio, v.map(safe_sqrt) + h.eps) + (h.weight_decay * a) * x.decaying)
        return u, m, v, s, d, r

    hypers = NONNEGATIVE.of(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay) | FRACTION.of(b1=b1, b2=b2)
    check_hyper("dadapt_adamw", "estim_lr0", estim_lr0, POSITIVE)
    scalars = {"estim_lr": first_value(estim_lr0), "numerator_weighted": 0.0}
    return treewise(
        "dadapt_adamw", DAdaptAdamWState, init=init, rule=rule, hypers=hypers, scalars=scalars,
        dtypes={"nu_dtype": nu_dtype}, debiased=("b1", "b2") if bias_correction else (),
        squares=("exp_avg_sq",), mask=mask,
    )  # fmt: skip


@recipe
def dadapt_sgd(learning_rate: Hyper = 1.0, momentum: Hyper = 0.0, estim_lr0: Hyper = 1e-6) -> GradientTransformation:
    """SGD times an estimate d of the distance to the solution.

    a   = d lr / |g_0|,   |g_0| of the first gradient
    r_t = r + a <g, s>;   s_t = s + a g
    d  <- max(d, 2 r_t / |s_t|)
    x  <- momentum x + (1 - momentum) (x_0 - s_t)

    Carried by the authors' dadaptation and pytorch_optimizer.

    learning_rate: a factor of the estimate, >= 0: leave it at 1, or let it be a schedule that falls from there.
    momentum: how much of x remains, in [0, 1); 0 in the paper, its authors' 0.9 for networks.
    estim_lr0: d_0 > 0, a guess that is no larger than the distance; the authors' 1e-6.

    State: s and x_0, 8 bytes a parameter, and three numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 4; the momentum is that of primal averaging.
    Not to be continued from other parameters than those of init: it remembers them. A penalty of the weights stands
        before it: chain(add_decayed_weights(1e-4), dadapt_sgd()).

    >>> opt = jo.dadapt_sgd(jo.cosine_decay_schedule(1.0, 1000), momentum=0.9)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p), wide_copy(p)

    def rule(g: Vector, x: Vector, s: Vector, x_0: Vector, d: Array, r: Array, first: Array, h: Scalars) -> VectorStep:
        first = jnp.where(first > 0, first, g.norm())
        a = ratio(d * h.learning_rate, first)
        r = r + a * g.dot(s)
        s = s + a * g
        d = jnp.maximum(d, ratio(2 * r, s.norm()))
        return (1 - h.momentum) * (x_0 - s - x), s, x_0, d, r, first

    hypers = {"learning_rate": (learning_rate, NONNEGATIVE), "momentum": (momentum, FRACTION)}
    check_hyper("dadapt_sgd", "estim_lr0", estim_lr0, POSITIVE)
    scalars = {"estim_lr": first_value(estim_lr0), "numerator_weighted": 0.0, "first_norm": 0.0}
    return treewise("dadapt_sgd", DAdaptSgdState, init=init, rule=rule, hypers=hypers, scalars=scalars)


@recipe
def dadapt_lion(
    learning_rate: Hyper = 1.0,
    b1: Hyper = 0.9,
    b2: Hyper = 0.99,
    estim_lr0: Hyper = 1e-6,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Lion times an estimate d of the distance to the solution.

    a   = d lr;   b = sqrt(b2)
    u   = sign(b1 m + (1 - b1) g);   x <- x - a (u + weight_decay x)
    m_t = b2 m + (1 - b2) a g
    r_t = b r + (1 - b) a <u, s>;   s_t = b s + (1 - b) a u
    d  <- max(d, r_t / ((1 - b) |s_t|_1))

    m is a mean of a g, as in the authors' code, and g itself counts by 1 - b1: while d is small u is nearly sign(g).
    Carried by the authors' dadaptation and pytorch_optimizer.

    learning_rate: a factor of the estimate, >= 0: leave it at 1, or let it be a schedule that falls from there.
    b1: weight of m in u, in [0, 1): the smaller, the more counts the new gradient; Lion's 0.9.
    b2: decay of m, in [0, 1): it remembers about 1 / (1 - b2) gradients; 0.99.
    estim_lr0: d_0 > 0, a guess that is no larger than the distance; the authors' 1e-6.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times a a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: m and s, 8 bytes a parameter, and two numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: the authors of Defazio & Mishchenko 2023, arXiv:2301.07733, in github.com/facebookresearch/dadaptation.
    Not for small batches, whose noise turns signs.

    >>> opt = jo.dadapt_lion(jo.cosine_decay_schedule(1.0, 1000), weight_decay=0.1)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p), wide_like(p)

    def rule(g: Vector, x: Vector, m: Vector, s: Vector, d: Array, r: Array, h: Scalars) -> VectorStep:
        b, a = safe_sqrt(h.b2), d * h.learning_rate
        u = (h.b1 * m + (1 - h.b1) * g).map(jnp.sign)
        m = h.b2 * m + ((1 - h.b2) * a) * g
        r = b * r + (1 - b) * a * u.dot(s)
        s = b * s + ((1 - b) * a) * u
        d = jnp.maximum(d, ratio(r, (1 - b) * s.sum_abs()))
        return -a * u - (a * h.weight_decay) * x.decaying, m, s, d, r

    hypers = NONNEGATIVE.of(learning_rate=learning_rate, weight_decay=weight_decay) | FRACTION.of(b1=b1, b2=b2)
    check_hyper("dadapt_lion", "estim_lr0", estim_lr0, POSITIVE)
    scalars = {"estim_lr": first_value(estim_lr0), "numerator_weighted": 0.0}
    return treewise("dadapt_lion", DAdaptLionState, init=init, rule=rule, hypers=hypers, scalars=scalars, mask=mask)
