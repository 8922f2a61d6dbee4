"""The sweep itself: which lanes run how far, who goes on, and what is kept of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_ko.core.numerics import scalar_dtype
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import (
    HyperparameterError,
    HyperparameterTypeError,
    TransformationError,
    check_choice,
    describe,
    say,
    warn,
)
from jaxopt_ko.training.checks import check_whole
from jaxopt_ko.training.progress import Report, sink_of
from jaxopt_ko.training.sweeps.lanes import Lanes, Leaves, Shape, check_train, free_memory, lanes_of, takes_steps
from jaxopt_ko.training.sweeps.rungs import MOST, Rung, neighbours, rungs_of
from jaxopt_ko.training.sweeps.space import Space, settings
from jaxopt_ko.training.sweeps.store import Books, Kept, SweepStore
from jaxopt_ko.training.sweeps.table import Sweep, ranking
from jaxopt_ko.training.sweeps.trial import Trial

BOOKS = "done", "spent", "running", "diverged", "measured"
BLOCKS = 10  # of a whole run: a lane that diverges is left out at the end of one


@options
def sweep(
    train: Trial | Callable[..., Any],
    space: Mapping[str, Any],
    *,
    seeds: Any,
    budget: int | None = None,
    method: str = "grid",
    eta: int = 3,
    trials: int | None = None,
    metric: str | None = None,
    mode: str = "min",
    devices: Any = None,
    key: Any = 0,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool | str | Report = False,
    chunk: int | None = None,
    memory: float | int = 0.5,
) -> Sweep:
    """Train with every setting of a space and several seeds, many runs at a time in one compiled program.

    A setting's value is the mean of its metric over the seeds; the best is the setting with the best mean.

    train: a `Trial`, as `trial` makes it of an optimizer and a loss: it goes on from rung to rung, and a run that has
        diverged is left out. Or a pure function: (hyperparameters, key) -> metrics, or (hyperparameters, key, steps),
        with the number of steps a Python int; it begins anew at each rung. hyperparameters is a dict name -> float32[]
        (float64 with x64), key is jax.random.key(seed), metrics one real number or a dict of them.
    space: a dict name -> numbers, a list or an array, or an `interval`. What is no number needs a sweep each.
    seeds: how many, which are then 0, 1, ..., or a list of them, integers >= 0. All settings are run with each.
    budget: training steps of a whole run, an integer >= 1. A function without steps needs none.
    method: "grid": all combinations; "random": so many trials, spread evenly over the space by Halton's sequence;
        "halving": of the grid, or of so many trials, the best go on, and in a grid their neighbours are then looked
        at; from eight settings on that takes a quarter of the steps of all settings at most.
    eta: of so many settings one goes on to the next rung of a halving, an integer >= 2; 3 is usual.
    trials: settings of "random", or of "halving" without a grid; None: the grid.
    metric: the name of the metric that counts; None: the only one there is.
    mode: "min" if lower is better, "max" if higher is.
    devices: a list of them; None: all of this process. Each runs an equal part of the lanes.
    key: moves the points of trials, an integer >= 0 or a PRNG key.
    checkpoint: a folder, one for each sweep: every chunk is written there when it is done, a tenth of the budget at
        most, and the same call goes on from there, after kill -9 too. Needs orbax.
    progress: True, a title, or a `ProgressBar` (any `Report`): steps of all lanes.
    chunk: lanes at a time; None: as many as fit into memory by the compiler's account of one, 32 a device on CPUs.
    memory: what the lanes at a time may take of each device: a share of what is free (a float in (0, 1]), or bytes.

    Returns a `Sweep`, which prints as a table. A lane has diverged when what it carries becomes infinite or NaN where
    it was finite at the start, or when a metric is NaN, or in the end the one that counts infinite. It stops then,
    within a tenth of the budget, and its setting stands last. Warns where the best lies at the edge of the space, or if
    all diverged. Raises HyperparameterError, TransformationError or TreeError for what does not fit, before anything is
    compiled; StateError for the folder of another sweep; OSError if it cannot be written. Source of the halving:
    Jamieson & Talwalkar 2016, arXiv:1502.07943. Not for models that fill a device by themselves: their lanes run one by
    one, and gain nothing.

    >>> def train(hyperparameters, key):
    ...     return (hyperparameters["rate"] - 0.3) ** 2 + 0.01 * jax.random.normal(key)
    >>> jo.loop.sweep(train, {"rate": [0.1, 0.2, 0.3, 0.4]}, seeds=3).best["rate"]
    0.3
    """
    began = time.perf_counter()
    seeds = _check(train, seeds, budget, method, eta, trials, mode, chunk, memory)
    found = settings(space, trials if method != "grid" else None, key, scalar_dtype())
    lanes = lanes_of(train, found.names, _devices(devices), scalar_dtype() == np.float64)
    compiled = len(lanes.programs)
    names = lanes.look(budget or 1)
    rungs = [Rung(budget or 1, len(found.values))]
    if method == "halving":
        rungs = rungs_of(len(found.values), budget or 1, int(eta), lanes.continues, trials is None)
    metric = _metric(metric, names)
    report = sink_of("sweep", progress)
    run = _Run(lanes, found, seeds, rungs, metric, mode, report)
    run.climbs = method == "halving" and trials is None
    with contextlib.ExitStack() as stack:
        if checkpoint is not None:
            asked = {"method": method, "budget": budget, "eta": int(eta), "metric": metric, "mode": mode}
            run.store = _store(checkpoint, asked, found, seeds, lanes)
            stack.enter_context(run.store)
            run.restore()
        run.all_rungs(memory, chunk)
    result = Sweep(
        names=found.names, values=found.values, seeds=seeds, axes=found.axes,
        metrics=run.metrics(), metric=metric, mode=mode,
        steps=run.by_setting(run.spent), measured=run.measured, diverged=run.by_setting(run.diverged),
        method=method, budget=budget, chunk=run.width, compilations=len(lanes.programs) - compiled,
        seconds=time.perf_counter() - began,
    )  # fmt: skip
    if result.warning:
        warn(f"sweep: {result.warning}.", UserWarning)
    return result


class Chunk(NamedTuple):
    """Lanes that run at the same time."""

    lanes: np.ndarray  # int[C]  their numbers, setting * seeds + seed; -1 for one that fills up
    done: int  # steps taken
    carry: Leaves  # arrays [C, ...]
    watched: Any  # bool[C, leaves]


class _Run:
    """A sweep under way: N lanes, their books, and the chunks that are being trained."""

    def __init__(
        self, lanes: Lanes, space: Space, seeds: np.ndarray, rungs: list[Rung], metric: str, mode: str,
        report: Report | None,
    ) -> None:  # fmt: skip
        self.lanes, self.rungs, self.metric, self.mode, self.report = lanes, rungs, metric, mode, report
        self.shape = len(space.values), len(seeds)
        self.values, self.seeds = np.repeat(space.values, len(seeds), axis=0), np.tile(seeds, len(space.values))
        number = len(self.values)
        self.done, self.spent = np.zeros(number, int), np.zeros(number, int)  # steps trained, steps paid for
        self.running, self.diverged = np.ones(number, bool), np.zeros(number, bool)
        self.value = {name: np.full(number, np.nan) for name in lanes.metrics}
        self.measured = np.zeros(self.shape[0], int)
        self.decided = 0  # rungs whose best were chosen
        self.width, self.on_host = 0, False  # lanes at a time; where others wait for their turn
        self.climbs, self.space = False, space  # do the neighbours of the best run, too?
        self.chunks: list[Chunk] = []
        self.store: SweepStore | None = None
        self.total = self._planned()
        self.told, self.pace = 0, 0.0  # steps reported; seconds that a step of a whole chunk takes

    def _planned(self) -> int:
        before = [0, *(rung.end for rung in self.rungs[:-1])] if self.lanes.continues else [0] * len(self.rungs)
        return self.shape[1] * sum(r.settings * (r.end - start) for r, start in zip(self.rungs, before, strict=True))

    def by_setting(self, x: np.ndarray) -> np.ndarray:
        """[S, R] of [N]."""
        return x.reshape(self.shape)

    def metrics(self) -> dict[str, np.ndarray]:
        """float[S, R] each."""
        return {name: self.by_setting(value) for name, value in self.value.items()}

    # ---- rung by rung

    def all_rungs(self, memory: float | int, chunk: int | None) -> None:
        """Train all that is to be trained."""
        if self.decided > len(self.rungs):
            return
        devices, number = len(self.lanes.devices), int(self.running.sum())
        self.width = -(-chunk // devices) * devices if chunk else self.lanes.width(number, memory, self.rungs[-1].end)
        room = memory * free_memory(self.lanes.devices) if isinstance(memory, float) else memory
        self.on_host = self.lanes.carry_bytes * number / devices > room
        self.chunks = [part for chunk in self.chunks for part in self._cut(*chunk)]
        start = 0
        for index, rung in enumerate(self.rungs):
            if index >= self.decided:
                self.width = self._narrowed(start) if index else self.width
                for end in self._blocks(start, rung.end):
                    self._pack(end)
                    self.chunks = [self._block(chunk, end, rung) for chunk in self.chunks]
                self._decide(index)
            start = rung.end if self.lanes.continues else 0
        while self.climbs and (self.running.any() or self._neighbour()):
            for end in self._blocks(0, self.rungs[-1].end):
                self._pack(end)
                self.chunks = [self._block(chunk, end, self.rungs[-1]) for chunk in self.chunks]
            self._decide(len(self.rungs) - 1)
        self.decided = len(self.rungs) + 1
        self._keep(None)
        self._tell()

    def _neighbour(self) -> bool:
        """Let a neighbour of the best begin anew, if there is one that is not known and a whole run is left."""
        order, last = self._order(), self.rungs[-1].end
        cost = self.shape[1] * last
        lost = self.diverged.sum() * last - self.spent[self.diverged].sum()  # which a grid would not spend either
        gone = np.any(self.by_setting(self.diverged), axis=1)
        if gone[order[0]] or self.spent.sum() + cost > MOST * (self.shape[0] * cost - lost):
            return False
        places = np.stack([np.searchsorted(axis, self.space.values[:, i])
                           for i, axis in enumerate(self.space.axes.values())], axis=1)  # fmt: skip
        near = neighbours(places, int(order[0]), (self.measured == last) | gone)
        if not near:
            return False
        first = next(setting for setting in order if setting in near)  # which did best so far
        self.chunks = []
        mine = np.repeat(np.arange(self.shape[0]) == first, self.shape[1])
        self.running, self.done = mine, np.where(mine, 0, self.done)
        return True

    def _order(self) -> np.ndarray:
        mean = self.by_setting(np.where(self.diverged, np.nan, self.value[self.metric])).mean(axis=1)
        return ranking(mean, self.measured, self.by_setting(self.diverged), self.mode)

    def _blocks(self, start: int, end: int) -> Iterator[int]:
        """Where the blocks of a rung end, none longer than a tenth of a whole run."""
        if not self.lanes.continues:
            yield end
            return
        number = -(-(end - start) * BLOCKS // self.rungs[-1].end)
        for i in range(1, number + 1):
            yield start + (end - start) * i // number

    def _narrowed(self, start: int) -> int:
        """The width of the next rungs: no more than its lanes need, where that saves more than compiling takes."""
        devices, lanes = len(self.lanes.devices), int(self.running.sum())
        narrow = -(-max(lanes, 1) // devices) * devices
        if narrow >= self.width:
            return self.width
        if not self.lanes.continues:
            return narrow  # another length is another program anyway
        saved = self.pace * (self.rungs[-1].end - start) * (1 - narrow / self.width)
        return narrow if saved > self.lanes.compile_seconds else self.width

    def _pack(self, end: int) -> None:
        """Chunks of those that are running, as few as hold them; lanes that are to begin do so."""
        held = [chunk.lanes[(chunk.lanes >= 0) & self.running[chunk.lanes]] for chunk in self.chunks]
        old = np.concatenate([*held, np.zeros(0, int)])
        kept = [chunk for chunk, lanes in zip(self.chunks, held, strict=True) if len(lanes)]
        few = -(-len(old) // self.width) < len(kept) or any(len(chunk.lanes) != self.width for chunk in kept)
        if few and len({chunk.done for chunk in kept}) == 1:
            kept = self._repacked(kept, old)
        fresh = np.setdiff1d(np.flatnonzero(self.running & (self.done < end)), old)
        self.chunks = kept + [self._begun(fresh[i : i + self.width]) for i in range(0, len(fresh), self.width)]

    def _begun(self, lanes: np.ndarray) -> Chunk:
        full = np.resize(lanes, self.width)  # what fills up is one of them
        carry, watched = self.lanes.begin(self.values[full], self.seeds[full])
        return self._waiting(Chunk(np.where(np.arange(self.width) < len(lanes), full, -1), 0, carry, watched))

    def _repacked(self, chunks: list[Chunk], lanes: np.ndarray) -> list[Chunk]:
        """These lanes in as few chunks as hold them."""
        place = {lane: i for i, lane in enumerate(np.concatenate([chunk.lanes for chunk in chunks])) if lane >= 0}
        rows = np.array([place[lane] for lane in lanes])

        def gathered(parts: Iterable[Any]) -> np.ndarray:
            return np.asarray(np.concatenate([np.asarray(part) for part in parts])[rows])

        leaves = [gathered(parts) for parts in zip(*(chunk.carry for chunk in chunks), strict=True)]
        return self._cut(lanes, chunks[0].done, leaves, gathered(chunk.watched for chunk in chunks))

    def _cut(self, lanes: np.ndarray, done: int, leaves: Leaves, watched: np.ndarray) -> list[Chunk]:
        """Any number of lanes in chunks of the one width; what fills up the last one is one of them."""
        number = -(-len(lanes) // self.width) * self.width
        rows = np.resize(np.arange(len(lanes)), number).reshape(-1, self.width)
        names = np.where(np.arange(number) < len(lanes), np.resize(lanes, number), -1).reshape(-1, self.width)
        return [
            self._waiting(Chunk(name, done, [leaf[row] for leaf in leaves], watched[row]))
            for name, row in zip(names, rows, strict=True)
        ]

    def _waiting(self, chunk: Chunk) -> Chunk:
        """Where it waits for its turn: on the devices if all have room there, else in the host's memory."""
        carry = chunk.carry
        carry = [np.array(leaf) for leaf in carry] if self.on_host else jax.device_put(carry, self.lanes.place)
        return chunk._replace(carry=carry)

    def _block(self, chunk: Chunk, end: int, rung: Rung) -> Chunk:
        """Train the lanes of a chunk up to `end`, and write down what became of them."""
        if chunk.done >= end:
            return chunk
        last = end == rung.end
        began, known = time.perf_counter(), len(self.lanes.programs)
        ran = self.lanes.advance(chunk.carry, chunk.watched, end - chunk.done, last)
        if len(self.lanes.programs) == known:
            self.pace = (time.perf_counter() - began) / (end - chunk.done)
        mine = (chunk.lanes >= 0) & self.running[chunk.lanes]
        lanes, fine = chunk.lanes[mine], ran.fine[mine]
        if last:
            for name, value in ran.metrics.items():
                self.value[name][lanes] = value[mine]
                fine = fine & ~np.isnan(value[mine])
            if rung == self.rungs[-1]:
                fine = fine & np.isfinite(ran.metrics[self.metric][mine])
        self.spent[lanes] += end - chunk.done
        self.done[lanes] = end
        self.diverged[lanes] = ~fine
        self.running[lanes] = fine
        chunk = self._waiting(chunk._replace(done=end, carry=ran.carry))
        self._keep(chunk if self.lanes.continues else None)
        self._tell()
        return chunk

    def _decide(self, index: int) -> None:
        """After a rung: what the settings measured, and which of them go on."""
        running = self.by_setting(self.running)
        part = running.any(axis=1) | (self.by_setting(self.done) == self.rungs[index].end).any(axis=1)
        self.measured[part] = self.by_setting(self.done).max(axis=1)[part]
        if index + 1 < len(self.rungs):
            going = np.zeros(self.shape[0], bool)
            going[self._order()[: self.rungs[index + 1].settings]] = True
            self.running &= np.repeat(going, self.shape[1])
        if not self.lanes.continues:
            self.chunks, self.done = [], np.where(self.running, 0, self.done)
        self.decided = index + 1
        if self.decided == len(self.rungs):
            self.running[:] = False
        self._tell()

    # ---- what is kept

    def _books(self) -> Books:
        books = {name: getattr(self, name) for name in BOOKS}
        value = {f"metric {i}": value for i, value in enumerate(self.value.values())}
        return {**books, **value, "numbers": np.array([self.decided, self.width])}

    def _keep(self, chunk: Chunk | None) -> None:
        if self.store is None:
            return
        kept = None
        if chunk is not None:
            rows = np.flatnonzero((chunk.lanes >= 0) & self.running[chunk.lanes])
            kept = Kept(chunk.lanes[rows], [np.asarray(leaf)[rows] for leaf in [*chunk.carry, chunk.watched]])
        self.store.keep(self._books(), kept)

    def restore(self) -> None:
        """Go on from what is in the folder."""
        books, parts = self.store.found() if self.store is not None else (None, [])
        if books is None:
            return
        for name in BOOKS:
            setattr(self, name, np.array(books[name]))
        self.value = {name: np.array(books[f"metric {i}"]) for i, name in enumerate(self.value)}
        self.decided, self.width = map(int, books["numbers"])
        for part in parts:
            done = self.done[part.lanes]
            for steps in np.unique(done):
                rows = done == steps
                leaves = [leaf[rows] for leaf in part.leaves]
                self.chunks.append(Chunk(part.lanes[rows], int(steps), leaves[:-1], leaves[-1]))
        if self.lanes.continues:  # what cannot be read any more begins anew
            self.done[np.setdiff1d(np.flatnonzero(self.running), [lane for part in parts for lane in part.lanes])] = 0

    def _tell(self) -> None:
        """The bar: steps that are done, or that will not be needed any more."""
        if self.report is None:
            return
        left = 0
        for index in range(self.decided, len(self.rungs)):
            rung, start = self.rungs[index], self.rungs[index - 1].end if index and self.lanes.continues else 0
            taking = int(self.running.sum()) if index == self.decided else rung.settings * self.shape[1]
            behind = (rung.end - np.clip(self.done, start, rung.end))[self.running].sum()
            most = min(taking, int(self.running.sum())) * (rung.end - start)
            left += int(behind) if index == self.decided else most
        if self.climbs:  # how long it goes on is not known: at most to here
            self.total = max(self.total, int(self.spent.sum()) + left)
        at = self.total - left
        if at > self.told:
            value = self.value[self.metric][~np.isnan(self.value[self.metric])]
            best = float("nan") if not len(value) else float(value.min() if self.mode == "min" else value.max())
            self.report(at - self.told, self.total, best, int(self.running.sum()))
            self.told = at


