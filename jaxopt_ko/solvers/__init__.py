"""Methods that look at the problem itself; one file a method, over `problem` and `engine`."""

import importlib

from jaxopt_ko.core.naming import published, suggests
from jaxopt_ko.solvers.augmented import AugmentedLagrangianState, augmented_lagrangian
from jaxopt_ko.solvers.conjugate_gradient import ScaleByNonlinearCgState, nonlinear_cg, scale_by_nonlinear_cg
from jaxopt_ko.solvers.engine.descent import DescentState, descent
from jaxopt_ko.solvers.engine.nested_line_searches import (
    BacktrackingLinesearchInfo,
    ScaleByBacktrackingLinesearchState,
    ScaleByZoomLinesearchState,
    ZoomLinesearchInfo,
    scale_by_backtracking_linesearch,
    scale_by_hager_zhang_linesearch,
    scale_by_zoom_linesearch,
    value_and_grad_from_state,
)
from jaxopt_ko.solvers.engine.trust_region import TrustRegionState
from jaxopt_ko.solvers.interior_point import InteriorPointState, interior_point
from jaxopt_ko.solvers.lbfgsb import LBFGSBState, lbfgsb
from jaxopt_ko.solvers.least_squares import LeastSquaresState, gauss_newton, levenberg_marquardt
from jaxopt_ko.solvers.linear import LinearCgState, cg
from jaxopt_ko.solvers.nelder_mead import NelderMeadState, nelder_mead
from jaxopt_ko.solvers.newton import (
    ScaleByNewtonCgState,
    ScaleByNewtonState,
    newton,
    newton_cg,
    scale_by_newton,
    scale_by_newton_cg,
)
from jaxopt_ko.solvers.problem.prox import (
    prox_elastic_net,
    prox_group_lasso,
    prox_lasso,
    prox_non_negative_lasso,
    prox_non_negative_ridge,
    prox_none,
    prox_nuclear_norm,
    prox_ridge,
)
from jaxopt_ko.solvers.proximal import ProximalGradientState, keep_in, projected_gradient, proximal_gradient
from jaxopt_ko.solvers.quadratic import QuadraticState
from jaxopt_ko.solvers.quasi_newton import (
    ScaleByBfgsState,
    ScaleByLBFGSState,
    bfgs,
    lbfgs,
    scale_by_bfgs,
    scale_by_lbfgs,
)
from jaxopt_ko.solvers.spsa import SpsaState, mezo, spsa

__all__ = [
    "AugmentedLagrangianState", "BacktrackingLinesearchInfo", "DescentState", "InteriorPointState", "LBFGSBState",
    "LeastSquaresState", "LinearCgState", "NelderMeadState", "ProximalGradientState", "QuadraticState",
    "ScaleByBacktrackingLinesearchState", "ScaleByBfgsState", "ScaleByLBFGSState", "ScaleByNewtonCgState",
    "ScaleByNewtonState", "ScaleByNonlinearCgState", "ScaleByZoomLinesearchState", "SpsaState", "TrustRegionState",
    "ZoomLinesearchInfo", "augmented_lagrangian", "bfgs", "cg", "descent", "gauss_newton", "interior_point", "keep_in",
    "lbfgs", "lbfgsb", "levenberg_marquardt", "mezo", "nelder_mead", "newton", "newton_cg", "nonlinear_cg",
    "projected_gradient", "prox_elastic_net", "prox_group_lasso", "prox_lasso", "prox_non_negative_lasso",
    "prox_non_negative_ridge", "prox_none", "prox_nuclear_norm", "prox_ridge", "proximal_gradient",
    "scale_by_backtracking_linesearch", "scale_by_bfgs", "scale_by_hager_zhang_linesearch", "scale_by_lbfgs",
    "scale_by_newton", "scale_by_newton_cg", "scale_by_nonlinear_cg", "scale_by_zoom_linesearch", "spsa",
    "value_and_grad_from_state",
]  # fmt: skip

published("jaxopt_ko", globals(), __all__)
suggests(__name__, globals())
importlib.import_module("jaxopt_ko.states")  # where pickles look for what the states here are made of
