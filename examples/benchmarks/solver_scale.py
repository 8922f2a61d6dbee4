"""Solvers at size beside the best tools, one problem at a time: ratios of time, ours over the peer's.

    python examples/benchmarks/solver_scale.py                          # every row, some minutes on two cores
    python examples/benchmarks/solver_scale.py --rows lbfgsb lm         # those whose names begin so
    python examples/benchmarks/solver_scale.py --out examples/benchmarks/results/solver_scale.json

One process, the same data for both, in float64, to the same tolerance; the first runs, which compile, are not counted.
Ours and the peer's take turns, and what is shown is the median of the ratios of each turn, by the clock and by the
processor's time, so that what else the machine does falls on both. A peer that is not installed has no row. Peers that
use BLAS are held to one thread: on a busy machine theirs would wait for each other.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_ko as jo

FILE = pathlib.Path(__file__).parent / "results" / "solver_scale.json"
ROWS = {}  # name -> (target, what the peer is, modules that it needs, () -> Pair)


class Pair:
    """One problem, solved by both: `ours` and `peer` take nothing and return (value, evaluations); more: what else is
    told of ours, name -> a function of nothing."""

    def __init__(self, ours, peer, agree=1e-6, more=()):
        self.ours, self.peer, self.agree, self.more = ours, peer, agree, dict(more)


def row(name, target, peer, needs=("scipy",)):
    """Registers a function that makes a Pair. target: the ratio that is to be reached, at most."""

    def register(make):
        ROWS[name] = (target, peer, needs, make)
        return make

    return register


# ---- bounds ----------------------------------------------------------------------------------------------------


def valley(x):
    """Rosenbrock's, as a chain."""
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def stiff(x):
    """A quadratic chain of condition 1e4 whose minimum lies outside of the box for a third of the elements."""
    n = x.size
    weights, to = jnp.exp(jnp.linspace(0.0, np.log(1e4), n)), 2.0 * jnp.sin(jnp.arange(n, dtype=x.dtype))
    return 0.5 * jnp.sum(weights * (x - to) ** 2) + 0.5 * jnp.sum((x[1:] - x[:-1]) ** 2)


def minimized(fun, start, method, tol, **how):
    """Ours."""

    def run():
        found = jax.block_until_ready(jo.minimize(fun, jnp.asarray(start), method, tol=tol, **how))
        return float(found.value), int(found.evaluations.function)

    return run


def by_scipy(fun, start, bounds, tol):
    """SciPy's L-BFGS-B with our compiled value and gradient."""
    import scipy.optimize  # noqa: PLC0415

    evaluate = jax.jit(jax.value_and_grad(fun))

    def both(x):
        value, grad = evaluate(x)
        return float(value), np.asarray(grad)

    options = {"maxcor": 10, "gtol": tol, "ftol": 0.0, "maxiter": 100_000, "maxfun": 100_000}
    box = scipy.optimize.Bounds(*bounds)

    def run():
        found = scipy.optimize.minimize(both, start, jac=True, method="L-BFGS-B", bounds=box, options=options)
        return found.fun, found.nfev

    return run


