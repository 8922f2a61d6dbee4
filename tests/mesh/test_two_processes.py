"""Two real processes under `jax.distributed`, gloo between them: one process's numbers, and a death in mid-run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "two_processes.py"
METHODS = [("muon",), pytest.param(("adamw", "muon", "shampoo", "multi_steps"), marks=pytest.mark.slow)]


@pytest.fixture
def folder(tmp_path, methods):
    """Where the processes left what they came to. The parent ends its processes, and they end without a parent."""
    made = tmp_path
    command = [sys.executable, "-W", "error", str(EXAMPLE), "--folder", str(made), "--methods", *methods]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (made / "said").write_text(run.stdout)
    return made


def ended_with(folder, name):
    """(parameters, losses)"""
    with np.load(folder / f"{name}.npz") as kept:
        return [kept[key] for key in kept.files if key != "losses"], kept["losses"]


@pytest.mark.parametrize("methods", METHODS, ids="-".join)
def test_two_processes_equal_one_and_outlive_a_death(folder, methods):
    """One test: two workers of pytest would each start the processes."""
    for method in methods:
        check_two_equal_one(method, folder)
    check_the_resumed_run(folder)
    check_no_process_is_left(folder)


def check_two_equal_one(method, folder):
    (both, losses), (alone, _) = ended_with(folder, f"{method}.2"), ended_with(folder, f"{method}.1")
    assert len(both) == len(alone) > 1 and len(losses) == 12 and losses[-1] < losses[0] - 0.2
    for a, b in zip(both, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def check_the_resumed_run(folder):
    said = (folder / "said").read_text()
    assert "Process 1 died at step 10, process 0 ended with it; checkpoints of steps [4, 8]" in said
    (resumed, losses), (whole, all_losses) = ended_with(folder, "muon.resumed"), ended_with(folder, "muon.2")
    np.testing.assert_allclose(losses, all_losses[8:], rtol=1e-6)
    for a, b in zip(resumed, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"4", "8", "12"}


def check_no_process_is_left(folder):
    pids = re.findall(r"pid (\d+)", (folder / "said").read_text())
    assert len(pids) == 5
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
