"""Proximal operators, and the gradient methods that take them: proximal and projected gradient, accelerated.

prox_h(x, s) = argmin |y - x|**2 / 2 + s h(y) over y
Parikh & Boyd 2014, Proximal Algorithms; Beck & Teboulle 2009, SIAM J. Imaging Sciences 2, for the method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.method import cached_factory, with_record
from jaxopt_ko.core.numerics import first_true, largest, next_count, norm, or_one, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE, TreeError, check_hyper, describe, path_of, say
from jaxopt_ko.solvers.engine.convergence import Course, bound, carried_off, course, endless, onward, tolerance
from jaxopt_ko.solvers.problem.objective import Objective, objective
from jaxopt_ko.types import (
    Code,
    EmptyState,
    Evaluations,
    GradientTransformation,
    Hyper,
    Info,
    Params,
    PyTree,
    Status,
    Updates,
)

Prox = Callable[[PyTree, Any], PyTree]  # (x, s) -> prox_h(x, s)
Projection = Callable[[PyTree], PyTree]

ROUND_OFF = 1e4  # times eps |f|: what f cannot tell well enough

# ---- operators ----------------------------------------------------------------------------------------------


def prox_none(x: PyTree, scaling: Any = 1.0) -> PyTree:
    """h = 0."""
    return x


def prox_lasso(x: PyTree, l1reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l1reg sum|y|; l1reg: a number, or a tree like x of numbers and arrays."""
    return _each(lambda v, a: _shrink(v, _as(scaling, v) * a), x, l1reg)


