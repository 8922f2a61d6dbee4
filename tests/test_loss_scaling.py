"""Loss scaling: torch's scales and skipped steps, one by one; what it keeps, refuses, and is put around."""

import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from references import record_loss_scaling as record

import jaxopt_ko as jo
from cases import assert_close, assert_same_bits, on_host
from jaxopt_ko.errors import HyperparameterError, StateError, TransformationError

NAN, INF = float("nan"), float("inf")
ONE = jnp.ones(2)


def test_scales_and_skipped_steps_are_those_of_torch():
    """All cases are lanes of one program: scale, period and factor are traced."""
    g = jnp.asarray(record.GRADIENTS)

    def run(start, period, factor, bad):
        opt = jo.loss_scaling(jo.sgd(record.RATE, record.MOMENTUM), start, period, factor=factor)

        def step(carry, x):
            w, state = carry
            scaled = jnp.where(x[1] != 0, x[1], x[0] * jo.loss_scale(state))
            u, state = opt.update(scaled, state)
            return (w + u, state), (jo.loss_scale(state), w + u)

        (_, state), path = jax.lax.scan(step, (jnp.zeros(()), opt.init(jnp.zeros(()))), (g, bad))
        return path, state.total_skipped

    cases = [record.CASES[name] for name in record.CASES]
    starts, periods, factors, bad = (np.asarray(x) for x in zip(*cases, strict=True))
    given = jnp.asarray(starts, jnp.float32), jnp.asarray(periods, jnp.int32), jnp.asarray(factors, jnp.float32)
    (scales, params), skipped = quick.jit(jax.vmap(run))(*given, jnp.asarray(bad))
    for i, name in enumerate(record.CASES):
        want_scales, want_params = record.recorded(name)
        np.testing.assert_array_equal(scales[i], want_scales, err_msg=name)
        np.testing.assert_allclose(params[i], want_params, rtol=1e-5, atol=1e-6, err_msg=name)
        assert int(skipped[i]) == np.count_nonzero(record.CASES[name].bad)


@pytest.mark.references
def test_torch_still_does_so(tmp_path):
    pytest.importorskip("torch")
    record.record(tmp_path / "new.npz")
    for name in record.CASES:
        assert_same_bits(record.recorded(name, tmp_path / "new.npz"), record.recorded(name))


def step_of(opt):
    return quick.jit(lambda g, s, p: opt.update(g, s, p))


ADAM = jo.loss_scaling(jo.adam(0.1), 2.0**4, 2)
adam_step = step_of(ADAM)


def test_steps_are_those_of_the_loss_itself():
    """A scale that is a power of two changes no bit."""
    alone = jo.adam(0.1)
    state, plain = ADAM.init(ONE), alone.init(ONE)
    plain_step = step_of(alone)
    for g in (1.0, -0.3, 0.7, 0.1):
        u, state = adam_step(jnp.full(2, g) * jo.loss_scale(state), state, ONE)
        v, plain = plain_step(jnp.full(2, g), plain, ONE)
        assert_same_bits(u, v)
    assert float(jo.loss_scale(state)) == 2.0**6 and jo.loss_scale(state).dtype == jnp.float32


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_an_overflow_leaves_all_as_it_was_and_halves_the_scale(bad):
    _, before = adam_step(16 * ONE, ADAM.init(ONE), ONE)
    assert int(before.finite_count) == 1
    u, after = adam_step(jnp.asarray([16.0, bad]), before, ONE)
    assert not np.any(u)
    assert_same_bits(after.inner_state, before.inner_state)
    assert (float(after.loss_scale), int(after.finite_count), int(after.total_skipped)) == (8, 0, 1)
    one, two = adam_step(8 * ONE, after, ONE)[0], adam_step(16 * ONE, before, ONE)[0]
    assert_same_bits(one, two)


def test_the_scale_stays_between_its_bounds():
    tx = jo.loss_scaling(jo.sgd(0.1), 8.0, 1, max_scale=16.0, min_scale=4.0)
    step, state, scales = step_of(tx), tx.init(ONE), []
    for g in (1.0, 1.0, 1.0, NAN, NAN, NAN, NAN, 1.0):
        _, state = step(g * ONE, state, ONE)
        scales.append(float(jo.loss_scale(state)))
    assert scales == [16, 16, 16, 8, 4, 4, 4, 8]
    tx = jo.loss_scaling(jo.sgd(0.1))
    down = jax.lax.scan(lambda s, _: (tx.update(NAN * ONE, s)[1], None), tx.init(ONE), None, 200)[0]
    assert float(down.loss_scale) == 2.0**-14 and int(down.total_skipped) == 200
    up = jax.lax.scan(lambda s, _: (tx.update(ONE, s)[1], None), tx.init(ONE), None, 20_001)[0]
    assert float(up.loss_scale) == 2.0**24 and int(up.finite_count) == 1


