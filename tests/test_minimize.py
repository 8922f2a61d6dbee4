"""`minimize` and the methods of descent: problems solved, counts, lanes, derivatives, errors; optax side by side."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
import scipy.optimize
from data import mgh_more, mgh_problems
from data.families import families

import jaxopt_ko as jo

MGH = mgh_problems.PROBLEMS + mgh_more.PROBLEMS
METHODS = {
    "lbfgs": jo.lbfgs(),
    "bfgs": jo.bfgs(),
    "dfp": jo.bfgs(formula="dfp"),
    "sr1": jo.bfgs(formula="sr1"),
    "lbfgs-hager-zhang": jo.lbfgs(linesearch=jo.scale_by_hager_zhang_linesearch(20, initial_guess_strategy="one")),
    "newton": jo.newton(),
    "newton_cg": jo.newton_cg(),
    "newton-zoom": jo.newton(jo.scale_by_zoom_linesearch(20, initial_guess_strategy="one")),
    "newton_cg-zoom": jo.newton_cg(linesearch=jo.scale_by_zoom_linesearch(20, initial_guess_strategy="one")),
    "lbfgsb": jo.lbfgsb(),
    "lbfgs-backtracking": jo.lbfgs(linesearch=jo.scale_by_backtracking_linesearch(20, increase_factor=1e9)),
    **{
        beta: jo.nonlinear_cg(beta)
        for beta in ("fletcher-reeves", "polak-ribiere", "hestenes-stiefel", "dai-yuan", "hager-zhang")
    },
}


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def valley(n):
    return jnp.array([-1.2, 1.0] * (n // 2))


# ---- problems -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_finds_the_minimum_of_the_valley(x64, name):
    solution = jo.minimize(rosenbrock, valley(4), METHODS[name])
    assert bool(solution.status.success), solution.status.sentence
    np.testing.assert_allclose(solution.params, 1.0, atol=1e-6)
    assert int(solution.evaluations.function) <= 400 and int(solution.evaluations.gradient) > 0
    assert (int(solution.evaluations.product) > 0) == name.startswith("newton")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "solved", "median"),
    [
        ("lbfgs", 44, 36),
        pytest.param("bfgs", 44, 36, marks=pytest.mark.slow),
        pytest.param("hager-zhang", 38, 100, marks=pytest.mark.slow),
    ],
)
def test_more_garbow_hillstrom_from_the_standard_start(name, solved, median):
    """Solved: to 1e-6 of the minimum, or of a published local one; the value's unit is 1 where it is smaller."""
    good, counts = {}, []
    for family in families(MGH, (20, 100), residuals=False):
        solve = quick.jit(lambda x, k, f=family.function: jo.minimize(f, x, METHODS[name], args=(k,)))
        for which, (problem, start) in enumerate(zip(family.problems, family.starts, strict=True)):
            solution = solve(jnp.asarray(start), np.int32(which))
            known = [problem["fopt"], *problem["alt"]]
            good[problem["name"]] = min(abs(float(solution.value) - f) / max(abs(f), 1.0) for f in known) <= 1e-6
            counts.append(int(solution.evaluations.function))
    assert len(good) == 44 and sum(good.values()) >= solved, [name for name, ok in good.items() if not ok]
    assert np.median(counts) <= median


@pytest.mark.parametrize("name", ["bfgs", "lbfgs"])
def test_ends_where_scipys_does(x64, name):
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(30, 5)), np.sign(rng.normal(size=30))
    fun = lambda w: jnp.sum(jnp.logaddexp(0.0, -y * (X @ w))) + 0.05 * jnp.sum(w**2)  # noqa: E731
    ours = jo.minimize(fun, jnp.zeros(5), METHODS[name], tol=1e-10)
    theirs = scipy.optimize.minimize(
        jax.value_and_grad(fun), np.zeros(5), jac=True, method="BFGS", options={"gtol": 1e-10}
    )
    np.testing.assert_allclose(ours.params, theirs.x, atol=1e-8)


def test_single_precision(x64):
    solution = jo.minimize(rosenbrock, valley(4).astype(jnp.float32))
    assert solution.value.dtype == solution.params.dtype == jnp.float32 and bool(solution.status.success)
    np.testing.assert_allclose(solution.params, 1.0, atol=5e-3)
    tight = jo.minimize(rosenbrock, valley(4).astype(jnp.float32), tol=1e-5)
    np.testing.assert_allclose(tight.params, 1.0, atol=1e-4)


