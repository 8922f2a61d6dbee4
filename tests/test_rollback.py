"""Going back: to the very bits that were kept, in any dtype, and on from there; what is kept, dropped and counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import jaxopt_ko as jo
from cases import assert_same_bits
from jaxopt_ko.errors import HyperparameterError, TransformationError

NAN = float("nan")
TX = jo.rollback(jo.adam(0.1), 5, patience=2, window=4, sigma=6.0)
START = {"w": jnp.array([2.0, 3.0, 4.0, 5.0]), "b": jnp.ones(2, jnp.bfloat16)}


def step_of(tx):
    def step(params, state, factor, loss):
        grads = jax.tree.map(lambda p: jnp.ones_like(p) * factor.astype(p.dtype), params)
        updates, state = tx.update(grads, state, params, value=loss)
        return jo.apply_updates(params, updates), state

    return quick.jit(step, donate_argnums=(0, 1))


STEP = step_of(TX)


def walk(params, state, factors, losses, step=STEP):
    """The parameters and inner states after each step, as numpy arrays, and the end."""
    path = []
    for factor, loss in zip(factors, losses, strict=True):
        params, state = step(params, state, jnp.float32(factor), jnp.float32(loss))
        path.append(jax.tree.map(np.asarray, (params, state.inner_state)))
    return path, params, state


def fresh(tx=TX):
    params = jax.tree.map(jnp.copy, START)
    return params, tx.init(params)


def test_it_goes_back_to_the_bits_that_were_kept_and_on_with_another_rate():
    """Kept at the start and before step 6; steps 9 and 10 are bad, and the second of them leads back."""
    good = [2 + 0.01 * (k % 3) for k in range(8)]
    path, params, state = walk(*fresh(), [1.0] * 8, good)
    assert int(state.since) == 3
    (left, params), state = (
        walk(params, state, [1.0], [9.0])[:2],
        walk(*walk(*fresh(), [1.0] * 8, good)[1:], [1.0], [9.0])[2],
    )
    assert_same_bits(left[0], path[-1])
    path_back, params, state = walk(params, state, [1.0], [9.0])
    assert_same_bits(path_back[0], path[4])
    assert int(state.restored) == 1 and float(state.rate) == 0.5 and int(state.high_loss) == 2
    after, _, state = walk(params, state, [1.0], [2.0])
    full = path[5][0]["w"] - path[4][0]["w"]
    np.testing.assert_allclose(after[0][0]["w"] - path[4][0]["w"], full / 2, rtol=1e-5)
    assert "gone back 1 times" in str(jo.diagnose.skips(state))


def test_what_was_kept_is_dropped_if_it_is_no_better_and_then_the_level_is_new():
    good = [2 + 0.01 * (k % 3) for k in range(8)]
    path, params, state = walk(*fresh(), [1.0] * 8, good)
    back, params, state = walk(params, state, [1.0] * 4, [9.0, 9.1, 9.0, 9.1])
    assert_same_bits(back[1], path[4])
    assert_same_bits(back[3][0], jax.tree.map(np.asarray, START))  # the second time, to the one before
    assert int(state.restored) == 2 and float(state.rate) == 0.25
    more, params, state = walk(params, state, [1.0] * 2, [9.0, 9.1])
    assert int(state.restored) == 2 and int(state.restarts) == 1  # all tried: it is taken
    assert float(np.max(np.abs(more[1][0]["w"] - more[0][0]["w"]))) > 0


def test_parameters_that_went_far_away_come_back_to_the_bit_all_the_same():
    """A step of 1e8 is one that no single sum in float32 undoes: the next ones close the gap."""
    tx = jo.rollback(jo.sgd(1.0), 100, patience=1, window=4)
    start = jnp.array([1.2345678, -3.3e-7, 5.0], jnp.float32)
    params, state = start, tx.init(start)
    updates, state = tx.update(jnp.array([1e8, 1e-3, -1e20]), state, params)
    params = jo.apply_updates(params, updates)
    for k in range(6):
        grads = jnp.ones(3) * (NAN if k == 0 else 0)
        updates, state = tx.update(grads, state, params)
        params = jo.apply_updates(params, updates)
        if int(state.tries) == 0:
            break
    assert_same_bits(params, start)
    assert k > 0 and int(state.restored) == 1


@pytest.mark.parametrize(("dtype", "steps"), [("bfloat16", 1), ("float16", 1), ("float32", 2)])
def test_random_parameters_come_back_in_one_step_or_two(dtype, steps):
    """In float32 a sum of two numbers that are larger than the third cannot have its last digit."""
    keys = jax.random.split(jax.random.key(0), 2)
    start = jax.random.normal(keys[0], (4096,)).astype(dtype)
    tx = jo.rollback(jo.sgd(1.0), 100, patience=1, window=4)
    state = tx.init(start)
    updates, state = tx.update(jax.random.normal(keys[1], (4096,)).astype(dtype) * 3, state, start)
    far = jo.apply_updates(start, updates)
    for k in range(steps):
        updates, state = tx.update(start * (NAN if k == 0 else 1), state, far)
        far = jo.apply_updates(far, updates)
    assert_same_bits(far, start)
    assert int(state.tries) == 0 and updates.dtype == jnp.float32


def test_a_step_to_what_is_not_finite_is_not_made_and_leads_back_at_once():
    tx = jo.rollback(jo.sgd(1e30), 100, patience=5, window=4)
    params = jnp.ones(2)
    state = tx.init(params)
    updates, state = tx.update(jnp.full(2, 1e20), state, params)
    assert updates.tolist() == [0.0, 0.0] and bool(state.broken) and int(state.not_finite) == 1
    updates, state = tx.update(jnp.ones(2), state, params)
    assert int(state.restored) == 1 and not bool(state.broken)
    assert jo.apply_updates(params, updates).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("around", ["MultiSteps", "master_weights", "stochastic_rounding", "masked", "quantized"])
def test_it_composes_within_a_scan(around):
    tx = jo.rollback(jo.adam(0.1), 3, patience=1, window=4)
    tx = {
        "MultiSteps": lambda: jo.MultiSteps(tx, 2), "master_weights": lambda: jo.master_weights(tx),
        "stochastic_rounding": lambda: jo.stochastic_rounding(tx, 0), "masked": lambda: jo.masked(tx, {"w": True}),
        "quantized": lambda: jo.rollback(jo.quantized(jo.adam(0.1), "companded8", min_size=0), 3, patience=1, window=4),
    }[around]()  # fmt: skip
    half = around in ("master_weights", "stochastic_rounding")
    params = {"w": jnp.ones(8, jnp.bfloat16 if half else jnp.float32)}
    factors = jnp.ones(20).at[jnp.array([9, 15])].set(NAN)

    def step(carry, factor):
        params, state = carry
        grads = jax.tree.map(lambda p: p * factor.astype(p.dtype), params)
        updates, state = tx.update(grads, state, params, value=factor)
        return (jo.apply_updates(params, updates), state), (params["w"], jo.diagnose.skips(state).restored)

    (end, _), (path, restored) = quick.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), factors))(params)
    assert bool(jnp.all(jnp.isfinite(end["w"]))) and int(restored[-1]) == 2
    after = path[11 if around == "MultiSteps" else 10]  # after the first bad step, or the window that had it
    assert any(np.array_equal(after, before) for before in path[:10])


def test_a_diverging_run_is_brought_back_and_ends_well():
    """A rate beyond 2 / L: without it the loss grows without bound, with it the rate falls until it does not."""
    curve = jnp.array([1.0, 10.0])

    def run(tx):
        def step(carry, key):
            x, state = carry
            noise = 0.01 * jax.random.normal(key, (2,))
            value, g = jax.value_and_grad(lambda x: jnp.sum(curve * x**2) / 2)(x)
            u, state = tx.update(g + noise, state, x, value=value)
            return (jo.apply_updates(x, u), state), value

        x = jnp.array([1e-3, 1e-3])
        (_, state), values = jax.lax.scan(step, (x, tx.init(x)), jax.random.split(jax.random.key(0), 300))
        return values, state

    tx = jo.rollback(jo.sgd(0.25), 20, patience=4, window=16, sigma=4.0)
    (values, state), (plain, _) = quick.jit(lambda: (run(tx), run(jo.sgd(0.25))))()
    assert not float(plain[-1]) < 1e3 and float(values[-1]) < 0.1
    assert int(state.restored) >= 1 and float(state.rate) < 1


def test_switched_off_it_is_the_optimizer_itself_and_what_cannot_be_is_refused():
    off = jo.rollback(jo.adam(0.1), 5, enabled=False)
    assert jax.tree.structure(off.init(START)) == jax.tree.structure(jo.adam(0.1).init(START))
    for given in ({"every": 0}, {"keep": 0}, {"patience": 0}, {"rate_factor": 1.5}):
        message, words = next(iter(given)), {"every": 5, **given}
        with pytest.raises(HyperparameterError, match=f"rollback.*{message}"):
            jo.rollback(jo.adam(0.1), **words)
    with pytest.raises(TransformationError, match="rollback"):
        jo.rollback(jo.stochastic_rounding(jo.adam(0.1), 0), 5)


def test_devices_that_have_parts_of_the_leaves_go_the_same_way():
    """One of four parts overflows at the step: all of them leave it out, and all go back."""
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    P = jax.sharding.PartitionSpec
    tx = jo.rollback(jo.sgd(1e30), 100, patience=3, window=4, axis_name="d")

    def run(p, g):
        state, start = tx.init(p), p
        u, state = tx.update(g * 1e-30, state, p)
        p = p + u
        u, state = tx.update(g, state, p)
        u, state = tx.update(g, state, p + u)
        return p + u - start, state.restored, state.not_finite

    g = jnp.ones(8).at[7].set(1e20)
    spread = jax.shard_map(run, mesh=mesh, in_specs=(P("d"), P("d")), out_specs=(P("d"), P(), P()), check_vma=False)
    moved, restored, bad = quick.jit(spread)(jnp.full(8, 1e20), g)
    assert int(restored) == 1 and int(bad) == 1 and not np.any(moved)
