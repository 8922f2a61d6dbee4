"""Checks of trees and states that several rooms share: structure, shapes, dtypes, what may be left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_flatten_with_path as flatten_with_path

from jaxopt_ko.errors import (
    HyperparameterError,
    HyperparameterTypeError,
    MissingArgumentError,
    StateError,
    TransformationError,
    TreeError,
    describe,
    describe_structure,
    missing_argument,
    path_of,
    say,
    spell_path,
)
from jaxopt_ko.types import MaskedNode, PyTree


def check_leaves(name: str, what: str, tree: PyTree, real: bool = True) -> None:
    """Every leaf of `tree` must be a floating array, and a real one where `real`.

    name, what: who speaks in an error, and what it calls the tree.
    """
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        check_leaf(name, what, tree, index, leaf, real=real)


def check_room(name: str, path: str, was: Any, now: Any) -> None:
    """Complex numbers cannot be kept, or added, where there is place for real ones alone.

    name, path: who speaks in an error, and what it calls the place. was, now: what is there, and what comes to it.
    """
    if is_complex_leaf(now) and not is_complex_leaf(was):
        say(TreeError, name, f"{path} is real, and what comes to it complex", f"{describe(was)} and {describe(now)}",
            "Give complex parameters, and complex dtypes (mu_dtype=jnp.complex64) or None")  # fmt: skip


def not_a_bool(name: str, argument: str, path: str, value: Any) -> NoReturn:
    """A leaf of a mask that is no truth value: who speaks (name), of which argument, at which path, and the value."""
    say(TreeError, name, f"{argument} at the leaf {path} must be True or False", describe(value),
        "Give a tree of bools like the parameters, or a function that makes one; a traced bool has no value yet, "
        "and an array of several says nothing of the leaf")  # fmt: skip


def wrong_state(name: str, state: Any, expected: type) -> NoReturn:
    """A state that is not, and does not fit, the class that this rule's init makes."""
    fields: Sequence[str] = expected._fields  # type: ignore[attr-defined]
    of = f" of ({', '.join(fields)})" if fields else ", which holds nothing"
    article = "an" if expected.__name__[0] in "AEIOU" else "a"
    say(StateError, name, f"the state must be {article} {expected.__name__}{of}", _fields_of(state), STATE_ADVICE)


def _fields_of(state: Any) -> str:
    if isinstance(state, Mapping):
        return f"a dict of {sorted(map(str, state))}"
    fields = getattr(state, "_fields", None)
    return describe(state) if fields is None else f"a {type(state).__name__} of ({', '.join(fields)})"


STATE_ADVICE = (
    "Call update(updates, state, params) in this order, with the state that this transformation's own "
    "init or last update returned"
)


def check_count(name: str, count: Any) -> None:
    """The count of a state is one number, unless the state was made under vmap and the update is not."""
    if np.shape(count) != ():
        say(StateError, name, "the state's count must be one number (shape ())", f"shape {np.shape(count)}",
            "A state made under jax.vmap is updated under jax.vmap")  # fmt: skip


def check_state_tuple(name: str, state: Any, names: Sequence[str], more: bool = False) -> Sequence[Any]:
    """A chain's state is one state for each of its transformations (more: for each of those of the first): a tuple,
    the list that a file gave, or a dict of their numbers."""
    if isinstance(state, Mapping) and set(state) == {str(i) for i in range(len(state))}:
        state = tuple(state[str(i)] for i in range(len(state)))
    if not isinstance(state, tuple | list) or (len(state) < len(names) if more else len(state) != len(names)):
        say(StateError, name, f"the state must be a tuple of {len(names)} states ({', '.join(names)})",
            describe(state), STATE_ADVICE)  # fmt: skip
    return state


def check_state_keys(name: str, state: Any, names: Sequence[Any]) -> None:
    """A state that is a dict with one state for each name."""
    if not isinstance(state, dict) or set(state) != set(names):
        got = f"a dict of {sorted(map(str, state))}" if isinstance(state, dict) else describe(state)
        say(StateError, name, f"the state must be a dict of {sorted(map(str, names))}", got, STATE_ADVICE)


