"""Wrappers and combinators: the laws they keep, what optax gets wrong, and its steps where it is right."""

import dataclasses
import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick

import jaxopt_ko as jo
from cases import assert_close, assert_rounded, assert_same_bits, descend, every, params_like, whole

NAN = float("nan")


def standard(function):
    """For optax, which mixes dtypes."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return run


@standard
def walk(opt, gradients, params=None):
    """The updates and the last state for these gradients, one compiled step after the other."""
    params = jnp.ones_like(gradients[0]) if params is None else params
    state, steps = opt.init(params), []
    update = quick.jit(lambda g, s, p: opt.update(g, s, p))
    for g in gradients:
        u, state = update(g, state, params)
        steps.append(np.asarray(u))
    return np.stack(steps), state


def scaling(lib, rate=0.5):
    return lib.scale(-rate)


# ---- accumulation: MultiSteps, apply_every --------------------------------------------------------------


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("lib", [optax, jo], ids=["optax", "ours"])
def test_one_nan_spoils_one_step_alone(lib, mean):
    """optax multiplies the accumulator by zero, and 0 times NaN is NaN."""
    g = jnp.array([1.0, NAN, 1.0, 3.0, 5.0, 7.0])[:, None]
    steps, state = walk(lib.MultiSteps(scaling(lib), 2, mean), g)
    good = [-1.0, -3.0] if mean else [-2.0, -6.0]
    if lib is optax:
        assert np.isnan(steps[1:]).all()
        return
    assert np.isnan(steps[1]).all()
    np.testing.assert_allclose(steps[[0, 2, 3, 4, 5], 0], [0, 0, good[0], 0, good[1]])
    assert int(state.gradient_step) == 3 and float(state.acc_grads[0]) == 0


@pytest.mark.parametrize("lib", [optax, jo], ids=["optax", "ours"])
def test_one_nan_in_apply_every(lib):
    g = jnp.array([1.0, NAN, 1.0, 3.0, 5.0, 7.0])[:, None]
    steps, _ = walk(lib.apply_every(2), g)
    if lib is optax:
        assert np.isnan(steps[1:]).all()
    else:
        np.testing.assert_allclose(steps[:, 0], [0, NAN, 0, 4, 0, 12])


def counted(calls):
    def update(g, state, params=None):
        jax.debug.callback(lambda: calls.append(1))
        return jax.tree.map(jnp.negative, g), state

    return jo.GradientTransformation(lambda p: jo.EmptyState(), update)


@pytest.mark.parametrize("lib", [optax, jo], ids=["optax", "ours"])
def test_the_inner_update_runs_once_in_k(lib):
    calls = []
    inner = counted(calls)
    opt = lib.MultiSteps(optax.GradientTransformation(*inner) if lib is optax else inner, 4)
    scanned = standard(lambda s: jax.lax.scan(lambda s, g: opt.update(g, s, g)[::-1], s, jnp.ones((12, 2))))
    jax.block_until_ready(jax.jit(scanned)(opt.init(jnp.ones(2))))
    jax.effects_barrier()
    assert len(calls) == (12 if lib is optax else 3)


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
    k=st.integers(1, 5),
    g=st.lists(st.floats(-100, 100, width=32), min_size=5, max_size=15),
    mean=st.booleans(),
)
def test_accumulating_k_is_the_mean_of_k(k, g, mean):
    g = np.asarray(g, np.float32)
    opt = jo.MultiSteps(jo.scale(-1.0), k, mean)
    state, steps = opt.init(jnp.zeros(1)), []
    for x in g:
        u, state = opt.update(jnp.full(1, x), state)
        steps.append(float(u[0]))
        assert bool(opt.has_updated(state)) == (len(steps) % k == 0)
    for i in range(len(g) // k):
        part = g[i * k : (i + 1) * k].astype(np.float64)
        want = part.mean() if mean else part.sum()
        np.testing.assert_allclose(steps[(i + 1) * k - 1], -want, rtol=1e-5, atol=1e-4)
        assert not any(steps[i * k : (i + 1) * k - 1])
    assert int(state.gradient_step) == len(g) // k and int(state.mini_step) == len(g) % k


@hypothesis.settings(deadline=None, max_examples=15)
@hypothesis.given(g=st.lists(st.sampled_from([1.0, 2.0, -3.0, NAN, float("inf")]), min_size=4, max_size=12))
def test_a_gradient_left_out_never_was(g):
    opt = jo.MultiSteps(jo.sgd(0.5, 0.5), 2, should_skip_update_fn=jo.skip_not_finite)
    state, other = opt.init(jnp.zeros(1)), opt.init(jnp.zeros(1))
    for x in g:
        u, state = opt.update(jnp.full(1, x), state)
        if np.isfinite(x):
            v, other = opt.update(jnp.full(1, x), other)
            assert float(u[0]) == float(v[0])
            assert not bool(state.skip_state["should_skip"])
        else:
            assert float(u[0]) == 0 and int(state.skip_state["num_not_finite"]) == 1
        assert_same_bits(state[:4], other[:4])


def test_a_schedule_of_k_and_of_the_batch():
    g = jnp.arange(1.0, 8.0)[:, None]
    steps, _ = walk(jo.MultiSteps(jo.scale(-1.0), lambda t: t + 1), g)
    np.testing.assert_allclose(steps[:, 0], [-1, 0, -2.5, 0, 0, -5, 0])
    theirs, _ = walk(optax.MultiSteps(optax.scale(-1.0), lambda t: t + 1), g)
    np.testing.assert_allclose(steps, theirs, rtol=1e-6)
    shrinking = jo.MultiSteps(jo.scale(-1.0), lambda t: jnp.where(t == 0, 3, 1))
    np.testing.assert_allclose(walk(shrinking, g)[0][:, 0], [0, 0, -2, -4, -5, -6, -7])
    traced = quick.jit(lambda k: walk_k(k, g))(jnp.int32(2))
    np.testing.assert_allclose(traced[:, 0], [0, -1.5, 0, -3.5, 0, -5.5, 0])


def walk_k(k, gradients):
    opt = jo.MultiSteps(jo.scale(-1.0), k)
    return jax.lax.scan(lambda s, g: opt.update(g, s)[::-1], opt.init(gradients[0]), gradients)[1]


def test_lanes_accumulate_and_skip_by_themselves():
    """Under vmap a cond is a selection."""
    g = jnp.array([[1.0, 2.0, 3.0, 4.0], [NAN, 2.0, 4.0, 6.0], [1.0, 3.0, NAN, 5.0]])[..., None]
    opt = jo.MultiSteps(jo.adam(0.1), 2, should_skip_update_fn=jo.skip_not_finite)
    run = lambda g: jax.lax.scan(lambda s, x: opt.update(x, s, x)[::-1], opt.init(g[0]), g)  # noqa: E731
    state, steps = quick.jit(jax.vmap(run))(g)
    for i in range(3):
        one_state, one = quick.jit(run)(g[i])
        assert_close(steps[i], one)
        assert_close(jax.tree.map(lambda x, i=i: x[i], state), one_state)
    assert [int(n) for n in state.gradient_step] == [2, 1, 1]


@pytest.mark.parametrize("lib", [optax, jo], ids=["optax", "ours"])
def test_large_is_measured_without_overflow(lib):
    """300 squared is infinite in float16: optax leaves out a norm of 424, which is below 1000."""
    g = jnp.full(2, 300.0, jnp.float16)
    skip, notes = lib.skip_large_updates(g, 0, None, 1e6)
    assert bool(skip) == (lib is optax)
    assert bool(jo.skip_large_updates(g, 0, None, 1e5)[0]) and bool(jo.skip_large_updates(g * NAN, 0, None, 1e9)[0])
    if lib is jo:
        np.testing.assert_allclose(notes["norm_squared"], 180_000, rtol=1e-3)


def test_a_window_ends_where_a_gradient_is_none():
    """What a leaf has gathered is of its window alone: None counts as 0, and its step is None."""
    one = {"a": jnp.ones(1), "b": jnp.ones(1)}
    none = {"a": jnp.ones(1), "b": None}
    for opt, due in [
        (jo.MultiSteps(jo.sgd(1.0), 2), -0.5), (jo.MultiSteps(jo.sgd(1.0), 2, use_grad_mean=False), -1.0),
        (jo.apply_every(2), 1.0), (jo.chain(jo.apply_every(2), jo.scale(-1.0)), -1.0),
    ]:  # fmt: skip
        for seen, want in [
            ((one, none, none, jax.tree.map(jnp.zeros_like, one)), 0), ((one, none, none, one), due),
            ((none, one, one, none, none, one), due), ((none, none, none, one), due),
        ]:  # fmt: skip
            state = opt.init(one)
            for g in seen:
                u, state = opt.update(g, state, one)
                assert (u["b"] is None) == (g["b"] is None)
            np.testing.assert_array_equal(u["b"], want)


# ---- guards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lib", [optax, jo], ids=["optax", "ours"])
def test_giving_up_once_is_not_giving_up_for_good(lib):
    """Two are left out, the third let through, and then again two left out: optax lets all that follow through."""
    g = jnp.array([NAN] * 6 + [1.0, NAN])[:, None]
    steps, state = walk(lib.apply_if_finite(lib.sgd(0.5), 2), g)
    through = np.isnan(steps[:, 0])
    if lib is optax:
        assert list(through) == [False, False, True, True, True, True, False, False]
    else:
        assert list(through) == [False, False, True, False, False, True, False, False]
        assert (int(state.notfinite_count), int(state.total_notfinite), bool(state.last_finite)) == (1, 7, False)


@pytest.mark.parametrize("name", ["apply_if_finite", "conditionally_mask", "multi_steps"])
def test_a_skipped_step_leaves_the_state_as_it_was(name):
    inner = jo.adam(0.1)
    opt = {
        "apply_if_finite": jo.apply_if_finite(inner, 5),
        "conditionally_mask": jo.conditionally_mask(inner, lambda step: step != 1),
        "multi_steps": jo.MultiSteps(inner, 1, should_skip_update_fn=jo.skip_not_finite).gradient_transformation(),
    }[name]
    pick = {"multi_steps": lambda s: s.inner_opt_state}.get(name, lambda s: s.inner_state)
    update, p = quick.jit(opt.update), jnp.ones(3)
    _, before = update(p, opt.init(p), p)
    u, after = update(jnp.full(3, NAN), before, p)
    assert not np.any(u)
    assert_same_bits(pick(after), pick(before))
    u, _ = update(p, after, p)
    want, _ = inner.update(p, pick(before), p)
    np.testing.assert_allclose(u, want, rtol=1e-6)


def test_conditions():
    g = jnp.ones((4, 1))
    even = lambda step: step % 2 == 0  # noqa: E731
    np.testing.assert_allclose(walk(jo.conditionally_transform(jo.scale(2.0), even), g)[0][:, 0], [2, 1, 2, 1])
    np.testing.assert_allclose(walk(jo.conditionally_mask(jo.scale(2.0), even), g)[0][:, 0], [2, 0, 2, 0])
    opt = jo.conditionally_mask(jo.scale(2.0), lambda step, loss: loss > 1, forward_extra_args=True)
    for value, want in ((0.5, 0.0), (2.0, 2.0)):
        u, _ = quick.jit(opt.update)(g[0], opt.init(g[0]), loss=jnp.float32(value))
        np.testing.assert_allclose(u, want)
    with pytest.raises(jo.errors.TransformationError, match="one bool"):
        walk(jo.conditionally_mask(jo.scale(2.0), lambda step: step), g)


@pytest.mark.parametrize("name", ["MultiSteps", "apply_if_finite", "conditionally_mask", "conditionally_transform"])
def test_guards_step_by_step_as_in_optax(name, x64):
    g = jnp.asarray(np.random.default_rng(0).normal(size=(60, 5)))
    odd = lambda step: step % 3 != 1  # noqa: E731
    words = {"MultiSteps": (3,), "apply_if_finite": (2,)}.get(name, (odd,))
    ours, theirs = (getattr(lib, name)(lib.adam(0.1), *words) for lib in (jo, optax))
    if name == "MultiSteps":
        theirs = optax.MultiSteps(optax.adam(0.1), 3, accumulator_dtype=jnp.float64)
    np.testing.assert_allclose(walk(ours, g)[0], walk(theirs, g)[0], rtol=1e-9, atol=1e-15)


def test_zero_nans_and_nonnegative():
    g = {"a": jnp.array([NAN, 2.0]), "b": jnp.array([jnp.inf])}
    u, state = jo.zero_nans().update(g, jo.zero_nans().init(g))
    np.testing.assert_array_equal(u["a"], [0, 2])
    assert np.isinf(u["b"]) and bool(state.found_nan["a"]) and not bool(state.found_nan["b"])
    p, opt = jnp.array([0.5, 0.5, 0.0], jnp.bfloat16), jo.keep_params_nonnegative()
    u, _ = opt.update(jnp.array([-1.0, 1.0, -1e-3], jnp.bfloat16), opt.init(p), p)
    np.testing.assert_array_equal(np.float32(jo.apply_updates(p, u)), [0, 1.5, 0])


# ---- groups ---------------------------------------------------------------------------------------------


def test_one_pass_over_the_leaves():
    """Each rule sees its own leaves only: the rules' calls count the leaves once, however many groups there are."""
    seen = []
    spy = jo.stateless_with_tree_map(lambda g, p: seen.append(1) or g)
    params = {str(i): jnp.ones(2) for i in range(30)}
    for groups in (1, 10, 30):
        seen.clear()
        opt = jo.partition(dict.fromkeys(range(groups), spy), {name: int(name) % groups for name in params})
        opt.update(params, opt.init(params), params)
        assert len(seen) == 30


