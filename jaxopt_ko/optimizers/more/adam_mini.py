"""Adam-mini: one second moment for each block of a leaf. Zhang et al. 2024, arXiv:2406.16793, Algorithms 1 to 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import memory_mismatch
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import abs_sq, mixing, ratio, real_dtype, safe_sqrt, zero_count
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import MatrixAxes
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, check_dtype, path_of
from jaxopt_ko.optimizers.matrix.blocks import (
    adam_mini_blocks,
    block_means,
    checked_blocks,
    divides,
    over_blocks,
    zero_of_blocks,
)
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, PyTree, Updates


@quantizable(signed=("mu",))
class ScaleByAdamMiniState(NamedTuple):
    """State of `scale_by_adam_mini`."""

    count: Array  # int32[]            t, steps taken
    mu: Updates  # like params, f32+   m_t, mean of g
    nu: Updates  # float[k_1, …, k_d]  v_t, mean of g**2 in each of the k_1 … k_d blocks of a leaf of d axes, f32+


@options
def scale_by_adam_mini(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    blocks: PyTree | Callable[[Params], PyTree] | None = None,
    *,
    heads: int | None = None,
    kv_heads: int | None = None,
    roles: Mapping[str, str | MatrixAxes] | None = None,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Adam's direction, with one mean square for all elements of a block.

    m_t = b1 m + (1 - b1) g                        m_hat = m_t / (1 - b1**t)
    v_t = b2 v + (1 - b2) mean of g**2             v_hat = v_t / (1 - b2**t)       the mean over each block
    u   = m_hat / (sqrt(v_hat) + eps)

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    blocks: a tuple for each leaf, (k_1, …, k_d): axis i is cut into k_i blocks of one size; None for a leaf whose
        elements each are their own. A tree of them, or a function of params that makes it. None: `adam_mini_blocks`
        with the next three arguments, a block for each head, output or row.
    heads, kv_heads: of attention, integers >= 1, as of `adam_mini_blocks`; None: a block for each output.
    roles: regular expression, found in the path -> role, where the guess of `roles_of` is wrong; None: guesses alone.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: m, 4 bytes a parameter, and 4 for each block.
    Raises HyperparameterError, when made, for a number outside its domain. TreeError, when traced, for blocks that do
        not divide a leaf.
    Source: Zhang et al. 2024, arXiv:2406.16793, Algorithms 1 to 3.
    Not for use alone: u points up the gradient; `adam_mini` turns it.

    >>> rule = jo.scale_by_adam_mini(blocks={"w": (1, 5), "b": None})
    >>> state = rule.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    >>> state.nu["w"].shape, state.nu["b"].shape
    ((1, 5), (5,))
    """
    name = "scale_by_adam_mini"
    check_dtype(name, "mu_dtype", mu_dtype)
    check_dtype(name, "nu_dtype", nu_dtype)

    def cut(params: Params) -> PyTree:
        if blocks is None:
            return adam_mini_blocks(params, heads, kv_heads, roles=roles, stack_axes=stack_axes)
        return blocks(params) if callable(blocks) else blocks

    def init(params: Params) -> ScaleByAdamMiniState:
        leaves, treedef = tree.flatten(params)
        shapes = checked_blocks(name, cut(params), params)
        nu = [zero_of_blocks(p, shape, nu_dtype) for p, shape in zip(leaves, shapes, strict=True)]
        mu = jax.tree.map(lambda p: tree.wide_like(p, 0, mu_dtype), params)
        return ScaleByAdamMiniState(zero_count(), mu, treedef.unflatten(nu))

    def update(
        updates: Updates, state: ScaleByAdamMiniState, params: Params = None, *, h: Scalars
    ) -> tuple[Updates, ScaleByAdamMiniState]:
        leaves, treedef = tree.flatten(updates, none_is_leaf=True)
        mu, nu = (tree.in_order(name, "state", memory, updates, treedef) for memory in (state.mu, state.nu))
        numbers, made = (h.b1, h.b2, h.eps, h.gathered("b1"), h.gathered("b2")), []
        for i, (g, m, v) in enumerate(zip(leaves, mu, nu, strict=True)):
            if g is not None and not (np.shape(m) == np.shape(g) and divides(np.shape(v), np.shape(g))):
                memory_mismatch(name, [m, v], path_of(updates, i, none_is_leaf=True), g)
            made.append((g, m, v) if g is None else _step(g, m, v, numbers))
        u, mu, nu = map(treedef.unflatten, zip(*made, strict=True) if made else ((), (), ()))
        return u, ScaleByAdamMiniState(h.t, mu, nu)

    hypers = FRACTION.of(b1=b1, b2=b2) | NONNEGATIVE.of(eps=eps)
    return transform(name, init, update, state_type=ScaleByAdamMiniState, hypers=hypers, debiased=("b1", "b2"))


@jax.jit
def _step(g: Array, m: Array, v: Array, numbers: tuple[Array, ...]) -> tuple[Array, Array, Array]:
    """One leaf, in float32 at least."""
    wide = tree.compute_dtype(g.dtype, m.dtype, v.dtype)
    b1, b2, eps, c1, c2 = (x.astype(real_dtype(wide)) for x in numbers)
    with mixing(wide):
        G = g.astype(wide)
        M = b1 * m.astype(wide) + (1 - b1) * G
        V = b2 * v.astype(real_dtype(wide)) + (1 - b2) * block_means(abs_sq(G), v.shape)
        u = ratio(M / c1, over_blocks(safe_sqrt(V / c2) + eps, g.shape))
    return u.astype(g.dtype), M.astype(m.dtype), V.astype(v.dtype)


@recipe
def adam_mini(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    blocks: PyTree | Callable[[Params], PyTree] | None = None,
    heads: int | None = None,
    kv_heads: int | None = None,
    roles: Mapping[str, str | MatrixAxes] | None = None,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_adam_mini`: AdamW with half of its memory, at its learning rates.

    v_t = b2 v + (1 - b2) mean of g**2,   over all weights of a head of queries or keys, of an output, of a token's row

    Within such a block the Hessian's eigenvalues are near each other, so that one rate serves all. Carried by LLaMA
    Factory, marin and pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    blocks: how many blocks each axis of a leaf is cut into, a tuple, for each leaf; None: `adam_mini_blocks` with the
        next three arguments.
    heads, kv_heads: of attention, integers >= 1, where queries and keys have their heads side by side in one axis;
        None: a block for each output, which is more than the paper's.
    roles: regular expression, found in the path -> role, where the guess of `roles_of` is wrong; None: guesses alone.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: m, 4 bytes a parameter, and 4 for each block.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0. TreeError, when traced, for blocks that do not divide a leaf.
    Source: Zhang et al. 2024, arXiv:2406.16793, Algorithms 1 to 3.
    Not without a look at `adam_mini_blocks(params)`: a wrong block is not seen until large models spike.

    >>> opt = jo.adam_mini(1e-3, b2=0.95, weight_decay=0.1, heads=2)
    >>> state = opt.init({"query": {"kernel": jnp.ones((4, 6))}, "mlp": {"kernel": jnp.ones((4, 8))}})
    >>> state[0].nu["query"]["kernel"].shape, state[0].nu["mlp"]["kernel"].shape
    ((1, 2), (1, 8))
    """
    rule = scale_by_adam_mini(
        b1, b2, eps, blocks, heads=heads, kv_heads=kv_heads, roles=roles, mu_dtype=mu_dtype, nu_dtype=nu_dtype,
        stack_axes=stack_axes,
    )  # fmt: skip
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
