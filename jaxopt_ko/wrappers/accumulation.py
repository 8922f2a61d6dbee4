"""Gradients gathered over several steps: a large batch in small parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.conditional import as_steps, run_if
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_period
from jaxopt_ko.core.hyperparameters import Scalars, as_state
from jaxopt_ko.core.leafwise import Step, leafwise
from jaxopt_ko.core.method import make_transformation, method_of, name_of, pytree_class, takes, with_record
from jaxopt_ko.core.numerics import next_count, real_dtype, scalar_dtype, zero_count
from jaxopt_ko.core.rounding import leaf_keys, round_stochastic, step_key
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import (
    NONNEGATIVE,
    HyperparameterError,
    HyperparameterTypeError,
    TransformationError,
    describe,
    say,
)
from jaxopt_ko.types import DType, GradientTransformation, Params, PyTree, State, Updates
from jaxopt_ko.wrappers.checks import check_flag


class MultiStepsState(NamedTuple):
    """State of `MultiSteps`."""

    mini_step: Array  # int32[]              n, gradients in the accumulator, 0 after a step
    gradient_step: Array  # int32[]          t, steps of the inner optimizer
    inner_opt_state: State  # of the inner optimizer
    acc_grads: Updates  # like params, f32+  a_n, mean or sum of the n gradients; of floating leaves
    skip_state: PyTree = ()  # the notes of should_skip_update_fn on the last gradient


class WeightedMultiStepsState(NamedTuple):
    """State of `MultiSteps` with weighted=True."""

    mini_step: Array  # int32[]              n, gradients in the sum, 0 after a window
    gradient_step: Array  # int32[]          t, steps of the inner optimizer
    inner_opt_state: State  # of the inner optimizer
    grad_sum: Updates  # like params, f32+   s_n, sum of the n gradients; of floating leaves
    weight_sum: Array  # float[]             w_n, sum of their weights; after a window that of the whole window
    skip_state: PyTree = ()  # the notes of should_skip_update_fn on the last gradient


class _Gathered(NamedTuple):
    """The accumulator as a leafwise rule's state."""

    count: Array  # int32[]            n, gradients gathered
    acc: Updates  # like params, f32+  a_n


class ShouldSkipUpdateFunction(Protocol):
    """Says whether `MultiSteps` leaves a gradient out, and what to note in its skip_state."""

    def __call__(
        self, updates: Updates, gradient_step: Array, params: Params | None
    ) -> tuple[Array, PyTree]:  # (bool[], notes)
        """(leave it out?, notes for the state)."""


def skip_not_finite(updates: Updates, gradient_step: Array, params: Params | None) -> tuple[Array, dict[str, Array]]:
    """For `MultiSteps`: leave out gradients with an infinity or NaN in them.

    skip = any element of any floating leaf is not finite

    updates: the gradients, or what the transformation before made of them, a tree like params.
    gradient_step: int32[], the steps of the inner optimizer so far; not read.
    params: the parameters, a tree of floating arrays, or None; not read.

    Returns (bool[], {"should_skip": bool[], "num_not_finite": int32[]}); the notes are kept in the state's skip_state.
    Raises nothing. Source: optax's skip_not_finite. Not without `MultiSteps`: `apply_if_finite`.

    >>> tx = jo.MultiSteps(jo.adam(1e-3), 4, should_skip_update_fn=jo.skip_not_finite)
    >>> state = tx.init(jnp.ones(2))
    """
    counts = [jnp.sum(~jnp.isfinite(g), dtype=jnp.int32) for g in jax.tree.leaves(tree.floating_only(updates))]
    number = sum(counts, start=jnp.zeros((), jnp.int32))
    return number > 0, {"should_skip": number > 0, "num_not_finite": number}


