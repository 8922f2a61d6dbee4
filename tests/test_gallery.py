"""Every picture is drawn, in both languages, and is no blank; what moves, moves."""

import itertools
import re
import sys
from pathlib import Path

import jax
import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch, PathPatch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import explore
import gallery
import korean

import jaxopt_ko as jo

ROOT = Path(__file__).parents[1]
# what must be shown -> the pictures of it
SHOWN = {
    "a zig-zag in a narrow valley": ["zig_zag"],
    "races on Beale's function, the long valley and the saddle": ["race_beale", "race_long_valley", "race_saddle"],
    "ill-conditioning": ["condition_number"],
    "minimum, maximum, saddle; who escapes": ["critical_points", "saddle"],
    "learning rates on a parabola": ["learning_rates"],
    "local and global minimum": ["local_and_global"],
    "which method grew out of which": ["at_a_glance", "family_tree"],
    "bias correction": ["bias_correction"],
    "batch, mini-batch, stochastic": ["batches"],
}
MOVE = {"race_beale", "race_long_valley", "race_saddle", "learning_rates"}


def drawn(name, language, tmp_path):
    """The picture's file."""
    say = lambda *texts: texts[gallery.LANGUAGES.index(language)]  # noqa: E731
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), matplotlib.rc_context():
        if language == "ko":
            korean.use_font()
        return gallery.save(gallery.GALLERY[name](say), tmp_path, name)


def test_all_that_must_be_shown_has_a_picture():
    assert sorted(itertools.chain(*SHOWN.values())) == sorted(gallery.GALLERY)


@pytest.mark.parametrize(("name", "language"), [(name, ("en", "ko")[i % 2]) for i, name in enumerate(gallery.GALLERY)])
def test_picture(name, language, tmp_path):
    """A glyph that a font lacks is a warning of matplotlib's, and warnings are errors here."""
    path = drawn(name, language, tmp_path)
    assert path.stat().st_size < 4e6
    with Image.open(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        assert (path.suffix == ".gif") == (name in MOVE) and (frames > 20) == (path.suffix == ".gif")
        looks = []
        for frame in sorted({0, frames // 2, frames - 1}):
            picture.seek(frame)
            looks.append(np.asarray(picture.convert("L"), float))
        assert min(looks[0].shape) > 300 and all(look.std() > 10 for look in looks)
        assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(looks)), "it stands still"


def test_command_draws_one_and_says_where(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gallery.py", "--out", str(tmp_path / "new" / "folder"), "--only", "at_a_glance"])
    gallery.main()
    assert (tmp_path / "new" / "folder" / "at_a_glance.png").exists()
    assert "at_a_glance.png" in (said := capsys.readouterr().out) and "Pictures: 1 in" in said


def test_every_family_has_a_pen_in_the_explorer():
    """The page that opens in a browser is drawn by the slow tests only; a family without a pen would leave it blank."""
    page = (Path(gallery.__file__).parent / "explore" / "page.js").read_text("utf-8")
    pens = re.search(r"const FAMILIES = \{(.*?)\};", page, re.DOTALL)[1]
    pens = re.findall(r'"?([\w-]+)"?: (\["\w+", "\w+"\])', pens)
    assert [name for name, _ in pens] == list(jo.catalog.FAMILIES)
    assert len({pen for _, pen in pens}) == len(pens)


def test_equations_as_text():
    assert explore.plain(jo.catalog.BY_NAME["adagrad"].equation) == "h ← h + g², u = −lr g / √(h + ε)"
    assert explore.plain(jo.catalog.BY_NAME["newton"].equation) == "(H + λ I) p = −g, |p| ≤ Δ"
    plain = {row.name: explore.plain(row.equation) for row in jo.catalog.ROWS}
    assert not {name: text for name, text in plain.items() if re.search(r"[\\{}$]", text)}  # no LaTeX is left


@pytest.mark.parametrize(("name", "language"), [("family_tree", "en"), ("family_tree", "ko"), ("at_a_glance", "ko")])
def test_trees_are_legible(name, language):
    """No line touches a strange box, no text leaves its box, no two boxes touch, and each family has its own colour."""
    say = lambda *texts: texts[gallery.LANGUAGES.index(language)]  # noqa: E731
    with matplotlib.rc_context():
        if language == "ko":
            korean.use_font()
        figure = gallery.GALLERY[name](say)
        FigureCanvasAgg(figure).draw()
        (ax,) = figure.axes
        whole = figure.bbox
        boxes = [each.get_window_extent() for each in ax.patches if isinstance(each, FancyBboxPatch)][::2]
        texts = [each.get_window_extent() for each in ax.texts if each.get_text()]
        lines = [each for each in ax.patches if isinstance(each, PathPatch)]
    tree = jo.catalog.family_tree()
    assert len(boxes) == (len(tree.nodes) if name == "family_tree" else 9)
    assert all(whole.x0 < b.x0 and b.x1 < whole.x1 and whole.y0 < b.y0 and b.y1 < whole.y1 for b in boxes)
    assert not [1 for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
    for text in texts:
        (around,) = [b for b in boxes if b.x0 < (text.x0 + text.x1) / 2 < b.x1 and b.y0 < text.y0 < b.y1]
        assert around.x0 < text.x0 and text.x1 < around.x1 and text.y1 < around.y1
    t = np.linspace(0, 1, 40)
    for line in lines:
        points = [ax.transData.transform(curve(t)) for curve, _ in line.get_path().iter_bezier()]
        assert not [b for b in boxes if b.padded(-1).count_contains(np.concatenate(points))]
    (legend,) = figure.legends
    hues = [handle.get_color() for handle in legend.legend_handles]
    assert len({matplotlib.colors.to_hex(hue) for hue in hues}) == len(hues) == (13 if name == "family_tree" else 2)
