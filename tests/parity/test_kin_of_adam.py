"""AdEMAMix, ADOPT, ACProp, MADGRAD, Sophia and optimistic methods beside optax and their papers, as test_parity."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from references.record import SCALE, call
from test_parity import (
    FAR,
    MASK,
    assert_differs,
    assert_follows,
    flatten,
    from_optax,
    from_paper,
    halving,
    named,
    ours,
    relative_error,
    unflatten,
)

import jaxopt_ko as jo

pytestmark = pytest.mark.usefixtures("x64")


def growing(k):
    """A schedule for alpha: 0, 0.1, …, 5."""
    return jnp.minimum(0.1 * k.astype("float64"), 5.0)


def slowing(k):
    """A schedule for b3: from 0.9 to 0.999."""
    return 1.0 - 0.1 / (1.0 + k.astype("float64"))


def curvature(params):
    """The diagonal of the Hessian of the problem whose gradient is `references.record.gradient`, all awake."""
    x = flatten(params)
    return unflatten(SCALE * (1 + (1 - x * x) / (1 + x * x) ** 2))


EXACT = optax.GradientTransformation(
    lambda params: optax.EmptyState(), lambda g, s, params=None: (curvature(params), s)
)
SOPHIA = {"learning_rate": 0.01, "hessian_diagonal_fn": EXACT}

OPTAX = {
    "ademamix-defaults": [call("ademamix", learning_rate=1e-3)],
    "ademamix-schedules_decay_mask": [
        call("ademamix", learning_rate=halving, b3=slowing, alpha=growing, weight_decay=0.1, mask=MASK, **FAR)
    ],
    "ademamix-eps_root": [call("ademamix", learning_rate=0.01, b3=0.99, eps=0.0, eps_root=1e-6)],
    "simplified_ademamix-defaults": [call("simplified_ademamix", learning_rate=1e-4)],
    "simplified_ademamix-alpha_decay": [
        call("simplified_ademamix", learning_rate=halving, alpha=growing, eps_root=1e-4, weight_decay=0.1, **FAR)
    ],
    "adopt-defaults": [call("adopt", learning_rate=0.01)],
    "adopt-nesterov_unclipped": [call("adopt", learning_rate=1e-3, nesterov=True, use_clipping=False, **FAR)],
    "adopt-bound": [call("adopt", learning_rate=halving, clip_value_fn=lambda k: 0.1 * (1.0 + k), **FAR)],
    "acprop-defaults": [call("acprop", learning_rate=1e-4)],
    "acprop-betas_decay_mask": [call("acprop", learning_rate=1e-3, eps_root=1e-4, weight_decay=0.1, mask=MASK, **FAR)],
    "optimistic_gradient_descent-defaults": [call("optimistic_gradient_descent", learning_rate=2e-3)],
    "optimistic_gradient_descent-alpha_beta": [
        call("optimistic_gradient_descent", learning_rate=halving, alpha=0.1, beta=0.2)
    ],
    "optimistic_adam_v2-defaults": [call("optimistic_adam_v2", learning_rate=1e-3)],
    "optimistic_adam_v2-alpha_beta": [
        call("optimistic_adam_v2", learning_rate=halving, alpha=0.7, beta=2.0, nesterov=False, eps_root=1e-4, **FAR)
    ],
    "noisy_sgd-no_noise": [call("noisy_sgd", learning_rate=4e-3, eta=0.0, key=0)],
    "sophia-defaults": [call("sophia", **SOPHIA)],
    "sophia-gamma_interval_decay_mask": [
        call("sophia", b1=0.9, b2=0.8, gamma=0.5, update_interval=3, weight_decay=0.1, weight_decay_mask=MASK, **SOPHIA)
    ],
    "sophia-unclipped": [
        call("sophia", b2=0.5, gamma=1.0, eps=1.0, clip_threshold=None, weight_decay=0.0, **SOPHIA)
    ],
}  # fmt: skip


@pytest.mark.parametrize("recipe", named({k: (v,) for k, v in OPTAX.items()}, "optax"))
def test_follows_optax(recipe):
    their_params, their_updates, gradients = from_optax(recipe)
    params, updates = ours(recipe, gradients)
    assert_follows(params, their_params)
    assert_follows(updates, their_updates, "updates")


# ---- the papers, in their own letters, as in test_parity ------------------------------------------------


def ademamix(x, g, t, m1=0.0, m2=0.0, v=0.0):
    """Pagliardini et al. 2024, Algorithm 1, with its schedules of alpha and beta_3 over T = 50 steps."""
    alpha = min((t - 1) * 5 / 50, 5)
    b3 = min(np.exp(np.log(0.8) * np.log(0.99) / ((1 - t / 50) * np.log(0.99) + t / 50 * np.log(0.8))), 0.99)
    m1 = 0.8 * m1 + 0.2 * g
    m2 = b3 * m2 + (1 - b3) * g
    v = 0.95 * v + 0.05 * g**2
    m1_hat, v_hat = m1 / (1 - 0.8**t), v / (1 - 0.95**t)
    return x - 0.01 * ((m1_hat + alpha * m2) / (np.sqrt(v_hat) + 1e-5) + 0.1 * x), m1, m2, v


def ademamix_b3(k):
    t = k.astype("float64") + 1
    start, end = np.log(0.8), np.log(0.99)
    return jnp.minimum(jnp.exp(start * end / ((1 - t / 50) * end + t / 50 * start)), 0.99)


def simplified_ademamix(x, g, t, m=0.0, v=0.0):
    """Morwani et al. 2025, Algorithm 1: theory's momentum, a sum; Adam's correction of v."""
    m = 0.9 * m + g
    v = 0.95 * v + 0.05 * g**2
    return x - 1e-3 * (m + 2.0 * g) / (np.sqrt(v / (1 - 0.95**t)) + 1e-5), m, v


def adopt(x, g, t, m=0.0, v=None):
    """Taniguchi et al. 2024, Algorithm 2: v_0 from the first gradient, then t - 1 counts the steps."""
    if v is None:
        return x, m, g**2
    bound = (t - 1) ** 0.25
    m = 0.8 * m + 0.2 * np.clip(g / np.maximum(np.sqrt(v), 1e-5), -bound, bound)
    return x - 0.03 * m, m, 0.95 * v + 0.05 * g**2


def acprop(x, g, t, m=0.0, s=0.0, centre="current"):
    """Zhuang et al. 2021, Algorithm 2, with AdaBelief's bias correction and epsilon; s_0 = 1."""
    s_hat = 1.0 if t == 1 else s / (1 - 0.95 ** (t - 1))
    x = x - 1e-3 * g / (np.sqrt(s_hat) + 1e-5)
    old, m = m, 0.8 * m + 0.2 * g
    s = 0.95 * s + 0.05 * (g - (m if centre == "current" else old)) ** 2 + 1e-4
    return x, m, s


