"""ASGO: Shampoo of one side. An, Liu, Pan, Ren, Ma, Goldfarb & Zhang 2025, arXiv:2503.20762, Algorithm 2.

In the form of its authors' code, github.com/infinity-stars/ASGO, optimizers/asgo.py: the shorter side, and steps of
AdamW's length.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import quotient
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE
from jaxopt_ko.linalg.matrix_functions import frobenius, inverse_root, product
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates


@quantizable(signed=("mu",))
class ScaleByAsgoState(NamedTuple):
    """State of `scale_by_asgo`."""

    count: Array  # int32[]          t, steps taken
    mu: Updates  # like params       M, mean of G
    V: Updates  # float[…, k, k]     mean of G G' or G' G, k the shorter side
    root: Updates  # float[…, k, k]  (V + eps I)**-1/2, of the last time that it was made


@options
def scale_by_asgo(
    b1: Hyper = 0.9,
    b2: Hyper = 0.8,
    eps: Hyper = 1e-10,
    rms: Hyper = 0.2,
    precondition_frequency: int = 1,
    *,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """A mean gradient times the inverse root of its second moment along the shorter side.

    M = b1 M + (1 - b1) G
    V = b2 V + (1 - b2) G G'      of [m, n], m <= n;  G' G else
    N = (V + eps I)**-1/2 M;      M (V + eps I)**-1/2 else
    u = rms sqrt(m n) N / |N|

    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; the authors' 0.9.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) gradients; the authors' 0.8.
    eps: added to the eigenvalues of V, >= 0.
    rms: root mean square of u, > 0; 0.2 is AdamW's, whose learning rates then do.
    precondition_frequency: an integer >= 1: steps from one root of V to the next; matrices of other shapes take other
        turns. The authors' is 1.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M, V and its root: 4 m n + 8 k**2 bytes of a matrix [m, n], k the shorter side; 12 a parameter of square
        ones, half of Shampoo's.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix, or is complex.
    Source: An et al. 2025, arXiv:2503.20762. The root is by eigenvalues, where the authors' code has ten steps of Polar
        Express.
    Not for embeddings, heads, norms and biases; nor where an eigendecomposition a step costs too much: raise
        precondition_frequency.

    >>> rule = jo.scale_by_asgo(precondition_frequency=10)
    >>> rule.init({"w": jnp.ones((3, 5))}).V["w"].shape
    (3, 3)
    """

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        k = min(shape)
        return jnp.zeros(shape, dtype), jnp.zeros((k, k), dtype), jnp.eye(k, dtype=dtype)

    def moment(G: Array, V: Array, h: Scalars) -> Array:
        m, n = G.shape[1:]
        return h.b2 * V + (1 - h.b2) * (product(G, G.mT) if m <= n else product(G.mT, G))

    def refresh(G: Array, W: None, M: Array, V: Array, root: Array, h: Scalars) -> Memory:
        return M, V, inverse_root(moment(G, V, h), 0.5, h.eps)

    def rule(G: Array, W: None, M: Array, V: Array, root: Array, h: Scalars) -> Step:
        m, n = G.shape[1:]
        M = h.b1 * M + (1 - h.b1) * G
        N = product(root, M) if m <= n else product(M, root)
        u = h.rms * math.sqrt(m * n) * quotient(N, jnp.broadcast_to(frobenius(N), N.shape))
        return u, M, moment(G, V, h), root

    hypers = {"b1": (b1, FRACTION), "b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE), "rms": (rms, POSITIVE)}
    return matrixwise(
        "scale_by_asgo", ScaleByAsgoState, init=init, rule=rule, refresh=refresh, hypers=hypers,
        interval=("precondition_frequency", precondition_frequency), stack_axes=stack_axes,
    )  # fmt: skip


@recipe
def asgo(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.8,
    eps: Hyper = 1e-10,
    weight_decay: Hyper = 0.1,
    mask: MaskOrFn | None = None,
    precondition_frequency: int = 1,
    *,
    rms: Hyper = 0.2,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p), u of `scale_by_asgo`, for matrices; `rest`, or AdamW, for what is none.

    N = (V + eps I)**-1/2 M, V a mean of G G', on the shorter side;   u = rms sqrt(m n) N / |N|

    Matrices are the leaves with two axes behind their `stack_axes`. Learning rates are AdamW's.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; the authors' 0.9.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) gradients; the authors' 0.8.
    eps: added to the eigenvalues of V, >= 0.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step; the
        authors' 0.1.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    precondition_frequency: an integer >= 1: steps from one root of V to the next; matrices of other shapes take other
        turns. The authors' is 1.
    rms: root mean square of u, > 0; 0.2 is AdamW's.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 4 m n + 8 k**2 bytes of a matrix [m, n], k the shorter side; of the rest AdamW keeps 8 a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; TreeError, when traced, for complex matrices.
    Source: An et al. 2025, arXiv:2503.20762.
    Not where both sides are long: the root of the shorter one is an eigendecomposition.

    >>> opt = jo.asgo(1e-3, precondition_frequency=10)
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    rule = scale_by_asgo(b1, b2, eps, rms, precondition_frequency, stack_axes=stack_axes)
    rest = adamw(learning_rate, weight_decay=weight_decay, mask=mask) if rest is None else rest
    return matrices_and_rest(rule, rest, matrix_labels("asgo", stack_axes), learning_rate, weight_decay, mask)
