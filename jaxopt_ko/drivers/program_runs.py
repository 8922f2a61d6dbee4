"""How a linear or quadratic program is run: the form of its matrices, where the run begins, derivatives of its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import sparse

from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.numerics import scalar_dtype
from jaxopt_ko.drivers.compiled import frozen
from jaxopt_ko.drivers.implicit import Held, implicit
from jaxopt_ko.drivers.run import RunStart
from jaxopt_ko.errors import HyperparameterError, TreeError, check_size, describe, say
from jaxopt_ko.solvers.quadratic import (
    BlockSizes,
    Equilibration,
    GivenProgram,
    Places,
    PreparedProgram,
    QuadraticState,
    Sparse,
    SparsePlan,
    Start,
    arranged,
    arranged_start,
    as_dense,
    as_sparse,
    block_order,
    certificate,
    given_program,
    prepared,
    quadratic_interior_point,
    restored,
    rows_within,
    sides,
    sparse_plan,
)
from jaxopt_ko.solvers.quadratic.structure import LEAST
from jaxopt_ko.types import Multipliers, Params, PyTree, Solution

PROGRAM_STEPS = 200
QUICK = 1e8  # operations of a factorization in blocks up to which no sparse one is planned


class ProgramSetting(NamedTuple):
    """What a run is compiled for."""

    name: str
    verbose: bool
    bandwidth: int | None
    blocks: BlockSizes | None  # of matrices in blocks
    plan: SparsePlan | None  # of sparse ones


class ProgramData(NamedTuple):
    """A problem: all that its solution may be differentiated by."""

    Q: Any
    c: PyTree
    A: Any
    b: Any
    G: Any
    h: Any
    bounds: Any


class ProgramTask(NamedTuple):
    """The arrays of a run."""

    params: Params
    data: ProgramData
    tol: Any
    places: Places | None  # where matrices in blocks have what
    begin: Start | None  # near which the run begins


class ProgramRun(NamedTuple):
    """A run that has begun, on the problem as it is solved."""

    start: RunStart
    params: Params
    restore: Callable[[Params], Params]  # of the problem as it was given


class PreparedTask(NamedTuple):
    """A problem as it is solved: what is the same in every update."""

    program: PreparedProgram
    begin: Start | None  # near which the run begins
    tol: Any


def prepared_task(setting: ProgramSetting, task: ProgramTask, scaling: Equilibration | None = None) -> PreparedTask:
    """The problem in its blocks, if it has some, and scaled; scaling: None: anew."""
    at, data, tol, places, begin = frozen(task)
    words = data._asdict()
    if setting.blocks is not None and places is not None:
        lower, upper = sides(setting.name, at, words.pop("bounds"))
        words["c"] = tree.ravel(words["c"])[0].astype(lower.dtype)
        words = arranged(setting.blocks, places, lower=lower, upper=upper, **words)
        at = jnp.zeros(setting.blocks.parameters, lower.dtype)
        begin = None if begin is None else arranged_start(setting.blocks, places, begin)
    program = prepared(given_program(setting.name, at, **words), scaling, _bandwidth(setting), setting.plan)
    return PreparedTask(program, begin, tol)


def begun(setting: ProgramSetting, task: ProgramTask, state: QuadraticState | None = None) -> ProgramRun:
    """state: where a run goes on that has begun before; None: its start."""
    known = prepared_task(setting, task, None if state is None else state.scaling)
    given, places = known.program.given, task.places
    params = given.unravel(jnp.zeros_like(given.x))
    unravel = tree.ravel(task.params)[1]

    def restore(params: Params) -> Params:
        return params if places is None else unravel(params[places.x])

    return ProgramRun(begun_as(setting, known, params, state), params, restore)


def begun_as(setting: ProgramSetting, known: PreparedTask, params: Params, state: QuadraticState | None) -> RunStart:
    """The same of a problem that has been prepared."""
    method = quadratic_interior_point(bandwidth=_bandwidth(setting))
    words = {"prepared": known.program, "tol": known.tol}
    return RunStart(method, method.init(params, start=known.begin, **words) if state is None else state, words)


def _bandwidth(setting: ProgramSetting) -> int | None:
    return setting.bandwidth if setting.blocks is None else None


def structured(setting: ProgramSetting, n: int, data: ProgramData) -> tuple[ProgramData, ProgramSetting, Places | None]:
    """How the matrices are best worked with: in blocks, by a sparse factor, or as arrays."""
    matrices = [data.Q, data.A, data.G]
    told = any(hasattr(M, "indices") for M in matrices)
    if told:
        matrices = [as_sparse(M, i == 0) if hasattr(M, "indices") else M for i, M in enumerate(matrices)]
    order = plan = None
    if not any(isinstance(M, jax.core.Tracer) for M in matrices):
        order = block_order(n, *matrices)
        work = np.inf if order is None else order.work
        if told and n >= LEAST and work > QUICK:
            found = [as_sparse(M, i == 0) for i, M in enumerate(matrices)]
            plan = sparse_plan(n, found[0], found[1], found[2], work)
            matrices, order = (matrices, order) if plan is None else (found, None)
    if order is None and plan is None:
        matrices = [as_dense(M) for M in matrices]
    setting = setting._replace(blocks=None if order is None else order.sizes, plan=plan)
    places = None if order is None else Places(*map(jnp.asarray, order[1:4]))
    return data._replace(**dict(zip("QAG", matrices, strict=True))), setting, places


def check_band(name: str, bandwidth: Any, Q: Any, *matrices: Any) -> None:
    """A whole number, and no concrete matrix with elements further apart."""
    check_size(name, "bandwidth", bandwidth)
    for argument, given in zip("QAG", (Q, *matrices), strict=True):
        matrix = None if isinstance(given, jax.core.Tracer) else as_sparse(given)
        if not isinstance(matrix, Sparse):
            continue
        rows, columns = np.asarray(matrix.rows), np.asarray(matrix.columns)
        width = max(np.abs(rows - columns), default=0) if argument == "Q" else 0
        if argument != "Q" and rows.size:
            first = np.full(matrix.shape[0], np.iinfo(np.int64).max)
            last = np.zeros(matrix.shape[0], np.int64)
            np.minimum.at(first, rows, columns)
            np.maximum.at(last, rows, columns)
            width = np.max((last - first)[np.unique(rows)])
        if width > bandwidth:
            say(HyperparameterError, name, f"bandwidth must cover {argument}",
                f"{bandwidth}, and {argument} needs {width}",
                "Order the parameters so that those which meet are neighbours, or leave it out")  # fmt: skip


def as_array(value: Any) -> Any:
    """A nest of lists as an array; a sparse matrix of SciPy's, or a BCSR one, as BCOO."""
    if isinstance(value, sparse.BCSR):
        return value.to_bcoo()
    if hasattr(value, "tocoo"):
        return sparse.BCOO.from_scipy_sparse(value.tocoo())
    return np.asarray(value) if isinstance(value, list | tuple | int | float) else value


