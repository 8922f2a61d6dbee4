"""Every sentence the library raises: who, what was wrong, what was got, what to do.

The functions here look at Python values and at the static side of arrays (structure, shape, dtype), never at
traced values: those pass unchecked.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten_with_path as flatten_with_path

from jaxopt_ko.types import GradientTransformation, Hyper, MaskedNode, PyTree

P = ParamSpec("P")
T = TypeVar("T")


class HyperparameterError(ValueError):
    """A hyperparameter, schedule or boundary outside what the method is defined for."""


class HyperparameterTypeError(HyperparameterError, TypeError):
    """A hyperparameter that is not a number, an array of one number, or a schedule."""


class TransformationError(TypeError):
    """Something that is not an (init, update) pair where one is needed."""


class TreeError(ValueError, AssertionError):
    """Trees that should match in structure, shape or dtype and do not (chex's are AssertionErrors too)."""


class StateError(TreeError, TypeError):
    """A state that does not belong to the transformation it was given to."""


class MissingArgumentError(TypeError, ValueError):
    """`params` or an extra argument that the rule cannot do without."""


def say(kind: type[Exception], name: str, wrong: str, got: str | None = None, do: str | None = None) -> NoReturn:
    """Raise `kind` in the one form of all our messages."""
    parts = [f"{name}: {wrong}."]
    if got is not None:
        parts.append(f"Got {got}.")
    if do is not None:
        parts.append(do if do.endswith(".") else f"{do}.")
    raise kind(" ".join(parts))


def deprecated(name: str, instead: str) -> None:
    """Warn that a name is old."""
    _warn(f"{name} is deprecated: use `{instead}` instead.", DeprecationWarning)


def _warn(message: str, kind: type[Warning]) -> None:
    """At the line outside of this package that calls."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(f"{__package__}."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=level)


def note(name: str, what: str) -> None:
    """Log what was made of an argument that is allowed, but rarely meant."""
    logging.getLogger(__package__).info("%s: %s", name, what)


# ---- hyperparameters ------------------------------------------------------------------------------------


class Domain(NamedTuple):
    """An interval of numbers, and how to say it."""

    low: float  # included unless low_open
    high: float  # excluded unless infinite
    words: str
    low_open: bool = False
    infinite: bool = False  # is the upper end itself included, infinity say?

    def holds(self, value: float) -> bool:
        """Whether a concrete number lies inside; NaN never does."""
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high or (self.infinite and value == self.high))


NONNEGATIVE = Domain(0.0, math.inf, "a finite number >= 0")
POSITIVE = Domain(0.0, math.inf, "a finite number > 0", low_open=True)
THRESHOLD = Domain(0.0, math.inf, "a number > 0 (infinity switches it off)", low_open=True, infinite=True)
LIMIT = Domain(0.0, math.inf, "a number >= 0 (infinity switches it off)", infinite=True)
FRACTION = Domain(0.0, 1.0, "in [0, 1)")
OPEN_FRACTION = Domain(0.0, 1.0, "in (0, 1)", low_open=True)
UNIT = Domain(0.0, 1.0, "in [0, 1]", infinite=True)
FINITE = Domain(-math.inf, math.inf, "a finite number", low_open=True)


def check_hyper(name: str, argument: str, value: Any, domain: Domain) -> Hyper:
    """Return `value` if it can be a hyperparameter; a traced or scheduled one has its shape checked only."""
    if callable(value):
        _check_schedule(name, argument, value)
        return value  # type: ignore[no-any-return]
    if isinstance(value, list | tuple):
        try:
            value = np.asarray(value)
        except ValueError:
            value = str(value)
    if not _is_number(value):
        say(HyperparameterTypeError, name, f"{argument} must be a number, an array of shape () or a schedule",
            repr(value), f"Give {argument} {domain.words}")  # fmt: skip
    if np.shape(value) != ():
        say(HyperparameterError, name, f"{argument} must be one number (shape ())", f"shape {np.shape(value)}",
            "To try several values at once, jax.vmap over them; for one value per group, use partition")  # fmt: skip
    if not isinstance(value, jax.core.Tracer) and not domain.holds(as_computed(value)):
        kind = jax.dtypes.canonicalize_dtype(np.float64).name
        uphill = ". To go uphill, use maximize(optimizer), or put scale(-1) behind a part without a rate"
        advice = (
            uphill if argument == "learning_rate" and domain.low == 0 and -math.inf < as_computed(value) < 0 else ""
        )
        say(HyperparameterError, name, f"{argument} must be {domain.words}, also when rounded to {kind}",
            f"{argument}={value}", f"Give {argument} {domain.words}{advice}")  # fmt: skip
    return value  # type: ignore[no-any-return]


def _is_number(value: Any) -> bool:
    """A real number or an array of them; bools, complex numbers and other number-like objects are not."""
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return bool(jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer))
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_computed(value: Any) -> float:
    """The number that computation will see: 0.99999998 is 1 in float32, 1e39 infinite."""
    try:
        with np.errstate(over="ignore"):
            return float(np.asarray(value, np.float64).astype(jax.dtypes.canonicalize_dtype(np.float64)))
    except OverflowError:
        return math.inf


def check_switch(name: str, argument: str, value: Any) -> None:
    """An option that is on or off when the program is made."""
    known = isinstance(value, bool | np.bool_)
    if not known and isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        known = value.dtype == np.bool_ and value.shape == ()
    if not known:
        say(HyperparameterTypeError, name, f"{argument} must be True or False", describe(value),
            "It decides which program is made, so it cannot be traced")  # fmt: skip


def check_whole(name: str, argument: str, value: Any, least: int = 0) -> None:
    """An integer of `least` or more, traced or not; where it is concrete it is looked at."""
    dtype = getattr(value, "dtype", None)
    whole = jnp.issubdtype(dtype, jnp.integer) if dtype is not None else isinstance(value, int)
    fits = isinstance(value, jax.core.Tracer) or (whole and np.shape(value) == () and int(value) >= least)
    if isinstance(value, bool) or not whole or np.shape(value) != () or not fits:
        say(HyperparameterTypeError, name, f"{argument} must be an integer of at least {least}", describe(value),
            "Give a Python int or an int32 array of shape ()")  # fmt: skip


def check_dtype(name: str, argument: str, dtype: Any) -> None:
    """The dtype of some memory: None for the default, or a floating one of 16 bits at least; of what is like the
    gradients or parameters, a complex one, too."""
    kind = jnp.inexact if argument in ("mu_dtype", "accumulator_dtype", "state_dtype", "param_dtype") else jnp.floating
    try:
        known = dtype is None or (jnp.issubdtype(jnp.dtype(dtype), kind) and jnp.dtype(dtype).itemsize > 1)
    except TypeError:
        known = False
    if not known or isinstance(dtype, int | float):
        say(HyperparameterTypeError, name, f"{argument} must be a floating dtype of 16 bits or more, or None",
            repr(dtype), "Give for example jnp.bfloat16 or jnp.float32")  # fmt: skip


def _check_schedule(name: str, argument: str, schedule: Callable[..., Any]) -> None:
    """See what the schedule returns without running it; one that cannot be traced shows itself later."""
    returned: list[Any] = []

    def see(count: Any) -> None:
        value = schedule(count)  # of an array what it is like: no tracer may outlive its trace
        returned.append(jax.typeof(value) if isinstance(value, jax.Array) else value)

    try:
        with jax.numpy_dtype_promotion("standard"):
            jax.eval_shape(see, np.int32(0))
    except Exception:
        return
    check_schedule_value(name, argument, returned[0])


def check_schedule_value(name: str, argument: str, value: Any) -> None:
    """What a schedule returned must be one real number."""
    dtype = getattr(value, "dtype", None)
    number = isinstance(value, int | float) if dtype is None else jnp.issubdtype(dtype, jnp.number)
    if not number or isinstance(value, bool) or (dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating)):
        got = "None" if value is None else describe(value)
        say(HyperparameterTypeError, name, f"the schedule for {argument} must return one number", got,
            "Return a float or an array of shape () from schedule(step)")  # fmt: skip
    if np.shape(value) != ():
        say(HyperparameterError, name, f"the schedule for {argument} must return one number (shape ())",
            f"shape {np.shape(value)}", "Return an array of shape () from schedule(step)")  # fmt: skip


def check_size(name: str, argument: str, value: Any, least: int = 1) -> int:
    """A count that decides a shape or a loop's length, or a seed."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        say(HyperparameterError, name, f"{argument} must be an integer of at least {least}", describe(value),
            "It decides a shape, a loop's length or random numbers, so it cannot be traced")  # fmt: skip
    return int(value)


