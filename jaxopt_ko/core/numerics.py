"""Scalars: step counts, hyperparameters at a step, bias correction, roots that can be differentiated at zero."""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.types import DType, Hyper

Axes = int | tuple[int, ...] | None


def scalar_dtype() -> jnp.dtype:
    """The dtype of every scalar: float64 where x64 is enabled, else float32; never less.

    Returns a NumPy dtype.

    >>> jo.numerics.scalar_dtype() == jnp.zeros(()).dtype
    True
    """
    return jnp.dtype(jax.dtypes.canonicalize_dtype(np.float64))


def zero_count() -> jax.Array:
    """No steps taken yet.

    Returns int32[], 0.

    >>> int(jo.numerics.zero_count())
    0
    """
    return jnp.zeros((), jnp.int32)


def next_count(count: jax.Array) -> jax.Array:
    """count + 1, staying at the largest integer of its dtype instead of wrapping round to negative steps.

    count: int[...], steps taken.

    Returns int[...], in count's dtype.

    >>> int(jo.numerics.next_count(jnp.int32(7))), int(jo.numerics.next_count(jnp.int32(2**31 - 1)))
    (8, 2147483647)
    """
    one = np.ones((), getattr(count, "dtype", np.int32))[()]
    return jnp.minimum(count, np.iinfo(one.dtype).max - one) + one


def value_at(hyper: Hyper, count: jax.Array, name: str = "value_at", argument: str = "the value") -> jax.Array:
    """The hyperparameter at step `count`: itself, or its schedule's value.

    hyper: a number, an array of shape () or a schedule.
    count: int32[], the step, from 0.
    name: who speaks, in error messages.
    argument: what the hyperparameter is called there.

    Returns float[] in scalar_dtype.
    Raises HyperparameterError for a schedule whose value is no single number, its subclass HyperparameterTypeError for
    one whose value is no real number.

    >>> schedule = jo.linear_schedule(1.0, 0.0, 10)
    >>> float(jo.numerics.value_at(schedule, jnp.int32(5))), float(jo.numerics.value_at(0.5, jnp.int32(5)))
    (0.5, 0.5)
    """
    if isinstance(hyper, int | float):
        return jnp.asarray(np.asarray(hyper, scalar_dtype()))
    with jax.numpy_dtype_promotion("standard"):  # a schedule is free to mix its step with floats
        value = hyper(count) if callable(hyper) else hyper
    if callable(hyper):
        errors.check_schedule_value(name, argument, value)
    return jnp.asarray(value).astype(scalar_dtype())


def unfolded(values: Any) -> Any:
    """The same values, but XLA folds nothing that follows, not even of constants.

    A number, a traced value and a schedule then go through the same operations. (They are different programs still,
    which may round differently.)

    values: a tree of arrays.

    Returns a tree like it.

    >>> jo.numerics.unfolded(jnp.float32(0.1)).dtype
    dtype('float32')
    """
    return jax.lax.optimization_barrier(values)  # type: ignore[no-untyped-call]


def once(flag: jax.Array) -> jax.Array:
    """The same flag, computed once for all that reads it.

    XLA joins cheap operations to each loop that reads what they give; on a CPU it then computes a condition, with all
    that it comes from, in the loop of every array that is chosen by it. A root is not cheap to it.

    flag: bool[...].

    Returns bool[...].

    >>> bool(jo.numerics.once(jnp.bool_(True)))
    True
    """
    return jnp.sqrt(flag.astype(jnp.float32)) > 0


def first_value(hyper: Hyper) -> Any:
    """The hyperparameter before the first step, as it is given or by its schedule.

    hyper: a number, an array of shape () or a schedule.

    Returns the number or array itself, or what the schedule returns for step 0.

    >>> jo.numerics.first_value(0.1), float(jo.numerics.first_value(jo.linear_schedule(1.0, 0.0, 10)))
    (0.1, 1.0)
    """
    return hyper(zero_count()) if callable(hyper) else hyper


