"""Skipped spikes and adaptive clips: the authors' steps; what is counted, kept bit for bit, and survived."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from references import record_run_safety as record

import jaxopt_ko as jo
from cases import assert_same_bits
from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, StateError, TransformationError, TreeError

NAN, INF = float("nan"), float("inf")
ONE = jnp.ones(2)
LIKE = {
    "zclip": (lambda: jo.zclip(), 3e3),
    "zclip_short": (lambda: jo.zclip(0.9, 2.0, 10), 3e3),
    "zclip_bounded": (lambda: jo.chain(jo.zclip(), jo.clip_by_global_norm(9e3)), 3e3),
    "adagc": (lambda: jo.chain(jo.adagc(decay=0.9, warmup=15), jo.adam(record.RATE)), record.ADAGC["adagc"]),
    "adagc_rooted": (
        lambda: jo.chain(jo.adagc(decay=0.9, warmup=15), jo.adam(record.RATE)), record.ADAGC["adagc_rooted"],
    ),
    "olmo": (lambda: jo.skip_spikes(jo.identity(), record.WINDOW), 3e3),
}  # fmt: skip


@pytest.mark.parametrize("name", LIKE)
def test_sixty_steps_are_those_of_the_authors_code(name):
    make, size = LIKE[name]
    with jax.enable_x64(True):
        tx = make()
        spikes = np.array([record.SPIKES.get(k, 1.0) for k in range(record.STEPS)])
        if name == "adagc":  # whose warm-up clips nothing, see the recorder
            spikes[:15] = 1.0
        scale = size * (1 + 0.2 * record.NOISE[:, 0]) * spikes
        rows = (jnp.arange(record.STEPS, dtype=float), jnp.asarray(scale), jnp.asarray(record.NOISE),
                jnp.asarray(record.LOSSES))  # fmt: skip

        def leaves(x):
            return [x[:6].reshape(3, 2), x[6:]]

        def step(carry, row):
            x, state = carry
            k, size, noise, loss = row
            g = leaves(size * (jnp.sin(3 * x + k) + 0.3 * noise))
            u, state = tx.update(g, state, leaves(x), value=loss)
            u = jnp.concatenate([part.ravel() for part in u])
            x = x + (u if name.startswith("adagc") else -1e-6 * u)
            return (x, state), x

        start = jnp.linspace(-1, 1, 10)
        (_, state), path = quick.jit(lambda rows: jax.lax.scan(step, (start, tx.init(leaves(start))), rows))(rows)
        np.testing.assert_allclose(path, record.recorded(name), rtol=0, atol=1e-9)
        found = jo.diagnose.skips(state)
        assert int(found.high_loss + found.high_norm) == 7 if name == "olmo" else int(found.clipped) >= 3


@pytest.mark.references
def test_the_authors_code_still_does_so(tmp_path):
    for module in ("torch", "zclip", "pytorch_optimizer"):
        pytest.importorskip(module)
    record.record(tmp_path / "new.npz")
    for name in LIKE:
        np.testing.assert_allclose(record.recorded(name, tmp_path / "new.npz"), record.recorded(name), atol=1e-12)


def step_of(opt):
    return quick.jit(lambda g, s, p, v: opt.update(g, s, p, value=v))


GUARDED = jo.skip_spikes(jo.adam(0.1), 4, max_consecutive=2)
STEP = step_of(GUARDED)


def warmed(step=STEP, opt=GUARDED, steps=6):
    state = opt.init(ONE)
    for k in range(steps):
        _, state = step(ONE * (1 + 0.01 * (k % 2)), state, ONE, jnp.float32(2 + 0.01 * (k % 3)))
    return state


@pytest.mark.parametrize(
    ("g", "loss", "reason"),
    [(ONE, 3.0, 2), (ONE * 1.2, 2.0, 3), (ONE * NAN, 2.0, 1), (ONE.at[0].set(INF), 2.0, 1), (ONE, NAN, 1),
     (ONE * 1.2, 9.0, 2), (ONE, -5.0, 0), (ONE * 0, 2.0, 0)],
)  # fmt: skip
def test_a_step_is_left_out_for_a_reason_and_what_is_within_stays_bit_for_bit(g, loss, reason):
    before = warmed()
    u, after = STEP(g, before, ONE, jnp.float32(loss))
    assert int(after.last_reason) == reason
    counts = [int(x) for x in (after.not_finite, after.high_loss, after.high_norm)]
    assert counts == [int(reason == kind) for kind in (1, 2, 3)]
    if reason:
        assert u.tolist() == [0.0, 0.0] and int(after.in_a_row) == 1
        assert_same_bits(after.inner_state, before.inner_state)
        assert_same_bits(after[:4], before[:4])  # a spike moves no statistics
    else:
        assert int(after.accepted) == int(before.accepted) + 1 and int(after.in_a_row) == 0


def test_a_new_level_is_taken_in_the_end_and_what_is_not_finite_never():
    state, taken = warmed(), []
    for loss in (8.0, 8.1, 8.0, 8.1, 8.0):
        u, state = STEP(ONE, state, ONE, jnp.float32(loss))
        taken.append(bool(u[0] != 0))
    assert taken == [False, False, True, True, True] and int(state.restarts) == 1
    before = int(state.accepted)
    for _ in range(5):
        u, state = STEP(ONE * NAN, state, ONE, jnp.float32(8.0))
        assert u.tolist() == [0.0, 0.0]
    assert int(state.not_finite) == 5 and int(state.accepted) == before and int(state.restarts) == 1


def test_equal_losses_and_norms_do_not_make_rounding_a_spike():
    state = warmed(steps=0)
    for k in range(12):
        u, state = STEP(ONE * (1 + 1e-7 * (k % 2)), state, ONE, jnp.float32(0.7) * (1 + 1e-7 * (k % 3)))
        assert u[0] != 0
    assert int(state.accepted) == 12


def test_without_a_value_the_norm_is_judged_alone():
    bare = quick.jit(lambda g, s: GUARDED.update(g, s, ONE))
    state = GUARDED.init(ONE)
    for k in range(5):
        _, state = bare(ONE * (1 + 0.01 * (k % 2)), state)
    assert (int(state.with_loss), int(state.accepted)) == (0, 5)
    _, state = bare(ONE * 3, state)
    assert int(state.high_norm) == 1


def test_switched_off_it_is_the_optimizer_itself():
    inner = jo.adam(0.1)
    off = jo.skip_spikes(inner, enabled=False)
    assert jax.tree.structure(off.init(ONE)) == jax.tree.structure(inner.init(ONE))
    programs = [str(jax.make_jaxpr(tx.update)(ONE, tx.init(ONE), ONE)) for tx in (inner, off)]
    assert programs[0] == programs[1]


def test_gradients_of_other_kinds_and_norms_beyond_their_dtype():
    tx = jo.skip_spikes(jo.sgd(1.0), 4, warmup=2)
    g = {"w": jnp.full(4, 3e38), "n": None}
    state = tx.init({"w": jnp.ones(4), "n": None})
    u, state = tx.update(g, state)  # |g| is beyond float32
    assert float(u["w"][0]) == 0 and int(state.not_finite) == 1
    u, state = tx.update({"w": jnp.full(4, 1e38), "n": None}, state)
    assert float(u["w"][0]) != 0 and u["n"] is None and float(state.norms[0]) == pytest.approx(2e38)


# ---- what stands around and within it --------------------------------------------------------------------


COMPOSED = {
    "MultiSteps outside": lambda tx: jo.MultiSteps(jo.skip_spikes(tx, 4), 2),
    "MultiSteps within": lambda tx: jo.skip_spikes(jo.MultiSteps(tx, 2), 4),
    "quantized": lambda tx: jo.quantized(jo.skip_spikes(tx, 4), "companded8", min_size=0),
    "of quantized": lambda tx: jo.skip_spikes(jo.quantized(tx, "companded8", min_size=0), 4),
    "master_weights": lambda tx: jo.master_weights(jo.skip_spikes(tx, 4)),
    "of master_weights": lambda tx: jo.skip_spikes(jo.master_weights(tx), 4),
    "masked": lambda tx: jo.masked(jo.skip_spikes(tx, 4), {"w": True, "b": False}),
    "loss_scaling": lambda tx: jo.loss_scaling(jo.skip_spikes(tx, 4), 1.0),
    "clips": lambda tx: jo.chain(jo.zclip(warmup=2), jo.adagc(warmup=2), jo.skip_spikes(tx, 4)),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_it_composes_within_a_scan_and_counts_what_is_seen_from_outside(name):
    """32 gradients, of which two are poisoned: parameters stay finite, and `skips` finds them."""
    half = "master" in name
    tx = COMPOSED[name](jo.adam(0.1))
    params = {"w": jnp.ones(8, jnp.bfloat16 if half else jnp.float32), "b": jnp.ones(2, jnp.float32)}
    factors = jnp.ones(32).at[jnp.array([12, 25])].set(jnp.array([NAN, INF]))

    def step(carry, factor):
        params, state = carry
        grads = jax.tree.map(lambda p: p * factor.astype(p.dtype), params)
        updates, state = tx.update(grads, state, params, value=factor)
        return (jo.apply_updates(params, updates), state), jo.diagnose.skips(state).not_finite

    run = quick.jit(lambda p, s: jax.lax.scan(step, (p, s), factors), donate_argnums=(0, 1))
    masked = name == "masked"
    if masked:  # what is masked passes as it is
        factors = jnp.ones(32)
    (end, _), seen = run(params, tx.init(params))
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(end))
    assert int(seen[-1]) == (0 if masked else 2)
    assert float(end["w"][0]) < 0.6


def test_a_poisoned_run_ends_where_the_clean_one_does():
    """Digits, a linear classifier, Adam; in 1 % of the steps labels are random and the loss is 1,000 times as large, or
    the gradient is not a number."""
    sklearn = pytest.importorskip("sklearn.datasets")
    x, y = sklearn.load_digits(return_X_y=True)
    x, y = jnp.asarray(x / 16, jnp.float32), jnp.asarray(y, jnp.int32)
    steps, key = 300, jax.random.key(0)
    rows = jax.random.randint(key, (steps, 64), 0, len(y))
    bad = jnp.zeros(steps).at[jnp.array([150, 221, 222])].set(jnp.array([1e3, -1.0, 1e3]))
    wrong = jax.random.randint(jax.random.key(1), (64,), 0, 10)

    def loss(p, x, y):
        return jnp.mean(jo.losses.softmax_cross_entropy_with_integer_labels(x @ p["w"] + p["b"][None], y))

    def run(tx, bad):
        def step(carry, row):
            p, state = carry
            i, factor = row
            poisoned = factor != 0
            value, g = jax.value_and_grad(loss)(p, x[i], jnp.where(poisoned, wrong, y[i]))
            much = jnp.where(factor < 0, NAN, jnp.where(poisoned, factor, 1.0))
            u, state = tx.update(jax.tree.map(lambda g: g * much, g), state, p, value=value * much)
            return (jo.apply_updates(p, u), state), None

        p = {"w": jnp.zeros((64, 10)), "b": jnp.zeros(10)}
        (p, state), _ = jax.lax.scan(step, (p, tx.init(p)), (rows, bad))
        return loss(p, x, y), state

    adam = jo.adam(0.02)
    guarded = jo.skip_spikes(adam, 64)
    clean, (kept, state), clipped, plain = quick.jit(lambda bad: (
        run(adam, bad * 0)[0],
        run(guarded, bad),
        run(jo.apply_if_finite(jo.chain(jo.zclip(), adam), 5), bad)[0],
        run(jo.apply_if_finite(adam, 5), bad)[0],
    ))(bad)  # fmt: skip
    assert float(kept) <= float(clean) + 0.01 and float(clipped) <= float(clean) + 0.01
    assert float(plain) > float(clean) + 0.01  # the poison is one
    assert [int(n) for n in (state.not_finite, state.high_loss, state.high_norm)] == [1, 2, 0]
    assert str(jo.diagnose.skips(state)).startswith("3 steps left out (1 not finite, 2 by the loss, 0 by the norm)")


# ---- clips ------------------------------------------------------------------------------------------------


def test_zclip_passes_what_is_not_finite_and_learns_nothing_from_it():
    tx = jo.zclip(warmup=2)
    state = tx.init(ONE)
    for g in (ONE, 1.1 * ONE):
        u, state = tx.update(g, state)
        assert_same_bits(u, g)
    before = state
    u, state = tx.update(ONE * NAN, state)
    assert bool(jnp.all(jnp.isnan(u))) and int(state.not_finite) == 1
    assert_same_bits(state[:4], before[:4])
    u, state = tx.update(ONE * 100, state)
    assert int(state.clipped) == 1 and float(jo.global_norm(u)) < 1.1 * 2**0.5 and float(state.z) > 100


def test_adagc_holds_each_leaf_to_its_own_level_and_no_leaf_dies_of_zeros():
    tx = jo.adagc(lambda_abs=INF, decay=0.9, warmup=2)
    grads = {"small": jnp.full(4, 1e-3), "large": jnp.full(4, 10.0), "late": jnp.zeros(4)}
    state = tx.init(grads)
    for _ in range(4):
        u, state = tx.update(grads, state)
    assert_same_bits(u, grads)
    assert float(state.gamma["late"]) == 0
    late = grads | {"late": jnp.full(4, 5.0), "small": jnp.full(4, 10.0), "large": jnp.full(4, NAN)}
    u, state = tx.update(late, state)
    assert float(u["late"][0]) == 5.0 and float(state.gamma["late"]) == 10.0  # its first gradient is its level
    assert float(u["small"][0]) == pytest.approx(1.05e-3, rel=1e-5)
    assert bool(jnp.isnan(u["large"][0])) and float(state.gamma["large"]) == 20.0
    assert {k: float(v) for k, v in state.clipped.items()} == {"small": 1, "large": 0, "late": 0}


def test_adagc_warms_up_by_the_joint_norm_and_gives_layers_of_a_stack_their_own_level():
    tx = jo.adagc(warmup=3, stack_axes=1)
    g = jnp.stack([jnp.full(4, 0.5), jnp.full(4, 1.0)])  # of lengths 1 and 2
    state = tx.init(g)
    u, state = tx.update(g, state)
    np.testing.assert_allclose(u, g / 5**0.5, rtol=1e-6)
    np.testing.assert_allclose(state.gamma, np.array([1, 2]) / 5**0.5, rtol=1e-6)
    _, state = tx.update(g, state)
    u, state = tx.update(g * jnp.array([[100.0], [0.1]]), state)
    np.testing.assert_allclose(jnp.linalg.norm(u, axis=1), [1.05 / 5**0.5, 0.2], rtol=1e-5)
    assert state.clipped.tolist() == [3.0, 2.0]


def test_norms_are_of_whole_leaves_within_shard_map():
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    P, g = jax.sharding.PartitionSpec, jnp.linspace(1, 2, 8)

    def run(axis):
        tx = jo.chain(
            jo.zclip(warmup=2, axis_name=axis), jo.adagc(warmup=2, axis_name=axis),
            jo.skip_spikes(jo.sgd(1.0), 4, warmup=2, axis_name=axis),
        )  # fmt: skip

        def steps(g):
            state, out = tx.init(g), []
            for factor in (1.0, 1.01, 1.0, 30.0, 1.0):
                u, state = tx.update(g * factor, state)
                out.append(u)
            return jnp.stack(out)

        return steps

    spread = jax.shard_map(run("d"), mesh=mesh, in_specs=P("d"), out_specs=P(None, "d"), check_vma=False)
    np.testing.assert_allclose(quick.jit(spread)(g), quick.jit(run(None))(g), rtol=1e-6)


# ---- what it refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: jo.skip_spikes(jo.adam(0.1), 1), HyperparameterError, "window must be an integer of at least 2"),
        (lambda: jo.skip_spikes(jo.adam(0.1), 2.0), HyperparameterTypeError, "window must be an integer"),
        (lambda: jo.skip_spikes(jo.adam(0.1), sigma=0), HyperparameterError, "sigma must be a finite number > 0"),
        (lambda: jo.skip_spikes(jo.adam(0.1), 8, warmup=9), HyperparameterError, "warmup must be at most window"),
        (lambda: jo.skip_spikes(jo.adam(0.1), max_consecutive=0), HyperparameterError, "max_consecutive"),
        (lambda: jo.skip_spikes(jo.adam), TransformationError, "skip_spikes: tx"),
        (lambda: jo.zclip(1.5), HyperparameterError, "zclip: decay"),
        (lambda: jo.zclip(z_threshold=0.0), HyperparameterError, "zclip: z_threshold"),
        (lambda: jo.zclip(warmup=0), HyperparameterError, "zclip: warmup must be an integer of at least 1"),
        (lambda: jo.adagc(lambda_rel=-1.0), HyperparameterError, "adagc: lambda_rel"),
        (lambda: jo.adagc(warmup=-1), HyperparameterError, "adagc: warmup"),
    ],
)
def test_what_cannot_be_is_refused_when_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_value_is_one_number_and_a_state_without_guards_has_no_skips():
    with pytest.raises(TreeError, match="value must be one real number"):
        GUARDED.update(ONE, GUARDED.init(ONE), ONE, value=ONE)
    with pytest.raises(StateError, match="skips: nothing in this state counts"):
        jo.diagnose.skips(jo.adam(0.1).init(ONE))
