"""A primal-dual interior-point method with a filter line search. Waechter & Biegler 2006, Mathematical Programming 106,
doi:10.1007/s10107-004-0559-y; the numbers of equations are theirs.

min f(x)  subject to  c_e(x) = 0,  c_i(x) + s = 0,  lower <= x <= upper,  s >= 0
phi = f - mu sum log r        r: the room left, x - lower, upper - x and s         theta = |c|_1,  c = (c_e, c_i + s)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import first_true, joined, largest, next_count, norm, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.core.tree import pick
from jaxopt_ko.errors import POSITIVE, check_hyper
from jaxopt_ko.solvers.engine.condensed import Parts, System, solve
from jaxopt_ko.solvers.problem.bounds import move
from jaxopt_ko.solvers.problem.constraints import Program, program
from jaxopt_ko.types import (
    KKT,
    Code,
    Evaluations,
    GradientTransformation,
    Hyper,
    Info,
    Multipliers,
    Params,
    PyTree,
    Status,
    Updates,
)

PUSH, SHARE = 1e-2, 1e-2  # kappa_1, kappa_2 of section 3.6: how far the start is from its bounds
STEEPEST = 100.0  # section 3.8: gradients are scaled down to this
LARGEST = 1e3  # y at the start, z after a restoration: none of them is larger
MU, MU_FACTOR, MU_POWER, MU_ERROR = 0.1, 0.2, 1.5, 10.0  # mu, kappa_mu, theta_mu, kappa_epsilon of (7)
TAU = 0.99  # tau_min of (8)
SIGMA = 1e10  # kappa_Sigma of (16)
S_MAX = 100.0  # of (5)
SCALED = 100.0  # the most that (5) is divided by
SOUND = 0.5  # gtol to this power: what is left of the conditions without scaling, relative to f and its gradient
RELAXED, CRAMPED = 0.5, 0.6  # eps to these powers: by how much a bound is relaxed where the room over mu is less
THETA_MAX, THETA_MIN = 1e4, 1e-4  # of (21): times max(1, theta) at the start
G_THETA, G_PHI, ARMIJO = 1e-5, 1e-8, 1e-8  # gamma_theta, gamma_phi of (18), eta_phi of (20)
S_THETA, S_PHI = 1.1, 2.3  # of (19)
G_ALPHA = 0.05  # gamma_alpha of (23)
ENTRIES = 24  # of the filter; then the oldest are forgotten
FALLS = 6  # of mu at one point, at most
PATIENCE = 15  # iterations whose error is below 100 gtol
RHO, LEFT = 1e3, 0.9  # of the restoration: weight of the violation, and what may be left of it
FRESH, LINE, CORRECTION = 0, 1, 2  # what the next trial is
HALVED, BY_PHI, BY_FILTER, STARTED, FIRST, LEAVES, CORRECTS, RETURNS, ENTERS, LOST, BROKEN = range(11)  # what it led to


class Scalars(NamedTuple):
    """The numbers of a state."""

    alpha: Array  # float[]    of the next trial
    longest: Array  # float[]  alpha of the first trial along this step
    slope: Array  # float[]    of phi along the step
    mu: Array  # float[]
    kept: Array  # float[]     mu of the problem itself during a restoration, else 0
    weight: Array  # float[]   of |c|**2 / 2, the function that a restoration minimizes
    left: Array  # float[]     theta that ends it
    delta: Array  # float[]    last regularization of the Hessian that was needed


class Counts(NamedTuple):
    """The integers of a state."""

    iterations: Array  # int32[]  updates that led to another point
    kind: Array  # int32[]        of the next trial: FRESH (here), LINE or CORRECTION
    entries: Array  # int32[]     pairs that came in since the filter was last emptied
    close: Array  # int32[]       iterations in a row with an error below 100 gtol


class InteriorPointState(NamedTuple):
    """State of `interior_point`, at the parameters as they now are, after scaling; p equations, q inequalities, m in
    all."""

    count: Array  # int32[]           updates made
    scalars: Array  # float[8]        see Scalars
    counts: Array  # int32[4]         see Counts
    scale: Array  # float[1+m]        factors of (f, c_e, c_i)
    values: Array  # float[1+m]       (f, c_e, c_i)
    jacobian: Array  # float[1+m,n]   its derivative
    hessian: Array  # float[n,n]      of f + y'c; of y'c in a restoration
    slack: Array  # float[q]          s
    y: Array  # float[m]              multipliers of c
    z: Array  # float[2n+q]           multipliers of the rooms r
    step: Array  # float[n+q]         (dx, ds), along which the next trial is
    step_y: Array  # float[m]         dy
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


@cached_factory
def interior_point(*, gtol: Hyper | None = None) -> GradientTransformation:
    """One trial point of a primal-dual interior-point method an update: f and the constraints there, and their
    derivatives if it is taken.

    min f(x)  subject to  equality(x) = 0,  inequality(x) <= 0,  lower <= x <= upper

    Newton's method on the conditions for a minimum of phi, mu -> 0, with slacks; the share of a step is cut until
    phi or theta falls enough and no pair of the filter dominates; a step that makes theta larger is corrected once.
    Where none is short enough, the violation alone is minimized, by the same method, until theta has fallen.
    `iterations` of the state counts the trials that were taken: what others call an iteration.

    init(params, value_fn=, equality=None, inequality=None, bounds=None, has_aux=False) and update(updates, state,
    params, the same arguments, tol=None). equality, inequality: params -> a tree of arrays. bounds = (lower, upper),
    each None, a number or a tree like params or its upper part; no function is evaluated outside, and where they are
    equal x is held there. The first update moves the start inside the bounds. A rejected step is exactly zero; the
    updates that come in are not read.

    gtol: converged when the error (5) of the scaled problem is at most this; eps**0.5 by default; `tol` takes its
    place. The scale is such that no gradient at the start is larger than 100. No run succeeds where one of the
    conditions without any scaling is missed by more than gtol**0.5, relative to f and its gradient.
    Where the constraints leave no interior, a bound that is met, and that only, is relaxed by eps**0.5 (section 3.5).
    Status: INFEASIBLE where the violation has a minimum that is not 0; UNBOUNDED, NOT_FINITE, STUCK.

    Raises MissingArgumentError without value_fn; TreeError for a value that is not one number, constraints that are
    no real floating arrays and bounds that do not fit. An inner loop finds the regularization, so updates have
    forward-mode derivatives only; minimize's own are of either mode. Not for more than some thousand parameters or
    constraints: all is dense. With no constraints but bounds, lbfgsb needs no Hessian.
    """
    name = "interior_point"
    if gtol is not None:
        check_hyper(name, "gtol", gtol, POSITIVE)

    def init(
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        equality: Callable[..., PyTree] | None = None,
        inequality: Callable[..., PyTree] | None = None,
        bounds: tuple[PyTree, PyTree] | None = None,
        has_aux: bool = False,
        **extra_args: Any,
    ) -> InteriorPointState:
        problem = program(name, params, value_fn, equality, inequality, bounds, has_aux, extra_args)
        n, p, q, dtype = problem.x.size, problem.p, problem.q, problem.x.dtype
        zero, nil, no = jnp.zeros((), dtype), jnp.zeros(n, dtype), zero_count()
        aux = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(problem.evaluate, problem.x)[1])
        info = Info(
            zero + jnp.inf, zero + jnp.inf, zero, jnp.zeros((), bool), Evaluations(no, no, no),
            Status(jnp.asarray(np.int32(Code.RUNNING))),
        )  # fmt: skip
        y, s, z = jnp.zeros(p + q, dtype), jnp.zeros(q, dtype), jnp.zeros(2 * n + q, dtype)
        scalars = jnp.stack(Scalars(zero, zero, zero, zero + MU, zero, zero, zero, zero))
        state = InteriorPointState(
            no, scalars, jnp.zeros(4, jnp.int32), jnp.ones(1 + p + q, dtype), jnp.zeros(1 + p + q, dtype),
            jnp.zeros((1 + p + q, n), dtype), jnp.zeros((n, n), dtype), s, y, z, jnp.zeros(n + q, dtype), y, z,
            jnp.full((ENTRIES, 2), _most(dtype), dtype),
            Multipliers(*problem.unstack(y), problem.unravel(nil), problem.unravel(nil)),
            KKT(zero, zero, zero), aux, info,
        )  # fmt: skip
        return jax.tree.map(jnp.copy, state)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

    def update(
        updates: Updates,
        state: InteriorPointState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        equality: Callable[..., PyTree] | None = None,
        inequality: Callable[..., PyTree] | None = None,
        bounds: tuple[PyTree, PyTree] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, InteriorPointState]:
        problem = program(name, params, value_fn, equality, inequality, bounds, has_aux, extra_args)
        dtype = problem.x.dtype
        given = gtol if tol is None else tol
        gtol_ = jnp.asarray(float(np.finfo(dtype).eps) ** 0.5 if given is None else value_at(given, state.count), dtype)
        count = next_count(state.count)
        return jax.lax.cond(  # type: ignore[no-any-return]
            state.info.status.code == np.int32(Code.RUNNING),
            lambda: _advance(problem, params, state._replace(count=count), gtol_),
            lambda: (
                jax.tree.map(jnp.zeros_like, params),
                state._replace(count=count, info=state.info._replace(accepted=jnp.zeros((), bool))),
            ),
        )

    return transform(name, init, update, needs_params=True, state_type=InteriorPointState, solver=True)


def _advance(
    problem: Program, params: Params, state: InteriorPointState, gtol: Array
) -> tuple[Updates, InteriorPointState]:
    """An update of a run that is not over."""
    n, eps = problem.x.size, float(np.finfo(problem.x.dtype).eps)
    space, info = Space(problem, state.relaxed), state.info
    alpha, longest, slope, mu, kept, weight, left, _ = Scalars(*state.scalars)
    kind = Counts(*state.counts).kind
    first, fresh, restoring = state.count == 1, kind == FRESH, kept > 0

    # The trial
    x, s = problem.x, state.slack
    alpha = jnp.where(fresh, 0, alpha)
    to = jnp.where(first, space.inside(x), x + alpha * state.step[:n])
    move_to, x_new = move(problem, params, to, problem.lower, problem.upper)
    raw, aux = problem.evaluate(x_new)
    F = raw * state.scale
    s_new = s + alpha * state.step[n:]

    # What does it lead to? (18) - (23)
    def measures(F: Array, x: Array, s: Array) -> Array:
        """theta and phi of the problem itself, and the function that a restoration minimizes."""
        c, logs = space.violation(F, s), jnp.sum(jnp.log(space.rooms(x, s)))
        phi = F[0] - jnp.where(restoring, kept, mu) * logs
        return jnp.stack([jnp.sum(jnp.abs(c)), phi, weight / 2 * jnp.sum(c * c) - mu * logs])

    both = jax.vmap(measures)(jnp.stack([state.values, F]), jnp.stack([x, x_new]), jnp.stack([s, s_new]))
    size = largest(state.step / (1 + jnp.abs(joined([x, s]))))
    dominated = jnp.any(
        (both[1, 0] > (1 - G_THETA) * state.filter[:, 0])
        & (both[1, 1] > state.filter[:, 1] + 10 * eps * jnp.abs(both[0, 1]))
    )

    def judge() -> tuple[Array, Array]:
        (theta, phi, penalty), (theta_new, phi_new, penalty_new) = both
        fits = ~dominated
        merit, merit_new = jnp.where(restoring, penalty, phi), jnp.where(restoring, penalty_new, phi_new)
        falls = merit_new - merit - 10 * eps * jnp.abs(merit)
        down, flat = slope < 0, theta <= THETA_MIN / THETA_MAX * state.filter[0, 0]
        descent = jnp.where(down, -slope, 1)
        switches = down & (alpha * descent**S_PHI > theta**S_THETA)
        by_phi = restoring | (switches & flat)
        enough = jnp.where(
            by_phi, falls <= ARMIJO * alpha * jnp.minimum(slope, 0),
            (theta_new <= (1 - G_THETA) * theta) | (falls <= -G_PHI * theta),
        )  # fmt: skip
        tiny, broken = size < 10 * eps, ~restoring & (theta > gtol)
        finite = jnp.all(jnp.isfinite(raw))
        taken = finite & jnp.isfinite(merit_new) & ((enough & (restoring | fits)) | (tiny & ~broken))
        leaves = restoring & (theta_new <= left) & fits
        corrects = (kind == LINE) & (alpha == longest) & (theta_new >= theta) & ~restoring & finite
        returns = kind == CORRECTION
        halved = jnp.where(returns, longest, alpha) / 2
        shortest = jnp.minimum(G_THETA, jnp.where(down, G_PHI * theta / descent, jnp.inf))
        shortest = jnp.minimum(shortest, jnp.where(down & flat, theta**S_THETA / descent**S_PHI, jnp.inf))
        lost = halved < jnp.maximum(jnp.where(restoring, 0, G_ALPHA * shortest), eps)
        event = first_true(
            [fresh & ~finite, first, fresh, taken & leaves, taken & by_phi, taken, tiny & broken, corrects,
             lost & broken, lost, returns],
            [BROKEN, FIRST, STARTED, LEAVES, BY_PHI, BY_FILTER, ENTERS, CORRECTS, ENTERS, LOST, RETURNS],
            np.int32(HALVED),
        )  # fmt: skip
        return event, jnp.stack([theta, phi, alpha, halved, size])

    event, measured = judge()

    def halve() -> tuple[Updates, InteriorPointState]:
        scalars = jnp.where(jnp.arange(len(state.scalars)) == 0, measured[3], state.scalars)
        return jax.tree.map(jnp.zeros_like, params), state._replace(
            scalars=scalars, info=_told(info, info.value, info.optimality, event, measured, state.step[:n])
        )

    def turn() -> tuple[Updates, InteriorPointState]:
        return _turn(problem, space, state, gtol, (move_to, x_new, s_new, raw, aux), event, measured)

    return jax.lax.cond(event == HALVED, halve, turn)  # type: ignore[no-any-return]


def _told(
    info: Info, value: Array, optimality: Array, event: Array, measured: Array, step: Array, code: Any = Code.RUNNING
) -> Info:
    """The Info after an update."""
    functions, gradients, products = info.evaluations
    derived = _derives(event).astype(jnp.int32)
    evaluations = Evaluations(next_count(functions), gradients + derived, products + np.int32(step.size) * derived)
    return Info(value, optimality, measured[2] * norm(step), _moves(event), evaluations,
                Status(jnp.asarray(code, jnp.int32)))  # fmt: skip


def _moves(event: Array) -> Array:
    """bool[]: is the trial taken, and another point?"""
    return (event == BY_PHI) | (event == BY_FILTER) | (event == LEAVES)


def _derives(event: Array) -> Array:
    """bool[]: is the trial taken?"""
    return _moves(event) | (event == FIRST) | (event == STARTED)


def _turn(
    problem: Program,
    space: Space,
    state: InteriorPointState,
    gtol: Array,
    trial: tuple[Updates, Array, Array, Array, PyTree],
    event: Array,
    measured: Array,
) -> tuple[Updates, InteriorPointState]:
    """What follows a trial, unless it is but a shorter one: the point, the multipliers, mu, the step, the status."""
    p, n, dtype, eps = problem.p, problem.x.size, problem.x.dtype, float(np.finfo(problem.x.dtype).eps)
    move_to, x_new, s_new, raw, aux = trial
    theta, phi, alpha, halved, size = measured
    old, counts, info = Scalars(*state.scalars), Counts(*state.counts), state.info
    x, s, y, z, mu = problem.x, state.slack, state.y, state.z, old.mu
    first, leaves, enters, corrects, returns = (event == e for e in (FIRST, LEAVES, ENTERS, CORRECTS, RETURNS))
    moves, derives = _moves(event), _derives(event)
    still = jnp.all(x_new == x) & (largest(s_new - s) < 10 * eps)  # a relaxed bound is no way out of the box
    tiny = (size < 10 * eps) | (moves & still)
    restoring = old.kept > 0
    restores = (restoring & ~leaves) | enters
    tau = jnp.maximum(TAU, 1 - mu)

    # The point, its multipliers (14) - (16), its derivatives
    r_new = space.rooms(x_new, s_new)
    dz = space.dual_step(space.rooms(x, s), z, mu, state.step)
    z_new = jnp.clip(z + _share(z, dz, tau) * dz, mu / (SIGMA * r_new), SIGMA * mu / r_new)
    z_new = jnp.where(leaves & (jnp.max(z_new, initial=0.0) > LARGEST), 1, z_new)
    z = jnp.where(space.there, jnp.where(first, 1, jnp.where(moves, z_new, z)), 0)
    weight = jnp.where(enters, RHO / jnp.maximum(largest(space.violation(state.values, s)), eps), old.weight)
    z = jnp.where(enters, jnp.minimum(z, RHO), z)
    c_trial = space.violation(raw * state.scale, s_new)
    x = jnp.where(derives, x_new, x)

    def derive() -> tuple[Array, Array, Array, Array, Array]:
        by_step = y + alpha * state.step_y
        y_new = jnp.where(restores, weight * c_trial, by_step)
        v = joined([jnp.where(restores, 0, 1)[None].astype(dtype), y_new]) * state.scale
        J, H = problem.derive(x_new, v)
        steep = jnp.max(jnp.abs(J), axis=1, initial=0.0)
        scale = jnp.where(first, STEEPEST / jnp.maximum(steep, STEEPEST), state.scale)
        return raw * scale, scale, J * scale[:, None], H, y_new

    def keep() -> tuple[Array, Array, Array, Array, Array]:
        return state.values, state.scale, state.jacobian, state.hessian, y

    values, scale, J, H, y = jax.lax.cond(derives, derive, keep)
    s = jnp.where(first, jnp.maximum(-values[1 + p :], PUSH), jnp.where(derives, s_new, s))
    c, r = space.violation(values, s), space.rooms(x, s)
    cramped, relaxed = space.cramped(r, mu)
    cramped = cramped & moves
    relaxed = jnp.where(cramped, relaxed, state.relaxed)
    r = r + relaxed - state.relaxed
    z = jnp.where(cramped, mu / r, z)
    y = jnp.where(enters, weight * c, y)

    # How far from a solution? (5), (7)
    rest = space.residual(J, y, z, restores)
    z_sum, y_sum = jnp.sum(z), jnp.sum(jnp.abs(y))
    s_d = jnp.clip((y_sum + z_sum) / max(1, y.size + z.size) / S_MAX, 1, SCALED)
    s_c = jnp.clip(z_sum / max(1, z.size) / S_MAX, 1, SCALED)
    missed = largest(c)
    worst = jnp.maximum(largest(rest) / s_d, jnp.where(restores, 0, missed))
    most = jnp.max(jnp.where(space.there, r * z, 0), initial=0.0)
    least = jnp.min(jnp.where(space.there, r * z, jnp.inf), initial=jnp.inf)

    def error(mu: Array) -> Array:
        return jnp.maximum(worst, jnp.maximum(most - mu, mu - least) / s_c)

    def lower(mu: Array) -> Array:
        return jnp.maximum(gtol / 10, jnp.minimum(MU_FACTOR * mu, mu**MU_POWER))

    before = jnp.where(leaves, old.kept, jnp.where(enters, jnp.maximum(mu, missed), mu))
    mu, near = before, (moves & ~leaves) | (event == STARTED)
    for _ in range(FALLS):
        near = near & (error(mu) <= MU_ERROR * mu)
        mu = jnp.where(near, lower(mu), mu)
    mu = jnp.where(moves & tiny & (mu == before), lower(mu), mu)

    # The filter: (22), or where a restoration begins
    adds = ((event == BY_FILTER) & ~restoring) | enters
    emptied = (mu < before) & ~restores
    row, rows = 1 + counts.entries % np.int32(ENTRIES - 1), jnp.arange(ENTRIES, dtype=jnp.int32)[:, None]
    pair = jnp.stack([theta, phi - G_PHI * theta])
    barred = jnp.stack([THETA_MAX * jnp.maximum(1, jnp.sum(jnp.abs(c))), jnp.asarray(-_most(dtype), dtype)])
    filter_ = jnp.where(adds & (rows == row), pair[None], state.filter)
    filter_ = jnp.where(emptied & (rows > 0), _most(dtype), jnp.where(first & (rows == 0), barred[None], filter_))

    # The next step: (13), (11); section 3.6 for the multipliers alone
    alone, free = first | leaves, ~space.fixed
    q = space.fold(z / r)
    b = space.residual(J, jnp.where(alone, 0, y), jnp.where(alone, z, mu / r), restores)
    b_c = jnp.where(corrects, alpha * c + c_trial, jnp.where(restores | alone, 0, c))
    q = jnp.where(alone, jnp.where(jnp.arange(q.size) < n, 0, 1), q)
    H_aim = jnp.where(alone | ~(free[:, None] & free[None]), jnp.eye(n, dtype=dtype), H)
    J_aim = jnp.where(free[None], J[1:], 0)
    gamma = jnp.where(restores, 1 / jnp.where(restores, weight, 1), 0)
    found = solve(
        System(H_aim, q[:n], q[n:], J_aim[:p], J_aim[p:], gamma), Parts(-b[:n], -b[n:], -b_c[:p], -b_c[p:]), old.delta
    )
    step, step_y = joined(found.parts[:2]), joined(found.parts[2:])
    dr = space.change(step)
    longest = _share(r, dr, jnp.maximum(TAU, 1 - mu))
    g = jnp.where(restores, weight * c @ space.along(J_aim, step), jnp.where(free, J[0], 0) @ step[:n])
    slope = g - mu * jnp.sum(dr / r)
    y = jnp.where(alone, jnp.where(largest(step_y) > LARGEST, 0, step_y), y)

    # Without scaling
    y_raw, c_raw, z_x = y * scale[1:] / scale[0], values[1:] / scale[1:], z[: 2 * n].reshape(2, n) / scale[0]
    g = (J[0] + y @ J[1:]) / scale[0]
    z_x = jnp.where(space.fixed[None], jnp.maximum(0, jnp.stack([g, -g])), z_x)
    kkt = KKT(
        largest(g - z_x[0] + z_x[1]),
        jnp.maximum(largest(c_raw[:p]), jnp.max(c_raw[p:], initial=0.0)),
        largest(joined([(r * z)[: 2 * n] / scale[0], c_raw[p:] * y_raw[p:]])),
    )
    f, f_slope = jnp.where(event == BROKEN, raw[0], values[0] / scale[0]), largest(J[0]) / scale[0]
    limit = gtol**SOUND * jnp.stack([1 + f_slope, jnp.ones_like(f), 1 + jnp.abs(f)])
    sound = jnp.all(jnp.stack(kkt) <= limit)

    # Is it over?
    now = jnp.maximum(error(jnp.zeros_like(mu)), 0)
    known = jnp.all(jnp.isfinite(J)) & jnp.all(jnp.isfinite(H))
    optimality = jnp.where(restores, jnp.maximum(now, missed), now)
    close = jnp.where(moves & (optimality <= 100 * gtol), counts.close + 1, np.int32(0))
    far = jnp.maximum(largest(x), jnp.where(missed <= gtol, -f, 0)) > eps**-1.25
    stuck = (event == LOST) | ~found.good | (moves & tiny & (before <= gtol / 10))
    derived = derives & ~first
    code = first_true(
        [
            (event == BROKEN) | (derives & ~known),
            derived & ~restores & ~leaves & (now <= gtol) & sound,
            restores & ((derived & (now <= 100 * gtol)) | ((event == LOST) & (now <= jnp.sqrt(gtol)))),
            far,
            ((stuck & ~restores & (optimality <= 100 * gtol)) | (close >= PATIENCE)) & sound,
            (stuck & ~enters) | (close >= PATIENCE),
        ],
        [Code.NOT_FINITE, Code.GRADIENT_SMALL, Code.INFEASIBLE, Code.UNBOUNDED, Code.DECREASE_SMALL, Code.STUCK],
        np.int32(Code.RUNNING),
    )
    scalars = jnp.stack(Scalars(
        jnp.where(returns, halved, longest), jnp.where(corrects, old.longest, longest),
        jnp.where(corrects, old.slope, slope), mu,
        jnp.where(enters, old.mu, jnp.where(leaves, 0, old.kept)), weight, jnp.where(enters, LEFT * theta, old.left),
        jnp.where(alone | (found.delta == 0), old.delta, found.delta),
    ))  # fmt: skip
    kind = jnp.where(alone | enters, np.int32(FRESH), jnp.where(corrects, np.int32(CORRECTION), np.int32(LINE)))
    entries = jnp.where(emptied, np.int32(0), counts.entries + adds.astype(jnp.int32))
    counts_ = jnp.stack(Counts(counts.iterations + moves.astype(jnp.int32), kind, entries, close))

    multipliers = Multipliers(*problem.unstack(y_raw), problem.unravel(z_x[0]), problem.unravel(z_x[1]))
    new = InteriorPointState(
        state.count, scalars, counts_, scale, values, J, H, s, y, z, step, step_y, relaxed, filter_, multipliers, kkt,
        pick(derives, aux, state.aux), _told(info, f, optimality, event, measured, state.step[:n], code),
    )  # fmt: skip
    return pick(derives, move_to, jax.tree.map(jnp.zeros_like, move_to)), new


class Space:
    """The rooms r = (x - lower, upper - x, s) and c = (c_e, c_i + s) of a program."""

    def __init__(self, problem: Program, relaxed: Array) -> None:
        self.problem, self.n, self.p, self.relaxed = problem, problem.x.size, problem.p, relaxed
        lower, upper = problem.lower, problem.upper
        self.fixed = lower >= upper
        slack = jnp.ones(problem.q, bool)
        self.there = joined([jnp.isfinite(lower) & ~self.fixed, jnp.isfinite(upper) & ~self.fixed, slack])
        bounds = joined([lower, upper, jnp.zeros(problem.q, lower.dtype)])
        self.eps = float(np.finfo(lower.dtype).eps)
        self.size = jnp.maximum(1, jnp.where(self.there, jnp.abs(bounds), 0))

    def inside(self, x: Array) -> Array:
        """Section 3.6: x, a little away from the bounds."""
        lower, upper = self.problem.lower, self.problem.upper
        share = SHARE * (upper - lower)
        low = lower + jnp.minimum(PUSH * jnp.maximum(1, jnp.abs(lower)), share)
        high = upper - jnp.minimum(PUSH * jnp.maximum(1, jnp.abs(upper)), share)
        low, high = jnp.where(jnp.isfinite(lower), low, lower), jnp.where(jnp.isfinite(upper), high, upper)
        return jnp.clip(x, low, high)

    def rooms(self, x: Array, s: Array) -> Array:
        """float[2n+q]: r, 1 where there is no bound."""
        r = joined([x - self.problem.lower, self.problem.upper - x, s]) + self.relaxed
        return jnp.where(self.there, jnp.maximum(r, self.eps * self.size), 1)

    def cramped(self, r: Array, mu: Array) -> tuple[Array, Array]:
        """Section 3.5: which of r are so small that no interior is left, and how far the bounds are then relaxed.

        Equations that hold a variable at its bound make multipliers without bound of both. f and c see x no further
        than the bound itself.
        """
        small = self.there & (self.relaxed == 0) & (r < self.eps**CRAMPED * mu)
        return small, jnp.where(small, self.eps**RELAXED * self.size, self.relaxed)

    def change(self, step: Array) -> Array:
        """float[2n+q]: of r along (dx, ds)."""
        return jnp.where(self.there, joined([step[: self.n], -step[: self.n], step[self.n :]]), 0)

    def fold(self, q: Array) -> Array:
        """float[n+q]: from a diagonal by r to that by (x, s)."""
        q = jnp.where(self.there, q, 0)
        return joined([q[: self.n] + q[self.n : 2 * self.n], q[2 * self.n :]])

    def violation(self, F: Array, s: Array) -> Array:
        """float[p+q]: c."""
        c = F[1:]
        return joined([c[: self.p], c[self.p :] + s])

    def residual(self, J: Array, y: Array, z: Array, restores: Array) -> Array:
        """float[n+q]: the gradient of the Lagrangian by x and s."""
        g = jnp.where(restores, 0, J[0])
        z = jnp.where(self.there, z, 0)
        by_x = g + y @ J[1:] - z[: self.n] + z[self.n : 2 * self.n]
        return joined([jnp.where(self.fixed, 0, by_x), y[self.p :] - z[2 * self.n :]])

    def along(self, J: Array, step: Array) -> Array:
        """float[p+q]: the derivative of c along (dx, ds)."""
        Jd = J @ step[: self.n]
        return joined([Jd[: self.p], Jd[self.p :] + step[self.n :]])

    def dual_step(self, r: Array, z: Array, mu: Array, step: Array) -> Array:
        """float[2n+q]: dz of (12)."""
        return jnp.where(self.there, (mu - z * self.change(step)) / r - z, 0)


def _share(r: Array, d: Array, tau: Array) -> Array:
    """(15): the largest alpha <= 1 with r + alpha d >= (1 - tau) r."""
    falls = d < 0
    return jnp.minimum(1, jnp.min(jnp.where(falls, -tau * r / jnp.where(falls, d, 1), jnp.inf), initial=jnp.inf))


def _most(dtype: Any) -> float:
    """What no theta or phi exceeds."""
    return float(np.finfo(dtype).max)
