"""Lanes: many runs of one trial in one compiled program, as many at a time as fit into memory, on all devices."""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding

from jaxopt_ko.core.checks import check_carry
from jaxopt_ko.core.numerics import scalar_dtype
from jaxopt_ko.errors import HyperparameterError, TransformationError, describe, say
from jaxopt_ko.training.sweeps.trial import Reading, Trial, as_metrics
from jaxopt_ko.types import PyTree

PartitionSpec: Any = jax.sharding.PartitionSpec
Shape: Any = jax.ShapeDtypeStruct
WIDEST = {"cpu": 32}  # lanes a device: there more of them at a time are not faster, and fewer are sooner left out
ONCE: dict[str, Any] = {
    "xla_llvm_disable_expensive_passes": True
}  # of a program that hardly runs, on CPUs: compiled twice as fast
LOOKED_AT: dict[str, Any] = {
    **ONCE,
    "xla_backend_optimization_level": 0,
}  # of one that never runs; its buffers are the same
Leaves = list[Any]  # arrays [C, ...]: the leaves of the carries of C lanes, PRNG keys as the numbers in them


class Ran(NamedTuple):
    """What one call gave of C lanes."""

    carry: Leaves
    fine: np.ndarray  # bool[C]  nothing is infinite or NaN that was finite at the start
    metrics: dict[str, np.ndarray]  # float[C] each; NaN where nothing was measured


@functools.lru_cache(maxsize=8)
def lanes_of(train: Any, names: tuple[str, ...], devices: tuple[Any, ...], wide: bool) -> Lanes:
    """The programs of a trial or function; those of the last few sweeps are kept (wide: is x64 enabled?)."""
    return Lanes(train, names, devices)