def test_labels_without_a_rule_and_leaves_without_a_label():
    params = {"body": {"w": jnp.ones(2)}, "head": jnp.ones(3)}
    with pytest.raises(jo.errors.TreeError, match=r"\['body'\]\['w'\].*'slow'.*'fast'"):
        jo.partition({"fast": jo.sgd(0.1)}, {"body": "slow", "head": "fast"}).init(params)
    with pytest.raises(jo.errors.TreeError, match=r"\['head'\]"):
        jo.partition({"fast": jo.sgd(0.1)}, {"body": "fast"}).init(params)
    with pytest.raises(jo.errors.TreeError, match=r"\['head'\].*None"):
        jo.partition({"fast": jo.sgd(0.1)}, {"body": "fast", "head": None}).init(params)


def test_frozen_leaves_hold_no_state():
    params = {"w": jnp.ones(1000), "b": jnp.ones(10)}
    opt = jo.selective_transform(jo.adam(0.1), freeze_mask={"w": True, "b": np.bool_(False)})
    state = opt.init(params)
    assert sum(x.size for x in jax.tree.leaves(state)) == 2 * 10 + 1
    u, _ = opt.update(params, state, params)
    assert not np.any(u["w"]) and np.all(np.asarray(u["b"]) < 0)
    for mask in (True, jnp.array(True), {"w": True, "b": True}):
        opt = jo.freeze(mask)
        u, _ = opt.update(params, opt.init(params), params)
        assert not np.any(u["w"]) and not np.any(u["b"])
    assert isinstance(state, jo.MultiTransformState) and jo.multi_transform is jo.partition
    assert set(state.inner_states) == {"train", "freeze"} and isinstance(state.inner_states["train"], jo.MaskedState)


