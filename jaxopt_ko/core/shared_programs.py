"""What makes two rules share a compiled program: an explicit key."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import jax

from jaxopt_ko.core.method import captured_values, is_plain

# ---- from a rule for one array --------------------------------------------------------------------------


class KeyedFunction:
    """A function of one leaf; one of this package's equals any other made by the same code over the same options.

    Optimizers are made anew all the time (a sweep, a traced learning rate), and equal rules share their compilation.
    A user's own rule equals itself alone: what its code refers to may change. A rule that holds an array, a tracer or
    anything else that is no plain option has no key: what is compiled for it is kept with it and goes with it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.key = _key(function) if is_plain(function) else None
        try:
            hash(self.key)
        except TypeError:  # a dict among its options
            self.key = None

    def __hash__(self) -> int:
        return id(self) if self.key is None else hash(self.key)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyedFunction) or self.key is None or other.key is None:
            return self is other
        return bool(self.key == other.key)


def _key(x: Any) -> Any:
    """Of plain things: equal where they do the same."""
    if isinstance(x, types.FunctionType) and (x.__module__ or "").startswith("jaxopt_ko."):
        return x.__module__, x.__code__, tuple(map(_key, captured_values(x)))
    return type(x), x


def shared_by_key(make: Callable[..., Any]) -> Callable[..., Any]:
    """make(*rules, …) once for equal rules that have a key; anew for others."""
    remembered = functools.lru_cache(maxsize=4096)(make)

    @functools.wraps(make)
    def made(*args: Any) -> Any:
        rules = [x for x in jax.tree.leaves(args) if isinstance(x, KeyedFunction)]
        return (make if any(rule.key is None for rule in rules) else remembered)(*args)

    return made
