"""Drivers: run a solver's updates in one `lax.while_loop` until its status says stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_args, check_leaf, check_start
from jaxopt_ko.core.method import method_of, name_of
from jaxopt_ko.core.numerics import inner
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers.run import (
    MAX_STEPS,
    Held,
    check_derivative,
    check_run,
    closure_convert,
    drop_weak_types,
    frozen,
    implicit,
    jitted,
    of_arrays,
    solve,
    start_of,
)
from jaxopt_ko.errors import TransformationError, TreeError, say
from jaxopt_ko.solvers.first_order import first_order
from jaxopt_ko.solvers.least_squares import levenberg_marquardt
from jaxopt_ko.solvers.problem.bounds import box
from jaxopt_ko.solvers.problem.residuals import residuals
from jaxopt_ko.solvers.problem.robust_losses import LOSSES, check_loss
from jaxopt_ko.solvers.proximal import ProximalGradientState
from jaxopt_ko.solvers.quasi_newton import lbfgs
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


@options
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
    tol: bound on the gradient, max|g| <= tol; by default from the dtype and the gradients seen, see each method.
    max_steps: updates, 10,000 by default. bounds: (lower, upper) for the methods that take them (lbfgsb).
    equality, inequality: subject to equality(params, *args) = 0 and inequality(params, *args) <= 0, trees of arrays,
    for the methods that take them (interior_point); the solution then has multipliers and kkt.
    verbose: print a row for every update.

    Pure: jitted inside, so that a second call with the same fun and new data compiles nothing; it may be vmapped (each
    lane stops by itself) and differentiated by `args`, bounds and what fun closes over, in forward and reverse mode,
    again and again. What is no array among args (a string) is a constant. derivative: "implicit" by the equation
    gradient = 0, with a dense Hessian; "implicit-cg" the same by conjugate residuals on Hessian-vector products;
    "unrolled" through all updates, as a scan of max_steps, with respect to `params`, too. What is at a bound moves
    with it; where the Hessian is singular the derivative is the shortest that fits. With constraints it is the
    conditions of Karush, Kuhn and Tucker that are differentiated, always densely, with the constraints that are active
    at the solution; the multipliers have derivatives, too.

    Raises, when traced, TransformationError for constraints or bounds that the method does not take, TreeError if fun
    returns no real number, MissingArgumentError or what the method raises.
    A run that fails says so in `status`; the params are then the best seen. Not for sums of squares: least_squares
    needs a third of the evaluations.
    """
    name = "minimize"
    errors.check_function(name, "fun", fun)
    check_start(name, params)
    check_args(name, args)
    method = errors.check_pair(name, "method", method)
    check_derivative(name, derivative, max_steps)
    if bounds is not None:
        box(name, params, bounds)  # once where its numbers can be seen
    for argument, constraint in (("equality", equality), ("inequality", inequality)):
        if constraint is not None:
            errors.check_function(name, argument, constraint)
    length = max_steps if derivative == "unrolled" else None
    setting = _Setting(fun, method, has_aux, verbose, derivative, length)
    constraints = _Constraints(equality, inequality)
    run = (setting, constraints)
    most = check_run(name, tol, max_steps, MAX_STEPS)
    solution: Solution = _minimize(run, drop_weak_types(params), args, tol, most, bounds)
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
    given_, args = of_arrays([fun, *constraints], args)
    (fun, *limits), args = _closure_convert(given_, params, args)
    functions = {name: limit for name, limit in zip(constraints._fields, limits, strict=True) if limit is not None}
    extra_args: dict[str, Any] = {"has_aux": has_aux}
    unrolled = derivative == "unrolled"
    still: Callable[[Any], Any] = (lambda x: x) if unrolled else frozen  # where it starts is not what it finds
    start, given = still(params), still(args)
    if tol is not None:
        extra_args["tol"] = tol
    if bounds is not None:
        extra_args["bounds"] = still(bounds)
    extra_args["value_fn"] = lambda p: fun(p, *given)
    for name, function in functions.items():
        extra_args[name] = lambda p, function=function: function(p, *given)
    state = start_of(method, start, extra_args)
    if state is None:
        method = first_order(method)
        state = method.init(start, **extra_args)
    solution = solve(method, start, state, extra_args, length if unrolled else max_steps, verbose, unrolled)
    if unrolled:
        return solution

    def value(p: Params, args: Any) -> Array:
        result: Any = fun(p, *args)
        return result[0] if has_aux else result  # type: ignore[no-any-return]

    if solution.multipliers is not None:
        return _constrained(solution, value, functions, args, bounds)
    found = frozen((solution.params, solution.value))
    prox, own = method_of(method).prox, ()
    if prox is not None:
        near, own = closure_convert(lambda p: prox(p, 1.0), frozen(solution.params), ())

    hidden = prox is None and isinstance(solution.state, ProximalGradientState)

    def condition(p: Params, given: Any) -> Params:
        if hidden:
            _hidden_method("minimize", "proximal_gradient")
        args, own, _ = given
        g = tree.ascent(jax.grad(value)(p, args))
        return g if prox is None else _less(p, near(_less(p, g), *own))  # x = prox(x - g(x), 1)

    held, at_limits = _at_bounds("minimize", solution, bounds)
    symmetric_cg = derivative == "implicit-cg" and prox is None
    given = (args, own, at_limits)
    end, best = implicit(condition, lambda p, given: value(p, given[0]), found, given, held, symmetric_cg)
    return solution._replace(params=end, value=best)


