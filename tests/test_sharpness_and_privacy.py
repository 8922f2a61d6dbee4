"""SAM, differential privacy, plateaus, microbatches, slow copies, curvature: laws, mended mistakes, optax's steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from test_wrappers import standard

import jaxopt_ko as jo
from cases import assert_close, loss, params_like

NAN = float("nan")
RNG = np.random.default_rng(0)


def bowl(p):
    return sum(jnp.sum((1 + jnp.arange(x.size, dtype=x.dtype).reshape(x.shape)) * jnp.sin(x) ** 2) for x in p.values())


def normalized(lib, rho):
    def unit(g, _):
        norm = jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(g)))
        return jax.tree.map(lambda x: x / norm, g)

    return lib.chain(lib.stateless(unit), lib.sgd(rho))


# ---- SAM ------------------------------------------------------------------------------------------------


def sams(lib, **words):
    make = jo.sam if lib is jo else optax.contrib.sam
    return make(lib.sgd(0.02, 0.5), normalized(lib, 0.05), **words)


def sam_run(lib, params, steps, words=None, **options):
    opt = sams(lib, **options)

    @standard
    def run(p):
        def step(c, _):
            u, s = opt.update(jax.grad(bowl)(c[0]), c[1], c[0], **(words or {}))
            p = lib.apply_updates(c[0], u)
            return (p, s), p

        return jax.lax.scan(step, (p, opt.init(p)), None, steps)[1]

    return quick.jit(run)(params)


def start(dtype=jnp.float64):
    return {"a": jnp.asarray(RNG.normal(size=(2, 2)), dtype), "b": jnp.asarray(RNG.normal(size=3), dtype)}


@pytest.mark.parametrize("opaque", [False, True])
def test_sam_step_by_step_as_in_optax(opaque, x64):
    params = start()
    words = {"grad_fn": lambda p, i: jax.grad(bowl)(p)} if opaque else None
    ours, theirs = (sam_run(lib, params, 60, words, opaque_mode=opaque, sync_period=3) for lib in (jo, optax))
    assert_close(ours, theirs, rtol=1e-9, atol=1e-14)


def test_sam_follows_the_paper(x64):
    """Algorithm 1 in NumPy; and the transparent mode's every second point is the opaque mode's."""
    params = start()
    a, b = params["a"], params["b"]
    opaque = sam_run(jo, params, 30, {"grad_fn": lambda p, i: jax.grad(bowl)(p)}, opaque_mode=True)
    transparent = sam_run(jo, params, 60)
    assert_close(jax.tree.map(lambda x: x[1::2], transparent), opaque, rtol=1e-9, atol=1e-14)
    x, v = np.concatenate([np.ravel(a), np.ravel(b)]), 0.0
    c = np.array([1.0, 2, 3, 4, 1, 2, 3])
    for k in range(30):
        g = 2 * c * np.sin(x) * np.cos(x)
        y = x + 0.05 * g / np.linalg.norm(g)
        v = 0.5 * v + 2 * c * np.sin(y) * np.cos(y)
        x = x - 0.02 * v
        np.testing.assert_allclose(np.concatenate([opaque["a"][k].ravel(), opaque["b"][k]]), x, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("lib", [optax, jo], ids=["optax", "ours"])
def test_sam_without_a_climb_is_its_optimizer(lib):
    """sync_period=1: optax goes back to the point before at each step, 0.2 instead of 0.4 after four."""
    opt = (jo.sam if lib is jo else optax.contrib.sam)(lib.sgd(0.1), lib.sgd(0.1), sync_period=1)
    p = jnp.zeros(1)
    state = opt.init(p)
    for _ in range(4):
        u, state = standard(opt.update)(jnp.ones(1), state, p)
        p = p + u
    np.testing.assert_allclose(p, -0.4 if lib is jo else -0.2, rtol=1e-6)


@pytest.mark.parametrize("lib", [optax, jo], ids=["optax", "ours"])
def test_sam_recovers_from_a_nan_and_keeps_keys(lib):
    """Its states are selected, not mixed by arithmetic: a NaN in the climb stays there, and a key stays a key."""
    climb = lib.add_noise(0.0, 0.0, 0) if lib is jo else optax.add_noise(0.0, 0.0, 0)
    opt = (jo.sam if lib is jo else optax.contrib.sam)(lib.adam(0.1), lib.chain(climb, lib.sgd(0.1)))
    p = jnp.zeros(1)

    def run():
        return opt.update(jnp.full(1, NAN), opt.init(p), p)[1]

    if lib is jo:
        state = run()
        assert float(state.opt_state[0].mu[0]) == 0
        assert jnp.issubdtype(state.adv_state[0].rng_key.dtype, jax.dtypes.prng_key)
        return
    with jax.numpy_dtype_promotion("standard"):
        with pytest.raises(TypeError, match="key"):
            run()
        opt = optax.contrib.sam(lib.adam(0.1), lib.sgd(0.1))
        assert np.isnan(run().opt_state[0].mu).all()


def test_sam_comes_back_exactly_in_bfloat16():
    """A climb and the way back without a step of the optimizer: the same bits."""
    p = jnp.asarray(RNG.normal(size=200), jnp.bfloat16)
    opt = jo.sam(jo.sgd(0.0), jo.sgd(0.05))
    state, there = opt.init(p), p
    for _ in range(2):
        u, state = opt.update(jnp.asarray(RNG.normal(size=200), jnp.bfloat16), state, there)
        there = jo.apply_updates(there, u)
    np.testing.assert_array_equal(np.float32(there), np.float32(p))


def test_sam_refuses():
    with pytest.raises(jo.errors.HyperparameterError, match="sync_period"):
        jo.sam(jo.sgd(0.1), jo.sgd(0.1), sync_period=0)
    opt, p = jo.sam(jo.sgd(0.1), jo.sgd(0.1), opaque_mode=True), jnp.ones(1)
    with pytest.raises(jo.errors.MissingArgumentError, match="grad_fn"):
        opt.update(p, opt.init(p), p)
    with pytest.raises(jo.errors.MissingArgumentError, match="params"):
        opt.update(p, opt.init(p))


# ---- differential privacy -------------------------------------------------------------------------------


def test_private_gradients_step_by_step_as_in_optax(x64):
    """The same draws, too, for the same key."""
    g = {"a": jnp.asarray(RNG.normal(size=(50, 4, 2, 3))), "b": jnp.asarray(RNG.normal(size=(50, 4)))}

    @standard
    def run(dpsgd, lib):
        opt = dpsgd(0.1, 1.0, 0.5, seed=3, momentum=0.9, nesterov=True)
        first = opt.init({"a": jnp.zeros((2, 3)), "b": jnp.zeros(())})
        return quick.jit(lambda: jax.lax.scan(lambda s, x: opt.update(x, s)[::-1], first, g)[1])()

    with pytest.warns(DeprecationWarning):
        theirs = run(optax.contrib.dpsgd, optax)
    assert_close(run(jo.dpsgd, jo), theirs, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("lib", [optax.contrib, jo], ids=["optax", "ours"])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32], ids=["f16", "f32"])
def test_private_norms_do_not_overflow(lib, dtype):
    """300 in float16 and 1e30 in float32 are clipped to norm 1; for optax such an example is none."""
    g = jnp.full((2, 4), 300.0 if dtype == jnp.float16 else 1e30, dtype)
    opt = lib.differentially_private_aggregate(1.0, 0.0, 0)
    u, _ = standard(opt.update)(g, opt.init(g[0]))
    np.testing.assert_allclose(np.float32(u), 0.5 if lib is jo else 0.0, rtol=1e-3)


def test_noise_is_float32_and_has_its_size():
    g = jnp.zeros((8, 20_000), jnp.bfloat16)
    opt = jo.differentially_private_aggregate(2.0, 3.0, jax.random.key(1))
    u, _ = opt.update(g, opt.init(g[0]))
    assert u.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(u).std(), 2 * 3 / 8, rtol=0.03)
    zero = jo.differentially_private_aggregate(1.0, 0.0, 0)
    slope = jax.grad(lambda x: jnp.sum(zero.update(x, zero.init(x[0]))[0]))(jnp.zeros((2, 3)))
    np.testing.assert_allclose(slope, 0.5)


def test_privacy_refuses():
    with pytest.raises(jo.errors.HyperparameterTypeError, match="key"):
        jo.differentially_private_aggregate(1.0, 1.0)
    with pytest.raises(jo.errors.HyperparameterError, match="learning_rate"):
        jo.dpsgd(None, 1.0, 1.0, 0)
    opt = jo.differentially_private_aggregate(1.0, 1.0, key=0)
    for g in ({"a": jnp.ones(3), "b": jnp.ones(2)}, {"a": jnp.ones(())}):
        with pytest.raises(jo.errors.TreeError, match="examples as its first axis"):
            opt.update(g, opt.init(g))


# ---- plateaus -------------------------------------------------------------------------------------------


def scales(make, values, **options):
    opt = make(**options)
    g = jnp.ones(1)

    @standard
    def step(state, value):
        u, state = opt.update(g, state, value=value)
        return state, u[0]

    return np.asarray(jax.lax.scan(step, opt.init(g), jnp.asarray(values))[1])


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"patience": 1, "cooldown": 2, "factor": 0.5},
        {"patience": 2, "accumulation_size": 3, "factor": 0.5, "min_scale": 0.2},
        {"patience": 3, "rtol": 0.05, "atol": 0.01},
    ],
    ids=str,
)
def test_plateaus_step_by_step_as_in_optax(options, x64):
    values = np.maximum(1.0, 5 * 0.9 ** np.arange(60)) + 0.05 * np.random.default_rng(1).random(60)
    ours, theirs = (scales(m, values, **options) for m in (jo.reduce_on_plateau, optax.contrib.reduce_on_plateau))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert ours[-1] < 1


@pytest.mark.parametrize("make", [optax.contrib.reduce_on_plateau, jo.reduce_on_plateau], ids=["optax", "ours"])
def test_plateaus_below_zero_and_without_patience(make):
    """optax takes standing still at -1 for better, for (1 - rtol) (-1) > -1; and with patience=0 it reduces the
    steps when the value gets better."""
    still = scales(make, [-1.0] * 8, patience=2, factor=0.5, rtol=0.1)
    falling = scales(make, [8.0, 4.0, 2.0, 1.0], patience=0, factor=0.5)
    if make is jo.reduce_on_plateau:
        np.testing.assert_allclose(still, [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125])
        np.testing.assert_allclose(falling, 1)
        np.testing.assert_allclose(scales(make, [1.0] * 3, patience=0, factor=0.5), [1, 0.5, 0.25])
    else:
        np.testing.assert_allclose(still, 1)
        np.testing.assert_allclose(falling, [0.5, 0.25, 0.125, 0.0625])


def test_plateaus_refuse():
    opt, g = jo.reduce_on_plateau(), jnp.ones(1)
    with pytest.raises(jo.errors.MissingArgumentError, match="value=loss"):
        opt.update(g, opt.init(g))
    for bad in ({"factor": 1.0}, {"factor": 0.0}, {"rtol": 1.5}, {"patience": -1}, {"patience": 1.5}):
        with pytest.raises(jo.errors.HyperparameterError, match=next(iter(bad))):
            jo.reduce_on_plateau(**bad)


# ---- microbatches ---------------------------------------------------------------------------------------

M = jo.microbatching
Kind = M.AccumulationType


def test_microbatches_give_what_the_batch_gives():
    x, y = jnp.asarray(RNG.normal(size=(12, 3)), jnp.float32), jnp.asarray(RNG.normal(size=12), jnp.float32)

    def fun(w, x, *, y):
        r = x @ w - y
        return {"each": r, "sum": jnp.sum(r**2), "mean": {"m": jnp.mean(r), "n": jnp.mean(r**2)}}

    kinds = {"each": Kind.CONCAT, "sum": Kind.SUM, "mean": Kind.MEAN}
    w = jnp.ones(3)
    for size in (1, 3, 4, 12):
        parts = jo.microbatch(fun, 1, size, kinds, argnames="y")
        assert_close(jax.jit(parts)(w, x, y=y), fun(w, x, y=y), rtol=2e-5, atol=1e-6)
        slope = jax.grad(lambda w, parts=parts: parts(w, x, y=y)["sum"])(w)
        assert_close(slope, jax.grad(lambda w: fun(w, x, y=y)["sum"])(w), rtol=2e-5, atol=1e-5)
    theirs = optax.microbatching.reshape_batch_axis(x, 4)
    np.testing.assert_array_equal(M.reshape_batch_axis(x, 4), theirs)
    np.testing.assert_array_equal(M.reshape_batch_axis(x.T, 4, axis=1), theirs.transpose(2, 0, 1))
    three = lambda x: (jnp.sum(x), jnp.mean(x), jnp.mean(x))  # noqa: E731
    kinds = (Kind.SUM, Kind.MEAN, Kind.RUNNING_MEAN)
    seen = jo.microbatch(three, 0, 4, kinds, num_real_microbatches=jnp.int32(2))(y)
    two = M.reshape_batch_axis(y, 4)[:2]
    assert_close(seen, (jnp.sum(two), jnp.mean(two), jnp.mean(two)), rtol=1e-5)


@pytest.mark.parametrize("lib", [optax, jo], ids=["optax", "ours"])
def test_sums_of_many_parts_do_not_stall_in_bfloat16(lib):
    """512 ones: optax adds in bfloat16, which stays at 256."""
    total = standard(lib.microbatch(jnp.sum, 0, 1))(jnp.ones(512, jnp.bfloat16))
    assert total.dtype == jnp.bfloat16 and float(total) == (256 if lib is optax else 512)


def test_gradients_of_single_examples_as_in_optax(x64):
    x, y, w = jnp.asarray(RNG.normal(size=(8, 2))), jnp.asarray(RNG.normal(size=8)), jnp.ones(2)
    cost = lambda w, x, y: 0.5 * jnp.mean((x @ w - y) ** 2)  # noqa: E731
    words = {"batch_argnums": (1, 2), "microbatch_size": 2, "transform_fn": lambda g: (g, g**2)}

    def run(lib):
        m = lib.microbatching
        kind = m.AccumulationType.MEAN
        (g, g2), aux = m.micro_grad(cost, metrics_fn=jnp.linalg.norm, accumulator=kind, **words)(w, x, y)
        return g, g2, aux.values, aux.metrics

    assert_close(run(jo), standard(run)(optax), rtol=1e-12)
    squares = M.micro_vmap(lambda x, *, k: k * jnp.sum(x**2), microbatch_size=4)
    np.testing.assert_allclose(squares(x, k=y), y * jnp.sum(x**2, axis=1))
    np.testing.assert_allclose(M.micro_vmap(jnp.sum, accumulator=Kind.SUM, microbatch_size=2)(x), jnp.sum(x))


def test_microbatches_refuse():
    with pytest.raises(jo.errors.TreeError, match="divisible by 3"):
        jo.microbatch(jnp.sum, 0, 3)(jnp.ones(8))
    with pytest.raises(jo.errors.TreeError, match="averaged results"):
        jo.microbatch(jnp.sum, 0, 2, Kind.MEAN)(jnp.arange(8))
    with pytest.raises(jo.errors.HyperparameterError, match="accumulator"):
        jo.microbatch(jnp.sum, 0, 2, "sum")(jnp.ones(8))
    with pytest.raises(jo.errors.HyperparameterError, match="out_axes"):
        M.micro_vmap(jnp.sum, out_axes=1)
    assert jo.microbatch(jnp.sum, 0, None) is jnp.sum


# ---- slow copies, gradients backward, curvature ---------------------------------------------------------


def test_slow_copies():
    new, old = {"a": jnp.full(2, 4.0), "b": None}, {"a": jnp.zeros(2, jnp.bfloat16), "b": None}
    mixed = jo.incremental_update(new, old, jnp.float32(0.25))
    assert mixed["a"].dtype == jnp.bfloat16 and mixed["b"] is None
    np.testing.assert_array_equal(np.float32(mixed["a"]), 1)
    for steps, want in ((3, 0.0), (4, 4.0)):
        got = jax.jit(lambda s: jo.periodic_update(new, old, s, 2))(steps)
        np.testing.assert_array_equal(np.float32(got["a"]), want)
    with pytest.raises(jo.errors.TreeError, match="new tensors"):
        jo.incremental_update({"a": jnp.ones(2)}, {"b": jnp.ones(2)}, 0.1)


@pytest.mark.parametrize("lib", [optax, jo], ids=["optax", "ours"])
def test_scaled_gradients(lib):
    """A traced scale, and forward mode: neither works in optax."""
    f = lambda x, s: jnp.sum(jnp.square(lib.scale_gradient({"x": x}, s)["x"]))  # noqa: E731
    x = jnp.arange(3.0)
    for s in (0.0, 0.5, 1.0):
        np.testing.assert_allclose(jax.grad(f)(x, s), 2 * s * x)
    if lib is optax:
        with pytest.raises(jax.errors.TracerBoolConversionError):
            jax.jit(jax.grad(f))(x, 0.5)
        return
    np.testing.assert_allclose(jax.jit(jax.grad(f))(x, 0.5), x)
    np.testing.assert_allclose(jax.jvp(lambda x: f(x, 0.5), (x,), (jnp.ones(3),))[1], jnp.sum(x))
    assert jo.scale_gradient({"n": 3}, 0.5)["n"] == 3


def test_hutchinson_is_exact_on_a_diagonal_and_unbiased_off_it():
    params = params_like()
    opt = jo.hutchinson_estimator_diag_hessian(jax.random.key(0))
    u, state = opt.update(params, opt.init(params), params, obj_fn=loss)
    np.testing.assert_allclose(u["w"].ravel(), 2 * np.linspace(0.5, 2, 6), rtol=1e-5)
    a = jnp.array([[2.0, 1.0], [1.0, 3.0]])
    quadratic = lambda x: 0.5 * x @ a @ x  # noqa: E731
    x = jnp.ones(2)
    _, seen = jax.lax.scan(lambda s, _: opt.update(x, s, x, obj_fn=quadratic)[::-1], opt.init(x), None, 2000)
    np.testing.assert_allclose(seen.mean(axis=0), [2, 3], atol=0.1)
    with pytest.raises(jo.errors.MissingArgumentError, match="obj_fn is missing"):
        opt.update(params, state, params)
    half = params_like(jnp.bfloat16)
    u, _ = opt.update(half, opt.init(half), half, obj_fn=loss)
    assert u["w"].dtype == jnp.float32  # an estimate to be averaged, no step