def check_period(name: str, argument: str, value: Any, least: int = 1) -> Any:
    """A count of steps, an integer of `least` or more; it may be traced."""
    dtype = getattr(value, "dtype", None)
    whole = jnp.issubdtype(dtype, jnp.integer) if dtype is not None else isinstance(value, int)
    if isinstance(value, bool) or not whole or np.shape(value) != ():
        say(HyperparameterTypeError, name, f"{argument} must be an integer of at least {least}", describe(value),
            "Give a Python int or an int32 array of shape ()")  # fmt: skip
    if not isinstance(value, jax.core.Tracer) and int(value) < least:
        say(HyperparameterError, name, f"{argument} must be an integer of at least {least}", f"{argument}={value}",
            "It counts steps")  # fmt: skip
    return value if isinstance(value, jax.core.Tracer) else int(value)


def check_flag(name: str, what: str, value: Any) -> None:
    """One truth value, traced or not."""
    dtype = getattr(value, "dtype", None)
    if not isinstance(value, bool) and (dtype != np.bool_ or np.shape(value) != ()):
        say(TransformationError, name, f"{what} must be one bool (shape ())", describe(value),
            "Compare numbers to make one; jnp.all or jnp.any of several")  # fmt: skip


def check_leaves(name: str, what: str, tree: PyTree, real: bool = True) -> None:
    """Every leaf must be a floating array, and a real one where `real`."""
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        check_leaf(name, what, tree, index, leaf, real=real)


def check_order(name: str, tree: PyTree) -> None:
    """What compares numbers has no meaning for complex ones."""
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        if _is_complex(leaf):
            say(TreeError, name, f"the leaf {path_of(tree, index)} must be real", describe(leaf),
                "Complex numbers have no order: take their real and imaginary parts as two leaves")  # fmt: skip


def check_room(name: str, path: str, was: Any, now: Any) -> None:
    """Complex numbers cannot be kept, or added, where there is place for real ones alone."""
    if _is_complex(now) and not _is_complex(was):
        say(TreeError, name, f"{path} is real, and what comes to it complex", f"{describe(was)} and {describe(now)}",
            "Give complex parameters, and complex dtypes (mu_dtype=jnp.complex64) or None")  # fmt: skip


def check_choice(name: str, argument: str, value: Any, choices: Sequence[str]) -> None:
    """A keyword that names a variant."""
    if value not in choices:
        say(HyperparameterError, name, f"{argument} must be one of {', '.join(map(repr, choices))}", repr(value),
            "See the docstring for what each variant is")  # fmt: skip


def check_pattern(name: str, pattern: Any, what: str = "each pattern") -> re.Pattern[str]:
    """A regular expression."""
    wrong = "Give a string"
    if isinstance(pattern, str) or (isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str)):
        try:
            return re.compile(pattern)
        except re.error as error:
            wrong = f"It does not compile: {error}"
    say(HyperparameterError, name, f"{what} must be a regular expression", repr(pattern), wrong)


def check_kind(name: str, argument: str, value: Any) -> tuple[Any, Any]:
    """(which, how much)."""
    if not (isinstance(value, tuple | list) and len(value) == 2):
        say(HyperparameterError, name, f"{argument} must be a pair of a name and a number", describe(value))
    return value[0], value[1]


def check_instance(name: str, argument: str, value: Any, kind: type, make: str) -> None:
    """An argument of a class of ours; make: how a user makes one."""
    if not isinstance(value, kind):
        say(HyperparameterTypeError, name, f"{argument} must be {kind.__name__}", describe(value), f"Make it: {make}")


def check_averages(name: str, found: Sequence[Any], kinds: Iterable[type]) -> None:
    """Of the states that keep an average there must be one."""
    if not found:
        say(StateError, name, f"the state must hold one {' or '.join(kind.__name__ for kind in kinds)}", "none of them",
            "Pass the state of the optimizer, or the part of it that is meant")  # fmt: skip


def two_averages(name: str, path: str, first: Any, second: Any) -> NoReturn:
    """A leaf with an average in two states."""
    say(StateError, name, f"the state must hold one average of the leaf {path}",
        f"{describe(first)} and {describe(second)}",
        "Pass the part of the state that is meant, or call the function that is for one of them alone")  # fmt: skip


def average_shape(name: str, path: str, leaf: Any, average: Any) -> NoReturn:
    """An average of something else than this leaf."""
    say(StateError, name, f"the average of the leaf {path} must have the leaf's shape {np.shape(leaf)}",
        describe(average), "Pass parameters like those of the state; both made under jax.vmap are evaluated under it. "
        "For what `route` shows as stacks of matrices, opt.eval_params(state, params)")  # fmt: skip


def as_bool(value: Any) -> Any:
    """An array of one truth value as a bool; anything else as it is."""
    whole = getattr(value, "dtype", None) == np.bool_ and np.size(value) == 1
    return bool(np.asarray(value).item()) if whole and not isinstance(value, jax.core.Tracer) else value


def check_bool(name: str, mask: PyTree, index: int, value: Any) -> bool:
    """A leaf of a mask: a bool, or an array of one."""
    value = as_bool(value)
    if not isinstance(value, bool):
        _not_a_bool(name, "mask", path_of(mask, index, none_is_leaf=True), value)
    return value


def _not_a_bool(name: str, argument: str, path: str, value: Any) -> NoReturn:
    say(TreeError, name, f"{argument} at the leaf {path} must be True or False", describe(value),
        "Give a tree of bools like the parameters, or a function that makes one; a traced bool has no value yet, "
        "and an array of several says nothing of the leaf")  # fmt: skip


def several_values(name: str, key: Any, paths: Sequence[str]) -> NoReturn:
    """A name that leads to more than one value."""
    raise KeyError(
        f"{name}: {key!r} is the name of {len(paths)} values. Got {', '.join(paths)}. Choose with filtering."
    )


def no_lbfgs(state: Any) -> NoReturn:
    """Nothing to convert."""
    say(StateError, "lbfgs_from_optax", "the state must hold a ScaleByLBFGSState of optax's", describe(state),
        "Give the state of optax.lbfgs or optax.scale_by_lbfgs, restored as NamedTuples")  # fmt: skip


def no_value(name: str, key: Any) -> NoReturn:
    """A name that leads nowhere."""
    raise KeyError(f"{name}: no value is called {key!r}. Names are those of fields, keys and NamedTuple classes.")


def check_prng_key(name: str, key: Any) -> None:
    """One PRNG key, typed or raw, and no seed."""
    if isinstance(key, int) or (np.shape(key) == () and not _is_typed_key(key)):
        say(HyperparameterTypeError, name, "key must be one PRNG key", describe(key), "Give jax.random.key(0)")
    check_key(name, key)


def _is_typed_key(key: Any) -> bool:
    dtype = getattr(key, "dtype", None)
    return dtype is not None and bool(jnp.issubdtype(dtype, jax.dtypes.prng_key))


def check_key(name: str, key: Any, argument: str = "key") -> jax.Array:
    """One PRNG key, typed or raw, or the one that an integer seed makes."""
    dtype, shape = getattr(key, "dtype", None), np.shape(key)
    seed = isinstance(key, int) if dtype is None else jnp.issubdtype(dtype, jnp.integer)
    if seed and shape == () and not isinstance(key, bool):
        if not isinstance(key, jax.core.Tracer) and key < 0:
            say(HyperparameterError, name, f"{argument} must be a PRNG key or an integer seed >= 0",
                f"{argument}={key}",
                "A seed of 64 bits loses its upper half without x64: give one below 2**32")  # fmt: skip
        return jax.random.key(key)
    typed = _is_typed_key(key) and shape == ()
    if not typed and not (dtype == jnp.uint32 and len(shape) == 1):
        say(HyperparameterTypeError, name, f"{argument} must be one PRNG key or an integer seed", describe(key),
            "Give jax.random.key(0), or 0")  # fmt: skip
    return key  # type: ignore[no-any-return]


def key_or_zero(name: str, key: Any, seed: Any) -> Any:
    """The key or seed that was given, else the seed 0, with a warning: two runs would have the same noise unnoticed."""
    key = key_or_seed(name, key, seed)
    if key is None:
        _warn(f"{name}: no key was given. The seed 0 is taken: the noise is the same in every run. "
              "Give key=jax.random.key(0), or an integer seed.", UserWarning)  # fmt: skip
        return 0
    return key


def key_or_seed(name: str, key: Any, seed: Any) -> Any:
    """The one that was given: seed is optax's older word for key."""
    if seed is None:
        return key
    deprecated(f"{name}(seed=…)", "key")
    if key is not None:
        say(HyperparameterError, name, "one of key and seed must be given", "both", "Leave out seed")
    return check_key(name, seed, "seed")