def as_floating(given: PyTree) -> PyTree:
    """A tree with integers made floating; a list of plain numbers as an array."""
    if isinstance(given, list | tuple) and given and all(isinstance(v, int | float) for v in given):
        given = np.asarray(given)

    def leaf(value: Any) -> Any:
        whole = jnp.issubdtype(jnp.result_type(value), jnp.integer)
        return (value if hasattr(value, "astype") else np.asarray(value)).astype(scalar_dtype()) if whole else value

    return jax.tree.map(leaf, given)


def begin_near(name: str, before: Solution, params: Params, data: ProgramData, count: int | None = None) -> Start:
    """What a solution of a problem of the same shapes says of this one's; count: of so many at once."""
    if not isinstance(before, Solution) or before.multipliers is None:
        say(HyperparameterError, name, "solution must be what this driver returned", describe(before),
            "Pass the Solution of a problem of the same shapes, or leave it out")  # fmt: skip
    check_same_trees(name, "solution.params", before.params, "params", params)
    lanes = () if count is None else (count,)
    for argument, found, right in zip("AG", before.multipliers[:2], (data.b, data.h), strict=True):
        rows = (*lanes, *((0,) if right is None else np.shape(right)[-1:]))
        if np.shape(found) != rows:
            say(TreeError, name, f"solution must have a multiplier for each row of {argument}",
                f"{np.shape(found)}, and there are {rows}", "It is for problems of the same shapes")  # fmt: skip
    y, z, low, high = before.multipliers
    ravel: Callable[[Params], Array] = lambda part: tree.ravel(part)[0]  # noqa: E731
    x, low, high = map(ravel if count is None else jax.vmap(ravel), (before.params, low, high))
    return Start(x, y, z, low, high, before.status.success)


