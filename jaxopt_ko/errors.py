"""Every sentence the library raises: who, what was wrong, what was got, what to do.

Here are the classes, the one form of a message (`say`), the domains of hyperparameters, and the checks of single
arguments that several rooms share. Checks of trees and states are in `core.checks`, those that a signature implies in
`core.signature`; a check with one caller stands beside it. All look at Python values and at the static side of arrays
(structure, shape, dtype), never at traced values: those pass unchecked.
"""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten_with_path as flatten_with_path

from jaxopt_ko.types import GradientTransformation, Hyper, PyTree

__all__ = [
    "FINITE", "FRACTION", "LIMIT", "NONNEGATIVE", "OPEN_FRACTION", "POSITIVE", "THRESHOLD", "UNIT", "Domain",
    "HyperparameterError", "HyperparameterTypeError", "MissingArgumentError", "StateError", "TransformationError",
    "TreeError", "check_choice", "check_hyper", "describe", "say",
]  # fmt: skip


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
    """Raise `kind` in the one form of all our messages: who, what was wrong, what was got, what to do.

    kind: the class of the exception.
    name: who speaks, in error messages.
    wrong: what was wrong, without a full stop.
    got: what was got; None: left out.
    do: what to do; None: left out.

    Raises `kind`, always.

    >>> jo.errors.say(jo.errors.TreeError, "my_rule", "x must be real", "complex64[3]", "Take its real part")
    Traceback (most recent call last):
        ...
    jaxopt_ko.errors.TreeError: my_rule: x must be real. Got complex64[3]. Take its real part.
    """
    parts = [f"{name}: {wrong}."]
    if got is not None:
        parts.append(f"Got {got}.")
    if do is not None:
        parts.append(do if do.endswith(".") else f"{do}.")
    raise kind(" ".join(parts))


def say_of_part(name: str, error: Exception) -> NoReturn:
    """Raise what a part of the method `name` said, in the name of the whole."""
    raise type(error)(f"{name}: {error}") from None


WITH_OPTAX = "when optax's does"


def deprecated(old: str, new: str, since: str, goes: str | None = None) -> None:
    """Warn that a name is old, at the line that calls: since when, what to write, and when the old name goes.

    old: the name, or the argument as "scion(momentum=…)".
    new: what to write instead.
    since: the version that deprecated it, "0.2.0": that one and all of its minor version have the old name.
    goes: when it goes, as `WITH_OPTAX` for a name that is here because it is optax's; None: the next minor version may
        be without it.
    """
    if goes is None:
        major, minor, _ = map(int, since.split("."))
        goes = f"in {major}.{minor + 1}.0 at the earliest"
    warn(f"{old} is deprecated since {since}: use `{new}` instead. It goes {goes}.", DeprecationWarning)


