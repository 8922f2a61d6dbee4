"""PSGD with Kronecker factors: a preconditioner for each side of a matrix, fitted by gradient descent on a Lie group.

Li 2015, arXiv:1512.04202, for the criterion; Pooladzandi & Li 2024, arXiv:2402.11858, for triangular factors and their
relative step. Momentum, schedule and clipping: kron-torch 0.3.3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import first_value, quotient, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE, UNIT
from jaxopt_ko.linalg.matrix_functions import frobenius, product, times_inverse
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.schedules import exponential_decay
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates

MODES = ("none", "smart_one_diag", "one_diag", "all_diag")
PROBABILITY = exponential_decay(1.0, 1000, math.exp(-1), 500, end_value=0.03)  # 1 for 500 steps, 0.03 from 4000 on
DAMPING = math.sqrt(np.finfo(np.float32).eps)
MOST_RMS = 1.1  # of a step


@quantizable(signed=("mu",))
class ScaleByKronState(NamedTuple):
    """State of `scale_by_kron`."""

    count: Array  # int32[]           t, steps taken
    since: Array  # int32[]           steps since Q was last fitted
    mu: Updates  # like params, f32+  M, mean of G
    Q_L: Updates  # float[…, m, m]    upper triangular; [m], a diagonal, for a side that is too long
    Q_R: Updates  # float[…, n, n]    upper triangular, or [n]


@options
def scale_by_kron(
    b1: Hyper = 0.9,
    preconditioner_update_probability: Hyper | None = None,
    max_size_triangular: int = 8192,
    min_ndim_triangular: int = 2,
    memory_save_mode: str | None = None,
    momentum_into_precond_update: bool = True,
    precond_lr: Hyper = 0.1,
    precond_init_scale: Hyper = 1.0,
    mu_dtype: DType | None = None,
    precond_dtype: DType | None = None,
    *,
    normalize_grads: bool = False,
    key: Array | int = 0,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The mean gradient between P_L = Q_L' Q_L and P_R = Q_R' Q_R, fitted so that what comes out is white.

    M   = b1 M + (1 - b1) G;   M_hat = M / (1 - b1**t)
    H   = M_hat + sqrt(eps) mean|M_hat| V                            V random normal, new each time; eps of float32
    A   = Q_L H Q_R';   B = Q_L'**-1 V Q_R**-1
    Q_L = Q_L - precond_lr triu(A A' - B B') / |A A' + B B'| Q_L     |.| a lower bound of the largest singular value
    Q_R = Q_R - precond_lr triu(A' A - B' B) / |A' A + B' B| Q_R
    U   = P_L M_hat P_R;   u = U min(1, 1.1 / rms(U))

    A matrix without a gradient keeps its Q, that would grow beyond all bounds.

    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    preconditioner_update_probability: p in [0, 1]; Q is fitted as soon as 1 / p steps have gone since the last time,
        matrices of other shapes in the steps between. None: 1 for 500 steps, then falling as exp(-t / 1000) to 0.03.
    max_size_triangular: an integer >= 0: a longer side has a diagonal for Q, as has a side of 1.
    min_ndim_triangular: an integer >= 0: above 2, all Q are diagonals.
    memory_save_mode: "smart_one_diag", a diagonal for the longer side if there is one; "one_diag", for the longer or
        the last; "all_diag", for both; None, "none": for none.
    momentum_into_precond_update: fit to M_hat; if False, to G.
    precond_lr: length of the steps of Q, >= 0; kron-torch's 0.1.
    precond_init_scale: of Q_L x Q_R at first, > 0.
    mu_dtype: dtype of M; None: the parameter's, float32 at least.
    precond_dtype: dtype of Q_L and Q_R; None: the parameter's, float32 at least.
    normalize_grads: G / |G|_F in the place of G.
    key: of V, a JAX PRNG key or an integer seed; V follows from it and t.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M, Q_L and Q_R: 4 m n + 4 (m**2 + n**2) bytes of a matrix [m, n], 12 a parameter of square ones.
    Raises HyperparameterError, when made, for a number outside its domain; also for another memory_save_mode.
        TreeError, when traced, for a leaf that is no matrix, or is complex.
    Source: Li 2015, arXiv:1512.04202; Pooladzandi & Li 2024, arXiv:2402.11858; with the values of kron-torch 0.3.3.
    Not for short runs: Q starts from the identity.

    >>> rule = jo.scale_by_kron(memory_save_mode="one_diag", key=jax.random.key(0))
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    >>> state.Q_L["w"].shape, state.Q_R["w"].shape
    ((3, 3), (5,))
    """
    name = "scale_by_kron"
    mode = "none" if memory_save_mode is None else memory_save_mode
    errors.check_choice(name, "memory_save_mode", mode, MODES)
    errors.check_size(name, "max_size_triangular", max_size_triangular, 0)
    errors.check_size(name, "min_ndim_triangular", min_ndim_triangular, 0)
    scale = errors.check_hyper(name, "precond_init_scale", precond_init_scale, POSITIVE)
    start = errors.check_key(name, key)

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        ones = [jnp.ones(size, precond_dtype or dtype) for size in shape]
        root = jnp.sqrt(jnp.asarray(first_value(scale), ones[0].dtype))
        flat = _diagonal(shape, mode, max_size_triangular if min_ndim_triangular <= 2 else 0)
        sides = [root * (one if is_flat else jnp.diag(one)) for one, is_flat in zip(ones, flat, strict=True)]
        return jnp.zeros(shape, mu_dtype or dtype), *sides

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        gone, every = h.since + np.int32(1), 1 / h.preconditioner_update_probability
        since = jnp.where(gone.astype(every.dtype) >= every, jnp.zeros_like(gone), gone)
        return {"c1": h.gathered("b1"), "every": every, "since": since, "key": jax.random.fold_in(start, t)}

    def refresh(G: Array, W: None, M: Array, Q_L: Array, Q_R: Array, h: Scalars) -> Memory:
        G = quotient(G, frobenius(G)) if normalize_grads else G
        H = (h.b1 * M + (1 - h.b1) * G) / h.c1 if momentum_into_precond_update else G
        return M, *fitted(Q_L, Q_R, H, probe(h.key, G, h.values().get("part_start")), h.precond_lr)

    def rule(G: Array, W: None, M: Array, Q_L: Array, Q_R: Array, h: Scalars) -> Step:
        G = quotient(G, frobenius(G)) if normalize_grads else G
        M = h.b1 * M + (1 - h.b1) * G
        U = _times(_times(_times(_times(M / h.c1, Q_L, 1), Q_R, 2), Q_L, 1, True), Q_R, 2, True)
        rms = frobenius(U) / math.sqrt(max(U[0].size, 1))
        return U * jnp.minimum(1, MOST_RMS / (rms + 1e-12)), M, Q_L, Q_R

    often = PROBABILITY if preconditioner_update_probability is None else preconditioner_update_probability
    hypers = {
        "b1": (b1, FRACTION),
        "precond_lr": (precond_lr, NONNEGATIVE),
        "preconditioner_update_probability": (often, UNIT),
    }
    return matrixwise(
        name, ScaleByKronState, init=init, rule=rule, hypers=hypers, scalars={"since": 0}, shared=shared,
        refresh=refresh, stack_axes=stack_axes, dtypes={"mu_dtype": mu_dtype, "precond_dtype": precond_dtype},
        debiased=("b1",),
    )  # fmt: skip


