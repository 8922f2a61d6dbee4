"""The shortest of the solutions of a square linear system that may be singular, with its derivatives.

M x = b,  x = M+ b:  of the x with least |M x - b| the one with least |x|

N, W float[n,n]: an orthonormal basis of the x with M x = 0, and of those with M'x = 0, one to a column, zeros in the
columns that are left over. sigma W N' takes M off where it is singular, and nowhere else:

x = (M + sigma W N')^-1 (b - W W'b)            Rao & Mitra 1971, Generalized Inverse of Matrices and Its Applications
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.linalg.equilibration import Scales, ruiz

LOST = 20.0  # times n eps: singular values below that part of the largest are rounding errors
ROUNDS = 8  # of equilibration


def shortest(M: Array) -> Callable[[Array], Array]:
    """b -> M+ b, for M float[n,n] and b float[n].

    How many singular values count as zero is told after rows and columns have been brought to one size, so that no
    choice of units makes a matrix singular; what is the shortest is told in the units that M has. Where M is regular
    this is `jnp.linalg.solve(M, b)`. Derivatives, of any order, take the rank as a constant (Golub & Pereyra 1973,
    SIAM J. Numer. Anal. 10, equation 4.12). Not for more than some thousand rows: M is dense.
    """
    if not M.size:
        return lambda b: b
    N, W = null_spaces(M)
    return lambda b: _times(M, N, W, b)


def condition(M: Array) -> Array:
    """float[]: |M^| |M^^-1| of M^, M with rows and columns of one size, by Frobenius' norm; NaN or inf if singular."""
    M_, _, _ = _equilibrated(jax.lax.stop_gradient(M))
    found: Array = jnp.linalg.norm(M_) * jnp.linalg.norm(jnp.linalg.inv(M_))
    return found


@jax.custom_jvp
def null_spaces(M: Array) -> tuple[Array, Array]:
    """N and W."""
    n = M.shape[0]
    least = LOST * max(1, n) * float(np.finfo(M.dtype).eps)
    M_, rows, columns = _equilibrated(M)

    def found() -> tuple[Array, Array]:
        U, s, Vt = jnp.linalg.svd(M_)
        null = (s <= least * jnp.max(s, initial=0.0))[None, ::-1]

        def basis(vectors: Array, scale: Array) -> Array:
            first = jnp.where(null, scale[:, None] * vectors[:, ::-1], 0)  # the null space comes first
            return jnp.where(null, jnp.linalg.qr(first)[0], 0)

        return basis(Vt.T, columns), basis(U, rows)

    regular = jnp.linalg.norm(M_) * jnp.linalg.norm(jnp.linalg.inv(M_)) < 1 / least
    zero = jnp.zeros_like(M)
    return jax.lax.cond(regular, lambda: (zero, zero), found)  # type: ignore[no-any-return]


@null_spaces.defjvp
def _null_spaces_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """dN = -M+ dM N,  dW = -M+' dM'W."""
    (M,), (dM,) = primals, tangents
    N, W = null_spaces(M)
    return (N, W), (-_times(M, N, W, dM @ N), -_times(M.T, W, N, dM.T @ W))


def _times(M: Array, N: Array, W: Array, b: Array) -> Array:
    """M+ b; b float[n] or float[n,k]."""
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(M), initial=0.0))
    x: Array = jnp.linalg.solve(M + jnp.where(size > 0, size, 1) * (W @ N.T), b - W @ (W.T @ b))
    return x


def _equilibrated(M: Array) -> tuple[Array, Array, Array]:
    """R M C, R and C, diagonals that bring the largest of each row and column near 1."""

    def sizes(R: Array, C: Array) -> Scales:
        size = jnp.abs(R[:, None] * M * C[None])
        return jnp.max(size, axis=1, initial=0.0), jnp.max(size, axis=0, initial=0.0)

    one = jnp.ones(M.shape[0], M.dtype)
    R, C = ruiz(sizes, (one, one), ROUNDS)
    return R[:, None] * M * C[None], R, C
