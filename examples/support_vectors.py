"""A support vector machine as a quadratic program, beside scikit-learn's: `python examples/support_vectors.py`.

min a'Qa/2 - sum(a)   with   y'a = 0,   0 <= a <= C

is the dual of the soft margin (Cortes & Vapnik 1995, Machine Learning 20): labels y = -1, 1, Q_ij = y_i y_j k(x_i,
x_j), k(x, x') = exp(-gamma |x - x'|^2). A point x is given the sign of f(x) = sum_j a_j y_j k(x_j, x) + bias. The
multipliers are the primal's unknowns: that of y'a = 0 the bias, those of a <= C the slacks max(0, 1 - y_i f(x_i)).

C is chosen by cross-validation: 13 values, each for all training points and for five folds, 78 programs in one compiled
call. A fold's points are left out by their bounds, 0 <= a <= 0. The programs run one after the other (lax.map): each
factorizes matrices so large that vmap would save nothing.

Data: scikit-learn's breast cancer data (Street, Wolberg & Mangasarian 1993, UCI), 400 points for training, 169 for
testing, standardized by the training points. Peer: LIBSVM (Chang & Lin 2011, ACM TIST 2:27) in scikit-learn's SVC. It
is made for this one kind of program, and far faster; Q it keeps in float32, which bounds how far the two agree.
"""

import argparse
import os
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more are no faster here, and far slower where cores are busy

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.svm import SVC

import jaxopt_ko as jo

TEST_POINTS = 169  # of 569
FOLDS = 5
PENALTIES = 2.0 ** np.arange(-5, 8)  # C
TOL, PEER_TOL = 1e-12, 1e-8
ZERO = 1e-6  # part of C up to which a multiplier counts as 0, and from C as C
# Okabe and Ito's colours, for every kind of colour vision
BENIGN, MALIGNANT, OTHER = "#0072B2", "#D55E00", "#009E73"


class Points(NamedTuple):
    """Standardized, with their classes."""

    x: np.ndarray  # float64[n, 30]
    y: np.ndarray  # float64[n]  1 benign, -1 malignant


class Machine(NamedTuple):
    """A dual solution."""

    a: np.ndarray  # float64[n]
    bias: float


def load():
    x, labels = load_breast_cancer(return_X_y=True)
    x, test_x, y, test_y = train_test_split(x, 2.0 * labels - 1, test_size=TEST_POINTS, random_state=0, stratify=labels)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    return Points((x - mean) / deviation, y), Points((test_x - mean) / deviation, test_y)


def kernel(x, other, gamma):
    squares = np.sum(x**2, axis=1)[:, None] + np.sum(other**2, axis=1) - 2 * x @ other.T
    return np.exp(-gamma * squares)


@jax.jit
def solve(Q, y, upper):
    return jo.quadratic_program(Q, -jnp.ones_like(y), A=y[None], b=jnp.zeros(1), bounds=(0, upper), tol=TOL)


@jax.jit
def solve_each(Q, y, uppers):
    """For bounds float64[programs, n]."""
    return jax.lax.map(lambda upper: solve(Q, y, upper), uppers)


def train(x, y, C, gamma):
    """From the points, as `peer` does it: what is timed."""
    return solve(y[:, None] * y * kernel(x, x, gamma), y, np.full(len(y), C))


def peer(x, y, C, gamma):
    """The same by LIBSVM: (machine, classifier)."""
    classifier = SVC(C=C, kernel="rbf", gamma=gamma, tol=PEER_TOL).fit(x, y)
    a = np.zeros(len(y))
    a[classifier.support_] = np.abs(classifier.dual_coef_[0])
    return Machine(a, float(classifier.intercept_[0])), classifier


def decide(machine, K, y):
    """f at the points whose kernels with the training points are K."""
    return K @ (machine.a * y) + machine.bias


def accuracy(f, y):
    return np.mean(np.sign(f) == y)


def timed(function, *args):
    start = time.perf_counter()
    result = jax.block_until_ready(function(*args))
    return result, time.perf_counter() - start


