"""Mean-variance portfolios and their efficient frontier in one vmapped call: `python examples/portfolio.py`.

min w'Sw/2   with   sum(w) = 1,   m'w = r,   w >= 0

for 201 target returns r (Markowitz 1952, Portfolio Selection, J. Finance 7): m are the means, S the covariances of
eight assets' returns, and no asset is sold short. Beside them the portfolio of least variance, without the row of the
return, and the one of the largest Sharpe ratio (m'w - f) / sqrt(w'Sw): w = v / sum(v) with

min v'Sv/2   with   (m - f)'v = 1,   v >= 0

(Cornuejols & Tütüncü 2007, Optimization Methods in Finance, section 8.2; f: the return without risk). The multiplier y
of m'w = r is a price: -y = d(w'Sw/2)/dr, and -y / risk is the slope of the frontier.

Data: monthly prices from September 2004 to June 2022 in Stocks.csv, which comes with matplotlib (from Yahoo Finance).
Those of companies are adjusted for dividends; the S&P 500 counts without. The companies are known to have done well:
the picture is one of the past, and no advice.
"""

import argparse
import csv
import os
import time
from pathlib import Path

os.environ.setdefault("NPROC", "16")  # with a pool of two threads, XLA's batched factorizations on CPU may wait forever

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import jaxopt_ko as jo

SINCE = "2004-09-01"  # Google's first month
MONTHS = 12  # in a year
RISKLESS = 0.012  # a year's return without risk, about that of US Treasury bills in these years
TARGETS = 201
TOL = 1e-12  # a thousandth of the default, for more digits of the multipliers
# column of the file: (name, one of Okabe and Ito's colours, for every kind of colour vision)
ASSETS = {
    "^GSPC": ("S&P 500", "#999999"),
    "IBM": ("IBM", "#0072B2"),
    "XRX": ("Xerox", "#000000"),
    "MSFT": ("Microsoft", "#56B4E9"),
    "GOOGL": ("Google", "#009E73"),
    "ADBE": ("Adobe", "#CC79A7"),
    "AMZN": ("Amazon", "#E69F00"),
    "AAPL": ("Apple", "#D55E00"),
}
NAMES = [name for name, _ in ASSETS.values()]


def load():
    """Monthly returns, float64[months, assets]."""
    with Path(get_sample_data("Stocks.csv", asfileobj=False)).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    months = [row for row in rows if row["Date"] >= SINCE and row["Date"].endswith("-01")]  # others: dividends
    prices = np.float64([[row[asset] for asset in ASSETS] for row in months])
    return prices[1:] / prices[:-1] - 1


def least_risk(m, S, target=None):
    """The portfolio of least variance, among all or among those of a target return."""
    A, b = jnp.ones((1, m.size)), jnp.ones(1)
    if target is not None:
        A, b = jnp.vstack([A, m]), jnp.append(b, target)
    return jo.quadratic_program(S, jnp.zeros_like(m), A=A, b=b, bounds=(0, None), tol=TOL)


def largest_sharpe_ratio(m, S):
    """The solution v; the portfolio is v / sum(v)."""
    A, b = (m - RISKLESS)[None], jnp.ones(1)
    return jo.quadratic_program(S, jnp.zeros_like(m), A=A, b=b, bounds=(0, None), tol=TOL)


@jax.jit
def frontier(m, S, targets):
    """Solutions for all target returns, and the derivatives of their values by these."""

    def value(target):
        solution = least_risk(m, S, target)
        return solution.value, solution

    gradients, solutions = jax.vmap(jax.grad(value, has_aux=True))(targets)
    return solutions, gradients


def worst(kkt):
    return float(np.max([np.max(residual) for residual in kkt]))


def print_portfolios(portfolios, m, S):
    header = f"{'portfolio':22}  return    risk  Sharpe  " + "".join(f"{name:>10}" for name in NAMES)
    print(header, "-" * len(header), sep="\n")
    for name, w in portfolios.items():
        mean, risk = m @ w, np.sqrt(w @ S @ w)
        weights = "".join(f"{100 * weight:10.2f}" for weight in w)
        print(f"{name:22}  {100 * mean:6.2f}  {100 * risk:6.2f}  {(mean - RISKLESS) / risk:6.3f}  {weights}")
    print()


def print_checks(targets, risks, prices, gradients, least_return):
    above = targets >= least_return
    up, down = np.diff(risks[above]), -np.diff(risks[~above])
    secants = np.diff(risks**2 / 2) / np.diff(targets)
    between = (prices[:-1] < secants) & (secants < prices[1:])
    inside = slice(1, -1)  # at the ends there is but one portfolio, and more than one multiplier
    print(
        f"risk rises at {np.sum(up > 0)} of {len(up)} steps above the least variance, by {up.min():.3e} at least, and "
        f"falls at {np.sum(down > 0)} of {len(down)} below, by {down.min():.3e} at least",
        f"second differences of the risk are at least {np.diff(risks, 2).min():.3e}: above 0, it is convex",
        f"{between.sum()} of {len(between)} secants of w'Sw/2 lie between the multipliers at their ends",
        f"multipliers and derivatives differ by {np.abs(prices - gradients)[inside].max():.1e} at most",
        sep="\n",
    )


