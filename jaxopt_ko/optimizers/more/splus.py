"""SPlus: signs in the eigenbases of Shampoo's factors. Frans, Levine & Abbeel 2025, arXiv:2506.07254, Algorithm 1."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.basic import init_empty_state, stateless_with_tree_map
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.compose.groups import partition
from jaxopt_ko.core import stacking, tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options, renamed
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.linalg.matrix_functions import eigenvectors, product, rotated
from jaxopt_ko.transforms.averaging import average_params, ema
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale, scale_by_learning_rate
from jaxopt_ko.types import DType, EmptyState, GradientTransformation, Hyper, MaskOrFn, PyTree, State, Updates


@quantizable(signed=("mu",))
class ScaleBySplusState(NamedTuple):
    """State of `scale_by_splus`."""

    count: Array  # int32[]        t, steps taken
    mu: Updates  # like params     M, mean of G
    L: Updates  # float[…, m, m]   mean of G G'; [0, 0] for a side that is too long
    R: Updates  # float[…, n, n]   mean of G' G
    Q_L: Updates  # float[…, m, m] eigenvectors of L
    Q_R: Updates  # float[…, n, n] eigenvectors of R


@renamed("0.2.0", inverse_every="precondition_frequency", max_dim="max_precondition_dim")
@options
def scale_by_splus(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    precondition_frequency: int = 100,
    max_precondition_dim: int = 10000,
    *,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The sign of the mean gradient in the basis where Shampoo's preconditioner is diagonal: of one length for ever.

    M   = b1 M + (1 - b1) G
    U   = Q_L sign(Q_L' M Q_R) Q_R'                       at the first step sign(M)
    L   = b2 L + (1 - b2) G G';  R = b2 R + (1 - b2) G' G
    Q_L = eigenvectors of L, Q_R of R                     of the first, and then of every precondition_frequency-th step

    The singular values of U are near sqrt(max(m, n)), however old the bases are: none is divided by.

    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of L and R, in [0, 1): they remember about 1 / (1 - b2) gradients.
    precondition_frequency: an integer >= 1: steps from one decomposition to the next; matrices of other shapes take
        other turns. The authors' is 100.
    max_precondition_dim: an integer >= 1: a longer side has no factor, and is left in its own basis.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M, L, R, Q_L and Q_R: 4 m n + 8 (m**2 + n**2) bytes of a matrix [m, n], 20 a parameter of square ones.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix, or is complex.
    Source: Frans, Levine & Abbeel 2025, arXiv:2506.07254, Algorithm 1.
    Not for use without a factor for the shape, 2 / (m + n) in `splus`: u is as long whatever the gradient.

    >>> rule = jo.scale_by_splus(precondition_frequency=50)
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    """
    name = "scale_by_splus"
    errors.check_size(name, "max_precondition_dim", max_precondition_dim)

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        sides = [size if size <= max_precondition_dim else 0 for size in shape]
        factors, bases = [jnp.zeros((k, k), dtype) for k in sides], [jnp.eye(k, dtype=dtype) for k in sides]
        return jnp.zeros(shape, dtype), *factors, *bases

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"first": (t == 1).astype(h.b1.dtype)}

    def refresh(G: Array, W: None, M: Array, L: Array, R: Array, Q_L: Array, Q_R: Array, h: Scalars) -> Memory:
        sides = jax.lax.cond(h.first > 0, lambda: _gathered(G, L, R, h), lambda: (L, R))
        return M, L, R, *(eigenvectors(side) if side.size else side for side in sides)

    def rule(G: Array, W: None, M: Array, L: Array, R: Array, Q_L: Array, Q_R: Array, h: Scalars) -> Step:
        M = h.b1 * M + (1 - h.b1) * G
        U = rotated(jnp.sign(rotated(M, Q_L.mT, Q_R)), Q_L, Q_R.mT)
        return jnp.where(h.first > 0, jnp.sign(M), U), M, *_gathered(G, L, R, h), Q_L, Q_R

    return matrixwise(
        name, ScaleBySplusState, init=init, rule=rule, hypers={"b1": (b1, FRACTION), "b2": (b2, FRACTION)},
        shared=shared, refresh=refresh, interval=("precondition_frequency", precondition_frequency),
        stack_axes=stack_axes,
    )  # fmt: skip


def _gathered(G: Array, L: Array, R: Array, h: Scalars) -> tuple[Array, Array]:
    L = h.b2 * L + (1 - h.b2) * product(G, G.mT) if L.size else L
    R = h.b2 * R + (1 - h.b2) * product(G.mT, G) if R.size else R
    return L, R


