"""Steps whose loss or gradient stands out from those before are left out.

After the skip-step optimizers of OLMo 2 (OLMo et al. 2025, arXiv:2501.00656; allenai/OLMo-core), which judge by the
last losses and norms, spikes included; here by those of the steps that were taken.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.conditional import no_steps, run_if
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_period
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import method_of, name_of, with_record
from jaxopt_ko.core.numerics import next_count, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import POSITIVE
from jaxopt_ko.types import GradientTransformation, Hyper, Params, State, Updates
from jaxopt_ko.wrappers import levels
from jaxopt_ko.wrappers.levels import Levels


class SkipSpikesState(NamedTuple):
    """State of `skip_spikes`."""

    losses: Array  # float[window]  of the last steps taken with a loss, a ring; 0 where there is none yet
    norms: Array  # float[window]   of the gradients of the last steps taken, likewise
    with_loss: Array  # int32[]     losses written since the ring was empty
    accepted: Array  # int32[]      norms, likewise: steps taken
    in_a_row: Array  # int32[]      steps left out in a row up to now
    last_reason: Array  # int32[]   of the last step: 0 taken, 1 not finite, 2 high loss, 3 high norm
    not_finite: Array  # int32[]    steps left out, in all, whose loss or gradient was not finite
    high_loss: Array  # int32[]     those whose loss stood out
    high_norm: Array  # int32[]     those whose gradient's norm stood out, and whose loss did not
    restarts: Array  # int32[]      times that the statistics began anew
    inner_state: State  # of the inner transformation


@options
def skip_spikes(
    tx: GradientTransformation,
    window: int = 128,
    sigma: Hyper = 6.0,
    *,
    warmup: int | None = None,
    max_consecutive: int | Array = 16,
    axis_name: tree.AxisName = None,
    enabled: bool = True,
) -> GradientTransformation:
    """A transformation that leaves out steps whose loss or gradient norm stands out from those of the steps before.

    x in {value, |g|}:  skip = x is not finite, or x - mean(x) > sigma sd(x)
    u = the step of tx;   where skip: 0, and the state of tx as it was, bit for bit

    with mean and sample deviation of the last steps that were taken: a spike that is left out moves neither.

    tx: the transformation, ours or optax's.
    window: how many steps taken are remembered, an int >= 2, no traced one; 128 as in OLMo.
    sigma: deviations above the mean from which on a step is left out, > 0; 6 as in OLMo, which ordinary noise does not
        reach. Steps below the mean are never left out.
    warmup: steps taken before any is judged, an int from 2 to window; None: window // 2, two at least. What is not
        finite is left out before that, too.
    max_consecutive: so many finite steps left out in a row mean that the level itself has changed (other data, a step
        that went wrong): the next is taken, and the statistics begin anew with it. An integer >= 1; 16 is more than a
        run of bad batches, and few beside the 64 steps that are then not judged. What is not finite is never taken.
    axis_name: within `jax.shard_map`, the axes that every gradient is cut along, as of `global_norm`; None: none.
        value must be the same on all devices.
    enabled: False gives tx as it is, with nothing added to its state or to a program.

    value=loss in update is read where it is given, and passed on; without, the norm alone is judged. `loop.fit` gives
    it. Around `MultiSteps` each micro-batch is judged; within it the mean gradient, with the last micro-batch's loss;
    within `loss_scaling`, so that gradients come unscaled. Under jax.vmap tx runs at each step and is selected from.

    State: 8 window bytes, 1 KiB, and eight counts of 4 bytes beside that of tx; `diagnose.skips` reads them.

    Raises HyperparameterError for numbers outside their domain, TreeError, when traced, for a value that is not one
    real number, and what tx raises. Source: the skip-step optimizers of allenai/OLMo-core; OLMo et al. 2025,
    arXiv:2501.00656. Not for a loss that rises slowly: nothing stands out then; nor in place of a look at the data, as
    each skip hides a fault.

    >>> tx = jo.skip_spikes(jo.adam(1e-3), window=64)
    >>> params = jnp.ones(2)
    >>> updates, state = tx.update(params, tx.init(params), params, value=jnp.inf)
    >>> updates.tolist(), int(state.not_finite), int(state.accepted)
    ([0.0, 0.0], 1, 0)
    """
    name = "skip_spikes"
    pair = as_transformation(name, "tx", tx, lands=True)
    window, least = levels.check_window(name, window, warmup)
    most = check_period(name, "max_consecutive", max_consecutive)
    lands = method_of(pair).lands
    hypers = {"sigma": (sigma, POSITIVE)}
    whole = f"{name}({name_of(pair)})"

    def init(params: Params, **problem: Any) -> SkipSpikesState:
        start, counts = levels.empty(window), (zero_count() for _ in range(6))
        return SkipSpikesState._make([*start, *counts, pair.init(params, **problem)])

    def update(
        updates: Updates, state: SkipSpikesState, params: Params = None, *, h: Scalars, **extra: Any
    ) -> tuple[Updates, SkipSpikesState]:
        before = Levels(*state[:4])
        seen = levels.judged(whole, before, updates, extra.get("value"), h.sigma, least, axis_name)
        bad = seen.reason != levels.TAKEN
        anew = bad & (seen.reason != levels.NOT_FINITE) & (state.in_a_row >= most)
        takes = ~bad | anew
        steps, inner = run_if(takes, pair, updates, state.inner_state, params, extra, no_steps(updates, params, lands))
        after = tree.where(takes, levels.written(tree.where(anew, levels.empty(window), before), seen), before)
        reason = jnp.where(takes, levels.TAKEN, seen.reason).astype(jnp.int32)
        totals = (state.not_finite, state.high_loss, state.high_norm)
        not_finite, high_loss, high_norm = (
            jnp.where(reason == kind, next_count(n), n) for kind, n in enumerate(totals, start=1)
        )
        return steps, state._replace(
            **after._asdict(),
            in_a_row=jnp.where(takes, zero_count(), next_count(state.in_a_row)),
            last_reason=reason,
            not_finite=not_finite,
            high_loss=high_loss,
            high_norm=high_norm,
            restarts=jnp.where(anew, next_count(state.restarts), state.restarts),
            inner_state=inner,
        )

    made = transform(whole, init, update, state_type=SkipSpikesState, hypers=hypers, own=None, any_leaf=True)
    return with_record(made, lands=lands) if enabled else pair
