"""L-BFGS-B against scipy's and against dense algebra; boxes, lanes, failures, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from data import mgh_problems

import jaxopt_ko as jo
from jaxopt_ko.errors import HyperparameterError, MissingArgumentError, TreeError
from jaxopt_ko.solvers.engine.compact_bfgs import LBFGSBMemory, direction, products, remember, renewed
from jaxopt_ko.solvers.lbfgsb import lbfgsb
from jaxopt_ko.solvers.problem.bounds import box
from jaxopt_ko.types import Code

INF = np.inf


def run(x, value_fn, bounds=None, method=None, steps=2000, **words):
    """The end and the state of a run, as a driver makes it."""
    method = lbfgsb() if method is None else method
    words |= {"value_fn": value_fn, "bounds": bounds}

    def step(carry):
        x, state = carry
        updates, state = method.update(jax.tree.map(jnp.zeros_like, x), state, x, **words)
        return jo.apply_updates(x, updates), state

    def goes_on(carry):
        state = carry[1]
        return (state.info.status.code == np.int32(Code.RUNNING)) & (state.count < steps)

    return jax.jit(lambda x: jax.lax.while_loop(goes_on, step, (x, method.init(x, **words))))(x)


def history(x, value_fn, bounds, steps, **words):
    """The end, and of every update: the step, the parameters after it, the info."""
    method = lbfgsb()
    words |= {"value_fn": value_fn, "bounds": bounds}

    def step(carry, _):
        x, state = carry
        updates, state = method.update(jax.tree.map(jnp.zeros_like, x), state, x, **words)
        x = jo.apply_updates(x, updates)
        return (x, state), (updates, x, state.info)

    return jax.jit(lambda x: jax.lax.scan(step, (x, method.init(x, **words)), None, steps))(x)


def code(state):
    return Code(int(state.info.status.code))


# ---- problems ---------------------------------------------------------------------------------------------


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def hs38(x):
    a = 100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2 + 90.0 * (x[3] - x[2] ** 2) ** 2 + (1.0 - x[2]) ** 2
    return a + 10.1 * ((x[1] - 1.0) ** 2 + (x[3] - 1.0) ** 2) + 19.8 * (x[1] - 1.0) * (x[3] - 1.0)


def hs5(x):
    return jnp.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1.0


def hs25(x):
    i = np.arange(1, 100)
    u = 25.0 + (-50.0 * np.log(0.01 * i)) ** (2 / 3)
    base = jnp.maximum(u - x[1], 1e-300)  # 0 at a corner of the box
    return jnp.sum((-0.01 * i + jnp.exp(-(base ** x[2]) / x[0])) ** 2)


def hs110(x):
    return jnp.sum(jnp.log(x - 2.0) ** 2 + jnp.log(10.0 - x) ** 2) - jnp.prod(x) ** 0.2


# name: f, start, lower, upper, minimum. Hock & Schittkowski 1981; hs25 not from its own start, where f is flat
PROBLEMS = {
    "hs1": (rosenbrock, [-2.0, 1.0], [-INF, -1.5], [INF, INF], 0.0),
    "hs2": (rosenbrock, [-2.0, 1.0], [-INF, 1.5], [INF, INF], 4.9412293180),  # a local minimum; scipy ends there, too
    "hs3": (lambda x: x[1] + 1e-5 * (x[1] - x[0]) ** 2, [10.0, 1.0], [-INF, 0.0], [INF, INF], 0.0),
    "hs4": (lambda x: (x[0] + 1.0) ** 3 / 3.0 + x[1], [1.125, 0.125], [1.0, 0.0], [INF, INF], 8 / 3),
    "hs5": (hs5, [0.0, 0.0], [-1.5, -3.0], [4.0, 3.0], -(3**0.5) / 2 - np.pi / 3),
    "hs25": (hs25, [60.0, 20.0, 2.0], [0.1, 0.0, 0.0], [100.0, 25.6, 5.0], 0.0),
    "hs38": (hs38, [-3.0, -1.0, -3.0, -1.0], [-10.0] * 4, [10.0] * 4, 0.0),
    "hs45": (lambda x: 2.0 - jnp.prod(x) / 120.0, [2.0] * 5, [0.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], 1.0),
    "hs110": (hs110, [9.0] * 10, [2.001] * 10, [9.999] * 10, -45.77846971),
    "rosenbrock2": (rosenbrock, [-1.2, 1.0], [-1.5, -0.5], [0.5, 2.0], 0.25),
    "rosenbrock10": (rosenbrock, [-1.2, 1.0] * 5, [-1.0] * 10, [0.5, 2.0] * 5, None),
    "rosenbrock10 far": (rosenbrock, [3.0] * 10, [0.2, 1.1] * 5, [INF] * 10, None),
}
BOXES = sorted(PROBLEMS)
# Powell's badly scaled function is where scipy's gives up: its Hessian's eigenvalues are 1e-5 and 2e9
UNBOUNDED = ["bard", "beale", "helical_valley", "kowalik_osborne", "penalty1_4", "powell_badly_scaled", "rosenbrock"]
for name in UNBOUNDED:
    mgh = mgh_problems.BY_NAME[name]
    f = lambda x, r=mgh["r"]: jnp.sum(r(x, jnp) ** 2)  # noqa: E731
    PROBLEMS[name] = (f, list(mgh["x0"]), [-INF] * mgh["n"], [INF] * mgh["n"], mgh["fopt"])
NAMES = sorted(PROBLEMS)


def chosen(x, k):
    """The k-th problem, of the first elements of x: one program for all of them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        branches = [
            functools.partial(lambda f, n, x: f(x[:n]), PROBLEMS[name][0], len(PROBLEMS[name][1])) for name in NAMES
        ]
        return jax.lax.switch(k, branches, x)


