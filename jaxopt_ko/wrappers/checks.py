"""Checks that several wrappers share."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxopt_ko.errors import HyperparameterTypeError, TransformationError, describe, say


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
