"""Updates in proportion to the size of the parameters of their leaf.

Trust ratio: You, Gitman & Ginsburg 2017, arXiv:1708.03888, equation 6; You et al. 2020, arXiv:1904.00962, Algorithm 2.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.numerics import length, quotient, root_mean_square
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import NONNEGATIVE
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, PyTree


@options
def scale_by_trust_ratio(
    min_norm: Hyper = 0.0, trust_coefficient: Hyper = 1.0, eps: Hyper = 0.0, *, stack_axes: PyTree = 0
) -> GradientTransformation:
    """Steps whose length is that of the leaf's parameters, times a factor.

    |p|, |g| = max(norm of the leaf, min_norm)
    u = trust_coefficient |p| / (|g| + eps) g;   u = g where either norm is 0

    min_norm: the least that a norm counts as, >= 0; 0 as in LAMB.
    trust_coefficient: the factor, >= 0; 1 as in LAMB, 0.001 in LARS.
    eps: added to the gradient's norm, >= 0; 0 by default, as u = g where that is 0.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own norms.

    No state; needs params. Raises HyperparameterError, when made, for negative numbers; MissingArgumentError, when
    traced, without params. Source: You, Gitman & Ginsburg 2017, arXiv:1708.03888, equation 6; You et al. 2020,
    arXiv:1904.00962, Algorithm 2. Not for biases and norms, whose parameters are small or begin at 0: mask them out.

    >>> tx = jo.chain(jo.scale_by_adam(), jo.scale_by_trust_ratio(), jo.scale_by_learning_rate(1e-3))
    >>> state = tx.init({"w": jnp.ones((2, 2))})
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        p_norm, g_norm = jnp.maximum(length(p), h.min_norm), jnp.maximum(length(g), h.min_norm)
        zero = (p_norm == 0) | (g_norm == 0)
        one = jnp.ones_like(g_norm)
        unit = quotient(g, jnp.where(zero, one, g_norm + h.eps))  # |p| / |g| may overflow where |p| g / |g| does not
        return jnp.where(zero, one, h.trust_coefficient * p_norm) * unit

    hypers = {
        "min_norm": (min_norm, NONNEGATIVE),
        "trust_coefficient": (trust_coefficient, NONNEGATIVE),
        "eps": (eps, NONNEGATIVE),
    }
    return leafwise(
        "scale_by_trust_ratio",
        EmptyState,
        rule=rule,
        hypers=hypers,
        needs_params=True,
        stack_axes=stack_axes,
    )


@options
def scale_by_param_block_norm(min_scale: Hyper = 1e-3, *, stack_axes: PyTree = 0) -> GradientTransformation:
    """Steps in proportion to the norm of the leaf's parameters.

    u = max(|p|, min_scale) g, with |p| the Euclidean norm of the leaf

    min_scale: the least that the norm counts as, in the units of p, >= 0, so that leaves that begin at 0 can leave it.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own norm.

    No state; needs params. Raises HyperparameterError, when made, for a negative number; MissingArgumentError, when
    traced, without params. Source: optax's scale_by_param_block_norm. Not for raw gradients: g is to be of unit size.

    >>> tx = jo.chain(jo.scale_by_adam(), jo.scale_by_param_block_norm(), jo.scale_by_learning_rate(1e-2))
    >>> state = tx.init({"w": jnp.ones((2, 2))})
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return jnp.maximum(length(p), h.min_scale) * g

    return leafwise(
        "scale_by_param_block_norm",
        EmptyState,
        rule=rule,
        hypers={"min_scale": (min_scale, NONNEGATIVE)},
        needs_params=True,
        stack_axes=stack_axes,
    )


@options
def scale_by_param_block_rms(min_scale: Hyper = 1e-3, *, stack_axes: PyTree = 0) -> GradientTransformation:
    """Steps in proportion to the root mean square of the leaf's parameters.

    u = max(rms(p), min_scale) g, with rms(p) the root mean square of the leaf

    min_scale: the least that the root mean square counts as, in the units of p, >= 0; 1e-3 as in Adafactor.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own mean.

    No state; needs params. Raises HyperparameterError, when made, for a negative number; MissingArgumentError, when
    traced, without params. Source: Shazeer & Stern 2018, arXiv:1804.04235, section 8. Not for raw gradients: g is to be
    of unit size.

    >>> tx = jo.chain(jo.scale_by_adam(), jo.scale_by_param_block_rms(), jo.scale_by_learning_rate(1e-2))
    >>> state = tx.init({"w": jnp.ones((2, 2))})
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return jnp.maximum(root_mean_square(p), h.min_scale) * g

    return leafwise(
        "scale_by_param_block_rms",
        EmptyState,
        rule=rule,
        hypers={"min_scale": (min_scale, NONNEGATIVE)},
        needs_params=True,
        stack_axes=stack_axes,
    )
