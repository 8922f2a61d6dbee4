"""Vectors that are trees like the parameters: random directions, Hessian products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_objective
from jaxopt_ko.core.numerics import or_one
from jaxopt_ko.types import DType, Params, PyTree, Updates

ScalarFn = Callable[..., Any]  # fun(params, *args) -> one number
Product = Callable[[PyTree], PyTree]  # v -> H v

BLOCK = 4096  # random numbers that are drawn at a time


def gradient_of(name: str, fun: ScalarFn, args: tuple[Any, ...]) -> Callable[[Params], Updates]:
    """The gradient of fun, which is checked to return one real number."""
    return jax.grad(lambda p: check_objective(name, fun(p, *args)))


def hessian_product(name: str, fun: ScalarFn, params: Params, args: tuple[Any, ...]) -> Product:
    """v -> H v, for trees in float32 at least."""
    gradient = gradient_of(name, fun, args)

    def product(v: PyTree) -> PyTree:
        return wide(jax.jvp(gradient, (params,), (tree.cast_like(v, params),))[1])

    return product


def wide(x: PyTree) -> PyTree:
    """Each leaf in float32 at least."""
    return jax.tree.map(lambda x: x.astype(tree.compute_dtype(x.dtype)), x)


def arrays(params: Params) -> Params:
    """Numbers as arrays."""
    return jax.tree.map(jnp.asarray, params)


def coarsest_eps(params: Params) -> float:
    """Of the coarsest dtype among the parameters."""
    return max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(params))  # type: ignore[no-untyped-call]


def unit(x: PyTree) -> PyTree:
    """x / |x|; 0 stays 0."""
    return tree.scale(1 / or_one(tree.global_norm(x)), x)


def random_tree(key: Array, like: PyTree, draw: Callable[..., Array]) -> PyTree:
    """A tree of random numbers, made in blocks: the bits of all at once take four times their room."""

    def in_blocks(key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
        size, dtype = math.prod(shape), tree.compute_dtype(dtype)
        if size <= BLOCK:
            return draw(key, shape, dtype)
        rows = -(-size // BLOCK)
        blank = jnp.full((rows, BLOCK), 0 * jax.random.uniform(key, (), dtype))  # not made before the key is
        block = lambda i, y: y.at[i].set(draw(jax.random.fold_in(key, i), (BLOCK,), dtype))  # noqa: E731
        drawn: Array = jax.lax.fori_loop(0, rows, block, blank)
        return drawn.reshape(-1)[:size].reshape(shape)

    return tree.random_like(key, like, in_blocks)


def direction(key: Array, like: PyTree, after: Array | None = None) -> PyTree:
    """v_1, a random direction: always the same, but made anew once the number `after` is known, and not kept till then.

    For what XLA knows, `after` might be NaN, and the direction another one.
    """
    zero = np.int32(0) if after is None else jnp.isnan(after).astype(jnp.int32)
    return unit(random_tree(jax.random.fold_in(key, zero), like, jax.random.normal))


def later_zero(x: PyTree) -> PyTree:
    """0, made no sooner than x: zeros known beforehand would be made at once, and kept."""
    return jax.tree.map(lambda x: 0 * x, x)
