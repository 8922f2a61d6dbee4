"""Steps uphill: an optimizer that maximizes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax

from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.method import Method, make_transformation, method_of, name_of
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import TransformationError, say
from jaxopt_ko.solvers.engine.nested_line_searches import ScaleByBacktrackingLinesearchState, ScaleByZoomLinesearchState
from jaxopt_ko.types import GradientTransformation, Params, PyTree, State, Updates


@options
def maximize(tx: GradientTransformation) -> GradientTransformation:
    """An optimizer that goes up, as torch's maximize=True.

    p <- p + u(-g)        so for sgd(lr) p + lr g; weight decay and bounds act on p as they do on the way down

    tx: a whole optimizer, ours or optax's.

    Give update the gradient of the function itself, and also its own value, grad, value_fn, obj_fn and grad_fn where
    tx reads them: all change their sign on the way to tx. Arguments of tx that are values of the function, such as
    polyak_sgd's f_min, are values of the negated function. The state is that of tx; a line search keeps value and
    grad of the function itself there, for `value_and_grad_from_state`.

    Raises TransformationError if tx is no transformation, or, when traced, for a residual_fn: a sum of squares is
    minimized. Source: torch's maximize. Not with a driver, which goes down: for `minimize`, negate the function; and
    not around a part of an optimizer alone.

    >>> sides = {"generator": jo.adam(1e-4), "critic": jo.maximize(jo.rmsprop(1e-4))}
    >>> tx = jo.partition(sides, {"g": "generator", "c": "critic"})
    >>> state = tx.init({"g": jnp.ones(2), "c": jnp.ones(2)})
    """
    inner = as_transformation("maximize", "tx", tx, lands=True)
    name = f"maximize({name_of(inner)})"

    def init(params: Params, **problem: Any) -> State:
        return _searches_turned(inner.init(params, **_turned(name, problem)))

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        steps, new = inner.update(_negated(updates), _searches_turned(state), params, **_turned(name, extra))
        return steps, _searches_turned(new)

    return make_transformation(Method(name, ascends=True, lands=method_of(inner).lands), init, update)


def _negated(values: PyTree) -> PyTree:
    """-x of every number that is differentiated; counters, keys and the like as they are."""
    return jax.tree.map(lambda x: -x if tree.is_floating(x) else x, values)


def _turned(name: str, extra_args: Mapping[str, Any]) -> dict[str, Any]:
    """The extra arguments that belong to the function, as those of its negative."""
    if "residual_fn" in extra_args:
        _not_maximized(name)
    known = {key: word for key, word in extra_args.items() if key in SIGNED and word is not None}
    return {**extra_args, **{key: SIGNED[key](word) for key, word in known.items()}}


def _not_maximized(name: str) -> NoReturn:
    """A sum of squares has a smallest value only."""
    say(TransformationError, name, "the sum of squares of a residual_fn is minimized, not maximized", None,
        "Use the method itself")  # fmt: skip


def _negated_values(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)  # its signature says which arguments it takes
    def negative(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return (-result[0], *result[1:]) if isinstance(result, tuple) else -result  # (value, aux), or the value

    return negative


def _negated_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.wraps(function)(lambda *args, **kwargs: _negated(function(*args, **kwargs)))


SIGNED: dict[str, Callable[[Any], Any]] = {  # arguments of the function -> those of its negative
    "value": operator.neg,
    "grad": _negated,
    "value_fn": _negated_values,
    "obj_fn": _negated_values,
    "grad_fn": _negated_gradients,
}


def _searches_turned(state: State) -> State:
    """The state with the other sign for the value and gradient that line searches keep in it."""
    kinds = (ScaleByZoomLinesearchState, ScaleByBacktrackingLinesearchState)

    def turned(node: Any) -> Any:
        return node._replace(value=_negated(node.value), grad=_negated(node.grad)) if isinstance(node, kinds) else node

    return jax.tree.map(turned, state, is_leaf=lambda node: isinstance(node, kinds))
