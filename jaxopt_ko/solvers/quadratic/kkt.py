"""The linear system of an interior-point step, solved by Cholesky factors and refined.

[Q A' N'; A 0 0; N 0 -T] [dx; dy; dz] = [r1; r2; r3]        T = s/z, diagonal
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import largest
from jaxopt_ko.linalg.sparse_cholesky import factorize
from jaxopt_ko.linalg.sparse_cholesky import solve as solve_sparse
from jaxopt_ko.solvers.engine.banded import Banded, BlockFactor, blocks, factor, gram, substitute, total
from jaxopt_ko.solvers.quadratic.matrices import BlockRows, Sparse
from jaxopt_ko.solvers.quadratic.program import QuadraticProgram
from jaxopt_ko.solvers.quadratic.sparse import SparsePlan

REFINEMENTS = 3  # rounds on every linear system, at most
ENOUGH = 0.8  # eps to this power: what part of the right-hand side may be missed without another
REFINED = 0.5  # the part to which a refinement must bring the residual to be kept
AUGMENTED = 1.0  # weight of A'A, which makes Q regular where A x = b leaves freedom to few
SOFT = 0.5  # eps to this power: what banded systems put beside the equations, refined away

Vectors = tuple[Array, Array, Array]  # float[n], float[m], float[l]
KKTSolver = Callable[[Array, Array, Array], Vectors]  # r1, r2, r3 -> dx, dy, dz


class Refinement(NamedTuple):
    """How near a linear system's solution is."""

    d: Vectors
    e: Vectors  # what it misses
    size: Array  # float[]  of that
    rounds: Array  # int32[]
    goes_on: Array  # bool[]


def kkt_solver(p: QuadraticProgram, t: Array, delta: Array, bandwidth: int | None) -> KKTSolver:
    """The solution of   [Q A' N'; A 0 0; N 0 -T] [dx; dy; dz] = [r1; r2; r3],   T = s/z diagonal."""
    w = jnp.where(p.has, 1 / (t + delta), 0)
    if p.plan is not None:
        near = planned(p, p.plan, t, w, delta)
    elif p.in_blocks:
        near = blocked(p, w, delta)
    else:
        near = dense(p, w, delta) if bandwidth is None else banded(p, w, delta, bandwidth)

    def solve(r1: Array, r2: Array, r3: Array) -> Vectors:
        def missed(d: Vectors) -> Vectors:
            dx, dy, dz = d
            return (
                r1 - p.curve(dx) - p.A.T @ dy - p.columns(dz),
                r2 - p.A @ dx,
                jnp.where(p.has, r3 - p.rows(dx) + t * dz, 0),
            )

        def size(e: Vectors) -> Array:
            return jnp.max(jnp.stack([largest(part) for part in e]))

        right = (r1, r2, r3)
        enough = float(np.finfo(r1.dtype).eps) ** ENOUGH * size(right)

        def refine(carry: Refinement) -> Refinement:
            nearer = jax.tree.map(jnp.add, carry.d, near(*carry.e))
            left = missed(nearer)
            now = size(left)
            falls = (carry.rounds == 0) | (now < REFINED * carry.size)  # not where the equations contradict each other
            goes_on = falls & (now > enough) & (carry.rounds < REFINEMENTS)
            new = Refinement(nearer, left, now, carry.rounds + 1, goes_on)
            d, e = jax.tree.map(lambda a, b: jnp.where(falls, a, b), new[:2], carry[:2])
            return new._replace(d=d, e=e)

        zero = (jnp.zeros_like(r1), jnp.zeros_like(r2), jnp.zeros_like(r3))
        first = Refinement(zero, right, size(right), jnp.zeros((), jnp.int32), jnp.ones((), bool))
        return jax.lax.while_loop(lambda carry: carry.goes_on, refine, first).d

    return solve


