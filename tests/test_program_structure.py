"""Programs in blocks and sparse ones: solutions, derivatives and statuses; starts near a solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from data import mps
from jax.experimental import sparse
from test_program import code, control

import jaxopt_ko as jo
from jaxopt_ko.solvers.engine import banded
from jaxopt_ko.solvers.quadratic import as_sparse, block_order, sparse_plan
from jaxopt_ko.solvers.quadratic.arrangement import Places, arranged
from jaxopt_ko.types import Code


@pytest.mark.parametrize(("count", "width", "n"), [(1, 5, 5), (2, 40, 80), (7, 13, 88), (12, 7, 84)])
def test_cyclic_reduction_solves_block_tridiagonal_systems(x64, count, width, n):
    rng, K = np.random.default_rng(count), np.eye(n)
    for i in range(count):
        at = slice(max(0, i - 1) * width, min(n, (i + 1) * width))
        half = rng.normal(size=(at.stop - at.start,) * 2)
        K[at, at] += half @ half.T
    b, blocks = rng.normal(size=n), banded.blocks(jnp.asarray(K), width)
    np.testing.assert_allclose(K @ np.asarray(banded.substitute(banded.factor(blocks), b)), b, atol=1e-12)
    np.testing.assert_allclose((blocks @ jnp.pad(b, (0, count * width - n)))[:n], K @ b, atol=1e-11)
    assert not bool(jnp.all(jnp.isfinite(banded.factor(banded.blocks(jnp.asarray(K - 1e3 * np.eye(n)), width)).rest)))


def shuffled(stages, seed=0):
    """A problem of control, its parameters and rows in an order that hides the stages."""
    (Q, c, words), rng = control(stages), np.random.default_rng(seed)
    order, rows = rng.permutation(c.size), rng.permutation(3 * stages)
    A, b = words["A"][rows][:, order], words["b"][rows]
    G = np.zeros((2, c.size))
    G[[0, 1], [int(np.argmax(order == 9)), int(np.argmax(order == 42))]] = 1
    bounds = tuple(side[order] for side in words["bounds"])
    return Q[order][:, order], 0.1 * np.arange(c.size), {"A": A, "b": b, "G": G, "h": np.array([0.5, np.inf])}, bounds


def test_stages_are_found_in_any_order_and_held_alike_by_dense_and_sparse_matrices(x64):
    Q, c, words, bounds = shuffled(30)
    order = block_order(c.size, Q, words["A"], words["G"])
    assert order.sizes.width <= 8 and order.sizes.parameters <= 240
    assert block_order(c.size, np.ones_like(Q), None, None) is None and block_order(50, np.eye(50), None, None) is None
    places, parts = Places(*order[1:4]), []
    for form in (lambda M, _: M, lambda M, square: as_sparse(sparse.BCOO.fromdense(M, nse=600), square)):
        made = {name: form(M, name == "Q") for name, M in (("Q", Q), *((a, words[a]) for a in "AG"))}
        given = words | made
        parts.append(arranged(order.sizes, places, jnp.asarray(c), lower=bounds[0], upper=bounds[1], **given))
    jax.tree.map(np.testing.assert_array_equal, *parts)
    x = np.random.default_rng(1).normal(size=c.size)
    there = jnp.zeros(order.sizes.parameters).at[places.x].set(x)
    np.testing.assert_allclose((parts[0]["Q"] @ there)[places.x], Q @ x, atol=1e-12)
    np.testing.assert_allclose((parts[0]["A"] @ there)[places.A], words["A"] @ x, atol=1e-12)
    y = jnp.zeros(parts[0]["b"].size).at[places.A].set(words["b"])
    np.testing.assert_allclose((parts[0]["A"].T @ y)[places.x], words["A"].T @ words["b"], atol=1e-12)


def conditions(solution, Q, c, words, lower, upper):
    """The largest residual, anew from the data."""
    x, (y, z, low, high) = solution.params, solution.multipliers
    slope = Q @ x + c + words["A"].T @ y + words["G"].T @ z - low + high
    room = jnp.where(jnp.isinf(words["h"]), 0, words["h"] - words["G"] @ x)
    parts = [slope, words["A"] @ x - words["b"], jnp.minimum(room, 0), z * room, low * (x - lower), high * (upper - x)]
    assert all(bool(jnp.all(m >= 0)) for m in (z, low, high))
    return max(float(jnp.max(jnp.abs(part))) for part in parts)


def test_blocks_solve_what_is_solvable_and_have_derivatives(x64):
    Q, c, words, (lower, upper) = shuffled(30)
    weights = np.random.default_rng(2).normal(size=c.size)

    @jax.jit
    def run(c, b, wide):
        def loss(c, b):
            found = jo.quadratic_program(Q, c, **(words | {"b": b}), bounds=(wide * lower, wide * upper), tol=1e-11)
            return weights @ found.params + found.value, found

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(c, b)

    (_, found), slopes = run(c, words["b"], 1.0)
    assert found.status.success and int(found.steps) <= 12
    assert conditions(found, Q, c, words, lower, upper) < 1e-8
    for i in range(2):
        step = [np.zeros(c.size), np.zeros(words["b"].size)]
        step[i][4 + i] = 1e-5
        ends = [run(c + s * step[0], words["b"] + s * step[1], 1.0)[0][0] for s in (1, -1)]
        np.testing.assert_allclose(slopes[i][4 + i], (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-6)
    nowhere = run(c, words["b"], 1e-3)[0][1]
    assert code(nowhere) == Code.INFEASIBLE and int(nowhere.steps) <= 15


def scattered(seed=0, n=100, m=20, k=15):
    """A sparse program without an order: Q, c and the words, with a point inside."""
    rng = np.random.default_rng(seed)

    def matrix(rows, columns, share):
        return np.where(rng.random((rows, columns)) < share, rng.normal(size=(rows, columns)), 0)

    A, G, half, inside = matrix(m, n, 0.04), matrix(k, n, 0.04), matrix(n, n, 0.01), rng.uniform(-0.5, 0.5, n)
    A[np.arange(m), np.arange(m)] = 1
    words = {"A": A, "b": A @ inside, "G": G, "h": G @ inside + rng.uniform(0, 0.1, k)}
    return half @ half.T, rng.normal(size=n), words


def test_sparse_matrices_solve_the_same_from_afar_and_nearby_and_have_derivatives(x64):
    Q, c, words = scattered()
    assert block_order(c.size, Q, words["A"], words["G"]) is None
    Q_, A_, G_ = (sparse.BCOO.fromdense(M) for M in (Q, words["A"], words["G"]))
    weights, start = np.random.default_rng(3).normal(size=c.size), None

    def run(c, values, start=None):
        A = sparse.BCOO((values, A_.indices), shape=A_.shape)
        given = words | {"A": A, "G": G_}
        return jo.quadratic_program(Q_, c, **given, bounds=(-1.0, 1.0), tol=1e-11, solution=start)

    def loss(c, values):
        found = run(c, values, start)
        return weights @ found.params, found

    loss = quick.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, found), slopes = loss(c, A_.data)
    assert found.status.success and conditions(found, Q, c, words, -1.0, 1.0) < 1e-8
    for i in range(2):
        step = [np.zeros(c.size), np.zeros(A_.nse)]
        step[i][7] = 1e-5
        ends = [loss(c + s * step[0], A_.data + s * step[1])[0][0] for s in (1, -1)]
        np.testing.assert_allclose(slopes[i][7], (ends[0] - ends[1]) / 2e-5, rtol=1e-4, atol=1e-6)


def test_a_published_chain_in_blocks_takes_as_few_steps_as_a_dense_one(x64):
    """19; with less beside A'A than it is rounded by, its factor fails on the way, and they are 23."""
    program = mps.load("maros", "QSC205")
    found = jo.quadratic_program(program.Q, program.c, **program.words())
    assert block_order(program.c.size, program.Q, program.A, program.G) is not None
    assert found.status.success and int(found.steps) <= 20
    np.testing.assert_allclose(program.objective(found.value), mps.known("maros")["QSC205"]["optimal_objective"], 1e-6)


