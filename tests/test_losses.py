"""Losses: parity with optax in double precision, no broadcasting, no overflow in half precision."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_ko import losses
from jaxopt_ko.errors import TreeError

CE = losses.softmax_cross_entropy_with_integer_labels
seeds = st.integers(0, 2**32 - 1)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(seeds, st.sampled_from([(), (2, 3)]))
def test_errors_agree_with_optax(seed, shape):
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        p, t = (jnp.asarray(rng.normal(0, 10.0 ** rng.integers(-3, 4), shape)) for _ in range(2))
        for name in ("squared_error", "l2_loss"):
            close(getattr(losses, name)(p, t), getattr(optax, name)(p, t))
            close(getattr(losses, name)(p), getattr(optax, name)(p))
        close(losses.mean_squared_error(p, t), jnp.mean(optax.squared_error(p, t)))
        close(losses.mean_squared_error(p, t, half=True), jnp.mean(optax.l2_loss(p, t)))


@settings(deadline=None, max_examples=12)
@given(seeds, st.sampled_from([(-1, "rows"), (1, "classes"), ((2, 0), "none")]))
def test_cross_entropy_agrees_with_optax(seed, variant):
    axis, masked = variant
    rng = np.random.default_rng(seed)
    shape = (3, 4, 2)
    axes = tuple(a % 3 for a in (axis if isinstance(axis, tuple) else (axis,)))
    batch = tuple(n for a, n in enumerate(shape) if a not in axes)
    with jax.enable_x64(True):
        z = jnp.asarray(rng.normal(0, 10.0 ** rng.integers(-2, 3), shape))
        y = jnp.asarray(rng.integers(0, np.prod([shape[a] for a in axes]), batch))
        where = {"none": None, "rows": rng.random(batch) < 0.5, "classes": rng.random(shape) < 0.5}[masked]
        where = None if where is None else jnp.asarray(where)
        close(CE(z, y, axis, where), optax.softmax_cross_entropy_with_integer_labels(z, y, axis, where))


def test_half_drops_the_factor_two_of_the_gradient():
    p, t = jnp.array([1.0, 4.0]), jnp.array([0.0, 1.0])
    whole = jax.grad(losses.mean_squared_error)(p, t)
    np.testing.assert_allclose(whole, 2 * (p - t) / 2)
    np.testing.assert_allclose(jax.grad(lambda p: losses.mean_squared_error(p, t, half=True))(p), whole / 2)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_neither_overflows_nor_changes_the_gradients_dtype(dtype):
    p, t = jnp.full((2,), 300.0, dtype), jnp.zeros((2,), dtype)
    for loss in (losses.squared_error, losses.l2_loss, losses.mean_squared_error):
        assert loss(p, t).dtype == jnp.float32
        assert np.all(np.isfinite(loss(p, t)))
    assert jax.grad(losses.mean_squared_error)(p, t).dtype == dtype
    z = jnp.array([[6e4, -6e4, 0.0]], dtype)
    loss, grad = jax.value_and_grad(lambda z: jnp.sum(CE(z, jnp.array([1]))))(z)
    np.testing.assert_allclose(loss, 1.2e5, rtol=1e-2)
    assert grad.dtype == dtype
    assert np.all(np.isfinite(grad))


def test_targets_may_be_integers_and_dtypes_may_differ():
    np.testing.assert_allclose(losses.squared_error(jnp.array([1.5]), jnp.array([1])), [0.25])
    np.testing.assert_allclose(losses.squared_error(jnp.array([1.5], jnp.float16), jnp.array([1.0])), [0.25])


def test_a_label_that_is_no_class_is_nan_and_a_masked_example_is_zero():
    z = jnp.zeros((3, 2))
    np.testing.assert_array_equal(np.isnan(CE(z, jnp.array([0, 2, -1]))), [False, True, True])

    def masked(z):
        return jnp.sum(CE(z, jnp.array([0, 2, -1]), where=jnp.array([True, False, False])))

    loss, grad = jax.value_and_grad(masked)(z)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(grad, [[-0.5, 0.5], [0, 0], [0, 0]], atol=1e-6)


def test_jit_and_vmap():
    z, y = jnp.arange(12.0).reshape(4, 3), jnp.array([0, 1, 2, 0])
    np.testing.assert_allclose(jax.jit(jax.vmap(CE))(z, y), CE(z, y), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: losses.squared_error(jnp.ones(3), jnp.ones((3, 1))), r"squared_error: targets .*\(3,\).*3,1"),
        (lambda: losses.mean_squared_error(jnp.ones(3), 1.0), r"mean_squared_error: targets .*\(3,\)"),
        (lambda: losses.l2_loss(jnp.ones(3, int)), r"l2_loss: predictions .*floating.*int32"),
        (lambda: losses.l2_loss(jnp.ones(1), jnp.ones(1, complex)), "targets must be real"),
        (lambda: CE(jnp.ones((2, 3)), jnp.ones(2)), "labels must be integers.*float32"),
        (lambda: CE(jnp.ones((2, 3)), jnp.ones((2, 1), int)), r"labels must have the shape \(2,\)"),
        (lambda: CE(jnp.ones((2, 3), int), jnp.ones(2, int)), "logits .*floating"),
        (lambda: CE(jnp.ones((2, 3)), jnp.ones(2, int), where=jnp.ones((2, 1), bool)), "where must have"),
        (lambda: CE(jnp.ones((2, 3)), jnp.ones(2, int), axis=2), "axis=2"),
        (lambda: CE(jnp.ones((2, 3)), jnp.ones(2, int), axis=(1, -1)), "different axes"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(TreeError, match=words):
        call()


@pytest.mark.parametrize(
    ("dtype", "classes"),
    [("uint8", 256), ("uint8", 300), ("int8", 128), ("int8", 200), ("uint16", 65536), ("int64", 9)],
)
def test_labels_in_narrow_integers(dtype, classes):
    """A byte-level model has 256 classes and uint8 labels: 256 does not fit into them."""
    logits = np.zeros((2, classes), np.float32)
    loss = losses.softmax_cross_entropy_with_integer_labels(logits, np.array([3, 7], dtype))
    np.testing.assert_allclose(loss, np.log(classes), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_masked_out_has_no_gradient_whatever_it_holds(bad):
    logits = jnp.array([[1.0, 2.0, 0.5], [bad, bad, bad]])
    labels, rows = jnp.array([0, 1]), jnp.array([True, False])
    cost = losses.softmax_cross_entropy_with_integer_labels
    slope = jax.grad(lambda z: cost(z, labels, where=rows).sum())(logits)
    np.testing.assert_allclose(slope[0], jax.grad(lambda z: cost(z, labels[0]))(logits[0]), rtol=1e-6)
    assert not np.any(slope[1])
    classes = jnp.array([[True, True, False]])
    slope = jax.grad(lambda z: cost(z, labels[:1], where=classes).sum())(logits[:1].at[0, 2].set(bad))
    assert bool(jnp.all(jnp.isfinite(slope))) and float(slope[0, 2]) == 0
