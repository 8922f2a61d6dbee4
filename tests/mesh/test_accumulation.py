"""Gradients of micro-batches summed on each device, and over the devices once a step of the optimizer: recipes."""

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


def all_reduces(text):
    """How many there are in a compiled program, and how many of them in the bodies of its loops."""
    reduces = [m.start() for m in re.finditer(r" all-reduce(?:-start)?\(", text)]
    bodies = [re.search(rf"^%?{re.escape(name)} .*?^}}", text, re.DOTALL | re.MULTILINE) for name in
              re.findall(r"body=%?([\w.]+)", text)]  # fmt: skip
    return len(reduces), sum(body.start() < at < body.end() for body in bodies for at in reduces)


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


def test_one_reduction_of_sums_and_counts():
    """`microbatched` within `shard_map`: the sum of the gradients, of all leaves, and the count in one reduction behind
    the loop over the parts; the step is that of the mean over all valid examples of two batches."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    x, y = np.float32(rng.normal(size=(2, 64, 3))), np.float32(rng.normal(size=(2, 64)))
    valid = rng.random((2, 64)) < np.asarray([0.2, 0.9])[:, None]
    valid[0, 8:16] = False  # one device has none
    params = {"v": np.float32(rng.normal(size=(3, 2))), "w": np.float32(rng.normal(size=2))}

    def squares(params, x, y, valid):
        each = jnp.square(jnp.tanh(x @ params["v"]) @ params["w"] - y)
        return jnp.sum(jnp.where(valid, each, jnp.zeros_like(each))), jnp.sum(valid)

    local = jo.loop.microbatched(squares, 2, batch_argnums=(1, 2, 3), axis_name="data")
    gradient = jax.shard_map(local, mesh=mesh, in_specs=(P(), *[P("data")] * 3), out_specs=P())
    inner = jo.adamw(1e-2)
    opt = jo.MultiSteps(inner, 2, weighted=True)

    def step(params, state, x, y, valid):
        (_, count), grads = gradient(params, x, y, valid)
        updates, state = opt.update(grads, state, params, weight=count)
        return jo.apply_updates(params, updates), state

    got, state = params, opt.init(params)
    compiled = quick.jit(step).lower(got, state, x[0], y[0], valid[0]).compile()
    assert all_reduces(compiled.as_text()) == (1, 0)
    for i in range(2):
        got, state = compiled(got, state, x[i], y[i], valid[i])
    flat = x.reshape(-1, 3), y.reshape(-1), valid.reshape(-1)
    grads = jax.grad(lambda p: squares(p, *flat)[0] / np.float32(valid.sum()))(params)
    want = jo.apply_updates(params, inner.update(grads, inner.init(params), params)[0])
    assert float(state.weight_sum) == valid.sum()
    for key, value in want.items():
        np.testing.assert_allclose(np.asarray(got[key]), value, rtol=1e-5)


def test_parts_of_a_batch_on_explicit_axes():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    x = np.float32(np.random.default_rng(0).normal(size=(64, 3)))

    def squares(w, x):
        return jnp.square(jnp.sum(x * w[None], axis=1))

    want = jo.loop.microbatched(squares)(jnp.ones(3), x)
    with jax.set_mesh(mesh):
        got = quick.jit(jo.loop.microbatched(squares, 16))(jnp.ones(3), jax.device_put(x, P("data")))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-5)
