"""Leaves taken as matrices, those of one shape stacked: a rule runs once for each distinct shape."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import no_matrix, structure_mismatch
from jaxopt_ko.types import PyTree

Where = Sequence[tuple[int, tuple[int, ...]]]  # of a stack: (index, shape of the leaf's own stack) of each leaf
Places = Mapping[int, jax.Array]  # n -> uint32[], which is n


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
    name: str, argument: str, prefix: PyTree, full: PyTree, is_leaf: Callable[[Any], bool] = tree.is_none
) -> list[Any]:
    """The value of `prefix`, a tree or one value, for each leaf of `full`."""
    values: list[Any] = []
    try:
        jax.tree.map(lambda own, part: values.extend([own] * len(jax.tree.leaves(part))), prefix, full, is_leaf=is_leaf)
        return values
    except ValueError:
        structure_mismatch(name, argument, prefix, "params (or a prefix of them)", full)


def count_stack_axes(name: str, full: PyTree, stack_axes: PyTree) -> list[int]:
    """How many axes of each leaf stand before its matrices. Raises TreeError for a leaf that is no matrix behind."""
    counts = tree.stacks(name, stack_axes, full)
    for i, (leaf, count) in enumerate(zip(tree.flatten(full)[0], counts, strict=True)):
        if np.ndim(leaf) != count + 2:
            no_matrix(name, full, i, leaf, f"{count} stack axes and a matrix behind them")
    return counts


def matrix_labels(
    name: str, stack_axes: PyTree, names: tuple[str, str] = ("matrix", "rest")
) -> Callable[[PyTree], PyTree]:
    """params -> "matrix" where a leaf has two axes behind its stack axes, else "rest"; or other names."""

    def labels(params: PyTree) -> PyTree:
        leaves, treedef = tree.flatten(params)
        counts = tree.stacks(name, stack_axes, params)
        matrix = [np.ndim(leaf) == count + 2 for leaf, count in zip(leaves, counts, strict=True)]
        return treedef.unflatten([names[0] if flag else names[1] for flag in matrix])

    return labels


def grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """The places of equal keys, together."""
    groups: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def joined(leaves: Sequence[jax.Array], where: Where) -> jax.Array:
    """Leaves [*stack, …] -> [N, …]."""
    flat = [x.reshape(math.prod(lead), *x.shape[len(lead) :]) for x, (_, lead) in zip(leaves, where, strict=True)]
    return flat[0] if len(flat) == 1 else jnp.concatenate(flat)


def places(stacks: Sequence[Where], live: jax.Array) -> Places:
    """Where leaves begin in their stacks, as numbers that the compiler does not know.

    XLA on CPU compiles like kernels once: 32 slices of a stack at 32 known places cost ten times as much.
    live: bool[], true, but not provably so.
    """
    begins = {begin for where in stacks if len(where) > 1 for begin, _ in _spans(where)}
    if not begins or jax.default_backend() != "cpu":
        return {}
    known = sorted(begins)

    def numbers(by: int) -> Callable[[], tuple[jax.Array, ...]]:
        return lambda: tuple(jnp.uint32(by * n) for n in known)

    return dict(zip(known, jax.lax.cond(live, numbers(1), numbers(0)), strict=True))


def _spans(where: Where) -> list[tuple[int, int]]:
    """(begin, size) of each leaf in its stack."""
    sizes = [math.prod(lead) for _, lead in where]
    return list(zip(itertools.accumulate(sizes[:-1], initial=0), sizes, strict=True))


def parted(stack: jax.Array, where: Where, at: Places) -> list[jax.Array]:
    """The way back from `joined`; at: of `places`, for none of which the compiler knows them."""
    spans = _spans(where)
    zeros = [jnp.uint32(0)] * (stack.ndim - 1)

    def part(begin: int, size: int) -> jax.Array:
        if len(spans) == 1:
            return stack
        if begin not in at:
            return jax.lax.slice_in_dim(stack, begin, begin + size)
        return jax.lax.dynamic_slice(stack, (at[begin], *zeros), (size, *stack.shape[1:]))

    return [part(*span).reshape(*lead, *stack.shape[1:]) for span, (_, lead) in zip(spans, where, strict=True)]


def on_stacks(
    function: Callable[..., jax.Array],
    axes: Sequence[MatrixAxes],
    *trees: Sequence[jax.Array],
    when: jax.Array,
    whole: bool = False,
) -> list[jax.Array]:
    """The leaves of function(stack of each of the trees' leaves, …), [N, m, n] each; one call for each distinct shape.
    A leaf without elements is what the first of the trees has.

    when: bool[], zeros where it is False. As a branch each stack is worked off before the next: left to itself XLA
    on CPU goes at all stacks at a time, with the memory of all.
    whole: the stacks are spread over devices, so that leaves must be cut out at places known to the compiler.
    """
    kinds = [
        (own.shape(parts[0].shape)[1:], *(x.dtype for x in parts)) for own, *parts in zip(axes, *trees, strict=True)
    ]
    result = list(trees[0])
    shapes = [x.shape for x in result]
    groups = [members for members in grouped(kinds) if result[members[0]].size]
    wheres = [[(i, axes[i].shape(shapes[i])[:1]) for i in members] for members in groups]
    at = {} if whole else places(wheres, when)
    for members, where in zip(groups, wheres, strict=True):
        own = [axes[i] for i in members]
        parts = [[leaves[i] for i in members] for leaves in trees]

        def made(*parts: list[jax.Array], own: Sequence[MatrixAxes] = own) -> jax.Array:
            return function(*(stack_like_shapes(leaves, own) for leaves in parts))

        shape = jax.eval_shape(made, *parts)
        stack = jax.lax.cond(when, made, lambda *_, shape=shape: jnp.zeros(shape.shape, shape.dtype), *parts)
        for i, part in zip(members, parted(stack, where, at), strict=True):
            result[i] = leaf_of(part, shapes[i], axes[i])
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
