"""A character language model: a gateless recurrent network, on Python source.

h' = tanh(h A + embedding), logits = h' B. Level: the gain of A at the start; above 1 gradients explode through time.
Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task, cross_entropy, kept_windows, text, weights, windows

CHARACTERS = 64


def make(scale: Scale) -> Task:
    d, length = 32 * scale.width, 16 if scale.width == 1 else 64

    def init(key, level):
        keys = jax.random.split(key, 3)
        return {
            "embedding": 0.3 * jax.random.normal(keys[0], (CHARACTERS, d)),
            "A": weights(keys[1], d, d, level),
            "bias": jnp.zeros(d),
            "head": weights(keys[2], d, CHARACTERS, 0.3),
        }

    def error(params, pieces):
        def step(h, x):
            h = jnp.tanh(h @ params["A"] + x + params["bias"])
            return h, h

        x = jnp.moveaxis(params["embedding"][pieces[:, :-1]], 1, 0)
        _, hidden = jax.lax.scan(step, jnp.zeros_like(x[0]), x)
        return cross_entropy(jnp.moveaxis(hidden, 0, 1) @ params["head"], pieces[:, 1:])

    return Task(
        "recurrent",
        levels=(1.0, 2.0, 4.0),
        steps=150 * scale.steps,
        metric="validation cross entropy, nats",
        learned=(3.0, 3.2, 3.4),
        init=init,
        loss=lambda params, data, key, level: error(params, windows(data["train"], key, 8 * scale.batch, length)),
        validate=lambda params, data, level: error(params, kept_windows(data["kept"], 24, length)),
        data=text(),
        tokens=("embedding", "head"),
    )
