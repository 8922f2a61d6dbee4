"""What was saved, by name: of `state_dict`, or a whole state of ours or of optax's, with or without its classes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import is_complex, value_at
from jaxopt_ko.errors import StateError, say
from jaxopt_ko.precision.packed import KINDS, unpack
from jaxopt_ko.sharding.named import (
    MEAN,
    PLAIN_MEAN,
    SUM,
    Entry,
    entries_of_foreign,
    kept_as,
    packed_part,
    parameters_of,
    plain_role,
    same,
    spelled,
)
from jaxopt_ko.types import Params

FORMAT = 1
VERSION, GAIN = "__format__", "__gain__"  # of the dictionary; of a sum of gradients, over their mean
Taken = tuple[Any, list[str]] | None  # a value and how it was come by; None if nothing was saved


def gain_of(entry: Entry) -> Any:
    """Of a decaying sum, over the mean: (1 - dampening) / (1 - decay); None if no rule of ours says its decay."""
    hypers = {} if entry.reader is None else entry.reader.hypers
    decay = next((hypers[key] for key in ("decay", "b1", "momentum") if key in hypers), None)
    if decay is None:
        return None
    count = jnp.zeros((), jnp.int32)
    dampening = value_at(hypers.get("dampening", 0.0), count)
    return (1 - dampening) / (1 - value_at(decay, count))


def times(value: Any, factor: float) -> Any:
    """In its own dtype."""
    value = jnp.asarray(value)
    return value * jnp.asarray(factor, value.dtype)


class Saved:
    """Named leaves; each is taken at least once, or left."""

    def __init__(self, name: str, saved: Any, params: Params, like: list[Entry], made: Any) -> None:
        """like, made: the leaves of the new state, and the state as its init makes it."""
        self.name = name
        self.packed: dict[str, Any] = {}  # name of a leaf -> the array in few bits that it was saved as
        self.foreign = False  # are there names that do not say whose they are?
        if isinstance(saved, Mapping) and VERSION in saved:
            flat = {spelled(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(saved)[0]}
        else:
            flat = self._whole(saved, params, like, made)
        self._check_version(flat.pop(VERSION, FORMAT))
        flat = self._unpacked({key: self._array(key, value) for key, value in flat.items()})
        self.gains = {key.partition("/")[2]: flat.pop(key) for key in [k for k in flat if k.startswith(f"{GAIN}/")]}
        self.leaves = flat
        self.used: set[str] = set()
        self.layers_used: dict[str, set[int]] = {}  # name of a stack -> which of its layers
        self.taken_for: dict[str, set[str]] = {}  # name of a leaf -> names that it was made of

    def _whole(self, saved: Any, params: Params, like: list[Entry], made: Any) -> dict[str, Any]:
        if isinstance(saved, Mapping) and any("/" in str(key) for key in saved):
            saved = _nested(saved)
        leaves = leaves_like(made, saved)
        if leaves is not None:  # the very state, whatever containers a file has made of its own
            return {entry.name: leaf for entry, leaf in zip(like, leaves, strict=True)}
        self.foreign = True
        params = parameters_of(params)
        if _has_classes(saved):
            found = entries_of_foreign(saved, params)
            return {entry.name: entry.value for entry in found if not _is_copy(entry, found)}
        return _flat(saved, params)

    def _check_version(self, version: Any) -> None:
        known = np.shape(version) == () and np.asarray(version).dtype.kind in "iu" and int(np.asarray(version)) >= 1
        if not known or int(np.asarray(version)) > FORMAT:
            say(StateError, self.name, f"the dictionary must be of format {FORMAT} or an earlier one",
                f"format {version}", "Update jaxopt_ko, or give what state_dict returned")  # fmt: skip

    def _unpacked(self, flat: dict[str, Any]) -> dict[str, Any]:
        """With one array for codes and scales."""
        made: dict[str, Any] = {}
        for key, value in flat.items():
            part = packed_part(key)
            if part is None:
                made[key] = value
                continue
            name, kind, field = part
            if field == "codes":
                scales = flat.get(f"{key.removesuffix('codes')}scales")
                if scales is None:
                    say(StateError, self.name, f"the saved leaf {key!r} has codes and no scales", None,
                        "Give all that state_dict returned")  # fmt: skip
                self.packed[name] = {own.__name__: own for own in KINDS}[kind](jnp.asarray(value), jnp.asarray(scales))
                made[name] = unpack(self.packed[name])
        return made

    def _array(self, key: str, value: Any) -> Any:
        value = kept_as(value)
        kind = getattr(value, "dtype", None)
        if kind is None and isinstance(value, bool | int | float | complex):
            return np.asarray(value)
        if kind is None or not any(jnp.issubdtype(kind, known) for known in (np.number, np.bool_)):
            say(StateError, self.name, f"the saved leaf {key!r} must be an array of numbers", errors.describe(value),
                "Give what state_dict returned, or a whole state, as it was stored")  # fmt: skip
        return value

    @property
    def names(self) -> list[str]:
        """All of them."""
        return list(self.leaves)

    def left(self) -> tuple[list[str], list[str]]:
        """What has not been taken; and of that what is no loss: counts, and what schedules need beside a state."""
        left = [key for key in self.leaves if key not in self.used and np.size(self.leaves[key])]
        for key, layers in self.layers_used.items():
            unused = [i for i in range(np.shape(self.leaves[key])[0]) if i not in layers]
            left += [f"{key}[{i}]" for i in unused]
        needless = [key for key in left if re.fullmatch(r"count(\.\d+)?|gathered(\.\d+)?/.*", key)]
        return [key for key in left if key not in needless], needless

    def give_back(self, entry: Entry) -> None:
        """What was taken for this leaf is left after all."""
        self.used -= self.taken_for.pop(entry.name, set())

    def packed_as(self, entry: Entry) -> Any:
        """The array in few bits that a leaf was taken from, as it is; None if it was taken from no such one."""
        used = self.taken_for.get(entry.name, set())
        return self.packed.get(next(iter(used))) if len(used) == 1 else None

    def take(self, entry: Entry) -> Taken:
        """The value for a leaf and how it was come by; None if there is none."""
        if not math.prod(np.shape(entry.value)) and not jnp.issubdtype(entry.value.dtype, jax.dtypes.prng_key):
            return entry.value, []  # it is empty
        for key, how in self._candidates(entry):
            made = self._of(key, entry, how)
            if made is not None:
                return made
        return self._weight(entry) if entry.role.startswith("gathered/") else None

    def _candidates(self, entry: Entry) -> Iterable[tuple[str, list[str]]]:
        """Names under which it may be, the likeliest first."""
        role = plain_role(entry.role)
        if self.foreign:
            yield Entry(role, entry.path, None, None, 0, entry.plain).name, []
        yield entry.name, []
        if not entry.path and entry.again > 1:
            yield entry.role, []
        if entry.path is None:
            return
        kin = (MEAN, SUM, PLAIN_MEAN)
        for other in kin if entry.role in kin else ():
            if other != entry.role:
                yield Entry(other, entry.path, None, None, 0, entry.again).name, [other]

    def _of(self, key: str, entry: Entry, how: list[str]) -> tuple[Any, list[str]] | None:
        like = entry.value
        if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
            like = jax.eval_shape(jax.random.key_data, like)
        shape = np.shape(like)
        found = self._layers(key, shape)
        if found is None:
            return None
        value, used, said = found
        if np.shape(value) != shape:
            say(StateError, self.name, f"the leaf {entry.name!r} must have the shape {shape} of the new state",
                f"{key!r} of shape {np.shape(value)}",
                "Load it for parameters of the shapes that it was saved with")  # fmt: skip
        if is_complex(tree.dtype_of(value)) and not is_complex(tree.dtype_of(like)):
            say(StateError, self.name, f"the leaf {entry.name!r} is real, and what was saved is complex",
                errors.describe(value), "Load it for complex parameters")  # fmt: skip
        if how:
            value, said_ = self._scaled(value, entry, how[0], used)
            said = [*said, said_]
        self.used |= used
        self.taken_for[entry.name] = used
        return value, said

    def _scaled(self, value: Any, entry: Entry, source: str, used: set[str]) -> tuple[Any, str]:
        """A decaying sum as a mean, or the other way; by the gain that was saved, or else by the new method's own."""
        gains = [self.gains[key] for key in (*sorted(used), source) if key in self.gains] if source == SUM else []
        gain = gains[0] if gains else gain_of(entry) if SUM in (source, entry.role) else 1.0
        gain = 1.0 if gain is None else float(np.asarray(gain))
        factor = 1 / gain if source == SUM else gain if entry.role == SUM else 1.0
        words = {SUM: "decaying sum", MEAN: "mean", PLAIN_MEAN: "mean"}
        how = f"{source} times {factor:.4g}: the {words[source]} as the {words[entry.role]} of gradients"
        return times(value, factor), how

    # ---- layers, one by one or stacked

    def _layers(self, key: str, shape: tuple[int, ...]) -> tuple[Any, set[str], list[str]] | None:
        """(value, names that it is made of, how it was come by) of a leaf that may be saved in another layout."""
        if key in self.leaves:
            return self.leaves[key], {key}, []
        return self._layer_of_stack(key.split("/"), shape) or self._stack_of_layers(key.split("/"), shape)

    def _layer_of_stack(self, parts: list[str], shape: tuple[int, ...]) -> tuple[Any, set[str], list[str]] | None:
        """Of "mu/layers/kernel" for "mu/layers/1/kernel" and "mu/layers_1/kernel"."""
        for i in range(1, len(parts)):
            number = re.fullmatch(r"(?:(.*)_)?(\d+)", parts[i])
            if number is None:
                continue
            stem, index = number.group(1), int(number.group(2))
            name = "/".join([*parts[:i], *([stem] if stem else []), *parts[i + 1 :]])
            stack = self.leaves.get(name)
            if stack is None or not np.ndim(stack) or index >= np.shape(stack)[0]:
                continue
            rows = slice(index, index + 1) if shape == (1, *np.shape(stack)[1:]) else index  # one matrix of several
            if rows == index and np.shape(stack)[1:] != shape:
                continue
            self.layers_used.setdefault(name, set()).add(index)
            return stack[rows], {name}, [f"layer {index} of {name!r}"]
        return None

    def _stack_of_layers(self, parts: list[str], shape: tuple[int, ...]) -> tuple[Any, set[str], list[str]] | None:
        """Of "mu/layers/1/kernel" or "mu/layers_1/kernel" and so on for "mu/layers/kernel"."""
        for i in range(1, len(parts) + 1 if shape else 0):
            for before, link in ((parts[:i], "/"), (parts[:i], "_")):
                if link == "_" and i == 1:  # a role has no number
                    continue
                names = ["/".join([f"{'/'.join(before)}{link}{k}", *parts[i:]]) for k in range(shape[0])]
                if not names or names[0] not in self.leaves or not all(name in self.leaves for name in names):
                    continue
                layers = [jnp.asarray(self.leaves[name]) for name in names]
                joined: Any = {shape[1:]: jnp.stack, (1, *shape[1:]): jnp.concatenate}.get(layers[0].shape)
                if joined is not None and all(layer.shape == layers[0].shape for layer in layers):
                    return joined(layers), set(names), [f"{len(names)} layers, {names[0]!r} and so on, stacked"]
        return None

    def _weight(self, entry: Entry) -> tuple[Any, list[str]] | None:
        """What a mean has gathered whose decay follows a schedule now: 1 - b(0) … b(count - 1)."""
        count = self.leaves.get("count")
        decay = entry.role.partition("/")[2]
        if count is None or entry.reader is None or decay not in entry.reader.hypers:
            return None
        steps = jnp.arange(max(int(np.asarray(count)) - entry.reader.skipped, 0), dtype=jnp.int32)
        values = jax.vmap(lambda t: value_at(entry.reader.hypers[decay], t + entry.reader.skipped))(steps)  # type: ignore[union-attr]
        weight = 1 - jnp.exp(jnp.sum(jnp.log(values))) if math.prod(steps.shape) else jnp.zeros(())
        return weight, [f"1 - the product of the schedule's {steps.size} values"]