def test_gradients_of_float16_reach_the_method_in_float32():
    """2**-26 is 0 in float16; multiplied by 2**15 it is not, and is not to be rounded back."""
    seen = []

    def update(g, state, params=None):
        seen.append(g)
        return jax.tree.map(jnp.sign, g), state

    tx = jo.loss_scaling(jo.GradientTransformation(lambda p: (), update))
    p = {"h": jnp.ones(1, jnp.float16), "n": None, "i": jnp.arange(2), "b": jnp.ones(1, jnp.bfloat16)}
    state = tx.init(p)
    scaled = (jnp.float32(2.0**-26) * jo.loss_scale(state)).astype(jnp.float16)
    g = {"h": scaled[None], "n": None, "i": jnp.zeros(2, jnp.int32), "b": jnp.ones(1, jnp.bfloat16)}
    u, state = tx.update(g, state, p)
    assert seen[0]["h"].dtype == seen[0]["b"].dtype == jnp.float32 and float(seen[0]["h"][0]) == 2.0**-26
    assert u["n"] is None and u["i"].dtype == jnp.int32 and float(u["h"][0]) == 1
    assert u["h"].dtype == jnp.float16 and u["b"].dtype == jnp.bfloat16
    assert jo.apply_updates(p, u)["h"].dtype == jnp.float16


def test_a_scaled_loss_trains_where_a_plain_one_stands_still():
    """Gradients of about 1e-9 are 0 in float16."""
    tx = jo.loss_scaling(jo.adam(0.01, eps=1e-14), period=50)
    loss = lambda p: 1e-9 * jnp.sum(jnp.square(jnp.float32(p.astype(jnp.float16) - jnp.float16(0.5))))  # noqa: E731

    def half(p, scale):
        return jax.grad(lambda p: loss(p) * scale)(p.astype(jnp.float16)).astype(jnp.float16)

    def step(carry, _):
        p, state = carry
        u, state = tx.update(half(p, jo.loss_scale(state)), state, p)
        return (jo.apply_updates(p, u), state), None

    start = jnp.asarray([1.0, -1.0])
    assert not np.any(half(start, jnp.float32(1)))
    (end, state), _ = quick.jit(lambda s: jax.lax.scan(step, (start, s), None, 400))(tx.init(start))
    np.testing.assert_allclose(end, 0.5, atol=0.05)
    assert int(state.total_skipped) == 0 and float(jo.loss_scale(state)) > 2.0**15


# ---- with accumulation ----------------------------------------------------------------------------------


def sums(opt, pairs, scale_of, weighted):
    """Steps for numbers (gradient, weight), each gradient multiplied by the scale of then."""
    step = quick.jit(lambda g, s, w: opt.update(g * scale_of(s), s, ONE, **({"weight": w} if weighted else {})))
    state, steps = opt.init(ONE), []
    for g, w in pairs:
        u, state = step(g * ONE, state, jnp.float32(w))
        steps.append(float(u[0]))
    return steps, state


@pytest.mark.parametrize("weighted", [False, True])
def test_around_accumulation_an_overflow_costs_a_micro_batch(weighted):
    """Each gradient is divided by its own scale, though that changes within a window."""
    multi = jo.MultiSteps(jo.sgd(1.0), 2, weighted=weighted)
    tx = jo.loss_scaling(multi, 8.0, 1)
    steps, state = sums(tx, [(1.0, 1), (NAN, 50), (3.0, 3), (2.0, 2), (6.0, 2), (5.0, 1)], jo.loss_scale, weighted)
    np.testing.assert_allclose(steps, [0, 0, -1, 0, -2, 0] if weighted else [0, 0, -2, 0, -4, 0])
    assert float(jo.loss_scale(state)) == 8 * 2**4 and int(state.total_skipped) == 1
    u, inner = multi.flush(state.inner_state, ONE)
    np.testing.assert_allclose(u, -5)
    assert int(state._replace(inner_state=inner).inner_state.gradient_step) == 3


@pytest.mark.parametrize("weighted", [False, True])
def test_within_accumulation_an_overflow_costs_the_window(weighted):
    """The scale is that of the whole window, and changes between two."""
    tx = jo.MultiSteps(jo.loss_scaling(jo.sgd(1.0), 8.0, 1), 2, weighted=weighted)
    pairs = [(1.0, 1), (NAN, 50), (3.0, 3), (2.0, 2), (6.0, 2), (4.0, 2)]
    steps, state = sums(tx, pairs, jo.loss_scale, weighted)
    np.testing.assert_allclose(steps, [0, 0, 0, -1, 0, -2.5] if weighted else [0, 0, 0, -2.5, 0, -5])
    assert float(jo.loss_scale(state)) == 8 / 2 * 2**2
    assert (int(state.gradient_step), int(state.inner_opt_state.total_skipped)) == (3, 1)
    g, w = 2.0 * jo.loss_scale(state) * ONE, {"weight": 2} if weighted else {}
    _, state = tx.update(g, state, ONE, **w)
    np.testing.assert_allclose(tx.flush(state, ONE)[0], -1 if weighted else -2)


# ---- reading the scale, states, refusals ----------------------------------------------------------------


