"""Boxes: lower <= x <= upper, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import is_complex
from jaxopt_ko.errors import TreeError, describe, describe_structure, is_number, path_of, say
from jaxopt_ko.types import Params, PyTree, Updates


def box(name: str, params: Params, bounds: tuple[PyTree, PyTree] | None) -> tuple[Array, Array]:
    """The bounds as two vectors, lower float[n] and upper float[n], in the order of `tree.ravel(params)`.

    bounds: None, or a pair (lower, upper); each is None (no bound), one number for all, or a tree like params or
    like its upper part, with None, a number or an array of the leaf's shape for each leaf. They are rounded to the
    leaf's dtype, so that a rounded parameter stays in the box.

    Raises TreeError for another structure or shape and, by the leaf's path, for bounds that are NaN or leave no
    room, and for any of complex leaves. Traced ones that do are NaN in what is returned: a run between them fails by
    its status.
    """
    low, high = check_box(name, params, bounds)
    leaves, treedef = tree.flatten(params)

    def vector(column: list[Any]) -> Array:
        full = [jnp.broadcast_to(b, np.shape(leaf)) for b, leaf in zip(column, leaves, strict=True)]
        return tree.ravel(treedef.unflatten(full))[0]

    a, b = vector(low), vector(high)
    room = (a <= b) & (a < jnp.inf) & (b > -jnp.inf)
    return jnp.where(room, a, jnp.nan), jnp.where(room, b, jnp.nan)


def check_box(name: str, params: Params, bounds: tuple[PyTree, PyTree] | None) -> tuple[list[Any], list[Any]]:
    """What `box` raises, and both sides, a bound for each leaf, a scalar or of its shape: nothing is computed."""
    lower, upper = (None, None) if bounds is None else check_bound_pair(name, bounds)
    low = _spread(name, "lower", lower, params, -np.inf)
    high = _spread(name, "upper", upper, params, np.inf)
    for index, pair in enumerate(zip(low, high, strict=True)):
        if not any(isinstance(bound, jax.core.Tracer) or is_complex(bound.dtype) for bound in pair):
            _check_interval(name, params, index, *map(np.asarray, pair))
    return low, high


def check_bound_pair(name: str, bounds: Any) -> tuple[Any, Any]:
    """Bounds come as (lower, upper)."""
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        say(TreeError, name, "bounds must be a pair (lower, upper)", describe(bounds),
            "Give each side as one number, None, or a tree like the parameters")  # fmt: skip
    return bounds[0], bounds[1]


def _check_interval(name: str, params: PyTree, index: int, low: Any, high: Any) -> None:
    """Concrete bounds of one leaf, NumPy arrays: between them there must be a number."""
    path = path_of(params, index)
    for side, bound in (("lower", low), ("upper", high)):
        if np.any(np.isnan(bound)):
            say(TreeError, name, f"the {side} bound of the leaf {path} is NaN", f"{bound}",
                "Use None or an infinity where there is no bound")  # fmt: skip
    wrong = ~((low <= high) & (low < np.inf) & (high > -np.inf))
    if np.any(wrong):
        a, b = (np.broadcast_to(side, wrong.shape)[wrong][0] for side in (low, high))
        say(TreeError, name, f"the bounds of the leaf {path} leave no room", f"lower {a}, upper {b}",
            "The lower bound must be at most the upper one; equal ones fix the parameter")  # fmt: skip


def move(problem: Any, params: Params, to: Array, lower: Array, upper: Array) -> tuple[Updates, Array]:
    """The step to add to params for P(to), `to` clipped to the box, and where it leads: params + step."""
    return step_into(problem.unravel, params, problem.x, jnp.clip(to, lower, upper), lower, upper)


def step_into(
    unravel: Callable[[Array], Params], params: Params, x: Array, to: Array, lower: Array, upper: Array
) -> tuple[Updates, Array]:
    """The step to add to params, of which x is the vector, for a point of the box, and where it leads.

    params + step is never outside for its rounding: a step that would lead there is shortened by its last digit.
    """
    step = unravel(to - x)
    at, _ = tree.ravel(apply_updates(params, step))
    back = unravel((at < lower).astype(at.dtype) - (at > upper).astype(at.dtype))
    step = jax.tree.map(lambda s, b: s + b * jnp.abs(s) * jnp.finfo(s.dtype).eps, step, back)  # type: ignore[no-untyped-call]
    return step, jnp.clip(tree.ravel(apply_updates(params, step))[0], lower, upper)


def _spread(name: str, side: str, prefix: PyTree, params: Params, none: float) -> list[Any]:
    """One bound for each leaf of params, in its dtype, a scalar or of its shape; `none` stands for None."""
    spread: list[Any] = []

    def repeat(bound: Any, part: PyTree) -> None:
        spread.extend([bound] * len(jax.tree.leaves(part)))

    try:
        jax.tree.map(repeat, prefix, params, is_leaf=tree.is_none)
    except ValueError:
        _bound_structure(name, side, prefix, params)
    for index, (bound, leaf) in enumerate(zip(spread, jax.tree.leaves(params), strict=True)):
        _check_bound(name, side, params, index, bound, np.shape(leaf))
        parts = is_complex(tree.dtype_of(leaf))
        if parts and bound is not None:
            _complex_bound(name, side, params, index, leaf)
        spread[index] = _rounded(
            (complex(none, none) if parts else none) if bound is None else bound, tree.dtype_of(leaf)
        )
    return spread


def _bound_structure(name: str, side: str, tree: PyTree, params: PyTree) -> NoReturn:
    """A side of the bounds that is no tree over the parameters."""
    got, expected = (describe_structure(jax.tree.structure(one)) for one in (tree, params))
    say(TreeError, name, f"the {side} bounds must be one number, None, or a tree like the parameters or like its "
        "upper part", got,
        f"Expected {expected}. bounds is (lower, upper), not one pair for each parameter")  # fmt: skip


def _check_bound(name: str, side: str, params: PyTree, index: int, bound: Any, shape: tuple[int, ...]) -> None:
    """The bound of one leaf: None, a number, or an array of the leaf's shape."""
    if bound is None:
        return
    if not is_number(bound):
        say(TreeError, name, f"the {side} bound of the leaf {path_of(params, index)} must be a real number or an array",
            describe(bound), "Use None or an infinity where there is no bound")  # fmt: skip
    if np.shape(bound) not in ((), shape):
        say(TreeError, name, f"the {side} bound of the leaf {path_of(params, index)} must have shape () or {shape}",
            describe(bound), "Shapes are not broadcast here but from one number: reshape the bound")  # fmt: skip


def _complex_bound(name: str, side: str, params: PyTree, index: int, leaf: Any) -> NoReturn:
    """A bound of complex numbers, which have no order."""
    say(TreeError, name, f"{side} must be None for the complex leaf {path_of(params, index)}", describe(leaf),
        "Complex numbers have no order: make their real and imaginary parts the parameters")  # fmt: skip


def _rounded(bound: Any, dtype: Any) -> Any:
    """The bound in another dtype; in NumPy unless it is an array of JAX's, so that it can be looked at."""
    if isinstance(bound, jax.Array):
        return bound if bound.dtype == dtype else bound.astype(dtype)
    with np.errstate(over="ignore"):
        return np.asarray(bound).astype(dtype)
