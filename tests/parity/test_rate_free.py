"""Methods that find their own learning rate, averages and Lookahead, beside optax and their papers, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import quick
from references.record import START, STEPS
from test_parity import assert_follows, flatten, unflatten

import jaxopt_ko as jo

pytestmark = pytest.mark.usefixtures("x64")
CURVATURE = np.linspace(0.5, 2.0, START.size)


def loss(params, k):
    """A bowl that sways, above zero."""
    x = flatten(params)
    return 0.5 * jnp.sum(CURVATURE * (x - 0.3 - 0.1 * jnp.sin(k)) ** 2) + 0.1


def path_of(opt, apply_updates=jo.apply_updates, see=lambda state, p: p):
    """(60, 20): what `see` makes of state and parameters after each step."""

    def step(carry, k):
        p, state = carry
        value, grads = jax.value_and_grad(loss)(p, k.astype(jnp.float64))
        updates, state = opt.update(grads, state, p, value=value)
        p = apply_updates(p, updates)
        return (p, state), see(state, p)

    start = jax.tree.map(jnp.asarray, unflatten(START))
    seen = quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), jnp.arange(STEPS))[1])(start)
    return np.asarray(flatten(seen, (STEPS,)))


def theirs(make):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return path_of(optax.with_extra_args_support(make(optax)), optax.apply_updates)


def made(name, **options):
    return lambda library: getattr(library if hasattr(library, name) else library.contrib, name)(**options)


def around(name, *args, **options):
    """A wrapper around SGD."""
    return lambda library: getattr(library if hasattr(library, name) else library.contrib, name)(
        library.sgd(0.1), *args, **options
    )


OPTAX_LIVE = {
    "prodigy-defaults": made("prodigy"),
    "prodigy-options": made(
        "prodigy", betas=(0.8, 0.95), beta3=0.9, estim_lr0=1e-2, estim_lr_coef=0.5, weight_decay=0.1,
        safeguard_warmup=True,
    ),
    "dadapt_adamw-defaults": made("dadapt_adamw"),
    "dadapt_adamw-options": made("dadapt_adamw", betas=(0.8, 0.95), eps=1e-3, estim_lr0=1e-2, weight_decay=0.1),
    "dog-heuristic": made("dog", init_step=("heuristic", 1e-3)),
    "dog-distance": made("dog", init_step=("distance", 0.2), weight_decay=0.1, learning_rate=0.5),
    "dog-learning_rate": made("dog", init_step=("learning_rate", 0.01)),
    "dowg-defaults": made("dowg"),
    "dowg-options": made("dowg", init_estim_sq_dist=0.1, eps=1e-2, weight_decay=0.1),
    "cocob-defaults": made("cocob"),
    "cocob-options": made("cocob", alpha=5.0, eps=1e-3, weight_decay=0.1),
    "momo-defaults": made("momo"),
    "momo-options": made("momo", learning_rate=0.3, beta=0.7, lower_bound=0.05, weight_decay=0.1),
    "momo-adapting": made("momo", learning_rate=0.3, lower_bound=0.02, adapt_lower_bound=True),
    "momo_adam-defaults": made("momo_adam"),
    "momo_adam-options": made("momo_adam", learning_rate=0.1, b1=0.7, b2=0.9, weight_decay=0.1, adapt_lower_bound=True),
    "polyak_sgd-sps": made("polyak_sgd", max_learning_rate=0.4, f_min=0.1),
    "polyak_sgd-sps+": made("polyak_sgd", f_min=0.3, eps=1e-3, variant="sps+"),
    "schedule_free-defaults": around("schedule_free", learning_rate=0.1),
    "schedule_free-options": around("schedule_free", learning_rate=0.1, b1=0.7, weight_lr_power=1.0),
    "schedule_free_sgd-decay": made("schedule_free_sgd", learning_rate=0.2, weight_decay=0.1),
    "schedule_free_adamw-decay": made("schedule_free_adamw", learning_rate=0.1, weight_decay=0.1, b2=0.9),
    "mechanize-defaults": around("mechanize"),
    "mechanize-options": around("mechanize", weight_decay=0.1, s_init=1e-2, num_betas=3),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTAX_LIVE)
def test_follows_optax(name):
    want = theirs(OPTAX_LIVE[name])
    assert_follows(path_of(OPTAX_LIVE[name](jo)), want)
    assert np.abs(want[-1] - START).max() > 1e-4, "it stands still"


def test_polyaks_step_is_scaled_behind_its_norm():
    """optax scales the gradient first: a scaling of 0.5 makes the step 1 / 0.5 times as long instead of 0.5 times."""
    g = {"w": jnp.array([3.0, 4.0])}

    def step(library, scaling):
        opt = library.polyak_sgd(max_learning_rate=10.0, scaling=scaling)
        return np.asarray(opt.update(g, opt.init(g), g, value=5.0)[0]["w"])

    np.testing.assert_allclose(step(jo, 0.5), -0.5 * 5 / 25 * g["w"])
    np.testing.assert_allclose(step(jo, 0.5), 0.5 * step(optax, 1.0))
    np.testing.assert_allclose(step(optax, 0.5), 2 * step(optax, 1.0))


def twice(lib, opt, g):
    """The second steps of lookahead behind other rules."""
    params = lib.LookaheadParams.init_synced({"a": jnp.ones((2, 2)), "b": jnp.zeros(3)})
    state = opt.init(params)
    for _ in range(2):
        u, state = opt.update(g, state, params)
        params = lib.apply_updates(params, u)
    return u


def flags(params):
    return jax.tree.map(lambda p: p.ndim == 2, params)


def each(*functions):
    """f(a) and f(b) of {"a": …, "b": …}."""
    return lambda g, p: {key: f(g[key]) for key, f in zip("ab", functions * 2, strict=False)}


def half(x):
    return jnp.clip(x, -0.5, 0.5)


BEFORE = [  # a rule, and what it makes of a gradient
    (lambda: jo.clip_by_global_norm(1.0), each(lambda x: x / np.sqrt(41.0))),
    (lambda: jo.clip(0.5), each(half)),
    (lambda: jo.scale(0.5), each(lambda x: 0.5 * x)),
    (lambda: jo.scale_by_schedule(lambda t: 0.5), each(lambda x: 0.5 * x)),
    (lambda: jo.named_chain(("a", jo.scale(2.0)), ("b", jo.clip(0.5))), each(half)),
    (lambda: jo.chain(jo.chain(jo.scale(2.0)), jo.identity(), jo.clip(0.5)), each(half)),
    (lambda: jo.masked(jo.clip(0.5), flags), each(half, lambda x: x)),
    (lambda: jo.partition({True: jo.clip(0.5), False: jo.scale(2.0)}, flags), each(half, lambda x: 2 * x)),
    (lambda: jo.apply_if_finite(jo.clip(0.5), 2), each(half)),
    (lambda: jo.snapshot("norm", jo.global_norm), lambda g, p: g),
    (lambda: jo.stateless(lambda g, p: jax.tree.map(jnp.sign, g)), each(jnp.sign)),
    (lambda: jo.transform("minus", lambda p: (), lambda g, s, params=None: (jax.tree.map(jnp.negative, g), s)),
     each(jnp.negative)),
    (lambda: jo.core.treewise.treewise("same", jo.ScaleByScheduleState, needs_params=False, rule=lambda g, p, h: g),
     lambda g, p: g),
    (lambda: jo.add_decayed_weights(0.0), lambda g, p: g),
]  # fmt: skip


def test_rules_that_need_no_params_take_those_of_lookahead():
    g = {"a": jnp.full((2, 2), 3.0), "b": jnp.arange(3.0)}
    for make, made in BEFORE:
        with jax.numpy_dtype_promotion("standard"):
            want = twice(optax, optax.chain(optax.stateless(made), optax.lookahead(optax.sgd(0.1), 2, 0.5)), g)
        got = twice(jo, jo.chain(make(), jo.lookahead(jo.sgd(0.1), 2, 0.5)), g)
        for side in ("fast", "slow"):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
                         getattr(got, side), getattr(want, side))  # fmt: skip
    # nor are they looked at otherwise: gradients of several examples, half precision
    clip = jo.chain(jo.clip(1.0), jo.differentially_private_aggregate(1.0, 0.0, 0))
    two = jax.tree.map(lambda x: jnp.stack([x, x]), g)
    assert clip.update(two, clip.init(g), g)[0]["a"].shape == (2, 2)
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), g)
    assert jo.scale(0.5).update(low, jo.scale(0.5).init(g), g)[0]["a"].dtype == jnp.float64
    assert jo.scale(0.5).update(low, jo.scale(0.5).init(g), (g, g))[0]["a"].dtype == jnp.bfloat16
    # what needs them says so
    for needs in (jo.add_decayed_weights(0.1), jo.masked(jo.add_decayed_weights(0.1), flags), jo.fromage(0.1)):
        opt = jo.chain(needs, jo.lookahead(jo.sgd(0.1), 2, 0.5))
        with pytest.raises(jo.errors.TreeError, match="params"):
            twice(jo, opt, g)


def test_the_schedule_of_lookahead_counts_fast_steps():
    rates = lambda t: jnp.where(t < 4, 0.5, 0.0)  # noqa: E731
    for opt in (jo.lookahead(jo.sgd(1.0), 2, rates), jo.inject_hyperparams(jo.lookahead)(jo.sgd(1.0), 2, rates)):

        def step(carry, _, opt=opt):
            p, state = carry
            u, state = opt.update(jnp.array([0.1]), state, p)
            p = jo.apply_updates(p, u)
            return (p, state), p.slow[0]

        p = jo.LookaheadParams.init_synced(jnp.ones(1))
        (_, state), slow = jax.lax.scan(step, (p, opt.init(p)), None, 8)
        np.testing.assert_allclose(slow, [1, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8], rtol=1e-6)
        assert int(state.count) == 8
    for number in (0.5, jnp.float32(0.5)):  # optax's state
        opt = jo.lookahead(jo.sgd(1.0), 2, number)
        assert type(opt.init(p)) is jo.LookaheadState
    with pytest.raises(jo.errors.StateError, match="ScheduledState"):
        jo.lookahead(jo.sgd(1.0), 2, rates).update(jnp.ones(1), opt.init(p), p)


@pytest.mark.parametrize("reset", [False, True])
def test_lookahead_follows_optax(reset):
    def path(library, apply_updates):
        opt = library.lookahead(library.sgd(0.1, 0.5), 3, 0.4, reset)

        def step(carry, k):
            p, state = carry
            grads = jax.grad(loss)(p.fast, k.astype(jnp.float64))
            updates, state = opt.update(grads, state, p)
            p = apply_updates(p, updates)
            return (p, state), p

        start = library.LookaheadParams.init_synced(jax.tree.map(jnp.asarray, unflatten(START)))
        seen = quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), jnp.arange(STEPS))[1])(start)
        return [np.asarray(flatten(side, (STEPS,))) for side in seen]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        want = path(optax, optax.apply_updates)
    for got, side in zip(path(jo, jo.apply_updates), want, strict=True):
        assert_follows(got, side)


def schedule_free_paper(rate, beta):
    """Algorithm 1, gradients and all, in NumPy; x is the average."""
    x = y = z = START
    total, path = 0.0, []
    for k in range(STEPS):
        g = CURVATURE * (y - 0.3 - 0.1 * np.sin(k))
        z = z - rate(k) * g
        w = max(rate(i) for i in range(k + 1)) ** 2
        total += w
        c = w / total if total else 0.0
        x = (1 - c) * x + c * z
        y = (1 - beta) * z + beta * x
        path.append(x)
    return np.stack(path)


def test_schedule_free_reads_its_schedule_from_the_first_step_and_averages_as_its_paper():
    """optax reads schedule(1) at the first step, and schedule(0) never."""

    def rate(k):
        return 0.05 + 0.02 * (k % 3)

    def opt(library, scheduled):
        inner = library.sgd(scheduled)
        contrib = library if library is jo else library.contrib
        return contrib.schedule_free(inner, scheduled, b1=0.8)

    def scheduled(k):
        return 0.05 + 0.02 * (k % 3).astype(jnp.float64)

    want = schedule_free_paper(rate, 0.8)
    assert_follows(path_of(opt(jo, scheduled), see=jo.schedule_free_eval_params), want)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        see = optax.contrib.schedule_free_eval_params
        other = path_of(opt(optax, scheduled), optax.apply_updates, see)
    assert np.abs(other - want).max() > 1e-3


def test_estimates_grow_in_bfloat16():
    """optax keeps them in the parameters' dtype: there they stall."""
    params = jnp.full(64, 2.0, jnp.bfloat16)

    def end(opt, apply_updates):
        def step(carry, _):
            p, state = carry
            u, state = opt.update(jnp.sign(p), state, p)
            return (apply_updates(p, u), state), None

        return quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), None, 1500)[0])(params)

    _, ours = end(jo.prodigy(), jo.apply_updates)
    assert ours.estim_lr.dtype == jnp.float64 and ours.exp_avg.dtype == jnp.float32
    _, averaged = end(jo.schedule_free_sgd(0.01), jo.apply_updates)
    np.testing.assert_allclose(averaged.weight_sum, 1500 * 1e-4, rtol=1e-6)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        _, stalled = end(optax.contrib.schedule_free_sgd(0.01), optax.apply_updates)
    assert float(stalled.weight_sum) < 0.5 * 1500 * 1e-4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jo.dog(init_step=("far", 1.0)), r"init_step\[0\] must be one of"),
        (lambda: jo.dog(init_step=0.1), r"init_step must be a pair"),
        (lambda: jo.schedule_free(jo.sgd(0.1), 0.1, b1=0.0), r"b1 must be in \(0, 1\)"),
        (lambda: jo.lookahead(jo.sgd(0.1), 0, 0.5), r"sync_period"),
        (lambda: jo.polyak_sgd(variant="sps-"), r"variant must be one of"),
        (lambda: jo.schedule_free_eval_params(jo.sgd(0.1).init(jnp.ones(2)), jnp.ones(2)), r"hold one ScheduleFree"),
        (lambda: jo.mechanize(jo.sgd(0.1), num_betas=0), r"num_betas"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_loss_that_is_missing_and_params_that_are_no_pair():
    p = {"w": jnp.ones(2)}
    for opt in (jo.momo(), jo.momo_adam(), jo.polyak_sgd()):
        with pytest.raises(jo.errors.MissingArgumentError, match="value"):
            opt.update(p, opt.init(p), p)
    ahead = jo.lookahead(jo.sgd(0.1), 2, 0.5)
    with pytest.raises(TypeError, match="params must be LookaheadParams"):
        ahead.update(p, ahead.init(p), p)
