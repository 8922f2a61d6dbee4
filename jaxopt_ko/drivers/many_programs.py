"""Many linear or quadratic programs of one shape at once, through lanes that are filled anew as they are solved."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_arrays
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers import table
from jaxopt_ko.drivers.compiled import drop_weak_types, frozen, jitted
from jaxopt_ko.drivers.pool import Work, lane_count, pooled
from jaxopt_ko.drivers.program_runs import (
    PROGRAM_STEPS,
    PreparedTask,
    ProgramData,
    ProgramSetting,
    ProgramTask,
    as_array,
    as_floating,
    begin_near,
    begun_as,
    check_band,
    differentiated,
    prepared_task,
    structured,
)  # fmt: skip
from jaxopt_ko.drivers.run import RunStart, check_limits
from jaxopt_ko.drivers.shares import divided, mesh_of, own_bounds, placed_on, problem_count
from jaxopt_ko.errors import TreeError, describe, say
from jaxopt_ko.solvers.problem.bounds import check_bound_pair, check_box
from jaxopt_ko.solvers.quadratic import QuadraticState, check_program
from jaxopt_ko.types import Hyper, Params, PyTree, Solution

AXES = {"Q": 2, "A": 2, "b": 1, "G": 2, "h": 1}  # of what all problems share; one more if each has its own


class _Setting(NamedTuple):
    """What a run is compiled for."""

    program: ProgramSetting
    own: tuple[bool, ...]  # of each array: has each problem one of its own?
    lanes: int  # on each device
    keep_state: bool
    mesh: jax.sharding.Mesh | None


@options
def quadratic_program_many(
    Q: Any,
    c: PyTree,
    *,
    A: Any = None,
    b: Any = None,
    G: Any = None,
    h: Any = None,
    bounds: tuple[PyTree, PyTree] | None = None,
    tol: Hyper | None = None,
    max_steps: int | None = None,
    bandwidth: int | None = None,
    solution: Solution | None = None,
    batch_size: int | None = None,
    devices: Any = None,
    verbose: bool = False,
    keep_state: bool = True,
) -> Solution:
    """The solutions of many convex programs of one shape, each as `quadratic_program` finds it, for hardly more than
    their own work.

    min x'Q_i x/2 + c_i'x   with   A_i x = b_i,   G_i x <= h_i,   lower_i <= x <= upper_i   for i = 0 … p - 1

    Q: float[p,n,n], or float[n,n], also BCOO, if all problems share it; None: linear programs.
    c: float[p,n], or a tree whose leaves have a leading axis of p.
    A, b: float[p,m,n] and float[p,m], the equations; without p (A then also BCOO) what is shared. None: none.
    G, h: float[p,k,n] and float[p,k] (inf for no row), the inequalities; as A and b. None: none.
    bounds: (lower, upper), each None, a number, a tree like one problem's c or like all of them.
    tol, max_steps, bandwidth: as of `quadratic_program`, for each problem.
    solution: a `Solution` of this driver for as many problems of the same shapes, near which the runs begin; None: by
        themselves.
    batch_size: lanes, problems that are worked on at once, an int >= 1; None: the power of two at or below p / 32, 64
        to 8,192. A lane holds its problem's matrices twice.
    devices: a sequence of devices or a `jax.sharding.Mesh`, over which the problems are divided in order; None: where
        the arrays are.
    verbose: print some rows of how many problems still wait, and what it took in all.
    keep_state: False leaves `state` and `aux` out.

    Returns one `Solution`, whose arrays have a leading axis of p: those of `quadratic_program` under `vmap`, up to
    rounding, with its derivatives. Under `vmap` alone every pass computes all lanes until the slowest is done; here
    finished lanes take the problems that wait. One program, which may stand within `jit`. Where places of zeros can be
    seen and all problems have the same, blocks and sparse factors are found as for one.

    On CPU set the environment's NPROC=16 and OPENBLAS_NUM_THREADS=1 before jax starts: see `quadratic_program`.

    Raises what `quadratic_program` raises, but for a Q that is not convex: such a problem's status is STUCK; TreeError
    for leading axes that differ. Source: this package's. Not for one problem, nor for problems of different shapes: pad
    them by rows with h = inf, and by parameters with equal bounds.

    >>> c = jnp.linspace(-3.0, 3.0, 100)[:, None] * jnp.ones(2)
    >>> found = jo.quadratic_program_many(jnp.eye(2), c, bounds=(-1.0, 1.0))
    >>> bool(jnp.allclose(found.params, jnp.clip(-c, -1.0, 1.0), atol=0.05))
    True
    """
    name = "quadratic_program_many"
    check_arrays(name, "c", c)
    c = as_floating(c)
    count = problem_count(name, c, "c")
    data = ProgramData(as_array(Q), c, as_array(A), as_array(b), as_array(G), as_array(h), None)
    flags = {argument: np.ndim(getattr(data, argument)) == axes + 1 for argument, axes in AXES.items()}
    _check_counts(name, count, data, flags)
    params = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf), tree.dtype_of(leaf)), c)
    if bounds is not None:
        data = data._replace(bounds=_all_bounds(name, bounds, params, count))
    one = _one_problem(data, flags)
    params_of_one = jax.tree.map(lambda leaf: leaf[0], params)
    n = sum(np.size(leaf) for leaf in jax.tree.leaves(params_of_one))
    check_program(name, params_of_one, n, one.c, one.Q, (one.A, one.b), (one.G, one.h))
    check_box(name, params, data.bounds)
    most = check_limits(name, tol, max_steps, PROGRAM_STEPS)
    if bandwidth is not None:
        check_band(name, bandwidth, *(_together(getattr(data, M), flags[M]) for M in "QAG"))
    setting = ProgramSetting(name, verbose, bandwidth, None, None)
    data, own, setting, places = _structured_alike(setting, n, drop_weak_types(data), flags)
    task, mine = ProgramTask(params, data, tol, places, None), ProgramTask(_all_of(params), own, None, None, None)
    mine = mine._replace(tol=_none_of(tol), places=_none_of(places))
    if solution is not None:
        task = task._replace(begin=begin_near(name, solution, params, data, count))
        mine = mine._replace(begin=_all_of(task.begin))
    marks, mesh = jax.tree.leaves(mine), mesh_of(name, devices)
    if mesh is not None:
        task = placed_on(mesh, marks, count, task)
    lanes = lane_count(name, count, batch_size, 1 if mesh is None else mesh.size)
    found: Solution = _solved(_Setting(setting, tuple(marks), lanes, keep_state, mesh), task, most)
    return found


@jitted
def _solved(setting: _Setting, task: ProgramTask, most: Any) -> Solution:
    program, own, lanes, keep_state, mesh = setting
    treedef: Any
    leaves, treedef = jax.tree.flatten(task)
    mine = [leaf for leaf, each in zip(leaves, own, strict=True) if each]
    common = [leaf for leaf, each in zip(leaves, own, strict=True) if not each]

    def rebuilt(mine: list[Array], common: list[Any]) -> ProgramTask:
        of_each, of_all = iter(mine), iter(common)
        whole: ProgramTask = treedef.unflatten([next(of_each if each else of_all) for each in own])
        return whole

    def solve(mine: list[Array], common: list[Any]) -> tuple[Solution, Array]:
        first: dict[str, Any] = {}  # what is no array in a prepared problem

        def prepare(mine: list[Array]) -> list[Array]:
            leaves, first["treedef"], first["rest"] = _arrays_of(prepared_task(program, rebuilt(mine, common)))
            return leaves

        def held(leaves: list[Array]) -> PreparedTask:
            return _with_rest(jax.tree.unflatten(first["treedef"], leaves), first["rest"])

        def begin(known: PreparedTask) -> tuple[Params, RunStart]:
            given = known.program.given
            params = given.unravel(jnp.zeros_like(given.x))
            return params, begun_as(program, known, params, None)

        def again(known: PreparedTask, params: Params, state: QuadraticState) -> RunStart:
            return begun_as(program, known, params, state)

        work = Work(begin, again, keep_state, table.show_pool if program.verbose else None, prepare)
        found, updates = pooled(work, mine, held, lanes, most)
        return found, updates[None]

    found, updates = divided(solve, mesh, len(mine[0]), *frozen((mine, common)))
    if program.verbose:
        table.show_pool_end(found, jnp.sum(updates))

    def ended(solution: Solution, mine: list[Array]) -> Solution:
        one, given = rebuilt(mine, common), None
        if keep_state:
            given = prepared_task(program, one, solution.state.scaling).program.given
        return differentiated(one, solution, given)

    solutions: Solution = jax.vmap(ended)(found, mine)
    return solutions


def _arrays_of(known: PreparedTask) -> tuple[list[Array], Any, tuple[Any, Any]]:
    """The arrays of a prepared problem that its updates need, their structure, and what is no array."""
    given, program = known.program.given, known.program.program
    rest = given.unravel, program.plan
    given, program = given._replace(unravel=None, free=None), program._replace(plan=None)  # type: ignore[arg-type]
    leaves, treedef = jax.tree.flatten(known._replace(program=known.program._replace(given=given, program=program)))
    return leaves, treedef, rest


def _with_rest(known: PreparedTask, rest: tuple[Any, Any]) -> PreparedTask:
    """And together again."""
    given = known.program.given._replace(unravel=rest[0])
    program = known.program.program._replace(plan=rest[1])
    return known._replace(program=known.program._replace(given=given, program=program))


# ---- what the user gave -----------------------------------------------------------------------------------


def _check_counts(name: str, count: int, data: ProgramData, flags: dict[str, bool]) -> None:
    """Everything has c's leading axis, or none."""
    arrays = [("c", leaf) for leaf in jax.tree.leaves(data.c)]
    arrays += [(argument, getattr(data, argument)) for argument, each in flags.items() if each]
    for argument, array in arrays:
        if hasattr(array, "indices"):
            say(TreeError, name, f"{argument} must be shared if it is a BCOO matrix", describe(array),
                "Give one matrix, or arrays float[p,…]")  # fmt: skip
        if np.shape(array)[0] != count:
            say(TreeError, name, f"{argument} must have c's leading axis, of {count} problems, or none",
                describe(array), "Stack one for each problem, or give one that all share")  # fmt: skip


