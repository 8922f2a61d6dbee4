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

    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    nu_dtype: of both means, float32 at least by default.
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

    optax's default, None, adds the step instead of subtracting it; here None is refused. weight_decay is an L2
    penalty, added to the gradient: it alone needs params. Slow at the start: the first steps have the length sqrt(eps).

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    """
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps, nu_dtype=nu_dtype),
        scale_by_learning_rate(learning_rate),
    )
