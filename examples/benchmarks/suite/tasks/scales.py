"""A perceptron on the digits whose layers are written in units that do not match.

The first layer's weights count 10**level times what is stored, the second's 10**(-level) times; the function at the
start is the usual one. Level: that exponent. Target: what tuned NadamW reaches.
"""

import jax.numpy as jnp

from suite.task import Scale, Task, classify, layers, perceptron


def units(params, level, sign):
    factors = (10 ** (sign * level), 10 ** (-sign * level), jnp.ones(()))
    return [
        {name: p * jnp.asarray(factor).astype(p.dtype) for name, p in layer.items()}
        for layer, factor in zip(params, factors, strict=True)
    ]


def make(scale: Scale) -> Task:
    h = 24 * scale.width
    return classify(
        "scales",
        init=lambda key, level: units(layers(key, (64, h, h, 10)), level, -1),
        apply=lambda params, x, level: perceptron(units(params, level, 1), x),
        scale=scale,
        levels=(0.25, 0.5, 1.0),
        steps=120 * scale.steps,
        learned=(0.8, 1.2, 2.0),
    )
