"""A learning rate from one short run, in which it grows exponentially until the loss does.

Smith 2017, arXiv:1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.checks import check_period, check_start
from jaxopt_ko.core.numerics import gathered_weight, scalar_dtype, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import FRACTION, POSITIVE, HyperparameterError, StateError, TransformationError, describe, say
from jaxopt_ko.training.checks import check_prng_key
from jaxopt_ko.training.steps import Carry, LossFn, train_step
from jaxopt_ko.types import GradientTransformation, Params, PyTree, State

FOUND, FLAT, DIVERGED, FALLING, LOWEST, NOT_FINITE = range(6)
_WHY = (
    "the smoothed loss falls fastest there, {factor} below the rate where it is lowest, {best}.",
    "the loss never fell by more than its own noise: no rate of this range trains. Look at the loss and the optimizer.",
    "the loss grew from the first rates on: start lower, with low={lower}.",
    "the loss still fell fastest at the highest rate: go on, with high={higher}.",
    "the loss fell fastest at the lowest rate: start lower, with low={lower}.",
    "the loss was not finite before the first step: look at the parameters and the data.",
)


class RateSearch(NamedTuple):
    """What `find_rate` saw. Of its n rates it tried `steps`; the rest of the curves is NaN."""

    rates: Array  # float[n]     all rates, from the lowest to the highest
    losses: Array  # float[n]    of each batch, before the step with this rate
    smoothed: Array  # float[n]  their running mean, debiased
    steps: Array  # int32[]      rates tried: the loss grew too large, or was not finite, at the last one
    suggestion: Array  # float[]  where the smoothed loss fell fastest; NaN where none can be made
    lowest: Array  # float[]      the rate where the smoothed loss was lowest
    verdict: Array  # int32[]     0 found, 1 flat, 2 grew at once, 3 still falling, 4 best at the lowest, 5 not finite

    @property
    def why(self) -> str:
        """In a sentence, why this rate, or why none."""
        low, high, best = float(self.rates[0]), float(self.rates[-1]), float(self.lowest)
        factor = best / float(self.suggestion) if self.found else 0.0
        return _WHY[int(self.verdict)].format(
            factor=f"a factor of {factor:.0f}" if factor >= 10 else f"a factor of {factor:.1f}",
            best=f"{best:.2g}", lower=f"{low / 1e3:.0e}", higher=f"{high * 1e3:.0e}",
        )  # fmt: skip

    @property
    def found(self) -> Array:
        """bool[]: is there a suggestion?"""
        return self.verdict == FOUND

    def __repr__(self) -> str:
        if isinstance(self.verdict, jax.core.Tracer) or np.ndim(self.verdict):
            return f"RateSearch(suggestion={self.suggestion}, verdict={self.verdict})"
        start = f"learning rate {float(self.suggestion):.2g}" if self.found else "no learning rate suggested"
        return f"{start}: {self.why} ({int(self.steps)} of {len(self.rates)} rates tried.)"


@options
def find_rate(
    loss_fn: LossFn,
    params: Params,
    optimizer: Any,
    data: PyTree,
    batches: Any,
    *,
    key: Array | None,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 400,
    smoothing: float = 0.98,
    stop: float = 4.0,
    has_aux: bool = False,
) -> RateSearch:
    """A learning rate, from one run whose rate grows exponentially until the loss grows: for any optimizer.

    rate_k = low (high / low)**(k / (steps - 1)),  s_k = mean of the losses with weights smoothing**age
    ends where s_k > stop min s, or the loss is not finite;   suggestion = where s falls fastest in log rate

    loss_fn: (params, batch) -> float[], or (float[], aux) with has_aux, as of `fit`.
    params: where the run starts, a tree of floating arrays: as training will. They are not changed.
    optimizer: a function of a rate that makes one, `jo.adam` or `lambda rate: jo.adamw(rate, weight_decay=0.1)`; it is
        given a traced float[]. Or an optimizer of `inject_hyperparams` with a learning_rate that is a number.
    data, batches: a tree of arrays [n, …], and a plan, as of `fit`; epochs are run until `steps` batches were seen.
    key: a PRNG key that shuffles the plan; None for a plan that needs none.
    low, high: the range of rates, 0 < low < high; eight decades, as no rate of any method is outside.
    steps: rates in it, an int >= 20; 400 are 50 a decade. More where batches are noisy.
    smoothing: weight of the past in the mean, in [0, 1); 0.98 looks back on 50 steps, a decade at 400.
    stop: how many times its least the smoothed loss may be, > 1; 4 is usual. Where the least is below 0, as far above
        it as stop - 1 times its size.
    has_aux: does loss_fn return a pair?

    The suggestion is where s, which lags, falls fastest; a third of the rate where s is lowest, if that is less. It is
    for a run at a constant rate or with warm-up and decay; the rate where s is lowest is too large.

    Returns a `RateSearch`: the curves, the suggestion and why, in a sentence (its repr). Where the loss is flat, grows
    at once, or is best at an edge of the range, there is no suggestion, and the sentence says what to try. It is one
    compiled loop, pure, within jit and vmap (over keys, say); a run costs `steps` training steps at most.

    Raises HyperparameterError for numbers outside their domain; StateError for an optimizer without a learning_rate
    in its state; and what `train_step` raises. Source: Smith 2017, arXiv:1506.01186, section 3.3. Not for methods that
    set their own rate (prodigy, dog), nor in place of a `sweep` where the last tenth counts.

    >>> loss, x = lambda w, x: jnp.mean((w - x) ** 2), jnp.ones((8, 3))
    >>> jo.loop.find_rate(loss, jnp.zeros(3), jo.sgd, x, jo.data.full_batch(8), key=None).found.item()
    True
    """
    name = "find_rate"
    errors.check_function(name, "loss_fn", loss_fn)
    check_start(name, params)
    n = check_period(name, "steps", steps, least=20)
    errors.check_number(name, "low", low, POSITIVE)
    errors.check_number(name, "high", high, POSITIVE)
    errors.check_number(name, "smoothing", smoothing, FRACTION)
    if not isinstance(stop, int | float) or not stop > 1:
        say(HyperparameterError, name, "stop must be a number > 1", f"stop={describe(stop)}", "4 is usual")
    if not low < high:
        say(HyperparameterError, name, "low must be below high", f"low={low}, high={high}", "Swap them")
    if key is not None:
        check_prng_key(name, key)
    dtype = scalar_dtype()
    rates = jnp.asarray(np.geomspace(low, high, n), dtype)
    init, step_at = _stepping(name, loss_fn, optimizer, has_aux)
    rows = _rows(batches, key, n)
    start = Carry(params, init(params, rates[0]))

    def going(loop: _Loop) -> Any:
        return (loop.k < n) & ~loop.ended

    def step(loop: _Loop) -> _Loop:
        k = loop.k
        batch = batches.gather(data, jax.tree.map(lambda x: x[k], rows))
        carry, (loss, _) = step_at(loop.carry, rates[k], batch)
        loss = loss.astype(dtype)
        mean = smoothing * loop.mean + (1 - smoothing) * loss
        s = mean / gathered_weight(jnp.asarray(smoothing, dtype), k + 1)
        least = jnp.minimum(loop.least, s)
        ended = ~jnp.isfinite(loss) | (s > least + (stop - 1) * jnp.abs(least))
        kept = jnp.isfinite(loss)
        return _Loop(
            jnp.where(kept, k + 1, k), carry, jnp.where(kept, mean, loop.mean), least, ended,
            loop.losses.at[k].set(jnp.where(kept, loss, np.nan)),
            loop.smoothed.at[k].set(jnp.where(kept, s, np.nan)),
        )  # fmt: skip

    empty = jnp.full(n, np.nan, dtype)
    zero = jnp.zeros((), dtype)
    first = _Loop(zero_count(), start, zero, zero + np.inf, jnp.zeros((), bool), empty, empty)
    end = jax.lax.while_loop(going, step, first)
    return _judged(rates, end.losses, end.smoothed, end.k, end.ended, smoothing)


class _Loop(NamedTuple):
    """The run so far."""

    k: Array  # int32[]  rates tried
    carry: Carry
    mean: Array  # float[]  of the losses, with less weight than 1
    least: Array  # float[]  of the smoothed losses
    ended: Array  # bool[]
    losses: Array  # float[n]
    smoothed: Array  # float[n]


_StepAt = Callable[[Carry, Array, PyTree], tuple[Carry, tuple[Array, PyTree]]]


def _stepping(name: str, loss_fn: LossFn, optimizer: Any, has_aux: bool) -> tuple[Callable[..., State], _StepAt]:
    """(params, rate) -> state, and a training step at a rate."""
    if hasattr(optimizer, "update") and hasattr(optimizer, "init"):
        pair = errors.check_pair(name, "optimizer", optimizer, lands=True)
        step = train_step(loss_fn, optimizer, has_aux=has_aux)

        def at_rate(carry: Carry, rate: Array, batch: PyTree) -> tuple[Carry, tuple[Array, PyTree]]:
            return step(Carry(carry.params, _with_rate(name, carry.state, rate)), batch)

        return lambda p, rate: _with_rate(name, pair.init(p), rate), at_rate
    errors.check_function(name, "optimizer", optimizer)

    def made(rate: Array) -> GradientTransformation:
        pair: GradientTransformation = optimizer(rate)
        if not (hasattr(pair, "update") and hasattr(pair, "init")):
            say(TransformationError, name, "optimizer must be a function of a rate that makes one", describe(pair),
                "Give jo.adam, or lambda rate: jo.adamw(rate, weight_decay=0.1)")  # fmt: skip
        return pair

    return (
        lambda p, rate: made(rate).init(p),
        lambda carry, rate, batch: train_step(loss_fn, made(rate), has_aux=has_aux)(carry, batch),
    )


def _with_rate(name: str, state: State, rate: Array) -> State:
    """The state of inject_hyperparams with another learning rate, wherever it is."""
    seen = 0

    def changed(node: Any) -> Any:
        nonlocal seen
        hypers = getattr(node, "hyperparams", None)
        if isinstance(hypers, dict) and "learning_rate" in hypers:
            seen += 1
            old = jnp.asarray(hypers["learning_rate"])
            return node._replace(hyperparams={**hypers, "learning_rate": rate.astype(old.dtype)})
        return node

    new = jax.tree.map(changed, state, is_leaf=lambda x: isinstance(getattr(x, "hyperparams", None), dict))
    if not seen:
        say(StateError, name, "this optimizer keeps no learning rate that could be changed", describe(state),
            "Give a function of the rate, jo.adam, or inject_hyperparams(jo.adam)(1e-3)")  # fmt: skip
    return new


def _rows(batches: Any, key: Array | None, n: int) -> PyTree:
    """The indices of n batches, epoch by epoch: a tree of arrays [>= n, …]."""
    epochs = jnp.arange(math.ceil(n / batches.steps), dtype=jnp.int32)
    plans = jax.lax.map(lambda epoch: batches.plan(key, epoch), epochs)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), plans)


def _judged(rates: Array, losses: Array, smoothed: Array, count: Array, ended: Array, smoothing: float) -> RateSearch:
    """The suggestion, or why there is none."""
    n = rates.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    quiet, wide = n // 10, max(1, n // 40)  # the first rates move nothing; a slope is over a fifth of a decade each way
    steepest, at_best = _steepest(smoothed, count, quiet, wide)
    both_ways = _both_ways(losses, index < count, smoothing**2)
    bottom = both_ways[_steepest(both_ways, count, quiet, wide)[1]]
    jumps = jnp.where(index < jnp.minimum(quiet, count) - 1, jnp.roll(losses, -1) - losses, 0)
    noise = jnp.sqrt(jnp.sum(jumps**2) / 2 / jnp.maximum(jnp.minimum(quiet, count) - 1, 1).astype(losses.dtype))
    falls = jnp.zeros((), bool)
    for few in (quiet, max(2, quiet // 4)):  # the loss at the start, of many rates or, if it falls at once, of few
        number = jnp.maximum(jnp.minimum(few, count), 1).astype(losses.dtype)
        level = jnp.sum(jnp.where(index < jnp.minimum(few, count), losses, 0)) / number
        least = 2 * noise * ((1 - smoothing) ** 0.5 + number**-0.5)
        falls |= level - bottom > jnp.maximum(least, 1e-3 * jnp.abs(level))
    conditions = [
        (count == 0, NOT_FINITE),
        (ended & (count <= quiet), DIVERGED),
        (~falls, FLAT),
        (~ended & (steepest >= n - 1 - 2 * wide), FALLING),
        (steepest <= quiet // 2 + wide, LOWEST),
    ]
    verdict = jnp.asarray(FOUND, jnp.int32)
    for condition, code in reversed(conditions):
        verdict = jnp.where(condition, jnp.asarray(code, jnp.int32), verdict)
    suggestion = jnp.where(verdict == FOUND, jnp.minimum(rates[steepest], rates[at_best] / 3), np.nan)
    return RateSearch(rates, losses, smoothed, count, suggestion, rates[at_best], verdict)


def _steepest(curve: Array, count: Array, quiet: int, wide: int) -> tuple[Array, Array]:
    """int32[], int32[]: where a curve of `count` numbers falls fastest, and where it is lowest."""
    index = jnp.arange(curve.shape[0], dtype=jnp.int32)
    rises = curve[jnp.minimum(index + wide, jnp.maximum(count - 1, 0))] - curve[jnp.maximum(index - wide, 0)]
    lowest = jnp.argmin(jnp.where((index >= quiet // 2) & (index < count), curve, np.inf))
    inside = (index >= quiet // 2) & (index <= lowest)
    return jnp.argmin(jnp.where(inside, rises, np.inf)).astype(jnp.int32), lowest.astype(jnp.int32)


def _both_ways(losses: Array, known: Array, keep: float) -> Array:
    """The mean of the known losses with weights keep**distance: it lags in neither direction."""
    values, weights = jnp.where(known, losses, 0), known.astype(losses.dtype)

    def run(x: Array, reverse: bool) -> Array:
        def add(total: Array, new: Array) -> tuple[Array, Array]:
            total = keep * total + new
            return total, total

        return jax.lax.scan(add, jnp.zeros((), x.dtype), x, reverse=reverse)[1]

    total, weight = (run(x, False) + run(x, True) - x for x in (values, weights))
    return total / jnp.where(weight > 0, weight, 1)
