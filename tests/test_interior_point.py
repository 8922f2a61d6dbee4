"""The interior-point method: Hock and Schittkowski's problems, statuses, lanes, derivatives of solutions, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from data import hs_more, hs_problems
from data.families import one_of

import jaxopt_ko as jo
from jaxopt_ko.solvers.engine.condensed import GROW, BlockVector, CondensedSystem, solve, times
from jaxopt_ko.solvers.interior_point.variables import CORRECTION, HARDER, LINE
from jaxopt_ko.types import Code

PROBLEMS = {problem["name"]: problem for problem in [*hs_problems.HS, *hs_more.HS]}
# other minima that the notes of the data tell of, or that have been published with the problems
LOCAL = {"HS2": [4.94122932], "HS15": [360.379767], "HS16": [23.144661, 3.98207], "HS20": [40.1987298],
         "HS23": [9.4722], "HS33": [-4.0], "HS44": [-13.0], "HS108": [-0.6749814, -0.5]}  # fmt: skip
METHOD = jo.interior_point()


def words_of(problem):
    """The problem in the words of `minimize`: ineq >= 0 there, <= 0 here."""

    def vector(values, x):
        return jnp.stack([jnp.asarray(v, x.dtype) for v in values])

    def plain(function):
        def call(x):
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                return function(x)

        return call

    f, eq, ineq = problem["f"], problem["eq"], problem["ineq"]
    words = {"fun": plain(lambda x: jnp.asarray(f(x, jnp), x.dtype))}
    if eq:
        words["equality"] = plain(lambda x: vector(eq(x, jnp), x))
    if ineq:
        words["inequality"] = plain(lambda x: -vector(ineq(x, jnp), x))
    bounds = [[none if v is None else v for v in problem[side]] for side, none in (("lb", -np.inf), ("ub", np.inf))]
    if np.any(np.isfinite(bounds)):
        words["bounds"] = tuple(map(jnp.array, bounds))
    return words


def run(problem, start=None, **words):
    start = problem["x0"] if start is None else start
    return jo.minimize(params=jnp.array(start), method=METHOD, max_steps=400, **words_of(problem), **words)


def solved(problem, solution, tolerance=1e-6):
    """To 1e-6 in f and in the constraints, at the minimum or at a local one that has been published."""
    x = np.asarray(solution.params)
    f = problem["f"](x, np)
    known = [problem["fopt"], *LOCAL.get(problem["name"], [])]
    broken = [abs(c) for c in (problem["eq"] or (lambda x, m: []))(x, np)]
    broken += [-c for c in (problem["ineq"] or (lambda x, m: []))(x, np)]
    near = min(abs(f - v) / max(1, abs(v)) for v in known)
    return near <= tolerance and max([0.0, *map(float, broken)]) <= tolerance


# ---- problems -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HS7", "HS21", "HS40", "HS71", "HS76"])
def test_hock_schittkowski(x64, name):
    problem = PROBLEMS[name]
    solution = run(problem)
    assert bool(solution.status.success), solution.status.sentence
    assert solved(problem, solution)
    assert max(map(float, solution.kkt)) <= 1e-6
    assert int(solution.state.iterations) <= 15 and int(solution.evaluations.function) <= 20


def hock_schittkowski(method=METHOD, only=None):
    """The problems in families of as many equations and inequalities: held parameters fill up the smaller ones."""
    kinds = {}
    for problem in PROBLEMS.values():
        x = np.array(problem["x0"])
        p, q = (len((problem[side] or (lambda x, m: []))(x, np)) for side in ("eq", "ineq"))
        kinds.setdefault((p, q), []).append(problem)
    for (p, q), problems in kinds.items():
        if only is not None and (p, q) not in only:
            continue
        size = max(problem["n"] for problem in problems)
        words = {}
        for word, there in (("fun", True), ("equality", p), ("inequality", q)):
            if there:
                plain = [(words_of(problem)[word], problem["n"]) for problem in problems]
                words[word] = one_of([lambda x, f=f, n=n: f(x[:n]) for f, n in plain])
        solve = quick.jit(
            lambda x, k, bounds, words=words: jo.minimize(
                params=x, method=method, max_steps=400, args=(k,), bounds=bounds, **words
            )
        )
        for which, problem in enumerate(problems):
            filled = np.zeros(size)
            filled[: problem["n"]] = problem["x0"]
            bounds = np.zeros((2, size))
            bounds[:, : problem["n"]] = [[np.nan if v is None else v for v in problem[side]] for side in ("lb", "ub")]
            bounds = np.where(np.isnan(bounds), [[-np.inf], [np.inf]], bounds)
            solution = solve(filled, np.int32(which), tuple(bounds))
            yield problem, solution._replace(params=solution.params[: problem["n"]])


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_hock_schittkowski_from_the_standard_start():
    """76 of 77 problems, counted as `solved` does."""
    found = {}
    for problem, solution in hock_schittkowski():
        if bool(solution.status.success) and solved(problem, solution):
            found[problem["name"]] = int(solution.state.iterations), int(solution.evaluations.function)
    assert set(PROBLEMS) - set(found) <= {"HS13"}  # no constraint qualification holds there
    iterations, evaluations = np.array(list(found.values())).T
    assert np.median(iterations) <= 9 and np.median(evaluations) <= 11
    assert np.sum(iterations) <= 850 and np.sum(evaluations) <= 1150


def test_a_step_that_only_a_restoration_can_help(x64):
    """Newton's steps with fraction to the boundary stall here: Waechter & Biegler 2000, doi:10.1007/PL00011386."""
    solution = jo.minimize(
        lambda x: x[0], jnp.array([-2.0, 3.0, 1.0]), METHOD, bounds=(jnp.array([-jnp.inf, 0.0, 0.0]), None),
        equality=lambda x: jnp.stack([x[0] ** 2 - x[1] - 1, x[0] - x[2] - 0.5]), max_steps=300,
    )  # fmt: skip
    assert bool(solution.status.success), solution.status.sentence
    np.testing.assert_allclose(solution.params, [1.0, 0.0, 0.5], atol=1e-6)


