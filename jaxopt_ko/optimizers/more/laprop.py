"""LaProp: Adam with its halves in the other order. Ziyin, Wang & Ueda 2020, arXiv:2002.04839, Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars, adam_corrections
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Updates


@quantizable(signed=("mu",), nonnegative=("nu",))
class ScaleByLapropState(NamedTuple):
    """State of `scale_by_laprop`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g / (sqrt(v_hat) + eps)
    nu: Updates  # like params, f32+  v_t, mean of g**2


@options
def scale_by_laprop(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-15,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The mean of gradients that have each been divided by the root mean square of their own time.

    v_t = b2 v + (1 - b2) g**2     v_hat = v_t / (1 - b2**t)
    m_t = b1 m + (1 - b1) g / (sqrt(v_hat) + eps)
    u   = m_t / (1 - b1**t)

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0; the authors' 1e-15.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Ziyin, Wang & Ueda 2020, arXiv:2002.04839, Algorithm 1.
    Not for use alone: u points up the gradient; `laprop` turns it.

    >>> rule = jo.scale_by_laprop(b1=0.0, eps=0.0)
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = rule.update({"w": jnp.array([3.0, -4.0])}, rule.init(params))
    >>> print(updates["w"].round())
    [ 1. -1.]
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        v = h.b2 * v + inner((1 - h.b2) * g, g)
        m = h.b1 * m + (1 - h.b1) * ratio(g, safe_sqrt(v / h.c2) + h.eps, h.eps)
        return m / h.c1, m, v

    hypers = {"b1": (b1, FRACTION), "b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE)}
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_laprop", ScaleByLapropState, init=init, shared=adam_corrections, rule=rule, hypers=hypers,
        dtypes=dtypes, squares=("nu",), debiased=("b1", "b2"),
    )  # fmt: skip


@recipe
def laprop(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-15,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_laprop`: a mean of steps, where Adam takes the step of a mean.

    m_t = b1 m + (1 - b1) g / (sqrt(v_hat) + eps),   v_hat as in `adam`
    p  <- p - lr (m_t / (1 - b1**t) + weight_decay p)

    A mean of numbers of size one stays of size one, however b1 and b2 are chosen; Adam's is bounded for b1 < sqrt(b2)
    alone. Carried by timm, heavyball and pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares; it may be much smaller than b1.
    eps: added to the root in the divisor, >= 0; the authors' 1e-15.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Ziyin, Wang & Ueda 2020, arXiv:2002.04839, Algorithm 1; their rate is 4e-4.
    Not for gradients that are zero at first and then large: the first one alone makes the scale.

    >>> opt = jo.laprop(4e-4, b2=0.95, weight_decay=0.1)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_laprop(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
