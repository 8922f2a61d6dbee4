"""One saddle after another: f(x) = mean_i (1 - t_i**2)**2 with t_i = x_1 x_2 ... x_i.

At 0 all of f is flat but for a curvature along x_1; when x_1 has come to 1 or -1, x_2 is at a saddle, and so on. The
least value is 0, where all |x_i| = 1. Level: coordinates start at 10**-level. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task


def make(scale: Scale) -> Task:
    d = 8 * scale.width

    def value(x):
        return jnp.mean((1 - jnp.cumprod(x) ** 2) ** 2)

    def init(key, level):
        return 10**-level * jax.random.rademacher(key, (d,), jnp.float32)

    return Task(
        "saddle_chain",
        levels=(0.5, 1.0, 2.0),
        steps=120 * scale.steps,
        metric="f",
        learned=(0.5, 0.6, 0.9),
        floor=1e-4,
        init=lambda key, level: init(key, level) * jax.random.uniform(key, (d,), minval=0.5, maxval=1.0),
        loss=lambda params, data, key, level: value(params),
        validate=lambda params, data, level: value(params),
        network=False,
    )
