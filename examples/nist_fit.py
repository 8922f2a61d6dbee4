"""Two curves of NIST's StRD, fitted from far away, with what the fit is worth: `python examples/nist_fit.py`.

Levenberg-Marquardt from NIST's far start (Start 1): the parameters and their standard deviations beside the certified
ones, 95 % confidence intervals, and a picture, `nist_fit.png`: data, curve, residuals, 95 % confidence bands.

Data and certified values: NIST/ITL Statistical Reference Datasets, nonlinear regression, Thurber and Eckerle4,
https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml (public domain). NIST names no units; wavelengths of
400 to 500 are taken for nanometres. Eckerle4's residuals are no noise: the bell is too thin at its feet, and what the
intervals promise, they promise for errors that are independent, normal and of one size.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t as student

import jaxopt_ko as jo

LEVEL = 0.95  # of the confidence intervals
CERTIFIED_DIGITS = 11
# Okabe and Ito's colours, for every kind of colour vision
DATA, CURVE, BAND = "#000000", "#0072B2", "#56B4E9"


class Problem(NamedTuple):
    """A data set of NIST's."""

    title: str
    labels: tuple[str, str]  # of x, y
    model: Callable  # (b[n], x[m]) -> y[m]
    start: tuple[float, ...]  # NIST's Start 1
    certified: tuple[float, ...]
    deviations: tuple[float, ...]  # certified standard deviations of the parameters
    sigma: float  # certified residual standard deviation
    x: tuple[float, ...]
    y: tuple[float, ...]


class Fit(NamedTuple):
    """What came out, and how well it is known."""

    b: np.ndarray
    deviations: np.ndarray  # of b
    root: np.ndarray  # float[n,n]  C, with the covariance of b C C'
    sigma: float  # residual standard deviation
    quantile: float  # Student's t: half an interval's width, in standard deviations
    solution: jo.Solution


def cubics(b, x):
    return (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)


def bell(b, x):
    return b[0] / b[1] * jnp.exp(-0.5 * ((x - b[2]) / b[1]) ** 2)


# fmt: off
PROBLEMS = (
    Problem(
        "Thurber: mobility of electrons in a semiconductor", ("ln(density)", "electron mobility"), cubics,
        start=(1000, 1000, 400, 40, 0.7, 0.3, 0.03),
        certified=(
            1.2881396800e3, 1.4910792535e3, 5.8323836877e2, 7.5416644291e1, 9.6629502864e-1, 3.9797285797e-1,
            4.9727297349e-2,
        ),
        deviations=(
            4.6647963344, 3.9571156086e1, 2.8698696102e1, 5.5675370270, 3.1333340687e-2, 1.4984928198e-2,
            6.5842344623e-3,
        ),
        sigma=1.3714600784e1,
        x=(
            -3.067, -2.981, -2.921, -2.912, -2.840, -2.797, -2.702, -2.699, -2.633, -2.481, -2.363, -2.322, -1.501,
            -1.460, -1.274, -1.212, -1.100, -1.046, -0.915, -0.714, -0.566, -0.545, -0.400, -0.309, -0.109, -0.103,
            0.010, 0.119, 0.377, 0.790, 0.963, 1.006, 1.115, 1.572, 1.841, 2.047, 2.200,
        ),
        y=(
            80.574, 84.248, 87.264, 87.195, 89.076, 89.608, 89.868, 90.101, 92.405, 95.854, 100.696, 101.060, 401.672,
            390.724, 567.534, 635.316, 733.054, 759.087, 894.206, 990.785, 1090.109, 1080.914, 1122.643, 1178.351,
            1260.531, 1273.514, 1288.339, 1327.543, 1353.863, 1414.509, 1425.208, 1421.384, 1442.962, 1464.350,
            1468.705, 1447.894, 1457.628,
        ),
    ),
    Problem(
        "Eckerle4: circular interference transmittance", ("wavelength (nm)", "transmittance"), bell,
        start=(1, 10, 500),
        certified=(1.5543827178, 4.0888321754, 4.5154121844e2),
        deviations=(1.5408051163e-2, 4.6803020753e-2, 4.6800518816e-2),
        sigma=6.7629245447e-3,
        x=(
            400, 405, 410, 415, 420, 425, 430, 435, 436.5, 438, 439.5, 441, 442.5, 444, 445.5, 447, 448.5, 450, 451.5,
            453, 454.5, 456, 457.5, 459, 460.5, 462, 463.5, 465, 470, 475, 480, 485, 490, 495, 500,
        ),
        y=(
            0.0001575, 0.0001699, 0.0002350, 0.0003102, 0.0004917, 0.0008710, 0.0017418, 0.0046400, 0.0065895,
            0.0097302, 0.0149002, 0.0237310, 0.0401683, 0.0712559, 0.1264458, 0.2073413, 0.2902366, 0.3445623,
            0.3698049, 0.3668534, 0.3106727, 0.2078154, 0.1164354, 0.0616764, 0.0337200, 0.0194023, 0.0117831,
            0.0074357, 0.0022732, 0.0008800, 0.0004579, 0.0002345, 0.0001586, 0.0001143, 0.0000710,
        ),
    ),
)
# fmt: on


