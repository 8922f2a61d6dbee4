"""Steps of one size, in the gradient's sign or in that of its mean.

signSGD, Signum: Bernstein, Wang, Azizzadenesheli & Anandkumar 2018, arXiv:1802.04434, Algorithms 1 and 2.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.errors import UNIT, check_hyper
from jaxopt_ko.transforms.averaging import ema
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, EmptyState, GradientTransformation, Hyper


def scale_by_sign() -> GradientTransformation:
    """The sign of the gradient.

    u = sign(g): -1, 0 or 1; z / |z| of a complex number

    State: none.
    Raises nothing when made; TreeError, when traced, for leaves that are no floating arrays.
    Source: Bernstein, Wang, Azizzadenesheli & Anandkumar 2018, arXiv:1802.04434, Algorithm 1.
    Not for small batches without a mean before it.

    >>> rule = jo.chain(jo.ema(0.9), jo.scale_by_sign())
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return jnp.sign(g)

    return leafwise("scale_by_sign", EmptyState, rule=rule)


@recipe
def sign_sgd(learning_rate: Hyper) -> GradientTransformation:
    """The step -lr sign(g): one bit an element to send between machines.

    p <- p - lr sign(g)

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.

    State: none.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Bernstein, Wang, Azizzadenesheli & Anandkumar 2018, arXiv:1802.04434, Algorithm 1.
    Not for small batches, whose noise it does not average: `signum` does.

    >>> opt = jo.sign_sgd(0.5)
    >>> updates, state = opt.update({"w": jnp.array([3.0, -400.0])}, opt.init({"w": jnp.ones(2)}))
    >>> print(updates["w"])
    [-0.5  0.5]
    """
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))


@recipe
def signum(learning_rate: Hyper, beta: Hyper = 0.9, accumulator_dtype: DType | None = None) -> GradientTransformation:
    """The step in the sign of a mean gradient: signSGD with momentum.

    m_t = beta m + (1 - beta) g
    p  <- p - lr sign(m_t)

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    beta: decay of m, in [0, 1]: it remembers about 1 / (1 - beta) gradients; the paper's 0.9.
    accumulator_dtype: dtype of m; None: the parameter's, float32 at least.

    State: m, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Bernstein, Wang, Azizzadenesheli & Anandkumar 2018, arXiv:1802.04434, Algorithm 2.
    Not for a minimum to many digits: the steps keep their size.

    >>> opt = jo.signum(jo.linear_schedule(1e-3, 0.0, 1000))
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    check_hyper("signum", "beta", beta, UNIT)
    mean = ema(beta, debias=False, accumulator_dtype=accumulator_dtype)
    return chain(mean, scale_by_sign(), scale_by_learning_rate(learning_rate))
