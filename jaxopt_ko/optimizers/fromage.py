"""Fromage. Bernstein, Vahdat, Yue & Liu 2020, arXiv:2002.03432, Algorithm 1."""

from __future__ import annotations

from jax import Array

from jaxopt_ko.compose.basic import identity
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import safe_sqrt
from jaxopt_ko.errors import NONNEGATIVE
from jaxopt_ko.transforms.trust_ratio import scale_by_trust_ratio
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, PyTree


@recipe
def fromage(learning_rate: Hyper, min_norm: Hyper = 1e-6, *, stack_axes: PyTree = 0) -> GradientTransformation:
    """Each leaf turned by an angle, atan(lr), towards -g: no other hyperparameter, and the weights do not grow.

    p_t = (p - lr |p| / |g| g) / sqrt(1 + lr**2)

    Norms are over a leaf, or over each of those it stacks.

    learning_rate: tangent of the angle: a number, an array (traced too) or a schedule of the step, >= 0; the paper's
        0.01.
    min_norm: the least that norms are taken for, >= 0: leaves that start at 0 can leave it.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: none.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Bernstein, Vahdat, Yue & Liu 2020, arXiv:2002.03432, Algorithm 1.
    Not for leaves that start at 0, which grow from min_norm on only; nor without a rate that falls: it never rests.

    >>> opt = jo.fromage(jo.exponential_decay(0.01, 1000, 0.9))
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    return chain(scale_by_trust_ratio(min_norm, stack_axes=stack_axes), _turn(learning_rate), identity())


def _turn(learning_rate: Hyper) -> GradientTransformation:
    """The step from p to p_t, with |p| / |g| g for g."""

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        root = safe_sqrt(1 + h.learning_rate * h.learning_rate)
        return {"shrink": h.learning_rate * h.learning_rate / (root * (1 + root)), "rate": h.learning_rate / root}

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return -h.rate * g - h.shrink * p  # shrink = 1 - 1 / root

    hypers = {"learning_rate": (learning_rate, NONNEGATIVE)}
    return leafwise("fromage", EmptyState, rule=rule, shared=shared, hypers=hypers, needs_params=True)
