"""Leaves taken as matrices, those of one shape stacked: a rule runs once for each distinct shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors, tree
from jaxopt_ko.types import PyTree


class MatrixAxes(NamedTuple):
    """How a leaf is read as a stack of matrices: the axes named here make rows and columns, the rest is the stack."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    parts: int = 1  # so many matrices lie side by side in the columns

    def shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """(N, rows, columns) of a leaf of this shape."""
        rows, columns = (math.prod(shape[axis] for axis in axes) for axes in (self.rows, self.columns))
        columns //= self.parts
        return math.prod(shape) // max(rows * columns, 1), rows, columns


def trailing(ndim: int) -> MatrixAxes:
    """The last two axes of a leaf are its matrices."""
    return MatrixAxes((ndim - 2,), (ndim - 1,))


def prefix_of(
    who: str, name: str, prefix: PyTree, full: PyTree, is_leaf: Callable[[Any], bool] = tree.is_none
) -> list[Any]:
    """The value of `prefix`, a tree or one value, for each leaf of `full`."""
    values: list[Any] = []
    try:
        jax.tree.map(lambda own, part: values.extend([own] * len(jax.tree.leaves(part))), prefix, full, is_leaf=is_leaf)
        return values
    except ValueError:
        errors.structure_mismatch(who, name, prefix, "params (or a prefix of them)", full)


def count_stack_axes(who: str, full: PyTree, stack_axes: PyTree) -> list[int]:
    """How many axes of each leaf stand before its matrices. Raises TreeError for a leaf that is no matrix behind."""
    counts = tree.stacks(who, stack_axes, full)
    for i, (leaf, count) in enumerate(zip(tree.flatten(full)[0], counts, strict=True)):
        if np.ndim(leaf) != count + 2:
            errors.no_matrix(who, full, i, leaf, f"{count} stack axes and a matrix behind them")
    return counts


def matrix_labels(who: str, stack_axes: PyTree) -> Callable[[PyTree], PyTree]:
    """params -> "matrix" where a leaf has two axes behind its stack axes, else "rest"."""

    def labels(params: PyTree) -> PyTree:
        leaves, treedef = tree.flatten(params)
        counts = tree.stacks(who, stack_axes, params)
        matrix = [np.ndim(leaf) == count + 2 for leaf, count in zip(leaves, counts, strict=True)]
        return treedef.unflatten(["matrix" if flag else "rest" for flag in matrix])

    return labels


def grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """The places of equal keys, together."""
    groups: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def joined(leaves: Sequence[jax.Array], where: Sequence[tuple[int, tuple[int, ...]]]) -> jax.Array:
    """Leaves [*stack, …] -> [N, …]; where: (index, shape of the stack) of each."""
    flat = [x.reshape(math.prod(lead), *x.shape[len(lead) :]) for x, (_, lead) in zip(leaves, where, strict=True)]
    return flat[0] if len(flat) == 1 else jnp.concatenate(flat)


def parted(stack: jax.Array, where: Sequence[tuple[int, tuple[int, ...]]]) -> list[jax.Array]:
    """The way back from `joined`."""
    sizes = [math.prod(lead) for _, lead in where]
    parts = jnp.split(stack, np.cumsum(sizes)[:-1]) if len(sizes) > 1 else [stack]
    return [part.reshape(*lead, *stack.shape[1:]) for part, (_, lead) in zip(parts, where, strict=True)]


def on_stacks(
    function: Callable[..., jax.Array], axes: Sequence[MatrixAxes], *trees: Sequence[jax.Array], when: jax.Array
) -> list[jax.Array]:
    """The leaves of function(stack of each of the trees' leaves, …), [N, m, n] each; one call for each distinct shape.

    when: bool[], zeros where it is False. As a branch each stack is worked off before the next: left to itself XLA
    on CPU goes at all stacks at a time, with the memory of all.
    """
    kinds = [
        (own.shape(parts[0].shape)[1:], *(x.dtype for x in parts)) for own, *parts in zip(axes, *trees, strict=True)
    ]
    result: list[Any] = [None] * len(axes)
    for members in grouped(kinds):
        own = [axes[i] for i in members]
        parts = [[leaves[i] for i in members] for leaves in trees]

        def made(*parts: list[jax.Array], own: Sequence[MatrixAxes] = own) -> jax.Array:
            return function(*(stack_like_shapes(leaves, own) for leaves in parts))

        shape = jax.eval_shape(made, *parts)
        stack = jax.lax.cond(when, made, lambda *_, shape=shape: jnp.zeros(shape.shape, shape.dtype), *parts)
        shapes = [x.shape for x in parts[0]]
        where = [(i, axes[i].shape(shape)[:1]) for i, shape in zip(members, shapes, strict=True)]
        for i, part, shape in zip(members, parted(stack, where), shapes, strict=True):
            result[i] = leaf_of(part, shape, axes[i])
    return result


def stack_like_shapes(leaves: Sequence[jax.Array], axes: Sequence[MatrixAxes]) -> jax.Array:
    """Every matrix of leaves whose matrices have one shape: [N, m, n]."""
    views = [matrices_of(leaf, own) for leaf, own in zip(leaves, axes, strict=True)]
    return joined(views, [(i, view.shape[:1]) for i, view in enumerate(views)])


def _order(ndim: int, axes: MatrixAxes) -> tuple[int, ...]:
    """The axes of a leaf, those of the stack first, then rows, then columns."""
    stack = tuple(axis for axis in range(ndim) if axis not in (*axes.rows, *axes.columns))
    return (*stack, *axes.rows, *axes.columns)


def matrices_of(leaf: jax.Array, axes: MatrixAxes) -> jax.Array:
    """A leaf -> [N, m, n]."""
    view = leaf.transpose(_order(leaf.ndim, axes))
    N, m, n = axes.shape(leaf.shape)
    if axes.parts == 1:
        return view.reshape(N, m, n)
    return view.reshape(N // axes.parts, m, axes.parts, n).swapaxes(1, 2).reshape(N, m, n)


def leaf_of(matrices: jax.Array, shape: tuple[int, ...], axes: MatrixAxes) -> jax.Array:
    """[N, m, n] -> the leaf."""
    order = _order(len(shape), axes)
    if axes.parts > 1:
        N, m, n = matrices.shape
        matrices = matrices.reshape(N // axes.parts, axes.parts, m, n).swapaxes(1, 2)
    return matrices.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