def cliffs(x, kind):
    """Quadratics of condition 1, 1e5, 1e10; a sum of cosines; a saddle."""
    bowls = [0.5 * jnp.sum(jnp.logspace(0.0, c, 3) * x**2) for c in (0.0, 5.0, 10.0)]
    waves = jnp.sum(jnp.cos(x)) + 0.01 * jnp.sum(x**2)
    saddle = x[0] ** 2 - x[1] ** 2 + 0.25 * x[1] ** 4 + x[2] ** 2
    return jnp.stack([*bowls, waves, saddle])[kind]


@pytest.mark.parametrize("name", ["lbfgs", "bfgs", "hager-zhang", "lbfgs-backtracking", "lbfgs-hager-zhang"])
def test_never_uphill(x64, name):
    method = METHODS[name]
    starts = jnp.array([[1.0, 1.0, 1.0]] * 3 + [[0.1, -0.2, 3.0], [1.0, 1e-6, 0.5]])

    def path(start, kind):
        fun = lambda x: cliffs(x, kind)  # noqa: E731

        def step(carry, _):
            params, state = carry
            updates, state = method.update(params, state, params, value_fn=fun)
            params = jo.apply_updates(params, updates)
            return (params, state), (state.info.value, fun(params))

        _, values = jax.lax.scan(step, (start, method.init(start, value_fn=fun)), None, 60)
        return fun(start), *values

    first, told, true = jax.jit(jax.vmap(path))(starts, jnp.arange(5))
    np.testing.assert_allclose(told, true, rtol=1e-12)  # what the state says of the point is so
    values = np.concatenate([first[:, None], true], axis=1)
    room = 1e-6 if name.endswith("hager-zhang") and name != "hager-zhang" else 1e-14  # their approximate Wolfe test's
    assert np.all(values[:, 1:] - values[:, :-1] <= room * np.abs(values[:, :-1]))
    assert np.all(values[:, -1] < values[:, 0])


def test_a_pair_of_negative_curvature_never_enters_the_memory(x64):
    fun = lambda x: jnp.sum(jnp.cos(x))  # noqa: E731
    method = jo.scale_by_lbfgs(memory_size=4)
    state = method.init(jnp.zeros(3))
    x = jnp.array([0.1, 0.2, 0.3])
    for _ in range(6):  # up the hump: s'y < 0
        direction, state = method.update(jax.grad(fun)(x), state, x)
        assert float(direction @ jax.grad(fun)(x)) > 0
        x = x - 0.1 * direction
    assert int(state.skipped) > 0 and bool(jnp.all(state.weights_memory >= 0))


def test_the_formulas_of_quasi_newton(x64):
    """H y = s after each; along any steps SR1 has found the inverse Hessian of a quadratic after n pairs."""
    A = jnp.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]])
    for formula in ("bfgs", "dfp", "sr1"):
        method = jo.scale_by_bfgs(formula)
        x = jnp.array([1.0, -2.0, 0.5])
        state = method.init(x)
        _, state = method.update(A @ x, state, x)
        for step in ([1.0, 0.0, 0.1], [0.2, 1.0, 0.0], [0.0, -0.3, 1.0]):
            H0, s = state.inverse_hessian, jnp.array(step)
            _, state = method.update(A @ (x + s), state, x + s)
            x, y, H = x + s, A @ s, state.inverse_hessian
            np.testing.assert_allclose(H @ y, s, atol=1e-12)
            if formula == "dfp" and step[0] != 1.0:  # equation 6.15, H grown first
                scale = max(1.0, float(s @ y / (y @ H0 @ y)))
                H0 = scale * H0
                np.testing.assert_allclose(
                    H, H0 - jnp.outer(H0 @ y, H0 @ y) / (y @ H0 @ y) + jnp.outer(s, s) / (s @ y), atol=1e-12
                )
        assert np.all(np.linalg.eigvalsh(H) > 0)
        assert (float(jnp.max(jnp.abs(H - jnp.linalg.inv(A)))) < 1e-10) == (formula == "sr1")
    with pytest.raises(jo.errors.HyperparameterError, match="formula must be one of 'bfgs', 'dfp', 'sr1'"):
        jo.bfgs(formula="broyden")


def test_the_start_is_not_finite_and_trials_that_are_not():
    bad = jo.minimize(lambda x: jnp.log(x[0]), jnp.array([-1.0]))
    assert jo.Code(int(bad.status.code)) == jo.Code.NOT_FINITE and int(bad.steps) == 1
    wall = jo.minimize(lambda x: x[0] - jnp.log(x[0]), jnp.array([1e-3]))  # steps to the left leave the domain
    assert bool(wall.status.success)
    np.testing.assert_allclose(wall.params, 1.0, rtol=1e-3)


