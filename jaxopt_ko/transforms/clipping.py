"""Bounds on an update: by value, by the norm of each leaf or unit, by the norm of all, by that of each example."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.checks import check_axes_option, check_same_trees
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import leafwise
from jaxopt_ko.core.numerics import divided, length, mixing, quotient, real_dtype, root_mean_square
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import LIMIT, NONNEGATIVE, TreeError, describe, say
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, PyTree, Updates

Axes = int | tuple[int, ...]


def clip(max_delta: Hyper) -> GradientTransformation:
    """Each element of an update into an interval around 0.

    u = min(max(g, -max_delta), max_delta), element by element

    max_delta: the largest magnitude, in the units of g, >= 0; infinity switches it off.

    No state. Raises HyperparameterError, when made, for a negative bound; TreeError, when traced, for complex or
    integer leaves. Source: optax's clip, torch's clip_grad_value_. Not where the direction of the gradient is to stay
    as it is: `clip_by_global_norm`.

    >>> tx = jo.clip(1.0)
    >>> tx.update(jnp.array([3.0, -0.5]), tx.init(jnp.ones(2)))[0].tolist()
    [1.0, -0.5]
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return jnp.clip(g, -h.max_delta, h.max_delta)

    return leafwise("clip", EmptyState, rule=rule, hypers={"max_delta": (max_delta, LIMIT)}, real=True)


@options
def clip_by_norm(max_norm: Hyper, *, stack_axes: PyTree = 0) -> GradientTransformation:
    """Each leaf made shorter where its own norm is too large.

    u = g min(1, max_norm / |g|), with |g| the Euclidean norm of each leaf by itself

    max_norm: the largest norm of a leaf, in the units of g, >= 0; infinity switches it off.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own norm.

    No state. Raises HyperparameterError, when made, for a negative bound. Source: optax's clip_by_norm. Not where
    leaves are to keep their proportions to each other: `clip_by_global_norm`.

    >>> tx = jo.clip_by_norm(1.0)
    >>> state = tx.init({"w": jnp.ones(3)})
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return _shortened(g, length(g), h.max_norm)

    hypers = {"max_norm": (max_norm, LIMIT)}
    return leafwise("clip_by_norm", EmptyState, rule=rule, hypers=hypers, stack_axes=stack_axes)


@options
def clip_by_block_rms(threshold: Hyper, *, stack_axes: PyTree = 0) -> GradientTransformation:
    """Each leaf made smaller where the root mean square of its elements is too large.

    u = g min(1, threshold / rms(g)), with rms the root mean square of each leaf by itself

    threshold: the largest root mean square, in the units of g, >= 0; infinity switches it off. 1 in Adafactor, whose
        updates have unit size.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own mean.

    No state. Raises HyperparameterError, when made, for a negative threshold. Source: Shazeer & Stern 2018,
    arXiv:1804.04235, section 6; optax's clip_by_block_rms. Not for raw gradients, whose size differs from leaf to leaf:
    one threshold is meant for updates that a rule has normalized.

    >>> tx = jo.chain(jo.scale_by_adam(), jo.clip_by_block_rms(1.0), jo.scale_by_learning_rate(1e-3))
    >>> state = tx.init({"w": jnp.ones(3)})
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return _shortened(g, root_mean_square(g), h.threshold)

    hypers = {"threshold": (threshold, LIMIT)}
    return leafwise("clip_by_block_rms", EmptyState, rule=rule, hypers=hypers, stack_axes=stack_axes)


