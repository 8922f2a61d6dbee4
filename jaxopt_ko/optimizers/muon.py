"""Muon: momentum, orthogonalized by Newton-Schulz, for the matrices; another method for the rest.

Jordan et al. 2024, kellerjordan.github.io/posts/muon. Its scale to match AdamW's: Liu et al. 2025, arXiv:2502.16982,
equation 4. Adaptive: Bernstein & Newhouse 2024, arXiv:2409.20325.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.basic import identity, init_empty_state
from jaxopt_ko.core import stacking, tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe, with_parts
from jaxopt_ko.core.numerics import inner, or_one, real_dtype, scalar_dtype, unfolded
from jaxopt_ko.core.transform import transform
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.linalg.matrix_functions import JORDAN, PRECONDITIONINGS, PRESETS, Coefficients, orthogonalized
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.rest import Mask, matrices_and_rest
from jaxopt_ko.types import DType, EmptyState, GradientTransformation, Hyper, Params, PyTree, State, Updates


class MuonState(NamedTuple):
    """State of `scale_by_muon`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g
    ns_coeffs: Array  # float[3] or float[steps, 3]  a, b, c of Newton-Schulz: kept for optax's sake, and not read


class Mean(NamedTuple):
    """What `scale_by_muon` and its kin keep of a mean, as the state of a leafwise rule."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g


class MuonDimensionNumbers(NamedTuple):
    """Which axes of a leaf are the matrix y = x W: those summed over and those of y; the others are a stack."""

    reduction_axis: Sequence[int] | int = 0
    output_axis: Sequence[int] | int = 1


@errors.options
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
    weight_dimension_numbers: MuonDimensionNumbers | PyTree | Callable[[Params], PyTree] | None = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    shape_scale: Callable[[int, int], float] | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The orthogonal matrix nearest to a mean gradient, for every matrix.

    m_t   = beta m + (1 - beta) g
    m_hat = beta m_t / (1 - beta**(t+1)) + (1 - beta) g / (1 - beta**t)    nesterov;  m_t / (1 - beta**t) without
    u     = s U V'  of  m_hat = U S V', by `matrices.orthogonalized`;       adaptive: u <m_hat, u>

    ns_coeffs: (a, b, c) for ns_steps steps, one such triple for each step, or a preset: "standard" (singular values
        within 0.68 and 1.13), "polar_express" (both ns_steps long), "dion", "deepseek", "cubic" (of their own length).
    weight_dimension_numbers: a `MuonDimensionNumbers` for each leaf, a prefix of such a tree, or a function that
        makes one; None: the two axes behind the first `stack_axes`.
    stack_axes: how many leading axes of a leaf are stacks of separate matrices; an integer, or a prefix of integers.
    compute_dtype, gram: of `matrices.orthogonalized`.
    shape_scale: s(fan_in, fan_out).
    stack_sharding: of [N, m, n], to spread the matrices over a mesh, whole: NamedSharding(mesh, PartitionSpec("x")).

    Matrices of one shape are one stack and one call. Raises TreeError, when traced, for a leaf that is no matrix.
    Not for embeddings, heads, norms and biases: see `muon`.
    """
    name = "scale_by_muon"
    matrices = Matrices(
        name, ns_coeffs, ns_steps, preconditioning, weight_dimension_numbers, stack_axes, compute_dtype, gram,
        shape_scale, stack_sharding, adaptive=adaptive,
    )  # fmt: skip
    direction = Direction(name, "beta", beta, mu_dtype, nesterov, matrices)

    def init(params: Params) -> MuonState:
        given = PRESETS[ns_coeffs](ns_steps) if isinstance(ns_coeffs, str) and ns_coeffs != "standard" else ns_coeffs
        table = jnp.asarray(np.asarray(JORDAN if given == "standard" else given), scalar_dtype())
        return MuonState(*direction.init(params), table)

    def update(updates: Updates, state: MuonState, params: Params = None, *, h: Scalars) -> tuple[Updates, State]:
        u, mean = direction.step(updates, Mean(state.count, state.mu), h)
        return u, MuonState(*mean, state.ns_coeffs)

    hypers = {"beta": (beta, FRACTION), "eps": (eps, NONNEGATIVE)}
    return transform(name, init, update, state_type=MuonState, hypers=hypers, debiased=("beta",))


