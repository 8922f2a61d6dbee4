"""Steps that the record stack needs for what AdamW reaches: `python examples/benchmarks/record_stack.py`.

The transformer of `char_lm.py`, at half its width, learns the characters of Python's standard library. AdamW has
--steps of them, with a warm-up and a line to zero. Muon, the stack of modded-nanogpt's third track (SOAP into Muon,
floor, brake, pin, cautious decay behind it, EMA-Nesterov, tail average, power cooldown, momentum that rises and falls),
and the stack without each of its pieces, have 0.45 of them; leaves that are no hidden matrices are AdamW's everywhere,
with the rate that is best for it. Constants that count steps are the record's, as parts of its run of 2,900 steps.

Rates come from `loop.sweep`: a grid for each row, the mean over seeds decides. The loss is that of the parameters to
evaluate, the tail average's, on text kept apart, every few steps and at the end. From the ends of runs of 0.2, 0.3 and
0.45 of AdamW's steps the steps that Muon and the stack need for AdamW's loss are interpolated; of the others' one run,
from its own curve. A piece's difference is the loss without it less the stack's, seed by seed, with its standard error:
above 0, the piece helps.

Prints a table; `--out` writes the report as JSON, `--write` puts the recorded one's ablations into READMEs.
"""

import argparse
import datetime
import json
import math
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # LAPACK's threads, in SOAP's QR, wait for busy cores

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jaxopt_ko as jo

sys.path.insert(0, str(Path(__file__).parents[1]))
from characters import loss, roles, start, text, windows
from readme_table import written

RESULTS = Path(__file__).parent / "results" / "record_stack.json"
MARK = "record stack"  # of the ablations in READMEs
WIDTH, LAYERS, CONTEXT, BATCH, WARM_UP = 64, 2, 64, 16, 20
KEPT, WINDOWS, EVERY = 200_000, 512, 10  # characters kept apart, windows of the loss, steps from loss to loss
SHARE, SHARES = 0.45, (0.2, 0.3, 0.45)  # of AdamW's steps
RECORD = 2900  # steps of the run that the constants are from
TURN = 5  # steps from one turn of SOAP's bases to the next; 1 there


def part(steps, of_record):
    """So many steps of the record's run, in one of `steps`."""
    return round(steps * of_record / RECORD)


# ---- the methods ------------------------------------------------------------------------------------------


