"""Functions of matrices, for stacks of them: the nearest orthogonal matrix by products alone, or exactly.

Newton-Schulz: X <- a X + (b A + c A**2) X with A = XX', an odd polynomial of the singular values that leads them to 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.core.numerics import is_complex, length, or_one, safe_sqrt
from jaxopt_ko.core.tree import compute_dtype as wide_dtype
from jaxopt_ko.types import DType

Coefficients = tuple[float, float, float]  # a, b, c of one step

JORDAN = (3.4445, -4.7750, 2.0315)  # K. Jordan 2024, kellerjordan.github.io/posts/muon: singular values in [0.7, 1.2]
CUBIC = (1.5, -0.5, 0.0)  # Björck & Bowie 1971, to any precision if there are steps enough
# Ahn et al. 2025, arXiv:2504.05295, as optax has them
DION = (
    (4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046), (2.8366, -3.0525, 1.2012),
)  # fmt: skip
# Amsel et al. 2025, arXiv:2505.16932, Algorithm 1: minimax for singular values in [0.001, 1]
_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
_SAFETY = 1.01  # the paper's: rounding must not push a singular value out of where the polynomial maps into [0, 1]
POLAR_EXPRESS = (*((a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5) for a, b, c in _EXPRESS), (1.875, -1.25, 0.375))
# Grishina et al. 2025, arXiv:2506.10935, by Remez on intervals that follow the error: as Emerging-Optimizers has them
CANS = (
    (8.4703, -25.1081, 18.6293), (4.1828, -3.1087, 0.5806), (3.9619, -2.9541, 0.5630),
    (3.2866, -2.4647, 0.5074), (2.2737, -1.6447, 0.4162),
)  # fmt: skip
QUINTIC = (2.0, -1.5, 0.5)  # flat at 1, to any precision if there are steps enough
_DEEPSEEK = (JORDAN,) * 8 + (QUINTIC,) * 2  # DeepSeek-V4, 2026, section 2.4

# name -> number of steps asked for -> the coefficients of each
PRESETS: dict[str, Callable[[int], tuple[Coefficients, ...]]] = {
    "standard": lambda steps: (JORDAN,) * steps,
    "dion": lambda steps: DION,
    "polar_express": lambda steps: (*POLAR_EXPRESS, *(POLAR_EXPRESS[-1],) * steps)[:steps],
    "cans": lambda steps: (*CANS, *(CANS[-1],) * steps)[:steps],
    "deepseek": lambda steps: _DEEPSEEK,
    "deepseek_v4": lambda steps: _DEEPSEEK,  # the same, by the name that Emerging-Optimizers has
    "cubic": lambda steps: (CUBIC,) * 12,
    "quintic": lambda steps: (QUINTIC,) * 12,  # of modded-nanogpt's third track
}
PRECONDITIONINGS = ("frobenius", "spectral", "aol", "schatten")


def orthogonalized(
    x: jax.Array,
    coefficients: Sequence[Coefficients],
    *,
    eps: Any = 1e-8,
    preconditioning: str = "frobenius",
    compute_dtype: DType | None = None,
    gram: bool | None = None,
) -> jax.Array:
    """float[…, m, n] -> near U V' of x = U S V', by matrix products alone; 0 for x = 0.

    Squares of x must be finite.
    Products are taken on the smaller side: A = X X' for wide x, X' X for tall x.
    preconditioning: how the singular values are brought below 1 at first. "frobenius": x / (|x|_F + eps);
        "spectral": x / (|x|_2 + eps), an SVD; "aol": each row over the root of the sum of |A| in its row
        (Boissin et al. 2025, arXiv:2512.04632); "schatten": x / |A|_F**0.5 (Grishina et al. 2025, arXiv:2506.10935).
    compute_dtype: of the products; None: bfloat16 on accelerators, x's own on CPU. Sums and norms: float32 at least.
        Complex x, whose X' is the conjugate transpose, is multiplied in its own dtype, or a wider complex one.
    gram: iterate on A alone, and multiply x once at the end; None: where one side is more than twice the other and
        the dtype is no 16-bit one, in which A loses the small singular values. In float32 it is within 1e-6 of the
        plain form for singular values within a factor of ten, within 4e-4 whatever they are.
    """
    dtype = jnp.dtype(_default_dtype(x) if compute_dtype is None else compute_dtype)
    if is_complex(x.dtype):
        dtype = wide_dtype(x.dtype) if dtype.itemsize < 4 else wide_dtype(x.dtype, dtype)
    small, large = sorted(x.shape[-2:])
    wide = dtype.itemsize >= 4
    if gram is None:
        gram = wide and large > 2 * small
    x, A, s = _preconditioned(x, preconditioning, eps, dtype)
    if not gram:
        return (_iterated if wide else _iterated_short)(x, A, s, coefficients)
    for segment in _segments(coefficients, dtype):
        Q = _polynomial(_gram(x) if A is None else A, segment)
        x, A, s = _applied(Q if s is None else s * Q, x), None, None
    return x


def _is_tall(x: jax.Array) -> bool:
    return x.shape[-2] > x.shape[-1]


def _gram(x: jax.Array) -> jax.Array:
    """A, of the smaller side."""
    return product(adjoint(x), x) if _is_tall(x) else product(x, adjoint(x))


def adjoint(x: jax.Array) -> jax.Array:
    """The transpose of each matrix, conjugate where it is complex."""
    return jnp.conj(x.mT) if is_complex(x.dtype) else x.mT


def _applied(Q: jax.Array, x: jax.Array) -> jax.Array:
    """A symmetric matrix of the smaller side times x."""
    return product(x, Q) if _is_tall(x) else product(Q, x)


def _iterated(x: jax.Array, A: jax.Array | None, s: jax.Array | None, steps: Sequence[Coefficients]) -> jax.Array:
    """x <- (a I + b A + c A**2) x for every step; of the first, A and a factor s to x may be known."""
    quintic = any(c for _, _, c in steps)

    def step(x: jax.Array, A: jax.Array, s: Any, a: Any, b: Any, c: Any) -> jax.Array:
        P = a * _identity(A) + b * A + (c * product(A, A) if quintic else 0)
        return _applied(P if s is None else s * P, x)

    if A is not None:
        x, steps = step(x, A, s, *steps[0]), steps[1:]
    table = jnp.asarray(steps, x.dtype).reshape(-1, 3)
    return jax.lax.scan(lambda x, abc: (step(x, _gram(x), None, *abc), None), x, table)[0]


def _iterated_short(x: jax.Array, A: jax.Array | None, s: Any, steps: Sequence[Coefficients]) -> jax.Array:
    """The same in 16 bits, sums in 32: x <- a x + (b A + c A**2) x, for a I + b A would lose A's digits."""
    for a, b, c in steps:
        A = wide_product(x.mT, x) if _is_tall(x) else wide_product(x, x.mT)
        B = (b * A + c * wide_product(A.astype(x.dtype), A.astype(x.dtype)) if c else b * A).astype(x.dtype)
        x = (a * x.astype(A.dtype) + (wide_product(x, B) if _is_tall(x) else wide_product(B, x))).astype(x.dtype)
    return x


