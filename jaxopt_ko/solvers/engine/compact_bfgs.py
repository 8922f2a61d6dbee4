"""The model of limited-memory BFGS in its compact form, and where it is least in a box.

Byrd, Lu, Nocedal & Zhu 1995, doi:10.1137/0916069, sections 3 to 5; Morales & Nocedal 2011, doi:10.1145/2049662.2049669.

q(x + z) = f + g'z + z'Bz/2       B = theta (I + V'EV)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import safe_sqrt

CURVATURE = 1e-10  # a pair with s'y <= CURVATURE |s| |y| is left out; here, eps |s| |y| if that is more


class LBFGSBMemory(NamedTuple):
    """The pairs s = x_new - x, y = g_new - g that B is made of, each over sqrt(s'y): s'y = 1."""

    S: Array  # float[m,n]  the next one in row stored % m; zero where there is none yet
    Y: Array  # float[m,n]
    stored: Array  # int32[]  pairs that came in since the memory was last emptied


def plain_length(x: Array) -> Array:
    """|x| without regard to overflow, with derivative 0 at 0."""
    size: Array = safe_sqrt(x @ x)
    return size


def remember(memory: LBFGSBMemory, s: Array, y: Array) -> LBFGSBMemory:
    """The memory with the pair (s, y), if its curvature is positive beyond rounding."""
    S, Y, stored = memory
    least = max(CURVATURE, float(np.finfo(s.dtype).eps))
    curved = s @ y > least * plain_length(s) * plain_length(y)
    scale = jnp.sqrt(jnp.where(curved, s @ y, 1))
    row = stored % np.int32(len(S))
    S, Y = (
        jax.lax.dynamic_update_index_in_dim(
            M, jnp.where(curved, new / scale, jax.lax.dynamic_index_in_dim(M, row, 0, False)), row, 0
        )
        for M, new in ((S, s), (Y, y))
    )
    return LBFGSBMemory(S, Y, stored + curved.astype(jnp.int32))


def direction(memory: LBFGSBMemory, x: Array, g: Array, lower: Array, upper: Array) -> Array:
    """p = P(x_s) - x, from the model's minimizer x_s over the variables that the Cauchy point x_c leaves free.

    If that points uphill, p leads to the last point of the box on the way from x_c to x_s.

    B in the compact form of Byrd, Nocedal & Schnabel 1994, doi:10.1007/BF01582063, equation 3.5, with s'y = 1 and
    the pairs over sqrt(1/theta) and sqrt(theta); of S Y', rows and columns by age, L is what is below the diagonal:

    B / theta = I - [Y; S]' [-I L'; L S S']^-1 [Y; S]
    """
    S, Y, stored = memory
    rows = jnp.arange(len(S), dtype=jnp.int32)
    there = rows < stored
    newest = Y[(stored - 1) % np.int32(len(S))]
    theta = jnp.where(stored > 0, newest @ newest, 1)
    S = jnp.where(there[:, None], S * jnp.sqrt(theta), 0)
    Y = jnp.where(there[:, None], Y / jnp.sqrt(theta), 0)
    age = (rows - stored) % np.int32(len(S))  # the larger, the newer
    below, blank, h = age[:, None] > age[None], jnp.diag(jnp.where(there, 0, 1).astype(S.dtype)), g / theta

    V, e = factors(S, Y, below, blank)
    x_c = cauchy_point(V, e, x, h, lower, upper)
    free = (x_c > lower) & (x_c < upper)
    fixed = jnp.where(free, 0, x_c - x)
    z = subspace_step(S, Y, below, blank, free, h + (e * (V @ fixed)) @ V)
    x_s = jnp.where(free, x + z, x_c)

    d = x_s - x_c
    room = jnp.where(d < 0, lower - x_c, upper - x_c) / jnp.where(d != 0, d, 1)
    a = jnp.minimum(jnp.min(jnp.where(d != 0, room, jnp.inf), initial=jnp.inf), 1.0)
    clipped, pulled = (jnp.clip(to, lower, upper) - x for to in (x_s, x_c + a * d))
    return jnp.where(g @ clipped < 0, clipped, pulled)


def factors(S: Array, Y: Array, below: Array, blank: Array) -> tuple[Array, Array]:
    """V float[2m,n] and e float[2m], the diagonal of E: B / theta = I + V'EV.

    V = [Y; J^-1 (S + L Y)]    E = diag(I, -I)    J J' = S S' + L L', with a rounding error's worth more on the diagonal
    """
    L = jnp.where(below, S @ Y.T, 0)
    M = S @ S.T + L @ L.T
    M = M * (1 + 10 * len(S) * float(np.finfo(S.dtype).eps) * jnp.eye(len(S), dtype=S.dtype)) + blank
    J = jnp.linalg.cholesky(M)
    V = jnp.concatenate([Y, jax.scipy.linalg.solve_triangular(J, S + L @ Y, lower=True)])
    return V, jnp.repeat(jnp.array([1, -1], S.dtype), len(S))


def subspace_step(S: Array, Y: Array, below: Array, blank: Array, free: Array, r: Array) -> Array:
    """-(B_FF / theta)^-1 r_F for the free variables F; A are the others. Byrd, Lu, Nocedal & Zhu 1995, section 5.1.

    (B_FF / theta)^-1 = I + W' K^-1 W,  W = [Y_F; S_F]    T: S_F Y_F' on and above its diagonal, -S_A Y_A' below
    K = [-I - Y_F Y_F', -T'; -T, S_A S_A'], which loses no digits of B's small eigenvalues; B itself does
    """
    SF, YF = jnp.where(free[None], S, 0), jnp.where(free[None], Y, 0)
    SA, YA, r = S - SF, Y - YF, jnp.where(free, r, 0)
    T = jnp.where(below, -SA @ YA.T, SF @ YF.T)
    K = jnp.block([[-jnp.eye(len(S), dtype=S.dtype) - YF @ YF.T, -T.T], [-T, SA @ SA.T + blank]])
    W = jnp.concatenate([YF, SF])
    step: Array = -(r + jnp.linalg.solve(K, W @ r) @ W)
    return step


def cauchy_point(V: Array, e: Array, x: Array, h: Array, lower: Array, upper: Array) -> Array:
    """The first local minimizer of q on the path P(x - t h), h = g / theta. Byrd, Lu, Nocedal & Zhu 1995, section 4.

    Element i stops at t_i. On each piece of the path between two t_i,

    d = -h, 0 where stopped    z = P(x - t h) - x     q'  / theta = -|d|**2 + t |d|**2 + (V d)'E(V z)
                                                      q'' / theta = |d|**2 + (V d)'E(V d)

    for all pieces at once, by cumulative sums over the elements in the order of t_i.
    """
    t = jnp.where(h != 0, (x - jnp.where(h < 0, upper, lower)) / jnp.where(h != 0, h, 1), jnp.inf)
    order = jnp.argsort(t)
    ts, hs, Vs = t[order], h[order], V[:, order]
    zero, column = jnp.zeros(1, x.dtype), jnp.zeros((len(V), 1), x.dtype)
    moving = jax.lax.cumsum(jnp.concatenate([hs[None], Vs]) * hs[None], axis=1, reverse=True)
    stopped = jnp.cumsum(Vs * jnp.where(jnp.isfinite(ts), -ts * hs, 0)[None], 1)
    begin, end = jnp.concatenate([zero, ts]), jnp.append(ts, jnp.inf)  # of each piece
    empty = ~(begin < end)
    begin = jnp.where(jnp.isfinite(begin), begin, 0)
    d2, Vd = jnp.append(moving[0], zero), jnp.concatenate([-moving[1:], column], 1)
    Vz = jnp.concatenate([column, stopped], 1) + begin[None] * Vd
    slope = (begin - 1) * d2 + e @ (Vd * Vz)
    curvature = jnp.maximum(d2 + e @ (Vd * Vd), float(np.finfo(x.dtype).eps) * d2)
    ahead = jnp.where(slope < 0, -slope / jnp.where(curvature > 0, curvature, 1), 0)
    piece = jnp.argmax(~empty & (begin + ahead <= end))
    least = begin[piece] + ahead[piece]
    point: Array = jnp.where(t <= least, jnp.where(h < 0, upper, lower), jnp.clip(x - least * h, lower, upper))
    return point
