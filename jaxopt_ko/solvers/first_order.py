"""Any transformation as a solver: what a training loop does, one step and one evaluation an update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.core.method import filter_kwargs, name_of
from jaxopt_ko.core.numerics import first_true, largest, next_count, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.solvers.engine.convergence import Course, bound, carried_off, course, endless, onward, tolerance
from jaxopt_ko.solvers.problem.objective import objective
from jaxopt_ko.types import Code, Evaluations, GradientTransformation, Info, Params, PyTree, State, Status, Updates


class FirstOrderState(NamedTuple):
    """State of `first_order`."""

    count: Array  # int32[]  updates made
    inner: State  # of the transformation
    grad: Updates  # like params, at the parameters as they now are
    value: Array  # float[]  there
    best: Params  # like params, the best point seen
    aux: PyTree  # what the function returned there beside its value
    course: Course  # of the run
    info: Info  # of the last update; its value is that of the best point


def first_order(pair: GradientTransformation) -> GradientTransformation:
    """`pair`, told the value and the gradient at each point it steps to: the solver that `minimize` makes of it.

    init(params, value_fn=, has_aux=False), update(updates, state, params, value_fn=, has_aux=False, tol=None). Stops
    when max|g| <= tol, by default sqrt(eps), or less where no gradient was large (see `descent`), or where f is not
    finite or falls without bound. Steps may go uphill; the best point seen is kept.
    """
    name = f"first_order({name_of(pair)})"
    move = filter_kwargs(pair.update, 3)

    def init(
        params: Params, *, value_fn: Callable[..., Any] | None = None, has_aux: bool = False, **extra_args: Any
    ) -> FirstOrderState:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        value, aux, g = problem.evaluate(problem.x)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(g))
        one = jnp.ones((), jnp.int32)
        info = Info(
            value, largest(g), jnp.zeros_like(value), jnp.zeros((), bool),
            Evaluations(one, jnp.copy(one), zero_count()),
            Status(jnp.where(finite, np.int32(Code.RUNNING), np.int32(Code.NOT_FINITE))),
        )  # fmt: skip
        grad, inner = problem.unravel(g), filter_kwargs(pair.init, 1)(params)
        run = course(value, problem.x, info.optimality)
        state = FirstOrderState(zero_count(), inner, grad, value, jax.tree.map(jnp.asarray, params), aux, run, info)
        return jax.tree.map(jnp.copy, state)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

    def update(
        updates: Updates,
        state: FirstOrderState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, FirstOrderState]:
        count, inner, grad, value, best, aux, run, info = state
        function = filter_kwargs(value_fn, 1) if value_fn is not None else None
        step, inner = move(
            grad, inner, params, value=value, grad=grad, value_fn=function, has_aux=has_aux, **extra_args
        )
        new = apply_updates(params, step)
        problem = objective(name, new, value_fn, has_aux, extra_args)
        x, before = problem.x, tree.ravel(grad)[0]
        value, aux_new, g = problem.evaluate(x)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(g))
        better = finite & (value <= info.value)

        def better_of(a: PyTree, b: PyTree) -> PyTree:
            return jax.tree.map(lambda a, b: jnp.where(better, a, b), a, b)

        eps = np.finfo(value.dtype).eps
        gtol = tolerance(value, count, eps**0.5, tol)
        optimality, moved = largest(g), x - tree.ravel(params)[0]
        run = onward(run, optimality, finite, jnp.zeros((), bool))
        # a small gradient where f is higher than it has been is no solution
        small = better & (optimality <= bound(run, gtol))
        falls = jnp.isneginf(value) | (small & carried_off(run, x, value, g))
        falls |= better & ~small & endless(run, x, value, moved, before, g)
        code = first_true(
            [info.status.code == np.int32(Code.NOT_FINITE), falls, ~finite, small],
            [Code.NOT_FINITE, Code.UNBOUNDED, Code.DIVERGED, Code.GRADIENT_SMALL],
            Code.RUNNING,
        )
        best_value = jnp.where(better, value, info.value)
        functions, gradients, products = info.evaluations
        info = Info(
            best_value, jnp.where(better, optimality, info.optimality), tree.global_norm(step).astype(value.dtype),
            better, Evaluations(next_count(functions), next_count(gradients), products), Status(code),
        )  # fmt: skip
        grad = problem.unravel(g)
        return step, FirstOrderState(
            next_count(count), inner, grad, value, better_of(new, best), better_of(aux_new, aux), run, info
        )

    return transform(name, init, update, needs_params=True, solver=True)
