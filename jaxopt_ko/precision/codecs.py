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
    dtype: Any  # of the codes
    nearest: Callable[[Array], Array]  # the code beside a number
    below: Callable[[Array], Array]  # the largest code whose number is not above it, but for the last
    number: Callable[[Array], Array]  # of a code, float32
    rooted: bool = False  # are roots coded, which have half the range?

    def at_random(self, n: Array, key: Array) -> Array:
        """The code below a number (a root, where roots are coded) or the next one: the number is their mean."""
        low = self.below(n)
        a, b = self.number(low), self.number(low + low.dtype.type(1))
        chance = (n - a) / (b - a)
        up = jax.random.uniform(key, n.shape, jnp.float32) < chance
        return jnp.where(up, low + low.dtype.type(1), low)


# ---- companded8 -------------------------------------------------------------------------------------------

COMPANDED_BLOCK = 64
M, V = 127, 255  # the largest codes


def _companded(n: Array) -> Array:
    """y = 127 · 2 n / (1 + |n|): finer near 0, where most of a mean of gradients is."""
    return M * 2 * n / (1 + jnp.abs(n))


def _expanded(q: Array) -> Array:
    """The other way: n = y / (2 - |y|)."""
    y = q.astype(jnp.float32) / M
    return y / (2 - jnp.abs(y))


def _positive(q: Array, n: Array, most: int) -> Array:
    """Codes from 1 on where a number is above 0: it is never read as 0."""
    return jnp.where(n > 0, jnp.clip(q, 1, most), 0).astype(jnp.uint8)


COMPANDED8 = Codec(
    "companded8", True, COMPANDED_BLOCK, 8, jnp.int8,
    nearest=lambda n: jnp.rint(_companded(n)).astype(jnp.int8),
    below=lambda n: jnp.clip(jnp.floor(_companded(n)), -M, M - 1).astype(jnp.int8),
    number=_expanded,
)  # fmt: skip
COMPANDED8_NONNEGATIVE = Codec(
    "companded8", False, COMPANDED_BLOCK, 8, jnp.uint8,
    nearest=lambda n: _positive(jnp.rint(V * n), n, V),
    below=lambda n: _positive(jnp.floor(V * n), n, V - 1),
    number=lambda q: q.astype(jnp.float32) / V,
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
    """A codec that looks its numbers up."""

    def number(q: Array) -> Array:
        numbers, place = jnp.asarray(row), q.astype(jnp.int32)
        given = placement.explicit_sharding(q)
        return numbers[place] if given is None else numbers.at[place].get(out_sharding=given)

    def below(n: Array) -> Array:
        q = jnp.zeros_like(n, jnp.uint8)
        for half in (2**bit for bit in reversed(range(bits))):
            further = q + np.uint8(half)
            q = jnp.where(number(further) <= n, further, q)
        return jnp.minimum(q, np.uint8(len(row) - 2))

    def nearest(n: Array) -> Array:
        low = below(n)
        a, b = number(low), number(low + np.uint8(1))
        return jnp.where(n - a >= (b - a) * 0.5, low + np.uint8(1), low)

    return Codec(name, signed, block, bits, jnp.uint8, nearest, below, number)


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
    return jax.lax.bitcast_convert_type(q.astype(jnp.uint8), jnp.float8_e4m3fn).astype(jnp.float32) / LARGEST


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


FP8 = _SignedFloat("fp8", True, 256, 8, jnp.uint8, nearest=_bits, below=_towards_zero, number=_of_bits)
FP8_NONNEGATIVE = Codec(
    "fp8", False, 256, 8, jnp.uint8,
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
