"""KL-Shampoo and KL-SOAP: factors fitted to the gradients in the Kullback-Leibler divergence, each white by the other.

Lin et al. 2025, arXiv:2509.03378; in the form of its authors, github.com/yorkerlin/KL-Methods.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import first_value, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE
from jaxopt_ko.linalg.matrix_functions import eigenvectors, orthonormal, product, rotated
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates


@quantizable(signed=("mu",))
class ScaleByKlShampooState(NamedTuple):
    """State of `scale_by_kl_shampoo`."""

    count: Array  # int32[]        t, steps taken
    mu: Updates  # like params     M, mean of G
    L: Updates  # float[…, m, m]   mean of G R**-1 G' / n; [0, 0] for a side that is too long
    R: Updates  # float[…, n, n]   mean of G' L**-1 G / m
    Q_L: Updates  # float[…, m, m] eigenvectors of L, by one step of the power method at a time
    Q_R: Updates  # float[…, n, n] eigenvectors of R
    D_L: Updates  # float[…, m]    eigenvalues of L, estimated at every step
    D_R: Updates  # float[…, n]    eigenvalues of R


@quantizable(signed=("mu",), nonnegative=("nu",))
class ScaleByKlSoapState(NamedTuple):
    """State of `scale_by_kl_soap`."""

    count: Array  # int32[]        t, steps taken
    mu: Updates  # like params     M, mean of G
    L: Updates  # float[…, m, m]   as in `ScaleByKlShampooState`, and so on
    R: Updates  # float[…, n, n]
    Q_L: Updates  # float[…, m, m]
    Q_R: Updates  # float[…, n, n]
    D_L: Updates  # float[…, m]
    D_R: Updates  # float[…, n]
    nu: Updates  # like params     V, mean of the squares of T = Q_L' G Q_R


@options
def scale_by_kl_shampoo(
    b1: Hyper = 0.9,
    b2: Hyper = 0.98,
    eps: Hyper = 1e-8,
    precondition_frequency: int = 10,
    init_factor: Hyper = 0.1,
    max_clamp_value: int | None = 4000,
    max_precondition_dim: int = 10000,
    *,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The mean gradient between L**-1/2 and R**-1/2, where each of the two is fitted to what the other has made white.

    M   = b1 M + (1 - b1) G;   T = Q_L' G Q_R
    U   = Q_L (Q_L' M Q_R / (sqrt(D_L D_R') + eps)) Q_R'
    L   = b2 L + (1 - b2) G Q_R D_R**-1 Q_R' G' / n            R = b2 R + (1 - b2) G' Q_L D_L**-1 Q_L' G / m
    D_L = b2 D_L + (1 - b2) mean of T**2 / D_R along rows      D_R of T**2 / D_L along columns
    Q_L = orthogonal factor of L Q_L, and Q_R of R Q_R, every precondition_frequency steps

    The first gradient makes L = (1 - b2) G G' / n, R and their eigenvectors, and no step; D_L = D_R = init_factor.

    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of L, R, D_L and D_R, in [0, 1): they remember about 1 / (1 - b2) gradients.
    eps: added to sqrt(D_L D_R'), >= 0: it bounds the step where gradients vanish.
    precondition_frequency: an integer >= 1: steps from one turn of the bases to the next; matrices of other shapes take
        other turns.
    init_factor: D_L and D_R at first, > 0: the mean square that gradients are taken to have.
    max_clamp_value: c of 1 / sqrt(d) <= max(10, min(c, m)), and n for R, an integer >= 1; None: no bound. For gradients
        whose elements are below 1e-2 in small matrices that bound is felt.
    max_precondition_dim: an integer >= 1: a longer side has no factor, and is left in its own basis.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M, L, R, Q_L, Q_R, D_L and D_R: 4 m n + 8 (m**2 + n**2) + 4 (m + n) bytes of a matrix [m, n].
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix, or is complex.
    Source: Lin et al. 2025, arXiv:2509.03378, in the form of its authors, github.com/yorkerlin/KL-Methods.
    Not for short runs of gradients whose size is far from what init_factor says.

    >>> rule = jo.scale_by_kl_shampoo(max_precondition_dim=4)
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    >>> state.L["w"].shape, state.R["w"].shape
    ((3, 3), (0, 0))
    """
    name = "scale_by_kl_shampoo"
    return _fitted(
        name, ScaleByKlShampooState, b1, b2, None, eps, precondition_frequency, init_factor, max_clamp_value,
        max_precondition_dim, stack_axes,
    )  # fmt: skip


