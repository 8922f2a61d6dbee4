"""The diagonal of the Hessian, estimated. Hutchinson 1989; Bekas, Kokiopoulou & Saad 2007."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors, tree
from jaxopt_ko.compose import transform
from jaxopt_ko.types import GradientTransformation, Params, Updates


class HutchinsonState(NamedTuple):
    """State of `hutchinson_estimator_diag_hessian`."""

    key: Array  # a PRNG key, new at each step


def hutchinson_estimator_diag_hessian(random_seed: Array | int | None = None) -> GradientTransformation:
    """u = r * (H r), r of random signs: the diagonal of H in the mean, and exactly where H is diagonal.

    update(updates, state, params, obj_fn=f): the Hessian of f(params) there; the updates are not read. One
    Hessian-vector product. Its variance is the sum of squares off the diagonal: take an average.
    """
    who = "hutchinson_estimator_diag_hessian"
    start = errors.check_key(who, 0 if random_seed is None else random_seed)

    def init(params: Params) -> HutchinsonState:
        return HutchinsonState(jnp.copy(start))

    def update(
        updates: Updates,
        state: HutchinsonState,
        params: Params = None,
        *,
        obj_fn: Callable[[Params], Array] | None = None,
        **_: Any,
    ) -> tuple[Updates, HutchinsonState]:
        if obj_fn is None:
            errors.missing_argument(who, "obj_fn", "Call update(updates, state, params, obj_fn=loss)")
        key, sub = jax.random.split(state.key)
        leaves, treedef = tree.flatten(jax.tree.map(jnp.asarray, params))
        keys = jax.random.split(sub, max(1, len(leaves)))[: len(leaves)]
        signs = [jax.random.rademacher(k, p.shape, jnp.int8).astype(p.dtype) for k, p in zip(keys, leaves, strict=True)]
        r = treedef.unflatten(signs)
        product = jax.jvp(jax.grad(obj_fn), (treedef.unflatten(leaves),), (r,))[1]
        return jax.tree.map(jnp.multiply, r, product), HutchinsonState(key)

    return transform(who, init, update, needs_params=True, state_type=HutchinsonState)