def _bounded(name, fun, n, tol):
    start = np.clip(np.tile([-1.2, 1.0], n // 2), -2.0, 0.5)

    @row(f"lbfgsb, active bounds, {name}, n = {n:,}", 0.7, "scipy L-BFGS-B")
    def active():
        ours = minimized(fun, start, jo.lbfgsb(), tol, bounds=(-2.0, 0.5))
        return Pair(ours, by_scipy(fun, start, (-2.0, 0.5), tol))

    @row(f"lbfgsb, no active bound, {name}, n = {n:,}", 3.0, "lbfgs", ())
    def free():
        x = np.full(n, 0.9)
        wide = (-100.0, 100.0)
        return Pair(minimized(fun, x, jo.lbfgsb(), tol, bounds=wide), minimized(fun, x, jo.lbfgs(), tol))


for _n in (1_000, 10_000):
    _bounded("valley", valley, _n, 1e-5)
    _bounded("stiff quadratic", stiff, _n, 1e-1)


# ---- least squares ---------------------------------------------------------------------------------------------


def bell(m, rng):
    """A decay and a bell through m noisy points: five parameters."""
    t = np.linspace(0.0, 10.0, m)
    model = lambda p: p[0] * jnp.exp(-p[1] * t) + p[2] * jnp.exp(-(((t - p[3]) / p[4]) ** 2))  # noqa: E731
    y = np.asarray(model(np.array([5.0, 0.4, 3.0, 4.0, 0.8]))) + 0.05 * rng.normal(size=m)
    return lambda p: model(p) - y, np.array([3.0, 0.8, 2.0, 4.5, 1.2])


def mixed(m, n, rng):
    """m sums of n parameters, bent."""
    A, p = rng.normal(size=(m, n)) / np.sqrt(n), rng.normal(size=n)
    y = 2.0 * np.tanh(A @ p) + A @ p + 0.01 * rng.normal(size=m)
    return lambda p: 2.0 * jnp.tanh(A @ p) + A @ p - y, np.full(n, 0.1)


def fitted(residual, start, method):
    """Ours."""

    def run():
        found = jax.block_until_ready(jo.least_squares(residual, jnp.asarray(start), method))
        return float(found.value), int(found.evaluations.function)

    return run


def by_minpack(residual, start):
    """SciPy's lm with our compiled residuals and Jacobian, to its default tolerances."""
    import scipy.optimize  # noqa: PLC0415

    r, J = jax.jit(residual), jax.jit(jax.jacfwd(residual))

    def run():
        found = scipy.optimize.least_squares(
            lambda p: np.asarray(r(p)), start, jac=lambda p: np.asarray(J(p)), method="lm"
        )
        return found.cost, found.nfev

    return run


def _fit(m, n):
    def problem():
        rng = np.random.default_rng(0)
        return bell(m, rng) if n == 5 else mixed(m, n, rng)

    for solver, target in (("auto", 1.0), ("qr", 1.0), ("lsmr", None)):

        @row(f"lm, {solver}, {m:,} x {n}", target, "scipy lm")
        def fit(solver=solver):
            residual, start = problem()
            ours = fitted(residual, start, jo.levenberg_marquardt(linear_solver=solver))
            return Pair(ours, by_minpack(residual, start))

    @row(f"lm, qr beside svd, {m:,} x {n}", 1.0, "svd", ())
    def beside():
        residual, start = problem()
        return Pair(*(fitted(residual, start, jo.levenberg_marquardt(linear_solver=s)) for s in ("qr", "svd")))


for _m, _k in ((100_000, 5), (600, 300), (2_000, 50)):
    _fit(_m, _k)


# ---- linear and quadratic programs -----------------------------------------------------------------------------


class Program:
    """min x'Qx/2 + c'x with A x = b, G x <= h, lower <= x <= upper: arrays, or matrices of SciPy's; Q None: linear."""

    def __init__(self, Q, c, A=None, b=None, G=None, h=None, lower=-np.inf, upper=np.inf):
        self.Q, self.c, self.matrices, self.right = Q, c, (A, G), (b, h)
        self.lower, self.upper = (np.broadcast_to(side, c.shape) for side in (lower, upper))

    def ours(self, **how):
        """`quadratic_program`, or `linear_program`, to Clarabel's tolerance: its value, 1 where it is infeasible."""
        Q, A, G = map(_as_bcoo, (self.Q, *self.matrices))
        words = {"A": A, "b": self.right[0], "G": G, "h": self.right[1], "bounds": (self.lower, self.upper)}

        def run():
            if Q is None:
                found = jo.linear_program(self.c, **words, tol=1e-8, **how)
            else:
                found = jo.quadratic_program(Q, self.c, **words, tol=1e-8, **how)
            value = 1.0 if found.status.code == jo.Code.INFEASIBLE else found.value
            return float(value), int(found.steps)

        return run

    def peer(self):
        """Clarabel, its setting up counted as ours is."""
        import clarabel  # noqa: PLC0415
        from scipy import sparse  # noqa: PLC0415

        n, eye = self.c.size, sparse.identity(self.c.size, format="csr")
        low, high = np.isfinite(self.lower), np.isfinite(self.upper)
        rows = [*(sparse.csr_matrix(M) for M in self.matrices if M is not None), -eye[low], eye[high]]
        right = [*(r for r in self.right if r is not None), -self.lower[low], self.upper[high]]
        rows, right = sparse.vstack(rows, format="csc"), np.concatenate(right)
        equations = 0 if self.right[0] is None else self.right[0].size
        kinds = [clarabel.ZeroConeT(equations)] if equations else []
        kinds += [clarabel.NonnegativeConeT(right.size - equations)] if right.size > equations else []
        Q = sparse.csc_matrix((n, n)) if self.Q is None else sparse.triu(sparse.csc_matrix(self.Q), format="csc")
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.max_threads = False, 1

        def run():
            found = clarabel.DefaultSolver(Q, self.c, rows, right, kinds, settings).solve()
            value = 1.0 if "Infeasible" in str(found.status) else found.obj_val
            return value, found.iterations

        return run


def _as_bcoo(M):
    """A matrix of SciPy's as BCOO."""
    from jax.experimental import sparse  # noqa: PLC0415

    return sparse.BCOO.from_scipy_sparse(M) if hasattr(M, "tocoo") else M


def portfolio(n, rng):
    """The least variance, less return, of n shares whose weights are shares of one."""
    factors = rng.normal(size=(n, n // 4))
    Q = 5.0 * (factors @ factors.T / n + np.diag(rng.uniform(0.1, 1.0, n)))
    return Program(Q, -rng.uniform(0.0, 1.0, n), np.ones((1, n)), np.ones(1), lower=0.0)


def support_vectors(n, rng):
    """The dual of a support vector machine with a Gaussian kernel, two clouds of n / 2 points."""
    y = np.where(np.arange(n) < n // 2, 1.0, -1.0)
    points = rng.normal(size=(n, 5)) + 0.7 * y[:, None]
    distances = np.sum((points[:, None] - points[None]) ** 2, axis=2)
    Q = y[:, None] * y * np.exp(-0.2 * distances) + 1e-6 * np.eye(n)
    return Program(Q, -np.ones(n), y[None], np.zeros(1), lower=0.0, upper=1.0)


def control(stages, states, inputs, rng, reach=1.0):
    """A linear system that is to be at rest at the end; with little reach of its inputs it cannot be."""
    n, step = stages * (states + inputs), states + inputs
    F = np.linalg.qr(rng.normal(size=(states, states)))[0]
    B, start = rng.normal(size=(states, inputs)), 0.5 * rng.normal(size=states)
    A, b = np.zeros((states * (stages + 1), n)), np.zeros(states * (stages + 1))
    for k in range(stages):  # x_k+1 = F x_k + B u_k, at places [u_0 x_1 u_1 x_2 ...]
        row, at = slice(k * states, (k + 1) * states), k * step
        A[row, at : at + inputs], A[row, at + inputs : at + step] = -B, np.eye(states)
        if k:
            A[row, at - states : at] = -F
        else:
            b[row] = F @ start
    A[stages * states :, n - states :] = np.eye(states)
    upper = np.tile(np.concatenate([np.full(inputs, reach), np.full(states, 5.0)]), stages)
    return Program(np.eye(n), np.zeros(n), A, b, lower=-upper, upper=upper)


def boundary_control(side):
    """As CONT-050 of Maros and Meszaros' set (Mittelmann's): Laplace's equation, governed by its boundary's values."""
    from scipy import sparse  # noqa: PLC0415

    N, h = side + 1, 1.0 / side
    at = np.arange(N * N).reshape(N, N)
    inner = at[1:-1, 1:-1].ravel()
    line = np.arange(inner.size)
    places = [(line, inner + by) for by in (0, 1, -1, N, -N)]
    values = np.repeat([4.0, -1.0, -1.0, -1.0, -1.0], inner.size)
    rows, columns = (np.concatenate(part) for part in zip(*places, strict=True))
    A = sparse.csr_matrix((values, (rows, columns)), (inner.size, N * N))
    weights, edge = np.full(N * N, h * h), np.ones(N * N, bool)
    edge[inner] = False
    weights[edge] = 0.01 * h
    grid = np.arange(N) * h
    wanted = np.sin(3.0 * grid)[:, None] * np.cos(2.0 * grid)
    c = np.where(edge, 0.0, -weights * wanted.ravel())
    return Program(sparse.diags(weights), c, A, np.full(inner.size, h * h), lower=-0.2, upper=np.where(edge, 0.7, 0.6))


def _grid(*shape):
    """What leaves each node of a grid by each of its edges, -1 or 1: float[nodes,edges] of SciPy."""
    from scipy import sparse  # noqa: PLC0415

    at, ends = np.arange(np.prod(shape)).reshape(shape), []
    for axis in range(len(shape)):
        a, b = (np.take(at, range(first, shape[axis] - 1 + first), axis).ravel() for first in (0, 1))
        ends.append(np.stack([a, b]))
    (a, b), edge = np.concatenate(ends, axis=1), np.arange(sum(e.shape[1] for e in ends))
    values = np.repeat([1.0, -1.0], edge.size)
    return sparse.csr_matrix((values, (np.concatenate([a, b]), np.tile(edge, 2))), (at.size, edge.size))


def currents(side, rng):
    """As AUG3DCQP of the same set: flows in a grid of three dimensions, none of them negative."""
    from scipy import sparse  # noqa: PLC0415

    A = _grid(side, side, side)
    n = A.shape[1]
    return Program(sparse.identity(n, format="csr"), rng.normal(size=n), A, A @ rng.uniform(0, 1, n), lower=0.0)


def cheapest_flow(rows, columns, rng):
    """A linear program: what is to be carried over the streets of a town, of which each has room for one."""
    A = _grid(rows, columns)
    n = A.shape[1]
    return Program(None, rng.uniform(0.1, 1.0, n), A, A @ rng.uniform(0, 1, n), lower=0.0, upper=1.0)


_program_rows = {
    "portfolio, n = 100": (1.5, lambda rng: portfolio(100, rng)),
    "portfolio, n = 500": (1.5, lambda rng: portfolio(500, rng)),
    "support vectors, n = 2,000": (1.5, lambda rng: support_vectors(2_000, rng)),
    "control, n = 480": (3.0, lambda rng: control(40, 8, 4, rng)),
    "control, n = 1,600": (3.0, lambda rng: control(100, 12, 4, rng)),
    "control, n = 1,600, infeasible": (3.0, lambda rng: control(100, 12, 4, rng, 1e-3)),
    "currents as AUG3DCQP, n = 9,450": (5.0, lambda rng: currents(15, rng)),
    "boundary control as CONT-050, n = 10,201": (5.0, lambda rng: boundary_control(100)),
    "linear, cheapest flow, n = 9,850": (5.0, lambda rng: cheapest_flow(50, 100, rng)),
}
for _name, (_target, _make) in _program_rows.items():

    @row(f"program, {_name}", _target, "Clarabel", ("scipy", "clarabel"))
    def program(make=_make):
        given = make(np.random.default_rng(0))
        return Pair(given.ours(), given.peer())


# ---- optimal control -------------------------------------------------------------------------------------------


def beside(name):
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(name, pathlib.Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _controlled(name, unknowns, sparse):
    kind = "sparse" if sparse else "dense"

    @row(f"control, {name}, {kind}, n = {unknowns:,}", 3.0 if sparse else 1.0, f"Ipopt, {kind}", ("casadi",))
    def control():
        problems = beside("optimal_control")
        make, per = problems.PROBLEMS[name]
        problem = make(unknowns // per)
        words = {"bounds": (jnp.asarray(problem.lower), jnp.asarray(problem.upper))}
        fun, equality = (lambda z, f=f: f(z, jnp) for f in (problem.fun, problem.equality))
        if sparse:  # the places of entries are found once, as Ipopt's are
            x = jnp.asarray(problem.start)
            lagrangian = jax.grad(lambda z: fun(z) + jnp.sum(equality(z)))
            words["hess_sparsity"] = jo.sparse.sparsity(lagrangian, x)
            words["jac_sparsity"] = jo.sparse.sparsity(equality, x)
        ours = minimized(fun, problem.start, jo.interior_point(), 1e-8, equality=equality, **words)
        return Pair(ours, problems.by_ipopt(problem, 1e-8, not sparse))


for _problem in ("hanging chain", "goddard rocket", "pendulum"):
    _controlled(_problem, 200, False)
    _controlled(_problem, 200, True)
    _controlled(_problem, 2_000, True)


# ---- sparse least squares, many problems -----------------------------------------------------------------------


@row("bundle adjustment, 50 cameras, 5,000 points", 3.0, "scipy trf")
def _bundle():
    problems = beside("bundle_adjustment")
    made = problems.bundle()
    return Pair(problems.ours(made), problems.scipys(made), agree=1e-4)


@row("10,000 Rosenbrock problems", 1.0, "scipy, every 50th")
def _many():
    """The target is 1: fifty times as fast; and of the lanes' work, 1.3 times what the problems need."""
    import scipy.optimize  # noqa: PLC0415

    many = beside("many_problems")
    starts = many.starts(10_000)
    x = jnp.asarray(starts)

    def ours():
        found = jax.block_until_ready(jo.minimize_many(jo.landscapes.rosenbrock, x, keep_state=False))
        return float(jnp.max(found.value)), int(jnp.sum(found.evaluations.function))

    def peer():
        words = {"jac": scipy.optimize.rosen_der, "method": "L-BFGS-B"}
        made = [scipy.optimize.minimize(scipy.optimize.rosen, start, **words) for start in starts[::50]]
        return max(found.fun for found in made), sum(found.nfev for found in made)

    return Pair(ours, peer, 1e-3, {"updates of lanes / the runs' own": lambda: many.work(starts)})


# ---- measuring -------------------------------------------------------------------------------------------------


def measured(pair, rounds):
    """The row of a table: ratios, seconds, values and evaluations."""
    runs = {"ours": pair.ours, "peer": pair.peer}
    found = {name: run() for name, run in runs.items()}  # compiles
    for run in runs.values():
        run()
    clock, processor = ({name: [] for name in runs} for _ in range(2))
    for turn in range(rounds):
        for name in sorted(runs, reverse=bool(turn % 2)):
            wall, cpu = time.perf_counter(), time.process_time()
            runs[name]()
            clock[name].append(time.perf_counter() - wall)
            processor[name].append(time.process_time() - cpu)

    def ratio(times):
        return statistics.median(a / b for a, b in zip(times["ours"], times["peer"], strict=True))

    (a, ours), (b, peer) = found["ours"], found["peer"]
    return {
        "ratio": round(ratio(clock), 3),
        "ratio of processor time": round(ratio(processor), 3),
        "seconds": {name: round(statistics.median(times), 6) for name, times in clock.items()},
        "evaluations": {"ours": ours, "peer": peer},
        "values agree": bool(abs(a - b) <= pair.agree * max(1.0, abs(b))),
        **{name: round(tell(), 3) for name, tell in pair.more.items()},
    }


def versions():
    """Of what takes part."""
    made = {"python": platform.python_version()}
    for name in ("jax", "jaxlib", "numpy", "scipy", "clarabel", "casadi"):
        if importlib.util.find_spec(name):
            made[name] = importlib.metadata.version(name)
    return made


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", default=[""], help="beginnings of the names of those to measure")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (median)")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and end")
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file to write")
    options = parser.parse_args()
    chosen = {name: one for name, one in ROWS.items() if name.startswith(tuple(options.rows))}
    if options.list or not chosen:
        print("\n".join(ROWS))
        sys.exit(0 if options.list else f"no row begins with {' or '.join(options.rows)}")
    if options.out and not options.out.parent.is_dir():
        parser.error(f"there is no directory {options.out.parent}")
    jax.config.update("jax_enable_x64", True)
    head = ("problem", "peer", "ours / peer", "processor", "target", "evaluations", "values agree")
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    rows = {}
    for name, (target, peer, needs, make) in chosen.items():
        if not all(importlib.util.find_spec(module) for module in needs):
            continue
        pair = make()
        rows[name] = found = {"peer": peer, "target": target, **measured(pair, options.rounds)}
        calls = "{ours} / {peer}".format(**found["evaluations"])
        cells = (name, peer, found["ratio"], found["ratio of processor time"], "" if target is None else f"<= {target}")
        told = [f"{found['values agree']}", *(f"{more}: {found[more]}" for more in pair.more)]
        print(f"| {' | '.join(map(str, (*cells, calls, '; '.join(told))))} |", flush=True)
    device = {"kind": jax.devices()[0].device_kind, "processor": platform.processor(), "cores": os.cpu_count()}
    report = {"date": datetime.date.today().isoformat(), "versions": versions(), "device": device, "rows": rows}
    if options.out:
        if options.out.exists():  # rows that were not measured now stay
            before = json.loads(options.out.read_text(encoding="utf-8"))
            report |= {part: before.get(part, {}) | report[part] for part in ("rows", "versions")}
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