def test_what_is_hardly_sparse_is_worked_with_in_blocks_or_as_dense():
    full = as_sparse(sparse.BCOO.fromdense(np.ones((100, 100))), symmetric=True)
    few = as_sparse(sparse.BCOO.fromdense(np.eye(100)), symmetric=True)
    assert sparse_plan(100, full, None, None) is None and sparse_plan(100, few, None, None) is not None
    assert sparse_plan(100, few, None, None, work=100.0) is None  # blocks that small take less


def test_a_start_near_the_solution_saves_steps_and_a_failed_one_changes_nothing(x64):
    Q, c, words = scattered(1, 12, 3, 6)
    cold = jo.quadratic_program(Q, c, **words, bounds=(-1.0, 1.0))
    changed = words | {"h": words["h"] + 0.01}
    again = jo.quadratic_program(Q, 1.01 * c, **changed, bounds=(-1.0, 1.0))
    near = jo.quadratic_program(Q, 1.01 * c, **changed, bounds=(-1.0, 1.0), solution=cold)
    assert near.status.success and int(near.steps) <= int(again.steps) - 2
    np.testing.assert_allclose(near.value, again.value, rtol=1e-7)
    failed = cold._replace(status=jo.Status(jnp.int32(Code.INFEASIBLE)))
    same = jo.quadratic_program(Q, 1.01 * c, **changed, bounds=(-1.0, 1.0), solution=failed)
    assert int(same.steps) == int(again.steps)
    far = cold._replace(params=1e8 * cold.params)
    assert int(jo.quadratic_program(Q, 1.01 * c, **changed, bounds=(-1.0, 1.0), solution=far).steps) == int(again.steps)
    with pytest.raises(jo.errors.HyperparameterError, match="solution must be what this driver returned"):
        jo.quadratic_program(Q, c, **words, solution=c)
    with pytest.raises(jo.errors.TreeError, match="a multiplier for each row of A"):
        jo.quadratic_program(Q, c, G=words["G"], h=words["h"], solution=cold)
