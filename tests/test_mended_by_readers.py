"""Faults that were found by writing down what each argument is: one test for each kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko.errors import HyperparameterError, TreeError

MATRIX_METHODS = ["soap", "shampoo", "normuon", "adamuon", "psgd_kron", "kl_shampoo", "kl_soap", "apollo", "dion"]


@pytest.mark.parametrize("name", MATRIX_METHODS)
def test_a_mask_of_the_decay_is_one_for_the_rest_too(name):
    """The leaves that are no matrices go to AdamW, which decayed them all."""
    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(3), "c": jnp.ones(3)}
    opt = getattr(jo, name)(0.1, weight_decay=0.5, mask={"w": True, "b": False, "c": True})
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = opt.update(zero, opt.init(params), params)
    assert (updates["b"] == 0).all()
    np.testing.assert_allclose(updates["c"], -0.05, rtol=1e-6)
    np.testing.assert_allclose(updates["w"], -0.05, rtol=1e-6)


@pytest.mark.parametrize("rms", [-0.2, 0.0, np.inf])
def test_muons_length_is_above_zero(rms):
    with pytest.raises(HyperparameterError, match="consistent_rms must be a finite number > 0"):
        jo.muon(0.1, consistent_rms=rms)


@pytest.mark.parametrize("name", ["linf_ball", "simplex", "l1_sphere", "l1_ball", "l2_sphere", "l2_ball"])
def test_a_set_of_negative_size_is_refused(name):
    project = getattr(jo.projections, f"projection_{name}")
    with pytest.raises(HyperparameterError, match="scale must be a number >= 0"):
        project(jnp.ones(3), -1.0)
    assert np.isfinite(jax.jit(project)(jnp.ones(3), 0.5)).all()


def test_inner_products_do_not_broadcast():
    with pytest.raises(TreeError, match=r"tree\.vdot"):
        jo.tree.vdot({"a": jnp.ones(2)}, {"a": jnp.ones((2, 2))})


def test_integers_are_numbers():
    assert jo.tree.scale(0.5, {"a": jnp.array([1, 2])})["a"].tolist() == [0.5, 1.0]
    assert float(jo.safe_norm(jnp.array([3, 4]), 0.0)) == 5
    assert jo.numerics.largest(jnp.zeros(0, complex)).dtype == jnp.zeros(0, complex).real.dtype
    A, b = [[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0]
    np.testing.assert_allclose(jo.linalg.nnls(A, b, 100) if hasattr(jo, "linalg") else jo.nnls(A, b, 100), [1, 0])


def test_a_weight_of_a_class_is_at_most_1():
    with pytest.raises(HyperparameterError, match=r"alpha must be .*in \[0, 1\]"):
        jo.losses.sigmoid_focal_loss(jnp.zeros(2), jnp.ones(2), alpha=1.5)


def test_one_equation_with_one_unknown_has_a_root():
    found = jo.root(lambda x, a: x**2 - a, 1.0, args=(2.0,))
    assert bool(found.status.success) and abs(float(found.params) - 2**0.5) < 2e-5
    slope = jax.grad(lambda a: jo.root(lambda x, a: x**2 - a, 1.0, args=(a,)).params)(2.0)
    np.testing.assert_allclose(slope, 0.5 / 2**0.5, rtol=1e-4)
    with_aux = jo.root(lambda x: (x - 3.0, x), jnp.asarray(1.0), has_aux=True)
    assert float(with_aux.aux) == float(with_aux.params)


@pytest.mark.parametrize("make", [jo.nadam, jo.nadamw])
def test_a_decay_of_nesterovs_momentum_without_it_is_refused(make):
    with pytest.raises(HyperparameterError, match=r"momentum_decay .* nesterov must be True. Got nesterov=False"):
        make(1e-3, momentum_decay=4e-3, nesterov=False)


@pytest.mark.parametrize("mask", [None, {"w": True}])
@pytest.mark.parametrize("decay", [jo.add_corrected_decayed_weights(0.0, 0.1), jo.add_cautious_decayed_weights(0)])
def test_no_decay_needs_no_params(decay, mask):
    decay = decay if mask is None else jo.masked(decay, mask)
    g = {"w": jnp.ones(2)}
    np.testing.assert_array_equal(decay.update(g, decay.init(g))[0]["w"], g["w"])


def test_adamc_without_decay_is_adam():
    g = {"w": jnp.array([1.0, -3.0]), "b": jnp.ones(2)}
    for words in ({}, {"normalized": {"w": True, "b": False}}):
        ours, adam = jo.adamc(0.1, weight_decay=0.0, **words), jo.adam(0.1)
        got, want = (tx.update(g, tx.init(g))[0] for tx in (ours, adam))
        np.testing.assert_array_equal(got["w"], want["w"])
    with pytest.raises(ValueError, match="params"):
        jo.adamc(0.1).update(g, jo.adamc(0.1).init(g))
