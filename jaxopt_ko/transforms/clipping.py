"""Bounds on an update: by value, by the norm of each leaf, by the norm of all."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko import tree
from jaxopt_ko.compose import leafwise
from jaxopt_ko.errors import THRESHOLD
from jaxopt_ko.lift import Scalars
from jaxopt_ko.transforms.scaling import ScaleByScheduleState
from jaxopt_ko.types import GradientTransformation, Hyper, Updates


def clip(max_delta: Hyper) -> GradientTransformation:
    """Each element into [-max_delta, max_delta]; it changes the direction, unlike clipping by norm."""

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return jnp.clip(g, -h.max_delta, h.max_delta)

    return leafwise("clip", ScaleByScheduleState, rule=rule, hypers={"max_delta": (max_delta, THRESHOLD)})


def clip_by_norm(max_norm: Hyper) -> GradientTransformation:
    """u = g min(1, max_norm / |g|), with |g| the Euclidean norm of each leaf by itself."""

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return _shrink(tree.global_norm(g), h.max_norm) * g

    return leafwise("clip_by_norm", ScaleByScheduleState, rule=rule, hypers={"max_norm": (max_norm, THRESHOLD)})


def clip_by_global_norm(max_norm: Hyper) -> GradientTransformation:
    """u = g min(1, max_norm / |g|), with |g| the Euclidean norm of all leaves as one vector.

    The norm is taken in float32 at least, so that float16 gradients do not overflow it. Pascanu et al. 2013,
    arXiv:1211.5063, Algorithm 1.
    """

    def norm(updates: Updates, h: Scalars) -> dict[str, Array]:
        return {"shrink": _shrink(tree.global_norm(updates).astype(h.max_norm.dtype), h.max_norm)}

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return h.shrink * g

    hypers = {"max_norm": (max_norm, THRESHOLD)}
    return leafwise("clip_by_global_norm", ScaleByScheduleState, rule=rule, reduce=norm, hypers=hypers)


def _shrink(norm: Array, max_norm: Array) -> Array:
    """min(1, max_norm / norm), and 1 for a norm of 0; NaN for NaN, which must not pass unseen."""
    within = norm <= max_norm
    return jnp.where(within, jnp.ones_like(norm), max_norm / jnp.where(within, jnp.ones_like(norm), norm))
