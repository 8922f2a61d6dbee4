"""Parameters of 16 bits that move: rounded at random, compensated, with a master."""

import functools
import inspect
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_ko as jo
from cases import assert_same_bits, on_device, on_host
from jaxopt_ko.core import rounding
from jaxopt_ko.core.rounding import leaf_key, round_stochastic, step_key

HALVES = (jnp.bfloat16, jnp.float16)
ADDED = jo.scale(1.0)  # the step is the gradient
WRAPPERS = {
    "stochastic": functools.partial(jo.stochastic_rounding, key=0),
    "kahan": jo.kahan,
    "kahan-nearest": functools.partial(jo.kahan, rounding="nearest"),
    "split-24": jo.split_master,
    "split-32": functools.partial(jo.split_master, bits=32),
    "split-nearest": functools.partial(jo.split_master, rounding="nearest"),
    "master": jo.master_weights,
}
every_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


def half(seed=0, dtype=jnp.bfloat16, shape=(4, 3)):
    rng = np.random.default_rng(seed)
    return {"w": jnp.asarray(rng.normal(size=shape), dtype), "b": [jnp.asarray(rng.normal(size=3), dtype)]}


def descend(opt, slope=lambda p: p):
    def step(carry, _=None):
        p, state = carry
        u, state = opt.update(jax.tree.map(slope, p), state, p)
        return (jo.apply_updates(p, u), state), None

    return step


def float32(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float32), tree)


# ---- they move ------------------------------------------------------------------------------------------

STEPS, LANES = 1000, 1024
RATES = np.float32([0.5e-4, 0.77e-4, 1e-4, 1.23e-4, 1.5e-4])
METHODS = {"adamw": jo.adamw, "sgd": jo.sgd, "lion": jo.lion, "muon": jo.muon}


def walked(make, dtype, lanes, read=lambda state, p: p):
    """(p, master) float32[rates, lanes] after 1000 steps down from 1, the gradient 1 at each."""

    def run(rate, key):
        opt, p = make(rate, key), jnp.ones((1, 1), dtype)
        (p, state), _ = jax.lax.scan(descend(opt, jnp.ones_like), (p, opt.init(p)), None, STEPS)
        return p.astype(jnp.float32)[0, 0], read(state, p).astype(jnp.float32)[0, 0]

    keys = jax.random.split(jax.random.key(5), lanes)
    return map(np.asarray, quick.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(RATES, keys))


@pytest.mark.parametrize("name", METHODS)
def test_a_thousand_small_steps_from_1_are_those_of_float32(name):
    method = METHODS[name]
    whole, _ = walked(lambda rate, key: method(rate), jnp.float32, 1)
    way = 1 - whole
    plain, _ = walked(lambda rate, key: method(rate), jnp.bfloat16, 1)
    assert np.all(plain == 1)  # rounded to the nearest nothing moves
    p, _ = walked(lambda rate, key: jo.stochastic_rounding(method(rate), key), jnp.bfloat16, LANES)
    error = p.std(axis=1) / np.sqrt(LANES)
    assert np.all(np.abs(p.mean(axis=1) - whole[:, 0]) < 4 * error)
    assert abs((1 - p).mean() / way.mean() - 1) < 0.01
    for wrap, lanes in ((jo.kahan, 1), (jo.split_master, 64), (WRAPPERS["split-32"], 1)):
        p, w = walked(lambda rate, key, wrap=wrap: wrap(method(rate), key=key), jnp.bfloat16, lanes, jo.master_params)
        assert np.all(np.abs((1 - w.mean(axis=1)) / way[:, 0] - 1) < 0.01), wrap
        assert np.all(np.abs(p - w) <= 2.0**-9), wrap
    p, w = walked(lambda rate, key: jo.master_weights(method(rate)), jnp.bfloat16, 1, jo.master_params)
    np.testing.assert_allclose(w, whole, rtol=1e-6)
    assert np.all(np.abs(p - whole) <= 2.0**-9)
    _, w = walked(lambda rate, key: jo.split_master(method(rate), 24, "nearest"), jnp.bfloat16, 1, jo.master_params)
    assert np.max(np.abs((1 - w) / way - 1)) > 0.05  # why rho is rounded at random


