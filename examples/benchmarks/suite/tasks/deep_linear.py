"""A linear network of six layers that has to become a given matrix.

Level: the gain of the layers at the start; from a small one all gradients are products of five small matrices.
Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task, weights

DEPTH = 6


def make(scale: Scale) -> Task:
    d = 8 * scale.width
    goal = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (d, d)))[0] * jnp.linspace(0.2, 1.0, d)

    def product(params):
        out = params[0]
        for w in params[1:]:
            out = out @ w
        return out

    def loss(params, data, key, level):
        x = jax.random.normal(key, (32 * scale.batch, d)).astype(data.dtype)
        return jnp.mean((x @ (product(params) - data)).astype(jnp.float32) ** 2)

    def validate(params, data, level):
        return jnp.sum((product(params) - data) ** 2) / jnp.sum(data**2)

    return Task(
        "deep_linear",
        levels=(1.0, 0.7, 0.4),
        steps=150 * scale.steps,
        metric="square distance from the matrix, relative",
        learned=(0.9, 0.9, 0.95),
        init=lambda key, level: [weights(k, d, d, level) for k in jax.random.split(key, DEPTH)],
        loss=loss,
        validate=validate,
        data=goal,
        network=False,
    )
