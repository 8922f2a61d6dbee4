"""A cell is a task and a method: tuned, and run with other seeds. Finished cells are files; what is killed loses one.

tuned-TASK-METHOD.json    every trial on the tuning seeds; for each level the best of them, on the held-out seeds;
                          of the reference method the ends of as many runs more, which set the target
one-TASK-METHOD.json      the one setting that is best over all tasks, on the held-out seeds
"""

import functools
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from suite import scores
from suite.lanes import Runs, state_bytes
from suite.methods import DEFAULT, METHODS, REFERENCE, trials
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
    methods: tuple[str, ...] = DEFAULT

    def tuning(self) -> np.ndarray:
        return self.first_seed + np.arange(self.tuning_seeds)

    def held_out(self) -> np.ndarray:
        return self.first_seed + 500_000 + np.arange(self.seeds)

    def aiming(self) -> np.ndarray:
        """Of the reference alone, for the target: its score is of other seeds, as that of all methods."""
        return self.first_seed + 900_000 + np.arange(self.seeds)


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


def runs(settings: Settings, name: str, method: str) -> Runs:
    scale = SCALES[settings.scale]
    return Runs(task(name, scale), method, scale, settings.lanes, trials(METHODS[method], settings.trials))


def tuned(settings: Settings, name: str, method: str, made: Runs) -> dict[str, Any]:
    t, tried = task(name, SCALES[settings.scale]), trials(METHODS[method], settings.trials)
    found = made(made.cases, settings.tuning())
    found = found.reshape(len(tried), made.levels, *found.shape[1:])
    best = [scores.chosen(found[:, level, :, -1]) for level in range(made.levels)]
    mine = made.levels * np.array(best) + np.arange(made.levels)
    held = made(mine, settings.held_out())
    aim = made(mine, settings.aiming())[..., -1] if method == REFERENCE else []
    size, parameters = state_bytes(t, method)
    return {
        "trials": digits(tried), "tuning": digits(found), "best": best, "held": digits(held), "aim": digits(aim),
        "state_bytes": size, "parameters": parameters, "lane_step_seconds": digits(np.array(made.lane_step()), 4),
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
    made = functools.cache(lambda name: runs(settings, name, method))
    before = 0.0

    def put(kind: str, name: str, content: dict[str, Any]) -> None:
        nonlocal before
        used = sum(os.times()[:2])
        write(folder / f"{kind}-{name}-{method}.json", content | {"cpu_seconds": round(used - before, 2)})
        before = used

    for name in settings.tasks:
        if read(folder, "tuned", name, method) is None:
            put("tuned", name, tuned(settings, name, method, made(name)))
        print(f"tuned {name} {method}", flush=True)
    trial = best_of_all(folder, settings, method)
    for name in settings.tasks:
        if read(folder, "one", name, method) is None:
            mine = made(name)
            held = mine(trial * mine.levels + np.arange(mine.levels), settings.held_out())
            put("one", name, {"trial": trial, "held": digits(held)})
        print(f"one {name} {method}", flush=True)
    device = jax.devices()[0]
    kind = processor() if device.platform == "cpu" else device.device_kind
    put("about", "run", {"device": kind, "platform": device.platform, "devices": jax.device_count()})


def processor() -> str:
    """Which CPU this is, and how many cores: JAX says only that it is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def worker(words: list[str]) -> int:
    """In a process of its own: FOLDER METHOD, settings in FOLDER/settings.json."""
    folder, method = Path(words[0]), words[1]
    kept = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    settings = Settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in kept["settings"].items()})
    jax.config.update(
        "jax_compilation_cache_dir", str(folder / "programs")
    )  # the second half of the cells has the same
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    work(folder, settings, method)
    return 0


if __name__ == "__main__":
    sys.exit(worker(sys.argv[1:]))