def _scale_by_shape(
    max_precondition_dim: int, nonstandard_constant: Hyper, stack_axes: PyTree
) -> GradientTransformation:
    """u 2 / (m + n) of a matrix, nonstandard_constant u where a side is too long."""

    def update(updates: Updates, state: EmptyState, *, h: Scalars) -> tuple[Updates, State]:
        leaves, treedef = tree.flatten(updates)
        stacks = stacking.count_stack_axes("splus", updates, stack_axes)

        def scaled(u: Array, stack: int) -> Array:
            m, n = u.shape[stack:] if u.size else (1, 1)
            wide = tree.compute_dtype(u.dtype)
            factor = 2 / (m + n) if max(m, n) <= max_precondition_dim else h.nonstandard_constant.astype(wide)
            return (factor * u.astype(wide)).astype(u.dtype)

        return treedef.unflatten([scaled(u, stack) for u, stack in zip(leaves, stacks, strict=True)]), state

    hypers = {"nonstandard_constant": (nonstandard_constant, NONNEGATIVE)}
    return transform("splus", init_empty_state, update, state_type=EmptyState, hypers=hypers)


@renamed("0.2.0", inverse_every="precondition_frequency", max_dim="max_precondition_dim")
@recipe
def splus(
    learning_rate: Hyper = 0.1,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    ema_rate: Hyper = 0.999,
    precondition_frequency: int = 100,
    nonstandard_constant: Hyper = 1e-3,
    weight_decay: Hyper = 1e-2,
    mask: MaskOrFn | None = None,
    max_precondition_dim: int = 10000,
    *,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr 2 / (m + n) (U + weight_decay P), U of `scale_by_splus`, for matrices; and the mean of P beside it.

    U = Q_L sign(Q_L' M Q_R) Q_R'
    -lr nonstandard_constant (sign(M) + weight_decay p)     for what is no matrix, unless `rest` says otherwise

    That factor is also for matrices with a side beyond max_precondition_dim. The learning rate is that of Adam times
    the width of the network. Evaluate at the mean: `averaged_params(state, params)`.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; 0.1 to 0.2.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of L and R, in [0, 1): they remember about 1 / (1 - b2) gradients.
    ema_rate: decay of the mean of the parameters, in [0, 1): it remembers about 1 / (1 - ema_rate) steps.
    precondition_frequency: an integer >= 1: steps from one decomposition to the next; matrices of other shapes take
        other turns. The authors' is 100.
    nonstandard_constant: factor of the steps of what is no matrix, or too long a one, >= 0.
    weight_decay: lambda >= 0: parameters shrink by this times the learning rate, times 2 / (m + n) or
        nonstandard_constant, a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    max_precondition_dim: an integer >= 1: a longer side has no factor, and its matrix nonstandard_constant for 2 / (m +
        n).
    rest: the method for leaves that are no matrices; None: the second line above.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 8 m n + 8 (m**2 + n**2) bytes of a matrix [m, n], 24 a parameter of square ones; of the rest 8 a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; TreeError, when traced, for complex matrices.
    Source: Frans, Levine & Abbeel 2025, arXiv:2506.07254, Algorithm 1.
    Not evaluated at P itself: its steps are of one length until the learning rate falls.

    >>> opt = jo.splus(0.1)
    >>> params = {"w": jnp.ones((3, 5)), "b": jnp.zeros(5)}
    >>> state = opt.init(params)
    >>> to_evaluate = jo.averaged_params(state, params)
    """
    errors.check_hyper("splus", "ema_rate", ema_rate, FRACTION)
    errors.check_hyper("splus", "nonstandard_constant", nonstandard_constant, NONNEGATIVE)
    decay, rate = add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate)
    shape = _scale_by_shape(max_precondition_dim, nonstandard_constant, stack_axes)
    matrices = chain(
        scale_by_splus(b1, b2, precondition_frequency, max_precondition_dim, stack_axes=stack_axes), decay, shape, rate
    )
    if rest is None:
        sign = stateless_with_tree_map(lambda m, _: jnp.sign(m))
        rest = chain(ema(b1, debias=False), sign, decay, scale(nonstandard_constant), rate)
    each = partition({"matrix": matrices, "rest": rest}, stacking.matrix_labels("splus", stack_axes))
    return chain(each, average_params(ema_rate))
