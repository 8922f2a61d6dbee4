"""Which examples make up each step of an epoch: full batch, mini-batch, stochastic, easy ones first.

A `Batches` holds no data. It makes a plan of indices from a key and the number of the epoch, so that whole
epochs run inside one `lax.scan` and the data stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
    describe,
    say,
)
from jaxopt_ko.training.checks import check_prng_key, check_whole
from jaxopt_ko.types import Hyper, PyTree


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
        if rows != self.size:
            say(TreeError, "Batches.gather", f"this plan is for {self.size} rows", f"data with {rows} rows",
                "Make the plan for this data, for example mini_batch(len(labels), batch_size)")  # fmt: skip
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


def _count(name: str, argument: str, value: int, at_most: int | None = None) -> int:
    """A number of examples: a concrete integer >= 1."""
    words = "an integer >= 1" if at_most is None else f"an integer from 1 to {at_most}, the examples there are"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        say(HyperparameterTypeError, name, f"{argument} must be {words}", describe(value),
            "Shapes are fixed when a program is traced: give a Python int")  # fmt: skip
    if value < 1 or (at_most is not None and value > at_most):
        say(HyperparameterError, name, f"{argument} must be {words}", f"{argument}={value}", f"Give {words}")
    return int(value)
