"""From a problem to its solution: `minimize`, `least_squares`, `root`, linear and quadratic programs."""

from jaxopt_ko.drivers.least_squares import least_squares
from jaxopt_ko.drivers.minimize import minimize
from jaxopt_ko.drivers.programs import linear_program, quadratic_program
from jaxopt_ko.drivers.root import root

__all__ = [
    "least_squares", "linear_program", "minimize", "quadratic_program", "root",
]  # fmt: skip
