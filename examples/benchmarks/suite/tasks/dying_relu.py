"""A perceptron on the digits most of whose rectifiers start out off.

Level: hidden biases start at minus this; weights' outputs are of size 1. Target: what tuned NadamW reaches.
"""

from suite.task import Scale, Task, classify, layers, perceptron


def make(scale: Scale) -> Task:
    h = 32 * scale.width

    def init(key, level):
        params = layers(key, (64, h, h, 10))
        return [{"w": p["w"], "b": p["b"] - level} if i < 2 else p for i, p in enumerate(params)]

    return classify(
        "dying_relu",
        init=init,
        apply=lambda params, x, level: perceptron(params, x),
        scale=scale,
        levels=(0.2, 0.4, 0.6),
        steps=120 * scale.steps,
        learned=(1.0, 1.5, 2.2),
    )
