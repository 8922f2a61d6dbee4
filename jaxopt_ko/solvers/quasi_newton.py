"""Quasi-Newton directions: BFGS, DFP, SR1 and limited-memory BFGS. Nocedal & Wright 2006, algorithms 6.1, 7.4 and
7.5, equations 6.15 and 6.25.

s = x_new - x,  y = g_new - g,  rho = 1 / s'y,  u = s - H y        the direction is H g

BFGS  H_new = (I - rho s y') H (I - rho y s') + rho s s'
DFP   H_new = H - H y y'H / y'H y + rho s s'
SR1   H_new = H + u u' / u'y
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core import tree
from jaxopt_ko.core.method import cached_factory, recipe
from jaxopt_ko.core.numerics import next_count, norm, safe_rsqrt, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import StateError, describe, say
from jaxopt_ko.solvers.engine.compact_bfgs import CURVATURE
from jaxopt_ko.solvers.engine.descent import DOWNHILL, check_vector, searched
from jaxopt_ko.solvers.engine.nested_line_searches import scale_by_zoom_linesearch
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, PyTree, State, Updates

FULL_STEP_SEARCH = scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")

SAFE = 1e-8  # SR1 is BFGS for a pair with u'y <= SAFE |u| |y|


class ScaleByLBFGSState(NamedTuple):
    """State of `scale_by_lbfgs`; the vectors hold all leaves one after the other, n elements in all."""

    count: Array  # int32[]                   t, updates made
    params: Array  # float[n]                 x of the last update
    updates: Array  # float[n]                g of the last update
    diff_params_memory: Array  # float[m,n]   s of the pairs that were kept, the next one in row (t - 1 - skipped) % m
    diff_updates_memory: Array  # float[m,n]  y of the same
    weights_memory: Array  # float[m]         rho of the same, 0 where there is none yet
    skipped: Array  # int32[]                 pairs left out


@options
def scale_by_lbfgs(
    memory_size: int = 10, scale_init_precond: bool = True, *, memory_dtype: DType | None = None
) -> GradientTransformation:
    """H g, with H from the last pairs (s, y) of steps and changes of the gradient; to be negated, as a gradient is.

    for each pair, newest first:  a = rho s'q;  q -= a y
    r = gamma q,  gamma = s'y / y'y of the newest pair (first: min(1, 1/|g|)), or 1 unless scale_init_precond
    for each pair, oldest first:  r += s (a - rho y'r)

    memory_size: how many pairs (s, y) are kept, an int >= 1; 10, as more seldom save evaluations.
    scale_init_precond: begin with gamma, as f's scale is known from the newest pair; False: with 1.
    memory_dtype: of the memory of s and y; None: float32 at least. Sixteen bits halve it.

    State: 2 memory_size + 2 numbers a parameter. Needs params. A pair with s'y <= 1e-10 |s| |y| does not enter the
    memory, so H stays positive definite and -H g goes down.

    Raises HyperparameterError for a memory_size < 1; MissingArgumentError, when traced, without params; StateError for
    a state of other parameters. Source: Nocedal & Wright 2006, algorithms 7.4 and 7.5. Not for noisy gradients
    (mini-batches): the pairs would measure the noise.

    >>> tx = jo.chain(jo.scale_by_lbfgs(), jo.scale(-1.0), jo.scale_by_zoom_linesearch(20))
    >>> state = tx.init(jnp.zeros(2))
    """
    name = "scale_by_lbfgs"
    errors.check_size(name, "memory_size", memory_size)
    m = memory_size

    def init(params: Params) -> ScaleByLBFGSState:
        x = tree.zeros_vector(params)
        rows = jnp.zeros((m, x.size), x.dtype if memory_dtype is None else memory_dtype)
        weights = jnp.zeros(m, x.dtype)
        return ScaleByLBFGSState(
            zero_count(), x, jnp.copy(x), rows, jnp.copy(rows), weights, zero_count()
        )  # fmt: skip

    def update(updates: Updates, state: ScaleByLBFGSState, params: Params) -> tuple[Updates, ScaleByLBFGSState]:
        t, x_old, g_old, S, Y, rho, skipped = state
        x, _ = tree.ravel(params)
        g, unravel = tree.ravel(updates)
        check_vector(name, x_old, x.size)
        x, g = x.astype(x_old.dtype), g.astype(x_old.dtype)

        s, y = x - x_old, g - g_old
        sy = s @ y
        kept = (t > 0) & (sy > CURVATURE * norm(s) * norm(y))
        skipped = skipped + ((t > 0) & ~kept).astype(jnp.int32)
        rows = (t - 1 - skipped - jnp.arange(m, dtype=jnp.int32)) % np.int32(m)  # newest first
        newest = rows[0]
        S, Y, rho = (
            jax.lax.dynamic_update_index_in_dim(M, jnp.where(kept, new.astype(M.dtype), at(M, newest)), newest, 0)
            for M, new in ((S, s), (Y, y), (rho, 1 / jnp.where(kept, sy, 1)))
        )
        if scale_init_precond:
            y, weight = at(Y, newest).astype(g.dtype), at(rho, newest)
            known = weight > 0
            sy = jnp.where(kept, sy, 1 / jnp.where(known, weight, 1))
            gamma = jnp.where(known, sy / jnp.where(known, jnp.sum(y * y), 1), first_scale(g))
        else:
            gamma = jnp.ones((), g.dtype)
        r = two_loops(g, S, Y, rho, gamma, rows)
        return unravel(r), ScaleByLBFGSState(next_count(t), x, g, S, Y, rho, skipped)

    return transform(name, init, update, needs_params=True, state_type=ScaleByLBFGSState)


@cached_factory
@recipe
def lbfgs(
    learning_rate: Hyper | None = None,
    memory_size: int = 10,
    scale_init_precond: bool = True,
    linesearch: GradientTransformation | None = FULL_STEP_SEARCH,
    *,
    memory_dtype: DType | None = None,
    gtol: Hyper | None = None,
    ftol: Hyper | None = None,
) -> GradientTransformation:
    """Limited-memory BFGS along a line search; the first choice for a smooth function.

    x <- x - a H g, or x - a lr H g;   H as of `scale_by_lbfgs`, a by the search

    learning_rate: lr, a number, an array or a schedule, >= 0; None: 1, as H g is of the right length by itself.
    memory_size: how many pairs (s, y) are kept, an int >= 1; 10, as more seldom save evaluations.
    scale_init_precond: begin H with s'y / y'y of the newest pair, as f's scale is known from it; False: with 1.
    linesearch: scale_by_zoom_linesearch(…) or one of its kin, which begins with the full step; None: steps of -lr H g,
        or -H g, without a search.
    memory_dtype: of the memory of s and y; None: float32 at least.
    gtol: converged when max|g| <= gtol, >= 0; None: from the dtype and the gradients seen, see `descent`.
    ftol: converged when f falls by no more than ftol |f|, >= 0; None: eps of the dtype, see `descent`.

    State: 2 memory_size + 5 numbers a parameter, 100 bytes by default. `minimize` runs it flat, one evaluation an
    update; used as optax's lbfgs, it makes optax's iterates. See `descent` for the two readings.

    Raises HyperparameterError, when made, for numbers outside their domain; MissingArgumentError, when traced, without
    params or value_fn. Source: Liu & Nocedal 1989, doi:10.1007/BF01589116; Nocedal & Wright 2006, section 7.2. Not for
    noisy gradients (mini-batches): the pairs (s, y) would measure the noise.

    >>> found = jo.minimize(jo.landscapes.rosenbrock, jnp.array([-1.2, 1.0]), jo.lbfgs())
    >>> round(float(found.value), 6)
    0.0
    """
    step = DOWNHILL if learning_rate is None else scale_by_learning_rate(learning_rate)
    direction = chain(scale_by_lbfgs(memory_size, scale_init_precond, memory_dtype=memory_dtype), step)
    return searched("lbfgs", direction, linesearch, gtol, ftol)


def made_vectors(state: State) -> State:
    """Memory of L-BFGS as optax keeps it, trees, wherever a state holds one, as vectors; StateError if nowhere."""
    names = ScaleByLBFGSState._fields[:-1]

    def theirs(part: Any) -> bool:
        return not isinstance(part, ScaleByLBFGSState) and getattr(part, "_fields", ()) == names

    def flat(part: PyTree) -> Array:
        return tree.ravel(part)[0]

    treedef: Any
    parts, treedef = jax.tree.flatten(state, is_leaf=theirs)
    if not any(map(theirs, parts)):
        _no_lbfgs(state)

    def converted(part: Any) -> Any:
        if not theirs(part):
            return part
        return ScaleByLBFGSState(
            jnp.asarray(part.count), flat(part.params), flat(part.updates), jax.vmap(flat)(part.diff_params_memory),
            jax.vmap(flat)(part.diff_updates_memory), jnp.asarray(part.weights_memory), zero_count(),
        )  # fmt: skip

    return treedef.unflatten(map(converted, parts))


def _no_lbfgs(state: Any) -> NoReturn:
    """Nothing to convert."""
    say(StateError, "lbfgs_from_optax", "the state must hold a ScaleByLBFGSState of optax's", describe(state),
        "Give the state of optax.lbfgs or optax.scale_by_lbfgs, restored as NamedTuples")  # fmt: skip


def at(M: Array, row: Array) -> Array:
    """One row."""
    found: Array = jax.lax.dynamic_index_in_dim(M, row, keepdims=False)
    return found


def two_loops(g: Array, S: Array, Y: Array, rho: Array, gamma: Array, rows: Array) -> Array:
    """H g by the two loops over the pairs, which are in `rows`, newest first."""

    def first(q: Array, row: Array) -> tuple[Array, Array]:
        a = at(rho, row) * (at(S, row).astype(q.dtype) @ q)
        return q - a * at(Y, row).astype(q.dtype), a

    q, a = jax.lax.scan(first, g, rows)

    def second(r: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        row, a = pair
        return r + at(S, row).astype(r.dtype) * (a - at(rho, row) * (at(Y, row).astype(r.dtype) @ r)), None

    r, _ = jax.lax.scan(second, gamma * q, (rows, a), reverse=True)
    return r


def first_scale(g: Array) -> Array:
    """min(1, 1/|g|): a first step no longer than 1, as nothing is known yet of f's scale."""
    return jnp.minimum(safe_rsqrt(g @ g), 1)


def curved(s: Array, y: Array) -> Array:
    """bool[]: is the curvature along s positive, beyond rounding?"""
    return s @ y > CURVATURE * norm(s) * norm(y)


class ScaleByBfgsState(NamedTuple):
    """State of `scale_by_bfgs`; the vectors hold all leaves one after the other, n elements in all."""

    count: Array  # int32[]              t, updates made
    params: Array  # float[n]            x of the last update
    updates: Array  # float[n]           g of the last update
    inverse_hessian: Array  # float[n,n] H
    stored: Array  # int32[]             pairs that H has taken in


FORMULAS = ("bfgs", "dfp", "sr1")


@options
def scale_by_bfgs(formula: str = "bfgs") -> GradientTransformation:
    """H g, with H the dense approximation of the inverse Hessian; to be negated, as a gradient is.

    BFGS  H_new = (I - rho s y') H (I - rho y s') + rho s s',  s = x_new - x,  y = g_new - g,  rho = 1 / s'y

    formula: how a pair enters H, "bfgs", "dfp" or "sr1". SR1 does not scale H, and takes in as BFGS does a pair with
        u'y <= 1e-8 |u| |y|, u = s - H y, after which its own H would not be positive definite.

    State: n**2 + 2 n numbers, n elements in all. Needs params. H starts as min(1, 1/|g|) I, and as (s'y / y'y) I when
    the first pair comes in. Before each later one it grows by max(1, s'y / y'Hy), so that what no pair has told of yet
    keeps up where f gets flatter (Al-Baali 1998, JOTA 96, 533-553). A pair with s'y <= 1e-10 |s| |y| is left out, so H
    stays positive definite.

    Raises HyperparameterError for another formula; MissingArgumentError, when traced, without params; StateError for a
    state of other parameters. Source: Nocedal & Wright 2006, algorithm 6.1, equations 6.15 and 6.25. Not for more than
    some hundred parameters: `scale_by_lbfgs`.

    >>> tx = jo.chain(jo.scale_by_bfgs(), jo.scale(-1.0), jo.scale_by_zoom_linesearch(20))
    >>> tx.init(jnp.zeros(2))[0].inverse_hessian.shape
    (2, 2)
    """
    errors.check_choice("scale_by_bfgs", "formula", formula, FORMULAS)

    def init(params: Params) -> ScaleByBfgsState:
        x = tree.zeros_vector(params)
        H = jnp.eye(x.size, dtype=x.dtype)
        return ScaleByBfgsState(zero_count(), x, jnp.copy(x), H, zero_count())

    def update(updates: Updates, state: ScaleByBfgsState, params: Params) -> tuple[Updates, ScaleByBfgsState]:
        t, x_old, g_old, H, stored = state
        x, _ = tree.ravel(params)
        g, unravel = tree.ravel(updates)
        check_vector("scale_by_bfgs", x_old, x.size)
        x, g = x.astype(x_old.dtype), g.astype(x_old.dtype)

        s, y = x - x_old, g - g_old
        kept = (t > 0) & curved(s, y)
        rho = 1 / jnp.where(kept, s @ y, 1)
        Hy = H @ y
        yHy = y @ Hy
        scale = jnp.where(yHy > 0, 1 / (rho * jnp.where(yHy > 0, yHy, 1)), 1)
        scale = jnp.where(stored == 0, scale, jnp.maximum(scale, 1) if formula != "sr1" else 1)
        H0, Hy, yHy = scale * H, scale * Hy, scale * yHy
        if formula == "dfp":
            new = H0 - jnp.outer(Hy, Hy) / jnp.where(yHy > 0, yHy, 1) + rho * jnp.outer(s, s)
        else:
            new = H0 - rho * (jnp.outer(Hy, s) + jnp.outer(s, Hy)) + rho * (1 + rho * yHy) * jnp.outer(s, s)
        if formula == "sr1":
            u = s - Hy
            own = u @ y > SAFE * norm(u) * norm(y)
            new = jnp.where(own, H0 + jnp.outer(u, u) / jnp.where(own, u @ y, 1), new)
        H = jnp.where(kept, 0.5 * (new + new.T), H)  # XLA may round the two halves differently
        stored = stored + kept.astype(jnp.int32)
        p = jnp.where(stored == 0, first_scale(g) * g, H @ g)
        return unravel(p), ScaleByBfgsState(next_count(t), x, g, H, stored)

    return transform("scale_by_bfgs", init, update, needs_params=True, state_type=ScaleByBfgsState)


@cached_factory
@recipe
def bfgs(
    linesearch: GradientTransformation = FULL_STEP_SEARCH,
    *,
    formula: str = "bfgs",
    gtol: Hyper | None = None,
    ftol: Hyper | None = None,
) -> GradientTransformation:
    """BFGS along a line search, with a dense H; for a smooth function of up to some hundred parameters.

    x <- x - a H g;   H as of `scale_by_bfgs`, a by the search

    linesearch: scale_by_zoom_linesearch(…) or one of its kin, which begins with the full step.
    formula: how a pair enters H: "bfgs", "dfp" or "sr1", see `scale_by_bfgs`.
    gtol: converged when max|g| <= gtol, >= 0; None: from the dtype and the gradients seen, see `descent`.
    ftol: converged when f falls by no more than ftol |f|, >= 0; None: eps of the dtype, see `descent`.

    State: n**2 + 5 n numbers, n elements in all. See `descent` for the two readings.

    Raises HyperparameterError, when made, for another formula or negative tolerances; MissingArgumentError, when
    traced, without params or value_fn. Source: Nocedal & Wright 2006, algorithm 6.1. Not for more parameters: H takes
    n**2 numbers, and as many operations an update; `lbfgs` takes 25 n.

    >>> found = jo.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(2), jo.bfgs())
    >>> round(float(found.value), 6)
    0.0
    """
    return searched("bfgs", chain(scale_by_bfgs(formula), DOWNHILL), linesearch, gtol, ftol)
