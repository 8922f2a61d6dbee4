"""Levenberg-Marquardt on NIST's and More, Garbow and Hillstrom's problems; lanes, derivatives, errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
import scipy.optimize
from data import mgh_more, mgh_problems, nist_problems
from data.families import families

import jaxopt_ko as jo
from jaxopt_ko.drivers.least_squares import least_squares
from jaxopt_ko.solvers.engine.damped import by_qr, by_svd, triangle
from jaxopt_ko.solvers.engine.residual_measures import TALL, column_norms, norms_of
from jaxopt_ko.solvers.least_squares import levenberg_marquardt
from jaxopt_ko.types import Code


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", sorted(nist_problems.MODELS))
def test_nist_parameters_to_eight_digits_with_default_settings(name):
    y, x, starts, certified = nist_problems.load(name)
    solve = quick.jit(lambda start: least_squares(lambda b: nist_problems.MODELS[name](b, x) - y, start))
    for start in starts:
        solution = solve(jnp.asarray(start))
        assert bool(solution.status.success), solution.status.sentence
        np.testing.assert_allclose(solution.params, certified, rtol=1e-8)
        assert int(solution.evaluations.function) <= 800  # Bennett5, the longest; 15 is the median


def ends(problems, times=1):
    """Of each: (is it the minimum, or another published one? evaluations)."""
    for family in families(problems, sorted({p["n"] for p in problems})):
        solve = quick.jit(lambda x, k, f=family.function: least_squares(f, x, args=(k,)))
        for which, (problem, start) in enumerate(zip(family.problems, family.starts, strict=True)):
            solution = solve(jnp.asarray(times * start), np.int32(which))
            value, known = 2 * float(solution.value), [problem["fopt"], *problem["alt"]]
            found = [abs(value - f) <= 1e-6 * max(abs(f), 1e-4) for f in known]
            assert bool(solution.status.success) or not any(found), (problem["name"], solution.status.sentence)
            yield found[0], any(found), int(solution.evaluations.function)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_more_garbow_hillstrom_from_the_standard_start_and_ten_times_it():
    problems = mgh_problems.PROBLEMS + mgh_more.PROBLEMS
    best, known, evaluations = zip(*ends(problems), strict=True)
    assert (len(problems), sum(known)) == (44, 44) and sum(best) >= 42
    assert np.median(evaluations) <= 21
    far = [p for p in problems if np.any(p["x0"])]
    best, known, _ = zip(*ends(far, 10), strict=True)
    assert len(far) == 41 and sum(known) >= 37 and sum(best) >= 33  # 38 and 34 reached


def decay(b, x):
    return b["scale"] * jnp.exp(-b["rate"] * x)


def test_lanes_stop_by_themselves_and_a_failed_one_leaves_the_others_alone(x64):
    x = jnp.linspace(0.0, 4.0, 9)
    y = jnp.stack([2.0 * jnp.exp(-0.5 * x), 3.0 * jnp.exp(-1.5 * x), x * jnp.nan])
    start = {"scale": jnp.ones(()), "rate": jnp.ones(())}
    solve = jax.jit(lambda y: least_squares(lambda b, y: decay(b, x) - y, start, args=(y,)))
    lanes = jax.vmap(solve)(y)
    np.testing.assert_allclose(lanes.params["rate"][:2], [0.5, 1.5], rtol=1e-10)
    assert list(lanes.status.success) == [True, True, False]
    assert Code(int(lanes.status.code[2])) == Code.NOT_FINITE and int(lanes.steps[2]) == 0
    for lane in (0, 1):
        alone = solve(y[lane])
        assert int(lanes.evaluations.function[lane]) == int(alone.evaluations.function)


def test_derivatives_of_the_solution_are_the_difference_quotients(x64):
    x = jnp.linspace(0.0, 4.0, 9)
    y = 2.0 * jnp.exp(-0.5 * x) + 0.1 * jnp.cos(7 * x)  # a residual that does not vanish
    start = {"scale": jnp.ones(()), "rate": jnp.ones(())}
    rate = jax.jit(lambda y: least_squares(lambda b, y: decay(b, x) - y, start, args=(y,)).params["rate"])
    reverse, forward = jax.grad(rate)(y), jax.jacfwd(rate)(y)
    np.testing.assert_allclose(reverse, forward, rtol=1e-9)
    for i in (0, 4, 8):
        bump = jnp.zeros(9).at[i].set(1e-6)
        np.testing.assert_allclose(reverse[i], (rate(y + bump) - rate(y - bump)) / 2e-6, rtol=1e-6, atol=1e-9)


def bent(x, a):
    return x - a + 0.1 * x[::-1] ** 2


def test_what_a_bound_holds_moves_with_it(x64):
    """A fit, a robust one, a root that the box does not let be, and one that it lets be."""
    a = jnp.array([0.3, 2.0])
    more = lambda x, a: jnp.append(bent(x, a), x[0] * x[1] - 0.3)  # noqa: E731
    runs = [
        lambda box: least_squares(more, jnp.full(2, 0.5), args=(a,), bounds=box),
        lambda box: least_squares(more, jnp.full(2, 0.5), jo.gauss_newton(), args=(a,), bounds=box, loss="soft_l1"),
        lambda box: jo.root(bent, jnp.full(2, 0.5), args=(a,), bounds=box),
    ]
    for run in runs:

        def found(v, run=run):
            s = run((v[0], v[1:]))
            return jnp.append(s.params, s.value)

        at = jnp.array([0.25, 2.0, 1.0])
        forward, reverse, differences = quick.slopes(found, at)
        np.testing.assert_allclose(forward, differences, atol=1e-6)
        np.testing.assert_allclose(reverse, differences, atol=1e-6)
        assert abs(float(forward[1, 2]) - 1) < 1e-9
    x = jnp.array([0.5, 1.0])  # a root at its bound
    root = lambda u: jo.root(bent, jnp.full(2, 0.6), args=(bent(x, 0.0),), bounds=(0.0, u))  # noqa: E731
    assert bool(root(1.0).status.success)
    np.testing.assert_allclose(jax.jacobian(lambda u: root(u).params)(1.0), 0, atol=1e-6)


GAUGES = {
    "a sum": (lambda x, a: jnp.stack([x[0] + x[1] - a, 2 * (x[0] + x[1] - a)]), lambda x: 0.5 * jnp.ones_like(x)),
    "a product": (lambda x, a: jnp.stack([x[0] * x[1] - a, x[1] * x[0] - a]), lambda x: x[::-1] / jnp.sum(x * x)),
    "one equation": (lambda x, a: jnp.stack([x[0] - a, 0 * x[1]]), lambda x: jnp.array([1.0, 0.0])),
}


@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize("driver", [least_squares, jo.root])
def test_where_a_model_has_a_freedom_the_derivative_is_the_shortest(precise, driver):
    with jax.enable_x64(precise):
        functions = [f for f, _ in GAUGES.values()]

        def found(a, k):
            return driver(lambda x, a: jax.lax.switch(k, functions, x, a), jnp.array([1.0, 3.0]), args=(a,)).params

        def both(a, k):
            x, push = jax.linearize(lambda a: jax.vmap(found, (0, None))(a, k), a)
            return x, push(jnp.ones_like(a)), jax.linear_transpose(push, a)(jnp.ones_like(x))[0]

        compiled = quick.jit(both)
        rough = {"rtol": 1e-6, "atol": 1e-8} if precise else {"rtol": 1e-3, "atol": 1e-3}
        for k, (_, slope) in enumerate(GAUGES.values()):
            x, forward, reverse = compiled(jnp.array([2.0, 1.5]), k)
            right = jnp.stack([slope(each) for each in x])
            np.testing.assert_allclose(forward, right, **rough)
            np.testing.assert_allclose(reverse, jnp.sum(right, 1), **rough)


def test_a_root_is_one_without_a_derivative():
    functions = [
        lambda x: jnp.sqrt(jnp.abs(x)) * jnp.sign(x), lambda x: jnp.stack([x[0], jnp.sqrt(x[1])]),
        lambda x: x / jnp.where(x == 0, 1, jnp.sqrt(x * x)) + jnp.sqrt(x * x), lambda x: jnp.log(x + 2),
    ]  # fmt: skip
    solve = jax.jit(lambda k: jo.root(lambda x, k: jax.lax.switch(k, functions, x), jnp.zeros(2), args=(k,)))
    ends = [solve(k) for k in range(4)]
    assert [bool(end.status.success) for end in ends] == [True] * 4
    assert all(bool(jnp.all(end.params == 0)) and float(end.value) == 0 for end in ends[:3])
    away = jo.root(lambda x: jnp.sqrt(x - 1), jnp.zeros(2))
    assert Code(int(away.status.code)) == Code.NOT_FINITE


def test_the_solution_does_not_depend_on_the_start(x64):
    x = jnp.linspace(0.0, 4.0, 9)
    rate = lambda start: least_squares(lambda b: decay(b, x) - 2.0 * jnp.exp(-0.5 * x), start).params["rate"]  # noqa: E731
    slope = jax.grad(rate)({"scale": jnp.ones(()), "rate": jnp.ones(())})
    assert float(slope["scale"]) == float(slope["rate"]) == 0.0


def test_single_precision_reaches_its_digits():
    x = jnp.linspace(0.0, 4.0, 9)
    y = 2.0 * jnp.exp(-0.5 * x)
    start = {"scale": jnp.ones(()), "rate": jnp.ones(())}
    solution = least_squares(lambda b: decay(b, x) - y, start)
    assert solution.value.dtype == jnp.float32 and bool(solution.status.success)
    np.testing.assert_allclose(solution.params["rate"], 0.5, rtol=6e-5)  # 500 eps, xtol


SOLVERS = {
    "svd": levenberg_marquardt(),
    "qr": levenberg_marquardt(linear_solver="qr"),
    "lsmr": levenberg_marquardt(linear_solver="lsmr"),
    "dogleg": jo.gauss_newton(),
    "line": jo.gauss_newton("line"),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_parameter_that_starts_tiny_moves_as_one_that_starts_at_zero(name):
    x = jnp.linspace(0.0, 1.0, 20)
    solve = quick.jit(jax.vmap(lambda p: least_squares(lambda p: p[0] * x + p[1] - (2 * x + 3), p, SOLVERS[name])))
    lanes = solve(jnp.array([[1.0, 1e-8], [1e-8, 1.0], [1.0, -1e-20], [1e-5, 1e-10], [1e6, 1e-8], [1.0, 0.0]]))
    assert bool(jnp.all(lanes.status.success)), lanes.status
    np.testing.assert_allclose(lanes.params, [[2.0, 3.0]] * 6, rtol=1e-4)
    assert int(jnp.max(lanes.evaluations.function)) <= (50 if name == "lsmr" else 25)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_trial_whose_jacobian_is_not_finite_is_rejected(name):
    """A logistic curve whose exponential overflows: its value is 0 there, its derivative inf / inf."""
    t = jnp.arange(27.0)
    y = jnp.zeros(27).at[5].set(0.269).at[16:].set(
        jnp.array([0.7596, 1.2214, 1.045, 0.7707, 1.281, 1.4404, 1.4396, 1.28, 0.9349, 0.7035, 0.9142])
    )  # fmt: skip
    solve = quick.jit(
        lambda p: least_squares(lambda p: p[0] / (1 + jnp.exp(-(p[1] + p[2] * t))) - y, p, SOLVERS[name], max_steps=999)
    )
    solution = solve(jnp.full(3, 0.5))
    assert int(solution.evaluations.function) <= (400 if name == "lsmr" else 60), solution.status.sentence
    assert bool(jnp.all(jnp.isfinite(solution.params))) and float(solution.value) <= 0.37
    if name == "lsmr":  # reverse mode makes NaN of the side that where leaves out, too
        return
    # the value is finite everywhere, the derivative nowhere above 1
    walled = lambda p: jnp.stack([p[0] - 3.0, jnp.where(p[0] > 1.0, jnp.sqrt(0 * p[0]), 0.0) + p[0] - 3.0])  # noqa: E731
    solution = quick.jit(lambda p: least_squares(walled, p, SOLVERS[name], max_steps=999))(jnp.full(1, 0.5))
    assert int(solution.evaluations.function) <= 200 and 0.5 < float(solution.params[0]) <= 1.0
    if name == "svd":  # where R tells of J
        tall = lambda p: jnp.tile(walled(p), TALL)  # noqa: E731
        many = quick.jit(lambda p: least_squares(tall, p, SOLVERS[name], max_steps=999))(jnp.full(1, 0.5))
        np.testing.assert_allclose(many.params, solution.params, rtol=1e-3)


def test_a_budget_that_is_spent_is_a_status():
    solution = least_squares(
        lambda b: jnp.array([10 * (b[1] - b[0] ** 2), 1 - b[0]]), jnp.array([-1.2, 1.0]), max_steps=2
    )
    assert Code(int(solution.status.code)) == Code.BUDGET_SPENT and int(solution.steps) == 2
    assert "max_steps" in solution.status.sentence


def test_updates_thread_through_a_scan_and_never_go_uphill():
    def residual_fn(b):
        return jnp.array([10 * (b[1] - b[0] ** 2), 1 - b[0]])

    method = levenberg_marquardt()

    def step(carry, _):
        params, state = carry
        updates, state = method.update(jnp.zeros_like(params), state, params, residual_fn=residual_fn)
        return (jo.apply_updates(params, updates), state), state.info.value

    start = jnp.array([-1.2, 1.0])
    (end, _), values = jax.lax.scan(step, (start, method.init(start, residual_fn=residual_fn)), None, 40)
    np.testing.assert_allclose(end, 1.0, rtol=1e-5)
    assert bool(jnp.all(values[1:] <= values[:-1] * (1 + 1e-5) + 1e-10))


def test_what_is_refused():
    x = jnp.ones(3)
    with pytest.raises(jo.errors.TreeError, match="not one number"):
        least_squares(lambda b: jnp.sum(b**2), x)
    with pytest.raises(jo.errors.MissingArgumentError, match="residual_fn is missing"):
        levenberg_marquardt().init(x)
    with pytest.raises(jo.errors.HyperparameterError, match="factor"):
        levenberg_marquardt(factor=0.0)
    with pytest.raises(jo.errors.TransformationError, match="Call it first"):
        least_squares(lambda b: b, x, levenberg_marquardt)


@pytest.mark.parametrize("solver", ["svd", "qr", "lsmr", "line"])
def test_fewer_residuals_than_unknowns_are_solved_and_by_the_shortest_step(x64, solver):
    A = np.random.default_rng(3).normal(size=(2, 5))
    A /= np.linalg.norm(A, axis=0)  # so that the scale of the steps is one for all
    line = solver == "line"
    method = jo.gauss_newton("line") if line else levenberg_marquardt(linear_solver=solver)
    found = quick.jit(lambda x: least_squares(lambda b: A @ b - 1.0, x, method))(jnp.zeros(5))
    assert bool(found.status.success) and int(found.steps) <= 20
    np.testing.assert_allclose(A @ found.params, 1.0, atol=1e-8)
    nearest = np.linalg.pinv(A) @ np.ones(2)
    np.testing.assert_allclose(found.params, nearest, atol=1e-8 if line else 0.1)


def test_fewer_residuals_in_a_box_and_by_a_given_jacobian(x64):
    bent = lambda b: jnp.stack([b[0] * b[1] + b[2] ** 2 - 3.0])  # noqa: E731
    for words in ({"bounds": (0.0, 1.5)}, {"jacobian_fn": jax.jacobian(bent)}):
        found = least_squares(bent, jnp.array([1.0, 0.5, 0.2]), **words)
        assert bool(found.status.success) and abs(bent(found.params)[0]) < 1e-7
        assert "bounds" not in words or bool(jnp.all((found.params >= 0) & (found.params <= 1.5)))


@pytest.mark.parametrize("shape", ["pairs", "complex", "jacobian", "matrix"])
def test_complex_residuals_are_pairs_of_their_parts(x64, shape):
    t = np.linspace(0.0, 3.0, 12)
    z = 2.0 * np.exp((-0.3 + 1.5j) * t)

    def turn(p):
        return jax.lax.complex(p[0], 0.0 * p[0]) * jnp.exp(jax.lax.complex(p[1], p[2]) * (t + 0j)) - z

    def parts(p):
        return turn(p).real, turn(p).imag

    def columns(p):
        return jnp.stack([jax.jvp(turn, (p,), (d,))[1] for d in np.eye(3)], axis=1)

    given = {
        "jacobian": columns,
        "matrix": lambda p: jnp.concatenate([columns(p).real, columns(p).imag]),
    }.get(shape)
    found = least_squares(parts if shape == "pairs" else turn, jnp.array([1.5, -0.2, 1.4]), jacobian_fn=given)
    np.testing.assert_allclose(found.params, [2.0, -0.3, 1.5], atol=1e-9)
    assert found.state.residual.shape == (24,)


def test_constants_among_args_are_hashed_or_refused(x64):
    @dataclasses.dataclass(frozen=True)
    class Frozen:
        power: int

    @dataclasses.dataclass
    class Loose:
        power: int

    runs = []

    def residual(p, how, y):
        runs.append(how)
        return p**how.power - y

    for power in (1, 3):
        found = least_squares(residual, jnp.ones(2), args=(Frozen(power), np.full(2, 8.0)))
        np.testing.assert_allclose(found.params, 8 ** (1 / power), rtol=1e-8)
    before = len(runs)
    least_squares(residual, jnp.ones(2), args=(Frozen(3), np.full(2, 27.0)))
    assert len(runs) == before  # an equal one is found again
    for wrong in (Loose(3), {1, 2}, np.array(["a"])):
        with pytest.raises(jo.errors.HyperparameterTypeError, match=r"args\[0\] is neither an array nor a constant"):
            least_squares(residual, jnp.ones(2), args=(wrong, np.ones(2)))


# ---- robust losses, bounds, Jacobians, large problems ---------------------------------------------------

X = np.linspace(0.0, 4.0, 25)
Y = 2.0 * np.exp(-0.5 * X) + 0.05 * np.cos(9 * X)
Y[[3, 17]] += 1.5  # outliers


def curve(b, y=Y):
    return b[0] * jnp.exp(-b[1] * X) + b[2] - y


@pytest.mark.parametrize("loss", ["huber", "soft_l1", "cauchy"])
def test_robust_losses_end_where_scipys_do(x64, loss):
    ours = jo.least_squares(curve, jnp.ones(3), loss=loss, loss_scale=0.1)
    theirs = scipy.optimize.least_squares(
        lambda b: np.asarray(curve(b)), np.ones(3), loss=loss, f_scale=0.1, xtol=1e-15, ftol=1e-15, gtol=1e-13
    )
    assert bool(ours.status.success)
    np.testing.assert_allclose(ours.params, theirs.x, atol=1e-6)
    np.testing.assert_allclose(ours.value, theirs.cost, rtol=1e-9)


def test_bounds_end_where_scipys_do_and_have_no_derivative(x64):
    upper = np.array([1.5, np.inf, np.inf])
    ours = jo.least_squares(curve, jnp.ones(3), bounds=(None, jnp.asarray(upper)))
    theirs = scipy.optimize.least_squares(
        lambda b: np.asarray(curve(b)), np.ones(3), bounds=(-np.inf, upper), xtol=1e-15, ftol=1e-15, gtol=1e-13
    )
    np.testing.assert_allclose(ours.params, theirs.x, atol=1e-6)

    def end(y):
        box = (None, jnp.asarray(upper))
        found = jo.least_squares(curve, jnp.ones(3), args=(y,), bounds=box, loss="soft_l1", loss_scale=0.3)
        return found.params

    y, direction = jnp.asarray(Y), jnp.asarray(np.cos(X))
    slope, d = jax.jvp(end, (y,), (direction,))[1], 1e-4
    quotient = (end(y + d * direction) - end(y - d * direction)) / (2 * d)
    np.testing.assert_allclose(slope, quotient, atol=1e-5)  # the ends are right to 1e-9 or so
    assert float(slope[0]) == 0.0


@pytest.mark.parametrize(
    "method",
    [
        jo.levenberg_marquardt(linear_solver="qr"),
        jo.levenberg_marquardt(linear_solver="lsmr"),
        jo.gauss_newton(),
        jo.gauss_newton("line"),
        jo.lbfgs(),
    ],
    ids=["qr", "lsmr", "dogleg", "line", "lbfgs"],
)
def test_every_method_finds_the_same_parameters(x64, method):
    reference = jo.least_squares(curve, jnp.ones(3))
    solution = jo.least_squares(curve, jnp.ones(3), method, tol=1e-10)
    assert bool(solution.status.success), solution.status.sentence
    np.testing.assert_allclose(solution.params, reference.params, atol=1e-6)


def test_the_factors_of_a_large_triangle_solve_as_its_singular_values_do(x64):
    n, rng = 40, np.random.default_rng(0)
    full = np.triu(rng.normal(size=(n, n))) / n + np.eye(n)
    held, poor = full.copy(), full.copy()
    held[:, [3, 17]] = 0  # what may not move
    poor[:, 9] = poor[:, :9] @ rng.normal(size=9)  # a rank less
    q, z0, v = (jnp.asarray(rng.normal(size=n)) for _ in range(3))

    @jax.jit
    def both(R, lam):
        def of(factors):
            z, slope = factors.with_slope(q, lam)
            return factors.solve(q, z0, lam), z, slope, factors.inverse(v, lam)

        return of(by_qr(R)), of(by_svd(R))

    for R in (full, held, poor):
        for lam in (0.0, 1e-20, 1e-3, 10.0):
            if lam == 1e-20 and R is not full:
                continue  # neither 0 nor more than rounding
            quick, careful = both(jnp.asarray(R), lam)
            if R is held:  # where lambda is 0 the shortest step leaves those alone; v and z0 are never but 0 there
                quick, careful = quick[1:3], careful[1:3]
            for a, b in zip(quick, careful, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7 * np.max(np.abs(b)))


def test_more_parameters_than_singular_values_are_taken_of(x64):
    """Above 32 parameters: free, in a box that holds some, of a rank less; as by the singular values."""
    rng = np.random.default_rng(1)
    A, p = rng.normal(size=(60, 40)), rng.normal(size=40)
    A[:, 5] = A[:, 6]
    y = np.asarray(np.sinh(0.2 * (A @ p))) + 0.1 * rng.normal(size=60)
    for bounds in (None, (-0.8, 0.8)):
        found = [
            least_squares(lambda p: jnp.sinh(0.2 * (A @ p)) - y, jnp.zeros(40), method, bounds=bounds)
            for method in (levenberg_marquardt(), levenberg_marquardt(linear_solver="svd"))
        ]
        assert all(bool(one.status.success) for one in found)
        np.testing.assert_allclose(found[0].value, found[1].value, rtol=1e-10)
        if bounds is None:
            np.testing.assert_allclose(found[0].params, found[1].params, atol=1e-6)


def test_norms_of_many_rows_come_from_the_triangle_and_have_the_derivatives_of_the_columns(x64):
    J = jnp.asarray(np.random.default_rng(2).normal(size=(TALL, 2)))
    R, _ = triangle(J, J[:, 0])
    assert np.shape(jax.jacobian(norms_of)(J, R)) == (2, TALL, 2)
    np.testing.assert_allclose(norms_of(J, R), column_norms(J), rtol=1e-13)
    np.testing.assert_allclose(jax.jacobian(norms_of)(J, R), jax.jacobian(column_norms)(J), atol=1e-14)


def test_a_jacobian_of_the_users(x64):
    calls = []

    def jacobian_fn(b):
        calls.append(1)
        decay = jnp.exp(-b[1] * X)
        return jnp.stack([decay, -b[0] * X * decay, jnp.ones_like(decay)], axis=1)

    given = jo.least_squares(curve, jnp.ones(3), jacobian_fn=jacobian_fn)
    assert calls
    np.testing.assert_allclose(given.params, jo.least_squares(curve, jnp.ones(3)).params, rtol=1e-9)
    with pytest.raises(jo.errors.TreeError, match="jacobian_fn"):
        jo.least_squares(curve, jnp.ones(3), jacobian_fn=lambda b: jnp.ones((3, 25)))


def test_roots_and_what_is_none(x64):
    equations = lambda x, a: jnp.stack([x[0] ** 2 + x[1] ** 2 - a, x[0] - x[1]])  # noqa: E731
    solve = lambda a: jo.root(equations, jnp.array([1.0, 0.5]), args=(a,))  # noqa: E731
    np.testing.assert_allclose(solve(2.0).params, 1.0, rtol=1e-10)
    np.testing.assert_allclose(jax.jacobian(lambda a: solve(a).params)(2.0), 0.25, rtol=1e-8)
    nowhere = jo.root(lambda x: x**2 + 1.0, jnp.array([1.0]))
    assert Code(int(nowhere.status.code)) == Code.NO_ROOT and not bool(nowhere.status.success)
    with pytest.raises(jo.errors.TreeError, match=r"as many equations as unknowns \(2\).*3 equations"):
        jo.root(lambda x: jnp.ones(3), jnp.ones(2))


def test_bounds_and_losses_that_are_refused():
    with pytest.raises(jo.errors.TreeError, match="lower"):
        jo.least_squares(lambda b: b, jnp.ones(2), bounds=(2.0, 1.0))
    with pytest.raises(jo.errors.TreeError, match="lower"):
        jo.minimize(lambda b: b @ b, jnp.ones(2), jo.lbfgsb(), bounds=(2.0, 1.0))
    with pytest.raises(jo.errors.HyperparameterError, match="loss"):
        jo.least_squares(lambda b: b, jnp.ones(2), loss="hubert")
