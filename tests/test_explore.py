"""The page to explore the optimizers in: what it holds, and what a browser shows of it.

The browser is the system's Chromium or Chrome (Debian: apt-get install chromium fonts-nanum); its tests skip without.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import explore
import scenes

import jaxopt_ko as jo

pytestmark = pytest.mark.slow  # all races are run for the page, and a browser draws it
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HANGUL, LATIN = re.compile("[가-힣]"), re.compile("[A-Za-z]{2,}")
# What Korean leaves in Latin letters: a name that the catalogue only explains, as in "Adam(적응적 모멘트 추정)".
PROPER = {english for english, korean in (row.title for row in jo.catalog.ROWS) if korean.startswith(f"{english}(")}
PROPER |= {"Nadam", "PSGD", "RMSProp, centered", "English", "WebGL"}
HINTS = ("GL Driver Message", "willReadFrequently")  # the browser's own on the speed of software rendering


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The page, as a user makes it; once for all workers."""
    shared = tmp_path_factory.getbasetemp()
    shared = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "explore"
    page, log = shared / "explore.html", shared / "log"
    try:
        shared.mkdir()
    except FileExistsError:
        for _ in range(600):
            if log.exists():
                break
            time.sleep(1)
    else:
        command = [sys.executable, "-W", "error", explore.__file__, "--out", str(page)]
        env = {**os.environ, "JAX_PLATFORMS": "cpu"}
        run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
        log.write_text(run.stdout + run.stderr)
    assert page.exists(), log.read_text()
    return page


