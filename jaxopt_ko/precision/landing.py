"""Steps that land on numbers of 16 bits: u' = p1 - p in float32, so that p + u', rounded to the nearest, is p1.

p1 is the number that a wrapper has chosen for the parameter to be after the step; whoever adds u' gets it, bit for bit,
and need not know of it: `apply_updates`, optax's, flax's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.checks import check_params, memory_mismatch, shape_mismatch, structure_mismatch
from jaxopt_ko.core.hyperparameters import as_state
from jaxopt_ko.core.method import Method, make_transformation, name_of
from jaxopt_ko.core.numerics import next_count, zero_count
from jaxopt_ko.core.rounding import leaf_number, step_key
from jaxopt_ko.errors import HyperparameterTypeError, say
from jaxopt_ko.types import DType, GradientTransformation, MaskedNode, Params, PyTree, State, Updates

BFLOAT16, FLOAT16 = np.dtype(jnp.bfloat16), np.dtype(jnp.float16)
NARROW = (BFLOAT16, FLOAT16)
BITS = {BFLOAT16: (8, 7), FLOAT16: (5, 10)}  # of exponent and of mantissa
LEAST = {BFLOAT16: np.float32(2.0**-126), FLOAT16: np.float32(2.0**-14)}  # the smallest number that is not subnormal
STEP_DTYPES = (np.dtype(jnp.float32), *NARROW)
SMALL, UP = 2.0**-80, 2.0**40  # below SMALL bfloat16 is scaled by UP: XLA drops subnormals, as parts of an ulp are


def is_narrow(leaf: Any) -> bool:
    """Is it an array of bfloat16 or float16?"""
    return getattr(leaf, "dtype", None) in NARROW


def widened(full: PyTree) -> PyTree:
    """Leaves of 16 bits in float32, abstract ones too; all others as they are."""
    return jax.tree.map(lambda leaf: _wide(leaf) if is_narrow(leaf) else leaf, full)


def _wide(leaf: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, jnp.float32, sharding=leaf.sharding)  # type: ignore[no-untyped-call]
    return jnp.asarray(leaf).astype(jnp.float32)


# ---- numbers of 16 bits, held as float32 ----------------------------------------------------------------


def nearest(x: Array, dtype: np.dtype[Any]) -> Array:
    """float32 rounded to the nearest number of `dtype`, ties to the even one, as float32.

    Not by two casts: XLA may leave out such a pair.
    """
    made: Array = jax.lax.reduce_precision(x, *BITS[dtype])
    if dtype == FLOAT16:  # whose subnormal numbers, multiples of 2**-24, that makes 0
        up, down = np.float32(2.0**24), np.float32(2.0**-24)
        made = jnp.where(jnp.abs(x) < LEAST[dtype], jnp.rint(x * up) * down, made)
    return made


def half_ulp(p: Array, dtype: np.dtype[Any], towards: Array, scale: Any = 1.0) -> Array:
    """Half the gap from p, a number of `dtype` as float32, to its neighbour on the side of the sign of `towards`.

    Both p and it times `scale`. A power of two has a neighbour nearer to 0 in half the distance.
    """
    bits, least = jax.lax.bitcast_convert_type(p, jnp.uint32), LEAST[dtype] * scale
    power = jax.lax.bitcast_convert_type(bits & np.uint32(0x7F800000), jnp.float32)  # 2**exponent; 0 if subnormal
    h = jnp.maximum(power, least) * np.float32(2.0 ** -(BITS[dtype][1] + 1))
    inwards = (jnp.abs(p) == power) & (power > least) & ((towards < 0) == (p > 0)) & (towards != 0)
    return jnp.where(inwards, h / 2, h)


def step_between(p1: Array, p: Array, dtype: np.dtype[Any]) -> Array:
    """u' in `dtype`; 0 where p stays, also at infinity."""
    return jnp.where(p1 == p, jnp.zeros_like(p), p1 - p).astype(dtype)


def step_dtype_of(leaf: Any, step_dtype: np.dtype[Any]) -> np.dtype[Any]:
    """That of a leaf's steps: its own where that is asked for, else float32."""
    return step_dtype if step_dtype == leaf.dtype else np.dtype(jnp.float32)


# ---- the wrapper ----------------------------------------------------------------------------------------


