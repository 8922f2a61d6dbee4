"""Gradients clipped where their norm stands out from the norms before: the bound follows the run.

ZClip: Kumar et al. 2025, arXiv:2504.02507. AdaGC: Wang et al. 2025, arXiv:2502.11034, Algorithm 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.compose.conditional import either
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_period
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.numerics import divided, length, next_count, real_dtype, safe_sqrt, scalar_dtype, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import LIMIT, NONNEGATIVE, POSITIVE, UNIT
from jaxopt_ko.types import GradientTransformation, Hyper, Params, PyTree, Updates


class ZclipState(NamedTuple):
    """State of `zclip`."""

    count: Array  # int32[]      t, steps with a finite norm
    mean: Array  # float[]       mu_t, mean of the norms after clipping
    variance: Array  # float[]   s_t, their variance
    z: Array  # float[]          of the last gradient, how many deviations it was above the mean; 0 in the warm-up
    clipped: Array  # int32[]     gradients made shorter, in all
    not_finite: Array  # int32[]  gradients that were not finite, and passed as they were


@options
def zclip(
    decay: Hyper = 0.97,
    z_threshold: Hyper = 2.5,
    warmup: int | Array = 25,
    *,
    eps: Hyper = 1e-6,
    axis_name: tree.AxisName = None,
) -> GradientTransformation:
    """All leaves made shorter together where their joint norm is many deviations above the norms before.

    z = (|g| - mu) / (sqrt(s) + eps);   c = mu + z_threshold**2 sqrt(s) / z  where z > z_threshold, else |g|
    u = g c / |g|
    mu <- decay mu + (1 - decay) c;   s <- decay s + (1 - decay) (c - mu)**2,  with the new mu

    The first `warmup` gradients pass as they are; mu and s start as the mean and the variance of their norms.

    decay: of mean and variance, in [0, 1]; 0.97, as in the paper, remembers about 33 steps.
    z_threshold: deviations above the mean from which on a gradient is clipped, > 0; 2.5 as in the paper. The further
        above, the shorter it becomes: towards mu itself.
    warmup: gradients whose norms start the statistics, an integer >= 1; 25 as in the paper.
    eps: added to the deviation, in the units of |g|, >= 0: where all norms were the same, z is not 1 / 0.
    axis_name: within `jax.shard_map`, the axes that every leaf is cut along; see `global_norm`. None: none.

    State: 24 bytes. A gradient with an infinity or NaN passes as it is, so that it is seen, and leaves the statistics
    alone: put `apply_if_finite` or `skip_spikes` around the chain. `diagnose.skips` reads what was clipped.

    Raises HyperparameterError, when made, for numbers outside their domain. Source: Kumar et al. 2025,
    arXiv:2504.02507; bluorion-com/ZClip, whose max_grad_norm is a `clip_by_global_norm` behind it, which also is what
    bounds the warm-up. Not for batches whose gradients are heavy-tailed by nature: it clips what is no fault.

    >>> tx = jo.chain(jo.zclip(), jo.clip_by_global_norm(1.0), jo.adamw(1e-3))
    >>> state = tx.init(jnp.ones(2))
    """
    steps = check_period("zclip", "warmup", warmup)
    hypers = {"decay": (decay, UNIT), "z_threshold": (z_threshold, POSITIVE), "eps": (eps, NONNEGATIVE)}

    def init(params: Params) -> ZclipState:
        mean, variance, z = (jnp.zeros((), scalar_dtype()) for _ in range(3))
        return ZclipState(zero_count(), mean, variance, z, zero_count(), zero_count())

    def update(
        updates: Updates, state: ZclipState, params: Params = None, *, h: Scalars, **_: Any
    ) -> tuple[Updates, ZclipState]:
        norm = tree.global_norm(tree.floating_only(updates), axis_name=axis_name).astype(state.mean.dtype)
        finite, t = jnp.isfinite(norm), next_count(state.count)
        starting = t <= steps
        sd = safe_sqrt(state.variance)
        z = (norm - state.mean) / jnp.where(starting, jnp.ones_like(sd), sd + h.eps)
        high = finite & ~starting & (z > h.z_threshold)
        bound = state.mean + h.z_threshold * sd * (h.z_threshold / jnp.where(high, z, jnp.ones_like(z)))
        c = jnp.where(high, bound, norm)
        keep = jnp.where(starting, (t - 1).astype(c.dtype) / t.astype(c.dtype), h.decay)
        mean = keep * state.mean + (1 - keep) * c
        apart = jnp.where(starting, (c - state.mean) * (c - mean), (c - mean) ** 2)
        variance = keep * state.variance + (1 - keep) * apart
        one = jnp.ones_like(norm)
        divisor, factor = jnp.where(high, norm, one), jnp.where(high, c, one)
        new = ZclipState(t, mean, variance, jnp.where(starting, jnp.zeros_like(z), z), state.clipped, state.not_finite)
        new = tree.where(finite, new, state)
        return jax.tree.map(lambda g: _shortened(g, divisor, factor), updates), new._replace(
            clipped=jnp.where(high, next_count(state.clipped), state.clipped),
            not_finite=jnp.where(finite, state.not_finite, next_count(state.not_finite)),
        )

    return transform("zclip", init, update, state_type=ZclipState, hypers=hypers, own=None, any_leaf=True)


def _shortened(g: Any, divisor: Array, factor: Array) -> Any:
    """g factor / divisor in float32 at least, in g's dtype; what is no floating number as it is."""
    if not tree.is_floating(g):
        return g
    wide = tree.compute_dtype(tree.dtype_of(g))
    real = real_dtype(wide)
    shorter: Array = divided(jnp.asarray(g, wide), divisor.astype(real)) * factor.astype(real)
    return shorter.astype(tree.dtype_of(g))


