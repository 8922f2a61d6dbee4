"""Few directions that a sparse Jacobian or Hessian is read off from: colours of its columns or rows, on the host.

Columns of one colour have no row in common, so that J times their sum has each of their entries by itself; of a
symmetric matrix an entry may also be read where its mirror stands, for which fewer colours do (star colouring).
Gebremedhin, Manne & Pothen 2005, "What color is your Jacobian?", doi:10.1137/S0036144504444711, sections 3 to 5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Ints = np.ndarray[Any, np.dtype[Any]]


class Coloring(NamedTuple):
    """How a sparse matrix is read off from its products with a few vectors.

    kind: "columns": J times `count` vectors; "rows": as many vectors times J; "symmetric": H times as many.
    rows, cols: int32[nnz] where the matrix may have entries, by rows.
    shape: of the matrix.
    colors: int32[n] of the columns, or int32[m] of the rows; -1 for one without entries.
    count: how many colours there are.
    product: int32[nnz] which product an entry is read from.
    element: int32[nnz] which of its elements it is.
    """

    kind: str
    rows: Ints
    cols: Ints
    shape: tuple[int, int]
    colors: Ints
    count: int  # type: ignore[assignment]  # a tuple has a method of that name
    product: Ints
    element: Ints

    def seeds(self) -> Ints:
        """bool[count, n or m]: the vectors, each the sum of the unit vectors of one colour."""
        return np.asarray(self.colors[None] == np.arange(self.count)[:, None])


def by_columns(rows: Ints, cols: Ints, shape: tuple[int, int]) -> Coloring:
    """Columns of one colour have no row in common."""
    colors, count = _distance_two(cols, rows, shape[1], shape[0])
    return Coloring("columns", rows, cols, shape, colors, count, colors[cols], rows)


def by_rows(rows: Ints, cols: Ints, shape: tuple[int, int]) -> Coloring:
    """Rows of one colour have no column in common."""
    colors, count = _distance_two(rows, cols, shape[0], shape[1])
    return Coloring("rows", rows, cols, shape, colors, count, colors[rows], cols)


def _distance_two(one: Ints, other: Ints, n: int, m: int) -> tuple[Ints, int]:
    """Greedily, those with most entries first: the least colour that none has who shares one of `other`."""
    order = np.argsort(one, kind="stable")
    starts = np.searchsorted(one[order], np.arange(n + 1)).tolist()
    others = other[order].tolist()
    colors = [-1] * n
    used: list[set[int]] = [set() for _ in range(m)]
    for j in sorted(range(n), key=lambda j: starts[j] - starts[j + 1]):
        mine = others[starts[j] : starts[j + 1]]
        if mine:
            taken = set[int]().union(*(used[i] for i in mine))
            colors[j] = _least(taken)
            for i in mine:
                used[i].add(colors[j])
    return np.array(colors, np.int32), max(colors, default=-1) + 1


def _least(taken: set[int]) -> int:
    color = 0
    while color in taken:
        color += 1
    return color


def by_star(rows: Ints, cols: Ints, shape: tuple[int, int]) -> Coloring:
    """Neighbours have two colours, and every path of four vertices three (their Algorithm 4.1).

    The pattern is taken with its mirror image and the diagonal.
    """
    n = shape[0]
    pairs = np.unique(np.concatenate([
        rows.astype(np.int64) * n + cols, cols.astype(np.int64) * n + rows, np.arange(n, dtype=np.int64) * (n + 1)
    ]))  # fmt: skip
    rows, cols = (pairs // max(n, 1)).astype(np.int32), (pairs % max(n, 1)).astype(np.int32)
    near: list[list[int]] = [[] for _ in range(n)]
    for i, j in zip(rows.tolist(), cols.tolist(), strict=True):
        if i != j:
            near[i].append(j)
    colors = [-1] * n
    seen: list[dict[int, int]] = [{} for _ in range(n)]  # how many neighbours have a colour
    for v in sorted(range(n), key=lambda v: -len(near[v])):
        taken: set[int] = set()
        for w in near[v]:
            if colors[w] < 0:
                taken.update(seen[w])  # w would lie between two of one colour, and may be given another's
                continue
            taken.add(colors[w])
            taken.update(colors[x] for x in near[w] if colors[x] >= 0 and seen[x].get(colors[w], 0) > 1)
        colors[v] = _least(taken)
        for w in near[v]:
            seen[w][colors[v]] = seen[w].get(colors[v], 0) + 1
    own, count = np.array(colors, np.int32), max(colors, default=-1) + 1
    columns = by_columns(rows, cols, shape)
    if columns.count < count:
        return columns._replace(kind="symmetric")
    alone = np.array(
        [i == j or seen[i][colors[j]] == 1 for i, j in zip(rows.tolist(), cols.tolist(), strict=True)], bool
    )  # is j the only neighbour of i with its colour? Otherwise i is that of j
    product, element = np.where(alone, own[cols], own[rows]), np.where(alone, rows, cols)
    return Coloring("symmetric", rows, cols, shape, own, count, product, element)
