"""Torque-aware momentum: less of a gradient that pulls aside. Malviya et al. 2024, arXiv:2412.18790, Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, length, quotient
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import number_beside, wide_like
from jaxopt_ko.errors import NONNEGATIVE, UNIT
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates


@quantizable(signed=("trace",))
class ScaleByTamState(NamedTuple):
    """State of `scale_by_tam`."""

    trace: Updates  # like params, f32+        m_t, the velocity
    alignment: Updates  # float[] of each leaf  s_t, mean of the cosine between velocity and gradient


@options
def scale_by_tam(
    momentum: Hyper = 0.9,
    decay: Hyper = 0.9,
    eps: Hyper = 1e-8,
    *,
    accumulator_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The velocity, into which a gradient goes as far as gradients have lately gone along it.

    s_t = decay s + (1 - decay) cos(m, g)      of each leaf; the cosine is 0 where one of the two is
    m_t = momentum m + ((1 + s_t) / 2 + eps) g
    u   = m_t

    momentum: decay of the velocity, in [0, 1], usually 0.9.
    decay: of the mean cosine, in [0, 1]; the paper's 0.9.
    eps: added to the factor of g, >= 0, so that none is 0; the authors' 1e-8.
    accumulator_dtype: dtype of the velocity; None: float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: m, 4 bytes a parameter, and a number a leaf.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Malviya et al. 2024, arXiv:2412.18790, Algorithm 1.
    Not for use alone: u points up the gradient; `tam` turns it.

    >>> rule = jo.scale_by_tam()
    >>> updates, state = rule.update(jnp.array([1.0, 2.0]), rule.init(jnp.ones(2)))
    >>> updates.tolist()
    [0.5, 1.0]
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, accumulator_dtype), number_beside(p)

    def rule(g: Array, p: Array, m: Array, s: Array, h: Scalars) -> Step:
        units = [quotient(x, jnp.broadcast_to(length(x), x.shape)) for x in (m, g)]
        s = h.decay * s + (1 - h.decay) * jnp.sum(inner(*units))
        m = h.momentum * m + ((1 + s) / 2 + h.eps) * g
        return m, m, s

    hypers = {"momentum": (momentum, UNIT), "decay": (decay, UNIT), "eps": (eps, NONNEGATIVE)}
    return leafwise(
        "scale_by_tam", ScaleByTamState, init=init, rule=rule, hypers=hypers, stack_axes=stack_axes,
        dtypes={"accumulator_dtype": accumulator_dtype}, squares=("alignment",),
    )  # fmt: skip


@recipe
def tam(
    learning_rate: Hyper,
    momentum: Hyper = 0.9,
    decay: Hyper = 0.9,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    accumulator_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_tam`: momentum that is not swung about by gradients across it.

    s_t = decay s + (1 - decay) cos(m, g);   m_t = momentum m + ((1 + s_t) / 2 + eps) g

    Carried by pytorch_optimizer, which takes the products of elements in the place of the cosine.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; up to twice
        that of `sgd` with momentum, as half of a gradient counts where nothing agrees.
    momentum: decay of the velocity, in [0, 1], usually 0.9.
    decay: of the mean cosine, in [0, 1]; the paper's 0.9.
    eps: added to the factor of g, >= 0; the authors' 1e-8.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    accumulator_dtype: dtype of the velocity; None: float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: m, 4 bytes a parameter, and a number a leaf.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Malviya et al. 2024, arXiv:2412.18790, Algorithm 1.
    Not for badly scaled problems, where the largest elements alone make the cosine.

    >>> opt = jo.tam(0.1)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_tam(momentum, decay, eps, accumulator_dtype=accumulator_dtype, stack_axes=stack_axes)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