def _diagonal(shape: tuple[int, int], mode: str, most: int) -> list[bool]:
    """Of each side: is its Q a diagonal?"""
    m, n = shape
    spared = {"none": (), "all_diag": (0, 1), "one_diag": (int(m <= n),), "smart_one_diag": (int(m < n),) * (m != n)}
    return [size == 1 or size > most or side in spared[mode] for side, size in enumerate(shape)]


def probe(key: Array, G: Array, first: Array | None = None) -> Array:
    """V, random normal; of a part of a stack, from its matrix `first` on, what a draw for all of it has there."""
    if first is None:
        return jax.random.normal(key, G.shape, G.dtype)
    most = G.shape[0] * jax.typeof(G).sharding.mesh.size
    drawn = jax.random.normal(key, (most, *G.shape[1:]), G.dtype)  # each number follows from its place alone
    return jax.lax.dynamic_slice_in_dim(drawn, first, G.shape[0])


def fitted(Q_L: Array, Q_R: Array, G: Array, V: Array, rate: Array) -> tuple[Array, Array]:
    """Both factors after one step, and brought to one size: neither A nor B changes by that, nor any later step."""
    size_L, size_R = _size(Q_L), _size(Q_R)
    Q_L, Q_R = Q_L * _like(safe_sqrt(size_R / size_L), Q_L), Q_R * _like(safe_sqrt(size_L / size_R), Q_R)
    size = jnp.mean(jnp.abs(G), axis=(1, 2), keepdims=True)
    H = G + DAMPING * size * V
    A = _times(_times(H, Q_L, 1), Q_R, 2)
    B = _over(_over(V, Q_L, 1), Q_R, 2)
    rate = jnp.where(size > 0, rate, jnp.zeros_like(rate))[:, 0]

    def stepped(Q: Array, axis: int) -> Array:
        a, b = _squares(A, Q, axis), _squares(B, Q, axis)
        if Q.ndim == 2:
            return Q - rate * ratio((a - b) * Q, jnp.max(a + b, axis=1, keepdims=True))
        return Q - rate[..., None] * product(ratio(jnp.triu(a - b), _largest(a + b)), Q)

    return stepped(Q_L, 1), stepped(Q_R, 2)


def _times(X: Array, Q: Array, axis: int, transposed: bool = False) -> Array:
    """Q X for axis 1, X Q' for axis 2, or by Q'."""
    if Q.ndim == 2:
        return X * jnp.expand_dims(Q, 3 - axis)
    Q = Q.mT if transposed else Q
    return product(Q, X) if axis == 1 else product(X, Q.mT)