@with_parts("mean", "matrices")
class Direction:
    """`scale_by_muon` as a part of other methods: m_t and u, with the decay and eps among the hyperparameters h."""

    def __init__(
        self, name: str, decay: str, beta: Hyper, mu_dtype: DType | None, nesterov: bool, matrices: Matrices
    ) -> None:
        def init(p: Array) -> Memory:
            return (wide_like(p, 0, mu_dtype),)

        def rule(g: Array, p: Array, m: Array, h: Scalars) -> Step:
            return g, h.beta * m + (1 - h.beta) * g

        self.decay, self.nesterov, self.matrices = decay, nesterov, matrices
        beta = errors.check_hyper(name, decay, beta, FRACTION)
        dtypes = {"mu_dtype": mu_dtype}
        self.mean = leafwise(name, Mean, init=init, rule=rule, hypers={"beta": (beta, FRACTION)}, dtypes=dtypes)

    def init(self, params: Params) -> Mean:
        """m_0."""
        mean: Mean = self.mean.init(params)
        return mean

    def step(self, updates: Updates, mean: Mean, h: Scalars) -> tuple[Updates, Mean]:
        """u and m_t."""
        _, mean = self.mean.update(updates, mean)
        b, c = getattr(h, self.decay), h.gathered(self.decay)
        weights = (b / h.gathered_next(self.decay), (1 - b) / c) if self.nesterov else (1 / c,)
        both = zip(*(tree.flatten(x, none_is_leaf=True)[0] for x in (mean.mu, updates)), strict=True)
        mu = [m for m, g in both if g is not None]
        terms = [mu, jax.tree.leaves(updates)] if self.nesterov else [mu]
        return self.matrices.direction(updates, weights, terms, h.eps, when=mean.count > 0), mean


@errors.options
def orthogonalize(
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    eps: Hyper = 1e-8,
    *,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: MuonDimensionNumbers | PyTree | Callable[[Params], PyTree] | None = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    shape_scale: Callable[[int, int], float] | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The orthogonal matrix nearest to the updates, for every matrix: u = s U V' of g = U S V'; 0 for g = 0.

    Options are those of `scale_by_muon`, which puts a mean gradient before it and sums its terms in the same pass.
    Raises TreeError, when traced, for a leaf that is no matrix.
    """
    name = "orthogonalize"
    matrices = Matrices(
        name, ns_coeffs, ns_steps, preconditioning, weight_dimension_numbers, stack_axes, compute_dtype, gram,
        shape_scale, stack_sharding,
    )  # fmt: skip

    def update(updates: Updates, state: EmptyState, params: Params = None, *, h: Scalars) -> tuple[Updates, State]:
        one = unfolded(jnp.ones((), scalar_dtype()))
        return matrices.direction(updates, (one,), [jax.tree.leaves(updates)], h.eps, when=one > 0), state

    return transform(name, init_empty_state, update, state_type=EmptyState, hypers={"eps": (eps, NONNEGATIVE)})


@with_parts("numbers", "stack_axes", "scale_of")
class Matrices:
    """The orthogonalization of all matrices of a tree: options, checked, and the direction."""

    def __init__(
        self, name: str, ns_coeffs: Any, ns_steps: int, preconditioning: str, numbers: Any, stack_axes: PyTree,
        compute_dtype: DType | None, gram: bool | None, shape_scale: Callable[[int, int], float] | None,
        sharding: jax.sharding.Sharding | None, adaptive: bool = False,
    ) -> None:  # fmt: skip
        schedule = _schedule(name, ns_coeffs, ns_steps)
        errors.check_choice(name, "preconditioning", preconditioning, PRECONDITIONINGS)
        errors.check_dtype(name, "compute_dtype", compute_dtype)
        self.name, self.numbers, self.stack_axes, self.spread = name, numbers, stack_axes, sharding is not None
        self.scale_of = shape_scale or (lambda fan_in, fan_out: 1.0)
        self.options = (
            ("coefficients", schedule), ("preconditioning", preconditioning), ("adaptive", adaptive),
            ("compute_dtype", compute_dtype), ("gram", gram), ("sharding", sharding),
        )  # fmt: skip

    def direction(
        self, updates: Updates, weights: tuple[Array, ...], terms: Sequence[list[Array]], eps: Array, when: Array
    ) -> Updates:
        """s U V' of the weighted sum of the terms, leaf by leaf; zeros where not `when`."""
        leaves, treedef = tree.flatten(updates)
        axes = matrix_axes(self.name, updates, self.numbers, self.stack_axes)
        of_stack = functools.partial(_orthogonalized, weights, eps, **dict(self.options))
        u = stacking.on_stacks(of_stack, axes, *terms, when=when, whole=self.spread)
        s = [self.scale_of(*own.shape(x.shape)[1:]) if x.size else 1 for x, own in zip(leaves, axes, strict=True)]
        return treedef.unflatten([
            (x if k == 1 else k * x).astype(g.dtype) for x, k, g in zip(u, s, leaves, strict=True)
        ])  # fmt: skip


@functools.partial(
    jax.jit, static_argnames=("coefficients", "preconditioning", "adaptive", "compute_dtype", "gram", "sharding")
)
def _orthogonalized(
    weights: tuple[Array, ...],  # float[]     of m_t and g in m_hat
    eps: Array,  # float[]
    *terms: Array,  # [N, m, n]  m_t and g
    coefficients: tuple[Coefficients, ...],
    preconditioning: str,
    adaptive: bool,
    compute_dtype: DType | None,
    gram: bool | None,
    sharding: jax.sharding.Sharding | None,
) -> Array:
    wide = tree.compute_dtype(*(x.dtype for x in terms))
    real = real_dtype(wide)
    parts = [(w.astype(real), x.astype(wide)) for w, x in zip(weights, terms, strict=True)]
    most: Array = sum(w * jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True, initial=0) for w, x in parts)
    # What is squared neither overflows nor vanishes; nothing depends on the unit.
    unit = jax.lax.stop_gradient(or_one(most))
    x: Array = sum(w / unit * x for w, x in parts)
    if sharding is not None:  # one exchange, and each device has matrices of its own
        x = jax.lax.with_sharding_constraint(x, sharding)  # type: ignore[no-untyped-call]
    u = orthogonalized(
        x,
        coefficients,
        eps=eps.astype(real) / unit,
        preconditioning=preconditioning,
        compute_dtype=compute_dtype,
        gram=gram,
    ).astype(wide)
    return unit * u * jnp.sum(inner(x, u), axis=(1, 2), keepdims=True) if adaptive else u


