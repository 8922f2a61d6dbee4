"""How fast an optimizer's step itself is: `python -m jaxopt_ko bench --accelerator`, or this file.

One step is update and apply_updates, jitted, arguments donated, float32, on a tree shaped like a language model's
layers. Beside it are the device's own rates: of a copy (x * 1.0001 of a large array, read once and written once) and of
a large matrix product. Each row says

    ms               median of a step; compile s, of compiling it
    of copy          bytes that have to move (parameters and state read and written, gradients read) over what the copy
                     would move in that time
    of products      multiplications of Muon's Newton-Schulz over what the product's rate gives in that time
    peak B/param     of the compiled program, arguments and temporaries, a parameter
    optax ms         optax's step for the same, where it has one

Steps that refresh a preconditioner are dearer than those between: Shampoo's and SOAP's ms is the mean over a period of
ten steps. SOAP turns no side that is longer than the width. A budget of time ends the run: by what the size before
took, rows that no longer fit are left out, and listed. On CPUs the trees are small.
"""

import argparse
import datetime
import importlib.metadata
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from optax import contrib

import jaxopt_ko as jo

PERIOD = 10  # steps between refreshes of a preconditioner
BUDGET = 330.0  # seconds
SIZES = {
    "0.2 M": (64, 4),
    "1 M": (128, 5),
    "10 M": (384, 6),
    "100 M": (1024, 8),
    "300 M": (1536, 11),
    "1 B": (2560, 13),
}
SMALL = ("0.2 M",)  # on CPUs


def shapes(width: int, layers: int) -> dict:
    """12 width**2 parameters a layer, and norms."""
    layer = {"qkv": (width, 3 * width), "out": (width, width), "up": (width, 4 * width), "down": (4 * width, width),
             "norm": (width,)}  # fmt: skip
    return {str(i): layer for i in range(layers)}


def optimizers(width: int) -> dict:
    """Ours by name, and optax's where it has one."""
    block = min(width, 1024)
    return {
        "adamw": (jo.adamw(1e-3), optax.adamw(1e-3), 1),
        "adamw, 8 bits": (jo.quantized(jo.adamw(1e-3)), None, 1),
        "muon, float32": (jo.muon(1e-3), contrib.muon(1e-3), 1),
        "muon, bfloat16": (jo.muon(1e-3, compute_dtype=jnp.bfloat16), None, 1),
        "shampoo": (jo.shampoo(1e-3, precondition_frequency=PERIOD, block_size=block), None, PERIOD),
        "soap": (jo.soap(1e-3, precondition_frequency=PERIOD, max_precondition_dim=width), None, PERIOD),
    }


def is_shape(x) -> bool:
    return isinstance(x, tuple)


