"""MARS: any method, of gradients with less variance. Yuan et al. 2024, arXiv:2411.10438, Algorithm 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import method_of, name_of, with_record
from jaxopt_ko.core.numerics import length, or_one
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, THRESHOLD
from jaxopt_ko.types import GradientTransformation, Hyper, Params, PyTree, State, Updates


class MarsGradientState(NamedTuple):
    """What `mars` keeps of gradients."""

    count: Array  # int32[]             t, steps taken
    last: Updates  # like params, f32+  g of the step before; 0 at first


class MarsState(NamedTuple):
    """State of `mars`."""

    gradient_state: MarsGradientState  # g of the step before, and the count
    inner_state: State  # of the inner transformation


@options
def mars(
    inner: GradientTransformation,
    b1: Hyper = 0.95,
    gamma: Hyper = 0.025,
    max_norm: Hyper = 1.0,
    *,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """An optimizer that is given gradients corrected by what they changed since the step before.

    c = g_t + gamma b1 / (1 - b1) (g_t - g_{t-1})       g_0 = 0
    c = c min(1, max_norm / |c|)                        of each leaf
    u = inner(c)

    inner: any optimizer or direction with a mean of gradients: adamw, lion, muon.
    b1: the decay of that mean, in [0, 1); 0.95 as of the paper's AdamW.
    gamma: how much is corrected, >= 0; 0.025 is the authors', 1 would be STORM's.
    max_norm: the longest c of a leaf, > 0; infinity: as it is.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own norm.

    update(…, previous_gradient=tree): the gradient of this batch at the parameters of the step before, for g_{t-1}:
    the paper's exact form, with two gradients a step. Without it g_{t-1} is the one of the step before.

    State: 4 bytes a parameter beside inner's. The first step's c is (1 + gamma b1 / (1 - b1)) g, as in the authors'
    code; in their paper it is g.

    Raises HyperparameterError, when made, for numbers outside their domains; TransformationError if inner is none;
    TreeError, when traced, for a previous_gradient unlike the gradients. Source: Yuan et al. 2024, arXiv:2411.10438,
    Algorithm 1 with section 3.3's approximation. Not around a method without momentum: the correction is noise there.

    >>> tx = jo.mars(jo.adamw(3e-3, b1=0.95, b2=0.99), b1=0.95)
    >>> state = tx.init(jnp.ones(2))
    """
    pair = as_transformation("mars", "inner", inner, lands=True)
    name = f"mars({name_of(pair)})"

    def start(p: Array) -> Memory:
        return (wide_like(p),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"by": h.gamma * h.b1 / (1 - h.b1)}

    def rule(g: Array, p: None, last: Array, h: Scalars) -> Step:
        c = g + h.by * (g - last)
        size = length(c)
        return jnp.where(size > h.max_norm, h.max_norm * (c / or_one(size)), c), g

    hypers = {"b1": (b1, FRACTION), "gamma": (gamma, NONNEGATIVE), "max_norm": (max_norm, THRESHOLD)}
    corrected = leafwise(
        "mars", MarsGradientState, init=start, rule=rule, shared=shared, hypers=hypers, stack_axes=stack_axes
    )

    def init(params: Params, **problem: Any) -> MarsState:
        return MarsState(corrected.init(params), pair.init(params, **problem))

    def update(
        updates: Updates, state: MarsState, params: Params = None, *, previous_gradient: Updates = None, **extra: Any
    ) -> tuple[Updates, MarsState]:
        own = state.gradient_state
        if previous_gradient is not None:
            check_same_trees(name, "previous_gradient", previous_gradient, "gradients", updates)
            own = own._replace(last=jax.tree.map(_as, previous_gradient, own.last))
        c, own = corrected.update(updates, own)
        u, inner_state = pair.update(c, state.inner_state, params, **extra)
        return u, MarsState(own, inner_state)

    return with_record(transform(name, init, update, state_type=MarsState), lands=method_of(pair).lands)


def _as(g: Array, last: Array) -> Array:
    return jnp.asarray(g).astype(last.dtype)
