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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import first_true, joined, largest, next_count, norm, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, check_hyper, check_size
from jaxopt_ko.solvers.engine.banded import blocks, factor, gram, substitute, total
from jaxopt_ko.solvers.problem.bounds import box
from jaxopt_ko.solvers.problem.constraints import check_program
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

RUIZ = 10  # rounds of equilibration
EXTREME = 1e4  # scalings stay between this and its inverse
REFINEMENTS = 3  # rounds on every linear system
HALF = 0.5  # to which a refinement must bring the residual to be kept
FRACTION = 0.99  # of the way to the boundary
PATIENCE = 12  # updates without progress before the run is stuck
PROGRESS = 0.9  # the part to which the residuals fall in an update that is any
LOOSE = 0.5  # eps to this power: what is near enough when rounding ends a run
DELTA = 0.75  # eps to this power: regularization of the factorized matrices at first, refined away
GROWTH = 100.0  # of the regularization when a factorization fails
MOST = 0.35  # eps to this power: where that ends
RHO = 1.0  # weight of A'A, which makes Q regular where A x = b leaves freedom to few
SOFT = 0.5  # eps to this power: what banded systems put beside the equations, refined away
TOL = 4 / 7  # eps to this power: 1e-9 in float64, 1e-4 in float32


class Scaling(NamedTuple):
    """Of the problem that is solved: Q^ = cost D Q D, A^ = E A D, G^ = F G D."""

    D: Array  # float[n]
    E: Array  # float[m]
    F: Array  # float[k]
    cost: Array  # float[]


class Point(NamedTuple):
    """Of the homogeneous embedding; rows are those of G, the lower and the upper bounds, l = k + 2n."""

    x: Array  # float[n]
    y: Array  # float[m]    multipliers of A x = b
    z: Array  # float[l]    of the rows
    s: Array  # float[l]    room left by the rows
    tau: Array  # float[]
    kappa: Array  # float[]


class QuadraticState(NamedTuple):
    """State of `quadratic_interior_point`: n parameters, m equations, k inequalities, l = k + 2n rows."""

    count: Array  # int32[]       updates made
    point: Point  # of the scaled problem
    scaling: Scaling  # of the problem
    delta: Array  # float[]       regularization of the factorized matrices
    merit: Array  # float[]       the least so far of the largest relative residual, of the best point
    progress: Array  # float[]    the least so far of merit and the certificates' residuals
    stalled: Array  # int32[]     updates since that fell
    best: Params  # like params   the point of least merit
    multipliers: Multipliers  # there
    kkt: KKT  # there
    info: Info  # of the last update


class _Program(NamedTuple):
    """The problem as arrays: fixed parameters at the right-hand side, what is no row or no bound zeroed."""

    Q: Array | None  # float[n,n]
    c: Array  # float[n]
    A: Array  # float[m,n]
    b: Array  # float[m]
    G: Array  # float[k,n]
    k: Array  # float[l]  h, -lower, upper; 0 where there is no row
    has: Array  # bool[l]  is there a row?

    def rows(self, x: Array) -> Array:
        """N x."""
        return jnp.where(self.has, joined([self.G @ x, -x, x]), 0)

    def columns(self, z: Array) -> Array:
        """N'z, z being zero where there is no row."""
        n = self.c.size
        g, low, high = jnp.split(z, [z.size - 2 * n, z.size - n])
        return self.G.T @ g - low + high

    def curve(self, x: Array) -> Array:
        """Q x."""
        return jnp.zeros_like(x) if self.Q is None else self.Q @ x


class _Given(NamedTuple):
    """A problem in its own units, and without its fixed parameters, which are moved to the right-hand side."""

    x: Array  # float[n]  params
    unravel: Callable[[Array], Params]
    full: _Program
    free: _Program
    lower: Array  # float[n]
    upper: Array  # float[n]
    fixed: Array  # bool[n]
    sound: Array  # bool[]  is nothing NaN or infinite that must not be?


