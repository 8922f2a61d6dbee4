"""What a step costs is what was recorded: equations, operations, bytes, evaluations, within five in a hundred."""

import importlib
import json
import pathlib
import sys

import jax
import pytest

PATH = pathlib.Path(__file__).parents[1] / "examples" / "benchmarks" / "counts.py"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(PATH.parent)
    path = sys.path.copy()
    counts, stack_cost = map(importlib.import_module, ("counts", "stack_cost"))
    sys.path[:] = path
RECORDED = json.loads(counts.FILE.read_text(encoding="utf-8"))
MARGIN = 0.05 if jax.__version__ == RECORDED["versions"]["jax"] else 0.2  # another jax traces otherwise
COMPILED = {"clip and adamw, 300 leaves", "adafactor, network"}  # of which bytes are counted, too: that takes time


@pytest.mark.parametrize("name", counts.STEPS)
def test_a_step_is_no_larger_than_recorded(name):
    shapes, ours, _ = counts.STEPS[name]
    dtype = jax.numpy.bfloat16 if "master" in name else jax.numpy.float32
    made = counts.counted(counts.jo, ours(), shapes, dtype, compiled=name in COMPILED)
    said = RECORDED["steps"][name]["ours"]
    worse = {key: (value, said[key]) for key, value in made.items() if value > said[key] * (1 + MARGIN) + 0.02}
    assert not worse, f"More than is recorded. If that is meant, write it anew: see {PATH.name}"
    better = {key: (value, said[key]) for key, value in made.items() if value < said[key] * (1 - MARGIN) - 0.02}
    assert not better or MARGIN > 0.05, f"Less than is recorded: write it anew, see {PATH.name}"


def test_solvers_take_the_evaluations_that_are_recorded():
    for name, found in counts.evaluations().items():
        for key, value in found.items():
            assert abs(value - RECORDED["evaluations"][name][key]) <= max(2, 0.05 * value), (name, key, value)


def test_ours_is_less_than_optaxs_where_the_readme_says_so():
    for name, key, *_ in counts.SHOWN:
        both = RECORDED["steps"][name]
        assert both["ours"][key] < both["optax"][key]
    for both in RECORDED["collectives on eight devices"].values():
        assert both["ours"] <= both["optax"]


def test_the_record_stack_is_no_larger_than_recorded():
    """Of its own pieces, little more than Muon's and SOAP's together. Seconds are in the file, and not looked at."""
    recorded = json.loads(stack_cost.RESULTS.read_text(encoding="utf-8"))
    assert all(rows.keys() == stack_cost.ROWS.keys() for rows in recorded["steps"].values())
    said = recorded["steps"]["language model"]
    rows = (stack_cost.MUON, stack_cost.SOAP, stack_cost.WITHOUT, stack_cost.STACK)
    made = {row: stack_cost.counted(row, "language model") for row in rows}
    margin = 0.05 if jax.__version__ == recorded["versions"]["jax"] else 0.2
    for row, figures in made.items():
        for key, value in figures.items():
            assert value == pytest.approx(said[row][key], rel=margin), (row, key, "write it anew: stack_cost.py --out")
    muon, soap, without, stack = (made[row]["stablehlo"] for row in rows)
    assert without <= 1.7 * muon and stack <= 1.15 * (muon + soap)
    assert made[stack_cost.WITHOUT]["product flops"] == made[stack_cost.MUON]["product flops"]
    assert all(rows[stack_cost.SOAP_MUON]["product flops"] <= 1.5 * rows[stack_cost.SOAP]["product flops"]
               for rows in recorded["steps"].values())  # fmt: skip
