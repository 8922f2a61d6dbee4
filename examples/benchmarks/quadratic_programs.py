"""1,000 random quadratic programs in one vmapped call, beside Clarabel (Goulart & Chen 2024), one after the other.

Each has 50 parameters between -5 and 5 and 100 constraints, 20 equations and 80 inequalities, with a point inside.

    python examples/benchmarks/quadratic_programs.py [number of problems]
"""

import argparse
import importlib.util
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NPROC", "16")  # with a pool of two threads, XLA's batched factorizations on CPU may wait forever

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_ko as jo

N, EQUATIONS, ROWS, BOX = 50, 20, 80, 5.0
PEER = importlib.util.find_spec("clarabel") is not None


def problems(count, seed=0):
    rng = np.random.default_rng(seed)
    half, inside = rng.normal(size=(count, N, N)), rng.uniform(-1, 1, size=(count, N))
    A, G = rng.normal(size=(count, EQUATIONS, N)), rng.normal(size=(count, ROWS, N))
    return {
        "Q": half @ half.transpose(0, 2, 1) / N,
        "c": rng.normal(size=(count, N)),
        "A": A,
        "b": np.einsum("bij,bj->bi", A, inside),
        "G": G,
        "h": np.einsum("bij,bj->bi", G, inside) + rng.uniform(size=(count, ROWS)),
    }


@jax.jit
@jax.vmap
def solve(data):
    return jo.quadratic_program(**data, bounds=(-BOX, BOX))


def residuals(data, x, y, z, low, high):
    """The largest of the four residuals of each problem, anew from its data."""

    def times(M, v):
        return np.einsum("bij,bj->bi", M, v)

    slope = times(data["Q"], x) + data["c"] + np.einsum("bji,bj->bi", data["A"], y)
    slope = slope + np.einsum("bji,bj->bi", data["G"], z) - low + high
    room = data["h"] - times(data["G"], x)
    equal = times(data["A"], x) - data["b"]
    parts = [slope, equal, np.minimum(room, 0), np.maximum(np.abs(x) - BOX, 0)]
    parts += [z * room, low * (x + BOX), high * (BOX - x)]
    return np.max([np.max(np.abs(part), axis=1) for part in parts], axis=0)


def peers(data):
    """The same by Clarabel: x, the multipliers, iterations, seconds in its solver alone and in all."""
    import clarabel  # noqa: PLC0415
    from scipy import sparse  # noqa: PLC0415

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    cones = [clarabel.ZeroConeT(EQUATIONS), clarabel.NonnegativeConeT(ROWS + 2 * N)]
    found, inside, began = [], 0.0, time.perf_counter()
    for Q, c, A, b, G, h in zip(*(data[name] for name in ("Q", "c", "A", "b", "G", "h")), strict=True):
        rows = sparse.csc_matrix(np.vstack([A, G, -np.eye(N), np.eye(N)]))
        right = np.concatenate([b, h, np.full(2 * N, BOX)])
        solution = clarabel.DefaultSolver(sparse.csc_matrix(np.triu(Q)), c, rows, right, cones, settings).solve()
        inside += solution.solve_time
        found.append((np.asarray(solution.x), np.asarray(solution.z), solution.iterations))
    seconds = time.perf_counter() - began
    x, z, steps = (np.stack(column) for column in zip(*found, strict=True))
    return (x, *np.split(z, np.cumsum([EQUATIONS, ROWS, N]), axis=1)), steps, inside, seconds


def row(name, steps, residual, seconds, count):
    worst, median = np.max(residual), np.median(residual)
    print(f"{name:<34} {np.median(steps):>6.0f} {np.max(steps):>4.0f} {worst:>10.1e} {median:>10.1e} "
          f"{1e3 * seconds / count:>10.3f}")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=1000, help="problems to solve (default: %(default)s)")
    count = parser.parse_args().count
    if count < 1:
        parser.error(f"count: there must be one problem at least, not {count}")
    jax.config.update("jax_enable_x64", True)
    data = problems(count)
    began = time.perf_counter()
    jax.block_until_ready(solve(data))
    first = time.perf_counter() - began
    began = time.perf_counter()
    solution = jax.block_until_ready(solve(data))
    seconds = time.perf_counter() - began
    m = solution.multipliers
    ours = tuple(map(np.asarray, (solution.params, m.equality, m.inequality, m.lower, m.upper)))
    print(f"{count} problems of {N} parameters, {EQUATIONS} equations, {ROWS} inequalities and a box, "
          f"on {jax.devices()[0].platform}; {int(jnp.sum(solution.status.success))} solved")  # fmt: skip
    print(f"{'':<34} {'steps':>6} {'max':>4} {'KKT worst':>10} {'median':>10} {'ms/problem':>10}")
    worst = residuals(data, *ours)
    row("quadratic_program, one vmapped call", solution.steps, worst, seconds, count)
    if PEER:
        theirs, steps, inside, outside = peers(data)
        row("Clarabel, its solver alone", steps, residuals(data, *theirs), inside, count)
        row("Clarabel, called from Python", steps, residuals(data, *theirs), outside, count)
        value = np.einsum("bi,bij,bj->b", theirs[0], data["Q"], theirs[0]) / 2
        value = value + np.sum(data["c"] * theirs[0], axis=1)
        print(f"values differ by at most {np.max(np.abs(value - solution.value) / (1 + np.abs(value))):.1e}, relative")
    else:
        print("Clarabel is not installed: pip install clarabel to see its row")
    print(f"compilation and the first call took {first:.1f} s")


if __name__ == "__main__":
    main()
