"""Functional optimizers for JAX: every method one (init, update) pair over pytrees.

The names below are all that is public: each room's, and the modules that optax has, too. The rooms of `_LATE`
are imported when one of their names is asked for first.
"""

from typing import TYPE_CHECKING

from jaxopt_ko import (
    compose,
    contrib,
    core,
    errors,
    linalg,
    optimizers,
    schedules,
    transforms,
    tree_utils,
    types,
)
from jaxopt_ko.compose import *
from jaxopt_ko.core import *
from jaxopt_ko.core import numerics, tree
from jaxopt_ko.core.naming import answers_at, late, published, suggests
from jaxopt_ko.linalg import *
from jaxopt_ko.optimizers import *
from jaxopt_ko.optimizers import optimistic_adam as optimistic_adam  # deprecated, as in optax
from jaxopt_ko.schedules import cooldowns, curves
from jaxopt_ko.schedules.cooldowns import *
from jaxopt_ko.schedules.curves import *
from jaxopt_ko.transforms import *
from jaxopt_ko.types import *

if TYPE_CHECKING:  # what type checkers see of the rooms that are imported late
    from jaxopt_ko import (
        catalog,
        drivers,
        losses,
        precision,
        projections,
        sharding,
        solvers,
        states,
        training,
        wrappers,
    )
    from jaxopt_ko import drivers as solve
    from jaxopt_ko.analysis import debug, diagnose, landscapes, second_order
    from jaxopt_ko.drivers import *
    from jaxopt_ko.linalg import sparse
    from jaxopt_ko.losses import convex_kl_divergence
    from jaxopt_ko.losses.top_level import *
    from jaxopt_ko.optimizers.more import *
    from jaxopt_ko.precision import *
    from jaxopt_ko.sharding import *
    from jaxopt_ko.solvers import *
    from jaxopt_ko.training import *
    from jaxopt_ko.training import data, microbatching, normalization
    from jaxopt_ko.training import fit as loop
    from jaxopt_ko.wrappers import *

__version__ = "0.2.0"

