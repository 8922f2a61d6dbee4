"""Updates made safe for the parameters: no NaN, nothing below zero."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.types import EmptyState, GradientTransformation, PyTree


class ZeroNansState(NamedTuple):
    """State of `zero_nans`."""

    found_nan: PyTree  # bool[] for each parameter  had its last update a NaN?


def keep_params_nonnegative() -> GradientTransformation:
    """u = g, and -p where p + g < 0: the last of a chain. Needs params. For other sets, `keep_in`."""

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return jnp.where(p + g < 0, -p, g)

    return leafwise("keep_params_nonnegative", EmptyState, rule=rule, needs_params=True, real=True)


def zero_nans() -> GradientTransformation:
    """u = g, and 0 where g is NaN; infinities pass.

    For gradients with a few NaNs that mean nothing. `apply_if_finite` leaves out a gradient with a NaN as a whole.
    """

    def init(p: Array) -> Memory:
        return (jnp.zeros((), bool),)

    def rule(g: Array, p: Array, found: Array, h: Scalars) -> Step:
        nan = jnp.isnan(g)
        return jnp.where(nan, jnp.zeros_like(g), g), jnp.any(nan)

    return leafwise("zero_nans", ZeroNansState, init=init, rule=rule)
