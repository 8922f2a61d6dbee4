"""A problem and a method become a solution: the checks, the loop and the derivatives that all drivers share.

A driver makes a `Problem` of what it is given, which says in what words a method is told of it, whether what the method
ended at is a solution, and which equations that solves. `run` does the rest, in one program for each `Setting`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_args, check_start
from jaxopt_ko.core.method import Update, filter_kwargs, method_of, name_of
from jaxopt_ko.drivers import table
from jaxopt_ko.drivers.compiled import closure_convert, drop_weak_types, frozen, jitted, of_arrays
from jaxopt_ko.errors import MissingArgumentError, TransformationError, TreeError, say
from jaxopt_ko.solvers.first_order import first_order
from jaxopt_ko.solvers.problem.bounds import box
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Solution, State, Status

DERIVATIVES = ("implicit", "implicit-cg", "unrolled")
MAX_STEPS = 10_000


class Data(NamedTuple):
    """The arrays of a problem: what its solution may be differentiated by."""

    args: tuple[Any, ...]  # what its functions are given after the parameters
    bounds: tuple[PyTree, PyTree] | None = None
    loss_scale: Any = None  # of a robust loss


class RunStart(NamedTuple):
    """How a run begins."""

    method: GradientTransformation  # what was given, or the solver made of it
    state: State  # after its init
    extra_args: Mapping[str, Any]  # of every update: the problem in the words of the method


class Problem(Protocol):
    """What a driver was asked for: a NamedTuple of functions of (params, *args) and of options that can be hashed."""

    @property
    def name(self) -> str:
        """The driver's, for messages."""

    @property
    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """Those of its fields that are functions of (params, *args)."""

    def start(self, method: GradientTransformation, params: Params, data: Data, tol: Any) -> RunStart:
        """The method told of the problem, or an error where it is for problems of another kind."""

    def judge(self, solution: Solution, start: Params, data: Data, tol: Any) -> Solution:
        """The solution with the status that the problem gives it."""

    def differentiate(
        self, solution: Solution, method: GradientTransformation, data: Data, symmetric_cg: bool
    ) -> Solution:
        """The solution with its derivatives by the data, of the equations that it solves."""

    @property
    def _replace(self) -> Callable[..., Problem]:
        """A NamedTuple's: the same problem of other functions."""


class Setting(NamedTuple):
    """What a run is compiled for."""

    problem: Problem
    method: GradientTransformation
    verbose: bool
    derivative: str
    length: int | None  # of an unrolled run


def run(
    problem: Problem, method: GradientTransformation, params: Params, data: Data, *,
    tol: Hyper | None, max_steps: int | None, verbose: bool, derivative: str,
) -> Solution:  # fmt: skip
    """The solution that `method` finds from `params`. Checks what all drivers take; the problem's own are checked."""
    name = problem.name
    check_start(name, params)
    _check_floating(name, params)
    check_args(name, data.args)
    method = errors.check_pair(name, "method", method, lands=True)
    errors.check_choice(name, "derivative", derivative, DERIVATIVES)
    length = errors.check_size(name, "max_steps", max_steps) if derivative == "unrolled" else None
    if data.bounds is not None:
        box(name, params, data.bounds)  # once where its numbers can be seen
    most = check_limits(name, tol, max_steps, MAX_STEPS)
    setting = Setting(problem, method, verbose, derivative, length)
    try:
        solution: Solution = _run(setting, drop_weak_types(params), data, tol, most)
    except (TransformationError, TreeError, MissingArgumentError) as error:
        if str(error).startswith(f"{name_of(method)}: "):  # and not what a user's function raises
            errors.say_of_part(name, error)
        raise
    return solution


def _check_floating(name: str, params: Params) -> None:
    """Nothing but floating and complex numbers can be moved."""
    for index, leaf in enumerate(jax.tree.leaves(params)):
        if not jnp.issubdtype(tree.dtype_of(leaf), jnp.inexact):
            say(TreeError, name, f"the params leaf {errors.path_of(params, index)} is not a floating-point array",
                errors.describe(leaf), "Write 1.0 for 1; what the function needs and is not to be moved goes in args, "
                "integers too")  # fmt: skip


def check_limits(name: str, tol: Hyper | None, max_steps: Any, most: int) -> Any:
    """The largest number of updates; tol and it may be traced."""
    if tol is not None:
        errors.check_hyper(name, "tol", tol, errors.NONNEGATIVE)
    if max_steps is None:
        return np.int32(most)
    if isinstance(max_steps, jax.Array):
        return max_steps
    return np.int32(errors.check_size(name, "max_steps", max_steps, 0))


