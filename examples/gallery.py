"""All the pictures, in English or Korean: `python examples/gallery.py --out DIR [--language ko] [--only NAME]`.

Each is drawn from runs of the library (`scenes.py`), as PNG where it stands still and GIF where it moves.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import korean
import matplotlib
import numpy as np
import scenes
from family import layout, wrapped
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve
from PIL import Image
from tqdm import tqdm

import jaxopt_ko as jo
from jaxopt_ko.catalog import BY_NAME, FAMILIES, family_tree

LANGUAGES = jo.catalog.LANGUAGES
DPI = 90
FRAMES_A_SECOND = 25
LINE = 0.162  # inches of a line of text in the trees
LEGEND_COLUMNS = 6  # of the families below them

# Okabe and Ito's colours, for every kind of colour vision, and dashes for those that see none
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
LINES = {
    "sgd": {"color": BLACK, "linestyle": "-"},
    "momentum": {"color": RED, "linestyle": "-"},
    "nesterov": {"color": ORANGE, "linestyle": "--"},
    "adagrad": {"color": GREEN, "linestyle": "-."},
    "rmsprop": {"color": BLUE, "linestyle": "-"},
    "adadelta": {"color": PINK, "linestyle": "--"},
    "adam": {"color": SKY, "linestyle": "-"},
    "adam_uncorrected": {"color": SKY, "linestyle": ":"},
    "nadam": {"color": BLUE, "linestyle": ":"},
    "lbfgs": {"color": PINK, "linestyle": "-"},
}

Say = Callable[[str, str], str]  # of a text in English and in Korean, the one to write


class Film(NamedTuple):
    """A figure that moves: what stands still is drawn once, `moving` anew in each of the frames."""

    figure: Figure
    moving: list  # artists
    show: Callable[[int], None]  # frame -> sets the artists
    frames: int


# ---- pieces ---------------------------------------------------------------------------------------------


def title_of(method: str, say: Say) -> str:
    return say(scenes.METHODS[method].title, scenes.METHODS[method].korean)


def ground(ax, fun: Callable, domain: tuple, norm=None, levels=None) -> None:
    """Shades and contours of a function of two variables, in greys, so that the paths have the colours."""
    (x0, y0), (x1, y1) = domain
    x, y = np.meshgrid(np.linspace(x0, x1, 241), np.linspace(y0, y1, 181))
    z = np.asarray(jax.vmap(fun)(jnp.stack([x.ravel(), y.ravel()], axis=1).astype(jnp.float32))).reshape(x.shape)
    if levels is None:
        levels = np.geomspace(max(z.min(), z.max() * 1e-5), z.max(), 16)
        norm = LogNorm(levels[0], levels[-1] * 10)
    ax.contourf(x, y, np.clip(z, levels[0], levels[-1]), levels, cmap="Greys", norm=norm, alpha=0.35)
    ax.contour(x, y, z, levels, colors="0.72", linewidths=0.6, linestyles="-")
    ax.set(xlim=(x0, x1), ylim=(y0, y1), xlabel="x", ylabel="y")


def surface(figure: Figure, place, fun: Callable, extent: float, view=(28, -60)):
    """Axes of a surface in three dimensions, and the function in numpy's arrays."""
    ax = figure.add_subplot(place, projection="3d", computed_zorder=False)
    x, y = np.meshgrid(*[np.linspace(-extent, extent, 61)] * 2)
    ax.plot_surface(x, y, fun(x, y), cmap="Blues_r", alpha=0.75, rstride=2, cstride=2, linewidth=0.2, edgecolor="0.55")
    ax.view_init(*view)
    ax.set(xlabel="x", ylabel="y", zlabel="f")
    ax.set_box_aspect(None, zoom=0.87)
    ax.tick_params(labelsize="small", pad=0)
    ax.locator_params(nbins=5)
    return ax


def star(ax, x, y, label=None) -> None:
    ax.plot(x, y, "*", color=ORANGE, markeredgecolor="black", markersize=18, label=label, zorder=4)


