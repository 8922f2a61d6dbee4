"""D-Adaptation for AdamW. Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 5."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import first_value, inner, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.core.treewise import Vector, VectorStep, treewise
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE, check_hyper
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Updates


@quantizable(signed=("exp_avg",), nonnegative=("exp_avg_sq",), divisor="exp_avg_sq")
class DAdaptAdamWState(NamedTuple):
    """State of `dadapt_adamw`."""

    exp_avg: Updates  # like params, f32+     m_t, mean of a g
    exp_avg_sq: Updates  # like params, f32+  v_t, mean of g**2
    grad_sum: Updates  # like params, f32+    s_t, mean of a g, slower
    estim_lr: Array  # float[]                d_t, a lower bound of the distance from the start to the solution
    numerator_weighted: Array  # float[]      r_t, mean of a <g, s / (sqrt(v) + eps)>
    count: Array  # int32[]                   t, steps taken


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
        u = -(m.map(ratio, v.map(safe_sqrt) + h.eps) + (h.weight_decay * a) * x)
        return u, m, v, s, d, r

    hypers = {
        "learning_rate": (learning_rate, NONNEGATIVE),
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "eps": (eps, NONNEGATIVE),
        "weight_decay": (weight_decay, NONNEGATIVE),
    }
    check_hyper("dadapt_adamw", "estim_lr0", estim_lr0, POSITIVE)
    scalars = {"estim_lr": first_value(estim_lr0), "numerator_weighted": 0.0}
    return treewise(
        "dadapt_adamw", DAdaptAdamWState, init=init, rule=rule, hypers=hypers, scalars=scalars,
        dtypes={"nu_dtype": nu_dtype}, debiased=("b1", "b2") if bias_correction else (),
        squares=("exp_avg_sq",),
    )  # fmt: skip