def differentiated(task: ProgramTask, solution: Solution, given: GivenProgram | None) -> Solution:
    """The solution in the order of what was given, with its derivatives, and the certificate that there is none; given:
    the problem that its state is of, None: without a certificate."""
    data, places = task.data, task.places
    if given is not None:
        state = solution.state
        solution = solution._replace(aux=certificate(given, state.scaling, state.point, solution.status))
    if places is not None:
        solution = restored(solution, places, tree.ravel(task.params)[1])
    end = frozen((solution.params, solution.multipliers))
    failed = jnp.broadcast_to(~solution.status.success, tree.ravel(end)[0].shape)
    found, held = (end, frozen(solution.value)), Held(failed, None, failed)
    (x, multipliers), value = implicit(_conditions, _value, found, (data, _active(end[0], end[1], data)), held)
    return solution._replace(params=x, value=value, multipliers=multipliers)


class Active(NamedTuple):
    """The constraints that hold a solution: their multipliers are larger than the room that they leave."""

    rows: Array  # bool[k]
    lower: Array  # bool[n]
    upper: Array  # bool[n]


def _active(end: Params, multipliers: Multipliers, data: ProgramData) -> Active:
    x, _, z, low, high = _vectors((end, multipliers))
    lower, upper = sides("quadratic_program", end, data.bounds)
    fixed = lower == upper
    rows = jnp.zeros(z.shape, bool)
    if data.G is not None:
        h = jnp.asarray(data.h).astype(x.dtype)
        rows = z > h - _matrix(data.G, x) @ x
    by_lower = jnp.where(fixed, low >= high, low > x - lower)
    return frozen(Active(rows, by_lower, jnp.where(fixed, ~by_lower, high > upper - x)))  # type: ignore[no-any-return]


def _conditions(solution: tuple[Params, Multipliers], problem: tuple[ProgramData, Active]) -> PyTree:
    """Those of Karush, Kuhn and Tucker, as equations of the solution and its multipliers: what is active is an
    equation, the multiplier of what is not is 0.

    Q x + c + A'y + G'z - low + high = 0    A x = b    G x = h or z = 0    x = lower or low = 0    x = upper or high = 0
    """
    data, active = problem
    x, y, z, low, high = _vectors(solution)
    lower, upper = sides("quadratic_program", solution[0], data.bounds)
    slope = _gradient(x, data) - low + high
    equal, rows = y, z
    if data.A is not None:
        A = _matrix(data.A, x)
        slope, equal = slope + A.T @ y, A @ x - jnp.asarray(data.b).astype(x.dtype)
    if data.G is not None:
        G, h = _matrix(data.G, x), jnp.asarray(data.h).astype(x.dtype)
        real = h != jnp.inf
        G, h = rows_within(G, real, None), jnp.where(real, h, 0)
        slope, rows = slope + G.T @ z, jnp.where(active.rows, G @ x - h, z)
    below = jnp.where(active.lower, jnp.where(active.lower, lower, 0) - x, low)
    above = jnp.where(active.upper, x - jnp.where(active.upper, upper, 0), high)
    return slope, equal, rows, below, above


def _gradient(x: Array, data: ProgramData) -> Array:
    """Q x + c."""
    c = tree.ravel(data.c)[0].astype(x.dtype)
    if data.Q is None:
        return c
    Q = _matrix(data.Q, x)
    gradient: Array = 0.5 * (Q @ x + Q.T @ x) + c
    return gradient


def _matrix(M: Any, x: Array) -> Any:
    """In the dtype of x."""
    return M.astype(x.dtype) if isinstance(M, Sparse) else jnp.asarray(M).astype(x.dtype)


def _value(solution: tuple[Params, Multipliers], problem: tuple[ProgramData, Active]) -> Array:
    """x'Qx/2 + c'x."""
    data, _ = problem
    x, _ = tree.ravel(solution[0])
    return 0.5 * x @ (_gradient(x, data) + tree.ravel(data.c)[0].astype(x.dtype))


def _vectors(solution: tuple[Params, Multipliers]) -> tuple[Array, Array, Array, Array, Array]:
    x, (y, z, low, high) = solution
    return tree.ravel(x)[0], y, z, tree.ravel(low)[0], tree.ravel(high)[0]
