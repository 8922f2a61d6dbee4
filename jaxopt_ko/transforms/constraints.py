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
    """Updates cut so that no parameter falls below zero.

    u = g, and -p where p + g < 0

    State: none. It takes no arguments, needs params, and is to be the last of a chain.

    Raises MissingArgumentError, when traced, without params; TreeError for complex leaves. Source: optax's
    keep_params_nonnegative. Not for other sets: `keep_in` takes any projection; nor for parameters that begin below
    zero and may stay there: the first step brings them to 0.

    >>> tx = jo.chain(jo.sgd(1.0), jo.keep_params_nonnegative())
    >>> params = jnp.array([1.0, 0.5])
    >>> tx.update(jnp.array([2.0, 0.25]), tx.init(params), params)[0].tolist()
    [-1.0, -0.25]
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return jnp.where(p + g < 0, -p, g)

    return leafwise("keep_params_nonnegative", EmptyState, rule=rule, needs_params=True, real=True)


def zero_nans() -> GradientTransformation:
    """Gradients without NaN; infinities pass.

    u = g, and 0 where g is NaN

    State: one truth value a leaf, whether its last update had a NaN. It takes no arguments and raises nothing of its
    own. Source: optax's zero_nans. Only for gradients with a few NaNs that mean nothing. Not where a NaN says that the
    step is bad as a whole: `apply_if_finite` leaves such a gradient out.

    >>> tx = jo.zero_nans()
    >>> tx.update(jnp.array([1.0, jnp.nan]), tx.init(jnp.ones(2)))[0].tolist()
    [1.0, 0.0]
    """

    def init(p: Array) -> Memory:
        return (jnp.zeros((), bool),)

    def rule(g: Array, p: Array, found: Array, h: Scalars) -> Step:
        nan = jnp.isnan(g)
        return jnp.where(nan, jnp.zeros_like(g), g), jnp.any(nan)

    return leafwise("zero_nans", ZeroNansState, init=init, rule=rule)
