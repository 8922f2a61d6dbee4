"""Scion: steps of a fixed length in a norm chosen for each layer, by linear minimization oracles.

Pethick et al. 2025, arXiv:2502.07529, Algorithms 1 (unconstrained) and 2 (constrained), with its norms for layers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.basic import init_empty_state
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.compose.groups import partition
from jaxopt_ko.core import stacking, tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import length, quotient, real_dtype
from jaxopt_ko.core.signature import options, renamed
from jaxopt_ko.core.stacking import MatrixAxes
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE
from jaxopt_ko.linalg.matrix_functions import JORDAN, Coefficients
from jaxopt_ko.optimizers.matrix.axes import Layout, Numbers
from jaxopt_ko.optimizers.matrix.orthogonalization import OrthogonalDirection, orthogonalization
from jaxopt_ko.transforms.averaging import ema
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, EmptyState, GradientTransformation, Hyper, Params, PyTree, State, Updates

SCALES: dict[str, Callable[[int, int], float]] = {  # s(fan_in, fan_out) of each norm
    "spectral": lambda fan_in, fan_out: math.sqrt(fan_out / fan_in),
    "column": lambda fan_in, fan_out: math.sqrt(fan_out),
    "row": lambda fan_in, fan_out: 1 / math.sqrt(fan_in),
    "sign": lambda fan_in, fan_out: 1 / fan_in,
    "rms": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}
NORMS = tuple(SCALES)


@options
def scale_by_lmo(
    norm: str = "spectral",
    radius: Hyper = 1.0,
    eps: Hyper = 1e-8,
    *,
    shape_scale: Callable[[int, int], float] | None = None,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    weight_dimension_numbers: Numbers = None,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The steepest direction u of length `radius` in a norm: the point of the ball where <g, u> is largest; -lmo(g).

    u = radius s d              for a kernel [in, out], y = x W; the paper's W is its transpose
    norm        d                                         s                      a layer from … to …
    "spectral"  U V' of g = U S V', by `orthogonalize`    sqrt(out / in)         rms to rms: hidden layers
    "column"    what one input does, each at length 1     sqrt(out)              one-hot to rms: embeddings
    "row"       what makes one output, each at length 1   1 / sqrt(in)           rms to largest: heads
    "sign"      sign(g)                                   1 / in                 rms to largest: heads
    "rms"       g / |g|                                   sqrt(size)             biases, gains

    A zero gradient makes no step. Signs and "rms" take leaves of any shape behind stack_axes: the last axis is `out`,
    and a vector has in = 1.

    norm: one of the five.
    radius: length of u in that norm, > 0: a number, an array or a schedule.
    eps: added to the lengths that are divided by, >= 0.
    shape_scale: another s(in, out): 1 for signs of embeddings, max(1, sqrt(out / in)) for a spectral input layer,
        sqrt(out k k / in) / (k k) for a convolution whose `in` is the k x k channels of weight_dimension_numbers; None:
        s as above.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them, or a function that makes it; None: by stack_axes.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: none.
    Raises HyperparameterError, when made, for a number outside its domain; also for another norm. TreeError, when
        traced, for a leaf that is no matrix where one is needed.
    Source: Pethick et al. 2025, arXiv:2502.07529, its norms for layers.
    Not for single gradients: put a mean before it, as `scion` does.

    >>> lmo = jo.scale_by_lmo("sign", radius=3000.0)
    >>> head = jo.chain(jo.ema(0.9, debias=False), lmo, jo.scale_by_learning_rate(2e-4))
    >>> state = head.init({"head": jnp.ones((3, 7))})
    """
    name = "scale_by_lmo"
    errors.check_choice(name, "norm", norm, NORMS)
    hypers = {"radius": (radius, POSITIVE), "eps": (eps, NONNEGATIVE)}
    scale_of = shape_scale or SCALES[norm]
    layout = Layout(weight_dimension_numbers, stack_axes, stack_sharding)
    how = orthogonalization(name, ns_coeffs, ns_steps, compute_dtype=compute_dtype)
    direction = OrthogonalDirection(name, how, layout)

    def update(updates: Updates, state: EmptyState, params: Params = None, *, h: Scalars) -> tuple[Updates, State]:
        treedef = tree.structure(updates)
        any_shape = norm in ("sign", "rms") and weight_dimension_numbers is None
        axes = _any_axes(name, updates, stack_axes) if any_shape else layout.axes(name, updates)
        if norm == "spectral":
            one = jnp.ones_like(h.eps)
            updates = direction(updates, (one,), [jax.tree.leaves(updates)], h.eps, when=one > 0)
        steps = [
            _stepped(g, h.radius, h.eps, s=scale_of(*own.shape(np.shape(g))[1:]), norm=norm, axes=own)
            if np.size(g)
            else g
            for g, own in zip(jax.tree.leaves(updates), axes, strict=True)
        ]
        return treedef.unflatten(steps), state

    return transform(name, init_empty_state, update, state_type=EmptyState, hypers=hypers)


