"""Linear least squares with damping, in a ball and in a box: where a step of nonlinear least squares comes from.

minimize |r + A z|**2 + lambda |z0 + z|**2 over z      A float[m,n], m >= n
|r + A z|**2 = |q + R z|**2 + constant,  R float[n,n] triangular and q float[n] from the QR decomposition of [A r]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular

from jaxopt_ko.core.numerics import next_count, zero_count
from jaxopt_ko.solvers.engine.convergence import eps_of

SMALL = 32  # parameters: up to so many singular values cost little
CLOSE = 1e-6  # of the radius, by which |z| may exceed it where each lambda costs a factorization
HEBDEN_STEPS = 12  # of Newton on |z| = radius; some four reach the last digit


class Svd(NamedTuple):
    """R = U diag(s) V'."""

    U: Array  # float[n,n]
    s: Array  # float[n]
    Vt: Array  # float[n,n]

    def solve(self, q: Array, z0: Array, lam: Array) -> Array:
        """The minimizer, the shortest one if lambda = 0."""
        return ((-self.s * (q @ self.U) - lam * (self.Vt @ z0)) * self._inverse(lam)) @ self.Vt

    def with_slope(self, q: Array, lam: Array) -> tuple[Array, Array]:
        """The minimizer z, z0 = 0, and z'(R'R + lambda I)^-1 z."""
        z = self.solve(q, jnp.zeros_like(q), lam)
        return z, z @ self.inverse(z, lam)

    def inverse(self, v: Array, lam: Array) -> Array:
        """(R'R + lambda I)^-1 v, or by the pseudoinverse if lambda = 0."""
        return ((self.Vt @ v) * self._inverse(lam)) @ self.Vt

    def below(self, q: Array, radius: Array) -> Array:
        """A lambda whose z is at least `radius` long, for one component is: 0 if there is none."""
        return jnp.max(jnp.abs(self.s * (q @ self.U)) / radius - self.s**2, initial=0.0)

    def _inverse(self, lam: Array) -> Array:
        s = self.s
        seen = (lam > 0) | (s > eps_of(s) * s.size * jnp.max(s, initial=0.0))
        square = s * s + lam
        return jnp.where(seen & (square > 0), 1 / jnp.where(square > 0, square, 1), 0)


class Qr(NamedTuple):
    """R as it is. Of a large one, with lambda > 0 a Cholesky factor of R'R + lambda I takes its place, and where either
    would lose more than half of the digits the singular values of R do; a small one is made triangular anew."""

    R: Array  # float[n,n]
    gram: Array  # float[n,n]  R'R

    def solve(self, q: Array, z0: Array, lam: Array) -> Array:
        """The minimizer; with lambda = 0 the shortest one, or nearly."""
        T, t, sure = self._damped(q, z0, lam)
        z: Array = _either(sure, lambda: -solve_triangular(T, t), lambda: by_svd(self.R).solve(q, z0, lam))
        return z

    def with_slope(self, q: Array, lam: Array) -> tuple[Array, Array]:
        """The minimizer z, z0 = 0, and z'(R'R + lambda I)^-1 z."""
        T, t, sure = self._damped(q, jnp.zeros_like(q), lam)

        def quick() -> tuple[Array, Array]:
            z = -solve_triangular(T, t)
            return z, jnp.sum(solve_triangular(T, z, trans=1) ** 2)

        both: tuple[Array, Array] = _either(sure, quick, lambda: by_svd(self.R).with_slope(q, lam))
        return both

    def inverse(self, v: Array, lam: Array) -> Array:
        """(R'R + lambda I)^-1 v."""
        nil = jnp.zeros(len(self.R), self.R.dtype)
        T, _, sure = self._damped(nil, nil, lam)

        def quick(v: Array) -> Array:
            return solve_triangular(T, solve_triangular(T, v, trans=1))

        found: Array = _either(sure, quick, lambda v: by_svd(self.R).inverse(v, lam), v)
        return found

    def below(self, q: Array, radius: Array) -> Array:
        """0: nothing better is known."""
        return jnp.zeros_like(radius)

    def _damped(self, q: Array, z0: Array, lam: Array) -> tuple[Array, Array, Array | None]:
        """T and t: |t + T z|**2 is what is minimized, up to a constant; and are the pivots of T sure? None: they are.

        A column of zeros, of what may not move, is given a row of its own, which keeps that z at 0."""
        R, eye, eps = self.R, jnp.eye(len(self.R), dtype=self.R.dtype), eps_of(self.R)
        least = eps * len(R) * jnp.sqrt(jnp.sum(R**2))
        if len(R) <= SMALL:
            root = jnp.maximum(jnp.sqrt(lam), jnp.where(least > 0, least, 1))
            return *triangle(jnp.concatenate([R, root * eye]), jnp.concatenate([q, root * z0])), None
        held = jnp.diag((jnp.sum(jnp.abs(R), axis=0) == 0).astype(R.dtype))

        def by_cholesky() -> tuple[Array, Array]:
            T = jnp.linalg.cholesky(self.gram + lam * eye + held, upper=True, symmetrize_input=False)
            return T, solve_triangular(T, q @ R + lam * z0, trans=1)

        def anew() -> tuple[Array, Array]:
            return triangle(jnp.concatenate([R, held]), jnp.concatenate([q, jnp.zeros_like(q)]))

        def as_it_is() -> tuple[Array, Array]:
            return jax.lax.cond(jnp.any(held > 0), anew, lambda: (R, q))  # type: ignore[no-any-return]

        T, t = jax.lax.cond(lam > 0, by_cholesky, as_it_is)
        pivots = jnp.abs(jnp.diagonal(T))
        small = jnp.where(lam > 0, eps**0.25 * jnp.max(pivots), 10 * least)
        return T, t, jnp.min(pivots) > small


