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
from jaxopt_ko.core.numerics import first_true, joined, largest, next_count, norm, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE, TransformationError, check_hyper, say
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

GROWTH = 10.0  # of rho, after a round in which the violation did not fall enough
FALL = 0.5  # to which part it is to fall
SHARPER = 0.1  # times the accuracy of a round, the next one's
LARGEST = 0.7  # 1/eps to this power: the largest rho min(1, |c_+|**2 / max(1, |f|)), the same in other units of c
FLAT = 0.1  # what a step as long as x takes off the violation, at most, where it has a minimum
PATIENCE = 3  # rounds, one after the other, that the inner method ended short of their accuracy


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


@cached_factory
def augmented_lagrangian(
    inner: GradientTransformation, penalty: Hyper = 10.0, *, gtol: Hyper | None = None
) -> GradientTransformation:
    """One update of `inner` on L an update, and at the end of each minimization new multipliers, or a larger rho.

    y <- y + rho c_e,  z <- max(z + rho c_i, 0);  rho <- 10 rho if max(|c_e|, |max(c_i, -z / rho)|) did not halve

    inner: any solver (lbfgs, newton, lbfgsb with bounds, ...). penalty: the first rho.
    init(params, value_fn=, equality=None, inequality=None, bounds=None, has_aux=False) and update(updates, state,
    params, the same arguments, tol=None); see `interior_point` for them. bounds go to the inner method. An update
    evaluates what the inner one does and, where a round ends, what the inner init does.

    gtol: converged when violation and max|grad L| are at most this times max(1, |f|); sqrt(eps) by default, `tol`
    takes its place. Status: INFEASIBLE where no step lowers the violation; STUCK where rho grows beyond
    bounds or the inner method fails, as it does where the multipliers have no bound (x**2 <= 0).
    Raises what `interior_point` does, and TransformationError if inner is no solver. Not where high accuracy is
    wanted and n is small: interior_point takes a tenth of the evaluations.
    """
    inner = errors.check_pair("augmented_lagrangian", "inner", inner)
    name = f"augmented_lagrangian({name_of(inner)})"
    check_hyper("augmented_lagrangian", "penalty", penalty, POSITIVE)
    if gtol is not None:
        check_hyper("augmented_lagrangian", "gtol", gtol, NONNEGATIVE)
    start_inner, step_inner = filter_kwargs(inner.init, 1), filter_kwargs(inner.update, 3)

    def lagrangian(problem: Program, y: Array, z: Array, rho: Array) -> Callable[[Params], tuple[Array, Any]]:
        def value(params: Params) -> tuple[Array, tuple[Array, PyTree]]:
            F, aux = problem.evaluate(tree.ravel(params)[0].astype(problem.x.dtype))
            f, c_e, c_i = F[0], F[1 : 1 + problem.p], F[1 + problem.p :]
            shifted = jnp.maximum(z + rho * c_i, 0)
            L = f + y @ c_e + 0.5 * rho * (c_e @ c_e) + (shifted @ shifted - z @ z) / (2 * rho)
            return L, (F, aux)

        return value

    def words_of(value: Callable[..., Any], bounds: Any, accuracy: Array) -> dict[str, Any]:
        return {"value_fn": value, "has_aux": True, "tol": accuracy} | ({} if bounds is None else {"bounds": bounds})

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
        x, rho = problem.x, value_at(penalty, zero_count()).astype(problem.x.dtype)
        y, z = jnp.zeros(problem.p, x.dtype), jnp.zeros(problem.q, x.dtype)
        accuracy = jnp.full_like(rho, SHARPER)
        state = start_inner(params, **words_of(lagrangian(problem, y, z, rho), bounds, accuracy))
        _check_solver(name, "inner", state, hasattr(state, "info") and hasattr(state, "aux"))
        _, aux = state.aux
        nil = jnp.zeros_like(x)
        trees = problem.unstack(joined([y, z]))
        multipliers = Multipliers(*trees, problem.unravel(nil), problem.unravel(nil))
        inf = jnp.full_like(rho, jnp.inf)
        zero = Evaluations(zero_count(), zero_count(), zero_count())
        info = state.info._replace(value=inf, optimality=inf, status=Status(jnp.asarray(np.int32(Code.RUNNING))))
        made = AugmentedLagrangianState(
            zero_count(), state, y, z, rho, jnp.full_like(rho, np.finfo(rho.dtype).max), accuracy, zero_count(),
            zero_count(), zero, multipliers, KKT(inf, inf, inf), aux, info,
        )  # fmt: skip
        return jax.tree.map(jnp.copy, made)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

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
        count, before, y, z, rho, missed, accuracy, rounds, failures, spent, multipliers, _, _, info = state
        eps, dtype = float(np.finfo(problem.x.dtype).eps), problem.x.dtype
        given = gtol if tol is None else tol
        gtol_ = jnp.asarray(eps**0.5 if given is None else value_at(given, count), dtype)
        running = info.status.code == np.int32(Code.RUNNING)

        value = lagrangian(problem, y, z, rho)
        step, after = step_inner(updates, before, params, **words_of(value, bounds, accuracy))
        step = jax.tree.map(lambda s: jnp.where(running, s, jnp.zeros_like(s)), step)
        x = problem.x + tree.ravel(step)[0].astype(dtype)
        F, aux = after.aux
        f, c_e, c_i = F[0], F[1 : 1 + problem.p], F[1 + problem.p :]
        size, violation = jnp.maximum(1.0, jnp.abs(f)), jnp.maximum(largest(c_e), largest(jnp.maximum(c_i, 0)))
        over = running & (after.info.status.code != np.int32(Code.RUNNING))
        evaluations = Evaluations(*(a + b for a, b in zip(spent, after.info.evaluations, strict=True)))

        def turn() -> Any:
            """L is minimized."""
            left = jnp.maximum(largest(c_e), largest(jnp.maximum(c_i, -z / rho)))
            y_new, z_new = y + rho * c_e, jnp.maximum(z + rho * c_i, 0)
            found = _multipliers(problem, bounds, x, y_new, z_new)
            limit = gtol_ * size
            done = (violation <= limit) & (left <= limit) & (after.info.optimality <= limit)
            # a violation that no step lowers: |J'c_+| max(1, |x|) <= FLAT |c_+|**2, c_+ what is violated of c
            broken = joined([c_e, jnp.maximum(c_i, 0)])
            _, pull = jax.vjp(lambda x: problem.evaluate(x)[0][1:], x)
            fall = norm(pull(broken)[0]) * jnp.maximum(1, norm(x))
            nowhere = (violation > limit) & (fall <= FLAT * (broken @ broken))
            failed = jnp.where(after.info.optimality <= accuracy * size, np.int32(0), failures + np.int32(1))
            larger = jnp.where(left > jnp.maximum(FALL * missed, gtol_), GROWTH * rho, rho)
            beyond = larger * jnp.minimum(1, broken @ broken / size) > eps**-LARGEST
            code = first_true(
                [
                    done,
                    ~jnp.isfinite(f),
                    (beyond | (failed >= PATIENCE)) & nowhere,
                    (failed >= PATIENCE) & (left <= limit) & after.info.status.success,
                    beyond | (failed >= PATIENCE),
                ],
                [Code.GRADIENT_SMALL, Code.NOT_FINITE, Code.INFEASIBLE, Code.DECREASE_SMALL, Code.STUCK],
                Code.RUNNING,
            )
            fine = jnp.maximum(SHARPER * accuracy, 0.5 * gtol_)
            at = problem.unravel(x)
            fresh = start_inner(at, **words_of(lagrangian(problem, y_new, z_new, larger), bounds, fine))
            return fresh, y_new, z_new, larger, left, fine, next_count(rounds), failed, evaluations, found, code

        def go_on() -> Any:
            return (
                after, y, z, rho, missed, accuracy, rounds, failures, spent, multipliers, info.status.code,
            )  # fmt: skip

        inner_, y, z, rho, missed, accuracy, rounds, failures, spent, multipliers, code = jax.lax.cond(
            over, turn, go_on
        )
        kkt = KKT(after.info.optimality, violation, largest(z * c_i))
        measure = jnp.maximum(after.info.optimality, violation)
        info = Info(f, measure, after.info.step_norm, after.info.accepted, evaluations, Status(code))
        return step, AugmentedLagrangianState(
            next_count(count), inner_, y, z, rho, missed, accuracy, rounds, failures, spent, multipliers, kkt, aux, info
        )

    return transform(name, init, update, needs_params=True, state_type=AugmentedLagrangianState, solver=True)


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
