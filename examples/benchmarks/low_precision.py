"""What parameters of 16 bits and states of 8 or 4 cost a language model: `python examples/benchmarks/low_precision.py`.

The transformer of `char_lm.py`, at half its width, learns the characters of Python's standard library in bfloat16:
parameters, activations and gradients. AdamW, Muon (AdamW for what is no matrix) and Lion, three seeds each, a warm-up
and a cosine to zero. The rows: float32, from two beginnings that differ by a rounding, which shows what is chance;
bfloat16 alone; with each wrapper of the parameters; with each code of the moments behind a split master of 24 bits; and
behind the same one the 8 bits that one writes first, m and v in equal parts of a block's largest, v without its root,
to see them fail. Seeds of a row are one compiled program.

Learning rates are a third to a half of the best on a grid in float32, where two runs that differ by a rounding at the
start end too far apart to tell codes from chance (AdamW's 4e-3: a standard error of 0.008 over three seeds).

The loss is that of the trained parameters as they stand, in their own arithmetic, on text kept apart. Differences are
from float32's loss with the same seed. Bytes are counted from the arrays that the last step leaves; the embedding, a
twentieth of the model, keeps its moments in float32, as `quantized` leaves it, and smaller leaves are packed, too
(min_size=0). Prints a table; `--write` puts it into READMEs.
"""

import argparse
import datetime
import json
import math
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jaxopt_ko as jo

sys.path.insert(0, str(Path(__file__).parents[1]))
from characters import loss, roles, start, text, windows
from readme_table import written

RESULTS = Path(__file__).parent / "results" / "low_precision.json"
MARK = "low precision"  # of the table in READMEs
WIDTH, LAYERS, CONTEXT, BATCH, WARM_UP = 64, 2, 64, 8, 20
KEPT, WINDOWS = 200_000, 1024  # characters kept apart, of which so many windows make the loss


# ---- 8 bits as they are first thought of ------------------------------------------------------------------


class Linear(NamedTuple):
    """An array in equal parts of the largest of each 64 along the last axis."""

    codes: jax.Array  # int8 of m, uint8 of v
    scales: jax.Array  # float32[…, k]


def linear_codes(x, dtype):
    *front, n = x.shape
    blocks = jnp.pad(x, [(0, 0)] * len(front) + [(0, -n % 64)]).reshape(*front, -1, 64)
    scales = jnp.max(jnp.abs(blocks), axis=-1) / jnp.iinfo(dtype).max
    codes = jnp.rint(blocks / jnp.where(scales > 0, scales, 1)[..., None])
    return Linear(codes.astype(dtype).reshape(*front, -1)[..., :n], scales)


def linear_numbers(packed):
    return packed.codes * jnp.repeat(packed.scales, 64, axis=-1)[..., : packed.codes.shape[-1]]


def linear_8_bit(tx):
    """`tx` with mu in int8 and nu in uint8, but for the embedding, as `quantized` leaves it by default."""

    def is_linear(x):
        return isinstance(x, Linear)

    def write(path, x):
        names = {getattr(key, "name", getattr(key, "key", None)) for key in path}
        if "embed" in names or not names & {"mu", "nu"}:
            return x
        return linear_codes(x, jnp.int8 if "mu" in names else jnp.uint8)

    def packed(state):
        return jax.tree_util.tree_map_with_path(write, state)

    def update(updates, state, params=None, **extra):
        state = jax.tree.map(lambda x: linear_numbers(x) if is_linear(x) else x, state, is_leaf=is_linear)
        updates, state = tx.update(updates, state, params, **extra)
        return updates, packed(state)

    return jo.GradientTransformation(lambda params: packed(tx.init(params)), update)


# ---- rows -------------------------------------------------------------------------------------------------


def adamw(rate):
    return jo.adamw(rate, b2=0.99, weight_decay=0.01)


def muon(rate):
    hidden = jo.muon(rate, weight_decay=0.01, stack_axes=1)
    return jo.partition({"hidden": hidden, "rest": adamw(lambda t: 0.2 * rate(t))}, roles)


def lion(rate):
    return jo.lion(rate, weight_decay=0.01)


METHODS = {"AdamW": (adamw, 1.4e-3), "Muon": (muon, 1e-2), "Lion": (lion, 5e-4)}  # the largest learning rate


def behind_a_master(codec, rounding="nearest"):
    def made(tx):
        return jo.split_master(jo.quantized(tx, codec, rounding=rounding, min_size=0), 24)

    return made


def alone(tx):
    return tx


