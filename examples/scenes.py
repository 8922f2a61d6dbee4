"""What the pictures show, computed by the library: each scene is one run, or many in one vmapped call, as arrays.

`gallery.py` draws the scenes, `explore.py` carries them in its page, `course/` tells them one by one, and the tests
assert in numbers what each of them is there to show.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_ko as jo
from jaxopt_ko.analysis.landscapes import long_valley, parabola, quintic, saddle

REGRESSION_X = (np.arange(1.0, 11.0, dtype=np.float32) - 5.5) / 2.8722813  # 1 to 10, in units of their deviation
REGRESSION_Y = np.array([0.94, 1.98, 2.88, 3.92, 3.96, 4.55, 5.64, 6.3, 7.44, 9.1], np.float32)


class Method(NamedTuple):
    """A method as the pictures know it."""

    title: str
    korean: str
    make: Callable  # learning rate -> transformation
    unit: str  # of the rate: "curvature" (1 / L), "width" (a share of the landscape's), "none" (it finds its own)


METHODS = {
    "sgd": Method("SGD", "확률적 경사 하강법", jo.sgd, "curvature"),
    "momentum": Method("Momentum", "모멘텀", partial(jo.sgd, momentum=0.9), "curvature"),
    "nesterov": Method("Nesterov (NAG)", "네스테로프 가속", partial(jo.sgd, momentum=0.9, nesterov=True), "curvature"),
    "adagrad": Method("AdaGrad", "AdaGrad", lambda lr: jo.adagrad(lr, initial_accumulator_value=0.0), "width"),
    "rmsprop": Method("RMSProp", "RMSProp", jo.rmsprop, "width"),
    "adadelta": Method("AdaDelta", "AdaDelta", lambda lr: jo.adadelta(lr, eps=1e-3), "none"),
    "adam": Method("Adam", "Adam", jo.adam, "width"),
    "adam_uncorrected": Method(
        "Adam, uncorrected", "편향 보정 없는 Adam", lambda lr: jo.adam(lr, bias_correction=False), "width"
    ),
    "nadam": Method("Nadam", "Nadam", jo.nadam, "width"),
    "lbfgs": Method("L-BFGS", "L-BFGS", lambda lr: jo.lbfgs(), "none"),
}
SHARES = {"curvature": (0.05, 0.4, 1.6), "width": (0.002, 0.01, 0.05), "none": (1.0,)}  # of a rate's unit: low to high


def path(method: str, fun: Callable, start: jax.Array, rate: jax.Array, steps: int) -> jax.Array:
    """float[steps+1,n]: the points that a method goes through from the start."""
    optimizer = METHODS[method].make(rate)

    def step(carry, _):
        x, state = carry
        value, grad = jax.value_and_grad(fun)(x)
        updates, state = optimizer.update(grad, state, x, value=value, grad=grad, value_fn=fun)
        x = jo.apply_updates(x, updates)
        return (x, state), x

    _, points = jax.lax.scan(step, (start, optimizer.init(start)), None, steps)
    return jnp.concatenate([start[None], points])


def paths(method: str, fun: Callable, starts: np.ndarray, rates: np.ndarray, steps: int) -> np.ndarray:
    """float[starts,rates,steps+1,n], in one vmapped call."""
    one = lambda start, rate: path(method, fun, start, rate, steps)  # noqa: E731
    every = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    return np.asarray(every(jnp.asarray(starts, jnp.float32), jnp.asarray(rates, jnp.float32)))


def rates_for(method: str, fun: Callable, starts: np.ndarray, width: float) -> np.ndarray:
    """float[r]: low, middle and high learning rates of a method on a landscape.

    Their unit is 1 / L for methods whose step is a rate times a gradient, L being the median over the starts of the
    Hessian's largest singular value there; a share of the landscape's width for those that take out the gradient's
    size; 1 for those that need no rate.
    """
    unit = METHODS[method].unit
    scale = 1.0
    if unit == "curvature":
        H = jax.jit(jax.vmap(jax.hessian(fun)))(jnp.asarray(starts, jnp.float32))
        scale = 1 / float(np.median(np.linalg.norm(np.asarray(H), 2, axis=(1, 2))))
    if unit == "width":
        scale = width
    if method in ("momentum", "nesterov"):
        scale *= 0.1  # 1 - momentum: the velocity adds up to ten gradients
    if method == "adagrad":
        scale *= 5  # its steps shrink as 1 / sqrt(t)
    return scale * np.array(SHARES[unit], np.float32)


# ---- the scenes -----------------------------------------------------------------------------------------


def zig_zag(condition: float = 10.0, steps: int = 40) -> dict[str, np.ndarray]:
    """Paths float[steps+1,2] in a long valley, from (-condition, 1): SGD crosses it at every step, near 2 / L."""
    fun = partial(long_valley, condition=condition)
    start = np.array([[-condition, 1.0]])
    rates = {"sgd": 1.9, "momentum": 0.1, "nesterov": 0.1, "adagrad": 7.0, "rmsprop": 1.5, "adam": 6.0}
    return {m: paths(m, fun, start, np.array([r / condition]), steps)[0, 0] for m, r in rates.items()}


def crossings(path: np.ndarray) -> int:
    """How often the second coordinate changes its sign."""
    return int(np.sum(path[1:, 1] * path[:-1, 1] < 0))


def saddle_point(steps: int = 60) -> dict[str, np.ndarray]:
    """Paths from beside the ridge of x**2 - y**2, a ten-thousandth off: SGD stays at the saddle, the others leave."""
    rates = {"sgd": 0.02, "momentum": 0.02, "nesterov": 0.02, "adagrad": 0.1, "rmsprop": 0.02, "adam": 0.05}
    start = np.array([[1.0, 1e-4]])
    return {m: paths(m, saddle, start, np.array([r]), steps)[0, 0] for m, r in rates.items()}


RATES_ON_PARABOLA = {"low": 0.02, "right": 0.2, "high": 0.95, "too high": 1.01}  # 2 / L = 1


def learning_rates(start: float = 1.0, steps: int = 40) -> dict[str, np.ndarray]:
    """Gradient descent on x**2, float[steps+1]: slow, fast, to and fro, and away, beyond 2 / L = 1."""
    runs = paths("sgd", parabola, np.array([[start]]), np.array(list(RATES_ON_PARABOLA.values())), steps)[0, :, :, 0]
    return dict(zip(RATES_ON_PARABOLA, runs, strict=True))


def local_and_global(starts: np.ndarray | None = None, steps: int = 200, method: str = "sgd") -> np.ndarray:
    """float[starts,steps+1] on the quintic: the start decides which of the two minima is found."""
    starts = np.linspace(-0.9, 2.4, 12) if starts is None else np.asarray(starts)
    return paths(method, quintic, starts[:, None], np.array([0.01]), steps)[:, 0, :, 0]


def regression_loss(params: jax.Array, x: jax.Array = REGRESSION_X, y: jax.Array = REGRESSION_Y) -> jax.Array:
    """Mean squared error of W x + b; params = (W, b)."""
    return jnp.mean((params[0] * x + params[1] - y) ** 2)


def batches(epochs: int = 30, seed: int = 0) -> dict[str, np.ndarray]:
    """Paths float[steps+1,2] of (W, b) by all ten rows, five and one of them a step: smooth, and more and more noisy.

    As many epochs for each; the rate falls as 1 / t, so that all of them end at the least squares.
    """
    kinds = {
        "batch": (jo.data.full_batch(10), 1), "mini-batch": (jo.data.mini_batch(10, 5), 2),
        "stochastic": (jo.data.stochastic(10), 10),
    }  # fmt: skip
    ends = {}
    for name, (plan, a_step) in kinds.items():
        optimizer = jo.sgd(lambda t, k=a_step: 0.15 / (1 + t / (10.0 * k)))

        def step(carry, rows, optimizer=optimizer):
            w, state = carry
            grad = jax.grad(regression_loss)(w, jnp.asarray(REGRESSION_X)[rows], jnp.asarray(REGRESSION_Y)[rows])
            updates, state = optimizer.update(grad, state, w)
            w = jo.apply_updates(w, updates)
            return (w, state), w

        rows = jnp.concatenate([plan.plan(jax.random.key(seed), epoch) for epoch in range(epochs)])
        start = jnp.array([-1.0, 1.0])
        _, points = jax.jit(lambda rows, step=step, o=optimizer, s=start: jax.lax.scan(step, (s, o.init(s)), rows))(
            rows
        )
        ends[name] = np.concatenate([np.asarray(start)[None], np.asarray(points)])
    return ends


def bias_correction(steps: int = 200, rate: float = 0.01) -> dict[str, np.ndarray]:
    """|step| float[steps] of Adam with and without its correction on the valley: 3.2 times as long at first."""
    start = np.array([[-10.0, 1.0]])
    runs = {m: paths(m, long_valley, start, np.array([rate]), steps)[0, 0] for m in ("adam", "adam_uncorrected")}
    return {m: np.linalg.norm(np.diff(run, axis=0), axis=1) for m, run in runs.items()}


def condition_numbers(conditions: np.ndarray | None = None, most: int = 20_000) -> dict[str, np.ndarray]:
    """int[conditions]: steps until |x| has fallen to 1e-3 in the valley; gradient descent needs as many as the
    condition number, momentum the root of it, Newton one.

    At the best constant rates: 2 / (1 + k) for the descent, and Polyak's rate and momentum.
    """
    conditions = np.geomspace(1, 1000, 10) if conditions is None else np.asarray(conditions)

    def steps(k: jax.Array, root: bool) -> jax.Array:
        q = jnp.sqrt(k)
        rate, momentum = (4 / (1 + q) ** 2, ((q - 1) / (q + 1)) ** 2) if root else (2 / (1 + k), jnp.zeros(()))
        optimizer = jo.sgd(rate, momentum=momentum)
        start = jnp.array([1.0, 1.0])

        def step(carry):
            x, state, t = carry
            updates, state = optimizer.update(jax.grad(lambda x: long_valley(x, k))(x), state, x)
            return jo.apply_updates(x, updates), state, t + 1

        far = lambda carry: (jnp.max(jnp.abs(carry[0])) > 1e-3) & (carry[2] < most)  # noqa: E731
        return jax.lax.while_loop(far, step, (start, optimizer.init(start), jnp.int32(0)))[2]

    k = jnp.asarray(conditions, jnp.float32)
    made = {
        name: jax.jit(jax.vmap(partial(steps, root=root)))(k) for name, root in (("sgd", False), ("momentum", True))
    }
    return {"condition": conditions, **{name: np.asarray(count) for name, count in made.items()}}


def race(name: str, steps: int = 150, start: int = 0) -> dict[str, np.ndarray]:
    """Paths float[steps+1,2] of all methods on a landscape from one of its usual starts, each at the rate that ends
    lowest of its low, middle and high one."""
    landscape = jo.landscapes.LANDSCAPES[name]
    starts = np.asarray(landscape.starts, np.float32)[start : start + 1]
    width = float(np.max(np.asarray(landscape.domain[1]) - np.asarray(landscape.domain[0])))
    best = {}
    for method in METHODS:
        runs = paths(method, landscape.fun, starts, rates_for(method, landscape.fun, starts, width), steps)[0]
        values = np.asarray(jax.vmap(landscape.fun)(jnp.asarray(runs[:, -1])))
        best[method] = runs[np.argmin(np.where(np.isfinite(values), values, np.inf))]
    return best
