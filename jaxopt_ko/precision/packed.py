"""An array in few bits: codes of the array's own shape, and one scale for each block along its last axis.

So codes are sharded, stacked and mapped as the array is, and a checkpoint knows nothing of the mesh it was written on.
The class of a node is its codec: NamedTuples are what every format of files can hold.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding

from jaxopt_ko.core import placement
from jaxopt_ko.precision import codecs
from jaxopt_ko.precision.codecs import Codec


class Packed(NamedTuple):
    """An array in few bits; each codec has a class of its own."""

    codes: Array  # int8 or uint8[…, n]; of 4 bits uint8[…, ceil(n / 2)], the earlier one in the upper half
    scales: Array  # float32[…, ceil(n / B)], the largest |x|, or root, of each block of B


class Companded8(Packed):
    """Of numbers of either sign."""

    __slots__ = ()
    codec: ClassVar[Codec] = codecs.COMPANDED8


class Companded8Nonnegative(Packed):
    """Of numbers >= 0, and so on."""

    __slots__ = ()
    codec: ClassVar[Codec] = codecs.COMPANDED8_NONNEGATIVE


class Dynamic8(Packed):  # noqa: D101
    __slots__ = ()
    codec: ClassVar[Codec] = codecs.DYNAMIC8


class Dynamic8Nonnegative(Packed):  # noqa: D101
    __slots__ = ()
    codec: ClassVar[Codec] = codecs.DYNAMIC8_NONNEGATIVE


class Fp8(Packed):  # noqa: D101
    __slots__ = ()
    codec: ClassVar[Codec] = codecs.FP8


class Fp8Nonnegative(Packed):  # noqa: D101
    __slots__ = ()
    codec: ClassVar[Codec] = codecs.FP8_NONNEGATIVE


class FourBit(Packed):  # noqa: D101
    __slots__ = ()
    codec: ClassVar[Codec] = codecs.FOUR_BIT


class FourBitNonnegative(Packed):  # noqa: D101
    __slots__ = ()
    codec: ClassVar[Codec] = codecs.FOUR_BIT_NONNEGATIVE


class FourBitOdd(FourBit):
    """Of an odd number of columns: the last half byte is none of them."""

    __slots__ = ()


class FourBitNonnegativeOdd(FourBitNonnegative):  # noqa: D101
    __slots__ = ()


KINDS = (
    Companded8, Companded8Nonnegative, Dynamic8, Dynamic8Nonnegative, Fp8, Fp8Nonnegative, FourBit, FourBitNonnegative,
    FourBitOdd, FourBitNonnegativeOdd,
)  # fmt: skip
ODD = (FourBitOdd, FourBitNonnegativeOdd)
Kind = Any  # one of KINDS


def is_packed(x: Any) -> bool:
    """For `is_leaf`: is it an array in few bits?"""
    return isinstance(x, Packed)


def kind_of(codec: str, signed: bool, shape: tuple[int, ...]) -> Kind:
    """The class for an array of this shape."""
    odd = codec == "four_bit" and shape[-1] % 2 == 1
    return next(kind for kind in KINDS if (kind.codec.name, kind.codec.signed, kind in ODD) == (codec, signed, odd))


def bytes_of(codec: str, shape: tuple[int, ...]) -> int:
    """Of codes and scales, for an array of this shape."""
    own = kind_of(codec, True, shape).codec
    rows, n = int(np.prod(shape[:-1], dtype=np.int64)), shape[-1]
    return int(rows * (-(-n * own.bits // 8) + 4 * -(-n // own.block)))


def shape_of(packed: Any) -> tuple[int, ...]:
    """Of the array that it stands for."""
    *front, n = np.shape(packed.codes)
    if packed.codec.bits == 4:
        n = 2 * n - isinstance(packed, ODD)
    return (*front, n)


def pack(kind: Kind, x: Array, key: Array | None = None) -> Any:
    """An array, float[…, n] with n > 0, in few bits; key: one PRNG key for codes at random, None to nearest."""
    codes, scales = codecs.coded(kind.codec, _in_blocks(x, kind.codec.block), key)
    codes = _joined(codes, x)
    return kind(_two_to_a_byte(codes) if kind.codec.bits == 4 else codes, scales)


def repack(old: Any, read: Array, x: Array, key: Array | None = None) -> Any:
    """What `old`, read as `read`, becomes where the array is x now: a block that is as it was keeps its codes."""
    new = pack(type(old), x, key)
    return new if type(old).codec.exact else _kept_where(old, new, read, x)


@jax.jit
def _kept_where(old: Any, new: Any, read: Array, x: Array) -> Any:
    block = type(old).codec.block
    same = ~jnp.any(_in_blocks(read != x, block), axis=-1)  # what fills up the last block is as it was
    per_byte = block // 2 if type(old).codec.bits == 4 else block
    each = jnp.broadcast_to(same[..., None], (*same.shape, min(per_byte, old.codes.shape[-1])))
    codes = jnp.where(_joined(each, old.codes), old.codes, new.codes)
    return type(old)(codes, jnp.where(same, old.scales, new.scales))


def unpack(packed: Any) -> Array:
    """The array that it stands for, float32[…, n]."""
    codes = packed.codes
    if packed.codec.bits == 4:
        codes = jnp.stack([codes >> np.uint8(4), codes & np.uint8(15)], axis=-1)
        codes = _lined(codes)[..., : shape_of(packed)[-1]]
    blocks = _in_blocks(codes, packed.codec.block)
    return _joined(codecs.decoded(packed.codec, blocks, packed.scales), codes)


# ---- blocks -----------------------------------------------------------------------------------------------


def _in_blocks(x: Array, block: int) -> Array:
    """[…, n] as […, k, B], the last block filled up with zeros; B = n where that is less."""
    n = x.shape[-1]
    B = min(block, n)
    x, behind = _cut_by_blocks(x, -(-n // B), n % B == 0)
    if n % B:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -n % B)])
    return jax.lax.reshape(x, (*x.shape[:-1], -(-n // B), B), out_sharding=behind)


def _cut_by_blocks(x: Array, count: int, full: bool) -> tuple[Array, NamedSharding | None]:
    """An array that can be cut into blocks, whole along its last axis unless every device has whole blocks of it; and
    on explicit axes the sharding of these."""
    given = placement.explicit_sharding(x)
    if given is None:
        return x, None
    *front, last = placement.axes_of(given, x.ndim)
    if not full or count % int(np.prod([given.mesh.shape[axis] for axis in last])):
        last = ()
        x = placement.resharded(x, NamedSharding(given.mesh, placement.spec_of([*front, ()])))
    return x, NamedSharding(given.mesh, placement.spec_of([*front, last, ()]))


def _joined(blocks: Array, like: Array) -> Array:
    """The way back to the shape of `like`, and to its place."""
    made: Array = placement.typed_as(_lined(blocks)[..., : like.shape[-1]], like)
    return made


def _lined(x: Array) -> Array:
    """The last two axes as one."""
    given, behind = placement.explicit_sharding(x), None
    if given is not None:
        *front, last, _ = placement.axes_of(given, x.ndim)
        behind = NamedSharding(given.mesh, placement.spec_of([*front, last]))
    return jax.lax.reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]), out_sharding=behind)


def _two_to_a_byte(codes: Array) -> Array:
    """Codes below 16, [..., n] with n > 1, two to a byte."""
    pairs = _in_blocks(codes, 2)
    return pairs[..., 0] << np.uint8(4) | pairs[..., 1]