@options
def scale_by_kl_soap(
    b1: Hyper = 0.9,
    b2: Hyper = 0.98,
    eps: Hyper = 1e-8,
    shampoo_beta: Hyper | None = None,
    precondition_frequency: int = 10,
    init_factor: Hyper = 0.1,
    max_clamp_value: int | None = 4000,
    max_precondition_dim: int = 10000,
    *,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Adam's direction, its bias not corrected, in the bases of `scale_by_kl_shampoo`.

    V = b2 V + (1 - b2) T**2;   T = Q_L' G Q_R
    U = Q_L (Q_L' M Q_R / (sqrt(V) + eps)) Q_R'

    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to sqrt(V), >= 0: it bounds the step where gradients vanish.
    shampoo_beta: decay of L, R, D_L and D_R, in [0, 1); None: b2.
    precondition_frequency: an integer >= 1: steps from one turn of the bases to the next; matrices of other shapes take
        other turns.
    init_factor: D_L and D_R at first, > 0: the mean square that gradients are taken to have.
    max_clamp_value: bound of 1 / sqrt(d), as of `scale_by_kl_shampoo`, an integer >= 1; None: no bound.
    max_precondition_dim: an integer >= 1: a longer side has no factor, and is left in its own basis.
    nu_dtype: of V, float32 at least by default.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: that of `scale_by_kl_shampoo` and V: 8 m n + 8 (m**2 + n**2) + 4 (m + n) bytes of a matrix [m, n].
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix, or is complex.
    Source: Lin et al. 2025, arXiv:2509.03378, in the form of its authors, github.com/yorkerlin/KL-Methods.
    Not for scarce memory: `scale_by_kl_shampoo` does without V.

    >>> rule = jo.scale_by_kl_soap(shampoo_beta=0.95)
    >>> state = rule.init({"layers": jnp.ones((3, 5))})
    """
    return _fitted(
        "scale_by_kl_soap", ScaleByKlSoapState, b1, b2, shampoo_beta, eps, precondition_frequency, init_factor,
        max_clamp_value, max_precondition_dim, stack_axes, nu_dtype,
    )  # fmt: skip


def _fitted(
    name: str, state_type: type, b1: Hyper, b2: Hyper, shampoo_beta: Hyper | None, eps: Hyper,
    precondition_frequency: int, init_factor: Hyper, max_clamp_value: int | None, max_precondition_dim: int,
    stack_axes: PyTree, nu_dtype: DType | None = None,
) -> GradientTransformation:  # fmt: skip
    """Both; with V where the state has one."""
    errors.check_size(name, "max_precondition_dim", max_precondition_dim)
    if max_clamp_value is not None:
        errors.check_size(name, "max_clamp_value", max_clamp_value)
    begin = errors.check_hyper(name, "init_factor", init_factor, POSITIVE)
    adam = state_type is ScaleByKlSoapState

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        sides = [size if size <= max_precondition_dim else 0 for size in shape]
        factors, bases = [jnp.zeros((k, k), dtype) for k in sides], [jnp.eye(k, dtype=dtype) for k in sides]
        values = [jnp.full(size, first_value(begin), dtype) for size in shape]
        return jnp.zeros(shape, dtype), *factors, *bases, *values, *[jnp.zeros(shape, nu_dtype or dtype)] * adam

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        first = t == 1
        d1, d2, keep = (jnp.where(first, jnp.ones_like(b), b) for b in (h.b1, h.b2, h.b))
        return {"d1": d1, "d2": d2, "keep": keep, "first": first.astype(d1.dtype)}

    def refresh(G: Array, W: None, M: Array, L: Array, R: Array, Q_L: Array, Q_R: Array, *rest: Any) -> Memory:
        *others, h = rest

        def start() -> Memory:
            return tuple(eigenvectors(product(*pair)) for pair, Q in (((G, G.mT), Q_L), ((G.mT, G), Q_R)) if Q.size)

        def turned() -> Memory:
            return tuple(orthonormal(product(side, Q)) for side, Q in ((L, Q_L), (R, Q_R)) if Q.size)

        bases = iter(jax.lax.cond(h.first > 0, start, turned))
        Q_L, Q_R = (next(bases) if Q.size else Q for Q in (Q_L, Q_R))
        return M, L, R, Q_L, Q_R, *others

    def rule(
        G: Array, W: None, M: Array, L: Array, R: Array, Q_L: Array, Q_R: Array, D_L: Array, D_R: Array, *rest: Any
    ) -> Step:
        *V, h = rest
        M = h.d1 * M + (1 - h.d1) * G
        left, right = (product(Q_L.mT, G) if Q_L.size else G), (product(G, Q_R) if Q_R.size else G)
        squares = jnp.square(product(left, Q_R) if Q_R.size else left)
        V = [h.d2 * v + (1 - h.d2) * squares for v in V]
        size = safe_sqrt(V[0]) if V else safe_sqrt(D_L)[:, :, None] * safe_sqrt(D_R)[:, None, :]
        U = rotated(ratio(rotated(M, Q_L.mT, Q_R), size + h.eps), Q_L, Q_R.mT)
        w_L, w_R = (ratio(jnp.ones_like(d), jnp.where(h.first > 0, jnp.ones_like(d), d)) for d in (D_L, D_R))
        w_L, w_R = w_L[:, :, None] / G.shape[1], w_R[:, None, :] / G.shape[2]
        L = h.b * L + (1 - h.b) * product(right * w_R, right.mT) if L.size else L
        R = h.b * R + (1 - h.b) * product((left * w_L).mT, left) if R.size else R
        D_L = _clamped(h.keep * D_L + (1 - h.keep) * jnp.sum(squares * w_R, axis=2), max_clamp_value)
        D_R = _clamped(h.keep * D_R + (1 - h.keep) * jnp.sum(squares * w_L, axis=1), max_clamp_value)
        return U, M, L, R, Q_L, Q_R, D_L, D_R, *V

    hypers = {
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "b": (
            b2 if shampoo_beta is None else errors.check_hyper(name, "shampoo_beta", shampoo_beta, FRACTION),
            FRACTION,
        ),
        "eps": (eps, NONNEGATIVE),
    }
    return matrixwise(
        name, state_type, init=init, rule=rule, hypers=hypers, shared=shared, refresh=refresh,
        interval=("precondition_frequency", precondition_frequency), lag=1, stack_axes=stack_axes,
        dtypes={"nu_dtype": nu_dtype},
    )  # fmt: skip


def _clamped(d: Array, most: int | None) -> Array:
    """1 / sqrt(d) brought within its bound."""
    return d if most is None else jnp.maximum(d, np.asarray(max(10, min(most, d.shape[-1])) ** -2.0, d.dtype))


@recipe
def kl_shampoo(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.98,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 1e-2,
    mask: MaskOrFn | None = None,
    precondition_frequency: int = 10,
    init_factor: Hyper = 0.1,
    max_clamp_value: int | None = 4000,
    max_precondition_dim: int = 10000,
    *,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (U + weight_decay P), U of `scale_by_kl_shampoo`, for matrices; `rest`, or AdamW, for what is none.

    U = L**-1/2 M R**-1/2,   L a mean of G R**-1 G' / n, R of G' L**-1 G / m

    No grafting, and Adam's memory of squares is not needed. Matrices are the leaves with two axes behind their
    `stack_axes`.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of L and R, in [0, 1): they remember about 1 / (1 - b2) gradients.
    eps: added to the divisor in the bases of L and R, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    precondition_frequency: an integer >= 1: steps from one turn of the bases to the next; matrices of other shapes take
        other turns.
    init_factor: the mean square that gradients are taken to have at first, > 0; it is forgotten as b2**t.
    max_clamp_value: bound of the inverse roots, as of `scale_by_kl_shampoo`, an integer >= 1; None: no bound.
    max_precondition_dim: an integer >= 1: a longer side has no factor, and is left in its own basis.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, b1, b2, eps and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 4 m n + 8 (m**2 + n**2) + 4 (m + n) bytes of a matrix [m, n], 20 a parameter of square ones; of the rest 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; TreeError, when traced, for complex matrices.
    Source: Lin et al. 2025, arXiv:2509.03378, in the form of its authors, github.com/yorkerlin/KL-Methods.
    Not for gradients far from 0.1 in short runs: init_factor is their mean square at first.

    >>> opt = jo.kl_shampoo(1e-3, init_factor=1e-2)
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    rule = scale_by_kl_shampoo(
        b1, b2, eps, precondition_frequency, init_factor, max_clamp_value, max_precondition_dim, stack_axes=stack_axes
    )
    return _recipe("kl_shampoo", rule, learning_rate, b1, b2, eps, weight_decay, mask, rest, stack_axes)


@recipe
def kl_soap(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.98,
    eps: Hyper = 1e-8,
    shampoo_beta: Hyper | None = None,
    weight_decay: Hyper = 1e-2,
    mask: MaskOrFn | None = None,
    precondition_frequency: int = 10,
    init_factor: Hyper = 0.1,
    max_clamp_value: int | None = 4000,
    max_precondition_dim: int = 10000,
    *,
    nu_dtype: DType | None = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (U + weight_decay P), U of `scale_by_kl_soap`, for matrices; `rest`, or AdamW, for what is none.

    U = Q_L (Q_L' M Q_R / (sqrt(V) + eps)) Q_R',   V a mean of (Q_L' G Q_R)**2, the bases those of KL-Shampoo

    Matrices are the leaves with two axes behind their `stack_axes`.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of V, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to sqrt(V), >= 0: it bounds the step where gradients vanish.
    shampoo_beta: decay of L and R, in [0, 1); None: b2.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    precondition_frequency: an integer >= 1: steps from one turn of the bases to the next; matrices of other shapes take
        other turns.
    init_factor: the mean square that gradients are taken to have at first, > 0; it is forgotten as shampoo_beta**t.
    max_clamp_value: bound of the inverse roots, as of `scale_by_kl_shampoo`, an integer >= 1; None: no bound.
    max_precondition_dim: an integer >= 1: a longer side has no factor, and is left in its own basis.
    nu_dtype: of V, float32 at least by default.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, b1, b2, eps and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: 8 m n + 8 (m**2 + n**2) + 4 (m + n) bytes of a matrix [m, n], 24 a parameter of square ones; of the rest 8.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0; TreeError, when traced, for complex matrices.
    Source: Lin et al. 2025, arXiv:2509.03378, in the form of its authors, github.com/yorkerlin/KL-Methods.
    Not where memory counts: in its paper KL-Shampoo, that keeps no squares, is the better of the two.

    >>> opt = jo.kl_soap(1e-3, weight_decay=0.1, mask={"w": True, "b": False}, rest=jo.adam(1e-3))
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    rule = scale_by_kl_soap(
        b1, b2, eps, shampoo_beta, precondition_frequency, init_factor, max_clamp_value, max_precondition_dim,
        nu_dtype=nu_dtype, stack_axes=stack_axes,
    )  # fmt: skip
    return _recipe("kl_soap", rule, learning_rate, b1, b2, eps, weight_decay, mask, rest, stack_axes)


def _recipe(
    name: str, rule: GradientTransformation, learning_rate: Hyper, b1: Hyper, b2: Hyper, eps: Hyper,
    weight_decay: Hyper, mask: MaskOrFn | None, rest: GradientTransformation | None, stack_axes: PyTree,
) -> GradientTransformation:  # fmt: skip
    rest = adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = matrix_labels(name, stack_axes)
    return matrices_and_rest(rule, rest, labels, learning_rate, weight_decay, mask)
