"""Slow copies of parameters, kept beside the training: Polyak averages and targets that lag behind.

Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4); Mnih et al. 2015 for the periodic copy.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.types import Params
from jaxopt_ko.wrappers.checks import check_period


def incremental_update(new_tensors: Params, old_tensors: Params, step_size: float | Array) -> Params:
    """step_size new + (1 - step_size) old, computed in float32 at least, kept in old's dtype.

    Counters, truth values and PRNG keys have no average: the new ones are taken. Keep the average in float32: bfloat16
    cannot hold a change of less than a 256th. Raises TreeError if the trees differ. Where the new tensor is None, so is
    the result.
    """
    errors.check_number("incremental_update", "step_size", step_size, errors.FINITE)
    if tree.structure(new_tensors) != tree.structure(old_tensors):
        both = (tree.flatten(tensors, none_is_leaf=True) for tensors in (new_tensors, old_tensors))
        (new, treedef), (old, old_treedef) = both
        if treedef == old_treedef:
            old_tensors = treedef.unflatten([None if n is None else o for n, o in zip(new, old, strict=True)])
    check_same_trees("incremental_update", "new tensors", new_tensors, "old tensors", old_tensors)

    def mixed(new: Any, old: Any) -> Array:
        if not tree.is_floating(old):
            return _like(new, old)
        wide = tree.compute_dtype(tree.dtype_of(new), tree.dtype_of(old))
        rate, new_, old_ = (jnp.asarray(x).astype(wide) for x in (step_size, new, old))
        return (rate * new_ + (1 - rate) * old_).astype(tree.dtype_of(old))

    return jax.tree.map(mixed, new_tensors, old_tensors)


def periodic_update(new_tensors: Params, old_tensors: Params, steps: int | Array, update_period: int | Array) -> Params:
    """The new tensors if `steps` is a multiple of update_period, else the old ones; in old's dtype. Counters, truth
    values and PRNG keys are copied as the others are."""
    check_same_trees("periodic_update", "new tensors", new_tensors, "old tensors", old_tensors)
    period = check_period("periodic_update", "update_period", update_period)
    new = jax.tree.map(_like, new_tensors, old_tensors)
    old = jax.tree.map(jnp.asarray, old_tensors)
    return jax.lax.cond(jnp.asarray(steps) % period == 0, lambda: new, lambda: old)


def _like(new: Any, old: Any) -> Array:
    """A tensor in the dtype of the old one; a key stays the kind of key that it is."""
    dtype = tree.dtype_of(old)
    return jnp.asarray(new) if tree.dtype_of(new) == dtype else jnp.asarray(new).astype(dtype)
