"""AdEMAMix. Pagliardini, Ablin & Grangier 2024, arXiv:2409.03137, Algorithm 1.

Simplified: Morwani, Vyas, Zhang & Kakade 2025, arXiv:2502.02431, Algorithm 1.
"""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, next_count, ratio, safe_sqrt, value_at
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, check_hyper
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Updates


@quantizable(signed=("m1",), nonnegative=("nu",), divisor="nu", divided=("m1", "m2"))
class ScaleByAdemamixState(NamedTuple):
    """State of `scale_by_ademamix`."""

    count: Array  # int32[]           t, steps taken
    count_m2: Array  # int32[]        steps at which b3 and alpha are read; set it to 0 to begin their schedules anew
    m1: Updates  # like params, f32+  m1_t, fast mean of g
    m2: Updates  # like params, f32+  m2_t, slow mean of g
    nu: Updates  # like params, f32+  v_t, mean of g**2


@quantizable(signed=("m",), nonnegative=("n",), divisor="n")
class ScaleBySimplifiedAdEMAMixState(NamedTuple):
    """State of `scale_by_simplified_ademamix`."""

    t: Array  # int32[]              steps taken
    m: Updates  # like params, f32+  m_t, decaying sum of g
    n: Updates  # like params, f32+  n_t, mean of g**2


@options
def scale_by_ademamix(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    b3: Hyper = 0.9999,
    alpha: Hyper = 6.0,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    *,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam with a second, slow mean of the gradients beside the fast one.

    m1_t = b1 m1 + (1 - b1) g      m1_hat = m1_t / (1 - b1**t)
    m2_t = b3 m2 + (1 - b3) g
    v_t  = b2 v + (1 - b2) g**2    v_hat = v_t / (1 - b2**t)
    u    = (m1_hat + alpha m2_t) / (sqrt(v_hat + eps_root) + eps)

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype, nu_dtype: of m1 and m2, and of v; float32 at least by default, for in bfloat16 the slow mean would not
    move at all.
    """
    slow = {"b3": check_hyper("scale_by_ademamix", "b3", b3, FRACTION)}
    slow["alpha"] = check_hyper("scale_by_ademamix", "alpha", alpha, NONNEGATIVE)

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        mixed = {key: value_at(value, h.count_m2, "scale_by_ademamix", key) for key, value in slow.items()}
        return {"c1": h.gathered("b1"), "c2": h.gathered("b2"), "count_m2": next_count(h.count_m2), **mixed}

    def rule(g: Array, p: Array, m1: Array, m2: Array, v: Array, h: Scalars) -> Step:
        m1 = h.b1 * m1 + (1 - h.b1) * g
        m2 = h.b3 * m2 + (1 - h.b3) * g
        v = h.b2 * v + inner((1 - h.b2) * g, g)
        return ratio(m1 / h.c1 + h.alpha * m2, safe_sqrt(v / h.c2 + h.eps_root) + h.eps), m1, m2, v

    return leafwise(
        "scale_by_ademamix",
        ScaleByAdemamixState,
        init=init,
        shared=shared,
        rule=rule,
        hypers={
            "b1": (b1, FRACTION),
            "b2": (b2, FRACTION),
            "eps": (eps, NONNEGATIVE),
            "eps_root": (eps_root, NONNEGATIVE),
        },
        scalars={"count_m2": 0},
        dtypes={"mu_dtype": mu_dtype, "nu_dtype": nu_dtype},
        debiased=("b1", "b2"),
        squares=("nu",),
    )


def scale_by_simplified_ademamix(
    b1: Hyper = 0.99,
    b2: Hyper = 0.95,
    alpha: Hyper = 0.0,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """One slow velocity, and the gradient itself in the place of the fast mean.

    m_t = b1 m + g
    n_t = b2 n + (1 - b2) g**2      n_hat = n_t / (1 - b2**t)
    u   = (m_t + alpha g) / (sqrt(n_hat + eps_root) + eps)

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype, nu_dtype: of m and n, float32 at least by default.
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"c2": h.gathered("b2")}

    def rule(g: Array, p: Array, m: Array, n: Array, h: Scalars) -> Step:
        m = h.b1 * m + g
        n = h.b2 * n + inner((1 - h.b2) * g, g)
        return ratio(m + h.alpha * g, safe_sqrt(n / h.c2 + h.eps_root) + h.eps), m, n

    return leafwise(
        "scale_by_simplified_ademamix",
        ScaleBySimplifiedAdEMAMixState,
        init=init,
        shared=shared,
        rule=rule,
        hypers={
            "b1": (b1, FRACTION),
            "b2": (b2, FRACTION),
            "alpha": (alpha, NONNEGATIVE),
            "eps": (eps, NONNEGATIVE),
            "eps_root": (eps_root, NONNEGATIVE),
        },
        dtypes={"mu_dtype": mu_dtype, "nu_dtype": nu_dtype},
        own="t",
        debiased=("b2",),
        squares=("n",),
    )


@recipe
def ademamix(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    b3: Hyper = 0.9999,
    alpha: Hyper = 5.0,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_ademamix`: for long runs, where old gradients still help.

    The paper raises b3 and alpha from b1 and 0 over the run, by schedules. Not for short runs, or with a smaller b3
    (0.999), nor for data that change: it forgets over 1 / (1 - b3) steps. Needs params if it decays them.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    """
    rule = scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))


@recipe
def simplified_ademamix(
    learning_rate: Hyper,
    b1: Hyper = 0.99,
    b2: Hyper = 0.95,
    alpha: Hyper = 0.0,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_simplified_ademamix`: `ademamix` with a vector of memory less.

    m is a sum, not a mean: its learning rate is Adam's times 1 - b1. alpha > 0 (the paper tries 10 to 200) is for
    small batches. Needs params if it decays them.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    """
    rule = scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
