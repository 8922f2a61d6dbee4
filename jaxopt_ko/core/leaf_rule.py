"""One leafwise rule: what `leafwise` was given, and what its state and its leaves share at a step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_leaves
from jaxopt_ko.core.hyperparameters import (
    HyperparameterReader,
    Reading,
    Scalars,
    StepHyperparameters,
    as_state,
    step_hyperparameters,
)
from jaxopt_ko.core.numerics import next_count, scalar_dtype, value_at, zero_count
from jaxopt_ko.core.shared_programs import KeyedFunction, shared_by_key
from jaxopt_ko.errors import TransformationError, describe, say
from jaxopt_ko.types import Params, PyTree, State, Updates

Memory = tuple[Any, ...]  # what one leaf remembers: an array, or a nest of them, for each field of the state
Constants = tuple[tuple[str, float | None], ...]  # (name, value) of each scalar, None for one that varies
Step = jax.Array | tuple[Any, ...]  # what a rule returns: the step, then the new memory if it has one


class LeafRule:
    """One leafwise rule: what `leafwise` was given."""

    def __init__(
        self,
        name: str,
        state_type: type,
        init: Callable[[Any], Memory],
        rule: Callable[..., Any],
        reader: HyperparameterReader,
        scalars: Mapping[str, float],
        shared: Callable[..., Mapping[str, jax.Array]] | None,
        reduce: Callable[..., Mapping[str, jax.Array]] | None,
        needs_params: bool,
        stack_axes: PyTree,
        beside: bool,
        squares: tuple[str, ...],
        real: bool,
    ) -> None:
        self.name, self.state_type, self.init, self.function, self.reader = name, state_type, init, rule, reader
        self.scalars, self.shared, self.reduce = dict(scalars), shared, reduce
        self.needs_params, self.stack_axes, self.beside, self.real = needs_params, stack_axes, beside, real
        self.squares = squares
        fields = [field for field in state_type._fields if field != reader.own]  # type: ignore[attr-defined]
        self.scalar_fields, self.fields = fields[: len(self.scalars)], fields[len(self.scalars) :]

    @functools.cached_property
    def keyed(self) -> KeyedFunction:
        """The rule for one leaf."""
        return KeyedFunction(self.function)

    @functools.cached_property
    def once_a_step(self) -> Callable[..., tuple[StepHyperparameters, dict[str, jax.Array]]] | None:
        """What `shared` makes of a step, compiled; None where the hyperparameters are all there is."""
        if self.shared is None and self.reduce is None:
            return None
        return _scalar_function(None if self.shared is None else KeyedFunction(self.shared))  # type: ignore[no-any-return]

    def init_state(self, params: Params) -> State:
        """The state before the first step."""
        params = tree.floating_only(params) if self.beside else params
        check_leaves(self.name, "params", params, self.real)
        leaves, treedef = tree.flatten(params)
        stacks = tree.stacks(self.name, self.stack_axes, params)
        memory = [self.memory(leaf, stack) for leaf, stack in zip(leaves, stacks, strict=True)]
        columns = [treedef.unflatten([m[i] for m in memory]) for i in range(self.width)]
        fields = dict(zip(self.scalar_fields, map(initial_scalar, self.scalars.values()), strict=True))
        fields |= {} if self.reader.own is None else {self.reader.own: zero_count()}
        return self.reader.start(self.state_type(**fields, **dict(zip(self.fields, columns, strict=True))))

    def memory(self, leaf: Any, stack: int) -> Memory:
        """What a leaf remembers, whose first `stack` axes count leaves of one shape."""
        init = self.init
        if stack and isinstance(leaf, jax.Array | np.ndarray):
            for _ in range(stack):
                init = jax.vmap(init)
            made = init(leaf)
        else:
            shape = np.shape(leaf)
            made = init(tree.abstract(shape[stack:], tree.dtype_of(leaf)) if stack else leaf)
            if stack:
                made = jax.tree.map(lambda m: jnp.broadcast_to(m, (*shape[:stack], *m.shape)), made)
        _check_memory(self.name, made, self.width)
        return made

    @property
    def width(self) -> int:
        """How many things each leaf remembers."""
        return len(self.fields)

    def open(self, state: State) -> tuple[Any, State, State]:
        """What is around the rule's own state, and that state: as it came, and in the class that the rule makes."""
        outer, given = self.reader.open(state)
        return outer, given, as_state(self.name, given, self.state_type)

    def begin(self, updates: Updates, outer: Any, given: State, inner: State, traced: bool) -> LeafRuleStep:
        """What all leaves share at this step."""
        reading = self.reader.read(outer, inner)
        old = {key: getattr(inner, field) for key, field in zip(self.scalars, self.scalar_fields, strict=True)}
        if self.once_a_step is None:
            t = None if reading.count is None else next_count(reading.count)
            step = StepHyperparameters(t, reading.values, {}, {}, {})
            shared = reading.values | map_values(widen_scalar, old)
        else:
            step, shared = self.once_a_step(reading, old)
            if self.reduce is not None:
                shared |= self.reduce(updates, Scalars(step, **shared))
        # A traced step has numbers as constants; steps one by one share a program over all values (`shared_programs`).
        constants = {k: float(v) for k, v in self.reader.hypers.items() if traced and isinstance(v, int | float)}
        exact = {key: x for key, x in shared.items() if not jnp.issubdtype(x.dtype, jnp.floating)}
        names = tuple((key, constants.get(key)) for key in shared if key not in exact)
        own = {} if self.reader.own is None else {self.reader.own: step.t}
        new = [shared[key].astype(value.dtype) for key, value in old.items()]
        own |= dict(zip(self.scalar_fields, new, strict=True))
        return LeafRuleStep(self, outer, given, inner, step, own, shared, names, exact)


