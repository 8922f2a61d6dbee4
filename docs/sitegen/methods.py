"""A page for every method: from the catalogue, the docstring, the picture of its path, and what was measured."""

from __future__ import annotations

import inspect
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import jaxopt_ko as jo
from sitegen.api import heading
from sitegen.docstrings import argument_list, blocks, inline, parse, signature_of
from sitegen.names import ROOT, source_of
from sitegen.words import KOREAN_RANGES, RANGES, words

DATA = ROOT / "docs" / "data"
PUBLISHED = ROOT / "examples" / "benchmarks" / "results" / "published_sets.json"
SOLVERS = ("conjugate", "newton", "quasi-newton", "squares", "composite", "constrained")


def parity() -> dict[str, list[dict[str, Any]]]:
    """Rows of the table of parity by method."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    path = DATA / "parity.json"
    for row in json.loads(path.read_text(encoding="utf-8")) if path.exists() else []:
        found[row["name"].partition("-")[0]].append(row)
    return found


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table that may be scrolled where it is wider than the page."""
    made = [".. list-table::", "   :header-rows: 1", ""]
    for row in [head, *rows]:
        made += [f"   {'*' if i == 0 else ' '} - {cell}" for i, cell in enumerate(row)]
    return [*made, ""]


def equation(latex: str) -> list[str]:
    """The equation, a line for each of its parts."""
    return [".. math::", "", f"   {latex}", ""]


