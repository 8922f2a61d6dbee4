"""Bytes that the states of all methods take before and after `quantized`: `python examples/benchmarks/state_bytes.py`.

Each optimizer of the catalogue begins on a transformer of 4 layers and 3.3 M float32 parameters, as it stands there but
for a learning rate; then inside `quantized(…, "companded8")` and `quantized(…, "four_bit")` with their defaults, which
leave embeddings and leaves of fewer than 4096 elements in float32. Counted are the arrays that `init` makes. Beside
them: all that is resident after a jitted step of AdamW so packed, with bfloat16 parameters and gradients and a split
master of 24 bits, and of what is usual instead. Prints a table.
"""

import argparse
import gc
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from tqdm import tqdm

import jaxopt_ko as jo

sys.path.insert(0, str(Path(__file__).parents[1]))
from characters import start

RESULTS = Path(__file__).parent / "results" / "state_bytes.json"
WIDTH, LAYERS = 256, 4  # of the table
WIDE, DEEP = 512, 6  # of what is resident: 19 M parameters, of which embeddings are 0.6 %
WAYS = ("float32", "companded8", "four_bit")


def tree(width=WIDTH, layers=LAYERS, dtype=jnp.float32):
    """A transformer's parameters, each layer's apart, so that a matrix is a matrix to whoever looks at shapes."""
    params = jax.tree.map(lambda p: p.astype(dtype), start(jax.random.key(0), width, layers))
    stacks = params.pop("layers")
    return {**params, "layers": [jax.tree.map(lambda p, i=i: p[i], stacks) for i in range(layers)]}


def rows():
    """Of the catalogue: what needs no more than gradients, parameters, a value, and curvature when it steps."""
    asked = {"gradient", "params", "value", "value_fn", "products"}
    rows = [row for row in jo.catalog.ROWS if row.family != "derivative-free"]  # which init asks the function itself
    return [row for row in rows if row.needs[0] in ("gradient", "value_fn") and set(row.needs) <= asked
            and row.family not in ("conjugate", "quasi-newton", "newton")]  # fmt: skip


def maker(row, way):
    """The `init` of a method."""
    tx = row.make()
    return (tx if way == "float32" else jo.quantized(tx, way)).init


def bytes_of(made):
    """Of arrays, or of their shapes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(made))


RESIDENT = {
    "AdamW, float32": (jnp.float32, lambda tx: tx),
    "AdamW, bfloat16, master_weights": (jnp.bfloat16, jo.master_weights),
    "AdamW, bfloat16, split_master 24": (jnp.bfloat16, lambda tx: jo.split_master(tx, 24)),
    "AdamW, bfloat16, split_master 24, companded8": (
        jnp.bfloat16, lambda tx: jo.split_master(jo.quantized(tx, "companded8"), 24),
    ),
    "AdamW, bfloat16, split_master 24, companded8, embeddings too": (
        jnp.bfloat16, lambda tx: jo.split_master(jo.quantized(tx, "companded8", embeddings=True), 24),
    ),
    "AdamW, bfloat16, split_master 24, four_bit": (
        jnp.bfloat16, lambda tx: jo.split_master(jo.quantized(tx, "four_bit"), 24),
    ),
}  # fmt: skip


def resident(name, width=WIDE, layers=DEEP):
    """Bytes a parameter that are live between two steps: parameters, gradients, state, of all arrays that there are."""
    dtype, around = RESIDENT[name]
    gc.collect()
    others = {id(x) for x in jax.live_arrays()}
    optimizer = around(jo.adamw(1e-3))

    def step(params, grads, state):
        updates, state = optimizer.update(grads, state, params)
        return jo.apply_updates(params, updates), state

    params = tree(width, layers, dtype)
    count = sum(p.size for p in jax.tree.leaves(params))
    state = jax.jit(optimizer.init)(params)
    grads = jax.tree.map(lambda p: 0.01 * p, params)
    params, state = jax.block_until_ready(jax.jit(step, donate_argnums=(0, 2))(params, grads, state))
    gc.collect()
    live = sum(x.nbytes for x in jax.live_arrays() if id(x) not in others)
    assert live >= bytes_of((params, grads, state))
    return live / count


# ---- what came out ----------------------------------------------------------------------------------------


def measured():
    params = tree()
    count = sum(p.size for p in jax.tree.leaves(params))
    found = {}
    with tqdm(total=len(rows()) + len(RESIDENT), unit="row") as bar:
        for row in rows():
            bar.set_postfix_str(row.name)
            found[row.name] = {way: round(bytes_of(maker(row, way)(params)) / count, 3) for way in WAYS}
            bar.update()
        kept = {}
        for name in RESIDENT:
            bar.set_postfix_str(name)
            kept[name] = round(resident(name), 3)
            bar.update()
    large = sum(p.size for p in jax.tree.leaves(jax.eval_shape(lambda: tree(WIDE, DEEP))))
    return {"parameters": count, "state": found, "resident_parameters": large, "resident": kept,
            "versions": {"jax": jax.__version__, "jaxopt_ko": jo.__version__}}  # fmt: skip


def markdown(report):
    """Bytes a parameter of the states."""
    lines = ["| method | state | companded8 | four_bit |", "|---|---|---|---|"]
    for name, sizes in report["state"].items():
        lines.append(f"| `{name}` | " + " | ".join(f"{sizes[way]:.2f}" for way in WAYS) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the report to this file, as JSON")
    args = parser.parse_args()
    if args.out and not args.out.parent.is_dir():
        parser.error(f"--out {args.out}: there is no directory {args.out.parent}")
    report = measured()
    print(markdown(report))
    for name, size in report["resident"].items():
        print(f"{name:64} {size:6.3f} bytes a parameter, resident")
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
