"""The examples run as a user runs them, in a process of their own, with warnings as errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[1] / "examples" / "digits.py"
METHODS = [
    "sgd", "momentum", "momentum, lr in velocity", "nesterov",
    "adagrad", "adadelta", "rmsprop", "rmsprop, bias-corrected", "rmsprop, centered, momentum",
    "adam", "adam, uncorrected", "adamw", "amsgrad",
    "nadam", "nadam, momentum decay", "nadamw", "adamax", "adamaxw",
]  # fmt: skip


def digits(cwd, *args):
    command = [sys.executable, "-W", "error", str(DIGITS), *map(str, args)]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A quick run, and the directory in which it ran."""
    cwd = tmp_path_factory.mktemp("digits")
    return digits(cwd, "--quick", "--out", cwd / "x.png"), cwd


def test_digits_succeeds_and_writes_only_its_picture(quick):
    run, cwd = quick
    assert run.returncode == 0, run.stderr
    assert [path.name for path in cwd.iterdir()] == ["x.png"]
    picture = (cwd / "x.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_digits_table_has_every_method(quick):
    run, _ = quick
    row = re.compile(r"^(\S.*?) {2,}([\d.e-]+) +(\d+|never) +([\d.]+)% +([\d.]+) us$", re.MULTILINE)
    table = {name: (float(rate), float(final), float(us)) for name, rate, _, final, us in row.findall(run.stdout)}
    assert sorted(table) == sorted(METHODS), run.stdout + run.stderr
    assert all(rate > 0 and us > 0 for rate, _, us in table.values())
    assert table["adam"][1] > 80
    finals = [final for _, final, _ in table.values()]
    assert finals == sorted(finals, reverse=True)
    # while the rate is constant the two forms of momentum are one method; rounding may move an image or two
    assert table["momentum"][1] == pytest.approx(table["momentum, lr in velocity"][1], abs=2)


def test_digits_draws_a_progress_bar_to_the_end(quick):
    run, _ = quick
    assert "100%|" in run.stderr


def test_digits_refuses_a_missing_directory_before_it_works(tmp_path):
    run = digits(tmp_path, "--out", tmp_path / "nowhere" / "x.png")
    assert run.returncode == 2
    assert "there is no directory" in run.stderr


HELP = """
import runpy, sys
for path in sys.argv[1:]:
    kept, sys.path[:] = list(sys.path), [path.rpartition("/")[0], *sys.path]
    sys.argv = [path, "--help"]
    try:
        runpy.run_path(path, run_name="__main__")
        print("ran on:", path)
    except SystemExit as end:
        print("code", end.code, path)
    sys.path[:] = kept
"""


def test_every_example_tells_how_it_is_run():
    """With --help, all in one process, so that JAX and the like are imported once."""
    paths = sorted(DIGITS.parent.rglob("*.py"))
    paths = [path for path in paths if path.parent.name != "suite"]  # a package, which `python -m jaxopt_ko bench` runs
    scripts = [str(path) for path in paths if "__main__" in path.read_text(encoding="utf-8")]
    assert len(scripts) >= 25
    command = [sys.executable, "-W", "error", "-c", HELP, *scripts]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    ends = [line for line in run.stdout.splitlines() if line.startswith(("code ", "ran on:"))]
    assert ends == [f"code 0 {script}" for script in scripts], run.stdout + run.stderr
    assert run.stdout.count("usage: ") == len(scripts), run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "ko"])
def test_find_rate_suggests_rates_that_train_and_draws_them(tmp_path, language):
    pytest.importorskip("koreanize_matplotlib")
    command = [
        sys.executable,
        str(DIGITS.with_name("find_rate.py")),
        "--language",
        language,
        "--out",
        tmp_path / "x.png",
    ]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    ends = [float(x) for x in re.findall(r"epochs at it ([\d.]+);", run.stdout)]
    assert run.stdout.count("learning rate 0.") == len(ends) == 4 and max(ends) < 0.6
    assert (tmp_path / "x.png").stat().st_size > 20_000
