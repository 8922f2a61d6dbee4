"""From curves to what can be said: targets, steps to them, standard errors, profiles, claims.

A run has a budget of N steps and is validated at 30 points of it. Its time is the first such point at which its metric
is at the target or below; a run that never comes there is censored: all that is known is that its time is more than N.

    target        what four of five runs of tuned NadamW reach at the end of their budget, with seeds of their own:
                  neither those of the tuning nor those that NadamW itself is scored on
    score         the mean over the seeds of min(time, N) / N, the restricted mean time of survival analysis: a censored
                  run counts as the whole budget, for every method alike, and how many there are is said beside it
    median        of the times, infinite if half of the runs are censored; it needs no value for them
    profile       the share of problems on which a method's median is at most r times the least median of all methods,
                  as a function of r (Dolan & More 2002, arXiv:cs/0102001, equation 2.1)
    area          under the profile from r = 1 to 4, over 3, by which methods are ranked, as AlgoPerf does
    z             of a difference d with standard error s and f degrees of freedom: the normal quantile of the chance
                  that Student's t_f gives to d / s. Five seeds make tails heavy: t = 3 with f = 8 is z = 2.4
    claim         "A beats B" where z >= 3, on one problem (over its seeds, Welch's test) or on the suite (over tasks,
                  each the mean of its levels, paired). Nothing is said of other differences.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

Z = 3.0  # from which a difference is claimed
GREATEST = 4.0  # ratio of a profile that its area ends at
REACH = 0.8  # share of the reference's runs that reach the target


def finite(values: np.ndarray) -> np.ndarray:
    """What is NaN is as bad as can be."""
    values = np.asarray(values, np.float64)
    return np.where(np.isnan(values), np.inf, values)


def chosen(ends: np.ndarray) -> int:
    """Which trial to take: ends float[trials,seeds], of which the mean counts; the first of equals."""
    return int(np.argmin(finite(ends).mean(-1)))


def target(ends: np.ndarray) -> float:
    """What a share REACH of the reference's runs reach: float[seeds]."""
    ends = np.sort(finite(ends))
    return float(ends[math.ceil(REACH * len(ends)) - 1])


def times(curves: np.ndarray, goal: float) -> np.ndarray:
    """float[...]: the share of the budget after which curves float[...,points+1] are at the goal; inf if never.

    The first point is before the first step. A goal that is not finite is no goal.
    """
    there = finite(curves) <= goal
    points = there.shape[-1] - 1
    found = there.argmax(-1) / points
    return np.where(there.any(-1) & math.isfinite(goal), found, np.inf)


def score(shares: np.ndarray, points: int = 30) -> tuple[float, float]:
    """(restricted mean, its standard error) of times; the error is not below that of rounding up to a point."""
    held = np.minimum(np.asarray(shares, np.float64), 1.0)
    rounding = 1 / points / 12**0.5
    spread = max(float(held.std(ddof=1)), rounding if np.isfinite(shares).any() else 0.0)
    return float(held.mean()), spread / len(held) ** 0.5


def profile(medians: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """float[methods,ratios]: shares of problems; medians float[methods,problems], inf where not solved.

    A problem that no method solves counts against all.
    """
    return (relative(medians)[:, :, None] <= np.asarray(ratios)).mean(1)


def area(medians: np.ndarray) -> np.ndarray:
    """float[methods]: under the profile from 1 to GREATEST, exactly, as a share of what is possible."""
    ends = np.unique(np.concatenate([[1.0, GREATEST], relative(medians).ravel()]))
    ends = ends[ends <= GREATEST]
    return profile(medians, ends[:-1]) @ np.diff(ends) / (GREATEST - 1)


def relative(medians: np.ndarray) -> np.ndarray:
    """float[methods,problems]: over the least of the problem; inf where not solved, or where another took no step."""
    least = medians.min(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isfinite(medians), np.where(medians <= least, 1.0, medians / least), np.inf)


def normal(t: float, freedom: float) -> float:
    """z, the normal quantile of Student's t; signed, and 0 where there is no difference."""
    if not math.isfinite(t):
        return math.copysign(math.inf, t)
    tail = stats.t.logsf(abs(t), freedom)
    return math.copysign(-float(stats.norm.ppf(math.exp(tail))) if tail > -700 else abs(t), t) if t else 0.0


def welch(a: np.ndarray, b: np.ndarray, points: int = 30) -> float:
    """z of "a is faster than b", from the times of both: Welch's test of the restricted means."""
    (mean_a, error_a), (mean_b, error_b) = score(a, points), score(b, points)
    both = math.hypot(error_a, error_b)
    if mean_a == mean_b or both == 0:
        return 0.0
    freedom = both**4 / (error_a**4 / (len(a) - 1) + error_b**4 / (len(b) - 1))
    return normal((mean_b - mean_a) / both, freedom)


def paired(differences: Sequence[float] | np.ndarray, points: int = 30) -> tuple[float, float, float]:
    """(mean, standard error, z) of differences, one a task; the error is not below that of rounding up to a point."""
    d = np.asarray(differences, np.float64)
    error = max(float(d.std(ddof=1)), 1 / points / 12**0.5) / len(d) ** 0.5
    return float(d.mean()), error, normal(float(d.mean()) / error, len(d) - 1)


def one_setting(ends: np.ndarray, starts: np.ndarray) -> int:
    """Which trial to take for all problems at once: ends float[problems,trials], starts float[problems].

    A trial's regret on a problem is 0 at the method's best end and 1 at the start or above; the mean counts.
    """
    ends = np.minimum(finite(ends), starts[:, None])
    best = ends.min(1, keepdims=True)
    room = np.maximum(starts[:, None] - best, 1e-30)
    return int(np.argmin(((ends - best) / room).mean(0)))


def kendall(a: Sequence[str], b: Sequence[str]) -> float:
    """tau of two rankings of the same names: 1 if alike, -1 if reversed."""
    place = {name: i for i, name in enumerate(b)}
    order = [place[name] for name in a]
    pairs = [(i, j) for i in range(len(order)) for j in range(i + 1, len(order))]
    return sum(1 if order[i] < order[j] else -1 for i, j in pairs) / len(pairs)
