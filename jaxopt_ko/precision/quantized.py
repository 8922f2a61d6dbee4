"""The state of any method in 8 or 4 bits a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.method import method_of, with_record
from jaxopt_ko.core.numerics import is_complex, next_count, zero_count
from jaxopt_ko.core.quantizable import declared_by
from jaxopt_ko.core.rounding import leaf_key, round_stochastic, step_key
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tables import Table
from jaxopt_ko.core.transform import transform
from jaxopt_ko.core.tree_fields import is_any
from jaxopt_ko.errors import HyperparameterError, say
from jaxopt_ko.optimizers.matrix.roles import roles_of
from jaxopt_ko.precision.codecs import CODECS
from jaxopt_ko.precision.landing import key_of
from jaxopt_ko.precision.packed import bytes_of, is_packed, kind_of, pack, repack, unpack
from jaxopt_ko.types import GradientTransformation, GradientTransformationExtraArgs, Params, PyTree, State, Updates

HALF = "bfloat16"
WORTH = 0.75  # of its bytes: an array that would not become smaller than that stays as it is
At = tuple[Any, ...]  # the path of a leaf in a state


class QuantizedState(NamedTuple):
    """State of `quantized`."""

    inner_state: State  # of the inner transformation, with a node (codes, scales) for each array in few bits
    count: PyTree = ()  # int32[]      t, steps taken; nothing where codes are the nearest ones
    rng_key: PyTree = ()  # a PRNG key, always the same; nothing where codes are the nearest ones


class Quantized(GradientTransformationExtraArgs):
    """A transformation that can say how each leaf of its state is kept."""

    def __new__(cls, init: Any, update: Any, explain: Callable[..., Table]) -> Quantized:  # noqa: D102
        self = super().__new__(cls, init, update)
        self.explain = explain
        return self

    explain: Callable[..., Table]  # (params, **problem) -> leaf, array, how it is kept, bytes before and after


jax.tree_util.register_pytree_node(
    Quantized, lambda made: ((*made, made.explain), None), lambda _, parts: Quantized(*parts)
)


@options
def quantized(
    tx: GradientTransformation,
    codec: str = "companded8",
    *,
    rounding: str = "nearest",
    key: Array | int = 0,
    min_size: int = 4096,
    embeddings: bool = False,
) -> Quantized:
    """A transformation with its moments in 8 or 4 bits between two steps: a quarter or an eighth of the state's memory.

    For each block of B numbers x along a leaf's last axis, s = max |x|, n = x / s and an integer q stand for it:

    companded8  B = 64    m: q = rint(127 · 2 n / (1 + |n|)), read as n = y / (2 - |y|), y = q / 127
                          v: q = max(1, rint(255 sqrt(v) / s)) where v > 0, s the largest root
    dynamic8    B = 256   the nearest of 256 numbers, as many in each power of ten as bitsandbytes has
    four_bit    B = 128   the nearest of 16: m by three powers of ten, v by sixteenths, which has no 0
    fp8         B = 256   448 n, of v's root, as float8_e4m3
    bfloat16              no blocks: the upper half of float32, rounded at random alone

    m stands for fields of either sign, v for those that are never negative: the class of each state declares which of
    its fields are which (`quantizable`), and what is not declared stays as it is, as do counts, factored vectors, Gram
    matrices, bases and estimates of distances. At a step the moments are read in float32, the step is made with the new
    ones as they are, and these are written back. m is read as 0 where v is, so that no quotient is without bound; a
    coordinate without gradients never moves.

    tx: any transformation, alone or put together; optax's states of the same names count as declared.
    codec: one of these. companded8 and dynamic8 follow float32's AdamW closely; fp8 and four_bit are coarser. dynamic8
        may read a small square as 0, and is not for methods that divide gradients, rather than a mean, by an older root
        (adopt).
    rounding: "stochastic" writes the one or the other code beside a number, so that the mean is the number: slow means
        do not stall. Its bits come of `key`, the step and the leaf's path, on one device as on eight. bfloat16 wants
        it: rounded to nearest, a v that falls by a thousandth a step would never fall.
    key: a PRNG key or an integer seed >= 0, for "stochastic".
    min_size: leaves of fewer elements stay as they are; 0 takes all.
    embeddings: tables of vectors, as `roles_of` guesses them, too? Their rows come up so rarely that they are left in
        float32 otherwise.

    State: per parameter of a declared field 1.0625 bytes (companded8), 1.016 (dynamic8, fp8), 0.53 (four_bit) or 2, for
    AdamW 2.125 bytes in the place of 8; with "stochastic" a count and a key. `quantized(tx).explain(params)` shows leaf
    by leaf what is kept how. During a step each leaf's float32 copy lives while it is worked on; XLA decides how many
    do at a time, and on CPU it keeps all. `state_dict` and `load_state` read a float32 state as a packed one and back.

    A derivative of a training run, by the learning rate say, sees each step's own gradient and not the moments before.

    Raises HyperparameterError for an unknown codec or rounding, bfloat16 to nearest, or a negative min_size, and what
    `tx` raises. What is not finite in a block makes the block NaN when read: guard it with `apply_if_finite`.
    Source: Dettmers et al., arXiv:2110.02861, block-wise codes and the dynamic map; Li et al., arXiv:2309.01507, 4
    bits; arXiv:2602.23349, companding; here with float32 scales and a v that never becomes 0. Not for states below a
    hundred megabytes, where nothing is gained, and not for runs that are compared bit for bit with float32.

    >>> opt, params = jo.quantized(jo.adamw(1e-3), "companded8"), jnp.ones((64, 64))
    >>> state = opt.init(params)
    >>> table = opt.explain(params)
    """
    name = "quantized"
    errors.check_choice(name, "codec", codec, (*CODECS, HALF))
    start = key_of(name, rounding, key)
    _check_half(name, codec, rounding)
    errors.check_size(name, "min_size", min_size, least=0)
    pair = as_transformation(name, "tx", tx, lands=True)
    plan = _Plan(codec, min_size, embeddings)

    def init(params: Params, **problem: Any) -> QuantizedState:
        inner = plan.packed(pair.init(params, **problem), params)
        return QuantizedState(inner) if start is None else QuantizedState(inner, zero_count(), jnp.copy(start))

    def update(
        updates: Updates, state: QuantizedState, params: Params = None, **extra: Any
    ) -> tuple[Updates, QuantizedState]:
        now = None if start is None else step_key(state.rng_key, state.count)
        read = _read(state.inner_state, codec == HALF)
        steps, new = pair.update(updates, read, params, **extra)
        inner = _written(state.inner_state, read, new, now)
        return steps, QuantizedState(inner, *(() if now is None else (next_count(state.count), state.rng_key)))

    def explain(params: Params, **problem: Any) -> Table:
        return plan.explained(jax.eval_shape(lambda p: pair.init(p, **problem), params), params)

    method = method_of(pair)
    made = transform(f"quantized({method.name})", init, update, state_type=QuantizedState, any_leaf=True)
    return Quantized(*with_record(made, lands=method.lands), explain)


def dequantized(state: State) -> State:
    """A state with every array that `quantized` keeps in few bits read, as float32: to look at, or to go on without.

    x = s n(q) for each block of codes q with the scale s, as of `quantized`

    state: of `quantized`, or one with such a state somewhere in it. What a step would read as 0, a mean over a root of
    nothing, is 0 here, too. It is the state of the same transformation, and of `tx` alone where it is `inner_state`.

    Returns the state with float32 arrays: 4 bytes a number again. Raises nothing: a state without such arrays comes
    back as it is. Not for what is saved: `state_dict` keeps codes as they are.

    >>> opt = jo.quantized(jo.adamw(1e-3))
    >>> v = jo.tree.get(jo.dequantized(opt.init(jnp.ones((64, 64)))), "nu")
    >>> v.dtype.name
    'float32'
    """
    return _read(state)


def _check_half(name: str, codec: str, rounding: str) -> None:
    """Means in bfloat16 fall only where they are rounded at random."""
    if codec == HALF and rounding != "stochastic":
        say(HyperparameterError, name, "bfloat16 must be rounded at random, for to nearest a slow mean never falls",
            f"rounding={rounding!r}", 'Give rounding="stochastic"')  # fmt: skip


class _Plan(NamedTuple):
    """Which leaves of a state are to be kept in few bits."""

    codec: str
    min_size: int
    embeddings: bool

    def packed(self, state: State, params: Params) -> State:
        """The state, with a node for each of these."""
        tables = self._tables(params)

        def leaf(path: At, own: At, x: Any, signed: bool | None) -> Any:
            if signed is None or self._why_not(x, own, tables):
                return x
            if self.codec == HALF:
                return jnp.asarray(x).astype(jnp.bfloat16)
            # Else XLA packs the zeros while it compiles: 3 s a million.
            x = jax.lax.optimization_barrier(jnp.asarray(x))  # type: ignore[no-untyped-call]
            return pack(kind_of(self.codec, signed, np.shape(x)), x)

        return _mapped(leaf, state)

    def explained(self, state: State, params: Params) -> Table:
        """The same in words, of abstract leaves."""
        tables = self._tables(params)
        rows: list[tuple[str, ...]] = []
        sums = [0, 0]

        def leaf(path: At, own: At, x: Any, signed: bool | None) -> Any:
            why = "not declared" if signed is None else self._why_not(x, own, tables)
            before = int(np.size(x)) * _itemsize(x)
            after = before if why else self._bytes(x)
            kept = f"as it is: {why}" if why else f"{self.codec}, {'signed' if signed else 'nonnegative'}"
            if not np.shape(x):
                kept = "as it is: one number"
            rows.append((jax.tree_util.keystr(path), errors.describe(x), kept, f"{before:,}", f"{after:,}"))
            sums[0], sums[1] = sums[0] + before, sums[1] + after
            return x

        _mapped(leaf, state)
        rows.append(("(all)", "", f"{sums[1] / max(sums[0], 1):.1%} of the bytes", f"{sums[0]:,}", f"{sums[1]:,}"))
        return Table(
            ("leaf", "array", "kept", "before", "after"), ("leaf", "array", "kept", "bytes", "packed"), tuple(rows)
        )

    def _tables(self, params: Params) -> frozenset[str]:
        """The paths of embeddings."""
        if self.embeddings or is_any(params):
            return frozenset()
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
        roles = roles_of(params)
        return frozenset(path for path, leaf in zip(paths, roles, strict=True) if leaf.role == "embedding")

    def _why_not(self, x: Any, own: At, tables: frozenset[str]) -> str:
        """Why a declared leaf stays as it is; empty if it does not."""
        shape = np.shape(x)
        if not tree.is_floating(x) or is_complex(tree.dtype_of(x)):
            return "no real number"
        if not shape or np.size(x) < max(self.min_size, 1):
            return f"fewer than {self.min_size} elements"
        if jax.tree_util.keystr(own) in tables:
            return "an embedding"
        if self._bytes(x) >= WORTH * np.size(x) * _itemsize(x):
            return "it would hardly be smaller" if self.codec == HALF else "its rows are shorter than their scales"
        return ""

    def _bytes(self, x: Any) -> int:
        """Of an array, as it is to be kept."""
        return 2 * int(np.size(x)) if self.codec == HALF else bytes_of(self.codec, np.shape(x))


def _itemsize(x: Any) -> int:
    dtype = tree.dtype_of(x)
    return 8 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else int(np.dtype(dtype).itemsize)


# ---- states as they are and in few bits -------------------------------------------------------------------


def _mapped(leaf: Callable[[At, At, Any, bool | None], Any], state: State, above: At = ()) -> State:
    """leaf(path, path in its field, array, of either sign?) of each array of a state; None: it is not declared."""

    def node(path: At, x: Any) -> Any:
        told = declared_by(x)
        if told is None:
            return leaf(path, (), x, None)
        made = {}
        for field in x._fields:
            at, value = (*path, jax.tree_util.GetAttrKey(field)), getattr(x, field)
            if field in told.fields:
                signed = field in told.signed
                made[field] = jax.tree_util.tree_map_with_path(
                    lambda own, y, at=at, signed=signed: leaf((*at, *own), own, y, signed), value
                )
            else:
                made[field] = _mapped(leaf, value, at)
        return x._replace(**made)

    return jax.tree_util.tree_map_with_path(
        lambda path, x: node((*above, *path), x), state, is_leaf=lambda x: declared_by(x) is not None
    )


def _read(state: State, halves: bool = True) -> State:
    """A state with its nodes read, in float32; what is to be divided is 0 where its divisor is. halves: so are the
    declared arrays in bfloat16."""

    def node(x: Any) -> Any:
        if is_packed(x):
            return unpack(x)
        told = declared_by(x)
        if told is None:
            return x
        made: dict[str, Any] = {field: _read(getattr(x, field), halves) for field in x._fields}
        if halves:
            made |= {field: jax.tree.map(_whole, made[field]) for field in told.fields}
        for field in told.divided:
            v = getattr(x, str(told.divisor))
            made[field] = jax.tree.map(_divided, v, made[str(told.divisor)], made[field], is_leaf=is_packed)
        return x._replace(**made)

    return jax.tree.map(node, state, is_leaf=lambda x: is_packed(x) or declared_by(x) is not None)


def _whole(x: Any) -> Any:
    return x.astype(jnp.float32) if getattr(x, "dtype", None) == jnp.bfloat16 else x


def _divided(v: Any, v_read: Any, m: Any) -> Any:
    """A mean that is to be divided by the root of another, where that was kept in few bits."""
    return _zero_with(m, v_read) if is_packed(v) else m


@jax.jit
def _zero_with(m: Array, v: Array) -> Array:
    return jnp.where(v == 0, jnp.zeros_like(m), m)


def _written(old: State, read: State, new: State, key: Array | None) -> State:
    """A state with the nodes that an older one has, which was read as `read`."""

    def leaf(path: At, was: Any, before: Any, now: Any) -> Any:
        if before is was:  # it was not read, and is kept as it is
            return now
        if now is before:
            return was
        own = None if key is None else leaf_key(key, jax.tree_util.keystr(path))
        if is_packed(was):
            return repack(was, before, now, own)
        return now if own is None or was.dtype == now.dtype else round_stochastic(now, was.dtype, own)

    return jax.tree_util.tree_map_with_path(leaf, old, read, new, is_leaf=is_packed)
