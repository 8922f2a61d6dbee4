"""A mixture of four experts, of which a router takes one, on points of four clusters with a linear rule each.

The chosen expert's output is multiplied by the router's probability, as in Switch Transformers, arXiv:2101.03961,
equation 2, and its load balance is rewarded, equation 4 with coefficient 0.01.
Level: the radius of a cluster over the distance of the centres from 0. Target: what tuned NadamW reaches.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task, weights

EXPERTS, INPUTS, OUTPUTS = 4, 16, 4


def make(scale: Scale) -> Task:
    h = 8 * scale.width
    centres = jax.random.normal(jax.random.key(1), (EXPERTS, INPUTS))
    rules = weights(jax.random.key(2), EXPERTS * INPUTS, OUTPUTS, EXPERTS**0.5).reshape(EXPERTS, INPUTS, OUTPUTS)

    def init(key, level):
        keys = jax.random.split(key, 3)
        stack = lambda key, m, n: jax.vmap(lambda k: weights(k, m, n))(jax.random.split(key, EXPERTS))  # noqa: E731
        return {
            "router": weights(keys[0], INPUTS, EXPERTS),
            "up": stack(keys[1], INPUTS, h),
            "down": stack(keys[2], h, OUTPUTS),
        }

    def points(data, key, count, level):
        which, key = jax.random.split(key)
        cluster = jax.random.randint(which, (count,), 0, EXPERTS)
        x = data["centres"][cluster] + level * jax.random.normal(key, (count, INPUTS)).astype(data["centres"].dtype)
        return x.astype(data["centres"].dtype), jnp.einsum("ni,nio->no", x, data["rules"][cluster])

    def error(params, x, y):
        chance = jax.nn.softmax((x @ params["router"]).astype(jnp.float32))
        chosen = jax.nn.one_hot(chance.argmax(-1), EXPERTS)
        hidden = jax.nn.gelu(jnp.einsum("ni,eih->neh", x, params["up"]))
        outputs = jnp.einsum("neh,eho->neo", hidden, params["down"]).astype(jnp.float32)
        found = jnp.einsum("neo,ne->no", outputs, chosen * chance)
        balance = EXPERTS * jnp.sum(chosen.mean(0) * chance.mean(0))
        return jnp.mean((found - y) ** 2), balance

    def loss(params, data, key, level):
        wrong, balance = error(params, *points(data, key, 64 * scale.batch, level))
        return wrong + 0.01 * balance

    return Task(
        "experts", levels=(0.2, 0.5, 1.0), steps=150 * scale.steps, metric="validation mean square error",
        learned=(0.8, 1.0, 1.4), init=init, loss=loss, data={"centres": centres, "rules": rules},
        validate=lambda params, data, level: error(params, *points(data, jax.random.key(3), 256, level))[0],
        tokens=("router",),
    )  # fmt: skip
