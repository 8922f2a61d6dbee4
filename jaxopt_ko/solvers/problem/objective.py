"""The problem a solver is given, as a function of one vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_objective
from jaxopt_ko.core.method import filter_kwargs, takes
from jaxopt_ko.errors import TransformationError, TreeError, describe, say
from jaxopt_ko.types import Params, PyTree

CONSTRAINTS = ("equality", "inequality", "bounds")
SPARSITY = ("hess_sparsity", "jac_sparsity")
ValueAndGradient = tuple[Array, PyTree, Array]  # value float[], aux, gradient float[n]


class Objective(NamedTuple):
    """f: R^n -> R, at hand as a function of vectors."""

    x: Array  # float[n]  the parameters
    unravel: Callable[[Array], Params]  # a vector as parameters
    reach: Callable[[Array, Array], Array]  # x, p -> where the step p leads: x + p, rounded as the parameters are
    value: Callable[[Array], Array]  # f(x), float[]
    full: Callable[[Array], tuple[Array, PyTree]]  # f(x) and what else the function returns
    evaluate: Callable[[Array], ValueAndGradient]  # f(x), what else the function returns, and f's gradient
    linearize: Callable[[Array], tuple[Array, PyTree, Callable[[], Array]]]  # the gradient only when called for


def as_jax_grad(problem: Objective, g: Array) -> Params:
    """A gradient as jax.grad has it: of complex parameters, the conjugate of the direction of ascent."""
    return tree.ascent(problem.unravel(g))


def objective(
    name: str, params: Params, value_fn: Callable[..., Any] | None, has_aux: bool = False, extra_args: Any = None
) -> Objective:
    """`value_fn(params, **extra_args)` as an Objective; of `extra_args` it gets those that it takes.

    Raises MissingArgumentError without value_fn; TreeError if its value is not one real number; TransformationError
    for constraints and sparsity among them: a method that takes some does not hand them on.
    """
    if value_fn is None:
        errors.missing_argument(name, "value_fn", "Pass value_fn=..., the function of the parameters to minimize")
    function = errors.check_function(name, "value_fn", value_fn)
    x, unravel = tree.ravel(params)
    call = filter_kwargs(function, 1)
    given = [argument for argument in (*CONSTRAINTS, *SPARSITY) if (extra_args or {}).get(argument) is not None]
    check_heeded(name, [argument for argument in given if not takes(function, argument)])

    def full(x: Array) -> tuple[Array, PyTree]:
        result = call(unravel(x), **(extra_args or {}))
        value, aux = check_aux(name, result) if has_aux else (result, None)
        return jnp.asarray(check_objective(name, value)).astype(x.dtype), aux

    def evaluate(x: Array) -> ValueAndGradient:
        value, aux, gradient = linearize(x)
        return value, aux, gradient()

    def linearize(x: Array) -> tuple[Array, PyTree, Callable[[], Array]]:
        value, pull, aux = jax.vjp(full, x, has_aux=True)
        return value, aux, lambda: pull(jnp.ones_like(value))[0]

    def rounded(x: Array, p: Array) -> Array:
        return tree.ravel(apply_updates(unravel(x), unravel(p)))[0]

    plain = all(tree.dtype_of(leaf) == x.dtype for leaf in jax.tree.leaves(params))
    reach = jnp.add if plain else rounded
    return Objective(x, unravel, reach, lambda x: full(x)[0], full, evaluate, linearize)


def check_aux(name: str, result: Any) -> tuple[Any, Any]:
    """With has_aux a function returns a pair."""
    if not isinstance(result, tuple) or len(result) != 2:
        say(TreeError, name, "with has_aux=True the function must return (value, aux)", describe(result),
            "Return a pair, or leave has_aux out")  # fmt: skip
    return result


def check_heeded(name: str, ignored: Sequence[str]) -> None:
    """Constraints are for a method that heeds them, and where derivatives have entries for one that makes use of it."""
    which = " or ".join(ignored)
    if set(ignored) & set(SPARSITY):
        say(TransformationError, name, f"it takes no {which}", ", ".join(ignored),
            "Use newton(), or interior_point(), which takes jac_sparsity, too, or leave it out")  # fmt: skip
    if ignored:
        say(TransformationError, name, f"it takes no {which} constraints", ", ".join(ignored),
            "Use interior_point(), for bounds alone lbfgsb() or projected_gradient(), or leave them out")  # fmt: skip
