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
from jaxopt_ko.core.checks import check_period
from jaxopt_ko.core.method import method_of, name_of, with_record
from jaxopt_ko.core.numerics import next_count, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.types import GradientTransformation, Params, State, Updates
from jaxopt_ko.wrappers.checks import check_flag


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
    """A transformation that leaves out gradients with an infinity or NaN in them.

    u = the step of inner where all of g is finite;   else 0, and the state of inner stays as it was

    inner: the transformation, ours or optax's.
    max_consecutive_errors: after so many in a row it gives up: the next one is let through, so that the trouble is
        seen, and counting begins anew. An integer >= 0, or an int32[].

    State: 9 bytes beside that of inner: two counts and a truth value. A step that is left out costs nothing but the
    look.

    Raises HyperparameterError for a negative number, HyperparameterTypeError for no integer, TransformationError if
    inner is none; and what inner raises. Source: optax's apply_if_finite. Not for a loss that is scaled for float16,
    which is to be scaled anew as well: `loss_scaling`.

    >>> tx = jo.apply_if_finite(jo.adam(1e-3), max_consecutive_errors=5)
    >>> state = tx.init(jnp.ones(2))
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
    """A transformation at the steps where a condition holds; at the others the updates pass as they are.

    u = the step of inner where should_transform_fn(step) holds, else g

    inner: the transformation, ours or optax's.
    should_transform_fn: a function of the number of the call, int32[] from 0, to bool[].
    forward_extra_args: the condition gets the extra arguments of update, too; False, as it then must take them.

    State: a count beside that of inner, which stays as it is at other steps. Under jax.vmap both branches run.

    Raises TransformationError if inner is none, the condition no function, or, when traced, its result not one bool.
    Source: optax's conditionally_transform. Not around a whole optimizer, whose place the gradient itself would take:
    `conditionally_mask`.

    >>> tx = jo.chain(jo.conditionally_transform(jo.clip(1.0), lambda step: step < 100), jo.sgd(0.1))
    >>> state = tx.init(jnp.ones(2))
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
    """A transformation at the steps where a condition holds; at the others no step is made.

    u = the step of inner where should_transform_fn(step) holds, else 0

    inner: the transformation, ours or optax's.
    should_transform_fn: a function of the number of the call, int32[] from 0, to bool[].
    forward_extra_args: the condition gets the extra arguments of update, too; False, as it then must take them.

    State: a count beside that of inner, which stays as it is at other steps. Under jax.vmap both branches run.

    Raises TransformationError if inner is none, the condition no function, or, when traced, its result not one bool.
    Source: optax's conditionally_mask. Not where the gradients of steps left out are to count: `MultiSteps`.

    >>> tx = jo.conditionally_mask(jo.adam(1e-3), lambda step: step % 2 == 0)
    >>> state = tx.init(jnp.ones(2))
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
