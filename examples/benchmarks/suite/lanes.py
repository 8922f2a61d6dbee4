"""A run as a pure function, and the program that makes many of them at once."""

import functools
import time
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
    """(numbers float32[2], level f32[], key, data) -> float32[POINTS+1], the metric from start to end."""
    every = task.steps // POINTS
    compute = functools.partial(cast, dtype=scale.dtype if task.network else "float32")

    def lane(numbers, level, key, data):
        first, batches = jax.random.split(key)
        params = start(task, first, level)
        tx = optimizer(method, numbers, task, params)
        ring = jax.tree.map(lambda p: jnp.zeros((task.delay, *p.shape), p.dtype), params) if task.delay else None

        def step(carry, i):
            params, state, ring = carry
            key = jax.random.fold_in(batches, i)
            grads = jax.grad(lambda p: task.loss(compute(p), compute(data), key, level).astype(jnp.float32))(params)
            if ring is not None:  # of `delay` gradients, that of `level` steps ago; zeros before there is one
                age = level.astype(jnp.int32)
                old = jax.tree.map(lambda r: r[(i - age) % task.delay], ring)
                ring = jax.tree.map(lambda r, g: r.at[i % task.delay].set(g), ring, grads)
                grads = old
            updates, state = tx.update(grads, state, params)
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


class Program:
    """The runs of a method on a task, `lanes` at a time; compiled once."""

    def __init__(self, task: Task, name: str, scale: Scale, lanes: int):
        self.lanes, self.steps, self.seconds, self.made = lanes, POINTS * (task.steps // POINTS), 0.0, 0
        devices = jax.devices()
        over = np.gcd(lanes, len(devices))
        mesh = jax.make_mesh((over,), ("lane",), (jax.sharding.AxisType.Auto,), devices=devices[:over])
        split, whole = (jax.sharding.NamedSharding(mesh, jax.P(*axes)) for axes in (("lane",), ()))
        began = time.perf_counter()
        lane = jax.vmap(run(task, METHODS[name], scale), in_axes=(0, 0, 0, None))
        inputs = (
            jax.ShapeDtypeStruct((lanes, 2), jnp.float32),
            jax.ShapeDtypeStruct((lanes,), jnp.float32),
            jax.eval_shape(lambda: jax.random.split(jax.random.key(0), lanes)),
            jax.eval_shape(lambda: jax.tree.map(jnp.asarray, task.data)),
        )
        self.data = jax.device_put(jax.tree.map(jnp.asarray, task.data), whole)
        self.split = split
        self.program = jax.jit(lane, in_shardings=(split, split, split, whole), out_shardings=split).lower(
            *inputs
        ).compile()  # fmt: skip
        self.compiling = time.perf_counter() - began

    def __call__(self, numbers: np.ndarray, levels: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """float32[n,POINTS+1]: the curves of n runs, in chunks of `lanes`; the last is filled up with its first run."""
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
        curves = []
        for first in range(0, len(numbers), self.lanes):
            at = np.arange(first, first + self.lanes)
            at = np.where(at < len(numbers), at, first)
            began = time.perf_counter()
            given = (jnp.asarray(numbers[at], jnp.float32), jnp.asarray(levels[at], jnp.float32), keys[at])
            found = self.program(*jax.device_put(given, self.split), self.data)
            curves.append(np.asarray(found)[: len(numbers) - first])
            self.seconds += time.perf_counter() - began
            self.made += 1
        return np.concatenate(curves)


def state_bytes(task: Task, name: str) -> tuple[int, int]:
    """Of the state, and how many parameters there are."""
    params = jax.eval_shape(lambda: start(task, jax.random.key(0), jnp.float32(task.levels[0])))
    state = jax.eval_shape(lambda p: optimizer(METHODS[name], jnp.ones(2), task, p).init(p), params)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)), sum(p.size for p in jax.tree.leaves(params))
