"""The digits with gradients that are some steps old, as of workers that do not wait for each other.

Level: the delay in steps. Target: what tuned NadamW reaches.
"""

from suite.task import Scale, Task, classify, layers, perceptron

LEVELS = (1.0, 4.0, 8.0)


def make(scale: Scale) -> Task:
    return classify(
        "delayed",
        init=lambda key, level: layers(key, (64, 16 * scale.width, 10)),
        apply=lambda params, x, level: perceptron(params, x),
        scale=scale,
        levels=LEVELS,
        steps=120 * scale.steps,
        learned=(0.7, 1.0, 1.5),
        delay=int(max(LEVELS)),
    )
