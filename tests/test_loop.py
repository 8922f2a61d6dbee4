"""The training loop: exact on real data, equal to the Python loop, stopping by itself, one bar for all lanes."""

import io
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cases import assert_rounded
from jaxopt_ko import losses
from jaxopt_ko.errors import HyperparameterError, MissingArgumentError, StateError, TransformationError, TreeError
from jaxopt_ko.training import data, fit
from jaxopt_ko.types import GradientTransformation

# Ten rows of a published table (a Korean PyTorch course, lecture 5) and their least squares line.
X = jnp.arange(1.0, 11.0)
Y = jnp.array([0.94, 1.98, 2.88, 3.92, 3.96, 4.55, 5.64, 6.3, 7.44, 9.1])
LINE = {"w": 0.8152, "b": 0.1873}
START = {"w": jnp.zeros(()), "b": jnp.zeros(())}
KEY = jax.random.key(0)


class Velocity(NamedTuple):
    t: jax.Array  # int32[]
    v: dict  # like params


def descent(lr, momentum=0.9, half_life=None):
    """Written by hand, so that nothing here depends on the package's own optimizers."""

    def init(params):
        return Velocity(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(grads, state, params=None):
        now = lr if half_life is None else lr / (1 + state.t.astype(jnp.float32) / half_life)
        v = jax.tree.map(lambda v, g: momentum * v + g, state.v, grads)
        return jax.tree.map(lambda v: -now * v, v), Velocity(state.t + 1, v)

    return GradientTransformation(init, update)


def loss_fn(params, batch):
    x, y = batch
    return losses.mean_squared_error(params["w"] * x + params["b"], y)


def whole_loss(params):
    return loss_fn(params, (X, Y))


def train(lr, key, rows=(X, Y), batches=data.mini_batch(10, 5), epochs=8, optimizer=descent, **options):  # noqa: B008
    return fit.fit(loss_fn, START, optimizer(lr), rows, batches, key=key, epochs=epochs, **options)


# ---- training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batches", "lr", "half_life", "epochs", "tolerance"),
    [
        (data.full_batch(10), 2e-3, None, 600, 1e-4),
        (data.mini_batch(10, 5), 2e-3, 100, 600, 1e-2),
        (data.stochastic(10), 5e-4, 400, 400, 2e-2),
    ],
    ids=["full", "mini", "stochastic"],
)
def test_the_published_line_is_found(batches, lr, half_life, epochs, tolerance):
    slope, intercept = np.polyfit(X, Y, 1)
    np.testing.assert_allclose([slope, intercept], [LINE["w"], LINE["b"]], atol=6e-5)
    run = jax.jit(
        lambda: train(lr, KEY, batches=batches, epochs=epochs, optimizer=lambda lr: descent(lr, 0.9, half_life))
    )()
    np.testing.assert_allclose(run.params["w"], LINE["w"], atol=tolerance)
    np.testing.assert_allclose(run.params["b"], LINE["b"], atol=5 * tolerance)
    assert run.loss.shape == (epochs, batches.steps)
    assert int(run.steps) == epochs * batches.steps


def with_aux(params, batch):
    return loss_fn(params, batch), {"seen": batch[0]}


@pytest.mark.rounding
def test_a_scan_is_the_python_loop():
    batches = data.mini_batch(10, 3)
    run = jax.jit(
        lambda: fit.fit(
            with_aux, START, descent(0.01), (X, Y), batches,
            key=KEY, epochs=4, has_aux=True, metrics=lambda p: {"loss": whole_loss(p)},
        )
    )()  # fmt: skip
    optimizer = descent(0.01)
    step = jax.jit(fit.train_step(with_aux, optimizer, has_aux=True))
    carry, whole = fit.Carry(START, optimizer.init(START)), jax.jit(whole_loss)
    for epoch in range(4):
        for i, indices in enumerate(batches.plan(KEY, epoch)):
            carry, (loss, aux) = step(carry, data.gather((X, Y), indices))
            assert_rounded((loss, aux["seen"]), (run.loss[epoch, i], run.aux["seen"][epoch, i]))
        assert_rounded(whole(carry.params), run.metrics["loss"][epoch])
    assert_rounded(carry, fit.Carry(run.params, run.state))


