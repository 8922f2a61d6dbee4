"""`minimize`: the smallest value of a function, under constraints where the method takes them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.method import method_of, name_of
from jaxopt_ko.core.numerics import inner
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers.compiled import closure_convert, frozen
from jaxopt_ko.drivers.implicit import at_bounds, implicit, no_symmetric_system
from jaxopt_ko.drivers.patterns import Functions, minimum_pattern
from jaxopt_ko.drivers.reports import Report
from jaxopt_ko.drivers.run import Data, RunStart, run, started_on_value
from jaxopt_ko.drivers.sparse_implicit import of_minimum, of_program
from jaxopt_ko.errors import TransformationError, say
from jaxopt_ko.solvers.interior_point import interior_point
from jaxopt_ko.solvers.newton import newton
from jaxopt_ko.solvers.problem.sparsity import Pattern, ProgramPattern
from jaxopt_ko.solvers.proximal import ProximalGradientState
from jaxopt_ko.solvers.quasi_newton import lbfgs
from jaxopt_ko.types import GradientTransformation, Hyper, Multipliers, Params, PyTree, Solution

DEFAULT_METHOD = lbfgs()
SPARSE_METHOD, SPARSE_CONSTRAINED = newton(), interior_point()


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
    callback: Callable[[Report], Any] | None = None,
    max_seconds: float | None = None,
    hess_sparsity: Any = None,
    jac_sparsity: Any = None,
) -> Solution:
    """The smallest value of a function, from a starting point, under constraints where the method takes them.

    min fun(params, *args)   subject to   equality = 0,   inequality <= 0,   lower <= params <= upper

    fun: (params, *args) -> one real number, or (number, aux) with has_aux.
    params: the start, a tree of floating arrays.
    method: a solver (lbfgs, bfgs, nonlinear_cg, newton, newton_cg, lbfgsb, …) runs one evaluation an update; of any
        other transformation (sgd, adam) the best point seen is kept. lbfgs() by default, the first choice for a smooth
        function.
    args: what the functions are given after the parameters: a tuple of trees, differentiated by.
    tol: bound on the gradient, max|g| <= tol, >= 0; None: from the dtype and the gradients seen, see each method.
    max_steps: updates, an int >= 0, traced too; None: 10,000.
    has_aux: does the function return a pair, what it is asked for and aux? The solution keeps aux.
    verbose: print a row for every update.
    equality, inequality: subject to equality(params, *args) = 0 and inequality(params, *args) <= 0, trees of arrays,
        for the methods that take them (interior_point); the solution then has multipliers and kkt.
    bounds: (lower, upper) for the methods that take them (lbfgsb): each None, a number or a tree like params.
    derivative: "implicit": by the equation gradient = 0, with a dense Hessian; "implicit-cg": the same by conjugate
        residuals on Hessian-vector products, refused with constraints or a prox, whose systems are not symmetric;
        "unrolled": through all updates, as a scan of max_steps, with respect to `params`, too.
    callback: called with a `Report` of every update, from inside the compiled loop: step, value, optimality, params and
        more; another callback compiles nothing anew. Under vmap of each lane until it ends. What it raises ends the
        run. None: nobody.
    max_seconds: the run ends after the update in which they are over, compiling counted, with the status OUT_OF_TIME,
        >= 0; outside of jit, vmap and grad only, where it runs in blocks of updates. None: no limit.
    hess_sparsity: where the Hessian may have entries, that of fun and all constraints with multipliers, for many
        parameters of which each is tied to few: bool[n,n], a BCOO matrix, a symmetric `sparse.Coloring`, or "detect":
        by `sparse.sparsity` of the gradient, once for equal functions, shapes and args. The method is then newton(),
        with constraints or bounds interior_point(), unless another is given; H takes as many products as it has
        colours, and a step is a sparse factorization, which derivatives of the solution use, too. None: it is dense, or
        found if jac_sparsity is given.
    jac_sparsity: where the derivative of the constraints may have entries, for interior_point: bool[m,n], rows for
        equality, then for inequality, a BCOO matrix, a `sparse.Coloring`, or "detect". None: it is dense, or found if
        hess_sparsity is given.

    Returns a `Solution`; a run that fails says so in its `status`, and the params are then the best seen. Pure: jitted
    inside, so that a second call with the same fun and new data compiles nothing; it may be vmapped (each
    lane stops by itself) and differentiated by `args`, bounds and what fun closes over, in forward and reverse mode,
    again and again. What is no array among args (a string, a frozen dataclass) is a constant, to be hashed. What is at
    a bound moves with it; where the Hessian is singular the derivative is the shortest that fits. With constraints it
    is the conditions of Karush, Kuhn and Tucker that are differentiated, always densely, with the constraints that are
    active at the solution; the multipliers have derivatives, too.

    Raises, when traced, TransformationError for constraints or bounds that the method does not take, TreeError if fun
    returns no real number, MissingArgumentError or what the method raises; HyperparameterError for limits outside their
    domain. Not for sums of squares: `least_squares` needs a third of the evaluations.

    >>> found = jo.minimize(lambda x, a: jnp.sum((x - a) ** 2), jnp.zeros(2), args=(3.0,))
    >>> round(float(found.value), 6)
    0.0
    >>> found.status.sentence
    'Converged: the gradient is zero to the tolerance.'
    """
    name = "minimize"
    errors.check_function(name, "fun", fun)
    for argument, constraint in (("equality", equality), ("inequality", inequality)):
        if constraint is not None:
            errors.check_function(name, argument, constraint)
    pattern = None
    if hess_sparsity is not None or jac_sparsity is not None:
        limited = any(limit is not None for limit in (equality, inequality, bounds, jac_sparsity))
        if method is DEFAULT_METHOD:
            method = SPARSE_CONSTRAINED if limited else SPARSE_METHOD
        limited |= name_of(method) == "interior_point"
        functions = Functions(fun, equality, inequality, has_aux)
        pattern = minimum_pattern(name, hess_sparsity, jac_sparsity, functions, limited, params, args)
    problem = Minimum(fun, equality, inequality, has_aux, pattern)
    limits: dict[str, Any] = {
        "tol": tol, "max_steps": max_steps, "callback": callback, "max_seconds": max_seconds,
    }  # fmt: skip
    return run(problem, method, params, Data(args, bounds), **limits, verbose=verbose, derivative=derivative)


class Minimum(NamedTuple):
    """The problem of `minimize`."""

    fun: Callable[..., Any]
    equality: Callable[..., PyTree] | None
    inequality: Callable[..., PyTree] | None
    has_aux: bool
    hess_sparsity: Pattern | ProgramPattern | None = None  # the latter with constraints or bounds

    @property
    def name(self) -> str:
        """The driver's."""
        return "minimize"

    @property
    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """Of (params, *args)."""
        return {"fun": self.fun, "equality": self.equality, "inequality": self.inequality}

    def value(self, params: Params, args: tuple[Any, ...]) -> Array:
        """float[], without aux."""
        result: Any = self.fun(params, *args)
        return result[0] if self.has_aux else result  # type: ignore[no-any-return]

    def start(self, method: GradientTransformation, params: Params, data: Data, tol: Any) -> RunStart:
        """The function, what limits it and the tolerance, each only where it is given."""
        args = data.args
        extra_args: dict[str, Any] = {"value_fn": lambda p: self.fun(p, *args), "has_aux": self.has_aux}
        extra_args |= {name: given for name, given in (
            ("tol", tol), ("bounds", data.bounds), ("hess_sparsity", self.hess_sparsity)
        ) if given is not None}  # fmt: skip
        for name, limit in (("equality", self.equality), ("inequality", self.inequality)):
            if limit is not None:
                extra_args[name] = lambda p, limit=limit: limit(p, *args)
        return started_on_value(method, params, extra_args)

    def judge(self, solution: Solution, start: Params, data: Data, tol: Any) -> Solution:
        """As the method says."""
        return solution

    def differentiate(
        self, solution: Solution, method: GradientTransformation, data: Data, symmetric_cg: bool
    ) -> Solution:
        """By gradient = 0, by x = prox(x - gradient) or, with multipliers, by Karush, Kuhn and Tucker's conditions."""
        prox, own = method_of(method).prox, ()
        if symmetric_cg and solution.multipliers is not None:
            no_symmetric_system("minimize", "the conditions of a problem with constraints")
        if symmetric_cg and prox is not None:
            no_symmetric_system("minimize", f"the prox of {name_of(method)}")
        if solution.multipliers is not None:
            return _constrained(self, solution, data)
        if prox is not None:
            near, own = closure_convert({"prox": lambda p: prox(p, 1.0)}, frozen(solution.params), ())
        hidden = prox is None and isinstance(solution.state, ProximalGradientState)

        def condition(p: Params, given: Any) -> Params:
            if hidden:
                _hidden_method("minimize", "proximal_gradient")
            args, own, _ = given
            g = tree.ascent(jax.grad(self.value)(p, args))
            return g if prox is None else _less(p, near["prox"](_less(p, g), *own))  # x = prox(x - g(x), 1)

        held, limits = at_bounds("minimize", solution, data.bounds)
        sparse = None
        if prox is None and isinstance(self.hess_sparsity, Pattern):
            sparse = functools.partial(of_minimum, self.hess_sparsity)
        end, best = implicit(
            condition, lambda p, given: self.value(p, given[0]), frozen((solution.params, solution.value)),
            (data.args, own, limits), held, symmetric_cg, sparse,
        )  # fmt: skip
        return solution._replace(params=end, value=best)