def _all_bounds(name: str, bounds: Any, params: Params, count: int) -> tuple[PyTree, ...]:
    """Both sides, for each problem unless they are numbers."""
    pair = tuple(map(as_floating, check_bound_pair(name, bounds)))
    treedef: Any
    leaves, treedef = jax.tree.flatten(pair)

    def spread(leaf: Any, each: bool) -> Any:
        whole = each or not np.ndim(leaf)
        return leaf if whole else (np if isinstance(leaf, np.ndarray) else jnp).broadcast_to(
            leaf, (count, *np.shape(leaf))
        )  # fmt: skip

    both: tuple[PyTree, ...] = treedef.unflatten(
        [spread(leaf, each) for leaf, each in zip(leaves, own_bounds(name, pair, params), strict=True)]
    )
    return both


def _one_problem(data: ProgramData, flags: dict[str, bool]) -> ProgramData:
    """Abstract arrays of one problem."""

    def one(leaf: Any) -> Any:
        return tree.abstract(np.shape(leaf)[1:], tree.dtype_of(leaf))

    of_each = {argument: one(getattr(data, argument)) for argument, each in flags.items() if each}
    return data._replace(c=jax.tree.map(one, data.c), **of_each)


def _together(matrix: Any, each: bool) -> Any:
    """What is shared, or where any problem's matrix is not zero; a tracer as it is."""
    if not each or isinstance(matrix, jax.core.Tracer):
        return matrix
    return np.any(np.asarray(matrix) != 0, axis=0).astype(np.float32)


