"""How near each method is to its references, as the pages of methods show it: docs/data/parity.json.

python docs/parity.py          measures every row of examples/parity_table.py and writes the file, a few minutes
python docs/parity.py --check  says which rows are missing in the file, or no longer there, and measures nothing
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "data" / "parity.json"
sys.path.insert(0, str(ROOT / "examples"))


def stale() -> list[str]:
    """What is wrong with the file: rows that are missing in it, and rows that have gone."""
    import parity_table

    now = {(row.name, row.reference) for row in parity_table.rows(parity_table.tables())}
    then = {(row["name"], row["reference"]) for row in json.loads(FILE.read_text(encoding="utf-8"))}
    return [f"missing: {name} beside {other}" for name, other in sorted(now - then)] + [
        f"gone: {name} beside {other}" for name, other in sorted(then - now)
    ]


def main() -> None:
    """Measure or check."""
    import jax
    import parity_table

    if "--check" in sys.argv:
        wrong = stale()
        print("\n".join([*wrong, "Run python docs/parity.py."] if wrong else ["docs/data/parity.json is fresh."]))
        sys.exit(bool(wrong))
    parity, *others = parity_table.tables()
    rows = []
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in sorted(parity_table.rows([parity, *others]), key=lambda row: row.name):
            ours, theirs = parity_table.measured(parity, row)
            digits = lambda error: None if error is None else float(f"{error:.1e}")  # noqa: E731
            rows.append({"name": row.name, "reference": row.reference, "error": digits(ours), "optax": digits(theirs)})
    FILE.parent.mkdir(exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
