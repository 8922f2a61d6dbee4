"""A policy gradient: a weight on a line is pushed left or right towards 0, in many environments at once.

x' = x + 0.2 v, v' = v + 0.2 (push + g x + wind), reward -x**2 - 0.1 v**2; REINFORCE (Williams 1992) with the mean over
the environments as baseline and rewards to go. Level: g, by which the weight falls away from 0. Target: what tuned
NadamW reaches. Validation follows the mean push, without wind.
"""

import jax
import jax.numpy as jnp

from suite.task import Scale, Task, layers, perceptron

HORIZON = 16


def make(scale: Scale) -> Task:
    environments = 32 * scale.batch

    def move(state, push, wind, level):
        x, v = state[..., 0], state[..., 1]
        return jnp.stack([x + 0.2 * v, v + 0.2 * (push + level * x + wind)], -1)

    def cost(state):
        return jnp.sum(state**2 * jnp.array([1.0, 0.1]), -1)

    def loss(params, data, key, level):
        begin, noise, toss = jax.random.split(key, 3)
        winds = 0.3 * jax.random.normal(noise, (HORIZON, environments))
        tosses = jax.random.uniform(toss, (HORIZON, environments))

        def step(state, given):
            wind, toss = given
            logit = perceptron(params, state, jnp.tanh)[:, 0]
            right = toss < jax.nn.sigmoid(logit)
            state = move(state, jnp.where(right, 1.0, -1.0), wind, level)
            return jax.lax.stop_gradient(state), (jax.nn.log_sigmoid(jnp.where(right, logit, -logit)), cost(state))

        state = jax.random.uniform(begin, (environments, 2), minval=-1.0, maxval=1.0)
        _, (logs, costs) = jax.lax.scan(step, state, (winds, tosses))
        to_go = jax.lax.stop_gradient(jnp.cumsum(costs[::-1], 0)[::-1])
        return jnp.mean(logs * (to_go - to_go.mean(1, keepdims=True)))

    def validate(params, data, level):
        def step(state, _):
            push = 2 * jax.nn.sigmoid(perceptron(params, state, jnp.tanh)[:, 0]) - 1
            state = move(state, push, 0.0, level)
            return state, cost(state)

        ends = jnp.linspace(-1, 1, 6)
        state = jnp.stack(jnp.meshgrid(ends, ends), -1).reshape(-1, 2)
        return jnp.mean(jax.lax.scan(step, state, None, HORIZON)[1])

    return Task(
        "policy", levels=(0.0, 0.5, 1.0), steps=120 * scale.steps, metric="mean cost of a step",
        learned=(0.8, 2.0, 8.0), init=lambda key, level: layers(key, (2, 16 * scale.width, 1), 1.0),
        loss=loss, validate=validate, network=False,
    )  # fmt: skip
