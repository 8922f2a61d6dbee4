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
    """u = step_size g, of any sign."""

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return h.step_size * g

    return leafwise(
        "scale", EmptyState, rule=rule, hypers={"step_size": (step_size, FINITE)}, alone=ScaleByScheduleState
    )


def scale_by_schedule(step_size_fn: Hyper) -> GradientTransformation:
    """u_t = step_size_fn(t - 1) g_t for t = 1, 2, …; of any sign. A number stands for the constant schedule.

    Raises HyperparameterError for what is neither a function of the step nor one finite number.
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return h.step_size_fn * g

    hypers = {"step_size_fn": (step_size_fn, FINITE)}
    return leafwise("scale_by_schedule", EmptyState, rule=rule, hypers=hypers, counts=True, alone=ScaleByScheduleState)


@options
def scale_by_learning_rate(learning_rate: Hyper, *, flip_sign: bool = True) -> GradientTransformation:
    """u = -learning_rate g, descent; with flip_sign=False u = learning_rate g, ascent.

    Raises HyperparameterError for a rate that is None, negative, infinite, NaN or more than one number.
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return -h.learning_rate * g if flip_sign else h.learning_rate * g

    hypers = {"learning_rate": (learning_rate, NONNEGATIVE)}
    return leafwise("scale_by_learning_rate", EmptyState, rule=rule, hypers=hypers, alone=ScaleByScheduleState)


@options
def scale_by_group(
    factors: Mapping[Hashable, Hyper], param_labels: PyTree | Callable[[Params], PyTree]
) -> GradientTransformation:
    """u = factors[label of the leaf] g: a learning rate per group, put behind any optimizer.

    chain(adam(1e-3), scale_by_group({"head": 10.0, "body": 1.0}, labels)). Each factor is a number, an array or a
    schedule. For another method per group use `partition`. Raises what `partition` raises.
    """
    return partition({label: scale(factor) for label, factor in factors.items()}, param_labels)


def set_to_zero() -> GradientTransformation:
    """u = 0: freezes the leaves of its group in `partition`, integer ones too, and keeps no memory of them."""

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        as_state("set_to_zero", state, EmptyState)
        return jax.tree.map(_zero, updates), state

    return make_transformation("set_to_zero", lambda params: EmptyState(), update)


def _zero(g: Any) -> Any:
    """A constant has no place on a mesh, and what it is added to would lose its own."""
    return placement.placed_as(jnp.zeros_like(g), g)
