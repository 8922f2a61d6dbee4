"""Hyperparameters that live in the state, where they can be read and set."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core.checks import check_state_keys
from jaxopt_ko.core.hyperparameters import as_state
from jaxopt_ko.core.method import Method, filter_kwargs, make_transformation, method_of, name_of, pytree_class
from jaxopt_ko.core.numerics import next_count, scalar_dtype, value_at, zero_count
from jaxopt_ko.core.signature import current_words
from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, TransformationError, describe, say
from jaxopt_ko.types import DType, GradientTransformation, Params, State, Updates

# ---- states as trees of parameters ----------------------------------------------------------------------


# ---- hyperparameters in the state -----------------------------------------------------------------------


class InjectStatefulHyperparamsState(NamedTuple):
    """State of `inject_hyperparams`."""

    count: jax.Array  # type: ignore[assignment]  # int32[]  steps taken
    hyperparams: dict[str, jax.Array]  # name -> float[], read, and free to be set, between steps
    hyperparams_states: dict[str, Any]  # name -> state of its schedule, a WrappedScheduleState of a plain one
    inner_state: State  # of what the factory makes


class InjectHyperparamsState(NamedTuple):
    """What optax's `inject_hyperparams` had before 0.1.9; for old checkpoints."""

    count: jax.Array  # type: ignore[assignment]  # int32[]  steps taken
    hyperparams: dict[str, jax.Array]  # name -> float[]
    inner_state: State  # of what the factory makes


@runtime_checkable
class StatefulSchedule(Protocol):
    """A schedule that keeps a state of its own and may read the extra arguments of update, a loss say."""

    def init(self) -> Any:
        """The state before the first step."""

    def update(self, state: Any, **extra_args: Any) -> Any:
        """The state after a step."""

    def __call__(self, state: Any, **extra_args: Any) -> Any:
        """The value at this step, a number."""


class WrappedScheduleState(NamedTuple):
    """State of a `WrappedSchedule`."""

    count: jax.Array  # type: ignore[assignment]  # int32[]  steps taken


@pytree_class("schedule_fn")
class WrappedSchedule:
    """A plain schedule as a `StatefulSchedule`."""

    def __init__(self, schedule_fn: Callable[[jax.Array], Any]) -> None:
        self.schedule_fn = schedule_fn

    def init(self) -> WrappedScheduleState:
        """At step 0."""
        return WrappedScheduleState(zero_count())

    def update(self, state: WrappedScheduleState, **_: Any) -> WrappedScheduleState:
        """One step on."""
        return WrappedScheduleState(next_count(as_state("WrappedSchedule", state, WrappedScheduleState).count))

    def __call__(self, state: WrappedScheduleState, **_: Any) -> Any:
        """The schedule's value."""
        return self.schedule_fn(as_state("WrappedSchedule", state, WrappedScheduleState).count)


def _kept_in(dtype: DType | None, name: str, value: Any) -> DType:
    """The dtype that a hyperparameter is kept in, if it is to be `dtype`."""
    if dtype is None or jnp.dtype(dtype).itemsize >= scalar_dtype().itemsize:
        return scalar_dtype() if dtype is None else dtype
    if callable(value) or isinstance(value, jax.core.Tracer):
        return scalar_dtype() if re.fullmatch(r"b\d?|beta\d?|decay|rho|\w*momentum|\w+_beta\d?", name) else dtype
    if np.ndim(value):
        return dtype
    here, there = float(value), float(np.asarray(value, jnp.dtype(dtype)))
    return scalar_dtype() if there in (0.0, 1.0) and here != there else dtype


def inject_hyperparams(
    inner_factory: Callable[..., GradientTransformation],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: DType | None = None,
) -> Callable[..., GradientTransformation]:
    """A factory whose numeric arguments are kept in the state, where they can be read and set between steps.

    h_t = state.hyperparams[…], or its schedule at the count;   u = the step of inner_factory(h_t)

    inner_factory: a function that makes a transformation, such as adam.
    static_args: a name or several: arguments that go to the factory as they are. For our own factories only parameters
        that take a Hyper are kept, so that it is seldom needed; for foreign ones every number and array is.
    hyperparam_dtype: of all of them; None: float32 at least. What would be 1 or 0 in it and is not stays in float32,
        as bfloat16 has nothing between 0.996 and 1. So does a decay whose value is not known, scheduled or traced.

    Returns a factory with the signature of inner_factory. Numbers and arrays are kept, schedules read at each step, a
    `StatefulSchedule` with the extra arguments of update. State: a count and 4 bytes a hyperparameter, beside the state
    of what the factory makes.

    Raises HyperparameterError for a static argument that the factory does not have, TransformationError if it is no
    function; the new factory raises what the inner one does. Source: optax's inject_hyperparams. Not needed to schedule
    or trace a hyperparameter, which every method here does by itself: use it to see or change one from outside a
    compiled step.

    >>> tx = jo.inject_hyperparams(jo.adam)(1e-3)
    >>> state = tx.init(jnp.ones(2))
    >>> state.hyperparams["learning_rate"] = jnp.asarray(1e-4)
    """
    _check_factory("inject_hyperparams", inner_factory)
    _check_words("inject_hyperparams", "static_args", static_args)
    errors.check_dtype("inject_hyperparams", "hyperparam_dtype", hyperparam_dtype)
    signature = inspect.signature(inner_factory)
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    name = f"inject_hyperparams({getattr(inner_factory, '__name__', 'factory')})"
    _check_subset(name, "static_args", static, signature.parameters)
    ours = [p.name for p in signature.parameters.values() if "Hyper" in str(p.annotation)]

    @functools.wraps(inner_factory)
    def factory(*args: Any, **kwargs: Any) -> GradientTransformation:
        bound = signature.bind(*args, **current_words(inner_factory, args, kwargs))
        bound.apply_defaults()
        hypers = {
            key: value
            for key, value in _arguments(bound).items()
            if key not in static and (not ours or key in ours) and _is_hyper(value)
        }
        dtypes = {key: _kept_in(hyperparam_dtype, key, value) for key, value in hypers.items()}
        return _injected(name, inner_factory, bound, hypers, dtypes)

    return factory