# ---- transformations ------------------------------------------------------------------------------------


def check_pair(name: str, where: str, pair: Any) -> GradientTransformation:
    """Return the (init, update) pair, ours or foreign; say what it is otherwise."""
    init, update = getattr(pair, "init", None), getattr(pair, "update", None)
    if callable(init) and callable(update) and not isinstance(pair, type):
        return pair  # type: ignore[no-any-return]
    if isinstance(pair, tuple) and len(pair) == 2 and all(map(callable, pair)):
        return GradientTransformation(*pair)
    if callable(pair):
        argument = getattr(pair, "__name__", repr(pair))
        say(TransformationError, name, f"{where} is the function {argument}, not a transformation",
            f"{argument} without its call", f"Call it first: {argument}(...)")  # fmt: skip
    say(TransformationError, name, f"{where} must be a transformation, an (init, update) pair", describe(pair),
        "Make one with an optimizer, a scale_by_* rule, or transform(name, init, update)")  # fmt: skip


def no_rate(name: str, with_optimizer: bool) -> NoReturn:
    """Nothing is called learning_rate."""
    if with_optimizer:
        say(StateError, name, "this optimizer has no hyperparameter called learning_rate", None,
            "Where a rate is a factor, as in scale(-0.1), use scale_by_learning_rate")  # fmt: skip
    say(StateError, name, "the state does not hold its learning rate: a constant is in the optimizer, and of a "
        "schedule the state has the count alone", None,
        f"Call {name}(state, optimizer), or keep the rate in the state with inject_hyperparams")  # fmt: skip


def several_rates(name: str, rates: Mapping[str, str]) -> NoReturn:
    """More than one, and they are not the same."""
    listed = "; ".join(f"{value} at {path}" for path, value in rates.items())
    say(StateError, name, "there are several learning rates", listed,
        "learning_rates gives them all, by their places in the state")  # fmt: skip


def no_count(name: str, state: Any) -> NoReturn:
    """A state in which nothing counts steps."""
    say(StateError, name, "nothing in this state counts steps", describe(state),
        "Rules that need no count have none, as in optax; inject_hyperparams and schedules keep one")  # fmt: skip


def foreign_state(name: str, path: str, state: Any) -> NoReturn:
    """A state that is not the optimizer's."""
    say(StateError, name, f"the state is not this optimizer's at {path or 'its root'}", describe(state), STATE_ADVICE)


def goes_up(method: str) -> NoReturn:
    """A driver minimizes."""
    say(TransformationError, "minimize", "the method must go down", method,
        "To maximize a function here, give its negative and the method without maximize")  # fmt: skip


def not_maximized(name: str) -> NoReturn:
    """A sum of squares has a smallest value only."""
    say(TransformationError, name, "the sum of squares of a residual_fn is minimized, not maximized", None,
        "Use the method itself")  # fmt: skip


def not_installed(name: str, package: str, why: str) -> NoReturn:
    """A package that only this needs is not there."""
    say(ImportError, name, f"it needs {package}, {why}, and it is not installed", None, f"pip install {package}")


def state_type(name: str, state: Any, expected: type) -> NoReturn:
    """A state that is not, and does not fit, the class that this rule's init makes."""
    fields: Sequence[str] = expected._fields  # type: ignore[attr-defined]
    of = f" of ({', '.join(fields)})" if fields else ", which holds nothing"
    say(StateError, name, f"the state must be a {expected.__name__}{of}", _fields_of(state), STATE_ADVICE)


def _fields_of(state: Any) -> str:
    if isinstance(state, Mapping):
        return f"a dict of {sorted(map(str, state))}"
    fields = getattr(state, "_fields", None)
    return describe(state) if fields is None else f"a {type(state).__name__} of ({', '.join(fields)})"


STATE_ADVICE = (
    "Call update(updates, state, params) in this order, with the state that this transformation's own "
    "init or last update returned"
)


def check_count(name: str, count: Any) -> None:
    """The count of a state is one number, unless the state was made under vmap and the update is not."""
    if np.shape(count) != ():
        say(StateError, name, "the state's count must be one number (shape ())", f"shape {np.shape(count)}",
            "A state made under jax.vmap is updated under jax.vmap")  # fmt: skip


def check_vector(name: str, vector: Any, size: int) -> None:
    """A state that holds all leaves as one vector fits trees with as many elements."""
    if np.shape(vector) != (size,):
        say(StateError, name, f"the state is for parameters of {math.prod(np.shape(vector))} elements in all",
            f"gradients of {size}", "Pass trees made for the same parameters, or make the state anew with init. "
            "A leaf without gradient cannot be left out here: use masked")  # fmt: skip


def check_memory(name: str, memory: Any, width: int) -> None:
    """What a leafwise init returns: a tuple with one array for each field of the state after the scalars."""
    if not isinstance(memory, tuple) or len(memory) != width:
        say(TransformationError, name, f"init(p) must return a tuple of {width} arrays, one per field of the state",
            describe(memory), "Return (array,) where there is one")  # fmt: skip


def check_result(name: str, result: Any) -> tuple[Any, Any]:
    """What an update returns: (updates, state)."""
    if not isinstance(result, tuple) or len(result) != 2:
        say(TransformationError, name, "update must return (updates, state)", describe(result),
            "Return the new state, too")  # fmt: skip
    return result


def check_labels(name: str, transforms: Any) -> None:
    """The labels of a partition are keys of a dict in its state, which JAX sorts."""
    if not isinstance(transforms, Mapping):
        say(TransformationError, name, "transforms must be a dict: label -> transformation", describe(transforms),
            'Write {"a": adam(1e-3), "b": sgd(0.1)}')  # fmt: skip
    try:
        sorted(transforms)
    except TypeError:
        say(TransformationError, name, "labels must be of one kind that sorts, all strings or all integers",
            f"{list(transforms)}", "Use strings")  # fmt: skip


def check_factory(name: str, factory: Any) -> None:
    """Something to be called for a transformation."""
    if not callable(factory):
        say(TransformationError, name, "inner_factory must be a function that makes a transformation",
            describe(factory), "Pass the function: inject_hyperparams(adam)(1e-3)")  # fmt: skip


def check_state_tuple(name: str, state: Any, names: Sequence[str], more: bool = False) -> Sequence[Any]:
    """A chain's state is one state for each of its transformations (more: for each of those of the first): a tuple,
    the list that a file gave, or a dict of their numbers."""
    if isinstance(state, Mapping) and set(state) == {str(i) for i in range(len(state))}:
        state = tuple(state[str(i)] for i in range(len(state)))
    if not isinstance(state, tuple | list) or (len(state) < len(names) if more else len(state) != len(names)):
        say(StateError, name, f"the state must be a tuple of {len(names)} states ({', '.join(names)})",
            describe(state), STATE_ADVICE)  # fmt: skip
    return state


def check_named(name: str, args: Sequence[Any]) -> None:
    """The arguments of a named chain are (name, transformation) pairs with names of their own."""
    names = []
    for i, arg in enumerate(args):
        if not (isinstance(arg, tuple) and len(arg) == 2 and isinstance(arg[0], str)):
            say(TransformationError, name, f"argument {i} must be a (name, transformation) pair", describe(arg),
                'Write named_chain(("name", transformation), ...)')  # fmt: skip
        names.append(arg[0])
        if arg[0] in names[:-1]:
            say(TransformationError, name, f"the name {arg[0]!r} comes twice", f"names {names}",
                "Give each transformation a name of its own")  # fmt: skip


def check_state_keys(name: str, state: Any, names: Sequence[Any]) -> None:
    """A state that is a dict with one state for each name."""
    if not isinstance(state, dict) or set(state) != set(names):
        got = f"a dict of {sorted(map(str, state))}" if isinstance(state, dict) else describe(state)
        say(StateError, name, f"the state must be a dict of {sorted(map(str, names))}", got, STATE_ADVICE)


def unknown_label(name: str, path: str, label: Any, allowed: Sequence[Any]) -> NoReturn:
    """A leaf that no group takes."""
    if name.startswith("masked"):
        _not_a_bool(name, "mask", path, label)
    say(TreeError, name, f"no transformation has the label of the leaf {path}", f"label {label!r}",
        f"Labels with a transformation: {', '.join(map(repr, allowed))}")  # fmt: skip


def check_groups(name: str, groups: Sequence[Any], kind: type) -> None:
    """Groups of leaves: one at least, of different names."""
    for group in groups:
        check_instance(name, "each group", group, kind, f'{kind.__name__}("hidden", muon, 0.02, role="matrix")')
    names = [group.name for group in groups]
    if not names or len(set(names)) != len(names):
        say(TransformationError, name, "groups must be one or more, with different strings as names", f"{names}",
            f'Write {name}(Group("hidden", ...), Group("rest", ...))')  # fmt: skip


