"""Parameters of 16 bits that move: rounded at random, or with the rest of each sum kept for the next step.

Gupta et al. 2015, arXiv:1502.02551, section 3: stochastic rounding. Zamirai et al. 2020, arXiv:2010.06192: both for the
parameters of networks in bfloat16. Kahan 1965, doi:10.1145/363707.363723.

Rounded to the nearest, p + u is p wherever |u| is less than a quarter to a half of p's last place, |p| / 512 say: a
learning rate of 1e-4 changes no weight of size 1, however many steps there are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.rounding import round_stochastic
from jaxopt_ko.core.signature import options
from jaxopt_ko.precision.landing import half_ulp, key_of, landing, leaf_jit, nearest, step_between
from jaxopt_ko.types import DType, GradientTransformation, Params, PyTree, State


class StochasticRoundingState(NamedTuple):
    """State of `stochastic_rounding`."""

    count: Array  # type: ignore[assignment]  # int32[]  t, steps taken
    rng_key: Array  # a PRNG key, always the same
    inner_state: State  # of the inner transformation, over float32


class KahanState(NamedTuple):
    """State of `kahan`."""

    c: Params  # like params of 16 bits, in their dtype  what the sums have lost; MaskedNode() for other leaves
    inner_state: State  # of the inner transformation, over float32
    count: PyTree = ()  # int32[]      t, steps taken; nothing where c is rounded to the nearest
    rng_key: PyTree = ()  # a PRNG key, always the same; nothing where c is rounded to the nearest


@options
def stochastic_rounding(
    tx: GradientTransformation, key: Array | int, *, step_dtype: DType = jnp.float32
) -> GradientTransformation:
    """An optimizer on bfloat16 or float16 parameters, rounded at random: their mean moves as float32's.

    p1 = p + u, brought to one of its two neighbours, the nearer one the more often;   u' = p1 - p

    tx: a whole optimizer, ours or foreign. It sees parameters and gradients of 16 bits in float32, in init, in update
        and in functions of the parameters that it evaluates. Leaves of other dtypes get its steps as they are.
    key: a PRNG key or an integer seed >= 0. The random bits follow from it, the step's number and the leaf's path: they
        are the same on one device and on many, and in a run that is resumed.
    step_dtype: of u'. In float32 p + u' is p1 bit for bit for whoever adds it and rounds to p's dtype: `apply_updates`,
        optax's, flax's. jnp.bfloat16 is for loops that add in the parameters' own dtype (equinox), where it is exact
        while |u| < |p| / 10.

    State: + 0 bytes a parameter, a count and a key; that of tx is over float32. Needs params. In the mean over keys the
    parameters are those of float32; those of one run scatter by sqrt(steps |u| ulp) or so around them, which gradients
    correct.

    Put it outermost, u' is to be added and nothing else: only what selects (masked, partition, route, MultiSteps,
    apply_if_finite, conditionally_mask) or leaves updates as they are (average_params, monitor, lost_updates) may stand
    around it. Raises TransformationError where another wrapper or part of a chain is made around it, or for no
    transformation; HyperparameterError for no key; MissingArgumentError, when traced, without params.

    Not for derivatives through the steps, which rounding has none of, and where two bytes more are at hand
    (`split_master`) not for the last phase of a run, when steps are far below an ulp and noise is all that is seen.
    Source: arXiv:1502.02551; arXiv:2010.06192.

    >>> opt = jo.stochastic_rounding(jo.chain(jo.clip_by_global_norm(1.0), jo.adamw(1e-3)), key=0)
    >>> state = opt.init(jnp.ones(2, jnp.bfloat16))
    """
    start = errors.check_key("stochastic_rounding", key)
    return landing("stochastic_rounding", tx, StochasticRoundingState, _at_random, step_dtype=step_dtype, key=start)


@leaf_jit
def _at_random(p: Array, u: Array, m: None, key: Array, number: Array, *, step_dtype: np.dtype[Any]) -> Any:
    p32 = p.astype(jnp.float32)
    x = p32 + u.astype(jnp.float32)
    p1 = round_stochastic(x, p.dtype, jax.random.fold_in(key, number)).astype(jnp.float32)
    return step_between(p1, p32, step_dtype), m


@options
def kahan(
    tx: GradientTransformation,
    rounding: str = "stochastic",
    *,
    key: Array | int = 0,
    step_dtype: DType = jnp.float32,
) -> GradientTransformation:
    """An optimizer on bfloat16 or float16 parameters; what rounding takes from a sum is added at the next step.

    c <- c + u;   p1 = p + c, rounded to the nearest;   c <- c - (p1 - p), in p's dtype;   u' = p1 - p

    tx: a whole optimizer, ours or foreign. It sees parameters and gradients of 16 bits in float32, in init, in update
        and in functions of the parameters that it evaluates; p, not p + c. Leaves of other dtypes get its steps.
    rounding: of c, which has no more bits than p. "stochastic": at random, so that p + c moves as in float32.
        "nearest": as Kahan, without a key; a constant step of 2**-14 |p| may then be 3 % too long or too short.
    key: a PRNG key or an integer seed >= 0, for "stochastic". The random bits follow from it, the step's number and the
        leaf's path. They move p + c by a 512th of an ulp of p at most; a seed of one's own matters to nobody.
    step_dtype: of u', as in `stochastic_rounding`; float32, in which p + u' is p1 bit for bit.

    State: + 2 bytes a parameter, beside that of tx over float32; a count and a key. Needs params. `master_params` gives
    p + c, `with_master` begins from float32 parameters. c is half an ulp of p at most; where it is more, the parameters
    were changed from outside, and it is cut to that.

    Put it outermost, as `stochastic_rounding`. Raises what that raises; HyperparameterError for another rounding.

    Not where memory is scarce: `split_master` keeps as many bits in one byte a parameter.
    Source: arXiv:2010.06192; doi:10.1145/363707.363723.

    >>> opt = jo.kahan(jo.adamw(1e-3))
    >>> opt.init(jnp.ones(2, jnp.bfloat16)).c.dtype.name
    'bfloat16'
    """
    return landing(
        "kahan", tx, KahanState, _compensated, step_dtype=step_dtype, memory="c", key=key_of("kahan", rounding, key),
        start=lambda p: tree.full_like(p, 0),
    )  # fmt: skip


@leaf_jit
def _compensated(
    p: Array, u: Array, c: Array, key: Array | None, number: Array | None, *, step_dtype: np.dtype[Any]
) -> Any:
    p32, c32 = p.astype(jnp.float32), placement.typed_as(c, p).astype(jnp.float32)
    h = half_ulp(p32, p.dtype, c32)
    t = jnp.clip(c32, -h, h) + u.astype(jnp.float32)
    p1 = nearest(p32 + t, p.dtype)
    rest = t - (p1 - p32)
    rest = jnp.where(jnp.isfinite(rest), rest, jnp.zeros_like(rest))
    if key is None:
        made = nearest(rest, c.dtype).astype(c.dtype)
    else:
        made = round_stochastic(rest, c.dtype, jax.random.fold_in(key, number))  # type: ignore[arg-type]
    return step_between(p1, p32, step_dtype), made
