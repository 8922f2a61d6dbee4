"""Levenberg-Marquardt in a scaled trust region. Moré 1978, Lecture Notes in Mathematics 630, sections 4 to 7.

minimize f(x) = |r(x)|**2 / 2 over x, r: R^n -> R^m
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxopt_ko import errors
from jaxopt_ko.compose import transform
from jaxopt_ko.errors import POSITIVE, check_hyper
from jaxopt_ko.numerics import next_count, value_at, zero_count
from jaxopt_ko.tree import compute_dtype
from jaxopt_ko.types import Code, Evaluations, GradientTransformation, Hyper, Info, Params, PyTree, Status, Updates

ResidualFn = Callable[[Params], PyTree]

ACCEPT, POOR, GOOD = 1e-4, 0.25, 0.75  # Moré's bounds on actual over predicted decrease
SECULAR_STEPS = 10  # of Newton on |D p| = radius, to a tenth of it; two or three are the rule
ROUND_OFF = 100  # times eps (f + |r| |J| |x|), f's own rounding: a smaller decrease cannot be trusted


class LevenbergMarquardtState(NamedTuple):
    """What Levenberg-Marquardt remembers; all of it at the parameters as they now are."""

    count: Array  # int32[]       updates made
    residual: Array  # float[m]   r
    jacobian: Array  # float[m,n] J = dr/dx
    scale: Array  # float[n]      D, largest norm so far of each column of J
    radius: Array  # float[]      Delta, bound on |D p|
    damping: Array  # float[]     lambda of the last step
    error: Array  # float[]      length of the next Gauss-Newton step over that of x, both scaled
    info: Info  # of the last update


def levenberg_marquardt(
    factor: Hyper = 1.0, *, gtol: Hyper | None = None, xtol: Hyper | None = None
) -> GradientTransformation:
    """One trial step of Levenberg-Marquardt an update: r and J at one new point, kept if f falls.

    min |r + J p|  subject to  |D p| <= Delta:   p = -(J'J + lambda D**2)^-1 J'r, by the singular values of J D^-1
    rho = (f(x) - f(x + p)) / (|J p|**2 / 2 + lambda |D p|**2)
    x + p is taken if rho > 1e-4; Delta is halved or worse if rho < 1/4, and 2 |D p| if rho > 3/4

    Once the predicted decrease is lost in f's rounding, steps are judged by the length of the next Gauss-Newton
    step instead of by f, and the run ends when that stops falling: this is worth three digits of the parameters.

    factor: the first Delta is factor |D x|. gtol: bound on the cosine between r and a column of J, eps by default.
    xtol: bound on the length of the next Gauss-Newton step over that of x, both scaled; 500 eps by default.

    init(params, residual_fn=) and update(updates, state, params, residual_fn=): residual_fn(params) -> pytree of
    the m >= n residuals; the updates that come in are not read. A rejected step is exactly zero.

    Raises TreeError, when traced, for residuals that are one scalar or fewer than the parameters;
    MissingArgumentError without residual_fn. Not for more than some thousand parameters: J is dense.
    """
    who = "levenberg_marquardt"
    check_hyper(who, "factor", factor, POSITIVE)
    for name, tolerance in (("gtol", gtol), ("xtol", xtol)):
        if tolerance is not None:
            check_hyper(who, name, tolerance, POSITIVE)

    def problem(params: Params, residual_fn: ResidualFn | None) -> tuple[Array, Callable[[Array], Array], Any]:
        if residual_fn is None:
            errors.missing_argument(who, "residual_fn", "Pass residual_fn=..., a function of the parameters")
        x, unravel = ravel_pytree(params)
        x = x.astype(compute_dtype(x.dtype))

        def residual(x: Array) -> Array:
            return ravel_pytree(residual_fn(unravel(x)))[0].astype(x.dtype)

        errors.check_residuals(who, jax.eval_shape(residual_fn, params), x.size)
        return x, residual, unravel

    def init(params: Params, *, residual_fn: ResidualFn | None = None) -> LevenbergMarquardtState:
        x, residual, _ = problem(params, residual_fn)
        r, linear = jax.linearize(residual, x)
        J = _matrix(linear, x)
        D = jnp.where(_column_norms(J) > 0, _column_norms(J), jnp.ones_like(x))
        start = jnp.linalg.norm(D * x)
        unit = value_at(factor, zero_count()).astype(x.dtype)
        finite = jnp.isfinite(_half_square(r)) & jnp.all(jnp.isfinite(J))
        one = jnp.ones((), jnp.int32)
        info = Info(
            _half_square(r),
            _cosine(J, r),
            jnp.zeros_like(start),
            jnp.zeros((), bool),
            Evaluations(one, jnp.copy(one)),
            Status(jnp.where(finite, np.int32(Code.RUNNING), np.int32(Code.NOT_FINITE))),
        )
        radius = unit * jnp.where(start > 0, start, jnp.ones_like(start))
        error = _gauss_newton_length(J, r, x)
        return LevenbergMarquardtState(zero_count(), r, J, D, radius, jnp.zeros_like(start), error, info)

    def update(
        updates: Updates,
        state: LevenbergMarquardtState,
        params: Params,
        *,
        residual_fn: ResidualFn | None = None,
    ) -> tuple[Updates, LevenbergMarquardtState]:
        x, residual, unravel = problem(params, residual_fn)
        _, r, J, D, radius, damping, error, info = state
        eps = np.finfo(x.dtype).eps
        gtol_, xtol_ = (
            jnp.asarray(default * eps if t is None else value_at(t, state.count), x.dtype)
            for t, default in ((gtol, 1), (xtol, 500))
        )

        # The step
        z, lam, longest = _trust_region_step(J / D[None], r, radius, damping)
        p, step_norm = z / D, jnp.linalg.norm(z)
        r_new, linear = jax.linearize(residual, x + p)
        f, f_new = info.value, _half_square(r_new)
        slope = -(jnp.sum((J @ p) ** 2) + lam * step_norm**2)
        predicted = -slope - 0.5 * jnp.sum((J @ p) ** 2)
        finite = jnp.isfinite(f_new)
        actual = f - jnp.where(finite, f_new, jnp.inf)
        rho = jnp.where(predicted > 0, actual / jnp.where(predicted > 0, predicted, 1), 0)

        # Is it taken?
        rounding = eps * (f + jnp.linalg.norm(r) * jnp.sum(_column_norms(J) * jnp.abs(x)))
        lost = jnp.maximum(predicted, -actual) <= ROUND_OFF * rounding
        looks = finite & ((rho > ACCEPT) | lost)
        J_new = jax.lax.cond(looks, lambda: _matrix(linear, x), lambda: J)
        looks &= jnp.all(jnp.isfinite(J_new))
        error_new = _gauss_newton_length(J_new, r_new, x + p)
        taken = looks & ((error_new < 0.9 * error) | ~lost)

        # The next radius
        cut = jnp.where(finite, jnp.clip(-slope / (2 * (-actual - slope)), 0.1, 0.5), 0.1)
        bound = jnp.where(state.count == 0, jnp.minimum(radius, step_norm), radius)
        worse, better = ~(rho >= POOR), (rho > GOOD) | (lam == 0)
        radius = jnp.select(
            [lost, worse, better],
            [
                jnp.maximum(bound, 2 * longest),
                cut * jnp.minimum(bound, 10 * step_norm),
                jnp.maximum(bound, 2 * step_norm),
            ],
            bound,
        )
        damping = jnp.select([lost, worse, better], [lam, lam / cut, 0.5 * lam], lam)

        # Is it over?
        x = jnp.where(taken, x + p, x)
        r, J = jnp.where(taken, r_new, r), jnp.where(taken, J_new, J)
        D = jnp.maximum(D, _column_norms(J))
        value, cosine, error = _half_square(r), _cosine(J, r), jnp.where(taken, error_new, error)
        code = jnp.select(
            [
                info.status.code == np.int32(Code.NOT_FINITE),
                cosine <= gtol_,
                error <= xtol_,
                lost & ~taken,
                radius <= eps * jnp.linalg.norm(D * x),
            ],
            [np.int32(c) for c in (Code.NOT_FINITE, Code.GRADIENT_SMALL, Code.STEP_SMALL, Code.DECREASE_SMALL)]
            + [np.int32(Code.STEP_SMALL)],
            np.int32(Code.RUNNING),
        )
        evaluations = Evaluations(
            next_count(info.evaluations.function), info.evaluations.gradient + looks.astype(jnp.int32)
        )
        info = Info(value, cosine, step_norm, taken, evaluations, Status(code))
        step = unravel(jnp.where(taken, p, jnp.zeros_like(p)))
        return step, LevenbergMarquardtState(next_count(state.count), r, J, D, radius, damping, error, info)

    return transform(who, init, update, needs_params=True)


def _half_square(r: Array) -> Array:
    return 0.5 * jnp.sum(r * r)


def _matrix(linear: Callable[[Array], Array], x: Array) -> Array:
    """The matrix of a linear map of x."""
    columns: Array = jax.vmap(linear, out_axes=-1)(jnp.eye(x.size, dtype=x.dtype))
    return columns


def _column_norms(J: Array) -> Array:
    norms: Array = jnp.linalg.norm(J, axis=0)
    return norms


def _cosine(J: Array, r: Array) -> Array:
    """The largest |cosine| between r and a column of J: 0 at a stationary point, whatever the units."""
    product = _column_norms(J) * jnp.linalg.norm(r)
    return jnp.max(jnp.where(product > 0, jnp.abs(r @ J) / jnp.where(product > 0, product, 1), 0), initial=0.0)


def _gauss_newton_length(J: Array, r: Array, x: Array) -> Array:
    """The full Gauss-Newton step over x, each in units of J's columns: about the relative error of x."""
    scale = jnp.where(_column_norms(J) > 0, _column_norms(J), 1)
    step, _ = _newton_step(*_svd(J / scale[None], r))
    tiny = jnp.asarray(np.finfo(x.dtype).tiny, x.dtype)
    length: Array = jnp.linalg.norm(step) / jnp.maximum(jnp.linalg.norm(scale * x), tiny)
    return length


def _svd(A: Array, r: Array) -> tuple[Array, Array, Array]:
    """Singular values s of A, its right vectors, and b = -U'r."""
    U, s, Vt = jnp.linalg.svd(A, full_matrices=False)
    return s, Vt, -(r @ U)


def _newton_step(s: Array, Vt: Array, b: Array) -> tuple[Array, Array]:
    """The shortest minimizer of |r + A z|, and its length."""
    seen = s > np.finfo(s.dtype).eps * s.size * jnp.max(s, initial=0.0)
    z = jnp.where(seen, b / jnp.where(seen, s, 1), 0)
    return z @ Vt, jnp.linalg.norm(z)


def _trust_region_step(A: Array, r: Array, radius: Array, guess: Array) -> tuple[Array, Array, Array]:
    """min |r + A z| with |z| <= radius (to a tenth): z, lambda, and the length of the free minimizer."""
    s, Vt, b = _svd(A, r)
    free, longest = _newton_step(s, Vt, b)
    sb = s * b
    top = jnp.linalg.norm(sb) / radius  # |z(lambda)| < radius for any larger lambda

    def newton(_: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        lam, low, high = carry
        length = jnp.linalg.norm(sb / (s * s + lam))
        slope = -jnp.sum(sb**2 / (s * s + lam) ** 3) / length
        low, high = jnp.where(length > radius, lam, low), jnp.where(length > radius, high, lam)
        new = lam - (length / radius) * (length - radius) / slope
        new = jnp.where((new > low) & (new < high), new, jnp.maximum(1e-3 * high, jnp.sqrt(low * high)))
        return jnp.where(jnp.abs(length - radius) <= 0.1 * radius, lam, new), low, high

    start = jnp.where((guess > 0) & (guess < top), guess, 1e-3 * top)
    lam, _, _ = jax.lax.fori_loop(0, SECULAR_STEPS, newton, (start, jnp.zeros_like(top), top))
    inside = longest <= 1.1 * radius
    z = jnp.where(inside, free, (sb / (s * s + lam)) @ Vt)
    return z, jnp.where(inside, 0, lam), longest
