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
from jaxopt_ko.core import stacking, tree
from jaxopt_ko.core.checks import shape_mismatch
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, initial_scalar, widen_scalar
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
    real: bool = True,
) -> GradientTransformation:
    """A transformation from a rule for stacks of matrices.

    state_type: a NamedTuple of `count`, the scalars and one tree like the parameters for each array of memory.
    init((m, n), dtype) -> memory of one matrix, dtype float32 at least; a leaf's has its stack axes in front.
    rule(G, *memory, h) -> (step, *memory) of N matrices of one shape, G float[N, m, n].
    refresh(G, *memory, h) -> memory: what is done before the rule on the first step and then on every k-th, `lag` steps
        later, and costs nothing between. Stacks take turns, so that no step does all.
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
    period = errors.check_size(name, *interval)
    held = dict(scalars or {})
    once = _compiled(KeyedFunction(rule), None if refresh is None else KeyedFunction(refresh))

    def initial(params: Params) -> State:
        leaves, treedef = tree.flatten(params)
        counts = stacking.count_stack_axes(name, params, stack_axes)
        memory = [_initial(init, leaf, count) for leaf, count in zip(leaves, counts, strict=True)]
        start = [initial_scalar(value) for value in held.values()]
        width = len(state_type._fields) - 1 - len(held)  # type: ignore[attr-defined]
        return state_type(zero_count(), *start, *(treedef.unflatten([own[i] for own in memory]) for i in range(width)))

    def update(updates: Updates, state: State, *, h: Scalars) -> tuple[Updates, State]:
        count, old, fields = state[0], state[1 : 1 + len(held)], state[1 + len(held) :]
        once_a_step = h.also(**{key: widen_scalar(value) for key, value in zip(held, old, strict=True)})
        scalars_ = once_a_step.values() | ({} if shared is None else dict(shared(h.t, once_a_step)))
        new = [scalars_[key].astype(value.dtype) for key, value in zip(held, old, strict=True)]
        every = scalars_.pop("every", None)
        counts = stacking.count_stack_axes(name, updates, stack_axes)
        leaves, treedef = tree.flatten(updates, none_is_leaf=True)
        columns = [tree.in_order(name, "state", field, updates, treedef) for field in fields]
        given = zip((i for i, g in enumerate(leaves) if g is not None), counts, strict=True)
        full = [(i, k) for i, k in given if np.size(leaves[i])]  # what has no elements is its own step
        present, stacks = [i for i, _ in full], [k for _, k in full]
        kinds = [(leaves[i].shape[k:], tree.dtype_of(leaves[i])) for i, k in zip(present, stacks, strict=True)]
        for i, k, (shape, dtype) in zip(present, stacks, kinds, strict=True):
            fits = [leaves[i].shape[:k] + x.shape for x in _shapes(init, shape, tree.compute_dtype(dtype))]
            got = [np.shape(column[i]) for column in columns]
            if got != fits:
                path = errors.path_of(updates, i, none_is_leaf=True)
                shape_mismatch(name, "gradients", path, leaves[i], "state", got[0])
        groups = stacking.grouped(kinds)
        wheres = [[(present[j], leaves[present[j]].shape[: stacks[j]]) for j in members] for members in groups]
        at = stacking.places(wheres, count >= 0)
        for turn, where in enumerate(wheres):
            if every is None:
                late = count - np.int32(lag + turn * period // len(groups))
                due = (count == 0) | (late > 0) & (late % np.int32(period) == 0)
            else:
                since = scalars_["since"]
                due = since == jnp.floor(turn / len(groups) * every).astype(since.dtype)
            G = stacking.joined([leaves[i] for i, _ in where], where)
            memory = tuple(stacking.joined([column[i] for i, _ in where], where) for column in columns)
            step, memory = once(G, memory, scalars_, due)
            for column, stack in zip([leaves, *columns], [step, *memory], strict=True):
                for (i, _), part in zip(where, stacking.parted(stack, where, at), strict=True):
                    column[i] = part
        return treedef.unflatten(leaves), state_type(h.t, *new, *(treedef.unflatten(column) for column in columns))

    return transform(
        name,
        initial,
        update,
        state_type=state_type,
        hypers=hypers or {},
        debiased=debiased,
        skipped=skipped,
        real=real,
    )


def _initial(init: Callable[..., Memory], leaf: Any, stacks: int) -> Memory:
    shape = np.shape(leaf)
    memory = init(shape[stacks:], tree.compute_dtype(tree.dtype_of(leaf)))
    full = [jnp.broadcast_to(x, shape[:stacks] + x.shape) for x in memory]
    return tuple(
        tree.full_like(leaf, 0, x.dtype) + x if x.shape == shape else x for x in full
    )  # sharded as the leaf is


def _shapes(init: Callable[..., Memory], shape: tuple[int, int], dtype: DType) -> Memory:
    made: Memory = jax.eval_shape(lambda: init(shape, dtype))
    return made


@shared_by_key
def _compiled(rule: KeyedFunction, refresh: KeyedFunction | None) -> Callable[..., Any]:
    """The rule on one stack, jitted: computed in float32 at least, the step in the gradient's dtype."""

    @jax.jit
    def on_stack(
        G: jax.Array, memory: Memory, scalars: Mapping[str, jax.Array], due: jax.Array
    ) -> tuple[jax.Array, Memory]:
        wide = tree.compute_dtype(G.dtype, *(x.dtype for x in memory))

        def widen(x: jax.Array) -> jax.Array:
            return x.astype(wide) if jnp.issubdtype(x.dtype, jnp.floating) else x

        h, g = Scalars(**{key: widen(value) for key, value in scalars.items()}), widen(G)
        made = [widen(x) for x in memory]
        if refresh is not None:
            made = jax.lax.cond(due, lambda *m: list(refresh.function(g, *m, h)), lambda *m: list(m), *made)
        step, *new = rule.function(g, *made, h)
        return step.astype(G.dtype), tuple(x.astype(old.dtype) for x, old in zip(new, memory, strict=True))

    return on_stack
