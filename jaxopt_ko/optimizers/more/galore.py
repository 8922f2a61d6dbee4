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
from jaxopt_ko.core import placement, stacking, tree
from jaxopt_ko.core.checks import check_stack_axes, memory_mismatch, structure_mismatch
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import next_count, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import MatrixAxes
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

    P is a constant to derivatives through the step.

    rank: an integer >= 1: how many directions, no more than the shorter side; 128 is the authors' example.
    update_proj_gap: an integer >= 1: steps from one P to the next; 200 is the paper's.
    scale: a finite factor of u; the paper's alpha, 0.25 in its experiments, 1 in optax.
    base_optimizer: a direction that needs no params (its leaves have other shapes); None: `scale_by_adam()`.
    weight_dimension_numbers: None for leaves of two axes; else GaLoreDimensionNumbers for all leaves of two axes or
        more, a tree of them and None, or a function that makes one.
    keeps: the axis that the base optimizer keeps whole; "short", optax's, keeps least memory. "long" is the paper's,
        with the left vectors where m <= n.
    stack_axes: leading axes of a leaf that count matrices of one shape, with a P each; the axes of
        weight_dimension_numbers are counted after them.

    State: for m >= n and Adam 4 (m r + 2 r n) bytes a matrix, with keeps="long" 4 (n r + 2 m r); of others the base's.
    Raises HyperparameterError, when made, for a number outside its domain; TransformationError for a base_optimizer
        that is no (init, update) pair. TreeError, when traced, for axes that do not fit a leaf, and for complex leaves.
    Source: Zhao et al. 2024, arXiv:2403.03507, Algorithm 2.
    Not for leaves whose sides are no longer than `rank`.

    >>> rule = jo.scale_by_galore(rank=2, base_optimizer=jo.scale_by_lion())
    >>> state = rule.init({"w": jnp.ones((30, 20))})
    >>> state.projector["w"].shape
    (30, 2)
    """
    name = "scale_by_galore"
    check_size(name, "rank", rank)
    check_size(name, "update_proj_gap", update_proj_gap)
    check_choice(name, "keeps", keeps, KEEPS)
    check_stack_axes(name, stack_axes)
    base = scale_by_adam() if base_optimizer is None else check_pair(name, "base_optimizer", base_optimizer)

    def axes_of(leaves: PyTree) -> list[MatrixAxes | None]:
        stacks = tree.stacks(name, stack_axes, leaves, none_is_leaf=True)
        return _axes(name, weight_dimension_numbers, leaves, stacks)

    def on_left(m: int, n: int) -> bool:
        return m >= n if keeps == "short" else m <= n

    def shapes(leaf: Any, own: MatrixAxes) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of a leaf's P and R."""
        shape = np.shape(leaf)
        m, n = own.shape(shape)[1:]
        stack, r = tuple(shape[a] for a in own.stack(len(shape))), min(rank, m, n)
        return ((*stack, m, r), (*stack, r, n)) if on_left(m, n) else ((*stack, n, r), (*stack, m, r))

    def init(params: Params) -> GaLoreState:
        leaves, treedef = tree.flatten(params, none_is_leaf=True)
        small = list(leaves)
        projectors = [p if p is None else jnp.zeros((0, 0), tree.compute_dtype(tree.dtype_of(p))) for p in leaves]
        for i, (p, own) in enumerate(zip(leaves, axes_of(params), strict=True)):
            if own is not None:
                like = [tree.abstract(shape, tree.dtype_of(p)) for shape in shapes(p, own)]
                projectors[i], small[i] = map(tree.wide_like, like)
        return GaLoreState(zero_count(), base.init(treedef.unflatten(small)), treedef.unflatten(projectors))

    def update(
        updates: Updates, state: GaLoreState, params: Params = None, *, h: Scalars
    ) -> tuple[Updates, GaLoreState]:
        leaves, treedef = tree.flatten(updates, none_is_leaf=True)
        axes, due = axes_of(updates), state.count % update_proj_gap == 0
        matrices = [(i, own) for i, own in enumerate(axes) if own is not None]
        small, projectors = list(leaves), tree.in_order(name, "state", state.projector, updates, treedef)
        for i, own in matrices:
            g, P = leaves[i], projectors[i]
            if np.shape(P) != shapes(g, own)[0]:
                memory_mismatch(name, [P], errors.path_of(updates, i, none_is_leaf=True), g)
            g, P = placement.whole(g), placement.whole(P)
            small[i], projectors[i] = _project(g, P, due, own, on_left(*own.shape(g.shape)[1:]))
        steps, base_state = base.update(treedef.unflatten(small), state.base_optimizer_state, None)
        full = tree.in_order(name, "updates of the base optimizer", steps, updates, treedef)
        for i, own in matrices:
            g, left = leaves[i], on_left(*own.shape(leaves[i].shape)[1:])
            full[i] = _restore(placement.whole(full[i]), projectors[i], h.scale, g.shape, own, left).astype(g.dtype)
        new = GaLoreState(next_count(state.count), base_state, treedef.unflatten(projectors))
        return treedef.unflatten(full), new

    return transform(name, init, update, state_type=GaLoreState, hypers={"scale": (scale, FINITE)}, real=True)


