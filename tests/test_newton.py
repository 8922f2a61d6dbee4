"""Newton's method: subproblems, trust regions on More, Garbow and Hillstrom's problems, saddles, lanes, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
import scipy.optimize
from data import mgh_more, mgh_problems
from data.families import families

import jaxopt_ko as jo
from cases import assert_close
from jaxopt_ko.solvers.engine.region_steps import decompose, exact_step, truncated_step
from jaxopt_ko.solvers.newton import newton, newton_cg, scale_by_newton, scale_by_newton_cg
from jaxopt_ko.types import Code

PROBLEMS = {problem["name"]: problem for problem in [*mgh_problems.PROBLEMS, *mgh_more.PROBLEMS]}
DEAR = {"powell_badly_scaled": 130, "penalty2_4": 140, "penalty2_10": 130, "meyer": 260}  # evaluations
EXACT = ["powell_badly_scaled", "meyer", "kowalik_osborne", "biggs_exp6"]
METHODS = pytest.mark.parametrize("method", [newton(), newton_cg()], ids=["newton", "newton_cg"])


def exact(method):
    """Is it newton, and not newton_cg?"""
    return method.update.__name__ == "newton"


def solve(method, value_fn, params, max_steps=500, **words):
    """What a driver does, in short: params and state at the end, and the number of updates."""
    words = {"value_fn": value_fn, **words}

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


def trace(method, value_fn, params, steps, **words):
    """Params, state, and the Info of every update of a fixed number."""
    words = {"value_fn": value_fn, **words}

    def step(carry, _):
        params, state = carry
        updates, state = method.update(jax.tree.map(jnp.zeros_like, params), state, params, **words)
        return (jo.apply_updates(params, updates), state), state.info

    run = jax.jit(lambda params: jax.lax.scan(step, (params, method.init(params, **words)), None, steps))
    (params, state), infos = run(params)
    return params, state, infos


def code(state):
    return Code(int(state.info.status.code))


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


# ---- subproblems ----------------------------------------------------------------------------------------


def subproblems(kind, n, dtype):
    """Random H, g and Delta of one kind."""
    rng, lanes = np.random.default_rng(n), 50
    Q = np.linalg.qr(rng.normal(size=(lanes, n, n)))[0]
    values, b = np.sort(rng.normal(size=(lanes, n)), axis=1), rng.normal(size=(lanes, n))
    if kind == "positive":
        values = np.abs(values) + 0.01
    if kind == "ill-conditioned":
        values = 10.0 ** rng.uniform(-8, 2, size=(lanes, n))
    if kind == "singular":
        values = np.abs(values)
        values[:, 0] = b[:, 0] = 0
    if kind in ("hard", "nearly hard", "no gradient"):
        values[:, 0] -= 2.5
    if kind == "hard":
        b[:, 0] = 0
    if kind == "nearly hard":
        b[:, 0] *= 10.0 ** rng.uniform(-14, -2, size=lanes)
        Q = np.broadcast_to(np.eye(n), Q.shape)
    if kind == "cluster":
        values[:, : n // 2 + 1] = -1
    if kind == "no gradient":
        b *= 0
    H, g = np.einsum("bij,bj,bkj->bik", Q, values, Q), np.einsum("bij,bj->bi", Q, b)
    return (jnp.asarray(x, dtype) for x in (H, g, 10.0 ** rng.uniform(-3, 3, size=lanes)))


KINDS = ["positive", "indefinite", "hard", "nearly hard", "cluster", "singular", "ill-conditioned", "no gradient"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [1, 12])
def test_exact_steps_meet_the_conditions_of_more_and_sorensen(n, dtype):
    with jax.enable_x64(dtype == "float64"):
        step = jax.jit(jax.vmap(lambda H, g, radius: exact_step(H, *decompose(H), g, radius)))
        tol = 50 * np.finfo(dtype).eps
        for kind in KINDS:
            H, g, radius = (np.asarray(a, np.float64) for a in subproblems(kind, n, dtype))
            p, lam = (np.asarray(a, np.float64) for a in step(*subproblems(kind, n, dtype)))
            values, length = np.linalg.eigvalsh(H), np.linalg.norm(p, axis=1)
            scale = np.max(np.abs(values), axis=1) + lam
            error = np.einsum("bij,bj->bi", H, p) + lam[:, None] * p + g
            assert np.all(np.abs(error) <= tol * (np.linalg.norm(g, axis=1) + scale * length)[:, None]), kind
            assert np.all(values[:, 0] + lam >= -tol * scale), kind
            assert np.all(lam >= 0) and np.all(length <= radius * (1 + tol)), kind
            assert np.all((lam == 0) | (length >= radius * (1 - tol))), kind


def test_truncated_steps_are_newtons_where_there_is_room_and_end_at_the_edge_where_not(x64):
    def both(H, g, radius):
        step = truncated_step(lambda v: H @ v, g, radius, jnp.asarray(1e-12), 30)
        best, _ = exact_step(H, *decompose(H), g, radius)
        u = g / jnp.linalg.norm(g)
        curvature = u @ H @ u
        length = jnp.where(curvature > 0, jnp.minimum(radius, g @ u / jnp.abs(curvature)), radius)
        model = lambda p: g @ p + 0.5 * p @ H @ p  # noqa: E731
        return step, best, model(step.step), model(best), model(-length * u)

    for kind in ("positive", "indefinite"):
        H, g, radius = subproblems(kind, 6, jnp.float64)
        step, best, reached, lowest, cauchy = jax.jit(jax.vmap(both))(H, g, radius)
        np.testing.assert_allclose(step.predicted, -reached, rtol=1e-8)
        assert bool(jnp.all((lowest <= reached + 1e-9) & (reached <= cauchy + 1e-12)))
        assert (0 < int(jnp.sum(step.free)) < 50) == (kind == "positive")
        np.testing.assert_allclose(step.step[step.free], best[step.free], atol=1e-8)
        length = jnp.linalg.norm(step.step, axis=1)
        np.testing.assert_allclose(length[~step.free], radius[~step.free], rtol=1e-12)
        if kind == "positive":
            assert bool(jnp.all(reached <= 0.5 * lowest))  # Yuan 2000: half at least of the most there is


# ---- trust regions --------------------------------------------------------------------------------------


def check_mgh(method, problem, most):
    def value_fn(x):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # the code is NumPy's
            return jnp.sum(problem["r"](x, jnp) ** 2)

    _, state, _ = solve(method, value_fn, jnp.asarray(problem["x0"]), max_steps=1000)
    value = float(state.info.value)
    known = [problem["fopt"], *problem["alt"]]
    assert any(abs(value - f) <= 2e-6 * max(abs(f), 1e-4) for f in known), (value, known)
    assert bool(state.info.status.success), state.info.status.sentence
    assert int(state.info.evaluations.function) <= most


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", EXACT)
def test_newton_solves_more_garbow_hillstrom(name):
    check_mgh(newton(), PROBLEMS[name], DEAR.get(name, 55))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["osborne1", "ext_rosenbrock100"])
def test_newton_cg_solves_more_garbow_hillstrom(name):
    check_mgh(newton_cg(), PROBLEMS[name], 60)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@METHODS
def test_more_garbow_hillstrom_from_the_standard_start(method):
    """Each ends at the minimum or a published local one, and nearly all at the minimum."""
    best, counts = [], []
    for family in families(PROBLEMS.values(), sorted({p["n"] for p in PROBLEMS.values()}), residuals=False):
        run = quick.jit(lambda x, k, f=family.function: jo.minimize(f, x, method, args=(k,)))
        for which, (problem, start) in enumerate(zip(family.problems, family.starts, strict=True)):
            solution = run(jnp.asarray(start), np.int32(which))
            value, known = float(solution.value), [problem["fopt"], *problem["alt"]]
            found = [abs(value - f) <= 2e-6 * max(abs(f), 1e-4) for f in known]
            assert any(found) and bool(solution.status.success), (problem["name"], value, known)
            best.append(found[0])
            counts.append(int(solution.evaluations.function))
    assert len(best) == 44 and sum(best) >= 41
    assert np.median(counts) <= 28 and max(counts) <= 420


@METHODS
def test_it_ends_where_scipys_exact_trust_region_does_in_no_more_evaluations(x64, method):
    start = np.array([-1.2, 1.0, 0.7, -0.5])
    theirs = scipy.optimize.minimize(
        jax.jit(rosenbrock), start, method="trust-exact", jac=jax.jit(jax.grad(rosenbrock)),
        hess=jax.jit(jax.hessian(rosenbrock)), options={"gtol": 1e-10},
    )  # fmt: skip
    ours, state, _ = solve(method, rosenbrock, jnp.asarray(start))
    np.testing.assert_allclose(ours, theirs.x, atol=1e-9)
    assert int(state.info.evaluations.function) <= theirs.nfev


@METHODS
def test_counts_are_true(x64, method):
    params = jnp.array([-1.2, 1.0, 0.7])
    state = jax.jit(lambda params: method.init(params, value_fn=rosenbrock))(params)
    update = jax.jit(lambda state, params: method.update(params, state, params, value_fn=rosenbrock))
    accepted = 0
    for _ in range(8):
        updates, state = update(state, params)
        params = params + updates
        accepted += int(state.info.accepted)
        assert bool(state.info.accepted) == bool(jnp.any(updates != 0))
        np.testing.assert_allclose(state.info.value, rosenbrock(params), rtol=1e-13)
        np.testing.assert_allclose(state.gradient, jax.grad(rosenbrock)(params), atol=1e-11)
    function, gradient, product = map(int, state.info.evaluations)
    assert function == gradient == 9
    if exact(method):
        assert accepted < 8
        assert product == 3 * (1 + accepted)
        np.testing.assert_allclose(state.memory.hessian, jax.hessian(rosenbrock)(params), atol=1e-9)
    else:
        assert 9 <= product <= 8 * 11 + 1


@pytest.mark.parametrize("n", [2, 8])
@METHODS
def test_steps_never_go_uphill_on_ill_conditioned_quadratics(x64, method, n):
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    conditions = 10.0 ** np.arange(0, 11, 2)
    H = jnp.asarray(np.stack([Q @ np.diag(np.geomspace(1.0, c, n)) @ Q.T for c in conditions]))
    start = jnp.asarray(rng.normal(size=n))
    run = jax.vmap(lambda H: trace(method, lambda x: 0.5 * x @ (H @ x), start, 60)[1:])
    state, infos = run(H)
    assert bool(jnp.all(infos.value[:, 1:] <= infos.value[:, :-1]))
    assert bool(jnp.all(state.info.status.success)), state.info.status.code
    assert bool(jnp.all(state.info.value <= 1e-13))


@METHODS
def test_steps_never_go_uphill_on_sums_of_cosines(x64, method):
    rng = np.random.default_rng(1)
    waves, starts = jnp.asarray(rng.normal(size=(5, 3)) * 3), jnp.asarray(rng.normal(size=(40, 3)))

    def bumpy(x):
        return jnp.sum(jnp.cos(waves @ x)) + 0.01 * x @ x

    state, infos = jax.vmap(lambda x: trace(method, bumpy, x, 60)[1:])(starts)
    assert bool(jnp.all(infos.value[:, 1:] <= infos.value[:, :-1] + 1e-13))
    assert bool(jnp.all(state.info.status.code == np.int32(Code.GRADIENT_SMALL)))
    assert bool(jnp.all(state.info.optimality <= 1e-9))


SADDLES = {
    "two wells": (lambda x: (x[0] ** 2 - 1) ** 2 + x[1] ** 2, [0.0, 0.0], 0.0),
    "two wells, seen from afar": (lambda x: (x[0] ** 2 - 1) ** 2 + 10 * x[1] ** 2, [0.0, 1.0], 0.0),
    "a hilltop": (lambda x: jnp.cos(x[0]) + jnp.cos(x[1]), [0.0, 0.0], -2.0),
    "no lower a step of 1 away": (lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4, [0.0, 0.0], -0.25),
    "higher a step of 1 away": (lambda x: x[0] ** 2 - 0.5 * x[1] ** 2 + 100 * x[1] ** 4, [0.0, 0.0], -1 / 1600),
    "one way down": (lambda x: 100 * x[0] ** 2 - 0.01 * x[1] ** 2 + x[1] ** 4, [0.0, 0.0], -2.5e-5),
    "a monkey's, with a way down across": (
        lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2 + jnp.sum(x**4) - x[2] ** 2,
        [0.0, 0.0, 0.0],
        (-0.25, -0.35546875, -0.77734375),  # with x, y = 0, where H is zero, or from there down, too
    ),
}


@METHODS
@pytest.mark.parametrize("name", SADDLES)
def test_saddle_points_are_left(x64, method, name):
    value_fn, start, lowest = SADDLES[name]
    _, state, steps = solve(method, value_fn, jnp.array(start))
    assert code(state) == Code.GRADIENT_SMALL and int(steps) > 0
    assert np.min(np.abs(np.array(lowest) - float(state.info.value))) <= 1e-12, state.info.value


@METHODS
def test_saddle_points_are_left_by_lanes_in_single_precision_at_the_start_and_later(method):
    saddle = lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4  # noqa: E731
    starts = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1e-20], [-3.0, 0.0]])
    lanes = quick.jit(jax.vmap(lambda x: jo.minimize(saddle, x, method)))(starts)
    assert bool(jnp.all(lanes.status.success)), lanes.status
    np.testing.assert_allclose(lanes.value, -0.25, atol=1e-6)
    assert int(jnp.max(lanes.evaluations.function)) <= 40


@METHODS
def test_a_start_at_the_minimum_ends_at_once(x64, method):
    x, state, steps = solve(method, lambda x: jnp.sum((x - 1) ** 2), jnp.ones(4))
    assert code(state) == Code.GRADIENT_SMALL and int(steps) <= 1 and bool(jnp.all(x == 1))
    x, state, steps = solve(method, lambda x: jnp.sum(x) * 0.0, jnp.ones(4))
    assert code(state) == Code.GRADIENT_SMALL and int(steps) <= 1 and bool(jnp.all(x == 1))


@METHODS
def test_single_precision_reaches_its_digits(method):
    x, state, steps = solve(method, rosenbrock, jnp.array([-1.2, 1.0, 0.7]))
    assert state.info.value.dtype == jnp.float32 and bool(state.info.status.success)
    np.testing.assert_allclose(x, 1.0, atol=3e-3)
    assert int(steps) <= 45 and float(state.info.value) <= 1e-8


@METHODS
def test_values_that_are_not_finite_are_rejected_trials(x64, method):
    x, state, _ = solve(
        method, lambda x: x[0] - jnp.log(x[0]) + (x[1] - 2) ** 2 - jnp.sqrt(x[1]), jnp.array([1e-3, 9.0])
    )
    assert code(state) == Code.GRADIENT_SMALL
    np.testing.assert_allclose(x[0], 1.0, rtol=1e-8)
    x, state, steps = solve(method, lambda x: jnp.sum(jnp.sqrt(x)), -jnp.ones(2))
    assert code(state) == Code.NOT_FINITE and int(steps) == 0 and bool(jnp.all(x == -1))


@METHODS
def test_a_kink_is_no_solution(x64, method):
    _, state, steps = solve(method, lambda x: jnp.sum(jnp.abs(x - 0.3)) + 1.0, jnp.array([2.0, -1.0]))
    assert code(state) == Code.SEARCH_FAILED and int(steps) <= 120
    assert float(state.info.value) <= 1.5


@METHODS
def test_lanes_stop_by_themselves_and_a_failed_one_leaves_the_others_alone(x64, method):
    starts = jnp.array([[-1.2, 1.0], [0.9, 0.8], [3.0, -4.0]])
    one = jax.jit(lambda x: solve(method, rosenbrock, x))
    lanes = jax.jit(jax.vmap(one))
    x, _, steps = lanes(starts)
    assert len(set(steps.tolist())) == 3
    bad, bad_state, bad_steps = lanes(starts.at[1].set(jnp.nan))
    assert int(bad_steps[1]) == 0 and int(bad_state.info.status.code[1]) == Code.NOT_FINITE
    for lane in (0, 2):
        np.testing.assert_array_equal(x[lane], bad[lane])
        assert int(steps[lane]) == int(bad_steps[lane])
        alone = one(starts[lane])
        assert int(alone[2]) == int(steps[lane])
        np.testing.assert_allclose(alone[0], x[lane], rtol=1e-9)


@pytest.mark.rounding
@METHODS
def test_a_scan_is_the_loop_and_nothing_moves_after_the_end(x64, method):
    start = {"a": jnp.array([-1.2, 1.0]), "b": jnp.array([[0.5]])}
    value_fn = lambda p: (rosenbrock(jnp.concatenate([p["a"], p["b"][0]])), p["b"])  # noqa: E731
    looped, state, steps = quick.jit(lambda: solve(method, value_fn, start, has_aux=True))()
    scanned, end, infos = quick.jit(lambda: trace(method, value_fn, start, int(steps) + 5, has_aux=True))()
    assert_close((looped, state.info.value), (scanned, infos.value[-1]), rtol=1e-9, atol=1e-12)  # two programs
    assert int(jnp.sum(infos.status.code == 0)) == int(steps) - 1
    np.testing.assert_array_equal(end.aux, scanned["b"])
    np.testing.assert_array_equal(infos.value[-5:], jnp.full(5, infos.value[-6]))


def test_words_reach_the_function_and_a_tolerance_the_stop_test(x64):
    def value_fn(x, batch, a=1.0):
        return a * jnp.sum((x - batch) ** 4)

    run = jax.jit(lambda tol: solve(newton(), value_fn, jnp.zeros(2), batch=jnp.ones(2), a=2.0, tol=tol)[2])
    steps = [int(run(tol)) for tol in (1e-2, 1e-5, 1e-8)]
    assert steps[0] < steps[1] < steps[2]


def test_derivatives_go_through_the_updates(x64):
    def value_fn(x, a):
        return jnp.sum(a * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def after(method, a):
        end, _, _ = trace(method, value_fn, jnp.array([-1.2, 1.0, 0.5]), 4, a=a)
        return jnp.sum(end**2)

    a = jnp.asarray(10.0)
    run = quick.jit(jax.value_and_grad(lambda a: after(newton(), a)))
    quotient = (run(a + 1e-6)[0] - run(a - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(run(a)[1], quotient, rtol=1e-5)
    forward = quick.jit(lambda a: jax.jvp(lambda a: after(newton_cg(), a), (a,), (jnp.ones(()),)))
    quotient = (forward(a + 1e-6)[0] - forward(a - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(forward(a)[1], quotient, rtol=1e-5)


def test_a_run_that_is_over_has_a_derivative_too(x64):
    def after(a):
        end, _, _ = trace(newton(), lambda x, a: a * jnp.sum((x - 1) ** 2), jnp.ones(3), 2, a=a)
        return jnp.sum(end)

    assert float(jax.jit(jax.grad(after))(jnp.asarray(2.0))) == 0.0  # g is 0 throughout


# ---- directions -----------------------------------------------------------------------------------------


def test_directions_are_newtons_where_the_hessian_is_positive(x64):
    x = jnp.array([1.1, 1.2, 1.4])
    g = jax.grad(rosenbrock)(x)
    expected = jnp.linalg.solve(jax.hessian(rosenbrock)(x), g)
    for direction in (scale_by_newton(), scale_by_newton_cg(forcing=1e-12, max_products=30)):
        p, state = jax.jit(lambda g, x, d=direction: d.update(g, d.init(x), x, value_fn=rosenbrock))(g, x)
        np.testing.assert_allclose(p, expected, rtol=1e-8)
        assert int(state.count) == 1 and int(state.products) >= 3


def test_directions_lead_downhill_everywhere(x64):
    rng = np.random.default_rng(2)
    waves, points = jnp.asarray(rng.normal(size=(5, 4)) * 3), jnp.asarray(rng.normal(size=(50, 4)))
    bumpy = lambda x: jnp.sum(jnp.cos(waves @ x))  # noqa: E731
    g = jax.jit(jax.vmap(jax.grad(bumpy)))(points)
    for direction in (scale_by_newton(), scale_by_newton_cg()):
        step = lambda g, x, d=direction: d.update(g, d.init(x), x, value_fn=bumpy)  # noqa: E731
        p, _ = jax.jit(jax.vmap(step))(g, points)
        assert bool(jnp.all(jnp.sum(p * g, axis=1) > 0))
    assert bool(jnp.any(jnp.linalg.eigvalsh(jax.vmap(jax.hessian(bumpy))(points)) < 0))


def test_the_newton_direction_has_a_derivative_where_eigenvalues_meet(x64):
    def f(x, c):
        return c * jnp.sum(x**2) + jnp.sum(x**4)  # H = (2 c + 12) I at 1

    @jax.jit
    def step(c, x):
        p, _ = scale_by_newton().update(jax.grad(f)(x, c), scale_by_newton().init(x), x, value_fn=f, c=c)
        return p

    c, x = jnp.asarray(1.0), jnp.ones(3)
    quotient = (step(c + 1e-6, x) - step(c - 1e-6, x)) / 2e-6
    np.testing.assert_allclose(jax.jit(jax.jacrev(step))(c, x), quotient, rtol=1e-7)


# ---- preconditioners --------------------------------------------------------------------------------------


@pytest.fixture
def sizes():
    return jnp.asarray(10.0 ** np.random.default_rng(0).uniform(-4, 4, 24))


def far_apart(z):
    """Rosenbrock's valley, chained."""
    return jnp.sum(100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2)


