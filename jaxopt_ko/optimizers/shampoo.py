"""Shampoo: a preconditioner for each side of a matrix. Gupta, Koren & Singer 2018, arXiv:1802.09568, Algorithm 1.

Averages instead of sums, grafting and blocks: Anil et al. 2020, arXiv:2002.09018; Shi et al. 2023, arXiv:2309.06497.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import quotient, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE, HyperparameterError, describe, say
from jaxopt_ko.linalg.matrix_functions import frobenius, inverse_root, product
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.transforms.momentum import trace
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates

GRAFTS = ("none", "sgd", "adagrad", "rmsprop")


@quantizable(nonnegative=("nu",))
class ScaleByShampooState(NamedTuple):
    """State of `scale_by_shampoo`; b blocks of at most block_size rows and columns, one without block_size."""

    count: Array  # int32[]                 t, steps taken
    nu: Updates  # like params              of the graft: sum or mean of G**2
    L: Updates  # float[…, b, m, m]         sum or mean of G G'
    R: Updates  # float[…, b, n, n]         sum or mean of G' G
    L_root: Updates  # float[…, b, m, m]    (L + eps I)**(-1/p)
    R_root: Updates  # float[…, b, n, n]    (R + eps I)**(-1/p)


@options
def scale_by_shampoo(
    b2: Hyper | None = 0.999,
    eps: Hyper = 1e-8,
    exponent: Hyper = 0.25,
    graft: str = "rmsprop",
    precondition_frequency: int = 10,
    block_size: int | None = None,
    root: str = "eigh",
    *,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Every matrix, and every block of a large one, between two roots of what its gradients have been.

    L_t = b2 L + (1 - b2) G G';   R_t = b2 R + (1 - b2) G' G       b2 None: the paper's sums, L + G G', R + G' G
    U   = (L_hat + eps I)**-exponent G (R_hat + eps I)**-exponent  L_hat = L / (1 - b2**t), of every f-th step
    u   = U |D| / |U|                                              D of the graft: what the step's length is taken from

    b2: decay of L, R and of the graft's mean, in [0, 1): they remember about 1 / (1 - b2) gradients; None: sums.
    eps: added to the eigenvalues of L and R, and to the root of the graft, >= 0.
    exponent: of the roots, > 0; the paper's 1/4.
    graft: "none", u = U; "sgd", D = G; "adagrad", D = G / (sqrt(sum of G**2) + eps); "rmsprop", of their mean.
    precondition_frequency: f, an integer >= 1: the steps from one pair of roots to the next; matrices of other shapes
        take other turns.
    block_size: an integer >= 1: matrices with a longer side are cut into blocks of that size, and padded with zeros;
        None: none is cut.
    root: "eigh", by eigenvalues; "newton", by products alone, for accelerators and exponents 1/2, 1/4, …
    nu_dtype: of the graft's squares, float32 at least by default.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: L, R and their roots, 8 (m**2 + n**2) bytes of a matrix [m, n], and for "adagrad" and "rmsprop" 4 m n.
    Raises HyperparameterError, when made, for a number outside its domain; also for another graft or root, and an
        exponent that is not 1, 1/2, 1/3, … with "newton". TreeError, when traced, for a leaf that is no matrix, or is
        complex.
    Source: Gupta, Koren & Singer 2018, arXiv:1802.09568, Algorithm 1; means, grafts and blocks, Anil et al. 2020,
        arXiv:2002.09018, and Shi et al. 2023, arXiv:2309.06497.
    Not where roots are dear: on CPU, and for sides of many thousands without blocks.

    >>> rule = jo.scale_by_shampoo(graft="adagrad", block_size=4)
    >>> state = rule.init({"w": jnp.ones((8, 6))})
    >>> state.L["w"].shape
    (4, 4, 4)
    """
    name = "scale_by_shampoo"
    errors.check_choice(name, "graft", graft, GRAFTS)
    errors.check_choice(name, "root", root, ("eigh", "newton"))
    if block_size is not None:
        errors.check_size(name, "block_size", block_size)

    if root == "newton" and not (isinstance(exponent, float) and abs(1 / exponent - round(1 / exponent)) < 1e-6):
        _check_newton_exponent(name, exponent)

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        count, m, n = _blocks(shape, block_size)
        zeros = [jnp.zeros((count, k, k), dtype) for k in (m, n)]
        eyes = [jnp.broadcast_to(jnp.eye(k, dtype=dtype), (count, k, k)) for k in (m, n)]
        return jnp.zeros(shape if graft in GRAFTS[2:] else (0, 0), nu_dtype or dtype), *zeros, *eyes

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        one = jnp.ones_like(h.eps)
        return {"keep": one, "weight": one, "c2": one} if b2 is None else {
            "keep": h.b2, "weight": 1 - h.b2, "c2": h.gathered("b2")
        }  # fmt: skip

    def gathered(G: Array, L: Array, R: Array, h: Scalars) -> tuple[Array, Array]:
        return h.keep * L + h.weight * product(G, G.mT), h.keep * R + h.weight * product(G.mT, G)

    def refresh(G: Array, W: None, V: Array, L: Array, R: Array, L_root: Array, R_root: Array, h: Scalars) -> Memory:
        sides = gathered(_cut(G, block_size), L, R, h)
        return (
            V,
            L,
            R,
            *(inverse_root(side / h.c2, exponent if root == "newton" else h.exponent, h.eps, root) for side in sides),
        )

    def rule(G: Array, W: None, V: Array, L: Array, R: Array, L_root: Array, R_root: Array, h: Scalars) -> Step:
        blocks = _cut(G, block_size)
        L, R = gathered(blocks, L, R, h)
        U = _whole(product(product(L_root, blocks), R_root), G.shape, block_size)
        if graft == "none":
            return U, V, L, R, L_root, R_root
        D = G
        if graft != "sgd":
            V = V + G * G if graft == "adagrad" else h.keep * V + h.weight * G * G
            D = ratio(G, safe_sqrt(V if graft == "adagrad" else V / h.c2) + h.eps)
        return frobenius(D) * quotient(U, frobenius(U)), V, L, R, L_root, R_root

    hypers = {"eps": (eps, NONNEGATIVE), "exponent": (exponent, POSITIVE)}
    hypers |= {} if b2 is None else {"b2": (b2, FRACTION)}
    return matrixwise(
        name, ScaleByShampooState, init=init, rule=rule, hypers=hypers, shared=shared, refresh=refresh,
        interval=("precondition_frequency", precondition_frequency), stack_axes=stack_axes,
        debiased=() if b2 is None else ("b2",), dtypes={"nu_dtype": nu_dtype},
    )  # fmt: skip


