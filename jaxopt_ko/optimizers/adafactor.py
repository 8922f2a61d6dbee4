"""Adafactor. Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4 and 5."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import abstract, dtype_of, summed, wide_like
from jaxopt_ko.errors import NONNEGATIVE, THRESHOLD, UNIT, check_hyper, check_size
from jaxopt_ko.transforms.averaging import ema
from jaxopt_ko.transforms.clipping import clip_by_block_rms
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale, scale_by_learning_rate
from jaxopt_ko.transforms.trust_ratio import scale_by_param_block_rms
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates


@quantizable(nonnegative=("v",))
class FactoredState(NamedTuple):
    """State of `scale_by_factored_rms`. What a leaf has no use for is one 0."""

    count: Array  # int32[]              t, steps taken
    v_row: Updates  # leaf without its longest axis, f32+         R, mean of g**2 over that
    v_col: Updates  # leaf without its second longest axis, f32+  C, mean of g**2 over that
    v: Updates  # like params, f32+      V, mean of g**2, of a leaf that is not factored


def decay_rate_pow(i: Array, exponent: Array) -> Array:
    """1 - (i + 1)**-exponent for the steps i = 0, 1, …: what Adafactor keeps of the past."""
    return 1 - jnp.power(i + 1, -exponent)


@options
def scale_by_factored_rms(
    factored: bool = True,
    decay_rate: Hyper = 0.8,
    step_offset: Hyper = 0,
    min_dim_size_to_factor: int = 128,
    epsilon: Hyper = 1e-30,
    decay_rate_fn: Callable[[Array, Array], Array] = decay_rate_pow,
    *,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The gradient over its root mean square, of which a matrix keeps the means of rows and columns alone.

    b_t = decay_rate_fn(t - 1 - step_offset, decay_rate) = 1 - (t - step_offset)**-decay_rate
    R_t = b_t R + (1 - b_t) mean over the longest axis of (g**2 + epsilon);   C_t over the second longest
    u   = g / sqrt(R_t C_t / mean(R_t))

    A leaf whose second longest axis is shorter than min_dim_size_to_factor has the whole V instead: u = g / sqrt(V_t).

    factored: False: every leaf keeps the whole V.
    decay_rate: the exponent of b_t, >= 0; the paper's 0.8: b_t rises to 1, and late gradients still count.
    step_offset: how many steps of an earlier run b_t leaves out, >= 0, where training goes on with another task.
    min_dim_size_to_factor: an integer >= 0, the least second longest axis of a leaf that is factored.
    epsilon: added to g**2, >= 0; the paper's 1e-30.
    decay_rate_fn: (step from 0, decay_rate) -> b_t in [0, 1).
    nu_dtype: of R, C and V, float32 at least by default.
    stack_axes: leading axes of a leaf that count leaves of one shape, and are not factored.

    State: of a matrix [m, n] that is factored 4 (m + n) bytes in all; of another leaf 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; TransformationError for a decay_rate_fn that
        is no function.
    Source: Shazeer & Stern 2018, arXiv:1804.04235, Algorithm 4.
    Not for leaves with only one axis of 128 or more, unless min_dim_size_to_factor is lowered: they keep all of V.

    >>> rule = jo.scale_by_factored_rms(min_dim_size_to_factor=2)
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    >>> state.v_row["w"].shape, state.v_col["w"].shape
    ((3,), (5,))
    """
    check_size("scale_by_factored_rms", "min_dim_size_to_factor", min_dim_size_to_factor, 0)

    def axes_of(shape: tuple[int, ...]) -> tuple[int, int] | None:
        """The longest axis and the second longest, if the leaf is to be factored."""
        order = np.argsort(shape, kind="stable")
        if not factored or len(shape) < 2 or 0 in shape or shape[order[-2]] < min_dim_size_to_factor:
            return None
        return int(order[-1]), int(order[-2])

    def init(p: Array) -> Memory:
        axes = axes_of(np.shape(p))
        unused = abstract((1,), dtype_of(p))
        if axes is None:
            return wide_like(unused, 0, nu_dtype), wide_like(unused, 0, nu_dtype), wide_like(p, 0, nu_dtype)
        longest, second = axes
        sides = (summed(p, longest), summed(p, second), unused)
        return tuple(wide_like(side, 0, nu_dtype) for side in sides)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        i = jnp.maximum(t.astype(h.decay_rate.dtype) - 1 - h.step_offset, 0)
        with jax.numpy_dtype_promotion("standard"):  # a schedule is free to mix its step with floats
            return {"b": jnp.asarray(decay_rate_fn(i, h.decay_rate)).astype(h.decay_rate.dtype)}

    def rule(g: Array, p: Array, R: Array, C: Array, V: Array, h: Scalars) -> Step:
        square, axes = inner(g, g) + h.epsilon, axes_of(g.shape)
        if axes is None:
            V = h.b * V + (1 - h.b) * square
            return ratio(g, safe_sqrt(V)), R, C, V
        longest, second = axes
        R = h.b * R + (1 - h.b) * jnp.mean(square, longest)
        C = h.b * C + (1 - h.b) * jnp.mean(square, second)
        rows, columns = jnp.expand_dims(R, longest), jnp.expand_dims(C, second)
        root = safe_sqrt(ratio(rows, jnp.mean(rows, second, keepdims=True))) * safe_sqrt(columns)
        return ratio(g, root), R, C, V

    hypers = {
        "decay_rate": (decay_rate, NONNEGATIVE),
        "step_offset": (step_offset, NONNEGATIVE),
        "epsilon": (epsilon, NONNEGATIVE),
    }
    return leafwise(
        "scale_by_factored_rms",
        FactoredState,
        init=init,
        shared=shared,
        rule=rule,
        hypers=hypers,
        dtypes={"nu_dtype": nu_dtype},
        stack_axes=stack_axes,
        squares=("v_row", "v_col", "v"),
    )