@pytest.fixture(scope="module")
def contents(path):
    """What the page knows."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    return json.loads(found[1])


# ---- the file -------------------------------------------------------------------------------------------


def test_page_is_one_small_file_that_asks_for_no_other(path):
    text = path.read_text("utf-8")
    assert path.stat().st_size < 8e6
    own = text.replace(explore.get_plotlyjs(), "")
    assert not re.search(r"https?:|@import|url\(", own)
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(?!data:)', own)
    assert "{{" not in own and "100%|" in (path.parent / "log").read_text()


def test_both_languages_say_everything():
    english, korean = (json.loads((explore.HERE / "strings.json").read_text("utf-8"))[each] for each in ("en", "ko"))
    assert english.keys() == korean.keys()
    for key, text in english.items():
        assert text.strip() and korean[key].strip(), key
        holes = [sorted(re.findall(r"\{\w+\}", each)) for each in (text, korean[key])]
        assert holes[0] == holes[1], key
        assert HANGUL.search(korean[key]) or key == "language", key
    used = (explore.HERE / "page.html").read_text("utf-8") + (explore.HERE / "page.js").read_text("utf-8")
    assert set(re.findall(r'data-(?:text|label)="(\w+)"', used)) <= english.keys()
    made = ("rate_", "batch_")  # their ends are put together
    assert {key for key in english if key not in used and not key.startswith(made)} == set()


def test_packing_gives_back_every_code():
    codes = np.random.default_rng(0).integers(-32768, 32768, (7, 5)).astype(np.int16)
    assert np.array_equal(explore.unpacked(explore.packed(codes), 5), codes)
    values = np.array([0.0, 0.25, 1.0, 1.1, -0.1, np.nan, np.inf, -np.inf])
    codes = explore.quantized(values, 0, 1, explore.LEVELS)
    assert np.array_equal(codes == explore.MISSING, [False] * 3 + [True] * 5)
    assert np.array_equal(explore.restored(codes, 0, 1, explore.LEVELS)[:3], values[:3])


@pytest.mark.parametrize(("name", "method"), [("beale", "adam"), ("saddle", "sgd"), ("ackley", "lbfgs")])
def test_runs_in_the_page_are_the_librarys(contents, name, method):
    land = next(each for each in contents["races"] if each["name"] == name)
    landscape = jo.landscapes.LANDSCAPES[name]
    rates, paths = explore.runs_of(landscape, method)
    first, rows = land["methods"][method]["first"], paths.shape[0] * paths.shape[1]
    codes = explore.unpacked(land["runs"], explore.STEPS + 1).reshape(-1, 4, explore.STEPS + 1)[first : first + rows]
    np.testing.assert_allclose(land["methods"][method]["rates"], rates, rtol=1e-4)
    low, high = explore.around(landscape)
    paths = paths.reshape(rows, -1, 2)
    inside = np.isfinite(paths) & (paths >= low) & (paths <= high)
    got = np.stack([explore.restored(codes[:, i], low[i], high[i], explore.POSITIONS) for i in (0, 1)], -1)
    assert np.mean(np.isnan(got) == ~inside) > 0.9999
    both = inside & ~np.isnan(got)
    assert np.max(np.abs(got - paths)[both] / np.broadcast_to(high - low, paths.shape)[both]) < 1 / explore.POSITIONS
    losses = explore.restored(codes[:, 2], *land["losses"], explore.LEVELS)
    ends = [0, 1, -1]
    wanted = np.asarray([[landscape.fun(x) for x in path[ends]] for path in paths[:9]], np.float64)
    if landscape.minima:
        wanted = np.log10(np.maximum(wanted - landscape.minima[0].value, 1e-8))
    step = (land["losses"][1] - land["losses"][0]) / explore.LEVELS
    kept = (wanted >= land["losses"][0]) & (wanted <= land["losses"][1])
    np.testing.assert_allclose(losses[:9, ends], np.where(kept, wanted, np.nan), atol=step)
    lengths = 10 ** explore.restored(codes[:, 3], *explore.LENGTH, explore.LEVELS)
    wanted = np.linalg.norm(np.diff(paths[:5, :4], axis=1), axis=-1)
    np.testing.assert_allclose(lengths[:5, :3], np.where(wanted > 1e-7, wanted, 1e-7), rtol=0.01)
    assert np.all(np.isnan(lengths[:, -1]))


def test_scenes_in_the_page_are_the_scenes(contents):
    told = contents["scenes"]
    for name, path in scenes.zig_zag().items():
        np.testing.assert_allclose(told["zigzag"]["paths"][name], path.T, rtol=1e-4, atol=1e-6)
        assert told["zigzag"]["crossings"][name] == scenes.crossings(path)
    for name, path in scenes.saddle_point().items():
        np.testing.assert_allclose(told["saddle"]["paths"][name], path.T, rtol=1e-4, atol=1e-6)
    for name, path in scenes.batches().items():
        np.testing.assert_allclose(told["batches"]["paths"][name], path.T, rtol=1e-4, atol=1e-6)
    for name, run in scenes.learning_rates().items():
        np.testing.assert_allclose(told["rates"]["runs"][name], run, rtol=1e-4)
        np.testing.assert_allclose(told["rates"]["losses"][name], run**2, rtol=1e-3)
    for name, lengths in scenes.bias_correction().items():
        np.testing.assert_allclose(told["bias"][name], lengths, rtol=1e-4)
    for name, counts in scenes.condition_numbers().items():
        np.testing.assert_allclose(told["conditions"][name], counts, rtol=1e-4)
    np.testing.assert_allclose(told["minima"]["runs"]["sgd"], scenes.local_and_global(), rtol=1e-3, atol=1e-5)


def test_tree_in_the_page_is_the_catalogues(contents):
    nodes, tree = contents["tree"]["nodes"], jo.catalog.family_tree("ko")
    assert [(n["name"], n["title"][1], n["year"]) for n in nodes] == [(n.name, n.title, n.year) for n in tree.nodes]
    assert [tuple(edge) for edge in contents["tree"]["edges"]] == list(tree.edges)
    places = {node["name"]: tuple(node["place"]) for node in nodes}
    assert all(places[parent][0] < places[child][0] for parent, child in tree.edges)
    half = {node["name"]: (contents["tree"]["width"] / 2, node["height"] / 2) for node in nodes}
    apart = lambda a, b: np.abs(np.subtract(places[a], places[b])) - np.add(half[a], half[b])  # noqa: E731
    assert all(np.max(apart(a, b)) > 0.3 for a, b in itertools.combinations(places, 2))
    t = np.linspace(0, 1, 30)[:, None]
    for ends, route in zip(tree.edges, contents["tree"]["routes"], strict=True):
        a, b, c, d = np.moveaxis(np.asarray(route), 1, 0)[:, :, None]
        points = ((1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d).reshape(-1, 2)
        middles = [
            (places[end][0] + side * half[end][0], places[end][1]) for end, side in zip(ends, (1, -1), strict=True)
        ]
        np.testing.assert_allclose(points[[0, -1]], middles, atol=0.01)  # from its parent's side to its child's
        points = np.concatenate([np.linspace(*pair, 20) for pair in itertools.pairwise(points)])
        for name in places.keys() - ends:
            assert not np.any(np.all(np.abs(points - places[name]) < half[name], axis=1)), (ends, name)
    equations = [explore.plain(jo.catalog.BY_NAME[node.name].equation) for node in tree.nodes]
    assert [node["equation"] for node in nodes] == equations


# ---- in a browser ---------------------------------------------------------------------------------------

TEXTS = """() => {
  const texts = new Set([document.title]);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const {parentElement: parent, data} = walker.currentNode;
    if (parent.closest("script, style, noscript, code, cite") || !data.trim()) continue;
    if (parent.checkVisibility() || parent.closest("option")) texts.add(data.trim());
  }
  for (const each of document.body.querySelectorAll("*"))
    for (const name of ["aria-label", "aria-valuetext", "aria-roledescription", "title", "placeholder", "alt"])
      if (each.getAttribute(name)) texts.add(each.getAttribute(name));
  return [...texts];
}"""
MARKERS = """(id) => [...document.querySelectorAll(`#${id} .scatterlayer .points path`)]
  .map((point) => point.getAttribute("transform"))"""
OVERPRINTED = """() => {
  const faults = [], boxOf = (each) => each.getBoundingClientRect();
  const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  const inside = (a, b) => a.left > b.left - 1 && a.right < b.right + 1 && a.top > b.top - 1 && a.bottom < b.bottom + 1;
  for (const plot of document.querySelectorAll(".plot")) {
    const drawn = plot.querySelector(".main-svg"), ground = plot.querySelector(".nsewdrag");
    if (!drawn) continue;
    if (!inside(boxOf(drawn), boxOf(plot))) faults.push([plot.id, "larger than its box"]);
    for (const other of plot.parentNode.children)
      if (other !== plot && meet(boxOf(other), boxOf(plot))) faults.push([plot.id, "on", other.textContent]);
    if (!ground) continue;
    const labels = [...plot.querySelectorAll(".xtick text, .ytick text, .xtitle, .ytitle")];
    for (const [i, label] of labels.entries()) {
      if (!inside(boxOf(label), boxOf(plot))) faults.push([plot.id, "cut off", label.textContent]);
      if (meet(boxOf(label), boxOf(ground))) faults.push([plot.id, "on the axes", label.textContent]);
      for (const other of labels.slice(i + 1))
        if (meet(boxOf(label), boxOf(other))) faults.push([plot.id, label.textContent, "on", other.textContent]);
    }
  }
  const texts = "#nodes button, .method label, .named, .legend > span, nav a, output, td, th, figcaption";
  for (const each of document.querySelectorAll(texts)) {
    if (each.scrollWidth > each.clientWidth + 1 && each.clientWidth) faults.push(["too wide", each.textContent]);
    if (each.scrollHeight > each.clientHeight + 1 && each.clientHeight) faults.push(["too high", each.textContent]);
  }
  for (const row of document.querySelectorAll(".method")) {
    const [name, rate] = ["span", "select"].map((each) => boxOf(row.querySelector(each)));
    if (meet(name, rate)) faults.push(["on its rate", row.textContent]);
  }
  for (const legend of document.querySelectorAll("#race-legend, .scenes .legend, #tree-legend"))
    if (!legend.querySelector("span svg, span i")) faults.push(["no legend", legend.id]);
  return faults;
}"""


@pytest.fixture(scope="module")
def browsers():
    """The system's own: flat, and with the surfaces, which take software most of a page's time to draw."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e .[test]")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    with driver.sync_playwright() as play:
        launch = lambda how: play.chromium.launch(executable_path=found, args=["--no-sandbox", how])  # noqa: E731
        running = {"flat": launch("--disable-3d-apis"), "solid": launch("--enable-unsafe-swiftshader")}
        yield running
        for each in running.values():
            each.close()