def bytes_of(tree) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def seconds(step, carry, *rest, repeats: int = 7, period: int = 1):
    """(mean over a period, median over repeats; what is carried at the end)."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(period):
            carry = step(*carry, *rest)
        jax.block_until_ready(carry)
        found.append((time.perf_counter() - began) / period)
    return statistics.median(found), carry


def rates(large: bool) -> dict[str, float]:
    """Of this device: bytes a second of a copy, operations a second of a product in two dtypes."""
    size, side = (2**28, 8192) if large else (2**24, 1024)
    copied = jax.jit(lambda x: (x * 1.0001,), donate_argnums=0)
    taken, _ = seconds(copied, copied(jnp.ones(size)))
    found = {"copy": 2 * 4 * size / taken}
    for dtype, precision in ((jnp.float32, jax.lax.Precision.HIGHEST), (jnp.bfloat16, None)):
        product = jax.jit(lambda x, p=precision, d=dtype: (jnp.matmul(x, x, precision=p) * d(1e-4),))
        taken, _ = seconds(product, product(jnp.ones((side, side), dtype)))
        found[jnp.dtype(dtype).name] = 2 * side**3 / taken
    return found


def newton_schulz(tree, steps: int = 5) -> int:
    """Operations of Muon's products: X X', a polynomial of it, and that times X, of every matrix."""
    total = 0
    for shape in jax.tree.leaves(tree, is_leaf=is_shape):
        if len(shape) == 2:
            m, n = sorted(shape)
            total += steps * 2 * (2 * m * m * n + m**3)
    return total


def row(name: str, tx, period: int, tree, device: dict[str, float], apply_updates) -> dict:
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return apply_updates(params, updates), state

    keys = iter(jax.random.split(jax.random.key(0), 1000))
    make = jax.jit(lambda k: jax.tree.map(lambda s, k: 0.02 * jax.random.normal(k, s), tree, k, is_leaf=is_shape))
    keyed = lambda: jax.tree.map(lambda _: next(keys), tree, is_leaf=is_shape)  # noqa: E731
    params, grads = make(keyed()), make(keyed())
    count = sum(p.size for p in jax.tree.leaves(params))
    state = jax.jit(tx.init)(params)
    moved = 2 * bytes_of(params) + 2 * bytes_of(state) + bytes_of(grads)
    began = time.perf_counter()
    program = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, grads).compile()
    compiling = time.perf_counter() - began
    memory = program.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    peak += memory.output_size_in_bytes - memory.alias_size_in_bytes
    carry = program(params, state, grads)
    taken, _ = seconds(program, carry, grads, repeats=5 if period == 1 else 2, period=period)
    found = {"method": name, "parameters": count, "ms": 1e3 * taken, "compile_s": compiling,
             "of_copy": moved / device["copy"] / taken, "peak_bytes": peak / count,
             "state_bytes": bytes_of(state) / count}  # fmt: skip
    if name.startswith("muon"):
        found["of_products"] = newton_schulz(tree) / device["bfloat16" if "16" in name else "float32"] / taken
    return found


def line(size: str, r: dict) -> str:
    share = lambda key: f"{r[key]:11.1%}" if key in r else f"{'':11}"  # noqa: E731
    optax_ms = f"{r['optax_ms']:9.2f}" if "optax_ms" in r else f"{'':9}"
    return (
        f"{size:6} {r['method']:15} {r['ms']:9.2f} {share('of_copy')} {share('of_products')} "
        f"{r['peak_bytes']:12.2f} {r['compile_s']:9.1f} {optax_ms}"
    )


def main(out: Path, sizes: tuple[str, ...] | None = None, budget: float = BUDGET) -> int:
    began, device = time.perf_counter(), jax.devices()[0]
    large = device.platform != "cpu"
    sizes = sizes or (tuple(size for size in SIZES if size not in SMALL) if large else SMALL)
    if not large:
        print(f"These are CPUs ({device.device_kind}): only {', '.join(sizes)}, and no statement about accelerators.")
    measured = rates(large)
    print(f"{device.device_kind}: copy {measured['copy'] / 1e9:.0f} GB/s, products {measured['float32'] / 1e12:.2f} "
          f"TFLOP/s in float32, {measured['bfloat16'] / 1e12:.2f} in bfloat16")  # fmt: skip
    print(f"{'size':6} {'method':15} {'ms':>9} {'of copy':>11} {'of products':>11} {'peak B/param':>12} "
          f"{'compile s':>9} {'optax ms':>9}")  # fmt: skip
    rows, left, took = [], [], {}
    names = list(optimizers(SIZES[sizes[0]][0]))
    refreshing = [name for name in names if name in ("shampoo", "soap")]
    order = [(size, n) for size in sizes for n in names if n not in refreshing]
    for size, name in order + [(size, n) for size in sizes for n in refreshing]:
        width, layers = SIZES[size]
        ours, theirs, period = optimizers(width)[name]
        work, at = 12 * width**2 * layers * width**0.5, time.perf_counter()  # grows faster than the parameters
        before, seconds_before = took.get(name, (work, 0.0))
        if at - began + seconds_before * work / before > budget:
            left.append(f"{name} at {size}: no time")
            continue
        try:
            found = row(name, ours, period, shapes(width, layers), measured, jo.apply_updates)
            if theirs is not None:
                other = row(name, theirs, period, shapes(width, layers), measured, optax.apply_updates)
                found |= {"optax_ms": other["ms"], "optax_peak_bytes": other["peak_bytes"]}
        except jax.errors.JaxRuntimeError as error:  # as a rule, no memory
            left.append(f"{name} at {size}: {str(error).splitlines()[0][:100]}")
            continue
        took[name] = work, time.perf_counter() - at
        rows.append({"size": size, **found})
        print(line(size, found), flush=True)
    for each in left:
        print(f"Left out: {each}")
    about = {"device": device.device_kind, "platform": device.platform, "date": str(datetime.date.today()),
             "versions": {n: importlib.metadata.version(n) for n in ("jax", "jaxlib", "optax")}
             | {"jaxopt_ko": jo.__version__}, "seconds": round(time.perf_counter() - began, 1)}  # fmt: skip
    out.write_text(json.dumps({**about, "rates": measured, "rows": rows, "left_out": left}, indent=1), encoding="utf-8")
    print(f"{out}, after {about['seconds']:.0f} s")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("accelerator.json"))
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES))
    words = parser.parse_args()
    raise SystemExit(main(words.out, tuple(words.sizes) if words.sizes else None))
