"""Is a trial taken, and what follows it? Equations (18) - (23), and the filter (22) itself.

theta = |c|_1        phi = f - mu sum log r        a pair (theta, phi) dominates a trial that is no better in either
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import first_true, largest
from jaxopt_ko.solvers.interior_point.variables import (
    CORRECTION,
    ENTRIES,
    FRESH,
    LINE,
    Comparison,
    Outcome,
    Trial,
    UpdateContext,
    most,
)

THETA_MAX, THETA_MIN = 1e4, 1e-4  # of (21): times max(1, theta) at the start
G_THETA, G_PHI, ARMIJO = 1e-5, 1e-8, 1e-8  # gamma_theta, gamma_phi of (18), eta_phi of (20)
S_THETA, S_PHI = 1.1, 2.3  # of (19)
G_ALPHA = 0.05  # gamma_alpha of (23)
SHORT = 0.125  # of the first trial: where a Hessian that has been regularized is so once more
# the events
HALVED, BY_PHI, BY_FILTER, STARTED, FIRST, LEAVES, CORRECTS, RETURNS, HARDENS, ENTERS, LOST, BROKEN = range(12)


class Measures(NamedTuple):
    """What a trial is measured by."""

    theta: Array  # float[]
    phi: Array  # float[]      of the problem itself
    penalty: Array  # float[]  what a restoration minimizes: weight |c|**2 / 2 - mu sum log r


def judge(run: UpdateContext, trial: Trial) -> Comparison:
    """The event that a trial is, by the measures of the point before it and its own."""
    space, state, reals, kind = run.space, run.state, run.reals, run.integers.kind
    old, new = _measured(run, trial)
    first, fresh, restoring = state.count == 1, kind == FRESH, reals.kept > 0
    finite = jnp.all(jnp.isfinite(trial.raw))
    dominated = jnp.any(
        (new.theta > (1 - G_THETA) * state.filter[:, 0])
        & (new.phi > state.filter[:, 1] + 10 * space.eps * jnp.abs(old.phi))
    )
    merit, merit_new = jnp.where(restoring, old.penalty, old.phi), jnp.where(restoring, new.penalty, new.phi)
    falls = merit_new - merit - 10 * space.eps * jnp.abs(merit)
    down, flat = reals.slope < 0, old.theta <= THETA_MIN / THETA_MAX * state.filter[0, 0]
    descent = jnp.where(down, -reals.slope, 1)
    switches = down & (trial.alpha * descent**S_PHI > old.theta**S_THETA)  # (19)
    by_phi = restoring | (switches & flat)
    enough = jnp.where(
        by_phi, falls <= ARMIJO * trial.alpha * jnp.minimum(reals.slope, 0),  # (20)
        (new.theta <= (1 - G_THETA) * old.theta) | (falls <= -G_PHI * old.theta),  # (18)
    )  # fmt: skip
    tiny, broken = trial.size < 10 * space.eps, ~restoring & (old.theta > run.gtol)
    taken = finite & jnp.isfinite(merit_new) & ((enough & (restoring | ~dominated)) | (tiny & ~broken))
    leaves = restoring & (new.theta <= reals.left) & ~dominated
    corrects = (kind == LINE) & (trial.alpha == reals.longest) & (new.theta >= old.theta) & ~restoring & finite
    returns = kind == CORRECTION
    halved = jnp.where(returns, reals.longest, trial.alpha) / 2
    shortest = jnp.minimum(G_THETA, jnp.where(down, G_PHI * old.theta / descent, jnp.inf))  # (23)
    shortest = jnp.minimum(shortest, jnp.where(down & flat, old.theta**S_THETA / descent**S_PHI, jnp.inf))
    lost = halved < jnp.maximum(jnp.where(restoring, 0, G_ALPHA * shortest), space.eps)
    hardens = (kind == LINE) & ~restoring & (reals.shift > 0) & (halved <= SHORT * reals.longest)
    event = first_true(
        [fresh & ~finite, first, fresh, taken & leaves, taken & by_phi, taken, tiny & broken, corrects,
         hardens, lost & broken, lost, returns],
        [BROKEN, FIRST, STARTED, LEAVES, BY_PHI, BY_FILTER, ENTERS, CORRECTS, HARDENS, ENTERS, LOST, RETURNS],
        np.int32(HALVED),
    )  # fmt: skip
    return Comparison(event, old.theta, old.phi, halved)


def _measured(run: UpdateContext, trial: Trial) -> tuple[Measures, Measures]:
    """Those of the point before a trial, and of the trial."""
    space, state, reals = run.space, run.state, run.reals

    def measures(F: Array, x: Array, s: Array) -> Measures:
        c, logs = space.violation(F, s), jnp.sum(jnp.log(space.rooms(x, s)))
        phi = F[0] - jnp.where(reals.kept > 0, reals.kept, reals.mu) * logs
        return Measures(jnp.sum(jnp.abs(c)), phi, reals.weight / 2 * jnp.sum(c * c) - reals.mu * logs)

    pairs = ([state.values, trial.F], [run.problem.x, trial.x], [state.slack, trial.s])
    both = jax.vmap(measures)(*map(jnp.stack, pairs))
    old, new = (jax.tree.map(lambda v, i=i: v[i], both) for i in range(2))
    return old, new


def outcome(run: UpdateContext, trial: Trial, judged: Comparison) -> Outcome:
    """What the event means to the rest of an update."""
    event, restoring = judged.event, run.reals.kept > 0
    first, leaves, enters = event == FIRST, event == LEAVES, event == ENTERS
    moves = (event == BY_PHI) | (event == BY_FILTER) | leaves
    # a relaxed bound is no way out of the box
    still = jnp.all(trial.x == run.problem.x) & (largest(trial.s - run.state.slack) < 10 * run.space.eps)
    return Outcome(
        *judged,
        first=first,
        moves=moves,
        derives=moves | first | (event == STARTED),
        leaves=leaves,
        enters=enters,
        corrects=event == CORRECTS,
        hardens=event == HARDENS,
        restoring=restoring,
        restores=(restoring & ~leaves) | enters,
        tiny=(trial.size < 10 * run.space.eps) | (moves & still),
    )


def entered(run: UpdateContext, found: Outcome, c: Array, emptied: Array) -> tuple[Array, Array]:
    """The filter after a trial, and how many pairs came in since it was last emptied.

    A point that is left by (18), or for a restoration, comes in: (22). c: of the new point.
    """
    state, entries = run.state, run.integers.entries
    dtype = state.filter.dtype
    adds = ((found.event == BY_FILTER) & ~found.restoring) | found.enters
    row, rows = 1 + entries % np.int32(ENTRIES - 1), jnp.arange(ENTRIES, dtype=jnp.int32)[:, None]
    pair = jnp.stack([found.theta, found.phi - G_PHI * found.theta])
    barred = jnp.stack([THETA_MAX * jnp.maximum(1, jnp.sum(jnp.abs(c))), jnp.asarray(-most(dtype), dtype)])
    pairs = jnp.where(adds & (rows == row), pair[None], state.filter)
    pairs = jnp.where(emptied & (rows > 0), most(dtype), jnp.where(found.first & (rows == 0), barred[None], pairs))
    return pairs, jnp.where(emptied, np.int32(0), entries + adds.astype(jnp.int32))
