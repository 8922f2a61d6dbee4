"""What a step of Muon costs, beside optax.contrib's in the same process.

    python examples/benchmarks/muon_cost.py                     # 48 matrices
    python examples/benchmarks/muon_cost.py --tree gpt2         # a tree shaped like GPT-2 small's
    python examples/benchmarks/muon_cost.py --devices 8         # every matrix sharded on its rows

One step is update + apply_updates, jitted, its arguments donated. Counted: lines of optimized HLO, with and without the
tables of source lines at their head, temporary memory, and, over several devices, collectives and the bytes they move
on each device. Timed: compiling, and the compiled
step, the median of several runs taken in random order.
"""

import argparse
import random
import re
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax.contrib

import jaxopt_ko as jo

WIDTH, LAYERS = 256, 8
DTYPES = {"f32": 4, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "pred": 1, "f64": 8}
COLLECTIVE = re.compile(r" = (.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")


def shapes_of(name):
    if name == "48":
        square, wide, tall = (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)
        layer = {**{f"attention{i}": square for i in range(4)}, "up": wide, "down": tall}
        return {f"layer{i}": layer for i in range(LAYERS)}
    width, layers = 768, 12
    norm = {"scale": (width,), "bias": (width,)}
    layer = {
        "norm1": norm, "norm2": norm,
        "qkv": {"w": (width, 3 * width), "b": (3 * width,)}, "out": {"w": (width, width), "b": (width,)},
        "up": {"w": (width, 4 * width), "b": (4 * width,)}, "down": {"w": (4 * width, width), "b": (width,)},
    }  # fmt: skip
    return {"layers": {str(i): layer for i in range(layers)}, "norm": norm}  # the embeddings are not Muon's


def optimizers(args, mesh):
    options = {"ns_coeffs": args.preset} if args.preset != "standard" else {}
    sharding = {"stack_sharding": jax.sharding.NamedSharding(mesh, jax.P("x"))} if args.devices > 1 else {}
    makers = {"ours": lambda: jo.muon(0.02, **options, **sharding)}
    if not args.preset or args.preset in ("standard", "dion"):
        makers["optax"] = lambda: optax.contrib.muon(0.02, **options)
    return {
        name: (make(), jo.apply_updates if name == "ours" else optax.apply_updates) for name, make in makers.items()
    }


def bytes_moved(hlo):
    """(collectives, bytes of their results on one device)."""
    found = COLLECTIVE.findall(hlo)
    total = 0
    for result, _ in found:
        for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", result):
            size = DTYPES.get(dtype, 4)
            for dim in filter(None, dims.split(",")):
                size *= int(dim)
            total += size
    return len(found), total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", choices=("48", "gpt2"), default="48")
    parser.add_argument("--devices", type=int, default=1, help="host devices (default: %(default)s)")
    parser.add_argument("--preset", default="standard", help="Newton-Schulz coefficients (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="append the table to this file")
    args = parser.parse_args()
    if args.devices > 1:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", args.devices)
    mesh = jax.make_mesh((args.devices,), ("x",), (jax.sharding.AxisType.Auto,))
    keys = iter(jax.random.split(jax.random.key(0), 1000))

    def leaf(shape):
        place = jax.sharding.NamedSharding(mesh, jax.P("x") if len(shape) == 2 else jax.P())
        return jax.device_put(0.02 * jax.random.normal(next(keys), shape), place)

    params = jax.tree.map(leaf, shapes_of(args.tree), is_leaf=lambda x: isinstance(x, tuple))
    grads = jax.tree.map(lambda p: leaf(p.shape), params)
    count = sum(p.size for p in jax.tree.leaves(params))
    lines = [f"jax {jax.__version__}, {jax.devices()[0].device_kind} x {args.devices}; {args.tree}, {args.preset}: "
             f"{count / 1e6:.1f} M parameters"]  # fmt: skip

    made, rows = {}, {}
    for name, (opt, apply_updates) in optimizers(args, mesh).items():

        def step(params, state, grads, opt=opt, apply_updates=apply_updates):
            updates, state = opt.update(grads, state, params)
            return apply_updates(params, updates), state

        p = jax.tree.map(jnp.copy, params)
        state = jax.jit(opt.init)(p) if args.devices == 1 else jax.tree.map(
            lambda s: jax.device_put(s, jax.sharding.NamedSharding(mesh, jax.P("x") if s.ndim == 2 else jax.P())),
            opt.init(p),
        )  # fmt: skip
        places = jax.tree.map(lambda x: x.sharding, (p, state))
        start = time.perf_counter()
        lowered = jax.jit(step, donate_argnums=(0, 1), out_shardings=places).lower(p, state, grads)
        middle = time.perf_counter()
        program = lowered.compile()
        end = time.perf_counter()
        hlo = program.as_text()
        moved = bytes_moved(hlo)
        rows[name] = {
            "trace s": middle - start, "compile s": end - middle, "HLO lines": hlo.count("\n"),
            "without tables": hlo[hlo.index("\n%") :].count("\n"),
            "temporary B/param": program.memory_analysis().temp_size_in_bytes * args.devices / count,
            "collectives": moved[0], "moved / params": moved[1] / (4 * count),
        }  # fmt: skip
        made[name] = [program, p, state, []]
    for _ in range(args.repeats):
        for name in random.sample(list(made), len(made)):
            program, p, state, times = made[name]
            start = time.perf_counter()
            p, state = jax.block_until_ready(program(p, state, grads))
            times.append(time.perf_counter() - start)
            made[name][1:3] = p, state
    for name in made:
        rows[name]["step ms"] = 1e3 * statistics.median(made[name][3])
        rows[name]["least ms"] = 1e3 * min(made[name][3])
    if len(made) == 2:
        ours, theirs = (jax.tree.leaves(made[name][1]) for name in ("ours", "optax"))
        lines.append(f"largest difference of the parameters after {args.repeats} steps of 0.02: "
                     f"{max(float(jnp.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)):.1e}")  # fmt: skip
    lines.append(f"{'':20}" + "".join(f"{name:>12}" for name in rows) + ("       ratio" if len(rows) == 2 else ""))
    for figure in rows["ours"]:
        values = [rows[name][figure] for name in rows]
        ratio = f"{values[0] / values[1]:12.3f}" if len(values) == 2 and values[1] else ""
        lines.append(f"{figure:20}" + "".join(f"{value:12.4g}" for value in values) + ratio)
    print("\n".join(lines))
    if args.out:
        with args.out.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
