"""A character language model: a transformer of one block (two at the large scale), on Python source.

Normalization before attention and perceptron, learned positions, causal attention.
Level: the share of characters of the training text that are drawn anew. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task, cross_entropy, kept_windows, text, weights, windows

CHARACTERS, HEADS = 64, 2


def normalized(x: jax.Array) -> jax.Array:
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.mean(y**2, -1, keepdims=True) + 1e-6)).astype(x.dtype)


def make(scale: Scale) -> Task:
    d, length, depth = 16 * scale.width, 16 if scale.width == 1 else 128, 1 if scale.width == 1 else 2

    def block(key):
        keys = jax.random.split(key, 4)
        sizes = {"qkv": (d, 3 * d), "out": (d, d), "up": (d, 4 * d), "down": (4 * d, d)}
        return {name: weights(k, *size) for k, (name, size) in zip(keys, sizes.items(), strict=True)}

    def init(key, level):
        keys = jax.random.split(key, depth + 3)
        return {
            "embedding": 0.1 * jax.random.normal(keys[0], (CHARACTERS, d)),
            "positions": 0.1 * jax.random.normal(keys[1], (length, d)),
            "blocks": [block(k) for k in keys[3:]],
            "head": weights(keys[2], d, CHARACTERS, 0.1),
        }

    def attention(p, x):
        q, k, v = jnp.moveaxis((x @ p["qkv"]).reshape(*x.shape[:2], 3, HEADS, d // HEADS), 2, 0)
        scores = jnp.einsum("bihd,bjhd->bhij", q, k).astype(jnp.float32) / (d // HEADS) ** 0.5
        scores = jnp.where(jnp.tri(x.shape[1], dtype=bool), scores, -1e30)
        mixed = jnp.einsum("bhij,bjhd->bihd", jax.nn.softmax(scores).astype(x.dtype), v)
        return mixed.reshape(x.shape) @ p["out"]

    def error(params, pieces, labels):
        x = params["embedding"][pieces[:, :-1]] + params["positions"]
        for p in params["blocks"]:
            x = x + attention(p, normalized(x))
            x = x + jax.nn.gelu(normalized(x) @ p["up"]) @ p["down"]
        return cross_entropy(normalized(x) @ params["head"], labels[:, 1:])

    def loss(params, data, key, level):
        key, which, wrong = jax.random.split(key, 3)
        true = windows(data["train"], key, 8 * scale.batch, length)
        drawn = jax.random.randint(wrong, true.shape, 0, CHARACTERS)
        pieces = jnp.where(jax.random.uniform(which, true.shape) < level, drawn, true)
        return error(params, pieces, pieces)

    def validate(params, data, level):
        pieces = kept_windows(data["kept"], 24, length)
        return error(params, pieces, pieces)

    return Task(
        "transformer", levels=(0.0, 0.1, 0.2), steps=150 * scale.steps, metric="validation cross entropy, nats",
        learned=(3.0, 3.2, 3.4), init=init, loss=loss, validate=validate, data=text(),
        tokens=("embedding", "positions", "head"),
    )  # fmt: skip
