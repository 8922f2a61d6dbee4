"""Many problems through few lanes: a lane whose problem is solved takes the next one that waits.

Under `vmap` a loop runs until its slowest lane ends, and each pass computes all lanes. Here it stops when a part of the
lanes is done, their solutions are stored, and as many problems that wait take their places; when none waits, what is
left goes into fewer lanes. All of it is one program, so it may stand within another `jit`.

passes x lanes is the work; beside what the problems take it has
    the lanes that are done and not yet filled     half of REFILL, as a part of all
    the lanes that run empty when none waits       few, if there are many more problems than lanes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.drivers.run import LoopCarry, RunStart, solution_of
from jaxopt_ko.errors import check_size
from jaxopt_ko.types import Code, Params, PyTree, Solution, State

REFILL = 8  # lanes are filled anew when that part of all is done
PROBLEMS_PER_LANE = 32  # by default, for then those that run empty at the end count for little
LEAST, MOST = 64, 8192  # lanes by default
SHRINK = 8  # lanes are so many times fewer at the end, where there are fewer problems for each and that pays:
WIDE = 512  # from as many lanes on
ROWS = 16  # of the table that is printed


class Work(NamedTuple):
    """What problems are, and how one is solved."""

    begin: Callable[[PyTree], tuple[Params, RunStart]]  # of one problem: its start, and the method's first state
    again: Callable[[PyTree, Params, State], RunStart]  # the same method and words, with this state and no evaluation
    keep_state: bool  # is the state of each one's end asked for?
    report: Callable[..., None] | None  # called with counts of passes, problems that wait and lanes that run
    prepare: Callable[[list[Array]], list[Array]] = list  # what a lane keeps of its problem: all of it


class Lanes(NamedTuple):
    """The problems that are being solved; each array has a leading axis of lanes."""

    number: Array  # int32[B]  which problem, n for none
    task: list[Array]  # what is kept of each one's arrays
    at: LoopCarry  # where its run stands


class Pool(NamedTuple):
    """What the loop hands on."""

    lanes: Lanes
    found: Solution  # each array with a leading axis of problems
    waits: Array  # int32[]   the number of the first problem that waits
    passes: Array  # int32[]  updates of all lanes so far


def lanes_for(problems: int) -> int:
    """How many lanes by default: a power of two, or all problems if those are fewer."""
    wanted = min(max(problems // PROBLEMS_PER_LANE, LEAST), MOST)
    return min(problems, 1 << (wanted.bit_length() - 1))


def lane_count(name: str, problems: int, batch_size: Any, devices: int) -> int:
    """Lanes on each device: by default, or a part of batch_size."""
    share = -(-problems // devices)
    if batch_size is None:
        return lanes_for(share)
    return min(share, -(-check_size(name, "batch_size", batch_size) // devices))


def pooled(
    work: Work, own: list[Array], rebuild: Callable[[list[Array]], PyTree], lanes: int, max_steps: Any
) -> tuple[Solution, Array]:
    """The solutions of n problems, stacked, and the number of lane-updates that they took, float32[].

    own: what each problem has of its own, arrays with a leading axis of n; rebuild: what a lane keeps of one -> the
    problem.
    """
    n = own[0].shape[0]
    most = jnp.asarray(max_steps, jnp.int32)
    fresh = max(1, lanes // REFILL)
    few = lanes // SHRINK if lanes >= WIDE and n < PROBLEMS_PER_LANE * lanes else 0

    def runs(lanes: Lanes) -> Array:
        state = lanes.at.state
        running: Array = (state.info.status.code == np.int32(Code.RUNNING)) & (state.count < most) & (lanes.number < n)
        return running

    def filled(number: Array) -> Lanes:
        """Lanes for these problems, at their starts."""
        task = jax.vmap(work.prepare)([x[jnp.minimum(number, n - 1)] for x in own])

        def begun(task: list[Array]) -> LoopCarry:
            params, start = work.begin(rebuild(task))
            return LoopCarry(params, start.state)

        return Lanes(jnp.where(number < n, number, n), task, jax.vmap(begun)(task))

    def step(task: list[Array], at: LoopCarry) -> LoopCarry:
        method, state, extra_args = work.again(rebuild(task), *at)
        updates, state = method.update(jax.tree.map(jnp.zeros_like, at.params), state, at.params, **extra_args)
        return LoopCarry(apply_updates(at.params, updates), state)

    def advanced(lanes: Lanes, passes: Array, left: Any) -> tuple[Lanes, Array]:
        """Until no more than `left` lanes run."""

        def select(on: Array, new: LoopCarry, old: LoopCarry) -> LoopCarry:
            chosen: LoopCarry = tree.where(on, new, old)
            return chosen

        def go(carry: tuple[LoopCarry, Array, Array]) -> tuple[LoopCarry, Array, Array]:
            at, running, passes = carry
            at = jax.vmap(select)(running, jax.vmap(step)(lanes.task, at), at)
            return at, runs(lanes._replace(at=at)), passes + np.int32(1)

        first = (lanes.at, runs(lanes), passes)
        at, _, passes = jax.lax.while_loop(lambda carry: jnp.sum(carry[1], dtype=jnp.int32) > left, go, first)
        return lanes._replace(at=at), passes

    def ended(at: LoopCarry) -> Solution:
        return _ended(at, work.keep_state)

    def stored(found: Solution, lanes: Lanes) -> Solution:
        return _put(found, lanes.number, ended(lanes.at))

    def goes_on(pool: Pool) -> Array:
        on: Array = (pool.waits < n) | (jnp.sum(runs(pool.lanes), dtype=jnp.int32) > few)
        return on

    def refilled(pool: Pool) -> Pool:
        """After as many passes as it takes for some lanes to be done: those lanes with problems that wait."""
        left = jnp.where(pool.waits < n, np.int32(lanes - fresh), np.int32(few))
        at, passes = advanced(pool.lanes, pool.passes, left)
        if work.report is not None:
            _tell(work.report, n, fresh, pool.waits, passes, jnp.sum(runs(at), dtype=jnp.int32))
        out = _first(~runs(at), fresh)
        found = stored(pool.found, jax.tree.map(lambda x: x[out], at))
        new = filled(pool.waits + jnp.arange(fresh, dtype=jnp.int32))
        at = jax.tree.map(lambda x, y: x.at[out].set(y), at, new)
        return Pool(at, found, jnp.minimum(pool.waits + np.int32(fresh), np.int32(n)), passes)

    passes = jnp.zeros((), jnp.int32)
    if n > lanes:
        blank = _like(jax.eval_shape(filled, tree.abstract((1,), jnp.int32)))
        blank = blank._replace(number=jnp.full(1, n, jnp.int32))
        first = jax.tree.map(lambda x: jnp.repeat(x, lanes, axis=0), blank)
        found = jax.tree.map(lambda x: jnp.repeat(x, n, axis=0), ended(blank.at))
        at, found, _, passes = jax.lax.while_loop(goes_on, refilled, Pool(first, found, passes, passes))
    else:
        first = filled(jnp.arange(lanes, dtype=jnp.int32))
        found = ended(first.at)
        at, passes = advanced(first, passes, np.int32(few))
    found, wide = stored(found, at), passes
    if few:
        rest = jax.tree.map(lambda x: x[_first(runs(at), few)], at)
        rest, passes = advanced(rest, passes, np.int32(0))
        found = stored(found, rest)
    return found, wide.astype(jnp.float32) * lanes + (passes - wide).astype(jnp.float32) * few


def _tell(report: Callable[..., None], n: int, fresh: int, waits: Array, passes: Array, running: Array) -> None:
    """A row of the table whenever another part of the problems has begun."""
    part = max(1, n // ROWS)
    another = (waits // part > jnp.maximum(waits - fresh, 0) // part) | (waits == n)
    jax.lax.cond(another, report, lambda *_: None, passes, n - waits, running)


def _ended(at: LoopCarry, keep_state: bool) -> Solution:
    """What the lanes' last states say, stacked."""
    solution: Solution = jax.vmap(solution_of)(at)
    return solution if keep_state else solution._replace(state=None)


def _put(whole: Solution, at: Array, rows: Solution) -> Solution:
    """With these rows instead; those beyond the last are dropped."""
    new: Solution = jax.tree.map(lambda x, row: x.at[at].set(row, mode="drop"), whole, rows)
    return new


def _first(wanted: Array, count: int) -> Array:
    """int32[count]: the lanes that are wanted, and if there are fewer, others behind them."""
    order = jnp.argsort(~wanted, stable=True)
    return order[:count].astype(jnp.int32)


def _like(shapes: PyTree) -> Any:
    """Arrays of zeros, and some PRNG key or other, of these shapes and dtypes."""

    def leaf(x: Any) -> Any:
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jnp.zeros(x.shape, x.dtype)
        kinds: list[Any] = []  # told of a traced key alone

        def bits(key: Array) -> Array:
            kinds.append(jax.random.key_impl(key))
            return jax.random.key_data(key)

        data = jax.eval_shape(bits, x)
        return jax.random.wrap_key_data(jnp.zeros(data.shape, data.dtype), impl=kinds[0])

    return jax.tree.map(leaf, shapes)
