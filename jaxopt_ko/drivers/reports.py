"""What a run tells while it goes on: `callback` is given a `Report` of every update, from inside the compiled loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.types import Evaluations, Info, Params


class Report(NamedTuple):
    """One update of a run, as numbers of the host."""

    step: int  # its number, from 1
    value: float  # at the parameters as they are after it
    optimality: float  # what gtol bounds: for most methods the largest element of the gradient
    step_norm: float  # of the trial step, in the method's own scaling
    accepted: bool  # was the step taken?
    evaluations: Evaluations  # so far, of integers
    params: Params  # after it, of NumPy arrays


# A compiled program knows a callback by its number, so that another one needs no other program.
_listeners: dict[int, Listener] = {}
_numbers = itertools.count()


def traced() -> bool:
    """Is this within a function that jax.jit, or a loop of jax.lax, traces?"""
    return isinstance(jnp.zeros(()), jax.core.Tracer)


class Listener:
    """The number of a callback, for the length of one call or, where that is traced, for good.

    What the callback raises ends the run, and is raised again as it was.
    """

    def __init__(self, name: str, callback: Callable[[Report], Any] | None) -> None:
        self.number: np.int32 | None = None
        self.kept = callback is None or traced()
        self.raised: Future[None] = Future()  # done if the callback has raised something
        if callback is not None:
            self.callback = errors.check_function(name, "callback", callback)
            self.number = np.int32(next(_numbers))
            _listeners[int(self.number)] = self

    def hear(self, report: Report) -> None:
        """Tell the callback."""
        try:
            self.callback(report)
        except BaseException as error:
            if not self.raised.done():
                self.raised.set_exception(error)
            raise

    def __enter__(self) -> np.int32 | None:
        return self.number

    def __exit__(self, *_: Any) -> None:
        if self.kept or self.number is None:
            return
        try:
            jax.effects_barrier()  # type: ignore[no-untyped-call]
        except jax.errors.JaxRuntimeError:
            if not self.raised.done():
                raise
        finally:
            _listeners.pop(int(self.number), None)
        if self.raised.done():
            self.raised.result()  # raises it


def report(number: Any, running: Array, steps: Array, info: Info, params: Params) -> None:
    """Tell the callback of this number of an update; a lane that had ended before it is silent."""
    numbers = (info.value, info.optimality, info.step_norm, info.accepted, tuple(info.evaluations))
    jax.debug.callback(_deliver, number, running, steps, numbers, params)


def _deliver(number: Any, running: Any, steps: Any, numbers: Any, params: Any) -> None:
    listener = _listeners.get(int(number))
    if listener is None or not running:
        return
    value, optimality, step_norm, accepted, counts = numbers
    evaluations = Evaluations(*map(int, counts))  # type: ignore[arg-type]
    at = jax.tree.map(np.asarray, params)
    listener.hear(
        Report(int(steps), float(value), float(optimality), float(step_norm), bool(accepted), evaluations, at)
    )


def is_concrete(tree: Any) -> bool:
    """Can all numbers of a tree be seen?"""
    return not traced() and not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))
