"""A physics-informed network for a 1-D boundary value problem.

-u''(x) = (k pi)**2 sin(k pi x) on 0 to 1, with the values of the solution u = sin(k pi x) at both ends. The loss is the
mean square residual at random points, over (k pi)**4, and that of the ends. Raissi, Perdikaris & Karniadakis 2019.
Level: k. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task, layers


def make(scale: Scale) -> Task:
    h = 16 * scale.width

    def init(key, level):
        params = layers(key, (1, h, h, 1), 1.0)
        first = {"w": 4 * params[0]["w"], "b": jax.random.uniform(key, (h,), minval=-2.0, maxval=2.0)}
        return [first, *params[1:]]

    def value(params, x):
        """u and its first two derivatives, carried forward through the layers."""
        u, du, ddu = x[:, None], jnp.ones((len(x), 1)), jnp.zeros((len(x), 1))
        for i, p in enumerate(params):
            u, du, ddu = u @ p["w"] + p["b"], du @ p["w"], ddu @ p["w"]
            if i + 1 < len(params):
                t = jnp.tanh(u)
                slope = 1 - t**2
                u, du, ddu = t, slope * du, slope * ddu - 2 * t * slope * du**2
        return u[:, 0], ddu[:, 0]

    def loss(params, data, key, level):
        x = jax.random.uniform(key, (32 * scale.batch,))
        k = level * jnp.pi
        _, second = value(params, x)
        ends, _ = value(params, jnp.array([0.0, 1.0]))
        return jnp.mean((second / k**2 + jnp.sin(k * x)) ** 2) + jnp.mean(
            (ends - jnp.sin(k * jnp.array([0.0, 1.0]))) ** 2
        )

    def validate(params, data, level):
        x = jnp.linspace(0, 1, 65)
        true = jnp.sin(level * jnp.pi * x)
        return jnp.sqrt(jnp.mean((value(params, x)[0] - true) ** 2) / jnp.mean(true**2))

    return Task(
        "physics", levels=(1.0, 1.5, 2.0), steps=180 * scale.steps, metric="relative error of u",
        learned=(0.5, 0.8, 0.9), init=init, loss=loss, validate=validate, network=False,
    )  # fmt: skip
