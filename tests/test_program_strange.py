"""Programs as strangers give them: sizes far apart, bounds that stand for none, sparse matrices of all kinds; and the
certificates of those that have no solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
import scipy.sparse
from jax.experimental import sparse
from test_program import code

import jaxopt_ko as jo
from jaxopt_ko.types import Code

A, G = np.array([[1.0, 1.0, 1.0]]), np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])


@pytest.fixture(scope="module")
def solve():
    """A program of three parameters, compiled once: Q, c, b, h, lower, upper -> its solution."""
    with jax.enable_x64(True):

        def run(Q, c, b, h, lower, upper):
            given = (jnp.asarray(v, float) for v in (Q, c, b, h))
            sides = (jnp.broadcast_to(jnp.asarray(side, float), 3) for side in (lower, upper))
            return compiled(*given, *sides)

        compiled = quick.jit(lambda Q, c, b, h, *bounds: jo.quadratic_program(Q, c, A=A, b=b, G=G, h=h, bounds=bounds))
        yield run


def held(c, b, h, lower, upper, proof):
    """By how much a combination of rows misses A'y + G'z - low + high = 0, and its right-hand side."""
    y, z, low, high = proof.multipliers
    assert all(bool(jnp.all(m >= 0)) for m in (z, low, high))
    sides = [jnp.where(jnp.isinf(side), 0, side) for side in (lower, upper)]
    return float(jnp.max(jnp.abs(A.T @ y + G.T @ z - low + high))), b @ y + h @ z - sides[0] @ low + sides[1] @ high


def test_a_certificate_tells_why_there_is_no_solution(x64, solve):
    b, h, none = np.array([3.0]), np.array([0.0, 1.0]), np.zeros(3)
    inside = (np.full(3, -1.0), np.full(3, 0.5))
    found = solve(np.eye(3), none, b, h, *inside)
    assert code(found) == Code.INFEASIBLE and isinstance(found.aux, jo.Certificate)
    missed, right = held(none, b, h, *inside, found.aux)
    assert missed <= 1e-8 and float(right) == pytest.approx(-1)
    np.testing.assert_array_equal(found.aux.ray, none)
    c = np.array([0.0, 1.0, 1.0])
    found = solve(np.diag([1.0, 0.0, 0.0]), -c, b, h + 10.0, np.array([0.0, -np.inf, -np.inf]), np.inf)
    assert code(found) == Code.GRADIENT_SMALL  # its rows hold it
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found.aux))
    c = np.array([0.0, 1.0, 2.0])
    found = solve(np.diag([1.0, 0.0, 0.0]), -c, b, np.array([np.inf, 1.0]), -np.inf, np.inf)
    r = found.aux.ray
    assert code(found) == Code.UNBOUNDED and float(-c @ r) == pytest.approx(-1)
    np.testing.assert_allclose([r[0], *(A @ r), np.maximum(G[1] @ r, 0)], 0, atol=1e-8)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found.aux.multipliers))


def test_a_certificate_of_blocks_is_in_the_order_that_was_given(x64):
    n = 96
    order = np.random.default_rng(0).permutation(n)
    rows = (np.eye(n) - np.eye(n, k=1))[:-1][:, order]  # each at least one more than the next, in a room of 90
    found = jo.linear_program(np.zeros(n), G=-rows, h=-np.ones(n - 1), bounds=(0.0, 90.0))
    _, z, low, high = found.aux.multipliers
    assert code(found) == Code.INFEASIBLE and float(-jnp.sum(z) + 90.0 * jnp.sum(high)) == pytest.approx(-1)
    np.testing.assert_allclose(-rows.T @ z - low + high, 0, atol=1e-8)
    assert int(jnp.argmax(low)) in (int(np.argmax(order == 0)), int(np.argmax(order == n - 1)))


@pytest.mark.parametrize("size", [1e-9, 1e6, 1e10])
def test_large_right_hand_sides_are_no_contradiction(x64, solve, size):
    c, h = np.array([1.0, 0.0, -1.0]), np.full(2, np.inf)
    found = solve(np.eye(3), c, [size], h, -np.inf, np.inf)
    assert found.status.success
    np.testing.assert_allclose(found.params, size / 3 - c, atol=1e-8 * max(size, 1.0))


@pytest.mark.parametrize("small", [1e-6, 1e-9])
def test_small_rows_are_no_certificate(x64, solve, small):
    """With A y and G r small as A and G are, not as their terms cancel, there is nothing to be sure of."""
    h = np.array([1.0, 1.0])
    run = quick.jit(lambda A, b, G, h: jo.linear_program([-1.0, -1.0], A=A, b=b, G=G, h=h, bounds=(0.0, None)))
    A, G = np.array([[1.0, -1.0]]), np.array([[1.0, 0.0], [0.0, 2.0]])
    found = run(small * A, np.array([1e4]), small * G, np.array([3e4, 1e4]))
    assert found.status.success
    np.testing.assert_allclose(small * found.params, [1.5e4, 5e3], rtol=1e-6)
    found = run(A, 0.0 * h[:1], small * G, small * h)
    assert found.status.success
    np.testing.assert_allclose(found.params, 0.5, rtol=1e-5)
    none = run(A, 0.0 * h[:1], -small * G, small * h)
    assert code(none) == Code.UNBOUNDED and float(jnp.sum(none.aux.ray)) == pytest.approx(1)
    none = run(small * A, 1e4 * h[:1], small * G, 5e3 * h)
    assert code(none) == Code.INFEASIBLE


def test_linear_programs_far_from_0_are_solved(x64, solve):
    found = solve(np.zeros((3, 3)), [1.0, 2.0, 3.0], [1e10], np.array([1.0, np.inf]), 0.0, np.inf)
    np.testing.assert_allclose(found.params, [5e9, 5e9, 0.0], atol=10.0)  # to 1e-9
    assert found.status.success


def test_a_gap_over_a_value_that_falls_as_fast_is_no_standstill(x64):
    """Rows far away make the start poor: its value falls from 1e11, and the relative gap stays near 3 for long."""
    rng = np.random.default_rng(0)
    E, x, F = rng.normal(size=(4, 12)), rng.uniform(0, 1, 12), rng.normal(size=(8, 12))
    h, c, half = F @ x + 0.1, rng.normal(size=12), rng.normal(size=(12, 12))
    run = quick.jit(lambda far: jo.quadratic_program(
        half @ half.T, c, A=E, b=E @ x, G=np.concatenate([F, F]), h=jnp.concatenate([h, far])
    ))  # fmt: skip
    far, none = run(jnp.full(8, 1e6)), run(jnp.full(8, jnp.inf))
    assert far.status.success and int(far.steps) <= 30
    np.testing.assert_allclose(far.value, none.value, rtol=1e-8)


@pytest.mark.parametrize("far", [1e6, 1e9, 1e20, 1e30])
def test_bounds_far_away_loosen_nothing(x64, solve, far):
    c, h = np.array([1.0, 2.0, 3.0]), np.array([far, 0.5])
    found = solve(np.diag([0.0, 1.0, 0.0]), c, [1.0], h, 0.0, far)
    near = solve(np.diag([0.0, 1.0, 0.0]), c, [1.0], np.array([np.inf, 0.5]), 0.0, np.inf)
    assert found.status.success and near.status.success
    np.testing.assert_allclose(A @ found.params, 1.0, atol=1e-7)
    np.testing.assert_allclose(found.value, near.value, rtol=1e-7)
    if far >= 1e20:
        np.testing.assert_array_equal(found.params, near.params)


def test_sparse_matrices_of_every_kind_count_alike():
    c, b, h = np.array([1.0, 0.0, -1.0]), np.ones(1), np.zeros(2)
    places = np.array([[2, 2], [0, 0], [1, 1], [0, 0], [3, 0], [2, 3]])  # without order, one twice, two outside
    scattered = sparse.BCOO((np.array([1.0, 0.25, 1.0, 0.75, 9.0, 9.0]), places), shape=(3, 3))
    kinds = [
        (np.eye(3), A, G),
        (scattered, sparse.BCOO.fromdense(A, nse=5), sparse.BCSR.fromdense(jnp.asarray(G))),
        (scipy.sparse.eye(3), scipy.sparse.csc_array(A), scipy.sparse.dia_matrix(G)),
    ]
    found = [jo.quadratic_program(Q, c, A=E, b=b, G=F, h=h).params for Q, E, F in kinds]
    np.testing.assert_allclose(found[1:], [found[0]] * 2, atol=1e-6)


def test_programs_without_parameters_or_rows_have_solutions():
    nothing = jo.quadratic_program(np.zeros((0, 0)), np.zeros(0))
    assert nothing.status.success and float(nothing.value) == 0.0
    one = jo.linear_program(1.0, A=np.zeros((0, 1)), b=np.zeros(0), bounds=(0.0, None))
    assert one.status.success and float(one.params) == pytest.approx(0.0, abs=1e-3)