@pytest.fixture
def opened(browsers, path):
    """Opens the page with the network off; at the end, nothing was asked for but the page, and nothing complained."""
    contexts, requests, complaints = [], [], []

    def open_page(width=1280, height=900, language="en-US", browser="flat", **words):
        context = browsers[browser].new_context(
            viewport={"width": width, "height": height}, locale=language, offline=True, **words
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert {url for url in requests if not url.startswith(("data:", "blob:"))} == {path.as_uri()}
    assert [each for each in complaints if not any(hint in each for hint in HINTS)] == []


def wait(page, expression):
    """Until it is true; wait_for_function would need eval, which the page forbids."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(expression)


def step_of(page, player="race-player"):
    return int(page.locator(f"#{player} input").input_value())


def test_loads_offline_in_every_landscape(opened, tmp_path):
    page = opened()
    assert page.title() == "Explore the optimizers" and page.locator("html").get_attribute("lang") == "en"
    for name in explore.NAMES:
        page.select_option("#landscape", name)
        wait(page, f"document.getElementById('contour').layout.meta === '{name}'")
        page.evaluate("racePlayer.go(60)")
        assert page.locator("#contour .contourlayer path").count() > 5
        assert page.evaluate(OVERPRINTED) == [], name
        page.locator("#race").screenshot(path=tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 20_000
    assert page.locator("#standings tr").count() == 4


def test_the_surface_is_drawn_or_says_why_not(opened):
    flat, solid = opened(), opened(browser="solid")
    assert flat.locator("#surface .notice").is_visible() and flat.locator("#surface canvas").count() == 0
    for name in ("beale", "monkey_saddle"):
        solid.select_option("#landscape", name)
        wait(solid, f"document.getElementById('contour').layout.meta === '{name}'")
        solid.evaluate("racePlayer.go(60)")
        assert solid.locator("#surface canvas").count() > 0 and solid.locator("#surface .notice").count() == 0
        assert solid.evaluate(OVERPRINTED) == [], name


def test_a_click_on_the_contour_sets_the_start(opened):
    page = opened()
    page.select_option("#view", "whole")
    assert "(1, 1)" in page.locator("#taken").inner_text()
    box = page.locator("#contour .nsewdrag").bounding_box()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + 0.1 * box["height"])
    wait(page, "document.getElementById('taken').innerText.includes('(3.75, 3.75)')")
    assert page.evaluate("document.getElementById('contour').data.at(-1).x[0]") == pytest.approx(3.75, abs=1e-3)


def test_keys_and_inputs_move_the_start(opened):
    page = opened()
    page.locator("#start-x").fill("-3.6")
    page.locator("#start-y").fill("-2")
    page.locator("#start-y").press("Enter")
    assert "(−3.75, −2.25)" in page.locator("#taken").inner_text()
    page.locator("#contour").focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key, place in (
        ("ArrowRight", "(−2.25, −2.25)"),
        ("ArrowUp", "(−2.25, −0.75)"),
        ("ArrowLeft", "(−3.75, −0.75)"),
    ):
        page.keyboard.press(key)
        assert place in page.locator("#taken").inner_text()


def test_play_moves_the_markers(opened):
    page = opened()
    for scene in ("race", "zigzag", "rates", "minima", "saddle", "batches"):
        plot, slider = "contour" if scene == "race" else f"{scene}-plot", f"{scene}-player"
        page.evaluate(f"players.find((player) => player.box.id === '{slider}').go(0)")
        before = page.evaluate(MARKERS, plot)
        page.locator(f"#{slider} select").select_option("5")  # slow enough to be stopped before the end
        page.locator(f"#{slider} button").click()
        wait(page, f"document.querySelector('#{slider} input').value >= 3")
        page.locator(f"#{slider} button").click()
        after, step = page.evaluate(MARKERS, plot), step_of(page, slider)
        assert before and before != after, scene
        page.wait_for_timeout(200)
        assert step_of(page, slider) == step, scene


def test_space_plays_and_arrows_step(opened):
    page = opened()
    page.locator("#race h2").click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert step_of(page) == 1
    page.keyboard.press("Space")
    wait(page, "document.querySelector('#race-player input').value > 4")
    assert page.locator("#race-player button").inner_text() == "Pause"
    page.keyboard.press("Space")
    assert page.locator("#race-player button").inner_text() == "Play"
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, select, input, a[href]")].filter((each) =>
      !each.closest(".plot") && !each.getAttribute("aria-label") && !each.innerText?.trim() && !each.labels?.length)
      .map((each) => each.outerHTML)""")
    assert nameless == []


