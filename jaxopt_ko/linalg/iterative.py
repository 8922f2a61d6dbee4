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
    """The eigenvalue largest in size, and its eigenvector, of a diagonalizable matrix.

    v <- A v / |A v|,  lambda = v'A v

    matrix: float[n, n], or a function v -> A v of trees, which needs a v0.
    v0: where to start, float[n] or a tree that the function takes; it must not be orthogonal to the eigenvector. None:
        random numbers of `key`.
    num_iters: how many products there are at most after the first, an integer >= 0.
    error_tolerance: it stops when A v - lambda v is no longer than this times |A v|, >= 0.
    precision: of the products with an array, a jax.lax.Precision; accelerators' default has fewer bits.
    key: a PRNG key for v0 of an array; None: that of the seed 0.

    Returns (lambda, v): float[] in v's dtype, float32 at least, and a tree like v0 of length 1.
    Raises MissingArgumentError for a function without v0.
    Not for all eigenvalues of a small matrix (jnp.linalg.eigh), nor where the two largest are nearly of one size.

    >>> value, v = jo.linalg.power_iteration(jnp.diag(jnp.array([3.0, 1.0])))
    >>> round(float(value), 4), [round(abs(x), 2) for x in v.tolist()]
    (3.0, [1.0, 0.0])
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
    """An inverse root of a symmetric matrix, and how far it is off, by coupled Newton steps.

    X = (A + ridge_epsilon lambda I)**(-1/p),  lambda A's largest eigenvalue

    matrix: float[n, n], symmetric positive semidefinite; the first two are not checked.
    p: which root, an integer >= 1; optax takes 1, 2, 4, 8 alone.
    num_iters: taken for optax's sake, an integer >= 1: the steps end where rounding ends them.
    ridge_epsilon: what is added to the diagonal over the largest eigenvalue, >= 0; 1e-6 as in optax.
    error_tolerance: taken for optax's sake, and without effect.
    precision: of the products that estimate lambda, a jax.lax.Precision.

    Returns (X, error): float[n, n] in the matrix's dtype, and float[], the largest element of |X**p (A + …) - I|.
    Raises HyperparameterError for p or num_iters below 1, or no integer.
    Source: Guo & Higham 2006, SIAM J. Matrix Anal. Appl. 28, 788, as in `matrix_functions.inverse_root`.

    >>> X, error = jo.linalg.matrix_inverse_pth_root(jnp.diag(jnp.array([4.0, 1.0])), 2)
    >>> [[round(x, 3) for x in row] for row in X.tolist()]
    [[0.5, 0.0], [0.0, 1.0]]
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

    A: float[m, n].
    b: float[m], or float[m, k] for k problems.
    iters: how many steps, an integer >= 0; the error falls as 1 / iters**2, or faster.
    unroll: of the loop, as of jax.lax.scan.
    L: no less than the largest eigenvalue of A'A, a number > 0; None: a bound from the norms of A'A.

    Returns x, float[n] or float[n, k], in the dtype of A'A.
    Raises HyperparameterError for a negative iters, TreeError for other shapes.
    Source: Polyak 2015, Contemporary Mathematics 636, 167.
    Not for all digits: `jaxopt_ko.quadratic_program` gives them.

    >>> A, b = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([1.0, -1.0])
    >>> [round(x, 4) for x in jo.linalg.nnls(A, b, 100).tolist()]
    [1.0, 0.0]
    """
    errors.check_size("nnls", "iters", iters, 0)
    A, b = jnp.asarray(A), jnp.asarray(b)
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