def test_groups_step_by_step_as_in_optax(x64):
    rng = np.random.default_rng(0)
    params = {"w": jnp.asarray(rng.normal(size=(2, 3))), "b": jnp.asarray(rng.normal(size=3)), "c": jnp.ones(())}
    labels = {"w": "a", "b": "s", "c": "z"}

    @standard
    def run(lib):
        opt = lib.multi_transform({"a": lib.adam(0.1), "s": lib.sgd(0.1, 0.9), "z": lib.set_to_zero()}, labels)
        opt = lib.chain(lib.masked(lib.scale(3.0), {"w": True, "b": False, "c": True}), opt)
        grad = jax.grad(lambda p: sum(jnp.sum(jnp.sin(x) ** 2) for x in jax.tree.leaves(p)))

        def step(c, _):
            u, s = opt.update(grad(c[0]), c[1], c[0])
            return (lib.apply_updates(c[0], u), s), u

        return quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), None, 60)[1])(params)

    assert_close(run(jo), run(optax), rtol=1e-9, atol=1e-14)


def test_sharing_of_states_by_tree_map_params():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    specs = {"w": "rows", "b": "all"}
    opt = jo.chain(jo.clip_by_global_norm(1.0), jo.MultiSteps(jo.adamw(1e-3), 2).gradient_transformation())
    state = opt.init(params)
    got = jo.tree_map_params(opt, lambda _, spec: spec, state, specs, transform_non_params=lambda _: "scalar")
    assert got[1].acc_grads == specs and got[1].inner_opt_state[0].mu == specs and got[1].mini_step == "scalar"
    doubled = jo.tree_map_params(opt, lambda x: x + 1, state)
    assert float(doubled[1].inner_opt_state[0].nu["b"][0]) == 1 and int(doubled[1].mini_step) == 0
    grouped = jo.partition({"a": jo.adam(0.1), "z": jo.set_to_zero()}, {"w": "a", "b": "z"})
    got = jo.tree_map_params(
        grouped,
        lambda x, spec: x if isinstance(x, jo.MaskedNode) else spec,
        grouped.init(params),
        specs,
        is_leaf=lambda x: isinstance(x, jo.MaskedNode),
    )
    assert got.inner_states["a"].inner_state[0].mu == {"w": "rows", "b": jo.MaskedNode()}


