"""`curve_fit` beside SciPy's: parameters and errors, sigma as sizes and as a matrix, names, bands, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import jaxopt_ko as jo

T = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
Y = np.array([5.11, 3.98, 3.17, 2.55, 2.16, 1.58, 1.18, 1.05, 0.87, 0.81])
SIZES = np.linspace(0.02, 0.06, 10)
MATRIX = np.diag(SIZES**2) + 1e-4


def decay(t, a, k, c):
    return a * jnp.exp(-k * t) + c


def theirs(sigma, sure):
    slopes = lambda t, a, k, c: np.stack([np.exp(-k * t), -a * t * np.exp(-k * t), t**0], axis=1)  # noqa: E731
    return scipy.optimize.curve_fit(
        lambda t, a, k, c: a * np.exp(-k * t) + c, T, Y, [1, 1, 0], sigma, sure, jac=slopes, xtol=1e-14, ftol=1e-14
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("sure", [False, True])
@pytest.mark.parametrize("sigma", [None, SIZES, MATRIX], ids=["none", "sizes", "matrix"])
def test_parameters_and_covariance_are_scipys(sigma, sure):
    fit = jo.curve_fit(decay, T, Y, [1, 1, 0], sigma, sure)
    params, covariance = theirs(sigma, sure)
    assert bool(fit.solution.status.success)
    np.testing.assert_allclose(fit.params, params, rtol=1e-7)
    np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-6)
    np.testing.assert_allclose(fit.standard_errors, np.sqrt(np.diag(covariance)), rtol=1e-6)


def test_parameters_come_by_place_or_by_name_and_are_shown_by_name(x64):
    places = jo.curve_fit(decay, T.tolist(), Y.tolist())  # from 1, 1, 1
    names = jo.curve_fit(decay, T, Y, {"k": 1, "a": 1, "c": 0.0})
    np.testing.assert_allclose(places.params, [names.params[key] for key in "akc"], rtol=1e-8)
    rows = [row.strip() for row in repr(places).splitlines()]
    assert rows[1].startswith("a = 4.") and rows[3].startswith("c = 0.") and rows[4].endswith("7 degrees of freedom)")
    assert [row.split()[0] for row in repr(names).splitlines()[1:4]] == ["a", "c", "k"]  # as the leaves
    trees = jo.curve_fit(lambda t, p, c: decay(t, *p, c[0]), T, Y, (np.ones(2), [0.0]), SIZES, True)
    assert [row.split()[0] for row in repr(trees).splitlines()[1:4]] == ["p[0]", "p[1]", "c[0]"]
    assert "as given by sigma" in repr(trees)


def test_bands_and_intervals_hold_what_they_say_and_fixed_parameters_have_none(x64):
    fit = jo.curve_fit(decay, T, Y, [1, 1, 0.1], bounds=([0, 0, 0], [9, 0.5, None]))
    assert fit.params[1] == 0.5 and fit.standard_errors[1] == 0
    lower, upper = fit.interval(0.9)
    assert lower[1] == upper[1] == 0.5 and np.all(lower[::2] < fit.params[::2])
    t = float(scipy.stats.t.ppf(0.95, 8))
    np.testing.assert_allclose((upper - lower)[::2], 2 * t * fit.standard_errors[::2], rtol=1e-10)
    band = fit.band(np.array([0.0, 100.0]), 0.9)
    np.testing.assert_allclose(band.value, fit.predict(np.array([0.0, 100.0])))
    np.testing.assert_allclose(band.upper[1], upper[2], rtol=1e-9)  # far out the curve is c


def test_fits_are_vmapped_differentiated_and_compile_once(x64):
    traced = []

    def line(t, a, b):
        traced.append(1)
        return a + b * t

    data = Y + 0.1 * np.arange(3.0)[:, None]
    fits = jax.jit(jax.vmap(lambda y: jo.curve_fit(line, T, y, np.zeros(2))))(data)
    one = jo.curve_fit(line, T, data[1], np.zeros(2))
    np.testing.assert_allclose(fits.standard_errors[1], one.standard_errors, rtol=1e-8)
    assert "CurveFit(" in repr(fits)
    before = len(traced)
    jo.curve_fit(line, T, data[2], np.ones(2))
    assert len(traced) == before
    slope = jax.grad(lambda y: jo.curve_fit(line, T, y, np.zeros(2)).params[1])(jnp.asarray(Y))
    np.testing.assert_allclose(slope, (T - T.mean()) / np.sum((T - T.mean()) ** 2), atol=1e-10)


def test_a_robust_fit_is_hardly_moved_by_an_outlier(x64):
    spoilt = np.where(np.arange(10) == 4, 40.0, Y)
    plain = jo.curve_fit(decay, T, Y, [1, 1, 0])
    robust = jo.curve_fit(decay, T, spoilt, plain.params, loss="cauchy", loss_scale=0.05, kind="sandwich")
    assert np.all(np.abs(robust.params - plain.params) < 0.1)
    assert np.all(robust.standard_errors < 0.2) and np.all(robust.standard_errors > 0.005)
    assert repr(robust).endswith("  7 degrees of freedom)")  # of no size s


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (jo.errors.TransformationError, "each parameter of p0 by itself", (lambda t, p: p[0] * t, T, Y, [1.0, 2.0])),
        (jo.errors.TransformationError, r"f\(x, b=…\)", (lambda t, a: a * t, T, Y, {"b": 1.0})),
        (jo.errors.TransformationError, "Give p0", (lambda t, *p: p[0] * t, T, Y)),
        (jo.errors.TreeError, "f must return what is like y", (lambda t, a: a * t[:, None], T, Y, [1.0])),
        (jo.errors.TreeError, "sigma must be one number, or like y", (decay, T, Y, [1, 1, 0], np.ones(9))),
        (jo.errors.HyperparameterError, "sigma must be positive", (decay, T, Y, [1, 1, 0], 0 * SIZES)),
        (jo.errors.HyperparameterError, "positive definite", (decay, T, Y, [1, 1, 0], -MATRIX)),
        (jo.errors.TreeError, "p0 must be a vector", (decay, T, Y, np.ones((3, 1)))),
    ],
)
def test_what_cannot_be_is_refused(error, words, call):
    with pytest.raises(error, match=words):
        jo.curve_fit(*call)
