"""Fira: GaLore, and what it leaves out. Chen et al. 2024, arXiv:2410.01623, Algorithm 1."""

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
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FINITE, FRACTION, NONNEGATIVE, Domain
from jaxopt_ko.linalg.matrix_functions import product
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates

GROWTH = Domain(1.0, math.inf, "a number >= 1 (infinity switches it off)", infinite=True)


@quantizable(signed=("mu",), nonnegative=("nu",), divisor="nu")
class ScaleByFiraState(NamedTuple):
    """State of `scale_by_fira`; s the shorter side of a matrix, c the longer."""

    count: Array  # int32[]              t, steps taken
    mu: Updates  # float[…, r, c]        M, mean of R
    nu: Updates  # float[…, r, c]        V, mean of R**2
    projector: Updates  # float[…, s, r] P, with orthonormal columns
    norm: Updates  # float[…]            |D|, 0 before the first step


@options
def scale_by_fira(
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: Hyper = 1.0,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-6,
    *,
    gamma: Hyper = 1.01,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Adam in a few directions, and in all others the gradient, each column as much longer as Adam made it there.

    P    = the first `rank` left singular vectors of G, [s, c]           at t = 1, 1 + update_proj_gap, …
    R    = P' G;  M = b1 M + (1 - b1) R;  V = b2 V + (1 - b2) R**2;  N = M / (sqrt(V) + eps)
    D    = (G - P R) diag(|N_j| / |R_j|);  D = D gamma |D_prev| / |D| where |D| > gamma |D_prev| > 0
    u    = sqrt(1 - b2**t) / (1 - b1**t) (scale P N + D)         with G' for G and u' for u where G is [m, n], m >= n

    rank: an integer >= 1: how many directions, no more than the shorter side.
    update_proj_gap: an integer >= 1: steps from one P to the next; 200 is the authors'.
    scale: a finite factor of what Adam makes, the authors' alpha; their code multiplies P R in D by it, too.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to sqrt(V), >= 0: it bounds the step where gradients vanish.
    gamma: the most that |D| may grow by in a step, >= 1; the authors' 1.01; infinity for no limit.
    nu_dtype: of V, float32 at least by default.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M, V and P, 4 (2 r c + s r) bytes a matrix, r = min(rank, s). Derivatives through a step take P as constant.
    Raises HyperparameterError, when made, for a number outside its domain. TreeError, when traced, for a leaf that is
        no matrix, or is complex.
    Source: Chen et al. 2024, arXiv:2410.01623, Algorithm 1.
    Not for matrices with a side no longer than the rank: it is Adam there.

    >>> rule = jo.scale_by_fira(rank=2)
    >>> state = rule.init({"w": jnp.ones((30, 20))})
    >>> state.mu["w"].shape, state.projector["w"].shape
    ((2, 30), (20, 2))
    """
    name = "scale_by_fira"
    errors.check_size(name, "rank", rank)

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        s, c = min(shape), max(shape)
        r = min(rank, s)
        moments = jnp.zeros((r, c), dtype), jnp.zeros((r, c), nu_dtype or dtype)
        return *moments, jnp.zeros((s, r), dtype), jnp.zeros((), dtype)

    def wide(G: Array) -> Array:
        return G.mT if G.shape[-2] >= G.shape[-1] else G

    def refresh(G: Array, W: None, M: Array, V: Array, P: Array, norm: Array, h: Scalars) -> Memory:
        U = jnp.linalg.svd(jax.lax.stop_gradient(wide(G)), full_matrices=False)[0]
        return M, V, U[..., : P.shape[-1]], norm

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"factor": safe_sqrt(h.gathered("b2")) / h.gathered("b1")}

    def rule(G: Array, W: None, M: Array, V: Array, P: Array, norm: Array, h: Scalars) -> Step:
        flipped, G = G.shape[-2] >= G.shape[-1], wide(G)
        R = product(P.mT, G)
        M = h.b1 * M + (1 - h.b1) * R
        V = h.b2 * V + (1 - h.b2) * R * R
        N = ratio(M, safe_sqrt(V) + h.eps)
        size = length(R, 1, keepdims=True)
        D = (G - product(P, R)) * jnp.where(size > 0, length(N, 1, keepdims=True) / or_one(size), jnp.zeros_like(size))
        now = length(D, (1, 2))
        excess = jnp.where(norm > 0, jnp.maximum(now / or_one(norm) / h.gamma, 1), jnp.ones_like(norm))
        U = h.factor * (h.scale * product(P, N) + D / excess[:, None, None])
        return (U.mT if flipped else U), M, V, P, now / excess

    hypers = FINITE.of(scale=scale) | FRACTION.of(b1=b1, b2=b2) | NONNEGATIVE.of(eps=eps) | GROWTH.of(gamma=gamma)
    return matrixwise(
        name, ScaleByFiraState, init=init, rule=rule, hypers=hypers, shared=shared, refresh=refresh,
        interval=("update_proj_gap", update_proj_gap), stack_axes=stack_axes, debiased=("b1", "b2"),
        dtypes={"nu_dtype": nu_dtype},
    )  # fmt: skip


@recipe
def fira(
    learning_rate: Hyper,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: Hyper = 1.0,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-6,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    gamma: Hyper = 1.01,
    rest: GradientTransformation | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay W), u of `scale_by_fira`, for matrices; `rest`, or AdamW, for what is none.

    P = first singular vectors of G;   u = P Adam(P' G) + (G - P P' G) diag(|Adam(P' G)_j| / |(P' G)_j|)

    GaLore's memory, with a step in all directions. Matrices are the leaves with two axes behind their `stack_axes`.
    Carried by pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    rank: an integer >= 1: how many directions, no more than the shorter side.
    update_proj_gap: an integer >= 1: steps from one P to the next; 200 is the authors'.
    scale: a finite factor of what Adam makes, the authors' alpha.
    b1: decay of M, the mean of P' G, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of V, the mean of its squares, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to sqrt(V), >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    gamma: the most that the second part may grow by in a step, >= 1; the authors' 1.01; infinity for no limit.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, b1, b2, eps and weight_decay.
    nu_dtype: of V, float32 at least by default.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 4 (2 r c + s r) bytes a matrix of the sides s <= c, r = min(rank, s); of the rest AdamW keeps 8 a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0. TreeError, when traced, for complex matrices.
    Source: Chen et al. 2024, arXiv:2410.01623, Algorithm 1.
    Not where memory is no concern: AdamW, or `apollo`, whose projections need no singular value decomposition.

    >>> opt = jo.fira(1e-2, rank=2)
    >>> state = opt.init({"w": jnp.ones((30, 20)), "b": jnp.ones(20)})
    """
    rule = scale_by_fira(
        rank, update_proj_gap, scale, b1, b2, eps, gamma=gamma, nu_dtype=nu_dtype, stack_axes=stack_axes
    )
    rest = adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    return matrices_and_rest(rule, rest, matrix_labels("fira", stack_axes), learning_rate, weight_decay, mask)
