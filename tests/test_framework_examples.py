"""Programs written for optax run with the import swapped, and end where they do with optax."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def said(name, *options):
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *options]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("flax_digits.py", ["--epochs", "2"]),
        pytest.param("equinox_checkpoint.py", ["--steps", "200"], marks=pytest.mark.slow),
    ],
    ids=["flax", "equinox"],
)
def test_either_library_gives_the_same(name, options):
    ours, theirs = (said(name, "--library", library, *options) for library in ("jaxopt_ko", "optax"))
    numbers = [[float(x) for x in re.findall(r"\d+\.\d+", text)] for text in (ours, theirs)]
    assert len(numbers[0]) == 2
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-3)
    assert ours.split(":")[1].split()[0] == theirs.split(":")[1].split()[0]
    if "equinox" in name:
        assert "resumed run the same" in ours and "resumed run the same" in theirs
