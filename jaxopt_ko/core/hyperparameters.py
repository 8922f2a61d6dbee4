"""Hyperparameters at a step: numbers, arrays, schedules; what a schedule needs beside the state of a rule.

As long as every hyperparameter is a number or an array, the state of a rule is its own, optax's where optax has the
rule. A schedule is read at the rule's own count where it has one; else one state is put around it, `ScheduledState`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_ko import errors
from jaxopt_ko.core.checks import check_count, check_state_keys, wrong_state
from jaxopt_ko.core.numerics import gathered_weight, next_count, or_one, scalar_dtype, unfolded, value_at, zero_count
from jaxopt_ko.errors import Domain
from jaxopt_ko.types import EmptyState, Hyper, State


class ScheduledState(NamedTuple):
    """Around the state of a rule whose hyperparameters follow schedules that its own state has no place for."""

    count: jax.Array  # type: ignore[assignment]  # int32[]  steps taken, at which schedules are read
    gathered: dict[str, jax.Array]  # name of a scheduled decay -> float[]  1 - b_1 ... b_t, the weight of its means
    inner_state: State  # of the rule, as it is without schedules


class Scalars:
    """What all leaves share at one step: the hyperparameters and what follows from them, float[] each; and t, int32[],
    the number of the step, 1, 2, …"""

    def __init__(self, _ticks: StepHyperparameters | None = None, /, **values: Any) -> None:
        self.__dict__.update(values)
        self.__dict__["_ticks"] = _ticks

    def gathered(self, decay: str, skipped: int = 0) -> jax.Array:
        """float[]: the weight that a mean with this decay has gathered, 1 - b_1 ... b_t; 1 - b**t if it is constant.

        skipped: how many first steps left the mean as it was; these have no weight.
        """
        step_hyperparameters: StepHyperparameters = self.__dict__["_ticks"]
        if decay in step_hyperparameters.gathered:
            return or_one(step_hyperparameters.gathered[decay]) if skipped else step_hyperparameters.gathered[decay]
        counted = jnp.maximum(step_hyperparameters.t - skipped, 1) if skipped else step_hyperparameters.t
        return gathered_weight(self.__dict__[decay], counted)

    def gathered_next(self, decay: str) -> jax.Array:
        """float[]: the same one step later, 1 - b_1 ... b_{t+1}."""
        step_hyperparameters: StepHyperparameters = self.__dict__["_ticks"]
        if decay in step_hyperparameters.gathered:
            b = step_hyperparameters.ahead[decay]
            return b * step_hyperparameters.gathered[decay] + (1 - b)
        return gathered_weight(self.__dict__[decay], next_count(step_hyperparameters.t))

    def gathered_before(self, decay: str) -> jax.Array:
        """float[]: the same one step earlier, 1 - b_1 ... b_{t-1}; at t = 1, where nothing is gathered, not 0."""
        step_hyperparameters: StepHyperparameters = self.__dict__["_ticks"]
        if decay in step_hyperparameters.gathered:
            return or_one(step_hyperparameters.before[decay])
        before: jax.Array = jnp.maximum(step_hyperparameters.t - 1, 1)
        return gathered_weight(self.__dict__[decay], before)

    def values(self) -> dict[str, Any]:
        """All of them by name."""
        return {key: value for key, value in vars(self).items() if key != "_ticks"}

    def also(self, **more: Any) -> Scalars:
        """The same with more of them."""
        return Scalars(self.__dict__["_ticks"], **self.values(), **more)

    def __getattr__(self, name: str) -> jax.Array:
        if name == "t" and self.__dict__.get("_ticks") is not None:
            t: jax.Array = self.__dict__["_ticks"].t
            return t
        errors.say(AttributeError, "h", f"there is no hyperparameter {name!r}", do=f"It has {sorted(self.values())}")


def adam_corrections(t: jax.Array, h: Scalars) -> dict[str, jax.Array]:
    """What Adam's m_t and v_t, whose decays are h.b1 and h.b2, are divided by: c1 and c2, float[] each.

    t: int32[], the step, which each `corrections` is given; what h has gathered of the decays is for it already.
    """
    return {"c1": h.gathered("b1"), "c2": h.gathered("b2")}


class Reading(NamedTuple):
    """What a state and the schedules say before a step."""

    count: Any  # int32[]  steps before this one; None if nothing counts
    values: dict[str, jax.Array]  # float[] each  the hyperparameters
    decays: dict[str, jax.Array]  # float[] each   the scheduled ones of means to be debiased; 1 in skipped steps
    weights: dict[str, jax.Array]  # float[] each  of the same: 1 - b_1 ... b_{t-1}
    ahead: dict[str, jax.Array]  # float[] each    of the same: b_{t+1}


class StepHyperparameters(NamedTuple):
    """A step: its number, the hyperparameters at it, and what schedules have gathered with it."""

    t: Any  # int32[]  None if nothing counts
    values: dict[str, jax.Array]  # float[] each
    before: dict[str, jax.Array]  # float[] each    of the scheduled decays: 1 - b_1 ... b_{t-1}
    gathered: dict[str, jax.Array]  # float[] each  of the same: 1 - b_1 ... b_t
    ahead: dict[str, jax.Array]  # float[] each     of the same: b_{t+1}


def step_hyperparameters(reading: Reading) -> StepHyperparameters:
    """The step that a reading begins; what follows gets each value as an operand (`unfolded`)."""
    values, decays, ahead = unfolded((reading.values, reading.decays, reading.ahead))
    before = {name: weight.astype(decays[name].dtype) for name, weight in reading.weights.items()}
    gathered = {name: b * before[name] + (1 - b) for name, b in decays.items()}
    t = None if reading.count is None else next_count(reading.count)
    return StepHyperparameters(t, values, before, gathered, ahead)


@dataclasses.dataclass(frozen=True, eq=False)
class StateWithReader:
    """A state and the reader of hyperparameters that began it: `init` makes it where it is asked what is where."""

    state: State
    reader: HyperparameterReader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.state, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.state)


jax.tree_util.register_dataclass(StateWithReader, data_fields=["state"], meta_fields=["reader"])
_showing_readers: ContextVar[bool] = ContextVar("showing_readers", default=False)


@contextlib.contextmanager
def readers_shown() -> Iterator[None]:
    """Within it, states are made with their readers around them, as `StateWithReader`."""
    token = _showing_readers.set(True)
    try:
        yield
    finally:
        _showing_readers.reset(token)


class HyperparameterReader:
    """When the hyperparameters of a rule are read, and what that takes in its state."""

    def __init__(
        self,
        name: str,
        hypers: Mapping[str, Hyper],
        own: str | None = None,
        debiased: Iterable[str] = (),
        skipped: int = 0,
        counts: bool = False,
        alone: type | None = None,
    ) -> None:
        """name: the rule. hypers: name -> value, checked.
        own: the field of the rule's own state that counts its steps, None if none does.
        debiased: those hypers that are decays of means which are divided by the weight that they have gathered.
        skipped: how many first steps leave those means as they are.
        counts: does the rule need the number of the step, whatever its state has?
        alone: the class of a state with a count alone, where a schedule is all that there is to keep.
        """
        self.name, self.hypers, self.own, self.alone, self.skipped = name, dict(hypers), own, alone, skipped
        self.gathers = tuple(argument for argument in debiased if callable(hypers.get(argument)))
        scheduled = any(callable(hyper) for hyper in hypers.values())
        self.wraps = bool(self.gathers) or (own is None and (counts or scheduled))

    def start(self, inner: State) -> State:
        """The state before the first step."""
        state = self._started(inner)
        return StateWithReader(state, self) if _showing_readers.get() else state

    def _started(self, inner: State) -> State:
        if not self.wraps:
            return inner
        if self.alone is not None:
            return self.alone(zero_count())
        return ScheduledState(zero_count(), {name: jnp.zeros((), scalar_dtype()) for name in self.gathers}, inner)

    def open(self, state: State) -> tuple[Any, State]:
        """What is around the rule's own state, None if nothing is, and that state."""
        if not self.wraps:
            return None, state
        if self.alone is not None:
            return as_state(self.name, state, self.alone), EmptyState()
        outer = as_state(self.name, state, ScheduledState)
        check_state_keys(self.name, outer.gathered, self.gathers)
        return outer, outer.inner_state

    def counted(self, state: State) -> Any:
        """The steps that a state has counted, int32[]; None if nothing counts."""
        outer, inner = self.open(state)
        return self._count(outer, inner)

    def _count(self, outer: Any, inner: State) -> Any:
        return outer.count if outer is not None else getattr(inner, self.own) if self.own else None

    def read(self, outer: Any, inner: State) -> Reading:
        """What the step needs of an opened state."""
        count = self._count(outer, inner)
        if count is not None:
            check_count(self.name, count)
        values = {name: value_at(hyper, count, self.name, name) for name, hyper in self.hypers.items()}
        if not self.gathers:
            return Reading(count, values, {}, {}, {})
        next_, decays = next_count(count), {name: values[name] for name in self.gathers}
        if self.skipped:
            decays = {name: jnp.where(next_ <= self.skipped, jnp.ones_like(b), b) for name, b in decays.items()}
        ahead = {name: value_at(self.hypers[name], next_, self.name, name) for name in self.gathers}
        return Reading(count, values, decays, {name: outer.gathered[name] for name in self.gathers}, ahead)

    def close(self, outer: Any, step: StepHyperparameters, inner: State) -> State:
        """The state after the step."""
        if outer is None:
            return inner
        if self.alone is not None:
            return self.alone(step.t)
        kept = {name: weight.astype(outer.gathered[name].dtype) for name, weight in step.gathered.items()}
        return ScheduledState(step.t, kept, inner)