def chosen_variant(row: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of the rows of a factory those that fit the options of this row of the catalogue."""
    words_of = {"momentum": ("momentum",), "nesterov": ("nesterov",), "rmsprop_centered": ("centered",)}
    if row.name in words_of:
        return [one for one in rows if any(word in one["name"] for word in words_of[row.name])] or rows
    return rows


def page(row: Any, language: str, told: dict[str, Any] | None) -> str:
    """The page of a method as reStructuredText."""
    say = words(language)
    i = jo.catalog.LANGUAGES.index(language)
    factory = getattr(jo, row.factory or row.name)
    doc = parse(factory.__doc__, inspect.signature(factory).parameters)
    text = [f".. _method-{row.name.replace('_', '-')}:", "", *heading(row.title[i])]
    text += [inline(row.sentence[i]), "", *equation(row.equation)]
    if told is not None:
        text += [f".. figure:: /pictures/{row.name}.png", f"   :alt: {say('picture of') % row.title[i]}", ""]
        text += [f"   {caption(row, told, say)}", ""]
    listed = lambda found: ", ".join(f":ref:`method-{name.replace('_', '-')}`" for name in found) or say("none")  # noqa: E731
    children = [other.name for other in jo.catalog.ROWS if row.name in other.parents]
    facts = [
        ("call", f"``jo.{row.call}`` (:py:obj:`{say('arguments')} <jaxopt_ko.{row.factory or row.name}>`)"),
        ("needs", ", ".join(jo.catalog.NEEDS[need][i] for need in row.needs)),
        ("state", f"{row.memory} {say('bytes')}"),
        ("good for", inline(row.strengths[i])),
        ("not for", inline(row.not_for[i])),
        ("family", jo.catalog.FAMILIES[row.family][i]),
        ("grew out of", listed(row.parents)),
        ("led to", listed(children)),
        ("source", inline(row.paper)),
    ]
    text += [".. rst-class:: facts", ""]
    for term, fact in facts:
        text += [f"{say(term)}", f"   {fact}", ""]
    ranges = (KOREAN_RANGES if language == "ko" else RANGES).get(row.factory or row.name)
    if row.family not in SOLVERS and "learning_rate" in inspect.signature(factory).parameters:
        ranges = ranges or (KOREAN_RANGES if language == "ko" else RANGES)["*"]
    known = inspect.signature(factory).parameters
    if wrong := [name for name, _, _ in ranges or () if name not in known]:
        raise ValueError(f"{row.name} has no {', '.join(wrong)}: see RANGES in docs/sitegen/words.py")
    if ranges:
        text += [*heading(say("what matters"), "-"), *table(
            [say("argument"), say("usual range"), say("why")],
            [[f"``{name}``", usual, inline(why)] for name, usual, why in ranges],
        )]  # fmt: skip
    text += measured(row, say)
    text += [*heading(say("docstring"), "-")]
    if language != "en":
        text += [say("docstring is English"), ""]
    text += [inline(doc.summary), "", *blocks(doc.body)]
    text += argument_list(doc, signature_of(factory)) + blocks(doc.rest)
    text += [*heading(say("references"), "-"), inline(reference(factory)), ""]
    return "\n".join(text) + "\n"


def caption(row: Any, told: dict[str, Any], say: Any) -> str:
    """What was run for the picture."""
    made = []
    for name, run in told.items():
        title = say(name)
        how = say("at rate") % f"{run['rate']:.2g}" if run["rate"] is not None else ""
        made.append(say("in steps") % (title, run["steps"], how, f"{run['value']:.1e}" if run["value"] else "0"))
    extra = say("constrained picture") if row.family == "constrained" else ""
    extra = say("bounded picture") if row.name == "lbfgsb" else extra
    extra = say("projected picture") if row.name in ("projected_gradient", "proximal_gradient") else extra
    grid = say("best of grid") if any(run["rate"] is not None for run in told.values()) else ""
    return " ".join(part for part in (say("picture shows"), *made, grid, extra) if part)


def measured(row: Any, say: Any) -> list[str]:
    """The table of parity of an optimizer, or what a solver reaches on published problems."""
    rows = chosen_variant(row, parity().get(row.factory or row.name, []))
    text: list[str] = []
    if rows:
        text += [*heading(say("parity"), "-"), say("parity means"), ""]
        shown = []
        for one in rows:
            variant = one["name"].partition("-")[2].replace("_", " ")
            theirs = say("is reference") if one["reference"] == "optax" else say("n/a")
            theirs = f"{one['optax']:.1e}" if one["optax"] is not None else theirs
            shown.append([one["reference"], variant, f"{one['error']:.1e}", theirs])
        text += table([say("reference"), say("variant"), say("error"), say("optax's error")], shown)
    results = reached(row.name)
    if results:
        text += [*heading(say("results"), "-"), say("results mean"), ""]
        shown = [[say(a).format(of), ours, beside] for a, of, ours, beside in results]
        text += table([say("problems"), say("ours"), say("beside")], shown)
    return text


def reached(name: str) -> list[tuple[str, int, str, str]]:
    """What a solver reached on published problems: (a key of words.WORDS, of how many, ours, another's)."""
    found = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    if name in found["minimize"]:
        (_, ours), (other, theirs) = found["minimize"][name].items()
        beside = [f"{other}: {theirs[key]:g}" for key in ("reached", "calls")]
        return [
            ("MGH", ours["of"], f"{ours['reached']}", beside[0]), ("MGH calls", 0, f"{ours['calls']:g}", beside[1]),
        ]  # fmt: skip
    if name not in found["regressions"]:
        return []
    near, far = found["least_squares"].values()
    fitted = found["regressions"][name]
    return [
        ("MGH squares", 0, f"{near['reached']}", ""), ("MGH squares calls", 0, f"{near['calls']:g}", ""),
        ("far", far["of"], f"{far['reached']}", ""), ("NIST", fitted["of"], f"{fitted['ten_digits']}", ""),
    ]  # fmt: skip


def reference(factory: Any) -> str:
    """What the file of a method says of its sources."""
    source = source_of(factory)
    if source is None:
        return ""
    text = (ROOT / "jaxopt_ko" / source).read_text(encoding="utf-8")
    found = re.match(r'"""(.*?)"""', text, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def pages(language: str, pictures: Path) -> dict[str, str]:
    """All pages of methods and their table of contents, by family."""
    say = words(language)
    i = jo.catalog.LANGUAGES.index(language)
    made = {}
    index = [*heading(say("methods")), say("methods intro") % len(jo.catalog.ROWS), ""]
    for family, title in jo.catalog.FAMILIES.items():
        rows = [row for row in jo.catalog.ROWS if row.family == family]
        index += [*heading(title[i][0].upper() + title[i][1:], "-"), ".. toctree::", "   :hidden:", ""]
        index += [f"   {row.name}" for row in rows] + [""]
        index += table(
            [say("method"), say("year"), say("state"), say("sentence")],
            [[f":ref:`method-{row.name.replace('_', '-')}`", str(row.year), str(row.memory), inline(row.sentence[i])]
             for row in rows],
        )  # fmt: skip
    for row in jo.catalog.ROWS:
        told_at = pictures / f"{row.name}.json"
        told = json.loads(told_at.read_text()) if told_at.exists() else None
        made[f"methods/{row.name}.rst"] = page(row, language, told)
    made["methods/index.rst"] = "\n".join(index) + "\n"
    return made
