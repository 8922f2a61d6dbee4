"""Standard errors of fits beside NIST's and SciPy's; what is at a bound, what is not determined; bands."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from data import nist_problems

import jaxopt_ko as jo
from jaxopt_ko.drivers.covariance import student_quantile

T = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
Y = np.array([5.11, 3.98, 3.17, 2.55, 2.16, 1.58, 1.18, 1.05, 0.87, 0.81])
START = np.array([1.0, 1.0, 0.1])
UPPER = np.array([9.0, 0.5, 9.0])


def model(p, t):
    return p[0] * jnp.exp(-p[1] * t) + p[2]


def decay(p, t, y):
    return model(p, t) - y


def certified_deviations(name):
    head = (nist_problems.FOLDER / f"{name}.dat").read_text(encoding="ascii").splitlines()[40:60]
    rows = [re.match(r"\s*b\d+ =(.*)", line) for line in head]
    return np.array([float(row.group(1).split()[-1]) for row in rows if row])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["Thurber", "MGH17"])
def test_nist_certified_standard_deviations(name):
    y, x, _, certified = nist_problems.load(name)
    known = jo.covariance(lambda b: nist_problems.MODELS[name](b, x) - y, jnp.asarray(certified))
    np.testing.assert_allclose(known.standard_errors, certified_deviations(name), rtol=1e-6)  # at 11 digits of b
    assert int(known.freedom) == len(y) - len(certified)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("loss", ["linear", "cauchy"])
def test_covariance_is_scipys_and_absolute_without_the_variance(loss):
    how = {"loss": loss, "loss_scale": 0.05}
    fit = jo.least_squares(decay, START, args=(T, Y), **how)
    known = jo.covariance(decay, fit, args=(T, Y), **how)
    absolute = jo.covariance(decay, fit.params, args=(T, Y), absolute=True, **how)
    for ours, sure in ((known, False), (absolute, True)):
        _, theirs = scipy.optimize.curve_fit(
            lambda t, a, k, c: a * np.exp(-k * t) + c, T, Y, START, np.ones(10), sure, method="trf", loss=loss,
            f_scale=0.05, ftol=1e-15, xtol=1e-15, gtol=1e-15,
            jac=lambda t, a, k, c: np.stack([np.exp(-k * t), -a * t * np.exp(-k * t), t**0], axis=1),
        )  # fmt: skip
        np.testing.assert_allclose(ours.matrix, theirs, rtol=1e-5)
    assert np.isinf(absolute.freedom) and absolute.variance == 1
    np.testing.assert_allclose(np.diag(known.correlation), 1.0)


def test_a_parameter_at_a_bound_is_fixed_as_in_a_fit_without_it(x64):
    fit = jo.least_squares(decay, START, args=(T, Y), bounds=(None, UPPER))
    known = jo.covariance(decay, fit, args=(T, Y), bounds=(None, UPPER))
    assert known.fixed.tolist() == [False, True, False] and known.standard_errors[1] == 0
    free = jo.covariance(lambda p: decay(jnp.stack([p[0], fit.params[1], p[1]]), T, Y), fit.params[np.array([0, 2])])
    np.testing.assert_allclose(known.standard_errors[np.array([0, 2])], free.standard_errors, rtol=1e-10)
    assert int(known.freedom) == 8


def test_what_no_residual_tells_is_infinite_and_the_rest_is_not(x64):
    tied = jo.covariance(lambda p: p["a"] * p["b"] * T + p["c"] - Y, at := {"a": -1.0, "b": 0.6, "c": 4.0})
    line = jo.covariance(lambda p: p[0] * T + p[1] - Y, np.array([-0.6, 4.0]))
    assert [bool(tied.undetermined[k]) for k in "abc"] == [True, True, False]
    assert np.isinf(tied.standard_errors["a"]) and np.isinf(tied.matrix[1, 2]) and int(tied.freedom) == 8
    np.testing.assert_allclose(tied.standard_errors["c"], line.standard_errors[1], rtol=1e-10)
    band = jo.confidence_band(lambda p: (p["a"] * p["b"] * 3 + p["c"], p["a"]), at, tied)
    same = jo.confidence_band(lambda p: p[0] * 3 + p[1], np.array([-0.6, 4.0]), line)
    np.testing.assert_allclose(band.upper[0], same.upper, rtol=1e-10)
    assert np.isinf(band.standard_error[1]) and np.isfinite(band.value[1])
    few = jo.covariance(lambda p: p[:1] - p[1:2], np.ones(3), absolute=True)
    assert np.all(np.isinf(np.diag(few.matrix))) and few.matrix.shape == (3, 3)
    exact = jo.covariance(lambda p: p - 1.0, np.array([1.0, 1.0]))
    assert np.all(np.isinf(exact.matrix))


def test_the_sandwich_knows_of_errors_whose_sizes_differ(x64):
    """Beside the spread of the fits of 400 data sets."""
    x = np.linspace(0.0, 1.0, 60)
    sizes = 0.1 * (1 + 9 * x**4)
    data = 1 + 2 * x + sizes * np.random.default_rng(0).normal(size=(400, 60))

    def line(p, y):
        return p[0] + p[1] * x - y

    def one(y):
        found = jo.least_squares(line, jnp.zeros(2), args=(y,), loss="huber", loss_scale=0.2, max_steps=30)
        known = jo.covariance(line, found, args=(y,), loss="huber", loss_scale=0.2, kind="sandwich")
        return found.params, known.standard_errors

    found, told = jax.jit(jax.vmap(one))(data)
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(told**2, axis=0)), jnp.std(found, axis=0), rtol=0.12)


def test_bands_hold_the_truth_as_often_as_they_say(x64):
    x = np.linspace(0.0, 1.0, 6)
    data = 1 + 2 * x + 0.3 * np.random.default_rng(1).normal(size=(2000, 6))

    def one(y):
        best = jnp.linalg.lstsq(jnp.stack([jnp.ones(6), x], axis=1), y)[0]
        known = jo.covariance(lambda p: p[0] + p[1] * x - y, best)
        band = jo.confidence_band(lambda p, t: p[0] + p[1] * t, best, known, args=(2.0,), level=0.9)
        return (band.lower <= 5.0) & (band.upper >= 5.0)

    assert abs(float(jnp.mean(jax.jit(jax.vmap(one))(data))) - 0.9) < 0.02  # 1.64 of normal errors would give 0.82


def test_students_quantiles_are_scipys(x64):
    level, freedom = np.array([0.5, 0.95, 0.999]), np.array([[1.0], [4.0], [30.0], [999.5], [1001.0], [1e6], [np.inf]])
    ours = jax.jit(student_quantile)(*(jnp.asarray(a) for a in np.broadcast_arrays(level, freedom)))
    theirs = np.where(
        np.isinf(freedom), scipy.stats.norm.ppf((1 + level) / 2), scipy.stats.t.ppf((1 + level) / 2, freedom)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_complex_parameters_have_errors_of_both_parts(x64):
    z = np.exp(2j * T)
    y = 3j * z + 0.1 * np.random.default_rng(2).normal(size=(2, 10)).T @ np.array([1, 1j])
    known = jo.covariance(lambda p: p * z - y, jnp.asarray(np.vdot(z, y) / 10))
    assert known.matrix.shape == (2, 2) and int(known.freedom) == 18
    np.testing.assert_allclose(known.standard_errors.real, known.standard_errors.imag, rtol=1e-10)


def test_what_cannot_be_is_refused():
    for error, words, call in (
        (jo.errors.HyperparameterError, "one of 'curvature', 'sandwich'", {"kind": "white"}),
        (jo.errors.HyperparameterError, "known ones, absolute", {"kind": "sandwich", "absolute": True}),
        (jo.errors.TransformationError, "args must be a tuple", {"args": T}),
    ):
        with pytest.raises(error, match=words):
            jo.covariance(decay, START, **call)
    with pytest.raises(jo.errors.TransformationError, match="covariance must be a Covariance"):
        jo.confidence_band(model, START, np.eye(3))
