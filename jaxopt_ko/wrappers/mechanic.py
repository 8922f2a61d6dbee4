"""Mechanic: a learning rate for any optimizer. Cutkosky, Defazio & Mehta 2023, arXiv:2306.00144, Algorithm 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import filter_kwargs, name_of
from jaxopt_ko.core.numerics import first_value, narrowed, next_count, ratio, safe_sqrt, scalar_dtype, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.core.treewise import Vector
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE
from jaxopt_ko.types import GradientTransformation, Hyper, Params, State, Updates


class MechanicState(NamedTuple):
    """State of `mechanize`; k = num_betas."""

    base_optimizer_state: State  # of the inner optimizer
    count: Array  # int32[]         t, steps taken
    r: Array  # float[k]            what each of the betas has won
    m: Array  # float[k]            largest |h|, decaying
    v: Array  # float[k]            sum of h**2, decaying
    s: Array  # float[k]            scales; their sum multiplies the inner optimizer's path
    x0: Params  # like params, f32+ the parameters at the first step


@options
def mechanize(
    base_optimizer: GradientTransformation,
    weight_decay: Hyper = 1e-2,
    eps: Hyper = 1e-8,
    s_init: Hyper = 1e-6,
    num_betas: int = 6,
) -> GradientTransformation:
    """The inner optimizer's path from x_0, times a factor that is learned on the way.

    D   = (x_0 - x) / (sum(s) + eps);   D' = D - u            u the inner optimizer's step
    h   = <g + weight_decay sum(s) |g| x / (|x| + eps), D>
    for each b = 1 - 0.1**i, i = 1 … num_betas:
    m   = max(b m, |h| + eps);   v = b**2 v + h**2;   r = b r + s min(max(h, -m_old), m_old)
    s   = (s_init / num_betas m + max(r, 0)) / (sqrt(v) + eps)
    x   = x_0 - sum(s) D'

    base_optimizer: a whole optimizer; it keeps its schedule, and its learning rate may be of any size.
    weight_decay: lambda >= 0, a pull of the factor towards smaller weights; 1e-2 in the paper.
    eps: > 0, added to divisors; 1e-8 in the paper.
    s_init: > 0, the first scale, to be small, as it grows fast; 1e-6 as in optax.
    num_betas: how many decays are tried at once, an integer >= 1; 6 in the paper.

    State: 4 bytes a parameter, x_0, and 16 for each beta, beside that of the inner optimizer. Needs params.

    Raises HyperparameterError, when made, for numbers outside their domain; TransformationError if base_optimizer is
    none; MissingArgumentError, when traced, without params. Source: Cutkosky, Defazio & Mehta 2023, arXiv:2306.00144,
    Algorithm 1. Not to be continued from parameters that were changed by hand: the state holds those of the first step.

    >>> tx = jo.mechanize(jo.adamw(1.0))
    >>> state = tx.init(jnp.ones(2))
    """
    name = "mechanize"
    pair = errors.check_pair(name, "base_optimizer", base_optimizer)
    inner_init, inner_update = filter_kwargs(pair.init, 1), filter_kwargs(pair.update, 3)
    errors.check_size(name, "num_betas", num_betas)
    hypers = {"weight_decay": (weight_decay, NONNEGATIVE), "eps": (eps, POSITIVE), "s_init": (s_init, POSITIVE)}
    for key, spec in hypers.items():
        errors.check_hyper(name, key, *spec)

    def init(params: Params) -> MechanicState:
        zeros = jnp.zeros(num_betas, tree.scalar_dtype_like(params))
        s = zeros + jnp.asarray(first_value(s_init)).astype(zeros.dtype)
        x0 = tree.flatten(params)
        copies = x0[1].unflatten([tree.wide_copy(p) for p in x0[0]])
        return MechanicState(inner_init(params), zero_count(), zeros, zeros + 0, zeros + 0, s, copies)

    def update(
        updates: Updates, state: MechanicState, params: Params = None, *, h: Scalars, **extra: Any
    ) -> tuple[Updates, State]:
        steps, inner = inner_update(updates, state.base_optimizer_state, params, **extra)
        decay, e, first = h.weight_decay, h.eps, h.s_init
        leaves, treedef = tree.flatten(updates, none_is_leaf=True)
        present = [i for i, g in enumerate(leaves) if g is not None]
        x0s = tree.in_order(name, "state", state.x0, updates, treedef)

        def vector(what: str, full: Any) -> Vector:
            column = tree.in_order(name, what, full, updates, treedef)
            return Vector(
                [
                    jnp.asarray(column[i]).astype(tree.compute_dtype(tree.dtype_of(leaves[i]), x0s[i].dtype))
                    for i in present
                ]
            )

        g, x, u = vector("gradients", updates), vector("params", params), vector("updates", steps)
        begins = state.count == 0
        x0 = x.map(lambda now, then: jnp.where(begins, now, then), vector("state", state.x0))
        r, m, v, s = (narrowed(a, scalar_dtype()) for a in (state.r, state.m, state.v, state.s))
        total = jnp.sum(s)
        D = (x0 - x) / (total + e)
        won = (g + (decay * total * ratio(g.norm(), x.norm() + e)) * x).dot(D)
        b = 1 - jnp.power(jnp.full(num_betas, 0.1, s.dtype), jnp.arange(1, num_betas + 1).astype(s.dtype))
        clipped = jnp.clip(won, -m, m)
        m, v, r = jnp.maximum(b * m, jnp.abs(won) + e), b * b * v + won * won, b * r + s * clipped
        s = (first / num_betas * m + jnp.maximum(r, 0)) / (safe_sqrt(v) + e)
        step = x0 - jnp.sum(s) * (D - u) - x
        for i, part, start in zip(present, step.parts, x0.parts, strict=True):
            leaves[i], x0s[i] = part.astype(tree.dtype_of(leaves[i])), start.astype(x0s[i].dtype)
        r, m, v, s = (now.astype(old.dtype) for now, old in zip((r, m, v, s), state[2:6], strict=True))
        new = MechanicState(inner, next_count(state.count), r, m, v, s, treedef.unflatten(x0s))
        return treedef.unflatten(leaves), new

    return transform(
        f"mechanize({name_of(pair)})", init, update, needs_params=True, state_type=MechanicState, hypers=hypers
    )