Vectors = tuple[Array, Array, Array]  # float[n], float[m], float[l]
System = Callable[[Array, Array, Array], Vectors]


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

    Converged when the largest of |A x - b| and G x - h, over 1 + |(b, h, bounds)|, of the stationarity over 1 + |c|
    and of the gap between primal and dual value over 1 + |value| is at most tol (eps**(4/7) by default: 1e-9 in
    float64); `best`, `multipliers` and `kkt` in the state are those of the best point so far. INFEASIBLE and
    UNBOUNDED are said with a certificate, a combination of the rows that no x satisfies or a ray, to within tol.
    DECREASE_SMALL: rounding ended the run within eps**0.5. STUCK: before that, or Q is not positive semidefinite.

    Raises MissingArgumentError without c, or a matrix without its right-hand side; TreeError where shapes do not fit
    or bounds leave no room. Not for large sparse problems: the matrices are dense; nor to start from a good guess.
    """
    name = "quadratic_interior_point"
    if tol is not None:
        check_hyper(name, "tol", tol, NONNEGATIVE)
    if bandwidth is not None:
        check_size(name, "bandwidth", bandwidth)
    default = tol

    def init(params: Params, *, tol: Any = None, **extra_args: Any) -> QuadraticState:
        given = _given(name, params, **extra_args)
        scaling = _equilibrated(given.free)
        program = _scaled(given.free, scaling)
        x, full = given.x, given.full
        delta = jnp.asarray(np.finfo(x.dtype).eps ** DELTA, x.dtype)
        point = _start(program, delta ** (2 / 3), bandwidth)
        code = first_true([~given.sound, ~_is_convex(program, bandwidth)], [Code.NOT_FINITE, Code.STUCK], Code.RUNNING)
        inf, nil, none = jnp.asarray(jnp.inf, x.dtype), zero_count(), given.unravel(jnp.zeros_like(x))
        value = 0.5 * x @ full.curve(x) + full.c @ x
        info = Info(value, inf, jnp.zeros_like(inf), jnp.zeros((), bool), Evaluations(nil, nil, nil), Status(code))
        multipliers = Multipliers(jnp.zeros_like(full.b), jnp.zeros_like(full.G[:, 0]), none, none)
        kkt = KKT(inf, inf, inf)
        state = QuadraticState(nil, point, scaling, delta, inf, inf, nil, params, multipliers, kkt, info)
        return jax.tree.map(jnp.array, state)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

    def update(
        updates: Updates, state: QuadraticState, params: Params, *, tol: Any = None, **extra_args: Any
    ) -> tuple[Updates, QuadraticState]:
        given = _given(name, params, **extra_args)
        program = _scaled(given.free, state.scaling)
        eps = float(np.finfo(given.x.dtype).eps)
        asked = default if tol is None else tol
        bound = jnp.asarray(eps**TOL if asked is None else value_at(asked, state.count), given.x.dtype)
        over = state.info.status.code != np.int32(Code.RUNNING)

        new, length = _step(program, state.point, state.delta, bandwidth)
        finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(new)]))
        moved = finite & (length > 0) & ~over
        point = jax.tree.map(lambda new, old: jnp.where(moved, new, old), new, state.point)
        delta = jnp.where(finite | over, state.delta, GROWTH * state.delta)
        found = _judged(given, state.scaling, point)
        better = moved & (found.merit < state.merit)

        def kept(new: PyTree, old: PyTree) -> PyTree:
            return jax.tree.map(lambda new, old: jnp.where(better, new, old), new, old)

        low, high = (given.unravel(bound) for bound in (found.lower, found.upper))
        multipliers = kept(Multipliers(found.y, found.z, low, high), state.multipliers)
        best, kkt = kept(given.unravel(found.x), state.best), kept(found.kkt, state.kkt)
        merit, value = kept((found.merit, found.value), (state.merit, state.info.value))

        # Is it over?
        now = jnp.minimum(found.merit, jnp.minimum(found.infeasible, found.unbounded))
        falls = moved & (now < PROGRESS * state.progress)
        stalled = jnp.where(falls, 0, next_count(state.stalled))
        stuck = jnp.where(finite, ~moved, state.delta >= eps**MOST) | (stalled >= PATIENCE)
        code = first_true(
            [found.merit <= bound, found.infeasible <= bound, found.unbounded <= bound,
             stuck & (merit <= eps**LOOSE), stuck],
            [Code.GRADIENT_SMALL, Code.INFEASIBLE, Code.UNBOUNDED, Code.DECREASE_SMALL, Code.STUCK],
            Code.RUNNING,
        )  # fmt: skip
        code = jnp.where(over, state.info.status.code, code)
        dx = jnp.where(moved & jnp.all(jnp.isfinite(found.x)), found.x - given.x, 0)
        calls = state.info.evaluations.function
        calls = jnp.where(over, calls, next_count(calls))
        optimality = jnp.where(moved, found.merit, state.info.optimality)
        evaluations = Evaluations(calls, calls, zero_count())
        info = Info(value, optimality, norm(dx), moved, evaluations, Status(code))
        return given.unravel(dx), QuadraticState(
            next_count(state.count), point, state.scaling, delta, merit, jnp.where(falls, now, state.progress),
            jnp.where(over, state.stalled, stalled), best, multipliers, kkt, info,
        )  # fmt: skip

    return transform(name, init, update, needs_params=True, state_type=QuadraticState, solver=True)


# ---- the step -------------------------------------------------------------------------------------------


def _step(program: _Program, point: Point, delta: Array, bandwidth: int | None) -> tuple[Point, Array]:
    """One predictor-corrector step, and its length."""
    p, (x, y, z, s, tau, kappa) = program, point
    has = p.has
    t = jnp.where(has, s / z, 1)
    solve = _system(p, t, delta, bandwidth)
    xi = x / tau
    Qxi = p.curve(xi)
    f1 = tau * Qxi + p.A.T @ y + p.columns(z) + p.c * tau
    f2 = p.A @ x - p.b * tau
    f3 = jnp.where(has, p.rows(x) + s - p.k * tau, 0)
    f4 = kappa + p.c @ x + p.b @ y + p.k @ z + x @ Qxi
    count = jnp.sum(has).astype(x.dtype) + 1
    mu = (s @ z + tau * kappa) / count

    def right(eta: Any, rc: Array) -> Vectors:
        return -eta * f1, -eta * f2, jnp.where(has, -eta * f3 + rc / z, 0)

    def completed(d: Vectors, eta: Any, rc: Array, rt: Array) -> Point:
        x1, y1, z1 = d
        dtau = (rt / tau - eta * f4 - (p.c + 2 * Qxi) @ x1 - p.b @ y1 - p.k @ z1) / lever
        dx, dy, dz = x1 + dtau * x2, y1 + dtau * y2, z1 + dtau * z2
        ds = jnp.where(has, -rc / z - t * dz, 0)
        return Point(dx, dy, dz, ds, dtau, -(rt + kappa * dtau) / tau)

    def longest(d: Point) -> Array:
        def ratio(v: Array, dv: Array) -> Array:
            return jnp.min(jnp.where(dv < 0, -v / jnp.where(dv < 0, dv, 1), jnp.inf), initial=jnp.inf)

        ends = [ratio(z, d.z), ratio(s, d.s), ratio(tau, d.tau), ratio(kappa, d.kappa)]
        return jnp.minimum(jnp.min(jnp.stack(ends)), 1 / FRACTION)

    both = jax.tree.map(lambda *pair: jnp.stack(pair), (-p.c, p.b, p.k), right(1, s * z))
    (x2, d1), (y2, e1), (z2, g1) = jax.vmap(solve)(*both)
    lever = (p.c + 2 * Qxi) @ x2 + p.b @ y2 + p.k @ z2 - xi @ Qxi - kappa / tau
    affine = completed((d1, e1, g1), 1, s * z, tau * kappa)
    sigma = (1 - jnp.minimum(longest(affine), 1)) ** 3
    rc = jnp.where(has, s * z + affine.s * affine.z - sigma * mu, 0)
    rt = tau * kappa + affine.tau * affine.kappa - sigma * mu
    d = completed(solve(*right(1 - sigma, rc)), 1 - sigma, rc, rt)
    alpha = FRACTION * longest(d)
    new = jax.tree.map(lambda v, dv: v + alpha * dv, point, d)
    size = jnp.maximum(new.tau, new.kappa)
    new = jax.tree.map(lambda v: v / size, new)
    return new._replace(s=jnp.where(has, new.s, 1), z=jnp.where(has, new.z, 0)), alpha


def _system(p: _Program, t: Array, delta: Array, bandwidth: int | None) -> System:
    """The solution of   [Q A' N'; A 0 0; N 0 -T] [dx; dy; dz] = [r1; r2; r3],   T = s/z diagonal."""
    w = jnp.where(p.has, 1 / (t + delta), 0)
    near = _dense(p, w, delta) if bandwidth is None else _banded(p, w, delta, bandwidth)

    def solve(r1: Array, r2: Array, r3: Array) -> Vectors:
        def missed(d: Vectors) -> Vectors:
            dx, dy, dz = d
            return (
                r1 - p.curve(dx) - p.A.T @ dy - p.columns(dz),
                r2 - p.A @ dx,
                jnp.where(p.has, r3 - p.rows(dx) + t * dz, 0),
            )

        def size(e: Vectors) -> Array:
            return jnp.max(jnp.stack([largest(part) for part in e]))

        def refine(i: Any, carry: tuple[Vectors, Vectors]) -> tuple[Vectors, Vectors]:
            d, e = carry
            nearer = jax.tree.map(jnp.add, d, near(*e))
            left = missed(nearer)
            falls = (i == 0) | (size(left) < HALF * size(e))  # not where the equations contradict each other
            d, e = jax.tree.map(lambda new, old: jnp.where(falls, new, old), (nearer, left), (d, e))
            return d, e

        zero = (jnp.zeros_like(r1), jnp.zeros_like(r2), jnp.zeros_like(r3))
        d: Vectors = jax.lax.fori_loop(0, 1 + REFINEMENTS, refine, (zero, (r1, r2, r3)))[0]
        return d

    return solve


def _dense(p: _Program, w: Array, delta: Array) -> System:
    """Nearly that solution: K = Q + N'wN + rho A'A + delta, and A K^-1 A' + delta for dy."""
    n, m, k = p.c.size, p.b.size, p.G.shape[0]
    wg, wl, wu = jnp.split(w, [k, k + n])
    Q = jnp.zeros((n, n), p.c.dtype) if p.Q is None else p.Q
    L = jnp.linalg.cholesky(Q + jnp.diag(wl + wu + delta) + p.G.T @ (wg[:, None] * p.G) + RHO * (p.A.T @ p.A))
    V = _lower(L, p.A.T)
    S = jnp.linalg.cholesky(V.T @ V + delta * jnp.eye(m, dtype=V.dtype)) if m else V.T @ V

    def near(r1: Array, r2: Array, r3: Array) -> Vectors:
        v = _lower(L, r1 + p.columns(w * r3) + RHO * (p.A.T @ r2))
        dy = _upper(S, _lower(S, V.T @ v - r2))
        dx = _upper(L, v - V @ dy)
        return dx, dy, w * (p.rows(dx) - r3)

    return near