def check_objective(name: str, value: Any) -> Any:
    """The value of an objective is one real number."""
    dtype = getattr(value, "dtype", None)
    if not jax.tree_util.all_leaves([value]) or value is None or np.shape(value) != ():
        say(TreeError, name, "the function to minimize must return one number (shape ())", describe(value),
            "Sum or average over the data; return (value, aux) only with has_aux=True; "
            "for a sum of squares of residuals use least_squares")  # fmt: skip
    if isinstance(value, float) or (dtype is not None and jnp.issubdtype(dtype, jnp.floating)):
        return value
    say(TreeError, name, "the function to minimize must return a real floating-point number", describe(value),
        "Take the real part or a norm of complex numbers; integers have no gradient")  # fmt: skip


def check_start(name: str, params: Any) -> None:
    """Parameters to begin at: arrays or numbers in a tree; what dtype they need says the method.

    name: who speaks, in error messages.
    params: whatever the user gave.

    Raises MissingArgumentError for None, TreeError for a tree without leaves or a leaf that is no array or number.

    >>> from jaxopt_ko.core.checks import check_start
    >>> check_start("minimize", {"a": jnp.zeros(2)})
    """
    if params is None:
        say(MissingArgumentError, name, "params is missing", "params=None", "Pass where to start, an array or a pytree")
    if not jax.tree.leaves(params):
        say(TreeError, name, "params must have a leaf at least", describe(params), "Pass where to start, an array or a "
            "pytree of arrays")  # fmt: skip
    for index, leaf in enumerate(jax.tree.leaves(params)):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, int | float | complex):
            wrong = f"the params leaf {path_of(params, index)} is not an array or a number"
            say(TreeError, name, wrong, describe(leaf),
                "Take it out of params: what is no array can be given to the function beside them")  # fmt: skip


def check_numbers(name: str, argument: str, value: Any) -> None:
    """Refuses what is no array, number, or list of them.

    name: who speaks, in error messages.
    argument: the name of the argument that the message is about.
    value: whatever the user gave.

    Raises TreeError for anything else: strings, objects, ragged lists.

    >>> from jaxopt_ko.core.checks import check_numbers
    >>> check_numbers("my_loss", "weights", [1.0, 2.0])
    """
    try:
        dtype = getattr(value, "dtype", None) or np.asarray(value).dtype
    except ValueError:
        dtype = None
    if dtype is None or not (jnp.issubdtype(dtype, jnp.number) or dtype == np.bool_):
        say(TreeError, name, f"{argument} must be numbers", describe(value), "Give an array")


def check_arrays(name: str, what: str, full: PyTree) -> PyTree:
    """Refuses a tree of anything but arrays and numbers, of whatever dtype.

    name: who speaks, in error messages.
    what: what the tree is called there.
    full: the tree.

    Returns the tree itself.
    Raises TreeError for a leaf that is none.

    >>> from jaxopt_ko.core.checks import check_arrays
    >>> check_arrays("my_loop", "the carry", {"a": 1.0})
    {'a': 1.0}
    """
    for index, leaf in enumerate(jax.tree.leaves(full)):
        if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float | complex):
            say(TreeError, name, f"{what} must be a tree of arrays; {path_of(full, index)} is none", describe(leaf),
                "Leave it out, or make it an array")  # fmt: skip
    return full


def check_args(name: str, args: Any) -> None:
    """What goes to the function after the parameters."""
    if not isinstance(args, tuple):
        say(TransformationError, name, "args must be a tuple of the arguments after params", describe(args),
            "Write args=(data,), with the comma")  # fmt: skip
    for index, leaf in enumerate(jax.tree.leaves(args)):
        if isinstance(leaf, jax.Array | int | float | complex | str):
            continue
        if isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind not in "OSUMm":
            continue
        try:
            hash(leaf)
        except TypeError:
            say(HyperparameterTypeError, name, f"args{path_of(args, index)} is neither an array nor a constant that "
                "can be hashed", describe(leaf), "A program is compiled for each constant, which it is found by: give "
                "it __hash__ and __eq__ (@dataclass(frozen=True), a tuple, a string), register its class as a pytree "
                "of arrays, or let the function close over it")  # fmt: skip


def no_matrix(name: str, tree: PyTree, index: int, leaf: Any, wanted: str) -> NoReturn:
    """A leaf without rows and columns."""
    say(TreeError, name, f"the leaf {path_of(tree, index)} must have {wanted}", describe(leaf),
        "Say which axes are stacks (stack_axes) or rows and columns, or leave the leaf to another method")  # fmt: skip