def _check_memory(name: str, memory: Any, width: int) -> None:
    """What a leafwise init returns: a tuple with one array for each field of the state after the scalars."""
    if not isinstance(memory, tuple) or len(memory) != width:
        say(TransformationError, name, f"init(p) must return a tuple of {width} arrays, one per field of the state",
            describe(memory), "Return (array,) where there is one")  # fmt: skip


class LeafRuleStep(NamedTuple):
    """A rule at one step, before it has seen a leaf."""

    rule: LeafRule
    outer: Any  # around its own state, as it was
    given: State  # its own state, as it came
    inner: State  # the same, in the class that it makes
    step: StepHyperparameters
    own: dict[str, jax.Array]  # the new values of the state's scalars, by field
    shared: dict[str, jax.Array]  # what the leaves share
    names: Constants  # of what is float[] among it
    exact: dict[str, jax.Array]  # the rest: integers, truth values, PRNG keys

    def end(self, columns: Iterator[PyTree]) -> State:
        """The new state, with the next columns of what leaves remember."""
        rule = self.rule
        if not rule.state_type._fields:  # type: ignore[attr-defined]
            return rule.reader.close(self.outer, self.step, self.given)
        memory = {field: next(columns) for field in rule.fields}
        return rule.reader.close(self.outer, self.step, rule.state_type(**self.own, **memory))


def map_values(function: Callable[[Any], Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """function of each value, by the same names."""
    return {key: function(value) for key, value in values.items()}


def initial_scalar(value: float) -> jax.Array:
    """The first value of a scalar of the state: float[]; int32[] of an int, bool[] of a bool."""
    if isinstance(value, int):
        return jnp.asarray(value, bool if isinstance(value, bool) else jnp.int32)
    return value_at(value, zero_count())


def widen_scalar(value: jax.Array) -> jax.Array:
    """A scalar in scalar_dtype, unless it counts or is a truth value."""
    return value.astype(scalar_dtype()) if jnp.issubdtype(value.dtype, jnp.floating) else value


jax.tree_util.register_pytree_node(
    LeafRule,
    lambda q: (
        (q.init, q.function, q.reader, q.shared, q.reduce, q.stack_axes),
        (q.name, q.state_type, tuple(q.scalars.items()), q.needs_params, q.beside, q.squares, q.real),
    ),
    lambda about, parts: _rule_again(*about, *parts),
)


def _rule_again(
    name: str, state_type: type, scalars: tuple[tuple[str, float], ...], needs_params: bool, beside: bool,
    squares: tuple[str, ...], real: bool, init: Any, rule: Any, reader: HyperparameterReader, shared: Any, reduce: Any,
    stack_axes: PyTree,
) -> LeafRule:  # fmt: skip
    whole = (dict(scalars), shared, reduce, needs_params, stack_axes, beside, squares, real)
    return LeafRule(name, state_type, init, rule, reader, *whole)


@shared_by_key
def _scalar_function(follows: KeyedFunction | None) -> Callable[..., tuple[StepHyperparameters, dict[str, jax.Array]]]:
    """(reading, scalar state) -> (the step, all scalars of it), jitted: one equation for a group."""

    def scalars(reading: Reading, old: dict[str, jax.Array]) -> tuple[StepHyperparameters, dict[str, jax.Array]]:
        step = step_hyperparameters(reading)
        shared = {**step.values, **map_values(widen_scalar, old)}
        if follows is not None:
            shared |= follows.function(step.t, Scalars(step, **shared))
        return step, shared

    return jax.jit(scalars)
