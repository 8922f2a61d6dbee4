"""The variables of the interior-point method: its state, and what one part of an update hands to the next."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import joined, largest, zero_count
from jaxopt_ko.solvers.engine.convergence import first_info, own_buffers, status
from jaxopt_ko.solvers.interior_point.derivatives import Change, Derivatives
from jaxopt_ko.solvers.interior_point.rooms import PUSH, Space, share
from jaxopt_ko.solvers.problem.constraints import Program
from jaxopt_ko.types import KKT, Info, Multipliers, PyTree, Updates

STEEPEST = 100.0  # section 3.8: gradients are scaled down to this
MU = 0.1  # at the start
TAU = 0.99  # tau_min of (8)
SIGMA = 1e10  # kappa_Sigma of (16)
LARGEST_MULTIPLIER = 1e3  # y at the start, z after a restoration: none of them is larger
RHO = 1e3  # weight of the violation in a restoration, over the largest of them
ENTRIES = 24  # of the filter; then the oldest are forgotten
FRESH, LINE, CORRECTION, HARDER = 0, 1, 2, 3  # what the next trial is; of the last, along a step of more regularization


class PackedReals(NamedTuple):
    """The real numbers of a state, which are one array there."""

    alpha: Array  # float[]    of the next trial
    longest: Array  # float[]  alpha of the first trial along this step
    slope: Array  # float[]    of phi along the step
    mu: Array  # float[]
    kept: Array  # float[]     mu of the problem itself during a restoration, else 0
    weight: Array  # float[]   of |c|**2 / 2, the function that a restoration minimizes
    left: Array  # float[]     theta that ends it
    delta: Array  # float[]    last regularization of the Hessian that was needed
    shift: Array  # float[]    that of the step


class PackedIntegers(NamedTuple):
    """The integers of a state, which are one array there."""

    iterations: Array  # int32[]  updates that led to another point
    kind: Array  # int32[]        of the next trial: FRESH (here), LINE, CORRECTION, HARDER
    entries: Array  # int32[]     pairs that came in since the filter was last emptied
    close: Array  # int32[]       iterations in a row with an error below 100 gtol


class InteriorPointState(NamedTuple):
    """State of `interior_point`, at the parameters as they now are, after scaling; p equations, q inequalities, m in
    all."""

    count: Array  # int32[]           updates made
    scalars: Array  # float[9]        see PackedReals
    counts: Array  # int32[4]         see PackedIntegers
    scale: Array  # float[1+m]        factors of (f, c_e, c_i)
    values: Array  # float[1+m]       (f, c_e, c_i)
    jacobian: Array  # float[1+m,n]   its derivative; sparse float[n+nnz], f's gradient and the entries of c's
    hessian: PyTree  # float[n,n]     of f + y'c; of y'c in a restoration; sparse float[nnz], its entries; what BFGS has
    slack: Array  # float[q]          s
    y: Array  # float[m]              multipliers of c
    z: Array  # float[2n+q]           multipliers of the rooms r
    step: Array  # float[n+q]         (dx, ds), along which the next trial is
    step_y: Array  # float[m]         dy
    corrected: Array  # float[n+q+m]  (dx, ds, dy) that a correction is tried in place of
    relaxed: Array  # float[2n+q]     by how much each room is larger than it is in the problem
    filter: Array  # float[24,2]      pairs (theta, phi) that a trial must not be dominated by
    multipliers: Multipliers  # without scaling
    kkt: KKT  # without scaling
    aux: PyTree  # what value_fn returned beside its value
    info: Info  # of the last update

    @property
    def iterations(self) -> Array:
        """int32[]: trials that were taken."""
        return self.counts[..., 0]


class UpdateContext(NamedTuple):
    """A run as an update finds it."""

    problem: Program
    space: Space
    state: InteriorPointState
    reals: PackedReals  # of the state
    integers: PackedIntegers  # of the state
    gtol: Array  # float[]


class Trial(NamedTuple):
    """A point that the functions were evaluated at."""

    move: Updates  # like params  the step that leads there
    x: Array  # float[n]
    s: Array  # float[q]
    raw: Array  # float[1+m]   (f, c_e, c_i) without scaling
    F: Array  # float[1+m]     with scaling
    alpha: Array  # float[]    its share of the step
    size: Array  # float[]     the largest change of an element along the whole step, relative to 1 + |element|
    aux: PyTree


class Comparison(NamedTuple):
    """A trial, compared with the point before it."""

    event: Array  # int32[]   what it leads to: one of the list in `filter`
    theta: Array  # float[]   of the point before it
    phi: Array  # float[]     of that, too
    halved: Array  # float[]  alpha of the next trial, if that is but a shorter one


class Outcome(NamedTuple):
    """What a trial leads to."""

    event: Array  # int32[]    one of the list in `filter`
    theta: Array  # float[]    at the point before it
    phi: Array  # float[]      there
    halved: Array  # float[]   alpha of the next trial, if that is but a shorter one
    first: Array  # bool[]     it is the start
    moves: Array  # bool[]     it is taken, and another point
    derives: Array  # bool[]   it is taken
    leaves: Array  # bool[]    it ends a restoration
    enters: Array  # bool[]    a restoration begins
    corrects: Array  # bool[]  a step that corrects this one is next
    hardens: Array  # bool[]   a step of a Hessian that is more regularized is next
    restoring: Array  # bool[]  was the run in a restoration?
    restores: Array  # bool[]   is it now?
    tiny: Array  # bool[]      the step is lost in rounding


class Iterate(NamedTuple):
    """A point, its multipliers and what is known there, all after scaling."""

    x: Array  # float[n]
    s: Array  # float[q]
    y: Array  # float[m]
    z: Array  # float[2n+q]
    F: Array  # float[1+m]
    J: Array  # as the jacobian of the state
    H: PyTree  # as the hessian of the state
    scale: Array  # float[1+m]
    weight: Array  # float[]   of |c|**2 / 2 in a restoration
    relaxed: Array  # float[2n+q]
    c: Array  # float[m]
    r: Array  # float[2n+q]


def unpacked(state: InteriorPointState) -> tuple[PackedReals, PackedIntegers]:
    """The numbers of a state by their names."""
    return PackedReals(*state.scalars), PackedIntegers(*state.counts)


def packed(state: InteriorPointState, reals: PackedReals, integers: PackedIntegers) -> InteriorPointState:
    """The state with these numbers."""
    return state._replace(scalars=jnp.stack(reals), counts=jnp.stack(integers))


def most(dtype: Any) -> float:
    """What no theta or phi exceeds."""
    return float(np.finfo(dtype).max)


def initial_state(problem: Program, of: Derivatives) -> InteriorPointState:
    """The state before the first update, which evaluates the functions."""
    n, p, q, dtype = problem.x.size, problem.p, problem.q, problem.x.dtype
    zero, nil = jnp.zeros((), dtype), problem.unravel(jnp.zeros(n, dtype))
    aux = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(problem.evaluate, problem.x)[1])
    info = first_info(zero + jnp.inf, zero + jnp.inf, status())
    y, z = jnp.zeros(p + q, dtype), jnp.zeros(2 * n + q, dtype)
    J, H = of.empty()
    reals = PackedReals(zero, zero, zero, zero + MU, zero, zero, zero, zero, zero)
    return own_buffers(
        InteriorPointState(
            count=zero_count(),
            scalars=jnp.stack(reals),
            counts=jnp.zeros(len(PackedIntegers._fields), jnp.int32),
            scale=jnp.ones(1 + p + q, dtype),
            values=jnp.zeros(1 + p + q, dtype),
            jacobian=J,
            hessian=H,
            slack=jnp.zeros(q, dtype),
            y=y,
            z=z,
            step=jnp.zeros(n + q, dtype),
            step_y=y,
            corrected=jnp.zeros(n + q + y.size, dtype),
            relaxed=z,
            filter=jnp.full((ENTRIES, 2), most(dtype), dtype),
            multipliers=Multipliers(*problem.unstack(y), nil, nil),
            kkt=KKT(zero, zero, zero),
            aux=aux,
            info=info,
        )
    )


def accepted(run: UpdateContext, trial: Trial, found: Outcome) -> Iterate:
    """The trial, if it is taken, with its multipliers and derivatives; else the point as it was."""
    space, state, reals, p = run.space, run.state, run.reals, run.problem.p
    x = jnp.where(found.derives, trial.x, run.problem.x)
    missed = largest(space.violation(state.values, state.slack))
    weight = jnp.where(found.enters, RHO / jnp.maximum(missed, space.eps), reals.weight)
    z = _multipliers_of_rooms(run, trial, found)
    F, scale, J, H, y = _derivatives(run, trial, found, weight)
    s = jnp.where(found.derives, trial.s, state.slack)
    s = jnp.where(found.first, jnp.maximum(-F[1 + p :], PUSH), s)
    c, r = space.violation(F, s), space.rooms(x, s)
    cramped, relaxed = space.cramped(r, reals.mu)
    cramped = cramped & found.moves
    relaxed = jnp.where(cramped, relaxed, state.relaxed)
    r = r + relaxed - state.relaxed
    z = jnp.where(cramped, reals.mu / r, z)
    y = jnp.where(found.enters, weight * c, y)
    return Iterate(x, s, y, z, F, J, H, scale, weight, relaxed, c, r)


def _multipliers_of_rooms(run: UpdateContext, trial: Trial, found: Outcome) -> Array:
    """z: (14) - (16) for a trial that is taken, 1 at the start; not above RHO in a restoration that begins."""
    space, state, mu = run.space, run.state, run.reals.mu
    r_new = space.rooms(trial.x, trial.s)
    dz = space.dual_step(space.rooms(run.problem.x, state.slack), state.z, mu, state.step)
    z_new = state.z + share(state.z, dz, jnp.maximum(TAU, 1 - mu)) * dz
    z_new = jnp.clip(z_new, mu / (SIGMA * r_new), SIGMA * mu / r_new)
    z_new = jnp.where(found.leaves & (jnp.max(z_new, initial=0.0) > LARGEST_MULTIPLIER), 1, z_new)
    z = jnp.where(space.there, jnp.where(found.first, 1, jnp.where(found.moves, z_new, state.z)), 0)
    return jnp.where(found.enters, jnp.minimum(z, RHO), z)


def _derivatives(
    run: UpdateContext, trial: Trial, found: Outcome, weight: Array
) -> tuple[Array, Array, Array, PyTree, Array]:
    """F, the scale, J, H and y of a trial that is taken, else those of the state."""
    space, state = run.space, run.state
    c = space.violation(trial.F, trial.s)

    def derive() -> tuple[Array, Array, Array, PyTree, Array]:
        y = jnp.where(found.restores, weight * c, state.y + trial.alpha * state.step_y)
        of_f = jnp.where(found.restores, 0, 1)[None].astype(y.dtype)
        J, H = space.of.look(trial.x, joined([of_f, y]) * state.scale)
        scale = jnp.where(found.first, STEEPEST / jnp.maximum(space.of.steepest(J), STEEPEST), state.scale)
        J = space.of.scaled(J, scale)
        wanted = found.moves & ~found.restoring & ~found.restores
        change = Change(trial.x - run.problem.x, state.jacobian, J, y, ~space.fixed, wanted)
        return trial.raw * scale, scale, J, space.of.kept(state.hessian, H, change), y

    def keep() -> tuple[Array, Array, Array, PyTree, Array]:
        return state.values, state.scale, state.jacobian, state.hessian, state.y

    return jax.lax.cond(found.derives, derive, keep)  # type: ignore[no-any-return]
