"""Counts of rules of which some leaves start anew: what is carried over is weighed so that no step is a long one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.core.numerics import value_at
from jaxopt_ko.sharding.named import MEAN, PLAIN_MEAN, SQUARE, SUM, Entry
from jaxopt_ko.sharding.saved import Saved, Taken, times

MEANS = (MEAN, SUM, PLAIN_MEAN)
SQUARES = (SQUARE, "nu@yogi", "nu@adabelief", "n@adan")  # what a step is divided by, a mean of squares of gradients
LAST = "g@adan"  # the last gradient
GROWING = (*MEANS, LAST, "v@adan", "m2", "nu_max")  # from 0 up they make steps shorter, not longer
DECAYS = ("b1", "b2", "b3", "decay", "beta")  # of means
WARM = "warm the rate up, schedules.rewarm"


def restarted(found: Sequence[Entry], taken: Sequence[Taken], source: Saved) -> tuple[list[Taken], dict[int, str]]:
    """The leaves with the counts of their rules such that these correct the means as they are now; and words about
    those that start anew, by their place."""
    made, notes = list(taken), dict[int, str]()
    for rule in {entry.rule for entry in found if entry.role == "count"}:
        _Rule(found, made, notes, source, rule).restart()
    return made, notes


class _Rule:
    """The leaves of one rule that counts its steps."""

    def __init__(
        self, found: Sequence[Entry], taken: list[Taken], notes: dict[int, str], source: Saved, rule: int
    ) -> None:
        self.found, self.taken, self.notes, self.source = found, taken, notes, source
        places = [i for i, entry in enumerate(found) if entry.rule == rule]
        self.counts = [i for i in places if found[i].role == "count"]
        self.weights = [i for i in places if found[i].role.startswith("gathered/")]
        self.leaves = [i for i in places if found[i].path is not None]
        self.missing = [i for i in self.leaves if taken[i] is None]
        self.carried = [i for i in self.leaves if taken[i] is not None]
        own = next((taken[i] for i in self.counts), None)
        self.count = None if own is None or isinstance(own[0], jax.core.Tracer) else int(np.asarray(own[0]))

    def restart(self) -> None:
        """Decide what the rule's count is, and weigh what is carried."""
        needed = [i for i in self.missing if self.found[i].role not in GROWING]
        if not self.leaves:
            return
        if not needed and self.carried:  # all are whole; a mean that grows from 0 makes steps shorter for a while
            self._whole()
        elif not self.carried:
            self._anew()
        elif all(self.found[i].role in SQUARES for i in needed) and self._decays_known():
            self._weigh()
        elif {self.found[i].path for i in self.missing} & {self.found[i].path for i in self.carried}:
            for i in self.carried:
                self.taken[i] = None
                self.notes[i] = "what it is used with starts anew, and so it does"
                self.source.give_back(self.found[i])
            self._anew()
        else:  # new parameters, the others as they were
            self._whole()
            self.notes |= dict.fromkeys(self.missing, f"nothing was saved for this parameter; {WARM}")

    def _whole(self) -> None:
        """Means that were saved without a count are to be corrected no more, as after many steps."""
        decays = [b for key in DECAYS if (b := self._decay(self.leaves[0], (key,))) is not None]
        if not decays:
            return
        steps = min(math.ceil(10 / (1 - max(decays))), 10**6)
        for i in self.counts:
            if self.taken[i] is None:
                how = f"{steps} steps, after which saved means are corrected no more"
                self.taken[i] = np.asarray(steps, np.int32), [how]

    def _anew(self) -> None:
        for i in self.counts + self.weights:
            if self.taken[i] is not None:
                self.taken[i] = jnp.zeros_like(self.found[i].value), [f"from 0, as the means are; {WARM}"]

    def _decay(self, i: int, names: Sequence[str]) -> float | None:
        reader = self.found[i].reader
        for name in names if reader is not None else ():
            if name in reader.hypers:  # type: ignore[union-attr]
                value = value_at(reader.hypers[name], jnp.asarray(self.count or 0, jnp.int32))  # type: ignore[union-attr]
                if not isinstance(value, jax.core.Tracer) and 0 < float(value) < 1:
                    return float(value)
        return None

    def _decay_of(self, i: int) -> float | None:
        role = self.found[i].role
        return self._decay(i, ("b3",) if role == "n@adan" else ("b2", "decay") if role in SQUARES else ("b1", "decay"))

    def _decays_known(self) -> bool:
        return all(self._decay_of(i) is not None for i in self.leaves if self.found[i].role in (*MEANS, *SQUARES))

    def _weigh(self) -> None:
        """The state as after c steps, in which the gradients were what their means say.

        A corrected mean mu / (1 - b1**t) stays what it is: mu_c = mu (1 - b1**c) / (1 - b1**t), nu likewise, and
        c = ceil(1 / (1 - b1)). Where the mean of the squares is not there, the square of the mean is for it, which is
        less: c = 1, nu_1 = (1 - b2) (mu / (1 - b1**t))**2, as if the first gradient had been the mean.
        """
        first = next(i for i in self.leaves if self.found[i].role in (*MEANS, *SQUARES))
        means = {self.found[i].path: i for i in self.carried if self.found[i].role in MEANS}
        b1 = self._decay(first, ("b1", "decay", "b2", "b3"))
        replaced = any(self.found[i].role in SQUARES and self.found[i].path in means for i in self.missing)
        c = 1 if replaced or b1 is None else math.ceil(round(1 / (1 - b1), 3))
        c = c if self.count is None else min(c, self.count)
        words = f"as after {c} step{'s' * (c != 1)}, from which the rule goes on; {WARM}"
        whole = {}
        for path, i in means.items():
            value, _ = self.taken[i]  # type: ignore[misc]
            whole[path] = times(value, 1 / self._gathered(i, self.count))
        for i in self.missing:
            entry = self.found[i]
            if entry.path not in whole:
                continue
            mean = whole[entry.path].astype(entry.value.dtype)
            if entry.role in SQUARES:
                square = jnp.square(jnp.abs(mean)).astype(entry.value.dtype)
                self.taken[i] = times(square, self._gathered(i, c)), ["the square of the mean, " + words]
            elif entry.role == LAST:
                self.taken[i] = mean, ["the mean of the gradients"]
        for i in self.carried:
            factor = self._gathered(i, c) / self._gathered(i, self.count)
            value, how = self.taken[i]  # type: ignore[misc]
            if self.found[i].role in (*MEANS, *SQUARES) and factor != 1:
                self.taken[i] = times(value, factor), [*how, f"times {factor:.4g}: {words}"]
        for i in self.counts:
            self.taken[i] = np.asarray(c, np.int32), [words]
        for i in self.weights:
            b = self._decay(i, (self.found[i].role.partition("/")[2],))
            self.taken[i] = np.asarray(1 - (b or 0.0) ** c), [words]

    def _gathered(self, i: int, steps: int | None) -> float:
        """1 - b**t, 1 where t is not known or 0."""
        b = self._decay_of(i)
        return 1.0 if b is None or not steps else 1 - b**steps