KINDS = {"w": jnp.ones(2), "key": jax.random.key(3), "raw": jax.random.PRNGKey(3), "n": jnp.int32(7), "b": True}
TRAINED = {"w": True, "key": False, "raw": False, "n": False, "b": False}
FROZEN = {name: not on for name, on in TRAINED.items()}


def held(opt):
    return jo.selective_transform(opt, freeze_mask=FROZEN)


@pytest.mark.parametrize(
    "opt",
    [
        jo.masked(jo.adam(0.1), TRAINED),
        jo.partition({True: jo.sgd(0.1), False: jo.set_to_zero()}, TRAINED),
        held(jo.chain(jo.sgd(0.1), jo.average_params(0.9))),
        jo.chain(held(jo.sgd(0.1)), jo.freeze(FROZEN), jo.average_params(0.9)),
        jo.MultiSteps(held(jo.sgd(0.1)), 2, should_skip_update_fn=jo.skip_not_finite).gradient_transformation(),
        jo.apply_if_finite(jo.conditionally_mask(held(jo.sgd(0.1)), lambda t: t > 0), 3),
        jo.conditionally_transform(jo.masked(jo.sgd(0.1), TRAINED), lambda t: t > 0),
        jo.schedule_free(held(jo.sgd(0.1)), 0.1),
        jo.generalized_primal_averaging(held(jo.sgd(0.1)), params_at="z"),
        jo.ema_nesterov(held(jo.sgd(0.1)), 0.5, 0.9),
    ],
    ids=lambda opt: jo.core.method.name_of(opt),
)
def test_counters_and_keys_among_the_frozen(opt):
    """Their gradients may be None, or float0, as jax.grad makes them, or anything of their kind, zeros say."""
    params = jax.tree.map(jnp.asarray, KINDS)

    def step(carry, _):
        p, state = carry
        grads = jax.grad(lambda p: jnp.sum(p["w"] ** 2), allow_int=True)(p)
        u, state = opt.update(grads, state, p)
        return (jo.apply_updates(p, u), state), None

    (last, state), _ = quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), None, 3))(params)
    assert abs(last["w"][0] - 1) > 0.1
    plain = jo.tree.unwrap_random_key_data
    others = lambda p: {name: x for name, x in plain(p).items() if name != "w"}  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, others(last), others(params))
    for g in (dict.fromkeys(params), jax.tree.map(jnp.zeros_like, params)):
        u, _ = opt.update({**g, "w": jnp.ones(2)}, state, last)
        jax.tree.map(np.testing.assert_array_equal, others(jo.apply_updates(last, u)), others(params))
    if "average" in jo.core.method.name_of(opt) + str(jax.tree.structure(state)):
        seen = jo.eval_params(state, last)
        assert seen["key"] is last["key"] and seen["n"] is last["n"]


