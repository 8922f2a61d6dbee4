"""The site: what it says of public names, what fails its build, and what a browser shows of it.

The first part needs nothing but the library. Tests marked `docs` need the extra `docs`, and a built site for the last
part: `python docs/build.py && python -m pytest -m docs tests/test_site.py`. The browser is the system's Chromium.
"""

import html.parser
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import zlib
from pathlib import Path

import pytest

import jaxopt_ko as jo

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
from sitegen import api, course, docstrings, names, words  # noqa: E402

HTML = DOCS / "_build" / "html"
LANGUAGES = ("en", "ko")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PAGES = ("index", "start/minute", "which/optimizer", "methods/adam", "api/optimizers/adam")
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}

# ---- what is generated ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference():
    """The pages of the API, by name."""
    return api.pages()


def test_every_public_name_is_on_the_site(reference):
    text = "\n".join(reference.values())
    there = set(re.findall(r"^ *\.\. py:\w+:: (jaxopt_ko[\w.]*)", text, re.MULTILINE))
    face = {f"jaxopt_ko.{name}" for name in jo.__all__}
    assert len(face) > 450 and not face - there
    for name in jo.__all__:
        if inspect.ismodule(room := getattr(jo, name)):
            own = {f"jaxopt_ko.{name}.{each}" for each in getattr(room, "__all__", ())}
            assert not {each for each in own - there if not inspect.ismodule(getattr(room, each.split(".")[-1]))}, name
    signatures = (ROOT / "tests" / "data" / "signatures.txt").read_text(encoding="utf-8").splitlines()
    written = {"jaxopt_ko." + re.match(r"[\w.]+", line)[0] for line in signatures}
    assert not written - there


def test_a_name_is_explained_once(reference):
    found = re.findall(r"^\.\. py:\w+:: (jaxopt_ko[\w.]*)", "\n".join(reference.values()), re.MULTILINE)
    assert len(found) == len(set(found))


def test_docstrings_become_arguments_formulas_and_examples():
    def method(learning_rate, b1=0.9, *rest, name="x"):
        """One sentence on `adam`.

        m_t = b1 m + (1 - b1) g
        u   = m_t

        learning_rate: length of the steps,
            a number.
        b1, rest: of *one* kind.
        name=None: what is said of a value.

        Raises TreeError. State: 4 bytes.

        >>> method(0.1)
        3
        """

    text = "\n".join(docstrings.rest_of(method))
    assert ":py:obj:`adam <jaxopt_ko.adam>`" in text
    assert "   m_t = b1 m + (1 - b1) g\n   u   = m_t" in text
    assert "**learning_rate**\n   length of the steps, a number." in text
    assert "**b1**, **rest** = ``0.9``\n   of \\*one\\* kind." in text
    assert "**name** ``=None``" in text
    assert ".. code-block:: pycon\n\n   >>> method(0.1)\n   3" in text
    assert text.index("Raises") < text.index(">>>")


def test_docstrings_lose_nothing():
    for path, name in names.public().items():
        doc = getattr(name.thing, "__doc__", None)
        if inspect.isfunction(name.thing) and isinstance(doc, str):
            text = "\n".join(docstrings.rest_of(name.thing)).replace("\\", "")
            said = set(re.findall(r"\w{4,}", inspect.cleandoc(doc)))
            assert not said - set(re.findall(r"\w{4,}", text)), path


def test_ranges_name_arguments_that_there_are():
    for table in (words.RANGES, words.KOREAN_RANGES):
        assert table.keys() == words.RANGES.keys()
        for method, rows in table.items():
            if method != "*":
                known = inspect.signature(getattr(jo, method)).parameters
                assert not [name for name, _, _ in rows if name not in known], method
    for key, texts in words.WORDS.items():
        assert texts[0].count("{}") == texts[1].count("{}"), key
        assert texts[1], key
        assert re.findall(r"%\w", texts[0]) == re.findall(r"%\w", texts[1]) or not texts[0], key


