"""Newton's method with the whole Hessian, and with its products alone; in a trust region, or as a direction.

minimize f(x) over x, f: R^n -> R     g = gradient of f     H = Hessian of f
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import length as length_of
from jaxopt_ko.core.numerics import next_count, norm, or_one, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, check_hyper
from jaxopt_ko.solvers.engine.convergence import eps_of
from jaxopt_ko.solvers.engine.descent import DOWNHILL, searched
from jaxopt_ko.solvers.engine.region_steps import decompose, exact_step, truncated_step
from jaxopt_ko.solvers.engine.sparse_region import sparse_model
from jaxopt_ko.solvers.engine.trust_region import Proposal, QuadraticModel, cauchy_radius, trust_region
from jaxopt_ko.solvers.problem.objective import Objective, objective
from jaxopt_ko.types import GradientTransformation, Hyper, Params, Updates

Product = Callable[[Array], Array]  # v -> H v
Preconditioner = Callable[[Params, Updates], Updates]  # params, v -> M^-1 v
MOST_PRODUCTS = 1000  # of conjugate gradients for one step, unless asked for otherwise


# ---- the whole Hessian ----------------------------------------------------------------------------------


class NewtonMemoryState(NamedTuple):
    """What `newton` knows of H at the parameters as they now are."""

    hessian: Array  # float[n,n]       H
    eigenvalues: Array  # float[n]     of H, lowest first
    eigenvectors: Array  # float[n,n]  of H, in columns


@cached_factory
def newton(
    linesearch: GradientTransformation | None = None,
    *,
    radius: Hyper | None = None,
    gtol: Hyper | None = None,
    ftol: Hyper | None = None,
) -> GradientTransformation:
    """One trial step of Newton's method in a trust region an update: f and g at one new point, H if it is taken.

    p minimizes g'p + p'Hp / 2 over |p| <= Delta:  (H + lambda I) p = -g, exactly, by the eigenvalues of H. It
    leaves saddle points, such as a start where g is zero, along the eigenvector of a negative eigenvalue.

    linesearch: go along -|H|^-1 g of `scale_by_newton` instead, as far as this search finds; see `descent`. It is to
        begin with the full step (initial_guess_strategy="one"). None: the trust region.
    radius: the first Delta, > 0; None: |g| / u'Hu with u = g / |g|, where the model is lowest along -g.
    gtol: converged when max|g| <= gtol, >= 0; `tol` takes its place. None: eps**(2/3) min(1, G / (16 eps**(1/6))), G
        the largest max|g| so far.
    ftol: converged when steps that the region did not bound were to lower f, and did, by no more than ftol |f|: one
        shorter than sqrt(eps) |x|, or three than eps**(1/3) |x|; >= 0; None: eps.

    init(params, value_fn=, has_aux=False, tol=None, hess_sparsity=None) and update(updates, state, params, the same
    arguments): the updates that come in are not read. A rejected step is exactly zero; how steps are judged:
    `trust_region`. hess_sparsity: where H may have entries, as in `minimize`: H then takes as many products as it has
    colours (`sparse.coloring`), and (H + lambda I) p = -g a sparse Cholesky factor for each lambda that is tried, with
    ||p| - Delta| <= Delta / 10 where the region bounds p.

    State: 2 n**2 + 2 n numbers, n elements in all; n and H's entries where these are sparse. Raises
    HyperparameterError, when made, for numbers outside their domain; MissingArgumentError, when traced, without
    value_fn; TreeError for a sparsity of another shape. Source: Moré & Sorensen 1983, SIAM J. Sci. Stat. Comput. 4,
    doi:10.1137/0904038. Not for more than some hundred parameters where H is dense, made of n products at once, with
    its eigenvalues at each new point: `newton_cg` there.

    >>> found = jo.minimize(jo.landscapes.rosenbrock, jnp.array([-1.2, 1.0]), jo.newton())
    >>> round(float(found.value), 6)
    0.0
    """

    if linesearch is not None:
        return searched("newton", chain(scale_by_newton(), DOWNHILL), linesearch, gtol, ftol)

    def renew(problem: Objective, memory: NewtonMemoryState | None, small: Array) -> tuple[NewtonMemoryState, Array]:
        H = hessian(problem)
        return NewtonMemoryState(H, *decompose(H)), jnp.full((), len(H), jnp.int32)

    def begin(problem: Objective, g: Array, small: Array) -> tuple[NewtonMemoryState, Array, Array]:
        (memory, products), u = renew(problem, None, small), _unit(g)
        return memory, cauchy_radius(problem.x, length_of(g), u @ memory.hessian @ u), products

    def propose(
        problem: Objective, memory: NewtonMemoryState, f: Array, g: Array, radius: Array, count: Array
    ) -> Proposal:
        H, values, vectors = memory
        p, lam = exact_step(H, values, vectors, g, radius)
        predicted = (lam * (p @ p) - g @ p) / 2  # of two positive terms: nothing cancels
        size = jnp.sum(jnp.abs(values) * (problem.x @ vectors) ** 2)
        return Proposal(p, predicted, lam == 0, size, zero_count(), memory)

    def spectrum(memory: NewtonMemoryState) -> tuple[Array, Array]:
        values = memory.eigenvalues
        return jnp.min(values, initial=0.0), jnp.max(jnp.abs(values), initial=0.0)

    model = QuadraticModel(begin, propose, renew, spectrum)
    return trust_region("newton", model, sparse_model=sparse_model, radius=radius, gtol=gtol, ftol=ftol)


class ScaleByNewtonState(NamedTuple):
    """State of `scale_by_newton`."""

    count: Array  # int32[]     updates made
    products: Array  # int32[]  of H with vectors, so far
    lowest: Array  # float[]    lowest eigenvalue of the last H; below 0 the direction is not Newton's own


def scale_by_newton() -> GradientTransformation:
    """The Newton direction, made to go down, for a line search; to be negated, as a gradient is.

    |H|^-1 g,  H = Q Lambda Q',  |H| = Q |Lambda| Q', no modulus below n eps of the largest

    |H| is positive definite, so the direction leads downhill, and away from saddle points.

    It takes no arguments. update(updates, state, params, value_fn=, has_aux=False): H is that of value_fn at params.
    State: three numbers.

    Raises MissingArgumentError, when traced, without params or value_fn. Source: Nocedal & Wright 2006, section 3.4;
    the moduli of the eigenvalues as in Dauphin et al. 2014, arXiv:1406.2572. Not for more than some thousand
    parameters: `scale_by_newton_cg`.

    >>> search = jo.scale_by_zoom_linesearch(20, initial_guess_strategy="one")
    >>> tx = jo.chain(jo.scale_by_newton(), jo.scale(-1.0), search)
    >>> state = tx.init(jnp.zeros(2))
    """
    name = "scale_by_newton"

    def init(params: Params) -> ScaleByNewtonState:
        return ScaleByNewtonState(zero_count(), zero_count(), jnp.zeros((), tree.zeros_vector(params).dtype))

    def update(
        updates: Updates,
        state: ScaleByNewtonState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        value: Any = None,  # those of optax's convention that are not read, nor meant for value_fn
        grad: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, ScaleByNewtonState]:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        g, unravel = tree.ravel(updates)
        H = hessian(problem)
        values, vectors = decompose(H)
        step = _modulus_solve(H, values, vectors, g.astype(H.dtype))
        n = np.int32(g.size)
        return unravel(step), ScaleByNewtonState(
            next_count(state.count), state.products + n, jnp.min(values, initial=jnp.inf)
        )

    return transform(name, init, update, needs_params=True, state_type=ScaleByNewtonState)


def hessian(problem: Objective) -> Array:
    """float[n,n]: H at problem.x, symmetric."""
    x = problem.x
    _, product = jax.linearize(jax.grad(problem.value), x)
    H: Array = jax.vmap(product)(jnp.eye(x.size, dtype=x.dtype))
    return 0.5 * (H + H.T)


@jax.custom_jvp
def _modulus_solve(H: Array, values: Array, vectors: Array, g: Array) -> Array:
    """|H|^-1 g, from decompose(H)."""
    return ((g @ vectors) / _moduli(values)) @ vectors.T


@_modulus_solve.defjvp
def _modulus_solve_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    """d f(H) = Q (Gamma o Q'dH Q) Q', with the divided differences Gamma of f(lambda) = 1 / |lambda|."""
    (H, values, vectors, g), (dH, _, _, dg) = primals, tangents
    m = _moduli(values)
    divided = -(values[:, None] + values[None]) / ((m[:, None] + m[None]) * m[:, None] * m[None])
    dA = divided * (vectors.T @ dH @ vectors)
    solved = _modulus_solve(H, values, vectors, g)
    return solved, _modulus_solve(H, values, vectors, dg) + vectors @ (dA @ (g @ vectors))


def _moduli(values: Array) -> Array:
    m = jnp.abs(values)
    least = values.size * float(np.finfo(values.dtype).eps) * jnp.max(m, initial=0.0)
    return jnp.maximum(m, jnp.where(least > 0, least, 1))


# ---- its products alone ---------------------------------------------------------------------------------


class NewtonCgMemoryState(NamedTuple):
    """What `newton_cg` remembers."""

    largest: Array  # float[]     |g|, the largest so far
    away: Array  # float[n]       a direction u with a negative u'Hu, |u|_M = 1, at a point where g is small; else 0
    curvature: Array  # float[]   u'Hu, 0 without


@cached_factory
def newton_cg(
    forcing: Hyper = 0.1,
    linesearch: GradientTransformation | None = None,
    *,
    max_products: int | None = None,
    preconditioner: Preconditioner | None = None,
    radius: Hyper | None = None,
    gtol: Hyper | None = None,
    ftol: Hyper | None = None,
) -> GradientTransformation:
    """One trial step of truncated Newton in a trust region an update: f and g at one new point; H is never formed.

    p by conjugate gradients on H p = -g until |H p + g| <= min(forcing, sqrt(|g| / |g|_max)) |g|, the edge of the
    region |p| <= Delta, or a direction with d'Hd <= 0, which is followed to the edge; |g|_max the largest so far

    A point where g is small may be a saddle: before the run ends there, conjugate gradients from a fixed random vector
    look for negative curvature, by products alone, and what they find is followed as far as f falls.

    With a preconditioner M(x) ~ H(x) conjugate gradients need as many products as M^-1 H has eigenvalues far apart,
    and the region is |p|_M = sqrt(p'Mp) <= Delta: variables may be of any size beside each other.

    forcing: the accuracy of p far from a solution, in [0, 1); 0.1, as exact steps are wasted there.
    linesearch: go along the direction of `scale_by_newton_cg` instead, as far as this search finds; None: the trust
        region.
    max_products: for one p, an int >= 1; None: 2 n + 5, 1000 at most.
    preconditioner: (params, v) -> M^-1 v, of pytrees like params: linear in v, symmetric and positive definite; M may
        be another at other params. Where v'M^-1 v is not positive, M = I for that step. None: M = I.
    radius, gtol, ftol: the first Delta and the tolerances, as of `newton`; None: their defaults there.

    init and update: as for `newton`. State: 2 numbers a parameter.

    Raises HyperparameterError, when made, for numbers outside their domain; MissingArgumentError, when traced, without
    value_fn; TreeError for a preconditioner whose result is not like params. Its inner loop ends by itself, so updates
    have forward-mode derivatives only. Source: Steihaug 1983, SIAM J. Numer. Anal. 20, doi:10.1137/0720042; Nocedal &
    Wright 2006, algorithm 7.2; Conn, Gould & Toint 2000, algorithm 7.5.1. Not where n is small and f dear:
    `newton` takes fewer evaluations.

    >>> found = jo.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(2), jo.newton_cg())
    >>> round(float(found.value), 6)
    0.0
    """
    name = "newton_cg"
    if linesearch is not None:
        direction = scale_by_newton_cg(forcing, max_products=max_products, preconditioner=preconditioner)
        return searched("newton_cg", chain(direction, DOWNHILL), linesearch, gtol, ftol)
    _check(name, forcing, max_products, preconditioner)

    def looked(problem: Objective, product: Product, largest: Array, small: Array) -> tuple[NewtonCgMemoryState, Array]:
        """Where g is small: has H negative curvature? Conjugate gradients from a vector of no problem's making tell."""
        u, eps, inverse = _random_unit(problem.x), eps_of(problem.x), _inverse(name, problem, preconditioner)
        room, left = jnp.full_like(largest, jnp.inf), jnp.full_like(largest, eps**0.5)
        end = truncated_step(product, jnp.where(small, u, 0), room, left, _budget(max_products, u.size), inverse)
        d, length = end.direction, length_of(end.direction)
        bends = end.curvature * (end.stretch / or_one(length)) ** 2  # along d / |d|
        down = bends < 0
        size = jax.lax.cond(down, lambda: norm(product(u)) * float(np.sqrt(u.size)), lambda: jnp.zeros_like(largest))
        down &= bends < -(eps**0.5) * size
        away, curvature = jnp.where(down, d / or_one(end.stretch), 0), jnp.where(down, end.curvature, 0)
        return NewtonCgMemoryState(largest, away, curvature), end.products + down.astype(jnp.int32)

    def begin(problem: Objective, g: Array, small: Array) -> tuple[NewtonCgMemoryState, Array, Array]:
        product, inverse = _product(problem), _inverse(name, problem, preconditioner)
        memory, products = looked(problem, product, length_of(g), small)
        d, length = g, length_of(g)
        if inverse is not None:
            d = inverse(g)
            d, length = tree.where(g @ d > 0, (d, safe_sqrt(g @ d)), (g, length))
        u = d / or_one(length)
        return memory, cauchy_radius(problem.x, length, u @ product(u)), next_count(products)

    def renew(problem: Objective, memory: NewtonCgMemoryState, small: Array) -> tuple[NewtonCgMemoryState, Array]:
        return looked(problem, _product(problem), memory.largest, small)

    def propose(
        problem: Objective, memory: NewtonCgMemoryState, f: Array, g: Array, radius: Array, count: Array
    ) -> Proposal:
        leaves, length = memory.curvature < 0, length_of(g)
        largest = jnp.maximum(memory.largest, length)
        cap = value_at(forcing, count).astype(g.dtype)
        product, x, eps = _product(problem), problem.x, eps_of(g)
        left, inverse = _forced(cap, length, largest), _inverse(name, problem, preconditioner)
        end = truncated_step(product, jnp.where(leaves, 0, g), radius, left, _budget(max_products, g.size), inverse)
        away = radius * jnp.where(g @ memory.away > 0, -memory.away, memory.away)
        p = jnp.where(leaves, away, end.step)
        gain = jnp.where(leaves, -(g @ away) - 0.5 * memory.curvature * radius**2, end.predicted)
        near = gain <= eps ** (2 / 3) * jnp.abs(f)  # only there is f's rounding of interest
        size = jax.lax.cond(near, lambda: jnp.abs(x @ product(x)), lambda: jnp.zeros_like(gain))
        far = None if preconditioner is None else jnp.where(leaves, radius, end.length)
        products, memory = end.products + near.astype(jnp.int32), memory._replace(largest=largest)
        return Proposal(p, gain, end.free & ~leaves, size, products, memory, far)

    def spectrum(memory: NewtonCgMemoryState) -> tuple[Array, Array]:
        return memory.curvature, jnp.zeros_like(memory.curvature)

    model = QuadraticModel(begin, propose, renew, spectrum)
    return trust_region(name, model, radius=radius, gtol=gtol, ftol=ftol)


class ScaleByNewtonCgState(NamedTuple):
    """State of `scale_by_newton_cg`."""

    count: Array  # int32[]     updates made
    products: Array  # int32[]  of H with vectors, so far
    largest: Array  # float[]   |g|, the largest so far


def scale_by_newton_cg(
    forcing: Hyper = 0.1, *, max_products: int | None = None, preconditioner: Preconditioner | None = None
) -> GradientTransformation:
    """The Newton direction by conjugate gradients, for a line search; to be negated, as a gradient is.

    d ~ H^-1 g: |H d - g| <= min(forcing, sqrt(|g| / |g|_max)) |g|, or as far as the first direction of negative
    curvature, and along that by as much as if its curvature were positive. It leads downhill.

    forcing: the accuracy of d far from a solution, in [0, 1).
    max_products: for one d, an int >= 1; None: 2 n + 5, 1000 at most.
    preconditioner: as of `newton_cg`.

    update(updates, state, params, value_fn=, has_aux=False): H is that of value_fn at params. State: three numbers.

    Raises HyperparameterError, when made, for numbers outside their domain; MissingArgumentError, when traced, without
    params or value_fn. Source: Nocedal & Wright 2006, algorithm 7.1, but for the last step. Not on badly scaled
    problems, where the trust region of `newton_cg` takes fewer evaluations.

    >>> search = jo.scale_by_zoom_linesearch(20, initial_guess_strategy="one")
    >>> tx = jo.chain(jo.scale_by_newton_cg(), jo.scale(-1.0), search)
    >>> state = tx.init(jnp.zeros(2))
    """
    name = "scale_by_newton_cg"
    _check(name, forcing, max_products, preconditioner)

    def init(params: Params) -> ScaleByNewtonCgState:
        return ScaleByNewtonCgState(zero_count(), zero_count(), jnp.zeros((), tree.zeros_vector(params).dtype))

    def update(
        updates: Updates,
        state: ScaleByNewtonCgState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        value: Any = None,
        grad: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, ScaleByNewtonCgState]:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        g, unravel = tree.ravel(updates)
        g = g.astype(problem.x.dtype)
        length = length_of(g)
        largest = jnp.maximum(state.largest, length)
        tolerance = _forced(value_at(forcing, state.count).astype(g.dtype), length, largest)
        inverse = _inverse(name, problem, preconditioner)
        end = truncated_step(_product(problem), g, None, tolerance, _budget(max_products, g.size), inverse)
        return unravel(-end.step), ScaleByNewtonCgState(next_count(state.count), state.products + end.products, largest)

    return transform(name, init, update, needs_params=True, state_type=ScaleByNewtonCgState)


def _product(problem: Objective) -> Product:
    """v -> H v at problem.x."""
    _, product = jax.linearize(jax.grad(problem.value), problem.x)
    return product


def _inverse(name: str, problem: Objective, preconditioner: Preconditioner | None) -> Product | None:
    """r -> M^-1 r at problem.x, of vectors."""
    if preconditioner is None:
        return None
    params = problem.unravel(problem.x)

    def inverse(r: Array) -> Array:
        y = preconditioner(params, problem.unravel(r))
        check_same_trees(name, "preconditioner's result", y, "params", params)
        return tree.ravel(y)[0].astype(r.dtype)

    return inverse


def _check(name: str, forcing: Hyper, max_products: int | None, preconditioner: Preconditioner | None) -> None:
    check_hyper(name, "forcing", forcing, FRACTION)
    if max_products is not None:
        errors.check_size(name, "max_products", max_products)
    if preconditioner is not None:
        errors.check_function(name, "preconditioner", preconditioner)


def _forced(cap: Array, length: Array, largest: Array) -> Array:
    """The residual that conjugate gradients may leave: min(forcing, sqrt(|g| / |g|_max)) |g|."""
    part = length / jnp.where(largest > 0, largest, 1)
    return jnp.minimum(cap, jnp.sqrt(part)) * length


def _budget(max_products: int | None, n: int) -> int:
    return min(2 * n + 5, MOST_PRODUCTS) if max_products is None else max_products


def _unit(v: Array) -> Array:
    length = length_of(v)
    return v / jnp.where(length > 0, length, 1)


def _random_unit(v: Array) -> Array:
    """A direction that no problem is made for, like v."""
    return _unit(jax.random.normal(jax.random.PRNGKey(0), v.shape, v.dtype))
