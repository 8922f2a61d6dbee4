"""What is public, where it stands, and under which name it is explained."""

from __future__ import annotations

import ast
import functools
import inspect
import types
from pathlib import Path
from typing import Any, NamedTuple

import jaxopt_ko as jo

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "jaxopt_ko"
BY_FILE = ("optimizers", "solvers", "transforms", "wrappers")  # rooms of which each file is a page of its own


class Name(NamedTuple):
    """A public name."""

    path: str  # "jaxopt_ko.losses.huber_loss"
    thing: Any
    same_as: str  # the path under which it is explained, "" if that is this one

    @property
    def short(self) -> str:
        """As a user writes it."""
        return self.path.replace("jaxopt_ko", "jo", 1)


def _own(module: types.ModuleType) -> list[str]:
    """The names that a module without __all__ has for others: what it defines itself."""
    path = f"jaxopt_ko.{module.__name__.rpartition('.')[2]}"
    homes = {module.__name__, path, "jaxopt_ko.loop" if module is jo.loop else path}
    found = [name for name, thing in vars(module).items() if getattr(thing, "__module__", None) in homes]
    found += [name for name, thing in vars(module).items() if name.isupper() and isinstance(thing, dict)]
    return [name for name in found if not name.startswith("_") and not hasattr(vars(module)[name], "__bound__")]


@functools.cache
def public() -> dict[str, Name]:
    """Every public name by its path, the face first."""
    found: dict[str, Name] = {}
    first: dict[int, str] = {}

    def add(path: str, thing: Any) -> None:
        if isinstance(thing, types.ModuleType):
            return
        unique = not isinstance(thing, int | float | str | tuple | frozenset)  # of those, equal ones are one object
        same = first.get(id(thing), "") if unique else ""
        found[path] = Name(path, thing, same)
        if not same and unique:
            first[id(thing)] = path

    for name in jo.__all__:
        add(f"jaxopt_ko.{name}", getattr(jo, name))
    for name in jo.__all__:
        room = getattr(jo, name)
        if isinstance(room, types.ModuleType):
            more = _own(room) if room is jo.types else []
            for own in dict.fromkeys([*(getattr(room, "__all__", None) or _own(room)), *more]):
                add(f"jaxopt_ko.{name}.{own}", getattr(room, own))
    return found


@functools.cache
def modules() -> dict[str, types.ModuleType]:
    """The public modules by the name that the face gives them."""
    return {name: getattr(jo, name) for name in jo.__all__ if isinstance(getattr(jo, name), types.ModuleType)}


@functools.cache
def classes() -> dict[str, tuple[Path, str]]:
    """Every class of the package by its name: the file, from the package on, and its source.

    A public class says that it lives on the face, so that Python looks for its source there.
    """
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
                found.setdefault(node.name, (path.relative_to(PACKAGE), "\n".join(lines)))
    return found


def source_of(thing: Any) -> Path | None:
    """The file in which it is written, from the package on."""
    if inspect.isclass(thing):
        return classes().get(thing.__name__, (None, ""))[0]
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(getattr(thing, "fun", thing))) or "")
    except TypeError:
        return None
    return path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else None


def page_of(name: Name) -> str:
    """The page of the API, without its ending: "optimizers/adam", "losses"."""
    source = source_of(name.thing)
    if source is None:
        parts = name.path.split(".")
        home = modules()[parts[1]].__file__ if len(parts) == 3 else None
        source = Path(home).relative_to(PACKAGE) if home else Path("types.py")
    room = source.parts[0].removesuffix(".py")
    if room == "states" or name.path.startswith("jaxopt_ko.states."):
        return "states"
    if room == "analysis":
        return f"analysis/{source.parts[1].removesuffix('.py')}"
    if room in BY_FILE and len(source.parts) > 1:
        part = source.parts[1].removesuffix(".py")
        return f"{room}/{'shared' if part == '__init__' else part}"
    return room


@functools.cache
def targets() -> dict[str, str]:
    """What may stand between backticks -> the path under which it is explained."""
    found: dict[str, str] = {}
    for name in public().values():
        where = name.same_as or name.path
        found.setdefault(name.path, where)
        found.setdefault(name.path.removeprefix("jaxopt_ko."), where)
    for name, module in modules().items():
        found.setdefault(name, f"jaxopt_ko.{name}")
        found.setdefault(module.__name__, f"jaxopt_ko.{name}")
    for name in list(found):
        found.setdefault(f"jo.{name}", found[name])
    return found