def _hidden_method(name: str, method: str) -> NoReturn:
    """A method of ours within a function of somebody's, which hides what derivatives need to know of it."""
    say(TransformationError, name, f"the solution's derivatives need the prox of {method}", "an update that hides it",
        "Pass the pair itself, or GradientTransformation(pair.init, pair.update); a function around its update "
        "has no record of it")  # fmt: skip


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
        terms = jax.tree.leaves(jax.tree.map(lambda y, c: jnp.sum(inner(y, c)), y, c))
        return sum((term.astype(dtype) for term in terms), start=jnp.zeros((), dtype))

    def lagrangian(x: Params, y: PyTree, z: PyTree, args: Any) -> Array:
        return value(x, args).astype(dtype) + product(y, c_e(x, *args)) + product(z, c_i(x, *args))

    def conditions(found: Any, given: Any) -> Any:
        (x, y, z), (args, active, _) = found, given
        limits = jax.tree.map(lambda on, c, z: jnp.where(on > 0, c, z), active, c_i(x, *args), z)
        return tree.ascent(jax.grad(lagrangian)(x, y, z, args)), c_e(x, *args), limits

    def outcome(found: Any, given: Any) -> Any:
        x, y, z = found
        args, _, limits = given
        if limits is None:
            return value(x, args), low, high
        g = tree.ravel(tree.ascent(jax.grad(lagrangian)(x, y, z, args)))[0]
        return value(x, args), jnp.where(limits.by_lower, g, 0), jnp.where(limits.by_upper, -g, 0)

    held, limits = _at_bounds("minimize", solution, bounds)
    more = tree.ravel((y, z))[0].size
    (low, unravel), (high, _) = tree.ravel(lower), tree.ravel(upper)
    at: Any = None if held is None else held.at
    (x, y, z), (best, low, high) = implicit(
        conditions,
        outcome,
        ((x, y, z), (frozen(solution.value), low, high)),
        (args, active, limits),
        None if held is None else held._replace(
            which=jnp.pad(held.which, (0, more)),
            at=lambda given: jnp.pad(at(given[1:]), (0, more)), firmly=jnp.pad(held.firmly, (0, more)),
        ),
    )  # fmt: skip
    return solution._replace(params=x, value=best, multipliers=Multipliers(y, z, unravel(low), unravel(high)))


def _closure_convert(functions: list[Any], params: Params, args: tuple[Any, ...]) -> tuple[list[Any], tuple[Any, ...]]:
    """`closure_convert` for several functions of the same args; None stays None."""
    made: list[Any] = []
    whole = args
    for function in functions:
        if function is None:
            made.append(None)
            continue
        converted, extended = closure_convert(function, params, args)
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


