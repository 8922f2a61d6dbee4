"""What L-BFGS costs beside optax's in the same process: equations, a step, compiling, lanes of a vmap.

    python examples/benchmarks/solver_cost.py            # about two minutes on two cores

Counted: jaxpr equations of one update with all inner ones; kernels (fusions) of the compiled run; evaluations that 256
lanes make, over what the slowest lane needs alone. Timed, each the median of several runs taken in random order: one
update on 50 leaves, compiled; tracing and compiling a whole run on the ten-dimensional valley, all caches cleared
before; the second call of `minimize`, with other data.
"""

import argparse
import random
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_ko as jo

LIBRARIES = {"ours": jo, "optax": optax}


def valley(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def optax_run(fun, start, tol=1e-8, steps=500):
    """The loop of optax's documentation."""
    opt = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(fun)

    def step(carry):
        params, state = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = opt.update(grad, state, params, value=value, grad=grad, value_fn=fun)
        return optax.apply_updates(params, updates), state

    def goes_on(carry):
        count, grad = (optax.tree.get(carry[1], name) for name in ("count", "grad"))
        return (count == 0) | ((count < steps) & (jnp.max(jnp.abs(grad)) >= tol))

    return jax.lax.while_loop(goes_on, step, (start, opt.init(start)))[0]


RUNS = {"ours": lambda fun, start: jo.minimize(fun, start, tol=1e-8).params, "optax": optax_run}


def timed(function):
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return result, time.perf_counter() - start


def equations(jaxpr):
    """How many there are, those of inner ones too."""
    inner = [getattr(v, "jaxpr", v) for eqn in jaxpr.eqns for p in eqn.params.values() for v in jax.tree.leaves(p)]
    return len(jaxpr.eqns) + sum(equations(j) for j in inner if hasattr(j, "eqns"))


def median_of(functions, rounds):
    """{name: median seconds}, the functions called in random order in each round."""
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name in random.sample(list(functions), len(functions)):
            times[name].append(timed(functions[name])[1])
    return {name: statistics.median(t) for name, t in times.items()}


def one_update(leaves=50):
    """Equations, and seconds of the compiled update as optax does it: one iteration, its search inside."""
    params = {f"leaf{i}": jnp.ones((3, 2)) for i in range(leaves)}
    fun = lambda p: sum(jnp.sum((x - 2.0) ** 4) for x in p.values())  # noqa: E731
    value, grad = jax.value_and_grad(fun)(params)
    count, steps = {}, {}
    for name, library in LIBRARIES.items():
        opt = library.lbfgs()
        update = lambda g, s, p, v, opt=opt: opt.update(g, s, p, value=v, grad=g, value_fn=fun)  # noqa: E731
        state = opt.init(params)
        count[name] = equations(jax.make_jaxpr(update)(grad, state, params, value).jaxpr)
        program = jax.jit(update).lower(grad, state, params, value).compile()
        steps[name] = lambda program=program, state=state: program(grad, state, params, value)
        steps[name]()
    return count, median_of(steps, 200)


# XLA's older way to make kernels on CPU: a program of many small ones, as a solver is, compiles in half the time;
# large elementwise functions may then run a sixth slower.
OLDER = {"xla_cpu_use_fusion_emitters": False}


def compiling(rounds, ours=None):
    """Seconds of tracing and compiling a run in ten dimensions, and the kernels in it; ours: our compiler options."""
    start, kernels = jnp.array([-1.2, 1.0] * 5), {}

    def compile_(name):
        jax.clear_caches()
        options = ours if name == "ours" else None
        program = jax.jit(lambda x: RUNS[name](valley, x), compiler_options=options).lower(start).compile()
        kernels[name] = program.as_text().count(" fusion(")
        return 0

    return median_of({name: lambda name=name: compile_(name) for name in RUNS}, rounds), kernels


def lanes(count=256):
    """Evaluations made for all lanes, over lanes times those that the slowest needs alone."""
    starts = jnp.asarray(np.random.default_rng(1).normal(size=(count, 2)))
    made = []

    def fun(x):
        jax.debug.callback(lambda _: made.append(1), x[0])
        return valley(x)

    shares = {}
    for name, run in RUNS.items():
        one = jax.jit(lambda x, run=run: run(fun, x))

        def evaluations(program, x):
            made.clear()
            jax.block_until_ready(program(x))
            jax.effects_barrier()
            return len(made)

        slowest = max(evaluations(one, start) for start in starts)
        shares[name] = evaluations(jax.jit(jax.vmap(one)), starts) / (count * slowest)
    return shares


def second_call():
    """Seconds of two calls of `minimize` with other data, and what the second compiles."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    fun = lambda x, a: valley(x - a)  # noqa: E731
    data = [jnp.asarray(v) for v in (0.0, 0.1)]
    starts = [jnp.zeros(10), jnp.full(10, 0.3)]
    first = timed(lambda: jo.minimize(fun, starts[0], args=(data[0],)).params)[1]
    compiled.clear()
    again = timed(lambda: jo.minimize(fun, starts[1], args=(data[1],)).params)[1]
    return first, again, len(compiled)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="compilations of each (median)")
    parser.add_argument("--lanes", type=int, default=256)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(f"jax {jax.__version__}, optax {optax.__version__}, {jax.default_backend()}, float64")
    print(f"{'':52}{'ours':>10}{'optax':>10}{'ours / optax':>14}")

    def row(label, figures, form="{:.4g}"):
        ours, theirs = figures["ours"], figures["optax"]
        print(f"{label:52}{form.format(ours):>10}{form.format(theirs):>10}{ours / theirs:14.2f}", flush=True)

    count, step = one_update()
    row("50 leaves, one update: jaxpr equations", count, "{:d}")
    row("50 leaves, one update: ms", {name: 1e3 * t for name, t in step.items()})
    seconds, kernels = compiling(args.rounds)
    row("a run in ten dimensions: trace and compile, s", seconds)
    row("a run in ten dimensions: kernels", kernels, "{:d}")
    if jax.default_backend() == "cpu":
        row("trace and compile, s; ours by XLA's older emitters", compiling(args.rounds, OLDER)[0])
    if args.lanes:
        row(f"{args.lanes} lanes: evaluations / (lanes x slowest lane's)", lanes(args.lanes), "{:.2f}")
    first, again, compiled = second_call()
    print(f"minimize: first call {first:.2f} s, second call with other data {1e3 * again:.2f} ms, compiling {compiled}")


if __name__ == "__main__":
    main()
