"""What solvers reach on published problems, beside scipy's: `python examples/benchmarks/published_sets.py`.

More, Garbow and Hillstrom's 44 instances (tests/data) from their standard starts in float64, each solver with default
settings; scipy's go on as long as these, to a gradient below the root of eps. Reached: to 1e-6 of the minimum, or of a
published local one; the unit of a value is the minimum, but 1 where it is smaller, and 1e-4 for sums of squares. Calls:
of the function, the median of all 44. scipy gets the same function with its gradient, and trust-exact and trust-krylov
its Hessian. Levenberg-Marquardt solves them as least squares, too from ten times the start where that is not zero, and
NIST's 27 regressions from both starts, to so many digits of each certified parameter. A quarter of an hour of a core
with the XLA_FLAGS of tests/conftest.py, which compile quickly; they are recorded, for they move a last digit, and so a
call, here and there. Writes results/published_sets.json, which the site's pages of the solvers show.
"""

import argparse
import json
import os
import platform
import statistics
import sys
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from tqdm import tqdm

import jaxopt_ko as jo

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from data import mgh_more, mgh_problems, nist_problems
from data.families import families

RESULTS = Path(__file__).parent / "results" / "published_sets.json"
MGH = mgh_problems.PROBLEMS + mgh_more.PROBLEMS
SOLVERS = {  # ours, and scipy's that is nearest to it
    "newton": (jo.newton, "trust-exact"), "newton_cg": (jo.newton_cg, "trust-krylov"), "lbfgs": (jo.lbfgs, "L-BFGS-B"),
    "bfgs": (jo.bfgs, "BFGS"), "nonlinear_cg": (jo.nonlinear_cg, "CG"),
}  # fmt: skip
ENDS = {  # scipy's own would end some runs a few digits too early
    "L-BFGS-B": {"gtol": 1.5e-8, "ftol": 2.3e-16, "maxiter": 5000, "maxfun": 20_000},
    "trust-exact": {"gtol": 1.5e-8, "maxiter": 5000}, "trust-krylov": {"gtol": 1.5e-8, "maxiter": 5000},
    "BFGS": {"gtol": 1.5e-8, "maxiter": 5000}, "CG": {"gtol": 1.5e-8, "maxiter": 20_000},
}  # fmt: skip
SIZES = (20, 100)  # of families: less to compile


def reached(value, problem, unit):
    """A known minimum."""
    return any(abs(value - f) <= 1e-6 * max(abs(f), unit) for f in (problem["fopt"], *problem["alt"]))


def summary(ends):
    """Of pairs (reached, calls)."""
    return {"reached": sum(good for good, _ in ends), "of": len(ends), "calls": statistics.median(n for _, n in ends)}


def minimized(method, problems=MGH):
    """Our solver."""
    ends = []
    for family in families(problems, SIZES, residuals=False):
        solve = jax.jit(lambda x, k, f=family.function: jo.minimize(f, x, method, args=(k,)))
        for k, (problem, start) in enumerate(zip(family.problems, family.starts, strict=True)):
            found = solve(jnp.asarray(start), np.int32(k))
            ends.append((reached(float(found.value), problem, 1.0), int(found.evaluations.function)))
    return summary(ends)


def scipys(method, problems=MGH):
    """scipy's, which sees a problem's own parameters alone."""
    ends, derivatives = [], {}
    for problem in problems:
        fun = lambda x, p=problem: jnp.sum(jnp.asarray(p["r"](x, jnp)) ** 2)  # noqa: E731
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            if method.startswith("trust"):
                derivatives["hess"] = jax.jit(jax.hessian(fun))
            with np.errstate(all="ignore"):
                start = np.asarray(problem["x0"], float)
                found = scipy.optimize.minimize(
                    jax.jit(fun), start, method=method, jac=jax.jit(jax.grad(fun)), options=ENDS[method], **derivatives
                )
        ends.append((reached(float(found.fun), problem, 1.0), int(found.nfev)))
    return summary(ends)


def squares(times, problems=MGH):
    """Levenberg-Marquardt from so many times the start."""
    ends, mine = [], [p for p in problems if times == 1 or np.any(p["x0"])]
    for family in families(mine, sorted({p["n"] for p in mine})):
        solve = jax.jit(lambda x, k, f=family.function: jo.least_squares(f, x, args=(k,)))
        for k, (problem, start) in enumerate(zip(family.problems, family.starts, strict=True)):
            found = solve(jnp.asarray(times * start), np.int32(k))
            ends.append((reached(2 * float(found.value), problem, 1e-4), int(found.evaluations.function)))
    return summary(ends)


def regressions(names=None):
    """NIST's: in how many do all certified parameters have eight digits, and ten, from both starts."""
    digits, calls = [], []
    for name in names or sorted(nist_problems.MODELS):
        y, x, starts, certified = nist_problems.load(name)
        solve = jax.jit(
            lambda b, name=name, x=x, y=y: jo.least_squares(lambda b: nist_problems.MODELS[name](b, x) - y, b)
        )
        ends = [solve(jnp.asarray(start)) for start in starts]
        worst = max(float(np.max(np.abs(np.asarray(end.params) / certified - 1))) for end in ends)
        digits.append(-np.log10(max(worst, 1e-11)))  # NIST certifies eleven
        calls += [int(end.evaluations.function) for end in ends]
    count = lambda least: int(np.sum(np.array(digits) >= least))  # noqa: E731
    return {"eight_digits": count(8), "ten_digits": count(9.95), "of": len(digits), "calls": statistics.median(calls)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="five problems and two solvers: does it run?")
    words = parser.parse_args()
    if not words.out.parent.is_dir():
        parser.error(f"there is no directory {words.out.parent}")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_platforms", "cpu")
    problems = [p for p in MGH if p["n"] <= 3][:5] if words.quick else MGH
    chosen = {name: SOLVERS[name] for name in (("newton", "bfgs") if words.quick else SOLVERS)}
    found = {}
    for name, (make, theirs) in tqdm(chosen.items()):
        found[name] = {"ours": minimized(make(), problems), f"scipy {theirs}": scipys(theirs, problems)}
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "versions": {name: version(name) for name in ("jax", "scipy", "numpy")} | {"python": platform.python_version()},
        "minimize": found,
        "least_squares": {"standard start": squares(1, problems), "ten times it": squares(10, problems)},
        "regressions": {"levenberg_marquardt": regressions(["Misra1a", "Thurber"] if words.quick else None)},
    }
    words.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