def check_group(name: str, argument: Any, method: Any, role: Any, shape: Any) -> None:
    """What a group of leaves is called, what makes its transformation, and which leaves it takes."""
    if not isinstance(argument, str) or not argument:
        say(HyperparameterTypeError, name, "name must be a string, and not an empty one", describe(argument))
    pair = callable(getattr(method, "init", None)) or (isinstance(method, tuple) and len(method) == 2)
    if not pair and not callable(method):
        say(TransformationError, name, "method must be a function that makes a transformation, or a transformation",
            describe(method), "Give muon, functools.partial(muon, beta=0.9), or sgd(0.1)")  # fmt: skip
    if not isinstance(role, str) and not (
        isinstance(role, Sequence | set | frozenset) and all(isinstance(one, str) for one in role)
    ):
        say(HyperparameterTypeError, name, "role must be a string or several of them", describe(role),
            'Give role="matrix" or role=("norm", "bias")')  # fmt: skip
    sizes = shape if isinstance(shape, tuple | list) else None
    if shape is None or callable(shape):
        return
    if sizes is None or not all(
        n is None or (isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 0) for n in sizes
    ):
        say(HyperparameterTypeError, name, "shape must be a tuple of sizes, None for any, or a function of a shape",
            describe(shape), "Give shape=(None, 512), or shape=lambda shape: len(shape) == 2")  # fmt: skip


def not_given(name: str, where: str, method: str, names: Sequence[str]) -> NoReturn:
    """A function that cannot be called without more."""
    say(TransformationError, name, f"{where} has the method {method}, which needs {' and '.join(names)}", "none",
        "Write Group(name, method, learning_rate, weight_decay), or functools.partial(method, …)")  # fmt: skip


def check_mapping(name: str, argument: str, value: Any) -> None:
    """A dict."""
    if not isinstance(value, Mapping):
        say(TransformationError, name, f"{argument} must be a dict", describe(value), "Write {key: value, ...}")


def astray(name: str, leaves: Sequence[tuple[str, tuple[int, ...], str | None, Sequence[str]]]) -> NoReturn:
    """Leaves that no group takes, or several: (path, shape, role, groups) each."""
    told = [
        f"{path} {shape} of the role {role or '?'}: {' and '.join(names) or 'none'}"
        for path, shape, role, names in leaves
    ]
    more = f"; {len(told) - 8} more" if len(told) > 8 else ""
    say(TreeError, name, "each leaf must be taken by one group", "; ".join(told[:8]) + more,
        "explain(params, groups) shows all. Give a group the role, path or shape, or say what the leaf is: "
        "roles={path: role}, and which axes are stacks: stack_axes")  # fmt: skip


def not_for_finished(name: str, where: str, names: Sequence[str]) -> NoReturn:
    """Settings for a transformation that has its own."""
    say(TransformationError, name, f"{where} has a finished transformation, which takes no {' or '.join(names)}",
        do="Give the function that makes it: muon, or functools.partial(muon, beta=0.9)")  # fmt: skip


def not_taken(name: str, where: str, method: str, names: Sequence[str]) -> NoReturn:
    """Settings that the function has no argument for."""
    say(TransformationError, name, f"{where} has the method {method}, which takes no {' or '.join(names)}")


def check_subset(name: str, argument: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Names that must be among those known."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        say(HyperparameterError, name, f"{argument} must be parameters of the factory", f"{unknown}",
            f"It has {', '.join(known)}")  # fmt: skip


def missing_argument(name: str, argument: str, why: str) -> NoReturn:
    """An argument of update that the rule cannot do without."""
    say(MissingArgumentError, name, f"{argument} is missing", f"{argument}=None",
        f"Call update(updates, state, params): {why}" if argument == "params" else why)  # fmt: skip


def check_function(name: str, argument: str, function: Any) -> Callable[..., Any]:
    """Something to be called with the parameters."""
    if not callable(function):
        say(TransformationError, name, f"{argument} must be a function of the parameters", describe(function),
            f"Pass the function itself, {argument}(params, ...)")  # fmt: skip
    return function  # type: ignore[no-any-return]


def check_objective(name: str, value: Any) -> Any:
    """The value of an objective is one real number."""
    dtype = getattr(value, "dtype", None)
    if not jax.tree_util.all_leaves([value]) or value is None or np.shape(value) != ():
        say(TreeError, name, "the function to minimize must return one number (shape ())", describe(value),
            "Sum or average over the data; return (value, aux) only with has_aux=True; "
            "for a sum of squares of residuals use least_squares")  # fmt: skip
    if isinstance(value, float) or (dtype is not None and jnp.issubdtype(dtype, jnp.floating)):
        return value
    say(TreeError, name, "the function to minimize must return a real floating-point number", describe(value),
        "Take the real part or a norm of complex numbers; integers have no gradient")  # fmt: skip