# ---- states that were saved whole -------------------------------------------------------------------------


def _is_copy(entry: Entry, found: list[Entry]) -> bool:
    """Is it a number that says what an earlier one says?"""
    if entry.again == 1 or entry.path is not None:
        return False
    return any(e.again == 1 and e.role == entry.role and e.path is None and same(e.value, entry.value) for e in found)


def _has_classes(saved: Any) -> bool:
    """Is it a state with its NamedTuples, and no nest of dicts and lists?"""
    if isinstance(saved, tuple) and hasattr(saved, "_fields"):
        return True
    return isinstance(saved, tuple | list | Mapping) and any(
        _has_classes(child) for child in (saved.values() if isinstance(saved, Mapping) else saved)
    )


def leaves_like(like: Any, given: Any) -> list[Any] | None:
    """The leaves of a state in the order of another that has the same fields and shapes everywhere; None if it has not.

    Files make dicts of NamedTuples and dicts or lists of tuples; a NamedTuple must be of a class of the same name.
    """
    if like is None or (isinstance(like, tuple | list | dict) and not like):
        return None if jax.tree.leaves(given) else []
    if isinstance(like, tuple | list | dict):
        children = _children_like(like, given)
        return None if children is None else _all_like(children)
    if not jax.tree_util.all_leaves([like]):
        nodes: list[Any] = [jax.tree.structure(like), jax.tree.structure(given)]
        same_nodes = nodes[0] == nodes[1]
        pairs = zip(jax.tree.leaves(like), jax.tree.leaves(given), strict=True) if same_nodes else None
        return None if pairs is None else _all_like(pairs)
    number = hasattr(given, "shape") or isinstance(given, bool | int | float | complex)
    return [given] if number and _kept_shape(given) == _kept_shape(like) else None