def cross_validate(Q, K, points, gamma):
    """All machines in one call: their solutions [C, 1 + fold], accuracies [C] and how far LIBSVM's f differ."""
    n, splits = len(points.y), list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(points.x, points.y))
    used = np.ones((1 + FOLDS, n))
    for row, (_, out) in zip(used[1:], splits, strict=True):
        row[out] = 0
    uppers = (PENALTIES[:, None, None] * used).reshape(-1, n)
    solutions, seconds = timed(solve_each, Q, points.y, uppers)
    table = (len(PENALTIES), 1 + FOLDS)
    solutions = jax.tree.map(lambda leaf: np.reshape(leaf, table + leaf.shape[1:]), solutions)

    right, far = np.zeros(len(PENALTIES)), 0.0
    for i, C in enumerate(PENALTIES):
        for k, (into, out) in enumerate(splits, start=1):
            machine = Machine(solutions.params[i, k], solutions.multipliers.equality[i, k, 0])
            f = decide(machine, K[out], points.y)
            _, classifier = peer(points.x[into], points.y[into], C, gamma)
            right[i] += np.sum(np.sign(f) == points.y[out]) / n
            far = max(far, np.abs(f - classifier.decision_function(points.x[out])).max())
    return solutions, seconds, right, far


def violation(machine, Q, y, C):
    """LIBSVM's measure: the widest gap between the biases that two points ask for; at a solution <= 0."""
    bias = y - y * (Q @ machine.a)
    lifts = ((y > 0) & (machine.a < C)) | ((y < 0) & (machine.a > 0))
    lowers = ((y < 0) & (machine.a < C)) | ((y > 0) & (machine.a > 0))
    return bias[lifts].max() - bias[lowers].min()


def snapped(machine, C):
    """With multipliers that are 0 or C but for the tolerance exactly so: an interior point method ends inside."""
    a = np.where(machine.a <= ZERO * C, 0, machine.a)
    return machine._replace(a=np.where(a >= (1 - ZERO) * C, C, a))


def measures(machine, Q, K, test_K, points, test, C):
    """What the table says of a machine."""
    bent = machine.a @ Q @ machine.a / 2
    dual = machine.a.sum() - bent
    primal = bent + C * np.maximum(0, 1 - points.y * decide(machine, K, points.y)).sum()
    a, _ = exact = snapped(machine, C)
    return {
        "dual objective": f"{dual:.10f}",
        "primal objective": f"{primal:.10f}",
        "duality gap": f"{primal - dual:.1e}",
        "widest violation": f"{violation(exact, Q, points.y, C):.1e}",
        "bias": f"{machine.bias:.10f}",
        "support vectors": str(np.sum(a > 0)),
        "of these at C": str(np.sum(a == C)),
        "test accuracy": f"{accuracy(decide(machine, test_K, points.y), test.y):.4f}",
    }


