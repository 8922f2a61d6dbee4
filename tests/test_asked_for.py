"""What methods that people ask for do that those before them do not, one sentence of their pages at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import model_trees

import jaxopt_ko as jo

TREES = model_trees.trees()


def walk(opt, gradients, params):
    """The updates, one after the other; params stay."""
    state, out = opt.init(params), []
    for g in gradients:
        u, state = opt.update(g, state, params)
        out.append(u)
    return out, state


# ---- adam_mini ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TREES)
def test_blocks_of_models_are_few_and_divide_their_leaves(name):
    params, options = TREES[name]
    params = jax.tree.map(lambda p: p if jnp.issubdtype(p.dtype, jnp.floating) else None, params)
    stack_axes = options.get("stack_axes", 0)
    blocks = jo.adam_mini_blocks(params, heads=2, roles=options.get("roles"), stack_axes=stack_axes)
    made = jax.eval_shape(lambda p: jo.scale_by_adam_mini(blocks=blocks).init(p), params)
    roles = jo.roles_of(params, options.get("roles"), stack_axes=stack_axes)
    counts = jax.tree.structure(params).flatten_up_to(blocks)
    for leaf, own, nu in zip(roles, counts, jax.tree.leaves(made.nu), strict=True):
        assert nu.shape == own and all(n % k == 0 for n, k in zip(leaf.shape, own, strict=True)), leaf
        layers = int(np.prod(leaf.shape[: leaf.stacks]))
        if leaf.role == "norm":
            assert np.prod(own) == layers, leaf
        elif leaf.role == "bias":
            assert own == leaf.shape, leaf
        elif leaf.role is not None and np.prod(leaf.shape) > layers * max(leaf.shape):
            assert np.prod(own) < np.prod(leaf.shape), leaf
    size = sum(np.prod(leaf.shape) for leaf in roles)
    assert sum(np.prod(own) for own in counts) < 0.3 * size  # these models are narrow: at 4096 it is a thousandth


def test_heads_of_queries_and_of_fewer_keys():
    shapes = {"q_proj": {"kernel": (4, 6)}, "k_proj": {"kernel": (4, 4)}, "v_proj": {"weight": (6, 4)}}
    params = {"attn": jax.tree.map(jnp.ones, shapes, is_leaf=lambda x: isinstance(x, tuple))}
    found = jo.adam_mini_blocks(params, heads=3, kv_heads=2)["attn"]
    assert found == {"q_proj": {"kernel": (1, 3)}, "k_proj": {"kernel": (1, 2)}, "v_proj": {"weight": (6, 1)}}
    assert jo.adam_mini_blocks(params)["attn"]["q_proj"]["kernel"] == (1, 6)


def test_a_head_is_one_block():
    """As separate leaves for the heads, each with one number."""
    g = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32)
    together, state = walk(jo.scale_by_adam_mini(blocks=(1, 3)), [g, 2 * g], g)
    heads = list(jnp.split(g, 3, axis=1))
    apart, _ = walk(jo.scale_by_adam_mini(blocks=(1, 1)), [heads, [2 * x for x in heads]], heads)
    assert state.nu.shape == (1, 3)
    np.testing.assert_allclose(together[1], np.concatenate(apart[1], axis=1), rtol=1e-6)


def test_blocks_that_do_not_divide_a_leaf_are_refused():
    for blocks in ((2, 3), (4,), (1, 7)):
        with pytest.raises(jo.errors.TreeError, match=r"blocks of .* must be a divisor"):
            jo.scale_by_adam_mini(blocks={"w": blocks}).init({"w": jnp.ones((3, 3))})


# ---- laprop, stable_adamw, grams, came ------------------------------------------------------------------


def test_laprop_stays_bounded_where_adam_does_not():
    """A gradient of 1 among others of 1e-3, b1 above sqrt(b2): Adam's step runs away after it."""
    gradients = [jnp.float32(1e-3)] * 30 + [jnp.float32(1.0)] + [jnp.float32(1e-3)] * 20
    lengths = {
        name: max(abs(float(u)) for u in walk(rule(0.99, 0.5, 0.0), gradients, jnp.float32(0.0))[0])
        for name, rule in (("adam", jo.scale_by_adam), ("laprop", jo.scale_by_laprop))
    }
    assert lengths["laprop"] <= 1.5 < 5 < lengths["adam"]