def acprop_previous(x, g, t, m=0.0, s=0.0):
    """The same about the mean before this gradient: optax."""
    return acprop(x, g, t, m, s, "previous")


def madgrad(x, g, t, s=0.0, v=0.0, x_0=None, rate=0.02):
    """Defazio & Jelassi 2021, Algorithm 1; c = 0.1."""
    x_0 = x if x_0 is None else x_0
    a = rate * np.sqrt(t)
    s = s + a * g
    v = v + a * g**2
    z = x_0 - s / (np.cbrt(v) + 1e-4)
    return 0.9 * x + 0.1 * z, s, v, x_0


def madgrad_authors(x, g, t, s=0.0, v=0.0, x_0=None):
    """The same, eps added to the rate: the authors' code, and optax."""
    return madgrad(x, g, t, s, v, x_0, 0.02 + 1e-4)


def madgrad_decay(x, g, t, s=0.0, v=0.0, x_0=None):
    """The authors' code with weight decay, which it adds to the gradient."""
    return madgrad_authors(x, g + 0.1 * x, t, s, v, x_0)


def optimistic_adam(x, g, t, m=0.0, v=0.0, r=0.0):
    """Daskalakis et al. 2018, Algorithm 1."""
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    now = m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-5)
    return x - 2 * 0.01 * now + 0.01 * r, m, v, now