def test_a_lesson_has_one_language_on_a_page():
    hangul = re.compile("[가-힣]")
    for path in course.lessons():
        text = path.read_text(encoding="utf-8")
        english = "\n".join(course.text_of(path, "en"))
        korean = "\n".join(course.text_of(path, "ko"))
        assert english and not hangul.search(english), path
        assert korean and hangul.search(korean), path
        comments = [line for line in course.program(text, "en").splitlines() if line.lstrip().startswith("#")]
        assert not [line for line in comments if hangul.search(line)], path


def test_written_pages_are_in_the_table_of_contents():
    index = (DOCS / "pages" / "index.md").read_text(encoding="utf-8")
    for path in (DOCS / "pages").rglob("*.md"):
        page = path.relative_to(DOCS / "pages").with_suffix("").as_posix()
        assert page == "index" or f"\n{page}\n" in index, page


def test_the_table_of_parity_is_fresh():
    rows = json.loads((DOCS / "data" / "parity.json").read_text(encoding="utf-8"))
    known = {row.factory or row.name for row in jo.catalog.ROWS}
    assert len(known & {row["name"].partition("-")[0] for row in rows}) > 40
    assert all(row["error"] < 1e-8 for row in rows)


# ---- what fails the build -------------------------------------------------------------------------------

docs = pytest.mark.docs


@docs
def test_an_undocumented_argument_is_seen(monkeypatch):
    def adam(learning_rate, undocumented):
        """One sentence.

        learning_rate: length of the steps.
        """

    adam.__module__ = "jaxopt_ko"
    monkeypatch.setattr(jo, "adam", adam)
    assert api.undocumented().get("adam") == ["undocumented"]


@docs
def test_a_stale_table_of_parity_is_seen(tmp_path, monkeypatch):
    import parity

    assert not parity.stale()
    rows = json.loads(parity.FILE.read_text(encoding="utf-8"))
    rows[0]["name"] = "adam-gone"
    monkeypatch.setattr(parity, "FILE", tmp_path / "parity.json")
    parity.FILE.write_text(json.dumps(rows))
    assert [line.partition(":")[0] for line in parity.stale()] == ["missing", "gone"]


def sphinx(folder, pages, language="en", *, locale=None, pots=None):
    """Build a small site with the settings of the large one; -> its exit status, and what it says."""
    for name, text in pages.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    command = [
        sys.executable, "-m", "sphinx", "-b", "html", "-c", str(DOCS), "-D", f"language={language}", "-n", "-W",
        "--keep-going", "-q", *(["-D", f"locale_dirs={locale}"] if locale else []), str(folder / "source"),
        str(folder / "out"),
    ]  # fmt: skip
    more = {"DOCS_MESSAGES": str(pots)} if pots else {}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DOCS_CACHE": str(folder / "cache"), **more}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


GOOD = "# Title\n\nA sentence with $x^2$.\n"


@docs
def test_a_small_site_is_built(tmp_path):
    status, said = sphinx(tmp_path, {"index.md": GOOD})
    assert status == 0, said
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in page and '../ko/index.html"' in page


@docs
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[gone](gone.md)", "gone.md"),
        ("{jo}`no_such_name`", "no_such_name"),
        ("[gone](index.md#no-such-heading)", "no-such-heading"),
        ("![gone](gone.png)", "gone.png"),
        ("{doc}`/gone`", "gone"),
        ("{jo}`adam`", "adam"),  # which is no page of this small site
    ],
)
def test_a_broken_link_fails_the_build(tmp_path, line, message):
    status, said = sphinx(tmp_path, {"index.md": f"{GOOD}\n{line}\n"})
    assert status != 0 and message in said


@docs
@pytest.mark.parametrize(
    ("latex", "lines"),
    [
        ("x = y,", ["x = y,"]),
        (r"a = b, \quad c = d;", ["a = b", "c = d;"]),
        (r"a\;\quad b\, \qquad f(x, y),\\ g", [r"a\;", r"b\,", "f(x, y)", "g"]),
        (r"\text{a, \quad b},", [r"\text{a, \quad b},"]),
    ],
)
def test_an_equation_keeps_what_its_sentence_needs(latex, lines):
    from sitegen.mathml import lines_of

    assert lines_of(latex) == lines


