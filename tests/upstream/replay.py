"""optax's own tests, run against this package: `python tests/upstream/replay.py [pattern …]`.

optax's wheel ships its *_test.py files; nothing of them is copied. In a process for each file `optax` and all modules
below it are stand-ins that look every name up here: in the public module of that name, then on the face, then in the
other public modules. A test that touches a name which is not there counts as missing, one that fails as failed. Both
are to be those of accepted.toml, which says why; `--all` shows the others' reasons, too. Needs flax and scikit-learn.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fnmatch
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib
import types

HERE = pathlib.Path(__file__).resolve().parent
HOMES = (
    "transforms", "schedules", "tree_utils", "losses", "projections", "contrib", "second_order", "microbatching",
)  # fmt: skip
LEFT_OUT = ("assignment", "perturbations", "experimental")  # rooms of optax that are not for optimization
OUTCOMES = ("passed", "failed", "missing", "skipped")


def shipped() -> pathlib.Path:
    """The folder of the installed optax, found without importing it."""
    found = importlib.metadata.files("optax") or []
    return pathlib.Path(next(str(f.locate()) for f in found if str(f) == "optax/__init__.py")).parent


def files(patterns: list[str]) -> list[str]:
    """Its test files, by their paths below it, all or those that match."""
    root = shipped()
    every = sorted(path.relative_to(root).as_posix() for path in root.rglob("*_test.py"))
    return [f for f in every if not patterns or any(fnmatch.fnmatch(f, f"*{pattern}*") for pattern in patterns)]


def accepted() -> dict[tuple[str, str], str]:
    """(file, pattern of tests) -> why they do not pass."""
    with (HERE / "accepted.toml").open("rb") as file:
        groups = tomllib.load(file)["group"]
    return {(f, test): group["reason"] for group in groups for f, tests in group["tests"].items() for test in tests}


def reason(node: str, known: dict[tuple[str, str], str]) -> str | None:
    """Why this test, file::Class::test, does not pass, if that is known."""
    file, _, test = node.partition("::")
    name = test.rpartition("::")[2]
    return next((why for (f, pattern), why in known.items() if f == file and fnmatch.fnmatch(name, pattern)), None)


def replay(file: str, expression: str = "", timeout: float = 3000.0) -> dict[str, dict[str, str]]:
    """node -> {"outcome": …, "why": …} of each test of one file, run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        link = pathlib.Path(folder) / file.replace("/", "__").lstrip("_")
        link.symlink_to(shipped() / file)
        out = pathlib.Path(folder) / "out.json"
        paths = [str(HERE), str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "REPLAYED": json.dumps([file, str(out)]), "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "replay", "-p", "no:cacheprovider", "--tb=line",
                   "--import-mode=importlib", "--rootdir", folder, str(link)]  # fmt: skip
        command += ["-k", expression] if expression else []
        run = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False)
        if not out.exists():
            raise RuntimeError(run.stdout[-2000:] + run.stderr[-2000:])
        found: dict[str, dict[str, str]] = json.loads(out.read_text())
        return {f"{file}::{node.partition('::')[2]}": result for node, result in found.items()}


def main() -> int:
    """The table, and what it has that accepted.toml has not; 0 if that is nothing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", help="parts of paths, as alias or losses/")
    parser.add_argument("-k", default="", help="pytest's -k")
    parser.add_argument("--json", help="file for every test's outcome")
    given = parser.parse_args()
    known, total, news, results = accepted(), collections.Counter(), [], {}
    print(f"{'file':44}" + "".join(f"{name:>9}" for name in OUTCOMES))
    for file in files(given.patterns):
        found = replay(file, given.k)
        results |= found
        count = collections.Counter(result["outcome"] for result in found.values())
        print(f"{file:44}" + "".join(f"{count[name]:9}" for name in OUTCOMES), flush=True)
        total += count
        news += [(n, r) for n, r in found.items() if r["outcome"] in ("failed", "missing") and not reason(n, known)]
    print(f"{'all':44}" + "".join(f"{total[name]:9}" for name in OUTCOMES))
    for node, result in news:
        print(f"{result['outcome']}, and not in accepted.toml: {node}\n    {result.get('why', '')[-200:]}")
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps(results, indent=1))
    return int(bool(news))


# ---- in the process of one file: the plugin ---------------------------------------------------------------

IN_TEST, TOUCHED = [False], []  # is a test running; the missing names that it touched


class MissingNameError(AttributeError):
    """A running test touched a name that is not here."""


class Missing:
    """Stands for a name that is not here: inert while a file is imported, an error in a test."""

    def __init__(self, name: str) -> None:
        self.name_ = name

    def _touch(self, *args: object, **kwargs: object) -> Missing:
        if IN_TEST[0]:
            TOUCHED.append(self.name_)
            raise MissingNameError(self.name_)
        return self

    def __getattr__(self, name: str) -> Missing:
        if name.startswith("__"):
            raise AttributeError(name)
        self._touch()
        return Missing(f"{self.name_}.{name}")

    def __mro_entries__(self, bases: object) -> tuple[type, ...]:
        return (object,)

    def __iter__(self) -> object:
        self._touch()
        return iter(())

    __call__ = __getitem__ = __add__ = __radd__ = __mul__ = __rmul__ = __or__ = __ror__ = __instancecheck__ = _touch


class StandIn(types.ModuleType):
    """A module of optax: every name is looked up here."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        full = f"{self.__name__}.{name}"
        if finder.kind(full):
            return importlib.import_module(full)
        found = look_up(self.__name__.partition(".")[2], name)
        if found is None and IN_TEST[0]:
            TOUCHED.append(full)
            raise MissingNameError(full)
        return Missing(full) if found is None else found


