"""From a problem to its solution: `minimize`, `least_squares`, `root`, linear and quadratic programs."""

import sys

from jaxopt_ko.core.naming import answers_at, published
from jaxopt_ko.drivers.covariance import ConfidenceBand, Covariance, confidence_band, covariance
from jaxopt_ko.drivers.curve_fit import CurveFit, curve_fit
from jaxopt_ko.drivers.global_search import BasinHoppingResult, MultistartResult, basin_hopping, multistart
from jaxopt_ko.drivers.least_squares import least_squares
from jaxopt_ko.drivers.many import least_squares_many, minimize_many
from jaxopt_ko.drivers.many_programs import quadratic_program_many
from jaxopt_ko.drivers.minimize import minimize
from jaxopt_ko.drivers.programs import linear_program, quadratic_program
from jaxopt_ko.drivers.reports import Report
from jaxopt_ko.drivers.root import root
from jaxopt_ko.solvers.quadratic import Certificate

__all__ = [
    "BasinHoppingResult", "Certificate", "ConfidenceBand", "Covariance", "CurveFit", "MultistartResult", "Report",
    "basin_hopping", "confidence_band", "covariance", "curve_fit", "least_squares", "least_squares_many",
    "linear_program", "minimize", "minimize_many", "multistart", "quadratic_program", "quadratic_program_many", "root",
]  # fmt: skip

answers_at("jaxopt_ko", {"solve": sys.modules[__name__]})
published("jaxopt_ko", globals(), __all__)
