"""Dion2: Muon of a part of the rows or columns at a time. Ahn, Amsel & Langford 2025, arXiv:2512.16928, Algorithm 1.

In the form of its authors' code, github.com/microsoft/dion, dion/dion2.py: the part that is largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import or_one
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, Domain
from jaxopt_ko.linalg.matrix_functions import Coefficients
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.axes import spectral_scale
from jaxopt_ko.optimizers.matrix.orthogonalization import nearest, orthogonalization
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates

PART = Domain(0.0, 1.0, "in (0, 1]", low_open=True, infinite=True)


@quantizable(signed=("M",))
class ScaleByDion2State(NamedTuple):
    """State of `scale_by_dion2`."""

    count: Array  # int32[]      t, steps taken
    M: Updates  # like params    what gradients have gathered, less what steps have taken of it


@options
def scale_by_dion2(
    fraction: float = 0.25,
    decay: Hyper = 0.95,
    eps: Hyper = 1e-8,
    *,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = "polar_express",
    ns_steps: int = 5,
    preconditioning: str = "frobenius",
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    shape_scale: Callable[[int, int], float] | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The orthogonal matrix near to the largest rows, or columns, of a momentum that the others keep.

    M   = M + G
    K   = the ceil(fraction n) columns of M [m, n] with the largest sums |M_ij|, n <= m; rows, where m < n
    u_K = s A B' of M_K = A S B';      u = 0 elsewhere
    M_K = decay M_K

    fraction: the part of the shorter side that is orthogonalized at a time, in (0, 1]; 1 is Muon with a momentum that
        is a sum. The authors' 0.25.
    decay: what is left of the momentum that a step has used, in [0, 1); the authors' 0.95.
    eps: added to |M_K| before it is orthogonalized, >= 0.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    shape_scale: (fan_in, fan_out) -> s; None: 1.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix, or is complex.
    Source: Ahn, Amsel & Langford 2025, arXiv:2512.16928, in the form of its authors' code.
    Not for embeddings, heads, norms and biases; nor for small matrices, where Muon's products cost little.

    >>> rule = jo.scale_by_dion2(0.5)
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    """
    name = "scale_by_dion2"
    errors.check_number(name, "fraction", fraction, PART)
    how = orthogonalization(name, ns_coeffs, ns_steps, preconditioning, compute_dtype, gram)
    scale_of = shape_scale or (lambda fan_in, fan_out: 1.0)

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        return (jnp.zeros(shape, dtype),)

    def rule(G: Array, W: None, M: Array, h: Scalars) -> Step:
        m, n = G.shape[1:]
        B = M + G if n <= m else (M + G).mT
        few = max(1, math.ceil(round(float(fraction) * min(m, n), 6)))
        K = jax.lax.top_k(jnp.sum(jnp.abs(B), axis=1), few)[1]
        B_K = jnp.take_along_axis(B, K[:, None, :], 2)
        # What is squared neither overflows nor vanishes; nothing depends on the unit.
        unit = jax.lax.stop_gradient(or_one(jnp.max(jnp.abs(B_K), axis=(1, 2), keepdims=True, initial=0)))
        u_K = float(scale_of(m, n)) * nearest(B_K / unit, unit, h.eps, how).astype(B.dtype)
        u, B = _with_columns(jnp.zeros_like(B), K, u_K), _with_columns(B, K, h.decay * B_K)
        return (u, B) if n <= m else (u.mT, B.mT)

    hypers = {"decay": (decay, FRACTION), "eps": (eps, NONNEGATIVE)}
    return matrixwise(name, ScaleByDion2State, init=init, rule=rule, hypers=hypers, stack_axes=stack_axes)


def _with_columns(x: Array, K: Array, columns: Array) -> Array:
    """[N, m, n] with the columns [N, m, k] in the places K, int32[N, k]."""
    made: Array = jax.vmap(lambda x, k, column: x.at[:, k].set(column))(x, K, columns)
    return made


@recipe
def dion2(
    learning_rate: Hyper = 0.01,
    fraction: float = 0.25,
    decay: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 1e-2,
    mask: MaskOrFn | None = None,
    *,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = "polar_express",
    ns_steps: int = 5,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p), u of `scale_by_dion2`, for matrices; `rest`, or AdamW, for what is none.

    u_K = s A B' of M_K = A S B', K the largest columns or rows of a momentum M;   s = sqrt(fan_out / fan_in)

    Matrices are the leaves with two axes behind their `stack_axes`.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; the authors'
        0.01.
    fraction: the part of the shorter side that is orthogonalized at a time, in (0, 1]; the authors' 0.25.
    decay: what is left of the momentum that a step has used, in [0, 1); the authors' 0.95.
    eps: added to |M_K| before it is orthogonalized, >= 0; of AdamW, too.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, eps and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 4 bytes a parameter of matrices; of the rest AdamW keeps 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; TreeError, when traced, for complex matrices.
    Source: Ahn, Amsel & Langford 2025, arXiv:2512.16928, in the form of its authors' code.
    Not for embeddings and heads: give them to another method by `partition`.

    >>> opt = jo.dion2(0.01, 0.5, rest=jo.adamw(1e-3))
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    rule = scale_by_dion2(
        fraction, decay, eps, ns_coeffs=ns_coeffs, ns_steps=ns_steps, compute_dtype=compute_dtype, gram=gram,
        shape_scale=spectral_scale, stack_axes=stack_axes,
    )  # fmt: skip
    rest = adamw(learning_rate, eps=eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    return matrices_and_rest(rule, rest, matrix_labels("dion2", stack_axes), learning_rate, weight_decay, mask)
