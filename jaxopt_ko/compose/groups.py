"""Parts of a tree: masks, and groups by label."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_state_keys, not_a_bool, structure_mismatch
from jaxopt_ko.core.hyperparameters import as_state
from jaxopt_ko.core.method import Method, filter_kwargs, make_transformation, method_of, name_of, pytree_class
from jaxopt_ko.core.numerics import common_dtype
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree_fields import is_any
from jaxopt_ko.errors import TransformationError, TreeError, describe, path_of, say
from jaxopt_ko.types import GradientTransformation, MaskedNode, MaskOrFn, Params, PyTree, State, Updates

# ---- parts of a tree ------------------------------------------------------------------------------------


class MaskedState(NamedTuple):
    """State of `masked`."""

    inner_state: State  # of the inner transformation, MaskedNode() at the leaves left out


class PartitionState(NamedTuple):
    """State of `partition`."""

    inner_states: dict[Hashable, MaskedState]  # label -> state of its transformation


@options
def masked(
    inner: GradientTransformation,
    mask: MaskOrFn,
    *,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformation:
    """A transformation on the leaves where the mask is True; the others pass as they are and have no state.

    u = the step of inner where the mask is True, else g

    inner: the transformation for the leaves where the mask is True; it sees `MaskedNode()` in the place of others.
    mask: a tree of bools like the parameters, or a prefix of one, or a function of the parameters that makes it; an
        array of one bool is one. A module of bools is a tree, also where it can be called.
    mask_compatible_extra_args: mask also those extra arguments of update that are trees like the parameters; False, as
        in optax, since a tree may be like them by chance.

    State: that of inner for the leaves that it gets, nothing for others.

    Raises TransformationError, when made, if inner is no transformation; TreeError for a mask that is no tree of bools,
    when traced where it is a function, and for one that is no prefix of the parameters; HyperparameterTypeError for one
    that is no tree at all. Source: optax's masked. Not to freeze the other leaves, which here keep their gradient as a
    step: use `partition` with `set_to_zero()`, or `freeze`.

    >>> tx = jo.chain(jo.masked(jo.add_decayed_weights(0.1), {"w": True, "b": False}), jo.sgd(0.1))
    >>> params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    >>> updates, _ = tx.update(params, tx.init(params), params)
    """
    pair = errors.check_pair("masked", "inner", inner, lands=True)
    name = f"masked({name_of(pair)})"
    groups = _Groups({True: pair}, mask, name, mask_compatible_extra_args, labels=(True, False))

    def init(params: Params, **problem: Any) -> MaskedState:
        return groups.init(params, **problem)[True]

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        state = as_state(name, state, MaskedState)
        updates, states = groups.update(updates, {True: state}, params, **extra)
        return updates, states[True]

    return make_transformation(Method(name, lands=method_of(pair).lands), init, update)


@options
def partition(
    transforms: Mapping[Hashable, GradientTransformation],
    param_labels: PyTree | Callable[[Params], PyTree],
    *,
    mask_compatible_extra_args: bool = False,
) -> GradientTransformation:
    """Each leaf to the transformation of its label.

    u = the step of transforms[label of the leaf], for every leaf

    transforms: a dict, label -> transformation; labels are of one kind that sorts, all strings or all integers, since
        they are keys of a dict in the state.
    param_labels: a tree of labels like the parameters, or a prefix of one, or a function that makes it
        (`labels_by_path`). A module of labels is a tree, also where it can be called.
    mask_compatible_extra_args: give each group its own part of those extra arguments of update that are trees like the
        parameters; False, as in optax, since a tree may be like them by chance.

    State: PartitionState({label: state}), each for its own leaves. Each leaf is computed once, however many labels
    there are; what grows with them is taking the tree apart.

    Raises TransformationError when made; TreeError, when traced, naming the path of a leaf whose label has no
    transformation. Source: optax's partition, formerly multi_transform. Not for a learning rate alone that differs by
    group: `scale_by_group`; to choose by role and shape: `route`.

    >>> tx = jo.partition({"matrix": jo.muon(0.02), "rest": jo.adamw(1e-3)}, {"w": "matrix", "b": "rest"})
    >>> state = tx.init({"w": jnp.ones((2, 2)), "b": jnp.ones(2)})
    >>> sorted(state.inner_states)
    ['matrix', 'rest']
    """
    name = "partition"
    _check_labels(name, transforms)
    pairs = {
        label: errors.check_pair(name, f"transforms[{label!r}]", pair, lands=True) for label, pair in transforms.items()
    }
    groups = _Groups(pairs, param_labels, name, mask_compatible_extra_args, labels=tuple(pairs))

    def init(params: Params, **problem: Any) -> PartitionState:
        return PartitionState(groups.init(params, **problem))

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        state = as_state(name, state, PartitionState)
        check_state_keys(name, state.inner_states, tuple(pairs))
        updates, states = groups.update(updates, state.inner_states, params, **extra)
        return updates, PartitionState(states)

    return make_transformation(Method(name, lands=common_landing(pairs.values())), init, update)


def common_landing(pairs: Iterable[GradientTransformation]) -> np.dtype[Any] | None:
    """The dtype that holds the steps of those `pairs` that land exactly on numbers of 16 bits; None if none does."""
    known = [lands for pair in pairs if (lands := method_of(pair).lands) is not None]
    return common_dtype(*known) if known else None


def _check_labels(name: str, transforms: Any) -> None:
    """The labels of a partition are keys of a dict in its state, which JAX sorts."""
    if not isinstance(transforms, Mapping):
        say(TransformationError, name, "transforms must be a dict: label -> transformation", describe(transforms),
            'Write {"a": adam(1e-3), "b": sgd(0.1)}')  # fmt: skip
    try:
        sorted(transforms)
    except TypeError:
        say(TransformationError, name, "labels must be of one kind that sorts, all strings or all integers",
            f"{list(transforms)}", "Use strings")  # fmt: skip


@options
def labels_by_path(patterns: Mapping[str, Any], otherwise: Any = None) -> Callable[[PyTree], PyTree]:
    """A function that labels every leaf by the first pattern found in its path, layers/0/query/kernel.

    label of a leaf = patterns[first expression that is found somewhere in its path], or otherwise

    patterns: a dict, regular expression -> label, tried in its order.
    otherwise: the label of leaves in whose path none is found; None by default.

    Returns a function params -> tree of labels, for `partition`, or of bools, for `masked`. Raises HyperparameterError
    for no regular expression, TransformationError for no dict. Not where shapes decide, as in Muon: see `route`.

    >>> labels = jo.labels_by_path({"embed|head|bias|scale": "rest"}, "matrix")
    >>> labels({"query": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}})
    {'query': {'bias': 'rest', 'kernel': 'matrix'}}
    """
    compiled = [(errors.check_pattern("labels_by_path", pattern), label) for pattern, label in patterns.items()]

    def labels(params: PyTree) -> PyTree:
        def label_of(path: Any, leaf: Any) -> Any:
            spelled = jax.tree_util.keystr(path, simple=True, separator="/")
            return next((label for pattern, label in compiled if pattern.search(spelled)), otherwise)

        return jax.tree_util.tree_map_with_path(label_of, params, is_leaf=tree.is_none)

    return labels


def labels_of_mask(name: str, mask: MaskOrFn, names: Mapping[bool, Hashable]) -> Any:
    """A mask, as of `masked`, as a function that labels: names[True] where it is True. name: who speaks in errors."""

    def labels(params: Params) -> PyTree:
        flags, parts, treedef = tree.flatten_by_prefix(name, "mask", mask, params)
        made = treedef.unflatten(flags)
        return treedef.unflatten(
            None if part is None else names[_check_bool(name, made, i, flag)]
            for i, (part, flag) in enumerate(zip(parts, flags, strict=True))
        )

    return labels


def _check_bool(name: str, mask: PyTree, index: int, value: Any) -> bool:
    """A leaf of a mask: a bool, or an array of one."""
    value = _as_bool(value)
    if not isinstance(value, bool):
        not_a_bool(name, "mask", path_of(mask, index, none_is_leaf=True), value)
    return value


multi_transform, MultiTransformState = partition, PartitionState  # optax's older names


@pytree_class("labels_of", "allowed", "inits", "updates")
class _Groups:
    """Leaves dealt out by label; a leaf whose label has no transformation (a mask's False) passes unchanged."""

    def __init__(
        self,
        pairs: Mapping[Hashable, GradientTransformation],
        labels_of: PyTree | Callable[[Params], PyTree],
        name: str,
        deal_extra: bool,
        labels: tuple[Hashable, ...],
    ) -> None:
        self.labels_of, self.name, self.deal_extra = labels_of, name, deal_extra
        self.allowed = {label: label for label in labels}
        self.inits = {label: filter_kwargs(pair.init, 1) for label, pair in pairs.items()}
        self.updates = {label: filter_kwargs(pair.update, 3) for label, pair in pairs.items()}

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
            inner = as_state(self.name, states[label], MaskedState).inner_state
            steps, state = update(part, inner, params_of(label), **mine)
            new[label] = MaskedState(state)
            if not self._fits(steps, tree.structure(part, none_is_leaf=True)):
                structure_mismatch(self.name, f"updates of {label!r}", steps, "gradients", part)
            dealt = treedef.flatten_up_to(steps)
            for i in owned.get(label, ()):
                parts[i] = dealt[i]
        return treedef.unflatten(parts), new

    def _owned(self, full: PyTree) -> tuple[dict[Hashable, list[int]], Any]:
        """label -> the numbers of its parts of a tree, leaves or all below a node; and the structure of the parts."""
        labels, parts, treedef = tree.flatten_by_prefix(self.name, "labels", self.labels_of, full)
        owned: dict[Hashable, list[int]] = {}
        for i, (said, part) in enumerate(zip(labels, parts, strict=True)):
            label, known = self._known(said)
            if known:
                owned.setdefault(label, []).append(i)
            elif jax.tree.leaves(part):
                leaves = tree.flatten(parts[: i + 1], none_is_leaf=True)[0]
                own = tree.flatten(part, none_is_leaf=True)[0]
                first = len(leaves) - len(own) + next(j for j, leaf in enumerate(own) if leaf is not None)
                _unknown_label(self.name, errors.path_of(full, first, none_is_leaf=True), label, tuple(self.allowed))
        return owned, treedef

    def _known(self, label: Any) -> tuple[Any, bool]:
        """A label, an array of one bool as that bool; is it one of ours? 1 is not True."""
        label = _as_bool(label)
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


def _as_bool(value: Any) -> Any:
    """An array of one truth value as a bool; anything else as it is."""
    whole = getattr(value, "dtype", None) == np.bool_ and np.size(value) == 1
    return bool(np.asarray(value).item()) if whole and not isinstance(value, jax.core.Tracer) else value


def _unknown_label(name: str, path: str, label: Any, allowed: Sequence[Any]) -> NoReturn:
    """A leaf that no group takes."""
    if name.startswith("masked"):
        not_a_bool(name, "mask", path, label)
    say(TreeError, name, f"no transformation has the label of the leaf {path}", f"label {label!r}",
        f"Labels with a transformation: {', '.join(map(repr, allowed))}")  # fmt: skip


def _all_of(value: Any) -> Callable[[Hashable], Any]:
    return lambda label: value
