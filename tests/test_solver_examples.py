"""The solvers' examples run as a user runs them, in a process of their own, with warnings as errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data import nist_problems

EXAMPLES = Path(__file__).parents[1] / "examples"
BETAS = ("fletcher-reeves", "polak-ribiere", "hestenes-stiefel", "dai-yuan", "hager-zhang")
METHODS = [
    "gradient descent", "momentum", "nesterov", "adagrad", "rmsprop", "rmsprop, centered, momentum", "adadelta",
    "adam", "adamax", "nadam", "amsgrad",
    *(f"nonlinear_cg, {beta}" for beta in BETAS),
    "bfgs", "lbfgs", "lbfgsb", "newton", "newton_cg", "cg",
    "gauss_newton", "gauss_newton, line", "levenberg_marquardt",
]  # fmt: skip


def example(name, cwd, *args):
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, args)]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


# ---- the straight line ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("line")
    run = example("linear_regression.py", cwd)
    assert run.returncode == 0, run.stderr
    assert not list(cwd.iterdir())
    return run.stdout


def test_line_is_the_same_by_every_method(line):
    row = re.compile(r"^(\S.*?) {2,}([\d.]+) +([\d.]+) +([\d.]+) +(\d+) +(\d+) +(\d+) +(\d+) +(\S.*)$", re.MULTILINE)
    table = {name: rest for name, *rest in row.findall(line)}
    assert list(table) == METHODS, line
    for name, (W, b, loss, steps, functions, gradients, products, status) in table.items():
        assert (W, b, loss) == ("0.8152", "0.1873", "0.15025988"), name
        assert status.startswith("Converged"), name
        assert int(steps) > 0 and int(functions) >= int(gradients) > 0, name
        assert (int(products) > 0) == (name in ("newton", "newton_cg", "cg")), name


def test_line_is_that_of_the_normal_equations(line):
    assert line.startswith("Normal equations: W = 0.8152, b = 0.1873, loss = 0.15025988\n")
    difference = float(re.search(r"from the normal equations: (\S+)\.\n", line).group(1))
    assert 0 < difference < 1e-6


def test_line_refuses_no_steps(refusal, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import linear_regression

    out, err = refusal(linear_regression, "--max-steps", 0)
    assert "at least one step" in err and not out


# ---- the curves of NIST ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("curves")
    run = example("nist_fit.py", cwd, "--out", cwd / "x.png")
    assert run.returncode == 0, run.stderr
    assert [path.name for path in cwd.iterdir()] == ["x.png"]
    return run.stdout, (cwd / "x.png").read_bytes()


def test_curves_and_deviations_are_the_certified_ones(curves):
    text, _ = curves
    rows = re.findall(r"^b\d +(\S+) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+) to +(\S+)$", text, re.MULTILINE)
    b, certified, digits, s, deviation, sure, low, high = np.float64(rows).T
    assert len(b) == 7 + 3, text
    np.testing.assert_allclose(b, certified, rtol=1e-9)
    np.testing.assert_allclose(s, deviation, rtol=1e-8)
    assert digits.min() > 9 and sure.min() > 8
    np.testing.assert_allclose((low + high) / 2, b, rtol=1e-6)
    student = np.repeat([2.0422725, 2.0369333], [7, 3])  # 97.5 % of Student's t with 30 and 32 degrees of freedom
    np.testing.assert_allclose((high - low) / 2, student * s, rtol=1e-3)
    assert text.count("Converged") == 2


def test_curves_are_drawn(curves):
    _, picture = curves
    assert picture.startswith(b"\x89PNG")
    assert 20_000 < len(picture) < 100_000


def test_curves_refuse_a_missing_directory_before_they_work(tmp_path, refusal, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import nist_fit

    out, err = refusal(nist_fit, "--out", tmp_path / "nowhere" / "x.png")
    assert "there is no directory" in err and not out


@pytest.mark.parametrize("which", [0, 1])
def test_curves_numbers_are_those_of_the_files(which, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from nist_fit import PROBLEMS

    problem = PROBLEMS[which]
    name = problem.title.split(":")[0]
    y, x, starts, certified = nist_problems.load(name)
    for ours, theirs in ((problem.y, y), (problem.x, x), (problem.start, starts[0]), (problem.certified, certified)):
        np.testing.assert_array_equal(ours, theirs)
    lines = (nist_problems.FOLDER / f"{name}.dat").read_text(encoding="ascii")
    found = re.findall(r"^ *b\d = .* (\S+)$", lines, re.MULTILINE)
    np.testing.assert_array_equal(problem.deviations, np.float64(found))
    np.testing.assert_array_equal(
        problem.sigma, float(re.search(r"Residual Standard Deviation: +(\S+)", lines).group(1))
    )
