"""Every optimizer of jaxopt_ko on the handwritten digits of scikit-learn: `python examples/digits.py`.

A network of 64-32-10 units is trained with each optimizer at nine learning rates, all in one compiled program:
the same first weights, the same mini-batches. Prints a table and writes a picture, `digits.png`.
"""

import argparse
import itertools
import statistics
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxopt_ko as jo

PIXELS, HIDDEN, CLASSES = 64, 32, 10
TEST_IMAGES = 360  # of 1797
BATCH, EPOCHS, QUICK_EPOCHS = 64, 20, 5
TIMED_EPOCHS, TIMINGS = 5, 7  # epochs in one timing, timings of which the median counts
GOAL = 0.9  # the test accuracy that the table counts the steps to

# optimizer: (learning rates to try, learning rate -> optimizer)
PLAIN = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
VELOCITY = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
UNITLESS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
SMALL = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
SCALED = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
FAMILIES = {
    "Gradient descent": {
        "sgd": (PLAIN, jo.sgd),
        "momentum": (VELOCITY, lambda lr: jo.sgd(lr, momentum=0.9)),
        "momentum, lr in velocity": (VELOCITY, lambda lr: jo.sgd(lr, momentum=0.9, lr_in_velocity=True)),
        "nesterov": (VELOCITY, lambda lr: jo.sgd(lr, momentum=0.9, nesterov=True)),
    },
    "A rate for each weight": {
        "adagrad": (PLAIN, jo.adagrad),
        "adadelta": (UNITLESS, jo.adadelta),
        "rmsprop": (SCALED, jo.rmsprop),
        "rmsprop, bias-corrected": (SCALED, lambda lr: jo.rmsprop(lr, bias_correction=True)),
        "rmsprop, centered, momentum": (SMALL, lambda lr: jo.rmsprop(lr, centered=True, momentum=0.9)),
    },
    "Adam": {
        "adam": (SCALED, jo.adam),
        "adam, uncorrected": (SCALED, lambda lr: jo.adam(lr, bias_correction=False)),
        "adamw": (SCALED, jo.adamw),
        "amsgrad": (SCALED, jo.amsgrad),
    },
    "NAdam and AdaMax": {
        "nadam": (SCALED, jo.nadam),
        "nadam, momentum decay": (SCALED, lambda lr: jo.nadam(lr, momentum_decay=4e-3)),
        "nadamw": (SCALED, jo.nadamw),
        "adamax": (SCALED, jo.adamax),
        "adamaxw": (SCALED, jo.adamaxw),
    },
}
METHODS = {name: method for family in FAMILIES.values() for name, method in family.items()}

# Okabe and Ito's colours, for every kind of colour vision; thin dashes over thick lines, for curves that coincide.
LINES = (
    {"color": "#56B4E9", "linestyle": "-", "linewidth": 4, "marker": "o"},
    {"color": "#D55E00", "linestyle": "-", "linewidth": 2, "marker": "s"},
    {"color": "#000000", "linestyle": "--", "linewidth": 1.5, "marker": "^"},
    {"color": "#009E73", "linestyle": "-.", "linewidth": 1.5, "marker": "D"},
    {"color": "#CC79A7", "linestyle": ":", "linewidth": 2, "marker": "v"},
)

# LLVM's slowest passes double the time to compile and bring nothing to runs as short as these.
COMPILER_OPTIONS = {"xla_llvm_disable_expensive_passes": True}


class Digits(NamedTuple):
    images: jax.Array  # float32[n, 64]  grey, 0 to 1
    labels: jax.Array  # int32[n]


class Curves(NamedTuple):
    """What one optimizer did at R learning rates in T steps."""

    loss: jax.Array  # float32[R]  training loss, mean of the last epoch
    accuracy: jax.Array  # float32[R, T + 1]  on the test images, from before the first step to after the last


# ---- the problem ----------------------------------------------------------------------------------------


def load(seed):
    images, labels = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split(
        np.float32(images / 16), np.int32(labels), test_size=TEST_IMAGES, random_state=seed, stratify=labels
    )
    return Digits(x, y), Digits(test_x, test_y)


