"""A page to explore the optimizers in: a race on nine landscapes, the scenes, and the family tree; English and Korean.

python examples/explore.py [--out explore.html]

The page is one file and needs no network: plotly.js is in it, and so are all paths, which the library computes here.
They are kept as deflated 16-bit integers: positions in 65,535 steps over the landscape's box and a margin around it,
losses and step lengths in 4,000 steps of their logarithms' range, the least of which stands for all that is less (the
saddles' losses, which have no minimum, as they are). What is not finite or lies outside is marked as missing.
"""

import argparse
import base64
import json
import re
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scenes
from family import layout, wrapped
from plotly.offline import get_plotlyjs
from tqdm import tqdm

import jaxopt_ko as jo

HERE = Path(__file__).parent / "explore"
NAMES = (
    "beale", "long_valley", "saddle", "monkey_saddle", "rosenbrock", "himmelblau", "rastrigin", "ackley",
    "styblinski_tang",
)  # fmt: skip
STEPS = 120
SIDE = 6  # starts along each side of the box
GRID = 121  # heights along each side
MARGIN = 0.25  # of the box's width, on every side of it
MISSING = -32768
POSITIONS, LEVELS = 65_534, 4_000
GAP, LENGTH = (-8.0, 6.0), (-7.0, 3.0)  # log10 of the loss above the minimum, and of a step's length
STEEP = 300.0  # a landscape that is higher is drawn by the logarithm
BOX_WIDTH, BOX_HEIGHT, ACROSS, APART = 7.9, 2.75, 1.9, 0.5  # rem: of a box in the tree, its least height, the gaps
LINE, LETTERS = 0.98, 14  # rem of a line of text in a box, and how many letters fit into it


# ---- packing --------------------------------------------------------------------------------------------


