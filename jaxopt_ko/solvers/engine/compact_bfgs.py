"""The model of limited-memory BFGS in its compact form, and where it is least in a box.

Byrd, Lu, Nocedal & Zhu 1995, doi:10.1137/0916069, sections 3 to 5; Morales & Nocedal 2011, doi:10.1145/2049662.2049669.

q(x + z) = f + g'z + z'Bz/2       B = theta (I + V'EV)

What is as long as x is gone through as seldom as can be: the products of the rows of W = [Y; S] with each other, G, are
kept from one pair to the next, and all else about B is algebra of 2m numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import or_one, safe_sqrt

CURVATURE = 1e-10  # a pair with s'y <= CURVATURE |s| |y| is left out; here, eps |s| |y| if that is more
SEGMENT = 64  # bends of the path that are looked at together
NEARBY = 4.0  # times the way to the minimizer of what moves, within which bends are looked at first


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


def products(memory: LBFGSBMemory) -> Array:
    """G float[2m,2m]: of the rows of W = [Y; S] with each other."""
    W = jnp.concatenate([memory.Y, memory.S])
    return W @ W.T


def renewed(G: Array, memory: LBFGSBMemory, row: Array) -> Array:
    """G after this row of S and Y has been written."""
    S, Y = memory.S, memory.Y
    for first, M in ((0, Y), (len(S), S)):
        new = jax.lax.dynamic_index_in_dim(M, row, 0, False)
        line, at = jnp.concatenate([Y @ new, S @ new]), row + np.int32(first)
        G = jax.lax.dynamic_update_index_in_dim(G, line, at, 0)
        G = jax.lax.dynamic_update_index_in_dim(G, line, at, 1)
    return G


class Compact(NamedTuple):
    """B / theta in the letters of `direction`, its pairs over sqrt(1/theta) and sqrt(theta)."""

    Y: Array  # float[m,n]     as they are kept; `scale` is for what is made of them
    S: Array  # float[m,n]
    scale: Array  # float[2m]  of the rows of W = [Y; S], 0 where there is none yet
    theta: Array  # float[]
    G: Array  # float[2m,2m]   W W', scaled
    below: Array  # bool[m,m]  is the pair of the row newer than that of the column?
    blank: Array  # float[m,m] 1 on the diagonal where there is no pair
    root: Array  # float[m,2m] J^-1 [L I]

    def rows(self, v: Array) -> Array:
        """W v, float[2m]."""
        return self.scale * jnp.concatenate([self.Y @ v, self.S @ v])

    def combined(self, c: Array) -> Array:
        """W'c, float[n]."""
        c, m = self.scale * c, len(self.S)
        return c[:m] @ self.Y + c[m:] @ self.S

    def bent(self, a: Array, b: Array) -> Array:
        """u'(B / theta - I) v from a = W u and b = W v, each float[2m] or float[2m,k]."""
        m = len(self.S)
        found: Array = jnp.sum(a[:m] * b[:m], 0) - jnp.sum((self.root @ a) * (self.root @ b), 0)
        return found

    def turned(self, w: Array) -> Array:
        """The c of (B / theta - I) v = W'c, from w = W v."""
        m, held = len(self.S), (self.root @ w) @ self.root
        return jnp.concatenate([w[:m] - held[:m], -held[m:]])


def compact(memory: LBFGSBMemory, G: Array) -> Compact:
    """B of the pairs in the memory, whose products are G.

    J J' = S S' + L L', with a rounding error's worth more on the diagonal.
    """
    S, Y, stored = memory
    m = len(S)
    rows = jnp.arange(m, dtype=jnp.int32)
    there = rows < stored
    newest = (stored - 1) % np.int32(m)
    theta = jnp.where(stored > 0, G[newest, newest], 1)
    root = jnp.sqrt(theta)
    scale = jnp.where(jnp.tile(there, 2), jnp.repeat(jnp.stack([1 / root, root]), m), 0)
    G = jnp.where((scale[:, None] != 0) & (scale[None] != 0), scale[:, None] * G * scale[None], 0)
    age = (rows - stored) % np.int32(m)  # the larger, the newer
    below, blank = age[:, None] > age[None], jnp.diag(jnp.where(there, 0, 1).astype(S.dtype))
    L, eye = jnp.where(below, G[m:, :m], 0), jnp.eye(m, dtype=S.dtype)
    M = (G[m:, m:] + L @ L.T) * (1 + 10 * m * float(np.finfo(S.dtype).eps) * eye) + blank
    J = jnp.linalg.cholesky(M, symmetrize_input=False)
    lower = jax.scipy.linalg.solve_triangular(J, jnp.concatenate([L, eye], 1), lower=True)
    return Compact(Y, S, scale, theta, G, below, blank, lower)


