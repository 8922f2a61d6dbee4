"""A program with its parameters and rows in the blocks of `structure`, and its solution in their own order again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.solvers.engine.banded import Banded
from jaxopt_ko.solvers.quadratic.matrices import BlockRows, Sparse
from jaxopt_ko.solvers.quadratic.residuals import Certificate
from jaxopt_ko.solvers.quadratic.structure import BlockSizes
from jaxopt_ko.solvers.quadratic.variables import Start
from jaxopt_ko.types import Multipliers, Params, Solution


class Places(NamedTuple):
    """Where things stand in blocks."""

    x: Array  # int32[n]  of each parameter
    A: Array  # int32[m]  of each row of A
    G: Array  # int32[k]  of each row of G


def arranged(
    sizes: BlockSizes, places: Places, c: Array, Q: Any, A: Any, b: Any, G: Any, h: Any, lower: Array, upper: Array
) -> dict[str, Any]:
    """The arguments of a method. Places that are empty are of parameters fixed at 0, of rows of zeros and of none."""
    N, w, rows_a, rows_g = sizes
    n, dtype = N * w, c.dtype

    def vector(v: Any, at: Array, size: int, empty: float) -> Array:
        return jnp.full(size, empty, dtype).at[at].set(jnp.asarray(v).astype(dtype))

    words: dict[str, Any] = {
        "c": vector(c, places.x, n, 0),
        "bounds": (vector(lower, places.x, n, 0), vector(upper, places.x, n, 0)),
    }
    if Q is not None:
        words["Q"] = _square(Q, dtype, places.x, N, w)
    if A is not None and places.A.size:
        words |= {"A": _rows(A, dtype, places.A, places.x, N, w, rows_a), "b": vector(b, places.A, N * rows_a, 0)}
    if G is not None and places.G.size:
        words |= {"G": _rows(G, dtype, places.G, places.x, N, w, rows_g), "h": vector(h, places.G, N * rows_g, jnp.inf)}
    return words


def arranged_start(sizes: BlockSizes, places: Places, start: Start) -> Start:
    """Where a run begins, with zeros in empty places."""
    N, w, rows_a, rows_g = sizes

    def vector(v: Array, at: Array, size: int) -> Array:
        return jnp.zeros(size, v.dtype).at[at].set(v)

    x, low, high = (vector(v, places.x, N * w) for v in (start.x, start.lower, start.upper))
    y, z = vector(start.y, places.A, N * rows_a), vector(start.z, places.G, N * rows_g)
    return Start(x, y, z, low, high, start.good)


def restored(solution: Solution, places: Places, unravel: Callable[[Array], Params]) -> Solution:
    """A solution of the arranged program as one of the program itself; its state stays as it is."""

    def tree_of(v: Array) -> Params:
        return unravel(v[places.x])

    def multipliers_of(found: Multipliers) -> Multipliers:
        return Multipliers(found[0][places.A], found[1][places.G], tree_of(found[2]), tree_of(found[3]))

    aux, multipliers = solution.aux, multipliers_of(solution.multipliers)  # type: ignore[arg-type]
    if aux is not None:
        aux = Certificate(multipliers_of(aux.multipliers), tree_of(aux.ray))
    return solution._replace(params=tree_of(solution.params), multipliers=multipliers, aux=aux)


def _inverse(places: Array, size: int) -> Array:
    """int32[size]: what stands in each place, one beyond the last where nothing does."""
    return jnp.full(size, places.size, jnp.int32).at[places].set(jnp.arange(places.size, dtype=jnp.int32))


def _square(Q: Any, dtype: Any, places: Array, N: int, w: int) -> Banded:
    if not isinstance(Q, Sparse):
        at, Q = _inverse(places, N * w).reshape(N, w), jnp.asarray(Q).astype(dtype)

        def part(rows: Array, columns: Array) -> Array:
            above = _elements(Q, rows[:, :, None], columns[:, None])
            return 0.5 * (above + _elements(Q, columns[:, None], rows[:, :, None]))

        return Banded(part(at, at), part(at[1:], at[:-1]))
    half = 0.5 * Q.data.astype(dtype)
    i, j = places[Q.rows], places[Q.columns]
    D, C = jnp.zeros((N, w, w), dtype), jnp.zeros((max(N - 1, 0), w, w), dtype)
    for p, q in ((i, j), (j, i)):
        D = D.at[jnp.where(p // w == q // w, p // w, N), p % w, q % w].add(half, mode="drop")
        C = C.at[jnp.where(p // w == q // w + 1, q // w, N), p % w, q % w].add(half, mode="drop")
    return Banded(D, C)


def _rows(M: Any, dtype: Any, rows: Array, columns: Array, N: int, w: int, R: int) -> BlockRows:
    if not isinstance(M, Sparse):
        at = _inverse(columns, N * w).reshape(N, w)
        after = jnp.concatenate([at[1:], jnp.full((1, w), columns.size, jnp.int32)])
        both, row = jnp.concatenate([at, after], axis=1), _inverse(rows, N * R).reshape(N, R)
        return BlockRows(_elements(jnp.asarray(M).astype(dtype), row[:, :, None], both[:, None]))
    i, j = rows[M.rows], columns[M.columns]
    block = i // R
    values = jnp.zeros((N, R, 2 * w), dtype).at[block, i % R, j - block * w].add(M.data.astype(dtype))
    return BlockRows(values)


def _elements(M: Array, rows: Array, columns: Array) -> Array:
    """M[rows, columns], 0 outside."""
    found: Array = M.at[rows, columns].get(mode="fill", fill_value=0)
    return found
