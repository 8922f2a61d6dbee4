"""An autoencoder of the digits with a narrow waist.

Level: how many of the waist's eight units are open. Target: what tuned NadamW reaches.
"""

import jax.numpy as jnp

from suite.task import Scale, Task, digits, drawn, layers, perceptron

WAIST = 8


def make(scale: Scale) -> Task:
    h = 32 * scale.width

    def error(params, x, level):
        code = perceptron(params[:2], x, jnp.tanh)
        code = code * (jnp.arange(WAIST) < level).astype(code.dtype)
        return jnp.mean((perceptron(params[2:], code, jnp.tanh) - x).astype(jnp.float32) ** 2)

    return Task(
        "autoencoder",
        levels=(8.0, 4.0, 2.0),
        steps=150 * scale.steps,
        metric="validation mean square error of a pixel",
        learned=(0.07, 0.07, 0.07),
        init=lambda key, level: layers(key, (64, h, WAIST, h, 64), 1.0),
        loss=lambda params, data, key, level: error(params, drawn(data, key, 32 * scale.batch)[0], level),
        validate=lambda params, data, level: error(params, data["x_kept"], level),
        data=digits(),
    )
