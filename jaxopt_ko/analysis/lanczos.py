"""Lanczos's three-term recurrence (Paige 1972, doi:10.1093/imamat/10.3.373), on products with a symmetric H alone.

H V = V T + beta_m v_{m+1} e_m'     V = [v_1 ... v_m] orthonormal, T tridiagonal

V is stored only where it is asked for: without it a few vectors are enough for a million parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.analysis.tridiagonal import Tridiagonal
from jaxopt_ko.analysis.vectors import Product, later_zero, unit
from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import next_count, or_one, zero_count
from jaxopt_ko.types import PyTree

CHECKS = 32  # that a run is looked at, to end it early


class Recurrence(NamedTuple):
    """Lanczos under way, at step j = T.rows."""

    before: PyTree  # v_{j-1}
    here: PyTree  # v_j
    T: Tridiagonal
    over: Array  # bool[]
    seen: PyTree  # at the last look at T
    basis: Array  # float[steps, n], or float[0, n]


def _advance(product: Product, run: Recurrence, alpha: Array | None = None) -> tuple[Array, PyTree]:
    """alpha_j, and beta_j v_{j+1} = H v_j - alpha_j v_j - beta_{j-1} v_{j-1}."""
    w = product(run.here)
    alpha = tree.vdot(run.here, w) if alpha is None else alpha
    beta = jnp.where(run.T.rows > 0, run.T.beside[run.T.rows - 1], 0)
    return alpha, tree.add_scale(tree.add_scale(w, -alpha, run.here), -beta, run.before)


def lanczos(
    product: Product, start: PyTree, steps: int, keep: bool, look: Callable[[Tridiagonal], tuple[Any, PyTree]]
) -> tuple[Tridiagonal, PyTree, Array]:
    """T from `start`, until it closes or all steps are made, or look(T) -> (done, seen) is done; seen; the basis."""
    n = tree.size(start)
    nil = jnp.zeros_like(tree.global_norm(start), shape=(steps,))
    eps = float(np.finfo(nil.dtype).eps)
    empty = Tridiagonal(nil, nil, zero_count(), jnp.zeros((), bool))
    stride = max(CHECKS, steps // CHECKS)

    def clean(w: PyTree, basis: Array) -> PyTree:
        flat, unravel = tree.ravel(w)
        for _ in range(2):  # Gram and Schmidt's, twice: enough
            flat = flat - (basis @ flat) @ basis
        return unravel(flat)

    def step(run: Recurrence) -> Recurrence:
        T, basis = run.T, run.basis
        j = T.rows
        alpha, ahead = _advance(product, run)
        if keep:
            basis = basis.at[j].set(tree.ravel(run.here)[0])
            ahead = clean(ahead, basis)
        beta = tree.global_norm(ahead)
        diagonal = T.diagonal.at[j].set(alpha)
        size = jnp.maximum(jnp.max(jnp.abs(diagonal)), jnp.max(T.beside))
        closed = beta <= 8 * eps * size
        if keep:
            closed |= j + 1 == n
        beside = T.beside.at[j].set(jnp.where(closed, 0, beta))
        after = tree.scale(1 / or_one(beta), ahead)
        return Recurrence(
            run.here, after, Tridiagonal(diagonal, beside, next_count(j), closed), run.over, run.seen, basis
        )

    def stretch(run: Recurrence) -> Recurrence:
        end = jnp.minimum(run.T.rows + np.int32(stride), np.int32(steps))
        run = jax.lax.while_loop(lambda run: (run.T.rows < end) & ~run.T.closed, step, run)
        done, seen = look(run.T)
        return run._replace(over=run.T.closed | (run.T.rows >= steps) | done, seen=seen)

    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(look, empty)[1])
    basis = jnp.zeros((steps if keep else 0, n), nil.dtype)
    first = Recurrence(later_zero(start), start, empty, jnp.zeros((), bool), blank, basis)
    end = jax.lax.while_loop(lambda run: ~run.over, stretch, first)
    return end.T, end.seen, end.basis


def combine(product: Product, start: PyTree, T: Tridiagonal, y: Array, basis: Array) -> PyTree:
    """V y, of length 1: from the basis, or by the recurrence once more."""
    if basis.size:
        return unit(tree.ravel(start)[1](y @ basis))

    def step(carry: tuple[Recurrence, PyTree]) -> tuple[Recurrence, PyTree]:
        run, total = carry
        j = run.T.rows
        total = tree.add_scale(total, y[j], run.here)
        _, ahead = _advance(product, run, T.diagonal[j])
        beta = T.beside[j]
        after = tree.scale(1 / or_one(beta), ahead)
        return Recurrence(run.here, after, run.T._replace(rows=next_count(j)), run.over, None, basis), total

    zero = later_zero(start)
    first = Recurrence(zero, start, T._replace(rows=zero_count()), T.closed, None, basis)
    return unit(jax.lax.while_loop(lambda c: c[0].T.rows < T.rows, step, (first, zero))[1])
