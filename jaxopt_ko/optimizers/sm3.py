"""SM3. Anil, Gupta, Koren & Singer 2019, arXiv:1901.11150, Algorithm SM3-II."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import summed, wide_like
from jaxopt_ko.errors import NONNEGATIVE, UNIT, check_hyper
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import GradientTransformation, Hyper, PyTree, Updates


@quantizable(signed=("nu",))
class ScaleBySM3State(NamedTuple):
    """State of `scale_by_sm3`."""

    mu: Updates  # list a leaf, f32+  for each axis float[its length], the largest v across the others
    nu: Updates  # like params, f32+  m_t, mean of what is left of g


@options
def scale_by_sm3(
    b1: Hyper = 0.9, b2: Hyper = 1.0, eps: Hyper = 1e-8, *, stack_axes: PyTree = 0
) -> GradientTransformation:
    """AdaGrad that remembers of its sums one bound a row and one a column; mean of its steps.

    v     = min over axes a of mu_a + g**2    b2 < 1: b2 min + (1 - b2) g**2
    mu_a  = max of v over the other axes
    m_t   = b1 m + (1 - b1) g / sqrt(v + eps)
    u     = m_t

    A vector has one axis, and is AdaGrad's; a scalar is a vector of one.

    b1: decay of m, in [0, 1]: it remembers about 1 / (1 - b1) steps.
    b2: decay of the bounds, in [0, 1]; the paper's 1, a sum that forgets nothing.
    eps: added under the root, >= 0: it bounds the step where gradients vanish.
    stack_axes: leading axes of a leaf that count leaves of one shape, and bound nothing: an integer, or a tree of them.

    State: m, 4 bytes a parameter, and 4 bytes for each row and each column: 8 a parameter of vectors.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for complex leaves.
    Source: Anil, Gupta, Koren & Singer 2019, arXiv:1901.11150, Algorithm SM3-II.
    Not for long runs with b2=1: the steps only shrink.

    >>> rule = jo.scale_by_sm3()
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    >>> [bound.shape for bound in state.mu["w"]]
    [(3,), (5,)]
    """

    def init(p: Array) -> Memory:
        axes = range(np.ndim(p))
        return [wide_like(summed(p, _others(a, len(axes)))) for a in axes] or [wide_like(p)], wide_like(p)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"weight": jnp.where(h.b2 < 1, 1 - h.b2, jnp.ones_like(h.b2))}

    def rule(g: Array, p: Array, mu: list[Array], m: Array, h: Scalars) -> Step:
        n = g.ndim
        bounds = [jnp.expand_dims(b, _others(a, n)) for a, b in enumerate(mu)]
        v = h.b2 * functools.reduce(jnp.minimum, bounds) + h.weight * g * g
        mu = [jnp.max(v, _others(a, n), initial=0) for a in range(n)] or [v]
        m = h.b1 * m + (1 - h.b1) * ratio(g, safe_sqrt(v + h.eps))
        return m, mu, m

    hypers = {"b1": (b1, UNIT), "b2": (b2, UNIT), "eps": (eps, NONNEGATIVE)}
    return leafwise(
        "scale_by_sm3",
        ScaleBySM3State,
        init=init,
        shared=shared,
        rule=rule,
        hypers=hypers,
        stack_axes=stack_axes,
        real=True,
    )


def _others(axis: int, ndim: int) -> tuple[int, ...]:
    return tuple(a for a in range(ndim) if a != axis)


@recipe
def sm3(learning_rate: Hyper, momentum: Hyper = 0.9, *, stack_axes: PyTree = 0) -> GradientTransformation:
    """The step -lr m_t of `scale_by_sm3`: as AdaGrad for large embeddings, with the memory of momentum.

    v   = min over axes a of mu_a + g**2;   mu_a = max of v over the other axes
    m_t = momentum m + (1 - momentum) g / sqrt(v + eps),   eps = 1e-8

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    momentum: decay of m, in [0, 1]: it remembers about 1 / (1 - momentum) steps; the paper's 0.9.
    stack_axes: leading axes of a leaf that count leaves of one shape, and bound nothing: an integer, or a tree of them.

    State: m, 4 bytes a parameter, and 4 bytes for each row and each column: 8 a parameter of vectors.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for complex leaves.
    Source: Anil, Gupta, Koren & Singer 2019, arXiv:1901.11150, Algorithm SM3-II.
    Not for long runs without a warm start of the learning rate: as AdaGrad's, its steps shrink for good.

    >>> opt = jo.sm3(jo.warmup_constant_schedule(0.0, 0.1, 100))
    >>> state = opt.init({"embedding": jnp.ones((7, 3))})
    """
    check_hyper("sm3", "momentum", momentum, UNIT)
    return chain(scale_by_sm3(momentum, stack_axes=stack_axes), scale_by_learning_rate(learning_rate))
