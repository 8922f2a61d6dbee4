"""Yogi. Zaheer, Reddi, Sachan, Kale & Kumar 2018, NeurIPS, Algorithm 2."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars, adam_corrections
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, check_hyper
from jaxopt_ko.optimizers.adam import ScaleByAdamState
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper


def scale_by_yogi(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-3,
    eps_root: Hyper = 0.0,
    initial_accumulator_value: Hyper = 1e-6,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam whose second moment moves by no more than (1 - b2) g**2 a step, up or down.

    m_t = b1 m + (1 - b1) g                            m_hat = m_t / (1 - b1**t)
    v_t = v - (1 - b2) sign(v - g**2) g**2             v_hat = v_t / (1 - b2**t)
    u   = m_hat / (sqrt(v_hat + eps_root) + eps)

    The paper has no bias correction.

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: 1 minus the most that v moves by, as a part of g**2, in [0, 1); the paper's 0.999.
    eps: added to the root in the divisor, >= 0; the paper's 1e-3, larger than Adam's.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    initial_accumulator_value: of both moments at first, >= 0, as in optax.
    mu_dtype, nu_dtype: of m and v, float32 at least by default.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Zaheer, Reddi, Sachan, Kale & Kumar 2018, NeurIPS, Algorithm 2.
    Not for a quick fall of the gradients' size, which v follows slowly.

    >>> opt = jo.chain(jo.scale_by_yogi(initial_accumulator_value=0.0), jo.scale_by_learning_rate(1e-2))
    >>> state = opt.init({"embedding": jnp.ones((7, 3))})
    """
    start = check_hyper("scale_by_yogi", "initial_accumulator_value", initial_accumulator_value, NONNEGATIVE)

    def init(p: Array) -> Memory:
        first, same = (value_at(start, zero_count()) for _ in range(2))  # in memory of their own
        return wide_like(p, first, mu_dtype), wide_like(p, same, nu_dtype)

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        square = inner(g, g)
        v = v - (1 - h.b2) * jnp.sign(v - square) * square
        return ratio(m / h.c1, safe_sqrt(v / h.c2 + h.eps_root) + h.eps), m, v

    hypers = {
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "eps": (eps, NONNEGATIVE),
        "eps_root": (eps_root, NONNEGATIVE),
    }
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_yogi", ScaleByAdamState, init=init, shared=adam_corrections, rule=rule, hypers=hypers, dtypes=dtypes,
        squares=("nu",), debiased=("b1", "b2"),
    )  # fmt: skip


@recipe
def yogi(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-3,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr u of `scale_by_yogi`: for sparse gradients, after which Adam's rate would rise too fast.

    v_t = v - (1 - b2) sign(v - g**2) g**2
    p  <- p - lr m_hat / (sqrt(v_t / (1 - b2**t)) + eps),   m_hat as in `adam`

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: 1 minus the most that v moves by, as a part of g**2, in [0, 1); the paper's 0.999.
    eps: added to the root in the divisor, >= 0; the paper's 1e-3, larger than Adam's.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Zaheer, Reddi, Sachan, Kale & Kumar 2018, NeurIPS, Algorithm 2.
    Not for a quick fall of the gradients' size, which v follows slowly.

    >>> opt = jo.yogi(1e-2)
    >>> state = opt.init({"embedding": jnp.ones((7, 3))})
    """
    rule = scale_by_yogi(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, scale_by_learning_rate(learning_rate))
