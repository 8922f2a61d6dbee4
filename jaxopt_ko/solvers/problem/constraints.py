"""A nonlinear program as functions of one vector.

min f(x)  subject to  c_e(x) = 0,  c_i(x) <= 0,  lower <= x <= upper
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import is_complex_leaf
from jaxopt_ko.core.method import filter_kwargs
from jaxopt_ko.core.numerics import joined
from jaxopt_ko.errors import TreeError, describe, path_of, say
from jaxopt_ko.linalg.sparse import sparsity
from jaxopt_ko.solvers.problem.bounds import box
from jaxopt_ko.solvers.problem.objective import objective
from jaxopt_ko.solvers.problem.sparsity import ProgramPattern, hessian_pattern, jacobian_pattern
from jaxopt_ko.types import Params, PyTree


class Program(NamedTuple):
    """f, c_e: R^n -> R^p and c_i: R^n -> R^q, stacked: F = (f, c_e, c_i)."""

    x: Array  # float[n]  the parameters
    unravel: Callable[[Array], Params]  # a vector as parameters
    lower: Array  # float[n]
    upper: Array  # float[n]
    p: int
    q: int
    evaluate: Callable[[Array], tuple[Array, PyTree]]  # x -> F float[1+p+q], what f returns beside its value
    unstack: Callable[[Array], tuple[PyTree, PyTree]]  # float[p+q] -> like c_e(x), like c_i(x)

    def parts(self, F: Array) -> tuple[Array, Array, Array]:
        """f float[], c_e float[p] and c_i float[q]."""
        return F[0], F[1 : 1 + self.p], F[1 + self.p :]


def program(
    name: str,
    params: Params,
    value_fn: Callable[..., Any] | None,
    equality: Callable[..., PyTree] | None = None,
    inequality: Callable[..., PyTree] | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
    has_aux: bool = False,
    extra_args: Any = None,
) -> Program:
    """The functions of `params` as a Program; of `extra_args` each gets those that it takes. None: no such constraints.

    Raises what `objective` and `box` do; TreeError for constraints that are no real floating arrays.
    """
    made = objective(name, params, value_fn, has_aux, extra_args)
    lower, upper = box(name, params, bounds)
    x, unravel = made.x, made.unravel

    def constraint(argument: str, function: Callable[..., PyTree] | None) -> Callable[[Array], PyTree]:
        if function is None:
            return lambda x: None
        call = filter_kwargs(errors.check_function(name, argument, function), 1)

        def at(x: Array) -> PyTree:
            c = call(unravel(x), **(extra_args or {}))
            _check_constraint(name, argument, c)
            return c

        return at

    c_e, c_i = constraint("equality", equality), constraint("inequality", inequality)
    (e, back_e), (i, back_i) = (
        tree.ravel(jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(c, x))) for c in (c_e, c_i)
    )

    def evaluate(x: Array) -> tuple[Array, PyTree]:
        f, aux = made.full(x)
        parts = [f[None], *(tree.ravel(c(x))[0].astype(x.dtype) for c in (c_e, c_i))]
        return joined(parts), aux

    def unstack(y: Array) -> tuple[PyTree, PyTree]:
        return back_e(y[: e.size]), back_i(y[e.size :])

    return Program(x, unravel, lower, upper, e.size, i.size, evaluate, unstack)


def program_pattern(name: str, problem: Program, hess_sparsity: Any, jac_sparsity: Any) -> ProgramPattern:
    """Of what the user gives; what is "detect" or None is found in the functions' jaxprs."""
    if isinstance(hess_sparsity, ProgramPattern):
        return hess_sparsity
    m, n = problem.p + problem.q, problem.x.size
    if jac_sparsity is None or isinstance(jac_sparsity, str):
        errors.check_choice(name, "jac_sparsity", jac_sparsity or "detect", ["detect"])
        jac_sparsity = sparsity(lambda x: problem.evaluate(x)[0][1:], problem.x)
    jacobian = jacobian_pattern(name, jac_sparsity)
    if jacobian.colors.shape != (m, n):
        say(TreeError, name, f"jac_sparsity must have {m} rows and {n} columns, constraints by parameters",
            f"shape {jacobian.colors.shape}", "Equalities come first, then inequalities")  # fmt: skip
    gradient = jax.grad(lambda x: jnp.sum(problem.evaluate(x)[0]))
    bent = np.full(n, -2, np.int8)
    for value, function in ((-1, gradient), (0, jax.grad(lambda x: problem.evaluate(x)[0][0]))):
        found = sparsity(function, problem.x)
        if value == -1 and (hess_sparsity is None or isinstance(hess_sparsity, str)):
            errors.check_choice(name, "hess_sparsity", hess_sparsity or "detect", ["detect"])
            hess_sparsity = found
        rows, cols = np.asarray(found.indices).T
        bent[rows[rows == cols]] = value
    return ProgramPattern(hessian_pattern(name, hess_sparsity, gradient, problem.x), jacobian, bent.tobytes())


def _check_constraint(name: str, argument: str, constraint: PyTree) -> None:
    """Constraints are real arrays, in any tree."""
    for index, leaf in enumerate(jax.tree.leaves(constraint)):
        dtype = getattr(leaf, "dtype", None)
        if isinstance(leaf, float) or (dtype is not None and jnp.issubdtype(dtype, jnp.floating)):
            continue
        say(TreeError, name, f"the leaf {path_of(constraint, index)} of {argument}(params) must be a real "
            "floating-point array", describe(leaf),
            "Return the real and the imaginary parts as two leaves" if is_complex_leaf(leaf) else
            "Return the values themselves, not whether they hold")  # fmt: skip
