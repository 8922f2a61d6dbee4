"""Checks of arguments that the data and the loop share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.errors import HyperparameterTypeError, check_key, describe, is_typed_key, say


def check_whole(name: str, argument: str, value: Any, least: int = 0) -> None:
    """An integer that is large enough, or an error; where it is traced only its shape and dtype are looked at.

    name: who speaks, in error messages.
    argument: what the number is called there.
    value: the number, a Python int or an integer array of shape (), traced or not.
    least: the smallest that passes; 0 by default.

    Returns None. Raises HyperparameterTypeError otherwise. A part of `data` and `loop`; not for other programs.

    >>> jo.data.check_whole("mini_batch", "size", 3, least=1)
    """
    dtype = getattr(value, "dtype", None)
    whole = jnp.issubdtype(dtype, jnp.integer) if dtype is not None else isinstance(value, int)
    fits = isinstance(value, jax.core.Tracer) or (whole and np.shape(value) == () and int(value) >= least)
    if isinstance(value, bool) or not whole or np.shape(value) != () or not fits:
        say(HyperparameterTypeError, name, f"{argument} must be an integer of at least {least}", describe(value),
            "Give a Python int or an int32 array of shape ()")  # fmt: skip


def check_prng_key(name: str, key: Any) -> None:
    """One PRNG key, typed or raw, or an error.

    name: who speaks, in error messages.
    key: a PRNG key, typed or raw; an integer seed is refused.

    Returns None. Raises HyperparameterTypeError otherwise. A part of `data` and `loop`; not for other programs.

    >>> jo.data.check_prng_key("fit", jax.random.key(0))
    """
    if isinstance(key, int) or (np.shape(key) == () and not is_typed_key(key)):
        say(HyperparameterTypeError, name, "key must be one PRNG key", describe(key), "Give jax.random.key(0)")
    check_key(name, key)
