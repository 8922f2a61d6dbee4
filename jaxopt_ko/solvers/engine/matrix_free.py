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
from jaxopt_ko.solvers.engine.convergence import (
    check_given,
    counted,
    eps_of,
    first_info,
    gain_ratio,
    is_running,
    own_buffers,
    status,
    tolerance,
)
from jaxopt_ko.solvers.engine.damped import Face, in_box
from jaxopt_ko.solvers.engine.lsmr import lsmr
from jaxopt_ko.solvers.engine.residual_measures import (
    ACCEPT,
    LOST,
    active,
    cosine,
    rounding_of,
    step_or_home,
    vanishes,
    variable_scale,
)
from jaxopt_ko.solvers.problem.residuals import Residuals, residuals
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Updates

FIRST_DAMPING = 1e-2  # the first lambda, in units of the diagonal of J'J, scaled
PROBES = 8  # random signs that the first norms of J's columns are estimated with
INEXACT = 1e-6  # of itself, that the gradient of a step's least squares falls to: with less, slow valleys take longer
INNER = 400  # iterations of LSMR for one step, at most, and four for each parameter


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
    check_given(name, POSITIVE, gtol=gtol, xtol=xtol)

    def init(params: Params, *, jacobian_fn: Any = None, tol: Any = None, **extra_args: Any) -> MatrixFreeState:
        _check_no_jacobian(name, jacobian_fn)
        problem = residuals(name, params, **extra_args)
        return _begin(problem, factor, tolerance(problem.x, zero_count(), eps_of(problem.x), gtol, tol).value)

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
        x, eps = problem.x, eps_of(problem.x)
        gtol_, xtol_ = tolerance(x, state.count, eps, gtol, tol), tolerance(x, state.count, 500 * eps, xtol, tol)
        D = variable_scale(state.norms, state.sizes)
        proposal = _propose(problem, state, D)
        trial = _try(problem, state, D, proposal)
        new = _stop(problem, state, D, proposal, trial, gtol_.value, xtol_.value)
        return step_or_home(problem, trial.taken, is_running(state.info), trial.step), new

    return transform(name, init, update, needs_params=True, state_type=MatrixFreeState, solver=True)


# ---- an update ------------------------------------------------------------------------------------------


class _Proposal(NamedTuple):
    """A step for the linear model of r."""

    p: Array  # float[n]
    model: Array  # float[]  |r + J p|**2 / 2 less |r|**2 / 2
    size: Array  # float[]  about the root of sum_j |J_j|**2 x_j**2
    products: Array  # int32[]  made


class _Trial(NamedTuple):
    """What was found at x + p, and is it taken?"""

    step: Updates  # that leads there
    x: Array  # float[n]       x + p
    value: Array  # float[]    f there
    aux: PyTree
    gradient: Array  # float[n]  of f there, if it was looked at
    rho: Array  # float[]
    rounding: Array  # float[]  of f
    lost: Array  # bool[]      is the decrease lost in that?
    looks: Array  # bool[]     was the gradient taken?
    taken: Array  # bool[]


def _look(problem: Residuals, x: Array) -> tuple[Array, PyTree, Callable[[], Array], Callable[[Array], Array]]:
    """r, aux, f's gradient when called for, and u -> J'u, J and u corrected for the loss."""
    r, pull, aux = jax.vjp(problem.residual, x, has_aux=True)

    def gradient() -> Array:
        r_, root = problem.correct(r, jnp.ones_like(r))
        (g,) = pull(root * r_)
        return g  # type: ignore[no-any-return]

    def transposed(u: Array) -> Array:
        _, root = problem.correct(r, jnp.ones_like(r))
        return pull(root * u)[0]  # type: ignore[no-any-return]

    return r, aux, gradient, transposed


def _begin(problem: Residuals, factor: Hyper, gtol: Array) -> MatrixFreeState:
    """The state at the start."""
    x, count = problem.x, zero_count()
    r, aux, gradient, transposed = _look(problem, x)
    f, g = problem.cost(r), gradient()
    signs = jax.random.rademacher(jax.random.key(0), (PROBES, r.size), x.dtype)
    seen = jax.vmap(transposed)(signs)
    norms = or_one(jnp.maximum(safe_sqrt(jnp.mean(seen**2, axis=0)), _known(g, f)))
    optimality = cosine(g, norms, f, x, problem.box)
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g)) & jnp.all(jnp.isfinite(norms))
    small = problem.inside & (optimality <= gtol)
    stands = status((~finite, Code.NOT_FINITE), (small, Code.GRADIENT_SMALL))
    info = first_info(f, optimality, stands, function=1, gradient=1, product=PROBES)
    damping = FIRST_DAMPING / value_at(factor, count).astype(x.dtype)
    growth, no = 2 * jnp.ones_like(f), jnp.zeros((), bool)
    return own_buffers(MatrixFreeState(count, g, norms, jnp.abs(x), damping, growth, no, aux, info))


