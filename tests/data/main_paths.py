"""python tests/data/main_paths.py: the main paths in two dtypes, each with the numbers it ends at, as JSON."""

import json

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_ko as jo
from jaxopt_ko import data, loop


def weights(dtype):
    """Of a net with one hidden layer of four: 2, 4, 1."""
    w = [np.sin(np.arange(1.0, 9)).reshape(2, 4), np.zeros(4), np.cos(np.arange(1.0, 5)).reshape(4, 1), np.zeros(1)]
    return [jnp.asarray(x, dtype) for x in w]


def net_loss(p, batch):
    x, y = batch
    hidden = jnp.tanh(x @ p[0] + p[1][None])
    return jnp.mean(jnp.square(hidden @ p[2] + p[3][None] - y[:, None]))


def rows(dtype):
    x = np.stack([np.linspace(-1, 1, 16), np.sin(3 * np.linspace(-1, 1, 16))], axis=1)
    return jnp.asarray(x, dtype), jnp.asarray(x[:, 0] * x[:, 1], dtype)


def fitted(dtype):
    """A small net, by AdamW, whole batches."""
    opt, batches = jo.adamw(0.03, weight_decay=1e-3), data.full_batch(16)
    run = loop.fit(net_loss, weights(dtype), opt, rows(dtype), batches, key=jax.random.key(0), epochs=60)
    return run.loss[jnp.array([0, 9, 59]), 0]


def orthogonalized(dtype):
    """Ten steps of Muon on the same net."""
    opt, batch = jo.muon(0.02), rows(dtype)

    def step(carry, _):
        p, state = carry
        value, grads = jax.value_and_grad(net_loss)(p, batch)
        updates, state = opt.update(grads, state, p)
        return (jo.apply_updates(p, updates), state), value

    params = weights(dtype)
    return jax.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), None, 10)[1])(params)[jnp.array([0, 4, 9])]


def minimized(dtype):
    """Rosenbrock's function of four, by L-BFGS."""
    fun = lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)  # noqa: E731
    return jo.minimize(fun, jnp.asarray([-1.2, 1.0, -1.2, 1.0], dtype), jo.lbfgs()).params


def exponential(dtype):
    """2 exp(-t / 2), by Levenberg and Marquardt."""
    t = jnp.linspace(0, 4, 20, dtype=dtype)
    return jo.least_squares(lambda p: p[0] * jnp.exp(-p[1] * t) - 2 * jnp.exp(-0.5 * t), jnp.ones(2, dtype)).params


def programmed(dtype):
    """min |x|**2 / 2 - x1 - 3 x2 with x1 + x2 <= 1, x >= 0: (0, 1)."""
    Q, c, G, h = (jnp.asarray(x, dtype) for x in (np.eye(2), [-1.0, -3.0], [[1.0, 1.0]], [1.0]))
    tol = 1e-9 if dtype == "float64" else 1e-5
    return jo.quadratic_program(Q, c, G=G, h=h, bounds=(0.0, None), tol=tol).params


def sharded(dtype):
    """Three steps of AdamW under a norm's limit, its parameters over two devices and on one: sums of each."""
    opt, x = jo.chain(jo.clip_by_global_norm(1.0), jo.adamw(0.1)), jnp.arange(1.0, 9, dtype=dtype).reshape(4, 2)
    split = jax.sharding.NamedSharding(jax.make_mesh((2,), ("d",)), jax.P("d"))

    @jax.jit
    def run(p):
        def step(_, carry):
            p, state = carry
            updates, state = opt.update(p, state, p)
            return jo.apply_updates(p, updates), state

        return jax.lax.fori_loop(0, 3, step, (p, opt.init(p)))[0]

    over = run(jax.device_put(x, split))
    assert over.sharding.is_equivalent_to(split, 2)
    return jnp.stack([jnp.sum(jnp.asarray(np.asarray(p)) ** 2) for p in (over, run(x))])


PATHS = (fitted, orthogonalized, minimized, exponential, programmed, sharded)

if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    ends = {}
    for path in PATHS:
        for dtype in ("float32", "float64"):
            end = path(dtype)
            assert end.dtype == dtype, (path.__name__, end.dtype)
            ends[f"{path.__name__} {dtype}"] = np.asarray(end, np.float64).tolist()
    print(json.dumps(ends))
