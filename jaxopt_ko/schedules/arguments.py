"""Arguments of schedules: the type of each carries its check."""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ParamSpec, TypeAlias, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, say
from jaxopt_ko.schedules.steps import counted
from jaxopt_ko.types import Schedule

P = ParamSpec("P")
ArgumentCheck: TypeAlias = Callable[[str, str, Any], Any]  # (name, argument, value) -> value, or an error


def require(kind: type[Exception], holds: bool, name: str, argument: str, value: Any, words: str) -> None:
    """An error that says what the argument must be, unless it is."""
    if not holds:
        say(kind, name, f"{argument} must be {words}", f"{argument}={value!r}", f"Give {argument} {words}")


def one_number(words: str, holds: Callable[[float], bool], static: type | None = None) -> ArgumentCheck:
    """One real number; if `static`, a concrete one, made an int or a float."""

    def check(name: str, argument: str, value: Any) -> Any:
        traced = isinstance(value, jax.core.Tracer)
        number = is_real(value) and np.shape(value) == () and not (static and traced)
        if static is int and number:  # 1e3, too, and what total * 0.1 gives if it is whole
            number = float(value).is_integer()
        require(HyperparameterTypeError, number, name, argument, value, words)
        require(HyperparameterError, traced or holds(float(value)), name, argument, value, words)
        return static(value) if static else value

    return check


def is_real(value: Any) -> bool:
    """A real number, or an array of real numbers."""
    if not isinstance(value, int | float | np.generic | np.ndarray | jax.Array):
        return False
    kind: Any = getattr(value, "dtype", type(value))
    return any(jnp.issubdtype(kind, known) for known in (jnp.integer, jnp.floating))


def value_that(
    words: str,
    holds: Callable[[Any], bool],
    each: ArgumentCheck | None = None,
    kind: type[Exception] = HyperparameterTypeError,
) -> ArgumentCheck:
    """A value for which `holds` is true, which `words` say; a list of `each`, if that is given."""

    def check(name: str, argument: str, value: Any) -> Any:
        require(kind, holds(value), name, argument, value, words)
        return value if each is None else [each(name, f"{argument}[{i}]", item) for i, item in enumerate(value)]

    return check


def one_of(*names: str) -> ArgumentCheck:
    """A variant's name."""
    return value_that(f"one of {names}", names.__contains__, kind=HyperparameterError)


def list_of(each: ArgumentCheck) -> ArgumentCheck:
    """Several, each of which passes a check."""
    return value_that("a list", lambda value: isinstance(value, Iterable), each)


def _scales(name: str, argument: str, value: Any) -> dict[int, Any]:
    """{boundary: scale}, in the order of the boundaries."""
    scale = one_number("one finite number >= 0", lambda x: 0 <= x < math.inf)
    words = "a dict, as {1000: 0.1, 2000: 0.1}"
    require(HyperparameterTypeError, value is None or isinstance(value, Mapping), name, argument, value, words)
    checked = {whole_steps(name, "boundary", b): scale(name, f"scale at {b}", s) for b, s in (value or {}).items()}
    return dict(sorted(checked.items()))


def _none_below(what: str) -> ArgumentCheck:
    """A whole number, of which a negative one counts as 0, as in optax."""
    whole = one_number("a static whole number, as int(0.1 * n)", lambda n: True, static=int)

    def check(name: str, argument: str, value: Any) -> int:
        number: int = whole(name, argument, value)
        if number < 0:
            _note(name, f"{argument}={number} is negative: {what}")
        return max(number, 0)

    return check


def _note(name: str, what: str) -> None:
    """Log what was made of an argument that is allowed, but rarely meant."""
    logging.getLogger("jaxopt_ko").info("%s: %s", name, what)


_finite = one_number("one finite number", math.isfinite)
whole_steps = one_number("a static whole number >= 0, as int(0.1 * n)", lambda n: n >= 0, static=int)

Value: TypeAlias = Annotated[ArrayLike, _finite]
Bound: TypeAlias = Annotated[ArrayLike | None, lambda *given: None if given[-1] is None else _finite(*given)]
Threshold: TypeAlias = Annotated[ArrayLike, one_number("one number, not NaN", lambda x: not math.isnan(x))]
Positive: TypeAlias = Annotated[ArrayLike, one_number("one finite number > 0", lambda x: 0 < x < math.inf)]
Moment: TypeAlias = Annotated[
    ArrayLike, one_number("a whole number of steps >= 0", lambda n: n >= 0 and float(n).is_integer())
]  # it may be traced
Share: TypeAlias = Annotated[float, one_number("one static number in (0, 1)", lambda x: 0 < x < 1, static=float)]
Steps: TypeAlias = Annotated[int, whole_steps]
SomeSteps: TypeAlias = Annotated[int, one_number("a static whole number > 0", lambda n: n > 0, static=int)]
Transition: TypeAlias = Annotated[int, _none_below("the value stays as it is at first")]
Begin: TypeAlias = Annotated[int, _none_below("the transition begins at step 0")]
Scales: TypeAlias = Annotated[Mapping[int, ArrayLike] | None, _scales]  # {boundary: scale}


def checked(make: Callable[P, Schedule]) -> Callable[P, Schedule]:
    """Every argument through the check that its type carries; `make` sees counts as Python ints."""
    signature, hints = inspect.signature(make), get_type_hints(make, include_extras=True)
    checks = {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}

    @functools.wraps(make)
    def checked(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, check in checks.items():
            bound.arguments[name] = check(make.__name__, name, bound.arguments[name])
        schedule = make(*bound.args, **bound.kwargs)
        return lambda step: schedule(counted(step))

    return checked
