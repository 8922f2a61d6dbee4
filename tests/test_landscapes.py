"""The landscapes: their known points are what they are said to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_ko as jo

LANDSCAPES = jo.landscapes.LANDSCAPES
every = pytest.mark.parametrize("name", LANDSCAPES)


@every
def test_minima_and_saddles(x64, name):
    row = LANDSCAPES[name]
    gradient, hessian = jax.jit(jax.grad(row.fun)), jax.jit(jax.hessian(row.fun))
    for point, value in row.minima:
        x = jnp.asarray(point)
        assert abs(float(row.fun(x)) - value) <= 2e-8 * max(1, abs(value))
        size = np.max(np.abs(hessian(x)), initial=1.0)
        assert np.max(np.abs(gradient(x))) <= 2e-8 * size
        assert name == "ackley" or np.linalg.eigvalsh(hessian(x))[0] >= -1e-9 * size
        assert all(value >= least for _, least in row.minima[:1])
    for point in row.saddles:
        x, ends = jnp.asarray(point), np.linalg.eigvalsh(hessian(jnp.asarray(point)))[[0, -1]]
        assert np.max(np.abs(gradient(x))) <= 1e-8 * max(1, np.max(np.abs(ends)))
        assert name == "monkey_saddle" or ends[0] < 0 < ends[1]
    for point in [*row.starts, *(point for point, _ in row.minima)]:
        assert len(point) == row.dimension and np.all(np.less_equal(row.lower, point))
        assert np.all(np.less_equal(point, row.upper))
    assert row.title and row.korean and row.source and row.name == name


@every
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_lanes_dtypes_and_derivatives(name, dtype):
    row = LANDSCAPES[name]
    x = jnp.asarray(row.starts, dtype)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(row.fun)))(x)
    assert values.dtype == slopes.dtype == dtype and bool(jnp.all(jnp.isfinite(slopes)))
    zero = jnp.zeros(row.dimension, dtype)
    assert bool(jnp.all(jnp.isfinite(jax.grad(row.fun)(zero))))


def test_as_others_have_them(x64):
    x = np.array([-1.2, 0.7, 1.1, 0.4, -0.3])
    np.testing.assert_allclose(jo.landscapes.rosenbrock(x), scipy.optimize.rosen(x), rtol=1e-12)
    assert float(jo.landscapes.rastrigin(np.ones(5))) == pytest.approx(5.0)
    assert float(jo.landscapes.ackley(np.ones(5))) == pytest.approx(3.6253849384403627)
    assert float(jo.landscapes.styblinski_tang(np.full(5, -2.903534027771))) == pytest.approx(-195.83082851885)
    assert float(jo.landscapes.wood(np.array([-3.0, -1, -3, -1]))) == pytest.approx(19192)
    assert float(jo.landscapes.powell_singular(np.array([3.0, -1, 0, 1]))) == pytest.approx(215)
    assert float(jo.landscapes.long_valley(np.array([2.0, 1.0]), 1000.0)) == pytest.approx(502)
    np.testing.assert_allclose(jax.hessian(jo.landscapes.monkey_saddle)(np.zeros(2)), 0)


def test_the_points_of_higher_dimensions(x64):
    for fun, point in (
        (jo.landscapes.rastrigin, np.zeros(5)),
        (jo.landscapes.ackley, np.zeros(5)),
        (jo.landscapes.rosenbrock, np.ones(5)),
        (jo.landscapes.styblinski_tang, np.full(5, jo.landscapes.DEEP)),
    ):
        np.testing.assert_allclose(jax.grad(fun)(point), 0, atol=1e-12)