def _banded(p: _Program, w: Array, delta: Array, bandwidth: int) -> System:
    """Nearly that solution, with -soft dy beside A dx, so that K = Q + N'wN + A'A / soft + delta has a band alone."""
    n, k = p.c.size, p.G.shape[0]
    wg, wl, wu = jnp.split(w, [k, k + n])
    soft = jnp.maximum(delta, float(np.finfo(delta.dtype).eps) ** SOFT)
    ones = jnp.ones_like(p.b)
    parts = [gram(p.G, wg, bandwidth), gram(p.A, ones / soft, bandwidth)]
    parts.append(blocks(jnp.diag(wl + wu + delta) + (0 if p.Q is None else p.Q), bandwidth))
    K = factor(total(*parts))

    def near(r1: Array, r2: Array, r3: Array) -> Vectors:
        dx = substitute(K, r1 + p.columns(w * r3) + p.A.T @ r2 / soft)
        return dx, (p.A @ dx - r2) / soft, w * (p.rows(dx) - r3)

    return near


def _lower(L: Array, b: Array) -> Array:
    """L^-1 b."""
    return jax.scipy.linalg.solve_triangular(L, b, lower=True) if L.size else b


def _upper(L: Array, b: Array) -> Array:
    """L'^-1 b."""
    return jax.scipy.linalg.solve_triangular(L, b, lower=True, trans=1) if L.size else b