def _arguments(bound: inspect.BoundArguments) -> dict[str, Any]:
    """All of them by name, those of **kwargs too."""
    arguments = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(parameter.name, {})
    return arguments


def _is_hyper(value: Any) -> bool:
    """A number, an array of numbers or a schedule."""
    if isinstance(value, bool | str) or value is None:
        return False
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return False  # a PRNG key is no number
    return callable(value) or isinstance(value, int | float | np.ndarray | np.number | jax.Array)


def _injected(
    name: str, inner_factory: Callable[..., GradientTransformation], bound: inspect.BoundArguments,
    hypers: Mapping[str, Any], dtypes: Mapping[str, DType],
) -> GradientTransformation:  # fmt: skip
    """What the factory makes of the arguments, `hypers` of which are in the state, each in its dtype."""
    signature, given = bound.signature, dict(bound.arguments)
    schedules = {
        key: value if isinstance(value, StatefulSchedule) else WrappedSchedule(value)
        for key, value in hypers.items()
        if callable(value)
    }

    def inner(hyperparams: Mapping[str, Any]) -> GradientTransformation:
        named = {key: value for key, value in hyperparams.items() if key in given}
        again = inspect.BoundArguments(signature, {**given, **named})
        rest = {key: value for key, value in hyperparams.items() if key not in given}
        return inner_factory(*again.args, **{**again.kwargs, **rest})

    # Bad values are refused now, not when traced.
    made = inner({key: lambda _, s=value: s(s.init()) for key, value in schedules.items()})

    def now(states: Mapping[str, Any], **extra: Any) -> dict[str, jax.Array]:
        """The values of all schedules."""
        values = {}
        for key, schedule in schedules.items():
            with jax.numpy_dtype_promotion("standard"):  # a schedule is free to mix its step with floats
                value = filter_kwargs(schedule, 1)(states[key], **extra)
            errors.check_schedule_value(name, key, value)
            values[key] = jnp.asarray(value).astype(dtypes[key])
        return values

    def init(params: Params, **problem: Any) -> InjectStatefulHyperparamsState:
        count, states = zero_count(), {key: schedule.init() for key, schedule in schedules.items()}
        plain = {key: value for key, value in hypers.items() if not callable(value)}
        values = {key: value_at(value, count, name, key).astype(dtypes[key]) for key, value in plain.items()}
        values |= now(states)
        values = {key: values[key] for key in hypers}
        state = filter_kwargs(inner(values).init, 1)(params, **problem)
        return InjectStatefulHyperparamsState(count, values, states, state)

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        state = as_state(name, state, InjectStatefulHyperparamsState)
        check_state_keys(name, state.hyperparams, tuple(hypers))
        values = {key: jnp.asarray(value, dtypes[key]) for key, value in state.hyperparams.items()}
        values |= now(state.hyperparams_states, **extra)
        states = {
            key: filter_kwargs(schedule.update, 1)(state.hyperparams_states[key], **extra)
            for key, schedule in schedules.items()
        }
        updates, new = filter_kwargs(inner(values).update, 3)(updates, state.inner_state, params, **extra)
        return updates, InjectStatefulHyperparamsState(next_count(state.count), values, states, new)

    method = Method(f"inject_hyperparams({name_of(made)})", lands=method_of(made).lands)
    return make_transformation(method, init, update)


def _check_factory(name: str, factory: Any) -> None:
    """Something to be called for a transformation."""
    if not callable(factory):
        say(TransformationError, name, "inner_factory must be a function that makes a transformation",
            describe(factory), "Pass the function: inject_hyperparams(adam)(1e-3)")  # fmt: skip


def _check_subset(name: str, argument: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Names that must be among those known."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        say(HyperparameterError, name, f"{argument} must be parameters of the factory", f"{unknown}",
            f"It has {', '.join(known)}")  # fmt: skip


def _check_words(name: str, argument: str, value: Any) -> None:
    """One string or several."""
    if not isinstance(value, str) and not (isinstance(value, Iterable) and all(isinstance(x, str) for x in value)):
        say(HyperparameterTypeError, name, f"{argument} must be a name or several names", describe(value),
            "Give strings: the names of arguments")  # fmt: skip


def inject_stateful_hyperparams(
    inner_factory: Callable[..., GradientTransformation],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: DType | None = None,
) -> Callable[..., GradientTransformation]:
    """Deprecated name of `inject_hyperparams`, which takes stateful schedules as well.

    inner_factory: a function that makes a transformation, such as adam.
    static_args: a name or several: arguments that go to the factory as they are.
    hyperparam_dtype: of all hyperparameters in the state; None: float32 at least.

    Returns what `inject_hyperparams` returns, and raises what it raises, with a DeprecationWarning. Source: optax's
    inject_stateful_hyperparams. Not for new programs.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     tx = jo.inject_stateful_hyperparams(jo.sgd)(0.1)
    """
    errors.deprecated("inject_stateful_hyperparams", "inject_hyperparams", "0.1.0", errors.WITH_OPTAX)
    return inject_hyperparams(inner_factory, static_args, hyperparam_dtype)