def test_stable_adamw_shortens_the_step_of_a_spike():
    small, large = jnp.full(4, 1e-3), jnp.full(4, 1.0)
    free, clipped = (
        walk(jo.scale_by_stable_adam(0.5, 0.99, clipping_threshold=threshold), [small] * 20 + [large], small)[0]
        for threshold in (float("inf"), 1.0)
    )
    np.testing.assert_allclose(free[19], clipped[19], rtol=1e-6)  # before it nothing is clipped
    root = 1 / np.sqrt((0.01 + 0.99 * (1 - 0.99**20) * 1e-6) / (1 - 0.99**21))
    np.testing.assert_allclose(free[20] / clipped[20], root, rtol=1e-4)


def test_decay_of_stable_adamw_by_mask_is_that_of_each_leaf():
    params = {"w": jnp.full((2, 2), 2.0), "b": jnp.full(2, 2.0)}
    g = jax.tree.map(lambda p: 0.1 * p, params)
    (u,), _ = walk(jo.stable_adamw(0.1, weight_decay=0.5, mask={"w": True, "b": False}), [g], params)
    np.testing.assert_allclose(u["w"], -0.2, rtol=1e-4)
    np.testing.assert_allclose(u["b"], -0.1, rtol=1e-4)


def test_grams_never_goes_against_the_gradient():
    gradients = [jnp.asarray(x, jnp.float32) for x in np.random.default_rng(1).normal(size=(20, 30))]
    ours, adam = (walk(rule(eps=1e-6), gradients, gradients[0])[0] for rule in (jo.scale_by_grams, jo.scale_by_adam))
    turned = 0
    for g, u, v in zip(gradients, ours, adam, strict=True):
        assert bool(jnp.all(jnp.sign(u) == jnp.sign(g)))
        np.testing.assert_allclose(jnp.abs(u), jnp.abs(v), rtol=1e-6)
        turned += int(jnp.sum(jnp.sign(u) != jnp.sign(v)))
    assert turned > 50


def test_came_trusts_a_steady_gradient_more():
    """In two rows of gradients of one size, one of which changes its sign at every step."""
    signs = [jnp.array([[1.0], [(-1.0) ** k]]) * jnp.ones((2, 3)) for k in range(40)]
    u, state = walk(jo.scale_by_came(b3=0.9), signs, signs[0])
    steady, changing = np.abs(np.asarray(u[-1])).mean(1)
    assert steady > 10 * changing
    assert state.v_row.shape == (2,) and state.v_col.shape == (3,) and state.nu.shape == (1,)


# ---- qhm, qhadam, aggmo, ftrl, adabound, adamp, sgdp ----------------------------------------------------


def assert_steps_equal(one, other, seed=2):
    """Over a few random gradients of a matrix."""
    gradients = [jnp.asarray(x, jnp.float32) for x in np.random.default_rng(seed).normal(size=(6, 3, 4))]
    params = 0.5 * gradients[0] + 1
    for u, v in zip(walk(one, gradients, params)[0], walk(other, gradients, params)[0], strict=True):
        np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-7)


def test_what_quasi_hyperbolic_methods_and_several_velocities_are_at_their_ends():
    assert_steps_equal(jo.qhm(0.1, 0.9, 0.0), jo.sgd(0.1))
    assert_steps_equal(jo.qhm(0.1, 0.9, 1.0), jo.chain(jo.ema(0.9, debias=False), jo.sgd(0.1)))
    assert_steps_equal(jo.qhadam(0.1, 0.9, nu1=1.0), jo.adam(0.1))
    nesterov = jo.chain(jo.trace(0.9, nesterov=True), jo.scale(0.1), jo.sgd(0.1))  # (1 - b) (g + b v)
    assert_steps_equal(jo.qhm(0.1, 0.9, 0.9), nesterov)
    assert_steps_equal(jo.aggmo(0.1, (0.9,)), jo.sgd(0.1, 0.9))


