"""Gradient noise. Neelakantan et al. 2015, arXiv:1511.06807, section 3."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.numerics import safe_sqrt, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FINITE, NONNEGATIVE
from jaxopt_ko.types import GradientTransformation, Hyper, Params, Updates


class AddNoiseState(NamedTuple):
    """State of `add_noise`."""

    count: Array  # int32[]  t, steps taken
    rng_key: Array  # a PRNG key, new at each step


def add_noise(
    eta: Hyper, gamma: Hyper, key: Array | int | None = None, *, seed: int | None = None
) -> GradientTransformation:
    """u = g + noise of mean 0 and variance eta / t**gamma, t = 1, 2, …

    eta: 0.01, 0.3 or 1 in the paper; gamma: 0.55; key: a JAX PRNG key or an integer seed, 0 with a warning if there is
    none; seed: the deprecated name of key. Raises HyperparameterError for eta < 0.
    key: a PRNG key, typed or raw, or an integer seed.
    """
    start = errors.check_key("add_noise", errors.key_or_zero("add_noise", key, seed))

    def init(params: Params) -> AddNoiseState:
        return AddNoiseState(zero_count(), jnp.copy(start))  # a copy: the state may be donated

    def update(
        updates: Updates, state: AddNoiseState, params: Params = None, *, h: Scalars
    ) -> tuple[Updates, AddNoiseState]:
        sigma = safe_sqrt(h.eta / h.t.astype(h.eta.dtype) ** h.gamma)
        rng_key, *keys = jax.random.split(state.rng_key, 1 + len(jax.tree.leaves(updates)))
        leaves, treedef = tree.flatten(updates)
        noisy = [_add_normal(g, k, sigma) for g, k in zip(leaves, keys, strict=True)]
        return treedef.unflatten(noisy), AddNoiseState(h.t, rng_key)

    hypers = {"eta": (eta, NONNEGATIVE), "gamma": (gamma, FINITE)}
    return transform("add_noise", init, update, state_type=AddNoiseState, hypers=hypers)


@jax.jit
def _add_normal(g: Array, key: Array, sigma: Array) -> Array:
    wide = tree.compute_dtype(g.dtype)
    return (g.astype(wide) + sigma.astype(wide) * jax.random.normal(key, g.shape, wide)).astype(g.dtype)
