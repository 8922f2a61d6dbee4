"""Transformations from a rule for a stack of matrices: checks, stacking and intervals, once.

`matrixwise` is to matrices what `leafwise` is to arrays. Leaves of one shape are one stack, and the rule is
called once for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import placement, stacking, tree
from jaxopt_ko.core.checks import shape_mismatch
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leaf_rule import Memory, initial_scalar, widen_scalar
from jaxopt_ko.core.numerics import zero_count
from jaxopt_ko.core.shared_programs import KeyedFunction, shared_by_key
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import Domain
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, PyTree, State, Updates


def matrixwise(
    name: str,
    state_type: type,
    *,
    init: Callable[[tuple[int, int], DType], Memory],
    rule: Callable[..., Any],
    hypers: Mapping[str, tuple[Hyper, Domain]] | None = None,
    scalars: Mapping[str, float] | None = None,
    shared: Callable[[jax.Array, Scalars], Mapping[str, jax.Array]] | None = None,
    refresh: Callable[..., Memory] | None = None,
    interval: tuple[str, int] = ("interval", 1),
    lag: int = 0,
    stack_axes: PyTree = 0,
    dtypes: Mapping[str, DType | None] | None = None,
    debiased: Sequence[str] = (),
    skipped: int = 0,
    needs_params: bool = False,
    real: bool = True,
) -> GradientTransformation:
    """A transformation from a rule for stacks of matrices.

    state_type: a NamedTuple of `count`, the scalars and one tree like the parameters for each array of memory.
    init((m, n), dtype) -> memory of one matrix, dtype float32 at least; a leaf's has its stack axes in front.
    rule(G, W, *memory, h) -> (step, *memory) of N matrices of one shape, G and W float[N, m, n]. W is None unless
        `needs_params`.
    refresh(G, W, *memory, h) -> memory: what is done before the rule on the first step and then on every k-th, `lag`
        steps later, and costs nothing between. Stacks take turns, so that no step does all.
    interval: (what the method calls k, k).
        Where `shared` makes a float[] `every`, the steps from one to the next, in the place of k, and the state has the
        scalar `since`, int32[], which is 0 whenever it is the first stack's turn, the others follow within that time.
    hypers, scalars, shared, dtypes, debiased, skipped: as of `leafwise`; `shared` may make keys, too.
    stack_axes: how many leading axes of a leaf are stacks; an integer, or a prefix of integers.
    real: complex matrices are refused.

    Raises, when made: HyperparameterError. When traced: TreeError for a leaf that is no matrix; what `transform` says.
    """
    for key, dtype in (dtypes or {}).items():
        errors.check_dtype(name, key, dtype)
    period = errors.check_steps(name, *interval)
    held = dict(scalars or {})
    once = _compiled(KeyedFunction(rule), None if refresh is None else KeyedFunction(refresh))

    def initial(params: Params) -> State:
        leaves, treedef = tree.flatten(params)
        counts = stacking.count_stack_axes(name, params, stack_axes)
        memory = [_initial(init, leaf, count) for leaf, count in zip(leaves, counts, strict=True)]
        start = [initial_scalar(value) for value in held.values()]
        width = len(state_type._fields) - 1 - len(held)  # type: ignore[attr-defined]
        return state_type(zero_count(), *start, *(treedef.unflatten([own[i] for own in memory]) for i in range(width)))

    def update(updates: Updates, state: State, params: Params = None, *, h: Scalars) -> tuple[Updates, State]:
        count, old, fields = state[0], state[1 : 1 + len(held)], state[1 + len(held) :]
        once_a_step = h.also(**{key: widen_scalar(value) for key, value in zip(held, old, strict=True)})
        values = once_a_step.values() | ({} if shared is None else dict(shared(h.t, once_a_step)))
        new = [values[key].astype(value.dtype) for key, value in zip(held, old, strict=True)]
        every = values.pop("every", None)
        leaves, treedef = tree.flatten(updates, none_is_leaf=True)
        columns = [tree.in_order(name, "state", field, updates, treedef) for field in fields]
        trees = [leaves, *([tree.in_order(name, "params", params, updates, treedef)] if needs_params else ())]
        stacks = _stacks(name, updates, leaves, columns, init, stack_axes)

        def on_stack(turn: int, first: Any, count: jax.Array, every: Any, values: Any, G: jax.Array, *rest: Any) -> Any:
            if every is None:
                due = _is_due(count, lag + turn * period // len(stacks), period)
            else:
                due = values["since"] == jnp.floor(turn / len(stacks) * every).astype(values["since"].dtype)
            own = values | ({} if first is None else {"part_start": first})
            W, memory = (rest[0], rest[1:]) if needs_params else (None, rest)
            return once(G, W, memory, own, due)

        made = stacking.in_turns(on_stack, stacks, trees, columns, (count, every, values), live=count >= 0)
        steps, *memory = map(treedef.unflatten, stacking.replaced([leaves, *columns], made))
        return steps, state_type(h.t, *new, *memory)

    return transform(
        name, initial, update, needs_params=needs_params, state_type=state_type, hypers=hypers or {},
        debiased=debiased, skipped=skipped, real=real,
    )  # fmt: skip


def _is_due(count: jax.Array, turn: int, period: int) -> jax.Array:
    """bool[]: on the first step, and whenever this turn of the period has come."""
    late = count - np.int32(turn)
    return (count == 0) | (late > 0) & (late % np.int32(period) == 0)


def _initial(init: Callable[..., Memory], leaf: Any, stacks: int) -> Memory:
    shape = np.shape(leaf)
    memory = init(shape[stacks:], tree.compute_dtype(tree.dtype_of(leaf)))
    full = [jnp.broadcast_to(x, shape[:stacks] + x.shape) for x in memory]
    return tuple(
        tree.full_like(leaf, 0, x.dtype) + x if x.shape == shape else placement.placed_beside(x, leaf) for x in full
    )


def _stacks(
    name: str, updates: Updates, leaves: list[Any], columns: list[list[Any]], init: Callable[..., Memory],
    stack_axes: PyTree,
) -> list[stacking.Stack]:  # fmt: skip
    """Of leaves of one shape and dtype. Raises TreeError where the memory was made for another leaf."""
    counts = iter(stacking.count_stack_axes(name, updates, stack_axes))
    axes: list[stacking.MatrixAxes | None] = [None] * len(leaves)
    for i, g in enumerate(leaves):
        stack = 0 if g is None else next(counts)
        if g is None or not np.size(g):
            continue
        shape, axes[i] = np.shape(g), stacking.trailing(np.ndim(g))
        fits = [shape[:stack] + x.shape for x in _shapes(init, shape[stack:], tree.compute_dtype(tree.dtype_of(g)))]
        got = [np.shape(column[i]) for column in columns]
        if got != fits:
            path = errors.path_of(updates, i, none_is_leaf=True)
            shape_mismatch(name, "gradients", path, g, "state", got[0])
    return stacking.stacks_of(leaves, axes, [None if g is None else tree.dtype_of(g) for g in leaves])


def _shapes(init: Callable[..., Memory], shape: tuple[int, int], dtype: DType) -> Memory:
    made: Memory = jax.eval_shape(lambda: init(shape, dtype))
    return made


@shared_by_key
def _compiled(rule: KeyedFunction, refresh: KeyedFunction | None) -> Callable[..., Any]:
    """The rule on one stack, jitted: computed in float32 at least, the step in the gradient's dtype."""

    @jax.jit
    def on_stack(
        G: jax.Array, W: jax.Array | None, memory: Memory, scalars: Mapping[str, jax.Array], due: jax.Array
    ) -> tuple[jax.Array, *Memory]:
        wide = tree.compute_dtype(G.dtype, *(x.dtype for x in memory))

        def widen(x: jax.Array) -> jax.Array:
            return x.astype(wide) if jnp.issubdtype(x.dtype, jnp.floating) else x

        h = Scalars(**{key: widen(value) for key, value in scalars.items()})
        g, w, made = widen(G), None if W is None else widen(W), [widen(x) for x in memory]
        if refresh is not None:
            made = jax.lax.cond(due, lambda *m: list(refresh.function(g, w, *m, h)), lambda *m: list(m), *made)
        step, *new = rule.function(g, w, *made, h)
        return step.astype(G.dtype), *(x.astype(old.dtype) for x, old in zip(new, memory, strict=True))

    return on_stack