def test_a_counter_that_no_group_holds_is_refused_by_what_is_inside():
    for opt in (jo.MultiSteps(jo.sgd(0.1), 2), jo.schedule_free(jo.sgd(0.1), 0.1), jo.apply_if_finite(jo.adam(0.1), 1)):
        with pytest.raises(jo.errors.TreeError, match=r"\['n'\].*masked"):
            opt.init({"w": jnp.ones(2), "n": jnp.int32(7)})


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Net:
    """A module that can be called, and wants more than the parameters."""

    w: object
    b: object

    def __call__(self, x, y):
        return self.w @ x + y


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Matrices:
    """A mask as an object with a leaf of its own, which fits no parameters."""

    least: object

    def __call__(self, params):
        return jax.tree.map(lambda p: p.ndim >= self.least, params)


def test_a_module_that_can_be_called_is_a_tree():
    net = Net(jnp.ones((2, 3)), jnp.ones(3))
    axes = jo.MuonDimensionNumbers((0,), (1,))
    for opt in (
        jo.masked(jo.trace(0.9), Net(True, False)),
        jo.masked(jo.trace(0.9), {"net": Net(True, False)}["net"]),
        jo.masked(jo.trace(0.9), lambda p: Net(True, False)),
        jo.masked(jo.trace(0.9), Matrices(2)),
        jo.masked(jo.trace(0.9), jax.tree_util.Partial(lambda least, p: Matrices(least)(p), 2)),
        jo.masked(jo.trace(0.9), functools.partial(lambda p, least: Matrices(least)(p), least=2)),
        jo.partition({"m": jo.trace(0.9), "r": jo.sgd(0.1)}, Net("m", "r")),
        jo.selective_transform(jo.trace(0.9), freeze_mask=Net(np.bool_(False), jnp.array([True]))),
    ):
        state = opt.init(net)
        traces = [x.trace for x in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, jo.TraceState))
                  if isinstance(x, jo.TraceState)]  # fmt: skip
        assert traces[0].w.shape == (2, 3) and traces[0].b == jo.MaskedNode()
        u, _ = opt.update(net, state, net)
        assert jax.tree.structure(u) == jax.tree.structure(net)
    inside = jo.chain(jo.clip(1.0), jo.masked(jo.adam(0.1), {"net": Net(True, False), "head": True}))
    assert inside.init({"net": net, "head": jnp.ones(2)})[1].inner_state[0].mu["net"].b == jo.MaskedNode()
    # and wherever something is said of the leaves
    for opt in (
        jo.adamw(0.1, weight_decay=1.0, mask=Net(True, False)),
        jo.adamc(0.1, weight_decay=1.0, mask=Net(True, False), normalized=Net(True, True)),
        jo.lars(0.1, 1.0, weight_decay_mask=Net(True, False), trust_ratio_mask=Net(False, False), norms="separate"),
    ):
        u, _ = opt.update(jax.tree.map(jnp.zeros_like, net), opt.init(net), net)
        assert np.all(u.w != 0) and np.all(u.b == 0)
    muon = jo.muon(0.1, muon_weight_dimension_numbers=Net(axes, None))
    assert muon.init(net).inner_states["adam"].inner_state[0].mu.w == jo.MaskedNode()
    galore = jo.scale_by_galore(1, weight_dimension_numbers=Net(jo.contrib.GaLoreDimensionNumbers(), None))
    u, _ = galore.update(net, galore.init(net), net)
    assert np.all(np.isfinite(u.w))
    stacked = jo.scale_by_sm3(stack_axes=Net(1, 0))
    assert np.all(np.isfinite(stacked.update(net, stacked.init(net), net)[0].w))
    with pytest.raises(jo.errors.TreeError, match="labels must have the structure"):
        jo.masked(jo.adam(0.1), Net(True, Net(True, False))).init(net)


