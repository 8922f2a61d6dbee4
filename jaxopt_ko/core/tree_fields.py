"""Values found and replaced in a state by the name of their field, key or class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import jax

from jaxopt_ko import errors
from jaxopt_ko.errors import say
from jaxopt_ko.types import PyTree

Path = tuple[Any, ...]
Filtering = Callable[[Path, Any], bool]


class NamedTupleKey(NamedTuple):
    """A step of a path into a NamedTuple."""

    tuple_name: str  # of its class
    name: str  # of the field

    def __str__(self) -> str:
        return f"{self.tuple_name}.{self.name}"


def get_all_with_path(tree: PyTree, key: Any, filtering: Filtering | None = None) -> list[tuple[Path, Any]]:
    """Every (path, value) whose field, dictionary key or NamedTuple class is called `key`.

    tree: any tree, a state for instance.
    key: the name, a string; or another key of a dict.
    filtering: filtering(path, value) -> bool: which of them to keep; None: all.

    Returns a list of pairs; a path is a tuple of steps, JAX's keys and `NamedTupleKey` for the field of a NamedTuple.

    >>> state = jo.adam(0.1).init(jnp.ones(2))
    >>> [(str(path[-1]), int(value)) for path, value in jo.tree.get_all_with_path(state, "count")]
    [('ScaleByAdamState.count', 0)]
    """
    return [(path, value) for path, value in _found(tree, (), key) if filtering is None or filtering(path, value)]


def get(tree: PyTree, key: Any, default: Any = None, filtering: Filtering | None = None) -> Any:
    """The one value called `key`, as `get_all_with_path` finds it.

    tree: any tree, a state for instance.
    key: the name of a field, a dictionary key or a NamedTuple class.
    default: what to return if there is none.
    filtering: filtering(path, value) -> bool: which of several is meant; None: there must be one.

    Returns the value itself, or `default`.
    Raises KeyError if there are several.

    >>> state = jo.adam(0.1).init(jnp.ones(2))
    >>> int(jo.tree.get(state, "count")), jo.tree.get(state, "ScaleByAdamState").mu.tolist()
    (0, [0.0, 0.0])
    """
    found = get_all_with_path(tree, key, filtering)
    if len(found) > 1:
        _several_values("tree.get", key, [jax.tree_util.keystr(_shown(path)) for path, _ in found])
    return found[0][1] if found else default


def _several_values(name: str, key: Any, paths: Sequence[str]) -> NoReturn:
    """A name that leads to more than one value."""
    say(KeyError, name, f"{key!r} is the name of {len(paths)} values", ", ".join(paths), "Choose with filtering")


def set(tree: PyTree, filtering: Filtering | None = None, /, **kwargs: Any) -> PyTree:
    """A copy of a tree with every value called so replaced.

    tree: any tree, a state for instance.
    filtering: filtering(path, value) -> bool: which of them to replace; None: all.
    **kwargs: name=value, the name of a field, a dictionary key or a NamedTuple class.

    Returns a tree like it; leaves that are not replaced are the same objects.
    Raises KeyError for a name that is not there.

    >>> opt = jo.inject_hyperparams(jo.sgd)(learning_rate=0.1)
    >>> state = jo.tree.set(opt.init(jnp.ones(2)), learning_rate=jnp.float32(0.5))
    >>> float(jo.tree.get(state, "learning_rate"))
    0.5
    """
    for key in kwargs:
        if not get_all_with_path(tree, key, filtering):
            _no_value("tree.set", key)

    def replaced(node: Any, path: Path) -> Any:
        name = type(node).__name__ if _is_named_tuple(node) else None
        if name in kwargs and (filtering is None or filtering(path, node)):
            return kwargs[name]
        children = list(_children(node))
        if not children:
            return node
        new = []
        for entry, child in children:
            key, at = _name(entry), (*path, entry)
            swap = key in kwargs and (filtering is None or filtering(at, child))
            new.append(kwargs[key] if swap else replaced(child, at))
        if _is_named_tuple(node):
            return type(node)(*new)
        structure = jax.tree.structure(node, is_leaf=lambda x: x is not node)
        return jax.tree.unflatten(structure, new)

    return replaced(tree, ())


def _no_value(name: str, key: Any) -> NoReturn:
    """A name that leads nowhere."""
    say(KeyError, name, f"no value is called {key!r}", None,
        "Names are those of fields, keys and NamedTuple classes")  # fmt: skip


def _found(node: Any, path: Path, key: Any) -> Iterator[tuple[Path, Any]]:
    if _is_named_tuple(node) and type(node).__name__ == key:
        yield path, node
    for entry, child in _children(node):
        if _name(entry) == key:
            yield (*path, entry), child
        yield from _found(child, (*path, entry), key)


def _is_named_tuple(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    """(step, child) one level down, None included."""
    if _is_named_tuple(node):
        yield from ((NamedTupleKey(type(node).__name__, name), getattr(node, name)) for name in node._fields)
        return
    if node is None:
        return
    for path, child in jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)[0]:
        if path:
            yield path[0], child


def _name(entry: Any) -> Any:
    """What a step is called; a place in a list has no name."""
    if isinstance(entry, jax.tree_util.SequenceKey):
        return None
    return entry.name if hasattr(entry, "name") else getattr(entry, "key", None)


def _shown(path: Path) -> Path:
    return tuple(jax.tree_util.GetAttrKey(step.name) if isinstance(step, NamedTupleKey) else step for step in path)


# ---- what is like the parameters ---------------------------------------------------------------------------


@jax.tree_util.register_pytree_node_class
class AnyParams:
    """Stands for parameters of any structure: a tree of no leaves, which a state keeps wherever it is like them."""

    def tree_flatten(self) -> tuple[tuple[()], None]:
        """No leaves."""
        return (), None

    @classmethod
    def tree_unflatten(cls, _: None, __: tuple[()]) -> AnyParams:
        """Itself again."""
        return cls()


def is_any(params: Any) -> bool:
    """Does it stand for parameters of any structure: ours, or what optax's tree_map_params has for that?"""
    return isinstance(params, AnyParams) or type(params).__name__ == "_ParamsPlaceholder"


