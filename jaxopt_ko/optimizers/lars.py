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

    The two agree without weight decay. Norms are over a leaf, or over each of those it stacks (`stack_axes`); r = 1
    where one is 0, or where trust_ratio_mask is False, as it should be for biases. Needs params.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    weight_decay_mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
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
