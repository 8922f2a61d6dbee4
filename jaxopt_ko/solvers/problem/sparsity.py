"""Where derivatives of a problem may have entries: what the user gives, or what is found in the functions' jaxprs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxopt_ko.errors import TransformationError, TreeError, check_choice, say
from jaxopt_ko.linalg.coloring import Coloring
from jaxopt_ko.linalg.sparse import coloring, sparsity


class Pattern:
    """Where a matrix may have entries, with its colours; equal and hashable by these."""

    def __init__(self, colors: Coloring) -> None:
        self.colors = colors
        self.key = (colors.shape, colors.kind, colors.rows.tobytes(), colors.cols.tobytes(), colors.colors.tobytes())

    def __eq__(self, other: object) -> bool:
        """By the places and their colours."""
        return isinstance(other, Pattern) and self.key == other.key

    def __hash__(self) -> int:
        """That of those."""
        return hash(self.key)


class ProgramPattern(NamedTuple):
    """Of a nonlinear program."""

    hessian: Pattern  # of the Lagrangian
    jacobian: Pattern  # of the constraints, equalities first
    bent: bytes  # int8[n]: -2, -1 or 0 for an x that has no curvature of its own, one that constraints give it, or f's


def jacobian_pattern(name: str, jac_sparsity: Any) -> Pattern:
    """Of what the user gives: a `Coloring`, a BCOO matrix or an array of bool."""
    if isinstance(jac_sparsity, Pattern):
        return jac_sparsity
    if jac_sparsity is None:
        say(TransformationError, name, "jac_sparsity is missing", None, "Pass jac_sparsity=..., where J may "
            "have entries: jo.sparse.sparsity(residual_fn, params) finds it")  # fmt: skip
    colors = jac_sparsity if isinstance(jac_sparsity, Coloring) else coloring(jac_sparsity)
    if colors.kind == "symmetric":
        say(TreeError, name, "jac_sparsity must be coloured by columns or rows", colors.kind, "See jo.sparse.coloring")
    return Pattern(colors)


def hessian_pattern(name: str, hess_sparsity: Any, gradient: Callable[[Array], Array], x: Array) -> Pattern:
    """Of what the user gives, "detect" among it: then of the gradient, x float[n] -> float[n]."""
    made = hess_sparsity.hessian if isinstance(hess_sparsity, ProgramPattern) else hess_sparsity
    if isinstance(made, str):
        check_choice(name, "hess_sparsity", made, ["detect"])
        made = sparsity(gradient, jax.lax.stop_gradient(x))
    if not isinstance(made, Pattern):
        colors = made if isinstance(made, Coloring) else coloring(made, "symmetric")
        if colors.kind != "symmetric":
            say(TreeError, name, "hess_sparsity must have a symmetric colouring", colors.kind,
                "jo.sparse.coloring(pattern, 'symmetric') makes it")  # fmt: skip
        made = Pattern(colors)
    if made.colors.shape != (x.size, x.size):
        say(TreeError, name, f"hess_sparsity must have {x.size} rows and columns, those of the parameters",
            f"shape {made.colors.shape}", "Their order is that of the leaves of params")  # fmt: skip
    return made
