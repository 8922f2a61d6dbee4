"""What the layer between a rule and XLA costs, beside optax in the same process.

    python examples/benchmarks/layer_cost.py            # about three minutes on two cores
    python examples/benchmarks/layer_cost.py --quick    # counts only, no compiled steps

One training step is update + apply_updates, jitted. Counted: jaxpr equations, StableHLO operations, operands and
results of the compiled step, bytes that it reads and writes, its temporary memory. Timed: tracing (to a jaxpr),
compiling, and the compiled step; each the median of several runs taken in random order, given as ours / optax.
Last comes a PPO-like program: eight seeds under vmap, each a scan over epochs and minibatches, every leaf of a network
of two layers with a shape of its own; Adam behind a clip by the global norm, its rate a schedule and a constant.
"""

import argparse
import random
import re
import statistics
import time

import jax
import jax.numpy as jnp
import optax

import jaxopt_ko as jo

TREES = {
    "10 leaves 8x8": dict.fromkeys(range(10), (8, 8)),
    "100 leaves 8x8": dict.fromkeys(range(100), (8, 8)),
    "1000 leaves 8x8": dict.fromkeys(range(1000), (8, 8)),
    "1 leaf of 32 M": {0: (32_000_000,)},
}
METHODS = ("adam", "adamw", "sgd", "rmsprop")


def training_step(library, method):
    """(jitted step, its optimizer): (grads, state, params) -> (params, state)."""
    opt = getattr(library, method)(1e-3)

    def step(grads, state, params):
        updates, state = opt.update(grads, state, params)
        return library.apply_updates(params, updates), state

    return step, opt


def ppo_program(library, rate):
    """Eight seeds of proximal policy optimization, lowered."""
    peak = 2.5e-4
    schedule = peak if rate == "constant" else lambda count: peak * (1.0 - (count // 16) / 100.0)
    opt = library.chain(library.clip_by_global_norm(0.5), library.adam(schedule, eps=1e-5))
    sizes = {"first": (4, 64), "second": (64, 64), "policy": (64, 2), "value": (64, 1)}

    def layer(p, x):
        return x @ p["kernel"] + p["bias"]

    def objective(params, batch):
        seen, action, old, advantage, returns = batch
        x = jnp.tanh(layer(params["second"], jnp.tanh(layer(params["first"], seen))))
        log_p = jax.nn.log_softmax(layer(params["policy"], x))
        ratio = jnp.exp(jnp.take_along_axis(log_p, action[:, None], 1)[:, 0] - old)
        surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)
        error = jnp.square(layer(params["value"], x)[:, 0] - returns)
        return -jnp.mean(surrogate) + 0.5 * jnp.mean(error) + 0.01 * jnp.mean(jnp.sum(jnp.exp(log_p) * log_p, -1))

    def minibatch(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(objective)(params, batch)
        updates, state = opt.update(grads, state, params)
        return (library.apply_updates(params, updates), state), value

    def train(key, batches):
        keys = jax.random.split(key, len(sizes))
        params = {
            name: {"kernel": jax.random.normal(k, shape) / shape[0] ** 0.5, "bias": jnp.zeros(shape[1])}
            for k, (name, shape) in zip(keys, sizes.items(), strict=True)
        }
        carry = params, opt.init(params)
        return jax.lax.scan(lambda carry, _: jax.lax.scan(minibatch, carry, batches), carry, None, 4)

    some = jnp.ones((4, 32))
    batches = jnp.ones((4, 32, 4)), jnp.zeros((4, 32), jnp.int32), some, some, some
    return jax.jit(jax.vmap(train, (0, None))).lower(jax.random.split(jax.random.key(0), 8), batches)


def timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def operations(stablehlo: str) -> int:
    """Operations of a StableHLO module, each counted once, however often its function is called."""
    return len(re.findall(r"^\s+(?:%[\w:, %]+ = |\S*return )", stablehlo, re.M))


def measure(method, shapes, quick, repeats):
    """Two rows of figures, ours and optax's."""
    params = {key: jnp.full(shape, 0.5, jnp.float32) for key, shape in shapes.items()}
    libraries = {"ours": jo, "optax": optax}
    rows = {name: {} for name in libraries}
    compiled, traces = {}, {name: [] for name in libraries}
    for _ in range(repeats):
        for name in random.sample(list(libraries), 2):
            step, opt = training_step(libraries[name], method)
            state = opt.init(params)
            jax.clear_caches()
            traced, seconds = timed(lambda step=step, state=state: jax.jit(step).trace(params, state, params))
            traces[name].append(seconds)
            if "equations" not in rows[name]:
                lowered = traced.lower()
                rows[name] |= {"equations": len(traced.jaxpr.eqns), "operations": operations(lowered.as_text())}
                rows[name] |= {"in": len(traced.jaxpr.jaxpr.invars), "out": len(traced.jaxpr.jaxpr.outvars)}
                if not quick:
                    program, rows[name]["compile s"] = timed(lowered.compile)
                    rows[name]["MB moved"] = program.cost_analysis()["bytes accessed"] / 1e6
                    rows[name]["MB temporary"] = program.memory_analysis().temp_size_in_bytes / 1e6
                    compiled[name] = (program, state)
    for name in libraries:
        rows[name]["trace s"] = statistics.median(traces[name])
    if not quick:
        rounds = {1: 12, 10: 600}.get(len(shapes), 60)
        times = {name: [] for name in libraries}
        for _ in range(rounds):
            for name in random.sample(list(libraries), 2):  # neither always finds the other's memory warm
                program, state = compiled[name]
                _, seconds = timed(lambda p=program, s=state: jax.block_until_ready(p(params, s, params)))
                times[name].append(seconds)
        for name in libraries:
            rows[name]["step ms"] = 1e3 * statistics.median(times[name])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="count and trace only")
    parser.add_argument("--repeats", type=int, default=3, help="tracings of each step (median)")
    args = parser.parse_args()
    figures = ["equations", "operations", "in", "out", "trace s", "compile s", "step ms", "MB moved", "MB temporary"]
    if args.quick:
        figures = figures[:5]
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.default_backend()}; ours | optax | ours / optax")
    print(f"{'tree':16} {'method':8}" + "".join(f"{figure:>28}" for figure in figures))
    for tree, shapes in TREES.items():
        for method in METHODS:
            rows = measure(method, shapes, args.quick, args.repeats)
            cells = []
            for figure in figures:
                ours, theirs = rows["ours"][figure], rows["optax"][figure]
                ratio = f"{ours / theirs:6.3f}" if theirs else f"{'':6}"
                cells.append(f"{ours:10.4g} |{theirs:9.4g} |{ratio}")
            print(f"{tree:16} {method:8}" + "".join(f"{cell:>28}" for cell in cells), flush=True)
    for rate in ("schedule", "constant"):
        texts = [ppo_program(library, rate).as_text() for library in (jo, optax)]
        ours, theirs = map(operations, texts)
        lines = [text.count("\n") for text in texts]
        print(f"PPO, {rate:11} operations {ours} | {theirs} | {ours / theirs:.3f}   lines {lines[0]} | {lines[1]}")


if __name__ == "__main__":
    main()
