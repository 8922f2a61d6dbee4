"""Linear conjugate gradients: against dense solves and jax.scipy's, breakdowns by status, trees, lanes, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko.solvers.linear import cg
from jaxopt_ko.types import Code


def solve(params, method=None, max_steps=500, **words):
    """What a driver does, in short: params, state and the number of updates."""
    method = cg() if method is None else method

    def step(carry):
        params, state, steps = carry
        updates, state = method.update(jax.tree.map(jnp.zeros_like, params), state, params, **words)
        return jo.apply_updates(params, updates), state, steps + 1

    def goes_on(carry):
        return (carry[1].info.status.code == np.int32(Code.RUNNING)) & (carry[2] < max_steps)

    @jax.jit
    def run(params):
        return jax.lax.while_loop(goes_on, step, (params, method.init(params, **words), jnp.zeros((), jnp.int32)))

    return run(params)


def code(state):
    return Code(int(state.info.status.code))


def system(n, condition, seed=0):
    """A symmetric matrix of that condition number, and a right-hand side."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    A = Q @ np.diag(np.geomspace(1.0, condition, n)) @ Q.T
    return jnp.asarray((A + A.T) / 2), jnp.asarray(A @ rng.normal(size=n))


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e6, 1e10])
def test_the_solution_is_that_of_a_dense_solve(x64, condition):
    A, b = system(20, condition)
    x, state, steps = jax.jit(lambda: solve(jnp.zeros(20), operator=A, b=b, max_steps=2000))()
    assert code(state) == Code.GRADIENT_SMALL
    residual = float(jnp.linalg.norm(b - A @ x) / jnp.linalg.norm(b))
    assert residual <= 4e-11 and float(state.info.optimality) == pytest.approx(residual, rel=1e-3)
    np.testing.assert_allclose(x, np.linalg.solve(A, b), atol=1e-10 * condition)
    assert int(state.info.evaluations.product) == int(steps) + 1  # one product an update, one at the start
    assert int(state.info.evaluations.function) == 0
    np.testing.assert_allclose(state.info.value, -0.5 * b @ np.linalg.solve(A, b), rtol=1e-9)


def test_it_takes_as_many_products_as_that_of_jax(x64):
    A, b = system(50, 1e4)
    products = []

    def product(v):
        jax.debug.callback(lambda: products.append(1))
        return A @ v

    theirs, _ = jax.scipy.sparse.linalg.cg(product, b, tol=1e-10)
    jax.effects_barrier()
    ours, state, _ = solve(jnp.zeros(50), cg(tol=1e-10), operator=A, b=b)
    assert int(state.info.evaluations.product) <= len(products) + 1  # the check at the end
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_a_preconditioner_near_the_inverse_saves_products(x64):
    A, b = system(30, 1e6)
    near = jnp.linalg.inv(A + 0.01 * jnp.eye(30))
    x, state, steps = solve(jnp.zeros(30), operator=lambda v: A @ v, b=b, preconditioner=lambda r: near @ r)
    assert code(state) == Code.GRADIENT_SMALL and int(steps) <= 6
    np.testing.assert_allclose(A @ x, b, rtol=1e-9)


def test_a_quadratic_function_in_the_place_of_its_matrix(x64):
    A, b = system(12, 1e3)

    def quadratic(x, shift):
        return 0.5 * x @ (A @ x) - b @ x + shift, {"norm": jnp.sqrt(x @ x)}

    words = {"value_fn": quadratic, "has_aux": True, "shift": jnp.asarray(3.0)}
    x, state, _ = jax.jit(lambda x: solve(x, **words))(jnp.ones(12))
    np.testing.assert_allclose(x, np.linalg.solve(A, b), atol=1e-8)
    np.testing.assert_allclose(state.info.value, quadratic(x, 3.0)[0], rtol=1e-12)
    np.testing.assert_allclose(state.aux["norm"], np.linalg.norm(x), rtol=1e-12)
    assert int(state.info.evaluations.function) == int(state.info.evaluations.gradient) == 2  # start and check


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_trees_of_any_dtype(dtype):
    params = {"a": jnp.zeros((2, 2), dtype), "b": [jnp.zeros((), dtype), None], "c": jnp.zeros((0,), dtype)}
    b = jax.tree.map(lambda p: jnp.arange(1.0, 1 + p.size).reshape(p.shape).astype(dtype), params)
    x, state, steps = solve(params, operator=lambda v: jax.tree.map(lambda leaf: 2 * leaf, v), b=b)
    jax.tree.map(lambda x, b: np.testing.assert_array_equal(x, b / 2), x, b)
    assert x["a"].dtype == dtype and state.residual.dtype == jnp.float32
    assert code(state) == Code.GRADIENT_SMALL and int(steps) == 2


