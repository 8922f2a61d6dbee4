"""Collectives, and the bytes they move, in a compiled step on 8 host devices, beside optax's: a table.

    python examples/benchmarks/mesh_cost.py                       # all methods, a minute or two
    python examples/benchmarks/mesh_cost.py --methods muon soap   # some of them

One step is update + apply_updates, jitted; parameters, gradients and state are cut on their rows over 8 devices. Ours
stands there on automatic axes, where the compiler decides how arrays are cut inside of the step, and on explicit
ones, where the library does; optax on automatic ones. Nothing is run: the programs are compiled and read.

moved: bytes of the collectives' results on one device, over those of all parameters. state: bytes on one device, over
an eighth of the whole state.
"""

import argparse
import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from muon_cost import COLLECTIVE, bytes_moved, shapes_of
from tqdm import tqdm

import jaxopt_ko as jo

DEVICES = 8
KINDS = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def clip_adamw(library, mesh):
    return library.chain(library.clip_by_global_norm(1.0), library.adamw(1e-3))


def muon(library, mesh):
    if library is optax:
        return optax.contrib.muon(0.02)
    over = NamedSharding(mesh, P("x")) if AxisType.Auto in mesh.axis_types else None
    return jo.muon(0.02, stack_sharding=over)


def shampoo(library, mesh):
    return jo.shampoo(1e-3)


def soap(library, mesh):
    return jo.soap(1e-3)


# name -> (library, mesh) -> optimizer, and whether optax has it
METHODS = {"clip + adamw": (clip_adamw, True), "muon": (muon, True), "shampoo": (shampoo, False), "soap": (soap, False)}
LAYOUTS = {
    "ours, automatic": (jo, AxisType.Auto), "ours, explicit": (jo, AxisType.Explicit), "optax": (optax, AxisType.Auto),
}  # fmt: skip


class Cost(NamedTuple):
    """Of one compiled step."""

    counts: Counter  # kind of collective -> how many
    moved: float  # bytes of their results on one device, over those of all parameters
    state: float  # bytes of the state on one device, over an eighth of the whole state

    @property
    def collectives(self):
        return self.counts.total()


def parameters(mesh, width=256, layers=8):
    """48 matrices, six a layer, each cut on its rows: abstract ones, as nothing is run."""
    rows = NamedSharding(mesh, P("x", None))
    ratio = 256 // width
    return jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct([n // ratio for n in shape], jnp.float32, sharding=rows),
        {key: value for key, value in shapes_of("48").items() if int(key.removeprefix("layer")) < layers},
        is_leaf=lambda x: isinstance(x, tuple),
    )


def cost(method, layout, **size):
    """The `Cost` of a step; size: of `parameters`."""
    library, kind = LAYOUTS[layout]
    mesh = jax.make_mesh((DEVICES,), ("x",), axis_types=(kind,))
    params = parameters(mesh, **size)
    with jax.set_mesh(mesh):
        tx = METHODS[method][0](library, mesh)
        places = jo.sharding.state_shardings(tx, params)
        state = jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            jax.eval_shape(tx.init, params),
            places,
        )

        @jax.jit
        def step(params, state, grads):
            updates, state = tx.update(grads, state, params)
            return library.apply_updates(params, updates), state

        program = step.lower(params, state, params).compile()
    hlo = program.as_text()
    _, moved = bytes_moved(hlo)
    kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    here = sum(
        jnp.dtype(x.dtype).itemsize * math.prod(place.shard_shape(x.shape))
        for x, place in zip(jax.tree.leaves(state), jax.tree.leaves(program.output_shardings[1]), strict=True)
    )
    size = sum(4 * p.size for p in jax.tree.leaves(params))
    return Cost(Counter(kind for _, kind in COLLECTIVE.findall(hlo)), moved / size, here * DEVICES / kept)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--layers", type=int, default=8, help="of six matrices each (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    lines = [
        f"jax {jax.__version__}, {DEVICES} host devices, {6 * args.layers} matrices",
        f"{'method':13} {'':15} "
        + " ".join(f"{kind:>18}" for kind in KINDS)
        + f" {'all':>5} {'moved':>7} {'state':>6}",
    ]
    wanted = [(m, of) for m in args.methods for of in LAYOUTS if of != "optax" or METHODS[m][1]]
    for method, layout in tqdm(wanted, unit="program"):
        found = cost(method, layout, layers=args.layers)
        counts = " ".join(f"{found.counts[kind]:18}" for kind in KINDS)
        lines.append(f"{method:13} {layout:15} {counts} {found.collectives:5} {found.moved:7.3f} {found.state:6.2f}")
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
