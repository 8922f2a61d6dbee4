"""Augmented Lagrangian: constraints for any method that minimizes. Birgin & Martínez 2014, algorithm 4.1 (SIAM,
doi:10.1137/1.9781611973365), after Powell, Hestenes and Rockafellar.

min f(x)  subject to  c_e(x) = 0,  c_i(x) <= 0

L(x) = f + y'c_e + rho / 2 |c_e|**2 + (|max(z + rho c_i, 0)|**2 - |z|**2) / 2 rho
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
from jaxopt_ko.core.method import cached_factory, filter_kwargs, name_of
from jaxopt_ko.core.numerics import joined, largest, next_count, norm, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE, TransformationError, say
from jaxopt_ko.solvers.engine.convergence import check_given, eps_of, is_running, own_buffers, status, tolerance
from jaxopt_ko.solvers.problem.constraints import Program, program
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
    State,
    Status,
    Updates,
)

GROWN = 10.0  # times rho, after a round in which the violation did not fall enough
FALLEN = 0.5  # the part to which it is to fall
SHARPER = 0.1  # times the accuracy of a round, the next one's
BEYOND = 0.7  # 1/eps to this power: the largest rho min(1, |c_+|**2 / max(1, |f|)), the same in other units of c
FLAT = 0.1  # what a step as long as x takes off the violation, at most, where it has a minimum
FAILURES = 3  # rounds, one after the other, that the inner method ended short of their accuracy


class AugmentedLagrangianState(NamedTuple):
    """State of `augmented_lagrangian`, at the parameters as they now are; p equalities, q inequalities."""

    count: Array  # int32[]     updates made
    inner: State  # of the method that minimizes L
    y: Array  # float[p]        multipliers of c_e
    z: Array  # float[q]        of c_i, >= 0
    penalty: Array  # float[]   rho
    missed: Array  # float[]    violation and complementarity at the end of the last round
    accuracy: Array  # float[]  to which the round minimizes L
    rounds: Array  # int32[]    minimizations of L finished
    failures: Array  # int32[]  that ended short of their accuracy, since the last that did not
    spent: Evaluations  # of the rounds finished
    multipliers: Multipliers  # y and z as trees, and those of the bounds
    kkt: KKT  # there
    aux: PyTree  # what value_fn returned beside its value
    info: Info  # of the last update


class _Inner(NamedTuple):
    """The method that minimizes L, and what it is told at each call."""

    start: Callable[..., State]  # its init
    step: Callable[..., tuple[Updates, State]]  # its update
    bounds: Any

    def arguments(self, value_fn: Callable[..., Any], accuracy: Array) -> dict[str, Any]:
        """Of both functions."""
        bounds = {} if self.bounds is None else {"bounds": self.bounds}
        return {"value_fn": value_fn, "has_aux": True, "tol": accuracy} | bounds


class _Here(NamedTuple):
    """Where an inner step leads."""

    inner: State  # there
    x: Array  # float[n]
    f: Array  # float[]
    c_e: Array  # float[p]
    c_i: Array  # float[q]
    aux: PyTree
    violation: Array  # float[]  the largest of |c_e| and c_i


class _Round(NamedTuple):
    """What the next inner step goes on with; the names are those of the state."""

    inner: State
    y: Array
    z: Array
    penalty: Array
    missed: Array
    accuracy: Array
    rounds: Array
    failures: Array
    spent: Evaluations
    multipliers: Multipliers
    code: Array  # int32[]


@cached_factory
def augmented_lagrangian(
    inner: GradientTransformation, penalty: Hyper = 10.0, *, gtol: Hyper | None = None
) -> GradientTransformation:
    """Constraints for any method that minimizes: one update of it on L an update, in rounds.

    At the end of each round there are new multipliers, or a larger rho.

    L = f + y'c_e + rho / 2 |c_e|**2 + (|max(z + rho c_i, 0)|**2 - |z|**2) / 2 rho
    y <- y + rho c_e,  z <- max(z + rho c_i, 0);  rho <- 10 rho if max(|c_e|, |max(c_i, -z / rho)|) did not halve

    inner: any solver (lbfgs, newton, lbfgsb with bounds, …), which minimizes L.
    penalty: the first rho, > 0; 10, which grows where it is too small.
    gtol: converged when violation and max|grad L| are at most this times max(1, |f|), >= 0; None: sqrt(eps) of the
        dtype. `tol` takes its place.

    init(params, value_fn=, equality=None, inequality=None, bounds=None, has_aux=False) and update(updates, state,
    params, the same arguments, tol=None); see `interior_point` for them. bounds go to the inner method. An update
    evaluates what the inner one does and, where a round ends, what the inner init does.

    State: that of inner, and two numbers a parameter and constraint. Status: INFEASIBLE where no step lowers the
    violation; STUCK where rho grows beyond bounds or the inner method fails, as it does where the multipliers have no
    bound (x**2 <= 0).

    Raises what `interior_point` does, and TransformationError if inner is no solver. Source: Birgin & Martínez 2014,
    algorithm 4.1, doi:10.1137/1.9781611973365. Not where high accuracy is wanted and n is small: `interior_point` takes
    a tenth of the evaluations.

    >>> method, ring = jo.augmented_lagrangian(jo.lbfgs()), lambda x: x @ x - 2
    >>> found = jo.minimize(lambda x: jnp.sum(x), -jnp.ones(2), method, equality=ring)
    >>> round(float(found.value), 2)
    -2.0
    """
    inner = errors.check_pair("augmented_lagrangian", "inner", inner)
    name = f"augmented_lagrangian({name_of(inner)})"
    errors.check_hyper("augmented_lagrangian", "penalty", penalty, POSITIVE)
    check_given("augmented_lagrangian", NONNEGATIVE, gtol=gtol)
    start, step = filter_kwargs(inner.init, 1), filter_kwargs(inner.update, 3)

    def init(
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        equality: Callable[..., PyTree] | None = None,
        inequality: Callable[..., PyTree] | None = None,
        bounds: tuple[PyTree, PyTree] | None = None,
        has_aux: bool = False,
        **extra_args: Any,
    ) -> AugmentedLagrangianState:
        problem = program(name, params, value_fn, equality, inequality, bounds, has_aux, extra_args)
        rho = value_at(penalty, zero_count()).astype(problem.x.dtype)
        return _start(name, _Inner(start, step, bounds), problem, params, rho)

    def update(
        updates: Updates,
        state: AugmentedLagrangianState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        equality: Callable[..., PyTree] | None = None,
        inequality: Callable[..., PyTree] | None = None,
        bounds: tuple[PyTree, PyTree] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, AugmentedLagrangianState]:
        problem = program(name, params, value_fn, equality, inequality, bounds, has_aux, extra_args)
        limit = tolerance(problem.x, state.count, eps_of(problem.x) ** 0.5, gtol, tol).value
        return _advance(_Inner(start, step, bounds), problem, updates, state, params, limit)

    return transform(name, init, update, needs_params=True, state_type=AugmentedLagrangianState, solver=True)


def _lagrangian(problem: Program, y: Array, z: Array, rho: Array) -> Callable[[Params], tuple[Array, Any]]:
    """L, with (f, c_e, c_i) and what value_fn returns beside its value."""

    def value(params: Params) -> tuple[Array, tuple[Array, PyTree]]:
        F, aux = problem.evaluate(tree.ravel(params)[0].astype(problem.x.dtype))
        f, c_e, c_i = problem.parts(F)
        shifted = jnp.maximum(z + rho * c_i, 0)
        L = f + y @ c_e + 0.5 * rho * (c_e @ c_e) + (shifted @ shifted - z @ z) / (2 * rho)
        return L, (F, aux)

    return value


def _start(name: str, inner: _Inner, problem: Program, params: Params, rho: Array) -> AugmentedLagrangianState:
    """The state before the first update, without multipliers."""
    y, z = jnp.zeros(problem.p, rho.dtype), jnp.zeros(problem.q, rho.dtype)
    accuracy = jnp.full_like(rho, SHARPER)
    state = inner.start(params, **inner.arguments(_lagrangian(problem, y, z, rho), accuracy))
    _check_solver(name, "inner", state, hasattr(state, "info") and hasattr(state, "aux"))
    _, aux = state.aux
    nil, inf = problem.unravel(jnp.zeros_like(problem.x)), jnp.full_like(rho, jnp.inf)
    return own_buffers(
        AugmentedLagrangianState(
            count=zero_count(),
            inner=state,
            y=y,
            z=z,
            penalty=rho,
            missed=jnp.full_like(rho, np.finfo(rho.dtype).max),
            accuracy=accuracy,
            rounds=zero_count(),
            failures=zero_count(),
            spent=Evaluations(zero_count(), zero_count(), zero_count()),
            multipliers=Multipliers(*problem.unstack(joined([y, z])), nil, nil),
            kkt=KKT(inf, inf, inf),
            aux=aux,
            info=state.info._replace(value=inf, optimality=inf, status=status()),
        )
    )


def _advance(
    inner: _Inner, problem: Program, updates: Updates, state: AugmentedLagrangianState, params: Params, gtol: Array
) -> tuple[Updates, AugmentedLagrangianState]:
    """A step of the inner method, and at the end of its run another L."""
    running = is_running(state.info)
    step, here = _look(inner, problem, updates, state, params, running)
    info = here.inner.info
    evaluations = Evaluations(*(a + b for a, b in zip(state.spent, info.evaluations, strict=True)))

    def turn() -> _Round:
        return _turn(inner, problem, state, here, gtol, evaluations)

    def go_on() -> _Round:
        return _Round(
            here.inner, state.y, state.z, state.penalty, state.missed, state.accuracy, state.rounds, state.failures,
            state.spent, state.multipliers, state.info.status.code,
        )  # fmt: skip

    now = jax.lax.cond(running & ~is_running(info), turn, go_on)
    return step, AugmentedLagrangianState(
        count=next_count(state.count),
        inner=now.inner,
        y=now.y,
        z=now.z,
        penalty=now.penalty,
        missed=now.missed,
        accuracy=now.accuracy,
        rounds=now.rounds,
        failures=now.failures,
        spent=now.spent,
        multipliers=now.multipliers,
        kkt=KKT(info.optimality, here.violation, largest(now.z * here.c_i)),
        aux=here.aux,
        info=Info(
            value=here.f,
            optimality=jnp.maximum(info.optimality, here.violation),
            step_norm=info.step_norm,
            accepted=info.accepted,
            evaluations=evaluations,
            status=Status(now.code),
        ),
    )


def _look(
    inner: _Inner, problem: Program, updates: Updates, state: AugmentedLagrangianState, params: Params, running: Array
) -> tuple[Updates, _Here]:
    """The inner step, zero if the run is over, and where it leads."""
    value = _lagrangian(problem, state.y, state.z, state.penalty)
    step, after = inner.step(updates, state.inner, params, **inner.arguments(value, state.accuracy))
    step = jax.tree.map(lambda s: jnp.where(running, s, jnp.zeros_like(s)), step)
    x = problem.x + tree.ravel(step)[0].astype(problem.x.dtype)
    F, aux = after.aux
    f, c_e, c_i = problem.parts(F)
    violation = jnp.maximum(largest(c_e), largest(jnp.maximum(c_i, 0)))
    return step, _Here(after, x, f, c_e, c_i, aux, violation)


def _turn(
    inner: _Inner, problem: Program, state: AugmentedLagrangianState, here: _Here, gtol: Array, spent: Evaluations
) -> _Round:
    """L is minimized: new multipliers, and a larger rho if the violation did not fall enough."""
    y, z, rho = state.y, state.z, state.penalty
    left = jnp.maximum(largest(here.c_e), largest(jnp.maximum(here.c_i, -z / rho)))
    y_new, z_new = y + rho * here.c_e, jnp.maximum(z + rho * here.c_i, 0)
    size = jnp.maximum(1.0, jnp.abs(here.f))
    short = here.inner.info.optimality <= state.accuracy * size
    failures = jnp.where(short, np.int32(0), state.failures + np.int32(1))
    larger = jnp.where(left > jnp.maximum(FALLEN * state.missed, gtol), GROWN * rho, rho)
    accuracy = jnp.maximum(SHARPER * state.accuracy, 0.5 * gtol)
    next_value = _lagrangian(problem, y_new, z_new, larger)
    return _Round(
        inner=inner.start(problem.unravel(here.x), **inner.arguments(next_value, accuracy)),
        y=y_new,
        z=z_new,
        penalty=larger,
        missed=left,
        accuracy=accuracy,
        rounds=next_count(state.rounds),
        failures=failures,
        spent=spent,
        multipliers=_multipliers(problem, inner.bounds, here.x, y_new, z_new),
        code=_status(problem, here, left, larger, failures, gtol * size, size).code,
    )


def _status(
    problem: Program, here: _Here, left: Array, rho: Array, failures: Array, limit: Array, size: Array
) -> Status:
    """Is it over? left: violation and complementarity; rho: the next one; limit: what is small, of f's size."""
    info = here.inner.info
    done = (here.violation <= limit) & (left <= limit) & (info.optimality <= limit)
    # a violation that no step lowers: |J'c_+| max(1, |x|) <= FLAT |c_+|**2, c_+ what is violated of c
    broken = joined([here.c_e, jnp.maximum(here.c_i, 0)])
    _, pull = jax.vjp(lambda x: problem.evaluate(x)[0][1:], here.x)
    fall = norm(pull(broken)[0]) * jnp.maximum(1, norm(here.x))
    nowhere = (here.violation > limit) & (fall <= FLAT * (broken @ broken))
    beyond = rho * jnp.minimum(1, broken @ broken / size) > eps_of(here.x) ** -BEYOND
    failed = failures >= FAILURES
    return status(
        (done, Code.GRADIENT_SMALL),
        (~jnp.isfinite(here.f), Code.NOT_FINITE),
        ((beyond | failed) & nowhere, Code.INFEASIBLE),
        (failed & (left <= limit) & info.status.success, Code.DECREASE_SMALL),
        (beyond | failed, Code.STUCK),
    )


def _check_solver(name: str, argument: str, state: Any, fits: bool) -> None:
    """A method that reports how it stands."""
    if not fits:
        say(TransformationError, name, f"{argument} must be a solver such as lbfgs(), newton() or lbfgsb(), whose "
            "state reports how it stands", f"the state {type(state).__name__}")  # fmt: skip


def _multipliers(problem: Program, bounds: Any, x: Array, y: Array, z: Array) -> Multipliers:
    """y and z, and those of the bounds from the gradient that these leave."""
    low = high = jnp.zeros_like(x)
    if bounds is not None:
        weights = joined([jnp.ones(1, x.dtype), y, z])
        g = jax.grad(lambda x: weights @ problem.evaluate(x)[0])(x)
        low = jnp.where(x <= problem.lower, jnp.maximum(g, 0), 0)
        high = jnp.where(x >= problem.upper, jnp.maximum(-g, 0), 0)
    return Multipliers(*problem.unstack(joined([y, z])), problem.unravel(low), problem.unravel(high))
