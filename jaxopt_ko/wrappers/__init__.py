"""Around any transformation: accumulation, averages, guards, routing, reports."""

from jaxopt_ko.core.naming import published, suggests
from jaxopt_ko.wrappers.accumulation import (
    MultiSteps,
    MultiStepsState,
    ShouldSkipUpdateFunction,
    WeightedMultiStepsState,
    skip_large_updates,
    skip_not_finite,
)
from jaxopt_ko.wrappers.apply_every import ApplyEvery, apply_every
from jaxopt_ko.wrappers.ascent import maximize
from jaxopt_ko.wrappers.averaging import (
    AverageSnapshot,
    average_power,
    incremental_update,
    periodic_update,
    posthoc_average,
    soup,
)
from jaxopt_ko.wrappers.backward import scale_gradient
from jaxopt_ko.wrappers.cautious import CautiousState, cautious
from jaxopt_ko.wrappers.ema_nesterov import EmaNesterovState, ema_nesterov, ema_nesterov_eval_params
from jaxopt_ko.wrappers.guards import (
    ApplyIfFiniteState,
    ConditionallyMaskState,
    ConditionallyTransformState,
    ConditionFn,
    apply_if_finite,
    conditionally_mask,
    conditionally_transform,
)
from jaxopt_ko.wrappers.interop import lbfgs_from_optax, to_optax
from jaxopt_ko.wrappers.layouts import SplitRealAndImaginaryState, flatten, split_real_and_imaginary
from jaxopt_ko.wrappers.lazy import lazy_adam, lazy_rows
from jaxopt_ko.wrappers.lookahead import LookaheadParams, LookaheadState, lookahead
from jaxopt_ko.wrappers.loss_scaling import LossScalingState, loss_scale, loss_scaling
from jaxopt_ko.wrappers.magma import MagmaState, magma
from jaxopt_ko.wrappers.mars import MarsGradientState, MarsState, mars
from jaxopt_ko.wrappers.masks import freeze, selective_transform
from jaxopt_ko.wrappers.mechanic import MechanicState, mechanize
from jaxopt_ko.wrappers.plateau import ReduceLROnPlateauState, reduce_on_plateau
from jaxopt_ko.wrappers.primal_averaging import (
    GeneralizedPrimalAveragingState,
    PrimalAveragesState,
    generalized_primal_averaging,
    generalized_primal_averaging_eval_params,
)
from jaxopt_ko.wrappers.privacy import DifferentiallyPrivateAggregateState, differentially_private_aggregate, dpsgd
from jaxopt_ko.wrappers.reporting import MonitorState, SnapshotState, measure_with_ema, monitor, snapshot
from jaxopt_ko.wrappers.rollback import RollbackState, rollback
from jaxopt_ko.wrappers.routing import Group, Routed, explain, route
from jaxopt_ko.wrappers.schedule_free import (
    ScheduleFreeState,
    schedule_free,
    schedule_free_adamw,
    schedule_free_eval_params,
    schedule_free_sgd,
)
from jaxopt_ko.wrappers.sharpness import SAMState, sam
from jaxopt_ko.wrappers.spikes import SkipSpikesState, skip_spikes
from jaxopt_ko.wrappers.width import WidthFactor, WidthScaled, width_factors, width_scaled

__all__ = [
    "ApplyEvery", "ApplyIfFiniteState", "AverageSnapshot", "CautiousState", "ConditionFn", "ConditionallyMaskState",
    "ConditionallyTransformState", "DifferentiallyPrivateAggregateState", "EmaNesterovState",
    "GeneralizedPrimalAveragingState", "Group", "LookaheadParams", "LookaheadState", "LossScalingState", "MagmaState",
    "MarsGradientState", "MarsState", "MechanicState", "MonitorState", "MultiSteps", "MultiStepsState",
    "PrimalAveragesState", "ReduceLROnPlateauState", "RollbackState", "Routed", "SAMState", "ScheduleFreeState",
    "ShouldSkipUpdateFunction", "SkipSpikesState", "SnapshotState", "SplitRealAndImaginaryState",
    "WeightedMultiStepsState", "WidthFactor", "WidthScaled", "apply_every", "apply_if_finite", "average_power",
    "cautious", "conditionally_mask", "conditionally_transform", "differentially_private_aggregate", "dpsgd",
    "ema_nesterov", "ema_nesterov_eval_params", "explain", "flatten", "freeze", "generalized_primal_averaging",
    "generalized_primal_averaging_eval_params", "incremental_update", "lazy_adam", "lazy_rows", "lbfgs_from_optax",
    "lookahead", "loss_scale", "loss_scaling", "magma", "mars", "maximize", "measure_with_ema", "mechanize", "monitor",
    "periodic_update", "posthoc_average", "reduce_on_plateau", "rollback", "route", "sam", "scale_gradient",
    "schedule_free", "schedule_free_adamw", "schedule_free_eval_params", "schedule_free_sgd", "selective_transform",
    "skip_large_updates", "skip_not_finite", "skip_spikes", "snapshot", "soup", "split_real_and_imaginary", "to_optax",
    "width_factors", "width_scaled",
]  # fmt: skip

published("jaxopt_ko", globals(), __all__)
suggests(__name__, globals())
