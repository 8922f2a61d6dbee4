"""Which optimizer wins, tuned alike for all, with statistics; what comes out is a JSON file and a page.

    python -m jaxopt_ko bench                                   small tasks, 12 methods, on any machine
    python -m jaxopt_ko bench --methods nadamw muon soap        some of them
    python -m jaxopt_ko bench --methods all --tasks perceptron transformer     every first-order method there is
    python -m jaxopt_ko bench --scale large                     bfloat16, wider, more steps: for an accelerator
    python -m jaxopt_ko bench --page mine.json theirs.json      the page anew, two machines beside each other
    python -m jaxopt_ko bench --accelerator                     how fast the optimizer's step itself is

Finished cells stay in OUT.cells; called again with the same words, a run goes on where it was killed.
"""

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

import jaxopt_ko
from suite import accelerator, readme, report
from suite.cells import Settings, write
from suite.methods import DEFAULT, METHODS, REFERENCE
from suite.task import SCALES
from suite.tasks import NAMES

HERE = Path(__file__).resolve().parent
LARGE_LANES = 64


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jaxopt_ko bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="the result; the page is beside it (default: suite-SCALE.json)")
    parser.add_argument("--scale", choices=tuple(SCALES), default="small")
    parser.add_argument("--methods", nargs="+", choices=("all", *METHODS), default=DEFAULT, metavar="METHOD")
    parser.add_argument("--tasks", nargs="+", choices=NAMES, default=NAMES, metavar="TASK")
    parser.add_argument("--trials", type=at_least(2), default=10, help="settings tried of every method")
    parser.add_argument("--seeds", type=at_least(5), default=5, help="held-out seeds of every run, 5 or more")
    parser.add_argument("--first-seed", type=at_least(0), default=0, help="another one is another run")
    parser.add_argument("--lanes", type=at_least(1), help="runs in one program at a time")
    parser.add_argument("--workers", type=at_least(1), help="processes (default: 2; 1 on an accelerator)")
    parser.add_argument("--page", nargs="+", type=Path, metavar="RESULT", help="only the page, of one or two results")
    parser.add_argument("--publish", nargs=2, type=Path, metavar="RESULT", help="a run, and one with other seeds, "
                        "become the repository's results, and READMEs say so")  # fmt: skip
    parser.add_argument("--accelerator", action="store_true", help="times of the step itself; see accelerator.py")
    words = parser.parse_args(arguments)
    if words.accelerator:
        return accelerator.main(words.out or Path("accelerator.json"))
    if words.publish:
        readme.publish(*(json.loads(path.read_text(encoding="utf-8")) for path in words.publish))
        return 0
    if words.page:
        return pages(parser, words.page, words.out)
    out = words.out or Path(f"suite-{words.scale}.json")
    if not out.resolve().parent.is_dir():
        parser.error(f"--out: there is no directory {out.resolve().parent}")
    wanted = METHODS if "all" in words.methods else words.methods
    methods = tuple(wanted if REFERENCE in wanted else [REFERENCE, *wanted])
    lanes = words.lanes or (15 if words.scale == "small" else LARGE_LANES)
    settings = Settings(
        words.scale, words.trials, seeds=words.seeds, first_seed=words.first_seed, lanes=lanes,
        tasks=tuple(dict.fromkeys(words.tasks)), methods=tuple(dict.fromkeys(methods)),
    )  # fmt: skip
    return run(settings, out, words.workers or (2 if words.scale == "small" else 1))


def at_least(least: int):
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return number


