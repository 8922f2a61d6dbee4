"""Adam against spikes of the gradient. SPAM: Huang et al. 2025, arXiv:2501.06842, Algorithm 1. StableSPAM: Huang et al.
2025, arXiv:2502.17055, Algorithm 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars, adam_corrections
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import abs_sq, gathered_weight, largest, length, quotient, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import number_beside, wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, THRESHOLD, check_steps
from jaxopt_ko.optimizers.adam import ScaleByAdamState
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates


@quantizable(signed=("mu",), nonnegative=("nu",), divisor="nu")
class ScaleByStableSpamState(NamedTuple):
    """State of `scale_by_stable_spam`."""

    count: Array  # int32[]                       t, steps taken
    mu: Updates  # like params, f32+              m_t, mean of g since the last reset
    nu: Updates  # like params, f32+              v_t, mean of g**2 since the last reset
    largest: Updates  # float[] of each leaf      mean of max|g|
    norm: Updates  # float[] of each leaf         mean of |g|
    norm_square: Updates  # float[] of each leaf  mean of |g|**2


@options
def scale_by_spam(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-6,
    *,
    threshold: Hyper = 5000.0,
    reset_every: int = 500,
    warmup_steps: int = 150,
    grace: int = 20,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam that clips elements far above their mean square, and forgets its moments from time to time.

    m = v = 0                                      at t = reset_every, 2 reset_every, …
    g = sign(g) sqrt(threshold v)                  where g**2 > threshold v, but in `grace` steps from a reset or start
    u = s m_hat / (sqrt(v_hat) + eps)              m_hat and v_hat as in `scale_by_adam`, by t
    s = 1 - 0.99 (1 + cos(pi k / (warmup_steps + 1))) / 2    k < warmup_steps steps after a reset, 0.01 at it;   else 1

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0; the authors' 1e-6.
    threshold: the largest ratio of g**2 to v that is no spike, > 0; the authors' 5000; infinity: no clipping.
    reset_every: steps from one reset to the next, an integer >= 1; the authors' 500.
    warmup_steps: steps in which u grows again from a reset on, an integer >= 0; the paper's 150.
    grace: steps after a reset, and at the start, that v is given to become something, an integer >= 0; 20.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: that of `scale_by_adam`, m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Huang et al. 2025, arXiv:2501.06842, Algorithm 1, with a density of 1. As in its authors' code the first
        step is no reset, v in the comparison is not corrected, and t goes on over resets; eps stands as in Adam.
    Not for use alone: u points up the gradient; `spam` turns it.

    >>> rule = jo.scale_by_spam(reset_every=1000)
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """
    name = "scale_by_spam"
    check_steps(name, "reset_every", reset_every)
    check_steps(name, "warmup_steps", warmup_steps, 0)
    check_steps(name, "grace", grace, 0)

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        k, dtype = t % np.int32(reset_every), h.b1.dtype
        s = 1 - 0.99 * (1 + jnp.cos(np.pi * k.astype(dtype) / (warmup_steps + 1))) / 2
        return adam_corrections(t, h) | {
            "kept": (k > 0).astype(dtype),
            "clips": (k >= grace) & (t >= grace),
            "s": jnp.where((t >= reset_every) & (k < warmup_steps), s, jnp.ones_like(s)),
        }

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        m, v = h.kept * m, h.kept * v
        limit = safe_sqrt(h.threshold * v)
        g = jnp.where(h.clips & (jnp.abs(g) > limit), jnp.sign(g) * limit, g)
        m = h.b1 * m + (1 - h.b1) * g
        v = h.b2 * v + (1 - h.b2) * abs_sq(g)
        return h.s * ratio(m / h.c1, safe_sqrt(v / h.c2) + h.eps, h.eps), m, v

    hypers = FRACTION.of(b1=b1, b2=b2) | NONNEGATIVE.of(eps=eps) | THRESHOLD.of(threshold=threshold)
    return leafwise(
        name, ScaleByAdamState, init=init, shared=shared, rule=rule, hypers=hypers, squares=("nu",),
        debiased=("b1", "b2"), dtypes={"mu_dtype": mu_dtype, "nu_dtype": nu_dtype},
    )  # fmt: skip


