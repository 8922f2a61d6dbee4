"""What guards and clips have left out, read off a state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.numerics import scalar_dtype, zero_count
from jaxopt_ko.errors import StateError, describe, say
from jaxopt_ko.transforms.adaptive_clipping import AdagcState, ZclipState
from jaxopt_ko.types import State
from jaxopt_ko.wrappers.guards import ApplyIfFiniteState
from jaxopt_ko.wrappers.loss_scaling import LossScalingState
from jaxopt_ko.wrappers.rollback import RollbackState
from jaxopt_ko.wrappers.spikes import SkipSpikesState


class Skips(NamedTuple):
    """Steps that were left out or changed, by their reason, of all guards and clips in a state together."""

    not_finite: Array  # int32[]  loss or gradient was not finite: left out
    high_loss: Array  # int32[]   the loss stood out: left out
    high_norm: Array  # int32[]   the gradient's norm stood out: left out
    restarts: Array  # int32[]    statistics that began anew, as too many steps in a row had stood out
    restored: Array  # int32[]    times that `rollback` went back to what it had kept
    clipped: Array  # float[]     gradients that an adaptive clip made shorter; of `adagc`, those of single leaves

    def __str__(self) -> str:
        if any(jnp.ndim(x) for x in self):
            return repr(self)
        left_out = int(self.not_finite + self.high_loss + self.high_norm)
        why = f"{int(self.not_finite)} not finite, {int(self.high_loss)} by the loss, {int(self.high_norm)} by the norm"
        return (
            f"{left_out} steps left out ({why}); {int(self.clipped)} gradients clipped; "
            f"gone back {int(self.restored)} times, statistics begun anew {int(self.restarts)} times."
        )


def skips(state: State) -> Skips:
    """What guards and adaptive clips have left out so far, and why: read off the state of any optimizer.

    sums over `skip_spikes`, `rollback`, `apply_if_finite`, `loss_scaling`, `zclip` and `adagc` in the state

    state: of a transformation with one of them in it, at least: in a chain, in groups, in MultiSteps, one in another.

    Returns a `Skips` of int32[], under jit, too, or for each lane of a vmap; str of it is a sentence. A loop that logs
    it each few steps shows a fault that a guard would hide. Raises StateError where there is none of them.

    >>> tx = jo.skip_spikes(jo.chain(jo.zclip(), jo.adam(1e-3)))
    >>> print(jo.diagnose.skips(tx.init(jnp.ones(2))))
    0 steps left out (0 not finite, 0 by the loss, 0 by the norm); 0 gradients clipped; ...
    """
    found = list(_found(state))
    if not found:
        say(StateError, "skips", "nothing in this state counts what is left out", describe(state),
            "Put skip_spikes around the optimizer, or zclip before it")  # fmt: skip
    total = Skips(zero_count(), zero_count(), zero_count(), zero_count(), zero_count(), jnp.zeros((), scalar_dtype()))
    for one in found:
        total = Skips._make(a + jnp.asarray(b).astype(a.dtype) for a, b in zip(total, one, strict=True))
    return total


def _found(node: Any) -> Iterator[Skips]:
    """Of each state that counts, from the root down."""
    none: Any = 0
    if isinstance(node, SkipSpikesState):
        yield Skips(node.not_finite, node.high_loss, node.high_norm, node.restarts, none, none)
    elif isinstance(node, RollbackState):
        yield Skips(node.not_finite, node.high_loss, node.high_norm, node.restarts, node.restored, none)
    elif isinstance(node, ApplyIfFiniteState):
        yield Skips(node.total_notfinite, none, none, none, none, none)
    elif isinstance(node, LossScalingState):
        yield Skips(node.total_skipped, none, none, none, none, none)
    elif isinstance(node, ZclipState):
        yield Skips(none, none, none, none, none, node.clipped)
    elif isinstance(node, AdagcState):
        yield Skips(none, none, none, none, none, sum((jnp.sum(x) for x in jax.tree.leaves(node.clipped)), start=none))
    below = jax.tree.leaves(node, is_leaf=lambda x: x is not node)
    for child in [node.inner_state] if isinstance(node, RollbackState) else below:  # what it keeps is no more than that
        if child is not node:
            yield from _found(child)
