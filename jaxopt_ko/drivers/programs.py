"""Drivers for linear and quadratic programs, and the derivatives of their solutions."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_arrays, check_leaf, check_same_trees
from jaxopt_ko.core.numerics import scalar_dtype
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers.compiled import drop_weak_types, frozen, jitted
from jaxopt_ko.drivers.implicit import Held, implicit
from jaxopt_ko.drivers.run import RunStart, check_limits, loop
from jaxopt_ko.errors import HyperparameterError, TreeError, check_size, describe, say
from jaxopt_ko.solvers.problem.bounds import check_bound_pair, check_box
from jaxopt_ko.solvers.quadratic import (
    BlockSizes,
    Places,
    Sparse,
    SparsePlan,
    Start,
    arranged,
    arranged_start,
    as_dense,
    as_sparse,
    block_order,
    check_program,
    given_program,
    prepared,
    quadratic_interior_point,
    restored,
    rows_within,
    sides,
    sparse_plan,
)
from jaxopt_ko.solvers.quadratic.structure import LEAST
from jaxopt_ko.types import Code, Hyper, Multipliers, Params, PyTree, Solution

PROGRAM_STEPS = 200
QUICK = 1e8  # operations of a factorization in blocks up to which no sparse one is planned
SEEN = 2000  # rows of a sparse Q up to which its least eigenvalue is told


class _Program(NamedTuple):
    """What a run is compiled for."""

    name: str
    verbose: bool
    bandwidth: int | None
    blocks: BlockSizes | None  # of matrices in blocks
    plan: SparsePlan | None  # of sparse ones


class _Data(NamedTuple):
    """A problem: all that its solution may be differentiated by."""

    Q: Any
    c: PyTree
    A: Any
    b: Any
    G: Any
    h: Any
    bounds: Any


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

    Returns a `Solution`: a point inside the set of solutions if there is more than one. What may be done with it, and
    its derivatives, as of `quadratic_program`. Raises what `quadratic_program` raises. Source: Mehrotra 1992,
    doi:10.1137/0802028, predictor and corrector. Not for integers, nor for derivatives of many thousand parameters.

    >>> found = jo.linear_program(jnp.array([1.0, 2.0]), A=[[1.0, 1.0]], b=[1.0], bounds=(0.0, None))
    >>> round(float(found.value), 2)
    1.0
    """
    return _program(
        "linear_program", _Data(None, c, A, b, G, h, bounds), params, tol, max_steps, bandwidth, solution, verbose
    )


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

    Returns a `Solution`, with the multipliers and kkt of Q x + c + A'y + G'z - z_lower + z_upper = 0 and its residuals.
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
    data = _Data(Q, c, A, b, G, h, bounds)
    return _program(name, data, params, tol, max_steps, bandwidth, solution, verbose)


