"""A page for each lesson of the course and each picture of the gallery: text, program, output and picture.

A lesson is a script whose comments and titles are in Korean and in English; a page shows one language.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from sitegen.api import heading
from sitegen.docstrings import inline
from sitegen.names import ROOT
from sitegen.words import words

COURSE = ROOT / "examples" / "course"
HANGUL = re.compile("[가-힣]")
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}


def lessons() -> list[Path]:
    """The scripts in their order."""
    return sorted(COURSE.glob("[0-9]*.py"))


def run_lesson(path: Path, out: Path) -> None:
    """Run a lesson, keep its picture and what it prints."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(path), "--out", str(out / f"{path.stem}.png")]
    done = subprocess.run(
        command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    if done.returncode:
        raise RuntimeError(f"{path.name}: {done.stderr}")
    (out / f"{path.stem}.txt").write_text(done.stdout, encoding="utf-8")


def run_gallery(language: str, out: Path) -> None:
    """All pictures of the gallery in a language."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "examples" / "gallery.py"), "--out", str(out), "--language", language]
    done = subprocess.run(
        command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    if done.returncode:
        raise RuntimeError(f"gallery: {done.stderr}")


def run_explorer(out: Path) -> None:
    """The page to explore the optimizers in."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(ROOT / "examples" / "explore.py"), "--out", str(out / "explore.html")]
    done = subprocess.run(
        command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    if done.returncode:
        raise RuntimeError(f"explore: {done.stderr}")


def title_of(path: Path, language: str) -> str:
    """A lesson's title in a language, with its number."""
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]
    korean, _, english = first.partition(" / ")
    return korean if language == "ko" else english


def program(text: str, language: str) -> str:
    """The program without its docstring, and without the comments of the other language."""
    tree = ast.parse(text)
    lines = text.splitlines()[tree.body[0].end_lineno or 0 :]
    made: list[str] = []
    i = 0
    while i < len(lines):
        if not lines[i].lstrip().startswith("#"):
            made.append(lines[i])
            i += 1
            continue
        block = []
        while i < len(lines) and lines[i].lstrip().startswith("#"):
            block.append(lines[i])
            i += 1
        own = [line for line in block if bool(HANGUL.search(line)) == (language == "ko")]
        made += own or block
    return "\n".join(made).strip("\n")


def text_of(path: Path, language: str) -> list[str]:
    """The paragraphs of a lesson's docstring in a language."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraphs = doc.split("\n\n")[1:]
    return [p for p in paragraphs if bool(HANGUL.search(p)) == (language == "ko")] or paragraphs


def pages(language: str, made_at: Path) -> dict[str, str]:
    """All pages of lessons; what they need lies in made_at/course."""
    say = words(language)
    made = {}
    for path in lessons():
        text = [*heading(title_of(path, language))]
        for paragraph in text_of(path, language):
            text += [inline(" ".join(paragraph.split())), ""]
        if (made_at / "course" / f"{path.stem}.png").exists():
            text += [f".. image:: /made/course/{path.stem}.png", f"   :alt: {title_of(path, language)}", ""]
        text += [*heading(say("program"), "-")]
        text += [f"{say('run it')} ``python examples/course/{path.name}``.", ""]
        text += [".. code-block:: python", ""]
        text += [f"   {line}" if line else "" for line in program(path.read_text("utf-8"), language).splitlines()]
        printed = made_at / "course" / f"{path.stem}.txt"
        if printed.exists():
            text += ["", *heading(say("output"), "-"), ".. code-block:: text", ""]
            text += [f"   {line}".rstrip() for line in printed.read_text(encoding="utf-8").splitlines()]
        made[f"course/{path.stem}.rst"] = "\n".join(text) + "\n"
    return made


def gallery(language: str, made_at: Path) -> str:
    """The page of the gallery."""
    say = words(language)
    text = [*heading(say("gallery")), say("gallery intro"), ""]
    sys.path.insert(0, str(ROOT / "examples"))
    titles = json.loads((ROOT / "docs" / "data" / "gallery.json").read_text(encoding="utf-8"))
    for name, title in titles.items():
        found = sorted((made_at / f"gallery-{language}").glob(f"{name}.*"))
        shown = title[("en", "ko").index(language)]
        text += [*heading(shown, "-")]
        for picture in found:
            text += [f".. image:: /made/gallery-{language}/{picture.name}", f"   :alt: {shown}", ""]
    return "\n".join(text) + "\n"
