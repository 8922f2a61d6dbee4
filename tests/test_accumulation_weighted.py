"""Gradients of sums gathered by weight; short windows; accumulators of 16 bits that are rounded at random."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import jaxopt_ko as jo
from cases import assert_close, assert_same_bits, on_host
from jaxopt_ko.errors import HyperparameterError, MissingArgumentError, StateError, TransformationError, TreeError

NAN = float("nan")
ONE = jnp.ones(1)


@functools.cache
def stepper(opt):
    """Its update with a weight, compiled once."""
    return quick.jit(lambda g, s, w, p=None: opt.update(g, s, p, weight=w))


def walk(opt, pairs, start=ONE):
    """(steps, state) for numbers (gradient of the sum, weight)."""
    state, steps = opt.init(start), []
    for g, w in pairs:
        u, state = stepper(opt)(jnp.full_like(start, g), state, jnp.float32(w), start)
        steps.append(float(u[0]))
    return steps, state


WEIGHTED = jo.MultiSteps(jo.sgd(1.0), 2, weighted=True)


def test_each_token_counts_alike():
    """1 valid token with gradient 1, then 99 with 0: the mean over tokens is 0.01; that of the means is 0.5."""
    steps, state = walk(WEIGHTED, [(1.0, 1), (0.0, 99)])
    np.testing.assert_allclose(steps, [0, -0.01], rtol=1e-6)
    assert float(state.weight_sum) == 100 and int(state.gradient_step) == 1
    unweighted = jo.MultiSteps(jo.sgd(1.0), 2)
    state = unweighted.init(ONE)
    for mean in (1.0, 0.0):
        u, state = unweighted.update(jnp.full(1, mean), state)
    assert float(u[0]) == -0.5


K, WINDOWS = 5, 8


def test_micro_batches_make_the_step_of_the_batch(x64):
    """Random numbers of valid examples, some micro-batches without any, a window without any: to twelve digits."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(WINDOWS, K, 6, 3)), rng.normal(size=(WINDOWS, K, 6))
    valid = np.arange(6) < rng.integers(0, 7, (WINDOWS, K, 1))
    valid[2, 1:4], valid[4] = False, False
    loss = lambda w, x, y, m: jnp.sum(jnp.where(m, jnp.square(jnp.dot(x, w) - y), 0.0))  # noqa: E731
    opt, start = jo.adamw(0.1), jnp.asarray([1.0, -1.0, 0.5])
    multi = jo.MultiSteps(opt, K, weighted=True)

    def micro(carry, batch):
        params, state = carry
        u, state = multi.update(jax.grad(loss)(params, *batch), state, params, weight=jnp.sum(batch[2]))
        params = jo.apply_updates(params, u)
        return (params, state), params

    flat = [a.reshape(WINDOWS * K, *a.shape[2:]) for a in (x, y, valid)]
    (_, state), path = quick.jit(lambda s: jax.lax.scan(micro, (start, s), flat))(multi.init(start))

    @quick.jit
    def whole(params, state, x, y, m):
        g = jax.grad(loss)(params, x, y, m) / jnp.sum(m, dtype=jnp.float64)
        u, state = opt.update(g, state, params)
        return jo.apply_updates(params, u), state

    params, plain = start, opt.init(start)
    for i in range(WINDOWS):
        if i != 4:
            params, plain = whole(params, plain, *(a[i].reshape(K * 6, *a.shape[3:]) for a in (x, y, valid)))
        np.testing.assert_allclose(path[(i + 1) * K - 1], params, rtol=1e-12, atol=1e-12)
        assert_same_bits(path[i * K : (i + 1) * K - 1], np.stack([path[i * K]] * (K - 1)))
    assert int(state.gradient_step) == WINDOWS - 1 and state.grad_sum.dtype == state.weight_sum.dtype == jnp.float64


