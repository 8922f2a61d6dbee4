"""Runs that are saved: they go on bit for bit, whatever ended them."""

import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from cases import assert_rounded, assert_same_bits
from jaxopt_ko import loop
from jaxopt_ko.errors import HyperparameterError, StateError, TransformationError

pytest.importorskip("orbax.checkpoint")
# orbax leaves event loops behind where a file could not be read or written
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

X = jnp.arange(1.0, 11.0)
Y = 0.8 * X + 0.2 + 0.1 * jnp.sin(3 * X)
START = {"w": jnp.zeros(()), "b": jnp.zeros(())}
KEY = jax.random.key(3)


def loss(params, batch):
    x, y = batch
    error = params["w"] * x + params["b"] - y
    return jnp.mean(error**2), {"largest": jnp.max(jnp.abs(error))}


def metrics(params):
    return {"loss": loss(params, (X, Y))[0]}


def noisy_adam(rate=0.05):
    return jo.chain(jo.add_noise(1e-3, 0.5, key=0), jo.adam(rate))  # a key in the state


def train(checkpoint=None, epochs=6, optimizer=None, key=KEY, params=START, **options):
    given = {"has_aux": True, "metrics": metrics, **options}
    optimizer = noisy_adam() if optimizer is None else optimizer
    plan = jo.data.mini_batch(10, 5)
    return loop.fit(loss, params, optimizer, (X, Y), plan, key=key, epochs=epochs, checkpoint=checkpoint, **given)


def epochs_in(folder):
    return sorted(int(entry.name) for entry in pathlib.Path(folder).iterdir() if entry.name.isdigit())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of six epochs that nothing ended, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return train(folder / "run"), folder / "run"


def test_it_is_the_run_without_checkpoints(whole):
    plain = train()
    assert plain.interrupted is None and whole[0].interrupted is not None and not whole[0].interrupted
    assert_rounded(whole[0]._replace(interrupted=None), plain)  # of one epoch and of six there are two programs
    assert epochs_in(whole[1]) == [5, 6]


@pytest.mark.parametrize(("every", "parts"), [(1, (2, 6)), (2, (1, 3, 6)), (4, (5, 6))])
def test_it_goes_on_bit_for_bit(every, parts, whole, tmp_path):
    """Parameters, state with its key, history, batches; also where the cuts are not the checkpoints."""
    where = loop.Checkpoints(tmp_path / "run", every=every, keep=1)
    for epochs in parts:
        run = train(where, epochs=epochs)
        assert run.loss.shape == (epochs, 2) and epochs_in(tmp_path / "run") == [epochs]
    assert_same_bits(run, whole[0])


def test_a_run_that_is_done_is_read_and_not_made_again(whole, tmp_path):
    shutil.copytree(whole[1], tmp_path / "run")
    calls = []
    again = train(tmp_path / "run", progress=lambda *report: calls.append(report))
    assert_same_bits(again, whole[0])
    assert not calls


def test_early_stopping_goes_on_too(tmp_path):
    def stopped(folder, epochs):
        stop = loop.early_stopping(2, min_delta=0.05)
        return train(folder, epochs, early_stopping=stop, monitor="loss", optimizer=jo.sgd(0.01))

    one = stopped(tmp_path / "one", 40)
    assert one.stopping.should_stop and int(one.steps) < 80 and np.isnan(one.loss[-1]).all()
    done = epochs_in(tmp_path / "one")[-1]
    assert done == int(one.steps) // 2
    stopped(tmp_path / "two", done - 1)
    two = stopped(tmp_path / "two", 40)
    for a, b in zip(jax.tree.leaves(two), jax.tree.leaves(one), strict=True):
        np.testing.assert_array_equal(a, b)  # what was not done is NaN


# ---- what ends a run --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def ctrl_c():
    """As from a terminal: a shell's background job is started without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_at(epoch):
    def report(advance, total, value, lanes):
        report.done += advance
        if report.done >= 2 * epoch:
            report.done = -(10**6)
            signal.raise_signal(signal.SIGINT)

    report.done = 0
    return report


def test_ctrl_c_returns_what_is_done(whole, tmp_path, caplog):
    for attempt in range(5):  # a run of twelve steps may be over before the signal comes to it
        folder = tmp_path / str(attempt)
        with caplog.at_level(logging.WARNING, logger="jaxopt_ko"):
            run = train(folder, progress=interrupt_at(4))
        if run.interrupted:
            break
    assert bool(run.interrupted)
    done = int(run.steps) // 2
    assert 3 <= done < 6 and epochs_in(folder)[-1] == done
    assert f"interrupted after epoch {done} of 6" in caplog.text
    np.testing.assert_array_equal(run.loss[:done], whole[0].loss[:done])
    assert np.isnan(run.loss[done:]).all() and np.isnan(run.metrics["loss"][done:]).all()
    assert_same_bits(train(folder), whole[0])


def test_ctrl_c_between_epochs(whole, tmp_path, monkeypatch):
    from jaxopt_ko.training.checkpoints import Store

    save = Store.save

    def interrupted(self, done, *rest):
        save(self, done, *rest)
        if done == 2:
            monkeypatch.setattr(Store, "save", save)
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "save", interrupted)
    run = train(tmp_path / "run")
    assert bool(run.interrupted) and int(run.steps) == 4
    assert_same_bits(train(tmp_path / "run"), whole[0])


CHILD = """
import os, signal, resource, sys
sys.path[:0] = {path!r}
import conftest  # the same flags: the same programs
import jax, test_fit_checkpoints as t
{before}
t.train({folder!r})
"""
KILLED = """
rename = os.rename
def killed(a, b, *more, **options):
    if os.path.basename(os.fspath(b)) == "4":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(a, b, *more, **options)
