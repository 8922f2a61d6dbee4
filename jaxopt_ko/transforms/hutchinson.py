"""The diagonal of the Hessian, by products with random signs. Hutchinson 1990, doi:10.1080/03610919008812866."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_objective
from jaxopt_ko.core.method import filter_kwargs
from jaxopt_ko.core.transform import transform
from jaxopt_ko.types import GradientTransformation, Params, Updates


class HutchinsonState(NamedTuple):
    """State of `hutchinson_estimator_diag_hessian`."""

    key: Array  # a PRNG key, new at each estimate


def hutchinson_estimator_diag_hessian(random_seed: Array | int | None = None) -> GradientTransformation:
    """An estimate of the diagonal of the Hessian, by one product with random signs.

    u = r * (H r), signs r drawn anew: its mean is the diagonal of the Hessian H, exact if H is diagonal

    random_seed: a PRNG key, typed or raw, or an integer; None: 0.

    State: a key, nothing a parameter. The updates that come in are not used. Takes from update the function whose
    Hessian it is, `obj_fn(params)`, or else `value_fn(params, **extra_args)`; one product is two to three gradients.

    Raises MissingArgumentError, when traced, without a function or params; TreeError for complex leaves and for a
    function that returns no one number. Source: Hutchinson 1990, doi:10.1080/03610919008812866. Not as an optimizer by
    itself: it is a part of `sophia`.

    >>> tx = jo.hutchinson_estimator_diag_hessian(0)
    >>> params = jnp.array([1.0, 2.0])
    >>> diagonal, _ = tx.update(params, tx.init(params), params, obj_fn=lambda p: jnp.sum(p**2))
    >>> diagonal.tolist()
    [2.0, 2.0]
    """
    name = "hutchinson_estimator_diag_hessian"
    seed = 0 if random_seed is None else random_seed
    start = seed if isinstance(seed, int) else errors.check_key(name, seed, "random_seed")

    def init(params: Params) -> HutchinsonState:
        return HutchinsonState(jax.random.PRNGKey(start) if isinstance(start, int) else jnp.copy(start))

    def update(
        updates: Updates,
        state: HutchinsonState,
        params: Params = None,
        *,
        obj_fn: Callable[..., Any] | None = None,
        value_fn: Callable[..., Any] | None = None,
        **extra_args: Any,
    ) -> tuple[Updates, HutchinsonState]:
        leaves, treedef = tree.flatten(jax.tree.map(jnp.asarray, params))
        if not leaves:
            return updates, state
        if obj_fn is None and value_fn is None:
            errors.missing_argument(name, "obj_fn", "Pass obj_fn=..., the loss as a function of the parameters alone")
        f = value_fn if obj_fn is None else obj_fn
        call = filter_kwargs(errors.check_function(name, "obj_fn", f), 1)

        def loss(p: Params) -> Any:
            return check_objective(name, call(p, **extra_args))

        key, *keys = jax.random.split(state.key, 1 + len(leaves))
        signs = [jax.random.rademacher(k, p.shape, p.dtype) for k, p in zip(keys, leaves, strict=True)]
        _, products = jax.jvp(lambda *p: jax.grad(loss)(treedef.unflatten(p)), tuple(leaves), tuple(signs))
        diagonal = [_times(a, b) for a, b in zip(jax.tree.leaves(products), signs, strict=True)]
        return treedef.unflatten(diagonal), HutchinsonState(key)

    return transform(name, init, update, needs_params=True, state_type=HutchinsonState, real=True)


def _times(a: Array, b: Array) -> Array:
    wide = tree.compute_dtype(a.dtype, b.dtype)
    return a.astype(wide) * b.astype(wide)
