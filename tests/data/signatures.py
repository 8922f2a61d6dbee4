"""The signatures of all public names, one a line: `python tests/data/signatures.py` writes signatures.txt anew.

A renamed keyword, another default, another order or a name that is gone breaks programs: the difference of the two
files is what a release note has to say.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".txt")


def signatures(package: Any) -> list[str]:
    """Of the face, and of what its modules have beside it."""
    lines = [f"{name}{_shown(getattr(package, name))}" for name in package.__all__]
    for name in package.__all__:
        if isinstance(room := getattr(package, name), types.ModuleType):
            lines += [f"{name}.{own}{_shown(thing)}" for own, thing in _own(f"{package.__name__}.{name}", room)]
    return sorted(lines)


def _own(path: str, room: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module itself defines for others, at its public path."""
    for name in vars(room) if path.endswith(".types") else getattr(room, "__all__", vars(room)):
        thing = getattr(room, name)
        known = isinstance(thing, type | types.FunctionType) and not name.startswith("_")
        if known and f"{thing.__module__}.".startswith(f"{path}."):
            yield name, thing


def _shown(thing: Any) -> str:
    if isinstance(thing, types.ModuleType):
        return ": a module"
    if isinstance(thing, type) and issubclass(thing, enum.Enum):
        return f": {', '.join(member.name for member in thing)}"
    if not callable(thing) or not isinstance(thing, type | types.FunctionType):
        return f": {type(thing).__name__}"
    if isinstance(thing, type) and issubclass(thing, BaseException):
        return f": {', '.join(base.__name__ for base in thing.__bases__)}"
    parameters = [p.replace(annotation=p.empty, default=_named(p.default)) for p in _parameters(thing)]
    return str(inspect.Signature(parameters))


def _parameters(thing: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(thing).parameters.values())
    except ValueError:  # a class without a constructor of its own
        return []


class _Named:
    """A default that is shown by its name: a function or a method, whose address says nothing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def _named(default: Any) -> Any:
    if isinstance(default, tuple) and hasattr(default, "update"):  # a transformation
        return _Named(f"{default.update!r}()")
    if default is inspect.Parameter.empty or not (callable(default) and hasattr(default, "__qualname__")):
        return default
    return _Named(default.__qualname__)


if __name__ == "__main__":
    import jaxopt_ko

    FILE.write_text("\n".join(signatures(jaxopt_ko)) + "\n", encoding="utf-8")
