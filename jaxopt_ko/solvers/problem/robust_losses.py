"""Robust losses of residuals: a large one, an outlier's, counts for less than its square.

f = C**2 / 2 sum_i rho(z_i)      z_i = (r_i / C)**2      rho(z) ~ z near 0
Triggs, McLauchlan, Hartley & Fitzgibbon 2000, doi:10.1007/3-540-44480-7_21, section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.numerics import safe_sqrt
from jaxopt_ko.errors import POSITIVE, TreeError, check_choice, describe, say

LEAST = 0.3  # of rho'(z), that the weight of an outlier's row of J keeps
Rho = Callable[[Array], Array]  # elementwise, for z >= 0


def _huber(z: Array) -> Array:
    far = z > 1
    return jnp.where(far, 2 * jnp.sqrt(jnp.where(far, z, 1)) - 1, z)


LOSSES: dict[str, Rho] = {
    "linear": lambda z: z,
    "huber": _huber,
    "soft_l1": lambda z: 2 * z / (jnp.sqrt(1 + z) + 1),
    "cauchy": jnp.log1p,
    "arctan": jnp.arctan,
}


class Robust(NamedTuple):
    """A loss and its scale, as functions of the residuals."""

    cost: Callable[[Array], Array]  # r float[m] -> f float[]
    correct: Callable[[Array, Array], tuple[Array, Array]]  # r, rows float[m,...] -> r~, rows~


def robust(name: str, loss: str | Rho, loss_scale: Any, dtype: Any) -> Robust:
    """f, and the correction that makes of r and its Jacobian J the residuals whose linear model is f's.

    J~ = sqrt(w) J     r~ = rho'(z) r / sqrt(w)     w = rho'(z) + 2 z rho''(z)
    J~'r~ is f's gradient, and J~'J~ its Hessian but for the curvature of r. An outlier's w, which would be 0 or less,
    is kept at 0.3 rho'(z): with less, more starts end in a local minimum; with 1 (Ceres), the end is slower.

    Raises HyperparameterError for an unknown name or a scale that is not positive; TreeError for a loss that is not
    elementwise.
    """
    rho = check_loss(name, loss, LOSSES)
    scale = jnp.asarray(errors.check_number(name, "loss_scale", loss_scale, POSITIVE)).astype(dtype)

    def full(z: Array) -> Array:
        return jnp.asarray(_check_rho(name, z, rho(z))).astype(z.dtype)

    def slope(z: Array) -> Array:
        return jax.jvp(full, (z,), (jnp.ones_like(z),))[1]  # type: ignore[no-any-return]

    def cost(r: Array) -> Array:
        return 0.5 * scale**2 * jnp.sum(full((r / scale) ** 2))

    def correct(r: Array, rows: Array) -> tuple[Array, Array]:
        if rho is LOSSES["linear"]:
            return r, rows
        z = (r / scale) ** 2
        first, second = jax.jvp(slope, (z,), (jnp.ones_like(z),))
        first = jnp.maximum(first, 0)
        root = safe_sqrt(jnp.maximum(first + 2 * z * second, LEAST * first))
        weight = jnp.where(root > 0, first / jnp.where(root > 0, root, 1), 0)
        return weight * r, root.reshape(-1, *[1] * (rows.ndim - 1)) * rows

    return Robust(cost, correct)


def check_loss(name: str, loss: Any, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """A loss of least squares, by name or as a function."""
    if callable(loss):
        return loss  # type: ignore[no-any-return]
    check_choice(name, "loss", loss if isinstance(loss, str) else repr(loss), [*known, "a function rho(z)"])
    return known[loss]


def _check_rho(name: str, z: Any, value: Any) -> Any:
    """What a user's loss returns."""
    dtype = getattr(value, "dtype", None)
    if np.shape(value) != np.shape(z) or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        say(TreeError, name, "a loss must map each z = (r / loss_scale)**2 to one number, as jnp.log1p does",
            f"{describe(value)} for {describe(z)}", "Return rho(z) alone: JAX finds its derivatives")  # fmt: skip
    return value
