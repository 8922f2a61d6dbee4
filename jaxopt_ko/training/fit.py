"""Training as one `lax.scan`: a step, whole runs of epochs, early stopping, and a progress bar from inside.

Everything here is pure and traces once; wrap a call in `jax.jit` to compile it, in `jax.vmap` to train many
models at once, over keys or over the learning rate that an optimizer is made from.
"""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_arrays, check_carry, check_start
from jaxopt_ko.core.method import filter_kwargs
from jaxopt_ko.core.numerics import scalar_dtype, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import ascent, compute_dtype
from jaxopt_ko.errors import (
    NONNEGATIVE,
    HyperparameterError,
    MissingArgumentError,
    StateError,
    TransformationError,
    TreeError,
    describe,
    say,
)
from jaxopt_ko.training.checks import check_prng_key, check_whole
from jaxopt_ko.types import GradientTransformation, Params, PyTree, State

LossFn = Callable[..., Any]  # (params, batch) -> float[], or (float[], aux)
Report = Callable[[int, int, float, int], object]  # (steps done since the last, steps of a run, loss, lanes)
REPORTS = 100  # about how often a progress bar moves


class Plan(Protocol):
    """What `fit` asks of its batches; `jaxopt_ko.data.Batches` is one."""

    @property
    def steps(self) -> int:
        """Steps per epoch."""

    def plan(self, key: jax.Array | None, epoch: jax.Array) -> PyTree:
        """Arrays [steps, ...]: a row of indices for each step of an epoch."""

    def gather(self, data: PyTree, indices: PyTree) -> PyTree:
        """The batch for one row of indices."""


# ---- one step -------------------------------------------------------------------------------------------


class Carry(NamedTuple):
    """The parameters and the optimizer's state, from step to step."""

    params: Params
    state: State  # the optimizer's


TrainStep = Callable[[Carry, PyTree], tuple[Carry, tuple[jax.Array, PyTree]]]


@options
def train_step(loss_fn: LossFn, optimizer: GradientTransformation, *, has_aux: bool = False) -> TrainStep:
    """step(Carry(params, state), batch) -> (carry, (loss, aux)): a body for `lax.scan`, or a function to jit.

    loss_fn(params, batch) -> float[], with has_aux (float[], aux); without, aux is None. The optimizer may be
    any (init, update) pair; one that takes `value`, `grad` or `value_fn` (a line search) gets them.

    Raises, when traced: TreeError if the loss is not one real number; StateError, naming the leaf, if params
    or state change their structure, shape or dtype.
    """
    errors.check_function("train_step", "loss_fn", loss_fn)
    optimizer = errors.check_pair("train_step", "optimizer", optimizer)
    update = filter_kwargs(optimizer.update, 3)

    def objective(params: Params, batch: PyTree) -> tuple[jax.Array, PyTree]:
        out = loss_fn(params, batch)
        if has_aux and not (isinstance(out, tuple) and len(out) == 2):
            say(TreeError, "train_step", "with has_aux=True loss_fn must return (loss, aux)", describe(out),
                "Return the pair, or leave has_aux out")  # fmt: skip
        loss, aux = out if has_aux else (out, None)
        if isinstance(loss, tuple | list) or jnp.shape(loss) != () or not _is_real(loss):
            say(TreeError, "train_step", "loss_fn must return one real number (shape ())", describe(loss),
                "Take the mean over the batch; for (loss, aux) set has_aux=True")  # fmt: skip
        return loss, aux

    def step(carry: Carry, batch: PyTree) -> tuple[Carry, tuple[jax.Array, PyTree]]:
        params, state = carry
        (loss, aux), grads = jax.value_and_grad(objective, has_aux=True)(params, batch)
        grads = ascent(grads)
        extra = {"value": loss, "grad": grads, "value_fn": lambda p: objective(p, batch)[0]}
        updates, new_state = update(grads, state, params, **extra)
        new = Carry(apply_updates(params, updates), new_state)
        check_carry("train_step", carry, new)
        return new, (loss, aux)

    return step


def _is_real(x: Any) -> bool:
    return hasattr(x, "dtype") and bool(jnp.issubdtype(x.dtype, jnp.floating))


# ---- early stopping -------------------------------------------------------------------------------------


class EarlyStoppingState(NamedTuple):
    """What early stopping remembers."""

    best: jax.Array  # float[]  the best value so far, infinitely bad before the first
    best_params: Params  # like params  where it was reached; None if init got none
    wait: jax.Array  # int32[]  checks since then
    should_stop: jax.Array  # bool[]  wait has reached the patience; stays True


