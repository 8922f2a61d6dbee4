"""Where the derivatives of a driver's problem may have entries: given, or found in the jaxpr."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxopt_ko import errors
from jaxopt_ko.core.method import name_of
from jaxopt_ko.drivers.run import RunStart
from jaxopt_ko.errors import TransformationError, say
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


def minimum_pattern(
    name: str, hess_sparsity: Any, jac_sparsity: Any, value_fn: Callable[[Params], Any],
    constraints: tuple[Callable[[Params], Any] | None, Callable[[Params], Any] | None] | None, params: Params,
    has_aux: bool,
) -> Pattern | ProgramPattern:  # fmt: skip
    """Of what was given, or found in the jaxprs. constraints: equality and inequality; None: a method for none."""
    if constraints is None:
        made = objective(name, params, value_fn, has_aux)
        return hessian_pattern(name, hess_sparsity, jax.grad(made.value), made.x)
    problem = program(name, params, value_fn, *constraints, has_aux=has_aux)
    return program_pattern(name, problem, hess_sparsity, jac_sparsity)


def check_heeded(name: str, pattern: Pattern | None, method: GradientTransformation, start: RunStart | None) -> None:
    """A method that was told of a sparse Jacobian and has a dense one."""
    if pattern is not None and not (start and isinstance(start.state, SparseFitState)):
        say(TransformationError, name, "jac_sparsity is for levenberg_marquardt(linear_solver='sparse')",
            name_of(method), "Leave out the method, or jac_sparsity")  # fmt: skip
