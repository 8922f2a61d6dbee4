"""Into which blocks a leaf is cut that share a second moment, and arithmetic on blocks.

Zhang et al. 2024, arXiv:2406.16793, Algorithm 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.numerics import real_dtype
from jaxopt_ko.core.stacking import MatrixAxes, prefix_of
from jaxopt_ko.errors import TreeError, check_size, path_of, say
from jaxopt_ko.optimizers.matrix.roles import Leaf, roles_of
from jaxopt_ko.types import DType, Params, PyTree

QUERY = re.compile(r"(?:^|[/_.])(?:q|wq|query|q_proj)(?:[/_.]|$)", re.IGNORECASE)
KEY = re.compile(r"(?:^|[/_.])(?:k|wk|key|k_proj)(?:[/_.]|$)", re.IGNORECASE)


def adam_mini_blocks(
    params: Params,
    heads: int | None = None,
    kv_heads: int | None = None,
    *,
    roles: Mapping[str, str | MatrixAxes] | None = None,
    stack_axes: PyTree = 0,
) -> PyTree:
    """Into how many blocks each axis of each leaf is cut for Adam-mini, by what `roles_of` guesses the leaf to be for.

    query, key          one for each head                          heads, or the axis of heads that the leaf has
    another matrix      one for each output                        [in, out]: (1, out);  "weight" [out, in]: (out, 1)
    embedding           one for each row, of a token
    head                one for each output, of a class or token
    norm                one
    bias, or unknown    each element is its own: Adam

    params: the parameters, a tree of floating arrays; shapes are enough.
    heads: of attention, an integer >= 1, for queries and keys whose heads are side by side in one axis; None: such an
        axis has a block for each output.
    kv_heads: those of keys, where they are fewer; None: as many as heads.
    roles: regular expression, found in the path -> role, where the guess is wrong, as for `roles_of`.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    Returns a tree like params, of tuples with an integer for each axis.
    Raises HyperparameterError for heads that are no integers, or roles that are none.
    Source: Zhang et al. 2024, arXiv:2406.16793, Algorithm 3; embeddings by row as in the authors' code of version 1.1.
    Not for a model whose leaves have no names: write the tree by hand.

    >>> params = {"query": {"kernel": jnp.ones((4, 6))}, "mlp": {"kernel": jnp.ones((4, 8)), "bias": jnp.ones(8)}}
    >>> jo.adam_mini_blocks(params, heads=2)
    {'mlp': {'bias': (8,), 'kernel': (1, 8)}, 'query': {'kernel': (1, 2)}}
    """
    name = "adam_mini_blocks"
    for argument, count in (("heads", heads), ("kv_heads", kv_heads)):
        if count is not None:
            check_size(name, argument, count)
    found = roles_of(params, roles, stack_axes=stack_axes)
    outputs = [leaf.path for leaf in found if leaf.role == "head" and _is_matrix(leaf)]
    matrices = {"^$" if path == "(root)" else f"^{re.escape(path)}$": "matrix" for path in outputs}
    read = roles_of(params, {**(roles or {}), **matrices}, stack_axes=stack_axes) if matrices else found
    counts = [
        heads if QUERY.search(leaf.path) else (kv_heads or heads) if KEY.search(leaf.path) else None for leaf in found
    ]
    each = zip(found, [leaf.axes for leaf in read], counts, strict=True)
    return tree.structure(params).unflatten([_blocks(leaf, axes, count) for leaf, axes, count in each])


def _is_matrix(leaf: Leaf) -> bool:
    return len(leaf.shape) - leaf.stacks == 2


def _blocks(leaf: Leaf, axes: MatrixAxes | None, heads: int | None) -> tuple[int, ...]:
    """Of one leaf; heads: side by side in the last of its columns."""
    kept = leaf.stacks + (leaf.role == "embedding")
    if leaf.role in ("embedding", "norm"):
        return tuple(n if axis < kept else 1 for axis, n in enumerate(leaf.shape))
    if axes is None:
        return leaf.shape
    blocks = [1 if axis in axes.rows else n for axis, n in enumerate(leaf.shape)]
    last = axes.columns[-1]
    attends = leaf.role == "matrix" and (QUERY.search(leaf.path) or KEY.search(leaf.path))
    if attends and len(axes.columns) == 2:  # [in, heads, size]
        blocks[last] = 1
    elif attends and heads is not None and blocks[last] % heads == 0:
        blocks[last] = heads
    return tuple(blocks)


# ---- arithmetic on blocks -------------------------------------------------------------------------------


def checked_blocks(name: str, blocks: PyTree, params: Params) -> list[tuple[int, ...]]:
    """How many blocks each axis of each leaf of params is cut into; blocks: a prefix of such tuples, or None for all.

    Raises TreeError for a number that does not divide its axis.
    """
    made: list[tuple[int, ...]] = []
    wanted = prefix_of(name, "blocks", blocks, params, is_leaf=_ends)
    for i, (p, own) in enumerate(zip(tree.flatten(params)[0], wanted, strict=True)):
        made.append(np.shape(p) if own is None else tuple(own))
        if not divides(made[-1], np.shape(p)):
            say(TreeError, name, f"blocks of {path_of(params, i)} must be a divisor of each axis of {np.shape(p)}",
                repr(own), "Give the number of blocks along each axis, or None")  # fmt: skip
    return made


def _ends(x: Any) -> bool:
    return x is None or (isinstance(x, tuple) and all(isinstance(n, int) for n in x))


def divides(blocks: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Can a leaf of this shape be cut into so many blocks along each axis?"""
    return len(blocks) == len(shape) and all(
        k in (1, n) or (0 < k < n and n % k == 0) for k, n in zip(blocks, shape, strict=True)
    )


def zero_of_blocks(leaf: Any, blocks: tuple[int, ...], dtype: DType | None) -> Array:
    """A real 0 for each block of a leaf, in float32 at least if dtype is None, where the leaf is."""
    dtype = dtype or real_dtype(tree.compute_dtype(tree.dtype_of(leaf)))
    if blocks == np.shape(leaf):
        return tree.wide_like(leaf, 0, dtype)
    return placement.placed_beside(jnp.zeros(blocks, dtype), leaf)


def block_means(x: Array, blocks: tuple[int, ...]) -> Array:
    """The mean over each block, float[k_1, …, k_d]."""
    for axis, (n, k) in enumerate(zip(x.shape, blocks, strict=True)):
        if 1 < k < n:
            cut = placement.whole(x).reshape(*x.shape[:axis], k, n // k, *x.shape[axis + 1 :])
            x = jnp.mean(cut, axis + 1)
        elif k != n:
            x = jnp.sum(x, axis, keepdims=True) / max(n, 1)
    return x


def over_blocks(x: Array, shape: tuple[int, ...]) -> Array:
    """float[k_1, …, k_d] as an array of this shape, one value all over each block."""
    for axis, (k, n) in enumerate(zip(x.shape, shape, strict=True)):
        if 1 < k < n:
            x = jnp.repeat(placement.whole(x), n // k, axis, total_repeat_length=n)
    return jnp.broadcast_to(x, shape)
