"""Is a run over, and what does an update report?"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import largest, norm
from jaxopt_ko.solvers.engine.convergence import counted, status
from jaxopt_ko.solvers.interior_point.filter import BROKEN, LOST
from jaxopt_ko.solvers.interior_point.kkt import NextStep
from jaxopt_ko.solvers.interior_point.residuals import KKTResiduals, Unscaled
from jaxopt_ko.solvers.interior_point.variables import Iterate, Outcome, Trial, UpdateContext
from jaxopt_ko.types import Code, Info, Status

SOUND = 0.5  # gtol to this power: what is left of the conditions without scaling, relative to f and its gradient
PATIENCE = 15  # iterations whose error is below 100 gtol


class Verdict(NamedTuple):
    """Of a point."""

    status: Status
    optimality: Array  # float[]  the error (5); in a restoration |c| if that is larger
    close: Array  # int32[]       iterations in a row with an error below 100 gtol


def verdict(
    run: UpdateContext, found: Outcome, at: Iterate, far: KKTResiduals, plain: Unscaled, ahead: NextStep, mu: Array
) -> Verdict:
    """Is the run over? mu: at the new point before it falls."""
    gtol, restores, derived = run.gtol, found.restores, found.derives & ~found.first
    now = jnp.maximum(far.error(jnp.zeros_like(mu)), 0)
    optimality = jnp.where(restores, jnp.maximum(now, far.missed), now)
    known = jnp.all(jnp.asarray([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((at.J, at.H))]))
    limit = gtol**SOUND * jnp.stack([1 + plain.steepest, jnp.ones_like(plain.f), 1 + jnp.abs(plain.f)])
    sound = jnp.all(jnp.stack(plain.kkt) <= limit)
    lost = found.event == LOST
    close = jnp.where(found.moves & (optimality <= 100 * gtol), run.integers.close + 1, np.int32(0))
    tired = close >= PATIENCE
    beyond = jnp.maximum(largest(at.x), jnp.where(far.missed <= gtol, -plain.f, 0)) > run.space.eps**-1.25
    stuck = lost | ~ahead.good | (found.moves & found.tiny & (mu <= gtol / 10))
    over = status(
        ((found.event == BROKEN) | (found.derives & ~known), Code.NOT_FINITE),
        (derived & ~restores & ~found.leaves & (now <= gtol) & sound, Code.GRADIENT_SMALL),
        (restores & ((derived & (now <= 100 * gtol)) | (lost & (now <= jnp.sqrt(gtol)))), Code.INFEASIBLE),
        (beyond, Code.UNBOUNDED),
        (((stuck & ~restores & (optimality <= 100 * gtol)) | tired) & sound, Code.DECREASE_SMALL),
        ((stuck & ~found.enters) | tired, Code.STUCK),
    )
    return Verdict(over, optimality, close)


def reported(
    run: UpdateContext, trial: Trial, value: Array, optimality: Array, moves: Array, derives: Array, status: Status
) -> Info:
    """The Info after an update; moves, derives: is the trial another point that is taken, is it taken at all?"""
    n, derived = run.problem.x.size, derives.astype(jnp.int32)
    products = np.int32(run.space.of.products) * derived
    evaluations = counted(run.state.info.evaluations, function=1, gradient=derived, product=products)
    step_norm = trial.alpha * norm(run.state.step[:n])
    return Info(value, optimality, step_norm, moves, evaluations, status)
