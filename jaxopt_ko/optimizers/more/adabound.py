"""AdaBound: from Adam to SGD. Luo, Xiong, Liu & Sun 2019, arXiv:1902.09843, Algorithm 2."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, or_one, safe_sqrt
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE
from jaxopt_ko.optimizers.adam import ScaleByAdamState
from jaxopt_ko.transforms.decay import decaying_by_mask
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn


@recipe
def adabound(
    learning_rate: Hyper,
    final_learning_rate: Hyper = 0.1,
    gamma: Hyper = 1e-3,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    as_in_paper: bool = False,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam whose rate of each element is held between two bounds, which close in on SGD's.

    m_t = b1 m + (1 - b1) g;   v_t = b2 v + (1 - b2) g**2
    r   = lr sqrt(1 - b2**t) / (1 - b1**t) / (sqrt(v_t) + eps)
    r   = min(max(r, final (1 - 1 / (gamma t + 1))), final (1 + 1 / (gamma t)))
    p  <- p - r m_t - lr weight_decay p

    That is the authors' code, with which their experiments were made; their Algorithm 2 (as_in_paper) has r = lr /
    sqrt(v_t) without corrections, and steps r m_t / sqrt(t). Carried by torch_optimizer and pytorch_optimizer.

    learning_rate: Adam's, at the start: a number, an array (traced too) or a schedule of the step, >= 0.
    final_learning_rate: SGD's, at the end, > 0: one that suits SGD with momentum b1; the authors' 0.1. Where the
        learning rate follows a schedule, give one here, too.
    gamma: how fast the bounds close, > 0: they are near final_learning_rate after some 1 / gamma steps.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step; the
        authors' code adds it to the gradient: chain(add_decayed_weights(…), adabound(…)).
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    as_in_paper: no corrections, and steps that fall with 1 / sqrt(t).
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: that of Adam, m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Luo, Xiong, Liu & Sun 2019, arXiv:1902.09843, Algorithm 2.
    Not for language models, where SGD's rate suits no layer for long.

    >>> opt = jo.adabound(1e-3, 0.1)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        time = t.astype(h.gamma.dtype)
        low = h.final_learning_rate * (1 - 1 / (h.gamma * time + 1))
        high = h.final_learning_rate * (1 + 1 / (h.gamma * time))
        if as_in_paper:
            return {"a": h.learning_rate, "low": low, "high": high, "after": 1 / jnp.sqrt(time)}
        a = h.learning_rate * safe_sqrt(h.gathered("b2")) / h.gathered("b1")
        return {"a": a, "low": low, "high": high, "after": jnp.ones_like(a)}

    def made(weight_decay: Hyper) -> GradientTransformation:
        off = isinstance(weight_decay, int | float) and weight_decay == 0

        def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
            m = h.b1 * m + (1 - h.b1) * g
            v = h.b2 * v + inner((1 - h.b2) * g, g)
            root = safe_sqrt(v) + h.eps
            rate = jnp.where(root > 0, jnp.clip(h.a / or_one(root), h.low, h.high), h.high)
            u = -h.after * rate * m
            return (u if off else u - h.learning_rate * h.weight_decay * p), m, v

        hypers = (
            NONNEGATIVE.of(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)
            | POSITIVE.of(final_learning_rate=final_learning_rate, gamma=gamma)
            | FRACTION.of(b1=b1, b2=b2)
        )
        dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
        return leafwise(
            "adabound", ScaleByAdamState, init=init, shared=shared, rule=rule, hypers=hypers, dtypes=dtypes,
            squares=("nu",), debiased=() if as_in_paper else ("b1", "b2"), needs_params=not off,
        )  # fmt: skip

    return decaying_by_mask(made, weight_decay, mask)
