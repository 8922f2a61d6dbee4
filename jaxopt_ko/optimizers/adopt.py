"""ADOPT. Taniguchi et al. 2024, arXiv:2411.02853, Algorithm 1; clipped, Algorithm 2."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_sqrt, scalar_dtype
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import NONNEGATIVE, UNIT
from jaxopt_ko.optimizers.adam import ScaleByAdamState
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Schedule


def fourth_root(step: Array) -> Array:
    """step**0.25, the paper's bound on the scaled gradient."""
    return jnp.sqrt(jnp.sqrt(jnp.asarray(step, scalar_dtype())))


@options
def scale_by_adopt(
    b1: Hyper = 0.9,
    b2: Hyper = 0.9999,
    eps: Hyper = 1e-6,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Schedule = fourth_root,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam whose gradient is divided by the mean square of those before it, and only then averaged.

    r   = g / max(sqrt(v), eps);  within +-clip_value_fn(t - 1) if use_clipping
    m_t = b1 m + (1 - b1) r
    v_t = b2 v + (1 - b2) g**2
    u   = m_t;                    with nesterov b1 m_t + (1 - b1) r

    The first gradient only starts v_1 = g**2: m and u stay 0.

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"old": (t > 1).astype(h.b1.dtype)}

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        r = h.old * ratio(g, jnp.maximum(safe_sqrt(v), h.eps))
        if use_clipping:
            r = jnp.clip(r, -h.clip_value_fn, h.clip_value_fn)
        m = h.b1 * m + (1 - h.b1) * r
        v = jnp.where(h.old > 0, h.b2 * v + inner((1 - h.b2) * g, g), inner(g, g))
        return (h.b1 * m + (1 - h.b1) * r if nesterov else m), m, v

    return leafwise(
        "scale_by_adopt",
        ScaleByAdamState,
        init=init,
        shared=shared,
        rule=rule,
        hypers={
            "b1": (b1, UNIT),
            "b2": (b2, UNIT),
            "eps": (eps, NONNEGATIVE),
            "clip_value_fn": (clip_value_fn, NONNEGATIVE),
        },
        dtypes={"mu_dtype": mu_dtype, "nu_dtype": nu_dtype},
        squares=("nu",),
        real=use_clipping,
    )


@recipe
def adopt(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.9999,
    eps: Hyper = 1e-6,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    use_clipping: bool = True,
    clip_value_fn: Schedule = fourth_root,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr u of `scale_by_adopt`: converges whatever b2 is, where Adam needs one that suits the problem.

    Without clipping an element whose first gradient is 0 takes a step of g / eps next. Its first step is no step.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    """
    rule = scale_by_adopt(
        b1,
        b2,
        eps,
        mu_dtype,
        nesterov=nesterov,
        use_clipping=use_clipping,
        clip_value_fn=clip_value_fn,
        nu_dtype=nu_dtype,
    )
    return chain(rule, scale_by_learning_rate(learning_rate))