def warn(message: str, kind: type[Warning]) -> None:
    """At the line outside of this package that calls."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(f"{__package__}."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=level)


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

    def of(self, **values: Hyper) -> dict[str, tuple[Hyper, Domain]]:
        """These arguments, each with this domain, as `leafwise` is given hyperparameters."""
        return {argument: (value, self) for argument, value in values.items()}


NONNEGATIVE = Domain(0.0, math.inf, "a finite number >= 0")
POSITIVE = Domain(0.0, math.inf, "a finite number > 0", low_open=True)
THRESHOLD = Domain(0.0, math.inf, "a number > 0 (infinity switches it off)", low_open=True, infinite=True)
LIMIT = Domain(0.0, math.inf, "a number >= 0 (infinity switches it off)", infinite=True)
FRACTION = Domain(0.0, 1.0, "in [0, 1)")
OPEN_FRACTION = Domain(0.0, 1.0, "in (0, 1)", low_open=True)
UNIT = Domain(0.0, 1.0, "in [0, 1]", infinite=True)
FINITE = Domain(-math.inf, math.inf, "a finite number", low_open=True)


def check_hyper(name: str, argument: str, value: Any, domain: Domain) -> Hyper:
    """The value itself, if it can be a hyperparameter; of a traced or scheduled one the shape is checked only.

    name: who speaks, in error messages.
    argument: the name of the argument that the message is about.
    value: a number, an array of shape () or a schedule: whatever the user gave.
    domain: a `Domain`, where a concrete number must lie, also when it is rounded to float32 (float64 with x64).

    Returns the value as it is.
    Raises HyperparameterError for a number outside its domain or of another shape, its subclass HyperparameterTypeError
    for what is no real number.

    >>> jo.errors.check_hyper("my_rule", "b1", 0.9, jo.errors.FRACTION)
    0.9
    >>> jo.errors.check_hyper("my_rule", "b1", 1.5, jo.errors.FRACTION)
    Traceback (most recent call last):
        ...
    jaxopt_ko.errors.HyperparameterError: my_rule: b1 must be in [0, 1), also when rounded to ...
    """
    if callable(value):
        _check_schedule(name, argument, value)
        return value  # type: ignore[no-any-return]
    if isinstance(value, list | tuple):
        try:
            value = np.asarray(value)
        except ValueError:
            value = str(value)
    if not is_number(value):
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


def is_number(value: Any) -> bool:
    """Is it a real number or an array of them? Bools, complex numbers and other number-like objects are not.

    value: anything.

    Returns a bool.

    >>> from jaxopt_ko.errors import is_number
    >>> is_number(1), is_number(jnp.ones(3)), is_number(True), is_number(1j)
    (True, True, False, False)
    """
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


def check_dtype(name: str, argument: str, dtype: Any) -> None:
    """Refuses what cannot be the dtype of some memory.

    It is None for the default, or a floating one of 16 bits at least; of what is like the gradients or parameters
    (mu_dtype, accumulator_dtype, state_dtype, param_dtype) a complex one, too.

    name: who speaks, in error messages.
    argument: the name of the argument that the message is about.
    dtype: whatever the user gave.

    Raises HyperparameterTypeError for anything else.

    >>> from jaxopt_ko.errors import check_dtype
    >>> check_dtype("my_rule", "mu_dtype", jnp.bfloat16)
    """
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
    """A count that decides a shape or a loop's length, or a seed.

    name: who speaks, in error messages.
    argument: the name of the argument that the message is about.
    value: whatever the user gave; an integer that is not traced.
    least: what it is at least, an integer.

    Returns it as a Python int.
    Raises HyperparameterError for a smaller one and for what is no integer, True and 3.0 neither.

    >>> from jaxopt_ko.errors import check_size
    >>> check_size("my_rule", "steps", 3)
    3
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        say(HyperparameterError, name, f"{argument} must be an integer of at least {least}", describe(value),
            "It decides a shape, a loop's length or random numbers, so it cannot be traced")  # fmt: skip
    return int(value)


def check_steps(name: str, argument: str, value: Any, least: int = 1) -> int:
    """A number of steps, which a count, int32[], can reach: `check_size`, and at most 2**31 - 1.

    name: who speaks, in error messages.
    argument: the name of the argument that the message is about.
    value: whatever the user gave; an integer that is not traced.
    least: what it is at least, an integer.

    Returns it as a Python int.
    Raises HyperparameterError for a smaller or larger one and for what is no integer.

    >>> from jaxopt_ko.errors import check_steps
    >>> check_steps("my_rule", "every", 3)
    3
    """
    steps, most = check_size(name, argument, value, least), 2**31 - 1
    if steps > most:
        say(HyperparameterError, name, f"{argument} must be an integer of at most {most}", describe(value),
            "Steps are counted in 32 bits")  # fmt: skip
    return steps


def check_choice(name: str, argument: str, value: Any, choices: Sequence[str]) -> None:
    """Refuses a keyword that names none of the variants.

    name: who speaks, in error messages.
    argument: the name of the argument that the message is about.
    value: whatever the user gave.
    choices: the names of the variants.

    Raises HyperparameterError for what is none of them.

    >>> jo.errors.check_choice("my_rule", "centre", "previous", ("previous", "current"))
    """
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


def is_typed_key(key: Any) -> bool:
    """Is it an array of typed PRNG keys?"""
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
    typed = is_typed_key(key) and shape == ()
    if not typed and not (dtype == jnp.uint32 and len(shape) == 1):
        say(HyperparameterTypeError, name, f"{argument} must be one PRNG key or an integer seed", describe(key),
            "Give jax.random.key(0), or 0")  # fmt: skip
    return key  # type: ignore[no-any-return]


def key_or_zero(name: str, key: Any, seed: Any) -> Any:
    """The key or seed that was given, else the seed 0, with a warning: two runs would have the same noise unnoticed."""
    key = key_or_seed(name, key, seed)
    if key is None:
        warn(f"{name}: no key was given. The seed 0 is taken: the noise is the same in every run. "
              "Give key=jax.random.key(0), or an integer seed.", UserWarning)  # fmt: skip
        return 0
    return key


