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
    """u = sign(g): -1, 0 or 1; z / |z| of a complex number."""

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return jnp.sign(g)

    return leafwise("scale_by_sign", EmptyState, rule=rule)


@recipe
def sign_sgd(learning_rate: Hyper) -> GradientTransformation:
    """The step -lr sign(g): one bit an element to send between machines.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.

    Not for small batches, whose noise it does not average: `signum` does.
    """
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))


@recipe
def signum(learning_rate: Hyper, beta: Hyper = 0.9, accumulator_dtype: DType | None = None) -> GradientTransformation:
    """The step -lr sign(m_t), m_t = beta m + (1 - beta) g, kept in float32 at least by default.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    """
    check_hyper("signum", "beta", beta, UNIT)
    mean = ema(beta, debias=False, accumulator_dtype=accumulator_dtype)
    return chain(mean, scale_by_sign(), scale_by_learning_rate(learning_rate))
