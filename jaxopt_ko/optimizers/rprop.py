"""Rprop, in the form called iRprop-. Igel & Huesken 2003, Neurocomputing 50, after Riedmiller & Braun 1993."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import value_at, zero_count
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE, check_hyper
from jaxopt_ko.transforms.scaling import scale
from jaxopt_ko.types import GradientTransformation, Hyper, Updates


class ScaleByRpropState(NamedTuple):
    """State of `scale_by_rprop`."""

    step_sizes: Updates  # like params, f32+    d_t, the step's size
    prev_updates: Updates  # like params, f32+  u_t, the last step, 0 where the gradient had turned


def scale_by_rprop(
    learning_rate: Hyper,
    eta_minus: Hyper = 0.5,
    eta_plus: Hyper = 1.2,
    min_step_size: Hyper = 1e-6,
    max_step_size: Hyper = 50.0,
) -> GradientTransformation:
    """Steps whose size, element by element, grows while the gradient keeps its sign and shrinks when that turns.

    d_t = clip(d eta_plus)  if g u > 0;  clip(d eta_minus) if g u < 0;  d else;  within the two bounds
    u_t = 0 if g u < 0 else d_t sign(g);  d_0 = learning_rate

    As in torch.optim.Rprop; optax 0.2.8 emits the step before this one.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    """
    start = check_hyper("scale_by_rprop", "learning_rate", learning_rate, POSITIVE)

    def init(p: Array) -> Memory:
        return wide_like(p, value_at(start, zero_count())), wide_like(p)

    def rule(g: Array, p: Array, d: Array, u: Array, h: Scalars) -> Step:
        kept = g * jnp.sign(u)
        factor = jnp.where(kept > 0, h.eta_plus, h.eta_minus)
        d = jnp.where(kept == 0, d, jnp.clip(d * factor, h.min_step_size, h.max_step_size))
        u = jnp.where(kept < 0, 0, d * jnp.sign(g))
        return u, d, u

    hypers = {
        "eta_minus": (eta_minus, FRACTION),
        "eta_plus": (eta_plus, POSITIVE),
        "min_step_size": (min_step_size, NONNEGATIVE),
        "max_step_size": (max_step_size, POSITIVE),
    }
    return leafwise("scale_by_rprop", ScaleByRpropState, init=init, rule=rule, hypers=hypers, real=True)


@recipe
def rprop(
    learning_rate: Hyper,
    eta_minus: Hyper = 0.5,
    eta_plus: Hyper = 1.2,
    min_step_size: Hyper = 1e-6,
    max_step_size: Hyper = 50.0,
) -> GradientTransformation:
    """The step -u of `scale_by_rprop`; learning_rate is its first size. For full batches only: noise turns signs.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    """
    return chain(scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), scale(-1.0))
