"""Differential privacy. Abadi et al. 2016, arXiv:1607.00133, Algorithm 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.basic import identity
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.checks import check_leaves
from jaxopt_ko.core.hyperparameters import HyperparameterReader, as_state, checked, step_hyperparameters
from jaxopt_ko.core.method import make_transformation, recipe
from jaxopt_ko.core.numerics import or_one, safe_sqrt
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE
from jaxopt_ko.transforms.clipping import check_examples
from jaxopt_ko.transforms.momentum import trace
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import GradientTransformation, Hyper, Params, State, Updates


class DifferentiallyPrivateAggregateState(NamedTuple):
    """State of `differentially_private_aggregate`."""

    rng_key: Array  # a PRNG key, new at each step


def differentially_private_aggregate(
    l2_norm_clip: Hyper, noise_multiplier: Hyper, key: Array | int | None = None, *, seed: int | None = None
) -> GradientTransformation:
    """The noisy mean of the gradients g_i of B examples, each of norm l2_norm_clip = C at most.

    u = (sum_i g_i min(1, C / |g_i|) + C noise_multiplier N(0, 1)) / B

    l2_norm_clip: C, the largest norm of an example's gradient over all leaves, in its units, > 0.
    noise_multiplier: standard deviation of the noise over C, >= 0; the privacy that it gives is for an accountant to
        say.
    key: a PRNG key, typed or raw, or an integer seed.
    seed: the deprecated name of key.

    State: a key, nothing a parameter. The updates that go in have the examples as first axis (jax.vmap of a gradient),
    and those that come out do not. Sum and noise are in float32 at least, and no square overflows.

    Raises HyperparameterTypeError, when made, without a key: noise that is known protects nobody; HyperparameterError
    for numbers outside their domain, or for both key and seed; TreeError, when traced, for leaves without examples.
    Source: Abadi et al. 2016, arXiv:1607.00133, Algorithm 1. Not within `MultiSteps`, nor behind anything in a chain:
    it is to be the first.

    >>> tx = jo.chain(jo.differentially_private_aggregate(1.0, 1.1, key=0), jo.sgd(0.1))
    >>> state = tx.init(jnp.ones(2))
    """
    name = "differentially_private_aggregate"
    hypers = {"l2_norm_clip": (l2_norm_clip, POSITIVE), "noise_multiplier": (noise_multiplier, NONNEGATIVE)}
    clock = HyperparameterReader(name, checked(name, hypers))
    start = errors.check_key(name, errors.key_or_seed(name, key, seed))

    def init(params: Params) -> State:
        check_leaves(name, "params", params)
        return clock.start(DifferentiallyPrivateAggregateState(jnp.copy(start)))  # a copy: the state may be donated

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        outer, given = clock.open(state)
        own = as_state(name, given, DifferentiallyPrivateAggregateState)
        step = step_hyperparameters(clock.read(outer, own))
        check_leaves(name, "gradients", updates)
        leaves, treedef = tree.flatten(updates)
        c, z = step.values["l2_norm_clip"], step.values["noise_multiplier"]
        rng_key, *keys = jax.random.split(own.rng_key, 1 + len(leaves))
        shares = _shares(name, leaves, c) if leaves else None
        steps = [_noisy_mean(g, shares, c * z, k) for g, k in zip(leaves, keys, strict=True)]
        return treedef.unflatten(steps), clock.close(outer, step, DifferentiallyPrivateAggregateState(rng_key))

    return make_transformation(name, init, update)


@recipe
def dpsgd(
    learning_rate: Hyper,
    l2_norm_clip: Hyper,
    noise_multiplier: Hyper,
    seed: int | Array,
    momentum: Hyper | None = None,
    nesterov: bool = False,
) -> GradientTransformation:
    """SGD on the noisy mean of clipped gradients of single examples.

    u = -learning_rate velocity(the mean of `differentially_private_aggregate`)

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    l2_norm_clip: C, the largest norm of an example's gradient over all leaves, in its units, > 0.
    noise_multiplier: standard deviation of the noise over C, >= 0.
    seed: a PRNG key, typed or raw, or an integer seed.
    momentum: the weight of the past in the velocity, in [0, 1]; None: no velocity and no memory of it.
    nesterov: take the velocity one gradient ahead, as Nesterov does.

    State: a key; with momentum 4 bytes a parameter. The gradients that go in have the examples as first axis.

    Raises what `differentially_private_aggregate` raises; HyperparameterError for a rate or momentum outside its
    domain. Source: Abadi et al. 2016, arXiv:1607.00133, Algorithm 1. Not with the gradient of a mean loss: take
    jax.vmap(jax.grad(loss), (None, 0)).

    >>> tx = jo.dpsgd(0.1, l2_norm_clip=1.0, noise_multiplier=1.1, seed=0)
    >>> state = tx.init(jnp.ones(2))
    """
    aggregate = differentially_private_aggregate(l2_norm_clip, noise_multiplier, seed)
    if momentum is not None:
        errors.check_hyper("dpsgd", "momentum", momentum, errors.UNIT)
    velocity = identity() if momentum is None else trace(momentum, nesterov)
    return chain(aggregate, velocity, scale_by_learning_rate(learning_rate))


def _shares(name: str, leaves: list[Array], c: Array) -> Array:
    """float[B]: min(1, C / |g_i|) of each example; its largest element is divided out before squaring."""
    check_examples(name, leaves)
    wide = tree.compute_dtype(*(g.dtype for g in leaves))
    flat = [placement.foldable(g, [(0,), range(1, g.ndim)]) for g in leaves]
    rows = [jnp.abs(g.reshape(g.shape[0], -1).astype(wide)) for g in flat]
    top = jnp.stack([jnp.max(row, axis=1, initial=0.0) for row in rows]).max(axis=0)
    unit = or_one(top)
    r = safe_sqrt(sum(jnp.sum(jnp.square(row / unit[:, None]), axis=1) for row in rows))  # |g_i| = unit r
    one, c = jnp.ones_like(r), c.astype(wide)
    within = unit * r <= c
    return jnp.where(within, one, c / unit / jnp.where(within, one, r))


@jax.jit
def _noisy_mean(g: Array, shares: Array, sigma: Array, key: Array) -> Array:
    wide = tree.compute_dtype(g.dtype)
    total = jnp.tensordot(shares.astype(wide), g.astype(wide), axes=1)
    return ((total + sigma.astype(wide) * jax.random.normal(key, total.shape, wide)) / g.shape[0]).astype(g.dtype)
