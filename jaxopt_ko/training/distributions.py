"""A normal distribution whose parameters can be optimized."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


class MultiNormalDiagFromLogScale:
    """Independent normals: x = loc + exp(log_scale) e, both of one shape or broadcast to one."""

    def __init__(self, loc: ArrayLike, log_scale: ArrayLike) -> None:
        self._loc, self._log_scale = jnp.asarray(loc), jnp.asarray(log_scale)
        self._shape = jnp.broadcast_shapes(self._loc.shape, self._log_scale.shape)

    def sample(self, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        """float[*shape, *parameters]: draws, through which the parameters can be differentiated."""
        noise = jax.random.normal(key, (*shape, *self._shape), self._loc.dtype)
        return self._spread(jnp.exp(self._log_scale), noise) * noise + self._spread(self._loc, noise)

    def log_prob(self, x: ArrayLike) -> jax.Array:
        """float[…]: the log-density of x[…, *parameters], summed over the parameters' axes."""
        x = jnp.asarray(x)
        z = (x - self._spread(self._loc, x)) * self._spread(jnp.exp(-self._log_scale), x)
        each = -0.5 * z * z - self._spread(self._log_scale, x) - 0.5 * math.log(2 * math.pi)
        return jnp.sum(each, axis=tuple(range(x.ndim - len(self._shape), x.ndim)))

    @staticmethod
    def _spread(value: jax.Array, like: jax.Array) -> jax.Array:
        return jnp.broadcast_to(value, like.shape)

    @property
    def log_scale(self) -> jax.Array:
        """The logarithm of the standard deviations."""
        return self._log_scale

    @property
    def params(self) -> list[jax.Array]:
        """[loc, log_scale]."""
        return [self._loc, self._log_scale]


def multi_normal(loc: ArrayLike, log_scale: ArrayLike) -> MultiNormalDiagFromLogScale:
    """Independent normals whose parameters can be optimized.

    x = loc + exp(log_scale) e, e standard normal, element by element

    loc: float[…], the means.
    log_scale: float[…], the logarithms of the standard deviations, of one shape with loc or broadcast to one; their
        logarithms, so that an optimizer may step anywhere.

    Returns a `MultiNormalDiagFromLogScale`: sample(shape, key), log_prob(x), log_scale, params. Raises ValueError, of
    JAX's, for shapes that do not go together. Source: optax's multi_normal. Not for correlated variables.

    >>> normal = jo.multi_normal(jnp.zeros(2), jnp.zeros(2))
    >>> normal.sample((5,), jax.random.key(0)).shape
    (5, 2)
    """
    return MultiNormalDiagFromLogScale(loc, log_scale)
