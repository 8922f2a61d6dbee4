"""The interior-point method with sparse derivatives beside the dense one: answers, lanes, derivatives, refusals."""

import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko.drivers import patterns
from jaxopt_ko.errors import HyperparameterError, TransformationError, TreeError
from jaxopt_ko.solvers.engine import condensed, primal_dual, sparse_kkt
from jaxopt_ko.solvers.engine.condensed import BlockVector, CondensedSystem
from jaxopt_ko.solvers.problem.constraints import program, program_pattern
from jaxopt_ko.types import Code

SCRIPT = pathlib.Path(__file__).parent.parent / "examples" / "benchmarks" / "optimal_control.py"
N = 8
DATA = np.array([1.0, 0.1, 2.0, 0.5, 0.05])


def script():
    spec = importlib.util.spec_from_file_location("optimal_control", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def smooth(x, a):
    """Near to a curve, with steps of their own price."""
    return jnp.sum((x - a[0] * jnp.sin(jnp.arange(N))) ** 2) + jnp.sum((x[1:] - x[:-1]) ** 4)


def equality(x, a):
    """The second holds of all."""
    return {"ends": x[:1] * x[1:2] - a[1], "sum": jnp.sum(x) - a[2]}


def inequality(x, a):
    return x[2:5] ** 2 + x[3:6] - a[3]


LIMITS = {"equality": equality, "inequality": inequality}


def found(a, how="detect", method=None, **words):
    given = {
        "detect": {"hess_sparsity": "detect"},
        "jacobian": {"jac_sparsity": "detect"},
        "given": {"hess_sparsity": HESSIAN, "jac_sparsity": jo.sparse.coloring(JACOBIAN, "rows")},
        "dense": {},
    }[how]
    method = (jo.interior_point() if how == "dense" else jo.lbfgs()) if method is None else method
    bounds = (-a[4] * jnp.ones(N), 2.0)
    words = {"args": (a,), "bounds": bounds, "tol": 1e-10, **LIMITS, **given, **words}
    return jo.minimize(smooth, jnp.full(N, 0.5), method, **words)


HESSIAN = np.abs(np.arange(N)[:, None] - np.arange(N)) <= 1
JACOBIAN = np.zeros((5, N), bool)
JACOBIAN[0, :2] = JACOBIAN[1] = True
JACOBIAN[np.arange(2, 5), np.arange(2, 5)] = JACOBIAN[np.arange(2, 5), np.arange(3, 6)] = True


@functools.cache
def dense():
    return found(jnp.asarray(DATA), "dense")


@pytest.mark.parametrize("how", ["detect", "jacobian", "given"])
def test_finds_what_the_dense_method_does(x64, how):
    ours, theirs = found(jnp.asarray(DATA), how), dense()
    assert bool(ours.status.success), ours.status.sentence
    assert ours.state.jacobian.shape == (N + JACOBIAN.sum(),) and ours.state.hessian.ndim == 1
    np.testing.assert_allclose(ours.params, theirs.params, atol=1e-9)
    for one, other in zip(jax.tree.leaves(ours.multipliers), jax.tree.leaves(theirs.multipliers), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)
    assert abs(int(ours.state.iterations) - int(theirs.state.iterations)) <= 2


def test_derivatives_and_lanes(x64):
    """Of the solution and its multipliers, with constraints and bounds that hold it and such that do not."""

    def end(a):
        solution = found(a)
        y, z, lower, _ = solution.multipliers
        made = jnp.concatenate([solution.params, solution.value[None], y["ends"], y["sum"][None], z, lower])
        return made, made

    a, h = jnp.asarray(DATA), 1e-5
    lanes = a[None] + h * jnp.concatenate([jnp.zeros((1, 5)), jnp.eye(5), -jnp.eye(5)])
    slopes, values = jax.jit(jax.vmap(jax.jacrev(end, has_aux=True)))(lanes)
    np.testing.assert_allclose(slopes[0], (values[1:6] - values[6:]).T / (2 * h), atol=1e-6)
    for multipliers in dense().multipliers[1:3]:
        active = np.asarray(multipliers) > 1e-6
        assert active.any() and not active.all()  # the test is about both


@pytest.mark.parametrize(("name", "intervals"), [("hanging chain", 12), ("goddard rocket", 10), ("pendulum", 24)])
def test_optimal_control(x64, name, intervals):
    """Nonconvex problems with more constraints than freedom, one of which holds of all parameters."""
    make, _ = script().PROBLEMS[name]
    problem = make(intervals)
    solution = jo.minimize(
        lambda x: problem.fun(x, jnp), jnp.asarray(problem.start), equality=lambda x: problem.equality(x, jnp),
        bounds=(jnp.asarray(problem.lower), jnp.asarray(problem.upper)), hess_sparsity="detect", tol=1e-8,
    )  # fmt: skip
    assert bool(solution.status.success), solution.status.sentence
    assert max(map(float, solution.kkt)) <= 1e-6 and int(solution.state.iterations) <= 45
    known = {"hanging chain": 5.10017627, "goddard rocket": -1.01238323, "pendulum": 42.34677989}[name]  # Ipopt's
    np.testing.assert_allclose(solution.value, known, rtol=1e-7)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_sparse_system_has_the_dense_one_s_solution(x64, gamma):
    rng, (n, p, q) = np.random.default_rng(0), (6, 2, 3)
    H, Je, Ji = (jnp.asarray(rng.normal(size=shape)) for shape in ((n, n), (p, n), (q, n)))
    A = CondensedSystem(H + H.T, jnp.zeros(n), jnp.asarray(rng.random(q)), Je, Ji, jnp.asarray(gamma))
    b = BlockVector(*(jnp.asarray(rng.normal(size=k)) for k in (n, q, p, q)))
    words = (lambda x: x @ (H + H.T) @ x, lambda x: Je @ x, lambda x: Ji @ x)
    made = program("test", jnp.zeros(n), *words)
    layout = sparse_kkt.layout(program_pattern("test", made, None, None))
    entries = [M[C.rows, C.cols] for M, C in ((A.H, layout.hessian), (jnp.concatenate([Je, Ji]), layout.jacobian))]
    system = sparse_kkt.SparseSystem(layout, entries[0], A.sx, A.ss, entries[1], A.gamma)
    ours, theirs = (jax.jit(lambda b, f=f: f(b, jnp.zeros(())))(b) for f in (
        functools.partial(primal_dual.solve, system), functools.partial(condensed.solve, A)
    ))  # fmt: skip
    assert bool(ours.good) and 0 < float(ours.delta) <= float(theirs.delta)
    for got, wanted in zip(condensed.times(A, ours.delta, ours.parts), b, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-12)


FAILURES = {
    "no point": ({"equality": lambda x: x[:1] ** 2 + x[1:2] ** 2 + 1}, Code.INFEASIBLE),
    "a ray": ({"inequality": lambda x: x[:1] - x[1:]}, Code.UNBOUNDED),
    "an equation twice": ({"equality": lambda x: jnp.stack([x[0] + x[1], x[0] + x[1]])}, Code.GRADIENT_SMALL),
    "no constraints": ({"bounds": (-1.0, jnp.array([0.5, 0.5]))}, Code.GRADIENT_SMALL),
}


@pytest.mark.parametrize("name", FAILURES)
def test_statuses(x64, name):
    words, code = FAILURES[name]
    fun = (lambda x: -x[1] + x[0] ** 2) if name == "a ray" else (lambda x: jnp.sum((x - 1) ** 2))
    solution = jo.minimize(fun, jnp.array([0.7, 0.4]), hess_sparsity="detect", max_steps=300, **words)
    assert Code(int(solution.status.code)) == code, solution.status.sentence


def test_the_sparsity_is_found_once(x64, monkeypatch):
    """Of equal functions, shapes and args; anew for others, which may be places that are gathered from."""
    looked = []
    monkeypatch.setattr(patterns, "program_pattern", lambda *given: looked.append(1) or program_pattern(*given))
    at = lambda x, i: jnp.sum(x**2 * x[i])  # noqa: E731

    def run(i):
        return jo.minimize(at, jnp.ones(3), args=(i,), bounds=(1.0, 2.0), hess_sparsity="detect")

    first, again, other = run(np.array([0, 0, 0])), run(np.array([0, 0, 0])), run(np.array([0, 1, 2]))
    assert len(looked) == 2 and all(bool(found.status.success) for found in (first, again, other))
    assert first.state.hessian.shape == (7,) and other.state.hessian.shape == (3,)


def test_the_pair_alone_finds_the_sparsity(x64):
    method = jo.interior_point()
    words = {"value_fn": lambda x: smooth(x, DATA), "equality": lambda x: equality(x, DATA), "hess_sparsity": "detect"}
    x = jnp.full(N, 0.5)
    state = method.init(x, **words)
    updates, state = jax.jit(lambda x, state: method.update(x, state, x, **words))(x, state)
    assert state.jacobian.shape == (2 * N + 2,) and updates.shape == (N,)


def test_refuses():
    a = jnp.asarray(DATA)
    with pytest.raises(TreeError, match=r"jac_sparsity must have 5 rows and 8 columns"):
        found(a, "dense", hess_sparsity="detect", jac_sparsity=JACOBIAN[:-1])
    with pytest.raises(TreeError, match=r"hess_sparsity must have 8 rows and columns"):
        found(a, "dense", hess_sparsity=HESSIAN[:-1, :-1])
    with pytest.raises(HyperparameterError, match=r"jac_sparsity must be 'detect'|jac_sparsity must be one of"):
        found(a, "dense", jac_sparsity="probe")
    with pytest.raises(TransformationError, match=r"augmented_lagrangian.*: it takes no hess_sparsity"):
        found(a, "detect", jo.augmented_lagrangian(jo.bfgs()), bounds=None)
