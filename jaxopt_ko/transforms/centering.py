"""Gradients without their mean. Yong, Huang, Hua & Zhang 2020, arXiv:2004.01461, equation 1."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.signature import options
from jaxopt_ko.types import EmptyState, GradientTransformation, PyTree


@options
def centralize(*, stack_axes: PyTree = 0) -> GradientTransformation:
    """u = g - mean(g) over all axes but the first, for leaves of two axes or more; others pass unchanged.

    The first axis counts outputs in the paper; for kernels [in, out] transpose before, or mask them out.
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return g - jnp.mean(g, range(1, g.ndim), keepdims=True) if g.ndim > 1 else g

    return leafwise("centralize", EmptyState, rule=rule, stack_axes=stack_axes)
