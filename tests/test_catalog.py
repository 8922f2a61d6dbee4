"""The catalogue: a row for every method, true of it, in both languages, and the READMEs' copies of it."""

import graphlib
import importlib.util
import inspect
import itertools
import math
import pathlib
import re
import sys
import unicodedata
import xml.etree.ElementTree as ET

import jax
import numpy as np
import pytest
from matplotlib.mathtext import MathTextParser

import jaxopt_ko as jo
from jaxopt_ko import catalog

ROOT = pathlib.Path(__file__).parents[1]
PIECES = {"descent", "keep_in", "orthogonalize"}  # to be put together with others
HANGUL = re.compile("[가-힣]")
every_row = pytest.mark.parametrize("row", catalog.ROWS, ids=lambda row: row.name)
every_language = pytest.mark.parametrize("language", catalog.LANGUAGES)


def methods():
    """Public names of methods: what makes a transformation in optimizers/ or solvers/, but rules and pieces, and the
    drivers that have a method of their own."""
    for name, thing in ((name, getattr(jo, name)) for name in jo.__all__ if not name.startswith("scale_by_")):
        if inspect.isfunction(thing) and name not in PIECES:
            makes = "GradientTransformation" in str(inspect.signature(thing).return_annotation)
            room = inspect.unwrap(thing).__globals__["__name__"].split(".")[1]
            if name.endswith("_program") or (makes and room in ("optimizers", "solvers")):
                yield name


def example():
    spec = importlib.util.spec_from_file_location("catalogue", ROOT / "examples" / "catalogue.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_method_has_a_row_and_every_row_a_method():
    assert {row.factory or row.name for row in catalog.ROWS} == set(methods()) == set(catalog.METHODS)
    assert len(catalog.BY_NAME) == len(catalog.ROWS)
    public = {name: getattr(jo, name) for name in methods()}
    assert {name for name, method in catalog.METHODS.items() if public[name] is not method} == {
        "linear_program", "quadratic_program",
    }  # fmt: skip


# ---- memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size"),
    [("sgd", 0), ("momentum", 4), ("nesterov", 4), ("adagrad", 4), ("rmsprop", 4), ("adadelta", 8), ("adam", 8),
     ("adamw", 8), ("amsgrad", 12), ("rmsprop_centered", 8), ("cg", 8)],
)  # fmt: skip
def test_bytes_per_parameter_are_known(name, size):
    memory = catalog.BY_NAME[name].memory
    assert memory.per_parameter == size and (memory.mn, memory.nn, memory.m) == (0, 0, 0)
    assert str(memory) == (f"{size}n" if size else "0")


def test_lbfgs_keeps_ten_pairs_and_dense_methods_matrices():
    assert catalog.BY_NAME["lbfgs"].memory.n - 4 * 2 * 10 in range(0, 28, 4)  # and at most six vectors
    assert {row.name: row.memory.nn for row in catalog.ROWS if row.memory.nn} == {
        "newton": 8, "bfgs": 4, "gauss_newton": 4, "levenberg_marquardt": 4, "interior_point": 4,
        "nelder_mead": 4,
    }  # fmt: skip
    assert {row.name for row in catalog.ROWS if row.memory.mn} == {
        "gauss_newton", "levenberg_marquardt", "interior_point",
    }  # fmt: skip


@every_row
def test_bytes_follow_the_polynomial_at_other_sizes(row):
    n, m = 16, 30
    if row.by_shape and row.family != "matrix":
        n = 320**2
    memory = row.memory
    most = 2000 if row.name == "lbfgsb" else 400  # which keeps the products of its pairs, 20 by 20
    assert min(memory) >= 0 and memory.rest < most
    expected = memory.mn * m * n + memory.nn * n * n + memory.m * m + memory.n * n + memory.rest
    expected += memory.root * math.isqrt(n)
    assert catalog.state_bytes(row, n, m) == expected