def _structured_alike(
    setting: ProgramSetting, n: int, data: ProgramData, flags: dict[str, bool]
) -> tuple[ProgramData, ProgramData, ProgramSetting, Any]:
    """As `structured`, for a form that fits all; and for each array of the data whether each problem has its own."""
    given = {M: getattr(data, M) for M in "QAG"}
    alike, setting, places = structured(setting, n, data._replace(**{M: _together(given[M], flags[M]) for M in given}))
    own: dict[str, Any] = {argument: None if getattr(data, argument) is None else flags[argument] for argument in AXES}
    for M, each in ((M, flags[M]) for M in given):
        found = getattr(alike, M)
        if not each:
            own[M] = _none_of(found)
        elif setting.plan is None:
            alike = alike._replace(**{M: given[M]})
        else:
            numbers = jnp.asarray(given[M])[:, found.rows, found.columns]
            alike = alike._replace(**{M: dataclasses.replace(found, data=numbers)})
            own[M] = jax.tree.unflatten(jax.tree.structure(found), [True, False, False])
    marks = ProgramData(c=_all_of(data.c), bounds=jax.tree.map(lambda leaf: np.ndim(leaf) > 0, data.bounds), **own)
    return alike, marks, setting, places


def _all_of(given: PyTree) -> PyTree:
    return jax.tree.map(lambda _: True, given)


def _none_of(given: PyTree) -> PyTree:
    return jax.tree.map(lambda _: False, given)
