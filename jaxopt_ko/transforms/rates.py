"""The learning rate and the step that a state stands at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp

from jaxopt_ko import errors
from jaxopt_ko.core.checks import STATE_ADVICE
from jaxopt_ko.core.hyperparameters import StateWithReader, readers_shown
from jaxopt_ko.core.numerics import scalar_dtype, value_at
from jaxopt_ko.core.tree_fields import AnyParams
from jaxopt_ko.errors import StateError, describe, say
from jaxopt_ko.types import GradientTransformation, Hyper, State

NAME = "learning_rate"
COUNTS = ("count", "gradient_step", "step", "t")  # the fields in which states count the steps that they have made
OTHER_COUNTS = ("ReduceLROnPlateauState",)  # states whose `count` counts something else


class _Rate(NamedTuple):
    """One learning rate of an optimizer."""

    path: str  # of its state
    hyper: Hyper  # a number or a schedule as it was given, or as the state holds it
    count: Any  # int32[]  steps made; None where nothing counts

    def value(self, count: Any) -> jax.Array:
        """float[]: the rate at the last of the steps made."""
        last: Any = None if count is None else jnp.maximum(count - 1, 0)
        return value_at(self.hyper, last, "learning_rate", self.path or NAME).astype(scalar_dtype())


def learning_rate(state: State, tx: GradientTransformation | None = None) -> jax.Array:
    """The learning rate of the last step; before the first, that of the first.

    lr at step t - 1 of the state's own count

    state: of an optimizer, with `tx` of any made here; alone where it holds the rate, as that of `inject_hyperparams`
        does, or the step length that a line search found.
    tx: the optimizer that the state is of; None: the state alone is read.

    Returns float[], also under jit, vmap and scan: a constant as it was given, a schedule at the state's own count, a
    rate kept by `inject_hyperparams` as it stands in the state, also where it was set by hand. One rate or schedule at
    several places (muon's, for its matrices and for the rest) is one, read where it has gone furthest.

    Raises StateError if there are several, with their places, or none; if the state does not hold it and tx is not
    given; or if the state is not that of tx. Not the length of the step: it is the hyperparameter alone, without what a
    method multiplies it by (prodigy's estimate, the factor of reduce_on_plateau); nor for several rates:
    `learning_rates`.

    >>> tx = jo.adamw(jo.schedules.linear_schedule(1.0, 0.0, 10))
    >>> float(jo.learning_rate(tx.init(jnp.ones(2)), tx))
    1.0
    """
    found: dict[Any, list[_Rate]] = {}
    for rate in _rates("learning_rate", state, tx):
        same = [key for key in found if _same(found[key][0].hyper, rate.hyper)]
        found.setdefault(same[0] if same else len(found), []).append(rate)
    if len(found) > 1:
        one_each = {rates[0].path: str(rates[0].hyper) for rates in found.values()}
        _several_rates("learning_rate", one_each)
    (rates,) = found.values()
    counts = [rate.count for rate in rates if rate.count is not None]
    return rates[0].value(_furthest(counts) if counts else None)


def _several_rates(name: str, rates: Mapping[str, str]) -> NoReturn:
    """More than one, and they are not the same."""
    listed = "; ".join(f"{value} at {path}" for path, value in rates.items())
    say(StateError, name, "there are several learning rates", listed,
        "learning_rates gives them all, by their places in the state")  # fmt: skip


def learning_rates(state: State, tx: GradientTransformation | None = None) -> dict[str, jax.Array]:
    """Every learning rate of an optimizer, by its place in the state.

    {path: lr at step t - 1 of the count there}

    state: of an optimizer, as of `learning_rate`.
    tx: the optimizer that the state is of; None: the state alone is read.

    Returns a dict, path -> float[], the path spelled as "inner_states/rest/inner_state/2". Raises StateError if there
    is no rate, or if the state is not that of tx. Not where there is one: `learning_rate` gives the number.

    >>> tx = jo.chain(jo.scale_by_adam(), jo.scale_by_learning_rate(0.5))
    >>> {path: float(rate) for path, rate in jo.learning_rates(tx.init(jnp.ones(2)), tx).items()}
    {'1': 0.5}
    """
    return {rate.path: rate.value(rate.count) for rate in _rates("learning_rates", state, tx)}


def step_count(state: State) -> jax.Array:
    """The steps that a state has made, as it counts them itself.

    t of the count nearest to the root of the state; of several, the largest

    state: of an optimizer, ours or optax's.

    Returns int32[]. `MultiSteps` counts the steps of its optimizer, not the gradients; `apply_if_finite` the steps that
    were taken. Raises StateError where nothing counts: plain sgd, say, has no need to. Not the epoch, nor the number of
    gradients seen.

    >>> int(jo.step_count(jo.adam(1e-3).init(jnp.ones(2))))
    0
    """
    counts = list(_counts(state, 0))
    if not counts:
        _no_count("step_count", state)
    nearest = min(depth for depth, _ in counts)
    return _furthest([count for depth, count in counts if depth == nearest])


def _no_count(name: str, state: Any) -> NoReturn:
    """A state in which nothing counts steps."""
    say(StateError, name, "nothing in this state counts steps", describe(state),
        "Rules that need no count have none, as in optax; inject_hyperparams and schedules keep one")  # fmt: skip


def _furthest(counts: list[Any]) -> jax.Array:
    most = jnp.asarray(counts[0])
    for count in counts[1:]:
        most = jnp.maximum(most, count)
    return most


def _same(one: Hyper, other: Hyper) -> bool:
    """Do two hyperparameters have the same value at every step, as far as it can be seen while tracing?"""
    if one is other:
        return True
    if callable(one) or callable(other) or any(isinstance(x, jax.core.Tracer) for x in (one, other)):
        return False
    return bool(jnp.all(jnp.asarray(one) == jnp.asarray(other)))


# ---- through a state ------------------------------------------------------------------------------------


def _rates(name: str, state: State, tx: Any) -> list[_Rate]:
    """All rates of tx; if it has none among its hyperparameters, those that the state holds."""
    found: list[_Rate] = []
    if tx is not None:
        errors.check_pair(name, "tx", tx, lands=True)
        with readers_shown():
            made = tx.init(AnyParams())
        found = list(_given(name, made, state, ()))
    found = found or list(_held(state, ()))
    if not found:
        _no_rate(name, tx is not None)
    return found


def _no_rate(name: str, with_optimizer: bool) -> NoReturn:
    """A state and a transformation without a learning rate."""
    if with_optimizer:
        say(StateError, name, "this optimizer has no hyperparameter called learning_rate", None,
            "Where a rate is a factor, as in scale(-0.1), use scale_by_learning_rate")  # fmt: skip
    say(StateError, name, "the state does not hold its learning rate: a constant is in the optimizer, and of a "
        "schedule the state has the count alone", None,
        f"Call {name}(state, optimizer), or keep the rate in the state with inject_hyperparams")  # fmt: skip


def _given(name: str, made: Any, state: Any, path: tuple[str, ...]) -> Iterator[_Rate]:
    """The rates that readers of hyperparameters hold, found in `made`, a state as its optimizer's init makes it."""
    while isinstance(made, StateWithReader):
        if NAME in made.reader.hypers:
            yield _Rate("/".join(path), made.reader.hypers[NAME], made.reader.counted(state))
        made = made.state
    if _injected(made):
        yield _Rate("/".join(path), _part(name, _part(name, state, "hyperparams", path), NAME, path), None)
        return
    for argument, part in _parts(made):
        yield from _given(name, part, _part(name, state, argument, path), (*path, str(argument)))


def _held(state: Any, path: tuple[str, ...]) -> Iterator[_Rate]:
    """The rates that a state itself holds."""
    if _injected(state):
        yield _Rate("/".join(path), state.hyperparams[NAME], None)
        return
    for name, part in _parts(state):
        if name == NAME and hasattr(state, "_fields"):
            yield _Rate("/".join(path), part, None)
        else:
            yield from _held(part, (*path, str(name)))


def _injected(node: Any) -> bool:
    """Is it a state of inject_hyperparams, with a learning rate in it?"""
    return isinstance(hypers := getattr(node, "hyperparams", None), Mapping) and NAME in hypers


def _counts(node: Any, depth: int) -> Iterator[tuple[int, Any]]:
    for name, part in _parts(node):
        counts = name in COUNTS and hasattr(node, "_fields") and type(node).__name__ not in OTHER_COUNTS
        if counts and jnp.issubdtype(getattr(part, "dtype", float), jnp.integer):
            yield depth, part
        elif not isinstance(part, jax.Array):
            yield from _counts(part, depth + 1)


def _parts(node: Any) -> Iterator[tuple[Any, Any]]:
    """The parts of a container that states are made of, by name."""
    if isinstance(node, tuple | list):
        yield from zip(getattr(node, "_fields", range(len(node))), node, strict=True)
    elif isinstance(node, Mapping):
        yield from node.items()


def _part(name: str, node: Any, argument: Any, path: tuple[str, ...]) -> Any:
    """The part of that name of the state itself, which may be a dict or a list where a tuple was saved."""
    if isinstance(node, Mapping) and (argument in node or str(argument) in node):
        return node[argument] if argument in node else node[str(argument)]
    if isinstance(argument, str) and hasattr(node, argument):
        return getattr(node, argument)
    if isinstance(argument, int) and isinstance(node, tuple | list) and argument < len(node):
        return node[argument]
    return _foreign_state(name, "/".join(path), node)


def _foreign_state(name: str, path: str, state: Any) -> NoReturn:
    """A state that is not the optimizer's."""
    say(StateError, name, f"the state is not this optimizer's at {path or 'its root'}", describe(state), STATE_ADVICE)
