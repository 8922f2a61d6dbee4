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
    """The steps of `inner`, with zeros where they go against the gradient; the other elements are scaled up.

    phi = [u goes against g]                   element by element
    u   <- phi u / max(mean(phi), eps)         the authors' code
    u   <- phi u dim(u) / (sum(phi) + xi)      their paper, where xi is given

    inner: an optimizer, whose steps go against g where u g < 0; with direction=True a direction, put before its
        learning rate, where u g > 0. The paper's weight decay stands behind the mask:
        chain(cautious(scale_by_adam(), direction=True), add_decayed_weights(wd), scale_by_learning_rate(lr)).
    xi: 1 in the paper. dim, sum and mean are those of each leaf.
    stack_axes: leading axes of a leaf that count leaves of one shape, an integer or a prefix tree.

    Where no element agrees the step is zero. Not for methods without momentum: all their elements agree.
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