def test_where_the_shape_counts_it_is_a_matrix_that_is_told_of():
    told = {row.name: str(row.memory) for row in catalog.ROWS if row.by_shape and row.family != "matrix"}
    assert told == {"adafactor": "8√n", "sm3": "4n + 8√n", "galore": "1536√n", "apollo": "2048√n"} | {
        "adam_mini": "4n + 4√n", "came": "4n + 16√n", "fira": "1536√n",
    }  # fmt: skip
    pages = {name: catalog.page(name) for name in ("sm3", "adafactor", "adam")}
    assert "4n + 8√n, of a square matrix: 4,202,496 for 1024 × 1024, 4.01 a parameter" in pages["sm3"]
    assert "8√n, of a square matrix: 8,192 for 1024 × 1024, 0.00781 a parameter" in pages["adafactor"]
    assert "matrix" not in pages["adam"]
    state = jo.sm3(0.1).init(np.zeros((1024, 1024), np.float32))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 4_202_496


def test_a_live_state_is_as_large_as_measured():
    state = jo.adam(1e-3).init({"w": np.zeros((3, 5), np.float32), "b": np.zeros(2, np.float32)})
    memory = catalog.BY_NAME["adam"].memory
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == 17 * memory.n + memory.rest


@pytest.mark.parametrize("row", [row for row in catalog.ROWS if row.needs[0] == "gradient"], ids=lambda row: row.name)
def test_what_needs_parameters_says_so(row):
    pair, g = row.make(), np.ones(3, np.float32)

    def update(params):
        return pair.update(g, pair.init(g), params, value=1.0)

    jax.eval_shape(update, g)
    if "params" in row.needs:
        with pytest.raises(jo.errors.MissingArgumentError):
            update(None)
    else:
        jax.eval_shape(update, None)


# ---- the tree -------------------------------------------------------------------------------------------


def test_parents_exist_are_not_younger_and_make_no_cycle():
    for row in catalog.ROWS:
        assert len(set(row.parents)) == len(row.parents)
        for parent in row.parents:
            assert catalog.BY_NAME[parent].year <= row.year, (parent, row.name)
    order = list(graphlib.TopologicalSorter({row.name: row.parents for row in catalog.ROWS}).static_order())
    assert set(order) == set(catalog.BY_NAME)
    assert {row.name for row in catalog.ROWS if not row.parents} == {"gradient_descent", "newton", "nelder_mead"}


@every_language
def test_the_tree_has_the_source_chart_in_it(language):
    nodes, edges = catalog.family_tree(language)
    lines = [
        ("gradient_descent", "sgd", "momentum", "nesterov"),
        ("sgd", "adagrad", "rmsprop", "adadelta"),
        ("rmsprop", "adam"),
        ("momentum", "adam", "nadam"),
        ("nesterov", "nadam"),
    ]
    assert set(itertools.chain.from_iterable(map(itertools.pairwise, lines))) <= set(edges)
    assert set(catalog.BY_NAME["adam"].parents) == {"momentum", "rmsprop"}
    assert [node.name for node in nodes] == [row.name for row in catalog.ROWS]
    assert edges == tuple((parent, node.name) for node in nodes for parent in node.parents)
    graph = catalog.mermaid(language).splitlines()
    assert graph[0] == "graph LR" and len(graph) == 1 + len(nodes) + len(edges)
    for line in graph[1:]:
        assert re.fullmatch(r'  \w+(\["[^"\[\]]+"\]| --> \w+)', line), line


# ---- text -----------------------------------------------------------------------------------------------


def texts():
    for row in catalog.ROWS:
        for field in ("title", "sentence", "strengths", "not_for"):
            yield f"{row.name}.{field}", getattr(row, field)
    for name in ("FAMILIES", "NEEDS", "TITLES"):
        for key, text in getattr(catalog, name).items():
            yield f"{name}[{key}]", text
    yield "KEY", catalog.KEY


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in texts()])
def test_both_languages_have_every_string(text):
    english, korean = text
    assert not HANGUL.search(english) and HANGUL.search(korean)
    for one in text:
        assert one == one.strip() and "|" not in one and "$" not in one and "  " not in one


