"""A cell is a task and a method: tuned, and run with other seeds. Finished cells are files; what is killed loses one.

tuned-TASK-METHOD.json    every trial on the tuning seeds; for each level the best of them, on the held-out seeds
one-TASK-METHOD.json      the one setting that is best over all tasks, on the held-out seeds
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from suite import scores
from suite.lanes import Program, state_bytes
from suite.methods import METHODS, trials
from suite.task import SCALES
from suite.tasks import NAMES, task


class Settings(NamedTuple):
    """What all cells of a run share."""

    scale: str = "small"
    trials: int = 10
    tuning_seeds: int = 2
    seeds: int = 5
    first_seed: int = 0
    lanes: int = 15
    tasks: tuple[str, ...] = NAMES
    methods: tuple[str, ...] = tuple(METHODS)

    def tuning(self) -> np.ndarray:
        return self.first_seed + np.arange(self.tuning_seeds)

    def held_out(self) -> np.ndarray:
        return self.first_seed + 500_000 + np.arange(self.seeds)


def write(path: Path, content: Any) -> None:
    """Whole or not at all, whatever dies meanwhile."""
    draft = path.with_suffix(f".{os.getpid()}.draft")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(content, file, separators=(",", ":"))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def digits(values: np.ndarray, count: int = 6) -> Any:
    """Lists of numbers of so many digits; null for what is not finite."""
    values = np.asarray(values, np.float64)
    if values.ndim:
        return [digits(each, count) for each in values]
    return float(f"{values:.{count}g}") if np.isfinite(values) else None


def grid(numbers: np.ndarray, levels: tuple[float, ...], seeds: np.ndarray) -> tuple[np.ndarray, ...]:
    """Runs of numbers float[n,levels,2] with all seeds: (numbers, levels, seeds) of n * levels * seeds runs."""
    n, k, s = len(numbers), len(levels), len(seeds)
    return (
        np.repeat(numbers.reshape(n * k, 2), s, 0),
        np.tile(np.repeat(np.asarray(levels, np.float32), s), n),
        np.tile(seeds, n * k),
    )


def curves(program: Program, numbers: np.ndarray, levels: tuple[float, ...], seeds: np.ndarray) -> np.ndarray:
    """float[n,levels,seeds,points+1]."""
    found = program(*grid(numbers, levels, seeds))
    return found.reshape(len(numbers), len(levels), len(seeds), -1)


def tuned(settings: Settings, name: str, method: str, program: Program) -> dict[str, Any]:
    t, tried = task(name, SCALES[settings.scale]), trials(METHODS[method], settings.trials)
    every = np.repeat(tried[:, None], len(t.levels), 1)
    found = curves(program, every, t.levels, settings.tuning())
    best = [scores.chosen(found[:, level, :, -1]) for level in range(len(t.levels))]
    held = curves(program, tried[best][None], t.levels, settings.held_out())[0]
    size, parameters = state_bytes(t, method)
    return {
        "trials": digits(tried), "tuning": digits(found), "best": best, "held": digits(held),
        "state_bytes": size, "parameters": parameters, "compile_seconds": round(program.compiling, 3),
        "lane_step_seconds": program.seconds / (program.made * program.lanes * program.steps),
    }  # fmt: skip


def read(folder: Path, kind: str, name: str, method: str) -> dict[str, Any] | None:
    path = folder / f"{kind}-{name}-{method}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def array(values: Any) -> np.ndarray:
    """Back from lists, NaN for null."""
    return np.array(values, np.float64)


def best_of_all(folder: Path, settings: Settings, method: str) -> int:
    """The trial that is taken for all tasks, by the tuning seeds."""
    found = [array(read(folder, "tuned", name, method)["tuning"]) for name in settings.tasks]
    ends = np.concatenate([scores.finite(f[..., -1]).mean(-1).T for f in found])
    starts = np.concatenate([np.nanmean(f[..., 0], (0, 2)) for f in found])
    return scores.one_setting(ends, starts)


def work(folder: Path, settings: Settings, method: str) -> None:
    """All cells of a method that are not there; a line on standard output for each when it is."""
    programs = {}

    def program(name: str) -> Program:
        if name not in programs:
            programs[name] = Program(task(name, SCALES[settings.scale]), method, SCALES[settings.scale], settings.lanes)
        return programs[name]

    for name in settings.tasks:
        if read(folder, "tuned", name, method) is None:
            write(folder / f"tuned-{name}-{method}.json", tuned(settings, name, method, program(name)))
        print(f"tuned {name} {method}", flush=True)
    trial = best_of_all(folder, settings, method)
    numbers = trials(METHODS[method], settings.trials)[trial]
    for name in settings.tasks:
        if read(folder, "one", name, method) is None:
            levels = task(name, SCALES[settings.scale]).levels
            held = curves(program(name), np.tile(numbers, (1, len(levels), 1)), levels, settings.held_out())[0]
            write(folder / f"one-{name}-{method}.json", {"trial": trial, "held": digits(held)})
        print(f"one {name} {method}", flush=True)
    device = jax.devices()[0]
    used = os.times()
    about = {"device": device.device_kind, "platform": device.platform, "devices": jax.device_count(),
             "cpu_seconds": round(used.user + used.system, 1), "compilations": len(programs)}  # fmt: skip
    before = read(folder, "about", "run", method)
    if before:
        about["cpu_seconds"] = round(about["cpu_seconds"] + before["cpu_seconds"], 1)
        about["compilations"] += before["compilations"]
    write(folder / f"about-run-{method}.json", about)


def worker(words: list[str]) -> int:
    """In a process of its own: FOLDER METHOD, settings in FOLDER/settings.json."""
    folder, method = Path(words[0]), words[1]
    kept = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    settings = Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in kept["settings"].items()})
    began = time.perf_counter()
    work(folder, settings, method)
    print(f"done {method} {time.perf_counter() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(worker(sys.argv[1:]))