def skip_large_updates(
    updates: Updates, gradient_step: Array, params: Params | None, max_squared_norm: float | Array
) -> tuple[Array, dict[str, Array]]:
    """For `MultiSteps`, with functools.partial: leave out gradients that are too large, or have a NaN in them.

    skip = not |g|**2 < max_squared_norm, with |g| over all floating leaves

    updates: the gradients, or what the transformation before made of them, a tree like params.
    gradient_step: int32[], the steps of the inner optimizer so far; not read.
    params: the parameters, a tree of floating arrays, or None; not read.
    max_squared_norm: the square of the norm from which on they are left out, in the units of g squared, > 0.

    Returns (bool[], {"should_skip": bool[], "norm_squared": float[]}). The square is summed in float32 at least: a
    gradient of 300 overflows float16. Raises nothing. Source: optax's skip_large_updates. Not where a large gradient is
    to be made shorter: `clip_by_global_norm`.

    >>> import functools
    >>> skip = functools.partial(jo.skip_large_updates, max_squared_norm=100.0)
    >>> tx = jo.MultiSteps(jo.adam(1e-3), 4, should_skip_update_fn=skip)
    >>> state = tx.init(jnp.ones(2))
    """
    square = tree.sum_of_squares(tree.floating_only(updates))
    skip = ~(square < jnp.asarray(max_squared_norm, square.dtype))
    return skip, {"should_skip": skip, "norm_squared": square}


def _never(updates: Updates, gradient_step: Array, params: Params | None) -> tuple[Array, PyTree]:
    return jnp.zeros((), bool), ()


_ACC = 3  # the field of either state that gathers
AnyMultiStepsState: TypeAlias = MultiStepsState | WeightedMultiStepsState


@pytree_class("_opt", "_pair", "_last")
class MultiSteps:
    """The inner optimizer's step once every k gradients, on their mean; zeros in between.

    a_1 = g;   a_n = a + (g - a) / n       (use_grad_mean=False: a + g)
    u   = the inner optimizer's step for a_k, at n = k;   else 0

    weighted=True, for gradients of sums: update(g, state, params, weight=w), g the gradient of the sum of w losses.

    s_n = s + g;   w_n = w + weight        (weight = 0: nothing, whatever g is)
    u   = the inner optimizer's step for s_k / w_k, at n = k;   else 0

    So with 1 and 99 valid tokens each token counts alike: `loop.microbatched` gives g and w. weight: a number >= 0, or
    a traced scalar, which is not checked; sums are in float32 at least. Where w_k = 0 the window ends without a step,
    and the inner state stays as it is, bit for bit. A gradient of weight 0 may be NaN, the mean of no tokens: it is
    left out by selection, and counts among the k.

    k = every_k_schedule, an integer, or a function of gradient_step: an accumulation that has begun with a larger k
    ends as soon as the new k is reached. A gradient that `should_skip_update_fn` leaves out changes nothing but
    skip_state, and brings no weight. A gradient that is None counts as 0, and its step is None: what its leaf had
    gathered is lost at n = k. The inner optimizer runs once every k calls (under jax.vmap it runs at each and is
    selected from); extra arguments are passed on to it, weight is not.
    accumulator_dtype: float32 stands for float32 at least. With bfloat16 or float16 and
    accumulator_rounding="stochastic", key=… the accumulator is rounded at random, so that small gradients are not lost
    beside large sums; key: a PRNG key or a seed, folded with the counts of the state, which holds nothing more.
    State: 4 bytes a parameter, 2 with a dtype of 16 bits, beside the inner optimizer's.

    Raises HyperparameterError for arguments that do not go together; in update MissingArgumentError without weight
    where weighted, TransformationError with weight where not, HyperparameterError for a weight that is no number >= 0;
    and what the inner optimizer raises. Not for a batch that fits: one step on all of it is the same, and sooner.
    On a mesh each gradient that comes has been summed over the devices. With one such sum a step, sum the gradients of
    micro-batches before: `loop.microbatched(loss, size, axis_name=…)`, or `unreduced` arrays that are resharded before
    the update; both are in tests/mesh/test_accumulation.py.

    optimizer = MultiSteps(adam(1e-3), 4); state = optimizer.init(params); updates, state = optimizer.update(...)
    """

    def __init__(
        self,
        opt: GradientTransformation,
        every_k_schedule: int | Array | Callable[[Array], Any],
        use_grad_mean: bool = True,
        should_skip_update_fn: ShouldSkipUpdateFunction | None = None,
        accumulator_dtype: DType = jnp.float32,
        *,
        weighted: bool = False,
        accumulator_rounding: str = "nearest",
        key: Array | int | None = None,
    ) -> None:
        name = "MultiSteps"
        self._opt = as_transformation(name, "opt", opt, lands=True)
        constant = not callable(every_k_schedule)
        k = check_period(name, "every_k_schedule", every_k_schedule) if constant else every_k_schedule
        skip = errors.check_function(name, "should_skip_update_fn", should_skip_update_fn or _never)
        errors.check_dtype(name, "accumulator_dtype", accumulator_dtype)
        if weighted and not use_grad_mean:
            say(HyperparameterError, name, "a weighted step is made of a mean", "weighted=True, use_grad_mean=False",
                "Leave one of them out")  # fmt: skip
        key = _rounding_key(name, accumulator_dtype, accumulator_rounding, key)
        wide = accumulator_dtype is None or jnp.dtype(accumulator_dtype) == jnp.float32
        keep = None if wide else accumulator_dtype
        self._kind = WeightedMultiStepsState if weighted else MultiStepsState
        weights = (
            "taken"
            if weighted
            else "passed on"
            if takes(errors.check_pair(name, "opt", opt, lands=True).update, "weight")
            else "refused"
        )
        self._pair, self._last = _gathering(self._opt, k, bool(use_grad_mean), skip, keep, weights, key)

    @property
    def weighted(self) -> bool:
        """Does update take the gradient of a sum, and its weight?"""
        return self._kind is WeightedMultiStepsState

    @property
    def inner_opt(self) -> GradientTransformation:
        """The inner optimizer."""
        return self._opt

    def gradient_transformation(self) -> GradientTransformation:
        """The (init, update) pair, to be chained."""
        return self._pair

    def init(self, params: Params, **problem: Any) -> AnyMultiStepsState:
        """The state before the first gradient: MultiStepsState, where weighted WeightedMultiStepsState."""
        state: AnyMultiStepsState = self._pair.init(params, **problem)
        return state

    def update(
        self, updates: Updates, state: AnyMultiStepsState, params: Params = None, **extra: Any
    ) -> tuple[Updates, AnyMultiStepsState]:
        """Take one gradient in, where weighted with weight=…; the step, zeros where more are awaited."""
        return self._pair.update(updates, state, params, **extra)

    def flush(
        self, state: AnyMultiStepsState, params: Params = None, **extra: Any
    ) -> tuple[Updates, AnyMultiStepsState]:
        """The step for the gradients gathered so far, as if the window ended with them: for a last, short window.

        The step of the mean of those that came, or of their sum, whatever the window was to be; zeros, and the state
        as it is, where there are none. Steps have the dtypes of params, without params those of the accumulator.
        extra: for the inner optimizer. A leaf that had no gradient in the window has the step of a zero gradient.

        updates, state = optimizer.flush(state, params)
        """
        like = as_state("MultiSteps", state, self._kind)[_ACC] if params is None else params
        return self._last.update(jax.tree.map(jnp.zeros_like, like), state, params, **extra)

    def has_updated(self, state: AnyMultiStepsState) -> Array:
        """bool[]: the inner optimizer made a step at the last gradient that was not left out."""
        made = (state.mini_step == 0) & (state.gradient_step > 0)
        return made & (state.weight_sum != 0) if isinstance(state, WeightedMultiStepsState) else made


