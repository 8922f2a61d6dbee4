"""A quadratic whose gradients have noise with heavy tails.

The noise of a coordinate is a random sign times u**(-level), u uniform in 0 to 1: of infinite variance from level 0.5,
of infinite mean from 1. Level: that exponent. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task


def make(scale: Scale) -> Task:
    d = 32 * scale.width

    def value(x):
        return 0.5 * jnp.mean(10 ** (-1.5 * jnp.linspace(0, 1, d)) * x**2)

    def loss(params, data, key, level):
        a, b = jax.random.split(key)
        size = jax.random.uniform(a, (d,), minval=1e-6) ** -level
        return value(params) + 0.3 / d * jnp.sum(size * jax.random.rademacher(b, (d,), jnp.float32) * params)

    return Task(
        "heavy_tails",
        levels=(0.3, 0.6, 0.9),
        steps=120 * scale.steps,
        metric="the quadratic, without noise, over that of the start",
        learned=(0.1, 0.3, 0.5),
        init=lambda key, level: jax.random.normal(key, (d,)) + 3.0,
        loss=loss,
        validate=lambda params, data, level: value(params) / value(jnp.full(d, 3.0)),
        network=False,
    )