def optimistic_mirror_descent(x, g, t, old=None):
    """Daskalakis et al. 2018, equation 3: the first step is as if the one before had had the same gradient."""
    return x - 2 * 1e-3 * g + 1e-3 * (g if old is None else old), g


def sophia(x, g, t, m=0.0, h=0.0):
    """Liu et al. 2023, Algorithm 3, k = 3; the Hessian at the step's start, no bias correction."""
    m = 0.9 * m + 0.1 * g
    if t % 3 == 1:
        h = 0.8 * h + 0.2 * SCALE * (1 + (1 - x * x) / (1 + x * x) ** 2)
    x = x - 0.01 * 0.1 * x
    return x - 0.01 * np.clip(m / np.maximum(0.05 * h, 1e-8), -1, 1), m, h


LETTERS = {"b1": 0.8, "b2": 0.95, "eps": 1e-5}
PAPER = {"bias_correction": False, "hessian_first": True}

PAPERS = {
    "ademamix-algorithm_1": (
        ademamix,
        call("ademamix", learning_rate=0.01, b3=ademamix_b3, alpha=growing, weight_decay=0.1, **LETTERS),
    ),
    "simplified_ademamix-algorithm_1": (
        simplified_ademamix,
        call("simplified_ademamix", learning_rate=1e-3, alpha=2.0, **LETTERS | {"b1": 0.9}),
    ),
    "adopt-algorithm_2": (adopt, call("adopt", learning_rate=0.03, **LETTERS)),
    "acprop-algorithm_2": (acprop, call("acprop", learning_rate=1e-3, eps_root=1e-4, centre="current", **LETTERS)),
    "acprop-about_the_mean_before": (acprop_previous, call("acprop", learning_rate=1e-3, eps_root=1e-4, **LETTERS)),
    "madgrad-algorithm_1": (madgrad, call("madgrad", learning_rate=0.02, eps=1e-4, eps_in_rate=False)),
    "madgrad-authors_code": (madgrad_authors, call("madgrad", learning_rate=0.02, eps=1e-4)),
    "madgrad-authors_code_decay": (madgrad_decay, call("madgrad", learning_rate=0.02, weight_decay=0.1, eps=1e-4)),
    "optimistic_adam_v2-algorithm_1": (
        optimistic_adam,
        call("optimistic_adam_v2", learning_rate=0.01, nesterov=False, from_zero=True, **LETTERS),
    ),
    "optimistic_gradient_descent-equation_3": (
        optimistic_mirror_descent,
        call("optimistic_gradient_descent", learning_rate=1e-3),
    ),
    "sophia-algorithm_3": (
        sophia,
        call("sophia", b1=0.9, b2=0.8, gamma=0.05, update_interval=3, weight_decay=0.1, **SOPHIA, **PAPER),
    ),
}


@pytest.mark.parametrize(("rule", "recipe"), named(PAPERS, "paper"))
def test_follows_paper(rule, recipe):
    path, gradients = from_paper(rule)
    assert_follows(ours([recipe], gradients)[0], path)


@pytest.mark.parametrize(
    ("a", "b"), [(acprop, acprop_previous), (madgrad, madgrad_authors)], ids=lambda rule: f"paper-{rule.__name__}"
)
def test_published_variants_differ(a, b):
    assert_differs(from_paper(a)[0], from_paper(b)[0])


# ---- where optax is wrong or weak -----------------------------------------------------------------------


