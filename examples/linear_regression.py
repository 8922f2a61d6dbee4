"""A straight line through ten points, by every method of jaxopt_ko: `python examples/linear_regression.py`.

The points are those of a Korean course on PyTorch (lesson 5, optimization): H(x) = W x + b, the cost is the mean
squared error. The lesson's own W = 0.879 and b = -0.436 belong to a longer table, of which it prints these ten rows.
Prints one table; the line that the normal equations give stands above it.
"""

import argparse
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_ko as jo

X = np.arange(1.0, 11.0)
Y = np.array([0.94, 1.98, 2.88, 3.92, 3.96, 4.55, 5.64, 6.3, 7.44, 9.1])
START = {"W": np.zeros(()), "b": np.zeros(())}
MAX_STEPS = 20_000
COLUMNS = "{:32}  {:>7}  {:>7}  {:>10}  {:>6}  {:>9}  {:>9}  {:>8}  {}"


def residuals(line):
    return line["W"] * X + line["b"] - Y


def cost(line):
    return jnp.mean(residuals(line) ** 2)


def normal_equations():
    """The line in closed form, and the Hessian of the cost, the same everywhere."""
    A = np.stack([X, np.ones_like(X)], axis=1)
    W, b = np.linalg.solve(A.T @ A, A.T @ Y)
    return {"W": W, "b": b}, 2 / len(X) * A.T @ A


def first_order(hessian):
    """Methods that learn from one gradient a step; for the first three the Hessian tells the best constants.

    Not adamw, nadamw, adamaxw: a weight that decays ends at another line.
    """
    mu, L = np.linalg.eigvalsh(hessian)
    root = (L / mu) ** 0.5
    heavy = ((root - 1) / (root + 1)) ** 2
    ball = 4 / (L**0.5 + mu**0.5) ** 2
    # Those that divide by the size of the gradient step on at the optimum, by about the rate: it has to fall.
    falling = jo.exponential_decay(0.1, 100, 0.5)
    return {
        "gradient descent": jo.sgd(2 / (L + mu)),
        "momentum": jo.sgd(ball, momentum=heavy),
        "nesterov": jo.sgd(1 / L, momentum=(root - 1) / (root + 1), nesterov=True),
        "adagrad": jo.adagrad(0.5),
        "rmsprop": jo.rmsprop(falling),
        "rmsprop, centered, momentum": jo.rmsprop(falling, centered=True, momentum=0.9),
        "adadelta": jo.adadelta(jo.exponential_decay(100.0, 100, 0.5)),
        "adam": jo.adam(0.1),
        "adamax": jo.adamax(0.1),
        "nadam": jo.nadam(0.1),
        "amsgrad": jo.amsgrad(0.1),
    }


BETAS = ("fletcher-reeves", "polak-ribiere", "hestenes-stiefel", "dai-yuan", "hager-zhang")
SECOND_ORDER = {
    **{f"nonlinear_cg, {beta}": jo.nonlinear_cg(beta) for beta in BETAS},
    "bfgs": jo.bfgs(),
    "lbfgs": jo.lbfgs(),
    "lbfgsb": jo.lbfgsb(),
    "newton": jo.newton(),
    "newton_cg": jo.newton_cg(),
    "cg": jo.cg(),  # linear: the gradient of the cost is A x - b
}
SUMS_OF_SQUARES = {
    "gauss_newton": jo.gauss_newton(),
    "gauss_newton, line": jo.gauss_newton("line"),
    "levenberg_marquardt": jo.levenberg_marquardt(),
}


def print_row(name, solution):
    W, b = solution.params["W"], solution.params["b"]
    counts = map(int, (solution.steps, *solution.evaluations))
    numbers = (f"{W:.4f}", f"{b:.4f}", f"{cost(solution.params):.8f}")
    print(COLUMNS.format(name, *numbers, *counts, solution.status.sentence), flush=True)


def largest_difference(line, solutions):
    return max(abs(float(solution.params[name] - line[name])) for solution in solutions for name in line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    help_text = "of the first-order methods (default: %(default)s)"
    parser.add_argument("--max-steps", type=int, default=MAX_STEPS, help=help_text)
    args = parser.parse_args()
    if args.max_steps < 1:
        parser.error("--max-steps: at least one step")
    jax.config.update("jax_enable_x64", True)

    line, hessian = normal_equations()
    print(f"Normal equations: W = {line['W']:.4f}, b = {line['b']:.4f}, loss = {cost(line):.8f}", end="\n\n")
    header = COLUMNS.format("method", "W", "b", "loss", "steps", "functions", "gradients", "products", "status")
    print(header, "-" * (len(header) + 40), sep="\n")
    start = time.perf_counter()
    runs = {
        **{name: partial(jo.minimize, cost, START, method, max_steps=args.max_steps)
           for name, method in first_order(hessian).items()},
        **{name: partial(jo.minimize, cost, START, method) for name, method in SECOND_ORDER.items()},
        **{name: partial(jo.least_squares, residuals, START, method) for name, method in SUMS_OF_SQUARES.items()},
    }  # fmt: skip
    solutions = []
    for name, run in runs.items():
        solutions.append(run())
        print_row(name, solutions[-1])
    print(
        "-" * (len(header) + 40),
        "Loss: mean squared error. Gradients: or Jacobians. Products: of a Hessian with a vector; a Hessian is two.",
        f"Largest difference of a W or b from the normal equations: {largest_difference(line, solutions):.0e}.",
        f"Compiled and run in {time.perf_counter() - start:.0f} s.",
        sep="\n",
    )


if __name__ == "__main__":
    main()
