"""One training step: the body of every loop here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core.checks import check_carry
from jaxopt_ko.core.method import filter_kwargs
from jaxopt_ko.core.numerics import real_dtype
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import ascent, where
from jaxopt_ko.errors import HyperparameterError, TreeError, describe, say
from jaxopt_ko.training.microbatching import SummedLoss
from jaxopt_ko.types import GradientTransformation, Params, PyTree, State

LossFn = Callable[..., Any]  # (params, batch) -> float[], or (float[], aux)


class Carry(NamedTuple):
    """The parameters and the optimizer's state, from step to step."""

    params: Params
    state: State  # the optimizer's


TrainStep = Callable[[Carry, PyTree], tuple[Carry, tuple[jax.Array, PyTree]]]


@options
def train_step(loss_fn: LossFn, optimizer: GradientTransformation, *, has_aux: bool = False) -> TrainStep:
    """One training step, a body for `lax.scan` or a function to jit.

    params <- params + u(grad of loss_fn(params, batch))

    loss_fn: (params, batch) -> float[], with has_aux (float[], aux). Of a `microbatched` one the loss is sum / count:
        MultiSteps(…, weighted=True) gets the gradient of the sum and the count, others that of the mean, 0 for none.
    optimizer: any (init, update) pair; one that takes `value`, `grad` or `value_fn` (a line search) gets them.
    has_aux: does loss_fn return a pair? Without, aux is None.

    Returns step(Carry(params, state), batch) -> (carry, (loss, aux)). Raises, when traced, TreeError if the loss is not
    one real number; StateError, naming the leaf, if params or state change their structure, shape or dtype. Not for a
    loss with a state of its own.

    >>> step, opt = jo.loop.train_step(lambda w, x: jnp.sum((w - x) ** 2), jo.sgd(0.25)), jo.sgd(0.25)
    >>> carry, (loss, aux) = step(jo.loop.Carry(jnp.zeros(1), opt.init(jnp.zeros(1))), jnp.ones(1))
    >>> float(loss)
    1.0
    """
    errors.check_function("train_step", "loss_fn", loss_fn)
    weighted = bool(getattr(optimizer, "weighted", False))  # of MultiSteps
    optimizer = errors.check_pair("train_step", "optimizer", optimizer, lands=True)
    update = filter_kwargs(optimizer.update, 3)
    evaluate = _evaluation(loss_fn, has_aux)
    if isinstance(loss_fn, SummedLoss):
        evaluate = _evaluation_of_sums(loss_fn, weighted, has_aux)

    def step(carry: Carry, batch: PyTree) -> tuple[Carry, tuple[jax.Array, PyTree]]:
        params, state = carry
        (loss, aux), grads, words = evaluate(params, batch)
        updates, new_state = update(grads, state, params, value=loss, grad=grads, **words)
        new = Carry(apply_updates(params, updates), new_state)
        check_carry("train_step", carry, new)
        return new, (loss, aux)

    return step


# (params, batch) -> ((loss, aux), gradient, further arguments of update)
_Evaluation = Callable[[Params, PyTree], tuple[tuple[jax.Array, PyTree], PyTree, dict[str, Any]]]


def _evaluation(loss_fn: LossFn, has_aux: bool) -> _Evaluation:
    """Of a loss that is one number."""

    def objective(params: Params, batch: PyTree) -> tuple[jax.Array, PyTree]:
        out = loss_fn(params, batch)
        if has_aux and not (isinstance(out, tuple) and len(out) == 2):
            say(TreeError, "train_step", "with has_aux=True loss_fn must return (loss, aux)", describe(out),
                "Return the pair, or leave has_aux out")  # fmt: skip
        loss, aux = out if has_aux else (out, None)
        if isinstance(loss, tuple | list) or jnp.shape(loss) != () or not _is_real(loss):
            say(TreeError, "train_step", "loss_fn must return one real number (shape ())", describe(loss),
                "Take the mean over the batch; for (loss, aux) set has_aux=True")  # fmt: skip
        return loss, aux

    def evaluate(params: Params, batch: PyTree) -> tuple[tuple[jax.Array, PyTree], PyTree, dict[str, Any]]:
        value, grads = jax.value_and_grad(objective, has_aux=True)(params, batch)
        return value, ascent(grads), {"value_fn": lambda p: objective(p, batch)[0]}

    return evaluate


def _evaluation_of_sums(loss_fn: SummedLoss, weighted: bool, has_aux: bool) -> _Evaluation:
    """Of a loss that is a sum, for an optimizer that takes weights, or one that takes means."""
    if has_aux:
        say(HyperparameterError, "train_step", "has_aux is of no use with microbatched, whose aux is the count", None,
            "Leave has_aux out")  # fmt: skip

    def evaluate(params: Params, batch: PyTree) -> tuple[tuple[jax.Array, PyTree], PyTree, dict[str, Any]]:
        (total, count), grads = loss_fn(params, batch)
        grads = ascent(grads)
        words: dict[str, Any] = {"value_fn": lambda p: loss_fn.mean(p, batch)}
        if weighted:
            words["weight"] = count
        else:
            grads = where(
                count == 0,
                jax.tree.map(jnp.zeros_like, grads),
                jax.tree.map(lambda g: g / count.astype(real_dtype(g.dtype)), grads),
            )
        return (total / count.astype(total.dtype), None), grads, words

    return evaluate


def _is_real(x: Any) -> bool:
    return hasattr(x, "dtype") and bool(jnp.issubdtype(x.dtype, jnp.floating))