def _identity(A: jax.Array) -> jax.Array:
    return jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)


def _polynomial(A: jax.Array, steps: Sequence[Coefficients]) -> jax.Array:
    """Q with x <- Q x the steps on x: P = a I + b A + c A**2, Q <- P Q, A <- P A P."""
    quintic = any(c for _, _, c in steps)

    def of(A: jax.Array, a: Any, b: Any, c: Any) -> Any:
        return a * _identity(A) + b * A + (c * product(A, A) if quintic else 0)

    def step(carry: Any, abc: jax.Array) -> tuple[Any, None]:
        A, P, Q = carry
        A = product(product(P, A), P)
        P = of(A, *abc)
        return (A, P, product(P, Q)), None

    P = of(A, *steps[0])
    Q: jax.Array = jax.lax.scan(step, (A, P, P), jnp.asarray(steps[1:], A.dtype).reshape(-1, 3))[0][2]
    return Q


def _segments(coefficients: Sequence[Coefficients], dtype: jnp.dtype) -> list[list[Coefficients]]:
    """Steps that one Gram matrix is good for: for small singular values its rounding error grows by a**2 in each."""
    most = 3e-2 / float(jnp.finfo(dtype).eps)  # type: ignore[no-untyped-call]
    segments: list[list[Coefficients]] = []
    grown = math.inf
    for abc in coefficients:
        if grown * abc[0] ** 2 > most:
            segments.append([])
            grown = 1.0
        segments[-1].append(abc)
        grown *= abc[0] ** 2
    return segments


def wide_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """x @ y for stacks, in float32 at least; in full precision unless they are 16-bit numbers."""
    precision = None if x.dtype.itemsize < 4 else jax.lax.Precision.HIGHEST
    return jnp.matmul(x, y, precision=precision, preferred_element_type=wide_dtype(x.dtype))


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """The same, in x's dtype."""
    return wide_product(x, y).astype(x.dtype)


def rotated(x: jax.Array, Q_L: jax.Array, Q_R: jax.Array) -> jax.Array:
    """Q_L x Q_R; a side without a basis, [N, 0, 0], is left as it is."""
    x = product(Q_L, x) if Q_L.size else x
    return product(x, Q_R) if Q_R.size else x


