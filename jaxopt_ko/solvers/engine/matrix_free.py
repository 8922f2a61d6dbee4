"""Levenberg-Marquardt without a Jacobian matrix: its products with vectors are enough.

minimize f(x) = |r(x)|**2 / 2 over lower <= x <= upper, r: R^n -> R^m
Nielsen 1999, Damping parameter in Marquardt's method, IMM-REP-1999-05; the step by LSMR, arXiv:1006.0758.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import next_count, or_one, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import POSITIVE, TransformationError, check_hyper, describe, say
from jaxopt_ko.solvers.engine.damped import Face, in_box
from jaxopt_ko.solvers.engine.lsmr import lsmr
from jaxopt_ko.solvers.problem.residuals import Residuals, active, cosine, residuals, scale, tolerance
from jaxopt_ko.types import Code, Evaluations, GradientTransformation, Hyper, Info, Params, PyTree, Status, Updates

ACCEPT = 1e-4  # bound on rho: x + p is taken
DAMPING = 1e-2  # the first lambda, in units of the diagonal of J'J, scaled
PROBES = 8  # random signs that the first norms of J's columns are estimated with
INEXACT = 1e-6  # of itself, that the gradient of a step's least squares falls to: with less, slow valleys take longer
INNER = 400  # iterations of LSMR for one step, at most, and four for each parameter
ROUND_OFF = 100  # times eps (f + |r| |J| |x|), f's own rounding: a smaller decrease cannot be trusted
ZERO = 10  # times that, what f is no more than where r vanishes


class MatrixFreeState(NamedTuple):
    """State of `levenberg_marquardt(linear_solver="lsmr")`; all of it at the parameters as they now are."""

    count: Array  # int32[]      updates made
    gradient: Array  # float[n]  of f
    norms: Array  # float[n]     about the largest norm so far of each column of J
    sizes: Array  # float[n]     largest |x_j| so far
    damping: Array  # float[]    lambda
    growth: Array  # float[]     nu, by which lambda grows at the next rejection
    released: Array  # bool[]    has the whole step been tried since f last fell by more than rounding?
    aux: PyTree  # what the function returned beside the residuals
    info: Info  # of the last update


def matrix_free(
    name: str, factor: Hyper = 1.0, *, gtol: Hyper | None = None, xtol: Hyper | None = None
) -> GradientTransformation:
    """One trial step of Levenberg-Marquardt an update, with Nielsen's damping and J in products alone.

    p: about the least |r + J p|**2 + lambda |D p|**2, by LSMR on [J; sqrt(lambda) D] until the gradient of that has
    fallen to a millionth
    rho = (f(x) - f(x + p)) / (f(x) - |r + J p|**2 / 2)
    x + p is taken if rho > 1e-4, and lambda goes down by max(0.1, 1 - (2 rho - 1)**3); else up by 2, 4, 8, ...

    D: as in the dense method, with the column norms estimated by J' times random signs at the start, and by
    |g_j| / |r|, which they cannot be less than, later.
    evaluations.function counts two at each update: the trial, and r at x, which J is linearized from anew.

    factor: the first lambda is 0.01 / factor. gtol and xtol: as in `levenberg_marquardt`, xtol for the step taken.
    """
    check_hyper(name, "factor", factor, POSITIVE)
    for argument, bound in (("gtol", gtol), ("xtol", xtol)):
        if bound is not None:
            check_hyper(name, argument, bound, POSITIVE)

    def look(problem: Residuals, x: Array) -> tuple[Array, PyTree, Callable[[], Array]]:
        """r, aux, and f's gradient when called for."""
        r, pull, aux = jax.vjp(problem.residual, x, has_aux=True)

        def gradient() -> Array:
            r_, root = problem.correct(r, jnp.ones_like(r))
            (g,) = pull(root * r_)
            return g  # type: ignore[no-any-return]

        return r, aux, gradient

    def init(params: Params, *, jacobian_fn: Any = None, tol: Any = None, **extra_args: Any) -> MatrixFreeState:
        _check_no_jacobian(name, jacobian_fn)
        problem = residuals(name, params, **extra_args)
        x, count = problem.x, zero_count()
        r, pull, aux = jax.vjp(problem.residual, x, has_aux=True)
        f, (r_, root) = problem.cost(r), problem.correct(r, jnp.ones_like(r))
        (g,) = pull(root * r_)
        signs = jax.random.rademacher(jax.random.key(0), (PROBES, r.size), x.dtype)
        seen = jax.vmap(lambda u: pull(root * u)[0])(signs)
        norms = or_one(jnp.maximum(safe_sqrt(jnp.mean(seen**2, axis=0)), known(g, f)))
        optimality = cosine(g, norms, f, x, problem.box)
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g)) & jnp.all(jnp.isfinite(norms))
        small = problem.inside & (optimality <= tolerance(gtol if tol is None else tol, 1, count, x.dtype))
        code = jnp.select(
            [~finite, small], [np.int32(Code.NOT_FINITE), np.int32(Code.GRADIENT_SMALL)], np.int32(Code.RUNNING)
        )
        one = jnp.ones((), jnp.int32)
        evaluations = Evaluations(one, jnp.copy(one), jnp.full((), PROBES, jnp.int32))
        info = Info(f, optimality, jnp.zeros_like(f), jnp.zeros((), bool), evaluations, Status(code))
        damping = DAMPING / value_at(factor, count).astype(x.dtype)
        return MatrixFreeState(
            count, g, norms, jnp.abs(x), damping, 2 * jnp.ones_like(f), jnp.zeros((), bool), aux, info
        )

    def known(g: Array, f: Array) -> Array:
        """What J's columns are at least as long as."""
        return jnp.where(f > 0, jnp.abs(g) / jnp.sqrt(2 * or_one(f)), 0)

    def propose(problem: Residuals, state: MatrixFreeState, D: Array) -> tuple[Array, Array, Array, Array]:
        """p, |J p + r|**2 / 2 less |r|**2 / 2, about the root of sum_j |J_j|**2 x_j**2, products made."""
        lam, x = state.damping, problem.x
        r, push = jax.linearize(lambda x: problem.residual(x)[0], x)
        r, root = problem.correct(r, jnp.ones_like(r))
        pull = jax.linear_transpose(push, x)

        def product(p: Array) -> Array:
            return root * push(p)  # type: ignore[no-any-return]

        def newton(free: Array, p: Array) -> tuple[Array, Array]:
            keep, damp = jnp.where(free, 1 / D, 0), safe_sqrt(lam)

            def forward(z: Array) -> Array:
                return jnp.concatenate([product(keep * z), damp * z])

            def backward(u: Array) -> Array:
                return keep * pull(root * u[: r.size])[0] + damp * u[r.size :]  # type: ignore[no-any-return]

            rest = jnp.concatenate([r + product(p), jnp.where(free, damp * D * p, 0)])
            z, products = lsmr(forward, backward, -rest, INEXACT, min(4 * x.size, INNER))
            return keep * z, products

        p, products = newton(~active(x, state.gradient, problem.box), jnp.zeros_like(x))
        if problem.box is not None:
            low, high = (bound - x for bound in problem.box)
            face = Face(
                lambda p: 0.5 * (jnp.sum((r + product(p)) ** 2) + lam * jnp.sum((D * p) ** 2)),
                lambda p: pull(root * (r + product(p)))[0] + lam * D**2 * p,
                newton, D, 4, 8,
            )  # fmt: skip
            inside = jnp.all((p >= low) & (p <= high))
            p, more = jax.lax.cond(inside, lambda: (p, zero_count()), lambda: in_box(face, low, high))
            products = products + more
        Jp = product(p)
        signs = jax.random.rademacher(jax.random.fold_in(jax.random.key(0), state.count), x.shape, x.dtype)
        size = jax.lax.stop_gradient(jnp.linalg.norm(product(signs * x)))
        return p, 0.5 * jnp.sum(Jp**2) + r @ Jp, size, products + np.int32(2)

    def update(
        updates: Updates,
        state: MatrixFreeState,
        params: Params,
        *,
        jacobian_fn: Any = None,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, MatrixFreeState]:
        _check_no_jacobian(name, jacobian_fn)
        problem = residuals(name, params, **extra_args)
        count, g, norms, sizes, lam, growth, released, aux, info = state
        x, f, eps = problem.x, info.value, float(np.finfo(problem.x.dtype).eps)
        gtol_ = tolerance(gtol if tol is None else tol, 1, count, x.dtype)
        xtol_ = tolerance(xtol if tol is None else tol, 500, count, x.dtype)
        over = info.status.code != np.int32(Code.RUNNING)

        # The step
        D = scale(norms, sizes)
        p, model, size, products = propose(problem, state, D)
        step, x_new = problem.move(p)
        r_new, aux_new, gradient = look(problem, x_new)
        f_new, length = problem.cost(r_new), safe_sqrt(jnp.sum((D * p) ** 2))
        finite = jnp.isfinite(f_new)
        actual = f - jnp.where(finite, f_new, jnp.inf)
        rho = jnp.where(model < 0, actual / or_one(-model), 0)

        # Is it taken?
        rounding = eps * (f + jnp.sqrt(2 * f) * size)
        lost = jnp.maximum(-model, -actual) <= ROUND_OFF * rounding
        looks = finite & ((rho > ACCEPT) | lost) & ~over
        g_new = jax.lax.cond(looks, gradient, lambda: g)
        flatter = cosine(g_new, norms, f, x_new, problem.box) < 0.9 * cosine(g, norms, f, x, problem.box)
        taken = looks & jnp.all(jnp.isfinite(g_new)) & (~lost | flatter)

        # The next lambda
        kept = jnp.clip(1 - (2 * rho - 1) ** 3, 0.1, 1)
        lam = jnp.where(over | lost, lam, jnp.where(taken, kept * lam, growth * lam))
        growth = jnp.where(taken | over | lost, 2, 2 * growth)

        # Is it over?
        x = jnp.where(taken, x_new, x)
        g, aux, f = tree.where(taken, (g_new, aux_new, f_new), (g, aux, f))
        norms, sizes = jnp.maximum(norms, known(g, f)), jnp.maximum(sizes, jnp.abs(x))
        optimality = cosine(g, norms, f, x, problem.box)
        short = length <= xtol_ * jnp.linalg.norm(D * x)
        flat = (optimality <= eps ** (1 / 3)) | (f <= ZERO * ROUND_OFF * rounding)
        near = taken & short & (state.damping <= 1) & (flat | released)
        stuck = ((lost | short) & ~taken) | (short & ~near & (state.damping <= 1))
        # D may hold what starts small and is to grow: before the run fails, the whole step is tried in the scale of J
        release = stuck & ~flat & ~released & ~over
        sizes, lam = jnp.where(release, 0, sizes), jnp.where(release, eps * lam, lam)
        released = release | (released & ~(taken & ~lost))
        stuck &= ~release
        code = jnp.select(
            [
                over,
                optimality <= gtol_,
                near,
                stuck & flat,
                stuck,
            ],
            [info.status.code]
            + [np.int32(c) for c in (Code.GRADIENT_SMALL, Code.STEP_SMALL, Code.DECREASE_SMALL, Code.SEARCH_FAILED)],
            np.int32(Code.RUNNING),
        )
        evaluations = Evaluations(
            next_count(next_count(info.evaluations.function)),
            info.evaluations.gradient + looks.astype(jnp.int32),
            info.evaluations.product + products,
        )
        info = Info(f, optimality, length, taken, evaluations, Status(code))
        step = jax.tree.map(lambda s, h: jnp.where(taken, s, jnp.where(over, jnp.zeros_like(h), h)), step, problem.home)
        return step, MatrixFreeState(next_count(count), g, norms, sizes, lam, growth, released, aux, info)

    return transform(name, init, update, needs_params=True, state_type=MatrixFreeState, solver=True)


def _check_no_jacobian(name: str, jacobian_fn: Any) -> None:
    """A method that has no use for a Jacobian matrix."""
    if jacobian_fn is not None:
        say(TransformationError, name, "jacobian_fn is of no use with linear_solver='lsmr'", describe(jacobian_fn),
            "Leave it out: J's products with vectors come from residual_fn; or take 'svd' or 'qr'")  # fmt: skip
