"""Does the best learning rate of a narrow network hold for a wide one? `python examples/benchmarks/width_transfer.py`.

A perceptron of three hidden layers (ReLU) learns scikit-learn's digits with Adam for 12 steps of one batch of 512
images: at four widths, under the standard parametrization and under muP (`width_scaled`, a head that begins at zero,
its product times base width over width), with rates by factors of 2 and the same initial keys. Each width is one
compiled program of the rate. Best is the rate of the least training loss, the mean cross-entropy over seeds at the last
step; the shift is how many factors of 2 it moves from the narrowest to the widest.

Prints a table and writes it to results/width_transfer.json.
"""

import argparse
import datetime
import json
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import jaxopt_ko as jo

RESULTS = Path(__file__).parent / "results" / "width_transfer.json"
WIDTHS, BASE, LAYERS, STEPS, SEEDS = (64, 128, 256, 512), 64, 3, 12, 3
RATES = [2.0**k for k in range(-13, -2)]


def start(width, key, mup):
    """muP's initialization differs in the head alone: the standard one's variance is 1 / fan_in everywhere."""
    keys = jax.random.split(key, LAYERS + 1)
    sizes = [64] + [width] * LAYERS
    layers = [
        {"kernel": jax.random.normal(k, (m, n)) * (2 / m) ** 0.5, "bias": jnp.zeros(n)}
        for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
    ]
    head = jnp.zeros((width, 10)) if mup else jax.random.normal(keys[-1], (width, 10)) * width**-0.5
    return {"inputs": layers[0], "blocks": layers[1:], "head": {"kernel": head}}


def loss_of(width, mup):
    multiplier = BASE / width if mup else 1.0

    def loss(params, batch):
        h, labels = batch
        activations = {}
        for i, layer in enumerate([params["inputs"], *params["blocks"]]):
            h = jax.nn.relu(h @ layer["kernel"] + layer["bias"])
            activations[f"layer {i}"] = h
        activations["logits"] = logits = h @ params["head"]["kernel"] * multiplier
        return jnp.mean(jo.losses.softmax_cross_entropy_with_integer_labels(logits, labels)), activations

    return loss


def optimizer_of(rate, params, mup):
    if not mup:
        return jo.adam(rate)
    base = jax.eval_shape(lambda key: start(BASE, key, mup), jax.random.key(0))
    return jo.width_scaled(jo.adam(rate), params, base)


def run(width, mup, batch, rate, key):
    """The loss after the last step."""
    params, loss = start(width, key, mup), loss_of(width, mup)
    tx = optimizer_of(rate, params, mup)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(lambda p: loss(p, batch)[0])(params), state, params)
        return (jo.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=STEPS)
    return loss(params, batch)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="write the results here (default: %(default)s)")
    args = parser.parse_args()
    x, y = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(x))[:512]
    batch = (jnp.asarray((x[chosen] - x.mean()) / x.std(), jnp.float32), jnp.asarray(y[chosen]))
    keys, rates, rows = jax.random.split(jax.random.key(0), SEEDS), jnp.asarray(RATES), []
    began = time.time()
    for mup in (False, True):
        for width in WIDTHS:
            lanes = jax.jit(
                lambda rate, key, width=width, mup=mup: jax.vmap(lambda k: run(width, mup, batch, rate, k))(key)
            )
            losses = np.stack([np.asarray(lanes(rate, keys)) for rate in rates]).mean(axis=1)
            best = int(np.nanargmin(losses))
            rows.append({"parametrization": "muP" if mup else "standard", "width": width, "best_rate": RATES[best],
                         "loss": float(losses[best]), "losses": [float(f"{v:.5g}") for v in losses]})  # fmt: skip
            print(f"{rows[-1]['parametrization']:9} {width:4}  best 2**{np.log2(RATES[best]):.0f}  {losses[best]:.2e}  "
                  + " ".join(f"{v:.1e}" for v in losses), flush=True)  # fmt: skip
    found = {"rows": rows, "rates": RATES, "steps": STEPS, "seeds": SEEDS, "shifts": {}, "coordinate_checks": {}}
    for name in ("standard", "muP"):
        best = {row["width"]: row["best_rate"] for row in rows if row["parametrization"] == name}
        found["shifts"][name] = float(np.log2(best[WIDTHS[-1]] / best[WIDTHS[0]]))

        def make(width, key, mup=name == "muP"):
            params = start(width, key, mup)
            return params, optimizer_of(2.0**-9, params, mup), loss_of(width, mup)

        check = jo.coordinate_check(make, WIDTHS, (batch[0][:32], batch[1][:32]), steps=4)
        print(f"\n{name}: the best rate moves by {found['shifts'][name]:+.0f} factors of 2\n{check}")
        told = check.as_dict()
        found["coordinate_checks"][name] = {
            key: {k: [round(v, 4) if v == v else None for v in x] for k, x in told[key].items()}
            for key in ("slopes", "change_slopes")
        } | {"passed": told["passed"]}  # fmt: skip
    found |= {"date": datetime.date.today().isoformat(), "jax": jax.__version__, "jaxopt_ko": jo.__version__,
              "device": f"{jax.devices()[0].device_kind}, {platform.machine()}",
              "seconds": round(time.time() - began)}  # fmt: skip
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
