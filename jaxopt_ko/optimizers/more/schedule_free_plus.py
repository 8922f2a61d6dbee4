"""ScheduleFree+: AdamC without a schedule and without a learning rate. arXiv:2605.19095; its authors' reference code,
github.com/facebookresearch/schedule_free, adamc_schedulefree_plus_paper.py.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.evaluation import keeps_average
from jaxopt_ko.core.leafwise import Memory
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, or_one, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.tree import wide_copy, wide_like
from jaxopt_ko.core.treewise import Vector, VectorStep, treewise
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, OPEN_FRACTION, check_steps
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, Updates


def _x(own: ScheduleFreePlusState, y: Array, z: Array) -> Array:
    b = own.momentum.astype(y.dtype)
    x: Array = z + (y - z) / jnp.where(b > 0, b, 1)  # before the first step y, z and x are one
    return x


@quantizable(signed=("mu",), nonnegative=("nu",), divisor="nu")
@keeps_average("z", _x, "count")
class ScheduleFreePlusState(NamedTuple):
    """State of `schedule_free_plus`."""

    count: Array  # int32[]         t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g
    nu: Updates  # like params, f32+  v_t, mean of g**2
    z: Params  # like params, f32+  z_t, where AdamC is; the parameters are y
    momentum: Array  # float[]      b_t, to find x from y and z; 0 before the first step
    gradient_l1: Array  # float[]   mean of |g|_1, not corrected
    weight_sum: Array  # float[]    sum of the weights w
    max_lr: Array  # float[]        the largest a lr so far


@recipe
def schedule_free_plus(
    learning_rate: Hyper = 1.0,
    b1: Hyper = 0.9,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    momentum: Hyper = 0.9,
    final_momentum: Hyper = 0.965,
    anneal_steps: int = 0,
    average_from: int = 0,
    weight_power: Hyper = 0.0,
    weight_lr_power: Hyper = 2.0,
    l1_decay: Hyper = 0.0,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """AdamC at z, gradients at y between z and the average x, steps as long as the loss over the gradient says.

    a   = max(0, f + b_t <g, z - x>) / (sqrt(pi / 2) mean |g|_1),   r = a lr;   0 without a gradient
    z_t = z - r m_hat / (sqrt(v_hat) + eps) - r**2 weight_decay y    m_hat and v_hat as in `adam`
    x_t = (1 - c) x + c z_t;   c = w_t / (w_1 + … + w_t), w = t**weight_power (largest r)**weight_lr_power
    y_t = b_t x_t + (1 - b_t) z_t                                    the parameters;  x = z + (y - z) / b_t

    c = 1 in the first average_from steps. b_t goes from momentum to final_momentum, evenly in log(1 - b), in
    anneal_steps steps. Update is given value=, the loss f at y; evaluate at x: `eval_params`. Carried by Facebook's
    schedule_free.

    learning_rate: a factor of the steps, >= 0: leave it at 1, but for a warm-up.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0, times r**2: 20 to 50 where AdamW's is 0.1.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    momentum: b_1, the weight of x in y, in (0, 1).
    final_momentum: b at the end of anneal_steps, in (0, 1).
    anneal_steps: an integer >= 0; 0: b_t is momentum at every step.
    average_from: how many first steps the average forgets, an integer >= 0; once or twice the warm-up.
    weight_power: weight of late steps in the average, >= 0; 2 for long runs.
    weight_lr_power: >= 0: with 2 steps of a warm-up count little in the average.
    l1_decay: decay of the mean of |g|_1, in [0, 1); 0: that of the step itself.
    nu_dtype: of v, float32 at least by default.

    State: m, v and z, 12 bytes a parameter, and four numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params or value.
    Source: arXiv:2605.19095, as its authors' reference code computes it.
    Not for losses whose least value is not near 0: the step is as long as the loss.

    >>> opt, p = jo.schedule_free_plus(weight_decay=20.0), {"w": jnp.ones(3)}
    >>> updates, state = opt.update({"w": jnp.ones(3)}, opt.init(p), p, value=0.5)
    >>> averaged = jo.eval_params(state, jo.apply_updates(p, updates))
    """
    name = "schedule_free_plus"
    check_steps(name, "anneal_steps", anneal_steps, 0)
    check_steps(name, "average_from", average_from, 0)

    def init(p: Array) -> Memory:
        return wide_like(p), wide_like(p, 0, nu_dtype), wide_copy(p)

    def rule(g: Vector, y: Vector, m: Vector, v: Vector, z: Vector, *numbers: Any) -> VectorStep:
        old, l1, total, top, h = numbers
        t = h.t.astype(old.dtype)
        part = jnp.clip((t - 1) / max(anneal_steps, 1), 0, 1) if anneal_steps else jnp.zeros_like(t)
        b = -jnp.expm1((1 - part) * jnp.log1p(-h.momentum) + part * jnp.log1p(-h.final_momentum))
        behind = (y - z).map(lambda d: d / jnp.where(old > 0, old, 1).astype(d.real.dtype))  # x - z
        l1 = h.l1_decay * l1 + (1 - h.l1_decay) * g.sum_abs() * math.sqrt(math.pi / 2)
        size = l1 / h.gathered("l1_decay")
        a = jnp.where(size > 0, jnp.maximum(h.value - b * g.dot(behind), 0) / or_one(size), 0)
        rate = h.learning_rate * a
        top = jnp.maximum(top, rate)
        starting = h.t <= average_from
        w = jnp.where(starting | (top <= 0), 0, t**h.weight_power * or_one(top) ** h.weight_lr_power)
        total = total + w
        c = jnp.where(starting | (total == 0), 1, ratio(w, total))
        m = h.b1 * m + (1 - h.b1) * g
        v = h.b2 * v + (1 - h.b2) * g.map(inner, g)
        u = (m * (1 / h.gathered("b1"))).map(ratio, (v * (1 / h.gathered("b2"))).map(safe_sqrt) + h.eps)
        new = z - rate * u - (rate * rate * h.weight_decay) * y.decaying
        x = (1 - c) * (z + behind) + c * new
        return b * x + (1 - b) * new - y, m, v, new, b, l1, total, top

    hypers = (
        NONNEGATIVE.of(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)
        | NONNEGATIVE.of(weight_power=weight_power, weight_lr_power=weight_lr_power)
        | FRACTION.of(b1=b1, b2=b2, l1_decay=l1_decay)
        | OPEN_FRACTION.of(momentum=momentum, final_momentum=final_momentum)
    )
    scalars = dict.fromkeys(("momentum", "gradient_l1", "weight_sum", "max_lr"), 0.0)
    return treewise(
        name, ScheduleFreePlusState, init=init, rule=rule, hypers=hypers, scalars=scalars, value=True, mask=mask,
        dtypes={"nu_dtype": nu_dtype}, debiased=("b1", "b2", "l1_decay"), squares=("nu",),
    )  # fmt: skip