@pytest.mark.rounding
def test_a_run_in_two_parts_is_the_whole_run():
    """Its batches, draws and state; of four epochs and of eight there are two programs."""
    whole = jax.jit(lambda: train(0.01, KEY))()
    part = jax.jit(
        lambda params, state, first: fit.fit(
            loss_fn, params, descent(0.01), (X, Y), data.mini_batch(10, 5),
            key=KEY, epochs=4, state=state, first_epoch=first,
        )
    )  # fmt: skip
    one = part(START, descent(0.01).init(START), 0)
    two = part(one.params, one.state, 4)
    assert_rounded((two.params, two.state), (whole.params, whole.state))
    assert_rounded(jnp.concatenate([one.loss, two.loss]), whole.loss)


def test_one_compilation_for_new_data_keys_and_rates_and_one_scan_for_all():
    traces = []

    def counted(lr, key, rows):
        traces.append(1)
        return train(lr, key, rows)

    run = jax.jit(counted)
    a = run(0.01, KEY, (X, Y))
    b = run(0.02, jax.random.key(1), (X, 2 * Y))
    assert len(traces) == 1
    assert not np.array_equal(a.loss, b.loss)
    jaxpr = jax.make_jaxpr(lambda: train(0.01, KEY))()
    assert [str(e.primitive) for e in jaxpr.eqns].count("scan") == 1


def test_vmap_over_rates_and_keys():
    rates, keys = jnp.array([0.001, 0.01]), jax.random.split(KEY, 3)
    grid = jax.vmap(jax.vmap(train, (None, 0)), (0, None))
    runs = jax.jit(grid)(rates, keys)
    one = jax.jit(train)
    for lane in ((0, 2), (1, 0)):
        mine = jax.tree.map(lambda x, lane=lane: x[lane], runs)
        single = one(rates[lane[0]], keys[lane[1]])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), mine, single)


def test_a_gradient_through_a_run():
    def last(lr):
        return whole_loss(train(lr, KEY, progress=lambda *_: None).params)

    grad, h = jax.jit(jax.grad(last))(0.001), 1e-5
    assert np.isfinite(grad)
    np.testing.assert_allclose(grad, (last(0.001 + h) - last(0.001 - h)) / (2 * h), rtol=0.05)


def line_search():
    """Takes optax's words for line searches: the longest of four steps that is best."""

    def update(grads, state, params, *, value, grad, value_fn):
        del value
        trials = jnp.array([0.0, 1e-3, 3e-3, 1e-2])
        lr = trials[
            jnp.argmin(jax.vmap(lambda a: value_fn(jax.tree.map(lambda p, g: p - a * g, params, grad)))(trials))
        ]
        return jax.tree.map(lambda g: -lr * g, grads), state

    return (lambda params: ()), update


@pytest.mark.parametrize("optimizer", [optax.sgd(0.003, momentum=0.5), tuple(descent(0.003, 0.5)), line_search()])
def test_any_pair_trains(optimizer):
    run = fit.fit(loss_fn, START, optimizer, (X, Y), data.full_batch(10), key=None, epochs=30)
    assert run.loss[-1, 0] < 0.2 < run.loss[0, 0]


def test_params_keep_their_dtypes_and_none_leaves():
    params = {"w": jnp.zeros((), jnp.bfloat16), "b": jnp.zeros(()), "unused": None}

    def loss(params, batch):
        x, y = batch
        return losses.mean_squared_error(params["w"].astype(jnp.float32) * x + params["b"], y)

    run = fit.fit(loss, params, descent(0.001), (X, Y), data.full_batch(10), key=None, epochs=2)
    assert jax.tree.map(jnp.result_type, run.params) == jax.tree.map(jnp.result_type, params)


# ---- early stopping -------------------------------------------------------------------------------------


def feed(stopping, values):
    """The states after each value, and the params, numbered like the values, that each keeps."""
    state, states = stopping.init(jnp.asarray(-1)), []
    for i, value in enumerate(values):
        state = stopping.update(value, state, jnp.asarray(i))
        states.append(state)
    return states