def _start(p: _Program, delta: Array, bandwidth: int | None) -> Point:
    """Where x and s miss the rows least, and z the stationarity, moved inside."""
    has = p.has
    solve = _system(p, jnp.ones_like(p.k), delta, bandwidth)
    rights = (jnp.stack([jnp.zeros_like(p.c), -p.c]), jnp.stack([p.b, 0 * p.b]), jnp.stack([p.k, 0 * p.k]))
    (x, x2), (_, y), (s, z) = jax.vmap(solve)(*rights)
    if p.Q is not None:
        x, z = x + x2, s + z
        s = z

    def inside(v: Array) -> Array:
        least = jnp.min(jnp.where(has, v, jnp.inf), initial=jnp.inf)
        return jnp.where(least > 0, v, v - least + 1)

    one = jnp.ones_like(p.c[0])
    return Point(x, y, jnp.where(has, inside(z), 0), jnp.where(has, inside(-s), 1), one, one)


# ---- how good is a point? -------------------------------------------------------------------------------


class _Judged(NamedTuple):
    """A point in the problem's own units."""

    x: Array  # float[n]      inside the bounds
    y: Array  # float[m]      the multipliers
    z: Array  # float[k]
    lower: Array  # float[n]
    upper: Array  # float[n]
    value: Array  # float[]
    kkt: KKT
    merit: Array  # float[]   the largest relative residual
    infeasible: Array  # float[]  how far from 0 = (A'y + N'z)'x <= b'y + k'z < 0, inf if far
    unbounded: Array  # float[]   how far from Q x = 0, A x = 0, N x <= 0, c'x < 0


