"""Gradient descent, with momentum or without. Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013."""

from __future__ import annotations

from jaxopt_ko.compose.basic import identity
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.method import recipe
from jaxopt_ko.errors import FRACTION, UNIT, check_hyper
from jaxopt_ko.transforms.momentum import trace
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper


@recipe
def sgd(
    learning_rate: Hyper,
    momentum: Hyper | None = None,
    nesterov: bool = False,
    accumulator_dtype: DType | None = None,
    *,
    dampening: Hyper | None = None,
    lr_in_velocity: bool = False,
) -> GradientTransformation:
    """Steps down the gradient, or along its velocity.

    momentum=None           u = -lr g                                 no velocity is kept
    lr_in_velocity=False    v = momentum v + g;       u = -lr v       optax, torch: the default
    lr_in_velocity=True     v = momentum v - lr g;    u = v           the textbook's and Sutskever's form
    nesterov                the look-ahead g + momentum v (-lr g + momentum v) in the place of v

    The two forms agree while lr is constant; under a schedule the second keeps old steps at their old length.
    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    dampening: see `trace`. Not for badly scaled problems: the steps zig-zag across a narrow valley.
    """
    step = scale_by_learning_rate(learning_rate)
    if dampening is not None:
        check_hyper("sgd", "dampening", dampening, FRACTION)
    if momentum is None:
        return chain(identity(), step)
    check_hyper("sgd", "momentum", momentum, UNIT)
    velocity = trace(momentum, nesterov, accumulator_dtype, dampening=dampening)
    return chain(step, velocity) if lr_in_velocity else chain(velocity, step)