def test_patience_counts_from_the_best():
    states = feed(fit.early_stopping(2), [3.0, 2.0, 2.5, 1.0, 1.0, 1.5, 0.5, 9.0])
    assert [bool(s.should_stop) for s in states] == [False] * 5 + [True] * 3  # and it stays stopped
    assert [int(s.best_params) for s in states] == [0, 1, 1, 3, 3, 3, 6, 6]
    assert [float(s.best) for s in states] == [3, 2, 2, 1, 1, 1, 0.5, 0.5]
    assert [int(s.wait) for s in states] == [0, 0, 1, 0, 1, 2, 0, 1]


def test_min_delta_mode_and_nan():
    states = feed(fit.early_stopping(9, min_delta=0.5), [3.0, 2.6, 2.4, np.nan, np.inf])
    assert [int(s.best_params) for s in states] == [0, 0, 2, 2, 2]
    states = feed(fit.early_stopping(2, mode="max"), [np.nan, 0.1, 0.3, 0.2, np.nan])
    assert [int(s.best_params) for s in states] == [-1, 1, 2, 2, 2]
    assert [bool(s.should_stop) for s in states] == [False, False, False, False, True]


def test_early_stopping_is_pure_and_traceable():
    def run(patience, values):
        stopping = fit.early_stopping(patience)
        state, _ = jax.lax.scan(lambda s, v: (stopping.update(v, s), None), stopping.init(), values)
        return state

    values = jnp.array([1.0, 2.0, 2.0])
    states = jax.jit(jax.vmap(run, (0, None)))(jnp.array([1, 3]), values)
    np.testing.assert_array_equal(states.should_stop, [True, False])
    assert states.best_params is None


def stopped(lr, key, **options):
    return train(
        lr, key, epochs=12, metrics=lambda p: {"loss": whole_loss(p), "count": jnp.ones((), jnp.int32)},
        early_stopping=fit.early_stopping(2), monitor="loss", optimizer=lambda lr: descent(lr, 0.0), **options,
    )  # fmt: skip


def test_a_stopped_run_does_nothing_more_and_keeps_the_best():
    steep, gentle = jnp.array([0.05, 0.001])
    run = jax.jit(stopped)(steep, KEY)
    epochs = int(run.steps) // 2
    assert epochs < 12
    assert bool(run.stopping.should_stop)
    assert np.all(np.isfinite(run.loss[:epochs]))
    assert np.all(np.isnan(run.loss[epochs:]))
    assert np.all(np.isnan(run.metrics["loss"][epochs:]))
    np.testing.assert_array_equal(run.metrics["count"], np.arange(12) < epochs)
    best = int(np.argmin(run.metrics["loss"][:epochs]))
    assert best == epochs - 3
    np.testing.assert_array_equal(run.stopping.best, run.metrics["loss"][best])
    np.testing.assert_allclose(whole_loss(run.params), run.stopping.best, rtol=1e-6)
    assert int(run.state.t) == run.steps

    lanes = jax.jit(jax.vmap(stopped, (0, None)))(jnp.stack([steep, gentle]), KEY)
    assert lanes.steps.tolist() == [int(run.steps), 24]
    assert lanes.stopping.should_stop.tolist() == [True, False]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-4), lanes.params, run.params)


def test_a_run_that_turns_to_nan_stops_with_what_it_had():
    run = jax.jit(stopped)(1e18, KEY)
    assert int(run.steps) < 24
    assert bool(run.stopping.should_stop)
    assert np.isfinite(whole_loss(run.params)) or not np.isfinite(run.metrics["loss"][0])


# ---- progress -------------------------------------------------------------------------------------------


class Reports(list):
    def __call__(self, advance, total, loss, lanes):
        self.append((advance, total, loss, lanes))