def test_adamw_of_optax_stands_still_and_moves_within_the_wrapper():
    def run(opt):
        with jax.numpy_dtype_promotion("standard"):
            p = jnp.ones((8, 8), jnp.bfloat16)

            def step(carry, _):
                p, state = carry
                u, state = opt.update(jnp.ones_like(p), state, p)
                return (optax.apply_updates(p, u), state), None

            (p, state), _ = quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), None, STEPS))(p)
        return p, state

    assert np.all(np.asarray(run(optax.adamw(1e-4))[0]) == 1)
    moved = float32(run(jo.stochastic_rounding(optax.adamw(1e-4), 1))[0])
    assert abs(1 - moved.mean() - 0.1) < 4 * moved.std() / 8
    p, state = run(jo.split_master(optax.adamw(1e-4)))
    np.testing.assert_allclose(1 - jo.master_params(state, p), 0.1, rtol=0.02)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("u", [1e-4, -3e-4])
def test_a_million_steps_have_their_mean(dtype, u):
    opt, p = jo.stochastic_rounding(ADDED, 3), {"w": jnp.full(10**6, 1.5, dtype)}
    steps, _ = opt.update({"w": jnp.full(10**6, u)}, opt.init(p), p)
    taken = np.asarray(steps["w"], np.float64)
    assert len(np.unique(taken)) == 2
    assert abs(taken.mean() - np.float32(u)) < 4 * taken.std() / 1e3


# ---- they land ------------------------------------------------------------------------------------------


def pairs(dtype, size=10**6):
    """Parameters of all sizes, steps from a thousandth of an ulp to their own size and more."""
    rng = np.random.default_rng(8)
    low, high = (-30, 30) if dtype == jnp.bfloat16 else (-12, 12)
    p = jnp.asarray(rng.normal(size=size) * 2.0 ** rng.integers(low, high, size), dtype)
    u = np.float32(p) * rng.normal(size=size) * 2.0 ** rng.integers(-20, 3, size)
    return p, jnp.asarray(u, jnp.float32)


@pytest.mark.parametrize("dtype", HALVES)
@every_wrapper
def test_adding_the_step_gives_the_rounded_sum_bit_for_bit(wrap, dtype):
    p, u = pairs(dtype)
    opt = wrap(ADDED)
    state = opt.init({"w": p})
    for update in (opt.update, jax.jit(opt.update)):
        steps, _ = update({"w": u}, state, {"w": p})
        assert steps["w"].dtype == jnp.float32
        if wrap is WRAPPERS["stochastic"]:
            key = leaf_key(step_key(jax.random.key(0), jnp.int32(0)), "['w']")
            wanted = round_stochastic(p.astype(jnp.float32) + u, dtype, key)
        else:
            wanted = (p.astype(jnp.float32) + u).astype(dtype)
        adding = [jo.apply_updates, jax.jit(jo.apply_updates), optax.apply_updates]
        with jax.numpy_dtype_promotion("standard"):
            for add in adding:
                assert int(jnp.sum(add({"w": p}, steps)["w"] != wanted)) == 0


@every_wrapper
def test_steps_in_the_parameters_dtype_land_where_they_are_no_longer_than_a_tenth(wrap):
    p, u = pairs(jnp.bfloat16)
    u = jnp.clip(u, -0.1 * jnp.abs(p.astype(jnp.float32)), 0.1 * jnp.abs(p.astype(jnp.float32)))
    ends = []
    for dtype in (jnp.bfloat16, jnp.float32):
        opt = wrap(ADDED, step_dtype=dtype)
        steps, _ = opt.update(u, opt.init(p), p)
        assert steps.dtype == dtype
        ends.append(p + steps if dtype == jnp.bfloat16 else jo.apply_updates(p, steps))
    assert int(jnp.sum(ends[0] != ends[1])) == 0
    other = jnp.ones(3, jnp.float16)  # which bfloat16 has no room for
    assert opt.update(other, opt.init(other), other)[0].dtype == jnp.float32


def test_a_train_state_of_flax_moves():
    train_state = pytest.importorskip("flax.training.train_state")
    params = {"w": jnp.ones((16, 16), jnp.bfloat16)}
    made = train_state.TrainState.create(
        apply_fn=None, params=params, tx=jo.to_optax(jo.stochastic_rounding(jo.sgd(1e-3), 0))
    )
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(20):
            made = made.apply_gradients(grads={"w": jnp.ones((16, 16), jnp.bfloat16)})
    assert abs(float32(made.params)["w"].mean() - 0.98) < 2e-3


