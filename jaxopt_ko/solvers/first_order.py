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
from jaxopt_ko.core.numerics import largest, next_count, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.solvers.engine.convergence import (
    Course,
    bound,
    carried_off,
    counted,
    course,
    endless,
    first_info,
    onward,
    own_buffers,
    status,
    tolerance,
)
from jaxopt_ko.solvers.problem.objective import objective
from jaxopt_ko.types import Code, GradientTransformation, Info, Params, PyTree, State, Updates


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
        info = first_info(value, largest(g), status((~finite, Code.NOT_FINITE)), function=1, gradient=1)
        return own_buffers(
            FirstOrderState(
                count=zero_count(),
                inner=filter_kwargs(pair.init, 1)(params),
                grad=problem.unravel(g),
                value=value,
                best=jax.tree.map(jnp.asarray, params),
                aux=aux,
                course=course(value, problem.x, info.optimality),
                info=info,
            )
        )

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
        function = filter_kwargs(value_fn, 1) if value_fn is not None else None
        step, inner = move(
            state.grad, state.inner, params,
            value=state.value, grad=state.grad, value_fn=function, has_aux=has_aux, **extra_args,
        )  # fmt: skip
        new = apply_updates(params, step)
        problem = objective(name, new, value_fn, has_aux, extra_args)
        x, info = problem.x, state.info
        value, aux, g = problem.evaluate(x)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(g))
        better = finite & (value <= info.value)
        optimality = largest(g)
        run = onward(state.course, optimality, finite, jnp.zeros((), bool))
        gtol = tolerance(value, state.count, np.finfo(value.dtype).eps ** 0.5, tol)
        small = better & (optimality <= bound(run, gtol))  # where f is higher than it has been, that is no solution
        moved, before = x - tree.ravel(params)[0], tree.ravel(state.grad)[0]
        falls = jnp.isneginf(value) | (small & carried_off(run, x, value, g))
        falls |= better & ~small & endless(run, x, value, moved, before, g)
        over = status(
            (info.status.code == np.int32(Code.NOT_FINITE), Code.NOT_FINITE),
            (falls, Code.UNBOUNDED),
            (~finite, Code.DIVERGED),
            (small, Code.GRADIENT_SMALL),
        )
        report = Info(
            value=jnp.where(better, value, info.value),
            optimality=jnp.where(better, optimality, info.optimality),
            step_norm=tree.global_norm(step).astype(value.dtype),
            accepted=better,
            evaluations=counted(info.evaluations),
            status=over,
        )
        best, aux = tree.where(better, (new, aux), (state.best, state.aux))
        return step, FirstOrderState(next_count(state.count), inner, problem.unravel(g), value, best, aux, run, report)

    return transform(name, init, update, needs_params=True, solver=True)