def test_the_multipliers_satisfy_the_conditions(x64):
    problem = PROBLEMS["HS71"]
    solution, words = run(problem), words_of(problem)
    x, (y, z, lower, upper) = solution.params, solution.multipliers
    rest = (
        jax.grad(words["fun"])(x) + y @ jax.jacobian(words["equality"])(x) + z @ jax.jacobian(words["inequality"])(x)
        - lower + upper
    )  # fmt: skip
    np.testing.assert_allclose(rest, 0, atol=1e-7)
    np.testing.assert_allclose(solution.kkt.stationarity, jnp.max(jnp.abs(rest)), atol=1e-12)
    assert bool(jnp.all(jnp.concatenate([z, lower, upper]) >= 0))
    np.testing.assert_allclose(z * words["inequality"](x), 0, atol=1e-7)


def test_trees_of_parameters_and_constraints(x64):
    def fun(p):
        return jnp.sum((p["a"] - 2) ** 2) + jnp.sum(p["b"] ** 2)

    solution = jo.minimize(
        fun, {"a": jnp.zeros(2), "b": jnp.ones((2, 1))}, METHOD,
        equality=lambda p: {"sum": jnp.sum(p["a"]) - 2.0}, inequality=lambda p: [p["a"][0] - 0.5, 0.25 - p["b"]],
        bounds=({"a": None, "b": 0.1}, None),
    )  # fmt: skip
    np.testing.assert_allclose(solution.params["a"], [0.5, 1.5], atol=1e-7)
    np.testing.assert_allclose(solution.params["b"], 0.25, atol=1e-7)
    np.testing.assert_allclose(solution.multipliers.equality["sum"], 1.0, atol=1e-6)
    np.testing.assert_allclose(solution.multipliers.inequality[0], 2.0, atol=1e-6)
    np.testing.assert_allclose(solution.multipliers.inequality[1], 0.5 * jnp.ones((2, 1)), atol=1e-6)


