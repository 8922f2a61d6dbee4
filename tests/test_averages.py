"""Parameters to evaluate at, of the part of the leaves that an average owns; and slow copies of what is no number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import jaxopt_ko as jo

P = {"base": jnp.array([1.0, -2.0]), "lora": jnp.array([0.5, 2.0])}
TRAINED = {"base": False, "lora": True}
FROZEN = {"base": True, "lora": False}

AVERAGES = {
    "average_params": (lambda: jo.chain(jo.sgd(0.1), jo.average_params(0.9)), jo.averaged_params),
    "schedule_free": (lambda: jo.schedule_free_sgd(0.1), jo.schedule_free_eval_params),
    "generalized_primal_averaging": (
        lambda: jo.generalized_primal_averaging(jo.sgd(0.1), 0.9), jo.generalized_primal_averaging_eval_params,
    ),
    "power": (lambda: jo.chain(jo.sgd(0.1), jo.average_params(power=2.0)), jo.averaged_params),
    "tail_average": (lambda: jo.chain(jo.sgd(0.1), jo.tail_average(4.0, 1, 0.5)), jo.tail_averaged_params),
    "ema_nesterov": (lambda: jo.ema_nesterov(jo.sgd(0.1), 0.5, 0.9), jo.ema_nesterov_eval_params),
}  # fmt: skip

PARTS = {
    "masked": lambda opt: jo.masked(opt, TRAINED),
    "partition": lambda opt: jo.partition({"a": opt, "b": jo.set_to_zero()}, {"base": "b", "lora": "a"}),
    "selective_transform": lambda opt: jo.selective_transform(opt, freeze_mask=FROZEN),
    "masked twice": lambda opt: jo.masked(jo.partition({1: opt}, 1), TRAINED),
    "beside another": lambda opt: jo.partition({"a": opt, "b": jo.adam(0.1)}, {"base": "b", "lora": "a"}),
    "chain": lambda opt: jo.chain(jo.clip(1e9), jo.named_chain(("part", jo.masked(opt, TRAINED)))),
    "MultiSteps": lambda opt: jo.MultiSteps(jo.masked(opt, TRAINED), 1).gradient_transformation(),
    "guards": lambda opt: jo.conditionally_mask(jo.apply_if_finite(jo.masked(opt, TRAINED), 2), lambda t: t >= 0),
    "inject_hyperparams": lambda opt: jo.inject_hyperparams(
        lambda rate: jo.chain(jo.scale(rate), jo.masked(opt, TRAINED)))(1.0),
    "split_real_and_imaginary": lambda opt: jo.split_real_and_imaginary(jo.masked(opt, TRAINED)),
}  # fmt: skip


def trained(opt, params, steps=3):
    """(params, state) after steps along g = p."""
    state = opt.init(params)
    for _ in range(steps):
        u, state = opt.update(params, state, params)
        params = jo.apply_updates(params, u)
    return params, state


@pytest.mark.parametrize("name", AVERAGES)
def test_an_average_of_a_part(name):
    make, own = AVERAGES[name]
    alone, state = trained(make(), P["lora"])
    want = own(state, alone)
    np.testing.assert_array_equal(want, jo.eval_params(state, alone))
    assert np.abs(want - alone).min() > 1e-3  # it is no copy
    for part in PARTS.values():
        params, state = trained(part(make()), P)
        for see in (own, jo.eval_params):
            seen = see(state, params)
            np.testing.assert_allclose(seen["lora"], want, rtol=1e-6)
            assert seen["base"] is params["base"]
    flat, state = trained(jo.flatten(make()), {**P, "lora": P["lora"].reshape(2, 1)})
    seen = jo.eval_params(state, flat)
    np.testing.assert_allclose(seen["lora"].reshape(-1), want, rtol=1e-6)
    halves, state = trained(
        jo.masked(make(), {**TRAINED, "none": False}), {**P, "lora": P["lora"].astype(jnp.bfloat16), "none": None}
    )
    assert jo.eval_params(state, halves)["lora"].dtype == jnp.bfloat16


def test_averages_of_different_leaves():
    """Of two kinds, of one kind twice, and beside leaves of none; in a compiled loop over lanes."""
    p = {"a": jnp.ones(2), "b": jnp.full(2, 3.0), "c": jnp.ones(2), "d": jnp.ones(2)}
    kinds = {"a": AVERAGES["average_params"], "b": AVERAGES["schedule_free"], "c": AVERAGES["average_params"]}
    groups = {key: make() for key, (make, _) in kinds.items()} | {"d": jo.sgd(0.1)}
    opt = jo.partition(groups, {key: key for key in groups})

    @jax.jit
    @jax.vmap
    def run(p):
        def step(carry, _):
            u, state = opt.update(carry[0], carry[1], carry[0])
            return (jo.apply_updates(carry[0], u), state), None

        (params, state), _ = jax.lax.scan(step, (p, opt.init(p)), None, 3)
        return params, state, jo.eval_params(state, params), jo.averaged_params(state, params)

    params, state, seen, means = run(jax.tree.map(lambda x: jnp.stack([x, 2 * x]), p))
    for key, (make, own) in kinds.items():
        alone, one = trained(make(), 2 * p[key])
        np.testing.assert_allclose(seen[key][1], own(one, alone), rtol=1e-6)
    np.testing.assert_array_equal(seen["d"], params["d"])
    np.testing.assert_array_equal(means["b"], params["b"])  # its average is of another kind
    np.testing.assert_array_equal(means["c"], seen["c"])
    for see in (jo.eval_params, jo.averaged_params):
        with pytest.raises(jo.errors.StateError, match="vmap"):
            see(state, params)


def test_what_has_no_one_average_is_said():
    make = AVERAGES["average_params"][0]
    params, state = trained(jo.chain(make(), jo.average_params(0.5)), P)
    with pytest.raises(jo.errors.StateError, match=r"one average of the leaf \['base'\]"):
        jo.averaged_params(state, params)
    np.testing.assert_allclose(jo.averaged_params(state[0], params)["base"], trained(make(), P)[1][1].mean["base"])
    params, state = trained(jo.ema_nesterov(make(), 0.5, 0.9), P)
    with pytest.raises(jo.errors.StateError, match="AverageParamsState and a EmaNesterovState"):
        jo.eval_params(state, params)
    assert jo.averaged_params(state, params) and jo.ema_nesterov_eval_params(state, params)
    for see in (jo.eval_params, jo.averaged_params):
        with pytest.raises(jo.errors.StateError, match="must hold one"):
            see(jo.adam(0.1).init(P), P)
    params, state = trained(make(), P)
    with pytest.raises(jo.errors.TreeError, match="no leaf at"):
        jo.eval_params(state, {"lora": P["lora"]})
    with pytest.raises(jo.errors.StateError, match=r"\['lora'\].*shape \(3,\)"):
        jo.eval_params(state, {**P, "lora": jnp.ones(3)})


def test_the_average_of_stacks_that_route_shows():
    p = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.ones(3)}
    opt = jo.route(
        jo.Group("matrices", jo.splus, 0.1, role="matrix"), jo.Group("rest", jo.sgd(0.1), role="bias"),
        roles={"kernel": "matrix"},
    )  # fmt: skip
    params, state = trained(opt, p, 2)
    with pytest.raises(jo.errors.StateError, match=r"opt\.eval_params"):
        jo.eval_params(state, params)
    seen = opt.eval_params(state, params)
    mean = state.inner_states["matrices"].inner_state[1].mean["kernel"]
    np.testing.assert_array_equal(seen["kernel"], mean[0])
    np.testing.assert_array_equal(seen["bias"], params["bias"])


def test_an_average_while_its_decay_is_one():
    """It stays as it was, and begins as soon as a step weighs something: also where the decay is traced."""
    opt = jo.average_params(lambda t: jnp.where(t < 2, 1.0, 0.9))
    p, state, means = jnp.ones(1), opt.init(jnp.ones(1)), []
    for k in range(4):
        _, state = opt.update(jnp.full(1, k + 1.0), state, p)
        means.append(float(state.inner_state.mean[0]))
    np.testing.assert_allclose(means, [1, 1, 4, (0.9 * 4 + 5) / 1.9], rtol=1e-6)

    @jax.jit
    def last(decay):
        opt = jo.average_params(decay)
        return opt.update(jnp.ones(1), opt.init(p), p)[1].mean

    np.testing.assert_array_equal(jax.vmap(last)(jnp.array([1.0, 0.5]))[:, 0], [1, 2])
    assert np.isfinite(jax.jacfwd(last)(jnp.float32(1.0))).all()


def test_slow_copies_of_counters_and_keys():
    numbers = jnp.arange(12)
    np.testing.assert_array_equal(jo.incremental_update(numbers, numbers, 0.1), numbers)
    old = {
        "n": jnp.int32(16777217), "b": jnp.array(False), "k": jax.random.key(0), "i": jnp.int8(-3), "x": jnp.zeros(2),
        "u": jnp.uint32([1, 4294967295]),
    }  # fmt: skip
    new = {
        "n": jnp.int32(16777219), "b": jnp.array(True), "k": jax.random.key(1), "i": jnp.int8(5), "x": jnp.ones(2),
        "u": jnp.uint32([4294967295, 1]),
    }  # fmt: skip

    def same(a, b):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(*(np.asarray(jo.tree.unwrap_random_key_data(x)) for x in (a, b)))

    mixed = jax.jit(jo.incremental_update)(new, old, 0.25)
    jax.tree.map(same, mixed, {**new, "x": jnp.full(2, 0.25)})
    jax.tree.map(same, jo.incremental_update({"n": 3, "b": True}, {"n": jnp.int32(1), "b": jnp.array(False)}, 0.1),
                 {"n": jnp.int32(3), "b": jnp.array(True)})  # fmt: skip
    late = jax.jit(jo.periodic_update, static_argnums=3)
    jax.tree.map(same, late(new, old, 4, 2), new)
    jax.tree.map(same, late(new, old, 3, 2), old)


# ---- means of a part of the run, and of snapshots ---------------------------------------------------------


def walk(opt, steps, see=jo.eval_params):
    """(params, what is seen) after each step, of a random walk: float32[steps, 3]."""
    noise = jax.random.normal(jax.random.key(0), (steps, 3))

    def step(carry, u):
        p, state = carry
        u, state = opt.update(u, state, p)
        p = p + u
        return (p, state), (p, see(state, p))

    start = jnp.zeros(3)
    return quick.jit(lambda: jax.lax.scan(step, (start, opt.init(start)), noise)[1])()


def test_means_of_powers_are_those_of_ema_pytorch(x64):
    """KarrasEMA of ema-pytorch 0.8.3, whose step is t - 1 when it is updated with the parameters of step t."""
    path, seen = walk(jo.average_params(power=6.94), 60)
    mean, want = path[0], []
    for t, p in enumerate(path):
        beta = (1.0 - 1.0 / (t + 1.0)) ** (1.0 + 6.94)
        mean = beta * mean + (1 - beta) * p
        want.append(mean)
    np.testing.assert_allclose(seen, want, rtol=1e-12)


@pytest.mark.parametrize("width", [0.05, 0.07, 0.1, 0.13])
def test_a_mean_of_means_is_the_true_one(x64, width):
    """Of two powers at ten steps of a run of 1,000, beside the mean that was kept all the time."""
    powers = [jo.average_power(0.05), jo.average_power(0.10)]
    np.testing.assert_allclose(powers, [16.97, 6.94], atol=0.005)
    opt = jo.chain(*(jo.average_params(power=p) for p in (*powers, jo.average_power(width))))
    path, (a, b, true) = walk(opt, 1000, lambda state, p: [jo.averaged_params(s, p) for s in state])
    kept = [
        jo.AverageSnapshot(t, power, {"w": mean[t - 1]})
        for t in range(100, 1001, 100) for power, mean in zip(powers, (a, b), strict=True)
    ]  # fmt: skip
    got = jo.posthoc_average(kept, width)["w"]
    scale = np.abs(np.asarray(path[-1]) - np.asarray(true[-1])).max()
    assert np.abs(got - true[-1]).max() < (1e-3 if 0.05 <= width <= 0.1 else 5e-2) * scale
    earlier = jo.posthoc_average(kept, width, step=700)["w"]
    assert np.abs(earlier - true[699]).max() < 0.2 * scale
    np.testing.assert_allclose(jo.posthoc_average(kept, power=powers[1])["w"], b[-1], rtol=1e-6)


def test_posthoc_average_says_what_is_wrong():
    one = [(10, 7.0, P)]
    for make, words in {
        lambda: jo.posthoc_average(one): "sigma_rel or power",
        lambda: jo.posthoc_average(one, 0.1, power=1.0): r"sigma_rel or power.*Got sigma_rel=0.1, power=1.0",
        lambda: jo.posthoc_average(one[0], 0.1): "a list of",
        lambda: jo.posthoc_average({10: P}, 0.1): "a list of",
        lambda: jo.posthoc_average([(10, 7.0)], 0.1): "a list of",
        lambda: jo.posthoc_average([(10.5, 7.0, P)], 0.1): "a snapshot's step must be an integer",
        lambda: jo.posthoc_average(one, 0.3): "sigma_rel must be in",
        lambda: jo.posthoc_average([], 0.1): "snapshots must have one",
        lambda: jo.posthoc_average(one, 0.1, step=11): "after the last snapshot",
        lambda: jo.average_params(): "decay or power",
        lambda: jo.average_params(0.9, power=2.0): "decay or power",
        lambda: jo.soup([]): "one at least",
        lambda: jo.soup(P): "trees must be a list",
        lambda: jo.soup(P for _ in range(2)): "trees must be a list",
        lambda: jo.soup([P], 1.0): "weights must be a list",
        lambda: jo.soup([P, P], [0.0, 0]): "must not all be 0",
        lambda: jo.soup([P], [1.0, 2.0]): "weights as many",
        lambda: jo.swa(0): "start",
        lambda: jo.lawa(0, 1): "k",
        lambda: jo.lawa(1, 2**31): "every must be an integer of at most 2147483647",
        lambda: jo.spam(0.1, reset_every=2**31): "reset_every must be an integer of at most",
        lambda: jo.conda(0.1, update_proj_gap=2**31): "update_proj_gap must be an integer of at most",
    }.items():
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(jo.errors.TreeError, match="tree 1"):
        jo.soup([P, {"base": P["base"]}])
    counted = jo.AverageSnapshot(jnp.int32(10), 7.0, P)  # a state's count
    for got, p in zip(jax.tree.leaves(jo.posthoc_average([counted], power=7.0)), jax.tree.leaves(P), strict=True):
        np.testing.assert_allclose(got, p, rtol=1e-5)


def test_means_of_snapshots():
    path, seen = walk(jo.swa(5, 3), 20)
    for t in range(20):
        taken = [path[n - 1] for n in range(5, t + 2, 3)]
        np.testing.assert_allclose(seen[t], np.mean(taken, 0) if taken else path[t], rtol=1e-5, atol=1e-6)
    path, seen = walk(jo.lawa(3, 2), 20)
    for t in range(20):
        taken = [path[n - 1] for n in range(2, t + 2, 2)][-3:]
        np.testing.assert_allclose(seen[t], np.mean(taken, 0) if taken else path[t], rtol=1e-5, atol=1e-6)


def test_soup_keeps_dtypes_and_what_is_no_number():
    trees = [{"w": jnp.full(2, x, jnp.bfloat16), "n": jnp.int32(x)} for x in (1.0, 4.0)]
    mixed = jo.soup(trees)
    assert mixed["w"].dtype == jnp.bfloat16 and mixed["w"].tolist() == [2.5, 2.5] and int(mixed["n"]) == 1
    weighted = jax.jit(lambda a: jo.soup(trees, [a, 1.0]))(3.0)
    assert weighted["w"].tolist() == [1.75, 1.75]
