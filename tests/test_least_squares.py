"""Least squares: NIST's and MGH's problems, boxes, losses, products alone; lanes, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data import mgh_more, mgh_problems, nist_problems

from jaxopt_ko.solve import least_squares
from jaxopt_ko.solvers.least_squares import gauss_newton, levenberg_marquardt

MGH = {p["name"]: p for p in [*mgh_problems.PROBLEMS, *mgh_more.PROBLEMS]}
T = np.linspace(0.0, 4.0, 9)
START = {"scale": np.ones(()), "rate": np.ones(())}
DENSE = [levenberg_marquardt(), levenberg_marquardt(linear_solver="qr"), gauss_newton(), gauss_newton("line")]
METHODS = [*DENSE, levenberg_marquardt(linear_solver="lsmr")]
NAMES = ["svd", "qr", "dogleg", "line", "lsmr"]


def decay(b, x):
    return b["scale"] * jnp.exp(-b["rate"] * x)


def fit(b, y):
    return decay(b, jnp.asarray(T, y.dtype)) - y


def rosenbrock(b):
    return jnp.stack([10 * (b[1] - b[0] ** 2), 1 - b[0]])


# ---- the tables -----------------------------------------------------------------------------------------


def nist(name, method=None):
    """Right digits in the worst parameter and evaluations, from both starts."""
    y, x, starts, certified = nist_problems.load(name)
    options = {} if method is None else {"method": method}
    found = []
    for start in starts:
        solution = least_squares(fit_of(name), jnp.asarray(start), args=(x, y), **options)
        error = np.max(np.abs(np.asarray(solution.params) / certified - 1))
        found.append((-np.log10(max(error, 1e-16)), int(solution.evaluations.function), bool(solution.status.success)))
    return found


def fit_of(name):
    model = nist_problems.MODELS[name]
    return RESIDUALS.setdefault(name, lambda b, x, y: model(b, x) - y)


RESIDUALS = {}


def mgh(name, scale, method=None):
    """0 if the minimum is found, 1 for another published one, -1 for none; and evaluations."""
    problem = MGH[name]
    options = {} if method is None else {"method": method}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # the problems' code is NumPy's
        residual_fn = RESIDUALS.setdefault(name, lambda x: problem["r"](x, jnp))
        solution = least_squares(residual_fn, jnp.asarray(problem["x0"] * scale), max_steps=2000, **options)
    value = 2 * float(solution.value)
    known = [problem["fopt"], *problem["alt"]]
    found = [i for i, f in enumerate(known) if abs(value - f) <= 1e-5 * max(abs(f), 1e-5)]
    return min(found[0], 1) if found else -1, int(solution.evaluations.function)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["Chwirut2", "MGH17", "Nelson", "Thurber"])
def test_nist_parameters_to_ten_digits_with_default_settings(name):
    for digits, evaluations, success in nist(name):
        assert success and digits >= 10 and evaluations <= 150


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_whole_of_nist_with_default_settings():
    found = [run for name in sorted(nist_problems.MODELS) for run in nist(name)]
    digits, evaluations, success = map(np.array, zip(*found, strict=True))
    assert len(found) == 54 and np.all(success)
    assert np.all(digits >= 6) and np.sum(digits >= 8) >= 53
    assert np.median(evaluations) <= 16 and np.sum(evaluations) <= 3_400


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["rosenbrock", "freudenstein_roth", "chebyquad7", "osborne2", "watson6"])
def test_more_garbow_hillstrom_from_the_standard_start(name):
    found, evaluations = mgh(name, 1)
    assert found == (1 if name == "freudenstein_roth" else 0) and evaluations <= 45


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("scale", "failures", "median"), [(1, 0, 21), (10, 5, 32)])
def test_the_whole_of_more_garbow_hillstrom(scale, failures, median):
    names = [name for name in MGH if scale == 1 or np.any(MGH[name]["x0"] != 0)]
    found, evaluations = zip(*[mgh(name, scale) for name in names], strict=True)
    assert len(names) == (44 if scale == 1 else 41)
    assert found.count(-1) <= failures and found.count(0) >= (42 if scale == 1 else 32)
    assert np.median(evaluations) <= median


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("method", "least"), [*zip(METHODS[1:], [8, 7, 6, 7], strict=True)], ids=NAMES[1:])
def test_the_other_methods_on_some_of_nist(method, least):
    names = ["Chwirut2", "DanWood", "Gauss1", "Hahn1", "MGH17", "Rat42", "Roszman1", "Thurber"]
    found = [nist(name, method) for name in names]
    assert sum(digits >= 8 for _, (digits, _, _) in found) == len(names)  # the start that is near
    assert sum(digits >= 8 for (digits, _, _), _ in found) >= least
