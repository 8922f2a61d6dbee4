"""Leafwise rules in a row on one leaf: one jitted function, which leaves of one shape share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_room, have_equal_shapes
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leaf_rule import Constants, Memory
from jaxopt_ko.core.numerics import is_complex, mixing, narrowed, real_dtype
from jaxopt_ko.core.shared_programs import KeyedFunction, shared_by_key
from jaxopt_ko.errors import TreeError, describe, say


@shared_by_key
def leaf_function(rules: tuple[tuple[str, KeyedFunction, tuple[bool, ...]], ...]) -> Callable[..., Any]:
    """All rules on one leaf, jitted: compute in float32 at least, store in each array's own dtype.

    rules: (name, rule, which of its arrays of memory are squares) each.
    """

    def leaf(
        table: jax.Array | tuple[jax.Array, ...] | None,  # float[k] or k float[]: the floating scalars that vary
        exact: tuple[dict[str, jax.Array], ...],  # the scalars that are no floating numbers, rule by rule
        g: jax.Array,
        p: jax.Array | None,
        fields: Memory,
        *,
        names: tuple[Constants, ...],  # of the floating scalars, rule by rule
        stacks: tuple[int, ...],  # how many leading axes are stacks, rule by rule
        out: np.dtype[Any],
    ) -> tuple[jax.Array, Memory]:
        wide = tree.compute_dtype(out, g.dtype, *(f.dtype for f in jax.tree.leaves(fields)))
        real = real_dtype(wide)  # itself, where no leaf is complex
        entries = iter(jax.tree.map(lambda x: x.astype(real), () if table is None else table))

        def widen(x: jax.Array) -> jax.Array:
            if is_complex(x.dtype):
                return x.astype(wide)
            return x.astype(real) if jnp.issubdtype(x.dtype, jnp.floating) else x

        def read(x: jax.Array, square: bool) -> jax.Array:
            return jax.tree.map(lambda x: jnp.real(widen(x)) if square else widen(x), x)  # type: ignore[no-any-return]

        u, rest, stored = widen(g), list(fields), []
        for (name, rule, squares), keys, own, stack in zip(rules, names, exact, stacks, strict=True):
            mine, rest = rest[: len(squares)], rest[len(squares) :]
            h = Scalars(**{k: next(entries) if v is None else np.asarray(v, real)[()] for k, v in keys}, **own)
            apply = rule.function if not stack else _stacked(rule.function, stack)
            with mixing(wide), np.errstate(all="ignore"):  # constants among themselves are NumPy's, as XLA has them
                result = apply(u, None if p is None else widen(p), *map(read, mine, squares), h)
            u, *new = result if isinstance(result, tuple) else (result,)
            went_in, came_out = [g, *mine], [u, *new]
            if not have_equal_shapes(went_in, came_out):
                _rule_shapes(name, jax.tree.leaves(went_in), jax.tree.leaves(came_out))
            stored += jax.tree.map(functools.partial(_stored, name), mine, new)
        return narrowed(u, out), tuple(stored)

    return jax.jit(leaf, static_argnames=("names", "stacks", "out"))


def _rule_shapes(name: str, went_in: Sequence[Any], came_out: Sequence[Any]) -> NoReturn:
    """A leafwise rule whose step or memory changed its shape."""
    say(TreeError, name, f"the rule must return a step and memory shaped {', '.join(map(describe, went_in))}",
        ", ".join(map(describe, came_out)), "Return (step, *memory), each in the shape it came in")  # fmt: skip


def _stored(name: str, was: jax.Array, now: jax.Array) -> jax.Array:
    check_room(name, "the memory of a leaf", was, now)
    return now.astype(was.dtype)


def _stacked(rule: Callable[..., Any], stack: int) -> Callable[..., Any]:
    """The rule on each of the leaves that the first `stack` axes count; they share h."""

    def apply(*args: Any) -> Any:
        *of_leaf, h = args
        one: Callable[..., Any] = lambda *of_leaf: rule(*of_leaf, h)  # noqa: E731
        for _ in range(stack):
            one = jax.vmap(one)
        return one(*of_leaf)

    return apply
