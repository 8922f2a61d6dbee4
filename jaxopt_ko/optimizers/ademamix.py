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

    b1: decay of m1, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    b3: decay of m2, in [0, 1): it remembers about 1 / (1 - b3) gradients; the paper's 0.9999.
    alpha: weight of the slow mean, >= 0; the paper tries 4 to 10, optax has 6 here and 5 in its `ademamix`.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype, nu_dtype: of m1 and m2, and of v; float32 at least by default, for in bfloat16 the slow mean would not
        move at all.

    State: m1, m2 and v, 12 bytes a parameter. Schedules of b3 and alpha are read at its count_m2.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Pagliardini, Ablin & Grangier 2024, arXiv:2409.03137, Algorithm 1.
    Not for short runs, nor for data that change.

    >>> rule = jo.scale_by_ademamix(alpha=jo.linear_schedule(0.0, 6.0, 1000))
    >>> state = rule.init({"w": jnp.ones((2, 3))})
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

    b1: decay of m, in [0, 1): a sum, not a mean, of about 1 / (1 - b1) gradients.
    b2: decay of n, in [0, 1): it remembers about 1 / (1 - b2) squares.
    alpha: weight of the newest gradient, >= 0; 0 is optax's, the paper tries 10 to 200 for small batches.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype, nu_dtype: of m and n, float32 at least by default.

    State: m and n, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Morwani, Vyas, Zhang & Kakade 2025, arXiv:2502.02431, Algorithm 1.
    Not for a learning rate copied from Adam: m is a sum, so it needs 1 - b1 times that.

    >>> rule = jo.scale_by_simplified_ademamix(alpha=100.0)
    >>> state = rule.init({"w": jnp.ones((2, 3))})
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

    u = (m1_hat + alpha m2_t) / (sqrt(v_hat + eps_root) + eps),   m2_t = b3 m2 + (1 - b3) g;   the rest as in `adam`

    The paper raises b3 and alpha from b1 and 0 over the run, by schedules.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m1, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    b3: decay of m2, in [0, 1): it remembers about 1 / (1 - b3) gradients; the paper's 0.9999, for short runs 0.999.
    alpha: weight of the slow mean, >= 0; optax's 5, within the paper's 4 to 10.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype, nu_dtype: of m1 and m2, and of v; float32 at least by default, for in bfloat16 the slow mean would not
        move at all.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: m1, m2 and v, 12 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Pagliardini, Ablin & Grangier 2024, arXiv:2409.03137, Algorithm 1.
    Not for short runs, or with a smaller b3, nor for data that change: it forgets over 1 / (1 - b3) steps.

    >>> opt = jo.ademamix(1e-3, alpha=jo.linear_schedule(0.0, 5.0, 10_000), weight_decay=0.1)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
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

    m_t = b1 m + g
    u   = (m_t + alpha g) / (sqrt(n_t / (1 - b2**t) + eps_root) + eps),   n_t a mean of g**2

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): a sum, not a mean, of about 1 / (1 - b1) gradients.
    b2: decay of n, in [0, 1): it remembers about 1 / (1 - b2) squares.
    alpha: weight of the newest gradient, >= 0; 0 is optax's, the paper tries 10 to 200 for small batches.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype, nu_dtype: of m and n, float32 at least by default.

    State: m and n, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Morwani, Vyas, Zhang & Kakade 2025, arXiv:2502.02431, Algorithm 1.
    Not for a learning rate copied from Adam: m is a sum, so it needs 1 - b1 times that.

    >>> opt = jo.simplified_ademamix(1e-5, alpha=100.0)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