@pytest.mark.parametrize("leaf", [1, 0, 1.0, "True", None, np.array(1), jnp.ones(2, bool)], ids=str)
def test_a_mask_of_what_is_no_bool(leaf):
    p = {"a": jnp.ones(2), "b": jnp.ones(2)}
    mask = {"a": leaf, "b": True}
    for make in (
        lambda: jo.masked(jo.adam(0.1), mask), lambda: jo.masked(jo.adam(0.1), lambda p: mask), lambda: jo.freeze(mask),
        lambda: jo.selective_transform(jo.adam(0.1), freeze_mask=mask), lambda: jo.adamw(0.1, mask=mask),
        lambda: jo.adamc(0.1, mask=mask, normalized=True), lambda: jo.adamc(0.1, normalized=mask),
        lambda: jo.lars(0.1, 1.0, weight_decay_mask=mask, norms="separate"),
        lambda: jo.lars(0.1, 1.0, trust_ratio_mask=mask),
    ):  # fmt: skip
        with pytest.raises(jo.errors.TreeError, match=r"(mask|normalized) at the leaf \['a'\] must be True or False"):
            make().init(p)  # when made, if it is there then
    with pytest.raises(jo.errors.TreeError, match=r"label of the leaf \['a'\]"):
        jo.partition({True: jo.adam(0.1), False: jo.sgd(0.1)}, mask).init(p)
    with pytest.raises(jo.errors.TreeError, match="traced"):
        jax.eval_shape(lambda on: jo.masked(jo.adam(0.1), {"a": on, "b": True}).init(p), True)


