"""Aurora: Muon whose steps are as long for every neuron, and orthogonal all the same.

Dewulf, Pai, Yang, Zhang & Keigwin 2026, arXiv:2606.27715; github.com/tilde-research/aurora-release, src/aurora.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, Domain
from jaxopt_ko.linalg.matrix_functions import Coefficients
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.axes import Layout, Numbers, jordan_scale
from jaxopt_ko.optimizers.matrix.orthogonalization import Mean, MeanDirection, OrthogonalDirection, orthogonalization
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, PyTree, State, Updates

POWER = Domain(0.0, 1.0, "in (0, 1]", low_open=True, infinite=True)


@quantizable(signed=("mu",))
class ScaleByAuroraState(NamedTuple):
    """State of `scale_by_aurora`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  M, mean of G


@options
def scale_by_aurora(
    b1: Hyper = 0.95,
    eps: Hyper = 1e-7,
    mu_dtype: DType | None = None,
    *,
    iterations: int = 2,
    power: float = 0.5,
    nesterov: bool = True,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = "quintic",
    ns_steps: int = 5,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Numbers = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    shape_scale: Callable[[int, int], float] | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The orthogonal matrix near to a mean gradient, with rows of one length where these are more than the columns.

    M = b1 M + (1 - b1) G;      G_hat = b1 M + (1 - b1) G      nesterov;  G_hat = M without
    D = 1 / |G_hat_i|                                          of each row i of a tall [m, n], m > n
    U = A B' of D G_hat = A S B'                               iterations times, and between them
    D = D (n / m / |U_i|**2)**power
    u = s U

    Of a wide matrix the columns are evened, of a square one nothing: there u is Muon's.

    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; the authors' 0.95.
    eps: added to |D G_hat| before it is orthogonalized, >= 0.
    mu_dtype: dtype of M; None: the parameter's, float32 at least.
    iterations: how often a matrix is orthogonalized, an integer >= 1; 1 evens the rows of G_hat alone. The authors' 2.
    power: in (0, 1]; 0.5 takes the whole root, a smaller one swings less. The authors' 0.5.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`; the
        authors' twelve steps of (2, -1.5, 0.5), for what is uneven here is to be the matrix and not the steps.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; not read by presets of their own length.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    shape_scale: (fan_in, fan_out) -> s; None: 1.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: M, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix.
    Source: Dewulf et al. 2026, arXiv:2606.27715, in the form of its authors' code.
    Not for embeddings, heads, norms and biases; nor where Muon's products are a good part of a step: here are as many
        again for each iteration.

    >>> rule = jo.scale_by_aurora(ns_coeffs="polar_express", ns_steps=6)
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    """
    name = "scale_by_aurora"
    how = orthogonalization(name, ns_coeffs, ns_steps, preconditioning, compute_dtype, gram)._replace(
        balance=errors.check_size(name, "iterations", iterations),
        balance_power=float(errors.check_number(name, "power", power, POWER)),
    )
    layout = Layout(weight_dimension_numbers, stack_axes, stack_sharding)
    orthogonal = OrthogonalDirection(name, how, layout, shape_scale)
    direction = MeanDirection(name, "b1", b1, mu_dtype, nesterov, orthogonal, corrected=False)

    def init(params: Params) -> State:
        return ScaleByAuroraState(*direction.init(params))

    def update(
        updates: Updates, state: ScaleByAuroraState, params: Params = None, *, h: Scalars
    ) -> tuple[Updates, State]:
        u, mean = direction.step(updates, Mean(*state), h)
        return u, ScaleByAuroraState(*mean)

    hypers = {"b1": (b1, FRACTION), "eps": (eps, NONNEGATIVE)}
    return transform(name, init, update, state_type=ScaleByAuroraState, hypers=hypers)


@recipe
def aurora(
    learning_rate: Hyper,
    b1: Hyper = 0.95,
    eps: Hyper = 1e-7,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    mu_dtype: DType | None = None,
    *,
    iterations: int = 2,
    power: float = 0.5,
    nesterov: bool = True,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = "quintic",
    ns_steps: int = 5,
    weight_dimension_numbers: Numbers = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p), u of `scale_by_aurora`, for matrices; `rest`, or AdamW, for what is none.

    u = s U, U orthogonal with rows of one length, near to a mean gradient;   s = sqrt(max(1, fan_out / fan_in))

    Matrices are told as in `muon`: embeddings and heads are two-dimensional, too.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of the mean gradient, in [0, 1): it remembers about 1 / (1 - b1) gradients; the authors' 0.95.
    eps: added to the norm before a matrix is orthogonalized, >= 0; of AdamW, too.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step; the
        authors' is 0.025.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    iterations: how often a matrix is orthogonalized, an integer >= 1; the authors' 2.
    power: how far rows are evened between, in (0, 1]; the authors' 0.5.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; not read by presets of their own length.
    weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, eps and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: 4 bytes a parameter of matrices; of the rest AdamW keeps 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Dewulf et al. 2026, arXiv:2606.27715, in the form of its authors' code.
    Not where all matrices are square: it is Muon there.

    >>> opt = jo.aurora(0.02, weight_decay=0.025, rest=jo.adamw(1e-3))
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    matrices = scale_by_aurora(
        b1, eps, mu_dtype, iterations=iterations, power=power, nesterov=nesterov, ns_coeffs=ns_coeffs,
        ns_steps=ns_steps, weight_dimension_numbers=weight_dimension_numbers, stack_axes=stack_axes,
        compute_dtype=compute_dtype, gram=gram, shape_scale=jordan_scale, stack_sharding=stack_sharding,
    )  # fmt: skip
    rest = adamw(learning_rate, eps=eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = Layout(weight_dimension_numbers, stack_axes).labels("aurora")
    return matrices_and_rest(matrices, rest, labels, learning_rate, weight_decay, mask)
