"""SOAP: Adam in the eigenbases of Shampoo's factors. Vyas et al. 2024, arXiv:2409.11321, Algorithms 3 and 4."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.linalg.matrix_functions import eigenvectors, orthonormal, product, rotated
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates


@quantizable(signed=("mu",), nonnegative=("nu",))
class ScaleBySoapState(NamedTuple):
    """State of `scale_by_soap`."""

    count: Array  # int32[]        t, steps taken
    mu: Updates  # like params     M, mean of G
    nu: Updates  # like params     V, mean of the squares of G' = Q_L' G Q_R
    L: Updates  # float[…, m, m]   mean of G G'; [0, 0] for a side that is too long
    R: Updates  # float[…, n, n]   mean of G' G
    Q_L: Updates  # float[…, m, m] eigenvectors of L, by one step of the power method at a time
    Q_R: Updates  # float[…, n, n] eigenvectors of R


@options
def scale_by_soap(
    b1: Hyper = 0.95,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    shampoo_beta: Hyper | None = None,
    precondition_frequency: int = 10,
    max_precondition_dim: int = 10000,
    *,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Adam's direction in the basis where Shampoo's preconditioner is diagonal, for every matrix.

    G'   = Q_L' G Q_R
    M    = b1 M + (1 - b1) G;  V = b2 V + (1 - b2) G'**2
    U    = Q_L (Q_L' M Q_R / (1 - b1**t) / (sqrt(V / (1 - b2**t)) + eps)) Q_R'
    L    = b L + (1 - b) G G';  R = b R + (1 - b) G' G               b = shampoo_beta, b2 if None
    Q_L  = orthogonal factor of L Q_L, and Q_R of R Q_R, every precondition_frequency steps

    The first gradient makes L, R and their eigenvectors, and no step.

    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; the authors' 0.95.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) squares; the authors' 0.95.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    shampoo_beta: decay of L and R, in [0, 1); None: b2.
    precondition_frequency: an integer >= 1: steps from one turn of the bases to the next; matrices of other shapes take
        other turns. The authors' is 10.
    max_precondition_dim: an integer >= 1: a longer side has no factor, and is left in its own basis.
    nu_dtype: of V, float32 at least by default.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M, V, L, R, Q_L and Q_R: 8 m n + 8 (m**2 + n**2) bytes of a matrix [m, n], 24 a parameter of square ones.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix, or is complex.
    Source: Vyas et al. 2024, arXiv:2409.11321, Algorithms 3 and 4.
    Not where the factors do not fit beside the weights, unless max_precondition_dim leaves out the long sides.

    >>> rule = jo.scale_by_soap(max_precondition_dim=4)
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    >>> state.Q_L["w"].shape, state.Q_R["w"].shape
    ((3, 3), (0, 0))
    """
    name = "scale_by_soap"
    errors.check_size(name, "max_precondition_dim", max_precondition_dim)

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        sides = [size if size <= max_precondition_dim else 0 for size in shape]
        factors, bases = [jnp.zeros((k, k), dtype) for k in sides], [jnp.eye(k, dtype=dtype) for k in sides]
        return jnp.zeros(shape, dtype), jnp.zeros(shape, nu_dtype or dtype), *factors, *bases

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        first = t == 1
        d1, d2 = (jnp.where(first, jnp.ones_like(b), b) for b in (h.b1, h.b2))
        scale = safe_sqrt(h.gathered("b2", skipped=1)) / h.gathered("b1", skipped=1)
        return {"d1": d1, "d2": d2, "scale": scale, "first": first.astype(d1.dtype)}

    def refresh(
        G: Array, W: None, M: Array, V: Array, L: Array, R: Array, Q_L: Array, Q_R: Array, h: Scalars
    ) -> Memory:
        def begin() -> Memory:
            sides = (product(G, G.mT) if L.size else L, product(G.mT, G) if R.size else R)
            return V, *(eigenvectors(side) if side.size else side for side in sides)

        def go_on() -> Memory:
            v, new_L = _turned(V, L, Q_L, 1) if L.size else (V, Q_L)
            v, new_R = _turned(v, R, Q_R, 2) if R.size else (v, Q_R)
            return v, new_L, new_R

        v, Q_L, Q_R = jax.lax.cond(h.first > 0, begin, go_on)
        return M, v, L, R, Q_L, Q_R

    def rule(G: Array, W: None, M: Array, V: Array, L: Array, R: Array, Q_L: Array, Q_R: Array, h: Scalars) -> Step:
        M = h.d1 * M + (1 - h.d1) * G
        V = h.d2 * V + (1 - h.d2) * jnp.square(rotated(G, Q_L.mT, Q_R))
        N = ratio(rotated(M, Q_L.mT, Q_R), safe_sqrt(V) + h.eps)
        U = h.scale * rotated(N, Q_L, Q_R.mT)
        L = h.b * L + (1 - h.b) * product(G, G.mT) if L.size else L
        R = h.b * R + (1 - h.b) * product(G.mT, G) if R.size else R
        return U, M, V, L, R, Q_L, Q_R

    b = b2 if shampoo_beta is None else errors.check_hyper(name, "shampoo_beta", shampoo_beta, FRACTION)
    hypers = {"b1": (b1, FRACTION), "b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE), "b": (b, FRACTION)}
    return matrixwise(
        name, ScaleBySoapState, init=init, rule=rule, hypers=hypers, shared=shared, refresh=refresh,
        interval=("precondition_frequency", precondition_frequency), lag=1, stack_axes=stack_axes,
        dtypes={"nu_dtype": nu_dtype}, debiased=("b1", "b2"), skipped=1,
    )  # fmt: skip


def _turned(V: Array, factor: Array, Q: Array, axis: int) -> tuple[Array, Array]:
    """V and the basis of one side after a step of the power method, in the order of falling eigenvalues."""
    power = product(factor, Q)
    order = jnp.argsort(-jnp.sum(Q * power, axis=1), axis=-1)
    V = jnp.take_along_axis(V, jnp.expand_dims(order, 3 - axis), axis)
    return V, orthonormal(jnp.take_along_axis(power, order[:, None, :], 2))


@recipe
def soap(
    learning_rate: Hyper = 3e-3,
    b1: Hyper = 0.95,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    shampoo_beta: Hyper | None = None,
    weight_decay: Hyper = 1e-2,
    mask: MaskOrFn | None = None,
    precondition_frequency: int = 10,
    max_precondition_dim: int = 10000,
    *,
    nu_dtype: DType | None = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (U + weight_decay P), U of `scale_by_soap`, for matrices; `rest`, or AdamW, for what is none.

    U = Q_L (Q_L' M Q_R / (1 - b1**t) / (sqrt(V / (1 - b2**t)) + eps)) Q_R',   V a mean of (Q_L' G Q_R)**2

    Q_L and Q_R are near the eigenvectors of the means of G G' and G' G. Matrices are the leaves with two axes behind
    their `stack_axes`.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; the authors'
        3e-3.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; the authors' 0.95.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) squares; the authors' 0.95.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    shampoo_beta: decay of the means of G G' and G' G, in [0, 1); None: b2.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    precondition_frequency: an integer >= 1: steps from one turn of the bases to the next; matrices of other shapes take
        other turns. The authors' is 10.
    max_precondition_dim: an integer >= 1: a longer side has no factor, and is left in its own basis.
    nu_dtype: of V, float32 at least by default.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, b1, b2, eps and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 8 m n + 8 (m**2 + n**2) bytes of a matrix [m, n], 24 a parameter of square ones; of the rest AdamW keeps 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; TreeError, when traced, for complex matrices.
    Source: Vyas et al. 2024, arXiv:2409.11321, Algorithms 3 and 4.
    Not where the factors, m**2 + n**2 each twice, do not fit beside the weights: Muon keeps one matrix.

    >>> opt = jo.soap(3e-3, max_precondition_dim=1024)
    >>> params = {"w": jnp.ones((4, 4)), "b": jnp.zeros(4)}
    >>> state = opt.init(params)
    """
    rule = scale_by_soap(
        b1, b2, eps, shampoo_beta, precondition_frequency, max_precondition_dim, nu_dtype=nu_dtype,
        stack_axes=stack_axes,
    )  # fmt: skip
    rest = adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = matrix_labels("soap", stack_axes)
    return matrices_and_rest(rule, rest, labels, learning_rate, weight_decay, mask)
