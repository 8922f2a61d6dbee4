"""What one step costs, counted and not timed: the same on any machine with the same jax. Ours beside optax's.

    python examples/benchmarks/counts.py                      # prints the table
    python examples/benchmarks/counts.py --out FILE           # and writes it as JSON
    python examples/benchmarks/counts.py --out examples/benchmarks/results/counts.json   # anew, after a change
    python examples/benchmarks/counts.py --write README.md README.ko.md   # the table of the committed file

A step is update + apply_updates, jitted, with parameters and state donated. Counted: equations of its jaxpr, those of
inner programs once for each program; operations of its StableHLO; bytes that the compiled step reads and writes, and
temporary bytes, a parameter (XLA's own estimate on CPU); bytes of state a parameter. For solvers: calls of the function
to their own end. On eight devices that XLA makes of one: collectives of a step. `tests/test_counts.py`
counts anew and compares.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import sys

if "--collectives" in sys.argv:
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.extend
import jax.numpy as jnp
import optax

import jaxopt_ko as jo

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from readme_table import written

FILE = pathlib.Path(__file__).parent / "results" / "counts.json"
MARK = "counts"  # of the table in READMEs
SHOWN = (  # in READMEs: what is counted, of which step; in English and Korean
    ("adamw, 300 leaves", "stablehlo", "AdamW, 300 leaves: operations that XLA gets",
     "AdamW, 리프 300개: XLA에 넘기는 연산 수"),
    ("ten groups, 300 leaves", "stablehlo", "ten groups of parameters: the same",
     "매개변수를 열 그룹으로 나눌 때: 연산 수"),
    ("clip and adamw, 300 leaves", "bytes accessed a parameter", "clip by norm and AdamW: bytes moved a parameter",
     "노름 클리핑과 AdamW: 매개변수당 옮기는 바이트"),
    ("muon, network", "bytes accessed a parameter", "Muon: bytes moved a parameter", "Muon: 매개변수당 옮기는 바이트"),
    ("muon, network", "temporary bytes a parameter", "Muon: temporary bytes a parameter",
     "Muon: 매개변수당 임시 메모리(바이트)"),
)  # fmt: skip
MANY = {f"w{i:03d}": (8, 8) for i in range(300)}
NET = {f"block{i}/{name}": shape for i in range(4) for name, shape in {
    "qkv": (64, 192), "out": (64, 64), "up": (64, 256), "down": (256, 64), "scale": (64,),
}.items()}  # fmt: skip

# name -> (shapes, ours, optax's or None where it has none)
STEPS = {
    "adamw, 300 leaves": (MANY, lambda: jo.adamw(1e-3), lambda: optax.adamw(1e-3)),
    "adamw, network": (NET, lambda: jo.adamw(1e-3), lambda: optax.adamw(1e-3)),
    "sgd with momentum, 300 leaves": (MANY, lambda: jo.sgd(0.1, 0.9), lambda: optax.sgd(0.1, 0.9)),
    "lion, 300 leaves": (MANY, lambda: jo.lion(1e-4), lambda: optax.lion(1e-4)),
    "clip and adamw, 300 leaves": (
        MANY,
        lambda: jo.chain(jo.clip_by_global_norm(1.0), jo.adamw(1e-3)),
        lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)),
    ),
    "ten groups, 300 leaves": (MANY, lambda: _groups(jo), lambda: _groups(optax)),
    "adafactor, network": (NET, lambda: jo.adafactor(1e-3), lambda: optax.adafactor(1e-3)),
    "muon, network": (NET, lambda: jo.muon(0.02), lambda: optax.contrib.muon(0.02)),
    "soap, network": (NET, lambda: jo.soap(3e-3), None),
    "shampoo, network": (NET, lambda: jo.shampoo(0.1), None),
    "quantized adamw, network": (NET, lambda: jo.quantized(jo.adamw(1e-3)), None),
    "split master and quantized adamw, network": (NET, lambda: jo.split_master(jo.quantized(jo.adamw(1e-3))), None),
}
SOLVERS = {"lbfgs": jo.lbfgs, "bfgs": jo.bfgs, "newton": jo.newton, "newton_cg": jo.newton_cg}


def _groups(library):
    labels = {name: f"g{i % 10}" for i, name in enumerate(MANY)}
    make = library.partition if library is jo else library.multi_transform
    return make({f"g{i}": library.adam(1e-3) for i in range(10)}, labels)


def equations(jaxpr, seen=None):
    """How many there are, those of each inner jaxpr once."""
    seen = set() if seen is None else seen
    inner = [one for equation in jaxpr.eqns for one in jax.extend.core.jaxprs_in_params(equation.params)]
    new = [one for one in inner if id(one) not in seen and not seen.add(id(one))]
    return len(jaxpr.eqns) + sum(equations(one, seen) for one in new)


def step_of(library, opt):
    """(params, state, gradients) -> (params, state)"""

    def step(params, state, grads):
        updates, state = opt.update(grads, state, params)
        return library.apply_updates(params, updates), state

    return step


def counted(library, opt, shapes, dtype=jnp.float32, compiled=True):
    """What is counted of one step."""
    params = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in shapes.items()}
    n = sum(leaf.size for leaf in params.values())
    state = jax.eval_shape(opt.init, params)
    step = step_of(library, opt)
    traced = jax.jit(step, donate_argnums=(0, 1)).trace(params, state, params)
    lowered = traced.lower()
    made = {
        "equations": equations(traced.jaxpr.jaxpr),
        "stablehlo": sum(" = " in line for line in lowered.as_text().splitlines()),
        "state bytes a parameter": round(sum(_bytes(leaf) for leaf in jax.tree.leaves(state)) / n, 3),
    }
    if compiled:
        program = lowered.compile()
        made["bytes accessed a parameter"] = round(program.cost_analysis()["bytes accessed"] / n, 2)
        made["temporary bytes a parameter"] = round(program.memory_analysis().temp_size_in_bytes / n, 2)
    return made


def _bytes(leaf):
    key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return 8 if key else leaf.size * leaf.dtype.itemsize


def steps(names=tuple(STEPS), compiled=True):
    """{name: {"ours": …, "optax": … or None}}"""
    made = {}
    for name in names:
        shapes, ours, theirs = STEPS[name]
        dtype = jnp.bfloat16 if "master" in name else jnp.float32
        made[name] = {
            "ours": counted(jo, ours(), shapes, dtype, compiled),
            "optax": None if theirs is None else counted(optax, theirs(), shapes, dtype, compiled),
        }
    return made


def rosenbrock(x):
    """The valley, in ten dimensions."""
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def evaluations():
    """{solver: calls of the function, and of the gradient, to the minimum of a valley in ten dimensions}, float64."""
    with jax.enable_x64(True):
        found = {name: jo.minimize(rosenbrock, jnp.full(10, -1.2), make()) for name, make in SOLVERS.items()}
        return {
            name: {"function": int(one.evaluations.function), "gradient": int(one.evaluations.gradient)}
            for name, one in found.items()
        }


def collectives():
    """{name: collectives of a step on eight devices, rows of every matrix cut}; run with --collectives."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def placed(shape):
        spec = jax.P("data") if len(shape) > 1 else jax.P()
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=jax.sharding.NamedSharding(mesh, spec))

    params = {name: placed(shape) for name, shape in NET.items()}
    makes = {"adamw": (jo.adamw, optax.adamw), "muon": (jo.muon, optax.contrib.muon)}
    words = r"= \S+ (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("
    made = {}
    for name, (ours, theirs) in makes.items():
        made[name] = {}
        for library, make, where in ((jo, ours, "ours"), (optax, theirs, "optax")):
            opt = make(0.01)
            state = jax.eval_shape(opt.init, params)
            with jax.set_mesh(mesh):
                text = jax.jit(step_of(library, opt)).lower(params, state, params).compile().as_text()
            made[name][where] = len(re.findall(words, text))
    return made


