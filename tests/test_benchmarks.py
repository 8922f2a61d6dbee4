"""What the benchmarks of low precision recorded: their files, what READMEs show of them, and that they still run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]
HERE = ROOT / "examples" / "benchmarks"


def ran(name, cwd, *args):
    command = [sys.executable, "-W", "error", str(HERE / name), *map(str, args)]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def module(monkeypatch):
    """Imports a benchmark."""
    monkeypatch.syspath_prepend(HERE)
    return __import__


@pytest.fixture
def state_bytes(module):
    return module("state_bytes")


# ---- the language model in few bytes ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A quick run, and its report."""
    cwd = tmp_path_factory.mktemp("low_precision")
    run = ran("low_precision.py", cwd, "--quick", "--out", cwd / "x.json")
    assert run.returncode == 0, run.stderr
    assert [path.name for path in cwd.iterdir()] == ["x.json"]
    return run, json.loads((cwd / "x.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_quick_run_has_its_rows_and_what_it_was_made_with(quick, module):
    (run, report), low_precision = quick, module("low_precision")
    assert [line["row"] for line in report["rows"]] == list(low_precision.QUICK)
    assert report["about"]["steps"] == 24 and report["about"]["seeds"] == 1
    assert report["versions"]["jax"] == jax.__version__ and report["run"]["processor_seconds"] > 0
    assert low_precision.markdown(report) in run.stdout
    assert "100%|" in run.stderr


@pytest.mark.slow
def test_codes_with_a_master_learn_and_equal_parts_do_not(quick):
    full, packed, linear = quick[1]["rows"]
    assert full["loss"] < 3.6 < 4.57  # the logarithm of 97 characters
    assert abs(packed["difference"]) < 0.02
    assert linear["difference"] == "NaN" or linear["difference"] > 1
    assert full["resident_bytes"] == 16.0
    assert packed["resident_bytes"] < 7.5  # embeddings, a twentieth of so small a model, keep moments in float32


def test_a_missing_directory_is_refused_before_the_work(tmp_path):
    for name in ("low_precision.py", "state_bytes.py", "record_stack.py"):
        run = ran(name, tmp_path, "--out", tmp_path / "nowhere" / "x.json")
        assert run.returncode == 2 and "there is no directory" in run.stderr


@pytest.mark.slow
def test_a_quick_run_of_the_published_sets(tmp_path):
    run = ran("published_sets.py", tmp_path, "--quick", "--out", tmp_path / "x.json")
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert found["minimize"].keys() == {"newton", "bfgs"}
    for ends in [*found["minimize"].values(), {"": found["least_squares"]["standard start"]}]:
        assert all(each["of"] == 5 and each["reached"] >= 4 and each["calls"] > 5 for each in ends.values())
    assert found["regressions"]["levenberg_marquardt"]["eight_digits"] == 2


def test_the_published_sets_are_whole_and_as_the_tests_of_solvers_hold_them():
    found = json.loads((HERE / "results" / "published_sets.json").read_text(encoding="utf-8"))
    least = {"newton": 41, "newton_cg": 41, "lbfgs": 44, "bfgs": 44, "nonlinear_cg": 38}
    assert found["minimize"].keys() == least.keys()
    for name, ends in found["minimize"].items():
        assert all(each["of"] == 44 for each in ends.values()) and len(ends) == 2
        assert ends["ours"]["reached"] >= least[name] and list(ends)[1].startswith("scipy ")
    near, far = found["least_squares"].values()
    assert near["reached"] == 44 and near["calls"] <= 21 and far["of"] == 41 and far["reached"] >= 37
    fitted = found["regressions"]["levenberg_marquardt"]
    assert fitted["of"] == 27 == fitted["eight_digits"]


# ---- the record stack -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_quick_run_of_the_record_stack(tmp_path, module):
    run = ran("record_stack.py", tmp_path, "--quick", "--out", tmp_path / "x.json")
    assert run.returncode == 0, run.stderr
    own, report = module("record_stack"), json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert [line["row"] for line in report["rows"]] == list(own.QUICK) == list(report["curves"])
    assert all(line["loss"] < 4.57 for line in report["rows"])  # the logarithm of 97 characters


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_readmes_tell_of_the_record_stack_what_was_recorded(readme, module):
    own, text = module("record_stack"), (ROOT / readme).read_text(encoding="utf-8")
    told = own.paragraph(json.loads(own.RESULTS.read_text(encoding="utf-8")), "ko" if ".ko" in readme else "en")
    assert module("readme_table").renewed(text, own.MARK, told) == text, "run record_stack.py --write and both READMEs"


def test_the_record_stack_needs_less_than_half_of_adamws_steps(module):
    own = module("record_stack")
    report = json.loads(own.RESULTS.read_text(encoding="utf-8"))
    rows = {line["row"]: line for line in report["rows"]}
    assert list(rows) == list(own.ROWS) and all(len(line["losses"]) == 3 for line in rows.values())
    assert not any(line["rate_at_an_edge"] for line in rows.values())
    assert rows[own.STACK]["share_of_adamw"] <= 0.45 and rows[own.MUON]["z"] >= 3


@pytest.fixture
def recorded(module):
    return json.loads(module("low_precision").RESULTS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_readmes_show_what_was_recorded(readme, module, recorded):
    text, own = (ROOT / readme).read_text(encoding="utf-8"), module("low_precision")
    table = own.markdown(recorded, "ko" if ".ko" in readme else "en", own.IN_README)
    assert module("readme_table").renewed(text, own.MARK, table) == text, (
        "run low_precision.py --write and both READMEs"
    )


def test_the_recorded_run_is_whole_and_says_what_is_said_of_it(module, recorded):
    own = module("low_precision")
    lines = {(line["method"], line["row"]): line for line in recorded["rows"]}
    assert list(lines) == [(method, row) for method in own.METHODS for row in own.ROWS]
    assert all(len(line["losses"]) == 3 for line in lines.values())
    target, linear, half = (lines["AdamW", row] for row in (own.TARGET, own.LINEAR, "bfloat16"))
    assert abs(target["difference"]) < 0.01 and linear["loss"] == "NaN"
    assert half["difference"] > 10 * half["difference_error"]
    for row in ("stochastic_rounding", "kahan", "split_master 24", "split_master 32", "master_weights"):
        assert abs(lines["AdamW", row]["difference"]) < 0.002 and abs(lines["Muon", row]["difference"]) < 0.002


# ---- bytes ------------------------------------------------------------------------------------------------


def test_recorded_bytes_are_those_of_the_states_now(state_bytes):
    recorded = json.loads(state_bytes.RESULTS.read_text(encoding="utf-8"))
    params = jax.eval_shape(state_bytes.tree)
    count = sum(p.size for p in jax.tree.leaves(params))
    assert recorded["parameters"] == count
    now = {
        row.name: {
            way: round(state_bytes.bytes_of(jax.eval_shape(state_bytes.maker(row, way), params)) / count, 3)
            for way in state_bytes.WAYS
        }
        for row in state_bytes.rows()
    }
    assert recorded["state"] == now, "run: python examples/benchmarks/state_bytes.py --out …/results/state_bytes.json"
    smaller = [name for name, size in now.items() if size["companded8"] < 0.9 * size["float32"]]
    assert len(now) >= 55 and len(smaller) >= 40


def test_what_is_live_is_what_is_counted(state_bytes):
    params = state_bytes.tree(64, 1)
    for row in state_bytes.rows():
        if row.name in ("adamw", "muon", "soap"):
            make = state_bytes.maker(row, "four_bit")
            assert state_bytes.bytes_of(make(params)) == state_bytes.bytes_of(jax.eval_shape(make, params))


@pytest.mark.slow
def test_seven_bytes_a_parameter_are_resident_after_a_step(state_bytes):
    recorded = json.loads(state_bytes.RESULTS.read_text(encoding="utf-8"))["resident"]
    name = "AdamW, bfloat16, split_master 24, companded8"
    live = state_bytes.resident(name)
    assert live <= 7.2 and live == pytest.approx(recorded[name], abs=2e-3)
    assert recorded[f"{name}, embeddings too"] < live


def test_the_page_on_memory_has_the_recorded_bytes(state_bytes):
    """Rows of several methods: of each of them, rounded."""
    states = json.loads(state_bytes.RESULTS.read_text(encoding="utf-8"))["state"]
    page = (ROOT / "docs" / "pages" / "which" / "optimizer.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\{jo\}.*?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) >= 8
    for words, *shown in rows:
        for name in re.findall("`(.*?)`", words.replace("`sgd` with momentum", "`momentum`")):
            for way, digits in zip(state_bytes.WAYS, shown, strict=True):
                half = 0.5 * 10.0 ** -len(digits.partition(".")[2])
                assert abs(float(digits) - states[name][way]) <= half + 1e-3, (name, way)


def test_a_file_without_the_marks_is_not_written(module):
    with pytest.raises(SystemExit, match="not both there"):
        module("readme_table").renewed("no marks", "x", "table")


# ---- solvers at size --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_solvers_at_size_are_measured_and_other_rows_kept(tmp_path):
    out = tmp_path / "scale.json"
    out.write_text(json.dumps({"rows": {"another": {"ratio": 1.0}}}), encoding="utf-8")
    name = "lm, auto, 600 x 300"
    run = ran("solver_scale.py", tmp_path, "--rows", name, "--rounds", 1, "--out", out)
    assert run.returncode == 0, run.stderr
    report = json.loads(out.read_text(encoding="utf-8"))
    assert set(report["rows"]) == {"another", name} and report["versions"]["jax"] == jax.__version__
    row = report["rows"][name]
    assert row["values agree"] and row["ratio"] > 0 and f"| {name} | scipy lm | {row['ratio']} |" in run.stdout