def test_ftrl_keeps_what_does_not_matter_at_zero_and_forgets_its_start():
    """Logistic regression with two features that matter among twenty."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(400, 20)), jnp.float32)
    y = jnp.asarray(x[:, 0] - x[:, 1] + 0.1 * rng.normal(size=400) > 0, jnp.float32)
    opt = jo.ftrl(0.5, l1=20.0)

    def step(carry, row):
        w, state = carry
        x, y = row
        g = (jax.nn.sigmoid(x @ w) - y) * x
        u, state = opt.update(g, state, w)
        return (w + u, state), None

    ends = []
    for start in (jnp.zeros(20), jnp.full(20, 1e-3)):
        (w, _), _ = jax.lax.scan(step, (start, opt.init(start)), (x, y))
        ends.append(np.asarray(w))
    assert ends[0][0] > 0.1 and ends[0][1] < -0.1 and np.count_nonzero(ends[0][2:]) <= 3
    first, _ = opt.update(jnp.zeros(20), opt.init(start), start)
    np.testing.assert_array_equal(start + first, 0.0)


def test_adabound_begins_as_adam_and_ends_as_sgd():
    loose = jo.adabound(0.1, 1.0, gamma=1e-7)  # bounds from nearly 0 to 10,000,000
    assert_steps_equal(loose, jo.chain(jo.scale_by_adam(), jo.scale_by_learning_rate(0.1)))
    tight = jo.adabound(0.1, 0.01, gamma=1e7)
    assert_steps_equal(tight, jo.chain(jo.ema(0.9, debias=False), jo.sgd(0.01)))


def test_steps_along_normalized_weights_are_left_out():
    """Of a loss of w / |w| by column; that of the third column is not normalized, so that no leaf is."""
    target = jnp.asarray(np.random.default_rng(3).normal(size=(4, 3)), jnp.float32)

    def loss(w, free):
        unit = w / jnp.linalg.norm(w, axis=0, keepdims=True)
        return jnp.sum((jnp.where(free, w, unit) - target) ** 2)

    w = jnp.ones((4, 3)) + 0.1 * target
    for free, along in ((jnp.zeros(3, bool), False), (jnp.array([False, False, True]), True)):
        for rule in (jo.scale_by_adamp(0.5), jo.scale_by_sgdp(0.5)):
            gradients = [jax.grad(loss)(w + 0.1 * k * target, free) for k in range(3)] + [jax.grad(loss)(w, free)]
            u = walk(rule, gradients, w)[0][-1]
            cosines = np.asarray(jnp.sum(u * w, 0) / jnp.linalg.norm(u, axis=0) / jnp.linalg.norm(w, axis=0))
            assert (np.abs(cosines).max() > 1e-2) == along, cosines


# ---- spam, stable_spam, fira, D-Adaptation, lazy rows ---------------------------------------------------


def test_spam_clips_a_spike_and_forgets_it():
    rng = np.random.default_rng(0)
    gradients = [jnp.asarray(x, jnp.float32) for x in rng.normal(size=(60, 8))]
    spiked = [g.at[0].set(1e3) if k == 30 else g for k, g in enumerate(gradients)]
    far = {}
    for name, rule in (
        ("adam", jo.scale_by_adam()),
        ("spam", jo.scale_by_spam(threshold=50.0, reset_every=40, warmup_steps=5)),
    ):
        states = [walk(rule, each, gradients[0])[1] for each in (gradients, spiked)]
        far[name] = float(jnp.abs(states[1].nu - states[0].nu).max())
    assert far["adam"] > 100 and far["spam"] == 0  # after the reset at step 40
    before = walk(jo.scale_by_spam(threshold=50.0, reset_every=40), spiked[:31], gradients[0])[1]
    assert float(before.nu[0]) < 10 * float(before.nu[1])


def test_a_reset_of_spam_is_followed_by_small_steps():
    u, _ = walk(jo.scale_by_spam(reset_every=20, warmup_steps=8), [jnp.ones(3)] * 40, jnp.ones(3))
    lengths = [float(jnp.abs(x).max()) for x in u]
    assert lengths[19] < 0.1 * lengths[18] and all(np.diff(lengths[19:27]) > 0)


def test_stable_spam_gives_gradients_of_any_size_one_size():
    """Growing tenfold every ten steps; the means of norms follow within a few steps."""
    rng = np.random.default_rng(1)
    grown = [jnp.asarray(10.0 ** (k // 10) * x, jnp.float32) for k, x in enumerate(rng.normal(size=(60, 50)))]
    state = walk(jo.scale_by_stable_spam(theta=0.9), grown, grown[0])[1]
    plain = walk(jo.scale_by_adam(), grown, grown[0])[1]
    assert float(jnp.sqrt(plain.nu).max()) > 1e3 > 1 > float(jnp.sqrt(state.nu).max())
    _, state = walk(jo.scale_by_stable_spam(), [grown[0], jnp.zeros(50)], grown[0])
    _, once = walk(jo.scale_by_stable_spam(), [grown[0]], grown[0])
    for key in ("mu", "nu", "norm", "norm_square"):
        np.testing.assert_array_equal(getattr(state, key), getattr(once, key))


def test_fira_of_full_rank_is_adam_and_of_a_low_one_goes_in_all_directions():
    g = jnp.asarray(np.random.default_rng(2).normal(size=(4, 6)), jnp.float32)
    full, _ = walk(jo.scale_by_fira(rank=4, eps=0.0), [g], g)
    np.testing.assert_allclose(full[0], walk(jo.scale_by_galore(4, keeps="long"), [g], g)[0][0], rtol=1e-3, atol=1e-4)
    low, state = walk(jo.scale_by_fira(rank=1), [g], g)
    assert np.linalg.matrix_rank(np.asarray(low[0])) == 4 and state.mu.shape == (1, 6)
    assert np.linalg.matrix_rank(np.asarray(walk(jo.scale_by_galore(1), [g], g)[0][0])) == 1


@pytest.mark.parametrize("name", ["dadapt_sgd", "dadapt_lion"])
def test_d_adaptation_finds_the_distance(name):
    """To the solution, ten away, from a guess of 1e-4; a schedule falls as the estimate says nothing of the end."""
    target = jnp.full(4, 5.0)
    opt = getattr(jo, name)(jo.linear_schedule(1.0, 0.0, 500), estim_lr0=1e-4)

    def step(carry, _):
        x, state = carry
        u, state = opt.update(x - target, state, x)
        return (x + u, state), None

    (x, state), _ = jax.lax.scan(step, (jnp.zeros(4), opt.init(jnp.zeros(4))), None, 500)
    assert 0.1 < float(jo.tree.get(state, "estim_lr")) <= 10.5
    assert float(jnp.linalg.norm(x - target)) < 0.3


@pytest.mark.parametrize("name", ["dadapt_adamw", "prodigy", "dadapt_lion"])
def test_masks_of_methods_that_find_their_rate(name):
    params = {"w": jnp.ones(3), "b": jnp.ones(3)}
    g = {"w": jnp.full(3, 0.5), "b": jnp.full(3, 0.5)}
    make = getattr(jo, name)
    masked, none, all_of = (
        walk(opt, [g, g], params)[0][1]
        for opt in (
            make(weight_decay=10.0, estim_lr0=0.01, mask={"w": True, "b": False}),
            make(estim_lr0=0.01),
            make(weight_decay=10.0, estim_lr0=0.01),
        )
    )
    np.testing.assert_array_equal(masked["w"], all_of["w"])
    np.testing.assert_array_equal(masked["b"], none["b"])
    assert float(jnp.abs(masked["w"] - none["w"]).min()) > 0.01
    with pytest.raises(jo.errors.TreeError, match="mask"):
        make(weight_decay=0.1, mask={"w": "yes", "b": False}).update(g, make().init(params), params)


@pytest.mark.parametrize("inner", [jo.adamw(0.1, weight_decay=0.1), jo.sgd(0.1, 0.9), jo.adafactor(0.1)])
def test_rows_that_were_not_looked_up_stay(inner):
    opt, table = jo.lazy_rows(inner), jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    g = jnp.zeros((5, 3)).at[jnp.array([1, 3])].set(2.0)
    _, before = walk(opt, [jnp.ones((5, 3))], table)
    u, after = opt.update(g, before, table)
    assert np.asarray(jnp.any(u != 0, 1)).tolist() == [False, True, False, True, False]
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if old.shape == (5, 3):
            assert np.asarray(jnp.any(old != new, 1)).tolist() == [False, True, False, True, False]
    dense, _ = inner.update(g, before, table)
    np.testing.assert_array_equal(u[1::2], dense[1::2])


def test_rows_of_some_leaves():
    params = {"table": jnp.ones((3, 2)), "w": jnp.ones((3, 2)), "none": None}
    g = {"table": jnp.zeros((3, 2)), "w": jnp.zeros((3, 2)), "none": None}
    opt = jo.lazy_rows(jo.adamw(0.1, weight_decay=0.5), {"table": 1, "w": 0, "none": None})
    u, _ = jax.jit(opt.update)(g, opt.init(params), params)
    assert not u["table"].any() and u["w"].all() and u["none"] is None
    alone = jo.masked(jo.lazy_rows(jo.adam(0.1)), {"table": True, "w": False, "none": False})
    jax.jit(alone.update)(g, alone.init(params), params)
    with pytest.raises(jo.errors.HyperparameterError, match="rows must be"):
        jo.lazy_rows(jo.adam(0.1), {"w": -1})
    with pytest.raises(jo.errors.TreeError, match="leading axes"):
        jo.lazy_rows(jo.adam(0.1), {"w": 2}).init({"w": jnp.ones(3)})


# ---- schedule_free_plus, conda, tam, magma --------------------------------------------------------------


def test_schedule_free_plus_needs_no_rate_and_is_evaluated_at_the_average():
    """A quadratic of any scale: the same steps, as the loss over the gradient has the scale of the parameters."""
    ends = []
    for scale in (1e-3, 1e3):
        opt = jo.schedule_free_plus(momentum=0.9)

        def step(carry, _, opt=opt, scale=scale):
            y, state = carry
            f, g = jax.value_and_grad(lambda y: scale * jnp.sum(jnp.arange(1.0, 5.0) * (y - 1.0) ** 2))(y)
            u, state = opt.update(g, state, y, value=f)
            return (y + u, state), None

        start = jnp.zeros(4)
        (y, state), _ = jax.lax.scan(step, (start, opt.init(start)), None, 300)
        ends.append(jo.eval_params(state, y))
        np.testing.assert_allclose(ends[-1], 1.0, atol=0.1)
        np.testing.assert_array_equal(jo.eval_params(opt.init(start), start), start)
    np.testing.assert_allclose(*ends, rtol=1e-2)
    u, state = opt.update(jnp.zeros(4), opt.init(start), start, value=3.0)
    assert not u.any() and np.isfinite(jo.eval_params(state, start + u)).all()
    with pytest.raises(jo.errors.MissingArgumentError, match="value"):
        opt.update(start, opt.init(start), start)


def test_schedule_free_plus_anneals_averages_and_masks():
    def ends(g=(1.0, -2.0), **options):
        p = {"w": jnp.ones(2), "b": jnp.ones(2)}
        opt, seen = jo.schedule_free_plus(**options), []
        state = opt.init(p)
        for k in range(4):
            u, state = opt.update(jax.tree.map(lambda x, k=k: (k + 1) * jnp.array(g), p), state, p, value=1.0)
            p = jo.apply_updates(p, u)
            seen.append((p, state))
        return seen

    momenta = [float(s.momentum) for _, s in ends(momentum=0.5, final_momentum=0.875, anneal_steps=2)]
    np.testing.assert_allclose(momenta, [0.5, 0.75, 0.875, 0.875], rtol=1e-6)  # 1 - b = 1/2, 1/4, 1/8
    for p, state in ends(average_from=3)[:3]:
        np.testing.assert_allclose(jo.eval_params(state, p)["w"], state.z["w"], rtol=1e-6)
    l1 = [float(s.gradient_l1) for _, s in ends(l1_decay=0.5)]
    np.testing.assert_allclose(l1[:2], np.sqrt(np.pi / 2) * np.array([3.0, 1.5 + 6.0]), rtol=1e-6)
    (masked, _), (none, _) = (
        ends(weight_decay=0.5, mask=mask)[0] for mask in ({"w": True, "b": False}, {"w": False, "b": False})
    )
    assert float(jnp.abs(masked["w"] - none["w"]).min()) > 1e-3
    np.testing.assert_array_equal(masked["b"], none["b"])


def test_conda_is_adam_in_another_basis():
    """In that of the singular vectors of M, where M has orthogonal rows whose lengths Adam makes alike."""
    rng = np.random.default_rng(0)
    g = jnp.asarray(np.diag([100.0, 1.0, 0.01]) @ np.linalg.qr(rng.normal(size=(5, 3)))[0].T, jnp.float32)
    (u,), state = walk(jo.scale_by_conda(eps=0.0), [g], g)
    np.testing.assert_allclose(u, walk(jo.scale_by_adam(eps=0.0), [g], g)[0][0], rtol=1e-4)
    turn = jnp.asarray(np.linalg.qr(rng.normal(size=(3, 3)))[0], jnp.float32)
    (turned,), _ = walk(jo.scale_by_conda(eps=0.0), [turn @ g], g)
    np.testing.assert_allclose(turned, turn @ u, rtol=1e-2, atol=1e-3)  # Adam's would be signs again
    (tall,), tall_state = walk(jo.scale_by_conda(eps=0.0), [g.T], g.T)
    np.testing.assert_allclose(tall, u.T, rtol=1e-4, atol=1e-5)
    assert state.basis.shape == tall_state.basis.shape == (3, 3)


def test_torque_damps_what_pulls_aside():
    along, across = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    steady = walk(jo.scale_by_tam(decay=0.5), [along] * 12, along)[1]
    against = walk(jo.scale_by_tam(decay=0.5), [along] * 12 + [-along], along)[1]
    aside = walk(jo.scale_by_tam(decay=0.0), [along, across], along)[1]
    assert float(steady.alignment) > 0.99 and float(against.alignment) < 0.01
    np.testing.assert_allclose(aside.trace, [0.9 * 0.5, 0.5], rtol=1e-6)


def test_coins_of_magma():
    params = {f"layer_{i}": jnp.ones((2, 2)) for i in range(40)}
    g = jax.tree.map(lambda p: 0.5 * p, params)
    opt = jo.magma(jo.sgd(1.0), key=7)
    steps, state = walk(opt, [g] * 30, params)
    made = np.array([[bool(u[name].any()) for name in params] for u in steps])
    assert abs(made.mean() - 0.5) < 4 * 0.5 / np.sqrt(made.size)  # four standard errors
    assert 0 < made[0].sum() < 40 and 0 < made[:, 0].sum() < 30  # a coin for each leaf and each step
    again, _ = walk(opt, [g], params)
    jax.tree.map(np.testing.assert_array_equal, again[0], steps[0])
    s = float(state.alignment["layer_0"])
    aim = 1 / (1 + np.exp(-0.5))  # the mean of gradients that are alike has their direction
    np.testing.assert_allclose(s, aim + 0.9**30 * (1 - aim), rtol=1e-4)
    sizes = {round(float(jnp.abs(u).max()), 5) for u in jax.tree.leaves(steps[-1])}
    assert sizes == {0.0, round(0.5 * s, 5)}
    whole, _ = walk(jo.magma(jo.sgd(1.0), keep=1.0, decay=1.0), [g], params)
    jax.tree.map(np.testing.assert_array_equal, whole[0], walk(jo.sgd(1.0), [g], params)[0][0])
    stack = jnp.ones((40, 2, 2))
    (u,), own = walk(jo.magma(jo.sgd(1.0), stack_axes=1), [stack], stack)
    assert own.alignment.shape == (40,) and 5 < int(jnp.any(u != 0, (1, 2)).sum()) < 35


# ---- weight decay ---------------------------------------------------------------------------------------

RECIPES = ("sgd", "adabelief", "radam", "adopt", "amsgrad", "lion", "muon", "adam_mini", "fira")


@pytest.mark.parametrize("name", RECIPES)
def test_independent_decay_behind_any_recipe(name):
    """Whatever the rate is; and only where the mask is True."""
    params = {"w": jnp.ones((3, 4)), "b": jnp.full(4, 2.0)}
    g = jax.tree.map(lambda p: 0.1 * p, params)
    decay = jo.independent_weight_decay(0.01, {"w": True, "b": False}, schedule=lambda t: 0.5**t)
    for rate in (0.1, 0.0):
        opt = getattr(jo, name)(rate)
        plain, decayed = (walk(tx, [g, g], params)[0] for tx in (opt, jo.chain(opt, decay)))
        for k in (0, 1):
            np.testing.assert_allclose(decayed[k]["w"] - plain[k]["w"], -0.01 * 0.5**k, rtol=1e-4)
            np.testing.assert_array_equal(decayed[k]["b"], plain[k]["b"])


@pytest.mark.parametrize("name", RECIPES[:5])
def test_decay_and_mask_of_recipes_that_had_none(name):
    """Times the rate; and no place for it in the state where there is none, as checkpoints outlive releases."""
    params, make = {"w": jnp.ones((3, 4)), "b": jnp.full(4, 2.0)}, getattr(jo, name)
    g = jax.tree.map(lambda p: 0.1 * p, params)
    mask = {"w": True, "b": False}
    (plain,), state = walk(make(0.1), [g], params)
    (decayed,), _ = walk(make(0.1, weight_decay=0.5, mask=mask), [g], params)
    np.testing.assert_allclose(decayed["w"] - plain["w"], -0.05, rtol=1e-5)
    np.testing.assert_array_equal(decayed["b"], plain["b"])
    assert len(state) == 2
    with pytest.raises(jo.errors.MissingArgumentError, match="params"):
        make(0.1, weight_decay=0.5).update(g, make(0.1, weight_decay=0.5).init(params))


def test_sgdw_keeps_its_decay_out_of_the_velocity():
    p, g = jnp.full(3, 2.0), jnp.zeros(3)
    u, state = walk(jo.sgd(0.1, 0.9, weight_decay=0.5), [g, g], p)
    np.testing.assert_allclose(u, -0.1, rtol=1e-6)
    assert not state[0].trace.any()
    with pytest.raises(jo.errors.HyperparameterError, match="lr_in_velocity"):
        jo.sgd(0.1, 0.9, lr_in_velocity=True, weight_decay=0.5)


def test_what_is_left_out_stays_where_the_method_inside_gives_no_number():
    """A step that a coin or a row without gradient leaves out is 0, and not 0 times infinity."""
    lost = jo.stateless(lambda g, p: jax.tree.map(lambda x: jnp.full_like(x, jnp.inf), g))
    x, g = jnp.ones((2, 2)), jnp.array([[1.0, 1.0], [0.0, 0.0]])
    assert not walk(jo.magma(lost, keep=0.0), [g], x)[0][0].any()
    assert jnp.isinf(walk(jo.magma(lost, keep=1.0), [g], x)[0][0]).all()
    u = walk(jo.lazy_rows(lost), [g], x)[0][0]
    assert jnp.isinf(u[0]).all() and not u[1].any()


@pytest.mark.parametrize("name", ["conda", "fira"])
def test_derivatives_where_singular_values_are_equal(name):
    """Where singular vectors have no derivative, at 0 and at equal singular values."""
    opt, p = getattr(jo, name)(0.1), jnp.ones((3, 2))
    state = opt.init(p)
    slope = jax.jit(jax.grad(lambda g: jnp.sum(opt.update(g, state, p)[0] ** 3)))
    for g in (jnp.zeros((3, 2)), jnp.eye(3, 2)):
        assert jnp.all(jnp.isfinite(slope(g)))
