"""The simplex method of Nelder & Mead 1965, doi:10.1093/comjnl/7.4.308, for functions without derivatives.

n + 1 points in order of f, x_0 the best, x_n the worst, c the mean of all but the worst

x_r = c + rho (c - x_n)             reflected, taken if f_0 <= f_r < f_(n-1)
x_e = c + rho chi (c - x_n)         expanded, if f_r < f_0: the better of x_e and x_r is taken
x_o = c + rho psi (c - x_n)         contracted outside, if f_(n-1) <= f_r < f_n: taken if f_o <= f_r
x_i = c - psi (c - x_n)             contracted inside, if f_r >= f_n: taken if f_i < f_n
x_j = x_0 + sigma (x_j - x_0)       shrunk, for all j > 0, where a contraction is not taken

Coefficients that depend on n: Gao & Han 2012, doi:10.1007/s10589-010-9329-3, equation 4.1. An update evaluates f at one
of these points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import largest, length, next_count, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE
from jaxopt_ko.solvers.engine.convergence import (
    check_given,
    counted,
    eps_of,
    first_info,
    is_running,
    own_buffers,
    status,
    tolerance,
)
from jaxopt_ko.solvers.problem.objective import objective
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Updates

PLACE, REFLECT, EXPAND, OUTSIDE, INSIDE = range(5)  # what an update evaluates; PLACE: a point of a new simplex
AT_ZERO = 1 / 200  # of `step`: how far the first simplex goes along an element that is 0
ROUNDING = 16  # times eps: differences of f that are that part of |f|, or of what f has fallen by, are none


class NelderMeadState(NamedTuple):
    """State of `nelder_mead`; a row of the simplex holds all leaves one after the other, n elements in all."""

    count: Array  # int32[]            updates made
    simplex: Array  # float[n + 1, n]  the points, in order of their values unless a new simplex is being made
    values: Array  # float[n + 1]      f there, the largest number where it is not known yet, or not finite
    stage: Array  # int32[]            what the next update evaluates: PLACE, REFLECT, EXPAND, OUTSIDE or INSIDE
    vertex: Array  # int32[]           which point of a new simplex is next
    reflected: Array  # float[n]       x_r
    reflected_value: Array  # float[]  f_r
    first: Array  # float[]            f at the start
    unit: Array  # float[]             the longest side of the first simplex
    aux: PyTree  # what value_fn returned beside its value, at the best point
    info: Info  # of the last update


class _Rates(NamedTuple):
    """The coefficients."""

    rho: float
    chi: float
    psi: float
    sigma: float


def _rates(adaptive: bool, n: int) -> _Rates:
    if not adaptive or n < 2:
        return _Rates(1, 2, 0.5, 0.5)
    return _Rates(1, 1 + 2 / n, 0.75 - 1 / (2 * n), 1 - 1 / n)


@cached_factory
def nelder_mead(
    step: Hyper = 0.05, *, adaptive: bool = False, xtol: Hyper | None = None, ftol: Hyper | None = None
) -> GradientTransformation:
    """The simplex method of Nelder and Mead: a function without derivatives, of up to some ten parameters.

    x_r = c + (c - x_n),   c the mean of the n best of n + 1 points, x_n the worst, for which x_r, a point further out
    along this line, or one further in is put

    step: the first simplex goes from the start along each element by this part of it, or by step / 200 where that is 0;
        > 0. 0.05 is SciPy's.
    adaptive: coefficients for many parameters, chi = 1 + 2/n, psi = 3/4 - 1/(2n), sigma = 1 - 1/n, in place of 2, 1/2
        and 1/2: longer steps out, shorter ones in.
    xtol: converged when no point is further than this from the best in any element, >= 0, and ftol holds; None:
        eps**0.6 times the larger of max|x| and the longest side of the first simplex.
    ftol: what the values may then differ by at most, >= 0; None: 16 eps (|f| + what f has fallen by).

    init(params, value_fn=, has_aux=False) and update(updates, state, params, value_fn=, has_aux=False, tol=None). An
    update evaluates value_fn at one point, its first n those of the first simplex, and takes no gradient; its step
    leads to the best point so far, and is exactly zero where the trial is not better. `tol` takes the place of both
    xtol and ftol. The points are SciPy's. What is not finite counts as the largest number. The updates that come in are
    not read.

    State: n + 2 numbers a parameter. Raises HyperparameterError, when made, for numbers outside their domain;
    MissingArgumentError, when traced, without params or value_fn. Source: Nelder & Mead 1965,
    doi:10.1093/comjnl/7.4.308; Gao & Han 2012, doi:10.1007/s10589-010-9329-3. Not where there are derivatives: `lbfgs`
    needs a tenth of the evaluations for two parameters; nor for noise, `spsa`. It may converge to what is no minimum
    (McKinnon 1998, doi:10.1137/S1052623496303482): start it again from there.

    >>> found = jo.minimize(lambda x: jnp.sum(jnp.abs(x - 1)), jnp.zeros(2), jo.nelder_mead())
    >>> [round(float(x), 3) for x in found.params]
    [1.0, 1.0]
    """
    name = "nelder_mead"
    check_given(name, NONNEGATIVE, xtol=xtol, ftol=ftol)

    def init(
        params: Params, *, value_fn: Callable[..., Any] | None = None, has_aux: bool = False, **extra_args: Any
    ) -> NelderMeadState:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        x = problem.x
        f, aux = problem.full(x)
        unknown = jnp.full_like(f, np.finfo(f.dtype).max)
        info = first_info(f, unknown, status((~jnp.isfinite(f), Code.NOT_FINITE)), function=1)
        points = jnp.tile(x, (x.size + 1, 1))
        values = jnp.tile(unknown, x.size + 1).at[0].set(f)
        return own_buffers(
            NelderMeadState(
                zero_count(), points, values, jnp.asarray(PLACE, jnp.int32), jnp.asarray(1, jnp.int32), x, f, f,
                jnp.zeros_like(f), aux, info,
            )
        )  # fmt: skip

    def update(
        updates: Updates,
        state: NelderMeadState,
        params: Params,
        *,
        h: Scalars,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, NelderMeadState]:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        x, f = problem.x, state.info.value
        over = ~is_running(state.info)
        rates = _rates(adaptive, x.size)
        first = state.count == 0
        points = jnp.where(first, _corners(x, h.step.astype(x.dtype)), state.simplex)
        unit = jnp.where(first, jnp.max(jnp.abs(points - x[None]), initial=0.0), state.unit)

        # The trial
        trial = _trial(points, state.stage, state.vertex, rates)
        p = trial - x
        x_new = problem.reach(x, p)
        f_new, aux_new = problem.full(x_new)
        bottomless = jnp.isneginf(f_new)
        f_new = jnp.where(jnp.isfinite(f_new), f_new, np.finfo(f_new.dtype).max)
        taken = (f_new < f) & ~over
        f, aux = tree.where(taken, (f_new, aux_new), (f, state.aux))

        # The simplex after it
        kept = state._replace(simplex=points, unit=unit)
        new = _after(kept, x_new, f_new, rates)
        at = jnp.where(taken, x_new, x)
        spread = jnp.max(jnp.abs(new.simplex - at[None]), initial=0.0)
        tight = _tight(new, at, spread, tolerance(x, state.count, _near(x, at, unit), xtol, tol).value,
                       tolerance(x, state.count, _level(x, f, state.first), ftol, tol).value)  # fmt: skip
        info = Info(
            value=f,
            optimality=spread,
            step_norm=length(p),
            accepted=taken,
            evaluations=counted(state.info.evaluations, gradient=0),
            status=status(
                (over, state.info.status.code),
                (bottomless, Code.UNBOUNDED),
                (tight, Code.STEP_SMALL),
            ),
        )
        new = tree.where(over, kept, new)._replace(count=next_count(state.count), aux=aux, info=info)
        return problem.unravel(jnp.where(taken, p, jnp.zeros_like(p))), new

    return transform(
        name, init, update, needs_params=True, state_type=NelderMeadState, hypers={"step": (step, POSITIVE)},
        solver=True,
    )  # fmt: skip


def _near(x: Array, best: Array, unit: Array) -> Array:
    """float[]: xtol by default."""
    near: Array = eps_of(x) ** 0.6 * jnp.maximum(largest(best), unit)
    return near


def _level(x: Array, f: Array, first: Array) -> Array:
    """float[]: ftol by default; the rounding of f."""
    return ROUNDING * eps_of(x) * (jnp.abs(f) + (first - f))


def _tight(state: NelderMeadState, best: Array, spread: Array, xtol: Array, ftol: Array) -> Array:
    """bool[]: is the simplex in order, and small to the tolerances or lost in the rounding of x?"""
    small = (spread <= xtol) & (jnp.max(state.values) - state.values[0] <= ftol)
    tight: Array = (state.stage == REFLECT) & (small | (spread <= eps_of(best) * largest(best)))
    return tight


def _corners(x: Array, step: Array) -> Array:
    """The first simplex, float[n + 1, n]: x, and x with one element longer."""
    longer = jnp.where(x != 0, (1 + step) * x, AT_ZERO * step)
    rows = jnp.tile(x, (x.size, 1))
    return jnp.concatenate([x[None], jnp.where(jnp.eye(x.size, dtype=bool), longer[None], rows)])


def _trial(points: Array, stage: Array, vertex: Array, rates: _Rates) -> Array:
    """The point to evaluate, float[n]."""
    rho, chi, psi, _ = rates
    worst = points[-1]
    center = jnp.mean(points[:-1], axis=0)
    out = jnp.asarray([0, rho, rho * chi, rho * psi, -psi], points.dtype)[stage]
    return jnp.where(stage == PLACE, points[vertex], (1 + out) * center - out * worst)


def _after(state: NelderMeadState, x: Array, f: Array, rates: _Rates) -> NelderMeadState:
    """After f at the trial x: another point, the next stage or a smaller simplex."""
    points, values, stage, vertex, x_r, f_r = state[1:7]
    n = points.shape[1]
    best, second, worst = values[0], values[max(n - 1, 0)], values[-1]
    place, reflect, expand = stage == PLACE, stage == REFLECT, stage == EXPAND

    # One for the worst, or one more of a new simplex
    by_reflection = reflect & (best <= f) & (f < second)
    contracted = ((stage == OUTSIDE) & (f <= f_r)) | ((stage == INSIDE) & (f < worst))
    back = expand & ~(f < f_r)  # the reflected point is better than the expanded one
    put = place | by_reflection | expand | contracted
    row = jnp.where(place, vertex, n)
    new_x, new_f = jnp.where(back, x_r, x), jnp.where(back, f_r, f)
    points = jnp.where(put, points.at[row].set(new_x), points)
    values = jnp.where(put, values.at[row].set(new_f), values)

    # A smaller simplex
    shrunk = ((stage == OUTSIDE) | (stage == INSIDE)) & ~contracted
    smaller = points[:1] + rates.sigma * (points - points[:1])
    points = jnp.where(shrunk, smaller, points)
    values = jnp.where(shrunk & (jnp.arange(n + 1) > 0), np.finfo(values.dtype).max, values)

    ready = (put & ~place) | (place & (vertex >= n))
    order = jnp.argsort(values, stable=True)
    points, values = jnp.where(ready, points[order], points), jnp.where(ready, values[order], values)
    after_reflection = jnp.where(
        f < best, EXPAND, jnp.where(f < second, REFLECT, jnp.where(f < worst, OUTSIDE, INSIDE))
    )
    stage = jnp.where(reflect, after_reflection, jnp.where(ready, REFLECT, PLACE)).astype(jnp.int32)
    vertex = jnp.where(place, vertex + np.int32(1), np.int32(1))
    return state._replace(
        simplex=points, values=values, stage=stage, vertex=jnp.where(ready | ~place, np.int32(1), vertex),
        reflected=jnp.where(reflect, x, x_r), reflected_value=jnp.where(reflect, f, f_r),
    )  # fmt: skip
