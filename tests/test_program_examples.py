"""The examples of quadratic programs run as a user runs them, in a process of their own, with warnings as errors."""

import re
from itertools import combinations

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.svm import SVC
from test_solver_examples import EXAMPLES, example


@pytest.fixture
def module(monkeypatch):
    """Imports an example; what it sets in the environment is forgotten afterwards."""
    monkeypatch.syspath_prepend(EXAMPLES)
    for name, value in (("NPROC", "16"), ("OPENBLAS_NUM_THREADS", "1")):
        monkeypatch.setenv(name, value)
    return __import__


def ran(name, cwd):
    """(what it printed, its picture)"""
    run = example(name, cwd, "--out", cwd / "x.png")
    assert run.returncode == 0, run.stderr
    assert [path.name for path in cwd.iterdir()] == ["x.png"]
    return run.stdout, (cwd / "x.png").read_bytes()


def number(pattern, text):
    return float(re.search(pattern.replace("#", r"(-?[\d.]+(?:e[-+]\d+)?)"), text).group(1))


@pytest.mark.parametrize("name", ["portfolio", "support_vectors"])
def test_a_missing_directory_is_refused_before_the_work(name, module, tmp_path, refusal):
    out, err = refusal(module(name), "--out", tmp_path / "nowhere" / "x.png")
    assert "there is no directory" in err and not out


# ---- portfolios -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def portfolios(tmp_path_factory):
    return ran("portfolio.py", tmp_path_factory.mktemp("portfolio"))


def cheapest(S, A, b):
    """min w'Sw with A w = b, w >= 0: the best of the solutions without bounds for each set of assets held."""
    best, least, n, rows = None, np.inf, len(S), len(b)
    for size in range(1, n + 1):
        for held in map(list, combinations(range(n), size)):
            system = np.block([[S[np.ix_(held, held)], A[:, held].T], [A[:, held], np.zeros((rows, rows))]])
            w = np.zeros(n)
            w[held] = np.linalg.lstsq(system, np.append(np.zeros(size), b))[0][:size]
            if w.min() >= -1e-12 and np.allclose(A @ w, b, rtol=0, atol=1e-9) and w @ S @ w < least:
                best, least = w, w @ S @ w
    return best


def test_portfolios_are_those_of_an_enumeration(portfolios, module):
    example = module("portfolio")
    returns = example.load()
    m, S, ones = 12 * returns.mean(axis=0), 12 * np.cov(returns.T), np.ones(8)
    targets = np.linspace(m.min(), m.max(), 6)
    v = cheapest(S, (m - example.RISKLESS)[None], np.ones(1))
    weights = [*np.eye(8), cheapest(S, ones[None], np.ones(1)), v / v.sum()]
    weights += [cheapest(S, np.stack([ones, m]), np.append(1, target)) for target in targets]
    rows = re.findall(r"^(?:\w[\w&. ]*?) {2,}((?:\d+\.\d+ *){11})$", portfolios[0], re.MULTILINE)
    printed = np.float64([row.split() for row in rows])
    expected = [
        [100 * m @ w, 100 * np.sqrt(w @ S @ w), (m @ w - 0.012) / np.sqrt(w @ S @ w), *100 * w] for w in weights
    ]
    assert printed.shape == (16, 11), portfolios[0]
    np.testing.assert_allclose(printed, expected, rtol=0, atol=0.0051)


def test_portfolios_data_are_months_of_every_asset(module):
    returns = module("portfolio").load()
    assert returns.shape == (213, 8)
    assert np.all(np.isfinite(returns))
    apple, index = returns[0, -1], returns[0, 0]  # September and October 2004, as they stand in the file
    np.testing.assert_allclose(apple, 0.800052285194397 / 0.5916416049003601 - 1, rtol=1e-12)
    np.testing.assert_allclose(index, 1130.199951171875 / 1114.5799560546875 - 1, rtol=1e-12)


