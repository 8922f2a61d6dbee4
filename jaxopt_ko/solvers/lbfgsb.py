"""L-BFGS-B: limited-memory BFGS in a box. Byrd, Lu, Nocedal & Zhu 1995, doi:10.1137/0916069; Morales & Nocedal 2011,
doi:10.1145/2049662.2049669.

min f(x)  subject to  lower <= x <= upper;   P(x) is x clipped to the box
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.method import cached_factory
from jaxopt_ko.core.numerics import first_true, next_count, or_one, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, check_hyper, check_size
from jaxopt_ko.solvers.engine.convergence import (
    IDLE,
    Course,
    bound,
    carried_off,
    course,
    endless,
    flat,
    onward,
    pending,
    short,
    spent,
)
from jaxopt_ko.solvers.engine.line_search import Evaluation, LineSearchState, takes_last, zoom
from jaxopt_ko.solvers.problem.bounds import box, move
from jaxopt_ko.solvers.problem.objective import objective
from jaxopt_ko.types import Code, Evaluations, GradientTransformation, Hyper, Info, Params, PyTree, Status, Updates

CURVATURE = 1e-10  # a pair with s'y <= max(CURVATURE, eps) |s| |y| is left out
ROUND_OFF = 100  # times eps |f|: by so much may f rise in a step whose slopes say that it falls
LOST_TRIALS = 3  # of a search for less than that


class Memory(NamedTuple):
    """The pairs s = x_new - x, y = g_new - g that B is made of, each over sqrt(s'y): s'y = 1."""

    S: Array  # float[m,n]  the next one in row stored % m; zero where there is none yet
    Y: Array  # float[m,n]
    stored: Array  # int32[]  pairs that came in since the memory was last emptied


class LBFGSBState(NamedTuple):
    """State of L-BFGS-B; the vectors hold all leaves one after the other, n elements in all."""

    count: Array  # int32[]       updates made
    here: Evaluation  # at the parameters as they now are
    direction: Array  # float[n]  p, along which the search goes; x + p is in the box
    line: LineSearchState  # of the search
    safe: Evaluation  # at the safe point of the search
    memory: Memory  # of the m newest pairs
    skipped: Array  # int32[]     pairs left out
    restarts: Array  # int32[]    times that a search or a direction failed and the memory was emptied
    course: Course  # of the run
    info: Info  # of the last update

    @property
    def aux(self) -> PyTree:
        """What the function returned beside its value, at the parameters as they now are."""
        return self.here.aux


@cached_factory
def lbfgsb(
    memory_size: int = 10,
    *,
    gtol: Hyper | None = None,
    ftol: Hyper | None = None,
    max_linesearch_steps: int = 20,
) -> GradientTransformation:
    """One trial of L-BFGS-B an update: f and its gradient at one new point of the box.

    q(x + z) = f + g'z + z'Bz/2       B = theta (I + V'EV), from the last `memory_size` pairs
    x_c: the first local minimizer of q on the path P(x - t g), t >= 0
    x_s: the minimizer of q over what x_c leaves free;  p = P(x_s) - x, if that points downhill
    x + a p: by a search for the strong Wolfe conditions that begins with a = 1 and ends at the bound

    init(params, value_fn=, bounds=None, has_aux=False) and update(updates, state, params, value_fn=, bounds=None,
    has_aux=False, tol=None). bounds = (lower, upper), each None, a number or a tree like params or its upper part
    with numbers, arrays and None for its leaves. f is never evaluated outside: a start outside is moved into the box,
    by the first update. A rejected step is otherwise exactly zero; the updates that come in are not read.
    After a search that finds nothing the memory is emptied, once; the next such search ends the run.

    gtol: converged when max|P(x - g) - x| <= gtol; `tol` takes its place, the default is that of `descent`.
    ftol: converged when f falls, and was to fall, by no more than ftol |f|, in short steps as in `descent`; eps by
    default. Also when the step is lost in x's rounding. UNBOUNDED as in `descent`.

    Raises MissingArgumentError without value_fn; TreeError for a value that is not one number, bounds of another
    structure and bounds that cross. Not for constraints other than bounds; without bounds lbfgs is cheaper.
    """
    name = "lbfgsb"
    check_size(name, "memory_size", memory_size)
    check_size(name, "max_linesearch_steps", max_linesearch_steps)
    for argument, tolerance in (("gtol", gtol), ("ftol", ftol)):
        if tolerance is not None:
            check_hyper(name, argument, tolerance, NONNEGATIVE)

    def init(
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        bounds: tuple[PyTree, PyTree] | None = None,
        has_aux: bool = False,
        **extra_args: Any,
    ) -> LBFGSBState:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        lower, upper = box(name, params, bounds)
        _, x = move(problem, params, problem.x, lower, upper)
        f, aux, g = problem.evaluate(x)
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(g))
        p = cautious(x, g, lower, upper)
        line = zoom(max_linesearch_steps).start(f, g @ p, jnp.ones_like(f))
        here, rows, one = Evaluation(g, aux), jnp.zeros((memory_size, x.size), x.dtype), jnp.ones((), jnp.int32)
        optimality = projected_gradient(x, g, lower, upper)
        info = Info(
            f,
            optimality,
            jnp.zeros_like(f),
            jnp.zeros((), bool),
            Evaluations(one, jnp.copy(one), zero_count()),
            Status(jnp.where(finite, np.int32(Code.RUNNING), np.int32(Code.NOT_FINITE))),
        )
        memory = Memory(rows, jnp.copy(rows), zero_count())
        run = course(f, x, optimality)
        state = LBFGSBState(zero_count(), here, p, line, here, memory, zero_count(), zero_count(), run, info)
        return jax.tree.map(jnp.copy, state)  # type: ignore[no-any-return]  # no buffer twice: they may be donated

    def update(
        updates: Updates,
        state: LBFGSBState,
        params: Params,
        *,
        value_fn: Callable[..., Any] | None = None,
        bounds: tuple[PyTree, PyTree] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, LBFGSBState]:
        problem = objective(name, params, value_fn, has_aux, extra_args)
        lower, upper = box(name, params, bounds)
        count, here, p, line, safe, memory, skipped, restarts, run, info = state
        into, x = move(problem, params, problem.x, lower, upper)
        eps = float(np.finfo(x.dtype).eps)
        given = gtol if tol is None else tol
        gtol_ = jnp.asarray(eps**0.5 if given is None else value_at(given, count), x.dtype)
        ftol_ = jnp.asarray(eps if ftol is None else value_at(ftol, count), x.dtype)
        running = info.status.code == np.int32(Code.RUNNING)

        # The trial
        search = zoom(max_linesearch_steps, longest(x, p, lower, upper), approx_dec_rtol=ROUND_OFF * eps)
        a = jax.lax.stop_gradient(search.trial(line))  # unrolled, the stepsizes are constants
        _, x_trial = move(problem, params, x + a * p, lower, upper)
        f_trial, aux, g_trial = problem.evaluate(x_trial)
        bottomless = running & jnp.isneginf(f_trial)
        f_trial = jnp.where(jnp.all(jnp.isfinite(g_trial)) & ~bottomless, f_trial, jnp.inf)
        line, last = search.tell(line, a, f_trial, g_trial @ p), Evaluation(g_trial, aux)
        safe = tree.where(line.safe.stepsize == a, last, safe)

        # Is a step taken?
        trial = x_trial - x
        lost = -line.start.slope <= ROUND_OFF * eps * jnp.abs(info.value)  # f cannot tell such a step from none
        enough = (line.count >= LOST_TRIALS) & short(run, x, trial, 1 / 3)
        close = jnp.zeros((), bool)
        if given is None:  # the gradient is small, and along p a minimum is near
            close = (info.optimality <= gtol_ * jnp.minimum(1, run.steepest)) & (line.done | (line.phase > 0))
            close &= short(run, x, trial, 0.5)
        over = running & (line.over | (lost & enough) | bottomless | close)
        from_last = takes_last(line)
        a = tree.where(from_last, line.last, line.safe).stepsize
        step, x_new = move(problem, params, x + a * p, lower, upper)
        taken = over & (a > 0) & jnp.any(x_new != x)
        step, x_new = tree.where(taken, step, into), jnp.where(taken, x_new, x)
        f = jnp.where(taken, jnp.where(from_last, line.last.value, line.safe.value), info.value)
        new = tree.where(taken, tree.where(from_last, last, safe), here)

        # Is it over?
        optimality, unheard = projected_gradient(x_new, new.grad, lower, upper), ftol_ * jnp.abs(f)
        decrease, predicted, moved = info.value - f, -a * line.start.slope, x_new - x
        unfelt = taken & (count > 0) & (decrease <= unheard) & (predicted <= unheard)
        unfelt &= ~pending(given, optimality, info.optimality)
        gone = taken & spent(run, x_new, f, moved, decrease)
        run_ = onward(run, optimality, taken, unfelt | gone)
        failed = over & ~taken
        small = (optimality <= bound(run_, gtol_, given)) | (running & close)
        _, quarter = move(problem, problem.unravel(x_new), x_new + 0.25 * moved, lower, upper)
        still = (taken & jnp.all(quarter == x_new)) | (gone & (run_.idle >= IDLE))
        good = small | still | flat(run_, x_new, moved, unfelt) | (failed & lost & short(run, x, trial, 0.5))
        way = downhill(x_new, new.grad, lower, upper)
        falls = bottomless | (good & carried_off(run_, x_new, f, -way))
        falls |= taken & ~good & endless(run_, x_new, f, moved, here.grad, new.grad)
        code = first_true(
            [~running, falls, small, still, good, failed & (memory.stored == 0)],
            [
                info.status.code, Code.UNBOUNDED, Code.GRADIENT_SMALL, Code.STEP_SMALL, Code.DECREASE_SMALL,
                Code.SEARCH_FAILED,
            ],
            Code.RUNNING,
        )  # fmt: skip

        # Where to look next
        def turn() -> tuple[Array, Memory, Array]:
            before = memory._replace(stored=jnp.where(taken, memory.stored, 0))
            after = remember(before, x_new - x, new.grad - here.grad)
            p = direction(after, x_new, new.grad, lower, upper)
            down = (after.stored > 0) & (new.grad @ p < 0)
            p = jnp.where(down, p, cautious(x_new, new.grad, lower, upper))
            left_out = taken & (after.stored == before.stored)
            return p, after._replace(stored=jnp.where(down, after.stored, 0)), skipped + left_out.astype(jnp.int32)

        p, after, skipped = jax.lax.cond(over, turn, lambda: (p, memory, skipped))
        emptied = (memory.stored > 0) & (after.stored == 0)
        # what never met an interval goes on from where it stopped
        guess = jnp.where(taken & line.outward, jnp.maximum(1.0, length(moved) / or_one(length(p))), jnp.ones_like(f))
        fresh = search.start(f, new.grad @ p, guess)
        evaluations = info.evaluations._replace(
            function=next_count(info.evaluations.function), gradient=next_count(info.evaluations.gradient)
        )
        info = Info(f, optimality, length(x_trial - x), taken, evaluations, Status(code))
        step = jax.tree.map(lambda s: jnp.where(running, s, jnp.zeros_like(s)), step)
        return step, LBFGSBState(
            next_count(count), new, p, tree.where(over, fresh, line), tree.where(over, new, safe), after, skipped,
            restarts + emptied.astype(jnp.int32), run_, info,
        )  # fmt: skip

    return transform(name, init, update, needs_params=True, state_type=LBFGSBState, solver=True)


def length(x: Array) -> Array:
    """|x|, with derivative 0 at 0."""
    norm: Array = safe_sqrt(x @ x)
    return norm


# ---- the box ------------------------------------------------------------------------------------------------


def projected_gradient(x: Array, g: Array, lower: Array, upper: Array) -> Array:
    """max|P(x - g) - x|: 0 at a solution."""
    return jnp.max(jnp.abs(downhill(x, g, lower, upper)), initial=0.0)


def downhill(x: Array, g: Array, lower: Array, upper: Array) -> Array:
    """P(x - g) - x, which is not lost in the rounding of a large x."""
    return jnp.clip(-g, lower - x, upper - x)


def longest(x: Array, p: Array, lower: Array, upper: Array) -> Array:
    """The largest a with x + a p in the box, 1 at least; what moves by its rounding only does not count."""
    moves = jnp.abs(p) > 8 * np.finfo(x.dtype).eps * jnp.abs(x)
    room = jnp.where(p < 0, lower - x, upper - x) / jnp.where(moves, p, 1)
    return jnp.maximum(jnp.min(jnp.where(moves, room, jnp.inf), initial=jnp.inf), 1.0)


def cautious(x: Array, g: Array, lower: Array, upper: Array) -> Array:
    """P(x - g / theta) - x, of length 1 at most: the direction without a memory."""
    free = jnp.where(g < 0, x < upper, x > lower)
    theta = jnp.maximum(length(jnp.where(free, g, 0)), 1.0)
    return jnp.clip(-g / theta, lower - x, upper - x)


# ---- the model ----------------------------------------------------------------------------------------------


def remember(memory: Memory, s: Array, y: Array) -> Memory:
    """The memory with the pair (s, y), if its curvature is positive beyond rounding."""
    S, Y, stored = memory
    least = max(CURVATURE, float(np.finfo(s.dtype).eps))
    curved = s @ y > least * length(s) * length(y)
    scale = jnp.sqrt(jnp.where(curved, s @ y, 1))
    row = stored % np.int32(len(S))
    S, Y = (
        jax.lax.dynamic_update_index_in_dim(
            M, jnp.where(curved, new / scale, jax.lax.dynamic_index_in_dim(M, row, 0, False)), row, 0
        )
        for M, new in ((S, s), (Y, y))
    )
    return Memory(S, Y, stored + curved.astype(jnp.int32))


def direction(memory: Memory, x: Array, g: Array, lower: Array, upper: Array) -> Array:
    """p = P(x_s) - x, from the model's minimizer x_s over the variables that the Cauchy point x_c leaves free.

    If that points uphill, p leads to the last point of the box on the way from x_c to x_s.

    B in the compact form of Byrd, Nocedal & Schnabel 1994, doi:10.1007/BF01582063, equation 3.5, with s'y = 1 and
    the pairs over sqrt(1/theta) and sqrt(theta); of S Y', rows and columns by age, L is what is below the diagonal:

    B / theta = I - [Y; S]' [-I L'; L S S']^-1 [Y; S]
    """
    S, Y, stored = memory
    rows = jnp.arange(len(S), dtype=jnp.int32)
    there = rows < stored
    newest = Y[(stored - 1) % np.int32(len(S))]
    theta = jnp.where(stored > 0, newest @ newest, 1)
    S = jnp.where(there[:, None], S * jnp.sqrt(theta), 0)
    Y = jnp.where(there[:, None], Y / jnp.sqrt(theta), 0)
    age = (rows - stored) % np.int32(len(S))  # the larger, the newer
    below, blank, h = age[:, None] > age[None], jnp.diag(jnp.where(there, 0, 1).astype(S.dtype)), g / theta

    V, e = factors(S, Y, below, blank)
    x_c = cauchy_point(V, e, x, h, lower, upper)
    free = (x_c > lower) & (x_c < upper)
    fixed = jnp.where(free, 0, x_c - x)
    z = subspace_step(S, Y, below, blank, free, h + (e * (V @ fixed)) @ V)
    x_s = jnp.where(free, x + z, x_c)

    d = x_s - x_c
    room = jnp.where(d < 0, lower - x_c, upper - x_c) / jnp.where(d != 0, d, 1)
    a = jnp.minimum(jnp.min(jnp.where(d != 0, room, jnp.inf), initial=jnp.inf), 1.0)
    clipped, pulled = (jnp.clip(to, lower, upper) - x for to in (x_s, x_c + a * d))
    return jnp.where(g @ clipped < 0, clipped, pulled)


def factors(S: Array, Y: Array, below: Array, blank: Array) -> tuple[Array, Array]:
    """V float[2m,n] and e float[2m], the diagonal of E: B / theta = I + V'EV.

    V = [Y; J^-1 (S + L Y)]    E = diag(I, -I)    J J' = S S' + L L', with a rounding error's worth more on the diagonal
    """
    L = jnp.where(below, S @ Y.T, 0)
    M = S @ S.T + L @ L.T
    M = M * (1 + 10 * len(S) * float(np.finfo(S.dtype).eps) * jnp.eye(len(S), dtype=S.dtype)) + blank
    J = jnp.linalg.cholesky(M)
    V = jnp.concatenate([Y, jax.scipy.linalg.solve_triangular(J, S + L @ Y, lower=True)])
    return V, jnp.repeat(jnp.array([1, -1], S.dtype), len(S))


def subspace_step(S: Array, Y: Array, below: Array, blank: Array, free: Array, r: Array) -> Array:
    """-(B_FF / theta)^-1 r_F for the free variables F; A are the others. Byrd, Lu, Nocedal & Zhu 1995, section 5.1.

    (B_FF / theta)^-1 = I + W' K^-1 W,  W = [Y_F; S_F]    T: S_F Y_F' on and above its diagonal, -S_A Y_A' below
    K = [-I - Y_F Y_F', -T'; -T, S_A S_A'], which loses no digits of B's small eigenvalues; B itself does
    """
    SF, YF = jnp.where(free[None], S, 0), jnp.where(free[None], Y, 0)
    SA, YA, r = S - SF, Y - YF, jnp.where(free, r, 0)
    T = jnp.where(below, -SA @ YA.T, SF @ YF.T)
    K = jnp.block([[-jnp.eye(len(S), dtype=S.dtype) - YF @ YF.T, -T.T], [-T, SA @ SA.T + blank]])
    W = jnp.concatenate([YF, SF])
    step: Array = -(r + jnp.linalg.solve(K, W @ r) @ W)
    return step


def cauchy_point(V: Array, e: Array, x: Array, h: Array, lower: Array, upper: Array) -> Array:
    """The first local minimizer of q on the path P(x - t h), h = g / theta. Byrd, Lu, Nocedal & Zhu 1995, section 4.

    Element i stops at t_i. On each piece of the path between two t_i,

    d = -h, 0 where stopped    z = P(x - t h) - x     q'  / theta = -|d|**2 + t |d|**2 + (V d)'E(V z)
                                                      q'' / theta = |d|**2 + (V d)'E(V d)

    for all pieces at once, by cumulative sums over the elements in the order of t_i.
    """
    t = jnp.where(h != 0, (x - jnp.where(h < 0, upper, lower)) / jnp.where(h != 0, h, 1), jnp.inf)
    order = jnp.argsort(t)
    ts, hs, Vs = t[order], h[order], V[:, order]
    zero, column = jnp.zeros(1, x.dtype), jnp.zeros((len(V), 1), x.dtype)
    moving = jax.lax.cumsum(jnp.concatenate([hs[None], Vs]) * hs[None], axis=1, reverse=True)
    stopped = jnp.cumsum(Vs * jnp.where(jnp.isfinite(ts), -ts * hs, 0)[None], 1)
    begin, end = jnp.concatenate([zero, ts]), jnp.append(ts, jnp.inf)  # of each piece
    empty = ~(begin < end)
    begin = jnp.where(jnp.isfinite(begin), begin, 0)
    d2, Vd = jnp.append(moving[0], zero), jnp.concatenate([-moving[1:], column], 1)
    Vz = jnp.concatenate([column, stopped], 1) + begin[None] * Vd
    slope = (begin - 1) * d2 + e @ (Vd * Vz)
    curvature = jnp.maximum(d2 + e @ (Vd * Vd), float(np.finfo(x.dtype).eps) * d2)
    ahead = jnp.where(slope < 0, -slope / jnp.where(curvature > 0, curvature, 1), 0)
    piece = jnp.argmax(~empty & (begin + ahead <= end))
    least = begin[piece] + ahead[piece]
    point: Array = jnp.where(t <= least, jnp.where(h < 0, upper, lower), jnp.clip(x - least * h, lower, upper))
    return point
