"""SOAP: Adam in the eigenbases of Shampoo's factors. Vyas et al. 2024, arXiv:2409.11321, Algorithms 3 and 4.

SOAP into Muon: the same bases around the mean gradient, whose direction there is orthogonalized.
github.com/KellerJordan/modded-nanogpt, records/track_3_optimization, pull requests #278 and #321.
"""

from __future__ import annotations

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
from jaxopt_ko.core.numerics import or_one, quotient, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.linalg.matrix_functions import (
    JORDAN,
    Coefficients,
    eigenvectors,
    frobenius,
    orthonormal,
    product,
    rotated,
)
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.axes import jordan_scale
from jaxopt_ko.optimizers.matrix.orthogonalization import nearest, orthogonalization
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
    Not where the factors do not fit beside the weights, unless max_precondition_dim leaves out the long sides. On
        CPUs set OPENBLAS_NUM_THREADS=1 before jax starts: where cores are busy, LAPACK's threads wait in its QR.

    >>> rule = jo.scale_by_soap(max_precondition_dim=4)
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    >>> state.Q_L["w"].shape, state.Q_R["w"].shape
    ((3, 3), (0, 0))
    """
    name = "scale_by_soap"
    errors.check_size(name, "max_precondition_dim", max_precondition_dim)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        first = t == 1
        d1, d2 = (jnp.where(first, jnp.ones_like(b), b) for b in (h.b1, h.b2))
        scale = safe_sqrt(h.gathered("b2", skipped=1)) / h.gathered("b1", skipped=1)
        return {"d1": d1, "d2": d2, "scale": scale, "first": first.astype(d1.dtype)}

    def rule(G: Array, W: None, M: Array, V: Array, L: Array, R: Array, Q_L: Array, Q_R: Array, h: Scalars) -> Step:
        M = h.d1 * M + (1 - h.d1) * G
        V = h.d2 * V + (1 - h.d2) * jnp.square(rotated(G, Q_L.mT, Q_R))
        N = ratio(rotated(M, Q_L.mT, Q_R), safe_sqrt(V) + h.eps)
        U = h.scale * rotated(N, Q_L, Q_R.mT)
        return U, M, V, *_factors(L, R, G, h.b), Q_L, Q_R

    b = b2 if shampoo_beta is None else errors.check_hyper(name, "shampoo_beta", shampoo_beta, FRACTION)
    hypers = {"b1": (b1, FRACTION), "b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE), "b": (b, FRACTION)}

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        return _start(max_precondition_dim, nu_dtype, shape, dtype)

    return matrixwise(
        name, ScaleBySoapState, init=init, rule=rule, hypers=hypers, shared=shared, refresh=_turn,
        interval=("precondition_frequency", precondition_frequency), lag=1, stack_axes=stack_axes,
        dtypes={"nu_dtype": nu_dtype}, debiased=("b1", "b2"), skipped=1,
    )  # fmt: skip


def _start(longest: int, nu_dtype: DType | None, shape: tuple[int, int], dtype: DType) -> Memory:
    """M, V, L, R, Q_L and Q_R of a matrix."""
    sides = [size if size <= longest else 0 for size in shape]
    factors, bases = [jnp.zeros((k, k), dtype) for k in sides], [jnp.eye(k, dtype=dtype) for k in sides]
    return jnp.zeros(shape, dtype), jnp.zeros(shape, nu_dtype or dtype), *factors, *bases


def _factors(L: Array, R: Array, G: Array, b: Array) -> tuple[Array, Array]:
    """The means of G G' and G' G."""
    L = b * L + (1 - b) * product(G, G.mT) if L.size else L
    return L, b * R + (1 - b) * product(G.mT, G) if R.size else R


def _turn(G: Array, W: None, M: Array, V: Array, L: Array, R: Array, Q_L: Array, Q_R: Array, h: Scalars) -> Memory:
    """The eigenvectors of the first gradient's products; later each basis turned by one step."""

    def begin() -> Memory:
        sides = (product(G, G.mT) if L.size else L, product(G.mT, G) if R.size else R)
        return V, *(eigenvectors(side) if side.size else side for side in sides)

    def go_on() -> Memory:
        v, new_L = _turned(V, L, Q_L, 1) if L.size else (V, Q_L)
        v, new_R = _turned(v, R, Q_R, 2) if R.size else (v, Q_R)
        return v, new_L, new_R

    v, Q_L, Q_R = jax.lax.cond(h.first > 0, begin, go_on)
    return M, v, L, R, Q_L, Q_R