def dense(p: QuadraticProgram, w: Array, delta: Array) -> KKTSolver:
    """Nearly that solution: K = Q + N'wN + A'A + delta, and A K^-1 A' + delta for dy."""
    n, m, k = p.c.size, p.b.size, p.G.shape[0]
    wg, wl, wu = jnp.split(w, [k, k + n])
    K = jnp.zeros((n, n), p.c.dtype) if p.Q is None else p.Q
    K = K + p.G.T @ (wg[:, None] * p.G) if k else K
    K = K if p.AA is None else K + AUGMENTED * p.AA
    at = jnp.arange(n)
    L = jnp.linalg.cholesky(K.at[at, at].add(wl + wu + delta), symmetrize_input=False)
    V = _lower(L, p.A.T)
    S = jnp.linalg.cholesky(V.T @ V + delta * jnp.eye(m, dtype=V.dtype)) if m else V.T @ V

    def near(r1: Array, r2: Array, r3: Array) -> Vectors:
        v = _lower(L, r1 + p.columns(w * r3) + AUGMENTED * (p.A.T @ r2))
        dy = _upper(S, _lower(S, V.T @ v - r2))
        dx = _upper(L, v - V @ dy)
        return dx, dy, w * (p.rows(dx) - r3)

    return near


def banded(p: QuadraticProgram, w: Array, delta: Array, bandwidth: int) -> KKTSolver:
    """Nearly that solution, with -soft dy beside A dx, so that K = Q + N'wN + A'A / soft + delta has a band alone."""
    n, k = p.c.size, p.G.shape[0]
    wg, wl, wu = jnp.split(w, [k, k + n])
    soft = _soft(delta)
    parts = [gram(p.G, wg, bandwidth), gram(p.A, jnp.ones_like(p.b) / soft, bandwidth)]
    parts.append(blocks(jnp.diag(wl + wu + delta) + (0 if p.Q is None else p.Q), bandwidth))
    return _penalized(p, w, soft, factor(total(*parts)))


def blocked(p: QuadraticProgram, w: Array, delta: Array) -> KKTSolver:
    """The same for matrices in blocks."""
    n, k = p.c.size, p.G.shape[0]
    wg, wl, wu = jnp.split(w, [k, k + n])
    soft, parts = _soft(delta), []
    if isinstance(p.Q, Banded):
        parts.append(p.Q)
    if isinstance(p.G, BlockRows):
        parts.append(p.G.gram(wg))
    if isinstance(p.AA, Banded):
        parts.append(Banded(p.AA.D / soft, p.AA.C / soft))
    return _penalized(p, w, soft, factor(total(*parts).with_diagonal(wl + wu + soft)))


def planned(p: QuadraticProgram, plan: SparsePlan, t: Array, w: Array, delta: Array) -> KKTSolver:
    """The same for sparse ones: [Q + W + soft, A', G'; A, -soft, 0; G, 0, -T - soft] has a sparse factor."""
    n, m, k = p.c.size, p.b.size, p.G.shape[0]
    (_, wl, wu), soft = jnp.split(w, [k, k + n]), _soft(delta)
    values = [wl + wu + soft, jnp.full(m, -soft), jnp.where(p.has[:k], -t[:k] - soft, -1)]
    values += [M.lower() if M.symmetric else M.data for M in (p.Q, p.A, p.G) if isinstance(M, Sparse)]
    factor = factorize(plan.system, jnp.concatenate(values))

    def near(r1: Array, r2: Array, r3: Array) -> Vectors:
        bounds = jnp.where(jnp.arange(r3.size) < k, 0, w * r3)
        d = solve_sparse(factor, jnp.concatenate([r1 + p.columns(bounds), r2, r3[:k]]))
        dx, dy, dz = jnp.split(d, [n, n + m])
        return dx, dy, (w * (p.rows(dx) - r3)).at[:k].set(jnp.where(p.has[:k], dz, 0))

    return near


def _soft(delta: Array) -> Array:
    """float[]: what stands beside the equations."""
    return jnp.maximum(delta, float(np.finfo(delta.dtype).eps) ** SOFT)


def _penalized(p: QuadraticProgram, w: Array, soft: Array, K: BlockFactor) -> KKTSolver:
    """The solution with the factor of K."""

    def near(r1: Array, r2: Array, r3: Array) -> Vectors:
        dx = substitute(K, r1 + p.columns(w * r3) + p.A.T @ r2 / soft)
        return dx, (p.A @ dx - r2) / soft, w * (p.rows(dx) - r3)

    return near


def _lower(L: Array, b: Array) -> Array:
    """L^-1 b."""
    return jax.scipy.linalg.solve_triangular(L, b, lower=True) if L.size else b


def _upper(L: Array, b: Array) -> Array:
    """L'^-1 b."""
    return jax.scipy.linalg.solve_triangular(L, b, lower=True, trans=1) if L.size else b
