"""NIST StRD nonlinear regression (itl.nist.gov/div898/strd): the files beside this one, and their models."""

import pathlib
import re

import jax.numpy as jnp
import numpy as np

FOLDER = pathlib.Path(__file__).parent / "nist"
PI = np.pi


def chwirut(b, x):
    return jnp.exp(-b[0] * x) / (b[1] + b[2] * x)


def cosine(x, period):
    return jnp.cos(2 * PI * x / period), jnp.sin(2 * PI * x / period)


def enso(b, x):
    (c0, s0), (c1, s1), (c2, s2) = cosine(x, 12.0), cosine(x, b[3]), cosine(x, b[6])
    return b[0] + b[1] * c0 + b[2] * s0 + b[4] * c1 + b[5] * s1 + b[7] * c2 + b[8] * s2


def gauss(b, x):
    bells = b[2] * jnp.exp(-(((x - b[3]) / b[4]) ** 2)) + b[5] * jnp.exp(-(((x - b[6]) / b[7]) ** 2))
    return b[0] * jnp.exp(-b[1] * x) + bells


def cubics(b, x):
    return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def lanczos(b, x):
    return b[0] * jnp.exp(-b[1] * x) + b[2] * jnp.exp(-b[3] * x) + b[4] * jnp.exp(-b[5] * x)


def misra1a(b, x):
    return b[0] * (1 - jnp.exp(-b[1] * x))


MODELS = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
    "BoxBOD": misra1a,
    "Chwirut1": chwirut,
    "Chwirut2": chwirut,
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "ENSO": enso,
    "Eckerle4": lambda b, x: b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Gauss1": gauss,
    "Gauss2": gauss,
    "Gauss3": gauss,
    "Hahn1": cubics,
    "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos1": lanczos,
    "Lanczos2": lanczos,
    "Lanczos3": lanczos,
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * jnp.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * jnp.exp(-x * b[3]) + b[2] * jnp.exp(-x * b[4]),
    "Misra1a": misra1a,
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x: b[0] - b[1] * x[:, 0] * jnp.exp(-b[2] * x[:, 1]),  # of log y
    "Rat42": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + jnp.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - jnp.arctan(b[2] / (x - b[3])) / PI,
    "Thurber": cubics,
}


def load(name):
    """(y[m], x[m] or x[m, 2], the two starting points, the certified values)."""
    lines = (FOLDER / f"{name}.dat").read_text(encoding="ascii").splitlines()
    head = "\n".join(lines[:60])

    def table(title, columns):
        first, last = map(int, re.search(title + r"\s*\(lines\s+(\d+)\s+to\s+(\d+)\)", head).groups())
        rows = [line.split("=")[-1].split() for line in lines[first - 1 : last] if line.strip()]
        return np.array([[float(x) for x in row[:columns]] for row in rows])

    data, starts = table("Data  ", None), table("Starting Values", 3)
    y, x = (np.log(data[:, 0]), data[:, 1:]) if name == "Nelson" else (data[:, 0], data[:, 1])
    return y, x, starts[:, :2].T, starts[:, 2]