def clip_by_global_norm(max_norm: Hyper, *, axis_name: tree.AxisName = None) -> GradientTransformation:
    """All leaves made shorter together where their joint norm is too large; the direction stays.

    u = g min(1, max_norm / |g|), with |g| the Euclidean norm of all leaves as one vector

    max_norm: the largest norm, in the units of g, >= 0; infinity switches it off. 1 is usual for transformers.
    axis_name: within `jax.shard_map`, the axes that every leaf is cut along; see `global_norm`. None: none.

    No state. The norm is taken in float32 at least, and no square in it overflows or vanishes; it is one pass over the
    gradients and, where they are sharded, one collective.

    Raises HyperparameterError, when made, for a negative bound. Source: Pascanu et al. 2013, arXiv:1211.5063, Algorithm
    1. Not against NaN, which makes all updates NaN: `apply_if_finite`.

    >>> tx = jo.clip_by_global_norm(1.0)
    >>> updates, _ = tx.update(jnp.array([3.0, 4.0]), tx.init(jnp.ones(2)))
    >>> [round(float(u), 6) for u in updates]
    [0.6, 0.8]
    """

    def norm(updates: Updates, h: Scalars) -> dict[str, Array]:
        whole = tree.global_norm(updates, axis_name=axis_name)
        divisor, factor = _shortening(whole.astype(h.max_norm.dtype), h.max_norm)
        return {"divisor": divisor, "factor": factor}

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return divided(g, h.divisor) * h.factor

    hypers = {"max_norm": (max_norm, LIMIT)}
    return leafwise("clip_by_global_norm", EmptyState, rule=rule, reduce=norm, hypers=hypers)


@options
def adaptive_grad_clip(
    clipping: Hyper, eps: Hyper = 1e-3, axis: Axes | None = None, *, stack_axes: PyTree = 0
) -> GradientTransformation:
    """Gradients clipped unit by unit, at a part of the norm of the unit's parameters.

    u = g min(1, clipping max(|p|, eps) / |g|), with norms over the axes of `unitwise_norm`

    clipping: the part, without a unit, >= 0; infinity switches it off; 0.01 in the paper, for batches of 4,096.
    eps: the least norm of parameters, in their units, >= 0, so that units that begin at 0 can leave it.
    axis: the axes within a unit, an integer or a tuple; None: those that `unitwise_norm` takes by the number of axes.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; axis is of one of them.

    No state; needs params. Raises HyperparameterError, when made, for numbers outside their domain;
    MissingArgumentError, when traced, without params; TreeError for leaves of more than five axes without axis. Source:
    Brock, De, Smith & Simonyan 2021, arXiv:2102.06171, equation 3. Not for the last layer, which the paper leaves out:
    put it in `masked`.

    >>> tx = jo.chain(jo.adaptive_grad_clip(0.01), jo.sgd(0.1))
    >>> state = tx.init({"w": jnp.ones((3, 2))})
    """

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        max_norm = h.clipping * jnp.maximum(unitwise_norm(p, axis), h.eps)
        return unitwise_clip(unitwise_norm(g, axis), max_norm, g)

    return leafwise(
        "adaptive_grad_clip",
        EmptyState,
        rule=rule,
        hypers={"clipping": (clipping, LIMIT), "eps": (eps, NONNEGATIVE)},
        needs_params=True,
        stack_axes=stack_axes,
    )


def unitwise_norm(x: Array, axis: Axes | None = None, *, stack_axes: int = 0) -> Array:
    """The Euclidean norm of each unit of one array, as often as the unit has elements.

    norm of x over axis, spread to the shape of x

    x: an array of floating numbers, real or complex.
    axis: the axes within a unit. None: all for a scalar, a vector and what has one axis longer than 1; 0 for two
        and three axes, [in, out] and [in, heads, out]; all but the last for four and five, kernels of convolutions.
    stack_axes: how many leading axes count arrays of one shape, an integer; `axis` is of one of them.

    Returns float32[x.shape] at least. Raises TreeError for more than five axes where axis is None;
    HyperparameterTypeError for an axis that is neither an integer nor a tuple of them. Source: Brock et al. 2021,
    arXiv:2102.06171, section 4; optax's unitwise_norm. Not for kernels [out, in], whose units are rows: give axis=1.

    >>> jo.unitwise_norm(jnp.array([[3.0, 0.0], [4.0, 1.0]])).tolist()
    [[5.0, 1.0], [5.0, 1.0]]
    """
    check_axes_option("unitwise_norm", "axis", axis)
    if stack_axes:
        return jax.vmap(lambda one: unitwise_norm(one, axis, stack_axes=stack_axes - 1))(x)
    wide = x.astype(tree.compute_dtype(x.dtype))
    norm = length(wide, _within_unit(x.shape) if axis is None else axis, keepdims=True)
    spread: Array = placement.typed_as(jnp.broadcast_to(norm, x.shape), x)
    return spread


