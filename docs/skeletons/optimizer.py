"""Softsign momentum: a skeleton of an optimizer's page, to be copied to jaxopt_ko/optimizers/NAME.py.

The first lines of a page are its reference: authors and year, arXiv or DOI, the number of the algorithm or equation.
This method is made up to be short. CONTRIBUTING.md, "Adding an optimizer", says what a method needs beside its page.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, POSITIVE
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Updates


class ScaleBySoftsignState(NamedTuple):
    """State of `scale_by_softsign`: every field with its shape, its letter and its meaning."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g


@options
def scale_by_softsign(b1: Hyper = 0.9, eps: Hyper = 1.0, mu_dtype: DType | None = None) -> GradientTransformation:
    """The mean gradient, each element brought into (-1, 1); needs no params.

    m_t = b1 m + (1 - b1) g     m_hat = m_t / (1 - b1**t)
    u   = m_hat / (|m_hat| + eps)

    mu_dtype: of m, float32 at least by default.
    """

    def init(p: Array) -> Memory:  # of one leaf, in the order of the state's fields
        return (wide_like(p, 0, mu_dtype),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:  # made once a step, for all leaves
        return {"c1": h.gathered("b1")}  # 1 - b1**t, and what takes its place where b1 is a schedule

    def rule(g: Array, p: Array, m: Array, h: Scalars) -> Step:  # on one leaf, in float32 at least
        m = h.b1 * m + (1 - h.b1) * g
        m_hat = m / h.c1
        return m_hat / (jnp.abs(m_hat) + h.eps), m

    return leafwise(
        "scale_by_softsign",
        ScaleBySoftsignState,
        init=init,
        shared=shared,
        rule=rule,
        hypers={"b1": (b1, FRACTION), "eps": (eps, POSITIVE)},
        dtypes={"mu_dtype": mu_dtype},
        debiased=("b1",),
    )


@recipe
def softsign(
    learning_rate: Hyper, b1: Hyper = 0.9, eps: Hyper = 1.0, mu_dtype: DType | None = None
) -> GradientTransformation:
    """The step -lr u of `scale_by_softsign`: no element moves by more than the learning rate.

    The last sentence says when not to use a method. Not where gradients are much smaller than eps: it is then plain
    momentum with the learning rate lr / eps.
    """
    return chain(scale_by_softsign(b1, eps, mu_dtype), scale_by_learning_rate(learning_rate))
