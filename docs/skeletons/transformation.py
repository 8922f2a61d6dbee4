"""Clipping at the mean norm: a skeleton of a transformation's page, to be copied to jaxopt_ko/transforms/NAME.py.

It looks at whole trees, and so it is made by `transform`; a rule for one array is made by `leafwise`, as in
optimizer.py. This method is made up to be short.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.numerics import ratio, scalar_dtype, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, POSITIVE
from jaxopt_ko.types import GradientTransformation, Hyper, Params, Updates


class ClipByMeanNormState(NamedTuple):
    """State of `clip_by_mean_norm`."""

    count: Array  # int32[]  t, steps taken
    mean: Array  # float[]   m_t, mean of the norms after clipping


@options
def clip_by_mean_norm(growth: Hyper = 2.0, decay: Hyper = 0.9) -> GradientTransformation:
    """Gradients no longer than `growth` times the mean of those before them.

    n   = |g|                               of all leaves as one vector
    c   = growth m / (1 - decay**(t-1))     infinity at the first step
    u   = g min(1, c / n)
    m_t = decay m + (1 - decay) min(n, c)

    chain(clip_by_mean_norm(), adam(1e-3)). A gradient that is not finite passes, and the mean with it: put
    `apply_if_finite` around the chain.
    """

    def init(params: Params) -> ClipByMeanNormState:
        return ClipByMeanNormState(zero_count(), jnp.zeros((), scalar_dtype()))

    def update(updates: Updates, state: ClipByMeanNormState, *, h: Scalars) -> tuple[Updates, ClipByMeanNormState]:
        m = state.mean.astype(h.growth.dtype)
        n = tree.global_norm(updates).astype(m.dtype)
        c = jnp.where(state.count == 0, jnp.inf, h.growth * m / h.gathered_before("decay"))
        shorter = jnp.minimum(n, c)
        m = h.decay * m + (1 - h.decay) * shorter
        return tree.scale(ratio(shorter, n), updates), ClipByMeanNormState(h.t, m.astype(state.mean.dtype))

    return transform(
        "clip_by_mean_norm",
        init,
        update,
        state_type=ClipByMeanNormState,
        hypers={"growth": (growth, POSITIVE), "decay": (decay, FRACTION)},
        debiased=("decay",),
    )