@pytest.mark.parametrize(
    ("batches", "epochs"),
    [(data.mini_batch(10, 5), 8), (data.full_batch(10), 307), (data.stochastic(10), 3), (data.full_batch(10), 1)],
)
def test_reports_are_few_and_add_up_and_change_nothing(batches, epochs):
    reports, total = Reports(), epochs * batches.steps
    run = jax.jit(lambda key: train(0.001, key, batches=batches, epochs=epochs, progress=reports))
    got = run(KEY)
    jax.effects_barrier()
    assert len(reports) <= 200
    assert len(reports) >= min(total, 25)
    assert sum(advance for advance, *_ in reports) == total
    assert all(advance > 0 and of == total and lanes == 1 for advance, of, _, lanes in reports)
    without = jax.jit(lambda key: train(0.001, key, batches=batches, epochs=epochs))(KEY)
    np.testing.assert_allclose(got.loss, without.loss, rtol=1e-4)  # XLA rounds cut loops in its own way
    if total > 1:  # the same program once more
        reports.clear()
        jax.block_until_ready(run(jax.random.key(1)))
        jax.effects_barrier()
        assert sum(advance for advance, *_ in reports) == total


def test_a_long_epoch_of_awkward_length_is_cut_into_blocks():
    n, reports = 211, Reports()  # a prime, more than twice the number of reports
    rows = (jnp.linspace(0.0, 1.0, n), jnp.linspace(1.0, 2.0, n))
    options = {"rows": rows, "batches": data.stochastic(n), "epochs": 1}
    with_bar = jax.jit(lambda: train(0.01, KEY, progress=reports, **options))()
    jax.effects_barrier()
    assert 50 <= len(reports) <= 101
    assert sum(advance for advance, *_ in reports) == n
    without = jax.jit(lambda: train(0.01, KEY, **options))()
    np.testing.assert_allclose(with_bar.loss, without.loss, rtol=1e-3, atol=1e-6)


def test_one_report_for_all_lanes_with_the_lowest_loss():
    reports = Reports()
    grid = jax.vmap(jax.vmap(lambda lr, key: stopped(lr, key, progress=reports), (None, 0)), (0, None))
    runs = jax.jit(grid)(jnp.array([0.001, 0.05]), jax.random.split(KEY, 3))
    jax.effects_barrier()
    assert sum(advance for advance, *_ in reports) == 24
    assert all(lanes == 6 for *_, lanes in reports)
    np.testing.assert_allclose(reports[-1][2], jnp.min(runs.loss[0, :, -1, -1]), rtol=1e-5)


def test_the_bar_is_drawn_and_closed_and_drawn_anew():
    out = io.StringIO()
    run = jax.jit(lambda lr: train(lr, KEY, progress=fit.ProgressBar("lines", file=out, mininterval=0)))
    for _ in range(2):
        jax.block_until_ready(run(0.001))
        jax.effects_barrier()
    text = out.getvalue()
    assert text.count("16/16") >= 2
    assert all(word in text for word in ("lines", "step/s", "loss "))
    assert text.count("\n") == 2


def test_several_runs_share_a_bar():
    out = io.StringIO()
    bar = fit.ProgressBar(total=32, file=out, mininterval=0)
    jax.block_until_ready(jax.jit(lambda: [train(lr, KEY, progress=bar).loss for lr in (0.01, 0.001)])())
    jax.effects_barrier()
    assert "32/32" in out.getvalue()
    assert out.getvalue().count("\n") == 1


def test_without_tqdm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match=r'pip install "jaxopt_ko\[examples\]"'):
        train(0.01, KEY, progress=True)


# ---- errors ---------------------------------------------------------------------------------------------


def drifting(grads, state, params=None):
    return grads, {"v": jax.tree.map(lambda g: g.astype(jnp.bfloat16), state["v"])}


def regrouped(grads, state, params=None):
    return grads, {"u": state["v"]}


def start_v(params):
    return {"v": params}


ONE = {"key": None, "epochs": 1}


def fit_with(optimizer=optax.sgd(0.1), loss=loss_fn, **options):  # noqa: B008
    return fit.fit(loss, START, optimizer, (X, Y), data.full_batch(10), **{**ONE, **options})


