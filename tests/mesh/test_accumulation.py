"""Gradients of micro-batches summed on each device, and over the devices once a step of the optimizer: a recipe."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxopt_ko as jo

MICRO = 4

pytestmark = pytest.mark.skipif(not hasattr(P(), "unreduced"), reason="this JAX has no unreduced arrays")


def loss(w, x, y):
    return jnp.mean(jnp.square(jnp.dot(x, w, out_sharding=P("data")) - y))


def test_one_reduction_for_each_step_of_the_optimizer():
    """Parameters that are `reduced` over the data's axis have gradients that are `unreduced`: sums of each device's own
    examples. They are added up as they are, and reduced by the one reshard before the update."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    rng, opt = np.random.default_rng(0), jo.adamw(1e-2)
    x, y = np.float32(rng.normal(size=(MICRO, 16, 8))), np.float32(rng.normal(size=(MICRO, 16)))
    w = np.float32(rng.normal(size=8))

    def step(w, state, x, y):
        copy = jax.sharding.reshard(w, P(None, reduced={"data"}))
        start = jax.sharding.reshard(jnp.zeros_like(w), P(None, unreduced={"data"}))
        total, _ = jax.lax.scan(lambda total, xy: (total + jax.grad(loss)(copy, *xy), None), start, (x, y))
        grads = jax.sharding.reshard(total, P(None)) / MICRO
        updates, state = opt.update(grads, state, w)
        return jo.apply_updates(w, updates), state

    with jax.set_mesh(mesh):
        args = jax.device_put(w, P(None)), jax.device_put(x, P(None, "data", None)), jax.device_put(y, P(None, "data"))
        compiled = quick.jit(step).lower(args[0], opt.init(args[0]), *args[1:]).compile()
        got, _ = compiled(args[0], opt.init(args[0]), *args[1:])
    assert len(re.findall(r" all-reduce(?:-start)?\(", compiled.as_text())) == 1

    grads = jax.grad(lambda w: jnp.mean(jnp.square(x.reshape(-1, 8) @ w - y.reshape(-1))))(jnp.asarray(w))
    want = jo.apply_updates(w, opt.update(grads, opt.init(w), jnp.asarray(w))[0])
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-5)
