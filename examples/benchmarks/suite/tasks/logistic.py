"""Logistic regression of breast tumours, whose features differ in scale.

Data: scikit-learn's breast cancer. Level: the features are multiplied by 10**(-level) to 10**level, evenly in the
exponent. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task, drawn, tumours


def make(scale: Scale) -> Task:
    def logits(params, x, level):
        spread = 10 ** (level * jnp.linspace(-1, 1, x.shape[-1]))
        return (x * spread) @ params["w"] + params["b"]

    def error(params, x, y, level):
        logit = logits(params, x, level).astype(jnp.float32)
        return jnp.mean(jax.nn.softplus(logit) - y.astype(jnp.float32) * logit)

    def loss(params, data, key, level):
        return error(params, *drawn(data, key, 32 * scale.batch), level)

    return Task(
        "logistic",
        levels=(0.0, 0.5, 1.0),
        steps=120 * scale.steps,
        metric="validation cross entropy, nats",
        learned=(0.3, 0.3, 0.4),
        init=lambda key, level: {"w": 0.1 * jax.random.normal(key, (30,)), "b": jnp.zeros(())},
        loss=loss,
        validate=lambda params, data, level: error(params, data["x_kept"], data["y_kept"], level),
        data=tumours(),
        network=False,
    )