@options
def scale_by_stable_spam(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    *,
    gamma1: Hyper = 0.7,
    gamma2: Hyper = 0.9,
    theta: Hyper = 0.999,
    reset_every: int = 1000,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Adam of gradients whose largest elements, and whose norm, are brought to what they have been on average.

    M = theta M + (1 - theta) max|g|;   g = g M_hat / max|g|          where |g| > M_hat, of each leaf
    N = gamma1 N + (1 - gamma1) |g|;    Q = gamma2 Q + (1 - gamma2) |g|**2
    g = g / |g| N_hat / (sqrt(Q_hat) + eps)
    u = m_hat / (sqrt(v_hat) + eps) of this g, as in `scale_by_adam`; m = v = 0 and its t = 1 at t = reset_every, …

    Means with a hat are divided by the weight that they have gathered. A leaf whose gradient is all 0 stays as it is,
    M alone falls. At a reset the authors' code takes its step with the old m and v, as if they were one step old, and
    corrects M, N and Q by that age, too; here m and v are 0 before it, and M, N and Q as old as they are.

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the roots in the divisors, >= 0: it bounds the step where gradients vanish.
    gamma1, gamma2: decays of the means of |g| and |g|**2, in [0, 1); the paper's 0.7 and 0.9.
    theta: decay of the mean of max|g|, in [0, 1); the paper's 0.999.
    reset_every: steps from one reset to the next, an integer >= 1; the paper's 1000.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: m and v, 8 bytes a parameter, and three numbers a leaf.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Huang et al. 2025, arXiv:2502.17055, Algorithm 1.
    Not for use alone: u points up the gradient; `stable_spam` turns it.

    >>> rule = jo.scale_by_stable_spam()
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """
    name = "scale_by_stable_spam"
    check_steps(name, "reset_every", reset_every)

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype), *(number_beside(p) for _ in range(3))

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        since = t % np.int32(reset_every)
        own = jnp.where(t < reset_every, t, since + 1)
        weights = {f"c_{key}": h.gathered(key) for key in ("gamma1", "gamma2", "theta")}
        corrections = {"c1": gathered_weight(h.b1, own), "c2": gathered_weight(h.b2, own)}
        return {"kept": (since > 0).astype(h.b1.dtype), **corrections, **weights}

    def rule(g: Array, p: Array, m: Array, v: Array, M: Array, N: Array, Q: Array, h: Scalars) -> Step:
        m, v, top = h.kept * m, h.kept * v, largest(g)
        M = h.theta * M + (1 - h.theta) * top
        bound = M / h.c_theta
        g = jnp.where(jnp.abs(g) > bound, ratio(g, top) * bound, g)
        norm = length(g)
        alive = norm > 0
        N = jnp.where(alive, h.gamma1 * N + (1 - h.gamma1) * norm, N)
        Q = jnp.where(alive, h.gamma2 * Q + (1 - h.gamma2) * norm * norm, Q)
        g = quotient(g, jnp.broadcast_to(norm, g.shape)) * ratio(N / h.c_gamma1, safe_sqrt(Q / h.c_gamma2) + h.eps)
        m = jnp.where(alive, h.b1 * m + (1 - h.b1) * g, m)
        v = jnp.where(alive, h.b2 * v + (1 - h.b2) * abs_sq(g), v)
        u = ratio(m / h.c1, safe_sqrt(v / h.c2) + h.eps, h.eps)
        return jnp.where(alive, u, jnp.zeros_like(u)), m, v, M, N, Q

    hypers = FRACTION.of(b1=b1, b2=b2, gamma1=gamma1, gamma2=gamma2, theta=theta) | NONNEGATIVE.of(eps=eps)
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        name, ScaleByStableSpamState, init=init, shared=shared, rule=rule, hypers=hypers, dtypes=dtypes,
        squares=("nu", "largest", "norm", "norm_square"), debiased=("gamma1", "gamma2", "theta"),
        stack_axes=stack_axes,
    )  # fmt: skip


@recipe
def spam(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-6,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    threshold: Hyper = 5000.0,
    reset_every: int = 500,
    warmup_steps: int = 150,
    grace: int = 20,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_spam`: Adam that a spike of the gradient does not spoil for long.

    m = v = 0 every reset_every steps;   |g| <= sqrt(threshold v);   u = s m_hat / (sqrt(v_hat) + eps),  s: a warm-up

    Carried by pytorch_optimizer; its sparse moments are left out.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0; the authors' 1e-6.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    threshold: the largest ratio of g**2 to v that is no spike, > 0; the authors' 5000; infinity: no clipping.
    reset_every: steps from one reset to the next, an integer >= 1; the authors' 500.
    warmup_steps: steps in which u grows again from a reset on, an integer >= 0; the paper's 150.
    grace: steps after a reset, and at the start, in which nothing is clipped, an integer >= 0; 20.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Huang et al. 2025, arXiv:2501.06842, Algorithm 1.
    Not for runs shorter than some resets, or without spikes: each reset costs steps.

    >>> opt = jo.spam(1e-3, weight_decay=0.1)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_spam(
        b1, b2, eps, threshold=threshold, reset_every=reset_every, warmup_steps=warmup_steps, grace=grace,
        mu_dtype=mu_dtype, nu_dtype=nu_dtype,
    )  # fmt: skip
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))


@recipe
def stable_spam(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    gamma1: Hyper = 0.7,
    gamma2: Hyper = 0.9,
    theta: Hyper = 0.999,
    reset_every: int = 1000,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_stable_spam`: for training in 4 bits, and against spikes.

    g with its largest elements, then its norm, brought to their means;   u = Adam's, which forgets now and then

    Carried by pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the roots in the divisors, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    gamma1, gamma2: decays of the means of |g| and |g|**2, in [0, 1); the paper's 0.7 and 0.9.
    theta: decay of the mean of max|g|, in [0, 1); the paper's 0.999.
    reset_every: steps from one reset to the next, an integer >= 1; the paper's 1000.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: m and v, 8 bytes a parameter, and three numbers a leaf.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Huang et al. 2025, arXiv:2502.17055, Algorithm 1.
    Not behind `clip_by_global_norm`, which it makes needless.

    >>> opt = jo.stable_spam(1e-3, weight_decay=0.1)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_stable_spam(
        b1, b2, eps, gamma1=gamma1, gamma2=gamma2, theta=theta, reset_every=reset_every, mu_dtype=mu_dtype,
        nu_dtype=nu_dtype, stack_axes=stack_axes,
    )  # fmt: skip
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
