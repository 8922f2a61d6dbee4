"""Public names: what is on a module's face says that it lives there, as pickles, `help` and error messages do."""

from __future__ import annotations

import importlib
import sys
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn

from jaxopt_ko.errors import say


def published(module: str, namespace: Mapping[str, Any], names: Iterable[str]) -> None:
    """Classes and functions of `names` get `module` for their `__module__`, and so outlive the files they are in.

    Their annotations are read first, in the module that they were written in. An alias keeps the name it was given.

    module: the name of the public module.
    namespace: its names and what they stand for, vars(module) say.
    names: those that are public; what is no class or function is left as it is.

    Returns nothing: the classes and functions are changed.
    Raises KeyError for a name that is not in the namespace.

    >>> from jaxopt_ko.core.naming import published
    >>> class Mine: pass
    >>> published("my_package", {"Mine": Mine}, ["Mine"])
    >>> Mine.__module__
    'my_package'
    """
    for name in names:
        thing = namespace[name]
        if not isinstance(thing, type | types.FunctionType) or namespace.get(thing.__qualname__) is not thing:
            continue
        if isinstance(thing, type) and thing.__module__ != module:
            own, hints = vars(thing).get("__annotations__", {}), typing.get_type_hints(thing, include_extras=True)
            own.update({field: hints[field] for field in own})
        thing.__module__ = module


def of_the_face(module: str, name: str, names: Collection[str]) -> Any:
    """What a module's `__getattr__` (PEP 562) gives for one of `names`: the object of the package's face.

    It is asked when the whole package has been imported. Raises AttributeError for any other name.
    """
    if name not in names:
        no_such_name(module, name)
    return getattr(importlib.import_module(module.partition(".")[0]), name)


def no_such_name(module: str, name: str) -> NoReturn:
    """Raises AttributeError: what `hasattr` and `from module import name` expect."""
    say(AttributeError, module, f"there is no name {name!r}", None, f"dir({module}) lists those that there are")


def answers_at(package: str, paths: Mapping[str, types.ModuleType]) -> None:
    """Each module answers to an import from `package.path` as well: to the public path that it had before it moved.

    What it defines for others says that it lives there: pickles and programs written for that path go on working.
    """
    for path, module in paths.items():
        sys.modules[f"{package}.{path}"] = module
        names = getattr(module, "__all__", None)
        if names is None:
            own = ((name, getattr(thing, "__module__", None)) for name, thing in vars(module).items())
            names = [name for name, home in own if home == module.__name__ and not name.startswith("_")]
        published(f"{package}.{path}", vars(module), names)
