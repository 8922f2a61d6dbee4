"""Least squares with an ill-conditioned matrix and noise in what is measured.

The unknowns are turned against the axes, so that no scaling of coordinates helps.
Level: the condition number's logarithm, base 10. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task


def make(scale: Scale) -> Task:
    d = 32 * scale.width
    turn = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (d, d)))[0]
    goal = jax.random.normal(jax.random.key(1), (d,))

    def spread(level):
        return 10 ** (-level / 2 * jnp.linspace(0, 1, d))  # roots of the eigenvalues

    def loss(params, data, key, level):
        a, b = jax.random.split(key)
        rows = (jax.random.normal(a, (16 * scale.batch, d)) * spread(level)) @ data["turn"]
        noise = 0.1 * jax.random.normal(b, (16 * scale.batch,))
        return 0.5 * jnp.mean((rows @ (params - data["goal"]) - noise) ** 2)

    def excess(x, data, level):
        return 0.5 * jnp.sum((spread(level) * (data["turn"] @ x)) ** 2)

    return Task(
        "least_squares",
        levels=(1.0, 2.0, 3.0),
        steps=150 * scale.steps,
        metric="expected loss above the least, over that of zeros",
        learned=(0.1, 0.2, 0.3),
        floor=1e-4,
        init=lambda key, level: jnp.zeros(d),
        loss=loss,
        validate=lambda params, data, level: (
            excess(params - data["goal"], data, level) / excess(data["goal"], data, level)
        ),
        data={"turn": turn, "goal": goal},
        network=False,
    )