def _turned(V: Array, factor: Array, Q: Array, axis: int) -> tuple[Array, Array]:
    """V and the basis of one side after a step of the power method, in the order of falling eigenvalues."""
    power = product(factor, Q)
    order = jnp.argsort(-jnp.sum(Q * power, axis=1), axis=-1)
    V = jnp.take_along_axis(V, jnp.expand_dims(order, 3 - axis), axis, mode="promise_in_bounds")
    return V, orthonormal(jnp.take_along_axis(power, order[:, None, :], 2, mode="promise_in_bounds"))


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


# ---- into Muon --------------------------------------------------------------------------------------------


@quantizable(signed=("mu",), nonnegative=("nu",))
class ScaleBySoapMuonState(NamedTuple):
    """State of `scale_by_soap_muon`."""

    count: Array  # int32[]        t, steps taken
    mu: Updates  # like params     M, mean of G
    nu: Updates  # like params     V, mean of the squares of P = Q_L' U Q_R
    L: Updates  # float[…, m, m]   mean of G G'; [0, 0] for a side that is too long
    R: Updates  # float[…, n, n]   mean of G' G
    Q_L: Updates  # float[…, m, m] eigenvectors of L, by one step of the power method at a time
    Q_R: Updates  # float[…, n, n] eigenvectors of R


