"""Scalars: step counts, hyperparameters at a step, bias correction, roots that can be differentiated at zero."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.types import Hyper


def scalar_dtype() -> jnp.dtype:
    """The dtype of every scalar: float64 where x64 is enabled, else float32; never less."""
    return jnp.dtype(jax.dtypes.canonicalize_dtype(np.float64))


def zero_count() -> jax.Array:
    """int32[]: no steps taken yet."""
    return jnp.zeros((), jnp.int32)


def next_count(count: jax.Array) -> jax.Array:
    """count + 1, staying at the largest int32 instead of wrapping round to negative steps."""
    return jnp.minimum(count, np.int32(2**31 - 2)) + np.int32(1)


def value_at(hyper: Hyper, count: jax.Array, who: str = "value_at", name: str = "the value") -> jax.Array:
    """The hyperparameter at step `count` (from 0): itself, or its schedule's value; float[] in scalar_dtype."""
    if isinstance(hyper, int | float):
        return jnp.asarray(np.asarray(hyper, scalar_dtype()))
    with jax.numpy_dtype_promotion("standard"):  # a schedule is free to mix its step with floats
        value = hyper(count) if callable(hyper) else hyper
    if callable(hyper):
        errors.check_schedule_value(who, name, value)
    return jnp.asarray(value).astype(scalar_dtype())


def unfolded(values: Any) -> Any:
    """The same, but XLA folds nothing that follows, not even of constants: a number, a traced value and a schedule
    then go through the same operations. (They are different programs still, which may round differently.)"""
    return jax.lax.optimization_barrier(values)  # type: ignore[no-untyped-call]


def values_at(hypers: Mapping[str, Hyper], count: jax.Array, who: str) -> dict[str, jax.Array]:
    """All hyperparameters at a step, by name, `unfolded`."""
    return dict(unfolded({name: value_at(hyper, count, who, name) for name, hyper in hypers.items()}))


def first_value(hyper: Hyper) -> Any:
    """The hyperparameter before the first step, as it is given or by its schedule."""
    return hyper(zero_count()) if callable(hyper) else hyper


def bias_correction(decay: jax.Array, t: jax.Array) -> jax.Array:
    """1 - decay**t, the weight that an average started at zero has gathered after t steps.

    Computed as -expm1(t log decay): for decay near 1 the difference itself would lose half of float32's digits.
    """
    weight: jax.Array = _gathered(decay, t.astype(decay.dtype))
    return weight


@jax.custom_jvp
def _gathered(decay: jax.Array, t: jax.Array) -> jax.Array:
    positive = decay > 0
    log = jnp.log(jnp.where(positive, decay, jnp.ones_like(decay)))
    return jnp.where(positive, -jnp.expm1(t * log), jnp.ones_like(decay))


@_gathered.defjvp
def _gathered_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (decay, t), (d_decay, _) = primals, tangents
    return _gathered(decay, t), -t * jnp.power(decay, t - 1) * d_decay  # at decay = 0, too: -1 for t = 1, else 0


def _tiny(x: jax.Array) -> jax.Array:
    """The smallest normal number of x's dtype: too small to change x, but not 0. XLA adds it to a constant eps."""
    return jnp.asarray(np.finfo(x.dtype).tiny, x.dtype)


@jax.custom_jvp
def ratio(x: jax.Array, y: jax.Array) -> jax.Array:
    """x / y for y >= 0, and 0 / 0 = 0; its derivative never squares y, which would overflow for y = eps."""
    return x / (y + _tiny(y))


@ratio.defjvp
def _ratio_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (x, y), (dx, dy) = primals, tangents
    u = ratio(x, y)
    return u, ratio(dx, y) - u * ratio(dy, y)


@jax.custom_jvp
def safe_sqrt(x: jax.Array) -> jax.Array:
    """sqrt(x), with derivative 0 instead of infinity at x = 0."""
    return jnp.sqrt(x)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = safe_sqrt(x)
    positive = y > 0
    slope = jnp.where(positive, 0.5 / jnp.where(positive, y, jnp.ones_like(y)), jnp.zeros_like(y))
    return y, slope * dx


def or_one(x: jax.Array) -> jax.Array:
    """x where it is positive, else 1: to divide by."""
    return jnp.where(x > 0, x, jnp.ones_like(x))


def norm(x: jax.Array) -> jax.Array:
    """The Euclidean length of a vector, with derivative 0 at 0."""
    length: jax.Array = safe_sqrt(jnp.sum(x * x))
    return length


