"""SGD with Polyak's step size. Loizou et al. 2021, arXiv:2002.10542; the cut at zero: Garrigos et al. 2023,
arXiv:2307.14528."""

from __future__ import annotations

import jax.numpy as jnp

from jaxopt_ko.compose.basic import identity
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import joint_length, quotient, safe_sqrt
from jaxopt_ko.core.treewise import Vector, VectorStep, treewise
from jaxopt_ko.errors import FINITE, NONNEGATIVE, THRESHOLD, check_choice, check_hyper
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper


def scale_by_polyak(
    f_min: Hyper = 0.0, max_learning_rate: Hyper = 1.0, eps: Hyper = 0.0, variant: str = "sps"
) -> GradientTransformation:
    """The gradient times the rate that would reach f_min if the loss were a plane.

    u = min((value - f_min) / (|g|**2 + eps), max_learning_rate) g

    update takes the loss as `value`.

    f_min: the least loss, a finite number; 0 for a model that fits its data.
    max_learning_rate: the most that the rate may be, > 0; infinity for no limit. 1 is optax's.
    eps: added to |g|**2, >= 0.
    variant: "sps", or "sps+", which makes no step where the value is below f_min, and "sps" would climb.

    State: none.
    Raises HyperparameterError, when made, for a number outside its domain; also for another variant.
        MissingArgumentError, in update, without value.
    Source: Loizou et al. 2021, arXiv:2002.10542; "sps+", Garrigos et al. 2023, arXiv:2307.14528.
    Not for use alone: u points up the gradient; `polyak_sgd` turns it.

    >>> opt = jo.chain(jo.scale_by_polyak(max_learning_rate=10.0), jo.scale(-1.0))
    >>> state = opt.init({"w": jnp.ones(2)})
    >>> updates, state = opt.update({"w": jnp.array([2.0, 2.0])}, state, value=8.0)
    >>> print(updates["w"].round())
    [-2. -2.]
    """
    check_choice("scale_by_polyak", "variant", variant, ("sps", "sps+"))

    def rule(g: Vector, x: None, h: Scalars) -> VectorStep:
        gap = h.value - h.f_min
        gap = jnp.maximum(gap, 0) if variant == "sps+" else gap
        size = joint_length([g.norm(), safe_sqrt(h.eps)])  # its square may be no number
        far, unit = quotient(gap, size), g.map(lambda x: quotient(x, size.astype(x.dtype)))
        within = (size == 0) | (far <= h.max_learning_rate * size)
        return (far * unit).map(lambda u, v: jnp.where(within, u, v), h.max_learning_rate * g)

    hypers = {"f_min": (f_min, FINITE), "max_learning_rate": (max_learning_rate, THRESHOLD), "eps": (eps, NONNEGATIVE)}
    return treewise(
        "scale_by_polyak", EmptyState, rule=rule, hypers=hypers, value=True,
        needs_params=False,
    )  # fmt: skip


@recipe
def polyak_sgd(
    max_learning_rate: Hyper = 1.0,
    scaling: Hyper = 1.0,
    f_min: Hyper = 0.0,
    eps: Hyper = 0.0,
    variant: str = "sps",
) -> GradientTransformation:
    """The step -scaling u of `scale_by_polyak`: where the least loss is known, as 0 for a model that fits its data.

    p <- p - scaling min((value - f_min) / (|g|**2 + eps), max_learning_rate) g

    update takes the loss as `value`.

    max_learning_rate: the most that the rate may be before scaling, > 0; infinity for no limit. 1 is optax's.
    scaling: a factor of the step, >= 0: a number, an array or a schedule.
    f_min: the least loss, a finite number.
    eps: added to |g|**2, >= 0.
    variant: "sps", or "sps+", which makes no step where the value is below f_min, and "sps" would climb.

    State: none.
    Raises HyperparameterError, when made, for a number outside its domain; also for another variant.
        MissingArgumentError, in update, without value.
    Source: Loizou et al. 2021, arXiv:2002.10542; "sps+", Garrigos et al. 2023, arXiv:2307.14528.
    Not where f_min is above the least loss: with "sps" it then climbs, with "sps+" it stands.

    >>> loss = lambda p: jnp.sum(p["w"] ** 2)
    >>> opt, params = jo.polyak_sgd(), {"w": jnp.ones(2)}
    >>> value, grads = jax.value_and_grad(loss)(params)
    >>> updates, state = opt.update(grads, opt.init(params), params, value=value)
    """
    check_hyper("polyak_sgd", "scaling", scaling, NONNEGATIVE)
    direction = chain(identity(), scale_by_polyak(f_min, max_learning_rate, eps, variant))  # nested as optax's state
    return chain(direction, scale_by_learning_rate(scaling))
