"""python examples/benchmarks/many_problems.py: 10,000 small problems at once, beside SciPy one by one.

Rosenbrock's function from starts at distances of 0.01 to 100 from its minimum, so that some runs take ten times as many
updates as others; float64, L-BFGS. Printed are seconds of the first and the second call, updates of lanes over those
that the runs took, and the seconds that SciPy computes, from every 50th problem. Set OPENBLAS_NUM_THREADS=1 for it:
with more threads it may take ten times as long.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

import jaxopt_ko as jo
from jaxopt_ko.drivers import table


def starts(n: int) -> np.ndarray:
    """float64[n, 2]."""
    rng = np.random.default_rng(0)
    return 1 + 10 ** rng.uniform(-2, 2, (n, 1)) * rng.normal(size=(n, 2))


def work(x: np.ndarray) -> float:
    """Updates of lanes, over those that the runs took, as the end of the printed table tells them."""
    told: list[float] = []
    shown = table._print_pool, table._print_pool_end
    table._print_pool = lambda *_: None
    table._print_pool_end = lambda codes, steps, made: told.append(made / steps.sum())
    try:
        jo.minimize_many(jo.landscapes.rosenbrock, jnp.asarray(x), keep_state=False, verbose=True)
        jax.effects_barrier()
    finally:
        table._print_pool, table._print_pool_end = shown
    return float(told[0])


def rosenbrock_many(n: int = 10_000) -> dict[str, float]:
    """Seconds and ratios, to be called where x64 is enabled."""
    x, fun = starts(n), jo.landscapes.rosenbrock
    seen: dict[str, float] = {}

    def timed(name: str, run):
        for call in ("first", "second"):
            begin = time.perf_counter()
            found = jax.block_until_ready(run())
            seen[f"{name}, {call} call"] = time.perf_counter() - begin
        return found

    found = timed("minimize_many", lambda: jo.minimize_many(fun, jnp.asarray(x), keep_state=False))
    lanes = jax.jit(jax.vmap(lambda x: jo.minimize(fun, x)._replace(state=None)))
    timed("vmap of minimize", lambda: lanes(jnp.asarray(x)))
    assert bool(jnp.all(found.status.success))

    seen["updates of lanes / the runs' own"] = work(x)
    seen["the same under vmap"] = n * float(found.steps.max()) / float(found.steps.sum())
    return seen


def scipys(n: int, every: int = 50) -> float:
    """Seconds that SciPy computes for all, with the gradient in NumPy."""
    begin = time.process_time()
    for start in starts(n)[::every]:
        words = {"jac": scipy.optimize.rosen_der, "method": "L-BFGS-B"}
        scipy.optimize.minimize(scipy.optimize.rosen, start, **words)
    return every * (time.process_time() - begin)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=10_000)
    n = parser.parse_args().problems
    jax.config.update("jax_enable_x64", True)
    seen = rosenbrock_many(n)
    theirs = scipys(n)
    for name, value in {**seen, "SciPy, one by one": theirs}.items():
        print(f"{name:<34} {value:10.3f}")
    print(f"{'SciPy / minimize_many, second call':<34} {theirs / seen['minimize_many, second call']:10.1f}")


if __name__ == "__main__":
    main()
