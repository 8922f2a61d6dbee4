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

    learning_rate: the first size of all steps, > 0: a number or an array; of a schedule its value at 0.
    eta_minus: factor of a size whose gradient turns, in [0, 1); the paper's 0.5.
    eta_plus: factor of a size whose gradient keeps its sign, > 0; the paper's 1.2.
    min_step_size: the least size, >= 0; the paper's 1e-6.
    max_step_size: the largest size, > 0; the paper's 50.

    State: d and u, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for complex leaves.
    Source: Igel & Huesken 2003, Neurocomputing 50 (iRprop-), after Riedmiller & Braun 1993.
    Not for mini-batches: their noise turns signs.

    >>> opt = jo.chain(jo.scale_by_rprop(1e-2), jo.scale(-1.0))
    >>> state = opt.init({"w": jnp.ones((2, 3))})
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
    """The step -u of `scale_by_rprop`: sizes of steps that each element finds for itself.

    d_t = clip(1.2 d) if the gradient keeps its sign;  clip(0.5 d), and no step, if it turns
    p  <- p - d_t sign(g);   d_0 = learning_rate

    learning_rate: the first size of all steps, > 0: a number or an array; of a schedule its value at 0.
    eta_minus: factor of a size whose gradient turns, in [0, 1); the paper's 0.5.
    eta_plus: factor of a size whose gradient keeps its sign, > 0; the paper's 1.2.
    min_step_size: the least size, >= 0; the paper's 1e-6.
    max_step_size: the largest size, > 0; the paper's 50.

    State: d and u, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for complex leaves.
    Source: Igel & Huesken 2003, Neurocomputing 50 (iRprop-), after Riedmiller & Braun 1993.
    Not for mini-batches: their noise turns signs.

    >>> opt = jo.rprop(0.1)
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = opt.update({"w": jnp.array([3.0, -400.0])}, opt.init(params))
    >>> print(updates["w"])
    [-0.1  0.1]
    """
    return chain(scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), scale(-1.0))
