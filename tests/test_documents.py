"""What the documents for contributors say is so: CONTRIBUTING.md, CHANGELOG.md, .git-blame-ignore-revs."""

import ast
import fnmatch
import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest
from test_house import FLOORS, PACKAGE, modules

import jaxopt_ko as jo

ROOT = pathlib.Path(__file__).parents[1]
CONTRIBUTING, CHANGELOG = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "CHANGELOG.md")
)  # fmt: skip


def table(text, *head):
    """The rows of the table with this head."""
    _, _, rest = text.partition(f"| {' | '.join(head)} |\n")
    assert rest, head
    lines = re.match(r"(?:\|.*\n)+", rest).group(0).splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def quoted(text):
    return re.findall(r"`([^`\n]+)`", text)


# ---- CONTRIBUTING.md ------------------------------------------------------------------------------------


def test_the_map_has_every_room_in_the_order_of_the_floors():
    rooms = [quoted(row[0])[0] for row in table(CONTRIBUTING, "room", "what is in it", "go there to")]
    assert set(rooms) == {name.partition(".")[0] for name, _ in modules()}
    floors = [max(i for i, names in enumerate(FLOORS) for name in names if name.split(".")[0] == r) for r in rooms]
    assert floors == sorted(floors)
    picture = re.search(r"```\n(.*?)```", CONTRIBUTING, re.DOTALL).group(1)
    assert set(re.findall(r"\w+", " ".join(line[:44] for line in picture.splitlines()))) >= set(rooms)


def interface():
    """The names that may be used in a page, as the table has them: (module, name)."""
    for module, names in table(CONTRIBUTING, "from", "names"):
        for name in quoted(names):
            if not name.startswith("jaxopt_ko"):
                yield quoted(module)[0], name


def test_what_is_offered_to_contributors_is_there():
    for module, name in interface():
        assert hasattr(importlib.import_module(module), name), (module, name)


def test_skeletons_use_no_more_than_what_is_offered():
    offered = set(interface()) | {("jaxopt_ko", "errors"), ("jaxopt_ko.core", "tree")}
    for path in (ROOT / "docs" / "skeletons").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("jaxopt_ko"):
                assert {(node.module, alias.name) for alias in node.names} <= offered, path


def test_the_message_that_is_shown_is_raised():
    with pytest.raises(jo.errors.HyperparameterError) as error:
        jo.adam(0.1, b1=1.5)
    assert f"  {error.value}\n" in CONTRIBUTING


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_paths_that_are_named_are_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = {word.partition("::")[0] for word in quoted(text) if re.fullmatch(r"[\w.*-]+(/[\w.*-]*)+", word)}
    paths |= set(re.findall(r"\]\(([\w./-]+)[#)]", text))
    assert paths
    for path in paths:
        made_up = re.search("NAME|VERSION", path) or not (ROOT / path.partition("/")[0]).exists()
        assert made_up or list(ROOT.glob(path)), path


# ---- CHANGELOG.md ---------------------------------------------------------------------------------------


def unreleased():
    return re.search(r"^## \[Unreleased\]\n(.*?)^## ", CHANGELOG, re.DOTALL | re.MULTILINE).group(1)


def test_every_signature_that_changed_since_the_release_is_accounted_for():
    """Its name stands in backticks, or a pattern that it matches."""
    before, now = (
        set((ROOT / "tests" / "data" / f"{name}.txt").read_text(encoding="utf-8").splitlines())
        for name in (f"signatures-{jo.__version__}", "signatures")
    )
    changed = {re.match(r"[\w.]+", line).group(0) for line in before ^ now}
    patterns = [re.sub(r"\(.*", "", pattern) for pattern in quoted(unreleased())]
    assert not [name for name in sorted(changed) if not any(fnmatch.fnmatch(name, p) for p in patterns)]


def test_the_newest_release_is_the_version_and_has_a_date():
    assert re.findall(r"^## \[(.*)\] - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)[0] == jo.__version__


def test_modules_that_moved_are_where_the_table_says():
    for old, new in table(CHANGELOG, "0.1.0", "now"):
        room, *others = quoted(old)
        home = quoted(new)
        for name in (room, *(f"{room.rpartition('.')[0]}.{other}" for other in others)):
            path = name.removeprefix("jaxopt_ko.").replace(".", "/")
            assert not (PACKAGE / f"{path}.py").exists(), name
            for module in home:
                importlib.import_module(f"{module}.{name.rpartition('.')[2]}" if "the same" in new else module)


def test_names_that_changed_are_where_the_table_says():
    for _, new in table(CHANGELOG, "name in 0.1.0", "name now"):
        first, *others = quoted(new)
        module = first.rpartition(".")[0]
        for path in (first, *(other if "." in other else f"{module}.{other}" for other in others)):
            home, _, name = path.rpartition(".")
            assert hasattr(importlib.import_module(home), name), path


def test_public_paths_are_imported_as_before():
    """Those that the changelog promises."""
    (said,) = re.findall(r"All public paths are as they were: (.*?) are imported", CHANGELOG)
    for path in quoted(said):
        room = path.removeprefix("jaxopt_ko.")
        assert importlib.import_module(f"jaxopt_ko.{room}") is getattr(jo, room)


# ---- .git-blame-ignore-revs -----------------------------------------------------------------------------


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_commits_that_git_blame_is_to_pass_over_are_in_the_history():
    """One that is not there makes git blame fail."""
    lines = (ROOT / ".git-blame-ignore-revs").read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if not line.startswith("#")]
    assert listed and all(re.fullmatch("[0-9a-f]{40}", line) for line in listed)
    try:
        shallow = git("rev-parse", "--is-shallow-repository")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git, or no repository")
    if shallow == "true":
        pytest.skip("a shallow clone has not the whole history")
    for commit in listed:
        git("merge-base", "--is-ancestor", commit, "HEAD")


@pytest.mark.parametrize("stale", [False, True])
def test_a_stale_generated_file_fails_the_check(tmp_path, stale):
    """`.ci/generated --check` on a repository of generators that copy `source` to `made`; each has tests of its own."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    script = (ROOT / ".ci" / "generated").read_text(encoding="utf-8")
    generators = re.findall(r"^\$python (\S+)", script, re.MULTILINE)
    assert len(generators) >= 5 and all((ROOT / name).exists() for name in generators)
    for name in (".ci/generated", *generators):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import shutil\nshutil.copy('source', 'made')\n" if path.suffix else script)
    (tmp_path / "source").write_text("new")
    (tmp_path / "made").write_text("old" if stale else "new")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True)
    check = ["bash", str(tmp_path / ".ci" / "generated"), "--check"]
    done = subprocess.run(
        check, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, check=False
    )
    assert done.returncode == int(stale), done.stderr
    assert ("made" in done.stdout, "Stale" in done.stderr) == (stale, stale)
