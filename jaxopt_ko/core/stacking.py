"""Leaves read as matrices, those of one shape joined in one stack: a rule runs once for each distinct shape.

    stacks_of(leaves, axes, keys)   which leaves make a stack together
    in_turns(function, stacks, …)   function of every stack, and the leaves of what it returns

`matrixwise` and the directions of Muon's kin, by `on_stacks`, are written on these two. GaLore, whose base optimizer
wants leaves apart, reads them one by one: `view`, `leaf_of`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.checks import no_matrix, structure_mismatch
from jaxopt_ko.types import PyTree

Places = Mapping[int, jax.Array]  # n -> uint32[], which is n
Parts = dict[int, jax.Array]  # index of a leaf -> what a stack has for it


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

    def stack(self, ndim: int) -> tuple[int, ...]:
        """The axes of a leaf that make neither rows nor columns."""
        return tuple(axis for axis in range(ndim) if axis not in (*self.rows, *self.columns))


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


class Stack(NamedTuple):
    """Leaves whose matrices have one shape: [N, m, n] when joined. All is known when a step is traced."""

    members: tuple[int, ...]  # the places of the leaves in their tree
    axes: tuple[MatrixAxes, ...]  # how each is read
    shapes: tuple[tuple[int, ...], ...]  # of the leaves

    @property
    def sizes(self) -> list[int]:
        """How many matrices each leaf has."""
        return [own.shape(shape)[0] for own, shape in zip(self.axes, self.shapes, strict=True)]

    @property
    def begins(self) -> list[int]:
        """The first matrix of each leaf in the stack."""
        return list(itertools.accumulate(self.sizes[:-1], initial=0))

    def of(self, leaves: Sequence[jax.Array]) -> jax.Array:
        """The members' matrices, [N, m, n]."""
        return _joined([matrices_of(leaf, own) for leaf, own in zip(leaves, self.axes, strict=True)])

    def of_memory(self, memory: Sequence[jax.Array]) -> jax.Array:
        """What the members remember, [*stack, …] each: [N, …]."""
        each = zip(memory, self.sizes, self._leads, strict=True)
        flat = [(placement.foldable(x, [range(len(lead))]), size, x.shape[len(lead) :]) for x, size, lead in each]
        return _joined([x.reshape(size, *rest) for x, size, rest in flat])

    def leaves(self, stack: jax.Array, at: Places) -> Parts:
        """The way back from `of`; at: of `places`, for none of which the compiler knows them."""
        each = zip(self.members, self._cut(stack, at), self.shapes, self.axes, strict=True)
        return {i: leaf_of(part, shape, own) for i, part, shape, own in each}

    def memory(self, stack: jax.Array, at: Places) -> Parts:
        """The way back from `of_memory`."""
        each = zip(self.members, self._cut(stack, at), self._leads, strict=True)
        return {i: part.reshape(*lead, *part.shape[1:]) for i, part, lead in each}

    @property
    def _leads(self) -> list[tuple[int, ...]]:
        """The shape of each leaf's own stack."""
        each = zip(self.axes, self.shapes, strict=True)
        return [tuple(shape[axis] for axis in own.stack(len(shape))) for own, shape in each]

    def _cut(self, stack: jax.Array, at: Places) -> list[jax.Array]:
        if len(self.members) == 1:
            return [stack]
        zeros = [jnp.uint32(0)] * (stack.ndim - 1)
        return [
            jax.lax.dynamic_slice(stack, (at[begin], *zeros), (size, *stack.shape[1:]))
            if begin in at
            else jax.lax.slice_in_dim(stack, begin, begin + size)
            for begin, size in zip(self.begins, self.sizes, strict=True)
        ]


def stacks_of(leaves: Sequence[Any], axes: Sequence[MatrixAxes | None], keys: Sequence[Hashable]) -> list[Stack]:
    """One for each distinct key and shape of matrices, in the order of the leaves.

    Without axes, or without elements, a leaf is in none of them.
    """
    groups: dict[Hashable, list[tuple[int, MatrixAxes, tuple[int, ...]]]] = {}
    for i, (leaf, own, key) in enumerate(zip(leaves, axes, keys, strict=True)):
        if own is not None and np.size(leaf):
            shape = np.shape(leaf)
            groups.setdefault((own.shape(shape)[1:], key), []).append((i, own, shape))
    return [Stack(*zip(*members, strict=True)) for members in groups.values()]


def in_turns(
    function: Callable[..., tuple[jax.Array | None, *tuple[jax.Array, ...]]],
    stacks: Sequence[Stack],
    trees: Sequence[Sequence[jax.Array]],
    memory: Sequence[Sequence[jax.Array]] = (),
    shared: tuple[Any, ...] = (),
    *,
    live: jax.Array,
    branch: bool = False,
    whole: bool = False,
) -> list[Parts]:
    """What function(turn, first, *shared, *G, *M) -> (step, *M) makes of each stack, parted again: a dict a result.

    G [N, m, n] are of the `trees`, M [N, …] of the `memory`, whose leaves are [*stack, …]. The step is read back as the
    leaves are; None, if there is none. turn: 0, 1, … of the stack. shared: trees of arrays that all stacks get; what
    depends on the step comes this way and not by closure. first: int32[], the first matrix of a part of the stack, None
    where it is all of it (`placement.spread`).
    live: bool[], true as long as there is anything to do: see `places`.
    branch: zeros where not `live`. As a branch each stack is worked off before the next: left to itself XLA on CPU goes
        at all stacks at a time, with the memory of all.
    whole: the stacks are spread over devices, so that leaves must be cut out at places known to the compiler.
    """
    explicit = any(placement.explicit_sharding(x) is not None for column in (*trees, *memory) for x in column)
    at = {} if whole or explicit else places(stacks, live)
    results: list[Parts] = []
    for turn, stack in enumerate(stacks):
        of_stack = [[[column[i] for i in stack.members] for column in columns] for columns in (trees, memory)]
        made, given = functools.partial(_made, functools.partial(function, turn), stack), (*of_stack, shared)
        if branch:
            step, *rest = jax.lax.cond(live, made, functools.partial(_zeros, jax.eval_shape(made, *given)), *given)
        else:
            step, *rest = made(*given)
        parts = [{} if step is None else stack.leaves(step, at), *(stack.memory(x, at) for x in rest)]
        results = [old | new for old, new in zip(results or [{}] * len(parts), parts, strict=True)]
    return results


