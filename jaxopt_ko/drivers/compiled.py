"""Programs compiled once for every setting, and the functions that they are made from, as functions of arrays alone."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxopt_ko.core.method import is_plain
from jaxopt_ko.types import Params, PyTree


def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(setting, *arrays)`, compiled once for every hashable setting: a second run compiles nothing.

    What is no array among the arrays (a string, a function) is part of the setting. What is compiled for a function
    that holds arrays, or anything else that is not plain, goes when that function goes.
    """

    @functools.partial(jax.jit, static_argnums=(0, 1))  # before jax 0.8.1 jit must be given its function
    def compiled(setting: Any, others: Others, arrays: list[Any]) -> Any:
        return function(setting, *others.filled(arrays))

    programs: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()

    def run(setting: Any, *arguments: Any) -> Any:
        leaves, treedef = jax.tree.flatten(arguments)
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        others = Others(tuple(_ARRAY if _is_array(leaf) else leaf for leaf in leaves), treedef)
        try:
            hash((setting, others))
        except TypeError:
            return function(setting, *arguments)
        parts, structure = jax.tree.flatten((setting, others.leaves), is_leaf=callable)
        held = [None if is_plain(part) else part for part in parts]
        owner = next((_owner(part) for part in held if part is not None), None)
        try:
            kept = None if owner is None else programs.setdefault(owner, {})
            refs = tuple(part if no is None else _weak(part) for part, no in zip(parts, held, strict=True))
        except TypeError:  # no weak reference can be had
            kept = None
        if kept is None:
            return compiled(setting, others, arrays)
        key = refs, structure, treedef
        if key not in kept:

            def program(arrays: list[Any]) -> Any:
                alive = [part() if isinstance(part, weakref.ref) else part for part in refs]
                setting, leaves = jax.tree.unflatten(structure, alive)
                return function(setting, *Others(leaves, treedef).filled(arrays))

            kept[key] = jax.jit(program)
        return kept[key](arrays)

    return run


def _owner(part: Any) -> Any:
    """The object whose end is that of a function: itself, or whose method it is."""
    return getattr(part, "__self__", part)


def _weak(part: Any) -> Any:
    return weakref.WeakMethod(part) if hasattr(part, "__self__") else weakref.ref(part)


class Others(NamedTuple):
    """What is no array among some arguments."""

    leaves: tuple[Any, ...]
    treedef: Any

    def filled(self, arrays: Sequence[Any]) -> Any:
        """The arguments again, with these arrays."""
        rest = iter(arrays)
        leaves = [next(rest) if leaf is _ARRAY else leaf for leaf in self.leaves]
        return self.treedef.unflatten(leaves)


class _Array:
    """Stands where an array was."""


_ARRAY = _Array()


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.kind not in "OSUMm"  # objects, strings and dates
    return isinstance(leaf, jax.Array | int | float | complex) and not isinstance(leaf, bool)


Functions = Mapping[str, Callable[..., Any] | None]  # of (params, *args)


def of_arrays(functions: Functions, args: tuple[Any, ...]) -> tuple[Functions, tuple[Any, ...]]:
    """The functions of (params, *args) and args without what is no array, such as a string: that is a constant."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(args)
    if all(_is_array(leaf) or isinstance(leaf, bool) for leaf in leaves):
        return functions, args
    constant = [None if _is_array(leaf) else leaf for leaf in leaves]

    def with_constants(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(params: Params, *arrays: Any) -> Any:
            rest = iter(arrays)
            return function(params, *treedef.unflatten(next(rest) if c is None else c for c in constant))

        return call

    arrays = tuple(leaf for leaf in leaves if _is_array(leaf))
    return {name: f and with_constants(f) for name, f in functions.items()}, arrays


def closure_convert(
    functions: Functions, params: Params, args: tuple[Any, ...]
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """The functions and `args`, with every tracer that they close over among the args.

    The derivative may be asked for later, when this trace is over.
    """
    converted: dict[str, Any] = {}
    whole = args
    for name, function in functions.items():
        if function is None:
            converted[name] = None
            continue
        converted[name], foreign = _converted(function, params, args, len(whole))
        whole = (*whole, *foreign)
    return converted, whole


def _converted(
    function: Callable[..., Any], params: Params, args: tuple[Any, ...], begin: int
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """`function` as one that finds the tracers it closes over among its args from number `begin` on; and these."""
    closed, shape = jax.make_jaxpr(function, return_shape=True)(params, *args)
    own = [not isinstance(c, jax.core.Tracer) for c in closed.consts]
    foreign = tuple(c for c, mine in zip(closed.consts, own, strict=True) if not mine)

    def converted(params: Params, *whole: Any) -> Any:
        given, rest = whole[: len(args)], iter(whole[begin : begin + len(foreign)])
        consts = [c if mine else next(rest) for c, mine in zip(closed.consts, own, strict=True)]
        call = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))
        return jax.tree.unflatten(jax.tree.structure(shape), call(*jax.tree.leaves((params, *given))))

    return converted, foreign


def drop_weak_types(params: Params) -> Params:
    """Params whose weak types (`jnp.full(n, 0.5)`) are made plain: they would be compiled for once more."""

    def plain(leaf: Any) -> Any:
        weak = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.aval.weak_type
        return np.asarray(leaf) if weak else leaf

    return jax.tree.map(plain, params)


def frozen(x: PyTree) -> PyTree:
    """Without derivatives."""
    return jax.tree.map(jax.lax.stop_gradient, x)
