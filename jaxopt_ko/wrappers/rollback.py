"""A run that goes back to where it was good: parameters and state are kept every so often, and taken up again.

Chowdhery et al. 2022, "PaLM", arXiv:2204.02311, section 5.1: restart from before the spike, and leave its data out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.compose.conditional import either
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_carry, check_period, check_same_trees
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import name_of
from jaxopt_ko.core.numerics import next_count, scalar_dtype, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import POSITIVE, UNIT
from jaxopt_ko.types import GradientTransformation, Hyper, Params, State, Updates
from jaxopt_ko.wrappers import levels
from jaxopt_ko.wrappers.levels import Levels

TRIES = 4  # steps that lead back: of one the sum may be rounded, where parameters went far away


class RollbackState(NamedTuple):
    """State of `rollback`."""

    losses: Array  # float[window]  of the last steps taken with a loss, a ring; 0 where there is none yet
    norms: Array  # float[window]   of the gradients of the last steps taken, likewise
    with_loss: Array  # int32[]     losses written since the ring was empty
    accepted: Array  # int32[]      norms, likewise
    since: Array  # int32[]         steps taken since the newest was kept
    in_a_row: Array  # int32[]      bad steps in a row up to now
    depth: Array  # int32[]         times it went back since something was kept
    tries: Array  # int32[]         steps that may still be spent on the way back, 0 when it is there
    broken: Array  # bool[]         did the last step lead to what is not finite? Then it goes back at once
    rate: Array  # float[]          what steps are multiplied by, 1 at first
    not_finite: Array  # int32[]    bad steps, in all, whose loss or gradient, or what they led to, was not finite
    high_loss: Array  # int32[]     those whose loss stood out
    high_norm: Array  # int32[]     those whose gradient's norm stood out, and whose loss did not
    restored: Array  # int32[]      times it went back, in all
    restarts: Array  # int32[]      times that the statistics began anew
    kept_params: tuple[Params, ...]  # those kept, the newest first
    kept_states: tuple[State, ...]  # of the inner transformation, beside them
    inner_state: State  # of the inner transformation


class _Outcome(NamedTuple):
    """What a step makes of the run."""

    steps: Updates
    inner: State
    params: tuple[Params, ...]
    states: tuple[State, ...]
    tries: Array
    broken: Array


@options
def rollback(
    tx: GradientTransformation,
    every: int | Array,
    keep: int = 2,
    *,
    patience: int | Array = 8,
    rate_factor: Hyper = 0.5,
    window: int = 128,
    sigma: Hyper = 6.0,
    warmup: int | None = None,
    axis_name: tree.AxisName = None,
    enabled: bool = True,
) -> GradientTransformation:
    """A transformation that leaves bad steps out, as `skip_spikes`, and after several goes back to parameters it kept.

    every `every` steps taken:  (p, state) are kept, the last `keep` of them
    after `patience` bad steps in a row:  u = kept p - p,  state = kept state,  rate = rate_factor rate
    else:  u = rate times the step of tx, or 0 where the step is bad

    A step is bad as for `skip_spikes`, by loss and norm; and where it would lead to parameters that are not finite, it
    is left out and the run goes back at once.

    tx: the transformation, ours or optax's.
    every: steps taken between two that are kept, an integer >= 1: what is lost by going back, at most. The first is
        kept when the state is made.
    keep: how many, an int >= 1, no traced one. If it has to go back again before a new one is kept, the newest is
        dropped: with 2 it gets behind a fault that was not seen yet when it was kept.
    patience: bad steps in a row that make it go back, an integer >= 1; with 8 a few bad batches do not.
    rate_factor: what later steps are multiplied by each time it goes back, in [0, 1]; 1: nothing. state.rate has the
        product; `state._replace(rate=…)` sets it.
    window, sigma, warmup: as of `skip_spikes`.
    axis_name: within `jax.shard_map`, the axes that every gradient is cut along, as of `global_norm`; None: none.
    enabled: False gives tx as it is, with nothing added to its state or to a program.

    Steps are float32 at least, so that p + u is what was kept, bit for bit, wherever one such sum can be; where p went
    so far away that it cannot, the next steps close the gap. When all that was kept was tried and steps are still bad,
    the level itself has changed: the statistics begin anew, and the step is taken.

    State: `keep` times that of tx and the parameters, 8 window bytes and 46 more beside that of tx. Needs params.
    `diagnose.skips` reads what happened. Under jax.vmap tx runs at each step and is selected from.

    Raises HyperparameterError for numbers outside their domain; TransformationError for a tx whose steps lead exactly
    to numbers of 16 bits, which a rate would break: put `stochastic_rounding` and its kin around this; and what tx
    raises.
    Source: Chowdhery et al. 2022, arXiv:2204.02311, section 5.1. Not for what memory has no room for: checkpoints of
    `loop.fit` are on disk.

    >>> tx, params = jo.rollback(jo.sgd(0.1), every=100, patience=1), jnp.ones(2)
    >>> state = tx.init(params)
    >>> updates, state = tx.update(params, state, params)
    >>> params = jo.apply_updates(params, updates)
    >>> updates, state = tx.update(params * jnp.nan, state, params)
    >>> jo.apply_updates(params, updates).tolist(), int(state.restored)
    ([1.0, 1.0], 1)
    """
    name = "rollback"
    pair = as_transformation(name, "tx", tx)
    every, keep = check_period(name, "every", every), check_period(name, "keep", keep)
    window, least = levels.check_window(name, window, warmup)
    patience = check_period(name, "patience", patience)
    hypers = {"sigma": (sigma, POSITIVE), "rate_factor": (rate_factor, UNIT)}
    whole = f"{name}({name_of(pair)})"

    def init(params: Params, **problem: Any) -> RollbackState:
        counts = [zero_count() for _ in range(4)]
        totals = [zero_count() for _ in range(5)]
        start = [*levels.empty(window), *counts, jnp.zeros((), bool), jnp.ones((), scalar_dtype()), *totals]
        copies = tuple(jax.tree.map(_copy, params) for _ in range(keep))
        states = tuple(pair.init(params, **problem) for _ in range(keep))
        return RollbackState._make([*start, copies, states, pair.init(params, **problem)])

    def update(
        updates: Updates, state: RollbackState, params: Params, *, h: Scalars, **extra: Any
    ) -> tuple[Updates, RollbackState]:
        before = Levels(*state[:4])
        seen = levels.judged(whole, before, updates, extra.get("value"), h.sigma, least, axis_name)
        bad = seen.reason != levels.TAKEN
        row = jnp.where(bad, next_count(state.in_a_row), zero_count())
        enough, tried = row >= patience, state.depth >= keep
        goes_back = state.broken | (state.tries > 0) | (bad & enough & ~tried)
        anew = ~goes_back & enough & (seen.reason != levels.NOT_FINITE) & bad
        takes = ~goes_back & (~bad | anew)
        none = jax.tree.map(_wide_zeros, updates)
        kept = (state.kept_params, state.kept_states)
        left = _Outcome(none, state.inner_state, *kept, zero_count(), jnp.zeros((), bool))
        end: _Outcome = either(
            goes_back,
            lambda: _back(updates, state, params, left, axis_name),
            lambda: either(
                takes,
                lambda: _forward(pair, updates, state, params, extra, state.since >= every, left, axis_name),
                lambda: left,
            ),
        )
        row = jnp.where(goes_back | takes, zero_count(), row)
        begins = goes_back & (state.tries == 0)
        totals = _totals(state, seen, end.broken, takes | (goes_back & ~begins))
        taken, keeps = takes & ~end.broken, takes & (state.since >= every)
        after = levels.written(tree.where(anew, levels.empty(window), before), seen)
        since = jnp.where(keeps, zero_count(), state.since)
        return end.steps, RollbackState(
            **tree.where(taken, after, before)._asdict(),
            since=jnp.where(goes_back, zero_count(), jnp.where(taken, next_count(since), since)),
            in_a_row=row,
            depth=jnp.where(begins, next_count(state.depth), jnp.where(keeps, zero_count(), state.depth)),
            tries=end.tries,
            broken=end.broken,
            rate=jnp.where(begins, state.rate * h.rate_factor.astype(state.rate.dtype), state.rate),
            **totals,
            restored=jnp.where(begins, next_count(state.restored), state.restored),
            restarts=jnp.where(anew, next_count(state.restarts), state.restarts),
            kept_params=end.params,
            kept_states=end.states,
            inner_state=end.inner,
        )

    made = transform(
        whole, init, update, needs_params=True, state_type=RollbackState, hypers=hypers, own=None, any_leaf=True
    )
    return made if enabled else pair


def _forward(
    pair: GradientTransformation, g: Updates, state: RollbackState, p: Params, extra: Any, due: Array, left: _Outcome,
    axis_name: tree.AxisName,
) -> _Outcome:  # fmt: skip
    """A step of the transformation, and what it starts from kept where that is due."""
    kept_params, kept_states = either(
        due,
        lambda: (
            (jax.tree.map(_copy, p), *state.kept_params[:-1]),
            (state.inner_state, *state.kept_states[:-1]),
        ),
        lambda: (state.kept_params, state.kept_states),
    )
    steps, inner = pair.update(g, state.inner_state, p, **extra)
    check_same_trees(name_of(pair), "updates", steps, "gradients", g)
    check_carry(name_of(pair), state.inner_state, inner)
    steps = jax.tree.map(lambda u, o: _scaled(u, state.rate, o.dtype), steps, left.steps)
    fine = jnp.ones((), bool)
    for new in jax.tree.leaves(tree.floating_only(apply_updates(p, steps))):
        fine &= jnp.all(jnp.isfinite(new))
    fine = _everywhere(fine, axis_name)
    steps = tree.where(fine, steps, left.steps)
    return _Outcome(steps, inner, kept_params, kept_states, zero_count(), ~fine)


def _back(g: Updates, state: RollbackState, p: Params, left: _Outcome, axis_name: tree.AxisName) -> _Outcome:
    """A step to what was kept; the first of them drops the newest where that was tried."""
    first = state.tries == 0
    drops = first & (state.depth > 0)
    kept_params, kept_states = (
        tree.where(drops, (*own[1:], own[-1]), own) for own in (state.kept_params, state.kept_states)
    )
    target = tree.none_as(g, kept_params[0])
    own = tree.none_as(g, p)
    steps = jax.tree.map(_leading, own, target, left.steps)
    there = jnp.ones((), bool)
    for new, old in zip(*map(jax.tree.leaves, (apply_updates(own, steps), target)), strict=True):
        there &= jnp.all(new == old) if tree.is_floating(new) else True
    there = _everywhere(there, axis_name)
    tries = jnp.where(first, TRIES, state.tries).astype(jnp.int32) - 1
    return _Outcome(
        steps, jax.tree.map(_copy, kept_states[0]), kept_params, kept_states,
        jnp.where(there, zero_count(), tries).astype(jnp.int32), left.broken,
    )  # fmt: skip


def _everywhere(condition: Array, axis_name: tree.AxisName) -> Array:
    """Does it hold on all devices that have a part of the leaves? They are to go the same way."""
    if axis_name is None:
        return condition
    least: Array = jax.lax.pmin(condition.astype(jnp.int32), axis_name)  # type: ignore[no-untyped-call]
    return least > 0


def _totals(state: RollbackState, seen: levels.Verdict, broken: Array, passed: Array) -> dict[str, Array]:
    """The counts of bad steps with this one, by its reason; none where it passed, and led nowhere that is broken."""
    reason = jnp.where(broken, levels.NOT_FINITE, jnp.where(passed, levels.TAKEN, seen.reason))
    fields = ("not_finite", "high_loss", "high_norm")
    olds = {field: getattr(state, field) for field in fields}
    return {
        field: jnp.where(reason == kind, next_count(olds[field]), olds[field]) for kind, field in enumerate(fields, 1)
    }


def _copy(x: Any) -> Any:
    """In memory of its own, as the state may be donated; abstract ones and keys as they are."""
    known = isinstance(x, jax.Array) and not jnp.issubdtype(x.dtype, jax.dtypes.extended)
    return jnp.array(x, copy=True) if known else x


def _wide_zeros(g: Any) -> Any:
    return tree.wide_like(g) if tree.is_floating(g) else jnp.zeros_like(g)


def _scaled(u: Any, rate: Array, dtype: Any) -> Any:
    return jnp.asarray(u, dtype) * rate.astype(jnp.real(jnp.zeros((), dtype)).dtype) if tree.is_floating(u) else u


def _leading(p: Any, target: Any, like: Any) -> Any:
    """u with p + u = target as `apply_updates` adds, or as near as one sum comes: what is missing is added to u."""
    if not tree.is_floating(p):
        return like
    dtype = like.dtype
    p, target = jnp.asarray(p), jnp.asarray(target)
    u = target.astype(dtype) - p.astype(dtype)
    for _ in range(2):
        u = u + (target.astype(dtype) - apply_updates(p, u).astype(dtype))
    return u
