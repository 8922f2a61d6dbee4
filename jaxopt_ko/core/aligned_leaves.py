"""Gradients, parameters and state as lists of leaves in one order, for a function of one leaf."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.checks import check_leaf, check_room, memory_mismatch, shape_mismatch, structure_mismatch
from jaxopt_ko.core.leaf_rule import Memory
from jaxopt_ko.core.numerics import is_complex
from jaxopt_ko.types import DType, Params, PyTree, Updates


class AlignedLeaves:
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
        placed = placement.any_on_mesh(jax.tree.leaves((self.g, self.fields)))
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
            own, near = p if with_params else None, jnp.asarray(g)
            if placed:
                memory = placement.on_device(memory, after=self.g[:index][-1:])
                own, near = (placement.where_memory_is(x, memory) for x in (own, near))
            step, new = leaf(near, own, memory, out=out, stacks=stack)
            if placed:
                step = placement.placed_as(step, g)
                new = tuple(
                    placement.all_placed_as(x, column[index]) for x, column in zip(new, self.fields, strict=True)
                )
            self.g[index] = step
            for column, value in zip(self.fields, new, strict=True):
                column[index] = value

    def _path(self, index: int) -> str:
        return errors.path_of(self.tree, index, none_is_leaf=self.sparse)

    def updates(self) -> Updates:
        """The steps, a tree like the gradients."""
        return self.treedef.unflatten(self.g)

    def columns(self) -> list[PyTree]:
        """The new memory: for each field of the state, a tree like the gradients."""
        return [self.treedef.unflatten(column) for column in self.fields]


def _step_dtype(g: Any, p: Any) -> DType:
    """What holds gradient and parameter both."""
    own = tree.dtype_of(g)
    if p is None or getattr(p, "dtype", None) == own or not tree.is_floating(p):
        return own
    return tree.common_dtype(own, tree.dtype_of(p))
