"""Optimistic methods, for games. Daskalakis, Ilyas, Syrgkanis & Zeng 2018, arXiv:1711.00141, section 2, Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import NONNEGATIVE
from jaxopt_ko.optimizers.adam import scale_by_adam
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Updates


@quantizable(signed=("previous_gradient",))
class ScaleByOptimisticGradientState(NamedTuple):
    """State of `scale_by_optimistic_gradient`."""

    is_initial_step: Array  # bool[]                 is there no gradient before yet?
    previous_gradient: Updates  # like params, f32+  g of the step before


@options
def scale_by_optimistic_gradient(
    alpha: Hyper = 1.0, beta: Hyper = 1.0, *, from_zero: bool = False
) -> GradientTransformation:
    """The gradient, and its change once more.

    u = alpha g_t + beta (g_t - g_{t-1})

    At first there is no change: g_0 = g_1, as in optax.

    alpha: weight of the gradient, >= 0; the paper's 1.
    beta: weight of its change, >= 0; the paper's 1.
    from_zero: g_0 = 0, as the paper's Algorithm 1 starts.

    State: the last gradient, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Daskalakis, Ilyas, Syrgkanis & Zeng 2018, arXiv:1711.00141, section 2.
    Not for plain minimization: it gains nothing there.

    >>> rule = jo.scale_by_optimistic_gradient(from_zero=True)
    >>> params = {"w": jnp.zeros(2)}
    >>> updates, state = rule.update({"w": jnp.array([3.0, -4.0])}, rule.init(params))
    >>> print(updates["w"])
    [ 6. -8.]
    """

    def init(p: Array) -> Memory:
        return (wide_like(p),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        missing = h.is_initial_step & (not from_zero)
        return {"missing": missing.astype(h.beta.dtype), "is_initial_step": jnp.zeros_like(h.is_initial_step)}

    def rule(g: Array, p: Array, old: Array, h: Scalars) -> Step:
        return h.alpha * g + h.beta * (g - jnp.where(h.missing > 0, g, old)), g

    return leafwise(
        "scale_by_optimistic_gradient",
        ScaleByOptimisticGradientState,
        init=init,
        shared=shared,
        rule=rule,
        hypers={"alpha": (alpha, NONNEGATIVE), "beta": (beta, NONNEGATIVE)},
        scalars={"is_initial_step": True},
    )


@recipe
def optimistic_gradient_descent(
    learning_rate: Hyper, alpha: Hyper = 1.0, beta: Hyper = 1.0, *, from_zero: bool = False
) -> GradientTransformation:
    """The step -lr u of `scale_by_optimistic_gradient`: converges in games where gradient descent circles.

    p <- p - lr (alpha g_t + beta (g_t - g_{t-1}))

    Two players each descend a loss of their own, or one ascends the other's: f(x, y) = x y.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    alpha: weight of the gradient, >= 0; the paper's 1.
    beta: weight of its change, >= 0; the paper's 1.
    from_zero: g_0 = 0, as the paper's Algorithm 1 starts; False: g_0 = g_1, as in optax.

    State: the last gradient, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Daskalakis, Ilyas, Syrgkanis & Zeng 2018, arXiv:1711.00141, section 2; with alpha and beta Mokhtari et al.
        2019, arXiv:1901.08511.
    Not for plain minimization: it gains nothing there.

    >>> opt = jo.optimistic_gradient_descent(0.1)
    >>> game = lambda p: p["x"] * p["y"]
    >>> grads = jax.grad(game)({"x": 1.0, "y": 1.0})
    >>> grads["y"] = -grads["y"]  # y ascends
    >>> updates, state = opt.update(grads, opt.init(grads))
    """
    rule = scale_by_optimistic_gradient(alpha, beta, from_zero=from_zero)
    return chain(rule, scale_by_learning_rate(learning_rate))


@recipe
def optimistic_adam_v2(
    learning_rate: Hyper,
    *,
    alpha: Hyper = 1.0,
    beta: Hyper = 1.0,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    nesterov: bool = True,
    from_zero: bool = False,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam's direction r in the place of the gradient of `optimistic_gradient_descent`.

    p <- p - lr (alpha r_t + beta (r_t - r_{t-1})),   r = u of `scale_by_adam`

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    alpha: weight of r, >= 0; the paper's 1.
    beta: weight of its change, >= 0; the paper's 1.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nesterov: take the mean one gradient ahead, as Nesterov does and optax; the paper has False.
    from_zero: r_0 = 0, as the paper's Algorithm 1 starts; False: r_0 = r_1, as in optax.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m, v and the last r, 12 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Daskalakis, Ilyas, Syrgkanis & Zeng 2018, arXiv:1711.00141, Algorithm 1.
    Not for plain minimization, where Adam has a vector of memory less.

    >>> opt = jo.optimistic_adam_v2(1e-4, b1=0.5, nesterov=False, from_zero=True)
    >>> state = opt.init({"generator": jnp.ones((2, 3)), "critic": jnp.ones((2, 3))})
    """
    rule = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, nu_dtype=nu_dtype)
    optimism = scale_by_optimistic_gradient(alpha, beta, from_zero=from_zero)
    return chain(rule, optimism, scale_by_learning_rate(learning_rate))


@recipe
def optimistic_adam(
    learning_rate: Hyper,
    optimism: Hyper | None = None,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = True,
) -> GradientTransformation:
    """Deprecated: -(learning_rate r_t + optimism (r_t - r_{t-1})), as `optimistic_adam_v2` with other arguments.

    optimism: learning_rate if None.
    """
    errors.deprecated("optimistic_adam", "optimistic_adam_v2", "0.1.0", errors.WITH_OPTAX)
    rule = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov)
    optimism = learning_rate if optimism is None else optimism
    return chain(rule, scale_by_optimistic_gradient(learning_rate, optimism), scale_by_learning_rate(1.0))
