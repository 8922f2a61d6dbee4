"""Trust regions: the frame that methods of the kind share.

minimize m(p) = g'p + p'Hp / 2  over |p| <= Delta           rho = (f(x) - f(x + p)) / -m(p)
Conn, Gould & Toint 2000, Trust-Region Methods, algorithm 6.1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import (
    largest,
    next_count,
    norm,
    safe_sqrt,
    value_at,
    zero_count,
)
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE
from jaxopt_ko.solvers.engine.convergence import (
    Course,
    Tolerance,
    bound,
    carried_off,
    check_given,
    counted,
    course,
    cut_of,
    endless,
    eps_of,
    first_info,
    flat,
    gain_ratio,
    is_running,
    onward,
    own_buffers,
    pending,
    short,
    status,
    tolerance,
)
from jaxopt_ko.solvers.problem.objective import Objective, check_heeded, objective
from jaxopt_ko.solvers.problem.sparsity import Pattern, hessian_pattern
from jaxopt_ko.types import (
    Code,
    GradientTransformation,
    Hyper,
    Info,
    Params,
    PyTree,
    State,
    Status,
    Updates,
)

ACCEPT, POOR, GOOD = 1e-4, 0.25, 0.9  # bounds on rho: x + p is taken; Delta shrinks; Delta grows
LEAST_CUT, MOST_CUT, BLIND_CUT = 0.5, 0.25, 0.1  # of |p|, what Delta shrinks to; the last where f is not finite
DOUBT, UNHEARD = 100, 10  # times f's rounding: a smaller decrease need not be true; cannot be trusted at all


class Proposal(NamedTuple):
    """A minimizer of the model within the region."""

    step: Array  # float[n]     p
    predicted: Array  # float[]  -m(p)
    free: Array  # bool[]       would p be the same without the region?
    size: Array  # float[]      x'|H|x, which tells f's rounding; may be 0 where -m(p) is no small part of |f|
    products: Array  # int32[]  of H with vectors, made to find p
    memory: State
    length: Array | None = None  # float[]  of p, as the region measures it; None: |p|


class QuadraticModel(NamedTuple):
    """A quadratic model of f about x; its memory is all it knows there."""

    begin: Callable[[Objective, Array, Array], tuple[State, Array, Array]]
    # (problem, g, does a run end here?) -> memory at the start, the first Delta, int32[] products made
    propose: Callable[[Objective, State, Array, Array, Array, Array], Proposal]
    # (problem, memory, f(x), g, Delta, count)
    renew: Callable[[Objective, State, Array], tuple[State, Array]]
    # (problem, old memory, does a run end here unless H has a negative eigenvalue?) -> memory at problem.x, int32[]
    # products made
    spectrum: Callable[[State], tuple[Array, Array]]  # memory -> lowest eigenvalue of H known, and largest modulus


class TrustRegionState(NamedTuple):
    """State of a trust-region method; all of it at the parameters as they now are."""

    count: Array  # int32[]      updates made
    gradient: Array  # float[n]  g
    aux: PyTree  # what the function returned beside its value
    radius: Array  # float[]     Delta, bound on |p|
    memory: State  # of the model
    course: Course  # of the run
    info: Info  # of the last update


class _Trial(NamedTuple):
    """What was found at x + p."""

    x: Array  # float[n]         x + p
    value: Array  # float[]      f there
    aux: PyTree
    gradient: Array  # float[n]  g there
    finite: Array  # bool[]      are both?
    actual: Array  # float[]     f(x) - f(x + p), or what the gradients say of it
    rho: Array  # float[]
    doubtful: Array  # bool[]    may the decrease be lost in f's rounding?
    lost: Array  # bool[]        is it?


class _Verdict(NamedTuple):
    """Is x + p taken, and what is known there?"""

    looks: Array  # bool[]   is it to be taken, so that the model is made anew there?
    taken: Array  # bool[]   has it been: is the model there finite?
    memory: State  # of the model there
    products: Array  # int32[]  made for that
    course: Course  # of the run, x + p taken
    brief: Array  # bool[]   is p short?
    small: Array  # bool[]   is g there?
    level: Array  # bool[]   can f no longer tell the last steps from none?


def trust_region(
    name: str,
    model: QuadraticModel,
    *,
    sparse_model: Callable[[Pattern], QuadraticModel] | None = None,
    radius: Hyper | None = None,
    gtol: Hyper | None = None,
    ftol: Hyper | None = None,
) -> GradientTransformation:
    """One trial step of a trust-region method an update: f and g at one new point, kept if f falls.

    x + p is taken if rho > 1e-4. Delta shrinks, to between |p|/4 and |p|/2 by interpolation, if rho < 1/4, and
    becomes 2 |p| at least if rho > 0.9. The first Delta is |g| / u'Hu with u = g / |g|, so that the first step ends
    where the model is lowest along -g; where it falls for ever, max(1, |x|).

    Where the decrease may be lost in f's rounding, eps (|f| + sqrt(|f| x'|H|x)), it is taken from the gradients, as
    -(g + g_new)'p / 2. Where it is lost, a p that the region does not bound has to lower |g| by a tenth; the run
    ends when a p is not taken. A point where g is small but H has a negative eigenvalue is no solution: the run
    goes on along its eigenvector.

    sparse_model: of where H may have entries, for `hess_sparsity` given to init and update; None: that is refused.
    radius: the first Delta instead. gtol, or `tol` given to init and update in its place: converged when max|g| <=
    gtol, by default eps**(2/3) min(1, G / (16 eps**(1/6))), G the largest max|g| so far. ftol: converged when steps
    that the region did not bound were to lower f, and did, by no more than ftol |f|: one shorter than sqrt(eps) |x|,
    or three than eps**(1/3) |x|; eps by default. The run also ends when no element of x changes, and as UNBOUNDED
    where f is -inf at a trial or falls on and on along steps that get longer but no flatter.
    """
    check_given(name, POSITIVE, radius=radius)
    check_given(name, NONNEGATIVE, gtol=gtol, ftol=ftol)
    dense = model

    def model_of(problem: Objective, hess_sparsity: Any) -> QuadraticModel:
        if hess_sparsity is None or sparse_model is None:
            check_heeded(name, [] if hess_sparsity is None else ["hess_sparsity"])
            return dense
        return sparse_model(hessian_pattern(name, hess_sparsity, jax.grad(problem.value), problem.x))

    def init(
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        hess_sparsity: Any = None,
        **extra_args: Any,
    ) -> TrustRegionState:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        count, model = zero_count(), model_of(problem, hess_sparsity)
        return _begin(model, problem, _limits(problem.x, count, gtol, tol, ftol)[0], radius)

    def update(
        updates: Updates,
        state: TrustRegionState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        hess_sparsity: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, TrustRegionState]:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        model = model_of(problem, hess_sparsity)
        gtol_, ftol_ = _limits(problem.x, state.count, gtol, tol, ftol)
        info = state.info
        proposal = model.propose(problem, state.memory, info.value, state.gradient, state.radius, state.count)
        trial = _try(problem, state, proposal)
        verdict = _judge(model, problem, state, proposal, trial, gtol_, ftol_)
        size = safe_sqrt(proposal.step @ proposal.step)
        radius = _resize(state, proposal, trial, verdict, size if proposal.length is None else proposal.length)
        gradient, aux, memory, run = tree.where(
            verdict.taken,
            (trial.gradient, trial.aux, verdict.memory, verdict.course),
            (state.gradient, state.aux, proposal.memory, state.course),
        )
        new = TrustRegionState(next_count(state.count), gradient, aux, radius, memory, run, info)
        stands = _stop(model, problem, state, new, proposal, trial, verdict, size)
        value, step = tree.where(
            verdict.taken, (trial.value, proposal.step), (info.value, jnp.zeros_like(proposal.step))
        )
        evaluations = counted(info.evaluations, product=proposal.products + verdict.products)
        info = Info(value, largest(gradient), size, verdict.taken, evaluations, stands)
        return problem.unravel(step), new._replace(info=info)

    return transform(name, init, update, needs_params=True, state_type=TrustRegionState, solver=True)


def _limits(x: Array, count: Array, gtol: Any, tol: Any, ftol: Any) -> tuple[Tolerance, Tolerance]:
    """gtol and ftol at step `count`."""
    eps = eps_of(x)
    return tolerance(x, count, eps ** (2 / 3), gtol, tol), tolerance(x, count, eps, ftol)


def _begin(model: QuadraticModel, problem: Objective, gtol: Tolerance, radius: Hyper | None) -> TrustRegionState:
    """The state at the start."""
    x, count = problem.x, zero_count()
    value, aux, g = problem.evaluate(x)
    run = course(value, x, largest(g))
    small = run.steepest <= bound(run, gtol)
    memory, first, products = model.begin(problem, g, small)
    if radius is not None:
        first = value_at(radius, count).astype(x.dtype)
    finite = jnp.isfinite(value) & _finite((g, memory))
    solved = small & _convex(x, model.spectrum(memory))
    stands = status((~finite, Code.NOT_FINITE), (solved, Code.GRADIENT_SMALL))
    info = first_info(value, run.steepest, stands, function=1, gradient=1, product=products)
    return own_buffers(TrustRegionState(count, g, aux, first, memory, run, info))


def _try(problem: Objective, state: TrustRegionState, proposal: Proposal) -> _Trial:
    """f and its gradient at x + p, and how much f falls there."""
    f, g, p, predicted = state.info.value, state.gradient, proposal.step, proposal.predicted
    x = problem.reach(problem.x, p)
    value, aux, gradient = problem.evaluate(x)
    finite = jnp.isfinite(value) & _finite(gradient)
    actual = f - jnp.where(finite, value, jnp.inf)
    rounding = eps_of(x) * (jnp.abs(f) + jnp.sqrt(jnp.abs(f)) * jnp.sqrt(proposal.size))
    doubtful, lost = (jnp.maximum(predicted, -actual) <= times * rounding for times in (DOUBT, UNHEARD))
    actual = jnp.where(doubtful & finite, -0.5 * (g + gradient) @ p, actual)
    return _Trial(x, value, aux, gradient, finite, actual, gain_ratio(actual, predicted), doubtful, lost)


def _judge(
    model: QuadraticModel,
    problem: Objective,
    state: TrustRegionState,
    proposal: Proposal,
    trial: _Trial,
    gtol: Tolerance,
    ftol: Tolerance,
) -> _Verdict:
    """Is x + p taken? If so, the model there."""
    g, p, memory = state.gradient, proposal.step, proposal.memory
    flatter = jnp.linalg.norm(trial.gradient) < 0.9 * jnp.linalg.norm(g)
    brief = short(state.course, problem.x, p, 1 / 3)
    enough = (trial.rho > ACCEPT) & (flatter | ~(trial.lost & proposal.free & brief))
    looks = trial.finite & enough & is_running(state.info)
    unfelt = proposal.free & (jnp.maximum(trial.actual, proposal.predicted) <= ftol.value * jnp.abs(trial.value))
    unfelt &= ~pending(gtol, largest(trial.gradient), largest(g))
    run = onward(state.course, largest(trial.gradient), looks, unfelt)
    small = largest(trial.gradient) <= bound(run, gtol)
    level = (state.count > 0) & flat(run, trial.x, p, unfelt)
    renewed, products = jax.lax.cond(
        looks,
        lambda: model.renew(problem._replace(x=trial.x), memory, small | level),
        lambda: (memory, jnp.zeros((), jnp.int32)),
    )
    return _Verdict(looks, looks & _finite(renewed), renewed, products, run, brief, small, level)


def _resize(state: TrustRegionState, proposal: Proposal, trial: _Trial, verdict: _Verdict, size: Array) -> Array:
    """The next Delta; size: of p, as the region measures it."""
    cut = cut_of(state.gradient @ proposal.step, trial.actual, MOST_CUT, LEAST_CUT)
    cut = jnp.where(trial.finite & (verdict.taken | ~verdict.looks), cut, BLIND_CUT)
    shrinks, grows = ~(trial.rho >= POOR) | (verdict.looks & ~verdict.taken), trial.rho > GOOD
    return jnp.select(
        [~is_running(state.info), shrinks, grows],
        [state.radius, cut * size, jnp.maximum(state.radius, 2 * size)],
        state.radius,
    )


def _stop(
    model: QuadraticModel,
    problem: Objective,
    state: TrustRegionState,
    new: TrustRegionState,
    proposal: Proposal,
    trial: _Trial,
    verdict: _Verdict,
    size: Array,
) -> Status:
    """Is the run over, at the new state? size: |p|."""
    x, p, free, taken, eps = problem.x, proposal.step, proposal.free, verdict.taken, eps_of(problem.x)
    value, at = tree.where(taken, (trial.value, trial.x), (state.info.value, x))
    still = jnp.all(jnp.abs(p) <= eps * jnp.abs(x)) | (size <= eps**2 * norm(x)) | jnp.all(trial.x == x)
    unheard = (trial.lost | (trial.doubtful & free)) & ~taken & verdict.brief
    convex = _convex(x, model.spectrum(new.memory))
    small = verdict.small & taken & convex
    good = small | (taken & verdict.level & convex) | (free & still)
    good |= unheard & (free | (size > jnp.sqrt(eps) * norm(x)))
    falls = jnp.isneginf(trial.value) | (good & carried_off(new.course, at, value, new.gradient))
    falls |= taken & ~good & endless(new.course, at, value, p, state.gradient, new.gradient)
    return status(
        (~is_running(state.info), state.info.status.code),
        (falls, Code.UNBOUNDED),
        (small, Code.GRADIENT_SMALL),
        (free & still, Code.STEP_SMALL),
        (good, Code.DECREASE_SMALL),
        (unheard | (~taken & still), Code.SEARCH_FAILED),
    )


def _finite(tree: PyTree) -> Array:
    """bool[]: is every number in these arrays finite?"""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.asarray([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def cauchy_radius(x: Array, length: Array, curvature: Array) -> Array:
    """Delta so long that it ends where the model is lowest along -g.

    length: |g|; curvature: u'Hu along u = g / |g|. With a preconditioner: |g| of M^-1, and along -M^-1 g.
    """
    most = float(np.finfo(x.dtype).max) ** 0.25
    bends = (curvature > 0) & (length > 0)
    cauchy = length / jnp.where(bends, curvature, 1)
    return jnp.minimum(jnp.where(bends, cauchy, jnp.maximum(1.0, safe_sqrt(x @ x))), most)


def _convex(x: Array, spectrum: tuple[Array, Array]) -> Array:
    """bool[]: is no eigenvalue of H negative beyond its rounding? spectrum: the lowest, and the largest modulus."""
    lowest, most = spectrum
    convex: Array = -lowest <= eps_of(x) ** 0.5 * most
    return convex
