"""Averaging in the place of a schedule. Defazio et al. 2024, arXiv:2405.15682, Algorithm 1 and equations 2 to 4."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_room
from jaxopt_ko.core.evaluation import evaluated, keeps_average
from jaxopt_ko.core.method import filter_kwargs, recipe
from jaxopt_ko.core.numerics import narrowed, next_count, ratio, scalar_dtype, unfolded, value_at, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, OPEN_FRACTION
from jaxopt_ko.optimizers.rmsprop import scale_by_rms
from jaxopt_ko.optimizers.sgd import sgd
from jaxopt_ko.schedules import warmup_constant_schedule
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, State, Updates


def _x(own: ScheduleFreeState, y: Array, z: Array) -> Array:
    b = own.b1.astype(y.dtype)
    x: Array = (y - (1 - b) * z) / b
    return x


@keeps_average("z", _x, "step_count")
class ScheduleFreeState(NamedTuple):
    """State of `schedule_free`."""

    b1: Array  # float[]                 beta_1, to find x from y and z
    weight_sum: Array  # float[]         sum of the weights
    step_count: Array  # int32[]         t + 1, steps taken and one
    max_lr: Array  # float[]             the largest learning rate so far
    base_optimizer_state: State  # of the inner optimizer
    z: Params  # like params, f32+       where the inner optimizer is; the parameters are y


@options
def schedule_free(
    base_optimizer: GradientTransformation,
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    weight_lr_power: Hyper = 2.0,
    state_dtype: DType | None = None,
) -> GradientTransformation:
    """The inner optimizer's steps at z, gradients at y between z and the average x: no schedule that ends is needed.

    z_t = z + u(g(y));   c = w_t / (w_1 + … + w_t), w = (largest lr so far)**weight_lr_power
    x_t = (1 - c) x + c z_t
    y_t = b1 x_t + (1 - b1) z_t                 the parameters;  x = (y - (1 - b1) z) / b1

    base_optimizer: a whole optimizer without momentum of its own; b1 stands in its place.
    learning_rate: the one that base_optimizer has, >= 0, for the weights; a warm-up pays.
    b1: the weight of x in y, in (0, 1); 0.9 in the paper, more for long runs.
    weight_lr_power: >= 0: with 2, the paper's, steps of a warm-up count little in the average; 0 counts all alike.
    state_dtype: of z; None: float32 at least.

    State: 4 bytes a parameter, z, and 16, beside that of base_optimizer. Needs params. Evaluate at x: `eval_params`,
    `schedule_free_eval_params`.

    Raises HyperparameterError, when made, for numbers outside their domain; TransformationError if base_optimizer is
    none; MissingArgumentError, when traced, without params. Source: Defazio et al. 2024, arXiv:2405.15682, Algorithm 1
    and equations 2 to 4. Not with a learning rate that decays: the average takes its place.

    >>> tx = jo.schedule_free(jo.sgd(0.5), 0.5)
    >>> state = tx.init(jnp.ones(2))
    """
    name = "schedule_free"
    pair = errors.check_pair(name, "base_optimizer", base_optimizer)
    inner_init, inner_update = filter_kwargs(pair.init, 1), filter_kwargs(pair.update, 3)
    errors.check_hyper(name, "learning_rate", learning_rate, NONNEGATIVE)
    errors.check_hyper(name, "b1", b1, OPEN_FRACTION)
    errors.check_hyper(name, "weight_lr_power", weight_lr_power, NONNEGATIVE)
    errors.check_dtype(name, "state_dtype", state_dtype)

    def init(params: Params) -> ScheduleFreeState:
        z = jax.tree.map(lambda p: tree.kept_copy(name, p, state_dtype), tree.floating_only(params))
        dtype = tree.scalar_dtype_like(params)
        beta = value_at(b1, zero_count(), name, "b1").astype(dtype)
        begun = (jnp.zeros((), dtype), jnp.ones((), jnp.int32), jnp.zeros((), dtype))
        return ScheduleFreeState(beta, *begun, inner_init(params), z)

    def update(
        updates: Updates, state: ScheduleFreeState, params: Params = None, **extra: Any
    ) -> tuple[Updates, State]:
        count = state.step_count - 1
        beta, power, rate = unfolded(
            (
                value_at(b1, count, name, "b1"),
                value_at(weight_lr_power, count, name, "weight_lr_power"),
                value_at(learning_rate, count, name, "learning_rate"),
            )
        )
        max_lr = jnp.maximum(narrowed(state.max_lr, scalar_dtype()), rate)
        w = jnp.where(max_lr > 0, jnp.power(jnp.where(max_lr > 0, max_lr, 1.0), power), 0.0)
        total = narrowed(state.weight_sum, scalar_dtype()) + w
        c = ratio(w, total)
        steps, inner = inner_update(updates, state.base_optimizer_state, params, **extra)

        def leaf(g: Any, y: Any, u: Any, z: Any) -> Any:
            if g is None or tree.is_left_out(z):
                return u, z
            wide = tree.compute_dtype(tree.dtype_of(y), z.dtype)
            check_room(name, "the state's z", z, jnp.asarray(g))
            b, k = beta.astype(wide), c.astype(wide)
            y, z_old = jnp.asarray(y).astype(wide), z.astype(wide)
            x = (y - (1 - b) * z_old) / b
            z_new = z_old + u.astype(wide)
            x = (1 - k) * x + k * z_new
            return (b * x + (1 - b) * z_new - y).astype(tree.dtype_of(g)), z_new.astype(z.dtype)

        treedef = tree.structure(updates, none_is_leaf=True)
        columns = (tree.in_order(name, what, x, updates, treedef) for what, x in (
            ("gradients", updates), ("params", params), ("updates", steps), ("state", state.z)
        ))  # fmt: skip
        made = [leaf(*one) for one in zip(*columns, strict=True)]
        new = ScheduleFreeState(
            beta.astype(state.b1.dtype), total.astype(state.weight_sum.dtype), next_count(state.step_count),
            max_lr.astype(state.max_lr.dtype), inner, treedef.unflatten([z for _, z in made]),
        )  # fmt: skip
        return treedef.unflatten([u for u, _ in made]), new

    return transform(name, init, update, needs_params=True, state_type=ScheduleFreeState, any_leaf=True)


def schedule_free_eval_params(state: State, params: Params) -> Params:
    """The parameters of `schedule_free` to evaluate at.

    x = (y - (1 - b1) z) / b1, the average

    state: of the whole optimizer, with one `ScheduleFreeState` in it or several for different leaves. Leaves that
        none of them covers stay as they are.
    params: the parameters y, a tree of floating arrays.

    Returns a tree like params. Raises StateError if there is no such state, or if two cover one leaf. Source: Defazio
    et al. 2024, arXiv:2405.15682. Not for other kinds of averages: `eval_params` reads all of them.

    >>> tx, params = jo.schedule_free_sgd(0.5), jnp.ones(2)
    >>> x = jo.schedule_free_eval_params(tx.init(params), params)
    """
    return evaluated("schedule_free_eval_params", state, params, (ScheduleFreeState,))


def _warmed(learning_rate: Hyper, steps: int | None) -> Hyper:
    return learning_rate if steps is None else warmup_constant_schedule(0.0, learning_rate, steps)  # type: ignore[arg-type]


@recipe
def schedule_free_sgd(
    learning_rate: Hyper = 1.0,
    warmup_steps: int | None = None,
    b1: Hyper = 0.9,
    weight_decay: Hyper | None = None,
    weight_lr_power: Hyper = 2.0,
    state_dtype: DType | None = None,
) -> GradientTransformation:
    """`schedule_free` around SGD, with a linear warm-up.

    z_t = z - lr_t (g(y) + weight_decay y), x and y as of `schedule_free`

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; with
        warmup_steps a number. 1 by default, as in optax; larger than SGD's with a schedule.
    warmup_steps: steps in which the rate rises from 0, an integer; None: no warm-up.
    b1: the weight of x in y, in (0, 1).
    weight_decay: lambda >= 0, added to the gradient as an L2 penalty; None: none.
    weight_lr_power: >= 0: with 2 steps of a warm-up count little in the average.
    state_dtype: of z; None: float32 at least.

    State: 4 bytes a parameter, z, and 16. Needs params. Raises HyperparameterError, when made, for numbers outside
    their domain; MissingArgumentError, when traced, without params. Source: Defazio et al. 2024, arXiv:2405.15682,
    Algorithm 1. Not to be evaluated at the parameters themselves: `eval_params`.

    >>> tx = jo.schedule_free_sgd(0.5, warmup_steps=100)
    >>> state = tx.init(jnp.ones(2))
    """
    rate = _warmed(learning_rate, warmup_steps)
    base = sgd(rate)
    if weight_decay is not None:
        base = chain(add_decayed_weights(weight_decay), base)
    return schedule_free(base, rate, b1, weight_lr_power, state_dtype)


@recipe
def schedule_free_adamw(
    learning_rate: Hyper = 0.0025,
    warmup_steps: int | None = None,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    weight_lr_power: Hyper = 2.0,
    state_dtype: DType | None = None,
) -> GradientTransformation:
    """`schedule_free` around AdamW without its momentum, with a linear warm-up.

    v_t = b2 v + (1 - b2) g**2;   z_t = z - lr_t (g / (sqrt(v_t / (1 - b2**t)) + eps) + weight_decay y)
    x and y as of `schedule_free`

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; with
        warmup_steps a number. 0.0025 by default, as in optax: larger than AdamW's.
    warmup_steps: steps in which the rate rises from 0, an integer; None: no warm-up.
    b1: the weight of x in y, in (0, 1), in the place of momentum.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step, at y.
    weight_lr_power: >= 0: with 2 steps of a warm-up count little in the average.
    state_dtype: of z; None: float32 at least.

    State: 8 bytes a parameter, z and v, and some numbers. Needs params. Raises HyperparameterError, when made, for
    numbers outside their domain; MissingArgumentError, when traced, without params. Source: Defazio et al. 2024,
    arXiv:2405.15682. Not to be evaluated at the parameters themselves: `eval_params`.

    >>> tx = jo.schedule_free_adamw(2.5e-3, warmup_steps=100)
    >>> state = tx.init(jnp.ones(2))
    """
    rate = _warmed(learning_rate, warmup_steps)
    errors.check_hyper("schedule_free_adamw", "b2", b2, errors.FRACTION)
    scale = scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True)
    inner = chain(scale, add_decayed_weights(weight_decay), scale_by_learning_rate(rate))
    return schedule_free(inner, rate, b1, weight_lr_power, state_dtype)