def test_frontier_is_convex_and_its_slope_the_multiplier(portfolios):
    text, _ = portfolios
    assert "205 of 205 programs converged" in text
    assert "200 of 200 secants" in text
    rises, up, falls, down = re.search(r"rises at (\d+) of (\d+) steps .* falls at (\d+) of (\d+) below", text).groups()
    assert rises == up and falls == down and int(up) + int(down) == 199  # all steps but that over the least variance
    assert number(r"conditions #\n", text) < 1e-11
    assert number(r"above the least variance, by # at least", text) > 0
    assert number(r"below, by # at least", text) > 0
    assert number(r"second differences of the risk are at least #:", text) > 0
    assert 0 < number(r"multipliers and derivatives differ by # at most", text) < 1e-6
    assert abs(number(r"slope at the least variance #,", text)) < 1e-7
    slope = number(r"slope at the largest Sharpe ratio #,", text)
    np.testing.assert_allclose(slope, number(r"without risk #\n", text), rtol=1e-8)


def test_frontier_is_drawn(portfolios):
    _, picture = portfolios
    assert picture.startswith(b"\x89PNG")
    assert 20_000 < len(picture) < 100_000


# ---- support vectors ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return ran("support_vectors.py", tmp_path_factory.mktemp("machine"))


@pytest.mark.slow
def test_machine_is_that_of_libsvm(machine):
    text, _ = machine
    table = {name: (ours, theirs) for name, ours, theirs in re.findall(r"^(\w[\w ]*?) {2,}(\S+) +(\S+)$", text, re.M)}
    both = {name: np.float64(values) for name, values in table.items() if name in text.split("LIBSVM\n---")[1]}
    for name in ("support vectors", "of these at C", "test accuracy"):
        assert both[name][0] == both[name][1] > 0, name
    np.testing.assert_allclose(*both["dual objective"], rtol=1e-9)
    np.testing.assert_allclose(*both["bias"], rtol=1e-6)
    assert both["test accuracy"][0] > 0.94
    assert both["support vectors"][0] < 120
    assert np.all(np.abs(both["duality gap"]) < (1e-9, 1e-4))
    assert np.all(both["widest violation"] < (1e-8, 1e-5))
    assert number("f of test points differs by # at most", text) < 1e-5
    assert number("f of points left out differs from LIBSVM's by # at most", text) < 1e-4
    assert number("slacks differ by # at most", text) < 1e-9
    assert "78 of 78 programs converged" in text


@pytest.mark.slow
def test_machines_of_every_penalty_are_those_of_libsvm(machine, module):
    text, _ = machine
    rows = np.float64(re.findall(r"^ +([\d.]+) +(0\.\d+) +([01]\.\d+) +(\d+) +(\d+)$", text, re.MULTILINE))
    assert len(rows) == 13, text
    (x, y), _ = module("support_vectors").load()
    assert x.shape == (400, 30)
    np.testing.assert_allclose([x.mean(axis=0), x.std(axis=0)], [np.zeros(30), np.ones(30)], rtol=0, atol=1e-12)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for C, right, trained, vectors, bound in rows:
        svc = SVC(C=C, gamma=1 / 30, tol=1e-8)
        assert right == pytest.approx(np.mean(cross_val_predict(svc, x, y, cv=folds) == y), abs=1e-4)
        svc.fit(x, y)
        assert trained == pytest.approx(svc.score(x, y), abs=1e-4)
        assert vectors == len(svc.support_)
        assert bound == np.sum(np.abs(svc.dual_coef_) >= (1 - 1e-6) * C)
    right = rows[:, 1]
    near = right >= right.max() - np.sqrt(right.max() * (1 - right.max()) / 400)
    assert number("C = #, the smallest within", text) == rows[near][0, 0]


@pytest.mark.slow
def test_machine_is_drawn(machine):
    _, picture = machine
    assert picture.startswith(b"\x89PNG")
    assert 20_000 < len(picture) < 100_000
