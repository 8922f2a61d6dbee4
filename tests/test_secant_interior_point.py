"""The interior-point method without second derivatives: BFGS as a matrix and by pairs, with dense and sparse J."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_interior_point import hock_schittkowski, solved

import jaxopt_ko as jo
from jaxopt_ko.errors import HyperparameterError, TransformationError
from jaxopt_ko.solvers.engine import condensed, damped_bfgs, primal_dual, sparse_kkt
from jaxopt_ko.solvers.engine.condensed import BlockVector, CondensedSystem
from jaxopt_ko.solvers.engine.primal_dual import LowRankSystem, RangeSystem
from jaxopt_ko.solvers.problem.constraints import program, program_pattern

N = 10
RANDOM = np.random.default_rng(0)
METHODS = {"matrix": jo.interior_point(hessian="bfgs"), "pairs": jo.interior_point(hessian="bfgs", memory=6)}


@jax.custom_vjp
def once(x):
    """exp, of which a second derivative is an error."""
    return jnp.exp(x)


@jax.custom_vjp
def slope(x):
    """Its derivative, which has none: forward mode refuses what has a rule for reverse mode alone."""
    return jnp.exp(x)


once.defvjp(lambda x: (jnp.exp(x), x), lambda x, g: (g * slope(x),))
slope.defvjp(lambda x: _refuse(), lambda x, g: (g,))


def _refuse():
    raise NotImplementedError("a second derivative")


def fun(x, smooth=once):
    return jnp.sum(smooth(x)) + 0.5 * jnp.sum((x[1:] - x[:-1]) ** 2)


def limits(smooth=once):
    equality = lambda x: jnp.stack([jnp.sum(smooth(-x)) - 8.0, x[0] + x[1] - 0.2])  # noqa: E731
    return {"equality": equality, "inequality": lambda x: x[2:5] ** 2 + x[3:6] - 0.3, "bounds": (-1.0, 1.0)}


@functools.cache
def known():
    with jax.enable_x64(True):
        return jo.minimize(
            functools.partial(fun, smooth=jnp.exp), jnp.full(N, 0.5), jo.interior_point(), tol=1e-10, **limits(jnp.exp)
        )


@pytest.mark.parametrize("kind", ["matrix", "pairs", "sparse"])
def test_second_derivatives_are_never_taken(x64, kind):
    """They raise here; and the exact Hessian does."""
    words = {"jac_sparsity": np.ones((5, N), bool)} if kind == "sparse" else {}
    method = METHODS["matrix" if kind == "matrix" else "pairs"]
    x = jnp.full(N, 0.5)
    problem = {"value_fn": fun, **limits(), **words}

    @jax.jit
    def run(x):
        state = method.init(x, **problem)
        return jax.lax.while_loop(
            lambda c: (c[1].info.status.code == 0) & (c[1].count < 200),
            lambda c: (lambda u, s: (c[0] + u, s))(*method.update(x, c[1], c[0], tol=1e-9, **problem)),  # noqa: PLC3002
            (x, state),
        )  # fmt: skip

    x, state = run(x)
    assert bool(state.info.status.success), state.info.status.sentence
    np.testing.assert_allclose(x, known().params, atol=1e-6)
    assert int(state.info.evaluations.product) == 0 and int(state.iterations) <= 40
    with pytest.raises(NotImplementedError, match="a second derivative"):
        jo.interior_point().update(x, jo.interior_point().init(x, value_fn=fun), x, value_fn=fun)


def test_derivatives_of_the_solution(x64):
    def end(a, **words):
        found = jo.minimize(
            lambda x, a: jnp.sum(jnp.exp(a * x)), jnp.full(N, 0.5), METHODS["pairs"], args=(a,), tol=1e-10,
            equality=lambda x, a: jnp.stack([jnp.sum(x * jnp.linspace(0.0, 9.0, N)) - a, x[0] * x[1] - 0.1]), **words,
        )  # fmt: skip
        return jnp.sum(found.params**2)

    for words in ({}, {"jac_sparsity": "detect"}):
        made = functools.partial(end, **words)
        np.testing.assert_allclose(jax.grad(made)(1.2), (made(1.2 + 1e-5) - made(1.2 - 1e-5)) / 2e-5, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_hock_schittkowski_without_second_derivatives():
    """Those with one constraint, but for HS13, where no qualification holds. Of all 77 it solves 76, in a median of 13
    iterations."""
    found = {}
    for problem, solution in hock_schittkowski(METHODS["matrix"], {(1, 0), (0, 1)}):
        found[problem["name"]] = bool(solution.status.success) and solved(problem, solution)
    assert len(found) >= 20 and {name for name, good in found.items() if not good} <= {"HS13"}, found


# ---- linear algebra ---------------------------------------------------------------------------------------


def test_the_matrix_and_the_pairs_are_one(x64):
    """Pairs of which some have no positive curvature: damped, B stays positive definite."""
    matrix, pairs = damped_bfgs.first_matrix(N, jnp.float64), damped_bfgs.first_memory(N, 8, jnp.float64)
    H = RANDOM.normal(size=(N, N))
    H = H + H.T + 0.5 * np.eye(N)
    bent = 0
    for _ in range(5):
        s = jnp.asarray(RANDOM.normal(size=N))
        y, yes = H @ s, jnp.ones((), bool)
        bent += int(s @ y < 0.2 * s @ s)
        matrix, pairs = damped_bfgs.learned(matrix, s, y, yes), damped_bfgs.recalled(pairs, s, y, yes)
        assert float(jnp.linalg.eigvalsh(matrix.B)[0]) > 0
        no = damped_bfgs.learned(matrix, y, s, ~yes)
        np.testing.assert_array_equal(no.B, matrix.B)
    theta, U, sign = damped_bfgs.low_rank(pairs)
    made = theta * jnp.eye(N) + (U.T * sign[None]) @ U
    assert bent and float(jnp.linalg.eigvalsh(made)[0]) > 0 and int(pairs.stored) == 5
    s, y = jnp.asarray(RANDOM.normal(size=N)), jnp.asarray(RANDOM.normal(size=N))
    y = y + s * (1 + abs(s @ y) / (s @ s)) + made @ s
    again = damped_bfgs.low_rank(damped_bfgs.recalled(pairs, s, y, jnp.ones((), bool)))
    new = again[0] * s + (again[2] * (again[1] @ s)) @ again[1]
    np.testing.assert_allclose(new, y, rtol=1e-9)  # the last pair holds


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_woodbury_s_systems_have_the_dense_one_s_solution(x64, gamma):
    n, p, q, k = 7, 2, 3, 4
    h, ss = jnp.asarray(1 + RANDOM.random(n)), jnp.asarray(RANDOM.random(q))
    J, U = (jnp.asarray(RANDOM.normal(size=shape)) for shape in ((p + q, n), (k, n)))
    sign = jnp.array([1.0, 1.0, -1.0, -1.0])
    U = jnp.where(sign[:, None] < 0, 0.2 * U, U)
    b = BlockVector(*(jnp.asarray(RANDOM.normal(size=size)) for size in (n, q, p, q)))
    H = jnp.diag(h) + (U.T * sign[None]) @ U
    A = CondensedSystem(H, jnp.zeros(n), ss, J[:p], J[p:], jnp.asarray(gamma))
    wanted = condensed.solve(A, b, jnp.zeros(()))
    made = program("test", jnp.zeros(n), lambda x: x @ x, lambda x: J[:p] @ x, lambda x: J[p:] @ x)
    layout = sparse_kkt.layout(program_pattern("test", made, np.eye(n), None))
    entries = J[layout.jacobian.rows, layout.jacobian.cols]
    for system in (
        RangeSystem(h, ss, J, A.gamma),
        sparse_kkt.SparseSystem(layout, h, jnp.zeros(n), ss, entries, A.gamma),
    ):
        whole = LowRankSystem(system, U, sign, (q, p, q))
        found = jax.jit(lambda b, whole=whole: primal_dual.solve(whole, b, jnp.zeros(())))(b)
        assert bool(found.good) and float(found.delta) == 0
        for got, known_one in zip(found.parts, wanted.parts, strict=True):
            np.testing.assert_allclose(got, known_one, atol=1e-9)


def test_refuses():
    with pytest.raises(HyperparameterError, match="hessian must be one of 'exact', 'bfgs'"):
        jo.interior_point(hessian="sr1")
    with pytest.raises(HyperparameterError, match="memory is for hessian='bfgs'"):
        jo.interior_point(memory=3)
    with pytest.raises(TransformationError, match="hess_sparsity is of no use"):
        METHODS["pairs"].init(jnp.ones(2), value_fn=jnp.sum, hess_sparsity="detect")
