"""Pieces around optimizers, beside transcriptions of their papers in float64, and around Muon with stacked leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import jaxopt_ko as jo

STEPS = 20
START = np.random.default_rng(0).normal(size=(3, 4))
RATE = 0.05


def slope(x, k):
    """The gradient at x in the k-th step; one element has none."""
    g = np.sin(3 * x + k) + 0.5 * x
    g[0, 0] = 0.0
    return g


def path_of(opt, see=lambda state, params: params, start=START):
    """What is seen after every step, float64."""

    def step(carry, k):
        p, state = carry
        g = (jnp.sin(3 * p + k.astype(p.dtype)) + 0.5 * p).at[0, 0].set(0.0)
        u, state = opt.update(g, state, p)
        p = jo.apply_updates(p, u)
        return (p, state), see(state, p)

    return quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), jnp.arange(STEPS))[1])(jnp.asarray(start))


class Adam:
    """u = m_hat / (sqrt(v_hat) + eps)."""

    def __init__(self):
        self.m = self.v = self.t = 0

    def __call__(self, g):
        self.t += 1
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.99 * self.v + 0.01 * g * g
        return self.m / (1 - 0.9**self.t) / (np.sqrt(self.v / (1 - 0.99**self.t)) + 1e-8)


def along(step, x=START):
    """The path of x <- step(x, g, t) for t = 0, 1, …"""
    path = []
    for t in range(STEPS):
        x = step(x, slope(x, t), t)
        path.append(x)
    return np.stack(path)


def agrees(got, want, plain):
    """To 1e-9, and the path without the piece is another."""
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)
    assert np.abs(want - plain).max() > 1e-3


def adam():
    return jo.scale_by_adam(0.9, 0.99)


def rate(t):
    """Up for five steps to RATE, then down."""
    return RATE * np.minimum((t + 1) / 5, 1 - (t - 4) / 20)


def scheduled(count):
    t = count.astype(float)
    return RATE * jnp.minimum((t + 1) / 5, 1 - (t - 4) / 20)


@pytest.mark.parametrize("xi", [None, 1.0])
def test_cautious_steps(xi, x64):
    u_of, plain_of = Adam(), Adam()

    def step(x, g, t):
        u = u_of(g)
        phi = u * g > 0
        scale = 1 / max(phi.mean(), 1e-3) if xi is None else phi.size / (phi.sum() + xi)
        return x - RATE * (scale * phi * u + 0.1 * x)

    want = along(step)
    behind = [jo.add_decayed_weights(0.1), jo.scale_by_learning_rate(RATE)]
    got = path_of(jo.chain(jo.cautious(adam(), xi=xi, direction=True), *behind))
    agrees(got, want, along(lambda x, g, t: x - RATE * (plain_of(g) + 0.1 * x)))


def test_cautious_knows_a_step_from_a_direction():
    g, p = jnp.array([1.0, -2.0, 3.0, 0.0]), jnp.zeros(4)
    for opt, want in (
        (jo.cautious(jo.sgd(0.5, 0.5)), [0.0, 0.0, -3.0, 0.0]),
        (jo.cautious(jo.trace(0.5), direction=True), [0.0, 0.0, 6.0, 0.0]),
    ):
        state = opt.init(p)
        _, state = opt.update(4 * jnp.array([-1.0, 2.0, 1.0, 0.0]), state, p)  # velocities of -1, 2 and 5 in the next
        u, _ = opt.update(g, state, p)
        scale = 4 / np.count_nonzero(want)
        np.testing.assert_allclose(u, scale * np.array([0, 0, want[2] / 6 * 5, 0]), rtol=1e-6)
    stops = jo.cautious(jo.trace(0.9), eps=0.0, direction=True)  # nothing agrees, no floor
    _, state = stops.update(g, stops.init(p), p)
    u, _ = stops.update(-0.1 * g, state, p)
    assert not np.any(u)


def test_cautious_weight_decay(x64):
    u_of, plain_of = Adam(), Adam()

    def step(x, g, t):
        u = u_of(g)
        return x - RATE * (u + 0.5 * (u * x >= 0) * x)

    got = path_of(jo.chain(adam(), jo.add_cautious_decayed_weights(0.5), jo.scale_by_learning_rate(RATE)))
    agrees(got, along(step), along(lambda x, g, t: x - RATE * (plain_of(g) + 0.5 * x)))
    tiny = jo.add_cautious_decayed_weights(1.0, mask={"a": True, "b": False})
    p = {"a": jnp.array([-1e-30, 1e-30], jnp.float32), "b": jnp.ones(2)}
    u, _ = tiny.update({"a": jnp.full(2, 1e-20, jnp.float32), "b": jnp.ones(2)}, tiny.init(p), p)  # u p underflows
    np.testing.assert_array_equal(u["a"], np.float32([1e-20, 1e-20 + 1e-30]))
    np.testing.assert_array_equal(u["b"], [1, 1])


def test_adamc(x64):
    """Half of the columns are of a normalized layer; one row has no decay."""
    u_of, plain_of = Adam(), Adam()
    c = lambda t: np.array([rate(t) / RATE, rate(t) / RATE, 1, 1]) * np.array([[1], [1], [0]])  # noqa: E731
    want = along(lambda x, g, t: x - rate(t) * (u_of(g) + 0.5 * c(t) * x))
    plain = along(lambda x, g, t: x - rate(t) * (plain_of(g) + 0.5 * (c(t) > 0) * x))
    adamc = jo.adamc(
        scheduled, 0.9, 0.99, weight_decay=0.5, max_learning_rate=RATE,
        mask=[[True, True], [False, False]], normalized=lambda p: [[True, False]] * 2,
    )  # fmt: skip

    def parts(x):
        return [[x[:2, :2], x[:2, 2:]], [x[2:, :2], x[2:, 2:]]]

    def update(g, state, p):
        u, state = adamc.update(parts(g), state, parts(p))
        return jnp.block(u), state

    agrees(path_of(jo.GradientTransformation(lambda p: adamc.init(parts(p)), update)), want, plain)
    everywhere = path_of(jo.adamc(scheduled, 0.9, 0.99, weight_decay=0.5, max_learning_rate=RATE))
    v_of = Adam()
    agrees(everywhere, along(lambda x, g, t: x - rate(t) * (v_of(g) + 0.5 * rate(t) / RATE * x)), plain)


@pytest.mark.rounding
def test_adamc_of_a_number_is_adamw_and_a_schedule_needs_its_maximum():
    paths = (path_of(make(RATE, weight_decay=0.1)) for make in (jo.adamc, jo.adamw))
    np.testing.assert_allclose(*paths, rtol=1e-5, atol=1e-6)
    for bad in (scheduled, jnp.float32(0.1)):
        with pytest.raises(jo.errors.MissingArgumentError, match="max_learning_rate"):
            jo.adamc(bad)
    with pytest.raises(jo.errors.TreeError, match="adamc: the mask"):
        jo.adamc(0.1, normalized={"a": True}).init({"b": jnp.ones(2)})


@pytest.mark.parametrize("whole", [False, True])
def test_hyperball(whole, x64):
    u_of, plain_of, R = Adam(), Adam(), np.linalg.norm(START)

    def step(x, g, t):
        u = u_of(g)
        x = x - rate(t) * R * u / np.linalg.norm(u)
        return R * x / np.linalg.norm(x)

    opt = jo.adam(0.3, 0.9, 0.99) if whole else adam()
    got = path_of(jo.chain(opt, jo.hyperball(scheduled, flip_sign=not whole)))
    agrees(got, along(step), along(lambda x, g, t: x - rate(t) * plain_of(g)))


def test_pinned_on_the_sphere_is_hyperball(x64):
    """Directions as long as the weights, no floor, no brake, no decay: hyperball."""
    plain = {"floor": 0.0, "weight_decay": 0.0, "radius": "start"}
    want = path_of(jo.chain(jo.scale_by_adam(), jo.hyperball(RATE)))
    got = path_of(jo.chain(jo.scale_by_adam(), jo.relative_update(), jo.pinned(RATE, outward=1.0, **plain)))
    np.testing.assert_allclose(got, want, rtol=1e-12)
    braked = path_of(jo.chain(jo.scale_by_adam(), jo.relative_update(), jo.pinned(RATE, inward=0.5, **plain)))
    assert np.abs(braked - want).max() > 1e-4
    np.testing.assert_allclose(np.linalg.norm(braked, axis=(1, 2)), np.linalg.norm(START), rtol=1e-12)


def test_pieces_in_a_row_are_pinned(x64):
    """All that `pinned` does but the decay, which is behind the rest and looks at the direction before it."""
    words = {"floor": 0.5, "outward": 0.4, "per": "column"}
    want = path_of(jo.chain(jo.scale_by_adam(), jo.update_floor(0.5, per="column"), jo.radial_brake(0.4, RATE)))
    got = path_of(jo.chain(jo.scale_by_adam(), jo.pinned(RATE, weight_decay=0.0, **words)))
    np.testing.assert_allclose(got, want, rtol=1e-12)
    p, u = jnp.array([[3.0, -4.0], [0.0, 2.0]]), jnp.array([[1.0, 1.0], [1.0, -1.0]])
    without, decayed = (p + tx.update(u, (), p)[0] for tx in (jo.pinned(0.1, 0.5, 0.4, d) for d in (0.0, 0.5)))
    np.testing.assert_allclose(decayed, np.array([[0.95, 1.0], [1.0, 1.0]]) * without, rtol=1e-12)


def test_floors_of_rows_of_columns_and_of_all(x64):
    p = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    u = jnp.array([[0.3, 0.4], [0.6, 0.0]])
    lengths = {"row": u.at[0].mul(2.0), "matrix": u * (1.0 / np.sqrt(0.61)), "column": u.at[:, 1].mul(2.0)}
    for per, want in lengths.items():
        np.testing.assert_allclose(jo.update_floor(0.2, per=per).update(u, (), p)[0], want, rtol=1e-12)
    kernel = jnp.arange(1.0, 9.0).reshape(2, 2, 2)  # of a convolution: whatever is not the first axis, or the last
    for per, axes in (("row", (1, 2)), ("column", (0, 1))):
        lifted = jo.update_floor(1.0, per=per).update(jnp.full_like(kernel, 1e-3), (), kernel)[0]
        np.testing.assert_allclose(jnp.sum(lifted**2, axes), jnp.sum(kernel**2, axes), rtol=1e-12)


@pytest.mark.parametrize("radius", ["radial", "start"])
def test_pinned_without_a_direction_and_through_zero(radius):
    """It stays, bit for bit; and no step ends in NaN, where the length that it leads to would be negative, too."""
    tx, p = jo.pinned(0.1, radius=radius), {"w": jnp.array([[3.0, 4.0]]), "zero": jnp.zeros((1, 2))}
    state = tx.init(p)
    still = tx.update(jax.tree.map(jnp.zeros_like, p), state, p)[0]
    assert all(not u.any() for u in jax.tree.leaves(still))
    far = jo.apply_updates(p, tx.update({"w": 1e3 * p["w"], "zero": jnp.ones((1, 2))}, state, p)[0])
    assert np.isfinite(far["w"]).all() and np.abs(far["w"]).max() > 0 and not far["zero"].any()


def test_tail_average(x64):
    """e begins at the step `start`, and a part of it is read."""

    def reference():
        adam, x, e, path = Adam(), START, None, []
        for t in range(1, STEPS + 1):
            x = x - RATE * adam(slope(x, t - 1))
            e = x if t <= 5 else e + (x - e) / 4
            path.append(0.4 * x + 0.6 * e)
        return np.stack(path)

    opt = jo.chain(jo.scale_by_adam(b2=0.99), jo.scale_by_learning_rate(RATE), jo.tail_average(4, 5, 0.6))
    agrees(path_of(opt, jo.tail_averaged_params), reference(), path_of(opt))
    np.testing.assert_array_equal(path_of(opt, jo.eval_params), path_of(opt, jo.tail_averaged_params))
    for bad in ({"tau": 0.5}, {"start": -1}, {"lam": 1.5}):
        with pytest.raises(jo.errors.HyperparameterError, match=next(iter(bad))):
            jo.tail_average(**bad)


def test_hyperball_keeps_zeros_and_stays_without_gradient():
    opt, p = jo.hyperball(0.1), {"zero": jnp.zeros(3), "still": jnp.array([3.0, 4.0]), "through": jnp.array([10.0])}
    g = {"zero": jnp.ones(3), "still": jnp.zeros(2), "through": jnp.ones(1)}
    u, state = opt.update(g, opt.init(p), p)
    assert not any(np.any(x) for x in jax.tree.leaves(u))  # of one element there are but two on the sphere
    np.testing.assert_allclose([state.radius[k] for k in ("zero", "still", "through")], [0, 5, 10])
    layers = jo.hyperball(0.1, stack_axes=1).init(np.array([[3.0, 4.0], [6.0, 8.0]], np.float32))
    np.testing.assert_allclose(layers.radius, [5, 10], rtol=1e-6)  # of an array of NumPy's, too


@pytest.mark.parametrize("constant", [True, False])
def test_ema_nesterov(constant, x64):
    beta = (lambda t: 2.0) if constant else (lambda t: 0.2 * t)
    u_of, plain_of = Adam(), Adam()
    theta, m, path, ahead = START, np.zeros_like(START), [], []
    for t in range(STEPS):
        y = theta + beta(t) * m
        new = y - RATE * u_of(slope(y, t))
        theta, m = new, 0.8 * m + 0.2 * (new - theta)
        path.append(theta)
        ahead.append(theta + beta(t + 1) * m)
    opt = jo.ema_nesterov(jo.adam(RATE, 0.9, 0.99), 2.0 if constant else lambda t: 0.2 * t, 0.8)
    plain = along(lambda x, g, t: x - RATE * plain_of(g))
    agrees(path_of(opt, jo.ema_nesterov_eval_params), np.stack(path), plain)
    agrees(path_of(opt), np.stack(ahead), np.stack(path))


@pytest.mark.parametrize(("where", "mu_y"), [("y", lambda t: 0.7), ("z", lambda t: 0.7), ("y", lambda t: 1 - 0.02 * t)])
def test_generalized_primal_averaging(where, mu_y, x64):
    """With a weight decay of y, as the authors' code has it, or of z, as in their paper."""
    u_of, plain_of = Adam(), Adam()
    x = z = y = START
    path = []
    for t in range(STEPS):
        z = z - RATE * (u_of(slope(y, t)) + 0.5 * (y if where == "y" else z))
        x = 0.9 * x + 0.1 * z
        y = mu_y(t) * x + (1 - mu_y(t)) * z
        path.append(x)
    inner = jo.adamw(RATE, 0.9, 0.99, weight_decay=0.5)
    opt = jo.generalized_primal_averaging(inner, 0.9, mu_y if mu_y(1) != 0.7 else 0.7, params_at=where)
    plain = along(lambda x, g, t: x - RATE * (plain_of(g) + 0.5 * x))
    agrees(path_of(opt, jo.generalized_primal_averaging_eval_params), np.stack(path), plain)


