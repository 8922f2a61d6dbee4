"""Sparse programs: the linear system of a step as it is, its factor planned once on the host, and its matrices.

[Q + W + d  A'  G'; A  -d  0; G  0  -T - d] [dx; dy; dz]        W of the bounds, d small: refined away

With d > 0 the matrix is quasidefinite: L S L' with S known before, whatever the order that keeps L sparse (Vanderbei
1995, doi:10.1137/0805005).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.linalg.sparse_cholesky import Plan, analyze
from jaxopt_ko.solvers.quadratic.matrices import Sparse

SLOWER = 3.0  # by how much an operation of a sparse factorization takes longer than one of a dense one
ROOM = 3e7  # elements of dense matrices, at most, where those may be quicker


class SparsePlan(NamedTuple):
    """What a sparse program is compiled for."""

    system: Plan
    curve: Plan | None  # of Q + d


def sparse_plan(
    n: int, Q: Sparse | None, A: Sparse | None, G: Sparse | None, work: float = np.inf
) -> SparsePlan | None:
    """For matrices whose places are known; None if dense ones take less time, or blocks with so many operations."""
    none = np.zeros(0, np.int32)
    (q, q_), (a, a_), (g, g_) = (
        (none, none) if M is None else (np.asarray(M.rows), np.asarray(M.columns)) for M in (Q, A, G)
    )
    m, k = (0 if M is None else M.shape[0] for M in (A, G))
    every = np.arange(n + m + k)
    rows = np.concatenate([every, np.maximum(q, q_), n + a, n + m + g])
    columns = np.concatenate([every, np.minimum(q, q_), a_, g_])
    system = analyze((rows, columns, n + m + k), signs=np.where(every < n, 1.0, -1.0))
    dense = n**3 / 3 + n * n * (m + k) + n * m * m
    if n * (n + m + k) <= ROOM:
        work = min(work, dense)
    if SLOWER * system.operations > work:
        return None
    curve = None
    if Q is not None:
        both = [np.concatenate([every[:n], of_q]) for of_q in (np.maximum(q, q_), np.minimum(q, q_))]
        curve = analyze((*both, n))
    return SparsePlan(system, curve)


def as_sparse(M: Any, symmetric: bool = False) -> Any:
    """A BCOO matrix, or a concrete array, as `Sparse`; a BCOO one as an array if its places are traced."""
    if M is None or isinstance(M, Sparse):
        return M
    if not hasattr(M, "indices"):
        rows, columns = np.nonzero(np.asarray(M))
        return Sparse(M[rows, columns], rows.astype(np.int32), columns.astype(np.int32), np.shape(M), symmetric)
    if isinstance(M.indices, jax.core.Tracer) or M.indices.ndim != 2 or M.indices.shape[1] != 2:
        return M.todense()
    rows, columns = np.asarray(M.indices).T
    inside = (rows < M.shape[0]) & (columns < M.shape[1])  # BCOO fills up with places outside
    rows, columns = (np.where(inside, part, 0).astype(np.int32) for part in (rows, columns))
    data = M.data if np.all(inside) else jnp.where(inside, M.data, 0)
    return Sparse(data, rows, columns, tuple(M.shape), symmetric)


def as_dense(M: Any) -> Any:
    """A matrix as an array."""
    if not isinstance(M, Sparse):
        return M
    return jnp.zeros(M.shape, M.data.dtype).at[M.rows, M.columns].add(M.data)
