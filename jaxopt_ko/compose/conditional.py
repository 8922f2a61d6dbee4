"""A step of a transformation that is taken or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_carry, check_same_trees
from jaxopt_ko.core.method import name_of
from jaxopt_ko.types import DType, GradientTransformation, Params, PyTree, State, Updates


def run_if(
    condition: Any, inner: GradientTransformation, g: Updates, state: State, p: Params, extra: Any, otherwise: Updates
) -> tuple[Updates, State]:
    """One step of `inner` if the condition holds, else `otherwise` and the state as it was; only one of them runs.

    condition: bool[]. Under jax.vmap both run and each lane takes its own. The steps take the dtypes of `otherwise`.
    g, p, state: the gradients, the parameters and the inner state, as of `inner.update`; extra: its keyword arguments.
    """

    def take() -> tuple[Updates, State]:
        steps, new = inner.update(g, state, p, **extra)
        check_same_trees(name_of(inner), "updates", steps, "gradients", g)
        check_carry(name_of(inner), state, new)
        return jax.tree.map(lambda u, o: _cast(u, o.dtype), steps, otherwise), new

    result: tuple[Updates, State] = either(condition, take, lambda: (otherwise, state))
    return result


def either(condition: Any, yes: Callable[[], PyTree], no: Callable[[], PyTree]) -> PyTree:
    """`lax.cond`; where the condition is known, step by step, the one function alone, with nothing to compile.

    yes, no: functions without arguments that return trees of one structure, shapes and dtypes.
    """
    if isinstance(condition, jax.core.Tracer):
        return jax.lax.cond(condition, yes, no)
    return yes() if condition else no()


def as_steps(values: Updates, g: Updates, p: Params, lands: DType | None = None) -> Updates:
    """Values like the gradients, in the dtypes that steps have: those that hold gradient and parameter both.

    values: a tree like g. g, p: the gradients, and the parameters or None.
    lands: of a method whose steps lead exactly to numbers of 16 bits (`Method.lands`), their dtype, held as well.
    """
    held = () if lands is None else (lands,)
    beside = (p,) if p is not None and tree.structure(p) == tree.structure(g) else ()

    def leaf(v: Any, *own: Any) -> Any:
        return _cast(v, tree.common_dtype(*map(tree.dtype_of, own), *held)) if tree.is_floating(own[0]) else v

    return jax.tree.map(leaf, values, g, *beside)


def _cast(x: Any, dtype: DType) -> Any:
    """An array in another dtype; what is no floating number as it is."""
    return jnp.asarray(x).astype(dtype) if tree.is_floating(x) else x


def no_steps(g: Updates, p: Params, lands: DType | None = None) -> Updates:
    """Zeros, as the steps of `as_steps` for the gradients g and the parameters p; lands: as there."""
    return as_steps(jax.tree.map(jnp.zeros_like, g), g, p, lands)
