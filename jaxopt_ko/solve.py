"""Drivers: run a solver's updates in one `lax.while_loop` until its status says stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxopt_ko import errors
from jaxopt_ko.compose import apply_updates
from jaxopt_ko.numerics import zero_count
from jaxopt_ko.solvers.least_squares import levenberg_marquardt
from jaxopt_ko.types import Code, GradientTransformation, Params, PyTree, Solution, State, Status


def least_squares(
    residual_fn: Callable[..., PyTree],
    params: Params,
    method: GradientTransformation | None = None,
    *,
    args: tuple[Any, ...] = (),
    max_steps: int = 2000,
) -> Solution:
    """min |residual_fn(params, *args)|**2 / 2 from `params`, by Levenberg-Marquardt unless another method is given.

    residual_fn -> pytree of the residuals, at least as many as parameters. value is half the sum of squares.

    Pure: it may be jitted, vmapped (each lane stops by itself), and differentiated by `args` (not through `params`,
    the start): the derivative of the solution is that of the equation J'r = 0, with the full Hessian.

    Raises, when traced, what the method raises. A run that fails says so in `status`; the params are then the best
    seen. Not for functions that are no sums of squares.
    """
    method = errors.check_pair("least_squares", "method", levenberg_marquardt() if method is None else method)

    def problem(args: tuple[Any, ...]) -> Callable[[Params], PyTree]:
        return lambda p: residual_fn(p, *args)

    def run(args: tuple[Any, ...]) -> tuple[Params, State, Array]:
        extra = {"residual_fn": problem(args)}
        first = jax.tree.map(jax.lax.stop_gradient, params)  # where it starts is not what it finds
        start = (first, method.init(first, **extra), zero_count())

        def goes_on(carry: tuple[Params, State, Array]) -> Array:
            _, state, steps = carry
            running: Array = state.info.status.code == np.int32(Code.RUNNING)
            return running & (steps < max_steps)

        def step(carry: tuple[Params, State, Array]) -> tuple[Params, State, Array]:
            at, state, steps = carry
            updates, state = method.update(jax.tree.map(jnp.zeros_like, at), state, at, **extra)
            return apply_updates(at, updates), state, steps + jnp.ones_like(steps)

        return jax.lax.while_loop(goes_on, step, start)

    def stationarity(p: Params, args: tuple[Any, ...]) -> Params:
        def objective(p: Params) -> Array:
            r, _ = ravel_pytree(problem(args)(p))
            return 0.5 * jnp.sum(r * r)

        return jax.grad(objective)(p)

    end, state, steps = run(jax.tree.map(jax.lax.stop_gradient, args))
    code = jnp.where(
        state.info.status.code == np.int32(Code.RUNNING), np.int32(Code.BUDGET_SPENT), state.info.status.code
    )
    end = implicit(stationarity, jax.lax.stop_gradient(end), args)
    return Solution(end, state.info.value, Status(code), steps, state.info.evaluations, state)


def implicit(condition: Callable[[Params, Any], Params], solution: Params, args: Any) -> Params:
    """`solution`, with the derivative by `args` that condition(solution, args) = 0 gives it.

    dx = -(d condition / dx)^-1 (d condition / d args) d args, solved densely; forward and reverse mode.
    """
    x, unravel = ravel_pytree(solution)

    def equation(x: Array, args: Any) -> Array:
        return ravel_pytree(condition(unravel(x), args))[0]

    @jax.custom_jvp
    def solved(x: Array, args: Any) -> Array:
        return x

    @solved.defjvp
    def _(primals: tuple[Array, Any], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
        (x, args), (_, d_args) = primals, tangents
        H = jax.jacfwd(equation)(x, args)
        _, d_equation = jax.jvp(lambda a: equation(x, a), (args,), (d_args,))
        return solved(x, args), -jnp.linalg.solve(H, d_equation)

    return unravel(solved(x, args))