def test_optax_centres_acprop_about_another_mean_than_it_says():
    """Its docstring and the paper have (g - m_t)**2; its steps are b1 times as long."""
    _, gradients = from_paper(acprop)
    recipe = [call("acprop", learning_rate=1e-3, eps_root=0.0, eps=0.0, **{"b1": 0.8, "b2": 0.95})]
    _, said = ours([recipe[0]._replace(arguments=recipe[0].arguments | {"centre": "current"})], gradients)
    _, done = ours(recipe, gradients)
    steps = said[20:, 18] / done[20:, 18]
    np.testing.assert_allclose(steps, 1 / 0.8, rtol=1e-6)


def test_optax_counts_the_steps_of_madgrad_in_float32():
    """Its sqrt of an int32 is a float32, also in float64: the sums are of 7 digits."""
    path, _ = from_paper(madgrad_authors)
    theirs, _, _ = from_optax([PAPERS["madgrad-authors_code"][1]])
    assert 1e-7 < relative_error(theirs, path).max() < 1e-4


def test_schedules_of_optimism():
    """optax's annotation promises schedules for alpha and beta; adding two of them is a TypeError."""
    half = lambda k: 0.5 + 0.0 * k  # noqa: E731
    with pytest.raises(TypeError):
        pair = optax.optimistic_gradient_descent(0.1, half, half)
        pair.update(jnp.ones(2), pair.init(jnp.ones(2)))
    g = jnp.array([1.0, -2.0])
    a, b = jo.optimistic_gradient_descent(0.1, half, half), jo.optimistic_gradient_descent(0.1, 0.5, 0.5)
    np.testing.assert_allclose(a.update(g, a.init(g))[0], b.update(g, b.init(g))[0])


def test_schedules_of_the_slow_mean_begin_anew_where_its_count_is_set():
    pair = jo.scale_by_ademamix(alpha=growing, eps=1.0)
    g, state = jnp.ones(2), pair.init(jnp.ones(2))
    for _ in range(5):
        _, state = pair.update(g, state)
    assert int(state.count_m2) == 5
    anew, _ = pair.update(g, state._replace(count_m2=jnp.int32(0)))
    np.testing.assert_allclose(anew, jo.scale_by_adam(eps=1.0).update(g, jo.scale_by_adam().init(g))[0])


def test_optimism_brings_a_game_to_rest():
    """min over x, max over y of x y: gradient descent spirals outwards."""

    def distance(opt):
        def step(carry, _):
            (x, y), state = carry
            updates, state = opt.update((y, -x), state)
            return (jo.apply_updates((x, y), updates), state), None

        start = (jnp.asarray(1.0), jnp.asarray(2.0))
        (x, y), _ = jax.lax.scan(step, (start, opt.init(start)), None, 500)[0]
        return float(jnp.hypot(x, y))

    assert distance(jo.sgd(0.1)) > 10
    assert distance(jo.optimistic_gradient_descent(0.1)) < 0.3


def test_sophia_takes_the_loss_by_either_name_and_prints_its_win_rate(capfd):
    loss = lambda p: jnp.sum(p["a"] ** 4)  # noqa: E731
    p = {"a": jnp.array([1.0, 2.0])}
    opt = jo.scale_by_sophia(gamma=1.0, verbose=True, print_win_rate_every_n_steps=2)
    state, g = opt.init(p), jax.grad(loss)(p)
    _, one = opt.update(g, state, p, obj_fn=loss)
    _, two = opt.update(g, state, p, value_fn=loss)
    np.testing.assert_allclose(one.nu["a"], 0.01 * 12 * p["a"] ** 2)  # a diagonal Hessian is met exactly
    np.testing.assert_allclose(one.nu["a"], two.nu["a"])
    opt.update(g, one, p, obj_fn=loss)
    jax.effects_barrier()
    assert capfd.readouterr().out.count("not clipped") == 1
    with pytest.raises(jo.errors.MissingArgumentError, match="obj_fn"):
        opt.update(g, state, p)
