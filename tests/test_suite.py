"""The suite that compares optimizers: its tasks, its statistics against cases by hand, resuming, the page, the results.

The browser is the system's Chromium or Chrome; its test skips without.
"""

import json
import math
import re
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "benchmarks"))

from readme_table import renewed
from suite import accelerator, cells, command, lanes, methods, readme, report, scores
from suite.task import SCALES
from suite.tasks import NAMES, task

import jaxopt_ko as jo

SMALL = SCALES["small"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HANGUL = re.compile("[가-힣]")


@pytest.fixture(autouse=True)
def promotion():
    """As users have it: the tasks are theirs."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


# ---- tasks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_task_keeps_its_contract(name):
    """At all levels in one program: finite loss, metric and gradients of the parameters' shapes; a short file."""
    t = task(name, SMALL)
    path = Path(sys.modules[f"suite.tasks.{name}"].__file__)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 80
    assert t.name == name and len(t.levels) == len(t.learned) == 3 and t.steps % lanes.POINTS == 0
    assert list(t.levels) in (sorted(t.levels), sorted(t.levels, reverse=True)) and len(set(t.levels)) == 3

    data = jax.tree.map(jnp.asarray, t.data)

    def look(level, key):
        params = lanes.start(t, key, level)
        value, grads = jax.value_and_grad(t.loss)(params, data, key, level)
        return params, value, t.validate(params, data, level), grads

    params, values, metrics, grads = jax.eval_shape(look, jnp.float32(0), jax.random.key(0))
    assert values.shape == metrics.shape == () and values.dtype == metrics.dtype == jnp.float32
    assert jax.tree.map(lambda p: p.shape, params) == jax.tree.map(lambda g: g.shape, grads)
    if isinstance(params, dict):
        assert set(t.tokens) <= params.keys()
    found = jax.jit(jax.vmap(look, (0, None)))(jnp.array(t.levels), jax.random.key(1))
    _, values, metrics, grads = found
    assert np.isfinite(values).all() and np.isfinite(metrics).all()
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert (np.abs(metrics - np.array(t.learned)) > 0).all() and (metrics > np.array(t.learned)).all()  # not at once


def test_tasks_at_the_large_scale_compute_in_half_precision():
    for name in ("transformer", "convolution", "experts", "recurrent"):
        t = task(name, SCALES["large"]._replace(width=2, batch=1))
        params = jax.eval_shape(lambda t=t: lanes.cast(lanes.start(t, jax.random.key(0), jnp.float32(1)), "bfloat16"))
        data = lanes.cast(jax.tree.map(jnp.asarray, t.data), "bfloat16")
        text = str(jax.make_jaxpr(lambda p, t=t, d=data: t.loss(p, d, jax.random.key(0), jnp.float32(0.5)))(params))
        products = re.findall(r":(\w+)\[[^\]]*\] = dot_general", text)
        assert products.count("bf16") >= 2 and products.count("f32") <= 2 * (name == "experts"), (name, products)


@pytest.mark.parametrize(("name", "method"), [("perceptron", "muon"), ("delayed", "sgd"), ("logistic", "soap")])
def test_runs_learn_and_are_the_same_alone_and_beside_others(name, method):
    t = task(name, SMALL)._replace(steps=30)
    tried = np.array([[0.02, 0.1], [0.01, 0.2]], np.float32)
    many = lanes.Runs(t, method, SMALL, 6, tried)
    curves = many(many.cases, np.array([3]))
    assert curves.shape == (6, 1, lanes.POINTS + 1) and many.compilations == 1
    assert (curves[:, 0, -1] < curves[:, 0, 0]).sum() >= 4
    again = many(np.array([4]), np.array([3, 7]))
    assert many.compilations == 1
    np.testing.assert_allclose(again[0, 0], curves[4, 0], rtol=1e-4)
    assert many.lane_step()[0] > 0


def test_a_delayed_gradient_is_that_of_so_many_steps_ago():
    t = task("least_squares", SMALL)
    t = t._replace(
        steps=30, delay=3, floor=-math.inf, init=lambda key, level: jnp.ones(()), data=(),
        loss=lambda params, data, key, level: params**2, validate=lambda params, data, level: params,
    )  # fmt: skip
    plain = methods.Method(lambda r, o, *_: methods.jo.sgd(0.1), (1.0, 1.0))
    for age in (1, 3):
        x = [1.0]
        for i in range(30):
            x.append(x[-1] - 0.1 * (2 * x[i - age] if i >= age else 0.0))
        found = lanes.run(t, plain, SMALL)(jnp.ones(2), jnp.float32(age), jax.random.key(0))
        np.testing.assert_allclose(found, x, rtol=1e-5)


def test_every_method_has_a_space_and_the_same_trials_for_every_task():
    assert methods.REFERENCE in methods.DEFAULT and len(methods.DEFAULT) == 12
    for method in methods.METHODS.values():
        tried = methods.trials(method, 10)
        assert tried.shape == (10, 2) and np.array_equal(tried, methods.trials(method, 12)[:10])
        for column, (low, high) in zip(tried.T, (method.rate, method.span), strict=True):
            assert low <= column.min() and column.max() <= high
            places = np.sort(np.log(column / low) / np.log(high / low))
            assert np.diff(np.concatenate([[0], places, [1]])).max() < 0.25  # no gap in ten points
    share = methods.shape(100, True)
    assert [round(float(share(t)), 3) for t in (0, 4, 5, 52, 100)] == [0.2, 1.0, 1.0, 0.505, 0.0]
    assert float(methods.shape(100, False)(99)) == 1.0


@pytest.mark.slow
def test_every_first_order_method_of_the_catalogue_runs():
    t = task("perceptron", SMALL)
    asked = {row.name for row in jo.catalog.ROWS if set(row.needs) <= {"gradient", "params", "value"}}
    assert asked <= methods.METHODS.keys()
    for method in methods.METHODS.values():
        made = jax.eval_shape(lanes.run(t, method, SMALL), jnp.ones(2), jnp.float32(0.5), jax.random.key(0))
        assert made.shape == (lanes.POINTS + 1,)


def test_the_catalogues_arguments_are_tuned():
    assert methods.METHODS["radam"].other == "1 - b1" and methods.METHODS["rprop"].other == "none"
    assert methods.METHODS["signum"].other == "1 - beta" and methods.METHODS["momentum"].other == "none"
    assert {"newton", "sophia", "mezo"}.isdisjoint(methods.METHODS)  # which need functions
    assert set(methods.OWN_RATES) <= {row.factory or row.name for row in jo.catalog.ROWS}


# ---- statistics -----------------------------------------------------------------------------------------


def test_times_scores_and_targets_by_hand():
    curves = np.array([[5, 4, 3, 2, 1], [5, 2, 3, 2, 9], [5, 5, 5, 5, 5], [5, np.nan, np.nan, 1, 1], [1, 5, 5, 5, 5]])
    assert scores.times(curves, 2.0).tolist() == [0.75, 0.25, math.inf, 0.75, 0.0]
    assert scores.times(curves, math.inf).tolist() == [math.inf] * 5  # no target at all
    mean, error = scores.score(np.array([0.25, 0.75, math.inf]), 30)
    assert mean == pytest.approx(2 / 3) and error == pytest.approx(np.std([0.25, 0.75, 1.0], ddof=1) / 3**0.5)
    assert scores.score(np.full(4, 0.5), 30) == pytest.approx((0.5, 1 / 30 / 12**0.5 / 2))  # never surer than a point
    assert scores.score(np.full(4, math.inf), 30) == (1.0, 0.0)
    assert scores.target(np.array([3.0, 1.0, np.nan, 2.0, 4.0])) == 4.0  # four of five reach it
    assert scores.target(np.array([np.nan, 1.0, np.nan, 2.0, 4.0])) == math.inf


def test_trials_are_chosen_on_the_mean_and_one_setting_on_the_regret():
    assert scores.chosen(np.array([[1.0, 5.0], [2.0, 2.0], [0.0, np.nan], [2.0, 2.0]])) == 1
    ends = np.array([[1.0, 2.0, 9.0], [50.0, 20.0, 10.0]])  # regrets 0, .125, 1 and .44, .11, 0: means .22, .12, .5
    assert scores.one_setting(ends, np.array([9.0, 100.0])) == 1
    assert scores.one_setting(np.array([[np.nan, np.nan, 1.0]]), np.array([2.0])) == 2


def test_profiles_and_their_areas_by_hand():
    inf = math.inf
    medians = np.array([[1.0, 2.0, inf, inf], [2.0, 1.0, 5.0, inf], [5.0, 1.0, inf, inf]])
    ratios = np.array([1.0, 1.5, 2.0, 4.9, 5.0])
    wanted = [[0.25, 0.25, 0.5, 0.5, 0.5], [0.5, 0.5, 0.75, 0.75, 0.75], [0.25, 0.25, 0.25, 0.25, 0.5]]
    assert scores.profile(medians, ratios).tolist() == wanted
    np.testing.assert_allclose(scores.area(medians), [(0.25 + 2 * 0.5) / 3, (0.5 + 2 * 0.75) / 3, 0.25])
    at_once = np.array([[0.0], [0.5]])  # solved before the first step
    assert scores.profile(at_once, np.array([1.0, 4.0])).tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_z_is_that_of_students_t_and_claims_begin_at_three():
    assert scores.normal(0.0, 8) == 0.0 and scores.normal(2.0, 1e9) == pytest.approx(2.0, abs=1e-6)
    assert scores.normal(3.0, 8) == pytest.approx(2.3852, abs=1e-3)  # of tables: P(t_8 > 3) = 0.008536
    assert scores.normal(-3.0, 8) == -scores.normal(3.0, 8) and scores.normal(math.inf, 4) == math.inf
    a, b = np.array([0.1, 0.2, 0.3, 0.2, 0.2]), np.array([0.8, 0.9, 0.7, 0.8, 0.8])
    gap, error = 0.6, (0.005 / 5 + 0.005 / 5) ** 0.5  # both variances are 0.005
    assert scores.welch(a, b) == pytest.approx(scores.normal(gap / error, 8)) and scores.welch(a, b) > scores.Z
    assert scores.welch(a, a) == 0.0 and scores.welch(b, a) == -scores.welch(a, b)
    never = np.full(5, math.inf)
    assert scores.welch(never, never) == 0.0 and scores.welch(np.full(5, 0.97), never) < scores.welch(a, never)
    mean, error, z = scores.paired([0.1, 0.2, 0.3], 30)
    assert (mean, error) == pytest.approx((0.2, 0.1 / 3**0.5)) and z == pytest.approx(scores.normal(2 * 3**0.5, 2))
    assert scores.paired([0.0, 0.0])[2] == 0.0
    assert scores.paired([0.1] * 4)[1] == pytest.approx(1 / 30 / 12**0.5 / 2)


def test_kendalls_tau():
    assert scores.kendall("abcd", "abcd") == 1 and scores.kendall("abcd", "dcba") == -1
    assert scores.kendall("abcd", "abdc") == pytest.approx(4 / 6)


# ---- cells, and the way to a result -----------------------------------------------------------------------


class Pretended:
    """Curves without training: muon falls twice as fast as nadamw, sgd half as fast; the second trial is the best."""

    levels, compilations = 3, 1

    def __init__(self, t, name, scale, lanes, tried):
        self.name, self.cases = (t.name, name), np.arange(3 * len(tried))
        self.speed = {"nadamw": 2.0, "muon": 4.0, "sgd": 1.0}[name]

    def __call__(self, cases, seeds):
        self.made.append(self.name)
        if self.name in self.fail:
            raise KeyboardInterrupt
        speed = self.speed * np.where(np.asarray(cases) // 3 == 1, 1.0, 0.8)[:, None, None]
        luck = np.random.default_rng([*seeds, *map(ord, "".join(self.name))]).normal(size=(1, len(seeds), 1))
        return np.exp(-speed * np.linspace(0, 1, lanes.POINTS + 1) * (1 + 0.03 * luck))

    def lane_step(self):
        return 1e-4, 1e-4


SETTINGS = cells.Settings(
    trials=3, tasks=("perceptron", "policy", "game", "logistic", "scales"), methods=("nadamw", "sgd", "muon")
)


@pytest.fixture
def pretended(monkeypatch):
    monkeypatch.setattr(cells, "Runs", Pretended)
    monkeypatch.setattr(Pretended, "fail", (), raising=False)
    monkeypatch.setattr(Pretended, "made", [], raising=False)
    return Pretended


def worked(tmp_path, settings=SETTINGS):
    """(folder, result) of a whole run in this process."""
    folder = command.folder_of(settings, tmp_path / "suite.json")
    for method in settings.methods:
        cells.work(folder, settings, method)
    return folder, report.collected(folder, settings) | {"date": "2026-12-01"}


def test_a_run_finds_what_is_so(pretended, tmp_path):
    _, found = worked(tmp_path)
    assert found["ranking"] == ["muon", "nadamw", "sgd"] and len(found["problems"]) == 15
    assert all(r["muon"]["setting"] == found["methods"]["muon"]["one_setting"] for r in found["results"])
    muon, nadamw, sgd = (found["methods"][name] for name in found["ranking"])
    assert muon["score"] == pytest.approx(0.5, abs=0.05) and sgd["score"] == 1.0 and sgd["reached"] == 0.0
    assert muon["reached"] == 1.0 and muon["one_setting"] == muon["trials"][1]
    assert nadamw["score"] > 0.9 and sgd["area"] == 0.0 and muon["area"] == 1.0
    assert {tuple(c[:2]) for c in found["claims"]["suite"]} >= {("muon", "nadamw"), ("muon", "sgd")}
    assert not any(a == "sgd" for a, *_ in found["claims"]["suite"] + found["claims"]["problems"])
    assert all(c[-1] >= 3 for c in found["claims"]["suite"] + found["claims"]["problems"])
    text = report.text(found)
    assert "muon beats sgd on the suite" in text and text.splitlines()[1].startswith("muon")
    assert len(json.dumps(found)) < 60_000 and json.loads(json.dumps(found, allow_nan=False)) == found
    assert report.agreement(found, found) == {"tau": 1.0, "tau_top": 1.0, "same_top": True}
    other = found | {"ranking": ["nadamw", "muon", "sgd"]}
    assert report.agreement(found, other) == {"tau": round(1 / 3, 4), "tau_top": 1 / 3, "same_top": False}


def test_what_is_finished_is_not_done_again(pretended, tmp_path, monkeypatch):
    monkeypatch.setattr(pretended, "fail", [("policy", "muon")])
    with pytest.raises(KeyboardInterrupt):
        worked(tmp_path)
    folder = tmp_path / "suite.cells"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("tuned-*")}
    assert {path.name for path in before} == {
        f"tuned-{t}-{m}.json" for t in SETTINGS.tasks for m in ("nadamw", "sgd")
    } | {"tuned-perceptron-muon.json"}
    (folder / "tuned-policy-muon.123.draft").write_text("[1, 2")  # of a process that was killed while it wrote
    monkeypatch.setattr(pretended, "fail", ())
    pretended.made.clear()
    _, found = worked(tmp_path)
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert set(pretended.made) == {(t, "muon") for t in SETTINGS.tasks}  # the one setting of perceptron, too
    assert found["ranking"][0] == "muon"


def test_cells_of_other_settings_are_refused(tmp_path):
    command.folder_of(SETTINGS, tmp_path / "x.json")
    assert command.folder_of(SETTINGS, tmp_path / "x.json").is_dir()
    with pytest.raises(SystemExit, match=r"another run: first_seed was 0, is 7\. Remove it"):
        command.folder_of(SETTINGS._replace(first_seed=7), tmp_path / "x.json")


def test_seeds_of_tuning_target_and_score_are_never_the_same():
    for first in (0, 1000):
        settings = cells.Settings(seeds=9, first_seed=first)
        drawn = [*settings.tuning(), *settings.held_out(), *settings.aiming()]
        assert len(set(drawn)) == len(drawn) == 20


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    for words, said in (
        (["--seeds", "4"], "at least 5"), (["--methods", "adamo"], "invalid choice"),
        (["--out", str(tmp_path / "no" / "x.json")], "there is no directory"),
        (["--page", str(tmp_path / "x.json")], "there is no file"),
    ):  # fmt: skip
        with pytest.raises(SystemExit):
            command.main(words)
        assert said in capsys.readouterr().err


# ---- what is published ------------------------------------------------------------------------------------


def test_a_run_and_its_repetition_are_published(pretended, tmp_path, monkeypatch):
    _, found = worked(tmp_path)
    other = found | {"ranking": ["nadamw", "muon", "sgd"], "settings": found["settings"] | {"first_seed": 1000}}
    for name, content in {"a.json": found, "b.json": other}.items():
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    texts = tmp_path / "README.md", tmp_path / "README.ko.md"
    for path in texts:
        path.write_text("before\n<!-- suite -->\n<!-- /suite -->\nafter", encoding="utf-8")
    for name, value in {"RESULTS": tmp_path / "x.json", "PICTURE": tmp_path / "x.png", "READMES": texts}.items():
        monkeypatch.setattr(readme, name, value)
    assert command.main(["--publish", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    kept = json.loads((tmp_path / "x.json").read_text())
    assert (
        kept["again"]["tau"] == 0.3333 and kept["again"]["first_seed"] == 1000 and kept["results"] == found["results"]
    )
    english, korean = (path.read_text(encoding="utf-8") for path in texts)
    assert "muon 1.000," in english and "muon beats" in english and "Kendall's tau of 0.33" in english
    assert "Behind nadamw in this order, proved or not: sgd." in english and "muon > " in korean
    assert (tmp_path / "x.png").stat().st_size > 5_000


def test_readmes_show_what_was_recorded():
    for path in readme.READMES:
        text = path.read_text(encoding="utf-8")
        if not readme.RESULTS.exists():
            assert "The reference run is not in yet." in text
            continue
        found = json.loads(readme.RESULTS.read_text(encoding="utf-8"))
        table = readme.markdown(found, "ko" if ".ko" in path.name else "en")
        assert renewed(text, readme.MARK, table) == text, "run: python -m jaxopt_ko bench --publish …"
        assert readme.RESULTS.stat().st_size < 1e6 and readme.PICTURE.exists()
        assert found["settings"]["tasks"] == list(NAMES) and found["settings"]["methods"] == list(methods.DEFAULT)
        assert report.ranking(found) == found["ranking"] and report.claims(found) == found["claims"]
        assert found["again"]["tau"] > 0.5 and found["again"]["first_seed"] != found["settings"]["first_seed"]


# ---- the step itself ----------------------------------------------------------------------------------------


def test_the_steps_times_are_told_beside_optax(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(accelerator.SIZES, "0.2 M", (8, 1))
    kept = ("adamw", "adamw, 8 bits")
    every = accelerator.optimizers
    monkeypatch.setattr(accelerator, "optimizers", lambda width: {k: every(width)[k] for k in kept})
    assert accelerator.main(tmp_path / "x.json") == 0
    said, found = capsys.readouterr().out, json.loads((tmp_path / "x.json").read_text())
    assert "These are CPUs" in said and "TFLOP/s" in said
    row = found["rows"][0]
    assert row["parameters"] == 12 * 8**2 + 8 and row["state_bytes"] == pytest.approx(8, abs=0.1)
    assert row["optax_ms"] > 0 and row["peak_bytes"] > 16 and [r["method"] for r in found["rows"]] == list(kept)
    assert accelerator.newton_schulz({"a": (2, 3), "b": (5,)}) == 5 * 2 * (2 * 2 * 2 * 3 + 8)
    accelerator.main(tmp_path / "y.json", budget=0.0)
    assert json.loads((tmp_path / "y.json").read_text())["left_out"] == [f"{k} at 0.2 M: no time" for k in kept]


# ---- the page -------------------------------------------------------------------------------------------


def test_both_languages_say_everything():
    english, korean = json.loads((report.HERE / "strings.json").read_text("utf-8")).values()
    used = "".join((report.HERE / f"page.{end}").read_text("utf-8") for end in ("html", "js"))
    assert english.keys() == korean.keys()
    for key, text in english.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", korean[key])), key
        assert HANGUL.search(korean[key]) or key == "language", key
        assert key in used or key.startswith(("column_", "theme_")), key
    assert set(re.findall(r'(?:data-text|data-label|say\()="?(\w+)"', used)) - {"theme"} <= english.keys()


def test_the_page_shows_two_results_in_two_languages(pretended, tmp_path):
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e .[test]")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    _, result = worked(tmp_path)
    other = tmp_path / "other.json"
    other.write_text(json.dumps(result | {"device": "another device"}))
    (tmp_path / "suite.json").write_text(json.dumps(result))
    assert command.main(["--page", str(tmp_path / "suite.json")]) == 0
    page_file, complaints = tmp_path / "suite.html", []
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", page_file.read_text("utf-8"))
    with driver.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        for language, width in (("en-US", 1280), ("ko-KR", 390)):
            page = browser.new_page(viewport={"width": width, "height": 900}, locale=language)
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(page_file.as_uri())
            page.wait_for_selector("body[data-ready]")
            korean = language.startswith("ko")
            assert bool(HANGUL.search(page.inner_text("h1"))) == korean
            assert page.locator("#profile path[data-method]").count() == 3
            assert page.locator("#table tbody tr").count() == 3
            page.set_input_files("#file", other)
            page.wait_for_selector("#profile > div:nth-child(2)")
            assert "another device" in page.inner_text("#about") and "1.00" in page.inner_text("#agreement")
            page.uncheck("#legend label:nth-of-type(1) input")
            assert page.locator("#profile path[data-method]").count() == 4
            page.select_option("#problem", "game hard")
            page.check("input[value=one]")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.click("#language")
            assert bool(HANGUL.search(page.inner_text("h1"))) != korean
            page.close()
        browser.close()
    assert complaints == []
