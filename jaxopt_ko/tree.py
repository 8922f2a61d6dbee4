"""Arithmetic over pytrees: compute in float32 at least, store in the leaf's dtype."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.shard_alike import shard_alike

from jaxopt_ko import errors
from jaxopt_ko.numerics import joined, length
from jaxopt_ko.types import DType, PyTree


def is_none(x: Any) -> bool:
    """For `is_leaf`: None counts as a leaf."""
    return x is None


def flatten(tree: PyTree, none_is_leaf: bool = False) -> tuple[list[Any], Any]:
    """The leaves, and the structure that `unflatten`s them."""
    return jax.tree.flatten(tree, is_leaf=is_none if none_is_leaf else None)


def structure(tree: PyTree, none_is_leaf: bool = False) -> Any:
    """The structure alone."""
    return jax.tree.structure(tree, is_leaf=is_none if none_is_leaf else None)


def dtype_of(leaf: Any) -> np.dtype[Any]:
    """The dtype of an array, or of what a NumPy array or a Python number becomes here."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    return np.dtype(jax.dtypes.canonicalize_dtype(dtype))


def abstract(shape: tuple[int, ...], dtype: DType) -> jax.ShapeDtypeStruct:
    """A leaf without values."""
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def summed(leaf: Any, axes: int | tuple[int, ...]) -> Any:
    """A leaf without some of its axes, to make memory like: placed as the others are, abstract if the leaf is."""
    if isinstance(leaf, jax.Array):
        return jnp.sum(leaf, axes)
    return jax.eval_shape(lambda x: jnp.sum(x, axes), abstract(np.shape(leaf), dtype_of(leaf)))


@functools.cache
def common_dtype(*dtypes: DType) -> jnp.dtype:
    """The smallest dtype that holds all of `dtypes`, whatever promotion mode the user has set."""
    with jax.numpy_dtype_promotion("standard"):
        return functools.reduce(jnp.promote_types, (jnp.dtype(d) for d in dtypes))


def compute_dtype(*dtypes: DType) -> jnp.dtype:
    """What a rule computes in: float32, or float64 if any of `dtypes` is."""
    return common_dtype(jnp.float32, *dtypes)


def full_like(leaf: Any, value: Any = 0.0, dtype: DType | None = None) -> jax.Array:
    """A new array with the shape of one leaf, abstract or not, and `dtype` or the leaf's own."""
    dtype = dtype_of(leaf) if dtype is None else dtype
    if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return jnp.full(np.shape(leaf), value, dtype)
    full: jax.Array = jax.lax.full_like(leaf, value, dtype=dtype)  # on the leaf's own devices, varying as it does
    if isinstance(leaf, jax.core.Tracer):  # which are not known yet: a constant alone would end on the first device
        full = shard_alike(leaf, full)[1]  # type: ignore[no-untyped-call]
    return full


def wide_like(leaf: Any, value: Any = 0.0, dtype: DType | None = None) -> jax.Array:
    """`full_like` in float32 at least: for sums and slow averages, which bfloat16 would bring to a halt."""
    return full_like(leaf, value, compute_dtype(dtype_of(leaf)) if dtype is None else dtype)


def stacks(who: str, stack_axes: PyTree, tree: PyTree, none_is_leaf: bool = False) -> list[int]:
    """How many leading axes of each leaf are stacks, said for all by an integer or by a prefix of the tree."""
    leaves, _ = flatten(tree, none_is_leaf)
    if isinstance(stack_axes, int):
        counts = [stack_axes] * len(leaves)
    else:
        try:
            spread = jax.tree.broadcast(stack_axes, tree, is_leaf=is_none if none_is_leaf else None)
        except ValueError:
            errors.structure_mismatch(who, "stack_axes", stack_axes, "params (or a prefix of them)", tree)
        counts = [count or 0 for count in flatten(spread, none_is_leaf)[0]]  # None where the leaf is
    for index, (leaf, count) in enumerate(zip(leaves, counts, strict=True)):
        if count and leaf is not None and np.ndim(leaf) < count:
            errors.too_few_axes(who, errors.path_of(tree, index, none_is_leaf), leaf, count)
    return counts


