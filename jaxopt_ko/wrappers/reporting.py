"""What passes through a chain, measured and kept in the state; the updates themselves are not changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_state_tuple
from jaxopt_ko.core.method import make_transformation, with_record
from jaxopt_ko.core.numerics import ratio
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.transforms.averaging import EmaState, ema
from jaxopt_ko.types import (
    DType,
    EmptyState,
    GradientTransformation,
    GradientTransformationExtraArgs,
    Hyper,
    Params,
    PyTree,
    State,
    Updates,
)

Measure = Callable[[Updates], PyTree]


class SnapshotState(NamedTuple):
    """State of `snapshot`."""

    measurement: dict[str, PyTree]  # its name -> what was measured at the last step, zeros before the first


class MonitorState(NamedTuple):
    """State of `monitor`."""

    measurements: dict[str, PyTree]  # name -> what was measured at the last step, zeros before the first
    measure_states: tuple[State, ...]  # of the measures, in their order


def snapshot(measure_name: str, measure: Measure) -> GradientTransformation:
    """A measurement of what passes, kept in the state; the updates are not changed.

    state.measurement[measure_name] = measure(updates of the last step)

    measure_name: its name, a string.
    measure: a function of the updates that returns arrays of the same shapes at each step.

    State: what is measured, numbers in float32 at least, zeros before the first step. Raises TransformationError if
    measure is no function. Source: optax's snapshot. Not for several measurements, or averages of them: `monitor`.

    >>> tx = jo.chain(jo.snapshot("norm", jo.global_norm), jo.adam(1e-3))
    >>> float(tx.init(jnp.ones(2))[0].measurement["norm"])
    0.0
    """
    errors.check_function("snapshot", "measure", measure)

    def init(params: Params) -> SnapshotState:
        return SnapshotState({measure_name: _blank(_measured(measure, params))})

    def update(updates: Updates, state: SnapshotState, params: Params = None, **_: Any) -> tuple[Updates, State]:
        return updates, SnapshotState({measure_name: _like(state.measurement[measure_name], measure(updates))})

    return with_record(transform(f"snapshot({measure_name})", init, update, state_type=SnapshotState), passes=True)


@options
def monitor(measures: Mapping[str, GradientTransformation | Measure]) -> GradientTransformation:
    """Several measurements of what passes, kept in the state with the memory of those that have one.

    state.measurements[name] = measure(updates of the last step)

    measures: a dict, name -> a function of the updates, or a transformation whose updates are the measurement
        (`measure_with_ema`). Arrays have the same shapes at each step.

    State: what is measured, zeros before the first step, and the states of the measures. The updates are not changed.

    Raises TransformationError if measures is no dict or one of them is neither. Source: optax's monitor. Not for what a
    compiled step may return itself, the loss say.

    >>> tx = jo.chain(jo.monitor({"norm": jo.global_norm, "max": lambda g: jnp.max(jnp.abs(g))}), jo.adam(1e-3))
    >>> sorted(tx.init(jnp.ones(2))[0].measurements)
    ['max', 'norm']
    """
    opened_ = {
        name: _stateless(measure) if callable(measure) else as_transformation("monitor", f"measures[{name!r}]", measure)
        for name, measure in measures.items()
    }

    def init(params: Params, **problem: Any) -> MonitorState:
        def first(params: Params) -> dict[str, PyTree]:
            return {name: m.update(params, m.init(params, **problem), params)[0] for name, m in opened_.items()}

        states = tuple(measure.init(params, **problem) for measure in opened_.values())
        return MonitorState(_blank(_measured(first, params)), states)

    def update(
        updates: Updates, state: MonitorState, params: Params = None, **extra: Any
    ) -> tuple[Updates, MonitorState]:
        seen, states = {}, []
        for (name, measure), own in zip(opened_.items(), state.measure_states, strict=True):
            measurement, new = measure.update(updates, own, params, **extra)
            seen[name] = _like(state.measurements[name], measurement)
            states.append(new)
        return updates, MonitorState(seen, tuple(states))

    return with_record(transform("monitor", init, update, state_type=MonitorState), passes=True)


@options
def measure_with_ema(
    measure: Measure, decay: Hyper, debias: bool = True, accumulator_dtype: DType | None = None
) -> GradientTransformation:
    """For `monitor`: the exponential moving average of a measurement.

    s_t = decay s + (1 - decay) measure(updates);   the measurement is s_t / (1 - decay**t), or s_t with debias=False

    measure: a function of the updates to arrays of the same shapes at each step. Truth values count as 0 and 1.
    decay: the weight of the past, in [0, 1), with debias=False in [0, 1].
    debias: divide by the weight that the mean has gathered, as it starts at 0.
    accumulator_dtype: dtype of s; None: float32 at least.

    State: (EmptyState(), EmaState), as of a chain. Raises HyperparameterError, when made, for a decay outside its
    domain, TransformationError if measure is no function. Source: optax's measure_with_ema. Not in a chain by itself:
    its updates are the measurement.

    >>> tx = jo.chain(jo.monitor({"norm": jo.measure_with_ema(jo.global_norm, 0.9)}), jo.adam(1e-3))
    >>> state = tx.init(jnp.ones(2))
    """
    errors.check_function("measure_with_ema", "measure", measure)
    mean = ema(decay, debias, accumulator_dtype)

    def numbers(updates: Updates) -> PyTree:
        wide = tree.compute_dtype(*map(tree.dtype_of, jax.tree.leaves(updates)))
        return jax.tree.map(lambda x: jnp.asarray(x).astype(wide), measure(updates))

    def init(params: Params) -> tuple[EmptyState, EmaState]:
        return EmptyState(), mean.init(jax.eval_shape(numbers, params))

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[PyTree, State]:
        check_state_tuple("measure_with_ema", state, ["measure", "ema"])
        measurement, new = mean.update(numbers(updates), state[1])
        return measurement, (state[0], new)

    return make_transformation("measure_with_ema", init, update)


def _stateless(measure: Measure) -> GradientTransformation:
    return GradientTransformationExtraArgs(
        lambda params, **_: EmptyState(), lambda g, state, params=None, **_: (measure(g), state)
    )


def _measured(measure: Measure, params: Params) -> PyTree:
    """The shapes of a measurement of such updates in float32 at least."""

    def wide(full: Params) -> PyTree:
        return measure(jax.tree.map(lambda p: jnp.asarray(p).astype(tree.compute_dtype(tree.dtype_of(p))), full))

    return jax.eval_shape(wide, params)


def _blank(shapes: PyTree) -> PyTree:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _like(old: PyTree, new: PyTree) -> PyTree:
    """The measurement in the dtypes that the state keeps."""
    if tree.structure(old) != tree.structure(new):
        return new  # which the checks will refuse
    return jax.tree.map(lambda a, b: jnp.asarray(b).astype(a.dtype), old, new)


# ---- how large updates are beside the parameters --------------------------------------------------------


class UpdateRatioState(NamedTuple):
    """State of `update_ratio`."""

    ratio: jax.Array  # float[]                    |u| / |p| over all leaves, at the last update
    leaves: PyTree  # like params, float[] each  the same of each leaf


class LostUpdatesState(NamedTuple):
    """State of `lost_updates`."""

    fraction: jax.Array  # float[]                   of the parameters with u != 0, those that stay, at the last update
    worst: jax.Array  # float[]                      largest fraction so far
    leaves: PyTree  # like params, float[] each  fraction of each leaf


def update_ratio() -> GradientTransformation:
    """The size of a step relative to the parameters, kept in the state; updates pass as they are.

    ratio = |u| / |p|, over all leaves and of each

    State: 4 bytes, and 4 for each leaf; 0 before the first step. It goes last in a chain, where u is what is added, and
    needs params. About 1e-3 is usual (Karpathy, CS231n notes).

    Raises MissingArgumentError, when traced, without params. Source: CS231n, "Neural Networks Part 3". Not for leaves
    that are 0: their ratio has no meaning.

    >>> tx = jo.chain(jo.adam(1e-3), jo.diagnose.update_ratio())
    >>> float(tx.init(jnp.ones(2))[-1].ratio)
    0.0
    """

    def init(params: Params) -> UpdateRatioState:
        return UpdateRatioState(jnp.zeros(()), _scalars(params))

    def update(updates: Updates, state: UpdateRatioState, params: Params) -> tuple[Updates, UpdateRatioState]:
        def leaf(u: Updates, p: Params) -> jax.Array:
            step = tree.global_norm(u)
            quotient: jax.Array = ratio(step, tree.global_norm(p).astype(step.dtype))
            return quotient

        whole = leaf(updates, params).astype(state.ratio.dtype)
        return updates, UpdateRatioState(whole, _fill(leaf, updates, params, state.leaves))

    made = transform("update_ratio", init, update, needs_params=True, state_type=UpdateRatioState)
    return with_record(made, passes=True)


def lost_updates() -> GradientTransformation:
    """The fraction of updates that rounding loses, kept in the state; updates pass as they are.

    fraction = #(u != 0 and p + u == p, in p's dtype) / #(u != 0), over all leaves and of each

    State: 8 bytes, and 4 for each leaf; 0 before the first step. It goes last in a chain, where u is what is added, and
    needs params. In bfloat16 all updates below |p| / 512 are lost, so that training stalls: keep the parameters in
    float32, or round at random (`stochastic_rounding`).

    Raises MissingArgumentError, when traced, without params. Source: Gupta et al. 2015, arXiv:1502.02551. Not for runs
    that must be fast: each step is added once more to be compared.

    >>> tx = jo.chain(jo.adam(1e-3), jo.diagnose.lost_updates())
    >>> float(tx.init(jnp.ones(2))[-1].fraction)
    0.0
    """

    def init(params: Params) -> LostUpdatesState:
        return LostUpdatesState(jnp.zeros(()), jnp.zeros(()), _scalars(params))

    def count(u: jax.Array, p: jax.Array) -> jax.Array:
        """float32[2]: lost, moving"""
        u, p = jnp.asarray(u), jnp.asarray(p)
        moving = u != 0
        lost = moving & (apply_updates(p, u) == p)
        return jnp.stack([jnp.sum(x, dtype=jnp.float32) for x in (lost, moving)])

    def update(updates: Updates, state: LostUpdatesState, params: Params) -> tuple[Updates, LostUpdatesState]:
        pairs = zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True)
        lost, moving = sum((count(u, p) for u, p in pairs), start=jnp.zeros(2, jnp.float32))
        fraction = ratio(lost, moving).astype(state.fraction.dtype)
        leaves = _fill(lambda u, p: ratio(*count(u, p)), updates, params, state.leaves)
        return updates, LostUpdatesState(fraction, jnp.maximum(state.worst, fraction), leaves)

    made = transform("lost_updates", init, update, needs_params=True, state_type=LostUpdatesState)
    return with_record(made, passes=True)


def _scalars(params: Params) -> PyTree:
    return jax.tree.map(lambda p: jnp.zeros(()), params)


def _fill(leaf: Callable[[jax.Array, jax.Array], jax.Array], updates: Updates, params: Params, old: PyTree) -> PyTree:
    """leaf(u, p), or 0 where there is no update."""
    us, treedef = tree.flatten(updates, none_is_leaf=True)
    ps, olds = (tree.flatten(t, none_is_leaf=True)[0] for t in (params, old))
    new = [
        o if o is None else jnp.zeros_like(o) if u is None else leaf(u, p).astype(o.dtype)
        for u, p, o in zip(us, ps, olds, strict=True)
    ]
    return treedef.unflatten(new)