def test_methods_and_rates_are_chosen(opened):
    page = opened()
    page.locator("#use-lbfgs").check()
    page.locator("#use-sgd").uncheck()
    assert page.locator("#standings tr").count() == 4
    assert "L-BFGS" in page.locator("#standings").inner_text()
    lengths = "document.getElementById('length').data[0].y.slice(0, 3)"
    before = page.evaluate(lengths)
    page.get_by_label("Learning rate of Momentum").select_option("0")
    assert page.evaluate(lengths) != before


def test_the_switch_changes_every_string(opened):
    page = opened()
    english = set(page.evaluate(TEXTS))
    page.locator("#language").click()
    page.wait_for_timeout(200)
    korean = set(page.evaluate(TEXTS))
    assert page.locator("html").get_attribute("lang") == "ko"
    assert HANGUL.search(page.title())
    foreign = {text for text in korean if LATIN.search(text) and not HANGUL.search(text)}
    assert foreign <= PROPER, foreign - PROPER
    assert {text for text in english & korean if LATIN.search(text)} <= PROPER
    assert {text for text in english if HANGUL.search(text)} == {"한국어"}
    assert sum(bool(HANGUL.search(text)) for text in korean) > 150
    page.locator("#language").click()
    page.wait_for_timeout(200)
    changed = set(page.evaluate(TEXTS)) ^ english  # numbers on axes apart: they follow the races, which are drawn anew
    assert not {text for text in changed if LATIN.search(text) or HANGUL.search(text)}