def _store(where: Any, asked: dict[str, Any], space: Space, seeds: np.ndarray, lanes: Lanes) -> SweepStore:
    """The folder, and what a sweep in it must have been asked for."""
    values = {name: [float(x) for x in space.values[:, i]] for i, name in enumerate(space.names)}
    shapes = [(str(x.dtype), *x.shape) for x in lanes.leaves] if lanes.continues else []
    run = {"space": values, "seeds": seeds.tolist(), **asked, "metrics": list(lanes.metrics),
           "the carry": [list(shape) for shape in shapes]}  # fmt: skip
    return SweepStore(where, run, [*lanes.leaves, Shape((len(lanes.leaves),), np.dtype(bool))])


# ---- what is refused ------------------------------------------------------------------------------------


def _check(
    train: Any, seeds: Any, budget: Any, method: Any, eta: Any, trials: Any, mode: Any, chunk: Any, memory: Any
) -> np.ndarray:
    """Refuse what a sweep cannot be made of; the seeds."""
    check_train(train)
    check_choice("sweep", "method", method, ("grid", "random", "halving"))
    check_choice("sweep", "mode", mode, ("min", "max"))
    for name, value, least in (("budget", budget, 1), ("trials", trials, 1), ("chunk", chunk, 1), ("eta", eta, 2)):
        if value is not None or name == "eta":
            check_whole("sweep", name, value, least)
    steps = isinstance(train, Trial) or takes_steps(train)
    if method == "halving" and not steps:
        say(TransformationError, "sweep", "halving needs runs of several lengths, and train takes no number of steps",
            describe(train), "Give train(hyperparameters, key, steps), or a Trial, which goes on and is cheaper",
        )  # fmt: skip
    if steps and budget is None:
        say(HyperparameterError, "sweep", "budget must be given: the training steps of a whole run", "budget=None",
            "Give budget=1000, say")  # fmt: skip
    if method == "random" and trials is None:
        say(HyperparameterError, "sweep", 'method="random" needs the number of settings', "trials=None",
            "Give trials=30, say")  # fmt: skip
    if method == "grid" and trials is not None:
        say(HyperparameterError, "sweep", "trials is of no use in a grid, which has all settings", f"trials={trials}",
            'Give method="random" or "halving", or leave it out')  # fmt: skip
    share = isinstance(memory, float) and 0 < memory <= 1
    if not share and (isinstance(memory, bool) or not isinstance(memory, int) or memory < 1):
        say(HyperparameterError, "sweep", "memory must be a share in (0, 1] or a number of bytes", describe(memory),
            "Give memory=0.5, or memory=8 * 2**30")  # fmt: skip
    return _seeds(seeds)


