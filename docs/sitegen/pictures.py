"""The path of every method on two landscapes, as pictures without words, and what was run, as JSON.

An optimizer's learning rate is the best of a grid; a solver has none. `python -m sitegen.pictures OUT NAME...`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jaxopt_ko as jo
from jaxopt_ko.catalog.entry import METHODS
from jaxopt_ko.core.method import takes

STEPS = 100
RATES = np.geomspace(1e-4, 1e1, 16).astype(np.float32)
VALLEY = (((-3.0, -2.0), (3.0, 2.0)), (-2.5, 1.5))
CURVED = (((-1.8, -0.6), (1.8, 2.6)), (-1.2, 1.0))
LANDSCAPES: dict[str, tuple[Any, tuple, tuple]] = {
    "long_valley": (lambda x: jo.landscapes.long_valley(x, 20.0), *VALLEY),
    "rosenbrock": (jo.landscapes.rosenbrock, *CURVED),
}
RESIDUALS = {
    "long_valley": lambda x: jnp.stack([x[0], jnp.sqrt(20.0) * x[1]]),
    "rosenbrock": lambda x: jnp.stack([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]]),
}
RATE_FREE = (
    "cocob",
    "polyak_sgd",
    "dadapt_adamw",
    "prodigy",
    "dog",
    "dowg",
    "momo",
    "momo_adam",
    "schedule_free_plus",
    "dadapt_sgd",
    "dadapt_lion",
)
WITHOUT = ("linear_program", "quadratic_program")  # programs have no function to draw


def optimizer_path(row: Any, fun: Any, start: tuple, rate: Any) -> Any:
    """float[STEPS+1,2]: the points that an optimizer goes through."""
    factory = METHODS[row.factory or row.name]
    options = dict(row.options)
    if takes(factory, "learning_rate") and row.name not in RATE_FREE:
        options["learning_rate"] = rate
    if takes(factory, "max_learning_rate"):
        options["max_learning_rate"] = rate
    optimizer = factory(**options)
    shape = (1, 2) if row.family == "matrix" else (2,)
    value_of = lambda x: fun(x.reshape(2))  # noqa: E731

    def step(carry: Any, _: None) -> Any:
        x, state = carry
        value, grad = jax.value_and_grad(value_of)(x)
        updates, state = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=value_of)
        x = jo.apply_updates(x, updates)
        return (x, state), x.reshape(2)

    x = jnp.asarray(start, jnp.float32).reshape(shape)
    points = jax.lax.scan(step, (x, optimizer.init(x)), None, STEPS)[1]
    return jnp.concatenate([x.reshape(1, 2), points])


def solver_path(row: Any, name: str, fun: Any, start: tuple) -> Any:
    """float[k,2]: the points that a solver takes, one evaluation a step."""
    x = jnp.asarray(start, jnp.float32)
    words: dict[str, Any] = {"value_fn": fun}
    if row.family == "squares":
        words = {"residual_fn": RESIDUALS[name]}
    if row.name == "cg":
        H = jax.hessian(fun)(jnp.ones(2))
        words = {"operator": lambda p: H @ p, "b": jnp.zeros(2)}
    if row.family == "constrained":
        words["inequality"] = lambda x: jnp.stack([0.3 - x[0] - x[1]])
    if row.name == "lbfgsb":
        words["bounds"] = (jnp.array([-jnp.inf, 0.2]), jnp.array([jnp.inf, jnp.inf]))
    method = row.make()
    state = method.init(x, **words)

    def step(carry: Any, _: None) -> Any:
        x, state = carry
        updates, state = method.update(jnp.zeros_like(x), state, x, **words)
        x = jo.apply_updates(x, updates)
        return (x, state), x

    points = jax.jit(lambda: jax.lax.scan(step, (x, state), None, STEPS)[1])()
    return jnp.concatenate([x[None], points])


def best(row: Any, name: str) -> tuple[np.ndarray, float | None]:
    """A method's path, and the learning rate by which it came lowest; None for a method without one."""
    fun, (low, high), start = LANDSCAPES[name]
    if "gradient" not in row.needs and row.name != "sophia":
        return np.asarray(solver_path(row, name, fun, start)), None
    if row.name in RATE_FREE:
        return np.asarray(jax.jit(lambda: optimizer_path(row, fun, start, 1.0))()), None
    runs = np.asarray(jax.jit(jax.vmap(lambda rate: optimizer_path(row, fun, start, rate)))(RATES))
    margin = 0.05 * (np.asarray(high) - np.asarray(low))
    inside = np.all((runs > low - margin) & (runs < high + margin), axis=(1, 2))
    ends = np.asarray(jax.vmap(lambda path: jnp.mean(jax.vmap(fun)(path[-10:])))(jnp.asarray(runs)))
    ends = np.where(inside & np.isfinite(ends), ends, np.inf)
    i = int(np.argmin(ends))
    return runs[i], float(RATES[i])


def draw(row: Any, out: Path) -> dict[str, Any]:
    """Write OUT/NAME.png; -> what was run on each landscape."""
    figure = Figure(figsize=(8.4, 3.1), layout="constrained")
    axes = figure.subplots(1, 2)
    told = {}
    for ax, (name, (fun, (low, high), _)) in zip(axes, LANDSCAPES.items(), strict=True):
        shown = LANDSCAPES["long_valley"][0] if row.name == "cg" else fun
        if row.name == "cg" and name == "rosenbrock":
            ax.set_axis_off()
            continue
        path, rate = best(row, name)
        grid = np.stack(np.meshgrid(np.linspace(low[0], high[0], 160), np.linspace(low[1], high[1], 160)), -1)
        values = np.asarray(jax.jit(jax.vmap(jax.vmap(shown)))(jnp.asarray(grid, jnp.float32)))
        ax.contour(grid[..., 0], grid[..., 1], np.log1p(values), 12, colors="0.8", linewidths=0.7)
        moved = np.concatenate([[True], np.any(np.diff(path, axis=0) != 0, axis=1)])
        path = path[moved]
        ax.plot(path[:, 0], path[:, 1], "-", color="#0072B2", linewidth=1.2)
        ax.plot(path[:, 0], path[:, 1], ".", color="#0072B2", markersize=3)
        ax.plot(*path[0], "o", color="#D55E00", markersize=6)
        ax.plot(*((0, 0) if name == "long_valley" else (1, 1)), "*", color="#009E73", markersize=11)
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        ax.tick_params(labelsize=8)
        end = float(shown(jnp.asarray(path[-1])))
        told[name] = {"rate": rate, "steps": len(path) - 1, "value": end}
    figure.savefig(out / f"{row.name}.png", dpi=80)
    return told


def main() -> None:
    """Draw the rows named, write OUT/NAME.json beside each."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        told = draw(jo.catalog.BY_NAME[name], out)
        (out / f"{name}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
