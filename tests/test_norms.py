"""Norms and means over a leaf: float16 gradients of 300, gradients whose squares overflow, gradients of zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick

import jaxopt_ko as jo


def contrib(library):
    return optax.contrib if library is optax else library


METHODS = {
    "clip_by_global_norm": lambda jo: jo.clip_by_global_norm(1.0),
    "clip_by_norm": lambda jo: jo.clip_by_norm(1.0),
    "clip_by_block_rms": lambda jo: jo.clip_by_block_rms(1.0),
    "adaptive_grad_clip": lambda jo: jo.adaptive_grad_clip(0.1),
    "normalize": lambda jo: contrib(jo).normalize(),
    "normalize_by_update_norm": lambda jo: jo.normalize_by_update_norm(),
    "scale_by_trust_ratio": lambda jo: jo.scale_by_trust_ratio(),
    "scale_by_param_block_norm": lambda jo: jo.scale_by_param_block_norm(),
    "scale_by_param_block_rms": lambda jo: jo.scale_by_param_block_rms(),
    "lars": lambda jo: jo.lars(0.1, 1e-3),
    "fromage": lambda jo: jo.fromage(0.1),
    "novograd": lambda jo: jo.novograd(0.1),
    "lamb": lambda jo: jo.lamb(0.1),
    "adafactor": lambda jo: jo.adafactor(0.1, 2),
    "sm3": lambda jo: jo.sm3(0.1),
    "galore": lambda jo: contrib(jo).galore(0.1, 1),
}
SHAPE = (3, 4)


def step(library, name, g, p):
    with jax.numpy_dtype_promotion("standard"):
        opt = METHODS[name](library)
        return quick.jit(lambda g, p: opt.update(g, opt.init(p), p)[0])(g, p)


def is_right(u, want):
    """A step of the right length, finite, in its own dtype."""
    u = np.asarray(u, np.float64)
    return bool(np.isfinite(u).all()) and bool(np.allclose(u, want, rtol=2e-2, atol=1e-6 * np.abs(want).max()))


def wide_step(name, g, p):
    """In float64, where nothing overflows."""
    with jax.enable_x64(True):
        return np.asarray(
            step(jo, name, jnp.asarray(np.asarray(g, np.float64)), jnp.asarray(np.asarray(p, np.float64)))
        )


def in_float16(name):
    rng = np.random.default_rng(0)
    g = jnp.asarray(300 * np.sign(rng.normal(size=SHAPE)) * (1 + 0.1 * rng.random(SHAPE)), jnp.float16)
    p = jnp.asarray(rng.normal(size=SHAPE), jnp.float16)
    return g, p, wide_step(name, g, p)


OVERFLOWS_IN_OPTAX = (
    "clip_by_global_norm", "clip_by_block_rms", "adaptive_grad_clip", "normalize", "normalize_by_update_norm",
    "scale_by_trust_ratio", "lars", "fromage", "novograd", "adafactor", "sm3",
)  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_gradients_of_300_in_float16(name):
    g, p, want = in_float16(name)
    assert is_right(step(jo, name, g, p), want)


@pytest.mark.parametrize("name", OVERFLOWS_IN_OPTAX)
def test_optax_overflows_there(name):
    g, p, want = in_float16(name)
    assert not is_right(step(optax, name, g, p), want)


LARGE = ("clip_by_global_norm", "clip_by_norm", "clip_by_block_rms", "adaptive_grad_clip", "normalize",
         "normalize_by_update_norm", "scale_by_trust_ratio", "lars", "fromage")  # fmt: skip


@pytest.mark.parametrize("size", [1e25, 1e33, 1e19, 3e18])
@pytest.mark.parametrize("name", LARGE)
def test_squares_beyond_float32(name, size):
    rng = np.random.default_rng(0)
    g, p = jnp.asarray(size * rng.uniform(-1, 1, SHAPE), jnp.float32), jnp.asarray(rng.normal(size=SHAPE), jnp.float32)
    assert is_right(step(jo, name, g, p), wide_step(name, g, p))


@pytest.mark.parametrize("name", [name for name in LARGE if name != "clip_by_norm"])
def test_optax_loses_them(name):
    rng = np.random.default_rng(0)
    g, p = jnp.asarray(1e25 * rng.uniform(-1, 1, SHAPE), jnp.float32), jnp.asarray(rng.normal(size=SHAPE), jnp.float32)
    assert not is_right(step(optax, name, g, p), wide_step(name, g, p))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16], ids=["f32", "f16"])
@pytest.mark.parametrize("name", METHODS)
def test_zero_gradients_are_no_nan_and_have_a_slope(name, dtype):
    zero = jnp.zeros(SHAPE, dtype)
    for g in (zero, zero.at[0, 0].set(1)):
        for p in (zero, zero + 1):
            assert np.isfinite(step(jo, name, g, p)).all()
            opt = METHODS[name](jo)
            slope = quick.jit(jax.grad(lambda g, opt=opt, p=p: jnp.sum(opt.update(g, opt.init(p), p)[0])))(g)
            assert not np.isnan(slope).any()
            assert dtype == jnp.float16 or np.isfinite(slope).all()  # 1 / eps is beyond float16


def test_optax_has_nan_there():
    zero = jnp.zeros(SHAPE)
    nan = {name for name in METHODS if name != "clip_by_norm" and not np.isfinite(step(optax, name, zero, zero)).all()}
    assert nan == {"normalize"}
    half = {
        name
        for name in METHODS
        if name != "clip_by_norm"
        and not np.isfinite(step(optax, name, zero.astype(jnp.float16), zero.astype(jnp.float16))).all()
    }
    assert half >= {"normalize", "adafactor"}


def test_a_nan_passes_no_clip_unseen_and_infinity_is_no_zero():
    for name in ("clip_by_global_norm", "clip_by_norm", "clip_by_block_rms", "normalize"):
        for bad in (jnp.nan, jnp.inf):
            assert np.isnan(step(jo, name, jnp.array([1.0, bad]), jnp.ones(2))).any()


@pytest.mark.parametrize("x", [3e-5, 1.0, 1e18, 1e19, 1e20, 1e30, 1e37])
def test_length_has_float32s_digits_and_its_slope(x):
    v = jnp.array([3.0, -4.0, 0.0], jnp.float32) * jnp.float32(x)
    length, slope = jax.value_and_grad(jo.numerics.length)(v)
    np.testing.assert_allclose(length, 5 * x, rtol=1e-6)
    np.testing.assert_allclose(slope, [0.6, -0.8, 0.0], rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(jo.numerics.length)(0 * v), 0.0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16], ids=["f32", "f16"])
def test_examples_are_clipped_one_by_one(dtype):
    """Zero, 300 in float16, what need not be clipped; the doctest of optax."""
    grads = {"a": jnp.array([[0, 0], [300, 400], [0.3, 0.4]], dtype), "b": jnp.zeros((3, 1), dtype)}
    clipped, count = jo.per_example_global_norm_clip(grads, 1.0)
    np.testing.assert_allclose(clipped["a"], [0.9, 1.2], rtol=1e-3)
    assert int(count) == 1 and clipped["a"].dtype == dtype
    g = [jnp.array([[0, 0, 0], [0, 3, 4], [4, 0, 3], [3, 4, 0.0]])]
    for bound, total, number in ((jnp.inf, 7.0, 0), (0.0, 0.0, 3), (1.25, 1.75, 3)):
        sums, count = jo.per_example_global_norm_clip(g, bound)
        np.testing.assert_allclose(sums[0], total)
        assert int(count) == number
        sums, counts = jo.per_example_layer_norm_clip(g, bound)
        np.testing.assert_allclose(sums[0], total)
        assert int(counts[0]) == number
    assert jo.per_example_global_norm_clip({}, 1.0)[0] == {}
    with pytest.raises(jo.errors.TreeError, match="per_example_global_norm_clip: every gradient must have the ex"):
        jo.per_example_global_norm_clip([jnp.ones(2), jnp.ones(3)], 1.0)
    if dtype == jnp.float16:
        theirs, _ = optax.per_example_global_norm_clip(grads, 1.0)
        assert not np.allclose(theirs["a"], [0.9, 1.2], rtol=1e-3)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (4, 3), (4, 2, 3), (2, 2, 3, 4), (2, 1, 2, 3, 4)])
def test_units_are_optaxs(shape):
    x = jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)
    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(jo.unitwise_norm(x), optax.transforms.unitwise_norm(x), rtol=1e-6)
        clipped = optax.transforms.unitwise_clip(optax.transforms.unitwise_norm(x), 0.5 * jnp.ones(shape), x)
    np.testing.assert_allclose(jo.unitwise_clip(jo.unitwise_norm(x), 0.5 * jnp.ones(shape), x), clipped, rtol=1e-6)


def test_units_that_nobody_knows():
    with pytest.raises(jo.errors.TreeError, match="unitwise_norm: there is a rule for 5 axes at most"):
        jo.unitwise_norm(jnp.ones((2,) * 6))
    with pytest.raises(jo.errors.TreeError, match="unitwise_clip: the max_norm leaf"):
        jo.unitwise_clip(jnp.ones(2), jnp.ones(()), jnp.ones(2))