# ---- hyperparameters in the state -----------------------------------------------------------------------


@pytest.mark.rounding
@every(
    "inject",
    lambda case: case.make is None and not case.direction and not case.words and "learning_rate" in case.hypers,
)
def test_injected_is_plain_but_for_rounding(case):
    """One has its hyperparameters as operands, the other as constants: two programs."""
    params = params_like()
    injected, plain = jo.inject_hyperparams(case.factory)(**case.hypers, **case.options), whole(case)
    assert set(case.hypers) <= set(injected.init(params).hyperparams)
    step = quick.jit(lambda a, b: (descend(injected)(a)[0], descend(plain)(b)[0]))  # one compilation for both
    a, b = (params, injected.init(params)), (params, plain.init(params))
    for _ in range(5):
        a, b = step(a, b)
    assert_rounded((a[0], a[1].inner_state), b)


class Halving:
    """Half the rate whenever the loss is told to be above one."""

    def init(self):
        return jnp.float32(1.0)

    def update(self, state, **extra_args):
        return jnp.where(extra_args["loss"] > 1, state / 2, state)

    def __call__(self, state, **extra_args):
        return state


def test_schedules_with_a_state():
    assert isinstance(Halving(), jo.StatefulSchedule)
    opt, g = jo.inject_hyperparams(jo.sgd)(Halving()), jnp.ones(1)
    state = opt.init(g)
    rates = []
    for value in (0.5, 2.0, 0.5, 3.0, 0.0):
        u, state = quick.jit(opt.update)(g, state, loss=jnp.float32(value))
        rates.append(-float(u[0]))
    np.testing.assert_allclose(rates, [1, 1, 0.5, 0.5, 0.25])
    assert isinstance(state, jo.InjectStatefulHyperparamsState)
    plain = jo.inject_hyperparams(jo.sgd)(lambda t: 0.5 / (t + 1))
    wrapped = jo.inject_hyperparams(jo.sgd)(jo.WrappedSchedule(lambda t: 0.5 / (t + 1)))
    ones = jnp.ones((4, 1))
    np.testing.assert_allclose(walk(wrapped, ones)[0], walk(plain, ones)[0], rtol=1e-7)


