"""One leaf of a tree: its dtype, memory made like it, and what kind of leaf it is."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.core import placement
from jaxopt_ko.core.checks import check_room
from jaxopt_ko.core.numerics import common_dtype, compute_dtype
from jaxopt_ko.types import DType, MaskedNode, PyTree

__all__ = [
    "abstract", "common_dtype", "compute_dtype", "dtype_of", "flatten", "full_like", "is_float0", "is_floating",
    "is_left_out", "is_none", "kept_copy", "number_beside", "structure", "summed", "wide_copy", "wide_like",
]  # fmt: skip


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
    """The dtype of an array, or of what a NumPy array or a Python number becomes here; a PRNG key's own."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        return dtype
    return np.dtype(jax.dtypes.canonicalize_dtype(dtype))


def abstract(shape: tuple[int, ...], dtype: DType) -> jax.ShapeDtypeStruct:
    """A leaf without values."""
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def summed(leaf: Any, axes: int | tuple[int, ...]) -> Any:
    """A leaf without some of its axes, to make memory like: placed as the others are, abstract if the leaf is."""
    if isinstance(leaf, jax.Array):
        return jnp.sum(leaf, axes)
    return jax.eval_shape(lambda x: jnp.sum(x, axes), abstract(np.shape(leaf), dtype_of(leaf)))


def full_like(tree: PyTree, fill_value: Any, dtype: DType | None = None) -> PyTree:
    """An array full of a value in the shape and place of each leaf, abstract or not.

    tree: a tree of arrays, numbers or abstract leaves (jax.ShapeDtypeStruct).
    fill_value: the value, a number or an array of shape ().
    dtype: of all leaves; None: each leaf's own.

    Returns a tree like it, of arrays.

    >>> jo.tree.full_like({"a": jnp.zeros(2)}, 0.5)["a"].tolist()
    [0.5, 0.5]
    """
    if not jax.tree_util.treedef_is_leaf(structure(tree)):
        return jax.tree.map(lambda leaf: full_like(leaf, fill_value, dtype), tree)
    dtype = dtype_of(tree) if dtype is None else dtype
    if not isinstance(tree, jax.Array | jax.ShapeDtypeStruct):
        return jnp.full(np.shape(tree), fill_value, dtype)
    full: jax.Array = jax.lax.full_like(tree, fill_value, dtype=dtype)  # on the leaf's devices, varying as it does
    if isinstance(tree, jax.core.Tracer):  # which are not known yet: a constant alone would end on the first device
        full = placement.placed_as(full, tree)
    return full


def wide_like(leaf: Any, value: Any = 0.0, dtype: DType | None = None) -> jax.Array:
    """`full_like` in float32 at least: for sums and slow averages, which bfloat16 would bring to a halt."""
    full: jax.Array = full_like(leaf, value, compute_dtype(dtype_of(leaf)) if dtype is None else dtype)
    return full


def number_beside(leaf: Any) -> jax.Array:
    """One 0 that a rule keeps of a leaf, real, in float32 at least: for a length or a cosine."""
    return jnp.real(wide_like(abstract((), dtype_of(leaf))))


def wide_copy(leaf: Any) -> jax.Array:
    """A copy of a leaf in float32 at least, in memory of its own; zeros of an abstract one."""
    new = wide_like(leaf)
    return new if isinstance(leaf, jax.ShapeDtypeStruct) else new + jnp.asarray(leaf).astype(new.dtype)


def kept_copy(name: str, leaf: Any, dtype: DType | None) -> jax.Array:
    """`wide_copy`, or one in another dtype, which must have room for the leaf's imaginary part."""
    copy = wide_copy(leaf)
    if dtype is None:
        return copy
    check_room(name, "the dtype of the state", abstract((), dtype), copy)
    return copy.astype(dtype)


# ---- leaves left out --------------------------------------------------------------------------------------


def is_floating(leaf: Any) -> bool:
    """Real or complex: a number that can be trained. A counter, a truth value, a PRNG key, a function cannot."""
    dtype = getattr(leaf, "dtype", None)
    return isinstance(leaf, float | complex) if dtype is None else bool(jnp.issubdtype(dtype, jnp.inexact))


def is_float0(leaf: Any) -> bool:
    """The gradient of what is no floating number."""
    return getattr(leaf, "dtype", None) == jax.dtypes.float0


def is_left_out(leaf: Any) -> bool:
    """None, or what a masked transformation sees in the place of a leaf."""
    return leaf is None or isinstance(leaf, MaskedNode)