def direction(
    memory: LBFGSBMemory, x: Array, g: Array, lower: Array, upper: Array, G: Array | None = None, walls: bool = True
) -> Array:
    """p = P(x_s) - x, from the model's minimizer x_s over the variables that the Cauchy point x_c leaves free.

    If that points uphill, p leads to the last point of the box on the way from x_c to x_s. Where the model's minimizer
    along -g is within the box, that is x_c, and leaves all free: x_s is x - B^-1 g, and the path of `cauchy_point` is
    not walked. Under `vmap` it is, for all lanes. G: the products of the memory; None: they are made. walls: are there
    bounds at all?

    B in the compact form of Byrd, Nocedal & Schnabel 1994, doi:10.1007/BF01582063, equation 3.5, with s'y = 1 and
    the pairs over sqrt(1/theta) and sqrt(theta); of S Y', rows and columns by age, L is what is below the diagonal:

    B / theta = I - [Y; S]' [-I L'; L S S']^-1 [Y; S] = I + Y'Y - (S + L Y)' (J J')^-1 (S + L Y)
    """
    if not x.size:
        return x
    B = compact(memory, products(memory) if G is None else G)
    h = g / B.theta
    w = B.rows(h)
    if not walls:
        return -(h + B.combined(subspace_step(B, jnp.zeros_like(B.G), w)))
    first = x - along(B, h @ h, w) * h

    def straight() -> CauchyPoint:
        return CauchyPoint(first, jnp.ones(x.shape, bool), jnp.zeros_like(B.G), jnp.zeros_like(w), w)

    def bent() -> CauchyPoint:
        return cauchy_point(B, x, h, lower, upper)

    within = jnp.all((first > lower) & (first < upper))
    # few elements are sooner looked at than asked whether they have to be
    x_c, free, held, fixed, w = bent() if x.size < SEGMENT else jax.lax.cond(within, straight, bent)
    c = B.turned(fixed)
    c = c + subspace_step(B, held, w + (B.G - held) @ c)  # of r = h + W'c, for the free variables
    x_s = jnp.where(free, x - (h + B.combined(c)), x_c)
    d = x_s - x_c
    room = jnp.where(d < 0, lower - x_c, upper - x_c) / jnp.where(d != 0, d, 1)
    a = jnp.minimum(jnp.min(jnp.where(d != 0, room, jnp.inf), initial=jnp.inf), 1.0)
    clipped, pulled = (jnp.clip(to, lower, upper) - x for to in (x_s, x_c + a * d))
    return jnp.where(g @ clipped < 0, clipped, pulled)


def along(B: Compact, square: Array, w: Array) -> Array:
    """The t where q is least along -t d, d a part of h: square is d'd, w is W d."""
    curvature = jnp.maximum(square + B.bent(w, w), float(np.finfo(w.dtype).eps) * square)
    return square / or_one(curvature)


def subspace_step(B: Compact, held: Array, w: Array) -> Array:
    """The c of -(B_FF / theta)^-1 r_F = -(r_F + W_F'c) for the free variables F; A are the others; w: W_F r_F.

    Byrd, Lu, Nocedal & Zhu 1995, section 5.1. held: W_A W_A', scaled.

    (B_FF / theta)^-1 = I + W' K^-1 W,  W = [Y_F; S_F]    T: S_F Y_F' on and above its diagonal, -S_A Y_A' below
    K = [-I - Y_F Y_F', -T'; -T, S_A S_A'], which loses no digits of B's small eigenvalues; B itself does
    """
    m, moving = len(B.S), B.G - held
    T = jnp.where(B.below, -held[m:, :m], moving[m:, :m])
    K = jnp.block([[-jnp.eye(m, dtype=w.dtype) - moving[:m, :m], -T.T], [-T, held[m:, m:] + B.blank]])
    c: Array = jnp.linalg.solve(K, w)
    return c


class CauchyPoint(NamedTuple):
    """x_c, the variables F that it leaves free, and products with the others, A."""

    x: Array  # float[n]
    free: Array  # bool[n]      F
    held: Array  # float[2m,2m] W_A W_A', scaled
    fixed: Array  # float[2m]   W_A (x_c - x)_A
    w: Array  # float[2m]       W_F h_F


def cauchy_point(B: Compact, x: Array, h: Array, lower: Array, upper: Array) -> CauchyPoint:
    """The first local minimizer of q on the path P(x - t h), h = g / theta. Byrd, Lu, Nocedal & Zhu 1995, section 4.

    What is at the bound that h leads to stands still from the beginning. Where no other element meets its bound before
    q is least along the rest, that is x_c; else the bends of the path are sorted and looked at.
    """
    t = jnp.where(h != 0, (x - jnp.where(h < 0, upper, lower)) / jnp.where(h != 0, h, 1), jnp.inf)
    d = jnp.where(t > 0, h, 0)
    square, w = d @ d, B.rows(d)
    first = x - along(B, square, w) * d

    def walk() -> tuple[Array, Array, Array]:
        least = first_minimizer(B, t, h, square, w)
        x_c = jnp.where(t <= least, jnp.where(h < 0, upper, lower), jnp.clip(x - least * h, lower, upper))
        free = (x_c > lower) & (x_c < upper)
        return x_c, B.rows(jnp.where(free, 0, x_c - x)), B.rows(jnp.where(free, h, 0))

    if t.size < SEGMENT:
        x_c, fixed, w = walk()
    else:
        simple = jnp.all((d == 0) | ((first > lower) & (first < upper)))
        x_c, fixed, w = jax.lax.cond(simple, lambda: (first, jnp.zeros_like(w), w), walk)
    free = (x_c > lower) & (x_c < upper)
    A = jnp.concatenate([jnp.where(free, 0, B.Y), jnp.where(free, 0, B.S)])
    return CauchyPoint(x_c, free, B.scale[:, None] * (A @ A.T) * B.scale[None], fixed, w)


