"""Euclidean projections: P(x) is the point of a set that is nearest to x.

argmin |p - x|**2 over p in the set. Parikh & Boyd 2014, Proximal Algorithms, chapter 6, unless another source is named.

A tree counts as one vector of all its leaves, n elements in all, except where a function says otherwise. Each is pure
and may be jitted, vmapped and differentiated, almost everywhere, also by what describes the set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree as trees
from jaxopt_ko.core.checks import check_same_trees, is_complex_leaf, structure_mismatch
from jaxopt_ko.core.naming import suggests as _suggests
from jaxopt_ko.core.numerics import is_complex, largest, norm, or_one, zero_count
from jaxopt_ko.errors import LIMIT, HyperparameterError, TreeError, describe, path_of, say
from jaxopt_ko.types import PyTree

MOST_STEPS = 200  # to the nearest point of the transport polytope; some ten are made


def projection_non_negative(tree: PyTree) -> PyTree:
    """The nearest point of x >= 0: max(x, 0).

    tree: x, floating arrays in a tree; all leaves together count as one vector.

    Returns a tree like it, in its dtypes.
    Raises TreeError for a complex leaf.

    >>> jo.projections.projection_non_negative(jnp.array([1.0, -2.0])).tolist()
    [1.0, 0.0]
    """
    _check_order("projection_non_negative", tree)
    return jax.tree.map(lambda x: jnp.maximum(x, 0), tree)


def _check_order(name: str, tree: PyTree) -> None:
    """What compares numbers has no meaning for complex ones."""
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        if is_complex_leaf(leaf):
            say(TreeError, name, f"the leaf {path_of(tree, index)} must be real", describe(leaf),
                "Complex numbers have no order: take their real and imaginary parts as two leaves")  # fmt: skip


def projection_box(tree: PyTree, lower: PyTree, upper: PyTree) -> PyTree:
    """The nearest point of lower <= x <= upper: min(max(x, lower), upper).

    tree: x, floating arrays in a tree; all leaves together count as one vector.
    lower, upper: each a number for all elements, or a tree like x of numbers and arrays; infinity for no bound.

    Returns a tree like x, in its dtypes.
    Raises TreeError for bounds of another structure, and for a complex leaf.

    >>> jo.projections.projection_box(jnp.array([1.0, -2.0]), -1.0, jnp.inf).tolist()
    [1.0, -1.0]
    """
    _check_order("projection_box", tree)
    low, high = (_like("projection_box", name, b, tree) for name, b in (("lower", lower), ("upper", upper)))
    return jax.tree.map(lambda x, a, b: jnp.clip(x, _as(a, x), _as(b, x)), tree, low, high)


def projection_hypercube(tree: PyTree, scale: Any = 1) -> PyTree:
    """The nearest point of 0 <= x <= scale: min(max(x, 0), scale).

    tree: x, floating arrays in a tree; all leaves together count as one vector.
    scale: length of the edges, a number >= 0, or a tree like x of numbers and arrays.

    Returns a tree like x, in its dtypes.
    Raises TreeError for a scale of another structure, and for a complex leaf.

    >>> jo.projections.projection_hypercube(jnp.array([1.5, -2.0, 0.5])).tolist()
    [1.0, 0.0, 0.5]
    """
    return projection_box(tree, 0, scale)


def projection_linf_ball(tree: PyTree, scale: Any = 1) -> PyTree:
    """The nearest point of max|x| <= scale: x / |x| min(|x|, scale) of each element.

    tree: x, floating arrays in a tree; all leaves together count as one vector.
    scale: radius of the ball, a number >= 0, which may be traced.

    Returns a tree like x, in its dtypes; complex elements keep their angles.

    >>> jo.projections.projection_linf_ball(jnp.array([1.5, -2.0, 0.5])).tolist()
    [1.0, -1.0, 0.5]
    """
    errors.check_number("projection_linf_ball", "scale", scale, LIMIT)

    def project(x: Any) -> Any:
        if not is_complex(trees.dtype_of(x)):
            return jnp.clip(x, -_as(scale, x), _as(scale, x))
        length, s = jnp.abs(x), _as(scale, jnp.real(x))
        outside = length > s
        return jnp.where(outside, s / jnp.where(outside, length, 1), 1).astype(x.dtype) * x

    return jax.tree.map(project, tree)


def projection_simplex(tree: PyTree, scale: Any = 1) -> PyTree:
    """The nearest point of x >= 0, sum x = scale: probabilities, if that is 1.

    max(x - t, 0) for the t that gives that sum

    tree: x, floating arrays in a tree; all leaves together count as one vector.
    scale: the sum over all leaves, a number >= 0, which may be traced.

    Returns a tree like x, in its dtypes; computed in float32 at least.
    Raises HyperparameterError for a scale below 0, TreeError for a complex leaf.
    Source: Held, Wolfe & Crowder 1974, Mathematical Programming 6, 62; by sorting.

    >>> jo.projections.projection_simplex(jnp.array([1.0, 0.5, -1.0])).tolist()
    [0.75, 0.25, 0.0]
    """
    errors.check_number("projection_simplex", "scale", scale, LIMIT)
    _check_order("projection_simplex", tree)
    x, unravel = trees.ravel(tree)
    return unravel(_simplex(x, _as(scale, x)))


def projection_l1_sphere(tree: PyTree, scale: Any = 1) -> PyTree:
    """The nearest point of sum|x| = scale: signs of x times the projection of |x| on the simplex.

    tree: x, floating arrays in a tree; all leaves together count as one vector.
    scale: the sum over all leaves, a number >= 0, which may be traced.

    Returns a tree like x, in its dtypes; computed in float32 at least.
    Source: Duchi et al. 2008, ICML, section 4.

    >>> jo.projections.projection_l1_sphere(jnp.array([1.0, -0.5])).tolist()
    [0.75, -0.25]
    """
    errors.check_number("projection_l1_sphere", "scale", scale, LIMIT)
    x, unravel = trees.ravel_leaves(tree)
    return unravel(_signs(x) * _simplex(jnp.abs(x), _as(scale, jnp.real(x))).astype(x.dtype))


def projection_l1_ball(tree: PyTree, scale: Any = 1) -> PyTree:
    """The nearest point of sum|x| <= scale: x itself, or that of sum|x| = scale; some elements become 0.

    tree: x, floating arrays in a tree; all leaves together count as one vector.
    scale: the sum over all leaves, a number >= 0, which may be traced.

    Returns a tree like x, in its dtypes; computed in float32 at least.
    Source: Duchi et al. 2008, ICML, section 4.

    >>> jo.projections.projection_l1_ball(jnp.array([2.0, -1.5])).tolist()
    [0.75, -0.25]
    """
    errors.check_number("projection_l1_ball", "scale", scale, LIMIT)
    x, unravel = trees.ravel_leaves(tree)
    s = _as(scale, jnp.real(x))
    return unravel(jnp.where(jnp.sum(jnp.abs(x)) <= s, x, _signs(x) * _simplex(jnp.abs(x), s).astype(x.dtype)))


def projection_l2_sphere(tree: PyTree, scale: Any = 1) -> PyTree:
    """The nearest point of |x| = scale: scale x / |x|.

    From x = 0, where all points are as near, it goes to that with equal elements.

    tree: x, floating arrays in a tree; all leaves together count as one vector.
    scale: the length of all leaves as one vector, a number >= 0, which may be traced.

    Returns a tree like x, in its dtypes; computed in float32 at least.

    >>> [round(x, 4) for x in jo.projections.projection_l2_sphere(jnp.array([3.0, 4.0])).tolist()]
    [0.6, 0.8]
    """
    errors.check_number("projection_l2_sphere", "scale", scale, LIMIT)
    x, unravel = trees.ravel(tree)
    length, even = norm(x), np.ones(x.shape) / max(np.sqrt(x.size), 1)
    there = length > 0
    return unravel(_as(scale, x) * jnp.where(there, x / jnp.where(there, length, 1), even.astype(x.dtype)))


def projection_l2_ball(tree: PyTree, scale: Any = 1) -> PyTree:
    """The nearest point of |x| <= scale: x, or scale x / |x|.

    tree: x, floating arrays in a tree; all leaves together count as one vector.
    scale: radius of the ball, a number >= 0, which may be traced.

    Returns a tree like x, in its dtypes; computed in float32 at least.

    >>> [round(x, 4) for x in jo.projections.projection_l2_ball(jnp.array([3.0, 4.0]), 2.5).tolist()]
    [1.5, 2.0]
    """
    errors.check_number("projection_l2_ball", "scale", scale, LIMIT)
    x, unravel = trees.ravel(tree)
    length, s = norm(x), _as(scale, x)
    outside = length > s
    return unravel(jnp.where(outside, s / jnp.where(outside, length, 1), 1) * x)


def projection_vector(x: PyTree, a: PyTree) -> PyTree:
    """The nearest point of the line through 0 and a: (a'x / a'a) a; 0 if a is.

    x: floating arrays in a tree; all leaves together count as one vector.
    a: what the line goes through, a tree like x; complex numbers count as pairs of real ones.

    Returns a tree like x, in its dtypes; computed in float32 at least.
    Raises TreeError for trees of different structures or shapes.

    >>> jo.projections.projection_vector(jnp.array([2.0, 3.0]), jnp.array([1.0, 0.0])).tolist()
    [2.0, 0.0]
    """
    v, unravel, w = _two("projection_vector", x, a)
    return unravel(_over(w @ v, w @ w) * w)


def projection_hyperplane(x: PyTree, a: PyTree, b: Any) -> PyTree:
    """The nearest point of a'x = b: x - (a'x - b) / (a'a) a.

    x: floating arrays in a tree; all leaves together count as one vector.
    a: what is orthogonal to the plane, a tree like x; complex numbers count as pairs of real ones.
    b: a number, which may be traced.

    Returns a tree like x, in its dtypes; computed in float32 at least. For a = 0 it is x.
    Raises TreeError for trees of different structures or shapes.

    >>> jo.projections.projection_hyperplane(jnp.array([2.0, 3.0]), jnp.array([1.0, 1.0]), 1.0).tolist()
    [0.0, 1.0]
    """
    v, unravel, w = _two("projection_hyperplane", x, a)
    return unravel(v - _over(w @ v - _as(b, v), w @ w) * w)


def projection_halfspace(x: PyTree, a: PyTree, b: Any) -> PyTree:
    """The nearest point of a'x <= b: x - max(a'x - b, 0) / (a'a) a.

    x: floating arrays in a tree; all leaves together count as one vector.
    a: what is orthogonal to the plane, a tree like x; complex numbers count as pairs of real ones.
    b: a number, which may be traced.

    Returns a tree like x, in its dtypes; computed in float32 at least. For a = 0 it is x.
    Raises TreeError for trees of different structures or shapes.

    >>> jo.projections.projection_halfspace(jnp.array([2.0, 3.0]), jnp.array([1.0, 1.0]), 1.0).tolist()
    [0.0, 1.0]
    """
    v, unravel, w = _two("projection_halfspace", x, a)
    return unravel(v - _over(jnp.maximum(w @ v - _as(b, v), 0), w @ w) * w)


def projection_affine_set(x: PyTree, A: Array, b: Array) -> PyTree:
    """The nearest point of A x = b: x - A^+ (A x - b), A^+ the pseudoinverse, so rows may depend on each other.

    x: floating arrays in a tree; all leaves together count as one vector.
    A: float[m, n], n the elements of all leaves.
    b: float[m].

    Returns a tree like x, in its dtypes; computed in float32 at least. If no x solves A x = b, it is the nearest of its
    least-squares solutions.
    Raises TreeError for A of another shape.
    Not for large n: the pseudoinverse takes m n min(m, n) operations in each call.

    >>> A, b = jnp.array([[1.0, 1.0]]), jnp.array([1.0])
    >>> [round(x, 4) for x in jo.projections.projection_affine_set(jnp.array([2.0, 3.0]), A, b).tolist()]
    [0.0, 1.0]
    """
    v, unravel = trees.ravel_leaves(x)
    _check_shape("projection_affine_set", "A", A, (np.shape(b)[0] if np.ndim(b) else 1, v.size))
    A = jnp.asarray(A, v.dtype)
    return unravel(v - jnp.linalg.pinv(A) @ (A @ v - jnp.asarray(b, v.dtype)))


def _check_shape(name: str, argument: str, value: Any, shape: tuple[int, ...]) -> None:
    """An array whose shape follows from the others'."""
    if np.shape(value) != shape:
        say(TreeError, name, f"{argument} must have the shape {shape}, which follows from the other arguments",
            describe(value))  # fmt: skip


def projection_second_order_cone(pair: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
    """The nearest point of |x| <= t, for the pair (t, x) of one number and a tree.

    (t, x) if |x| <= t;  0 if |x| <= -t;  else (1 + t / |x|) / 2 (|x|, x)

    pair: (t, x): float[], and a tree of floating arrays, all leaves one vector.

    Returns such a pair, in its dtypes; computed in float32 at least.

    >>> t, x = jo.projections.projection_second_order_cone((1.0, jnp.array([3.0, 0.0])))
    >>> float(t), x.tolist()
    (2.0, [2.0, 0.0])
    """
    t, x = pair
    v, unravel = trees.ravel(x)
    length, s = norm(v), jnp.asarray(t).astype(v.dtype)
    inside, polar = length <= s, length <= -s
    half = 0.5 * (1 + s / or_one(length))
    v_new = jnp.where(inside, v, jnp.where(polar, 0, half * v))
    s_new = jnp.where(inside, s, jnp.where(polar, 0, half * length))
    return s_new.astype(trees.dtype_of(t)), unravel(v_new)


def projection_psd_cone(tree: PyTree) -> PyTree:
    """The nearest symmetric matrices without negative eigenvalues: Q max(Lambda, 0) Q'.

    Q Lambda Q' is the leaf's symmetric part.

    tree: floating arrays in a tree, each float[..., k, k]: a matrix or a stack of them, each by itself.

    Returns a tree like it, in its dtypes; computed in float32 at least, by eigenvalues.
    Raises TreeError for a leaf that is no square matrix, or stack of them, and for a complex one.

    >>> P = jo.projections.projection_psd_cone(jnp.array([[1.0, 2.0], [2.0, 1.0]]))
    >>> [[round(x, 4) for x in row] for row in P.tolist()]
    [[1.5, 1.5], [1.5, 1.5]]
    """
    _check_order("projection_psd_cone", tree)
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        _check_square_matrix("projection_psd_cone", tree, index, leaf)

    def project(X: Array) -> Array:
        wide = jnp.asarray(X).astype(_wide(X))
        return _psd(0.5 * (wide + jnp.swapaxes(wide, -1, -2))).astype(trees.dtype_of(X))

    return jax.tree.map(project, tree)


def _check_square_matrix(name: str, tree: PyTree, index: int, leaf: Any) -> None:
    """A leaf that is a square matrix, or a stack of them."""
    shape = np.shape(leaf)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        say(TreeError, name, f"each leaf must be a square matrix, or a stack of them; {path_of(tree, index)} is none",
            describe(leaf))  # fmt: skip


def projection_transport(X: Array, row_sums: Array, column_sums: Array) -> Array:
    """The nearest point of the transport polytope P >= 0, P 1 = row_sums, P'1 = column_sums.

    P = max(X + u 1' + 1 v', 0), u and v by a semismooth Newton method, damped, with systems of r + c equations.

    X: float[r, c].
    row_sums: float[r], each >= 0.
    column_sums: float[c], each >= 0, of the same total as row_sums up to rounding, 1e-3 of it in float32.

    Returns float[r, c], in X's dtype; computed in float32 at least. NaN if no P has these sums, and they are traced.
    Raises TreeError for other shapes, and for complex X; HyperparameterError for sums below 0 and different totals,
    where their numbers can be seen.
    Source: Li, Sun & Toh, arXiv:1702.05934, algorithm 1.

    >>> P = jo.projections.projection_transport(jnp.eye(2), jnp.array([1.0, 1.0]), jnp.array([1.0, 1.0]))
    >>> [[round(x, 4) for x in row] for row in P.tolist()]
    [[1.0, 0.0], [0.0, 1.0]]
    """
    name = "projection_transport"
    _check_order(name, X)
    _check_shape(name, "row_sums", row_sums, (np.shape(X)[0],))
    _check_shape(name, "column_sums", column_sums, (np.shape(X)[1],))
    wide = _wide(X)
    x, r, c = (jnp.asarray(a).astype(wide) for a in (X, row_sums, column_sums))
    some = _have_a_plan(name, r, c)
    P: Array = jnp.where(some, _transport(x, r, c), jnp.nan).astype(trees.dtype_of(X))
    return P


def _have_a_plan(name: str, rows: Array, columns: Array) -> Array:
    """bool[]: are there P >= 0 with these sums? An error says no, where the numbers can be seen."""
    near = float(np.finfo(rows.dtype).eps) ** 0.5 * max(1.0, (rows.size + columns.size) ** 0.5)
    totals = jnp.sum(rows), jnp.sum(columns)
    nonnegative = jnp.all(rows >= 0) & jnp.all(columns >= 0)
    equal = jnp.abs(totals[0] - totals[1]) <= near * jnp.maximum(*totals)
    some: Array = nonnegative & equal
    if not isinstance(some, jax.core.Tracer):
        if not nonnegative:
            least = f"the least are {float(jnp.min(rows)):.6g} and {float(jnp.min(columns)):.6g}"
            say(HyperparameterError, name, "row_sums and column_sums must be >= 0", least)
        if not equal:
            say(HyperparameterError, name, "row_sums and column_sums must have the same total",
                f"{float(totals[0]):.6g} and {float(totals[1]):.6g}",
                "No P has both: divide each by its total, say")  # fmt: skip
    return some


# ---- how --------------------------------------------------------------------------------------------------


def _simplex(x: Array, scale: Array) -> Array:
    down = -jnp.sort(-x)
    excess = jnp.cumsum(down) - scale
    k = jnp.arange(1, x.size + 1, dtype=x.dtype)
    last = jnp.maximum(jnp.sum(down * k > excess), 1) - 1  # of the elements that stay positive
    p: Array = jnp.maximum(x - excess[last] / k[last], 0)
    return p


@jax.custom_jvp
def _psd(S: Array) -> Array:
    values, vectors = jnp.linalg.eigh(S)
    P: Array = (vectors * jnp.maximum(values, 0)[..., None, :]) @ jnp.swapaxes(vectors, -1, -2)
    return P


@_psd.defjvp
def _psd_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """d P = Q (Gamma o Q'dS Q) Q', Gamma the divided differences of max(lambda, 0): also where eigenvalues meet."""
    (S,), (dS,) = primals, tangents
    values, Q = jnp.linalg.eigh(S)
    plus = jnp.maximum(values, 0)
    size = jnp.abs(values[..., :, None]) + jnp.abs(values[..., None, :])
    # for max(a, 0) and max(b, 0) it is (a+ + b+) / (|a| + |b|), without cancellation
    gamma = (plus[..., :, None] + plus[..., None, :]) / or_one(size)
    Qt = jnp.swapaxes(Q, -1, -2)
    return _psd(S), Q @ (gamma * (Qt @ dS @ Q)) @ Qt


class _Dual(NamedTuple):
    """Multipliers of the sums, on their way to where P has them."""

    w: Array  # float[r+c]  u of the rows, and v of the columns
    g: Array  # float[r+c]  the sums of P(w), less what they must be: the gradient of phi
    k: Array  # int32[]
    stuck: Array  # bool[]  no step along the last direction was better


@jax.custom_jvp
def _transport(X: Array, rows: Array, columns: Array) -> Array:
    """P(w) = max(X + u 1' + 1 v', 0) for the w = (u, v) that minimizes phi(w) = |P(w)|**2 / 2 - rows'u - columns'v."""
    r, wanted, eps = len(rows), jnp.concatenate([rows, columns]), float(np.finfo(X.dtype).eps)
    total = jnp.sum(rows)
    unit = or_one(total)
    rounding = 4 * eps * (unit + jnp.where(total > 0, jnp.max(jnp.abs(X), initial=0.0), 0))

    def before(w: Array) -> Array:
        return X + w[:r, None] + w[None, r:]

    def gradient(w: Array) -> Array:
        return _sums(jnp.maximum(before(w), 0)) - wanted

    def phi(w: Array) -> Array:
        return jnp.sum(jnp.maximum(before(w), 0) ** 2) / 2 - wanted @ w

    def step(s: _Dual) -> _Dual:
        w, g, height = s.w, s.g, phi(s.w)
        damping = jnp.minimum(0.1 * largest(g) / unit, 1e-3)
        d = -_sums_solver((before(w) > 0).astype(X.dtype), damping)(g)
        blur = 4 * eps * (jnp.abs(height) + jnp.abs(wanted) @ jnp.abs(w))

        def too_far(a: Array) -> Array:
            return (phi(w + a * d) > height + 1e-4 * a * (g @ d) + blur) & (a > eps)

        a = jax.lax.while_loop(too_far, lambda a: a / 2, jnp.ones_like(unit))
        to = gradient(w + a * d)
        better = (largest(to) < largest(g)) | (phi(w + a * d) < height - blur)
        return _Dual(jnp.where(better, w + a * d, w), jnp.where(better, to, g), s.k + 1, ~better)

    start = _sums_solver(jnp.ones_like(X))(wanted - _sums(X))  # every row and column begins with positive elements
    first = _Dual(start, gradient(start), zero_count(), jnp.zeros((), bool))
    end = jax.lax.while_loop(lambda s: (largest(s.g) > rounding) & (s.k < MOST_STEPS) & ~s.stuck, step, first)
    return jnp.maximum(before(end.w), 0)


@_transport.defjvp
def _transport_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    """d P = dX + du + dv where P > 0, with the sums that d rows and d columns ask for."""
    (X, rows, columns), (dX, d_rows, d_columns) = primals, tangents
    P = _transport(X, rows, columns)
    on = jax.lax.stop_gradient(P) > 0
    moved = jnp.where(on, dX, 0)
    w = _sums_solver(on.astype(X.dtype))(jnp.concatenate([d_rows, d_columns]) - _sums(moved))
    return P, jnp.where(on, moved + w[: len(rows), None] + w[None, len(rows) :], 0)


def _sums(P: Array) -> Array:
    """float[r+c]: of the rows, and of the columns."""
    return jnp.concatenate([P.sum(1), P.sum(0)])


def _sums_solver(D: Array, damping: Any = 0.0) -> Callable[[Array], Array]:
    """b -> the w with the sums b of D (u 1' + 1 v'), as near as can be: it is open by a constant, at least."""
    M = jnp.block([[jnp.diag(D.sum(1)), D], [D.T, jnp.diag(D.sum(0))]])
    scale = jax.lax.rsqrt(jnp.where(jnp.diagonal(M) > 0, jnp.diagonal(M), 1))
    M = scale[:, None] * M * scale[None] + damping * jnp.eye(len(M), dtype=M.dtype)
    small = 100 * len(M) * float(np.finfo(M.dtype).eps)
    L = jnp.linalg.cholesky(M + small * jnp.eye(len(M), dtype=M.dtype))

    def solve(b: Array) -> Array:
        b, w = scale * b, jnp.zeros_like(b)
        for _ in range(3):  # the last two refine
            w = w + jax.scipy.linalg.cho_solve((L, True), b - M @ w)
        return scale * w

    return solve


def _two(name: str, x: PyTree, a: PyTree) -> tuple[Array, Any, Array]:
    check_same_trees(name, "a", a, "x", x)
    v, unravel = trees.ravel(x)
    return v, unravel, trees.ravel(a)[0].astype(v.dtype)


def _like(name: str, argument: str, bound: PyTree, reference: PyTree) -> PyTree:
    """A bound as a tree like `reference`: one number stands for all."""
    if trees.structure(bound) == trees.structure(0) and jnp.ndim(bound) == 0:
        return jax.tree.map(lambda _: bound, reference)
    if trees.structure(bound) != trees.structure(reference):
        structure_mismatch(name, argument, bound, "x", reference)
    return bound


def _as(value: Any, x: Any) -> Array:
    return jnp.asarray(value).astype(trees.dtype_of(x))


def _signs(x: Array) -> Array:
    """x / |x|, and 1 for x = 0."""
    if is_complex(x.dtype):
        return jnp.where(x == 0, 1, jnp.sign(x)).astype(x.dtype)
    return jnp.where(x < 0, -1, 1).astype(x.dtype)


def _over(x: Array, y: Array) -> Array:
    """x / y, and 0 for y = 0."""
    return jnp.where(y != 0, x / jnp.where(y != 0, y, 1), 0)


def _wide(x: Any) -> Any:
    return trees.compute_dtype(trees.dtype_of(x))


_suggests(__name__, globals())
