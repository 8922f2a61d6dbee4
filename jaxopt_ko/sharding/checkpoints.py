"""States by name, and back: from another chain, another optimizer, another library, another layout of the layers.

state_dict makes a flat dictionary that orbax or flax stores; load_state finds for each leaf of the new optimizer's
state the named one that means the same, and says of every leaf what became of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.numerics import is_complex, value_at
from jaxopt_ko.core.tables import Table
from jaxopt_ko.errors import StateError, say
from jaxopt_ko.sharding.named import MEAN, SUM, Entry, entries, kept_as, same, spelled
from jaxopt_ko.types import GradientTransformation, Params, State

FORMAT = 1
VERSION, GAIN = "__format__", "__gain__"  # of the dictionary; of a sum of gradients, over their mean
SHOWN = 6  # names in a message
DECAYS = ("b1", "b2", "b3", "decay", "beta")  # of means


def state_dict(tx: GradientTransformation, state: State, params: Params) -> dict[str, Any]:
    """The leaves of a state by name: {"mu/layers/0/kernel": array, …, "count": array, "__format__": 1}.

    A name is the role (mu: mean of g; nu: mean of g**2; trace: decaying sum of g; …) and the path of the parameter,
    not a place in a chain: a clip more, a group more or less changes no name. A role that has another meaning than its
    name has elsewhere says whose it is: "nu@adabelief". Numbers that are all equal are there once ("count"); others are
    told apart in the order of the state ("count", "count.2"). PRNG keys are the numbers in them
    (`jax.random.key_data`). "__gain__/trace" says by how much a decaying sum is larger than the mean of the gradients.

    tx, params: those that the state is for; params may be abstract. A foreign (optax) tx is welcome.
    Returns a flat dictionary of arrays, as orbax and flax store it; the way back is `load_state`.

    saved = state_dict(tx, state, params); orbax.checkpoint.PyTreeCheckpointer().save(path, saved)
    """
    tx = errors.check_pair("state_dict", "tx", tx)
    found, _ = entries(tx, state, params)
    made: dict[str, Any] = {}
    first: dict[tuple[str, str | None], Any] = {}
    for entry in found:
        value = kept_as(entry.value)
        key = entry.role, entry.path
        if entry.again > 1 and entry.path is None and same(first[key], value):
            continue
        first.setdefault(key, value)
        made[entry.name] = value
        if entry.role == SUM and (gain := _gain(entry)) is not None:
            made[f"{GAIN}/{SUM}"] = gain
    made[VERSION] = np.asarray(FORMAT, np.int32)
    return made


class _Row(NamedTuple):
    """What became of a leaf."""

    name: str
    what: str  # copied, converted, initialized or dropped
    how: str


def load_state(
    tx: GradientTransformation,
    params: Params,
    saved: Any,
    *,
    on_missing: str = "error",
    on_extra: str = "error",
) -> tuple[State, Table]:
    """The state of `tx` for `params`, filled with what was saved, and a table of what became of each leaf.

    saved: of `state_dict`; or a whole state of ours or of optax's, as it is, as flax's msgpack or orbax restores it (a
        nest of dicts and lists). on_missing: "error", or "init" to start a leaf anew that nothing was saved for.
    on_extra: "error", or "drop" for saved leaves that the new state has no place for.
    params: those that are trained on, or `ShapeDtypeStruct`s; a leaf of the state is placed as its `init` places it.

    What is converted, and said so:
    * dtypes, to the new state's;
    * layers one by one ("layers/0/kernel", "layers_0/kernel") and stacked ("layers/kernel", one axis more in front);
    * a decaying sum of gradients (trace) and their mean (mu): trace = gain mu, gain = (1 - dampening) / (1 - decay);
    * what a schedule needs beside a state: the weight of a mean is 1 - b(0) … b(count - 1).
    Groups, masks, clips, schedules of the learning rate and wrappers need nothing: they do not change a name. Second
    moments go between methods that keep the mean of g**2 (Adam's kin); those of another meaning, and all else that
    has another name, are not carried over.

    Raises StateError, naming leaves, for missing and extra ones where not told otherwise, for a shape that fits in no
    such way, and for a dictionary of a later format.

    state, report = load_state(adamw(1e-3), params, saved, on_missing="init"); print(report)
    """
    name = "load_state"
    tx = errors.check_pair(name, "tx", tx)
    errors.check_choice(name, "on_missing", on_missing, ("error", "init"))
    errors.check_choice(name, "on_extra", on_extra, ("error", "drop"))
    source = _Saved(name, saved, params)
    abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params))
    made = tx.init(params)
    found, treedef = entries(tx, made, params)
    taken = [source.take(entry) for entry in found]
    taken = [
        _counted(entry, own, found, taken) if own is None or entry.role == "count" else own
        for entry, own in zip(found, taken, strict=True)
    ]
    rows: list[_Row] = []
    leaves, missing = [], []
    for entry, own in zip(found, taken, strict=True):
        if own is None:
            missing.append(entry.name)
            rows.append(_Row(entry.name, "initialized", "nothing that means the same was saved"))
            leaves.append(entry.value)
            continue
        value, how = own
        leaves.append(_as(entry.value, value))
        converted = [*how, *_casts(entry.value, value)]
        rows.append(_Row(entry.name, "converted" if converted else "copied", "; ".join(converted)))
    extra, needless = source.left()
    rows += [_Row(key, "dropped", "it is needed by schedules alone") for key in needless]
    rows += [_Row(key, "dropped", "the new state has no place for it") for key in extra]
    if missing and (on_missing == "error" or abstract):
        say(StateError, name, f"nothing was saved for {_some(missing)}", f"saved leaves {_some(source.names)}",
            "Pass on_missing='init' to start them anew, or the optimizer that the state was saved for"
            if not abstract else "Pass real parameters: what is started anew is made from them")  # fmt: skip
    if extra and on_extra == "error":
        say(StateError, name, f"the new state has no place for {_some(extra)}", None,
            "Pass on_extra='drop' to leave them out, or the optimizer that the state was saved for")  # fmt: skip
    table = Table(("leaf", "what", "how"), ("leaf", "what became of it", "how"), tuple(map(tuple, rows)))
    return treedef.unflatten(leaves), table


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


# ---- one leaf ---------------------------------------------------------------------------------------------


def _as(like: Any, value: Any) -> Any:
    """A saved value as the leaf that `init` made: its dtype, its place, a key again."""
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(value), impl=jax.random.key_impl(like))
    made = jnp.asarray(value).astype(tree.dtype_of(like))
    return made if isinstance(like, jax.ShapeDtypeStruct) else placement.placed_as(made, like)


def _casts(like: Any, value: Any) -> list[str]:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) or tree.dtype_of(value) == tree.dtype_of(like):
        return []
    return [f"{tree.dtype_of(value)} to {tree.dtype_of(like)}"]


Taken = tuple[Any, list[str]] | None  # a value and how it was come by; None if nothing was saved


def _counted(entry: Entry, own: Taken, found: Sequence[Entry], taken: Sequence[Taken]) -> Taken:
    """The count of a rule, by which it corrects its means: it fits what became of these.

    A mean that starts anew is corrected from step 0 on. One that was saved without a count is whole: it is to be
    corrected no more, as after many steps.
    """
    means = [other for e, other in zip(found, taken, strict=True) if e.rule == entry.rule and e.path is not None]
    if entry.role != "count" or not means:
        return own
    if any(other is None for other in means):
        anew = "from 0: means that start anew are corrected anew; warm the rate up, schedules.rewarm"
        return own if own is None else (np.zeros((), np.int32), [anew])
    hypers = {} if entry.reader is None else entry.reader.hypers
    decays = [float(b) for key, b in hypers.items() if key in DECAYS and isinstance(b, int | float) and 0 < b < 1]
    if own is not None or not decays:
        return own
    steps = min(math.ceil(10 / (1 - max(decays))), 10**6)
    return np.asarray(steps, np.int32), [f"{steps} steps, after which saved means are corrected no more"]


def _gain(entry: Entry) -> Any:
    """Of a decaying sum, over the mean: (1 - dampening) / (1 - decay); None if no rule of ours says its decay."""
    hypers = {} if entry.reader is None else entry.reader.hypers
    decay = next((hypers[key] for key in ("decay", "b1", "momentum") if key in hypers), None)
    if decay is None:
        return None
    count = jnp.zeros((), jnp.int32)
    dampening = value_at(hypers.get("dampening", 0.0), count)
    return (1 - dampening) / (1 - value_at(decay, count))


class _Saved:
    """What was saved, by name; each is taken at least once, or left."""

    def __init__(self, name: str, saved: Any, params: Params) -> None:
        flat = dict(saved) if isinstance(saved, Mapping) and VERSION in saved else _flat(saved, params)
        version = int(np.asarray(flat.pop(VERSION, FORMAT)))
        if version > FORMAT:
            say(StateError, name, f"the dictionary must be of format {FORMAT} or an earlier one", f"format {version}",
                "Update jaxopt_ko")  # fmt: skip
        self.who = name
        self.foreign = VERSION not in saved if isinstance(saved, Mapping) else True
        self.gains = {key.partition("/")[2]: flat.pop(key) for key in [k for k in flat if k.startswith(f"{GAIN}/")]}
        self.leaves = flat
        self.used: set[str] = set()

    @property
    def names(self) -> list[str]:
        """All of them."""
        return list(self.leaves)

    def left(self) -> tuple[list[str], list[str]]:
        """What has not been taken; and of that what is no loss: counts, and what schedules need beside a state."""
        left = [key for key in self.leaves if key not in self.used]
        needless = [key for key in left if re.fullmatch(r"count(\.\d+)?|gathered(\.\d+)?/.*", key)]
        return [key for key in left if key not in needless], needless

    def take(self, entry: Entry) -> Taken:
        """The value for a leaf and how it was come by; None if there is none."""
        for key, how in self._candidates(entry):
            made = self._of(key, entry, how)
            if made is not None:
                return made
        return self._weight(entry) if entry.role.startswith("gathered/") else None

    def _candidates(self, entry: Entry) -> Iterable[tuple[str, list[str]]]:
        """Names under which it may be, the likeliest first."""
        yield entry.name, []
        if entry.path is None and entry.again > 1:
            yield entry.role, []
        role, _, whose = entry.role.partition("@")
        if whose and self.foreign:  # there a name does not say whose it is
            yield Entry(role, entry.path, None, None, 0, entry.again).name, []
        if entry.path is None:
            return
        for other, word in ((SUM, MEAN), (MEAN, SUM)):
            if entry.role == word:
                yield Entry(other, entry.path, None, None, 0, entry.again).name, [other]

    def _of(self, key: str, entry: Entry, how: list[str]) -> tuple[Any, list[str]] | None:
        like = kept_as(entry.value) if not isinstance(entry.value, jax.ShapeDtypeStruct) else entry.value
        shape = np.shape(like)
        found = self._layers(key, shape)
        if found is None:
            return None
        value, used, said = found
        if np.shape(value) != shape:
            say(StateError, self.who, f"the leaf {entry.name!r} must have the shape {shape} of the new state",
                f"{key!r} of shape {np.shape(value)}",
                "Load it for parameters of the shapes that it was saved with")  # fmt: skip
        if is_complex(tree.dtype_of(value)) and not is_complex(tree.dtype_of(like)):
            say(StateError, self.who, f"the leaf {entry.name!r} is real, and what was saved is complex",
                errors.describe(value), "Load it for complex parameters")  # fmt: skip
        if how:
            value, said_ = self._scaled(value, entry, how[0])
            said = [*said, said_]
        self.used |= used
        return value, said

    def _scaled(self, value: Any, entry: Entry, source: str) -> tuple[Any, str]:
        """A decaying sum as a mean, or the other way; by the gain that was saved, or else by the new method's own."""
        gain = self.gains.get(SUM) if source == SUM else None
        if gain is None:
            gain = _gain(entry)
        if gain is None:
            gain = 1.0
        gain = float(np.asarray(gain))
        factor = 1 / gain if source == SUM else gain
        return np.asarray(value) * np.asarray(factor, np.asarray(value).dtype), f"{source} times {factor:.4g}"

    # ---- layers, one by one or stacked

    def _layers(self, key: str, shape: tuple[int, ...]) -> tuple[Any, set[str], list[str]] | None:
        """(value, names that it is made of, how it was come by) of a leaf that may be saved in another layout."""
        if key in self.leaves:
            return self.leaves[key], {key}, []
        parts = key.split("/")
        for i in range(1, len(parts)):  # it is a layer of a stack
            number = re.fullmatch(r"(?:(.*)_)?(\d+)", parts[i])
            if number is None:
                continue
            stem, index = number.groups()
            for whole in ([*parts[:i], *([stem] if stem else []), *parts[i + 1 :]],):
                stack = self.leaves.get("/".join(whole))
                if stack is not None and np.shape(stack)[1:] == shape and int(index) < np.shape(stack)[0]:
                    return stack[int(index)], {"/".join(whole)}, [f"layer {index} of {'/'.join(whole)!r}"]
        for i in range(1, len(parts) + 1):  # it is a stack of layers
            if not shape:
                break
            numbered = [
                [[*parts[:i], str(k), *parts[i:]] for k in range(shape[0])],
                [[*parts[: i - 1], f"{parts[i - 1]}_{k}", *parts[i:]] for k in range(shape[0])] if i > 1 else [],
            ]
            for names in (["/".join(one) for one in option] for option in numbered if option):
                if all(name in self.leaves and np.shape(self.leaves[name]) == shape[1:] for name in names):
                    stack = jnp.stack([jnp.asarray(self.leaves[name]) for name in names])
                    return stack, set(names), [f"{len(names)} layers, {names[0]!r} and so on, stacked"]
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


def _flat(saved: Any, params: Params) -> dict[str, Any]:
    """A nest of states, dicts and lists by name; the role of a tree like the parameters is the key that it is under."""
    of_params = {spelled(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]}
    deepest = max((path.count("/") + 1 for path in of_params if path), default=0)
    made: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(saved, is_leaf=lambda x: isinstance(x, str))[0]:
        parts = spelled(path).split("/")
        cut = next((n for n in range(min(deepest, len(parts) - 1), 0, -1) if "/".join(parts[-n:]) in of_params), 0)
        before = parts[: len(parts) - cut]
        words = [part for part in before if not part.isdigit()]
        role = words[-1] if words else ("value" if not cut else "")
        if cut == 0 and len(words) > 1 and words[-2] in ("hyperparams", "gathered", "hyperparams_states"):
            role = f"{words[-2]}/{words[-1]}"
        key = "/".join((role, *parts[len(parts) - cut :]))
        if key in made:
            if cut == 0 and same(made[key], leaf):
                continue
            seen[key] = seen.get(key, 1) + 1
            key = "/".join((f"{role}.{seen[key]}", *parts[len(parts) - cut :]))
        made[key] = leaf
    return made
