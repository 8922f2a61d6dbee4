"""Gradient descent, with momentum or without. Robbins & Monro 1951; Polyak 1964; Sutskever et al. 2013."""

from __future__ import annotations

from jaxopt_ko.compose.basic import identity
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.method import recipe
from jaxopt_ko.errors import FRACTION, UNIT, HyperparameterError, check_hyper, say
from jaxopt_ko.transforms.decay import decay_if_any
from jaxopt_ko.transforms.momentum import trace
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn


@recipe
def sgd(
    learning_rate: Hyper,
    momentum: Hyper | None = None,
    nesterov: bool = False,
    accumulator_dtype: DType | None = None,
    *,
    dampening: Hyper | None = None,
    lr_in_velocity: bool = False,
    weight_decay: Hyper | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """Steps down the gradient, or along its velocity.

    momentum=None           u = -lr g                                 no velocity is kept
    lr_in_velocity=False    v = momentum v + g;       u = -lr v       optax, torch: the default
    lr_in_velocity=True     v = momentum v - lr g;    u = v           the textbook's and Sutskever's form
    nesterov                the look-ahead g + momentum v (-lr g + momentum v) in the place of v

    The two forms agree while lr is constant; under a schedule the second keeps old steps at their old length.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    momentum: decay of the velocity, in [0, 1], usually 0.9: it sums about 1 / (1 - momentum) gradients; None: no
        velocity.
    nesterov: with momentum: take the velocity one step ahead.
    accumulator_dtype: dtype of the velocity; None: the parameter's, float32 at least.
    dampening: torch's, in [0, 1): v = momentum v + (1 - dampening) g, but v = g at first; None: 0, as in optax.
    lr_in_velocity: put the learning rate inside the velocity.
    weight_decay: lambda >= 0: beside the velocity, parameters shrink by this times the learning rate a step: SGDW;
        None: not at all. torch's is in the gradient: chain(add_decayed_weights(…), sgd(…)). Not with lr_in_velocity.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: none; with momentum v, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where there is a weight_decay.
    Source: Robbins & Monro 1951; momentum, Polyak 1964; nesterov in this form, Sutskever et al. 2013; weight_decay,
        Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 1.
    Not for badly scaled problems: the steps zig-zag across a narrow valley.

    >>> opt = jo.sgd(jo.cosine_decay_schedule(0.1, 1000), momentum=0.9, nesterov=True)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    >>> plain = jo.sgd(0.5)
    >>> updates, _ = plain.update({"w": jnp.array([2.0, -4.0])}, plain.init({"w": jnp.ones(2)}))
    >>> print(updates["w"])
    [-1.  2.]
    """
    step, decay = scale_by_learning_rate(learning_rate), decay_if_any(weight_decay, mask)
    if dampening is not None:
        check_hyper("sgd", "dampening", dampening, FRACTION)
    if momentum is None:
        return chain(identity(), *decay, step)
    check_hyper("sgd", "momentum", momentum, UNIT)
    velocity = trace(momentum, nesterov, accumulator_dtype, dampening=dampening)
    if lr_in_velocity and decay:
        wrong = "weight_decay is beside the velocity, so the learning rate must not be in it"
        say(HyperparameterError, "sgd", wrong, "lr_in_velocity=True", "Leave one of them out")
    return chain(step, velocity) if lr_in_velocity else chain(velocity, *decay, step)