def map_params(
    initable: Any,
    f: Callable[..., Any],
    state: PyTree,
    /,
    *rest: Any,
    transform_non_params: Callable[..., Any] | None = None,
    is_leaf: Callable[[Any], bool] | None = None,
) -> PyTree:
    """f(leaf, *leaves of rest) on every part of a state that is a tree like the parameters, moments say.

    initable: the transformation, or its init.
    f: a function of a leaf, and of one leaf of each of `rest`.
    state: of that transformation.
    *rest: trees like the parameters: their shardings, for instance.
    transform_non_params: a function for all other leaves, counts say; None: they stay as they are.
    is_leaf: as in jax.tree.map; where a state was masked, lambda x: isinstance(x, MaskedNode).

    Returns a state like it.
    Raises TransformationError if initable is neither.

    >>> opt = jo.adam(0.1)
    >>> state = jo.tree_map_params(opt, lambda m: m + 1.0, opt.init(jnp.zeros(2)))
    >>> jo.tree.get(state, "mu").tolist(), int(jo.tree.get(state, "count"))
    ([1.0, 1.0], 0)
    """
    init = initable.init if hasattr(initable, "init") else initable
    if not callable(init):
        errors.check_pair("tree.map_params", "initable", initable, lands=True)

    def each(place: Any, value: Any) -> Any:
        if isinstance(place, AnyParams):
            return jax.tree.map(f, value, *rest, is_leaf=is_leaf)
        return value if transform_non_params is None else transform_non_params(value)

    return jax.tree.map(each, init(AnyParams()), state, is_leaf=lambda x: isinstance(x, AnyParams))
