"""A game of two players: min over x and max over y of x'Ay + level / 2 (|x|**2 - |y|**2), with noise.

Both are given their own gradients; the field turns around the equilibrium, 0, and the smaller the level, the less it
points inwards. Level: that strength. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task


def make(scale: Scale) -> Task:
    d = 8 * scale.width
    matrix = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (d, d)))[0] * jnp.linspace(0.3, 1.0, d)

    def value(x, y, data, level):
        return x @ data @ y + level / 2 * (x @ x - y @ y)

    def loss(params, data, key, level):
        x, y, fixed = params["x"], params["y"], jax.lax.stop_gradient
        noise = 0.02 * jax.random.normal(key, (2, d))
        return value(x, fixed(y), data, level) - value(fixed(x), y, data, level) + noise[0] @ x + noise[1] @ y

    def init(key, level):
        a, b = jax.random.split(key)
        return {"x": jax.random.normal(a, (d,)), "y": jax.random.normal(b, (d,))}

    return Task(
        "game",
        levels=(0.5, 0.2, 0.05),
        steps=180 * scale.steps,
        metric="mean square distance of a coordinate from the equilibrium",
        learned=(0.1, 0.3, 0.8),
        init=init,
        loss=loss,
        validate=lambda params, data, level: jnp.mean(params["x"] ** 2 + params["y"] ** 2) / 2,
        data=matrix,
        network=False,
    )