class _Walk(NamedTuple):
    """Where the walk along the path stands, at the begin of a segment."""

    bend: Array  # int32[]    bends behind it
    begin: Array  # float[]   t
    square: Array  # float[]  |d|**2 beyond
    w: Array  # float[2m]     W h of what still moves
    stopped: Array  # float[2m]  W z of what has stopped
    least: Array  # float[]   the t of the minimizer, if it has been found
    found: Array  # bool[]


def first_minimizer(B: Compact, t: Array, h: Array, square: Array, w: Array) -> Array:
    """The t of the first local minimizer of q on the path; element i stops at t_i.

    On each piece of the path between two t_i,

    d = -h, 0 where stopped    z = P(x - t h) - x     q'  / theta = -|d|**2 + t |d|**2 + (V d)'E(V z)
                                                      q'' / theta = |d|**2 + (V d)'E(V d)

    for the pieces of a segment at once, by cumulative sums over the elements in the order of t_i. square, w: |d|**2 and
    W h of the elements with t_i > 0.
    """
    n = t.size
    size = min(SEGMENT, n + 1)  # with the piece behind the last bend
    places = jnp.arange(size, dtype=jnp.int32)
    standing, nil = jnp.sum(~(t > 0), dtype=jnp.int32), jnp.zeros_like(square)
    begin = _Walk(standing, nil, square, w, jnp.zeros_like(w), nil, jnp.zeros((), bool))

    def walk() -> Array:
        order = jnp.concatenate([jnp.argsort(t).astype(jnp.int32), jnp.zeros(size, jnp.int32)])

        def look(i: _Walk) -> _Walk:
            return _looked(B, t, h, i, jax.lax.dynamic_slice(order, (i.bend,), (size,)), i.bend + places < n)

        segments = -(-(n + 1) // size)
        if segments == 1:
            return look(begin).least
        # a loop of so many segments, idle after the end, can be differentiated in reverse
        end = jax.lax.fori_loop(0, segments, lambda _, i: jax.lax.cond(i.found, lambda i: i, look, i), begin)
        return end.least  # type: ignore[no-any-return]

    if n < SEGMENT:
        return walk()
    # most often a few bends come before the minimizer, which then are found without sorting them all
    far = NEARBY * along(B, square, w)
    near = (t > 0) & (t <= far)
    behind = jnp.cumsum(near.astype(jnp.int32))
    real = places < behind[-1]
    at = jnp.where(real, jnp.searchsorted(behind, places + 1), 0)
    at = at[jnp.argsort(jnp.where(real, t[at], jnp.inf))]
    first = _looked(B, t, h, begin, at, real)
    known = (behind[-1] < size) & first.found & (first.least <= far)
    least: Array = jax.lax.cond(known, lambda: first.least, walk)
    return least


def _looked(B: Compact, t: Array, h: Array, i: _Walk, at: Array, real: Array) -> _Walk:
    """After the segment of the bends of the elements `at`, in order; not those that are not `real`, at its end."""
    size, eps, many = len(at), float(np.finfo(t.dtype).eps), len(i.w)
    end, hs = jnp.where(real, t[at], jnp.inf), jnp.where(real, h[at], 0)
    Ws = B.scale[:, None] * jnp.concatenate([B.Y[:, at], B.S[:, at]]) * hs[None]
    begin = jnp.concatenate([i.begin[None], end[:-1]])
    gone = jnp.concatenate([hs[None] * hs[None], Ws, Ws * jnp.where(jnp.isfinite(end), -end, 0)[None]])
    before = jnp.dot(gone, jnp.triu(jnp.ones((size, size), t.dtype), 1), precision=jax.lax.Precision.HIGHEST)
    after = before[:, -1] + gone[:, -1]
    rest = jnp.maximum(i.square - before[0], 0)
    W_h, stopped = i.w[:, None] - before[1 : many + 1], i.stopped[:, None] + before[many + 1 :]
    start = jnp.where(jnp.isfinite(begin), begin, 0)
    slope = (start - 1) * rest - B.bent(W_h, stopped - start[None] * W_h)
    curvature = jnp.maximum(rest + B.bent(W_h, W_h), eps * rest)
    ahead = jnp.where(slope < 0, -slope / or_one(curvature), 0)
    good = (begin < end) & (start + ahead <= end)
    piece = jnp.argmax(good)
    return _Walk(
        i.bend + np.int32(size), end[-1], i.square - after[0], i.w - after[1 : many + 1],
        i.stopped + after[many + 1 :], start[piece] + ahead[piece], good[piece],
    )  # fmt: skip