def draw(path, points, f, machine, C, right, trained, counts):
    """To the left the conditions of Karush, Kuhn and Tucker, to the right what C does."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")  # a Figure without pyplot needs no screen
    axes = figure.subplot_mosaic([["left", "top"], ["left", "bottom"]], width_ratios=(6, 5))
    left, top, bottom = axes["left"], axes["top"], axes["bottom"]
    component = PCA(1, svd_solver="full").fit_transform(points.x)[:, 0]
    for label, name, colour in ((1, "benign", BENIGN), (-1, "malignant", MALIGNANT)):
        mine = points.y == label
        for chosen, what, style in (
            (machine.a == 0, "a = 0", {"marker": ".", "markersize": 4, "alpha": 0.5}),
            ((machine.a > 0) & (machine.a < C), "0 < a < C", {"marker": "o", "markersize": 6, "fillstyle": "none"}),
            (machine.a == C, "a = C", {"marker": "X", "markersize": 7, "markeredgecolor": "w", "markeredgewidth": 0.5}),
        ):
            here = mine & chosen
            left.plot(component[here], f[here], color=colour, linestyle="", **style, label=f"{name}, {what}")
    for height, line in ((1, "--"), (0, "-"), (-1, "--")):
        left.axhline(height, color="0.5", linestyle=line, linewidth=1, zorder=0)
    left.set(
        xlabel="first principal component", ylabel="f(x): benign above 0", title=f"{len(f)} training points, C = {C:g}"
    )
    left.legend(ncols=2, fontsize="small")

    for values, name, colour, marker in (
        (trained, "training points", OTHER, "s"),
        (right, f"cross-validation, {FOLDS} folds", BENIGN, "o"),
    ):
        top.plot(PENALTIES, values, color=colour, marker=marker, markersize=5, label=name)
    for number, (name, marker, colour) in zip(
        counts.T, (("support vectors", "o", "k"), ("of these at C", "X", MALIGNANT)), strict=True
    ):
        bottom.plot(PENALTIES, number, color=colour, marker=marker, markersize=5, label=name)
    top.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    top.set(ylabel="accuracy", xscale="log", xticklabels=[])
    bottom.set(xlabel="C", ylabel="number", xscale="log", ylim=(0, None))
    for ax in (top, bottom):
        ax.axvline(C, color="0.5", linestyle=":", zorder=0)
        ax.grid(color="0.9")
        ax.set_axisbelow(True)
        ax.legend()
    figure.savefig(path, format="png", dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_text = "the picture to write (default: %(default)s)"
    parser.add_argument("--out", type=Path, default="support_vectors.png", help=help_text)
    args = parser.parse_args()
    if not args.out.parent.is_dir():
        parser.error(f"--out: there is no directory {args.out.parent}")
    jax.config.update("jax_enable_x64", True)

    points, test = load()
    n, features = points.x.shape
    gamma = 1 / features
    K, test_K = kernel(points.x, points.x, gamma), kernel(test.x, points.x, gamma)
    Q = points.y[:, None] * points.y * K
    solutions, seconds, right, far = cross_validate(Q, K, points, gamma)
    machines = [
        Machine(a, y[0]) for a, y in zip(solutions.params[:, 0], solutions.multipliers.equality[:, 0], strict=True)
    ]
    status, steps = solutions.status, solutions.steps
    print(
        f"{n} points of {features} features to train with, {len(test.y)} to test; gamma = 1/{features}",
        f"{np.sum(status.success)} of {status.success.size} programs converged, in {steps.min()} to {steps.max()} "
        f"steps; one call, {seconds:.1f} s with compiling",
        f"f of points left out differs from LIBSVM's by {far:.1e} at most",
        "",
        sep="\n",
    )
    trained, counts = [], []
    header = "       C  cross-validation  training  support vectors  at C"
    print(header, "-" * len(header), sep="\n")
    for C, machine, share in zip(PENALTIES, machines, right, strict=True):
        a = snapped(machine, C).a
        trained.append(accuracy(decide(machine, K, points.y), points.y))
        counts.append((np.sum(a > 0), np.sum(a == C)))
        print(f"{C:8g}  {share:16.4f}  {trained[-1]:8.4f}  {counts[-1][0]:15}  {counts[-1][1]:4}")

    # the smallest whose accuracy is within a standard error of the best (Hastie et al. 2009, section 7.10)
    best = right.max()
    which = int(np.argmax(right >= best - np.sqrt(best * (1 - best) / n)))
    C, ours = PENALTIES[which], machines[which]
    theirs, classifier = peer(points.x, points.y, C, gamma)
    _, first = timed(train, points.x, points.y, C, gamma)
    again, fit = (min(timed(how, points.x, points.y, C, gamma)[1] for _ in range(5)) for how in (train, peer))
    print(f"\nC = {C:g}, the smallest within a standard error of the best\n")
    rows = [measures(machine, Q, K, test_K, points, test, C) for machine in (ours, theirs)]
    header = f"{'':20}  {'quadratic_program':>17}  {'LIBSVM':>15}"
    print(header, "-" * len(header), sep="\n")
    for name in rows[0]:
        print(f"{name:20}  {rows[0][name]:>17}  {rows[1][name]:>15}")
    print(f"{'seconds':20}  {again:17.4f}  {fit:15.4f}", f"{'with compiling':20}  {first:17.2f}", "", sep="\n")
    f = decide(ours, K, points.y)
    slack = np.abs(solutions.multipliers.upper[which, 0] - np.maximum(0, 1 - points.y * f)).max()
    apart = np.abs(decide(ours, test_K, points.y) - classifier.decision_function(test.x)).max()
    print(
        f"f of test points differs by {apart:.1e} at most",
        f"multipliers of a <= C and slacks differ by {slack:.1e} at most",
        sep="\n",
    )
    draw(args.out, points, f, snapped(ours, C), C, right, trained, np.array(counts))
    print(f"Picture: {args.out}")


if __name__ == "__main__":
    main()
