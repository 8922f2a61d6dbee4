"""Conda: Adam in the momentum's singular basis. Wang et al. 2025, arXiv:2509.24218, Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars, adam_corrections
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FINITE, FRACTION, NONNEGATIVE
from jaxopt_ko.linalg.matrix_functions import product
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates


@quantizable(signed=("mu",), nonnegative=("nu",))
class ScaleByCondaState(NamedTuple):
    """State of `scale_by_conda`; s the shorter side of a matrix, c the longer."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  M_t, mean of G
    nu: Updates  # float[…, s, c]     V_t, mean of (U' G)**2
    basis: Updates  # float[…, s, s]  U, left singular vectors of M


@options
def scale_by_conda(
    update_proj_gap: int = 2000,
    scale: Hyper = 1.0,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Adam's direction in the basis of the mean gradient's singular vectors on the shorter side.

    M_t = b1 M + (1 - b1) G
    U   = the left singular vectors of M_t                         at t = 1, 1 + update_proj_gap, …
    V_t = b2 V + (1 - b2) (U' G)**2
    u   = scale U (U' M_hat / (sqrt(V_hat) + eps))                 with G' for G and u' for u where G is [m, n], m > n

    M_hat = M_t / (1 - b1**t), V_hat = V_t / (1 - b2**t).

    update_proj_gap: an integer >= 1: steps from one U to the next; 2000 is the authors'.
    scale: a finite factor of u.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    mu_dtype: dtype of M; None: the parameter's, float32 at least.
    nu_dtype: dtype of V; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M, V and U, 8 bytes a parameter and 4 s**2 a matrix. Derivatives through a step take U as constant.
    Raises HyperparameterError, when made, for a number outside its domain. TreeError, when traced, for a leaf that is
        no matrix, or is complex.
    Source: Wang et al. 2025, arXiv:2509.24218, Algorithm 1.
    Not for use alone: u points up the gradient; `conda` turns it.

    >>> rule = jo.scale_by_conda()
    >>> state = rule.init({"w": jnp.ones((30, 20))})
    >>> state.nu["w"].shape, state.basis["w"].shape
    ((20, 30), (20, 20))
    """

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        s, c = min(shape), max(shape)
        return jnp.zeros(shape, mu_dtype or dtype), jnp.zeros((s, c), nu_dtype or dtype), jnp.zeros((s, s), dtype)

    def wide(G: Array) -> Array:
        return G.mT if G.shape[-2] > G.shape[-1] else G

    def refresh(G: Array, W: None, M: Array, V: Array, U: Array, h: Scalars) -> Memory:
        now = jax.lax.stop_gradient(wide(h.b1 * M + (1 - h.b1) * G))
        return M, V, jnp.linalg.svd(now, full_matrices=False)[0]

    def rule(G: Array, W: None, M: Array, V: Array, U: Array, h: Scalars) -> Step:
        M = h.b1 * M + (1 - h.b1) * G
        R = product(U.mT, wide(G))
        V = h.b2 * V + (1 - h.b2) * R * R
        N = ratio(product(U.mT, wide(M)) / h.c1, safe_sqrt(V / h.c2) + h.eps)
        u = h.scale * product(U, N)
        return (u.mT if G.shape[-2] > G.shape[-1] else u), M, V, U

    hypers = {"scale": (scale, FINITE), "b1": (b1, FRACTION), "b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE)}
    return matrixwise(
        "scale_by_conda", ScaleByCondaState, init=init, rule=rule, hypers=hypers, shared=adam_corrections,
        refresh=refresh, interval=("update_proj_gap", update_proj_gap), stack_axes=stack_axes, debiased=("b1", "b2"),
        dtypes={"mu_dtype": mu_dtype, "nu_dtype": nu_dtype},
    )  # fmt: skip


@recipe
def conda(
    learning_rate: Hyper,
    update_proj_gap: int = 2000,
    scale: Hyper = 1.0,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    rest: GradientTransformation | None = None,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay W), u of `scale_by_conda`, for matrices; `rest`, or AdamW, for what is none.

    U = left singular vectors of M, renewed every update_proj_gap steps;   u = U Adam in the coordinates U' G, U' M

    Matrices are the leaves with two axes behind their `stack_axes`. Carried by pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; AdamW's.
    update_proj_gap: an integer >= 1: steps from one U to the next; 2000 is the authors'.
    scale: a finite factor of u.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, b1, b2, eps and weight_decay.
    mu_dtype: dtype of M; None: the parameter's, float32 at least.
    nu_dtype: dtype of V; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M, V and U, 8 bytes a parameter and 4 s**2 a matrix, s its shorter side; of the rest AdamW keeps 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0. TreeError, when traced, for complex matrices.
    Source: Wang et al. 2025, arXiv:2509.24218, Algorithm 1.
    Not for the finest preconditioning: `soap` follows both sides, at every step.

    >>> opt = jo.conda(1e-3, weight_decay=0.1)
    >>> state = opt.init({"w": jnp.ones((3, 2)), "b": jnp.ones(2)})
    """
    rule = scale_by_conda(
        update_proj_gap, scale, b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype, stack_axes=stack_axes
    )
    rest = adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    return matrices_and_rest(rule, rest, matrix_labels("conda", stack_axes), learning_rate, weight_decay, mask)
