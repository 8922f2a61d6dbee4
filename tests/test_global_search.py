"""Runs from many starts, and hops: all minima found and counted; SciPy beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from scipy.stats import qmc

import jaxopt_ko as jo
from jaxopt_ko.drivers.global_search import sobol
from jaxopt_ko.errors import HyperparameterError, TreeError

BOX = (jnp.asarray([-5.0, -5.0]), jnp.asarray([5.0, 5.0]))


@pytest.fixture(scope="module")
def himmelblau():
    return jax.jit(lambda: jo.multistart(lambda x: jo.minimize(jo.landscapes.himmelblau, x, jo.bfgs()), BOX, 32))()


def test_all_minima_are_found_and_counted(himmelblau):
    found = himmelblau
    assert int(found.distinct) == 4 and int(found.counts.sum()) == int(np.sum(found.minimum >= 0)) >= 30
    assert found.counts.shape == (32,) and not found.counts[4:].any()
    places = [np.asarray(found.runs.params)[int(np.argmax(np.asarray(found.minimum) == k))] for k in range(4)]
    known = [point.x for point in jo.landscapes.landscape("himmelblau").minima]
    for place in places:
        assert min(np.abs(place - np.asarray(x)).max() for x in known) < 1e-2
    counts = np.bincount(np.asarray(found.minimum)[np.asarray(found.minimum) >= 0])
    np.testing.assert_array_equal(counts, found.counts[:4])
    success = np.asarray(found.runs.status.success)
    values = np.asarray(found.runs.value)[success]
    assert not (~success[:-1] & success[1:]).any() and (np.diff(values) >= 0).all()
    assert float(found.best.value) == values[0]
    assert "32 runs" in repr(found) and "4 minima" in repr(found)


def test_runs_that_fail_are_last_and_no_minima():
    fun = lambda x: jnp.where(x[0] < 0, jnp.nan, jnp.sum((x - 1) ** 2))  # noqa: E731
    starts = jnp.asarray([[-1.0, 0.0], [0.5, 0.0], [-2.0, 1.0], [3.0, 0.0]])
    found = jo.multistart(lambda x: jo.minimize_many(fun, x), starts, 4, stacked=True)
    assert found.minimum.tolist() == [0, 0, -1, -1] and int(found.distinct) == 1
    assert set(found.starts[:2, 0].tolist()) == {0.5, 3.0}  # in the order of the runs
    drawn = jo.multistart(lambda x: jo.minimize_many(fun, x), lambda n: starts, 4, stacked=True)
    assert drawn.minimum.tolist() == found.minimum.tolist()


def test_starts_are_sobols():
    for dimensions in (1, 2, 8, 21):
        theirs = qmc.Sobol(dimensions, scramble=False).random(64)
        np.testing.assert_allclose(sobol(64, dimensions), theirs + 1 / 128, atol=1e-9)
    ours = sobol(50, 3)
    assert ((ours > 0) & (ours < 1)).all()


def wales(x):
    """SciPy's example, of its many minima one the lowest: near -0.195 in x_0."""
    return jnp.cos(14.5 * x[0] - 0.3) + (x[1] + 0.2) * x[1] + (x[0] + 0.2) * x[0]


def test_hops_find_the_lowest_minimum_as_often_as_scipys():
    hops = jax.jit(
        jax.vmap(lambda key: jo.basin_hopping(lambda x: jo.minimize(wales, x, jo.bfgs()), jnp.ones(2), 40, key=key))
    )
    found = hops(jax.random.split(jax.random.key(0), 12))
    ours = int(np.sum(found.best.value < -1.0108))
    assert found.values.shape == (12, 41) and found.accepted.shape == (12, 40)
    np.testing.assert_allclose(found.best.value, found.values.min(1), atol=1e-6)
    fun = lambda x: np.cos(14.5 * x[0] - 0.3) + (x[1] + 0.2) * x[1] + (x[0] + 0.2) * x[0]  # noqa: E731
    theirs = sum(
        scipy.optimize.basinhopping(fun, [1.0, 1.0], niter=40, rng=seed).fun < -1.0108 for seed in range(6)
    )  # fmt: skip
    assert ours / 12 >= theirs / 6 - 0.2 and ours >= 8


def test_hops_adapt_their_length():
    """All hops are taken where it is hot: they get longer; none but down where T is 0."""
    fun = lambda x: jnp.sum(x**2)  # noqa: E731
    one = jax.jit(lambda T: jo.basin_hopping(lambda x: jo.minimize(fun, x, jo.sgd(0.5)), jnp.ones(1), 9, interval=2,
                                             temperature=T))  # fmt: skip
    hot = one(1e6)
    assert bool(jnp.all(hot.accepted)) and float(hot.step) == pytest.approx(0.5 / 0.9**4)
    assert "9 of 9 hops taken" in repr(hot)


def test_errors():
    solve = lambda x: jo.minimize(wales, x)  # noqa: E731
    with pytest.raises(TreeError, match="leading axis of n = 8"):
        jo.multistart(solve, jnp.zeros((4, 2)), 8)
    with pytest.raises(TreeError, match="21 elements at most"):
        jo.multistart(solve, (jnp.zeros(22), jnp.ones(22)), 8)
    with pytest.raises(TreeError, match="one structure"):
        jo.multistart(solve, ({"a": jnp.zeros(2)}, jnp.ones(2)), 8)
    with pytest.raises(HyperparameterError, match="factor"):
        jo.basin_hopping(solve, jnp.ones(2), factor=1.5)


def test_a_box_may_be_of_whole_numbers_but_is_finite():
    def run(x):
        return jo.minimize(lambda x: jnp.sum((x - 1) ** 2), x)

    found = jo.multistart(run, (np.array([-4, -3]), np.array([4, 3])), 4)
    assert int(found.distinct) == 1 and len(np.unique(found.starts)) > 2
    with pytest.raises(TreeError, match="multistart: a box must be finite"):
        jo.multistart(run, (np.array([-np.inf, 0.0]), np.ones(2)), 4)
