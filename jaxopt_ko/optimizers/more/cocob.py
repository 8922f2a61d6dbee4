"""COCOB: continuous coin betting. Orabona & Tommasi 2017, arXiv:1705.07795, Algorithm 2 (backprop version)."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import first_value, ratio
from jaxopt_ko.core.tree import wide_copy, wide_like
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import GradientTransformation, Hyper, MaskOrFn, Params, Updates


class COCOBState(NamedTuple):
    """State of `scale_by_cocob`."""

    init_particles: Params  # like params, f32+         w_1, the parameters at the start
    cumulative_gradients: Updates  # like params, f32+  theta_t, sum of -g
    scale: Updates  # like params, f32+                 L_t, largest |g|
    subgradients: Updates  # like params, f32+          G_t, sum of |g|
    reward: Updates  # like params, f32+                R_t, what the bets have won, 0 at least


def scale_by_cocob(alpha: Hyper = 100.0, eps: Hyper = 1e-8) -> GradientTransformation:
    """Each weight bets on the sign of its next gradient, with what it has won so far; no learning rate.

    L_t = max(L, |g|);   G_t = G + |g|;   R_t = max(R - g (w - w_1), 0);   theta_t = theta - g
    u   = w_1 + theta_t (L_t + R_t) / (L_t max(G_t + L_t, alpha L_t)) - w

    u is the whole step, sign included.

    alpha: how many times a weight's gradients are taken for as large as the largest so far, > 0: the first steps' size
        is 1 / alpha; the paper's 100.
    eps: L at the start, >= 0.

    State: w_1, theta, L, G and R, 20 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; TreeError, when traced, for complex leaves.
    Source: Orabona & Tommasi 2017, arXiv:1705.07795, Algorithm 2 (backprop version).
    Not to be continued from other parameters than those of init: it remembers them as w_1.

    >>> rule = jo.scale_by_cocob()
    >>> params = {"w": jnp.zeros(2)}
    >>> updates, state = rule.update({"w": jnp.array([3.0, -4.0])}, rule.init(params), params)
    >>> print((100 * updates["w"]).round())
    [-1.  1.]
    """

    def init(p: Array) -> Memory:
        return wide_copy(p), wide_like(p), wide_like(p, first_value(eps)), wide_like(p), wide_like(p)

    def rule(g: Array, w: Array, w_1: Array, theta: Array, L: Array, G: Array, R: Array, h: Scalars) -> Step:
        L = jnp.maximum(L, jnp.abs(g))
        G = G + jnp.abs(g)
        R = jnp.maximum(R - g * (w - w_1), 0)
        theta = theta - g
        bet = ratio(theta, L) * ratio(L + R, jnp.maximum(G + L, h.alpha * L))
        return w_1 + bet - w, w_1, theta, L, G, R

    hypers = {"alpha": (alpha, POSITIVE), "eps": (eps, NONNEGATIVE)}
    return leafwise("scale_by_cocob", COCOBState, init=init, rule=rule, hypers=hypers, needs_params=True, real=True)


@recipe
def cocob(
    learning_rate: Hyper = 1.0,
    alpha: Hyper = 100.0,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """The step of `scale_by_cocob` on gradients times learning_rate, weight decay added to them: none to tune.

    w_t = w_1 + theta_t (L_t + R_t) / (L_t max(G_t + L_t, alpha L_t)),   theta_t = -sum of g

    With a constant learning rate it is the same for each, but for eps.

    learning_rate: a factor of the gradients, not of the steps: a number, an array or a schedule, >= 0.
    alpha: how many times a weight's gradients are taken for as large as the largest so far, > 0: the first steps' size
        is 1 / alpha; the paper's 100.
    eps: the largest gradient at the start, >= 0.
    weight_decay: >= 0: an L2 penalty, this times the parameters is added to the gradient.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: five arrays, 20 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; TreeError, when traced, for complex leaves.
    Source: Orabona & Tommasi 2017, arXiv:1705.07795, Algorithm 2 (backprop version).
    Not to be continued from other parameters than those of init: it remembers them.

    >>> opt = jo.cocob(weight_decay=1e-4)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    return chain(
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_cocob(alpha, eps),
    )