def _seeds(seeds: Any) -> np.ndarray:
    alone = isinstance(seeds, int | np.integer) and not isinstance(seeds, bool)
    try:
        made = np.arange(seeds) if alone else np.asarray(seeds)
    except (TypeError, ValueError):
        made = np.asarray(None)
    if made.dtype.kind not in "iu" or made.ndim != 1 or not made.size or (made < 0).any() or (made >= 2**31).any():
        say(HyperparameterTypeError, "sweep", "seeds must be an integer >= 1, or a list of integers in [0, 2**31)",
            describe(seeds), "Give seeds=4, or seeds=[10, 11, 12]")  # fmt: skip
    if len(np.unique(made)) < len(made):
        say(HyperparameterError, "sweep", "seeds must differ", describe(seeds), "Give each once")
    return made.astype(int)


def _metric(metric: Any, names: tuple[str, ...]) -> str:
    known = ", ".join(names)
    if metric is None and len(names) > 1:
        say(HyperparameterError, "sweep", "metric must name one of the metrics", f"metric=None, of {known}",
            f'Give metric="{names[0]}", say')  # fmt: skip
    if metric is not None and metric not in names:
        say(HyperparameterError, "sweep", "metric must be one of those that train measures",
            f"metric={metric!r}, of {known}", "Name one of them")  # fmt: skip
    return names[0] if metric is None else str(metric)


def _devices(devices: Any) -> tuple[Any, ...]:
    if devices is None:
        return tuple(jax.local_devices())
    found = tuple(devices) if isinstance(devices, list | tuple | np.ndarray) else ()
    if not found or not all(isinstance(device, jax.Device) for device in found):
        say(HyperparameterTypeError, "sweep", "devices must be a list of devices", describe(devices),
            "Give jax.devices()[:1], or leave it out for all")  # fmt: skip
    return found
