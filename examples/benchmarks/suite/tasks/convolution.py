"""A convolutional network with normalization, on the digits as images with noise.

Two convolutions of 3 by 3, the second with stride 2, each followed by a normalization over the channels; the mean
over each quarter of the image; a linear layer. Convolutions are products with patches, so that lanes are
batches of products.
Level: standard deviation of the noise, of images in 0 to 1. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task, classify, cross_entropy, drawn, weights


def patches(x: jax.Array) -> jax.Array:
    """[n,h,w,9c]: every pixel's neighbours, with zeros around."""
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], -1)


def normalized(x: jax.Array, layer: dict) -> jax.Array:
    y = x.astype(jnp.float32)
    y = (y - y.mean(-1, keepdims=True)) * jax.lax.rsqrt(y.var(-1, keepdims=True) + 1e-5)
    return y.astype(x.dtype) * layer["scale"] + layer["shift"]


def make(scale: Scale) -> Task:
    c = 4 * scale.width

    def init(key, level):
        keys = jax.random.split(key, 3)
        rest = lambda n: {"scale": jnp.ones(n), "shift": jnp.zeros(n)}  # noqa: E731
        return {
            "first": {"w": weights(keys[0], 9, c, 2**0.5), **rest(c)},
            "second": {"w": weights(keys[1], 9 * c, 2 * c, 2**0.5), **rest(2 * c)},
            "head": {"w": weights(keys[2], 8 * c, 10), "b": jnp.zeros(10)},
        }

    def apply(params, x, level):
        x = x.reshape(-1, 8, 8, 1)
        x = jax.nn.relu(normalized(patches(x) @ params["first"]["w"], params["first"]))
        x = jax.nn.relu(normalized(patches(x)[:, ::2, ::2] @ params["second"]["w"], params["second"]))
        x = x.reshape(-1, 2, 2, 2, 2, 2 * c).mean((2, 4))
        return x.reshape(len(x), -1) @ params["head"]["w"] + params["head"]["b"]

    def loss(params, data, key, level):
        key, noise = jax.random.split(key)
        x, y = drawn(data, key, 16 * scale.batch)
        return cross_entropy(apply(params, x + (level * jax.random.normal(noise, x.shape)).astype(x.dtype), level), y)

    def validate(params, data, level):
        x = data["x_kept"][:128]
        x = x + (level * jax.random.normal(jax.random.key(0), x.shape)).astype(x.dtype)
        return cross_entropy(apply(params, x, level), data["y_kept"][:128])

    return classify(
        "convolution", init, apply, scale, loss=loss, validate=validate,
        levels=(0.0, 0.2, 0.4), steps=120 * scale.steps, learned=(1.0, 1.5, 2.0),
    )  # fmt: skip
