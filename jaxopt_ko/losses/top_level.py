"""The losses that optax has at its top level, too."""

from jaxopt_ko.losses.classification import (
    generalized_kl_divergence,
    kl_divergence,
    safe_softmax_cross_entropy,
    sigmoid_binary_cross_entropy,
    sigmoid_focal_loss,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from jaxopt_ko.losses.margins import hinge_loss
from jaxopt_ko.losses.regression import huber_loss, l2_loss, log_cosh, mean_squared_error, squared_error
from jaxopt_ko.losses.sequences import ctc_loss, ctc_loss_with_forward_probs
from jaxopt_ko.losses.similarity import cosine_distance, cosine_similarity, ntxent

__all__ = [
    "cosine_distance", "cosine_similarity", "ctc_loss", "ctc_loss_with_forward_probs", "generalized_kl_divergence",
    "hinge_loss", "huber_loss", "kl_divergence", "l2_loss", "log_cosh", "mean_squared_error", "ntxent",
    "safe_softmax_cross_entropy", "sigmoid_binary_cross_entropy", "sigmoid_focal_loss", "smooth_labels",
    "softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels", "squared_error",
]  # fmt: skip