@recipe
def adafactor(
    learning_rate: Hyper | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: Hyper = 0.8,
    decay_offset: Hyper = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Hyper | None = 1.0,
    momentum: Hyper | None = None,
    dtype_momentum: DType = jnp.float32,
    weight_decay_rate: Hyper | None = None,
    eps: Hyper = 1e-30,
    factored: bool = True,
    weight_decay_mask: MaskOrFn | None = None,
    *,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Adam's scaling with the memory of rows and columns, and steps in proportion to the parameters of their leaf.

    u, from `scale_by_factored_rms`; then in this order, each unless it is switched off by None or False:
    u <- u / max(1, rms(u) / clipping_threshold)
    u <- learning_rate u
    u <- max(rms(p), 1e-3) u                            multiply_by_parameter_scale
    u <- momentum m + (1 - momentum) u = m              kept in dtype_momentum
    u <- u + weight_decay_rate p                        of which learning_rate is no factor
    step = -u

    learning_rate: a number, an array or a schedule of the step, >= 0; the paper's is min(1e-2, 1 / sqrt(t)). None: 1, a
        step as large as the parameters.
    min_dim_size_to_factor: an integer >= 0, the least second longest axis of a leaf that is factored.
    decay_rate: the exponent of b_t = 1 - (t - decay_offset)**-decay_rate, >= 0; the paper's is 0.8.
    decay_offset: how many steps of an earlier run b_t leaves out, >= 0.
    multiply_by_parameter_scale: steps in proportion to the root mean square of the leaf's parameters, 1e-3 at least.
    clipping_threshold: the largest root mean square of u in a leaf, > 0; the paper's is 1. None: none.
    momentum: decay of a mean of the steps, in [0, 1]; None: no mean, and no memory of it.
    dtype_momentum: dtype of that mean.
    weight_decay_rate: >= 0: parameters shrink by this a step, which the learning rate does not multiply; None: not at
        all.
    eps: added to g**2, >= 0; the paper's 1e-30.
    factored: False: every leaf keeps the whole mean of its squares.
    weight_decay_mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    nu_dtype: of what is kept of the squares, float32 at least by default.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: of a factored matrix [m, n] 4 (m + n) bytes in all, of another leaf 4 bytes a parameter; with momentum 4
        more.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params. Those are needed by multiply_by_parameter_scale and weight_decay_rate.
    Source: Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4 and 5.
    Not where memory is no concern: AdamW keeps the whole of v.

    >>> opt = jo.adafactor(jo.inverse_sqrt_schedule(1e-2, 100), min_dim_size_to_factor=2)
    >>> state = opt.init({"w": jnp.ones((30, 50))})
    >>> jo.tree.size(state) < 90
    True
    """
    check_hyper("adafactor", "decay_offset", decay_offset, NONNEGATIVE)
    rules = [
        scale_by_factored_rms(
            factored, decay_rate, decay_offset, min_dim_size_to_factor, eps, nu_dtype=nu_dtype, stack_axes=stack_axes
        )
    ]
    if clipping_threshold is not None:
        check_hyper("adafactor", "clipping_threshold", clipping_threshold, THRESHOLD)
        rules.append(clip_by_block_rms(clipping_threshold, stack_axes=stack_axes))
    if learning_rate is not None:
        rules.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        rules.append(scale_by_param_block_rms(stack_axes=stack_axes))
    if momentum is not None:
        check_hyper("adafactor", "momentum", momentum, UNIT)
        rules.append(ema(momentum, debias=False, accumulator_dtype=dtype_momentum))
    if weight_decay_rate is not None:
        check_hyper("adafactor", "weight_decay_rate", weight_decay_rate, NONNEGATIVE)
        rules.append(add_decayed_weights(weight_decay_rate, weight_decay_mask))
    return chain(*rules, scale(-1))
