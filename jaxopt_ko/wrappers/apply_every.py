"""The sum of several updates at a time: what optax has beside `MultiSteps`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_period
from jaxopt_ko.core.hyperparameters import Scalars, as_state
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import make_transformation
from jaxopt_ko.core.numerics import scalar_dtype
from jaxopt_ko.types import GradientTransformation, Params, State, Updates


class ApplyEvery(NamedTuple):
    """State of `apply_every`."""

    count: Array  # int32[]                 t, steps taken
    grad_acc: Updates  # like params, f32+  s_t, sum since the last step that was passed on


def apply_every(k: int | Array = 1) -> GradientTransformation:
    """Passes on the sum of k updates every k-th step, and zeros in between.

    s_t = g for t = 1, k + 1, 2 k + 1, …, else s + g
    u   = s_t  for t = k, 2 k, …,            else 0

    k: the period in steps, an integer >= 1, or an int32[], traced too; 1 passes all on.

    State: 4 bytes a parameter and a count. A gradient that is None counts as 0, and its step is None: what its leaf had
    gathered is lost at a k-th step.

    Raises HyperparameterTypeError for k that is no integer, HyperparameterError for k < 1. Source: optax's apply_every.
    Not behind a rule with memory that is to see the mean of k gradients: the parts before it in a chain still run at
    every step; `MultiSteps` runs a whole optimizer once every k.

    >>> tx = jo.chain(jo.apply_every(4), jo.sgd(0.1))
    >>> state = tx.init(jnp.ones(2))
    """
    k = check_period("apply_every", "k", k)

    def init(p: Array) -> Memory:
        return (tree.wide_like(p),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        place = (t - 1) % k
        return {"first": (place == 0).astype(scalar_dtype()), "last": (place == k - 1).astype(scalar_dtype())}

    def rule(g: Array, p: Array, s: Array, h: Scalars) -> Step:
        s = jnp.where(h.first > 0, g, s + g)  # by selection: 0 times NaN is NaN
        return jnp.where(h.last > 0, s, jnp.zeros_like(s)), s

    pair = leafwise("apply_every", ApplyEvery, init=init, shared=shared, rule=rule)

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        if not any(g is None for g in tree.flatten(updates, none_is_leaf=True)[0]):
            return pair.update(updates, state, params)
        own = as_state("apply_every", state, ApplyEvery)
        steps, new = pair.update(tree.fill_none(updates, tree.zeros_like(own.grad_acc)), own, params)
        return tree.none_as(updates, steps), new

    return make_transformation("apply_every", pair.init, update)
