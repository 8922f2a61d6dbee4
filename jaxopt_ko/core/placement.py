"""On which devices arrays are: read from an array, kept through an update, chosen for what is kept beside a parameter.

Nothing here does anything for arrays on one device: no operation is added to a program that has no mesh.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import sdy
from jaxlib.mlir.dialects import stablehlo as hlo

from jaxopt_ko.types import PyTree

Axes: TypeAlias = tuple[str, ...]  # the mesh axes that one dimension is cut along, the outermost first


def sharding_of(x: Any) -> NamedSharding | None:
    """Of an array on a mesh, or of a traced one whose mesh has explicit axes; None for all that is not known to be cut.

    A traced array on automatic axes has a mesh, and where it is cut the compiler decides.
    """
    if isinstance(x, jax.core.Tracer):
        return explicit_sharding(x)
    sharding = getattr(x, "sharding", None)
    return sharding if isinstance(sharding, NamedSharding) else None


def explicit_sharding(x: Any) -> NamedSharding | None:
    """What the type of an array says of where it is: on explicit axes alone does it say anything."""
    if not isinstance(x, jax.Array):
        return None
    sharding: NamedSharding = jax.typeof(x).sharding
    return sharding if AxisType.Explicit in sharding.mesh.axis_types else None


def any_on_mesh(leaves: Iterable[Any]) -> bool:
    """Is any of these arrays on a mesh, or traced for one? If not, there is nothing to do here: asked once a step."""
    return any(map(_may_be_cut, leaves))


def _may_be_cut(x: Any) -> bool:
    if isinstance(x, jax.core.Tracer):
        sharding = getattr(x.aval, "sharding", None)
        return sharding is not None and not sharding.mesh.empty
    return isinstance(getattr(x, "sharding", None), NamedSharding)


def on_mesh(x: Any) -> bool:
    """Is it traced for the devices of a mesh whose axes are automatic or explicit, not manual as in `shard_map`?"""
    if not isinstance(x, jax.core.Tracer):
        return False
    mesh = jax.typeof(x).sharding.mesh
    return not mesh.empty and any(kind != AxisType.Manual for kind in mesh.axis_types)


def placed_as(new: Any, old: Any) -> Any:
    """`new`, an array of the shape of `old`, cut over the devices as `old` is and in the same memory.

    Traced on automatic axes it is a hint that the two be cut alike; it is no operation in the compiled program.
    """
    if not hasattr(new, "shape") or not hasattr(old, "shape") or np.shape(new) != np.shape(old) or _is_key(old):
        return new
    given = explicit_sharding(old)
    if isinstance(new, jax.core.Tracer) and isinstance(old, jax.Array):
        if given is None:
            new = alike(old, new) if on_mesh(old) and np.ndim(old) else new
        elif explicit_sharding(new) != given:
            new = resharded(new, given)
        return jax.device_put(new, jax.memory.Space.Host) if in_host_memory(old) else new
    if isinstance(old, jax.core.Tracer):
        return new
    held = sharding_of(old)
    if held is None or not isinstance(new, jax.Array) or isinstance(new, jax.core.Tracer):
        return new
    return new if held.is_equivalent_to(new.sharding, new.ndim) else jax.device_put(new, held)


def in_host_memory(x: Any) -> bool:
    """Is it traced as an array in the host's memory?"""
    if not isinstance(x, jax.core.Tracer) or _HOST is None:
        return False
    return bool(getattr(jax.typeof(x), "memory_space", None) == _HOST)


_HOST = getattr(getattr(getattr(jax, "memory", None), "Space", None), "Host", None)  # None before jax.memory


def on_device(memory: PyTree, after: Sequence[Any] = ()) -> PyTree:
    """A state with what is in the host's memory moved to the device's, to be computed with: not before `after` is
    done, so that one leaf after the other is there and not all at a time."""
    held = [x for x in jax.tree.leaves(memory) if in_host_memory(x)]
    if not held:
        return memory
    ready = [x for x in after if isinstance(x, jax.core.Tracer)]

    def moved(x: Any) -> Any:
        if not in_host_memory(x):
            return x
        if ready:
            x, *_ = jax.lax.optimization_barrier((x, *ready))  # type: ignore[no-untyped-call]
        return jax.device_put(x, jax.memory.Space.Device)

    return jax.tree.map(moved, memory)


