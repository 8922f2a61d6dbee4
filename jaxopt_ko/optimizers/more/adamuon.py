"""Muon with a second moment of what it has orthogonalized: of each neuron (NorMuon), of each element (AdaMuon).

NorMuon: Li et al. 2025, arXiv:2510.05491, Algorithm 1. AdaMuon: Si et al. 2025, arXiv:2507.11005, Algorithm 1.
Both give the step a root mean square of 0.2, AdamW's, after Liu et al. 2025, arXiv:2502.16982.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import pytree_class, recipe
from jaxopt_ko.core.numerics import abs_sq, length, quotient, ratio, real_dtype, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options, renamed
from jaxopt_ko.core.stacking import MatrixAxes
from jaxopt_ko.core.transform import transform
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE
from jaxopt_ko.linalg.matrix_functions import JORDAN, Coefficients
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.axes import Layout, Numbers
from jaxopt_ko.optimizers.matrix.orthogonalization import Mean, MeanDirection, OrthogonalDirection, orthogonalization
from jaxopt_ko.optimizers.matrix.rest import matrices_and_rest
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, PyTree, State, Updates


@quantizable(signed=("mu",))
class ScaleByNorMuonState(NamedTuple):
    """State of `scale_by_normuon`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  M, mean of G
    nu: Updates  # f32+[…, 1, out]    v, mean of the mean squares of Q over each neuron's inputs, of length 1


