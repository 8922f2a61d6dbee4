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
    """Gradients without their mean.

    u = g - mean(g) over all axes but the first, for leaves of two axes or more; others pass unchanged

    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; the first axis is the
        next.

    No state. Raises HyperparameterTypeError, when made, for stack_axes that are no integers. Source: Yong, Huang, Hua &
    Zhang 2020, arXiv:2004.01461, equation 1. Not for kernels [in, out] as they are, since the first axis counts outputs
    in the paper: transpose before, or mask them out.

    >>> tx = jo.centralize()
    >>> tx.update(jnp.array([[1.0, 3.0]]), tx.init(jnp.ones((1, 2))))[0].tolist()
    [[-1.0, 1.0]]
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return g - jnp.mean(g, range(1, g.ndim), keepdims=True) if g.ndim > 1 else g

    return leafwise("centralize", EmptyState, rule=rule, stack_axes=stack_axes)