def prox_non_negative_lasso(x: PyTree, l1reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l1reg sum y, over y >= 0."""
    return _each(lambda v, a: jnp.maximum(v - _as(scaling, v) * a, 0), x, l1reg)


def prox_ridge(x: PyTree, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l2reg / 2 sum y**2."""
    return _each(lambda v, a: v / (1 + _as(scaling, v) * a), x, l2reg)


def prox_non_negative_ridge(x: PyTree, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l2reg / 2 sum y**2, over y >= 0."""
    return _each(lambda v, a: jnp.maximum(v, 0) / (1 + _as(scaling, v) * a), x, l2reg)


def prox_elastic_net(x: PyTree, l1reg: Any = 1.0, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l1reg sum|y| + l2reg / 2 sum y**2."""
    return prox_ridge(prox_lasso(x, l1reg, scaling), l2reg, scaling)


def prox_group_lasso(x: PyTree, l2reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = l2reg times the sum of |y| over the leaves, each a group: (1 - s l2reg / |v|) v, 0 where that is negative."""

    def group(v: Array, a: Array) -> Array:
        length, least = norm(v.reshape(-1)), _as(scaling, v) * a
        stays = length > least
        return jnp.where(stays, 1 - least / jnp.where(stays, length, 1), 0) * v

    return _each(group, x, l2reg)


def prox_nuclear_norm(x: PyTree, reg: Any = 1.0, scaling: Any = 1.0) -> PyTree:
    """h = reg times the sum of the singular values, of each leaf float[...,m,n] by itself: U max(S - s reg, 0) V'.

    Raises TreeError for a leaf that is no matrix, or stack of them. Cai, Candès & Shen 2010, SIAM J. Optim. 20.
    """
    for index, leaf in enumerate(jax.tree.leaves(x)):
        _check_matrix("prox_nuclear_norm", x, index, leaf)
    return _each(lambda v, a: _shrink_singular(v, jnp.broadcast_to(_as(scaling, v) * a, v.shape[:-2])), x, reg)


def _check_matrix(name: str, tree: PyTree, index: int, leaf: Any) -> None:
    """A leaf that is a matrix, or a stack of them."""
    if np.ndim(leaf) < 2:
        say(TreeError, name, f"each leaf must be a matrix, or a stack of them; {path_of(tree, index)} is none",
            describe(leaf))  # fmt: skip


def _shrink(v: Array, least: Array) -> Array:
    return jnp.sign(v) * jnp.maximum(jnp.abs(v) - least, 0)


@jax.custom_jvp
def _shrink_singular(X: Array, least: Array) -> Array:
    U, S, Vt = jnp.linalg.svd(X, full_matrices=False)
    P: Array = (U * jnp.maximum(S - least[..., None], 0)[..., None, :]) @ Vt
    return P


@_shrink_singular.defjvp
def _shrink_singular_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """By the divided differences of f(S) = max(S - least, 0), and of its odd continuation: also where some meet."""
    (X, least), (dX, d_least) = primals, tangents
    U, S, Vt = jnp.linalg.svd(X, full_matrices=False)
    f, on = jnp.maximum(S - least[..., None], 0), (least[..., None] < S).astype(X.dtype)
    Ut, V = jnp.swapaxes(U, -1, -2), jnp.swapaxes(Vt, -1, -2)
    C = Ut @ dX @ V
    even, odd = 0.5 * (C + jnp.swapaxes(C, -1, -2)), 0.5 * (C - jnp.swapaxes(C, -1, -2))
    gap = S[..., :, None] - S[..., None, :]
    both = 0.5 * (on[..., :, None] + on[..., None, :])
    apart = jnp.abs(gap) > 1e2 * float(np.finfo(X.dtype).eps) * jnp.max(S, axis=-1, initial=0.0)[..., None, None]
    slope = jnp.where(apart, (f[..., :, None] - f[..., None, :]) / jnp.where(apart, gap, 1), both)
    total = S[..., :, None] + S[..., None, :]
    mean = jnp.where(total > 0, (f[..., :, None] + f[..., None, :]) / or_one(total), 0)
    share = jnp.where(S > 0, f / or_one(S), 0)
    diagonal = jnp.broadcast_to(jnp.eye(S.shape[-1], dtype=X.dtype), C.shape)
    own = slope * even + mean * odd - diagonal * (on * d_least[..., None])[..., None, :]
    left = (dX @ V - U @ C) * share[..., None, :]  # what leaves the columns of U, and then of V
    right = share[..., :, None] * (Ut @ dX - C @ Vt)
    return _shrink_singular(X, least), U @ own @ Vt + left @ Vt + U @ right


def _each(function: Callable[[Array, Array], Array], x: PyTree, reg: Any) -> PyTree:
    """`function(leaf, reg)` in float32 at least; one number stands for all leaves."""
    spread = jax.tree.map(lambda _: reg, x) if tree.structure(reg) == tree.structure(0) else reg

    def apply(v: Any, a: Any) -> Array:
        dtype = tree.dtype_of(v)
        wide = jnp.asarray(v).astype(tree.compute_dtype(dtype))
        return function(wide, _as(a, wide)).astype(dtype)

    return jax.tree.map(apply, x, spread)


def _as(value: Any, x: Array) -> Array:
    return jnp.asarray(value).astype(x.dtype)


# ---- transformations ----------------------------------------------------------------------------------------


def keep_in(projection: Projection) -> GradientTransformation:
    """Updates that end in a set: P(params + u) - params; for the end of any chain, reads params.

    projection: a function of trees like params, such as projections.projection_simplex.
    Not for a method that remembers where it went (lbfgs): it would learn steps that were not made.
    """
    project = errors.check_function("keep_in", "projection", projection)

    def update(updates: Updates, state: EmptyState, params: Params) -> tuple[Updates, EmptyState]:
        there = project(apply_updates(params, updates))
        check_same_trees("keep_in", "the projection's result", there, "params", params)
        step = jax.tree.map(lambda to, p, u: (to - jnp.asarray(p)).astype(tree.dtype_of(u)), there, params, updates)
        return step, state

    return transform("keep_in", lambda params: EmptyState(), update, needs_params=True, state_type=EmptyState)


class ProximalGradientState(NamedTuple):
    """State of `proximal_gradient`; the vectors hold all leaves one after the other, n elements in all."""

    count: Array  # int32[]      updates made
    y: Array  # float[n]         where f's gradient was, or is to be, taken; the parameters are x
    value: Array  # float[]      f(y)
    grad: Array  # float[n]      f's gradient at y
    looks: Array  # bool[]       is the next update to take these two, in the place of a trial?
    stepsize: Array  # float[]   s
    momentum: Array  # float[]   t, 1 at the start and after each restart
    aux: PyTree  # what the function returned beside its value, at x
    course: Course  # of the run
    info: Info  # of the last update; its value is f(x), without h


@cached_factory
def proximal_gradient(
    prox: Prox,
    stepsize: Hyper = 1.0,
    *,
    acceleration: bool = True,
    decrease_factor: Hyper = 0.5,
    increase_factor: Hyper = 1.2,
    gtol: Hyper | None = None,
) -> GradientTransformation:
    """min f(x) + h(x), f smooth and h known by its prox: one evaluation of f and its gradient an update.

    x_new = prox(y - s g(y), s), kept if f(x_new) <= f(y) + g'd + |d|**2 / 2 s, d = x_new - y; else s is decreased
    y = x_new + (t - 1) / t_new (x_new - x),  t_new = (1 + sqrt(1 + 4 t**2)) / 2;  y = x_new without acceleration

    t goes back to 1 where (y - x_new)'(x_new - x) > 0 (O'Donoghue & Candès 2015). An accelerated iteration takes two
    updates, one at x_new and one at y: the second is zero. prox(x, s): see `prox_lasso` and its kin, as in
    lambda x, s: prox_lasso(x, 0.1, s). stepsize: the first s; it grows by increase_factor after each iteration.

    init(params, value_fn=, has_aux=False) and update(updates, state, params, value_fn=, has_aux=False, tol=None);
    the updates that come in are not read. The first steps are from prox(x, s) on, so a start may be outside.
    gtol: converged when max|d| / s <= gtol; `tol` takes its place. by default sqrt(eps), or less
    where no gradient was large (see `descent`). Also when no element of x changes.
    Raises MissingArgumentError without value_fn. Not where f is ill-conditioned and h a box: lbfgsb.
    """
    return _gradient("proximal_gradient", prox, stepsize, acceleration, decrease_factor, increase_factor, gtol)


@cached_factory
def projected_gradient(
    projection: Projection,
    stepsize: Hyper = 1.0,
    *,
    acceleration: bool = True,
    decrease_factor: Hyper = 0.5,
    increase_factor: Hyper = 1.2,
    gtol: Hyper | None = None,
) -> GradientTransformation:
    """min f(x) over a set, f smooth: `proximal_gradient` with the set's projection for the prox."""
    name = "projected_gradient"
    project = errors.check_function(name, "projection", projection)
    return _gradient(
        name, lambda x, s: project(x), stepsize, acceleration, decrease_factor, increase_factor, gtol
    )  # fmt: skip


def _gradient(
    name: str,
    prox: Prox,
    stepsize: Hyper,
    acceleration: bool,
    decrease_factor: Hyper,
    increase_factor: Hyper,
    gtol: Hyper | None,
) -> GradientTransformation:
    errors.check_function(name, "prox", prox)
    check_hyper(name, "stepsize", stepsize, POSITIVE)
    check_hyper(name, "decrease_factor", decrease_factor, FRACTION)
    check_hyper(name, "increase_factor", increase_factor, POSITIVE)
    if gtol is not None:
        check_hyper(name, "gtol", gtol, NONNEGATIVE)

    def near(problem: Objective, v: Array, s: Array) -> Array:
        like = problem.unravel(v)
        result = prox(like, s)
        check_same_trees(name, "the prox's result", result, "params", like)
        return tree.ravel(result)[0].astype(v.dtype)

    def init(
        params: Params, *, value_fn: Callable[..., Any] | None = None, has_aux: bool = False, **extra_args: Any
    ) -> ProximalGradientState:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        x, s = problem.x, value_at(stepsize, zero_count()).astype(problem.x.dtype)
        aux = jax.eval_shape(problem.evaluate, x)[1] if has_aux else None
        aux = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), aux)
        inf, nil, no = jnp.full_like(s, jnp.inf), jnp.zeros_like(s), jnp.zeros((), bool)
        info = Info(
            inf, jnp.copy(inf), nil, no, Evaluations(zero_count(), zero_count(), zero_count()),
            Status(jnp.asarray(np.int32(Code.RUNNING))),
        )  # fmt: skip
        state = ProximalGradientState(
            zero_count(), x, inf, jnp.zeros_like(x), ~no, s, jnp.ones_like(s), aux, course(nil, x, nil), info
        )  # fmt: skip
        return jax.tree.map(jnp.copy, state)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

    def update(
        updates: Updates,
        state: ProximalGradientState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, ProximalGradientState]:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        count, y, f_y, g, looks, s, t, aux, run, info = state
        x, eps, first = problem.x, float(np.finfo(problem.x.dtype).eps), count == 0
        shorter = value_at(decrease_factor, count).astype(x.dtype)
        longer = value_at(increase_factor, count).astype(x.dtype)
        gtol_ = tolerance(x, count, eps**0.5, gtol, tol)
        running = info.status.code == np.int32(Code.RUNNING)

        # One evaluation: at y, the first time at P(x), or at the trial
        trial = near(problem, jnp.where(first, x, y - s * g), s)
        at = jnp.where(looks & ~first, y, trial)
        f, aux_new, g_new = problem.evaluate(at)
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g_new))

        # Is the trial taken?
        d = trial - y
        dd = d @ d
        # where f cannot tell, by the slopes
        fine = dd / (2 * s) > ROUND_OFF * eps * jnp.abs(f_y)
        enough = jnp.where(fine, f <= f_y + g @ d + dd / (2 * s), (g_new - g) @ d <= dd / s)
        taken = running & finite & jnp.where(looks, first, enough)
        rejected = running & ~looks & ~taken
        moved = jnp.where(taken, trial - x, 0)
        again = (y - trial) @ (trial - x) > 0
        lost = looks & ~first & ~finite  # y is too far on
        t_old = jnp.where(again | first | lost, 1, t)
        t_new = 0.5 * (1 + jnp.sqrt(1 + 4 * t_old * t_old)) if acceleration else jnp.ones_like(t)
        beta = (t_old - 1) / t_new if acceleration else jnp.zeros_like(t)

        # Is it over?
        bottomless = running & ~first & jnp.isneginf(f)
        value = jnp.where(taken, f, info.value)
        measure = jnp.where(first, largest(g_new), largest(d) / s)
        optimality = jnp.where(taken | first, measure, info.optimality)
        after = tree.where(first, course(value, trial, measure), onward(run, optimality, taken, jnp.zeros((), bool)))
        small = taken & ~first & (optimality <= bound(after, gtol_))
        still = rejected & (jnp.sqrt(dd) <= eps * norm(x))
        unmoved = taken & ~first & jnp.all(jnp.abs(d) <= eps * jnp.abs(y))
        falls = bottomless | (small & carried_off(after, trial, value, -d / s))
        falls |= taken & ~first & ~small & endless(after, trial, value, d, g, g_new)
        code = first_true(
            [
                ~running,
                first & ~finite,
                falls,
                small,
                unmoved,
                still,
            ],
            [
                info.status.code, Code.NOT_FINITE, Code.UNBOUNDED, Code.GRADIENT_SMALL, Code.STEP_SMALL,
                Code.SEARCH_FAILED,
            ],
            Code.RUNNING,
        )  # fmt: skip

        # Where to look next
        y_new = jnp.where(taken, trial + beta * moved, jnp.where(lost, x, y))
        known = looks | (taken & (beta == 0))  # f and g at y_new
        g, f_y = jnp.where(known, g_new, g), jnp.where(known, f, f_y)
        s = jnp.where(rejected, shorter * s, jnp.where(taken & ~first, longer * s, s))
        functions, gradients, products = info.evaluations
        info = Info(
            value, optimality, jnp.where(taken, norm(moved), info.step_norm), taken,
            Evaluations(next_count(functions), next_count(gradients), products), Status(code),
        )  # fmt: skip
        aux = jax.tree.map(lambda a, b: jnp.where(taken, a, b), aux_new, aux)
        return problem.unravel(moved), ProximalGradientState(
            next_count(count),
            y_new,
            f_y,
            g,
            (taken & ~known) | lost,
            s,
            jnp.where(taken | lost, t_new, t),
            aux,
            after,
            info,
        )

    pair = transform(name, init, update, needs_params=True, state_type=ProximalGradientState, solver=True)
    return with_record(pair, prox=prox)