def until_outside(path: np.ndarray, domain: tuple) -> np.ndarray:
    """The path until it is out of sight, its last step cut where it is far out; NaN from there on."""
    low, high = np.array(domain[0]), np.array(domain[1])
    outside = np.flatnonzero(~np.all((low - (high - low) <= path) & (path <= high + (high - low)), axis=1))
    if outside.size == 0:
        return path
    path, first = path.copy(), outside[0]
    step = path[first] - path[first - 1]
    path[first] = path[first - 1] + step * min(1.0, float(np.max((high - low) / np.abs(step).max())))
    path[first + 1 :] = np.nan
    return path


# ---- pictures -------------------------------------------------------------------------------------------


def zig_zag(say: Say) -> Figure:
    runs = scenes.zig_zag()
    figure = Figure(figsize=(11.5, 5.2), layout="constrained")
    figure.suptitle(
        say(
            "A long valley, f = (x² + 10 y²) / 2: SGD crosses it at every step, the others run along it",
            "긴 계곡 f = (x² + 10 y²) / 2: SGD는 스텝마다 계곡을 가로지르고, 다른 방법들은 계곡을 따라 내려간다",
        )
    )
    for ax, (method, path) in zip(figure.subplots(3, 2, sharex=True, sharey=True).T.flat, runs.items(), strict=True):
        ground(ax, scenes.long_valley, ((-11, -1.6), (3, 1.6)))
        star(ax, 0, 0)
        ax.plot(*path.T, **LINES[method], marker="o", markersize=3, linewidth=1.5)
        count = scenes.crossings(path[np.abs(path[:, 1]) > 0.01])  # those that can be seen
        ax.set_title(f"{title_of(method, say)}: {say(f'{count} crossings', f'{count}번 가로지름')}", fontsize="medium")
        ax.set_aspect("equal")
        ax.label_outer()
    return figure


def race(say: Say, *, name: str, domain: tuple, values: tuple, frames: int = 75) -> Film:
    """All methods from one start; beside the paths, the value against the step."""
    landscape = jo.landscapes.LANDSCAPES[name]
    runs = {m: until_outside(path, domain) for m, path in scenes.race(name, steps=150).items()}
    heights = {
        m: np.asarray(jax.vmap(landscape.fun)(jnp.asarray(path))) for m, path in runs.items()
    }  # NaN out of sight
    figure = Figure(figsize=(10.4, 5), layout="constrained")
    figure.suptitle(
        say(
            f"{landscape.title}: all methods from one start, each at the best of three learning rates",
            f"{landscape.korean}: 모든 방법이 같은 출발점에서, 저마다 세 학습률 가운데 가장 좋은 것으로",
        )
    )
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    if name == "saddle":
        ground(left, landscape.fun, domain, SymLogNorm(1, vmin=-30, vmax=30), np.linspace(-4, 4, 17))
        right.set(yscale="symlog")
    else:
        ground(left, landscape.fun, domain)
        right.set(yscale="log")
    for point in landscape.minima:
        star(left, *point.x)
    for point in landscape.saddles:
        left.plot(*point.x, "X", color="white", markeredgecolor="black", markersize=10)
    if name == "long_valley":
        left.set_aspect("equal")
    left.plot(*runs["sgd"][0], "s", color="white", markeredgecolor="black", markersize=8)
    right.set(xlim=(0, 150), ylim=values, xlabel=say("step", "스텝 수"), ylabel=say("value", "함숫값"))
    right.grid(color="0.9")
    moving = []
    for method in runs:
        style = {**LINES[method], "linewidth": 2, "clip_on": True}
        moving.append(left.plot([], [], **style, label=title_of(method, say))[0])
        moving.append(left.plot([], [], "o", color=style["color"], markeredgecolor="black", markersize=7)[0])
        moving.append(right.plot([], [], **style)[0])
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, handlelength=3, frameon=False)
    counter = right.text(0.97, 0.95, "", transform=right.transAxes, ha="right", va="top")
    moving.append(counter)

    def show(frame: int) -> None:
        last = round(150 * (frame / (frames - 1)) ** 1.5)  # slower at first, where the paths part
        for k, method in enumerate(runs):
            trail, ball, curve = moving[3 * k : 3 * k + 3]
            trail.set_data(*runs[method][: last + 1].T)
            ball.set_data(*runs[method][last : last + 1].T)
            curve.set_data(np.arange(last + 1), heights[method][: last + 1])
        counter.set_text(say(f"step {last}", f"{last}스텝"))

    return Film(figure, moving, show, frames)