def pages(parser: argparse.ArgumentParser, paths: list[Path], out: Path | None) -> int:
    if len(paths) > 2:
        parser.error("--page takes one result, or two to put beside each other")
    for path in paths:
        if not path.is_file():
            parser.error(f"--page: there is no file {path}")
    page = (out or paths[0]).with_suffix(".html")
    page.write_text(report.page([json.loads(path.read_text(encoding="utf-8")) for path in paths]), encoding="utf-8")
    print(f"Open {page.resolve().as_uri()}")
    return 0


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("jaxopt_ko", "jax", "jaxlib", "numpy", "scikit-learn"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    sources = sorted(HERE.glob("tasks/*.py")) + [HERE / f"{name}.py" for name in ("task", "methods", "lanes", "cells")]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    return found | {"jaxopt_ko": jaxopt_ko.__version__, "suite": code}


def environment() -> dict[str, str]:
    """Of the workers. On CPUs compiling is most of the work, and XLA's first level takes a third of the time.

    A flag that XLA does not know would end the process, so the second is for the version that was tried. With a pool of
    two threads, XLA's batched factorizations on CPU, as Shampoo's, may wait for ever: NPROC gives it more.
    """
    quick = "--xla_backend_optimization_level=1 " + "--xla_cpu_use_fusion_emitters=false" * importlib.metadata.version(
        "jaxlib"
    ).startswith("0.10.")
    pool = {"NPROC": os.environ.get("NPROC", "16"), "OPENBLAS_NUM_THREADS": "1"}
    return {**os.environ, **pool, "XLA_FLAGS": f"{quick} {os.environ.get('XLA_FLAGS', '')}".strip(),
            "PYTHONPATH": os.pathsep.join(map(str, [HERE.parent, *filter(None, sys.path)]))}  # fmt: skip


def folder_of(settings: Settings, out: Path) -> Path:
    """Where the cells are kept; those of other settings or versions are refused, not mixed in."""
    folder = out.with_name(out.stem + ".cells")
    folder.mkdir(exist_ok=True)
    kept, now = folder / "settings.json", {"settings": settings._asdict(), "versions": versions()}
    now = json.loads(json.dumps(now))
    if not kept.exists():
        write(kept, now | {"seconds": 0.0})
    before = json.loads(kept.read_text(encoding="utf-8"))
    changed = [
        f"{name} was {before[part].get(name)}, is {value}"
        for part in ("settings", "versions")
        for name, value in now[part].items()
        if before[part].get(name) != value
    ]
    if changed:
        raise SystemExit(
            f"{folder} holds cells of another run: {'; '.join(changed)}. Remove it, or choose another --out."
        )
    return folder


def run(settings: Settings, out: Path, workers: int) -> int:
    folder, began = folder_of(settings, out), time.perf_counter()
    failed, lock, kept = {}, threading.Lock(), folder / "settings.json"
    about = json.loads(kept.read_text(encoding="utf-8"))
    with (
        tqdm(total=2 * len(settings.tasks) * len(settings.methods), unit="cell") as bar,
        ThreadPoolExecutor(workers) as pool,
    ):

        def method(name: str) -> None:
            command = [sys.executable, "-m", "suite.cells", str(folder.resolve()), name]
            with subprocess.Popen(command, env=environment(), stdout=-1, stderr=-1, text=True) as child:
                rest = threading.Thread(target=lambda: said.append(child.stderr.read()), daemon=True)
                said = []
                rest.start()
                for line in child.stdout:
                    if line.startswith(("tuned ", "one ")):
                        with lock:
                            bar.set_postfix_str(line.strip())
                            bar.update()
                            write(kept, about | {"seconds": round(about["seconds"] + time.perf_counter() - began, 1)})
                rest.join()
            if child.returncode:
                failed[name] = "".join(said)[-3000:]

        list(pool.map(method, settings.methods))
    for name, text in failed.items():
        print(f"{name} failed:\n{text}", file=sys.stderr)
    if failed:
        print("What is finished is kept; the same command goes on from there.", file=sys.stderr)
        return 1
    found = report.collected(folder, settings) | {"date": str(datetime.date.today())}
    write(out, found)
    out.with_suffix(".html").write_text(report.page([found]), encoding="utf-8")
    print(report.text(found))
    print(f"{out}, {out.stat().st_size / 1e3:.0f} kB; open {out.with_suffix('.html').resolve().as_uri()}")
    return 0
