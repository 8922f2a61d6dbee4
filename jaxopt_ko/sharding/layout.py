"""Where an optimizer's state lives: shardings for every leaf, said in words, and the move to another mesh.

A leaf of the state that is like a parameter takes the parameter's spec. `zero` puts one more mesh axis on it, so that
the devices along that axis hold parts of the state and not copies (ZeRO-1, Rajbhandari et al. 2020, arXiv:1910.02054).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from jaxopt_ko import errors
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.placement import Axes
from jaxopt_ko.core.tables import Table
from jaxopt_ko.core.tree_fields import AnyParams
from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, StateError, TreeError, say
from jaxopt_ko.precision.packed import is_packed, shape_of
from jaxopt_ko.sharding.named import stand_ins
from jaxopt_ko.types import GradientTransformation, Params, PyTree, State

AnyMesh: TypeAlias = Mesh | AbstractMesh
MEMORY_KINDS = ("device", "pinned_host", "unpinned_host")


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """One leaf of a state, and where it is to live; a leaf to JAX as well."""

    dtype: Any
    shape: tuple[int, ...]
    sharding: NamedSharding
    why: str  # it is not cut as finely as its parameter, or as `zero` asks; empty if it is

    @property
    def bytes(self) -> int:
        """Of the whole leaf."""
        key = jnp.issubdtype(self.dtype, jax.dtypes.prng_key)
        if key:
            data: Any = jax.eval_shape(jax.random.key_data, tree.abstract(self.shape, self.dtype))
            return 4 * int(data.size)
        return math.prod(self.shape) * int(np.dtype(self.dtype).itemsize)

    @property
    def bytes_here(self) -> int:
        """Of the part on one device."""
        cut = placement.axes_of(self.sharding, len(self.shape))
        parts: int = math.prod(self.sharding.mesh.shape[axis] for entry in cut for axis in entry)
        return self.bytes // parts

    def __str__(self) -> str:
        kind = "key" if jnp.issubdtype(self.dtype, jax.dtypes.prng_key) else np.dtype(self.dtype).name
        return f"{kind}[{','.join(map(str, self.shape))}]"


@dataclasses.dataclass(frozen=True)
class _Parameter:
    """The shape of a parameter, and the mesh axes that each of its dimensions is cut along; a leaf to JAX as well."""

    shape: tuple[int, ...]
    axes: tuple[Axes, ...]


def state_shardings(
    tx: GradientTransformation,
    params: Params,
    mesh: AnyMesh | None = None,
    *,
    zero: str | None = None,
    memory_kind: str | None = None,
    **problem: Any,
) -> Any:
    """A tree of `NamedSharding` like an optimizer's state, to make it with by `jax.jit(tx.init, out_shardings=…)`.

    spec of a leaf = spec of the parameter that it is like, and `zero` on the first dimension that it divides

    tx: a transformation, an (init, update) pair, ours or optax's.
    params: arrays or `jax.ShapeDtypeStruct`s, with the `NamedSharding` of each; what has none counts as whole on every
        device.
    mesh: the mesh of the result, an `AbstractMesh` too; None: that of the parameters. Specs keep their axis names, so
        that a mesh of another size is welcome if it has these names.
    zero: the name of a mesh axis along which the state, and not the parameters, is cut: each leaf on the first
        dimension that it divides, on top of the parameter's own axes. A leaf that it divides nowhere stays as it is.
    memory_kind: "pinned_host" keeps what is like the parameters in host memory; the updates then move one group of
        leaves at a time to the device and back: one leaf for rules of one array, a method's whole state for others. It
        saves memory and costs time; seen on CPU's backend, on no accelerator yet. None for the device's own.
    problem: what the `init` of a solver needs besides, such as value_fn.

    What each leaf gets: like a parameter, its spec; a matrix beside a parameter (a factor, a basis, a projector), the
    spec of the dimensions in front that both have in common, and the parameter's other axes on the first dimension that
    they divide; a factored vector, a scalar, a key and whatever belongs to no parameter, a copy on every device.
    `explain_shardings` says so leaf by leaf.

    Raises HyperparameterError without any mesh, for a `zero` that is no axis of it, an unknown memory_kind or a spec
    with axes that the mesh does not have, HyperparameterTypeError for no mesh; TreeError for parameters on different
    meshes, or a mesh whose axes do not divide them. Source: Rajbhandari et al. 2020, arXiv:1910.02054, ZeRO-1. Not for
    the parameters and gradients themselves, nor needed on one device.

    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> tx, params = jo.adamw(1e-3), {"w": jnp.ones((4, 2))}
    >>> shardings = jo.state_shardings(tx, params, mesh, zero="data")
    >>> state = jax.jit(tx.init, out_shardings=shardings)(params)
    """
    leaves = _layout("state_shardings", tx, params, mesh, zero, memory_kind, problem)
    return jax.tree.map(lambda leaf: leaf.sharding, leaves)


def explain_shardings(
    tx: GradientTransformation,
    params: Params,
    mesh: AnyMesh | None = None,
    *,
    zero: str | None = None,
    memory_kind: str | None = None,
    **problem: Any,
) -> Table:
    """What `state_shardings` says of each leaf, as a table: its spec, its bytes on each device, why it stays whole.

    bytes of a leaf on a device = bytes of the leaf / sizes of the mesh axes that it is cut along

    tx: a transformation, an (init, update) pair, ours or optax's.
    params: arrays or `jax.ShapeDtypeStruct`s, with the `NamedSharding` of each.
    mesh: the mesh, an `AbstractMesh` too; None: that of the parameters.
    zero: the name of a mesh axis along which the state, and not the parameters, is cut; None: no further one.
    memory_kind: "pinned_host" for what is like the parameters; None: the device's own memory.
    problem: what the `init` of a solver needs besides, such as value_fn.

    Returns a `Table`, to be printed in a terminal or shown in a notebook. The last row is the sum, beside the bytes of
    a state that every device keeps whole. Raises what `state_shardings` raises. Not for the memory of a step: gradients
    and activations are not in it.

    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> table = jo.explain_shardings(jo.adamw(1e-3), {"w": jnp.ones((4, 2))}, mesh, zero="data")
    """
    leaves = _layout("explain_shardings", tx, params, mesh, zero, memory_kind, problem)
    body = [
        (jax.tree_util.keystr(path), str(leaf), _spelled(leaf.sharding), f"{leaf.bytes_here:,}", leaf.why)
        for path, leaf in jax.tree_util.tree_flatten_with_path(leaves)[0]
    ]
    flat = jax.tree.leaves(leaves)
    here, all_ = sum(leaf.bytes_here for leaf in flat), sum(leaf.bytes for leaf in flat)
    body.append(("(all)", "", "", f"{here:,}", f"{here / max(all_, 1):.1%} of {all_:,}"))
    return Table(_COLUMNS, ("leaf", "array", "spec", "bytes a device", "why"), tuple(body))


_COLUMNS = ("leaf", "array", "spec", "bytes", "why")


def place(state: State, shardings: PyTree) -> State:
    """A state, each leaf where `shardings` says: on another mesh, in another memory, spread otherwise.

    state: of any optimizer, a tree of arrays.
    shardings: a tree of shardings like the state, of `state_shardings` say, or one sharding for all leaves. Nodes
    without leaves in the state (masked parameters, states that hold nothing) have nothing in `shardings` either.

    Returns the same numbers, moved by jax.device_put. Raises StateError if the two trees differ; TreeError, naming the
    leaf, for one that its sharding does not divide. Not within jit, where out_shardings and sharding constraints say
    where arrays go.

    >>> mesh = jax.make_mesh((1,), ("data",))
    >>> tx, params = jo.adamw(1e-3), {"w": jnp.ones((4, 2))}
    >>> state = jo.place(tx.init(params), jo.state_shardings(tx, params, mesh))
    """
    if isinstance(shardings, jax.sharding.Sharding):
        shardings = jax.tree.map(lambda _: shardings, state)
    treedef: Any
    paths, treedef = jax.tree_util.tree_flatten_with_path(state)
    if jax.tree.structure(shardings) != treedef:
        say(StateError, "place", "shardings must be a tree like the state", str(jax.tree.structure(shardings))[:200],
            "Make it for the same optimizer and parameters: state_shardings(tx, params)")  # fmt: skip
    wanted = jax.tree.leaves(shardings)
    for (path, leaf), sharding in zip(paths, wanted, strict=True):
        try:
            sharding.shard_shape(np.shape(leaf))
        except ValueError as error:
            say(TreeError, "place", f"the leaf {jax.tree_util.keystr(path)} cannot be cut as its sharding says",
                f"{errors.describe(leaf)} and {sharding}: {str(error).splitlines()[0]}",
                "Make the shardings for these parameters and this mesh: state_shardings(tx, params, mesh)")  # fmt: skip
    return jax.device_put(state, shardings)


# ---- from parameters to leaves of the state ---------------------------------------------------------------


def _layout(
    name: str,
    tx: GradientTransformation,
    params: Params,
    mesh: AnyMesh | None,
    zero: str | None,
    memory_kind: str | None,
    problem: dict[str, Any],
) -> Any:
    """The state as a tree of `_Leaf`s."""
    tx = errors.check_pair(name, "tx", tx, lands=True)
    mesh = _mesh_of(name, params, mesh)
    if zero is not None and zero not in mesh.axis_names:
        say(HyperparameterError, name, f"zero must be an axis of the mesh, {', '.join(mesh.axis_names)}", repr(zero),
            "Give the name of the axis that the data are spread along, or None")  # fmt: skip
    if memory_kind is not None:
        errors.check_choice(name, "memory_kind", memory_kind, MEMORY_KINDS)
    parameters = jax.tree_util.tree_map_with_path(lambda path, p: _parameter(name, path, p, mesh), params)
    bare = jax.tree.map(lambda p: tree.abstract(np.shape(p), tree.dtype_of(p)), params)
    state = jax.eval_shape(lambda p: tx.init(p, **problem), bare)

    def beside(leaf: Any, parameter: _Parameter) -> Any:
        if is_packed(leaf):
            return _packed_beside(leaf, parameter, mesh, zero, memory_kind)
        return _beside(leaf, parameter, mesh, zero, memory_kind)

    def alone(leaf: Any) -> _Leaf:
        why = "it belongs to no one parameter" if leaf.shape else ""
        return _Leaf(leaf.dtype, leaf.shape, _whole(leaf, mesh), why)

    def of_all(full: PyTree) -> PyTree:
        def one(at: _Parameter, part: PyTree) -> PyTree:
            return jax.tree.map(lambda leaf: beside(leaf, at), part, is_leaf=is_packed)

        return jax.tree.map(one, parameters, full)

    def each(stand_in: Any, value: Any) -> Any:
        return of_all(value) if isinstance(stand_in, AnyParams) else jax.tree.map(alone, value)

    told = stand_ins(tx, state, bare)
    return jax.tree.map(each, told, state, is_leaf=lambda x: isinstance(x, AnyParams))


def _beside(leaf: Any, parameter: _Parameter, mesh: AnyMesh, zero: str | None, memory_kind: str | None) -> _Leaf:
    sizes = dict(mesh.shape)
    axes = list(placement.beside(leaf.shape, parameter.shape, parameter.axes, sizes))
    why = []
    if math.prod(leaf.shape) == 1:
        return _Leaf(leaf.dtype, leaf.shape, _whole(leaf, mesh), "one number")
    wanted = {axis for entry in parameter.axes for axis in entry}
    small = placement.is_small(leaf.shape, parameter.shape)
    if small:
        why.append("a vector beside a matrix: small")
    elif lost := wanted - {axis for entry in axes for axis in entry}:
        why.append(f"no dimension is divided by {', '.join(sorted(lost))}")
    zeroed = zero is None or small or zero in wanted or placement.put_axis(axes, leaf.shape, zero, sizes)
    if not zeroed:
        why.append(f"no dimension is divided by {zero}={sizes[zero]}")
    sharding = NamedSharding(mesh, placement.spec_of(placement.shortest(axes, mesh)))
    if memory_kind is not None:
        sharding = sharding.with_memory_kind(memory_kind)
    return _Leaf(leaf.dtype, leaf.shape, sharding, "; ".join(why))


def _packed_beside(node: Any, parameter: _Parameter, mesh: AnyMesh, zero: str | None, memory_kind: str | None) -> Any:
    """Of an array in few bits: codes as the array would be, scales with their codes; whole along the last axis where
    that does not go."""
    sizes = dict(mesh.shape)
    shape = shape_of(node)
    axes = list(placement.beside(shape, parameter.shape, parameter.axes, sizes))
    counts = {field: np.shape(part)[-1] for field, part in zip(node._fields, node, strict=True)}

    def fits(field: str, entry: Axes) -> bool:
        return bool(counts[field] % math.prod(sizes[axis] for axis in entry) == 0)

    if not fits("codes", axes[-1]):
        axes[-1] = ()
    codes = _beside(node.codes, _Parameter(np.shape(node.codes), tuple(axes)), mesh, zero, memory_kind)
    cut = placement.axes_of(codes.sharding, len(shape))
    last = cut[-1] if fits("scales", cut[-1]) else ()
    sharding = NamedSharding(mesh, placement.spec_of(placement.shortest([*cut[:-1], last], mesh)))
    if memory_kind is not None:
        sharding = sharding.with_memory_kind(memory_kind)
    why = "" if last == cut[-1] else "its blocks are not divided as its codes are"
    return type(node)(codes, _Leaf(node.scales.dtype, node.scales.shape, sharding, why))


def _whole(leaf: Any, mesh: AnyMesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, placement.spec_of(placement.shortest([()] * len(leaf.shape), mesh)))


def _parameter(name: str, path: Any, leaf: Any, mesh: AnyMesh) -> _Parameter:
    """Of an array or an abstract one; without a NamedSharding it is whole on every device."""
    sharding, shape = placement.sharding_of(leaf), np.shape(leaf)
    if sharding is None:
        return _Parameter(shape, ((),) * len(shape))
    axes = placement.axes_of(sharding, len(shape))
    strange = {axis for entry in axes for axis in entry} - set(mesh.axis_names)
    if strange:
        say(HyperparameterError, name, f"the mesh must have the axes of the parameter {jax.tree_util.keystr(path)}",
            f"{sharding.spec} and the axes {', '.join(mesh.axis_names)}",
            "Give a mesh with these axis names, of any size")  # fmt: skip
    for i, entry in enumerate(axes):
        parts = math.prod(mesh.shape[axis] for axis in entry)
        if shape[i] % parts:
            say(TreeError, name, f"dimension {i} of the parameter {jax.tree_util.keystr(path)} must be divided by "
                f"{' x '.join(entry)} of the mesh", f"{shape[i]} and {parts}",
                "Give a mesh whose axes divide the parameters")  # fmt: skip
    return _Parameter(shape, axes)


def _mesh_of(name: str, params: Params, mesh: AnyMesh | None) -> AnyMesh:
    if mesh is not None:
        if not isinstance(mesh, Mesh | AbstractMesh):
            say(HyperparameterTypeError, name, "mesh must be a jax.sharding.Mesh or AbstractMesh",
                errors.describe(mesh), "Make one: jax.make_mesh((8,), ('data',))")  # fmt: skip
        return mesh
    found = {sharding.mesh for leaf in jax.tree.leaves(params) if (sharding := placement.sharding_of(leaf)) is not None}
    if len(found) > 1:
        say(TreeError, name, "the parameters must be on one mesh", f"{len(found)} meshes",
            "Give the one for the state: mesh=...")  # fmt: skip
    if not found:
        say(HyperparameterError, name, "a mesh is missing, and the parameters have none", "parameters without a "
            "NamedSharding", "Give mesh=..., or put the parameters on one: jax.device_put(params, NamedSharding(mesh, "
            "PartitionSpec()))")  # fmt: skip
    return found.pop()


def _spelled(sharding: NamedSharding) -> str:
    kind = "" if sharding.memory_kind in (None, "device", "unpinned_host") else f" in {sharding.memory_kind}"
    entries = (repr(entry) for entry in sharding.spec)
    return f"P({', '.join(entries)}){kind}" if any(sharding.spec) else f"P(){kind}"
