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
from jaxopt_ko.core.numerics import next_count, or_one, safe_sqrt, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, TreeError, describe, say
from jaxopt_ko.solvers.engine.convergence import (
    check_given,
    counted,
    eps_of,
    first_info,
    is_running,
    own_buffers,
    status,
    tolerance,
)
from jaxopt_ko.solvers.problem.objective import objective
from jaxopt_ko.types import (
    Code,
    GradientTransformation,
    Hyper,
    Info,
    Params,
    PyTree,
    Status,
    Updates,
)

LinearMap = Callable[[PyTree], PyTree]
FALLEN = 0.5  # between two checks |b - A x| has to fall to this part, or nothing more is to be had
LOST = 100  # times eps |A| |x|: the residual that is lost in rounding


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


class _Here(NamedTuple):
    """What is known at x."""

    value: Array  # float[]     phi(x)
    aux: PyTree  # what value_fn returned beside it
    residual: Array  # float[n]  b - A x


class _System(NamedTuple):
    """A x = b, as functions of vectors."""

    x: Array
    unravel: Callable[[Array], Params]
    product: Callable[[Array], Array]  # v -> A v
    check: Callable[[Array], _Here]  # A x -> what is known at x
    precondition: Callable[[Array], Array]  # r -> M r
    evaluations: int  # of value_fn, in a check


class _Step(NamedTuple):
    """A step along d, zero where it is not sound."""

    sound: Array  # bool[]
    step: Array  # float[n]
    here: _Here  # where it leads
    largest: Array  # float[]  d'Ad / d'd, the largest so far


@cached_factory
def cg(*, tol: Hyper | None = None) -> GradientTransformation:
    """One step of conjugate gradients on A x = b an update, by one product of A with a vector.

    alpha = r'z / d'Ad   x += alpha d   r -= alpha A d   z = M r   d = z + (r_new'z_new / r'z) d

    tol: converged when |b - A x| <= tol |b|, >= 0; None: eps**(2/3) of the dtype. `tol` given to init and update takes
        its place. Once r says so, an update without a step computes b - A x itself, and goes on from there if it is
        larger.

    init(params, operator=, b=, preconditioner=None, tol=None) and update(updates, state, params, …) with the
    same arguments: operator is a function from trees like params to such trees, or a matrix float[n,n]; b a tree like
    params; preconditioner a function like operator, near to A's inverse. Instead of operator and b there may be
    value_fn, a quadratic function of params: A is its Hessian, -b its gradient at 0. The updates that come in are
    not read.

    State: 2 numbers a parameter. A direction with d'Ad <= 0 ends the run as SEARCH_FAILED: phi has no minimum, or M is
    not positive definite.

    Raises MissingArgumentError, when traced, without operator and b, or value_fn; TreeError if they do not fit params.
    Source: Hestenes & Stiefel 1952; Nocedal & Wright 2006, algorithm 5.3. Not for a value_fn that is no quadratic:
    `newton_cg`.

    >>> method, A, b = jo.cg(), jnp.diag(jnp.array([1.0, 2.0])), jnp.ones(2)
    >>> state = method.init(jnp.zeros(2), operator=A, b=b)
    >>> step, state = method.update(jnp.zeros(2), state, jnp.zeros(2), operator=A, b=b)
    """
    name = "cg"
    check_given(name, NONNEGATIVE, tol=tol)
    default = tol

    def bound(x: Array, count: Array, tol: Any) -> Array:
        return tolerance(x, count, eps_of(x) ** (2 / 3), default, tol).value

    def init(params: Params, *, tol: Any = None, **extra_args: Any) -> LinearCgState:
        system = _system(name, params, **extra_args)
        return _start(system, bound(system.x, zero_count(), tol))

    def update(
        updates: Updates, state: LinearCgState, params: Params, *, tol: Any = None, **extra_args: Any
    ) -> tuple[Updates, LinearCgState]:
        system = _system(name, params, **extra_args)
        return _advance(system, state, bound(system.x, state.count, tol))

    return transform(name, init, update, needs_params=True, state_type=LinearCgState, solver=True)