@every_row
def test_a_row_is_complete(row):
    assert row.family in catalog.FAMILIES
    assert set(row.needs) <= set(catalog.NEEDS) and row.needs
    assert str(row.year) in row.paper and not HANGUL.search(row.paper)
    for i, language in enumerate(catalog.LANGUAGES):
        assert row.sentence[i].endswith((".", "니다."))
        assert not row.strengths[i].endswith(".") and not row.not_for[i].endswith(".")
        page = catalog.page(row.name, language)
        assert row.sentence[i] in page and row.equation in page and len(page.splitlines()) == len(catalog.TITLES)


@every_row
def test_equations_are_rendered(row):
    depth = list(itertools.accumulate((c == "{") - (c == "}") for c in row.equation))
    assert min(depth) == 0 and depth[-1] == 0 and "|" not in row.equation
    MathTextParser("path").parse(f"${row.equation}$")


def cells(line):
    """What a terminal shows in each of its places."""
    return [
        place
        for letter in line
        for place in ([letter, ""] if unicodedata.east_asian_width(letter) in ("W", "F") else [letter])
    ]


@every_language
def test_columns_align_as_a_terminal_shows_them(language):
    head, rule, *body = str(catalog.catalog(language, [*catalog.COLUMNS, "sentence"])).splitlines()
    assert len(body) == len(catalog.ROWS)
    assert set(rule) == {"-", " "}
    gaps = [match.start() for match in re.finditer("  ", rule)]
    assert len(gaps) == len(catalog.COLUMNS)
    for line in (head, *body):
        shown = cells(line)
        for gap in gaps:
            assert all(place == " " for place in shown[gap : gap + 2]), line
            assert shown[gap + 2 : gap + 3] != [""], line


@every_language
def test_notebooks_and_markdown_show_every_cell(language):
    columns = ("name", "equation", "needs", "sentence")
    table = catalog.catalog(language, columns)
    lines = table._repr_markdown_().splitlines()
    assert len(lines) == len(catalog.ROWS) + 2 and {line.count("|") for line in lines} == {len(columns) + 1}
    assert lines[2].startswith("| `gradient_descent` | $u = ")
    rows = list(ET.fromstring(table._repr_html_()))
    assert len(rows) == len(catalog.ROWS) + 1 and {len(list(row)) for row in rows} == {len(columns)}
    assert "".join(rows[1][0].itertext()) == "gradient_descent" and rows[1][1].text.startswith("$u = ")


def test_unknown_words_are_refused():
    with pytest.raises(jo.errors.HyperparameterError, match=r"language must be one of 'en', 'ko'"):
        catalog.catalog("de")
    with pytest.raises(jo.errors.HyperparameterError, match="column must be one of"):
        catalog.catalog(columns=["colour"])
    with pytest.raises(jo.errors.HyperparameterError, match="name must be one of"):
        catalog.page("muon?")


# ---- copies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "language"), [("docs/catalogue.md", "en"), ("docs/catalogue.ko.md", "ko")])
def test_the_copies_in_docs_are_current(name, language):
    text = (ROOT / name).read_text(encoding="utf-8")
    now = example().renewed(text, language)
    assert text == now, "run: python examples/catalogue.py --write docs/catalogue.md docs/catalogue.ko.md"


def test_the_example_prints_and_writes(tmp_path, capsys, monkeypatch):
    module = example()
    stale = tmp_path / "README.ko.md"
    stale.write_text(f"before\n{module.BEGIN}\nold\n{module.END}\nafter\n", encoding="utf-8")
    for args in (["ko"], ["--page", "adam"], ["--columns", "name", "equation"], ["--write", str(stale)]):
        monkeypatch.setattr(sys, "argv", ["catalogue.py", *args])
        module.main()
    out = capsys.readouterr().out
    assert "확률적 경사 하강법" in out and "Kingma & Ba" in out and r"\hat{m}" in out
    written = stale.read_text(encoding="utf-8")
    assert written.startswith("before\n") and written.endswith("\nafter\n") and "old\n" not in written
    with pytest.raises(SystemExit, match="not both there"):
        module.renewed("no markers", "en")