# room -> its names, written by `python docs/late_names.py` from the room's own `__all__`
_LATE: dict[str, tuple[str, ...]] = {
    # <late>
    "analysis": (),
    "catalog": (),
    "drivers": (
        "BasinHoppingResult", "Certificate", "ConfidenceBand", "Covariance", "CurveFit", "MultistartResult", "Report",
        "basin_hopping", "confidence_band", "covariance", "curve_fit", "least_squares", "least_squares_many",
        "linear_program", "minimize", "minimize_many", "multistart", "quadratic_program", "quadratic_program_many",
        "root",
    ),
    "losses.top_level": (
        "cosine_distance", "cosine_similarity", "ctc_loss", "ctc_loss_with_forward_probs",
        "generalized_kl_divergence", "hinge_loss", "huber_loss", "kl_divergence", "l2_loss", "log_cosh",
        "mean_squared_error", "ntxent", "safe_softmax_cross_entropy", "sigmoid_binary_cross_entropy",
        "sigmoid_focal_loss", "smooth_labels", "softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels",
        "squared_error",
    ),
    "optimizers.more": (
        "COCOBState", "DAdaptAdamWState", "DAdaptLionState", "DAdaptSgdState", "DoGState", "DoWGState", "FtrlState",
        "GaLoreDimensionNumbers", "GaLoreState", "MomoAdamState", "MomoState", "MuownState", "ProdigyState",
        "ScaleByAdaMuonState", "ScaleByAdamMiniState", "ScaleByAggmoState", "ScaleByApolloState", "ScaleByAsgoState",
        "ScaleByAuroraState", "ScaleByCameState", "ScaleByCondaState", "ScaleByDion2State", "ScaleByDionState",
        "ScaleByDistanceOverGradientsState", "ScaleByFiraState", "ScaleByKlShampooState", "ScaleByKlSoapState",
        "ScaleByKronState", "ScaleByLapropState", "ScaleByNorMuonState", "ScaleByPolarGradState", "ScaleByQhmState",
        "ScaleBySplusState", "ScaleByStableSpamState", "ScaleByTamState", "ScheduleFreePlusState", "SophiaState",
        "SpectralSphereState", "adabound", "adam_mini", "adamp", "adamuon", "aggmo", "apollo", "asgo", "aurora",
        "came", "cocob", "conda", "dadapt_adamw", "dadapt_lion", "dadapt_sgd", "dion", "dion2", "dog", "dowg", "fira",
        "ftrl", "galore", "grams", "kl_shampoo", "kl_soap", "laprop", "momo", "momo_adam", "muown", "normuon",
        "polargrad", "prodigy", "psgd_kron", "qhadam", "qhm", "scale_by_adam_mini", "scale_by_adamp",
        "scale_by_adamuon", "scale_by_aggmo", "scale_by_apollo", "scale_by_asgo", "scale_by_aurora", "scale_by_came",
        "scale_by_cocob", "scale_by_conda", "scale_by_dion", "scale_by_dion2", "scale_by_distance_over_gradients",
        "scale_by_dog", "scale_by_dowg", "scale_by_fira", "scale_by_galore", "scale_by_grams", "scale_by_kl_shampoo",
        "scale_by_kl_soap", "scale_by_kron", "scale_by_laprop", "scale_by_lmo", "scale_by_normuon",
        "scale_by_polargrad", "scale_by_qhadam", "scale_by_qhm", "scale_by_sgdp", "scale_by_sophia", "scale_by_spam",
        "scale_by_splus", "scale_by_stable_adam", "scale_by_stable_spam", "scale_by_tam", "schedule_free_plus",
        "scion", "sgdp", "sophia", "spam", "spectral_sphere", "splus", "stable_adamw", "stable_spam", "tam",
    ),
    "precision": (
        "KahanState", "MasterWeightsState", "Quantized", "QuantizedState", "SplitMasterState",
        "StochasticRoundingState", "dequantized", "kahan", "master_params", "master_weights", "quantized",
        "split_master", "stochastic_rounding", "with_master",
    ),
    "projections": (),
    "sharding": (
        "explain_shardings", "load_state", "place", "state_dict", "state_shardings",
    ),
    "solvers": (
        "AugmentedLagrangianState", "BacktrackingLinesearchInfo", "DescentState", "InteriorPointState", "LBFGSBState",
        "LeastSquaresState", "LinearCgState", "NelderMeadState", "ProximalGradientState", "QuadraticState",
        "ScaleByBacktrackingLinesearchState", "ScaleByBfgsState", "ScaleByLBFGSState", "ScaleByNewtonCgState",
        "ScaleByNewtonState", "ScaleByNonlinearCgState", "ScaleByZoomLinesearchState", "SpsaState",
        "TrustRegionState", "ZoomLinesearchInfo", "augmented_lagrangian", "bfgs", "cg", "descent", "gauss_newton",
        "interior_point", "keep_in", "lbfgs", "lbfgsb", "levenberg_marquardt", "mezo", "nelder_mead", "newton",
        "newton_cg", "nonlinear_cg", "projected_gradient", "prox_elastic_net", "prox_group_lasso", "prox_lasso",
        "prox_non_negative_lasso", "prox_non_negative_ridge", "prox_none", "prox_nuclear_norm", "prox_ridge",
        "proximal_gradient", "scale_by_backtracking_linesearch", "scale_by_bfgs", "scale_by_hager_zhang_linesearch",
        "scale_by_lbfgs", "scale_by_newton", "scale_by_newton_cg", "scale_by_nonlinear_cg",
        "scale_by_zoom_linesearch", "spsa", "value_and_grad_from_state",
    ),
    "states": (),
    "training": (
        "BatchNorm", "BatchNormParams", "BatchNormState", "CoordinateCheck", "batch_norm", "coordinate_check",
        "microbatch", "multi_normal",
    ),
    "wrappers": (
        "ApplyEvery", "ApplyIfFiniteState", "AverageSnapshot", "CautiousState", "ConditionFn",
        "ConditionallyMaskState", "ConditionallyTransformState", "DifferentiallyPrivateAggregateState",
        "EmaNesterovState", "GeneralizedPrimalAveragingState", "Group", "LookaheadParams", "LookaheadState",
        "LossScalingState", "MagmaState", "MarsGradientState", "MarsState", "MechanicState", "MonitorState",
        "MultiSteps", "MultiStepsState", "PrimalAveragesState", "ReduceLROnPlateauState", "RollbackState", "Routed",
        "SAMState", "ScheduleFreeState", "ShouldSkipUpdateFunction", "SkipSpikesState", "SnapshotState",
        "SplitRealAndImaginaryState", "WeightedMultiStepsState", "WidthFactor", "WidthScaled", "apply_every",
        "apply_if_finite", "average_power", "cautious", "conditionally_mask", "conditionally_transform",
        "differentially_private_aggregate", "dpsgd", "ema_nesterov", "ema_nesterov_eval_params", "explain", "flatten",
        "freeze", "generalized_primal_averaging", "generalized_primal_averaging_eval_params", "incremental_update",
        "lazy_adam", "lazy_rows", "lbfgs_from_optax", "lookahead", "loss_scale", "loss_scaling", "magma", "mars",
        "maximize", "measure_with_ema", "mechanize", "monitor", "periodic_update", "posthoc_average",
        "reduce_on_plateau", "rollback", "route", "sam", "scale_gradient", "schedule_free", "schedule_free_adamw",
        "schedule_free_eval_params", "schedule_free_sgd", "selective_transform", "skip_large_updates",
        "skip_not_finite", "skip_spikes", "snapshot", "soup", "split_real_and_imaginary", "to_optax", "width_factors",
        "width_scaled",
    ),
    # </late>
}  # fmt: skip
_PATHS = {  # public module -> where it stands
    "catalog": "catalog", "data": "training.data", "debug": "analysis.debug", "diagnose": "analysis.diagnose",
    "landscapes": "analysis.landscapes", "loop": "training.fit", "losses": "losses",
    "microbatching": "training.microbatching", "normalization": "training.normalization",
    "projections": "projections", "second_order": "analysis.second_order", "sharding": "sharding",
    "solve": "drivers", "sparse": "linalg.sparse", "states": "states",
}  # fmt: skip
_DEPRECATED = {"losses": ("convex_kl_divergence",)}  # as in optax; not in __all__