def _preconditioned(
    x: jax.Array, how: str, eps: Any, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """x in `dtype`; A and a factor s where they are known: s x has singular values of about 1 at most, and A is its."""
    x = x.astype(wide_dtype(x.dtype))
    if how == "spectral":
        norm = jnp.linalg.norm(x, ord=2, axis=(-2, -1), keepdims=True)
        return (x * _inverse(norm + eps)).astype(dtype), None, None
    if how == "frobenius" and dtype.itemsize < 4:
        norm = frobenius(x)
        return (x * _inverse(norm + eps)).astype(dtype), None, None
    A = _gram(x)
    if how == "frobenius":  # |x|**2 is the trace of A: x is not read again, nor written
        s = _inverse(safe_sqrt(jnp.real(jnp.trace(A, axis1=-2, axis2=-1))[..., None, None]) + eps)
        return x, A * s * s, s
    if how == "aol":
        s = jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.abs(A), axis=-1, keepdims=True), eps))
    else:
        s = jax.lax.rsqrt(jnp.maximum(frobenius(A), eps))
    return (x * (s.mT if how == "aol" and _is_tall(x) else s)).astype(dtype), (A * s * s.mT).astype(dtype), None


def frobenius(x: jax.Array) -> jax.Array:
    """float[…, m, n] -> float[…, 1, 1]: the Frobenius norm, in x's dtype."""
    return length(x, (-2, -1), keepdims=True)


def _inverse(x: jax.Array) -> jax.Array:
    """1 / x, 0 of 0."""
    positive = x > 0
    return jnp.where(positive, 1 / jnp.where(positive, x, jnp.ones_like(x)), jnp.zeros_like(x))


def polar_factor(x: jax.Array) -> jax.Array:
    """float[…, m, n] -> U V' of x = U S V', by SVD: what the iterations come near; in float32 at least."""
    u, _, vt = jnp.linalg.svd(x.astype(wide_dtype(x.dtype)), full_matrices=False)
    return product(u, vt)


def eigenvectors(x: jax.Array) -> jax.Array:
    """float[N, m, m] symmetric -> its eigenvectors as columns, those of the largest eigenvalues first."""
    return _pairs(x)[1][..., ::-1]


def largest_eigenvalue_bound(A: jax.Array) -> jax.Array:
    """float[]: no less than the largest |eigenvalue| of float[n, n], the lesser of two norms; 0 without elements."""
    if not A.size:
        return jnp.zeros((), A.dtype)
    return jnp.minimum(length(A), jnp.max(jnp.sum(jnp.abs(A), axis=0)))


def orthonormal(x: jax.Array) -> jax.Array:
    """float[N, m, r] -> Q of x = Q R, r <= m."""

    def factor(a: jax.Array) -> jax.Array:
        q: jax.Array = jnp.linalg.qr(a)[0]
        return q

    made: jax.Array = _for_each(factor, x)
    return made


def times_inverse(x: jax.Array, R: jax.Array) -> jax.Array:
    """float[N, m, n], float[N, n, n] upper triangular -> x R**-1."""

    def solved(x: jax.Array, R: jax.Array) -> jax.Array:
        return jax.scipy.linalg.solve_triangular(R, x.T, trans="T").T

    made: jax.Array = _for_each(solved, x, R)
    return made


QR_METHODS = ("qr", "cqr", "rcqr")


def orthonormal_columns(x: jax.Array, how: str, key: jax.Array, oversample: float = 1.25) -> jax.Array:
    """float[N, m, r] -> Q of x = Q R, r <= m, but for the signs of its columns; orthonormal for any x, 0 too.

    how: "qr", by reflections; "cqr", by products and the Cholesky factor of x' x; "rcqr", the same after division by
        R of a random sketch S x, S float[oversample r, m] of the key (rand_cholQR, arXiv:2309.05868): good for
        ill-conditioned x; "qr" where S is no smaller than x. Where one of a stack has columns that are too dependent
        for "cqr", all are done by "rcqr", and from there by "qr".
    """
    m, r = x.shape[-2:]
    rows = 128 * math.ceil(oversample * r / 128)  # whole tiles of an accelerator
    if how == "qr" or not x.size or (how == "rcqr" and rows >= m):
        return orthonormal(x)
    y, simpler = x, "rcqr"
    if how == "rcqr":
        S = jax.random.normal(key, (1, rows, m), x.dtype) / np.sqrt(rows).astype(x.dtype)
        y, simpler = times_inverse(x, _for_each(lambda a: jnp.linalg.qr(a, mode="r"), product(S, x))), "qr"
    R = _cholesky(y)
    d = jnp.abs(jnp.diagonal(R, axis1=-2, axis2=-1))
    near = 100 * float(np.finfo(x.dtype).eps) ** 0.5  # rounding errors grow by the inverse square of their ratio
    fit = jnp.all(jnp.min(d, axis=-1) > near * jnp.max(d, axis=-1))  # False of NaN, which a failure leaves
    Q: jax.Array = jax.lax.cond(
        fit, lambda: times_inverse(y, R), lambda: orthonormal_columns(x, simpler, key, oversample)
    )
    return Q


