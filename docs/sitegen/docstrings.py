"""The house's form of docstrings as reStructuredText.

A docstring has one sentence, an equation, lines `name: text` for the arguments, what is returned and raised, and
examples. Here the lines become a list of arguments, aligned or indented text a block in letters of one width,
examples doctest blocks, and `name` a link where there is such a public name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from sitegen.names import targets

ARGUMENT = re.compile(r"^([*]{0,2}\w+(?:(?:=[^:,\s]+)?, [*]{0,2}\w+)*)((?:=[^:]+)?): (.*)$")
ENDS = re.compile(r"^(Raises|Returns|State|Source|Not |>>>|Arguments? and errors|Where |With )")
ALIGNED = re.compile(r"\S {2,}\S")
FORMULA = re.compile(r"^[\w'*|^(){}\[\],.+-]+( [\w'*|^(){}\[\],+-]+)? (=|<-|:=|~|<=|>=) ")
BULLET = re.compile(r"^[*-] ")
QUOTED = re.compile(r"(``[^`]+``|`[^`]+`)")


class Argument(NamedTuple):
    """A line of a docstring that explains arguments."""

    names: tuple[str, ...]
    value: str  # "=False" where the line speaks of one value
    text: str


class Docstring(NamedTuple):
    """A docstring in its parts."""

    summary: str
    body: list[tuple[str, list[str]]]  # (kind, lines): "text", "formula", "example", "bullets"; before the arguments
    arguments: list[Argument]
    rest: list[tuple[str, list[str]]]  # what comes behind them


def inline(text: str) -> str:
    """Text with its marks escaped, and `names` as links or as code."""
    parts = []
    for part in QUOTED.split(text):
        if QUOTED.fullmatch(part):
            code = part.strip("`")
            called = code.partition("(")[0].removesuffix(".")
            where = targets().get(code) or (targets().get(called) if code.endswith(")") else None)
            parts.append(f":py:obj:`{code} <{where}>`" if where and "<" not in code else f"``{code}``")
        else:
            parts.append(re.sub(r"([\\*|`]|\b_\b|(?<=\w)_(?!\w))", r"\\\1", part))
    made = ""
    for part in parts:  # a role needs a blank or a mark on both sides
        if made and part[:1] in ("`", ":") and part.endswith("`") and (made[-1].isalnum() or made[-1] in "\\_"):
            made += "\\ "
        if made.endswith("`") and part[:1].isalnum():
            made += "\\ "
        made += part
    return made


def _is_formula(line: str) -> bool:
    if ALIGNED.search(line) or line.startswith("  "):
        return True
    words = re.findall(r"[A-Za-z]{4,}", line)
    return bool(FORMULA.match(line)) and len(words) <= 6 and not line.rstrip().endswith((".", ":"))


def parse(doc: str | None, known: Iterable[str] = ()) -> Docstring:
    """A docstring in its parts; known: the arguments, so that other words before a colon stay text."""
    known = set(known)
    lines = inspect.cleandoc(doc or "").splitlines()
    body: list[tuple[str, list[str]]] = []
    rest: list[tuple[str, list[str]]] = []
    arguments: list[Argument] = []
    open_argument = example = False
    i = 0
    summary: list[str] = []
    while i < len(lines) and lines[i].strip():
        found = ARGUMENT.match(lines[i])
        if i and (_is_formula(lines[i]) or (found and _names(found) <= known)):
            break
        summary.append(lines[i].strip())
        i += 1
    for line in lines[i:]:
        where = rest if arguments else body
        if not line.strip():
            open_argument = example = False
            where.append(("break", []))
            continue
        found = ARGUMENT.match(line)
        if line.lstrip().startswith(">>>") or example:
            if not example:
                where.append(("example", []))
            open_argument, example = False, True
            where[-1][1].append(line.strip() if line.lstrip().startswith((">>>", "...")) else line)
        elif found and _names(found) <= known:
            arguments.append(Argument(tuple(sorted(_names(found), key=line.index)), found[2], found[3].strip()))
            open_argument = True
        elif open_argument and not ENDS.match(line):
            last = arguments.pop()
            arguments.append(last._replace(text=f"{last.text} {line.strip()}"))
        else:
            open_argument = False
            kind = "formula" if _is_formula(line) else "bullets" if BULLET.match(line) else "text"
            if kind == "text" and where and where[-1][0] == "bullets":
                where[-1][1][-1] += f" {line.strip()}"
            elif where and where[-1][0] == kind and not (kind == "text" and ENDS.match(line)):
                where[-1][1].append(line)
            else:
                where.append((kind, [line]))
    return Docstring(" ".join(summary), body, arguments, rest)


def _names(found: re.Match[str]) -> set[str]:
    return {name.strip("*").partition("=")[0] for name in found[1].split(", ")}


def blocks(parts: list[tuple[str, list[str]]]) -> list[str]:
    """The parts as reStructuredText."""
    made: list[str] = []
    for i, (kind, lines) in enumerate(parts):
        if kind == "text":
            made += [inline(" ".join(line.strip() for line in lines)), ""]
        elif kind == "formula":
            if i and parts[i - 1][0] == "break" and made and i > 1 and parts[i - 2][0] == "formula":
                pass
            made += [".. code-block:: text", "   :class: formula", "", *(f"   {line}" for line in lines), ""]
        elif kind == "example":
            made += [".. code-block:: pycon", "", *(f"   {line}" for line in lines), ""]
        elif kind == "bullets":
            made += [*(f"* {inline(BULLET.sub('', line))}" for line in lines), ""]
    return made


def signature_of(thing: Any) -> inspect.Signature | None:
    """The signature, or None for what has none."""
    try:
        return inspect.signature(thing)
    except (TypeError, ValueError):
        return None


def annotation(parameter: inspect.Parameter) -> str:
    """The type of a parameter as it is written."""
    note = parameter.annotation
    if note is inspect.Parameter.empty:
        return ""
    return note if isinstance(note, str) else inspect.formatannotation(note)


def default(value: Any) -> str:
    """A default as it is written."""
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    if isinstance(value, tuple) and hasattr(value, "_fields") and any(map(callable, value)):
        return "..."  # a transformation
    text = repr(value)
    return "..." if " at 0x" in text or "\n" in text or len(text) > 60 else text


def argument_list(doc: Docstring, signature: inspect.Signature | None) -> list[str]:
    """The arguments as a definition list, with types and defaults."""
    if not doc.arguments:
        return []
    parameters = dict(signature.parameters) if signature else {}
    made = [".. rst-class:: arguments", ""]
    for names, value, text in doc.arguments:
        terms = ", ".join(f"**{name}**" for name in names)
        if value:
            terms += f" ``{value.lstrip()}``"
        types_ = {note for name in names if name in parameters and (note := annotation(parameters[name]))}
        defaults = [
            default(parameters[name].default)
            for name in names
            if name in parameters and parameters[name].default is not inspect.Parameter.empty
        ]
        term = terms + (f" · ``{' | '.join(sorted(types_))}``" if types_ else "")
        if defaults and not value:
            term += f" = ``{', '.join(defaults)}``"
        made += [term, f"   {inline(text)}", ""]
    return made


def rest_of(thing: Any) -> list[str]:
    """A docstring as reStructuredText, lines."""
    signature = signature_of(thing)
    known = set(signature.parameters) if signature else set()
    known |= set(getattr(thing, "_fields", ())) | set(getattr(thing, "__dataclass_fields__", ()))
    own = thing.__doc__ if isinstance(getattr(thing, "__doc__", None), str) else ""
    doc = parse(own, known)
    return [inline(doc.summary), "", *blocks(doc.body), *argument_list(doc, signature), *blocks(doc.rest)]
