"""The concepts a newcomer holds in mind. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax

PyTree: TypeAlias = Any  # any nest of tuples, lists, dicts, NamedTuples, registered classes over arrays
Params: TypeAlias = Any  # pytree of floating arrays: what is being optimized
Updates: TypeAlias = Any  # pytree like Params: gradients on the way in, steps to add on the way out
State: TypeAlias = Any  # what a transformation remembers between two updates
DType: TypeAlias = Any  # whatever jnp.dtype() takes

Schedule: TypeAlias = Callable[[jax.Array], jax.Array]  # int32[] step, from 0 -> float[]
Hyper: TypeAlias = float | jax.Array | Schedule  # every numeric hyperparameter of every method


class GradientTransformation(NamedTuple):
    """The one pair that every method is: SGD and interior point alike.

    init(params) -> state
        Makes the state for these parameters; it may also be given abstract leaves (`jax.ShapeDtypeStruct`).
    update(updates, state, params=None, **extra_args) -> (updates, state)
        Turns gradients into steps. Pure: neither argument is changed. The steps have the structure and the
        shapes of the gradients and are *added* to the parameters (`apply_updates`). The new state equals
        the old one in structure, shape and dtype, so it threads through `lax.scan`.

    Every `update` of this package takes any `extra_args` and ignores those it has no use for.
    """

    init: Callable[..., State]
    update: Callable[..., tuple[Updates, State]]


GradientTransformationExtraArgs = GradientTransformation  # optax's name: here there is one type


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class MaskedNode(NamedTuple):
    """Stands, without leaves, where a masked transformation sees nothing."""
