"""How transformations are made: all plumbing and every trace-time check, once.

`transform` makes one from functions over trees, `leafwise` from a rule for one array. Leafwise rules in a row
become one jitted function per distinct leaf, so that a thousand leaves of one shape are traced and lowered once.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors, tree
from jaxopt_ko.errors import Domain
from jaxopt_ko.numerics import next_count, scalar_dtype, unfolded, value_at, zero_count
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, PyTree, State, Updates

P = ParamSpec("P")
Memory = tuple[Any, ...]  # what one leaf remembers: an array, or a nest of them, for each field of the state
Constants = tuple[tuple[str, float | None], ...]  # (name, value) of each scalar, None for one that varies
Step = jax.Array | tuple[Any, ...]  # what a rule returns: the step, then the new memory if it has one


class Scalars:
    """What all leaves share at one step: the hyperparameters and what follows from them, float[] each."""

    def __init__(self, **values: jax.Array) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> jax.Array:
        raise AttributeError(f"the rule has no hyperparameter {name!r}; it has {sorted(vars(self))}")


# ---- from functions over trees --------------------------------------------------------------------------


def transform(
    name: str,
    init: Callable[..., State],
    update: Callable[..., tuple[Updates, State]],
    *,
    needs_params: bool = False,
    state_type: type | None = None,
    any_leaf: bool = False,
) -> GradientTransformation:
    """A transformation from two functions over whole trees, with the checks that a `lax.scan` would want.

    name: how errors call it.
    init(params) -> state;  update(updates, state, params=None, **extra_args) -> (updates, state). `update` gets
    those extra arguments that its signature takes. state_type: the class of the state, if another is to be refused.
    needs_params: params must be given, and be like the gradients; else they are passed on as they are.
    any_leaf: integers, PRNG keys and the like may be among the leaves: an inner transformation says whether it minds.

    Raises, when traced: TreeError if the gradients differ from the parameters that are needed, or the updates from
    the gradients, in structure or shape, or a leaf is not a real floating array; StateError if the new state differs
    from the old in structure, shape or dtype; MissingArgumentError without params where `needs_params`.
    """
    init_, update_ = taking(init, 1), taking(update, 3)

    def checked_init(params: Params, **problem: Any) -> State:
        if not any_leaf:
            _check_leaves(name, "params", params)
        try:
            return init_(params, **problem)
        except TypeError:
            if not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):
                raise
            # It evaluates a problem, of which abstract parameters give no value: a state of zeros shows its shapes.
            shapes = jax.eval_shape(lambda p: init_(p, **problem), params)
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def checked_update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        if needs_params:
            errors.check_params(name, updates, params)
        if state_type is not None:
            errors.check_state_type(name, state, state_type)
        try:
            if not any_leaf:
                _check_leaves(name, "gradients", updates)
            if params is not None:
                params = _where_updated(updates, params)
                if needs_params:
                    errors.check_same_trees(name, "gradients", updates, "params", params)
            result = update_(updates, state, params, **extra)
        except Exception as error:
            if params is not None and not isinstance(error, errors.MissingArgumentError | errors.HyperparameterError):
                # Was it the state, or other parameters than these? Only now is it worth asking.
                expected = jax.eval_shape(lambda p: init_(p, **extra), params)
                if tree.structure(expected) != tree.structure(state):
                    errors.structure_mismatch(name, "state", state, "one that its init makes", expected)
                errors.check_same_trees(name, "gradients", updates, "params", params)
            raise
        new_updates, new_state = errors.check_result(name, result)
        errors.check_same_trees(name, "updates", new_updates, "gradients", updates)
        errors.check_carry(name, state, new_state)
        return new_updates, new_state

    return GradientTransformation(checked_init, named(checked_update, name))


def named(update: Callable[..., Any], name: str) -> Callable[..., Any]:
    """`update` under the name that errors call it."""
    update.__name__ = update.__qualname__ = name
    return update


def name_of(pair: GradientTransformation) -> str:
    """How errors call a transformation, ours or foreign."""
    return str(getattr(pair.update, "__name__", type(pair).__name__))


def taking(function: Callable[..., Any], positional: int) -> Callable[..., Any]:
    """`function` with the keyword arguments that its signature does not take dropped."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin: nothing is known, so nothing extra is passed
        return lambda *args, **_: function(*args)
    kinds = {p.kind for p in parameters}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return function
    takes = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        given = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        positional = min(positional, len(given))
        takes -= {p.name for p in given[:positional]}

    def selected(*args: Any, **extra: Any) -> Any:
        return function(*args[:positional], **{k: v for k, v in extra.items() if k in takes})

    return selected


