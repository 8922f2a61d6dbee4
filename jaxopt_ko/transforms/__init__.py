"""Pieces that many families share: scaling, clipping, decay, noise, averages; and the names of optax.transforms."""

from typing import Any

from jaxopt_ko.core.naming import of_the_face
from jaxopt_ko.transforms.adaptive_clipping import AdagcState, ZclipState, adagc, zclip
from jaxopt_ko.transforms.averaging import (
    AverageParamsState,
    EmaState,
    PowerAverageState,
    TailAverageState,
    average_params,
    averaged_params,
    ema,
    tail_average,
    tail_averaged_params,
)
from jaxopt_ko.transforms.centering import centralize
from jaxopt_ko.transforms.clipping import (
    adaptive_grad_clip,
    clip,
    clip_by_block_rms,
    clip_by_global_norm,
    clip_by_norm,
    per_example_global_norm_clip,
    per_example_layer_norm_clip,
    unitwise_clip,
    unitwise_norm,
)
from jaxopt_ko.transforms.constraints import ZeroNansState, keep_params_nonnegative, zero_nans
from jaxopt_ko.transforms.decay import (
    WeightDecaySchedule,
    add_cautious_decayed_weights,
    add_corrected_decayed_weights,
    add_decayed_weights,
    independent_weight_decay,
)
from jaxopt_ko.transforms.hutchinson import HutchinsonState, hutchinson_estimator_diag_hessian
from jaxopt_ko.transforms.hyperball import HyperballState, hyperball
from jaxopt_ko.transforms.momentum import TraceState, trace
from jaxopt_ko.transforms.noise import AddNoiseState, add_noise
from jaxopt_ko.transforms.normalizing import normalize, normalize_by_update_norm
from jaxopt_ko.transforms.qk_clip import QKHeads, qk_clip
from jaxopt_ko.transforms.radius import PinnedState, pinned, radial_brake, relative_update, update_floor
from jaxopt_ko.transforms.rates import learning_rate, learning_rates, step_count
from jaxopt_ko.transforms.scaling import (
    ScaleByScheduleState,
    scale,
    scale_by_group,
    scale_by_learning_rate,
    scale_by_schedule,
    set_to_zero,
)
from jaxopt_ko.transforms.snapshots import LawaState, SwaState, lawa, swa
from jaxopt_ko.transforms.trust_ratio import scale_by_param_block_norm, scale_by_param_block_rms, scale_by_trust_ratio

__all__ = [
    "AdagcState", "AddNoiseState", "AverageParamsState", "EmaState", "HutchinsonState", "HyperballState", "LawaState",
    "PinnedState", "PowerAverageState", "QKHeads", "ScaleByScheduleState", "SwaState", "TailAverageState", "TraceState",
    "WeightDecaySchedule", "ZclipState", "ZeroNansState", "adagc", "adaptive_grad_clip", "add_cautious_decayed_weights",
    "add_corrected_decayed_weights", "add_decayed_weights", "add_noise", "average_params", "averaged_params",
    "centralize", "clip", "clip_by_block_rms", "clip_by_global_norm", "clip_by_norm", "ema",
    "hutchinson_estimator_diag_hessian", "hyperball", "independent_weight_decay", "keep_params_nonnegative", "lawa",
    "learning_rate", "learning_rates", "normalize", "normalize_by_update_norm", "per_example_global_norm_clip",
    "per_example_layer_norm_clip", "pinned", "qk_clip", "radial_brake", "relative_update", "scale", "scale_by_group",
    "scale_by_learning_rate", "scale_by_param_block_norm", "scale_by_param_block_rms", "scale_by_schedule",
    "scale_by_trust_ratio", "set_to_zero", "step_count", "swa", "tail_average", "tail_averaged_params", "trace",
    "unitwise_clip", "unitwise_norm", "update_floor", "zclip", "zero_nans",
]  # fmt: skip
_ELSEWHERE = (  # what optax.transforms has and other rooms make
    "ApplyIfFiniteState", "ConditionFn", "ConditionallyMaskState", "ConditionallyTransformState", "MaskedNode",
    "MaskedState", "MonitorState", "MultiSteps", "MultiStepsState", "NonNegativeParamsState", "PartitionState",
    "ShouldSkipUpdateFunction", "SnapshotState", "apply_if_finite", "chain", "conditionally_mask",
    "conditionally_transform", "flatten", "freeze", "masked", "measure_with_ema", "monitor", "named_chain",
    "partition", "selective_transform", "skip_large_updates", "skip_not_finite", "snapshot",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    return of_the_face(__name__, name, _ELSEWHERE)


def __dir__() -> list[str]:
    return [*globals(), *_ELSEWHERE]
