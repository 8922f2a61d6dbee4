"""Pages made from documents of the repository: changes, how it is built, benchmarks; and the page of the explorer."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from sitegen.api import heading
from sitegen.methods import table
from sitegen.names import ROOT

RESULTS = ROOT / "examples" / "benchmarks" / "results"
SITE = {
    "CHANGELOG.md": "changes.md",
    "README.md": "index.md",
    "CONTRIBUTING.md": "built.md",
    "README.ko.md": "index.md",
}
SKELETONS = ROOT / "docs" / "skeletons"


def document(path: Path, title: str | None = None) -> str:
    """A document of the repository, its links to other files led to the site's pages or made plain."""
    text = path.read_text(encoding="utf-8")

    def link(found: re.Match[str]) -> str:
        words, target = found[1], found[2]
        if target.startswith(("http", "#")):
            return found[0]
        file, _, _ = target.partition("#")
        if file in SITE:
            return f"[{words}]({SITE[file]})"
        if file.startswith("docs/pages/"):
            return f"[{words}]({file.removeprefix('docs/pages/')})"
        if file.startswith("docs/skeletons"):
            return f"[{words}](skeletons.rst)"
        return words

    text = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", link, text)
    text = re.sub(r"^```py$", "```python", text, flags=re.MULTILINE)
    if title:
        text = re.sub(r"^# .*$", f"# {title}", text, count=1, flags=re.MULTILINE)
    return text


def skeletons() -> str:
    """The skeletons for new methods."""
    text = [*heading("Skeletons"), "To be copied: an optimizer, a solver, a transformation.", ""]
    for path in sorted(SKELETONS.glob("*.py")):
        text += [*heading(path.stem, "-"), ".. code-block:: python", ""]
        text += [f"   {line}" if line else "" for line in path.read_text(encoding="utf-8").splitlines()] + [""]
    return "\n".join(text)


def benchmarks(language: str) -> str:
    """Tables from the result files, as they were committed."""
    text = [
        *heading("Benchmarks"),
        "What the programs under ``examples/benchmarks`` wrote, with date, versions and machine of the run. Counts "
        "(equations, operations, bytes, collectives, evaluations) are compared with these files by the tests; times "
        "depend on the machine.",
        "",
    ]
    for path in sorted(RESULTS.rglob("*.json")) if RESULTS.exists() else []:
        found, day = json.loads(path.read_text(encoding="utf-8")), committed(path)
        text += suite(path.stem, found, language) if path.stem.startswith("suite-") else result(path.stem, found, day)
    for path in sorted((ROOT / "examples" / "benchmarks").glob("*.txt")):
        text += [*heading(path.stem.replace("_", " "), "-"), ".. code-block:: text", ""]
        text += [f"   {line}".rstrip() for line in path.read_text(encoding="utf-8").splitlines()] + [""]
    return "\n".join(text)


def suite(name: str, found: dict[str, Any], language: str) -> list[str]:
    """A run of the suite that compares optimizers: the ranking here, all of it on a page of its own."""
    settings, problems = found["settings"], found["problems"]
    tasks = ", ".join(settings["tasks"]).replace("_", " ")
    about = (
        f"{found['date']}; {found['device']}; {len(found['ranking'])} methods on {len(problems)} problems ({tasks}, at "
        f"three levels each), {settings['trials']} trials of {settings['tuning_seeds']} seeds, {settings['seeds']} "
        f"held-out seeds; {found['cpu_seconds'] / 60:.0f} minutes of processor time."
    )
    wins = found["claims"]["suite"]
    columns = ["method", "area under the profile", "share of the budget needed", "error", "runs at the target"]
    columns += ["methods beaten", "methods that beat it", "bytes a parameter"]
    rows = [
        [
            shown(method), f"{one['area']:.3f}", f"{one['score']:.3f}", f"{one['error']:.4f}", f"{one['reached']:.0%}",
            *(str(sum(claim[side] == method for claim in wins)) for side in (0, 1)), f"{one['bytes']:.1f}",
        ]
        for method, one in ((method, found["methods"][method]) for method in found["ranking"])
    ]  # fmt: skip
    words = {"en": "Profiles, curves, every problem and every claim", "ko": "프로파일, 곡선, 모든 문제와 모든 판정"}
    link = f'<p><a href="{name}.html?language={language}">{words[language]}</a></p>'
    text = [*heading(name.replace("-", " "), "-"), about, "", ".. raw:: html", "", f"   {link}", ""]
    return text + table(columns, rows)