@quantizable(signed=("mu",), nonnegative=("nu",))
class ScaleByAdaMuonState(NamedTuple):
    """State of `scale_by_adamuon`."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  M, mean of G
    nu: Updates  # like params, f32+  V, mean of Q**2


@options
def scale_by_normuon(
    b1: Hyper = 0.95,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    rms: Hyper = 0.2,
    mu_dtype: DType | None = None,
    *,
    nu_dtype: DType | None = None,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    nesterov: bool = False,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Numbers = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """Muon's direction with every neuron's weights at one length, on average over time.

    M = b1 M + (1 - b1) G
    Q = U V'  of  M = U S V'                       the paper's O; by `scale_by_muon`, M Nesterov's if asked for
    v = b2 v + (1 - b2) mean of Q**2               of each neuron: over its inputs
    N = Q / (sqrt(v) + eps)
    u = rms sqrt(m n) N / |N|                      of a root mean square of rms

    A neuron is a row of the paper's W, y = W x; a kernel here is [in, out], y = x W, so it is a column, and v is
    [1, out]: one number for each output axis of weight_dimension_numbers, or for the last axis. Where kernels are
    [out, in], give MuonDimensionNumbers(1, 0).

    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; the paper's 0.95.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) steps; the paper's 0.95.
    eps: added to sqrt(v), and to |M| before it is orthogonalized, >= 0.
    rms: root mean square of u, > 0; 0.2 is AdamW's, whose learning rates then do.
    mu_dtype: dtype of M; None: the parameter's, float32 at least.
    nu_dtype: dtype of v; None: float32 at least.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    nesterov: orthogonalize the mean one gradient ahead, as the authors' code does.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: M, and v of one number for each output: 4 (m n + n) bytes of a matrix [m, n], Muon's memory.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix.
    Source: Li et al. 2025, arXiv:2510.05491, Algorithm 1. Its code has nesterov=True and the length of Q in the place
        of rms: `muon` with other numbers.
    Not for embeddings, heads, norms and biases.

    >>> rule = jo.scale_by_normuon()
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    >>> state.nu["w"].shape
    (1, 5)
    """
    name = "scale_by_normuon"
    layout = Layout(weight_dimension_numbers, stack_axes, stack_sharding)
    moment = _SecondMoment(name, layout, nu_dtype, of_neurons=True)
    direction = OrthogonalDirection(
        name, orthogonalization(name, ns_coeffs, ns_steps, preconditioning, compute_dtype, gram), layout
    )
    muon = MeanDirection(name, "b1", b1, mu_dtype, nesterov, direction)

    def init(params: Params) -> State:
        return ScaleByNorMuonState(*muon.init(params), moment.init(params))

    def update(
        updates: Updates, state: ScaleByNorMuonState, params: Params = None, *, h: Scalars
    ) -> tuple[Updates, State]:
        Q, mean = muon.step(updates, Mean(state.count, state.mu), h)
        u, nu = moment.update(Q, state.nu, h)
        return u, ScaleByNorMuonState(*mean, nu)

    hypers = {"b1": (b1, FRACTION), "b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE), "rms": (rms, POSITIVE)}
    return transform(name, init, update, state_type=ScaleByNorMuonState, hypers=hypers, debiased=("b1",))


@options
def scale_by_adamuon(
    b1: Hyper = 0.95,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    rms: Hyper = 0.2,
    mu_dtype: DType | None = None,
    *,
    nu_dtype: DType | None = None,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    sign: bool = True,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Numbers = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """Adam's division by a second moment, for the orthogonalized sign of a mean gradient.

    M = b1 M + (1 - b1) G
    Q = U V'  of  sign(M) = U S V'                 sign=False: of M, the paper's first version
    V = b2 V + (1 - b2) Q**2
    N = Q / (sqrt(V) + eps)
    u = rms sqrt(m n) N / |N|                      of a root mean square of rms

    The last line takes out every factor of M and V, so that neither needs bias correction.

    b1, b2: decays of M and of V, in [0, 1): they remember about 1 / (1 - b) steps. The paper has one beta for both,
        0.95.
    eps: added to sqrt(V), and to |M| before it is orthogonalized, >= 0.
    rms: root mean square of u, > 0; 0.2 is AdamW's, whose learning rates then do.
    mu_dtype: dtype of M; None: the parameter's, float32 at least.
    nu_dtype: dtype of V; None: float32 at least.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    sign: orthogonalize sign(M); False: M.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: M and V, 8 bytes a parameter: Adam's memory, twice Muon's.
    Raises HyperparameterError, when made, for a number outside its domain; TreeError, when traced, for a leaf that is
        no matrix.
    Source: Si et al. 2025, arXiv:2507.11005, Algorithm 1.
    Not for embeddings, heads, norms and biases.

    >>> rule = jo.scale_by_adamuon(ns_coeffs="polar_express", ns_steps=6)
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    """
    name = "scale_by_adamuon"
    layout = Layout(weight_dimension_numbers, stack_axes, stack_sharding)
    moment = _SecondMoment(name, layout, nu_dtype, of_neurons=False)
    direction = OrthogonalDirection(
        name, orthogonalization(name, ns_coeffs, ns_steps, preconditioning, compute_dtype, gram), layout
    )

    def init_leaf(p: Array) -> Memory:
        return (wide_like(p, 0, mu_dtype),)

    def rule(g: Array, p: Array, m: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        return (jnp.sign(m) if sign else m), m

    mean = leafwise(name, Mean, init=init_leaf, rule=rule, hypers={"b1": (b1, FRACTION)}, dtypes={"mu_dtype": mu_dtype})

    def init(params: Params) -> State:
        count, mu = mean.init(params)
        return ScaleByAdaMuonState(count, mu, moment.init(params))

    def update(
        updates: Updates, state: ScaleByAdaMuonState, params: Params = None, *, h: Scalars
    ) -> tuple[Updates, State]:
        signs, (t, mu) = mean.update(updates, Mean(state.count, state.mu))
        Q = direction(signs, (jnp.ones_like(h.eps),), [jax.tree.leaves(signs)], h.eps, when=t > 0)
        u, nu = moment.update(Q, state.nu, h)
        return u, ScaleByAdaMuonState(t, mu, nu)

    hypers = {"b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE), "rms": (rms, POSITIVE)}
    return transform(name, init, update, state_type=ScaleByAdaMuonState, hypers=hypers)


@pytree_class("layout")
class _SecondMoment:
    """u = rms sqrt(m n) N / |N|, N = Q / (sqrt(v) + eps), v a mean of Q**2: of neurons, or of elements."""

    def __init__(self, name: str, layout: Layout, nu_dtype: DType | None, of_neurons: bool) -> None:
        errors.check_dtype(name, "nu_dtype", nu_dtype)
        self.name, self.layout, self.nu_dtype, self.of_neurons = name, layout, nu_dtype, of_neurons

    def init(self, params: Params) -> Updates:
        leaves, treedef = tree.flatten(params)
        if not self.of_neurons:
            return treedef.unflatten([wide_like(p, 0, self.nu_dtype or _real(p)) for p in leaves])
        axes = self.layout.axes(self.name, params)
        return treedef.unflatten([
            jnp.zeros([1 if i in own.rows else size for i, size in enumerate(np.shape(p))],
                      self.nu_dtype or _real(p))
            for p, own in zip(leaves, axes, strict=True)
        ])  # fmt: skip

    def update(self, Q: Updates, nu: Updates, h: Scalars) -> tuple[Updates, Updates]:
        leaves, treedef = tree.flatten(Q, none_is_leaf=True)
        moments = tree.in_order(self.name, "state", nu, Q, treedef)
        axes = iter(self.layout.axes(self.name, Q))
        for i, (o, v) in enumerate(zip(leaves, moments, strict=True)):
            own = None if o is None else next(axes)
            if own is not None and o.size:
                leaves[i], moments[i] = _scaled(o, v, h.b2, h.eps, h.rms, axes=own, of_neurons=self.of_neurons)
        return treedef.unflatten(leaves), treedef.unflatten(moments)


def _real(p: Array) -> DType:
    return real_dtype(tree.compute_dtype(tree.dtype_of(p)))


@functools.partial(jax.jit, static_argnames=("axes", "of_neurons"))
def _scaled(
    o: Array, v: Array, b2: Array, eps: Array, rms: Array, *, axes: MatrixAxes, of_neurons: bool
) -> tuple[Array, Array]:
    """One leaf's step and second moment, computed in float32 at least."""
    wide = tree.compute_dtype(o.dtype, v.dtype)
    real = real_dtype(wide)
    b2, eps, rms = b2.astype(real), eps.astype(real), rms.astype(real)
    Q, V = o.astype(wide), v.astype(real)
    square = jnp.mean(abs_sq(Q), axis=axes.rows, keepdims=True) if of_neurons else abs_sq(Q)
    V = b2 * V + (1 - b2) * square
    N = ratio(Q, safe_sqrt(V) + eps)
    size = math.prod(axes.shape(o.shape)[1:])
    u = rms * math.sqrt(size) * quotient(N, length(N, (*axes.rows, *axes.columns), keepdims=True))
    return u.astype(o.dtype), V.astype(v.dtype)