class _Window(NamedTuple):
    """What either state holds."""

    mini_step: Array
    gradient_step: Array
    inner: State
    acc: Updates
    weight: Array | None  # None where gradients have none
    notes: PyTree


def _opened(state: AnyMultiStepsState) -> _Window:
    return _Window(*state) if isinstance(state, WeightedMultiStepsState) else _Window(*state[:4], None, state[4])


def _closed(window: _Window) -> AnyMultiStepsState:
    if window.weight is None:
        return MultiStepsState(*window[:4], window.notes)
    return WeightedMultiStepsState(*window[:4], window.weight, window.notes)


def _gathering(
    opt: GradientTransformation,
    every: int | Array | Callable[[Array], Any],
    mean: bool,
    skips: ShouldSkipUpdateFunction,
    dtype: DType | None,
    weights: str,
    key: Array | None,
) -> tuple[GradientTransformation, GradientTransformation]:
    """The pair of `MultiSteps`, and the one whose update is `flush`, with zeros for gradients.

    dtype: of the accumulator, None for float32 at least; key: to round it with, None to round to nearest.
    weights: "taken" and weighed by, "passed on", or "refused".
    """
    name, weighted = f"MultiSteps({name_of(opt)})", weights == "taken"
    gather = _gathered(name, mean and not weighted)
    kind, lands = WeightedMultiStepsState if weighted else MultiStepsState, method_of(opt).lands

    def init(params: Params, **problem: Any) -> AnyMultiStepsState:
        with jax.numpy_dtype_promotion("standard"):
            told = jax.eval_shape(lambda p: skips(p, zero_count(), p)[1], params)
        notes = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), told)
        acc = jax.tree.map(lambda p: tree.wide_like(p, 0, dtype), tree.floating_only(params))
        weight = jnp.zeros((), scalar_dtype()) if weighted else None
        return _closed(_Window(zero_count(), zero_count(), opt.init(params, **problem), acc, weight, notes))

    def update(
        updates: Updates, state: AnyMultiStepsState, params: Params = None, **extra: Any
    ) -> tuple[Updates, AnyMultiStepsState]:
        old = _opened(state)
        with jax.numpy_dtype_promotion("standard"):  # the user's functions may mix integers and floats
            skip, notes = skips(updates, old.gradient_step, params)
            k = every(old.gradient_step) if callable(every) else every
        check_flag(name, "should_skip_update_fn must return (flag, notes): the flag", skip)
        errors.check_schedule_value(name, "every_k_schedule", k)
        k = jnp.asarray(k).astype(jnp.int32)
        seen, before = tree.left_out_as(updates, old.acc), old.acc if key is None else _wide(old.acc)
        weight, extra = _weight_in(name, weights, extra)
        seen, total = _weighed(seen, weight, old)
        gathered, (n, acc) = gather.update(seen, _Gathered(old.mini_step, before))
        acc = tree.where(skip, before, acc)
        ends = ~skip & (n >= k)
        makes = ends if total is None else ends & (total != 0)
        # One buffer serves both: it holds the step where one is made, else the sum so far.
        wide = _wide(tree.none_as(seen, acc))
        wide = tree.put_back(wide, jax.tree.map(lambda g: g if tree.is_floating(g) else jnp.zeros_like(g), updates))
        gathered = tree.put_back(gathered, updates)
        both, inner = run_if(makes, _of_sums(opt, total), gathered, old.inner, params, extra, wide)
        none = jax.tree.map(jnp.zeros_like, both)
        if tree.structure(seen) != tree.structure(acc):  # some gradients are None: their leaves end a window, too
            acc = tree.where(ends, jax.tree.map(jnp.zeros_like, acc), acc)
        left = tree.fill_none(tree.left_out_as(tree.where(ends, none, both), acc), acc)
        return as_steps(tree.where(makes, both, none), updates, params, lands), _closed(_Window(
            jnp.where(ends, zero_count(), jnp.where(skip, old.mini_step, n)),
            jnp.where(makes, next_count(old.gradient_step), old.gradient_step),
            inner,
            _kept(left, old, key),
            tree.where(skip, old.weight, total),
            notes,
        ))  # fmt: skip

    def last(
        updates: Updates, state: AnyMultiStepsState, params: Params = None, **extra: Any
    ) -> tuple[Updates, AnyMultiStepsState]:
        old = _opened(state)
        _weight_in(name, "refused" if weighted else weights, extra)
        ends = old.mini_step > 0
        makes = ends if old.weight is None else ends & (old.weight != 0)
        gathered = tree.put_back(_wide(old.acc), updates)
        none = jax.tree.map(jnp.zeros_like, gathered)
        steps, inner = run_if(makes, _of_sums(opt, old.weight), gathered, old.inner, params, extra, none)
        return as_steps(steps, updates, params, lands), _closed(old._replace(
            mini_step=zero_count(),
            gradient_step=jnp.where(makes, next_count(old.gradient_step), old.gradient_step),
            inner=inner,
            acc=tree.where(ends, jax.tree.map(jnp.zeros_like, old.acc), old.acc),
        ))  # fmt: skip

    pair = with_record(transform(name, init, update, state_type=kind, any_leaf=True), lands=lands)
    return pair, transform(f"{name}.flush", init, last, state_type=kind, any_leaf=True)


