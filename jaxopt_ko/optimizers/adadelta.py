"""AdaDelta. Zeiler 2012, arXiv:1212.5701, Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, safe_rsqrt, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import NONNEGATIVE, UNIT
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Updates


@quantizable(nonnegative=("e_g", "e_x"))
class ScaleByAdaDeltaState(NamedTuple):
    """State of `scale_by_adadelta`."""

    e_g: Updates  # like params, f32+  E[g**2]_t
    e_x: Updates  # like params, f32+  E[dx**2]_t


def scale_by_adadelta(rho: Hyper = 0.9, eps: Hyper = 1e-6, *, nu_dtype: DType | None = None) -> GradientTransformation:
    """RMS of the past steps over RMS of the gradients: the step has the units of the parameters.

    E[g**2]_t  = rho E[g**2] + (1 - rho) g**2
    dx         = sqrt(E[dx**2] + eps) / sqrt(E[g**2]_t + eps) g
    E[dx**2]_t = rho E[dx**2] + (1 - rho) dx**2

    rho: decay of both means, in [0, 1]: they remember about 1 / (1 - rho) squares; 0.9 is torch's and optax's.
    eps: added under both roots, >= 0: the first steps have the length sqrt(eps), whatever the gradient.
    nu_dtype: of both means, float32 at least by default.

    State: two means, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Zeiler 2012, arXiv:1212.5701, Algorithm 1.
    Not for use alone: u points up the gradient; `adadelta` turns it.

    >>> opt = jo.chain(jo.scale_by_adadelta(rho=0.95), jo.scale(-1.0))
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, nu_dtype), wide_like(p, 0, nu_dtype)

    def rule(g: Array, p: Array, e_g: Array, e_x: Array, h: Scalars) -> Step:
        e_g = h.rho * e_g + inner((1 - h.rho) * g, g)
        dx = safe_sqrt(e_x + h.eps) * safe_rsqrt(e_g + h.eps) * g
        e_x = h.rho * e_x + inner((1 - h.rho) * dx, dx)
        return dx, e_g, e_x

    hypers = {"rho": (rho, UNIT), "eps": (eps, NONNEGATIVE)}
    dtypes = {"nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_adadelta", ScaleByAdaDeltaState, init=init, rule=rule, hypers=hypers, dtypes=dtypes,
        squares=("e_g", "e_x"),
    )  # fmt: skip


@recipe
def adadelta(
    learning_rate: Hyper = 1.0,
    rho: Hyper = 0.9,
    eps: Hyper = 1e-6,
    weight_decay: Hyper = 0.0,
    weight_decay_mask: MaskOrFn | None = None,
    *,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adaptive steps that need no learning rate: the paper's is 1, the default here and in torch.

    p <- p - lr sqrt(E[dx**2] + eps) / sqrt(E[g**2]_t + eps) g,   the means of `scale_by_adadelta`

    optax's default rate, None, adds the step instead of subtracting it; here None is refused.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    rho: decay of both means, in [0, 1]: they remember about 1 / (1 - rho) squares; 0.9 is torch's and optax's.
    eps: added under both roots, >= 0: the first steps have the length sqrt(eps), whatever the gradient.
    weight_decay: >= 0: an L2 penalty, this times the parameters is added to the gradient.
    weight_decay_mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    nu_dtype: of both means, float32 at least by default.

    State: two means, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Zeiler 2012, arXiv:1212.5701, Algorithm 1.
    Not for short runs: the first steps have the length sqrt(eps), and grow slowly.

    >>> opt = jo.adadelta(weight_decay=1e-4)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps, nu_dtype=nu_dtype),
        scale_by_learning_rate(learning_rate),
    )