def _made(function: Callable[..., Any], stack: Stack, trees: Any, memory: Any, shared: Any) -> tuple[Any, ...]:
    stacks = (*map(stack.of, trees), *map(stack.of_memory, memory))
    made: tuple[Any, ...] = placement.spread(function, shared, stacks)
    return made


def _zeros(like: Any, *_: Any) -> Any:
    return jax.tree.map(placement.zeros, like)


def replaced(columns: Sequence[Sequence[Any]], results: Sequence[Parts]) -> list[list[Any]]:
    """Lists of leaves with what `in_turns` made in the places of some; as they are where there was no stack."""
    made = results or [{}] * len(columns)
    return [[parts.get(i, x) for i, x in enumerate(column)] for column, parts in zip(columns, made, strict=True)]


def places(stacks: Sequence[Stack], live: jax.Array) -> Places:
    """Where leaves begin in their stacks, as numbers that the compiler does not know.

    XLA on CPU compiles like kernels once: 32 slices of a stack at 32 known places cost ten times as much.
    live: bool[], true, but not provably so.
    """
    begins = {begin for stack in stacks if len(stack.members) > 1 for begin in stack.begins}
    if not begins or jax.default_backend() != "cpu":
        return {}
    known = sorted(begins)

    def numbers(by: int) -> Callable[[], tuple[jax.Array, ...]]:
        return lambda: tuple(jnp.uint32(by * n) for n in known)

    return dict(zip(known, jax.lax.cond(live, numbers(1), numbers(0)), strict=True))


def on_stacks(
    function: Callable[..., jax.Array],
    axes: Sequence[MatrixAxes],
    *trees: Sequence[jax.Array],
    when: jax.Array,
    whole: bool = False,
    shared: tuple[Any, ...] = (),
) -> list[jax.Array]:
    """The leaves of function(stack of each of the trees' leaves, …), [N, m, n] each; one call for each distinct shape.
    A leaf without elements is what the first of the trees has.

    when: bool[], zeros where it is False. whole: as of `in_turns`.
    """
    keys = [tuple(x.dtype for x in parts) for parts in zip(*trees, strict=True)]
    stacks = stacks_of(trees[0], axes, keys)
    made = in_turns(
        lambda turn, first, *given: (function(*given),), stacks, trees, (), shared, live=when, branch=True, whole=whole
    )
    return replaced(trees[:1], made)[0]


# ---- one leaf ---------------------------------------------------------------------------------------------


def stack_like_shapes(leaves: Sequence[jax.Array], axes: Sequence[MatrixAxes]) -> jax.Array:
    """Every matrix of leaves whose matrices have one shape: [N, m, n]."""
    return _joined([matrices_of(leaf, own) for leaf, own in zip(leaves, axes, strict=True)])


def _joined(stacks: Sequence[jax.Array]) -> jax.Array:
    return stacks[0] if len(stacks) == 1 else jnp.concatenate(placement.joinable(stacks))


def _order(ndim: int, axes: MatrixAxes) -> tuple[int, ...]:
    """The axes of a leaf, those of the stack first, then rows, then columns."""
    return (*axes.stack(ndim), *axes.rows, *axes.columns)


def view(leaf: jax.Array, axes: MatrixAxes) -> jax.Array:
    """A leaf -> [*stack, m, n], for axes of one part."""
    m, n = axes.shape(leaf.shape)[1:]
    stack = [leaf.shape[axis] for axis in axes.stack(leaf.ndim)]
    return _ordered(leaf, axes).reshape(*stack, m, n)


def _ordered(leaf: jax.Array, axes: MatrixAxes) -> jax.Array:
    """A leaf with the axes of its stack first, then its rows', then its columns', about to be joined."""
    joined = (axes.stack(leaf.ndim), axes.rows, axes.columns) if axes.parts == 1 else [range(leaf.ndim)]
    ordered: jax.Array = placement.foldable(leaf, joined).transpose(_order(leaf.ndim, axes))
    return ordered


def matrices_of(leaf: jax.Array, axes: MatrixAxes) -> jax.Array:
    """A leaf -> [N, m, n]."""
    ordered = _ordered(leaf, axes)
    N, m, n = axes.shape(leaf.shape)
    if axes.parts == 1:
        return ordered.reshape(N, m, n)
    return ordered.reshape(N // axes.parts, m, axes.parts, n).swapaxes(1, 2).reshape(N, m, n)


def leaf_of(matrices: jax.Array, shape: tuple[int, ...], axes: MatrixAxes) -> jax.Array:
    """[N, m, n], or [*stack, m, n], -> the leaf."""
    order = _order(len(shape), axes)
    if axes.parts > 1:
        N, m, n = matrices.shape
        matrices = matrices.reshape(N // axes.parts, axes.parts, m, n).swapaxes(1, 2)
    return matrices.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