FULL, TARGET, LINEAR = "float32", "split_master 24, companded8", "split_master 24, linear 8 bits"
# a row: (optimizer -> optimizer, dtype of the parameters, dtype that they begin in)
ROWS = {
    FULL: (alone, "float32", "float32"),
    "float32, from rounded parameters": (alone, "float32", "bfloat16"),
    "bfloat16": (alone, "bfloat16", "bfloat16"),
    "stochastic_rounding": (lambda tx: jo.stochastic_rounding(tx, 0), "bfloat16", "bfloat16"),
    "kahan": (jo.kahan, "bfloat16", "bfloat16"),
    "split_master 24": (lambda tx: jo.split_master(tx, 24), "bfloat16", "bfloat16"),
    "split_master 32": (lambda tx: jo.split_master(tx, 32), "bfloat16", "bfloat16"),
    "master_weights": (jo.master_weights, "bfloat16", "bfloat16"),
    TARGET: (behind_a_master("companded8"), "bfloat16", "bfloat16"),
    f"{TARGET} stochastic": (behind_a_master("companded8", "stochastic"), "bfloat16", "bfloat16"),
    "split_master 24, dynamic8": (behind_a_master("dynamic8"), "bfloat16", "bfloat16"),
    "split_master 24, fp8": (behind_a_master("fp8"), "bfloat16", "bfloat16"),
    "split_master 24, four_bit": (behind_a_master("four_bit"), "bfloat16", "bfloat16"),
    "split_master 24, bfloat16 stochastic": (behind_a_master("bfloat16", "stochastic"), "bfloat16", "bfloat16"),
    LINEAR: (lambda tx: jo.split_master(linear_8_bit(tx), 24), "bfloat16", "bfloat16"),
}
QUICK = (FULL, TARGET, LINEAR)
IN_README = (FULL, "bfloat16", "stochastic_rounding", "split_master 24", TARGET, "split_master 24, four_bit", LINEAR)


def schedule(peak, steps):
    """Up to the peak in WARM_UP steps, and by a cosine to zero."""
    up, down = jo.linear_schedule(0.0, peak, WARM_UP), jo.cosine_decay_schedule(peak, steps - WARM_UP)
    return jo.join_schedules([up, down], [WARM_UP])


@partial(jax.jit, static_argnames="seeds")
def begun(seeds):
    """The parameters that each seed begins with."""
    return jax.lax.map(lambda seed: start(jax.random.key(seed), WIDTH, LAYERS, CONTEXT), jnp.arange(seeds))


