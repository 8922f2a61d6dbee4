"""Drivers for many problems of one kind at once: lanes that are filled anew as problems are solved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.checks import check_args, check_start
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers import table
from jaxopt_ko.drivers.compiled import closure_convert, drop_weak_types, frozen, jitted, of_arrays
from jaxopt_ko.drivers.least_squares import DEFAULT_FIT, Fit
from jaxopt_ko.drivers.minimize import DEFAULT_METHOD, Minimum
from jaxopt_ko.drivers.pool import Work, lane_count, pooled
from jaxopt_ko.drivers.run import MAX_STEPS, Data, Problem, RunStart, check_floating, check_limits
from jaxopt_ko.drivers.shares import divided, mesh_of, one_of, other_count, own_bounds, placed_on, problem_count
from jaxopt_ko.errors import (
    HyperparameterError,
    describe,
    say,
)
from jaxopt_ko.solvers.problem.robust_losses import LOSSES, check_loss
from jaxopt_ko.types import GradientTransformation, Hyper, Params, PyTree, Solution, State


@options
def minimize_many(
    fun: Callable[..., Any],
    params: Params,
    method: GradientTransformation = DEFAULT_METHOD,
    *,
    args: tuple[Any, ...] = (),
    in_axes: Any = 0,
    batch_size: int | None = None,
    devices: Any = None,
    tol: Hyper | None = None,
    max_steps: int | None = None,
    has_aux: bool = False,
    verbose: bool = False,
    equality: Callable[..., PyTree] | None = None,
    inequality: Callable[..., PyTree] | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
    derivative: str = "implicit",
    keep_state: bool = True,
) -> Solution:
    """The solutions of many problems of one kind, each as `minimize` finds it, for hardly more than their own work.

    min fun(params[i], *args[i])   for i = 0 … n - 1

    fun: (params, *args) -> one real number, or (number, aux) with has_aux: the function of one problem.
    params: the starts, a tree of floating arrays with a leading axis of n.
    method: as of `minimize`.
    args: what the functions are given after the parameters: a tuple of trees, whose arrays have a leading axis of n, or
        as `in_axes` says; differentiated by.
    in_axes: the axis of n of each of args: 0, another integer, None for what all problems share, or a tuple of such,
        one for each of args. It is `jax.vmap`'s.
    batch_size: lanes, problems that are worked on at once, an int >= 1; None: the power of two at or below n / 32, 64
        to 8,192. More lanes pay on a GPU up to its width; the fewer, the fewer run empty when no problem waits.
    devices: a sequence of devices or a `jax.sharding.Mesh`, over which the problems are divided in order: each device
        has lanes of its own, and they exchange nothing. None: where the arrays are.
    tol, max_steps: as of `minimize`, for each problem.
    has_aux: does the function return a pair, what it is asked for and aux? The solution keeps aux.
    verbose: print some rows of how many problems still wait, and what it took in all.
    equality, inequality: as of `minimize`.
    bounds: (lower, upper), each None, a number, a tree like one problem's params or like all of them.
    derivative: "implicit" or "implicit-cg", see `minimize`; there is no "unrolled".
    keep_state: False leaves `state` out: of lbfgs it is 25 numbers a parameter, for every problem.

    Returns one `Solution`, whose arrays have a leading axis of n: those of n calls of `minimize`, or of `minimize`
    under `vmap`, up to rounding. Under `vmap` alone every pass of the loop computes all lanes until the slowest is
    done; here finished lanes take the problems that wait, whenever an eighth of them is done; of 512 lanes or more, the
    last few problems go into an eighth, where there are less than 32 problems for each. One program, compiled once for
    a fun and its shapes, without any exchange with the host: it may stand within `jit`, and be differentiated by args.
    Under a further `vmap` it loses what it is for.

    Raises TreeError for leading axes that differ; HyperparameterError for a batch_size, in_axes or limits outside their
    domain; else what `minimize` raises. Source: this package's. Not for one problem, nor for problems that all take the
    same number of steps: `jax.vmap` of `minimize` is as quick there.

    >>> starts = jnp.stack([jnp.linspace(-2.0, 2.0, 300), jnp.linspace(2.0, -1.0, 300)], axis=1)
    >>> found = jo.minimize_many(jo.landscapes.rosenbrock, starts, jo.lbfgs())
    >>> found.params.shape, bool(jnp.all(found.status.success))
    ((300, 2), True)
    """
    name = "minimize_many"
    errors.check_function(name, "fun", fun)
    for argument, constraint in (("equality", equality), ("inequality", inequality)):
        if constraint is not None:
            errors.check_function(name, argument, constraint)
    problem = Minimum(fun, equality, inequality, has_aux)
    limits: dict[str, Any] = {"tol": tol, "max_steps": max_steps, "verbose": verbose, "derivative": derivative}
    places = Places(in_axes, batch_size, devices, keep_state)
    return _run_all(name, problem, method, params, Data(args, bounds), places, **limits)


@options
def least_squares_many(
    residual_fn: Callable[..., PyTree],
    params: Params,
    method: GradientTransformation = DEFAULT_FIT,
    *,
    args: tuple[Any, ...] = (),
    in_axes: Any = 0,
    batch_size: int | None = None,
    devices: Any = None,
    bounds: tuple[PyTree, PyTree] | None = None,
    tol: Hyper | None = None,
    max_steps: int | None = None,
    jacobian_fn: Callable[..., PyTree] | None = None,
    loss: str | Callable[[Array], Array] = "linear",
    loss_scale: Any = 1.0,
    has_aux: bool = False,
    verbose: bool = False,
    derivative: str = "implicit",
    keep_state: bool = True,
) -> Solution:
    """The solutions of many problems of least squares, each as `least_squares` finds it: a fit for every pixel, say.

    min |residual_fn(params[i], *args[i])|**2 / 2   for i = 0 … n - 1

    residual_fn: (params, *args) -> pytree of the residuals of one problem, or (residuals, aux) with has_aux.
    params: the starts, a tree of floating arrays with a leading axis of n.
    method: as of `least_squares`.
    args, in_axes: the data, and where their axis of n is: as of `minimize_many`.
    batch_size, devices: lanes, and where they are: as of `minimize_many`.
    bounds: (lower, upper), each None, a number, a tree like one problem's params or like all of them.
    tol, max_steps: as of `least_squares`, for each problem.
    jacobian_fn: as of `least_squares`, of one problem.
    loss, loss_scale: as of `least_squares`, the same for all.
    has_aux: does the function return a pair, what it is asked for and aux? The solution keeps aux.
    verbose: print some rows of how many problems still wait, and what it took in all.
    derivative: "implicit" or "implicit-cg", see `minimize`; there is no "unrolled".
    keep_state: False leaves `state` out.

    Returns one `Solution`, whose arrays have a leading axis of n. What may be done with it: see `minimize_many`.

    Raises what `minimize_many` and `least_squares` raise. Source: this package's. Not for one problem with much data:
    `least_squares`.

    >>> t = jnp.linspace(0.0, 1.0, 8)
    >>> rates = jnp.linspace(0.5, 3.0, 100)
    >>> y = jnp.exp(-rates[:, None] * t)
    >>> fits = jo.least_squares_many(lambda k, y: jnp.exp(-k * t) - y, jnp.ones(100), args=(y,))
    >>> bool(jnp.allclose(fits.params, rates, atol=1e-3))
    True
    """
    name = "least_squares_many"
    errors.check_function(name, "residual_fn", residual_fn)
    check_loss(name, loss, LOSSES)
    errors.check_number(name, "loss_scale", loss_scale, errors.POSITIVE)
    problem = Fit(residual_fn, jacobian_fn, loss, has_aux)
    limits: dict[str, Any] = {"tol": tol, "max_steps": max_steps, "verbose": verbose, "derivative": derivative}
    places = Places(in_axes, batch_size, devices, keep_state)
    return _run_all(name, problem, method, params, Data(args, bounds, loss_scale), places, **limits)


class Places(NamedTuple):
    """Where the problems are, and where they are solved: as the user gave it."""

    in_axes: Any
    batch_size: Any
    devices: Any
    keep_state: bool


class _Setting(NamedTuple):
    """What a run is compiled for."""

    problem: Problem
    method: GradientTransformation
    derivative: str
    own: tuple[bool, ...]  # of each leaf of params and data: has each problem one of its own?
    lanes: int  # on each device
    keep_state: bool
    verbose: bool
    mesh: jax.sharding.Mesh | None


def _run_all(
    name: str, problem: Problem, method: GradientTransformation, params: Params, data: Data, places: Places, *,
    tol: Hyper | None, max_steps: int | None, verbose: bool, derivative: str,
) -> Solution:  # fmt: skip
    check_start(name, params)
    check_floating(name, params)
    check_args(name, data.args)
    method = errors.check_pair(name, "method", method, lands=True)
    errors.check_choice(name, "derivative", derivative, ("implicit", "implicit-cg"))
    params = drop_weak_types(params)
    n = problem_count(name, params)
    axes = _axes(name, places.in_axes, data.args)
    data = data._replace(args=tuple(_moved(arg, axis) for arg, axis in zip(data.args, axes, strict=True)))
    own = [True] * len(jax.tree.leaves(params))
    for arg, axis in zip(data.args, axes, strict=True):
        own += [axis is not None and hasattr(leaf, "shape") for leaf in jax.tree.leaves(arg)]
    own += own_bounds(name, data.bounds, params)
    own += [False] * len(jax.tree.leaves(data.loss_scale))
    for leaf, each in zip(jax.tree.leaves((params, data)), own, strict=True):
        if each and (np.ndim(leaf) < 1 or np.shape(leaf)[0] != n):
            other_count(name, n, leaf)
    most = check_limits(name, tol, max_steps, MAX_STEPS)
    mesh = mesh_of(name, places.devices)
    lanes = lane_count(name, n, places.batch_size, 1 if mesh is None else mesh.size)
    if mesh is not None:
        params, data = placed_on(mesh, own, n, (params, data))
    setting = _Setting(problem, method, derivative, tuple(own), lanes, places.keep_state, verbose, mesh)
    solution: Solution = _run_many(setting, params, data, tol, most)
    return solution


@jitted
def _run_many(setting: _Setting, params: Params, data: Data, tol: Any, most: Any) -> Solution:
    problem, method, derivative, own, lanes, keep_state, verbose, mesh = setting
    # Functions of arrays alone, with what they close over among the arrays
    before = jax.tree.leaves((params, data))
    functions, args = of_arrays(problem.functions, data.args)
    arrays = data._replace(args=args)
    if len(jax.tree.leaves((params, arrays))) != len(before):
        own = tuple(each for each, leaf in zip(own, before, strict=True) if hasattr(leaf, "shape") or not each)
        own = own[: len(jax.tree.leaves((params, arrays)))]
    one_params, one_data = one_of(own, (params, arrays))
    functions, whole = closure_convert(functions, one_params, one_data.args)
    shared = whole[len(args) :]
    problem = problem._replace(**functions)

    treedef: Any
    leaves, treedef = jax.tree.flatten((params, arrays))
    mine = [leaf for leaf, each in zip(leaves, own, strict=True) if each]
    common = [leaf for leaf, each in zip(leaves, own, strict=True) if not each]

    def rebuilt(mine: list[Array], common: list[Any], shared: tuple[Any, ...]) -> tuple[Params, Data]:
        of_each, of_all = iter(mine), iter(common)
        params, data = treedef.unflatten([next(of_each if each else of_all) for each in own])
        return params, data._replace(args=(*data.args, *shared))

    known: dict[str, Any] = {}  # what the first start says of the method: the solver made of it, and its words

    def solve(mine: list[Array], common: list[Any], shared: tuple[Any, ...]) -> tuple[Solution, Array]:
        def begin(task: tuple[Params, Data]) -> tuple[Params, RunStart]:
            params, data = task
            start = problem.start(method, params, data, tol)
            kind = jax.tree.map(lambda x: None, start.state)
            known.update(method=start.method, words=set(start.extra_args), kind=kind)
            return params, start

        def again(task: tuple[Params, Data], params: Params, state: State) -> RunStart:
            return problem.start(_begun(known["method"], known["words"], state), params, task[1], tol)

        work = Work(begin, again, keep_state, table.show_pool if verbose else None)
        found, updates = pooled(work, mine, lambda task: rebuilt(task, common, shared), lanes, most)
        return found, updates[None]

    still = frozen((mine, common, shared))
    n = len(mine[0])
    found, updates = divided(solve, mesh, n, *still)
    if verbose:
        table.show_pool_end(found, jnp.sum(updates))

    def finished(solution: Solution, mine: list[Array], start: list[Array]) -> Solution:
        params, given = rebuilt(start, *still[1:])
        solution = problem.judge(solution if keep_state else solution._replace(state=known["kind"]), params, given, tol)
        data = rebuilt(mine, common, shared)[1]
        solution = problem.differentiate(solution, known["method"], data, derivative == "implicit-cg")
        return solution if keep_state else solution._replace(state=None)

    solutions: Solution = jax.vmap(finished)(found, mine, still[0])
    return solutions


def _begun(method: GradientTransformation, words: set[str], state: State) -> GradientTransformation:
    """The method, whose init gives the state at hand for the words of its first start, and evaluates nothing."""

    def init(params: Params, **given: Any) -> State:
        if set(given) != words:
            errors.missing_argument("init", "value_fn", "The problem has other words for this method")  # as at first
        return state

    return method._replace(init=init)


# ---- what the user gave -----------------------------------------------------------------------------------


def _axes(name: str, in_axes: Any, args: tuple[Any, ...]) -> tuple[int | None, ...]:
    """One axis, or None, for each of args."""
    axes = tuple(in_axes) if isinstance(in_axes, tuple | list) else (in_axes,) * len(args)
    known = all(axis is None or (isinstance(axis, int) and not isinstance(axis, bool)) for axis in axes)
    if not known or len(axes) != len(args):
        say(HyperparameterError, name, f"in_axes must be an integer, None, or one of them for each of {len(args)} args",
            describe(in_axes),
            "Give 0 where the leading axis is that of the problems, None for what is shared")  # fmt: skip
    return axes


def _moved(arg: PyTree, axis: int | None) -> PyTree:
    """With the axis of problems in front."""
    if axis is None or axis == 0:
        return arg
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, axis, 0) if hasattr(leaf, "shape") else leaf, arg)