def _program(
    name: str, data: _Data, params: Params, tol: Any, max_steps: Any, bandwidth: Any, before: Any, verbose: bool
) -> Solution:
    check_arrays(name, "c", data.c)
    data = data._replace(
        c=_floating(data.c),
        bounds=None if data.bounds is None else tuple(map(_floating, check_bound_pair(name, data.bounds))),
        **{argument: _array(getattr(data, argument)) for argument in ("Q", "A", "b", "G", "h")},
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
        _check_band(name, bandwidth, data.Q, data.A, data.G)
    most = check_limits(name, tol, max_steps, PROGRAM_STEPS)
    data, setting, places = _structured(_Program(name, verbose, bandwidth, None, None), n, data)
    begin = None if before is None else _begin(name, before, params, data)
    solution: Solution = _solved(setting, params, drop_weak_types(data), tol, most, places, begin)
    code = solution.status.code
    if data.Q is not None and (isinstance(code, jax.core.Tracer) or np.any(np.asarray(code) == int(Code.STUCK))):
        _check_convex(name, data.Q)
    return solution


def _structured(setting: _Program, n: int, data: _Data) -> tuple[_Data, _Program, Places | None]:
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


def _begin(name: str, before: Solution, params: Params, data: _Data) -> Start:
    """What a solution of a problem of the same shapes says of this one's."""
    if not isinstance(before, Solution) or before.multipliers is None:
        say(HyperparameterError, name, "solution must be what this driver returned", describe(before),
            "Pass the Solution of a problem of the same shapes, or leave it out")  # fmt: skip
    check_same_trees(name, "solution.params", before.params, "params", params)
    for argument, found, right in zip("AG", before.multipliers[:2], (data.b, data.h), strict=True):
        rows = (0,) if right is None else np.shape(right)
        if np.shape(found) != rows:
            say(TreeError, name, f"solution must have a multiplier for each row of {argument}",
                f"{np.shape(found)}, and there are {rows}", "It is for problems of the same shapes")  # fmt: skip
    y, z, low, high = (tree.ravel(part)[0] for part in before.multipliers)
    return Start(tree.ravel(before.params)[0], y, z, low, high, before.status.success)


def _check_band(name: str, bandwidth: Any, Q: Any, *matrices: Any) -> None:
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
def _solved(
    setting: _Program, params: Params, data: _Data, tol: Any, max_steps: Any, places: Places | None, begin: Any
) -> Solution:
    words, at, bandwidth, begin = frozen(data)._asdict(), params, setting.bandwidth, frozen(begin)
    x, unravel = tree.ravel(params)
    if setting.blocks is not None and places is not None:
        lower, upper = sides(setting.name, params, words.pop("bounds"))
        words["c"], bandwidth = tree.ravel(words["c"])[0].astype(x.dtype), None
        words = arranged(setting.blocks, places, lower=lower, upper=upper, **words)
        at = jnp.zeros(setting.blocks.parameters, x.dtype)
        begin = None if begin is None else arranged_start(setting.blocks, places, begin)
    known = prepared(given_program(setting.name, at, **words), None, bandwidth, setting.plan)
    extra_args = {**words, "tol": tol, "prepared": known}
    method = quadratic_interior_point(bandwidth=bandwidth)
    start = RunStart(method, method.init(at, start=begin, **extra_args), extra_args)
    solution = loop(start, at, max_steps, setting.verbose)
    if places is not None:
        solution = restored(solution, places, unravel)
    end = frozen((solution.params, solution.multipliers))
    failed = jnp.broadcast_to(~solution.status.success, tree.ravel(end)[0].shape)
    found, held = (end, frozen(solution.value)), Held(failed, None, failed)
    (x, multipliers), value = implicit(_conditions, _value, found, (data, _active(end[0], end[1], data)), held)
    return solution._replace(params=x, value=value, multipliers=multipliers)


class _Active(NamedTuple):
    """The constraints that hold a solution: their multipliers are larger than the room that they leave."""

    rows: Array  # bool[k]
    lower: Array  # bool[n]
    upper: Array  # bool[n]


def _active(end: Params, multipliers: Multipliers, data: _Data) -> _Active:
    x, _, z, low, high = _vectors((end, multipliers))
    lower, upper = sides("quadratic_program", end, data.bounds)
    fixed = lower == upper
    rows = jnp.zeros(z.shape, bool)
    if data.G is not None:
        h = jnp.asarray(data.h).astype(x.dtype)
        rows = z > h - _matrix(data.G, x) @ x
    by_lower = jnp.where(fixed, low >= high, low > x - lower)
    return frozen(_Active(rows, by_lower, jnp.where(fixed, ~by_lower, high > upper - x)))  # type: ignore[no-any-return]


def _conditions(solution: tuple[Params, Multipliers], problem: tuple[_Data, _Active]) -> PyTree:
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


def _gradient(x: Array, data: _Data) -> Array:
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


def _value(solution: tuple[Params, Multipliers], problem: tuple[_Data, _Active]) -> Array:
    """x'Qx/2 + c'x."""
    data, _ = problem
    x, _ = tree.ravel(solution[0])
    return 0.5 * x @ (_gradient(x, data) + tree.ravel(data.c)[0].astype(x.dtype))


def _vectors(solution: tuple[Params, Multipliers]) -> tuple[Array, Array, Array, Array, Array]:
    x, (y, z, low, high) = solution
    return tree.ravel(x)[0], y, z, tree.ravel(low)[0], tree.ravel(high)[0]


def _array(value: Any) -> Any:
    """A nest of lists as an array."""
    return np.asarray(value) if isinstance(value, list | tuple | int | float) else value


def _floating(given: PyTree) -> PyTree:
    """A tree with integers made floating; a list of plain numbers as an array."""
    if isinstance(given, list | tuple) and given and all(isinstance(v, int | float) for v in given):
        given = np.asarray(given)

    def leaf(value: Any) -> Any:
        whole = jnp.issubdtype(jnp.result_type(value), jnp.integer)
        return (value if hasattr(value, "astype") else np.asarray(value)).astype(scalar_dtype()) if whole else value

    return jax.tree.map(leaf, given)
