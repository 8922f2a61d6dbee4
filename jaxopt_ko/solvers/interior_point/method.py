"""A primal-dual interior-point method with a filter line search. Waechter & Biegler 2006, Mathematical Programming 106,
doi:10.1007/s10107-004-0559-y; the numbers of equations are theirs.

min f(x)  subject to  c_e(x) = 0,  c_i(x) + s = 0,  lower <= x <= upper,  s >= 0
phi = f - mu sum log r        r: the room left, x - lower, upper - x and s         theta = |c|_1,  c = (c_e, c_i + s)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import joined, largest, next_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import POSITIVE, HyperparameterError, say
from jaxopt_ko.solvers.engine.convergence import check_given, eps_of, is_running, tolerance
from jaxopt_ko.solvers.interior_point.derivatives import Derivatives
from jaxopt_ko.solvers.interior_point.filter import BROKEN, HALVED, RETURNS, entered, judge, outcome
from jaxopt_ko.solvers.interior_point.info import reported, verdict
from jaxopt_ko.solvers.interior_point.kkt import next_step
from jaxopt_ko.solvers.interior_point.residuals import kkt_residuals, next_mu, unscaled
from jaxopt_ko.solvers.interior_point.rooms import Space
from jaxopt_ko.solvers.interior_point.secant import derivatives
from jaxopt_ko.solvers.interior_point.variables import (
    CORRECTION,
    FRESH,
    HARDER,
    LINE,
    Comparison,
    InteriorPointState,
    PackedIntegers,
    PackedReals,
    Trial,
    UpdateContext,
    accepted,
    initial_state,
    packed,
    unpacked,
)
from jaxopt_ko.solvers.problem.bounds import move
from jaxopt_ko.solvers.problem.constraints import Program, program
from jaxopt_ko.types import GradientTransformation, Hyper, Params, PyTree, Updates

LEFT = 0.9  # of theta, at the end of a restoration


@cached_factory
def interior_point(
    *, gtol: Hyper | None = None, hessian: str = "exact", memory: int | None = None
) -> GradientTransformation:
    """One trial point of a primal-dual interior-point method an update: f and the constraints, with their derivatives.

    min f(x)  subject to  equality(x) = 0,  inequality(x) <= 0,  lower <= x <= upper

    Newton's method on the conditions for a minimum of phi, mu -> 0, with slacks; the share of a step is cut until
    phi or theta falls enough and no pair of the filter dominates; a step that makes theta larger is corrected once, by
    the same matrix; where three halvings of a step of a regularized Hessian are in vain, it is regularized more, once.
    Where none is short enough, the violation alone is minimized, by the same method, until theta has fallen.
    `iterations` of the state counts the trials that were taken: what others call an iteration.

    gtol: converged when the error (5) of the scaled problem is at most this, > 0; None: eps**0.5; `tol` takes its
        place. The scale is such that no gradient at the start is larger than 100. No run succeeds where one of the
        conditions without any scaling is missed by more than gtol**0.5, relative to f and its gradient.
    hessian: "exact", or "bfgs" where second derivatives are dear or not there: they are never taken, and the Hessian of
        the Lagrangian is learned from its gradients, by BFGS with Powell's damping (Nocedal & Wright 2006, procedure
        18.2). It takes half as many iterations more. With it jac_sparsity alone is given.
    memory: how many pairs of steps and gradients "bfgs" keeps, an int >= 1, in the compact form, and Woodbury's formula
        in the step; None: a whole matrix up to 300 parameters, 10 pairs beyond and with jac_sparsity.

    init(params, value_fn=, equality=None, inequality=None, bounds=None, has_aux=False) and update(updates, state,
    params, the same arguments, tol=None). equality, inequality: params -> a tree of arrays. bounds = (lower, upper),
    each None, a number or a tree like params or its upper part; no function is evaluated outside, and where they are
    equal x is held there. The first update moves the start inside the bounds. A rejected step is exactly zero; the
    updates that come in are not read.

    hess_sparsity, jac_sparsity: given to init and update alike: where the Hessian of the Lagrangian, and the derivative
    of the constraints, may have entries, as in `minimize`. Both then take as many products as they have colours, and a
    step a sparse factor whose eigenvalues below 0 are counted; "detect" looks anew at each trace.

    State: (n + p + q)**2 numbers or so, of n parameters, p equalities, q inequalities; with sparsity the entries and
    some 10 (n + p + q), with pairs 2 n for each and (p + q) n for the constraints. Where the constraints leave no
    interior, a bound that is met, and that only, is relaxed by eps**0.5 (section 3.5). Status: INFEASIBLE where the
    violation has a minimum that is not 0; UNBOUNDED, NOT_FINITE, STUCK.

    Raises HyperparameterError, when made, for another word and a memory without "bfgs"; MissingArgumentError, when
    traced, without value_fn; TreeError for a value that is not one number, constraints that are no real floating
    arrays, bounds that do not fit and sparsity of another shape. An inner loop finds the regularization, so updates
    have forward-mode derivatives only; minimize's own are of either mode. Source: Waechter & Biegler 2006, Mathematical
    Programming 106, doi:10.1007/s10107-004-0559-y. Not for more than some hundred parameters or constraints without
    sparsity or pairs: all is dense then. With no constraints but bounds, `lbfgsb` needs no Hessian.

    >>> method, ring = jo.interior_point(), lambda x: x @ x - 2
    >>> found = jo.minimize(lambda x: jnp.sum(x), -jnp.ones(2), method, inequality=ring)
    >>> round(float(found.value), 3)
    -2.0
    """
    name = "interior_point"
    check_given(name, POSITIVE, gtol=gtol)
    errors.check_choice(name, "hessian", hessian, ["exact", "bfgs"])
    if memory is not None:
        errors.check_size(name, "memory", memory)
        if hessian == "exact":
            say(HyperparameterError, name, "memory is for hessian='bfgs'", str(memory), "Leave it out")

    def init(
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        equality: Callable[..., PyTree] | None = None,
        inequality: Callable[..., PyTree] | None = None,
        bounds: tuple[PyTree, PyTree] | None = None,
        has_aux: bool = False,
        hess_sparsity: Any = None,
        jac_sparsity: Any = None,
        **extra_args: Any,
    ) -> InteriorPointState:
        problem = program(name, params, value_fn, equality, inequality, bounds, has_aux, extra_args)
        return initial_state(problem, derivatives(name, problem, hess_sparsity, jac_sparsity, hessian, memory))

    def update(
        updates: Updates,
        state: InteriorPointState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        equality: Callable[..., PyTree] | None = None,
        inequality: Callable[..., PyTree] | None = None,
        bounds: tuple[PyTree, PyTree] | None = None,
        has_aux: bool = False,
        hess_sparsity: Any = None,
        jac_sparsity: Any = None,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, InteriorPointState]:
        problem = program(name, params, value_fn, equality, inequality, bounds, has_aux, extra_args)
        of = derivatives(name, problem, hess_sparsity, jac_sparsity, hessian, memory)
        bound = tolerance(problem.x, state.count, eps_of(problem.x) ** 0.5, gtol, tol).value
        state = state._replace(count=next_count(state.count))
        return jax.lax.cond(  # type: ignore[no-any-return]
            is_running(state.info),
            lambda: _advance(problem, of, params, state, bound),
            lambda: _rest(params, state),
        )

    return transform(name, init, update, needs_params=True, state_type=InteriorPointState, solver=True)


def _rest(params: Params, state: InteriorPointState) -> tuple[Updates, InteriorPointState]:
    """An update of a run that is over."""
    info = state.info._replace(accepted=jnp.zeros((), bool))
    return jax.tree.map(jnp.zeros_like, params), state._replace(info=info)


def _advance(
    problem: Program, of: Derivatives, params: Params, state: InteriorPointState, gtol: Array
) -> tuple[Updates, InteriorPointState]:
    """An update of a run that is not over: look, judge, and go on from the trial or to a shorter one."""
    run = UpdateContext(problem, Space(problem, of, state.relaxed), state, *unpacked(state), gtol)
    trial = _look(run, params)
    judged = judge(run, trial)
    return jax.lax.cond(  # type: ignore[no-any-return]
        (judged.event == HALVED) | (judged.event == RETURNS),
        lambda: _halve(run, params, trial, judged),
        lambda: _go_on(run, trial, judged),
    )


def _look(run: UpdateContext, params: Params) -> Trial:
    """The next trial along the step; at first the start, moved inside the bounds."""
    problem, space, state = run.problem, run.space, run.state
    x, s, n = problem.x, state.slack, problem.x.size
    alpha = jnp.where(run.integers.kind == FRESH, 0, run.reals.alpha)
    to = jnp.where(state.count == 1, space.inside(x), x + alpha * state.step[:n])
    move_there, x_new = move(problem, params, to, problem.lower, problem.upper)
    raw, aux = problem.evaluate(x_new)
    size = largest(state.step / (1 + jnp.abs(joined([x, s]))))
    return Trial(move_there, x_new, s + alpha * state.step[n:], raw, raw * state.scale, alpha, size, aux)


def _halve(run: UpdateContext, params: Params, trial: Trial, judged: Comparison) -> tuple[Updates, InteriorPointState]:
    """A shorter trial along the same step is next, or along that which a correction has not made better."""
    returns, state = judged.event == RETURNS, run.state
    step = jnp.where(returns, state.corrected, joined([state.step, state.step_y]))
    state = state._replace(step=step[: state.step.size], step_y=step[state.step.size :])
    kind = jnp.where(returns, np.int32(LINE), run.integers.kind)
    state = packed(state, run.reals._replace(alpha=judged.halved), run.integers._replace(kind=kind))
    info, no = state.info, jnp.zeros((), bool)
    report = reported(run, trial, info.value, info.optimality, no, no, info.status)
    return jax.tree.map(jnp.zeros_like, params), state._replace(info=report)


def _go_on(run: UpdateContext, trial: Trial, judged: Comparison) -> tuple[Updates, InteriorPointState]:
    """What follows a trial, unless it is but a shorter one: the point, its multipliers, mu, the step, the status."""
    state, reals, integers, found = run.state, run.reals, run.integers, outcome(run, trial, judged)
    at = accepted(run, trial, found)
    far = kkt_residuals(run.space, at, found.restores)
    before, mu = next_mu(run, found, far)
    pairs, entries = entered(run, found, at.c, (mu < before) & ~found.restores)
    ahead = next_step(run, trial, found, at, mu)
    at = at._replace(y=ahead.y)
    plain = unscaled(run.problem, run.space, at)
    plain = plain._replace(f=jnp.where(found.event == BROKEN, trial.raw[0], plain.f))
    over = verdict(run, found, at, far, plain, ahead, before)

    reals = PackedReals(
        alpha=ahead.longest,
        longest=jnp.where(found.corrects, reals.longest, ahead.longest),
        slope=jnp.where(found.corrects, reals.slope, ahead.slope),
        mu=mu,
        kept=jnp.where(found.enters, reals.mu, jnp.where(found.leaves, 0, reals.kept)),
        weight=at.weight,
        left=jnp.where(found.enters, LEFT * found.theta, reals.left),
        delta=jnp.where(ahead.alone | (ahead.delta == 0), reals.delta, ahead.delta),
        shift=ahead.delta,
    )
    kind = jnp.where(found.hardens, np.int32(HARDER), np.int32(LINE))
    kind = jnp.where(found.corrects, np.int32(CORRECTION), kind)
    integers = PackedIntegers(
        iterations=integers.iterations + found.moves.astype(jnp.int32),
        kind=jnp.where(ahead.alone | found.enters, np.int32(FRESH), kind),
        entries=entries,
        close=over.close,
    )
    state = packed(state, reals, integers)._replace(
        scale=at.scale,
        values=at.F,
        jacobian=at.J,
        hessian=at.H,
        slack=at.s,
        y=at.y,
        z=at.z,
        step=ahead.step,
        step_y=ahead.step_y,
        corrected=joined([state.step, state.step_y]),
        relaxed=at.relaxed,
        filter=pairs,
        multipliers=plain.multipliers,
        kkt=plain.kkt,
        aux=tree.where(found.derives, trial.aux, state.aux),
        info=reported(run, trial, plain.f, over.optimality, found.moves, found.derives, over.status),
    )
    return tree.where(found.derives, trial.move, jax.tree.map(jnp.zeros_like, trial.move)), state
