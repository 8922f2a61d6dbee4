"""Sweeps: lanes are the runs that they stand for, halving finds what the grid finds, what does not fit is refused."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko import loop
from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, StateError, TransformationError, TreeError
from jaxopt_ko.training.sweeps.rungs import neighbours

X = jnp.linspace(-1, 1, 16).reshape(8, 2)
Y = jnp.sin(3 * X.sum(axis=1))
RATES = np.geomspace(1e-3, 10, 9).astype(np.float32)
ONE = jax.devices()[:1]
EDGE = pytest.mark.filterwarnings("ignore:sweep. The best setting lies at the edge")


def start(key):
    return {"in": jax.random.normal(key, (2, 4)), "out": jnp.zeros(4)}


def loss(params, batch):
    x, y = batch
    return jnp.mean((jnp.tanh(x @ params["in"]) @ params["out"] - y) ** 2)


def rows(key, count):
    return jo.data.gather((X, Y), jax.random.randint(jax.random.fold_in(key, count), (4,), 0, 8))


def momentum(h):
    return jo.sgd(h["rate"], momentum=h["momentum"])


def evaluate(params):
    return {"loss": loss(params, (X, Y)), "size": jo.global_norm(params)}


RUN = loop.trial(momentum, loss, start, rows, evaluate)
SPACE = {"rate": RATES, "momentum": [0.5, 0.9]}


@pytest.fixture(scope="module")
def grid():
    """27 settings would do; 18, of which the highest rates diverge."""
    return loop.sweep(RUN, SPACE, seeds=[0, 5], budget=40, metric="loss", chunk=8)


# ---- lanes ----------------------------------------------------------------------------------------------------


def test_lanes_are_separate_runs(grid):
    @jax.jit
    def alone(rate, beta, seed):
        carry = RUN.start({"rate": rate, "momentum": beta}, jax.random.key(seed))
        return RUN.measure(jax.lax.fori_loop(0, 40, lambda _, c: RUN.step(c), carry))

    assert grid.values.shape == (18, 2) and grid.value.shape == (18, 2) and grid.chunk == 8
    for (rate, beta), row, gone in zip(grid.values, grid.value, grid.diverged, strict=True):
        ends = [alone(rate, beta, np.int32(seed))["loss"] for seed in (0, 5)]
        np.testing.assert_array_equal(np.isfinite(ends), ~gone)
        np.testing.assert_allclose(row[~gone], np.array(ends)[~gone], rtol=1e-6, atol=1e-6)


def test_a_diverged_lane_stops_and_its_setting_stands_last(grid):
    assert grid.diverged.any() and not grid.diverged.all()
    assert (grid.steps[~grid.diverged] == 40).all() and set(grid.steps[grid.diverged]) <= set(range(4, 41, 4))
    assert (grid.steps[grid.values[:, 0] == RATES[-1]] < 40).all()
    assert np.isnan(grid.mean[grid.diverged.any(axis=1)]).all()
    order = grid.order
    assert (np.diff(grid.diverged.any(axis=1)[order].astype(int)) >= 0).all()
    assert grid.best_index == order[0] == np.nanargmin(grid.mean)
    np.testing.assert_allclose(grid.standard_error[order[0]], np.std(grid.value[order[0]], ddof=1) / np.sqrt(2))


def test_the_number_of_lanes_at_a_time_and_of_devices_changes_nothing(grid):
    other = loop.sweep(RUN, SPACE, seeds=[0, 5], budget=40, metric="loss", chunk=5, devices=ONE)
    assert other.chunk == 5
    np.testing.assert_array_equal(other.diverged, grid.diverged)
    np.testing.assert_allclose(other.value, grid.value, rtol=1e-5, atol=1e-6)


@EDGE
def test_diverged_lanes_cost_nothing_more():
    """Of 64 lanes 56 are lost within the first block: one chunk instead of eight from then on."""
    calls = []

    def step(carry):
        x, h = carry
        jax.debug.callback(lambda _: calls.append(1), h)
        return x * h, h

    run = loop.Trial(lambda h, key: (jnp.ones(()), h["x"]), step, lambda carry: carry[0])
    space = {"x": [*np.linspace(0.1, 0.8, 8), *np.geomspace(1e20, 1e30, 56)]}
    result = loop.sweep(run, space, seeds=1, budget=100, chunk=8, devices=ONE)
    jax.effects_barrier()
    assert result.diverged.sum() == 56 and result.steps.sum() == 56 * 10 + 8 * 100
    assert len(calls) == 64 * 10 + 8 * 90


@EDGE
def test_memory_is_measured():
    """A lane of half a megabyte, and room for three of them."""

    def step(carry):
        return carry[0] + 1, carry[1]

    run = loop.Trial(lambda h, key: (jnp.zeros(2**16), h["x"]), step, lambda carry: carry[0][0] * carry[1])
    space = {"x": np.arange(1.0, 9.0)}
    one = loop.sweep(run, space, seeds=1, budget=3, memory=2**20 + 2**19, devices=ONE, mode="max")
    assert 1 <= one.chunk <= 7
    np.testing.assert_array_equal(one.value[:, 0], 3 * np.arange(1, 9))
    assert loop.sweep(run, space, seeds=1, budget=3, memory=2**26, devices=ONE, mode="max").chunk == 8


def test_a_second_sweep_of_the_same_run_compiles_nothing(grid):
    again = loop.sweep(RUN, SPACE | {"momentum": [0.0, 0.95]}, seeds=2, budget=20, metric="loss", chunk=8)
    assert grid.compilations <= 3 and again.compilations == 0


# ---- what it finds --------------------------------------------------------------------------------------------


@EDGE
def test_halving_goes_on_and_finds_the_best():
    """Least squares of a hundred curvatures, with a best rate that a few steps show badly."""
    curvature = jnp.geomspace(1e-2, 1.0, 50)

    def measure(w):
        return jnp.sum(curvature * w**2)

    run = loop.trial(lambda h: jo.sgd(h["rate"]), lambda w, _: measure(w), jnp.ones(50), X, measure)
    space = {"rate": jnp.geomspace(1e-3, 10, 27)}
    grid = loop.sweep(run, space, seeds=1, budget=100)
    halved = loop.sweep(run, space, seeds=1, budget=100, method="halving")
    assert abs(halved.best_index - grid.best_index) <= 1
    assert halved.steps.sum() <= grid.steps.sum() / 4 and halved.compilations == 0
    assert halved.best_value == pytest.approx(grid.mean[halved.best_index], rel=1e-6)
    assert (halved.measured == 100).sum() < 5 and (halved.measured < 30).sum() >= 18


def test_halving_of_a_function_begins_anew():
    lengths = []

    def train(h, key, steps):
        lengths.append(steps)
        return (h["x"] - 5.0) ** 2 / steps

    result = loop.sweep(train, {"x": np.arange(12.0)}, seeds=2, budget=90, method="halving")
    assert result.best == {"x": 5.0} and sorted(set(lengths))[-1] == 90 and len(set(lengths)) + 1 >= result.compilations
    assert result.steps.sum() <= 12 * 2 * 90 / 4


@EDGE
@pytest.mark.parametrize("power", [-1.0, 0.5])
def test_halving_follows_a_best_that_moves_with_the_length(power):
    """The best rate goes as a power of the number of steps: after a tenth of them it is places away."""

    def train(h, key, steps):
        return (jnp.log(h["rate"]) - power * np.float32(np.log(steps / 300))) ** 2

    space = {"rate": np.geomspace(1e-2, 1e2, 27)}
    grid = loop.sweep(train, space, seeds=1, budget=300)
    halved = loop.sweep(train, space, seeds=1, budget=300, method="halving")
    assert abs(halved.best_index - grid.best_index) <= 1
    assert halved.steps.sum() <= grid.steps.sum() / 4
    assert halved.measured[halved.best_index] == 300


def test_the_search_around_the_best_doubles_and_halves_its_steps():
    line, known = np.arange(20)[:, None], np.zeros(20, bool)
    known[10] = True
    assert neighbours(line, 10, known) == {9, 11}
    known[11] = True  # worse
    assert neighbours(line, 10, known) == {8}
    known[8] = True  # better
    assert neighbours(line, 8, known) == {4}
    known[4] = True  # worse
    assert neighbours(line, 8, known) == {6, 9}
    known[[7, 9]] = True
    assert neighbours(line, 8, known) == set() and neighbours(line, 19, np.arange(20) == 19) == {18}
    plane = np.stack(np.meshgrid(np.arange(3), np.arange(3), indexing="ij"), axis=-1).reshape(-1, 2)
    assert neighbours(plane, 4, np.arange(9) == 4) == {1, 3, 5, 7}


@EDGE
def test_seeds_are_kept_or_dropped_together():
    def train(h, key, steps):
        return h["x"] + jax.random.normal(key)

    result = loop.sweep(train, {"x": np.arange(9.0)}, seeds=4, budget=9, method="halving")
    assert result.best == {"x": 0.0}
    assert (result.steps == result.steps[:, :1]).all()
    draws = [jax.random.normal(jax.random.key(seed)) for seed in range(4)]
    np.testing.assert_allclose(result.value[0], draws, rtol=1e-6)


@EDGE
def test_random_points_lie_evenly_and_are_drawn_by_the_key():
    space = {"a": loop.interval(1e-4, 1.0, log=True), "b": [1.0, 2.0, 4.0]}

    def sweep(key):
        return loop.sweep(lambda h, k: h["a"] + h["b"], space, seeds=1, method="random", trials=30, key=key)

    one, two, typed = sweep(0), sweep(1), sweep(jax.random.key(1))
    assert one.values.shape == (30, 2)
    logs = np.sort(np.log10(one.values[:, 0]))
    assert logs[0] > -4 and logs[-1] < 0 and np.diff(logs).max() < 2 * 4 / 15
    assert all(8 <= (one.values[:, 1] == x).sum() <= 12 for x in (1, 2, 4))
    assert not np.array_equal(one.values, two.values) and not np.array_equal(typed.values, one.values)
    np.testing.assert_array_equal(one.values, sweep(0).values)


def test_an_interval_with_points_is_a_grid():
    with pytest.warns(UserWarning, match="rate = 0.01 is the lowest"):
        result = loop.sweep(lambda h, k: h["rate"], {"rate": loop.interval(0.01, 1, log=True, n=3)}, seeds=1)
    np.testing.assert_allclose(result.values[:, 0], [0.01, 0.1, 1.0], rtol=1e-6)


# ---- what it shows --------------------------------------------------------------------------------------------


def test_the_table_and_the_dict_say_what_was_found(grid):
    shown = repr(grid)
    best = grid.best
    assert "grid sweep: 18 settings x 2 seeds, 40 steps; loss, lower is better" in shown
    assert f"Best: rate = {best['rate']:.4g}, momentum = {best['momentum']:.4g}, with loss" in shown
    assert f"{grid.diverged.sum()} of 36 lanes diverged" in shown and "... and 6 settings more" in shown
    assert "2 of 2 (seed 0, 5)" in grid.table() and len(grid.table().splitlines()) == 18 + 3
    plain = json.loads(grid.to_json())
    assert plain == grid.to_dict() and plain["best"]["hyperparameters"] == best
    assert plain["best"]["metrics"].keys() == {"loss", "size"}
    worst = next(row for row in plain["settings"] if row["diverged_seeds"] == [0, 5])
    assert worst["mean"] is None and worst["metrics"]["loss"] == [None, None]


def test_an_edge_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match=r"sweep: The best setting lies at the edge.*x = 3 is the highest") as seen:
        result = loop.sweep(lambda h, k: {"y": h["x"] + 0 * h["z"]}, {"x": [1, 3, 2], "z": [0, 1]}, seeds=1, mode="max")
    assert seen[0].filename == __file__
    assert result.edges == {"x": "highest"} and "Warning: The best setting lies" in repr(result)
    result.to_json(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["edges"] == {"x": "highest"}


def test_all_diverged():
    with pytest.warns(UserWarning, match="All settings diverged"):
        result = loop.sweep(lambda h, k: h["x"] * jnp.nan, {"x": [1.0, 2.0]}, seeds=3)
    assert result.best is None and np.isnan(result.best_value) and "All settings diverged" in repr(result)
    assert result.to_dict()["best"] is None and "6 of 6 lanes diverged" in repr(result)


def test_progress_reaches_its_end():
    calls = []
    space = {"rate": RATES, "momentum": [0.5, 0.9]}
    loop.sweep(RUN, space, seeds=2, budget=40, metric="loss", chunk=8, progress=lambda *call: calls.append(call))
    assert sum(call[0] for call in calls) == calls[-1][1] == 18 * 2 * 40
    assert all(call[0] > 0 for call in calls)
    calls.clear()
    loop.sweep(
        RUN, space, seeds=2, budget=40, metric="loss", chunk=8, method="halving", progress=lambda *c: calls.append(c)
    )
    assert sum(call[0] for call in calls) == calls[-1][1] <= 18 * 2 * 40 / 4


# ---- what a trial may be ---------------------------------------------------------------------------------------


def test_without_evaluate_the_loss_is_measured():
    run = loop.trial(lambda h: jo.sgd(h["rate"]), loss, start, rows)
    result = loop.sweep(run, {"rate": [0.1, 0.2]}, seeds=1, budget=30, chunk=8)
    carry, losses = run.start({"rate": jnp.float32(0.1)}, jax.random.key(0)), []
    for _ in range(30):
        before = carry
        carry = jax.jit(run.step)(carry)
        key = jax.random.fold_in(before.key, before.t)
        losses.append(loss(before.train.params, rows(key, before.t)))
    weights = 0.95 ** np.arange(29, -1, -1)
    np.testing.assert_allclose(result.value[0, 0], np.average(losses, weights=weights), rtol=1e-5)
    full = loop.trial(lambda h: jo.sgd(h["rate"]), loss, start, (X, Y))
    assert loop.sweep(full, {"rate": [0.1, 0.2]}, seeds=1, budget=30, chunk=8).value[0, 0] < losses[0]


def test_infinite_numbers_that_were_there_at_the_start_are_no_divergence():
    run = loop.Trial(
        lambda h, key: {"best": jnp.inf, "history": jnp.full(5, jnp.nan), "x": h["x"], "t": 0},
        lambda c: c | {"x": c["x"] * 0.5, "t": c["t"] + 1, "history": c["history"].at[c["t"]].set(c["x"])},
        lambda c: c["x"],
    )
    result = loop.sweep(run, {"x": [1.0, 2.0]}, seeds=1, budget=4)
    assert not result.diverged.any() and result.value.tolist() == [[0.0625], [0.125]]


# ---- what is refused -----------------------------------------------------------------------------------------------


def steps(h, key, steps):
    return h["x"]


def one(h, key):
    return h["x"]


@pytest.mark.parametrize(
    ("kind", "words", "arguments"),
    [
        (HyperparameterTypeError, "space must be a dict", {"space": {}}),
        (TransformationError, "space must be a dict", {"space": [1.0]}),
        (HyperparameterError, "values of x must be a list of finite numbers", {"space": {"x": []}}),
        (HyperparameterError, "values of x must be a list of finite numbers", {"space": {"x": [1.0, jnp.nan]}}),
        (HyperparameterError, "values of x must differ", {"space": {"x": [1.0, 1.0]}}),
        (HyperparameterTypeError, "values of x must be numbers", {"space": {"x": ["adam"]}}),
        (HyperparameterTypeError, "values of x must be numbers", {"space": {"x": [True, False]}}),
        (HyperparameterError, "interval of x has no number of points", {"space": {"x": loop.Interval(1.0, 2.0)}}),
        (HyperparameterError, "the space has 'lr', which train does not read", {"space": {"x": [1.0], "lr": [1.0]}}),
        (HyperparameterError, "train reads the hyperparameter 'x'", {"space": {"lr": [1.0]}}),
        (HyperparameterTypeError, "seeds must be an integer >= 1", {"seeds": 0}),
        (HyperparameterTypeError, "seeds must be an integer >= 1", {"seeds": [-1]}),
        (HyperparameterTypeError, "seeds must be an integer >= 1", {"seeds": 0.5}),
        (HyperparameterError, "seeds must differ", {"seeds": [1, 1]}),
        (HyperparameterTypeError, "budget must be an integer", {"budget": 0}),
        (HyperparameterError, "budget must be given", {"train": steps}),
        (HyperparameterError, "budget must be given", {"train": RUN}),
        (TransformationError, "halving needs runs of several lengths", {"method": "halving", "budget": 9}),
        (HyperparameterError, "needs the number of settings", {"method": "random"}),
        (HyperparameterError, "trials is of no use in a grid", {"trials": 3}),
        (HyperparameterError, "method", {"method": "bayes"}),
        (HyperparameterError, "mode", {"mode": "least"}),
        (HyperparameterTypeError, "eta must be an integer of at least 2", {"eta": 1}),
        (HyperparameterTypeError, "chunk must be an integer", {"chunk": 0}),
        (HyperparameterError, "memory must be a share", {"memory": 1.5}),
        (HyperparameterError, "memory must be a share", {"memory": 0}),
        (HyperparameterTypeError, "devices must be a list", {"devices": 2}),
        (HyperparameterTypeError, "key must be an integer", {"key": -1, "method": "random", "trials": 2}),
        (HyperparameterError, "metric must be one of those", {"metric": "accuracy"}),
        (HyperparameterError, "metric must name one", {"train": lambda h, k: {"a": h["x"], "b": h["x"]}}),
        (TreeError, "metrics must be one real number", {"train": lambda h, k: jnp.ones(2) * h["x"]}),
        (TreeError, "metric 'a' must be one real number", {"train": lambda h, k: {"a": jnp.ones(2) * h["x"]}}),
        (TreeError, "metrics must have one number", {"train": lambda h, k: [h["x"], {}][1]}),
        (TransformationError, "train must be a function", {"train": 3}),
        (TransformationError, "step of the Trial must be a function", {"train": loop.Trial(one, None, one)}),
        (
            StateError,
            "the new state's leaf",
            {"train": loop.Trial(one, lambda x: jnp.stack([x, x]), lambda x: x), "budget": 3},
        ),
    ],
)
def test_what_does_not_fit_is_refused(kind, words, arguments):
    given = {"train": one, "space": {"x": [1.0, 2.0]}, "seeds": 1} | arguments
    train, space = given.pop("train"), given.pop("space")
    with pytest.raises(kind, match=words):
        loop.sweep(train, space, **given)


@pytest.mark.parametrize(
    "call",
    [
        lambda: loop.interval(1.0, 1.0),
        lambda: loop.interval(0.0, 1.0, log=True),
        lambda: loop.interval(0.0, jnp.inf),
        lambda: loop.interval(0.0, 1.0, n=1),
        lambda: loop.interval(0.0, 1.0, log=1),
    ],
)
def test_an_interval_that_is_none_is_refused(call):
    with pytest.raises(HyperparameterError, match="interval: "):
        call()


def test_what_make_optimizer_returns_is_a_pair():
    run = loop.trial(lambda h: h["rate"], loss, start, rows)
    with pytest.raises(TransformationError, match="trial: what make_optimizer returns"):
        loop.sweep(run, {"rate": [0.1]}, seeds=1, budget=3)


# ---- what was measured -------------------------------------------------------------------------------------------


def test_what_the_benchmark_recorded():
    """256 runs as people write them took ten times as long and more; halving costs a quarter of all steps at most."""
    file = pathlib.Path(__file__).parents[1] / "examples" / "benchmarks" / "results" / "sweep.json"
    report = json.loads(file.read_text(encoding="utf-8"))
    many = report["rates_and_seeds"]
    assert many["rates"] == 64 and many["seeds"] == 4 and many["programs"] <= 4
    for way in ("a program for each run", "steps from Python"):
        assert many["separate"][way]["times_slower"] >= 10
    assert len([row for row in report["halving"] if len(row["grid_best"]) == 1]) == 20
    assert all(row["share_of_nominal_steps"] <= 0.2501 for row in report["halving"])
    assert report["versions"].keys() >= {"jax", "jaxopt_ko", "optax"} and report["run"]["date"]
