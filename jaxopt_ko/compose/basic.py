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
    """Updates unchanged."""

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        as_state("identity", state, EmptyState)
        return updates, state

    return make_transformation(Method("identity", passes=True), init_empty_state, update)


def init_empty_state(params: Params) -> EmptyState:
    """The init of a rule that remembers nothing.

    params: the parameters, a tree of floating arrays.
    """
    return EmptyState()


@options
def stateless(f: Callable[[Updates, Params | None], Updates]) -> GradientTransformation:
    """A rule without memory: u = f(g, p), on whole trees; f gets None for the params where none are given.

    f may change shapes (a mean over the batch, say); to have them checked, use `transform`.
    """

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        as_state("stateless", state, EmptyState)
        return f(updates, params), state

    return make_transformation("stateless", init_empty_state, update)


@options
def stateless_with_tree_map(f: Callable[[jax.Array, jax.Array | None], jax.Array]) -> GradientTransformation:
    """A rule without memory for one array: u = f(g, p) leaf by leaf, p None where no params are given."""

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        if params is None:
            return jax.tree.map(lambda g: f(g, None), updates), state
        check_same_trees("stateless_with_tree_map", "gradients", updates, "params", params)
        return jax.tree.map(f, updates, params), state

    return transform("stateless_with_tree_map", init_empty_state, update, state_type=EmptyState)
