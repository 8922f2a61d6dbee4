"""AdaBelief. Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from jaxopt_ko.compose import chain, leafwise
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.lift import Memory, Scalars, Step, recipe
from jaxopt_ko.numerics import bias_correction as debias
from jaxopt_ko.numerics import next_count, ratio, safe_sqrt
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.tree import wide_like
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Updates


class ScaleByBeliefState(NamedTuple):
    """State of `scale_by_belief`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g
    nu: Updates  # like params, f32+  s_t, mean of (g - m_t)**2


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
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        next_ = {"weight_m": h.b1 / debias(h.b1, next_count(t)), "weight_g": (1 - h.b1) / debias(h.b1, t)}
        return {"c1": debias(h.b1, t), "c2": debias(h.b2, t), **(next_ if nesterov else {})}

    def rule(g: Array, p: Array, m: Array, s: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        s = h.b2 * s + (1 - h.b2) * (g - m) * (g - m) + h.eps_root
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
        "scale_by_belief", ScaleByBeliefState, init=init, shared=shared, rule=rule, hypers=hypers, dtypes=dtypes
    )


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
) -> GradientTransformation:
    """The step -lr u of `scale_by_belief`. Sensitive to eps_root, which is added at every step: try 1e-8 to 1e-16."""
    rule = scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, scale_by_learning_rate(learning_rate))
