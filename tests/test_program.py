"""Linear and quadratic programs: published optima, certificates, batches, derivatives, degenerate cases, errors."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from data import mps

import jaxopt_ko as jo
from jaxopt_ko.solvers.quadratic import quadratic_interior_point
from jaxopt_ko.types import Code

PUBLISHED = [(which, name) for which in ("netlib", "maros") for name in mps.known(which)]
LARGEST = {  # which -> parameters, equations, inequalities to which all are filled up: one compilation for all
    "netlib": (264, 140, 214),
    "maros": (204, 92, 216),
}


def code(solution):
    return Code(int(solution.status.code))


def filled(program, n, m, k):
    """The same program with fixed parameters, empty equations and rows that are none, up to these sizes."""

    def vector(v, size, value=0.0):
        return np.concatenate([v, np.full(size - v.size, value)])

    def matrix(M, rows):
        return np.pad(M, ((0, rows - M.shape[0]), (0, n - M.shape[1])))

    Q = None if program.Q is None else matrix(program.Q, n)
    bounds = {"lower": vector(program.lower, n), "upper": vector(program.upper, n)}
    return program._replace(
        Q=Q, c=vector(program.c, n), A=matrix(program.A, m), b=vector(program.b, m),
        G=matrix(program.G, k), h=vector(program.h, k, np.inf), **bounds,
    )  # fmt: skip


def solve(program, **words):
    if program.Q is None:
        return jo.linear_program(program.c, **program.words(), **words)
    return jo.quadratic_program(program.Q, program.c, **program.words(), **words)


@pytest.mark.parametrize(("which", "name"), PUBLISHED, ids="-".join)
def test_published_optima_and_infeasible_problems(x64, which, name):
    program, expected = mps.load(which, name), mps.known(which)[name]
    solution = solve(filled(program, *LARGEST[which]))
    assert bool(jnp.all(jnp.isfinite(solution.params)))
    if "status" in expected:
        assert code(solution) == Code.INFEASIBLE
        return
    assert solution.status.success and int(solution.steps) <= 25
    optimum = expected["optimal_objective"]
    np.testing.assert_allclose(
        program.objective(solution.value), optimum, rtol=1e-6, atol=1e-7 if optimum < 1e-6 else 0
    )
    x = solution.params[: program.c.size]
    assert bool(jnp.all((x >= program.lower) & (x <= program.upper)))


def problem(seed, n=8, equations=2, rows=10, lower=-np.inf):
    """A random quadratic program with a point inside: (Q, c), and the words."""
    rng = np.random.default_rng(seed)
    half, inside = rng.normal(size=(n, n)), rng.uniform(-0.3, 0.3, size=n)
    A, G = rng.normal(size=(equations, n)), rng.normal(size=(rows, n))
    words = {"A": A, "b": A @ inside, "G": G, "h": G @ inside + rng.uniform(size=rows)}
    return (half @ half.T / n + 0.01 * np.eye(n), rng.normal(size=n)), words


def test_a_small_published_one_of_each_kind(x64):
    for which, name in (("netlib", "afiro"), ("maros", "HS118"), ("netlib", "infeas_itest2")):
        program, expected = mps.load(which, name), mps.known(which)[name]
        solution = solve(program)
        if "status" in expected:
            assert code(solution) == Code.INFEASIBLE
        else:
            assert solution.status.success
            np.testing.assert_allclose(program.objective(solution.value), expected["optimal_objective"], rtol=1e-6)


def test_a_batch_meets_the_conditions_and_one_infeasible_lane_leaves_the_others_alone(x64):
    data = [problem(seed, 20, 5, 40) for seed in range(6)]
    (Q, c), words = jax.tree.map(lambda *leaves: np.stack(leaves), *data)
    run = jax.jit(jax.vmap(lambda Q, c, words: jo.quadratic_program(Q, c, **words, bounds=(-5.0, 5.0))))
    solution = run(Q, c, words)
    assert bool(jnp.all(solution.status.success)) and len(set(solution.steps.tolist())) > 1
    for residual in solution.kkt:
        assert float(jnp.max(residual)) <= 1e-8
    x, (y, z, low, high) = solution.params, solution.multipliers
    slope = jnp.einsum("bij,bj->bi", Q, x) + c + jnp.einsum("bji,bj->bi", words["A"], y)
    slope = slope + jnp.einsum("bji,bj->bi", words["G"], z) - low + high
    assert float(jnp.max(jnp.abs(slope))) <= 1e-8
    assert all(float(jnp.min(multiplier)) >= 0 for multiplier in (z, low, high))
    one = jo.quadratic_program(Q[2], c[2], **{k: v[2] for k, v in words.items()}, bounds=(-5.0, 5.0))
    np.testing.assert_allclose(one.params, x[2], atol=1e-8)

    words["G"][1, 1], words["h"][1, :2] = -words["G"][1, 0], [-1.0, -1.0]
    spoilt = run(Q, c, words)
    assert Code(int(spoilt.status.code[1])) == Code.INFEASIBLE
    others = np.array([0, 2, 3, 4, 5])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[others], b[others]), solution, spoilt)


DEGENERATE = [  # what it is, the problem (c of two parameters), its solution or why there is none
    ("no constraints", {"Q": np.diag([1.0, 2.0]), "c": [-1.0, 2.0]}, [1.0, -1.0]),
    ("only equalities", {"Q": np.eye(2), "A": [[1.0, 1.0]], "b": [2.0]}, [1.0, 1.0]),
    ("dependent equalities", {"Q": np.eye(2), "A": [[1.0, 1.0], [2.0, 2.0]], "b": [2.0, 4.0]}, [1.0, 1.0]),
    ("a row twice", {"c": [-1.0, -1.0], "G": [[1.0, 2.0], [1.0, 2.0]], "h": [2.0, 2.0], "low": 0.0, "high": 1.0},
     [1.0, 0.5]),
    ("an empty interior", {"c": [1.0, 3.0], "G": [[1.0, 1.0], [-1.0, -1.0]], "h": [1.0, -1.0], "low": 0.0}, [1.0, 0.0]),
    ("one point feasible", {"c": [-1.0, -2.0], "G": [[1.0, 1.0]], "h": [0.0], "low": 0.0}, [0.0, 0.0]),
    ("one point by equalities", {"c": [1.0, -1.0], "A": [[1.0, 1.0], [1.0, -1.0]], "b": [3.0, 1.0]}, [2.0, 1.0]),
    ("a fixed parameter", {"Q": np.ones((2, 2)) + np.eye(2), "low": [2.0, -9.0], "high": [2.0, 9.0]}, [2.0, -1.0]),
    ("all fixed", {"c": [1.0, -1.0], "low": [2.0, 3.0], "high": [2.0, 3.0], "G": [[1.0, 1.0]], "h": [6.0]}, [2.0, 3.0]),
    ("a row that is none", {"Q": np.eye(2), "G": [[-1.0, 0.0], [1.0, 1.0]], "h": [-1.0, np.inf]}, [1.0, 0.0]),
    ("no objective", {"A": [[1.0, 0.0], [0.0, 1.0]], "b": [1.0, 2.0], "low": 0.0}, [1.0, 2.0]),
    ("huge numbers", {"c": [1e6, 2e6], "A": [[1e3, 1e3]], "b": [1e9], "low": 0.0}, [1e6, 0.0]),
    ("unbounded", {"c": [-1.0, 0.0], "low": 0.0}, Code.UNBOUNDED),
    ("unbounded along a row", {"c": [-1.0, -1.0], "G": [[1.0, -1.0]], "h": [1.0]}, Code.UNBOUNDED),
    ("unbounded where Q is flat", {"Q": np.diag([1.0, 0.0]), "c": [0.0, 1.0]}, Code.UNBOUNDED),
    ("infeasible rows", {"c": [1.0, 0.0], "G": [[1.0, 0.0], [-1.0, 0.0]], "h": [1.0, -2.0]}, Code.INFEASIBLE),
    ("infeasible equalities", {"Q": np.eye(2), "A": [[1.0, 1.0], [1.0, 1.0]], "b": [1.0, 2.0]}, Code.INFEASIBLE),
    ("an empty equation", {"c": [1.0, 0.0], "A": [[0.0, 0.0]], "b": [1.0], "low": 0.0, "high": 1.0}, Code.INFEASIBLE),
    ("fixed against a row", {"G": [[1.0, 0.0]], "h": [1.0], "low": 2.0, "high": 2.0}, Code.INFEASIBLE),
    ("bounds crossed", {"c": [1.0, 1.0], "low": [0.0, 2.0], "high": 1.0}, Code.INFEASIBLE),
    ("not a number", {"Q": np.eye(2), "c": [0.0, np.nan]}, Code.NOT_FINITE),
    ("a bound that is none", {"Q": np.eye(2), "low": np.nan}, Code.NOT_FINITE),
    ("not convex", {"Q": np.diag([1.0, -1.0]), "low": -1.0, "high": 1.0}, Code.STUCK),
]  # fmt: skip


def test_degenerate_problems_have_the_right_status_and_no_nan(x64):
    def lane(words):
        low, high = (np.broadcast_to(words.get(side, none), 2) for side, none in (("low", -np.inf), ("high", np.inf)))
        A, G = (np.asarray(words.get(name, np.zeros((0, 2)))) for name in "AG")
        b, h = (np.asarray(words.get(name, np.zeros(0))) for name in "bh")
        Q, c = words.get("Q", np.zeros((2, 2))), np.asarray(words.get("c", [0.0, 0.0]))
        return filled(mps.Program("", Q, c, A, b, G, h, low, high, 0.0, 1.0, ()), 3, 2, 2)

    lanes = [lane(words) for _, words, _ in DEGENERATE]
    data = [np.stack([getattr(p, name) for p in lanes]) for name in ("Q", "c", "A", "b", "G", "h", "lower", "upper")]
    run = jax.vmap(lambda Q, c, A, b, G, h, *bounds: jo.quadratic_program(Q, c, A=A, b=b, G=G, h=h, bounds=bounds))
    solution = run(*data)
    assert bool(jnp.all(jnp.isfinite(solution.params)))
    codes = [Code(int(c)) for c in solution.status.code]
    got = {name: code for (name, _, _), code in zip(DEGENERATE, codes, strict=True)}
    assert got == {
        name: Code.GRADIENT_SMALL if isinstance(expected, list) else expected for name, _, expected in DEGENERATE
    }
    for i, (name, _, expected) in enumerate(DEGENERATE):
        if isinstance(expected, list):
            size = max(1.0, np.max(np.abs(expected)))
            np.testing.assert_allclose(
                solution.params[i, :2] / size, np.divide(expected, size), atol=2e-7, err_msg=name
            )


def test_parts_that_are_left_out(x64):
    free = jo.quadratic_program(np.diag([1.0, 2.0]), [-1, 2])
    np.testing.assert_allclose(free.params, [1.0, -1.0], atol=1e-8)
    assert free.status.success and max(map(float, free.kkt)) <= 1e-8 and free.multipliers.equality.shape == (0,)
    fixed = jo.linear_program([1.0, -1.0], bounds=([2.0, 3.0], [2.0, 3.0]))
    assert fixed.status.success
    np.testing.assert_array_equal(fixed.params, [2.0, 3.0])
    np.testing.assert_allclose([fixed.multipliers.lower, fixed.multipliers.upper], [[1, 0], [0, 1]], atol=1e-12)


def test_a_budget_that_is_spent(x64):
    short = jo.linear_program(jnp.ones(2), bounds=(0.0, 1.0), max_steps=2)
    assert code(short) == Code.BUDGET_SPENT and int(short.steps) == 2


def test_a_pair_runs_in_a_scan_and_changes_nothing_after_its_end(x64):
    (Q, c), words = problem(3)
    method, words = quadratic_interior_point(), {"Q": Q, "c": c, **words}

    def step(carry, _):
        x, state = carry
        updates, state = method.update(jnp.zeros_like(x), state, x, **words)
        return (x + updates, state), (state.info.status.code, updates)

    x = jnp.zeros(8)
    (x, state), (codes, updates) = jax.jit(lambda x: jax.lax.scan(step, (x, method.init(x, **words)), None, 25))(x)
    driven = jo.quadratic_program(Q, c, **{k: words[k] for k in "AbGh"})
    assert int(codes[-1]) == Code.GRADIENT_SMALL and int(jnp.sum(codes == 0)) == int(driven.steps) - 1
    assert bool(jnp.all(updates[int(driven.steps) :] == 0))
    np.testing.assert_allclose(x, driven.params, atol=1e-12)
    np.testing.assert_allclose(state.best, x, atol=1e-12)


def test_trees_and_single_precision():
    c = {"a": jnp.array([-1.0, -2.0]), "b": jnp.array([[1.0], [0.5]])}
    upper = {"a": jnp.array([1.0, 0.25]), "b": None}
    solution = jo.linear_program(c, G=np.ones((1, 4), np.float32), h=np.ones(1, np.float32), bounds=(0.0, upper))
    assert solution.status.success and solution.params["b"].shape == (2, 1)
    assert solution.params["a"].dtype == jnp.float32
    np.testing.assert_allclose(solution.params["a"], [0.75, 0.25], atol=1e-3)
    np.testing.assert_allclose(solution.params["b"], 0, atol=1e-3)
    assert jax.tree.structure(solution.multipliers.lower) == jax.tree.structure(c)
    (Q, c), words = problem(5, 20, 5, 30)
    single = jo.quadratic_program(Q, c, **words)
    with jax.enable_x64(True):
        double = jo.quadratic_program(Q, c, **words)
    assert single.status.success and double.status.success and single.params.dtype == jnp.float32
    np.testing.assert_allclose(single.value, double.value, rtol=1e-3)


def test_derivatives_agree_with_finite_differences(x64):
    (Q, c), words = problem(7, 5, 1, 6)
    data = {"Q": Q, "c": c, **words, "bounds": (np.full(5, -0.4), np.full(5, 0.5))}
    x = jo.quadratic_program(**data, tol=1e-12)
    active = jnp.concatenate([x.multipliers.inequality, x.multipliers.lower, x.multipliers.upper]) > 1e-3
    assert int(jnp.sum(active[:6])) >= 1 and int(jnp.sum(active[6:])) >= 1

    def outcome(data):
        solution = jo.quadratic_program(**data, tol=1e-12)
        m = solution.multipliers
        return jnp.concatenate([solution.params, solution.value[None], m.equality, m.inequality, m.lower])

    flat, unravel = jax.flatten_util.ravel_pytree(data)
    forward, reverse, expected = quick.slopes(lambda v: outcome(unravel(v)), flat)
    np.testing.assert_allclose(forward, expected, atol=1e-5)
    np.testing.assert_allclose(reverse, expected, atol=1e-5)


def test_derivatives_of_a_failed_run_and_of_dependent_rows_are_numbers(x64):
    def point(b):
        A = jnp.array([[1.0, 1.0], [2.0, 2.0]])
        return jo.quadratic_program(jnp.eye(2), jnp.zeros(2), A=A, b=jnp.stack([b, 2 * b])).params

    np.testing.assert_allclose(quick.jit(jax.grad(lambda b: point(b)[0]))(1.0), 0.5, rtol=1e-6)

    def infeasible(c):
        return jo.linear_program(c, G=np.array([[1.0], [-1.0]]), h=np.array([1.0, -2.0])).params

    np.testing.assert_array_equal(quick.jit(jax.jacrev(infeasible))(jnp.ones(1)), [[0.0]])


@pytest.mark.parametrize("precise", [True, False])
def test_a_linear_program_with_many_solutions_has_the_shortest_derivative(precise):
    """The edge x0 + x1 = b of solutions, a face of them, and all points."""
    with jax.enable_x64(precise):

        def found(c, b):
            return jo.linear_program(c, A=jnp.ones((1, 3)), b=b[None], bounds=(0.0, None)).params

        c = jnp.array([[-0.2, -0.2, 0.1], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0], [3.0, 1.0, 2.0]])
        by_c, by_b = jax.jit(jax.vmap(jax.jacrev(found, argnums=(0, 1))))(c, jnp.ones(4))
        np.testing.assert_allclose(by_c, 0, atol=1e-6)
        third = [1 / 3, 1 / 3, 1 / 3]
        np.testing.assert_allclose(by_b, [[0.5, 0.5, 0], third, third, [0, 1, 0]], atol=1e-6)


def test_a_linear_program_has_the_derivatives_of_its_vertex(x64):
    G, h = np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([4.0, 6.0])

    def vertex(h, c):
        solution = jo.linear_program(c, G=G, h=h, bounds=(0.0, None))
        return jnp.append(solution.params, solution.value)

    c = np.array([-1.0, -1.0])
    by_h, by_c = quick.jit(lambda h, c: (jax.jacrev(vertex)(h, c), jax.jacfwd(vertex, 1)(h, c)))(h, c)
    np.testing.assert_allclose(by_h, np.vstack([np.linalg.inv(G), c @ np.linalg.inv(G)]), atol=1e-6)
    np.testing.assert_allclose(by_c[:2], 0, atol=1e-6)


def control(stages, seed=0):
    """Quadratic costs of steering 3 numbers by 1, bounded, along a line of stages: parameters (u_t, x_t+1) in turn."""
    rng = np.random.default_rng(seed)
    A, B, start = rng.normal(size=(3, 3)), rng.normal(size=(3, 1)), 3 * rng.normal(size=3)
    A *= 1.05 / np.max(np.abs(np.linalg.eigvals(A)))
    E = np.kron(np.eye(stages), np.hstack([-B, np.eye(3)])) - np.kron(
        np.eye(stages, k=-1), np.hstack([np.zeros((3, 1)), A])
    )
    e = np.concatenate([A @ start, np.zeros(3 * (stages - 1))])
    upper = np.tile([1.0, 20.0, 20.0, 20.0], stages)
    return np.diag(np.tile([0.1, 1, 1, 1], stages)), np.zeros(4 * stages), {"A": E, "b": e, "bounds": (-upper, upper)}


def test_a_band_changes_the_work_and_not_the_solution(x64):
    Q, c, words = control(11)
    words |= {"G": np.pad(np.eye(4)[1:2], ((0, 0), (8, 32))), "h": np.array([0.5])}  # the third state's first number
    dense, banded = (jo.quadratic_program(Q, c, **words, bandwidth=width) for width in (None, 7))
    assert code(banded) == Code.GRADIENT_SMALL and int(banded.steps) <= int(dense.steps) + 1
    np.testing.assert_allclose(banded.params, dense.params, atol=1e-8)
    for ours, theirs in zip(banded.multipliers, dense.multipliers, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    nowhere = words | {"bounds": (np.full(44, -0.01), np.full(44, 0.01))}  # of one shape: the same program
    assert code(jo.quadratic_program(Q, c, **nowhere, bandwidth=7)) == Code.INFEASIBLE
    assert code(jo.linear_program(c - 1, **words, bandwidth=7)) == Code.GRADIENT_SMALL
    with pytest.raises(jo.errors.HyperparameterError, match=r"bandwidth must cover A\. Got 3, and A needs 6"):
        jo.quadratic_program(Q, c, **words, bandwidth=3)


def test_new_numbers_compile_nothing(x64):
    compiled = []

    def listen(event, *_, **__):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    (Q, c), words = problem(0)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.block_until_ready(jo.quadratic_program(Q, c, tol=1e-8, max_steps=150, **words))
        assert compiled
        compiled.clear()
        (Q, c), words = problem(1)
        jax.block_until_ready(jo.quadratic_program(Q, c, tol=1e-7, max_steps=140, **words))
        assert not compiled
    finally:
        jax.monitoring.clear_event_listeners()


def test_what_is_refused():
    Q, c, A = np.eye(2), np.ones(2), np.ones((1, 2))
    with pytest.raises(jo.errors.MissingArgumentError, match="Q is missing"):
        jo.quadratic_program(None, c)
    with pytest.raises(jo.errors.MissingArgumentError, match=r"b is missing.*A x = b"):
        jo.quadratic_program(Q, c, A=A)
    with pytest.raises(jo.errors.MissingArgumentError, match="G is missing"):
        jo.linear_program(c, h=np.ones(1))
    with pytest.raises(jo.errors.TreeError, match=r"Q must be a symmetric matrix float\[2,2\]"):
        jo.quadratic_program(np.eye(3), c)
    with pytest.raises(jo.errors.TreeError, match="A must be a matrix with a column for each of 2"):
        jo.linear_program(c, A=np.ones((1, 3)), b=np.ones(1))
    with pytest.raises(jo.errors.TreeError, match="h must have one number for each of the 1 rows"):
        jo.linear_program(c, G=A, h=np.ones(2))
    with pytest.raises(jo.errors.TreeError, match="leave no room"):
        jo.linear_program(c, bounds=(1.0, np.array([2.0, 0.0])))
    with pytest.raises(jo.errors.HyperparameterError, match=r"positive semidefinite.*eigenvalue -1"):
        jo.quadratic_program(np.diag([1.0, -1.0]), c)
    with pytest.raises(jo.errors.HyperparameterError, match="tol"):
        quadratic_interior_point(tol=-1.0)
    with pytest.raises(jo.errors.MissingArgumentError, match="c is missing"):
        quadratic_interior_point().init(jnp.ones(2))


FREE = """* a comment
NAME free
OBJSENSE
    MAX
