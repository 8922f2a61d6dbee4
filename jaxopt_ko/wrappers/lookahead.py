"""Lookahead: k steps forward, one step back. Zhang et al. 2019, arXiv:1907.08610, Algorithm 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import HyperparameterReader, as_state, checked, step_hyperparameters
from jaxopt_ko.core.method import filter_kwargs, make_transformation, name_of
from jaxopt_ko.core.numerics import zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import NONNEGATIVE
from jaxopt_ko.types import GradientTransformation, Hyper, Params, State, Updates
from jaxopt_ko.wrappers.checks import check_instance


class LookaheadParams(NamedTuple):
    """The parameters of `lookahead`: gradients are taken at the fast ones, the slow ones are those to keep."""

    fast: Params  # phi
    slow: Params  # theta

    @classmethod
    def init_synced(cls, params: Params) -> LookaheadParams:
        """Slow and fast parameters that are equal, each in memory of its own."""
        return cls(params, jax.tree.map(jnp.copy, params))


class LookaheadState(NamedTuple):
    """State of `lookahead`."""

    fast_state: State  # of the fast optimizer
    steps_since_sync: Array  # int32[]  fast steps since the last step of the slow parameters


@options
def lookahead(
    fast_optimizer: GradientTransformation, sync_period: int, slow_step_size: Hyper, reset_state: bool = False
) -> GradientTransformation:
    """The fast optimizer's steps; after every sync_period-th, the slow parameters step towards the fast ones.

    phi   <- phi + u(g(phi))                    every step
    theta <- theta + slow_step_size (phi - theta);  phi <- theta          every sync_period-th

    fast_optimizer: a whole optimizer, ours or optax's.
    sync_period: fast steps for one slow step, an integer >= 1; 5 to 10 in the paper.
    slow_step_size: the part of the way, >= 0, 0.5 or 0.8 in the paper; a schedule is read at the fast steps taken, and
        the state then has a `ScheduledState` around it.
    reset_state: the fast optimizer begins anew after each synchronization; False, as in optax.

    Parameters and updates are `LookaheadParams`, in update and in `apply_updates`; gradients are plain trees, taken at
    params.fast. State: a count beside that of the fast optimizer; the slow parameters are 4 bytes a parameter more.

    Raises HyperparameterTypeError (a TypeError), when traced, where the parameters are no LookaheadParams;
    HyperparameterError for numbers outside their domain. Source: Zhang et al. 2019, arXiv:1907.08610, Algorithm 1. Not
    where the training loop wants plain parameters: `average_params`.

    >>> params = jo.LookaheadParams.init_synced({"w": jnp.ones(2)})
    >>> tx = jo.lookahead(jo.adam(1e-3), sync_period=5, slow_step_size=0.5)
    >>> state = tx.init(params)
    """
    pair = errors.check_pair("lookahead", "fast_optimizer", fast_optimizer)
    errors.check_size("lookahead", "sync_period", sync_period)
    name = f"lookahead({name_of(pair)})"
    clock = HyperparameterReader(name, checked("lookahead", {"slow_step_size": (slow_step_size, NONNEGATIVE)}))
    inner_init, inner_update = filter_kwargs(pair.init, 1), filter_kwargs(pair.update, 3)

    def init(params: Params) -> State:
        fast = params.fast if isinstance(params, LookaheadParams) else params
        return clock.start(LookaheadState(inner_init(fast), zero_count()))

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        outer, given = clock.open(state)
        state = as_state(name, given, LookaheadState)
        step = step_hyperparameters(clock.read(outer, state))
        alpha = step.values["slow_step_size"]
        check_instance(name, "params", params, LookaheadParams, "LookaheadParams.init_synced(params)")
        u, inner = inner_update(updates, state.fast_state, params.fast, **extra)
        syncs = state.steps_since_sync == np.int32(sync_period - 1)

        def leaf(u: Array, phi: Array, theta: Array) -> tuple[Array, Array]:
            if not tree.is_floating(phi):
                return u, u
            wide = tree.compute_dtype(u.dtype, tree.dtype_of(phi), tree.dtype_of(theta))
            u_wide = u.astype(wide)
            apart = jnp.asarray(phi).astype(wide) + u_wide - jnp.asarray(theta).astype(wide)
            a = alpha.astype(wide)
            fast = jnp.where(syncs, u_wide - (1 - a) * apart, u_wide)
            slow = jnp.where(syncs, a * apart, jnp.zeros_like(apart))
            return fast.astype(u.dtype), slow.astype(u.dtype)

        leaves, treedef = tree.flatten(u, none_is_leaf=True)
        columns = (tree.in_order(name, "params", side, u, treedef) for side in params)
        made = [(None, None) if one[0] is None else leaf(*one) for one in zip(leaves, *columns, strict=True)]
        if reset_state:
            inner = jax.tree.map(  # where a leaf has no gradient, the state stays
                lambda new, old: old if new is None else jnp.where(syncs, new, old),
                inner_init(params.fast),
                inner,
                is_leaf=tree.is_none,
            )
        steps = LookaheadParams(*(treedef.unflatten([both[i] for both in made]) for i in range(2)))
        count = jnp.where(syncs, np.int32(0), state.steps_since_sync + np.int32(1))
        return steps, clock.close(outer, step, LookaheadState(inner, count))

    return make_transformation(name, init, update)
