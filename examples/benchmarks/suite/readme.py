"""What the READMEs say of the committed results, made of them alone: sentences and a picture."""

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from readme_table import written

from suite import report, scores
from suite.methods import REFERENCE

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "examples" / "benchmarks" / "results" / "suite-small.json"
PICTURE = ROOT / "examples" / "images" / "suite.png"
READMES = (ROOT / "README.md", ROOT / "README.ko.md")
MARK = "suite"
LINE = ("adamw", "muon", "soap", "kl_soap")  # Track 3 of modded-nanogpt: AdamW, then Muon, then SOAP's kin
COLORS = ("#1b1f24", "#0068a8", "#b84a00", "#00795a", "#a0347c", "#8a6a00")
WORDS = {
    "en": {
        "areas": "Area under the profile, 1 at most: {areas}.",
        "picture": "Performance profiles of the methods",
        "about": "{date}, {device}: {programs} programs, {cpu:.0f} minutes of processor time, {wall:.0f} passed; "
        "{problems} problems, {trials} trials a method, {seeds} held-out seeds.",
        "wins": "At z ≥ 3 over the tasks {pairs}.", "pair": "{winner} beats {losers}",
        "none": "Over the tasks no method beats another at z ≥ 3.",
        "below": "Behind {reference} in this order, proved or not: {names}.",
        "line": "On the transformer, where Track 3 of modded-nanogpt has AdamW < Muon < SOAP's kin, the share of the "
        "budget needed is {scores}, a mean of three levels: {verdict}.",
        "as": "the published order", "not": "not the published order", "and": " and ",
        "weak": "NadamW itself learned little on {names}: their targets are weak.",
        "again": "A second run with other seeds agrees by Kendall's tau of {tau:.2f} over all methods and "
        "{tau_top:.2f} over the first three ({first}; then {second}).",
    },
    "ko": {
        "areas": "프로파일 아래 넓이(최대 1): {areas}.",
        "picture": "방법별 성능 프로파일",
        "about": "{date}, {device}: 프로그램 {programs}개, 프로세서 시간 {cpu:.0f}분, 걸린 시간 {wall:.0f}분; "
        "문제 {problems}개, 방법마다 시도 {trials}회, 평가용 시드 {seeds}개.",
        "wins": "과제에 걸쳐 z ≥ 3으로 앞선 쌍: {pairs}.", "pair": "{winner} > {losers}",
        "none": "과제에 걸쳐 z ≥ 3으로 다른 방법을 이긴 방법은 없습니다.",
        "below": "증명되었든 아니든 {reference}보다 뒤에 선 방법은 순서대로 {names}입니다.",
        "line": "modded-nanogpt의 Track 3에서 AdamW < Muon < SOAP 계열인 트랜스포머에서 필요한 예산의 비율은 {scores}"
        "입니다(세 난이도의 평균). 발표된 순서와 {verdict}.",
        "as": "같습니다", "not": "다릅니다", "and": ", ",
        "weak": "{names}에서는 NadamW 자신이 거의 배우지 못해 목표가 약합니다.",
        "again": "다른 시드로 한 번 더 실행한 결과와의 켄달 타우는 모든 방법에 대해 {tau:.2f}, 처음 셋에 대해 "
        "{tau_top:.2f}입니다(처음 {first}; 다음 {second}).",
    },
}  # fmt: skip


def markdown(found: dict, language: str = "en") -> str:
    words = WORDS[language]
    areas = ", ".join(f"{name} {found['methods'][name]['area']:.3f}" for name in found["ranking"])
    said = [words["areas"].format(areas=areas), *sentences(found, language)]
    return "\n".join([" ".join(said), "", f"![{words['picture']}](examples/images/{PICTURE.name})"])


def sentences(found: dict, language: str) -> list[str]:
    words, settings = WORDS[language], found["settings"]
    said = [words["about"].format(
        date=found["date"], device=found["device"], programs=found["programs"], cpu=found["cpu_seconds"] / 60,
        wall=found["seconds"] / 60, problems=len(found["problems"]), trials=settings["trials"], seeds=settings["seeds"],
    )]  # fmt: skip
    won = {a: [b for x, b, *_ in found["claims"]["suite"] if x == a] for a in found["ranking"]}
    pairs = [words["pair"].format(winner=a, losers=_listed(b, words["and"])) for a, b in won.items() if b]
    said.append(words["wins"].format(pairs="; ".join(pairs)) if pairs else words["none"])
    behind = found["ranking"][found["ranking"].index(REFERENCE) + 1 :]
    if behind:
        said.append(words["below"].format(reference=REFERENCE, names=", ".join(behind)))
    if all(name in found["methods"] for name in LINE) and any(p["task"] == "transformer" for p in found["problems"]):
        means = transformer(found)
        order = means["adamw"] > means["muon"] > min(means["soap"], means["kl_soap"])
        text = ", ".join(f"{name} {value:.3f}" for name, value in means.items())
        said.append(words["line"].format(scores=text, verdict=words["as" if order else "not"]))
    weak = [f"{p['task']} ({p['level']})" for p in found["problems"] if not p["learned"]]
    if weak:
        said.append(words["weak"].format(names=", ".join(weak)))
    if "again" in found:
        again = found["again"]
        said.append(words["again"].format(
            tau=again["tau"], tau_top=again["tau_top"], first=", ".join(found["ranking"][:3]),
            second=", ".join(again["ranking"][:3]),
        ))  # fmt: skip
    return said


def transformer(found: dict) -> dict[str, float]:
    """Mean scores on the language model's levels."""
    at = [i for i, p in enumerate(found["problems"]) if p["task"] == "transformer"]
    return {name: float(np.mean([found["results"][i][name]["score"] for i in at])) for name in LINE}


def _listed(names: list[str], last: str) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + last + names[-1]


def picture(found: dict, path: Path) -> None:
    """The profiles."""
    ratios = np.linspace(1, scores.GREATEST, 601)
    methods = found["settings"]["methods"]
    lines = dict(zip(methods, scores.profile(report.medians(found, "tuned"), ratios), strict=True))
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    ax = figure.subplots()
    for name in found["ranking"]:
        at = methods.index(name)
        ax.step(ratios, lines[name], where="post", color=COLORS[at % 6], linestyle=("-", "--", ":")[at // 6 % 3],
                linewidth=1.6, label=f"{name} {found['methods'][name]['area']:.3f}")  # fmt: skip
    ax.set(xlim=(1, scores.GREATEST), ylim=(0, 1), xlabel="steps over those of the quickest method",
           ylabel=f"share of the {len(found['problems'])} problems")  # fmt: skip
    ax.grid(color="0.9")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper", frameon=False, title="area under profile")
    figure.savefig(path, dpi=100)


def publish(first: dict, second: dict) -> None:
    """Take a run and its repetition as the committed results: the file, the READMEs, the picture."""
    kept = ("date", "ranking", "seconds", "cpu_seconds", "device")
    again = {key: second[key] for key in kept} | {"first_seed": second["settings"]["first_seed"]}
    again |= {"areas": {m: second["methods"][m]["area"] for m in second["ranking"]}, **report.agreement(first, second)}
    found = first | {"again": again}
    RESULTS.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
    written(READMES, MARK, lambda language: markdown(found, language))
    picture(found, PICTURE)
