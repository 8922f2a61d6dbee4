"""Where the boxes and lines of a family tree go: Graphviz's dot sets them in columns, a child right of its parents.

A line rises and falls between two columns only. Through a column in which it has no box it goes straight, in a slot
that dot keeps free for it; so no line touches a box but those at its ends.
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import pygraphviz

from jaxopt_ko.catalog import Tree, width

POINTS = 72  # to Graphviz's inch, which stands for the caller's unit
SLOT = 0.3  # of the gap between two boxes: the height that dot keeps free for a line through a column

Point = tuple[float, float]
Curve = tuple[Point, Point, Point, Point]  # Bézier's, from one column to the next


class Layout(NamedTuple):
    """In the caller's units, x to the right and y down, from the upper left corner."""

    extent: Point  # width and height of the whole
    places: dict[str, Point]  # the middle of each box
    routes: list[list[Curve]]  # of each edge, its curves; straight lines join them


def dot(edges: list[tuple], heights: Mapping, wide: float, across: float, apart: float) -> tuple[Point, dict]:
    """(extent, {box: its middle}) of boxes with these heights, all equally wide; across and apart: gaps between."""
    graph = pygraphviz.AGraph(directed=True, rankdir="LR", splines="false", ranksep=across, nodesep=apart)
    graph.graph_attr.update(mclimit=20, searchsize=200)  # more tries than usual: a third fewer crossings
    graph.node_attr.update(shape="box", fixedsize="true", label="", width=wide)
    names = {box: f"n{i}" for i, box in enumerate(heights)}
    for box, height in heights.items():
        graph.add_node(names[box], height=height)
    for a, b in edges:
        graph.add_edge(names[a], names[b])
    graph.layout("dot")
    inches = lambda text: [float(number) / POINTS for number in text.split(",")]  # noqa: E731
    *_, right, top = inches(graph.graph_attr["bb"])
    middle = {box: inches(graph.get_node(name).attr["pos"]) for box, name in names.items()}
    return (right, top), {box: (x, top - y) for box, (x, y) in middle.items()}


def layout(tree: Tree, heights: Mapping[str, float], wide: float, across: float, apart: float) -> Layout:
    """Of a catalogue's tree.

    Args:
      tree: nodes, and the edges from parent to child.
      heights: of each node's box.
      wide: every box's width, which is its column's.
      across: the gap between two columns.
      apart: the least gap between two boxes of a column.
    """
    _, first = dot(tree.edges, heights, wide, across, apart)
    step = wide + across
    column = {name: round((x - wide / 2) / step) for name, (x, _) in first.items()}
    chains = [
        [parent, *((parent, child, k) for k in range(column[parent] + 1, column[child])), child]
        for parent, child in tree.edges
    ]
    slots = {box: SLOT * apart for chain in chains for box in chain[1:-1]}
    links = [pair for chain in chains for pair in itertools.pairwise(chain)]
    extent, middle = dot(links, {**heights, **slots}, wide, across, apart)

    def curve(a, b) -> Curve:
        (x0, y0), (x1, y1) = middle[a], middle[b]
        x0, x1 = x0 + wide / 2, x1 - wide / 2
        return (x0, y0), ((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1), (x1, y1)

    routes = [[curve(*pair) for pair in itertools.pairwise(chain)] for chain in chains]
    return Layout(extent, {name: middle[name] for name in heights}, routes)


def wrapped(text: str, most: int) -> list[str]:
    """Lines of a width, in which a Hangul letter counts twice."""
    lines = [""]
    for word in text.split():
        line = f"{lines[-1]} {word}".strip()
        if width(line) <= most or not lines[-1]:
            lines[-1] = line
        else:
            lines.append(word)
    return lines