def fit(problem):
    x, y = np.float64(problem.x), np.float64(problem.y)
    solution = jo.least_squares(lambda b: problem.model(b, x) - y, np.float64(problem.start))
    free = len(y) - len(problem.start)
    sigma = float(np.sqrt(2 * solution.value / free))
    # sigma^2 (J'J)^-1 = C C' with C = sigma R^-1, J = Q R: J'J itself would lose half of the digits
    root = sigma * np.linalg.inv(np.linalg.qr(solution.state.jacobian, mode="r"))
    quantile = float(student.ppf((1 + LEVEL) / 2, free))
    return Fit(np.asarray(solution.params), np.linalg.norm(root, axis=1), root, sigma, quantile, solution)


def digits(value, certified):
    """How many digits agree: -log10 of the relative error, no more than are certified."""
    error = abs(value - certified) / abs(certified)
    return min(float(-np.log10(error)), CERTIFIED_DIGITS) if error else CERTIFIED_DIGITS


def report(problem, fit):
    solution = fit.solution
    functions, jacobians, _ = map(int, solution.evaluations)
    interval = f"{LEVEL:.0%} confidence interval".center(35)
    values = f"{'certified':>17}  digits"
    columns = f"{'parameter':>17}  {values}  {'std. deviation':>17}  {values}  {interval}".rstrip()
    print(problem.title, f"from {problem.start}", "", f"    {columns}", "-" * (len(columns) + 4), sep="\n")
    rows = zip(fit.b, problem.certified, fit.deviations, problem.deviations, strict=True)
    for i, (b, certified, s, deviation) in enumerate(rows, start=1):
        right, sure = digits(b, certified), digits(s, deviation)
        low, high = b - fit.quantile * s, b + fit.quantile * s
        print(
            f"b{i}  {b:17.10e}  {certified:17.10e}  {right:6.1f}  {s:17.10e}  {deviation:17.10e}  {sure:6.1f}  "
            f"{low:16.7e} to {high:15.7e}"
        )
    print(
        f"\nresidual standard deviation {fit.sigma:.10e}, certified {problem.sigma:.10e}",
        f"{int(solution.steps)} steps, {functions} residuals, {jacobians} Jacobians. {solution.status.sentence}",
        "",
        sep="\n",
    )


def draw(path, problems, fits):
    """A column for each problem: the curve above; below, in the same x, what it leaves."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")  # a Figure without pyplot needs no screen
    axes = figure.subplots(2, len(problems), sharex="col", height_ratios=(5, 3))
    for (top, bottom), problem, fit in zip(axes.T, problems, fits, strict=True):
        data, y = np.float64(problem.x), np.float64(problem.y)
        margin = 0.02 * np.ptp(data)
        x = np.linspace(data.min() - margin, data.max() + margin, 400)
        curve = np.asarray(problem.model(fit.b, x))
        # the mean at x is known as well as b is: its gradient by b, through the covariance
        gradient = np.asarray(jax.jacobian(problem.model)(fit.b, x))
        half = fit.quantile * np.linalg.norm(gradient @ fit.root, axis=1)
        band = {"color": BAND, "alpha": 0.5, "linewidth": 0, "label": f"{LEVEL:.0%} confidence band of the mean"}
        points = {"color": DATA, "linestyle": "", "marker": "o", "markersize": 4}

        top.fill_between(x, curve - half, curve + half, **band)
        top.plot(x, curve, color=CURVE, linewidth=1.5, label="fit")
        top.plot(data, y, **points, fillstyle="none", label="data")
        top.set(title=problem.title, ylabel=problem.labels[1])
        bottom.fill_between(x, -half, half, **band)
        bottom.axhline(0, color=CURVE, linewidth=1.5)
        bottom.plot(data, y - problem.model(fit.b, data), **points)
        bottom.set(xlabel=problem.labels[0], ylabel="data − fit", xlim=(x[0], x[-1]))
        for ax in (top, bottom):
            ax.grid(color="0.9")
            ax.set_axisbelow(True)
    axes[0, 0].legend(loc="lower right")
    figure.align_ylabels(axes[:, 0])
    figure.align_ylabels(axes[:, 1])
    figure.savefig(path, format="png", dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_text = "the picture to write (default: %(default)s)"
    parser.add_argument("--out", type=Path, default="nist_fit.png", help=help_text)
    args = parser.parse_args()
    if not args.out.parent.is_dir():
        parser.error(f"--out: there is no directory {args.out.parent}")
    jax.config.update("jax_enable_x64", True)

    fits = [fit(problem) for problem in PROBLEMS]
    for problem, result in zip(PROBLEMS, fits, strict=True):
        report(problem, result)
    draw(args.out, PROBLEMS, fits)
    print(f"Picture: {args.out}")


if __name__ == "__main__":
    main()