def test_a_window_without_weight_makes_no_step():
    """The inner state stays bit for bit; a NaN of weight 0 is nothing; the next window is as if that had not been."""
    opt = jo.MultiSteps(jo.adam(0.1), 2, weighted=True)
    _, before = walk(opt, [(3.0, 2), (1.0, 2)])
    assert bool(opt.has_updated(before))
    state = before
    for n, g in enumerate((NAN, float("inf")), 1):
        u, state = stepper(opt)(jnp.full(1, g), state, jnp.float32(0), ONE)
        assert float(u[0]) == 0 and int(state.mini_step) == n % 2
        assert_same_bits(state.inner_opt_state, before.inner_opt_state)
        assert not bool(opt.has_updated(state)) and float(state.weight_sum) == 0
    assert int(state.gradient_step) == 1 and float(state.grad_sum[0]) == 0
    steps = []
    for pairs in ([(2.0, 1), (4.0, 0)], [(NAN, 0), (2.0, 1)]):
        one, two = state, before
        for g, w in pairs:
            u, one = stepper(opt)(jnp.full(1, g), one, jnp.float32(w), ONE)
            v, two = stepper(opt)(jnp.full(1, g), two, jnp.float32(w), ONE)
            assert float(u[0]) == float(v[0])
        assert_same_bits(one, two)
        steps.append(float(u[0]))
    assert steps[0] == steps[1] != 0


def test_a_gradient_left_out_brings_no_weight():
    opt = jo.MultiSteps(jo.sgd(1.0), 2, should_skip_update_fn=jo.skip_not_finite, weighted=True)
    steps, state = walk(opt, [(1.0, 1), (NAN, 1000), (3.0, 3), (NAN, 5)])
    assert steps == [0, 0, -1, 0]
    assert int(state.mini_step) == 0 and float(state.weight_sum) == 4 and bool(state.skip_state["should_skip"])


def test_a_schedule_of_k():
    opt = jo.MultiSteps(jo.sgd(1.0), lambda t: t + 1, weighted=True)
    assert walk(opt, [(2.0, 2), (1.0, 1), (3.0, 3), (0.0, 1), (3.0, 1), (3.0, 2)])[0] == [-1, 0, -1, 0, 0, -1.5]


def test_weights_of_every_kind():
    kinds = (2, 2.0, np.int64(2), np.float32(2), jnp.int32(2), jnp.bfloat16(2), np.asarray(2))
    states = [WEIGHTED.update(ONE, WEIGHTED.init(ONE), weight=w)[1] for w in kinds]
    states.append(quick.jit(lambda w: WEIGHTED.update(ONE, WEIGHTED.init(ONE), weight=w)[1])(jnp.int32(2)))
    for state in states:
        assert_same_bits(state, states[0])


def test_what_is_refused():
    state, plain = WEIGHTED.init(ONE), jo.MultiSteps(jo.sgd(1.0), 2)
    with pytest.raises(MissingArgumentError, match=r"MultiSteps\(sgd\): weight is missing.*weight=number"):
        WEIGHTED.update(ONE, state)
    for weight in ([1.0], jnp.ones(1), "1", True, jnp.ones((), bool), jnp.complex64(1)):
        with pytest.raises(HyperparameterError, match=r"weight must be one number >= 0 \(shape \(\)\)"):
            WEIGHTED.update(ONE, state, weight=weight)
    for weight in (-1, NAN, np.float32(-0.5), float("inf")):
        with pytest.raises(HyperparameterError, match="weight must be a finite number >= 0"):
            WEIGHTED.update(ONE, state, weight=weight)
    for call in (
        lambda: plain.update(ONE, plain.init(ONE), weight=2),
        lambda: plain.flush(plain.init(ONE), weight=2),
        lambda: WEIGHTED.flush(state, weight=2),
    ):
        with pytest.raises(TransformationError, match=r"weight is for the update of MultiSteps\(…, weighted=True\)"):
            call()
    with pytest.raises(StateError, match="must be a WeightedMultiStepsState"):
        WEIGHTED.update(ONE, plain.init(ONE), weight=1)
    for words, message in (
        ({"weighted": True, "use_grad_mean": False}, "a weighted step is made of a mean"),
        ({"accumulator_rounding": "up"}, "accumulator_rounding must be one of 'nearest', 'stochastic'"),
        ({"accumulator_rounding": "stochastic", "key": 0}, "is for accumulators of 16 bits"),
        ({"accumulator_rounding": "stochastic", "accumulator_dtype": jnp.bfloat16}, "needs a key"),
        ({"key": 0}, "key is for accumulator_rounding='stochastic' alone"),
    ):
        with pytest.raises(HyperparameterError, match=message):
            jo.MultiSteps(jo.sgd(1.0), 2, **words)


