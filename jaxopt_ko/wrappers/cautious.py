"""Cautious steps: only where they agree with the gradient. Liang et al. 2024, arXiv:2411.16085, Algorithm 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import numerics
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.method import name_of
from jaxopt_ko.core.numerics import or_one
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, Params, PyTree, State, Updates


class CautiousState(NamedTuple):
    """State of `cautious`."""

    inner_state: State  # of the inner transformation
    mask_state: State  # EmptyState(); under a schedule its count


@options
def cautious(
    inner: GradientTransformation,
    eps: Hyper = 1e-3,
    *,
    xi: Hyper | None = None,
    direction: bool = False,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The steps of a transformation, with zeros where they go against the gradient; the other elements are scaled up.

    phi = [u goes against g]                   element by element
    u   <- phi u / max(mean(phi), eps)         the authors' code
    u   <- phi u dim(u) / (sum(phi) + xi)      their paper, where xi is given

    inner: an optimizer, whose steps go against g where u g < 0; with direction=True a direction, put before its
        learning rate, where u g > 0.
    eps: the least mean of phi that is divided by, >= 0; 1e-3, so that no element grows more than a thousandfold.
    xi: >= 0, 1 in the paper; None: the authors' code. dim, sum and mean are those of each leaf.
    direction: is inner a direction? With it, the paper's weight decay stands behind the mask.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own mean.

    State: that of inner, and nothing more; a count where eps or xi is a schedule. Where no element agrees the step is
    zero.

    Raises HyperparameterError, when made, for negative numbers; TransformationError if inner is none. Source: Liang et
    al. 2024, arXiv:2411.16085, Algorithm 1. Not for methods without momentum: all their elements agree.

    >>> decay, step = jo.add_decayed_weights(0.1), jo.scale_by_learning_rate(1e-3)
    >>> tx = jo.chain(jo.cautious(jo.scale_by_adam(), direction=True), decay, step)
    >>> state = tx.init(jnp.ones(2))
    """
    pair = as_transformation("cautious", "inner", inner)
    name, by_count = f"cautious({name_of(pair)})", xi is not None

    def rule(u: Array, g: Array, h: Scalars) -> Array:
        agreement = numerics.inner(jnp.sign(u), jnp.sign(g))
        phi = (agreement > 0 if direction else agreement < 0).astype(numerics.real_dtype(u.dtype))
        kept, size = jnp.sum(phi), max(u.size, 1)
        share = (kept + h.xi) / size if by_count else jnp.maximum(kept / size, h.eps)
        return phi * u / or_one(share)

    hypers = {"eps": (eps, NONNEGATIVE), **({} if xi is None else {"xi": (xi, NONNEGATIVE)})}
    mask = leafwise("cautious", EmptyState, rule=rule, hypers=hypers, needs_params=True, stack_axes=stack_axes)

    def init(params: Params, **problem: Any) -> CautiousState:
        return CautiousState(pair.init(params, **problem), mask.init(params))

    def update(
        updates: Updates, state: CautiousState, params: Params = None, **extra: Any
    ) -> tuple[Updates, CautiousState]:
        u, inner_state = pair.update(updates, state.inner_state, params, **extra)
        check_same_trees(name_of(pair), "updates", u, "gradients", updates)
        u, mask_state = mask.update(u, state.mask_state, updates)  # the rule's p is the gradient
        return u, CautiousState(inner_state, mask_state)

    return transform(name, init, update, state_type=CautiousState)