@functools.partial(jax.jit, static_argnames=("axis", "keepdims"))
def length(x: jax.Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> jax.Array:
    """The Euclidean length of an array, or of its slices along some axes, also where the squares overflow (from 2e19
    in float32); its derivative at 0 is 0."""

    def scaled(x: jax.Array) -> jax.Array:
        top = np.finfo(x.dtype).maxexp
        low = 2.0 ** -(5 * top // 8)
        # Where squares overflow, what is left out counts for nothing; and XLA would make x**2 low**2 of (x low)**2.
        large = jnp.where(jnp.abs(x) > 2.0 ** (top // 4), x * low, jnp.zeros_like(x))
        root: jax.Array = safe_sqrt(jnp.sum(jnp.square(large), axis, keepdims=keepdims)) / low
        return root

    def in_one_pass(x: jax.Array, plain: jax.Array) -> jax.Array:
        root: jax.Array = jnp.where(jnp.isinf(plain), scaled(x), safe_sqrt(plain))
        return root

    def when_needed(x: jax.Array, plain: jax.Array) -> jax.Array:
        large = jnp.any(jnp.isinf(plain))
        root: jax.Array = jax.lax.cond(large, in_one_pass, lambda _, plain: safe_sqrt(plain), x, plain)
        return root

    # A branch stops an accelerator's queue; on CPU the second sum would cost as much as the first.
    plain = jnp.sum(jnp.square(x), axis, keepdims=keepdims)
    found: jax.Array = jax.lax.platform_dependent(x, plain, cpu=when_needed, default=in_one_pass)
    return found


def root_mean_square(x: jax.Array) -> jax.Array:
    """The square root of the mean square of an array; 0 if it is empty."""
    root: jax.Array = length(x) / np.sqrt(max(x.size, 1)).astype(x.dtype)
    return root


def largest(x: jax.Array) -> jax.Array:
    """max|x|, 0 if x is empty."""
    return jnp.max(jnp.abs(x)) if x.size else jnp.zeros((), x.dtype)


def joined(parts: Sequence[jax.Array]) -> jax.Array:
    """Vectors, one after the other, the empty ones left out: XLA on CPU (jaxlib 0.10.2) aborts on an empty slice of a
    concatenation that has one."""
    full = [part for part in parts if part.size]
    return jnp.concatenate(full) if len(full) > 1 else (full or list(parts))[0]


def first_true(conditions: Sequence[jax.Array], codes: Sequence[Any], otherwise: Any) -> jax.Array:
    """int32[]: the code of the first condition that holds."""
    code = jnp.asarray(otherwise, jnp.int32)
    for condition, value in reversed(list(zip(conditions, codes, strict=True))):
        code = jnp.where(condition, jnp.asarray(value, jnp.int32), code)
    return code


@jax.custom_jvp
def safe_rsqrt(x: jax.Array) -> jax.Array:
    """1 / sqrt(x), large but finite at x = 0, with derivative 0 there: 0 safe_rsqrt(0) is 0."""
    return jax.lax.rsqrt(x + _tiny(x))


@safe_rsqrt.defjvp
def _safe_rsqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = safe_rsqrt(x)
    finite = jnp.where(x > 0, y, jnp.zeros_like(y))
    return y, -0.5 * finite * finite * finite * dx


@jax.custom_jvp
def safe_cbrt(x: jax.Array) -> jax.Array:
    """The cube root of x, with derivative 0 instead of infinity at x = 0."""
    return jnp.cbrt(x)


@safe_cbrt.defjvp
def _safe_cbrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = safe_cbrt(x)
    nonzero = y != 0
    slope = jnp.where(nonzero, 1 / (3 * jnp.square(jnp.where(nonzero, y, jnp.ones_like(y)))), jnp.zeros_like(y))
    return y, slope * dx


def safe_increment(count: jax.Array) -> jax.Array:
    """count + 1, staying at the largest number of its dtype: no integer wraps round to negative ones."""
    count = jnp.asarray(count)
    if jnp.issubdtype(count.dtype, jnp.floating):
        return count + 1
    most = np.asarray(np.iinfo(count.dtype).max, count.dtype)
    return jnp.where(count < most, count + np.asarray(1, count.dtype), most)


def safe_norm(
    x: jax.Array,
    min_norm: Any,
    ord: Any = None,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
) -> jax.Array:
    """max(jnp.linalg.norm(x, ord, axis), min_norm), with derivative 0 where the norm is not above min_norm."""
    x = jnp.asarray(x)
    least = jnp.asarray(min_norm).astype(x.dtype)
    short = jnp.linalg.norm(jax.lax.stop_gradient(x), ord=ord, axis=axis, keepdims=True) <= least
    long = jnp.linalg.norm(jnp.where(short, jnp.ones_like(x), x), ord=ord, axis=axis, keepdims=keepdims)
    return jnp.where(short.reshape(long.shape), least, long)


def safe_root_mean_squares(x: jax.Array, min_rms: Any) -> jax.Array:
    """float[]: max(sqrt(mean |x|**2), min_rms), with derivative 0 where it is not above min_rms."""
    x = jnp.asarray(x)
    square = jnp.mean(jnp.real(x * jnp.conj(x)))
    least = jnp.asarray(min_rms).astype(square.dtype)
    return jnp.maximum(safe_sqrt(jnp.where(square > least * least, square, jnp.zeros_like(square))), least)
