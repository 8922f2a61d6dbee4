"""What a step of the record stack costs, of its pieces and of Muon's kin, beside Muon's in the same process.

    python examples/benchmarks/stack_cost.py                  # counts, compiling and steps: some minutes on two cores
    python examples/benchmarks/stack_cost.py --counts         # counts alone
    python examples/benchmarks/stack_cost.py --rows Muon "the stack" --out FILE

The stack is that of `record_stack.py`; hidden matrices are given to the method of the row, the other leaves to AdamW.
One step is update + apply_updates, jitted, its arguments donated. Two trees: the language model of `record_stack.py`,
four times as wide, whose layers are stacked; and GPT-2 small's, whose layers are apart, and which is lowered, not run.

Counted: equations of the jaxpr, those of inner programs once for each program; operations of its StableHLO; flops of
all products of matrices, each turn of a loop counted, which is without QR and eigenvalues; of the language model also
instructions and fusions of the optimized HLO. Timed, there, by processor seconds, which say what is asked of a busy
machine: compiling the lowered step, the median of some rounds in random order, without a cache on disk; a step, the
median of rounds of five, and beside Muon's in the same round. SOAP's bases turn once in five steps, as in
`record_stack.py`; at every step in the record itself.
"""

import argparse
import json
import math
import os
import platform
import random
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.extend
import jax.numpy as jnp

import jaxopt_ko as jo

sys.path.insert(0, str(Path(__file__).parent))
import record_stack  # which finds characters.py beside this folder
from counts import equations
from muon_cost import shapes_of
from record_stack import CONTEXT, LAYERS, TURN, adamw, cooldown, line, lookahead, part, roles, start

RESULTS = Path(__file__).parent / "results" / "stack_cost.json"
WIDTH = 256  # of the language model; less of it is matrix products in narrower ones, which Muon's step is made of
STEPS, RATE, ADAM_RATE = 135, 0.04, 4e-3  # of which run this is a step
IN_A_ROW = TURN  # steps timed together
MUON, SOAP, SOAP_MUON = "Muon", "SOAP", "SOAP into Muon"
WITHOUT, STACK = "the stack without SOAP", "the stack"


# ---- the trees --------------------------------------------------------------------------------------------


def language_model():
    """(parameters, which are hidden, how many axes count layers)."""
    return jax.eval_shape(lambda: start(jax.random.key(0), WIDTH, LAYERS, CONTEXT)), roles, 1


def gpt2_small():
    """The same of GPT-2 small, 124 M parameters, each layer a tree of its own; the head is the embedding."""
    width = 768
    shapes = shapes_of("gpt2") | {"embed": (50257, width), "place": (1024, width)}
    params = jax.tree.map(partial(jax.ShapeDtypeStruct, dtype=jnp.float32), shapes, is_leaf=lambda s: type(s) is tuple)

    def hidden(params):
        named = {name: jax.tree.map(lambda p: "rest", value) for name, value in params.items()}
        return named | {"layers": jax.tree.map(lambda p: "hidden" if p.ndim == 2 else "rest", params["layers"])}

    return params, hidden, 0


TREES = {"language model": language_model, "GPT-2 small": gpt2_small}


# ---- the rows ---------------------------------------------------------------------------------------------


def beside_adamw(hidden, roles):
    return jo.partition({"hidden": hidden, "rest": adamw(ADAM_RATE, STEPS, None)}, roles)


def behind(piece):
    """Muon with one piece behind its direction."""

    def make(roles, axes):
        pieces = piece(axes)
        decay = jo.add_decayed_weights(0.01)
        hidden = jo.chain(jo.scale_by_muon(stack_axes=axes), *pieces, decay, rate())
        return beside_adamw(hidden, roles)

    return make


def rate():
    return jo.scale_by_learning_rate(line(RATE, STEPS))


def muon(roles, axes):
    return record_stack.muon(RATE, STEPS, ADAM_RATE, axes, roles)


def pinned(roles, axes):
    step = jo.pinned(line(RATE, STEPS), per="column", stack_axes=axes)
    return beside_adamw(jo.chain(jo.scale_by_muon(stack_axes=axes), step), roles)


def cautious(roles, axes):
    hidden = jo.chain(jo.scale_by_muon(stack_axes=axes), jo.add_cautious_decayed_weights(0.025), rate())
    return beside_adamw(hidden, roles)


def ahead(roles, axes):
    return jo.ema_nesterov(muon(roles, axes), lookahead(0.3, line(RATE, STEPS), STEPS), 1 - 1 / part(STEPS, 100))


def tail(roles, axes):
    return jo.chain(muon(roles, axes), jo.tail_average(part(STEPS, 150), part(STEPS, 2400), 0.6))


def cooled(roles, axes):
    hidden = jo.muon(cooldown(RATE, STEPS, 514), weight_decay=0.01, stack_axes=axes)
    return beside_adamw(hidden, roles)


def momentum(roles, axes):
    beta = jo.momentum_warmup_cooldown(STEPS, 0.85, 0.95, part(STEPS, 300), part(STEPS, 200))
    hidden = jo.muon(line(RATE, STEPS), beta=beta, weight_decay=0.01, stack_axes=axes)
    return beside_adamw(hidden, roles)


def kin(method, **words):
    """Another method for the hidden matrices."""
    return lambda roles, axes: beside_adamw(method(line(RATE, STEPS), stack_axes=axes, **words), roles)


def stack(roles, axes, **words):
    return record_stack.stack(RATE, STEPS, ADAM_RATE, stack_axes=axes, roles=roles, **words)


