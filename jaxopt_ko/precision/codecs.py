"""Numbers between -1 and 1, or 0 and 1, as one of 256 or 16 codes, and back.

A codec is a rising row of numbers, one for each code. Written to nearest, a number becomes the code beside it; written
at random it becomes one of the two that it lies between, so that its mean is the number itself.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import placement

CODECS = ("companded8", "dynamic8", "four_bit", "fp8")


@dataclasses.dataclass(frozen=True)
class Codec:
    """How the numbers of a block are coded, once they are divided by its largest."""

    name: str
    signed: bool  # from -1 to 1; else from 0 to 1
    block: int  # how many share a scale
    bits: int  # 8 or 4
    nearest: Callable[[Array], Array]  # the code beside a number
    below: Callable[[Array], Array]  # the largest code whose number is not above it, but for the last
    number: Callable[[Array], Array]  # of a code, float32
    rooted: bool = False  # are roots coded, which have half the range?
    exact: bool = True  # is what was read written as the same codes?

    def at_random(self, n: Array, key: Array) -> Array:
        """The code below a number (a root, where roots are coded) or the next one: the number is their mean.

        A number that is that of a code, but for its rounding in float32, gets this one.
        """
        low = self.below(n)
        a, b = self.number(low), self.number(low + low.dtype.type(1))
        chance = (n - a) / (b - a) * 2**16
        chance = jnp.where(chance < 4, 0, jnp.where(chance > 2**16 - 4, 2**16, chance))
        up = jax.random.bits(key, n.shape, jnp.uint16).astype(jnp.float32) < chance
        return jnp.where(up, low + low.dtype.type(1), low)


# ---- companded8 -------------------------------------------------------------------------------------------

M, V = 127, 255  # the largest codes


def _companded(n: Array) -> Array:
    """y = 127 · 2 n / (1 + |n|): finer near 0, where most of a mean of gradients is."""
    return M * 2 * n / (1 + jnp.abs(n))


def _expanded(q: Array) -> Array:
    """The other way: n = y / (2 - |y|)."""
    y = _share(q.astype(jnp.float32), M)
    return y / (2 - jnp.abs(y))


def _share(x: Array, most: float) -> Array:
    """x / most, and 1 of all of it: XLA multiplies by 1 / most, which is another number."""
    return jnp.where(jnp.abs(x) == most, jnp.sign(x), x / most)


def _positive(q: Array, n: Array, most: int) -> Array:
    """Codes from 1 on where a number is above 0: it is never read as 0."""
    return jnp.where(n > 0, jnp.clip(q, 1, most), 0).astype(jnp.uint8)


COMPANDED8 = Codec(
    "companded8", True, 64, 8,
    nearest=lambda n: jnp.rint(_companded(n)).astype(jnp.int8),
    below=lambda n: jnp.clip(jnp.floor(_companded(n)), -M, M - 1).astype(jnp.int8),
    number=_expanded,
)  # fmt: skip
COMPANDED8_NONNEGATIVE = Codec(
    "companded8", False, 64, 8,
    nearest=lambda n: _positive(jnp.rint(V * n), n, V),
    below=lambda n: _positive(jnp.floor(V * n), n, V - 1),
    number=lambda q: _share(q.astype(jnp.float32), V),
    rooted=True,
)  # fmt: skip


# ---- rows of numbers --------------------------------------------------------------------------------------


def dynamic_row(signed: bool, exponents: int, bits: int) -> np.ndarray[Any, Any]:
    """The dynamic tree of Dettmers, arXiv:1511.04561, section 2.2.4, as bitsandbytes and torchao have it: for each
    power of ten the middles of equal parts of [0.1, 1], twice as many for each larger power; 0, and 1."""
    parts = [2 ** (i + bits - 1 - exponents) * (1 if signed else 2) for i in range(exponents)]
    tens = [np.float32(10.0 ** (i - exponents + 1)) for i in range(exponents)]
    positive = np.concatenate([ten * _middles(count) for ten, count in zip(tens, parts, strict=True)])
    row = [*positive, *(-positive if signed else []), 0.0, 1.0]
    return np.sort(np.asarray(row, np.float32))


def _middles(count: int) -> np.ndarray[Any, Any]:
    """Of equal parts of [0.1, 1], in float32; ends are counted from the nearer side, as torch.linspace does."""
    low, high = np.float32(0.1), np.float32(1)
    part = np.float64((high - low) / np.float32(count))
    i = np.arange(count + 1)
    ends = np.where(i < (count + 1) // 2, np.float64(low) + part * i, np.float64(high) - part * (count - i))
    ends = ends.astype(np.float32)
    middles: np.ndarray[Any, Any] = (ends[1:] + ends[:-1]) / np.float32(2)
    return middles


def _row_codec(name: str, signed: bool, block: int, bits: int, row: np.ndarray[Any, Any]) -> Codec:
    """A codec that looks its numbers up. A row without -1 may read the largest of a block as less than it was."""
    first = _first_of_each(row)

    def number(q: Array) -> Array:
        return _looked_up(row, q)

    return Codec(
        name, signed, block, bits, exact=not signed, number=number,
        nearest=lambda n: _place(first, n, bits),
        below=lambda n: jnp.minimum(_place(row[1:], n, bits), np.uint8(len(row) - 2)),
    )  # fmt: skip


def _first_of_each(row: np.ndarray[Any, Any]) -> Any:
    """The least float32 that is nearer to each number than to the one before, or as near: a tie goes up, as torchao
    has it, by differences in float32."""
    a, b = row[:-1], row[1:]
    least = np.nextafter((a + b) / 2, np.float32(-2))
    for _ in range(8):
        least = np.where(least - a >= (b - a) * np.float32(0.5), np.nextafter(least, np.float32(-2)), least)
    for _ in range(16):
        least = np.where(least - a >= (b - a) * np.float32(0.5), least, np.nextafter(least, np.float32(2)))
    return least


def _place(steps: np.ndarray[Any, Any], n: Array, bits: int) -> Array:
    """How many of a rising row are not above n, uint8: by halves, or by all at once where they are few."""
    if bits == 4:
        return sum(((n >= step).astype(jnp.uint8) for step in steps), start=jnp.zeros_like(n, jnp.uint8))
    q = jnp.zeros_like(n, jnp.uint8)
    for half in (2**bit for bit in reversed(range(bits))):
        q = jnp.where(_looked_up(steps, q + np.uint8(half - 1)) <= n, q + np.uint8(half), q)
    return q


def _looked_up(row: np.ndarray[Any, Any], q: Array) -> Array:
    """row[q]"""
    if len(row) <= 16:
        return sum(
            (jnp.where(q == i, x, np.float32(0)) for i, x in enumerate(row)), start=jnp.zeros_like(q, jnp.float32)
        )
    numbers, place, given = jnp.asarray(row), q.astype(jnp.int32), placement.explicit_sharding(q)
    return numbers[place] if given is None else numbers.at[place].get(out_sharding=given)


DYNAMIC8 = _row_codec("dynamic8", True, 256, 8, dynamic_row(True, 7, 8))
DYNAMIC8_NONNEGATIVE = _row_codec("dynamic8", False, 256, 8, dynamic_row(False, 7, 8))
FOUR_BIT = _row_codec("four_bit", True, 128, 4, dynamic_row(True, 3, 4))
FOUR_BIT_NONNEGATIVE = _row_codec(  # without a 0: arXiv:2309.01507, section 4.1
    "four_bit", False, 128, 4, np.linspace(0, 1, 17)[1:].astype(np.float32)
)


# ---- fp8 --------------------------------------------------------------------------------------------------

LARGEST = 448.0  # of e4m3; its code is 126


def _bits(n: Array) -> Array:
    """The nearest float8_e4m3fn of 448 n, as its bits: files know uint8 better."""
    bits: Array = jax.lax.bitcast_convert_type((LARGEST * n).astype(jnp.float8_e4m3fn), jnp.uint8)
    return bits


def _of_bits(q: Array) -> Array:
    return _share(jax.lax.bitcast_convert_type(q.astype(jnp.uint8), jnp.float8_e4m3fn).astype(jnp.float32), LARGEST)


def _towards_zero(n: Array) -> Array:
    """The bits of |448 n|, rounded down."""
    q = _bits(jnp.abs(n))
    return jnp.minimum(jnp.where(_of_bits(q) > jnp.abs(n), q - np.uint8(1), q), np.uint8(125))


@dataclasses.dataclass(frozen=True)
class _SignedFloat(Codec):
    """Codes are a sign and a length: the next one is away from 0 on either side."""

    def at_random(self, n: Array, key: Array) -> Array:
        """The length at random; then its sign."""
        length = Codec.at_random(self, jnp.abs(n), key)
        return jnp.where(n < 0, length | np.uint8(128), length)


FP8 = _SignedFloat("fp8", True, 256, 8, nearest=_bits, below=_towards_zero, number=_of_bits)
FP8_NONNEGATIVE = Codec(
    "fp8", False, 256, 8,
    nearest=lambda n: _positive(_bits(n), n, 126), below=lambda n: _positive(_towards_zero(n), n, 125), number=_of_bits,
    rooted=True,
)  # fmt: skip


# ---- arrays -----------------------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="codec")
def coded(codec: Codec, x: Array, key: Array | None) -> tuple[Array, Array]:
    """(codes, scales) of blocks x, float[…, k, B]: codes of their shape, scales float32[…, k].

    key: one PRNG key for codes at random, None to nearest. A block with what is not finite is read as NaN. Codes are
    whole numbers, and no derivative goes through them.
    """
    x = jax.lax.stop_gradient(x).astype(jnp.float32)
    x = jnp.sqrt(jnp.maximum(x, 0)) if codec.rooted else x
    s = jnp.max(jnp.abs(x), axis=-1)
    n = x / jnp.where(s > 0, s, 1)[..., None]
    return codec.nearest(n) if key is None else codec.at_random(n, key), s


@functools.partial(jax.jit, static_argnames="codec")
def decoded(codec: Codec, codes: Array, s: Array) -> Array:
    """What blocks of codes with these scales stand for, float32[…, k, B]."""
    x = codec.number(codes) * s[..., None]
    return x * x if codec.rooted else x
