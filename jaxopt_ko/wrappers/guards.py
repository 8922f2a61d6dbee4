"""Steps that are made only if a condition holds, by lax.cond: a step that is not made costs nothing."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.conditional import as_steps, no_steps, run_if
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.method import method_of, name_of, with_record
from jaxopt_ko.core.numerics import next_count, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.types import GradientTransformation, Params, State, Updates
from jaxopt_ko.wrappers.checks import check_flag, check_period


class ApplyIfFiniteState(NamedTuple):
    """State of `apply_if_finite`."""

    notfinite_count: Array  # int32[]  gradients left out in a row up to now
    last_finite: Array  # bool[]       was the last gradient finite?
    total_notfinite: Array  # int32[]  gradients that were not finite, in all
    inner_state: State  # of the inner transformation


class ConditionallyTransformState(NamedTuple):
    """State of `conditionally_transform`."""

    inner_state: State  # of the inner transformation
    step: Array  # int32[]  calls so far


class ConditionallyMaskState(NamedTuple):
    """State of `conditionally_mask`."""

    step: Array  # int32[]  calls so far
    inner_state: State  # of the inner transformation


class ConditionFn(Protocol):
    """Says whether the inner transformation runs at this step, from 0."""

    def __call__(self, step: Array, **extra_args: Any) -> Array:
        """bool[]."""


@options
def apply_if_finite(inner: GradientTransformation, max_consecutive_errors: int | Array) -> GradientTransformation:
    """`inner` for finite gradients; for others the step is zero and the state stays as it was.

    After max_consecutive_errors of them in a row it gives up: the next one is let through, so that the trouble is
    seen, and counting begins anew. Raises what the inner transformation raises.
    """
    most = check_period("apply_if_finite", "max_consecutive_errors", max_consecutive_errors, least=0)
    pair = as_transformation("apply_if_finite", "inner", inner, lands=True)
    lands = method_of(pair).lands

    def init(params: Params, **problem: Any) -> ApplyIfFiniteState:
        return ApplyIfFiniteState(zero_count(), jnp.ones((), bool), zero_count(), pair.init(params, **problem))

    def update(
        updates: Updates, state: ApplyIfFiniteState, params: Params = None, **extra: Any
    ) -> tuple[Updates, ApplyIfFiniteState]:
        finite = jnp.ones((), bool)
        for g in jax.tree.leaves(tree.floating_only(updates)):
            finite &= jnp.all(jnp.isfinite(g))
        given_up = ~finite & (state.notfinite_count >= most)
        none = no_steps(updates, params, lands)
        steps, new = run_if(finite | given_up, pair, updates, state.inner_state, params, extra, none)
        left_out = jnp.where(finite | given_up, zero_count(), next_count(state.notfinite_count))
        total = jnp.where(finite, state.total_notfinite, next_count(state.total_notfinite))
        return steps, ApplyIfFiniteState(left_out, finite, total, new)

    made = transform(f"apply_if_finite({name_of(pair)})", init, update, state_type=ApplyIfFiniteState, any_leaf=True)
    return with_record(made, lands=lands)


@options
def conditionally_transform(
    inner: GradientTransformation, should_transform_fn: ConditionFn, forward_extra_args: bool = False
) -> GradientTransformation:
    """`inner` at the steps where should_transform_fn(step) holds; at the others the updates pass as they are.

    forward_extra_args: the condition gets the extra arguments of update, too.
    """
    name = "conditionally_transform"
    pair, holds = (
        as_transformation(name, "inner", inner, True),
        _condition(name, should_transform_fn, forward_extra_args),
    )
    lands = method_of(pair).lands

    def init(params: Params, **problem: Any) -> ConditionallyTransformState:
        return ConditionallyTransformState(pair.init(params, **problem), zero_count())

    def update(
        updates: Updates, state: ConditionallyTransformState, params: Params = None, **extra: Any
    ) -> tuple[Updates, ConditionallyTransformState]:
        unchanged = as_steps(updates, updates, params, lands)
        steps, new = run_if(holds(state.step, extra), pair, updates, state.inner_state, params, extra, unchanged)
        return steps, ConditionallyTransformState(new, next_count(state.step))

    made = transform(f"{name}({name_of(pair)})", init, update, state_type=ConditionallyTransformState, any_leaf=True)
    return with_record(made, lands=lands)


@options
def conditionally_mask(
    inner: GradientTransformation, should_transform_fn: ConditionFn, forward_extra_args: bool = False
) -> GradientTransformation:
    """`inner` at the steps where should_transform_fn(step) holds; at the others no step.

    forward_extra_args: the condition gets the extra arguments of update, too.
    """
    name = "conditionally_mask"
    pair, holds = (
        as_transformation(name, "inner", inner, True),
        _condition(name, should_transform_fn, forward_extra_args),
    )
    lands = method_of(pair).lands

    def init(params: Params, **problem: Any) -> ConditionallyMaskState:
        return ConditionallyMaskState(zero_count(), pair.init(params, **problem))

    def update(
        updates: Updates, state: ConditionallyMaskState, params: Params = None, **extra: Any
    ) -> tuple[Updates, ConditionallyMaskState]:
        none = no_steps(updates, params, lands)
        steps, new = run_if(holds(state.step, extra), pair, updates, state.inner_state, params, extra, none)
        return steps, ConditionallyMaskState(next_count(state.step), new)

    made = transform(f"{name}({name_of(pair)})", init, update, state_type=ConditionallyMaskState, any_leaf=True)
    return with_record(made, lands=lands)


def _condition(name: str, function: ConditionFn, forward: bool) -> Any:
    errors.check_function(name, "should_transform_fn", function)

    def holds(step: Array, extra: dict[str, Any]) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            flag = function(step, **(extra if forward else {}))
        check_flag(name, "what should_transform_fn returns", flag)
        return flag

    return holds
