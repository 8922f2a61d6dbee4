"""What a run shows of itself while it runs: a progress bar that a compiled program moves."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.errors import HyperparameterError, describe, say

Report = Callable[[int, int, float, int], object]  # (steps done since the last, steps of a run, loss, lanes)
REPORTS = 100  # about how often a progress bar moves


def sink_of(name: str, progress: Any) -> Report | None:
    """What is told how far a run is: a bar, or the function that was given; None for none."""
    if progress is False or progress is None:
        return None
    sink = ProgressBar(progress if isinstance(progress, str) else "") if isinstance(progress, bool | str) else progress
    if not callable(sink):
        say(HyperparameterError, name, "progress must be True, a title or a ProgressBar", describe(progress),
            "Or a function of (steps done since the last call, steps of a run, loss, lanes)")  # fmt: skip
    return sink


def reporter(progress: bool | str | Report, total: int) -> tuple[Callable[[jax.Array, jax.Array], None] | None, int]:
    """A function that moves a progress bar from within a compiled program, and how often it is to be called.

    progress: False: none; True, a title, a `ProgressBar` or a function (steps done since the last call, steps of a run,
        loss, lanes).
    total: steps of a run.

    Returns (report(steps done, loss), a traceable function that calls the host once for a whole vmap, or None; the
    number of calls). Raises HyperparameterError for another kind of progress, ImportError for a bar without tqdm. A
    part of `fit`; not for other programs.

    >>> jo.loop.reporter(False, 100)
    (None, 0)
    """
    sink = sink_of("fit", progress)
    if sink is None:
        return None, 0
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
