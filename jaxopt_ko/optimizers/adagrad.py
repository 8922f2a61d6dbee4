"""AdaGrad. Duchi, Hazan & Singer 2011 (JMLR 12), the diagonal form of Figure 1."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_rsqrt, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import NONNEGATIVE, check_hyper
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Updates


@quantizable(nonnegative=("sum_of_squares",))
class ScaleByRssState(NamedTuple):
    """State of `scale_by_rss`."""

    sum_of_squares: Updates  # like params, f32+  h_t, sum of g**2


@options
def scale_by_rss(
    initial_accumulator_value: Hyper = 0.1,
    eps: Hyper = 1e-7,
    *,
    eps_in_sqrt: bool = True,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Each element over the root of the sum of its squares.

    h_t = h + g**2,  h_0 = initial_accumulator_value
    u   = g / sqrt(h_t + eps)        eps_in_sqrt=True: optax
    u   = g / (sqrt(h_t) + eps)      eps_in_sqrt=False: the textbook, and torch with h_0 = 0, eps = 1e-10

    initial_accumulator_value: h_0 >= 0, where all sums start: the larger, the shorter are the first steps; 0.1 is
        optax's.
    eps: added under the root or to it, >= 0; 1e-7 is optax's.
    eps_in_sqrt: whether eps stands under the root.
    nu_dtype: of h, float32 at least by default: a bfloat16 sum stops at 256 times what is added.

    State: h, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Duchi, Hazan & Singer 2011 (JMLR 12), the diagonal form of Figure 1.
    Not for use alone: u points up the gradient; `adagrad` turns it.

    >>> rule = jo.scale_by_rss(initial_accumulator_value=0.0, eps=0.0)
    >>> state = rule.init({"w": jnp.ones(2)})
    >>> updates, state = rule.update({"w": jnp.array([3.0, -4.0])}, state)
    >>> print(updates["w"].round())
    [ 1. -1.]
    """
    start = check_hyper("scale_by_rss", "initial_accumulator_value", initial_accumulator_value, NONNEGATIVE)

    def init(p: Array) -> Memory:
        return (wide_like(p, value_at(start, zero_count()), nu_dtype),)

    def rule(g: Array, p: Array, s: Array, h: Scalars) -> Step:
        s = s + inner(g, g)
        return (g * safe_rsqrt(s + h.eps) if eps_in_sqrt else ratio(g, safe_sqrt(s) + h.eps)), s

    return leafwise(
        "scale_by_rss",
        ScaleByRssState,
        init=init,
        rule=rule,
        hypers={"eps": (eps, NONNEGATIVE)},
        dtypes={"nu_dtype": nu_dtype},
        squares=("sum_of_squares",),
    )


@recipe
def adagrad(
    learning_rate: Hyper,
    initial_accumulator_value: Hyper = 0.1,
    eps: Hyper = 1e-7,
    *,
    eps_in_sqrt: bool = True,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """SGD with a rate of its own for each element, falling as its gradients add up; see `scale_by_rss`.

    h_t = h + g**2,  h_0 = initial_accumulator_value
    p  <- p - lr g / sqrt(h_t + eps)

    For convex problems and sparse gradients. torch's lr_decay is the schedule inverse_time_decay(lr, 1, lr_decay).

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    initial_accumulator_value: h_0 >= 0, where all sums start: the larger, the shorter are the first steps; 0.1 is
        optax's.
    eps: added under the root or to it, >= 0; 1e-7 is optax's.
    eps_in_sqrt: whether eps stands under the root, as in optax; torch has False, initial_accumulator_value=0,
        eps=1e-10.
    nu_dtype: of h, float32 at least by default: a bfloat16 sum stops at 256 times what is added.

    State: h, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Duchi, Hazan & Singer 2011 (JMLR 12), the diagonal form of Figure 1.
    Not for long training of networks: the steps only shrink.

    >>> opt = jo.adagrad(0.1, initial_accumulator_value=0.0, eps=1e-10, eps_in_sqrt=False)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    return chain(
        scale_by_rss(initial_accumulator_value, eps, eps_in_sqrt=eps_in_sqrt, nu_dtype=nu_dtype),
        scale_by_learning_rate(learning_rate),
    )