def test_variables_of_sizes_far_apart_need_a_preconditioner(x64, sizes):
    """In the preconditioner's norm steps and regions are those of the problem whose variables are alike."""

    def solve(x, preconditioner=None):
        method = newton_cg(preconditioner=preconditioner)
        scale = 1.0 if preconditioner is None else sizes
        return quick.jit(lambda x: jo.minimize(lambda p: far_apart(p["x"] * scale), {"x": x}, method, max_steps=8))(x)

    alike = solve(jnp.full(24, 0.5))
    apart = solve(0.5 / sizes, lambda params, v: {"x": v["x"] / sizes**2})
    np.testing.assert_allclose(apart.params["x"] * sizes, alike.params["x"], rtol=1e-6)
    assert all(int(a) == int(b) for a, b in zip(apart.evaluations, alike.evaluations, strict=True))


def test_an_exact_preconditioner_takes_one_product_a_step(x64, sizes):
    H = jnp.diag(sizes**2) + 1.0  # far from diagonal in the small variables
    found = quick.jit(lambda x: jo.minimize(
        lambda x: 0.5 * x @ H @ x - jnp.sum(x), x,
        newton_cg(forcing=1e-10, radius=1e9, preconditioner=lambda x, v: jnp.linalg.solve(H, v)), max_steps=5,
    ))(jnp.ones(24))  # fmt: skip
    np.testing.assert_allclose(found.params, jnp.linalg.solve(H, jnp.ones(24)), rtol=1e-6)
    assert found.status.success and int(found.evaluations.product) <= 8


