"""Muon: momentum, orthogonalized by Newton-Schulz, for the matrices; another method for the rest.

Jordan et al. 2024, kellerjordan.github.io/posts/muon. Its scale to match AdamW's: Liu et al. 2025, arXiv:2502.16982,
equation 4. Adaptive: Bernstein & Newhouse 2024, arXiv:2409.20325.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.basic import identity, init_empty_state
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import scalar_dtype, unfolded
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.linalg.matrix_functions import JORDAN, PRESETS, Coefficients
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.axes import Layout, Numbers, jordan_scale
from jaxopt_ko.optimizers.matrix.orthogonalization import Mean, MeanDirection, OrthogonalDirection, orthogonalization
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, EmptyState, GradientTransformation, Hyper, MaskOrFn, Params, PyTree, State, Updates


@quantizable(signed=("mu",))
class MuonState(NamedTuple):
    """State of `scale_by_muon`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g
    ns_coeffs: Array  # float[3] or float[steps, 3]  a, b, c of Newton-Schulz: kept for optax's sake, and not read


@options
def scale_by_muon(
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    beta: Hyper = 0.95,
    eps: Hyper = 1e-8,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Numbers = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    shape_scale: Callable[[int, int], float] | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The orthogonal matrix nearest to a mean gradient, for every matrix.

    m_t   = beta m + (1 - beta) g
    m_hat = beta m_t / (1 - beta**(t+1)) + (1 - beta) g / (1 - beta**t)    nesterov;  m_t / (1 - beta**t) without
    u     = s U V'  of  m_hat = U S V', by `matrix_functions.orthogonalized`;       adaptive: u <m_hat, u>

    Matrices of one shape are one stack and one call.

    ns_coeffs: (a, b, c) for ns_steps steps, one such triple for each step, or a preset: "standard" (singular values
        within 0.68 and 1.13), "polar_express", "cans" (all ns_steps long), "dion", "cubic", "quintic", "deepseek_v4" or
        "deepseek" (8 steps and 2; these of their own length).
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    beta: decay of m, in [0, 1): it remembers about 1 / (1 - beta) gradients; Jordan's 0.95.
    eps: added to |m_hat| before it is orthogonalized, >= 0.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    adaptive: multiply u by <m_hat, u>, the sum of the singular values: steps fall with the gradient.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol" or "schatten", see
        `matrix_functions.orthogonalized`.
    weight_dimension_numbers: a `MuonDimensionNumbers` for each leaf, a prefix of such a tree, or a function that makes
        one; None: the two axes behind the first `stack_axes`.
    stack_axes: how many leading axes of a leaf are stacks of separate matrices; an integer, or a prefix of integers.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    shape_scale: (fan_in, fan_out) -> s; None: 1.
    stack_sharding: of [N, m, n], to spread the matrices over a mesh, whole: NamedSharding(mesh, PartitionSpec("x")).

    State: m, 4 bytes a parameter; 2 with mu_dtype=jnp.bfloat16.
    Raises HyperparameterError, when made, for a number outside its domain; also for unknown presets. TreeError, when
        traced, for a leaf that is no matrix.
    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; adaptive, Bernstein & Newhouse 2024,
        arXiv:2409.20325.
    Not for embeddings, heads, norms and biases: see `muon`.

    >>> rule = jo.scale_by_muon(ns_coeffs="polar_express", ns_steps=6)
    >>> numbers = jo.MuonDimensionNumbers((0, 1, 2), 3)
    >>> of_kernels = jo.scale_by_muon(weight_dimension_numbers={"conv": numbers})
    >>> state = of_kernels.init({"conv": jnp.ones((3, 3, 2, 4))})
    """
    name = "scale_by_muon"
    how = orthogonalization(name, ns_coeffs, ns_steps, preconditioning, compute_dtype, gram, adaptive)
    layout = Layout(weight_dimension_numbers, stack_axes, stack_sharding)
    orthogonal = OrthogonalDirection(name, how, layout, shape_scale)
    direction = MeanDirection(name, "beta", beta, mu_dtype, nesterov, orthogonal)

    def init(params: Params) -> MuonState:
        given = PRESETS[ns_coeffs](ns_steps) if isinstance(ns_coeffs, str) and ns_coeffs != "standard" else ns_coeffs
        table = jnp.asarray(np.asarray(JORDAN if given == "standard" else given), scalar_dtype())
        return MuonState(*direction.init(params), table)

    def update(updates: Updates, state: MuonState, params: Params = None, *, h: Scalars) -> tuple[Updates, State]:
        u, mean = direction.step(updates, Mean(state.count, state.mu), h)
        return u, MuonState(*mean, state.ns_coeffs)

    hypers = {"beta": (beta, FRACTION), "eps": (eps, NONNEGATIVE)}
    return transform(name, init, update, state_type=MuonState, hypers=hypers, debiased=("beta",))


@options
def orthogonalize(
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    eps: Hyper = 1e-8,
    *,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Numbers = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    shape_scale: Callable[[int, int], float] | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The orthogonal matrix nearest to the updates, for every matrix.

    u = s U V' of g = U S V';   0 for g = 0

    It has no memory: `scale_by_muon` puts a mean gradient before it and sums its terms in the same pass.

    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    eps: added to |g| before it is orthogonalized, >= 0.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    shape_scale: (fan_in, fan_out) -> s; None: 1.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: none.
    Raises HyperparameterError, when made, for a number outside its domain; also for unknown presets. TreeError, when
        traced, for a leaf that is no matrix.
    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; other presets, see `matrix_functions.orthogonalized`.
    Not for use in the place of `muon` unless the updates have a mean before it: single gradients are noisy.

    >>> rule = jo.chain(jo.trace(0.9), jo.orthogonalize())
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    """
    name = "orthogonalize"
    how = orthogonalization(name, ns_coeffs, ns_steps, preconditioning, compute_dtype, gram)
    layout = Layout(weight_dimension_numbers, stack_axes, stack_sharding)
    direction = OrthogonalDirection(name, how, layout, shape_scale)

    def update(updates: Updates, state: EmptyState, params: Params = None, *, h: Scalars) -> tuple[Updates, State]:
        one = unfolded(jnp.ones((), scalar_dtype()))
        return direction(updates, (one,), [jax.tree.leaves(updates)], h.eps, when=one > 0), state

    return transform(name, init_empty_state, update, state_type=EmptyState, hypers={"eps": (eps, NONNEGATIVE)})


@recipe
def muon(
    learning_rate: Hyper,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    beta: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    weight_decay_mask: MaskOrFn | None = None,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: Hyper = 0.9,
    adam_b2: Hyper = 0.999,
    adam_eps_root: Hyper = 0.0,
    adam_weight_decay: Hyper = 0.0,
    adam_learning_rate: Hyper | None = None,
    muon_weight_dimension_numbers: Numbers = None,
    consistent_rms: float | None = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p), u of `scale_by_muon`, for matrices; `rest`, or AdamW, for what is none.

    u = s U V' of m_hat = U S V'
    s = sqrt(max(1, fan_out / fan_in)), or with consistent_rms r sqrt(max(fan_in, fan_out)), r its value

    Matrices are the leaves with two axes behind their `stack_axes`, or those that muon_weight_dimension_numbers
    gives axes, not None. Embeddings and heads are two-dimensional, too: leave them to `rest` by such a tree.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    beta: decay of m, in [0, 1): it remembers about 1 / (1 - beta) gradients; Jordan's 0.95.
    eps: added to |m_hat| before it is orthogonalized, >= 0; of AdamW, too.
    weight_decay: lambda >= 0: beside the gradient, matrices shrink by this times the learning rate a step.
    weight_decay_mask: which of the matrices decay: a tree of booleans, a prefix of one, or a function of params; None:
        all.
    mu_dtype: dtype of m, and of AdamW's; None: the parameter's, float32 at least.
    nesterov: orthogonalize the mean one gradient ahead, and take AdamW's so, too.
    adaptive: multiply u by the sum of the singular values of m_hat: steps fall with the gradient.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    adam_b1, adam_b2: decays of the AdamW of the rest, in [0, 1).
    adam_eps_root, adam_weight_decay: of the AdamW of the rest, >= 0; weight_decay is of the matrices alone.
    adam_learning_rate: of the AdamW of the rest: a number, an array or a schedule, >= 0; None: learning_rate.
    muon_weight_dimension_numbers: a tree of `MuonDimensionNumbers` and None, which leaves a leaf to the rest, a prefix
        of one, or a function that makes one; None: by stack_axes.
    consistent_rms: root mean square of u whatever the shape: 0.2 is AdamW's, whose learning rates then do; None:
        Jordan's s.
    rest: the method for leaves that are no matrices; None: AdamW with the adam_ arguments, which else are not used.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: m, 4 bytes a parameter of matrices; of the rest AdamW keeps 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; HyperparameterError also for unknown presets. TreeError, when traced, for
        axes that do not fit a leaf.
    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; consistent_rms, Liu et al. 2025, arXiv:2502.16982,
        equation 4.
    Not for a minimum to many digits: the steps do not shrink with the gradient, unless adaptive.

    >>> matrix = jo.MuonDimensionNumbers()
    >>> numbers = {"embedding": None, "hidden": matrix, "bias": None}
    >>> opt = jo.muon(2e-3, weight_decay=0.1, consistent_rms=0.2, muon_weight_dimension_numbers=numbers)
    >>> state = opt.init({"embedding": jnp.ones((7, 3)), "hidden": jnp.ones((3, 3)), "bias": jnp.ones(3)})
    """
    for name, value in (("adam_b1", adam_b1), ("adam_b2", adam_b2)):
        errors.check_hyper("muon", name, value, FRACTION)
    for name, value in (("adam_eps_root", adam_eps_root), ("adam_weight_decay", adam_weight_decay)):
        errors.check_hyper("muon", name, value, NONNEGATIVE)
    if consistent_rms is not None:
        errors.check_number("muon", "consistent_rms", consistent_rms, errors.POSITIVE)
    if adam_learning_rate is not None:
        errors.check_hyper("muon", "adam_learning_rate", adam_learning_rate, NONNEGATIVE)

    def scale_of(fan_in: int, fan_out: int) -> float:
        if consistent_rms is None:
            return jordan_scale(fan_in, fan_out)
        return float(consistent_rms) * math.sqrt(max(fan_in, fan_out))

    matrices = scale_by_muon(
        ns_coeffs, ns_steps, beta, eps, mu_dtype, nesterov=nesterov, adaptive=adaptive,
        preconditioning=preconditioning, weight_dimension_numbers=muon_weight_dimension_numbers,
        stack_axes=stack_axes, compute_dtype=compute_dtype, gram=gram, shape_scale=scale_of,
        stack_sharding=stack_sharding,
    )  # fmt: skip
    if rest is None:
        rest = adamw(
            learning_rate if adam_learning_rate is None else adam_learning_rate, adam_b1, adam_b2, eps,
            adam_eps_root, mu_dtype, adam_weight_decay, nesterov=nesterov,
        )  # fmt: skip
    names = ("muon", "adam")  # optax's, in the state
    labels = Layout(muon_weight_dimension_numbers, stack_axes).labels("muon", names)
    return matrices_and_rest(
        matrices, rest, labels, learning_rate, weight_decay, weight_decay_mask, names, between=[identity()]
    )  # optax's state has a scale by the shape there