def _either(sure: Array | None, quick: Callable[..., Any], careful: Callable[..., Any], *args: Array) -> Any:
    """What `quick` says if it is sure, else what `careful` does."""
    return quick(*args) if sure is None else jax.lax.cond(sure, quick, careful, *args)


Factors: TypeAlias = Svd | Qr
Decompose: TypeAlias = Callable[[Array], Factors]


def by_svd(R: Array) -> Svd:
    """The factors of R, whatever its rank."""
    if R.size == 0:
        return Svd(R, jnp.diagonal(R), R)
    return Svd(*jax.lax.platform_dependent(R, cpu=_svd_cpu, default=_svd))


def _svd(R: Array, algorithm: Any = None) -> tuple[Array, Array, Array]:
    U, s, Vt = jax.lax.linalg.svd(R, full_matrices=False, algorithm=algorithm)
    return U, s, Vt


def _svd_cpu(R: Array) -> tuple[Array, Array, Array]:
    """By bidiagonal QR iteration: divide and conquer, LAPACK's faster way, fails on some sound matrices."""

    def sure(R: Array) -> tuple[Array, Array, Array]:
        return _svd(R, jax.lax.linalg.SvdAlgorithm.QR)

    if len(R) <= SMALL:  # where it is as fast
        return sure(R)
    U, s, Vt = _svd(R)
    return jax.lax.cond(jnp.all(jnp.isfinite(s)), lambda R: (U, s, Vt), sure, R)  # type: ignore[no-any-return]


def by_qr(R: Array) -> Qr:
    """R itself, and R'R."""
    return Qr(R, R.T @ R)


def by_size(R: Array) -> Factors:
    """The singular values of a small R; a large one as it is, for a hundredth of the work."""
    return by_svd(R) if len(R) <= SMALL else by_qr(R)


DECOMPOSITIONS: dict[str, Decompose] = {"auto": by_size, "svd": by_svd, "qr": by_qr}


def triangle(A: Array, r: Array) -> tuple[Array, Array]:
    """R and q; as constants, for derivatives go by A and r themselves."""
    n = A.shape[1]
    joint = jax.lax.stop_gradient(jnp.concatenate([A, r[:, None]], axis=1))
    T = jnp.linalg.qr(joint, mode="r")
    return T[:n, :n], T[:n, n]


# ---- with damping, or in a ball -------------------------------------------------------------------------


@jax.custom_jvp
def damped(A: Array, r: Array, z0: Array, lam: Array, factors: Factors, q: Array) -> Array:
    """The minimizer z. factors, q: of R and q; the derivatives are those of the equation by A, r, z0 and lambda.

    (A'A + lambda I) z = -A'r - lambda z0
    """
    return factors.solve(q, z0, lam)


