"""Spaces of hyperparameters: lists and intervals, as a grid or as points spread over them.

The spread points are Halton's: the digits of n in a prime base, one for each hyperparameter, mirrored behind the point
(Halton 1960, doi:10.1007/BF01386213), each digit permuted at random, for points of another key and against the
correlation of large bases (Owen 2017, arXiv:1706.02808). Any first part of them lies evenly, in each hyperparameter by
itself too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, describe, is_number, say
from jaxopt_ko.training.checks import check_whole


class Interval(NamedTuple):
    """Numbers from `low` to `high`, both included; `interval` makes one."""

    low: float
    high: float
    log: bool = False  # are ratios even, and not differences?
    n: int | None = None  # points in a grid

    def at(self, share: np.ndarray) -> np.ndarray:
        """The numbers that lie at these shares, 0 to 1, of the way from low to high."""
        if self.log:
            return np.asarray(self.low * (self.high / self.low) ** share)
        return np.asarray(self.low + (self.high - self.low) * share)


def interval(low: float, high: float, *, log: bool = False, n: int | None = None) -> Interval:
    """An interval of a hyperparameter, for `sweep`.

    low, high: its ends, finite, low < high; with log both above 0.
    log: spread evenly in the logarithm, as is right for a learning rate; else evenly in the number itself.
    n: how many points a grid has, the ends among them, an integer >= 2; None: for method="random", or for "halving"
        with trials.

    Returns an `Interval`. Raises HyperparameterError for other ends or another n.

    >>> jo.loop.interval(1e-4, 1.0, log=True, n=5).at(0.5).item()
    0.01
    """
    if not isinstance(log, bool):
        say(HyperparameterTypeError, "interval", "log must be True or False", describe(log))
    if n is not None:
        check_whole("interval", "n", n, 2)
    for name, end in (("low", low), ("high", high)):
        if not is_number(end) or np.shape(end) != () or not math.isfinite(end):
            say(HyperparameterError, "interval", f"{name} must be a finite number", describe(end),
                "Give two numbers: interval(1e-4, 1.0, log=True)")  # fmt: skip
    if not low < high or (log and low <= 0):
        wanted = "0 < low < high" if log else "low < high"
        say(HyperparameterError, "interval", f"the ends must be {wanted}", f"low={low}, high={high}",
            "Exchange or change them")  # fmt: skip
    return Interval(float(low), float(high), log, None if n is None else int(n))


class Space(NamedTuple):
    """The settings of a sweep: S of them, of H hyperparameters."""

    names: tuple[str, ...]  # H
    values: np.ndarray  # float32[S, H]  a setting in each row
    axes: dict[str, np.ndarray]  # the different values of each, from the lowest


def settings(space: Any, spread: int | None, key: Any, dtype: Any) -> Space:
    """The settings of a space: all of its grid, or so many points spread over it."""
    checked = _checked(space, spread)
    columns = _grid(checked) if spread is None else _spread(checked, spread, key)
    values = np.stack(columns, axis=1).astype(dtype)
    if spread is not None:
        values = values[np.sort(np.unique(values, axis=0, return_index=True)[1])]  # each once
    names = tuple(checked)
    return Space(names, values, {name: np.unique(values[:, i]) for i, name in enumerate(names)})


def _checked(space: Any, spread: int | None) -> dict[str, np.ndarray | Interval]:
    if not isinstance(space, Mapping) or not space:
        say(HyperparameterTypeError, "sweep", "space must be a dict with the values of at least one hyperparameter",
            describe(space), 'Give one: {"rate": jnp.geomspace(1e-4, 1.0, 13)}')  # fmt: skip
    checked: dict[str, np.ndarray | Interval] = {}
    for name, given in space.items():
        if not isinstance(name, str):
            say(HyperparameterTypeError, "sweep", "space must have names for its keys", repr(name))
        if isinstance(given, Interval):
            if spread is None and given.n is None:
                say(HyperparameterError, "sweep", f"the interval of {name} has no number of points for a grid",
                    str(given), 'Give n, or method="random" with trials')  # fmt: skip
            checked[name] = given
        else:
            checked[name] = _values(name, given)
    return checked


def _values(name: str, given: Any) -> np.ndarray:
    advice = f'Give numbers, {{"{name}": [0.01, 0.1]}}, or an interval. What is no number needs a sweep for each choice'
    try:
        values = np.asarray(given)
    except (ValueError, TypeError, jax.errors.TracerArrayConversionError):
        values = np.asarray(None)
    if values.dtype.kind not in "iuf" and not jax.numpy.issubdtype(values.dtype, jax.numpy.floating):
        say(HyperparameterTypeError, "sweep", f"the values of {name} must be numbers", describe(given), advice)
    values = np.atleast_1d(values).astype(np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        say(HyperparameterError, "sweep", f"the values of {name} must be a list of finite numbers, one at least",
            describe(given), advice)  # fmt: skip
    if len(np.unique(values.astype(np.float32))) < len(values):
        say(HyperparameterError, "sweep", f"the values of {name} must differ, also when rounded to float32",
            describe(given), "Give each once; how often a setting is run is the number of seeds")  # fmt: skip
    return values


def _grid(space: dict[str, np.ndarray | Interval]) -> list[np.ndarray]:
    axes = [axis.at(np.linspace(0, 1, axis.n or 2)) if isinstance(axis, Interval) else axis for axis in space.values()]
    return list(np.array(list(itertools.product(*axes))).T)


def _spread(space: dict[str, np.ndarray | Interval], number: int, key: Any) -> list[np.ndarray]:
    points = halton(number, len(space), np.random.default_rng(_entropy(key)))
    columns = []
    for axis, share in zip(space.values(), points.T, strict=True):
        even = axis.at(share) if isinstance(axis, Interval) else axis[(share * len(axis)).astype(int)]
        columns.append(even)
    return columns


def halton(number: int, dimensions: int, rng: np.random.Generator) -> np.ndarray:
    """Points in the unit cube, float64[number, dimensions]: sum_k perm_k(digit k of n in the base) / base**(k + 1)."""
    points = np.zeros((number, dimensions))
    primes = (p for p in itertools.count(2) if all(p % q for q in range(2, math.isqrt(p) + 1)))
    for i, base in zip(range(dimensions), primes, strict=False):
        rest, scale = np.arange(number), 1.0
        while scale > 2**-30:
            scale /= base
            points[:, i] += rng.permutation(base)[rest % base] * scale
            rest = rest // base
    return points


def _entropy(key: Any) -> list[int]:
    if isinstance(key, int | np.integer) and not isinstance(key, bool) and key >= 0:
        return [int(key)]
    if isinstance(key, jax.Array):
        if jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.key_data(key)
        if jax.numpy.issubdtype(key.dtype, jax.numpy.integer):
            return [int(word) for word in np.asarray(key).ravel()]
    say(HyperparameterTypeError, "sweep", "key must be an integer >= 0 or a PRNG key", describe(key), "Give key=0")