ROWS = {
    MUON: muon,
    "floor": behind(lambda axes: [jo.update_floor(0.3825, per="column", stack_axes=axes)]),
    "brake": behind(lambda axes: [jo.radial_brake(0.5, stack_axes=axes)]),
    "floor, brake, pin and decay": pinned,
    "cautious decay": cautious,
    "EMA-Nesterov": ahead,
    "tail average": tail,
    "power cooldown": cooled,
    "momentum that rises and falls": momentum,
    SOAP: kin(jo.soap, precondition_frequency=TURN),
    SOAP_MUON: kin(jo.soap_muon, precondition_frequency=TURN),
    "Aurora": kin(jo.aurora),
    "spectral sphere": kin(jo.spectral_sphere),
    "Muown": kin(jo.muown),
    "Dion2": kin(jo.dion2),
    "MARS around Muon": lambda roles, axes: beside_adamw(
        jo.mars(jo.muon(line(RATE, STEPS), weight_decay=0.01, stack_axes=axes), stack_axes=axes), roles
    ),
    "PolarGrad": kin(jo.polargrad),
    "ASGO": kin(jo.asgo, precondition_frequency=TURN),
    WITHOUT: partial(stack, soap=False),
    STACK: stack,
}


# ---- what is counted --------------------------------------------------------------------------------------


def product_flops(jaxpr, times=1):
    """2 m k n of each product of matrices, of each turn of a scan; of a branch, those of the dearest."""
    total = 0
    for equation in jaxpr.eqns:
        params, inner = equation.params, [*jax.extend.core.jaxprs_in_params(equation.params)]
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted) * times
        elif equation.primitive.name == "cond":
            total += max(product_flops(one, times) for one in inner)
        else:
            total += sum(product_flops(one, times * params.get("length", 1)) for one in inner)
    return total


def traced(row, tree):
    """(the traced step, its optimizer)."""
    params, hidden, axes = TREES[tree]()
    opt = ROWS[row](hidden, axes)
    state = jax.eval_shape(opt.init, params)

    def step(params, state, grads):
        updates, state = opt.update(grads, state, params)
        return jo.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1)).trace(params, state, params), opt


def counted(row, tree):
    """Equations, StableHLO operations and flops of one step."""
    step = traced(row, tree)[0]
    return {
        "equations": equations(step.jaxpr.jaxpr),
        "stablehlo": sum(" = " in text for text in step.lower().as_text().splitlines()),
        "product flops": product_flops(step.jaxpr.jaxpr),
    }


def timed(rows, rounds):
    """{row: what is counted of the compiled step, processor seconds of compiling and of a step, beside Muon's}"""
    found, made, compiling = {}, {}, {row: [] for row in rows}
    for _ in range(rounds):
        for row in random.sample(rows, len(rows)):
            jax.clear_caches()
            step, opt = traced(row, "language model")
            lowered, begun = step.lower(), time.process_time()
            made[row] = lowered.compile(), opt
            compiling[row].append(time.process_time() - begun)
    params = start(jax.random.key(0), WIDTH, LAYERS, CONTEXT)
    keys = jax.random.split(jax.random.key(1), IN_A_ROW)  # of one gradient over and over SOAP's factors are singular
    grads = [jax.tree.map(lambda p, key=key: jax.random.normal(key, p.shape), params) for key in keys]
    at = {row: (jax.tree.map(jnp.copy, params), jax.jit(opt.init)(params)) for row, (_, opt) in made.items()}
    times = {row: [] for row in rows}
    for round_ in range(2 * rounds + 1):
        for row in random.sample(rows, len(rows)):
            begun = time.process_time()
            for g in grads:
                at[row] = made[row][0](*at[row], g)
            jax.block_until_ready(at[row])
            if round_:  # the first warms up
                times[row].append((time.process_time() - begun) / IN_A_ROW)
    for row in rows:
        text, base = made[row][0].as_text(), times[MUON]
        found[row] = {
            "optimized HLO": sum(" = " in each for each in text.splitlines()), "fusions": text.count(" fusion("),
            "compile s": round(statistics.median(compiling[row]), 2),
            "step ms": round(1e3 * statistics.median(times[row]), 3),
            "step beside Muon's": round(statistics.median(a / b for a, b in zip(times[row], base, strict=True)), 2),
        }  # fmt: skip
    return found


def table(report):
    """Of each tree: a line a row, each figure beside Muon's."""
    lines = []
    for tree, rows in report["steps"].items():
        figures = [key for key in rows[MUON] if key != "step beside Muon's"]
        lines += ["", f"{tree:32}" + "".join(f"{key:>22}" for key in figures)]
        for row, own in rows.items():
            told = [f"{own[key]:>14.5g} {own[key] / rows[MUON][key]:5.2f} x" for key in figures]
            lines.append(f"{row:32}" + "".join(f"{each:>22}" for each in told))
    return "\n".join(lines[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=tuple(ROWS), metavar="ROW",
                        help="of which steps, beside Muon's; all of them by default")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="compilations of each (default: %(default)s)")
    parser.add_argument("--counts", action="store_true", help="nothing that is timed")
    parser.add_argument("--out", type=Path, help="write the report to this file, as JSON")
    args = parser.parse_args()
    if args.out and not args.out.parent.is_dir():
        parser.error(f"--out {args.out}: there is no directory {args.out.parent}")
    jax.config.update("jax_enable_compilation_cache", False)
    rows = list(dict.fromkeys([MUON, *args.rows]))
    found = {tree: {row: counted(row, tree) for row in rows} for tree in TREES}
    if not args.counts:
        for row, own in timed(rows, args.rounds).items():
            found["language model"][row] |= own
    report = {
        "steps": found,
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "device": jax.devices()[0].device_kind},
        "versions": {"python": platform.python_version(), "jax": jax.__version__, "jaxopt_ko": jo.__version__},
    }
    print(table(report))
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
