"""The table that examples/parity_table.py writes."""

import importlib.util
import pathlib
import re
import sys

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "parity_table.py"


def example():
    spec = importlib.util.spec_from_file_location("parity_table", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["parity_table"] = module  # where its NamedTuple looks for its names
    spec.loader.exec_module(module)
    return module


def test_rows_of_one_method(tmp_path, monkeypatch):
    module, out = example(), tmp_path / "table.md"
    monkeypatch.setattr(sys, "argv", ["parity_table.py", "--only", "rprop", "--out", str(out)])
    module.main()
    head, rule, *body = out.read_text(encoding="utf-8").splitlines()
    assert head == "| method | reference | variant | error | optax's error |" and set(rule) <= set("|- ")
    errors = [re.findall(r"\d\.\de[+-]\d\d", line) for line in body if line.startswith("| `rprop` |")]
    assert len(errors) >= 3  # torch, twice, and the paper
    assert all(float(ours) <= 1e-9 and float(optax) > 1 for ours, optax in errors)


def test_every_table_is_found_and_every_row_is_whole():
    module = example()
    rows = list(module.rows(module.tables()))
    assert {row.reference for row in rows} >= {"optax", "torch.optim.Rprop", "Taniguchi et al. 2024, Algorithm 2"}
    assert all("-" in row.name and row.calls for row in rows)
