"""Nonlinear conjugate gradients. Hager & Zhang 2006, Pacific J. Optim. 2, a survey; Nocedal & Wright 2006, chapter 5.

p = -g + beta p_old      y = g - g_old
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core import tree
from jaxopt_ko.core.method import cached_factory, recipe
from jaxopt_ko.core.numerics import next_count, norm, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.solvers.engine.descent import DOWNHILL, check_vector, searched
from jaxopt_ko.solvers.engine.nested_line_searches import scale_by_zoom_linesearch
from jaxopt_ko.types import GradientTransformation, Hyper, Params, Updates

BETAS = ("fletcher-reeves", "polak-ribiere", "hestenes-stiefel", "dai-yuan", "hager-zhang")
PARALLEL = 0.2  # Powell's restart: |g'g_old| above this part of |g|**2
DEFAULT_LINESEARCH = scale_by_zoom_linesearch(30, curv_rtol=0.1, initial_guess_strategy="slope")
STEEP = 1e-4  # restart: -g'p below this part of |g| |p|


class ScaleByNonlinearCgState(NamedTuple):
    """State of `scale_by_nonlinear_cg`; the vectors hold all leaves one after the other, n elements in all."""

    count: Array  # int32[]       updates made
    updates: Array  # float[n]    g of the last update
    direction: Array  # float[n]  p of the last update
    restarts: Array  # int32[]    times that p was set back to -g


def scale_by_nonlinear_cg(beta: str = "hager-zhang") -> GradientTransformation:
    """The conjugate direction, to be negated, as a gradient is.

    -p = g - beta p_old,  y = g - g_old

    fletcher-reeves    g'g / g_old'g_old
    polak-ribiere      g'y / g_old'g_old, 0 at least
    hestenes-stiefel   g'y / p_old'y, 0 at least
    dai-yuan           g'g / p_old'y
    hager-zhang        (y - 2 p_old y'y / p_old'y)'g / p_old'y, -1 / (|p_old| min(0.01, |g_old|)) at least

    beta: one of these names; Hager and Zhang's goes down whatever the line search is.

    State: 2 numbers a parameter; needs no params. Restarts with p = -g where successive gradients are far from
    orthogonal, |g'g_old| > 0.2 |g|**2 (Powell), or p is hardly downhill, -g'p < 1e-4 |g| |p|.

    Raises HyperparameterError for another name; StateError, when traced, for a state of other parameters. Source: Hager
    & Zhang 2006, Pacific J. Optim. 2; Nocedal & Wright 2006, chapter 5. Not without a close line search, nor for noisy
    gradients.

    >>> search = jo.scale_by_zoom_linesearch(30, curv_rtol=0.1, initial_guess_strategy="slope")
    >>> tx = jo.chain(jo.scale_by_nonlinear_cg(), jo.scale(-1.0), search)
    >>> state = tx.init(jnp.zeros(2))
    """
    name = "scale_by_nonlinear_cg"
    errors.check_choice(name, "beta", beta, BETAS)

    def init(params: Params) -> ScaleByNonlinearCgState:
        g = tree.zeros_vector(params)
        return ScaleByNonlinearCgState(zero_count(), g, jnp.copy(g), zero_count())

    def update(updates: Updates, state: ScaleByNonlinearCgState) -> tuple[Updates, ScaleByNonlinearCgState]:
        t, g_old, p_old, restarts = state
        g, unravel = tree.ravel(updates)
        check_vector(name, g_old, g.size)
        g = g.astype(g_old.dtype)
        b = jnp.where(t > 0, _beta(beta, g, g_old, p_old), 0)
        p = b * p_old - g
        gg = g @ g
        parallel = jnp.abs(g @ g_old) > PARALLEL * gg
        flat = ~(-(g @ p) >= STEEP * jnp.sqrt(gg) * norm(p))
        again = (t > 0) & (parallel | flat)
        p = jnp.where(again, -g, p)
        new = ScaleByNonlinearCgState(next_count(t), g, p, restarts + again.astype(jnp.int32))
        return unravel(-p), new

    return transform(name, init, update, state_type=ScaleByNonlinearCgState)


@cached_factory
@recipe
def nonlinear_cg(
    beta: str = "hager-zhang",
    linesearch: GradientTransformation = DEFAULT_LINESEARCH,
    *,
    gtol: Hyper | None = None,
    ftol: Hyper | None = None,
) -> GradientTransformation:
    """Nonlinear conjugate gradients along a line search: a smooth function, in few vectors of memory.

    x <- x + a p,  p = -g + beta p_old

    beta: its formula: "fletcher-reeves", "polak-ribiere", "hestenes-stiefel", "dai-yuan" or "hager-zhang"; see
        `scale_by_nonlinear_cg`.
    linesearch: a close search: by default scale_by_zoom_linesearch(30, curv_rtol=0.1, initial_guess_strategy="slope"),
        from the last step and the ratio of the slopes.
    gtol: converged when max|g| <= gtol, >= 0; None: from the dtype and the gradients seen, see `descent`.
    ftol: converged when f falls by no more than ftol |f|, >= 0; None: eps of the dtype, see `descent`.

    State: 5 numbers a parameter. See `descent` for the two readings.

    Raises HyperparameterError, when made, for another name or negative tolerances; MissingArgumentError, when traced,
    without params or value_fn. Source: Hager & Zhang 2006, Pacific J. Optim. 2. Not where `lbfgs` has room for its
    memory: it needs a third of the evaluations.

    >>> found = jo.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(2), jo.nonlinear_cg())
    >>> round(float(found.value), 6)
    0.0
    """
    return searched("nonlinear_cg", chain(scale_by_nonlinear_cg(beta), DOWNHILL), linesearch, gtol, ftol)


def _beta(kind: str, g: Array, g_old: Array, p: Array) -> Array:
    y = g - g_old
    if kind == "fletcher-reeves":
        return _over(g @ g, g_old @ g_old)
    if kind == "polak-ribiere":
        return jnp.maximum(_over(g @ y, g_old @ g_old), 0)
    py = p @ y
    if kind == "hestenes-stiefel":
        return jnp.maximum(_over(g @ y, py), 0)
    if kind == "dai-yuan":
        return _over(g @ g, py)
    least = -_over(jnp.ones_like(py), norm(p) * jnp.minimum(0.01, norm(g_old)))
    return jnp.maximum(_over((y - 2 * p * _over(y @ y, py)) @ g, py), least)


def _over(x: Array, y: Array) -> Array:
    """x / y, and 0 for y = 0."""
    return jnp.where(y != 0, x / jnp.where(y != 0, y, 1), 0)
