"""How much of a device's matrix rate a step of Muon reaches: `python examples/benchmarks/muon_rate.py --out FILE`.

Timed: one jitted step (update and apply_updates, arguments donated), and a large matrix product in the same dtype.
Counted: the multiplications of the Newton-Schulz products alone; momentum and updates are memory traffic, not rate.
optax.contrib's step is timed beside it; it iterates in the gradients' dtype.
"""

import argparse
import datetime
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax.contrib
from muon_cost import shapes_of

import jaxopt_ko as jo
from jaxopt_ko.linalg import matrix_functions

TREES = {
    "48 matrices, width 256": shapes_of("48"),
    "GPT-2 small": shapes_of("gpt2"),
    "24 layers, width 2048": {i: {"qkv": (2048, 6144), "out": (2048, 2048), "up": (2048, 8192), "down": (8192, 2048)}
                              for i in range(24)},
}  # fmt: skip


def seconds(function, *args, repeats=10):
    """(median time, last result) of function(*args), whose result takes the first arguments' place."""
    result = jax.block_until_ready(function(*args))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = jax.block_until_ready(function(*result, *args[len(result) :]))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def products(shapes, steps, gram_from):
    """Floating-point operations of the Newton-Schulz products."""
    total = 0
    for shape in jax.tree.leaves(shapes, is_leaf=lambda x: isinstance(x, tuple)):
        if len(shape) != 2:
            continue
        m, n = sorted(shape)
        if n > gram_from * m:
            total += sum(2 * (2 * m * m * n + (5 * s - 4 + 1) * m**3) for s in steps)
        else:
            total += sum(steps) * 2 * (2 * m * m * n + m**3)
    return total


def peak(dtype):
    """Rate of a large product, in operations a second."""
    x = jnp.ones((8192, 8192), dtype)
    precision = None if dtype == jnp.bfloat16 else jax.lax.Precision.HIGHEST
    f = jax.jit(lambda x: (jnp.matmul(x, x, precision=precision) * dtype(1e-4),))
    return 2 * 8192**3 / seconds(f, x)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="append the table to this file")
    parser.add_argument("--small", action="store_true", help="the first tree alone")
    args = parser.parse_args()
    device = jax.devices()[0]
    head = f"{'tree':24} {'compute':9} {'step ms':>9} {'TFLOP/s':>9} {'of peak':>8} {'optax ms':>9} {'ratio':>6}"
    lines = [f"{datetime.date.today()}, {device.device_kind}, jax {jax.__version__}, optax {optax.__version__}", head]
    for name, shapes in list(TREES.items())[: 1 if args.small else None]:
        params = jax.tree.map(
            lambda s: 0.02 * jax.random.normal(jax.random.key(0), s), shapes, is_leaf=lambda x: isinstance(x, tuple)
        )

        def timed(opt, apply_updates, params=params):
            def step(p, state, g):
                u, state = opt.update(g, state, p)
                return apply_updates(p, u), state

            copy = jax.tree.map(jnp.copy, params)
            return seconds(jax.jit(step, donate_argnums=(0, 1)), copy, jax.jit(opt.init)(copy), params)

        theirs = timed(optax.contrib.muon(0.02), optax.apply_updates)
        for dtype in (jnp.float32, jnp.bfloat16):
            short = dtype == jnp.bfloat16
            mine = timed(jo.muon(0.02, compute_dtype=dtype), jo.apply_updates)
            standard = matrix_functions.PRESETS["standard"](5)
            steps = [5] if short else [len(s) for s in matrix_functions._segments(standard, jnp.dtype(dtype))]
            rate = products(shapes, steps, float("inf") if short else 2) / mine
            share = f"{rate / 1e12:9.1f} {rate / peak(dtype):8.1%}"
            times = f"{1e3 * theirs:9.2f} {mine / theirs:6.2f}"
            lines.append(f"{name:24} {jnp.dtype(dtype).name:9} {1e3 * mine:9.2f} {share} {times}")
            print("\n".join(lines[-2:] if len(lines) == 3 else lines[-1:]), flush=True)
    if args.out:
        with args.out.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
