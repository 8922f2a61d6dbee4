"""Sophia. Liu, Li, Hall, Liang & Ma 2023, arXiv:2305.14342, Algorithm 3; the diagonal of Algorithm 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import filter_kwargs, recipe
from jaxopt_ko.core.numerics import ratio, zero_count
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, THRESHOLD, check_dtype, check_hyper, check_pair, check_size
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.hutchinson import hutchinson_estimator_diag_hessian
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, State, Updates

HUTCHINSON = hutchinson_estimator_diag_hessian()


@quantizable(signed=("mu", "nu"))
class SophiaState(NamedTuple):
    """State of `scale_by_sophia`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g
    nu: Updates  # like params, f32+  h_t, mean of the estimated diagonals of the Hessian
    hessian_fn_state: State  # of hessian_diagonal_fn


@options
def scale_by_sophia(
    b1: Hyper = 0.965,
    b2: Hyper = 0.99,
    eps: Hyper = 1e-8,
    gamma: Hyper = 0.01,
    clip_threshold: Hyper | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: GradientTransformation = HUTCHINSON,
    mu_dtype: DType | None = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
    *,
    bias_correction: bool = True,
    hessian_first: bool = False,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The mean gradient over the mean diagonal of the Hessian, each element within +-clip_threshold.

    m_t = b1 m + (1 - b1) g            m_hat = m_t / (1 - b1**t), or m_t without bias_correction
    u   = clip(m_hat / max(gamma h, eps), clip_threshold);   None: not clipped
    h_t = b2 h + (1 - b2) d            at t = 1, 1 + update_interval, …;  h else

    d is what hessian_diagonal_fn makes of the updates, params and extra arguments of update: by default it needs
    obj_fn(params) among those. The mean of d begins at 0 and is not corrected, so the first steps are signs.
    The paper has bias_correction=False and hessian_first=True.

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients; the authors' code's 0.965.
    b2: decay of h, in [0, 1): it remembers about 1 / (1 - b2) estimates; the paper's 0.99.
    eps: the least divisor, >= 0.
    gamma: the larger, the fewer elements are clipped, >= 0; the paper's 0.01 for Hutchinson's estimates.
    clip_threshold: bound of each element of u, > 0, the paper's 1; None: none.
    update_interval: an integer >= 1: steps from one estimate to the next; the paper's 10.
    hessian_diagonal_fn: a transformation whose updates are d; Hutchinson's estimator by default.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    verbose: print how many of the elements were not clipped; the authors want 0.1 to 0.5, a larger gamma raises it.
    print_win_rate_every_n_steps: an integer >= 0: with verbose, how often; 0: never.
    bias_correction: divide m by the weight that it has gathered, 1 - b1**t.
    hessian_first: h_t in the place of h in u.
    nu_dtype: dtype of h; None: the parameter's, float32 at least.

    State: m and h, 8 bytes a parameter, and what the estimator keeps, a key and no more by default.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; and, by default, without obj_fn. TransformationError for a hessian_diagonal_fn that is no (init, update)
        pair. TreeError, when traced, for complex leaves.
    Source: Liu, Li, Hall, Liang & Ma 2023, arXiv:2305.14342, Algorithm 3; the diagonal of Algorithm 1.
    Not without a loss that can be differentiated twice.

    >>> rule = jo.scale_by_sophia(gamma=0.05, bias_correction=False, hessian_first=True)
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """
    name = "scale_by_sophia"
    estimator = check_pair(name, "hessian_diagonal_fn", hessian_diagonal_fn)
    estimate = filter_kwargs(estimator.update, 3)
    period = check_size(name, "update_interval", update_interval)
    every = check_size(name, "print_win_rate_every_n_steps", print_win_rate_every_n_steps, 0) * bool(verbose)
    for argument, dtype in (("mu_dtype", mu_dtype), ("nu_dtype", nu_dtype)):
        check_dtype(name, argument, dtype)
    hypers = {"b1": (b1, FRACTION), "b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE), "gamma": (gamma, NONNEGATIVE)}
    if clip_threshold is not None:
        hypers["bound"] = (clip_threshold, THRESHOLD)
        check_hyper(name, "clip_threshold", clip_threshold, THRESHOLD)

    def init(params: Params) -> SophiaState:
        mu = jax.tree.map(lambda p: tree.wide_like(p, 0, mu_dtype), params)
        nu = jax.tree.map(lambda p: tree.wide_like(p, 0, nu_dtype), params)
        return SophiaState(zero_count(), mu, nu, filter_kwargs(estimator.init, 1)(params))

    def update(
        updates: Updates, state: SophiaState, params: Params = None, *, h: Scalars, **extra: Any
    ) -> tuple[Updates, SophiaState]:
        t, correction = h.t, h.gathered("b1") if bias_correction else jnp.ones_like(h.b1)

        def refreshed(nu: Updates, memory: State) -> tuple[Updates, State]:
            diagonal, memory = estimate(updates, memory, params, **extra)
            return jax.tree.map(lambda old, d: _mean(old, d, h.b2).astype(old.dtype), nu, diagonal), memory

        new = _if(state.count % period == 0, refreshed, state.nu, state.hessian_fn_state)
        m = jax.tree.map(lambda old, g: _mean(old, g, h.b1), state.mu, updates)
        curvature = new[0] if hessian_first else state.nu
        u = jax.tree.map(lambda m, nu: _direction(m, nu, correction, h.gamma, h.eps), m, curvature)
        if clip_threshold is not None:
            if every:
                _print_win_rate(u, h.bound, t, every)
            u = jax.tree.map(lambda x: _within(x, h.bound), u)
        u = jax.tree.map(lambda x, g, p: x.astype(tree.common_dtype(tree.dtype_of(g), tree.dtype_of(p))),
                         u, updates, params)  # fmt: skip
        mu = jax.tree.map(lambda m, old: m.astype(old.dtype), m, state.mu)
        return u, SophiaState(t, mu, *new)

    return transform(
        name, init, update, needs_params=True, state_type=SophiaState, hypers=hypers,
        debiased=("b1",) if bias_correction else (), real=True,
    )  # fmt: skip


@recipe
def sophia(
    learning_rate: Hyper,
    b1: Hyper = 0.965,
    b2: Hyper = 0.99,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 1e-4,
    weight_decay_mask: MaskOrFn | None = None,
    gamma: Hyper = 0.01,
    clip_threshold: Hyper | None = 1.0,
    update_interval: int = 10,
    hessian_diagonal_fn: GradientTransformation = HUTCHINSON,
    mu_dtype: DType | None = None,
    verbose: bool = False,
    print_win_rate_every_n_steps: int = 0,
    *,
    bias_correction: bool = True,
    hessian_first: bool = False,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_sophia`, for language models: cheap second-order steps.

    u = clip(m_hat / max(gamma h, eps), clip_threshold),   h a mean of estimates of the Hessian's diagonal

    update takes the loss as obj_fn, a function of the parameters alone.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients; the authors' code's 0.965.
    b2: decay of h, in [0, 1): it remembers about 1 / (1 - b2) estimates; the paper's 0.99.
    eps: the least divisor, >= 0.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    weight_decay_mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    gamma: the larger, the fewer elements are clipped, >= 0; the paper's 0.01 for Hutchinson's estimates.
    clip_threshold: bound of each element of u, > 0, the paper's 1; None: none.
    update_interval: an integer >= 1: steps from one estimate to the next; the paper's 10.
    hessian_diagonal_fn: a transformation whose updates are the estimates; Hutchinson's estimator by default.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    verbose: print how many of the elements were not clipped; the authors want 0.1 to 0.5, a larger gamma raises it.
    print_win_rate_every_n_steps: an integer >= 0: with verbose, how often; 0: never.
    bias_correction: divide m by the weight that it has gathered, 1 - b1**t; the paper has False.
    hessian_first: take a new estimate into h before the step, as the paper does.
    nu_dtype: dtype of h; None: the parameter's, float32 at least.

    State: m and h, 8 bytes a parameter, and what the estimator keeps, a key and no more by default.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; and, by default, without obj_fn. TransformationError for a hessian_diagonal_fn that is no (init, update)
        pair. TreeError, when traced, for complex leaves.
    Source: Liu, Li, Hall, Liang & Ma 2023, arXiv:2305.14342, Algorithm 3; the diagonal of Algorithm 1.
    Not under vmap, where the Hessian is estimated at every step and thrown away; nor without a loss that can be
        differentiated twice.

    >>> loss = lambda p: jnp.sum(p["w"] ** 4)
    >>> opt, params = jo.sophia(1e-3), {"w": jnp.ones(2)}
    >>> updates, state = opt.update(jax.grad(loss)(params), opt.init(params), params, obj_fn=loss)
    """
    rule = scale_by_sophia(
        b1,
        b2,
        eps,
        gamma,
        clip_threshold,
        update_interval,
        hessian_diagonal_fn,
        mu_dtype,
        verbose,
        print_win_rate_every_n_steps,
        bias_correction=bias_correction,
        hessian_first=hessian_first,
        nu_dtype=nu_dtype,
    )
    return chain(rule, add_decayed_weights(weight_decay, weight_decay_mask), scale_by_learning_rate(learning_rate))


def _if(condition: Array, then: Callable[..., Any], *values: Any) -> Any:
    """then(*values), or the values as they are; step by step only what is needed is run, and compiled."""
    if not isinstance(condition, jax.core.Tracer):
        return then(*values) if condition else values
    return jax.lax.cond(condition, then, lambda *same: same, *values)


@jax.jit
def _mean(old: Array, new: Array, decay: Array) -> Array:
    wide = tree.compute_dtype(old.dtype, new.dtype)
    b = decay.astype(wide)
    return b * old.astype(wide) + (1 - b) * new.astype(wide)


@jax.jit
def _direction(m: Array, h: Array, correction: Array, gamma: Array, eps: Array) -> Array:
    wide = tree.compute_dtype(m.dtype, h.dtype)
    c, gamma, eps = (value.astype(wide) for value in (correction, gamma, eps))
    return ratio(m.astype(wide) / c, jnp.maximum(gamma * h.astype(wide), eps))


@jax.jit
def _within(u: Array, bound: Array) -> Array:
    return jnp.clip(u, -bound.astype(u.dtype), bound.astype(u.dtype))


def _print_win_rate(u: Updates, bound: Array, t: Array, every: int) -> None:
    leaves = jax.tree.leaves(u)
    inside = sum(jnp.sum(jnp.abs(x) < bound.astype(x.dtype)) for x in leaves)
    rate = inside / max(sum(x.size for x in leaves), 1)
    jax.lax.cond(t % every == 0, lambda: jax.debug.print("Sophia: {} of the elements not clipped", rate), lambda: None)
