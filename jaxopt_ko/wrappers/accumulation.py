"""Gradients gathered over several steps: a large batch in small parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.conditional import as_steps, run_if
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import Scalars, as_state
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import make_transformation, name_of, pytree_class
from jaxopt_ko.core.numerics import next_count, scalar_dtype, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.types import DType, GradientTransformation, Params, PyTree, State, Updates
from jaxopt_ko.wrappers.checks import check_flag, check_period


class ApplyEvery(NamedTuple):
    """State of `apply_every`."""

    count: Array  # int32[]                 t, steps taken
    grad_acc: Updates  # like params, f32+  s_t, sum since the last step that was passed on


class MultiStepsState(NamedTuple):
    """State of `MultiSteps`."""

    mini_step: Array  # int32[]              n, gradients in the accumulator, 0 after a step
    gradient_step: Array  # int32[]          t, steps of the inner optimizer
    inner_opt_state: State  # of the inner optimizer
    acc_grads: Updates  # like params, f32+  a_n, mean or sum of the n gradients; of floating leaves
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


def apply_every(k: int | Array = 1) -> GradientTransformation:
    """Passes on the sum of k updates every k-th step, and zeros in between.

    s_t = g for t = 1, k + 1, 2 k + 1, …, else s + g
    u   = s_t  for t = k, 2 k, …,            else 0

    A gradient that is None counts as 0, and its step is None: what its leaf had gathered is lost at a k-th step. The
    parts before it in a chain still run at every step; `MultiSteps` runs a whole optimizer once every k.
    """
    k = check_period("apply_every", "k", k)

    def init(p: Array) -> Memory:
        return (tree.wide_like(p),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        place = (t - 1) % k
        return {"first": (place == 0).astype(scalar_dtype()), "last": (place == k - 1).astype(scalar_dtype())}

    def rule(g: Array, p: Array, s: Array, h: Scalars) -> Step:
        s = jnp.where(h.first > 0, g, s + g)  # by selection: 0 times NaN is NaN
        return jnp.where(h.last > 0, s, jnp.zeros_like(s)), s

    pair = leafwise("apply_every", ApplyEvery, init=init, shared=shared, rule=rule)

    def update(updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        if not any(g is None for g in tree.flatten(updates, none_is_leaf=True)[0]):
            return pair.update(updates, state, params)
        own = as_state("apply_every", state, ApplyEvery)
        steps, new = pair.update(tree.fill_none(updates, tree.zeros_like(own.grad_acc)), own, params)
        return tree.none_as(updates, steps), new

    return make_transformation("apply_every", pair.init, update)


def skip_not_finite(updates: Updates, gradient_step: Array, params: Params | None) -> tuple[Array, dict[str, Array]]:
    """For `MultiSteps`: leave out gradients with an infinity or NaN in them."""
    counts = [jnp.sum(~jnp.isfinite(g), dtype=jnp.int32) for g in jax.tree.leaves(tree.floating_only(updates))]
    number = sum(counts, start=jnp.zeros((), jnp.int32))
    return number > 0, {"should_skip": number > 0, "num_not_finite": number}


def skip_large_updates(
    updates: Updates, gradient_step: Array, params: Params | None, max_squared_norm: float | Array
) -> tuple[Array, dict[str, Array]]:
    """For `MultiSteps`, with functools.partial: leave out gradients with |g|**2 >= max_squared_norm, or NaN in them.

    The square is summed in float32 at least: a gradient of 300 overflows float16.
    """
    square = tree.sum_of_squares(tree.floating_only(updates))
    skip = ~(square < jnp.asarray(max_squared_norm, square.dtype))
    return skip, {"should_skip": skip, "norm_squared": square}


def _never(updates: Updates, gradient_step: Array, params: Params | None) -> tuple[Array, PyTree]:
    return jnp.zeros((), bool), ()


@pytree_class("_opt", "_pair")
class MultiSteps:
    """The inner optimizer's step once every k gradients, on their mean; zeros in between.

    a_1 = g;   a_n = a + (g - a) / n       (use_grad_mean=False: a + g)
    u   = the inner optimizer's step for a_k, at n = k;   else 0

    k = every_k_schedule, an integer, or a function of gradient_step: an accumulation that has begun with a larger k
    ends as soon as the new k is reached. A gradient that `should_skip_update_fn` leaves out changes nothing but
    skip_state. A gradient that is None counts as 0, and its step is None: what its leaf had gathered is lost at n = k.
    The inner optimizer runs once every k calls (under jax.vmap it runs at each and is selected from).
    accumulator_dtype: float32 stands for float32 at least. Raises what the inner optimizer raises.
    On a mesh each gradient that comes has been summed over the devices. With one such sum a step, sum the gradients of
    micro-batches yourself, as `unreduced` arrays, and reshard them before the update: tests/mesh/test_accumulation.py.

    optimizer = MultiSteps(adam(1e-3), 4); state = optimizer.init(params); updates, state = optimizer.update(...)
    """

    def __init__(
        self,
        opt: GradientTransformation,
        every_k_schedule: int | Array | Callable[[Array], Any],
        use_grad_mean: bool = True,
        should_skip_update_fn: ShouldSkipUpdateFunction | None = None,
        accumulator_dtype: DType = jnp.float32,
    ) -> None:
        self._opt = as_transformation("MultiSteps", "opt", opt)
        constant = not callable(every_k_schedule)
        k = check_period("MultiSteps", "every_k_schedule", every_k_schedule) if constant else every_k_schedule
        skip = errors.check_function("MultiSteps", "should_skip_update_fn", should_skip_update_fn or _never)
        errors.check_dtype("MultiSteps", "accumulator_dtype", accumulator_dtype)
        wide = accumulator_dtype is None or jnp.dtype(accumulator_dtype) == jnp.float32
        self._pair = _gathering(self._opt, k, bool(use_grad_mean), skip, None if wide else accumulator_dtype)

    @property
    def inner_opt(self) -> GradientTransformation:
        """The inner optimizer."""
        return self._opt

    def gradient_transformation(self) -> GradientTransformation:
        """The (init, update) pair, to be chained."""
        return self._pair

    def init(self, params: Params, **problem: Any) -> MultiStepsState:
        """The state before the first gradient."""
        state: MultiStepsState = self._pair.init(params, **problem)
        return state

    def update(
        self, updates: Updates, state: MultiStepsState, params: Params = None, **extra: Any
    ) -> tuple[Updates, MultiStepsState]:
        """Take one gradient in; the step, zeros where more are awaited."""
        return self._pair.update(updates, state, params, **extra)

    def has_updated(self, state: MultiStepsState) -> Array:
        """bool[]: the inner optimizer made a step at the last gradient that was not left out."""
        return (state.mini_step == 0) & (state.gradient_step > 0)


def _gathering(
    opt: GradientTransformation,
    every: int | Array | Callable[[Array], Any],
    mean: bool,
    skips: ShouldSkipUpdateFunction,
    dtype: DType | None,
) -> GradientTransformation:
    """The pair of `MultiSteps`; dtype: of the accumulator, None for float32 at least."""
    name = f"MultiSteps({name_of(opt)})"
    gather = _gathered(name, mean)

    def init(params: Params, **problem: Any) -> MultiStepsState:
        with jax.numpy_dtype_promotion("standard"):
            told = jax.eval_shape(lambda p: skips(p, zero_count(), p)[1], params)
        notes = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), told)
        acc = jax.tree.map(lambda p: tree.wide_like(p, 0, dtype), tree.floating_only(params))
        return MultiStepsState(zero_count(), zero_count(), opt.init(params, **problem), acc, notes)

    def update(
        updates: Updates, state: MultiStepsState, params: Params = None, **extra: Any
    ) -> tuple[Updates, MultiStepsState]:
        with jax.numpy_dtype_promotion("standard"):  # the user's functions may mix integers and floats
            skip, notes = skips(updates, state.gradient_step, params)
            k = every(state.gradient_step) if callable(every) else every
        check_flag(name, "should_skip_update_fn must return (flag, notes): the flag", skip)
        errors.check_schedule_value(name, "every_k_schedule", k)
        k = jnp.asarray(k).astype(jnp.int32)
        seen = tree.left_out_as(updates, state.acc_grads)
        gathered, (n, acc) = gather.update(seen, _Gathered(state.mini_step, state.acc_grads))
        acc = tree.where(skip, state.acc_grads, acc)
        ready = ~skip & (n >= k)
        # One buffer serves both: it holds the step where one is made, else the sum so far.
        wide = jax.tree.map(lambda a: a.astype(tree.compute_dtype(a.dtype)), tree.none_as(seen, acc))
        wide = tree.put_back(wide, jax.tree.map(lambda g: g if tree.is_floating(g) else jnp.zeros_like(g), updates))
        gathered = tree.put_back(gathered, updates)
        both, inner = run_if(ready, opt, gathered, state.inner_opt_state, params, extra, wide)
        none = jax.tree.map(jnp.zeros_like, both)
        if tree.structure(seen) != tree.structure(acc):  # some gradients are None: their leaves end a window, too
            acc = tree.where(ready, jax.tree.map(jnp.zeros_like, acc), acc)
        left = tree.fill_none(tree.left_out_as(tree.where(ready, none, both), acc), acc)
        return as_steps(tree.where(ready, both, none), updates, params), MultiStepsState(
            jnp.where(ready, zero_count(), jnp.where(skip, state.mini_step, n)),
            jnp.where(ready, next_count(state.gradient_step), state.gradient_step),
            inner,
            jax.tree.map(lambda x, a: x.astype(a.dtype), left, acc),
            notes,
        )

    return transform(name, init, update, state_type=MultiStepsState, any_leaf=True)


def _gathered(name: str, mean: bool) -> GradientTransformation:
    """The accumulator's rule for one gradient."""

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"n": t.astype(scalar_dtype()), "first": (t == 1).astype(scalar_dtype())}

    def rule(g: Array, p: Array, a: Array, h: Scalars) -> Step:
        a = jnp.where(h.first > 0, g, a + (g - a) / h.n if mean else a + g)  # by selection: 0 times NaN is NaN
        return a, a

    return leafwise(name, _Gathered, init=lambda p: (tree.wide_like(p),), shared=shared, rule=rule)
