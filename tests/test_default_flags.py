"""The main paths under XLA's own flags: the other tests compile by the quickest way, which no user does."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parent / "data" / "main_paths.py"
ENDS = {  # in double precision
    "fitted": [0.971249533173023, 0.12780714318139738, 0.04343779074088863],  # the losses at three epochs
    "orthogonalized": [0.971249533173023, 0.6888651620304483, 0.5054411207327344],
    "minimized": [1, 1, 1, 1],
    "exponential": [2, 0.5],
    "programmed": [0, 1],
    "sharded": [183.11211068571504] * 2,
}


@pytest.mark.slow
def test_numbers_under_default_flags():
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    env["PYTHONPATH"] = os.pathsep.join([str(SCRIPT.parents[2]), env.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "error", str(SCRIPT)]
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    got = json.loads(run.stdout)
    assert len(got) == 2 * len(ENDS)
    close = {
        f"{path} {dtype}": np.allclose(got[f"{path} {dtype}"], end, rtol=rtol, atol=atol)
        for path, end in ENDS.items()
        for dtype, rtol, atol in (("float64", 2e-8, 1e-7), ("float32", 1e-4, 1e-4))
    }
    assert all(close.values()), (close, got)