def _cholesky(x: jax.Array) -> jax.Array:
    """R of R' R = x' x; NaN where rounding leaves none."""
    L: jax.Array = _for_each(lambda a: jnp.linalg.cholesky(a, symmetrize_input=False), product(x.mT, x))
    return L.mT


def _pairs(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and eigenvectors of a stack of symmetric matrices."""

    def pair(a: jax.Array) -> tuple[jax.Array, jax.Array]:
        w, v = jnp.linalg.eigh(a)
        return w, v

    made: tuple[jax.Array, jax.Array] = _for_each(pair, A)
    return made


def _for_each(function: Callable[..., Any], *stacks: jax.Array) -> Any:
    """Of every matrix of the stacks.

    On CPU in a loop: there a batched factorization can wait for ever on a small thread pool.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda one: function(*one), stacks)
    return jax.vmap(function)(*stacks)


def inverse_root(A: jax.Array, exponent: Any, eps: Any, how: str = "eigh") -> jax.Array:
    """float[…, m, m] positive semidefinite -> (A + eps I)**-exponent; 0 for A = 0 and eps = 0.

    how: "eigh", by eigenvalues; "newton", for exponent = 1 / p with p = 1, 2, … by products alone:
        M_0 = z A, X_0 = z**(1/p) I, z = (p + 1) / (2 |A|_F);  T = ((p + 1) I - M) / p, X <- X T, M <- T**p M
        until M is I (Guo & Higham 2006, SIAM J. Matrix Anal. Appl. 28, 788); no reverse-mode derivative.
    """
    if how == "newton":
        return _newton_root(A, round(1 / exponent), eps)
    flat = A.reshape(-1, *A.shape[-2:])
    w, v = _pairs(flat)
    raised = jnp.maximum(w, 0) + eps
    positive = raised > 0
    one = jnp.ones_like(raised)
    power = jnp.where(positive, jnp.exp(-exponent * jnp.log(jnp.where(positive, raised, one))), jnp.zeros_like(raised))
    return product(v * power[:, None, :], v.mT).reshape(A.shape)


def _newton_root(A: jax.Array, p: int, eps: Any) -> jax.Array:
    identity = _identity(A)
    A = A + eps * identity
    size = frobenius(A)
    z = (p + 1) / 2 * _inverse(size)
    near = 10 * A.shape[-1] * float(np.finfo(A.dtype).eps)

    def apart(M: jax.Array) -> jax.Array:
        return jnp.max(jnp.where(size > 0, jnp.abs(M - identity), jnp.zeros_like(M)))

    def advance(carry: Any) -> Any:
        X, M, _, k = carry
        T = ((p + 1) * identity - M) / p
        M = product(functools.reduce(product, [T] * p), M)
        return product(X, T), M, apart(M), k + 1

    def goes_on(carry: Any) -> Any:
        return (carry[2] > near) & (carry[3] < 100)

    start = (z ** (1 / p) * identity, z * A)
    X: jax.Array = jax.lax.while_loop(goes_on, advance, (*start, apart(start[1]), jnp.zeros((), jnp.int32)))[0]
    return X


def largest_singular(W: jax.Array, steps: int) -> tuple[jax.Array, jax.Array]:
    """float[N, 1, 1], float[N, m, n]: the largest singular value of each matrix, and the product x y' of its vectors.

    By so many steps of the power method, from a vector of ones.
    """

    def turn(x: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        y = product(W.mT, x)
        y = y / or_one(length(y, 1, keepdims=True))
        x = product(W, y)
        sigma = length(x, 1, keepdims=True)
        return x / or_one(sigma), (sigma, y)

    x, (sigma, y) = jax.lax.scan(turn, jnp.ones_like(W[:, :, :1]), None, steps)
    return sigma[-1], product(x, y[-1].mT)


def _default_dtype(x: jax.Array) -> DType:
    accelerated = not is_complex(x.dtype) and jax.default_backend() in ("gpu", "tpu")
    return jnp.bfloat16 if accelerated else wide_dtype(x.dtype)
