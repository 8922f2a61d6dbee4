"""From two functions over trees to a transformation: all plumbing and every trace-time check, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_ko import errors
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.checks import check_carry, check_leaves, check_params, check_same_trees, structure_mismatch
from jaxopt_ko.core.hyperparameters import (
    HyperparameterReader,
    Scalars,
    as_made,
    as_state,
    checked,
    step_hyperparameters,
)
from jaxopt_ko.core.method import Method, filter_kwargs, make_transformation
from jaxopt_ko.core.numerics import mixing
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import Domain, TransformationError, describe, say
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, PyTree, State, Updates

# ---- from functions over trees --------------------------------------------------------------------------


@options
def transform(
    name: str,
    init: Callable[..., State],
    update: Callable[..., tuple[Updates, State]],
    *,
    needs_params: bool = False,
    state_type: type | None = None,
    hypers: Mapping[str, tuple[Hyper, Domain]] | None = None,
    own: str | None = "count",
    debiased: Sequence[str] = (),
    skipped: int = 0,
    counts: bool = False,
    solver: bool = False,
    any_leaf: bool = False,
    real: bool = False,
) -> GradientTransformation:
    """A transformation from two functions over whole trees, with the checks that a `lax.scan` would want.

    name: how errors call it.
    init: init(params) -> state.
    update: update(updates, state, params=None, **extra_args) -> (updates, state). The first three are passed by place;
        of the extra arguments it gets those that its signature takes.
    needs_params: params must be given, and be like the gradients; else they are passed on as they are.
    state_type: the class of the state, if another is to be refused; what fits it is taken (`hyperparameters.as_state`).
    hypers: name -> (number, array or schedule; its domain), checked now; `update` gets them as h=, with h.name at each
        step, h.t, the step's number, and h.gathered(name), what bias correction divides by.
    own: the field of the state that counts its steps, if it has it.
    debiased: hypers that are decays of means which are divided by the weight that they have gathered.
    skipped: how many first steps leave those means as they are, an integer >= 0.
    counts: does the rule need the number of the step, whatever its state has?
    solver: does the state have `info`, which says how it stands?
    any_leaf: integers, PRNG keys and the like may be among the leaves: an inner transformation says whether it minds.
    real: complex leaves are refused.

    Returns a GradientTransformation; its state is what `init` returns, in one with a count where a schedule needs that.
    Raises, when made: HyperparameterError. When traced: TreeError if the gradients differ from the parameters that are
    needed, or the updates from the gradients, in structure or shape, or a leaf is not a floating array; StateError
    if the new state differs from the old in structure, shape or dtype; MissingArgumentError without params where
    `needs_params`.
    Not for rules that see one array at a time: `leafwise` compiles those once a shape.

    >>> def update(updates, state, params=None, *, h):
    ...     return jo.tree.scale(h.factor, updates), state
    >>> hypers = {"factor": (0.5, jo.errors.FINITE)}
    >>> opt = jo.transform("times", lambda params: jo.EmptyState(), update, hypers=hypers)
    >>> opt.update({"a": jnp.array([4.0])}, opt.init({"a": jnp.zeros(1)}))[0]["a"].tolist()
    [2.0]
    """
    init_, update_ = filter_kwargs(init, 1), filter_kwargs(update, 3)
    counted = own if own is not None and own in getattr(state_type, "_fields", ()) else None
    about = (name, checked(name, hypers), counted, debiased, skipped, counts)
    reader = HyperparameterReader(*about) if hypers is not None or counts else None

    def checked_init(params: Params, **problem: Any) -> State:
        if not any_leaf:
            check_leaves(name, "params", params, real)
        made = jax.tree.map(placement.as_typed, _initial(init_, params, problem))
        return made if reader is None else reader.start(made)

    def checked_update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        if needs_params:
            check_params(name, updates, params)
        outer, given = (None, state) if reader is None else reader.open(state)
        inner = given if state_type is None else as_state(name, given, state_type)
        if inner is not given and params is not None and len(inner):  # from a file: what is within it, too
            inner = as_made(jax.eval_shape(lambda p: init_(p, **extra), params), inner)
        step = None if reader is None else step_hyperparameters(reader.read(outer, inner))
        extra |= {} if step is None else {"h": Scalars(step, **step.values)}
        try:
            if not any_leaf:
                check_leaves(name, "gradients", updates, real)
            if params is not None:
                params = _where_updated(updates, params)
                if needs_params:
                    check_same_trees(name, "gradients", updates, "params", params)
            with mixing(*_dtypes((updates, params))):
                result = update_(updates, placement.on_device(inner), params, **extra)
        except (errors.MissingArgumentError, errors.HyperparameterError):
            raise
        except Exception:
            if params is not None:
                _check_made_for(name, params, updates, inner, lambda p: init_(p, **extra))
            raise
        new_updates, new = _check_result(name, result)
        check_same_trees(name, "updates", new_updates, "gradients", updates)
        check_carry(name, inner, new)
        new_updates, new = placement.all_placed_as((new_updates, new), (updates, inner))
        if not new and type(new) is state_type:  # it holds nothing, in whatever form it came
            new = given
        return new_updates, new if reader is None or step is None else reader.close(outer, step, new)

    return make_transformation(Method(name, solver), checked_init, checked_update)


def _initial(init: Callable[..., State], params: Params, problem: Mapping[str, Any]) -> State:
    """init(params, **problem), where params may be abstract."""
    try:
        with mixing(*_dtypes(params)):
            return init(params, **problem)
    except TypeError:
        if not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):
            raise
        # It evaluates a problem, of which abstract parameters give no value: a state of zeros shows its shapes.
        shapes = jax.eval_shape(lambda p: init(p, **problem), params)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _check_made_for(name: str, params: Params, updates: Updates, state: State, init: Callable[..., State]) -> None:
    """After an update that failed: was it made for other parameters than these, or was the state?"""
    check_same_trees(name, "gradients", updates, "params", params)
    expected = jax.eval_shape(init, params)
    if tree.structure(expected) != tree.structure(state):
        structure_mismatch(name, "state", state, "one that its init makes", expected)


def _check_result(name: str, result: Any) -> tuple[Any, Any]:
    """What an update returns: (updates, state)."""
    if not isinstance(result, tuple) or len(result) != 2:
        say(TransformationError, name, "update must return (updates, state)", describe(result),
            "Return the new state, too")  # fmt: skip
    return result


def _dtypes(full: PyTree) -> list[DType]:
    return [leaf.dtype for leaf in jax.tree.leaves(full) if hasattr(leaf, "dtype")]


def _where_updated(updates: Updates, params: Params) -> Params:
    """Params with None wherever the gradient is None: what has no gradient is left alone."""
    if tree.structure(updates) == tree.structure(params):
        return params
    leaves, treedef = tree.flatten(updates, none_is_leaf=True)
    p_leaves, p_treedef = tree.flatten(params, none_is_leaf=True)
    if treedef != p_treedef:
        return params
    return treedef.unflatten([None if g is None else p for g, p in zip(leaves, p_leaves, strict=True)])