def condition_number(say: Say) -> Figure:
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    figure.suptitle(
        say(
            "The condition number: the largest over the smallest singular value of the Hessian",
            "조건수: 헤세 행렬의 가장 큰 특잇값을 가장 작은 특잇값으로 나눈 비율",
        )
    )
    left, middle, right = figure.subplots(1, 3, width_ratios=(4, 4, 4))

    singular = np.linalg.svd(np.asarray(jax.hessian(scenes.long_valley)(jnp.zeros(2))), compute_uv=False)
    ground(left, scenes.long_valley, ((-4, -4), (4, 4)), LogNorm(0.01, 3000), np.geomspace(0.1, 90, 12))
    angle = np.linspace(0, 2 * np.pi, 200)
    left.plot(3.4 * np.cos(angle), 3.4 * np.sin(angle) / np.sqrt(10), color=BLUE, linewidth=2)
    for x, y in ((3.4, 0), (0, 3.4 / np.sqrt(10))):
        left.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": RED, "linewidth": 2})
    text = {"color": RED, "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}}
    left.text(2.0, -0.55, "∝ 1 / √σ₂", ha="center", **text)
    left.text(0.0, 1.45, "∝ 1 / √σ₁", ha="center", **text)
    left.set_title(f"σ₁ = {singular[0]:g}, σ₂ = {singular[1]:g}, κ = σ₁ / σ₂ = {singular[0] / singular[1]:g}")
    left.set(aspect="equal")

    names = ("himmelblau", "long_valley", "beale", "rosenbrock")
    landscapes = [jo.landscapes.LANDSCAPES[name] for name in names]
    with jax.enable_x64(True):
        hessians = [np.asarray(jax.hessian(each.fun)(jnp.array(each.minima[0].x))) for each in landscapes]
    ratios = [np.divide(*np.linalg.svd(H, compute_uv=False)) for H in hessians]
    middle.barh([say(each.title, each.korean) for each in landscapes], ratios, color=SKY, edgecolor="black", height=0.6)
    for row, ratio in enumerate(ratios):
        middle.text(ratio * 1.15, row, f"κ = {ratio:,.0f}" if ratio > 100 else f"κ = {ratio:.3g}", va="center")
    middle.set(xscale="log", xlim=(1, 40_000), xlabel="κ", title=say("at the minimum of", "최소점에서"))
    middle.grid(axis="x", color="0.9")
    middle.set_axisbelow(True)

    counts = scenes.condition_numbers()
    k = counts["condition"]
    newton = jax.jit(
        jax.vmap(lambda k: jo.minimize(partial(scenes.long_valley, condition=k), jnp.ones(2), jo.newton()).steps)
    )
    right.plot(
        k, counts["sgd"], **LINES["sgd"], marker="o", label=say("gradient descent: ∝ κ", "경사 하강법: κ에 비례")
    )
    right.plot(k, counts["momentum"], **LINES["momentum"], marker="s", label=say("momentum: ∝ √κ", "모멘텀: √κ에 비례"))
    right.plot(k, newton(jnp.asarray(k, jnp.float32)), color=BLUE, linestyle="--", marker="^",
               label=say("Newton: the same for every κ", "뉴턴법: κ와 무관"))  # fmt: skip
    right.set(xscale="log", yscale="log", ylim=(0.7, 1e5), xlabel="κ", ylabel=say("steps", "스텝 수"))
    right.set_title(say("steps to 1/1000 at the best rate", "가장 좋은 학습률로 1/1000까지"))
    right.grid(color="0.9")
    right.legend(loc="upper left")
    return figure


def critical_points(say: Say) -> Figure:
    figure = Figure(figsize=(12.5, 8), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 0.985, 1))  # an axes in 3-D leaves no room for its label
    figure.suptitle(
        say(
            "Critical points, where the gradient is zero: SGD stays at the saddle, momentum leaves it",
            "임계점(기울기가 0인 점): SGD는 안장점에 머무르고, 모멘텀은 벗어난다",
        )
    )
    grid = figure.add_gridspec(2, 6, height_ratios=(5, 4))
    kinds = (
        (lambda x, y: x**2 + y**2, say("minimum", "최소점"), (2, 2)),
        (lambda x, y: -(x**2) - y**2, say("maximum", "최대점"), (-2, -2)),
        (lambda x, y: x**2 - y**2, say("saddle point", "안장점"), (2, -2)),
    )
    for k, (fun, kind, bends) in enumerate(kinds):
        ax = surface(figure, grid[0, 2 * k : 2 * k + 2], fun, 1)
        ax.plot([0], [0], [fun(0, 0)], "o", color=RED, markersize=9, markeredgecolor="black", zorder=5)
        curvature = say("Hessian's eigenvalues", "헤세 행렬의 고윳값")
        ax.set_title(f"{kind}\n{curvature} {bends[0]:+d}, {bends[1]:+d}".replace("-", "−"), fontsize="medium")

    runs = scenes.saddle_point()
    left, right = figure.add_subplot(grid[1, :3]), figure.add_subplot(grid[1, 3:])
    ground(left, scenes.saddle, ((-0.6, -1.0), (1.2, 1.0)), SymLogNorm(1, vmin=-6, vmax=6), np.linspace(-1, 1.4, 17))
    for method, path in runs.items():
        line = {**LINES[method], "linewidth": 2, "label": title_of(method, say)}
        left.plot(*path.T, **line, marker="." if method == "sgd" else "")
        right.plot(np.abs(path[:, 1]), **line)
    left.plot(0, 0, "o", color=RED, markersize=9, markeredgecolor="black", zorder=5)
    left.set_title(say("x² − y², from (1, 0.0001), 60 steps", "x² − y², 출발점 (1, 0.0001), 60스텝"), fontsize="medium")
    right.set(yscale="log", ylim=(2e-6, 10), xlim=(0, 60), xlabel=say("step", "스텝 수"), ylabel="|y|")
    right.set_title(say("distance from the ridge y = 0", "능선 y = 0에서 떨어진 거리"), fontsize="medium")
    right.grid(color="0.9")
    right.legend(loc="lower right", ncols=2, fontsize="small", handlelength=3)
    return figure