def is_complex_leaf(leaf: Any) -> bool:
    """Is it an array of complex numbers, or one such number?

    leaf: a leaf of a tree.

    Returns a bool.

    >>> from jaxopt_ko.core.checks import is_complex_leaf
    >>> is_complex_leaf(1j), is_complex_leaf(jnp.ones(2))
    (True, False)
    """
    return bool(jnp.issubdtype(getattr(leaf, "dtype", type(leaf)), jnp.complexfloating))


def check_params(name: str, updates: PyTree, params: PyTree) -> None:
    """A rule that reads the parameters must get them; a tree without leaves has none."""
    if params is None and jax.tree.leaves(updates):
        missing_argument(name, "params", "this rule reads the parameters")


def _stands_for_a_leaf(x: Any) -> bool:
    return x is None or isinstance(x, MaskedNode)


def structure_mismatch(name: str, what: str, tree: PyTree, like: str, reference: PyTree) -> NoReturn:
    """Say where two trees part: missing leaves, extra ones, or other containers.

    name: who speaks, in error messages.
    what: what the tree is called there.
    tree: the tree that is wrong.
    like: what the other is called.
    reference: the other, which it must be like.

    Raises TreeError, always.

    >>> from jaxopt_ko.core.checks import structure_mismatch
    >>> structure_mismatch("my_rule", "gradients", {}, "params", {"a": 1.0})
    Traceback (most recent call last):
        ...
    jaxopt_ko.errors.TreeError: my_rule: the gradients must have the structure of the params. Got no leaf at ['a']...
    """
    have, want = (
        {
            spell_path(path): type(leaf) if _stands_for_a_leaf(leaf) else None
            for path, leaf in flatten_with_path(t, is_leaf=_stands_for_a_leaf)[0]
        }
        for t in (tree, reference)
    )
    missing, extra = sorted(want.keys() - have.keys()), sorted(have.keys() - want.keys())
    masked = sorted(path for path in have.keys() & want.keys() if have[path] != want[path])
    parts = [f"no leaf at {', '.join(missing[:3])}"] if missing else []
    parts += [f"an extra leaf at {', '.join(extra[:3])}"] if extra else []
    parts += [f"a leaf left out, masked or None, in one of them at {', '.join(masked[:3])}"] if masked else []
    if not parts:
        parts = [f"the same leaves in other containers: {describe_structure(jax.tree.structure(tree))}"]
    say(TreeError, name, f"the {what} must have the structure of the {like}", " and ".join(parts),
        f"Expected {describe_structure(jax.tree.structure(reference))}. Pass trees made for the same parameters; "
        "leave leaves out of both with masked or partition")  # fmt: skip


def shape_mismatch(name: str, what: str, path: str, got: Any, like: str, want: tuple[int, ...] | None) -> NoReturn:
    """A leaf of another shape, broadcastable or not."""
    say(TreeError, name, f"the {what} leaf {path} must have the shape {want} of the {like}", describe(got),
        "Shapes are never broadcast here: reshape the leaf, or make the state anew with init")  # fmt: skip


def memory_mismatch(name: str, memory: Any, path: str, got: Any) -> NoReturn:
    """A gradient whose leaf remembers what was made for another one."""
    say(TreeError, name, f"the gradients leaf {path} must have the shape of the leaf that its state was made for",
        f"{describe(got)} with the state {', '.join(map(describe, memory))}",
        "Shapes are never broadcast here: reshape the leaf, or make the state anew with init")  # fmt: skip


def check_stack_axes(name: str, stack_axes: Any) -> None:
    """How many leading axes of a leaf are stacks."""
    for leaf in jax.tree.leaves(stack_axes, is_leaf=lambda leaf: leaf is None):
        if not isinstance(leaf, int) or isinstance(leaf, bool) or leaf < 0:
            say(HyperparameterTypeError, name, "stack_axes must be an integer >= 0 or a tree of such", describe(leaf),
                "Give 1 for leaves [layers, m, n], 0 for leaves [m, n]")  # fmt: skip


