"""Training as one `lax.scan`: a step, whole runs of epochs, early stopping, and a progress bar from inside.

Everything here is pure and traces once; wrap a call in `jax.jit` to compile it, in `jax.vmap` to train many
models at once, over keys or over the learning rate that an optimizer is made from.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from os import PathLike
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core.checks import check_arrays, check_start
from jaxopt_ko.core.naming import of_the_face, published
from jaxopt_ko.core.numerics import scalar_dtype, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import compute_dtype
from jaxopt_ko.errors import (
    HyperparameterError,
    StateError,
    TransformationError,
    describe,
    say,
)
from jaxopt_ko.training.checkpoints import Checkpoints, Store, as_checkpoints
from jaxopt_ko.training.checks import check_prng_key, check_whole
from jaxopt_ko.training.microbatching import microbatched
from jaxopt_ko.training.progress import ProgressBar, Report, reporter
from jaxopt_ko.training.rate_finder import RateSearch, find_rate
from jaxopt_ko.training.steps import Carry, LossFn, TrainStep, train_step
from jaxopt_ko.training.stopping import EarlyStopping, EarlyStoppingState, early_stopping
from jaxopt_ko.training.sweeps.run import sweep
from jaxopt_ko.training.sweeps.space import Interval, interval
from jaxopt_ko.training.sweeps.table import Sweep
from jaxopt_ko.training.sweeps.trial import Trial, trial
from jaxopt_ko.types import GradientTransformation, Params, PyTree, State


class Plan(Protocol):
    """What `fit` asks of its batches; `jaxopt_ko.data.Batches` is one."""

    @property
    def steps(self) -> int:
        """Steps per epoch."""

    def plan(self, key: jax.Array | None, epoch: jax.Array) -> PyTree:
        """Arrays [steps, ...]: a row of indices for each step of an epoch."""

    def gather(self, data: PyTree, indices: PyTree) -> PyTree:
        """The batch for one row of indices."""


# ---- whole runs -----------------------------------------------------------------------------------------


class Run(NamedTuple):
    """What `fit` returns. E epochs of S steps; what a stopped run did not do is NaN, or 0 for integers."""

    params: Params  # after the last step; under early stopping the best ones
    state: State  # the optimizer's, after the last step taken
    loss: jax.Array  # float[E, S]  of each step, before its update
    aux: PyTree  # [E, S, ...]  what loss_fn returned beside the loss; None without has_aux
    metrics: PyTree  # [E, ...]  metrics(params) after each epoch; None without metrics
    steps: jax.Array  # int32[]  steps really taken
    stopping: EarlyStoppingState | None  # its best value, and whether it stopped; the params are above
    interrupted: jax.Array | None = None  # bool[]  with checkpoints: did Ctrl-C end it? Else None


class _Thread(NamedTuple):
    """All that one epoch hands to the next."""

    train: Carry
    stopping: EarlyStoppingState | None
    steps: jax.Array
    loss: jax.Array  # mean of the last epoch, for the progress bar


@options
def fit(
    loss_fn: LossFn,
    params: Params,
    optimizer: GradientTransformation,
    data: PyTree,
    batches: Plan,
    *,
    key: jax.Array | None,
    epochs: int,
    has_aux: bool = False,
    metrics: Callable[[Params], PyTree] | None = None,
    early_stopping: EarlyStopping | None = None,
    monitor: str | None = None,
    progress: bool | str | Report = False,
    state: State = None,
    first_epoch: int | jax.Array = 0,
    checkpoint: Checkpoints | str | PathLike[str] | None = None,
) -> Run:
    """Train for a number of epochs inside one `lax.scan`; nothing leaves the device before the end.

    loss_fn: (params, batch) -> float[], or (float[], aux) with has_aux; also a `microbatched` one. batch is data at the
        indices of one step of batches.
    params: the parameters, a tree of floating arrays.
    optimizer: any (init, update) pair.
    data, batches: a tree of arrays [n, …], and a plan, of data.mini_batch(n, size) and its kin.
    key: a PRNG key, typed or raw, no seed, which shuffles the plan anew each epoch; None for a plan that needs none.
    epochs: how many, a Python int >= 1.
    has_aux: does loss_fn return a pair?
    metrics: params -> tree of arrays, after each epoch: close over validation data.
    early_stopping: an `EarlyStopping`, checked after each epoch. A run that stopped does nothing more and returns its
        best params; under vmap each lane stops by itself.
    monitor: the name in metrics(params) that it watches; None: metrics(params) itself.
    progress: True, a title, or a `ProgressBar` (any `Report`): one bar for all lanes of a vmap.
    state, first_epoch: to go on from an earlier run, with its key, as if it had not been cut: the same batches and
        draws. (With another number of epochs it is another program, whose rounding may differ.)
    checkpoint: a folder, or `Checkpoints(folder, every=1, keep=2)`: the run is saved after each epoch, and the same
        call goes on from the last one that is whole, bit for bit. Ctrl-C returns what is done, with `interrupted`
        true. It is then one compiled program an epoch, called from Python, not within jit.

    Returns a `Run`. Call it inside `jax.jit`, with data an argument: new data of the same shape then compiles nothing.
    Raises what `train_step` raises; HyperparameterError for epochs below 1 or no metric to watch; OSError if a
    checkpoint cannot be written. Not for data that does not fit into the device's memory: loop over `train_step`.

    >>> loss, x, plan = lambda w, x: jnp.mean((w - x) ** 2), jnp.ones((2, 1)), jo.data.full_batch(2)
    >>> run = jo.loop.fit(loss, jnp.zeros(1), jo.sgd(0.5), x, plan, key=None, epochs=3)
    >>> run.params.tolist()
    [1.0]
    """
    pair = errors.check_pair("fit", "optimizer", optimizer, lands=True)
    _check_run(epochs, early_stopping, monitor, batches, first_epoch, key)
    check_start("fit", params)
    where = None if checkpoint is None else as_checkpoints("fit", checkpoint)
    report, reports = reporter(progress, epochs * batches.steps)
    step = train_step(loss_fn, optimizer, has_aux=has_aux)
    train = Carry(params, pair.init(params) if state is None else check_arrays("fit", "state", state))
    watch = None if early_stopping is None else early_stopping.init(params)
    start = _Thread(train, watch, zero_count(), jnp.zeros((), scalar_dtype()))

    def epoch_of(data: PyTree, key: jax.Array | None, first_epoch: int | jax.Array) -> _Epoch:
        often = reports // epochs  # reports due within one epoch
        return _epoch(step, batches, data, key, first_epoch, metrics, early_stopping, monitor, report, often)

    def after_epochs(thread: _Thread, out: PyTree, done: jax.Array) -> None:
        if report is not None:
            report(done * np.int32(batches.steps), thread.loss)

    if where is not None:
        return _saved_run(where, epoch_of, after_epochs, start, epochs, batches.steps, data, key, first_epoch)
    index, blocks = jnp.arange(epochs, dtype=jnp.int32), 0 if report is None else reports
    end, results = _scan(epoch_of(data, key, first_epoch), start, index, blocks, after_epochs)
    return _run_of(end, results)


_Epoch = Callable[[_Thread, jax.Array], tuple[_Thread, PyTree]]  # (thread, index) -> (thread, (loss, aux, metrics))


def _run_of(end: _Thread, results: PyTree, interrupted: jax.Array | None = None) -> Run:
    (loss, aux, measured), final, stopping = results, end.train.params, end.stopping
    if stopping is not None:
        final, stopping = stopping.best_params, stopping._replace(best_params=None)
    return Run(final, end.train.state, loss, aux, measured, end.steps, stopping, interrupted)


def _epoch(
    step: TrainStep,
    batches: Plan,
    data: PyTree,
    key: jax.Array | None,
    first_epoch: int | jax.Array,
    metrics: Callable[[Params], PyTree] | None,
    early_stopping: EarlyStopping | None,
    monitor: str | None,
    report: Callable[[jax.Array, jax.Array], None] | None,
    often: int,
) -> _Epoch:
    """One epoch of a run; a run that stopped does nothing more."""
    steps = batches.steps

    def take_step(carry: Carry, indices: PyTree) -> tuple[Carry, tuple[jax.Array, PyTree]]:
        return step(carry, batches.gather(data, indices))

    def run_epoch(thread: _Thread, index: jax.Array) -> tuple[_Thread, PyTree]:
        def after_block(carry: Carry, out: tuple[jax.Array, PyTree], done: jax.Array) -> None:
            if report is not None:
                report(index * np.int32(steps) + done, _mean(out[0]))

        plan = batches.plan(key, index + jnp.asarray(first_epoch, jnp.int32))
        blocks = often if report is not None and often > 1 else 0
        train, (loss, aux) = _scan(take_step, thread.train, plan, blocks, after_block)
        measured = None if metrics is None else metrics(train.params)
        check_arrays("fit", "what metrics(params) returns", measured)
        stopping = thread.stopping
        if early_stopping is not None:
            stopping = early_stopping.update(_watched(measured, monitor), stopping, train.params)
        return _Thread(train, stopping, thread.steps + np.int32(steps), _mean(loss)), (loss, aux, measured)

    def epoch(thread: _Thread, index: jax.Array) -> tuple[_Thread, PyTree]:
        if thread.stopping is None:
            return run_epoch(thread, index)
        _, results = jax.eval_shape(run_epoch, thread, index)
        skip = lambda thread, _: (thread, jax.tree.map(_blank, results))  # noqa: E731
        return jax.lax.cond(thread.stopping.should_stop, skip, run_epoch, thread, index)  # type: ignore[no-any-return]

    return epoch


def _saved_run(
    where: Checkpoints,
    epoch_of: Callable[..., _Epoch],
    after_epochs: Callable[[_Thread, PyTree, jax.Array], None],
    start: _Thread,
    epochs: int,
    steps: int,
    data: PyTree,
    key: jax.Array | None,
    first_epoch: int | jax.Array,
) -> Run:
    """Epoch by epoch, each the same program, whatever was done before: so a run that goes on has the same bits."""
    given = (start, data, key, first_epoch)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given)):
        say(TransformationError, "fit", "with checkpoint it saves from Python, and cannot be traced", None,
            "Call it outside of jit, vmap and grad: it compiles each epoch itself")  # fmt: skip

    @jax.jit
    def one(
        thread: _Thread, index: jax.Array, data: PyTree, key: jax.Array | None, first: jax.Array
    ) -> tuple[_Thread, PyTree]:
        thread, out = epoch_of(data, key, first)(thread, index)
        after_epochs(thread, out, index + np.int32(1))
        return thread, out

    inputs = data, key, jnp.asarray(first_epoch, jnp.int32)
    blank = jax.eval_shape(one, start, zero_count(), *inputs)[1]
    run = {"steps": jnp.asarray(steps, jnp.int32), "first_epoch": inputs[2], "key": key}
    with Store("fit", where) as store:
        done, thread, results = store.latest(run, start, blank)
        if done > epochs:
            say(StateError, "fit", f"epochs must be {done} at least, which are in {where.directory}",
                f"epochs={epochs}", "Give more epochs, or another folder")  # fmt: skip
        interrupted = False
        try:
            while done < epochs and not (thread.stopping is not None and bool(thread.stopping.should_stop)):
                new, out = one(thread, jnp.asarray(done, jnp.int32), *inputs)
                results[done:] = [jax.tree.map(np.asarray, out)]  # it waits for the device
                done, thread = done + 1, new
                if done % where.every == 0:
                    store.save(done, run, thread, results)
        except (KeyboardInterrupt, jax.errors.JaxRuntimeError) as error:  # within a callback it is the latter
            if "KeyboardInterrupt" not in f"{type(error).__name__}: {error}":
                raise
            interrupted = True
            logging.getLogger("jaxopt_ko").warning("fit: interrupted after epoch %d of %d", done, epochs)
        store.save(done, run, thread, results[:done])
    rows = [*results[:done], *[jax.tree.map(_blank, blank)] * (epochs - done)]
    stacked = jax.tree.map(lambda *row: jnp.stack([jnp.asarray(x) for x in row]), *rows)
    return _run_of(thread, stacked, jnp.asarray(interrupted))


def _check_run(
    epochs: Any, early_stopping: Any, monitor: Any, batches: Any, first_epoch: Any, key: jax.Array | None
) -> None:
    """Refuse what a run cannot be made of."""
    if isinstance(epochs, bool) or not isinstance(epochs, int | np.integer) or epochs < 1:
        say(HyperparameterError, "fit", "epochs must be an integer >= 1", f"epochs={epochs!r}",
            "Its number is the length of the results: give a Python int")  # fmt: skip
    if early_stopping is not None and not isinstance(early_stopping, EarlyStopping):
        say(HyperparameterError, "fit", "early_stopping must be an EarlyStopping pair", describe(early_stopping),
            "Call it: early_stopping=early_stopping(patience)")  # fmt: skip
    if early_stopping is None and monitor is not None:
        say(HyperparameterError, "fit", "monitor is of no use without early_stopping", f"monitor={monitor!r}",
            "Give early_stopping=early_stopping(patience), or leave monitor out")  # fmt: skip
    if monitor is not None and not isinstance(monitor, str):
        say(HyperparameterError, "fit", "monitor must be the name of a metric", describe(monitor),
            'Let metrics(params) return a dict: {"loss": ...}, and give monitor="loss"')  # fmt: skip
    if not all(hasattr(batches, name) for name in ("steps", "plan", "gather")):
        say(TransformationError, "fit", "batches must be a plan of batches", describe(batches),
            "Make one: data.mini_batch(examples, batch_size), data.full_batch(examples)")  # fmt: skip
    check_whole("fit", "first_epoch", first_epoch)
    if key is not None:
        check_prng_key("fit", key)


def _mean(loss: jax.Array) -> jax.Array:
    return jnp.mean(loss.astype(compute_dtype(loss.dtype))).astype(scalar_dtype())


def _blank(x: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.full(x.shape, math.nan if jnp.issubdtype(x.dtype, jnp.inexact) else 0, x.dtype)


def _watched(measured: PyTree, monitor: str | None) -> PyTree:
    """The metric that early stopping looks at, measured at the parameters that it may keep."""
    if monitor not in measured if isinstance(measured, dict) else measured is None or monitor is not None:
        got = f"metrics {sorted(measured)}" if isinstance(measured, dict) else f"metrics {describe(measured)}"
        say(HyperparameterError, "fit", "early stopping needs a number to watch", f"monitor={monitor!r}, {got}",
            "Let metrics(params) return the loss on validation data, or a dict with it under that name")  # fmt: skip
    return measured if monitor is None else measured[monitor]


def _scan(
    body: Callable[[Any, Any], tuple[Any, PyTree]],
    carry: Any,
    xs: PyTree,
    blocks: int,
    after: Callable[[Any, PyTree, jax.Array], None],
) -> tuple[Any, PyTree]:
    """`lax.scan` in about `blocks` blocks (0: one), with after(carry, ys, items done) called after each.

    Blocks, and no `lax.cond` at every item, which would hold up an accelerator. They are equal if the length
    has a divisor not too far off; else what is left makes a last block, for which XLA compiles body again.
    """
    if not blocks:
        return jax.lax.scan(body, carry, xs)
    length = jax.tree.leaves(xs)[0].shape[0]
    size = -(-length // blocks)
    equal = next(s for s in range(size, length + 1) if length % s == 0)
    size = equal if equal <= 4 * size else size
    whole = length - length % size

    def block(carry: Any, x: tuple[jax.Array, PyTree]) -> tuple[Any, PyTree]:
        done, items = x
        carry, ys = jax.lax.scan(body, carry, items)
        after(carry, ys, done)
        return carry, ys

    def rows(x: jax.Array) -> jax.Array:
        return x[:whole].reshape(whole // size, size, *x.shape[1:])

    done = jnp.arange(size, whole + 1, size, dtype=jnp.int32)
    carry, ys = jax.lax.scan(block, carry, (done, jax.tree.map(rows, xs)))
    ys = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)
    if whole < length:
        carry, rest = block(carry, (jnp.full((), length, jnp.int32), jax.tree.map(lambda x: x[whole:], xs)))
        ys = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, rest)
    return carry, ys


_ELSEWHERE = (
    Carry,
    Checkpoints,
    EarlyStopping,
    EarlyStoppingState,
    Interval,
    ProgressBar,
    RateSearch,
    Sweep,
    Trial,
    early_stopping,
    find_rate,
    interval,
    microbatched,
    sweep,
    train_step,
    trial,
)  # and public here
published(__name__, globals(), [thing.__name__ for thing in _ELSEWHERE])

_LATE = ("CoordinateCheck", "WidthFactor", "WidthScaled", "coordinate_check", "width_factors", "width_scaled")


def __getattr__(name: str) -> Any:
    """What stands in other rooms and is public here as well; imported when it is asked for."""
    return of_the_face("jaxopt_ko.loop", name, _LATE)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
