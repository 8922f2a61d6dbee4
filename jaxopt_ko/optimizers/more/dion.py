"""Dion: orthonormal steps of low rank. Ahn et al. 2025, arXiv:2504.05295, Algorithm 1.

What is to be iterated upon, and how P is made orthonormal, as in the authors' code, github.com/microsoft/dion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
from jaxopt_ko.core.numerics import or_one, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options, renamed
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, Domain
from jaxopt_ko.linalg.matrix_functions import QR_METHODS, orthonormal_columns, product
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.axes import spectral_scale
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates

SIDES = ("long", "output", "input")
PART = Domain(0.0, 1.0, "in (0, 1]", low_open=True, infinite=True)


@quantizable(signed=("M",))
class ScaleByDionState(NamedTuple):
    """State of `scale_by_dion`."""

    count: Array  # int32[]     t, steps taken
    M: Updates  # like params   gradients so far, less what the steps have used of them
    Q: Updates  # float[…, k, r] right basis, columns of length 1; k the side that P does not have


@renamed("0.2.0", mu="b1", seed="key")
@options
def scale_by_dion(
    rank_fraction: float = 1.0,
    b1: Hyper = 0.95,
    eps: Hyper = 1e-8,
    *,
    rank_multiple_of: int = 1,
    orthonormal_side: str = "long",
    qr_method: str = "rcqr",
    shape_scale: Callable[[int, int], float] = spectral_scale,
    key: Array | int = 0,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """An orthonormal matrix of low rank near the momentum, by one power iteration a step from where the last one ended.

    B = M + G;  P = orthonormal columns of B Q;  R = B' P
    M = B - (1 - b1) P R'                what is not in the step is kept for later ones
    Q = R / |R|, column by column
    U = s P (R / (|R| + eps))'           s = sqrt(fan_out / fan_in)

    or all of it with B' for B. G is [fan_in, fan_out], of y = x W. A column of R that is 0 but for rounding makes no
    step, and that of Q stays.

    rank_fraction: r / min(m, n) in (0, 1], rounded up to a multiple of rank_multiple_of.
    b1: what stays in M of the part that the step has used, in [0, 1); the paper's mu, 0.95.
    eps: added to the length of each column of R, >= 0.
    rank_multiple_of: an integer >= 1, which devices or tiles may want.
    orthonormal_side: which side P has: "long", the authors' code's, with the least Q, or the output's where both are
        equal; "output", Algorithm 1's; "input", the transposed algorithm's.
    qr_method: "qr", "cqr" or "rcqr" of `orthonormal_columns`; "rcqr", the authors', is several times faster than "qr"
        for large matrices, on CPU too.
    shape_scale: (fan_in, fan_out) -> s, the factor of the step.
    key: of Q at first, and of the sketches: a JAX PRNG key or an integer seed.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M and Q, 4 (m n + k r) bytes of a matrix [m, n], k the side that P does not have.
    Raises HyperparameterError, when made, for a number outside its domain; also for another orthonormal_side or
        qr_method. TreeError, when traced, for a leaf that is no matrix, or is complex.
    Source: Ahn et al. 2025, arXiv:2504.05295, Algorithm 1, and the authors' code, github.com/microsoft/dion.
    Not for embeddings, heads, norms and biases.

    >>> rule = jo.scale_by_dion(rank_fraction=0.25)
    >>> state = rule.init({"w": jnp.ones((8, 12))})
    >>> state.Q["w"].shape
    (8, 2)
    """
    name = "scale_by_dion"
    errors.check_number(name, "rank_fraction", rank_fraction, PART)
    errors.check_size(name, "rank_multiple_of", rank_multiple_of)
    errors.check_choice(name, "orthonormal_side", orthonormal_side, SIDES)
    errors.check_choice(name, "qr_method", qr_method, QR_METHODS)
    first = errors.check_key(name, key)

    def turned(m: int, n: int) -> bool:
        """Whether P is of the columns' side, the output's."""
        return m <= n if orthonormal_side == "long" else orthonormal_side == "output"

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        m, n = shape
        multiples = max(1, math.ceil(round(rank_fraction * min(shape) / rank_multiple_of, 6)))
        start = (m if turned(m, n) else n, min(multiples * rank_multiple_of, m, n))
        return jnp.zeros(shape, dtype), jax.random.normal(first, start, dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"key": jax.random.fold_in(first, t)}

    def rule(G: Array, W: None, M: Array, Q: Array, h: Scalars) -> Step:
        m, n = G.shape[1:]
        B = M + G
        B = B.mT if turned(m, n) else B
        most = jnp.max(jnp.abs(B), axis=(1, 2), keepdims=True, initial=0)
        # What is squared neither overflows nor vanishes; nothing depends on the unit.
        unit = jax.lax.stop_gradient(or_one(most))
        B = B / unit
        P = orthonormal_columns(product(B, Q), qr_method, h.key)
        R = product(B.mT, P)
        size, whole = (safe_sqrt(jnp.sum(x * x, axis=axes, keepdims=True)) for x, axes in ((R, 1), (B, (1, 2))))
        present = size > 10 * float(np.finfo(B.dtype).eps) * whole
        size = jnp.where(present, size, jnp.ones_like(size))
        D = jnp.where(present, R / (size + h.eps / unit), jnp.zeros_like(R))
        Q = jnp.where(present, R / size, Q)
        M = unit * (B - (1 - h.b1) * product(P, R.mT))
        U = float(shape_scale(m, n)) * product(P, D.mT)
        return (U.mT, M.mT, Q) if turned(m, n) else (U, M, Q)

    return matrixwise(
        name, ScaleByDionState, init=init, rule=rule, shared=shared,
        hypers={"b1": (b1, FRACTION), "eps": (eps, NONNEGATIVE)}, stack_axes=stack_axes,
    )  # fmt: skip


@renamed("0.2.0", mu="b1", seed="key")
@recipe
def dion(
    learning_rate: Hyper,
    rank_fraction: float = 1.0,
    b1: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.01,
    mask: MaskOrFn | None = None,
    *,
    rank_multiple_of: int = 1,
    orthonormal_side: str = "long",
    qr_method: str = "rcqr",
    shape_scale: Callable[[int, int], float] = spectral_scale,
    key: Array | int = 0,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (U + weight_decay W), U of `scale_by_dion`, for matrices; `rest`, or AdamW, for what is none.

    B = M + G;  P = orthonormal columns of B Q;  R = B' P;  M = B - (1 - b1) P R';  Q = R / |R|;  U = s P Q'

    Matrices are the leaves with two axes behind their `stack_axes`. Embeddings and heads are two-dimensional, too:
    leave them to another method by `partition`. A (1024, 4096) step costs a fifth of Muon's operations at rank_fraction
    1/4, as many at 1.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    rank_fraction: r / min(m, n) in (0, 1], rounded up to a multiple of rank_multiple_of; 1 is the full rank.
    b1: what stays in M of the part that the step has used, in [0, 1); the paper's mu, 0.95.
    eps: added to the length of each column of R, >= 0.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    rank_multiple_of: an integer >= 1, which devices or tiles may want.
    orthonormal_side: which side P has: "long", "output" or "input", see `scale_by_dion`.
    qr_method: "rcqr", the authors', "cqr" or "qr": how P is made orthonormal, see `scale_by_dion`.
    shape_scale: (fan_in, fan_out) -> s, the factor of the step; sqrt(fan_out / fan_in) keeps one rate for all widths.
    key: of Q at first, and of the sketches: a PRNG key, typed or raw, or an integer seed.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, eps and weight_decay,
        b2=0.95.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 4 (m n + k r) bytes of a matrix [m, n], k one of its sides; of the rest AdamW keeps 8 a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; also for another orthonormal_side or qr_method. TreeError, when traced, for
        complex matrices.
    Source: Ahn et al. 2025, arXiv:2504.05295, Algorithm 1.
    Not for small matrices, which Muon has sooner.

    >>> labels = {"embedding": "table", "hidden": "matrix"}
    >>> opt = jo.partition({"matrix": jo.dion(1e-2, 0.25), "table": jo.adamw(1e-3)}, labels)
    >>> state = opt.init({"embedding": jnp.ones((7, 4)), "hidden": jnp.ones((4, 8))})
    """
    rule = scale_by_dion(
        rank_fraction, b1, eps, rank_multiple_of=rank_multiple_of, orthonormal_side=orthonormal_side,
        qr_method=qr_method, shape_scale=shape_scale, key=key, stack_axes=stack_axes,
    )  # fmt: skip
    rest = adamw(learning_rate, b2=0.95, eps=eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = matrix_labels("dion", stack_axes)
    return matrices_and_rest(rule, rest, labels, learning_rate, weight_decay, mask)