ROWS
 N cost
 N other
 E e1
 L l1
 G g1
 E e2
COLUMNS
 x cost 1 e1 1
 x l1 2 other 5
 y cost 2 g1 1
 y e2 3
 z e1 -1 l1 1
RHS
 rhs e1 4 l1 10
 rhs g1 1 cost -7
RANGES
 r e1 2 l1 3
 r g1 4 e2 -1
BOUNDS
 UP b x -1
 MI b y
 BV b z
QUADOBJ
 x x 2
 x y 1
ENDATA
"""


def test_the_reader_of_mps_files():
    program = mps.read(FREE)
    assert program.sign == -1 and program.constant == 7 and program.columns == ("x", "y", "z")
    np.testing.assert_array_equal(program.c, [-1, -2, 0])
    np.testing.assert_array_equal(program.Q, [[-2, -1, 0], [-1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(program.lower, [-np.inf, -np.inf, 0])
    np.testing.assert_array_equal(program.upper, [-1, np.inf, 1])
    assert program.A.shape == (0, 3)
    rows = {tuple(row): right for row, right in zip(program.G.tolist(), program.h.tolist(), strict=True)}
    assert rows == {
        (1, 0, -1): 6, (-1, 0, 1): -4, (2, 0, 1): 10, (-2, 0, -1): -7,
        (0, 1, 0): 5, (0, -1, 0): -1, (0, 3, 0): 0, (0, -3, 0): 1,
    }  # fmt: skip
    fixed = "NAME\nROWS\n N  COST\n E  ROW 1\nCOLUMNS\n    COL 1     COST               1.0   ROW 1              2.0\n"
    fixed += "RHS\n    RHS       ROW 1              4.0\nENDATA\n"
    program = mps.read(fixed)
    assert program.columns == ("COL 1",)
    np.testing.assert_array_equal([program.A[0, 0], program.b[0], program.c[0]], [2, 4, 1])


def test_random_programs_take_as_few_steps_as_the_corrector_saves(x64):
    """261 of 32 programs; with a wrong sign in the corrector of tau kappa they are 277."""
    rng = np.random.default_rng(0)
    A, c, G = rng.normal(size=(32, 6, 6)), rng.normal(size=(32, 6)), rng.normal(size=(32, 12, 6))
    h = rng.uniform(0.1, 1, size=(32, 12))
    solve = quick.jit(jax.vmap(lambda Q, c, G, h: jo.quadratic_program(Q, c, G=G, h=h)))
    solutions = solve(A @ A.transpose(0, 2, 1), c, G, h)
    assert bool(jnp.all(solutions.status.success)) and int(jnp.sum(solutions.steps)) <= 266