def init_params(seed):
    rng = np.random.default_rng(seed)
    w1, w2 = rng.normal(0, PIXELS**-0.5, (PIXELS, HIDDEN)), rng.normal(0, HIDDEN**-0.5, (HIDDEN, CLASSES))
    return {"w1": jnp.float32(w1), "b1": jnp.zeros(HIDDEN), "w2": jnp.float32(w2), "b2": jnp.zeros(CLASSES)}


def logits(params, images):
    return jnp.tanh(images @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def cross_entropy(params, digits):
    z = logits(params, digits.images)
    return jo.losses.softmax_cross_entropy_with_integer_labels(z, digits.labels).mean()


def accuracy(params, digits):
    return (logits(params, digits.images).argmax(axis=-1) == digits.labels).mean()


# ---- the programs ---------------------------------------------------------------------------------------


def sweep(rates, params, digits, test, *, key, epochs, progress):
    """Train with every optimizer at all its learning rates: name -> Curves."""
    batches = jo.data.mini_batch(len(digits.labels), BATCH)

    def loss_and_accuracy(params, batch):
        return cross_entropy(params, batch), accuracy(params, test)

    def train(make, learning_rate):
        optimizer = make(learning_rate)  # a traced number here, and no wrapper needed
        run = jo.loop.fit(
            loss_and_accuracy, params, optimizer, digits, batches,
            key=key, epochs=epochs, has_aux=True, progress=progress,
        )  # fmt: skip
        return Curves(run.loss[-1].mean(), jnp.append(run.aux, accuracy(run.params, test)))

    return {name: jax.vmap(partial(train, make))(rates[name]) for name, (_, make) in METHODS.items()}


def bare_steps(which, learning_rate, params, digits, plan):
    """The steps of a plan of batches with the optimizer numbered `which` and nothing beside: what is timed."""

    def run(make, learning_rate):
        optimizer = make(learning_rate)
        step = jo.loop.train_step(cross_entropy, optimizer)
        start = jo.loop.Carry(params, optimizer.init(params))
        return jax.lax.scan(lambda carry, rows: step(carry, jo.data.gather(digits, rows)), start, plan)[0].params

    return jax.lax.switch(which, [partial(run, make) for _, make in METHODS.values()], learning_rate)


def compiled(function, *args):
    return jax.jit(function).lower(*args).compile(COMPILER_OPTIONS)


def time_per_step(best_rates, params, digits):
    """Name -> seconds. The optimizers take turns, so that a busy moment of the machine slows them all."""
    steps = len(digits.labels) // BATCH
    plan = np.tile(np.arange(steps * BATCH).reshape(steps, BATCH), (TIMED_EPOCHS, 1))
    program = compiled(bare_steps, np.int32(0), np.float32(0), params, digits, plan)
    seconds = {name: [] for name in METHODS}
    for _ in range(TIMINGS):
        for which, name in enumerate(METHODS):
            start = time.perf_counter()
            jax.block_until_ready(program(np.int32(which), best_rates[name], params, digits, plan))
            seconds[name].append((time.perf_counter() - start) / len(plan))
    return {name: statistics.median(runs) for name, runs in seconds.items()}


# ---- what is shown --------------------------------------------------------------------------------------


def print_table(results, best, best_rates, seconds, epochs):
    rows = []
    for name in METHODS:
        curve = results[name].accuracy[best[name]]
        reached = next((step for step, value in enumerate(curve) if value >= GOAL), "never")
        rows.append((curve[-1], name, best_rates[name], reached, seconds[name] * 1e6))
    header = f"{'optimizer':27}  best rate  steps to {GOAL:.0%}  test accuracy  time per step"
    print("", header, "-" * len(header), sep="\n")
    for final, name, rate, reached, micro in sorted(rows, key=lambda row: -row[0]):
        print(f"{name:27}  {rate:9g}  {reached:>12}  {final:13.1%}  {micro:10.1f} us")
    print(
        "-" * len(header),
        f"Best rate: of those tried, the one with the lowest training loss over the last of {epochs} epochs.",
        f"Test accuracy: on {TEST_IMAGES} images kept apart; steps of {BATCH} images until it first is {GOAL:.0%}.",
        "Time: one step (batch, gradient, update) of one network at its best rate, with nothing else running;",
        f"the median of {TIMINGS} runs of {TIMED_EPOCHS} epochs, in turn.",
        sep="\n",
    )


def smoothed(curve):
    """(steps, means over forty stretches, equal on a logarithmic axis): single steps are too many and too noisy."""
    edges = np.unique(np.geomspace(1, len(curve), 41).astype(int))
    stretches = [range(*pair) for pair in itertools.pairwise(edges)]
    return [np.mean(steps) for steps in stretches], [curve[steps].mean() for steps in stretches]


def draw(path, results, rates, best, best_rates):
    """A column for each family: above, the curves at the best rate; below, how far every rate has led."""
    figure = Figure(figsize=(16, 10), layout="constrained")  # a Figure without pyplot needs no screen
    figure.suptitle(f"Handwritten digits, a network of {PIXELS}-{HIDDEN}-{CLASSES} units, batches of {BATCH}")
    axes = figure.subplots(2, len(FAMILIES), sharey=True, height_ratios=(3, 2))
    for (family, members), (top, bottom) in zip(FAMILIES.items(), axes.T, strict=True):
        for ax in (top, bottom):
            ax.set(xscale="log", yscale="logit", ylim=(0.08, 0.995))
            ax.set_yticks([0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98], minor=False)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            ax.yaxis.set_minor_locator(NullLocator())
            ax.tick_params(axis="x", labelsize="small")
            ax.grid(color="0.9")
        for name, line in zip(members, LINES, strict=False):
            curves, rate = results[name].accuracy, best_rates[name]
            ring = {"marker": "o", "markersize": 13, "fillstyle": "none", "color": line["color"]}
            top.plot(*smoothed(curves[best[name]]), **{**line, "marker": ""})
            bottom.plot(rates[name], curves[:, -1], label=f"{name} ({rate:g})", markersize=5, **line)
            bottom.plot(rate, curves[best[name], -1], **ring)
        top.set(title=family, xlabel="step")
        bottom.set(xlabel="learning rate")
        title = "optimizer (best learning rate, ringed)"
        bottom.legend(title=title, loc="upper center", bbox_to_anchor=(0.5, -0.2), handlelength=5)
    axes[0, 0].set_ylabel("test accuracy at the best rate, smoothed")
    axes[1, 0].set_ylabel("test accuracy in the end")
    figure.savefig(path, format="png", dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default="digits.png", help="the picture to write (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help=f"(default: {EPOCHS}, with --quick {QUICK_EPOCHS})")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the weights, the batches")
    parser.add_argument("--quick", action="store_true", help="few epochs, three learning rates for each optimizer")
    args = parser.parse_args()
    if not args.out.parent.is_dir():
        parser.error(f"--out: there is no directory {args.out.parent}")
    epochs = args.epochs if args.epochs is not None else QUICK_EPOCHS if args.quick else EPOCHS
    rates = {name: np.float32(rates[1::3] if args.quick else rates) for name, (rates, _) in METHODS.items()}

    (digits, test), params = jax.device_put(load(args.seed)), init_params(args.seed)
    steps = len(METHODS) * epochs * (len(digits.labels) // BATCH)
    options = {"key": jax.random.key(args.seed), "epochs": epochs, "progress": jo.loop.ProgressBar("training", steps)}

    networks = sum(map(len, rates.values()))
    print(f"Compiling one program: {len(METHODS)} optimizers, {networks} networks ...", end=" ", flush=True)
    start = time.perf_counter()
    program = compiled(partial(sweep, **options), rates, params, digits, test)
    print(f"{time.perf_counter() - start:.1f} s", flush=True)
    results = jax.device_get(program(rates, params, digits, test))
    jax.effects_barrier()  # the progress bar's last word

    # The training loss chooses, not the test images. A loss that is not finite has lost.
    best = {name: np.argmin(np.nan_to_num(results[name].loss, nan=np.inf)) for name in METHODS}
    best_rates = {name: rates[name][best[name]] for name in METHODS}
    print("Timing each optimizer's steps ...", flush=True)
    print_table(results, best, best_rates, time_per_step(best_rates, params, digits), epochs)
    draw(args.out, results, rates, best, best_rates)
    print(f"Curves: {args.out}")


if __name__ == "__main__":
    main()