def gathered_weight(decay: jax.Array, t: jax.Array) -> jax.Array:
    """1 - decay**t, the weight that an average started at zero has gathered after t steps.

    Computed as -expm1(t log decay): for decay near 1 the difference itself would lose half of float32's digits.

    decay: float[...], in [0, 1].
    t: int[...], the number of steps, >= 0.

    Returns float[...], in decay's dtype; the derivative by decay is finite at 0, too.

    >>> round(float(jo.numerics.gathered_weight(jnp.float32(0.9), jnp.int32(2))), 4)
    0.19
    """
    weight: jax.Array = _gathered(decay, t.astype(decay.dtype))
    return weight


bias_correction = gathered_weight  # its name in 0.1.0, which `tree` has for optax's function of moments


@jax.custom_jvp
def _gathered(decay: jax.Array, t: jax.Array) -> jax.Array:
    positive = decay > 0
    log = jnp.log(jax.lax.select(positive, decay, jnp.ones_like(decay)))
    weight = -jnp.expm1(t * log)
    return jax.lax.select(jnp.broadcast_to(positive, weight.shape), weight, jnp.ones_like(weight))


@_gathered.defjvp
def _gathered_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (decay, t), (d_decay, _) = primals, tangents
    return _gathered(decay, t), -t * jnp.power(decay, t - 1) * d_decay  # at decay = 0, too: -1 for t = 1, else 0


def _tiny(x: jax.Array, times: float = 1.0) -> jax.Array:
    """The smallest normal number of x's dtype: too small to change x, but not 0. XLA adds it to a constant eps."""
    return jnp.asarray(np.finfo(x.dtype).tiny * times, x.dtype)


def ratio(x: jax.Array, y: jax.Array, least: Any = 0) -> jax.Array:
    """x / y for y >= 0, and 0 / 0 = 0; its derivative never squares y, which would overflow for y = eps.

    x: float[...] or complex[...].
    y: float[...], >= 0, a root plus eps say.
    least: what y is at least. Where that is a constant beyond the rounding of 0, y needs nothing added; 0: add
        2**14 times the smallest normal number.

    Returns an array like x.

    >>> x, y = jnp.array([1.0, 0.0]), jnp.array([2.0, 0.0])
    >>> jo.numerics.ratio(x, y).tolist()
    [0.5, 0.0]
    """
    if isinstance(least, np.generic) and least * np.finfo(y.dtype).eps > np.finfo(y.dtype).tiny:
        return divided(x, y)
    return _ratio(x, y)


def raised(x: jax.Array, by: Any) -> jax.Array:
    """x + by; x itself for a constant 0, which adds nothing to what is >= 0.

    x: float[...], >= 0.
    by: a number or an array >= 0; a NumPy scalar where it is a constant.

    Returns float[...].

    >>> jo.numerics.raised(jnp.array([1.0, 2.0]), 0.5).tolist()
    [1.5, 2.5]
    """
    return x if isinstance(by, np.generic) and by == 0 else x + by


@jax.custom_jvp
def _ratio(x: jax.Array, y: jax.Array) -> jax.Array:
    with mixing(x.dtype):  # XLA makes x / c / y to x / (c y), where c is a 1 - b1**t, which must not end at 0
        return x / (y + _tiny(y, 2.0**14))


@_ratio.defjvp
def _ratio_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (x, y), (dx, dy) = primals, tangents
    with mixing(x.dtype):
        u = _ratio(x, y)
        return u, _ratio(dx, y) - u * _ratio(dy, y)


@jax.custom_jvp
def safe_sqrt(x: jax.Array) -> jax.Array:
    """sqrt(x), with derivative 0 instead of infinity at x = 0."""
    return jnp.sqrt(x)


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = safe_sqrt(x)
    positive = y > 0
    slope = jnp.where(positive, 0.5 / or_one(y), jnp.zeros_like(y))
    return y, slope * dx


def or_one(x: jax.Array) -> jax.Array:
    """x where it is positive, else 1: to divide by.

    x: float[...].

    Returns float[...], in x's dtype.

    >>> jo.numerics.or_one(jnp.array([0.0, 2.0, -1.0])).tolist()
    [1.0, 2.0, 1.0]
    """
    return jnp.where(x > 0, x, jnp.ones_like(x))


@functools.cache
def common_dtype(*dtypes: DType) -> jnp.dtype:
    """The smallest dtype that holds all of `dtypes`, whatever promotion mode the user has set."""
    with jax.numpy_dtype_promotion("standard"):
        return functools.reduce(jnp.promote_types, (jnp.dtype(d) for d in dtypes))


