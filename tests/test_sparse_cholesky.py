"""Sparse factors beside dense ones and scipy's: every order, both signs, loops and batches, vmap, derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from jax.experimental import sparse

from jaxopt_ko.errors import TreeError
from jaxopt_ko.linalg import ordering, sparse_indefinite, symbolic
from jaxopt_ko.linalg.sparse_cholesky import analyze, factorize, multiply, solve

RANDOM = np.random.default_rng(0)
ROWLESS = np.zeros(0, np.int32)


def chain(n):
    return sp.diags([-np.ones(n - 1), np.full(n, 2.5)], [-1, 0])


def grid(m):
    line = sp.diags([-np.ones(m - 1), np.full(m, 4.2), -np.ones(m - 1)], [-1, 0, 1])
    side = sp.diags([-np.ones(m - 1)] * 2, [-1, 1])
    K = sp.tril(sp.kron(sp.eye(m), line) + sp.kron(side, sp.eye(m)), format="csr")
    K.eliminate_zeros()
    return K


def arrow(n):
    """A dense last row, as a camera that sees every point."""
    K = sp.lil_matrix(sp.diags([np.full(n, 3.0)], [0]))
    K[-1, :] = 1.0
    K[-1, -1] = 2.0 * n
    return sp.tril(K)


def quasidefinite(n, m):
    A = sp.random(m, n, 0.2, random_state=3)
    K = sp.bmat([[sp.diags([np.linspace(1, 2, n)], [0]), A.T], [A, sp.diags([np.full(m, -0.1)], [0])]])
    return sp.tril(K), np.r_[np.ones(n), -np.ones(m)]


def dense(K):
    lower = np.asarray(K.todense())
    return lower + np.tril(lower, -1).T


def solved(K, signs=None, ordering=None):
    K = K.tocoo()
    plan = analyze((K.row, K.col, K.shape[0]), signs=signs, ordering=ordering)
    b = RANDOM.normal(size=(K.shape[0], 2))

    @jax.jit
    def both(values, b):
        factor = factorize(plan, values)
        return solve(factor, b), factor.finite

    with jax.enable_x64(True):
        x, finite = both(jnp.asarray(K.data), jnp.asarray(b))
    assert finite
    np.testing.assert_allclose(dense(K) @ np.asarray(x), b, atol=1e-11)
    return plan


@pytest.mark.parametrize("order", symbolic.ORDERINGS)
def test_solves_by_every_order(order):
    assert solved(chain(60), ordering=order).ordering == order


@pytest.mark.parametrize("name", ["grid", "arrow", "quasidefinite", "empty rows"])
def test_solves(name):
    K, signs = {
        "grid": (grid(9), None),
        "arrow": (arrow(30), None),
        "quasidefinite": quasidefinite(20, 9),
        "empty rows": (sp.block_diag([chain(5), sp.eye(3)]), None),
    }[name]
    solved(K, signs)


def saddle(n, m, seed=0):
    """[H A'; A 0] with H of any signs; some of it zero on the diagonal."""
    rng = np.random.default_rng(seed)
    H = sp.random(n, n, 0.1, random_state=seed) + sp.diags([np.where(np.arange(n) % 3, rng.normal(size=n), 0)], [0])
    A = sp.random(m, n, 0.2, random_state=seed + 1) + sp.eye(m, n)
    return sp.tril(sp.bmat([[H + H.T, A.T], [A, None]])).tocoo()


@pytest.mark.parametrize("shape", [(20, 9), (60, 40)])
def test_signs_that_depend_on_the_values(shape):
    K = saddle(*shape)
    plan = solved(K, signs="any")
    with jax.enable_x64(True):
        factor = factorize(plan, jnp.asarray(K.data))
    assert int(factor.negative) == np.sum(np.linalg.eigvalsh(dense(K)) < 0) and int(factor.lost) == 0


def test_signs_of_each_lane_and_what_is_lost(x64):
    plan = analyze(np.ones((3, 3)), signs="any")
    lanes = np.array([[2.0, 0, 0, 0, -1, 0, 0, 0, 3], [0, 1, 0, 1, 0, 0, 0, 0, -3], [1, 1, 0, 1, 1, 0, 0, 0, 1]])

    def counts(v):
        factor = factorize(plan, v)
        return factor.negative, factor.lost

    negative, lost = jax.vmap(counts)(jnp.asarray(lanes))
    assert negative.tolist()[:2] == [1, 2] and lost.tolist() == [0, 0, 1]


def test_constraints_that_depend_on_each_other_are_told_by_no_sign(x64):
    """Two equal rows A: the matrix is singular, and what is consistent is solved."""
    K = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]])
    plan = analyze(K != 0, signs="any")
    factor = factorize(plan, jnp.asarray(K[K != 0]))
    x = solve(factor, jnp.array([1.0, 2, 5, 5]))
    assert int(factor.negative) == 2
    np.testing.assert_allclose(x[:2], [2, 3], atol=1e-6)


