"""What `loop.sweep` saves: `python examples/benchmarks/sweep.py`.

First, 64 rates of Adam with 4 seeds each on the handwritten digits, a network of 64-32-10 units: as one sweep, and as
256 runs of optax in one process, each a jitted loop of its own, as people write them: the optimizer is made from a
number, so that each run is a program. Beside it the same with the rate an argument of one jitted program, which is as
good as separate runs get, and with a jitted step called from Python. Of those as many runs are timed as --runs says,
and the time of all is theirs times what is missing. Times have compilation in them, the sweep's own too.

Then successive halving against the whole grid, in 20 spaces of a rate and 4 of two hyperparameters: which setting it
finds, how many steps of the grid it is from the best, and what share of the grid's training steps it took.
"""

import argparse
import datetime
import json
import platform
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import monitoring

import jaxopt_ko as jo

sys.path.insert(0, str(Path(__file__).parents[1]))
import digits

RESULTS = Path(__file__).parent / "results" / "sweep.json"
RATES, SEEDS, STEPS, BATCH = np.geomspace(1e-4, 1.0, 64).astype(np.float32), 4, 400, 64
COMPILED = "/jax/core/compile/backend_compile_duration"


class Counter:
    """How many programs XLA compiled."""

    def __init__(self):
        self.programs = 0
        monitoring.register_event_duration_secs_listener(self.see)

    def see(self, event, duration, **_):
        self.programs += event == COMPILED


# ---- 64 rates, 4 seeds ------------------------------------------------------------------------------------


def problem():
    train, test = jax.device_put(digits.load(0))
    widths = digits.PIXELS, digits.HIDDEN, digits.CLASSES

    def start(key):
        one, two = jax.random.split(key)
        return {
            "w1": jax.random.normal(one, widths[:2]) * widths[0] ** -0.5, "b1": jnp.zeros(widths[1]),
            "w2": jax.random.normal(two, widths[1:]) * widths[1] ** -0.5, "b2": jnp.zeros(widths[2]),
        }  # fmt: skip

    def batch(key, _):
        return jo.data.gather(train, jax.random.randint(key, (BATCH,), 0, len(train.labels)))

    def evaluate(params):
        return {"loss": digits.cross_entropy(params, test), "accuracy": digits.accuracy(params, test)}

    return start, batch, evaluate


def lanes(steps):
    """(seconds, programs, the table) of the sweep."""
    start, batch, evaluate = problem()
    run = jo.loop.trial(lambda h: jo.adam(h["rate"]), digits.cross_entropy, start, batch, evaluate)
    counter, began = Counter(), time.perf_counter()
    table = jo.loop.sweep(run, {"rate": RATES}, seeds=SEEDS, budget=steps, metric="loss", progress="sweep")
    return time.perf_counter() - began, counter.programs, table


