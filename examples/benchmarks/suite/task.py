"""What a task is, and what the tasks share: data, starts of weights, batches.

A file of `tasks` has `make(scale)`, which returns a Task; its functions are pure, so that a run is a function of the
hyperparameters, the level and a key alone, and many runs are one program under `vmap`.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits


class Scale(NamedTuple):
    """How large the tasks are made."""

    name: str
    width: int  # what layers are multiplied by
    batch: int  # what batches are multiplied by
    steps: int  # what budgets are multiplied by
    dtype: str  # of what networks compute in; parameters and losses stay float32


SCALES = {
    "small": Scale("small", 1, 1, 1, "float32"),
    "large": Scale("large", 16, 8, 8, "bfloat16"),
}


class Task(NamedTuple):
    """One problem at three levels of difficulty.

    The level is a number that the program is given, not one that it is compiled for: all levels share a program.
    """

    name: str
    levels: tuple[float, float, float]  # easy, medium, hard
    steps: int  # the budget
    metric: str  # what `validate` returns; less is better
    learned: tuple[float, float, float]  # a run counts as one that has learned anything if its metric is below this
    init: Callable[..., Any]  # (key, level) -> params
    loss: Callable[..., jax.Array]  # (params, data, key, level) -> f32[]; the key draws the batch
    validate: Callable[..., jax.Array]  # (params, data, level) -> f32[]
    data: Any = ()  # arrays that all runs share
    floor: float = 0.0  # a metric below it counts as it: what is done is done
    delay: int = 0  # gradients are as many steps old as the level says, this at most
    network: bool = True  # computes in the scale's dtype
    tokens: tuple[str, ...] = ()  # top-level names of embeddings and heads: matrices that are not Muon's or SOAP's


# ---- data -----------------------------------------------------------------------------------------------


@functools.cache
def digits() -> dict[str, np.ndarray]:
    """scikit-learn's 1,797 images of 8 by 8: x float[n,64] in 0 to 1, y int[n]; 300 of them are for validation."""
    x, y = load_digits(return_X_y=True)
    return split(np.asarray(x, np.float32) / 16, y, 300)


@functools.cache
def tumours() -> dict[str, np.ndarray]:
    """scikit-learn's 569 breast tumours: 30 features, centred and of variance 1, and whether benign."""
    x, y = load_breast_cancer(return_X_y=True)
    return split(((x - x.mean(0)) / x.std(0)).astype(np.float32), y, 169)


def split(x: np.ndarray, y: np.ndarray, kept: int) -> dict[str, np.ndarray]:
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], np.asarray(y[order], np.int32)
    return {"x": x[kept:], "y": y[kept:], "x_kept": x[:kept], "y_kept": y[:kept]}


@functools.cache
def text() -> dict[str, np.ndarray]:
    """The source of argparse, of Python's standard library, in 64 characters: those beside them are read as '?'."""
    known = "?\n abcdefghijklmnopqrstuvwxyz_.,:;()[]{}'\"=+-*/%#<>!@\\|0123456789"[:64]
    index = {c: i for i, c in enumerate(known)}
    source = Path(argparse.__file__).read_text(encoding="utf-8").lower()
    codes = np.array([index.get(c, 0) for c in source], np.int32)
    return {"train": codes[:-8192], "kept": codes[-8192:]}


def windows(codes: jax.Array, key: jax.Array, count: int, length: int) -> jax.Array:
    """int32[count,length+1]: pieces of a text."""
    at = jax.random.randint(key, (count, 1), 0, len(codes) - length - 1)
    return codes[at + jnp.arange(length + 1)]


def kept_windows(codes: jax.Array, count: int, length: int) -> jax.Array:
    """The same, evenly spread and without a key."""
    at = (jnp.arange(count) * ((len(codes) - length - 1) // count))[:, None]
    return codes[at + jnp.arange(length + 1)]


# ---- networks -------------------------------------------------------------------------------------------


def weights(key: jax.Array, rows: int, columns: int, gain: Any = 1.0) -> jax.Array:
    """float32[rows,columns] of variance gain**2 / rows; `x @ w`."""
    return jax.random.normal(key, (rows, columns)) * gain / rows**0.5


def layers(key: jax.Array, widths: tuple[int, ...], gain: float = 2**0.5) -> list[dict[str, jax.Array]]:
    """Weights and biases from layer to layer."""
    keys = jax.random.split(key, len(widths))
    return [{"w": weights(k, m, n, gain), "b": jnp.zeros(n)} for k, m, n in zip(keys, widths, widths[1:], strict=False)]


def perceptron(params: list[dict[str, jax.Array]], x: jax.Array, act: Callable = jax.nn.relu) -> jax.Array:
    for i, layer in enumerate(params):
        x = x @ layer["w"] + layer["b"]
        x = act(x) if i + 1 < len(params) else x
    return x


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean, in nats, in float32."""
    logs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.mean(jnp.take_along_axis(logs, labels[..., None], -1))


def drawn(data: dict[str, jax.Array], key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """A batch: x float[count,...], y int[count]."""
    at = jax.random.randint(key, (count,), 0, len(data["x"]))
    return data["x"][at], data["y"][at]


def classify(name: str, init: Callable, apply: Callable, scale: Scale, **words: Any) -> Task:
    """A task on the digits: apply(params, x, level) gives the logits."""

    def loss(params, data, key, level):
        x, y = drawn(data, key, 32 * scale.batch)
        return cross_entropy(apply(params, x, level), y)

    def validate(params, data, level):
        return cross_entropy(apply(params, data["x_kept"], level), data["y_kept"])

    words = {"metric": "validation cross entropy, nats", "data": digits(), "loss": loss, "validate": validate} | words
    return Task(name, init=init, **words)