def test_other_arguments_go_on():
    """A weight as well where it is not weighed by, to an inner optimizer that names it."""
    seen = []

    def update(g, state, params=None, *, weight=None, value=None):
        seen.append((weight, value))
        return g, state

    inner = jo.GradientTransformation(lambda p: (), update)
    for words in ({}, {"weighted": True}):
        opt = jo.MultiSteps(inner, 1, **words)
        opt.update(ONE, opt.init(ONE), weight=3, value=4)
    assert seen == [(3, 4), (None, 4)]


# ---- short windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [{}, {"use_grad_mean": False}, {"weighted": True}], ids=["mean", "sum", "weighted"])
def test_flush_is_the_step_of_a_shorter_window(words):
    params = {"w": jnp.asarray([0.5, -1.0]), "n": None, "i": jnp.arange(2)}
    rng = np.random.default_rng(1)
    long, short = (
        jo.MultiSteps(jo.masked(jo.adam(0.1), {"w": True, "n": None, "i": False}), k, **words) for k in (4, 3)
    )
    told = (lambda n: {"weight": jnp.float32(n)}) if "weighted" in words else lambda n: {}
    update = [quick.jit(lambda g, s, n, opt=opt: opt.update(g, s, params, **told(n))) for opt in (long, short)]
    flush, states = quick.jit(lambda s: long.flush(s, params)), [long.init(params), short.init(params)]
    for n in (3, 0, 5):
        g = {"w": jnp.asarray(rng.normal(size=2), jnp.float32), "n": None, "i": jnp.zeros(2, jnp.int32)}
        (_, states[0]), (want, states[1]) = (f(g, s, n) for f, s in zip(update, states, strict=True))
    got, flushed = flush(states[0])
    assert_close(got, want, rtol=1e-6)
    assert_close(flushed, states[1], rtol=1e-6)
    assert bool(long.has_updated(flushed))
    zero, again = flush(flushed)  # nothing is gathered
    assert_same_bits(again, flushed)
    assert not any(np.any(x) for x in jax.tree.leaves(zero))
    after = jo.apply_updates(params, got)
    assert after["n"] is None and np.all(after["i"] == params["i"])
    assert_close(long.flush(states[0], params)[0], got, rtol=1e-6)  # not compiled
    alone, _ = jo.MultiSteps(jo.sgd(0.1), 4, **words).flush(jo.MultiSteps(jo.sgd(0.1), 4, **words).init(ONE))
    assert alone.shape == (1,) and not np.any(alone)


def test_flush_without_weight_makes_no_step():
    _, state = walk(WEIGHTED, [(NAN, 0)])
    u, after = WEIGHTED.flush(state)
    assert float(u[0]) == 0 and int(after.mini_step) == int(after.gradient_step) == 0


def test_flush_runs_the_inner_optimizer_where_there_is_something():
    calls = []

    def update(g, state, params=None):
        jax.debug.callback(lambda: calls.append(1))
        return g, state

    opt = jo.MultiSteps(jo.GradientTransformation(lambda p: jo.EmptyState(), update), 3)
    flush, state = jax.jit(opt.flush), opt.init(ONE)
    flush(state)
    _, state = opt.update(ONE, state)
    jax.block_until_ready(flush(state))
    jax.effects_barrier()
    assert len(calls) == 1


