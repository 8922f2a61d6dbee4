"""A learning rate for each of four optimizers, from one short run each: `python examples/find_rate.py`.

A network of 64-32-10 units on the handwritten digits of scikit-learn. Prints what `jo.loop.find_rate` says, and draws
the curves beside the losses that runs at constant rates end with: `find_rate.png`, or with `--language ko` in Korean.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import korean
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jaxopt_ko as jo

METHODS = {"sgd": jo.sgd, "momentum": lambda rate: jo.sgd(rate, momentum=0.9), "adam": jo.adam, "lion": jo.lion}
GRID = np.geomspace(1e-4, 10, 16)
EPOCHS = 4
WORDS = {
    "en": {
        "title": "find_rate on handwritten digits", "loss": "loss", "rate": "learning rate",
        "batch": "of each batch", "mean": "running mean", "suggestion": "suggestion",
        "whole": "after {} epochs at this rate",
    },
    "ko": {
        "title": "손글씨 숫자에서 find_rate로 찾은 학습률", "loss": "손실", "rate": "학습률",
        "batch": "배치마다의 손실", "mean": "이동 평균", "suggestion": "제안한 학습률",
        "whole": "이 학습률로 {}에포크 학습한 뒤",
    },
}  # fmt: skip


def loss(params, batch):
    hidden = jnp.tanh(batch[0] @ params["w1"] + params["b1"])
    logits = hidden @ params["w2"] + params["b2"]
    return jnp.mean(jo.losses.softmax_cross_entropy_with_integer_labels(logits, batch[1]))


def start(key):
    a, b = jax.random.split(key)
    return {
        "w1": jax.random.normal(a, (64, 32)) / 8, "b1": jnp.zeros(32),
        "w2": jax.random.normal(b, (32, 10)) / 32**0.5, "b2": jnp.zeros(10),
    }  # fmt: skip


def measured(method, data, grid):
    """The search, and the loss at the end of a run at each constant rate: one compiled program a method."""
    make, plan, params = METHODS[method], jo.data.mini_batch(len(data[1]), 32), start(jax.random.key(0))

    def end(rate):
        run = jo.loop.fit(loss, params, make(rate), data, plan, key=jax.random.key(2), epochs=EPOCHS)
        return loss(run.params, data)

    @jax.jit
    def both(grid):
        search = jo.loop.find_rate(loss, params, make, data, plan, key=jax.random.key(1))
        return search, jax.vmap(end)(jnp.append(grid, search.suggestion))

    search, ends = both(jnp.asarray(grid, jnp.float32))
    return search, np.asarray(ends)


def draw(results, words):
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    figure.suptitle(words["title"])
    every = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, (method, (search, ends)) in zip(every, results.items(), strict=True):
        axes.plot(search.rates, search.losses, color="#BBBBBB", linewidth=0.8, label=words["batch"])
        axes.plot(search.rates, search.smoothed, color="#0072B2", linewidth=2, label=words["mean"])
        axes.plot(GRID, ends[:-1], "o-", color="#009E73", markersize=4, label=words["whole"].format(EPOCHS))
        if search.found:
            axes.axvline(float(search.suggestion), color="#D55E00", linestyle="--", label=words["suggestion"])
            axes.set_title(f"{method}: {float(search.suggestion):.2g}", fontsize="medium")
        axes.set(xscale="log", ylim=(0, 4))
    for axes in figure.axes:
        axes.label_outer()
    figure.supxlabel(words["rate"])
    figure.supylabel(words["loss"])
    figure.axes[0].legend(loc="lower left", fontsize="small")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the picture; find_rate.png or find_rate.ko.png")
    parser.add_argument("--language", choices=WORDS, default="en")
    args = parser.parse_args()
    if args.language == "ko":
        korean.use_font()
    out = args.out or Path("find_rate.png" if args.language == "en" else "find_rate.ko.png")
    if not out.resolve().parent.is_dir():
        raise SystemExit(f"There is no folder {out.resolve().parent} for the picture.")
    x, y = load_digits(return_X_y=True)
    data = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y, jnp.int32)
    results = {}
    for method in METHODS:
        results[method] = search, ends = measured(method, data, GRID)
        print(f"{method:9}{search}")
        print(f"{'':9}after {EPOCHS} epochs at it {ends[-1]:.3f}; best of {len(GRID)} rates {np.nanmin(ends[:-1]):.3f},"
              f" at {GRID[np.nanargmin(ends[:-1])]:.2g}")  # fmt: skip
    draw(results, WORDS[args.language]).savefig(out, dpi=110)


if __name__ == "__main__":
    main()
