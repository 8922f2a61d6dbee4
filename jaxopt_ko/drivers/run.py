"""A problem and a method become a solution: the checks, the loop and the derivatives that all drivers share.

A driver makes a `Problem` of what it is given, which says in what words a method is told of it, whether what the method
ended at is a solution, and which equations that solves. `run` does the rest, in one program for each `Setting`.
"""

from __future__ import annotations

import functools
import time
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
from jaxopt_ko.drivers import reports, table
from jaxopt_ko.drivers.compiled import closure_convert, drop_weak_types, frozen, jitted, of_arrays
from jaxopt_ko.errors import HyperparameterError, MissingArgumentError, TransformationError, TreeError, say
from jaxopt_ko.solvers.first_order import first_order
from jaxopt_ko.solvers.problem.bounds import box
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Solution, State, Status

DERIVATIVES = ("implicit", "implicit-cg", "unrolled")
MAX_STEPS = 10_000
BLOCK_SECONDS = 0.05  # of updates between two looks at the clock, at most


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
    callback: Callable[[reports.Report], Any] | None = None, max_seconds: float | None = None,
) -> Solution:  # fmt: skip
    """The solution that `method` finds from `params`. Checks what all drivers take; the problem's own are checked."""
    name = problem.name
    check_start(name, params)
    check_floating(name, params)
    check_args(name, data.args)
    method = errors.check_pair(name, "method", method, lands=True)
    errors.check_choice(name, "derivative", derivative, DERIVATIVES)
    length = errors.check_size(name, "max_steps", max_steps) if derivative == "unrolled" else None
    if data.bounds is not None:
        box(name, params, data.bounds)  # once where its numbers can be seen
    most = check_limits(name, tol, max_steps, MAX_STEPS)
    setting = Setting(problem, method, verbose, derivative, length)
    how: Callable[..., Solution] = _run
    if max_seconds is not None:
        check_seconds(name, max_seconds, derivative, (params, data, tol, max_steps))
        how = functools.partial(_run_for, max_seconds)
    try:
        with reports.Listener(name, callback) as listener:
            solution = how(setting, drop_weak_types(params), data, tol, most, listener)
    except (TransformationError, TreeError, MissingArgumentError) as error:
        if str(error).startswith(f"{name_of(method)}: "):  # and not what a user's function raises
            errors.say_of_part(name, error)
        raise
    return solution


def check_floating(name: str, params: Params) -> None:
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
def _run(setting: Setting, params: Params, data: Data, tol: Any, max_steps: Any, listener: Any) -> Solution:
    _, method, verbose, derivative, length = setting
    problem, data = _of_arrays(setting.problem, params, data)
    if derivative == "unrolled":
        begun = problem.start(method, params, data, tol)
        return problem.judge(loop(begun, params, length, verbose, listener, unrolled=True), params, data, tol)
    start, given = frozen((params, data))  # where a run starts does not move what it finds
    begun = problem.start(method, start, given, tol)
    solution = problem.judge(loop(begun, start, max_steps, verbose, listener), start, given, tol)
    return problem.differentiate(solution, begun.method, data, derivative == "implicit-cg")


def _of_arrays(problem: Problem, params: Params, data: Data) -> tuple[Problem, Data]:
    """The problem as functions of arrays alone."""
    functions, args = of_arrays(problem.functions, data.args)
    functions, args = closure_convert(functions, params, args)
    return problem._replace(**functions), data._replace(args=args)


# ---- against the clock ----------------------------------------------------------------------------------


def check_seconds(name: str, max_seconds: Any, derivative: str, given: Any) -> None:
    """A number, where the host can look at the clock between updates."""
    errors.check_number(name, "max_seconds", max_seconds, errors.NONNEGATIVE)
    if derivative == "unrolled":
        say(HyperparameterError, name, "max_seconds cannot be given with derivative='unrolled'", "both",
            "Give max_steps, a fixed number of updates")  # fmt: skip
    if not reports.is_concrete((given, max_seconds)):
        _no_clock(name)


def _no_clock(name: str) -> NoReturn:
    say(TransformationError, name, "max_seconds cannot be kept where the run is traced: a compiled program does not "
        "see the clock", "a call within jit, vmap or grad",
        "Call it outside, where each part is compiled all the same, or give max_steps")  # fmt: skip


