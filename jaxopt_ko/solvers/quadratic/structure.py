"""In which order the parameters of a sparse program meet their neighbours alone: found on the host, from the pattern.

Two parameters meet if Q, or a row of A or G, has both. Those at one distance from a parameter at an end are a level; no
level meets another but the one before it and the one after it (George & Liu 1981, Computer Solution of Large Sparse
Positive Definite Systems, section 4.3, the levels of Cuthill & McKee's order). Levels, joined while they are small,
are the blocks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from jaxopt_ko.solvers.quadratic.matrices import Sparse

LEAST = 96  # parameters from which on an order is looked for
FILLED = 0.2  # share of elements that are not zero from which on a matrix is dense
GAIN = 4.0  # by how many times the operations must be fewer than with dense matrices
ROUND = 4  # sizes of blocks are multiples of this, for patterns that differ little to have one program
ENDS = 3  # starts that are tried for one at an end

Pattern = tuple[np.ndarray, np.ndarray]  # int[e] rows, int[e] columns of what is not zero


class BlockSizes(NamedTuple):
    """What a program in blocks is compiled for."""

    count: int  # N
    width: int  # w parameters in each block
    A: int  # rows of A with each block
    G: int

    @property
    def parameters(self) -> int:
        """N w."""
        return self.count * self.width


class BlockOrder(NamedTuple):
    """Where things stand."""

    sizes: BlockSizes
    x: np.ndarray  # int32[n]  of each parameter, its place among N w
    A: np.ndarray  # int32[m]  of each row of A, among N R
    G: np.ndarray  # int32[k]
    work: float  # operations of a factorization


def pattern(matrix: Any) -> Pattern | None:
    """What is not zero in a concrete matrix, or is there in a sparse one; None if that is much."""
    if isinstance(matrix, Sparse):
        return np.asarray(matrix.rows), np.asarray(matrix.columns)
    at = np.asarray(matrix) != 0
    if np.count_nonzero(at) > FILLED * at.size:
        return None
    return np.divmod(np.flatnonzero(at), at.shape[1])


def block_order(n: int, Q: Any, A: Any, G: Any) -> BlockOrder | None:
    """An order in blocks for concrete matrices, each None if there is none; None if dense ones take no more work."""
    if n < LEAST:
        return None
    shapes, found = [], []
    for matrix in (Q, A, G):
        at = (np.zeros(0, int), np.zeros(0, int)) if matrix is None else pattern(matrix)
        if at is None:
            return None
        found += [part.astype(np.int32).tobytes() for part in at]
        shapes.append(0 if matrix is None else np.shape(matrix)[0])
    return _order(n, shapes[1], shapes[2], *found)


@functools.lru_cache(maxsize=16)
def _order(n: int, m: int, k: int, *found: bytes) -> BlockOrder | None:
    q_rows, q_columns, a_rows, a_columns, g_rows, g_columns = (np.frombuffer(part, np.int32) for part in found)
    # cliques: the rows of A and G, and the pairs of Q
    off = q_rows != q_columns
    pairs = np.arange(np.count_nonzero(off), dtype=np.int32) + (m + k)
    cliques = np.concatenate([a_rows, g_rows + m, pairs, pairs])
    members = np.concatenate([a_columns, g_columns, q_rows[off], q_columns[off]])
    level = _levels(n, m + k + pairs.size, cliques, members)
    sizes = np.bincount(level)
    width = -(-int(np.max(sizes)) // ROUND) * ROUND
    block = _joined(sizes, width)[level]
    N = int(block.max()) + 1
    orders = []
    for at in (block, N - 1 - block):
        A, rows_a = _rows(m, N, a_rows, at[a_columns])
        G, rows_g = _rows(k, N, g_rows, at[g_columns])
        work = N * width**2 * (10.0 * width + 8.0 * (rows_a + rows_g))
        orders.append(BlockOrder(BlockSizes(N, width, rows_a, rows_g), _places(at, width), A, G, work))
    best = min(orders, key=lambda order: order.work)
    return None if GAIN * best.work > n**3 / 3 + n * n * (m + k) else best


def _levels(n: int, count: int, cliques: np.ndarray, members: np.ndarray) -> np.ndarray:
    """int[n]: the level of each parameter, of one connected part after the other."""
    by_clique, by_member = _Lists(count, cliques, members), _Lists(n, members, cliques)
    level, begin = np.full(n, -1), 0
    degree = np.diff(by_member.starts)
    lonely = np.flatnonzero(degree == 0)
    level[lonely] = np.arange(lonely.size)
    begin = lonely.size
    for first in np.argsort(degree, kind="stable"):
        if level[first] >= 0:
            continue
        start, best = first, list[np.ndarray]()
        for _ in range(ENDS):
            found = _search(start, by_clique, by_member)
            if not best or max(map(len, found)) < max(map(len, best)):
                best = found
            start = found[-1][np.argmin(degree[found[-1]])]
        for depth, part in enumerate(best):
            level[part] = begin + depth
        begin += len(best)
    return level


class _Lists:
    """Which values belong to each key: of many keys at once."""

    def __init__(self, count: int, keys: np.ndarray, values: np.ndarray) -> None:
        self.values = values[np.argsort(keys, kind="stable")]
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))])

    def of(self, keys: np.ndarray) -> np.ndarray:
        sizes = self.starts[keys + 1] - self.starts[keys]
        if not sizes.size:
            return self.values[:0]
        ends = np.cumsum(sizes)
        found: np.ndarray = self.values[np.arange(ends[-1]) + np.repeat(self.starts[keys] - ends + sizes, sizes)]
        return found


def _search(start: Any, by_clique: _Lists, by_member: _Lists) -> list[np.ndarray]:
    """The parameters at distance 0, 1, 2, ... from a start."""
    seen, used = np.zeros(by_member.starts.size - 1, bool), np.zeros(by_clique.starts.size - 1, bool)
    front = np.array([start])
    seen[front] = True
    levels = []
    while front.size:
        levels.append(front)
        cliques = by_member.of(front)
        cliques = np.unique(cliques[~used[cliques]])
        used[cliques] = True
        members = by_clique.of(cliques)
        front = np.unique(members[~seen[members]])
        seen[front] = True
    return levels


def _joined(sizes: np.ndarray, width: int) -> np.ndarray:
    """int[levels]: the block of each level, of up to width parameters."""
    block, size, blocks = 0, 0, []
    for more in sizes.tolist():
        if size + more > width:
            block, size = block + 1, 0
        size += more
        blocks.append(block)
    return np.array(blocks)


def _places(block: np.ndarray, room: int) -> np.ndarray:
    """int32[n]: a place for each element in its block, of blocks with that much room."""
    order = np.argsort(block, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(block))])
    within = np.empty(block.size, np.int64)
    within[order] = np.arange(block.size) - starts[block[order]]
    return (block * room + within).astype(np.int32)


def _rows(count: int, N: int, rows: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, int]:
    """A place for each row with the first of the blocks that it has elements in, one that has none where there is room;
    and how many there are for a block."""
    if not count:
        return np.zeros(0, np.int32), 0
    first = np.full(count, N)
    np.minimum.at(first, rows, blocks)
    empty = np.flatnonzero(first == N)
    first[empty] = np.arange(empty.size) % N
    room = -(-int(np.max(np.bincount(first))) // ROUND) * ROUND
    return _places(first, room), room
