"""Checks of arguments that the data and the loop share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.errors import HyperparameterTypeError, check_key, describe, is_typed_key, say


def check_whole(name: str, argument: str, value: Any, least: int = 0) -> None:
    """An integer of `least` or more, traced or not; where it is concrete it is looked at.

    name: who speaks, in error messages.
    """
    dtype = getattr(value, "dtype", None)
    whole = jnp.issubdtype(dtype, jnp.integer) if dtype is not None else isinstance(value, int)
    fits = isinstance(value, jax.core.Tracer) or (whole and np.shape(value) == () and int(value) >= least)
    if isinstance(value, bool) or not whole or np.shape(value) != () or not fits:
        say(HyperparameterTypeError, name, f"{argument} must be an integer of at least {least}", describe(value),
            "Give a Python int or an int32 array of shape ()")  # fmt: skip


def check_prng_key(name: str, key: Any) -> None:
    """One PRNG key, typed or raw, and no seed.

    name: who speaks, in error messages.
    key: a PRNG key, typed or raw, or an integer seed.
    """
    if isinstance(key, int) or (np.shape(key) == () and not is_typed_key(key)):
        say(HyperparameterTypeError, name, "key must be one PRNG key", describe(key), "Give jax.random.key(0)")
    check_key(name, key)