@options
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

    For the rest, max_steps, verbose, what may be done with it and derivatives, see `minimize`.
    Raises, when traced, what the method raises. Not for functions that are no sums of squares.
    """
    name = "least_squares"
    errors.check_function(name, "residual_fn", residual_fn)
    check_start(name, params)
    check_args(name, args)
    method = errors.check_pair(name, "method", method)
    check_derivative(name, derivative, max_steps)
    check_loss(name, loss, LOSSES)
    errors.check_number(name, "loss_scale", loss_scale, errors.POSITIVE)
    if bounds is not None:
        box(name, params, bounds)  # once where its numbers can be seen
    length = max_steps if derivative == "unrolled" else None
    setting = _Fit(residual_fn, jacobian_fn, method, loss, has_aux, verbose, derivative, length)
    most = check_run(name, tol, max_steps, MAX_STEPS)
    solution: Solution = _least_squares(setting, drop_weak_types(params), args, tol, most, bounds, loss_scale)
    return solution


@jitted
def _least_squares(
    setting: _Fit, params: Params, args: tuple[Any, ...], tol: Any, max_steps: Any, bounds: Any, loss_scale: Any
) -> Solution:
    residual_fn, jacobian_fn, method, loss, has_aux, verbose, derivative, length = setting
    (residual_fn, jacobian_fn), args = of_arrays([residual_fn, jacobian_fn], args)
    count = len(args)
    fun, args = closure_convert(residual_fn, params, args)
    unrolled = derivative == "unrolled"
    still: Callable[[Any], Any] = (lambda x: x) if unrolled else frozen  # where it starts is not what it finds
    start, given = still(params), still(args)
    problem: dict[str, Any] = {"loss": loss, "has_aux": has_aux}

    def cost(p: Params, arguments: tuple[Any, Any]) -> Array:
        args, scale = arguments
        made = residuals("least_squares", p, lambda p: fun(p, *args), loss_scale=scale, **problem)
        return made.cost(made.residual(made.x)[0])

    extra_args: dict[str, Any] = {
        "residual_fn": lambda p: fun(p, *given),
        **problem,
        "bounds": still(bounds),
        "tol": tol,
    }
    extra_args["loss_scale"] = still(loss_scale)
    if jacobian_fn is not None:
        extra_args["jacobian_fn"] = lambda p: jacobian_fn(p, *given[:count])
    try:
        state = start_of(method, start, extra_args)
    except errors.MissingArgumentError:  # it wants a function to minimize
        state = None
    if state is None:
        extra_args = {"value_fn": lambda p: cost(p, (given, still(loss_scale))), "bounds": still(bounds), "tol": tol}
        if (state := start_of(method, start, extra_args)) is None:
            method = first_order(method)
            state = method.init(start, **extra_args)
    solution = solve(method, start, state, extra_args, length if unrolled else max_steps, verbose, unrolled)
    if unrolled:
        return solution
    found = frozen((solution.params, solution.value))
    held, limits = _at_bounds("least_squares", solution, bounds)
    end, best = implicit(
        lambda p, given: tree.ascent(jax.grad(cost)(p, given[0])), lambda p, given: cost(p, given[0]), found,
        ((args, loss_scale), limits), held, derivative == "implicit-cg",
    )  # fmt: skip
    return solution._replace(params=end, value=best)


class _Limits(NamedTuple):
    """The bounds, and which of them hold a solution."""

    bounds: Any
    by_lower: Array  # bool[n]
    by_upper: Array  # bool[n]
    share: Array  # float[n]  of the lower bound in where an element is: 1, 0, or 1/2 if it cannot be told which holds


def _at_bounds(name: str, solution: Solution, bounds: Any) -> tuple[Held | None, _Limits | None]:
    """Which parameters of a solution are held by their bounds, and these as data: the last of implicit's args.

    A bound holds what is at it or, where there are multipliers, what has one larger than the room that is left.
    """
    if bounds is None:
        return None, None
    end = frozen(solution.params)
    x, _ = tree.ravel(end)
    like = jax.tree.map(lambda leaf: tree.abstract(np.shape(leaf), tree.dtype_of(leaf)), end)
    lower, upper = box(name, like, frozen(bounds))
    if solution.multipliers is None:
        by_lower, by_upper = x <= lower, x >= upper
    else:
        _, _, low, high = frozen(solution.multipliers)
        by_lower, by_upper = tree.ravel(low)[0] > x - lower, tree.ravel(high)[0] > upper - x
    which = by_lower | by_upper | (lower >= upper)
    share = jnp.where(by_lower == by_upper, jnp.asarray(0.5, x.dtype), by_lower.astype(x.dtype))

    def at(given: Any) -> Array:
        bounds, _, _, share = given[-1]
        lower, upper = box(name, like, bounds)
        return jnp.where(share > 0, share * lower, 0) + jnp.where(share < 1, (1 - share) * upper, 0)

    return Held(which, at, which), _Limits(bounds, by_lower, by_upper, share)


@options
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
    name = "root"
    errors.check_function(name, "fn", fn)
    check_start(name, params)
    check_args(name, args)
    method = errors.check_pair(name, "method", method)
    check_derivative(name, derivative, max_steps)
    if bounds is not None:
        box(name, params, bounds)
    length = max_steps if derivative == "unrolled" else None
    setting = _Setting(fn, method, has_aux, verbose, derivative, length)
    most = check_run(name, tol, max_steps, MAX_STEPS)
    solution: Solution = _root(setting, drop_weak_types(params), args, tol, most, bounds)
    return solution


@jitted
def _root(setting: _Setting, params: Params, args: tuple[Any, ...], tol: Any, max_steps: Any, bounds: Any) -> Solution:
    fun, method, has_aux, verbose, derivative, length = setting
    (fun,), args = of_arrays([fun], args)
    fun, args = closure_convert(fun, params, args)
    unrolled = derivative == "unrolled"
    still: Callable[[Any], Any] = (lambda x: x) if unrolled else frozen
    start, given = still(params), still(args)
    extra_args = {"residual_fn": lambda p: fun(p, *given), "has_aux": has_aux, "bounds": still(bounds)}

    def equations(p: Params, args: Any) -> PyTree:
        result = fun(p, *args)
        return result[0] if has_aux else result

    _check_square("root", jax.eval_shape(equations, start, given), start)
    try:
        state = start_of(method, start, extra_args)
    except errors.MissingArgumentError:  # it asks for value_fn
        state = None
    if state is None:
        _no_equations_solver("root", name_of(method))
    solution = solve(method, start, state, extra_args, length if unrolled else max_steps, verbose, unrolled)

    def largest(p: Params) -> Array:
        return jnp.max(jnp.abs(tree.ravel(equations(p, given))[0]), initial=0.0)

    least = largest(solution.params)
    eps = np.finfo(least.dtype).eps
    bound = jnp.asarray(eps**0.5 if tol is None else tol, least.dtype) * jnp.maximum(1, largest(start))
    # a root is one whether or not there is a derivative to step by
    ended = jnp.any(solution.status.code == np.array([Code.SEARCH_FAILED, Code.NOT_FINITE], np.int32))
    code = jnp.where(
        solution.status.success & ~(least <= bound), np.int32(Code.NO_ROOT),
        jnp.where(ended & (least <= bound), np.int32(Code.DECREASE_SMALL), solution.status.code),
    )  # fmt: skip
    solution = solution._replace(status=Status(code))
    if unrolled:
        return solution

    def value(p: Params, args: Any) -> Array:
        r, _ = tree.ravel(equations(p, args))
        return 0.5 * jnp.sum(r * r)

    held, limits = _at_bounds("root", solution, bounds)
    zero = solution.status.success
    if held is not None:  # a root is one wherever the bounds are
        held = held._replace(firmly=held.which & ~zero)

    def condition(p: Params, given: Any) -> PyTree:
        args, zero, _ = given
        r = equations(p, args)
        if bounds is None:
            return r
        return jnp.where(zero, tree.ravel(r)[0], tree.ravel(tree.ascent(jax.grad(value)(p, args)))[0])

    found = frozen((solution.params, solution.value))
    end, best = implicit(condition, lambda p, given: value(p, given[0]), found, (args, zero, limits), held)
    return solution._replace(params=end, value=best)


def _no_equations_solver(name: str, method: str) -> NoReturn:
    """A method that does not read residuals, or does not report how it stands."""
    say(TransformationError, name, "method must be one for residuals", f"{method}", "Use levenberg_marquardt() or "
        "gauss_newton(); for others minimize the sum of squares")  # fmt: skip


def _check_square(name: str, equations: PyTree, params: PyTree) -> None:
    """As many equations as unknowns."""
    for index, leaf in enumerate(jax.tree.leaves(equations)):
        check_leaf(name, "equations", equations, index, leaf, real=False)
    m, n = map(tree.real_size, (equations, params))
    if m != n:
        say(TreeError, name, f"there must be as many equations as unknowns ({n})", f"{m} equations",
            "For more equations than unknowns use least_squares")  # fmt: skip
