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
from jaxopt_ko.errors import WITH_OPTAX, deprecated
from jaxopt_ko.types import Params, PyTree

__all__ = ["fisher_diag", "hessian_diag", "hvp"]

Loss = Callable[[Params, Any, Any], Array]  # (params, inputs, targets) -> float[]


def hvp(loss: Loss, v: Array, params: Params, inputs: Any, targets: Any) -> PyTree:
    """The product of the Hessian of a loss with a vector; deprecated.

    H v, H the Hessian of loss(params, inputs, targets) by params

    loss: (params, inputs, targets) -> float[].
    v: float[n], n elements in all params together, in the order of `tree.ravel`.
    params: the parameters, a tree of floating arrays.
    inputs, targets: what the loss is given besides.

    Returns a tree like params. Raises nothing of its own, with a DeprecationWarning. Source: optax.second_order. Not
    for new programs: jax.jvp(jax.grad(loss), (params,), (v,))[1].

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     Hv = jo.second_order.hvp(lambda p, x, y: jnp.sum(p**2), jnp.ones(2), jnp.ones(2), None, None)
    """
    deprecated("hvp", "jax.jvp(jax.grad(loss), (params,), (v,))[1]", "0.1.0", WITH_OPTAX)
    return _product(loss, v, params, inputs, targets)


def _product(loss: Loss, v: Array, params: Params, inputs: Any, targets: Any) -> PyTree:
    unravel = tree.ravel(params)[1]
    return jax.jvp(jax.grad(lambda p: loss(p, inputs, targets)), (params,), (unravel(v),))[1]


def hessian_diag(loss: Loss, params: Params, inputs: Any, targets: Any) -> Array:
    """The diagonal of the Hessian of a loss, by n products; deprecated.

    diag(H), H the Hessian of loss(params, inputs, targets) by params

    loss: (params, inputs, targets) -> float[].
    params: the parameters, a tree of floating arrays, of n elements in all.
    inputs, targets: what the loss is given besides.

    Returns float[n], in the order of `tree.ravel`. Raises nothing of its own, with a DeprecationWarning. Source:
    optax.second_order. Not for new programs, nor for many parameters: `hutchinson_estimator_diag_hessian`.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     d = jo.second_order.hessian_diag(lambda p, x, y: jnp.sum(p**2), jnp.ones(2), None, None)
    """
    deprecated("hessian_diag", "jnp.diag(jax.hessian(loss)(params, inputs, targets))", "0.1.0", WITH_OPTAX)
    eye = jnp.eye(tree.size(params), dtype=tree.zeros_vector(params).dtype)
    return jax.vmap(lambda e: jnp.sum(e * tree.ravel(_product(loss, e, params, inputs, targets))[0]))(eye)


def fisher_diag(negative_log_likelihood: Loss, params: Params, inputs: Any, targets: Any) -> Array:
    """The diagonal of the observed Fisher matrix: the squares of a gradient; deprecated.

    g**2, g the gradient of negative_log_likelihood(params, inputs, targets) by params

    negative_log_likelihood: (params, inputs, targets) -> float[].
    params: the parameters, a tree of floating arrays, of n elements in all.
    inputs, targets: what it is given besides: one example, for a sum of examples has another Fisher matrix.

    Returns float[n], in the order of `tree.ravel`. Raises nothing of its own, with a DeprecationWarning. Source:
    optax.second_order. Not for new programs: jax.grad(…) squared.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     F = jo.second_order.fisher_diag(lambda p, x, y: jnp.sum(p**2), jnp.ones(2), None, None)
    """
    deprecated("fisher_diag", "jax.grad(negative_log_likelihood)(params, inputs, targets) ** 2", "0.1.0", WITH_OPTAX)
    gradient, _ = tree.ravel(jax.grad(negative_log_likelihood)(params, inputs, targets))
    return jnp.square(gradient)