@jitted
def _run(setting: Setting, params: Params, data: Data, tol: Any, max_steps: Any) -> Solution:
    problem, method, verbose, derivative, length = setting
    functions, args = of_arrays(problem.functions, data.args)
    functions, args = closure_convert(functions, params, args)
    problem, data = problem._replace(**functions), data._replace(args=args)
    if derivative == "unrolled":
        begun = problem.start(method, params, data, tol)
        return problem.judge(loop(begun, params, length, verbose, unrolled=True), params, data, tol)
    start, given = frozen((params, data))  # where a run starts does not move what it finds
    begun = problem.start(method, start, given, tol)
    solution = problem.judge(loop(begun, start, max_steps, verbose), start, given, tol)
    return problem.differentiate(solution, begun.method, data, derivative == "implicit-cg")


# ---- how a run begins -----------------------------------------------------------------------------------


def started(method: GradientTransformation, params: Params, extra_args: Mapping[str, Any]) -> RunStart | None:
    """The start of a solver; None if the method is none: by its record, a foreign one by its state's Info."""
    if method_of(method).ascends:
        _goes_up(name_of(method))
    state = filter_kwargs(method.init, 1)(params, **extra_args)
    ours = isinstance(method.update, Update)
    solver = method_of(method).solver if ours else isinstance(getattr(state, "info", None), Info)
    return RunStart(method, state, extra_args) if solver and isinstance(getattr(state, "info", None), Info) else None


def _goes_up(method: str) -> NoReturn:
    """A driver minimizes."""
    say(TransformationError, "minimize", "the method must go down", method,
        "To maximize a function here, give its negative and the method without maximize")  # fmt: skip


def started_on_residuals(
    method: GradientTransformation, params: Params, extra_args: Mapping[str, Any]
) -> RunStart | None:
    """As `started`, None also of a method that wants a function to minimize."""
    try:
        return started(method, params, extra_args)
    except errors.MissingArgumentError:
        return None


def started_on_value(method: GradientTransformation, params: Params, extra_args: Mapping[str, Any]) -> RunStart:
    """The start of a solver, or of any other transformation as a first-order method."""
    start = started(method, params, extra_args)
    if start is None:
        solver = first_order(method)
        start = RunStart(solver, solver.init(params, **extra_args), extra_args)
    return start


# ---- the loop -------------------------------------------------------------------------------------------


class LoopCarry(NamedTuple):
    """What one pass of the loop hands to the next."""

    params: Params
    state: State  # whose count is that of the updates made


def loop(start: RunStart, params: Params, max_steps: Any, verbose: bool, unrolled: bool = False) -> Solution:
    """Updates until the state's status is one to stop at: in a while loop or, to be unrolled, in a scan."""
    method, state, extra_args = start

    def goes_on(carry: LoopCarry) -> Array:
        info, count = carry.state.info, carry.state.count
        on: Array = (info.status.code == np.int32(Code.RUNNING)) & (count < max_steps)
        return on

    def step(carry: LoopCarry) -> LoopCarry:
        at, state = carry
        updates, state = method.update(jax.tree.map(jnp.zeros_like, at), state, at, **extra_args)
        if verbose:
            table.show(state.info, state.count)
        return LoopCarry(apply_updates(at, updates), state)

    first = LoopCarry(params, state)
    if verbose:
        table.show_head()
    if unrolled:
        end, _ = jax.lax.scan(
            lambda at, _: (jax.lax.cond(goes_on(at), step, lambda at: at, at), None), first, None, max_steps
        )
    else:
        end = jax.lax.while_loop(goes_on, step, first)
    solution = solution_of(end)
    if verbose:
        table.show_end(solution)
    return solution


def solution_of(end: LoopCarry) -> Solution:
    """What the last state says of the problem; without a best point in it, the last."""
    state, info = end.state, end.state.info
    code = jnp.where(info.status.code == np.int32(Code.RUNNING), np.int32(Code.BUDGET_SPENT), info.status.code)
    best, aux, multipliers, kkt = (
        getattr(state, name, default)
        for name, default in (("best", end.params), ("aux", None), ("multipliers", None), ("kkt", None))
    )
    return Solution(best, info.value, Status(code), state.count, info.evaluations, state, aux, multipliers, kkt)
