"""Drivers: run a solver's updates in one `lax.while_loop` until its status says stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors, tree
from jaxopt_ko.drive import (
    MAX_STEPS,
    check_derivative,
    check_run,
    frozen,
    implicit,
    in_this_trace,
    jitted,
    settled,
    solve,
    start_of,
)
from jaxopt_ko.lift import method_of, taking
from jaxopt_ko.solvers.bounds import box
from jaxopt_ko.solvers.first_order import first_order
from jaxopt_ko.solvers.least_squares import levenberg_marquardt
from jaxopt_ko.solvers.quasi_newton import lbfgs
from jaxopt_ko.solvers.residuals import residuals
from jaxopt_ko.solvers.robust import LOSSES
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Multipliers, Params, PyTree, Solution, Status

DEFAULT_METHOD, DEFAULT_FIT = lbfgs(), levenberg_marquardt()


class _Setting(NamedTuple):
    """What a run is compiled for."""

    fun: Callable[..., Any]
    method: GradientTransformation
    has_aux: bool
    verbose: bool
    derivative: str
    length: int | None  # of an unrolled run


def minimize(
    fun: Callable[..., Any],
    params: Params,
    method: GradientTransformation = DEFAULT_METHOD,
    *,
    args: tuple[Any, ...] = (),
    tol: Hyper | None = None,
    max_steps: int | None = None,
    has_aux: bool = False,
    verbose: bool = False,
    equality: Callable[..., PyTree] | None = None,
    inequality: Callable[..., PyTree] | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
    derivative: str = "implicit",
) -> Solution:
    """min fun(params, *args) from `params`, by L-BFGS unless another method is given; any transformation will do.

    fun -> one number, or (number, aux) with has_aux. method: a solver (lbfgs, bfgs, nonlinear_cg, newton, newton_cg,
    lbfgsb, ...) runs one evaluation an update; of any other transformation (sgd, adam) the best point seen is kept.
    tol: bound on the gradient, max|g| <= tol max(1, |f|); by default from the dtype, see each method.
    max_steps: updates, 10,000 by default. bounds: (lower, upper) for the methods that take them (lbfgsb).
    equality, inequality: subject to equality(params, *args) = 0 and inequality(params, *args) <= 0, trees of arrays,
    for the methods that take them (interior_point); the solution then has multipliers and kkt.
    verbose: print a row for every update.

    Pure: jitted inside, so that a second call with the same fun and new data compiles nothing; it may be vmapped (each
    lane stops by itself) and differentiated by `args` and what fun closes over, in forward and reverse mode, again and
    again. derivative: "implicit" by the equation gradient = 0, with a dense Hessian; "implicit-cg" the same by
    conjugate gradients on Hessian-vector products; "unrolled" through all updates, as a scan of max_steps, with
    respect to `params`, too. With constraints it is the conditions of Karush, Kuhn and Tucker that are differentiated,
    always densely, with the constraints that are active at the solution; the multipliers have derivatives, too.

    Raises, when traced, TransformationError for constraints or bounds that the method does not take, TreeError if fun
    returns no real number, MissingArgumentError or what the method raises.
    A run that fails says so in `status`; the params are then the best seen. Not for sums of squares: least_squares
    needs a third of the evaluations.
    """
    who = "minimize"
    errors.check_function(who, "fun", fun)
    errors.check_args(who, args)
    method = errors.check_pair(who, "method", method)
    check_derivative(who, derivative, max_steps)
    if bounds is not None:
        box(who, params, bounds)  # once where its numbers can be seen
    for name, constraint in (("equality", equality), ("inequality", inequality)):
        if constraint is not None:
            errors.check_function(who, name, constraint)
    length = max_steps if derivative == "unrolled" else None
    setting = _Setting(fun, method, has_aux, verbose, derivative, length)
    constraints = _Constraints(equality, inequality)
    run = (setting, constraints)
    most = check_run(who, tol, max_steps, MAX_STEPS)
    solution: Solution = _minimize(run, settled(params), args, tol, most, bounds)
    return solution


class _Constraints(NamedTuple):
    """Functions of (params, *args), or None."""

    equality: Callable[..., PyTree] | None
    inequality: Callable[..., PyTree] | None


@jitted
def _minimize(
    run: tuple[_Setting, _Constraints],
    params: Params,
    args: tuple[Any, ...],
    tol: Any,
    max_steps: Any,
    bounds: Any,
) -> Solution:
    (fun, method, has_aux, verbose, derivative, length), constraints = run
    (fun, *limits), args = _in_this_trace([fun, *constraints], params, args)
    functions = {name: limit for name, limit in zip(constraints._fields, limits, strict=True) if limit is not None}
    words: dict[str, Any] = {"has_aux": has_aux}
    if tol is not None:
        words["tol"] = tol
    if bounds is not None:
        words["bounds"] = bounds
    unrolled = derivative == "unrolled"
    still: Callable[[Any], Any] = (lambda x: x) if unrolled else frozen  # where it starts is not what it finds
    start, given = still(params), still(args)
    words["value_fn"] = lambda p: fun(p, *given)
    for name, function in functions.items():
        words[name] = lambda p, function=function: function(p, *given)
    state = start_of(method, start, words)
    if state is None:
        method = first_order(method)
        state = method.init(start, **words)
    solution = solve(method, start, state, words, length if unrolled else max_steps, verbose, unrolled)
    if unrolled:
        return solution

    def value(p: Params, args: Any) -> Array:
        result: Any = fun(p, *args)
        return result[0] if has_aux else result  # type: ignore[no-any-return]

    if solution.multipliers is not None:
        return _constrained(solution, value, functions, args, bounds)
    fixed = _at_bounds("minimize", solution.params, bounds)
    found = frozen((solution.params, solution.value))
    condition, prox = jax.grad(value), method_of(method).prox
    if prox is not None:  # x = prox(x - g(x), 1)
        condition = lambda p, args: _less(p, prox(_less(p, jax.grad(value)(p, args)), 1.0))  # noqa: E731
    symmetric_cg = derivative == "implicit-cg" and prox is None
    end, best = implicit(condition, value, found, args, fixed, symmetric_cg)
    return solution._replace(params=end, value=best)


def _less(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: x - y.astype(x.dtype), a, b)


def _constrained(
    solution: Solution,
    value: Callable[[Params, Any], Array],
    functions: dict[str, Callable[..., PyTree]],
    args: tuple[Any, ...],
    bounds: Any,
) -> Solution:
    """The solution with the derivatives that the conditions of Karush, Kuhn and Tucker give it:

    grad f + J_e'y + J_i'z = 0 for x off its bounds    c_e = 0    c_i = 0 where it is active, elsewhere z = 0

    Active: z larger than what is left of c_i, a bound's multiplier larger than what is left to it.
    """
    none: Callable[..., PyTree] = lambda p, *args: None  # noqa: E731
    c_e, c_i = functions.get("equality", none), functions.get("inequality", none)
    x, multipliers = frozen((solution.params, solution.multipliers))
    y, z, lower, upper = multipliers
    dtype = solution.value.dtype
    active = jax.tree.map(lambda z, c: (z > -c).astype(z.dtype), z, frozen(c_i(x, *args)))

    def product(y: PyTree, c: PyTree) -> Array:
        terms = jax.tree.leaves(jax.tree.map(lambda y, c: jnp.sum(y * c), y, c))
        return sum((term.astype(dtype) for term in terms), start=jnp.zeros((), dtype))

    def lagrangian(x: Params, y: PyTree, z: PyTree, args: Any) -> Array:
        return value(x, args).astype(dtype) + product(y, c_e(x, *args)) + product(z, c_i(x, *args))

    def conditions(found: Any, given: Any) -> Any:
        (x, y, z), (args, active) = found, given
        limits = jax.tree.map(lambda on, c, z: jnp.where(on > 0, c, z), active, c_i(x, *args), z)
        return jax.grad(lagrangian)(x, y, z, args), c_e(x, *args), limits

    found = (x, y, z)
    at, low, high = (tree.ravel(part)[0] for part in (x, lower, upper))
    least, most = box("minimize", solution.params, frozen(bounds))
    held = (low > at - least) | (high > most - at)
    fixed = jnp.concatenate([held, jnp.zeros(tree.ravel((y, z))[0].size, bool)])
    (x, y, z), best = implicit(
        conditions,
        lambda found, given: value(found[0], given[0]),
        (found, frozen(solution.value)),
        (args, active),
        fixed,
    )
    return solution._replace(params=x, value=best, multipliers=Multipliers(y, z, lower, upper))


def _in_this_trace(functions: list[Any], params: Params, args: tuple[Any, ...]) -> tuple[list[Any], tuple[Any, ...]]:
    """`in_this_trace` for several functions of the same args; None stays None."""
    made: list[Any] = []
    whole = args
    for function in functions:
        if function is None:
            made.append(None)
            continue
        converted, extended = in_this_trace(function, params, args)
        own, foreign = len(args), slice(len(whole), len(whole) + len(extended) - len(args))
        whole = (*whole, *extended[own:])

        def call(p: Params, *given: Any, converted: Any = converted, own: int = own, foreign: slice = foreign) -> Any:
            return converted(p, *given[:own], *given[foreign])

        made.append(call)
    return made, whole


class _Fit(NamedTuple):
    """What a run on residuals is compiled for."""

    residual_fn: Callable[..., Any]
    jacobian_fn: Callable[..., Any] | None
    method: GradientTransformation
    loss: Any
    has_aux: bool
    verbose: bool
    derivative: str
    length: int | None  # of an unrolled run


def least_squares(
    residual_fn: Callable[..., PyTree],
    params: Params,
    method: GradientTransformation = DEFAULT_FIT,
    *,
    args: tuple[Any, ...] = (),
    bounds: tuple[PyTree, PyTree] | None = None,
    tol: Hyper | None = None,
    max_steps: int | None = None,
    jacobian_fn: Callable[..., PyTree] | None = None,
    loss: str | Callable[[Array], Array] = "linear",
    loss_scale: Any = 1.0,
    has_aux: bool = False,
    verbose: bool = False,
    derivative: str = "implicit",
) -> Solution:
    """min |residual_fn(params, *args)|**2 / 2 from `params`, by Levenberg-Marquardt unless another method is given.

    residual_fn -> pytree of the residuals, at least as many as parameters, or (residuals, aux) with has_aux. value is
    half the sum of squares or, with a robust loss, C**2 / 2 sum rho((r / C)**2), C = loss_scale. jacobian_fn(params,
    *args), bounds and loss: see `levenberg_marquardt`. A method for scalar functions (lbfgs) is given that value.
    tol: in the place of the method's own gtol and xtol.

    For the rest, max_steps, verbose, what may be done with it and derivatives, see `minimize`; a parameter at its
    bound has none. Raises, when traced, what the method raises. Not for functions that are no sums of squares.
    """
    who = "least_squares"
    errors.check_function(who, "residual_fn", residual_fn)
    errors.check_args(who, args)
    method = errors.check_pair(who, "method", method)
    check_derivative(who, derivative, max_steps)
    errors.check_loss(who, loss, LOSSES)
    if bounds is not None:
        box(who, params, bounds)  # once where its numbers can be seen
    length = max_steps if derivative == "unrolled" else None
    setting = _Fit(residual_fn, jacobian_fn, method, loss, has_aux, verbose, derivative, length)
    most = check_run(who, tol, max_steps, MAX_STEPS)
    solution: Solution = _least_squares(setting, settled(params), args, tol, most, bounds, loss_scale)
    return solution


@jitted
def _least_squares(
    setting: _Fit, params: Params, args: tuple[Any, ...], tol: Any, max_steps: Any, bounds: Any, loss_scale: Any
) -> Solution:
    residual_fn, jacobian_fn, method, loss, has_aux, verbose, derivative, length = setting
    count = len(args)
    fun, args = in_this_trace(residual_fn, params, args)
    unrolled = derivative == "unrolled"
    still: Callable[[Any], Any] = (lambda x: x) if unrolled else frozen  # where it starts is not what it finds
    start, given = still(params), still(args)
    problem: dict[str, Any] = {"loss": loss, "has_aux": has_aux}

    def cost(p: Params, arguments: tuple[Any, Any]) -> Array:
        args, scale = arguments
        made = residuals("least_squares", p, lambda p: fun(p, *args), loss_scale=scale, **problem)
        return made.cost(made.residual(made.x)[0])

    words: dict[str, Any] = {"residual_fn": lambda p: fun(p, *given), **problem, "bounds": bounds, "tol": tol}
    words["loss_scale"] = still(loss_scale)
    if jacobian_fn is not None:
        words["jacobian_fn"] = lambda p: jacobian_fn(p, *given[:count])
    if (state := start_of(method, start, words)) is None:
        words = {"value_fn": lambda p: cost(p, (given, still(loss_scale))), "bounds": bounds, "tol": tol}
        if (state := start_of(method, start, words)) is None:
            method = first_order(method)
            state = method.init(start, **words)
    solution = solve(method, start, state, words, length if unrolled else max_steps, verbose, unrolled)
    if unrolled:
        return solution
    found = frozen((solution.params, solution.value))
    fixed = _at_bounds("least_squares", solution.params, bounds)
    end, best = implicit(jax.grad(cost), cost, found, (args, loss_scale), fixed, derivative == "implicit-cg")
    return solution._replace(params=end, value=best)


def _at_bounds(who: str, params: Params, bounds: Any) -> Array | None:
    """bool[n]: which parameters of a solution are held by their bounds."""
    if bounds is None:
        return None
    lower, upper = box(who, params, frozen(bounds))
    x, _ = tree.ravel(params)
    return (x <= lower) | (x >= upper)


def root(
    fn: Callable[..., PyTree],
    params: Params,
    method: GradientTransformation = DEFAULT_FIT,
    *,
    args: tuple[Any, ...] = (),
    bounds: tuple[PyTree, PyTree] | None = None,
    tol: Hyper | None = None,
    max_steps: int | None = None,
    has_aux: bool = False,
    verbose: bool = False,
    derivative: str = "implicit",
) -> Solution:
    """fn(params, *args) = 0 from `params`, as many equations as unknowns, as the least squares of fn.

    value is |fn|**2 / 2. Success means that max|fn| <= sqrt(eps) max(1, max|fn| at the start), or tol in the place of
    sqrt(eps); a minimum of |fn| that is no root is the status NO_ROOT. The derivative of the root is
    -(dfn/dparams)**-1 dfn/dargs. For the rest see `least_squares`.

    Raises TreeError, when traced, if fn returns another number of elements than params has.
    """
    who = "root"
    errors.check_function(who, "fn", fn)
    errors.check_args(who, args)
    method = errors.check_pair(who, "method", method)
    check_derivative(who, derivative, max_steps)
    if bounds is not None:
        box(who, params, bounds)
    length = max_steps if derivative == "unrolled" else None
    setting = _Setting(fn, method, has_aux, verbose, derivative, length)
    most = check_run(who, tol, max_steps, MAX_STEPS)
    solution: Solution = _root(setting, settled(params), args, tol, most, bounds)
    return solution


@jitted
def _root(setting: _Setting, params: Params, args: tuple[Any, ...], tol: Any, max_steps: Any, bounds: Any) -> Solution:
    fun, method, has_aux, verbose, derivative, length = setting
    fun, args = in_this_trace(fun, params, args)
    unrolled = derivative == "unrolled"
    still: Callable[[Any], Any] = (lambda x: x) if unrolled else frozen
    start, given = still(params), still(args)
    words = {"residual_fn": lambda p: fun(p, *given), "has_aux": has_aux, "bounds": bounds}

    def equations(p: Params, args: Any) -> PyTree:
        result = fun(p, *args)
        return result[0] if has_aux else result

    errors.check_square("root", jax.eval_shape(equations, start, given), start)
    state = taking(method.init, 1)(start, **words)
    solution = solve(method, start, state, words, length if unrolled else max_steps, verbose, unrolled)

    def largest(p: Params) -> Array:
        return jnp.max(jnp.abs(tree.ravel(equations(p, given))[0]), initial=0.0)

    least = largest(solution.params)
    eps = np.finfo(least.dtype).eps
    bound = jnp.asarray(eps**0.5 if tol is None else tol, least.dtype) * jnp.maximum(1, largest(start))
    code = jnp.where(
        solution.status.success & ~(least <= bound), np.int32(Code.NO_ROOT),
        jnp.where((solution.status.code == np.int32(Code.SEARCH_FAILED)) & (least <= bound),
                  np.int32(Code.DECREASE_SMALL), solution.status.code),
    )  # fmt: skip
    solution = solution._replace(status=Status(code))
    if unrolled:
        return solution

    def value(p: Params, args: Any) -> Array:
        r, _ = tree.ravel(equations(p, args))
        return 0.5 * jnp.sum(r * r)

    found = frozen((solution.params, solution.value))
    end, best = implicit(equations, value, found, args, _at_bounds("root", solution.params, bounds))
    return solution._replace(params=end, value=best)
