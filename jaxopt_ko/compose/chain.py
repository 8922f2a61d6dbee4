"""Transformations in a row, and steps added to the parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import numerics, placement, tree
from jaxopt_ko.core.checks import check_room, check_state_keys, check_state_tuple, shape_mismatch, structure_mismatch
from jaxopt_ko.core.leafwise import LeafUpdate
from jaxopt_ko.core.method import Method, Update, filter_kwargs, make_transformation, method_of, name_of
from jaxopt_ko.errors import TransformationError, describe, say
from jaxopt_ko.types import GradientTransformation, GradientTransformationExtraArgs, Params, State, Updates


def chain(*args: GradientTransformation) -> GradientTransformation:
    """One transformation after the other: the updates of each are what the next one gets.

    u_0 = g;   u_i = the step of the i-th for u_{i-1};   the step of the chain is the last one

    args: the transformations, (init, update) pairs of ours or optax's, in the order in which they run; with none it is
        the identity.

    State: the tuple of their states, in that order, as in optax. Extra arguments of update go to all that take them,
    foreign pairs included.

    Raises TransformationError if an argument is no (init, update) pair, or if steps that lead exactly to numbers of 16
    bits (`stochastic_rounding`) would be changed by what comes after; in update StateError for a state of another
    chain. Source: optax's chain, Hessel et al. 2020. Not for another transformation for each group of leaves:
    `partition`.

    >>> tx = jo.chain(jo.clip_by_global_norm(1.0), jo.adam(1e-3))
    >>> params = {"w": jnp.ones(3)}
    >>> state = tx.init(params)
    >>> updates, state = tx.update({"w": jnp.ones(3)}, state, params)
    """
    pairs = [errors.check_pair("chain", f"argument {i}", pair, lands=True) for i, pair in enumerate(args)]
    names = [name_of(pair) for pair in pairs]
    method = _method_of_row(f"chain({', '.join(names)})", [method_of(pair) for pair in pairs])
    inits = [filter_kwargs(pair.init, 1) for pair in pairs]

    def init(params: Params, **problem: Any) -> tuple[State, ...]:
        return tuple(init_(params, **problem) for init_ in inits)

    runs = _runs([pair.update for pair in pairs])
    if len(runs) <= 1 and all(isinstance(pair.update, LeafUpdate) for pair in pairs):
        return GradientTransformationExtraArgs(init, LeafUpdate(method, runs[0] if runs else []))
    stages = [(len(run), run[0] if len(run) == 1 else LeafUpdate(method, run)) for run in runs]
    return GradientTransformationExtraArgs(init, ChainUpdate(method, stages, names))


def _method_of_row(name: str, methods: Sequence[Method]) -> Method:
    """The record of a chain. Behind steps that land on numbers of 16 bits may stand what lets all pass."""
    lands = None
    for i, method in enumerate(methods):
        if lands is not None and not method.passes:
            landing = next(k for k, one in enumerate(methods) if one.lands is not None)
            errors.not_outermost("chain", f"argument {landing}", methods[landing].name, f"argument {i}, {method.name},")
        lands = method.lands if lands is None else lands
    return Method(name, lands=lands, passes=all(method.passes for method in methods))


class ChainUpdate(Update):
    """The update of a chain: stage after stage, each of one transformation or of several leafwise ones in a row."""

    def __init__(self, method: Method, stages: Sequence[tuple[int, Any]], names: Sequence[str]) -> None:
        self.method, self.stages, self.names = method, tuple(stages), tuple(names)

    def with_record(self, method: Method) -> ChainUpdate:
        """The same chain with another record."""
        return ChainUpdate(method, self.stages, self.names)

    def __call__(self, updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        """One step of each."""
        states = check_state_tuple(self.method.name, state, self.names)
        new: list[State] = []
        for size, stage in self.stages:
            old = tuple(states[len(new) : len(new) + size])
            updates, changed = stage(updates, old[0] if size == 1 else old, params, **extra)
            new += [changed] if size == 1 else changed
        return updates, tuple(new)


jax.tree_util.register_pytree_node(
    ChainUpdate,
    lambda chain: ((chain.method, chain.stages), chain.names),
    lambda names, parts: ChainUpdate(*parts, names),
)


def _runs(updates: Sequence[Callable[..., Any]]) -> list[list[Any]]:
    """Consecutive updates that one leafwise pass can do; a rule that looks at all leaves can only begin one."""
    runs: list[list[Any]] = []
    for update in updates:
        joins = isinstance(update, LeafUpdate) and not any(rule.reduce for rule in update.rules)
        if joins and runs and isinstance(runs[-1][0], LeafUpdate):
            runs[-1].append(update)
        else:
            runs.append([update if isinstance(update, LeafUpdate) else filter_kwargs(update, 3)])
    return runs


def named_chain(*args: tuple[str, GradientTransformation]) -> GradientTransformation:
    """A chain whose state is a dict: each transformation is found there by its name.

    args: pairs (name, transformation), in the order in which they run; each name is a string and comes once.

    State: {name: the state of its transformation}; the rest is as in `chain`.

    Raises TransformationError if an argument is no (name, transformation) pair, or a name comes twice; StateError, in
    update, for a state with other names. Source: optax's named_chain. Not for a state that `chain` has saved, whose
    layout is a tuple.

    >>> tx = jo.named_chain(("momentum", jo.trace(0.9)), ("step", jo.scale(-0.1)))
    >>> sorted(tx.init(jnp.ones(2)))
    ['momentum', 'step']
    """
    _check_named("named_chain", args)
    names = [name for name, _ in args]
    inner = chain(*(pair for _, pair in args))

    def init(params: Params, **problem: Any) -> dict[str, State]:
        return dict(zip(names, inner.init(params, **problem), strict=True))

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        check_state_keys("named_chain", state, names)
        updates, new = inner.update(updates, tuple(state[name] for name in names), params, **extra)
        return updates, dict(zip(names, new, strict=True))

    method = dataclasses.replace(method_of(inner), name=f"named_chain({', '.join(map(str, names))})")
    return make_transformation(method, init, update)


def _check_named(name: str, args: Sequence[Any]) -> None:
    """The arguments of a named chain are (name, transformation) pairs with names of their own."""
    names = []
    for i, arg in enumerate(args):
        if not (isinstance(arg, tuple) and len(arg) == 2 and isinstance(arg[0], str)):
            say(TransformationError, name, f"argument {i} must be a (name, transformation) pair", describe(arg),
                'Write named_chain(("name", transformation), ...)')  # fmt: skip
        names.append(arg[0])
        if arg[0] in names[:-1]:
            say(TransformationError, name, f"the name {arg[0]!r} comes twice", f"names {names}",
                "Give each transformation a name of its own")  # fmt: skip


def apply_updates(params: Params, updates: Updates) -> Params:
    """The parameters after a step: params + updates, added in float32 at least and kept in the parameters' dtype.

    p <- p + u, leaf by leaf

    params: the parameters, a tree of floating arrays; a counter among them is added to in its own dtype.
    updates: the steps, a tree like params, as the update of an optimizer returns them.

    Returns a tree like params. A parameter whose update is None stays as it is, and so does a PRNG key, to which
    nothing can be added; one that is None stays None, whatever its update. On a mesh a parameter stays where it is,
    however its update is cut over the devices.

    Raises TreeError if the trees differ in structure or shape, or if a complex step meets a real parameter.
    Source: optax's apply_updates. Not for bfloat16 parameters alone, where small steps are lost in rounding: put
    `stochastic_rounding` or `split_master` around the optimizer.

    >>> params = jo.apply_updates({"w": jnp.ones(2)}, {"w": jnp.array([0.5, -0.5])})
    >>> params["w"].tolist()
    [1.5, 0.5]
    """
    sparse = tree.structure(updates) != tree.structure(params)
    leaves, treedef = tree.flatten(params, none_is_leaf=sparse)
    steps, steps_treedef = tree.flatten(updates, none_is_leaf=sparse)
    if steps_treedef != treedef:
        structure_mismatch("apply_updates", "updates", updates, "params", params)
    for index, (p, u) in enumerate(zip(leaves, steps, strict=True)):
        if p is None or u is None or tree.is_float0(u):
            continue
        if np.shape(u) != np.shape(p):
            path = errors.path_of(params, index, none_is_leaf=sparse)
            shape_mismatch("apply_updates", "updates", path, u, "params", np.shape(p))
        if numerics.is_complex(tree.dtype_of(u)) and tree.is_floating(p):
            path = f"the params leaf {errors.path_of(params, index, none_is_leaf=sparse)}"
            check_room("apply_updates", path, jnp.asarray(p), u)
        if jnp.issubdtype(tree.dtype_of(p), jax.dtypes.extended):
            continue
        added = p + u if tree.dtype_of(p) == tree.dtype_of(u) == jnp.float32 else _add(p, u)
        leaves[index] = placement.placed_as(added, p)
    return treedef.unflatten(leaves)


@jax.jit
def _add(p: jax.Array, u: jax.Array) -> jax.Array:
    if not jnp.issubdtype(p.dtype, jnp.floating):
        return p + u.astype(p.dtype)  # a counter among the parameters, say: float32 has too few digits for it
    wide = tree.compute_dtype(p.dtype, u.dtype)
    return (p.astype(wide) + u.astype(wide)).astype(p.dtype)
