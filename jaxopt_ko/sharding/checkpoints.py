"""States by name, and back: from another chain, another optimizer, another library, another layout of the layers.

state_dict makes a flat dictionary that orbax or flax stores; load_state finds for each leaf of the new optimizer's
state the named one that means the same, and says of every leaf what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.tables import Table
from jaxopt_ko.errors import StateError, say
from jaxopt_ko.precision.masters import in_units_of
from jaxopt_ko.precision.packed import is_packed, pack, unpack
from jaxopt_ko.sharding.named import SUM, entries, kept_as, packed_part, same
from jaxopt_ko.sharding.restarts import restarted
from jaxopt_ko.sharding.saved import FORMAT, GAIN, VERSION, Saved, gain_of, leaves_like
from jaxopt_ko.types import GradientTransformation, Params, State

SHOWN = 6  # names in a message


def state_dict(tx: GradientTransformation, state: State, params: Params) -> dict[str, Any]:
    """The leaves of a state by name, to be stored: {"mu/layers/0/kernel": array, …, "count": array, "__format__": 1}.

    tx: the optimizer that the state is of; a foreign (optax) one is welcome.
    state: its state, of arrays; one in the containers of another library or of a file will do.
    params: the parameters that the state is for; they may be abstract.

    A name is the role (mu: mean of g; nu: mean of g**2; trace: decaying sum of g; …) and the path of the parameter,
    not a place in a chain: a clip more, a group more or less changes no name. A role that has another meaning than its
    name has elsewhere says whose it is: "nu@adabelief". Numbers that are all equal are there once ("count"); others are
    told apart in the order of the state ("count", "count.2"). PRNG keys are the numbers in them
    (`jax.random.key_data`). "__gain__/trace" says by how much a decaying sum is larger than the mean of the gradients.

    Returns a flat dictionary of arrays, as orbax and flax store it; the way back is `load_state`. Raises StateError if
    the state is not what tx.init(params) makes, TransformationError if tx is no transformation. Not for parameters.

    >>> tx, params = jo.adam(1e-3), {"w": jnp.ones(2)}
    >>> sorted(jo.state_dict(tx, tx.init(params), params))
    ['__format__', 'count', 'mu/w', 'nu/w']
    """
    tx = errors.check_pair("state_dict", "tx", tx, lands=True)
    state = _of_tx("state_dict", tx, state, params)
    found, _ = entries(tx, state, params)
    made: dict[str, Any] = {}
    first = {entry.role: kept_as(entry.value) for entry in found if entry.path is None and entry.again == 1}
    for entry in found:
        value = kept_as(entry.value)
        if not np.size(value):  # nothing to keep, and orbax refuses to
            continue
        if entry.again > 1 and entry.path is None and same(first[entry.role], value):
            continue
        made[entry.name] = value
        if entry.role == SUM and (gain := gain_of(entry)) is not None:
            shared = made.setdefault(f"{GAIN}/{SUM}", gain)
            if shared is not gain and not same(shared, gain):
                part = packed_part(entry.name)
                made[f"{GAIN}/{entry.name if part is None else part[0]}"] = gain
    made[VERSION] = np.asarray(FORMAT, np.int32)
    return made


def _of_tx(name: str, tx: GradientTransformation, state: State, params: Params) -> State:
    """The state in the containers that init makes, where that can be asked; refused if it is another one's."""
    try:
        like: Any = jax.eval_shape(tx.init, params)
    except Exception:  # it has to be told its problem, or to see values
        return state
    leaves = leaves_like(like, state)
    if leaves is None:
        say(StateError, name, "the state is not what tx.init(params) makes", errors.describe(state),
            "Pass the transformation and the parameters that it is of; load_state takes states of others")  # fmt: skip
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


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

    tx: the optimizer to go on with, another one than the saved state's if need be.
    params: those that are trained on, or `ShapeDtypeStruct`s; a leaf of the state is placed as its `init` places it.
    saved: of `state_dict`; or a whole state of ours or of optax's, as it is, as flax's msgpack or orbax restores it (a
        nest of dicts and lists).
    on_missing: "error", or "init" to start a leaf anew that nothing was saved for.
    on_extra: "error", or "drop" for saved leaves that the new state has no place for.

    What is converted, and said so:
    * dtypes, to the new state's; arrays in few bits, those of `quantized`, to float32, to other codes, and back;
    * layers one by one ("layers/0/kernel", "layers_0/kernel") and stacked ("layers/kernel", one axis more in front);
    * a decaying sum of gradients (trace) and their mean (mu, ema): trace = gain mu, gain = (1 - dampening) / (1 - b);
    * what a schedule needs beside a state: the weight of a mean is 1 - b(0) … b(count - 1).
    Groups, masks, clips, schedules of the learning rate and wrappers need nothing: they do not change a name. Second
    moments go between methods that keep the mean of g**2 (Adam's kin); those of another meaning, and all else that
    has another name, are not carried over. Decays are the new optimizer's: give it those that the state was made with.

    The count of a rule, by which it corrects its means, is the saved one if all that they are divided by was carried
    over, and a large one if that was saved without a count. If a second moment starts anew,
    * beside a mean that was carried over, it is the square of that mean, and the rule goes on as after its first step,
      as if the first gradient had been the mean: no step is longer than a new run's;
    * for some parameters only, new ones, the means of the others take the weight that they have after 1 / (1 - b1)
      steps, mu_c = mu (1 - b1**c) / (1 - b1**count), and c is the count;
    * else the means of that rule start anew with it, from step 0.
    Then the first steps are as noisy as a new run's: warm the rate up with `schedules.rewarm`.

    Raises StateError, naming leaves, for missing and extra ones where not told otherwise, for a shape that fits in no
    such way, and for a dictionary of a later format; HyperparameterError for another on_missing or on_extra. Not for
    a state of the same optimizer as it was saved, which needs no conversion.

    >>> old, tx, params = jo.adam(1e-3), jo.adamw(1e-3), {"w": jnp.ones(2)}
    >>> saved = jo.state_dict(old, old.init(params), params)
    >>> state, report = jo.load_state(tx, params, saved)
    """
    name = "load_state"
    tx = errors.check_pair(name, "tx", tx, lands=True)
    errors.check_choice(name, "on_missing", on_missing, ("error", "init"))
    errors.check_choice(name, "on_extra", on_extra, ("error", "drop"))
    abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params))
    made = _made(tx, params, abstract)
    found, _ = entries(tx, _read(made), params)
    nodes = jax.tree.leaves(made, is_leaf=is_packed)  # of the same order
    source = Saved(name, saved, params, entries(tx, made, params)[0], made)
    plain = [source.take(entry) for entry in found]
    taken, notes = restarted(found, plain, source)
    rows: list[_Row] = []
    leaves, given = [], set[int]()
    missing = [
        e.name for e, a, b in zip(found, plain, taken, strict=True) if b is None or (a is None and e.path is not None)
    ]
    for i, (entry, own, node) in enumerate(zip(found, taken, nodes, strict=True)):
        if own is None:
            rows.append(_Row(entry.name, "initialized", notes.get(i, "nothing that means the same was saved")))
            leaves.append(node)
            continue
        value, how = own
        as_saved = None if how else source.packed_as(entry)
        if is_packed(node) or as_saved is not None:
            value, cast = _packed_as(node, value, as_saved)
        else:
            cast = _casts(entry.value, value)
            value = _as(entry.value, _apart(value, given))
        leaves.append(value)
        converted = [*how, *cast]
        rows.append(_Row(entry.name, "converted" if converted else "copied", "; ".join(converted)))
    extra, needless = source.left()
    rows += [_Row(key, "dropped", "it is needed by schedules alone") for key in needless]
    rows += [_Row(key, "dropped", "the new state has no place for it") for key in extra]
    if missing and (on_missing == "error" or abstract):
        got = f"saved leaves {_some(source.names) or 'none'}"
        say(StateError, name, f"nothing was saved for {_some(missing)}", got,
            "Pass on_missing='init' to start them anew, or the optimizer that the state was saved for"
            if not abstract else "Pass real parameters: what is started anew is made from them")  # fmt: skip
    if extra and on_extra == "error":
        say(StateError, name, f"the new state has no place for {_some(extra)}", None,
            "Pass on_extra='drop' to leave them out, or the optimizer that the state was saved for")  # fmt: skip
    table = Table(("leaf", "what", "how"), ("leaf", "what became of it", "how"), tuple(map(tuple, rows)))
    return jax.tree.unflatten(jax.tree.structure(made), jax.tree.leaves(leaves)), table


def _made(tx: GradientTransformation, params: Params, abstract: bool) -> Any:
    """What init makes; abstract where it looks at values that there are not."""
    try:
        return tx.init(params)
    except Exception:
        if not abstract:
            raise
        return jax.eval_shape(tx.init, params)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


# ---- one leaf ---------------------------------------------------------------------------------------------


def _as(like: Any, value: Any) -> Any:
    """A saved value as the leaf that `init` made: its dtype, its place, a key again."""
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(value), impl=jax.random.key_impl(like))
    made = in_units_of(tree.dtype_of(like), jnp.asarray(value)).astype(tree.dtype_of(like))
    return made if isinstance(like, jax.ShapeDtypeStruct) else placement.placed_as(made, like)


def _apart(value: Any, given: set[int]) -> Any:
    """A saved array that has become a leaf already (counts that are equal are saved once) as a copy: leaves that share
    memory cannot be donated. given: the ids so far, to which its own is added."""
    again = isinstance(value, jax.Array) and id(value) in given
    given.add(id(value))
    return jnp.copy(value) if again else value


def _read(made: Any) -> Any:
    """A state with an array for each that is in few bits; abstract ones for abstract ones."""

    def read(x: Any) -> Any:
        if not is_packed(x):
            return x
        return jax.eval_shape(unpack, x) if isinstance(x.codes, jax.ShapeDtypeStruct) else unpack(x)

    return jax.tree.map(read, made, is_leaf=is_packed)


def _packed_as(like: Any, value: Any, saved: Any) -> tuple[Any, list[str]]:
    """A saved value as the leaf that `init` made, where one of them is in few bits, and what was converted; saved: the
    array in few bits that it was, if so."""
    before, after = (_codec_of(x) for x in (value if saved is None else saved, like))
    if type(saved) is type(like):
        placed = [_as(a, b) for a, b in zip(like, saved, strict=True)]
        return type(like)(*placed), []
    if not is_packed(like):
        return _as(like, value), [f"{before} to {after}"]
    made = pack(type(like), jnp.asarray(value))
    return type(like)(*(_as(a, b) for a, b in zip(like, made, strict=True))), [f"{before} to {after}"]


def _codec_of(x: Any) -> str:
    return str(x.codec.name if is_packed(x) else tree.dtype_of(x))


def _casts(like: Any, value: Any) -> list[str]:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) or tree.dtype_of(value) == tree.dtype_of(like):
        return []
    return [f"{tree.dtype_of(value)} to {tree.dtype_of(like)}"]
