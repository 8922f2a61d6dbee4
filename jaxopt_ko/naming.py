"""Public names: what is on a module's face says that it lives there, as pickles, `help` and error messages do."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any


def published(module: str, namespace: Mapping[str, Any], names: Iterable[str]) -> None:
    """Classes and functions of `names` get `module` for their `__module__`, and so outlive the files they are in.

    Their annotations are read first, in the module that they were written in. An alias keeps the name it was given.
    """
    for name in names:
        thing = namespace[name]
        if not isinstance(thing, type | types.FunctionType) or namespace.get(thing.__qualname__) is not thing:
            continue
        if isinstance(thing, type) and thing.__module__ != module:
            own, hints = vars(thing).get("__annotations__", {}), typing.get_type_hints(thing, include_extras=True)
            own.update({field: hints[field] for field in own})
        thing.__module__ = module