def learning_rates(say: Say) -> Film:
    runs = scenes.learning_rates(steps=37)
    korean_names = {"low": "낮을 때", "right": "적절할 때", "high": "높을 때", "too high": "너무 높을 때"}
    colors = dict(zip(runs, (BLUE, GREEN, ORANGE, RED), strict=True))
    figure = Figure(figsize=(9.5, 6.2), layout="constrained")
    figure.suptitle(
        say(
            "Gradient descent on x²: above a rate of 1 it diverges", "x² 위의 경사 하강법: 학습률이 1을 넘으면 발산한다"
        )
    )
    x = np.linspace(-2.3, 2.3, 200)
    moving = []
    for ax, (name, _run) in zip(figure.subplots(2, 2, sharex=True, sharey=True).flat, runs.items(), strict=True):
        rate = scenes.RATES_ON_PARABOLA[name]
        ax.plot(x, x**2, color="0.7", linewidth=2)
        ax.set_title(f"{say(name, korean_names[name])}: {say('rate', '학습률')} {rate:g}")
        ax.set(xlim=(-2.3, 2.3), ylim=(-0.3, 5.2), xlabel="x", ylabel="x²")
        ax.grid(color="0.93")
        ax.label_outer()
        moving.append(ax.plot([], [], color=colors[name], marker="o", markersize=3, linewidth=1)[0])
        moving.append(ax.plot([], [], "o", color=colors[name], markeredgecolor="black", markersize=11)[0])
        moving.append(ax.text(0.5, 0.93, "", transform=ax.transAxes, ha="center", va="top"))

    def show(frame: int) -> None:
        last = frame // 2
        for k, run in enumerate(runs.values()):
            trail, ball, text = moving[3 * k : 3 * k + 3]
            trail.set_data(run[: last + 1], run[: last + 1] ** 2)
            ball.set_data(run[last : last + 1], run[last : last + 1] ** 2)
            text.set_text(
                say(f"step {last}: x = {run[last]:.3f}", f"{last}스텝: x = {run[last]:.3f}").replace("-", "−")
            )

    return Film(figure, moving, show, 75)


