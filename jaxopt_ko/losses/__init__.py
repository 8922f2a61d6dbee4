"""Losses of a model's outputs, element by element or as one mean; none of them broadcasts its arguments.

All compute in float32 at least and return what they computed in: a float16 does not hold the square of 300.
"""

from jaxopt_ko.core.naming import published, suggests
from jaxopt_ko.losses import top_level
from jaxopt_ko.losses.classification import (
    convex_kl_divergence,
    generalized_kl_divergence,
    kl_divergence,
    kl_divergence_with_log_targets,
    poly_loss_cross_entropy,
    safe_softmax_cross_entropy,
    sigmoid_binary_cross_entropy,
    sigmoid_focal_loss,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
)
from jaxopt_ko.losses.margins import (
    hinge_loss,
    make_fenchel_young_loss,
    multiclass_hinge_loss,
    multiclass_perceptron_loss,
    multiclass_sparsemax_loss,
    perceptron_loss,
    sparsemax_loss,
)
from jaxopt_ko.losses.ranking import ranking_softmax_loss
from jaxopt_ko.losses.regression import huber_loss, l2_loss, log_cosh, mean_squared_error, squared_error
from jaxopt_ko.losses.segmentation import binary_dice_loss, dice_loss, multiclass_generalized_dice_loss
from jaxopt_ko.losses.sequences import ctc_loss, ctc_loss_with_forward_probs
from jaxopt_ko.losses.similarity import cosine_distance, cosine_similarity, ntxent, triplet_margin_loss

__all__ = [
    "binary_dice_loss",
    "convex_kl_divergence",
    "cosine_distance",
    "cosine_similarity",
    "ctc_loss",
    "ctc_loss_with_forward_probs",
    "dice_loss",
    "generalized_kl_divergence",
    "hinge_loss",
    "huber_loss",
    "kl_divergence",
    "kl_divergence_with_log_targets",
    "l2_loss",
    "log_cosh",
    "make_fenchel_young_loss",
    "mean_squared_error",
    "multiclass_generalized_dice_loss",
    "multiclass_hinge_loss",
    "multiclass_perceptron_loss",
    "multiclass_sparsemax_loss",
    "ntxent",
    "perceptron_loss",
    "poly_loss_cross_entropy",
    "ranking_softmax_loss",
    "safe_softmax_cross_entropy",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "sparsemax_loss",
    "squared_error",
    "triplet_margin_loss",
]

published("jaxopt_ko", vars(top_level), top_level.__all__)
suggests(__name__, globals())
