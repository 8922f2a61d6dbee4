"""Parameters of 16 bits with a master: the number in more bits that they are the nearest ones to.

Whole, in float32 (Micikevicius et al. 2018, arXiv:1710.03740, section 3.1), or split: what the 16 bits lack is kept
beside them (arXiv:2602.23349, section 3.1; here it is rounded at random).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.checks import structure_mismatch
from jaxopt_ko.core.rounding import RANDOM_BITS
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import HyperparameterError, StateError, describe, say
from jaxopt_ko.precision.landing import (
    BFLOAT16,
    FLOAT16,
    LEAST,
    SMALL,
    UP,
    half_ulp,
    is_narrow,
    key_of,
    landing,
    leaf_jit,
    nearest,
    step_between,
    widened,
)
from jaxopt_ko.precision.weights import KahanState
from jaxopt_ko.types import DType, GradientTransformation, Params, PyTree, State

RESTS = {24: np.dtype(np.int8), 32: np.dtype(np.int16)}  # bits of the master -> what holds those that p lacks


class SplitMasterState(NamedTuple):
    """State of `split_master`."""

    rho: Params  # like params of 16 bits, int8 or int16  (w - p) N / h; MaskedNode() for other leaves
    inner_state: State  # of the inner transformation, over float32
    count: PyTree = ()  # int32[]      t, steps taken; nothing where rho is rounded to the nearest
    rng_key: PyTree = ()  # a PRNG key, always the same; nothing where rho is rounded to the nearest


class MasterWeightsState(NamedTuple):
    """State of `master_weights`."""

    master: Params  # like params of 16 bits, float32  w; MaskedNode() for other leaves
    inner_state: State  # of the inner transformation, over float32


@options
def split_master(
    tx: GradientTransformation,
    bits: int = 24,
    rounding: str = "stochastic",
    *,
    key: Array | int = 0,
    step_dtype: DType = jnp.float32,
) -> GradientTransformation:
    """An optimizer on a master w of 24 or 32 bits, of which the bfloat16 or float16 parameters are the first 16.

    w = p + rho h / N                 h half the gap from p to its neighbour beyond w; N = 127 for 24 bits, 32767 for 32
    w <- w + u(w);   p1 = w, rounded to the nearest;   u' = p1 - p
    rho <- clip((w - p1) / h1, -1, 1) N, rounded to an integer

    tx: a whole optimizer, ours or foreign. It sees w in the place of the parameters, and gradients of 16 bits in
        float32, in init, in update and in functions of the parameters that it evaluates. Leaves of other dtypes get
        its steps.
    bits: 24, where |w - p - rho h / N| <= 2**-16 128 / 127 |w| once rho is rounded to the nearest, or 32, where it is
        as good as float32, 2**-23 |w|; what is below 1e-38 in bfloat16 apart.
    rounding: of rho. "stochastic": to one of the two integers beside it, so that their mean moves as float32's.
        "nearest": a constant step of 6.5 units is one of 7 each time, 7 % too far; it is for runs that must not depend
        on a key.
    key: a PRNG key or an integer seed >= 0, for "stochastic". The random bits follow from it, the step's number and the
        leaf's path. They move w by a unit of rho at most; a seed of one's own matters to nobody.
    step_dtype: of u', as in `stochastic_rounding`; float32, in which p + u' is p1 bit for bit.

    State: + 1 byte a parameter for 24 bits, + 2 for 32, beside that of tx over float32; a count and a key. Needs
    params. rho is a part of an ulp: with parameters that were changed from outside (loaded, averaged) w is within half
    an ulp of these, and goes on there. `master_params` gives w; `with_master` begins from float32 parameters.

    Put it outermost, as `stochastic_rounding`. Raises what that raises; HyperparameterError for other bits or another
    rounding.

    Not for float32 parameters, which get the steps of tx; and where memory is not scarce, `master_weights` is simpler.
    Source: arXiv:2602.23349, section 3.1.

    >>> opt = jo.split_master(jo.adamw(1e-3))
    >>> state = opt.init(jnp.ones(2, jnp.bfloat16))
    >>> state.rho.dtype.name
    'int8'
    """
    name = "split_master"
    if bits not in RESTS or isinstance(bits, bool):
        say(HyperparameterError, name, "bits must be 24 or 32, those of the master", repr(bits),
            "Give 24 for a byte more than the parameters have, 32 for two")  # fmt: skip
    return landing(
        name, tx, SplitMasterState, _split_step, step_dtype=step_dtype, memory="rho", seen=_joined,
        key=key_of(name, rounding, key), start=lambda p: tree.full_like(p, 0, RESTS[bits]),
    )  # fmt: skip


@options
def master_weights(tx: GradientTransformation, *, step_dtype: DType = jnp.float32) -> GradientTransformation:
    """An optimizer on a float32 copy w of the bfloat16 or float16 parameters, which follow it.

    w <- w + u(w);   p1 = w, rounded to the nearest;   u' = p1 - p

    tx: a whole optimizer, ours or foreign. It sees w in the place of the parameters, and gradients of 16 bits in
        float32, in init, in update and in functions of the parameters that it evaluates. Leaves of other dtypes get
        its steps.
    step_dtype: of u', as in `stochastic_rounding`; float32, in which p + u' is p1 bit for bit.

    State: + 4 bytes a parameter, beside that of tx over float32. Needs params. Where p is not w rounded, it was changed
    from outside, and w goes on from p. `master_params` gives w; `with_master` begins from float32 parameters.

    Put it outermost, as `stochastic_rounding`. Raises what that raises, without a key.

    Not where memory is scarce: `split_master` does the same with one byte a parameter, `stochastic_rounding` with none.
    Source: arXiv:1710.03740, section 3.1.

    >>> opt = jo.master_weights(jo.adamw(1e-3))
    >>> opt.init(jnp.ones(2, jnp.bfloat16)).master.dtype.name
    'float32'
    """
    return landing(
        "master_weights", tx, MasterWeightsState, _copy_step, step_dtype=step_dtype, memory="master",
        start=tree.wide_copy, seen=_followed,
    )  # fmt: skip


# ---- of one leaf ----------------------------------------------------------------------------------------


@jax.jit
def _followed(p: Array, w: Array) -> Array:
    p32 = p.astype(jnp.float32)
    return jnp.where(nearest(w, p.dtype) == p32, w, p32)


@leaf_jit
def _copy_step(p: Array, u: Array, w: Array, key: None, number: None, *, step_dtype: np.dtype[Any]) -> Any:
    w = _followed(p, placement.typed_as(w, p)) + u.astype(jnp.float32)
    return step_between(nearest(w, p.dtype), p.astype(jnp.float32), step_dtype), w


@jax.jit
def _joined(p: Array, rho: Array) -> Array:
    """w = p + rho h / N."""
    p32 = p.astype(jnp.float32)
    scale = _scale(p.dtype, p32)
    rest = _rest(p32 * scale, rho, p.dtype, scale)
    return jnp.where(rho == 0, p32, (p32 * scale + rest) / scale)


def _scale(dtype: np.dtype[Any], *numbers: Array) -> Any:
    """A power of two: what is this small times it has no subnormal numbers among parts of its ulp."""
    if dtype == FLOAT16:
        return np.float32(1)
    small = jnp.abs(numbers[0]) < SMALL
    for x in numbers[1:]:
        small &= jnp.abs(x) < SMALL
    return jnp.where(small, np.float32(UP), np.float32(1))


def _rest(p: Array, rho: Array, dtype: np.dtype[Any], scale: Any) -> Array:
    """rho h / N, of p that is scaled."""
    units = rho.astype(jnp.float32)
    rest = units * (half_ulp(p, dtype, units, scale) / np.float32(np.iinfo(rho.dtype).max))
    return jnp.where(rho == 0, jnp.zeros_like(p), rest)


@leaf_jit
def _split_step(
    p: Array, u: Array, rho: Array, key: Array | None, number: Array | None, *, step_dtype: np.dtype[Any]
) -> Any:
    """The rest and the step are added before p is: so w has more digits than float32 for the time of a step."""
    p32, u, rho = p.astype(jnp.float32), u.astype(jnp.float32), placement.typed_as(rho, p)
    scale = _scale(p.dtype, p32, u)
    p_up = p32 * scale
    rest = _rest(p_up, rho, p.dtype, scale) + u * scale
    p1_up = nearest(p_up + rest, p.dtype)
    p1_up = jnp.where(jnp.abs(p1_up - p_up) < LEAST[BFLOAT16] * scale, p_up, p1_up)  # a subnormal step, which XLA drops
    y = _in_units(rest - (p1_up - p_up), p1_up, p.dtype, rho.dtype, scale)
    if key is None:
        made = jnp.rint(y)
    else:
        bits = jax.random.bits(jax.random.fold_in(key, number), y.shape, jnp.uint16)  # type: ignore[arg-type]
        made = _dithered(y, placement.typed_as(bits, y))
    return step_between(p1_up / scale, p32, step_dtype), made.astype(rho.dtype)


def _in_units(rest: Array, p: Array, dtype: np.dtype[Any], kept: np.dtype[Any], scale: Any) -> Array:
    """clip(rest / h, -1, 1) N; 0 of what is not finite."""
    most = np.float32(np.iinfo(kept).max)
    y = rest / half_ulp(p, dtype, rest, scale) * most
    return jnp.clip(jnp.where(jnp.isnan(y), jnp.zeros_like(y), y), -most, most)


def _dithered(y: Array, r: Array) -> Array:
    """y to one of the two integers beside it, the nearer one the more often; what is one but for rounding stays."""
    low, whole = jnp.floor(y), jnp.rint(y)
    up = r.astype(jnp.float32) < (y - low) * np.float32(2.0**RANDOM_BITS)
    is_whole = jnp.abs(y - whole) <= jnp.abs(y) * np.float32(2.0**-22)
    return jnp.where(is_whole, whole, jnp.where(up, low + 1, low))


def in_units_of(dtype: DType, rho: Array) -> Array:
    """rho in the units of masters of other bits, float32; any other array as it is."""
    kinds = list(RESTS.values())
    if rho.dtype == dtype or rho.dtype not in kinds or dtype not in kinds:
        return rho
    made: Array = jnp.rint(rho.astype(jnp.float32) * np.float32(np.iinfo(dtype).max / np.iinfo(rho.dtype).max))
    return made


# ---- masters read and set -------------------------------------------------------------------------------


def _with_compensation(p: Array, c: Array) -> Array:
    return p.astype(jnp.float32) + c.astype(jnp.float32)


def _split(w: Array, p: Array, rho: Array) -> Array:
    """rho of w, rounded to the nearest."""
    p32 = p.astype(jnp.float32)
    scale = _scale(p.dtype, p32)
    return jnp.rint(_in_units(w * scale - p32 * scale, p32 * scale, p.dtype, rho.dtype, scale)).astype(rho.dtype)


def _lost(w: Array, p: Array, c: Array) -> Array:
    rest = w - p.astype(jnp.float32)
    return jnp.where(jnp.isfinite(rest), rest, jnp.zeros_like(rest)).astype(c.dtype)


class _Master(NamedTuple):
    """How a state keeps what the parameters lack."""

    field: str  # like params, MaskedNode() for leaves that are not of 16 bits
    read: Any  # (p, kept) -> w
    keep: Any  # (w, p, kept) -> kept anew


MASTERS: dict[type, _Master] = {
    SplitMasterState: _Master("rho", _joined, jax.jit(_split)),
    MasterWeightsState: _Master("master", _followed, jax.jit(lambda w, p, kept: jnp.copy(w))),
    KahanState: _Master("c", jax.jit(_with_compensation), jax.jit(_lost)),
}


def master_params(state: State, params: Params) -> Params:
    """The float32 parameters that an optimizer with `split_master`, `master_weights` or `kahan` stands at.

    w = p + rho h / N, the master itself, or p + c, for the leaves of 16 bits that have one

    state: of the whole optimizer, wherever in it the master is: behind masked, partition, MultiSteps, apply_if_finite,
        in a chain; several masters may own different leaves.
    params: those being trained, as they are after the step that made the state. Leaves of 16 bits without a master are
        cast to float32, all others come back as they are.

    Returns a tree like params, float32 in the place of 16 bits.

    Raises StateError if the state holds no master, or two of one leaf, or one of another shape: for one of them pass
    the part of the state that is meant. Source: arXiv:2602.23349, section 3.1. Not for an average of the parameters,
    which is evaluated at float32, too: eval_params(state, master_params(state, params)).

    >>> opt, params = jo.split_master(jo.adamw(1e-3)), jnp.ones(2, jnp.bfloat16)
    >>> jo.master_params(opt.init(params), params).dtype.name
    'float32'
    """
    treedef: Any
    leaves, treedef = jax.tree.flatten(widened(params))
    narrow = jax.tree.leaves(params)
    for own, numbers, kept in _masters("master_params", state, params):
        for i, k in zip(numbers, kept, strict=True):
            leaves[i] = placement.placed_as(MASTERS[type(own)].read(jnp.asarray(narrow[i]), k), narrow[i])
    return treedef.unflatten(leaves)


def with_master(state: State, params: Params, master: Params) -> tuple[Params, State]:
    """(params, state) that stand at the float32 parameters `master`, of which nothing is lost that the state can hold.

    p = w, rounded to the nearest; what w - p is goes to the state

    state: of the whole optimizer, as of `master_params`; its moments and counts stay as they are.
    params: tell the dtypes; their values are not looked at.
    master: a tree like the parameters, from a float32 checkpoint say. Its leaves are rounded to the nearest, and what
        that loses goes to the state. What has no master in the state is only rounded.

    Returns (params, state), to go on with. Raises what `master_params` raises; TreeError if master is not like the
    parameters. Source: arXiv:2602.23349, section 3.1. Not for a state of other parameters, whose moments would not fit.

    >>> opt, checkpoint = jo.split_master(jo.adamw(1e-3)), jnp.array([1.0, 1.001])
    >>> params = checkpoint.astype(jnp.bfloat16)
    >>> params, state = jo.with_master(opt.init(params), params, checkpoint)
    """
    name = "with_master"
    if not tree.alike(master, params):
        structure_mismatch(name, "master", master, "params", params)
    treedef: Any
    fulls: list[Any] = jax.tree.leaves(master)
    olds, treedef = jax.tree.flatten(params)
    leaves = [placement.placed_as(_as(w, p), p) for w, p in zip(fulls, olds, strict=True)]
    changed = {}
    for own, numbers, kept in _masters(name, state, params):
        how = MASTERS[type(own)]
        new = [
            placement.placed_as(how.keep(jnp.asarray(fulls[i]).astype(jnp.float32), leaves[i], k), k)
            for i, k in zip(numbers, kept, strict=True)
        ]
        field = getattr(own, how.field)
        changed[id(own)] = own._replace(**{how.field: jax.tree.unflatten(jax.tree.structure(field), new)})
    state = jax.tree.map(lambda node: changed.get(id(node), node), state, is_leaf=_is_master)
    return treedef.unflatten(leaves), state


def _as(w: Any, p: Any) -> Any:
    """A leaf of float32 in the dtype of the parameter."""
    if not is_narrow(p):
        return w if not hasattr(p, "dtype") or w.dtype == p.dtype else jnp.asarray(w).astype(p.dtype)
    return nearest(jnp.asarray(w).astype(jnp.float32), p.dtype).astype(p.dtype)


def _is_master(node: Any) -> bool:
    return type(node) in MASTERS


def _masters(name: str, state: State, params: Params) -> Iterator[tuple[Any, list[int], list[Array]]]:
    """The states with a master, the numbers of the parameters' leaves that they own, and what they keep of these."""
    found = [node for node in jax.tree.leaves(state, is_leaf=_is_master) if _is_master(node)]
    if not found:
        kinds = " or ".join(kind.__name__ for kind in MASTERS)
        say(StateError, name, f"the state must hold one {kinds}", "none of them",
            "Pass the state of an optimizer that keeps a master: split_master(adamw(1e-3))")  # fmt: skip
    treedef: Any
    narrow, treedef = jax.tree.flatten(params)
    numbered, owners = treedef.unflatten(range(len(narrow))), dict[int, Any]()
    for own in found:
        field = getattr(own, MASTERS[type(own)].field)
        mine = tree.left_out_as(numbered, field)
        if tree.structure(mine) != tree.structure(field):
            structure_mismatch(name, "params", params, "master in the state", field)
        numbers, kept = jax.tree.leaves(mine), jax.tree.leaves(field)
        for i, k in zip(numbers, kept, strict=True):
            _check_owner(name, errors.path_of(params, i), narrow[i], k, own, owners.get(i))
            owners[i] = own
        yield own, numbers, kept


def _check_owner(name: str, path: str, p: Any, kept: Any, own: Any, other: Any) -> None:
    """A leaf has one master, of its shape."""
    if other is not None:
        say(StateError, name, f"the state must hold one master of the leaf {path}",
            f"{describe(other)} and {describe(own)}", "Pass the part of the state that is meant")  # fmt: skip
    if np.shape(kept) != np.shape(p) or not is_narrow(p):
        say(StateError, name, f"the leaf {path} must be of 16 bits and of the shape of its master",
            f"{describe(p)} and {describe(kept)}", "Pass parameters like those that the state was made for. What route "
            "shows as stacks of matrices has its master around it: split_master(route(...))")  # fmt: skip