def test_averages_in_half_precision_and_states_that_are_not_theirs():
    p = {"a": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2)}
    opt = jo.generalized_primal_averaging(jo.sgd(0.1), state_dtype="bfloat16", params_at="z")
    state = opt.init(p)
    u, state = opt.update({"a": p["a"], "b": None}, state, p)
    assert u["b"] is None and u["a"].dtype == state.averages.z["b"].dtype == jnp.bfloat16
    seen = jo.generalized_primal_averaging_eval_params(state, jo.apply_updates(p, u))
    assert seen["a"].dtype == jnp.bfloat16 and float(seen["b"][0]) == 1
    for see in (jo.generalized_primal_averaging_eval_params, jo.ema_nesterov_eval_params):
        with pytest.raises(jo.errors.StateError, match="must hold one"):
            see(jo.sgd(0.1).init(p), p)
    with pytest.raises(jo.errors.HyperparameterError, match="params_at"):
        jo.generalized_primal_averaging(jo.sgd(0.1), params_at="x")


AROUND_MUON = {
    "cautious": lambda opt, axes: jo.cautious(opt, stack_axes=axes),
    "hyperball": lambda opt, axes: jo.chain(opt, jo.hyperball(0.05, flip_sign=False, stack_axes=axes)),
    "ema_nesterov": lambda opt, axes: jo.ema_nesterov(opt, 2.0, 0.8),
    "generalized_primal_averaging": lambda opt, axes: jo.generalized_primal_averaging(opt, 0.9),
    "cautious decay": lambda opt, axes: decayed(axes, jo.add_cautious_decayed_weights(0.1)),
    "corrected decay": lambda opt, axes: decayed(axes, jo.add_corrected_decayed_weights(0.1, scheduled, RATE)),
}


