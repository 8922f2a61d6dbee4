"""The linear systems of `implicit` where the derivatives have few entries: by sparse factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import joined
from jaxopt_ko.drivers.compiled import frozen
from jaxopt_ko.drivers.implicit import Equation, Inverse
from jaxopt_ko.linalg.sparse import value_and_entries
from jaxopt_ko.linalg.sparse_cholesky import factorize, multiply, solve
from jaxopt_ko.solvers.engine.sparse_kkt import layout
from jaxopt_ko.solvers.engine.sparse_region import sparse
from jaxopt_ko.solvers.problem.sparsity import Pattern, ProgramPattern

SHIFT, ROUNDS = 0.6, 4  # eps to this power of H's largest entry is sigma; solutions of the shifted system
REFINE = 3  # steps of refinement


def of_minimum(pattern: Pattern, equation: Equation, x: Array, args: Any, firmly: Array) -> Inverse:
    """H symmetric and positive semidefinite, with entries where the pattern has some: iterated Tikhonov regularization
    (Riley 1955, doi:10.2307/2002065).

    x <- x + (H + sigma I)^-1 (b - H x) from 0 stays among the H v; where H is regular the first is all but exact.
    """
    it, eps = sparse(pattern), float(np.finfo(x.dtype).eps)
    rows, cols = it.colors.rows, it.colors.cols
    _, entries = value_and_entries("minimize", lambda x: equation(x, args), x, it.colors)
    entries = jnp.where(firmly[rows] | firmly[cols], (rows == cols).astype(x.dtype), entries)
    known = frozen(entries)
    factor = factorize(it.plan, it.shifted(known, eps**SHIFT * jnp.max(jnp.abs(known), initial=0.0)))

    def by_rounds(product: Callable[[Array], Array], b: Array) -> Array:
        x = jnp.zeros_like(b)
        for _ in range(ROUNDS):
            x = x + solve(factor, b - product(x))
        return x

    def inverse(b: Array) -> Array:
        product = lambda v: multiply(it.plan, entries, v)  # noqa: E731
        x: Array = jax.lax.custom_linear_solve(product, b, solve=by_rounds, symmetric=True)
        return x

    return inverse


def of_program(pattern: ProgramPattern, equation: Equation, u: Array, args: Any, firmly: Array) -> Inverse:
    """The conditions of Karush, Kuhn and Tucker, u = (x, y, z):

    [ H     Je'  Ji'   ]
    [ Je    .    .     ]    A: diag(active)
    [ A Ji  .    I - A ]

    active: 1 or 0, a tree like z, the second of args. An inactive z is solved for first, and the rest is symmetric.
    """
    it = layout(pattern)
    H_rows, H_cols, J_cols = it.hessian.rows, it.hessian.cols, it.jacobian.cols
    x, multipliers = u[: it.n], u[it.n :]
    of_z = tree.ravel(args[1])[0] > 0
    active = jnp.pad(of_z, (it.m - of_z.size, 0), constant_values=True)

    def at(x: Array) -> Array:
        return equation(joined([x, multipliers]), args)

    _, H = value_and_entries("minimize", lambda x: at(x)[: it.n], x, it.hessian)
    _, J = value_and_entries("minimize", lambda x: at(x)[it.n :], x, it.jacobian)  # 0 where inactive
    held = firmly[: it.n]
    H = jnp.where(held[H_rows] | held[H_cols], (H_rows == H_cols).astype(H.dtype), H)
    J = jnp.where(held[J_cols], 0, J)
    own = joined([jnp.zeros_like(x), jnp.where(active, 0, 1).astype(x.dtype)])
    factor = factorize(it.plan, joined([H[it.lower], J, own]))

    def inverse(b: Array) -> Array:
        z = jnp.where(active, 0, b[it.n :])
        _, given = jax.jvp(lambda y: equation(joined([x, y]), args)[: it.n], (multipliers,), (z,))
        return solve(factor, b - joined([jnp.where(held, 0, given), jnp.zeros_like(z)]), refine=REFINE)

    return inverse