def _within_unit(shape: tuple[int, ...]) -> tuple[int, ...]:
    if sum(n != 1 for n in shape) <= 1:
        return tuple(range(len(shape)))
    _check_rank("unitwise_norm", shape, 5)
    return (0,) if len(shape) in (2, 3) else tuple(range(len(shape) - 1))


def _check_rank(name: str, shape: tuple[int, ...], most: int) -> None:
    """An array of at most five axes: for more there is no rule."""
    if len(shape) > most:
        say(TreeError, name, f"there is a rule for {most} axes at most", f"shape {shape}",
            "Say with axis which belong to a unit, or with stack_axes how many leading ones are stacks")  # fmt: skip


def unitwise_clip(g_norm: Array, max_norm: Array, grad: Array, div_eps: Array | float = 1e-6) -> Array:
    """One gradient clipped element by element, at bounds and norms that are given.

    u = grad min(1, max_norm / max(g_norm, div_eps))

    g_norm: the norm of each element's unit, as `unitwise_norm` spreads it, of the shape of grad, >= 0.
    max_norm: the bound of each element's unit, of the shape of grad, >= 0.
    grad: the gradient, an array of floating numbers, real or complex.
    div_eps: the least divisor, > 0, so that a norm of 0 divides nothing by 0.

    Returns an array like grad, in its dtype, computed in float32 at least. Raises TreeError where the shapes differ.
    Source: optax's unitwise_clip. Not for whole trees: `adaptive_grad_clip`.

    >>> g = jnp.array([3.0, 4.0])
    >>> clipped = jo.unitwise_clip(jo.unitwise_norm(g), jnp.ones(2), g)
    >>> [round(float(u), 6) for u in clipped]
    [0.6, 0.8]
    """
    check_same_trees("unitwise_clip", "g_norm", g_norm, "grad", grad)
    check_same_trees("unitwise_clip", "max_norm", max_norm, "grad", grad)
    wide = real_dtype(tree.compute_dtype(g_norm.dtype, max_norm.dtype, grad.dtype))
    norm, most, least = g_norm.astype(wide), max_norm.astype(wide), jnp.asarray(div_eps, wide)
    g, norm = grad.astype(tree.compute_dtype(wide, grad.dtype)), jnp.where(norm < most, most, jnp.maximum(norm, least))
    shrink = jnp.where(norm == most, jnp.ones_like(norm), most / norm)
    lost = (shrink < float(np.finfo(wide).tiny)) & (most > 0)  # most / norm underflows, and g most / norm does not
    with mixing(g.dtype):
        return jnp.where(lost, quotient(g, norm) * most, shrink * g).astype(grad.dtype)


def per_example_global_norm_clip(grads: PyTree, l2_norm_clip: Array | float) -> tuple[PyTree, Array]:
    """The sum over examples of their gradients, each of which is clipped by its own norm.

    sum_i g_i min(1, l2_norm_clip / |g_i|), with |g_i| the norm of all leaves of one example

    grads: a tree of floating arrays with the examples as first axis, of jax.vmap of a gradient.
    l2_norm_clip: the largest norm of an example's gradient, in its units, >= 0; a number or a traced scalar.

    Returns (the sum, a tree without the first axis; int32[], how many examples were clipped).

    Raises TreeError where leaves have not the same number of examples first. Source: Abadi et al. 2016,
    arXiv:1607.00133, Algorithm 1, without its noise. Not a private mean by itself: `differentially_private_aggregate`
    adds the noise.

    >>> total, clipped = jo.per_example_global_norm_clip(jnp.array([[3.0, 4.0], [0.0, 0.5]]), 1.0)
    >>> int(clipped)
    1
    """
    check_examples("per_example_global_norm_clip", grads)
    if not jax.tree.leaves(grads):
        return grads, jnp.zeros((), jnp.int32)
    norms = jax.vmap(tree.global_norm)(grads)
    most = jnp.asarray(l2_norm_clip).astype(norms.dtype)
    total = jax.tree.map(lambda g: _sum_of_shortened(g, norms, most), grads)
    return total, jnp.sum(norms > most, dtype=jnp.int32)


