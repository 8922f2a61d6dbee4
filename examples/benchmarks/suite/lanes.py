"""A run as a pure function, and the program that makes many of them at once."""

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_ko as jo
from suite.methods import METHODS, Method, optimizer
from suite.task import Scale, Task

POINTS = 30  # validations in a run, and one before it


def cast(tree: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating) else x, tree)


def start(task: Task, key: jax.Array, level: jax.Array) -> Any:
    return cast(task.init(key, level), "float32")


def run(task: Task, method: Method, scale: Scale) -> Callable[..., jax.Array]:
    """(numbers float32[2], level f32[], key) -> float32[POINTS+1], the metric from start to end."""
    every = task.steps // POINTS
    compute = functools.partial(cast, dtype=scale.dtype if task.network else "float32")

    data = jax.tree.map(jnp.asarray, task.data)

    def lane(numbers, level, key):
        first, batches = jax.random.split(key)
        params = start(task, first, level)
        tx = optimizer(method, numbers, task, params)
        ring = jax.tree.map(lambda p: jnp.zeros((task.delay, *p.shape), p.dtype), params) if task.delay else None

        def step(carry, i):
            params, state, ring = carry
            key = jax.random.fold_in(batches, i)
            value, grads = jax.value_and_grad(
                lambda p: task.loss(compute(p), compute(data), key, level).astype(jnp.float32)
            )(params)
            if ring is not None:  # of `delay` gradients, that of `level` steps ago; zeros before there is one
                age = level.astype(jnp.int32)
                old = jax.tree.map(lambda r: r[(i - age) % task.delay], ring)
                ring = jax.tree.map(lambda r, g: r.at[i % task.delay].set(g), ring, grads)
                grads = old
            updates, state = tx.update(grads, state, params, value=value)
            return (jo.apply_updates(params, updates), state, ring), None

        def piece(carry, indices):
            carry, _ = jax.lax.scan(step, carry, indices)
            return carry, measured(carry[0], carry[1])

        def measured(params, state):
            found = task.validate(compute(method.read(state, params)), compute(data), level)
            return jnp.maximum(found.astype(jnp.float32), task.floor)

        state = tx.init(params)
        indices = jnp.arange(POINTS * every).reshape(POINTS, every)
        _, curve = jax.lax.scan(piece, (params, state, ring), indices)
        return jnp.concatenate([measured(params, state)[None], curve])

    return lane


class Runs:
    """The runs of a method on a task, by `loop.sweep`; all of them are one program, compiled at the first call.

    A case is a trial at a level: its number is trial * levels + level.
    """

    def __init__(self, task: Task, name: str, scale: Scale, lanes: int, tried: np.ndarray):
        self.lanes, self.steps, self.levels = lanes, POINTS * (task.steps // POINTS), len(task.levels)
        self.cases = np.arange(len(tried) * self.levels)
        self.seconds, self.processor, self.timed, self.compilations = 0.0, 0.0, 0, 0
        lane, settings, levels = run(task, METHODS[name], scale), jnp.asarray(tried), jnp.asarray(task.levels)

        def train(hyperparameters: Any, key: jax.Array) -> dict[str, jax.Array]:
            case = jnp.round(hyperparameters["case"]).astype(jnp.int32)
            curve = lane(settings[case // len(levels)], levels[case % len(levels)], key)
            return {str(point): curve[point] for point in range(POINTS + 1)}

        self.train = train

    def __call__(self, cases: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """float[cases,seeds,POINTS+1]: the curves, NaN from where a run has left the numbers."""
        before = os.times()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the best at the edge, or of none: cases have no order
            found = jo.loop.sweep(
                self.train, {"case": [float(c) for c in cases]}, seeds=[int(s) for s in seeds],
                metric=str(POINTS), chunk=self.lanes,
            )  # fmt: skip
        if not found.compilations:
            after = os.times()
            self.seconds += found.seconds
            self.processor += after.user + after.system - before.user - before.system
            self.timed += -(-len(cases) * len(seeds) // self.lanes)
        self.compilations += found.compilations
        return np.stack([found.metrics[str(point)] for point in range(POINTS + 1)], -1)

    def lane_step(self) -> tuple[float, float]:
        """Seconds that a step of one run takes, in the calls that compiled nothing: passed, and of processors."""
        steps = max(self.timed * self.lanes * self.steps, 1)
        return self.seconds / steps, self.processor / steps


def state_bytes(task: Task, name: str) -> tuple[int, int]:
    """Of the state, and how many parameters there are."""
    params = jax.eval_shape(lambda: start(task, jax.random.key(0), jnp.float32(task.levels[0])))
    state = jax.eval_shape(lambda p: optimizer(METHODS[name], jnp.ones(2), task, p).init(p), params)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)), sum(p.size for p in jax.tree.leaves(params))
