"""Any pair as a transformation that takes any extra arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxopt_ko import errors
from jaxopt_ko.core.method import Update, filter_kwargs, method_of
from jaxopt_ko.core.signature import options
from jaxopt_ko.types import GradientTransformation, GradientTransformationExtraArgs, Params, State, Updates


def as_transformation(name: str, where: str, pair: Any, lands: bool = False) -> GradientTransformation:
    """An argument that must be a transformation, as one that takes any extra arguments: ours as it is.

    name, where, pair: who asks, what it calls the argument, and the argument; lands: as of `errors.check_pair`.
    """
    pair = errors.check_pair(name, where, pair, lands)
    update = pair.update if isinstance(pair.update, Update) else Update(_any_extra(pair.update), method_of(pair))
    return GradientTransformationExtraArgs(filter_kwargs(pair.init, 1), update)


def _any_extra(update: Callable[..., Any]) -> Callable[..., Any]:
    given = filter_kwargs(update, 3)

    def passing(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        result: tuple[Updates, State] = given(updates, state, params, **extra)
        return result

    return passing


@options
def with_extra_args_support(tx: GradientTransformation) -> GradientTransformation:
    """A transformation whose update takes any extra arguments and passes on those that it knows; ours all do already.

    tx: a transformation, an (init, update) pair, ours or optax's.

    Returns a GradientTransformationExtraArgs with the state of tx. Raises TransformationError if tx is no
    transformation. Source: optax's with_extra_args_support. Not needed around transformations of this package, nor
    within `chain`, which passes extra arguments to those that take them.

    >>> tx = jo.with_extra_args_support(jo.sgd(0.1))
    >>> updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)), value=1.0)
    """
    return as_transformation("with_extra_args_support", "tx", tx, lands=True)
