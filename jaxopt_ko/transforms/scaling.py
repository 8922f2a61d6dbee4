"""Steps from directions: times a number, minus a learning rate, a schedule, or a rate for each group."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.groups import partition
from jaxopt_ko.core import placement
from jaxopt_ko.core.hyperparameters import Scalars, as_state
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.method import make_transformation
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import FINITE, NONNEGATIVE
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, Params, PyTree, State, Updates


class ScaleByScheduleState(NamedTuple):
    """State of the rules here under a schedule; under a number they have none."""

    count: Array  # int32[]  steps taken, at which the schedule is read


def scale(step_size: Hyper) -> GradientTransformation:
    """Updates times a number.

    u = step_size g

    step_size: a finite number, an array or a schedule, of any sign.

    No state; under a schedule a count. Raises HyperparameterError, when made, for what is not finite. Source: optax's
    scale. Not for a learning rate: `scale_by_learning_rate` negates, and `learning_rate` finds it.

    >>> tx = jo.scale(-0.5)
    >>> tx.update(jnp.array([2.0, 4.0]), tx.init(jnp.ones(2)))[0].tolist()
    [-1.0, -2.0]
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return h.step_size * g

    return leafwise(
        "scale", EmptyState, rule=rule, hypers={"step_size": (step_size, FINITE)}, alone=ScaleByScheduleState
    )


def scale_by_schedule(step_size_fn: Hyper) -> GradientTransformation:
    """Updates times a schedule of the step.

    u_t = step_size_fn(t - 1) g_t for t = 1, 2, …

    step_size_fn: a function from the number of the step, int32[] from 0, to a finite number of any sign; a number
        stands for the constant schedule.

    State: a count. Raises HyperparameterError for what is neither a function of the step nor one finite number. Source:
    optax's scale_by_schedule. Not needed for a learning rate, which may be a schedule everywhere here.

    >>> tx = jo.scale_by_schedule(jo.schedules.linear_schedule(1.0, 0.0, 10))
    >>> int(tx.init(jnp.ones(2)).count)
    0
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return h.step_size_fn * g

    hypers = {"step_size_fn": (step_size_fn, FINITE)}
    return leafwise("scale_by_schedule", EmptyState, rule=rule, hypers=hypers, counts=True, alone=ScaleByScheduleState)


@options
def scale_by_learning_rate(learning_rate: Hyper, *, flip_sign: bool = True) -> GradientTransformation:
    """The step down a direction.

    u = -learning_rate g, descent; with flip_sign=False u = learning_rate g, ascent

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    flip_sign: True: go down, as gradients point uphill.

    No state; under a schedule a count. Raises HyperparameterError for a rate that is None, negative, infinite, NaN or
    more than one number. Source: optax's scale_by_learning_rate. Not twice in a chain: a whole optimizer (sgd, adam)
    has it already.

    >>> tx = jo.chain(jo.scale_by_adam(), jo.scale_by_learning_rate(1e-3))
    >>> state = tx.init(jnp.ones(2))
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return -h.learning_rate * g if flip_sign else h.learning_rate * g

    hypers = {"learning_rate": (learning_rate, NONNEGATIVE)}
    return leafwise("scale_by_learning_rate", EmptyState, rule=rule, hypers=hypers, alone=ScaleByScheduleState)


@options
def scale_by_group(
    factors: Mapping[Hashable, Hyper], param_labels: PyTree | Callable[[Params], PyTree]
) -> GradientTransformation:
    """A learning rate per group, put behind any optimizer.

    u = factors[label of the leaf] g

    factors: a dict, label -> finite number, array or schedule; a factor of the learning rate before it.
    param_labels: a tree of labels like the parameters, or a prefix of one, or a function that makes it, as of
        `partition`.

    State: that of `partition`; a count for each factor that is a schedule. Raises what `partition` and `scale` raise.
    Not for another method per group, nor before a rule that divides its input's size out again (adam): `partition`.

    >>> labels = jo.labels_by_path({"head": "head"}, "body")
    >>> tx = jo.chain(jo.adam(1e-3), jo.scale_by_group({"head": 10.0, "body": 1.0}, labels))
    >>> state = tx.init({"head": jnp.ones(2), "body": jnp.ones(2)})
    """
    return partition({label: scale(factor) for label, factor in factors.items()}, param_labels)


def set_to_zero() -> GradientTransformation:
    """Updates of zero: the leaves stay as they are.

    u = 0

    No state, no arguments: it freezes the leaves of its group in `partition`, integer ones too, and keeps no memory of
    them. Raises StateError, in update, for a state of another rule. Source: optax's set_to_zero. Not behind an
    optimizer to save memory: that keeps its state; give the leaves to this one by `partition`.

    >>> tx = jo.partition({"train": jo.adam(1e-3), "frozen": jo.set_to_zero()}, {"w": "train", "b": "frozen"})
    >>> state = tx.init({"w": jnp.ones(2), "b": jnp.ones(2)})
    """

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        as_state("set_to_zero", state, EmptyState)
        return jax.tree.map(_zero, updates), state

    return make_transformation("set_to_zero", lambda params: EmptyState(), update)


def _zero(g: Any) -> Any:
    """A constant has no place on a mesh, and what it is added to would lose its own."""
    return placement.placed_as(jnp.zeros_like(g), g)
