"""Linear conjugate gradients. Hestenes & Stiefel 1952; Nocedal & Wright 2006, algorithm 5.3.

minimize phi(x) = x'Ax / 2 - b'x, that is solve A x = b, A symmetric and positive definite
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import next_count, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, TreeError, check_hyper, describe, say
from jaxopt_ko.solvers.problem.objective import objective
from jaxopt_ko.types import (
    Code,
    Evaluations,
    GradientTransformation,
    Hyper,
    Info,
    Params,
    PyTree,
    Status,
    Updates,
)

LinearMap = Callable[[PyTree], PyTree]
Check = tuple[Array, PyTree, Array]  # phi(x), what the function returned beside it, b - A x
HALF = 0.5  # between two checks |b - A x| has to fall to this part, or nothing more is to be had
ROUND_OFF = 100  # times eps |A| |x|: the residual that is lost in rounding


class LinearCgState(NamedTuple):
    """State of `cg`; the vectors hold all leaves one after the other, n elements in all."""

    count: Array  # int32[]        updates made
    residual: Array  # float[n]    r = b - A x, by recurrence between two checks
    direction: Array  # float[n]   d, of the next step
    descent: Array  # float[]      r'M r
    size: Array  # float[]         |b|, or |r| at the start if b is 0
    largest: Array  # float[]      largest d'Ad / d'd so far, a lower bound of |A|
    checked: Array  # float[]      |b - A x| when it was last computed
    checks: Array  # bool[]        is it computed at the next update, in the place of a step?
    aux: PyTree  # of value_fn, there
    info: Info  # of the last update


class _System(NamedTuple):
    """A x = b, as functions of vectors."""

    x: Array
    unravel: Callable[[Array], Params]
    product: Callable[[Array], Array]  # v -> A v
    check: Callable[[Array], Check]  # A x -> phi(x), aux, b - A x
    precondition: Callable[[Array], Array]  # r -> M r
    evaluations: int  # of value_fn, in a check


@cached_factory
def cg(*, tol: Hyper | None = None) -> GradientTransformation:
    """One step of conjugate gradients on A x = b an update, by one product of A with a vector.

    alpha = r'z / d'Ad   x += alpha d   r -= alpha A d   z = M r   d = z + (r_new'z_new / r'z) d

    Converged when |b - A x| <= tol |b|; tol is eps**(2/3) by default, and `tol` given to init and update takes its
    place. Once r says so, an update without a step computes b - A x itself, and goes on from there if it is larger.

    init(params, operator=, b=, preconditioner=None, tol=None) and update(updates, state, params, ...) with the
    same arguments: operator is a function from trees like params to such trees, or a matrix float[n,n]; b a tree like
    params; preconditioner a function like operator, near to A's inverse. Instead of operator and b there may be
    value_fn, a quadratic function of params: A is its Hessian, -b its gradient at 0. The updates that come in are
    not read.

    A direction with d'Ad <= 0 ends the run as SEARCH_FAILED: phi has no minimum, or M is not positive definite.
    Raises MissingArgumentError, when traced, without operator and b, or value_fn; TreeError if they do not fit
    params. Not for a value_fn that is no quadratic: newton_cg.
    """
    name = "cg"
    if tol is not None:
        check_hyper(name, "tol", tol, NONNEGATIVE)
    default = tol

    def bound(tol: Any, count: Array, x: Array) -> Array:
        given = default if tol is None else tol
        eps = float(np.finfo(x.dtype).eps)
        return jnp.asarray(eps ** (2 / 3) if given is None else value_at(given, count), x.dtype)

    def init(params: Params, *, tol: Any = None, **extra_args: Any) -> LinearCgState:
        system = _system(name, params, **extra_args)
        x = system.x
        Ax = system.product(x)
        value, aux, r = system.check(Ax)
        z = system.precondition(r)
        length, b_size = safe_sqrt(r @ r), safe_sqrt((r + Ax) @ (r + Ax))
        size = jnp.where(b_size > 0, b_size, jnp.where(length > 0, length, 1))
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(r))
        code = jnp.select(
            [~finite, length <= bound(tol, zero_count(), x) * size],
            [np.int32(Code.NOT_FINITE), np.int32(Code.GRADIENT_SMALL)],
            np.int32(Code.RUNNING),
        )
        nil, no, calls = jnp.zeros_like(value), jnp.zeros((), bool), jnp.full((), system.evaluations, jnp.int32)
        evaluations = Evaluations(calls, jnp.copy(calls), jnp.ones((), jnp.int32))
        info = Info(value, length / size, nil, no, evaluations, Status(code))
        state = LinearCgState(zero_count(), r, z, r @ z, size, nil, length, no, aux, info)
        return jax.tree.map(jnp.copy, state)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

    def update(
        updates: Updates, state: LinearCgState, params: Params, *, tol: Any = None, **extra_args: Any
    ) -> tuple[Updates, LinearCgState]:
        system = _system(name, params, **extra_args)
        count, r, d, rz, size, largest, checked, checks, aux, info = state
        x, over = system.x, info.status.code != np.int32(Code.RUNNING)

        # One product: with x for a check, with d for a step
        q = system.product(jnp.where(checks, x, d))
        value, aux, r = jax.lax.cond(checks, lambda: system.check(q), lambda: (info.value, aux, r))
        dq, dd = d @ q, d @ d
        sound = ~checks & ~over & (dq > 0) & (rz > 0) & jnp.isfinite(dq)
        alpha = jnp.where(sound, rz / jnp.where(sound, dq, 1), 0)
        step, r = alpha * d, jnp.where(sound, r - alpha * q, r)
        value = value - 0.5 * alpha * rz
        largest = jnp.where(sound, jnp.maximum(largest, dq / jnp.where(sound, dd, 1)), largest)

        # The next direction
        z = system.precondition(r)
        rz_new, length = r @ z, safe_sqrt(r @ r)
        d = jnp.where(sound, z + rz_new / jnp.where(sound, rz, 1) * d, z)

        # Is it over?
        eps, tol_ = float(np.finfo(x.dtype).eps), bound(tol, count, x)
        small = length <= tol_ * size
        stuck = checks & ~small & ~(length <= HALF * checked)
        lost = length <= ROUND_OFF * eps * largest * safe_sqrt(x @ x)
        code = jnp.select(
            [over, checks & small, stuck & lost, stuck | (~checks & ~sound)],
            [info.status.code] + [np.int32(c) for c in (Code.GRADIENT_SMALL, Code.DECREASE_SMALL, Code.SEARCH_FAILED)],
            np.int32(Code.RUNNING),
        )
        calls = jnp.where(checks, np.int32(system.evaluations), np.int32(0))
        n_function, n_gradient, n_product = info.evaluations
        evaluations = Evaluations(n_function + calls, n_gradient + calls, next_count(n_product))
        info = Info(value, length / size, safe_sqrt(step @ step), sound, evaluations, Status(code))
        checked, checks = jnp.where(checks, length, checked), ~checks & (length <= jnp.maximum(tol_, eps) * size)
        return system.unravel(step), LinearCgState(
            next_count(count), r, d, rz_new, size, largest, checked, checks, aux, info
        )

    return transform(name, init, update, needs_params=True, state_type=LinearCgState, solver=True)


def _system(
    name: str,
    params: Params,
    operator: LinearMap | Array | None = None,
    b: PyTree = None,
    preconditioner: LinearMap | None = None,
    value_fn: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **extra_args: Any,
) -> _System:
    if operator is None:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        x, unravel = problem.x, problem.unravel
        _, product = jax.linearize(jax.grad(problem.value), x)

        def check(Ax: Array) -> Check:
            value, aux, gradient = problem.evaluate(x)
            return value, aux, -gradient

    else:
        x, unravel = tree.ravel(params)
        _check_operator(name, operator, x.size)
        if b is None:
            errors.missing_argument(name, "b", "Pass b=..., the right-hand side, a pytree like params")
        check_same_trees(name, "b", b, "params", params)
        right = tree.ravel(b)[0].astype(x.dtype)
        product = _as_map(name, operator, x, unravel)

        def check(Ax: Array) -> Check:
            r = right - Ax
            return -0.5 * (x @ (right + r)), None, r

    precondition = (lambda r: r) if preconditioner is None else _as_map(name, preconditioner, x, unravel)
    return _System(x, unravel, product, check, precondition, 1 if operator is None else 0)


def _check_operator(name: str, operator: Any, n: int) -> Any:
    """A symmetric linear map of the parameters: a function of trees like them, or a matrix of their size."""
    if callable(operator) or np.shape(operator) == (n, n):
        return operator
    say(TreeError, name, f"operator must be a function of a pytree like params, or a matrix float[{n},{n}]",
        describe(operator), "Pass lambda v: A @ v, or the symmetric matrix itself")  # fmt: skip


def _as_map(name: str, operator: Any, x: Array, unravel: Callable[[Array], Params]) -> Callable[[Array], Array]:
    """A function of trees, or a matrix, as a function of vectors like x."""

    def apply(v: Array) -> Array:
        if not callable(operator):
            return jnp.asarray(operator).astype(x.dtype) @ v
        like = unravel(v)
        result = operator(like)
        check_same_trees(name, "operator's result", result, "params", like)
        return tree.ravel(result)[0].astype(x.dtype)

    return apply
