"""Which examples make up each step of an epoch: full batch, mini-batch, stochastic, easy ones first.

A `Batches` holds no data. It makes a plan of indices from a key and the number of the epoch, so that whole
epochs run inside one `lax.scan` and the data stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxopt_ko.core.checks import check_numbers
from jaxopt_ko.core.numerics import value_at
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import (
    NONNEGATIVE,
    HyperparameterError,
    HyperparameterTypeError,
    MissingArgumentError,
    TreeError,
    check_hyper,
    check_number,
    describe,
    say,
)
from jaxopt_ko.schedules.curves import piecewise_constant_schedule
from jaxopt_ko.training.checks import check_prng_key, check_whole
from jaxopt_ko.types import Hyper, PyTree, Schedule


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Batches:
    """How an epoch deals out its examples; made by `full_batch`, `mini_batch`, `stochastic`, `curriculum`.

    A pytree whose only leaf is `rank`, so it may cross jit and vmap.
    """

    size: int = field(metadata={"static": True})  # n, examples there are
    batch_size: int = field(metadata={"static": True})  # b, examples per step
    steps: int = field(metadata={"static": True})  # steps per epoch
    shuffle: bool = field(default=True, metadata={"static": True})
    pacing: Hyper = field(default=1.0, metadata={"static": True})  # epoch -> fraction of the examples in use
    rank: jax.Array | None = None  # int32[n]  place of each example in the order of difficulty, 0 the easiest

    def plan(self, key: jax.Array | None, epoch: ArrayLike = 0) -> jax.Array:
        """int32[steps, batch_size]: the examples of each step of this epoch (int[], from 0).

        The same key and epoch give the same plan; each epoch of one key is shuffled anew.
        Raises MissingArgumentError without a key where the plan is shuffled.
        """
        check_whole("Batches.plan", "epoch", epoch)
        order = jnp.arange(self.size, dtype=jnp.int32)
        if self.shuffle:
            if key is None:
                say(MissingArgumentError, "Batches.plan", "a shuffled plan needs a key", "key=None",
                    "Pass key=jax.random.key(seed)")  # fmt: skip
            check_prng_key("Batches.plan", key)
            order = jax.random.permutation(jax.random.fold_in(key, epoch), order)
        if self.rank is not None:
            fraction = value_at(self.pacing, jnp.asarray(epoch, jnp.int32), "curriculum", "pacing")
            pool = jnp.clip(jnp.rint(fraction * self.size), 1, self.size).astype(jnp.int32)
            too_hard = self.rank[order] >= pool
            easy_first = order[jnp.argsort(too_hard, stable=True)]  # each part is still shuffled
            order = easy_first[jnp.arange(self.size, dtype=jnp.int32) % pool]
        fill = max(self.steps * self.batch_size - self.size, 0)
        order = jnp.concatenate([order, order[:fill]])[: self.steps * self.batch_size]
        return order.reshape(self.steps, self.batch_size)

    def gather(self, data: PyTree, indices: jax.Array) -> PyTree:
        """The batch at `indices` (int32[batch_size], a row of a plan) of arrays [n, ...].

        Raises TreeError if a leaf does not have `size` rows.
        """
        rows = _rows("Batches.gather", data)
        _fits("Batches.gather", rows, self.size)
        if not self.shuffle and self.batch_size == self.size:
            return data  # all of it, in its own order: nothing to copy
        return _take(data, indices)


def full_batch(size: int) -> Batches:
    """All examples in every step, one step per epoch, nothing shuffled: batch gradient descent.

    plan(key, epoch) = [[0, 1, …, size - 1]]

    size: how many examples there are, a Python int >= 1.

    Returns a `Batches`; its plan needs no key. Raises HyperparameterError for a size < 1, HyperparameterTypeError for
    no int. Not for data of which one gradient is expensive: mini-batches make many steps for the same work.

    >>> jo.data.full_batch(4).plan(None).tolist()
    [[0, 1, 2, 3]]
    """
    size = _count("full_batch", "size", size)
    return Batches(size, size, 1, shuffle=False)


@options
def mini_batch(size: int, batch_size: int, *, drop_remainder: bool = True) -> Batches:
    """Batches of one size, shuffled each epoch.

    plan(key, epoch) = a permutation of 0 … size - 1, in rows of batch_size

    size: n, how many examples there are, a Python int >= 1.
    batch_size: examples per step, a Python int from 1 to size.
    drop_remainder: what becomes of the size % batch_size examples left over, other ones each epoch: True: they sit this
        epoch out; False: they make a last batch that is filled up with the first examples of the epoch, which then come
        twice. So all batches have one shape, as `lax.scan` wants, and no padding enters a mean.

    Returns a `Batches`. Where batch_size divides size, every example comes exactly once per epoch.

    Raises HyperparameterError unless 1 <= batch_size <= size. Not to evaluate: use the whole data, not a plan.

    >>> batches = jo.data.mini_batch(10, 4)
    >>> batches.plan(jax.random.key(0)).shape
    (2, 4)
    """
    size = _count("mini_batch", "size", size)
    batch_size = _count("mini_batch", "batch_size", batch_size, size)
    return Batches(size, batch_size, size // batch_size if drop_remainder else -(-size // batch_size))


def stochastic(size: int) -> Batches:
    """One example per step, each exactly once per epoch in random order: `mini_batch(size, 1)`.

    size: how many examples there are, a Python int >= 1.

    Returns a `Batches`, whose batches keep the leading axis, of length 1. Raises HyperparameterError for a size < 1.
    Source: Robbins & Monro 1951, doi:10.1214/aoms/1177729586. Not for speed: such a step leaves most of a machine idle.

    >>> jo.data.stochastic(10).steps
    10
    """
    return mini_batch(_count("stochastic", "size", size), 1)


@options
def curriculum(difficulty: ArrayLike, batch_size: int, *, pacing: Hyper, drop_remainder: bool = True) -> Batches:
    """Mini-batches of the easiest examples, more of them as the pacing rises.

    pool at epoch e = the round(pacing(e) n) easiest examples, at least 1 and at most n

    difficulty: float[n], a score per example, low is easy; ties keep their order, NaN counts as hardest.
    batch_size: examples per step, a Python int from 1 to n.
    pacing: fraction of the examples in use, >= 0, a number or a schedule of the epoch (int32[], from 0). Once it is 1
        this is `mini_batch`.
    drop_remainder: what becomes of the n % batch_size examples left over, as of `mini_batch`.

    Returns a `Batches`. An epoch has equally many steps at any fraction: a small pool, shuffled each epoch, is gone
    through several times.

    Raises HyperparameterError as `mini_batch` does, TreeError for scores that are not one per example. Source: Bengio
    et al. 2009, doi:10.1145/1553374.1553380. Not where the easy examples are of a few classes only: the model learns to
    answer with those.

    >>> scores = jnp.array([0.1, 3.0, 0.2, 2.0])
    >>> batches = jo.data.curriculum(scores, 2, pacing=0.5)
    """
    check_numbers("curriculum", "difficulty", difficulty)
    score = jnp.asarray(difficulty)
    if score.ndim != 1 or jnp.issubdtype(score.dtype, jnp.complexfloating):
        say(TreeError, "curriculum", "difficulty must be one real number for each example", describe(score),
            "Give an array of shape [n], for example the loss of a first model on each example")  # fmt: skip
    check_hyper("curriculum", "pacing", pacing, NONNEGATIVE)
    size = _count("curriculum", "len(difficulty)", score.shape[0])
    batch_size = _count("curriculum", "batch_size", batch_size, size)
    rank = jnp.argsort(jnp.argsort(score, stable=True)).astype(jnp.int32)
    steps = size // batch_size if drop_remainder else -(-size // batch_size)
    return Batches(size, batch_size, steps, pacing=pacing, rank=rank)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BatchStage:
    """Steps of one batch size, a part of a run whose batches grow; made by `batch_warmup`."""

    size: int = field(metadata={"static": True})  # n, examples there are
    batch_size: int = field(metadata={"static": True})  # b, examples per step
    steps: int = field(metadata={"static": True})  # steps of this stage
    first: int = field(metadata={"static": True})  # examples that the stages before have dealt out
    passes: int = field(metadata={"static": True})  # through the data, begun by all stages

    def plan(self, key: jax.Array | None, epoch: ArrayLike = 0) -> jax.Array:
        """int32[steps, batch_size]: the examples of each step; of a second run through all stages with epoch=1.

        Raises MissingArgumentError without a key.
        """
        check_whole("BatchStage.plan", "epoch", epoch)
        if key is None:
            say(MissingArgumentError, "BatchStage.plan", "a shuffled plan needs a key", "key=None",
                "Pass key=jax.random.key(seed)")  # fmt: skip
        check_prng_key("BatchStage.plan", key)
        whole, (begin, end) = jnp.arange(self.size, dtype=jnp.int32), (self.first, self.first + self._dealt)
        begun = jnp.asarray(epoch, jnp.int32) * np.int32(self.passes)
        passes = range(begin // self.size, -(-end // self.size))
        orders = [jax.random.permutation(jax.random.fold_in(key, begun + np.int32(p)), whole) for p in passes]
        skipped = begin % self.size
        return jnp.concatenate(orders)[skipped : skipped + self._dealt].reshape(self.steps, self.batch_size)

    @property
    def _dealt(self) -> int:
        return self.steps * self.batch_size

    def gather(self, data: PyTree, indices: jax.Array) -> PyTree:
        """The batch at `indices` (int32[batch_size], a row of a plan) of arrays [n, ...].

        Raises TreeError if a leaf does not have `size` rows.
        """
        _fits("BatchStage.gather", _rows("BatchStage.gather", data), self.size)
        return _take(data, indices)


def batch_warmup(size: int, batch_sizes: Mapping[int, int], total_steps: int) -> tuple[BatchStage, ...]:
    """A run whose batches grow: small ones at first, when gradients are large beside their noise.

    b(t) = batch_sizes[s] for the last s <= t,   t = 0 … total_steps - 1

    size: n, how many examples there are, a Python int >= 1.
    batch_sizes: {first step: examples per step}, from step 0 on: {0: 64, 100: 128, 300: 256}; Python ints, from 1 to n.
    total_steps: how many steps all stages have, a Python int, more than the last first step.

    Returns one `BatchStage` for each batch size, a plan for `loop.fit` with epochs=1: shapes are fixed in a compiled
    program, so that there is one for each. The stages share one stream: as of `mini_batch`, every example comes once
    before any comes twice, also across stages, and the batches fill up from the next pass where one ends.

    Raises HyperparameterError for numbers outside their domains, its subclass HyperparameterTypeError for other types.
    Source: Merrill et al. 2025, arXiv:2505.23971; Smith et al. 2018, arXiv:1711.00489. Not where memory holds no more
    than the small batch: `MultiSteps` with a schedule for every_k_schedule sums as many as there are to be.

    >>> stages, run, key = jo.data.batch_warmup(8, {0: 1, 4: 2}, total_steps=6), None, jax.random.key(0)
    >>> loss, w, x = lambda w, x: jnp.mean((w - x) ** 2), jnp.zeros(()), jnp.ones(8)
    >>> for stage in stages:
    ...     run = jo.loop.fit(loss, w, jo.sgd(0.1), x, stage, key=key, epochs=1, state=run and run.state)
    ...     w = run.params
    """
    return _stages("batch_warmup", size, batch_sizes, total_steps)


def _stages(
    name: str, size: int | None, batch_sizes: Mapping[int, int], total_steps: int | None
) -> tuple[BatchStage, ...]:
    """size, total_steps: None for as many examples, and as many steps, as the batch sizes need at least."""
    if size is not None:
        size = _count(name, "size", size)
    if not isinstance(batch_sizes, Mapping) or not batch_sizes:
        say(HyperparameterTypeError, name, "batch_sizes must be a dict of at least one batch size",
            describe(batch_sizes), "Give {first step: examples per step}, as {0: 64, 100: 128}")  # fmt: skip
    for step in batch_sizes:
        if isinstance(step, bool) or not isinstance(step, int | np.integer):
            say(HyperparameterTypeError, name, "the first steps of batch_sizes must be integers", describe(step),
                "Give {first step: examples per step}, as {0: 64, 100: 128}")  # fmt: skip
    begins = sorted(batch_sizes)
    sizes = [_count(name, f"batch_sizes[{step}]", batch_sizes[step], size) for step in begins]
    size = max(sizes) if size is None else size
    total_steps = max(begins[-1], 0) + 1 if total_steps is None else _count(name, "total_steps", total_steps)
    if begins[0] != 0 or begins[-1] >= total_steps:
        say(HyperparameterError, name, "the first steps of batch_sizes must begin with 0 and be below total_steps",
            f"{begins}, total_steps={total_steps}", "Give {0: 64, 100: 128} for 100 steps of 64")  # fmt: skip
    steps = [end - begin for begin, end in pairwise([*begins, total_steps])]
    dealt = list(accumulate((b * n for b, n in zip(sizes, steps, strict=True)), initial=0))
    passes = -(-dealt[-1] // size)
    return tuple(BatchStage(size, b, n, first, passes) for b, n, first in zip(sizes, steps, dealt, strict=False))


def batch_size_rate(init_value: float | jax.Array, batch_sizes: Mapping[int, int], power: float = 0.5) -> Schedule:
    """A learning rate that grows with the batches.

    init_value (b(t) / b(0))**power

    init_value: the rate of the first batch size, a finite number, which may be traced.
    batch_sizes: {first step: examples per step}, from step 0 on, as of `batch_warmup`.
    power: a finite number >= 0; 0.5 for Adam and its kin, whose steps are of the size of the noise; 1 for gradient
        descent.

    Returns a schedule: step int[...] -> float32[...], float64 with x64. Raises as `batch_warmup` does. Source: for 0.5,
    Malladi et al. 2022, arXiv:2205.10287; for 1, Goyal et al. 2017, arXiv:1706.02677. Not in the place of a fall at the
    end: multiply two schedules, lambda t: a(t) * b(t).

    >>> rate = jo.data.batch_size_rate(1e-3, {0: 64, 100: 256})
    >>> [round(float(rate(t)), 4) for t in (0, 99, 100)]
    [0.001, 0.001, 0.002]
    """
    stages = _stages("batch_size_rate", None, batch_sizes, None)
    power = check_number("batch_size_rate", "power", power, NONNEGATIVE)
    pairs = zip(sorted(batch_sizes)[1:], pairwise(stages), strict=True)
    return piecewise_constant_schedule(
        init_value, {step: (new.batch_size / old.batch_size) ** power for step, (old, new) in pairs}
    )


def gather(data: PyTree, indices: ArrayLike) -> PyTree:
    """Rows of every array in a tree.

    data[indices], leaf by leaf

    data: a tree of arrays [n, …], with one n.
    indices: int[…], from 0, a row of a plan say.

    Returns a tree of arrays [*indices.shape, …]. A row beyond the last is NaN (for integers: the smallest number), not
    another row. Raises TreeError if the leaves differ in their number of rows, or indices are not integers. Not for
    data that does not fit into the device's memory.

    >>> jo.data.gather({"x": jnp.array([1.0, 2.0, 3.0])}, jnp.array([2, 0]))["x"].tolist()
    [3.0, 1.0]
    """
    _rows("gather", data)
    check_numbers("gather", "indices", indices)
    where = jnp.asarray(indices)
    if not jnp.issubdtype(where.dtype, jnp.integer):
        say(TreeError, "gather", "indices must be integers", describe(where), "Take a row of a plan")
    return _take(data, where)


def _take(data: PyTree, indices: jax.Array) -> PyTree:
    return jax.tree.map(lambda x: jnp.take(jnp.asarray(x), indices, axis=0), data)


def _rows(name: str, data: PyTree) -> int:
    """The length of the leading axis that all leaves share."""
    leaves = jax.tree_util.tree_flatten_with_path(data)[0]
    if not leaves:
        say(TreeError, name, "the data holds no array", describe(data), "Pass arrays of shape [n, ...]")
    first = np.shape(leaves[0][1])
    for path, leaf in leaves:
        if np.shape(leaf)[:1] != first[:1] or not np.shape(leaf):
            want = f"must have {first[0]} rows, as the first has" if first else "must have a leading axis"
            argument = jax.tree_util.keystr(path) or "(root)"
            say(TreeError, name, f"the data leaf {argument} {want}", describe(leaf),
                "Every array holds one row per example: shape [n, ...] with the same n")  # fmt: skip
    return int(first[0])


def _fits(name: str, rows: int, size: int) -> None:
    if rows != size:
        say(TreeError, name, f"this plan is for {size} rows", f"data with {rows} rows",
            "Make the plan for this data, for example mini_batch(len(labels), batch_size)")  # fmt: skip


def _count(name: str, argument: str, value: int, at_most: int | None = None) -> int:
    """A number of examples: a concrete integer >= 1."""
    words = "an integer >= 1" if at_most is None else f"an integer from 1 to {at_most}, the examples there are"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        say(HyperparameterTypeError, name, f"{argument} must be {words}", describe(value),
            "Shapes are fixed when a program is traced: give a Python int")  # fmt: skip
    if value < 1 or (at_most is not None and value > at_most):
        say(HyperparameterError, name, f"{argument} must be {words}", f"{argument}={value}", f"Give {words}")
    return int(value)
