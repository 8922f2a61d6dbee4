"""The methods compared, the space in which each is tuned, and the trials, which are the same for every task.

A space is a rate and one more number, both drawn evenly in their logarithms by a sequence of low discrepancy. Rates
follow the same schedule for all methods: up along a line over the first twentieth, and down along a line to 0; of the
schedule-free method, whose average does that, up only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_ko as jo
from suite.task import Task

WARM = 1 / 20
DECAY = 1e-4  # decoupled weight decay of all that have it
MOMENTUM = (0.02, 0.5)  # of 1 - b1


class Method(NamedTuple):
    """A method and its space."""

    make: Callable[..., jo.GradientTransformation]  # (rate, other, task, params) -> transformation; rate is a schedule
    rate: tuple[float, float]  # least and greatest
    other: str = "1 - b1"  # what the second number is
    span: tuple[float, float] = MOMENTUM
    falls: bool = True  # whether the rate goes down to 0
    read: Callable[..., Any] = lambda state, params: params  # the parameters to validate at


def stacks(params: Any) -> Any:
    """How many leading axes of a leaf count matrices."""
    return jax.tree.map(lambda p: max(p.ndim - 2, 0), params)


def muon(rate, other, task: Task, params):
    """Muon for the matrices, AdamW for the rest, embeddings and heads among it, at one rate (Moonlight, 2502.16982)."""

    def kind(path, p):
        top = getattr(path[0], "key", None) if path else None
        return "matrix" if p.ndim >= 2 and top not in task.tokens else "rest"

    labels = jax.tree_util.tree_map_with_path(kind, params)
    axes = jax.tree.map(lambda p, label: max(p.ndim - 2, 0) if label == "matrix" else 0, params, labels)
    matrices = jo.muon(rate, beta=1 - other, weight_decay=DECAY, consistent_rms=0.2, stack_axes=axes)
    return jo.partition({"matrix": matrices, "rest": jo.adamw(rate, weight_decay=DECAY)}, labels)


def ademamix(rate, other, task, params):
    """Its slow average remembers a fifth of the budget; the published 0.9999 is for runs of 256,000 steps."""
    return jo.ademamix(rate, b1=1 - other, b3=1 - 5 / task.steps, weight_decay=DECAY)


METHODS = {
    "nadamw": Method(lambda r, o, *_: jo.nadamw(r, b1=1 - o, weight_decay=DECAY), (1e-3, 1.0)),
    "adamw": Method(lambda r, o, *_: jo.adamw(r, b1=1 - o, weight_decay=DECAY), (1e-3, 1.0)),
    "sgd": Method(lambda r, o, *_: jo.sgd(r, momentum=1 - o, nesterov=True), (3e-3, 3.0), "1 - momentum"),
    "adagrad": Method(
        lambda r, o, *_: jo.adagrad(r, initial_accumulator_value=o), (3e-3, 3.0), "first accumulator", (1e-6, 1e-1)
    ),
    "lion": Method(lambda r, o, *_: jo.lion(r, b1=1 - o, weight_decay=DECAY), (1e-4, 1e-1)),
    "ademamix": Method(ademamix, (1e-3, 1.0)),
    "schedule_free_adamw": Method(
        lambda r, o, *_: jo.schedule_free_adamw(r, b1=1 - o, weight_decay=DECAY),
        (1e-3, 1.0),
        falls=False,
        read=jo.schedule_free_eval_params,
    ),
    "prodigy": Method(lambda r, o, *_: jo.prodigy(r, betas=(1 - o, 0.999), weight_decay=DECAY), (0.1, 10.0)),
    "muon": Method(muon, (1e-3, 1.0), "1 - beta"),
    "soap": Method(
        lambda r, o, task, params: jo.soap(
            r, b1=1 - o, weight_decay=DECAY, precondition_frequency=5, stack_axes=stacks(params)
        ),
        (1e-3, 1.0),
    ),
    "shampoo": Method(
        lambda r, o, task, params: jo.shampoo(r, b1=1 - o, weight_decay=DECAY, stack_axes=stacks(params)),
        (1e-3, 1.0),
    ),
    "kl_soap": Method(
        lambda r, o, task, params: jo.kl_soap(
            r, b1=1 - o, weight_decay=DECAY, precondition_frequency=5, stack_axes=stacks(params)
        ),
        (1e-3, 1.0),
    ),
    "psgd_kron": Method(
        lambda r, o, task, params: jo.psgd_kron(r, b1=1 - o, weight_decay=DECAY, stack_axes=stacks(params)), (3e-4, 0.3)
    ),
}
DEFAULT = tuple(name for name in METHODS if name != "psgd_kron")  # which takes as long as all others on CPUs
REFERENCE = "nadamw"  # whose end is the target


def shape(steps: int, falls: bool) -> Callable:
    """The schedule's share of the peak at a step, float32[]."""

    def share(count):
        t = jnp.asarray(count, jnp.float32)
        up = jnp.minimum(1.0, (t + 1) / max(1.0, WARM * steps))
        return jnp.minimum(up, (1 - t / steps) / (1 - WARM)) if falls else up

    return share


def optimizer(method: Method, numbers: jax.Array, task: Task, params: Any) -> jo.GradientTransformation:
    """numbers: float32[2], the rate and the other; traced, if wanted."""
    share = shape(task.steps, method.falls)
    return method.make(lambda count: numbers[0] * share(count), numbers[1], task, params)


def trials(method: Method, count: int) -> np.ndarray:
    """float32[count,2]: rate and other number, by the additive recurrence of the plastic number (Roberts 2018)."""
    plastic = 1.32471795724474602596
    steps = np.array([1 / plastic, 1 / plastic**2])
    shares = (0.5 + steps * np.arange(1, count + 1)[:, None]) % 1
    low, high = np.log(np.array([method.rate, method.span])).T
    return np.exp(low + shares * (high - low)).astype(np.float32)
