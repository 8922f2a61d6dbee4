"""Arguments checked by what a function's signature says of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.tree_util import tree_flatten_with_path as flatten_with_path

from jaxopt_ko.core.checks import check_axes_option, check_stack_axes, not_a_bool
from jaxopt_ko.errors import (
    HyperparameterError,
    HyperparameterTypeError,
    TransformationError,
    check_dtype,
    check_mapping,
    check_pair,
    deprecated,
    describe,
    is_number,
    say,
    spell_path,
)

P = ParamSpec("P")
T = TypeVar("T")


def options(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, which refuses arguments that are not what its signature says: see `signature_check`.

    function: with annotations kept as text (from __future__ import annotations). Switches, dtypes, shardings,
        functions, transformations, dicts and `stack_axes` are looked at, defaults are not.

    Returns a function with the same signature.
    Raises, when that is called, HyperparameterTypeError or TransformationError.

    >>> from jaxopt_ko.core.signature import options
    >>> @options
    ... def twice(x, negate: "bool" = False):
    ...     return -2 * x if negate else 2 * x
    >>> twice(3.0, negate=True)
    -6.0
    """
    check = signature_check(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        check(*args, **kwargs)
        return function(*args, **kwargs)

    return checked


def renamed(since: str, /, **words: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A function whose keywords have new words takes the old ones, too, with a DeprecationWarning.

    renamed("0.2.0", old="new"), outside of all other decorators. Its signature has the new words only.
    HyperparameterError where both are given.

    since: the first version that has the new words.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> T:
            return function(*args, **current_words(called, args, kwargs))

        called.renamed = words  # type: ignore[attr-defined]
        called.renamed_since = since  # type: ignore[attr-defined]
        return called

    return decorate


def current_words(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments by the words that a function has now: what is `renamed` warns, what is not passes."""
    words = getattr(function, "renamed", {})
    old = [word for word in kwargs if word in words]
    if not old:
        return dict(kwargs)
    name, known = function.__name__, {key: value for key, value in kwargs.items() if key not in old}
    given = {*known, *list(inspect.signature(function).parameters)[: len(args)]}
    for word in old:
        new = words[word]
        if new in given:
            say(HyperparameterError, name, f"one of {new} and {word} must be given", "both", f"Leave out {word}")
        deprecated(f"{name}({word}=…)", new, function.renamed_since)  # type: ignore[attr-defined]
        known[new] = kwargs[word]
    return known


def signature_check(function: Callable[..., Any]) -> Callable[..., None]:
    """A check of the arguments by their annotations: switches, dtypes, shardings, functions, transformations, dicts,
    pairs of hyperparameters, `stack_axes`. Numbers are looked at where their domain is known, defaults not at all."""
    name = function.__name__

    @functools.cache
    def checks() -> tuple[inspect.Signature, dict[str, tuple[Callable[..., Any], bool, Any]]]:
        """Made at the first call: hundreds of signatures would be a good part of the time of an import."""
        signature, known = inspect.signature(function), {}
        for argument, parameter in signature.parameters.items():
            annotation = str(parameter.annotation)
            check = _check_for(argument, annotation.removesuffix(" | None"))
            if check is not None and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                known[argument] = check, annotation.endswith(" | None"), parameter.default
        return signature, known

    def check_all(*args: Any, **kwargs: Any) -> None:
        signature, known = checks()
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return  # the call says so itself
        for argument, value in given.items():
            if argument in known:
                check, optional, default = known[argument]
                if value is not default and not (optional and value is None):
                    check(name, argument, value)

    return check_all


def _check_for(argument: str, annotation: str) -> Callable[[str, str, Any], Any] | None:
    """The check for an argument of this name and annotation, if there is one."""
    if argument == "stack_axes":
        return lambda name, _, value: check_stack_axes(name, value)
    if argument == "normalized" or argument.rsplit("_", maxsplit=1)[-1] == "mask":
        return _check_mask
    if argument.endswith("dimension_numbers"):
        return _check_dimension_numbers
    if annotation.startswith("Callable["):
        return _check_callable
    if annotation.startswith("Mapping["):
        return check_mapping
    return _CHECKS.get(annotation)


def _check_callable(name: str, argument: str, value: Any) -> None:
    if not callable(value):
        say(TransformationError, name, f"{argument} must be a function", describe(value),
            "Pass the function itself, not its name or its result")  # fmt: skip


def _check_sharding(name: str, argument: str, value: Any) -> None:
    if not isinstance(value, jax.sharding.Sharding):
        say(HyperparameterTypeError, name, f"{argument} must be a jax.sharding.Sharding", describe(value),
            "Give NamedSharding(mesh, PartitionSpec('data'))")  # fmt: skip


def _check_mask(name: str, argument: str, value: Any) -> None:
    """A tree of bools, or a function that makes one; which leaves it fits shows itself later."""
    if callable(value):
        return
    for path, leaf in flatten_with_path(value)[0]:
        if not isinstance(leaf, bool | np.bool_) and getattr(leaf, "dtype", None) != np.bool_:
            if path:
                not_a_bool(name, argument, spell_path(path), leaf)
            say(HyperparameterTypeError, name,
                f"{argument} must be a tree of bools, or a function that makes one of params", describe(leaf),
                "Give True for the leaves that are meant and False for the others")  # fmt: skip


def _check_dimension_numbers(name: str, argument: str, value: Any) -> None:
    """What says how a leaf is a matrix is a NamedTuple: a tree of such, None for other leaves, or a function."""
    if callable(value) or value is None:
        return
    for leaf in jax.tree.leaves(value, is_leaf=lambda x: hasattr(x, "_fields")):
        if not hasattr(leaf, "_fields"):
            say(HyperparameterTypeError, name, f"{argument} must be a tree of dimension numbers, or a function that "
                "makes one of params", describe(leaf),
                "Give MuonDimensionNumbers(reduction_axis, output_axis), None for "
                "the leaves that are no matrices")  # fmt: skip


def _check_kind_of_state(name: str, argument: str, value: Any) -> None:
    if not isinstance(value, type) or not hasattr(value, "_fields"):
        say(HyperparameterTypeError, name, f"{argument} must be a NamedTuple class", describe(value),
            "Write class MyState(NamedTuple): ...")  # fmt: skip


def _check_places(name: str, argument: str, value: Any) -> None:
    kind = str if argument == "argnames" else int
    places = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    if not all(isinstance(place, kind) and not isinstance(place, bool) for place in places):
        say(HyperparameterTypeError, name, f"{argument} must be of the type {kind.__name__}, or several such",
            describe(value), "Give the places of arguments as integers, or their names as strings")  # fmt: skip


def _check_switch(name: str, argument: str, value: Any) -> None:
    """An option that is on or off when the program is made."""
    known = isinstance(value, bool | np.bool_)
    if not known and isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        known = value.dtype == np.bool_ and value.shape == ()
    if not known:
        say(HyperparameterTypeError, name, f"{argument} must be True or False", describe(value),
            "It decides which program is made, so it cannot be traced")  # fmt: skip


def _check_float(name: str, argument: str, value: Any) -> None:
    if not is_number(value) or np.shape(value) != ():
        say(HyperparameterTypeError, name, f"{argument} must be one number", describe(value))


def _check_pair_of_hypers(name: str, argument: str, value: Any) -> None:
    if not isinstance(value, tuple | list) or len(value) != 2:
        say(HyperparameterTypeError, name, f"{argument} must be two hyperparameters", describe(value),
            f"Write {argument}=(0.9, 0.999)")  # fmt: skip


_CHECKS: dict[str, Callable[[str, str, Any], Any]] = {
    "bool": _check_switch,
    "DType": check_dtype,
    "float": _check_float,
    "tuple[Hyper, Hyper]": _check_pair_of_hypers,
    "jax.sharding.Sharding": _check_sharding,
    "GradientTransformation": functools.partial(check_pair, lands=True),  # the function itself says if it may
    "Axes": check_axes_option,
    "Axis": check_axes_option,
    "int | tuple[int, ...]": check_axes_option,
    "type": _check_kind_of_state,
    "Function": _check_callable,
    "int | Sequence[int]": _check_places,
    "str | Sequence[str]": _check_places,
}
