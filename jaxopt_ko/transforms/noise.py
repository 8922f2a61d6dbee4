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
    """Gaussian noise that fades, added to what passes.

    u = g + sqrt(eta / t**gamma) N(0, 1), t = 1, 2, …

    eta: variance at the first step, in the units of g squared, >= 0; 0.01, 0.3 or 1 in the paper.
    gamma: how fast it fades, a finite number; 0.55 in the paper.
    key: a PRNG key, typed or raw, or an integer seed; None: the seed 0, with a warning, as the noise is then the same
        in every run.
    seed: the deprecated name of key.

    State: a count and a key, nothing a parameter. Raises HyperparameterError, when made, for eta < 0 or for both key
    and seed; HyperparameterTypeError for no key. Source: Neelakantan et al. 2015, arXiv:1511.06807, section 3. Not for
    privacy: `differentially_private_aggregate`.

    >>> tx = jo.chain(jo.add_noise(0.01, 0.55, key=0), jo.sgd(0.1))
    >>> state = tx.init(jnp.ones(2))
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
