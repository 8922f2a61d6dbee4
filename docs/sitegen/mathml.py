"""Equations as MathML, which browsers draw themselves: no script, no font from elsewhere."""

from __future__ import annotations

import re
from typing import Any

import latex2mathml.converter
from docutils import nodes

LETTERS = re.compile(r'<mrow>((?:<mi mathvariant="normal">.</mi>|<mspace[^>]*>|<mo>[^<]*</mo>)+)</mrow>')
PAUSE = re.compile(r"(?<!\\)[,;]\s*$")  # and not the space that \, and \; are


def convert(latex: str, display: str = "inline") -> str:
    """An equation as MathML; words in upright letters stay whole."""
    made = latex2mathml.converter.convert(latex, display=display)

    def whole(found: re.Match[str]) -> str:
        letters = re.findall(r'<mi mathvariant="normal">(.)</mi>', found[1])
        marked = re.sub(r'<mi mathvariant="normal">.</mi>', "", found[1])
        return f'<mi mathvariant="normal">{"".join(letters)}</mi>' if not marked else found[0]

    return LETTERS.sub(whole, made)


def lines_of(latex: str) -> list[str]:
    r"""The parts of an equation that \quad or \\ divides, outside of braces and environments.

    A comma before such a mark goes with it, for the line ends there; that at the end of all is the sentence's.
    """
    if "\\begin" in latex:
        return [latex]
    parts, depth, start, i = [], 0, 0, 0
    while i < len(latex):
        depth += {"{": 1, "}": -1}.get(latex[i], 0)
        mark = next((m for m in ("\\qquad", "\\quad", "\\\\") if latex.startswith(m, i)), "")
        if mark and depth == 0:
            parts.append(PAUSE.sub("", latex[start:i].strip()))
            i += len(mark)
            start = i
        else:
            i += 1
    return [part for part in [*parts, latex[start:].strip()] if part]


def visit_inline(self: Any, node: nodes.math) -> None:
    """An equation in a line of text."""
    self.body.append(f'<span class="math">{convert(node.astext())}</span>')
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """An equation of its own, a line for each part."""
    self.body.append('<div class="math">')
    for line in lines_of(node.astext().strip()):
        self.body.append(f'<div class="math-line">{convert(line, "block")}</div>')
    self.body.append("</div>")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