def _start(system: _System, tol: Array) -> LinearCgState:
    """The state at the start, where b - A x is computed."""
    Ax = system.product(system.x)
    here = system.check(Ax)
    r = here.residual
    z = system.precondition(r)
    length, b_size = safe_sqrt(r @ r), safe_sqrt((r + Ax) @ (r + Ax))
    size = jnp.where(b_size > 0, b_size, or_one(length))
    finite = jnp.isfinite(here.value) & jnp.all(jnp.isfinite(r))
    code = status((~finite, Code.NOT_FINITE), (length <= tol * size, Code.GRADIENT_SMALL))
    calls = system.evaluations
    return own_buffers(
        LinearCgState(
            count=zero_count(),
            residual=r,
            direction=z,
            descent=r @ z,
            size=size,
            largest=jnp.zeros_like(here.value),
            checked=length,
            checks=jnp.zeros((), bool),
            aux=here.aux,
            info=first_info(here.value, length / size, code, function=calls, gradient=calls, product=1),
        )
    )


def _advance(system: _System, state: LinearCgState, tol: Array) -> tuple[Updates, LinearCgState]:
    """A step along d, or a check; either takes one product, with d or with x."""
    checks, d, rz = state.checks, state.direction, state.descent
    q = system.product(jnp.where(checks, system.x, d))
    step = _step(state, q, _look(system, state, q))
    here = step.here
    r = here.residual
    z = system.precondition(r)
    rz_new, length = r @ z, safe_sqrt(r @ r)
    d = jnp.where(step.sound, z + rz_new / jnp.where(step.sound, rz, 1) * d, z)
    calls = jnp.where(checks, np.int32(system.evaluations), np.int32(0))
    info = Info(
        value=here.value,
        optimality=length / state.size,
        step_norm=safe_sqrt(step.step @ step.step),
        accepted=step.sound,
        evaluations=counted(state.info.evaluations, function=calls, gradient=calls, product=1),
        status=_status(system, state, step, length, tol),
    )
    return system.unravel(step.step), LinearCgState(
        count=next_count(state.count),
        residual=r,
        direction=d,
        descent=rz_new,
        size=state.size,
        largest=step.largest,
        checked=jnp.where(checks, length, state.checked),
        checks=~checks & (length <= jnp.maximum(tol, eps_of(r)) * state.size),
        aux=here.aux,
        info=info,
    )


def _look(system: _System, state: LinearCgState, q: Array) -> _Here:
    """b - A x itself in a check, of which q is A x; else by recurrence."""
    known = _Here(state.info.value, state.aux, state.residual)
    return jax.lax.cond(state.checks, lambda: system.check(q), lambda: known)  # type: ignore[no-any-return]


def _step(state: LinearCgState, q: Array, here: _Here) -> _Step:
    """x += alpha d, alpha = r'z / d'Ad, unless the update is a check or phi does not bend upwards along d; q: A d."""
    d, rz = state.direction, state.descent
    dq, dd = d @ q, d @ d
    sound = ~state.checks & is_running(state.info) & (dq > 0) & (rz > 0) & jnp.isfinite(dq)
    alpha = jnp.where(sound, rz / jnp.where(sound, dq, 1), 0)
    r = jnp.where(sound, here.residual - alpha * q, here.residual)
    largest = jnp.where(sound, jnp.maximum(state.largest, dq / jnp.where(sound, dd, 1)), state.largest)
    return _Step(sound, alpha * d, _Here(here.value - 0.5 * alpha * rz, here.aux, r), largest)


def _status(system: _System, state: LinearCgState, step: _Step, length: Array, tol: Array) -> Status:
    """Is it over? Converged by a check alone; length: |r|."""
    x, checks = system.x, state.checks
    small = length <= tol * state.size
    stuck = checks & ~small & ~(length <= FALLEN * state.checked)
    lost = length <= LOST * eps_of(x) * step.largest * safe_sqrt(x @ x)
    return status(
        (~is_running(state.info), state.info.status.code),
        (checks & small, Code.GRADIENT_SMALL),
        (stuck & lost, Code.DECREASE_SMALL),
        (stuck | (~checks & ~step.sound), Code.SEARCH_FAILED),
    )


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

        def check(Ax: Array) -> _Here:
            value, aux, gradient = problem.evaluate(x)
            return _Here(value, aux, -gradient)

    else:
        x, unravel = tree.ravel(params)
        _check_operator(name, operator, x.size)
        if b is None:
            errors.missing_argument(name, "b", "Pass b=..., the right-hand side, a pytree like params")
        check_same_trees(name, "b", b, "params", params)
        right = tree.ravel(b)[0].astype(x.dtype)
        product = _as_map(name, operator, x, unravel)

        def check(Ax: Array) -> _Here:
            r = right - Ax
            return _Here(-0.5 * (x @ (right + r)), None, r)

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