def test_budget_spent_returns_the_best_point():
    solution = jo.minimize(rosenbrock, valley(2), max_steps=5)
    assert jo.Code(int(solution.status.code)) == jo.Code.BUDGET_SPENT and int(solution.steps) == 5
    np.testing.assert_allclose(rosenbrock(solution.params), solution.value, rtol=1e-6)


def test_aux_is_that_of_the_solution(x64):
    fun = lambda x, a: (jnp.sum((x - a) ** 2), {"where": 2.0 * x})  # noqa: E731
    solution = jo.minimize(fun, jnp.zeros(2), args=(3.0,), has_aux=True)
    np.testing.assert_allclose(solution.aux["where"], 6.0, rtol=1e-7)
    np.testing.assert_array_equal(solution.aux["where"], 2.0 * solution.params)


@pytest.mark.parametrize("method", [jo.sgd(1e-3), jo.adam(0.05), optax.adam(0.05)], ids=["sgd", "adam", "optax's"])
def test_any_transformation_is_a_method(method):
    with jax.numpy_dtype_promotion("standard"):
        solution = jo.minimize(rosenbrock, valley(2), method, max_steps=300)
    assert float(solution.value) < 4.2
    np.testing.assert_allclose(rosenbrock(solution.params), solution.value, rtol=1e-5)  # the best, not the last


def test_a_diverging_run_keeps_its_best_point():
    solution = jo.minimize(lambda x: jnp.sum(x**4), jnp.ones(2), jo.sgd(10.0))
    assert jo.Code(int(solution.status.code)) == jo.Code.DIVERGED
    np.testing.assert_array_equal(solution.params, jnp.ones(2))


def test_the_table(capfd):
    jo.minimize(rosenbrock, valley(2), verbose=True, max_steps=8).value.block_until_ready()
    jax.effects_barrier()
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["step", "functions", "value", "optimality", "|step|"]
    assert len(lines) == 1 + 8 + 2 and lines[1].split()[0] == "1" and "max_steps" in lines[-2]


# ---- stop tests -----------------------------------------------------------------------------------------

# f and its start in the plane: f falls without bound
FALLING = {
    "sum": (lambda x: jnp.sum(x), [1.0, 1.0]),
    "concave": (lambda x: -jnp.sum(x**2), [1.0, 1.0]),
    "exp": (lambda x: -jnp.sum(jnp.exp(x)), [1.0, 1.0]),
    "log": (lambda x: -jnp.sum(jnp.log(x)), [1.0, 2.0]),
    "cube": (lambda x: -jnp.sum(x**3), [1.0, 2.0]),
    "gutter": (lambda x: 100 * (x[0] - 1) ** 2 - x[1], [3.0, 1.0]),
}
# f, its start and by how much an element of its minimizer, all ones, may be missed in float32
LIFTED = {
    "far up": (lambda x: 1e6 + jnp.sum((x - 1) ** 2), [0.0, 0.0], 1e-2),
    "far down": (lambda x: -1e6 + jnp.sum((x - 1) ** 2 * jnp.array([1.0, 30.0])), [0.0, 0.0], 1e-2),
    "flat and far up": (lambda x: 1e8 + jnp.sum((x - 1) ** 4), [0.0, 0.0], 0.1),
    "a valley far up": (lambda x: 1e5 + rosenbrock(x), [-1.2, 1.0], 2e-2),
    "small": (lambda x: 1e-6 * jnp.sum((x - 1) ** 2), [3.0, -4.0], 1e-2),
    "a small valley": (lambda x: 1e-10 * rosenbrock(x), [-1.2, 1.0], 5e-2),  # where g is 2e-4 of the first
    "large": (lambda x: 1e10 * jnp.sum((x - 1) ** 2 - 1), [0.0, 0.0], 1e-3),
    "solved": (lambda x: jnp.sum((x - 1) ** 2 * jnp.array([1.0, 100.0])), [1.0000001, 1.0], 1e-6),
}
ROUGH = {
    ("hager-zhang", "a valley far up"): 0.4,  # where f is six of its units in the last place above the least
    ("lbfgsb", "a valley far up"): 0.1,  # where f is a sixth of its unit in the last place above the least
    ("hager-zhang", "a small valley"): 0.15,  # where g is sqrt(eps) of the first
}
SEARCHING = ["lbfgs", "bfgs", "hager-zhang", "newton", "newton_cg", "lbfgsb"]


def plane(functions, method, **words):
    """(starts, which) -> the solutions of a lane each."""
    fun = lambda x, k: jax.lax.switch(k, functions, x)  # noqa: E731
    return quick.jit(jax.vmap(lambda x, k: jo.minimize(fun, x, method, args=(k,), max_steps=3000, **words)))