class EarlyStopping(NamedTuple):
    """A pure pair.

    init(params=None) -> state
    update(value, state, params=None) -> state, to be called at each check with a number to watch
    """

    init: Callable[..., EarlyStoppingState]
    update: Callable[..., EarlyStoppingState]


def early_stopping(
    patience: int | jax.Array, *, min_delta: float | jax.Array = 0.0, mode: str = "min"
) -> EarlyStopping:
    """Stop after `patience` checks in a row without a value better than the best by more than `min_delta`.

    mode: "min" if lower is better (a loss), "max" if higher is (an accuracy). NaN is never better. If `init` and
    every `update` are given the parameters, the state keeps a copy of the best ones.

    Raises HyperparameterError for a patience below 1, a negative min_delta, an unknown mode;
    MissingArgumentError if update gets no params though init did. Not for a noisy value checked at every
    step: its luckiest draw looks like a best that nothing beats.
    """
    errors.check_choice("early_stopping", "mode", mode, ("min", "max"))
    check_whole("early_stopping", "patience", patience, 1)
    errors.check_number("early_stopping", "min_delta", min_delta, NONNEGATIVE)
    sign = 1.0 if mode == "min" else -1.0

    def init(params: Params = None) -> EarlyStoppingState:
        best = jnp.full((), sign * math.inf, scalar_dtype())
        return EarlyStoppingState(best, params, zero_count(), jnp.zeros((), bool))

    def update(value: jax.typing.ArrayLike, state: EarlyStoppingState, params: Params = None) -> EarlyStoppingState:
        if not isinstance(state, EarlyStoppingState):
            say(StateError, "early_stopping", "the state must be an EarlyStoppingState", describe(state),
                "Call update(value, state, params) with what init or the last update returned")  # fmt: skip
        if (not hasattr(value, "dtype") and not isinstance(value, int | float)) or jnp.shape(value) != ():
            say(TreeError, "early_stopping", "the value to watch must be one number (shape ())",
                describe(value), "Take its mean; vmap over several runs")  # fmt: skip
        keeps = bool(jax.tree.leaves(state.best_params))
        if keeps and params is None:
            say(MissingArgumentError, "early_stopping", "params are missing", "params=None",
                "Call update(value, state, params), or init() without params to keep none")  # fmt: skip
        value = jnp.asarray(value).astype(state.best.dtype)
        better = sign * (state.best - value) > jnp.asarray(min_delta).astype(value.dtype)
        wait = jnp.where(better, jnp.zeros_like(state.wait), state.wait + np.int32(1))
        best_params = tree.where(better, params, state.best_params) if keeps else state.best_params
        stop = state.should_stop | (wait >= jnp.asarray(patience).astype(wait.dtype))
        return EarlyStoppingState(jnp.where(better, value, state.best), best_params, wait, stop)

    return EarlyStopping(init, update)


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
) -> Run:
    """Train for `epochs` epochs inside one `lax.scan`; nothing leaves the device before the end.

    loss_fn(params, batch) -> float[], or (float[], aux) with has_aux. batch is `data` (arrays [n, ...]) at
        the indices of one step of `batches`, which `key` shuffles anew each epoch.
    metrics(params) -> tree of arrays, after each epoch: close over validation data.
    early_stopping, checked after each epoch, watches metrics(params)[monitor], or metrics(params) itself. A run
        that stopped does nothing more and returns its best params; under vmap each lane stops by itself.
    progress: True, a title, or a `ProgressBar` (any `Report`): one bar for all lanes of a vmap.
    state, first_epoch: to go on from an earlier run, with its key, as if it had not been cut: the same batches and
        draws. (With another number of epochs it is another program, whose rounding may differ.)

    Call it inside `jax.jit`, with `data` an argument of the jitted function: new data of the same shape then
    compiles nothing. Raises what `train_step` raises, and HyperparameterError for epochs below 1 or no metric to
    watch. Not for data that does not fit into the device's memory: loop over `train_step`.
    """
    optimizer = errors.check_pair("fit", "optimizer", optimizer)
    _check_run(epochs, early_stopping, monitor, batches, first_epoch, key)
    check_start("fit", params)
    steps, step = batches.steps, train_step(loss_fn, optimizer, has_aux=has_aux)
    report, reports = _reporter(progress, epochs * steps)
    often = reports // epochs  # reports due within one epoch

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

    def after_epochs(thread: _Thread, out: PyTree, done: jax.Array) -> None:
        if report is not None:
            report(done * np.int32(steps), thread.loss)

    train = Carry(params, optimizer.init(params) if state is None else check_arrays("fit", "state", state))
    watch = None if early_stopping is None else early_stopping.init(params)
    start = _Thread(train, watch, zero_count(), jnp.zeros((), scalar_dtype()))
    index, blocks = jnp.arange(epochs, dtype=jnp.int32), 0 if report is None else reports
    end, (loss, aux, measured) = _scan(epoch, start, index, blocks, after_epochs)
    final, stopping = end.train.params, end.stopping
    if stopping is not None:
        final, stopping = stopping.best_params, stopping._replace(best_params=None)
    return Run(final, end.train.state, loss, aux, measured, end.steps, stopping)


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


