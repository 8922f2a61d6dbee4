"""Grams: the signs of the gradient, the lengths of Adam. Cao, Li & Song 2024, arXiv:2412.17107, Algorithm 1."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars, adam_corrections
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_sqrt
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.optimizers.adam import ScaleByAdamState
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn


@options
def scale_by_grams(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-6,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam's step, each element with the sign of the gradient of now.

    u = sign(g) |m_hat| / (sqrt(v_hat) + eps),   m_hat and v_hat as in `scale_by_adam`, whose state it has

    The sign of a complex number is z / |z|.

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0; the authors' 1e-6.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Cao, Li & Song 2024, arXiv:2412.17107, Algorithm 1.
    Not for use alone: u points up the gradient; `grams` turns it.

    >>> rule = jo.scale_by_grams()
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        v = h.b2 * v + inner((1 - h.b2) * g, g)
        return jnp.sign(g) * ratio(jnp.abs(m / h.c1), safe_sqrt(v / h.c2) + h.eps, h.eps), m, v

    hypers = {"b1": (b1, FRACTION), "b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE)}
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_grams", ScaleByAdamState, init=init, shared=adam_corrections, rule=rule, hypers=hypers, dtypes=dtypes,
        squares=("nu",), debiased=("b1", "b2"),
    )  # fmt: skip


@recipe
def grams(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-6,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_grams`: momentum says how far, the gradient where to.

    u = sign(g) |m_hat| / (sqrt(v_hat) + eps),   m_hat and v_hat as in `adam`

    Where `cautious` leaves an element out whose momentum goes against the gradient, this one turns it round. Carried by
    pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0; the authors' 1e-6.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Cao, Li & Song 2024, arXiv:2412.17107, Algorithm 1.
    Not for small batches: the sign of a noisy gradient is half chance, and no mean is taken of it.

    >>> opt = jo.grams(1e-3, weight_decay=0.1)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_grams(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
