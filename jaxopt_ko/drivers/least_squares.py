"""`least_squares`: the smallest sum of squares of residuals, or of a robust loss of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers.compiled import frozen
from jaxopt_ko.drivers.implicit import at_bounds, implicit
from jaxopt_ko.drivers.patterns import check_heeded, pattern_of
from jaxopt_ko.drivers.reports import Report
from jaxopt_ko.drivers.run import Data, RunStart, run, started_on_residuals, started_on_value
from jaxopt_ko.solvers.least_squares import levenberg_marquardt
from jaxopt_ko.solvers.problem.residuals import residuals
from jaxopt_ko.solvers.problem.robust_losses import LOSSES, check_loss
from jaxopt_ko.solvers.problem.sparsity import Pattern
from jaxopt_ko.types import GradientTransformation, Hyper, Params, PyTree, Solution

DEFAULT_FIT = levenberg_marquardt()
SPARSE_FIT = levenberg_marquardt(linear_solver="sparse")


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
    jac_sparsity: Any = None,
    loss: str | Callable[[Array], Array] = "linear",
    loss_scale: Any = 1.0,
    has_aux: bool = False,
    verbose: bool = False,
    derivative: str = "implicit",
    callback: Callable[[Report], Any] | None = None,
    max_seconds: float | None = None,
) -> Solution:
    """The smallest sum of squares of residuals, or of a robust loss of them, from a starting point.

    min |residual_fn(params, *args)|**2 / 2,   or C**2 / 2 sum rho((r / C)**2), C = loss_scale

    residual_fn: (params, *args) -> pytree of the residuals, or (residuals, aux) with has_aux. With fewer of them than
        parameters each step is the shortest, in the method's scale, and the end one of many. A complex one counts as
        two, its real and its imaginary part: f has |r|**2; in the state all real parts of a leaf come first.
    params: the start, a tree of floating arrays.
    method: levenberg_marquardt() unless another is given: gauss_newton(); one for scalar functions (lbfgs) is given the
        value.
    args: what the functions are given after the parameters: a tuple of trees, differentiated by. What is no array
        among them (a string, a frozen dataclass) is a constant, to be hashed: for each another program is compiled.
    bounds: (lower, upper), each None, a number or a tree like params or its upper part; residuals are never evaluated
        outside.
    tol: in the place of the method's own gtol and xtol, >= 0; None: those.
    max_steps: updates, an int >= 0, traced too; None: 10,000.
    jacobian_fn: (params, *args) -> what jax.jacobian(residual_fn) would return, or the matrix float[m,n], with two rows
        for a complex residual as above; None: it is derived.
    jac_sparsity: where the Jacobian may have entries, for many parameters of which each residual depends on few (a
        bundle adjustment): bool[m,n], a BCOO matrix, a `sparse.Coloring`, or "detect": by `sparse.sparsity`, at each
        call. The method is then levenberg_marquardt(linear_solver="sparse"), and J takes as many products as its
        columns or rows have colours. None: J is dense.
    loss: "linear", or, so that outliers count less, "huber", "soft_l1", "cauchy", "arctan" or a function rho(z).
    loss_scale: C, the size of a residual from which on it is an outlier, in its units, > 0.
    has_aux: does the function return a pair, what it is asked for and aux? The solution keeps aux.
    verbose: print a row for every update.
    derivative: "implicit" by the equations that hold, "implicit-cg", or "unrolled", see `minimize`.
    callback: called with a `Report` of every update, from inside the compiled loop: step, value, optimality, params and
        more; another callback compiles nothing anew. Under vmap of each lane until it ends. What it raises ends the
        run. None: nobody.
    max_seconds: the run ends after the update in which they are over, compiling counted, with the status OUT_OF_TIME,
        >= 0; outside of jit, vmap and grad only, where it runs in blocks of updates. None: no limit.

    Returns a `Solution`, whose value is half the sum of squares, or the robust loss. What may be done with it and its
    derivatives: see `minimize`.

    Raises HyperparameterError for another loss, a loss_scale or limits outside their domain; when traced, what the
    method raises. Source: see `levenberg_marquardt`. Not for functions that are no sums of squares: `minimize`.

    >>> t, y = jnp.array([0.0, 1.0, 2.0]), jnp.array([1.0, 3.0, 5.0])
    >>> line = jo.least_squares(lambda p: p[0] + p[1] * t - y, jnp.zeros(2))
    >>> [round(float(p), 4) for p in line.params]
    [1.0, 2.0]
    """
    name = "least_squares"
    errors.check_function(name, "residual_fn", residual_fn)
    check_loss(name, loss, LOSSES)
    errors.check_number(name, "loss_scale", loss_scale, errors.POSITIVE)
    pattern = None
    if jac_sparsity is not None:
        method = SPARSE_FIT if method is DEFAULT_FIT else method
        pattern = pattern_of(name, jac_sparsity, lambda p: residual_fn(p, *args), params, has_aux)
    problem = Fit(residual_fn, jacobian_fn, loss, has_aux, pattern)
    limits: dict[str, Any] = {
        "tol": tol, "max_steps": max_steps, "callback": callback, "max_seconds": max_seconds,
    }  # fmt: skip
    return run(
        problem, method, params, Data(args, bounds, loss_scale), **limits, verbose=verbose, derivative=derivative
    )


class Fit(NamedTuple):
    """The problem of `least_squares`."""

    residual_fn: Callable[..., Any]
    jacobian_fn: Callable[..., Any] | None
    loss: Any
    has_aux: bool
    jac_sparsity: Pattern | None = None

    @property
    def name(self) -> str:
        """The driver's."""
        return "least_squares"

    @property
    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """Of (params, *args)."""
        return {"residual_fn": self.residual_fn, "jacobian_fn": self.jacobian_fn}

    def cost(self, params: Params, args: tuple[Any, ...], loss_scale: Any) -> Array:
        """float[], half the sum of squares or the robust loss."""
        fun, loss, has_aux = self.residual_fn, self.loss, self.has_aux
        made = residuals(self.name, params, lambda p: fun(p, *args), loss=loss, loss_scale=loss_scale, has_aux=has_aux)
        return made.cost(made.residual(made.x)[0])

    def start(self, method: GradientTransformation, params: Params, data: Data, tol: Any) -> RunStart:
        """The residuals or, for a method that does not read them, their cost."""
        args, bounds, loss_scale = data
        extra_args: dict[str, Any] = {
            "residual_fn": lambda p: self.residual_fn(p, *args), "has_aux": self.has_aux, "bounds": bounds, "tol": tol,
            "loss": self.loss, "loss_scale": loss_scale,
        }  # fmt: skip
        if self.jacobian_fn is not None:
            jacobian_fn = self.jacobian_fn
            extra_args["jacobian_fn"] = lambda p: jacobian_fn(p, *args)
        if self.jac_sparsity is not None:
            extra_args["jac_sparsity"] = self.jac_sparsity
        start = started_on_residuals(method, params, extra_args)
        check_heeded(self.name, self.jac_sparsity, method, start)
        if start is None:
            value_fn = lambda p: self.cost(p, args, loss_scale)  # noqa: E731
            start = started_on_value(method, params, {"value_fn": value_fn, "bounds": bounds, "tol": tol})
        return start

    def judge(self, solution: Solution, start: Params, data: Data, tol: Any) -> Solution:
        """As the method says."""
        return solution

    def differentiate(
        self, solution: Solution, method: GradientTransformation, data: Data, symmetric_cg: bool
    ) -> Solution:
        """By gradient of the cost = 0."""

        def cost(p: Params, given: Any) -> Array:
            (args, loss_scale), _ = given
            return self.cost(p, args, loss_scale)

        held, limits = at_bounds(self.name, solution, data.bounds)
        end, best = implicit(
            lambda p, given: tree.ascent(jax.grad(cost)(p, given)), cost, frozen((solution.params, solution.value)),
            ((data.args, data.loss_scale), limits), held, symmetric_cg,
        )  # fmt: skip
        return solution._replace(params=end, value=best)
