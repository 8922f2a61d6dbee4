"""From many starts to the lowest minimum: runs side by side, and hops from one minimum to the next.

multistart       runs from points that fill a box evenly: Sobol 1967, doi:10.1016/0041-5553(67)90144-9, with the
                 directions of Joe & Kuo 2008, doi:10.1137/070709359
basin_hopping    Wales & Doye 1997, doi:10.1021/jp970984n
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_start
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers.compiled import drop_weak_types
from jaxopt_ko.errors import LIMIT, OPEN_FRACTION, POSITIVE, TreeError, describe, say
from jaxopt_ko.types import Params, Solution

BITS = 30
# Joe & Kuo's of the second dimension on: degree, coefficients of the primitive polynomial, first directions
DIRECTIONS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (1, 0, (1,)), (2, 1, (1, 3)), (3, 1, (1, 3, 1)), (3, 2, (1, 1, 1)), (4, 1, (1, 1, 3, 3)), (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)), (5, 4, (1, 1, 5, 5, 5)), (5, 7, (1, 1, 7, 11, 19)), (5, 11, (1, 1, 5, 1, 1)),
    (5, 13, (1, 1, 1, 3, 11)), (5, 14, (1, 3, 5, 5, 31)), (6, 1, (1, 3, 3, 9, 7, 49)), (6, 13, (1, 1, 1, 15, 21, 21)),
    (6, 16, (1, 3, 1, 13, 27, 49)), (6, 19, (1, 1, 1, 15, 7, 5)), (6, 22, (1, 3, 1, 15, 13, 25)),
    (6, 25, (1, 1, 5, 5, 19, 61)), (7, 1, (1, 3, 7, 11, 23, 15, 103)), (7, 4, (1, 3, 7, 13, 13, 15, 69)),
)  # fmt: skip


class MultistartResult(NamedTuple):
    """What `multistart` finds: n runs, those that converged first, the lowest of them in front."""

    best: Solution  # the first of the runs
    runs: Solution  # all, arrays with a leading axis of n
    starts: Params  # where they began, in the same order
    minimum: Array  # int32[n]   number of the minimum that a run ended at, 0 the lowest; -1 if it did not converge
    counts: Array  # int32[n]    how many runs ended at minimum k; 0 beyond the last
    distinct: Array  # int32[]   how many minima there are

    def __repr__(self) -> str:
        """The minima by their values, and how many runs ended at each."""
        try:
            at, values, counts = (np.asarray(x) for x in (self.minimum, self.runs.value, self.counts))
            minima = int(self.distinct)
        except Exception:  # traced, mapped, or on other processes' devices
            return f"MultistartResult(best={self.best!r})"
        shown = ", ".join(f"{values[np.argmax(at == k)]:.6g} ({counts[k]} runs)" for k in range(min(minima, 6)))
        head = f"{len(at)} runs, {int(np.sum(at < 0))} not converged, {minima} minima"
        return f"MultistartResult({head}: {shown}{', …' if minima > 6 else ''}\n  best={self.best!r})"


class BasinHoppingResult(NamedTuple):
    """What `basin_hopping` finds in n hops."""

    best: Solution  # the lowest minimum
    values: Array  # float[n + 1]  where each run ended, the first from the start
    accepted: Array  # bool[n]     was the hop taken?
    step: Array  # float[]         how far hops go at the end

    def __repr__(self) -> str:
        """The best, and how many hops were taken."""
        try:
            return f"BasinHoppingResult({int(np.sum(self.accepted))} of {len(self.accepted)} hops taken, {self.best!r})"
        except Exception:  # traced, mapped, or on other processes' devices
            return f"BasinHoppingResult(best={self.best!r})"


@options
def multistart(
    minimize: Callable[[Params], Solution],
    sampler: Any,
    n: int = 64,
    *,
    stacked: bool = False,
    radius: float | None = None,
) -> MultistartResult:
    """The minima that runs from many starts find, side by side, and how many runs each of them draws.

    best = min over i of minimize(start_i).value

    minimize: params -> Solution: a driver with all but the start, lambda x: jo.minimize(fun, x, method). It is vmapped.
    sampler: (lower, upper), a pair of trees of finite arrays: starts fill this box evenly, by Sobol's sequence. Or a
        function n -> starts, or the starts themselves: a tree of arrays, no pair, with a leading axis of n.
    n: how many runs, an int >= 1; powers of two fill a box the most evenly.
    stacked: minimize takes all starts at once, as lambda x: jo.minimize_many(fun, x) does.
    radius: two ends are one minimum if no element differs by more than radius times 1 + its size, > 0; None: eps**(1/4)
        of the dtype, as flat minima are found no better.

    Returns a `MultistartResult`: the runs in order, those that did not converge last, and the minima counted, each by
    its lowest end and all that are near that. It may stand within `jit` and be mapped.

    Raises HyperparameterError for n < 1 or a radius that is not above 0; TreeError for a sampler of another kind, a
    box that is not finite, or one of more than 21 elements in all, for which starts are to be given. Source: Sobol
    1967, doi:10.1016/0041-5553(67)90144-9. Not for functions with more minima than runs: `basin_hopping`.

    >>> box = (jnp.array([-4.0, -4.0]), jnp.array([4.0, 4.0]))
    >>> found = jo.multistart(lambda x: jo.minimize(jo.landscapes.himmelblau, x), box, 32)
    >>> int(found.distinct)
    4
    """
    name = "multistart"
    errors.check_size(name, "n", n)
    if radius is not None:
        errors.check_number(name, "radius", radius, POSITIVE)
    starts = drop_weak_types(_starts(name, sampler, n))
    runs: Solution = minimize(starts) if stacked else jax.vmap(minimize)(starts)
    value = jnp.where(jnp.isfinite(runs.value), runs.value, jnp.inf)
    order = jnp.lexsort((value, ~runs.status.success))
    runs, starts = jax.tree.map(lambda x: x[order], (runs, starts))
    ends = jax.vmap(lambda params: tree.ravel(params)[0])(runs.params)
    near = float(np.finfo(ends.dtype).eps) ** 0.25 if radius is None else radius
    minimum, distinct = _clusters(ends, runs.status.success, near)
    counts = jnp.zeros(n, jnp.int32).at[jnp.where(minimum < 0, n, minimum)].add(1, mode="drop")
    return MultistartResult(jax.tree.map(lambda x: x[0], runs), runs, starts, minimum, counts, distinct)


@options
def basin_hopping(
    minimize: Callable[[Params], Solution],
    params: Params,
    n: int = 100,
    *,
    step: float = 0.5,
    temperature: float = 1.0,
    interval: int = 50,
    target: float = 0.5,
    factor: float = 0.9,
    key: Array | int = 0,
) -> BasinHoppingResult:
    """Hops from one minimum to the next, down always and up sometimes: for functions with very many minima.

    x_new = minimize(x + step u), u uniform in [-1, 1];   taken if exp(-(f_new - f) / T) is above a random number

    minimize: params -> Solution: a driver with all but the start, lambda x: jo.minimize(fun, x, method).
    params: the start, a tree of floating arrays.
    n: how many hops, an int >= 1.
    step: how far a hop goes along each element, at most and at first, > 0: about the distance of minima.
    temperature: T >= 0: about how much higher a neighbouring minimum is; 0 takes lower ones only.
    interval: hops after which step is divided by factor, or multiplied by it, as more of all hops so far were taken
        than `target` or fewer, an int >= 1.
    target, factor: of that, in (0, 1).
    key: a PRNG key, or an integer seed. Several chains: jax.vmap over keys.

    Returns a `BasinHoppingResult`. A run that fails is not taken, unless it comes from one that failed, too. It may
    stand within `jit` and be mapped; of `best` the derivatives are those of its run.

    Raises HyperparameterError for numbers outside their domain. Source: Wales & Doye 1997, doi:10.1021/jp970984n; the
    rules and defaults are SciPy's. Not for few minima in a box: `multistart` finds them all.

    >>> fun = lambda x: jnp.cos(14.5 * x - 0.3) + (x + 0.2) * x
    >>> found = jo.basin_hopping(lambda x: jo.minimize(fun, x), jnp.array(1.0), 30)
    >>> round(float(found.best.params), 3)
    -0.195
    """
    name = "basin_hopping"
    check_start(name, params)
    errors.check_size(name, "n", n)
    errors.check_size(name, "interval", interval)
    for argument, number, domain in (
        ("step", step, POSITIVE), ("temperature", temperature, LIMIT), ("target", target, OPEN_FRACTION),
        ("factor", factor, OPEN_FRACTION),
    ):  # fmt: skip
        errors.check_number(name, argument, number, domain)
    key = errors.check_key(name, key)

    def hop(carry: tuple[Solution, Solution, Array, Array], k: Array) -> tuple[Any, tuple[Array, Array]]:
        here, best, step, taken = carry
        jump, chance = jax.random.split(jax.random.fold_in(key, k))
        rate = taken.astype(step.dtype) / jnp.maximum(k, 1).astype(step.dtype)
        adjusted = jnp.where(rate > target, step / factor, step * factor)
        step = jnp.where((k > 0) & (k % interval == 0), adjusted, step)
        new = minimize(_moved(here.params, step, jump))
        ratio = (here.value - new.value) / jnp.maximum(temperature, np.finfo(new.value.dtype).tiny)
        lucky = jnp.exp(jnp.minimum(ratio, 0)) >= jax.random.uniform(chance, (), new.value.dtype)
        takes = lucky & (new.status.success | ~here.status.success)
        lower = new.status.success & ((new.value < best.value) | ~best.status.success)
        here, best = tree.where(takes, new, here), tree.where(lower, new, best)
        return (here, best, step, taken + takes.astype(jnp.int32)), (new.value, takes)

    first = minimize(params)
    start = (first, first, jnp.asarray(step, first.value.dtype), jnp.zeros((), jnp.int32))
    (_, best, step_now, _), (values, takes) = jax.lax.scan(hop, start, jnp.arange(n, dtype=jnp.int32))
    return BasinHoppingResult(best, jnp.concatenate([first.value[None], values]), takes, step_now)


def _moved(params: Params, step: Array, key: Array) -> Params:
    """Each element by up to `step`."""
    x, unravel = tree.ravel(params)
    return unravel(x + step.astype(x.dtype) * jax.random.uniform(key, x.shape, x.dtype, -1, 1))


def _starts(name: str, sampler: Any, n: int) -> Params:
    """n starts, stacked."""
    if isinstance(sampler, tuple) and not hasattr(sampler, "_fields") and len(sampler) == 2:
        return _in_box(name, *sampler, n)
    starts = sampler(n) if callable(sampler) else sampler
    leaves = jax.tree.leaves(starts)
    if not leaves or any(np.ndim(leaf) < 1 or np.shape(leaf)[0] != n for leaf in leaves):
        say(TreeError, name, f"the starts must have a leading axis of n = {n}", describe(starts),
            "Give (lower, upper), a function n -> starts, or stacked starts and their number as n")  # fmt: skip
    return starts


def _in_box(name: str, lower: Params, upper: Params, n: int) -> Params:
    """Starts that fill a box evenly."""
    if tree.structure(lower) != tree.structure(upper):
        say(TreeError, name, "lower and upper must be trees of one structure", f"{describe(lower)}, {describe(upper)}",
            "Give (lower, upper), both like the parameters")  # fmt: skip
    check_start(name, lower)
    (low, unravel), (high, _) = (tree.ravel(jax.tree.map(_floating, side)) for side in (lower, upper))
    for side in (low, high):
        if not isinstance(side, jax.core.Tracer) and not np.all(np.isfinite(side)):
            say(TreeError, name, "a box must be finite, as starts are to fill it", describe(side),
                "Give where minima are expected; bounds of the problem are the driver's")  # fmt: skip
    if low.size != high.size or low.size > len(DIRECTIONS) + 1:
        say(TreeError, name, f"a box must have {len(DIRECTIONS) + 1} elements at most, as many in lower as in upper",
            f"{low.size} and {high.size}", "Give a function n -> starts")  # fmt: skip
    share = jnp.asarray(sobol(n, low.size), low.dtype)
    return jax.vmap(lambda part: unravel(low + part * (high - low)))(share)


def _floating(side: Any) -> Array:
    """A side of a box; of whole numbers, too, whose starts are none."""
    array = jnp.asarray(side)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(float)


def sobol(n: int, dimensions: int) -> np.ndarray[Any, Any]:
    """The first n points of Sobol's sequence in the unit cube, float64[n, dimensions], in the middle of their cells.

    x_k = the exclusive or of the directions v_b for which bit b of k's Gray code is set
    """
    v = np.zeros((dimensions, BITS), np.int64)
    v[0] = 1 << np.arange(BITS - 1, -1, -1)
    for row, (degree, polynomial, first) in zip(v[1:], DIRECTIONS, strict=False):
        m = list(first)
        for k in range(degree, BITS):
            new = m[k - degree] ^ (m[k - degree] << degree)
            for i in range(1, degree):
                new ^= ((polynomial >> (degree - 1 - i)) & 1) * (m[k - i] << i)
            m.append(new)
        row[:] = [one << (BITS - 1 - k) for k, one in enumerate(m)]
    gray = np.arange(n) ^ (np.arange(n) >> 1)
    x = np.zeros((n, dimensions), np.int64)
    for b in range(BITS):
        x ^= ((gray[:, None] >> b) & 1) * v[None, :, b]
    points: np.ndarray[Any, Any] = x / 2.0**BITS + 0.5 / 2 ** int(n - 1).bit_length()
    return points


def _clusters(ends: Array, success: Array, radius: Any) -> tuple[Array, Array]:
    """int32[n], the number of the minimum of each end, in their order; and how many there are."""
    n = len(ends)

    def one(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
        minimum, distinct = carry
        close = jnp.all(jnp.abs(ends - ends[k][None]) <= radius * (1 + jnp.abs(ends[k][None])), axis=1)
        new = success[k] & (minimum[k] < 0)
        minimum = jnp.where(new & close & success & (minimum < 0), distinct, minimum)
        return (minimum, distinct + new.astype(jnp.int32)), None

    first = (jnp.full(n, -1, jnp.int32), jnp.zeros((), jnp.int32))
    (minimum, distinct), _ = jax.lax.scan(one, first, jnp.arange(n))
    return minimum, distinct