def _again(about: tuple[Any, ...], hypers: tuple[Any, ...]) -> HyperparameterReader:
    reader = object.__new__(HyperparameterReader)
    reader.name, reader.own, reader.gathers, reader.skipped, reader.wraps, reader.alone = about
    (reader.hypers,) = hypers
    return reader


jax.tree_util.register_pytree_node(
    HyperparameterReader,
    lambda r: ((r.hypers,), (r.name, r.own, r.gathers, r.skipped, r.wraps, r.alone)),
    _again,
)


def without_schedules(state: State) -> Any:
    """A rule's own state, without what schedules need around it."""
    return state.inner_state if isinstance(state, ScheduledState) else state


def checked(name: str, hypers: Mapping[str, tuple[Hyper, Domain]] | None) -> dict[str, Hyper]:
    """Hyperparameters given with their domains, checked."""
    return {argument: errors.check_hyper(name, argument, *spec) for argument, spec in (hypers or {}).items()}


def as_state(name: str, state: Any, expected: type) -> Any:
    """A state as people have it, in the class that the rule makes.

    A rule without memory takes None, (), {} and any class without fields. Else: the class itself, another of the same
    name and fields (optax's), or a dict of these fields, as orbax restores one; a Python number among the fields is
    the array that init makes of one. Raises StateError for anything else.
    """
    made = _in_class(name, state, expected)
    if any(isinstance(value, int | float) for value in made):
        made = expected(*(_as_array(value) for value in made))
    return made