def decayed(axes, decay):
    return jo.chain(jo.scale_by_muon(stack_axes=axes), decay, jo.scale_by_learning_rate(0.02))


@pytest.mark.parametrize("name", AROUND_MUON)
def test_muon_with_each_of_them_is_the_same_of_stacked_and_of_separate_leaves(name, x64):
    layers = jax.random.normal(jax.random.key(1), (3, 4, 6)) * jnp.array([0.1, 1.0, 10.0]).reshape(3, 1, 1)

    def end(axes, p):
        opt = AROUND_MUON[name](jo.muon(0.02, weight_decay=0.1, stack_axes=axes), axes)

        def step(carry, k):
            p, state = carry
            g = jax.tree.map(lambda x: jnp.sin(3 * x + k.astype(x.dtype)), p)
            u, state = opt.update(g, state, p)
            return (jo.apply_updates(p, u), state), None

        return quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), jnp.arange(5))[0][0])(p)

    stacked, apart = end(1, {"w": layers})["w"], jnp.stack(end(0, list(layers)))
    np.testing.assert_allclose(stacked, apart, rtol=1e-9, atol=1e-9)
    assert np.abs(stacked - layers).max(axis=(1, 2)).min() > 1e-2


# ---- states and values as people have them --------------------------------------------------------------