def separate(steps, runs, way):
    """(seconds a run, programs a run, losses) of some of the 256, each by itself with optax."""
    start, batch, evaluate = problem()

    def step_of(optimizer):
        def step(carry, t):
            params, state, key = carry
            grads = jax.grad(digits.cross_entropy)(params, batch(jax.random.fold_in(key, t), t))
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state, key), None

        return step

    def whole(rate, key):
        first, later = jax.random.split(key)
        params = start(first)
        optimizer = optax.adam(rate)
        carry = params, optimizer.init(params), later
        (params, _, _), _ = jax.lax.scan(step_of(optimizer), carry, jnp.arange(steps))
        return evaluate(params)["loss"]

    def with_a_number(rate, key):  # a program for each run
        return jax.jit(lambda key: whole(float(rate), key))(key)

    def with_steps(rate, key):  # a jitted step for each run, called from Python
        optimizer = optax.adam(float(rate))
        first, later = jax.random.split(key)
        params = start(first)
        carry, step = (params, optimizer.init(params), later), jax.jit(step_of(optimizer))
        for t in range(steps):
            carry, _ = step(carry, t)
        return jax.jit(evaluate)(carry[0])["loss"]

    one = jax.jit(whole)
    train = {"a program for each run": with_a_number, "steps from Python": with_steps, "one program": one}[way]
    chosen = np.linspace(0, len(RATES) * SEEDS - 1, runs).astype(int)
    counter, began, losses = Counter(), time.perf_counter(), {}
    for number in chosen:
        rate, seed = RATES[number // SEEDS], int(number % SEEDS)
        losses[int(number)] = float(train(rate, jax.random.key(seed)))
    return (time.perf_counter() - began) / runs, counter.programs / runs, losses


def rates_and_seeds(steps, runs):
    seconds, programs, table = lanes(steps)
    number, found = table.value.size, {}
    print(table)
    for way, of in (("a program for each run", runs), ("steps from Python", runs), ("one program", number)):
        each, compiled, losses = separate(steps, of, way)
        found[way] = {
            "runs_timed": of, "seconds": round(each * number, 2), "programs_a_run": round(compiled, 2),
            "times_slower": round(each * number / seconds, 2),
        }  # fmt: skip
        values = table.value.reshape(-1)
        pairs = np.array([(values[i], loss) for i, loss in losses.items() if np.isfinite(loss + values[i])])
        found[way]["largest_relative_difference"] = float(f"{(np.abs(pairs[:, 0] / pairs[:, 1] - 1)).max():.2g}")
        found[way]["median_relative_difference"] = float(f"{np.median(np.abs(pairs[:, 0] / pairs[:, 1] - 1)):.2g}")
        print(f"{way:24} {each * number:8.1f} s for {number} runs, {found[way]['times_slower']} times the sweep's")
    return {
        "rates": len(RATES), "seeds": SEEDS, "steps": steps, "seconds": round(seconds, 2), "programs": programs,
        "chunk": table.chunk, "best": table.best, "best_loss": round(table.best_value, 5), "separate": found,
    }  # fmt: skip


# ---- halving against the grid ---------------------------------------------------------------


def least_squares(noise, condition):
    """Of 20 unknowns, with noise in the gradient; its loss is known exactly."""
    curvature = jnp.geomspace(1.0 / condition, 1.0, 20)
    loss = lambda w, z: jnp.sum(0.5 * curvature * w**2) + noise * jnp.sum(w * z)  # noqa: E731
    return loss, lambda key: jnp.ones(20), lambda key, t: jax.random.normal(key, (20,)), lambda w: loss(w, 0.0 * w)


def network(width, rows):
    """A small network on some of the digits."""
    train, test = jax.device_put(digits.load(0))
    train = jax.tree.map(lambda x: x[:rows], train)

    def start(key):
        one, two = jax.random.split(key)
        return {"w1": jax.random.normal(one, (64, width)) / 8, "b1": jnp.zeros(width),
                "w2": jax.random.normal(two, (width, 10)) * width**-0.5, "b2": jnp.zeros(10)}  # fmt: skip

    def batch(key, _):
        return jo.data.gather(train, jax.random.randint(key, (32,), 0, rows))

    return digits.cross_entropy, start, batch, lambda params: digits.cross_entropy(params, test)


def rosenbrock():
    """In 6 unknowns, from random points."""
    loss = lambda w, _: jnp.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)  # noqa: E731
    return loss, lambda key: jax.random.normal(key, (6,)), lambda key, t: jnp.zeros(()), lambda w: loss(w, 0)


def spaces():
    """Name -> (problem, maker, space): four problems with a rate, five kinds of it; four with two hyperparameters."""
    rate = {"rate": np.geomspace(1e-4, 3.0, 27)}
    kinds = {
        "sgd": (lambda h: jo.sgd(h["rate"]), rate),
        "adam": (lambda h: jo.adam(h["rate"]), rate),
        "lion": (lambda h: jo.lion(h["rate"]), {"rate": np.geomspace(1e-5, 0.3, 27)}),
        "rmsprop": (lambda h: jo.rmsprop(h["rate"]), rate),
        "momentum 0.9": (lambda h: jo.sgd(h["rate"], momentum=0.9), {"rate": np.geomspace(1e-5, 1.0, 27)}),
        "momentum": (lambda h: jo.sgd(h["rate"], momentum=h["momentum"]),
                     {"rate": np.geomspace(1e-4, 1.0, 13), "momentum": [0.0, 0.5, 0.9, 0.97]}),
        "adam, b1": (lambda h: jo.adam(h["rate"], b1=h["b1"]),
                      {"rate": np.geomspace(1e-4, 1.0, 13), "b1": [0.5, 0.8, 0.9, 0.95]}),
    }  # fmt: skip
    problems = {
        "least squares, noise": least_squares(0.3, 100.0),
        "least squares": least_squares(0.01, 1000.0),
        "digits": network(16, 400),
        "rosenbrock": rosenbrock(),
    }
    two = [f"{p}: {k}" for k in ("momentum", "adam, b1") for p in ("least squares, noise", "digits")]
    every = {f"{p}: {k}": (problems[p], *kinds[k]) for k in kinds for p in problems}
    return {name: made for name, made in every.items() if len(made[2]) == 1 or name in two}