__all__ = [
    "catalog", "contrib", "data", "debug", "diagnose", "errors", "landscapes", "loop", "losses", "microbatching",
    "normalization", "numerics", "projections", "schedules", "second_order", "sharding", "solve", "sparse", "states",
    "transforms", "tree", "tree_utils", "types",
]  # fmt: skip
__all__ += compose.__all__
__all__ += core.__all__
__all__ += cooldowns.__all__
__all__ += curves.__all__
__all__ += linalg.__all__
__all__ += optimizers.__all__
__all__ += transforms.__all__
__all__ += types.__all__

answers_at(__name__, {"numerics": numerics, "tree": tree})
for _room in (compose, core, errors, linalg, optimizers, schedules, transforms, types):
    suggests(_room.__name__, vars(_room))
published(__name__, globals(), [name for name in __all__ if name in globals()])

if TYPE_CHECKING:
    __all__ += drivers.__all__  # type: ignore[has-type]
    __all__ += losses.top_level.__all__  # type: ignore[has-type]
    __all__ += optimizers.more.__all__  # type: ignore[has-type]
    __all__ += precision.__all__  # type: ignore[has-type]
    __all__ += sharding.__all__  # type: ignore[has-type]
    __all__ += solvers.__all__  # type: ignore[has-type]
    __all__ += training.__all__  # type: ignore[has-type]
    __all__ += wrappers.__all__  # type: ignore[has-type]
else:  # hidden: for a type checker `__getattr__` would be every name
    __all__ += [name for names in _LATE.values() for name in names]
    __getattr__, __dir__ = late(__name__, globals(), _LATE | _DEPRECATED, _PATHS)