def _check_newton_exponent(name: str, exponent: Any) -> NoReturn:
    """Products alone make roots of whole degree."""
    say(HyperparameterError, name, "exponent must be 1, 1/2, 1/3, 1/4, … as a Python number with root='newton'",
        describe(exponent), "root='eigh' takes any")  # fmt: skip


def _blocks(shape: tuple[int, ...], size: int | None) -> tuple[int, int, int]:
    """How many blocks, of how many rows and columns."""
    m, n = shape[-2:]
    rows, columns = (max(side if size is None else min(size, side), 1) for side in (m, n))
    return -(-m // rows) * -(-n // columns), rows, columns


def _cut(G: Array, size: int | None) -> Array:
    """[N, m, n] -> [N, b, rows, columns]."""
    N, m, n = G.shape
    _, r, c = _blocks(G.shape, size)
    G = jnp.pad(G, ((0, 0), (0, -m % r), (0, -n % c)))
    return G.reshape(N, -(-m // r), r, -(-n // c), c).swapaxes(2, 3).reshape(N, -1, r, c)


def _whole(blocks: Array, shape: tuple[int, ...], size: int | None) -> Array:
    """The way back."""
    N, m, n = shape
    _, r, c = _blocks(shape, size)
    i, j = -(-m // r), -(-n // c)
    return blocks.reshape(N, i, j, r, c).swapaxes(2, 3).reshape(N, i * r, j * c)[:, :m, :n]


@recipe
def shampoo(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper | None = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    exponent: Hyper = 0.25,
    graft: str = "rmsprop",
    precondition_frequency: int = 10,
    block_size: int | None = 1024,
    root: str = "eigh",
    nesterov: bool = False,
    *,
    rest: GradientTransformation | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (v + weight_decay P), v a mean of `scale_by_shampoo`, for matrices; AdamW, or `rest`, for others.

    u = L**-exponent G R**-exponent, as long as the graft's step;   v = b1 v + (1 - b1) u

    Matrices are the leaves with two axes behind their `stack_axes`.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of v, in [0, 1): it remembers about 1 / (1 - b1) steps.
    b2: decay of L, R and of the graft's mean, in [0, 1): they remember about 1 / (1 - b2) gradients; None: the paper's
        sums.
    eps: added to the eigenvalues of L and R, and to the root of the graft, >= 0.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    exponent: of the roots, > 0; the paper's 1/4.
    graft: "rmsprop", "adagrad", "sgd" or "none": whose step u is as long as, see `scale_by_shampoo`.
    precondition_frequency: an integer >= 1: steps from one pair of roots to the next; matrices of other shapes take
        other turns.
    block_size: an integer >= 1: matrices with a longer side are cut into blocks of that size; None: none is cut.
    root: "eigh", by eigenvalues; "newton", by products alone, for accelerators and exponents 1/2, 1/4, …
    nesterov: take v one step ahead.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, b1, eps and weight_decay.
    nu_dtype: of the graft's squares, float32 at least by default.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 8 m n + 8 (m**2 + n**2) bytes of a matrix [m, n] in one block, 24 a parameter of square ones; of the rest 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; also for another graft or root, and an exponent that is not 1, 1/2, 1/3, …
        with "newton". TreeError, when traced, for complex matrices.
    Source: Gupta, Koren & Singer 2018, arXiv:1802.09568, Algorithm 1; means, grafts and blocks, Anil et al. 2020,
        arXiv:2002.09018, and Shi et al. 2023, arXiv:2309.06497.
    Not where roots are dear: on CPU those of 1024 x 1024 take most of a second; SOAP needs them more seldom.

    >>> opt = jo.shampoo(1e-3, precondition_frequency=20, block_size=512)
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    errors.check_hyper("shampoo", "b1", b1, FRACTION)
    rule = scale_by_shampoo(
        b2, eps, exponent, graft, precondition_frequency, block_size, root, nu_dtype=nu_dtype, stack_axes=stack_axes
    )
    momentum = trace(b1, nesterov, dampening=b1)
    rest = adamw(learning_rate, b1, eps=eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = matrix_labels("shampoo", stack_axes)
    return matrices_and_rest(chain(rule, momentum), rest, labels, learning_rate, weight_decay, mask)
