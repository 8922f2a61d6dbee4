"""Distance over gradients. DoG: Ivgi, Hinder & Carmon 2023, arXiv:2302.12022. DoWG: Khaled, Mishchenko & Jin 2023,
arXiv:2305.16284, Algorithm 1."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.basic import identity
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import common_dtype, first_value, inner, is_complex, length, ratio, safe_sqrt, scalar_dtype
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import full_like, wide_copy
from jaxopt_ko.core.treewise import Vector, VectorStep, treewise
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE, HyperparameterError, check_choice, check_hyper, describe, say
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, PyTree, Updates


class DoGState(NamedTuple):
    """State of `scale_by_dog`."""

    is_init_step: Array  # bool[]               has no step been taken yet?
    init_params: Params  # like params, f32+    x_0
    max_dist: Array  # float[]                  the largest |x - x_0| so far
    sum_sq_norm_grads: Array  # float[]         G_t, sum of |g|**2


class DoWGState(NamedTuple):
    """State of `scale_by_dowg`."""

    init_params: Params  # like params, f32+    x_0
    weighted_sq_norm_grads: Array  # float[]    v_t, sum of r**2 |g|**2
    estim_sq_dist: Array  # float[]             r_t**2, the largest |x - x_0|**2 so far


class ScaleByDistanceOverGradientsState(NamedTuple):
    """State of `scale_by_distance_over_gradients`."""

    max_dist: Updates  # float[…] of each leaf        the largest |x - x_0| so far
    grad_sum_of_squares: Updates  # float[…, 1] of each  sum of |g|**2
    init_params: Params  # like params                x_0


def scale_by_dog(init_step: tuple[str, Hyper] = ("heuristic", 1e-6), eps: Hyper = 1e-8) -> GradientTransformation:
    """The gradient times the distance over the gradients: the farther the path led, the longer the step.

    u = eta g,   eta = max |x - x_0| / sqrt(sum of |g|**2 + eps)

    init_step: what stands for the distance at first: ("distance", r), r; ("heuristic", a), a (1 + |x_0|), the paper's
        with 1e-6; ("learning_rate", eta), which gives the first step's eta itself. The number is > 0.
    eps: added under the root, >= 0; the paper's 1e-8.

    State: x_0, 4 bytes a parameter, and two numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; HyperparameterError also for an init_step of another kind.
    Source: Ivgi, Hinder & Carmon 2023, arXiv:2302.12022.
    Not for use alone: u points up the gradient; `dog` turns it.

    >>> rule = jo.scale_by_dog(("distance", 10.0))
    >>> params = {"w": jnp.zeros(2)}
    >>> updates, state = rule.update({"w": jnp.array([3.0, 4.0])}, rule.init(params), params)
    >>> print(updates["w"].round())
    [6. 8.]
    """
    name = "scale_by_dog"
    kind, amount = _check_kind(name, "init_step", init_step)
    check_choice(name, "init_step[0]", kind, ("distance", "heuristic", "learning_rate"))

    def start(x: Vector) -> Array:
        first = jnp.asarray(first_value(amount)).astype(scalar_dtype())
        return {"distance": first, "heuristic": first * (1 + x.norm()), "learning_rate": jnp.zeros_like(first)}[kind]

    check_hyper(name, "init_step[1]", amount, POSITIVE)

    def rule(g: Vector, x: Vector, is_first: Array, x_0: Vector, r: Array, G: Array, h: Scalars) -> VectorStep:
        r = jnp.maximum(r, (x - x_0).norm())
        G = G + g.dot(g)
        eta = ratio(r, safe_sqrt(G + h.eps))
        if kind == "learning_rate":
            eta = jnp.where(is_first, jnp.asarray(first_value(amount)).astype(eta.dtype), eta)
        return eta * g, jnp.zeros((), bool), x_0, r, G

    scalars: dict[str, Any] = {"is_init_step": True, "max_dist": start, "sum_sq_norm_grads": 0.0}
    return treewise(
        name, DoGState, init=lambda p: (wide_copy(p),), rule=rule, hypers={"eps": (eps, NONNEGATIVE)},
        scalars=scalars,
    )  # fmt: skip


def _check_kind(name: str, argument: str, value: Any) -> tuple[Any, Any]:
    """(which, how much)."""
    if not (isinstance(value, tuple | list) and len(value) == 2):
        say(HyperparameterError, name, f"{argument} must be a pair of a name and a number", describe(value))
    return value[0], value[1]


@recipe
def dog(
    learning_rate: Hyper = 1.0,
    init_step: tuple[str, Hyper] = ("heuristic", 1e-6),
    eps: Hyper = 1e-8,
    weight_decay: Hyper | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """The step -lr u of `scale_by_dog`, no learning rate to tune; weight decay is added to the gradient (L2).

    x <- x - lr max |x - x_0| / sqrt(sum of |g|**2 + eps) g

    Its authors average the parameters.

    learning_rate: a factor of the rate that is found, >= 0: leave it at 1.
    init_step: what stands for the distance at first: ("distance", r), r; ("heuristic", a), a (1 + |x_0|), the paper's
        with 1e-6; ("learning_rate", eta), which gives the first step's rate itself. The number is > 0.
    eps: added under the root, >= 0; the paper's 1e-8.
    weight_decay: >= 0: an L2 penalty, this times the parameters is added to the gradient; None: none.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: x_0, 4 bytes a parameter, and two numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; HyperparameterError also for an init_step of another kind.
    Source: Ivgi, Hinder & Carmon 2023, arXiv:2302.12022.
    Not to be continued from other parameters than those of init: it remembers them.

    >>> opt = jo.chain(jo.dog(init_step=("heuristic", 1e-4)), jo.average_params(0.999))
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    >>> mean = jo.averaged_params(state, {"w": jnp.ones((2, 3))})
    """
    decay = identity() if weight_decay is None else add_decayed_weights(weight_decay, mask)
    return chain(decay, scale_by_dog(init_step, eps), scale_by_learning_rate(learning_rate))


def scale_by_dowg(init_estim_sq_dist: Hyper | None = None, eps: Hyper = 1e-4) -> GradientTransformation:
    """The gradient times the distance over the gradients, each weighted by the distance that it was met at.

    r_t = max(r, |x - x_0|);   v_t = v + r_t**2 |g|**2
    u   = eta g,   eta = r_t**2 / (sqrt(v_t) + eps)

    init_estim_sq_dist: r_0**2 > 0; None: eps.
    eps: added to the root in the divisor, >= 0, and > 0 where it is r_0**2; 1e-4 is optax's.

    State: x_0, 4 bytes a parameter, and two numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Khaled, Mishchenko & Jin 2023, arXiv:2305.16284, Algorithm 1.
    Not for use alone: u points up the gradient; `dowg` turns it.

    >>> rule = jo.scale_by_dowg(init_estim_sq_dist=0.01)
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """
    name = "scale_by_dowg"
    first = eps if init_estim_sq_dist is None else init_estim_sq_dist
    check_hyper(name, "eps" if init_estim_sq_dist is None else "init_estim_sq_dist", first, POSITIVE)

    def rule(g: Vector, x: Vector, x_0: Vector, v: Array, r2: Array, h: Scalars) -> VectorStep:
        away = x - x_0
        r2 = jnp.maximum(r2, away.dot(away))
        v = v + r2 * g.dot(g)
        return ratio(r2, safe_sqrt(v) + h.eps) * g, x_0, v, r2

    scalars: dict[str, Any] = {"weighted_sq_norm_grads": 0.0, "estim_sq_dist": first_value(first)}
    return treewise(
        name, DoWGState, init=lambda p: (wide_copy(p),), rule=rule, hypers={"eps": (eps, NONNEGATIVE)},
        scalars=scalars,
    )  # fmt: skip


@recipe
def dowg(
    learning_rate: Hyper = 1.0,
    init_estim_sq_dist: Hyper | None = None,
    eps: Hyper = 1e-4,
    weight_decay: Hyper | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """The step -lr u of `scale_by_dowg`, no learning rate to tune; weight decay is added to the gradient (L2).

    r_t = max(r, |x - x_0|);   v_t = v + r_t**2 |g|**2
    x  <- x - lr r_t**2 / (sqrt(v_t) + eps) g

    Gradients on the way count the more the farther they are from the start.

    learning_rate: a factor of the rate that is found, >= 0: leave it at 1.
    init_estim_sq_dist: r_0**2 > 0; None: eps.
    eps: added to the root in the divisor, >= 0, and > 0 where it is r_0**2; 1e-4 is optax's.
    weight_decay: >= 0: an L2 penalty, this times the parameters is added to the gradient; None: none.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: x_0, 4 bytes a parameter, and two numbers.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Khaled, Mishchenko & Jin 2023, arXiv:2305.16284, Algorithm 1.
    Not to be continued from other parameters than those of init: it remembers them.

    >>> opt = jo.dowg()
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    decay = identity() if weight_decay is None else add_decayed_weights(weight_decay, mask)
    return chain(decay, scale_by_dowg(init_estim_sq_dist, eps), scale_by_learning_rate(learning_rate))