def line(peak, steps):
    """Up to the peak, and down to zero."""
    warm = min(WARM_UP, steps // 4)
    up, down = jo.linear_schedule(0.0, peak, warm), jo.linear_schedule(peak, 0.0, steps - warm)
    return jo.join_schedules([up, down], [warm])


def cooldown(peak, steps, flat):
    """The record's: flat for `flat` of its steps, then a power of what is left."""
    return jo.power_cooldown(peak, peak / (steps - part(steps, flat)) ** 1.2, steps, 1.2)


def adamw(rate, steps, adam_rate):
    return jo.adamw(line(rate, steps), b2=0.99, weight_decay=0.01)


def muon(rate, steps, adam_rate, stack_axes=1, roles=roles):
    hidden = jo.muon(line(rate, steps), weight_decay=0.01, stack_axes=stack_axes)
    return jo.partition({"hidden": hidden, "rest": adamw(adam_rate, steps, None)}, roles)


def stack(
    rate, steps, adam_rate, soap=True, floor="column", brake=0.5, pin=True, decay=0.025, ahead=0.3, tail=0.6,
    power=True, momentum=True, stack_axes=1, roles=roles,
):  # fmt: skip
    """The record's, and without a piece where an argument says so; its rows are our columns, [inputs, outputs]."""
    rates = cooldown(rate, steps, 514) if power else line(rate, steps)
    beta = 0.95
    if momentum:
        beta = jo.momentum_warmup_cooldown(steps, 0.85, 0.95, part(steps, 300), part(steps, 200))
    least = 0.3825 if floor else 0.0
    per = floor or "column"
    direction = (
        jo.scale_by_soap_muon(beta, 0.9, precondition_frequency=TURN, stack_axes=stack_axes)
        if soap
        else jo.scale_by_muon(beta=beta, stack_axes=stack_axes)
    )
    step = jo.pinned(rates, least, brake, decay, per=per, stack_axes=stack_axes)
    if not pin:
        step = jo.chain(
            jo.update_floor(least, per=per, stack_axes=stack_axes), jo.radial_brake(brake, stack_axes=stack_axes),
            jo.add_cautious_decayed_weights(decay), jo.scale_by_learning_rate(rates),
        )  # fmt: skip
    others = cooldown(adam_rate, steps, 1487) if power else line(adam_rate, steps)
    rest = jo.adamw(others, b2=0.99, weight_decay=0.01)
    opt = jo.partition({"hidden": jo.chain(direction, step), "rest": rest}, roles)
    if ahead:
        opt = jo.ema_nesterov(opt, lookahead(ahead, rates, steps), 1 - 1 / max(part(steps, 100), 1))
    if tail:
        opt = jo.chain(opt, jo.tail_average(max(part(steps, 150), 1), part(steps, 2400), tail))
    return opt


def lookahead(ahead, rates, steps):
    """Mean steps ahead: as the rate falls, from step 300 of the record's to the 950th before its end."""
    begin, end = part(steps, 300), steps - part(steps, 950)

    def beta(t):
        inside = (t >= begin) & (t < end)
        return jnp.where(inside, ahead * rates(t) / jnp.maximum(rates(jnp.int32(begin)), 1e-30), 0.0)

    return beta


ADAMW, MUON, STACK = "AdamW", "Muon", "the stack"
MUONS, MATRIX = (0.02, 0.04, 0.08), (0.04, 0.08, 0.16)  # rates that are tried for hidden matrices
# row -> (method, rates to try)
ROWS = {
    ADAMW: (adamw, (2e-3, 4e-3, 8e-3)),
    MUON: (muon, MUONS),
    STACK: (stack, MATRIX),
    "without SOAP": (partial(stack, soap=False), MATRIX),
    "without the floor": (partial(stack, floor=""), MATRIX),
    "with a floor of matrices": (partial(stack, floor="matrix"), MATRIX),
    "without the brake": (partial(stack, brake=1.0), MATRIX),
    "without the pin": (partial(stack, pin=False), MATRIX),
    "without cautious decay": (partial(stack, decay=0.0), MATRIX),
    "without EMA-Nesterov": (partial(stack, ahead=0.0), MATRIX),
    "without the tail average": (partial(stack, tail=0.0), MATRIX),
    "a line for the power cooldown": (partial(stack, power=False), MATRIX),
    "a constant momentum": (partial(stack, momentum=False), MATRIX),
}
QUICK = (ADAMW, MUON, STACK, "without SOAP")


# ---- a run ------------------------------------------------------------------------------------------------


def runner(row, steps, adam_rate, data, kept, windows_of_loss):
    """(hyperparameters, key) -> the losses on the text kept apart, by the step."""
    make = ROWS[row][0]
    at = (jnp.arange(windows_of_loss) * ((len(kept) - CONTEXT - 1) // windows_of_loss)).reshape(4, -1)
    held = windows(kept, at.reshape(-1), CONTEXT).reshape(4, -1, CONTEXT + 1)
    see = evaluated_by(row)

    @jax.custom_batching.sequential_vmap
    def train(rate, key):  # one run after the other, so that what is done now and then is not done at every step
        opt = make(rate, steps, adam_rate)
        first, later = jax.random.split(key)

        def step(carry, t):
            params, state = carry
            places = jax.random.randint(jax.random.fold_in(later, t), (BATCH,), 0, len(data) - CONTEXT - 1)
            grads = jax.grad(loss)(params, windows(data, places, CONTEXT))
            updates, state = opt.update(grads, state, params)
            return (jo.apply_updates(params, updates), state), None

        def some(carry, t):
            carry, _ = jax.lax.scan(step, carry, t)
            params = see(carry[1], carry[0])
            return carry, jnp.mean(jax.lax.map(lambda x: loss(params, x), held))

        params = start(first, WIDTH, LAYERS, CONTEXT)
        every = EVERY if steps % EVERY == 0 else math.gcd(steps, EVERY)
        return jax.lax.scan(some, (params, opt.init(params)), jnp.arange(steps).reshape(-1, every))[1]

    def measured(h, key):
        curve = train(h["rate"], key)
        width = len(str(steps))
        every = steps // curve.shape[0]
        return {"final": curve[-1]} | {f"at {(i + 1) * every:0{width}d}": x for i, x in enumerate(curve)}

    return measured


def evaluated_by(row):
    """(state, params) -> the parameters to evaluate; the tail begins when EMA-Nesterov has come to rest."""
    make, words = ROWS[row][0], getattr(ROWS[row][0], "keywords", {})
    if make in (adamw, muon):
        return lambda state, params: params
    return jo.tail_averaged_params if words.get("tail", 1.0) else jo.ema_nesterov_eval_params


def swept(row, steps, rates, seeds, adam_rate, data, kept, held, bar):
    """(best rate, losses of the seeds at the end, curve of the means, whether the rate is at an edge)."""
    bar.set_postfix_str(f"{row}, {steps} steps")
    run = runner(row, steps, adam_rate, data, kept, held)
    table = jo.loop.sweep(run, {"rate": list(rates)}, seeds=seeds, metric="final")
    best = int(table.order[0])
    names = sorted(name for name in table.metrics if name.startswith("at "))
    curve = {int(name.removeprefix("at ")): float(np.mean(table.metrics[name][best])) for name in names}
    bar.update()
    ends = [float(x) for x in table.metrics["final"][best]]
    edge = len(rates) > 1 and float(table.values[best, 0]) in (min(table.values[:, 0]), max(table.values[:, 0]))
    return float(table.values[best, 0]), ends, curve, bool(edge)


# ---- what came out ----------------------------------------------------------------------------------------


def of_mean(numbers):
    """(mean, its standard error or None)."""
    error = np.std(numbers, ddof=1) / math.sqrt(len(numbers)) if len(numbers) > 1 else None
    return float(np.mean(numbers)), None if error is None else float(error)


def crossing(points, target):
    """Where a falling line through (steps, loss) comes to the target, None if it does not; and is that a bound?"""
    points = sorted(points)
    if points[0][1] <= target:
        return points[0][0], True
    for (a, x), (b, y) in pairwise(points):
        if x > target >= y:
            return a + (b - a) * (x - target) / (x - y), False
    return None, False


def summary(found, lengths, steps, tried):
    """The lines of the report; tried: the rates of each row."""
    base, target = np.asarray(found[STACK][1]), of_mean(found[ADAMW][1])[0]
    lines = []
    for row, (rate, ends, curve, edge) in found.items():
        mean, error = of_mean(ends)
        beside, beside_error = of_mean(np.asarray(ends) - base)
        at, bound = crossing(lengths[row] if row in lengths else list(curve.items()), target)
        lines.append({
            "row": row, "rate": rate, "rate_at_an_edge": edge, "steps": max(curve), "loss": round(mean, 5),
            "loss_error": error and round(error, 5), "difference": None if row == ADAMW else round(beside, 5),
            "difference_error": None if row == ADAMW or beside_error is None else round(beside_error, 5),
            "z": round(beside / beside_error, 2) if beside_error and row not in (ADAMW, STACK) else None,
            "steps_to_target": None if at is None else round(at, 1),
            "share_of_adamw": None if at is None else round(at / steps, 3), "at_most": bound,
            "losses": [round(x, 5) for x in ends], "rates_tried": list(tried[row]),
        })  # fmt: skip
    return lines


def markdown(report):
    """The report as a table."""
    target = report["about"]["target"]
    table = [
        f"| | rate | steps | loss at the end | beside the stack | z | steps to {target:.4f}, of AdamW's |",
        "|---|---|---|---|---|---|---|",
    ]
    for line_ in report["rows"]:
        error, beside = line_["loss_error"], line_["difference_error"]
        loss_ = f"{line_['loss']:.4f}" + ("" if error is None else f" ± {error:.4f}")
        difference = "" if line_["difference"] is None else f"{line_['difference']:+.4f}"
        difference += "" if beside is None else f" ± {beside:.4f}"
        z = "" if line_["z"] is None else f"{line_['z']:+.1f}"
        share = "not reached" if line_["share_of_adamw"] is None else f"{line_['share_of_adamw']:.2f}"
        share = ("≤ " if line_["at_most"] else "") + share
        rate = f"{line_['rate']:.2g}" + (" (edge)" if line_["rate_at_an_edge"] else "")
        table.append(f"| {line_['row']} | {rate} | {line_['steps']} | {loss_} | {difference} | {z} | {share} |")
    return "\n".join(table)


WORDS = {  # language -> the sentences of READMEs, and what a row is called there
    "en": (
        "The record stack of modded-nanogpt's third track, a language model of {parameters:,} parameters on "
        "characters, {seeds} seeds, rates tuned for each ([`record_stack.py`](examples/benchmarks/record_stack.py)): "
        "AdamW's loss after {steps} steps is reached by Muon in {muon} and by the stack in {stack} of its steps. After "
        "{short} steps Muon's loss is {behind} above the stack's (z = {z}). Loss without a piece less the stack's, ± "
        "standard error, so that above 0 the piece helps: {pieces}. What is within two standard errors shows nothing "
        "at this size.",
        {
            "without SOAP": "SOAP", "without the floor": "the floor",
            "with a floor of matrices": "a floor for each column instead of each matrix",
            "without the brake": "the brake", "without the pin": "the pin",
            "without cautious decay": "cautious decay", "without EMA-Nesterov": "EMA-Nesterov",
            "without the tail average": "the tail average",
            "a line for the power cooldown": "the power cooldown instead of a line",
            "a constant momentum": "a momentum that rises and falls",
        },
    ),
    "ko": (
        "modded-nanogpt 셋째 트랙의 기록 스택을 매개변수 {parameters:,}개의 문자 언어 모델에서 시드 {seeds}개로 "
        "비교했고, 학습률은 방법마다 조정했습니다([`record_stack.py`](examples/benchmarks/record_stack.py)). "
        "AdamW가 {steps}스텝 뒤에 이르는 손실에 Muon은 그 스텝의 {muon}, 기록 스택은 {stack} 만에 이릅니다. "
        "{short}스텝 뒤 Muon의 손실은 기록 스택보다 {behind} 높습니다(z = {z}). "
        "조각 하나를 뺀 손실에서 기록 스택의 손실을 뺀 값 ± 표준 오차는 다음과 같고, 0보다 크면 그 조각이 "
        "도움이 됩니다: {pieces}. 표준 오차의 두 배 안에 있는 값은 이 크기에서 아무것도 보여 주지 않습니다.",
        {
            "without SOAP": "SOAP", "without the floor": "하한(update_floor)",
            "with a floor of matrices": "행렬 대신 열마다 두는 하한",
            "without the brake": "제동(radial_brake)", "without the pin": "길이 고정(pinned)",
            "without cautious decay": "cautious 가중치 감쇠", "without EMA-Nesterov": "EMA-Nesterov",
            "without the tail average": "꼬리 평균", "a line for the power cooldown": "직선 대신 거듭제곱 냉각",
            "a constant momentum": "오르내리는 모멘텀",
        },
    ),
}  # fmt: skip


def paragraph(report, language="en"):
    """The report as READMEs tell it."""
    sentences, names = WORDS[language]
    rows = {line_["row"]: line_ for line_ in report["rows"]}
    about = report["about"]

    def difference(line_):
        return f"{line_['difference']:+.4f} ± {line_['difference_error']:.4f}"

    def share(line_):
        return ("≤ " if line_["at_most"] else "") + f"{line_['share_of_adamw']:.2f}"

    return sentences.format(
        parameters=about["parameters"], seeds=about["seeds"], steps=about["steps"], muon=share(rows[MUON]),
        stack=share(rows[STACK]), short=rows[STACK]["steps"], behind=difference(rows[MUON])[1:],
        z=f"{rows[MUON]['z']:.0f}", pieces=", ".join(f"{names[row]} {difference(rows[row])}" for row in names),
    )  # fmt: skip


def measured(args):
    """The report of a whole run."""
    steps, seeds, rows, held = (40, 2, QUICK, 32) if args.quick else (args.steps, args.seeds, tuple(ROWS), WINDOWS)
    data = text()
    data, kept = jnp.asarray(data[:-KEPT]), jnp.asarray(data[-KEPT:])
    count = sum(p.size for p in jax.tree.leaves(start(jax.random.key(0), WIDTH, LAYERS, CONTEXT)))
    print(f"{count / 1e3:.0f} thousand parameters, {len(data) / 1e6:.1f} M characters, {seeds} seeds, {steps} steps")
    shares = {share: round(steps * share / EVERY) * EVERY for share in ((SHARE,) if args.quick else SHARES)}
    few = slice(1, 2) if args.quick else slice(None)
    began, before = time.perf_counter(), os.times()
    others = [(row, shares[SHARE], ROWS[row][1][few]) for row in rows[1:]]
    with ThreadPoolExecutor(args.jobs) as pool, tqdm(total=len(rows) + 2 * len(shares) - 2, unit="sweep") as bar:

        def one(row, of, rates, adam_rate):
            return swept(row, of, rates, seeds, adam_rate, data, kept, held, bar)

        def all_of(asked):
            try:
                return list(pool.map(lambda own: one(*own, adam_rate), asked))
            except BaseException:  # after an error or Ctrl-C, none of those that have not begun
                pool.shutdown(wait=False, cancel_futures=True)
                raise

        found = {ADAMW: one(ADAMW, steps, ROWS[ADAMW][1][few], None)}
        adam_rate = found[ADAMW][0]
        found |= zip(rows[1:], all_of(others), strict=True)
        asked = [(row, of, (found[row][0],)) for row in (MUON, STACK) for share, of in shares.items() if share != SHARE]
        lengths = {row: [(shares[SHARE], of_mean(found[row][1])[0])] for row in (MUON, STACK)}
        for (row, of, _), (_, ends, *_) in zip(asked, all_of(asked), strict=True):
            lengths[row].append((of, of_mean(ends)[0]))
    wall, after = time.perf_counter() - began, os.times()
    return {
        "rows": summary(found, lengths, steps, {row: ROWS[row][1][few] for row in rows}),
        "curves": {row: {str(t): round(x, 5) for t, x in curve.items()} for row, (_, _, curve, _) in found.items()},
        "lengths": {row: [[t, round(x, 5)] for t, x in sorted(points)] for row, points in lengths.items()},
        "about": {
            "target": round(of_mean(found[ADAMW][1])[0], 5), "parameters": count, "width": WIDTH, "layers": LAYERS,
            "context": CONTEXT, "batch": BATCH, "steps": steps, "seeds": seeds, "characters": len(data),
            "kept_apart": held * CONTEXT, "precondition_frequency": TURN,
        },
        "run": {
            "seconds": round(wall), "processor_seconds": round(sum(after[:2]) - sum(before[:2])),
            "sweeps_at_a_time": args.jobs, "load_average_of_15_minutes": round(os.getloadavg()[2], 1),
        },
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "device": jax.devices()[0].device_kind},
        "versions": {
            "python": platform.python_version(), "jax": jax.__version__, "jaxopt_ko": jo.__version__,
            "numpy": np.__version__,
        },
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds, 40 steps of AdamW, four rows: does it run?")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="of AdamW (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="sweeps at a time (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the report to this file, as JSON")
    parser.add_argument("--write", type=Path, nargs="+", metavar="README",
                        help="train nothing: put the ablations of the recorded run into these files")  # fmt: skip
    args = parser.parse_args()
    if args.out and not args.out.parent.is_dir():
        parser.error(f"--out {args.out}: there is no directory {args.out.parent}")
    if args.write:
        report = json.loads(RESULTS.read_text(encoding="utf-8"))
        written(args.write, MARK, lambda language: paragraph(report, language))
        return
    report = measured(args)
    print(markdown(report))
    made = report["run"]
    print(
        f"{made['seconds']} s, {made['processor_seconds']} s of processors, load {made['load_average_of_15_minutes']}"
    )
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