def check_one_evaluation(name: str, found: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Of all searches in a state, one must have left a value and a gradient."""
    found = [pair for pair in found if pair[1] is not None]
    if len(found) != 1:
        say(StateError, name, "the state must hold the value and the gradient of one line search", f"{len(found)}",
            "Pass the state of a chain with one line search in it, with store_grad=True if it has that")  # fmt: skip
    return found[0]


def check_evaluated(name: str, value: Any, grad: Any, params: Any) -> Any:
    """A search must be told the value and the gradient where it starts."""
    for argument, given in (("value", value), ("grad", grad)):
        if given is None and jax.tree.leaves(params):
            missing_argument(name, argument, f"Pass {argument}=..., at params; value_and_grad_from_state gives it")
    check_same_trees(name, "grad", grad, "params", params)
    return grad


def check_search(name: str, update: Any, fits: bool) -> None:
    """What goes along a direction must be a line search of this package."""
    if not fits:
        say(TransformationError, name, "linesearch must be one of the scale_by_*_linesearch",
            describe(update),
            "Put any other transformation behind the direction with chain")  # fmt: skip


def check_start(name: str, params: Any) -> None:
    """Parameters to begin at: arrays or numbers in a tree; what dtype they need says the method."""
    if params is None:
        say(MissingArgumentError, name, "params is missing", "params=None", "Pass where to start, an array or a pytree")
    if not jax.tree.leaves(params):
        say(TreeError, name, "params must have a leaf at least", describe(params), "Pass where to start, an array or a "
            "pytree of arrays")  # fmt: skip
    for index, leaf in enumerate(jax.tree.leaves(params)):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, int | float | complex):
            check_leaf(name, "params", params, index, leaf)


def check_numbers(name: str, argument: str, value: Any) -> None:
    """An array, a number, or lists of them."""
    try:
        dtype = getattr(value, "dtype", None) or np.asarray(value).dtype
    except ValueError:
        dtype = None
    if dtype is None or not (jnp.issubdtype(dtype, jnp.number) or dtype == np.bool_):
        say(TreeError, name, f"{argument} must be numbers", describe(value), "Give an array")


def check_arrays(name: str, what: str, full: PyTree) -> PyTree:
    """A tree of arrays and numbers, of whatever dtype."""
    for index, leaf in enumerate(jax.tree.leaves(full)):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float | complex):
            say(TreeError, name, f"{what} must be a tree of arrays; {path_of(full, index)} is none", describe(leaf),
                "Leave it out, or make it an array")  # fmt: skip
    return full


def no_equations_solver(name: str, method: str) -> NoReturn:
    """A method that does not read residuals, or does not report how it stands."""
    say(TransformationError, name, "method must be one for residuals", f"{method}", "Use levenberg_marquardt() or "
        "gauss_newton(); for others minimize the sum of squares")  # fmt: skip


def check_args(name: str, args: Any) -> None:
    """What goes to the function after the parameters."""
    if not isinstance(args, tuple):
        say(TransformationError, name, "args must be a tuple of the arguments after params", describe(args),
            "Write args=(data,), with the comma")  # fmt: skip


def check_aux(name: str, result: Any) -> tuple[Any, Any]:
    """With has_aux a function returns a pair."""
    if not isinstance(result, tuple) or len(result) != 2:
        say(TreeError, name, "with has_aux=True the function must return (value, aux)", describe(result),
            "Return a pair, or leave has_aux out")  # fmt: skip
    return result


def check_bound_pair(name: str, bounds: Any) -> tuple[Any, Any]:
    """Bounds come as (lower, upper)."""
    if not isinstance(bounds, tuple | list) or len(bounds) != 2:
        say(TreeError, name, "bounds must be a pair (lower, upper)", describe(bounds),
            "Give each side as one number, None, or a tree like the parameters")  # fmt: skip
    return bounds[0], bounds[1]


def bound_structure(name: str, side: str, tree: PyTree, params: PyTree) -> NoReturn:
    """A side of the bounds that is no tree over the parameters."""
    say(TreeError, name, f"the {side} bounds must be one number, None, or a tree like the parameters or like its "
        "upper part", _short(jax.tree.structure(tree)), f"Expected {_short(jax.tree.structure(params))}. bounds is "
        "(lower, upper), not one pair for each parameter")  # fmt: skip


def check_bound(name: str, side: str, params: PyTree, index: int, bound: Any, shape: tuple[int, ...]) -> None:
    """The bound of one leaf: None, a number, or an array of the leaf's shape."""
    if bound is None:
        return
    if not _is_number(bound):
        say(TreeError, name, f"the {side} bound of the leaf {path_of(params, index)} must be a real number or an array",
            describe(bound), "Use None or an infinity where there is no bound")  # fmt: skip
    if np.shape(bound) not in ((), shape):
        say(TreeError, name, f"the {side} bound of the leaf {path_of(params, index)} must have shape () or {shape}",
            describe(bound), "Shapes are not broadcast here but from one number: reshape the bound")  # fmt: skip


def complex_jacobian(name: str) -> NoReturn:
    """A derivative by complex parameters, where what is needed is one by their real and imaginary parts."""
    say(TreeError, name, "jacobian_fn must be None where parameters are complex", "a function",
        "Leave it out: the derivative by real and imaginary parts is taken of residual_fn")  # fmt: skip


def complex_bound(name: str, side: str, params: PyTree, index: int, leaf: Any) -> NoReturn:
    """A bound of complex numbers, which have no order."""
    say(TreeError, name, f"{side} must be None for the complex leaf {path_of(params, index)}", describe(leaf),
        "Complex numbers have no order: make their real and imaginary parts the parameters")  # fmt: skip


def check_interval(name: str, params: PyTree, index: int, low: Any, high: Any) -> None:
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


def check_program(name: str, params: PyTree, n: int, c: PyTree, Q: Any, *pairs: tuple[Any, Any]) -> None:
    """The parts of a linear or quadratic program: c, Q, then (A, b) and (G, h)."""
    if c is None:
        missing_argument(name, "c", "Pass c=..., the linear part of the objective, a tree like params")
    check_same_trees(name, "c", c, "params", params)
    if Q is not None and np.shape(Q) != (n, n):
        say(TreeError, name, f"Q must be a symmetric matrix float[{n},{n}], as there are {n} parameters", describe(Q),
            "The objective is x'Qx/2 + c'x, with the elements of params as one vector x")  # fmt: skip
    for (left, right), (matrix, vector) in zip((("A", "b"), ("G", "h")), pairs, strict=True):
        if (matrix is None) != (vector is None):
            missing = right if vector is None else left
            missing_argument(name, missing, f"{left} and {right} come together: "
                             f"{left} x {'=' if left == 'A' else '<='} {right}")  # fmt: skip
        if matrix is None:
            continue
        if np.ndim(matrix) != 2 or np.shape(matrix)[1] != n:
            say(TreeError, name, f"{left} must be a matrix with a column for each of {n} parameters", describe(matrix),
                "One row for each constraint; a single one is a matrix of one row")  # fmt: skip
        if np.shape(vector) != np.shape(matrix)[:1]:
            say(TreeError, name, f"{right} must have one number for each of the {np.shape(matrix)[0]} rows of {left}",
                describe(vector), "Shapes are not broadcast here")  # fmt: skip
    numbers = [("Q", Q)] + [pair for both, names in zip(pairs, ("Ab", "Gh"), strict=True)
                            for pair in zip(names, both, strict=True)]  # fmt: skip
    for argument, array in numbers:
        dtype = getattr(array, "dtype", None)
        if dtype is not None and not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            say(TreeError, name, f"{argument} must be real numbers", describe(array), "Give a floating-point array")


def check_band(name: str, bandwidth: Any, Q: Any, *matrices: Any) -> None:
    """A whole number, and no concrete matrix with elements further apart."""
    check_size(name, "bandwidth", bandwidth)
    for argument, matrix in zip("QAG", (Q, *matrices), strict=True):
        if matrix is None or isinstance(matrix, jax.core.Tracer):
            continue
        rows, columns = np.nonzero(np.asarray(matrix))
        width = max(np.abs(rows - columns), default=0) if argument == "Q" else 0
        if argument != "Q" and rows.size:
            first = np.full(len(matrix), np.iinfo(np.int64).max)
            last = np.zeros(len(matrix), np.int64)
            np.minimum.at(first, rows, columns)
            np.maximum.at(last, rows, columns)
            width = np.max((last - first)[np.unique(rows)])
        if width > bandwidth:
            say(HyperparameterError, name, f"bandwidth must cover {argument}",
                f"{bandwidth}, and {argument} needs {width}",
                "Order the parameters so that those which meet are neighbours, or leave it out")  # fmt: skip


def check_convex(name: str, Q: Any) -> None:
    """A concrete Q must be positive semidefinite, but for rounding; a traced one shows itself by its status."""
    if isinstance(Q, jax.core.Tracer):
        return
    matrix = np.asarray(Q, np.float64)
    if not np.all(np.isfinite(matrix)) or not matrix.size:
        return
    ends = np.linalg.eigvalsh((matrix + matrix.T) / 2)[[0, -1]]
    if ends[0] < -1e-6 * np.max(np.abs(ends)):
        say(HyperparameterError, name, "Q must be positive semidefinite, for the problem to be convex",
            f"the eigenvalue {ends[0]:.6g}", "Find a local solution of another problem with "
            "minimize(..., lbfgsb(), bounds=...)")  # fmt: skip


def check_operator(name: str, operator: Any, n: int) -> Any:
    """A symmetric linear map of the parameters: a function of trees like them, or a matrix of their size."""
    if callable(operator) or np.shape(operator) == (n, n):
        return operator
    say(TreeError, name, f"operator must be a function of a pytree like params, or a matrix float[{n},{n}]",
        describe(operator), "Pass lambda v: A @ v, or the symmetric matrix itself")  # fmt: skip


def check_shape(name: str, argument: str, value: Any, shape: tuple[int, ...]) -> None:
    """An array whose shape follows from the others'."""
    if np.shape(value) != shape:
        say(TreeError, name, f"{argument} must have the shape {shape}, which follows from the other arguments",
            describe(value))  # fmt: skip


def check_square_matrix(name: str, tree: PyTree, index: int, leaf: Any) -> None:
    """A leaf that is a square matrix, or a stack of them."""
    shape = np.shape(leaf)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        say(TreeError, name, f"each leaf must be a square matrix, or a stack of them; {path_of(tree, index)} is none",
            describe(leaf))  # fmt: skip


def check_matrix(name: str, tree: PyTree, index: int, leaf: Any) -> None:
    """A leaf that is a matrix, or a stack of them."""
    if np.ndim(leaf) < 2:
        say(TreeError, name, f"each leaf must be a matrix, or a stack of them; {path_of(tree, index)} is none",
            describe(leaf))  # fmt: skip


def no_matrix(name: str, tree: PyTree, index: int, leaf: Any, wanted: str) -> NoReturn:
    """A leaf without rows and columns."""
    say(TreeError, name, f"the leaf {path_of(tree, index)} must have {wanted}", describe(leaf),
        "Say which axes are stacks (stack_axes) or rows and columns, or leave the leaf to another method")  # fmt: skip


def check_layer(name: str, path: str, layers: Iterable[str]) -> str:
    """The layer that a leaf belongs to: the longest name that begins its path."""
    names = sorted(layers, key=len)
    found = [argument for argument in names if not argument or path == argument or path.startswith(f"{argument}/")]
    if not found:
        say(TreeError, name, f"max_logits must have a layer whose name begins the path {path}",
            f"the layers {', '.join(map(repr, names[:5]))}",
            "Name layers as paths are spelled, 'layers/0/attention'")  # fmt: skip
    return found[-1]


def check_heads(name: str, path: str, shape: tuple[int, ...], heads: Any, logits: tuple[int, ...], fits: bool) -> None:
    """A leaf whose axes hold the heads, and their parts, that the logits are of."""
    if not fits:
        say(TreeError, name, f"the leaf {path} must have the heads of max_logits, shape {logits}, on the axis "
            f"{heads.axis}, and each head the parts {heads.part!r}", f"shape {shape}",
            "Give the axis of the heads, or one that holds heads and their features side by side")  # fmt: skip


def check_coefficients(name: str, argument: str, value: Any) -> Any:
    """(a, b, c), or such a triple for each step."""
    shape = np.shape(value)
    if not (len(shape) in (1, 2) and shape[-1] == 3 and shape[0] > 0 and np.all(np.isfinite(value))):
        say(
            HyperparameterError,
            name,
            f"{argument} must be three finite numbers, or three for each step",
            describe(value),
        )
    return value


def check_newton_exponent(name: str, exponent: Any) -> NoReturn:
    """Products alone make roots of whole degree."""
    say(HyperparameterError, name, "exponent must be 1, 1/2, 1/3, 1/4, … as a Python number with root='newton'",
        describe(exponent), "root='eigh' takes any")  # fmt: skip


def check_square(name: str, equations: PyTree, params: PyTree) -> None:
    """As many equations as unknowns."""
    for index, leaf in enumerate(jax.tree.leaves(equations)):
        check_leaf(name, "equations", equations, index, leaf, real=False)
    m, n = map(_real_numbers, (equations, params))
    if m != n:
        say(TreeError, name, f"there must be as many equations as unknowns ({n})", f"{m} equations",
            "For more equations than unknowns use least_squares")  # fmt: skip


def _real_numbers(tree: PyTree) -> int:
    """How many real numbers a tree has; a complex one is two."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(np.shape(leaf)) * (1 + _is_complex(leaf)) for leaf in leaves)


def _is_complex(leaf: Any) -> bool:
    return bool(jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.complexfloating))


def check_residuals(name: str, residuals: PyTree, n: int, linear: bool) -> None:
    """Residuals of a least-squares problem: floating arrays, at least as many numbers as the parameters have.

    linear: complex ones may be among them, two numbers each; a robust loss would depend on where their phase begins.
    """
    leaves = jax.tree.leaves(residuals)
    for index, leaf in enumerate(leaves):
        dtype, parts = getattr(leaf, "dtype", None), _is_complex(leaf)
        if isinstance(leaf, float) or (dtype is not None and jnp.issubdtype(dtype, jnp.floating)) or (parts and linear):
            continue
        say(TreeError, name, f"the residuals leaf {path_of(residuals, index)} must be a real floating-point array",
            describe(leaf),
            "Complex residuals are for loss='linear': return abs(r), or the real and the imaginary parts as two leaves"
            if parts else
            "Make the data or the residuals floating, for example with y.astype(float)")  # fmt: skip
    if len(leaves) == 1 and np.shape(leaves[0]) == ():
        say(TreeError, name, "residual_fn must return the residuals, not one number", describe(leaves[0]),
            "Return the vector whose squares are summed; for a scalar objective use a minimizer")  # fmt: skip
    if (m := _real_numbers(residuals)) < n:
        say(TreeError, name, f"there must be at least as many residuals as parameters ({n})", f"{m} residuals",
            "Add data, or a term such as sqrt(weight) * params that ties the parameters down")  # fmt: skip


def check_constraint(name: str, argument: str, constraint: PyTree) -> None:
    """Constraints are real arrays, in any tree."""
    for index, leaf in enumerate(jax.tree.leaves(constraint)):
        dtype = getattr(leaf, "dtype", None)
        if isinstance(leaf, float) or (dtype is not None and jnp.issubdtype(dtype, jnp.floating)):
            continue
        say(TreeError, name, f"the leaf {path_of(constraint, index)} of {argument}(params) must be a real "
            "floating-point array", describe(leaf),
            "Return the real and the imaginary parts as two leaves" if _is_complex(leaf) else
            "Return the values themselves, not whether they hold")  # fmt: skip


def hidden_method(name: str, method: str) -> NoReturn:
    """A method of ours within a function of somebody's, which hides what derivatives need to know of it."""
    say(TransformationError, name, f"the solution's derivatives need the prox of {method}", "an update that hides it",
        "Pass the pair itself, or GradientTransformation(pair.init, pair.update); a function around its update "
        "has no record of it")  # fmt: skip


def check_heeded(name: str, ignored: Sequence[str]) -> None:
    """Constraints are for a method that heeds them."""
    if ignored:
        say(TransformationError, name, f"it takes no {' or '.join(ignored)} constraints", ", ".join(ignored),
            "Use interior_point(), for bounds alone lbfgsb() or projected_gradient(), or leave them out")  # fmt: skip


def check_solver(name: str, argument: str, state: Any, fits: bool) -> None:
    """A method that reports how it stands."""
    if not fits:
        say(TransformationError, name, f"{argument} must be a solver such as lbfgs(), newton() or lbfgsb(), whose "
            "state reports how it stands", f"the state {type(state).__name__}")  # fmt: skip


def jacobian_structure(name: str, jacobian: Any, m: int, n: int) -> NoReturn:
    """A user's Jacobian that is neither a matrix nor a tree of trees."""
    got = describe(jacobian) if jax.tree_util.all_leaves([jacobian]) else _short(jax.tree.structure(jacobian))
    say(TreeError, name, f"jacobian_fn must return the matrix float[{m},{n}] of all residuals by all parameters, or "
        "what jax.jacobian(residual_fn) does", got,
        "A tree like the residuals, with a tree like the parameters for each of its leaves")  # fmt: skip


def check_block(name: str, block: Any, shape: tuple[int, ...], m: int, n: int) -> None:
    """One leaf of residuals by one leaf of parameters."""
    dtype = getattr(block, "dtype", None)
    if np.shape(block) != shape or not (dtype is None or jnp.issubdtype(dtype, jnp.floating)):
        say(TreeError, name, f"jacobian_fn must return real floating-point numbers in the shape {shape}, residuals by "
            f"parameters, or the matrix float[{m},{n}] of all", describe(block),
            "Rows belong to the residuals: transpose it, or compare jax.jacobian(residual_fn)(params)")  # fmt: skip


def check_no_jacobian(name: str, jacobian_fn: Any) -> None:
    """A method that has no use for a Jacobian matrix."""
    if jacobian_fn is not None:
        say(TransformationError, name, "jacobian_fn is of no use with linear_solver='lsmr'", describe(jacobian_fn),
            "Leave it out: J's products with vectors come from residual_fn; or take 'svd' or 'qr'")  # fmt: skip


def check_loss(name: str, loss: Any, known: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """A loss of least squares, by name or as a function."""
    if callable(loss):
        return loss  # type: ignore[no-any-return]
    check_choice(name, "loss", loss if isinstance(loss, str) else repr(loss), [*known, "a function rho(z)"])
    return known[loss]


def check_rho(name: str, z: Any, value: Any) -> Any:
    """What a user's loss returns."""
    dtype = getattr(value, "dtype", None)
    if np.shape(value) != np.shape(z) or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        say(TreeError, name, "a loss must map each z = (r / loss_scale)**2 to one number, as jnp.log1p does",
            f"{describe(value)} for {describe(z)}", "Return rho(z) alone: JAX finds its derivatives")  # fmt: skip
    return value


def check_number(name: str, argument: str, value: Any, domain: Domain) -> Any:
    """A hyperparameter of the problem rather than of the method: no schedule, for f must not change with the step."""
    if callable(value):
        say(HyperparameterTypeError, name, f"{argument} must be a number or an array of shape ()", describe(value),
            "It cannot change with the step: give the number itself")  # fmt: skip
    return check_hyper(name, argument, value, domain)


def check_params(name: str, updates: PyTree, params: PyTree) -> None:
    """A rule that reads the parameters must get them; a tree without leaves has none."""
    if params is None and jax.tree.leaves(updates):
        missing_argument(name, "params", "this rule reads the parameters")


def check_some(name: str, params: PyTree) -> int:
    """Parameters to differentiate by: how many elements they have in all, one at least."""
    leaves = jax.tree.leaves(params)
    for index, leaf in enumerate(leaves):
        check_leaf(name, "params", params, index, leaf)
    n = sum(math.prod(np.shape(leaf)) for leaf in leaves)
    if n == 0:
        say(TreeError, name, "params must have an element", describe(params), "A function of nothing has no curvature")
    return n


def check_batch(name: str, args: PyTree, small: int) -> None:
    """Arrays with the examples first, which divide into groups of `small`, two at least."""
    leaves = jax.tree.leaves(args)
    sizes = sorted({np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in leaves})
    if len(sizes) != 1 or sizes[0] == 0:
        say(TreeError, name, "args must be arrays with the batch as first axis, of one size", f"sizes {sizes}",
            "Close over what is no batch: lambda params, x, y: fun(params, x, y, rate)")  # fmt: skip
    if sizes[0] % small or sizes[0] < 2 * small:
        say(HyperparameterError, name, "the batch must be a multiple of small, twice at least",
            f"a batch of {sizes[0]}, small={small}", "Leave some examples out")  # fmt: skip


def check_examples(name: str, grads: PyTree) -> None:
    """Gradients of several examples: the same number of them, first, in each leaf."""
    leaves = jax.tree.leaves(grads)
    sizes = [np.shape(leaf)[0] if np.ndim(leaf) else None for leaf in leaves]
    if len(set(sizes)) > 1 or None in sizes or 0 in sizes:
        say(TreeError, name, "every gradient must have the examples as its first axis",
            ", ".join(map(describe, leaves[:4])), "Take them with jax.vmap(jax.grad(loss), (None, 0))")  # fmt: skip


def check_parts(name: str, sizes: Sequence[int], size: int) -> None:
    """Batches of one size, divided by that of their parts."""
    if len(set(sizes)) != 1 or sizes[0] % size or not sizes[0]:
        say(TreeError, name, f"the batch axes must have one size, divisible by {size}", f"sizes {sorted(set(sizes))}",
            "See argnums, argnames and in_axes; leave some examples out, or fill the batch up")  # fmt: skip


def check_accumulator(name: str, kind: Any, kinds: tuple[type, ...]) -> None:
    """How results of parts become one."""
    if not isinstance(kind, kinds):
        say(HyperparameterTypeError, name, "accumulator must be an AccumulationType or Accumulator, or a tree of them",
            describe(kind), "Give AccumulationType.SUM for one")  # fmt: skip


def check_first_axis(name: str, argument: str, axis: Any) -> None:
    """An axis that must be the first."""
    if isinstance(axis, bool) or axis != 0:
        say(HyperparameterError, name, f"{argument} must be 0", repr(axis), "Move the axis afterwards: jnp.moveaxis")


def check_rank(name: str, shape: tuple[int, ...], most: int) -> None:
    """An array with no more axes than there is a rule for."""
    if len(shape) > most:
        say(TreeError, name, f"there is a rule for {most} axes at most", f"shape {shape}",
            "Say with axis which belong to a unit, or with stack_axes how many leading ones are stacks")  # fmt: skip


def check_axes(name: str, shape: tuple[int, ...], numbers: Any, fits: bool) -> None:
    """Each axis of a leaf is one of the rows or of the columns of a matrix."""
    if not fits:
        say(TreeError, name, f"each axis of a leaf must be one of rows or columns, of the shape {shape} here",
            repr(numbers), "Give None for the leaf to leave it as it is")  # fmt: skip


def check_losses(name: str, losses: Any, examples: int) -> None:
    """One loss for each example."""
    if np.shape(losses) != (examples,):
        say(TreeError, name, f"fun must return one loss for each of the {examples} examples it is given",
            describe(losses), "Leave out the mean over the batch; for a function of one example, jax.vmap")  # fmt: skip


def check_variables(name: str, x: Any, least: int, most: int | None) -> None:
    """The argument of a test function: one vector, of floating numbers."""
    dtype, shape = getattr(x, "dtype", None), np.shape(x)
    if len(shape) != 1 or shape[0] < least or (most is not None and shape[0] > most) or dtype is None:
        size = f"({least},)" if most is not None else f"(n,), n >= {least}"
        say(TreeError, name, f"x must be an array of shape {size}", describe(x),
            "Put the variables into one array; for many points, jax.vmap")  # fmt: skip
    if not jnp.issubdtype(dtype, jnp.floating):
        say(TreeError, name, "x must be real floating-point numbers", describe(x), "Convert it: x.astype(jnp.float32)")


def check_condition(name: str, condition: Any) -> None:
    """A condition number."""
    if not _is_number(condition) or np.shape(condition) != () or not 1 <= condition < math.inf:
        say(HyperparameterError, name, "condition must be a finite number >= 1", describe(condition),
            "It is the ratio of the largest to the smallest singular value")  # fmt: skip


# ---- trees ----------------------------------------------------------------------------------------------


def describe(value: Any) -> str:
    """`float32[3,4]` for an array, the type's name and a short look for anything else."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, type) or callable(value):
        return f"the {type(value).__name__} {getattr(value, '__name__', value)!s}"
    if isinstance(value, tuple) and type(value) is not tuple:
        return f"a {type(value).__name__}"
    if isinstance(value, tuple | list) and len(value) <= 4:
        return f"a {type(value).__name__} of ({', '.join(map(describe, value))})"
    text = repr(value)
    return f"a {type(value).__name__}: {text if len(text) <= 80 else text[:77] + '...'}"


def path_of(tree: PyTree, index: int, none_is_leaf: bool = False) -> str:
    """The path of the index-th leaf; `(root)` if the tree is one leaf."""
    is_leaf = _is_none if none_is_leaf else None
    path, _ = flatten_with_path(tree, is_leaf=is_leaf)[0][index]
    return _spell(path)


def _spell(path: Iterable[Any]) -> str:
    return jax.tree_util.keystr(tuple(path)) or "(root)"


def _is_none(x: Any) -> bool:
    return x is None


def _short(structure: Any) -> str:
    text = str(structure)
    return text if len(text) <= 200 else f"{text[:160]} ... ({structure.num_leaves} leaves)"


def _stands_for_a_leaf(x: Any) -> bool:
    return x is None or isinstance(x, MaskedNode)


def structure_mismatch(name: str, what: str, tree: PyTree, like: str, reference: PyTree) -> NoReturn:
    """Say where two trees part: missing leaves, extra ones, or other containers."""
    have, want = (
        {
            _spell(path): type(leaf) if _stands_for_a_leaf(leaf) else None
            for path, leaf in flatten_with_path(t, is_leaf=_stands_for_a_leaf)[0]
        }
        for t in (tree, reference)
    )
    missing, extra = sorted(want.keys() - have.keys()), sorted(have.keys() - want.keys())
    masked = sorted(path for path in have.keys() & want.keys() if have[path] != want[path])
    parts = [f"no leaf at {', '.join(missing[:3])}"] if missing else []
    parts += [f"an extra leaf at {', '.join(extra[:3])}"] if extra else []
    parts += [f"a leaf left out, masked or None, in one of them at {', '.join(masked[:3])}"] if masked else []
    if not parts:
        parts = [f"the same leaves in other containers: {_short(jax.tree.structure(tree))}"]
    say(TreeError, name, f"the {what} must have the structure of the {like}", " and ".join(parts),
        f"Expected {_short(jax.tree.structure(reference))}. Pass trees made for the same parameters; "
        "leave leaves out of both with masked or partition")  # fmt: skip


def shape_mismatch(name: str, what: str, path: str, got: Any, like: str, want: tuple[int, ...] | None) -> NoReturn:
    """A leaf of another shape, broadcastable or not."""
    say(TreeError, name, f"the {what} leaf {path} must have the shape {want} of the {like}", describe(got),
        "Shapes are never broadcast here: reshape the leaf, or make the state anew with init")  # fmt: skip


def memory_mismatch(name: str, memory: Any, path: str, got: Any) -> NoReturn:
    """A gradient whose leaf remembers what was made for another one."""
    say(TreeError, name, f"the gradients leaf {path} must have the shape of the leaf that its state was made for",
        f"{describe(got)} with the state {', '.join(map(describe, memory))}",
        "Shapes are never broadcast here: reshape the leaf, or make the state anew with init")  # fmt: skip


def check_stack_axes(name: str, stack_axes: Any) -> None:
    """How many leading axes of a leaf are stacks."""
    for leaf in jax.tree.leaves(stack_axes, is_leaf=_is_none):
        if not isinstance(leaf, int) or isinstance(leaf, bool) or leaf < 0:
            say(HyperparameterTypeError, name, "stack_axes must be an integer >= 0 or a tree of such", describe(leaf),
                "Give 1 for leaves [layers, m, n], 0 for leaves [m, n]")  # fmt: skip


def too_few_axes(name: str, path: str, leaf: Any, stack: int) -> NoReturn:
    """A leaf that cannot be a stack of others."""
    say(TreeError, name, f"the leaf {path} must have the {stack} leading axes that stack_axes says are stacks",
        describe(leaf), "Give a tree: stack_axes={'layers': 1, 'head': 0}")  # fmt: skip


def rule_shapes(name: str, went_in: Sequence[Any], came_out: Sequence[Any]) -> NoReturn:
    """A leafwise rule whose step or memory changed its shape."""
    say(TreeError, name, f"the rule must return a step and memory shaped {', '.join(map(describe, went_in))}",
        ", ".join(map(describe, came_out)), "Return (step, *memory), each in the shape it came in")  # fmt: skip


def check_leaf(
    name: str, what: str, tree: PyTree, index: int, leaf: Any, none_is_leaf: bool = False, real: bool = True
) -> None:
    """A leaf must be a floating array (or a Python float), and a real one where `real`."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize > 1:
        return
    if dtype is None and isinstance(leaf, float):
        return
    complex_ = _is_complex(leaf)
    if complex_ and not real:
        return
    path = path_of(tree, index, none_is_leaf)
    if complex_:
        say(TreeError, name, f"the {what} leaf {path} is complex, and {name} is for real numbers", describe(leaf),
            "Write split_real_and_imaginary(transformation), which shows it real and imaginary parts")  # fmt: skip
    say(TreeError, name, f"the {what} leaf {path} is not a floating-point array of 16 bits or more", describe(leaf),
        "Write 1.0 for 1, or leave it out: masked(transformation, mask) with False there, partition({...}, labels), "
        "or None in its place")  # fmt: skip


def check_carry(name: str, old: PyTree, new: PyTree) -> None:
    """The new state must be a scan carry for the old one: equal structure, shapes and dtypes."""
    try:
        chex.assert_trees_all_equal_structs(old, new)
    except AssertionError:
        structure_mismatch(name, "new state", new, "state that went in", old)
    try:
        chex.assert_trees_all_equal_shapes_and_dtypes(old, new)
    except (AssertionError, AttributeError) as error:  # chex takes no Python numbers, which a foreign state may have
        pairs = zip(flatten_with_path(old)[0], jax.tree.leaves(new), strict=True)
        for (path, a), b in pairs:
            if np.shape(a) != np.shape(b) or jnp.result_type(a) != jnp.result_type(b):
                say(StateError, name, f"the new state's leaf {_spell(path)} must stay {describe(a)}",
                    describe(b), "Store it in the dtype and shape that init chose (lax.scan's carry rule)")  # fmt: skip
        if isinstance(error, AssertionError):
            raise


def check_same_trees(name: str, what: str, tree: PyTree, like: str, reference: PyTree) -> None:
    """Two trees must agree in structure and in every shape."""
    try:
        chex.assert_trees_all_equal_structs(tree, reference)
    except AssertionError:
        structure_mismatch(name, what, tree, like, reference)
    for index, (a, b) in enumerate(zip(jax.tree.leaves(tree), jax.tree.leaves(reference), strict=True)):
        if np.shape(a) != np.shape(b):
            shape_mismatch(name, what, path_of(tree, index), a, like, np.shape(b))


# ---- what a signature says ------------------------------------------------------------------------------


def options(function: Callable[P, T]) -> Callable[P, T]:
    """`function`, which refuses arguments that are not what its signature says: see `signature_check`."""
    check = signature_check(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        check(*args, **kwargs)
        return function(*args, **kwargs)

    return checked


def signature_check(function: Callable[..., Any]) -> Callable[..., None]:
    """A check of the arguments by their annotations: switches, dtypes, shardings, functions, transformations, dicts,
    pairs of hyperparameters, `stack_axes`. Numbers are looked at where their domain is known, defaults not at all."""
    name, signature = function.__name__, inspect.signature(function)
    known = {}
    for argument, parameter in signature.parameters.items():
        annotation = str(parameter.annotation)
        check = _check_for(argument, annotation.removesuffix(" | None"))
        if check is not None and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            known[argument] = check, annotation.endswith(" | None"), parameter.default

    def check_all(*args: Any, **kwargs: Any) -> None:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return  # the call says so itself
        for argument, value in given.items():
            if argument in known:
                check, optional, default = known[argument]
                if value is not default and not (optional and value is None):
                    check(name, argument, value)

    return check_all


def _check_for(argument: str, annotation: str) -> Callable[[str, str, Any], Any] | None:
    """The check for an argument of this name and annotation, if there is one."""
    if argument == "stack_axes":
        return lambda name, _, value: check_stack_axes(name, value)
    if argument == "normalized" or argument.rsplit("_", maxsplit=1)[-1] == "mask":
        return _check_mask
    if argument.endswith("dimension_numbers"):
        return _check_dimension_numbers
    if annotation.startswith("Callable["):
        return _check_callable
    if annotation.startswith("Mapping["):
        return check_mapping
    return _CHECKS.get(annotation)


def _check_callable(name: str, argument: str, value: Any) -> None:
    if not callable(value):
        say(TransformationError, name, f"{argument} must be a function", describe(value),
            "Pass the function itself, not its name or its result")  # fmt: skip


def _check_sharding(name: str, argument: str, value: Any) -> None:
    if not isinstance(value, jax.sharding.Sharding):
        say(HyperparameterTypeError, name, f"{argument} must be a jax.sharding.Sharding", describe(value),
            "Give NamedSharding(mesh, PartitionSpec('data'))")  # fmt: skip


def _check_mask(name: str, argument: str, value: Any) -> None:
    """A tree of bools, or a function that makes one; which leaves it fits shows itself later."""
    if callable(value):
        return
    for path, leaf in flatten_with_path(value)[0]:
        if not isinstance(leaf, bool | np.bool_) and getattr(leaf, "dtype", None) != np.bool_:
            if path:
                _not_a_bool(name, argument, _spell(path), leaf)
            say(HyperparameterTypeError, name,
                f"{argument} must be a tree of bools, or a function that makes one of params", describe(leaf),
                "Give True for the leaves that are meant and False for the others")  # fmt: skip


def _check_dimension_numbers(name: str, argument: str, value: Any) -> None:
    """What says how a leaf is a matrix is a NamedTuple: a tree of such, None for other leaves, or a function."""
    if callable(value) or value is None:
        return
    for leaf in jax.tree.leaves(value, is_leaf=lambda x: hasattr(x, "_fields")):
        if not hasattr(leaf, "_fields"):
            say(HyperparameterTypeError, name, f"{argument} must be a tree of dimension numbers, or a function that "
                "makes one of params", describe(leaf),
                "Give MuonDimensionNumbers(reduction_axis, output_axis), None for "
                "the leaves that are no matrices")  # fmt: skip


def check_axes_option(name: str, argument: str, value: Any) -> None:
    """One axis or several, None for a default."""
    axes = value if isinstance(value, tuple | list) else () if value is None else (value,)
    if any(not isinstance(axis, int | np.integer) or isinstance(axis, bool) for axis in axes):
        say(HyperparameterTypeError, name, f"{argument} must be an integer or a tuple of integers", describe(value),
            "Count from 0, or from the end with -1")  # fmt: skip


def _check_kind_of_state(name: str, argument: str, value: Any) -> None:
    if not isinstance(value, type) or not hasattr(value, "_fields"):
        say(HyperparameterTypeError, name, f"{argument} must be a NamedTuple class", describe(value),
            "Write class MyState(NamedTuple): ...")  # fmt: skip


def _check_places(name: str, argument: str, value: Any) -> None:
    kind = str if argument == "argnames" else int
    places = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    if not all(isinstance(place, kind) and not isinstance(place, bool) for place in places):
        say(HyperparameterTypeError, name, f"{argument} must be of the type {kind.__name__}, or several such",
            describe(value), "Give the places of arguments as integers, or their names as strings")  # fmt: skip


def check_words(name: str, argument: str, value: Any) -> None:
    """One string or several."""
    if not isinstance(value, str) and not (isinstance(value, Iterable) and all(isinstance(x, str) for x in value)):
        say(HyperparameterTypeError, name, f"{argument} must be a name or several names", describe(value),
            "Give strings: the names of arguments")  # fmt: skip


def _check_float(name: str, argument: str, value: Any) -> None:
    if not _is_number(value) or np.shape(value) != ():
        say(HyperparameterTypeError, name, f"{argument} must be one number", describe(value))


def _check_pair_of_hypers(name: str, argument: str, value: Any) -> None:
    if not isinstance(value, tuple | list) or len(value) != 2:
        say(HyperparameterTypeError, name, f"{argument} must be two hyperparameters", describe(value),
            f"Write {argument}=(0.9, 0.999)")  # fmt: skip


_CHECKS: dict[str, Callable[[str, str, Any], Any]] = {
    "bool": check_switch,
    "DType": check_dtype,
    "float": _check_float,
    "tuple[Hyper, Hyper]": _check_pair_of_hypers,
    "jax.sharding.Sharding": _check_sharding,
    "GradientTransformation": check_pair,
    "Axes": check_axes_option,
    "Axis": check_axes_option,
    "int | tuple[int, ...]": check_axes_option,
    "type": _check_kind_of_state,
    "Function": _check_callable,
    "int | Sequence[int]": _check_places,
    "str | Sequence[str]": _check_places,
}
