"""PolarGrad: the orthogonal matrix near to a mean gradient, as long as its nuclear norm says.

Lau, Long & Su 2025, arXiv:2505.21799, PolarGradM with momentum first; github.com/NVIDIA-NeMo/Emerging-Optimizers,
polargrad.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import Array

from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.linalg.matrix_functions import Coefficients
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.axes import Layout, Numbers
from jaxopt_ko.optimizers.matrix.orthogonalization import Mean, MeanDirection, OrthogonalDirection, orthogonalization
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, PyTree, State, Updates


@quantizable(signed=("mu",))
class ScaleByPolarGradState(NamedTuple):
    """State of `scale_by_polargrad`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  M, mean of G


@options
def scale_by_polargrad(
    b1: Hyper = 0.95,
    eps: Hyper = 1e-15,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = "dion",
    ns_steps: int = 5,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Numbers = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The steepest descent of the spectral norm: its length falls with the gradient, where Muon's stays.

    M = b1 M + (1 - b1) G;      M_hat = M;   b1 M + (1 - b1) G  nesterov
    U = A B' of M_hat = A S B'
    u = <M_hat, U> U                         <M_hat, U> is near the nuclear norm, the sum of the singular values

    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; 0.95 as in Muon.
    eps: added to |M_hat| before it is orthogonalized, >= 0.
    mu_dtype: dtype of M; None: the parameter's, float32 at least.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`; those of
        Emerging-Optimizers, which call them "quintic".
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; not read by presets of their own length.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: M, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix.
    Source: Lau, Long & Su 2025, arXiv:2505.21799. `scale_by_muon(adaptive=True)` is the same of a mean that is
        corrected for its start.
    Not for embeddings, heads, norms and biases.

    >>> rule = jo.scale_by_polargrad(ns_coeffs="polar_express", ns_steps=8)
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    """
    name = "scale_by_polargrad"
    how = orthogonalization(name, ns_coeffs, ns_steps, preconditioning, compute_dtype, gram, adaptive=True)
    orthogonal = OrthogonalDirection(name, how, Layout(weight_dimension_numbers, stack_axes, stack_sharding))
    direction = MeanDirection(name, "b1", b1, mu_dtype, nesterov, orthogonal, corrected=False)

    def init(params: Params) -> State:
        return ScaleByPolarGradState(*direction.init(params))

    def update(
        updates: Updates, state: ScaleByPolarGradState, params: Params = None, *, h: Scalars
    ) -> tuple[Updates, State]:
        u, mean = direction.step(updates, Mean(*state), h)
        return u, ScaleByPolarGradState(*mean)

    hypers = {"b1": (b1, FRACTION), "eps": (eps, NONNEGATIVE)}
    return transform(name, init, update, state_type=ScaleByPolarGradState, hypers=hypers)


@recipe
def polargrad(
    learning_rate: Hyper,
    b1: Hyper = 0.95,
    eps: Hyper = 1e-15,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = "dion",
    ns_steps: int = 5,
    weight_dimension_numbers: Numbers = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p), u of `scale_by_polargrad`, for matrices; `rest`, or AdamW, for what is none.

    u = <M, U> U, U orthogonal and near to a mean gradient M

    Matrices are told as in `muon`: embeddings and heads are two-dimensional, too.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; 0.95 as in Muon.
    eps: added to |M| before it is orthogonalized, >= 0.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; not read by presets of their own length.
    weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: 4 bytes a parameter of matrices; of the rest AdamW keeps 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Lau, Long & Su 2025, arXiv:2505.21799.
    Not with a rate of Muon's: steps are as long as gradients, whose scale it takes over.

    >>> opt = jo.polargrad(1.0, rest=jo.adamw(1e-3))
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    matrices = scale_by_polargrad(
        b1, eps, mu_dtype, nesterov=nesterov, ns_coeffs=ns_coeffs, ns_steps=ns_steps,
        weight_dimension_numbers=weight_dimension_numbers, stack_axes=stack_axes, compute_dtype=compute_dtype,
        gram=gram, stack_sharding=stack_sharding,
    )  # fmt: skip
    rest = adamw(learning_rate, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = Layout(weight_dimension_numbers, stack_axes).labels("polargrad")
    return matrices_and_rest(matrices, rest, labels, learning_rate, weight_decay, mask)
