"""What came out of a sweep: numbers for each setting and seed, the best, a table, a dict, JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 12  # of a table that is printed without being asked for more


@dataclasses.dataclass(frozen=True, repr=False)
class Sweep:
    """What `sweep` returns: S settings of H hyperparameters, each with R seeds; a lane is one setting with one seed.

    It prints as a table, best first. A setting of which a lane diverged has no mean and stands behind all others; so
    does, in a sweep by halving, one that was left out before another.
    """

    names: tuple[str, ...]  # H
    values: np.ndarray  # float[S, H]  the settings
    seeds: np.ndarray  # int[R]
    metrics: dict[str, np.ndarray]  # float[S, R] each, as measured last; NaN: diverged, or not measured
    metric: str  # the one that counts
    mode: str  # "min" or "max"
    steps: np.ndarray  # int[S, R]  steps spent on each lane; of a function without steps how often it ran
    measured: np.ndarray  # int[S]  after how many steps of training the metrics were measured
    diverged: np.ndarray  # bool[S, R]
    method: str  # "grid", "random" or "halving"
    budget: int | None  # steps of a whole run
    axes: dict[str, np.ndarray]  # the different values of each hyperparameter, from the lowest
    chunk: int  # lanes that ran at a time
    compilations: int  # programs that this call compiled
    seconds: float  # that it took

    @property
    def value(self) -> np.ndarray:
        """float[S, R]: the metric that counts."""
        return self.metrics[self.metric]

    @property
    def mean(self) -> np.ndarray:
        """float64[S]: over the seeds; NaN where one diverged."""
        value = np.where(self.diverged, np.nan, self.value.astype(np.float64))
        return np.asarray(value.mean(axis=1))

    @property
    def standard_error(self) -> np.ndarray:
        """float64[S]: of the mean, standard deviation (n - 1) over sqrt(n); NaN for one seed."""
        value = np.where(self.diverged, np.nan, self.value.astype(np.float64))
        seeds = value.shape[1]
        if seeds < 2:
            return np.full(len(value), np.nan)
        with np.errstate(invalid="ignore", over="ignore"):  # infinite in mid-run
            return np.asarray(value.std(axis=1, ddof=1) / np.sqrt(seeds))

    @property
    def order(self) -> np.ndarray:
        """int[S]: the settings, best first."""
        return ranking(self.mean, self.measured, self.diverged, self.mode)

    @property
    def best_index(self) -> int | None:
        """Which setting is the best; None if all diverged."""
        first = int(self.order[0])
        return None if np.isnan(self.mean[first]) else first

    @property
    def best(self) -> dict[str, float] | None:
        """The hyperparameters of the best setting; None if all diverged."""
        return None if self.best_index is None else self.setting(self.best_index)

    @property
    def best_value(self) -> float:
        """Its mean; NaN if all diverged."""
        return float("nan") if self.best_index is None else float(self.mean[self.best_index])

    @property
    def edges(self) -> dict[str, str]:
        """The hyperparameters whose best value is the "lowest" or "highest" of those tried, of three at least."""
        if self.best_index is None:
            return {}
        found = {}
        for i, name in enumerate(self.names):
            axis, value = self.axes[name], self.values[self.best_index, i]
            if len(axis) >= 3 and value in (axis[0], axis[-1]):
                found[name] = "lowest" if value == axis[0] else "highest"
        return found

    @property
    def warning(self) -> str:
        """What is to be said of where the best lies; empty if nothing."""
        if self.best_index is None:
            return "All settings diverged: lower the rates, or look at the loss of one run"
        ends = [
            f"{name} = {self.setting(self.best_index)[name]:.4g} is the {end} of the values tried"
            for name, end in self.edges.items()
        ]
        return f"The best setting lies at the edge of the space: {'; '.join(ends)}. Widen the space" if ends else ""

    def setting(self, index: int) -> dict[str, float]:
        """The hyperparameters of a setting, as the shortest numbers that round to them."""
        return {name: float(str(value)) for name, value in zip(self.names, self.values[index], strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """All of it in lists, strings and numbers, with None for NaN and infinity: what JSON can hold."""
        mean, error = self.mean, self.standard_error
        rows = [
            {
                **{"hyperparameters": self.setting(i), "mean": _plain(mean[i]), "standard_error": _plain(error[i])},
                **{"measured_after": int(self.measured[i]), "steps": int(self.steps[i].sum())},
                "diverged_seeds": [int(seed) for seed in self.seeds[self.diverged[i]]],
                "metrics": {name: [_plain(x) for x in value[i]] for name, value in self.metrics.items()},
            }
            for i in range(len(self.values))
        ]
        best = self.best_index
        return {
            **{"method": self.method, "metric": self.metric, "mode": self.mode, "budget": self.budget},
            **{"seeds": self.seeds.tolist(), "steps": int(self.steps.sum()), "diverged": int(self.diverged.sum())},
            "best": None if best is None else rows[best],
            **{"edges": self.edges, "warning": self.warning or None},
            **{"chunk": self.chunk, "compilations": self.compilations, "seconds": round(self.seconds, 3)},
            "settings": rows,
        }

    def to_json(self, path: Any = None) -> str:
        """The same as JSON, written to a file too if a path is given."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def table(self, rows: int | None = None) -> str:
        """The settings, best first: so many rows, or all."""
        mean, error, order = self.mean, self.standard_error, self.order
        shown = order if rows is None else order[:rows]
        seeds, budget = len(self.seeds), "" if self.budget is None else f", {self.budget} steps"
        better = "lower" if self.mode == "min" else "higher"
        title = f"{self.method} sweep: {_many(len(mean), 'setting')} x {_many(seeds, 'seed')}{budget}"
        head = [*self.names, f"{self.metric}, mean", "standard error", "after", "steps", "diverged"]
        body = []
        for i in shown:
            gone = self.seeds[self.diverged[i]]
            said = f"{len(gone)} of {seeds} (seed {', '.join(map(str, gone))})" if len(gone) else ""
            body.append([
                *(f"{x:.4g}" for x in self.values[i]), _number(mean[i]), _number(error[i]), str(self.measured[i]),
                str(self.steps[i].sum()), said,
            ])  # fmt: skip
        kept = [j for j in range(len(head)) if head[j] != "diverged" or self.diverged.any()]
        widths = [max(len(row[j]) for row in [head, *body]) for j in range(len(head))]
        lines = ["  ".join(row[j].rjust(widths[j]) for j in kept) for row in [head, *body]]
        if len(shown) < len(order):
            lines.append(f"... and {_many(len(order) - len(shown), 'setting')} more: table() shows all")
        end = [f"{title}; {self.metric}, {better} is better", *lines, self._summary()]
        return "\n".join([*end, f"Warning: {self.warning}."] if self.warning else end)

    def _summary(self) -> str:
        lanes = self.diverged.size
        what = "steps" if self.budget is not None else "runs"
        spent = f"{int(self.steps.sum())} {what} in {self.seconds:.1f} s"
        gone = int(self.diverged.sum())
        lost = f"; {gone} of {_many(lanes, 'lane')} diverged" if gone else ""
        if self.best_index is None:
            return f"{spent}{lost}."
        setting = ", ".join(f"{name} = {value:.4g}" for name, value in (self.best or {}).items())
        error = self.standard_error[self.best_index]
        interval = "" if np.isnan(error) else f" +- {error:.2g}"
        return f"Best: {setting}, with {self.metric} {self.best_value:.4g}{interval}. {spent}{lost}."

    def __repr__(self) -> str:
        return self.table(ROWS)


def ranking(mean: np.ndarray, measured: np.ndarray, diverged: np.ndarray, mode: str) -> np.ndarray:
    """int[S]: the settings, best first: those that trained longest, by their means; those that diverged are last."""
    signed = np.where(np.isnan(mean), np.inf, mean if mode == "min" else -mean)
    return np.lexsort((signed, -measured, diverged.any(axis=1) | np.isnan(mean)))


def _plain(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None


def _number(x: float) -> str:
    return f"{x:.4g}" if np.isfinite(x) else "-"


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
