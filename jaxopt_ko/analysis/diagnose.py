"""Measurements at a point of a run that goes badly: curvature, critical points, gradient noise, lost updates.

`jaxopt_ko.debug` is for the other question, which value went wrong while a step ran.
"""

from jaxopt_ko.analysis.curvature import (
    Condition,
    CriticalPoint,
    Extremes,
    Kind,
    Spectrum,
    Trace,
    condition_number,
    critical_point,
    hessian_extremes,
    hessian_trace,
    spectral_density,
)
from jaxopt_ko.analysis.noise import NoiseScale, gradient_noise_scale
from jaxopt_ko.analysis.noise_tracking import TrackNoiseScaleState, batch_advice, noise_scale, track_noise_scale
from jaxopt_ko.analysis.skips import Skips, skips
from jaxopt_ko.wrappers.reporting import LostUpdatesState, UpdateRatioState, lost_updates, update_ratio

__all__ = [
    "Condition", "CriticalPoint", "Extremes", "Kind", "LostUpdatesState", "NoiseScale", "Skips", "Spectrum",
    "Trace", "TrackNoiseScaleState", "UpdateRatioState", "batch_advice", "condition_number", "critical_point",
    "gradient_noise_scale", "hessian_extremes", "hessian_trace", "lost_updates", "noise_scale", "skips",
    "spectral_density", "track_noise_scale", "update_ratio",
]  # fmt: skip
