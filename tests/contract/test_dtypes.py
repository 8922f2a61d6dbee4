"""State dtypes never drift; half precision neither overflows, stalls nor turns to NaN."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import jaxopt_ko as jo
from cases import assert_close, every, on_host, params_like, slope, whole
from engines import in_full

DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
OPTIMIZERS = lambda case: not case.direction and not case.words  # those that evaluate f do so in half precision  # noqa: E731


def in_dtypes(params, dtypes):
    """Its leaves in these dtypes, in order."""
    leaves, treedef = jax.tree.flatten(params)
    return treedef.unflatten([leaf.astype(dtype) for leaf, dtype in zip(leaves, dtypes, strict=True)])


@every("dtypes", parts=False)
def test_state_and_params_keep_their_dtypes(case):
    """All nine pairs of dtypes, three in one tree, traced abstractly; zero gradients in float16, run."""
    opt = whole(case)

    def step(g, s, p):
        u, s = opt.update(g, s, p)
        return u, s, jo.apply_updates(p, u)

    params = jax.eval_shape(lambda: in_dtypes(params_like(), DTYPES))
    state = jax.eval_shape(opt.init, params)
    for turn in range(3):
        grads = jax.eval_shape(lambda t=turn: in_dtypes(params_like(), DTYPES[t:] + DTYPES[:t]))
        u, s, p = jax.eval_shape(step, grads, state, params)
        assert (s, p) == (state, params)
        assert jax.tree.structure(u) == jax.tree.structure(grads)
    params = params_like(jnp.float16) if in_full(case) else {"w": params_like(jnp.float16)["w"]}
    grads, state = jax.tree.map(jnp.zeros_like, params), opt.init(params)
    run = quick.jit(step)
    for _ in range(2):
        u, state, params = run(grads, state, params)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(on_host((u, state, params))))


@functools.cache
def steps_in(dtype):
    """Parameters and three gradients in half precision, and the same numbers in float32."""
    half = params_like(dtype)
    full = jax.tree.map(lambda p: p.astype(jnp.float32), half)
    grads = [jax.tree.map(lambda g, k=k: (k * g).astype(dtype), slope(full)) for k in (1.0, 0.5, -0.25)]
    return half, full, [(g, jax.tree.map(lambda g: g.astype(jnp.float32), g)) for g in grads]


@every("dtypes", lambda case: OPTIMIZERS(case) and in_full(case))
def test_half_precision_steps_are_the_full_precision_ones_rounded(case):
    """One update from the same parameters and gradients differs by no more than rounding the result does."""
    opt = whole(case)
    update = quick.jit(lambda g, s, p: opt.update(g, s, p))
    for dtype in (jnp.bfloat16, jnp.float16):
        half, full, grads = steps_in(dtype)
        s_half, s_full = opt.init(half), opt.init(full)
        for g_half, g_full in grads:
            u_half, s_half = update(g_half, s_half, half)
            u_full, s_full = update(g_full, s_full, full)
        assert_close(u_half, u_full, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize(
    ("name", "opt", "pick"),
    [
        ("adam", jo.scale_by_adam(), lambda s: s.nu),
        ("adam-first", jo.scale_by_adam(b1=0.999), lambda s: s.mu),
        ("stddev-first", jo.scale_by_stddev(0.999), lambda s: s.mu),
        ("velocity", jo.trace(0.999), lambda s: s.trace),
        ("amsgrad", jo.scale_by_amsgrad(), lambda s: s.nu),
        ("adamax", jo.scale_by_adamax(), lambda s: s.nu),
        ("nadam", jo.scale_by_nadam(), lambda s: s.nu),
        ("rmsprop", jo.scale_by_rms(0.999), lambda s: s.nu),
        ("adadelta", jo.scale_by_adadelta(0.999), lambda s: s.e_g),
        ("ema", jo.ema(0.999), lambda s: s.ema),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_slow_averages_decay_in_half_precision(name, opt, pick, dtype):
    """0.999 is 1.0 in bfloat16, and 0.999 v rounds back to v: after 700 zero gradients half must be gone."""
    params = jnp.zeros(3, dtype)
    _, state = opt.update(jnp.ones(3, dtype), opt.init(params), params)
    before = pick(state)
    zero = jnp.zeros(3, dtype)
    state, _ = jax.lax.scan(lambda s, _: (opt.update(zero, s, params)[1], None), state, None, 700)
    np.testing.assert_allclose(pick(state), 0.999**700 * before, rtol=1e-3)


def test_sums_do_not_stall_in_half_precision():
    opt = jo.scale_by_rss(0.0)
    params = jnp.zeros(2, jnp.bfloat16)
    g = jnp.ones(2, jnp.bfloat16)
    state, _ = jax.lax.scan(lambda s, _: (opt.update(g, s)[1], None), opt.init(params), None, 1000)
    np.testing.assert_allclose(state.sum_of_squares, 1000.0)


def test_float16_gradients_do_not_overflow_the_norm():
    g = jnp.full(4, 300.0, jnp.float16)
    clip = jo.clip_by_global_norm(1.0)
    u, _ = clip.update(g, clip.init(g))
    np.testing.assert_allclose(u, 0.5, rtol=1e-3)


@pytest.mark.parametrize(("b", "t"), [(0.9, 1), (0.999, 1), (0.999, 2), (0.99999, 3), (0.5, 400), (0.0, 1)])
def test_bias_correction_keeps_float32s_digits(b, t):
    exact = -np.expm1(t * np.log(np.float64(np.float32(b)))) if b else 1.0
    got = jo.numerics.bias_correction(jnp.float32(b), jnp.int32(t))
    np.testing.assert_allclose(got, exact, rtol=5e-7)


def test_moment_dtypes_are_choices():
    params = jnp.zeros(3, jnp.bfloat16)
    state = jo.scale_by_adam(mu_dtype=jnp.float32, nu_dtype=jnp.bfloat16).init(params)
    assert (state.mu.dtype, state.nu.dtype) == (jnp.float32, jnp.bfloat16)
    state = jo.scale_by_adam().init(params)
    assert (state.mu.dtype, state.nu.dtype) == (jnp.float32, jnp.float32)
    assert jo.trace(0.9, accumulator_dtype=jnp.bfloat16).init(params).trace.dtype == jnp.bfloat16
    assert jo.trace(0.9).init(params).trace.dtype == jnp.float32


def test_count_saturates():
    big = jnp.int32(2**31 - 1)
    assert int(jo.numerics.next_count(big)) == 2**31 - 1
    assert int(jo.numerics.next_count(big - 1)) == 2**31 - 1


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize(
    "opt",
    [jo.rmsprop(0.1, 0.99, centered=True, eps_in_sqrt=False), jo.sgd(0.1, 0.99), jo.adam(0.1, b1=0.99), jo.nadam(0.1)],
    ids=["rmsprop-centered", "momentum", "adam", "nadam"],
)
def test_long_runs_in_half_precision_follow_full_precision(opt, dtype):
    noise = jax.random.uniform(jax.random.key(0), (2000, 4), minval=0.9, maxval=1.1)

    def last(dtype):
        params = jnp.zeros(4, dtype)

        def step(state, g):
            u, state = opt.update(g.astype(dtype), state, params)
            return state, u.astype(jnp.float32)

        return jax.lax.scan(step, opt.init(params), noise.astype(jnp.float16))[1][-100:]

    np.testing.assert_allclose(jnp.abs(last(dtype)).mean(), jnp.abs(last(jnp.float32)).mean(), rtol=0.05)


@pytest.mark.parametrize("g", [1e-7, 1e-6, 6e4])
@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamax", "nadam"])
def test_tiny_and_huge_float16_gradients_give_whole_steps(name, g):
    opt, g = getattr(jo, name)(0.1, eps=1e-12), jnp.full(2, g, jnp.float16)
    full = g.astype(jnp.float32)
    expected, _ = opt.update(full, opt.init(full), full)
    u, _ = opt.update(g, opt.init(g), g)
    assert bool(jnp.all(expected < -0.09))
    np.testing.assert_allclose(u, expected, rtol=1e-2)


@pytest.mark.parametrize("opt", [jo.nadam(0.1), jo.nadam(0.1, momentum_decay=4e-3), jo.adam(0.1)], ids=["a", "b", "c"])
def test_steps_go_on_when_the_count_is_full(opt):
    g = jnp.ones(2)
    state = jax.tree.map(lambda x: jnp.int32(2**31 - 2) if x.dtype == jnp.int32 else x, opt.init(g))
    for _ in range(3):
        u, state = opt.update(g, state)
        assert bool(jnp.all(u < 0))


def test_zero_over_zero_is_zero():
    g = jnp.zeros(2)
    for opt in (jo.adam(0.1, eps=0.0), jo.adamax(0.1, eps=0.0), jo.amsgrad(0.1, eps=0.0), jo.adagrad(0.1, 0.0, 0.0)):
        assert not np.any(opt.update(g, opt.init(g))[0])


def test_x64_may_be_switched_on_in_mid_run():
    for opt in (jo.nadam(0.1, momentum_decay=4e-3), jo.adam(0.1), jo.sgd(0.1, 0.9)):
        g = jnp.ones(2)
        _, state = opt.update(g, opt.init(g))
        with jax.enable_x64(True):
            _, state = opt.update(g, state)
        assert not any(x.dtype == jnp.float64 for x in jax.tree.leaves(state))


# of states: a mean or a sum of squares of gradients for each parameter, or for each row or neuron
SECOND = ("nu", "nu_max", "n", "sum_of_squares", "e_g", "e_x", "exp_avg_sq", "grad_sum_sq", "v_row", "v_col")


# of recipes for matrices AdamW takes the rest, in the state of "rest", unless they are given another; sm3's nu is a
# mean of steps; schedule_free_adamw keeps one for its base
WITHOUT = ("aurora", "polargrad", "dion2", "asgo", "muown", "spectral_sphere")
WITHOUT += ("sm3", "schedule_free_adamw", "galore", "muon", "dion", "scion", "kl_shampoo", "psgd_kron", "splus")


@every("dtypes", lambda case: case.make is None and not case.words and case.name.split("-")[0] not in WITHOUT, False)
def test_the_second_moment_has_a_dtype_of_its_own(case):
    """nu_dtype is of it and of nothing else, wherever there is one; by default nothing is less than float32."""
    params = params_like(jnp.bfloat16)

    names = (*SECOND, *["v"] * case.name.startswith("adafactor"))

    def second(opt):
        return [jo.tree.get_all_with_path(jax.eval_shape(opt.init, params), name) for name in names]

    found = [leaf.dtype for own in second(case()) for _, part in own for leaf in jax.tree.leaves(part)]
    takes = "nu_dtype" in inspect.signature(case.factory).parameters
    assert takes or not found, f"{case.name} has a second moment, and no word for its dtype"
    if not takes:
        return
    assert found and set(found) == {jnp.dtype(jnp.float32)}
    opt = case.factory(**case.hypers, **case.options | {"nu_dtype": jnp.float16})
    state = jax.eval_shape(opt.init, params)
    halves = [leaf.dtype for own in second(opt) for _, part in own for leaf in jax.tree.leaves(part)]
    assert jnp.dtype(jnp.float16) in halves and jax.tree.leaves(state).count(None) == 0
    number = [leaf.dtype for leaf in jax.tree.leaves(state)].count(jnp.dtype(jnp.float16))
    assert number == halves.count(jnp.dtype(jnp.float16))
    if not case.name.startswith("momo"):
        after = jax.eval_shape(lambda p: opt.update(p, opt.init(p), p), params)[1]
        assert after == state
    with pytest.raises(jo.errors.HyperparameterError, match="nu_dtype"):
        case.factory(**case.hypers, **case.options | {"nu_dtype": jnp.int32})
