"""Many problems through few lanes: the solutions of separate runs, for hardly more work than theirs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from cases import assert_close
from jaxopt_ko.drivers.pool import lanes_for
from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, TreeError
from jaxopt_ko.types import Code

N = 83  # no multiple of the lanes
rng = np.random.default_rng(0)
STARTS = {
    "x": jnp.asarray(10 ** rng.uniform(-3, 1, (N, 1)) * rng.normal(size=(N, 2)), jnp.float32),
    "y": jnp.asarray(rng.normal(size=N), jnp.float32),
}
OWN = jnp.asarray(rng.uniform(1.0, 40.0, N), jnp.float32)
SHARED = jnp.asarray([0.5, -0.5], jnp.float32)


def valley(p, a, b, kind="plain"):
    assert kind == "plain"
    x = p["x"] - b
    return a * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2 + (p["y"] - a) ** 2, {"sum": jnp.sum(x)}


@pytest.fixture(scope="module")
def separate():
    """What `minimize` under vmap finds."""
    return jax.jit(
        jax.vmap(lambda p, a: jo.minimize(valley, p, jo.bfgs(), args=(a, SHARED), has_aux=True), in_axes=(0, 0))
    )(STARTS, OWN)


def check_same(found, separate):
    """Up to rounding, by which a run may take one update more or less."""
    np.testing.assert_array_equal(found.status.success, separate.status.success)
    assert_close(found.params, separate.params, rtol=1e-3, atol=1e-3)
    assert_close(found.aux, separate.aux, rtol=1e-3, atol=1e-3)
    assert np.mean(np.asarray(found.steps) == np.asarray(separate.steps)) > 0.8
    assert abs(int(found.steps.sum()) - int(separate.steps.sum())) <= 0.05 * int(separate.steps.sum())


@pytest.mark.parametrize("devices", [None, 3])
def test_solutions_are_those_of_separate_runs(separate, devices):
    where = None if devices is None else jax.devices()[:devices]
    found = jo.minimize_many(
        valley, STARTS, jo.bfgs(), args=(OWN, SHARED, "plain"), in_axes=(0, None, None), batch_size=12, has_aux=True,
        devices=where,
    )  # fmt: skip
    check_same(found, separate)
    assert jax.tree.structure(found.state) == jax.tree.structure(separate.state)
    assert found.state.count.shape == (N,) and bool(jnp.all(found.state.count == found.steps))
    assert devices is None or len(found.value.sharding.device_set) == devices


def test_finished_lanes_do_not_wait_for_the_slowest(capsys):
    """1,000 problems, a few of which take twenty times as many updates as most."""
    n = 1000
    start = jnp.where(jnp.arange(n)[:, None] % 50 == 7, jnp.asarray([-30.0, 40.0]), jnp.asarray([1.01, 1.0]))
    words = {"verbose": True, "keep_state": False, "batch_size": 24}
    found = jo.minimize_many(jo.landscapes.rosenbrock, start, jo.bfgs(), **words)
    jax.effects_barrier()
    told = capsys.readouterr().out.splitlines()
    row = r"(\d+) steps in (\d+) updates of lanes, ([\d.]+) times as many"
    steps, updates, ratio = re.fullmatch(row, told[-1]).groups()
    assert int(steps) == int(found.steps.sum()) and float(ratio) == pytest.approx(int(updates) / int(steps), abs=1e-3)
    assert float(ratio) < 1.3 < 4 < n * int(found.steps.max()) / int(steps)  # the last is what vmap alone would take
    assert "Converged" in told[-2] and "problems wait" in told[0] and len(told) < 24
    assert found.state is None and bool(jnp.all(found.status.success))


def test_the_last_problems_go_into_fewer_lanes(capsys):
    n = 700
    curvature = jnp.where(jnp.arange(n) % 14 == 0, 0.05, 5.0)  # 50 take long
    words = {"args": (curvature,), "max_steps": 400, "keep_state": False, "verbose": True, "batch_size": 600}
    found = jo.minimize_many(lambda x, c: 0.5 * c * x**2, jnp.ones(n), jo.sgd(0.1), **words)
    jax.effects_barrier()
    steps, updates = map(int, re.findall(r"(\d+) (?:steps|updates)", capsys.readouterr().out.splitlines()[-1]))
    quick = int(jnp.max(jnp.where(curvature > 1, found.steps, 0)))
    assert steps == int(found.steps.sum()) and 400 == int(found.steps.max()) > 5 * quick
    assert updates <= 600 * 2 * quick + 75 * 400  # 600 lanes, and 75 at the end


def test_any_method_and_every_status():
    """First-order methods, too; a problem that fails does so alone, and one may have no update left."""
    start = jnp.asarray([[0.0], [jnp.nan], [5.0], [1.0], [0.5]] * 4, jnp.float32)
    fun, method = lambda x: jnp.sum((x - 1) ** 2), jo.adam(0.1)
    found = jo.minimize_many(fun, start, method, max_steps=60, batch_size=3)
    code = np.asarray(found.status.code).reshape(4, 5)
    assert (code[:, 1] == Code.NOT_FINITE).all() and (code[:, 3] == Code.GRADIENT_SMALL).all()
    assert (np.asarray(found.steps) <= 60).all() and (code[:, 2] == Code.BUDGET_SPENT).all()
    none = jo.minimize_many(fun, start, method, max_steps=0, batch_size=3)
    assert int(none.steps.sum()) == 0 and jnp.array_equal(none.params, start, equal_nan=True)


def test_bounds_of_each_problem_or_of_all():
    start, method = jnp.zeros((30, 2)), jo.lbfgsb(memory_size=1)
    lower = np.linspace(-1.0, 1.0, 30, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    for low in (lower, np.asarray([0.25, -0.25], np.float32)):
        found = jo.minimize_many(
            lambda x: jnp.sum((x + 2) ** 2), start, method, bounds=(low, None), batch_size=8
        )  # fmt: skip
        np.testing.assert_allclose(found.params, low * np.ones((30, 2)), atol=1e-4)


@pytest.mark.parametrize("method", [jo.levenberg_marquardt(), jo.bfgs()], ids=["residuals", "value"])
def test_fits_by_residuals_and_by_their_value(method):
    t = jnp.linspace(0.0, 1.0, 6)
    rates = jnp.linspace(0.2, 4.0, 40)
    y = jnp.exp(-t[:, None] * rates[None])
    found = jo.least_squares_many(
        lambda k, y: jnp.exp(-k * t) - y, jnp.full(40, 1.5), method, args=(y,), in_axes=1, batch_size=8
    )  # fmt: skip
    np.testing.assert_allclose(found.params, rates, rtol=1e-2)
    assert bool(jnp.all(found.status.success))


def test_derivatives_by_what_each_has_and_by_what_all_share():
    start, a = jnp.zeros(20), jnp.linspace(0.5, 2.0, 20)

    @jax.jit
    def total(a, b):
        fun = lambda x, a: (x - a) ** 2 * b + 0.1 * (x - 1) ** 2  # b is closed over  # noqa: E731
        return jnp.sum(jo.minimize_many(fun, start, jo.bfgs(), args=(a,), batch_size=4).params * jnp.arange(20.0))

    b = jnp.asarray(0.7)
    by_a, by_b = jax.grad(total, argnums=(0, 1))(a, b)
    np.testing.assert_allclose(by_a, jnp.arange(20.0) * b / (b + 0.1), rtol=1e-3)
    np.testing.assert_allclose(by_b, jnp.sum(jnp.arange(20.0) * 0.1 * (a - 1) / (b + 0.1) ** 2), rtol=1e-3)


def test_new_data_of_the_same_shapes_compiles_nothing():
    traced = []

    def fun(x, a):
        traced.append(x)
        return jnp.sum((x - a) ** 2)

    for shift in (0.0, 1.0):
        found = jo.minimize_many(fun, jnp.zeros((20, 1)) + shift, jo.sgd(0.3), args=(OWN[:20] + shift,), batch_size=4)
        if not shift:
            count = len(traced)
    assert len(traced) == count
    np.testing.assert_allclose(found.params[:, 0], OWN[:20] + 1, rtol=1e-3)


def test_lanes_by_default():
    assert [lanes_for(n) for n in (1, 63, 64, 3000, 10_000, 10**7)] == [1, 63, 64, 64, 256, 8192]


def test_errors():
    fun = lambda x, *args: jnp.sum(x**2)  # noqa: E731
    x = jnp.zeros((4, 2))
    with pytest.raises(TreeError, match="every leaf of params must have a leading axis"):
        jo.minimize_many(fun, {"a": x, "b": 1.0})
    with pytest.raises(TreeError, match=r"leading axis, of 4 problems.*in_axes None"):
        jo.minimize_many(fun, x, args=(jnp.zeros(3),))
    with pytest.raises(HyperparameterError, match="in_axes must be an integer, None, or one of them for each of 2"):
        jo.minimize_many(fun, x, args=(x, x), in_axes=(0,))
    with pytest.raises(HyperparameterError, match="batch_size"):
        jo.minimize_many(fun, x, batch_size=0)
    with pytest.raises(HyperparameterTypeError, match="devices must be a sequence of devices"):
        jo.minimize_many(fun, x, devices=8)
    with pytest.raises(HyperparameterError, match="derivative"):
        jo.minimize_many(fun, x, derivative="unrolled")


def test_methods_that_keep_a_key_run_through_lanes():
    found = jo.minimize_many(
        lambda p: jnp.sum((p - 1) ** 2), jnp.zeros((5, 2)).at[3].set(jnp.nan), jo.spsa(0.1), batch_size=2, max_steps=300
    )
    alone = jo.minimize(lambda p: jnp.sum((p - 1) ** 2), jnp.zeros(2), jo.spsa(0.1), max_steps=300)
    assert int(found.status.code[3]) == Code.NOT_FINITE
    np.testing.assert_allclose(found.params[np.array([0, 1, 2, 4])], np.tile(alone.params, (4, 1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("starts", "match"), [(np.zeros((0, 2)), "one problem at least"), (np.arange(4), "not a floating-point array")]
)
def test_no_problems_and_whole_numbers_are_refused_by_name(starts, match):
    with pytest.raises(TreeError, match=f"minimize_many: .*{match}"):
        jo.minimize_many(lambda p: jnp.sum(p**2), starts)
