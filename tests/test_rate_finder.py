"""A learning rate from one run: near the best one on a problem whose best is known, and no suggestion where none is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick

import jaxopt_ko as jo
from jaxopt_ko.errors import HyperparameterError, StateError, TransformationError

X = jax.random.normal(jax.random.key(0), (128, 8))
Y = X @ jnp.linspace(-1, 1, 8) + 0.1 * jax.random.normal(jax.random.key(1), (128,))
PLAN, KEY = jo.data.mini_batch(128, 16), jax.random.key(2)
ZERO = jnp.zeros(8)


def loss(w, batch):
    return jnp.mean((batch[0] @ w - batch[1]) ** 2) / 2


def find(optimizer, fun=loss, params=ZERO, steps=400, **words):
    return quick.jit(lambda p: jo.loop.find_rate(fun, p, optimizer, (X, Y), PLAN, key=KEY, steps=steps, **words))(
        params
    )


SGD = find(jo.sgd)


@pytest.mark.parametrize(
    ("name", "best"), [("sgd", 0.3), ("adam", 0.1), ("optax", 0.1), ("injected", 0.1), ("accumulated", 0.3)]
)
def test_the_suggestion_is_within_a_decade_of_the_best_rate_and_below_the_lowest(name, best):
    """The best of a grid of fixed rates, after 80 steps; each of these says so in one compiled loop."""
    makes = {
        "adam": jo.adam,
        "optax": optax.adam,
        "injected": jo.chain(jo.clip_by_global_norm(9.0), jo.inject_hyperparams(jo.adam)(1e-3)),
        "accumulated": lambda rate: jo.MultiSteps(jo.sgd(rate), 2),
    }
    with jax.numpy_dtype_promotion("standard" if name == "optax" else "strict"):
        found = SGD if name == "sgd" else find(makes[name])
    assert bool(found.found) and best / 8 < float(found.suggestion) < 4 * best, found
    assert float(found.suggestion) < float(found.lowest)
    assert "the smoothed loss falls fastest there" in repr(found) and repr(found).startswith("learning rate 0.")


def test_the_best_fixed_rates_are_as_said():
    def end(make, rate):
        run = jo.loop.fit(loss, ZERO, make(rate), (X, Y), PLAN, key=KEY, epochs=10)
        return loss(run.params, (X, Y))

    rates = jnp.asarray([*np.geomspace(1e-3, 1, 7), float(SGD.suggestion)], jnp.float32)
    for make, best in ((jo.sgd, 0.3), (jo.adam, 0.1)):
        ends = quick.jit(jax.vmap(lambda rate, make=make: end(make, rate)))(rates)
        assert 0.3 < float(rates[jnp.nanargmin(ends[:7])]) / best < 3.5
        assert float(ends[7]) < 0.05


def test_the_curve_is_the_debiased_mean_of_the_losses_and_ends_where_it_says():
    n = int(SGD.steps)
    losses, mean = np.asarray(SGD.losses, np.float64), 0.0
    assert 200 < n < 400 and np.all(np.isnan(losses[n:])) and np.all(np.isfinite(losses[:n]))
    np.testing.assert_allclose(SGD.rates, np.geomspace(1e-7, 10, 400), rtol=1e-5)
    s = []
    for k in range(n):
        mean = 0.98 * mean + 0.02 * losses[k]
        s.append(mean / (1 - 0.98 ** (k + 1)))
    np.testing.assert_allclose(SGD.smoothed[:n], s, rtol=1e-4)
    assert s[-1] > 4 * min(s) or not np.isfinite(loss(ZERO, (X, Y)) * np.inf)
    assert all(s[k] <= 4 * min(s[: k + 1]) for k in range(n - 1))
    first = np.asarray(PLAN.plan(KEY, jnp.int32(0)))[0]
    assert float(SGD.losses[0]) == pytest.approx(float(loss(ZERO, (X[first], Y[first]))), rel=1e-6)


@pytest.mark.parametrize(
    ("words", "verdict", "says"),
    [
        ({"fun": lambda w, b: loss(w, b) + 1e30 * jnp.sum(w**2), "params": jnp.ones(8), "low": 1e-3}, 2, "low=1e-06"),
        ({"fun": lambda w, b: loss(w * 0, b)}, 1, "never fell by more than its own noise"),
        ({"high": 0.02, "low": 1e-8}, 3, "go on, with high="),
        ({"fun": lambda w, b: loss(w, b) * jnp.nan}, 5, "not finite before the first step"),
        ({"low": 0.03, "high": 30.0, "smoothing": 0.9}, 4, "start lower, with low=3e-05"),
    ],
    ids=["at once", "flat", "falling", "nan", "lowest"],
)
def test_no_suggestion_is_made_where_none_can_be_and_it_says_what_to_do(words, verdict, says):
    fun = words.pop("fun", loss)
    found = find(jo.sgd, fun, **words)
    assert int(found.verdict) == verdict and not found.found and np.isnan(found.suggestion), found
    assert repr(found).startswith("no learning rate suggested: ") and says in repr(found), found


def test_it_changes_no_parameters_and_runs_in_lanes():
    lanes = quick.jit(jax.vmap(lambda key: jo.loop.find_rate(loss, ZERO, jo.sgd, (X, Y), PLAN, key=key, steps=40)))
    found = lanes(jax.random.split(KEY, 2))
    assert found.suggestion.shape == (2,) and "RateSearch" in repr(found)
    assert ZERO.tolist() == [0.0] * 8


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"low": 1.0, "high": 0.1}, HyperparameterError, "low must be below high"),
        ({"low": 0.0}, HyperparameterError, "find_rate: low"),
        ({"steps": 5}, HyperparameterError, "steps must be an integer of at least 20"),
        ({"stop": 1.0}, HyperparameterError, "stop must be a number > 1"),
        ({"smoothing": 1.0}, HyperparameterError, "find_rate: smoothing"),
        ({"optimizer": jo.adam(1e-3)}, StateError, "keeps no learning rate"),
        ({"optimizer": lambda rate: rate}, TransformationError, "must be a function of a rate"),
    ],
)
def test_what_cannot_be_is_refused(words, error, message):
    with pytest.raises(error, match=message):
        jo.loop.find_rate(loss, ZERO, words.pop("optimizer", jo.sgd), (X, Y), PLAN, key=KEY, **words)