def test_single_precision(x64):
    with jax.enable_x64(False):
        for name in ("HS71", "HS76"):
            solution = run(PROBLEMS[name])
            assert solution.value.dtype == jnp.float32 and bool(solution.status.success), solution.status.sentence
            assert solved(PROBLEMS[name], solution, 2e-3)


# ---- degenerate problems ----------------------------------------------------------------------------------


def square(x):
    return jnp.sum((x - 1) ** 2)


DEGENERATE = {
    "no constraints": ({}, [1, 1]),
    "an equality twice": ({"equality": lambda x: jnp.stack([x[0] + x[1], x[0] + x[1]])}, [0, 0]),
    "an equality in two inequalities": ({"inequality": lambda x: jnp.stack([x[0] + x[1], -x[0] - x[1]])}, [0, 0]),
    "a fixed variable": ({"bounds": (jnp.array([3.0, -1.0]), jnp.array([3.0, 0.5]))}, [3, 0.5]),
    "one feasible point": ({"inequality": lambda x: jnp.sum(x**2)[None]}, [0, 0]),
    "all variables fixed": ({"bounds": (jnp.array([3.0, 2.0]), jnp.array([3.0, 2.0]))}, [3, 2]),
    "an equation at a bound": (
        {"equality": lambda x: x[:1], "bounds": (jnp.array([0.0, -9.0]), None)},
        [0, 1],
    ),
    "an equation at a bound above": (
        {"equality": lambda x: 2 * x[1:] - 6, "bounds": (None, jnp.array([9.0, 3.0]))},
        [1, 3],
    ),
    "equations at a corner": ({"equality": lambda x: x - 2, "bounds": (2.0, 2.5)}, [2, 2]),
    "an equation at an inequality": (
        {"equality": lambda x: x[:1] - 0.5, "inequality": lambda x: jnp.stack([x[0] - 0.5, x[1] - 2])},
        [0.5, 1],
    ),
    "as many equations as variables": ({"equality": lambda x: x - jnp.array([2.0, 3.0])}, [2, 3]),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_problems(x64, name):
    words, x = DEGENERATE[name]
    solution = jo.minimize(square, jnp.array([4.0, -7.0]), METHOD, max_steps=300, **words)
    assert bool(solution.status.success), solution.status.sentence
    np.testing.assert_allclose(solution.params, x, atol=1e-3 if name == "one feasible point" else 1e-6)
    assert max(map(float, solution.kkt)) <= 1e-6 or name == "one feasible point"
    assert int(solution.evaluations.function) <= 80


def test_the_largest_small_polygon(x64):
    """COPS 3.0, problem 1, of four corners: equations hold the last one's angle and radius at their bounds."""
    n = 4
    i, j = np.triu_indices(n, 1)
    k = jnp.arange(1.0, n + 1)

    def area(z):
        r, t = jnp.split(z, 2)
        return -0.5 * jnp.sum(r[1:] * r[:-1] * jnp.sin(t[1:] - t[:-1]))

    def limits(z):
        r, t = jnp.split(z, 2)
        return jnp.concatenate([r[i] ** 2 + r[j] ** 2 - 2 * r[i] * r[j] * jnp.cos(t[i] - t[j]) - 1, t[:-1] - t[1:]])

    start = jnp.concatenate([4 * k * (n + 1 - k) / (n + 1) ** 2, jnp.pi * k / n])
    solution = jo.minimize(
        area, start, METHOD, equality=lambda z: jnp.stack([z[n - 1], z[-1] - jnp.pi]), inequality=limits,
        bounds=(0.0, jnp.repeat(jnp.array([1.0, jnp.pi]), n)),
    )  # fmt: skip
    assert bool(solution.status.success), solution.status.sentence
    np.testing.assert_allclose(solution.value, -0.5, atol=1e-6)
    assert max(map(float, solution.kkt)) <= 1e-6 and int(solution.evaluations.function) <= 25


# ---- statuses -------------------------------------------------------------------------------------------

FAILURES = {
    "no point": (square, {"inequality": lambda x: jnp.stack([x[0] + 1, 1 - x[0]])}, Code.INFEASIBLE),
    "no point in a curve": (square, {"equality": lambda x: jnp.stack([jnp.sum(x**2) + 1])}, Code.INFEASIBLE),
    "two lines": (square, {"equality": lambda x: jnp.stack([x[0] + x[1], x[0] + x[1] - 1])}, Code.INFEASIBLE),
    "no point in the box": (
        square, {"equality": lambda x: (x[0] + x[1] - 9)[None], "bounds": (0.0, 2.0)}, Code.INFEASIBLE,
    ),
    "a ray": (lambda x: -x[0] + x[1] ** 2, {"inequality": lambda x: (x[1] - x[0])[None]}, Code.UNBOUNDED),
    "a parabola": (lambda x: -(x[0] ** 2) + x[1] ** 2, {"equality": lambda x: (x[1] - 1)[None]}, Code.UNBOUNDED),
    "a line": (lambda x: x[0] + x[1], {"bounds": (None, 3.0)}, Code.UNBOUNDED),
    "no number": (lambda x: jnp.sum(jnp.log(-(x**2))), {}, Code.NOT_FINITE),
    "no constraint": (square, {"inequality": lambda x: jnp.sqrt(-1 - x**2)}, Code.NOT_FINITE),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_failures_have_their_status(x64, name):
    fun, words, code = FAILURES[name]
    solution = jo.minimize(fun, jnp.array([0.7, 0.4]), METHOD, max_steps=500, **words)
    assert Code(int(solution.status.code)) == code, solution.status.sentence
    assert bool(jnp.all(jnp.isfinite(solution.params)))
    np.testing.assert_array_equal(solution.value, fun(solution.params))


def test_a_budget_is_kept(x64):
    problem = PROBLEMS["HS71"]
    solution = jo.minimize(params=jnp.array(problem["x0"]), method=METHOD, max_steps=4, **words_of(problem))
    assert Code(int(solution.status.code)) == Code.BUDGET_SPENT and int(solution.steps) == 4


# ---- the pair ---------------------------------------------------------------------------------------------


def trace(start, steps, **words):
    """Params before and after each update, its state."""

    def step(carry, _):
        params, state = carry
        updates, state = METHOD.update(jnp.zeros_like(params), state, params, **words)
        return (params + updates, state), (params, updates, state)

    return jax.lax.scan(step, (start, METHOD.init(start, **words)), None, steps)[1]


@pytest.mark.rounding
def test_a_scan_is_the_loop_and_nothing_moves_after_the_end(x64):
    problem = PROBLEMS["HS71"]
    words = words_of(problem)
    solution = run(problem)
    words["value_fn"] = words.pop("fun")
    params, updates, states = jax.jit(lambda x: trace(x, 25, **words))(jnp.array(problem["x0"]))
    steps = int(solution.steps)
    np.testing.assert_allclose(params[steps], solution.params, rtol=1e-10)
    assert bool(jnp.all(updates[steps:] == 0))
    taken = states.info.accepted
    assert bool(jnp.all(jnp.any(updates[1:] != 0, axis=1) == taken[1:]))
    np.testing.assert_array_equal(states.iterations[-1], jnp.sum(taken[:steps]))
    np.testing.assert_allclose(
        states.info.value[:steps], jax.vmap(words["value_fn"])((params + updates)[:steps]), rtol=1e-12
    )
    np.testing.assert_array_equal(states.info.evaluations.function[:steps], jnp.arange(1, steps + 1))


def test_a_correction_is_of_the_same_matrix_and_gives_way_to_its_step(x64):
    """Where the Hessian is regularized, and more where short steps are in vain: HS65 has all of it."""
    words = words_of(PROBLEMS["HS65"])
    words["value_fn"] = words.pop("fun")
    _, _, states = jax.jit(lambda x: trace(x, 40, **words))(jnp.array(PROBLEMS["HS65"]["x0"]))
    running = np.asarray(states.info.status.code) == 0
    alpha, shift, kind = (
        np.asarray(part[:, k]) for part, k in ((states.scalars, 0), (states.scalars, 8), (states.counts, 1))
    )
    fixed = [k for k in range(1, 40) if running[k] and kind[k] == CORRECTION]
    assert len(fixed) >= 2 and any(shift[k] > 0 for k in fixed)
    returned = 0
    for k in fixed:
        assert shift[k] == shift[k - 1]
        assert np.any(states.step[k] != states.step[k - 1])
        if not states.info.accepted[k + 1] and kind[k + 1] == LINE:
            np.testing.assert_array_equal(states.step[k + 1], states.step[k - 1])
            np.testing.assert_array_equal(states.step_y[k + 1], states.step_y[k - 1])
            assert alpha[k + 1] == alpha[k - 1] / 2
            returned += 1
    assert returned
    harder = [k for k in range(1, 40) if running[k] and kind[k] == HARDER != kind[k - 1]]
    assert harder and all(shift[k] == GROW * shift[k - 1] for k in harder)


def test_lanes_stop_by_themselves_and_a_failed_one_leaves_the_others_alone(x64):
    starts = jnp.array([[1.0, 2.0], [-3.0, 0.5], [jnp.nan, 0.0]])

    def lane(start):
        return jo.minimize(
            lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, start, METHOD,
            inequality=lambda x: jnp.sum(x**2)[None] - 1.5, bounds=(-2.0, 2.0),
        )  # fmt: skip

    lanes = jax.vmap(lane)(starts)
    assert lanes.status.success.tolist() == [True, True, False]
    assert int(lanes.status.code[2]) == Code.NOT_FINITE and int(lanes.steps[2]) == 1
    alone = lane(starts[0])
    np.testing.assert_allclose(alone.params, lanes.params[0], rtol=1e-8)
    assert int(alone.steps) == int(lanes.steps[0]) != int(lanes.steps[1])


def test_the_functions_are_never_evaluated_outside_the_bounds(x64):
    solution = jo.minimize(
        lambda x: jnp.sum(x - jnp.log(x)) + 1e3 * x[0], jnp.array([-5.0, 1e-9]), METHOD, bounds=(1e-6, None),
        equality=lambda x: (jnp.sqrt(x[0] - 1e-6) + x[1] - 2.0)[None],
    )  # fmt: skip
    assert bool(solution.status.success) and bool(jnp.all(solution.params >= 1e-6))


def test_aux_is_that_of_the_solution(x64):
    solution = jo.minimize(
        lambda x: (square(x), {"twice": 2 * x}), jnp.zeros(2), METHOD, has_aux=True,
        equality=lambda x: (x[0] - x[1] - 1)[None],
    )  # fmt: skip
    np.testing.assert_array_equal(solution.aux["twice"], 2 * solution.params)


# ---- derivatives of solutions -----------------------------------------------------------------------------


def projection(a):
    """The point nearest to a on a curve, in a half-plane and a box."""
    return jo.minimize(
        lambda x, a: jnp.sum((x - a[:3]) ** 2), jnp.array([0.9, 0.3, 0.2]), METHOD, args=(a,), tol=1e-11,
        equality=lambda x, a: (x[0] ** 2 + a[3] * x[1] ** 2 + x[2] - 1)[None],
        inequality=lambda x, a: jnp.stack([x[0] - 0.5 * a[4], x[2] - 50.0]), bounds=(jnp.array([-9, 0.1, -9]), None),
    )  # fmt: skip


def logs(a):
    """Resources shared out."""
    return jo.minimize(
        lambda x: -jnp.sum(a[:3] * jnp.log(x)), jnp.ones(3), METHOD, tol=1e-11,
        inequality=lambda x: (jnp.sum(x) - a[3])[None], bounds=(0.0, a[4] ** 0 * jnp.array([9.0, 9.0, 0.5])),
    )  # fmt: skip


def hs71(a):
    f, eq, ineq = (PROBLEMS["HS71"][key] for key in ("f", "eq", "ineq"))
    return jo.minimize(
        lambda x, a: f(x, jnp) + a[0] * x[2] - 2.0 * x[2], jnp.array([1.0, 5, 5, 1]), METHOD, args=(a,), tol=1e-11,
        equality=lambda x, a: jnp.stack(eq(x, jnp)) + a[1] - 1, inequality=lambda x, a: -a[2] * jnp.stack(ineq(x, jnp)),
        bounds=(1.0, 5.0),
    )  # fmt: skip


@pytest.mark.parametrize("solve_for", [projection, logs, hs71])
def test_derivatives_agree_with_differences(x64, solve_for):
    a = jnp.array([2.0, 1.3, 0.8, 1.2, 1.0])

    @jax.jit
    def found(a):
        solution = solve_for(a)
        return jnp.append(solution.params, solution.value)

    h = 1e-5
    differences = jnp.stack([(found(a + h * e) - found(a - h * e)) / (2 * h) for e in jnp.eye(5)], axis=1)
    np.testing.assert_allclose(jax.jacrev(found)(a), differences, atol=1e-5)
    np.testing.assert_allclose(jax.jacfwd(found)(a), differences, atol=1e-5)


# ---- linear algebra ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_condensed_system_is_solved_with_the_right_inertia(x64, gamma):
    rng, (n, p, q) = np.random.default_rng(0), (6, 2, 3)
    H, Je, Ji = (jnp.asarray(rng.normal(size=shape)) for shape in ((n, n), (p, n), (q, n)))
    A = CondensedSystem(H + H.T, jnp.zeros(n), jnp.asarray(rng.random(q)), Je, Ji, jnp.asarray(gamma))
    b = BlockVector(*(jnp.asarray(rng.normal(size=k)) for k in (n, q, p, q)))
    found = jax.jit(solve)(A, b, jnp.zeros(()))
    assert bool(found.good) and float(found.delta) > 0
    for got, wanted in zip(times(A, found.delta, found.parts), b, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-9)
    split = np.cumsum([n, q, p])
    product = lambda v: jnp.concatenate(times(A, found.delta, BlockVector(*jnp.split(v, split))))  # noqa: E731
    matrix = jax.vmap(product)(jnp.eye(n + p + 2 * q))
    assert int(np.sum(np.linalg.eigvalsh(matrix) > 0)) == n + q


# ---- errors -----------------------------------------------------------------------------------------------


def test_what_is_refused():
    x = jnp.ones(2)
    with pytest.raises(jo.errors.MissingArgumentError, match="value_fn is missing"):
        METHOD.init(x)
    with pytest.raises(jo.errors.HyperparameterError, match="gtol"):
        jo.interior_point(gtol=0.0)
    with pytest.raises(jo.errors.TransformationError, match="lbfgs: it takes no equality constraints"):
        jo.minimize(square, x, jo.lbfgs(), equality=lambda x: x)
    for method in (
        jo.lbfgs(),
        jo.newton(),
        jo.newton_cg(),
        jo.nonlinear_cg(),
        jo.sgd(0.1),
        jo.augmented_lagrangian(jo.bfgs()),
    ):
        with pytest.raises(jo.errors.TransformationError, match=r"it takes no bounds constraints\. .*lbfgsb"):
            jo.minimize(square, x, method, bounds=(0.0, 2.0))
    with pytest.raises(jo.errors.TransformationError, match="it takes no bounds"):
        jo.least_squares(lambda x: x - 3, x, jo.lbfgs(), bounds=(0.0, 2.0))
    with pytest.raises(jo.errors.TransformationError, match="inequality must be a function"):
        jo.minimize(square, x, METHOD, inequality=3.0)
    with pytest.raises(jo.errors.TreeError, match="must be a real floating-point array"):
        jo.minimize(square, x, METHOD, inequality=lambda x: x > 0)