def in_order(who: str, what: str, other: PyTree, tree: PyTree, treedef: Any) -> list[Any]:
    """What another tree has at each leaf of `tree`, whose structure is `treedef`."""
    try:
        return list(treedef.flatten_up_to(other))
    except ValueError:
        errors.structure_mismatch(who, what, other, "gradients", tree)


def wide_copy(leaf: Any) -> jax.Array:
    """A copy of a leaf in float32 at least, in memory of its own; zeros of an abstract one."""
    new = wide_like(leaf)
    return new if isinstance(leaf, jax.ShapeDtypeStruct) else new + jnp.asarray(leaf).astype(new.dtype)


def ravel(tree: PyTree) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
    """All leaves as one vector, float32 at least, and the function that makes trees like this one of such vectors."""
    leaves, treedef = flatten(tree)
    shapes, dtypes = [np.shape(leaf) for leaf in leaves], [dtype_of(leaf) for leaf in leaves]
    wide = compute_dtype(*dtypes)
    sizes = tuple(math.prod(shape) for shape in shapes)

    def unravel(vector: jax.Array) -> PyTree:
        parts = jax.lax.split(vector, sizes) if len(sizes) != 1 else [vector]
        return treedef.unflatten([p.reshape(s).astype(d) for p, s, d in zip(parts, shapes, dtypes, strict=True)])

    vectors = [jnp.asarray(leaf).astype(wide).reshape(-1) for leaf in leaves]
    if not vectors:
        return jnp.zeros(0, wide), lambda _: treedef.unflatten([])
    return joined(vectors), unravel


def pick(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """`where`, for trees."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def sum_of_squares(tree: PyTree) -> jax.Array:
    """The sum of |x|**2 over every element of every leaf; float32[] at least, 0 for an empty tree."""
    terms = [_leaf_square(leaf) for leaf in jax.tree.leaves(tree)]
    wide = compute_dtype(*(term.dtype for term in terms))
    return sum((term.astype(wide) for term in terms), start=jnp.zeros((), wide))


@jax.jit
def _leaf_square(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x.astype(compute_dtype(x.dtype))))


def global_norm(tree: PyTree) -> jax.Array:
    """The Euclidean norm of all leaves taken as one vector; float32[] at least, 0 for an empty tree."""
    lengths = [_leaf_length(leaf) for leaf in jax.tree.leaves(tree)]
    wide = compute_dtype(*(one.dtype for one in lengths))
    norm: jax.Array = length(jnp.stack([one.astype(wide) for one in lengths]) if lengths else jnp.zeros(0, wide))
    return norm


@jax.jit
def _leaf_length(x: jax.Array) -> jax.Array:
    one: jax.Array = length(x.astype(compute_dtype(x.dtype)))
    return one


def zeros_vector(tree: PyTree) -> jax.Array:
    """The vector that `ravel` makes of such a tree, all zero; its leaves may be abstract."""
    leaves = jax.tree.leaves(tree)
    return jnp.zeros(sum(math.prod(np.shape(leaf)) for leaf in leaves), compute_dtype(*map(dtype_of, leaves)))


def where_given(updates: PyTree, full: PyTree) -> PyTree:
    """`full` with None wherever `updates` has None."""
    leaves, treedef = flatten(updates, none_is_leaf=True)
    others = treedef.flatten_up_to(full)
    return treedef.unflatten([None if u is None else x for u, x in zip(leaves, others, strict=True)])


def filled(updates: PyTree, full: PyTree) -> PyTree:
    """`updates`, with the leaves of `full` where it has None."""
    leaves, treedef = flatten(updates, none_is_leaf=True)
    others = treedef.flatten_up_to(full)
    return treedef.unflatten([x if u is None else u for u, x in zip(leaves, others, strict=True)])
