"""Build the site: `python docs/build.py` writes docs/_build/html/en and docs/_build/html/ko, to be opened from disk.

    python docs/build.py              both languages; warnings are errors
    python docs/build.py --language en
    python docs/build.py --update     writes the messages of the pages into docs/locale, for translators, and stops

Pictures, lessons and the output of code blocks are kept in docs/_build until what they are made from changes.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
BUILD = DOCS / "_build"
LANGUAGES = ("en", "ko")
HEADER = """# Korean of the site's pages; python docs/build.py --update brings in what is new.
msgid ""
msgstr ""
"Project-Id-Version: jaxopt_ko\\n"
"Language: ko\\n"
"Plural-Forms: nplurals=1; plural=0;\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"""
XLA = " ".join([  # compile quickly, run slowly; tests/conftest.py says why
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1 --xla_cpu_use_fusion_emitters=false"
    * importlib.metadata.version("jaxlib").startswith("0.10."),
])  # fmt: skip
sys.path[:0] = [str(ROOT), str(DOCS)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def digest(*paths: Path) -> str:
    """Of the files, and of all files in the folders; of Python what runs, without comments and docstrings."""
    made = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and file.suffix not in (".pyc", ".md", ".po"):
                contents = file.read_bytes()
                if file.suffix == ".py" and not file.is_relative_to(ROOT / "examples"):
                    contents = code_of(contents)
                made.update(file.relative_to(ROOT).as_posix().encode() + contents)
    return made.hexdigest()[:16]


def code_of(source: bytes) -> bytes:
    """A module without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            body[0] = ast.Pass()
    return ast.dump(tree).encode()


def kept(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """BUILD/made/NAME, made anew if its key has changed."""
    out = BUILD / "made" / name
    mark = BUILD / "made" / f"{name}.key"
    if not mark.exists() or mark.read_text() != key:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        begun = time.perf_counter()
        make(out)
        mark.write_text(key)
        print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    return out


def make_pictures(out: Path) -> None:
    """The paths of all methods."""
    from sitegen import pictures

    import jaxopt_ko as jo

    names = [row.name for row in jo.catalog.ROWS if row.name not in pictures.WITHOUT]
    command = [sys.executable, "-m", "sitegen.pictures", str(out), *names]
    environment = {**os.environ, "XLA_FLAGS": XLA, "PYTHONPATH": f"{ROOT}{os.pathsep}{DOCS}"}
    subprocess.run(command, env=environment, check=True)


def make_course(out: Path) -> None:
    """Pictures and output of all lessons."""
    from sitegen import course

    for path in course.lessons():
        course.run_lesson(path, out)


def make_gallery_en(out: Path) -> None:
    """The gallery in English."""
    from sitegen import course

    course.run_gallery("en", out)


def make_gallery_ko(out: Path) -> None:
    """The gallery in Korean."""
    from sitegen import course

    course.run_gallery("ko", out)


def make_explorer(out: Path) -> None:
    """The page to explore in."""
    from sitegen import course

    course.run_explorer(out)


def make_suite(out: Path) -> None:
    """A page of each recorded run of the suite that compares optimizers."""
    for path in suites():
        page = ["--page", str(path), "--out", str(out / path.stem)]
        subprocess.run([sys.executable, "-m", "jaxopt_ko", "bench", *page], check=True, stdout=subprocess.DEVNULL)


def suites() -> list[Path]:
    """The recorded runs."""
    return sorted((ROOT / "examples" / "benchmarks" / "results").glob("suite-*.json"))


def prepare(jobs: int) -> None:
    """All that is computed outside of Sphinx, two things at a time."""
    package = digest(ROOT / "jaxopt_ko")
    examples = list((ROOT / "examples").glob("*.py"))
    all_examples = digest(*examples, ROOT / "examples" / "course", ROOT / "examples" / "explore")
    tasks = [
        ("explorer", package + all_examples, make_explorer),
        ("gallery-en", package + all_examples, make_gallery_en),
        ("gallery-ko", package + all_examples, make_gallery_ko),
        ("pictures", package + digest(DOCS / "sitegen" / "pictures.py"), make_pictures),
        ("course", package + all_examples, make_course),
        ("suite", digest(ROOT / "examples" / "benchmarks" / "suite", *suites()), make_suite),
    ]
    with ProcessPoolExecutor(jobs) as pool:
        for done in [pool.submit(kept, *task) for task in tasks]:
            done.result()


def write(path: Path, text: str) -> None:
    """A page, unless it is as it was: Sphinx reads anew what is newer."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def sources(language: str) -> Path:
    """BUILD/source/LANGUAGE: the written pages and those that are generated; what is no longer made is removed."""
    from sitegen import api, course, methods, others

    made = BUILD / "made"
    out = BUILD / "source" / language
    pages = {path.relative_to(DOCS / "pages").as_posix(): path.read_text("utf-8") for path in written()}
    pages |= api.pages() | methods.pages(language, made / "pictures")
    pages |= course.pages(language, made) | {"gallery.rst": course.gallery(language, made)}
    pages |= others.pages(language)
    described = sorted((line, name) for name, text in pages.items() for line in re.findall(r"\n *\.\. py:.*", text))
    key, mark = hashlib.sha256(repr(described).encode()).hexdigest(), BUILD / "source" / f"{language}.key"
    if not mark.exists() or mark.read_text() != key:  # Sphinx takes a name that has moved for one that is there twice
        shutil.rmtree(BUILD / "doctrees" / f"html-{language}", ignore_errors=True)
    for name, text in pages.items():
        write(out / name, text)
    mark.write_text(key)
    for path in out.rglob("*"):
        if path.suffix in (".md", ".rst") and path.relative_to(out).as_posix() not in pages:
            path.unlink()
    copies = [("pictures", "pictures"), ("course", "made/course"), (f"gallery-{language}", f"made/gallery-{language}")]
    for name, place in copies:
        for path in (made / name).glob("*.[pg][ni][gf]"):
            target = out / place / path.name
            if not target.exists() or target.read_bytes() != path.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    shutil.copytree(ROOT / "examples" / "images", out / "images", dirs_exist_ok=True)
    return out


def written() -> list[Path]:
    """The pages that are written by hand."""
    return sorted((DOCS / "pages").rglob("*.md"))


def sphinx(language: str, source: Path, builder: str = "html", strict: bool = True) -> None:
    """Run Sphinx."""
    out = BUILD / builder / language if builder == "html" else BUILD / builder
    extra = [BUILD / "made" / name for name in ("explorer", "suite")]
    more = {"DOCS_MESSAGES": str(BUILD / "gettext")} if language == "ko" else {}
    environment = {
        **os.environ, **more, "DOCS_CACHE": str(BUILD / "cache" / digest(ROOT / "jaxopt_ko")), "PYTHONPATH": str(ROOT),
        "DOCS_EXTRA": os.pathsep.join(str(path) for path in extra if path.exists()), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "sphinx", "-b", builder, "-c", str(DOCS), "-D", f"language={language}",
        "-d", str(BUILD / "doctrees" / f"{builder}-{language}"), "-n", "-Q" if builder == "gettext" else "-q",
        *(["-W", "--keep-going"] * strict), *(["-D", "nb_execution_mode=off"] * (builder == "gettext")),
        str(source), str(out),
    ]  # fmt: skip
    subprocess.run(command, env=environment, check=True)


def remove_old(language: str) -> int:
    """Take away pages that are built no more; -> the number of those that are there."""
    source, out = BUILD / "source" / language, BUILD / "html" / language
    here = {path.relative_to(source).with_suffix("") for path in source.rglob("*") if path.suffix in (".md", ".rst")}
    here |= {Path(name) for name in ("genindex", "py-modindex", "search", "explore", *(path.stem for path in suites()))}
    for path in out.rglob("*.html"):
        if path.relative_to(out).with_suffix("") not in here:
            path.unlink()
    return len(list(out.rglob("*.html")))


def messages() -> Path:
    """The messages of the written pages as they are now: BUILD/gettext."""
    out = BUILD / "source" / "written"
    for path in written():
        write(out / path.relative_to(DOCS / "pages"), path.read_text(encoding="utf-8"))
    for path in out.rglob("*.md"):
        if not (DOCS / "pages" / path.relative_to(out)).exists():
            path.unlink()
    sphinx("en", out, "gettext", strict=False)
    pots = BUILD / "gettext"
    for path in pots.rglob("*.pot"):
        if not (DOCS / "pages" / path.relative_to(pots)).with_suffix(".md").exists():
            path.unlink()
    return pots


def update() -> None:
    """The messages of the written pages -> docs/locale/ko, where a changed one is marked as fuzzy."""
    from sitegen import translation

    pots = messages()
    command = [sys.executable, "-m", "sphinx_intl", "update", "-p", str(pots), "-d", str(DOCS / "locale"), "-l", "ko"]
    subprocess.run([*command, "-w", "0"], check=True)
    for path in (DOCS / "locale" / "ko").rglob("*.po"):
        if not (pots / path.relative_to(translation.LOCALE)).with_suffix(".pot").exists():
            path.unlink()
            continue
        body = path.read_text(encoding="utf-8").partition("\n\n")[2]
        path.write_text(f"{HEADER}\n{body}", encoding="utf-8")
    (DOCS / "locale" / "STATUS.md").write_text(translation.status(pots=pots), encoding="utf-8")


def check() -> None:
    """What is wrong before anything is built: undocumented arguments, figures that are stale."""
    from sitegen import api

    sys.path.insert(0, str(DOCS))
    import parity

    wrong = [f"{name}: {', '.join(missing)} not documented" for name, missing in api.undocumented().items()]
    wrong += [f"docs/data/parity.json: {line}" for line in parity.stale()]
    if wrong:
        raise SystemExit("\n".join(wrong))


def main() -> None:
    """Read the command line, and build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--language", choices=LANGUAGES, action="append", help="both, unless one is named")
    parser.add_argument("--update", action="store_true", help="write messages for translators, and stop")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    options = parser.parse_args()
    begun = time.perf_counter()
    if options.update:
        update()
        return
    check()
    prepare(options.jobs)
    for language in options.language or LANGUAGES:
        if language == "ko":
            messages()
        sphinx(language, sources(language))
        print(f"{BUILD / 'html' / language / 'index.html'}: {remove_old(language)} pages", flush=True)
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
