"""What a tree leaves out, and what is said of a tree by a prefix of it: masks, labels, numbers of stack axes.

A leaf is left out by None, a gradient that is not there, or by MaskedNode(), what a masked transformation sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core.checks import structure_mismatch
from jaxopt_ko.core.leaves import flatten, is_floating, is_left_out, is_none
from jaxopt_ko.core.tree_fields import is_any
from jaxopt_ko.errors import TreeError, describe, say
from jaxopt_ko.types import MaskedNode, PyTree

__all__ = [
    "fill_none", "flatten_by_prefix", "floating_only", "in_order", "left_out_as", "map_given", "masked_as",
    "none_as", "put_back", "resolve_prefix", "stacks",
]  # fmt: skip


def stacks(name: str, stack_axes: PyTree, tree: PyTree, none_is_leaf: bool = False) -> list[int]:
    """How many leading axes of each leaf are stacks, said for all by an integer or by a prefix of the tree."""
    leaves, _ = flatten(tree, none_is_leaf)
    if isinstance(stack_axes, int) or is_any(tree):
        counts: list[int] = [stack_axes] * len(leaves)
    else:
        try:
            fitted = left_out_as(stack_axes, tree)
            spread = jax.tree.broadcast(fitted, tree, is_leaf=is_none if none_is_leaf else None)
        except ValueError:
            structure_mismatch(name, "stack_axes", stack_axes, "params (or a prefix of them)", tree)
        counts = [count or 0 for count in flatten(spread, none_is_leaf)[0]]  # None where the leaf is
    for index, (leaf, count) in enumerate(zip(leaves, counts, strict=True)):
        if count and leaf is not None and np.ndim(leaf) < count:
            _too_few_axes(name, errors.path_of(tree, index, none_is_leaf), leaf, count)
    return counts


def _too_few_axes(name: str, path: str, leaf: Any, stack: int) -> NoReturn:
    """A leaf that cannot be a stack of others."""
    say(TreeError, name, f"the leaf {path} must have the {stack} leading axes that stack_axes says are stacks",
        describe(leaf), "Give a tree: stack_axes={'layers': 1, 'head': 0}")  # fmt: skip


def masked_as(tree: PyTree, other: PyTree) -> PyTree:
    """`other` with a MaskedNode wherever `tree` has one: a file that was read without a target has None there."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(tree, is_leaf=lambda x: x is None or isinstance(x, MaskedNode))
    if not any(isinstance(leaf, MaskedNode) for leaf in leaves):
        return other
    try:
        parts = treedef.flatten_up_to(other)
    except ValueError:
        return other
    both = zip(leaves, parts, strict=True)
    return treedef.unflatten([
        leaf if part is None and isinstance(leaf, MaskedNode) else part for leaf, part in both
    ])  # fmt: skip


def in_order(name: str, what: str, other: PyTree, tree: PyTree, treedef: Any) -> list[Any]:
    """What another tree has at each leaf of `tree`, whose structure is `treedef`."""
    try:
        return list(treedef.flatten_up_to(masked_as(tree, other)))
    except ValueError:
        structure_mismatch(name, what, other, "gradients", tree)


def none_as(updates: PyTree, full: PyTree) -> PyTree:
    """`full` with None wherever `updates` has None."""
    leaves, treedef = flatten(updates, none_is_leaf=True)
    others = treedef.flatten_up_to(full)
    return treedef.unflatten([None if u is None else x for u, x in zip(leaves, others, strict=True)])


def fill_none(updates: PyTree, full: PyTree) -> PyTree:
    """`updates`, with the leaves of `full` where it has None."""
    leaves, treedef = flatten(updates, none_is_leaf=True)
    others = treedef.flatten_up_to(full)
    return treedef.unflatten([x if u is None else u for u, x in zip(leaves, others, strict=True)])


def floating_only(tree: PyTree) -> PyTree:
    """The tree with MaskedNode() for the leaves that cannot be trained."""
    return jax.tree.map(lambda leaf: leaf if is_floating(leaf) else MaskedNode(), tree)


def left_out_as(full: PyTree, memory: PyTree) -> PyTree:
    """`full`, a tree like `memory` or a prefix of one, with MaskedNode() wherever `memory` has one: for a leaf, or for
    all below a node. What fits neither way comes back as it is, for the checks to refuse."""
    if not any(isinstance(leaf, MaskedNode) for leaf in jax.tree.leaves(memory, is_leaf=is_left_out)):
        return full
    return _left_out(full, memory)


def _left_out(full: PyTree, memory: PyTree) -> PyTree:
    if isinstance(memory, MaskedNode):
        return memory
    treedef: Any
    parts, treedef = jax.tree.flatten(memory, is_leaf=lambda node: node is not memory)  # one level
    if jax.tree_util.treedef_is_leaf(treedef):
        return full
    try:
        return treedef.unflatten(map(_left_out, treedef.flatten_up_to(full), parts))
    except ValueError:
        return full  # one value for all below, or no tree that fits


def put_back(part: PyTree, full: PyTree) -> PyTree:
    """`part`, a tree like `full`, with what it has left out of `full`: leaves, or all below a node."""
    treedef: Any
    kept, treedef = jax.tree.flatten(part, is_leaf=is_left_out)
    parts = treedef.flatten_up_to(full)
    return treedef.unflatten(x if isinstance(y, MaskedNode) else y for x, y in zip(parts, kept, strict=True))


def resolve_prefix(full: PyTree, prefix: PyTree, is_leaf: Callable[[Any], bool] = is_none) -> PyTree:
    """What is said of the leaves of `full` by a tree like it, by a prefix of one, or by a function that makes it;
    nothing is said of what `full` leaves out.

    A module that can be called is a tree like any other, if it has leaves and fits, or is of the class of `full`.
    """
    if callable(prefix):
        own = jax.tree.leaves(prefix, is_leaf=is_leaf)
        if not own or own[0] is prefix:
            return prefix(full)
    said = left_out_as(prefix, full)
    if callable(prefix) and type(prefix) is not type(full):
        try:
            jax.tree.map(lambda *_: None, said, full, is_leaf=is_leaf)
        except ValueError:
            return prefix(full)
    return said


def flatten_by_prefix(name: str, what: str, prefix: PyTree, full: PyTree) -> tuple[list[Any], list[PyTree], Any]:
    """What such a tree, prefix or function says, what of `full` each of it is said of, leaves or all below a node, and
    the structure of both; a None in the prefix is a leaf. TreeError if it is no prefix."""
    made = resolve_prefix(full, prefix)
    treedef: Any
    said, treedef = flatten(made, none_is_leaf=True)
    try:
        return said, treedef.flatten_up_to(full), treedef
    except ValueError:
        structure_mismatch(name, what, made, "params (or a prefix of them)", full)


def map_given(leaf: Callable[[Any, Any], Any], first: PyTree, second: PyTree) -> PyTree:
    """leaf(x, y) for each x of the first tree, None where that has None, whatever the second has there."""
    return jax.tree.map(lambda x, y: None if x is None else leaf(x, y), first, second, is_leaf=is_none)
