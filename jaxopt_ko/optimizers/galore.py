"""GaLore. Zhao et al. 2024, arXiv:2403.03507, Algorithm 2."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_stack_axes, memory_mismatch, structure_mismatch
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import next_count, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FINITE, TreeError, check_choice, check_pair, check_size, say
from jaxopt_ko.optimizers.adam import scale_by_adam
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import GradientTransformation, Hyper, MaskOrFn, Params, PyTree, State, Updates

KEEPS = ("short", "long")


class GaLoreDimensionNumbers(NamedTuple):
    """Which axes of a leaf are the rows of a matrix and which its columns; all axes belong to one of the two."""

    reduction_axis: Sequence[int] | int = 0
    output_axis: Sequence[int] | int = 1


class GaLoreState(NamedTuple):
    """State of `scale_by_galore`."""

    count: Array  # int32[]               t, steps taken
    base_optimizer_state: State  # of the base optimizer, for the projected gradients R
    projector: Updates  # f32+            P, float[long, r] (keeps="long": [short, r]), [0, 0] for a leaf as it is


class _Matrix(NamedTuple):
    """How a leaf [*stack, …] is seen as matrices [*stack, m, n]."""

    shape: tuple[int, ...]
    order: tuple[int, ...]  # of its axes, before they are joined
    stack: int
    m: int
    n: int

    def of(self, x: Array) -> Array:
        return x.transpose(self.order).reshape(*self.shape[: self.stack], self.m, self.n)

    def back(self, x: Array) -> Array:
        return x.reshape([self.shape[a] for a in self.order]).transpose(np.argsort(self.order))


@options
def scale_by_galore(
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: Hyper = 1.0,
    base_optimizer: GradientTransformation | None = None,
    weight_dimension_numbers: Any = None,
    *,
    keeps: str = "short",
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """A base optimizer on gradients that are projected to a few directions, renewed every update_proj_gap steps.

    P = the first `rank` left singular vectors of g       at t = 1, 1 + update_proj_gap, …; g is [m, n], m >= n
    R = P' g
    u = scale P base(R);   for m < n by the right ones: R = g P, u = scale base(R) P'

    keeps: the axis that the base optimizer keeps whole; "short", optax's, keeps least memory, m r + 2 r n for Adam.
    "long" is the paper's, with the left vectors where m <= n: n r + 2 m r for m > n.
    base_optimizer: a direction that needs no params (its leaves have other shapes), `scale_by_adam()` by default.
    weight_dimension_numbers: None for leaves of two axes; else GaLoreDimensionNumbers for all leaves of two axes or
        more, a tree of them and None, or a function that makes one.
    stack_axes: leading axes of a leaf that count matrices of one shape, with a P each; the axes of
        weight_dimension_numbers are counted after them.

    P is a constant to derivatives through the step. Not for leaves whose sides are no longer than `rank`.
    """
    name = "scale_by_galore"
    check_size(name, "rank", rank)
    check_size(name, "update_proj_gap", update_proj_gap)
    check_choice(name, "keeps", keeps, KEEPS)
    check_stack_axes(name, stack_axes)
    base = scale_by_adam() if base_optimizer is None else check_pair(name, "base_optimizer", base_optimizer)

    def matrices(leaves: PyTree) -> tuple[list[Any], Any, list[_Matrix | None]]:
        """The leaves, their structure, and how each is seen as matrices, None if it is taken as it is."""
        flat, treedef = tree.flatten(leaves, none_is_leaf=True)
        stacks = tree.stacks(name, stack_axes, leaves, none_is_leaf=True)
        wanted = tree.resolve_prefix(leaves, weight_dimension_numbers, _ends)
        if wanted is None or isinstance(wanted, GaLoreDimensionNumbers):
            least = 2 if wanted is None else math.inf
            numbers = [
                (wanted or GaLoreDimensionNumbers())
                if leaf is not None and 2 <= np.ndim(leaf) - stack <= least
                else None
                for leaf, stack in zip(flat, stacks, strict=True)
            ]
        else:
            numbers = _numbers_of(name, wanted, leaves)
        seen = [
            None if leaf is None or number is None else _matrix(name, leaf, number, stack)
            for leaf, number, stack in zip(flat, numbers, stacks, strict=True)
        ]
        return flat, treedef, seen

    def on_left(one: _Matrix) -> bool:
        return one.m >= one.n if keeps == "short" else one.m <= one.n

    def shapes(one: _Matrix) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of P and R."""
        stack, r = one.shape[: one.stack], min(rank, one.m, one.n)
        return ((*stack, one.m, r), (*stack, r, one.n)) if on_left(one) else ((*stack, one.n, r), (*stack, one.m, r))

    def init(params: Params) -> GaLoreState:
        leaves, treedef, seen = matrices(params)
        small = list(leaves)
        projectors = [p if p is None else jnp.zeros((0, 0), tree.compute_dtype(tree.dtype_of(p))) for p in leaves]
        for index, (leaf, one) in enumerate(zip(leaves, seen, strict=True)):
            if one is not None:
                P, R = (tree.wide_like(tree.abstract(shape, tree.dtype_of(leaf))) for shape in shapes(one))
                projectors[index], small[index] = P, R
        return GaLoreState(zero_count(), base.init(treedef.unflatten(small)), treedef.unflatten(projectors))

    def update(
        updates: Updates, state: GaLoreState, params: Params = None, *, h: Scalars
    ) -> tuple[Updates, GaLoreState]:
        leaves, treedef, seen = matrices(updates)
        due = state.count % update_proj_gap == 0
        small, projectors = list(leaves), tree.in_order(name, "state", state.projector, updates, treedef)
        for index, (g, one) in enumerate(zip(leaves, seen, strict=True)):
            if one is not None:
                if np.shape(projectors[index]) != shapes(one)[0]:
                    path = errors.path_of(updates, index, none_is_leaf=True)
                    memory_mismatch(name, [projectors[index]], path, g)
                small[index], projectors[index] = _project(g, projectors[index], due, one, on_left(one))
        steps, base_state = base.update(treedef.unflatten(small), state.base_optimizer_state, None)
        full = tree.in_order(name, "updates of the base optimizer", steps, updates, treedef)
        for index, (u, one) in enumerate(zip(full, seen, strict=True)):
            if one is not None:
                full[index] = _restore(u, projectors[index], h.scale, one, on_left(one)).astype(leaves[index].dtype)
        new = GaLoreState(next_count(state.count), base_state, treedef.unflatten(projectors))
        return treedef.unflatten(full), new

    return transform(name, init, update, state_type=GaLoreState, hypers={"scale": (scale, FINITE)}, real=True)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _project(g: Array, P: Array, due: Array, one: _Matrix, left: bool) -> tuple[Array, Array]:
    """R and P, which is made anew where it is due."""
    G = one.of(g.astype(P.dtype))

    def renewed() -> Array:
        U, _, Vh = jnp.linalg.svd(G, full_matrices=False)
        return (U if left else Vh.mT)[..., : P.shape[-1]]

    P = jax.lax.stop_gradient(jax.lax.cond(due, renewed, lambda: P))
    return (P.mT @ G if left else G @ P), P


