"""How a rule becomes a transformation: arithmetic over trees, hyperparameters, lifts of a rule for one array."""

from jaxopt_ko.core.evaluation import eval_params
from jaxopt_ko.core.hyperparameters import ScheduledState
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.numerics import safe_increment, safe_int32_increment, safe_norm, safe_root_mean_squares
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.stacking import MatrixAxes
from jaxopt_ko.core.transform import transform
from jaxopt_ko.core.tree import (
    bias_correction,
    global_norm,
    update_infinity_moment,
    update_moment,
    update_moment_per_elem_norm,
)
from jaxopt_ko.core.tree import map_params as tree_map_params

__all__ = [
    "MatrixAxes", "ScheduledState", "bias_correction", "eval_params", "global_norm", "leafwise", "quantizable",
    "safe_increment", "safe_int32_increment", "safe_norm", "safe_root_mean_squares", "transform", "tree_map_params",
    "update_infinity_moment", "update_moment", "update_moment_per_elem_norm",
]  # fmt: skip
