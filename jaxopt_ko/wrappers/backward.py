"""A function that is the identity forward and something else backward."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.types import PyTree


def scale_gradient(inputs: PyTree, scale: float | Array) -> PyTree:
    """The inputs unchanged, with their gradient multiplied by `scale`, traced or not; 0 stops it."""
    if not isinstance(scale, jax.core.Tracer) and float(scale) in (0.0, 1.0):
        return inputs if scale else jax.lax.stop_gradient(inputs)
    return jax.tree.map(lambda x: _scaled(x, jnp.asarray(scale)) if _real(x) else x, inputs)


def _real(x: Any) -> bool:
    return bool(jnp.issubdtype(tree.dtype_of(x), jnp.inexact))


@jax.custom_jvp
def _scaled(x: Array, scale: Array) -> Array:
    return x


@_scaled.defjvp
def _scaled_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (x, scale), (dx, _) = primals, tangents
    return x, dx * scale.astype(dx.dtype)
