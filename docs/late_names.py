"""The names on the package's face of rooms that are imported late: what is in each room's `__all__`, as a table.

python docs/late_names.py          writes it into jaxopt_ko/__init__.py
python docs/late_names.py --check  says whether it is as the rooms have it, and changes nothing
"""

from __future__ import annotations

import importlib
import sys
import textwrap
from pathlib import Path

FACE = Path(__file__).resolve().parent.parent / "jaxopt_ko" / "__init__.py"
ROOMS = (
    "analysis", "catalog", "drivers", "losses.top_level", "optimizers.more", "precision", "projections", "sharding",
    "solvers", "states", "training", "wrappers",
)  # fmt: skip
OFF_THE_FACE = ("analysis", "catalog", "projections", "states")  # public modules, whose names stay in them
BEGIN, END = "    # <late>\n", "    # </late>\n"


def written() -> str:
    """The source of the face, with the table as it has to be."""
    rows = []
    for room in ROOMS:
        names = () if room in OFF_THE_FACE else importlib.import_module(f"jaxopt_ko.{room}").__all__
        text = ", ".join(f'"{name}"' for name in names)
        rows.append(f'    "{room}": (),' if not names else f'    "{room}": (\n{wrapped(text)},\n    ),')
    source = FACE.read_text(encoding="utf-8")
    head, _, rest = source.partition(BEGIN)
    return head + BEGIN + "\n".join(rows) + "\n" + END + rest.partition(END)[2]


def wrapped(text: str) -> str:
    """In lines of a source."""
    return textwrap.fill(text, 118, initial_indent=" " * 8, subsequent_indent=" " * 8)


if __name__ == "__main__":
    sys.path.insert(0, str(FACE.parent.parent))
    made = written()
    if made != FACE.read_text(encoding="utf-8"):
        if "--check" in sys.argv:
            sys.exit("The table of late names is not as the rooms have it: run python docs/late_names.py")
        FACE.write_text(made, encoding="utf-8")
