"""`root`: where equations hold, as many as there are unknowns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_leaf
from jaxopt_ko.core.method import name_of
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers.compiled import frozen
from jaxopt_ko.drivers.implicit import at_bounds, implicit, no_symmetric_system
from jaxopt_ko.drivers.patterns import check_heeded, pattern_of
from jaxopt_ko.drivers.reports import Report
from jaxopt_ko.drivers.run import Data, RunStart, run, started_on_residuals
from jaxopt_ko.errors import TransformationError, TreeError, say
from jaxopt_ko.solvers.least_squares import levenberg_marquardt
from jaxopt_ko.solvers.problem.sparsity import Pattern
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Params, PyTree, Solution, Status

DEFAULT_FIT = levenberg_marquardt()
SPARSE_FIT = levenberg_marquardt(linear_solver="sparse")


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
    jac_sparsity: Any = None,
    has_aux: bool = False,
    verbose: bool = False,
    derivative: str = "implicit",
    callback: Callable[[Report], Any] | None = None,
    max_seconds: float | None = None,
) -> Solution:
    """Where equations hold, as many as there are unknowns, from a starting point: as the least squares of their left
    sides.

    fn(params, *args) = 0;   the root's derivative is -(dfn/dparams)**-1 dfn/dargs

    fn: (params, *args) -> a tree of floating arrays, as many elements as params has, or (it, aux) with has_aux.
    params: the start, a tree of floating arrays.
    method: one for residuals: levenberg_marquardt() unless another is given, gauss_newton().
    args: what the functions are given after the parameters: a tuple of trees, differentiated by.
    bounds: (lower, upper), each None, a number or a tree like params or its upper part; fn is never evaluated outside.
    tol: success means max|fn| <= tol max(1, max|fn| at the start), >= 0; None: sqrt(eps) of the dtype.
    max_steps: updates, an int >= 0, traced too; None: 10,000.
    jac_sparsity: where fn's derivative may have entries, for many unknowns of which each equation holds few: bool[n,n],
        a BCOO matrix, a `sparse.Coloring`, or "detect": by `sparse.sparsity`, at each call. The method is then
        levenberg_marquardt(linear_solver="sparse"). None: it is dense.
    has_aux: does the function return a pair, what it is asked for and aux? The solution keeps aux.
    verbose: print a row for every update.
    derivative: "implicit" by the equations that hold, or "unrolled", see `minimize`; "implicit-cg" is refused.
    callback: called with a `Report` of every update, from inside the compiled loop: step, value, optimality, params and
        more; another callback compiles nothing anew. Under vmap of each lane until it ends. What it raises ends the
        run. None: nobody.
    max_seconds: the run ends after the update in which they are over, compiling counted, with the status OUT_OF_TIME,
        >= 0; outside of jit, vmap and grad only, where it runs in blocks of updates. None: no limit.

    Returns a `Solution`, whose value is |fn|**2 / 2; a minimum of |fn| that is no root is the status NO_ROOT. What may
    be done with it: see `minimize`.

    Raises TreeError, when traced, if fn returns another number of elements than params has; TransformationError for a
    method that reads no residuals. Source: see `levenberg_marquardt`. Not for more equations than unknowns:
    `least_squares`.

    >>> found = jo.root(lambda x: x**2 - 2, 1.0)
    >>> round(float(found.params), 4)
    1.4142
    """
    errors.check_function("root", "fn", fn)
    if derivative == "implicit-cg":
        no_symmetric_system("root", "the derivative of fn, which need not be symmetric")
    limits: dict[str, Any] = {
        "tol": tol, "max_steps": max_steps, "callback": callback, "max_seconds": max_seconds,
    }  # fmt: skip
    pattern = None
    if jac_sparsity is not None:
        method = SPARSE_FIT if method is DEFAULT_FIT else method
        residual_fn = residuals_of(lambda p: fn(p, *args), has_aux)
        pattern = pattern_of("root", jac_sparsity, residual_fn, params, has_aux)
    return run(
        Equations(fn, has_aux, pattern),
        method,
        params,
        Data(args, bounds),
        **limits,
        verbose=verbose,
        derivative=derivative,
    )


def residuals_of(fn: Callable[[Params], Any], has_aux: bool) -> Callable[[Params], Any]:
    """Equations as residuals, with aux if there is some."""

    def residual_fn(p: Params) -> Any:
        result = fn(p)
        return (_with_axis(result[0]), result[1]) if has_aux else _with_axis(result)

    return residual_fn


def _with_axis(r: PyTree) -> PyTree:
    """One equation, a number, as an array of one: residuals are arrays."""
    return jnp.reshape(r, (1,)) if isinstance(r, jax.Array) and r.ndim == 0 else r


class Equations(NamedTuple):
    """The problem of `root`."""

    fn: Callable[..., Any]
    has_aux: bool
    jac_sparsity: Pattern | None = None

    @property
    def name(self) -> str:
        """The driver's."""
        return "root"

    @property
    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """Of (params, *args)."""
        return {"fn": self.fn}

    def equations(self, params: Params, args: tuple[Any, ...]) -> PyTree:
        """Their left-hand sides, without aux."""
        result = self.fn(params, *args)
        return _with_axis(result[0] if self.has_aux else result)

    def value(self, params: Params, args: tuple[Any, ...]) -> Array:
        """|fn|**2 / 2."""
        r, _ = tree.ravel(self.equations(params, args))
        return 0.5 * jnp.sum(r * r)

    def start(self, method: GradientTransformation, params: Params, data: Data, tol: Any) -> RunStart:
        """The equations as residuals. The method's own tolerances are kept: a root is judged by `judge`."""
        args = data.args
        _check_square("root", jax.eval_shape(self.equations, params, args), params)
        residual_fn = residuals_of(lambda p: self.fn(p, *args), self.has_aux)
        extra_args: dict[str, Any] = {"residual_fn": residual_fn, "has_aux": self.has_aux, "bounds": data.bounds}
        if self.jac_sparsity is not None:
            extra_args["jac_sparsity"] = self.jac_sparsity
        start = started_on_residuals(method, params, extra_args)
        check_heeded(self.name, self.jac_sparsity, method, start)
        if start is None:
            _no_equations_solver("root", name_of(method))
        return start

    def judge(self, solution: Solution, start: Params, data: Data, tol: Any) -> Solution:
        """A root is one, whatever the method says, where max|fn| is small against its size at the start."""

        def largest(p: Params) -> Array:
            return jnp.max(jnp.abs(tree.ravel(self.equations(p, data.args))[0]), initial=0.0)

        least = largest(solution.params)
        eps = np.finfo(least.dtype).eps
        bound = jnp.asarray(eps**0.5 if tol is None else tol, least.dtype) * jnp.maximum(1, largest(start))
        # a root is one whether or not there is a derivative to step by
        ended = jnp.any(solution.status.code == np.array([Code.SEARCH_FAILED, Code.NOT_FINITE], np.int32))
        code = jnp.where(
            solution.status.success & ~(least <= bound), np.int32(Code.NO_ROOT),
            jnp.where(ended & (least <= bound), np.int32(Code.DECREASE_SMALL), solution.status.code),
        )  # fmt: skip
        return solution._replace(status=Status(code))

    def differentiate(
        self, solution: Solution, method: GradientTransformation, data: Data, symmetric_cg: bool
    ) -> Solution:
        """By fn = 0 or, where bounds left no root, by gradient of |fn|**2 / 2 = 0."""
        held, limits = at_bounds("root", solution, data.bounds)
        zero = solution.status.success
        if held is not None:  # a root is one wherever the bounds are
            held = held._replace(firmly=held.which & ~zero)

        def condition(p: Params, given: Any) -> PyTree:
            args, zero, _ = given
            r = self.equations(p, args)
            if data.bounds is None:
                return r
            return jnp.where(zero, tree.ravel(r)[0], tree.ravel(tree.ascent(jax.grad(self.value)(p, args)))[0])

        found = frozen((solution.params, solution.value))
        end, best = implicit(
            condition, lambda p, given: self.value(p, given[0]), found, (data.args, zero, limits), held
        )
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