@every_wrapper
def test_what_is_not_finite_goes_through(wrap):
    p = jnp.asarray([np.inf, -np.inf, np.nan, 1.0, 3e38, 0.0], jnp.bfloat16)
    u = jnp.asarray([1.0, 1.0, 1.0, np.nan, 3e38, 0.0], jnp.float32)
    opt = wrap(ADDED)
    (end, state), _ = descend(opt, lambda p: u)((p, opt.init(p)))
    np.testing.assert_array_equal(float32(end), np.float32([np.inf, -np.inf, np.nan, np.nan, np.inf, 0]))
    (end, _), _ = descend(opt, jnp.zeros_like)((end, state))
    np.testing.assert_array_equal(float32(end), np.float32([np.inf, -np.inf, np.nan, np.nan, np.inf, 0]))


# ---- masters --------------------------------------------------------------------------------------------


def numbers(dtype):
    """float32 of every exponent at random, beside each power of two, and half way between numbers of `dtype`."""
    rng = np.random.default_rng(2)
    exponents = np.arange(-125, 127) if dtype == jnp.bfloat16 else np.arange(-14, 15)
    powers = np.float32(2.0) ** exponents.astype(np.float32)
    random = powers[:, None] * rng.uniform(1, 2, (1, 2000)).astype(np.float32)
    edges = powers[:, None] * (1 + np.float32(2.0**-24) * np.arange(-70_000, 70_000, 997, dtype=np.float32))
    digits = 7 if dtype == jnp.bfloat16 else 10
    ties = powers[:, None] * np.float32(1 + (np.arange(2**digits) + 0.5) / 2**digits)
    found = np.concatenate([x.ravel() for x in (powers, random, edges, ties)]).astype(np.float32)
    return jnp.asarray(np.concatenate([found, -found]))


BOUNDS = {24: 2.0**-16 * 128 / 127, 32: 2.0**-23}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("bits", BOUNDS)
def test_a_split_master_is_as_near_as_it_has_bits(bits, dtype):
    w = numbers(dtype)
    bound = BOUNDS[bits] * (2.0**-3 if dtype == jnp.float16 and bits == 24 else 1)
    opt = jo.split_master(ADDED, bits, "nearest")
    p = w.astype(dtype)
    new, state = jo.with_master(opt.init(p), p, w)
    assert_same_bits(new, p)
    error = np.abs(np.asarray(jo.master_params(state, p), np.float64) / np.asarray(w, np.float64) - 1)
    assert error.max() <= bound
    # the same by a step: from zeros to these numbers
    zeros = jnp.zeros_like(p)
    steps, state = opt.update(w, opt.init(zeros), zeros)
    p = jo.apply_updates(zeros, steps)
    error = np.abs(np.asarray(jo.master_params(state, p), np.float64) / np.asarray(w, np.float64) - 1)
    assert error.max() <= bound


@every_wrapper
@pytest.mark.parametrize("dtype", HALVES)
def test_steps_of_zero_change_nothing(wrap, dtype):
    w = numbers(dtype)
    p = w.astype(dtype)
    opt = wrap(ADDED)
    state = opt.init(p)
    if wrap is not WRAPPERS["stochastic"]:
        p, state = jo.with_master(state, p, w)
    begun = state
    (end, state), _ = jax.lax.scan(descend(opt, jnp.zeros_like), (p, state), None, 20)
    if wrap is WRAPPERS["stochastic"]:
        assert_same_bits(end, p)
        return
    # a master half way between two numbers may change sides: its value does not
    assert_same_bits(jo.master_params(state, end), jo.master_params(begun, p))