# ---- progress -------------------------------------------------------------------------------------------


def _reporter(progress: bool | str | Report, total: int) -> tuple[Callable[[jax.Array, jax.Array], None] | None, int]:
    """A traceable report(steps done, loss) that calls `progress` on the host, once for a whole vmap; how often."""
    if progress is False or progress is None:
        return None, 0
    sink = ProgressBar(progress if isinstance(progress, str) else "") if isinstance(progress, bool | str) else progress
    if not callable(sink):
        say(HyperparameterError, "fit", "progress must be True, a title or a ProgressBar", describe(progress),
            "Or a function of (steps done since the last call, steps of a run, loss, lanes)")  # fmt: skip
    last = 0

    def on_host(packed: jax.Array) -> None:
        nonlocal last
        done, lanes, loss = np.asarray(packed)
        if done != last:  # the end of an epoch may be reported twice
            advance, last = int(done) - (last if done > last else 0), int(done)  # fewer: the program runs anew
            sink(advance, total, float(loss.view(np.float32)), int(lanes))

    @jax.custom_batching.custom_vmap
    def report(done: jax.Array, loss: jax.Array, lanes: jax.Array) -> tuple[()]:
        bits = jax.lax.bitcast_convert_type(loss.astype(jnp.float32), jnp.int32)
        jax.debug.callback(on_host, jnp.stack([done, lanes, bits]))  # one array costs two thirds of what three cost
        return ()

    @report.def_vmap
    def _one_for_all(
        lanes_here: int, batched: Any, done: jax.Array, loss: jax.Array, lanes: jax.Array
    ) -> tuple[tuple[()], tuple[()]]:
        return report(jnp.max(done), jnp.nanmin(loss), jnp.max(lanes) * np.int32(lanes_here)), ()

    def traced(done: jax.Array, loss: jax.Array) -> None:
        report(done, jax.lax.stop_gradient(loss), jnp.ones((), jnp.int32))

    shared = getattr(sink, "total", None) or total  # runs that share a bar share its reports
    return traced, max(1, REPORTS * total // shared)


class ProgressBar:
    """A bar of steps, rate and current loss, drawn by tqdm while the compiled program runs.

    total: steps after which the bar is full and closes, those of one run if None; give the sum where several
    runs of one program share the bar; each of them then reports less often. Other options go to tqdm (file, ncols,
    leave, …). Under vmap it shows the lowest loss of all lanes. Raises ImportError, when made, if tqdm is not
    installed.

    Not for runs under a second: a report costs tenths of a millisecond, and there are about a hundred.
    """

    def __init__(self, title: str = "", total: int | None = None, **options: Any) -> None:
        try:
            self._tqdm = importlib.import_module("tqdm").tqdm
        except ImportError:
            say(ImportError, "ProgressBar", "tqdm draws the bar, and it is not installed", None,
                'Run pip install "jaxopt_ko[examples]", or pass your own function as progress')  # fmt: skip
        self.total, self._options = total, {"desc": title or None, "unit": "step", **options}
        self._bar: Any = None
        self._lock = threading.Lock()  # runs of one program may report at the same time

    def __call__(self, advance: int, total: int, loss: float, lanes: int) -> None:
        """Draw `advance` more steps, of `total` in one run; `loss` is the lowest of `lanes` models."""
        with self._lock:
            if self._bar is None:  # the time before the first report, with compilation, says nothing of the rate
                self._bar = self._tqdm(total=self.total or total, initial=advance, **self._options)
                advance = 0
            bar = self._bar
            bar.set_postfix_str(f"loss {loss:.4g}" + (f", best of {lanes}" if lanes > 1 else ""), refresh=False)
            bar.update(advance)
            if bar.n >= bar.total:
                bar.close()
                self._bar = None