def _hidden_method(name: str, method: str) -> NoReturn:
    """A method of ours within a function of somebody's, which hides what derivatives need to know of it."""
    say(TransformationError, name, f"the solution's derivatives need the prox of {method}", "an update that hides it",
        "Pass the pair itself, or GradientTransformation(pair.init, pair.update); a function around its update "
        "has no record of it")  # fmt: skip


def _less(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(lambda x, y: x - y.astype(x.dtype), a, b)


def _constrained(problem: Minimum, solution: Solution, data: Data) -> Solution:
    """The solution with the derivatives that the conditions of Karush, Kuhn and Tucker give it:

    grad f + J_e'y + J_i'z = 0 for x off its bounds    c_e = 0    c_i = 0 where it is active, elsewhere z = 0

    Active: z larger than what is left of c_i, a bound's multiplier larger than what is left to it.
    """
    none: Callable[..., PyTree] = lambda p, *args: None  # noqa: E731
    value, c_e, c_i = problem.value, problem.equality or none, problem.inequality or none
    x, multipliers = frozen((solution.params, solution.multipliers))
    y, z, lower, upper = multipliers
    dtype = solution.value.dtype
    active = jax.tree.map(lambda z, c: (z > -c).astype(z.dtype), z, frozen(c_i(x, *data.args)))

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

    held, limits = at_bounds("minimize", solution, data.bounds)
    more = tree.ravel((y, z))[0].size
    (low, unravel), (high, _) = tree.ravel(lower), tree.ravel(upper)
    at: Any = None if held is None else held.at
    sparse = None
    if isinstance(problem.hess_sparsity, ProgramPattern):
        sparse = functools.partial(of_program, problem.hess_sparsity)
    (x, y, z), (best, low, high) = implicit(
        conditions,
        outcome,
        ((x, y, z), (frozen(solution.value), low, high)),
        (data.args, active, limits),
        None if held is None else held._replace(
            which=jnp.pad(held.which, (0, more)),
            at=lambda given: jnp.pad(at(given[1:]), (0, more)), firmly=jnp.pad(held.firmly, (0, more)),
        ),
        sparse=sparse,
    )  # fmt: skip
    return solution._replace(params=x, value=best, multipliers=Multipliers(y, z, unravel(low), unravel(high)))
