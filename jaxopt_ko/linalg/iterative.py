"""Dominant eigenvalues, inverse roots, and least squares with no negative unknowns, by products alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import ratio, real_dtype
from jaxopt_ko.linalg.matrix_functions import inverse_root, largest_eigenvalue_bound
from jaxopt_ko.types import PyTree

Products = jax.Array | Callable[[PyTree], PyTree]


def power_iteration(
    matrix: Products,
    *,
    v0: PyTree = None,
    num_iters: int = 100,
    error_tolerance: float = 1e-6,
    precision: Any = jax.lax.Precision.HIGHEST,
    key: jax.Array | None = None,
) -> tuple[jax.Array, PyTree]:
    """(eigenvalue largest in size, its eigenvector of length 1) of a diagonalizable matrix: v <- A v / |A v|.

    matrix: float[n, n], or a function v -> A v of trees, which needs a v0. Stops when A v - lambda v is no longer than
    error_tolerance |A v|, or after num_iters products. Raises MissingArgumentError for a function without v0.
    key: a PRNG key, typed or raw, or an integer seed.
    """
    name = "power_iteration"
    if callable(matrix):
        if v0 is None:
            errors.missing_argument(name, "v0", "Give a tree that the function takes, to start from")
        times: Callable[[PyTree], PyTree] = matrix
    else:
        A = jnp.asarray(matrix)
        times = lambda v: jnp.matmul(A, v, precision=precision)  # noqa: E731
        if v0 is None:
            key = jax.random.key(0) if key is None else key
            v0 = jax.random.uniform(key, A.shape[-1:], real_dtype(A.dtype), -1.0, 1.0).astype(A.dtype)

    def unit(v: PyTree) -> PyTree:
        length = tree.norm(v)
        return jax.tree.map(lambda x: ratio(x, length.astype(x.dtype)), v)

    def body(carry: Any) -> Any:
        v, w, _, k = carry
        v = unit(w)
        w = times(v)
        return v, w, tree.vdot(v, w), k + 1

    def goes_on(carry: Any) -> jax.Array:
        v, w, eigenvalue, k = carry
        off = tree.norm(tree.add_scale(w, -eigenvalue, v))
        more: jax.Array = (k < num_iters) & ((k == 0) | (off > error_tolerance * tree.norm(w)))
        return more

    start = unit(v0)
    first = times(start)
    zero = jnp.zeros((), tree.vdot(start, first).dtype)
    _, w, eigenvalue, _ = jax.lax.while_loop(goes_on, body, (start, first, zero, jnp.zeros((), jnp.int32)))
    return eigenvalue, unit(w)


def matrix_inverse_pth_root(
    matrix: jax.Array,
    p: int,
    num_iters: int = 100,
    ridge_epsilon: float = 1e-6,
    error_tolerance: float = 1e-6,
    precision: Any = jax.lax.Precision.HIGHEST,
) -> tuple[jax.Array, jax.Array]:
    """((A + ridge_epsilon lambda I)**(-1/p), largest |X**p (A + …) - I|), lambda A's largest eigenvalue.

    matrix: float[n, n], symmetric positive semidefinite; p = 1, 2, 3, … By coupled Newton steps,
    `matrix_functions.inverse_root`; optax takes p = 1, 2, 4, 8 alone. The other arguments are taken for optax's sake:
    the steps end where rounding ends them.
    """
    errors.check_size("matrix_inverse_pth_root", "p", p)
    errors.check_size("matrix_inverse_pth_root", "num_iters", num_iters)
    A = jnp.asarray(matrix)
    wide = A.astype(tree.compute_dtype(A.dtype))
    largest = power_iteration(wide, num_iters=100, error_tolerance=1e-6, precision=precision)[0]
    ridge = ridge_epsilon * jnp.maximum(largest, 1e-16)
    X = inverse_root(wide, 1 / p, ridge, "newton")
    identity = jnp.eye(A.shape[0], dtype=wide.dtype)
    back = wide + ridge * identity
    for _ in range(p):
        back = jnp.matmul(X, back, precision=jax.lax.Precision.HIGHEST)
    return X.astype(A.dtype), jnp.max(jnp.abs(back - identity))


def nnls(
    A: jax.Array, b: jax.Array, iters: int, unroll: int | bool = 1, L: jax.Array | float | None = None
) -> jax.Array:
    """The x >= 0 with least |A x - b|, near it after `iters` steps of the accelerated projected gradient.

    y = x + (s - 1) / s_next (x - x_old);   x = max(y - A'(A y - b) / L, 0)

    A: float[m, n]; b: float[m] or [m, k]; x: float[n] or [n, k]. L: at least the largest eigenvalue of A'A. Polyak
    2015, Contemporary Mathematics 636, 167. `jaxopt_ko.quadratic_program` gives all digits.
    """
    errors.check_size("nnls", "iters", iters, 0)
    if A.ndim != 2 or b.ndim not in (1, 2) or b.shape[0] != A.shape[0]:
        errors.say(errors.TreeError, "nnls", "A must be [m, n] and b [m] or [m, k]",
                   f"{errors.describe(A)} and {errors.describe(b)}")  # fmt: skip
    Q, q = A.mT @ A, A.mT @ b
    bound = largest_eigenvalue_bound(Q) if L is None else jnp.asarray(L, Q.dtype)
    bound = jnp.where(bound == 0, jnp.ones_like(bound), bound)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        x, y, s = carry
        after = (1 + jnp.sqrt(1 + 4 * s * s)) / 2
        new = jnp.maximum(y - (Q @ y - q) / bound, 0)
        return (new, new + (s - 1) / after * (new - x), after), None

    x = jnp.zeros(A.shape[-1:] + b.shape[1:], Q.dtype)
    (x, _, _), _ = jax.lax.scan(step, (x, x, jnp.ones((), Q.dtype)), length=iters, unroll=unroll)
    return x
