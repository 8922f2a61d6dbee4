"""Checks that several wrappers share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, TransformationError, describe, say


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


def check_instance(name: str, argument: str, value: Any, kind: type, make: str) -> None:
    """An argument of a class of ours; make: how a user makes one."""
    if not isinstance(value, kind):
        say(HyperparameterTypeError, name, f"{argument} must be {kind.__name__}", describe(value), f"Make it: {make}")