def grid_steps(table, found, best):
    """How far apart two settings are: the most steps of the grid in one hyperparameter."""
    return max(
        abs(int(np.searchsorted(axis, table.values[found, i])) - int(np.searchsorted(axis, table.values[best, i])))
        for i, axis in enumerate(table.axes.values())
    )


def halvings(budget, seeds, quick):
    rows = []
    for name, (problem, make, space) in list(spaces().items())[:: 10 if quick else 1]:
        loss, start, batch, evaluate = problem
        run = jo.loop.trial(make, loss, start, batch, evaluate)
        grid, halved = (jo.loop.sweep(run, space, seeds=seeds, budget=budget, method=m) for m in ("grid", "halving"))
        best, found = grid.best_index, halved.best_index
        apart = grid_steps(grid, found, best)
        rows.append({
            "space": name, "settings": len(grid.values), "distance": apart,
            "share_of_steps": round(float(halved.steps.sum() / grid.steps.sum()), 4),
            "share_of_nominal_steps": round(float(halved.steps.sum() / (grid.steps.size * budget)), 4),
            "grid_best": grid.best, "halving_best": halved.best,
            "grid_loss": float(f"{grid.mean[best]:.6g}"),
            "grid_standard_error": float(f"{grid.standard_error[best]:.2g}"),
            "halving_loss": float(f"{grid.mean[found]:.6g}"), "grid_diverged": int(grid.diverged.sum()),
            "programs": halved.compilations, "rank_in_grid": int(np.flatnonzero(grid.order == found)[0]) + 1,
        })  # fmt: skip
        row = rows[-1]
        print(f"{name:34} {row['settings']:3} settings  {apart} apart  rank {row['rank_in_grid']:2}  "
              f"{row['share_of_steps']:.3f} of the steps", flush=True)  # fmt: skip
    return rows


# ---- what came out ------------------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the report to this file, as JSON")
    parser.add_argument("--runs", type=int, default=16, help="separate runs that are timed (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few steps, two spaces")
    args = parser.parse_args()
    if args.out and not args.out.parent.is_dir():
        parser.error(f"--out {args.out}: there is no directory {args.out.parent}")
    steps, runs, budget, seeds = (40, 2, 40, 2) if args.quick else (STEPS, args.runs, 300, 4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "sweep: The best setting lies")
        report = {"rates_and_seeds": rates_and_seeds(steps, runs), "halving": halvings(budget, seeds, args.quick)}
    report["halving_summary"] = {
        kind: {
            "spaces": len(rows), "budget": budget, "seeds": seeds,
            "within_one_step": sum(row["distance"] <= 1 for row in rows),
            "exact": sum(row["distance"] == 0 for row in rows),
            "largest_share_of_steps": max(row["share_of_steps"] for row in rows),
        }
        for kind, rows in (
            ("one hyperparameter", [row for row in report["halving"] if len(row["grid_best"]) == 1]),
            ("two hyperparameters", [row for row in report["halving"] if len(row["grid_best"]) == 2]),
        )
        if rows
    }  # fmt: skip
    report["versions"] = {"jax": jax.__version__, "jaxopt_ko": jo.__version__, "optax": optax.__version__,
                          "python": platform.python_version()}  # fmt: skip
    device = jax.devices()[0]
    report["run"] = {"device": device.device_kind, "platform": device.platform, "cores": jax.device_count(),
                     "machine": platform.machine(), "date": datetime.date.today().isoformat()}  # fmt: skip
    print(json.dumps(report["halving_summary"]))
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
