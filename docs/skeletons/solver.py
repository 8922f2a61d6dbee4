"""Gradient descent with Armijo's test: a skeleton of a solver's page, to be copied to jaxopt_ko/solvers/NAME.py.

minimize f(x), x in R^n. Armijo 1966, doi:10.2140/pjm.1966.16.1; Nocedal & Wright 2006, Algorithm 3.1, with one
evaluation of f and its gradient an update. CONTRIBUTING.md, "Adding a solver", says what else a solver needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import first_true, largest, length, next_count, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, OPEN_FRACTION, check_hyper
from jaxopt_ko.solvers.problem.objective import objective
from jaxopt_ko.types import Code, Evaluations, GradientTransformation, Hyper, Info, Params, PyTree, Status, Updates

ACCEPT = 1e-4  # bound on rho, above which x + p is taken
GROWTH = 2  # times a, after a step that was taken


class ArmijoState(NamedTuple):
    """State of `armijo_descent`; all of it at the parameters as they now are."""

    count: Array  # int32[]      updates made
    gradient: Array  # float[n]  g
    rate: Array  # float[]       a, the length of the next trial step over |g|
    aux: PyTree  # what value_fn returned beside its value
    info: Info  # of the last update: all that a driver looks at


@cached_factory
def armijo_descent(shrink: Hyper = 0.5, *, gtol: Hyper | None = None) -> GradientTransformation:
    """One trial step of gradient descent an update, kept if f falls by enough.

    p   = -a g                              a = 1 at first
    rho = (f(x) - f(x + p)) / (a g'g)
    x + p is taken if rho > 1e-4, and a is doubled; else x stays, and a becomes shrink a

    init(params, value_fn=, has_aux=False, tol=None) and update(updates, state, params, ...) with the same arguments.
    A rejected step is exactly zero. The updates that come in are not read.
    gtol: converged when max|g| <= gtol, sqrt(eps) by default; `tol` takes its place.

    Not for an ill-conditioned f: lbfgs.
    """
    name = "armijo_descent"
    if gtol is not None:
        check_hyper(name, "gtol", gtol, NONNEGATIVE)

    def bound(tol: Any, count: Array, g: Array) -> Array:
        """float[]: what max|g| may be at a solution."""
        given = gtol if tol is None else tol
        return jnp.asarray(np.finfo(g.dtype).eps ** 0.5 if given is None else value_at(given, count), g.dtype)

    def init(
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> ArmijoState:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        f, aux, g = problem.evaluate(problem.x)
        count, one = zero_count(), jnp.ones((), jnp.int32)
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g))
        small = largest(g) <= bound(tol, count, g)
        code = first_true([~finite, small], [Code.NOT_FINITE, Code.GRADIENT_SMALL], Code.RUNNING)
        info = Info(
            value=f,
            optimality=largest(g),
            step_norm=jnp.zeros_like(f),
            accepted=jnp.zeros((), bool),
            evaluations=Evaluations(function=one, gradient=one, product=count),
            status=Status(code),
        )
        state = ArmijoState(count, g, jnp.ones_like(f), aux, info)
        return jax.tree.map(jnp.copy, state)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

    def update(
        updates: Updates,
        state: ArmijoState,
        params: Params,
        *,
        h: Scalars,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, ArmijoState]:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        x, f, g, a = problem.x, state.info.value, state.gradient, state.rate
        over = state.info.status.code != np.int32(Code.RUNNING)

        # The trial
        p = -a * g
        x_new = problem.reach(x, p)
        f_new, aux_new, g_new = problem.evaluate(x_new)
        rho = (f - f_new) / (a * (g @ g))
        finite = jnp.isfinite(f_new) & jnp.all(jnp.isfinite(g_new))
        taken = finite & (rho > ACCEPT) & ~over
        a = jnp.where(over, a, jnp.where(taken, GROWTH * a, h.shrink.astype(a.dtype) * a))
        f, g, aux = tree.where(taken, (f_new, g_new, aux_new), (f, g, state.aux))

        # Is it over?
        small = largest(g) <= bound(tol, state.count, g)
        lost = ~taken & jnp.all(x_new == x)  # the step is too short to change x
        code = first_true(
            [over, jnp.isneginf(f_new), small, lost],
            [state.info.status.code, Code.UNBOUNDED, Code.GRADIENT_SMALL, Code.SEARCH_FAILED],
            Code.RUNNING,
        )
        functions, gradients, products = state.info.evaluations
        info = Info(
            value=f,
            optimality=largest(g),
            step_norm=length(p),
            accepted=taken,
            evaluations=Evaluations(next_count(functions), next_count(gradients), products),
            status=Status(code),
        )
        step = problem.unravel(jnp.where(taken, p, jnp.zeros_like(p)))
        return step, ArmijoState(next_count(state.count), g, a, aux, info)

    return transform(
        name,
        init,
        update,
        needs_params=True,
        state_type=ArmijoState,
        hypers={"shrink": (shrink, OPEN_FRACTION)},
        solver=True,
    )