# ---- reports --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lib", [optax, jo], ids=["optax", "ours"])
def test_a_monitor_can_be_scanned(lib):
    """optax's state has no measurements before the first step and some after it."""
    opt = lib.monitor({"sum": jnp.sum, "mean": lib.measure_with_ema(jnp.sum, 0.5)})
    run = standard(lambda: jax.lax.scan(lambda s, g: opt.update(g, s)[::-1], opt.init(jnp.ones(2)), jnp.ones((3, 2))))
    if lib is optax:
        with pytest.raises(TypeError):
            run()
        return
    state, _ = run()
    np.testing.assert_allclose([state.measurements["sum"], state.measurements["mean"]], [2, 2])


def test_snapshots():
    opt = jo.chain(jo.snapshot("before", jo.global_norm), jo.clip(0.5), jo.snapshot("after", lambda g: {"g": g}))
    g = jnp.full(4, 1.0, jnp.bfloat16)
    state = opt.init(g)
    assert float(state[0].measurement["before"]) == 0
    _, state = opt.update(g, state)
    assert float(state[0].measurement["before"]) == 2 and state[2].measurement["after"]["g"].dtype == jnp.float32
    share = jo.measure_with_ema(lambda g: jnp.sum(g) > 1, 0.9)
    _, state = share.update(g, share.init(g))
    assert state[1].ema.dtype == jnp.float32 and isinstance(state[0], jo.EmptyState)
    with pytest.raises(jo.errors.TransformationError, match="measures"):
        jo.monitor({"x": 3})


# ---- layouts --------------------------------------------------------------------------------------------


def test_flat_is_the_same(x64):
    params = params_like(jnp.float64)
    a = quick.jit(lambda c: jax.lax.scan(descend(jo.flatten(jo.adam(0.1))), c, None, 60)[0])
    b = quick.jit(lambda c: jax.lax.scan(descend(jo.adam(0.1)), c, None, 60)[0])
    flat, plain = jo.flatten(jo.adam(0.1)), jo.adam(0.1)
    assert_close(a((params, flat.init(params)))[0], b((params, plain.init(params)))[0], rtol=1e-12)
    assert flat.init(params)[0].mu.shape == (10,)


def test_complex_leaves_are_pairs():
    z = jnp.array([3 + 4j, 1 - 2j], jnp.complex64)
    for g in (z, jnp.array([jnp.inf, 0], jnp.complex64)):
        opt = jo.split_real_and_imaginary(jo.scale(-0.5))
        params = {"z": z, "x": jnp.ones(2)}
        u, _ = opt.update({"z": g, "x": jnp.ones(2)}, opt.init(params), params)
        np.testing.assert_array_equal(u["z"], np.asarray([-0.5 * complex(x) if np.isfinite(x) else -np.inf for x in g]))
    adam = jo.split_real_and_imaginary(jo.adam(0.1))
    shapes = jax.eval_shape(lambda: params)
    assert jax.eval_shape(adam.init, shapes) == jax.eval_shape(lambda: adam.init(shapes))
    theirs = optax.contrib.split_real_and_imaginary(optax.adam(0.1))
    u, _ = adam.update({"z": z, "x": jnp.ones(2)}, adam.init(params), params)
    v, _ = standard(theirs.update)({"z": z, "x": jnp.ones(2)}, theirs.init(params), params)
    np.testing.assert_allclose(u["z"], v["z"], rtol=1e-5)  # optax's bias correction is good to 7e-6
    assert jo.apply_updates(params, u)["z"].dtype == jnp.complex64
