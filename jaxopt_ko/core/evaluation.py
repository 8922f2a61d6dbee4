"""Parameters to evaluate at, where these are not the ones that are trained: found by the class of a state.

A state that keeps an average is declared with `keeps_average`; `eval_params` then finds it wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_count, structure_mismatch
from jaxopt_ko.errors import StateError, describe, say
from jaxopt_ko.types import Params, PyTree, SplitRealAndImaginaryArrays, State

StateClass = TypeVar("StateClass", bound=type)
At = Callable[[Any, Array, Array], Array]


class _Average(NamedTuple):
    """How a state keeps an average."""

    field: str  # what it keeps: a tree like the params, with nothing where a masked transformation sees nothing
    scalar: str  # a field that is one number, unless the state was made under vmap
    at: At  # (state, p, kept) -> where to evaluate, of one leaf, all in float32 at least
    leading: bool = False  # does what is kept have one axis more, in front?


_AVERAGES: dict[type, _Average] = {}


def keeps_average(field: str, at: At, scalar: str, leading: bool = False) -> Callable[[StateClass], StateClass]:
    """A decorator for the class of a state that keeps, in a tree like the params, what it takes to evaluate better.

    field, scalar: the names of that tree and of a number beside it.
    at(state, p, kept) -> the average, of one leaf, in float32 at least.
    leading: the tree's leaves have one axis more than the params, in front.
    """

    def declared(kind: StateClass) -> StateClass:
        _AVERAGES[kind] = _Average(field, scalar, at, leading)
        return kind

    return declared


def eval_params(state: State, params: Params) -> Params:
    """The parameters to evaluate at, by whatever average the optimizer keeps.

    state: of an optimizer with `average_params`, `schedule_free`, `generalized_primal_averaging` or `ema_nesterov`
        somewhere in it: in a chain, in groups (masked, partition, selective_transform), inside of wrappers.
    params: those being trained, as they are after the step that made the state. Leaves that no average owns, frozen
        ones say, come back as they are; several averages may own different leaves.

    Returns a tree like params, in its dtypes; computed in float32 at least.
    Raises StateError if the state holds no average, two of one leaf, or one of another shape: for one of two pass the
    part of the state that is meant, or call its own function (`averaged_params`, `schedule_free_eval_params`, …).
    Behind `lookahead` pass params.fast.

    >>> opt = jo.chain(jo.sgd(0.5), jo.average_params(0.5))
    >>> params = jnp.array([1.0])
    >>> updates, state = opt.update(jnp.array([1.0]), opt.init(params), params)
    >>> jo.eval_params(state, jo.apply_updates(params, updates)).shape
    (1,)
    """
    return evaluated("eval_params", state, params, tuple(_AVERAGES))


def evaluated(name: str, state: State, params: Params, kinds: tuple[type, ...]) -> Params:
    """`eval_params` by averages in states of these classes alone."""
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, kinds))
    found = [node for node in nodes if isinstance(node, kinds)]
    _check_averages(name, found, kinds)
    leaves, treedef = tree.flatten(params, none_is_leaf=True)
    owners: dict[int, State] = {}
    for own in found:
        for index, value in _values(name, own, params):
            if index in owners:
                _two_averages(name, errors.path_of(params, index, none_is_leaf=True), owners[index], own)
            owners[index], leaves[index] = own, value
    return treedef.unflatten(leaves)


def _check_averages(name: str, found: Sequence[Any], kinds: Iterable[type]) -> None:
    """Of the states that keep an average there must be one."""
    if not found:
        say(StateError, name, f"the state must hold one {' or '.join(kind.__name__ for kind in kinds)}", "none of them",
            "Pass the state of the optimizer, or the part of it that is meant")  # fmt: skip


def _two_averages(name: str, path: str, first: Any, second: Any) -> NoReturn:
    """A leaf with an average in two states."""
    say(StateError, name, f"the state must hold one average of the leaf {path}",
        f"{describe(first)} and {describe(second)}",
        "Pass the part of the state that is meant, or call the function that is for one of them alone")  # fmt: skip


def _values(name: str, own: State, params: Params) -> Iterator[tuple[int, Array]]:
    """(number of the leaf, its average) of the leaves that a state owns."""
    average = _AVERAGES[type(own)]
    check_count(name, getattr(own, average.scalar))
    kept = getattr(own, average.field)
    leaves, treedef = tree.flatten(params, none_is_leaf=True)

    def at(path: Callable[[], str], p: Any, s: Any) -> Any:
        if isinstance(s, SplitRealAndImaginaryArrays):
            parts = (jnp.real(p), jnp.imag(p))
            return jax.lax.complex(*(at(path, *both) for both in zip(parts, s, strict=True)))
        if np.shape(s)[average.leading :] != np.shape(p):
            _average_shape(name, path(), p, s)
        wide = tree.compute_dtype(tree.dtype_of(p), tree.dtype_of(s))
        return average.at(own, jnp.asarray(p).astype(wide), s.astype(wide)).astype(tree.dtype_of(p))

    if _is_vector(kept, params):
        vector, unravel = tree.ravel_leaves(params)
        yield from enumerate(tree.flatten(unravel(at(lambda: "(all)", vector, kept)), none_is_leaf=True)[0])
        return
    for index, (p, s) in enumerate(zip(leaves, _in_order(name, kept, params, treedef), strict=True)):
        if not tree.is_left_out(s):
            yield index, at(lambda i=index: errors.path_of(params, i, none_is_leaf=True), p, s)  # type: ignore[misc]


def _average_shape(name: str, path: str, leaf: Any, average: Any) -> NoReturn:
    """An average of something else than this leaf."""
    say(StateError, name, f"the average of the leaf {path} must have the leaf's shape {np.shape(leaf)}",
        describe(average), "Pass parameters like those of the state; both made under jax.vmap are evaluated under it. "
        "For what `route` shows as stacks of matrices, opt.eval_params(state, params)")  # fmt: skip


def _in_order(name: str, kept: PyTree, params: Params, treedef: Any) -> Iterable[Any]:
    try:
        return treedef.flatten_up_to(kept)  # type: ignore[no-any-return]
    except ValueError:
        structure_mismatch(name, "params", params, "average in the state", kept)


def _is_vector(kept: PyTree, params: Params) -> bool:
    """All parameters as one vector, as `flatten` shows them?"""
    leaves = jax.tree.leaves(params)
    return (
        jax.tree_util.treedef_is_leaf(tree.structure(kept))
        and np.ndim(kept) == 1
        and not (jax.tree_util.treedef_is_leaf(tree.structure(params)) and np.shape(params) == np.shape(kept))
        and all(map(tree.is_floating, leaves))
        and tree.size(params) == np.size(kept)
    )
