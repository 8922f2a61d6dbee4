"""What a run found, as a dict for JSON, as text, and as a page."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from suite import scores
from suite.cells import Settings, array, digits, read
from suite.lanes import POINTS
from suite.methods import METHODS, REFERENCE
from suite.task import SCALES
from suite.tasks import task

HERE = Path(__file__).resolve().parent
LEVELS = ("easy", "medium", "hard")


def collected(folder: Path, settings: Settings) -> dict[str, Any]:
    """All of a run, from its cells."""
    cells = {
        (kind, name, method): read(folder, kind, name, method)
        for kind in ("tuned", "one")
        for name in settings.tasks
        for method in settings.methods
    }
    problems, results = [], []
    for name in settings.tasks:
        t = task(name, SCALES[settings.scale])
        reference = array(cells["tuned", name, REFERENCE]["held"])
        aim = array(cells["tuned", name, REFERENCE]["aim"])
        for level, value in enumerate(t.levels):
            goal = scores.target(aim[level])
            problems.append({
                "task": name, "level": LEVELS[level], "value": value, "steps": POINTS * (t.steps // POINTS),
                "metric": t.metric, "target": digits(np.array(goal)),
                "start": digits(np.nanmean(reference[level, :, 0])),
                "learned": bool(goal < t.learned[level]),
            })  # fmt: skip
            results.append({
                method: result(cells["tuned", name, method], cells["one", name, method], level, goal)
                for method in settings.methods
            })  # fmt: skip
    about = {method: read(folder, "about", "run", method) for method in settings.methods}
    kept = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    found = {
        "format": 1, "settings": json.loads(json.dumps(settings._asdict())),
        "versions": kept["versions"], "seconds": kept["seconds"],
        **{key: about[REFERENCE][key] for key in ("device", "devices", "platform")},
        "cpu_seconds": round(sum(c["cpu_seconds"] for c in (*cells.values(), *about.values())), 1),
        "programs": len(settings.tasks) * len(settings.methods),
        "problems": problems, "results": results,
    }  # fmt: skip
    found["methods"] = {m: of_method(found, cells, m, settings) for m in settings.methods}
    for kind, key in (("tuned", "area"), ("one", "one_area")):
        for method, value in zip(settings.methods, scores.area(medians(found, kind)), strict=True):
            found["methods"][method][key] = round(float(value), 4)
    found["ranking"] = ranking(found)
    found["claims"] = claims(found)
    return found


def result(tuned: dict, one: dict, level: int, goal: float) -> dict[str, Any]:
    """Of a method on a problem."""

    def of(held: np.ndarray) -> dict[str, Any]:
        times = scores.times(held, goal)
        mean, error = scores.score(times, POINTS)
        middle = float(np.sort(times)[len(times) // 2])
        return {"times": digits(times, 4), "score": round(mean, 4), "error": round(error, 4),
                "reached": int(np.isfinite(times).sum()), "median": digits(middle, 4)}  # fmt: skip

    held = array(tuned["held"])[level]
    setting = tuned["trials"][tuned["best"][level]]
    tried = scores.times(array(tuned["tuning"])[:, level], goal)
    return of(held) | {
        "setting": digits(np.array(setting), 4), "end": digits(np.mean(scores.finite(held[:, -1])), 5),
        "curve": digits(np.mean(scores.finite(held), 0), 4), "one": of(array(one["held"])[level]),
        "tried": digits(np.isfinite(tried).mean(-1), 3),
    }  # fmt: skip


def of_method(found: dict, cells: dict, method: str, settings: Settings) -> dict[str, Any]:
    mine = [each[method] for each in found["results"]]
    tuned = [cells["tuned", name, method] for name in settings.tasks]
    one = cells["one", settings.tasks[0], method]["trial"]
    return {
        "score": round(float(np.mean([r["score"] for r in mine])), 4),
        "error": round(float(np.linalg.norm([r["error"] for r in mine])) / len(mine), 4),
        "reached": round(sum(r["reached"] for r in mine) / (len(mine) * settings.seeds), 4),
        "one_score": round(float(np.mean([r["one"]["score"] for r in mine])), 4),
        "one_reached": round(sum(r["one"]["reached"] for r in mine) / (len(mine) * settings.seeds), 4),
        "one_setting": digits(np.array(tuned[0]["trials"][one]), 4), "other": METHODS[method].other,
        "trials": digits(np.array(tuned[0]["trials"]), 4),
        "tried": digits(np.mean([r["tried"] for r in mine], 0), 3),  # by trial: share of runs at the target
        "bytes": round(float(np.mean([c["state_bytes"] / c["parameters"] for c in tuned])), 2),
        **{
            name: digits(1e6 * np.exp(np.mean([np.log(c["lane_step_seconds"][i]) for c in tuned])), 4)
            for i, name in enumerate(("step_microseconds", "step_cpu_microseconds"))
        },
    }  # fmt: skip


def medians(found: dict, kind: str) -> np.ndarray:
    """float[methods,problems], inf where none."""
    of = lambda r: r["median"] if kind == "tuned" else r["one"]["median"]  # noqa: E731
    values = [[of(r[m]) for r in found["results"]] for m in found["settings"]["methods"]]
    return np.array([[np.inf if v is None else v for v in row] for row in values])


def ranking(found: dict) -> list[str]:
    """By the area under the profile, the greatest first."""
    return sorted(found["methods"], key=lambda m: -found["methods"][m]["area"])


def claims(found: dict) -> dict[str, list]:
    """Every pair of which one is faster than the other at z >= 3, on the suite or on a problem."""
    methods, results = found["settings"]["methods"], found["results"]
    tasks = [p["task"] for p in found["problems"]]
    inf = lambda values: np.array([np.inf if v is None else v for v in values])  # noqa: E731
    suite, single = [], []
    for a in methods:
        for b in methods:
            if a == b:
                continue
            gaps = np.array([r[b]["score"] - r[a]["score"] for r in results])
            names = list(dict.fromkeys(tasks))
            if len(names) > 1:
                mean, error, z = scores.paired([gaps[[t == n for t in tasks]].mean() for n in names])
                if z >= scores.Z:
                    suite.append([a, b, round(mean, 4), round(error, 4), round(z, 2)])
            for i, r in enumerate(results):
                z = scores.welch(inf(r[a]["times"]), inf(r[b]["times"]), POINTS)
                if z >= scores.Z:
                    single.append([a, b, i, round(z, 2)])
    return {"suite": sorted(suite, key=lambda c: -c[-1]), "problems": single}


def agreement(first: dict, second: dict) -> dict[str, float]:
    """Kendall's tau of two runs: of all methods that both have, and of the first run's top three."""
    common = set(first["ranking"]) & set(second["ranking"])
    a, b = ([m for m in found["ranking"] if m in common] for found in (first, second))
    return {"tau": round(scores.kendall(a, b), 4), "tau_top": scores.kendall(a[:3], [m for m in b if m in a[:3]]),
            "same_top": a[:3] == b[:3]}  # fmt: skip


def text(found: dict) -> str:
    """The table and the claims, for a terminal."""
    head = (f"{'method':20} {'area':>6} {'score':>15} {'reached':>8} {'one: area':>9} {'score':>6} {'reached':>8} "
            f"{'tried':>6} {'B/param':>8} {'us/step':>8}")  # fmt: skip
    lines = [head]
    for name in found["ranking"]:
        m = found["methods"][name]
        lines.append(
            f"{name:20} {m['area']:6.3f} {m['score']:6.3f} ± {m['error']:.4f} {m['reached']:8.1%} {m['one_area']:9.3f} "
            f"{m['one_score']:6.3f} {m['one_reached']:8.1%} {np.mean(m['tried']):6.1%} {m['bytes']:8.1f} "
            f"{m['step_microseconds']:8.1f}"
        )
    for p in found["problems"]:
        if not p["learned"]:
            lines.append(f"{p['task']}, {p['level']}: {REFERENCE} has learned nothing to speak of; its target is weak")
    lines += [f"{a} beats {b} on the suite: {d:.3f} ± {s:.3f} of a budget, z = {z}"
              for a, b, d, s, z in found["claims"]["suite"]]  # fmt: skip
    return "\n".join(lines if found["claims"]["suite"] else [*lines, "On the suite no method beats another at z >= 3."])


def page(found: list[dict]) -> str:
    """HTML that needs nothing else, of one run or two."""
    parts = {name: (HERE / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    words = json.loads((HERE / "strings.json").read_text(encoding="utf-8"))
    shut = lambda data: json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")  # noqa: E731
    return (
        parts["html"].replace("{{style}}", parts["css"]).replace("{{strings}}", shut(words))
        .replace("{{data}}", shut(found)).replace("{{script}}", parts["js"])
    )  # fmt: skip
