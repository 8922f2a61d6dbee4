"""Which fields of a state may be kept in 8 or 4 bits: the class of each state says it of its own.

What is not declared stays as it is. A count, a factored vector, a Gram matrix, a basis, an estimate of a distance, an
average of parameters and a mean over ten thousand steps are not declared: an error of a hundredth is too much for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from jaxopt_ko.errors import StateError, describe, say

StateClass = TypeVar("StateClass", bound=type)


class Quantizable(NamedTuple):
    """What a class declares of its fields."""

    signed: tuple[str, ...]  # trees of numbers of either sign
    nonnegative: tuple[str, ...]  # trees of squares, lengths, sums of these
    divisor: str | None  # one of these
    divided: tuple[str, ...]  # fields that are divided by its root: they are read as 0 where it is

    @property
    def fields(self) -> tuple[str, ...]:
        """Those of either kind."""
        return (*self.nonnegative, *self.signed)


_DECLARED: dict[type, Quantizable] = {}
_BY_NAME: dict[str, Quantizable] = {}  # optax's states have the names of ours


def quantizable(
    *,
    signed: tuple[str, ...] = (),
    nonnegative: tuple[str, ...] = (),
    divisor: str | None = None,
    divided: tuple[str, ...] | None = None,
) -> Callable[[StateClass], StateClass]:
    """A decorator for the class of a state, a NamedTuple: which of its fields `quantized` may keep in few bits.

    signed: fields whose leaves have numbers of either sign, means of gradients; each is a tree like the parameters.
    nonnegative: fields of squares and lengths, never below 0; each is a tree like the parameters.
    divisor: one of `nonnegative` whose root divides other fields, those of `divided`. Where its code is read as 0 these
        are read as 0, too: a small mean over a root of nothing would be a step without bound. None: none does.
    divided: the fields that it divides; None: all signed ones.

    Returns a decorator: class -> the same class.
    Raises StateError, when it decorates, for a field that the class does not have.

    >>> from typing import NamedTuple
    >>> @jo.quantizable(signed=("mu",), nonnegative=("nu",), divisor="nu")
    ... class MyState(NamedTuple):
    ...     mu: object
    ...     nu: object
    """
    told = Quantizable(signed, nonnegative, divisor, (signed if divided is None else divided) if divisor else ())

    def declared(kind: StateClass) -> StateClass:
        for field in (*told.fields, *told.divided):
            if field not in getattr(kind, "_fields", ()):
                say(StateError, "quantizable", f"{kind.__name__} must be a NamedTuple with the field {field!r}",
                    describe(getattr(kind, "_fields", kind)), "Name fields that it has")  # fmt: skip
        _DECLARED[kind] = told
        if kind.__module__.startswith("jaxopt_ko."):
            _BY_NAME[kind.__name__] = told
        return kind

    return declared


def declared_by(node: Any) -> Quantizable | None:
    """What the class of a state declares; None of all else. A state of optax is what ours of the same name is."""
    kind = type(node)
    if kind in _DECLARED:
        return _DECLARED[kind]
    if not kind.__module__.startswith("optax."):
        return None
    told = _BY_NAME.get(kind.__name__)
    return told if told is not None and set(told.fields) <= set(getattr(kind, "_fields", ())) else None


def declarations() -> Mapping[type, Quantizable]:
    """All that has been declared."""
    return dict(_DECLARED)