def _as_array(value: Any) -> Any:
    """A count, a truth value or a scalar, written by hand, as `init` would make it."""
    if not isinstance(value, int | float):
        return value
    kinds: tuple[tuple[type, Any], ...] = ((bool, bool), (int, jnp.int32), (float, scalar_dtype()))
    return jnp.asarray(value, next(kind for python, kind in kinds if isinstance(value, python)))


def _in_class(name: str, state: Any, expected: type) -> Any:
    if type(state) is expected:
        return state
    fields: Sequence[str] = expected._fields  # type: ignore[attr-defined]
    if isinstance(state, Mapping):
        if set(state) == set(fields):
            return expected(**state)
    elif state is None:
        if not fields:
            return expected()
    elif isinstance(state, tuple | list) and not fields and not state:
        return expected()
    elif getattr(state, "_fields", None) == fields and type(state).__name__ == expected.__name__:
        return expected(*state)
    return wrong_state(name, state, expected)


def as_made(expected: Any, given: Any) -> Any:
    """What a file gave, with the containers that init makes: dicts and lists become NamedTuples and tuples again."""
    if isinstance(expected, tuple | list):
        names = getattr(expected, "_fields", range(len(expected)))
        if isinstance(given, Mapping) and len(given) == len(expected):
            given = [given.get(name, given.get(str(name))) for name in names]
        if not expected or not isinstance(given, tuple | list) or len(given) != len(expected):
            return expected if not expected and not given else given
        parts = [as_made(e, g) for e, g in zip(expected, given, strict=True)]
        return type(expected)(*parts) if hasattr(expected, "_fields") else type(expected)(parts)
    if isinstance(expected, dict) and isinstance(given, Mapping):
        by_name = {str(key): value for key, value in given.items()}
        if set(by_name) == set(map(str, expected)):
            return {key: as_made(value, by_name[str(key)]) for key, value in expected.items()}
    return given
