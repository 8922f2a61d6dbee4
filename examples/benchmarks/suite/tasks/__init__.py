"""The tasks, a file each."""

import functools
import importlib

from suite.task import Scale, Task

NAMES = (
    "logistic", "perceptron", "convolution", "autoencoder", "transformer", "recurrent", "experts", "factorization",
    "rare_tokens", "physics", "policy", "deep_linear", "least_squares", "saddle_chain", "heavy_tails", "delayed",
    "dying_relu", "scales", "game",
)  # fmt: skip


@functools.cache
def task(name: str, scale: Scale) -> Task:
    return importlib.import_module(f"suite.tasks.{name}").make(scale)
