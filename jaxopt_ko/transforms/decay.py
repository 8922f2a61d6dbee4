"""Weight decay. Decoupled after Loshchilov & Hutter 2019, arXiv:1711.05101, if put behind the rule; L2 before it.

Cautious: Chen et al. 2025, arXiv:2510.12402, Algorithm 1. Corrected for the schedule: Defazio 2025, arXiv:2506.02285.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.groups import labels_of_mask, masked, partition
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.numerics import inner
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE, check_hyper, missing_argument
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, MaskOrFn


class WeightDecaySchedule(NamedTuple):
    """State of the rules here under a schedule; under a number they have none."""

    count: Array  # int32[]  steps taken, at which the schedule is read


def add_decayed_weights(weight_decay: Hyper = 0.0, mask: MaskOrFn | None = None) -> GradientTransformation:
    """Weight decay, added to what passes.

    u = g + weight_decay p, where the mask is True; g elsewhere

    weight_decay: lambda >= 0, a number, an array or a schedule; at 0, the default as in optax, u = g and params are not
        needed.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params (see `masked`); None: all.
        Biases and norms are usually left out.

    No state; under a schedule a count. Behind an adaptive rule and before its learning rate this is AdamW's decay;
    before the rule it is the L2 penalty that torch.optim.Adam calls weight_decay.

    Raises HyperparameterError, when made, for a negative number; MissingArgumentError, when traced, without params.
    Source: Loshchilov & Hutter 2019, arXiv:1711.05101. Not behind the learning rate: there it would not fall with it,
    and its sign would be wrong.

    >>> tx = jo.chain(jo.scale_by_adam(), jo.add_decayed_weights(0.1), jo.scale_by_learning_rate(1e-3))
    >>> state = tx.init(jnp.ones(2))
    """
    off = isinstance(weight_decay, int | float) and weight_decay == 0

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return g if off else g + h.weight_decay * p

    hypers = {"weight_decay": (weight_decay, NONNEGATIVE)}
    decay = leafwise(
        "add_decayed_weights", EmptyState, rule=rule, hypers=hypers, needs_params=not off, alone=WeightDecaySchedule
    )
    return decay if mask is None else masked(decay, mask)


def independent_weight_decay(
    weight_decay: Hyper, mask: MaskOrFn | None = None, *, schedule: Hyper = 1.0
) -> GradientTransformation:
    """Weight decay that the learning rate does not multiply; behind a whole optimizer.

    u = step - schedule weight_decay p, where the mask is True; step elsewhere

    weight_decay: lambda >= 0, a number, an array or a schedule: the share of p that goes at a step where `schedule` is
        1; 1e-4 is what AdamW does with lambda = 0.1 at the rate 1e-3. At 0 params are not needed.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params (see `masked`); None: all.
    schedule: a factor >= 0, best the learning rate over its largest value: the best lambda then is one whatever that
        value is. 1: the decay does not fall at the end.

    No state; under a schedule a count. Needs params where weight_decay is not 0. Any recipe takes it, one with a decay
    of its own, which is then left at 0, too.

    Raises HyperparameterError, when made, for a negative number; MissingArgumentError, when traced, without params.
    Source: Wortsman et al. 2023, arXiv:2309.14322, who call it so; Loshchilov & Hutter 2019, arXiv:1711.05101,
    Algorithm 2. Not before the learning rate: `add_decayed_weights` stands there.

    >>> shape = jo.cosine_decay_schedule(1.0, 1000)
    >>> tx = jo.chain(jo.adam(lambda t: 1e-3 * shape(t)), jo.independent_weight_decay(1e-4, schedule=shape))
    >>> state = tx.init(jnp.ones(2))
    """
    off = isinstance(weight_decay, int | float) and weight_decay == 0

    def rule(u: Array, p: Array, h: Scalars) -> Array:
        return u if off else u - h.schedule * h.weight_decay * p

    hypers = {"weight_decay": (weight_decay, NONNEGATIVE), "schedule": (schedule, NONNEGATIVE)}
    decay = leafwise(
        "independent_weight_decay", EmptyState, rule=rule, hypers=hypers, needs_params=not off,
        alone=WeightDecaySchedule,
    )  # fmt: skip
    return decay if mask is None else masked(decay, mask)


def decay_if_any(weight_decay: Hyper | None, mask: MaskOrFn | None) -> tuple[GradientTransformation, ...]:
    """`add_decayed_weights`, for recipes whose state has no place for it where nothing decays.

    weight_decay: lambda >= 0; None: there is none.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    Returns a tuple of one, or of none.
    """
    return () if weight_decay is None else (add_decayed_weights(weight_decay, mask),)


def decaying_by_mask(
    rule: Callable[..., GradientTransformation], weight_decay: Hyper, mask: MaskOrFn | None
) -> GradientTransformation:
    """rule(weight_decay=…), whose decay is not only added: where a mask is given, in two groups, one of which has none.

    rule: makes a direction of its weight_decay.
    weight_decay: lambda >= 0, for leaves where the mask is True; 0 elsewhere.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    Returns a GradientTransformation; with a mask its state is that of a `partition`.
    """
    whole = rule(weight_decay=weight_decay)
    if mask is None:
        return whole
    return partition(
        {"decayed": whole, "kept": rule(weight_decay=0.0)},
        labels_of_mask("partition", mask, {True: "decayed", False: "kept"}),
    )


def add_cautious_decayed_weights(weight_decay: Hyper = 0.0, mask: MaskOrFn | None = None) -> GradientTransformation:
    """Weight decay only where the step shortens the parameter anyway.

    u = g + weight_decay [g p >= 0] p, element by element

    weight_decay: lambda >= 0, a number, an array or a schedule, the same as for `add_decayed_weights`; 0 by default.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    No state; under a schedule a count. Needs params where weight_decay is not 0. g is the direction, before its
    learning rate: put it where `add_decayed_weights` stands. It keeps the minima of the loss where they are.

    Raises HyperparameterError, when made, for a negative number; MissingArgumentError, when traced, without params.
    Source: Chen et al. 2025, arXiv:2510.12402, Algorithm 1. Not for weights that must shrink whatever their gradient
    is: it stops wherever the step points away from 0.

    >>> tx = jo.chain(jo.scale_by_adam(), jo.add_cautious_decayed_weights(0.1), jo.scale_by_learning_rate(1e-3))
    >>> state = tx.init(jnp.ones(2))
    """
    off = isinstance(weight_decay, int | float) and weight_decay == 0

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        if off:
            return g
        agree = inner(jnp.sign(g), jnp.sign(p)) >= 0
        return g + h.weight_decay * jnp.where(agree, p, jnp.zeros_like(p))

    hypers = {"weight_decay": (weight_decay, NONNEGATIVE)}
    decay = leafwise(
        "add_cautious_decayed_weights", EmptyState, rule=rule, hypers=hypers, needs_params=not off,
        alone=WeightDecaySchedule,
    )  # fmt: skip
    return decay if mask is None else masked(decay, mask)


def add_corrected_decayed_weights(
    weight_decay: Hyper,
    learning_rate: Hyper,
    max_learning_rate: Hyper | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Weight decay that follows the schedule of the learning rate, for layers whose scale a normalization undoes.

    u = g + weight_decay (learning_rate / max_learning_rate) p

    weight_decay: lambda >= 0, a number, an array or a schedule: the decay where the learning rate is largest; at 0
        params are not needed.
    learning_rate: the one that comes behind, >= 0, so that p decays by weight_decay lr_t**2 / lr_max in all, and the
        ratio of gradient to weights that the layers settle at is one whatever the schedule.
    max_learning_rate: the schedule's largest value, > 0; None for a number, whose decay is that of
        `add_decayed_weights`.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    No state; under a schedule a count. Needs params where weight_decay is not 0. Raises MissingArgumentError, when
    made, for a schedule or an array without max_learning_rate, and, when traced, without params; HyperparameterError
    for numbers outside their domain.
    Source: Defazio 2025, arXiv:2506.02285. Not for layers that no normalization follows: a head, embeddings, norms,
    biases.

    >>> rate = jo.schedules.cosine_decay_schedule(1e-3, 100)
    >>> decay = jo.add_corrected_decayed_weights(0.1, rate, 1e-3)
    >>> tx = jo.chain(jo.scale_by_adam(), decay, jo.scale_by_learning_rate(rate))
    >>> state = tx.init(jnp.ones(2))
    """
    name = "add_corrected_decayed_weights"
    rate = check_hyper(name, "learning_rate", learning_rate, NONNEGATIVE)
    constant = max_learning_rate is None
    if constant and not isinstance(rate, int | float):
        missing_argument(name, "max_learning_rate", "It is the largest value of the schedule")

    off = isinstance(weight_decay, int | float) and weight_decay == 0

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"decay": h.weight_decay * (1 if constant else h.learning_rate / h.max_learning_rate)}

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return g if off else g + h.decay * p

    hypers = {"weight_decay": (weight_decay, NONNEGATIVE), "learning_rate": (rate, NONNEGATIVE)}
    if max_learning_rate is not None:
        hypers["max_learning_rate"] = (max_learning_rate, POSITIVE)
    decay = leafwise(
        name, EmptyState, rule=rule, shared=shared, hypers=hypers, needs_params=not off, alone=WeightDecaySchedule
    )
    return decay if mask is None else masked(decay, mask)