@jax.jit
def evaluated(params, kept):
    """float32[seeds]: the loss on the text kept apart."""
    at = (jnp.arange(WINDOWS) * ((len(kept) - CONTEXT - 1) // WINDOWS)).reshape(16, -1)

    def one(params):
        return jnp.mean(jax.lax.map(lambda at: loss(params, windows(kept, at, CONTEXT)), at))

    return jax.lax.map(one, params)


def run(method, row, seeds, steps, data, kept):
    """(losses of the seeds, bytes of parameters, gradients and state, of one of them)."""
    make, peak = METHODS[method]
    around, dtype, first = ROWS[row]
    optimizer = around(make(schedule(peak, steps)))

    def train(seed, params, data):
        def step(carry, key):
            params, _, state = carry
            at = jax.random.randint(key, (BATCH,), 0, len(data) - CONTEXT - 1)
            grads = jax.grad(loss)(params, windows(data, at, CONTEXT))
            updates, state = optimizer.update(grads, state, params)
            return (jo.apply_updates(params, updates), grads, state), None

        keys = jax.random.split(jax.random.key(seed + 1000), steps)
        return jax.lax.scan(step, (params, params, optimizer.init(params)), keys)[0]

    @jax.jit
    def program(params, data):
        return jax.lax.map(lambda each: train(*each, data), (jnp.arange(seeds), params))

    params = jax.tree.map(lambda p: p.astype(first).astype(dtype), begun(seeds))
    carry = program(params, data)
    sizes = [sum(x.nbytes for x in jax.tree.leaves(part)) / seeds for part in carry]
    return [float(x) for x in evaluated(carry[0], kept)], sizes


# ---- what came out ----------------------------------------------------------------------------------------


def of_mean(numbers):
    """(mean, its standard error); NaN where one of them is, and the error of a single one."""
    with np.errstate(invalid="ignore"):
        error = np.std(numbers, ddof=1) / math.sqrt(len(numbers)) if len(numbers) > 1 else math.nan
        return float(np.mean(numbers)), float(error)


def shown(x):
    """A number with six decimals; JSON knows no NaN: the word."""
    return round(x, 6) if math.isfinite(x) else "NaN"


def summary(found, count):
    """A line of the report for each (method, row): losses and bytes a parameter."""
    lines = []
    for (method, row), (losses, (params, grads, state)) in found.items():
        mean, error = of_mean(losses)
        beside, beside_error = of_mean(np.subtract(losses, found[method, FULL][0]))
        lines.append({
            "method": method, "row": row, "loss": shown(mean), "loss_error": shown(error),
            "difference": shown(beside), "difference_error": shown(beside_error),
            "state_bytes": round(state / count, 3), "resident_bytes": round((params + grads + state) / count, 3),
            "losses": [shown(x) for x in losses],
        })  # fmt: skip
    return lines


WORDS = {  # of the table, where they are no names of ours
    "en": ("parameters and states", "bytes, {}", "loss, {}", {}),
    "ko": ("매개변수와 상태", "바이트, {}", "손실, {}", {
        "float32, from rounded parameters": "float32, 반올림한 매개변수에서 시작",
        LINEAR: "split_master 24, 선형 8비트",
    }),
}  # fmt: skip


def markdown(report, language="en", shown=None):
    """The report as a table: bytes resident, float32's losses, the others' differences from these ± standard errors.

    shown: the rows; None: all.
    """
    lines = {(line["method"], line["row"]): line for line in report["rows"]}
    rows, methods = (list(dict.fromkeys(key[i] for key in lines)) for i in (1, 0))
    first, size, end, names = WORDS[language]
    head = [first, *map(size.format, methods), *map(end.format, methods)]
    table = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in shown or rows:
        own = [lines[method, row] for method in methods]
        cells = [names.get(row, row), *(f"{line['resident_bytes']:.2f}" for line in own), *map(cell, own)]
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def cell(line):
    value, error = line["difference"], line["difference_error"]
    if line["row"] == FULL:
        value, error = line["loss"], line["loss_error"]
    if value == "NaN":
        return value
    sign = "" if line["row"] == FULL else "+"
    digits = 4 if abs(value) < 10 else 0
    return f"{value:{sign}.{digits}f}" + ("" if error == "NaN" else f" ± {error:.{digits}f}")


def measured(args):
    """The report of a whole run."""
    seeds, steps, rows = (1, 24, QUICK) if args.quick else (args.seeds, args.steps, tuple(ROWS))
    methods = ("AdamW",) if args.quick else tuple(METHODS)
    data = text()
    data, kept = jnp.asarray(data[:-KEPT]), jnp.asarray(data[-KEPT:])
    count = sum(p.size for p in jax.tree.leaves(start(jax.random.key(0), WIDTH, LAYERS, CONTEXT)))
    print(f"{count / 1e3:.0f} thousand parameters, {len(data) / 1e6:.1f} M characters, {seeds} seeds, {steps} steps")
    began, before, found = time.perf_counter(), os.times(), {}
    with ThreadPoolExecutor(args.jobs) as pool, tqdm(total=len(methods) * len(rows), unit="row", smoothing=0) as bar:
        running = {pool.submit(run, m, row, seeds, steps, data, kept): (m, row) for m in methods for row in rows}
        try:
            for done in as_completed(running):
                found[running[done]] = done.result()
                bar.set_postfix_str(" ".join(running[done]))
                bar.update()
        finally:  # after an error or Ctrl-C, none of those that have not begun
            pool.shutdown(wait=False, cancel_futures=True)
    wall, after = time.perf_counter() - began, os.times()
    found = {(m, row): found[m, row] for m in methods for row in rows}
    return {
        "rows": summary(found, count),
        "about": {
            "parameters": count, "width": WIDTH, "layers": LAYERS, "context": CONTEXT, "batch": BATCH, "steps": steps,
            "warm_up": WARM_UP, "seeds": seeds, "learning_rates": {m: METHODS[m][1] for m in methods},
            "characters": len(data), "kept_apart": WINDOWS * CONTEXT, "min_size": 0, "embeddings": "float32 moments",
        },
        "run": {
            "seconds": round(wall), "processor_seconds": round(sum(after[:2]) - sum(before[:2])),
            "rows_at_a_time": args.jobs, "load_average_of_15_minutes": round(os.getloadavg()[2], 1),
        },
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "device": jax.devices()[0].device_kind},
        "versions": {
            "python": platform.python_version(), "jax": jax.__version__, "jaxopt_ko": jo.__version__,
            "numpy": np.__version__,
        },
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, 24 steps of AdamW, three rows: does it run?")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=600, help="(default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="rows at a time (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the report to this file, as JSON")
    parser.add_argument("--write", type=Path, nargs="+", metavar="README",
                        help="train nothing: put the table of the recorded run into these files")  # fmt: skip
    args = parser.parse_args()
    if args.out and not args.out.parent.is_dir():
        parser.error(f"--out {args.out}: there is no directory {args.out.parent}")
    if args.write:
        report = json.loads(RESULTS.read_text(encoding="utf-8"))
        written(args.write, MARK, lambda language: markdown(report, language, IN_README))
        return
    report = measured(args)
    print(markdown(report))
    made = report["run"]
    print(
        f"{made['seconds']} s, {made['processor_seconds']} s of processors, load {made['load_average_of_15_minutes']}"
    )
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
