"""State dtypes never drift; half precision neither overflows, stalls nor turns to NaN."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from cases import assert_close, every, loss, params_like, whole

DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
OPTIMIZERS = lambda case: not case.direction  # noqa: E731


@every("dtypes")
def test_state_and_params_keep_their_dtypes(case):
    """All nine pairs of dtypes, traced abstractly; one of them, zero gradients in float16, run."""
    opt = whole(case)
    for p_dtype, g_dtype in itertools.product(DTYPES, DTYPES):
        params = params_like(p_dtype)
        grads = jax.tree.map(lambda p, g_dtype=g_dtype: jnp.zeros_like(p, g_dtype), params)
        state = opt.init(params)

        def step(g, s, p):
            u, s = opt.update(g, s, p)
            return u, s, jo.apply_updates(p, u)

        u, s, p = jax.eval_shape(step, grads, state, params)
        assert s == jax.eval_shape(lambda state=state: state)
        assert p == jax.eval_shape(lambda params=params: params)
        assert jax.tree.structure(u) == jax.tree.structure(grads)
    run = jax.jit(step)  # float16, float16
    for _ in range(2):
        u, state, params = run(grads, state, params)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves((u, state, params)) if x.dtype != jnp.uint32)


@every("dtypes", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bf16", "f16"])
def test_half_precision_steps_are_the_full_precision_ones_rounded(case, dtype):
    """One update from the same parameters and gradients differs by no more than rounding the result does."""
    opt = whole(case)
    half = params_like(dtype)
    full = jax.tree.map(lambda p: p.astype(jnp.float32), half)
    update = jax.jit(lambda g, s, p: opt.update(g, s, p))
    s_half, s_full = opt.init(half), opt.init(full)
    for k in (1.0, 0.5, -0.25):
        g_half = jax.tree.map(lambda g, k=k: (k * g).astype(dtype), jax.grad(loss)(full))
        u_half, s_half = update(g_half, s_half, half)
        u_full, s_full = update(jax.tree.map(lambda g: g.astype(jnp.float32), g_half), s_full, full)
    assert_close(u_half, u_full, rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize(
    ("name", "opt", "pick"),
    [
        ("adam", jo.scale_by_adam(), lambda s: s.nu),
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
    assert (state.mu.dtype, state.nu.dtype) == (jnp.bfloat16, jnp.float32)
    assert jo.trace(0.9, accumulator_dtype=jnp.float32).init(params).trace.dtype == jnp.float32


def test_count_saturates():
    big = jnp.int32(2**31 - 1)
    assert int(jo.numerics.next_count(big)) == 2**31 - 1
    assert int(jo.numerics.next_count(big - 1)) == 2**31 - 1
