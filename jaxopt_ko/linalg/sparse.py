"""Sparse derivatives and sparse symmetric systems.

A Jacobian with few entries a row takes as many products as its columns have colours, not one for each column. Where the
entries are is given, or found in the function's jaxpr.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental.sparse import BCOO

from jaxopt_ko.core import tree
from jaxopt_ko.core.naming import answers_at
from jaxopt_ko.errors import TreeError, check_choice, check_function, say
from jaxopt_ko.linalg.coloring import Coloring, by_columns, by_rows, by_star
from jaxopt_ko.linalg.dependence import dependence
from jaxopt_ko.linalg.sparse_cholesky import Factor, Plan, analyze, factorize, multiply, places, solve
from jaxopt_ko.types import Params, PyTree

__all__ = [
    "Coloring", "Factor", "Plan", "analyze", "coloring", "factorize", "hessian", "jacobian", "multiply", "solve",
    "sparsity",
]  # fmt: skip

KINDS = ("columns", "rows", "symmetric")


def sparsity(fn: Callable[..., PyTree], params: Params, *args: Any) -> BCOO:
    """Where the Jacobian of a function may have entries, found in its jaxpr.

    A_ij is left out only where d fn_i / d params_j = 0 for all params

    fn: (params, *args) -> a tree of arrays; a gradient for the sparsity of a Hessian.
    params: a tree of floating arrays, of n elements; only shapes and dtypes count.
    args: what the function is given after the parameters; constants.

    Never too few: what a primitive does that is not known, or gathers by indices that depend on params, is taken to
    depend on all that goes in. An entry may turn out to be 0.

    Returns BCOO int32[m,n] with ones, m and n the elements of fn's result and of params in the order of `tree.ravel`,
    its indices by rows. Raises what fn does when traced. Source: Griewank & Walther 2008, Evaluating Derivatives,
    section 7.1. Not for more than some million elements on the way: it is done one by one, on the host.

    >>> pattern = jo.sparse.sparsity(lambda x: x[1:] - x[:-1] ** 2, jnp.ones(3))
    >>> pattern.todense().tolist()
    [[1, 1, 0], [0, 1, 1]]
    """
    check_function("sparsity", "fn", fn)
    x, unravel = tree.ravel(params)
    rows, cols, shape = dependence(lambda x: tree.ravel(fn(unravel(x), *args))[0], x)
    with jax.ensure_compile_time_eval():
        data, indices = jnp.ones(len(rows), jnp.int32), jnp.asarray(np.stack([rows, cols], axis=1).astype(np.int32))
        return BCOO((data, indices), shape=shape, indices_sorted=True, unique_indices=True)


def coloring(pattern: Any, kind: str | None = None) -> Coloring:
    """Colours of the columns or rows of a sparse matrix: as few products as it can be read off from.

    pattern: bool[m,n] or numbers there (what is not 0 counts), or a BCOO matrix, whose indices count.
    kind: "columns", for products J v (forward); "rows", for products u'J (reverse); "symmetric", for a Hessian's;
        None: of columns and rows the one with fewer colours, columns if they are as many.

    Returns a `Coloring`, made on the host. Raises HyperparameterError for another kind; TreeError for a pattern that is
    traced, no matrix, or not square with "symmetric". Source: Gebremedhin, Manne & Pothen 2005,
    doi:10.1137/S0036144504444711. Not for a matrix with both a dense row and a dense column: take those apart.

    >>> band = jnp.abs(jnp.arange(50)[:, None] - jnp.arange(50)) <= 1
    >>> jo.sparse.coloring(band, "columns").count, jo.sparse.coloring(band, "symmetric").count
    (3, 3)
    """
    if kind is not None:
        check_choice("coloring", "kind", kind, list(KINDS))
    rows, cols, shape = _unique("coloring", pattern, square=kind == "symmetric")
    if kind == "symmetric":
        return by_star(rows, cols, shape)
    if kind is not None:
        return (by_columns if kind == "columns" else by_rows)(rows, cols, shape)
    forward, reverse = by_columns(rows, cols, shape), by_rows(rows, cols, shape)
    return forward if forward.count <= reverse.count else reverse


def _unique(name: str, pattern: Any, square: bool = False) -> tuple[Any, Any, tuple[int, int]]:
    """Each place once, by rows."""
    rows, cols, shape = places(name, pattern, square)
    m, n = shape
    inside = (rows >= 0) & (rows < m) & (cols >= 0) & (cols < n)
    pairs = np.unique(rows[inside].astype(np.int64) * n + cols[inside])
    return (pairs // max(n, 1)).astype(np.int32), (pairs % max(n, 1)).astype(np.int32), shape


def jacobian(fn: Callable[..., PyTree], pattern: Any = "detect") -> Callable[..., BCOO]:
    """A function's sparse Jacobian, by as many products as its columns or rows have colours.

    fn: (params, *args) -> a tree of floating arrays, of m elements.
    pattern: where the Jacobian may have entries: bool[m,n], a BCOO matrix (its indices), a `Coloring`, or "detect": by
        `sparsity`, anew whenever the result is called (or traced).

    Returns a function of (params, *args), params a tree of floating arrays of n elements, that returns BCOO float[m,n]
    with the entries of the pattern, by rows, in the order of `tree.ravel`. It may be compiled, vmapped and
    differentiated. Raises TreeError, when traced, for a pattern of another shape. Source: see `coloring`. An entry that
    the pattern lacks is added to another one: a pattern with too few is not told.

    >>> J = jo.sparse.jacobian(lambda x: x[1:] - x[:-1] ** 2)(jnp.array([1.0, 2.0, 3.0]))
    >>> J.todense().tolist()
    [[-2.0, 1.0, 0.0], [0.0, -4.0, 1.0]]
    """
    check_function("jacobian", "fn", fn)

    def at(params: Params, *args: Any) -> BCOO:
        x, unravel = tree.ravel(params)

        def flat(x: Array) -> Array:
            return tree.ravel(fn(unravel(x), *args))[0]

        colors = _colored("jacobian", pattern, lambda: sparsity(flat, x))
        _, values = value_and_entries("jacobian", flat, x, colors)
        return _matrix(values, colors)

    return at


def hessian(fn: Callable[..., Any], pattern: Any = "detect") -> Callable[..., BCOO]:
    """A function's sparse Hessian, by as many products with it as a star colouring has colours.

    fn: (params, *args) -> float[].
    pattern: where the Hessian may have entries: bool[n,n], a BCOO matrix (its indices), a symmetric `Coloring`, or
        "detect": by `sparsity` of the gradient, anew whenever the result is called (or traced). The mirror image and
        the diagonal are added.

    Returns a function of (params, *args), params a tree of floating arrays of n elements, that returns BCOO float[n,n]
    with both triangles, by rows, in the order of `tree.ravel`; `analyze` and `factorize` take it. It may be compiled,
    vmapped and differentiated. Raises TreeError, when traced, for a pattern of another shape. Source: see `coloring`.
    An entry that the pattern lacks is added to another one: a pattern with too few is not told.

    >>> H = jo.sparse.hessian(lambda x: jnp.sum((x[1:] - x[:-1] ** 2) ** 2))(jnp.array([1.0, 2.0, 3.0]))
    >>> H.todense().tolist()
    [[4.0, -4.0, 0.0], [-4.0, 38.0, -8.0], [0.0, -8.0, 2.0]]
    """
    check_function("hessian", "fn", fn)

    def at(params: Params, *args: Any) -> BCOO:
        x, unravel = tree.ravel(params)
        gradient = jax.grad(lambda x: fn(unravel(x), *args))
        colors = _colored("hessian", pattern, lambda: sparsity(gradient, x), "symmetric")
        _, values = value_and_entries("hessian", gradient, x, colors)
        return _matrix(values, colors)

    return at


def _colored(name: str, pattern: Any, detect: Callable[[], BCOO], kind: str | None = None) -> Coloring:
    if isinstance(pattern, Coloring):
        if (pattern.kind == "symmetric") != (kind == "symmetric"):
            say(TreeError, name, "a Hessian takes a symmetric Coloring, a Jacobian one of columns or rows",
                pattern.kind, "See the argument kind of coloring")  # fmt: skip
        return pattern
    if isinstance(pattern, str):
        check_choice(name, "pattern", pattern, ["detect"])
        pattern = detect()
    return coloring(pattern, kind)


def value_and_entries(name: str, flat: Callable[[Array], Array], x: Array, colors: Coloring) -> tuple[Array, Array]:
    """flat(x) float[m] and the entries float[nnz] of its Jacobian."""
    m = jax.eval_shape(flat, x).shape[0]
    if colors.shape != (m, x.size):
        say(TreeError, name, f"the pattern must be that of a matrix of {m} rows and {x.size} columns",
            f"shape {colors.shape}", "Rows belong to what the function returns, columns to params")  # fmt: skip
    seeds = jnp.asarray(colors.seeds(), x.dtype)
    if colors.kind == "rows":
        value, pull = jax.vjp(flat, x)
        (products,) = jax.vmap(pull)(seeds.astype(value.dtype))
    else:
        value, push = jax.linearize(flat, x)
        products = jax.vmap(push)(seeds)
    return value, products[colors.product, colors.element]


def _matrix(values: Array, colors: Coloring) -> BCOO:
    indices = jnp.asarray(np.stack([colors.rows, colors.cols], axis=1))
    return BCOO((values, indices), shape=colors.shape, indices_sorted=True, unique_indices=True)


answers_at("jaxopt_ko", {"sparse": sys.modules[__name__]})
