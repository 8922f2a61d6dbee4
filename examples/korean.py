"""Hangul for matplotlib: NanumGothic, from the package koreanize-matplotlib, wherever the fonts of the system end."""

import importlib.util
from pathlib import Path

import matplotlib
from matplotlib import font_manager


def use_font():
    """Draw Hangul in NanumGothic; minus signs and exponents stay in DejaVu Sans, of which Nanum lacks some."""
    spec = importlib.util.find_spec("koreanize_matplotlib")  # its fonts alone: the module itself needs distutils
    if spec is None:
        raise SystemExit("Korean text needs a font: pip install koreanize-matplotlib")
    for face in ("NanumGothic.ttf", "NanumGothicBold.ttf"):
        font_manager.fontManager.addfont(Path(spec.origin).parent / "fonts" / face)
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", "NanumGothic"]
