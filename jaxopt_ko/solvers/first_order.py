"""Any transformation as a solver: what a training loop does, one step and one evaluation an update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import tree
from jaxopt_ko.compose import apply_updates
from jaxopt_ko.lift import name_of, taking, transform
from jaxopt_ko.numerics import next_count, value_at, zero_count
from jaxopt_ko.solvers.objective import objective
from jaxopt_ko.types import Code, Evaluations, GradientTransformation, Info, Params, PyTree, State, Status, Updates


class FirstOrderState(NamedTuple):
    """State of `first_order`."""

    count: Array  # int32[]  updates made
    inner: State  # of the transformation
    grad: Updates  # like params, at the parameters as they now are
    value: Array  # float[]  there
    best: Params  # like params, the best point seen
    aux: PyTree  # what the function returned there beside its value
    info: Info  # of the last update; its value is that of the best point


def first_order(pair: GradientTransformation) -> GradientTransformation:
    """`pair`, told the value and the gradient at each point it steps to: the solver that `minimize` makes of it.

    init(params, value_fn=, has_aux=False), update(updates, state, params, value_fn=, has_aux=False, tol=None). Stops
    when max|g| <= tol max(1, |f|), tol being sqrt(eps) by default, or where f is not finite. Steps may go uphill;
    the best point seen is kept.
    """
    who = f"first_order({name_of(pair)})"
    move = taking(pair.update, 3)

    def init(
        params: Params, *, value_fn: Callable[..., Any] | None = None, has_aux: bool = False, **words: Any
    ) -> FirstOrderState:
        problem = objective(who, params, value_fn, has_aux, words)
        value, aux, g = problem.evaluate(problem.x)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(g))
        one = jnp.ones((), jnp.int32)
        info = Info(
            value, jnp.max(jnp.abs(g), initial=0.0), jnp.zeros_like(value), jnp.zeros((), bool),
            Evaluations(one, jnp.copy(one), zero_count()),
            Status(jnp.where(finite, np.int32(Code.RUNNING), np.int32(Code.NOT_FINITE))),
        )  # fmt: skip
        grad, inner = problem.unravel(g), taking(pair.init, 1)(params)
        state = FirstOrderState(zero_count(), inner, grad, value, jax.tree.map(jnp.asarray, params), aux, info)
        return jax.tree.map(jnp.copy, state)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

    def update(
        updates: Updates,
        state: FirstOrderState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **words: Any,
    ) -> tuple[Updates, FirstOrderState]:
        count, inner, grad, value, best, aux, info = state
        function = taking(value_fn, 1) if value_fn is not None else None
        step, inner = move(grad, inner, params, value=value, grad=grad, value_fn=function, has_aux=has_aux, **words)
        new = apply_updates(params, step)
        problem = objective(who, new, value_fn, has_aux, words)
        value, aux_new, g = problem.evaluate(problem.x)
        finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(g))
        better = finite & (value <= info.value)

        def better_of(a: PyTree, b: PyTree) -> PyTree:
            return jax.tree.map(lambda a, b: jnp.where(better, a, b), a, b)

        eps = np.finfo(value.dtype).eps
        gtol = jnp.asarray(eps**0.5 if tol is None else value_at(tol, count), value.dtype)
        optimality = jnp.max(jnp.abs(g), initial=0.0)
        code = jnp.select(
            [
                info.status.code == np.int32(Code.NOT_FINITE),
                ~finite,
                optimality <= gtol * jnp.maximum(1, jnp.abs(value)),
            ],
            [np.int32(c) for c in (Code.NOT_FINITE, Code.DIVERGED, Code.GRADIENT_SMALL)],
            np.int32(Code.RUNNING),
        )
        # a small gradient where f is higher than it has been is no solution
        code = jnp.where((code == np.int32(Code.GRADIENT_SMALL)) & ~better, np.int32(Code.RUNNING), code)
        best_value = jnp.where(better, value, info.value)
        functions, gradients, products = info.evaluations
        info = Info(
            best_value, jnp.where(better, optimality, info.optimality), tree.global_norm(step).astype(value.dtype),
            better, Evaluations(next_count(functions), next_count(gradients), products), Status(code),
        )  # fmt: skip
        grad = problem.unravel(g)
        return step, FirstOrderState(
            next_count(count), inner, grad, value, better_of(new, best), better_of(aux_new, aux), info
        )

    return transform(who, init, update, needs_params=True, solver=True)
