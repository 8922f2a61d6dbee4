"""The running noise scale: on gradients whose noise is known, over devices, within `fit`; and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import jaxopt_ko as jo
from cases import assert_same_bits
from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, StateError, TransformationError

TRUE = jnp.linspace(0.5, 1.5, 32)
SPREAD = jnp.linspace(1.0, 3.0, 32)
NOISE, SQUARE = float(jnp.sum(SPREAD**2)), float(jnp.sum(TRUE**2))
B = 4  # examples of a gradient


def gradients(key, n):
    return TRUE[None] + SPREAD[None] * jax.random.normal(key, (n, 32)) / B**0.5


def close_to_truth(found):
    assert float(found.scale) == pytest.approx(NOISE / SQUARE, rel=0.05)
    assert float(found.noise) == pytest.approx(NOISE, rel=0.05)
    assert float(found.squared_norm) == pytest.approx(SQUARE, rel=0.05)


def test_it_is_within_five_percent_on_gaussian_gradients_and_steps_are_those_of_multi_steps():
    tx, plain = (
        jo.diagnose.track_noise_scale(jo.adam(0.1), 4, batch_size=B, decay=0.999),
        jo.MultiSteps(jo.adam(0.1), 4),
    )
    start = jnp.zeros(32)

    def run(tx, g):
        def step(carry, g):
            x, state = carry
            u, state = tx.update(g, state, x)
            return (x + u, state), None

        return jax.lax.scan(step, (start, tx.init(start)), g)[0]

    g = gradients(jax.random.key(0), 8000)
    (x, state), (y, _) = quick.jit(lambda g: (run(tx, g), run(plain, g)))(g)
    close_to_truth(jo.diagnose.noise_scale(state))
    assert int(state.windows) == 2000
    np.testing.assert_allclose(x, y, rtol=1e-5)


def test_devices_of_a_mesh_are_batches_too():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    P = jax.sharding.PartitionSpec
    tx = jo.diagnose.track_noise_scale(jo.sgd(1.0), batch_size=B, decay=0.999, axis_name="d")

    def run(g):
        def step(state, g):
            u, state = tx.update(g[0], state)
            return state, u

        return jax.lax.scan(step, tx.init(jnp.zeros(32)), g)

    g = gradients(jax.random.key(1), 8000).reshape(1000, 8, 32)
    whole = jax.shard_map(run, mesh=mesh, in_specs=P(None, "d"), out_specs=P(), check_vma=False)
    state, u = quick.jit(whole)(g)
    close_to_truth(jo.diagnose.noise_scale(state))
    np.testing.assert_allclose(u, -jnp.mean(g, axis=1), rtol=1e-4, atol=1e-5)


def test_fit_runs_it_and_it_agrees_with_the_batch_s_own_measure():
    """A linear model without anything to learn: each example's gradient is noise around the same mean."""
    x = jax.random.normal(jax.random.key(2), (4096, 6)) + 0.5
    loss = lambda w, x: jnp.mean(x @ w)  # noqa: E731
    tx = jo.diagnose.track_noise_scale(jo.sgd(1e-3), 4, batch_size=16, decay=0.99)
    plan = jo.data.mini_batch(4096, 16)
    run = quick.jit(lambda x: jo.loop.fit(loss, jnp.zeros(6), tx, x, plan, key=jax.random.key(3), epochs=8))(x)
    known = jo.diagnose.gradient_noise_scale(lambda w, x: x @ w, jnp.zeros(6), args=(x,))
    assert float(jo.diagnose.noise_scale(run.state).scale) == pytest.approx(float(known.scale), rel=0.25)


def test_what_is_not_finite_leaves_the_estimate_alone_and_a_schedule_of_decay_is_debiased():
    tx = jo.diagnose.track_noise_scale(jo.sgd(0.0), 2, batch_size=1, decay=lambda t: jnp.where(t < 2, 0.0, 0.5))
    update = quick.jit(lambda g, s: tx.update(g, s))
    state = tx.init(jnp.zeros(2))
    for g in ([1.0, 0.0], [1.0, 1.0], [1.0, np.nan], [1.0, 1.0]):
        _, state = update(jnp.asarray(g), state)
    found = jo.diagnose.noise_scale(state)
    assert [float(x) for x in found] == [0.5, 0.5, 1.0]
    before = jax.tree.leaves(found)
    _, state = update(jnp.zeros(2), state)
    assert_same_bits(jax.tree.leaves(jo.diagnose.noise_scale(state)), before)  # within a window nothing changes


@pytest.mark.parametrize(
    ("scale", "batch", "words"),
    [
        (1000.0, 100, ["about 1,000 and the batch 100, 0.1 of it", "mostly noise", "11 times the fewest steps",
                       "1.1 times the fewest examples", "0.55 of the steps"]),
        (100.0, 1000, ["10 of it", "mostly signal", "1.1 times the fewest steps", "0.55 of the examples"]),
        (64.0, 64, ["noise and signal are alike", "2 times the fewest steps and 2 times"]),
        (float("nan"), 64, ["No noise scale is known yet"]),
        (-3.0, 64, ["No noise scale is known yet"]),
    ],
)  # fmt: skip
def test_advice_is_a_sentence_with_the_numbers(scale, batch, words):
    text = jo.diagnose.batch_advice(jo.diagnose.NoiseScale(scale, scale, 1.0), batch)
    assert all(word in text for word in words), text


def test_one_batch_alone_is_refused_and_so_is_what_is_no_estimate():
    with pytest.raises(HyperparameterError, match=r"track_noise_scale: the batch of a step .* \(b = B\)"):
        jo.diagnose.track_noise_scale(jo.sgd(0.1), batch_size=8)
    tx = jo.diagnose.track_noise_scale(jo.sgd(0.1), batch_size=8, axis_name="i")
    with pytest.raises(HyperparameterError, match=r"\(b = B\)"):
        jax.vmap(lambda g: tx.update(g, tx.init(g))[0], axis_name="i")(jnp.ones((1, 2)))
    with pytest.raises(HyperparameterError, match=r"track_noise_scale\(sgd\): decay"):
        jo.diagnose.track_noise_scale(jo.sgd(0.1), 2, batch_size=8, decay=1.0)
    with pytest.raises(StateError, match="noise_scale: the state must hold one"):
        jo.diagnose.noise_scale(jo.sgd(0.1).init(jnp.ones(2)))
    with pytest.raises(HyperparameterTypeError, match="batch_advice: noise must be a NoiseScale"):
        jo.diagnose.batch_advice(3.0, 8)
    with pytest.raises(TransformationError, match="batch_advice"):
        jax.jit(lambda x: jo.diagnose.batch_advice(jo.diagnose.NoiseScale(x, x, x), 8))(jnp.ones(()))