@pytest.mark.parametrize(
    ("kind", "call", "words"),
    [
        (StateError, lambda: fit_with((start_v, drifting)), r"train_step.*\['v'\]\['b'\].*float32.*bfloat16"),
        (StateError | TreeError, lambda: fit_with((start_v, regrouped)), r"train_step.*\['v'\]\['b'\]"),
        (TransformationError, lambda: fit_with(optax.sgd), "sgd without its call"),
        (TreeError, lambda: fit_with(loss=lambda p, b: p["w"] * b[0]), r"one real number.*float32\[10\]"),
        (TreeError, lambda: fit_with(loss=lambda p, b: jnp.ones((), int)), "one real number.*int32"),
        (TreeError, lambda: fit_with(loss=with_aux), "one real number.*has_aux=True"),
        (TreeError, lambda: fit_with(has_aux=True), r"must return \(loss, aux\)"),
        (HyperparameterError, lambda: fit_with(epochs=0), "epochs must be an integer >= 1"),
        (HyperparameterError, lambda: fit_with(progress=3), "progress must be"),
        (HyperparameterError, lambda: fit_with(early_stopping=fit.early_stopping(1)), "a number to watch"),
        (
            HyperparameterError,
            lambda: fit_with(
                early_stopping=fit.early_stopping(1), metrics=lambda p: {"loss": p["w"]}, monitor="accuracy"
            ),
            r"monitor='accuracy', metrics \['loss'\]",
        ),
        (HyperparameterError, lambda: fit.early_stopping(0), "patience must be"),
        (HyperparameterError, lambda: fit.early_stopping(None), "patience must be"),
        (HyperparameterError, lambda: fit.early_stopping(1.5), "patience must be an integer"),
        (HyperparameterError, lambda: fit.early_stopping("2"), "patience must be an integer"),
        (HyperparameterError, lambda: fit.early_stopping(lambda t: 2), "patience must be an integer"),
        (HyperparameterError, lambda: fit.early_stopping(1, min_delta=lambda t: 0.1), "min_delta must be a number"),
        (TreeError, lambda: fit.early_stopping(1).update("low", fit.early_stopping(1).init()), "must be one number"),
        (StateError, lambda: fit.early_stopping(1).update(1.0, None), "must be an EarlyStoppingState"),
        (HyperparameterError, lambda: fit.early_stopping(1, min_delta=-1.0), "min_delta must be"),
        (HyperparameterError, lambda: fit.early_stopping(1, mode="least"), "mode must be one of"),
        (TreeError, lambda: feed(fit.early_stopping(1), [jnp.ones(2)]), "must be one number"),
        (
            MissingArgumentError,
            lambda: fit.early_stopping(1).update(1.0, fit.early_stopping(1).init(START)),
            "params are missing",
        ),
    ],
)
def test_what_does_not_fit_is_refused(kind, call, words):
    kinds = kind.__args__ if hasattr(kind, "__args__") else kind
    with pytest.raises(kinds, match=words):
        call()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("batches must be a plan", {"batches": 5}),
        ("batches must be a plan", {"batches": None}),
        ("key must be one PRNG key. Got a int: 0", {"key": 0}),
        ("key must be one PRNG key", {"key": "a"}),
        ("loss_fn must be a function", {"loss_fn": "a"}),
        ("metrics must be a function", {"metrics": "acc"}),
        ("what metrics.params. returns must be a tree of arrays", {"metrics": lambda p: "acc"}),
        ("params is missing", {"params": None}),
        ("the params leaf", {"params": "a"}),
        ("first_epoch must be an integer of at least 0", {"first_epoch": -1}),
        ("first_epoch must be an integer", {"first_epoch": 1.5}),
        ("first_epoch must be an integer", {"first_epoch": True}),
        ("first_epoch must be an integer", {"first_epoch": None}),
        ("monitor is of no use without early_stopping", {"monitor": "loss"}),
        ("monitor must be the name", {"monitor": 3, "early_stopping": fit.early_stopping(1)}),
        ("state must be a tree of arrays", {"state": "x"}),
        ("has_aux must be True or False", {"has_aux": "no"}),
        ("optimizer must be a transformation", {"optimizer": "adam"}),
    ],
)
def test_arguments_of_fit_are_refused_in_its_words(words, options):
    given = {
        "loss_fn": loss_fn, "params": START, "optimizer": descent(0.1), "data": (X, Y),
        "batches": data.mini_batch(10, 5), "key": KEY, "epochs": 1, **options,
    }  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=f"^(fit|train_step): .*{words}") as caught:
        fit.fit(**given)
    assert type(caught.value).__module__ == "jaxopt_ko.errors"
