"""Steps: counted from 0, compared as integers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jaxopt_ko.core.numerics import compute_dtype


def counted(step: ArrayLike) -> jax.Array:
    """A step from 0 on, as an integer of 32 bits at least, or as a float of as many: of any integer's dtype its number,
    the largest where it is beyond them all."""
    wide = np.int64 if jax.dtypes.canonicalize_dtype(np.int64) == np.int64 else np.int32
    if isinstance(step, int | float):  # weakly typed, as it was
        return jnp.asarray(max(min(step, int(np.iinfo(wide).max)) if isinstance(step, int) else step, 0))
    if not isinstance(step, jax.Array):  # NumPy's may have more bits than there are here
        numbers = np.asarray(step)
        if numbers.dtype.kind in "iu":
            numbers = np.minimum(numbers, np.asarray(largest_count(wide, numbers.dtype), numbers.dtype)).astype(wide)
        step = jnp.asarray(numbers)
    if jnp.issubdtype(step.dtype, jnp.floating):
        return jnp.maximum(step.astype(compute_dtype(step.dtype)), 0)
    if step.dtype == bool or step.dtype.itemsize < 4:
        return jnp.maximum(step.astype(np.int32), 0)
    if step.dtype != np.int32:
        step = jnp.minimum(step, np.asarray(largest_count(wide, step.dtype), step.dtype)).astype(wide)
    return jnp.maximum(step, 0)


def largest_count(*kinds: DTypeLike) -> int:
    """The largest number that all of these dtypes hold."""
    return min(int(np.iinfo(kind).max) for kind in kinds)


def fits(step: ArrayLike, count: int) -> bool:
    """Can a step be as large? One of 32 bits never comes to 10**10."""
    dtype = jnp.result_type(step)
    return not jnp.issubdtype(dtype, jnp.integer) or count <= largest_count(dtype)


def steps_since(step: ArrayLike, begin: int) -> jax.Array:
    """Steps since `begin`, 0 before it."""
    return jnp.maximum(step, begin) - begin if fits(step, begin) else jnp.zeros_like(step)
