"""Classes of tokens learned through an embedding, most of whose rows have no gradient in a batch.

Token i is drawn with probability proportional to (i + 1)**-level, and every token counts alike in validation.
Level: that exponent. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task, cross_entropy, weights

CLASSES = 8


def make(scale: Scale) -> Task:
    tokens, d = 128 * scale.width, 8 * scale.width
    classes = jax.random.randint(jax.random.key(0), (tokens,), 0, CLASSES)

    def init(key, level):
        a, b = jax.random.split(key)
        return {"embedding": 0.3 * jax.random.normal(a, (tokens, d)), "head": weights(b, d, CLASSES)}

    def error(params, token, data):
        return cross_entropy(params["embedding"][token] @ params["head"], data["classes"][token])

    def loss(params, data, key, level):
        ends = jnp.cumsum(jnp.arange(1.0, tokens + 1) ** -level)
        drawn = jnp.searchsorted(ends, ends[-1] * jax.random.uniform(key, (32 * scale.batch,)))
        return error(params, jnp.minimum(drawn, tokens - 1), data)

    return Task(
        "rare_tokens",
        levels=(0.5, 1.0, 1.5),
        steps=150 * scale.steps,
        metric="cross entropy, nats, every token counted alike",
        learned=(1.5, 1.8, 2.0),
        floor=1e-3,
        init=init,
        loss=loss,
        validate=lambda params, data, level: error(params, jnp.arange(tokens), data),
        data={"classes": classes},
        tokens=("embedding", "head"),
    )