class Lanes:
    """The programs that begin and advance C lanes, compiled for each C that is asked for."""

    def __init__(self, train: Any, names: tuple[str, ...], devices: Sequence[Any]) -> None:
        self.train, self.names, self.devices = train, names, tuple(devices)
        self.continues = isinstance(train, Trial)
        self.takes_steps = self.continues or takes_steps(train)
        self.programs: dict[Any, Any] = {}
        self.compile_seconds = 0.0  # of the last program
        if len(self.devices) > 1:
            self.mesh = Mesh(np.array(self.devices), ("lanes",))
            self.place: Any = NamedSharding(self.mesh, PartitionSpec("lanes"))
        else:
            self.place = SingleDeviceSharding(self.devices[0])

    # ---- one lane

    def _named(self, values: jax.Array) -> dict[str, jax.Array]:
        return {name: values[i] for i, name in enumerate(self.names)}

    def _start(self, values: jax.Array, seed: jax.Array) -> PyTree:
        """The carry of one lane; of a function its arguments."""
        if not self.continues:
            return values, seed
        return self.train.start(self._named(values), jax.random.key(seed))

    def _measure(self, steps: int, carry: PyTree) -> dict[str, jax.Array]:
        if self.continues:
            return as_metrics(self.train.measure(carry))
        values, seed = carry
        more = (steps,) if self.takes_steps else ()
        return as_metrics(self.train(self._named(values), jax.random.key(seed), *more))

    def look(self, steps: int) -> tuple[str, ...]:
        """Trace one lane, refuse what does not fit, and remember the structure of its carry: the metrics' names."""
        values, seed = Shape((len(self.names),), scalar_dtype()), Shape((), np.int32)
        read: set[str] = set()

        def once(values: jax.Array, seed: jax.Array) -> PyTree:
            given = Reading(self._named(values))
            key = jax.random.key(seed)
            if not self.continues:
                out = as_metrics(self.train(given, key, *((steps,) if self.takes_steps else ())))
                read.update(given.read)
                return out
            carry = self.train.start(given, key)
            jax.tree.leaves(carry)  # what is carried may be read
            read.update(given.read)
            carry = strong(carry)
            new = strong(self.train.step(carry))
            check_carry("sweep", carry, new)
            return as_metrics(self.train.measure(new))

        metrics = jax.eval_shape(once, values, seed)
        unread = sorted(set(self.names) - read)
        if unread:
            say(HyperparameterError, "sweep", f"the space has {unread[0]!r}, which train does not read",
                f"a space of {', '.join(self.names)}; read were {', '.join(sorted(read)) or 'none'}",
                "Leave it out, or spell it as train does")  # fmt: skip

        def first(values: jax.Array, seed: jax.Array) -> Leaves:
            leaves, self.treedef = jax.tree.flatten(strong(self._start(values, seed)))
            self.keys = [jax.random.key_impl(x) if is_key(x) else None for x in leaves]
            return raw(leaves)

        self.leaves = jax.eval_shape(first, values, seed)
        self.metrics = tuple(metrics)
        return self.metrics

    @property
    def carry_bytes(self) -> int:
        """Of one lane between two calls."""
        return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in self.leaves)

    # ---- many lanes

    def _begin(self, values: jax.Array, seeds: jax.Array) -> tuple[Leaves, jax.Array]:
        """(carry, watched bool[C, L]: was all of the leaf finite at the start?)."""
        carry = raw(jax.tree.leaves(jax.vmap(lambda *given: strong(self._start(*given)))(values, seeds)))
        return carry, jnp.stack([_finite(leaf) for leaf in carry], axis=1)

    def _advance(self, fixed: int, carry: Leaves, watched: jax.Array, steps: jax.Array, last: jax.Array) -> Any:
        wrapped: Any = jax.random.wrap_key_data
        lanes = jax.tree.unflatten(self.treedef, [
            leaf if impl is None else wrapped(leaf, impl=impl)
            for leaf, impl in zip(carry, self.keys, strict=True)
        ])  # fmt: skip
        if not self.continues:
            return carry, jnp.ones(watched.shape[0], bool), jax.vmap(lambda c: self._measure(fixed, c))(lanes)
        step: Any = jax.vmap(lambda lane: strong(self.train.step(lane)))
        lanes = jax.lax.fori_loop(0, steps, lambda _, c: step(c), lanes)
        carry = raw(jax.tree.leaves(lanes))
        fine = jnp.stack([_finite(leaf) for leaf in carry], axis=1) | ~watched
        measure = jax.vmap(lambda lane: self._measure(0, lane))
        nothing = {name: jnp.full(watched.shape[0], jnp.nan, scalar_dtype()) for name in self.metrics}
        metrics = jax.lax.cond(last, measure, lambda _: nothing, lanes)
        return carry, jnp.all(fine, axis=1), metrics

    def _compiled(self, which: str, width: int, fixed: int = 0, alone: bool = False) -> Any:
        """The program for so many lanes: "begin" or "advance"; alone: on one device, to be looked at."""
        found = self.programs.get((which, width, fixed, alone))
        if found is not None:
            return found
        place = SingleDeviceSharding(self.devices[0]) if alone else self.place

        def lanes(shape: tuple[int, ...], dtype: Any) -> Any:
            return Shape((width, *shape), dtype, sharding=place)

        if which == "begin":
            function: Callable[..., Any] = self._begin
            given: tuple[Any, ...] = lanes((len(self.names),), scalar_dtype()), lanes((), np.int32)
            donated: tuple[int, ...] = ()
        else:
            function = functools.partial(self._advance, fixed)
            carry = [lanes(x.shape, x.dtype) for x in self.leaves]
            every = None if len(self.devices) == 1 or alone else NamedSharding(self.mesh, PartitionSpec())
            given = carry, lanes((len(carry),), bool), *(Shape((), d, sharding=every)
                                                         for d in (np.int32, bool))  # fmt: skip
            donated = (0,)
        if len(self.devices) > 1 and not alone:
            cut, whole = PartitionSpec("lanes"), PartitionSpec()
            specs = (cut, cut) if which == "begin" else (cut, cut, whole, whole)
            function = jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=cut, check_vma=False)
        began = time.perf_counter()
        lowered = jax.jit(function, donate_argnums=donated).lower(*given)
        on_cpu = self.devices[0].platform == "cpu"
        quick = ONCE if which == "begin" else LOOKED_AT if alone else None
        program = lowered.compile(quick if on_cpu else None)
        self.compile_seconds = time.perf_counter() - began
        self.programs[which, width, fixed, alone] = program
        return program

    def bytes_of_one(self, steps: int) -> int:
        """What one lane takes while it runs, as the compiler says; 0 if it says nothing."""
        return _bytes(self._compiled("advance", 1, 0 if self.continues else steps, alone=True))

    def begin(self, values: np.ndarray, seeds: np.ndarray) -> tuple[Leaves, Any]:
        """Of C lanes the first carry, and which leaves of it are watched."""
        given = jax.device_put((values, seeds.astype(np.int32)), self.place)
        if not self.continues:
            return list(given), np.zeros((len(seeds), len(given)), bool)
        carry, watched = self._compiled("begin", len(seeds))(*given)
        return carry, watched

    def advance(self, carry: Leaves, watched: Any, steps: int, last: bool) -> Ran:
        """So many steps more of C lanes, and their metrics if these are the last of a rung."""
        program = self._compiled("advance", watched.shape[0], 0 if self.continues else steps)
        carry, watched = jax.device_put((carry, watched), self.place)
        carry, fine, metrics = program(carry, watched, np.int32(steps), np.bool_(last))
        return Ran(carry, np.asarray(fine), {name: np.asarray(value) for name, value in metrics.items()})

    def width(self, lanes: int, memory: float | int, steps: int) -> int:
        """How many of so many lanes to run at a time: as many as fit, alike in all chunks; a multiple of the devices.

        memory: bytes that a device has for them, or which share of what is free there.
        """
        devices = len(self.devices)
        most = min(-(-lanes // devices), WIDEST.get(self.devices[0].platform, lanes))
        if most > 1:
            one = self.bytes_of_one(steps)
            room = memory * free_memory(self.devices) if isinstance(memory, float) else memory
            most = max(1, min(most, int(room // one))) if one else most
        chunks = -(-lanes // (most * devices))
        return -(-lanes // (chunks * devices)) * devices


def takes_steps(train: Callable[..., Any]) -> bool:
    """Is it train(hyperparameters, key, steps)?"""
    try:
        parameters = list(inspect.signature(train).parameters.values())
    except (TypeError, ValueError):
        return False
    placed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(placed) >= 3 and (placed[2].default is inspect.Parameter.empty or placed[2].name == "steps")


def check_train(train: Any) -> None:
    """A trial, or a function."""
    if isinstance(train, Trial):
        for name, part in zip(Trial._fields, train, strict=True):
            if not callable(part):
                say(TransformationError, "sweep", f"{name} of the Trial must be a function", describe(part))
    elif not callable(train):
        say(TransformationError, "sweep", "train must be a function of (hyperparameters, key), or a Trial",
            describe(train), "Give train(hyperparameters, key) -> metrics, or loop.trial(...)")  # fmt: skip


def is_key(x: Any) -> bool:
    """Is it a typed PRNG key, or an array of them?"""
    return hasattr(x, "dtype") and bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))


def raw(leaves: Leaves) -> Leaves:
    """PRNG keys as the numbers in them."""
    return [jax.random.key_data(x) if is_key(x) else x for x in leaves]


def strong(carry: PyTree) -> PyTree:
    """Arrays for numbers, none of a weak type, which a loop would change."""
    return jax.tree.map(lambda x: x if is_key(x) else jax.lax.convert_element_type(x, jnp.asarray(x).dtype), carry)


def _finite(leaf: jax.Array) -> jax.Array:
    """bool[C]."""
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.ones(leaf.shape[0], bool)
    return jnp.all(jnp.isfinite(leaf), axis=tuple(range(1, leaf.ndim)))


def _bytes(program: Any) -> int:
    analysis = program.memory_analysis()
    if analysis is None:
        return 0
    taken = analysis.argument_size_in_bytes + analysis.output_size_in_bytes + analysis.temp_size_in_bytes
    return int(taken - analysis.alias_size_in_bytes)


def free_memory(devices: Sequence[Any]) -> int:
    """Bytes that are free on each of the devices; where they do not say it they are taken to share the host's."""
    stats = [device.memory_stats() or {} for device in devices]
    if all("bytes_limit" in each for each in stats):
        return min(int(each["bytes_limit"] - each.get("bytes_in_use", 0)) for each in stats)
    return _host_memory() // len(devices)


def _host_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 2**32  # nobody says: little enough for any machine that trains
