"""Hyperball: weights stay on the sphere where they began, and steps are as long as its radius times the rate.

Wen, Dang, Lyu, Ma & Liang 2026, arXiv:2606.16899; first 2025, whenwen.github.io/wd_blog/public/hyperball-part-1.html.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.numerics import length, or_one
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_copy
from jaxopt_ko.errors import NONNEGATIVE
from jaxopt_ko.types import GradientTransformation, Hyper, Params, PyTree


class HyperballState(NamedTuple):
    """State of `hyperball`."""

    radius: Params  # float[…] f32+ of each leaf  R, its length at the start


@options
def hyperball(learning_rate: Hyper, *, flip_sign: bool = True, stack_axes: PyTree = 0) -> GradientTransformation:
    """The step that keeps a leaf's length R and turns it by an angle that the learning rate alone decides.

    W <- R Norm(W - learning_rate R Norm(g)),   Norm(x) = x / |x|, |x| the Frobenius norm;   W stays where g is 0

    learning_rate: the step as a part of the weights, >= 0: 0.01 is 1 % of their length a step.
    flip_sign: True: g is a direction of ascent, before any learning rate. False: it stands behind a whole optimizer,
        whose steps go downhill; of these it takes the direction alone.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own sphere.

    State: 4 bytes a leaf, R, that of the parameters that init gets. Needs params. It stands in the place of
    `scale_by_learning_rate` and of weight decay: behind `scale_by_adam` it is the paper's AdamH, behind `scale_by_muon`
    MuonH.

    Raises HyperparameterError, when made, for a negative rate; MissingArgumentError, when traced, without params.
    Source: Wen, Dang, Lyu, Ma & Liang 2026, arXiv:2606.16899. Not for leaves that begin at zero, for these stay there,
    nor for norms, biases and embeddings: give these to another method by `partition`.

    >>> tx = jo.chain(jo.scale_by_adam(), jo.hyperball(0.01))
    >>> state = tx.init(jnp.ones((2, 2)))
    """

    def init(p: Array) -> Memory:
        return (length(wide_copy(p)),)

    def rule(g: Array, W: Array, R: Array, h: Scalars) -> Step:
        g_norm = length(g)
        turned = W - (h.learning_rate if flip_sign else -h.learning_rate) * R * (g / or_one(g_norm))
        step = R * (turned / or_one(length(turned))) - W
        return jnp.where(g_norm > 0, step, jnp.zeros_like(step)), R

    hypers = {"learning_rate": (learning_rate, NONNEGATIVE)}
    return leafwise(
        "hyperball", HyperballState, init=init, rule=rule, hypers=hypers, needs_params=True, stack_axes=stack_axes
    )