def _any_axes(name: str, updates: Updates, stack_axes: PyTree) -> list[MatrixAxes]:
    """The last axis behind the stacks as columns, all before it as rows."""
    counts = tree.stacks(name, stack_axes, updates)
    behind = [tuple(range(count, np.ndim(g))) for g, count in zip(jax.tree.leaves(updates), counts, strict=True)]
    return [MatrixAxes(own[:-1], own[-1:]) for own in behind]


@functools.partial(jax.jit, static_argnames=("s", "norm", "axes"))
def _stepped(g: Array, radius: Array, eps: Array, *, s: float, norm: str, axes: MatrixAxes) -> Array:
    """u of one leaf, computed in float32 at least."""
    wide = tree.compute_dtype(g.dtype)
    x, real = g.astype(wide), real_dtype(wide)
    along = {"column": axes.columns, "row": axes.rows, "rms": (*axes.rows, *axes.columns)}
    if norm in along:
        x = quotient(x, length(x, axis=along[norm], keepdims=True) + eps.astype(real))
    elif norm == "sign":
        x = jnp.sign(x)
    return (radius.astype(real) * s * x).astype(g.dtype)


@renamed("0.2.0", momentum="b1")
@recipe
def scion(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    radius: Hyper | Mapping[str, Hyper] = 1.0,
    norms: PyTree | Callable[[Params], PyTree] | None = None,
    constrained: bool = True,
    eps: Hyper = 1e-8,
    mu_dtype: DType | None = None,
    *,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = JORDAN,
    ns_steps: int = 5,
    stack_axes: PyTree = 0,
    compute_dtype: DType | None = None,
    stack_sharding: jax.sharding.Sharding | None = None,
) -> GradientTransformation:
    """The step lr (-u - p) of the Frank-Wolfe method, u of `scale_by_lmo` of a mean gradient; -lr u, unconstrained.

    d = b1 d + (1 - b1) g                       the paper's alpha, the authors' momentum, is 1 - b1
    p <- (1 - lr) p - lr u(d)                   inside the ball of the radius, if it began there
    p <- p - lr u(d)                            constrained=False

    The only memory is d; the authors' ScionLight, which keeps d in the place of the gradient, has nothing to save: a
    gradient here is gone after the step.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of d, in [0, 1): it remembers about 1 / (1 - b1) gradients; 1 minus the paper's alpha.
    radius: > 0, for all, or one for each norm: {"spectral": 50.0, "sign": 3000.0} is the authors' for GPT-2.
    norms: which norm for which leaf: a tree, or a prefix of one, of the names in `scale_by_lmo`, or a function that
        makes it; None: "spectral" for what has two axes behind its stack_axes, "sign" for the rest. Embeddings and
        heads are two-dimensional, too: say "sign" for them, or "column" and "row".
    constrained: stay in the ball: the parameters shrink by the learning rate a step.
    eps: added to the lengths that are divided by, >= 0.
    mu_dtype: dtype of d; None: the parameter's, float32 at least.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; 5 are Jordan's.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    stack_sharding: where the stack of all matrices of a shape is computed; None: where they are.

    State: d, 4 bytes a parameter; 2 with mu_dtype=jnp.bfloat16.
    Raises HyperparameterError, when made, for a number outside its domain; also for another norm in radius.
        MissingArgumentError, in update, without params if constrained. TreeError, when traced, for a leaf whose norm
        has no radius, or that is no matrix where one is needed.
    Source: Pethick et al. 2025, arXiv:2502.07529, Algorithms 1 (unconstrained) and 2 (constrained).
    Not with constrained=True where the parameters begin outside of the ball, or have to leave it.

    >>> norms = {"embedding": "column", "hidden": "spectral", "bias": "rms", "head": "sign"}
    >>> opt = jo.scion(1e-3, norms=norms, constrained=False)
    >>> shapes = {"embedding": (7, 3), "hidden": (3, 3), "bias": (3,), "head": (3, 7)}
    >>> state = opt.init({name: jnp.ones(shape) for name, shape in shapes.items()})
    """
    errors.check_hyper("scion", "b1", b1, FRACTION)
    radii = radius if isinstance(radius, Mapping) else dict.fromkeys(NORMS, radius)
    for name in radii:
        errors.check_choice("scion", "each norm of radius", name, NORMS)

    def by_shape(params: Params) -> PyTree:
        names = {"matrix": "spectral", "rest": "sign"}
        return jax.tree.map(names.__getitem__, stacking.matrix_labels("scion", stack_axes)(params))

    oracles: dict[Hashable, GradientTransformation] = {
        name: scale_by_lmo(
            name, own, eps, ns_coeffs=ns_coeffs, ns_steps=ns_steps, stack_axes=stack_axes,
            compute_dtype=compute_dtype, stack_sharding=stack_sharding,
        )
        for name, own in radii.items()
    }  # fmt: skip
    shrink = [add_decayed_weights(1.0)] if constrained else []
    return chain(
        ema(b1, debias=False, accumulator_dtype=mu_dtype),
        partition(oracles, by_shape if norms is None else norms),
        *shrink,
        scale_by_learning_rate(learning_rate),
    )