def compute_dtype(*dtypes: DType) -> jnp.dtype:
    """What a rule computes in: float32, or float64 if any of `dtypes` is; complex if any is, of such parts.

    dtypes: of what goes in; none for float32.

    Returns a NumPy dtype.

    >>> str(jo.numerics.compute_dtype(jnp.bfloat16)), str(jo.numerics.compute_dtype(jnp.float16, jnp.complex64))
    ('float32', 'complex64')
    """
    return common_dtype(jnp.float32, *dtypes)


# ---- complex numbers ------------------------------------------------------------------------------------
# A complex array is a pair of real ones as far as lengths and inner products go: <x, y> = Re(conj(x) y) and
# |x|**2 = <x, x>. Of real arrays each of these is the one product that it looks like.


def is_complex(dtype: DType) -> bool:
    """Is it a dtype of complex numbers?

    dtype: a dtype.

    Returns a bool.

    >>> jo.numerics.is_complex(jnp.complex64), jo.numerics.is_complex(jnp.float32)
    (True, False)
    """
    return bool(jnp.issubdtype(dtype, jnp.complexfloating))


def real_dtype(dtype: DType) -> jnp.dtype:
    """The dtype of the real part; of a real dtype, itself.

    dtype: a dtype.

    Returns a NumPy dtype.

    >>> str(jo.numerics.real_dtype(jnp.complex64)), str(jo.numerics.real_dtype(jnp.bfloat16))
    ('float32', 'bfloat16')
    """
    return jnp.dtype(np.finfo(dtype).dtype if is_complex(dtype) else dtype)


def abs_sq(x: jax.Array) -> jax.Array:
    """|x|**2, element by element.

    x: float[...] or complex[...].

    Returns float[...], in the dtype of x's real part.

    >>> jo.numerics.abs_sq(jnp.array([3.0 + 4.0j, 1.0])).tolist()
    [25.0, 1.0]
    """
    return jnp.square(jnp.real(x)) + jnp.square(jnp.imag(x)) if is_complex(x.dtype) else jnp.square(x)


def inner(x: jax.Array, y: jax.Array) -> jax.Array:
    """<x, y> = Re(conj(x) y), element by element: x y of real arrays.

    x, y: float[...] or complex[...], of shapes that broadcast.

    Returns float[...].

    >>> jo.numerics.inner(jnp.array([1.0 + 2.0j]), jnp.array([3.0 + 1.0j])).tolist()
    [5.0]
    """
    return jnp.real(jnp.conj(x) * y) if is_complex(x.dtype) or is_complex(y.dtype) else x * y


def mixing(*dtypes: DType) -> contextlib.AbstractContextManager[Any]:
    """Where one of the dtypes is complex, real and complex numbers may meet whatever promotion the user has set.

    dtypes: of the arrays that meet.

    Returns a context manager.

    >>> with jax.numpy_dtype_promotion("strict"), jo.numerics.mixing(jnp.complex64):
    ...     (jnp.ones(2) * jnp.ones(2, jnp.complex64)).dtype
    dtype('complex64')
    """
    known = any(is_complex(dtype) for dtype in dtypes)
    return jax.numpy_dtype_promotion("standard") if known else contextlib.nullcontext()


def narrowed(x: jax.Array, dtype: DType) -> jax.Array:
    """`x` in another dtype: its real part, where that has no place for another.

    x: an array.
    dtype: the dtype.

    Returns an array of x's shape.

    >>> jo.numerics.narrowed(jnp.array([1.0 + 2.0j]), jnp.float32).tolist()
    [1.0]
    """
    return (jnp.real(x) if is_complex(x.dtype) and not is_complex(dtype) else x).astype(dtype)


# ---- Euclidean norms ------------------------------------------------------------------------------------
# Squares of float32 overflow from 2e19 on and vanish below 1e-19. A CPU sums them in float64. Otherwise there are three
# sums, as in Blue 1978 (ACM TOMS 4, 15): of the squares as they are; of all scaled down, for when those overflow; of
# all scaled up, for when those are lost. Each is over all elements: those that it is not for count for nothing where
# it is asked for. Either way it is one pass, and over devices one collective: no sum waits for another.