def _judged(given: _Given, scaling: Scaling, point: Point) -> _Judged:
    p, fixed, tau = given.full, given.fixed, point.tau
    (D, E, F, cost), k, n = scaling, scaling.F.size, scaling.D.size
    ray, y, z = D * point.x, E * point.y / cost, joined([F, 1 / D, 1 / D]) * point.z / cost

    def with_fixed(g: Array, z: Array) -> tuple[Array, Array]:
        """All of g + N'z, and z with the multipliers of fixed parameters, which take up what is left there."""
        left = jnp.where(fixed, g + p.columns(z), 0)
        z = z + joined([jnp.zeros_like(F), jnp.maximum(left, 0), jnp.maximum(-left, 0)])
        return g + p.columns(z), z

    # As a solution, (x, y, z) / tau
    x = jnp.where(fixed, given.lower, jnp.clip(ray / tau, given.lower, given.upper))
    y_, Qx, Ax, room = y / tau, p.curve(x), p.A @ x, jnp.where(p.has, p.k - p.rows(x), 0)
    slope, z_ = with_fixed(Qx + p.c + p.A.T @ y_, z / tau)
    kkt = KKT(largest(slope), jnp.maximum(largest(Ax - p.b), jnp.max(-room, initial=0)), largest(z_ * room))
    quadratic, linear, dual = x @ Qx, p.c @ x, p.b @ y_ + p.k @ z_
    value = quadratic / 2 + linear
    size = jnp.minimum(jnp.abs(value), jnp.abs(quadratic / 2 + dual))
    residuals = [
        kkt.stationarity / (1 + largest(p.c)),
        kkt.feasibility / (1 + jnp.maximum(largest(p.b), largest(p.k))),
        jnp.abs(quadratic + linear + dual) / (1 + size),
    ]
    merit = jnp.max(jnp.stack(residuals))

    # As a certificate
    left, z0 = with_fixed(p.A.T @ y, z)
    fall, drop = -(p.b @ y + p.k @ z0), -(p.c @ ray)
    along = jnp.stack([largest(p.curve(ray)), largest(p.A @ ray), jnp.max(p.rows(ray), initial=0)])
    none = point.kappa > tau

    def ratio(off: Array, by: Array) -> Array:
        sure = none & (by > 0)
        return jnp.where(sure, off / jnp.where(sure, by, 1), jnp.inf)

    zg, lower, upper = jnp.split(z_, [k, k + n])
    merit = jnp.where(jnp.isfinite(merit), merit, jnp.inf)
    return _Judged(x, y_, zg, lower, upper, value, kkt, merit, ratio(largest(left), fall), ratio(jnp.max(along), drop))


# ---- the problem ----------------------------------------------------------------------------------------