def test_nothing_of_a_float32_checkpoint_is_lost():
    full = {"w": jnp.asarray(np.random.default_rng(1).normal(size=(5, 4)), jnp.float32), "n": jnp.arange(3)}
    params = {"w": full["w"].astype(jnp.bfloat16), "n": full["n"]}
    groups = {"w": jo.split_master(jo.adam(0.1), 32), "n": jo.set_to_zero()}
    opt = jo.MultiSteps(jo.chain(jo.partition(groups, {"w": "w", "n": "n"})), 2)
    new, state = jo.with_master(opt.init(params), params, full)
    assert_same_bits(new, params)
    made = jo.master_params(state, new)
    assert made["n"] is full["n"] and made["w"].dtype == jnp.float32
    np.testing.assert_allclose(made["w"], full["w"], rtol=2.0**-23)
    full, params = {"w": full["w"]}, {"w": params["w"]}
    exact = jo.master_weights(jo.adam(0.1)).init(params)
    assert_same_bits(jo.master_params(jo.with_master(exact, params, full)[1], params)["w"], full["w"])
    compensated = jo.kahan(jo.adam(0.1)).init(params)
    made = jo.master_params(jo.with_master(compensated, params, full)[1], params)["w"]
    np.testing.assert_allclose(made, full["w"], rtol=2.0**-16)


@pytest.mark.parametrize(("before", "after"), [(24, 32), (32, 24), (32, 32)])
def test_a_saved_split_master_is_read_into_one_of_other_bits(before, after):
    w = {"w": jnp.asarray(np.random.default_rng(1).normal(size=(5, 4)), jnp.float32)}
    p = jax.tree.map(lambda x: x.astype(jnp.bfloat16), w)
    saving, loading = (jo.split_master(jo.adam(0.1), bits) for bits in (before, after))
    p, state = jo.with_master(saving.init(p), p, w)
    read, _ = jo.load_state(loading, p, jo.state_dict(saving, state, p))
    assert read.rho["w"].dtype == loading.init(p).rho["w"].dtype
    bound = 2 * BOUNDS[min(before, after)]
    np.testing.assert_allclose(jo.master_params(read, p)["w"], jo.master_params(state, p)["w"], rtol=bound)


def test_several_masters_own_different_leaves_and_none_a_leaf_twice():
    params = {"a": {"x": jnp.ones(2, jnp.bfloat16), "y": jnp.ones(2, jnp.bfloat16)}, "b": jnp.ones(3, jnp.bfloat16)}
    two = jo.partition({"a": jo.split_master(jo.sgd(1e-4)), "b": jo.kahan(jo.sgd(1e-4))}, {"a": "a", "b": "b"})
    (p, state), _ = jax.lax.scan(descend(two, jnp.ones_like), (params, two.init(params)), None, 10)
    for leaf in jax.tree.leaves(jo.master_params(state, p)):
        np.testing.assert_allclose(leaf, 0.999, atol=1e-4)
    again = jo.with_master(state, p, jo.master_params(state, p))
    assert jax.tree.structure(again) == jax.tree.structure((p, state))
    with pytest.raises(jo.errors.StateError, match="one master of the leaf"):
        jo.master_params((state, state), p)
    with pytest.raises(jo.errors.StateError, match=r"must hold one .*SplitMasterState.*none"):
        jo.master_params(jo.adam(0.1).init(params), params)
    with pytest.raises(jo.errors.StateError, match="16 bits and of the shape"):
        jo.master_params(state, jax.tree.map(lambda x: x[:1], params))
    with pytest.raises(jo.errors.TreeError, match="master must have the structure"):
        jo.with_master(state, params, params["a"])


def test_parameters_changed_from_outside_are_where_the_master_goes_on():
    p = jnp.ones(64, jnp.bfloat16)
    other = jnp.linspace(-3, 3, 64).astype(jnp.bfloat16)
    for wrap in (jo.split_master, jo.kahan, jo.master_weights):
        opt = wrap(jo.sgd(1e-3))
        (p, state), _ = jax.lax.scan(descend(opt, jnp.ones_like), (jnp.ones(64, jnp.bfloat16), opt.init(p)), None, 7)
        (end, state), _ = descend(opt, jnp.zeros_like)((other, state))
        ulp = np.abs(float32(other)) * 2.0**-7
        assert np.all(np.abs(float32(end) - float32(other)) <= ulp), wrap
        assert np.all(np.abs(float32(jo.master_params(state, end)) - float32(other)) <= ulp), wrap


# ---- beside other libraries -----------------------------------------------------------------------------

THEIRS = np.load(pathlib.Path(__file__).parent / "references" / "low-precision.npz")


