"""Published problems, many to a program: a driver compiles once for a family, whose problems are numbers to it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Family(NamedTuple):
    """Problems as one function of x float[size] and of which of them it is to be; what is beyond a problem's own n
    elements counts for nothing."""

    problems: list
    function: Callable  # (x, int32[] which) -> float[...]
    starts: list  # float[size], of each


def one_of(functions):
    """(x, which) -> functions[which](x), in NumPy's own ways with dtypes and ranks."""

    def call(x, which):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return jax.lax.switch(which, functions, x)

    return call


def families(problems, sizes, residuals=True):
    """More-Garbow-Hillstrom problems, each in the family of the least size that has room for it.

    The function is that of the residuals, zeros after the problem's own, or of the sum of their squares.
    """
    made = []
    for least, size in zip((0, *sizes), sizes, strict=False):
        mine = [p for p in problems if least < p["n"] <= size]
        m = max((p["m"] for p in mine), default=0)

        def residual(x, p, m=m):
            r = jnp.asarray(p["r"](x[: p["n"]], jnp))
            return jnp.pad(r, (0, m - r.size)) if residuals else jnp.sum(r * r)

        function = one_of([lambda x, p=p, residual=residual: residual(x, p) for p in mine])
        starts = [np.pad(np.float64(p["x0"]), (0, size - p["n"])) for p in mine]
        if mine:
            made.append(Family(mine, function, starts))
    return made
