"""Levenberg-Marquardt and Gauss-Newton, bounded by a scaled trust region, in a box, with robust losses.

minimize f(x) = |r(x)|**2 / 2 over lower <= x <= upper, r: R^n -> R^m
Moré 1978, Lecture Notes in Mathematics 630, sections 4 to 7; Powell 1970 for the dogleg.
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
from jaxopt_ko.core.numerics import next_count, or_one, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import POSITIVE, check_choice, check_hyper
from jaxopt_ko.solvers.engine.damped import DECOMPOSITIONS, Decompose, Model, in_ball, in_box, newton, triangle
from jaxopt_ko.solvers.engine.matrix_free import matrix_free
from jaxopt_ko.solvers.problem.residuals import (
    Residuals,
    active,
    at_most,
    column_norms,
    cosine,
    residuals,
    scale,
    tolerance,
)
from jaxopt_ko.types import Code, Evaluations, GradientTransformation, Hyper, Info, Params, PyTree, Status, Updates

ACCEPT, POOR, GOOD = 1e-4, 0.25, 0.75  # bounds on rho: x + p is taken; Delta shrinks; Delta grows
GROWTH = 4  # times |D p|, what Delta grows to
REACH = 0.7  # times |D x|, what Delta is kept to unless the last step found r linear
LINEAR = 0.2  # times |J p|, how far r may be from r + J p to be linear
ROUND_OFF = 100  # times eps (f + |r| |J| |x|), f's own rounding: a smaller decrease cannot be trusted
ZERO = 10  # times that, what f is no more than where r vanishes
NEAR = 0.1  # of the length of x: only closer than that to a solution a step is judged by the next one's length


class LeastSquaresState(NamedTuple):
    """State of `levenberg_marquardt` and `gauss_newton`; all of it at the parameters as they now are."""

    count: Array  # int32[]       updates made
    residual: Array  # float[m]   r
    jacobian: Array  # float[m,n] J = dr/dx
    triangle: Array  # float[n,n] R of the QR decomposition of [J r], both corrected for the loss
    projected: Array  # float[n]  q, the r of it
    norms: Array  # float[n]      largest norm so far of each column of J
    sizes: Array  # float[n]      largest |x_j| so far
    radius: Array  # float[]      Delta, bound on |D p|
    error: Array  # float[]      length of the next Gauss-Newton step over that of x, both scaled
    released: Array  # bool[]    has the whole step been tried since f last fell by more than rounding?
    aux: PyTree  # what the function returned beside the residuals
    info: Info  # of the last update


class StepRule(NamedTuple):
    """How far to go, of the Gauss-Newton step."""

    step: Callable[[Model, Decompose, Array, Array], tuple[Array, Array, Array]]
    # (model, decompose, free, Delta) -> p, lambda, |D p| if Delta did not bound it
    bounded: bool  # does Delta outlive a step that is taken?


class _Point(NamedTuple):
    """What J at one point is made into."""

    jacobian: Array  # float[m,n]
    triangle: Array  # float[n,n]
    projected: Array  # float[n]
    norms: Array  # float[n]  of the columns of J, corrected for the loss
    error: Array  # float[]
    finite: Array  # bool[]


@cached_factory
def levenberg_marquardt(
    factor: Hyper = 0.3, *, gtol: Hyper | None = None, xtol: Hyper | None = None, linear_solver: str = "svd"
) -> GradientTransformation:
    """One trial step of Levenberg-Marquardt an update: r and J at one new point, kept if f falls.

    min |r + J p|  subject to  |D p| <= Delta:   p = -(J'J + lambda D**2)^-1 J'r,  lambda = 0 or |D p| = Delta
    rho = (f(x) - f(x + p)) / (f(x) - |r + J p|**2 / 2)
    x + p is taken if rho > 1e-4; Delta is halved or worse if rho < 1/4, and 4 |D p| if rho > 3/4, but no more than
    0.7 |D x| unless r(x + p) was within 0.2 |J p| of r + J p: a fall of f alone does not show that r is linear

    D: the largest norm so far of each column of J, and enough of it to keep each x_j near its size (`scale`). Once
    the predicted decrease is lost in f's rounding, steps are judged by the length of the next Gauss-Newton step
    instead of by f, and the run ends when that stops falling: this is worth three digits of the parameters.

    factor: the first Delta is factor |D x|. gtol: bound on the cosine between r and a column of J, eps by default.
    xtol: bound on the length of the next Gauss-Newton step over that of x, both scaled; 500 eps by default.
    linear_solver: "svd" decomposes J once a step; "qr" is faster above a hundred parameters, and on a GPU, but less
    sure where J has not full rank; "lsmr" has no J but its products with vectors, for very many parameters
    (`matrix_free`).

    init and update(updates, state, params) take these arguments, the same at each step:
    residual_fn(params, ...) -> pytree of the m >= n residuals, or (residuals, aux) with has_aux=True.
    jacobian_fn(params, ...) -> what jax.jacobian(residual_fn) would return, or the matrix float[m,n].
    loss: "linear", "huber", "soft_l1", "cauchy", "arctan" or rho(z), of z = (r / loss_scale)**2; f is then
    loss_scale**2 / 2 sum rho(z), see `robust`.
    bounds=(lower, upper): each None, a number or a tree like params or its upper part. r is never evaluated outside;
    a start outside is moved into the box, with the first update at the latest. See `in_box` for the step there.
    tol: takes the place of both gtol and xtol.
    A rejected step is exactly zero. The updates that come in are not read.

    Raises TreeError, when traced, for residuals that are one number, complex, or fewer than the parameters, for
    bounds that cross or do not fit and for a Jacobian of another shape; MissingArgumentError without residual_fn.
    Not for more than some thousand parameters unless by "lsmr": J is dense.
    """
    name = "levenberg_marquardt"
    check_choice(name, "linear_solver", linear_solver, [*DECOMPOSITIONS, "lsmr"])
    if linear_solver == "lsmr":
        return matrix_free(name, factor, gtol=gtol, xtol=xtol)
    return _method(name, StepRule(in_ball, True), linear_solver, factor, gtol, xtol)


@cached_factory
def gauss_newton(
    search: str = "dogleg",
    *,
    factor: Hyper = 1.0,
    gtol: Hyper | None = None,
    xtol: Hyper | None = None,
    linear_solver: str = "svd",
) -> GradientTransformation:
    """One trial step of Gauss-Newton an update: r and J at one new point, kept if f falls.

    p_n: the shortest p for the least |r + J p|
    search="dogleg": p is where the way from 0 by p_c, the least |r + J p| along -D**-2 J'r, to p_n leaves the
    region |D p| <= Delta, whose Delta follows the rules of `levenberg_marquardt`. Powell 1970.
    search="line": p = t p_n, t = 1 first and shortened by interpolation until f falls by 1e-4 of what is predicted.

    The options and the arguments of init and update are those of `levenberg_marquardt`.

    Raises what levenberg_marquardt does. Not for J near losing its rank, where p_n is long and badly known:
    levenberg_marquardt turns away from it; nor far from the solution with search="line".
    """
    name = "gauss_newton"
    check_choice(name, "search", search, ["dogleg", "line"])
    check_choice(name, "linear_solver", linear_solver, list(DECOMPOSITIONS))
    return _method(
        name,
        StepRule(_dogleg, True) if search == "dogleg" else StepRule(_line, False),
        linear_solver,
        factor,
        gtol,
        xtol,
    )


def _dogleg(model: Model, decompose: Decompose, free: Array, radius: Array) -> tuple[Array, Array, Array]:
    D, nil = model.D, jnp.zeros_like(radius)
    n = newton(model, decompose, free, jnp.zeros_like(D), nil)
    u = jnp.where(free, -(model.r @ model.J) / D**2, 0)
    bend = jnp.sum((model.J @ u) ** 2)
    c = jnp.sum((D * u) ** 2) / jnp.where(bend > 0, bend, 1) * u
    to_n, to_c = safe_sqrt(jnp.sum((D * n) ** 2)), safe_sqrt(jnp.sum((D * c) ** 2))
    # |D (c + t (n - c))| = Delta
    leg, along = jnp.sum((D * (n - c)) ** 2), jnp.sum(D * c * D * (n - c))
    short = radius**2 - to_c**2
    root = safe_sqrt(jnp.maximum(along**2 + leg * short, 0))
    t = jnp.where(along > 0, short / or_one(along + root), (root - along) / or_one(leg))
    outer = jnp.where(to_c < radius, c + t * (n - c), radius / or_one(to_c) * c)
    return jnp.where(to_n <= radius, n, outer), nil, to_n


def _line(model: Model, decompose: Decompose, free: Array, radius: Array) -> tuple[Array, Array, Array]:
    n = newton(model, decompose, free, jnp.zeros_like(model.D), jnp.zeros_like(radius))
    length = safe_sqrt(jnp.sum((model.D * n) ** 2))
    return at_most(radius, length) * n, jnp.zeros_like(radius), length


def _method(
    name: str, way: StepRule, linear_solver: str, factor: Hyper, gtol: Hyper | None, xtol: Hyper | None
) -> GradientTransformation:
    check_hyper(name, "factor", factor, POSITIVE)
    for argument, bound in (("gtol", gtol), ("xtol", xtol)):
        if bound is not None:
            check_hyper(name, argument, bound, POSITIVE)
    decompose = DECOMPOSITIONS[linear_solver]

    def look(problem: Residuals, x: Array, r: Array, J: Array) -> _Point:
        finite = jnp.all(jnp.isfinite(column_norms(J)))
        r_, J_ = problem.correct(r, jnp.where(finite, J, 0))
        R, q = triangle(J_, r_)
        norms = column_norms(J_)
        D = jax.lax.stop_gradient(or_one(norms))
        free, nil = ~active(x, q @ R, problem.box), jnp.zeros_like(x)
        p = newton(jax.lax.stop_gradient(Model(r_, J_, R, q, D)), decompose, free, nil, jnp.zeros((), x.dtype))
        if problem.box is not None:
            p = jnp.clip(x + p, *problem.box) - x
        error = jnp.linalg.norm(D * p) / jnp.maximum(jnp.linalg.norm(D * x), float(np.finfo(x.dtype).tiny))
        return _Point(J, R, q, norms, jax.lax.stop_gradient(error), finite)

    def propose(problem: Residuals, model: Model, radius: Array) -> tuple[Array, Array, Array]:
        free = ~active(problem.x, model.q @ model.R, problem.box)
        p, lam, longest = way.step(model, decompose, free, radius)
        if problem.box is None:
            return p, lam, longest
        low, high = (bound - problem.x for bound in problem.box)

        def bent() -> Array:
            p, _ = in_box(model.face(decompose, lam), low, high)
            length = safe_sqrt(jnp.sum((model.D * p) ** 2))
            return at_most(radius, length) * p

        return jax.lax.cond(jnp.all((p >= low) & (p <= high)), lambda: p, bent), lam, longest

    def init(params: Params, *, tol: Any = None, **extra_args: Any) -> LeastSquaresState:
        problem = residuals(name, params, **extra_args)
        x, count = problem.x, zero_count()
        r, aux, matrix = problem.linearize(x)
        f = problem.cost(r)
        at = look(problem, x, r, matrix())
        norms, sizes = or_one(at.norms), jnp.abs(x)
        radius = jnp.full((), jnp.inf, x.dtype)
        if way.bounded:
            r_, J_ = problem.correct(r, at.jacobian)
            radius = value_at(factor, count).astype(x.dtype) * _first_radius(r_, J_, scale(norms, sizes), x)
        optimality = cosine(at.projected @ at.triangle, at.norms, f, x, problem.box)
        gtol_ = tolerance(gtol if tol is None else tol, 1, count, x.dtype)
        code = jnp.select(
            [~(jnp.isfinite(f) & at.finite), problem.inside & (optimality <= gtol_)],
            [np.int32(Code.NOT_FINITE), np.int32(Code.GRADIENT_SMALL)],
            np.int32(Code.RUNNING),
        )
        one = jnp.ones((), jnp.int32)
        info = Info(
            f, optimality, jnp.zeros_like(f), jnp.zeros((), bool), Evaluations(one, jnp.copy(one), zero_count()),
            Status(code),
        )  # fmt: skip
        return LeastSquaresState(
            count, r, at.jacobian, at.triangle, at.projected, norms, sizes, radius, at.error, jnp.zeros((), bool), aux,
            info,
        )  # fmt: skip

    def update(
        updates: Updates, state: LeastSquaresState, params: Params, *, tol: Any = None, **extra_args: Any
    ) -> tuple[Updates, LeastSquaresState]:
        problem = residuals(name, params, **extra_args)
        count, r, J, R, q, norms, sizes, radius, error, released, aux, info = state
        x, f, eps = problem.x, info.value, float(np.finfo(problem.x.dtype).eps)
        gtol_ = tolerance(gtol if tol is None else tol, 1, count, x.dtype)
        xtol_ = tolerance(xtol if tol is None else tol, 500, count, x.dtype)
        over = info.status.code != np.int32(Code.RUNNING)

        # The step
        r_, J_ = problem.correct(r, J)
        D = scale(norms, sizes)
        p, lam, longest = propose(problem, Model(r_, J_, R, q, D), radius)
        step, x_new = problem.move(p)
        r_new, aux_new, matrix = problem.linearize(x_new)
        f_new = problem.cost(r_new)
        Jp, length = J_ @ p, safe_sqrt(jnp.sum((D * p) ** 2))
        slope = r_ @ Jp
        predicted = -slope - 0.5 * jnp.sum(Jp**2)
        finite = jnp.isfinite(f_new)
        actual = f - jnp.where(finite, f_new, jnp.inf)
        rho = jnp.where(predicted > 0, actual / or_one(predicted), 0)

        # Is it taken?
        here = column_norms(J_)
        rounding = eps * (f + jnp.sqrt(2 * f) * jnp.sum(here * jnp.abs(x)))
        lost = jnp.maximum(predicted, -actual) <= ROUND_OFF * rounding
        looks = finite & ((rho > ACCEPT) | lost) & ~over
        old = _Point(J, R, q, here, error, jnp.zeros((), bool))
        at = jax.lax.cond(looks, lambda: look(problem, x_new, r_new, matrix()), lambda: old)
        blind = looks & ~at.finite  # r is finite there, J is not
        taken = looks & at.finite & (~lost | ((error < NEAR) & (at.error < 0.9 * error)))

        # The next radius
        bend = -actual - slope
        cut = jnp.where(bend > 0, jnp.clip(-slope / (2 * or_one(bend)), 0.1, 0.5), 0.1)
        cut = jnp.where(finite & ~blind, cut, 0.1)
        length = jnp.where(jnp.isfinite(length), length, radius)
        if way.bounded:
            bound = jnp.where(count == 0, jnp.minimum(radius, length), radius)
            radius = jnp.select(
                [over, lost, ~(rho >= POOR) | blind, (rho > GOOD) | (lam == 0)],
                [
                    radius,
                    jnp.maximum(bound, 2 * longest),
                    cut * jnp.minimum(bound, 2 * length),
                    jnp.maximum(bound, GROWTH * length),
                ],
                bound,
            )
            change, whole = J @ p, safe_sqrt(jnp.sum((D * jnp.where(taken, x_new, x)) ** 2))
            linear = jnp.linalg.norm(r_new - r - change) <= LINEAR * jnp.linalg.norm(change)
            far = ~(over | lost | linear) & (whole > 0)
            radius = jnp.where(far, jnp.minimum(radius, REACH * whole), radius)
        else:
            radius = jnp.where(taken, jnp.inf, cut * length)

        # Is it over?
        x = jnp.where(taken, x_new, x)
        J, R, q, here, error, _ = tree.where(taken, at, old)
        r, aux, f = tree.where(taken, (r_new, aux_new, f_new), (r, aux, f))
        norms, sizes = jnp.maximum(norms, here), jnp.maximum(sizes, jnp.abs(x))
        optimality = cosine(q @ R, here, f, x, problem.box)
        stuck = (lost & ~taken) | (radius <= eps * jnp.linalg.norm(scale(norms, sizes) * x))
        flat = (cosine(q @ R, norms, f, x, problem.box) <= eps ** (1 / 3)) | (f <= ZERO * ROUND_OFF * rounding)
        # D may hold what starts small and is to grow: before the run fails, the whole step is tried in the scale of J
        release = stuck & ~flat & ~released & ~over
        sizes, radius = jnp.where(release, 0, sizes), jnp.where(release, jnp.inf, radius)
        released = release | (released & ~(taken & ~lost))
        stuck &= ~release
        code = jnp.select(
            [over, optimality <= gtol_, error <= xtol_, stuck & flat, stuck],
            [info.status.code]
            + [np.int32(c) for c in (Code.GRADIENT_SMALL, Code.STEP_SMALL, Code.DECREASE_SMALL, Code.SEARCH_FAILED)],
            np.int32(Code.RUNNING),
        )
        evaluations = Evaluations(
            next_count(info.evaluations.function),
            info.evaluations.gradient + looks.astype(jnp.int32),
            info.evaluations.product,
        )
        info = Info(f, optimality, length, taken, evaluations, Status(code))
        step = jax.tree.map(lambda s, h: jnp.where(taken, s, jnp.where(over, jnp.zeros_like(h), h)), step, problem.home)
        return step, LeastSquaresState(next_count(count), r, J, R, q, norms, sizes, radius, error, released, aux, info)

    return transform(name, init, update, needs_params=True, state_type=LeastSquaresState, solver=True)


def _first_radius(r: Array, J: Array, D: Array, x: Array) -> Array:
    """|D x|, with the step to the least |r + J p| along -D**-2 J'r in the place of each x_j that is 0."""
    g = (r @ J) / D
    bend = jnp.sum((J @ (g / D)) ** 2)
    cauchy = jnp.where(bend > 0, jnp.sum(g * g) / or_one(bend), 0) * g
    length = safe_sqrt(jnp.sum(jnp.where(x == 0, cauchy, D * x) ** 2))
    return or_one(length)