def local_and_global(say: Say) -> Figure:
    starts = np.linspace(-0.9, 2.4, 12)
    runs = scenes.local_and_global(starts)
    best, other = jo.landscapes.LANDSCAPES["quintic"].minima
    f = lambda x: x**5 - 2 * x**4 - 3 * x**3 + 6 * x**2 + x  # noqa: E731
    along = lambda run: np.interp(np.linspace(0, len(run) - 1, 20 * len(run)), np.arange(len(run)), run)  # noqa: E731
    x = np.linspace(-1, 2.5, 300)
    figure = Figure(figsize=(12.5, 5), layout="constrained")
    figure.suptitle(
        say(
            "x⁵ − 2x⁴ − 3x³ + 6x² + x: the start decides which minimum is found",
            "x⁵ − 2x⁴ − 3x³ + 6x² + x: 출발점이 어느 극소점에 이를지를 정한다",
        )
    )
    left, right = figure.subplots(1, 2, sharey=True)
    for ax in (left, right):
        ax.plot(x, f(x), color="0.7", linewidth=2)
        ax.set(xlim=(-1, 2.5), ylim=(-1.2, 6.5), xlabel="x", ylabel="f(x)")
        ax.label_outer()
        ax.grid(color="0.93")
    ends = np.abs(runs[:, -1] - best.x[0]) < 0.1
    for run, found in zip(runs, ends, strict=True):
        color, marker = (BLUE, "o") if found else (RED, "s")
        left.plot(along(run), f(along(run)), color=color, linewidth=2.5, alpha=0.6)
        left.plot(run[0], f(run[0]), marker, color=color, markersize=8, fillstyle="none", markeredgewidth=2)
    texts = (
        (best, BLUE, say("global minimum", "최솟값"), (0.9, -0.75)),
        (other, RED, say("local minimum", "극솟값"), (1.6, 0.75)),
    )
    for ax in (left, right):
        for point, color, text, place in texts:
            star(ax, point.x[0], point.value)
            ax.text(*place, f"{text} ({point.x[0]:.3f}, {point.value:.3f})".replace("-", "−"), color=color, ha="center")
    left.set_title(say("SGD from twelve starts (open marks)", "SGD, 출발점 열두 곳(빈 표식)"), fontsize="medium")
    for method in ("sgd", "momentum"):
        run = scenes.local_and_global(np.array([2.4]), method=method)[0]
        lift = 0.25 if method == "momentum" else 0.0
        right.plot(along(run), f(along(run)) + lift, **LINES[method], linewidth=1)
        right.plot(run, f(run) + lift, color=LINES[method]["color"], marker="o", markersize=4, linestyle="",
                   label=title_of(method, say))  # fmt: skip
    right.set_title(
        say("from 2.4: momentum rolls over the hill", "2.4에서 출발: 모멘텀은 언덕을 넘어간다"), fontsize="medium"
    )
    right.legend(loc="upper center")
    return figure


def saddle(say: Say) -> Figure:
    fun = lambda x, y: x**2 - y**2  # noqa: E731
    figure = Figure(figsize=(8.5, 6.6), layout="constrained")
    figure.suptitle(
        say(
            "The saddle x² − y²: a minimum along x, a maximum along y",
            "안장점 x² − y²: x 방향으로는 극소, y 방향으로는 극대",
        )
    )
    ax = surface(figure, 111, fun, 1.2, view=(30, -52))
    t = np.linspace(-1.2, 1.2, 100)
    ax.plot(t, 0 * t, fun(t, 0), color=BLUE, linewidth=2.5, label=say("along x: a minimum", "x 방향: 극소"))
    ax.plot(
        0 * t, t, fun(0, t), color=RED, linewidth=2.5, linestyle="--", label=say("along y: a maximum", "y 방향: 극대")
    )
    runs = scenes.saddle_point()
    for method, style in (("sgd", {"marker": "o"}), ("adam", {"marker": "s"})):
        path = runs[method]
        path = path[np.abs(path).max(axis=1) < 1.2]
        color = BLACK if method == "sgd" else ORANGE
        ax.plot(
            *path.T, fun(*path.T) + 0.04, color=color, markersize=4, linewidth=1, label=title_of(method, say), **style
        )
    ax.plot([0], [0], [0.02], "o", color="white", markersize=10, markeredgecolor="black", zorder=6)
    ax.legend(loc="upper right")
    return figure