def draw(path, m, S, targets, weights, risks, least, best):
    """Return upwards in both panels: to the left against risk, to the right what the portfolios consist of."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")  # a Figure without pyplot needs no screen
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(6, 5))
    (least_return, lowest), (best_return, best_risk) = ((m @ w, np.sqrt(w @ S @ w)) for w in (least, best))
    efficient = targets >= least_return

    top = 1.12 * m.max()
    slope = (best_return - RISKLESS) / best_risk
    line = {"color": "0.6", "linewidth": 1, "zorder": 1}
    left.plot([0, (top - RISKLESS) / slope], [RISKLESS, top], **line, label="best mix with what has no risk")
    left.plot(risks, targets, color="0.3", linestyle=":", linewidth=1.5, label="least risk for its return")
    left.plot(risks[efficient], targets[efficient], color="k", linewidth=2.5, label="efficient frontier")
    for (name, colour), mean, risk in zip(ASSETS.values(), m, np.sqrt(np.diag(S)), strict=True):
        left.plot(risk, mean, color=colour, marker="o", markersize=8, linestyle="")
        beside = {"xytext": (-12, -3), "ha": "right"} if name == "S&P 500" else {"xytext": (7, 0)}
        left.annotate(name, (risk, mean), **beside, textcoords="offset points", va="center")
    mark = {"color": "k", "markeredgewidth": 1.5, "linestyle": "", "zorder": 3}
    left.plot(lowest, least_return, **mark, marker="D", markersize=13, fillstyle="none", label="least variance")
    left.plot(
        best_risk, best_return, **mark, marker="*", markersize=15, markerfacecolor="w", label="largest Sharpe ratio"
    )
    left.set_title("Monthly returns, October 2004 to June 2022", fontsize="medium")
    left.set(xlabel="risk: standard deviation, a year", ylabel="mean return, a year", xlim=(0, 0.44), ylim=(0, top))
    left.legend(loc="upper left", fontsize="small")
    left.grid(color="0.9")
    left.set_axisbelow(True)

    edges = np.cumsum(np.pad(weights[efficient], ((0, 0), (1, 0))), axis=1)
    for (name, colour), low, high in zip(ASSETS.values(), edges.T[:-1], edges.T[1:], strict=True):
        if np.any(high - low > 1e-3):
            right.fill_betweenx(targets[efficient], low, high, color=colour, linewidth=0, label=name)
    right.axhline(best_return, color="k", linewidth=1)
    right.plot(0.03, best_return, **mark, marker="*", markersize=15, markerfacecolor="w")
    right.legend(loc="lower center", ncols=3, frameon=False)
    right.set(xlabel="weights along the efficient frontier", xlim=(0, 1))
    for ax in (left, right):
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    figure.savefig(path, format="png", dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_text = "the picture to write (default: %(default)s)"
    parser.add_argument("--out", type=Path, default="portfolio.png", help=help_text)
    args = parser.parse_args()
    if not args.out.parent.is_dir():
        parser.error(f"--out: there is no directory {args.out.parent}")
    jax.config.update("jax_enable_x64", True)

    returns = load()
    m, S = MONTHS * returns.mean(axis=0), MONTHS * np.cov(returns, rowvar=False)
    least, sharpe = least_risk(m, S), largest_sharpe_ratio(m, S)
    best = np.asarray(sharpe.params / sharpe.params.sum())
    # two targets more: what the multipliers are there is known
    targets = np.append(np.linspace(m.min(), m.max(), TARGETS), [m @ least.params, m @ best])
    start = time.perf_counter()
    jax.block_until_ready(frontier(m, S, targets))
    compiled = time.perf_counter()
    solutions, gradients = jax.device_get(frontier(m, S, targets))
    again = time.perf_counter()

    print(f"{len(returns)} monthly returns of {len(m)} assets, in percent a year; {RISKLESS:.1%} without risk\n")
    portfolios = dict(zip(NAMES, np.eye(len(m)), strict=True))
    portfolios |= {"least variance": np.asarray(least.params), "largest Sharpe ratio": best}
    for i in range(0, TARGETS, (TARGETS - 1) // 5):
        portfolios[f"return of {100 * targets[i]:.4f}"] = solutions.params[i]
    print_portfolios(portfolios, m, S)

    good = int(np.sum(solutions.status.success)) + int(least.status.success) + int(sharpe.status.success)
    residual = max(worst(solution.kkt) for solution in (solutions, least, sharpe))
    print(
        f"{good} of {len(targets) + 2} programs converged, {solutions.steps.max()} steps at most; "
        f"largest residual of the conditions {residual:.1e}",
        f"{len(targets)} of them with their derivatives in one call: {compiled - start:.1f} s with compiling, "
        f"{again - compiled:.2f} s again",
        "",
        sep="\n",
    )

    prices, risks = -solutions.multipliers.equality[:, 1], np.sqrt(2 * solutions.value)
    least_slope, best_slope = (prices / risks)[TARGETS:]
    line = np.sqrt(best @ S @ best) / (m @ best - RISKLESS)
    targets, weights, prices, risks, gradients = (
        every[:TARGETS] for every in (targets, solutions.params, prices, risks, gradients)
    )
    print_checks(targets, risks, prices, gradients, m @ least.params)
    print(
        f"slope at the least variance {least_slope:.10f}, 0 in theory",
        f"slope at the largest Sharpe ratio {best_slope:.10f}, that of the line from {RISKLESS:.1%} without risk "
        f"{line:.10f}",
        sep="\n",
    )
    draw(args.out, m, S, targets, weights, risks, least.params, best)
    print(f"Picture: {args.out}")


if __name__ == "__main__":
    main()