def _rounding_key(name: str, dtype: DType | None, rounding: str, key: Any) -> Array | None:
    """The key to round the accumulator with; None to round to nearest."""
    errors.check_choice(name, "accumulator_rounding", rounding, ("nearest", "stochastic"))
    if rounding == "nearest":
        if key is not None:
            say(HyperparameterError, name, "key is for accumulator_rounding='stochastic' alone", describe(key),
                "Give that, too, or leave key out")  # fmt: skip
        return None
    if dtype is None or jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
        say(HyperparameterError, name, "accumulator_rounding='stochastic' is for accumulators of 16 bits",
            f"accumulator_dtype={dtype!r}", "Give accumulator_dtype=jnp.bfloat16")  # fmt: skip
    if key is None:
        say(HyperparameterError, name, "accumulator_rounding='stochastic' needs a key", "key=None",
            "Give jax.random.key(0), or 0")  # fmt: skip
    return errors.check_key(name, key)


def _weight_in(name: str, weights: str, extra: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The weight among the extra arguments, and those for the inner optimizer: never a weight in silence."""
    weight = extra.get("weight")
    if weights == "taken":
        if weight is None:
            errors.missing_argument(name, "weight", "Call update(gradient_of_the_sum, state, params, weight=number)")
        _check_weight(name, weight)
        return weight, {key: value for key, value in extra.items() if key != "weight"}
    if weight is not None and weights == "refused":
        say(TransformationError, name, "weight is for the update of MultiSteps(…, weighted=True)",
            f"weight={describe(weight)}", "Make it so, or leave weight out")  # fmt: skip
    return None, extra


def _check_weight(name: str, weight: Any) -> None:
    """One number >= 0; of a traced one nothing is known but its shape."""
    if not errors.is_number(weight) or np.shape(weight) != ():
        say(HyperparameterTypeError, name, "weight must be one number >= 0 (shape ())", describe(weight),
            "Give how many losses were summed: weight=jnp.sum(mask, dtype=jnp.float32)")  # fmt: skip
    if not isinstance(weight, jax.core.Tracer) and not NONNEGATIVE.holds(errors.as_computed(weight)):
        say(HyperparameterError, name, "weight must be a finite number >= 0", f"weight={weight}",
            "Give how many losses were summed")  # fmt: skip


def _weighed(g: Updates, weight: Any, old: _Window) -> tuple[Updates, Array | None]:
    """What a gradient adds to the sum, nothing where its weight is 0; the sum of weights with its own."""
    if old.weight is None:
        return g, None
    weight, wide = jnp.asarray(weight, old.weight.dtype), _wide(g)
    added = tree.where(weight == 0, jax.tree.map(jnp.zeros_like, wide), wide)
    return added, jnp.where(old.mini_step == 0, weight, old.weight + weight)


def _of_sums(opt: GradientTransformation, total: Array | None) -> GradientTransformation:
    """The optimizer for sums of gradients with this weight: their mean is made where it is needed, without a copy."""
    if total is None:
        return opt

    def mean(s: Any) -> Any:
        return s / total.astype(real_dtype(s.dtype)) if tree.is_floating(s) else s

    def update(sums: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        return opt.update(jax.tree.map(mean, sums), state, params, **extra)

    return make_transformation(method_of(opt), opt.init, update)


def _wide(full: PyTree) -> PyTree:
    """In float32 at least; what is no floating number as it is."""

    def wide(x: Any) -> Any:
        return jnp.asarray(x, tree.compute_dtype(tree.dtype_of(x))) if tree.is_floating(x) else x

    return jax.tree.map(wide, full)


def _kept(left: PyTree, old: _Window, key: Array | None) -> PyTree:
    """The accumulator in the dtypes that it is kept in, with a key rounded at random."""
    if key is None:
        return jax.tree.map(lambda x, a: x.astype(a.dtype), left, old.acc)
    now = step_key(step_key(key, old.gradient_step), old.mini_step)
    return jax.tree.map(lambda x, a, k: round_stochastic(x, a.dtype, k), left, old.acc, leaf_keys(now, old.acc))


def _gathered(name: str, mean: bool) -> GradientTransformation:
    """The accumulator's rule for one gradient."""

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"n": t.astype(scalar_dtype()), "first": (t == 1).astype(scalar_dtype())}

    def rule(g: Array, p: Array, a: Array, h: Scalars) -> Step:
        a = jnp.where(h.first > 0, g, a + (g - a) / h.n if mean else a + g)  # by selection: 0 times NaN is NaN
        return a, a

    return leafwise(name, _Gathered, init=lambda p: (tree.wide_like(p),), shared=shared, rule=rule)