@pytest.mark.parametrize("b", [7, 8])
def test_many_blocks_by_pairs_of_pivots(x64, b):
    least = float(np.finfo(float).eps) ** sparse_indefinite.LOST
    A = RANDOM.normal(size=(3, 20, b, b))
    A[:, :10, 3:, 3:] = 0.0  # zero pivots, tied to the first three
    A[:, :10, 6:, 6:] = -1.0 * np.eye(b - 6)
    A = A + A.swapaxes(2, 3)
    A[:, 0, :3, :3] = [[1, 1, 1], [1, 1, -1], [1, -1, 1]]  # its determinants of two rows are 0
    A[:, 0, 3:, :3], A[:, 0, :3, 3:], A[:, 0, 3:, 3:] = 0.0, 0.0, np.eye(b - 3)
    A[1, 14, 1], A[1, 14, :, 1] = A[1, 14, 0], A[1, 14, :, 0]
    A[1, 14, 1, 1] = A[1, 14, 0, 0]  # row 1 is row 0: a pivot is lost
    A[2, 5] = np.nan
    of = jax.jit(lambda A: sparse_indefinite._pivots(jnp.tril(A), least))
    together = jax.vmap(of)(A)
    X, negative = sparse_indefinite._by_pairs(jnp.asarray(A[0, 1:]))
    np.testing.assert_allclose(A[0, 1:] @ X, np.broadcast_to(np.eye(b), X.shape), atol=1e-8)
    assert int(negative) == np.sum(np.linalg.eigvalsh(A[0, 1:]) < 0)
    for k, lane in enumerate(A):
        X, negative, lost = of(lane)
        np.testing.assert_allclose(together[0][k], X, rtol=1e-6, atol=1e-6 * np.nanmax(np.abs(X)))
        assert (int(negative), int(lost)) == (int(together[1][k]), int(together[2][k]))
        if k < 2:
            values = np.linalg.eigvalsh(lane)
            assert int(lost) == k == np.sum(np.abs(values) < least)
            assert k or int(negative) == np.sum(values < 0)  # the sign of what is lost is that of rounding
        assert bool(jnp.all(jnp.isfinite(X))) == (k < 2)


def test_derivatives_where_signs_are_any(x64):
    K = saddle(6, 3)
    plan, v, b = analyze((K.row, K.col, 9), signs="any"), jnp.asarray(K.data), jnp.asarray(RANDOM.normal(size=9))
    ours = jax.jacrev(lambda v: solve(factorize(plan, v), b))(v)

    def plain(v):
        lower = jnp.zeros((9, 9)).at[K.row, K.col].add(v)
        return jnp.linalg.solve(lower + jnp.tril(lower, -1).T, b)

    np.testing.assert_allclose(ours, jax.jacrev(plain)(v), rtol=1e-8, atol=1e-8)


def test_a_band_is_a_loop_over_blocks():
    plan = solved(chain(400), ordering="cuthill_mckee")
    (batch,) = plan.symbolic.batches
    assert len(batch.offset) > 5 and plan.stored < 400 * 60


def test_minimum_degree_fills_less_than_the_natural_order():
    """Arrow with the dense row first: the natural order fills everything."""
    K = arrow(40).tocoo()
    K = sp.coo_matrix((K.data, (39 - K.row, 39 - K.col)), (40, 40))
    members, graph = symbolic.compressed(40, K.row.astype(np.int32), K.col.astype(np.int32))
    order = ordering.minimum_degree(graph, [len(rows) for rows in members])
    hub = max(range(len(graph)), key=lambda v: len(graph[v]))
    assert len(order) == 40 and order.index(hub) >= 38


def test_orders_are_permutations_and_the_band_is_small():
    K = grid(8).tocoo()
    shuffled = RANDOM.permutation(64).astype(np.int32)
    _, graph = symbolic.compressed(64, shuffled[K.row], shuffled[K.col])
    for order in (
        ordering.minimum_degree(graph, [1] * 64),
        ordering.nested_dissection(graph, [1] * 64),
        ordering.reverse_cuthill_mckee(graph),
    ):
        assert sorted(order) == list(range(64))
    assert ordering.bandwidth(graph, order) <= 10 < ordering.bandwidth(graph, range(64))


