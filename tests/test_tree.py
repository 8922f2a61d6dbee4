"""The names of optax.tree: its meaning, in float32 at least, None and short numbers included; lookups in states."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_ko as jo

X = {"a": jnp.array([1.0, -2.0, 3.0]), "b": [None, jnp.array([[0.5, 4.0]])]}
Y = {"a": jnp.array([2.0, 0.5, -1.0]), "b": [None, jnp.array([[3.0, 2.0]])]}
KEY = jax.random.key(0)

# name -> arguments
TABLE = {
    "add": (X, Y, X),
    "sub": (X, Y),
    "mul": (X, Y),
    "div": (X, Y),
    "scale": (0.5, X),
    "add_scale": (X, 0.5, Y),
    "vdot": (X, Y),
    "sum": (X,),
    "max": (X,),
    "min": (X,),
    "size": (X,),
    "norm": (X,),
    "norm-1": (X, 1),
    "norm-inf": (X, "inf"),
    "norm-squared": (X, 2, True),
    "cast": (X, jnp.bfloat16),
    "cast_like": (X, jax.tree.map(lambda x: jnp.asarray(np.asarray(x, jnp.float16)), Y)),
    "dtype": (X,),
    "dtype-promote": ({"a": jnp.ones(2), "b": jnp.ones(2, jnp.bfloat16)}, "promote"),
    "dtype-lowest": ({"a": jnp.ones(2), "b": jnp.ones(2, jnp.bfloat16)}, "lowest"),
    "clip": (X, -1.0, 2.0),
    "conj": (X,),
    "real": (X,),
    "where": (jnp.array(True), X, Y),
    "zeros_like": (X,),
    "ones_like": (X, jnp.float16),
    "full_like": (X, 3.0),
    "allclose": (X, X),
    "batch_shape": (X, (2, 3)),
    "split_key_like": (KEY, X),
    "random_like": (KEY, X),
    "unwrap_random_key_data": ({"k": KEY, "x": jnp.ones(2)},),
    "update_moment": (X, Y, 0.9, 2),
    "update_moment_per_elem_norm": (X, Y, 0.9, 2),
    "update_infinity_moment": (X, Y, 0.9, 1e-8),
    "bias_correction": (X, 0.9, jnp.array(3)),
}


def plain(x):
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(x))
    return x if isinstance(x, np.dtype | type) else np.asarray(x)


@pytest.mark.parametrize("name", TABLE)
def test_means_what_optax_means(name):
    args = TABLE[name]
    name = name.split("-")[0]
    got = getattr(jo.tree, name)(*args)
    with jax.numpy_dtype_promotion("standard"):
        want = getattr(optax.tree, name)(*args)
    assert getattr(jo.tree_utils, f"tree_{name}") is getattr(jo.tree, name)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(map(plain, jax.tree.leaves(got)), map(plain, jax.tree.leaves(want)), strict=True):
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype or a.ndim == 0
            np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=1e-5, atol=1e-6)
        else:
            assert np.dtype(a) == np.dtype(b)


def test_every_name_of_optax_is_there():
    unwanted = {"assignment", "perturbations", "experimental"}  # not for optimization
    assert {n for n in dir(optax) if not n.startswith("_") and not hasattr(jo, n)} == unwanted
    assert jo.contrib.muon is jo.muon and jo.transforms.MultiSteps is jo.MultiSteps
    with pytest.raises(AttributeError, match="nothing"):
        getattr(jo.contrib, "nothing")  # noqa: B009


def test_short_numbers_neither_overflow_nor_lose_digits():
    x = {"w": jnp.full(1000, 300.0, jnp.float16)}
    np.testing.assert_allclose(jo.tree.norm(x), 300 * 1000**0.5, rtol=1e-6)
    np.testing.assert_allclose(jo.tree.vdot(x, x), 9e7, rtol=1e-6)
    assert jo.tree.scale(0.5, x)["w"].dtype == jnp.float16
    np.testing.assert_allclose(jo.tree.norm({"w": jnp.full(4, 1e25)}), 2e25, rtol=1e-6)
    assert not np.isfinite(optax.tree.norm(x))
    m = {"w": jnp.full(1000, 256.0, jnp.bfloat16)}
    assert float(jo.tree.sum({"w": jnp.ones(300, jnp.bfloat16)})) == 300
    assert jo.tree.update_moment(x, m, 0.999, 1)["w"].dtype == jnp.bfloat16


def test_values_are_found_and_replaced_by_name():
    params = {"w": jnp.ones(2)}
    opt = jo.inject_hyperparams(jo.adam)(0.1)
    state = opt.init(params)
    assert float(jo.tree.get(state, "learning_rate")) == pytest.approx(0.1)
    assert isinstance(jo.tree.get(state, "ScaleByAdamState"), jo.ScaleByAdamState)
    assert jo.tree.get(state, "nowhere", default=7) == 7
    with pytest.raises(KeyError, match=r"'count' is the name of \d values.*filtering"):
        jo.tree.get(state, "count")
    paths = [
        jax.tree_util.keystr(tuple(p)) if not p else str(p[-1]) for p, _ in jo.tree.get_all_with_path(state, "count")
    ]
    assert "ScaleByAdamState.count" in paths
    new = jo.tree.set(state, learning_rate=jnp.array(0.5), mu={"w": jnp.full(2, 9.0)})
    assert float(jo.tree.get(new, "learning_rate")) == 0.5
    np.testing.assert_array_equal(jo.tree.get(new, "mu")["w"], 9.0)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    only = jo.tree.get(state, "count", filtering=lambda path, value: "ScaleByAdamState" in str(path[-1]))
    assert int(only) == 0
    with pytest.raises(KeyError, match="no value is called 'rate'"):
        jo.tree.set(state, rate=1.0)
    theirs = optax.tree.get(optax.inject_hyperparams(optax.adam)(0.1).init(params), "learning_rate")
    np.testing.assert_allclose(theirs, jo.tree.get(state, "learning_rate"))


def test_moments_are_mapped_as_parameters_are():
    params = {"w": jnp.ones(2), "b": jnp.ones(3)}
    opt = jo.adamw(0.1)
    marked = jo.tree.map_params(opt, lambda m: m + 1, opt.init(params))
    assert float(jo.tree.get(marked, "mu")["w"][0]) == 1.0
    assert jo.tree_map_params is jo.tree.map_params


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: jo.tree.vdot({"a": jnp.ones(2)}, {"b": jnp.ones(2)}), "tree_x"),
        (lambda: jo.tree.norm(X, 3), "ord must be"),
        (lambda: jo.tree.dtype({"a": jnp.ones(2), "b": jnp.ones(2, jnp.int32)}), "one dtype"),
    ],
)
def test_what_does_not_fit_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call()
