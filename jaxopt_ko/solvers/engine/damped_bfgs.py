"""BFGS for a Hessian that need not be positive definite: Powell's damping, with the whole matrix or a few pairs.

r = theta y + (1 - theta) B s,  theta = 1 if s'y >= s'Bs / 5, else 4 s'Bs / 5 (s'Bs - s'y):  s'r >= s'Bs / 5

Powell 1978, doi:10.1007/BFb0067703; Nocedal & Wright 2006, procedure 18.2. The pairs in the compact form of
`compact_bfgs`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import or_one
from jaxopt_ko.solvers.engine.compact_bfgs import LBFGSBMemory, compact, products, remember

LEAST = 0.2  # of s'Bs, what s'r is at least
SMALLEST, LARGEST = 1e-8, 1e8  # first curvatures


class BFGSMatrix(NamedTuple):
    """B and how many pairs it is made of."""

    B: Array  # float[n,n]
    stored: Array  # int32[]


def first_matrix(n: int, dtype: jnp.dtype) -> BFGSMatrix:
    """The identity."""
    return BFGSMatrix(jnp.eye(n, dtype=dtype), jnp.zeros((), jnp.int32))


def damped(s: Array, y: Array, Bs: Array) -> Array:
    """r."""
    sBs, sy = s @ Bs, s @ y
    enough = sy >= LEAST * sBs
    theta = jnp.where(enough, 1, (1 - LEAST) * sBs / or_one(jnp.where(enough, 0, sBs - sy)))
    return theta * y + (1 - theta) * Bs


def learned(memory: BFGSMatrix, s: Array, y: Array, wanted: Array) -> BFGSMatrix:
    """The matrix with the pair (s, y), if it is wanted and no step of length 0.

    The first pair scales the identity before: y'y / s'y, where s'y is positive (Nocedal & Wright, equation 6.20).
    """
    B, stored = memory
    sy = s @ y
    scaled = (stored == 0) & (sy > 0)
    B = jnp.where(scaled, jnp.clip(y @ y / or_one(jnp.where(scaled, sy, 0)), SMALLEST, LARGEST), 1) * B
    Bs = B @ s
    r = damped(s, y, Bs)
    sBs, sr = s @ Bs, s @ r
    new = B - jnp.outer(Bs, Bs) / or_one(sBs) + jnp.outer(r, r) / or_one(sr)
    takes = wanted & (sBs > 0) & (sr > 0) & jnp.all(jnp.isfinite(new))
    return BFGSMatrix(jnp.where(takes, new, memory.B), stored + takes.astype(jnp.int32))


def first_memory(n: int, pairs: int, dtype: jnp.dtype) -> LBFGSBMemory:
    """Without pairs: B is the identity."""
    none = jnp.zeros((pairs, n), dtype)
    return LBFGSBMemory(none, jnp.copy(none), jnp.zeros((), jnp.int32))


def recalled(memory: LBFGSBMemory, s: Array, y: Array, wanted: Array) -> LBFGSBMemory:
    """The memory with the pair (s, r), if it is wanted; the first is not damped, where s'y is positive."""
    B = compact(memory, products(memory))
    Bs = B.theta * (s + B.combined(B.turned(B.rows(s))))
    r = jnp.where((memory.stored == 0) & (s @ y > 0), y, damped(s, y, Bs))
    new = remember(memory, s, r)
    takes = wanted & jnp.all(jnp.isfinite(r))
    S, Y, stored = (jnp.where(takes, a, b) for a, b in zip(new, memory, strict=True))
    return LBFGSBMemory(S, Y, stored)


def low_rank(memory: LBFGSBMemory) -> tuple[Array, Array, Array]:
    """theta float[], U float[2m,n] and sign float[2m] with B = theta I + U'diag(sign)U."""
    B = compact(memory, products(memory))
    m = len(memory.S)
    W = B.scale[:, None] * jnp.concatenate([memory.Y, memory.S])
    U = jnp.sqrt(B.theta) * jnp.concatenate([W[:m], B.root @ W])
    return B.theta, U, jnp.asarray(np.repeat([1.0, -1.0], m), U.dtype)