def test_the_scale_is_found_wherever_it_is():
    inner = jo.loss_scaling(jo.adam(0.1), 32.0)
    for tx in (
        inner,
        jo.chain(jo.clip(1.0), inner),
        jo.MultiSteps(inner, 3),
        jo.partition({"a": inner, "b": jo.sgd(0.1)}, {"a": "a", "b": "b"}),
        jo.loss_scaling(jo.adam(0.1), 32.0, factor=lambda t: 2.0),
    ):
        state = tx.init({"a": ONE, "b": ONE})
        assert float(jo.loss_scale(state)) == 32
        assert float(quick.jit(jo.loss_scale)(state)) == 32
    lanes = jax.vmap(jo.loss_scaling(jo.sgd(0.1), 4.0).init)(jnp.ones((3, 2)))
    assert jo.loss_scale(lanes).shape == (3,)
    two = jo.partition({"a": inner, "b": inner}, {"a": "a", "b": "b"}).init({"a": ONE, "b": ONE})
    for state, count in ((jo.adam(0.1).init(ONE), 0), (two, 2), (None, 0)):
        with pytest.raises(StateError, match=f"loss_scale: the state must hold one LossScalingState. Got {count} of"):
            jo.loss_scale(state)


def test_numbers_outside_their_domain_are_refused():
    for words, message in (
        ({"init_scale": 0.0}, "init_scale must be a finite number > 0"),
        ({"init_scale": lambda t: 1.0}, "init_scale must be a number"),
        ({"period": 0}, "period must be an integer of at least 1"),
        ({"factor": 1.0}, "factor must be a finite number > 1"),
        ({"max_scale": -1.0}, "max_scale must be"),
        ({"min_scale": 0.0}, "min_scale must be a finite number > 0"),
        ({"init_scale": 2.0**25}, "min_scale <= init_scale <= max_scale"),
        ({"init_scale": 1.0, "min_scale": 2.0}, "min_scale <= init_scale <= max_scale"),
    ):
        with pytest.raises(HyperparameterError, match=rf"loss_scaling(\(sgd\))?: {message}"):
            jo.loss_scaling(jo.sgd(0.1), **words)
    with pytest.raises(TransformationError, match="loss_scaling: tx"):
        jo.loss_scaling(jo.sgd)


def test_states_by_name_and_in_mid_run():
    params = {"w": ONE}
    tx = jo.loss_scaling(jo.adam(0.1), 16.0, 3)
    step, state = step_of(tx), tx.init(params)
    for g in (1.0, NAN, 1.0):
        _, state = step({"w": g * ONE}, state, params)
    saved = jo.state_dict(tx, state, params)
    assert {"loss_scale", "finite_count", "total_skipped", "mu/w"} <= set(saved)
    assert_same_bits(jo.load_state(tx, params, saved)[0], state)
    plain = jo.state_dict(jo.adam(0.1), state.inner_state, params)
    back, _ = jo.load_state(tx, params, plain, on_missing="init")
    assert_same_bits(back.inner_state, state.inner_state)
    assert float(back.loss_scale) == 16
    resumed = pickle.loads(pickle.dumps(on_host(state)))
    assert_same_bits(step({"w": ONE}, resumed, params), step({"w": ONE}, state, params))


def test_a_loop_is_a_scan_and_lanes_are_alone():
    g = jnp.stack([jnp.asarray([[1.0, NAN, 2.0, 3.0, 1.0], [1.0, 1.0, 1.0, INF, 1.0]])] * 2, -1)
    run = quick.jit(jax.vmap(lambda g: jax.lax.scan(lambda s, x: ADAM.update(x, s, x)[::-1], ADAM.init(ONE), g)))
    state, steps = run(g)
    for i in range(2):
        one = ADAM.init(ONE)
        for t in range(5):
            u, one = adam_step(g[i, t], one, g[i, t])
            assert_close(steps[i, t], u)
        assert_close(jax.tree.map(lambda x, i=i: x[i], state), one)


def test_the_docstrings_example_runs():
    params, loss = {"w": ONE}, lambda p: jnp.sum(jnp.square(p["w"]))
    tx = jo.loss_scaling(jo.adamw(1e-3))
    state = tx.init(params)
    for _ in itertools.repeat(None, 2):
        grads = jax.grad(lambda p, s=state: loss(p) * jo.loss_scale(s))(params)
        updates, state = tx.update(grads, state, params)
        params = jo.apply_updates(params, updates)
    assert float(params["w"][0]) < 1


def test_no_second_gradient_beside_the_scaled_one():
    """The gradients are divided where the method reads them, and not kept."""
    params = {"w": jnp.ones(100_000), "b": jnp.ones(50_000)}

    def temporary(opt):
        def step(g, state, p):
            u, state = opt.update(g, state, p)
            return jo.apply_updates(p, u), state

        used = jax.jit(step, donate_argnums=(1, 2)).lower(params, opt.init(params), params).compile()
        return used.memory_analysis().temp_size_in_bytes / sum(x.nbytes for x in params.values())

    assert temporary(jo.loss_scaling(jo.adam(0.1))) < temporary(jo.adam(0.1)) + 0.5
