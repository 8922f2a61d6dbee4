"""Levenberg-Marquardt with a sparse Jacobian: coloured products, and normal equations by a sparse Cholesky factor.

minimize f(x) = |r(x)|**2 / 2 over lower <= x <= upper, r: R^n -> R^m
(A'A + lambda I) z = -A'r,  A = J D^-1,  p = D^-1 z;  once more for what that leaves: the corrected normal equations of
Björck 1987, doi:10.1016/0024-3795(87)90101-7. In bundle adjustment the order of elimination takes the points first, and
what is left is the Schur complement of the cameras. Damping as in `matrix_free`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import next_count, or_one, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import POSITIVE, TransformationError, TreeError, check_hyper, describe, say
from jaxopt_ko.linalg.coloring import Coloring
from jaxopt_ko.linalg.sparse_cholesky import Plan, analyze, factorize, solve
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
from jaxopt_ko.solvers.engine.matrix_free import FIRST_DAMPING
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
from jaxopt_ko.solvers.problem.sparsity import Pattern, jacobian_pattern
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Updates

LEAST = 0.1  # times lambda, what it falls to at best
MOST = 500_000_000  # products of entries in J'J, of three numbers each on the host


class SparseFitState(NamedTuple):
    """State of `levenberg_marquardt(linear_solver="sparse")`; all of it at the parameters as they now are."""

    count: Array  # int32[]      updates made
    residual: Array  # float[m]  r
    entries: Array  # float[nnz]  of J, where it may have some, by rows
    gradient: Array  # float[n]  of f
    norms: Array  # float[n]     largest norm so far of each column of J, corrected for the loss
    sizes: Array  # float[n]     largest |x_j| so far
    damping: Array  # float[]    lambda
    growth: Array  # float[]     nu, by which lambda grows at the next rejection
    released: Array  # bool[]    has the whole step been tried since f last fell by more than rounding?
    aux: PyTree  # what the function returned beside the residuals
    info: Info  # of the last update


class Normal(NamedTuple):
    """Where the entries of A'A come from: the products of each two entries of a row of A."""

    colors: Coloring
    plan: Plan  # of A'A
    one: Any  # int32[pairs]    an entry of A
    other: Any  # int32[pairs]  another one, or the same, of that row
    slot: Any  # int32[pairs]   the entry of A'A that their product is added to
    diagonal: Any  # int32[n]   the entries of its diagonal