@renamed("0.2.0", weight_decay_mask="mask")
@recipe
def normuon(
    learning_rate: Hyper,
    b1: Hyper = 0.95,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    mu_dtype: DType | None = None,
    *,
    nu_dtype: DType | None = None,
    rms: Hyper = 0.2,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    nesterov: bool = False,
    weight_dimension_numbers: Numbers = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p), u of `scale_by_normuon`, for matrices; `rest`, or AdamW, for what is none.

    Q = U V'  of  M = U S V';   N = Q / (sqrt(v) + eps);   u = rms sqrt(m n) N / |N|

    v is a mean of Q**2 over each neuron's inputs. Learning rates are AdamW's. Matrices are told as in `muon`:
    embeddings and heads are two-dimensional, too.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; the paper's 0.95.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) steps; the paper's 0.95.
    eps: added to sqrt(v), and to |M| before it is orthogonalized, >= 0.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of M; None: the parameter's, float32 at least.
    nu_dtype: dtype of v; None: float32 at least.
    rms: root mean square of u, > 0; 0.2 is AdamW's.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    nesterov: orthogonalize the mean one gradient ahead, as the authors' code does.
    weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, eps and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: 4 (m n + n) bytes of a matrix [m, n]; of the rest what its method keeps, AdamW 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Li et al. 2025, arXiv:2510.05491, Algorithm 1.
    Not for embeddings and heads: leave them to `rest` by weight_dimension_numbers.

    >>> hidden = jo.MuonDimensionNumbers()
    >>> numbers = {"embedding": None, "hidden": hidden, "bias": None}
    >>> opt = jo.normuon(1e-3, weight_decay=0.1, weight_dimension_numbers=numbers)
    >>> state = opt.init({"embedding": jnp.ones((7, 3)), "hidden": jnp.ones((3, 3)), "bias": jnp.ones(3)})
    """
    matrices = scale_by_normuon(
        b1, b2, eps, rms, mu_dtype, nu_dtype=nu_dtype, ns_coeffs=ns_coeffs, ns_steps=ns_steps, nesterov=nesterov,
        weight_dimension_numbers=weight_dimension_numbers, stack_axes=stack_axes, compute_dtype=compute_dtype,
        stack_sharding=stack_sharding,
    )  # fmt: skip
    rest = adamw(learning_rate, eps=eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = Layout(weight_dimension_numbers, stack_axes).labels("normuon")
    return matrices_and_rest(matrices, rest, labels, learning_rate, weight_decay, mask)


@renamed("0.2.0", weight_decay_mask="mask")
@recipe
def adamuon(
    learning_rate: Hyper,
    b1: Hyper = 0.95,
    b2: Hyper = 0.95,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    mu_dtype: DType | None = None,
    *,
    nu_dtype: DType | None = None,
    rms: Hyper = 0.2,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    sign: bool = True,
    weight_dimension_numbers: Numbers = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p), u of `scale_by_adamuon`, for matrices; `rest`, or AdamW, for what is none.

    Q = U V'  of  sign(M) = U S V';   N = Q / (sqrt(V) + eps);   u = rms sqrt(m n) N / |N|

    V is a mean of Q**2. Learning rates are AdamW's. Matrices are told as in `muon`: embeddings and heads are
    two-dimensional, too.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1, b2: decays of M and of V, in [0, 1): they remember about 1 / (1 - b) steps. The paper has one beta for both,
        0.95.
    eps: added to sqrt(V), and to |M| before it is orthogonalized, >= 0.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of M; None: the parameter's, float32 at least.
    nu_dtype: dtype of V; None: float32 at least.
    rms: root mean square of u, > 0; 0.2 is AdamW's.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    sign: orthogonalize sign(M); False: M.
    weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate, eps and weight_decay.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: 8 bytes a parameter, of matrices and by default of the rest.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Si et al. 2025, arXiv:2507.11005, Algorithm 1.
    Not for embeddings and heads: leave them to `rest` by weight_dimension_numbers.

    >>> opt = jo.adamuon(1e-3, rest=jo.lion(1e-4))
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    matrices = scale_by_adamuon(
        b1, b2, eps, rms, mu_dtype, nu_dtype=nu_dtype, ns_coeffs=ns_coeffs, ns_steps=ns_steps, sign=sign,
        weight_dimension_numbers=weight_dimension_numbers, stack_axes=stack_axes, compute_dtype=compute_dtype,
        stack_sharding=stack_sharding,
    )  # fmt: skip
    rest = adamw(learning_rate, eps=eps, weight_decay=weight_decay, mask=mask) if rest is None else rest
    labels = Layout(weight_dimension_numbers, stack_axes).labels("adamuon")
    return matrices_and_rest(matrices, rest, labels, learning_rate, weight_decay, mask)
