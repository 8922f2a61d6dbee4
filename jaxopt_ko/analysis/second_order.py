"""optax.second_order, which optax deprecates: products with the Hessian and diagonals, of a loss over a batch.

`jaxopt_ko.diagnose` has what takes any function of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.errors import deprecated
from jaxopt_ko.types import Params, PyTree

__all__ = ["fisher_diag", "hessian_diag", "hvp"]

Loss = Callable[[Params, Any, Any], Array]  # (params, inputs, targets) -> float[]


def hvp(loss: Loss, v: Array, params: Params, inputs: Any, targets: Any) -> PyTree:
    """H v, H the Hessian of loss(params, inputs, targets) by params; deprecated.

    v: float[n], n elements in all params together, in the order of `tree.ravel`. Returns a tree like params.
    params: the parameters, a tree of floating arrays.
    """
    deprecated("hvp", "jax.jvp(jax.grad(loss), (params,), (v,))[1]")
    return _product(loss, v, params, inputs, targets)


def _product(loss: Loss, v: Array, params: Params, inputs: Any, targets: Any) -> PyTree:
    unravel = tree.ravel(params)[1]
    return jax.jvp(jax.grad(lambda p: loss(p, inputs, targets)), (params,), (unravel(v),))[1]


def hessian_diag(loss: Loss, params: Params, inputs: Any, targets: Any) -> Array:
    """float[n]: the diagonal of the Hessian of loss(params, inputs, targets), by n products; deprecated.

    params: the parameters, a tree of floating arrays.
    """
    deprecated("hessian_diag", "jnp.diag(jax.hessian(loss)(params, inputs, targets))")
    eye = jnp.eye(tree.size(params), dtype=tree.zeros_vector(params).dtype)
    return jax.vmap(lambda e: jnp.sum(e * tree.ravel(_product(loss, e, params, inputs, targets))[0]))(eye)


def fisher_diag(negative_log_likelihood: Loss, params: Params, inputs: Any, targets: Any) -> Array:
    """float[n]: the squares of the gradient, the diagonal of the observed Fisher matrix; deprecated.

    params: the parameters, a tree of floating arrays.
    """
    deprecated("fisher_diag", "jax.grad(negative_log_likelihood)(params, inputs, targets) ** 2")
    gradient, _ = tree.ravel(jax.grad(negative_log_likelihood)(params, inputs, targets))
    return jnp.square(gradient)