def test_bits_are_torchaos_for_its_random_integers():
    """Which it compares with the bits that are cut, where ours are added to them: of 65535 - r the same."""
    x, drawn = jnp.asarray(THEIRS["stochastic.x"]), jnp.asarray(0xFFFF - THEIRS["stochastic.random"])
    made = np.asarray(rounding._rounded(x, drawn, jnp.dtype(jnp.bfloat16))).view(np.uint16)
    numbers = ~np.isnan(THEIRS["stochastic.x"])
    np.testing.assert_array_equal(made[numbers], THEIRS["stochastic.bits"][numbers])


@pytest.mark.parametrize("bits", BOUNDS)
def test_split_masters_are_flashoptims_but_below_powers_of_two(bits):
    """Where the gap is half as wide as above, and ours has twice as many units."""
    w = jnp.asarray(THEIRS["split.x"])
    p, opt = w.astype(jnp.bfloat16), jo.split_master(ADDED, bits, "nearest")
    p, state = jo.with_master(opt.init(p), p, w)
    np.testing.assert_array_equal(np.asarray(p).view(np.uint16), THEIRS["split.narrow"])
    ours, theirs = (np.asarray(x, np.int32) for x in (state.rho, THEIRS[f"split{bits}.rho"]))
    below = (np.frexp(float32(p))[0] % 0.5 == 0) & (np.abs(w) < np.abs(float32(p)))
    assert 0 < below.sum() < 100
    apart = np.abs(ours - theirs)[~below]
    assert apart.max() <= 1 and np.sum(apart) <= (bits == 32)  # one is half way between two, but for rounding
    assert np.all(np.abs(ours[below] - 2 * theirs[below]) <= 1)


# ---- what they are around -------------------------------------------------------------------------------


@every_wrapper
def test_other_leaves_get_the_steps_of_the_method(wrap):
    params = {
        "half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(3), "complex": jnp.ones(2, jnp.complex64),
        "count": jnp.arange(2), "key": jax.random.key(0), "none": None, "still": jnp.ones(2, jnp.bfloat16),
    }  # fmt: skip
    grads = {**params, "still": None, "count": np.zeros(2, jax.dtypes.float0), "key": np.zeros((), jax.dtypes.float0)}
    bare = jo.stateless(lambda g, p: jax.tree.map(lambda x: -0.1 * x if jnp.issubdtype(x.dtype, jnp.inexact) else x, g))
    opt = wrap(bare)
    state = opt.init(params)
    steps, new = opt.update(grads, state, params)
    want, _ = bare.update(grads, bare.init(params), params)
    for name in ("single", "complex", "count", "key"):
        assert steps[name] is want[name] or np.array_equal(steps[name], want[name]), name
    assert steps["still"] is None and steps["none"] is None
    assert jax.tree.structure(new) == jax.tree.structure(state)
    np.testing.assert_allclose(float32(params["half"]) + float32(steps["half"]), 0.9, atol=4e-3)


def test_the_method_within_sees_float32():
    seen = []

    def see(g, p):
        seen.append((g.dtype, p.dtype))
        return -0.1 * g

    def init(p):
        seen.append((p.dtype, p.dtype))
        return jo.EmptyState()

    inner = jo.transform("see", init, lambda g, s, p: (see(g, p), s))
    p = jnp.ones(3, jnp.bfloat16)
    for wrap in WRAPPERS.values():
        opt = wrap(inner)
        opt.update(p, opt.init(p), p)
        opt.update(p.astype(jnp.float16), opt.init(p), p)
    assert set(seen) == {(jnp.dtype(jnp.float32), jnp.dtype(jnp.float32))}


def test_solvers_get_their_function_in_float32():
    opt, p = jo.split_master(jo.lbfgs()), half()

    def f(p):
        return sum(jnp.sum(jnp.square(jnp.asarray(x, jnp.float32) - 0.3)) for x in jax.tree.leaves(p))

    state = opt.init(p, value_fn=f)
    for _ in range(4):
        value, grad = jax.value_and_grad(f)(p)
        u, state = opt.update(grad, state, p, value=value, grad=grad, value_fn=f)
        p = jo.apply_updates(p, u)
    assert all(np.all(np.abs(x - 0.3) < 2e-3) for x in jax.tree.leaves(float32(p)))


