"""SAM: the gradient at the worst point nearby.

Foret, Kleiner, Mobahi & Neyshabur 2021, arXiv:2010.01412, Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.compose.conditional import either
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees, structure_mismatch
from jaxopt_ko.core.method import name_of
from jaxopt_ko.core.numerics import zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.types import GradientTransformation, Params, State, Updates


class SAMState(NamedTuple):
    """State of `sam`."""

    steps_since_sync: Array  # int32[]  steps up the hill since the last step of the optimizer
    opt_state: State  # of the optimizer
    adv_state: State  # of the adversary
    cache: Params | None  # like params  w, where the climb began; None in opaque mode


@options
def sam(
    optimizer: GradientTransformation,
    adv_optimizer: GradientTransformation,
    sync_period: int = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
    batch_axis_name: str | None = None,
) -> GradientTransformation:
    """The gradient at the worst point nearby: steps up the hill, then the optimizer's step from where they began.

    e = rho g(w) / |g(w)|;   w <- w - lr g(w + e)       for sam(sgd(lr), chain(normalize(), sgd(rho)))

    optimizer: makes the step, a whole optimizer, with the gradient of the point that was climbed to.
    adv_optimizer: what climbs; its steps are taken uphill. chain(normalize(), sgd(rho)) is the paper's, rho 0.05 there.
    sync_period: updates for one step, an integer >= 1; 2, one climb and one step.
    reset_state: the adversary begins each climb anew.
    opaque_mode: False: one of the two steps at each update; the parameters are w only after every sync_period-th, and
        its steps are in float32 at least, so that the way back is exact. True: all steps within one update(…,
        grad_fn=f), f(params, i) the gradient for the i-th climb, i from 0; for models with statistics that a climb must
        not touch.
    batch_axis_name: a mapped axis to average the gradients of opaque mode over; None: none.

    State: a copy of the parameters, the start of a climb, none in opaque mode, beside those of the two. Needs params.
    Costs sync_period gradients for one step.

    Raises HyperparameterError for a sync_period < 1; MissingArgumentError, when traced, without params, or in opaque
    mode without grad_fn. Source: Foret, Kleiner, Mobahi & Neyshabur 2021, arXiv:2010.01412, Algorithm 1. Not where
    gradients are dear and data plenty: it is twice the work against overfitting.

    >>> tx = jo.sam(jo.sgd(0.1), jo.chain(jo.normalize(), jo.sgd(0.05)))
    >>> state = tx.init(jnp.ones(2))
    """
    period = errors.check_size("sam", "sync_period", sync_period)
    opt, adv = (
        as_transformation("sam", "optimizer", optimizer),
        as_transformation("sam", "adv_optimizer", adv_optimizer),
    )
    name = f"sam({name_of(opt)})"

    def init(params: Params, **problem: Any) -> SAMState:
        cache = None if opaque_mode else jax.tree.map(_kept, params)
        return SAMState(zero_count(), opt.init(params, **problem), adv.init(params, **problem), cache)

    def transparent(
        g: Updates, state: SAMState, params: Params = None, *, grad_fn: Any = None, **extra: Any
    ) -> tuple[Updates, SAMState]:
        n = state.steps_since_sync
        if tree.structure(g, none_is_leaf=True) != tree.structure(state.cache, none_is_leaf=True):
            structure_mismatch(name, "gradients", g, "state", state.cache)
        check_same_trees(name, "gradients", g, "state", tree.none_as(g, state.cache))
        w = tree.where(n == 0, params, tree.none_as(g, state.cache))
        kept = tree.fill_none(w, state.cache)

        def descend() -> tuple[Updates, State, State]:
            steps, new = opt.update(g, state.opt_state, w, **extra)
            back = jax.tree.map(lambda w, p, u: _wide(w) - _wide(p) + _wide(u), w, params, steps)
            return back, new, adv.init(kept) if reset_state else state.adv_state

        def climb() -> tuple[Updates, State, State]:
            steps, new = adv.update(g, state.adv_state, params, **extra)
            return jax.tree.map(lambda u, p: (-_wide(u)).astype(_wide(p).dtype), steps, params), state.opt_state, new

        steps, opt_state, adv_state = either(n >= period - 1, descend, climb)
        return steps, SAMState((n + 1) % period, opt_state, adv_state, kept)

    def opaque(
        g: Updates,
        state: SAMState,
        params: Params = None,
        *,
        grad_fn: Callable[..., Updates] | None = None,
        **extra: Any,
    ) -> tuple[Updates, SAMState]:
        if grad_fn is None:
            errors.missing_argument(name, "grad_fn", "Call update(updates, state, params, grad_fn=f), f(params, i)")
        there, adv_state = params, state.adv_state
        for i in range(period - 1):
            steps, adv_state = adv.update(g, adv_state, there, **extra)
            there = apply_updates(there, jax.tree.map(lambda u: -u, steps))
            g = grad_fn(there, i)
            if batch_axis_name is not None:
                g = jax.lax.pmean(g, batch_axis_name)  # type: ignore[no-untyped-call]
        steps, opt_state = opt.update(g, state.opt_state, params, **extra)
        return steps, SAMState(zero_count(), opt_state, adv.init(params) if reset_state else adv_state, None)

    update = opaque if opaque_mode else transparent
    return transform(name, init, update, needs_params=True, state_type=SAMState)


def _wide(x: Any) -> Array:
    return jnp.asarray(x).astype(tree.compute_dtype(tree.dtype_of(x)))


def _kept(p: Any) -> Array:
    """A copy, since the parameters may be donated; zeros for abstract ones, since the first step overwrites them."""
    return tree.full_like(p, 0.0) if isinstance(p, jax.ShapeDtypeStruct) else jnp.copy(p)