@docs
def test_code_that_fails_fails_the_build(tmp_path):
    head = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n"
    status, said = sphinx(tmp_path, {"index.md": head + "# Title\n\n```{code-cell} python\n1 / 0\n```\n"})
    assert status != 0 and "ZeroDivisionError" in said


PO = 'msgid ""\nmsgstr ""\n"Language: ko\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'
TITLE = 'msgid "Title"\nmsgstr "제목"\n\n'


@docs
@pytest.mark.parametrize(
    ("second", "status", "banner"),
    [
        ('msgid "A sentence with $x^2$."\nmsgstr "$x^2$이 있는 문장."\n', 0, ""),
        ('msgid "A sentence with $x^2$."\nmsgstr ""\n', 1, "번역 중"),
        ('#, fuzzy\nmsgid "A sentence with $x^2$."\nmsgstr "옛 문장."\n', 1, "바뀌었습니다"),
        ("", 1, "번역 중"),  # the page has a sentence that the file knows nothing of
    ],
)
def test_a_missing_translation_fails_the_build_of_a_page_that_is_done(tmp_path, second, status, banner):
    locale, pots = tmp_path / "locale", tmp_path / "pots"
    (locale / "ko" / "LC_MESSAGES").mkdir(parents=True)
    (locale / "ko" / "LC_MESSAGES" / "index.po").write_text(PO + TITLE + second, encoding="utf-8")
    pots.mkdir()
    now = TITLE.replace("제목", "") + 'msgid "A sentence with $x^2$."\nmsgstr ""\n'
    (pots / "index.pot").write_text(PO + now, encoding="utf-8")
    assert sphinx(tmp_path, {"index.md": GOOD}, "ko", locale=locale, pots=pots)[0] == 0  # not listed yet
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert ("translation-banner" in page) == bool(banner) and banner in page and "제목" in page
    (locale / "done.txt").write_text("index\n")
    shutil.rmtree(tmp_path / "out")
    got, said = sphinx(tmp_path, {"index.md": GOOD}, "ko", locale=locale, pots=pots)
    assert bool(got) == bool(status), said
    assert ("listed as translated" in said) == bool(status)


@docs
def test_pages_that_are_listed_are_translated():
    from sitegen import translation

    found, listed = translation.counts(), translation.done()
    assert not [page for page, count in found.items() if translation.is_done(page, listed) and count.open]


@docs
def test_particles_are_taken_off():
    from sitegen.search_ko import Korean, bare

    for word, stem in {
        "모멘텀을": "모멘텀", "학습률이": "학습률", "학습률은": "학습률", "기울기에서는": "기울기",
        "솔버로": "솔버",
        "행렬과": "행렬", "매개변수들의": "매개변수", "최솟값까지": "최솟값", "경로": "경로", "상태": "상태",
        "Adam": "Adam",
    }.items():  # fmt: skip
        assert bare(word) == stem
    split = Korean({}).split("Adam을 경사하강법으로")
    assert "Adam" in split and "하강" in split and "경사" in split


# ---- what was built -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=LANGUAGES)
def site(request):
    """The built site of a language."""
    if not (HTML / request.param / "index.html").exists():
        pytest.skip("python docs/build.py has not been run")
    return HTML / request.param


class Links(html.parser.HTMLParser):
    """What a page links to, loads, and can be linked at."""

    def __init__(self):
        super().__init__()
        self.links, self.loads, self.ids = set(), set(), set()

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        if "id" in known:
            self.ids.add(known["id"])
        if tag == "a" and known.get("href"):
            self.links.add(known["href"])
        loaded = known.get("src") or (known.get("href") if tag == "link" else None)
        if loaded:
            self.loads.add(loaded)