@pytest.mark.parametrize("name", SEARCHING)
def test_no_success_where_f_falls_for_ever_and_none_before_its_minimum(name):
    problems = {**FALLING, **LIFTED}
    functions, starts = zip(*(p[:2] for p in problems.values()), strict=True)
    lanes = plane(functions, METHODS[name])(jnp.array(starts), jnp.arange(len(starts)))
    codes = {k: jo.Code(int(code)) for k, code in zip(problems, lanes.status.code, strict=True)}
    assert {k: codes[k] for k in FALLING} == dict.fromkeys(FALLING, jo.Code.UNBOUNDED)
    assert bool(jnp.all(jnp.isfinite(lanes.value))) and bool(jnp.all(jnp.isfinite(lanes.params)))
    for k, x, ok, evaluations in zip(
        problems, lanes.params, lanes.status.success, lanes.evaluations.function, strict=True
    ):
        if k in LIFTED:
            np.testing.assert_allclose(x, 1.0, atol=ROUGH.get((name, k), LIFTED[k][2]), err_msg=k)
            assert bool(ok), (k, codes[k])
            assert int(evaluations) <= (10 if k == "solved" else 300), k


@pytest.mark.parametrize("name", ["projected_gradient", "sgd"])
def test_nor_of_a_method_that_goes_down_the_gradient(name):
    method = {"projected_gradient": jo.projected_gradient(lambda x: x), "sgd": jo.sgd(0.1)}[name]
    problems = {k: FALLING[k][:2] for k in ("sum", "concave", "exp")} | {"far up": LIFTED["far up"][:2]}
    functions, starts = zip(*problems.values(), strict=True)
    lanes = plane(functions, method)(jnp.array(starts), jnp.arange(len(starts)))
    codes = [jo.Code(int(code)) for code in lanes.status.code]
    slow = jo.Code.BUDGET_SPENT if name == "sgd" else jo.Code.UNBOUNDED  # steps of a tenth
    assert codes[:3] == [slow, jo.Code.UNBOUNDED, jo.Code.UNBOUNDED]
    assert bool(jnp.all(jnp.isfinite(lanes.value)))
    assert bool(lanes.status.success[3])
    np.testing.assert_allclose(lanes.params[3], 1.0, atol=1e-2)


@pytest.mark.parametrize("name", ["lbfgs", "lbfgsb"])
def test_a_valley_from_far_away_in_single_precision(name):
    start = jnp.array([76.0, 97.0, 20.0, 120.0, 0.01, 1000.0])
    solution = quick.jit(lambda x: jo.minimize(rosenbrock, x, METHODS[name]))(start)
    assert bool(solution.status.success), solution.status.sentence
    minima = (0.0, 3.97394)  # the other near (-1, 1, …, 1); which one the way ends in, is the rounding's choice
    assert min(abs(float(solution.value) - minimum) for minimum in minima) <= 1e-4


