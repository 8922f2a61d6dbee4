"""Updates of one length, all leaves taken as one vector: stacked leaves and separate ones are the same here."""

from __future__ import annotations

from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.numerics import quotient
from jaxopt_ko.errors import FINITE, NONNEGATIVE
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, Updates


def normalize() -> GradientTransformation:
    """u = g / |g|, with |g| the Euclidean norm of all leaves; 0 for a gradient of 0, where optax divides by it."""

    def norm(updates: Updates, h: Scalars) -> dict[str, Array]:
        return {"norm": tree.global_norm(updates)}

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return quotient(g, h.norm)

    return leafwise("normalize", EmptyState, rule=rule, reduce=norm)


def normalize_by_update_norm(
    scale_factor: Hyper = 1.0, eps: Hyper = 1e-6, *, axis_name: tree.AxisName = None
) -> GradientTransformation:
    """u = scale_factor g / (|g| + eps), with |g| the Euclidean norm of all leaves; axis_name: as of `global_norm`.

    axis_name: a mapped axis of jax.vmap or jax.shard_map to reduce over, or several; None: none.
    """

    def norm(updates: Updates, h: Scalars) -> dict[str, Array]:
        return {"norm": tree.global_norm(updates, axis_name=axis_name).astype(h.eps.dtype) + h.eps}

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return h.scale_factor * quotient(g, h.norm)

    hypers = {"scale_factor": (scale_factor, FINITE), "eps": (eps, NONNEGATIVE)}
    return leafwise("normalize_by_update_norm", EmptyState, rule=rule, reduce=norm, hypers=hypers)
