"""A trust region with a sparse Hessian: coloured products, and the subproblem by sparse Cholesky factors.

minimize g'p + p'Hp / 2  over |p| <= Delta:  (H + lambda I) p = -g
Moré & Sorensen 1983, SIAM J. Sci. Stat. Comput. 4, doi:10.1137/0904038, algorithm 3.14: lambda by Newton's method on
1 / |p| = 1 / Delta, between bounds that a factor which is there, or is not, moves.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import largest, length, next_count, or_one, zero_count
from jaxopt_ko.linalg.coloring import Coloring
from jaxopt_ko.linalg.sparse import value_and_entries
from jaxopt_ko.linalg.sparse_cholesky import Factor, Plan, analyze, factorize, multiply, solve
from jaxopt_ko.solvers.engine.convergence import eps_of
from jaxopt_ko.solvers.engine.trust_region import Proposal, QuadraticModel, cauchy_radius
from jaxopt_ko.solvers.problem.objective import Objective
from jaxopt_ko.solvers.problem.sparsity import Pattern

NEAR = 0.1  # |p| may differ from Delta by this part of it
HARD = NEAR * (2 - NEAR)  # of |p|' (H + lambda) p + lambda Delta**2, what a filled-up step may miss of the least
TRIES = 40  # of lambda, at most; one in most updates
CLOSER = 0.01  # of the way from its lower bound, where nothing better is known of lambda
INVERSE_STEPS = 4  # of inverse iteration, for a direction along which H + lambda I is small


class SparseNewtonMemoryState(NamedTuple):
    """What `newton` knows of a sparse H at the parameters as they now are."""

    entries: Array  # float[nnz]  of H, both triangles, by rows
    lowest: Array  # float[]  below 0 where H has an eigenvalue below it, told where a run would end; else 0
    most: Array  # float[]    the largest sum of moduli in a row: no eigenvalue has a larger modulus


class Sparse(NamedTuple):
    """H's entries and how they are factorized."""

    colors: Coloring
    plan: Plan
    diagonal: Any  # int32[n]  its entries

    def shifted(self, entries: Array, shift: Array) -> Array:
        """Those of H + shift I."""
        return entries.at[self.diagonal].add(shift)


@functools.lru_cache(maxsize=16)
def sparse(pattern: Pattern) -> Sparse:
    """Of a symmetric pattern; on the host, once."""
    colors = pattern.colors
    plan = analyze((colors.rows, colors.cols, colors.shape[0]))
    return Sparse(colors, plan, np.flatnonzero(colors.rows == colors.cols).astype(np.int32))


def sparse_model(pattern: Pattern) -> QuadraticModel:
    """The model of `newton` with a sparse H: as many products with it as it has colours, at each new point."""
    it = sparse(pattern)

    def look(problem: Objective, small: Array) -> tuple[SparseNewtonMemoryState, Array]:
        _, entries = value_and_entries("newton", jax.grad(problem.value), problem.x, it.colors)
        moduli = jnp.zeros_like(problem.x).at[it.colors.rows].add(jnp.abs(entries), indices_are_sorted=True)
        most = largest(moduli)
        least = -2 * eps_of(most) ** 0.5 * most

        def bends() -> Array:
            there = factorize(it.plan, it.shifted(entries, -least / 2)).finite | ~jnp.isfinite(most)
            return jnp.where(there, 0, least)

        lowest = jax.lax.cond(small, bends, lambda: jnp.zeros_like(most))
        return SparseNewtonMemoryState(entries, lowest, most), jnp.full((), it.colors.count, jnp.int32)

    def begin(problem: Objective, g: Array, small: Array) -> tuple[SparseNewtonMemoryState, Array, Array]:
        (memory, products), size = look(problem, small), length(g)
        u = g / or_one(size)
        return memory, cauchy_radius(problem.x, size, u @ multiply(it.plan, memory.entries, u)), products

    def propose(
        problem: Objective, memory: SparseNewtonMemoryState, f: Array, g: Array, radius: Array, count: Array
    ) -> Proposal:
        p, shift = region_step(it, memory.entries, g, radius, memory.most)
        Hp, x = multiply(it.plan, memory.entries, p), problem.x
        size = jax.lax.stop_gradient(jnp.abs(x @ multiply(it.plan, memory.entries, x)))
        return Proposal(p, -(g @ p) - 0.5 * p @ Hp, shift == 0, size, zero_count(), memory)

    def renew(problem: Objective, memory: Any, small: Array) -> tuple[SparseNewtonMemoryState, Array]:
        return look(problem, small)

    return QuadraticModel(begin, propose, renew, lambda memory: (memory.lowest, memory.most))


