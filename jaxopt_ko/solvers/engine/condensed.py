"""The primal-dual system of an interior-point method, by Cholesky factors alone.

[ H + Sx + delta  .           Je'  Ji' ] [ x ]     [ x ]
[ .               Ss + delta  .    I   ] [ s ]  =  [ s ]      Sx, Ss: diagonal, not negative
[ Je              .          -gamma    ] [ y ]     [ y ]      J = [Je; Ji]
[ Ji              I               -gamma ]

delta is the least of a sequence for which the matrix has as many positive eigenvalues as (x, s) has elements:
the step then leads downhill. Waechter & Biegler 2006, equations (13) and (26), algorithm IC.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import cho_solve, solve_triangular

from jaxopt_ko.core.numerics import joined, largest

FIRST, LEAST, MOST = 1e-4, 1e-20, 1e30  # of the deltas that are not 0
GROW_FIRST, GROW, SHRINK = 100.0, 8.0, 3.0
PENALTY, HARDER = 10.0, 1e4  # rho over |H|: at first, and once more where K is not positive definite
ROUNDS = 3  # of solving; all but the first refine


class CondensedSystem(NamedTuple):
    """The matrix, without delta."""

    H: Array  # float[n,n]
    sx: Array  # float[n]
    ss: Array  # float[q]
    Je: Array  # float[p,n]
    Ji: Array  # float[q,n]
    gamma: Array  # float[]  0, or so large that the constraints are but a penalty


class BlockVector(NamedTuple):
    """A right-hand side, or a solution."""

    x: Array  # float[n]
    s: Array  # float[q]
    e: Array  # float[p]
    i: Array  # float[q]


class Solved(NamedTuple):
    """A solution."""

    parts: BlockVector
    delta: Array  # float[]
    good: Array  # bool[]  was there such a delta, and is all finite?


def next_delta(delta: Array, last: Array, begin: Array | float = 0.0) -> Array:
    """What is tried after delta; begin: at first; last: that above 0 which was needed last, 0 if none was."""
    first = jnp.where(last == 0, FIRST, jnp.maximum(LEAST, last / SHRINK)).astype(delta.dtype)
    grown = delta * jnp.where(last == 0, GROW_FIRST, GROW).astype(delta.dtype)
    return jnp.where(delta < 0, begin, jnp.where(delta == 0, first, grown))


def times(A: CondensedSystem, delta: Array, v: BlockVector) -> BlockVector:
    """The matrix times a vector."""
    x = A.H @ v.x + (A.sx + delta) * v.x + v.e @ A.Je + v.i @ A.Ji
    s = (A.ss + delta) * v.s + v.i
    return BlockVector(x, s, A.Je @ v.x - A.gamma * v.e, A.Ji @ v.x + v.s - A.gamma * v.i)


def solve(A: CondensedSystem, b: BlockVector, last: Array, begin: Array | float = 0.0) -> Solved:
    """The solution for the right-hand side b; last: the delta above 0 that was needed last, 0 if none was; begin: the
    first that is tried.

    s and y_i are eliminated, rho E'E is added, and E x = L^-1 b_e restored by a Schur complement:
    K = H + Sx + delta + Ji' omega Ji + rho E'E     omega = (Ss + delta) / (1 + gamma (Ss + delta))
    E = L^-1 Je, L L' = Je Je':  its length is 1 in every direction, so that one rho does for all of them.
    A Cholesky factor of K stands for the inertia. Both L L' and the complement get sqrt(eps) more on their diagonals,
    for equations that depend on each other. The solution is refined on the system as it was.
    """
    H, sx, ss, Je, Ji, gamma = A
    n, p, dtype = H.shape[0], Je.shape[0], H.dtype
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    soft = gamma > 0
    one = jnp.ones((), dtype)
    size = jnp.maximum(jnp.max(jnp.sum(jnp.abs(H), 0), initial=0.0), 1)
    softly = 1 / jnp.where(soft, gamma, 1)
    EE = jnp.zeros((n, n), dtype)
    if p:
        G = Je @ Je.T
        G = G + jnp.diag(eps**0.5 * jnp.diagonal(G) + tiny)
        L = jnp.where(soft, jnp.eye(p, dtype=dtype), jnp.linalg.cholesky(G))
        E = solve_triangular(L, Je, lower=True)
        EE = E.T @ E

    def penalty(tries: Array) -> Array:
        """rho: harder once more before delta is raised above 0, as the first may be too little."""
        return jnp.where(soft, softly, size * jnp.where(tries == 0, PENALTY, HARDER))

    def omega(delta: Array) -> Array:
        return (ss + delta) / (1 + gamma * (ss + delta))

    def attempt(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        """The next delta, the factor of its K, and whether no pivot is lost in rounding."""
        again = jnp.where((carry[0] == 0) & (carry[3] == 0) & (p > 0) & ~soft, np.int32(1), np.int32(0))
        delta = jnp.where(again > 0, 0, next_delta(carry[0], last, begin))
        tries = jnp.where(delta > 0, np.int32(0), again)
        K = H + penalty(tries) * EE + jnp.diag(sx + delta) + (Ji.T * omega(delta)[None]) @ Ji
        factor = jnp.linalg.cholesky(K, symmetrize_input=False)
        return delta, factor, jnp.all(jnp.diagonal(factor) ** 2 > n * eps * jnp.diagonal(K)), tries

    def fails(carry: tuple[Array, Array, Array, Array]) -> Array:
        return ~carry[2] & (carry[0] < MOST)

    start = (-one, jnp.zeros((n, n), dtype), one < 0, jnp.zeros((), jnp.int32))
    delta, factor, good, tries = jax.lax.while_loop(fails, attempt, start)
    rho = penalty(tries)
    if p:
        V = cho_solve((factor, True), E.T)
        S = jnp.where(soft, 0, E @ V)
        least = jnp.where(soft, gamma, eps**0.5 * jnp.trace(S) + tiny)
        schur = jnp.linalg.cholesky(S + least * jnp.eye(p, dtype=dtype))

    def once(r: BlockVector) -> BlockVector:
        share = r.s / (1 + gamma * (ss + delta))
        b_x = r.x - (share - omega(delta) * r.i) @ Ji
        if not p:
            x, y = cho_solve((factor, True), b_x), r.e
        else:
            b_e = solve_triangular(L, r.e, lower=True)
            free = cho_solve((factor, True), b_x + rho * (b_e @ E))
            u = cho_solve((schur, True), E @ free - b_e)
            x = free - jnp.where(soft, 0, V @ u)
            y = solve_triangular(L.T, u, lower=False)
        i = omega(delta) * (Ji @ x - r.i) + share
        return BlockVector(x, r.i - Ji @ x + gamma * i, y, i)

    def refine(_: Array, carry: tuple[BlockVector, BlockVector]) -> tuple[BlockVector, BlockVector]:
        v, r = carry
        new = jax.tree.map(jnp.add, v, once(r))
        left = jax.tree.map(jnp.subtract, b, times(A, delta, new))
        better = largest(joined(left)) < largest(joined(r))
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), (new, left), (v, r))  # type: ignore[no-any-return]

    v, _ = jax.lax.fori_loop(0, ROUNDS, refine, (jax.tree.map(jnp.zeros_like, b), b))
    return Solved(v, delta, good)
