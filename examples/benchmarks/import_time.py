"""How long an import takes, beside optax's and jax's alone: medians of fresh processes, one after the other in turns.

python examples/benchmarks/import_time.py [--rounds 15] [--write]

Byte code is written before the first round, as pip does it. Processor time is what a busy machine changes least.
--write puts the figures into results/import_time.json. `python -X importtime -c "import jaxopt_ko"` says what costs.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "import_time.json"
PROGRAMS = {
    "python": "pass",
    "jax": "import jax, jax.numpy",
    "optax": "import optax",
    "jaxopt_ko": "import jaxopt_ko",
    "optax, and one optimizer made": "import optax; optax.adam(0.1)",
    "jaxopt_ko, and one optimizer made": "import jaxopt_ko; jaxopt_ko.adam(0.1)",
    "jaxopt_ko, and every name of it": "from jaxopt_ko import *",
}


def seconds(program: str, cache: str) -> tuple[float, float]:
    """Wall clock and processor time of one process."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    wall, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def measured(rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of each program."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as cache:
        for turn in range(rounds + 1):
            for name, program in PROGRAMS.items():
                both = seconds(program, cache)
                times[name] += [both] if turn else []
    return {
        name: {
            "wall_s": round(statistics.median(wall for wall, _ in both), 3),
            "processor_s": round(statistics.median(used for _, used in both), 3),
        }
        for name, both in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true")
    words = parser.parse_args()
    if words.rounds < 1:
        parser.error("--rounds must be at least 1")
    found = measured(words.rounds)
    for name, row in found.items():
        print(f"{name:34} {row['wall_s']:.3f} s, {row['processor_s']:.3f} s of the processor")
    if words.write:
        versions = {name: version(name) for name in ("jax", "optax", "numpy")} | {"python": platform.python_version()}
        RESULTS.parent.mkdir(exist_ok=True)
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        text = json.dumps(
            {"rounds": words.rounds, "machine": machine, "versions": versions, "seconds": found}, indent=2
        )
        RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
