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
from jaxopt_ko.core.checks import check_same_trees, is_complex_leaf
from jaxopt_ko.core.method import filter_kwargs
from jaxopt_ko.core.numerics import joined
from jaxopt_ko.errors import TreeError, describe, missing_argument, path_of, say
from jaxopt_ko.solvers.problem.bounds import box
from jaxopt_ko.solvers.problem.objective import objective
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
    derive: Callable[[Array, Array], tuple[Array, Array]]
    # x, v -> dF/dx float[1+p+q,n] and the Hessian float[n,n] of v'F
    unstack: Callable[[Array], tuple[PyTree, PyTree]]  # float[p+q] -> like c_e(x), like c_i(x)


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

    def derive(x: Array, v: Array) -> tuple[Array, Array]:
        def both(x: Array) -> tuple[Array, Array]:
            F, pull = jax.vjp(lambda x: evaluate(x)[0], x)
            return F, pull(v)[0]

        _, push = jax.linearize(both, x)
        J, H = jax.vmap(push, out_axes=-1)(jnp.eye(x.size, dtype=x.dtype))
        return J, 0.5 * (H + H.T)

    def unstack(y: Array) -> tuple[PyTree, PyTree]:
        return back_e(y[: e.size]), back_i(y[e.size :])

    return Program(x, unravel, lower, upper, e.size, i.size, evaluate, derive, unstack)


def check_program(name: str, params: PyTree, n: int, c: PyTree, Q: Any, *pairs: tuple[Any, Any]) -> None:
    """The parts of a linear or quadratic program: c, Q, then (A, b) and (G, h)."""
    if c is None:
        missing_argument(name, "c", "Pass c=..., the linear part of the objective, a tree like params")
    check_same_trees(name, "c", c, "params", params)
    if Q is not None and np.shape(Q) != (n, n):
        say(TreeError, name, f"Q must be a symmetric matrix float[{n},{n}], as there are {n} parameters", describe(Q),
            "The objective is x'Qx/2 + c'x, with the elements of params as one vector x")  # fmt: skip
    for (left, right), (matrix, vector) in zip((("A", "b"), ("G", "h")), pairs, strict=True):
        if (matrix is None) != (vector is None):
            missing = right if vector is None else left
            missing_argument(name, missing, f"{left} and {right} come together: "
                             f"{left} x {'=' if left == 'A' else '<='} {right}")  # fmt: skip
        if matrix is None:
            continue
        if np.ndim(matrix) != 2 or np.shape(matrix)[1] != n:
            say(TreeError, name, f"{left} must be a matrix with a column for each of {n} parameters", describe(matrix),
                "One row for each constraint; a single one is a matrix of one row")  # fmt: skip
        if np.shape(vector) != np.shape(matrix)[:1]:
            say(TreeError, name, f"{right} must have one number for each of the {np.shape(matrix)[0]} rows of {left}",
                describe(vector), "Shapes are not broadcast here")  # fmt: skip
    numbers = [("Q", Q)] + [pair for both, names in zip(pairs, ("Ab", "Gh"), strict=True)
                            for pair in zip(names, both, strict=True)]  # fmt: skip
    for argument, array in numbers:
        dtype = getattr(array, "dtype", None)
        if dtype is not None and not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            say(TreeError, name, f"{argument} must be real numbers", describe(array), "Give a floating-point array")


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