run_one = jax.jit(lambda x, bounds, k: run(x, chosen, bounds, k=k))
evaluate_one = jax.jit(jax.value_and_grad(chosen))


@functools.cache
def solved(name):
    """Our end and state, and scipy's result; the elements that the problem has not are fixed."""
    _, start, lower, upper, _ = PROBLEMS[name]
    n, k = len(start), np.int32(NAMES.index(name))
    start, lower, upper = (np.pad(np.array(v, float), (0, 10 - n)) for v in (start, lower, upper))
    x, state = run_one(jnp.asarray(start), (jnp.asarray(lower), jnp.asarray(upper)), k)

    def both(x):
        value, grad = evaluate_one(jnp.asarray(x), k)
        return float(value), np.asarray(grad, float)

    options = {"maxcor": 10, "gtol": 1.5e-8, "ftol": 2.3e-16, "maxiter": 5000, "maxfun": 5000}
    bounds, start = scipy.optimize.Bounds(lower, upper), np.clip(start, lower, upper)
    other = scipy.optimize.minimize(both, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    assert np.all(x[n:] == 0) and np.all(x >= lower) and np.all(x <= upper)
    return np.asarray(x)[:n], state, other


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", BOXES)
def test_box_problems_end_where_scipy_ends(name):
    minimum = PROBLEMS[name][-1]
    x, state, other = solved(name)
    assert bool(state.info.status.success), code(state).sentence
    np.testing.assert_allclose(x, other.x[: len(x)], rtol=1e-6, atol=1e-6)
    assert float(state.info.value) <= other.fun + 1e-10 * max(1.0, abs(other.fun))
    if minimum is not None:
        np.testing.assert_allclose(state.info.value, minimum, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", UNBOUNDED)
def test_without_bounds_it_is_a_quasi_newton_method(name):
    best = PROBLEMS[name][-1]
    _, state, _ = solved(name)
    assert bool(state.info.status.success), code(state).sentence
    assert abs(float(state.info.value) - best) <= 1e-6 * max(abs(best), 1e-4)


@pytest.mark.parametrize("names", [BOXES, UNBOUNDED], ids=["boxes", "unbounded"])
def test_evaluations_are_no_more_than_scipys(x64, names):
    runs = [solved(name)[1:] for name in names]
    ours, scipys = np.array([(int(state.info.evaluations.function), other.nfev) for state, other in runs]).T
    assert np.median(ours) <= np.median(scipys), (ours, scipys)
    assert np.median(ours / scipys) <= 1.0, (ours, scipys)


def quadratic(x, H, b):
    return 0.5 * x @ (H @ x) - b @ x


def test_quadratics_with_many_active_bounds(x64):
    n = 20
    solve = jax.jit(lambda x, H, b, lower, upper: run(x, quadratic, (lower, upper), H=H, b=b))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
        H, b = Q @ np.diag(np.logspace(0, seed, n)) @ Q.T, 10 ** (seed / 2) * rng.normal(size=n)
        lower, upper = -rng.random(n), rng.random(n)
        x, state = solve(jnp.zeros(n), *map(jnp.asarray, (H, b, lower, upper)))
        assert bool(state.info.status.success)
        g = H @ np.asarray(x) - b
        kind = np.where(x == lower, -1, np.where(x == upper, 1, 0))
        assert np.sum(kind != 0) >= 3  # bounds that hold, exactly
        assert np.all(g[kind < 0] >= -1e-6) and np.all(g[kind > 0] <= 1e-6)
        free = kind == 0
        exact = np.linalg.solve(H[np.ix_(free, free)], (b - H[:, ~free] @ np.asarray(x)[~free])[free])
        np.testing.assert_allclose(np.asarray(x)[free], exact, rtol=1e-6, atol=1e-7)


# ---- the model, against dense matrices --------------------------------------------------------------------


def dense(memory):
    """B, by BFGS updates of theta I with one pair after the other."""
    S, Y, stored = map(np.asarray, memory)
    m = len(S)
    rows = [r % m for r in range(max(0, stored - m), stored)]
    theta = Y[rows[-1]] @ Y[rows[-1]]
    B = theta * np.eye(S.shape[1])
    for r in rows:
        s, y = S[r], Y[r]
        B = B - np.outer(B @ s, B @ s) / (s @ B @ s) + np.outer(y, y) / (y @ s)
    return B


def some_memory(n, m, pairs, seed):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    H = A @ A.T + np.eye(n)
    memory = LBFGSBMemory(jnp.zeros((m, n)), jnp.zeros((m, n)), jnp.int32(0))
    keep = jax.jit(remember)
    for _ in range(pairs):
        s = rng.normal(size=n)
        memory = keep(memory, jnp.asarray(s), jnp.asarray(H @ s))
    return memory, rng


@pytest.mark.parametrize(("pairs", "n"), [(1, 6), (3, 6), (7, 6), (3, 150)])  # 150: more bends than one segment has
def test_the_direction_is_that_of_the_dense_model(x64, pairs, n):
    m = 4
    find = jax.jit(direction)
    hit = 0
    for seed in range(12 if n == 6 else 3):
        memory, rng = some_memory(n, m, pairs, seed)
        assert int(memory.stored) == pairs
        B = dense(memory)
        x, g = rng.uniform(0.0, 1.0, n), (5.0 if n == 6 else 500.0) * rng.normal(size=n)
        if seed % 3 == 0:
            x[:2] = [0.0, 1.0]  # on its bounds
        lower, upper = np.zeros(n), np.ones(n)

        # Cauchy point: walk along P(x - t g) from one bend to the next
        with np.errstate(divide="ignore"):
            bends = np.where(g < 0, (x - upper) / g, (x - lower) / g)
        t, point = 0.0, x
        for bend in [*sorted(set(bends[bends > 0])), np.inf]:
            d = np.where(bends > t, -g, 0.0)
            slope, curvature = g @ d + d @ B @ (point - x), d @ B @ d
            if slope >= 0:
                break
            if t - slope / curvature < bend:
                point, t = point - slope / curvature * d, t - slope / curvature
                break
            point, t = point + (bend - t) * d, bend
        cauchy = np.clip(point, lower, upper)
        free = bends > t
        z = cauchy - x
        rest = g + B @ np.where(free, 0.0, z)
        best = cauchy.copy()
        best[free] = x[free] - np.linalg.solve(B[np.ix_(free, free)], rest[free])
        expected = np.clip(best, lower, upper) - x
        if g @ expected >= 0:
            room = [
                (b - c) / d
                for b, c, d in zip(np.where(best > cauchy, upper, lower), cauchy, best - cauchy, strict=True)
                if d
            ]
            a = min([1.0, *room])
            expected = cauchy + a * (best - cauchy) - x
        p = find(memory, *map(jnp.asarray, (x, g, lower, upper)))
        np.testing.assert_allclose(p, expected, rtol=1e-8, atol=1e-10)
        hit += np.sum(~free)
    assert hit > 2 * n


def test_the_products_of_the_memory_are_kept_and_a_box_without_walls_is_none(x64):
    memory, rng = some_memory(70, 4, 3, 0)
    s = jnp.asarray(rng.normal(size=70))
    G, row = products(memory), memory.stored % np.int32(4)
    memory = remember(memory, s, 2 * s)
    np.testing.assert_allclose(renewed(G, memory, row), products(memory), rtol=1e-12, atol=1e-12)
    x, g = jnp.zeros(70), jnp.asarray(rng.normal(size=70))
    free = direction(memory, x, g, x - INF, x + INF, products(memory), walls=False)
    np.testing.assert_allclose(free, -np.linalg.solve(dense(memory), np.asarray(g)), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(free, direction(memory, x, g, x - INF, x + INF), rtol=1e-12, atol=1e-14)


def test_a_pair_without_curvature_stays_out(x64):
    memory = LBFGSBMemory(jnp.zeros((3, 2)), jnp.zeros((3, 2)), jnp.int32(0))
    s = jnp.array([1e-3, 0.0])
    for y, enters in (([-1.0, 0.0], 0), ([0.0, 1.0], 0), ([1e-11, 1.0], 0), ([0.0, 0.0], 0), ([1e-9, 1.0], 1)):
        assert int(remember(memory, s, jnp.array(y)).stored) == enters, y


# ---- the box ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_no_evaluation_outside_the_box(x64, dtype):
    """Numbers for which x + (lower - x) rounds to less than lower; at the bound 0 the function is infinite."""
    seen = []
    weights = jnp.array([1.0, 2.0, 3.0, -1.0, 0.5, 1.0], dtype)
    lower, upper = np.array([0.1, 0.0, 0.7, 0.1, 1e-3, 0.3], dtype), np.array([7.7, 0.9, 1.3, 0.7, 2.1, 0.3], dtype)

    def f(x):
        jax.debug.callback(lambda *x: seen.append(max(map(float, x))), jnp.max(lower - x), jnp.max(x - upper))
        return weights @ (x - 0.3 * jnp.log(x)) + 10.0 * (x[0] - x[3]) ** 2

    solve = jax.jit(lambda x: run(x, f, (lower, upper)))
    for start in ([1.0, 0.9, 1.1, 1 / 3, 2.0, 0.3], [1e4, 9.0, -1e4, 5.0, 1.0, 7.0]):
        x, state = solve(jnp.array(start, dtype))
        jax.effects_barrier()
        assert bool(state.info.status.success), code(state)
        assert np.all(x >= lower) and np.all(x <= upper)
        assert len(seen) == int(state.info.evaluations.function) and max(seen) <= 0
        seen.clear()
    np.testing.assert_allclose(x[1], 0.3, rtol=1e-3)  # inside
    ends = jnp.array([2, 3, 5])
    np.testing.assert_array_equal(x[ends], [lower[2], upper[3], lower[5]])  # at the bounds


def test_an_infinite_trial_is_a_rejection(x64):
    (x, _), (steps, _, info) = history(jnp.array([1.0, 0.5]), lambda x: jnp.sum(x - 1e-3 * jnp.log(x)), (0.0, 1.0), 60)
    np.testing.assert_allclose(x, 1e-3, rtol=1e-5)
    assert not bool(info.accepted[0]) and not np.any(steps[0])


@functools.cache
def rosenbrock_history():
    return jax.jit(lambda x, lower, upper: history(x, rosenbrock, (lower, upper), 60))


def test_steps_stay_in_the_box_never_go_uphill_and_are_zero_when_rejected():
    lower, upper = jnp.array([-1.0, -1.0, 0.3]), jnp.array([0.3, 2.0, 0.9])
    start = jnp.array([-1.0, 1.0, 0.7])
    (end, state), (steps, at, info) = rosenbrock_history()(start, lower, upper)
    accepted = np.asarray(info.accepted)
    assert accepted.any() and not accepted.all()
    assert np.all((np.abs(steps).max(1) > 0) == accepted)
    assert np.all(np.asarray(at) >= np.asarray(lower)) and np.all(np.asarray(at) <= np.asarray(upper))
    assert np.all(np.diff(info.value) <= 1e-5 * np.abs(info.value[1:]))
    assert int(state.info.evaluations.function) == 61
    looped, state_of_loop = run(start, rosenbrock, (lower, upper))
    np.testing.assert_allclose(looped, end, rtol=1e-6)
    assert int(state_of_loop.count) == int(np.argmax(info.status.code != int(Code.RUNNING))) + 1


def test_after_its_end_an_update_changes_nothing():
    go = rosenbrock_history()
    (_, state), (steps, _, info) = go(jnp.array([jnp.inf, 1.0, 1.0]), jnp.full(3, -jnp.inf), jnp.full(3, jnp.inf))
    assert code(state) == Code.NOT_FINITE and not np.any(steps) and not np.any(info.accepted)
    (end, state), (steps, at, _) = go(
        jnp.array([4.0, 3.0, 5.0]), jnp.array([-1.0, 3.0, 9.0]), jnp.array([4.0, 4.0, 9.0])
    )
    assert code(state) == Code.GRADIENT_SMALL and not np.any(steps[-20:])
    assert end.tolist() == at[-20].tolist() and end[1:].tolist() == [3.0, 9.0]


def test_a_start_at_the_solution_outside_the_box_is_moved_into_it():
    x, state = run(jnp.array([5.0, -7.0]), lambda x: jnp.sum((x - jnp.array([9.0, -9.0])) ** 2), (-1.0, 1.0))
    assert x.tolist() == [1.0, -1.0] and code(state) == Code.GRADIENT_SMALL and int(state.count) == 1


def test_trees_prefixes_bfloat16_and_aux():
    params = {"a": jnp.full((2, 2), 0.5), "b": (jnp.full(3, 0.3, jnp.bfloat16), None), "c": jnp.array(4.0)}
    bounds = {"a": None, "b": 0.1, "c": np.float32(1.5)}, {"a": np.array([[0.7, 1.0], [9.0, 9.0]]), "b": 0.7, "c": None}

    def f(p, *, target):
        b = p["b"][0].astype(jnp.float32)
        value = jnp.sum((p["a"] - target) ** 2) + jnp.sum((b - jnp.array([-1.0, 0.4, 2.0])) ** 2) + p["c"] ** 2
        return value, {"c": p["c"], "b": b}

    x, state = run(params, f, bounds, has_aux=True, target=2.0)
    np.testing.assert_allclose(x["a"], [[0.7, 1.0], [2.0, 2.0]], rtol=1e-3)
    assert x["b"][0].dtype == jnp.bfloat16
    b = x["b"][0].astype(jnp.float32)
    assert np.float32(jnp.bfloat16(0.1)) <= b[0] <= 0.102 and 0.69 <= b[2] <= np.float32(jnp.bfloat16(0.7))
    np.testing.assert_allclose(b[1], 0.4, rtol=1e-2)
    assert float(x["c"]) == 1.5 == float(state.here.aux["c"])
    np.testing.assert_array_equal(state.here.aux["b"], x["b"][0].astype(jnp.float32))


def test_the_order_of_a_box_is_that_of_the_vector():
    params = {"b": jnp.zeros((2, 1)), "a": [jnp.zeros(()), None]}
    lower, upper = box("me", params, ({"b": np.array([[1], [2]]), "a": None}, 5))
    assert lower.tolist() == [-INF, 1.0, 2.0] and upper.tolist() == [5.0, 5.0, 5.0]


# ---- lanes, failures, precision ---------------------------------------------------------------------------


def test_lanes_have_boxes_of_their_own_and_fail_by_themselves(x64):
    def solve(start, lower, upper):
        return run(start, rosenbrock, (lower, upper))

    start = jnp.array([[-1.2, 1.0], [-1.2, 1.0], [jnp.nan, 1.0], [-1.2, 1.0], [3.0, -4.0]])
    lower = jnp.array([-1.5, -2.0, -2.0, 1.0, -INF])
    upper = jnp.array([0.5, 2.0, 2.0, -1.0, INF])
    x, state = jax.jit(jax.vmap(solve))(start, lower, upper)
    np.testing.assert_allclose(x[0], [0.5, 0.25], rtol=1e-7)
    np.testing.assert_allclose(x[jnp.array([1, 4])], 1.0, rtol=1e-7)
    codes = [Code(int(c)) for c in state.info.status.code]
    assert codes == [Code.GRADIENT_SMALL] * 2 + [Code.NOT_FINITE] * 2 + [Code.GRADIENT_SMALL]
    assert int(state.count[2]) == 0 and np.isnan(x[2, 0]) and x[3].tolist() == [-1.2, 1.0]
    alone = jax.jit(solve)
    for lane in (0, 1, 4):
        end, one = alone(start[lane], lower[lane], upper[lane])
        np.testing.assert_allclose(x[lane], end, rtol=1e-7)
        assert abs(int(one.count) - int(state.count[lane])) <= 1  # batched sums round otherwise


def test_a_gradient_that_lies_is_a_failed_search(x64):
    @jax.custom_jvp
    def f(x):
        return jnp.sum((x - 0.3) ** 2)

    f.defjvp(lambda x, dx: (f(*x), -jnp.sum(2.0 * (x[0] - 0.3) * dx[0])))
    x, state = run(jnp.array([0.5, 0.6]), f, (0.0, 1.0))
    assert code(state) == Code.SEARCH_FAILED and x.tolist() == [0.5, 0.6] and int(state.count) <= 20


def test_negative_curvature_is_left_out_and_the_steps_go_down(x64):
    (x, state), (_, _, info) = history(jnp.array([0.1, -0.2]), lambda x: jnp.sum(jnp.cos(x)), (-2.0, 2.0), 30)
    assert x.tolist() == [2.0, -2.0] and int(state.skipped) >= 1 and np.all(np.diff(info.value) <= 1e-12)


def test_a_slope_without_end_is_gone_down_in_few_trials(x64):
    x, state = run(jnp.array([0.0, 0.0]), lambda x: x[0] - x[1], (-1e6, 1e6))
    assert x.tolist() == [-1e6, 1e6] and code(state) == Code.GRADIENT_SMALL and int(state.count) <= 20


def test_single_precision_reaches_its_digits():
    for name, rtol in (("hs5", 1e-3), ("rosenbrock10 far", 1e-3)):
        f, start, lower, upper, _ = PROBLEMS[name]
        x, state = run(jnp.array(start), f, (np.array(lower), np.array(upper)))
        assert x.dtype == jnp.float32 == state.info.value.dtype and bool(state.info.status.success), code(state)
        with jax.enable_x64(True):
            exact, _, _ = solved(name)
        np.testing.assert_allclose(x, exact, rtol=rtol)


def test_the_tolerance_can_be_given_and_traced(x64):
    bounds = np.array([-2.0, -2.0]), np.array([2.0, 2.0])
    solve = jax.jit(lambda tol: run(jnp.array([-1.2, 1.0]), rosenbrock, bounds, tol=tol)[1])
    loose, tight = solve(1e-1), solve(1e-11)
    assert float(tight.info.optimality) <= 1e-11 and int(loose.count) < int(tight.count)
    assert 1e-11 < float(loose.info.optimality) <= 0.1 * max(1.0, float(loose.info.value))


def test_it_unrolls_in_reverse_mode(x64):
    bounds = jnp.array([-2.0, 0.8, -2.0]), jnp.array([0.5, 2.0, 2.0])

    @jax.jit
    def end(weight):
        f = lambda x: jnp.sum((1.0 - x) ** 2) + weight * jnp.sum((x[1:] - x[:-1] ** 2) ** 2)  # noqa: E731
        (x, _), _ = history(jnp.array([-1.0, 1.0, 0.3]), f, bounds, 25)
        return x[2]

    quotient = (end(10.0 + 1e-6) - end(10.0 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(end)(10.0), quotient, rtol=1e-6)


def test_what_is_refused():
    params, f = {"w": jnp.zeros(2), "b": jnp.zeros(())}, lambda p: jnp.sum(p["w"] ** 2)
    method = lbfgsb()
    with pytest.raises(MissingArgumentError, match="value_fn is missing"):
        method.init(params)
    for bounds, message in (
        (1.0, r"lbfgsb: bounds must be a pair \(lower, upper\)"),
        (({"w": np.array([0.0, 2.0]), "b": None}, 1.0), r"the leaf \['w'\] leave no room. Got lower 2.0, upper 1.0"),
        ((None, {"w": 1.0, "b": np.nan}), r"the upper bound of the leaf \['b'\] is NaN"),
        ((INF, None), "leave no room"),
        (({"w": 0.0}, None), "the lower bounds must be .* a tree like the parameters"),
        ((None, {"w": np.zeros((2, 1)), "b": None}), r"leaf \['w'\] must have shape \(\) or \(2,\)"),
        (("low", None), "must be a real number"),
    ):
        with pytest.raises(TreeError, match=message):
            method.init(params, value_fn=f, bounds=bounds)
    with pytest.raises(HyperparameterError, match="memory_size"):
        lbfgsb(memory_size=0)
    with pytest.raises(HyperparameterError, match="gtol"):
        lbfgsb(gtol=-1.0)


def test_aux_is_that_of_the_solution(x64):
    fun = lambda x: (jnp.sum((x - 3.0) ** 2), {"where": 2.0 * x})  # noqa: E731
    solution = jo.minimize(fun, jnp.zeros(2), jo.lbfgsb(), bounds=(None, 2.0), has_aux=True)
    np.testing.assert_array_equal(solution.aux["where"], 4.0)


@pytest.mark.parametrize("bound", [-0.5, -0.51, -0.6, -0.655, -0.9])
def test_a_first_step_that_ends_at_a_bound_is_not_the_last(x64, bound):
    """The first step goes past the minimum to the bound, from where the gradient points inward."""
    for sign in (1.0, -1.0):
        box = (jnp.full(2, bound), None) if sign > 0 else (None, jnp.full(2, -bound))
        found = jo.minimize(lambda x, s=sign: jnp.sum((x + s * 0.5) ** 2), jnp.zeros(2), jo.lbfgsb(), bounds=box)
        assert found.status.success
        np.testing.assert_allclose(found.params, -sign * 0.5, atol=1e-7)
