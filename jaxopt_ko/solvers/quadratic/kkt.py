"""The linear system of an interior-point step, solved by Cholesky factors and refined.

[Q A' N'; A 0 0; N 0 -T] [dx; dy; dz] = [r1; r2; r3]        T = s/z, diagonal
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import largest
from jaxopt_ko.solvers.engine.banded import blocks, factor, gram, substitute, total
from jaxopt_ko.solvers.quadratic.program import QuadraticProgram

REFINEMENTS = 3  # rounds on every linear system
REFINED = 0.5  # the part to which a refinement must bring the residual to be kept
AUGMENTED = 1.0  # weight of A'A, which makes Q regular where A x = b leaves freedom to few
SOFT = 0.5  # eps to this power: what banded systems put beside the equations, refined away

Vectors = tuple[Array, Array, Array]  # float[n], float[m], float[l]
KKTSolver = Callable[[Array, Array, Array], Vectors]  # r1, r2, r3 -> dx, dy, dz


def kkt_solver(p: QuadraticProgram, t: Array, delta: Array, bandwidth: int | None) -> KKTSolver:
    """The solution of   [Q A' N'; A 0 0; N 0 -T] [dx; dy; dz] = [r1; r2; r3],   T = s/z diagonal."""
    w = jnp.where(p.has, 1 / (t + delta), 0)
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

        def refine(i: Any, carry: tuple[Vectors, Vectors]) -> tuple[Vectors, Vectors]:
            d, e = carry
            nearer = jax.tree.map(jnp.add, d, near(*e))
            left = missed(nearer)
            falls = (i == 0) | (size(left) < REFINED * size(e))  # not where the equations contradict each other
            d, e = jax.tree.map(lambda new, old: jnp.where(falls, new, old), (nearer, left), (d, e))
            return d, e

        zero = (jnp.zeros_like(r1), jnp.zeros_like(r2), jnp.zeros_like(r3))
        d: Vectors = jax.lax.fori_loop(0, 1 + REFINEMENTS, refine, (zero, (r1, r2, r3)))[0]
        return d

    return solve


def dense(p: QuadraticProgram, w: Array, delta: Array) -> KKTSolver:
    """Nearly that solution: K = Q + N'wN + A'A + delta, and A K^-1 A' + delta for dy."""
    n, m, k = p.c.size, p.b.size, p.G.shape[0]
    wg, wl, wu = jnp.split(w, [k, k + n])
    Q = jnp.zeros((n, n), p.c.dtype) if p.Q is None else p.Q
    L = jnp.linalg.cholesky(Q + jnp.diag(wl + wu + delta) + p.G.T @ (wg[:, None] * p.G) + AUGMENTED * (p.A.T @ p.A))
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
    soft = jnp.maximum(delta, float(np.finfo(delta.dtype).eps) ** SOFT)
    ones = jnp.ones_like(p.b)
    parts = [gram(p.G, wg, bandwidth), gram(p.A, ones / soft, bandwidth)]
    parts.append(blocks(jnp.diag(wl + wu + delta) + (0 if p.Q is None else p.Q), bandwidth))
    K = factor(total(*parts))

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
