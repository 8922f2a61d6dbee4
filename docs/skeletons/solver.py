"""Gradient descent with Armijo's test: a skeleton of a solver's page, to be copied to jaxopt_ko/solvers/NAME.py.

minimize f(x), x in R^n. Armijo 1966, doi:10.2140/pjm.1966.16.1; Nocedal & Wright 2006, Algorithm 3.1, with one
evaluation of f and its gradient an update. CONTRIBUTING.md, "Adding a solver", says what else a solver needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import largest, length, next_count, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, OPEN_FRACTION
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
from jaxopt_ko.solvers.problem.objective import objective
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Updates

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
    check_given(name, NONNEGATIVE, gtol=gtol)

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
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g))
        small = largest(g) <= tolerance(g, zero_count(), eps_of(g) ** 0.5, gtol, tol).value
        info = first_info(
            f, largest(g), status((~finite, Code.NOT_FINITE), (small, Code.GRADIENT_SMALL)), function=1, gradient=1
        )
        return own_buffers(ArmijoState(zero_count(), g, jnp.ones_like(f), aux, info))  # they may be donated

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
        over = ~is_running(state.info)

        # The trial
        p = -a * g
        x_new = problem.reach(x, p)
        f_new, aux_new, g_new = problem.evaluate(x_new)
        rho = gain_ratio(f - f_new, a * (g @ g))
        finite = jnp.isfinite(f_new) & jnp.all(jnp.isfinite(g_new))
        taken = finite & (rho > ACCEPT) & ~over
        a = jnp.where(over, a, jnp.where(taken, GROWTH * a, h.shrink.astype(a.dtype) * a))
        f, g, aux = tree.where(taken, (f_new, g_new, aux_new), (f, g, state.aux))

        # Is it over?
        small = largest(g) <= tolerance(g, state.count, eps_of(g) ** 0.5, gtol, tol).value
        lost = ~taken & jnp.all(x_new == x)  # the step is too short to change x
        info = Info(
            value=f,
            optimality=largest(g),
            step_norm=length(p),
            accepted=taken,
            evaluations=counted(state.info.evaluations),
            status=status(
                (over, state.info.status.code),
                (jnp.isneginf(f_new), Code.UNBOUNDED),
                (small, Code.GRADIENT_SMALL),
                (lost, Code.SEARCH_FAILED),
            ),
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
