"""Laws that hold for any numbers, by Hypothesis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import jaxopt_ko as jo
from cases import assert_close

FEW = settings(max_examples=20, deadline=None, derandomize=True)
vectors = arrays(np.float32, 5, elements=st.floats(-10, 10, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3))
positive = st.floats(0.1, 10)


def steps(opt, gradients):
    params = jax.tree.map(jnp.zeros_like, gradients[0])
    state, out = opt.init(params), []
    for g in gradients:
        u, state = opt.update(g, state, params)
        out.append(u)
    return out


@FEW
@pytest.mark.parametrize(
    "opt",
    [
        jo.adam(0.1, eps=0.0),
        jo.nadam(0.1, eps=0.0),
        jo.adamax(0.1, eps=0.0),
        jo.amsgrad(0.1, eps=0.0),
        jo.rmsprop(0.1, eps=0.0),
        jo.adagrad(0.1, 0.0, eps=0.0),
    ],
    ids=["adam", "nadam", "adamax", "amsgrad", "rmsprop", "adagrad"],
)
@given(g=st.lists(vectors.filter(np.all), min_size=1, max_size=3), scale=st.integers(-6, 6))
def test_adaptive_steps_do_not_see_the_scale_of_the_gradient(opt, g, scale):
    g = [jnp.asarray(x) for x in g]
    assert_close(steps(opt, [x * 2.0**scale for x in g]), steps(opt, g), rtol=1e-5)


@FEW
@given(a=vectors, b=vectors, momentum=st.floats(0, 0.99), lr=positive)
def test_the_two_velocities_agree_while_the_rate_is_constant(a, b, momentum, lr):
    g = [jnp.asarray(a), jnp.asarray(b), jnp.asarray(a - b)]
    outside = steps(jo.sgd(lr, momentum), g)
    inside = steps(jo.sgd(lr, momentum, lr_in_velocity=True), g)
    assert_close(inside, outside, rtol=1e-4, atol=1e-4)


@FEW
@given(a=vectors, b=vectors, max_norm=positive)
def test_clipping_by_global_norm_bounds_the_norm_and_keeps_the_direction(a, b, max_norm):
    opt = jo.clip_by_global_norm(max_norm)
    g = {"a": jnp.asarray(a), "b": jnp.asarray(b)}
    (u,) = steps(opt, [g])
    norm = np.sqrt(np.sum(np.float64(a) ** 2) + np.sum(np.float64(b) ** 2))
    np.testing.assert_allclose(jo.global_norm(u), min(norm, max_norm), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(u["a"] * max(norm / max_norm, 1.0), a, rtol=1e-4, atol=1e-5)


@FEW
@given(a=vectors, b=vectors)
def test_leaves_may_be_permuted_and_joined(a, b):
    opt = jo.chain(jo.clip_by_global_norm(1.0), jo.adamw(0.1))
    (apart,) = steps(opt, [(jnp.asarray(a), jnp.asarray(b))])
    (swapped,) = steps(opt, [(jnp.asarray(b), jnp.asarray(a))])
    (joined,) = steps(opt, [jnp.concatenate([a, b])])
    assert_close((apart[1], apart[0]), swapped)
    assert_close(jnp.concatenate(apart), joined, rtol=1e-5)


@FEW
@given(x=vectors, decay=st.floats(0, 0.999))
def test_the_corrected_average_of_a_constant_is_the_constant(x, decay):
    for u in steps(jo.ema(decay), [jnp.asarray(x)] * 3):
        np.testing.assert_allclose(u, x, rtol=2e-4, atol=1e-5)


@FEW
@given(g=vectors, lr=positive)
def test_the_first_adam_step_is_the_rate_and_the_uncorrected_one_three_times_it(g, lr):
    """Why the correction is there: (1 - b1) / sqrt(1 - b2) = 3.16."""
    expected = -lr * np.sign(g)
    np.testing.assert_allclose(steps(jo.adam(lr, eps=1e-12), [jnp.asarray(g)])[0], expected, rtol=1e-4)
    uncorrected = steps(jo.adam(lr, eps=1e-12, bias_correction=False), [jnp.asarray(g)])[0]
    np.testing.assert_allclose(uncorrected, expected * 0.1 / np.sqrt(0.001), rtol=1e-3)


def test_noise_has_the_variance_of_the_paper_and_falls():
    opt = jo.add_noise(eta=0.3, gamma=0.55, key=1)
    g = jnp.zeros(20_000)
    state = opt.init(g)
    for t in (1, 2, 3):
        u, state = opt.update(g, state)
        np.testing.assert_allclose(jnp.var(u), 0.3 / t**0.55, rtol=0.05)
        np.testing.assert_allclose(jnp.mean(u), 0.0, atol=0.02)


def test_noise_is_fresh_for_each_leaf_and_step():
    opt = jo.add_noise(1.0, 0.0, jax.random.key(0))
    g = (jnp.zeros(3), jnp.zeros(3))
    a, b = steps(opt, [g, g])
    assert len({tuple(np.asarray(x)) for x in (*a, *b)}) == 4


def test_a_learning_rate_per_group():
    params = {"body": jnp.ones(2), "head": jnp.ones(2)}
    labels = {"body": "slow", "head": "fast"}
    opt = jo.chain(jo.sgd(0.1), jo.scale_by_group({"slow": 0.5, "fast": lambda count: 2.0 + 0.0 * count}, labels))
    u, _ = opt.update(params, opt.init(params), params)
    np.testing.assert_allclose(u["body"], -0.05)
    np.testing.assert_allclose(u["head"], -0.2)
    apart = jo.partition({"slow": jo.adam(0.05), "fast": jo.sgd(0.2)}, labels)
    u, state = apart.update(params, apart.init(params), params)
    np.testing.assert_allclose(u["body"], -0.05, rtol=1e-5)
    np.testing.assert_allclose(u["head"], -0.2)
    assert sum(x.size for x in jax.tree.leaves(state) if x.ndim) == 4  # Adam's two moments of `body`, no more


def test_no_memory_that_is_not_used():
    sizes = {
        "sgd": (jo.sgd(0.1), 0),
        "momentum": (jo.sgd(0.1, 0.9), 1),
        "rmsprop": (jo.rmsprop(0.1), 1),
        "adam": (jo.adam(0.1), 2),
        "amsgrad": (jo.amsgrad(0.1), 3),
    }
    for name, (opt, arrays_per_leaf) in sizes.items():
        state = opt.init(jnp.zeros(7))
        assert sum(x.size for x in jax.tree.leaves(state) if x.ndim) == 7 * arrays_per_leaf, name