def _schedule(name: str, ns_coeffs: Any, ns_steps: int) -> tuple[Coefficients, ...]:
    """The coefficients of every step."""
    errors.check_size(name, "ns_steps", ns_steps)
    if isinstance(ns_coeffs, str):
        errors.check_choice(name, "ns_coeffs", ns_coeffs, tuple(PRESETS))
        return PRESETS[ns_coeffs](ns_steps)
    table = np.asarray(errors.check_coefficients(name, "ns_coeffs", ns_coeffs), float)
    rows = table.tolist() if table.ndim == 2 else [table.tolist()] * ns_steps
    return tuple((a, b, c) for a, b, c in rows)


def matrix_axes(name: str, updates: Updates, numbers: Any, stack_axes: PyTree) -> list[stacking.MatrixAxes]:
    """How each leaf is read as matrices."""
    leaves = jax.tree.leaves(updates)
    numbers = tree.made_for(updates, numbers, _ends)
    if numbers is None:
        stacking.count_stack_axes(name, updates, stack_axes)
        return [stacking.trailing(leaf.ndim) for leaf in leaves]
    wanted = stacking.prefix_of(name, "weight_dimension_numbers", numbers, updates, is_leaf=_ends)
    axes = []
    for i, (leaf, own) in enumerate(zip(leaves, wanted, strict=True)):
        sets = (
            [tuple(a % leaf.ndim for a in np.atleast_1d(side)) for side in own]
            if _is_numbers(own) and leaf.ndim
            else [(), ()]
        )
        if not (sets[0] and sets[1]) or len({*sets[0], *sets[1]}) != len(sets[0]) + len(sets[1]):
            errors.no_matrix(name, updates, i, leaf, f"the separate axes of {own}")
        rows, columns = (tuple(map(int, side)) for side in sets)
        axes.append(stacking.MatrixAxes(rows, columns))
    return axes


def _is_numbers(x: Any) -> bool:
    return isinstance(x, MuonDimensionNumbers)


def _ends(x: Any) -> bool:
    return x is None or _is_numbers(x)


def labels_of(
    name: str, numbers: Any, stack_axes: PyTree, names: tuple[str, str] = ("matrix", "rest")
) -> Callable[[Params], PyTree]:
    """params -> "matrix" where a leaf has dimension numbers, or two axes behind its stack axes, else "rest"."""

    def by_numbers(params: Params) -> PyTree:
        made = tree.made_for(params, numbers, _ends)
        if made is None:
            return by_shape(params)
        return jax.tree.map(
            lambda own, part: jax.tree.map(lambda _: names[own is None], part),
            made, params, is_leaf=_ends,
        )  # fmt: skip

    by_shape = stacking.matrix_labels(name, stack_axes, names)
    return by_shape if numbers is None else by_numbers


def jordan_scale(fan_in: int, fan_out: int) -> float:
    """sqrt(max(1, fan_out / fan_in)): the spectral norm that a change of the layer's output wants."""
    return math.sqrt(max(1.0, fan_out / fan_in))


@recipe
def muon(
    learning_rate: Hyper,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    beta: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    weight_decay_mask: Mask | None = None,
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
    muon_weight_dimension_numbers: MuonDimensionNumbers | PyTree | Callable[[Params], PyTree] | None = None,
    consistent_rms: float | None = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p), u of `scale_by_muon`, for matrices; `rest`, or AdamW, for what is none.

    s = sqrt(max(1, fan_out / fan_in)) of `scale_by_muon`; with consistent_rms r, s = r sqrt(max(fan_in, fan_out)),
    which makes a root mean square of r whatever the shape: 0.2 is AdamW's, whose learning rates then do.

    Matrices are the leaves with two axes behind their `stack_axes`, or those that muon_weight_dimension_numbers
    gives axes, not None. Embeddings and heads are two-dimensional, too: leave them to `rest` by such a tree.
    Needs params for decay.
    """
    for name, value in (("adam_b1", adam_b1), ("adam_b2", adam_b2)):
        errors.check_hyper("muon", name, value, FRACTION)
    for name, value in (("adam_eps_root", adam_eps_root), ("adam_weight_decay", adam_weight_decay)):
        errors.check_hyper("muon", name, value, NONNEGATIVE)
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
    labels = labels_of("muon", muon_weight_dimension_numbers, stack_axes, names)
    return matrices_and_rest(
        matrices, rest, labels, learning_rate, weight_decay, weight_decay_mask, names, between=[identity()]
    )  # optax's state has a scale by the shape there