def typed_as(new: Any, old: Any) -> Any:
    """`placed_as` on explicit axes alone: within functions that are compiled once for leaves of one shape, where a hint
    would be one for all of them."""
    given = explicit_sharding(old)
    return new if given is None or explicit_sharding(new) == given else resharded(new, given)


def alike(old: jax.Array, new: jax.Array) -> jax.Array:
    """`new`, to be cut over automatic axes as the compiler cuts `old`; an array of the same shape.

    jax.experimental.shard_alike is no help: arrays of one shape all land in one group of it (jax 0.10.2; see
    tests/test_upstream.py), and jax 0.11 has it no more.
    """
    made: jax.Array = _placed_alike().bind(old, new, group=next(_groups))
    return made


# An argument as it came has a group of its own, and a constant is none's: what stands behind a barrier is.
_FREE = ("stablehlo.constant", "stablehlo.broadcast_in_dim")
_groups = itertools.count()


@functools.cache
def _placed_alike() -> Any:
    """The primitive, made for the first array on a mesh: jax.extend brings Pallas, a tenth of the time of an import."""
    from jax.extend.core import Primitive  # noqa: PLC0415

    alike_: Any = Primitive("placed_alike")
    alike_.def_impl(lambda old, new, group: new)
    alike_.def_abstract_eval(lambda old, new, group: new)
    ad.primitive_jvps[alike_] = lambda primals, tangents, group: (alike_.bind(*primals, group=group), tangents[1])
    mlir.register_lowering(alike_, _alike_lowering)
    batching.primitive_batchers[alike_] = _alike_batcher
    return alike_


def _alike_lowering(_: Any, old: Any, new: Any, group: int) -> Any:
    if isinstance(new.owner, ir.Block) or new.owner.name in _FREE:
        new = hlo.OptimizationBarrierOp([new]).result
    for x in (old, new):
        sdy.sharding_group(x, group)
    return [new]


def _alike_batcher(args: Any, axes: Any, group: int) -> Any:
    old, new = (x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(args, axes, strict=True))
    if axes[0] is None:
        return new, None if axes[1] is None else 0
    new = jnp.broadcast_to(new, old.shape) if axes[1] is None else new
    return _placed_alike().bind(old, new, group=group), 0


def all_placed_as(new: PyTree, old: PyTree) -> PyTree:
    """`placed_as`, leaf by leaf of trees of one structure."""
    return jax.tree.map(placed_as, new, old) if any_on_mesh(jax.tree.leaves(old)) else new


def whole(x: Any) -> Any:
    """An array with explicit axes as a copy on every device; any other as it is."""
    given = explicit_sharding(x)
    if given is None or not any(given.spec):
        return x
    return resharded(x, NamedSharding(given.mesh, spec_of([()] * np.ndim(x))))


def placed_beside(x: jax.Array, leaf: Any) -> jax.Array:
    """Memory of another shape than its parameter's, cut as finely: see `beside`. On automatic axes that is not known
    while a program is traced; there `state_shardings` says it from outside."""
    given = sharding_of(leaf)
    if given is None:
        return x
    cut = beside(x.shape, np.shape(leaf), axes_of(given, np.ndim(leaf)), dict(given.mesh.shape))
    sharding = NamedSharding(given.mesh, spec_of(shortest(cut, given.mesh)))
    if isinstance(leaf, jax.core.Tracer) or explicit_sharding(x) is not None:
        return resharded(x, sharding)
    return x if isinstance(x, jax.core.Tracer) else jax.device_put(x, sharding)


def as_typed(x: Any) -> Any:
    """An array with explicit axes whose sharding is spelled as its type is, so that it is the type of a step's result:
    P(None) and not P()."""
    given = explicit_sharding(x)
    if given is None or isinstance(x, jax.core.Tracer) or len(x.sharding.spec) == np.ndim(x):
        return x
    return jax.device_put(x, NamedSharding(x.sharding.mesh, given.spec, memory_kind=x.sharding.memory_kind))


