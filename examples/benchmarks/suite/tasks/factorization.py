"""A matrix of rank four completed from some of its entries, as a product of two factors.

Level: the condition number of the matrix, whose singular values fall geometrically. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task

RANK = 4


def make(scale: Scale) -> Task:
    m, n = 32 * scale.width, 24 * scale.width
    left = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (m, RANK)))[0]
    right = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (n, RANK)))[0]
    known = jax.random.uniform(jax.random.key(2), (m, n)) < 0.7

    def matrix(data, level):
        values = level ** -jnp.linspace(0, 1, RANK)
        return (data["left"] * values / jnp.linalg.norm(values)) @ data["right"].T * (m * n) ** 0.5  # entries of size 1

    def init(key, level):
        a, b = jax.random.split(key)
        return {"u": 0.3 * jax.random.normal(a, (m, RANK)), "v": 0.3 * jax.random.normal(b, (n, RANK))}

    def loss(params, data, key, level):
        seen = data["known"] & (jax.random.uniform(key, (m, n)) < 0.3)
        wrong = params["u"] @ params["v"].T - matrix(data, level)
        return jnp.sum(jnp.where(seen, wrong, 0) ** 2) / jnp.maximum(jnp.sum(seen), 1)

    return Task(
        "factorization",
        levels=(1.0, 5.0, 25.0),
        steps=120 * scale.steps,
        metric="mean square error of all entries, which are of size 1",
        learned=(0.5, 0.5, 0.5),
        floor=1e-4,
        init=init,
        loss=loss,
        validate=lambda params, data, level: jnp.mean((params["u"] @ params["v"].T - matrix(data, level)) ** 2),
        data={"left": left, "right": right, "known": known},
        network=False,
    )
