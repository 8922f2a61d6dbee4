"""Functional optimizers for JAX: every method one (init, update) pair over pytrees.

The names below are all that is public: each room's, and the modules that optax has, too.
"""

from jaxopt_ko import (
    catalog,
    compose,
    contrib,
    core,
    drivers,
    errors,
    linalg,
    losses,
    optimizers,
    projections,
    schedules,
    solvers,
    states,
    training,
    transforms,
    tree_utils,
    types,
    wrappers,
)
from jaxopt_ko import drivers as solve
from jaxopt_ko.analysis import debug, diagnose, landscapes, second_order
from jaxopt_ko.compose import *
from jaxopt_ko.core import *
from jaxopt_ko.core import numerics, tree
from jaxopt_ko.core.naming import answers_at, published
from jaxopt_ko.drivers import *
from jaxopt_ko.linalg import *
from jaxopt_ko.losses import convex_kl_divergence as convex_kl_divergence  # deprecated, as in optax
from jaxopt_ko.losses import (
    cosine_distance,
    cosine_similarity,
    ctc_loss,
    ctc_loss_with_forward_probs,
    generalized_kl_divergence,
    hinge_loss,
    huber_loss,
    kl_divergence,
    l2_loss,
    log_cosh,
    mean_squared_error,
    ntxent,
    safe_softmax_cross_entropy,
    sigmoid_binary_cross_entropy,
    sigmoid_focal_loss,
    smooth_labels,
    softmax_cross_entropy,
    softmax_cross_entropy_with_integer_labels,
    squared_error,
)
from jaxopt_ko.optimizers import *
from jaxopt_ko.optimizers import optimistic_adam as optimistic_adam  # deprecated, as in optax
from jaxopt_ko.schedules import (
    constant_schedule,
    cosine_decay_schedule,
    cosine_onecycle_schedule,
    exponential_decay,
    inverse_sqrt_schedule,
    inverse_time_decay,
    join_schedules,
    linear_onecycle_schedule,
    linear_schedule,
    piecewise_constant_schedule,
    piecewise_interpolate_schedule,
    polynomial_schedule,
    sgdr_schedule,
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
    warmup_exponential_decay_schedule,
    warmup_stable_decay_schedule,
)
from jaxopt_ko.solvers import *
from jaxopt_ko.training import *
from jaxopt_ko.training import data, microbatching, normalization
from jaxopt_ko.training import fit as loop
from jaxopt_ko.transforms import *
from jaxopt_ko.types import *
from jaxopt_ko.wrappers import *

__version__ = "0.1.0"

__all__ = [
    "catalog",
    "constant_schedule",
    "contrib",
    "cosine_decay_schedule",
    "cosine_distance",
    "cosine_onecycle_schedule",
    "cosine_similarity",
    "ctc_loss",
    "ctc_loss_with_forward_probs",
    "data",
    "debug",
    "diagnose",
    "errors",
    "exponential_decay",
    "generalized_kl_divergence",
    "hinge_loss",
    "huber_loss",
    "inverse_sqrt_schedule",
    "inverse_time_decay",
    "join_schedules",
    "kl_divergence",
    "l2_loss",
    "landscapes",
    "linear_onecycle_schedule",
    "linear_schedule",
    "log_cosh",
    "loop",
    "losses",
    "mean_squared_error",
    "microbatching",
    "normalization",
    "ntxent",
    "numerics",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "projections",
    "safe_softmax_cross_entropy",
    "schedules",
    "second_order",
    "sgdr_schedule",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "smooth_labels",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "solve",
    "squared_error",
    "states",
    "transforms",
    "tree",
    "tree_utils",
    "types",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "warmup_stable_decay_schedule",
]  # fmt: skip
__all__ += compose.__all__
__all__ += core.__all__
__all__ += drivers.__all__
__all__ += linalg.__all__
__all__ += optimizers.__all__
__all__ += solvers.__all__
__all__ += training.__all__
__all__ += transforms.__all__
__all__ += types.__all__
__all__ += wrappers.__all__

answers_at(__name__, {
    "catalog": catalog,
    "data": data, "debug": debug, "diagnose": diagnose, "landscapes": landscapes, "loop": loop,
    "microbatching": microbatching, "normalization": normalization, "numerics": numerics,
    "second_order": second_order, "solve": solve, "states": states, "tree": tree,
})  # fmt: skip
published(__name__, globals(), __all__)