@options
def scale_by_distance_over_gradients(
    reps_rel: Hyper = 1e-6,
    eps: Hyper = 1e-8,
    param_dtype: DType | None = jnp.float32,
    global_scale: Hyper = 1.0,
    *,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """DoG with a rate for each leaf (L-DoG).

    u = global_scale max |x - x_0| / sqrt(sum of |g|**2 + eps) g,   distances and sums leaf by leaf

    reps_rel: the distance at first, times 1 + |x_0|, > 0; the paper's 1e-6.
    eps: added under the root, >= 0; the paper's 1e-8.
    param_dtype: dtype of x_0, or of its real and imaginary parts; None: the leaf's, float32 at least.
    global_scale: a factor of u, >= 0; a schedule, say.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: x_0, 4 bytes a parameter, 2 with param_dtype=jnp.bfloat16; and two numbers a leaf.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: Ivgi, Hinder & Carmon 2023, arXiv:2302.12022.
    Not for use alone: u points up the gradient; put scale(-1.0) behind it.

    >>> opt = jo.chain(jo.scale_by_distance_over_gradients(reps_rel=1e-4), jo.scale(-1.0))
    >>> state = opt.init({"layers": jnp.ones((3, 2, 2)), "head": jnp.ones((2, 2))})
    """
    name = "scale_by_distance_over_gradients"
    check_hyper(name, "reps_rel", reps_rel, POSITIVE)
    relative = first_value(reps_rel)

    def init(p: Array) -> Memory:
        x = wide_copy(p)
        size = length(x)
        return (
            relative * (1 + size),
            jnp.expand_dims(full_like(size, 0.0), 0),
            x
            if param_dtype is None
            else x.astype(common_dtype(param_dtype, jnp.complex64) if is_complex(x.dtype) else param_dtype),
        )

    def rule(g: Array, p: Array, r: Array, G: Array, x_0: Array, h: Scalars) -> Step:
        away = p - x_0.astype(p.dtype)
        r = jnp.maximum(r, length(away))
        G = G + jnp.sum(inner(g, g))
        return h.global_scale * ratio(r, safe_sqrt(G[0] + h.eps)) * g, r, G, x_0

    hypers = {"eps": (eps, NONNEGATIVE), "global_scale": (global_scale, NONNEGATIVE)}
    return leafwise(
        name, ScaleByDistanceOverGradientsState, init=init, rule=rule, hypers=hypers,
        dtypes={"param_dtype": param_dtype}, needs_params=True, stack_axes=stack_axes,
    )  # fmt: skip
