"""The lessons run as they stand, say what they teach in numbers, and end in a picture."""

import re
import runpy
import sys
from pathlib import Path

import jax
import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "examples" / "course").glob("[01]*.py"))
HANGUL = re.compile("[가-힣]")


@pytest.fixture
def learn(tmp_path, monkeypatch, capsys):
    """Run the lesson whose number this is as a script; what it printed, after a look at its picture."""

    def run(number: int) -> str:
        path, out = LESSONS[number - 1], tmp_path / "lesson.png"
        monkeypatch.setattr(sys, "argv", [str(path), "--out", str(out)])
        monkeypatch.syspath_prepend(str(path.parent))
        with (
            jax.enable_x64(True),  # the lessons switch it on for good
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            matplotlib.rc_context(),
        ):
            runpy.run_path(str(path), run_name="__main__")
            jax.config.update("jax_enable_x64", False)
        picture = imread(out)
        assert min(picture.shape[:2]) > 300 and np.std(picture[..., :3]) > 0.05, "an empty picture"
        return capsys.readouterr().out

    return run


def numbers(text: str, after: str) -> list[float]:
    """The number after these words, wherever they come."""
    found = re.findall(re.escape(after) + r"\D{0,3}?(-?\d[\d.]*(?:e[+-]?\d+)?)", text)
    assert found, f"{after!r} is not in\n{text}"
    return [float(x) for x in found]


def test_gradient_descent_comes_to_the_normal_equations(learn):
    said = learn(1)
    assert numbers(said, "W = ")[0] == numbers(said, "W = ")[-1] == 0.8152
    assert numbers(said, "b = ")[0] == numbers(said, "b = ")[-1] == 0.1873


def test_learning_rates_right_low_high_and_too_high(learn):
    said = learn(2)
    low, right, high, too_high = map(abs, numbers(said, "x = "))
    assert right < high < low < 1 < too_high
    np.testing.assert_allclose(numbers(said, "x = "), numbers(said, "formula "), rtol=1e-3)


def test_momentum_takes_fewer_steps_and_crosses_less(learn):
    said = learn(3)
    steps = [int(x) for x in re.findall(r"(\d+)스텝에 1e-3", said)]
    crossings = [int(x) for x in re.findall(r"(\d+)번 가로지름", said)]
    assert steps[0] > 3 * max(steps[1:]) and crossings[0] > 2 * max(crossings[1:])


def test_adaptive_rates_shrink_forget_or_need_none(learn):
    said = learn(4)
    first, later = numbers(said, "step 1 "), numbers(said, "step 100 ")
    assert later[0] == pytest.approx(first[0] / 10, rel=1e-3)  # 1 / sqrt(t)
    assert later[1] == pytest.approx(1.0, abs=0.01) and later[2] > first[2]
    ends = re.findall(r"AdaGrad (\(.*?\)), SGD (\(.*?\))", said)
    assert ends[0][0] == ends[1][0] and "e+" in ends[1][1], "the gradient's scale moves SGD alone"


def test_uncorrected_adam_steps_three_times_as_far(learn):
    said = learn(5)
    assert numbers(said, "ratio of the first steps: ") == [3.162]
    assert numbers(said, "Adam by hand: ")[0] < 1e-13


def test_falling_rates_settle_where_constant_ones_circle(learn):
    left = numbers(learn(6), "distance left ")
    constant, falling = left[::2], left[1::2]
    assert constant[2] > 3 * constant[1] > 0 and falling[2] < constant[2] / 5


def test_steps_grow_with_the_condition_number_but_newtons(learn):
    said = learn(7)
    descent, momentum, newton = (numbers(said, f"{name} ") for name in ("descent", "momentum", "newton"))
    assert descent[3] > 8 * descent[2] > 64 * descent[1] and descent[3] > 10 * momentum[3] and max(newton) <= 2
    assert numbers(said, "valley: ")[0] == pytest.approx(2508, rel=1e-3)


def test_lbfgs_needs_fewest_evaluations(learn):
    said = learn(8)
    gradient, conjugate, lbfgs = numbers(said, "함수 평가 / evaluations ")
    assert gradient > 10 * conjugate > 20 * lbfgs and "Converged" in said


def test_curve_is_nists(learn):
    said = learn(9)
    assert [float(x) for x in re.findall(r"b\d = (\S+) ±", said)] == numbers(said, "certified ")


def test_multipliers_are_what_loosening_gains(learn):
    said = learn(10)
    np.testing.assert_allclose(numbers(said, "multiplier "), numbers(said, "difference "), rtol=1e-3)
    assert "f = 17.014017. Converged" in said


def test_batch_normalization_widens_the_rates_and_holds_the_condition_number(learn):
    said = learn(11)
    first, last = numbers(said, "rates that train "), numbers(said, "… ")
    assert last[1] / first[1] > 2 * last[0] / first[0] and first[1] < first[0] / 5
    trained, evaluated = numbers(said, "loss "), numbers(said, "in evaluation ")
    assert trained[1] < trained[0] / 2 and trained[0] == evaluated[0] and evaluated[1] < 2 * trained[1]
    at_one, at_sixteen = numbers(said, "depth 1 "), numbers(said, "depth 16 ")
    assert max(at_one) < 200 and at_sixteen[0] > 1e6 and at_sixteen[1] < 5000


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_lesson_is_short_and_in_two_languages(path):
    text = path.read_text(encoding="utf-8")
    title, korean, english = text.split('"""')[1].split("\n", 1)[0], *text.split('"""')[1].split("\n\n")[1:3]
    assert title == f"{int(path.stem[:2])}과. " + title.split(". ", 1)[1] and f"Lesson {int(path.stem[:2])}." in title
    assert HANGUL.search(korean) and not HANGUL.search(english) and len(text.splitlines()) <= 110


def test_lessons_are_numbered_without_a_gap():
    assert [int(path.stem[:2]) for path in LESSONS] == list(range(1, 12))


def test_the_readmes_say_how_many_lessons_there_are_and_where():
    assert len(LESSONS) == 11
    for readme, number in (("README.md", "eleven scripts"), ("README.ko.md", "스크립트 열한 개")):
        text = (ROOT / readme).read_text(encoding="utf-8")
        assert "](examples/course)" in text and number in text, readme
