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

    alpha: how many times a weight's gradients are taken for as large as the largest so far: the first steps' size.
    u is the whole step, sign included. Needs params. eps: L at the start.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
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
    """The step of `scale_by_cocob` on gradients times learning_rate, weight decay added to them (L2). Needs params.

    With a constant learning rate it is the same for each, but for eps. Not to be continued from other parameters than
    those of init.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    """
    return chain(
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_cocob(alpha, eps),
    )