def check_examples(name: str, grads: PyTree) -> None:
    """Gradients of several examples: the same number of them, first, in each leaf."""
    leaves = jax.tree.leaves(grads)
    sizes = [np.shape(leaf)[0] if np.ndim(leaf) else None for leaf in leaves]
    if len(set(sizes)) > 1 or None in sizes or 0 in sizes:
        say(TreeError, name, "every gradient must have the examples as its first axis",
            ", ".join(map(describe, leaves[:4])), "Take them with jax.vmap(jax.grad(loss), (None, 0))")  # fmt: skip


@options
def per_example_layer_norm_clip(
    grads: PyTree, global_l2_norm_clip: Array | float, uniform: bool = True, *, stack_axes: PyTree = 0
) -> tuple[PyTree, PyTree]:
    """The sum over examples of their gradients, each leaf of which is clipped by its own norm.

    sum_i g_ik min(1, C_k / |g_ik|) for leaf k of K, with C_1**2 + … + C_K**2 = global_l2_norm_clip**2

    grads: a tree of floating arrays with the examples as first axis, of jax.vmap of a gradient.
    global_l2_norm_clip: the largest norm of an example's gradient, in its units, >= 0; a number or a traced scalar.
    uniform: True: C_k = global_l2_norm_clip / sqrt(K). False: global_l2_norm_clip sqrt(D_k / D), with D_k of D
        elements.
    stack_axes: how many axes after the first count leaves of one shape, an integer or a tree of them.

    Returns (the sums, a tree without the first axis; a tree of int32[stacks], how many were clipped).

    Raises TreeError where leaves have not the same number of examples first. Source: McMahan et al. 2018,
    arXiv:1710.06963, section 2. Not where few leaves hold most of the norm: one bound for all clips less.

    >>> total, clipped = jo.per_example_layer_norm_clip({"w": jnp.array([[3.0, 4.0], [0.0, 0.5]])}, 1.0)
    >>> int(clipped["w"])
    1
    """
    check_examples("per_example_layer_norm_clip", grads)
    leaves, treedef = tree.flatten(grads)
    one = jax.tree.map(lambda g: g[0], grads)
    stacks = tree.stacks("per_example_layer_norm_clip", stack_axes, one)
    layers = [math.prod(g.shape[1 : 1 + stack]) for g, stack in zip(leaves, stacks, strict=True)]
    elements = [math.prod(g.shape[1:]) for g in leaves]
    sums, counts = [], []
    for g, stack, layer, size in zip(leaves, stacks, layers, elements, strict=True):
        share = 1 / sum(layers) if uniform else size / max(layer, 1) / max(sum(elements), 1)

        def clipped(g: Array, share: float = share) -> tuple[Array, Array]:
            return per_example_global_norm_clip(g, global_l2_norm_clip * share**0.5)

        for _ in range(stack):
            clipped = jax.vmap(clipped, in_axes=1, out_axes=0)
        total, count = clipped(g)
        sums.append(total)
        counts.append(count)
    return treedef.unflatten(sums), treedef.unflatten(counts)


def _sum_of_shortened(g: Array, norms: Array, max_norm: Array) -> Array:
    wide = tree.common_dtype(norms.dtype, g.dtype)
    along = norms.astype(real_dtype(wide)).reshape(-1, *(1,) * (g.ndim - 1))
    out = g.dtype if tree.is_floating(g) else wide  # integer gradients are no integers once they are shortened
    with mixing(wide):
        return jnp.sum(_shortened(g.astype(wide), along, max_norm.astype(along.dtype)), axis=0).astype(out)


def _shortened(g: Array, norm: Array, max_norm: Array) -> Array:
    """g min(1, max_norm / norm), g itself for a norm of 0; NaN for a norm of NaN, which must not pass unseen.

    g is divided first: the quotient of the two norms may overflow or vanish where the result does not.
    """
    divisor, factor = _shortening(norm, max_norm)
    return divided(g, divisor) * factor


def _shortening(norm: Array, max_norm: Array) -> tuple[Array, Array]:
    """(norm, max_norm) where the norm is too large, else (1, 1)."""
    within, one = norm <= max_norm, jnp.ones_like(norm)
    return jnp.where(within, one, norm), jnp.where(within, one, max_norm)
