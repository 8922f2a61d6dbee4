"""Plans of indices: every example once an epoch, shuffled by key, easy ones first, pure under jit, vmap, scan."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxopt_ko as jo
from jaxopt_ko.errors import HyperparameterError, MissingArgumentError, TreeError
from jaxopt_ko.training import data

seeds, epochs = st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)
sizes = st.sampled_from([(1, 1), (12, 4), (13, 5)])
plan_of = jax.jit(lambda batches, seed, epoch: batches.plan(jax.random.key(seed), epoch))


@functools.cache
def planned(n, b, drop_remainder=True):
    return jax.jit(functools.partial(data.mini_batch(n, b, drop_remainder=drop_remainder).plan))


@settings(deadline=None, max_examples=40)
@given(sizes, seeds, epochs)
def test_every_example_comes_once_an_epoch(size, seed, epoch):
    n, b = size
    key = jax.random.key(seed)
    plan = planned(n, b)(key, epoch)
    assert plan.shape == (n // b, b)
    assert plan.dtype == jnp.int32
    assert len(set(plan.ravel().tolist())) == n // b * b  # all different
    assert set(plan.ravel().tolist()) <= set(range(n))
    filled = planned(n, b, drop_remainder=False)(key, epoch).ravel()
    assert filled.size % b == 0
    assert sorted(filled[:n].tolist()) == list(range(n))
    np.testing.assert_array_equal(filled[n:], filled[: filled.size - n])


def test_epochs_and_keys_differ_and_are_reproducible():
    plan = planned(12, 4)
    a = plan(jax.random.key(0), 3)
    np.testing.assert_array_equal(a, plan(jax.random.key(0), 3))
    assert not np.array_equal(a, plan(jax.random.key(0), 4))
    assert not np.array_equal(a, plan(jax.random.key(1), 3))
    np.testing.assert_array_equal(a, plan(jax.random.PRNGKey(0), 3))  # old-style keys too


def test_what_is_left_over_is_not_always_the_same():
    plan = planned(13, 5)
    left = {tuple(set(range(13)) - set(plan(jax.random.key(0), e).ravel().tolist())) for e in range(5)}
    assert len(left) > 1


def test_the_three_units():
    full, one = data.full_batch(5), data.stochastic(5)
    np.testing.assert_array_equal(full.plan(None), [[0, 1, 2, 3, 4]])
    assert (full.steps, one.steps, one.batch_size) == (1, 5, 1)
    plan = one.plan(jax.random.key(0))
    assert plan.shape == (5, 1)
    assert sorted(plan.ravel().tolist()) == [0, 1, 2, 3, 4]
    rows = {"x": np.arange(10.0).reshape(5, 2)}
    assert full.gather(rows, full.plan(None)[0]) is rows  # nothing is copied
    np.testing.assert_array_equal(one.gather(rows, plan[0])["x"], rows["x"][plan[0]])


def test_jit_vmap_scan_and_double_precision():
    batches = data.mini_batch(12, 4)
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.vmap(batches.plan, (0, None))(keys, 2)
    for key, plan in zip(keys, many, strict=True):
        np.testing.assert_array_equal(plan, planned(12, 4)(key, 2))
    _, both = jax.lax.scan(lambda c, e: (c, batches.plan(keys[0], e)), None, jnp.arange(2, dtype=jnp.int32))
    np.testing.assert_array_equal(both[1], planned(12, 4)(keys[0], 1))
    with jax.enable_x64(True):
        assert batches.plan(jax.random.key(0), jnp.arange(3)[2]).dtype == jnp.int32


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(0, 5))
def test_a_curriculum_uses_just_the_easiest_and_all_of_them_evenly(seed, epoch):
    difficulty = np.array([5, 1, 4, np.nan, 0, 3, 2, 6, 8, 7])  # easiest first: 4 1 6 5 2 0 7 9 8 3
    order = [4, 1, 6, 5, 2, 0, 7, 9, 8, 3]
    plan = plan_of(easy_first(tuple(difficulty)), seed, epoch).ravel().tolist()
    pool = min(2 + 2 * epoch, 10)
    assert len(plan) == 10
    assert set(plan) == set(order[:pool])
    assert sorted({plan.count(i) for i in plan}) in ([10 // pool], [10 // pool, 10 // pool + 1])


def pace(epoch):
    return 0.2 + 0.2 * epoch.astype(jnp.float32)


@functools.cache
def easy_first(difficulty):
    return data.curriculum(np.array(difficulty, np.float32), 5, pacing=pace)


def test_a_curriculum_shuffles_its_pool_and_ends_as_mini_batches():
    batches = easy_first(tuple(float(i) for i in range(10)))
    late = [plan_of(batches, 0, e).ravel() for e in (4, 9)]
    assert not np.array_equal(*late)
    assert all(sorted(x.tolist()) == list(range(10)) for x in late)
    half = data.curriculum(jnp.arange(10), 4, pacing=0.5, drop_remainder=False)
    assert set(half.plan(jax.random.key(0)).ravel().tolist()) == set(range(5))
    assert half.steps == 3
    least = data.curriculum(jnp.arange(10), 5, pacing=0.0).plan(jax.random.key(0))
    assert set(least.ravel().tolist()) == {0}


def test_a_curriculum_maps_over_scores():
    def plan(difficulty):
        return data.curriculum(difficulty, 4, pacing=0.5).plan(jax.random.key(0))

    plans = jax.jit(jax.vmap(plan))(jnp.stack([jnp.arange(8.0), -jnp.arange(8.0)]))
    assert set(plans[0].ravel().tolist()) == {0, 1, 2, 3}
    assert set(plans[1].ravel().tolist()) == {4, 5, 6, 7}


def test_gather_takes_rows_of_a_tree():
    rows = {"x": jnp.arange(8.0).reshape(4, 2), "y": np.arange(4)}
    got = data.gather(rows, jnp.array([[3, 0], [1, 1]]))
    np.testing.assert_array_equal(got["y"], [[3, 0], [1, 1]])
    np.testing.assert_array_equal(got["x"][0, 0], [6, 7])
    assert np.all(np.isnan(data.gather(rows, jnp.array([4]))["x"]))


@pytest.mark.parametrize(
    ("kind", "call", "words"),
    [
        (TreeError, lambda: data.gather({"x": np.ones((3, 2)), "y": np.ones(4)}, [0]), r"\['y'\] must have 3 rows"),
        (TreeError, lambda: data.gather({"x": np.ones(3), "y": 1.0}, [0]), r"\['y'\] must have 3 rows"),
        (TreeError, lambda: data.gather(1.0, [0]), "leading axis"),
        (TreeError, lambda: data.gather({}, [0]), "holds no array"),
        (TreeError, lambda: data.gather(np.ones(3), jnp.ones(1)), "indices must be integers"),
        (TreeError, lambda: data.full_batch(3).gather(np.ones(4), None), "3 rows.*4 rows"),
        (HyperparameterError, lambda: data.mini_batch(3, 4), "batch_size must be an integer from 1 to 3"),
        (HyperparameterError, lambda: data.mini_batch(3, 0), "batch_size=0"),
        (HyperparameterError, lambda: data.full_batch(0), "size must be an integer >= 1"),
        (HyperparameterError, lambda: data.stochastic(2.0), "size must be an integer"),
        (TypeError, lambda: data.mini_batch(4, True), "batch_size must be an integer"),
        (TreeError, lambda: data.curriculum(np.ones((3, 1)), 1, pacing=1.0), "one real number for each"),
        (TypeError, lambda: data.curriculum(np.ones(3), 1, pacing="fast"), "pacing must be"),
        (MissingArgumentError, lambda: data.stochastic(3).plan(None), "needs a key"),
        (TypeError, lambda: data.stochastic(3).plan(0), "Batches.plan: key must be one PRNG key. Got a int: 0"),
        (TypeError, lambda: data.stochastic(3).plan(jax.random.key(0), 1.5), "epoch must be an integer"),
        (TypeError, lambda: data.full_batch(3).plan(None, -1), "epoch must be an integer of at least 0"),
        (TypeError, lambda: data.mini_batch(4, 2, drop_remainder="no"), "drop_remainder must be True or False"),
        (TreeError, lambda: data.gather(np.ones(3), "first"), "indices must be numbers"),
        (TreeError, lambda: data.gather(np.ones(3), None), "indices must be numbers"),
        (TreeError, lambda: data.curriculum("hard", 1, pacing=1.0), "difficulty must be numbers"),
        (TypeError, lambda: data.batch_warmup(8, {0: 1, "late": 2}, 6), "first steps of batch_sizes must be integers"),
        (TypeError, lambda: data.batch_warmup(8, {0: 1, 1.5: 2}, 6), "first steps of batch_sizes must be integers"),
        (TypeError, lambda: data.batch_size_rate(0.1, [1, 2]), "batch_size_rate: batch_sizes must be a dict"),
        (TypeError, lambda: data.batch_size_rate(0.1, {0: "many"}), r"batch_size_rate: batch_sizes\[0\] must be"),
    ],
)
def test_what_does_not_fit_is_refused(kind, call, words):
    with pytest.raises(kind, match=words):
        call()


# ---- batches that grow ------------------------------------------------------------------------------------


def test_growing_batches_are_one_stream():
    """Every example once in each pass, across stages; the passes are those that `mini_batch` shuffles."""
    key, sizes = jax.random.key(3), {0: 2, 3: 4, 5: 7}
    stages = data.batch_warmup(7, sizes, 9)
    assert [(s.batch_size, s.steps, s.first) for s in stages] == [(2, 3, 0), (4, 2, 6), (7, 4, 14)]
    plans = [jax.jit(lambda stage, key: stage.plan(key))(stage, key) for stage in stages]
    assert [p.shape for p in plans] == [(3, 2), (2, 4), (4, 7)] and {p.dtype for p in plans} == {jnp.dtype(jnp.int32)}
    stream = np.concatenate([p.ravel() for p in plans])
    one = data.mini_batch(7, 7)
    np.testing.assert_array_equal(stream.reshape(6, 7), [one.plan(key, e)[0] for e in range(6)])
    again = np.concatenate([s.plan(key, 1).ravel() for s in stages]).reshape(6, 7)
    np.testing.assert_array_equal(again, [one.plan(key, 6 + e)[0] for e in range(6)])


def test_fit_runs_through_growing_batches():
    """The same as a loop over its steps; state and rate go on from stage to stage."""
    x, key, sizes = jnp.arange(8.0), jax.random.key(0), {0: 1, 4: 2}
    loss = lambda w, x: jnp.mean((w - x) ** 2)  # noqa: E731
    opt = jo.adam(data.batch_size_rate(0.1, sizes))
    stages = data.batch_warmup(8, sizes, 6)
    w, state = jnp.zeros(()), None
    for stage in stages:
        run = jo.loop.fit(loss, w, opt, x, stage, key=key, epochs=1, state=state)
        w, state = run.params, run.state
    want, state, by_hand = jnp.zeros(()), opt.init(jnp.zeros(())), [row for s in stages for row in s.plan(key)]
    for row in by_hand:
        u, state = opt.update(jax.grad(loss)(want, x[row]), state, want)
        want = want + u
    np.testing.assert_allclose(w, want, rtol=1e-6)
    np.testing.assert_allclose(
        [data.batch_size_rate(0.1, {0: 2, 3: 4, 5: 8}, power)(t) for power in (0.5, 1.0) for t in (0, 2, 3, 5)],
        [0.1, 0.1, 0.1 * 2**0.5, 0.2, 0.1, 0.1, 0.2, 0.4], rtol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("sizes", [{}, {1: 2}, {0: 9}, {0: 0}, {0: 2, 5: 3}, [2, 3], {0: 2.0}])
def test_growing_batches_say_what_is_wrong(sizes):
    with pytest.raises(HyperparameterError, match=r"batch_warmup: .*batch_sizes"):
        data.batch_warmup(8, sizes, 5)
    (stage,) = data.batch_warmup(8, {0: 2}, 5)
    with pytest.raises(MissingArgumentError, match="needs a key"):
        stage.plan(None)
    with pytest.raises(TreeError, match="8 rows"):
        stage.gather(jnp.ones(7), jnp.array([0]))