@damped.defjvp
def _damped_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    (A, r, z0, lam, factors, q), (dA, dr, dz0, d_lam, _, _) = primals, tangents
    z = damped(A, r, z0, lam, factors, q)
    right = (r + A @ z) @ dA + (dr + dA @ z) @ A + lam * dz0 + d_lam * (z0 + z)
    return z, -factors.inverse(right, lam)


@jax.custom_jvp
def multiplier(A: Array, r: Array, radius: Array, factors: Factors, q: Array) -> tuple[Array, Array]:
    """The lambda >= 0 whose z (with z0 = 0) is `radius` long, 0 if z is shorter for all; and the length of z(0).

    Newton's method on 1 / |z(lambda)| = 1 / radius, Hebden's, climbs to the root from any lambda below it.
    The derivatives by A, r and radius are those of |z(lambda)| = radius; the length's are left out.
    """
    nil = jnp.zeros_like(q)
    longest = jnp.linalg.norm(factors.solve(q, nil, jnp.zeros_like(radius)))
    inside = longest <= radius

    close = radius if isinstance(factors, Svd) else (1 + CLOSE) * radius

    def climb(at: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        steps, lam, _ = at
        z, slope = factors.with_slope(q, lam)
        length = jnp.linalg.norm(z)
        step = (length - radius) * length**2 / (radius * jnp.where(slope > 0, slope, 1))
        on = (length > close) & (slope > 0)
        return next_count(steps), lam + jnp.where(on, step, 0), on

    def goes_on(at: tuple[Array, Array, Array]) -> Array:
        return at[2] & (at[0] < HEBDEN_STEPS)

    begin = zero_count(), jnp.where(inside, 0, factors.below(q, radius)), ~inside
    _, lam, _ = jax.lax.while_loop(goes_on, climb, begin)
    return lam, longest


@multiplier.defjvp
def _multiplier_jvp(
    primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (A, r, radius, factors, q), (dA, dr, d_radius, _, _) = primals, tangents
    lam, longest = multiplier(A, r, radius, factors, q)
    z = factors.solve(q, jnp.zeros_like(q), lam)
    right = (r + A @ z) @ dA + (dr + dA @ z) @ A
    along = z @ factors.inverse(z, lam)
    bounded = (lam > 0) & (along > 0)
    d_lam = -(z @ factors.inverse(right, lam) + radius * d_radius) / jnp.where(bounded, along, 1)
    return (lam, longest), (jnp.where(bounded, d_lam, 0), jnp.zeros_like(longest))


# ---- steps ----------------------------------------------------------------------------------------------


class LinearModel(NamedTuple):
    """The linear model r + J p of some residuals, and the scale D of p."""

    r: Array  # float[m]
    J: Array  # float[m,n]
    R: Array  # float[n,n]  |r + J p|**2 = |q + R p|**2 + constant; both without derivatives
    q: Array  # float[n]
    D: Array  # float[n]  positive

    def value(self, p: Array, lam: Array) -> Array:
        """|q + R p|**2 / 2 + lambda |D p|**2 / 2."""
        return 0.5 * (jnp.sum((self.q + self.R @ p) ** 2) + lam * jnp.sum((self.D * p) ** 2))

    def face(self, decompose: Decompose, lam: Array) -> Face:
        """That, as what `in_box` minimizes."""
        return Face(
            lambda p: self.value(p, lam),
            lambda p: (self.r + self.J @ p) @ self.J + lam * self.D**2 * p,
            lambda free, p: (newton_step(self, decompose, free, p, lam), zero_count()),
            self.D,
        )

    def scaled(self, decompose: Decompose, free: Array) -> tuple[Array, Factors]:
        """A = J / D and what R / D decomposes into, for the free elements of p alone."""
        keep = jnp.where(free, 1 / self.D, 0)
        return self.J * keep[None], decompose(self.R * jax.lax.stop_gradient(keep)[None])


def in_ball(model: LinearModel, decompose: Decompose, free: Array, radius: Array) -> tuple[Array, Array, Array]:
    """The free elements of p for the least |r + J p| with |D p| <= radius; lambda, and |D p| without the bound."""
    A, factors = model.scaled(decompose, free)
    lam, longest = multiplier(A, model.r, radius, factors, model.q)
    z = damped(A, model.r, jnp.zeros_like(model.q), lam, factors, model.q)
    return jnp.where(free, z / model.D, 0), lam, longest


def newton_step(model: LinearModel, decompose: Decompose, free: Array, p: Array, lam: Array) -> Array:
    """What to add to the free elements of p for the least |r + J p|**2 + lambda |D p|**2."""
    A, factors = model.scaled(decompose, free)
    q = jax.lax.stop_gradient(model.q + model.R @ p)
    z = damped(A, model.r + model.J @ p, jnp.where(free, model.D * p, 0), lam, factors, q)
    return jnp.where(free, z / model.D, 0)


class Face(NamedTuple):
    """A quadratic in p, and how to minimize it where some elements of p stand still."""

    value: Callable[[Array], Array]  # p -> float[], up to a constant and without derivatives
    gradient: Callable[[Array], Array]  # p -> float[n]
    newton: Callable[[Array, Array], tuple[Array, Array]]  # (free, p) -> what to add to those, int32[] products made
    D: Array  # float[n]  scale of p
    faces: int = 10  # to be tried, at most
    stops: int = 32  # to be looked at, at most, on the way on each


class _Walk(NamedTuple):
    """On the way from face to face of a box."""

    p: Array  # float[n]
    value: Array  # float[]    of the quadratic at p
    products: Array  # int32[]
    full: Array  # bool[]     is p the minimizer on its face, so that elements may leave their bounds?
    done: Array  # bool[]


def in_box(face: Face, low: Array, high: Array) -> tuple[Array, Array]:
    """The p where the quadratic is least over low <= p <= high, which hold 0; near it, at worst. And the products.

    From face to face: Newton's step to the minimizer on the face, bent at each bound that it meets, is followed to
    the best of its bends; at the minimizer itself the elements that the gradient drives inwards leave their bounds,
    and the bent way along the gradient is looked at, too. Each step lowers the value. Moré & Toraldo 1991,
    doi:10.1137/0801008, is the idea.
    """
    n, eps = low.size, float(np.finfo(low.dtype).eps)
    ranks = np.unique(np.linspace(0, max(n - 1, 0), min(n, face.stops)).astype(np.int32))

    def walk(w: _Walk) -> _Walk:
        slope = face.gradient(w.p)
        held = ((w.p <= low) & (slope >= 0)) | ((w.p >= high) & (slope <= 0))
        step, products = face.newton(jnp.where(w.full, ~held, (w.p > low) & (w.p < high)), w.p)
        room = jnp.where(step > 0, high, low) - w.p
        meets = (step != 0) & (room != 0) & (jnp.abs(room) < jnp.abs(step))
        bends = jnp.sort(jnp.where(meets, room, 1) / jnp.where(meets, step, 1))[ranks]
        ways = jnp.concatenate([jnp.ones((1, 1), low.dtype), bends[:, None]]) * step[None]
        down = 0.25 ** jnp.arange(4, dtype=low.dtype)[:, None] * jnp.where(held, 0, slope / face.D**2)[None]
        ways = jnp.concatenate([ways, jnp.where(w.full, -down, 0)])
        stops = jnp.clip(w.p[None] + ways, low[None], high[None])
        values = jax.lax.stop_gradient(jax.vmap(face.value)(stops))
        best = jnp.argmin(values)
        lower = values[best] < w.value * (1 - 8 * eps)
        p, value = jnp.where(lower, stops[best], w.p), jnp.where(lower, values[best], w.value)
        made = w.products + products + np.int32(len(ranks) + 7)  # a value or a gradient is a product each
        return _Walk(p, value, made, jnp.where(lower, best == 0, ~w.full), ~lower & w.full)

    def on(_: int, w: _Walk) -> _Walk:
        return jax.lax.cond(w.done, lambda w: w, walk, w)  # type: ignore[no-any-return]

    start = jnp.zeros_like(low)
    yes, no = jnp.ones((), bool), jnp.zeros((), bool)
    value = jax.lax.stop_gradient(face.value(start))
    end = jax.lax.fori_loop(0, face.faces, on, _Walk(start, value, jnp.ones((), jnp.int32), yes, no))
    return end.p, end.products
