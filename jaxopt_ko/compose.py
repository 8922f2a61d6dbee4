"""How transformations are put together: chains, masks, groups, hyperparameters that live in the state."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors, numerics, tree
from jaxopt_ko.hypers import as_state
from jaxopt_ko.lift import LeafUpdate, leafwise, transform
from jaxopt_ko.methods import Method, Update, method_of, name_of, pair_of, taking, with_parts
from jaxopt_ko.numerics import next_count, scalar_dtype, value_at, zero_count
from jaxopt_ko.tree_state import is_any
from jaxopt_ko.types import (
    DType,
    EmptyState,
    GradientTransformation,
    GradientTransformationExtraArgs,
    MaskedNode,
    Params,
    PyTree,
    State,
    Updates,
)

__all__ = [
    "apply_updates", "as_steps", "chain", "either", "identity", "init_empty_state", "inject_hyperparams",
    "inject_stateful_hyperparams", "labels_by_path", "leafwise", "masked", "multi_transform", "named_chain",
    "no_steps", "opened",
    "partition", "run_if", "stateless", "stateless_with_tree_map", "transform",
    "with_extra_args_support",
]  # fmt: skip


def identity() -> GradientTransformation:
    """Updates unchanged."""

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        as_state("identity", state, EmptyState)
        return updates, state

    return pair_of("identity", init_empty_state, update)


def init_empty_state(params: Params) -> EmptyState:
    """The init of a rule that remembers nothing."""
    return EmptyState()


@errors.options
def stateless(f: Callable[[Updates, Params | None], Updates]) -> GradientTransformation:
    """A rule without memory: u = f(g, p), on whole trees; f gets None for the params where none are given.

    f may change shapes (a mean over the batch, say); to have them checked, use `transform`.
    """

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        as_state("stateless", state, EmptyState)
        return f(updates, params), state

    return pair_of("stateless", init_empty_state, update)


@errors.options
def stateless_with_tree_map(f: Callable[[jax.Array, jax.Array | None], jax.Array]) -> GradientTransformation:
    """A rule without memory for one array: u = f(g, p) leaf by leaf, p None where no params are given."""

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        if params is None:
            return jax.tree.map(lambda g: f(g, None), updates), state
        errors.check_same_trees("stateless_with_tree_map", "gradients", updates, "params", params)
        return jax.tree.map(f, updates, params), state

    return transform("stateless_with_tree_map", init_empty_state, update, state_type=EmptyState)


def opened(who: str, where: str, pair: Any) -> GradientTransformation:
    """An argument that must be a transformation, as one that takes any extra arguments: ours as it is."""
    pair = errors.check_pair(who, where, pair)
    update = pair.update if isinstance(pair.update, Update) else Update(_any_extra(pair.update), method_of(pair))
    return GradientTransformationExtraArgs(taking(pair.init, 1), update)


def _any_extra(update: Callable[..., Any]) -> Callable[..., Any]:
    given = taking(update, 3)

    def passing(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        result: tuple[Updates, State] = given(updates, state, params, **extra)
        return result

    return passing


@errors.options
def with_extra_args_support(tx: GradientTransformation) -> GradientTransformation:
    """`tx` as one whose update takes any extra arguments and passes on those that tx knows; ours all do already."""
    return opened("with_extra_args_support", "tx", tx)


def run_if(
    condition: Any, inner: GradientTransformation, g: Updates, state: State, p: Params, extra: Any, otherwise: Updates
) -> tuple[Updates, State]:
    """One step of `inner` if the condition holds, else `otherwise` and the state as it was; only one of them runs.

    condition: bool[]. Under jax.vmap both run and each lane takes its own. The steps take the dtypes of `otherwise`.
    """

    def take() -> tuple[Updates, State]:
        steps, new = inner.update(g, state, p, **extra)
        errors.check_same_trees(name_of(inner), "updates", steps, "gradients", g)
        errors.check_carry(name_of(inner), state, new)
        return jax.tree.map(lambda u, o: _cast(u, o.dtype), steps, otherwise), new

    result: tuple[Updates, State] = either(condition, take, lambda: (otherwise, state))
    return result


def either(condition: Any, yes: Callable[[], PyTree], no: Callable[[], PyTree]) -> PyTree:
    """`lax.cond`; where the condition is known, step by step, the one function alone, with nothing to compile."""
    if isinstance(condition, jax.core.Tracer):
        return jax.lax.cond(condition, yes, no)
    return yes() if condition else no()


def as_steps(values: Updates, g: Updates, p: Params) -> Updates:
    """Values like the gradients, in the dtypes that steps have: those that hold gradient and parameter both."""
    if p is None or tree.structure(p) != tree.structure(g):
        return jax.tree.map(lambda v, g: _cast(v, tree.dtype_of(g)), values, g)

    def leaf(v: Any, g: Any, p: Any) -> Any:
        return _cast(v, tree.common_dtype(tree.dtype_of(g), tree.dtype_of(p))) if tree.is_floating(g) else v

    return jax.tree.map(leaf, values, g, p)


def _cast(x: Any, dtype: DType) -> Any:
    """An array in another dtype; what is no floating number as it is."""
    return jnp.asarray(x).astype(dtype) if tree.is_floating(x) else x


def no_steps(g: Updates, p: Params) -> Updates:
    """Zeros, as steps."""
    return as_steps(jax.tree.map(jnp.zeros_like, g), g, p)


def chain(*args: GradientTransformation) -> GradientTransformation:
    """One transformation after the other: the updates of each are what the next one gets.

    The state is the tuple of their states; extra arguments go to all that take them, foreign pairs included.
    With no argument it is the identity. Raises TransformationError if an argument is no (init, update) pair.
    """
    pairs = [errors.check_pair("chain", f"argument {i}", pair) for i, pair in enumerate(args)]
    names = [name_of(pair) for pair in pairs]
    who = f"chain({', '.join(names)})"
    inits = [taking(pair.init, 1) for pair in pairs]

    def init(params: Params, **problem: Any) -> tuple[State, ...]:
        return tuple(init_(params, **problem) for init_ in inits)

    runs = _runs([pair.update for pair in pairs])
    if len(runs) <= 1 and all(isinstance(pair.update, LeafUpdate) for pair in pairs):
        return GradientTransformationExtraArgs(init, LeafUpdate(Method(who), runs[0] if runs else []))
    stages = [(len(run), run[0] if len(run) == 1 else LeafUpdate(Method(who), run)) for run in runs]
    return GradientTransformationExtraArgs(init, ChainUpdate(Method(who), stages, names))


class ChainUpdate(Update):
    """The update of a chain: stage after stage, each of one transformation or of several leafwise ones in a row."""

    def __init__(self, method: Method, stages: Sequence[tuple[int, Any]], names: Sequence[str]) -> None:
        self.method, self.stages, self.names = method, tuple(stages), tuple(names)

    def known_as(self, method: Method) -> ChainUpdate:
        """The same chain with another record."""
        return ChainUpdate(method, self.stages, self.names)

    def __call__(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        """One step of each."""
        states = errors.check_state_tuple(self.method.name, state, self.names)
        new: list[State] = []
        for size, stage in self.stages:
            old = tuple(states[len(new) : len(new) + size])
            updates, changed = stage(updates, old[0] if size == 1 else old, params, **extra)
            new += [changed] if size == 1 else changed
        return updates, tuple(new)


jax.tree_util.register_pytree_node(
    ChainUpdate,
    lambda chain: ((chain.method, chain.stages), chain.names),
    lambda names, parts: ChainUpdate(*parts, names),
)


def _runs(updates: Sequence[Callable[..., Any]]) -> list[list[Any]]:
    """Consecutive updates that one leafwise pass can do; a rule that looks at all leaves can only begin one."""
    runs: list[list[Any]] = []
    for update in updates:
        joins = isinstance(update, LeafUpdate) and not any(piece.reduce for piece in update.pieces)
        if joins and runs and isinstance(runs[-1][0], LeafUpdate):
            runs[-1].append(update)
        else:
            runs.append([update if isinstance(update, LeafUpdate) else taking(update, 3)])
    return runs


def named_chain(*args: tuple[str, GradientTransformation]) -> GradientTransformation:
    """A chain whose state is a dict: named_chain(("momentum", trace(0.9)), ("step", scale(-0.1))).

    Raises TransformationError if an argument is no (name, transformation) pair, or a name comes twice.
    """
    errors.check_named("named_chain", args)
    names = [name for name, _ in args]
    inner = chain(*(pair for _, pair in args))

    def init(params: Params, **problem: Any) -> dict[str, State]:
        return dict(zip(names, inner.init(params, **problem), strict=True))

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        errors.check_state_keys("named_chain", state, names)
        updates, new = inner.update(updates, tuple(state[name] for name in names), params, **extra)
        return updates, dict(zip(names, new, strict=True))

    return pair_of(f"named_chain({', '.join(map(str, names))})", init, update)


def apply_updates(params: Params, updates: Updates) -> Params:
    """params + updates, leaf by leaf, added in float32 at least and kept in the parameters' dtype.

    A parameter whose update is None stays as it is, and so does a PRNG key, to which nothing can be added; one that is
    None stays None, whatever its update. Raises TreeError if the trees differ in structure or shape.
    """
    sparse = tree.structure(updates) != tree.structure(params)
    leaves, treedef = tree.flatten(params, none_is_leaf=sparse)
    steps, steps_treedef = tree.flatten(updates, none_is_leaf=sparse)
    if steps_treedef != treedef:
        errors.structure_mismatch("apply_updates", "updates", updates, "params", params)
    for index, (p, u) in enumerate(zip(leaves, steps, strict=True)):
        if p is None or u is None or tree.is_float0(u):
            continue
        if np.shape(u) != np.shape(p):
            path = errors.path_of(params, index, none_is_leaf=sparse)
            errors.shape_mismatch("apply_updates", "updates", path, u, "params", np.shape(p))
        if numerics.is_complex(tree.dtype_of(u)) and tree.is_floating(p):
            path = f"the params leaf {errors.path_of(params, index, none_is_leaf=sparse)}"
            errors.check_room("apply_updates", path, jnp.asarray(p), u)
        if jnp.issubdtype(tree.dtype_of(p), jax.dtypes.extended):
            continue
        leaves[index] = p + u if tree.dtype_of(p) == tree.dtype_of(u) == jnp.float32 else _add(p, u)
    return treedef.unflatten(leaves)


@jax.jit
def _add(p: jax.Array, u: jax.Array) -> jax.Array:
    if not jnp.issubdtype(p.dtype, jnp.floating):
        return p + u.astype(p.dtype)  # a counter among the parameters, say: float32 has too few digits for it
    wide = tree.compute_dtype(p.dtype, u.dtype)
    return (p.astype(wide) + u.astype(wide)).astype(p.dtype)


# ---- parts of a tree ------------------------------------------------------------------------------------


class MaskedState(NamedTuple):
    """State of `masked`."""

    inner_state: State  # of the inner transformation, MaskedNode() at the leaves left out


class PartitionState(NamedTuple):
    """State of `partition`."""

    inner_states: dict[Hashable, MaskedState]  # label -> state of its transformation


@errors.options
def masked(
    inner: GradientTransformation,
    mask: PyTree | Callable[[Params], PyTree],
    *,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformation:
    """`inner` on the leaves where the mask is True; the others pass as they are and have no state.

    mask: a tree of bools like the parameters, or a prefix of one, or a function of the parameters that makes it; an
        array of one bool is one. A module of bools is a tree, also where it can be called.
    mask_compatible_extra_args: mask also those extra arguments that are trees like the parameters.

    Raises TransformationError when made; TreeError, when traced, for a mask that is no tree of bools or fits no
    prefix. To freeze the other leaves, use `partition` with `set_to_zero()`: here they keep their gradient.
    """
    pair = errors.check_pair("masked", "inner", inner)
    who = f"masked({name_of(pair)})"
    groups = _Groups({True: pair}, mask, who, mask_compatible_extra_args, labels=(True, False))

    def init(params: Params, **problem: Any) -> MaskedState:
        return groups.init(params, **problem)[True]

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        state = as_state(who, state, MaskedState)
        updates, states = groups.update(updates, {True: state}, params, **extra)
        return updates, states[True]

    return pair_of(who, init, update)


@errors.options
def partition(
    transforms: Mapping[Hashable, GradientTransformation],
    param_labels: PyTree | Callable[[Params], PyTree],
    *,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformation:
    """Each leaf to the transformation of its label: partition({"w": adam(1e-3), "b": sgd(1e-2)}, labels).

    param_labels: a tree of labels like the parameters, or a prefix of one, or a function that makes it. A module of
        labels is a tree, also where it can be called.
    Each leaf is computed once, however many labels there are; what grows with them is taking the tree apart.

    Raises TransformationError when made; TreeError, when traced, naming the path of a leaf whose label has no
    transformation.
    """
    who = "partition"
    errors.check_labels(who, transforms)
    pairs = {label: errors.check_pair(who, f"transforms[{label!r}]", pair) for label, pair in transforms.items()}
    groups = _Groups(pairs, param_labels, who, mask_compatible_extra_args, labels=tuple(pairs))

    def init(params: Params, **problem: Any) -> PartitionState:
        return PartitionState(groups.init(params, **problem))

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        state = as_state(who, state, PartitionState)
        errors.check_state_keys(who, state.inner_states, tuple(pairs))
        updates, states = groups.update(updates, state.inner_states, params, **extra)
        return updates, PartitionState(states)

    return pair_of(who, init, update)


@errors.options
def labels_by_path(patterns: Mapping[str, Any], otherwise: Any = None) -> Callable[[PyTree], PyTree]:
    """A function that labels every leaf by the first pattern found in its path, layers/0/query/kernel; or `otherwise`.

    patterns: regular expression -> label. partition({"matrix": …, "rest": adamw(1e-3)},
    labels_by_path({"embed|head|bias|scale": "rest"}, "matrix")). Raises HyperparameterError for no expression.
    """
    compiled = [(errors.check_pattern("labels_by_path", pattern), label) for pattern, label in patterns.items()]

    def labels(params: PyTree) -> PyTree:
        def label_of(path: Any, leaf: Any) -> Any:
            spelled = jax.tree_util.keystr(path, simple=True, separator="/")
            return next((label for pattern, label in compiled if pattern.search(spelled)), otherwise)

        return jax.tree_util.tree_map_with_path(label_of, params, is_leaf=tree.is_none)

    return labels


def labels_of_mask(who: str, mask: PyTree | Callable[[Params], PyTree], names: Mapping[bool, Hashable]) -> Any:
    """A mask, as of `masked`, as a function that labels: names[True] where it is True."""

    def labels(params: Params) -> PyTree:
        flags, parts, treedef = tree.under(who, "mask", mask, params)
        made = treedef.unflatten(flags)
        return treedef.unflatten(
            None if part is None else names[errors.check_bool(who, made, i, flag)]
            for i, (part, flag) in enumerate(zip(parts, flags, strict=True))
        )

    return labels


multi_transform, MultiTransformState = partition, PartitionState  # optax's older names


@with_parts("labels_of", "allowed", "inits", "updates")
class _Groups:
    """Leaves dealt out by label; a leaf whose label has no transformation (a mask's False) passes unchanged."""

    def __init__(
        self,
        pairs: Mapping[Hashable, GradientTransformation],
        labels_of: PyTree | Callable[[Params], PyTree],
        who: str,
        deal_extra: bool,
        labels: tuple[Hashable, ...],
    ) -> None:
        self.labels_of, self.who, self.deal_extra = labels_of, who, deal_extra
        self.allowed = {label: label for label in labels}
        self.inits = {label: taking(pair.init, 1) for label, pair in pairs.items()}
        self.updates = {label: taking(pair.update, 3) for label, pair in pairs.items()}

    def init(self, params: Params, **problem: Any) -> dict[Hashable, MaskedState]:
        if is_any(params):
            return {label: MaskedState(init(params, **problem)) for label, init in self.inits.items()}
        deal = self._dealer(params, *self._owned(params))
        return {label: MaskedState(init(deal(label), **problem)) for label, init in self.inits.items()}

    def update(
        self, updates: Updates, states: Mapping[Hashable, MaskedState], params: Params, **extra: Any
    ) -> tuple[Updates, dict[Hashable, MaskedState]]:
        structure = tree.structure(updates, none_is_leaf=True)
        fits = params is not None and self._fits(params, structure)  # what reads other parameters will say so
        owned, treedef = self._owned(params if fits else updates)
        updates_of = self._dealer(updates, owned, treedef)
        params_of = self._dealer(params, owned, treedef) if fits else _all_of(params)
        extra_of = {
            key: self._dealer(value, owned, treedef)
            if self.deal_extra and self._fits(value, structure)
            else _all_of(value)
            for key, value in extra.items()
        }
        parts = treedef.flatten_up_to(updates)
        new: dict[Hashable, MaskedState] = {}
        for label, update in self.updates.items():
            mine, part = {key: of(label) for key, of in extra_of.items()}, updates_of(label)
            inner = as_state(self.who, states[label], MaskedState).inner_state
            steps, state = update(part, inner, params_of(label), **mine)
            new[label] = MaskedState(state)
            if not self._fits(steps, tree.structure(part, none_is_leaf=True)):
                errors.structure_mismatch(self.who, f"updates of {label!r}", steps, "gradients", part)
            dealt = treedef.flatten_up_to(steps)
            for i in owned.get(label, ()):
                parts[i] = dealt[i]
        return treedef.unflatten(parts), new

    def _owned(self, full: PyTree) -> tuple[dict[Hashable, list[int]], Any]:
        """label -> the numbers of its parts of a tree, leaves or all below a node; and the structure of the parts."""
        labels, parts, treedef = tree.under(self.who, "labels", self.labels_of, full)
        owned: dict[Hashable, list[int]] = {}
        for i, (said, part) in enumerate(zip(labels, parts, strict=True)):
            label, known = self._known(said)
            if known:
                owned.setdefault(label, []).append(i)
            elif jax.tree.leaves(part):
                leaves = tree.flatten(parts[: i + 1], none_is_leaf=True)[0]
                own = tree.flatten(part, none_is_leaf=True)[0]
                first = len(leaves) - len(own) + next(j for j, leaf in enumerate(own) if leaf is not None)
                errors.unknown_label(
                    self.who, errors.path_of(full, first, none_is_leaf=True), label, tuple(self.allowed)
                )
        return owned, treedef

    def _known(self, label: Any) -> tuple[Any, bool]:
        """A label, an array of one bool as that bool; is it one of ours? 1 is not True."""
        label = errors.as_bool(label)
        known = isinstance(label, Hashable) and label in self.allowed
        return label, known and isinstance(label, bool) == isinstance(self.allowed[label], bool)

    @staticmethod
    def _dealer(full: PyTree, owned: Mapping[Hashable, Sequence[int]], treedef: Any) -> Callable[[Hashable], PyTree]:
        """label -> the tree with its parts alone, one MaskedNode for each of another label."""
        parts = treedef.flatten_up_to(full)

        def part_of(label: Hashable) -> PyTree:
            dealt: list[Any] = [MaskedNode()] * len(parts)
            for i in owned.get(label, ()):
                dealt[i] = parts[i]
            return treedef.unflatten(dealt)

        return part_of

    @staticmethod
    def _fits(value: Any, treedef: Any) -> bool:
        return bool(tree.structure(value, none_is_leaf=True) == treedef)


def _all_of(value: Any) -> Callable[[Hashable], Any]:
    return lambda label: value


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


@with_parts("schedule_fn")
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
    """`inner_factory` with its numeric arguments kept in the state, where they can be read and set.

    opt = inject_hyperparams(adam)(1e-3); state.hyperparams["learning_rate"] = jnp.asarray(1e-4) between steps.
    Numbers and arrays are kept, schedules read at each step, a `StatefulSchedule` with the extra arguments of update
    (for our own factories: those of the parameters that take a Hyper); the rest, and `static_args`, go to the factory
    as they are.

    hyperparam_dtype: of all of them, float32 at least by default. What would be 1 or 0 in it and is not stays in
    float32: bfloat16 has nothing between 0.996 and 1. So does a decay whose value is not known, scheduled or traced.

    Every hyperparameter here may be traced or scheduled without this wrapper; use it to see or change one from
    outside a compiled step. Raises HyperparameterError for a static argument that the factory does not have.
    """
    errors.check_factory("inject_hyperparams", inner_factory)
    errors.check_words("inject_hyperparams", "static_args", static_args)
    errors.check_dtype("inject_hyperparams", "hyperparam_dtype", hyperparam_dtype)
    signature = inspect.signature(inner_factory)
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    who = f"inject_hyperparams({getattr(inner_factory, '__name__', 'factory')})"
    errors.check_subset(who, "static_args", static, signature.parameters)
    ours = [p.name for p in signature.parameters.values() if "Hyper" in str(p.annotation)]

    def injectable(key: str, value: Any) -> bool:
        if key in static or isinstance(value, bool | str) or value is None or (ours and key not in ours):
            return False
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended):
            return False  # a PRNG key is no number
        return callable(value) or isinstance(value, int | float | np.ndarray | np.number | jax.Array)

    @functools.wraps(inner_factory)
    def factory(*args: Any, **kwargs: Any) -> GradientTransformation:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments |= arguments.pop(parameter.name, {})
        hypers = {key: value for key, value in arguments.items() if injectable(key, value)}
        schedules = {
            key: value if isinstance(value, StatefulSchedule) else WrappedSchedule(value)
            for key, value in hypers.items()
            if callable(value)
        }
        dtypes = {key: _kept_in(hyperparam_dtype, key, value) for key, value in hypers.items()}

        given = dict(bound.arguments)

        def inner(hyperparams: Mapping[str, Any]) -> GradientTransformation:
            named_ = {key: value for key, value in hyperparams.items() if key in given}
            again = inspect.BoundArguments(signature, {**given, **named_})
            rest = {key: value for key, value in hyperparams.items() if key not in given}
            return inner_factory(*again.args, **{**again.kwargs, **rest})

        # Bad values are refused now, not when traced.
        made = inner({key: lambda _, s=value: s(s.init()) for key, value in schedules.items()})

        def now(states: Mapping[str, Any], **extra: Any) -> dict[str, jax.Array]:
            """The values of all schedules."""
            values = {}
            for key, schedule in schedules.items():
                with jax.numpy_dtype_promotion("standard"):  # a schedule is free to mix its step with floats
                    value = taking(schedule, 1)(states[key], **extra)
                errors.check_schedule_value(who, key, value)
                values[key] = jnp.asarray(value).astype(dtypes[key])
            return values

        def init(params: Params, **problem: Any) -> InjectStatefulHyperparamsState:
            count, states = zero_count(), {key: schedule.init() for key, schedule in schedules.items()}
            plain = {key: value for key, value in hypers.items() if not callable(value)}
            values = {key: value_at(value, count, who, key).astype(dtypes[key]) for key, value in plain.items()}
            values |= now(states)
            values = {key: values[key] for key in hypers}
            state = taking(inner(values).init, 1)(params, **problem)
            return InjectStatefulHyperparamsState(count, values, states, state)

        def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
            state = as_state(who, state, InjectStatefulHyperparamsState)
            errors.check_state_keys(who, state.hyperparams, tuple(hypers))
            values = {key: jnp.asarray(value, dtypes[key]) for key, value in state.hyperparams.items()}
            values |= now(state.hyperparams_states, **extra)
            states = {
                key: taking(schedule.update, 1)(state.hyperparams_states[key], **extra)
                for key, schedule in schedules.items()
            }
            updates, new = taking(inner(values).update, 3)(updates, state.inner_state, params, **extra)
            return updates, InjectStatefulHyperparamsState(next_count(state.count), values, states, new)

        return pair_of(f"inject_hyperparams({name_of(made)})", init, update)

    return factory


def inject_stateful_hyperparams(
    inner_factory: Callable[..., GradientTransformation],
    static_args: str | Iterable[str] = (),
    hyperparam_dtype: DType | None = None,
) -> Callable[..., GradientTransformation]:
    """Deprecated name of `inject_hyperparams`."""
    errors.deprecated("inject_stateful_hyperparams", "inject_hyperparams")
    return inject_hyperparams(inner_factory, static_args, hyperparam_dtype)