@functools.partial(jax.jit, static_argnums=(3, 4))
def _restore(u: Array, P: Array, factor: Array, one: _Matrix, left: bool) -> Array:
    wide = u.astype(P.dtype)
    return factor.astype(P.dtype) * one.back(P @ wide if left else wide @ P.mT)


def _matrix(name: str, leaf: Any, numbers: GaLoreDimensionNumbers, stack: int) -> _Matrix:
    shape = np.shape(leaf)
    ndim = len(shape) - stack
    given = (numbers.reduction_axis, numbers.output_axis)
    rows, columns = (
        tuple(stack + a % max(ndim, 1) for a in ((axes,) if isinstance(axes, int) else axes)) for axes in given
    )
    order = (*range(stack), *rows, *columns)
    _check_axes(name, shape[stack:], numbers, sorted(order) == list(range(len(shape))))
    m, n = (math.prod(shape[a] for a in axes) for axes in (rows, columns))
    return _Matrix(shape, order, stack, m, n)


def _check_axes(name: str, shape: tuple[int, ...], numbers: Any, fits: bool) -> None:
    """Each axis of a leaf is one of the rows or of the columns of a matrix."""
    if not fits:
        say(TreeError, name, f"each axis of a leaf must be one of rows or columns, of the shape {shape} here",
            repr(numbers), "Give None for the leaf to leave it as it is")  # fmt: skip


def _ends(x: Any) -> bool:
    return x is None or isinstance(x, GaLoreDimensionNumbers)


def _numbers_of(name: str, wanted: PyTree, leaves: PyTree) -> list[GaLoreDimensionNumbers | None]:
    """Leaf by leaf; None leaves and masked ones have none."""
    try:
        full = jax.tree.map(
            lambda number, part: jax.tree.map(lambda _: number, part, is_leaf=tree.is_none),
            wanted,
            leaves,
            is_leaf=_ends,
        )
    except ValueError:
        structure_mismatch(name, "weight_dimension_numbers", wanted, "params", leaves)
    return jax.tree.leaves(full, is_leaf=_ends)


@recipe
def galore(
    learning_rate: Hyper,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: Hyper = 1.0,
    base_optimizer: GradientTransformation | None = None,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    weight_dimension_numbers: Any = None,
    *,
    keeps: str = "short",
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_galore`: full weights with the moments of low-rank ones.

    Not without tuning: the steps lie in `rank` directions until the next renewal, of a singular value decomposition.
    Needs params.
    """
    rule = scale_by_galore(
        rank,
        update_proj_gap,
        scale,
        base_optimizer,
        weight_dimension_numbers,
        keeps=keeps,
        stack_axes=stack_axes,
    )
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
