"""The pages of the API: every public name once, by room, and its other names beside it."""

from __future__ import annotations

import ast
import enum
import inspect
import re
from collections import defaultdict
from typing import Any

import jaxopt_ko as jo
from sitegen import names
from sitegen.docstrings import default, inline, rest_of, signature_of

TITLES = {
    "analysis": "Analysis", "catalog": "The catalogue", "compose": "Compose", "core": "Core", "drivers": "Drivers",
    "errors": "Errors", "linalg": "Linear algebra", "losses": "Losses", "optimizers": "Optimizers",
    "precision": "Precision", "projections": "Projections", "schedules": "Schedules", "sharding": "Sharding",
    "solvers": "Solvers", "states": "States", "training": "Training", "transforms": "Transforms", "types": "Types",
    "wrappers": "Wrappers", "tree_utils": "optax's names for trees", "contrib": "optax's contrib",
}  # fmt: skip


def heading(text: str, mark: str = "=") -> list[str]:
    """A title, as wide as it is shown at least."""
    return [text, mark * (2 * len(text)), ""]


def first_line(page: str) -> str:
    """What the module of a page says of itself in its first line."""
    for path in (names.PACKAGE / f"{page}.py", names.PACKAGE / page / "__init__.py"):
        if path.exists():
            doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            return " ".join(doc.split("\n\n")[0].split())
    return ""


def shown_signature(thing: Any) -> str:
    """The signature with defaults and without types, which stand beside the arguments."""
    signature = signature_of(thing)
    if signature is None:
        return ""
    empty = inspect.Parameter.empty
    made, star = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            made.append(f"*{parameter.name}")
            star = True
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            made.append(f"**{parameter.name}")
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            made.append("*")
            star = True
        given = "" if parameter.default is empty else f"={default(parameter.default)}"
        made.append(f"{parameter.name}{given}")
    return f"({', '.join(made)})"


def entry(name: names.Name, also: list[str]) -> list[str]:
    """One name, explained."""
    thing = name.thing
    body: list[str] = []
    if inspect.isclass(thing):
        kind = "exception" if issubclass(thing, BaseException) else "class"
        fields = getattr(thing, "_fields", None)
        shown = "" if kind == "exception" or issubclass(thing, enum.Enum) else shown_signature(thing)
        if fields and all(field.isidentifier() for field in fields):
            shown = f"({', '.join(fields)})"
        body = rest_of(thing)
        body += members(thing)
    elif callable(thing) and signature_of(thing) is not None and not _is_type(thing):
        kind, shown, body = "function", shown_signature(thing), rest_of(thing)
    else:
        kind, shown = "data", ""
        text = default(thing) if not isinstance(thing, dict) else f"{len(thing)} entries: {', '.join(map(str, thing))}"
        said = comment_of(name)
        body = [inline(said), ""] if said else []
        body += [f"``{text}``" if len(text) < 100 else inline(text), ""]
    if also:
        body += ["Also as " + ", ".join(f"``{path}``" for path in also) + ".", ""]
    return [f".. py:{kind}:: {name.path}{shown}", "", *(f"   {line}" if line else "" for line in body), ""]


def _is_type(thing: Any) -> bool:
    return type(thing).__name__ in (
        "UnionType",
        "_CallableGenericAlias",
        "GenericAlias",
        "_UnionGenericAlias",
        "TypeVar",
    )


