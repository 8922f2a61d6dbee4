"""What each of many problems has of its own, and on which devices they are solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from jaxopt_ko.core import tree
from jaxopt_ko.errors import HyperparameterTypeError, TreeError, describe, say
from jaxopt_ko.solvers.problem.bounds import check_bound_pair
from jaxopt_ko.types import Params, PyTree, Solution

AXIS = "problems"


def problem_count(name: str, params: Params, argument: str = "params") -> int:
    """n: the leading axis of the starts, or of another argument."""
    for leaf in jax.tree.leaves(params):
        if np.shape(leaf)[:1] == (0,):
            say(TreeError, name, f"{argument} must have one problem at least", describe(leaf),
                "Where there may be none, look at the length of the leading axis first")  # fmt: skip
        if np.ndim(leaf) < 1:
            say(TreeError, name, f"every leaf of {argument} must have a leading axis, of the problems",
                describe(leaf), "Stack them: jnp.stack([first, second, …])")  # fmt: skip
    return int(np.shape(jax.tree.leaves(params)[0])[0])


def other_count(name: str, n: int, leaf: Any) -> None:
    """An array of another number of problems is refused."""
    say(TreeError, name, f"every array must have the starts' leading axis, of {n} problems", describe(leaf),
        "Give in_axes None for those of args that all problems share")  # fmt: skip


def own_bounds(name: str, bounds: Any, params: Params) -> list[bool]:
    """For each leaf of the bounds: is it one for each problem, as it has as many axes as all starts?"""
    if bounds is None:
        return []
    own: list[bool] = []
    dims = [np.ndim(leaf) for leaf in jax.tree.leaves(params)]
    for side in check_bound_pair(name, bounds):
        found = [np.ndim(leaf) for leaf in jax.tree.leaves(side)]
        like = dims if len(found) == len(dims) else [0] * len(found)
        own += [a == b > 0 for a, b in zip(found, like, strict=True)]
    return own


def mesh_of(name: str, devices: Any) -> jax.sharding.Mesh | None:
    """The devices along one axis."""
    if devices is None:
        return None
    if isinstance(devices, jax.sharding.Mesh):
        devices = list(devices.devices.flat)
    if not isinstance(devices, Sequence) or not devices or not all(isinstance(d, jax.Device) for d in devices):
        say(HyperparameterTypeError, name, "devices must be a sequence of devices, or a mesh", describe(devices),
            "Give jax.devices()")  # fmt: skip
    return jax.sharding.Mesh(np.asarray(devices), (AXIS,))


def placed_on(mesh: jax.sharding.Mesh, own: list[bool], n: int, given: PyTree) -> PyTree:
    """Concrete arrays where the devices are."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(given)

    def placed(leaf: Any, each: bool) -> Any:
        if isinstance(leaf, jax.core.Tracer) or not hasattr(leaf, "shape"):
            return leaf
        spec: Any = PartitionSpec(*[AXIS] * (each and n % mesh.size == 0))  # type: ignore[no-untyped-call]
        return jax.device_put(leaf, jax.sharding.NamedSharding(mesh, spec))

    return treedef.unflatten([placed(leaf, each) for leaf, each in zip(leaves, own, strict=True)])


def one_of(own: tuple[bool, ...], given: PyTree) -> PyTree:
    """Abstract parameters and data of one problem; what all share as it is."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(given)
    return treedef.unflatten([
        tree.abstract(x.shape[1:], x.dtype) if each else x for x, each in zip(leaves, own, strict=True)
    ])  # fmt: skip


def divided(
    solve: Callable[..., tuple[Solution, Array]],
    mesh: jax.sharding.Mesh | None,
    n: int,
    mine: list[Array],
    *shared: Any,
) -> tuple[Solution, Array]:
    """`solve(mine, *shared)` on each device for its part of n problems: their solutions, and each one's updates."""
    if mesh is None:
        return solve(mine, *shared)
    each, all_ = PartitionSpec(AXIS), PartitionSpec()  # type: ignore[no-untyped-call]
    padded = [jnp.concatenate([x, jnp.repeat(x[-1:], -n % mesh.size, axis=0)]) for x in mine]
    specs = (each, *[all_] * len(shared))
    found, updates = jax.shard_map(solve, mesh=mesh, in_specs=specs, out_specs=each, check_vma=False)(padded, *shared)
    solutions: Solution = jax.tree.map(lambda x: x[:n], found)
    return solutions, updates
