"""The methods compared, the space in which each is tuned, and the trials, which are the same for every task.

A space is a rate and one more number, both drawn evenly in their logarithms by a sequence of low discrepancy. Rates
follow the same schedule for all methods: up along a line over the first twentieth, and down along a line to 0; of the
schedule-free method, whose average does that, up only.

Thirteen methods have spaces written by hand. `--methods all` compares every method of the catalogue that needs no more
than gradients, parameters and values: the others' spaces follow from their family and from the names of arguments.
"""

import inspect
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


def on_matrices(make: Callable[..., jo.GradientTransformation], rate, task: Task, params, **words):
    """A method for matrices, AdamW for the rest, embeddings and heads among it, at one rate (Moonlight, 2502.16982)."""

    def kind(path, p):
        top = getattr(path[0], "key", None) if path else None
        return "matrix" if p.ndim >= 2 and top not in task.tokens else "rest"

    labels = jax.tree_util.tree_map_with_path(kind, params)
    axes = jax.tree.map(lambda p, label: max(p.ndim - 2, 0) if label == "matrix" else 0, params, labels)
    matrices = make(rate, stack_axes=axes, **words)
    return jo.partition({"matrix": matrices, "rest": jo.adamw(rate, weight_decay=DECAY)}, labels)


def muon(rate, other, task: Task, params):
    return on_matrices(jo.muon, rate, task, params, beta=1 - other, weight_decay=DECAY, consistent_rms=0.2)


def ademamix(rate, other, task, params):
    """Its slow average remembers a fifth of the budget; the published 0.9999 is for runs of 256,000 steps."""
    return jo.ademamix(rate, b1=1 - other, b3=1 - 5 / task.steps, weight_decay=DECAY)


BY_HAND = {
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
DEFAULT = tuple(name for name in BY_HAND if name != "psgd_kron")  # which takes as long as all others on CPUs
REFERENCE = "nadamw"  # whose end is the target

# ---- all methods of the catalogue -----------------------------------------------------------------------

RATES = {  # by family
    "descent": (3e-3, 3.0), "adaptive": (1e-3, 1.0), "sign": (1e-4, 1e-1), "layers": (1e-3, 1.0), "matrix": (1e-3, 1.0),
    "rate-free": (0.1, 10.0),
}  # fmt: skip
OWN_RATES = {  # whose steps are not of their family's size
    "adadelta": (0.1, 100.0), "adagrad": (3e-3, 3.0), "madgrad": (1e-3, 1.0), "sm3": (3e-3, 3.0), "lars": (0.1, 100.0),
    "psgd_kron": (3e-4, 0.3), "scion": (3e-4, 0.3), "optimistic_gradient_descent": (3e-3, 3.0),
}  # fmt: skip
NUMBERS = {  # the second number is 1 - the first of these that a factory has
    "b1": lambda o: 1 - o, "momentum": lambda o: 1 - o, "beta": lambda o: 1 - o, "betas": lambda o: (1 - o, 0.999),
}  # fmt: skip


def read(state: Any, params: Any) -> Any:
    """The average that a method is evaluated at, if it keeps one."""
    try:
        return jo.eval_params(state, params)
    except jo.errors.StateError:
        return params


def of_catalogue(row: jo.catalog.Row) -> Method | None:
    """A row as a method of the suite, None if it needs what a run does not give it."""
    factory = getattr(jo, row.factory or row.name)
    known = inspect.signature(factory).parameters
    if row.family not in RATES or not set(row.needs) <= {"gradient", "params", "value"}:
        return None
    number = next((n for n in NUMBERS if n in known and n not in row.options and row.name != "gradient_descent"), None)
    first = next(iter(known))  # the rate, whatever it is called

    def make(rate, other, task, params):
        words = dict(row.options) | ({number: NUMBERS[number](other)} if number else {})
        if "max_learning_rate" in known and first != "max_learning_rate":
            words["max_learning_rate"] = rate(round(WARM * task.steps))
        if "weight_decay" in known and not row.options.get("lr_in_velocity"):  # which has no place for it
            words["weight_decay"] = DECAY
        if "rest" in known:  # is for matrices
            return on_matrices(factory, rate, task, params, **words)
        if "stack_axes" in known:
            words["stack_axes"] = stacks(params)
        return factory(**{first: rate} | words)

    rates = OWN_RATES.get(row.factory or row.name, RATES[row.family])
    second = f"1 - {number}" if number else "none"
    return Method(make, rates, second, falls=not row.name.startswith("schedule_free"), read=read)


FOUND = {row.name: of_catalogue(row) for row in jo.catalog.ROWS if row.name not in BY_HAND}
METHODS = BY_HAND | {name: method for name, method in FOUND.items() if method}


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
