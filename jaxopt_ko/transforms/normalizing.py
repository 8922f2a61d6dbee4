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
    """Updates of length 1, all leaves taken as one vector.

    u = g / |g|, with |g| the Euclidean norm of all leaves; 0 for a gradient of 0, where optax divides by it

    No state, no arguments; raises nothing of its own. Source: normalized gradient descent, Hazan, Levy & Shalev-Shwartz
    2015, arXiv:1507.02030; optax's normalize. Not near a minimum with a constant rate: steps do not get shorter as the
    gradient does.

    >>> tx = jo.normalize()
    >>> updates, _ = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.ones(2)))
    >>> [round(float(u), 6) for u in updates]
    [0.6, 0.8]
    """

    def norm(updates: Updates, h: Scalars) -> dict[str, Array]:
        return {"norm": tree.global_norm(updates)}

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return quotient(g, h.norm)

    return leafwise("normalize", EmptyState, rule=rule, reduce=norm)


def normalize_by_update_norm(
    scale_factor: Hyper = 1.0, eps: Hyper = 1e-6, *, axis_name: tree.AxisName = None
) -> GradientTransformation:
    """Updates of one length, all leaves taken as one vector.

    u = scale_factor g / (|g| + eps), with |g| the Euclidean norm of all leaves

    scale_factor: the length, a finite number of any sign; 1 by default.
    eps: added to the norm, in the units of g, >= 0: it keeps the update of a tiny gradient small.
    axis_name: within `jax.shard_map`, the axes that every leaf is cut along; see `global_norm`. None: none.

    No state. Raises HyperparameterError, when made, for numbers outside their domain. Source: optax's
    normalize_by_update_norm. Not for leaf-wise lengths: `scale_by_trust_ratio`.

    >>> tx = jo.chain(jo.normalize_by_update_norm(), jo.sgd(0.1))
    >>> state = tx.init(jnp.ones(2))
    """

    def norm(updates: Updates, h: Scalars) -> dict[str, Array]:
        return {"norm": tree.global_norm(updates, axis_name=axis_name).astype(h.eps.dtype) + h.eps}

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return h.scale_factor * quotient(g, h.norm)

    hypers = {"scale_factor": (scale_factor, FINITE), "eps": (eps, NONNEGATIVE)}
    return leafwise("normalize_by_update_norm", EmptyState, rule=rule, reduce=norm, hypers=hypers)
