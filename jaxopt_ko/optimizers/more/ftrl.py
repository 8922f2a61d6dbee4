"""FTRL-Proximal: sparse linear models, online. McMahan et al. 2013, KDD, doi:10.1145/2487575.2488200, Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import abs_sq, ratio, safe_sqrt, value_at, zero_count
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE, check_hyper
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Updates


class FtrlState(NamedTuple):
    """State of `ftrl`."""

    n: Updates  # like params, f32+  n_t, sum of g**2
    z: Updates  # like params, f32+  z_t, sum of g - sigma p: what the parameters are made of


@recipe
def ftrl(
    learning_rate: Hyper,
    l1: Hyper = 0.0,
    l2: Hyper = 0.0,
    beta: Hyper = 1.0,
    initial_accumulator_value: Hyper = 0.0,
    *,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Follow the regularized leader: AdaGrad whose l1 penalty makes parameters exactly zero, and keeps them there.

    sigma = (sqrt(n + g**2) - sqrt(n)) / lr;   n <- n + g**2
    z  <- z + g - sigma p
    p  <- -sign(z) max(|z| - l1, 0) / ((beta + sqrt(n)) / lr + l2)

    The parameters are made of the sums alone: where they do not start at 0 they go there at once. A learning rate that
    follows a schedule is that of each step. Carried by Keras and TensorFlow, whose l2 is half of this one and whose
    beta is 0, and pytorch_optimizer.

    learning_rate: the paper's alpha, the largest rate of an element, > 0: a number, an array (traced too) or a
        schedule; 0.01 to 1.
    l1: penalty of |p|, >= 0: an element whose |z| is no more is 0. 0: none.
    l2: penalty of p**2 / 2, >= 0. 0: none.
    beta: added to the root, >= 0; 1 in the paper.
    initial_accumulator_value: n_0 >= 0; 0 in the paper, Keras' 0.1.
    nu_dtype: of n, float32 at least by default.

    State: n and z, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: McMahan et al. 2013, KDD, doi:10.1145/2487575.2488200, Algorithm 1.
    Not for networks: parameters start at 0, and rates only fall.

    >>> opt, w = jo.ftrl(0.5, l1=1.0), jnp.zeros(2)
    >>> updates, state = opt.update(jnp.array([0.5, -3.0]), opt.init(w), w)
    >>> print(jnp.abs(updates))
    [0.   0.25]
    """
    start = check_hyper("ftrl", "initial_accumulator_value", initial_accumulator_value, NONNEGATIVE)

    def init(p: Array) -> Memory:
        return wide_like(p, value_at(start, zero_count()), nu_dtype), wide_like(p)

    def rule(g: Array, p: Array, n: Array, z: Array, h: Scalars) -> Step:
        total = n + abs_sq(g)
        sigma = (safe_sqrt(total) - safe_sqrt(n)) / h.learning_rate
        z = z + g - sigma * p
        size = jnp.abs(z)
        shrunk = jnp.sign(z) * jnp.maximum(size - h.l1, 0)
        return -ratio(shrunk, (h.beta + safe_sqrt(total)) / h.learning_rate + h.l2) - p, total, z

    hypers = POSITIVE.of(learning_rate=learning_rate) | NONNEGATIVE.of(l1=l1, l2=l2, beta=beta)
    return leafwise(
        "ftrl", FtrlState, init=init, rule=rule, hypers=hypers, dtypes={"nu_dtype": nu_dtype}, squares=("n",),
        needs_params=True,
    )  # fmt: skip