@every_wrapper
def test_a_scan_is_its_steps_and_resumes_bit_for_bit(wrap):
    opt, params = wrap(jo.chain(jo.clip_by_global_norm(1.0), jo.adamw(1e-3))), half()
    walk = quick.jit(lambda c, n: jax.lax.fori_loop(0, n, lambda _, c: descend(opt)(c)[0], c))
    start = (params, opt.init(params))
    middle = walk(walk(start, 1), 1)
    saved = pickle.dumps(on_host(middle))
    end = walk(walk(middle, 1), 1)
    assert_same_bits(walk(start, 4), end)
    assert_same_bits(walk(on_device(pickle.loads(saved), middle), 2), end)
    donating = quick.jit(lambda p, s: descend(opt)((p, s))[0], donate_argnums=(0, 1))
    fresh = jax.tree.map(jnp.copy, params)
    first = donating(*donating(fresh, opt.init(fresh)))
    fresh = jax.tree.map(jnp.copy, params)
    assert_same_bits(first, donating(*donating(fresh, opt.init(fresh))))
    abstract = jax.eval_shape(opt.init, jax.eval_shape(lambda: params))
    assert abstract == jax.eval_shape(lambda: start[1])


def test_lanes_with_keys_of_their_own_are_the_runs_alone():
    p = half()

    def run(key):
        opt = jo.stochastic_rounding(jo.adam(1e-3), key)
        return jax.lax.fori_loop(0, 3, lambda _, c: descend(opt)(c)[0], (p, opt.init(p)))[0]

    keys = jax.random.split(jax.random.key(1), 3)
    lanes = quick.jit(jax.vmap(run))(keys)
    for i in range(3):
        assert_same_bits(jax.tree.map(lambda x, i=i: x[i], lanes), quick.jit(run)(keys[i]))
    assert not np.array_equal(float32(lanes["w"][0]), float32(lanes["w"][1]))


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto])
@every_wrapper
def test_eight_devices_are_one_bit_for_bit(wrap, kind):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    specs = {"w": P("data", "model"), "v": P(None, "model"), "b": P("data")}
    full = {"w": half(shape=(8, 8))["w"], "v": half(1, shape=(8, 8))["w"], "b": half(2, shape=(8,))["w"]}
    opt = wrap(jo.sgd(1e-2, 0.9))

    def run(p):
        walk = quick.jit(lambda c: descend(opt)(c)[0])
        return walk(walk((p, opt.init(p))))

    alone = run(full)
    with jax.set_mesh(mesh):
        cut = {name: jax.device_put(x, NamedSharding(mesh, specs[name])) for name, x in full.items()}
        many = run(cut)
    for name, x in many[0].items():
        assert x.sharding.is_equivalent_to(cut[name].sharding, x.ndim)
    for field in {"rho", "c", "master"} & set(many[1]._fields):
        for name, x in getattr(many[1], field).items():
            assert x.sharding.is_equivalent_to(cut[name].sharding, x.ndim)
    assert_same_bits(alone, jax.tree.map(lambda x: x, many))


@every_wrapper
def test_programs_grow_by_the_shapes_and_not_by_the_leaves(wrap):
    def counted(opt, n):
        params = {str(i): jnp.ones((2, 3), jnp.bfloat16) for i in range(n)}
        state = opt.init(params)
        traced = jax.jit(lambda p, s: opt.update(p, s, p)).trace(params, state)
        return len(traced.jaxpr.eqns), traced.lower().as_text().count("func.func")

    bare, whole = ([counted(opt, n) for n in (3, 40)] for opt in (jo.sgd(0.1), wrap(jo.sgd(0.1))))
    assert whole[0][1] == whole[1][1]  # functions of the lowered program
    more = [a - b for (a, _), (b, _) in zip(whole, bare, strict=True)]
    assert (more[1] - more[0]) / 37 <= 5  # equations of a leaf at the top: casts and calls


def test_averages_and_names_are_seen_through():
    p = half()
    for opt in (
        jo.stochastic_rounding(jo.chain(jo.adamw(1e-2), jo.average_params(0.5)), 0),
        jo.chain(jo.stochastic_rounding(jo.adamw(1e-2), 0), jo.average_params(0.5)),
        jo.split_master(jo.chain(jo.adamw(1e-2), jo.average_params(0.5))),
    ):
        (end, state), _ = descend(opt)((p, opt.init(p)))
        mean = jo.eval_params(state, end)
        assert jax.tree.map(lambda x: x.dtype, mean) == jax.tree.map(lambda x: x.dtype, p)
        assert jo.tree.get(state, "ScaleByAdamState").mu["w"].dtype == jnp.float32
        assert float(jo.learning_rate(state, opt)) == np.float32(1e-2)
    assert jo.eval_params(state, jo.master_params(state, end))["w"].dtype == jnp.float32


