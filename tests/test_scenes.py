"""What the pictures are to show, in numbers."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import scenes

import jaxopt_ko as jo

GLOBAL, LOCAL = -0.078998, 1.836141  # the minima of the quintic


def test_sgd_zig_zags_and_momentum_does_not():
    paths = scenes.zig_zag()
    counts = {name: scenes.crossings(path) for name, path in paths.items()}
    assert counts["sgd"] >= 38 and max(counts[m] for m in ("momentum", "nesterov", "adam")) <= 10
    assert all(np.linalg.norm(paths[m][-1]) < 1.5 for m in ("sgd", "momentum", "nesterov", "adam"))
    assert all(np.abs(path[-1, 1]) < 0.2 and abs(path[-1, 0]) < 4 for path in paths.values())


def test_sgd_stays_at_the_saddle_and_the_others_leave():
    paths = scenes.saddle_point()
    left = {name: float(np.max(np.abs(path[:, 1]))) for name, path in paths.items()}
    assert left["sgd"] < 0.01 and abs(paths["sgd"][-1, 0]) < 0.2
    assert all(distance > 0.5 for name, distance in left.items() if name != "sgd"), left


def test_learning_rates_on_the_parabola():
    runs = {name: np.abs(run) for name, run in scenes.learning_rates().items()}
    assert runs["right"][10] < 0.01 < runs["low"][10] and runs["low"][-1] < runs["low"][0]
    assert np.all(np.diff(runs["too high"]) > 0) and runs["high"][-1] < 0.05
    signs = np.sign(scenes.learning_rates()["high"])
    assert np.all(signs[1:] == -signs[:-1])
    below, above = scenes.paths("sgd", scenes.parabola, np.ones((1, 1)), np.array([0.99, 1.01]), 300)[0, :, -1, 0]
    assert abs(below) < 0.01 and abs(above) > 100


def test_the_start_decides_which_minimum_is_found():
    starts = np.linspace(-0.9, 2.4, 12)
    ends = scenes.local_and_global(starts)[:, -1]
    found = np.where(np.abs(ends - GLOBAL) < 0.01, "global", np.where(np.abs(ends - LOCAL) < 0.01, "local", "none"))
    top = 1.1  # about where the maximum between them is
    assert set(found[starts < top - 0.2]) == {"global"} and set(found[starts > top + 0.2]) == {"local"}
    with jax.enable_x64(True):
        slope = jax.grad(lambda x: scenes.quintic(x[None]))
        assert abs(float(slope(jnp.asarray(GLOBAL)))) < 1e-4 and abs(float(slope(jnp.asarray(LOCAL)))) < 1e-4
    rolled = scenes.local_and_global(np.array([2.4]), method="momentum")[0]
    assert abs(rolled[-1] - GLOBAL) < 0.05  # over the hill, by its own momentum


def test_batches_are_noisier_the_smaller_and_end_at_the_least_squares():
    paths = scenes.batches()
    assert {name: len(path) - 1 for name, path in paths.items()} == {"batch": 30, "mini-batch": 60, "stochastic": 300}
    best = np.polyfit(scenes.REGRESSION_X, scenes.REGRESSION_Y, 1)
    losses = {n: np.asarray(jax.vmap(scenes.regression_loss)(jnp.asarray(p))) for n, p in paths.items()}
    rises = {n: np.sum(np.maximum(np.diff(loss), 0)) for n, loss in losses.items()}
    assert rises["batch"] < 1e-6 < rises["mini-batch"] < rises["stochastic"]
    assert np.linalg.norm(paths["stochastic"][-1] - best) < 0.5
    least = float(scenes.regression_loss(jnp.asarray(best, jnp.float32)))
    assert all(loss[-1] < 2 * least + 0.2 for loss in losses.values()), (losses, least)


def test_the_first_uncorrected_step_of_adam_is_three_times_as_long():
    steps = scenes.bias_correction()
    assert steps["adam_uncorrected"][0] / steps["adam"][0] == pytest.approx(0.1 / np.sqrt(0.001), rel=1e-4)


def test_steps_grow_with_the_condition_number_and_its_root():
    counts = scenes.condition_numbers(np.array([10.0, 1000.0]))
    assert 60 < counts["sgd"][1] / counts["sgd"][0] < 140
    assert 6 < counts["momentum"][1] / counts["momentum"][0] < 16


@pytest.mark.parametrize("name", ["beale", "long_valley", "saddle"])
def test_a_race_goes_down(name):
    fun = jo.landscapes.LANDSCAPES[name].fun
    for method, path in scenes.race(name).items():
        values = np.asarray(jax.vmap(fun)(jnp.asarray(path)))
        assert path.shape == (151, 2) and values[-1] < values[0], method