def test_korean_readers_get_korean(opened, tmp_path):
    page = opened(language="ko-KR")
    assert page.locator("html").get_attribute("lang") == "ko"
    page.screenshot(path=tmp_path / "korean.png", full_page=True)


PHONE = {"has_touch": True, "is_mobile": True, "device_scale_factor": 2}


@pytest.mark.parametrize("language", ["en-US", "ko-KR"])
def test_a_phone_needs_no_sideways_scroll(opened, tmp_path, language):
    page = opened(width=360, height=740, language=language, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wide = page.evaluate("""() => [...document.querySelectorAll("main *, header *")].filter((each) =>
      !each.closest(".scroll, .plot") && each.getBoundingClientRect().right > 361).map((each) => each.outerHTML)""")
    assert wide == []
    play = page.locator("#race-player button").bounding_box()
    assert play["y"] + play["height"] < 740, "the play button is on the first screen"
    small = page.evaluate("""() => {
      const all = "button, select, a, .method label, input:not([type=checkbox])";
      return [...document.querySelectorAll(all)].filter((each) => {
        const {width, height} = each.getBoundingClientRect();
        return width && (width < 24 || height < 43.9);
      }).map((each) => each.outerHTML);
    }""")
    assert small == [], "too small for a finger"
    page.locator("#contour").scroll_into_view_if_needed()
    page.mouse.wheel(0, 200)
    page.wait_for_timeout(300)
    assert page.locator("#race-player button").bounding_box()["y"] >= 0, "it stays beside the plots"
    page.screenshot(path=tmp_path / "phone.png", full_page=True)


@pytest.mark.parametrize("language", ["en-US", "ko-KR"])
def test_a_tree_too_wide_says_so_and_scrolls(opened, language):
    page = opened(width=390, height=844, language=language, **PHONE)
    page.locator("#tree").scroll_into_view_if_needed()
    scroller = page.locator("#tree-scroll")
    assert page.locator("#tree-hint").is_visible() and page.locator(".more").first.is_visible()
    assert "more-left" in scroller.get_attribute("class") and "gradient" in scroller.evaluate(
        "(each) => getComputedStyle(each).maskImage"
    )
    there = "document.getElementById('tree-scroll').scrollLeft"
    for side, gone in (("1", "more-right"), ("-1", "more-left")):
        button = page.locator(f".more[data-side='{side}']")
        for _ in range(6):
            if not button.is_visible():
                break
            before = page.evaluate(there)
            button.click()
            wait(page, f"({there} - {before}) * {side} > 20")
            page.wait_for_timeout(500)
        assert gone not in scroller.get_attribute("class")
    page.set_viewport_size({"width": 1300, "height": 844})
    wait(page, "document.getElementById('tree-hint').hidden")
    assert not page.locator(".more").first.is_visible() and not page.locator(".more").last.is_visible()


@pytest.mark.parametrize(
    ("width", "language", "scheme"), [(1280, "en-US", "light"), (390, "ko-KR", "dark"), (1000, "ko-KR", "light")]
)
def test_nothing_overprints_or_is_cut_off(opened, width, language, scheme):
    page = opened(width=width, language=language, color_scheme=scheme)
    page.wait_for_timeout(500)
    assert page.evaluate(OVERPRINTED) == []
    page.locator("#language").click()  # the texts' heights change
    for method in ("nesterov", "adagrad", "lbfgs"):
        page.locator(f"#use-{method}").check()
    page.wait_for_timeout(500)
    assert page.evaluate(OVERPRINTED) == []


def test_paths_are_close_up(opened):
    page = opened()
    share = """() => {
      const {x: [left, right], y: [low, high]} = {x: contour.layout.xaxis.range, y: contour.layout.yaxis.range};
      const size = (key, from, to) => {
        const all = race.runs.flatMap((run) => run[key]).filter((value) => value >= from && value <= to);
        return (Math.max(...all) - Math.min(...all)) / (to - from);
      };
      return [size("x", left, right), size("y", low, high)];
    }"""
    dots = "document.getElementById('contour').data[1].x.length"
    for name in ("beale", "rosenbrock", "himmelblau"):
        page.select_option("#landscape", name)
        wait(page, f"document.getElementById('contour').layout.meta === '{name}'")
        page.select_option("#view", "near")
        near = page.evaluate(share)
        assert max(near) > 0.4, name  # the frame shows the minimum, too, which slow methods have not reached
        page.select_option("#view", "whole")
        assert max(page.evaluate(share)) <= max(near) and page.evaluate(dots) == page.evaluate(
            "race.land.starts.length"
        )
        assert page.evaluate("race.frame.x.length") == explore.GRID


def test_colours_are_told_from_the_ground(opened):
    def luminance(colour):
        parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    def contrast(a, b):
        low, high = sorted([luminance(a), luminance(b)])
        return (high + 0.05) / (low + 0.05)

    for colours in opened().evaluate("COLOURS").values():
        for name in ("ink", "orange", "green", "purple", "red", "blue", "text"):
            for ground in ("page", "panel"):
                assert contrast(colours[name], colours[ground]) >= (4.5 if name == "text" else 3), (name, ground)


def test_dark_and_light(opened, tmp_path):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = opened(color_scheme="light"), opened(color_scheme="dark")
    assert light.evaluate(ground) == "rgb(255, 255, 255)" != dark.evaluate(ground)
    ink = "getComputedStyle(document.querySelector('#loss .xtitle')).fill"
    assert light.evaluate(ink) != dark.evaluate(ink)
    light.locator("#theme").click()
    assert light.evaluate(ground) == dark.evaluate(ground) and light.evaluate(ink) == dark.evaluate(ink)
    dark.screenshot(path=tmp_path / "dark.png", full_page=True)


def test_less_motion_is_a_few_jumps(opened):
    page = opened(reduced_motion="reduce")
    assert page.locator("#reduced").is_visible() and not opened().locator("#reduced").is_visible()
    page.locator("#race-player button").click()
    wait(page, "document.querySelector('#race-player input').value > 0")
    assert step_of(page) % 20 == 0


def test_a_node_shows_its_row(opened):
    page = opened()
    page.locator("#nodes button[data-name=nadam]").click()
    detail = page.locator("#detail").inner_text()
    assert "2016" in detail and "∇" not in detail and "m̂" in detail and "Nesterov" in detail
    assert page.locator("#nodes button.on").count() == 8  # itself and its ancestors
    assert page.evaluate("document.activeElement.dataset.name") == "nadam"
    assert page.locator("#nodes button[tabindex='0']").count() == 1, "one stop of the tab key"
    for key, family in (("ArrowRight", "children"), ("ArrowLeft", "parents")):
        before = page.evaluate("selected")
        page.keyboard.press(key)
        ends = (before, page.evaluate("selected"))
        assert (ends if family == "children" else ends[::-1]) in jo.catalog.family_tree().edges
    page.keyboard.press("ArrowDown")
    assert page.evaluate("(name) => nodeOf(selected).place[0] === nodeOf(name).place[0]", ends[1])
    assert page.evaluate("document.activeElement.dataset.name === selected && selected") != ends[1]
    looks = page.evaluate("""() => {
      const look = (each) => [getComputedStyle(each).borderLeftColor, getComputedStyle(each).borderLeftStyle].join();
      const legend = [...document.querySelectorAll("#tree-legend .family:not(.on, .chosen)")].map(look);
      return [legend, DATA.tree.nodes.map((node) => [node.family, look(buttonOf(node.name))])];
    }""")
    legend, boxes = looks
    assert len(set(legend)) == len(legend) == len(jo.catalog.FAMILIES)
    assert {name: legend[i] for i, name in enumerate(jo.catalog.FAMILIES)} == dict(boxes)
    assert all(title[0] in page.locator("#tree-legend").inner_text() for title in jo.catalog.FAMILIES.values())


@pytest.mark.parametrize(("width", "height", "words"), [(1280, 900, {}), (1280, 640, {}), (390, 844, PHONE)])
def test_the_chosen_row_is_in_view(opened, width, height, words):
    page = opened(width=width, height=height, reduced_motion="reduce", **words)
    for name in ("gradient_descent", "optimistic_adam_v2", "kl_soap", "bfgs", "muon", "lbfgsb"):
        button = page.locator(f"#nodes button[data-name={name}]")
        button.scroll_into_view_if_needed()
        button.click()
        page.wait_for_timeout(200)
        row, box = page.locator("#detail").bounding_box(), button.bounding_box()
        assert row["y"] >= 0 and row["y"] + row["height"] <= height + 1, name
        assert row["y"] + row["height"] > box["y"] and box["y"] >= 0 and box["y"] + box["height"] <= row["y"] + 1, name
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, name
        assert page.evaluate("document.querySelector('#detail h3').textContent") == page.evaluate(
            "pick(nodeOf(selected).title)"
        )
    crossed = page.evaluate("""() => {
      const svg = document.querySelector("#nodes svg"), faults = [];
      const frames = [...document.querySelectorAll("#nodes button")].map((each) => [each.dataset.name,
        each.getBoundingClientRect()]);
      for (const path of svg.querySelectorAll("path")) {
        const ends = path.dataset.ends.split(" "), frame = path.getScreenCTM();
        for (let s = 0; s <= path.getTotalLength(); s += 0.4) {
          const {x, y} = path.getPointAtLength(s).matrixTransform(frame);
          for (const [name, {left, right, top, bottom}] of frames)
            if (!ends.includes(name) && x > left && x < right && y > top && y < bottom) faults.push([...ends, name]);
        }
      }
      return faults;
    }""")
    assert crossed == []


def test_the_start_on_the_quintic_is_chosen(opened):
    page = opened()
    page.locator("#minima-start").focus()
    page.keyboard.press("Home")
    assert page.locator("#minima-note").inner_text().startswith("From x = −0.9: SGD ends at −0.079")
