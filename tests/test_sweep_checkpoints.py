"""Sweeps that are killed go on from the last chunk that was done."""

import logging
import os
import pathlib
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko import loop
from jaxopt_ko.errors import StateError

pytest.importorskip("orbax.checkpoint")
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:sweep. The best setting lies at the edge"),
]

ONE = jax.devices()[:1]


def noisy(key, t):
    return jax.random.normal(key, (3,)) + 1.0 / (t + 1).astype(jnp.float32)


def loss(params, batch):
    return jnp.mean((params["w"] - batch) ** 2)


RUN = loop.trial(lambda h: jo.adam(h["rate"]), loss, {"w": jnp.zeros(3)}, noisy, lambda p: jnp.sum((p["w"] - 1) ** 2))
SPACE = {"rate": np.geomspace(1e-3, 1e30, 12)}


def sweep(folder=None, **options):
    given = {"seeds": 2, "budget": 20, "chunk": 8, "devices": ONE, "method": "halving", **options}
    return loop.sweep(RUN, SPACE, checkpoint=folder, **given)


def function(h, key, steps):
    return (jnp.log(h["rate"]) - 1) ** 2 + 0.1 * jax.random.normal(key) / steps


CHILD = """
import os, signal, sys
sys.path[:0] = {path!r}
import conftest  # the same flags: the same programs
import test_sweep_checkpoints as t
calls = []
def killed(*report):
    calls.append(report)
    if len(calls) == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
t.sweep({folder!r}, progress=killed, method={method!r})
"""


def killed(folder, after, method):
    code = CHILD.format(path=[p for p in sys.path if p], folder=str(folder), after=after, method=method)
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def same(one, two):
    for name in ("value", "steps", "measured", "diverged"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def counted(monkeypatch):
    """The calls that train a chunk."""
    from jaxopt_ko.training.sweeps.lanes import Lanes

    calls, advance = [], Lanes.advance
    monkeypatch.setattr(Lanes, "advance", lambda self, *given: (calls.append(given), advance(self, *given))[1])
    return calls


@pytest.mark.parametrize(("method", "after"), [("grid", 5)])
def test_kill_9_loses_no_chunk_that_was_done(method, after, tmp_path, monkeypatch):
    calls = counted(monkeypatch)
    whole = sweep(method=method)
    number = len(calls)
    calls.clear()
    killed(tmp_path / "run", after, method)
    again = sweep(tmp_path / "run", method=method)
    same(again, whole)
    assert len(calls) <= number - after
    calls.clear()
    done = sweep(tmp_path / "run", method=method)
    same(done, whole)
    assert not calls and done.chunk == whole.chunk and done.best == whole.best
    assert len(list(pathlib.Path(tmp_path / "run").iterdir())) == 1


def test_what_is_not_whole_is_passed_over(tmp_path, monkeypatch, caplog):
    whole, calls = sweep(), []

    def report(*call):
        calls.append(call)
        if len(calls) == 2:
            raise StopError

    with pytest.raises(StopError):
        sweep(tmp_path / "run", progress=report)
    newest = max(tmp_path.joinpath("run").iterdir(), key=lambda path: int(path.name))
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with caplog.at_level(logging.WARNING, logger="jaxopt_ko"):
        again = sweep(tmp_path / "run")
    assert f"number {newest.name} in" in caplog.text
    np.testing.assert_array_equal(again.value, whole.value)


class StopError(Exception):
    """As Ctrl-C, or a device that is lost."""


@pytest.mark.parametrize("train", [RUN, function], ids=["trial", "function"])
def test_a_halving_goes_on_wherever_it_stopped(train, tmp_path, monkeypatch):
    def halve(folder=None, after=None):
        calls = []

        def report(*call):
            calls.append(call)
            if len(calls) == after:
                raise StopError

        given = {"seeds": 2, "budget": 20, "chunk": 8, "devices": ONE, "method": "halving", "progress": report}
        return loop.sweep(train, SPACE, checkpoint=folder, **given)

    whole = halve()
    for after in range(1, 4):
        with pytest.raises(StopError):
            halve(tmp_path / "run", after)
    calls = counted(monkeypatch)
    same(halve(tmp_path / "run"), whole)
    left = len(calls)
    calls.clear()
    halve()
    assert left < len(calls)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("budget must be that of the sweep in .* Got 30, and there 20", {"budget": 30}),
        ("seeds must be that", {"seeds": 3}),
        ("method must be that", {"method": "grid"}),
        ("mode must be that", {"mode": "max"}),
    ],
)
def test_the_folder_of_another_sweep_is_refused(words, options, folder):
    with pytest.raises(StateError, match=words):
        sweep(folder, **options)
    with pytest.raises(StateError, match="space must be that"):
        loop.sweep(RUN, {"rate": [0.1]}, seeds=2, budget=20, method="halving", checkpoint=folder)
    other = loop.trial(lambda h: jo.sgd(h["rate"]), loss, {"w": jnp.zeros(3)}, noisy, lambda p: jnp.sum(p["w"]))
    with pytest.raises(StateError, match="the carry must be that"):
        loop.sweep(other, SPACE, seeds=2, budget=20, method="halving", checkpoint=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "run"
    sweep(path)
    return path


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"sweep: the checkpoint in .*file.* could not be opened"):
        sweep(tmp_path / "file" / "run")
