"""The gradient noise scale while a run goes on, from the gradients that it takes anyway, and what to make of it.

McCandlish et al. 2018, arXiv:1812.06162, appendix A.1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.analysis.noise import NoiseScale
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_period
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import make_transformation, method_of, name_of, with_record
from jaxopt_ko.core.numerics import next_count, ratio, scalar_dtype, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import (
    FRACTION,
    HyperparameterError,
    HyperparameterTypeError,
    StateError,
    TransformationError,
    describe,
    say,
)
from jaxopt_ko.types import GradientTransformation, Hyper, Params, State, Updates
from jaxopt_ko.wrappers.accumulation import MultiSteps


class TrackNoiseScaleState(NamedTuple):
    """State of `track_noise_scale`."""

    windows: Array  # int32[]       t, windows whose norms were finite
    noise: Array  # float[]         decaying sum of S, from 0
    squared_norm: Array  # float[]  decaying sum of |G|**2, from 0
    weight: Array  # float[]        what both have gathered, 1 - decay**t for a constant decay
    squares: Array  # float[]       sum of |g_b|**2 of the gradients in this window
    inner_state: State  # of the optimizer, or of MultiSteps around it


@options
def track_noise_scale(
    tx: GradientTransformation,
    every_k: int = 1,
    *,
    batch_size: int,
    decay: Hyper = 0.99,
    axis_name: tree.AxisName = None,
) -> GradientTransformation:
    """The optimizer's step on the mean of several gradients, with a running estimate of the gradient noise scale.

    b = batch_size,  B = b every_k (devices of axis_name)
    |G|**2 = (B |g_B|**2 - b |g_b|**2) / (B - b)    S = (|g_b|**2 - |g_B|**2) / (1/b - 1/B)
    both are averaged over the windows, with weights decay**age, and then B_simple = S / |G|**2

    with |g_b|**2 the mean over the gradients that come, and g_B their mean, which the optimizer gets.

    tx: the optimizer, ours or optax's.
    every_k: gradients to a step, as of `MultiSteps(tx, every_k)`, whose steps these are; 1 with axis_name.
    batch_size: b, the examples of one gradient that comes, an int >= 1: of a micro-batch, and on one device.
    decay: of both averages, in [0, 1); 0.99 looks back on about 100 steps. One step says little: |G|**2 of one may be
        negative.
    axis_name: within `jax.shard_map` or `jax.vmap`, the axes that the batch is cut along: each device gives the
        gradient of its own examples (check_vma=False, or parameters that are cast to varying), and the mean over the
        devices is taken here, before the optimizer. None: gradients are means over all devices already.

    State: 20 bytes, and what `MultiSteps` takes where every_k > 1; a gradient that is not finite leaves the estimate
    alone. `noise_scale(state)` reads it, `batch_advice` says what it means. It costs a norm a gradient.

    Raises HyperparameterError, when made, for numbers outside their domain, or where b = B: one batch alone shows no
    noise; and what tx raises. Source: McCandlish et al. 2018, arXiv:1812.06162, appendix A.1. Not for micro-batches
    of different size, nor for batches that are not drawn at random.

    >>> tx = jo.diagnose.track_noise_scale(jo.adam(1e-3), 4, batch_size=32)
    >>> state = tx.init(jnp.ones(2))
    >>> jo.diagnose.batch_advice(jo.diagnose.noise_scale(state), 128)
    'No noise scale is known yet: the estimate is of no step, or too noisy. Average over more steps.'
    """
    name = "track_noise_scale"
    pair = as_transformation(name, "tx", tx, lands=True)
    k = check_period(name, "every_k", every_k)
    errors.check_size(name, "batch_size", batch_size)
    if axis_name is None:
        _check_sizes(name, k)
    steps = _measuring(pair)
    whole = steps if k == 1 else MultiSteps(steps, k).gradient_transformation()

    def init(params: Params, **problem: Any) -> TrackNoiseScaleState:
        noise, square, weight, squares = (jnp.zeros((), scalar_dtype()) for _ in range(4))
        return TrackNoiseScaleState(zero_count(), noise, square, weight, squares, whole.init(params, **problem))

    def update(
        updates: Updates, state: TrackNoiseScaleState, params: Params = None, *, h: Scalars, **extra: Any
    ) -> tuple[Updates, TrackNoiseScaleState]:
        own = _square(updates).astype(state.squares.dtype)
        devices = 1
        if axis_name is not None:
            devices = int(jax.lax.psum(1, axis_name))  # type: ignore[no-untyped-call]
            _check_sizes(name, k * devices)
            own, updates = _mean_over(own, axis_name), jax.tree.map(lambda g: _mean_over(g, axis_name), updates)
        squares = state.squares + own
        steps_, inner = whole.update(updates, state.inner_state, params, **extra)
        ends = jnp.ones((), bool) if k == 1 else inner.mini_step == 0
        big = (inner if k == 1 else inner.inner_opt_state)[0].astype(own.dtype)
        found = _estimated(squares / k, big, batch_size, batch_size * k * devices)
        counts = ends & jnp.isfinite(found.noise) & jnp.isfinite(found.squared_norm)
        decay = jnp.where(counts, h.decay, jnp.ones_like(h.decay)).astype(own.dtype)
        seen = tree.where(counts, (found.noise, found.squared_norm), (jnp.zeros_like(own), jnp.zeros_like(own)))
        return steps_, TrackNoiseScaleState(
            jnp.where(counts, next_count(state.windows), state.windows),
            decay * state.noise + (1 - decay) * seen[0],
            decay * state.squared_norm + (1 - decay) * seen[1],
            decay * state.weight + (1 - decay),
            jnp.where(ends, jnp.zeros_like(squares), squares),
            inner,
        )

    made = transform(
        f"{name}({name_of(pair)})", init, update, state_type=TrackNoiseScaleState,
        hypers={"decay": (decay, FRACTION)}, own=None, any_leaf=True,
    )  # fmt: skip
    return with_record(made, lands=method_of(pair).lands)


def _measuring(pair: GradientTransformation) -> GradientTransformation:
    """The optimizer; its state is (|g|**2 of the last gradient, that of the optimizer)."""

    def init(params: Params, **problem: Any) -> tuple[Array, State]:
        return jnp.zeros((), scalar_dtype()), pair.init(params, **problem)

    def update(g: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        steps, inner = pair.update(g, state[1], params, **extra)
        return steps, (_square(g).astype(state[0].dtype), inner)

    return make_transformation(method_of(pair), init, update)


def _mean_over(x: Any, axis_name: tree.AxisName) -> Any:
    return jax.lax.pmean(x, axis_name) if tree.is_floating(x) else x  # type: ignore[no-untyped-call]


def _square(g: Updates) -> Array:
    return tree.sum_of_squares(tree.floating_only(g))


def _estimated(small: Array, big: Array, b: int, B: int) -> NoiseScale:
    """Of mean squared norms of gradients of b and of B examples."""
    squared_norm = (B * big - b * small) / (B - b)
    noise = (small - big) / (1 / b - 1 / B)
    return NoiseScale(ratio(noise, squared_norm), noise, squared_norm)


def _check_sizes(name: str, times: int) -> None:
    """The large batch is larger than the small one."""
    if times < 2:
        say(HyperparameterError, name, "the batch of a step must be larger than that of a gradient (b = B)",
            f"every_k times devices = {times}", "Give every_k >= 2, or the axis_name of several devices"
            )  # fmt: skip


def noise_scale(state: State) -> NoiseScale:
    """The gradient noise scale that `track_noise_scale` has gathered so far.

    scale = mean of S / mean of |G|**2, the means with weights decay**age

    state: of a transformation with one track_noise_scale in it, wherever: in a chain, in groups.

    Returns a `NoiseScale` of three numbers, also under jit and for each lane of a vmap; NaN before the first step.
    Raises StateError if there is none in the state, or more than one. Source: McCandlish et al. 2018,
    arXiv:1812.06162, appendix A.1. Not for one batch at a point: `gradient_noise_scale`.

    >>> tx = jo.diagnose.track_noise_scale(jo.sgd(0.1), 2, batch_size=1)
    >>> params = jnp.zeros(2)
    >>> state = tx.init(params)
    >>> for g in (jnp.array([1.0, 0.0]), jnp.array([1.0, 1.0])):
    ...     updates, state = tx.update(g, state, params)
    >>> [float(x) for x in jo.diagnose.noise_scale(state)]
    [0.5, 0.5, 1.0]
    """

    def holds(node: Any) -> bool:
        return isinstance(node, TrackNoiseScaleState)

    found = [node for node in jax.tree.leaves(state, is_leaf=holds) if holds(node)]
    if len(found) != 1:
        say(StateError, "noise_scale", "the state must hold one TrackNoiseScaleState", f"{len(found)} of them",
            "Put track_noise_scale around the optimizer, and give the state that its update returned")  # fmt: skip
    own: TrackNoiseScaleState = found[0]
    noise, squared_norm = own.noise / own.weight, own.squared_norm / own.weight
    return NoiseScale(noise / squared_norm, noise, squared_norm)


def batch_advice(noise: NoiseScale, batch_size: int) -> str:
    """What a noise scale says of a batch size, in two or three sentences.

    With a batch of B, steps take (1 + scale / B) and examples (1 + B / scale) times the least that there is.

    noise: a `NoiseScale` of numbers, not traced: of `noise_scale` or `gradient_noise_scale`.
    batch_size: B, the examples of one step, an int >= 1.

    Returns a string. Raises HyperparameterTypeError for what is no NoiseScale; TransformationError under jit.
    Source: McCandlish et al. 2018, arXiv:1812.06162, equation 2.11, for tuned rates. Not where memory decides, or the
    loss at the end on unseen data: it is about time and cost alone.

    >>> print(jo.diagnose.batch_advice(jo.diagnose.NoiseScale(1000.0, 2000.0, 2.0), 100))
    The noise scale is about 1,000 and the batch 100, 0.1 of it: steps are mostly noise. ...
    """
    name = "batch_advice"
    if not isinstance(noise, NoiseScale):
        say(HyperparameterTypeError, name, "noise must be a NoiseScale", describe(noise),
            "Give what noise_scale(state) returns")  # fmt: skip
    errors.check_size(name, "batch_size", batch_size)
    if isinstance(noise.scale, jax.core.Tracer):
        say(TransformationError, name, "a sentence is made of numbers, which a traced value is not", "a traced value",
            "Return noise_scale(state) from the compiled function, and call this outside")  # fmt: skip
    scale = float(noise.scale)
    if not math.isfinite(scale) or scale <= 0 or float(noise.squared_norm) <= 0:
        return "No noise scale is known yet: the estimate is of no step, or too noisy. Average over more steps."
    share = batch_size / scale
    steps, examples = 1 + 1 / share, 1 + share
    start = f"The noise scale is about {_shown(scale)} and the batch {batch_size:,}, {_shown(share)} of it: "
    costs = (
        f" A run takes about {_shown(steps)} times the fewest steps and {_shown(examples)} times the fewest examples;"
    )
    if share < 0.5:
        return (
            f"{start}steps are mostly noise.{costs} twice the batch, with a larger rate, would take"
            f" {_shown((1 + 0.5 / share) / steps)} of the steps."
        )
    if share > 2:
        return (
            f"{start}steps are mostly signal.{costs} half the batch would take"
            f" {_shown((1 + share / 2) / examples)} of the examples, and {_shown((1 + 2 / share) / steps)} times the"
            " steps."
        )
    return f"{start}noise and signal are alike.{costs} neither is far from its least."


def _shown(x: float) -> str:
    """Two digits, with commas."""
    return f"{round(x, 1 - math.floor(math.log10(x))):,.0f}" if x >= 10 else f"{x:.2g}"
