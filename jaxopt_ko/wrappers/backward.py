"""A function that is the identity forward and something else backward."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.types import PyTree


def scale_gradient(inputs: PyTree, scale: float | Array) -> PyTree:
    """The inputs unchanged, with another gradient.

    y = x forward;   dx = scale dy backward (and in forward mode)

    inputs: a tree of arrays; what is no floating number passes as it is.
    scale: the factor, a number or a traced scalar, of any sign; 0 stops the gradient.

    Returns a tree like inputs. Raises nothing. Source: Ganin & Lempitsky 2015, arXiv:1409.7495, for negative factors;
    optax's scale_gradient. Not for gradients of parameters that an optimizer sees: `scale_by_group`.

    >>> float(jax.grad(lambda x: jo.scale_gradient(x, 0.5) ** 2)(3.0))
    3.0
    """
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
