"""Lion. Chen et al. 2023, arXiv:2302.06675, Algorithm 2."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import POSITIVE, UNIT, check_choice
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Updates

MODES = ("hard", "smooth", "refined")


@quantizable(signed=("mu",))
class ScaleByLionState(NamedTuple):
    """State of `scale_by_lion`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g


@options
def scale_by_lion(
    b1: Hyper = 0.9,
    b2: Hyper = 0.99,
    mu_dtype: DType | None = None,
    *,
    mode: str = "hard",
    smooth_beta: Hyper = 1.0,
) -> GradientTransformation:
    """The sign of a mean that leans on the new gradient.

    c   = b1 m + (1 - b1) g
    u   = sign(c)                  "hard", the paper's;  "smooth": tanh(smooth_beta c);  "refined": c within [-1, 1]
    m_t = b2 m + (1 - b2) g

    The sign of a complex number is z / |z|; the other two modes are for real leaves.

    b1: weight of m in c, in [0, 1], no decay: the smaller, the more counts the new gradient; the paper's 0.9.
    b2: decay of m, in [0, 1]: it remembers about 1 / (1 - b2) gradients; the paper's 0.99.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    mode: "hard", "smooth" or "refined".
    smooth_beta: of "smooth", > 0: the larger, the nearer to the sign.

    State: m, 4 bytes a parameter; 2 with mu_dtype=jnp.bfloat16.
    Raises HyperparameterError, when made, for a number outside its domain; also for another mode. TreeError, when
        traced, for complex leaves where mode is not "hard".
    Source: Chen et al. 2023, arXiv:2302.06675, Algorithm 2.
    Not for small batches, whose noise turns signs.

    >>> rule = jo.scale_by_lion()
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = rule.update({"w": jnp.array([3.0, -4.0])}, rule.init(params))
    >>> print(updates["w"])
    [ 1. -1.]
    """
    check_choice("scale_by_lion", "mode", mode, MODES)

    def init(p: Array) -> Memory:
        return (wide_like(p, 0, mu_dtype),)

    def rule(g: Array, p: Array, m: Array, h: Scalars) -> Step:
        c = h.b1 * m + (1 - h.b1) * g
        m = h.b2 * m + (1 - h.b2) * g
        if mode == "smooth":
            return jnp.tanh(h.smooth_beta * c), m
        return jnp.sign(c) if mode == "hard" else jnp.clip(c, -1, 1), m

    hypers = {
        "b1": (b1, UNIT),
        "b2": (b2, UNIT),
        "smooth_beta": (smooth_beta, POSITIVE),
    }
    dtypes = {"mu_dtype": mu_dtype}
    return leafwise(
        "scale_by_lion", ScaleByLionState, init=init, rule=rule, hypers=hypers, dtypes=dtypes, real=mode != "hard"
    )


@recipe
def lion(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.99,
    mu_dtype: DType | None = None,
    weight_decay: Hyper = 1e-3,
    mask: MaskOrFn | None = None,
    *,
    mode: str = "hard",
    smooth_beta: Hyper | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_lion`: half the memory of AdamW.

    p   <- p - lr (sign(b1 m + (1 - b1) g) + weight_decay p)
    m_t = b2 m + (1 - b2) g

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; 3 to 10 times
        smaller than AdamW's.
    b1: weight of m in the sign, in [0, 1], no decay: the smaller, the more counts the new gradient; the paper's 0.9.
    b2: decay of m, in [0, 1]: it remembers about 1 / (1 - b2) gradients; the paper's 0.99.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    weight_decay: lambda >= 0: parameters shrink by this times the learning rate a step; 3 to 10 times larger than
        AdamW's, as the rate is smaller. The default is optax's.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mode: "hard", "smooth" or "refined": the sign or what is near it, see `scale_by_lion`.
    smooth_beta: of "smooth", > 0; None: 1.

    State: m, 4 bytes a parameter; 2 with mu_dtype=jnp.bfloat16.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; HyperparameterError also for another mode. TreeError, when traced, for
        complex leaves where mode is not "hard".
    Source: Chen et al. 2023, arXiv:2302.06675, Algorithm 2.
    Not for small batches, whose noise turns signs.

    >>> opt = jo.lion(1e-4, mu_dtype=jnp.bfloat16, weight_decay=1.0)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_lion(b1, b2, mu_dtype, mode=mode, smooth_beta=1.0 if smooth_beta is None else smooth_beta)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
