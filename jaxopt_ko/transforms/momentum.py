"""Velocity: a decaying sum of what passes. Polyak 1964; Nesterov 1983; Sutskever et al. 2013."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, UNIT
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Updates


@quantizable(signed=("trace",))
class TraceState(NamedTuple):
    """State of `trace`."""

    trace: Updates  # like params, f32+  v_t, the velocity


@options
def trace(
    decay: Hyper,
    nesterov: bool = False,
    accumulator_dtype: DType | None = None,
    *,
    dampening: Hyper | None = None,
) -> GradientTransformation:
    """The velocity v of the updates g.

    v_1 = g_1
    v_t = decay v + (1 - dampening) g
    u   = v                                  or, with nesterov, g + decay v

    dampening is torch.optim.SGD's, 0 if None; optax has none. decay in [0, 1): usually 0.9 or 0.99.
    """

    def init(p: Array) -> Memory:
        return (wide_like(p, 0, accumulator_dtype),)

    damped = dampening is not None and not (isinstance(dampening, int | float) and dampening == 0)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"weight": jnp.where(t == 1, jnp.ones_like(h.dampening), 1 - h.dampening)}

    def rule(g: Array, p: Array, v: Array, h: Scalars) -> Step:
        v = h.decay * v + (h.weight * g if damped else g)
        return (g + h.decay * v if nesterov else v), v

    return leafwise(
        "trace",
        TraceState,
        init=init,
        shared=shared if damped else None,
        rule=rule,
        hypers={"decay": (decay, UNIT), "dampening": (0.0 if dampening is None else dampening, FRACTION)},
        dtypes={"accumulator_dtype": accumulator_dtype},
        counts=damped,
    )
