"""Norms and means over a leaf: float16 gradients of 300, gradients whose squares overflow, gradients of zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick

import jaxopt_ko as jo
from jaxopt_ko.core import treewise


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


@pytest.mark.parametrize("name", LARGE)
def test_squares_beyond_float32(name):
    """Also where the quotient of both norms, or of a norm and a bound, is beyond it; alone and under vmap."""
    rng = np.random.default_rng(0)
    sizes = np.array([1e25, 1e33, 1e19, 3e18, 1.0, 1e-10, 1e-19, 1e-20, 1e-25, 1e-33, 1e-36])
    p, g = rng.normal(size=SHAPE).astype(np.float32), rng.uniform(-1, 1, SHAPE)
    g = (sizes[:, None, None] * g).astype(np.float32)
    opt = METHODS[name](jo)

    def steps(dtype):
        with jax.enable_x64(dtype == np.float64):
            scaled = jax.vmap(lambda g, p: opt.update(g, opt.init(p), p)[0], (0, None))
            return np.asarray(quick.jit(scaled)(jnp.asarray(g, dtype), jnp.asarray(p, dtype)))

    got, want = steps(np.float32), steps(np.float64)
    for size, u, right in zip(sizes, got, want, strict=True):
        assert is_right(u, right), size
    np.testing.assert_allclose(step(jo, name, jnp.asarray(g[8]), jnp.asarray(p)), got[8], rtol=1e-6)


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


SIZES = np.array([1e-37, 1e-30, 1e-20, 1e-19, 3e-10, 3e-5, 1.0, 1e18, 1e19, 1e20, 1e30, 3e37], np.float32)


def test_length_has_float32s_digits_and_its_slopes():
    v = jnp.asarray(np.float32([3, -4, 0]) * SIZES[:, None])
    length, slope = quick.jit(jax.vmap(jax.value_and_grad(jo.numerics.length)))(v)
    np.testing.assert_allclose(length, 5 * SIZES, rtol=1e-6)
    np.testing.assert_allclose(slope, np.broadcast_to([0.6, -0.8, 0.0], v.shape), rtol=1e-5)
    bent = quick.jit(jax.vmap(lambda v, s: s * jax.hessian(jo.numerics.length)(v)))(v, SIZES)
    np.testing.assert_allclose(bent[:-1, 0], np.broadcast_to([0.128, 0.096, 0.0], v[:-1].shape), rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(jo.numerics.length)(0 * v), 0.0)
    assert np.isinf(jo.numerics.length(jnp.array([1.0, jnp.inf]))) and np.isnan(jo.numerics.length(v * jnp.nan))


@pytest.mark.parametrize("precise", [False, True])
def test_lengths_of_what_is_known_when_compiled(precise, monkeypatch):
    """XLA's simplifier has its hands on constants: it made NaN of zeros."""
    monkeypatch.setattr(jo.numerics, "_wide_root", jo.numerics._root_of_three)
    with jax.enable_x64(precise):
        top, least = (float(getattr(np.finfo(jnp.zeros(0).dtype), name)) for name in ("max", "tiny"))
        for size in (0.0, 4 * least, 1.0, top / 4):
            constant = lambda x, size=size: jo.numerics.length(0 * x + size if size else jnp.zeros(4))  # noqa: E731
            for compiled in (quick.jit(constant), quick.exact(constant)):
                np.testing.assert_allclose(compiled(jnp.ones(4)), 2 * size, rtol=1e-6)


@pytest.mark.parametrize("form", ["_wide_root", "_root_of_three"])
def test_every_norm_at_both_ends(form, monkeypatch):
    """As many ways to say it as the library has: of arrays along axes, stacks, units, trees, vectors, in every dtype.

    As a CPU takes it, and as accelerators do.
    """
    monkeypatch.setattr(jo.numerics, "_wide_root", getattr(jo.numerics, form))
    one = np.random.default_rng(0).uniform(0.5, 1, (2, 3, 4)).astype(np.float32)
    norms = {
        "length": lambda x: jo.numerics.length(x, (0, 2)),
        "kept": lambda x: jo.numerics.length(x, -1, keepdims=True),
        "norm": lambda x: jo.numerics.norm(x.reshape(-1)),
        "rms": jo.numerics.root_mean_square,
        "safe_rms": lambda x: jo.safe_root_mean_squares(x, 0.0),
        "safe": lambda x: jo.safe_norm(x.reshape(-1), 0.0),
        "safe_3": lambda x: jo.safe_norm(x, 0.0, ord=3, axis=1),
        "safe_2": lambda x: jo.safe_norm(x, 0.0, ord="fro", axis=(1, 2), keepdims=True),
        "frobenius": jo.linalg.matrix_functions.frobenius,
        "unit": jo.unitwise_norm,
        "global": lambda x: jo.global_norm({"a": x, "b": (x[0], None)}),
        "tree": lambda x: jo.tree.norm([x, x]),
        "vector": lambda x: treewise.Vector([x, x[0]]).norm(),
        "scalar": lambda x: jo.numerics.length(x[0, 0, 0]) + jo.global_norm(x[1, :1, :1]),
        "complex": lambda x: jo.numerics.length(jax.lax.complex(x, -x)),
        "half": lambda x: jo.global_norm(x.astype(jnp.bfloat16)).astype(jnp.float32),
    }

    def all_of(x):
        return {name: norm(x) for name, norm in norms.items()}

    got = quick.jit(jax.vmap(all_of))(jnp.asarray(one * SIZES[:, None, None, None]))
    want = quick.jit(all_of)(jnp.asarray(one, jnp.float32))
    for name in norms:
        for now, size in zip(got[name], SIZES, strict=True):
            rtol = 1e-2 if name == "half" else 2e-6
            np.testing.assert_allclose(now, want[name] * size, rtol=rtol, err_msg=f"{name} {size}")
    assert jo.global_norm({}) == 0 and jo.global_norm(jnp.zeros((0, 3))) == 0
    np.testing.assert_allclose(jo.global_norm(jnp.full(4, 300, jnp.float16)), 600)
    with jax.enable_x64(True):
        for size in (1e-300, 1e-170, 1.0, 1e300):
            np.testing.assert_allclose(jo.global_norm([jnp.full(4, size), jnp.zeros(2, jnp.float32)]), 2 * size)