def _run_for(
    max_seconds: Any, setting: Setting, params: Params, data: Data, tol: Any, max_steps: Any, listener: Any
) -> Solution:
    """The same in blocks of updates, of which the last one ends when the time is over; one update is always made."""
    began = time.perf_counter()
    functions, args = of_arrays(setting.problem.functions, data.args)
    if not reports.is_concrete(closure_convert(functions, params, args)[1]):  # they close over what is traced
        _no_clock(setting.problem.name)

    def advance(until: Any, carry: LoopCarry | None) -> LoopCarry:
        reached: LoopCarry = _updates(setting, params, data, tol, until, listener, carry)
        return reached

    def judge(carry: LoopCarry, code: Any) -> Solution:
        solution: Solution = _judged(setting, params, data, tol, carry, code)
        return solution

    return until_late(began, max_seconds, int(max_steps), setting.verbose, advance, judge)


def until_late(
    began: float, max_seconds: Any, most: int, verbose: bool,
    advance: Callable[[Any, LoopCarry | None], LoopCarry], judge: Callable[[LoopCarry, Any], Solution],
) -> Solution:  # fmt: skip
    """The solution after blocks of updates, each to a number of them from where the last one ended (None: the start);
    what is not ended then is judged with the code of what ended it."""
    if verbose:
        table.show_head()
    carry, block, until = None, 1, 0
    while True:
        until, then = min(until + block, most), time.perf_counter()
        carry = advance(np.int32(until), carry)
        ended, now = int(carry.state.info.status.code) != Code.RUNNING, time.perf_counter()
        late = now - began >= max_seconds
        if ended or until >= most or late:
            break
        share = min(BLOCK_SECONDS, (max_seconds - (now - began)) / 2) / max(now - then, 1e-9)
        block = max(1, int(block * min(share, 8.0)))
    code = Code.OUT_OF_TIME if late and until < most else Code.BUDGET_SPENT
    solution = judge(carry, np.int32(code))
    if verbose:
        table.show_end(solution)
    return solution


@jitted
def _updates(
    setting: Setting, params: Params, data: Data, tol: Any, until: Any, listener: Any, carry: LoopCarry | None
) -> LoopCarry:
    """Updates until their number is `until`, from the start or from where the last block ended."""
    problem, data = _of_arrays(setting.problem, params, data)
    begun = problem.start(setting.method, params, data, tol)
    goes_on, step = passes(begun, until, setting.verbose, listener)
    end: LoopCarry = jax.lax.while_loop(goes_on, step, LoopCarry(params, begun.state) if carry is None else carry)
    return end


@jitted
def _judged(setting: Setting, params: Params, data: Data, tol: Any, carry: LoopCarry, unfinished: Any) -> Solution:
    problem, data = _of_arrays(setting.problem, params, data)
    return problem.judge(solution_of(carry, unfinished), params, data, tol)


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


def passes(
    start: RunStart, max_steps: Any, verbose: bool, listener: Any, shown: Callable[[State], Params] | None = None
) -> tuple[Callable[[LoopCarry], Array], Callable[[LoopCarry], LoopCarry]]:
    """Does the loop go on, and one pass of it; listener: the number of the callback that is told of it, or None;
    shown: the parameters that it is told, of the state, None: those of the pass."""
    method, _, extra_args = start

    def goes_on(carry: LoopCarry) -> Array:
        info, count = carry.state.info, carry.state.count
        on: Array = (info.status.code == np.int32(Code.RUNNING)) & (count < max_steps)
        return on

    def step(carry: LoopCarry) -> LoopCarry:
        at, state = carry
        updates, state = method.update(jax.tree.map(jnp.zeros_like, at), state, at, **extra_args)
        at = apply_updates(at, updates)
        if verbose:
            table.show(state.info, state.count)
        if listener is not None:
            told = at if shown is None else shown(state)
            reports.report(listener, goes_on(carry), state.count, state.info, told)
        return LoopCarry(at, state)

    return goes_on, step


def loop(
    start: RunStart, params: Params, max_steps: Any, verbose: bool, listener: Any = None, unrolled: bool = False,
    shown: Callable[[State], Params] | None = None,
) -> Solution:  # fmt: skip
    """Updates until the state's status is one to stop at: in a while loop or, to be unrolled, in a scan."""
    goes_on, step = passes(start, max_steps, verbose, listener, shown)
    first = LoopCarry(params, start.state)
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


def solution_of(end: LoopCarry, unfinished: Any = Code.BUDGET_SPENT) -> Solution:
    """What the last state says of the problem; without a best point in it, the last. unfinished: what it is called."""
    state, info = end.state, end.state.info
    code = jnp.where(info.status.code == np.int32(Code.RUNNING), jnp.int32(unfinished), info.status.code)
    best, aux, multipliers, kkt = (
        getattr(state, name, default)
        for name, default in (("best", end.params), ("aux", None), ("multipliers", None), ("kkt", None))
    )
    return Solution(best, info.value, Status(code), state.count, info.evaluations, state, aux, multipliers, kkt)
