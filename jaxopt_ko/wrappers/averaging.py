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
from jaxopt_ko.core.checks import check_period, check_same_trees
from jaxopt_ko.types import Params


def incremental_update(new_tensors: Params, old_tensors: Params, step_size: float | Array) -> Params:
    """A slow copy of parameters moved a part of the way to the new ones.

    old <- step_size new + (1 - step_size) old, leaf by leaf

    new_tensors: the parameters, a tree of arrays; where one is None, so is the result.
    old_tensors: the copy, a tree like them.
    step_size: the part, a finite number, traced too; 0.001 to 0.01 is usual for a target network.

    Returns a tree like old_tensors, computed in float32 at least and kept in its dtypes. Counters, truth values and
    PRNG keys have no average: the new ones are taken.

    Raises HyperparameterError for a step_size that is not finite, HyperparameterTypeError for a schedule; TreeError if
    the trees differ. Source: Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4). Not for copies in bfloat16, which
    cannot hold a change of less than a 256th: keep the average in float32. Within an optimizer: `average_params`.

    >>> jo.incremental_update(jnp.array([2.0]), jnp.array([1.0]), 0.5).tolist()
    [1.5]
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
    """A slow copy of parameters, replaced by the new ones once every so many steps.

    old <- new where steps is a multiple of update_period, else old

    new_tensors: the parameters, a tree of arrays.
    old_tensors: the copy, a tree like them.
    steps: the steps so far, an integer or an int32[], traced too.
    update_period: an integer >= 1, or an int32[], traced too.

    Returns a tree like old_tensors, in its dtypes. Counters, truth values and PRNG keys are copied as the others are.

    Raises HyperparameterTypeError for a period that is no integer, HyperparameterError for one < 1; TreeError if the
    trees differ. Source: Mnih et al. 2015, doi:10.1038/nature14236. Not where a target may not jump:
    `incremental_update`.

    >>> jo.periodic_update(jnp.array([2.0]), jnp.array([1.0]), steps=3, update_period=2).tolist()
    [1.0]
    """
    check_same_trees("periodic_update", "new tensors", new_tensors, "old tensors", old_tensors)
    period = check_period("periodic_update", "update_period", update_period)
    new = jax.tree.map(_like, new_tensors, old_tensors)
    old = jax.tree.map(jnp.asarray, old_tensors)
    return jax.lax.cond(jnp.asarray(steps) % period == 0, lambda: new, lambda: old)


def _like(new: Any, old: Any) -> Array:
    """A tensor in the dtype of the old one; a key stays the kind of key that it is."""
    dtype = tree.dtype_of(old)
    return jnp.asarray(new) if tree.dtype_of(new) == dtype else jnp.asarray(new).astype(dtype)
