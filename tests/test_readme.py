"""READMEs say what is so: their blocks run as they stand, what they name is there, both languages in step."""

import ast
import importlib
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo

ROOT = pathlib.Path(__file__).parents[1]
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md")}
each_text = pytest.mark.parametrize("name", TEXTS)


def blocks(text, language="python"):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for word, block in found if word == language]


def run(code):
    """What a reader sees who pastes one block into a file of its own, warnings as errors."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    made = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def numbers(text):
    return [float(x) for x in re.findall(r"-?\d+\.\d*(?:e[-+]\d+)?", text)]


def test_both_languages_show_the_same_code():
    """Comments apart: what is run here of one is run of both."""
    english, korean = (blocks(text) for text in TEXTS.values())
    assert len(english) == 2
    assert [ast.dump(ast.parse(code)) for code in english] == [ast.dump(ast.parse(code)) for code in korean]
    for language in ("sh", ""):
        assert blocks(TEXTS["README.md"], language) == blocks(TEXTS["README.ko.md"], language)


def test_one_minute_prints_what_its_comments_say():
    code = blocks(TEXTS["README.md"])[0]
    first, *_, last = run(code).splitlines()
    said = re.search(r"W = (\S+), b = (\S+)\n", code)
    np.testing.assert_allclose(numbers(first), [float(x) for x in said.groups()], atol=6e-4)
    np.testing.assert_allclose(numbers(last), numbers(code.splitlines()[-1].rpartition(":")[2]), atol=6e-3)
    for text in TEXTS.values():
        assert said.group(0) in blocks(text)[0] and blocks(text)[0].endswith(": -1.93\n")


def test_solvers_find_what_their_comments_say():
    said = run(blocks(TEXTS["README.md"])[1])
    for text in TEXTS.values():
        comments = re.findall(r"# (?:\w+ = [\d.]+, )*\w+ = [\d., kx=]+\d", blocks(text)[1])
        assert comments == ["# a = 1.996, k = 0.497", "# x = 0.5, 0.25"]
    fit, constrained = said.splitlines()
    np.testing.assert_allclose(numbers(fit)[:2], [1.996, 0.497], atol=1e-3)
    np.testing.assert_allclose(numbers(constrained)[:2], [0.5, 0.25], atol=2e-3)
    assert "Converged" in constrained


@each_text
def test_it_is_a_page(name):
    assert len(TEXTS[name].splitlines()) <= 150


@each_text
def test_what_is_counted_is_what_was_recorded(name):
    spec = importlib.util.spec_from_file_location("counts", ROOT / "examples" / "benchmarks" / "counts.py")
    counts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(counts)
    found = json.loads(counts.FILE.read_text(encoding="utf-8"))
    table = re.search(r"<!-- counts -->\n(.*?)\n<!-- /counts -->", TEXTS[name], re.DOTALL).group(1)
    assert table == counts.markdown(found, "ko" if ".ko" in name else "en")


@each_text
def test_what_is_named_is_there(name):
    text = TEXTS[name]
    for path in set(re.findall(r"examples/[\w/.-]+\.(?:py|png|txt)|tests/[\w/]+(?:\.py)?", text)):
        assert (ROOT / path).exists(), path
    for dotted in set(re.findall(r"\bjo((?:\.\w+)+)", text)):
        thing = jo
        for part in dotted.split(".")[1:]:
            thing = getattr(thing, part)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert links and set(links) <= anchors


def ways(text):
    """Of the paragraphs on how it is built, those that follow a call: the dotted names, in order."""
    section = re.split(r"^## How it is built$", text, flags=re.MULTILINE)[1]
    paragraphs = [re.findall(r"`([a-z]\w*(?:\.\w+){2,})`", part) for part in section.split("\n\n")]
    return [names for names in paragraphs if names]


def called_in(run):
    """The functions of this package that run() calls, by module: `core.leafwise` -> {"leafwise", …}."""
    found = {}

    def note(frame, event, _):
        module = str(frame.f_globals.get("__name__"))
        if event == "call" and module.startswith("jaxopt_ko."):
            found.setdefault(module.removeprefix("jaxopt_ko."), set()).add(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found


def adams_way():
    params = {"w": jnp.ones(7), "b": jnp.zeros(())}
    optimizer = jo.adam(0.1)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    jo.apply_updates(params, updates)


def residuals_way():
    jo.least_squares(lambda x: x - jnp.arange(7.0), jnp.ones(7), jo.levenberg_marquardt(factor=0.123))


def test_a_call_goes_the_way_that_is_told():
    told = ways((ROOT / "docs" / "pages" / "tour.md").read_text(encoding="utf-8"))
    for run_, names in zip((adams_way, residuals_way), told, strict=True):
        found = called_in(run_)
        rooms = {module.partition(".")[0] for module in found} - {"errors"}
        assert len(rooms) <= 4 and rooms == {name.partition(".")[0] for name in names}
        for name in names:
            module, _, function = name.rpartition(".")
            assert hasattr(importlib.import_module(f"jaxopt_ko.{module}"), function), name
            assert any(f"{called}.".startswith(f"{function}.") for called in found[module]), name


def test_both_languages_have_the_same_parts_and_figures():
    def outline(text):
        return [line[: line.index(" ")] for line in text.splitlines() if line.startswith("#") and " " in line]

    def figures(text):
        """Numbers in tables and prose, code and the names of methods apart."""
        prose = re.sub(r"`[^`]*`|```.*?```", "", text, flags=re.DOTALL)
        tables = [line for line in prose.splitlines() if line.startswith("|")]
        return [re.findall(r"\d[\d.,]*\d|\d", re.sub(r" to |~", " ", line)) for line in tables]

    english, korean = TEXTS.values()
    assert outline(english) == outline(korean)
    assert figures(english) == figures(korean)
    pictures = [re.sub(r"\.ko", "", path) for path in re.findall(r"!\[.*?\]\((.*?)\)", korean)]
    assert re.findall(r"!\[.*?\]\((.*?)\)", english) == pictures


def joined(messages):
    """The Korean of a file of messages, whose long ones are cut into lines."""
    return "".join(re.findall(r'^msgstr (".*"(?:\n".*")*)', messages, re.MULTILINE)).replace('"\n"', "")


def test_korean_has_one_word_for_each_thing():
    """The words that were replaced, and what stands in their place."""
    replaced = {
        "걸음": "스텝", "보폭": "스텝 크기", "예열": "워밍업", "학습률 일정": "스케줄", "자료": "데이터",
        "잎": "리프", "풀이기": "솔버", "저계수": "저랭크", "집단 통신": "집합 통신", "시험 정확도": "테스트 정확도",
        "조리법": "레시피", "하얗게": "백색화한", " 반정부호": "양의 준정부호", "조심스러운": "cautious",
        "사슬": "체인", "최적화 함수": "옵티마이저",
    }  # fmt: skip
    pages = (ROOT / "docs" / "locale" / "ko" / "LC_MESSAGES").rglob("*.po")
    texts = [TEXTS["README.ko.md"], (ROOT / "docs" / "catalogue.ko.md").read_text(encoding="utf-8")]
    korean = "".join([*texts, *(joined(path.read_text(encoding="utf-8")) for path in sorted(pages))])
    found = {old: new for old, new in replaced.items() if re.search(old, korean)}
    assert not found
    for term in (
        "값이 검증된", "확률적(샘플 1개) 배치", "원인과 해결책을 담은 오류", "논문의 식대로 갱신",
        "중첩 반복 없이 펼친 형태", "전진·후진 모드와 고차 미분", "클로저로 캡처한 값", "솔버",
        "라이브러리 계층의 오버헤드", "집합 통신", "테스트 정확도", "cautious 가중치 감쇠", "레시피",
        "합성곱 커널의 공간 축", "백색화한", "리프", "저랭크", "양의 준정부호",
    ):  # fmt: skip
        assert term in korean, term