def markdown(found, language="en"):
    """A table of what is shown in READMEs."""
    korean = language == "ko"
    rows = [("", "jaxopt_ko", "optax"), ("---", "---:", "---:")]
    for name, key, *words in SHOWN:
        both = found["steps"][name]
        rows.append((words[korean], f"{both['ours'][key]:,}", f"{both['optax'][key]:,}"))
    exchanged = found["collectives on eight devices"]["muon"]
    words = ("Muon on eight devices: collectives a step", "장치 여덟 개에서 Muon: 스텝당 집합 통신 수")
    rows.append((words[korean], f"{exchanged['ours']:,}", f"{exchanged['optax']:,}"))
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)


def main():
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="a JSON file to write")
    parser.add_argument("--collectives", action="store_true", help="print those alone, as JSON, on eight devices")
    parser.add_argument("--write", type=pathlib.Path, nargs="+", metavar="README", help="put the table into these")
    options = parser.parse_args()
    if options.write:
        found = json.loads(FILE.read_text(encoding="utf-8"))
        written(options.write, MARK, lambda language: markdown(found, language))
        return
    if options.collectives:
        print(json.dumps(collectives()))
        return
    import subprocess  # noqa: PLC0415

    again = [sys.executable, __file__, "--collectives"]
    exchanged = json.loads(subprocess.run(again, check=True, capture_output=True, text=True).stdout)
    found = {
        "versions": {"jax": jax.__version__, "optax": optax.__version__, "python": platform.python_version()},
        "steps": steps(), "evaluations": evaluations(), "collectives on eight devices": exchanged,
    }  # fmt: skip
    for name, both in found["steps"].items():
        for key, value in both["ours"].items():
            other = "" if both["optax"] is None else f"   optax {both['optax'][key]:>10}"
            print(f"{name:44} {key:28} {value:>10}{other}")
    print(found["evaluations"])
    print(exchanged)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
