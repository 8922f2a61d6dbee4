"""MoMo: a learning rate from a model of the loss. Schaipp et al. 2023, arXiv:2305.07583, Algorithms 1, 2 and E."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import first_value, inner, quotient, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.core.treewise import Vector, VectorStep, treewise
from jaxopt_ko.errors import FINITE, FRACTION, NONNEGATIVE
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Updates


@quantizable(signed=("exp_avg",))
class MomoState(NamedTuple):
    """State of `momo`."""

    exp_avg: Updates  # like params, f32+  d_t, mean of g
    barf: Array  # float[]                 f_t, mean of the loss
    gamma: Array  # float[]                mean of <g, x>
    lb: Array  # float[]                   lower bound of the loss
    count: Array  # int32[]                t, steps taken


@quantizable(signed=("exp_avg",), nonnegative=("exp_avg_sq",), divisor="exp_avg_sq")
class MomoAdamState(NamedTuple):
    """State of `momo_adam`."""

    exp_avg: Updates  # like params, f32+     d_t, mean of g
    exp_avg_sq: Updates  # like params, f32+  v_t, mean of g**2
    barf: Array  # float[]                    f_t, mean of the loss
    gamma: Array  # float[]                   mean of <g, x>
    lb: Array  # float[]                      lower bound of the loss
    count: Array  # int32[]                   t, steps taken


@recipe
def momo(
    learning_rate: Hyper = 1.0,
    beta: Hyper = 0.9,
    lower_bound: Hyper = 0.0,
    weight_decay: Hyper = 0.0,
    adapt_lower_bound: bool = False,
) -> GradientTransformation:
    """Momentum whose step ends where the mean of the past losses, as planes, meets the lower bound.

    d_t = beta d + (1 - beta) g;   f_t, gamma_t: the same of the loss and of <g, x>; all start at their first value
    tau = min(lr, max((1 + lr wd)(f_t - lb - gamma_t) + <d_t, x>, 0) / |d_t|**2)
    u   = -tau d_t - lr wd / (1 + lr wd) x

    update takes the loss as `value`.

    learning_rate: the most that tau may be, >= 0, infinity excluded; the paper's 1.
    beta: decay of d, f and gamma, in [0, 1): they remember about 1 / (1 - beta) steps; the paper's 0.9.
    lower_bound: lb, a finite number that the loss never falls below; 0 is one for most losses.
    weight_decay: wd >= 0: parameters shrink by lr wd / (1 + lr wd) a step, whatever tau is.
    adapt_lower_bound: estimate lb, lower_bound at least (section 4).

    State: d, 4 bytes a parameter, and three numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; and without value.
    Source: Schaipp et al. 2023, arXiv:2305.07583, Algorithms 1 and E.
    Not where the least loss is far above any bound that is known.

    >>> loss = lambda p: jnp.sum(p["w"] ** 2)
    >>> opt, params = jo.momo(), {"w": jnp.array([4.0, 4.0])}
    >>> value, grads = jax.value_and_grad(loss)(params)
    >>> updates, state = opt.update(grads, opt.init(params), params, value=value)
    >>> print(updates["w"].round())
    [-2. -2.]
    """

    def init(p: Array) -> Memory:
        return (wide_like(p),)

    def rule(g: Vector, x: Vector, d: Vector, f: Array, gamma: Array, lb: Array, h: Scalars) -> VectorStep:
        b = jnp.where(h.t == 1, jnp.zeros_like(h.beta), h.beta)
        d = b * d + (1 - b) * g
        f = b * f + (1 - b) * h.value
        gamma = b * gamma + (1 - b) * g.dot(x)
        size = d.norm()
        far, lb = _step_length(h, lb, f, gamma, d.dot(x), size, jnp.ones_like(f), adapt_lower_bound)
        return _decayed(-far * _divided(d, size), x, h), d, f, gamma, lb

    hypers = {"learning_rate": (learning_rate, NONNEGATIVE), "beta": (beta, FRACTION)}
    hypers |= {"lower_bound": (lower_bound, FINITE), "weight_decay": (weight_decay, NONNEGATIVE)}
    scalars = {"barf": 0.0, "gamma": 0.0, "lb": first_value(lower_bound)}
    return treewise("momo", MomoState, init=init, rule=rule, hypers=hypers, scalars=scalars, value=True)


@recipe
def momo_adam(
    learning_rate: Hyper = 1e-2,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    lower_bound: Hyper = 0.0,
    weight_decay: Hyper = 0.0,
    adapt_lower_bound: bool = False,
    *,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """`momo` in Adam's metric D = sqrt(v_t / (1 - b2**t)) + eps.

    d_t = b1 d + (1 - b1) g;   f_t, gamma_t: the same of the loss and of <g, x>;   c = 1 - b1**t
    tau = min(lr / c, max((1 + lr wd)(f_t - c lb - gamma_t) + <d_t, x>, 0) / <d_t, d_t / D>)
    u   = -tau d_t / D - lr wd / (1 + lr wd) x

    update takes the loss as `value`.

    learning_rate: the most that tau c may be, >= 0; the paper's 1e-2.
    b1: decay of d, f and gamma, in [0, 1): they remember about 1 / (1 - b1) steps.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in D, >= 0: it bounds the step where gradients vanish.
    lower_bound: lb, a finite number that the loss never falls below; 0 is one for most losses.
    weight_decay: wd >= 0: parameters shrink by lr wd / (1 + lr wd) a step, whatever tau is.
    adapt_lower_bound: estimate lb, lower_bound at least (section 4).
    nu_dtype: of v, float32 at least by default.

    State: d and v, 8 bytes a parameter, and three numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; and without value.
    Source: Schaipp et al. 2023, arXiv:2305.07583, Algorithms 2 and E; b1, b2 and eps are Adam's.
    Not where the least loss is far above any bound that is known.

    >>> opt = jo.momo_adam(jo.warmup_constant_schedule(0.0, 1e-2, 100), lower_bound=0.5)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    >>> print(state.lb)
    0.5
    """

    def init(p: Array) -> Memory:
        return wide_like(p), wide_like(p, 0, nu_dtype)

    def rule(g: Vector, x: Vector, d: Vector, v: Vector, f: Array, gamma: Array, lb: Array, h: Scalars) -> VectorStep:
        c = h.gathered("b1")
        d = h.b1 * d + (1 - h.b1) * g
        v = h.b2 * v + (1 - h.b2) * g.map(inner, g)
        f = h.b1 * f + (1 - h.b1) * h.value
        gamma = h.b1 * gamma + (1 - h.b1) * g.dot(x)
        D = (v / h.gathered("b2")).map(safe_sqrt) + h.eps
        size = d.map(ratio, D.map(safe_sqrt)).norm()
        far, lb = _step_length(h, lb, f, gamma, d.dot(x), size, c, adapt_lower_bound)
        u = -far * _divided(d.map(ratio, D), size)
        return _decayed(u, x, h), d, v, f, gamma, lb

    hypers = {"learning_rate": (learning_rate, NONNEGATIVE), "b1": (b1, FRACTION), "b2": (b2, FRACTION)}
    hypers |= {"eps": (eps, NONNEGATIVE), "lower_bound": (lower_bound, FINITE)}
    hypers |= {"weight_decay": (weight_decay, NONNEGATIVE)}
    scalars = {"barf": 0.0, "gamma": 0.0, "lb": first_value(lower_bound)}
    return treewise(
        "momo_adam", MomoAdamState, init=init, rule=rule, hypers=hypers, scalars=scalars, value=True,
        dtypes={"nu_dtype": nu_dtype}, debiased=("b1", "b2"), squares=("exp_avg_sq",),
    )  # fmt: skip


def _step_length(
    h: Scalars, lb: Array, f: Array, gamma: Array, d_x: Array, size: Array, c: Array, adapt: bool
) -> tuple[Array, Array]:
    """tau |d|, of |d| = size, whose square may be no number; and the lower bound of the next step."""
    grown = 1 + h.learning_rate * h.weight_decay
    if adapt:
        cap = grown * (f - gamma) + d_x
        lb = jnp.where(cap < grown * c * lb, jnp.maximum(cap / (2 * c * grown), h.lower_bound), lb)
    gap = jnp.maximum(grown * (f - c * lb - gamma) + d_x, 0)
    far = jnp.minimum(h.learning_rate / c * size, quotient(gap, size))
    return far, jnp.maximum((f + d_x - gamma - far * size / 2) / c, h.lower_bound) if adapt else lb


def _divided(d: Vector, size: Array) -> Vector:
    return d.map(lambda x: quotient(x, size.astype(x.dtype)))


def _decayed(u: Vector, x: Vector, h: Scalars) -> Vector:
    rate = h.learning_rate * h.weight_decay
    return u - (rate / (1 + rate)) * x
