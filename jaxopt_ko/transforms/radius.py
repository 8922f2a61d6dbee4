"""How long a step is beside its weights, and how long the weights become: the pieces around Muon in record runs.

github.com/KellerJordan/modded-nanogpt, records/track_3_optimization: the floor of matrices, pull request #274; the
brake and the pin, #294; the floor of rows and the decay behind the pin, #328.
Relative updates: github.com/NVIDIA-NeMo/Emerging-Optimizers, relative_update.py.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.numerics import divided, inner, length, or_one
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_copy
from jaxopt_ko.errors import NONNEGATIVE, UNIT
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, Params, PyTree

PARTS = ("row", "column", "matrix")
RADII = ("radial", "start")


class PinnedState(NamedTuple):
    """State of `pinned` with radius="start"."""

    radius: Params  # float[…] f32+ of each leaf  r, its length at the start


@options
def update_floor(floor: Hyper = 0.3825, *, per: str = "row", stack_axes: PyTree = 0) -> GradientTransformation:
    """Directions no shorter than a part of the weights that they change: what is shorter is lifted.

    U_i <- U_i max(1, floor |W_i| / |U_i|),   i a row, a column or the whole matrix;   U_i = 0 stays 0

    floor: the least |U_i| / |W_i|, >= 0; 0.3825 is that of the record run, whose learning rate behind it is 0.0375.
    per: "row", W[i, ...]; "column", W[..., j]; "matrix", the leaf. The record's rows are what one neuron weighs its
        inputs by: these are the columns of a kernel [inputs, outputs], as Flax has it. A leaf of less than two axes is
        one part.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own norms.

    No state; needs params. It stands behind a direction of about constant length, Muon's, and before the learning rate.

    Raises HyperparameterError, when made, for a negative floor or another `per`; MissingArgumentError, when traced,
    without params. Source: modded-nanogpt, records/track_3_optimization, pull requests #274 (per matrix) and #328 (per
    row). Not for directions that shrink near a minimum, for it keeps them long.

    >>> tx = jo.chain(jo.scale_by_muon(), jo.update_floor(0.3825, per="column"), jo.scale_by_learning_rate(0.02))
    >>> state = tx.init(jnp.ones((2, 3)))
    """
    errors.check_choice("update_floor", "per", per, PARTS)

    def rule(U: Array, W: Array, h: Scalars) -> Array:
        across = _across(W, per)
        return _lifted(U, length(U, across), h.floor * length(W, across), across)

    hypers = {"floor": (floor, NONNEGATIVE)}
    return leafwise("update_floor", EmptyState, rule=rule, hypers=hypers, needs_params=True, stack_axes=stack_axes)


@options
def relative_update(*, stack_axes: PyTree = 0) -> GradientTransformation:
    """Directions as long as the weights, so that the learning rate is the part of them that a step changes.

    U <- U |W| / |U|,   0 where either is 0

    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own norms.

    No state; needs params. Raises MissingArgumentError, when traced, without params. Source: Emerging-Optimizers,
    relative_update.py. Not for leaves that begin at zero, which stay there: `scale_by_trust_ratio`, else the same, lets
    these go.

    >>> tx = jo.chain(jo.scale_by_muon(), jo.relative_update(), jo.scale_by_learning_rate(0.02))
    >>> state = tx.init(jnp.ones((2, 3)))
    """

    def rule(U: Array, W: Array, h: Scalars) -> Array:
        return length(W) * (U / or_one(length(U)))

    return leafwise("relative_update", EmptyState, rule=rule, needs_params=True, stack_axes=stack_axes)


@options
def radial_brake(
    outward: Hyper = 0.5, learning_rate: Hyper | None = None, *, inward: Hyper = 1.0, stack_axes: PyTree = 0
) -> GradientTransformation:
    """Less of a direction along the weights where it makes them longer; with a learning rate, exactly so much longer.

    c = <U, W> / <W, W>                            c < 0: W - lr U is longer than W
    U <- U - (1 - s) c W                           s = outward where c < 0, else inward
    W <- r (W - lr U) / |W - lr U|,   r = |W| - lr <U, W> / |W|                       with learning_rate

    outward, inward: what is kept of the radial part, in [0, 1]; 0.5 and 1 are the record run's.
    learning_rate: >= 0; given, what comes out is the step, and this stands in the place of `scale_by_learning_rate`;
        None: the direction of the second line.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own radius.

    No state; needs params. A step along the sphere lengthens W by lr**2 |U|**2 / 2 |W|, which the last line takes out.

    Raises HyperparameterError, when made, for numbers outside their domains; MissingArgumentError, when traced, without
    params. Source: modded-nanogpt, records/track_3_optimization, pull request #294. Not for leaves that begin at zero
    with a learning rate here: their length is pinned there.

    >>> tx = jo.chain(jo.scale_by_muon(), jo.radial_brake(0.5), jo.scale_by_learning_rate(0.02))
    >>> state = tx.init(jnp.ones((2, 3)))
    """
    pins = learning_rate is not None

    def rule(U: Array, W: Array, h: Scalars) -> Array:
        size, moves = length(W), _any(U)
        U, along = _braked(U, W / or_one(size), h)
        return _pinned(U, W, size, along, None, moves, h) - W if pins else U

    hypers = {"outward": (outward, UNIT), "inward": (inward, UNIT)}
    if learning_rate is not None:
        hypers["learning_rate"] = (learning_rate, NONNEGATIVE)
    return leafwise("radial_brake", EmptyState, rule=rule, hypers=hypers, needs_params=True, stack_axes=stack_axes)


@options
def pinned(
    learning_rate: Hyper,
    floor: Hyper = 0.3825,
    outward: Hyper = 0.5,
    weight_decay: Hyper = 0.025,
    *,
    inward: Hyper = 1.0,
    per: str = "row",
    radius: str = "radial",
    brake_first: bool = False,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step whose direction is floored and braked, whose end is pinned to a radius, with cautious decay behind.

    U <- update_floor(U)
    U <- radial_brake(U)
    W' = r (W - lr U) / |W - lr U|,   r = |W| - lr <U, W> / |W|, or the length at the start
    W <- W' (1 - lr weight_decay [U W > 0])        element by element, W in the brackets that before the step

    learning_rate: lr >= 0; it stands in the place of `scale_by_learning_rate` and of weight decay.
    floor: the least |U_i| / |W_i|, >= 0; 0: none.
    outward, inward: what the brake leaves of the radial part, in [0, 1]; 1 and 1: no brake.
    weight_decay: >= 0; behind the pin, so that it changes the shape of W that the pin keeps; 0: none.
    per: whose lengths the floor compares: "row", "column", "matrix"; see `update_floor`.
    radius: "radial", the length that the braked direction leads to to first order; "start", the length at the start, as
        of `hyperball`, which also takes the direction's length out: put `relative_update` before for that.
    brake_first: brake before the floor, as the record's program does; the order of its text is the default.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them; each has its own radius.

    State: none; with radius="start" 4 bytes a leaf. Needs params. W stays where U is 0.

    Raises HyperparameterError, when made, for numbers outside their domains and for other words; MissingArgumentError,
    when traced, without params. Source: modded-nanogpt, records/track_3_optimization, pull request #328; the decay,
    Chen et al. 2025, arXiv:2510.12402. Not for leaves that begin at zero, for these stay there, nor for norms, biases
    and embeddings: give these to another method by `partition`.

    >>> hidden = jo.chain(jo.scale_by_muon(), jo.pinned(0.0375, per="column"))
    >>> tx = jo.partition({"hidden": hidden, "rest": jo.adam(1e-3)}, {"w": "hidden", "b": "rest"})
    >>> state = tx.init({"w": jnp.ones((2, 3)), "b": jnp.ones(3)})
    """
    errors.check_choice("pinned", "per", per, PARTS)
    errors.check_choice("pinned", "radius", radius, RADII)
    no_floor, no_decay = (isinstance(x, int | float) and x == 0 for x in (floor, weight_decay))

    def turned(U: Array, W: Array, r: Array | None, h: Scalars) -> Array:
        across = _across(W, per)
        parts = length(W, across)
        size = length(parts)
        D = W / or_one(size)
        if brake_first:
            U, _ = _braked(U, D, h)
        own = U if no_floor else length(U, across)
        moves = _any(own)
        U = U if no_floor else _lifted(U, own, h.floor * parts, across)
        U, along = (U, _along(U, D)) if brake_first else _braked(U, D, h)
        end = _pinned(U, W, size, along, r, moves, h)
        if not no_decay:
            shrinks = inner(jnp.sign(U), jnp.sign(W)) > 0
            end = jnp.where(shrinks, end - h.learning_rate * h.weight_decay * end, end)
        return end - W

    hypers = {
        "learning_rate": (learning_rate, NONNEGATIVE), "floor": (floor, NONNEGATIVE), "outward": (outward, UNIT),
        "inward": (inward, UNIT), "weight_decay": (weight_decay, NONNEGATIVE),
    }  # fmt: skip
    if radius == "radial":

        def rule(U: Array, W: Array, h: Scalars) -> Array:
            return turned(U, W, None, h)

        return leafwise("pinned", EmptyState, rule=rule, hypers=hypers, needs_params=True, stack_axes=stack_axes)

    def init(W: Array) -> Memory:
        return (length(wide_copy(W)),)

    def on_sphere(U: Array, W: Array, R: Array, h: Scalars) -> Step:
        return turned(U, W, R, h), R

    return leafwise(
        "pinned", PinnedState, init=init, rule=on_sphere, hypers=hypers, needs_params=True, stack_axes=stack_axes
    )