def landing(
    name: str,
    tx: Any,
    state_type: type,
    land: Callable[..., Any],
    *,
    step_dtype: DType,
    memory: str | None = None,
    start: Callable[[Any], Array] | None = None,
    seen: Callable[[Array, Array], Array] | None = None,
    key: Array | None = None,
) -> GradientTransformation:
    """`tx` in float32 around parameters of 16 bits, with steps that land where `land` says.

    land(p, u, m, key, number, step_dtype=…) -> (u', m), of one leaf: m its memory, None without `memory`; key and the
    leaf's number None without `key`. memory: the field of the state that holds m, start(p) at first. seen(p, m): what
    `tx` sees in the place of p, in float32; p itself by default.
    """
    pair = as_transformation(name, "tx", tx)
    steps_in = _checked_dtype(name, step_dtype)
    whole_name = f"{name}({name_of(pair)})"

    def init(params: Params, **problem: Any) -> State:
        fields: dict[str, Any] = {"inner_state": pair.init(widened(params), **problem)}
        if memory is not None and start is not None:
            fields[memory] = jax.tree.map(lambda p: start(p) if is_narrow(p) else MaskedNode(), params)
        if key is not None:
            fields |= {"count": zero_count(), "rng_key": jnp.copy(key)}  # a copy: the state may be donated
        return state_type(**fields)

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        own = as_state(whole_name, state, state_type)
        check_params(whole_name, updates, params)
        treedef: Any
        paths, treedef = jax.tree_util.tree_flatten_with_path(params, is_leaf=tree.is_none)
        leaves = [leaf for _, leaf in paths]
        kept = None if memory is None else placement.on_device(getattr(own, memory))
        held = [None] * len(leaves) if kept is None else _column(whole_name, "state", kept, treedef, params)
        shown = [_shown(whole_name, params, i, p, held[i], seen) for i, p in enumerate(leaves)]
        if "grad" in extra:
            extra["grad"] = widened(extra["grad"])
        steps, inner = pair.update(widened(updates), own.inner_state, treedef.unflatten(shown), **extra)
        us = _column(whole_name, "updates", steps, treedef, params)
        bits = None if key is None else step_key(own.rng_key, own.count)
        for i, ((path, p), u) in enumerate(zip(paths, us, strict=True)):
            if not is_narrow(p) or u is None or not tree.is_floating(u):
                continue
            if np.shape(u) != np.shape(p):
                at = errors.path_of(params, i, none_is_leaf=True)
                shape_mismatch(whole_name, "updates", at, u, "params", np.shape(p))
            number = None if bits is None else leaf_number(jax.tree_util.keystr(path))
            us[i], new = land(p, u, held[i], bits, number, step_dtype=step_dtype_of(p, steps_in))
            us[i], held[i] = placement.placed_as(us[i], p), placement.placed_as(new, held[i])
        fields = {"inner_state": inner}
        if memory is not None:
            fields[memory] = treedef.unflatten(held)
        if key is not None:
            fields["count"] = next_count(own.count)
        return treedef.unflatten(us), own._replace(**fields)

    return make_transformation(Method(whole_name, lands=steps_in), init, update)


def _checked_dtype(name: str, step_dtype: Any) -> np.dtype[Any]:
    """The dtype of steps: float32, or that of the parameters."""
    known: list[np.dtype[Any]] = [d for d in STEP_DTYPES if step_dtype is not None and d == step_dtype]
    if not known:
        say(HyperparameterTypeError, name, "step_dtype must be float32, bfloat16 or float16", repr(step_dtype),
            "Give jnp.float32, or, for loops that add p + u in the parameters' own dtype, that dtype")  # fmt: skip
    return known[0]


def _column(name: str, what: str, full: PyTree, treedef: Any, params: Params) -> list[Any]:
    """What another tree has at each leaf of the parameters."""
    try:
        return list(treedef.flatten_up_to(full))
    except ValueError:
        structure_mismatch(name, what, full, "params", params)


def _shown(name: str, params: Params, i: int, p: Any, m: Any, seen: Callable[[Array, Array], Array] | None) -> Any:
    """What the method within sees of a leaf."""
    if not is_narrow(p):
        return p
    if seen is None:
        return _wide(p)
    if not hasattr(m, "dtype") or np.shape(m) != np.shape(p):
        memory_mismatch(name, [m], errors.path_of(params, i, none_is_leaf=True), p)
    return placement.placed_as(seen(jnp.asarray(p), m), p)


def key_of(name: str, rounding: str, key: Any) -> Array | None:
    """The key of what is rounded at random, None where it is to the nearest."""
    errors.check_choice(name, "rounding", rounding, ("stochastic", "nearest"))
    start = errors.check_key(name, key)
    return start if rounding == "stochastic" else None


def leaf_jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled once for all leaves of one shape."""
    return functools.wraps(function)(jax.jit(function, static_argnames=("step_dtype",)))
