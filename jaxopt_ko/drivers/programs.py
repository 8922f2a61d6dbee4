"""Drivers for linear and quadratic programs, and the derivatives of their solutions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_arrays, check_leaf
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers.compiled import drop_weak_types, jitted
from jaxopt_ko.drivers.program_runs import (
    PROGRAM_STEPS,
    ProgramData,
    ProgramSetting,
    ProgramTask,
    as_array,
    as_floating,
    begin_near,
    begun,
    check_band,
    differentiated,
    prepared_task,
    structured,
)
from jaxopt_ko.drivers.reports import Listener, Report
from jaxopt_ko.drivers.run import LoopCarry, check_limits, check_seconds, loop, passes, solution_of, until_late
from jaxopt_ko.errors import HyperparameterError, say
from jaxopt_ko.solvers.problem.bounds import check_bound_pair, check_box
from jaxopt_ko.solvers.quadratic import Sparse, check_program
from jaxopt_ko.types import Code, Hyper, Params, PyTree, Solution

SEEN = 2000  # rows of a sparse Q up to which its least eigenvalue is told


@options
def linear_program(
    c: PyTree,
    *,
    A: Any = None,
    b: Any = None,
    G: Any = None,
    h: Any = None,
    bounds: tuple[PyTree, PyTree] | None = None,
    params: Params = None,
    tol: Hyper | None = None,
    max_steps: int | None = None,
    bandwidth: int | None = None,
    solution: Solution | None = None,
    verbose: bool = False,
    callback: Callable[[Report], Any] | None = None,
    max_seconds: float | None = None,
) -> Solution:
    """The solution of a linear program.

    min c'x   with   A x = b,   G x <= h,   lower <= x <= upper

    c: float[n], or a tree, whose elements as one vector are meant by n; the solution is such a tree.
    A, b: float[m,n], which may be a BCOO matrix, and float[m], the equations; None: none.
    G, h: float[k,n], also BCOO, and float[k] (inf for no row), the inequalities; None: none.
    bounds: (lower, upper), each None, a number or a tree like c; None: free, and equal ones fix a parameter.
    params: a tree like c that takes its place for structure and dtype; None: c. Where the run starts does not depend on
        it.
    tol: bound on the relative residuals and the gap, >= 0; None: eps**(4/7) of the dtype.
    max_steps: updates, an int >= 0, traced too; None: 200.
    bandwidth: as of `quadratic_program`.
    solution: where the run begins, as of `quadratic_program`; None: by itself.
    verbose: print a row for every update.
    callback: called with a `Report` of every update, as of `quadratic_program`. None: nobody.
    max_seconds: the run ends after the update in which they are over, as of `quadratic_program`. None: no limit.

    Returns a `Solution`: a point inside the set of solutions if there is more than one. What may be done with it, and
    its derivatives, as of `quadratic_program`. Raises what `quadratic_program` raises. Source: Mehrotra 1992,
    doi:10.1137/0802028, predictor and corrector. Not for integers, nor for derivatives of many thousand parameters.

    >>> found = jo.linear_program(jnp.array([1.0, 2.0]), A=[[1.0, 1.0]], b=[1.0], bounds=(0.0, None))
    >>> round(float(found.value), 2)
    1.0
    """
    name, data = "linear_program", ProgramData(None, c, A, b, G, h, bounds)
    return _program(name, data, params, tol, max_steps, bandwidth, solution, verbose, callback, max_seconds)


@options
def quadratic_program(
    Q: Any,
    c: PyTree,
    *,
    A: Any = None,
    b: Any = None,
    G: Any = None,
    h: Any = None,
    bounds: tuple[PyTree, PyTree] | None = None,
    params: Params = None,
    tol: Hyper | None = None,
    max_steps: int | None = None,
    bandwidth: int | None = None,
    solution: Solution | None = None,
    verbose: bool = False,
    callback: Callable[[Report], Any] | None = None,
    max_seconds: float | None = None,
) -> Solution:
    """The solution of a convex quadratic program.

    min x'Qx/2 + c'x   with   A x = b,   G x <= h,   lower <= x <= upper

    Q: float[n,n], positive semidefinite; it counts by its symmetric part. It may be a BCOO matrix, as A and G may:
        where its places are no tracers they are looked at once, and what is compiled is compiled for them.
    c: float[n], or a tree, whose elements as one vector are meant by n; computed in its dtype, and the solution is such
        a tree.
    A, b: float[m,n], which may be a BCOO matrix, and float[m], the equations; None: none.
    G, h: float[k,n], also BCOO, and float[k] (inf for no row), the inequalities; None: none.
    bounds: (lower, upper), each None, a number or a tree like c; None: free, and equal ones fix a parameter.
    params: a tree like c that takes its place for structure and dtype; None: c. Where the run starts does not depend on
        it.
    tol: bound on the relative residuals and the gap, >= 0; None: eps**(4/7) of the dtype, 1e-9 in float64.
    max_steps: updates, an int >= 0, traced too; None: 200.
    bandwidth: how far apart, at most, two parameters are that are together in an element of Q or a row of A or G, as
        in optimal control, stage after stage; an update then takes n bandwidth**2 operations for its factors, not n**3.
        None: any distance. Where the matrices are no tracers it need not be told: an order in which parameters meet
        their neighbours alone is looked for, from 96 parameters on, and taken if it saves most of the work.
    solution: a `Solution` of a problem of the same shapes, near which the run begins: half the steps where little has
        changed. One that failed counts for nothing, and no derivative goes through it. None: a start of its own.
    verbose: print a row for every update.
    callback: called with a `Report` of every update, from inside the compiled loop: value and params of the best point
        so far, optimality, the largest relative residual, and more; another callback compiles nothing anew. Under vmap
        of each lane until it ends. What it raises ends the run. None: nobody.
    max_seconds: the run ends after the update in which they are over, compiling counted, with the status OUT_OF_TIME,
        >= 0; outside of jit, vmap and grad only, where it runs in blocks of updates. None: no limit.

    Returns a `Solution`, with the multipliers and kkt of Q x + c + A'y + G'z - z_lower + z_upper = 0 and its residuals,
    and a `Certificate` as aux: of an INFEASIBLE problem multipliers of a combination of its rows that no x satisfies,
    A'y + G'z - z_lower + z_upper = 0, b'y + h'z - lower'z_lower + upper'z_upper = -1, of an UNBOUNDED one a ray, along
    which the value falls for ever, Q r = 0, A r = 0, G r <= 0, c'r = -1; both to within tol, and zeros where they are
    not asked for. What is 1e20 or more, of h or of the bounds, is none.
    Pure: jitted inside, so that new data of the same shapes compiles nothing; it may be vmapped (each lane stops by
    itself) and params, value and multipliers differentiated by all data, in forward and reverse mode, again and again:
    by the conditions of Karush, Kuhn and Tucker on the constraints that are active (Amos & Kolter 2017,
    arXiv:1703.00443, equation 6). Where the solution has a kink that is one of several; where it is not unique it is
    the shortest, which does not move it within the set of solutions; where a run failed, zero.

    On CPU, jaxlib 0.10.2's batched factorizations may wait for ever on a pool of few threads, and matrices of some
    hundred rows on LAPACK's: for many lanes set the environment's NPROC=16 and OPENBLAS_NUM_THREADS=1 before jax
    starts, or use lax.map.

    Raises MissingArgumentError without Q, or for a matrix without its right-hand side; TreeError where shapes do not
    fit or bounds leave no room; HyperparameterError if Q's numbers can be seen and one of its eigenvalues is negative,
    the matrices' and they leave the band, or `solution` is none. Traced, those are the statuses INFEASIBLE and STUCK.
    Source: see `quadratic_interior_point`; matrices in blocks by cyclic reduction (Golub & Van Loan 2013, section
    4.5.4), sparse ones by quasidefinite factors (Vanderbei 1995, doi:10.1137/0805005). Not for integers; derivatives
    take a dense system of 3 n + m + k rows, too much for many thousand parameters.

    >>> found = jo.quadratic_program(jnp.eye(2), jnp.array([-1.0, -1.0]), bounds=(None, 0.5))
    >>> [round(float(x), 3) for x in found.params]
    [0.5, 0.5]
    """
    name = "quadratic_program"
    if Q is None:
        errors.missing_argument(name, "Q", "Pass the matrix, or use linear_program")
    data = ProgramData(Q, c, A, b, G, h, bounds)
    return _program(name, data, params, tol, max_steps, bandwidth, solution, verbose, callback, max_seconds)


def _program(
    name: str, data: ProgramData, params: Params, tol: Any, max_steps: Any, bandwidth: Any, before: Any, verbose: bool,
    callback: Callable[[Report], Any] | None, seconds: Any,
) -> Solution:  # fmt: skip
    began = time.perf_counter()
    check_arrays(name, "c", data.c)
    data = data._replace(
        c=as_floating(data.c),
        bounds=None if data.bounds is None else tuple(map(as_floating, check_bound_pair(name, data.bounds))),
        **{argument: as_array(getattr(data, argument)) for argument in ("Q", "A", "b", "G", "h")},
    )
    params = jax.tree.map(
        lambda leaf: np.zeros(np.shape(leaf), tree.dtype_of(leaf)), data.c if params is None else params
    )
    for index, leaf in enumerate(jax.tree.leaves(data.c)):
        check_leaf(name, "c", data.c, index, leaf)
    n = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    check_program(name, params, n, data.c, data.Q, (data.A, data.b), (data.G, data.h))
    check_box(name, params, data.bounds)
    if bandwidth is not None:
        check_band(name, bandwidth, data.Q, data.A, data.G)
    most = check_limits(name, tol, max_steps, PROGRAM_STEPS)
    data, setting, places = structured(ProgramSetting(name, verbose, bandwidth, None, None), n, data)
    task = ProgramTask(params, drop_weak_types(data), tol, places, None)
    if before is not None:
        task = task._replace(begin=begin_near(name, before, params, data))
    if seconds is not None:
        check_seconds(name, seconds, "implicit", (task, most))
    solution: Solution
    with Listener(name, callback) as listener:
        if seconds is None:
            solution = _solved(setting, task, most, listener)
        else:
            solution = until_late(
                began, seconds, int(most), verbose,
                lambda until, carry: _updates(setting, task, until, listener, carry),
                lambda carry, code: _judged(setting, task, carry, code),
            )  # fmt: skip
    code = solution.status.code
    if data.Q is not None and (isinstance(code, jax.core.Tracer) or np.any(np.asarray(code) == int(Code.STUCK))):
        _check_convex(name, data.Q)
    return solution


def _check_convex(name: str, Q: Any) -> None:
    """A concrete Q must be positive semidefinite, but for rounding; a traced one shows itself by its status."""
    large = isinstance(Q, Sparse) and Q.shape[0] > SEEN
    if large or any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(Q)):
        return
    if isinstance(Q, Sparse):
        matrix = np.zeros(Q.shape)
        np.add.at(matrix, (Q.rows, Q.columns), np.asarray(Q.data))
    else:
        matrix = np.asarray(Q, np.float64)
    if not np.all(np.isfinite(matrix)) or not matrix.size:
        return
    ends = np.linalg.eigvalsh((matrix + matrix.T) / 2)[[0, -1]]
    if ends[0] < -1e-6 * np.max(np.abs(ends)):
        say(HyperparameterError, name, "Q must be positive semidefinite, for the problem to be convex",
            f"the eigenvalue {ends[0]:.6g}", "Find a local solution of another problem with "
            "minimize(..., lbfgsb(), bounds=...)")  # fmt: skip


@jitted
def _solved(setting: ProgramSetting, task: ProgramTask, max_steps: Any, listener: Any) -> Solution:
    start, at, restore = begun(setting, task)
    solution = loop(start, at, max_steps, setting.verbose, listener, shown=lambda state: restore(state.best))
    return differentiated(task, solution, start.extra_args["prepared"].given)


@jitted
def _updates(
    setting: ProgramSetting, task: ProgramTask, until: Any, listener: Any, carry: LoopCarry | None
) -> LoopCarry:
    """Updates until their number is `until`, from the start or from where the last block ended."""
    start, at, restore = begun(setting, task, None if carry is None else carry.state)
    goes_on, step = passes(start, until, setting.verbose, listener, lambda state: restore(state.best))
    end: LoopCarry = jax.lax.while_loop(goes_on, step, LoopCarry(at, start.state) if carry is None else carry)
    return end


@jitted
def _judged(setting: ProgramSetting, task: ProgramTask, carry: LoopCarry, unfinished: Any) -> Solution:
    known = prepared_task(setting, task, carry.state.scaling).program
    return differentiated(task, solution_of(carry, unfinished), known.given)
