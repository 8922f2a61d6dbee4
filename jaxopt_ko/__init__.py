"""Functional optimizers for JAX: every method one (init, update) pair over pytrees."""

from jaxopt_ko import data, debug, errors, loop, losses, numerics, schedules, tree, types
from jaxopt_ko.compose import (
    InjectStatefulHyperparamsState,
    MaskedState,
    PartitionState,
    apply_updates,
    chain,
    identity,
    inject_hyperparams,
    masked,
    named_chain,
    partition,
)
from jaxopt_ko.lift import leafwise, transform
from jaxopt_ko.optimizers.adadelta import ScaleByAdaDeltaState, adadelta, scale_by_adadelta
from jaxopt_ko.optimizers.adagrad import ScaleByRssState, adagrad, scale_by_rss
from jaxopt_ko.optimizers.adam import (
    ScaleByAdamState,
    ScaleByNadamState,
    adam,
    adamax,
    adamaxw,
    adamw,
    nadam,
    nadamw,
    scale_by_adam,
    scale_by_adamax,
    scale_by_nadam,
)
from jaxopt_ko.optimizers.amsgrad import ScaleByAmsgradState, amsgrad, scale_by_amsgrad
from jaxopt_ko.optimizers.rmsprop import (
    ScaleByRmsState,
    ScaleByRStdDevState,
    rmsprop,
    scale_by_rms,
    scale_by_stddev,
)
from jaxopt_ko.optimizers.sgd import sgd
from jaxopt_ko.transforms.averaging import EmaState, ema
from jaxopt_ko.transforms.clipping import clip, clip_by_global_norm, clip_by_norm
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.momentum import TraceState, trace
from jaxopt_ko.transforms.noise import AddNoiseState, add_noise
from jaxopt_ko.transforms.scaling import (
    ScaleByScheduleState,
    scale,
    scale_by_group,
    scale_by_learning_rate,
    scale_by_schedule,
    set_to_zero,
)
from jaxopt_ko.tree import global_norm
from jaxopt_ko.types import (
    EmptyState,
    GradientTransformation,
    GradientTransformationExtraArgs,
    Hyper,
    MaskedNode,
    Params,
    Schedule,
    Updates,
)

__all__ = [
    "AddNoiseState",
    "EmaState",
    "EmptyState",
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "Hyper",
    "InjectStatefulHyperparamsState",
    "MaskedNode",
    "MaskedState",
    "Params",
    "PartitionState",
    "ScaleByAdaDeltaState",
    "ScaleByAdamState",
    "ScaleByAmsgradState",
    "ScaleByNadamState",
    "ScaleByRStdDevState",
    "ScaleByRmsState",
    "ScaleByRssState",
    "ScaleByScheduleState",
    "Schedule",
    "TraceState",
    "Updates",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamaxw",
    "adamw",
    "add_decayed_weights",
    "add_noise",
    "amsgrad",
    "apply_updates",
    "chain",
    "clip",
    "clip_by_global_norm",
    "clip_by_norm",
    "data",
    "debug",
    "ema",
    "errors",
    "global_norm",
    "identity",
    "inject_hyperparams",
    "leafwise",
    "loop",
    "losses",
    "masked",
    "nadam",
    "nadamw",
    "named_chain",
    "numerics",
    "partition",
    "rmsprop",
    "scale",
    "scale_by_adadelta",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_amsgrad",
    "scale_by_group",
    "scale_by_learning_rate",
    "scale_by_nadam",
    "scale_by_rms",
    "scale_by_rss",
    "scale_by_schedule",
    "scale_by_stddev",
    "schedules",
    "set_to_zero",
    "sgd",
    "trace",
    "transform",
    "tree",
    "types",
]
