"""LARS. You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.compose.groups import labels_of_mask, masked, partition
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import length, quotient
from jaxopt_ko.errors import NONNEGATIVE, UNIT, check_choice, check_hyper
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.momentum import trace
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.transforms.trust_ratio import scale_by_trust_ratio
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, MaskOrFn, PyTree

NORMS = ("joint", "separate")


@recipe
def lars(
    learning_rate: Hyper,
    weight_decay: Hyper = 0.0,
    weight_decay_mask: MaskOrFn = True,
    trust_coefficient: Hyper = 0.001,
    eps: Hyper = 0.0,
    trust_ratio_mask: MaskOrFn = True,
    momentum: Hyper = 0.9,
    nesterov: bool = False,
    *,
    norms: str = "joint",
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Momentum, with steps in each leaf as long as its parameters: for batches of thousands of images.

    d = g + weight_decay p
    r = trust_coefficient |p| / (|d| + eps)    with norms="separate", the paper's: / (|g| + weight_decay |p| + eps)
    v = momentum v - lr r d                    u = v, or Nesterov's -lr r d + momentum v

    The two agree without weight decay. Norms are over a leaf, or over each of those it stacks; r = 1 where one is 0.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    weight_decay: lambda >= 0: this times the parameters is added to the gradient.
    weight_decay_mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; True: all.
    trust_coefficient: the paper's eta, >= 0: the length of a step beside that of the parameters, at a rate of 1; its
        0.001.
    eps: added to the norm in the divisor, >= 0.
    trust_ratio_mask: which leaves have their r, as the former mask; False, r = 1, is for biases and norms.
    momentum: decay of v, in [0, 1]; the paper's 0.9.
    nesterov: take the step of v one step ahead.
    norms: "joint", of d, or "separate", of g and p.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: v, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; HyperparameterError also for other norms.
    Source: You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1.
    Not for small batches.

    >>> kernels = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
    >>> opt = jo.lars(1.0, 1e-4, weight_decay_mask=kernels, trust_ratio_mask=kernels)
    >>> state = opt.init({"w": jnp.ones((2, 3)), "b": jnp.zeros(3)})
    """
    check_choice("lars", "norms", norms, NORMS)
    check_hyper("lars", "momentum", momentum, UNIT)
    trust = scale_by_trust_ratio(0.0, trust_coefficient, eps, stack_axes=stack_axes)
    if norms == "separate":
        decayed = _separate_norms(trust_coefficient, eps, weight_decay, stack_axes)
        names = {True: "decayed", False: "plain"}
        trust = (
            decayed
            if weight_decay_mask is True
            else partition({"decayed": decayed, "plain": trust}, labels_of_mask("lars", weight_decay_mask, names))
        )
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        masked(trust, trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        trace(momentum, nesterov),
    )


def _separate_norms(
    trust_coefficient: Hyper, eps: Hyper, weight_decay: Hyper, stack_axes: PyTree
) -> GradientTransformation:
    """r d, from d."""

    def rule(d: Array, p: Array, h: Scalars) -> Array:
        p_norm, norms = length(p), length(d - h.weight_decay * p) + h.weight_decay * length(p)
        return jnp.where((p_norm == 0) | (norms == 0), d, h.trust_coefficient * p_norm * quotient(d, norms + h.eps))

    hypers = {
        "trust_coefficient": (trust_coefficient, NONNEGATIVE),
        "eps": (eps, NONNEGATIVE),
        "weight_decay": (weight_decay, NONNEGATIVE),
    }
    return leafwise("lars", EmptyState, rule=rule, hypers=hypers, needs_params=True, stack_axes=stack_axes)
