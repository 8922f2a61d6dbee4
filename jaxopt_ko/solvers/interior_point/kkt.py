"""The next step: Newton's method on the conditions of Karush, Kuhn and Tucker, (13), by its matrix."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.numerics import joined, largest
from jaxopt_ko.solvers.engine.condensed import GROW, BlockVector
from jaxopt_ko.solvers.interior_point.derivatives import Weights
from jaxopt_ko.solvers.interior_point.rooms import share
from jaxopt_ko.solvers.interior_point.variables import LARGEST_MULTIPLIER, TAU, Iterate, Outcome, Trial, UpdateContext


class NextStep(NamedTuple):
    """Where the next trials are."""

    step: Array  # float[n+q]  (dx, ds)
    step_y: Array  # float[m]  dy
    longest: Array  # float[]  alpha of the first trial, (15)
    slope: Array  # float[]    of phi along the step, or of what a restoration minimizes
    y: Array  # float[m]       at the point where it begins
    alone: Array  # bool[]     is it no step, but the multipliers of section 3.6?
    delta: Array  # float[]    the regularization of the Hessian that it took
    good: Array  # bool[]      was there one?


def next_step(run: UpdateContext, trial: Trial, found: Outcome, at: Iterate, mu: Array) -> NextStep:
    """(13), with (11) for the multipliers of the rooms; after a step that made theta larger with both violations, which
    corrects it, by the same matrix; at the start and after a restoration with an identity for the Hessian, which gives
    y alone."""
    space, n, p = run.space, run.problem.x.size, run.problem.p
    alone, free, restores = found.first | found.leaves, ~space.fixed, found.restores

    # The matrix
    diagonal = space.fold(at.z / at.r)
    diagonal = jnp.where(alone, jnp.where(jnp.arange(diagonal.size) < n, 0, 1), diagonal)
    gamma = jnp.where(restores, 1 / jnp.where(restores, at.weight, 1), 0)
    begin = jnp.where(found.corrects, 1, jnp.where(found.hardens, GROW, 0)) * run.reals.shift
    weights = Weights(diagonal[:n], diagonal[n:], gamma, alone, free, restores, begin, jnp.sqrt(mu))

    # The right-hand side
    b = space.residual(at.J, jnp.where(alone, 0, at.y), jnp.where(alone, at.z, mu / at.r), restores)
    corrected = trial.alpha * at.c + space.violation(trial.F, trial.s)
    b_c = jnp.where(found.corrects, corrected, jnp.where(restores | alone, 0, at.c))
    right = BlockVector(-b[:n], -b[n:], -b_c[:p], -b_c[p:])
    solved = space.of.solve(at.J, at.H, weights, right, run.reals.delta)
    step, step_y = joined(solved.parts[:2]), joined(solved.parts[2:])

    dr = space.change(step)
    df = jnp.where(free, space.of.gradient(at.J), 0) @ step[:n]
    slope = jnp.where(restores, at.weight * at.c @ space.along(at.J, step), df) - mu * jnp.sum(dr / at.r)
    return NextStep(
        step=step,
        step_y=step_y,
        longest=share(at.r, dr, jnp.maximum(TAU, 1 - mu)),
        slope=slope,
        y=jnp.where(alone, jnp.where(largest(step_y) > LARGEST_MULTIPLIER, 0, step_y), at.y),
        alone=alone,
        delta=solved.delta,
        good=solved.good,
    )