@pytest.mark.parametrize("kind", ["indefinite", "zero", "nan"])
def test_a_preconditioner_that_is_none_is_left_out(x64, kind):
    signs = {"indefinite": jnp.array([1.0, -1.0, -1.0, -1.0]), "zero": 0.0, "nan": jnp.nan}[kind]
    step = truncated_step(lambda v: 2 * v, jnp.ones(4), jnp.asarray(10.0), jnp.asarray(1e-12), 9, lambda v: v * signs)
    np.testing.assert_allclose(step.step, -0.5, rtol=1e-12)
    assert bool(step.free) and int(step.products) == 1 and float(step.length) == pytest.approx(1.0)


@pytest.mark.parametrize("radius", [0.3, None])
def test_the_region_is_that_of_the_preconditioner(x64, radius):
    rng = np.random.default_rng(1)
    M, H = (jnp.asarray(h @ h.T + np.eye(6)) for h in rng.normal(size=(2, 6, 6)))
    g = jnp.asarray(rng.normal(size=6))
    bends = H - 5 * jnp.eye(6)
    inverse = jnp.linalg.inv(M)
    for curved in (H, bends):
        step = truncated_step(
            lambda v, H=curved: H @ v, g, radius and jnp.asarray(radius), jnp.asarray(1e-10), 30, lambda v: inverse @ v
        )
        p = step.step
        np.testing.assert_allclose(step.length, jnp.sqrt(p @ M @ p), rtol=1e-8)
        np.testing.assert_allclose(step.predicted, -(g @ p) - 0.5 * p @ curved @ p, rtol=1e-8)
        np.testing.assert_allclose(step.stretch, jnp.sqrt(step.direction @ M @ step.direction), rtol=1e-8)
        if radius:
            np.testing.assert_allclose(step.length, radius, rtol=1e-8)
        elif curved is H:
            np.testing.assert_allclose(p, -jnp.linalg.solve(H, g), rtol=1e-6)


