"""Linear and quadratic programs by a primal-dual interior-point method.

min x'Qx/2 + c'x   with   A x = b,   G x <= h,   lower <= x <= upper

All inequalities are the rows of N x + s = k, s >= 0: N = [G; -I; I], k = [h; -lower; upper]. The method is Mehrotra's
predictor-corrector (Mehrotra 1992, SIAM J. Optim. 2; Nocedal & Wright 2006, algorithms 14.3 and 16.4) on the
homogeneous embedding of the conditions of Karush, Kuhn and Tucker, in which tau -> 0 makes a certificate that there
is no solution (Xu, Hung & Ye 1996; for quadratic programs Goulart & Chen 2024, arXiv:2405.12762):

Q x + A'y + N'z + c tau = 0        z s = 0, z >= 0, s >= 0
A x - b tau = 0                    tau kappa = 0, tau >= 0, kappa >= 0
N x + s - k tau = 0
kappa + c'x + b'y + k'z + x'Qx / tau = 0
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import next_count, norm, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, check_size
from jaxopt_ko.solvers.engine.convergence import (
    check_given,
    eps_of,
    first_info,
    is_running,
    own_buffers,
    status,
    tolerance,
)
from jaxopt_ko.solvers.quadratic.program import GivenProgram, PreparedProgram, given_program, is_convex, prepared
from jaxopt_ko.solvers.quadratic.residuals import JudgedPoint, judged
from jaxopt_ko.solvers.quadratic.variables import (
    QuadraticState,
    Start,
    gap_of,
    initial_point,
    near_point,
    predictor_corrector,
)
from jaxopt_ko.types import (
    KKT,
    Code,
    Evaluations,
    GradientTransformation,
    Hyper,
    Info,
    Multipliers,
    Params,
    Status,
    Updates,
)

STALLED = 12  # updates without progress before the run is stuck
FAR = 0.1  # relative residuals from which on it is no standstill if the gap falls,
LONG = 60  # in so many updates at most
PROGRESS = 0.9  # the part to which the residuals fall in an update that is any
LOOSE = 0.5  # eps to this power: what is near enough when rounding ends a run
DELTA = 0.75  # eps to this power: regularization of the factorized matrices at first, refined away
DELTA_GROWTH = 100.0  # of the regularization when a factorization fails
DELTA_MOST = 0.35  # eps to this power: where that ends
TOL = 4 / 7  # eps to this power: 1e-9 in float64, 1e-4 in float32


@cached_factory
def quadratic_interior_point(*, tol: Hyper | None = None, bandwidth: int | None = None) -> GradientTransformation:
    """One predictor-corrector step of a primal-dual interior-point method an update, for a linear or quadratic program.

    min x'Qx/2 + c'x   with   A x = b,   G x <= h,   lower <= x <= upper

    init(params, c=, Q=None, A=None, b=None, G=None, h=None, bounds=None, tol=None) and update(updates, state, params,
    ...) with the same arguments: c a tree like params, Q float[n,n], A float[m,n], b float[m], G float[k,n], h float[k]
    (inf for a row that is none), bounds (lower, upper) as in `lbfgsb`; n is the number of elements of params. Q
    counts by its symmetric part. After an update params are its point, inside the bounds, wherever they started; what
    comes in as updates is not read. An update factorizes two matrices, float[n,n] and float[m,m], by Cholesky; with
    bandwidth, the largest distance of two parameters that meet in Q or in a row of A or G, one with that band.

    Converged when the largest of |A x - b| and G x - h, over 1 + |(b, G x)|, of the stationarity over 1 + |c|
    and of the gap between primal and dual value over 1 + |value| is at most tol (eps**(4/7) by default: 1e-9 in
    float64); `best`, `multipliers` and `kkt` in the state are those of the best point so far. INFEASIBLE and
    UNBOUNDED are said with a certificate, a combination of the rows that no x satisfies or a ray, to within tol.
    DECREASE_SMALL: rounding ended the run within eps**0.5. STUCK: before that, or Q is not positive semidefinite.

    Raises MissingArgumentError without c, or a matrix without its right-hand side; TreeError where shapes do not fit
    or bounds leave no room. Not for large sparse problems: the matrices are dense here; `quadratic_program` takes
    sparse ones, and finds a band by itself.
    """
    name = "quadratic_interior_point"
    check_given(name, NONNEGATIVE, tol=tol)
    if bandwidth is not None:
        check_size(name, "bandwidth", bandwidth)
    default = tol

    def init(params: Params, *, tol: Any = None, start: Start | None = None, **extra_args: Any) -> QuadraticState:
        return _first(_prepared(name, params, extra_args, None, bandwidth), bandwidth, start)

    def update(
        updates: Updates, state: QuadraticState, params: Params, *, tol: Any = None, **extra_args: Any
    ) -> tuple[Updates, QuadraticState]:
        known = _prepared(name, params, extra_args, state.scaling, bandwidth)
        bound = tolerance(state.delta, state.count, eps_of(state.delta) ** TOL, default, tol).value
        return _advance(known, tree.ravel(params)[0], state, bound, bandwidth)

    return transform(name, init, update, needs_params=True, state_type=QuadraticState, solver=True)


def _prepared(name: str, params: Params, extra_args: Any, scaling: Any, bandwidth: int | None) -> PreparedProgram:
    """What a driver has prepared, else from the arguments of a method."""
    known: PreparedProgram | None = extra_args.get("prepared")
    return known or prepared(given_program(name, params, **extra_args), scaling, bandwidth)


def _first(known: PreparedProgram, bandwidth: int | None, start: Start | None) -> QuadraticState:
    """The state before the first step, at a point between the rows."""
    given, scaling, program = known
    x, full = given.x, given.full
    delta = jnp.asarray(eps_of(x) ** DELTA, x.dtype)
    point = initial_point(program, delta ** (2 / 3), bandwidth)
    if start is not None:
        point = near_point(program, scaling, start, point)
    over = status((~given.sound, Code.NOT_FINITE), (~is_convex(program, bandwidth), Code.STUCK))
    inf, nil, none = jnp.asarray(jnp.inf, x.dtype), zero_count(), given.unravel(jnp.zeros_like(x))
    value = 0.5 * x @ full.curve(x) + full.c @ x
    state = QuadraticState(
        count=nil,
        point=point,
        scaling=scaling,
        delta=delta,
        merit=inf,
        progress=inf,
        stalled=nil,
        best=given.unravel(x),
        multipliers=Multipliers(jnp.zeros_like(full.b), jnp.zeros_like(full.k[: full.G.shape[0]]), none, none),
        kkt=KKT(inf, inf, inf),
        info=first_info(value, inf, over),
    )
    return own_buffers(state)


def _advance(
    known: PreparedProgram, x: Array, state: QuadraticState, tol: Array, bandwidth: int | None
) -> tuple[Updates, QuadraticState]:
    """Propose a step, take it if it is finite, judge where it leads, and say whether the run is over. x: params."""
    given, running = known.given, is_running(state.info)
    new, length = predictor_corrector(known.program, state.point, state.delta, bandwidth)
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(new)]))
    moved = finite & (length > 0) & running
    point = tree.where(moved, new, state.point)
    found = judged(given, state.scaling, point)
    best = tree.where(
        moved & (found.merit < state.merit),
        _found(given, found),
        _Best(state.best, state.multipliers, state.kkt, state.merit, state.info.value),
    )
    before, now = (gap_of(at) / at.tau**2 for at in (state.point, point))
    course = _course(state, found, best.merit, tol, moved, finite, moved & (now < PROGRESS * before))

    dx = jnp.where(moved & jnp.all(jnp.isfinite(found.x)), found.x - x, 0)
    calls = state.info.evaluations.function
    calls = jnp.where(running, next_count(calls), calls)
    info = Info(
        value=best.value,
        optimality=jnp.where(moved, found.merit, state.info.optimality),
        step_norm=norm(dx),
        accepted=moved,
        evaluations=Evaluations(calls, calls, zero_count()),
        status=Status(jnp.where(running, course.code, state.info.status.code)),
    )
    return given.unravel(dx), QuadraticState(
        count=next_count(state.count),
        point=point,
        scaling=state.scaling,
        delta=jnp.where(running & ~finite, DELTA_GROWTH * state.delta, state.delta),
        merit=best.merit,
        progress=course.progress,
        stalled=jnp.where(running, course.stalled, state.stalled),
        best=best.params,
        multipliers=best.multipliers,
        kkt=best.kkt,
        info=info,
    )


class _Best(NamedTuple):
    """The point of least merit."""

    params: Params
    multipliers: Multipliers
    kkt: KKT
    merit: Array  # float[]
    value: Array  # float[]


def _found(given: GivenProgram, found: JudgedPoint) -> _Best:
    """A point as it would be the best."""
    low, high = given.unravel(found.lower), given.unravel(found.upper)
    return _Best(given.unravel(found.x), Multipliers(found.y, found.z, low, high), found.kkt, found.merit, found.value)


class _Course(NamedTuple):
    """How a run goes on."""

    code: Array  # int32[]
    progress: Array  # float[]  the least so far of merit and the certificates' residuals
    stalled: Array  # int32[]   updates since that fell, but those that wait for the gap to


def _course(
    state: QuadraticState, found: JudgedPoint, merit: Array, tol: Array, moved: Array, finite: Array, closer: Array
) -> _Course:
    """Is it over? merit: of the best point; closer: does the gap fall?"""
    eps = eps_of(merit)
    now = jnp.minimum(found.merit, jnp.minimum(found.infeasible, found.unbounded))
    falls = moved & (now < PROGRESS * state.progress)
    # The gap over a value that falls as fast stays where it is
    waits = closer & (found.merit > FAR) & (state.count < LONG)
    stalled = jnp.where(falls, 0, jnp.where(waits, state.stalled, next_count(state.stalled)))
    stuck = jnp.where(finite, ~moved, state.delta >= eps**DELTA_MOST) | (stalled >= STALLED)
    over = status(
        (found.merit <= tol, Code.GRADIENT_SMALL),
        ((found.infeasible <= tol) & ~(found.missed <= tol), Code.INFEASIBLE),
        ((found.unbounded <= tol) & ~(found.slope <= tol), Code.UNBOUNDED),
        (stuck & (merit <= eps**LOOSE), Code.DECREASE_SMALL),
        (stuck, Code.STUCK),
    )
    return _Course(over.code, jnp.where(falls, now, state.progress), stalled)
