"""`quadratic_program_many`: what `quadratic_program` finds of each, through lanes that are filled anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from jax.experimental import sparse

import jaxopt_ko as jo
from jaxopt_ko.drivers import program_runs

COUNT, N = 11, 4


def problems(seed=0):
    """Q, c and the words of programs, the fourth of which no point satisfies."""
    rng = np.random.default_rng(seed)
    half, inside = rng.normal(size=(COUNT, N, N)), rng.uniform(-0.5, 0.5, size=(COUNT, N))
    A, G = rng.normal(size=(COUNT, 1, N)), rng.normal(size=(COUNT, 3, N))
    h = np.einsum("pkn,pn->pk", G, inside) + 0.1
    h[3] -= 9.0
    words = {"A": A, "b": np.einsum("pmn,pn->pm", A, inside), "G": G, "h": h}
    return half @ half.transpose(0, 2, 1), rng.normal(size=(COUNT, N)), words


def alike(many, each, atol=1e-9):
    np.testing.assert_array_equal(many.status.code, each.status.code)
    np.testing.assert_array_equal(many.steps, each.steps)
    ends = ((s.params, s.value, s.multipliers, s.kkt) for s in (many, each))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), *ends)


def test_each_ends_as_alone_with_its_derivatives_and_on_several_devices(x64):
    Q, c, words = problems()
    weights = np.random.default_rng(1).normal(size=c.shape)

    def loss(solve):
        def run(c, h):
            found = solve(c, words | {"h": h})
            return jnp.sum(weights * found.params) + jnp.sum(found.value[:3]), found

        return quick.jit(jax.value_and_grad(run, (0, 1), has_aux=True))

    many = loss(lambda c, words: jo.quadratic_program_many(Q, c, **words, bounds=(-1.0, 1.0), batch_size=3))
    (_, found), slopes = many(c, words["h"])
    alone = jax.vmap(lambda Q, c, words: jo.quadratic_program(Q, c, **words, bounds=(-1.0, 1.0)))
    (_, each), wanted = loss(lambda c, words: alone(Q, c, words))(c, words["h"])
    assert jo.Code(int(found.status.code[3])) is jo.Code.INFEASIBLE and int(found.status.success.sum()) == COUNT - 1
    alike(found, each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8), slopes, wanted)
    spread = jo.quadratic_program_many(
        Q, c, **words, bounds=(-1.0, 1.0), devices=jax.devices()[:2], keep_state=False, solution=found
    )
    assert spread.state is None and int(spread.steps[3]) == int(each.steps[3])
    np.testing.assert_array_equal(spread.status.code, each.status.code)
    solved = np.asarray(each.status.success)
    assert int(spread.steps[solved].sum()) < 0.7 * int(each.steps[solved].sum())
    np.testing.assert_allclose(spread.params[solved], each.params[solved], atol=1e-6)


def test_what_is_shared_is_given_once_and_linear_programs_have_no_q(x64):
    rng = np.random.default_rng(0)
    c, G = {"a": rng.normal(size=(5, 2)), "b": rng.normal(size=5)}, rng.normal(size=(4, 3))
    words, lower = {"G": G, "h": np.ones(4)}, {"a": -np.ones(2), "b": -1.0}
    one = quick.jit(jax.vmap(lambda c: jo.linear_program(c, **words, bounds=(lower, 2.0))))
    many = quick.jit(lambda c: jo.quadratic_program_many(None, c, **words, bounds=(lower, 2.0), batch_size=2))
    alike(many(c), one(c))


@pytest.mark.slow
def test_sparse_matrices_and_blocks_are_found_as_for_one(x64, monkeypatch):
    n, rng = 96, np.random.default_rng(0)
    chain = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    c, scales = rng.normal(size=(3, n)), np.array([1.0, 2.0, 0.5])
    for Q, A in (
        (scales[:, None, None] * chain, None),  # in blocks
        (sparse.BCOO.fromdense(np.eye(n)), scales[:, None, None] * (np.arange(n) % 48 == np.arange(8)[:, None])),
    ):
        b = None if A is None else np.zeros(8)
        if A is not None:
            monkeypatch.setattr(program_runs, "block_order", lambda *_: None)
        found = jo.quadratic_program_many(Q, c, A=A, b=b, bounds=(-1.0, 1.0), batch_size=2)
        full = np.broadcast_to(Q if A is None else np.eye(n), (3, n, n))
        x, (y, _, low, high) = found.params, found.multipliers
        slope = np.einsum("pij,pj->pi", full, x) + c - low + high
        if A is not None:
            slope = slope + np.einsum("pmn,pm->pn", A, y)
            np.testing.assert_allclose(np.einsum("pmn,pn->pm", A, x), 0, atol=1e-8)
        for missed in (slope, low * (1 + x), high * (1 - x), np.abs(x) * (np.abs(x) > 1)):
            np.testing.assert_allclose(missed, 0, atol=1e-7)
        assert bool(jnp.all(low >= 0)) and bool(jnp.all(high >= 0)) and bool(jnp.all(found.status.success))


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"Q": np.ones((3, N, N))}, "Q must have c's leading axis, of 11 problems, or none"),
        ({"b": np.ones((2, 1))}, "b must have c's leading axis"),
        ({"A": sparse.BCOO.fromdense(np.ones((COUNT, 1, N)), n_batch=1)}, "A must be shared if it is a BCOO matrix"),
        ({"bounds": (np.ones((COUNT, N)), 0.0)}, "leave no room"),
        ({"h": None}, "h"),
        ({"G": np.ones((COUNT, 3, N + 1))}, "G must be a matrix with a column for each of 4 parameters"),
        ({"c": 1.0}, "every leaf of c must have a leading axis"),
        ({"bandwidth": 1}, "bandwidth must cover Q"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_does_not_fit_is_refused(words, match):
    Q, c, given = problems()
    with pytest.raises(
        (jo.errors.TreeError, jo.errors.HyperparameterError, jo.errors.MissingArgumentError), match=match
    ):
        jo.quadratic_program_many(**({"Q": Q, "c": c} | given | words))