# ---- what may stand around them -------------------------------------------------------------------------


def rounded(tx=None):
    return jo.stochastic_rounding(jo.sgd(1e-2) if tx is None else tx, 0)


LABELS = {"w": "a", "b": "b"}
AROUND = {
    "chain": lambda opt: jo.chain(jo.clip(1.0), opt),
    "chain-watched": lambda opt: jo.chain(opt, jo.diagnose.lost_updates(), jo.average_params(0.9), jo.identity()),
    "named_chain": lambda opt: jo.named_chain(("clip", jo.clip(1.0)), ("opt", opt)),
    "masked": lambda opt: jo.masked(opt, {"w": True, "b": True}),
    "partition": lambda opt: jo.partition({"a": opt, "b": jo.sgd(0.1)}, LABELS),
    "selective_transform": lambda opt: jo.selective_transform(opt, freeze_mask={"w": False, "b": True}),
    "route": lambda opt: jo.route(jo.Group("all", opt)),
    "MultiSteps": lambda opt: jo.MultiSteps(opt, 2),
    "multi_steps": lambda opt: jo.MultiSteps(opt, 2).gradient_transformation(),
    "apply_if_finite": lambda opt: jo.apply_if_finite(opt, 3),
    "skip_spikes": jo.skip_spikes,
    "loss_scaling": lambda opt: jo.loss_scaling(opt, 1.0),
    "mars": jo.mars,
    "quantized": lambda opt: jo.quantized(opt, min_size=0),
    "conditionally_transform": lambda opt: jo.conditionally_transform(opt, lambda t: t >= 0),
    "conditionally_mask": lambda opt: jo.conditionally_mask(opt, lambda t: t % 2 == 0),
    "inject_hyperparams": lambda opt: jo.inject_hyperparams(lambda learning_rate: rounded(jo.sgd(learning_rate)))(1e-2),
    "with_extra_args_support": jo.with_extra_args_support,
    "maximize": jo.maximize,
    "split_real_and_imaginary": jo.split_real_and_imaginary,
    "to_optax": jo.to_optax,
    "check_values": jo.debug.check_values,
    "recipe": lambda opt: jo.muon(0.1, rest=opt),
}
INSTEAD = {
    "chain": lambda opt: jo.chain(opt, jo.scale(0.5)),
    "chain-mask": lambda opt: jo.chain(opt, jo.freeze({"w": True, "b": False})),
    "chain-two": lambda opt: jo.chain(opt, rounded()),
    "named_chain": lambda opt: jo.named_chain(("opt", opt), ("half", jo.scale(0.5))),
    "keep_params_nonnegative": lambda opt: jo.chain(opt, jo.keep_params_nonnegative()),
    "flatten": jo.flatten,
    "cautious": jo.cautious,
    "lazy_rows": jo.lazy_rows,
    "magma": jo.magma,
    "lookahead": lambda opt: jo.lookahead(opt, 2, 0.5),
    "mechanize": jo.mechanize,
    "ema_nesterov": lambda opt: jo.ema_nesterov(opt, 0.5, 0.5),
    "generalized_primal_averaging": jo.generalized_primal_averaging,
    "schedule_free": lambda opt: jo.schedule_free(opt, 0.1),
    "sam": lambda opt: jo.sam(opt, jo.sgd(0.1)),
    "sam-adversary": lambda opt: jo.sam(jo.sgd(0.1), opt),
    "monitor": lambda opt: jo.monitor({"steps": opt}),
    "rollback": lambda opt: jo.rollback(opt, 10),
    "width_scaled": lambda opt: jo.width_scaled(opt, {"w": jnp.ones((4, 4))}, {"w": jnp.ones((2, 2))}),
    "galore": lambda opt: jo.galore(0.1, 2, 2, base_optimizer=opt),
    "sophia": lambda opt: jo.sophia(0.1, hessian_diagonal_fn=opt),
    "descent": lambda opt: jo.descent(opt, jo.scale_by_backtracking_linesearch(5)),
    "augmented_lagrangian": jo.augmented_lagrangian,
    "stochastic_rounding": lambda opt: jo.stochastic_rounding(opt, 1),
    "kahan": jo.kahan,
    "split_master": jo.split_master,
    "master_weights": jo.master_weights,
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_what_only_selects_leaves_steps_that_land(around):
    params = {"w": half()["w"], "b": half()["b"][0]}
    opt = around(rounded())
    with pytest.raises(jo.errors.TransformationError, match=r"lead to numbers of 16 bits.*Put the rounding outermost"):
        jo.chain(opt, jo.scale(0.5))  # and say so of themselves
    state, p = opt.init(params), params
    for _ in range(3):
        steps, state = opt.update(p, state, p)
        assert steps["w"].dtype == jnp.float32 if around is not AROUND["recipe"] else True
        for name in "wb":
            x = p[name].astype(jnp.float32) + steps[name].astype(jnp.float32)
            exact = np.asarray(x) == np.asarray(x.astype(jnp.bfloat16), np.float32)
            assert np.all(exact) or (name == "b" and around is AROUND["partition"]) or (
                name == "w" and around is AROUND["recipe"]
            )  # fmt: skip
        p = jo.apply_updates(p, steps)


@pytest.mark.parametrize("around", INSTEAD.values(), ids=INSTEAD)
def test_what_would_change_the_steps_is_refused_when_it_is_made(around):
    for wrap in (rounded, jo.kahan, jo.split_master, jo.master_weights):
        with pytest.raises(jo.errors.TransformationError, match=r"Put the rounding outermost: stochastic_rounding\("):
            around(wrap(jo.sgd(1e-2)))


def takes_another(name):
    thing = getattr(jo, name)
    if not inspect.isfunction(thing) and name != "MultiSteps":
        return False
    parameters = inspect.signature(thing).parameters
    return "rest" not in parameters and any("GradientTransformation" in str(p.annotation) for p in parameters.values())


def test_every_wrapper_of_another_transformation_is_known_here():
    """New ones must say on which side they are."""
    known = {name.partition("-")[0] for name in (*AROUND, *INSTEAD)}
    readers = {"learning_rate", "learning_rates", "state_shardings", "explain_shardings", "state_dict", "load_state",
               "minimize", "least_squares", "root", "minimize_many", "least_squares_many", "curve_fit"}  # fmt: skip
    searching = {"lbfgs", "bfgs", "newton", "newton_cg", "nonlinear_cg"}  # which have a line search: `descent`
    same = {"multi_transform", "inject_stateful_hyperparams", "scale_by_galore", "scale_by_sophia"}  # as those here
    assert set(filter(takes_another, jo.__all__)) <= known | readers | searching | same


# ---- arguments ------------------------------------------------------------------------------------------


def test_arguments_are_refused_in_words():
    adam = jo.adam(0.1)
    for made, words in {
        lambda: jo.stochastic_rounding(adam, None): "key must be one PRNG key",
        lambda: jo.stochastic_rounding(0.1, 0): "tx must be a transformation",
        lambda: jo.split_master(adam, 16): "bits must be 24 or 32",
        lambda: jo.split_master(adam, rounding="up"): "rounding must be one of",
        lambda: jo.kahan(adam, "up"): "rounding must be one of",
        lambda: jo.kahan(adam, step_dtype=jnp.float64): "step_dtype must be float32",
        lambda: jo.master_weights(adam, step_dtype=None): "step_dtype must be float32",
    }.items():
        with pytest.raises((jo.errors.HyperparameterError, jo.errors.TransformationError), match=words):
            made()
    p = half()
    for wrap in WRAPPERS.values():
        opt = wrap(adam)
        with pytest.raises(jo.errors.MissingArgumentError, match="params is missing"):
            opt.update(p, opt.init(p))
        with pytest.raises(jo.errors.StateError):
            opt.update(p, adam.init(p), p)
    for wrap in (jo.split_master, jo.kahan, jo.master_weights):
        with pytest.raises(jo.errors.TreeError):
            wrap(adam).update(p, wrap(adam).init(half(shape=(2, 2))), p)
