"""Numbers in few bits: rounding at random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_ko.core.rounding import leaf_keys, round_stochastic

HALVES = (jnp.bfloat16, jnp.float16)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("x", [1.0001, -1.0003, 3e-6, -3e-8, 300.1])
def test_a_million_roundings_at_random_have_the_number_as_their_mean(dtype, x):
    many = np.asarray(round_stochastic(jnp.full(10**6, x), dtype, jax.random.key(7)), np.float64)
    assert len(np.unique(many)) == 2
    assert abs(many.mean() - np.float32(x)) < 4 * many.std() / 1e3


@pytest.mark.parametrize("dtype", HALVES)
def test_what_is_a_number_of_the_narrow_dtype_or_not_finite_stays(dtype):
    every = jnp.asarray(np.arange(2**16, dtype=np.uint16).view(jnp.dtype(dtype)))
    made = round_stochastic(every.astype(jnp.float32), dtype, jax.random.key(1))
    numbers = ~np.isnan(np.asarray(every, np.float32))
    assert (np.asarray(made).view(np.uint16)[numbers] == np.asarray(every).view(np.uint16)[numbers]).all()
    assert np.isnan(np.asarray(made, np.float32)[~numbers]).all()


def test_each_leaf_has_a_key_of_its_own_that_its_path_alone_decides():
    few = leaf_keys(jax.random.key(0), {"a": 1, "b": 2})
    more = leaf_keys(jax.random.key(0), {"0": 0, "a": jnp.ones(3), "b": 2})
    assert (jax.random.key_data(few["a"]) != jax.random.key_data(few["b"])).any()
    assert (jax.random.key_data(few["b"]) == jax.random.key_data(more["b"])).all()
