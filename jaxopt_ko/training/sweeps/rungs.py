"""Successive halving: how many settings go on, and how long the rungs are.

Karnin, Koren & Somekh 2013, "Almost optimal exploration in multi-armed bandits", Algorithm 1; Jamieson & Talwalkar
2016, arXiv:1502.07943, for training runs. Of n settings floor(n / eta**i) begin rung i = 0, 1, ... There rungs grow by
eta, so that each costs the same. Here they grow by the least q for which they cost what they may: first rungs that are
longer, and so a better guess at the end.

What is best early is not what is best late: a rate that is good for 300 steps of noisy gradients is too high for 1000.
In a grid, four whole runs are therefore left over, and more where a quarter of the grid's steps allows. They go to the
neighbours of the best, one after the other, as long as that finds a better one: a search at full length along each
hyperparameter, by steps that double while they help, and then halve.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MOST = 0.24  # of the steps of all settings: what a halving may cost
LEFT = 4  # whole runs of a setting that are left over for the neighbours of the best


class Rung(NamedTuple):
    """A part of a sweep, at whose end settings are measured."""

    end: int  # steps that a run has taken then
    settings: int  # how many take part


def rungs_of(settings: int, budget: int, eta: int, continues: bool, neighbours: bool) -> list[Rung]:
    """The rungs; the last one ends at the budget.

    continues: do runs go on from where the rung before left them, or begin anew?
    neighbours: is something left over for the neighbours of the best?
    """
    counts = [settings]
    while counts[-1] > 1:
        counts.append(max(1, counts[-1] // eta))
    growths = np.linspace(1.2, eta**1.5, 200)

    def least(counts: list[int]) -> float:
        """The least growth that fits."""
        costs = np.array([_cost(counts, _ends(len(counts), budget, q), continues) for q in growths])
        few = max(0.1, MOST - LEFT / settings) if neighbours else MOST
        fits = [growths[costs <= share * settings * budget] for share in (few, MOST)]
        return float(next((part[0] for part in fits if len(part)), growths[-1]))

    if not neighbours and len(counts) > 2 and least(counts[:-1]) < eta:
        counts = counts[:-1]  # the last few run to the end, and are compared there
    ends = _ends(len(counts), budget, least(counts))
    return [Rung(end, count) for end, count in zip(ends, counts, strict=True)]


def _ends(number: int, budget: int, q: float) -> list[int]:
    return [max(1, min(budget, int(budget / q**back))) for back in range(number - 1, -1, -1)]


def _cost(counts: list[int], ends: list[int], continues: bool) -> int:
    before = [0, *ends[:-1]] if continues else [0] * len(ends)
    return sum(n * (end - start) for n, end, start in zip(counts, ends, before, strict=True))


def neighbours(places: np.ndarray, best: int, known: np.ndarray) -> set[int]:
    """The settings that are to be looked at next, along each hyperparameter, around the best of those known.

    places: int[S, H], where each setting stands in its axes. known: bool[S], those that ran to the end or diverged.
    """
    near = set()
    for axis in range(places.shape[1]):
        others = np.delete(places, axis, axis=1)
        line = np.flatnonzero((others == others[best]).all(axis=1))
        at = {int(places[i, axis]): int(i) for i in line}
        here = int(places[best, axis])
        gaps = [min((s * (x - here) for x, i in at.items() if known[i] and s * (x - here) > 0), default=0)
                for s in (-1, 1)]  # fmt: skip
        for side, gap, other in ((-1, *gaps), (1, *gaps[::-1])):  # how far the nearest ones are that are known
            onward, halfway = 2 * other or 1, gap // 2 if other else 0  # twice the way from the worse one behind
            reach = halfway if gap else onward
            steps = [x for x in at if 0 < side * (x - here) <= reach]
            if steps:
                near.add(at[max(steps) if side > 0 else min(steps)])
    return near