# ---- states ---------------------------------------------------------------------------------------------


def test_unweighted_states_are_as_they_were():
    assert jo.MultiStepsState._fields == ("mini_step", "gradient_step", "inner_opt_state", "acc_grads", "skip_state")
    rounded = jo.MultiSteps(
        jo.sgd(1.0), 2, accumulator_dtype=jnp.bfloat16, accumulator_rounding="stochastic", key=jax.random.key(1)
    )
    assert jax.tree.structure(rounded.init(ONE)) == jax.tree.structure(jo.MultiSteps(jo.sgd(1.0), 2).init(ONE))


def test_states_by_name():
    params = {"w": jnp.ones(2), "b": jnp.ones(1)}
    tx, plain = jo.MultiSteps(jo.adam(0.1), 3, weighted=True), jo.MultiSteps(jo.adam(0.1), 3)
    _, state = tx.update(params, tx.init(params), params, weight=2)
    saved = jo.state_dict(tx, state, params)
    assert {"grad_sum/w", "grad_sum/b", "weight_sum", "mini_step"} <= set(saved)
    assert_same_bits(jo.load_state(tx, params, saved)[0], state)
    as_dicts = {**state._asdict(), "inner_opt_state": [s._asdict() for s in state.inner_opt_state]}
    assert_same_bits(tx.update(params, as_dicts, params, weight=2), tx.update(params, state, params, weight=2))
    with pytest.raises(StateError, match="nothing was saved for 'acc_grads/b'"):
        jo.load_state(plain, params, saved)
    _, old = plain.update(params, plain.init(params), params)
    with pytest.raises(StateError, match="nothing was saved for 'grad_sum/b', 'grad_sum/w', 'weight_sum'"):
        jo.load_state(tx, params, jo.state_dict(plain, old, params), on_extra="drop")


def test_lanes_have_weights_of_their_own():
    opt = jo.MultiSteps(jo.adam(0.1), 2, weighted=True)
    g = jnp.asarray([[1.0, 2.0, 3.0, 4.0], [NAN, 2.0, 4.0, 6.0], [NAN, NAN, 1.0, 5.0]])[..., None]
    w = jnp.asarray([[1, 2, 3, 4], [0, 1, 1, 1], [0, 0, 2, 0]])

    def run(g, w):
        return jax.lax.scan(lambda s, x: opt.update(x[0], s, ONE, weight=x[1])[::-1], opt.init(ONE), (g, w))

    state, steps = quick.jit(jax.vmap(run))(g, w)
    one = quick.jit(run)
    for i in range(3):
        assert_close(jax.tree.map(lambda x, i=i: x[i], (state, steps)), one(g[i], w[i]))
    assert [int(n) for n in state.gradient_step] == [2, 2, 1]


def test_half_precision_gradients_are_summed_and_handed_on_in_float32():
    seen = []

    def update(g, state, params=None):
        seen.append(g.dtype)
        return g, state

    opt = jo.MultiSteps(jo.GradientTransformation(lambda p: (), update), 512, weighted=True)
    p = jnp.zeros(1, jnp.bfloat16)
    g = jnp.ones(1, jnp.bfloat16)
    state, steps = jax.lax.scan(lambda s, _: opt.update(g, s, p, weight=2)[::-1], opt.init(p), None, 512)
    assert steps.dtype == jnp.bfloat16 and state.grad_sum.dtype == jnp.float32 and seen[0] == jnp.float32
    assert float(steps[-1, 0]) == 0.5 and float(state.weight_sum) == 1024


# ---- accumulators of 16 bits ----------------------------------------------------------------------------


def gathered(opt, n=500, size=4096):
    """What is in the accumulator after 256 and n gradients of 1/3."""
    step = lambda s, _: (opt.update(jnp.full(size, 1 / 3), s)[1], None)  # noqa: E731
    _, start = opt.update(jnp.full(size, 256.0), opt.init(jnp.zeros(size)))
    return quick.jit(lambda s: jax.lax.scan(step, s, None, n)[0])(start)