def look_up(below: str, name: str) -> object:
    """What stands for optax.<below>.<name>, None if nothing does."""
    import jaxopt_ko as jo  # in the process of one file only

    file = json.loads(os.environ["REPLAYED"])[0]
    lent = None if file in ("_src/numerics_test.py", "_src/utils_test.py") else LENT.get(name)
    home = below.partition(".")[0]
    rooms = [home] if home in (*HOMES, "tree") else []
    for room in (*rooms, "", *HOMES, "tree"):
        for word in (name, f"tree_{name}" if room == "tree_utils" and home == "tree" else name):
            found = getattr(getattr(jo, room) if room else jo, word, None)
            if found is not None and not isinstance(found, types.ModuleType):
                return found
    if name.startswith("tree_"):
        return getattr(jo.tree, name.removeprefix("tree_"), lent)
    return lent


@contextlib.contextmanager
def x64_precision(enable: bool = True):
    """64 bits for a while."""
    import jax

    with jax.enable_x64(enable):
        yield


def abs_sq(x):
    """|x|**2."""
    return (x.conj() * x).real


# helpers of optax that its tests use as tools, and that are not public there; the files that test them get none
LENT = {
    "x64_precision": x64_precision, "abs_sq": abs_sq, "PRNGKey": object, "Shape": collections.abc.Sequence,
    "parse_version": lambda text: tuple(int(part) for part in text.split(".") if part.isdigit()),
}  # fmt: skip


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers every import of optax and below."""

    @functools.cached_property
    def root(self) -> pathlib.Path:
        """Where the real one lies."""
        return shipped().parent

    def kind(self, name: str) -> str | None:
        """Is there such a module there: a "package", a "module"?"""
        base = self.root.joinpath(*name.split("."))
        if base.is_dir():
            return "package"
        return "module" if base.with_suffix(".py").is_file() else None

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Stand-ins, but for the tests and their own tools."""
        if name.partition(".")[0] != "optax" or self.kind(name) is None:
            return None
        if name.endswith(("test_utils", "_test")):
            where = str(self.root.joinpath(*name.split("."))) + ".py"
            return importlib.util.spec_from_file_location(name, where)
        return importlib.machinery.ModuleSpec(name, self, is_package=self.kind(name) == "package")

    def create_module(self, spec: object) -> types.ModuleType:
        """A stand-in."""
        return StandIn(spec.name)

    def exec_module(self, module: object) -> None:
        """It has nothing to run."""


finder = Finder()
if "REPLAYED" in os.environ and __name__ == "replay":  # this is the plugin
    import pytest

    results: dict[str, dict[str, str]] = {}

    def pytest_configure() -> None:
        """From here on, optax is this package."""
        import jaxopt_ko  # noqa: F401

        sys.meta_path.insert(0, finder)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(item):
        """One test."""
        TOUCHED.clear()
        IN_TEST[0] = True
        try:
            return (yield)
        finally:
            IN_TEST[0] = False
            if TOUCHED:  # also one that "passed", under assertRaises say
                results[item.nodeid] = {"outcome": "missing", "why": ", ".join(sorted(set(TOUCHED)))}

    def pytest_runtest_logreport(report) -> None:
        """Its outcome."""
        result = results.setdefault(report.nodeid, {"outcome": "passed"})
        if report.failed:
            why = getattr(report.longrepr, "reprcrash", None) or report.longrepr
            result |= {"outcome": "failed", "why": str(why)[-600:]}
        elif report.skipped and result["outcome"] == "passed":
            result["outcome"] = "skipped"

    def pytest_sessionfinish() -> None:
        """All of them, to the process that asked."""
        pathlib.Path(json.loads(os.environ["REPLAYED"])[1]).write_text(json.dumps(results))


if __name__ == "__main__":
    sys.exit(main())
