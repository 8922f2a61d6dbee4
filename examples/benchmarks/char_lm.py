"""Steps that Muon and SOAP need for what AdamW reaches with a language model: `python examples/benchmarks/char_lm.py`.

A transformer of 2 layers and 0.43 M parameters learns the characters of Python's own standard library. AdamW has 400
steps, the others fewer; each has a warm-up and a linear decay to zero of its own length. Learning rates are chosen
on a grid with the first seed, by the loss on text kept apart. Prints a table, writes a picture (char_lm.png).
"""

import argparse
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

import jaxopt_ko as jo

sys.path.insert(0, str(Path(__file__).parents[1]))
from characters import loss, roles, start, text, windows

CONTEXT, BATCH = 128, 16
STEPS, CHUNK = 400, 20


def adamw(rate):
    return jo.adamw(rate, b2=0.99, weight_decay=0.01)


def muon(rate):
    rest = adamw(lambda k: 0.2 * rate(k))
    hidden = jo.muon(rate, weight_decay=0.01, stack_axes=1)
    return jo.partition({"hidden": hidden, "rest": rest}, roles)


def soap(rate):
    rest = adamw(rate)
    hidden = jo.soap(rate, b1=0.95, b2=0.95, weight_decay=0.01, precondition_frequency=5, stack_axes=1)
    return jo.partition({"hidden": hidden, "rest": rest}, roles)


# method: (steps as a share of AdamW's, learning rates to try, learning rate -> optimizer)
METHODS = {
    "AdamW": (1.0, (1e-3, 2e-3, 4e-3, 8e-3), adamw),
    "Muon": (0.6, (1e-2, 2e-2, 4e-2), muon),
    "SOAP": (0.65, (2e-3, 4e-3, 8e-3), soap),
}


@partial(jax.jit, static_argnames=("make", "steps"), donate_argnums=(1,))
def some_steps(rate, carry, data, *, make, steps):
    """CHUNK steps of a run that is `steps` long, and their losses."""
    opt = make(jo.join_schedules([jo.linear_schedule(0.0, rate, 20), jo.linear_schedule(rate, 0.0, steps - 20)], [20]))

    def step(carry, _):
        params, state, key = carry
        key, sub = jax.random.split(key)
        at = jax.random.randint(sub, (BATCH,), 0, len(data) - CONTEXT - 1)
        value, grads = jax.value_and_grad(loss)(params, windows(data, at))
        updates, state = opt.update(grads, state, params)
        return (jo.apply_updates(params, updates), state, key), value

    return jax.lax.scan(step, carry, None, CHUNK)


def run(method, rate, seed, data, kept, bar):
    """(loss on the text kept apart at the end, losses of every step, seconds a step)."""
    share, _, make = METHODS[method]
    steps = round(share * STEPS / CHUNK) * CHUNK
    key = jax.random.key(seed)
    params = start(key)
    state = make(lambda k: jnp.float32(0)).init(params)
    carry, losses, began = (params, state, jax.random.key(seed + 1000)), [], 0.0
    for i in range(steps // CHUNK):
        carry, values = some_steps(jnp.float32(rate), carry, data, make=make, steps=steps)
        losses.append(np.asarray(values))
        began = time.perf_counter() if i == 0 else began
        bar.update(CHUNK)
    seconds = (time.perf_counter() - began) / max(steps - CHUNK, 1)
    return float(evaluate(carry[0], kept)), np.concatenate(losses), seconds


@jax.jit
def evaluate(params, kept):
    at = jnp.arange(64) * ((len(kept) - CONTEXT - 1) // 64)
    return loss(params, windows(kept, at))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default="char_lm.png", help="the picture (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    data = text()
    kept, data = jnp.asarray(data[-200_000:]), jnp.asarray(data[:-200_000])
    size = sum(p.size for p in jax.tree.leaves(start(jax.random.key(0))))
    print(f"{size / 1e6:.2f} M parameters, {len(data) / 1e6:.1f} M characters, {jax.devices()[0].device_kind}")
    runs = {name: {} for name in METHODS}
    total = sum(
        (len(rates) + args.seeds - 1) * round(share * STEPS / CHUNK) * CHUNK for share, rates, _ in METHODS.values()
    )
    with tqdm(total=total, unit="step") as bar:
        for name, (_, rates, _) in METHODS.items():
            bar.set_description(name)
            tried = {rate: run(name, rate, 0, data, kept, bar) for rate in rates}
            best = min(tried, key=lambda rate: tried[rate][0])
            more = [run(name, best, seed, data, kept, bar) for seed in range(1, args.seeds)]
            runs[name] = {"rate": best, "all": [tried[best], *more], "tried": {r: v[0] for r, v in tried.items()}}
    print(f"{'method':8} {'steps':>6} {'rate':>7} {'loss, mean':>11} {'each seed':24} {'ms a step':>10}  at each rate")
    for name, found in runs.items():
        ends = [end for end, _, _ in found["all"]]
        steps = len(found["all"][0][1])
        ms = 1e3 * statistics.median(seconds for _, _, seconds in found["all"])
        each, tried = (
            ", ".join(f"{e:.3f}" for e in ends),
            ", ".join(f"{r:g}: {v:.3f}" for r, v in found["tried"].items()),
        )
        print(f"{name:8} {steps:6} {found['rate']:7.3g} {statistics.mean(ends):11.4f} {each:24} {ms:10.1f}  {tried}")
    goal = statistics.mean(end for end, _, _ in runs["AdamW"]["all"])
    for name in ("Muon", "SOAP"):
        mean = statistics.mean(end for end, _, _ in runs[name]["all"])
        verdict = "as good or better" if mean <= goal else "NOT as good"
        print(f"{name} in {METHODS[name][0]:.2f} of AdamW's steps: {verdict}")

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.subplots()
    for (name, found), color in zip(runs.items(), ("#000000", "#D55E00", "#0072B2"), strict=True):
        curves = np.stack([losses for _, losses, _ in found["all"]]).mean(axis=0)
        smooth = np.convolve(curves, np.ones(20) / 20, mode="valid")
        ax.plot(np.arange(len(smooth)) + 20, smooth, color=color, label=f"{name}, lr {found['rate']:g}")
        ax.plot(len(curves), statistics.mean(end for end, _, _ in found["all"]), "o", color=color)
    ax.axhline(goal, color="0.7", linestyle="--", linewidth=1)
    ax.set(
        xlabel="step",
        ylabel="loss, nats a character",
        ylim=(goal - 0.5, 3.2),
        title="Characters of Python's standard library",
    )
    ax.legend(frameon=False)
    figure.savefig(args.out, dpi=100)
    print(f"Picture: {args.out}")


if __name__ == "__main__":
    main()