def test_small_gradients_beside_a_large_sum():
    """Rounded to nearest 256 + 1/3 is 256, and stays; at random it is right in the mean."""
    n, size = 500, 4096
    nearest = jo.MultiSteps(jo.sgd(1.0), 512, False, accumulator_dtype=jnp.bfloat16)
    assert float(jnp.max(gathered(nearest, n).acc_grads)) == 256
    sums = np.float64(gathered(jo.MultiSteps(
        jo.sgd(1.0), 512, False, accumulator_dtype=jnp.bfloat16, accumulator_rounding="stochastic", key=0
    ), n).acc_grads)  # fmt: skip
    assert len(np.unique(sums)) > 5
    assert abs(sums.mean() - (256 + n / 3)) < 4 * sums.std() / np.sqrt(size)


@pytest.mark.parametrize("words", [{}, {"weighted": True}], ids=["mean", "weighted"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bf16", "f16"])
def test_rounding_at_random_goes_on_bit_for_bit(dtype, words):
    opt = jo.MultiSteps(
        jo.adam(0.1), 3, accumulator_dtype=dtype, accumulator_rounding="stochastic", key=1, **words
    )  # fmt: skip
    told = {"weight": 3} if words else {}
    g = jnp.asarray(np.random.default_rng(2).normal(size=(8, 5)), jnp.float32)
    run = quick.jit(lambda s, g: jax.lax.scan(lambda s, x: opt.update(x, s, x, **told)[::-1], s, g))
    start = opt.init(g[0])
    assert start[3].dtype == dtype
    half, one = run(start, g[:4])
    end, two = run(pickle.loads(pickle.dumps(on_host(half))), g[4:])
    whole, (first, last) = start, (jnp.concatenate([one, two])[:4], two)
    for part, want in ((g[:4], first), (g[4:], last)):
        whole, steps = run(whole, part)
        assert_same_bits(steps, want)
    assert_same_bits(whole, end)
    other, _ = run(start, g[:4])
    assert_same_bits(other, half)
    exact = jo.MultiSteps(jo.adam(0.1), 3, **words)
    want = jax.lax.scan(lambda s, x: exact.update(x, s, x, **told)[::-1], exact.init(g[0]), g)[1]
    np.testing.assert_allclose(jnp.concatenate([one, two]), want, atol=5e-3)


def test_what_is_left_out_is_not_rounded_again():
    opt = jo.MultiSteps(
        jo.sgd(1.0), 8, should_skip_update_fn=jo.skip_not_finite, accumulator_dtype=jnp.bfloat16, weighted=True,
        accumulator_rounding="stochastic", key=0,
    )  # fmt: skip
    step = quick.jit(lambda g, s, w: opt.update(g, s, weight=w)[1])
    state = step(jnp.full(64, 1 / 3), opt.init(jnp.zeros(64)), jnp.float32(1))
    for g, w in ((NAN, 1.0), (5.0, 0.0)):
        assert_same_bits(step(jnp.full(64, g), state, jnp.float32(w)).grad_sum, state.grad_sum)


# ---- sums of losses in micro-batches ----------------------------------------------------------------------


def errors_of(params, batch):
    """(sum, count) of squared errors; an integer mask says which examples are valid."""
    each = jnp.square(jnp.dot(jnp.tanh(jnp.dot(batch["x"], params["v"])), params["w"]) - batch["y"])
    return jnp.sum(jnp.where(batch["valid"], each, jnp.zeros_like(each))), jnp.sum(batch["valid"])


def problem(n, seed=0, share=0.4):
    rng = np.random.default_rng(seed)
    params = {"v": jnp.asarray(rng.normal(size=(3, 2))), "w": jnp.asarray(rng.normal(size=2))}
    batch = {"x": rng.normal(size=(n, 3)), "y": rng.normal(size=n), "valid": rng.random(n) < share}
    return params, jax.tree.map(jnp.asarray, batch)


def test_micro_batches_sum_to_the_batch(x64):
    """To twelve digits, with parts that have no valid example, and where none is valid at all."""
    params, batch = problem(24)
    batch["valid"] = batch["valid"].at[::4].set(False)  # a part of its own for 6 examples each
    whole = quick.jit(jax.value_and_grad(errors_of, has_aux=True))
    (total, count), grads = whole(params, batch)
    for size in (1, 6, 24, None):
        got = quick.jit(jo.loop.microbatched(errors_of, size))(params, batch)
        assert got[0][1].dtype == jnp.float64 and int(got[0][1]) == int(count) > 0
        assert_close(got, ((total, jnp.float64(count)), grads), rtol=1e-12, atol=1e-14)
    none = batch | {"valid": jnp.zeros(24, bool)}
    assert not any(np.any(x) for x in jax.tree.leaves(jo.loop.microbatched(errors_of, 6)(params, none)))


def test_what_a_loss_may_return():
    x, w = jnp.arange(6.0), jnp.asarray(2.0, jnp.bfloat16)
    each = lambda w, x: w.astype(jnp.float32) * x  # noqa: E731
    (total, count), g = jo.loop.microbatched(each, 2)(w, x)  # the loss of each example
    assert (float(total), float(count), float(g)) == (30, 6, 15)
    assert total.dtype == count.dtype == g.dtype == jnp.float32
    kinds = (3, 3.0, jnp.int32(3), np.float32(3), jnp.asarray(3, jnp.bfloat16))
    for n in (*kinds, jnp.ones((), bool)):
        (total, count), _ = jo.loop.microbatched(lambda w, x, n=n: (jnp.sum(w * x.astype(w.dtype)), n), 3)(w, x)
        assert count.dtype == jnp.float32 and float(count) == 2 * float(n)
    for wrong in (
        lambda w, x: jnp.sum(each(w, x)), lambda w, x: (each(w, x), 1), lambda w, x: (jnp.sum(x), x),
        lambda w, x: (jnp.sum(x), 1, 2), lambda w, x: (jnp.int32(1), 1), lambda w, x: (jnp.sum(x), "a"),
    ):  # fmt: skip
        with pytest.raises(TreeError, match=r"microbatched: loss_fn must return \(sum, count\), two numbers"):
            jo.loop.microbatched(wrong, 2)(w, x)
    with pytest.raises(TreeError, match="divisible by 4"):
        jo.loop.microbatched(each, 4)(w, x)


def test_other_arguments_and_axes():
    def loss(scale, x, w, y):
        return scale * jnp.sum(w * jnp.sum(x * y[None], axis=0)), x.shape[1]

    x, w, y = jnp.arange(12.0).reshape(2, 6), jnp.float32(2.0), jnp.arange(6.0)
    sums = jo.loop.microbatched(loss, 3, argnums=2, batch_argnums=(1, 3), in_axes=(1, 0))
    (total, count), g = sums(jnp.float32(0.5), x, w, y)
    want = 0.5 * float(jnp.sum(x * y[None]))
    assert (float(total), float(count), float(g)) == (2 * want, 6, want)
    np.testing.assert_allclose(sums.mean(jnp.float32(0.5), x, w, y), 2 * want / 6)


def test_sums_of_many_half_precision_parts_do_not_stall():
    w = jnp.ones((), jnp.bfloat16)
    (total, count), g = jo.loop.microbatched(lambda w, x: (jnp.sum(w * x), x.size), 1)(w, jnp.ones(512, jnp.bfloat16))
    assert (float(total), float(count), float(g)) == (512, 512, 512)


def test_from_padded_batches_to_steps(x64):
    """End to end, as the docstring says: four padded batches in parts make the step of the mean over all tokens."""
    optimizer, inner = jo.MultiSteps(jo.adamw(1e-2), 4, weighted=True), jo.adamw(1e-2)
    gradient = jo.loop.microbatched(errors_of, 2)
    (params, _), batches = (
        problem(1),
        [problem(8, seed, share)[1] for seed, share in ((1, 0.9), (2, 0.1), (3, 0), (4, 1))],
    )
    state = optimizer.init(params)

    @quick.jit
    def step(params, state, batch):
        (_, count), grads = gradient(params, batch)
        updates, state = optimizer.update(grads, state, params, weight=count)
        return jo.apply_updates(params, updates), state

    got = params
    for batch in batches:
        got, state = step(got, state, batch)
    joined = jax.tree.map(lambda *x: jnp.concatenate(x), *batches)
    mean = lambda p: errors_of(p, joined)[0] / jnp.sum(joined["valid"], dtype=jnp.float64)  # noqa: E731
    updates, _ = inner.update(jax.grad(mean)(params), inner.init(params), params)
    assert_close(got, jo.apply_updates(params, updates), rtol=1e-12)
    assert float(state.weight_sum) == int(jnp.sum(joined["valid"]))


def test_train_step_and_fit_take_it():
    """The weighted optimizer gets sums and weights, any other the gradient of the mean."""
    params, batch = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype != bool else x, problem(12))
    summed = jo.loop.microbatched(errors_of, 2)
    mean = lambda p, b: errors_of(p, b)[0] / jnp.sum(b["valid"], dtype=jnp.float32)  # noqa: E731
    starts = {}
    for opt in (jo.sgd(0.1), jo.MultiSteps(jo.sgd(0.1), 1, weighted=True)):
        step = quick.jit(jo.loop.train_step(summed, opt))
        carry, (loss, aux) = step(jo.loop.Carry(params, opt.init(params)), batch)
        assert aux is None
        starts[opt] = carry.params, loss
    want, (loss, _) = jo.loop.train_step(mean, jo.sgd(0.1))(jo.loop.Carry(params, jo.sgd(0.1).init(params)), batch)
    for got in starts.values():
        assert_close(got, (want.params, loss), rtol=1e-5)
    nothing = batch | {"valid": jnp.zeros(12, bool)}
    carry, (loss, _) = quick.jit(jo.loop.train_step(summed, jo.sgd(0.1)))(
        jo.loop.Carry(params, jo.sgd(0.1).init(params)), nothing
    )  # fmt: skip
    assert_same_bits(carry.params, params)
    assert np.isnan(loss)
    opt = jo.MultiSteps(jo.sgd(0.1), 2, weighted=True)
    plan = jo.data.mini_batch(12, 6)
    run = jax.jit(lambda p, b: jo.loop.fit(summed, p, opt, b, plan, key=jax.random.key(0), epochs=3))(params, batch)
    full, carry = jo.loop.train_step(mean, jo.sgd(0.1)), jo.loop.Carry(params, jo.sgd(0.1).init(params))
    for _ in range(3):
        carry, _ = full(carry, batch)
    assert_close(run.params, carry.params, rtol=1e-4)
    search = jo.chain(jo.sgd(4.0), jo.scale_by_backtracking_linesearch(8))  # it evaluates value_fn, the mean
    one, two = (
        jo.loop.train_step(f, search)(jo.loop.Carry(params, search.init(params)), batch)[0].params
        for f in (summed, mean)
    )
    assert_close(one, two, rtol=1e-5)
    with pytest.raises(MissingArgumentError, match="weight is missing"):  # it is looked for on the outside alone
        hidden = jo.chain(jo.clip(1.0), jo.MultiSteps(jo.sgd(0.1), 2, weighted=True))
        jo.loop.train_step(summed, hidden)(jo.loop.Carry(params, hidden.init(params)), batch)
    with pytest.raises(HyperparameterError, match="has_aux is of no use with microbatched"):
        jo.loop.train_step(summed, opt, has_aux=True)
