"""Where the derivatives of a driver's problem may have entries: given, or found in the jaxpr."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.method import name_of
from jaxopt_ko.drivers.run import RunStart
from jaxopt_ko.errors import TransformationError, say
from jaxopt_ko.linalg.coloring import Coloring
from jaxopt_ko.linalg.sparse import sparsity
from jaxopt_ko.solvers.engine.sparse_fit import SparseFitState
from jaxopt_ko.solvers.problem.constraints import program, program_pattern
from jaxopt_ko.solvers.problem.objective import objective
from jaxopt_ko.solvers.problem.residuals import residuals
from jaxopt_ko.solvers.problem.sparsity import Pattern, ProgramPattern, hessian_pattern, jacobian_pattern
from jaxopt_ko.types import GradientTransformation, Params


def pattern_of(
    name: str, jac_sparsity: Any, residual_fn: Callable[[Params], Any], params: Params, has_aux: bool
) -> Pattern:
    """Of what was given, or found in the jaxpr of the residuals."""
    if isinstance(jac_sparsity, str):
        errors.check_choice(name, "jac_sparsity", jac_sparsity, ["detect"])
        made = residuals(name, params, residual_fn, has_aux=has_aux)
        jac_sparsity = sparsity(lambda x: made.residual(x)[0], made.x)
    return jacobian_pattern(name, jac_sparsity)


class Functions(NamedTuple):
    """Of (params, *args), as `minimize` gets them."""

    fun: Callable[..., Any]
    equality: Callable[..., Any] | None
    inequality: Callable[..., Any] | None
    has_aux: bool


def minimum_pattern(
    name: str, hess_sparsity: Any, jac_sparsity: Any, functions: Functions, limited: bool, params: Params,
    args: tuple[Any, ...],
) -> Pattern | ProgramPattern:  # fmt: skip
    """Of what was given, or found in the jaxprs; of equal functions, shapes and args once. limited: is the method one
    for constraints?"""
    key = _key((hess_sparsity, jac_sparsity, functions[1:], limited), params, args)
    try:
        known = _found.setdefault(functions.fun, {})
    except TypeError:  # a function that has no weak reference or no hash
        known = {}
    if key is None or key not in known:
        made = _pattern(name, hess_sparsity, jac_sparsity, functions, limited, params, args)
        if key is None:
            return made
        while len(known) >= MOST:
            known.pop(next(iter(known)))
        known[key] = made
    return known[key]


MOST = 8  # patterns that are remembered of a function
_found: weakref.WeakKeyDictionary[Callable[..., Any], dict[Any, Pattern | ProgramPattern]] = weakref.WeakKeyDictionary()


def _key(given: tuple[Any, ...], params: Params, args: tuple[Any, ...]) -> Any:
    """What a pattern depends on but for the function; None if that cannot be told.

    What is traced counts by its shape, for no values are known of it; all else by its bytes.
    """
    hess, jac, others, limited = given

    def told(leaf: Any, values: bool) -> Any:
        shape = (np.shape(leaf), str(tree.dtype_of(leaf)))
        if not values or isinstance(leaf, jax.core.Tracer):
            return (*shape, isinstance(leaf, jax.core.Tracer))
        return (*shape, np.asarray(leaf).tobytes())

    try:
        leaves, structure = jax.tree.flatten(args)
        of_params = jax.tree.structure(params), tuple(told(leaf, False)[:2] for leaf in jax.tree.leaves(params))
        of_args = structure, tuple(told(leaf, True) if hasattr(leaf, "dtype") else leaf for leaf in leaves)
        key = (_told_of(hess), _told_of(jac), others, limited, of_params, of_args)
        hash(key)
    except TypeError:
        return None
    return key


def _told_of(sparsity: Any) -> Any:
    if sparsity is None or isinstance(sparsity, str):
        return sparsity
    if isinstance(sparsity, Coloring):
        return Pattern(sparsity).key
    if hasattr(sparsity, "indices"):
        return sparsity.shape, np.asarray(sparsity.indices).tobytes()
    return np.shape(sparsity), np.asarray(sparsity).tobytes()


def _pattern(
    name: str, hess_sparsity: Any, jac_sparsity: Any, functions: Functions, limited: bool, params: Params,
    args: tuple[Any, ...],
) -> Pattern | ProgramPattern:  # fmt: skip
    def at(function: Callable[..., Any] | None) -> Callable[[Params], Any] | None:
        return None if function is None else lambda p: function(p, *args)

    *constrained, has_aux = functions
    value_fn, equality, inequality = map(at, constrained)
    if not limited:
        made = objective(name, params, value_fn, has_aux)
        return hessian_pattern(name, hess_sparsity, jax.grad(made.value), made.x)
    problem = program(name, params, value_fn, equality, inequality, has_aux=has_aux)
    return program_pattern(name, problem, hess_sparsity, jac_sparsity)


def check_heeded(name: str, pattern: Pattern | None, method: GradientTransformation, start: RunStart | None) -> None:
    """A method that was told of a sparse Jacobian and has a dense one."""
    if pattern is not None and not (start and isinstance(start.state, SparseFitState)):
        say(TransformationError, name, "jac_sparsity is for levenberg_marquardt(linear_solver='sparse')",
            name_of(method), "Leave out the method, or jac_sparsity")  # fmt: skip
