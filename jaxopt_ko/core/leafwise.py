"""From a rule for one array to a transformation.

Leafwise rules in a row become one jitted function per distinct leaf, so that a thousand leaves of one shape are traced
and lowered once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import (
    check_leaf,
    check_leaves,
    check_params,
    check_room,
    check_stack_axes,
    check_state_tuple,
    memory_mismatch,
    shape_mismatch,
    structure_mismatch,
)
from jaxopt_ko.core.hyperparameters import (
    HyperparameterReader,
    Reading,
    Scalars,
    StepHyperparameters,
    as_state,
    checked,
    step_hyperparameters,
)
from jaxopt_ko.core.method import Method, Update
from jaxopt_ko.core.numerics import (
    is_complex,
    mixing,
    narrowed,
    next_count,
    real_dtype,
    scalar_dtype,
    unfolded,
    value_at,
    zero_count,
)
from jaxopt_ko.core.shared_programs import KeyedFunction, shared_by_key
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import Domain, TransformationError, TreeError, describe, say
from jaxopt_ko.types import (
    DType,
    GradientTransformation,
    GradientTransformationExtraArgs,
    Hyper,
    Params,
    PyTree,
    State,
    Updates,
)

FEW = 16  # leaves whose kernels take each scalar as an operand of its own
Memory = tuple[Any, ...]  # what one leaf remembers: an array, or a nest of them, for each field of the state
Constants = tuple[tuple[str, float | None], ...]  # (name, value) of each scalar, None for one that varies
Step = jax.Array | tuple[Any, ...]  # what a rule returns: the step, then the new memory if it has one


class _LeafRule:
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

    def begin(self, updates: Updates, outer: Any, given: State, inner: State, traced: bool) -> _LeafRuleStep:
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
        # A compiled step has its constants as constants; steps one by one share a program over all values.
        constants = {k: float(v) for k, v in self.reader.hypers.items() if traced and isinstance(v, int | float)}
        names = tuple((key, constants.get(key)) for key in shared)
        own = {} if self.reader.own is None else {self.reader.own: step.t}
        new = [shared[key].astype(value.dtype) for key, value in old.items()]
        own |= dict(zip(self.scalar_fields, new, strict=True))
        return _LeafRuleStep(self, outer, given, inner, step, own, shared, names)


def _check_memory(name: str, memory: Any, width: int) -> None:
    """What a leafwise init returns: a tuple with one array for each field of the state after the scalars."""
    if not isinstance(memory, tuple) or len(memory) != width:
        say(TransformationError, name, f"init(p) must return a tuple of {width} arrays, one per field of the state",
            describe(memory), "Return (array,) where there is one")  # fmt: skip


class _LeafRuleStep(NamedTuple):
    """A rule at one step, before it has seen a leaf."""

    rule: _LeafRule
    outer: Any  # around its own state, as it was
    given: State  # its own state, as it came
    inner: State  # the same, in the class that it makes
    step: StepHyperparameters
    own: dict[str, jax.Array]  # the new values of the state's scalars, by field
    shared: dict[str, jax.Array]  # what the leaves share, float[] each
    names: Constants  # of these

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


class LeafUpdate(Update):
    """The update of leafwise rules in a row: one jitted call for each leaf.

    Its state is that of its one rule, or a tuple of its parts' states; parts nest as chains do.
    """

    def __init__(self, method: Method, parts: Sequence[LeafUpdate], rule: _LeafRule | None = None) -> None:
        self.method, self.parts, self.rule = method, tuple(parts), rule
        self.rules: tuple[_LeafRule, ...] = tuple(q for part in parts for q in part.rules)
        if rule is not None:
            self.rules = (rule,)
        self.beside = bool(self.rules) and all(q.beside for q in self.rules)
        self._expected: dict[Any, Any] = {}  # (rule, shape, stack) -> the shapes of what such a leaf remembers

    def with_record(self, method: Method) -> LeafUpdate:
        """The same rules with another record."""
        return LeafUpdate(method, self.parts, self.rule)

    @functools.cached_property
    def leaf(self) -> Callable[..., Any]:
        """All rules on one leaf, compiled."""
        keyed = tuple((q.name, q.keyed, tuple(field in q.squares for field in q.fields)) for q in self.rules)
        return _leaf_function(keyed)  # type: ignore[no-any-return]

    def __call__(self, updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        """One step of every rule in turn."""
        states = self._split(state)
        if not self.rules:
            return updates, state
        for rule in self.rules:
            if rule.needs_params:
                check_params(rule.name, updates, params)
        opened = [rule.open(own) for rule, own in zip(self.rules, states, strict=True)]
        owned = zip(self.rules, opened, strict=True)
        fields = [getattr(inner, field) for rule, (_, _, inner) in owned for field in rule.fields]
        given, needs_params = updates, any(q.needs_params for q in self.rules)
        if self.beside and fields:
            updates, params = (None if x is None else tree.left_out_as(x, fields[0]) for x in (updates, params))
        for rule in self.rules:
            if rule.real:
                check_leaves(rule.name, "gradients", updates)
        aligned = _AlignedLeaves(self.method.name, updates, params, fields, needs_params)
        traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((updates, state)))
        begun = [rule.begin(updates, *own, traced) for rule, own in zip(self.rules, opened, strict=True)]
        names = tuple(one.names for one in begun)
        varying = [one.shared[key] for one in begun for key, value in one.names if value is None]
        table: Any = tuple(value.astype(scalar_dtype()) for value in varying) or None
        if varying:  # of many leaves: one operand of each leaf's call, and of each kernel, instead of one per scalar
            table = unfolded(table) if traced and len(aligned.g) <= FEW else _table(*table)
        stacks = [tree.stacks(q.name, q.stack_axes, updates, aligned.sparse) for q in self.rules]
        aligned.run(functools.partial(self.leaf, table, names=names), needs_params, stacks, self._stranger)
        columns = iter(aligned.columns())
        u = tree.put_back(aligned.updates(), given) if self.beside else aligned.updates()
        return u, self._join(one.end(columns) for one in begun)

    def _stranger(self, g: Any, memory: Memory, stacks: Sequence[int]) -> tuple[str, Memory] | None:
        """The rule whose memory was made for another leaf, and that memory."""
        shape, rest = np.shape(g), memory
        if all(getattr(m, "shape", None) == shape for m in memory):
            return None
        for index, (rule, stack) in enumerate(zip(self.rules, stacks, strict=True)):
            mine, rest = rest[: rule.width], rest[rule.width :]
            key = index, shape, stack
            if key not in self._expected:
                leaf = tree.abstract(shape, tree.dtype_of(g))
                self._expected[key] = _shapes(jax.eval_shape(lambda q=rule, k=stack, leaf=leaf: q.memory(leaf, k)))
            if _shapes(mine) != self._expected[key]:
                return rule.name, mine
        return None

    def _split(self, state: State) -> list[State]:
        """The states of the rules, in order."""
        if self.rule is not None:
            return [state]
        states = check_state_tuple(self.method.name, state, [part.method.name for part in self.parts])
        return [s for part, own in zip(self.parts, states, strict=True) for s in part._split(own)]

    def _join(self, states: Iterator[State]) -> State:
        return next(states) if self.rule is not None else tuple(part._join(states) for part in self.parts)


jax.tree_util.register_pytree_node(
    LeafUpdate,
    lambda update: ((update.method, update.parts, update.rule), None),
    lambda _, parts: LeafUpdate(*parts),
)
jax.tree_util.register_pytree_node(
    _LeafRule,
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
) -> _LeafRule:  # fmt: skip
    whole = (dict(scalars), shared, reduce, needs_params, stack_axes, beside, squares, real)
    return _LeafRule(name, state_type, init, rule, reader, *whole)


def _shapes(memory: Memory) -> tuple[Any, list[tuple[int, ...]]]:
    leaves, treedef = jax.tree.flatten(memory)
    return treedef, [np.shape(leaf) for leaf in leaves]


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


@jax.jit
def _table(*scalars: jax.Array) -> jax.Array:
    table: jax.Array = unfolded(jnp.stack(scalars))
    return table


@shared_by_key
def _leaf_function(rules: tuple[tuple[str, KeyedFunction, tuple[bool, ...]], ...]) -> Callable[..., Any]:
    """All rules on one leaf, jitted: compute in float32 at least, store in each array's own dtype.

    rules: (name, rule, which of its arrays of memory are squares) each.
    """

    def leaf(
        table: jax.Array | tuple[jax.Array, ...] | None,  # float[k] or k float[]: the scalars that are no constants
        g: jax.Array,
        p: jax.Array | None,
        fields: Memory,
        *,
        names: tuple[Constants, ...],  # of the scalars, rule by rule
        stacks: tuple[int, ...],  # how many leading axes are stacks, rule by rule
        out: np.dtype[Any],
    ) -> tuple[jax.Array, Memory]:
        wide = tree.compute_dtype(out, g.dtype, *(f.dtype for f in jax.tree.leaves(fields)))
        real = real_dtype(wide)  # itself, where no leaf is complex
        entries = iter(jax.tree.map(lambda x: x.astype(real), () if table is None else table))

        def widen(x: jax.Array) -> jax.Array:
            if is_complex(x.dtype):
                return x.astype(wide)
            return x.astype(real) if jnp.issubdtype(x.dtype, jnp.floating) else x

        def read(x: jax.Array, square: bool) -> jax.Array:
            return jax.tree.map(lambda x: jnp.real(widen(x)) if square else widen(x), x)  # type: ignore[no-any-return]

        u, rest, stored = widen(g), list(fields), []
        for (name, rule, squares), keys, stack in zip(rules, names, stacks, strict=True):
            mine, rest = rest[: len(squares)], rest[len(squares) :]
            h = Scalars(**{k: next(entries) if v is None else np.asarray(v, real)[()] for k, v in keys})
            apply = rule.function if not stack else _stacked(rule.function, stack)
            with mixing(wide), np.errstate(all="ignore"):  # constants among themselves are NumPy's, as XLA has them
                result = apply(u, None if p is None else widen(p), *map(read, mine, squares), h)
            u, *new = result if isinstance(result, tuple) else (result,)
            try:
                chex.assert_trees_all_equal_shapes([g, *mine], [u, *new])
            except AssertionError:
                _rule_shapes(name, jax.tree.leaves([g, *mine]), jax.tree.leaves([u, *new]))
            stored += jax.tree.map(functools.partial(_stored, name), mine, new)
        return narrowed(u, out), tuple(stored)

    return jax.jit(leaf, static_argnames=("names", "stacks", "out"))


def _rule_shapes(name: str, went_in: Sequence[Any], came_out: Sequence[Any]) -> NoReturn:
    """A leafwise rule whose step or memory changed its shape."""
    say(TreeError, name, f"the rule must return a step and memory shaped {', '.join(map(describe, went_in))}",
        ", ".join(map(describe, came_out)), "Return (step, *memory), each in the shape it came in")  # fmt: skip


def _stored(name: str, was: jax.Array, now: jax.Array) -> jax.Array:
    check_room(name, "the memory of a leaf", was, now)
    return now.astype(was.dtype)


def _stacked(rule: Callable[..., Any], stack: int) -> Callable[..., Any]:
    """The rule on each of the leaves that the first `stack` axes count; they share h."""

    def apply(*args: Any) -> Any:
        *of_leaf, h = args
        one: Callable[..., Any] = lambda *of_leaf: rule(*of_leaf, h)  # noqa: E731
        for _ in range(stack):
            one = jax.vmap(one)
        return one(*of_leaf)

    return apply


class _AlignedLeaves:
    """Gradients, parameters and state as lists of leaves in one order; None gradients left out.

    Parameters that no rule needs are looked at for their dtypes alone, and only if they are like the gradients.
    """

    def __init__(
        self, name: str, updates: Updates, params: Params, fields: Sequence[PyTree], needs_params: bool
    ) -> None:
        self.name, self.tree = name, updates
        others = [] if params is None else [("params", params)]
        others += [("state", tree.masked_as(updates, field)) for field in fields]
        for sparse in (False, True):  # None in the gradients is no gradient; anything else is a mistake
            self.sparse = sparse
            self.g, self.treedef = tree.flatten(updates, none_is_leaf=sparse)
            flat = [self._in_order(what, other) for what, other in others]
            if all(leaves is not None for leaves in flat):
                break
        else:
            what, other = others[flat.index(None)]
            if needs_params or what != "params" or None in flat[1:]:
                structure_mismatch(name, "gradients", updates, what, other)
        p = flat.pop(0) if params is not None else None
        self.p = [None] * len(self.g) if p is None else p
        self.fields: list[list[Any]] = flat
        for index, (g, p) in enumerate(zip(self.g, self.p, strict=True)):
            if g is not None:
                check_leaf(name, "gradients", updates, index, g, none_is_leaf=self.sparse, real=False)
                if needs_params and p is not None and np.shape(p) != np.shape(g):
                    shape_mismatch(name, "gradients", self._path(index), g, "params", np.shape(p))

    def _in_order(self, what: str, other: PyTree) -> Any:
        """What another tree has for each leaf, None if it does not fit; in a state that may be a nest of arrays."""
        leaves, treedef = tree.flatten(other, none_is_leaf=self.sparse)
        if treedef == self.treedef:
            return leaves
        try:
            return self.treedef.flatten_up_to(other) if what == "state" else None
        except ValueError:
            return None

    def run(
        self,
        leaf: Callable[..., Any],
        with_params: bool,
        stacks: Sequence[Sequence[int]],
        stranger: Callable[..., tuple[str, Memory] | None],
    ) -> None:
        """Call leaf(gradient, parameter, memory, dtype of the step, stacks of each rule) for each leaf."""
        for index, (g, p) in enumerate(zip(self.g, self.p, strict=True)):
            if g is None:
                continue
            memory, stack = tuple(column[index] for column in self.fields), tuple(own[index] for own in stacks)
            misfit = stranger(g, memory, stack)
            if misfit is not None:
                if p is not None and np.shape(p) != np.shape(g):
                    shape_mismatch(self.name, "gradients", self._path(index), g, "params", np.shape(p))
                memory_mismatch(*misfit, self._path(index), g)
            out = _step_dtype(g, p)
            if is_complex(out) and tree.is_floating(p):
                check_room(self.name, f"the params leaf {self._path(index)}", jnp.asarray(p), jnp.asarray(g))
            own = p if with_params else None
            self.g[index], new = leaf(jnp.asarray(g), own, memory, out=out, stacks=stack)
            for column, value in zip(self.fields, new, strict=True):
                column[index] = value

    def _path(self, index: int) -> str:
        return errors.path_of(self.tree, index, none_is_leaf=self.sparse)

    def updates(self) -> Updates:
        return self.treedef.unflatten(self.g)

    def columns(self) -> list[PyTree]:
        return [self.treedef.unflatten(column) for column in self.fields]


def _step_dtype(g: Any, p: Any) -> DType:
    """What holds gradient and parameter both."""
    own = tree.dtype_of(g)
    if p is None or getattr(p, "dtype", None) == own or not tree.is_floating(p):
        return own
    return tree.common_dtype(own, tree.dtype_of(p))


@options
def leafwise(
    name: str,
    state_type: type,
    *,
    rule: Callable[..., Any],
    init: Callable[[Any], Memory] = lambda p: (),
    hypers: Mapping[str, tuple[Hyper, Domain]] | None = None,
    shared: Callable[..., Mapping[str, jax.Array]] | None = None,
    reduce: Callable[..., Mapping[str, jax.Array]] | None = None,
    scalars: Mapping[str, float] | None = None,
    dtypes: Mapping[str, DType | None] | None = None,
    needs_params: bool = False,
    stack_axes: PyTree = 0,
    own: str | None = "count",
    debiased: Sequence[str] = (),
    counts: bool = False,
    alone: type | None = None,
    beside: bool = False,
    squares: Sequence[str] = (),
    real: bool = False,
) -> GradientTransformation:
    """A transformation from a rule for one array.

    state_type: a NamedTuple whose fields are, beside the count `own` if it has one, the `scalars` and then one tree for
        each array of memory. EmptyState for a rule without memory.
    init(p) -> memory of one leaf, a tuple in the order of the fields: arrays of any shape, or nests of them.
    rule(g, p, *memory, h) -> (step, *memory), in float32 at least; stored in the memory's own dtypes. `p` is None
        unless `needs_params`.
    hypers: name -> (number, array or schedule; its domain), checked now and handed on as h.name at each step.
    shared(t, h) -> more scalars for h, made once a step; t = 1, 2, … is its number, None if nothing counts. h.gathered
        gives what bias correction divides by.
    reduce(updates, h) -> more scalars that depend on all leaves together, a norm say.
    scalars: state that is one number for all leaves, with its start, a float, an int or a bool; `shared` gets it as
        it is and returns its new value by name.
    dtypes: arguments that name the dtype of some memory, to be checked now.
    stack_axes: how many leading axes of a leaf count leaves of one shape, as for a scan over layers: an integer, or
        integers in a prefix of the params' tree. init and rule see one of those leaves.
    debiased, counts, alone: as of `hyperparameters.HyperparameterReader`, what schedules need.
    beside: leaves that cannot be trained, integers and PRNG keys, are left out: it stands beside an optimizer, which
        says whether it minds.
    squares: the fields that hold lengths or squares: real numbers, which the rule gets as such, also where they are
        kept in a complex leaf's dtype.
    real: complex leaves are refused. Else a rule gets them as they are: real and complex numbers may meet in it, and
        `numerics.inner` and `abs_sq` are the products to square with.
    A rule that closes over arrays is compiled for itself alone: what varies comes through hypers.

    Raises, when made: HyperparameterError. When traced: what `transform` says.
    """
    for key, dtype in (dtypes or {}).items():
        errors.check_dtype(name, key, dtype)
    check_stack_axes(name, stack_axes)
    counted = own if own is not None and own in state_type._fields else None  # type: ignore[attr-defined]
    reader = HyperparameterReader(name, checked(name, hypers), counted, debiased, 0, counts, alone)
    whole = (scalars or {}, shared, reduce, needs_params, stack_axes, beside, tuple(squares), real)
    leaf_rule = _LeafRule(name, state_type, init, rule, reader, *whole)

    def init_state(params: Params, **_: Any) -> State:
        return leaf_rule.init_state(params)

    return GradientTransformationExtraArgs(init_state, LeafUpdate(Method(name), (), leaf_rule))
