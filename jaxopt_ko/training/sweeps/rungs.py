"""Successive halving: how many settings go on, and how long the rungs are.

Karnin, Koren & Somekh 2013, "Almost optimal exploration in multi-armed bandits", Algorithm 1; Jamieson & Talwalkar
2016, arXiv:1502.07943, for training runs. Of n settings floor(n / eta**i) begin rung i = 0, 1, ... There rungs grow by
eta, so that each costs the same. Here they grow by the least q for which all rungs together cost a sixth of the grid,
or a quarter where that is not had with q <= eta: first rungs that are longer, and so a better guess at the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SHARE, MOST = 1 / 6, 1 / 4  # of the grid's steps: what a halving should cost, and what it may


class Rung(NamedTuple):
    """A part of a sweep, at whose end settings are measured."""

    end: int  # steps that a run has taken then
    settings: int  # how many take part


def rungs_of(settings: int, budget: int, eta: int, continues: bool) -> list[Rung]:
    """The rungs; the last one ends at the budget.

    continues: do runs go on from where the rung before left them, or begin anew?
    """
    counts = [settings]
    while counts[-1] > 1:
        counts.append(max(1, counts[-1] // eta))
    growths = np.linspace(1.2, eta**1.5, 200)

    def least(counts: list[int]) -> float:
        """The least growth that fits."""
        costs = np.array([_cost(counts, _ends(len(counts), budget, q), continues) for q in growths])
        cheap, may = (growths[costs <= share * settings * budget] for share in (SHARE, MOST))
        if len(cheap) and cheap[0] <= eta:
            return float(cheap[0])
        return float(max(may[0], eta)) if len(may) else float(growths[-1])

    if len(counts) > 2 and least(counts[:-1]) < eta:
        counts = counts[:-1]  # the last few run to the end, and are compared there
    ends = _ends(len(counts), budget, least(counts))
    return [Rung(end, count) for end, count in zip(ends, counts, strict=True)]


def _ends(number: int, budget: int, q: float) -> list[int]:
    return [max(1, min(budget, int(budget / q**back))) for back in range(number - 1, -1, -1)]


def _cost(counts: list[int], ends: list[int], continues: bool) -> int:
    before = [0, *ends[:-1]] if continues else [0] * len(ends)
    return sum(n * (end - start) for n, end, start in zip(counts, ends, before, strict=True))