@options
def scale_by_soap_muon(
    b1: Hyper = 0.95,
    b2: Hyper = 0.9,
    eps: Hyper = 1e-8,
    shampoo_beta: Hyper | None = None,
    precondition_frequency: int = 1,
    max_precondition_dim: int = 10000,
    *,
    nesterov: bool = True,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    preconditioning: str = "frobenius",
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    shape_scale: Callable[[int, int], float] | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Muon's direction of a mean gradient that was divided by its own size in the bases of SOAP.

    M    = b1 M + (1 - b1) G;   U = b1 M + (1 - b1) G           nesterov;  U = M without
    P    = Q_L' U Q_R;          V = b2 V + (1 - b2) P**2
    U'   = Q_L (P / max(sqrt(V), eps)) Q_R' |U| / |Q_L (P / …) Q_R'|
    u    = s A B'  of  U' = A S B', by `matrix_functions.orthogonalized`
    L    = b L + (1 - b) G G';  R = b R + (1 - b) G' G           b = shampoo_beta, b2 if None
    Q_L  = orthogonal factor of L Q_L, and Q_R of R Q_R, every precondition_frequency steps

    The first gradient makes the bases; the first step is Muon's. What is divided is the mean gradient, where SOAP's V
    is of single ones.

    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; the record's 0.95.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) squares; the record's 0.9.
    eps: least sqrt(V), and added to |U'| before it is orthogonalized, >= 0.
    shampoo_beta: decay of L and R, in [0, 1); None: b2.
    precondition_frequency: an integer >= 1: steps from one turn of the bases to the next; matrices of other shapes take
        other turns. The record's is 1.
    max_precondition_dim: an integer >= 1: a longer side has no factor, and is left in its own basis.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    shape_scale: (fan_in, fan_out) -> s; None: 1.
    nu_dtype: of V, float32 at least by default.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: SOAP's, 8 m n + 8 (m**2 + n**2) bytes of a matrix [m, n], 24 a parameter of square ones.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix, or is complex.
    Source: modded-nanogpt, records/track_3_optimization, pull requests #278 and #321, without the gate that its
        attention has in the first half of a run.
    Not where a QR of each side a step costs too much: raise precondition_frequency.

    >>> rule = jo.scale_by_soap_muon(ns_coeffs="polar_express", ns_steps=6)
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    """
    name = "scale_by_soap_muon"
    errors.check_size(name, "max_precondition_dim", max_precondition_dim)
    how = orthogonalization(name, ns_coeffs, ns_steps, preconditioning, compute_dtype, gram)
    scale_of = shape_scale or (lambda fan_in, fan_out: 1.0)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        first = t == 1
        return {"d2": jnp.where(first, jnp.ones_like(h.b2), h.b2), "first": first.astype(h.b2.dtype)}

    def rule(G: Array, W: None, M: Array, V: Array, L: Array, R: Array, Q_L: Array, Q_R: Array, h: Scalars) -> Step:
        M = h.b1 * M + (1 - h.b1) * G
        U = h.b1 * M + (1 - h.b1) * G if nesterov else M
        P = rotated(U, Q_L.mT, Q_R)
        V = h.d2 * V + (1 - h.d2) * jnp.square(P)
        size = jnp.where(h.first > 0, jnp.ones_like(V), jnp.maximum(safe_sqrt(V), h.eps))
        X = jnp.where(h.first > 0, U, rotated(ratio(P, size), Q_L, Q_R.mT))
        X = quotient(X, jnp.broadcast_to(frobenius(X), X.shape))  # in units of |U|
        u = nearest(X, or_one(frobenius(U)), h.eps, how).astype(U.dtype)
        return float(scale_of(*G.shape[1:])) * u, M, V, *_factors(L, R, G, h.b), Q_L, Q_R

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        return _start(max_precondition_dim, nu_dtype, shape, dtype)

    b = b2 if shampoo_beta is None else errors.check_hyper(name, "shampoo_beta", shampoo_beta, FRACTION)
    hypers = {"b1": (b1, FRACTION), "b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE), "b": (b, FRACTION)}
    return matrixwise(
        name, ScaleBySoapMuonState, init=init, rule=rule, hypers=hypers, shared=shared, refresh=_turn,
        interval=("precondition_frequency", precondition_frequency), lag=1, stack_axes=stack_axes,
        dtypes={"nu_dtype": nu_dtype},
    )  # fmt: skip


@recipe
def soap_muon(
    learning_rate: Hyper,
    b1: Hyper = 0.95,
    b2: Hyper = 0.9,
    eps: Hyper = 1e-8,
    shampoo_beta: Hyper | None = None,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    precondition_frequency: int = 1,
    max_precondition_dim: int = 10000,
    *,
    nesterov: bool = True,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    preconditioning: str = "frobenius",
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    nu_dtype: DType | None = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay P), u of `scale_by_soap_muon`, for matrices; `rest`, or AdamW, for the others.

    u = s A B' of Q_L (P / max(sqrt(V), eps)) Q_R' = A S B',   P = Q_L' U Q_R,   V a mean of P**2, U of gradients
    s = sqrt(max(1, fan_out / fan_in))

    Q_L and Q_R are near the eigenvectors of the means of G G' and G' G. Matrices are the leaves with two axes behind
    their `stack_axes`, embeddings and heads, too: give these to another method by `partition`.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of the mean of gradients, in [0, 1): it remembers about 1 / (1 - b1) of them; the record's 0.95.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) squares; the record's 0.9.
    eps: least sqrt(V), and added to the norm before it is orthogonalized, >= 0; of AdamW, too.
    shampoo_beta: decay of the means of G G' and G' G, in [0, 1); None: b2.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    precondition_frequency: an integer >= 1: steps from one turn of the bases to the next; matrices of other shapes take
        other turns. The record's is 1.
    max_precondition_dim: an integer >= 1: a longer side has no factor, and is left in its own basis.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    nu_dtype: of V, float32 at least by default.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, eps and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 8 m n + 8 (m**2 + n**2) bytes of a matrix [m, n], 24 a parameter of square ones; of the rest AdamW keeps 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; TreeError, when traced, for complex matrices.
    Source: modded-nanogpt, records/track_3_optimization, pull requests #278 and #321.
    Not where the factors do not fit beside the weights: Muon keeps one matrix, and a step costs a twentieth.

    >>> opt = jo.soap_muon(0.02, rest=jo.adamw(1e-3))
    >>> state = opt.init({"w": jnp.ones((4, 4)), "b": jnp.zeros(4)})
    """
    rule = scale_by_soap_muon(
        b1, b2, eps, shampoo_beta, precondition_frequency, max_precondition_dim, nesterov=nesterov, ns_coeffs=ns_coeffs,
        ns_steps=ns_steps, preconditioning=preconditioning, compute_dtype=compute_dtype, gram=gram,
        shape_scale=jordan_scale, nu_dtype=nu_dtype, stack_axes=stack_axes,
    )  # fmt: skip
    rest = adamw(learning_rate, eps=eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = matrix_labels("soap_muon", stack_axes)
    return matrices_and_rest(rule, rest, labels, learning_rate, weight_decay, mask)
