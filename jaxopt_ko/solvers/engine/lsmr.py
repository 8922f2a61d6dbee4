"""LSMR: linear least squares by products with the matrix alone. Fong & Saunders 2011, arXiv:1006.0758, section 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import next_count, or_one, safe_sqrt, zero_count


class _Lsmr(NamedTuple):
    """The state of the iteration, in the paper's letters; ' stands for a bar."""

    u: Array  # float[m]
    v: Array  # float[n]
    h: Array  # float[n]
    h_: Array  # float[n]     h'
    x: Array  # float[n]
    alpha: Array  # float[]
    alpha_: Array  # float[]
    zeta_: Array  # float[]   |A'r|, with a sign
    rho: Array  # float[]
    rho_: Array  # float[]
    c_: Array  # float[]
    s_: Array  # float[]
    count: Array  # int32[]  iterations
    done: Array  # bool[]


def lsmr(
    product: Callable[[Array], Array],
    transposed: Callable[[Array], Array],
    b: Array,
    tolerance: Array | float,
    max_steps: int,
) -> tuple[Array, Array]:
    """min |A x - b| from x = 0, until |A'(A x - b)| <= tolerance |A'b|; and how many products were made.

    product: x -> A x.  transposed: u -> A'u. Both |A x - b| and |A'(A x - b)| fall with every iteration, so that it
    may end at any. A loop of max_steps, idle after the end, so that it can be differentiated in reverse.

    beta u = A v - alpha u      alpha v = A'u - beta v                                     (Golub and Kahan)
    """

    def iterate(i: _Lsmr) -> _Lsmr:
        beta, u = _normal(product(i.v) - i.alpha * i.u)
        alpha, v = _normal(transposed(u) - beta * i.v)
        rho, c, s = _rotation(i.alpha_, beta)
        theta, alpha_ = s * alpha, c * alpha
        theta_ = i.s_ * rho
        rho_, c_, s_ = _rotation(i.c_ * rho, theta)
        zeta, zeta_ = c_ * i.zeta_, -s_ * i.zeta_
        h_ = i.h - theta_ * rho / (i.rho * i.rho_) * i.h_
        x = i.x + zeta / or_one(rho * rho_) * h_
        h = v - theta / or_one(rho) * i.h
        done = (jnp.abs(zeta_) <= bound) | ~(rho * rho_ > 0)
        return _Lsmr(u, v, h, h_, x, alpha, alpha_, zeta_, or_one(rho), or_one(rho_), c_, s_,
                     next_count(i.count), done)  # fmt: skip

    beta, u = _normal(b)
    alpha, v = _normal(transposed(u))
    bound, one, nil = tolerance * alpha * beta, jnp.ones_like(beta), jnp.zeros_like(beta)
    start = _Lsmr(
        u, v, v, jnp.zeros_like(v), jnp.zeros_like(v), alpha, alpha, alpha * beta, one, one, one, nil, zero_count(),
        ~(alpha * beta > 0),
    )  # fmt: skip
    end = jax.lax.fori_loop(0, max_steps, lambda _, i: jax.lax.cond(i.done, lambda i: i, iterate, i), start)
    return end.x, np.int32(2) * end.count + np.int32(1)


def _normal(x: Array) -> tuple[Array, Array]:
    """|x| and x / |x|."""
    length = safe_sqrt(jnp.sum(x * x))
    return length, x / or_one(length)


def _rotation(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """The rotation that turns (a, b) into (r, 0): r, cosine, sine."""
    r = safe_sqrt(a * a + b * b)
    return r, a / or_one(r), b / or_one(r)
