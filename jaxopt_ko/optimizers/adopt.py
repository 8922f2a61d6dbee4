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
from jaxopt_ko.transforms.decay import decay_if_any
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GivenSchedule, GradientTransformation, Hyper, MaskOrFn


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
    clip_value_fn: GivenSchedule = fourth_root,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam whose gradient is divided by the mean square of those before it, and only then averaged.

    r   = g / max(sqrt(v), eps);  within +-clip_value_fn(t - 1) if use_clipping
    m_t = b1 m + (1 - b1) r
    v_t = b2 v + (1 - b2) g**2
    u   = m_t;                    with nesterov b1 m_t + (1 - b1) r

    The first gradient only starts v_1 = g**2: m and u stay 0.

    b1: decay of m, in [0, 1]: it remembers about 1 / (1 - b1) scaled gradients; the paper's 0.9.
    b2: decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squares; the paper's 0.9999.
    eps: the least divisor, >= 0; the paper's 1e-6.
    mu_dtype: dtype of m; None: the parameter's, float32 at least.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    use_clipping: keep each element of r within the bound: Algorithm 2.
    clip_value_fn: that bound, a number or a schedule of the steps before this one, >= 0; the paper's is t**0.25.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for complex leaves
        with use_clipping.
    Source: Taniguchi et al. 2024, arXiv:2411.02853, Algorithm 1; clipped, Algorithm 2.
    Not without clipping where an element's first gradient is 0: its next step is g / eps.

    >>> rule = jo.scale_by_adopt(clip_value_fn=lambda step: 1.0 + 0.01 * step)
    >>> state = rule.init({"w": jnp.ones((2, 3))})
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
    clip_value_fn: GivenSchedule = fourth_root,
    nu_dtype: DType | None = None,
    weight_decay: Hyper | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """The step -lr u of `scale_by_adopt`: converges whatever b2 is, where Adam needs one that suits the problem.

    r  = g / max(sqrt(v), eps),   v of the gradients before this one;  within +-clip_value_fn(t - 1)
    p <- p - lr m_t,              m_t = b1 m + (1 - b1) r

    Its first step is no step: it only starts v.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1]: it remembers about 1 / (1 - b1) scaled gradients; the paper's 0.9.
    b2: decay of v, in [0, 1]: it remembers about 1 / (1 - b2) squares; the paper's 0.9999.
    eps: the least divisor, >= 0; the paper's 1e-6.
    mu_dtype: dtype of m; None: the parameter's, float32 at least.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    use_clipping: keep each element of r within the bound: Algorithm 2.
    clip_value_fn: that bound, a number or a schedule of the steps before this one, >= 0; the paper's is t**0.25.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step;
        None: not at all.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for complex leaves
        with use_clipping; MissingArgumentError, in update, without
        params where there is a weight_decay.
    Source: Taniguchi et al. 2024, arXiv:2411.02853, Algorithm 1; clipped, Algorithm 2.
    Not without clipping where an element's first gradient is 0: its next step is g / eps.

    >>> opt = jo.adopt(1e-3)
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = opt.update({"w": jnp.array([3.0, -4.0])}, opt.init(params))
    >>> float(jnp.abs(updates["w"]).max())
    0.0
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
    return chain(rule, *decay_if_any(weight_decay, mask), scale_by_learning_rate(learning_rate))
