"""Every picture is drawn, in both languages, and is no blank; what moves, moves."""

import itertools
import sys
from pathlib import Path

import jax
import matplotlib
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import gallery
import korean

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