def bias_correction(say: Say) -> Figure:
    rate = 0.01
    steps = scenes.bias_correction(rate=rate)
    t = np.arange(1, 201)
    figure = Figure(figsize=(12, 4.8), layout="constrained")
    figure.suptitle(
        say(
            "Adam's first steps: the averages start at zero, and uncorrected the steps are three to six times as long",
            "Adam의 첫 스텝들: 두 평균이 0에서 출발하므로, 편향을 보정하지 않으면 스텝이 세 배에서 여섯 배 길다",
        )
    )
    left, right = figure.subplots(1, 2)
    for method, length in steps.items():
        left.plot(t, length / rate, **LINES[method], linewidth=2.5, label=title_of(method, say))
    first = steps["adam_uncorrected"][0] / steps["adam"][0]
    left.annotate(
        say(f"first step: {first:.2f} times as long", f"첫 스텝이 {first:.2f}배"),
        (1, steps["adam_uncorrected"][0] / rate), (2.2, 3.3),
        arrowprops={"arrowstyle": "->"}, va="center",
    )  # fmt: skip
    left.set(xscale="log", xlim=(0.9, 200), ylim=(0, None), xlabel=say("step t", "스텝 t"))
    left.set(ylabel=say("length of the step / learning rate", "스텝의 길이 / 학습률"))
    left.legend(loc="lower left")
    right.plot(t, 1 - 0.9**t, color=GREEN, linewidth=2.5, label=say("of m: 1 − 0.9ᵗ", "m의 것: 1 − 0.9ᵗ"))
    right.plot(t, 1 - 0.999**t, color=RED, linewidth=2.5, linestyle="--",
               label=say("of v: 1 − 0.999ᵗ", "v의 것: 1 − 0.999ᵗ"))  # fmt: skip
    right.set(xscale="log", yscale="log", xlim=(0.9, 200), xlabel=say("step t", "스텝 t"))
    right.set(ylabel=say("share of the mean that is there", "평균 가운데 채워진 몫"))
    right.set_title(say("what the correction divides by", "보정할 때 나누는 수"), fontsize="medium")
    right.legend(loc="lower right")
    for ax in (left, right):
        ax.grid(color="0.92")
    return figure


def batches(say: Say) -> Figure:
    runs = scenes.batches()
    names = {
        "batch": say("batch (10 rows)", "배치 (10개)"),
        "mini-batch": say("mini-batch (5 rows)", "미니배치 (5개)"),
        "stochastic": say("stochastic (1 row)", "확률적 (1개)"),
    }
    lines = dict(zip(runs, ((BLUE, "-", 2.5), (ORANGE, "-", 1.6), (PINK, "-", 1.0)), strict=True))
    figure = Figure(figsize=(12.5, 5.2), layout="constrained")
    figure.suptitle(
        say(
            "Thirty epochs on ten points: the smaller the batch, the more steps and the more noise",
            "점 열 개로 30에폭: 배치가 작을수록 스텝은 많아지고 경로는 더 흔들린다",
        )
    )
    left, right = figure.subplots(1, 2, width_ratios=(5, 4))
    ground(left, scenes.regression_loss, ((-1.8, 0.0), (4.6, 6.6)))
    best = np.polyfit(scenes.REGRESSION_X, scenes.REGRESSION_Y, 1)
    for method in reversed(runs):
        color, dash, size = lines[method]
        path = runs[method]
        losses = np.asarray(jax.vmap(scenes.regression_loss)(jnp.asarray(path)))
        style = {"color": color, "linestyle": dash, "linewidth": size, "label": names[method]}
        left.plot(*path.T, **style, marker=".", markersize=6 if method == "batch" else 3)
        right.plot(np.linspace(0, 30, len(path)), losses, **style)
    star(left, *best, label=say("least squares", "최소제곱해"))
    left.set(xlabel=say("W (in units of x's deviation)", "W (x를 표준화한 기울기)"), ylabel="b")
    left.legend(loc="upper left")
    right.set(
        yscale="log", xlim=(0, 30), xlabel=say("epoch", "에폭"), ylabel=say("mean squared error", "평균 제곱 오차")
    )
    right.axhline(float(scenes.regression_loss(jnp.asarray(best))), color="0.5", linestyle=":", zorder=0)
    right.grid(color="0.92")
    return figure


