"""Prodigy: Adam that estimates its own learning rate. Mishchenko & Defazio 2023, arXiv:2306.06101, Algorithm 4."""

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
class ProdigyState(NamedTuple):
    """State of `prodigy`."""

    exp_avg: Updates  # like params, f32+     m_t, mean of d g
    exp_avg_sq: Updates  # like params, f32+  v_t, mean of (d g)**2
    grad_sum: Updates  # like params, f32+    s_t, weighted sum of the gradients
    params0: Params  # like params, f32+      x_0, the parameters at the start
    estim_lr: Array  # float[]                d_t, a lower bound of the distance from x_0 to the solution
    numerator_weighted: Array  # float[]      r_t, weighted sum of <g, x_0 - x>
    count: Array  # int32[]                   t, steps taken


@recipe
def prodigy(
    learning_rate: Hyper = 1.0,
    betas: tuple[Hyper, Hyper] = (0.9, 0.999),
    beta3: Hyper | None = None,
    eps: Hyper = 1e-8,
    estim_lr0: Hyper = 1e-6,
    estim_lr_coef: Hyper = 1.0,
    weight_decay: Hyper = 0.0,
    safeguard_warmup: bool = False,
    *,
    bias_correction: bool = True,
    nu_dtype: DType | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Adam times an estimate d of the distance to the solution, which grows while the path goes straight.

    a   = d lr sqrt(1 - b2**t) / (1 - b1**t)         bias_correction=False: a = d lr
    m_t = b1 m + (1 - b1) d g;   v_t = b2 v + (1 - b2) d**2 g**2
    r_t = b3 r + d / d_0 a <g, x_0 - x>;   s_t = b3 s + d / d_0 a g      safeguard_warmup: d in s for a
    d  <- max(d, estim_lr_coef r_t / |s_t|_1)
    u   = -a (m_t / (sqrt(v_t) + d eps) + weight_decay x)

    learning_rate: a factor of the estimate, >= 0: leave it at 1, or let it be a schedule that falls from there.
    betas: (b1, b2), the decays of m and of v, in [0, 1); Adam's.
    beta3: b3, the decay of r and s, in [0, 1); None: sqrt(b2).
    eps: added, times d, to the root in the divisor, >= 0.
    estim_lr0: d_0 > 0, a guess that is no larger than the distance; the authors' 1e-6.
    estim_lr_coef: a factor of each estimate, > 0: above 1 for a bolder one.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times a a step.
    safeguard_warmup: leave the learning rate out of s, where a schedule begins with a warm-up.
    bias_correction: divide means by the weight that they have gathered, as all start at 0.
    nu_dtype: of v, float32 at least by default.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: m, v, s and x_0, 16 bytes a parameter, and two numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Mishchenko & Defazio 2023, arXiv:2306.06101, Algorithm 4.
    Not to be continued from other parameters than those of init: it remembers them.

    >>> opt = jo.prodigy(jo.cosine_decay_schedule(1.0, 1000), weight_decay=0.01)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    >>> print(state.estim_lr)
    1e-06
    """
    b1, b2 = (check_hyper("prodigy", f"betas[{i}]", b, FRACTION) for i, b in enumerate(betas))

    def init(p: Array) -> Memory:
        return wide_like(p), wide_like(p, 0, nu_dtype), wide_like(p), wide_copy(p)

    def rule(
        g: Vector, x: Vector, m: Vector, v: Vector, s: Vector, x_0: Vector, d: Array, r: Array, h: Scalars
    ) -> VectorStep:
        b3 = safe_sqrt(h.b2) if beta3 is None else h.beta3
        a = d * h.learning_rate
        if bias_correction:
            a = a * safe_sqrt(h.gathered("b2")) / h.gathered("b1")
        dg = d * g
        m = h.b1 * m + (1 - h.b1) * dg
        v = h.b2 * v + ((1 - h.b2) * dg).map(inner, dg)
        r = b3 * r + d / h.estim_lr0 * a * g.dot(x_0 - x)
        s = b3 * s + (d if safeguard_warmup else a) * dg / h.estim_lr0
        d = jnp.maximum(d, h.estim_lr_coef * ratio(r, s.sum_abs()))
        u = -(h.weight_decay * a) * x.decaying - (a * m).map(ratio, v.map(safe_sqrt) + d * h.eps)
        return u, m, v, s, x_0, d, r

    hypers = {
        "learning_rate": (learning_rate, NONNEGATIVE),
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "eps": (eps, NONNEGATIVE),
        "estim_lr0": (estim_lr0, POSITIVE),
        "estim_lr_coef": (estim_lr_coef, POSITIVE),
        "weight_decay": (weight_decay, NONNEGATIVE),
    }
    hypers |= {} if beta3 is None else {"beta3": (beta3, FRACTION)}
    scalars = {"estim_lr": first_value(estim_lr0), "numerator_weighted": 0.0}
    return treewise(
        "prodigy", ProdigyState, init=init, rule=rule, hypers=hypers, scalars=scalars,
        dtypes={"nu_dtype": nu_dtype}, debiased=("b1", "b2") if bias_correction else (),
        squares=("exp_avg_sq",), mask=mask,
    )  # fmt: skip
