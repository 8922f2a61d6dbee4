"""Gradients of a scaled loss, so that small ones are not lost in float16.

Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740, section 3.2.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.conditional import no_steps, run_if
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_period
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import make_transformation, method_of, name_of, with_record
from jaxopt_ko.core.numerics import next_count, real_dtype, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import POSITIVE, Domain, HyperparameterError, StateError, say
from jaxopt_ko.types import GradientTransformation, Hyper, Params, State, Updates

GROWTH = Domain(1.0, float("inf"), "a finite number > 1", low_open=True)


class LossScalingState(NamedTuple):
    """State of `loss_scaling`."""

    loss_scale: Array  # float32[]    c, what the next loss is to be multiplied by
    finite_count: Array  # int32[]    n, finite gradients in a row since c was last changed
    total_skipped: Array  # int32[]   steps left out, in all
    inner_state: State  # of the inner transformation


@options
def loss_scaling(
    tx: GradientTransformation,
    init_scale: float | Array = 2.0**15,
    period: int | Array = 2000,
    *,
    factor: Hyper = 2.0,
    max_scale: Hyper = 2.0**24,
    min_scale: Hyper = 2.0**-14,
) -> GradientTransformation:
    """A transformation for gradients of a scaled loss: divided by the scale, and left out where they overflowed.

    g / c finite:  u = the inner step for g / c;  n = n + 1;  at n = period:  c = min(c factor, max_scale), n = 0
    else:          u = 0, the inner state as it was, bit for bit;  c = max(c / factor, min_scale), n = 0

    tx: gets g / c in float32 at least, whatever the gradients' dtype, and the parameters as they are. Steps have the
        dtypes that gradients and parameters have in common.
    init_scale: c at first, a number > 0 between the two bounds, or traced; 2**15 is close to the largest float16.
    period: finite gradients in a row after which c grows, an integer >= 1; 2,000 as in torch.
    factor: what c grows and falls by, > 1; a power of two changes no digit of a gradient.
    max_scale: > 0, what c stays below. Multiply in float32: the default, 2**24, is no number of float16.
    min_scale: > 0, what c stays above; the default is the least normal float16, so that c is never 0.

    State: 12 bytes beside the inner state: `loss_scale` reads c, float32[], out of any state that holds it;
    total_skipped counts the steps left out.

    Around `MultiSteps` an overflow costs one micro-batch, which brings no weight; a last, short window is flushed by
    hand: updates, inner = multi.flush(state.inner_state, params). Within it, as MultiSteps(loss_scaling(tx), k), it
    costs the window, which counts as one gradient, and the scale changes between windows alone. Whatever else looks
    at gradients (clipping, `apply_if_finite`, skip_not_finite) belongs inside, as a part of tx: outside it sees them
    scaled, or keeps the overflow from being seen. Extra arguments pass as they are: give the value of the loss itself.

    Raises HyperparameterError for numbers outside their domain or bounds that cross, and what tx raises. Source:
    Micikevicius et al. 2018, arXiv:1710.03740, section 3.2; torch.amp.GradScaler. Not for bfloat16, whose exponents are
    those of float32, nor for `loop.fit`, whose loss knows no state.

    >>> tx, params = jo.loss_scaling(jo.adamw(1e-3)), jnp.ones(2)
    >>> state = tx.init(params)
    >>> grads = jax.grad(lambda p: jnp.sum(p**2) * jo.loss_scale(state))(params)
    >>> updates, state = tx.update(grads, state, params)
    """
    name = "loss_scaling"
    pair, period = as_transformation(name, "tx", tx, lands=True), check_period(name, "period", period)
    errors.check_number(name, "init_scale", init_scale, POSITIVE)
    specs = {"factor": (factor, GROWTH), "max_scale": (max_scale, POSITIVE), "min_scale": (min_scale, POSITIVE)}
    whole = f"{name}({name_of(pair)})"

    def init(params: Params, **problem: Any) -> LossScalingState:
        scale = jnp.array(init_scale, jnp.float32)  # a copy: the state may be donated
        return LossScalingState(scale, zero_count(), zero_count(), pair.init(params, **problem))

    def update(
        updates: Updates, state: LossScalingState, params: Params = None, *, h: Scalars, **extra: Any
    ) -> tuple[Updates, LossScalingState]:
        c, n = state.loss_scale, next_count(state.finite_count)
        finite = jnp.ones((), bool)
        for g in jax.tree.leaves(tree.floating_only(updates)):
            finite &= jnp.all(jnp.isfinite(_unscaled(g, c)))
        none = no_steps(updates, params, method_of(pair).lands)
        steps, new = run_if(finite, _of_scaled(pair, c), updates, state.inner_state, params, extra, none)
        factor, most, least = (x.astype(c.dtype) for x in (h.factor, h.max_scale, h.min_scale))
        grows = finite & (n >= period)
        after = jnp.where(grows, jnp.minimum(c * factor, most), c)
        return steps, LossScalingState(
            jnp.where(finite, after, jnp.maximum(c / factor, least)),
            jnp.where(finite & ~grows, n, zero_count()),
            jnp.where(finite, state.total_skipped, next_count(state.total_skipped)),
            new,
        )

    pair_ = transform(whole, init, update, state_type=LossScalingState, hypers=specs, own=None, any_leaf=True)
    _check_bounds(name, init_scale, min_scale, max_scale)
    return with_record(pair_, lands=method_of(pair).lands)


def _check_bounds(name: str, start: Any, least: Any, most: Any) -> None:
    """Numbers that are known are in order."""
    known = [x for x in (least, start, most) if not callable(x) and not isinstance(x, jax.core.Tracer)]
    if any(float(a) > float(b) for a, b in itertools.pairwise(known)):
        say(HyperparameterError, name, "min_scale <= init_scale <= max_scale must hold", f"{known}",
            "Give other bounds, or another start")  # fmt: skip


def _of_scaled(pair: GradientTransformation, c: Array) -> GradientTransformation:
    """The transformation for gradients that are c times too large: divided where they are needed, without a copy."""

    def update(g: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        return pair.update(jax.tree.map(lambda x: _unscaled(x, c), g), state, params, **extra)

    return make_transformation(method_of(pair), pair.init, update)


def _unscaled(g: Any, c: Array) -> Any:
    """g / c, in float32 at least; what is no floating number as it is."""
    if not tree.is_floating(g):
        return g
    wide = tree.compute_dtype(tree.dtype_of(g))
    return jnp.asarray(g, wide) / c.astype(real_dtype(wide))


def loss_scale(state: State) -> Array:
    """What a loss is to be multiplied by before its gradient goes to `loss_scaling`.

    c of the one LossScalingState in the state

    state: of a transformation with one loss_scaling in it, wherever: in a chain, in groups, in MultiSteps.

    Returns float32[]. Raises StateError if there is none, or more than one. Source: Micikevicius et al. 2018,
    arXiv:1710.03740. Not for the value that is logged, or given to update: that is the loss itself.

    >>> tx = jo.loss_scaling(jo.adamw(1e-3))
    >>> float(jo.loss_scale(tx.init(jnp.ones(2))))
    32768.0
    """

    def holds(node: Any) -> bool:
        return isinstance(node, LossScalingState)

    found = [node for node in jax.tree.leaves(state, is_leaf=holds) if holds(node)]
    if len(found) != 1:
        say(StateError, "loss_scale", "the state must hold one LossScalingState", f"{len(found)} of them",
            "Put loss_scaling around the whole optimizer, and give the state that its init or update returned"
            )  # fmt: skip
    scale: Array = found[0].loss_scale
    return scale
