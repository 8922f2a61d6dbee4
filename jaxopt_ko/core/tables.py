"""Tables of text for a terminal, a notebook and a README."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple


class Table(NamedTuple):
    """Rows as text, which `print` shows; notebooks show HTML, with equations."""

    columns: tuple[str, ...]
    head: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """Columns aligned as a terminal shows them, where a Korean letter is two wide."""
        widths = [max(map(width, column)) for column in zip(self.head, *self.body, strict=True)]
        lines = (self.head, tuple("-" * size for size in widths), *self.body)
        return "\n".join(
            "  ".join(cell + " " * (size - width(cell)) for cell, size in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_markdown_(self) -> str:
        lines = (self.head, ("---",) * len(self.head), *(self._marked(line, "`", "`") for line in self.body))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _repr_html_(self) -> str:
        def line(cells: Iterable[str], tag: str) -> str:
            return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"

        body = (self._marked(map(html.escape, cells), "<code>", "</code>") for cells in self.body)
        rows = "\n".join(line(cells, "td") for cells in body)
        return f"<table>\n{line(map(html.escape, self.head), 'th')}\n{rows}\n</table>"

    def _marked(self, cells: Iterable[str], begin: str, end: str) -> tuple[str, ...]:
        """Code as code, and equations as equations."""
        marks = dict.fromkeys(("name", "call", "leaf"), (begin, end)) | {"equation": ("$", "$")}
        around = (marks.get(column, ("", "")) for column in self.columns)
        return tuple(before + cell + after for (before, after), cell in zip(around, cells, strict=True))


def width(text: str) -> int:
    """Of a line in a terminal."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
