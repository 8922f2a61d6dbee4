"""Adan. Xie, Zhou, Li, Lin & Yan 2022, arXiv:2208.06677, Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import abs_sq, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Updates


@quantizable(signed=("m", "v", "g"), nonnegative=("n",), divisor="n")
class ScaleByAdanState(NamedTuple):
    """State of `scale_by_adan`."""

    m: Updates  # like params, f32+  m_t, mean of g
    v: Updates  # like params, f32+  v_t, mean of the gradient's change
    n: Updates  # like params, f32+  n_t, mean of the squared gradient, a step ahead
    g: Updates  # like params, f32+  the last gradient
    t: Array  # int32[]              steps taken


def scale_by_adan(
    b1: Hyper = 0.98,
    b2: Hyper = 0.92,
    b3: Hyper = 0.99,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam with Nesterov's momentum by the gradient's change, d = g_t - g_t-1, 0 at first.

    m_t = b1 m + (1 - b1) g                    c_i = 1 - b_i**t
    v_t = b2 v + (1 - b2) d
    n_t = b3 n + (1 - b3) (g + b2 d)**2
    u   = (m_t / c_1 + b2 v_t / c_2) / (sqrt(n_t / c_3 + eps_root) + eps)

    Where the paper has 1 - beta_2, which is b2, optax 0.2.8 multiplies by 1 - b2.

    b1, b2, b3: decays of m, v and n, in [0, 1): the paper's 1 - beta_i, as in its authors' code, whose values they are.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype, nu_dtype: of m and v, and of n; float32 at least by default.

    State: m, v, n and the last gradient, 16 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Xie, Zhou, Li, Lin & Yan 2022, arXiv:2208.06677, Algorithm 1.
    Not for scarce memory: it keeps four arrays of each parameter's size.

    >>> rule = jo.scale_by_adan(mu_dtype=jnp.bfloat16)
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype), wide_like(p)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        c1, c2, c3 = (h.gathered(b) for b in ("b1", "b2", "b3"))
        return {"c1": c1, "c2": c2, "c3": c3, "old": (t > 1).astype(h.b1.dtype)}

    def rule(g: Array, p: Array, m: Array, v: Array, n: Array, old: Array, h: Scalars) -> Step:
        d = jnp.where(h.old > 0, g - old, 0)
        m = h.b1 * m + (1 - h.b1) * g
        v = h.b2 * v + (1 - h.b2) * d
        n = h.b3 * n + (1 - h.b3) * abs_sq(g + h.b2 * d)
        u = ratio(m / h.c1 + h.b2 * v / h.c2, safe_sqrt(n / h.c3 + h.eps_root) + h.eps)
        return u, m, v, n, g

    hypers = {
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "b3": (b3, FRACTION),
        "eps": (eps, NONNEGATIVE),
        "eps_root": (eps_root, NONNEGATIVE),
    }
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_adan", ScaleByAdanState, init=init, shared=shared, rule=rule, hypers=hypers, own="t",
        debiased=("b1", "b2", "b3"), dtypes=dtypes, squares=("n",),
    )  # fmt: skip


@recipe
def adan(
    learning_rate: Hyper,
    b1: Hyper = 0.98,
    b2: Hyper = 0.92,
    b3: Hyper = 0.99,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_adan`; stands learning rates 5 to 10 times those of Adam.

    d = g_t - g_t-1
    u = (m_t / c_1 + b2 v_t / c_2) / (sqrt(n_t / c_3 + eps_root) + eps),   means of g, of d and of (g + b2 d)**2

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1, b2, b3: decays of m, v and n, in [0, 1): the paper's 1 - beta_i, as in its authors' code, whose values they are.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; 1e-8 is optax's.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype, nu_dtype: of m and v, and of n; float32 at least by default.

    State: m, v, n and the last gradient, 16 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Xie, Zhou, Li, Lin & Yan 2022, arXiv:2208.06677, Algorithm 1.
    Not for scarce memory: it keeps four arrays of each parameter's size.

    >>> opt = jo.adan(5e-3, weight_decay=0.02)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_adan(b1, b2, b3, eps, eps_root, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