def _over(X: Array, Q: Array, axis: int) -> Array:
    """Q'**-1 X for axis 1, X Q**-1 for axis 2."""
    if Q.ndim == 2:
        return X / jnp.expand_dims(Q, 3 - axis)
    return times_inverse(X.mT, Q).mT if axis == 1 else times_inverse(X, Q)


def _squares(X: Array, Q: Array, axis: int) -> Array:
    """X X' for axis 1, X' X for axis 2; its diagonal where Q is one."""
    if Q.ndim == 2:
        return jnp.sum(X * X, axis=3 - axis)
    return product(X, X.mT) if axis == 1 else product(X.mT, X)


def _largest(A: Array) -> Array:
    """float[N, m, m] symmetric -> float[N, 1, 1]: no more than the largest eigenvalue, seldom less than 0.7 of it.

    |A x| for the unit vector x along A times the longest column of A.
    """
    top = jnp.max(jnp.abs(A), axis=(1, 2), keepdims=True)
    A = ratio(A, top)
    longest = jnp.argmax(jnp.sum(A * A, axis=1), axis=1)
    x = product(A, jnp.take_along_axis(A, longest[:, None, None], axis=2))
    x = product(A, quotient(x, frobenius(x)))
    return top * frobenius(x)


def _size(Q: Array) -> Array:
    """float[N]: the largest |element|."""
    return jnp.max(jnp.abs(Q.reshape(Q.shape[0], -1)), axis=1)


def _like(x: Array, Q: Array) -> Array:
    return x.reshape(-1, *(1,) * (Q.ndim - 1))


@recipe
def psgd_kron(
    learning_rate: Hyper = 3e-4,
    b1: Hyper = 0.9,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    preconditioner_update_probability: Hyper | None = None,
    max_size_triangular: int = 8192,
    min_ndim_triangular: int = 2,
    memory_save_mode: str | None = None,
    momentum_into_precond_update: bool = True,
    precond_lr: Hyper = 0.1,
    precond_init_scale: Hyper = 1.0,
    mu_dtype: DType | None = None,
    precond_dtype: DType | None = None,
    *,
    normalize_grads: bool = False,
    key: Array | int = 0,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay P), u of `scale_by_kron`, for matrices; `rest`, or AdamW, for what is none.

    U = Q_L' Q_L M_hat Q_R' Q_R;   u = U min(1, 1.1 / rms(U)),   Q_L and Q_R fitted by gradient steps of their own

    Half of SOAP's memory, and no factorization: products and triangular solves, seldom after the first thousands of
    steps. Its authors take a third of Adam's learning rate. Matrices are the leaves with two axes behind their
    `stack_axes`.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    preconditioner_update_probability: p in [0, 1]: Q is fitted every 1 / p steps; None: 1 for 500 steps, then falling
        as exp(-t / 1000) to 0.03.
    max_size_triangular: an integer >= 0: a longer side has a diagonal for Q, as has a side of 1.
    min_ndim_triangular: an integer >= 0: above 2, all Q are diagonals.
    memory_save_mode: "smart_one_diag", "one_diag" or "all_diag": for which sides Q is a diagonal, see `scale_by_kron`;
        None, "none": for none.
    momentum_into_precond_update: fit to the mean gradient; if False, to the newest.
    precond_lr: length of the steps of Q, >= 0; kron-torch's 0.1.
    precond_init_scale: of Q_L x Q_R at first, > 0.
    mu_dtype: dtype of M; None: the parameter's, float32 at least.
    precond_dtype: dtype of Q_L and Q_R; None: the parameter's, float32 at least.
    normalize_grads: G / |G|_F in the place of G.
    key: of the random matrices that Q is fitted with: a PRNG key, typed or raw, or an integer seed.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, b1 and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 4 m n + 4 (m**2 + n**2) bytes of a matrix [m, n], 12 a parameter of square ones; of the rest AdamW keeps 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; also for another memory_save_mode. TreeError, when traced, for complex
        matrices.
    Source: Li 2015, arXiv:1512.04202; Pooladzandi & Li 2024, arXiv:2402.11858; with the values of kron-torch 0.3.3.
    Not for short runs: Q starts from the identity.

    >>> opt = jo.psgd_kron(jo.cosine_decay_schedule(3e-4, 10_000), memory_save_mode="smart_one_diag")
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    rule = scale_by_kron(
        b1, preconditioner_update_probability, max_size_triangular, min_ndim_triangular, memory_save_mode,
        momentum_into_precond_update, precond_lr, precond_init_scale, mu_dtype, precond_dtype,
        normalize_grads=normalize_grads, key=key, stack_axes=stack_axes,
    )  # fmt: skip
    rest = adamw(learning_rate, b1, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = matrix_labels("psgd_kron", stack_axes)
    return matrices_and_rest(rule, rest, labels, learning_rate, weight_decay, mask)
