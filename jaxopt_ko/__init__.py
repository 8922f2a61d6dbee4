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
    precision,
    projections,
    schedules,
    sharding,
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
from jaxopt_ko.losses import top_level as top_level_losses
from jaxopt_ko.losses.top_level import *
from jaxopt_ko.optimizers import *
from jaxopt_ko.optimizers import optimistic_adam as optimistic_adam  # deprecated, as in optax
from jaxopt_ko.precision import *
from jaxopt_ko.schedules import curves
from jaxopt_ko.schedules.curves import *
from jaxopt_ko.sharding import *
from jaxopt_ko.solvers import *
from jaxopt_ko.training import *
from jaxopt_ko.training import data, microbatching, normalization
from jaxopt_ko.training import fit as loop
from jaxopt_ko.transforms import *
from jaxopt_ko.types import *
from jaxopt_ko.wrappers import *

__version__ = "0.1.0"

__all__ = [
    "catalog", "contrib", "data", "debug", "diagnose", "errors", "landscapes", "loop", "losses", "microbatching",
    "normalization", "numerics", "projections", "schedules", "second_order", "sharding", "solve", "states",
    "transforms", "tree", "tree_utils", "types",
]  # fmt: skip
__all__ += compose.__all__
__all__ += core.__all__
__all__ += curves.__all__
__all__ += drivers.__all__
__all__ += linalg.__all__
__all__ += optimizers.__all__
__all__ += precision.__all__
__all__ += sharding.__all__
__all__ += solvers.__all__
__all__ += top_level_losses.__all__
__all__ += training.__all__
__all__ += transforms.__all__
__all__ += types.__all__
__all__ += wrappers.__all__

answers_at(__name__, {
    "catalog": catalog, "data": data, "debug": debug, "diagnose": diagnose, "landscapes": landscapes, "loop": loop,
    "microbatching": microbatching, "normalization": normalization, "numerics": numerics,
    "second_order": second_order, "solve": solve, "states": states, "tree": tree,
})  # fmt: skip
published(__name__, globals(), __all__)