@functools.lru_cache(maxsize=16)
def normal(pattern: Pattern) -> Normal:
    """The normal equations of a pattern; on the host, once."""
    colors = pattern.colors
    n, counts = colors.shape[1], np.bincount(colors.rows, minlength=colors.shape[0]).astype(np.int64)
    if (pairs := int(np.sum(counts * (counts + 1) // 2))) >= MOST:
        say(TreeError, "levenberg_marquardt", f"J'J must take less than {MOST} products of entries of J",
            f"{pairs}, with up to {counts.max()} entries in a row", "Leave out jac_sparsity and take "
            "linear_solver='lsmr', or give a sum of very many parameters a parameter of its own")  # fmt: skip
    starts = np.concatenate([[0], np.cumsum(counts)])
    one, other = [], []
    for size in np.unique(counts[counts > 0]):  # rows with as many entries at once; by rows, columns rise
        first = starts[:-1][counts == size][:, None]
        high, low = np.tril_indices(size)
        one.append((first + high).reshape(-1))
        other.append((first + low).reshape(-1))
    one_, other_ = (np.concatenate([*a, np.zeros(0, int)]).astype(np.int32) for a in (one, other))
    places = colors.cols[one_].astype(np.int64) * n + colors.cols[other_]
    unique, slot = np.unique(np.concatenate([places, np.arange(n, dtype=np.int64) * (n + 1)]), return_inverse=True)
    slot = slot.reshape(-1).astype(np.int32)
    plan = analyze((unique // max(n, 1), unique % max(n, 1), n))
    return Normal(colors, plan, one_, other_, slot[: one_.size], slot[one_.size :])


def sparse_fit(
    name: str, factor: Hyper = 1.0, *, gtol: Hyper | None = None, xtol: Hyper | None = None
) -> GradientTransformation:
    """One trial step of Levenberg-Marquardt an update, with Nielsen's damping and a sparse Jacobian.

    p: the least |r + J p|**2 + lambda |D p|**2; the rest as in `matrix_free`, with the columns' norms known.

    factor: the first lambda is 0.01 / factor. gtol and xtol: as in `levenberg_marquardt`, xtol for the step taken.
    """
    check_hyper(name, "factor", factor, POSITIVE)
    check_given(name, POSITIVE, gtol=gtol, xtol=xtol)

    def given(params: Params, jac_sparsity: Any, jacobian_fn: Any, extra_args: dict[str, Any]) -> _Given:
        if jacobian_fn is not None:
            say(TransformationError, name, "jacobian_fn is of no use with linear_solver='sparse'",
                describe(jacobian_fn), "Leave it out: J's entries come from residual_fn")  # fmt: skip
        problem = residuals(name, params, **extra_args)
        made = normal(jacobian_pattern(name, jac_sparsity))
        shape = (jax.eval_shape(problem.residual, problem.x)[0].size, problem.x.size)
        if made.colors.shape != shape:
            say(TreeError, name, f"jac_sparsity must have {shape[0]} rows and {shape[1]} columns, residuals by "
                "parameters", f"shape {made.colors.shape}", "Rows belong to the residuals")  # fmt: skip
        return _Given(problem, made)

    def init(
        params: Params, *, jac_sparsity: Any = None, jacobian_fn: Any = None, tol: Any = None, **extra_args: Any
    ) -> SparseFitState:
        it = given(params, jac_sparsity, jacobian_fn, extra_args)
        x = it.problem.x
        return _begin(it, factor, tolerance(x, zero_count(), eps_of(x), gtol, tol).value)

    def update(
        updates: Updates, state: SparseFitState, params: Params, *, jac_sparsity: Any = None, jacobian_fn: Any = None,
        tol: Any = None, **extra_args: Any,
    ) -> tuple[Updates, SparseFitState]:  # fmt: skip
        it = given(params, jac_sparsity, jacobian_fn, extra_args)
        x, eps = it.problem.x, eps_of(it.problem.x)
        gtol_, xtol_ = tolerance(x, state.count, eps, gtol, tol), tolerance(x, state.count, 500 * eps, xtol, tol)
        D = variable_scale(state.norms, state.sizes)
        p, model, size = _propose(it, state, D)
        trial = _try(it, state, p, model, size)
        new = _stop(it, state, D, p, trial, gtol_.value, xtol_.value)
        return step_or_home(it.problem, trial.taken, is_running(state.info), trial.step), new

    return transform(name, init, update, needs_params=True, state_type=SparseFitState, solver=True)


# ---- an update ------------------------------------------------------------------------------------------


class _Given(NamedTuple):
    """The problem, and J as a sparse matrix with the entries v."""

    problem: Residuals
    normal: Normal

    def look(self, x: Array) -> tuple[Array, PyTree, Callable[[], Array]]:
        """r, aux, and J's entries when called for."""
        colors, fn = self.normal.colors, self.problem.residual
        seeds = jnp.asarray(colors.seeds(), x.dtype)
        if colors.kind == "rows":
            r, pull, aux = jax.vjp(fn, x, has_aux=True)
            return r, aux, lambda: jax.vmap(pull)(seeds)[0][colors.product, colors.element]
        r, push, aux = jax.linearize(fn, x, has_aux=True)
        return r, aux, lambda: jax.vmap(push)(seeds)[colors.product, colors.element]

    def corrected(self, r: Array, v: Array) -> tuple[Array, Array]:
        """r and v of the loss."""
        r, root = self.problem.correct(r, jnp.ones_like(r))
        return r, root[self.normal.colors.rows] * v

    def times(self, v: Array, p: Array) -> Array:
        """J p."""
        rows, cols = self.normal.colors.rows, self.normal.colors.cols
        return jnp.zeros(self.normal.colors.shape[0], v.dtype).at[rows].add(v * p[cols], indices_are_sorted=True)

    def transposed(self, v: Array, u: Array) -> Array:
        """J'u."""
        rows, cols = self.normal.colors.rows, self.normal.colors.cols
        return jnp.zeros(self.normal.colors.shape[1], v.dtype).at[cols].add(v * u[rows])

    def measured(self, r: Array, v: Array) -> tuple[Array, Array]:
        """f's gradient, and the norms of J's columns."""
        r, v = self.corrected(r, v)
        return self.transposed(v, r), safe_sqrt(self.transposed(v * v, jnp.ones_like(r)))

    def step(self, r: Array, v: Array, D: Array, lam: Array, free: Array, p: Array) -> Array:
        """What to add to the free elements of p for the least |r + J p|**2 + lambda |D p|**2."""
        made = self.normal
        keep = jnp.where(free, 1 / D, 0)
        a = v * keep[made.colors.cols]
        K = jnp.zeros(len(made.plan.rows), v.dtype).at[made.slot].add(a[made.one] * a[made.other])
        factors = factorize(made.plan, K.at[made.diagonal].add(lam))
        r, z0 = r + self.times(v, p), jnp.where(free, D * p, 0)

        def right(z: Array) -> Array:
            return -self.transposed(a, r + self.times(a, z)) - lam * (z0 + z)

        z = solve(factors, right(jnp.zeros_like(z0)))
        return keep * (z + solve(factors, right(z)))


class _Trial(NamedTuple):
    """What was found at x + p, and is it taken?"""

    step: Updates  # that leads there
    x: Array  # float[n]        x + p
    residual: Array  # float[m]  r there
    value: Array  # float[]     f there
    aux: PyTree
    entries: Array  # float[nnz]  of J there, if it was looked at; f's gradient and the columns' norms likewise
    gradient: Array  # float[n]
    norms: Array  # float[n]
    rho: Array  # float[]
    rounding: Array  # float[]  of f
    lost: Array  # bool[]       is the decrease lost in that?
    looks: Array  # bool[]      was J evaluated?
    taken: Array  # bool[]


def _begin(it: _Given, factor: Hyper, gtol: Array) -> SparseFitState:
    """The state at the start."""
    problem, x, count = it.problem, it.problem.x, zero_count()
    r, aux, entries = it.look(x)
    v, f = entries(), problem.cost(r)
    g, norms = it.measured(r, v)
    optimality = cosine(g, norms, f, x, problem.box)
    finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g)) & jnp.all(jnp.isfinite(norms))
    small = problem.inside & (optimality <= gtol)
    stands = status((~finite, Code.NOT_FINITE), (small, Code.GRADIENT_SMALL))
    info = first_info(f, optimality, stands, function=1, gradient=1)
    damping = FIRST_DAMPING / value_at(factor, count).astype(x.dtype)
    growth, no = 2 * jnp.ones_like(f), jnp.zeros((), bool)
    return own_buffers(
        SparseFitState(count, r, v, g, or_one(norms), jnp.abs(x), damping, growth, no, aux, info)
    )  # fmt: skip


def _propose(it: _Given, state: SparseFitState, D: Array) -> tuple[Array, Array, Array]:
    """A step in the box; |r + J p|**2 / 2 less |r|**2 / 2; the root of sum_j |J_j|**2 x_j**2."""
    problem, lam, x = it.problem, state.damping, it.problem.x
    r, v = it.corrected(state.residual, state.entries)
    p = it.step(r, v, D, lam, ~active(x, state.gradient, problem.box), jnp.zeros_like(x))
    if problem.box is not None:
        low, high = (bound - x for bound in problem.box)
        face = Face(
            lambda p: 0.5 * (jnp.sum((r + it.times(v, p)) ** 2) + lam * jnp.sum((D * p) ** 2)),
            lambda p: it.transposed(v, r + it.times(v, p)) + lam * D**2 * p,
            lambda free, p: (it.step(r, v, D, lam, free, p), zero_count()),
            D, 4, 8,
        )  # fmt: skip
        inside = jnp.all((p >= low) & (p <= high))
        p = jax.lax.cond(inside, lambda: p, lambda: in_box(face, low, high)[0])
    Jp = it.times(v, p)
    size = jnp.linalg.norm(it.measured(state.residual, state.entries)[1] * x)
    return p, 0.5 * jnp.sum(Jp**2) + r @ Jp, jax.lax.stop_gradient(size)


def _try(it: _Given, state: SparseFitState, p: Array, model: Array, size: Array) -> _Trial:
    """r at x + p, and is that taken?"""
    problem, x, f, g, norms = it.problem, it.problem.x, state.info.value, state.gradient, state.norms
    step, x_new = problem.move(p)
    r_new, aux_new, entries = it.look(x_new)
    f_new = problem.cost(r_new)
    finite = jnp.isfinite(f_new)
    actual = f - jnp.where(finite, f_new, jnp.inf)
    rho = gain_ratio(actual, -model)
    rounding = rounding_of(f, size)
    lost = jnp.maximum(-model, -actual) <= LOST * rounding
    looks = finite & ((rho > ACCEPT) | lost) & is_running(state.info)

    def there() -> tuple[Array, Array, Array]:
        v = entries()
        return v, *it.measured(r_new, v)

    v_new, g_new, norms_new = jax.lax.cond(looks, there, lambda: (state.entries, g, norms))
    flatter = cosine(g_new, norms, f, x_new, problem.box) < 0.9 * cosine(g, norms, f, x, problem.box)
    sound = jnp.all(jnp.isfinite(g_new)) & jnp.all(jnp.isfinite(norms_new))
    taken = looks & sound & (~lost | flatter)
    return _Trial(
        step, x_new, r_new, f_new, aux_new, v_new, g_new, norms_new, rho, rounding, lost, looks, taken
    )  # fmt: skip


def _redamp(state: SparseFitState, trial: _Trial) -> tuple[Array, Array]:
    """The next lambda and nu, by Nielsen's rule."""
    taken, stays = trial.taken, ~is_running(state.info) | trial.lost
    kept = jnp.clip(1 - (2 * trial.rho - 1) ** 3, LEAST, 1)
    lam = jnp.where(stays, state.damping, jnp.where(taken, kept * state.damping, state.growth * state.damping))
    return lam, jnp.where(taken | stays, 2, 2 * state.growth)


def _stop(
    it: _Given, state: SparseFitState, D: Array, p: Array, trial: _Trial, gtol: Array, xtol: Array
) -> SparseFitState:
    """The new state; is the run over?"""
    problem, info, taken, lost = it.problem, state.info, trial.taken, trial.lost
    eps, over = eps_of(problem.x), ~is_running(state.info)
    lam, growth = _redamp(state, trial)
    x = jnp.where(taken, trial.x, problem.x)
    r, v, g, aux, f = tree.where(
        taken, (trial.residual, trial.entries, trial.gradient, trial.aux, trial.value),
        (state.residual, state.entries, state.gradient, state.aux, info.value),
    )  # fmt: skip
    norms = jnp.where(taken, jnp.maximum(state.norms, trial.norms), state.norms)
    sizes = jnp.maximum(state.sizes, jnp.abs(x))
    optimality, length = cosine(g, norms, f, x, problem.box), safe_sqrt(jnp.sum((D * p) ** 2))
    length = jnp.where(jnp.isfinite(length), length, jnp.inf)  # without a factor: lambda was too small
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
        (stuck & flat, Code.DECREASE_SMALL),
        (stuck, Code.SEARCH_FAILED),
    )
    evaluations = counted(info.evaluations, function=1, gradient=trial.looks)
    info = Info(f, optimality, length, taken, evaluations, stands)
    return SparseFitState(next_count(state.count), r, v, g, norms, sizes, lam, growth, released, aux, info)