def takes(function: Callable[..., Any], word: str) -> bool:
    """Does its signature name this argument?"""
    try:
        return word in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin
        return False


def _check_leaves(who: str, what: str, full: PyTree) -> None:
    for index, leaf in enumerate(jax.tree.leaves(full)):
        errors.check_leaf(who, what, full, index, leaf)


def _where_updated(updates: Updates, params: Params) -> Params:
    """Params with None wherever the gradient is None: what has no gradient is left alone."""
    if tree.structure(updates) == tree.structure(params):
        return params
    leaves, treedef = tree.flatten(updates, none_is_leaf=True)
    p_leaves, p_treedef = tree.flatten(params, none_is_leaf=True)
    if treedef != p_treedef:
        return params
    return treedef.unflatten([None if g is None else p for g, p in zip(leaves, p_leaves, strict=True)])


def recipe(factory: Callable[P, GradientTransformation]) -> Callable[P, GradientTransformation]:
    """A named method put together from parts: what is wrong with a part is said in the method's name."""
    name = factory.__name__

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> GradientTransformation:
        try:
            pair = factory(*args, **kwargs)
        except errors.HyperparameterError as error:
            raise type(error)(f"{name}: {error}") from None
        named(pair.update, name)
        return pair

    return make


def once(factory: Callable[P, GradientTransformation]) -> Callable[P, GradientTransformation]:
    """The same pair for equal arguments, so that a driver compiled for it is found again."""
    remembered = functools.lru_cache(maxsize=256, typed=True)(factory)

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> GradientTransformation:
        try:
            hash((args, tuple(kwargs.values())))
        except TypeError:  # an array or a tracer among them
            return factory(*args, **kwargs)
        return remembered(*args, **kwargs)  # type: ignore[arg-type]

    return make


# ---- from a rule for one array --------------------------------------------------------------------------


class Rule:
    """A function of one leaf; one of this package's equals any other made by the same code over the same options.

    Optimizers are made anew all the time (a sweep, a traced learning rate), and equal rules share their compilation.
    A user's own rule equals itself alone: what its code refers to may change.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._key: Any = function
        if inspect.isfunction(function) and (function.__module__ or "").startswith(f"{__package__}."):
            cells = [cell.cell_contents for cell in function.__closure__ or ()]
            self._key = (function.__code__, tuple((type(cell), cell) for cell in cells))
        try:
            self._hash = hash(self._key)
        except TypeError:  # an option that cannot be hashed: equal to itself alone
            self._key, self._hash = function, id(function)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and bool(self._key == other._key)


@dataclass(frozen=True)
class _Piece:
    """One leafwise rule: what `leafwise` was given."""

    name: str
    state_type: type
    init: Callable[[Any], Memory]
    rule: Rule
    hypers: Mapping[str, Hyper]
    scalars: Mapping[str, float]
    shared: Callable[..., Mapping[str, jax.Array]] | None
    reduce: Callable[..., Mapping[str, jax.Array]] | None
    needs_params: bool
    stack_axes: PyTree
    beside: bool

    @functools.cached_property
    def follows(self) -> Rule | None:
        """`shared`, equal to that of the same code over the same options."""
        return None if self.shared is None else Rule(self.shared)

    def init_state(self, params: Params) -> State:
        params = tree.floating(params) if self.beside else params
        _check_leaves(self.name, "params", params)
        leaves, treedef = tree.flatten(params)
        start = [started(value) for value in self.scalars.values()]
        stacks = tree.stacks(self.name, self.stack_axes, params)
        memory = [self.memory(leaf, stack) for leaf, stack in zip(leaves, stacks, strict=True)]
        columns = [treedef.unflatten([m[i] for m in memory]) for i in range(self.width)]
        return self.state_type(zero_count(), *start, *columns)

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
        errors.check_memory(self.name, made, self.width)
        return made

    @property
    def width(self) -> int:
        """How many things each leaf remembers."""
        return len(self.state_type._fields) - 1 - len(self.scalars)  # type: ignore[attr-defined]

    def begin(self, updates: Updates, state: State) -> tuple[dict[str, jax.Array], Constants, Memory]:
        """What all leaves share at this step: scalars, those that are constants; and the state's new scalars."""
        count, *old = state[: 1 + len(self.scalars)]
        errors.check_count(self.name, count)
        values = {key: value_at(hyper, count, self.name, key) for key, hyper in self.hypers.items()}
        t, shared = _scalar_function(self.follows)(count, values, dict(zip(self.scalars, old, strict=True)))
        if self.reduce is not None:
            shared |= self.reduce(updates, Scalars(**shared))
        # A compiled step has its constants as constants; steps one by one share a program over all values.
        compiled = isinstance(count, jax.core.Tracer)
        constants = {k: float(v) for k, v in self.hypers.items() if compiled and isinstance(v, int | float)}
        new = (shared[key].astype(value.dtype) for key, value in zip(self.scalars, old, strict=True))
        return shared, tuple((key, constants.get(key)) for key in shared), (t, *new)


