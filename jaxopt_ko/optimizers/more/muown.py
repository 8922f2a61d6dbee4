"""Muown: Muon for the directions of neurons' weights, Adam for their lengths.

Lion, Hübler, Li, Orvieto & He 2026, arXiv:2605.10797, Algorithm 1; github.com/kcc-lion/muown, optim/muown.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.groups import partition
from jaxopt_ko.core.hyperparameters import Scalars, adam_corrections
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import length, or_one, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE
from jaxopt_ko.linalg.matrix_functions import JORDAN, Coefficients
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.orthogonalization import nearest, orthogonalization
from jaxopt_ko.types import DType, GradientTransformation, Hyper, PyTree, Updates


@quantizable(signed=("mu",))
class MuownState(NamedTuple):
    """State of `muown`, of its matrices."""

    count: Array  # int32[]        t, steps taken
    mu: Updates  # like params     M, mean of the gradients of the directions
    g: Updates  # float[…, 1, n]   length of each column of W
    v: Updates  # float[…, 1, n]   length of each column of the direction V
    m_g: Updates  # float[…, 1, n] mean of the gradients of g
    v_g: Updates  # float[…, 1, n] mean of their squares


@recipe
def muown(
    learning_rate: Hyper,
    beta: Hyper = 0.95,
    b1: Hyper = 0.9,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    *,
    nesterov: bool = False,
    rms: Hyper = 0.2,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    preconditioning: str = "frobenius",
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Steps of W = g V / |V|, column by column: V by Muon, the lengths g by Adam; `rest`, or AdamW, for no matrices.

    U   = W / g;  V = v U                                     of each column: its direction, and V
    d_g = sum(G U);  d_V = g / v (G - d_g U)                  the gradients of g and V
    M   = beta M + (1 - beta) d_V;   N = M;  beta M + (1 - beta) d_V  nesterov
    V   = V - lr s A B'  of  N = A S B',   s = rms sqrt(max(m, n))
    g   = g - lr m_hat / (sqrt(v_hat) + eps)                  Adam's means of d_g, decays b1 and b2
    W   = g V / |V| - lr weight_decay W;   v = |V|,  g = |W|

    A column of [inputs, outputs] is what one neuron weighs its inputs by. At first g = v = |W|.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; of both parts,
        and of AdamW's size.
    beta: decay of M, in [0, 1): it remembers about 1 / (1 - beta) gradients; the authors' 0.95.
    b1, b2: decays of Adam's means, in [0, 1); the authors' 0.9 and 0.95.
    eps: added to the root in Adam's divisor, and to |N| before it is orthogonalized, >= 0.
    weight_decay: lambda >= 0: beside the gradient, matrices shrink by this times the learning rate a step; of AdamW,
        too.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    rms: root mean square of the direction's step over lr, > 0; 0.2 is AdamW's.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, eps and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 4 m n + 16 n bytes of a matrix [m, n]; of the rest AdamW keeps 8 a parameter. Needs params. Nothing that
    changes the steps may stand behind it: g is the length that the weights have after them.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; TreeError, when traced, for complex matrices.
    Source: Lion et al. 2026, arXiv:2605.10797, Algorithm 1, in the form of its authors' code.
    Not for columns that are zero, which have no direction: they stay as they are.

    >>> opt = jo.muown(1e-3, weight_decay=0.1)
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    how = orthogonalization("muown", ns_coeffs, ns_steps, preconditioning, compute_dtype, gram)
    no_decay = isinstance(weight_decay, int | float) and weight_decay == 0

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        return jnp.zeros(shape, dtype), *(jnp.zeros((1, shape[1]), dtype) for _ in range(4))

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return adam_corrections(t, h) | {"first": (t == 1).astype(h.b1.dtype)}

    def rule(G: Array, W: Array, M: Array, g: Array, v: Array, m_g: Array, v_g: Array, h: Scalars) -> Step:
        size = length(W, 1, keepdims=True)
        g, v = (jnp.where(h.first > 0, size, x) for x in (g, v))
        U = W / jnp.where(g == 0, jnp.ones_like(g), g)
        d_g = jnp.sum(G * U, axis=1, keepdims=True)
        d_V = ratio(g, v) * (G - d_g * U)
        M = h.beta * M + (1 - h.beta) * d_V
        N = h.beta * M + (1 - h.beta) * d_V if nesterov else M
        unit = or_one(jnp.max(jnp.abs(N), axis=(1, 2), keepdims=True, initial=0))
        scale = h.rms * math.sqrt(max(G.shape[1:]))
        V = v * U - h.learning_rate * scale * nearest(N / unit, unit, h.eps, how).astype(N.dtype)
        m_g, v_g = h.b1 * m_g + (1 - h.b1) * d_g, h.b2 * v_g + (1 - h.b2) * jnp.square(d_g)
        g = g - h.learning_rate * ratio(m_g / h.c1, safe_sqrt(v_g / h.c2) + h.eps)
        v = length(V, 1, keepdims=True)
        end = g * (V / or_one(v))
        if not no_decay:
            end = end - h.learning_rate * h.weight_decay * W
            g = length(end, 1, keepdims=True)
        moves = (size > 0) & (v > 0)
        return jnp.where(moves, end - W, jnp.zeros_like(W)), M, jnp.where(moves, g, size), v, m_g, v_g

    hypers = (
        NONNEGATIVE.of(learning_rate=learning_rate, eps=eps, weight_decay=weight_decay)
        | FRACTION.of(beta=beta, b1=b1, b2=b2)
        | POSITIVE.of(rms=rms)
    )
    matrices = matrixwise(
        "muown", MuownState, init=init, rule=rule, shared=shared, hypers=hypers, debiased=("b1", "b2"),
        needs_params=True, stack_axes=stack_axes,
    )  # fmt: skip
    rest = adamw(learning_rate, eps=eps, weight_decay=weight_decay) if rest is None else rest
    return partition({"matrix": matrices, "rest": rest}, matrix_labels("muown", stack_axes))
