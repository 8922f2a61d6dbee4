"""Orders of elimination for a sparse symmetric matrix, on the host: minimum degree, nested dissection, Cuthill-McKee.

A graph has a vertex for each row and an edge for each entry beside the diagonal; eliminating a vertex joins its
neighbours, and each new edge is an entry of the factor that the matrix has not. George & Liu 1981, Computer Solution
of Large Sparse Positive Definite Systems, chapters 4 and 8; Liu 1985, doi:10.1145/214392.214398, for many vertices of
low degree at once, which makes trees of elimination low and wide.
"""

from __future__ import annotations

from collections.abc import Iterable

Graph = list[set[int]]  # the neighbours of each vertex, itself not among them

SLACK = 1.5  # times the least degree, what may be eliminated in one round
FULL = 0.5  # of what is left, as a least degree, at which the order matters no more
LEAF = 64  # vertices that are no longer dissected
WIDE = 4000  # a bound on a degree beyond which it is not made exact


def minimum_degree(graph: Graph, weights: list[int]) -> list[int]:
    """An order in which, round by round, an independent set of vertices with about the least degree is eliminated.

    weights: rows that a vertex stands for. The graph of what is left is kept as cliques ("elements"), each by the
    vertices of it; vertices that are alike become one.
    """
    edges, cliques_of = [set(near) for near in graph], [set[int]() for _ in graph]
    cliques: dict[int, set[int]] = {}
    weight, members = list(weights), [[v] for v in range(len(graph))]
    alive = set(range(len(graph)))
    degree = [sum(weight[u] for u in near) for near in graph]
    order: list[int] = []
    while alive:
        least = min(degree[v] for v in alive)
        if least > FULL * sum(weight[v] for v in alive):  # nearly all are neighbours: no order fills less
            order += [u for v in sorted(alive, key=lambda v: degree[v]) for u in members[v]]
            break
        bound = SLACK * least + 1
        low = sorted((degree[v], v) for v in alive if degree[v] <= bound)
        touched: set[int] = set()
        for _, v in low:
            if v in touched:
                continue
            clique = edges[v].union(*(cliques[c] for c in cliques_of[v])) - {v}
            for u in clique:
                edges[u] -= clique if len(clique) < 8 * len(edges[u]) else edges[u] & clique
                edges[u].discard(v)
                cliques_of[u] -= cliques_of[v]
                cliques_of[u].add(v)
            for c in cliques_of[v]:
                del cliques[c]
            cliques[v] = clique
            touched |= clique
            alive.discard(v)
            order += members[v]
        gone = _merged_alike(touched, edges, cliques, cliques_of, weight, members)
        touched -= gone
        alive -= gone
        sizes: dict[int, int] = {}
        for u in touched:
            for c in cliques_of[u]:
                if c not in sizes:
                    sizes[c] = sum(map(weight.__getitem__, cliques[c]))
            most = sum(sizes[c] - weight[u] for c in cliques_of[u]) + sum(map(weight.__getitem__, edges[u]))
            if len(cliques_of[u]) > 1 and most <= WIDE:
                near = edges[u].union(*(cliques[c] for c in cliques_of[u]))
                most = sum(map(weight.__getitem__, near)) - weight[u]
            degree[u] = most
    return order


def _merged_alike(
    touched: set[int], edges: Graph, cliques: dict[int, set[int]], cliques_of: Graph, weight: list[int],
    members: list[list[int]],
) -> set[int]:  # fmt: skip
    """Makes vertices with the same neighbours one, and returns those that are so no more; they have no members."""
    first: dict[tuple[frozenset[int], frozenset[int]], int] = {}
    gone: set[int] = set()
    for u in sorted(touched):
        kept = first.setdefault((frozenset(edges[u]), frozenset(cliques_of[u])), u)
        if kept != u:
            weight[kept] += weight[u]
            members[kept] += members[u]
            members[u] = []
            for c in cliques_of[u]:
                cliques[c].discard(u)
            gone.add(u)
    for u in gone:
        for v in edges[u]:
            edges[v].discard(u)
        edges[u], cliques_of[u] = set(), set()
    return gone


