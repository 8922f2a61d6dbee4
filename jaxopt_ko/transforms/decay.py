"""Weight decay. Decoupled after Loshchilov & Hutter 2019, arXiv:1711.05101, if put behind the rule; L2 before it.

Cautious: Chen et al. 2025, arXiv:2510.12402, Algorithm 1. Corrected for the schedule: Defazio 2025, arXiv:2506.02285.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.groups import masked
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.numerics import inner
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE, check_hyper, missing_argument
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, MaskOrFn


class WeightDecaySchedule(NamedTuple):
    """State of the rules here under a schedule; under a number they have none."""

    count: Array  # int32[]  steps taken, at which the schedule is read


def add_decayed_weights(weight_decay: Hyper = 0.0, mask: MaskOrFn | None = None) -> GradientTransformation:
    """u = g + weight_decay p; with a mask (see `masked`), only where it is True. Needs params, unless weight_decay is
    the number 0, the default: then u = g.

    Behind an adaptive rule and before its learning rate this is AdamW's decay; before the rule it is the L2
    penalty that torch.optim.Adam calls weight_decay. Biases and norms are usually masked out.
    """
    off = isinstance(weight_decay, int | float) and weight_decay == 0

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return g if off else g + h.weight_decay * p

    hypers = {"weight_decay": (weight_decay, NONNEGATIVE)}
    decay = leafwise(
        "add_decayed_weights", EmptyState, rule=rule, hypers=hypers, needs_params=not off, alone=WeightDecaySchedule
    )
    return decay if mask is None else masked(decay, mask)


def add_cautious_decayed_weights(weight_decay: Hyper = 0.0, mask: MaskOrFn | None = None) -> GradientTransformation:
    """u = g + weight_decay [g p >= 0] p: decay only where the step shortens the parameter anyway. Needs params.

    g is the direction, before its learning rate: put it where `add_decayed_weights` stands, with the same weight_decay.
    It keeps the minima of the loss where they are. Not for weights that must shrink where their gradient is 0.
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        agree = inner(jnp.sign(g), jnp.sign(p)) >= 0
        return g + h.weight_decay * jnp.where(agree, p, jnp.zeros_like(p))

    hypers = {"weight_decay": (weight_decay, NONNEGATIVE)}
    decay = leafwise(
        "add_cautious_decayed_weights", EmptyState, rule=rule, hypers=hypers, needs_params=True,
        alone=WeightDecaySchedule,
    )  # fmt: skip
    return decay if mask is None else masked(decay, mask)


def add_corrected_decayed_weights(
    weight_decay: Hyper,
    learning_rate: Hyper,
    max_learning_rate: Hyper | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """u = g + weight_decay (learning_rate / max_learning_rate) p, for layers whose scale a normalization undoes.

    learning_rate: the one that comes behind, so that p decays by weight_decay lr_t**2 / lr_max in all, and the ratio of
        gradient to weights that the layers settle at is one whatever the schedule.
    max_learning_rate: the schedule's largest value; None for a number, whose decay is that of `add_decayed_weights`.

    Needs params. Raises MissingArgumentError for a schedule or an array without it. Not for layers that no
    normalization follows: a head, embeddings, norms and biases.
    """
    name = "add_corrected_decayed_weights"
    rate = check_hyper(name, "learning_rate", learning_rate, NONNEGATIVE)
    constant = max_learning_rate is None
    if constant and not isinstance(rate, int | float):
        missing_argument(name, "max_learning_rate", "It is the largest value of the schedule")

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"decay": h.weight_decay * (1 if constant else h.learning_rate / h.max_learning_rate)}

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return g + h.decay * p

    hypers = {"weight_decay": (weight_decay, NONNEGATIVE), "learning_rate": (rate, NONNEGATIVE)}
    if max_learning_rate is not None:
        hypers["max_learning_rate"] = (max_learning_rate, POSITIVE)
    decay = leafwise(
        name, EmptyState, rule=rule, shared=shared, hypers=hypers, needs_params=True, alone=WeightDecaySchedule
    )
    return decay if mask is None else masked(decay, mask)
