"""Magma: steps of a whole layer left out at random. Joo et al. 2026, arXiv:2602.15322, Algorithm 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees, memory_mismatch
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import name_of
from jaxopt_ko.core.numerics import inner, length, mixing, quotient, real_dtype, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import POSITIVE, UNIT
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, PyTree, State, Updates


class MagmaState(NamedTuple):
    """State of `magma`."""

    inner_state: State  # of the inner transformation
    count: Array  # int32[]                                 t, steps taken
    mu: Updates  # like params, f32+                        m_t, mean of g
    alignment: Updates  # float[] of each leaf, or layer of a stack   s_t, mean of the cosine's sigmoid; 1 at first


@options
def magma(
    inner: GradientTransformation,
    keep: Hyper = 0.5,
    tau: Hyper = 2.0,
    *,
    momentum: Hyper = 0.9,
    decay: Hyper = 0.9,
    key: Array | int = 0,
    mu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """A transformation whose steps are, for each leaf, left out by a coin, and else as long as gradient and mean agree.

    m_t = momentum m + (1 - momentum) g
    s_t = decay s + (1 - decay) sigmoid(cos(m_t, g) / tau);   s_0 = 1
    u   <- s_t u with the probability `keep`, else 0           the state of inner goes on in both

    Carried by pytorch_optimizer.

    inner: the transformation, ours or optax's: Adam, RMSProp, Muon.
    keep: the probability of a step, in [0, 1]; the paper's 0.5. At 1 no step is left out.
    tau: temperature of the sigmoid, > 0; the paper's 2.
    momentum: decay of m, in [0, 1]; the paper's 0.9.
    decay: of the mean of the sigmoid, in [0, 1]; the paper's 0.9.
    key: of all coins, a JAX PRNG key or an integer seed.
    mu_dtype: dtype of m; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape, each with a coin of its own: an integer, or a tree.

    State: that of inner; m, 4 bytes a parameter, a number a leaf.
    Raises HyperparameterError, when made, for numbers outside their domain; TransformationError if inner is none.
    Source: Joo et al. 2026, arXiv:2602.15322, Algorithm 1.
    Not for embeddings, as the paper says: partition({"table": adam(…), "rest": magma(adam(…))}, …).

    >>> tx = jo.magma(jo.adam(1e-3), key=1)
    >>> state = tx.init({"w": jnp.ones((2, 3))})
    """
    pair = as_transformation("magma", "inner", inner)
    name, start = f"magma({name_of(pair)})", errors.check_key("magma", key)
    errors.check_dtype("magma", "mu_dtype", mu_dtype)

    def init(params: Params, **problem: Any) -> MagmaState:
        leaves, treedef = tree.flatten(params)
        stacks = tree.stacks(name, stack_axes, params)
        kinds = [real_dtype(tree.compute_dtype(tree.dtype_of(p))) for p in leaves]
        each = zip(leaves, stacks, kinds, strict=True)
        alignment = treedef.unflatten([jnp.ones(np.shape(p)[:stack], dtype) for p, stack, dtype in each])
        mu = jax.tree.map(lambda p: tree.wide_like(p, 0, mu_dtype), params)
        return MagmaState(pair.init(params, **problem), zero_count(), mu, alignment)

    def update(
        updates: Updates, state: MagmaState, params: Params = None, *, h: Scalars, **extra: Any
    ) -> tuple[Updates, MagmaState]:
        u, inner_state = pair.update(updates, state.inner_state, params, **extra)
        check_same_trees(name_of(pair), "updates", u, "gradients", updates)
        leaves, treedef = tree.flatten(updates, none_is_leaf=True)
        columns = [tree.in_order(name, "state", x, updates, treedef) for x in (u, state.mu, state.alignment)]
        coins, numbers, made = jax.random.fold_in(start, h.t), (h.keep, h.tau, h.momentum, h.decay), []
        for i, (g, step, m, s) in enumerate(zip(leaves, *columns, strict=True)):
            if g is None:
                made.append((step, m, s))
                continue
            if np.shape(m) != np.shape(g):
                memory_mismatch(name, [m], errors.path_of(updates, i, none_is_leaf=True), g)
            made.append(_masked(g, step, m, s, jax.random.fold_in(coins, np.int32(i)), numbers))
        u, mu, alignment = map(treedef.unflatten, zip(*made, strict=True) if made else ((), (), ()))
        return u, MagmaState(inner_state, h.t, mu, alignment)

    hypers = {"keep": (keep, UNIT), "tau": (tau, POSITIVE), "momentum": (momentum, UNIT), "decay": (decay, UNIT)}
    return transform(name, init, update, state_type=MagmaState, hypers=hypers)


@jax.jit
def _masked(
    g: Array, u: Array, m: Array, s: Array, key: Array, numbers: tuple[Array, ...]
) -> tuple[Array, Array, Array]:
    """One leaf, or a stack of them, in float32 at least."""
    wide = tree.compute_dtype(g.dtype, m.dtype)
    keep, tau, momentum, decay = (x.astype(real_dtype(wide)) for x in numbers)
    axes = tuple(range(s.ndim, g.ndim))
    with mixing(wide, u.dtype):
        G = g.astype(wide)
        M = momentum * m.astype(wide) + (1 - momentum) * G
        units = [quotient(x, jnp.broadcast_to(length(x, axes, keepdims=True), x.shape)) for x in (M, G)]
        cosine = jnp.sum(inner(*units), axes)
        S = decay * s + (1 - decay) * jax.nn.sigmoid(cosine / tau)
        U = u.astype(tree.compute_dtype(u.dtype))
        taken = jax.random.uniform(key, s.shape, keep.dtype) < keep
        taken, factor = (x.reshape(*s.shape, *(1,) * len(axes)) for x in (taken, S))
        step = jnp.where(taken, factor.astype(U.real.dtype) * U, jnp.zeros_like(U))
    return step.astype(u.dtype), M.astype(m.dtype), S.astype(s.dtype)