def _scales(dtype: DType) -> tuple[float, float]:
    """c, s, powers of 2: squares of [1 / c, c] are as they should be; s scales what is not."""
    top = np.finfo(dtype).maxexp
    return 2.0 ** (top // 4), 2.0 ** (5 * top // 8)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _three_sums(x: jax.Array, axis: Axes, keepdims: bool) -> jax.Array:
    """float[3, …]: the sums of |x|**2, of (|x| / s)**2 and of (|x| s)**2."""
    c, s = _scales(x.real.dtype)
    a = jnp.abs(x)
    # Scaled first and limited then: XLA makes x**2 s**2 of (x s)**2, and s**2 is no number.
    three = (a, jnp.maximum(a * (1 / s), c / s), jnp.minimum(a * s, s / c))
    return jnp.stack([jnp.sum(jnp.square(x), axis, keepdims=keepdims) for x in three])


def _root_of_three(parts: Sequence[jax.Array], axis: Axes, keepdims: bool) -> jax.Array:
    plain, large, small = functools.reduce(jnp.add, [_three_sums(x, axis, keepdims) for x in parts])
    c, s = _scales(plain.dtype)
    below = jnp.where(plain < c**-2, jnp.sqrt(small) / s, jnp.sqrt(plain))
    return jnp.where(jnp.isinf(plain), jnp.sqrt(large) * s, below)


def _wide_sum(x: jax.Array, axis: Axes, keepdims: bool) -> jax.Array:
    """float64[…]: the sum of |x|**2."""
    size = jnp.abs(x) if is_complex(x.dtype) else x
    return jnp.sum(jnp.square(jax.lax.convert_element_type(size, np.float64)), axis, keepdims=keepdims)


_shared_wide_sum = jax.jit(_wide_sum, static_argnums=(1, 2))  # traced and lowered once for arrays of one shape


# Before jax 0.8 `enable_x64` was experimental.
_JAX: Any = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
# Before jax 0.7.2 vmap made sums of float64 to float32, which XLA refuses.
_WIDE = jax.__version_info__ >= (0, 7, 2)


def _wide_root(parts: Sequence[jax.Array], axis: Axes, keepdims: bool) -> jax.Array:
    of_shape = collections.Counter(x.shape for x in parts)
    alone = [of_shape[x.shape] == 1 and isinstance(x, jax.core.Tracer) for x in parts]
    with _JAX.enable_x64(True):  # float64 leaves this function no more than it came in
        sums = [_wide_sum if own else _shared_wide_sum for own in alone]
        total = functools.reduce(jnp.add, [sum_(x, axis, keepdims) for sum_, x in zip(sums, parts, strict=True)])
        return jax.lax.convert_element_type(jnp.sqrt(total), np.float32)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _length(parts: tuple[jax.Array, ...], axis: Axes, keepdims: bool) -> jax.Array:
    """The Euclidean norm of arrays of one dtype as one, along some axes."""
    if parts[0].real.dtype != np.float32 or not _WIDE:
        return _root_of_three(parts, axis, keepdims)
    found: jax.Array = jax.lax.platform_dependent(
        *parts,
        cpu=lambda *parts: _wide_root(parts, axis, keepdims),
        default=lambda *parts: _root_of_three(parts, axis, keepdims),
    )
    return found


@_length.defjvp
def _length_jvp(axis: Any, keepdims: bool, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (parts,), (changes,) = primals, tangents
    length = _length(parts, axis, keepdims)
    kept = length if keepdims or axis is None else _length(parts, axis, True)

    def along(x: jax.Array, dx: jax.Array) -> jax.Array:
        u = quotient(x, jnp.broadcast_to(kept, x.shape))
        return jnp.sum(jnp.real(jnp.conj(u) * dx) if jnp.iscomplexobj(x) else u * dx, axis, keepdims=keepdims)

    return length, functools.reduce(jnp.add, map(along, parts, changes))


def quotient(x: jax.Array, y: jax.Array) -> jax.Array:
    """x / y for y >= 0, and x / 0 = x; unlike `ratio` exact for the least y, too. Its derivative never squares y.

    x: float[...] or complex[...].
    y: float[...], >= 0, of x's shape.

    Returns an array like x.

    >>> jo.numerics.quotient(jnp.array([1.0, 3.0]), jnp.array([2.0, 0.0])).tolist()
    [0.5, 3.0]
    """
    return divided(x, jnp.where(y == 0, jnp.ones_like(y), y))


@jax.custom_jvp
def divided(x: jax.Array, y: jax.Array) -> jax.Array:
    """x / y for y > 0. Its derivative never squares y."""
    with mixing(x.dtype):
        return x / y


@divided.defjvp
def _divided_jvp(primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
    (x, y), (dx, dy) = primals, tangents
    with mixing(x.dtype):
        u = divided(x, y)
        return u, divided(dx, y) - u * divided(dy, y)


def length(x: jax.Array, axis: Axes = None, keepdims: bool = False) -> jax.Array:
    """The Euclidean length of an array, or of its slices along some axes, wherever it is a number of x's dtype itself.

    No square overflows or vanishes. Its derivative at 0 is 0.

    x: float[...] or complex[...].
    axis: along which axes, an integer or several; None: of all elements.
    keepdims: keep these axes, with the length 1.

    Returns float[...], in the dtype of x's real part; computed in float32 at least.
    Source: Blue 1978, ACM TOMS 4, 15, where there is no float64 to sum in.

    >>> float(jo.numerics.length(jnp.array([3e30, 4e30]))) < 5.01e30
    True
    """
    found: jax.Array = _length((x.astype(compute_dtype(x.dtype)),), axis, keepdims)
    return found.astype(x.real.dtype)


def joint_length(parts: Sequence[jax.Array]) -> jax.Array:
    """The Euclidean length of arrays taken as one vector; 0 of none.

    parts: arrays of any shapes, real or complex.

    Returns float[], float32 at least; no square overflows or vanishes, and the derivative at 0 is 0.

    >>> float(jo.numerics.joint_length([jnp.array([3.0]), jnp.array([[4.0]])]))
    5.0
    """
    wide = compute_dtype(*(x.dtype for x in parts))
    found: jax.Array = _length(tuple(x.astype(wide) for x in parts), None, False) if parts else jnp.zeros((), wide)
    return found


def norm(x: jax.Array) -> jax.Array:
    """The Euclidean length of a vector, with derivative 0 at 0.

    x: float[...] or complex[...].

    Returns float[], in the dtype of x's real part; computed in float32 at least.

    >>> float(jo.numerics.norm(jnp.array([3.0, 4.0]))), jax.grad(jo.numerics.norm)(jnp.zeros(2)).tolist()
    (5.0, [0.0, 0.0])
    """
    return length(x)


def root_mean_square(x: jax.Array) -> jax.Array:
    """The square root of the mean square of an array; 0 if it is empty.

    x: float[...] or complex[...].

    Returns float[], in the dtype of x's real part; computed in float32 at least.

    >>> float(jo.numerics.root_mean_square(jnp.array([3.0, -3.0])))
    3.0
    """
    root: jax.Array = length(x) / np.sqrt(max(x.size, 1)).astype(x.real.dtype)
    return root


def largest(x: jax.Array) -> jax.Array:
    """max|x|, 0 if x is empty.

    x: float[...] or complex[...].

    Returns float[], in the dtype of x's real part.

    >>> float(jo.numerics.largest(jnp.array([1.0, -3.0])))
    3.0
    """
    return jnp.max(jnp.abs(x)) if x.size else jnp.zeros((), x.real.dtype)


def joined(parts: Sequence[jax.Array]) -> jax.Array:
    """Vectors, one after the other, the empty ones left out.

    XLA on CPU (jaxlib 0.10.2) aborts on an empty slice of a concatenation that has one.

    parts: at least one vector, all of one dtype.

    Returns a vector in that dtype.

    >>> jo.numerics.joined([jnp.array([1.0]), jnp.zeros(0), jnp.array([2.0, 3.0])]).tolist()
    [1.0, 2.0, 3.0]
    """
    full = [part for part in parts if part.size]
    return jnp.concatenate(full) if len(full) > 1 else (full or list(parts))[0]


def first_true(conditions: Sequence[jax.Array], codes: Sequence[Any], otherwise: Any) -> jax.Array:
    """The code of the first condition that holds.

    conditions: bool[...] of one shape, traced or not.
    codes: as many integers.
    otherwise: the code if none holds, an integer.

    Returns int32[...].
    Raises ValueError if there are not as many codes as conditions.

    >>> int(jo.numerics.first_true([jnp.array(False), jnp.array(True)], [1, 2], 0))
    2
    """
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
    """optax's name for `next_count`, which takes floating-point counts, too: of these it is count + 1.

    count: int[...] or float[...], steps taken.

    Returns an array in count's dtype; an integer stays at the largest of its dtype.

    >>> int(jo.safe_increment(jnp.int32(2**31 - 1))), float(jo.safe_increment(jnp.float32(7.0)))
    (2147483647, 8.0)
    """
    count = jnp.asarray(count)
    return count + 1 if jnp.issubdtype(count.dtype, jnp.floating) else next_count(count)


safe_int32_increment = safe_increment  # optax's older name


def safe_norm(
    x: jax.Array,
    min_norm: Any,
    ord: Any = None,
    axis: Axes = None,
    keepdims: bool = False,
) -> jax.Array:
    """max(jnp.linalg.norm(x, ord, axis), min_norm), with derivative 0 where the norm is not above min_norm.

    No power of an element overflows or vanishes: all are divided by the power of 2 nearest to the largest.

    x: float[...] or complex[...].
    min_norm: what the norm is at least, a number >= 0.
    ord: of the norm, as of jnp.linalg.norm; None: the Euclidean one, of all elements or along `axis`.
    axis: along which axes, an integer or several; None: of all elements.
    keepdims: keep these axes, with the length 1.

    Returns float[...], in the dtype of x's real part.
    Raises ValueError for what jnp.linalg.norm refuses, an unknown ord say.

    >>> float(jo.safe_norm(jnp.array([3.0, 4.0]), 0.0)), float(jo.safe_norm(jnp.zeros(2), 0.5))
    (5.0, 0.5)
    >>> jax.grad(lambda x: jo.safe_norm(x, 0.0))(jnp.zeros(2)).tolist()
    [0.0, 0.0]
    """
    x = jnp.asarray(x)
    x = x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(scalar_dtype())
    unit = power_of_two(jnp.max(jnp.abs(x), initial=0)) if ord != 0 else jnp.ones((), x.real.dtype)
    with mixing(x.dtype):
        x = x / unit
    least = jnp.asarray(min_norm).astype(unit.dtype) / unit
    short = jnp.linalg.norm(jax.lax.stop_gradient(x), ord=ord, axis=axis, keepdims=True) <= least
    long = jnp.linalg.norm(jnp.where(short, jnp.ones_like(x), x), ord=ord, axis=axis, keepdims=keepdims)
    return jnp.where(short.reshape(long.shape), least, long) * unit


def power_of_two(x: jax.Array) -> jax.Array:
    """The power of 2 nearest to x >= 0, to divide by: a normal number, with a normal inverse; no derivative.

    x: float[...], >= 0.

    Returns float[...], in x's dtype.

    >>> jo.numerics.power_of_two(jnp.array([5.0, 100.0])).tolist()
    [4.0, 128.0]
    """
    kind = np.finfo(x.dtype)
    least, most = 2.0 ** (kind.minexp + 2), 2.0 ** (kind.maxexp - 4)
    nearest: jax.Array = jax.lax.reduce_precision(
        jax.lax.stop_gradient(jnp.clip(x, least, most)), exponent_bits=kind.nexp, mantissa_bits=0
    )
    return nearest


def safe_root_mean_squares(x: jax.Array, min_rms: Any) -> jax.Array:
    """max(sqrt(mean |x|**2), min_rms), with derivative 0 where it is not above min_rms.

    x: float[...] or complex[...].
    min_rms: what the root is at least, a number >= 0.

    Returns float[], in the dtype of x's real part.

    >>> float(jo.safe_root_mean_squares(jnp.array([3.0, -3.0]), 0.5))
    3.0
    >>> float(jo.safe_root_mean_squares(jnp.zeros(2), 0.5))
    0.5
    """
    root = root_mean_square(jnp.asarray(x))
    least = jnp.asarray(min_rms).astype(root.dtype)
    return jnp.where(root > least, root, jnp.maximum(jax.lax.stop_gradient(root), least))