@docs
def test_every_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    parsed = {}
    for path in site.rglob("*.html"):
        if path.name != "explore.html":
            parsed[path] = Links()
            parsed[path].feed(path.read_text(encoding="utf-8"))
    wrong = []
    for path, page in parsed.items():
        for link in page.loads:
            assert not link.startswith(("http:", "https:", "//")), (path, link)
        for link in page.links | page.loads:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                other = HTML / "ko" if site.name == "en" else HTML / "en"
                if target.is_relative_to(other) and not other.exists():
                    continue
                wrong.append((path.relative_to(site).as_posix(), link))
                continue
            anchor = urllib.parse.unquote(parts.fragment)
            if anchor and target in parsed and anchor not in parsed[target].ids:
                wrong.append((path.relative_to(site).as_posix(), link))
    assert not wrong


@docs
def test_every_public_name_is_in_the_inventory(site):
    head, _, body = (site / "objects.inv").read_bytes().partition(b"zlib.\n")
    assert b"jaxopt_ko" in head
    found = {line.split()[0] for line in zlib.decompress(body).decode().splitlines()}
    assert not names.public().keys() - found
    assert not {f"jaxopt_ko.{name}" for name in names.modules()} - found


@docs
def test_every_method_has_its_page(site):
    for row in jo.catalog.ROWS:
        text = (site / "methods" / f"{row.name}.html").read_text(encoding="utf-8")
        plain = html.unescape(re.sub(r"<[^>]+>", "", text))
        assert "<math" in text, row.name
        assert row.sentence[LANGUAGES.index(site.name)] in plain.replace("’", "'"), row.name
        if row.name not in ("linear_program", "quadratic_program"):
            assert f"{row.name}.png" in text, row.name


# ---- in a browser ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e .[test]")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with driver.sync_playwright() as play:
        running = play.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


QUERIES = {
    "en": {
        "momentum": "methods/momentum", "learning rate schedule": "howto/schedules", "adamw": "api/optimizers/adam",
        "Levenberg": "methods/levenberg_marquardt", "checkpoint": "howto/checkpoints",
        "bfloat16": "howto/low_precision",
        "gradient accumulation": "howto/accumulation", "constraints": "howto/constraints", "NaN": "howto/nan",
        "condition number": "course/07_condition_number",
    },
    "ko": {
        "모멘텀을": "methods/momentum", "학습률이": "course/02_learning_rate", "기울기 누적은": "howto/accumulation",
        "조건수와": "course/07_condition_number", "뉴턴법": "course/07_condition_number", "편향 보정": "course/05_adam",
        "배치 정규화": "course/11_batch_normalization", "Adam은": "methods/adam", "직선 탐색을": "course/08_lbfgs",
        "제약": "course/10_interior_point",
    },
}  # fmt: skip


@docs
def test_twenty_queries_find_their_page_without_a_network(site, browser):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for query, wanted in QUERIES[site.name].items():
        page.goto(f"{(site / 'search.html').as_uri()}?q={urllib.parse.quote(query)}")
        page.wait_for_function("document.querySelector('#search-results h2')?.innerText === _('Search Results')")
        found = [link.get_attribute("href").partition("#")[0] for link in page.query_selector_all("ul.search a")]
        assert f"{wanted}.html" in [link.partition("?")[0] for link in found[:10]], (query, found[:10])
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
    page.close()


@docs
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_five_pages_in_light_and_dark_on_desktop_and_phone(site, browser, scheme, size, tmp_path):
    """Pictures lie in docs/_build/screenshots: look at them after a change of style."""
    out = DOCS / "_build" / "screenshots"
    out.mkdir(exist_ok=True)
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    for name in PAGES:
        page = context.new_page()
        asked, said = [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        assert not [url for url in asked if not url.startswith(("file:", "data:"))], name
        assert not said, name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        cut = page.evaluate(
            """() => [...document.querySelectorAll("article div.math, article table, article img, article pre")]
            .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
            .filter((one) => !one.closest(".table-wrapper, div.math, pre, .highlight"))
            .map((one) => one.outerHTML.slice(0, 80))"""
        )
        assert not cut, name
        page.screenshot(path=out / f"{site.name}-{name.replace('/', '_')}-{scheme}-{size}.png")
        page.close()
    context.close()