@pytest.mark.parametrize("name", ["lbfgs", "bfgs", "lbfgsb"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_a_run_ends_when_x_cannot_tell_its_steps(x64, name, dtype):
    """c: in and off the numbers of the dtype; with tol and without."""
    fun = lambda p, c: jnp.sum(jnp.abs(p["x"] - c).astype(float)) + jnp.sum(jnp.abs(p["y"]).astype(float))  # noqa: E731
    start = {"x": jnp.zeros(2, dtype), "y": jnp.full(1, 0.3, dtype)}

    @quick.jit
    @jax.vmap
    def solve(c, tol):
        return jo.minimize(fun, start, METHODS[name], args=(c.astype(dtype),), tol=tol)

    lanes = solve(jnp.array([[1.0, 2.0], [0.1, 1 / 3], [1.0, 2.0]]), jnp.array([1e-6, 1e-6, 0.0]))
    assert bool(jnp.all(lanes.status.code != int(jo.Code.BUDGET_SPENT))), lanes.status
    assert int(jnp.max(lanes.evaluations.function)) <= 1500
    told = np.asarray(lanes.status.success)  # a search may fail at a kink, and say so
    np.testing.assert_allclose(np.asarray(lanes.value)[told], 0.0, atol=0.02 if dtype == "bfloat16" else 1e-6)


# ---- lanes, compilation, counts -------------------------------------------------------------------------


def test_lanes_stop_by_themselves_and_one_that_fails_leaves_the_others_bits_alone(x64):
    starts = jnp.asarray(np.random.default_rng(0).normal(size=(32, 4)) * 2)
    lanes = jax.vmap(lambda x: jo.minimize(rosenbrock, x))
    all_ = lanes(starts)
    assert bool(jnp.all(all_.status.success))
    functions = np.asarray(all_.evaluations.function)
    assert functions.min() < 0.7 * functions.max()
    spoiled = lanes(starts.at[5].set(jnp.nan))
    assert not bool(spoiled.status.success[5])
    others = np.arange(32) != 5
    np.testing.assert_array_equal(spoiled.params[others], all_.params[others])
    np.testing.assert_array_equal(spoiled.evaluations.function[others], functions[others])


def test_256_lanes_cost_what_the_slowest_does(x64):
    calls = []

    def fun(x):
        jax.debug.callback(lambda _: calls.append(1), x[0])
        return rosenbrock(x)

    starts = jnp.asarray(np.random.default_rng(1).normal(size=(256, 2)))
    lanes = jax.vmap(lambda x: jo.minimize(fun, x))(starts)
    jax.effects_barrier()
    assert 256 <= len(calls) <= 1.1 * 256 * int(lanes.evaluations.function.max())


def test_a_second_call_with_new_data_compiles_nothing(x64):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    fun = lambda x, a: jnp.sum((x - a) ** 4) + jnp.sum(x**2)  # noqa: E731
    data = [jnp.asarray(v) for v in (1.0, 2.0)]
    starts = [jnp.ones(3), jnp.full(3, 2.5)]
    for i in range(2):
        jo.minimize(fun, starts[i], jo.lbfgs(memory_size=5), args=(data[i],)).value.block_until_ready()
        if i == 0:
            assert compiled
            compiled.clear()
    jax.monitoring.clear_event_listeners()
    assert not compiled


# ---- optax's reading ------------------------------------------------------------------------------------


def iterates(lib, opt, fun, start, steps):
    value_and_grad = lib.value_and_grad_from_state(fun)

    def step(carry, _):
        params, state = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = opt.update(grad, state, params, value=value, grad=grad, value_fn=fun)
        params = lib.apply_updates(params, updates)
        return (params, state), params

    with jax.numpy_dtype_promotion("standard"):  # optax's counts are of another dtype under x64
        return jax.jit(lambda c: jax.lax.scan(step, c, None, steps))((start, opt.init(start)))[1]


SEARCHES = [
    ("scale_by_zoom_linesearch", {"max_linesearch_steps": 15}),
    ("scale_by_zoom_linesearch", {"max_linesearch_steps": 15, "initial_guess_strategy": "one", "curv_rtol": 0.1}),
    ("scale_by_zoom_linesearch", {"max_linesearch_steps": 15, "max_learning_rate": 0.5, "approx_dec_rtol": None}),
    ("scale_by_backtracking_linesearch", {"max_backtracking_steps": 30, "store_grad": True}),
]


@pytest.mark.parametrize(("name", "options"), SEARCHES)
def test_searches_follow_optaxs_step_by_step(x64, name, options):
    ours, theirs = (
        iterates(lib, lib.chain(lib.sgd(1.0), getattr(lib, name)(**options)), rosenbrock, valley(4), 30)
        for lib in (jo, optax)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def bowl(x):
    return jnp.sum(jnp.logaddexp(0.0, x)) + jnp.sum((x - 1.0) ** 4) + x[0] * x[1]


@pytest.mark.parametrize(("fun", "start"), [(rosenbrock, valley(10)), (bowl, jnp.full(5, 3.0))])
def test_lbfgs_follows_optaxs_step_by_step(x64, fun, start):
    ours, theirs = (iterates(lib, lib.lbfgs(), fun, start.astype(jnp.float64), 30) for lib in (jo, optax))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_lbfgs_of_a_tree_is_lbfgs_of_a_vector(x64):
    fun = lambda p: rosenbrock(jnp.concatenate([p["a"], p["b"].ravel()]))  # noqa: E731
    tree = {"a": valley(2), "b": valley(4).reshape(2, 2)}
    ours = iterates(jo, jo.lbfgs(), fun, tree, 20)
    vector = iterates(jo, jo.lbfgs(), rosenbrock, valley(6), 20)
    np.testing.assert_allclose(ours["b"][:, 1, 1], vector[:, -1], rtol=1e-9)


def test_an_extra_argument_goes_on_to_the_function():
    opt = jo.lbfgs()
    fun = lambda p, batch: jnp.sum((p - batch) ** 2)  # noqa: E731
    params, batch = jnp.zeros(3), jnp.arange(3.0)
    value, grad = jax.value_and_grad(fun)(params, batch)
    updates, _ = opt.update(grad, opt.init(params), params, value=value, grad=grad, value_fn=fun, batch=batch)
    assert float(fun(params + updates, batch)) < float(value)


# ---- derivatives ----------------------------------------------------------------------------------------

DATA = np.random.default_rng(7).normal(size=(12, 3))
IMPLICIT = {
    "quartic": lambda x, a: jnp.sum((x - a) ** 2) + jnp.sum(x**4),
    "ridge": lambda x, a: jnp.sum((DATA @ x - jnp.sin(a) * DATA[:, 0]) ** 2) + a * jnp.sum(x**2),
    "logistic": lambda x, a: jnp.sum(jnp.logaddexp(0.0, a * (DATA @ x))) + 0.5 * jnp.sum(x**2),
    "valley": lambda x, a: 100.0 * (x[1] - x[0] ** 2) ** 2 + (a - x[0]) ** 2 + (x[2] - a * x[1]) ** 2,
    "softplus": lambda x, a: jnp.sum(jax.nn.softplus(x)) - a * 0.2 * jnp.sum(x) + 0.1 * x @ x,
    "entropy": lambda x, a: jnp.sum(jnp.exp(x)) - a * (x @ jnp.array([1.0, 2.0, 3.0])),
    "coupled": lambda x, a: jnp.sum((x[1:] - x[:-1]) ** 2) + (x[0] - a) ** 2 + x[2] ** 4 + x[2] ** 2,
    "huber": lambda x, a: jnp.sum(jnp.sqrt(1.0 + (DATA @ x - a) ** 2)) + 0.1 * x @ x,
    "poisson": lambda x, a: jnp.sum(jnp.exp(DATA @ x)) - a * jnp.sum(DATA @ x) + x @ x,
    "cosh": lambda x, a: jnp.sum(jnp.cosh(x - a * jnp.arange(3.0))) + jnp.prod(jnp.cos(x)),
}


def end(a, name, derivative="implicit", max_steps=None):
    found = jo.minimize(IMPLICIT[name], jnp.zeros(3), args=(a,), tol=1e-12, derivative=derivative, max_steps=max_steps)
    return found.params @ jnp.array([1.0, -2.0, 3.0]) + found.value


@pytest.mark.parametrize("name", IMPLICIT)
def test_implicit_derivatives_are_difference_quotients(x64, name):
    a, d = 1.3, 1e-4
    slope = jax.grad(end)(a, name)
    np.testing.assert_allclose(slope, (end(a + d, name) - end(a - d, name)) / (2 * d), rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["logistic", "valley", "poisson"])
def test_the_ways_to_a_derivative_agree(x64, name):
    slope = jax.grad(end)(1.3, name)
    np.testing.assert_allclose(jax.jvp(lambda a: end(a, name), (1.3,), (1.0,))[1], slope, rtol=1e-9)
    np.testing.assert_allclose(jax.grad(end)(1.3, name, "implicit-cg"), slope, rtol=1e-8)
    np.testing.assert_allclose(jax.grad(end)(1.3, name, "unrolled", 100), slope, rtol=1e-5)


def test_conjugate_residuals_are_for_symmetric_systems():
    refused = pytest.raises(jo.errors.HyperparameterError, match=r'"implicit-cg" is for symmetric systems')
    with refused:
        jo.root(lambda x: x**2 - 2, 1.0, derivative="implicit-cg")
    fun, start = lambda x: jnp.sum((x - 1.0) ** 2), jnp.zeros(2)
    with refused:
        jo.minimize(fun, start, jo.interior_point(), bounds=(0.0, 0.5), derivative="implicit-cg")
    with refused:
        jo.minimize(fun, start, jo.projected_gradient(jo.projections.projection_non_negative), derivative="implicit-cg")


def test_second_derivatives_and_what_the_function_closes_over(x64):
    best = lambda a: jo.minimize(lambda x: jnp.sum((x - a) ** 2) + jnp.sum(x**4), jnp.zeros(2)).params[0]  # noqa: E731
    # x + 2 x**3 = a
    x = float(best(3.0))
    first, second = 1 / (1 + 6 * x**2), -12 * x / (1 + 6 * x**2) ** 3
    np.testing.assert_allclose(jax.grad(best)(3.0), first, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(jax.grad(best))(3.0), second, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(best)))(jnp.array([3.0, 3.0])), first, rtol=1e-6)


def in_a_box(x, a):
    return jnp.sum((x["a"] - a) ** 2) + 0.3 * x["a"][0] * x["b"] + (x["b"] + 1) ** 2 + 0.1 * x["a"][2] ** 4


BOXED = {
    "lbfgsb": (jo.lbfgsb(), "implicit", 1e-12), "by products": (jo.lbfgsb(), "implicit-cg", 1e-12),
    "interior_point": (jo.interior_point(), "implicit", 1e-11),
}  # fmt: skip


@pytest.mark.parametrize("name", BOXED)
def test_what_a_bound_holds_moves_with_it(x64, name):
    """Trees of bounds, of both sides, one that does not hold, and one on a side alone."""
    method, derivative, tol = BOXED[name]

    def found(v):
        upper = {"a": v[3] * jnp.array([2.0, 1.0, 1.0]), "b": None}
        bounds = ({"a": jnp.stack([v[0], v[1], v[0] - 9]), "b": v[2]}, upper)
        start = {"a": jnp.full(3, 0.5), "b": jnp.full((), 0.7)}
        s = jo.minimize(
            in_a_box, start, method, args=(jnp.array([0.3, -2.0, 3.0]),), bounds=bounds, tol=tol, derivative=derivative
        )  # fmt: skip
        held = [] if s.multipliers is None else [s.multipliers.lower["a"], s.multipliers.upper["a"]]
        return jnp.concatenate([s.params["a"], s.params["b"][None], s.value[None], *held])

    forward, reverse, differences = quick.slopes(found, jnp.array([0.1, 0.2, 0.25, 1.0]))
    np.testing.assert_allclose(forward[:5], differences[:5], atol=1e-6)
    np.testing.assert_allclose(reverse[:5], differences[:5], atol=1e-6)
    np.testing.assert_allclose(forward[5:], differences[5:], atol=1e-5)
    np.testing.assert_allclose(forward[2], [0, 0, 0, 1], atol=1e-9)


def test_a_bound_in_single_precision_and_twice():
    def value(u):
        fun = lambda x: jnp.sum((x - jnp.array([0.3, 2.0])) ** 2)  # noqa: E731
        found = jo.minimize(fun, jnp.full(2, 0.5), jo.lbfgsb(), bounds=(0.0, u))
        return found.value, found.params

    (slope, x), (curvature, d) = quick.jit(lambda u: jax.jvp(jax.grad(value, has_aux=True), (u,), (1.0,)))(1.0)
    np.testing.assert_allclose([slope, *x, curvature, *d], [-2, 0.3, 1, 2, 0, 1], rtol=1e-5, atol=1e-6)


SINGULAR = {
    "a sum": (lambda x, a: (x[0] + x[1] - a) ** 2, lambda x: jnp.array([0.5, 0.5])),
    "a product": (lambda x, a: (x[0] * x[1] - a) ** 2, lambda x: x[::-1] / jnp.sum(x * x)),
    "one of no account": (lambda x, a: jnp.exp(x[0] - a) - x[0] + 0 * x[1], lambda x: jnp.array([1.0, 0])),
    "units": (
        lambda x, a: 1e12 * (x[0] - 1e-6 * a) ** 2 + (x[1] - a) ** 2, lambda x: jnp.array([1e-6, 1.0]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize("way", ["implicit", "implicit-cg"])
def test_where_the_hessian_is_singular_the_derivative_is_the_shortest(precise, way):
    with jax.enable_x64(precise):
        cases = list(SINGULAR.values())[: 4 if precise else 3]
        functions = [f for f, _ in cases]

        def found(a, k):
            fun = lambda x, a: jax.lax.switch(k, functions, x, a)  # noqa: E731
            return jo.minimize(fun, jnp.array([1.0, 3.0]), args=(a,), derivative=way).params

        def both(a, k):
            x, push = jax.linearize(lambda a: jax.vmap(found, (0, None))(a, k), a)
            return x, push(jnp.ones_like(a)), jax.linear_transpose(push, a)(jnp.ones_like(x))[0]

        compiled = quick.jit(both)
        rough = {"rtol": 1e-5, "atol": 1e-7} if precise else {"rtol": 5e-3, "atol": 2e-3}
        for k, (_, slope) in enumerate(cases):
            x, forward, reverse = compiled(jnp.array([2.0, 1.5]), k)
            right = jnp.stack([slope(each) for each in x])
            np.testing.assert_allclose(forward, right, **rough)
            np.testing.assert_allclose(reverse, jnp.sum(right, 1), **rough)


def test_what_is_no_array_among_the_args_is_a_constant(x64):
    def fun(x, kind, a, power):
        assert kind in ("plain", "double") and power is jnp.square
        return jnp.sum(power(x - a["b"] * (2 if kind == "double" else 1)))

    end = lambda b, kind: jo.minimize(fun, jnp.zeros(2), args=(kind, {"b": b}, jnp.square)).params[0]  # noqa: E731
    got = [end(3.0, "plain"), end(3.0, "double"), jax.grad(end)(3.0, "double")]
    np.testing.assert_allclose(got, [3, 6, 2], atol=1e-6)
    fit = jo.least_squares(lambda x, kind, b: x - b if kind == "plain" else x, jnp.zeros(2), args=("plain", 2.0))
    zero = jo.root(lambda x, b, kinds: x - b * len(kinds), jnp.zeros(2), args=(2.0, ["v", "w"]))
    np.testing.assert_allclose(np.stack([fit.params, zero.params]), [[2, 2], [4, 4]], atol=1e-9)


# ---- errors ---------------------------------------------------------------------------------------------


def test_what_is_refused():
    x = jnp.ones(3)
    with pytest.raises(jo.errors.TreeError, match=r"one number.*float32\[3\].*least_squares"):
        jo.minimize(lambda x: x**2, x)
    with pytest.raises(jo.errors.TreeError, match=r"real floating-point number.*complex64\[\]"):
        jo.minimize(lambda x: jax.lax.complex(jnp.sum(x), jnp.sum(x)), x)
    with pytest.raises(jo.errors.TreeError, match=r"must return \(value, aux\)"):
        jo.minimize(lambda x: jnp.sum(x**2), x, has_aux=True)
    with pytest.raises(jo.errors.TransformationError, match="Call it first: bfgs"):
        jo.minimize(lambda x: jnp.sum(x**2), x, jo.bfgs)
    with pytest.raises(jo.errors.TransformationError, match="comma"):
        jo.minimize(lambda x, a: jnp.sum(x**2), x, args=jnp.ones(3))
    with pytest.raises(jo.errors.TransformationError, match="fun must be a function"):
        jo.minimize(3.0, x)
    with pytest.raises(jo.errors.HyperparameterError, match="derivative must be one of"):
        jo.minimize(lambda x: jnp.sum(x**2), x, derivative="exact")
    with pytest.raises(jo.errors.HyperparameterError, match="max_steps"):
        jo.minimize(lambda x: jnp.sum(x**2), x, derivative="unrolled")
    search = jo.scale_by_zoom_linesearch(10)
    with pytest.raises(jo.errors.MissingArgumentError, match="value_fn is missing"):
        search.update(x, search.init(x), x)
    with pytest.raises(jo.errors.MissingArgumentError, match="value is missing"):
        search.update(x, search.init(x), x, value_fn=jnp.sum)
    with pytest.raises(jo.errors.HyperparameterError, match="memory_size must be an integer of at least 1"):
        jo.lbfgs(memory_size=0)
    with pytest.raises(jo.errors.HyperparameterError, match="beta must be one of"):
        jo.nonlinear_cg("fletcher")
    with pytest.raises(jo.errors.StateError, match="one line search"):
        jo.value_and_grad_from_state(jnp.sum)(x, state=jo.adam(0.1).init(x))
    with pytest.raises(jo.errors.TransformationError, match=r"scale_by_.*_linesearch"):
        jo.descent(jo.sgd(1.0), jo.adam(0.1))
    with pytest.raises(jo.errors.HyperparameterError, match="max_steps must be an integer of at least 0"):
        jo.minimize(rosenbrock, valley(2), max_steps=-1)
    with pytest.raises(jo.errors.HyperparameterError, match="minimize: tol must be"):
        jo.minimize(rosenbrock, valley(2), tol=-1.0)
    opt = jo.scale_by_lbfgs()
    with pytest.raises(jo.errors.StateError, match=r"3 elements in all.*gradients of 4"):
        opt.update(jnp.ones(4), opt.init(x), jnp.ones(4))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"params": jnp.arange(3)},
            r"minimize: the params leaf \(root\) is not a floating-point array. .*Write 1.0 for 1",
        ),
        ({"params": {"a": "x"}}, r"minimize: the params leaf \['a'\] is not an array or a number. Got a str"),
        ({"equality": lambda p: p}, r"minimize: lbfgs: it takes no equality constraints"),
        ({"fun": lambda p: p}, r"minimize: lbfgs: the function to minimize must return one number"),
        ({"method": jo.levenberg_marquardt()}, r"minimize: levenberg_marquardt: residual_fn is missing"),
    ],
)
def test_what_is_wrong_is_said_by_minimize_to_its_user(given, words):
    with pytest.raises((TypeError, ValueError), match=f"^{words}") as caught:
        jo.minimize(**{"fun": lambda p: jnp.sum(p**2), "params": jnp.ones(2), **given})
    assert "masked" not in str(caught.value)
