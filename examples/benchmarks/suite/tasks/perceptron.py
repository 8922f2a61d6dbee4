"""A perceptron of one hidden layer on the digits, some of whose training labels are wrong.

Level: the share of labels drawn anew in every batch; validation labels are right. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task, classify, cross_entropy, drawn, layers, perceptron


def make(scale: Scale) -> Task:
    def loss(params, data, key, level):
        key, which, wrong = jax.random.split(key, 3)
        x, y = drawn(data, key, 32 * scale.batch)
        y = jnp.where(jax.random.uniform(which, y.shape) < level, jax.random.randint(wrong, y.shape, 0, 10), y)
        return cross_entropy(perceptron(params, x), y)

    return classify(
        "perceptron",
        init=lambda key, level: layers(key, (64, 32 * scale.width, 10)),
        apply=lambda params, x, level: perceptron(params, x),
        scale=scale,
        loss=loss,
        levels=(0.0, 0.25, 0.5),
        steps=120 * scale.steps,
        learned=(0.5, 1.0, 1.5),
    )
