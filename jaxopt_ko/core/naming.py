"""Public names: what is on a module's face says that it lives there, as pickles, `help` and error messages do.

Rooms that are imported when one of their names is asked for; what a name that is not there was meant to be.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
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


def suggests(module: str, namespace: dict[str, Any]) -> None:
    """A name that is not there is refused with the one that was meant, unless the module has its own `__getattr__`.

    It is not written in the module's source: a type checker would take every name for one that is there.
    """
    namespace.setdefault("__getattr__", functools.partial(no_such_name, module))


def late(
    package: str, namespace: dict[str, Any], rooms: Mapping[str, Iterable[str]], paths: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` (PEP 562) of a face whose rooms are imported when one of their names is asked for.

    rooms: room, or a module of one -> its names on the face.
    paths: public module -> where it stands, {"debug": "analysis.debug"}; `import package.debug` is answered as well.
    """
    homes = {name: room for room, names in rooms.items() for name in names}
    modules = {**{room: room for room in rooms if "." not in room}, **paths}
    elsewhere = {f"{package}.{path}": f"{package}.{home}" for path, home in paths.items() if path != home}
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "package", None) != package]
    sys.meta_path.append(_Elsewhere(package, elsewhere))

    def attribute(name: str) -> Any:
        if name in modules:
            thing = importlib.import_module(f"{package}.{modules[name]}")
        elif name in homes:
            thing = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        else:
            no_such_name(package, name)
        namespace[name] = thing
        return thing

    return attribute, lambda: sorted({*namespace, *homes, *modules})


class _Elsewhere(MetaPathFinder, Loader):
    """Finds a module by its public path, where it stands in a room that has not been imported yet."""

    def __init__(self, package: str, homes: Mapping[str, str]) -> None:
        self.package, self.homes = package, homes

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Of the paths that are known here, and of no other."""
        return ModuleSpec(fullname, self) if fullname in self.homes else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """The module itself, imported from where it stands."""
        module = importlib.import_module(self.homes[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Its spec, which the import system has replaced by that of the public path, is put back."""
        module.__spec__ = getattr(module.__spec__, "loader_state", None)


def of_the_face(module: str, name: str, names: Collection[str]) -> Any:
    """What a module's `__getattr__` (PEP 562) gives for one of `names`: the object of the package's face.

    It is asked when the whole package has been imported. Raises AttributeError for any other name.
    """
    if name not in names:
        no_such_name(module, name)
    return getattr(importlib.import_module(module.partition(".")[0]), name)


def no_such_name(module: str, name: str) -> NoReturn:
    """Raises AttributeError: what `hasattr` and `from module import name` expect. It says which name was meant."""
    meant = "" if name.startswith("_") else nearest(name, _offered(sys.modules[module]))
    advice = f"dir({module}) lists those that there are"
    try:
        say(AttributeError, module, f"there is no name {name!r}", None, f"{meant}{advice}")
    except AttributeError as error:
        error.name = name  # and no obj, or Python 3.12 would put a hint of its own behind ours
        raise


def _offered(module: types.ModuleType) -> list[str]:
    """The names of a module that are meant for others."""
    own = [name for name, thing in vars(module).items() if not isinstance(thing, types.ModuleType)]
    return list(vars(module).get("__all__", own))


def nearest(name: str, names: Iterable[str]) -> str:
    """`Did you mean adam? ` for adm."""
    import difflib  # noqa: PLC0415  # an import takes milliseconds, and most programs never need it

    lowered: dict[str, str] = {}
    for known in names:
        if not known.startswith("_") and lowered.get(known.lower()) != known.lower():
            lowered[known.lower()] = known
    meant = [lowered[known] for known in difflib.get_close_matches(name.lower(), lowered, n=1)]
    return f"Did you mean {meant[0]}? " if meant else ""


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
        suggests(f"{package}.{path}", vars(module))
