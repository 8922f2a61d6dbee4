"""The catalogue as tables, pages and a family tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jaxopt_ko import errors
from jaxopt_ko.catalog.entry import LANGUAGES, Memory, Row, Text
from jaxopt_ko.catalog.rows import BY_NAME, FAMILIES, NEEDS, ROWS
from jaxopt_ko.core.tables import Table, width

TITLES: dict[str, Text] = {
    "name": ("name", "이름"),
    "title": ("method", "방법"),
    "call": ("call", "호출"),
    "family": ("family", "계열"),
    "year": ("year", "연도"),
    "paper": ("source", "출처"),
    "equation": ("equation", "수식"),
    "memory": ("state, bytes", "상태(바이트)"),
    "needs": ("needs", "필요한 것"),
    "parents": ("grew out of", "바탕이 된 방법"),
    "sentence": ("in a sentence", "한마디로"),
    "strengths": ("good for", "잘 맞는 곳"),
    "not_for": ("not for", "쓰지 말아야 할 때"),
}
COLUMNS = ("name", "title", "year", "memory", "needs", "parents")
SHORT = ("title", "call", "year", "memory", "needs", "sentence")  # for a README
KEY: Text = (
    "Bytes of the state as measured, but for counts: n parameters in float32, m residuals or inequalities; where √n "
    "stands, of a square matrix of n weights, large enough to be taken for one; solvers as `minimize` runs them.",
    "상태의 바이트 수는 스텝 카운터 등을 뺀 실측값입니다. 매개변수는 float32로 n개, 잔차나 부등식은 m개입니다. "
    "√n이 있으면 가중치가 n개인 정사각 행렬, 그중 행렬로 다룰 만큼 큰 것의 값입니다. 솔버는 `minimize`로 실행할 때의 "
    "값입니다.",
)
OF_A_MATRIX: Text = (
    ", of a square matrix: {bytes:,} for {side} × {side}, {each:.3g} a parameter",
    ", 정사각 행렬일 때: {side} × {side}이면 {bytes:,}, 매개변수마다 {each:.3g}",
)


def catalog(language: str = "en", columns: Sequence[str] = COLUMNS) -> Table:
    """A table of all methods.

    language: "en" or "ko".
    columns: which, in their order: any of TITLES, such as ("name", "equation", "paper").

    Returns a `Table`, which prints as text and shows as HTML in a notebook.
    Raises HyperparameterError for another language or column.

    >>> table = jo.catalog.catalog(columns=("name", "year"))
    >>> table.head, [row for row in table.body if row[0] == "adam"]
    (('name', 'year'), [('adam', '2015')])
    """
    errors.check_choice("catalog", "language", language, LANGUAGES)
    for column in columns:
        errors.check_choice("catalog", "column", column, tuple(TITLES))
    i = LANGUAGES.index(language)
    body = tuple(tuple(_cell(row, column, i) for column in columns) for row in ROWS)
    return Table(tuple(columns), tuple(TITLES[column][i] for column in columns), body)


def page(name: str, language: str = "en") -> str:
    """All that the catalogue says of one method, a line each.

    name: of the method, such as "adam".
    language: "en" or "ko".

    Returns a string of lines; the bytes of the state are measured, once.
    Raises HyperparameterError for a name that is not in the catalogue, and for another language.

    >>> print(jo.catalog.page("adam").splitlines()[0])
    name           adam
    """
    errors.check_choice("page", "name", name, tuple(BY_NAME))
    errors.check_choice("page", "language", language, LANGUAGES)
    i = LANGUAGES.index(language)
    size = max(width(title[i]) for title in TITLES.values())
    row = BY_NAME[name]
    cells = {column: _cell(row, column, i) for column in TITLES}
    if row.by_shape:
        side, memory = 1024, row.memory
        count = memory.n * side**2 + memory.root * side
        cells["memory"] += OF_A_MATRIX[i].format(bytes=count, side=side, each=count / side**2)
    return "\n".join(title[i] + " " * (size + 2 - width(title[i])) + cells[key] for key, title in TITLES.items())


class Node(NamedTuple):
    """A method in the family tree."""

    name: str
    title: str
    family: str
    year: int
    parents: tuple[str, ...]


class Tree(NamedTuple):
    """Which method grew out of which."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]  # (parent, child)


def family_tree(language: str = "en") -> Tree:
    """Which method grew out of which, for drawing.

    language: "en" or "ko".

    Returns a `Tree`: nodes, each a `Node`, and edges, pairs (parent's name, child's name).
    Raises HyperparameterError for another language.

    >>> tree = jo.catalog.family_tree()
    >>> ("adam", "adamw") in tree.edges
    True
    """
    errors.check_choice("family_tree", "language", language, LANGUAGES)
    i = LANGUAGES.index(language)
    nodes = tuple(Node(row.name, row.title[i], row.family, row.year, row.parents) for row in ROWS)
    return Tree(nodes, tuple((parent, row.name) for row in ROWS for parent in row.parents))


def mermaid(language: str = "en") -> str:
    """The family tree as a graph in Mermaid's words, which GitHub draws.

    language: "en" or "ko".

    Returns a string of lines.
    Raises HyperparameterError for another language.

    >>> jo.catalog.mermaid().splitlines()[0]
    'graph LR'
    """
    nodes, edges = family_tree(language)
    titles = (node.title.replace("(", "<br/>(") for node in nodes)
    lines = [f'  {node.name}["{title}<br/>{node.year}"]' for node, title in zip(nodes, titles, strict=True)]
    return "\n".join(["graph LR", *lines, *(f"  {parent} --> {child}" for parent, child in edges)])


def markdown(language: str = "en") -> str:
    """The short table and the family tree, for a README.

    language: "en" or "ko".

    Returns a string of Markdown, with a block of Mermaid.
    Raises HyperparameterError for another language.
    Not for a quick look: the bytes of all states are measured, once, which takes seconds.

    >>> print(jo.catalog.markdown().splitlines()[0])
    | method | call | year | state, bytes | needs | in a sentence |
    """
    table = catalog(language, SHORT)._repr_markdown_()
    key = KEY[LANGUAGES.index(language)]
    return f"{table}\n\n{key}\n\n```mermaid\n{mermaid(language)}\n```"


def _cell(row: Row, column: str, i: int) -> str:
    if column == "family":
        return FAMILIES[row.family][i]
    if column == "needs":
        return ", ".join(NEEDS[need][i] for need in row.needs)
    if column == "parents":
        return ", ".join(row.parents)
    value = getattr(row, column)
    return str(value[i] if isinstance(value, tuple) and not isinstance(value, Memory) else value)
