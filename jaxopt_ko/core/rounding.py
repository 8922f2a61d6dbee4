"""Float32 to 16 bits at random, so that the mean of many roundings is the number itself.

Gupta et al. 2015, "Deep Learning with Limited Numerical Precision", arXiv:1502.02551, section 3.
"""

from __future__ import annotations

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.types import DType, PyTree

RANDOM_BITS = 16  # as many as bfloat16 has fewer than float32


def step_key(key: Array, count: Array) -> Array:
    """The key of one step."""
    return jax.random.fold_in(key, count)


def leaf_number(path: str) -> np.uint32:
    """What stands for a leaf's name where keys are made."""
    return np.uint32(zlib.crc32(path.encode()))


def leaf_key(key: Array, path: str) -> Array:
    """The key of one leaf, by its name: the same wherever the leaf stands in memory, and on how many devices."""
    return jax.random.fold_in(key, leaf_number(path))


def leaf_keys(key: Array, like: PyTree) -> PyTree:
    """A key for each leaf of a tree, by its path."""
    return jax.tree_util.tree_map_with_path(lambda path, _: leaf_key(key, jax.tree_util.keystr(path)), like)


def round_stochastic(x: Array, dtype: DType, key: Array) -> Array:
    """x to one of its two neighbours in `dtype`, the nearer one the more often: its mean over keys is x.

    x: float32[…] or what becomes it; dtype: bfloat16 or float16, any other is rounded to nearest.
    key: one PRNG key, of which each element takes 16 bits. What is not finite, or a number of `dtype`, stays as it is.
    """
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
        return x.astype(dtype)
    return _rounded(x.astype(jnp.float32), jax.random.bits(key, x.shape, jnp.uint16), jnp.dtype(dtype))


def _rounded(x: Array, r: Array, dtype: Any) -> Array:
    """x and 16 random bits for each element of it, uint16[…]."""
    made: Array = (_to_bfloat16 if dtype == jnp.bfloat16 else _to_float16)(x, r)
    return made


@jax.jit
def _to_bfloat16(x: Array, r: Array) -> Array:
    """The top 16 bits of bits(x) + r: the last 16 carry over with a chance of their value over 2**16."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    moved = jnp.where(jnp.isfinite(x), bits + r.astype(jnp.uint32), bits)
    top = jax.lax.shift_right_logical(moved, np.uint32(RANDOM_BITS)).astype(jnp.uint16)
    quiet = jnp.where(jnp.isnan(x), np.uint16(0x7FC0), top)  # the bits of a NaN may all be among those that are cut
    return jax.lax.bitcast_convert_type(quiet, jnp.bfloat16)


@jax.jit
def _to_float16(x: Array, r: Array) -> Array:
    """The neighbour nearer to 0, or with a chance of the rest over the gap between the two, the other one."""
    nearest = x.astype(jnp.float16)
    bits = jax.lax.bitcast_convert_type(nearest, jnp.uint16)
    beyond = jnp.abs(nearest.astype(jnp.float32)) > jnp.abs(x)
    inner = jnp.where(beyond, bits - np.uint16(1), bits)
    low, high = (
        jnp.abs(jax.lax.bitcast_convert_type(b, jnp.float16)).astype(jnp.float32) for b in (inner, inner + np.uint16(1))
    )
    gap = jnp.where(jnp.isfinite(high), high, np.float32(2.0**16)) - low
    chance = (jnp.abs(x) - low) / gap * np.float32(2.0**RANDOM_BITS)
    outwards = r.astype(jnp.float32) < chance
    signed = jnp.where((inner == 0) & (x < 0), np.uint16(0x8000), inner)
    moved = jnp.where(outwards, signed + np.uint16(1), signed)
    return jnp.where(jnp.isfinite(x), jax.lax.bitcast_convert_type(moved, jnp.float16), nearest)
