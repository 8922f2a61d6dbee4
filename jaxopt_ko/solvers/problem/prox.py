"""Proximal operators: what stands for a function h that has no gradient. Parikh & Boyd 2014, Proximal Algorithms.

prox_h(x, s) = argmin |y - x|**2 / 2 + s h(y) over y
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import norm, or_one
from jaxopt_ko.errors import TreeError, describe, path_of, say
from jaxopt_ko.types import PyTree

Prox = Callable[[PyTree, Any], PyTree]  # (x, s) -> prox_h(x, s)


def prox_none(x: PyTree, scaling: Any = 1.0) -> PyTree:
    """h = 0."""
    return x


def prox_lasso(x: PyTree, l1reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l1reg sum|y|; l1reg: a number, or a tree like x of numbers and arrays."""
    return _each(lambda v, a: _shrink(v, _as(scaling, v) * a), x, l1reg)


def prox_non_negative_lasso(x: PyTree, l1reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l1reg sum y, over y >= 0."""
    return _each(lambda v, a: jnp.maximum(v - _as(scaling, v) * a, 0), x, l1reg)


def prox_ridge(x: PyTree, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l2reg / 2 sum y**2."""
    return _each(lambda v, a: v / (1 + _as(scaling, v) * a), x, l2reg)


def prox_non_negative_ridge(x: PyTree, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l2reg / 2 sum y**2, over y >= 0."""
    return _each(lambda v, a: jnp.maximum(v, 0) / (1 + _as(scaling, v) * a), x, l2reg)


def prox_elastic_net(x: PyTree, l1reg: Any = 1.0, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l1reg sum|y| + l2reg / 2 sum y**2."""
    return prox_ridge(prox_lasso(x, l1reg, scaling), l2reg, scaling)


def prox_group_lasso(x: PyTree, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l2reg times the sum of |y| over the leaves, each a group: (1 - s l2reg / |v|) v, 0 where that is negative."""

    def group(v: Array, a: Array) -> Array:
        length, least = norm(v.reshape(-1)), _as(scaling, v) * a
        stays = length > least
        return jnp.where(stays, 1 - least / jnp.where(stays, length, 1), 0) * v

    return _each(group, x, l2reg)


def prox_nuclear_norm(x: PyTree, reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = reg times the sum of the singular values, of each leaf float[...,m,n] by itself: U max(S - s reg, 0) V'.

    Raises TreeError for a leaf that is no matrix, or stack of them. Cai, Candès & Shen 2010, SIAM J. Optim. 20.
    """
    for index, leaf in enumerate(jax.tree.leaves(x)):
        _check_matrix("prox_nuclear_norm", x, index, leaf)
    return _each(lambda v, a: _shrink_singular(v, jnp.broadcast_to(_as(scaling, v) * a, v.shape[:-2])), x, reg)


def _check_matrix(name: str, tree: PyTree, index: int, leaf: Any) -> None:
    """A leaf that is a matrix, or a stack of them."""
    if np.ndim(leaf) < 2:
        say(TreeError, name, f"each leaf must be a matrix, or a stack of them; {path_of(tree, index)} is none",
            describe(leaf))  # fmt: skip


def _shrink(v: Array, least: Array) -> Array:
    return jnp.sign(v) * jnp.maximum(jnp.abs(v) - least, 0)


@jax.custom_jvp
def _shrink_singular(X: Array, least: Array) -> Array:
    U, S, Vt = jnp.linalg.svd(X, full_matrices=False)
    P: Array = (U * jnp.maximum(S - least[..., None], 0)[..., None, :]) @ Vt
    return P


@_shrink_singular.defjvp
def _shrink_singular_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """By the divided differences of f(S) = max(S - least, 0), and of its odd continuation: also where some meet."""
    (X, least), (dX, d_least) = primals, tangents
    U, S, Vt = jnp.linalg.svd(X, full_matrices=False)
    f, on = jnp.maximum(S - least[..., None], 0), (least[..., None] < S).astype(X.dtype)
    Ut, V = jnp.swapaxes(U, -1, -2), jnp.swapaxes(Vt, -1, -2)
    C = Ut @ dX @ V
    even, odd = 0.5 * (C + jnp.swapaxes(C, -1, -2)), 0.5 * (C - jnp.swapaxes(C, -1, -2))
    gap = S[..., :, None] - S[..., None, :]
    both = 0.5 * (on[..., :, None] + on[..., None, :])
    apart = jnp.abs(gap) > 1e2 * float(np.finfo(X.dtype).eps) * jnp.max(S, axis=-1, initial=0.0)[..., None, None]
    slope = jnp.where(apart, (f[..., :, None] - f[..., None, :]) / jnp.where(apart, gap, 1), both)
    total = S[..., :, None] + S[..., None, :]
    mean = jnp.where(total > 0, (f[..., :, None] + f[..., None, :]) / or_one(total), 0)
    share = jnp.where(S > 0, f / or_one(S), 0)
    diagonal = jnp.broadcast_to(jnp.eye(S.shape[-1], dtype=X.dtype), C.shape)
    own = slope * even + mean * odd - diagonal * (on * d_least[..., None])[..., None, :]
    left = (dX @ V - U @ C) * share[..., None, :]  # what leaves the columns of U, and then of V
    right = share[..., :, None] * (Ut @ dX - C @ Vt)
    return _shrink_singular(X, least), U @ own @ Vt + left @ Vt + U @ right


def _each(function: Callable[[Array, Array], Array], x: PyTree, reg: Any) -> PyTree:
    """`function(leaf, reg)` in float32 at least; one number stands for all leaves."""
    spread = jax.tree.map(lambda _: reg, x) if tree.structure(reg) == tree.structure(0) else reg

    def apply(v: Any, a: Any) -> Array:
        dtype = tree.dtype_of(v)
        wide = jnp.asarray(v).astype(tree.compute_dtype(dtype))
        return function(wide, _as(a, wide)).astype(dtype)

    return jax.tree.map(apply, x, spread)


def _as(value: Any, x: Array) -> Array:
    return jnp.asarray(value).astype(x.dtype)