class _Search(NamedTuple):
    """For lambda, on its way."""

    shift: Array  # float[]  lambda, the next to be tried
    low: Array  # float[]    it is not below this
    high: Array  # float[]   nor above this
    p: Array  # float[n]     of the last factor that was there
    at: Array  # float[]     lambda of that
    done: Array  # bool[]
    tries: Array  # int32[]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def region_step(it: Sparse, entries: Array, g: Array, radius: Array, most: Array) -> tuple[Array, Array]:
    """p float[n], of about Delta's length at most, and its lambda float[], 0 where the region does
    not bound it. most: a bound on the moduli of H's eigenvalues. The derivatives are those of the equations above."""
    if g.size == 0:
        return g, jnp.zeros_like(radius)
    steepest = length(g) / radius
    noise = g.size * eps_of(g) * most  # no more is known of any eigenvalue
    low = jnp.maximum(0, jnp.maximum(-jnp.min(entries[it.diagonal]), steepest - most))
    high = jnp.maximum(steepest + (1 + CLOSER) * most, np.finfo(g.dtype).tiny)  # there is a factor

    def between(low: Array, high: Array) -> Array:
        return jnp.clip(jnp.maximum(jnp.sqrt(low) * jnp.sqrt(high), low + CLOSER * (high - low)), low, high)

    def attempt(c: _Search) -> _Search:
        factor = factorize(it.plan, it.shifted(entries, c.shift))
        p = solve(factor, -g)
        size, good = length(p), factor.finite & jnp.all(jnp.isfinite(p))
        within = good & (size <= radius)
        free, near = within & (c.shift <= noise), good & (jnp.abs(size - radius) <= NEAR * radius)
        filled, enough, below = jax.lax.cond(
            within & ~free & ~near, lambda: _filled(factor, p, size, c.shift, radius, noise),
            lambda: (p, jnp.zeros((), bool), c.low),
        )  # fmt: skip
        newton = c.shift + (size / radius - 1) * (size**2 / or_one(p @ solve(factor, p)))
        low = jnp.where(within, jnp.maximum(c.low, below), jnp.maximum(c.low, c.shift))
        high = jnp.where(within, c.shift, c.high)
        newton_there = good & (newton > low) & (newton < high)
        return _Search(
            shift=jnp.where(newton_there, newton, jnp.where(low < noise, noise, between(low, high))),
            low=low,
            high=high,
            p=jnp.where(good, filled, c.p),
            at=jnp.where(good, c.shift, c.at),
            done=free | near | enough,
            tries=next_count(c.tries),
        )

    first = jnp.where(low <= noise, 0, between(low, high))
    start = _Search(first, low, high, -g / high, jnp.copy(high), jnp.zeros((), bool), zero_count())
    end = jax.lax.while_loop(lambda c: ~c.done & (c.tries < TRIES), attempt, start)
    size = length(end.p)
    shift = jnp.where(end.at <= noise, 0, end.at)
    return end.p * jnp.minimum(1, (1 + NEAR) * radius / or_one(size)), shift


def _filled(
    factor: Factor, p: Array, size: Array, shift: Array, radius: Array, noise: Array
) -> tuple[Array, Array, Array]:
    """p made Delta long along a z, |z| = 1, for which z'(H + lambda I)z is small: p + alpha z; is that low enough, and
    a bound that lambda is not below. The hard case: where g has no part along the lowest eigenvector."""
    z = jax.random.normal(jax.random.key(0), p.shape, p.dtype)
    for _ in range(INVERSE_STEPS):
        z = solve(factor, z)
        z = z / or_one(length(z))
    z = jnp.where(p @ z < 0, -z, z)
    room = jnp.maximum(radius - size, 0) * (radius + size)
    alpha = room / or_one(p @ z + jnp.sqrt((p @ z) ** 2 + room))
    along, across = (v @ multiply(factor.plan, factor.values, v) for v in (z, p))
    enough = (along < shift - noise) & (alpha**2 * along <= HARD * (across + shift * radius**2))
    return jnp.where(enough, p + alpha * z, p), enough, shift - along


@region_step.defjvp
def _region_step_jvp(it: Sparse, primals: Any, tangents: Any) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (entries, g, radius, most), (d_entries, dg, d_radius, _) = primals, tangents
    p, shift = region_step(it, entries, g, radius, most)
    factor = factorize(it.plan, it.shifted(entries, shift))
    solved = solve(factor, p)
    right, along = dg + multiply(it.plan, d_entries, p), p @ solved
    bounded = (shift > 0) & (along > 0)
    d_size = d_radius * length(p) / radius
    d_shift = jnp.where(bounded, -(solved @ right + length(p) * d_size) / jnp.where(bounded, along, 1), 0)
    return (p, shift), (-solve(factor, right + d_shift * p), d_shift)