def key_or_seed(name: str, key: Any, seed: Any) -> Any:
    """The one that was given: seed is optax's older word for key."""
    if seed is None:
        return key
    deprecated(f"{name}(seed=…)", "key", "0.1.0", WITH_OPTAX)
    if key is not None:
        say(HyperparameterError, name, "one of key and seed must be given", "both", "Leave out seed")
    return check_key(name, seed, "seed")


# ---- transformations ------------------------------------------------------------------------------------


def check_pair(name: str, where: str, pair: Any, lands: bool = False) -> GradientTransformation:
    """Return the (init, update) pair, ours or foreign; say what it is otherwise.

    lands: the caller leaves steps as they are, or makes none of them: they may land exactly on numbers of 16 bits
    (`Method.lands`), which else is refused, as those steps are to be added and nothing else.
    """
    made = getattr(pair, "gradient_transformation", None)
    pair = made() if callable(made) and not isinstance(pair, type) else pair  # of MultiSteps
    init, update = getattr(pair, "init", None), getattr(pair, "update", None)
    if callable(init) and callable(update) and not isinstance(pair, type):
        if not lands and getattr(getattr(update, "method", None), "lands", None) is not None:
            not_outermost(name, where, update.method.name, name)
        return pair  # type: ignore[no-any-return]
    if isinstance(pair, tuple) and len(pair) == 2 and all(map(callable, pair)):
        return GradientTransformation(*pair)
    if callable(pair):
        argument = getattr(pair, "__name__", repr(pair))
        say(TransformationError, name, f"{where} is the function {argument}, not a transformation",
            f"{argument} without its call", f"Call it first: {argument}(...)")  # fmt: skip
    say(TransformationError, name, f"{where} must be a transformation, an (init, update) pair", describe(pair),
        "Make one with an optimizer, a scale_by_* rule, or transform(name, init, update)")  # fmt: skip


def not_outermost(name: str, where: str, landing: str, behind: str) -> NoReturn:
    """Steps that lead exactly to parameters of 16 bits, where something would make other steps of them."""
    say(TransformationError, name,
        f"the steps of {where} lead to numbers of 16 bits exactly, and {behind} would change them",
        landing, "Put the rounding outermost: stochastic_rounding(chain(...), key), the same for kahan, split_master "
        "and master_weights. Only masked, partition, route, MultiSteps, apply_if_finite and what else leaves steps as "
        "they are may stand around it")  # fmt: skip


def check_mapping(name: str, argument: str, value: Any) -> None:
    """A dict."""
    if not isinstance(value, Mapping):
        say(TransformationError, name, f"{argument} must be a dict", describe(value), "Write {key: value, ...}")


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


def check_number(name: str, argument: str, value: Any, domain: Domain) -> Any:
    """A hyperparameter of the problem rather than of the method: no schedule, for f must not change with the step."""
    if callable(value):
        say(HyperparameterTypeError, name, f"{argument} must be a number or an array of shape ()", describe(value),
            "It cannot change with the step: give the number itself")  # fmt: skip
    return check_hyper(name, argument, value, domain)


# ---- trees ----------------------------------------------------------------------------------------------


def describe(value: Any) -> str:
    """`float32[3,4]` for an array, the type's name and a short look for anything else.

    value: anything.

    Returns a string, of about a hundred letters at most for what is no array.

    >>> jo.errors.describe(jnp.ones((3, 4))), jo.errors.describe({"a": 1})
    ('float32[3,4]', "a dict: {'a': 1}")
    """
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
    """The path of the index-th leaf; `(root)` if the tree is one leaf.

    tree: any tree.
    index: of the leaf, an integer from 0.
    none_is_leaf: does None count as a leaf?

    Returns a string, as jax.tree_util.keystr spells it.
    Raises IndexError if there is no such leaf.

    >>> from jaxopt_ko.errors import path_of
    >>> path_of({"a": 1.0, "b": [2.0, 3.0]}, 2), path_of(1.0, 0)
    ("['b'][1]", '(root)')
    """
    is_leaf = (lambda leaf: leaf is None) if none_is_leaf else None
    path, _ = flatten_with_path(tree, is_leaf=is_leaf)[0][index]
    return spell_path(path)


def spell_path(path: Iterable[Any]) -> str:
    """A path in a tree as text; `(root)` if it is empty."""
    return jax.tree_util.keystr(tuple(path)) or "(root)"


def describe_structure(structure: Any) -> str:
    """A tree's structure as text of 200 letters at most."""
    text = str(structure)
    return text if len(text) <= 200 else f"{text[:160]} ... ({structure.num_leaves} leaves)"