@pytest.mark.parametrize(
    ("diagonal", "b", "expected"),
    [
        ([-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], Code.SEARCH_FAILED),  # negative curvature at once
        ([1.0, 2.0, -1.0], [1.0, 1.0, 1.0], Code.SEARCH_FAILED),  # and later
        ([1.0, 1.0, 0.0], [1.0, 1.0, 1.0], Code.SEARCH_FAILED),  # singular: no solution
        ([1.0, 2.0, 0.0], [1.0, 2.0, 0.0], Code.GRADIENT_SMALL),  # singular: many solutions
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], Code.SEARCH_FAILED),
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], Code.GRADIENT_SMALL),  # nothing to do
        ([np.nan, 1.0, 1.0], [1.0, 1.0, 1.0], Code.NOT_FINITE),
    ],
)
def test_a_breakdown_is_a_status_and_never_not_a_number(diagonal, b, expected):
    x, state, _ = solve(jnp.zeros(3), operator=jnp.diag(jnp.array(diagonal)), b=jnp.array(b))
    assert code(state) == expected and bool(jnp.all(jnp.isfinite(x)))


def test_a_preconditioner_that_is_not_positive_is_a_status():
    x, state, _ = solve(jnp.zeros(3), operator=jnp.eye(3), b=jnp.ones(3), preconditioner=-jnp.eye(3))
    assert code(state) == Code.SEARCH_FAILED and bool(jnp.all(x == 0))


@pytest.mark.parametrize("tol", [0.0, 1e-30])
def test_no_tolerance_is_too_tight_to_end(x64, tol):
    A, b = system(20, 1e6)
    x, state, _ = solve(jnp.zeros(20), cg(tol=tol), operator=A, b=b, max_steps=2000)
    assert code(state) == Code.DECREASE_SMALL
    assert float(jnp.linalg.norm(b - A @ x)) <= 1e-13 * float(jnp.linalg.norm(A) * jnp.linalg.norm(x))


def test_the_tolerance_given_to_an_update_takes_the_place_of_the_methods(x64):
    A, b = system(20, 1e4)
    counts = [int(solve(jnp.zeros(20), operator=A, b=b, tol=tol)[2]) for tol in (1e-2, 1e-6, jnp.asarray(1e-9))]
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.rounding
def test_values_only_fall_and_the_state_is_a_carry(x64):
    A, b = system(10, 1e8)
    method = cg()

    def step(carry, _):
        x, state = carry
        updates, state = method.update(jnp.zeros_like(x), state, x, operator=A, b=b)
        return (x + updates, state), (state.info.value, state.info.status.code)

    start = jnp.ones(10)
    (x, _), (values, codes) = jax.jit(lambda x: jax.lax.scan(step, (x, method.init(x, operator=A, b=b)), None, 120))(
        start
    )
    assert bool(jnp.all(values[1:] <= values[:-1] + 1e-12 * jnp.abs(values[:-1])))
    looped, _, steps = solve(start, operator=A, b=b)
    assert int(codes[-1]) == Code.GRADIENT_SMALL and int(jnp.sum(codes == 0)) == int(steps) - 1
    assert bool(jnp.all(values[int(steps) :] == values[int(steps) - 1]))  # what comes after the end changes nothing
    np.testing.assert_allclose(x, looped, rtol=1e-9)


def test_lanes_stop_by_themselves_and_a_failed_one_leaves_the_others_alone(x64):
    A, b = zip(*(system(10, condition, seed) for seed, condition in enumerate((1e1, 1e3, 1e5))), strict=True)
    A, b = jnp.stack(A), jnp.stack(b)
    run = jax.jit(jax.vmap(lambda A, b: solve(jnp.zeros(10), operator=A, b=b)))
    x, _, steps = run(A, b)
    assert len(set(steps.tolist())) == 3
    bad, bad_state, _ = run(A.at[1].set(jnp.nan), b)
    np.testing.assert_array_equal(x[jnp.array([0, 2])], bad[jnp.array([0, 2])])
    assert [Code(int(c)) for c in bad_state.info.status.code] == [
        Code.GRADIENT_SMALL, Code.NOT_FINITE, Code.GRADIENT_SMALL,
    ]  # fmt: skip


def test_derivatives_go_through_the_updates(x64):
    A, b = system(6, 1e1)
    method = cg()

    def unrolled(b):
        def step(carry, _):
            x, state = carry
            updates, state = method.update(jnp.zeros_like(x), state, x, operator=A, b=b)
            return (x + updates, state), None

        x = jnp.zeros_like(b)
        (x, _), _ = jax.lax.scan(step, (x, method.init(x, operator=A, b=b)), None, 9)
        return x

    np.testing.assert_allclose(jax.jacrev(unrolled)(b), jnp.linalg.inv(A), atol=1e-8)


def test_what_is_refused():
    x = jnp.ones(3)
    with pytest.raises(jo.errors.MissingArgumentError, match="value_fn is missing"):
        cg().init(x)
    with pytest.raises(jo.errors.MissingArgumentError, match="b is missing"):
        cg().init(x, operator=jnp.eye(3))
    with pytest.raises(jo.errors.TreeError, match=r"a matrix float\[3,3\].*float32\[2,2\]"):
        cg().init(x, operator=jnp.eye(2), b=x)
    with pytest.raises(jo.errors.TreeError, match="b "):
        cg().init(x, operator=jnp.eye(3), b=jnp.ones(2))
    with pytest.raises(jo.errors.TreeError, match="operator's result"):
        cg().init(x, operator=lambda v: v[:2], b=x)
    with pytest.raises(jo.errors.HyperparameterError, match="tol"):
        cg(tol=-1.0)
