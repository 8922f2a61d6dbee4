"""How near each method is to its references, as a table in Markdown: `python examples/parity_table.py --out FILE`.

Reads the tables of tests/test_parity.py and tests/parity/*.py: recorded runs of torch (CASES) and others (RECORDED),
OPTAX and PAPERS. An error is
the largest relative one over 60 steps in float64, element by element; optax's is against the same reference, with
what arguments of the recipe it knows. A new table in tests/parity/ appears by itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import re
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

TESTS = Path(__file__).resolve().parents[1] / "tests"
HEAD = ("method", "reference", "variant", "error", "optax's error")


class Row(NamedTuple):
    """A method, what it is held against, and the calls that make it."""

    name: str  # method-variant, as in the tables
    reference: str
    calls: list[Any]
    target: Any  # a recorded case, a paper's rule, None for optax itself, or the module that runs it


def load(path: Path) -> types.ModuleType:
    """A module of the tests, by its file, so that no two of one name are mixed up."""
    if path.stem in sys.modules:
        return sys.modules[path.stem]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def tables() -> list[types.ModuleType]:
    """tests/test_parity.py, which has the runs, and whatever else has a table."""
    for folder in (TESTS / "support", TESTS / "parity", TESTS):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return [load(TESTS / "test_parity.py"), *map(load, sorted((TESTS / "parity").glob("test_*.py")))]


def rows(modules: list[types.ModuleType]) -> Iterator[Row]:
    """Every row of every table."""
    for case in modules[0].CASES:
        method = next(call.factory for call in case.ours if call.factory != "add_decayed_weights")
        yield Row(f"{method}-{case.variant}", f"torch.optim.{case.peer}", list(case.ours), case)
    for module in modules:
        for case in getattr(module, "RECORDED", ()):
            yield Row(f"{case.method}-{case.variant}", case.peer, list(case.ours), case)
        for name, (rule, calls) in getattr(module, "PAPERS", {}).items():
            if not callable(rule):  # a rule for one leaf, behind its call
                yield Row(name, source(calls), [rule], module.leaf_by_leaf(calls))
            else:
                yield Row(name, source(rule), calls if isinstance(calls, list) else [calls], rule)
        for name, calls in getattr(module, "OPTAX", {}).items():
            yield Row(name, "optax", calls, None)
        for name, make in getattr(module, "OPTAX_LIVE", {}).items():  # made by hand, for what reads the loss
            yield Row(name, "optax", [make], module)


def source(rule: Any) -> str:
    """What the transcription says it is of: authors, year, and the number of the algorithm."""
    found = re.match(r".*?\b\d{4}\b(, (Algorithm|Figure|equation|eq\.|section|lecture) \w+)?", rule.__doc__ or "")
    return found.group() if found else "the same paper"


def known(parity: types.ModuleType, call: Any) -> Any:
    """The call with the arguments that optax's function takes."""
    takes = inspect.signature(getattr(parity.THEIRS, call.factory)).parameters
    return call._replace(arguments={key: value for key, value in call.arguments.items() if key in takes})


def error(parity: types.ModuleType, got: np.ndarray, want: np.ndarray) -> float:
    """The largest relative error; NaN if there is one."""
    return float(parity.relative_error(got, want).max())


def measured(parity: types.ModuleType, row: Row) -> tuple[float, float | None]:
    """Our error and optax's; None where optax cannot do it, or is the reference."""
    if isinstance(row.target, types.ModuleType):
        (make,) = row.calls
        return error(parity, row.target.path_of(make(parity.jo)), row.target.theirs(make)), None
    if row.target is None:
        path, _, gradients = parity.from_optax(row.calls)
    elif callable(row.target):
        path, gradients = parity.from_paper(row.target)
    else:
        path = parity.record.recorded(row.target) if row.target in parity.CASES else row.target.recorded()
        gradients = parity.record.gradients_along(path)
    ours, _ = parity.ours(row.calls, gradients, **getattr(row.target, "extra", {}))
    if row.target is None:
        return error(parity, ours, path), None
    try:
        calls = [known(parity, call) for call in row.calls]
        theirs, _ = parity.theirs(calls, gradients)
    except (AttributeError, IndexError, TypeError, ValueError):  # no such method, schedule or kind of leaf
        return error(parity, ours, path), None
    return error(parity, ours, path), error(parity, theirs, path)


def shown(row: Row, ours: float, theirs: float | None) -> str:
    method, variant = row.name.split("-", 1)
    other = "the reference" if row.reference == "optax" else "n/a" if theirs is None else f"{theirs:.1e}"
    return f"| `{method}` | {row.reference} | {variant.replace('_', ' ')} | {ours:.1e} | {other} |"


def table(only: str = "") -> str:
    """The table of the rows whose name has `only` in it."""
    parity, *others = tables()
    chosen = [row for row in rows([parity, *others]) if only in row.name]
    lines = [f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}"]
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in tqdm(sorted(chosen, key=lambda row: row.name.split("-")[0]), desc="parity", unit="run"):
            lines.append(shown(row, *measured(parity, row)))
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the table to this file instead of printing it")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    options = parser.parse_args()
    text = table(options.only)
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
