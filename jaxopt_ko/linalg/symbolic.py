"""What a sparse Cholesky factor will look like, found on the host from where the matrix has entries.

Columns of the factor with nearly the same rows are one supernode; its front is the dense lower triangle of the rows
and columns that its elimination touches, and what is left of it after that is added to the front of its parent in the
tree of elimination. Duff & Reid 1983, doi:10.1145/356044.356047 (fronts); Ashcraft & Grimes 1989,
doi:10.1145/76909.76910 (supernodes that are nearly so). Fronts of one level of the tree do not wait for each other:
those of about one size are one batch, and a chain of levels with one batch of one size each is one loop.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxopt_ko.errors import TreeError, say
from jaxopt_ko.linalg.ordering import Graph, minimum_degree, nested_dissection, reverse_cuthill_mckee

LAUNCH = 4e4  # multiplications in the time that a batch costs beside its own
TOUCH = 12  # multiplications in the time of one entry of a front that is put together
EXTRA = 1.5  # times its cost with as little padding as can be, what a factorization may cost
BATCHES = 16  # more than that are made fewer whatever it costs
ORDERINGS = ("minimum_degree", "nested_dissection", "cuthill_mckee")

Ints: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Batch(NamedTuple):
    """T times B fronts of one size, padded: w pivots, of which the first `plus` are positive, and r rows below."""

    plus: int
    minus: int
    below: int
    offset: Ints  # int32[T]     where the first front of the B begins among all fronts
    pivots: Ints  # int32[T,B,w]  rows of the matrix; n: padding
    rows: Ints  # int32[T,B,r]    rows of the matrix; n: padding
    parent: Ints  # int32[T,B]    where the parent's front begins
    stride: Ints  # int32[T,B]    how long a row of the parent's front is
    place: Ints  # int32[T,B,r]   of the rows, in the parent's front; the length of all fronts: padding


class Symbolic(NamedTuple):
    """All that the numeric phase needs."""

    ordering: str  # by which the pivots were put in order
    batches: tuple[Batch, ...]  # in the order of elimination
    size: int  # of all fronts together
    entry: Ints  # int32[nnz]  where an entry of the lower triangle goes, among all fronts
    unit: Ints  # int32[k]     where the ones go on padded diagonals
    unit_sign: Ints  # int32[k]  and their signs
    cost: float  # multiplications, about


class _Supernode(NamedTuple):
    pivots: list[int]  # vertices
    struct: list[int]  # vertices below
    parent: int  # -1 for none


def symbolic(
    n: int, rows: Ints, cols: Ints, negative: Any, ordering: str | None, groups: Ints | None = None
) -> Symbolic:
    """For the entries (rows, cols) of the lower triangle of an n x n matrix, each there once.

    negative: bool[n], whose pivots are. ordering: one of ORDERINGS; None: the one of them that costs least.
    groups: int32[n], rows of one number are eliminated together; None: each by itself.
    """
    if n == 0:
        none = np.zeros(0, np.int32)
        return Symbolic("", (), 0, none, none, none, 0.0)
    members, graph = compressed(n, rows, cols) if groups is None else _grouped(rows, cols, groups)
    weights = [len(rows_of) for rows_of in members]
    found = []
    for name in ORDERINGS[:1] if len(graph) == 1 else ORDERINGS if ordering is None else (ordering,):
        nodes = _supernodes(graph, weights, _ordered(name, graph, weights))
        batches = _batches(_levels(nodes), _shapes(nodes, members, negative))
        found.append((sum(_cost(*batch) for batch in batches), name, nodes, batches))
    cost, name, nodes, batches = min(found, key=lambda one: one[0])
    return _laid_out(n, rows, cols, negative, members, name, nodes, batches, cost)


def _ordered(name: str, graph: Graph, weights: list[int]) -> list[int]:
    if name == "cuthill_mckee":
        return reverse_cuthill_mckee(graph)
    return (minimum_degree if name == "minimum_degree" else nested_dissection)(graph, weights)


def compressed(n: int, rows: Ints, cols: Ints) -> tuple[list[Ints], Graph]:
    """Rows with the same entries as one vertex: the rows of each, int32[], and the graph."""
    off = rows != cols
    i, j = np.concatenate([rows[off], cols[off]]), np.concatenate([cols[off], rows[off]])
    names = np.random.default_rng(0).integers(1, 2**63, n, dtype=np.uint64)
    key = names.copy()
    np.add.at(key, i, names[j])  # a sum of 64 bits over a row and its neighbours: alike if those are
    _, vertex = np.unique(key, return_inverse=True)
    vertex = vertex.reshape(-1).astype(np.int32)
    order = np.argsort(vertex, kind="stable").astype(np.int32)
    members = np.split(order, np.flatnonzero(np.diff(vertex[order])) + 1) if n else []
    graph: Graph = [set() for _ in members]
    pairs = np.unique(vertex[i].astype(np.int64) * max(len(members), 1) + vertex[j])
    for pair in pairs.tolist():
        a, b = divmod(pair, len(members))
        if a != b:
            graph[a].add(b)
    return members, graph


def _grouped(rows: Ints, cols: Ints, groups: Ints) -> tuple[list[Ints], Graph]:
    """The same for groups of rows, those with the most rows first."""
    count = int(np.max(groups)) + 1
    i, j = np.maximum(groups[rows], groups[cols]), np.minimum(groups[rows], groups[cols])
    pairs = np.unique(i.astype(np.int64) * count + j)
    found, graph = compressed(count, (pairs // count).astype(np.int32), (pairs % count).astype(np.int32))
    order = np.argsort(groups, kind="stable").astype(np.int32)
    rows_of = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [np.concatenate(sorted((rows_of[g] for g in of), key=len, reverse=True)) for of in found], graph


# ---- supernodes -----------------------------------------------------------------------------------------


def _work(w: int, r: int) -> float:
    """Multiplications of a front, and the time of its entries in them."""
    f = w + r
    return (f**3 - r**3) / 3 + TOUCH * f * f


def _supernodes(graph: Graph, weights: list[int], order: list[int]) -> list[_Supernode]:
    """The tree of elimination, with children before parents, parents and their highest child made one if that pays."""
    place = {v: k for k, v in enumerate(order)}
    struct: list[set[int]] = []  # by places
    children: list[list[int]] = [[] for _ in order]
    for k, v in enumerate(order):
        below = {place[u] for u in graph[v]}
        below = {p for p in below if p > k}.union(*(struct[c] for c in children[k])) - {k}
        struct.append(below)
        if below:
            children[min(below)].append(k)
    height = [0] * len(order)
    for k in range(len(order)):
        height[k] = 1 + max((height[c] for c in children[k]), default=-1)
    alike = np.bincount(np.array(height, np.int64)).tolist()
    w = [weights[v] for v in order]
    r = [sum(w[p] for p in below) for below in struct]
    pivots: list[list[int]] = [[k] for k in range(len(order))]
    parent = [-1] * len(order)
    gone = [False] * len(order)
    for k in range(len(order)):
        while children[k]:
            c = max(children[k], key=lambda c: height[c])
            launch = LAUNCH / alike[min(height[k], len(alike) - 1)]
            more = _work(w[c] + w[k], r[k]) - _work(w[c], r[c]) - _work(w[k], r[k])
            # one batch less, but no more for each pivot than what c has paid so far
            if more > min(launch, w[k] / w[c] * (launch + _work(w[c], r[c]))):
                break
            children[k].remove(c)
            children[k] += children[c]
            pivots[k] = pivots[c] + pivots[k]
            w[k] += w[c]
            gone[c] = True
            height[k] = 1 + max((height[c] for c in children[k]), default=-1)
        for c in children[k]:
            parent[c] = k
        height[k] = 1 + max((height[c] for c in children[k]), default=-1)
    kept = [k for k in range(len(order)) if not gone[k]]
    number = {k: s for s, k in enumerate(kept)}
    return [
        _Supernode([order[p] for p in pivots[k]], [order[p] for p in sorted(struct[k])], number.get(parent[k], -1))
        for k in kept
    ]


def _levels(nodes: list[_Supernode]) -> list[list[int]]:
    """Supernodes by their height above the lowest leaf under them."""
    height = [0] * len(nodes)
    for s, node in enumerate(nodes):
        if node.parent >= 0:
            height[node.parent] = max(height[node.parent], height[s] + 1)
    levels: list[list[int]] = [[] for _ in range(max(height, default=-1) + 1)]
    for s, h in enumerate(height):
        levels[h].append(s)
    return levels


# ---- batches --------------------------------------------------------------------------------------------

Shape = tuple[int, int, int]  # pivots plus, minus, rows below
Rows = list[list[int]]  # [T][B] supernodes
Levelled = tuple[Shape, Rows, int]  # a batch and its level, -1 for those of several


def _shapes(nodes: list[_Supernode], members: list[Ints], negative: Any) -> list[Shape]:
    minus = [int(np.sum(negative[rows_of])) for rows_of in members]
    size = [len(rows_of) for rows_of in members]
    return [
        (sum(size[v] - minus[v] for v in node.pivots), sum(minus[v] for v in node.pivots),
         sum(size[v] for v in node.struct))
        for node in nodes
    ]  # fmt: skip


def _cost(shape: Shape, rows: Rows) -> float:
    plus, minus, below = shape
    return len(rows) * (LAUNCH + max(map(len, rows)) * _work(plus + minus, below))


def _join(*shapes: Shape) -> Shape:
    a, b, c = (max(sizes) for sizes in zip(*shapes, strict=True))
    return a, b, c


def _batches(levels: list[list[int]], shapes: list[Shape]) -> list[tuple[Shape, Rows]]:
    """Batches in order, as few as cost at most half as much again as those that hold fronts of one size alone.

    For each is compiled. Two that follow each other are joined: into one of more fronts if they are of one level, and
    otherwise into a loop, for whatever their levels, what was done one after the other still is.
    """
    batches = [(shape, [step], h) for h, level in enumerate(levels) for shape, step in _alike(level, shapes)]
    costs = [_cost(shape, rows) for shape, rows, _ in batches]
    limit = EXTRA * sum(costs)
    joints = [_joined(*pair) for pair in pairwise(batches)]
    while joints:
        more = [_cost(*joint[:2]) - a - b for joint, a, b in zip(joints, costs[:-1], costs[1:], strict=True)]
        k = int(np.argmin(more))
        if sum(costs) + more[k] > limit and len(batches) <= BATCHES:
            break
        batches[k : k + 2] = [joints[k]]
        costs[k : k + 2] = [_cost(*joints[k][:2])]
        del joints[k]
        for at in {k - 1, k} & set(range(len(joints))):
            joints[at] = _joined(batches[at], batches[at + 1])
    return [(shape, rows) for shape, rows, _ in batches]


def _alike(level: list[int], shapes: list[Shape]) -> list[tuple[Shape, list[int]]]:
    """The supernodes of a level by about their size."""
    found: list[tuple[Shape, list[int]]] = []
    work = 0.0
    for s in sorted(level, key=lambda s: (sum(shapes[s]), shapes[s]), reverse=True):
        own = _work(shapes[s][0] + shapes[s][1], shapes[s][2])
        if found:
            joint = _join(found[-1][0], shapes[s])
            padded = (len(found[-1][1]) + 1) * _work(joint[0] + joint[1], joint[2])
            if padded <= 1.2 * (work + own) + LAUNCH:
                found[-1] = (joint, [*found[-1][1], s])
                work += own
                continue
        found.append((shapes[s], [s]))
        work = own
    return found


def _joined(a: Levelled, b: Levelled) -> Levelled:
    shape = _join(a[0], b[0])
    if a[2] == b[2] >= 0 and len(a[1]) == len(b[1]) == 1:
        side = (shape, [[*a[1][0], *b[1][0]]], a[2])
        if _cost(*side[:2]) <= _cost(shape, [*a[1], *b[1]]):
            return side
    return shape, [*a[1], *b[1]], -1


# ---- arrays ---------------------------------------------------------------------------------------------


def _laid_out(
    n: int, rows: Ints, cols: Ints, negative: Any, members: list[Ints], ordering: str, nodes: list[_Supernode],
    batches: list[tuple[Shape, Rows]], cost: float,
) -> Symbolic:  # fmt: skip
    """Where everything is: the fronts one after the other, each a square by rows."""
    pivots, below, begin, stride, plus_of = {}, {}, {}, {}, {}
    place, owner, local = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    at = done = 0
    offsets: list[Ints] = []
    for shape, steps in batches:
        f = sum(shape)
        offset = []
        for step in steps:
            offset.append(at)
            for s in step:
                own = np.concatenate([members[v] for v in nodes[s].pivots])
                own = np.concatenate([own[~negative[own]], own[negative[own]]])
                k = np.arange(own.size)
                plus_of[s] = int(np.sum(~negative[own]))
                place[own], owner[own] = done + k, s
                local[own] = k + np.where(negative[own], shape[0] - plus_of[s], 0)
                pivots[s], begin[s], stride[s] = own, at, f
                at, done = at + f * f, done + own.size
            at += (max(map(len, steps)) - len(step)) * f * f
        offsets.append(np.array(offset, np.int32))
    if at >= 2**31 - 1:
        say(TreeError, "analyze", "the factor must have less than 2**31 numbers", f"{at} of them with {ordering}",
            "Look for dense rows in the pattern: they can be kept apart, by the Schur complement")  # fmt: skip
    for s, node in enumerate(nodes):
        under = np.concatenate([members[v] for v in node.struct]) if node.struct else np.zeros(0, np.int32)
        below[s] = under[np.argsort(place[under])]
    width = {s: sum(shape[:2]) for shape, steps in batches for step in steps for s in step}
    base, length = (np.array([of[s] for s in range(len(nodes))], np.int64) for of in (begin, stride))

    def inside(s: int, which: Ints) -> Any:
        """Where rows of the matrix are in a front."""
        lower = width[s] + np.searchsorted(place[below[s]], place[which])
        return np.where(owner[which] == s, local[which], lower)

    made, unit, sign = [], [], []
    for (shape, steps), offset_ in zip(batches, offsets, strict=True):
        T, B, w, r = len(steps), max(map(len, steps)), shape[0] + shape[1], shape[2]
        f = w + r
        batch = Batch(
            *shape, offset_, np.full((T, B, w), n, np.int32), np.full((T, B, r), n, np.int32),
            np.zeros((T, B), np.int32), np.zeros((T, B), np.int32), np.full((T, B, r), at, np.int32),
        )  # fmt: skip
        for t, step in enumerate(steps):
            for b, s in enumerate(step):
                batch.pivots[t, b, local[pivots[s]]] = pivots[s]
                batch.rows[t, b, : below[s].size] = below[s]
                p = nodes[s].parent
                if p >= 0:
                    batch.parent[t, b], batch.stride[t, b] = begin[p], stride[p]
                    batch.place[t, b, : below[s].size] = inside(p, below[s])
        free_t, free_b, free_k = np.nonzero(batch.pivots == n)
        unit.append(offset_[free_t].astype(np.int64) + free_b * f * f + free_k * (f + 1))
        sign.append(np.where(free_k < shape[0], 1, -1))
        made.append(batch)
    early = np.where(place[rows] < place[cols], rows, cols)
    late = np.where(place[rows] < place[cols], cols, rows)
    of = owner[early]
    entry = base[of] + _position(late, of, owner, local, place, below, width) * length[of] + local[early]
    return Symbolic(
        ordering, tuple(made), int(at), entry.astype(np.int32), np.concatenate(unit).astype(np.int32),
        np.concatenate(sign).astype(np.int32), cost,
    )  # fmt: skip


def _position(
    which: Ints, of: Any, owner: Any, local: Any, place: Any, below: dict[int, Ints], width: dict[int, int]
) -> Any:
    """Where rows of the matrix are in the fronts `of` supernodes, one for each."""
    found = local[which].copy()
    far = np.flatnonzero(owner[which] != of)
    far = far[np.argsort(of[far], kind="stable")]
    for chunk in np.split(far, np.flatnonzero(np.diff(of[far])) + 1) if far.size else []:
        s = int(of[chunk[0]])
        found[chunk] = width[s] + np.searchsorted(place[below[s]], place[which[chunk]])
    return found