def _across(x: Array, per: str) -> tuple[int, ...]:
    """The axes of one of its parts."""
    axes = tuple(range(x.ndim))
    if x.ndim > 1 and per != "matrix":
        axes = axes[1:] if per == "row" else axes[:-1]
    return axes


def _lifted(U: Array, own: Array, least: Array, across: tuple[int, ...]) -> Array:
    """U_i least_i / |U_i| where that is longer than U_i; own: the |U_i|."""
    short, by, to = (jnp.expand_dims(x, across) for x in (own < least, or_one(own), least))
    return jnp.where(short, to * divided(U, by), U)


def _any(U: Array) -> Array:
    """bool[]: is there anything but 0? A sum is one pass on a CPU, where a disjunction is several."""
    return jnp.sum(jnp.abs(U)) != 0


def _along(U: Array, D: Array) -> Array:
    """<U, W> / |W| of D = W / |W|, so that there is no square of W."""
    return jnp.sum(inner(U, D))


def _braked(U: Array, D: Array, h: Scalars) -> tuple[Array, Array]:
    """U with a part of what is along W, and how much that is."""
    along = _along(U, D)
    gone = along * jnp.where(along < 0, 1 - h.outward, 1 - h.inward)
    return U - gone * D, along - gone


def _pinned(U: Array, W: Array, size: Array, along: Array, r: Array | None, moves: Array, h: Scalars) -> Array:
    """The end of the step, of the length r, or of the one that it leads to to first order; W where it does not move."""
    r = jnp.maximum(size - h.learning_rate * along, float(np.finfo(size.dtype).eps) * size) if r is None else r
    end = W - h.learning_rate * U
    scale = r / or_one(length(end))
    return jnp.where(moves, scale, jnp.ones_like(scale)) * end