def started(value: float) -> jax.Array:
    """The first value of a scalar of the state: float[]; int32[] of an int, bool[] of a bool."""
    if isinstance(value, int):
        return jnp.asarray(value, bool if isinstance(value, bool) else jnp.int32)
    return value_at(value, zero_count())


def widened(value: jax.Array) -> jax.Array:
    """A scalar in scalar_dtype, unless it counts or is a truth value."""
    return value.astype(scalar_dtype()) if jnp.issubdtype(value.dtype, jnp.floating) else value


class LeafUpdate:
    """The update of leafwise rules in a row: one jitted call for each leaf.

    Its state is that of its one rule, or a tuple of its parts' states; parts nest as chains do.
    """

    def __init__(self, name: str, parts: Sequence[LeafUpdate], piece: _Piece | None = None) -> None:
        self.__name__ = self.__qualname__ = name
        self.parts = tuple(parts)
        self.piece = piece
        self.pieces: tuple[_Piece, ...] = tuple(q for part in parts for q in part.pieces)
        if piece is not None:
            self.pieces = (piece,)
        self.leaf = _leaf_function(tuple((q.name, q.rule, q.width) for q in self.pieces))
        self.needs_params = any(q.needs_params for q in self.pieces)
        self.beside = bool(self.pieces) and all(q.beside for q in self.pieces)
        self._expected: dict[Any, Any] = {}  # (rule, shape, stack) -> the shapes of what such a leaf remembers

    def __call__(self, updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        """One step of every rule in turn."""
        states = self._split(state)
        if not self.pieces:
            return updates, state
        for piece in self.pieces:
            if piece.needs_params:
                errors.check_params(piece.name, updates, params)
        work = list(zip(self.pieces, states, strict=True))
        fields = [field for piece, s in work for field in s[1 + len(piece.scalars) :]]
        given = updates
        if self.beside and fields:
            updates, params = (None if x is None else tree.left_out_as(x, fields[0]) for x in (updates, params))
        aligned = _Aligned(self.__name__, updates, params, fields, self.needs_params)
        shared, names, scalars = zip(*(piece.begin(updates, s) for piece, s in work), strict=True)
        varying = [own[key] for own, keys in zip(shared, names, strict=True) for key, value in keys if value is None]
        # One operand of each leaf's call, and of each kernel, instead of one per scalar.
        table = _table(*(value.astype(scalar_dtype()) for value in varying)) if varying else None
        stacks = [tree.stacks(q.name, q.stack_axes, updates, aligned.sparse) for q in self.pieces]
        aligned.run(functools.partial(self.leaf, table, names=names), self.needs_params, stacks, self._stranger)
        columns = iter(aligned.columns())
        new = (
            piece.state_type(*head, *(next(columns) for _ in range(piece.width)))
            for piece, head in zip(self.pieces, scalars, strict=True)
        )
        return tree.put_back(aligned.updates(), given) if self.beside else aligned.updates(), self._join(new)

    def __repr__(self) -> str:
        return self.__name__

    def _stranger(self, g: Any, memory: Memory, stacks: Sequence[int]) -> tuple[str, Memory] | None:
        """The rule whose memory was made for another leaf, and that memory."""
        shape, rest = np.shape(g), memory
        if all(getattr(m, "shape", None) == shape for m in memory):
            return None
        for index, (piece, stack) in enumerate(zip(self.pieces, stacks, strict=True)):
            mine, rest = rest[: piece.width], rest[piece.width :]
            key = index, shape, stack
            if key not in self._expected:
                leaf = tree.abstract(shape, tree.dtype_of(g))
                self._expected[key] = _shapes(jax.eval_shape(lambda q=piece, k=stack, leaf=leaf: q.memory(leaf, k)))
            if _shapes(mine) != self._expected[key]:
                return piece.name, mine
        return None

    def _split(self, state: State) -> list[State]:
        """The states of the rules, in order."""
        if self.piece is not None:
            errors.check_state_type(self.piece.name, state, self.piece.state_type)
            return [state]
        errors.check_state_tuple(self.__name__, state, [part.__name__ for part in self.parts])
        return [s for part, own in zip(self.parts, state, strict=True) for s in part._split(own)]

    def _join(self, states: Iterator[State]) -> State:
        return next(states) if self.piece is not None else tuple(part._join(states) for part in self.parts)


def _shapes(memory: Memory) -> tuple[Any, list[tuple[int, ...]]]:
    leaves, treedef = jax.tree.flatten(memory)
    return treedef, [np.shape(leaf) for leaf in leaves]


@functools.lru_cache(maxsize=4096)
def _scalar_function(follows: Rule | None) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
    """(count, hyperparameters, scalar state) -> (t, all scalars of a step), jitted: one equation for a group."""

    def scalars(
        count: jax.Array, values: dict[str, jax.Array], old: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        t = next_count(count)
        shared = dict(unfolded(values))
        shared |= {key: widened(value) for key, value in old.items()}
        if follows is not None:
            shared |= follows.function(t, Scalars(**shared))
        return t, shared

    return jax.jit(scalars)


@jax.jit
def _table(*scalars: jax.Array) -> jax.Array:
    table: jax.Array = unfolded(jnp.stack(scalars))
    return table


@functools.lru_cache(maxsize=4096)
def _leaf_function(rules: tuple[tuple[str, Rule, int], ...]) -> Callable[..., Any]:
    """All rules on one leaf, jitted: compute in float32 at least, store in each array's own dtype."""

    def leaf(
        table: jax.Array | None,  # float[k]  the scalars of all rules that are no constants
        g: jax.Array,
        p: jax.Array | None,
        fields: Memory,
        *,
        names: tuple[Constants, ...],  # of the scalars, rule by rule
        stacks: tuple[int, ...],  # how many leading axes are stacks, rule by rule
        out: np.dtype[Any],
    ) -> tuple[jax.Array, Memory]:
        wide = tree.compute_dtype(out, g.dtype, *(f.dtype for f in jax.tree.leaves(fields)))
        entries = iter(() if table is None else table.astype(wide))

        def widen(x: jax.Array) -> jax.Array:
            return x.astype(wide) if jnp.issubdtype(x.dtype, jnp.floating) else x

        u, rest, stored = widen(g), list(fields), []
        for (name, rule, width), keys, stack in zip(rules, names, stacks, strict=True):
            mine, rest = rest[:width], rest[width:]
            h = Scalars(**{k: next(entries) if v is None else jnp.asarray(v, wide) for k, v in keys})
            apply = rule.function if not stack else _stacked(rule.function, stack)
            result = apply(u, None if p is None else widen(p), *jax.tree.map(widen, mine), h)
            u, *new = result if isinstance(result, tuple) else (result,)
            try:
                chex.assert_trees_all_equal_shapes([g, *mine], [u, *new])
            except AssertionError:
                errors.rule_shapes(name, jax.tree.leaves([g, *mine]), jax.tree.leaves([u, *new]))
            stored += jax.tree.map(_stored, mine, new)
        return u.astype(out), tuple(stored)

    return jax.jit(leaf, static_argnames=("names", "stacks", "out"))


def _stored(was: jax.Array, now: jax.Array) -> jax.Array:
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


class _Aligned:
    """Gradients, parameters and state as lists of leaves in one order; None gradients left out.

    Parameters that no rule needs are looked at for their dtypes alone, and only if they are like the gradients.
    """

    def __init__(
        self, who: str, updates: Updates, params: Params, fields: Sequence[PyTree], needs_params: bool
    ) -> None:
        self.who, self.tree = who, updates
        others = [] if params is None else [("params", params)]
        others += [("state", field) for field in fields]
        for sparse in (False, True):  # None in the gradients is no gradient; anything else is a mistake
            self.sparse = sparse
            self.g, self.treedef = tree.flatten(updates, none_is_leaf=sparse)
            flat = [self._in_order(what, other) for what, other in others]
            if all(leaves is not None for leaves in flat):
                break
        else:
            what, other = others[flat.index(None)]
            if needs_params or what != "params" or None in flat[1:]:
                errors.structure_mismatch(who, "gradients", updates, what, other)
        p = flat.pop(0) if params is not None else None
        self.p = [None] * len(self.g) if p is None else p
        self.fields: list[list[Any]] = flat
        for index, (g, p) in enumerate(zip(self.g, self.p, strict=True)):
            if g is not None:
                errors.check_leaf(who, "gradients", updates, index, g, none_is_leaf=self.sparse)
                if needs_params and p is not None and np.shape(p) != np.shape(g):
                    errors.shape_mismatch(who, "gradients", self._path(index), g, "params", np.shape(p))

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
                    errors.shape_mismatch(self.who, "gradients", self._path(index), g, "params", np.shape(p))
                errors.memory_mismatch(*misfit, self._path(index), g)
            out = _step_dtype(g, p)
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
    beside: bool = False,
) -> GradientTransformation:
    """A transformation from a rule for one array.

    state_type: a NamedTuple whose fields are `count`, then the `scalars`, then one tree per array of memory.
    init(p) -> memory of one leaf, a tuple in the order of the fields: arrays of any shape, or nests of them.
    rule(g, p, *memory, h) -> (step, *memory), in float32 at least; stored in the memory's own dtypes. `p` is None
        unless `needs_params`.
    hypers: name -> (number, array or schedule; its domain), checked now and handed on as h.name at each step.
    shared(t, h) -> more scalars for h, made once a step; t = 1, 2, … is its number.
    reduce(updates, h) -> more scalars that depend on all leaves together, a norm say.
    scalars: state that is one number for all leaves, with its start, a float, an int or a bool; `shared` gets it as
        it is and returns its new value by name.
    dtypes: arguments that name the dtype of some memory, to be checked now.
    stack_axes: how many leading axes of a leaf count leaves of one shape, as for a scan over layers: an integer, or
        integers in a prefix of the params' tree. init and rule see one of those leaves.
    beside: leaves that cannot be trained, integers and PRNG keys, are left out: it stands beside an optimizer, which
        says whether it minds.
    The rule must not close over arrays: what varies comes through hypers.

    Raises, when made: HyperparameterError. When traced: what `transform` says.
    """
    for key, dtype in (dtypes or {}).items():
        errors.check_dtype(name, key, dtype)
    checked = {key: errors.check_hyper(name, key, *spec) for key, spec in (hypers or {}).items()}
    errors.check_stack_axes(name, stack_axes)
    whole = (shared, reduce, needs_params, stack_axes, beside)
    piece = _Piece(name, state_type, init, Rule(rule), checked, scalars or {}, *whole)
    return GradientTransformation(piece.init_state, LeafUpdate(name, (), piece))