def quantized(values: np.ndarray, low: np.ndarray | float, high: np.ndarray | float, levels: int) -> np.ndarray:
    """int16: 0 to levels, less levels / 2, from low to high; MISSING outside."""
    share = (np.asarray(values, np.float64) - low) / (np.asarray(high, np.float64) - low)
    inside = np.isfinite(share) & (share >= 0) & (share <= 1)
    return np.where(inside, np.round(np.where(inside, share, 0) * levels) - levels // 2, MISSING).astype(np.int16)


def restored(codes: np.ndarray, low: np.ndarray | float, high: np.ndarray | float, levels: int) -> np.ndarray:
    """The values of quantized, NaN where they are missing; as page.js has it."""
    values = low + (codes.astype(np.float64) + levels // 2) / levels * (np.asarray(high, np.float64) - low)
    return np.where(codes == MISSING, np.nan, values)


def packed(codes: np.ndarray) -> str:
    """Base64 of the deflated differences along the last axis, all low bytes before all high ones."""
    with np.errstate(over="ignore"):
        differences = np.diff(codes, axis=-1, prepend=np.int16(0)).astype("<i2")
    halves = differences.reshape(-1, 1).view(np.uint8).T
    return base64.b64encode(zlib.compress(halves.tobytes(), 9)).decode()


def unpacked(text: str, length: int) -> np.ndarray:
    """int16[rows,length]: what was packed; as page.js has it."""
    halves = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(2, -1)
    return np.cumsum(np.ascontiguousarray(halves.T).view("<i2").reshape(-1, length), axis=-1, dtype=np.int16)


def short(values: np.ndarray) -> list:
    """As lists, to five digits; null for what is not finite."""
    values = np.asarray(values, np.float64)
    if values.ndim:
        return [short(each) for each in values]
    return float(f"{values:.5g}") if np.isfinite(values) else None


# ---- the race -------------------------------------------------------------------------------------------


def starts_of(landscape: jo.landscapes.Landscape) -> np.ndarray:
    """float32[starts,2]: the landscape's usual ones, and a grid of SIDE by SIDE in its box."""
    low, high = np.asarray(landscape.domain)
    shares = (np.arange(SIDE) + 0.5) / SIDE
    grid = np.stack(np.meshgrid(shares, shares), -1).reshape(-1, 2)
    return np.concatenate([np.asarray(landscape.starts), low + grid * (high - low)]).astype(np.float32)


def around(landscape: jo.landscapes.Landscape) -> tuple[np.ndarray, np.ndarray]:
    """The box with its margin."""
    low, high = np.asarray(landscape.domain)
    return low - MARGIN * (high - low), high + MARGIN * (high - low)


def runs_of(landscape: jo.landscapes.Landscape, method: str) -> tuple[np.ndarray, np.ndarray]:
    """The method's rates, float[r], for the usual starts, and its paths, float[starts,r,STEPS+1,2]."""
    width = float(np.max(np.diff(landscape.domain, axis=0)))
    rates = scenes.rates_for(method, landscape.fun, np.asarray(landscape.starts), width)
    return rates, scenes.paths(method, landscape.fun, starts_of(landscape), rates, STEPS)


def heights(fun: Callable, low: np.ndarray, high: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x: float[side], y: float[side], fun: float[y,x]."""
    x, y = np.linspace(low, high, side, dtype=np.float32).T
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    return x, y, np.asarray(jax.jit(jax.vmap(fun))(jnp.asarray(points))).reshape(side, side)


def loss_range(landscape: jo.landscapes.Landscape) -> tuple[float, float]:
    """Of the losses that are kept: log10 of what is above the minimum, or the loss itself if there is no minimum."""
    if landscape.minima:
        return GAP
    values = heights(landscape.fun, *around(landscape), GRID)[2]
    return float(values.min()), float(values.max())


def codes_of(landscape: jo.landscapes.Landscape, paths: np.ndarray) -> np.ndarray:
    """int16[...,4,STEPS+1]: x, y, loss and log10 of the next step's length."""
    low, high = around(landscape)
    values = np.asarray(jax.jit(jax.vmap(landscape.fun))(jnp.asarray(paths.reshape(-1, 2)))).reshape(paths.shape[:-1])
    with np.errstate(all="ignore"):
        lengths = np.log10(np.linalg.norm(np.diff(paths.astype(np.float64), axis=-2), axis=-1))
        lengths = np.maximum(lengths, LENGTH[0])
        if landscape.minima:
            above = np.maximum(values.astype(np.float64) - landscape.minima[0].value, 0)
            values = np.maximum(np.log10(above), GAP[0])
    lengths = np.concatenate([lengths, np.full_like(lengths[..., :1], np.nan)], -1)
    where = quantized(paths, low, high, POSITIONS)
    loss, length = quantized(values, *loss_range(landscape), LEVELS), quantized(lengths, *LENGTH, LEVELS)
    return np.stack([where[..., 0], where[..., 1], loss, length], -2)


def race_of(landscape: jo.landscapes.Landscape, runs: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict:
    """What the page knows of a landscape: its runs in a row, method by method, start by start, rate by rate."""
    low, high = np.asarray(landscape.domain)
    values = heights(landscape.fun, low, high, GRID)[2]
    steep = bool(np.ptp(values) > STEEP)
    floor = landscape.minima[0].value if landscape.minima else None
    drawn = np.log10(1 + values - floor) if steep else values
    span = [float(drawn.min()), float(drawn.max())]
    codes = [codes_of(landscape, paths).reshape(-1, 4, STEPS + 1) for _, paths in runs.values()]
    firsts = np.cumsum([0] + [len(each) for each in codes])
    inside = lambda p: bool(np.all((np.asarray(p.x) >= low) & (np.asarray(p.x) <= high)))  # noqa: E731
    return {
        "name": landscape.name, "title": [landscape.title, landscape.korean],
        "low": low.tolist(), "high": high.tolist(), "floor": floor, "steep": steep, "span": span,
        "heights": packed(quantized(drawn, *span, POSITIONS)), "losses": list(loss_range(landscape)),
        "minima": [short(p.x) for p in landscape.minima if inside(p)],
        "saddles": [short(p.x) for p in landscape.saddles if inside(p)],
        "starts": short(starts_of(landscape)),
        "methods": {
            method: {"first": int(first), "rates": short(rates)}
            for first, (method, (rates, _)) in zip(firsts[:-1], runs.items(), strict=True)
        },
        "runs": packed(np.concatenate(codes)),
    }  # fmt: skip


def races(names: tuple[str, ...] = NAMES) -> list[dict]:
    """All landscapes; a program for each method on each, two compiled at a time."""
    landscapes = [jo.landscapes.LANDSCAPES[name] for name in names]
    jobs = [(landscape, method) for landscape in landscapes for method in scenes.METHODS]
    with ThreadPoolExecutor(2) as pool, tqdm(total=len(jobs), desc="runs", unit="program") as bar:

        def work(job):
            runs = runs_of(*job)
            bar.update()
            return runs

        done = dict(zip([(l.name, m) for l, m in jobs], pool.map(work, jobs), strict=True))  # noqa: E741
    return [race_of(each, {m: done[each.name, m] for m in scenes.METHODS}) for each in landscapes]


# ---- the scenes -----------------------------------------------------------------------------------------


def surface(fun: Callable, low: tuple[float, float], high: tuple[float, float]) -> dict:
    x, y, z = heights(fun, np.asarray(low), np.asarray(high), 41)
    return {"x": short(x), "y": short(y), "z": short(z)}


def along(fun: Callable, x: np.ndarray) -> np.ndarray:
    """A function of one variable at each of the numbers."""
    return np.asarray(jax.vmap(fun)(jnp.asarray(x, jnp.float32).reshape(-1, 1))).reshape(np.shape(x))


def curve(fun: Callable, low: float, high: float) -> dict:
    x = np.linspace(low, high, 121)
    return {"x": short(x), "y": short(along(fun, x))}


def scene_data() -> dict:
    """Each scene's arrays, and the ground that they are drawn on."""
    zig_zag, saddle, batches, conditions = (
        scenes.zig_zag(), scenes.saddle_point(), scenes.batches(), scenes.condition_numbers(),
    )  # fmt: skip
    starts, rates = np.linspace(-0.9, 2.4, 12), scenes.learning_rates()
    ways = {m: scenes.local_and_global(starts, method=m) for m in ("sgd", "momentum")}
    return {
        "zigzag": {
            "paths": {name: short(path.T) for name, path in zig_zag.items()},
            "crossings": {name: scenes.crossings(path) for name, path in zig_zag.items()},
            "ground": surface(scenes.long_valley, (-11, -3.5), (4, 3.5)),
        },
        "rates": {
            "runs": {name: short(run) for name, run in rates.items()},
            "losses": {name: short(along(scenes.parabola, run)) for name, run in rates.items()},
            "rates": scenes.RATES_ON_PARABOLA, "curve": curve(scenes.parabola, -1.6, 1.6),
        },
        "minima": {
            "starts": short(starts), "curve": curve(scenes.quintic, -1, 2.5),
            "runs": {m: short(runs) for m, runs in ways.items()},
            "losses": {m: short(along(scenes.quintic, runs)) for m, runs in ways.items()},
        },
        "saddle": {
            "paths": {name: short(path.T) for name, path in saddle.items()},
            "ground": surface(scenes.saddle, (-1.2, -1.2), (1.2, 1.2)),
        },
        "batches": {
            "paths": {name: short(path.T) for name, path in batches.items()},
            "best": short(np.polyfit(scenes.REGRESSION_X, scenes.REGRESSION_Y, 1)),
            "ground": surface(scenes.regression_loss, (-1.5, 0), (3.5, 6)),
        },
        "bias": {name: short(lengths) for name, lengths in scenes.bias_correction().items()},
        "conditions": {name: short(counts) for name, counts in conditions.items()},
    }  # fmt: skip


# ---- the family tree ------------------------------------------------------------------------------------


def brief(titles: list[str]) -> list[str]:
    """Without what is in brackets, but for a title that would then be the same as one before it."""
    cut = [re.sub(r"\(.*\)$", "", title).strip() for title in titles]
    whole = [re.sub(r"\s*\(", " (", title) for title in titles]
    return [title if less in cut[:i] else less for i, (title, less) in enumerate(zip(whole, cut, strict=True))]


def box_height(labels: tuple[str, ...]) -> float:
    """Of the longer of two labels and the year below it, in rem."""
    lines = max(len(wrapped(label.replace("-", "- "), LETTERS)) for label in labels)
    return max(BOX_HEIGHT, LINE * lines + 1.25)


def tree_data() -> dict:
    """The catalogue's rows in both languages, where each stands, and who grew out of whom."""
    trees = [jo.catalog.family_tree(language) for language in jo.catalog.LANGUAGES]
    rows = {row.name: row for row in jo.catalog.ROWS}
    briefs = [brief([node.title for node in tree.nodes]) for tree in trees]
    labels = dict(zip(rows, zip(*briefs, strict=True), strict=True))
    heights = {name: box_height(label) for name, label in labels.items()}
    extent, places, routes = layout(trees[0], heights, BOX_WIDTH, ACROSS, APART)
    nodes = [
        {
            "name": node.name, "title": [node.title, korean.title], "label": labels[node.name],
            "family": node.family, "year": node.year, "parents": node.parents,
            "place": short(places[node.name]), "height": short(heights[node.name]), "call": rows[node.name].call,
            "equation": plain(rows[node.name].equation), "paper": rows[node.name].paper,
            "sentence": rows[node.name].sentence, "strengths": rows[node.name].strengths,
            "not_for": rows[node.name].not_for,
        }
        for node, korean in zip(trees[0].nodes, trees[1].nodes, strict=True)
    ]  # fmt: skip
    return {
        "nodes": nodes, "edges": trees[0].edges, "routes": [short(route) for route in routes],
        "extent": short(extent), "width": BOX_WIDTH,
        "families": jo.catalog.FAMILIES, "titles": jo.catalog.TITLES,
    }  # fmt: skip


SIGNS = {
    r"\infty": "∞", r"\Sigma": "Σ", r"\Vert": "‖", r"\vert": "|", r"\nu": "ν", r"\delta": "δ",
    r"\cos": "cos", r"\dim": "dim", r"\pi": "π",
    r"\eta": "η", r"\langle": "⟨", r"\rangle": "⟩", r"\odot": "⊙",
    r"\sigma": "σ", r"\sim": "~", r"\tau": "τ", r"\theta": "θ",
    r"\leftarrow": "←", r"\nabla": "∇", r"\epsilon": "ε", r"\Delta": "Δ", r"\lambda": "λ", r"\alpha": "α",
    r"\beta": "β", r"\rho": "ρ", r"\gamma": "γ", r"\varphi": "φ", r"\mu": "μ", r"\sum": "Σ", r"\leq": "≤", r"\to": "→",
    r"\min": "min", r"\max": "max", r"\arg": "arg ", r"\log": "log", r"\left": "", r"\right": "",
    r"\quad": " ", r"\,": " ", r"\;": " ", r"\ ": " ", r"\_": "_", r"\pm": "±",
}  # fmt: skip
LOW, HIGH = str.maketrans("0123456789i+-", "₀₁₂₃₄₅₆₇₈₉ᵢ₊₋"), str.maketrans("0123456789t+-", "⁰¹²³⁴⁵⁶⁷⁸⁹ᵗ⁺⁻")


def plain(latex: str) -> str:
    """An equation of the catalogue as text."""

    def index(mark: str, text: str, table: dict[int, str]) -> str:
        small = text.translate(table)
        return small if all(old != new for old, new in zip(text, small, strict=True)) else f"{mark}{text}"

    def fraction(match: re.Match) -> str:
        one = re.compile(r"\S*|√\([^()]*\)")
        over, under = (part if one.fullmatch(part) else f"({part})" for part in match.groups())
        return f"{over} / {under}"

    text, inner = latex.replace(r"\frac{1}{2}", "½").replace("_{t-1}", "_(t-1)"), r"\{([^{}]*)\}"
    text = re.sub(r"\\vert (.*?) \\vert", r"|\1|", text)
    for _ in range(6):  # from the innermost braces outwards
        text = re.sub(r"\\mathrm" + inner, r"\1", text)
        text = re.sub(r"\\hat" + inner, "\\1\u0302", text)
        text = re.sub(r"\\(?:bar|overline)" + inner, "\\1\u0304", text)
        text = re.sub("_" + inner, lambda m: index("_", m[1], LOW), text)
        text = re.sub(r"\^" + inner, lambda m: index("^", m[1], HIGH), text)
        text = re.sub(r"\\sqrt\[3\]" + inner, r"∛(\1)", text)
        text = re.sub(r"\\sqrt" + inner, lambda m: f"√({m[1]})" if len(m[1]) > 2 else f"√{m[1]}", text)
        text = re.sub(r"\\frac" + inner + inner, fraction, text)
    text = re.sub(r"_([0-9i])", lambda m: index("_", m[1], LOW), text)
    text = re.sub(r"\^([0-9t])", lambda m: index("^", m[1], HIGH), text)
    for command in sorted(SIGNS, key=len, reverse=True):
        text = text.replace(command, SIGNS[command])
    text = re.sub(r"\s+", " ", text).replace("-", "−")
    return re.sub(r"(?<=[(∇Δ]) (?=\w)| (?=[),])", "", text).strip()


# ---- the page -------------------------------------------------------------------------------------------


def data(names: tuple[str, ...] = NAMES) -> dict:
    """All that the page shows."""
    return {
        "steps": STEPS, "side": SIDE, "grid": GRID, "margin": MARGIN, "missing": MISSING,
        "positions": POSITIONS, "levels": LEVELS, "lengths": LENGTH,
        "methods": {name: [method.title, method.korean] for name, method in scenes.METHODS.items()},
        "races": races(names), "scenes": scene_data(), "tree": tree_data(),
        "strings": json.loads((HERE / "strings.json").read_text(encoding="utf-8")),
    }  # fmt: skip


def page(contents: dict) -> str:
    """The whole file."""
    parts = {
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "plotly": get_plotlyjs(),
        "data": json.dumps(contents, ensure_ascii=False, separators=(",", ":")).replace("</", r"<\/"),
        "script": (HERE / "page.js").read_text(encoding="utf-8"),
    }
    template = (HERE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("explore.html"))
    args = parser.parse_args()
    if not args.out.parent.is_dir():
        parser.error(f"there is no directory {args.out.parent}")
    args.out.write_text(page(data()), encoding="utf-8")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