def comment_of(name: names.Name) -> str:
    """What stands behind a constant in the source."""
    own = name.path.rpartition(".")[2]
    for path in names.PACKAGE.rglob("*.py"):
        found = re.search(rf"^{own}\b.*?  # (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1][0].upper() + found[1][1:] + "."
    return ""


def members(cls: type) -> list[str]:
    """Fields with what the source says behind them, and public methods that a class defines."""
    made: list[str] = []
    source = names.classes().get(cls.__name__, (None, ""))[1]
    if issubclass(cls, enum.Enum):
        return [".. rst-class:: fields", "", *(f"* ``{member.name}`` = ``{member.value!r}``" for member in cls), ""]
    fields = getattr(cls, "_fields", None) or getattr(cls, "__dataclass_fields__", {})
    rows = []
    for field in fields:
        found = re.search(rf"^    {re.escape(field)}: ([^#\n]+?)(?: *# *(.*))?$", source, re.MULTILINE)
        note = re.sub(r" {2,}", ": ", found[2].strip()) if found and found[2] else ""
        rows.append(f"* ``{field}``" + (f": {inline(note)}" if note else ""))
    if rows:
        made += [".. rst-class:: fields", "", *rows, ""]
    for method, thing in vars(cls).items():
        function = thing.__func__ if isinstance(thing, staticmethod | classmethod) else thing
        if method.startswith("_") or method in fields or not inspect.isfunction(function) or not function.__doc__:
            if isinstance(thing, property) and thing.__doc__ and not method.startswith("_"):
                made += [f"``.{method}``", *(f"   {line}" if line else "" for line in rest_of(thing)), ""]
            continue
        text = rest_of(function)
        made += [f"``.{method}{shown_signature(function).replace('(self, ', '(').replace('(self)', '()')}``"]
        made += [*(f"   {line}" if line else "" for line in text), ""]
    return made


def pages() -> dict[str, str]:
    """Every page of the API by its name, "api/optimizers/adam.rst"."""
    also: dict[str, list[str]] = defaultdict(list)
    by_page: dict[str, list[names.Name]] = defaultdict(list)
    aliases: dict[str, list[names.Name]] = defaultdict(list)
    for name in names.public().values():
        if name.same_as:
            also[name.same_as].append(name.short)
            aliases[name.path.split(".")[1]].append(name)
        else:
            by_page[names.page_of(name)].append(name)
    made: dict[str, str] = {}
    rooms: dict[str, list[str]] = defaultdict(list)
    for page, own in sorted(by_page.items()):
        room, _, part = page.partition("/")
        rooms[room].append(page)
        title = part.replace("_", " ") if part else TITLES.get(room, room)
        text = heading(title)
        text += [inline(first_line(page)), ""]
        functions = [name for name in own if not inspect.isclass(name.thing)]
        classes = [name for name in own if inspect.isclass(name.thing)]
        for name in functions + classes:
            text += entry(name, also.get(name.path, []))
        made[f"api/{page}.rst"] = "\n".join(text) + "\n"
    for room, own_pages in rooms.items():
        parts = [page for page in own_pages if "/" in page]
        if not parts:
            continue
        tree = [".. toctree::", "   :maxdepth: 1", "", *(f"   {page}" for page in parts), ""]
        tree = [line.replace(f"   {room}/", f"   {room}/") for line in tree]
        own = made.get(f"api/{room}.rst", "")
        if own:
            made[f"api/{room}.rst"] = own + "\n" + "\n".join(tree)
        else:
            made[f"api/{room}.rst"] = "\n".join([*heading(TITLES[room]), inline(first_line(room)), "", *tree])
    made["api/other_names.rst"] = other_names(aliases)
    made["api/modules.rst"] = module_page()
    order = sorted(rooms, key=lambda room: list(TITLES).index(room) if room in TITLES else 99)
    made["api/index.rst"] = "\n".join([
        *heading("API"),
        f"Every public name of jaxopt_ko {jo.__version__}: {sum(map(len, by_page.values()))} of them, by the room they "
        "stand in. Names are written here with the package's, ``jaxopt_ko``; examples say ``import jaxopt_ko as jo``.",
        "", ".. toctree::", "   :maxdepth: 1", "",
        *(f"   {room}" for room in order), "   modules", "   other_names", "",
    ])  # fmt: skip
    return made


def other_names(aliases: dict[str, list[names.Name]]) -> str:
    """Names that are there for programs written for optax, or as parts of a module."""
    text = heading("Other names of the same")
    text += ["The same functions under optax's module paths, and under the modules that they belong to.", ""]
    for module, own in sorted(aliases.items()):
        text += heading(module, "-")
        for name in own:
            text += [f".. py:data:: {name.path}", "", f"   :py:obj:`{name.same_as}`", ""]
    return "\n".join(text)


def module_page() -> str:
    """The public modules, each with its first line."""
    text = heading("Modules")
    for name, module in sorted(names.modules().items()):
        doc = " ".join((module.__doc__ or "").split("\n\n")[0].split())
        text += [f".. py:module:: jaxopt_ko.{name}", "", f"``jaxopt_ko.{name}``", f"   {inline(doc)}", ""]
    return "\n".join([*text[:3], ".. py:module:: jaxopt_ko", "", *text[3:]])


def undocumented() -> dict[str, list[str]]:
    """Public functions that leave arguments unexplained -> those; rooms that are being written are left out."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("docs_arguments", names.ROOT / "docs" / "arguments.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError("docs/arguments.py")
    arguments = module_from_spec(spec)
    spec.loader.exec_module(arguments)
    found = {}
    public = {name.removeprefix("jaxopt_ko.") for name in names.public()}
    for function, name in arguments.public_functions().items():
        source = names.source_of(function)
        excused = source is not None and source.parts[0] in being_written()
        if name in public and not excused and (missing := arguments.missing(function)):
            found[name] = missing
    return found


def being_written() -> set[str]:
    """The rooms that tests/test_docstrings.py still excuses."""
    path = names.ROOT / "tests" / "test_docstrings.py"
    if not path.exists():
        return set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "TO_WRITE":
            return set(ast.literal_eval(node.value))
    return set()