def nested_dissection(graph: Graph, weights: list[int]) -> list[int]:
    """An order by separators: what falls apart without them comes first, and is ordered likewise.

    A separator is a level of a breadth-first search from an outlying vertex, the one that halves the graph best. What
    is small, or has no such level, is ordered by minimum degree.
    """
    order: list[int] = []  # filled from its end
    todo = _components(graph, set(range(len(graph))))
    while todo:
        part = todo.pop()
        separator = _separator(graph, weights, part) if len(part) > LEAF else set()
        if not separator:
            order += reversed(_local(graph, weights, part))
            continue
        order += reversed(_local(graph, weights, separator))
        todo += _components(graph, part - separator)
    return order[::-1]


def _local(graph: Graph, weights: list[int], part: set[int]) -> list[int]:
    """`part` by minimum degree in its own graph."""
    names = sorted(part)
    number = {v: k for k, v in enumerate(names)}
    near = [{number[u] for u in graph[v] if u in part} for v in names]
    return [names[k] for k in minimum_degree(near, [weights[v] for v in names])]


def _separator(graph: Graph, weights: list[int], part: set[int]) -> set[int]:
    """A level of the search whose removal leaves parts of less than three quarters; none if there is none."""
    levels = _from_outlier(graph, part)
    if len(levels) < 3:
        return set()
    sizes = [sum(weights[v] for v in level) for level in levels]
    total, before, best, least = sum(sizes), 0, -1, float("inf")
    for k, size in enumerate(sizes):
        larger = max(before, total - before - size)
        if 0 < k < len(levels) - 1 and larger <= 0.75 * total and size * (1 + larger / total) < least:
            best, least = k, size * (1 + larger / total)
        before += size
    if best < 0 or least > total / 3:
        return set()
    after = set(levels[best + 1])
    return {v for v in levels[best] if not graph[v].isdisjoint(after)}


def _components(graph: Graph, part: set[int]) -> list[set[int]]:
    """The connected parts."""
    left, found = set(part), []
    while left:
        piece = {v for level in _levels(graph, left, next(iter(left))) for v in level}
        left -= piece
        found.append(piece)
    return found


def _levels(graph: Graph, part: set[int], start: int) -> list[list[int]]:
    """The vertices of `part` by their distance from one."""
    seen, levels = {start}, [[start]]
    while True:
        ahead: list[int] = []
        for v in levels[-1]:
            for u in graph[v]:
                if u in part and u not in seen:
                    seen.add(u)
                    ahead.append(u)
        if not ahead:
            return levels
        levels.append(ahead)


def _from_outlier(graph: Graph, part: set[int]) -> list[list[int]]:
    """The levels from a vertex that is far from others: from the last level's vertex of least degree, twice."""
    levels = _levels(graph, part, min(part))
    for _ in range(2):
        further = _levels(graph, part, min(levels[-1], key=lambda v: len(graph[v])))
        if len(further) <= len(levels):
            break
        levels = further
    return levels


def reverse_cuthill_mckee(graph: Graph) -> list[int]:
    """An order with a small band: by distance from an outlying vertex, neighbours of low degree first, reversed."""
    order: list[int] = []
    for part in sorted(_components(graph, set(range(len(graph)))), key=min):
        start = _from_outlier(graph, part)[0][0]
        seen, queue = {start}, [start]
        for v in queue:  # grows meanwhile
            ahead = sorted((u for u in graph[v] if u not in seen), key=lambda u: (len(graph[u]), u))
            seen.update(ahead)
            queue += ahead
        order += queue
    return order[::-1]


def bandwidth(graph: Graph, order: Iterable[int]) -> int:
    """The furthest that neighbours are apart in an order."""
    place = {v: k for k, v in enumerate(order)}
    return max((abs(place[v] - place[u]) for v, near in enumerate(graph) for u in near), default=0)