def _children_like(like: Any, given: Any) -> list[tuple[Any, Any]] | None:
    """Pairs of what is at the same place of a tuple, a NamedTuple or a dict and of what a file made of one."""
    fields = getattr(like, "_fields", None)
    if isinstance(like, dict):
        places = [(str(path[0].key), child) for path, child in _one_level(like)]
    else:
        places = [(str(i) if fields is None else fields[i], child) for i, child in enumerate(like)]
    if isinstance(given, Mapping):
        by_name = {str(key): value for key, value in given.items()}
        alike = set(by_name) == {name for name, _ in places} and len(by_name) == len(given)
        return [(child, by_name[name]) for name, child in places] if alike else None
    if isinstance(like, dict) or not isinstance(given, tuple | list) or getattr(given, "_fields", None) != fields:
        return None
    alike = len(given) == len(like) and (fields is None or type(given).__name__ == type(like).__name__)
    return list(zip(like, given, strict=True)) if alike else None


def _one_level(node: Any) -> list[tuple[Any, Any]]:
    """(path, child) of its children, None included."""
    return jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)[0]


def _kept_shape(like: Any) -> tuple[int, ...]:
    if jnp.issubdtype(getattr(like, "dtype", np.float32), jax.dtypes.prng_key):
        return tuple(jax.eval_shape(jax.random.key_data, like).shape)
    return np.shape(like)