def where_memory_is(x: Any, memory: PyTree) -> Any:
    """A gradient or a parameter on explicit axes, cut as what is remembered of it is: more finely, by ZeRO."""
    given = explicit_sharding(x)
    if given is None:
        return x
    for own in jax.tree.leaves(memory):
        if np.shape(own) == np.shape(x) and explicit_sharding(own) not in (None, given):
            return placed_as(x, own)
    return x


def zeros(like: Any) -> jax.Array:
    """Of the shape and dtype of what was traced abstractly, cut as that is on explicit axes."""
    made = jnp.zeros(like.shape, like.dtype)
    sharding = getattr(like, "sharding", None)
    if isinstance(sharding, NamedSharding) and AxisType.Explicit in sharding.mesh.axis_types:
        return resharded(made, sharding)
    return made


def resharded(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    """An array with explicit axes, cut otherwise."""
    made: jax.Array = jax.sharding.reshard(x, sharding)  # type: ignore[no-untyped-call]
    return made


# ---- stacks -----------------------------------------------------------------------------------------------


def foldable(x: Any, axes: Sequence[Sequence[int]]) -> Any:
    """An array whose axes are about to be joined, those of each of `axes` to one, in this order: on explicit axes it
    becomes whole where the joined ones are more than one and cut."""
    given = explicit_sharding(x)
    if given is None:
        return x
    cut = axes_of(given, np.ndim(x))
    return whole(x) if any(len(own) > 1 and any(cut[axis] for axis in own) for own in axes) else x


def joinable(stacks: Sequence[Any]) -> Sequence[Any]:
    """Arrays [N, …] of different N, about to be put one behind the other: on explicit axes they are whole along N, and
    cut alike else."""
    given = [explicit_sharding(x) for x in stacks]
    if len(stacks) == 1 or all(one is None for one in given):
        return stacks
    cut = {axes_of(one, np.ndim(x)) for one, x in zip(given, stacks, strict=True) if one is not None}
    alike_ = len(cut) == 1 and None not in given and not next(iter(cut))[0]
    return stacks if alike_ else [whole(x) for x in stacks]


def spread(function: Callable[..., Any], shared: tuple[Any, ...], stacks: tuple[jax.Array, ...]) -> tuple[Any, ...]:
    """function(*shared, *stacks) of arrays [N, …], which returns such ones, or None for one: on explicit axes each
    device has some of the N, each of these whole.

    So factorizations, products and loops see plain arrays; around them is one exchange a stack, in and out. A stack
    that has less than the devices of an axis stays whole on all of these; zeros fill up what is no multiple.
    function gets first, the number of its first matrix among the N, before all this: None where it has all of them.
    shared: trees of arrays that all devices get; on explicit axes nothing may come by closure.
    """
    given = next((one for one in map(explicit_sharding, stacks) if one is not None), None)
    if given is None:
        return tuple(function(None, *shared, *stacks))
    mesh, N = given.mesh, stacks[0].shape[0]
    explicit = [name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit]
    cut: list[str] = []
    for axis, size in sorted(((name, mesh.shape[name]) for name in explicit), key=lambda item: -item[1]):
        if 1 < size <= N // math.prod(mesh.shape[name] for name in cut):
            cut.append(axis)
    missing = -N % math.prod(mesh.shape[axis] for axis in cut)
    behind = {x.shape[1:]: axes_of(s, x.ndim)[1:] for x in stacks if (s := explicit_sharding(x)) is not None}

    def along(x: jax.Array, front: Axes, rest: Sequence[Axes] | None = None) -> jax.Array:
        rest = [()] * (x.ndim - 1) if rest is None else rest
        return resharded(x, NamedSharding(mesh, spec_of([front, *rest])))

    def back(x: jax.Array) -> jax.Array:
        return along(x, (), behind.get(x.shape[1:]))[:N]

    if not cut:
        return jax.tree.map(back, tuple(function(None, *shared, *map(whole, stacks))))  # type: ignore[no-any-return]
    by = spec_of([tuple(cut)])

    def parted(x: jax.Array) -> jax.Array:
        if missing:
            x = jnp.pad(back(x), [(0, missing)] + [(0, 0)] * (x.ndim - 1))
        return along(x, tuple(cut))

    each: Any = jax.shard_map(
        lambda first, shared, stacks: tuple(function(first[0], *shared, *stacks)), mesh=mesh,
        in_specs=(by, spec_of(()), by), out_specs=by, axis_names=set(explicit), check_vma=False,
    )  # fmt: skip
    first = jnp.arange(0, N + missing, (N + missing) // math.prod(mesh.shape[axis] for axis in cut), dtype=jnp.int32)
    made = each(along(first, tuple(cut)), jax.tree.map(whole, shared), tuple(map(parted, stacks)))
    return jax.tree.map(back, made)  # type: ignore[no-any-return]


# ---- specs ------------------------------------------------------------------------------------------------


def axes_of(sharding: NamedSharding, ndim: int) -> tuple[Axes, ...]:
    """The mesh axes that each dimension is cut along."""
    entries = [*sharding.spec, *[None] * (ndim - len(sharding.spec))]
    return tuple(() if entry is None else (entry,) if isinstance(entry, str) else tuple(entry) for entry in entries)


def spec_of(axes: Sequence[Axes]) -> PartitionSpec:
    """The other way."""
    return PartitionSpec(
        *(  # type: ignore[no-untyped-call]
            None if not entry else entry[0] if len(entry) == 1 else entry for entry in axes
        )
    )


def shortest(axes: Sequence[Axes], mesh: Any) -> Sequence[Axes]:
    """As JAX spells the spec of a result: on automatic axes without dimensions at the end that are not cut."""
    if AxisType.Explicit in mesh.axis_types:
        return axes
    return axes[: max((i + 1 for i, entry in enumerate(axes) if entry), default=0)]


def is_small(shape: Sequence[int], like: Sequence[int]) -> bool:
    """Has it fewer dimensions than its parameter, or 1 where that has more: a factored vector, a number?"""
    if tuple(shape) == tuple(like):
        return False
    shrunk = len(shape) == len(like) and any(n == 1 < m for n, m in zip(shape, like, strict=True))
    return len(shape) < max(len(like), 2) or shrunk


def beside(shape: Sequence[int], like: Sequence[int], axes: Sequence[Axes], sizes: dict[str, int]) -> tuple[Axes, ...]:
    """The axes of memory of this shape that belongs to a parameter of shape `like`, which is cut along `axes`.

    The parameter's own if the shapes are the same; none for what has fewer dimensions, or 1 where the parameter has
    more: that is small. Else: of the dimensions in front that both have in common the parameter's own, and its other
    axes each on the first dimension that it divides, one without axes if there is one.
    """
    if tuple(shape) == tuple(like):
        return tuple(axes)
    if is_small(shape, like):
        return ((),) * len(shape)
    common = 0
    while common < len(like) - 1 and shape[common] == like[common]:
        common += 1
    made: list[Axes] = [*axes[:common], *[()] * (len(shape) - common)]
    for axis in (axis for entry in axes[common:] for axis in entry):
        put_axis(made, shape, axis, sizes)
    return tuple(made)


def put_axis(axes: list[Axes], shape: Sequence[int], axis: str, sizes: dict[str, int]) -> bool:
    """Cut one more time, along `axis`: in the first dimension without axes that it divides, else in the first of all.

    False if it divides none, or is there already. `axes` is changed.
    """
    if any(axis in entry for entry in axes):
        return False
    for free in (True, False):
        for i, entry in enumerate(axes):
            parts = math.prod(sizes[name] for name in (*entry, axis))
            if (not entry or not free) and shape[i] and shape[i] % parts == 0:
                axes[i] = (*entry, axis)
                return True
    return False


def _is_key(x: Any) -> bool:
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))
