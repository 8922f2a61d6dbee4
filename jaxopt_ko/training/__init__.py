"""Around a training loop: fit, data, normalization, microbatches."""

from jaxopt_ko.core.naming import answers_at, published, suggests
from jaxopt_ko.training import data, fit, microbatching, normalization
from jaxopt_ko.training.coordinates import CoordinateCheck, coordinate_check
from jaxopt_ko.training.distributions import multi_normal
from jaxopt_ko.training.microbatching import microbatch
from jaxopt_ko.training.normalization import BatchNorm, BatchNormParams, BatchNormState, batch_norm

__all__ = [
    "BatchNorm", "BatchNormParams", "BatchNormState", "CoordinateCheck", "batch_norm", "coordinate_check",
    "microbatch", "multi_normal",
]  # fmt: skip

answers_at("jaxopt_ko", {
    "data": data, "loop": fit, "microbatching": microbatching, "normalization": normalization,
})  # fmt: skip
published("jaxopt_ko", globals(), __all__)
suggests(__name__, globals())
