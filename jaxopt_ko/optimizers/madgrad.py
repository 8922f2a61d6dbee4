"""MADGRAD. Defazio & Jelassi 2021, arXiv:2101.11075, Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_cbrt
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_copy, wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, Updates


class MadgradState(NamedTuple):
    """State of `scale_by_madgrad`."""

    count: Array  # int32[]                    t, steps taken
    grad_sum_sq: Updates  # like params, f32+  v_t, weighted sum of g**2
    s: Updates  # like params, f32+            s_t, weighted sum of g
    x0: Params  # like params, f32+            the parameters at the start


@options
def scale_by_madgrad(
    learning_rate: Hyper,
    momentum: Hyper = 0.9,
    eps: Hyper = 1e-6,
    *,
    eps_in_rate: bool = True,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Dual averaging: from the start by the sum of all gradients, over the cube root of the sum of their squares.

    a_t = lr sqrt(t)          eps_in_rate: (lr + eps) sqrt(t), as in optax and the authors' code; the paper has no eps
    s_t = s + a_t g;          v_t = v + a_t g**2
    z   = x_0 - s_t / (cbrt(v_t) + eps)
    u   = (1 - momentum) (z - p)

    u is the whole step, learning rate and sign included.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    momentum: how far p stays from z, in [0, 1): p is a mean of the z of about 1 / (1 - momentum) steps; the paper's
        0.9.
    eps: added to the cube root, >= 0; the paper's 1e-6.
    eps_in_rate: add eps to the learning rate, too.
    nu_dtype: of v, float32 at least by default.

    State: v, s and x_0, 12 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Defazio & Jelassi 2021, arXiv:2101.11075, Algorithm 1.
    Not to be continued from other parameters than those of init: it remembers them as x_0.

    >>> rule = jo.scale_by_madgrad(1e-2)
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, nu_dtype), wide_like(p), wide_copy(p)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        rate = h.learning_rate + h.eps if eps_in_rate else h.learning_rate
        return {"a": rate * jnp.sqrt(t.astype(rate.dtype))}

    def rule(g: Array, p: Array, v: Array, s: Array, x_0: Array, h: Scalars) -> Step:
        a_g = h.a * g
        v = v + inner(a_g, g)
        s = s + a_g
        z = x_0 - ratio(s, safe_cbrt(v) + h.eps)
        return (1 - h.momentum) * (z - p), v, s, x_0

    hypers = {
        "learning_rate": (learning_rate, NONNEGATIVE),
        "momentum": (momentum, FRACTION),
        "eps": (eps, NONNEGATIVE),
    }
    return leafwise(
        "scale_by_madgrad",
        MadgradState,
        init=init,
        shared=shared,
        rule=rule,
        hypers=hypers,
        dtypes={"nu_dtype": nu_dtype},
        needs_params=True,
        squares=("grad_sum_sq",),
    )


@recipe
def madgrad(
    learning_rate: Hyper,
    momentum: Hyper = 0.9,
    weight_decay: Hyper = 0.0,
    eps: Hyper = 1e-6,
    *,
    eps_in_rate: bool = True,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step of `scale_by_madgrad`, with a weight decay that is added to the gradient (L2).

    z  = x_0 - s_t / (cbrt(v_t) + eps),   s_t and v_t the sums of a_t g and a_t g**2, a_t = lr sqrt(t)
    p <- p + (1 - momentum) (z - p)

    Generalizes like SGD with momentum; wants less weight decay than that, often none, and a learning rate of its own.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    momentum: how far p stays from z, in [0, 1): p is a mean of the z of about 1 / (1 - momentum) steps; the paper's
        0.9.
    weight_decay: >= 0: an L2 penalty, this times the parameters is added to the gradient.
    eps: added to the cube root, >= 0; the paper's 1e-6.
    eps_in_rate: add eps to the learning rate, too, as optax and the authors' code do.
    nu_dtype: of v, float32 at least by default.

    State: v, s and x_0, 12 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Defazio & Jelassi 2021, arXiv:2101.11075, Algorithm 1.
    Not to be continued from other parameters than those of init: it remembers them.

    >>> opt = jo.madgrad(1e-2)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_madgrad(learning_rate, momentum, eps, eps_in_rate=eps_in_rate, nu_dtype=nu_dtype)
    return chain(add_decayed_weights(weight_decay), rule)