def test_decays_of_one_and_clips_at_zero():
    g = {"a": jnp.asarray([3.0, 0.0, -4.0])}
    total = jo.trace(1.0)
    u, state = total.update(g, total.init(g))
    np.testing.assert_array_equal(total.update(g, state)[0]["a"], 2 * u["a"])  # the sum of all
    lion = jo.scale_by_lion(b2=1.0)
    np.testing.assert_array_equal(lion.update(g, lion.init(g))[0]["a"], [1.0, 0.0, -1.0])  # of the last one alone
    with pytest.raises(jo.errors.HyperparameterError, match="b2"):
        jo.adam(0.1, b2=1.0)  # which is divided by 1 - 1**t
    kinds = (jo.clip, jo.clip_by_norm, jo.clip_by_block_rms, jo.clip_by_global_norm, jo.adaptive_grad_clip)
    for state in (None, (), {}, jo.EmptyState()):
        for clip in kinds:
            np.testing.assert_array_equal(clip(0).update(g, state, g)[0]["a"], 0.0)


def test_states_written_by_hand():
    p = {"a": jnp.ones(2)}
    opt = jo.adam(0.1)
    made = opt.update(p, opt.init(p), p)
    by_hand = opt.update(p, (jo.ScaleByAdamState(0, jo.tree.zeros_like(p), jo.tree.zeros_like(p)), None), p)
    for a, b in zip(*map(jax.tree.leaves, (made, by_hand)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    rate = jo.scale_by_schedule(lambda t: 0.1)
    assert rate.update(p, jo.ScaleByScheduleState(3))[1].count.dtype == jnp.int32


def test_what_is_none_stays_none():
    x = jnp.ones(2)
    assert jo.apply_updates(None, x) is None and jo.incremental_update(None, x, 0.1) is None
    mixed = jo.incremental_update({"a": None, "b": 3 * x}, {"a": x, "b": x}, 0.5)
    assert mixed["a"] is None
    np.testing.assert_array_equal(mixed["b"], 2.0)
    assert jo.tree.dtype({}) == jnp.float32
    np.testing.assert_array_equal(jo.nnls(jnp.eye(2), x, 0), 0.0)


def test_a_tree_without_leaves_is_nowhere_to_start():
    for driver in (jo.minimize, jo.least_squares, jo.root):
        with pytest.raises(jo.errors.TreeError, match="params must have a leaf"):
            driver(lambda p: 0.0, {})


def test_backtracking_from_the_longest_step_each_time():
    def value(x):
        return jnp.sum(x**2)

    search = jo.scale_by_backtracking_linesearch(5, increase_factor=float("inf"), max_learning_rate=2.0)
    x = jnp.asarray([1.0])
    state = search.init(x)._replace(learning_rate=1e-3)  # a number, as one writes it
    _, state = search.update(-2 * x, state, x, value=value(x), grad=2 * x, value_fn=value)
    assert state.learning_rate < 1 and state.info.num_linesearch_steps > 1


# ---- hyperparameters in the state -----------------------------------------------------------------------


def test_low_precision_keeps_decays_below_one():
    p = jnp.ones(3)
    opt = jo.inject_hyperparams(jo.adam, hyperparam_dtype=jnp.bfloat16)(1e-3)
    state = opt.init(p)
    kinds = {name: value.dtype.name for name, value in state.hyperparams.items()}
    assert kinds == dict.fromkeys(("learning_rate", "b1", "eps", "eps_root"), "bfloat16") | {"b2": "float32"}
    step, state = opt.update(p, state, p)
    np.testing.assert_allclose(step, -1e-3, rtol=1e-2)
    assert {name: value.dtype.name for name, value in state.hyperparams.items()} == kinds
    later = jo.inject_hyperparams(jo.adam, hyperparam_dtype=jnp.bfloat16)(1e-3, b2=lambda t: 0.999)
    assert later.init(p).hyperparams["b2"].dtype == jnp.float32  # its values are not known
    half = jo.inject_hyperparams(jo.adam, hyperparam_dtype=jnp.float16)(1e-3)
    assert half.init(p).hyperparams["eps"].dtype == jnp.float32  # 0 in float16


def test_a_key_is_no_hyperparameter():
    def noisy(key, scale):
        return jo.stateless(lambda g, p: jax.tree.map(lambda x: scale * jax.random.normal(key, x.shape), g))

    opt = jo.inject_hyperparams(noisy)(key=jax.random.key(17), scale=1e-3)
    state = opt.init(jnp.ones(2))
    assert set(state.hyperparams) == {"scale"}
    assert np.all(opt.update(jnp.ones(2), state)[0] != 0)


def test_a_foreign_state_may_hold_python_numbers():
    foreign = jo.GradientTransformation(lambda p: {"foo": 1}, lambda g, s, p=None: (g, s))
    opt = jo.apply_if_finite(jo.chain(jo.sgd(1.0), foreign), 2)
    g = jnp.ones(2)
    np.testing.assert_array_equal(opt.update(g, opt.init(g), g)[0], -1.0)


def test_integer_gradients_of_examples_are_not_cut():
    grads = [jnp.asarray([[0], [5], [-3]])]
    total, clipped = jo.per_example_global_norm_clip(grads, 1.0)
    np.testing.assert_array_equal(total[0], [0.0])
    assert total[0].dtype == jnp.float32 and clipped == 2
    np.testing.assert_allclose(jo.per_example_global_norm_clip(grads, 4.0)[0][0], [1.0])
