"""APOLLO: gradients scaled by Adam of a random projection. Zhu et al. 2024, arXiv:2412.05270, Algorithm 1.

Its limit to growth: Chen et al. 2024, arXiv:2410.01623 (Fira).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import length, or_one, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options, renamed
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FINITE, FRACTION, NONNEGATIVE, Domain
from jaxopt_ko.linalg.matrix_functions import product
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates

SCALE_TYPES = ("channel", "tensor")
KEEPS = ("long", "short")
GROWTH = Domain(1.0, math.inf, "a number >= 1 (infinity switches it off)", infinite=True)


@quantizable(signed=("mu",), nonnegative=("nu",), divisor="nu")
class ScaleByApolloState(NamedTuple):
    """State of `scale_by_apollo`; c the side that is kept."""

    count: Array  # int32[]          t, steps taken
    mu: Updates  # float[…, r, c]    M, mean of R
    nu: Updates  # float[…, r, c]    V, mean of R**2
    norm: Updates  # float[…]        |D|, 0 before the first step


def projection(key: Array, draw: Array, shape: tuple[int, int], dtype: DType) -> Array:
    """P float[r, k] of the draw-th interval, normal of variance 1 / r; one for all matrices of a shape."""
    return jax.random.normal(jax.random.fold_in(key, draw), shape, dtype) / jnp.sqrt(jnp.asarray(shape[0], dtype))


@renamed("0.2.0", seed="key")
@options
def scale_by_apollo(
    rank: int = 256,
    update_proj_gap: int = 200,
    scale: Hyper = 1.0,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-6,
    *,
    scale_type: str = "channel",
    gamma: Hyper = 1.01,
    keeps: str = "long",
    key: Array | int = 0,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The gradient, each channel as long as Adam's step would be in a random subspace of a few dimensions.

    P    = random, float[rank, m], of variance 1 / rank            anew at t = 1, 1 + update_proj_gap, …
    R    = P G;  M = b1 M + (1 - b1) R;  V = b2 V + (1 - b2) R**2;  N = M / (sqrt(V) + eps)
    s_j  = |N_j| / |R_j|                                           column by column; s = |N| / |R| of "tensor"
    D    = G diag(s);  D = D gamma |D_prev| / |D| where |D| > gamma |D_prev| > 0
    u    = scale sqrt(1 - b2**t) / (1 - b1**t) D                   with G' for G and u' for u where G is [m, n], m > n

    APOLLO-Mini: rank 1, scale_type "tensor", scale sqrt(128).

    rank: an integer >= 1: rows of P; no more than the shorter side is used. 256 is the authors'.
    update_proj_gap: an integer >= 1: steps from one P to the next; 200 is the authors'.
    scale: a finite factor of u, the paper's alpha, of which the authors' code takes the square.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to sqrt(V), >= 0: it bounds the step where gradients vanish.
    scale_type: "channel", a factor for each column, or "tensor", one for the matrix.
    gamma: the most that |D| may grow by in a step, >= 1; infinity for no limit. 1.01 is Fira's.
    keeps: the axis whose elements are the channels and that M and V keep whole; "long", the paper's, or "short".
    key: of all P, a JAX PRNG key or an integer seed; they are drawn again at every step, and so take no memory.
    nu_dtype: of V, float32 at least by default.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M and V of [r, c], c the side that is kept: 8 r c bytes a matrix, r = min(rank, m, n).
    Raises HyperparameterError, when made, for a number outside its domain; also for another scale_type or keeps.
        TreeError, when traced, for a leaf that is no matrix, or is complex.
    Source: Zhu et al. 2024, arXiv:2412.05270, Algorithm 1; the limit to growth, Chen et al. 2024, arXiv:2410.01623.
    Not for matrices with a side no longer than the rank.

    >>> rule = jo.scale_by_apollo(rank=1, scale=128**0.5, scale_type="tensor")
    >>> state = rule.init({"w": jnp.ones((30, 50))})
    >>> state.mu["w"].shape
    (1, 50)
    """
    name = "scale_by_apollo"
    errors.check_size(name, "rank", rank)
    errors.check_size(name, "update_proj_gap", update_proj_gap)
    errors.check_choice(name, "scale_type", scale_type, SCALE_TYPES)
    errors.check_choice(name, "keeps", keeps, KEEPS)
    start = errors.check_key(name, key)

    def turned(m: int, n: int) -> bool:
        """Whether the rows are the channels."""
        return m > n if keeps == "long" else m < n

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        m, n = shape
        small = min(rank, m, n), m if turned(m, n) else n
        return jnp.zeros(small, dtype), jnp.zeros(small, nu_dtype or dtype), jnp.zeros((), dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        draw = (t - 1) // jnp.asarray(update_proj_gap, t.dtype)
        factor = h.scale * safe_sqrt(h.gathered("b2")) / h.gathered("b1")
        return {"key": start, "draw": draw, "factor": factor}

    def rule(G: Array, W: None, M: Array, V: Array, norm: Array, h: Scalars) -> Step:
        flip = turned(*G.shape[1:])
        G = G.mT if flip else G
        P = projection(h.key, h.draw, (M.shape[1], G.shape[1]), G.dtype)
        R = product(P[None], G)
        M = h.b1 * M + (1 - h.b1) * R
        V = h.b2 * V + (1 - h.b2) * R * R
        N = ratio(M, safe_sqrt(V) + h.eps)
        of_s = 1 if scale_type == "channel" else (1, 2)
        size = length(R, of_s, keepdims=True)
        D = jnp.where(size > 0, G / or_one(size), jnp.zeros_like(G)) * length(N, of_s, keepdims=True)
        now = length(D, (1, 2))
        before = or_one(norm)
        excess = jnp.where(norm > 0, jnp.maximum(now / before / h.gamma, 1), jnp.ones_like(norm))
        U = h.factor * D / excess[:, None, None]
        return (U.mT if flip else U), M, V, now / excess

    hypers = {
        "scale": (scale, FINITE),
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "eps": (eps, NONNEGATIVE),
        "gamma": (gamma, GROWTH),
    }
    return matrixwise(
        name, ScaleByApolloState, init=init, rule=rule, hypers=hypers, shared=shared, stack_axes=stack_axes,
        debiased=("b1", "b2"), dtypes={"nu_dtype": nu_dtype},
    )  # fmt: skip


@renamed("0.2.0", seed="key")
@recipe
def apollo(
    learning_rate: Hyper,
    rank: int = 256,
    update_proj_gap: int = 200,
    scale: Hyper = 1.0,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-6,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    scale_type: str = "channel",
    gamma: Hyper = 1.01,
    keeps: str = "long",
    key: Array | int = 0,
    rest: GradientTransformation | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay W), u of `scale_by_apollo`, for matrices; `rest`, or AdamW, for what is none.

    R = P G, P random of `rank` rows;   N = Adam's step of R;   u = scale G diag(|N_j| / |R_j|)

    APOLLO-Mini is apollo(learning_rate, 1, scale=128**0.5, scale_type="tensor"): a matrix has its longer side in
    memory, twice. Matrices are the leaves with two axes behind their `stack_axes`.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    rank: an integer >= 1: rows of P; no more than the shorter side is used. 256 is the authors'.
    update_proj_gap: an integer >= 1: steps from one P to the next; 200 is the authors'.
    scale: a finite factor of u, the paper's alpha, of which the authors' code takes the square.
    b1: decay of M, the mean of R, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of V, the mean of R**2, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to sqrt(V), >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    scale_type: "channel", a factor for each column, or "tensor", one for the matrix.
    gamma: the most that |u| may grow by in a step, >= 1; infinity for no limit. 1.01 is Fira's.
    keeps: the axis that M and V keep whole; "long", the paper's, or "short".
    key: of all P, a PRNG key, typed or raw, or an integer seed.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, b1, b2, eps and weight_decay.
    nu_dtype: of V, float32 at least by default.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 8 r c bytes a matrix, c the side that is kept, r = min(rank, m, n); of the rest AdamW keeps 8 a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; also for another scale_type or keeps. TreeError, when traced, for complex
        matrices.
    Source: Zhu et al. 2024, arXiv:2412.05270, Algorithm 1; the limit to growth, Chen et al. 2024, arXiv:2410.01623.
    Not where memory is no concern: the direction is the gradient's, without momentum.

    >>> opt = jo.apollo(1e-2, 1, scale=128**0.5, scale_type="tensor")
    >>> state = opt.init({"w": jnp.ones((30, 50)), "b": jnp.ones(50)})
    """
    rule = scale_by_apollo(
        rank, update_proj_gap, scale, b1, b2, eps, scale_type=scale_type, gamma=gamma, keeps=keeps, key=key,
        nu_dtype=nu_dtype, stack_axes=stack_axes,
    )  # fmt: skip
    rest = adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = matrix_labels("apollo", stack_axes)
    return matrices_and_rest(rule, rest, labels, learning_rate, weight_decay, mask)