def test_a_saddle_is_left_with_a_preconditioner_too(x64):
    weights = jnp.array([2.0, 2.0, 2e4])
    found = quick.jit(lambda x: jo.minimize(
        lambda x: x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4 + 1e4 * x[2] ** 2, x,
        newton_cg(preconditioner=lambda x, v: v / weights),
    ))(jnp.zeros(3))  # fmt: skip
    assert found.status.success and float(found.value) == pytest.approx(-1.0)


def test_what_is_refused():
    with pytest.raises(jo.errors.MissingArgumentError, match="value_fn is missing"):
        newton().init(jnp.ones(3))
    with pytest.raises(jo.errors.MissingArgumentError, match="value_fn is missing"):
        scale_by_newton().update(jnp.ones(3), scale_by_newton().init(jnp.ones(3)), jnp.ones(3))
    with pytest.raises(jo.errors.HyperparameterError, match="radius"):
        newton(radius=0.0)
    with pytest.raises(jo.errors.HyperparameterError, match="forcing"):
        newton_cg(forcing=1.0)
    with pytest.raises(jo.errors.HyperparameterError, match="max_products"):
        newton_cg(max_products=0)
    for made in (newton_cg, scale_by_newton_cg):
        with pytest.raises(jo.errors.TransformationError, match="preconditioner must be a function"):
            made(preconditioner=jnp.eye(3))
    with pytest.raises(jo.errors.TreeError, match="the preconditioner's result"):
        newton_cg(preconditioner=lambda x, v: v[:2]).init(jnp.ones(3), value_fn=jnp.sum)
    with pytest.raises(jo.errors.TreeError, match="one number"):
        newton().init(jnp.ones(3), value_fn=lambda x: x)


@METHODS
def test_float32_parameters_run_where_x64_is_enabled(x64, method):
    f = lambda x: jnp.sum(x**4) - jnp.sum(jnp.cos(x))  # noqa: E731
    solution = jax.jit(lambda x: jo.minimize(f, x, method))(jnp.array([1.0, -2.0], jnp.float32))
    assert solution.params.dtype == solution.value.dtype == np.float32
    np.testing.assert_allclose(solution.params, 0, atol=1e-3)
