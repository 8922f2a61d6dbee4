"""Landscapes: what they say of themselves holds, in every dtype, and published values come out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jaxopt_ko as jo
from jaxopt_ko.analysis.landscapes import LANDSCAPES, landscape

FREE = ("rosenbrock", "styblinski_tang", "rastrigin", "ackley")
ALL = [*LANDSCAPES.values(), *(landscape(name, 5) for name in FREE), landscape("long_valley", condition=1e4)]
IDS = [f"{each.name}-{each.dimension}" for each in ALL]
IDS[-1] = "long_valley-1e4"
every = pytest.mark.parametrize("each", ALL, ids=IDS)


@every
def test_its_critical_points_are_what_they_are_said_to_be(each, x64):
    points = [*each.minima, *each.saddles, *each.maxima]
    low, high = np.asarray(each.domain)
    x = np.asarray([p.x for p in points])
    assert x.shape == (len(points), each.dimension)

    @jax.jit
    @jax.vmap
    def look(x):
        return each.fun(x), jax.grad(each.fun)(x), jax.hessian(each.fun)(x)

    f, g, H = map(np.asarray, look(jnp.asarray(x)))
    scale = np.maximum(np.abs(H).max((1, 2)), 1.0)
    np.testing.assert_allclose(f, [p.value for p in points], rtol=1e-14, atol=1e-25)
    assert np.all(np.abs(g).max(1) <= 1e-14 * scale * np.maximum(1, np.abs(x).max(1)))
    curvature = np.linalg.eigvalsh(H) / scale[:, None]
    m, s = len(each.minima), len(each.saddles)
    assert np.all(curvature[:m] >= -1e-15)
    if each.name == "monkey_saddle":  # to be seen in the third derivative alone
        assert not H.any() and each.fun(jnp.array([-0.1, 0.0])) < 0 < each.fun(jnp.array([0.1, 0.0]))
    else:
        assert np.all(curvature[m : m + s, 0] < -1e-6) and np.all(curvature[m : m + s, -1] > 1e-6)
    assert np.all(curvature[m + s :] < -1e-6)
    assert np.all((low <= x) & (x <= high))
    assert [p.value for p in each.minima] == sorted(p.value for p in each.minima)


@every
def test_no_point_of_its_domain_is_lower_than_the_first_minimum(each, x64):
    low, high = jnp.asarray(each.domain)
    x = jax.random.uniform(jax.random.key(0), (4000, each.dimension), minval=low, maxval=high)
    f = jax.jit(jax.vmap(each.fun))(x)
    best = each.minima[0].value if each.minima else -np.inf
    assert np.all(f >= best) and (each.minima or f.min() < each.saddles[0].value)


@every
def test_starts_lie_inside_and_are_no_minima(each):
    low, high = np.asarray(each.domain)
    assert each.starts and np.all(low < high)
    for start in each.starts:
        assert len(start) == each.dimension and np.all((low <= start) & (np.asarray(start) <= high))
        assert all(each.fun(jnp.asarray(start)) > p.value for p in each.minima)
    assert each.title and each.korean and each.source and each.fun.__doc__


@pytest.mark.rounding
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32], ids=["f16", "bf16", "f32"])
def test_value_and_gradient_in_every_dtype(dtype):
    for each in LANDSCAPES.values():
        x = jnp.asarray(each.starts[0], dtype)
        f, g = jax.value_and_grad(each.fun)(x)
        wide, g_wide = jax.value_and_grad(each.fun)(x.astype(jnp.float32))
        assert (f.dtype, g.dtype) == (jnp.float32, dtype) and f.shape == ()
        np.testing.assert_array_equal(f, wide)
        np.testing.assert_array_equal(g, g_wide.astype(dtype))


def test_ackley_is_flat_at_the_origin_by_definition_and_a_cone_beside_it():
    for n in (2, 5):
        f, g = jax.value_and_grad(jo.landscapes.ackley)(jnp.zeros(n))
        assert float(f) == 0 and not g.any()
        assert jnp.isfinite(jax.hessian(jo.landscapes.ackley)(jnp.zeros(n))).all()
    slope = jax.grad(jo.landscapes.ackley)(jnp.array([1e-6, 0.0]))
    np.testing.assert_allclose(slope, [4 / np.sqrt(2), 0.0], rtol=1e-4)


def test_values_that_others_publish(x64):
    fun = jo.landscapes
    x = np.array([0.5, -1.25, 2.0])
    np.testing.assert_allclose(fun.rosenbrock(x), scipy.optimize.rosen(x))
    np.testing.assert_allclose(jax.grad(fun.rosenbrock)(jnp.asarray(x)), scipy.optimize.rosen_der(x))
    np.testing.assert_allclose(jax.hessian(fun.rosenbrock)(jnp.asarray(x)), scipy.optimize.rosen_hess(x))
    np.testing.assert_allclose(fun.rastrigin(x), np.sum(x**2 - 10 * np.cos(2 * np.pi * x) + 10))
    ackley = -20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(2 * np.pi * x))) + 20 + np.e
    np.testing.assert_allclose(fun.ackley(x), ackley)
    for name, f in (("beale", 14.203125), ("rosenbrock", 24.2), ("powell_singular", 215.0), ("wood", 19192.0)):
        np.testing.assert_allclose(LANDSCAPES[name].fun(np.asarray(LANDSCAPES[name].starts[0])), f)  # MGH
    np.testing.assert_allclose(fun.himmelblau(np.zeros(2)), 170.0)
    np.testing.assert_allclose(fun.quintic(np.array([2.5])), 12.65625)
    np.testing.assert_allclose(landscape("styblinski_tang", 5).minima[0].value, 5 * -39.16617, rtol=1e-6)


def test_the_valleys_condition_number_is_a_number_an_option_and_traced():
    H = jax.hessian(landscape("long_valley", condition=50).fun)(jnp.ones(2))
    np.testing.assert_allclose(np.linalg.cond(H), 50, rtol=1e-5)
    slopes = jax.vmap(jax.grad(jo.landscapes.long_valley, argnums=1), (None, 0))(jnp.array([1.0, 2.0]), jnp.ones(3))
    np.testing.assert_allclose(slopes, 2.0)
    assert landscape("long_valley") is LANDSCAPES["long_valley"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: landscape("bale"), ["landscape", "'beale'", "'bale'"]),
        (lambda: landscape("beale", 3), ["landscape", "dimension", "'rastrigin'"]),
        (lambda: landscape("ackley", 0), ["landscape", "dimension"]),
        (lambda: landscape("beale", condition=3.0), ["landscape", "condition", "'long_valley'"]),
        (lambda: landscape("long_valley", condition=0.1), ["landscape", "condition", "0.1"]),
        (lambda: jo.landscapes.beale(jnp.ones(3)), ["beale", "(2,)", "float32[3]"]),
        (lambda: jo.landscapes.beale(jnp.ones((4, 2))), ["beale", "jax.vmap"]),
        (lambda: jo.landscapes.rosenbrock(jnp.ones(1)), ["rosenbrock", "n >= 2"]),
        (lambda: jo.landscapes.wood(jnp.arange(4)), ["wood", "int32[4]", "astype"]),
        (lambda: jo.landscapes.ackley([1.0, 2.0]), ["ackley", "array"]),
    ],
)
def test_what_does_not_fit_is_said(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert "Got" in str(error.value) and all(word in str(error.value) for word in words)