def test_triangles_duplicates_and_padding():
    """Lower, upper or both; what stands twice is added; a BCOO's indices beyond the matrix are padding."""
    K = np.array([[4.0, 1, 0], [1, 5, 2], [0, 2, 6]], np.float32)
    b = np.array([1.0, 2, 3], np.float32)
    x = np.linalg.solve(K, b)
    run = jax.jit(lambda plan, v: solve(factorize(plan, v), b), static_argnums=0)
    for part in (np.tril(K), np.triu(K), K):
        plan = analyze(part != 0)
        np.testing.assert_allclose(run(plan, part[part != 0]), x, rtol=1e-5)
        np.testing.assert_allclose(multiply(plan, part[part != 0], x), b, rtol=1e-5)
    rows, cols = np.array([0, 1, 2, 2, 1, 1, 3]), np.array([0, 1, 2, 1, 0, 1, 3])
    twice = sparse.BCOO((np.array([4, 3, 6, 2, 1, 2, 9], np.float32), np.stack([rows, cols], 1)), shape=(3, 3))
    np.testing.assert_allclose(run(analyze(twice), twice), x, rtol=1e-5)


def test_equal_patterns_are_one_plan():
    K = grid(4).tocoo()
    a, b = (analyze((K.row, K.col, 16)) for _ in range(2))
    assert a is b and hash(a) == hash(b)
    assert a != analyze((K.row, K.col, 16), ordering="cuthill_mckee")
    assert "nnz=40" in repr(a) and a.operations > 0


@functools.cache
def small():
    K = grid(3).tocoo()
    return analyze((K.row, K.col, 9)), K.data


def test_a_matrix_with_other_signs_is_told_lane_by_lane():
    plan, values = small()
    lanes = jnp.stack([values, -values]).astype(jnp.float32)
    finite = jax.jit(jax.vmap(lambda v: factorize(plan, v).finite))(lanes)
    np.testing.assert_array_equal(finite, [True, False])


def test_vmap_solves_each_lane():
    plan, values = small()
    values, b = np.stack([values, 2 * values]).astype(np.float32), RANDOM.normal(size=(2, 9)).astype(np.float32)
    x = jax.jit(jax.vmap(lambda v, b: solve(factorize(plan, v), b, refine=1)))(values, b)
    K = dense(grid(3).tocoo())
    np.testing.assert_allclose(x, [np.linalg.solve(K, b[0]), np.linalg.solve(2 * K, b[1])], rtol=1e-4)


def test_derivatives_are_those_of_the_equation():
    plan, values = small()
    with jax.enable_x64(True):
        b, v = jnp.asarray(RANDOM.normal(size=9)), jnp.asarray(values)

        def f(v, b):
            x = solve(factorize(plan, v), b)
            return jnp.sum(jnp.sin(x))

        def by_dense(v, b):
            K = jnp.zeros((9, 9)).at[plan.rows, plan.cols].set(v)
            return jnp.sum(jnp.sin(jnp.linalg.solve(K + jnp.tril(K, -1).T, b)))

        for one, other in zip(*(jax.jit(jax.grad(f, (0, 1)))(v, b) for f in (f, by_dense)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)
        second = jax.jit(lambda v, t: jax.jvp(jax.grad(f), (v, b), (t, 0 * b))[1])
        by_differences = (jax.jit(jax.grad(f))(v + 1e-6 * v, b) - jax.jit(jax.grad(f))(v - 1e-6 * v, b)) / 2e-6
        np.testing.assert_allclose(second(v, v), by_differences, rtol=1e-5, atol=1e-9)


def test_no_rows_and_one():
    assert solve(factorize(analyze((ROWLESS, ROWLESS, 0)), jnp.zeros(0)), jnp.zeros(0)).shape == (0,)
    np.testing.assert_allclose(solve(factorize(analyze(np.ones((1, 1))), jnp.full(1, 4.0)), jnp.ones(1)), [0.25])


def test_refuses():
    plan, values = small()
    with pytest.raises(TreeError, match=r"analyze: the pattern must be that of a square matrix"):
        analyze(np.ones((2, 3), bool))
    with pytest.raises(TreeError, match=r"analyze: the pattern must be known when traced"):
        jax.jit(lambda p: solve(factorize(analyze(p), values), values))(np.ones((2, 2), bool))
    with pytest.raises(TreeError, match=r"factorize: values must be float\[21\]"):
        factorize(plan, values[:3])
    with pytest.raises(TreeError, match=r"solve: b must be"):
        solve(factorize(plan, jnp.asarray(values, jnp.float32)), jnp.ones(8))
    with pytest.raises(TreeError, match=r"signs must be float\[9\]"):
        analyze((plan.rows, plan.cols, 9), signs=np.ones(3))