def check_leaf(
    name: str, what: str, tree: PyTree, index: int, leaf: Any, none_is_leaf: bool = False, real: bool = True
) -> None:
    """A leaf must be a floating array (or a Python float), and a real one where `real`."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize > 1:
        return
    if dtype is None and isinstance(leaf, float):
        return
    complex_ = is_complex_leaf(leaf)
    if complex_ and not real:
        return
    path = path_of(tree, index, none_is_leaf)
    if complex_:
        say(TreeError, name, f"the {what} leaf {path} is complex, and {name} is for real numbers", describe(leaf),
            "Write split_real_and_imaginary(transformation), which shows it real and imaginary parts")  # fmt: skip
    say(TreeError, name, f"the {what} leaf {path} is not a floating-point array of 16 bits or more", describe(leaf),
        "Write 1.0 for 1, or leave it out: masked(transformation, mask) with False there, partition({...}, labels), "
        "or None in its place")  # fmt: skip


def check_carry(name: str, old: PyTree, new: PyTree) -> None:
    """The new state must be a scan carry for the old one: equal structure, shapes and dtypes.

    name: who speaks, in error messages.
    old: the state that went in.
    new: the state that came out.

    Raises TreeError for another structure, StateError for a leaf of another shape or dtype.

    >>> from jaxopt_ko.core.checks import check_carry
    >>> check_carry("my_rule", {"mu": jnp.zeros(2)}, {"mu": jnp.ones(2)})
    """
    if not _equal_structures(old, new):
        structure_mismatch(name, "new state", new, "state that went in", old)
    for index, (a, b) in enumerate(zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)):
        if np.shape(a) != np.shape(b) or _dtype(a) != _dtype(b):
            say(StateError, name, f"the new state's leaf {path_of(old, index)} must stay {describe(a)}",
                describe(b), "Store it in the dtype and shape that init chose (lax.scan's carry rule)")  # fmt: skip


def _equal_structures(tree: PyTree, reference: PyTree) -> bool:
    return bool(jax.tree.structure(tree) == jax.tree.structure(reference))  # type: ignore[operator]


def _dtype(x: Any) -> Any:
    """Of an array, or of a Python number, which a foreign state may have."""
    return x.dtype if hasattr(x, "dtype") else jnp.result_type(x)


def have_equal_shapes(tree: PyTree, reference: PyTree) -> bool:
    """Do two trees agree in structure and in every shape?"""
    if not _equal_structures(tree, reference):
        return False
    return list(map(np.shape, jax.tree.leaves(tree))) == list(map(np.shape, jax.tree.leaves(reference)))


def check_same_trees(name: str, what: str, tree: PyTree, like: str, reference: PyTree) -> None:
    """Two trees must agree in structure and in every shape.

    name: who speaks, in error messages.
    what: what the tree is called there.
    tree: the tree that is checked.
    like: what the other is called.
    reference: the other, which it must be like.

    Raises TreeError, which names the leaves that differ.

    >>> from jaxopt_ko.core.checks import check_same_trees
    >>> check_same_trees("my_rule", "gradients", {"a": jnp.ones(2)}, "params", {"a": jnp.zeros(2)})
    """
    if not _equal_structures(tree, reference):
        structure_mismatch(name, what, tree, like, reference)
    for index, (a, b) in enumerate(zip(jax.tree.leaves(tree), jax.tree.leaves(reference), strict=True)):
        if np.shape(a) != np.shape(b):
            shape_mismatch(name, what, path_of(tree, index), a, like, np.shape(b))


def check_axes_option(name: str, argument: str, value: Any) -> None:
    """One axis or several, None for a default."""
    axes = value if isinstance(value, tuple | list) else () if value is None else (value,)
    if any(not isinstance(axis, int | np.integer) or isinstance(axis, bool) for axis in axes):
        say(HyperparameterTypeError, name, f"{argument} must be an integer or a tuple of integers", describe(value),
            "Count from 0, or from the end with -1")  # fmt: skip


def check_period(name: str, argument: str, value: Any, least: int = 1) -> Any:
    """A count of steps, an integer of `least` or more; it may be traced."""
    dtype = getattr(value, "dtype", None)
    whole = jnp.issubdtype(dtype, jnp.integer) if dtype is not None else isinstance(value, int)
    if isinstance(value, bool) or not whole or np.shape(value) != ():
        say(HyperparameterTypeError, name, f"{argument} must be an integer of at least {least}", describe(value),
            "Give a Python int or an int32 array of shape ()")  # fmt: skip
    if not isinstance(value, jax.core.Tracer) and int(value) < least:
        say(HyperparameterError, name, f"{argument} must be an integer of at least {least}", f"{argument}={value}",
            "It counts steps")  # fmt: skip
    return value if isinstance(value, jax.core.Tracer) else int(value)