class AdagcState(NamedTuple):
    """State of `adagc`."""

    count: Array  # int32[]                 t, steps taken
    gamma: Updates  # float[] a leaf, f32+    gamma_t, a mean of the norms after clipping; 0 before there is one
    clipped: Updates  # float[] a leaf, f32+  gradients of the leaf made shorter, in all


@options
def adagc(
    lambda_abs: Hyper = 1.0,
    lambda_rel: Hyper = 1.05,
    decay: Hyper = 0.98,
    warmup: int | Array = 100,
    *,
    stack_axes: PyTree = 0,
    axis_name: tree.AxisName = None,
) -> GradientTransformation:
    """Each leaf's gradient made shorter where its norm is above a running mean of its own norms.

    t < warmup:  u = g min(1, lambda_abs / |G|);       gamma = min(gamma, |u|)
    later:       u = g min(1, lambda_rel gamma / |g|);   gamma = decay gamma + (1 - decay) |u|

    with |g| the norm of the leaf, |G| that of all leaves together, and gamma = |u| at the leaf's first gradient.

    lambda_abs: the largest joint norm in the warm-up, in the units of g, >= 0; infinity switches it off.
    lambda_rel: how far above gamma a norm may be, >= 0; 1.05 as in the paper. gamma can grow by
        (1 - decay) (lambda_rel - 1), one in a thousand, at a step; infinity switches clipping off.
    decay: of gamma, in [0, 1]; 0.98 as in the paper.
    warmup: the number of the first step that is clipped leaf by leaf, an integer >= 0; 100 as in the paper.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own gamma.
    axis_name: within `jax.shard_map`, the axes that every leaf is cut along; see `global_norm`. None: none. The norms
        of single leaves are then those of the whole leaves, too.

    State: 8 bytes a leaf. A gradient of 0 says nothing of a leaf's level and leaves gamma as it is (by the paper's
    letter gamma would stay 0, and the leaf with it); so does one that is not finite, which passes as it is: put
    `apply_if_finite` or `skip_spikes` around the chain. `diagnose.skips` reads what was clipped.

    Raises HyperparameterError, when made, for numbers outside their domain. Source: Wang et al. 2025, arXiv:2502.11034,
    Algorithm 1, before AdamW. Not where leaves are to keep their proportions to each other: `zclip`.

    >>> tx = jo.chain(jo.adagc(), jo.adamw(1e-3))
    >>> state = tx.init({"w": jnp.ones((3, 2))})
    """
    first = check_period("adagc", "warmup", warmup, least=0)

    def init(p: Array) -> Memory:
        one = tree.summed(p, tuple(range(np.ndim(p))))
        return tree.wide_like(one), tree.wide_like(one)

    def together(updates: Updates, h: Scalars) -> dict[str, Array]:
        warm = h.t < first
        whole = either(
            warm,
            lambda: tree.global_norm(updates, axis_name=axis_name).astype(h.decay.dtype),
            lambda: jnp.zeros((), h.decay.dtype),
        )
        return {"warm": warm.astype(h.decay.dtype), "whole": whole}

    def rule(g: Array, p: Array, gamma: Array, clipped: Array, h: Scalars) -> Step:
        own = length(g) if axis_name is None else length(jax.lax.all_gather(length(g), axis_name))
        known, warm, one = gamma > 0, h.warm > 0, jnp.ones_like(own)
        norm = jnp.where(warm, h.whole, own)
        most = jnp.where(warm, h.lambda_abs, jnp.where(known, h.lambda_rel * gamma, own))
        high = (norm > most) & jnp.isfinite(norm) & jnp.isfinite(own)
        u = divided(g, jnp.where(high, norm, one)) * jnp.where(high, most, one)
        after = jnp.where(high, own / jnp.where(high, norm, one) * most, own)
        level = jnp.where(warm, jnp.minimum(gamma, after), h.decay * gamma + (1 - h.decay) * after)
        level = jnp.where(known, level, after)
        keep = (own == 0) | ~jnp.isfinite(norm) | ~jnp.isfinite(own)
        return u, jnp.where(keep, gamma, level), clipped + high.astype(clipped.dtype)

    hypers = {"lambda_abs": (lambda_abs, LIMIT), "lambda_rel": (lambda_rel, LIMIT), "decay": (decay, UNIT)}
    return leafwise(
        "adagc",
        AdagcState,
        init=init,
        rule=rule,
        reduce=together,
        hypers=hypers,
        stack_axes=stack_axes,
        squares=("gamma", "clipped"),
    )
