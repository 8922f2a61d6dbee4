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
    """The proximal operator of h = 0: x itself.

    argmin |y - x|**2 / 2 over y

    x: a tree of floating arrays.
    scaling: s, the step that the operator is of: a number or a traced scalar, >= 0.

    Returns x. Raises nothing. Source: Parikh & Boyd 2014, Proximal Algorithms. Not needed where a method has no prox.

    >>> jo.prox_none(jnp.array([3.0, -0.5])).tolist()
    [3.0, -0.5]
    """
    return x


def prox_lasso(x: PyTree, l1reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """The proximal operator of the L1 norm: elements shrunk towards 0, small ones to 0.

    argmin |y - x|**2 / 2 + scaling l1reg sum|y| over y = sign(x) max(|x| - scaling l1reg, 0)

    x: a tree of floating arrays.
    l1reg: weight of the norm, >= 0: a number, or a tree like x of numbers and arrays.
    scaling: s, the step that the operator is of: a number or a traced scalar, >= 0.

    Returns a tree like x, computed in float32 at least. Raises ValueError, of JAX's, where l1reg does not fit x.
    Source: Parikh & Boyd 2014, Proximal Algorithms, section 6.5.2. Not for groups that are to vanish together:
    `prox_group_lasso`.

    >>> jo.prox_lasso(jnp.array([3.0, -0.5]), 1.0).tolist()
    [2.0, -0.0]
    """
    return _each(lambda v, a: _shrink(v, _as(scaling, v) * a), x, l1reg)


def prox_non_negative_lasso(x: PyTree, l1reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """The proximal operator of the L1 norm over y >= 0.

    argmin |y - x|**2 / 2 + scaling l1reg sum y over y >= 0 = max(x - scaling l1reg, 0)

    x: a tree of floating arrays.
    l1reg: weight of the sum, >= 0: a number, or a tree like x of numbers and arrays.
    scaling: s, the step that the operator is of: a number or a traced scalar, >= 0.

    Returns a tree like x, computed in float32 at least. Raises ValueError, of JAX's, where l1reg does not fit x.
    Source: Parikh & Boyd 2014, Proximal Algorithms. Not for parameters of both signs: `prox_lasso`.

    >>> jo.prox_non_negative_lasso(jnp.array([3.0, -0.5]), 1.0).tolist()
    [2.0, 0.0]
    """
    return _each(lambda v, a: jnp.maximum(v - _as(scaling, v) * a, 0), x, l1reg)


def prox_ridge(x: PyTree, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """The proximal operator of a squared L2 norm: everything shrunk by one factor.

    argmin |y - x|**2 / 2 + scaling l2reg / 2 sum y**2 over y = x / (1 + scaling l2reg)

    x: a tree of floating arrays.
    l2reg: weight of the norm, >= 0: a number, or a tree like x of numbers and arrays.
    scaling: s, the step that the operator is of: a number or a traced scalar, >= 0.

    Returns a tree like x, computed in float32 at least. Raises ValueError, of JAX's, where l2reg does not fit x.
    Source: Parikh & Boyd 2014, Proximal Algorithms, section 6.1.1. Not to make parameters 0: `prox_lasso`; and a term
    that is smooth may as well be added to f.

    >>> jo.prox_ridge(jnp.array([3.0, -1.0]), 1.0).tolist()
    [1.5, -0.5]
    """
    return _each(lambda v, a: v / (1 + _as(scaling, v) * a), x, l2reg)


def prox_non_negative_ridge(x: PyTree, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """The proximal operator of a squared L2 norm over y >= 0.

    argmin |y - x|**2 / 2 + scaling l2reg / 2 sum y**2 over y >= 0 = max(x, 0) / (1 + scaling l2reg)

    x: a tree of floating arrays.
    l2reg: weight of the norm, >= 0: a number, or a tree like x of numbers and arrays.
    scaling: s, the step that the operator is of: a number or a traced scalar, >= 0.

    Returns a tree like x, computed in float32 at least. Raises ValueError, of JAX's, where l2reg does not fit x.
    Source: Parikh & Boyd 2014, Proximal Algorithms. Not for parameters of both signs: `prox_ridge`.

    >>> jo.prox_non_negative_ridge(jnp.array([3.0, -1.0]), 1.0).tolist()
    [1.5, 0.0]
    """
    return _each(lambda v, a: jnp.maximum(v, 0) / (1 + _as(scaling, v) * a), x, l2reg)


def prox_elastic_net(x: PyTree, l1reg: Any = 1.0, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """The proximal operator of the elastic net, an L1 norm and a squared L2 norm.

    argmin |y - x|**2 / 2 + scaling (l1reg sum|y| + l2reg / 2 sum y**2) over y

    x: a tree of floating arrays.
    l1reg, l2reg: weights of the two, >= 0: numbers, or trees like x of numbers and arrays.
    scaling: s, the step that the operator is of: a number or a traced scalar, >= 0.

    Returns a tree like x, computed in float32 at least. Raises ValueError, of JAX's, where the weights do not fit x.
    Source: Zou & Hastie 2005, doi:10.1111/j.1467-9868.2005.00503.x; Parikh & Boyd 2014, section 6.5.3. Not for one of
    the two alone: `prox_lasso`, `prox_ridge`.

    >>> jo.prox_elastic_net(jnp.array([3.0, 0.5]), 1.0, 1.0).tolist()
    [1.0, 0.0]
    """
    return prox_ridge(prox_lasso(x, l1reg, scaling), l2reg, scaling)


def prox_group_lasso(x: PyTree, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """The proximal operator of the sum of the L2 norms of groups, each leaf a group: small leaves become 0 as a whole.

    argmin |y - x|**2 / 2 + scaling l2reg sum over leaves |y| = (1 - scaling l2reg / |x|) x, 0 where that is negative

    x: a tree of floating arrays, one for each group.
    l2reg: weight of the norms, >= 0: a number, or a tree like x of numbers.
    scaling: s, the step that the operator is of: a number or a traced scalar, >= 0.

    Returns a tree like x, computed in float32 at least. Raises ValueError, of JAX's, where l2reg does not fit x.
    Source: Yuan & Lin 2006, doi:10.1111/j.1467-9868.2005.00532.x; Parikh & Boyd 2014, section 6.5.4. Not for groups
    within an array: split it into leaves.

    >>> jo.prox_group_lasso({"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.3, 0.4])}, 2.5)["b"].tolist()
    [0.0, 0.0]
    """

    def group(v: Array, a: Array) -> Array:
        length, least = norm(v.reshape(-1)), _as(scaling, v) * a
        stays = length > least
        return jnp.where(stays, 1 - least / jnp.where(stays, length, 1), 0) * v

    return _each(group, x, l2reg)


def prox_nuclear_norm(x: PyTree, reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """The proximal operator of the nuclear norm: singular values shrunk, small ones to 0.

    argmin |y - x|**2 / 2 + scaling reg sum of the singular values of y = U max(S - scaling reg, 0) V',  x = U S V'

    x: a tree of matrices float[m,n], or stacks of them float[…,m,n], each matrix by itself.
    reg: weight of the norm, >= 0: a number, or a tree like x of numbers and arrays.
    scaling: s, the step that the operator is of: a number or a traced scalar, >= 0.

    Returns a tree like x, computed in float32 at least; it can be differentiated where singular values meet, too.
    Raises TreeError for a leaf that is no matrix, or stack of them. Source: Cai, Candès & Shen 2010, SIAM J. Optim. 20.
    Not for large matrices: each call takes their singular value decompositions.

    >>> low = jo.prox_nuclear_norm(jnp.diag(jnp.array([3.0, 0.5])), 1.0)
    >>> round(float(low[0, 0]), 4), round(float(abs(low[1, 1])), 4)
    (2.0, 0.0)
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