def test_small_and_large_in_one_gradient():
    """What is small beside the rest counts for nothing, and spoils nothing."""
    mixed = jnp.array([3e-30, 4e-30, 1e-37, 0.0], jnp.float32)
    for size in (1.0, 1e30, 1e35, 1e60):
        x = mixed * jnp.float32(min(size, 1e38)) * jnp.float32(max(size / 1e38, 1))
        np.testing.assert_allclose(jo.numerics.length(jnp.append(x, 1e-37)), 5e-30 * size, rtol=1e-6)
    np.testing.assert_allclose(jo.numerics.length(jnp.array([3e25, 4e25, 1.0, 1e-30], jnp.float32)), 5e25, rtol=1e-6)


def test_clips_have_slopes_at_both_ends():
    """Clipped to 1/10 of its norm: the part along g has slope 0, the rest 1/10."""
    for size in (1e-30, 1.0, 1e30):
        g = jnp.array([size, 0.0], jnp.float32)
        clip = jo.clip_by_global_norm(jnp.float32(size / 10))
        slopes = quick.jit(jax.jacobian(lambda g, clip=clip: clip.update(g, clip.init(g))[0]))(g)
        np.testing.assert_allclose(slopes, [[0, 0], [0, 0.1]], atol=1e-6)


def test_a_bound_far_from_the_norm():
    """Their quotient is below float32's least number."""
    g = {"a": jnp.full((2, 4), 2e30, jnp.float32)}
    clip = jo.clip_by_global_norm(1e-12)
    u = clip.update(g, clip.init(g))[0]["a"]
    np.testing.assert_allclose(u, 1e-12 / 8**0.5, rtol=1e-5)
    np.testing.assert_allclose(jo.per_example_global_norm_clip(g, 1e-12)[0]["a"], 1e-12, rtol=1e-5)
    np.testing.assert_allclose(jo.unitwise_clip(g["a"], 0 * g["a"] + 1e-12, g["a"]), 1e-12, rtol=1e-5)


def test_steps_by_norms_at_both_ends():
    """Methods with a norm inside give the same step for gradients of any size, or of the same part of it."""
    one = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4)), jnp.float32)
    for name, make in {
        "muon": lambda: jo.scale_by_muon(eps=0.0, ns_steps=2),
        "aol": lambda: jo.scale_by_muon(eps=0.0, ns_steps=2, preconditioning="aol"),
        "schatten": lambda: jo.scale_by_muon(eps=0.0, ns_steps=2, preconditioning="schatten"),
        "scion": lambda: jo.scale_by_lmo("rms", eps=0.0),
        "normalized": lambda: jo.normalize_by_update_norm(eps=0.0),
        "trusted": jo.scale_by_trust_ratio,
    }.items():
        opt = make()
        run = quick.jit(lambda g, opt=opt: opt.update(g, opt.init(g), one)[0])
        for size in (1e-30, 1e30):
            np.testing.assert_allclose(run(one * size), run(one), rtol=2e-5, atol=1e-6, err_msg=f"{name} {size}")


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e25])
def test_steps_by_values_and_norms_at_both_ends(size):
    """A plane of any slope down to its least value: one step ends there."""
    g, p = jnp.array([0.6, 0.8], jnp.float32) * jnp.float32(size), jnp.zeros(2, jnp.float32)
    for opt in (jo.polyak_sgd(max_learning_rate=jnp.inf), jo.momo(learning_rate=1e37, beta=0.0)):
        u = opt.update(g, opt.init(p), p, value=jnp.float32(size))[0]
        far = min(1.0, 1e37 * size) if repr(opt.update) == "momo" else 1.0
        np.testing.assert_allclose(u, [-0.6 * far, -0.8 * far], rtol=1e-5)


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
