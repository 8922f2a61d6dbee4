"""Pieces that many families share: scaling, clipping, decay, noise, averages; and the names of optax.transforms."""

import importlib
from typing import Any

__all__ = [  # the objects of the face
    "AddNoiseState", "ApplyIfFiniteState", "ConditionFn", "ConditionallyMaskState",
    "ConditionallyTransformState", "EmaState", "MaskedNode", "MaskedState", "MonitorState", "MultiSteps",
    "MultiStepsState", "NonNegativeParamsState", "PartitionState", "ShouldSkipUpdateFunction", "SnapshotState",
    "TraceState", "ZeroNansState", "adaptive_grad_clip", "add_decayed_weights", "add_noise", "apply_if_finite",
    "chain", "clip", "clip_by_block_rms", "clip_by_global_norm", "conditionally_mask",
    "conditionally_transform", "ema", "flatten", "freeze", "keep_params_nonnegative", "masked",
    "measure_with_ema", "monitor", "named_chain", "partition", "per_example_global_norm_clip",
    "per_example_layer_norm_clip", "selective_transform", "skip_large_updates", "skip_not_finite", "snapshot",
    "trace", "unitwise_clip", "unitwise_norm", "zero_nans",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("jaxopt_ko"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
