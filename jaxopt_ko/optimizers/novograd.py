"""NovoGrad. Ginsburg et al. 2019, arXiv:1905.11286, Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import summed, wide_like
from jaxopt_ko.errors import NONNEGATIVE, UNIT
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, PyTree, Updates


@quantizable(signed=("mu",))
class ScaleByNovogradState(NamedTuple):
    """State of `scale_by_novograd`."""

    count: Array  # int32[]             t, steps taken
    mu: Updates  # like params, f32+    m_t, decaying sum of what is left of g
    nu: Updates  # float[] a leaf, f32+  v_t, mean of |g|**2


@options
def scale_by_novograd(
    b1: Hyper = 0.9,
    b2: Hyper = 0.25,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    weight_decay: Hyper = 0.0,
    mu_dtype: DType | None = None,
    *,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Momentum of gradients that are divided by the mean norm of their leaf.

    v_1 = |g_1|**2,  v_t = b2 v + (1 - b2) |g|**2
    m_t = b1 m + g / (sqrt(v_t + eps_root) + eps) + weight_decay p
    u   = m_t

    b1: decay of m, in [0, 1]: a sum of about 1 / (1 - b1) scaled gradients.
    b2: decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squared norms; 0.25 is optax's.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    weight_decay: lambda >= 0: this times the parameters goes into m.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of v; None: the parameter's, float32 at least.
    stack_axes: leading axes of a leaf that count leaves of one shape, with a v each: an integer, or a tree of them.

    State: m, 4 bytes a parameter, and one number a leaf.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Ginsburg et al. 2019, arXiv:1905.11286, Algorithm 1.
    Not where the coordinates of one leaf are of different scales, which it leaves as they are.

    >>> rule = jo.scale_by_novograd(stack_axes=1)
    >>> state = rule.init({"layers": jnp.ones((4, 3, 3))})
    >>> state.nu["layers"].shape
    (4,)
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(summed(p, tuple(range(np.ndim(p)))), 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"d2": jnp.where(t == 1, jnp.zeros_like(h.b2), h.b2)}

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        v = h.d2 * v + (1 - h.d2) * jnp.sum(inner(g, g))
        m = h.b1 * m + ratio(g, safe_sqrt(v + h.eps_root) + h.eps) + h.weight_decay * p
        return m, m, v

    hypers = {
        "b1": (b1, UNIT),
        "b2": (b2, UNIT),
        "eps": (eps, NONNEGATIVE),
        "eps_root": (eps_root, NONNEGATIVE),
        "weight_decay": (weight_decay, NONNEGATIVE),
    }
    return leafwise(
        "scale_by_novograd",
        ScaleByNovogradState,
        init=init,
        shared=shared,
        rule=rule,
        hypers=hypers,
        dtypes={"mu_dtype": mu_dtype, "nu_dtype": nu_dtype},
        needs_params=True,
        stack_axes=stack_axes,
        squares=("nu",),
    )


@recipe
def novograd(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.25,
    eps: Hyper = 1e-6,
    eps_root: Hyper = 0.0,
    weight_decay: Hyper = 0.0,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr m_t of `scale_by_novograd`: the memory of momentum and one number a leaf.

    m_t = b1 m + g / (sqrt(v_t + eps_root) + eps) + weight_decay p,   v_t a mean of |g|**2 in each leaf

    Its steps are 1 / (1 - b1) times as long as normalized ones: take a learning rate ten times smaller than LAMB's.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1]: a sum of about 1 / (1 - b1) scaled gradients.
    b2: decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squared norms; 0.25 is optax's.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    weight_decay: lambda >= 0: this times the parameters goes into m.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of v; None: the parameter's, float32 at least.
    stack_axes: leading axes of a leaf that count leaves of one shape, with a v each: an integer, or a tree of them.

    State: m, 4 bytes a parameter, and one number a leaf.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Ginsburg et al. 2019, arXiv:1905.11286, Algorithm 1.
    Not where the coordinates of one leaf are of different scales, which it leaves as they are.

    >>> opt = jo.novograd(jo.cosine_decay_schedule(1e-2, 1000), weight_decay=1e-3)
    >>> state = opt.init({"w": jnp.ones((2, 3)), "b": jnp.zeros(3)})
    """
    rule = scale_by_novograd(b1, b2, eps, eps_root, weight_decay, mu_dtype, nu_dtype=nu_dtype, stack_axes=stack_axes)
    return chain(rule, scale_by_learning_rate(learning_rate))
