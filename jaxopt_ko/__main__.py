"""What there is, from a shell.

python -m jaxopt_ko catalog                       every method, a line each
python -m jaxopt_ko catalog adam --language ko    all that is said of one
python -m jaxopt_ko doctor                        versions, devices and flags, for a bug report
python -m jaxopt_ko explore --out explore.html    a page to explore the optimizers in
python -m jaxopt_ko bench --help                  which optimizer wins, tuned alike: a benchmark, and its page
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxopt_ko as jo

NEEDED = ("jax", "jaxlib", "chex", "numpy")
OPTIONAL = (  # what an extra brings, or what runs beside us
    "optax", "flax", "equinox", "optimistix", "orbax-checkpoint", "tqdm", "matplotlib", "plotly", "scipy",
    "scikit-learn", "jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu",
)  # fmt: skip
FLAGS = (  # those that change a result, a dtype or what is compiled
    "jax_enable_x64", "jax_default_matmul_precision", "jax_default_dtype_bits", "jax_numpy_dtype_promotion",
    "jax_numpy_rank_promotion", "jax_default_prng_impl", "jax_threefry_partitionable", "jax_disable_jit",
    "jax_debug_nans", "jax_debug_infs", "jax_check_tracer_leaks", "jax_default_device", "jax_platforms",
)  # fmt: skip
VARIABLES = (
    "JAX_PLATFORMS", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION", "XLA_FLAGS", "LIBTPU_INIT_ARGS", "NPROC",
    "OPENBLAS_NUM_THREADS",
)  # fmt: skip
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"  # they are in the repository, not in a wheel
EXPLORER, SUITE = EXAMPLES / "explore.py", EXAMPLES / "benchmarks" / "suite"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status.

    arguments: the words of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m jaxopt_ko", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"jaxopt_ko {jo.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="")
    listed = commands.add_parser("catalog", help="the methods as a table, or one of them as a page")
    listed.add_argument("method", nargs="?", help="adam, lbfgs, …: all that is said of it")
    listed.add_argument("--language", choices=jo.catalog.LANGUAGES, default="en")
    listed.add_argument("--columns", nargs="+", choices=tuple(jo.catalog.TITLES), default=jo.catalog.COLUMNS)
    listed.set_defaults(run=_catalog)
    examined = commands.add_parser("doctor", help="versions, devices and flags, for a bug report")
    examined.add_argument("--json", action="store_true", help="for a program")
    examined.set_defaults(run=_doctor)
    explored = commands.add_parser("explore", help="write a page to explore the optimizers in")
    explored.add_argument("--out", default="explore.html", help="the page, one file that needs no network")
    explored.set_defaults(run=_explore)
    commands.add_parser("bench", help="compare optimizers, tuned alike: bench --help")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["bench"]:  # whose words are the suite's own
        return _bench(given[1:])
    known = parser.parse_args(given)
    if not hasattr(known, "run"):
        parser.print_help()
        return 0
    try:
        return int(known.run(known))
    except BrokenPipeError:  # of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# ---- catalog --------------------------------------------------------------------------------------------


def _catalog(words: argparse.Namespace) -> int:
    if words.method is None:
        print(jo.catalog.catalog(words.language, words.columns))
        return 0
    if words.method not in jo.catalog.BY_NAME:
        meant = jo.core.naming.nearest(words.method, jo.catalog.BY_NAME)
        print(f"There is no method {words.method!r} in the catalogue. {meant}"
              "python -m jaxopt_ko catalog lists those that there are.", file=sys.stderr)  # fmt: skip
        return 2
    print(jo.catalog.page(words.method, words.language))
    return 0


# ---- doctor ---------------------------------------------------------------------------------------------


def _doctor(words: argparse.Namespace) -> int:
    found = diagnosis()
    if words.json:
        print(json.dumps(found, indent=2, default=str))
    else:
        for head, rows in found.items():
            print(head)
            size = max(map(len, rows), default=0)
            for name, value in rows.items():
                print(f"  {name:{size}}  {value}")
    return 0 if found["check"]["a step of adam"] == "as it should be" else 1


def diagnosis() -> dict[str, dict[str, Any]]:
    """What a bug report has to say: versions, devices, flags, environment, and whether a step comes out right."""
    optional = {name: _version(name) for name in OPTIONAL}
    return {
        "versions": {
            "jaxopt_ko": f"{jo.__version__} in {Path(jo.__file__).parent}",
            "python": f"{platform.python_version()} ({platform.python_implementation()}), {platform.platform()}",
            **{name: _version(name) or "not installed" for name in NEEDED},
        },
        "optional": {name: version for name, version in optional.items() if version is not None}
        | {"not installed": ", ".join(name for name, version in optional.items() if version is None) or "none"},
        "devices": _devices(),
        "flags": {name: getattr(jax.config, name) for name in FLAGS if hasattr(jax.config, name)},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "check": {"a step of adam": _step()},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    try:
        kinds = [f"{device.platform} ({device.device_kind})" for device in jax.devices()]
    except RuntimeError as error:  # no driver, or a platform that is not there
        return {"none": " ".join(str(error).split())}
    counted = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    return counted | {"processes": jax.process_count(), "cores": os.cpu_count()}


def _step() -> str:
    """Adam's first step has the length of the learning rate."""
    try:
        optimizer, params = jo.adam(0.5), jnp.asarray([1.0, -2.0], jnp.float32)
        step, _ = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    except Exception as error:  # whatever it is, it is what the report is about
        return f"{type(error).__name__}: {error}"
    return "as it should be" if bool(jnp.allclose(step, -0.5 * jnp.sign(params), atol=1e-3)) else f"{step}"


# ---- explore --------------------------------------------------------------------------------------------


def _explore(words: argparse.Namespace) -> int:
    if not EXPLORER.exists():
        return _absent("The page is made by examples/explore.py")
    made = subprocess.run([sys.executable, str(EXPLORER), "--out", words.out], check=False)
    if made.returncode == 0:
        print(f"Open {Path(words.out).resolve().as_uri()}")
    return made.returncode


# ---- bench ----------------------------------------------------------------------------------------------


def _bench(words: Sequence[str]) -> int:
    if not SUITE.exists():
        return _absent("The benchmark is examples/benchmarks/suite")
    return subprocess.run([sys.executable, str(SUITE), *words], check=False).returncode


def _absent(what: str) -> int:
    print(f"{what} of the repository, which is not part of the installed package. "
          "Clone the repository, pip install -e '.[examples]', and call this again.", file=sys.stderr)  # fmt: skip
    return 2


if __name__ == "__main__":
    sys.exit(main())
