"""The smallest transformations: the identity, and functions without memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.hyperparameters import as_state
from jaxopt_ko.core.method import Method, make_transformation
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.types import EmptyState, GradientTransformation, Params, State, Updates


def identity() -> GradientTransformation:
    """Updates unchanged.

    u = g

    No state, no arguments. Raises StateError, in update, for a state that is not its own. Source: optax's identity. Not
    for leaves that are to stay where they are: that is `set_to_zero`, as the identity would add the gradient.

    >>> tx = jo.identity()
    >>> tx.init(jnp.ones(2))
    EmptyState()
    """

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        as_state("identity", state, EmptyState)
        return updates, state

    return make_transformation(Method("identity", passes=True), init_empty_state, update)


def init_empty_state(params: Params) -> EmptyState:
    """The init of a rule that remembers nothing.

    params: the parameters, a tree of floating arrays; they are not looked at.

    Returns EmptyState(), a node without leaves. Raises nothing. Source: optax's init_empty_state. Not for a rule with
    memory, and not needed with `leafwise`, which makes the state itself.

    >>> jo.init_empty_state({"w": jnp.ones(2)})
    EmptyState()
    """
    return EmptyState()


@options
def stateless(f: Callable[[Updates, Params | None], Updates]) -> GradientTransformation:
    """A rule without memory on whole trees.

    u = f(g, p)

    f: a function (updates, params) -> updates; params is None where update gets none. It may change shapes (a mean over
        the batch, say).

    No state. Raises TransformationError if f is no function; StateError, in update, for a state of another rule.
    Source: optax's stateless. Not where shapes and structure of what f returns are to be checked: use `transform`.

    >>> tx = jo.stateless(lambda g, p: jax.tree.map(lambda x: 2 * x, g))
    >>> tx.update(jnp.array([1.0, -1.0]), tx.init(None))[0].tolist()
    [2.0, -2.0]
    """

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        as_state("stateless", state, EmptyState)
        return f(updates, params), state

    return make_transformation("stateless", init_empty_state, update)


@options
def stateless_with_tree_map(f: Callable[[jax.Array, jax.Array | None], jax.Array]) -> GradientTransformation:
    """A rule without memory for one array, run leaf by leaf.

    u = f(g, p) for every leaf

    f: a function of two arrays (gradient, parameter) -> update, of the gradient's shape; the parameter is None where
        update gets no params.

    No state. Raises TransformationError if f is no function; TreeError, when traced, if params differ from the
    gradients in structure or shape. Source: optax's stateless_with_tree_map. Not for a rule that looks at several
    leaves: `stateless`; nor, with hyperparameters, in the place of `leafwise`, which checks them and compiles leaves of
    one shape once.

    >>> tx = jo.stateless_with_tree_map(lambda g, p: g + 0.1 * p)
    >>> params = jnp.array([1.0, 2.0])
    >>> updates, _ = tx.update(jnp.zeros(2), tx.init(params), params)
    """

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        if params is None:
            return jax.tree.map(lambda g: f(g, None), updates), state
        check_same_trees("stateless_with_tree_map", "gradients", updates, "params", params)
        return jax.tree.map(f, updates, params), state

    return transform("stateless_with_tree_map", init_empty_state, update, state_type=EmptyState)
