"""The example of a run that is saved on eight devices and resumed on four, as a user runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "sharded.py"


@pytest.mark.slow
def test_saved_on_eight_devices_and_resumed_on_four_the_losses_go_on():
    """The example itself ends with an error if they do not."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(EXAMPLE)]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    pairs = re.findall(r"loss ([\d.]+), resumed on 4 devices ([\d.]+)", run.stdout)
    assert len(pairs) >= 3
    assert all(abs(float(a) - float(b)) < 1e-3 for a, b in pairs)
    assert "12.5% of" in run.stdout