# ---- the family tree ------------------------------------------------------------------------------------


FAMILY_COLORS = {
    "descent": "#FFFFFF", "adaptive": SKY, "sign": "#8C8CE0", "conjugate": "#F0E442", "quasi-newton": ORANGE,
    "newton": RED, "squares": PINK, "composite": GREEN, "constrained": "#BBBBBB",
    "rate-free": "#B2DF8A", "layers": "#CAB2D6", "matrix": "#FDBF6F",
    "derivative-free": "#E5D8BD",
}  # fmt: skip


def draw_tree(tree, say: Say, lines: Callable, title: str, w: float, least: float) -> Figure:
    """lines: node -> (bold lines, other lines); w, least: inches of a box's width and of its least height."""
    written = {node.name: lines(node) for node in tree.nodes}
    heights = {name: max(least, LINE * (len(bold) + len(rest) + 0.9)) for name, (bold, rest) in written.items()}
    (wide, high), places, routes = layout(tree, heights, w, across=0.55, apart=0.16)
    families = list(dict.fromkeys(node.family for node in tree.nodes))
    above, below, aside = 0.45, 0.2 + 0.25 * -(-len(families) // LEGEND_COLUMNS), 0.15
    figure = Figure(figsize=(wide + 2 * aside, high + above + below))  # the axes are in inches
    size = figure.get_size_inches()
    ax = figure.add_axes((0, (below - 0.05) / size[1], 1, (high + 0.1) / size[1]))
    ax.set(xlim=(-aside, wide + aside), ylim=(high + 0.05, -0.05))
    ax.axis("off")
    for curves in routes:
        codes = [Curve.MOVETO, *([Curve.CURVE4] * 3 + [Curve.LINETO]) * len(curves)][:-1]
        corners = [point for curve in curves for point in curve]
        ax.add_patch(PathPatch(Curve(corners, codes), fill=False, edgecolor="0.4", linewidth=1.2, zorder=1))
        tip = corners[-1]
        ax.annotate("", tip, (tip[0] - 0.05, tip[1]), arrowprops={"arrowstyle": "-|>", "color": "0.4"}, zorder=2)
    for node in tree.nodes:
        (x, y), h = places[node.name], heights[node.name]
        color = (*matplotlib.colors.to_rgb(FAMILY_COLORS[node.family]), 0.5)
        shape = {"boxstyle": "round,pad=0,rounding_size=0.08", "zorder": 3}
        ax.add_patch(FancyBboxPatch((x - w / 2, y - h / 2), w, h, facecolor="white", edgecolor="none", **shape))
        ax.add_patch(FancyBboxPatch((x - w / 2, y - h / 2), w, h, facecolor=color, edgecolor="0.2", **shape))
        bold, rest = written[node.name]
        for k, line in enumerate([*bold, *rest]):
            height = y - ((len(bold) + len(rest) - 1) / 2 - k) * LINE
            weight = "bold" if k < len(bold) else "normal"
            ax.text(x, height, line, ha="center", va="center", fontsize=9, fontweight=weight, zorder=4)
    for family in families:
        label = FAMILIES[family][LANGUAGES.index(say(*LANGUAGES))]
        color = (*matplotlib.colors.to_rgb(FAMILY_COLORS[family]), 0.5)
        ax.plot([], [], "s", color=color, markeredgecolor="0.2", markersize=11, label=label)
    figure.legend(loc="lower center", ncols=LEGEND_COLUMNS, frameon=False, handletextpad=0.3)
    figure.suptitle(title, y=1 - 0.12 / size[1], va="top")
    return figure


def whole_tree(say: Say) -> Figure:
    """Every method of the library."""

    def lines(node):
        head, *rest = node.title.split("(")
        return wrapped(head, 23), [*wrapped("".join(f"({each}" for each in rest), 28), str(node.year)]

    title = say("The family tree: which method grew out of which", "가계도: 어느 방법이 어느 방법에서 나왔는가")
    return draw_tree(family_tree(say(*LANGUAGES)), say, lines, title, 2.2, 0.68)


AT_A_GLANCE = ("gradient_descent", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "nadam")


def at_a_glance(say: Say) -> Figure:
    """The nine of the lectures, with what each brought."""
    tree = family_tree(say(*LANGUAGES))
    tree = tree._replace(
        nodes=tuple(node for node in tree.nodes if node.name in AT_A_GLANCE),
        edges=tuple(edge for edge in tree.edges if set(edge) <= set(AT_A_GLANCE)),
    )
    language = LANGUAGES.index(say(*LANGUAGES))

    def lines(node):
        title = node.title.split("(")[0]
        return wrapped(title, 32), [str(node.year), *wrapped(BY_NAME[node.name].sentence[language], 34)]

    title = say("Optimizers at a glance: what each brought", "옵티마이저 한눈에 보기: 무엇이 더해졌는가")
    return draw_tree(tree, say, lines, title, 2.55, 1.15)


# ---- all of them ----------------------------------------------------------------------------------------

GALLERY: dict[str, Callable[[Say], Figure | Film]] = {
    "zig_zag": zig_zag,
    "race_beale": partial(race, name="beale", domain=((-1.0, -1.0), (4.5, 3.0)), values=(1e-8, 100)),
    "race_long_valley": partial(race, name="long_valley", domain=((-11.0, -5.5), (11.0, 5.5)), values=(1e-8, 100)),
    "race_saddle": partial(race, name="saddle", domain=((-2.0, -2.0), (2.0, 2.0)), values=(-10, 4)),
    "condition_number": condition_number,
    "critical_points": critical_points,
    "learning_rates": learning_rates,
    "local_and_global": local_and_global,
    "saddle": saddle,
    "at_a_glance": at_a_glance,
    "family_tree": whole_tree,
    "bias_correction": bias_correction,
    "batches": batches,
}


def save(made: Figure | Film, folder: Path, name: str) -> Path:
    """Write NAME.png, or NAME.gif of what moves."""
    if isinstance(made, Figure):
        made.savefig(folder / f"{name}.png", dpi=DPI)
        return folder / f"{name}.png"
    figure, moving, show, frames = made
    figure.dpi = DPI
    canvas = FigureCanvasAgg(figure)
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    pictures = []
    for frame in range(frames):
        canvas.restore_region(background)
        show(frame)
        for artist in moving:
            artist.axes.draw_artist(artist)
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
    path = folder / f"{name}.gif"
    times = [1000 // FRAMES_A_SECOND] * (frames - 1) + [1500]  # the end stays a while
    write_gif(path, pictures, times)
    return path


def write_gif(path: Path, pictures: list, times: list) -> None:
    """One palette for all frames, the lines' own colours in it; of each frame what has changed alone."""
    own = [channel for line in LINES.values() for channel in bytes.fromhex(line["color"][1:])]
    shades = pictures[-1].quantize(200).getpalette()[:600]
    clear = (len(own) + len(shades)) // 3  # the number of the colour that lets the frame before show through
    palette = Image.new("P", (1, 1))
    palette.putpalette([*own, *shades])
    frames, before = [], None
    for picture in pictures:
        now = np.asarray(picture.quantize(palette=palette, dither=Image.Dither.NONE))
        frame = Image.fromarray(now if before is None else np.where(now == before, np.uint8(clear), now), "P")
        frame.putpalette([*own, *shades, 255, 255, 255])
        frames.append(frame)
        before = now
    options = {"transparency": clear, "disposal": 1, "optimize": False}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=times, loop=0, **options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default="gallery", help="the folder to write to (default: %(default)s)")
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of the texts (default: %(default)s)")
    parser.add_argument("--only", choices=list(GALLERY), metavar="NAME", help=f"one of {', '.join(GALLERY)}")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.language == "ko":
        korean.use_font()
    say = lambda *texts: texts[LANGUAGES.index(args.language)]  # noqa: E731

    start = time.perf_counter()
    with tqdm([args.only] if args.only else list(GALLERY), unit="picture") as bar:
        for name in bar:
            bar.set_description(name)
            path = save(GALLERY[name](say), args.out, name)
            tqdm.write(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    print(f"Pictures: {1 if args.only else len(GALLERY)} in {args.out}, in {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