def _known(g: Array, f: Array) -> Array:
    """What J's columns are at least as long as."""
    return jnp.where(f > 0, jnp.abs(g) / jnp.sqrt(2 * or_one(f)), 0)


def _propose(problem: Residuals, state: MatrixFreeState, D: Array) -> _Proposal:
    """A step by LSMR, in the box."""
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
    return _Proposal(p, 0.5 * jnp.sum(Jp**2) + r @ Jp, size, products + np.int32(2))


def _try(problem: Residuals, state: MatrixFreeState, D: Array, proposal: _Proposal) -> _Trial:
    """r at x + p, and is that taken?"""
    x, f, g, norms, model = problem.x, state.info.value, state.gradient, state.norms, proposal.model
    step, x_new = problem.move(proposal.p)
    r_new, aux_new, gradient, _ = _look(problem, x_new)
    f_new = problem.cost(r_new)
    finite = jnp.isfinite(f_new)
    actual = f - jnp.where(finite, f_new, jnp.inf)
    rho = gain_ratio(actual, -model)
    rounding = rounding_of(f, proposal.size)
    lost = jnp.maximum(-model, -actual) <= LOST * rounding
    looks = finite & ((rho > ACCEPT) | lost) & is_running(state.info)
    g_new = jax.lax.cond(looks, gradient, lambda: g)
    flatter = cosine(g_new, norms, f, x_new, problem.box) < 0.9 * cosine(g, norms, f, x, problem.box)
    taken = looks & jnp.all(jnp.isfinite(g_new)) & (~lost | flatter)
    return _Trial(step, x_new, f_new, aux_new, g_new, rho, rounding, lost, looks, taken)


def _redamp(state: MatrixFreeState, trial: _Trial) -> tuple[Array, Array]:
    """The next lambda and nu, by Nielsen's rule."""
    taken, stays = trial.taken, ~is_running(state.info) | trial.lost
    kept = jnp.clip(1 - (2 * trial.rho - 1) ** 3, 0.1, 1)
    lam = jnp.where(stays, state.damping, jnp.where(taken, kept * state.damping, state.growth * state.damping))
    return lam, jnp.where(taken | stays, 2, 2 * state.growth)


def _stop(
    problem: Residuals, state: MatrixFreeState, D: Array, proposal: _Proposal, trial: _Trial, gtol: Array, xtol: Array
) -> MatrixFreeState:
    """The new state; is the run over?"""
    info, taken, lost, eps = state.info, trial.taken, trial.lost, eps_of(problem.x)
    over = ~is_running(info)
    lam, growth = _redamp(state, trial)
    x = jnp.where(taken, trial.x, problem.x)
    g, aux, f = tree.where(taken, (trial.gradient, trial.aux, trial.value), (state.gradient, state.aux, info.value))
    norms, sizes = jnp.maximum(state.norms, _known(g, f)), jnp.maximum(state.sizes, jnp.abs(x))
    optimality, length = cosine(g, norms, f, x, problem.box), safe_sqrt(jnp.sum((D * proposal.p) ** 2))
    short = length <= xtol * jnp.linalg.norm(D * x)
    flat = (optimality <= eps ** (1 / 3)) | vanishes(f, trial.rounding)
    near = taken & short & (state.damping <= 1) & (flat | state.released)
    stuck = ((lost | short) & ~taken) | (short & ~near & (state.damping <= 1))
    # D may hold what starts small and is to grow: before the run fails, the whole step is tried in the scale of J
    release = stuck & ~flat & ~state.released & ~over
    sizes, lam = jnp.where(release, 0, sizes), jnp.where(release, eps * lam, lam)
    released = release | (state.released & ~(taken & ~lost))
    stuck &= ~release
    stands = status(
        (over, info.status.code),
        (optimality <= gtol, Code.GRADIENT_SMALL),
        (near, Code.STEP_SMALL),
        (stuck & (flat | (lost & state.released)), Code.DECREASE_SMALL),  # f cannot tell even the whole step from none
        (stuck, Code.SEARCH_FAILED),
    )
    evaluations = counted(info.evaluations, function=2, gradient=trial.looks, product=proposal.products)
    info = Info(f, optimality, length, taken, evaluations, stands)
    return MatrixFreeState(next_count(state.count), g, norms, sizes, lam, growth, released, aux, info)


def _check_no_jacobian(name: str, jacobian_fn: Any) -> None:
    """A method that has no use for a Jacobian matrix."""
    if jacobian_fn is not None:
        say(TransformationError, name, "jacobian_fn is of no use with linear_solver='lsmr'", describe(jacobian_fn),
            "Leave it out: J's products with vectors come from residual_fn; or take 'svd' or 'qr'")  # fmt: skip
