"""A reader of linear and quadratic programs in MPS and QPS files, fixed or free format, and the files beside it.

A x = b from the E rows, G x <= h from the L and G rows (a G row with its sign turned) and both sides of a range.
"""

import json
import pathlib
from typing import NamedTuple

import numpy as np

FOLDER = pathlib.Path(__file__).parent
FIELDS = ((1, 3), (4, 12), (14, 22), (24, 36), (39, 47), (49, 61))  # columns of the fixed format
MAXIMIZE = ("MAX", "MAXIMIZE")


class Program(NamedTuple):
    """min x'Qx/2 + c'x with A x = b, G x <= h, lower <= x <= upper; of a maximum the signs are turned."""

    name: str
    Q: np.ndarray | None  # float[n,n], None for a linear program
    c: np.ndarray  # float[n]
    A: np.ndarray  # float[m,n]
    b: np.ndarray  # float[m]
    G: np.ndarray  # float[k,n]
    h: np.ndarray  # float[k]
    lower: np.ndarray  # float[n]
    upper: np.ndarray  # float[n]
    constant: float  # to be added to the value
    sign: float  # -1 for a maximum: the file's objective is sign * value + constant
    columns: tuple[str, ...]

    def words(self):
        """The arguments of `quadratic_program` after Q and c."""
        return {"A": self.A, "b": self.b, "G": self.G, "h": self.h, "bounds": (self.lower, self.upper)}

    def objective(self, value):
        """The file's objective for a value of the program."""
        return self.sign * float(value) + self.constant


def known(which):
    """The published results of `netlib` or `maros`: name -> {optimal_objective or status}."""
    return json.loads((FOLDER / which / "known.json").read_text())


def load(which, name):
    """One problem of `netlib` or `maros`."""
    suffix = {"netlib": "mps", "maros": "QPS"}[which]
    return read((FOLDER / which / f"{name}.{suffix}").read_text())


def read(text):
    """The program in the text of a file: free format if every line makes sense in it, else fixed."""
    try:
        return _build(_sections(text, str.split))
    except (KeyError, ValueError, IndexError):
        return _build(_sections(text, _fixed))


def _fixed(line):
    line = line.expandtabs().ljust(61)
    return [part for part in (line[a:b].strip() for a, b in FIELDS) if part]


def _sections(text, split):
    """(section, its words on the header, lines as lists of words)."""
    sections = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("*"):
            continue
        if not line[0].isspace():
            head = line.split()
            sections.append((head[0].upper(), head[1:], []))
            if head[0].upper() == "ENDATA":
                break
        else:
            sections[-1][2].append(split(line))
    return sections


def _pairs(words):
    """The (name, number) pairs after the first word, if there is one: names and numbers come in twos."""
    rest = words[len(words) % 2 :]
    return [(rest[i], float(rest[i + 1])) for i in range(0, len(rest), 2)]


def _build(sections):
    name, sign, objective, kinds, rows = "", 1.0, None, {}, {}
    columns, entries, rhs, ranges, bounds, quadratic = {}, [], {}, {}, [], []
    for section, head, lines in sections:
        if section == "NAME":
            name = " ".join(head)
        elif section == "OBJSENSE":
            sense = head or (lines[0] if lines else ["MIN"])
            sign = -1.0 if sense[0].upper() in MAXIMIZE else 1.0
        elif section == "ROWS":
            for kind, row in lines:
                if kind.upper() == "N":
                    objective = row if objective is None else objective
                    kinds[row] = "N"
                else:
                    kinds[row], rows[row] = {"E": "E", "L": "L", "G": "G"}[kind.upper()], len(rows)
        elif section == "COLUMNS":
            for words in lines:
                if len(words) > 1 and "MARKER" in words[1]:
                    continue
                j = columns.setdefault(words[0], len(columns))
                if len(words) % 2 != 1:
                    raise ValueError(words)
                entries += [(row, j, value) for row, value in _pairs(words)]
        elif section == "RHS":
            rhs.update(pair for words in lines for pair in _pairs(words))
        elif section == "RANGES":
            ranges.update(pair for words in lines for pair in _pairs(words))
        elif section == "BOUNDS":
            bounds += lines
        elif section in ("QUADOBJ", "QSECTION", "QMATRIX"):
            for words in lines:
                first = columns[words[0]]
                quadratic += [(section, first, columns[other], value) for other, value in _pairs(words)]

    n, m = len(columns), len(rows)
    c, matrix = np.zeros(n), np.zeros((m, n))
    for row, j, value in entries:
        if row == objective:
            c[j] += value
        elif kinds[row] != "N":
            matrix[rows[row], j] += value
    low, high = np.full(m, -np.inf), np.full(m, np.inf)
    for row, i in rows.items():
        value, kind = rhs.get(row, 0.0), kinds[row]
        low[i], high[i] = {"E": (value, value), "L": (-np.inf, value), "G": (value, np.inf)}[kind]
        if row in ranges:
            width = ranges[row]
            if kind == "L" or (kind == "E" and width < 0):
                low[i] = high[i] - abs(width)
            else:
                high[i] = low[i] + abs(width)
    lower, upper = _bounds(bounds, columns)
    Q = np.zeros((n, n)) if quadratic else None
    for section, i, j, value in quadratic:
        Q[i, j] += value
        if section != "QMATRIX" and i != j:
            Q[j, i] += value

    equal = low == high
    below, above = ~equal & (high < np.inf), ~equal & (low > -np.inf)
    G = np.concatenate([matrix[below], -matrix[above]])
    h = np.concatenate([high[below], -low[above]])
    Q = None if Q is None else sign * Q
    return Program(name, Q, sign * c, matrix[equal], low[equal], G, h, lower, upper, -rhs.get(objective, 0.0), sign,
                   tuple(columns))  # fmt: skip


def _bounds(lines, columns):
    lower, upper = np.zeros(len(columns)), np.full(len(columns), np.inf)
    given = set()  # columns with a lower bound of their own
    for words in lines:
        kind, *rest = words
        kind = kind.upper()
        if kind in ("FR", "MI", "PL", "BV"):
            j = columns[rest[1] if len(rest) > 1 and rest[1] in columns else rest[0]]
            value = 0.0
        else:
            j, value = columns[rest[-2]], float(rest[-1])
        if kind in ("LO", "LI"):
            lower[j] = value
            given.add(j)
        elif kind in ("UP", "UI"):
            upper[j] = value
            if value < 0 and j not in given:
                lower[j] = -np.inf  # a negative upper bound takes the lower bound 0 away
        elif kind == "FX":
            lower[j] = upper[j] = value
            given.add(j)
        elif kind == "BV":
            lower[j], upper[j] = 0.0, 1.0
        elif kind in ("FR", "MI"):
            lower[j] = -np.inf
            given.add(j)
            if kind == "FR":
                upper[j] = np.inf
        elif kind == "PL":
            upper[j] = np.inf
        else:
            raise ValueError(words)
    return lower, upper