def _given(
    name: str,
    params: Params,
    *,
    c: PyTree = None,
    Q: Any = None,
    A: Any = None,
    b: Any = None,
    G: Any = None,
    h: Any = None,
    bounds: Any = None,
    **_: Any,
) -> _Given:
    x, unravel = tree.ravel(params)
    n, dtype = x.size, x.dtype
    check_program(name, params, n, c, Q, (A, b), (G, h))
    lower, upper = sides(name, params, bounds)

    def arrays(matrix: Any, right: Any) -> tuple[Array, Array]:
        if matrix is None:
            return jnp.zeros((0, n), dtype), jnp.zeros(0, dtype)
        return jnp.asarray(matrix).astype(dtype), jnp.asarray(right).astype(dtype)

    c, (A, b), (G, h) = tree.ravel(c)[0].astype(dtype), arrays(A, b), arrays(G, h)
    if Q is not None:
        Q = jnp.asarray(Q).astype(dtype)
        Q = 0.5 * (Q + Q.T)

    real = h != jnp.inf
    has = joined([real, lower != -jnp.inf, upper != jnp.inf])
    G, k = jnp.where(real[:, None], G, 0), jnp.where(has, joined([h, -lower, upper]), 0)
    full = _Program(Q, c, A, b, G, k, has)
    sound = jnp.all(jnp.stack([jnp.all(jnp.isfinite(v)) for v in jax.tree.leaves(full)]))

    fixed = lower == upper
    free, at = ~fixed, jnp.where(fixed, lower, 0)
    has = has & joined([jnp.ones_like(real), free, free])
    without = _Program(
        None if Q is None else jnp.where(free[:, None] & free[None, :], Q, 0),
        jnp.where(free, c + full.curve(at), 0),
        jnp.where(free[None, :], A, 0), b - A @ at,
        jnp.where(free[None, :], G, 0), jnp.where(has, k - jnp.pad(G @ at, (0, 2 * n)), 0), has,
    )  # fmt: skip
    return _Given(x, unravel, full, without, lower, upper, fixed, sound)


def sides(name: str, params: Params, bounds: Any) -> tuple[Array, Array]:
    """The bounds as two vectors float[n]; traced ones may be crossed, which makes the problem infeasible."""
    box(name, params, bounds)  # raises what is wrong with them
    low, high = (None, None) if bounds is None else bounds
    return box(name, params, (low, None))[0], box(name, params, (None, high))[1]


def _equilibrated(p: _Program) -> Scaling:
    """D, E, F after which the largest elements of all rows and columns are near 1 (Ruiz 2001, RAL-TR-2001-034)."""

    def by(size: Array) -> Array:
        return jnp.where(size > 0, 1 / jnp.sqrt(jnp.where(size > 0, size, 1)), 1)

    def rows(matrix: Array) -> Array:
        return jnp.max(jnp.abs(matrix), axis=1, initial=0)

    def round_(_: Any, carry: Any) -> Any:
        D, E, F = carry
        q, a, g = (jnp.zeros_like(D) if p.Q is None else rows(D[:, None] * p.Q * D[None, :]),
                   E[:, None] * p.A * D[None, :], F[:, None] * p.G * D[None, :])  # fmt: skip
        column = jnp.maximum(q, jnp.maximum(rows(a.T), rows(g.T)))
        held = [jnp.clip(v, 1 / EXTREME, EXTREME) for v in (D * by(column), E * by(rows(a)), F * by(rows(g)))]
        return tuple(held)

    start = (jnp.ones_like(p.c), jnp.ones_like(p.b), jnp.ones_like(p.G[:, 0]))
    D, E, F = jax.lax.fori_loop(0, RUIZ, round_, start)
    size = largest(D * p.c)
    if p.Q is not None:
        size = jnp.maximum(size, jnp.mean(rows(D[:, None] * p.Q * D[None, :])))
    return Scaling(D, E, F, jnp.clip(jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 1), 1 / EXTREME, EXTREME))


def _scaled(p: _Program, scaling: Scaling) -> _Program:
    D, E, F, cost = scaling
    Q = None if p.Q is None else cost * D[:, None] * p.Q * D[None, :]
    rows = joined([F, 1 / D, 1 / D])
    return _Program(Q, cost * D * p.c, E[:, None] * p.A * D[None, :], E * p.b, F[:, None] * p.G * D[None, :],
                    rows * p.k, p.has)  # fmt: skip


def _is_convex(p: _Program, bandwidth: int | None) -> Array:
    if p.Q is None:
        return jnp.ones((), bool)
    n = p.c.size
    K = p.Q + float(np.finfo(p.c.dtype).eps ** 0.5) * jnp.eye(n, dtype=p.c.dtype)
    L = jnp.linalg.cholesky(K) if bandwidth is None else factor(blocks(K, bandwidth)).D
    return jnp.all(jnp.isfinite(L))