LONGEST = 40_000  # characters of JSON in a table; what has more is for programs to read
ABOUT = ("machine", "versions", "run", "about")


def committed(path: Path) -> str:
    """The day on which a file was last committed, "" where there is no history."""
    command = ["git", "log", "-1", "--format=%cs", "--", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def result(name: str, found: Any, day: str = "") -> list[str]:
    """A result file: what is a list of rows becomes a table, what is one value a line above it."""
    text = [*heading(name.replace("_", " "), "-")]
    groups: dict[str, Any] = {"": found} if isinstance(found, list) else {}
    about: dict[str, Any] = {"committed": day} if day else {}
    for key, value in found.items() if isinstance(found, dict) else ():
        if key in ABOUT and isinstance(value, dict):
            about |= value
        elif isinstance(value, list | dict):
            groups[key] = value
        else:
            about[key] = value
    if about:
        text += ["; ".join(f"{key} {shown(value)}" for key, value in about.items()) + ".", ""]
    for key, value in groups.items():
        if len(json.dumps(value)) > LONGEST:
            text += [f"**{key.replace('_', ' ')}**: in ``examples/benchmarks/results/{name}.json``.", ""]
            continue
        rows = rows_of(value) if isinstance(value, dict) else value
        if not rows or not all(isinstance(row, dict) for row in rows):
            continue
        columns = sorted(dict.fromkeys(column for row in rows for column in row), key=lambda name: name.strip() != "")
        if key:
            text += [f"**{key.replace('_', ' ')}**", ""]
        cells = [[shown(row.get(column, "")) or "\\ " for column in columns] for row in rows]
        text += table([column.replace("_", " ").strip() or "\\ " for column in columns], cells)
    return text


def rows_of(found: dict[str, Any], depth: int = 0) -> list[dict[str, Any]]:
    """A tree of values as rows: its branches are named in the first columns, its last level has the others."""
    rows: list[dict[str, Any]] = []
    for name, value in found.items():
        if not isinstance(value, dict):
            rows.append({" " * depth: name, "value": value})
        elif any(isinstance(one, dict) for one in value.values()):
            rows += [{" " * depth: name, **row} for row in rows_of(value, depth + 1)]
        else:
            rows.append({" " * depth: name, **value})
    return rows


def shown(value: Any) -> str:
    """A value of a result file, in a cell."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | dict):
        return f"``{json.dumps(value)}``"
    if isinstance(value, datetime.date):
        return value.isoformat()
    text = str(value)
    return re.sub(r"([*_|`\\])", r"\\\1", text)


EXPLORER = {
    "en": (
        "Explorer",
        "Race the methods on nine landscapes from a starting point of your choice, step through the scenes, and walk "
        "the family tree. The library computed every path when the site was built.",
        "Open it in a window of its own",
    ),
    "ko": (
        "탐색기",
        "출발점을 직접 골라 아홉 가지 함수에서 방법들을 경주시키고, 장면을 한 단계씩 넘겨 보고, 계보를 따라갈 수 "
        "있습니다. 모든 경로는 사이트를 만들 때 라이브러리로 계산했습니다.",
        "새 창에서 열기",
    ),
}


def explorer(language: str) -> str:
    """The page that has the explorer in it."""
    title, text, words = EXPLORER[language]
    link = f'<p><a href="explore.html">{words}</a></p>'
    frame = f'{link}<iframe class="explorer" src="explore.html" title="{title}" loading="lazy"></iframe>'
    return "\n".join([*heading(title), text, "", ".. raw:: html", "", f"   {frame}", ""])


def pages(language: str) -> dict[str, str]:
    """All of them."""
    return {
        "changes.md": document(ROOT / "CHANGELOG.md"),
        "built.md": document(ROOT / "CONTRIBUTING.md", "How it is built"),
        "skeletons.rst": ":orphan:\n\n" + skeletons(),
        "benchmarks.rst": benchmarks(language),
        "explorer.rst": explorer(language),
    }