# Leaf by leaf: leaves of one shape share a compiled program, and the base optimizer wants them apart. Joined to stacks
# they would be copied twice more, in a longer program.
@functools.partial(jax.jit, static_argnums=(3, 4))
def _project(g: Array, P: Array, due: Array, own: MatrixAxes, left: bool) -> tuple[Array, Array]:
    """R and P, which is made anew where it is due."""
    G = stacking.view(g.astype(P.dtype), own)

    def renewed() -> Array:
        U, _, Vh = jnp.linalg.svd(G, full_matrices=False)
        return (U if left else Vh.mT)[..., : P.shape[-1]]

    P = jax.lax.stop_gradient(jax.lax.cond(due, renewed, lambda: P))
    return (P.mT @ G if left else G @ P), P


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _restore(u: Array, P: Array, factor: Array, shape: tuple[int, ...], own: MatrixAxes, left: bool) -> Array:
    wide = u.astype(P.dtype)
    return factor.astype(P.dtype) * stacking.leaf_of(P @ wide if left else wide @ P.mT, shape, own)


def _axes(name: str, numbers: Any, leaves: PyTree, stacks: Sequence[int]) -> list[MatrixAxes | None]:
    """How each leaf is read, None for one that is taken as it is. leaves: with None among them, as in `stacks`."""
    flat = tree.flatten(leaves, none_is_leaf=True)[0]
    wanted = tree.resolve_prefix(leaves, numbers, _ends)
    if wanted is None or isinstance(wanted, GaLoreDimensionNumbers):
        most = 2 if wanted is None else math.inf
        shared = wanted or GaLoreDimensionNumbers()
        fits = [g is not None and 2 <= np.ndim(g) - k <= most for g, k in zip(flat, stacks, strict=True)]
        each = [shared if fit else None for fit in fits]
    else:
        each = _numbers_of(name, wanted, leaves)
    return [
        None if g is None or own is None else _axes_of(name, np.shape(g), own, k)
        for g, own, k in zip(flat, each, stacks, strict=True)
    ]


def _axes_of(name: str, shape: tuple[int, ...], numbers: GaLoreDimensionNumbers, stack: int) -> MatrixAxes:
    """The axes of one leaf, which its numbers count behind those of the stack."""
    ndim = len(shape) - stack
    rows, columns = (tuple(stack + int(a) % max(ndim, 1) for a in np.atleast_1d(side)) for side in numbers)
    if sorted((*rows, *columns)) != list(range(stack, len(shape))):
        say(TreeError, name, f"each axis of a leaf must be one of rows or columns, of the shape {shape[stack:]} here",
            repr(numbers), "Give None for the leaf to leave it as it is")  # fmt: skip
    return MatrixAxes(rows, columns)


def _ends(x: Any) -> bool:
    return x is None or isinstance(x, GaLoreDimensionNumbers)


def _numbers_of(name: str, wanted: PyTree, leaves: PyTree) -> list[GaLoreDimensionNumbers | None]:
    """Leaf by leaf; None leaves and masked ones have none."""
    try:
        full = jax.tree.map(
            lambda number, part: jax.tree.map(lambda _: number, part, is_leaf=tree.is_none),
            wanted, leaves, is_leaf=_ends,
        )  # fmt: skip
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

    R = P' g, P the first `rank` singular vectors of g every update_proj_gap steps;   u = scale P base(R)

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    rank: an integer >= 1: how many directions, no more than the shorter side; 128 is the authors' example.
    update_proj_gap: an integer >= 1: steps from one P to the next; 200 is the paper's.
    scale: a finite factor of u; the paper's alpha, 0.25 in its experiments, 1 in optax.
    base_optimizer: a direction that needs no params (its leaves have other shapes); None: `scale_by_adam()`.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    weight_dimension_numbers: None for leaves of two axes; else GaLoreDimensionNumbers for all leaves of two axes or
        more, a tree of them and None, or a function that makes one.
    keeps: the axis that the base optimizer keeps whole; "short", optax's, keeps least memory; "long" is the paper's.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: for m >= n and Adam 4 (m r + 2 r n) bytes of a matrix [m, n]; of other leaves 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; TransformationError for a base_optimizer that is no (init, update) pair.
        TreeError, when traced, for axes that do not fit a leaf, and for complex leaves.
    Source: Zhao et al. 2024, arXiv:2403.03507, Algorithm 2.
    Not without tuning: the steps lie in `rank` directions until the next renewal, of a singular value decomposition.

    >>> opt = jo.galore(1e-2, rank=2, scale=0.25)
    >>> params = {"w": jnp.ones((30, 20)), "b": jnp.ones(20)}
    >>> jo.tree.size(opt.init(params)) < jo.tree.size(jo.adam(1e-2).init(params)) / 2
    True
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