def _all_like(pairs: Iterable[tuple[Any, Any]]) -> list[Any] | None:
    made: list[Any] = []
    for one, other in pairs:
        found = leaves_like(one, other)
        if found is None:
            return None
        made += found
    return made


def _nested(flat: Mapping[str, Any]) -> Any:
    """What `fit` keeps a state as, leaves by their paths, as the nest that it was."""
    made: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(flat)[0]:
        *above, last = spelled(path).split("/")
        node = made
        for word in above:
            node = node.setdefault(word, {})
            if not isinstance(node, dict):
                return flat  # a leaf has the name of a branch
        node[last] = leaf
    return made


def _flat(saved: Any, params: Params) -> dict[str, Any]:
    """A nest of dicts and lists by name. A branch is like the parameters if all that is below it is named as they
    are, or as a parameter and numbers; its role is the last key above it that is no number."""
    shapes = {spelled(path): np.shape(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]}
    found = list(_branches(saved, (), shapes))
    keeps = {trail[:-1] for trail, path, _ in found if path is not None}
    made: dict[str, Any] = {}
    seen: dict[tuple[str, str | None], int] = {}
    for trail, path, leaf in sorted(found, key=lambda item: item[0][-1:] == ("count",) and item[0][:-1] not in keeps):
        words = [word for word in trail if not word.isdigit()]
        role = words[-1] if words else "value"
        if path is None and len(words) > 1 and words[-2] in ("hyperparams", "gathered", "hyperparams_states"):
            role = f"{words[-2]}/{words[-1]}"
        seen[role, path] = seen.get((role, path), 0) + 1
        key = Entry(role, path, None, None, 0, seen[role, path]).name
        if path is None and seen[role, path] > 1 and same(made[role], leaf):
            continue
        made[key] = leaf
    return made


def _branches(
    node: Any, trail: tuple[str, ...], shapes: dict[str, Any]
) -> Iterator[tuple[tuple[str, ...], str | None, Any]]:
    """(keys above, path of the parameter or None, leaf)"""
    below = [(spelled(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(node)[0]]
    if any(not word.isdigit() for word in trail) and below:
        owners = [_owner(path, leaf, shapes) for path, leaf in below]
        if all(owners):
            yield from ((trail, path, leaf) for path, leaf in below)
            return
    if isinstance(node, Mapping) and set(map(str, node)) == {str(i) for i in range(len(node))}:
        node = {f"{int(key):09d}": child for key, child in node.items()}  # in the order of their numbers
    for key, child in _one_level(node):
        if not key:
            yield trail, None, child
        else:
            word = spelled(key)
            yield from _branches(child, (*trail, str(int(word)) if word.isdigit() else word), shapes)


def _owner(path: str, leaf: Any, shapes: dict[str, Any]) -> bool:
    """Is it of a parameter: one of that path, with numbers after it where a rule keeps several arrays for each?"""
    if path in shapes:
        return path != "" or np.shape(leaf) == shapes[""]
    parts = path.split("/")
    return any("/".join(parts[:n]) in shapes and all(p.isdigit() for p in parts[n:]) for n in range(1, len(parts)))
