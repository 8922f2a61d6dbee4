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
    """The velocity: a decaying sum of what passes.

    v_1 = g_1;   v_t = decay v + (1 - dampening) g
    u   = v, or, with nesterov, g + decay v

    decay: the weight of the past, in [0, 1], usually 0.9 or 0.99: v is about 1 / (1 - decay) times a mean gradient.
    nesterov: take the sum one gradient ahead, as Nesterov does.
    accumulator_dtype: dtype of v; None: float32 at least.
    dampening: torch.optim.SGD's, in [0, 1): the part of a gradient that does not enter v; None: 0, as optax has none.

    State: 4 bytes a parameter, or those of accumulator_dtype; with a dampening a count. Raises HyperparameterError,
    when made, for numbers outside their domain. Source: Polyak 1964; Nesterov 1983; Sutskever et al. 2013. Not where a
    mean is wanted, whose size does not depend on decay: `ema`.

    >>> tx = jo.trace(0.9)
    >>> _, state = tx.update(jnp.array([1.0, 2.0]), tx.init(jnp.ones(2)))
    >>> state.trace.tolist()
    [1.0, 2.0]
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
