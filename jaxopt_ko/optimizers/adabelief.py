"""AdaBelief, and its asynchronous form ACProp.

AdaBelief: Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2. ACProp: Zhuang et al. 2021, arXiv:2110.05454,
Algorithm 2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, check_choice
from jaxopt_ko.transforms.decay import add_decayed_weights, decay_if_any
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Updates


@quantizable(signed=("mu",), nonnegative=("nu",), divisor="nu")
class ScaleByBeliefState(NamedTuple):
    """State of `scale_by_belief` and `scale_by_acprop`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g
    nu: Updates  # like params, f32+  s_t, mean of (g - m)**2


@options
def scale_by_belief(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-16,
    eps_root: Hyper = 1e-16,
    *,
    nesterov: bool = False,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam that divides by how far the gradient is from its mean, not by its size: long steps where it is as expected.

    m_t = b1 m + (1 - b1) g                         m_hat = m_t / (1 - b1**t), or Nesterov's as in `scale_by_adam`
    s_t = b2 s + (1 - b2) (g - m_t)**2 + eps_root   s_hat = s_t / (1 - b2**t)
    u   = m_hat / (sqrt(s_hat) + eps)

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of s, in [0, 1): it remembers about 1 / (1 - b2) squared deviations.
    eps: added to the root in the divisor, >= 0; 1e-16 is optax's.
    eps_root: added to s at every step, >= 0, as the paper adds its eps: in the long run s holds eps_root / (1 - b2) of
        it.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of s; None: the parameter's, float32 at least.

    State: m and s, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2.
    Not for an eps_root that nobody has tuned: results change with it.

    >>> opt = jo.chain(jo.scale_by_belief(eps_root=1e-12), jo.scale_by_learning_rate(1e-3))
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        next_ = {"weight_m": h.b1 / h.gathered_next("b1"), "weight_g": (1 - h.b1) / h.gathered("b1")}
        return {"c1": h.gathered("b1"), "c2": h.gathered("b2"), **(next_ if nesterov else {})}

    def rule(g: Array, p: Array, m: Array, s: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        s = h.b2 * s + inner((1 - h.b2) * (g - m), g - m) + h.eps_root
        m_hat = h.weight_m * m + h.weight_g * g if nesterov else m / h.c1
        return ratio(m_hat, safe_sqrt(s / h.c2) + h.eps), m, s

    hypers = {
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "eps": (eps, NONNEGATIVE),
        "eps_root": (eps_root, NONNEGATIVE),
    }
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_belief", ScaleByBeliefState, init=init, shared=shared, rule=rule, hypers=hypers, dtypes=dtypes,
        debiased=("b1", "b2"), squares=("nu",),
    )  # fmt: skip


@recipe
def adabelief(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-16,
    eps_root: Hyper = 1e-16,
    *,
    nesterov: bool = False,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    weight_decay: Hyper | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """The step -lr u of `scale_by_belief`: Adam with long steps where gradients are as their mean foretells.

    s_t = b2 s + (1 - b2) (g - m_t)**2 + eps_root
    p  <- p - lr m_hat / (sqrt(s_t / (1 - b2**t)) + eps),   m_hat as in `adam`

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of s, in [0, 1): it remembers about 1 / (1 - b2) squared deviations.
    eps: added to the root in the divisor, >= 0; 1e-16 is optax's.
    eps_root: added to s at every step, >= 0, and so never forgotten: try 1e-8 to 1e-16.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of s; None: the parameter's, float32 at least.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step;
        None: not at all.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: m and s, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where there is a weight_decay.
    Source: Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2.
    Not for an eps_root that nobody has tuned: results change with it.

    >>> opt = jo.adabelief(1e-3, eps_root=1e-12)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, *decay_if_any(weight_decay, mask), scale_by_learning_rate(learning_rate))


@options
def scale_by_acprop(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-16,
    eps_root: Hyper = 1e-16,
    *,
    centre: str = "previous",
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The gradient over AdaBelief's deviation one step before, of which it is independent; the first step is u = g.

    u   = g / (sqrt(s / (1 - b2**(t - 1))) + eps)
    m_t = b1 m + (1 - b1) g
    s_t = b2 s + (1 - b2) (g - c)**2 + eps_root

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of s, in [0, 1): it remembers about 1 / (1 - b2) squared deviations.
    eps: added to the root in the divisor, >= 0; 1e-16 is optax's.
    eps_root: added to s at every step, >= 0, and so never forgotten.
    centre: "previous": c = m, as optax computes it; "current": c = m_t, the paper's and optax's docstring: as g - m_t =
        b1 (g - m), its steps are 1 / b1 times as long.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of s; None: the parameter's, float32 at least.

    State: m and s, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; also for another centre.
    Source: Zhuang et al. 2021, arXiv:2110.05454, Algorithm 2.
    Not for a large first gradient without a warm-up: the first step is as long.

    >>> rule = jo.scale_by_acprop(centre="current")
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = rule.update({"w": jnp.array([3.0, -4.0])}, rule.init(params))
    >>> updates["w"].tolist()
    [3.0, -4.0]
    """
    check_choice("scale_by_acprop", "centre", centre, ("previous", "current"))

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"first": (t == 1).astype(h.b2.dtype), "c2": h.gathered_before("b2")}

    def rule(g: Array, p: Array, m: Array, s: Array, h: Scalars) -> Step:
        u = ratio(g, jnp.where(h.first > 0, 1, safe_sqrt(s / h.c2)) + h.eps)
        c, m = m, h.b1 * m + (1 - h.b1) * g
        d = g - (c if centre == "previous" else m)
        return u, m, h.b2 * s + inner((1 - h.b2) * d, d) + h.eps_root

    hypers = {
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "eps": (eps, NONNEGATIVE),
        "eps_root": (eps_root, NONNEGATIVE),
    }
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_acprop", ScaleByBeliefState, init=init, shared=shared, rule=rule, hypers=hypers, dtypes=dtypes,
        debiased=("b2",), squares=("nu",),
    )  # fmt: skip


@recipe
def acprop(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-16,
    eps_root: Hyper = 1e-16,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    centre: str = "previous",
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_acprop`: converges where Adam's can go the wrong way.

    u = g / (sqrt(s / (1 - b2**(t - 1))) + eps),   s of the gradients before this one

    Adam's step is bound to the gradient that scales it; this one's scale is independent of it.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of s, in [0, 1): it remembers about 1 / (1 - b2) squared deviations.
    eps: added to the root in the divisor, >= 0; 1e-16 is optax's.
    eps_root: added to s at every step, >= 0, and so never forgotten.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    centre: "previous", optax's, or "current", the paper's: from which mean s is measured, see `scale_by_acprop`.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of s; None: the parameter's, float32 at least.

    State: m and s, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Zhuang et al. 2021, arXiv:2110.05454, Algorithm 2.
    Not without a warm-up: its first step is as long as the gradient.

    >>> opt = jo.acprop(jo.linear_schedule(0.0, 1e-3, 100), centre="current")
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_acprop(b1, b2, eps, eps_root, centre=centre, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