os.rename = killed
import pathlib
pathlib.Path.rename = lambda self, target: killed(self, target)
"""
FULL = """
from jaxopt_ko.training.checkpoints import Store
save = Store.save
def full(self, done, *rest):
    if done == 4:
        self.manager.wait_until_finished()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    save(self, done, *rest)
Store.save = full
"""


def child(folder, before):
    code = CHILD.format(path=[place for place in sys.path if place], folder=str(folder), before=before)
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_kill_9_while_a_checkpoint_is_written(whole, tmp_path):
    """All of the fourth is there but for its last name, when the process ends without another word."""
    ended = child(tmp_path / "run", KILLED)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert epochs_in(tmp_path / "run")[-1] == 3
    assert any("tmp" in entry.name for entry in (tmp_path / "run").iterdir())
    assert_same_bits(train(tmp_path / "run"), whole[0])
    assert not any("tmp" in entry.name for entry in (tmp_path / "run").iterdir())


def test_a_full_disk_is_said_and_the_last_good_one_kept(whole, tmp_path):
    """No file may grow beyond 100 bytes any more."""
    ended = child(tmp_path / "run", FULL)
    said = f"OSError: fit: the checkpoint in {tmp_path / 'run'} could not be written after epoch 4"
    assert ended.returncode == 1 and said in ended.stderr, ended.stderr
    assert "the last good one is of epoch 3" in ended.stderr
    assert epochs_in(tmp_path / "run")[-1] == 3
    assert_same_bits(train(tmp_path / "run"), whole[0])


def test_one_that_cannot_be_read_is_passed_over(whole, tmp_path, caplog):
    shutil.copytree(whole[1], tmp_path / "run")
    spoilt = [path for path in (tmp_path / "run" / "6").rglob("*") if path.is_file()]
    for path in spoilt:
        path.write_bytes(b"")
    with caplog.at_level(logging.WARNING, logger="jaxopt_ko"):
        run = train(tmp_path / "run")
    assert "no whole checkpoint of epoch 6" in caplog.text
    assert_same_bits(run, whole[0])
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(StateError, match=r"no checkpoint in .* can be read"):
        train(tmp_path / "run")


# ---- what else ----------------------------------------------------------------------------------------------------


def test_any_parameters_are_kept(tmp_path):
    """Names with slashes, half precision, empty leaves, a tuple, None."""
    start = {"a/b": jnp.ones(2, jnp.bfloat16), "a": {"b": jnp.ones(2)}, "none": None}
    start["e"] = jnp.ones((0, 3)), jnp.ones(())

    def objective(params, batch):
        return sum(jnp.sum(p.astype(jnp.float32) ** 2) for p in jax.tree.leaves(params)) * jnp.mean(batch[0])

    def run(folder, epochs):
        return loop.fit(
            objective, start, jo.adamw(0.01), (X, Y), jo.data.full_batch(10), key=None, epochs=epochs, checkpoint=folder
        )

    run(tmp_path / "two", 2)
    assert_same_bits(run(tmp_path / "two", 3), run(str(tmp_path / "one"), 3))


def test_its_state_goes_into_another_optimizer(whole):
    import orbax.checkpoint as ocp

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # orbax wants shardings
        saved = ocp.PyTreeCheckpointer().restore(whole[1] / "6" / "default")
    assert_same_bits(jo.load_state(noisy_adam(), START, saved["state"])[0], whole[0].state)
    clipped = jo.chain(jo.clip(1.0), jo.adamw(0.1))
    state, _ = jo.load_state(clipped, START, saved["state"], on_extra="drop")
    assert_same_bits(jo.tree.get(state, "mu"), jo.tree.get(whole[0].state, "mu"))


def test_the_package_alone_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ImportError, match=r'fit: orbax writes.*pip install "jaxopt_ko\[checkpoints\]"'):
        train(tmp_path / "run")


@pytest.mark.parametrize(
    ("kind", "call", "words"),
    [
        (HyperparameterError, lambda folder: train(3), "checkpoint must be a folder or a Checkpoints. Got a int: 3"),
        (HyperparameterError, lambda folder: train(""), "checkpoint must be a folder"),
        (HyperparameterError, lambda folder: loop.Checkpoints(3), "directory must be the path"),
        (HyperparameterError, lambda folder: loop.Checkpoints("a", every=0), "every must be an integer of at least 1"),
        (HyperparameterError, lambda folder: loop.Checkpoints("a", keep=0), "keep must be an integer of at least 1"),
        (TransformationError, lambda folder: jax.jit(lambda k: train(folder, key=k))(KEY), "cannot be traced"),
        (StateError, lambda folder: train(folder, epochs=3), "epochs must be 6 at least"),
        (StateError, lambda folder: train(folder, key=jax.random.key(4)), "key must be that of the run in"),
        (StateError, lambda folder: train(folder, first_epoch=1), "first_epoch must be that of the run in"),
        (StateError, lambda folder: train(folder, optimizer=jo.sgd(0.1, 0.9)), "the leaf '.*trace/b' of state must"),
        (StateError, lambda folder: train(folder, optimizer=jo.sgd(0.1)), "of state in .* has no place in this run"),
        (
            StateError,
            lambda folder: train(folder, params=START | {"w": jnp.zeros(1)}),
            "'w' of params must",
        ),
        (StateError, lambda folder: train(folder, metrics=None), "'2/loss' of history in .* has no place"),
    ],
)
def test_what_does_not_fit_is_refused(kind, call, words, whole):
    with pytest.raises(kind, match=words):
        call(whole[1])


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"fit: the checkpoint in .*file.* could not be opened"):
        train(tmp_path / "file" / "run")
