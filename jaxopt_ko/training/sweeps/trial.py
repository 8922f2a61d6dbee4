"""A run in three functions: what a sweep can stop, carry on and save."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_ko import errors
from jaxopt_ko.core.numerics import next_count, scalar_dtype, zero_count
from jaxopt_ko.errors import HyperparameterError, TreeError, describe, say
from jaxopt_ko.training.microbatching import SummedLoss
from jaxopt_ko.training.steps import Carry, train_step
from jaxopt_ko.types import GradientTransformation, Params, PyTree

Hyperparameters = dict[str, jax.Array]  # name -> float32[]
MEMORY = 0.95  # how much of the mean loss of a trial is older than the last step


class Trial(NamedTuple):
    """One training run, so that `sweep` can carry it on from where it stands: start(h, key), step, ..., step, measure.

    start: (hyperparameters, key) -> carry: any tree of arrays, with all that a step needs, hyperparameters included.
    step: carry -> carry, one training step, of the same structure, shapes and dtypes. What depends on the number of
        the step needs a counter in the carry.
    measure: carry -> metrics: one real number, or a dict of them. It runs at the end of a rung, not at every step.

    `trial` makes one of an optimizer and a loss.

    >>> halve = jo.loop.Trial(lambda h, key: h["x"], lambda x: x / 2, lambda x: x)
    >>> jo.loop.sweep(halve, {"x": [8.0, 4.0]}, seeds=1, budget=2).value.tolist()
    [[2.0], [1.0]]
    """

    start: Callable[[Hyperparameters, jax.Array], PyTree]
    step: Callable[[PyTree], PyTree]
    measure: Callable[[PyTree], Any]


class TrialState(NamedTuple):
    """What a trial of `trial` carries from step to step."""

    hyperparameters: Hyperparameters  # float32[] each
    key: jax.Array  # key[]  the batches'
    t: jax.Array  # int32[]  steps taken
    train: Carry  # params, and the optimizer's state
    loss: jax.Array | None  # float[2]  mean of the last losses times its weight, the weight; None with evaluate


def trial(
    make_optimizer: Callable[[Hyperparameters], GradientTransformation],
    loss_fn: Callable[..., Any],
    init_params: Any,
    batch: Any,
    evaluate: Callable[[Params], Any] | None = None,
) -> Trial:
    """A `Trial` of an optimizer and a loss: what most sweeps are.

    params <- params + u(grad of loss_fn(params, batch(key_t, t)))      u of make_optimizer(hyperparameters)

    make_optimizer: hyperparameters, a dict of float32[] -> an (init, update) pair: lambda h: jo.adam(h["rate"]).
    loss_fn: (params, batch) -> float[]; also a `microbatched` one.
    init_params: key -> parameters, or the parameters themselves, which all seeds then begin from.
    batch: (key, t) -> batch, with a new key at each step t = 0, 1, ... (int32[]); or the one batch of all steps, a tree
        of arrays.
    evaluate: params -> one real number or a dict of them, closed over validation data. None: the loss; of the one
        batch, or the mean over the last steps, each of which counts 5 % less than the next.

    Returns a `Trial`, whose carry is a tuple with `train`, a `Carry`. All that is random depends on the key of the seed
    alone, so that settings are compared on the same first weights and batches. Raises TransformationError, when
    traced, if make_optimizer returns no pair; what `train_step` raises. Not for runs whose shapes depend on a
    hyperparameter: make a sweep for each choice.

    >>> run = jo.loop.trial(lambda h: jo.sgd(h["rate"]), lambda w, x: jnp.sum((w - x) ** 2), jnp.zeros(1), jnp.ones(1))
    >>> jo.loop.sweep(run, {"rate": [0.1, 0.3, 0.5, 0.7]}, seeds=1, budget=3).best
    {'rate': 0.5}
    """
    for name, function in (("make_optimizer", make_optimizer), ("loss_fn", loss_fn)):
        errors.check_function("trial", name, function)
    if evaluate is not None:
        errors.check_function("trial", "evaluate", evaluate)
    fixed = not callable(batch)

    def start(hyperparameters: Hyperparameters, key: jax.Array) -> TrialState:
        first, later = jax.random.split(key)
        kept = unread(hyperparameters)
        params = init_params(first) if callable(init_params) else init_params
        params = jax.tree.map(jnp.asarray, params)
        state = optimizer_of(hyperparameters).init(params)
        loss = None if evaluate is not None or fixed else jnp.zeros(2, scalar_dtype())
        return TrialState(kept, later, zero_count(), Carry(params, state), loss)

    def optimizer_of(hyperparameters: Hyperparameters) -> GradientTransformation:
        return errors.check_pair("trial", "what make_optimizer returns", make_optimizer(hyperparameters), lands=True)

    def step(carry: TrialState) -> TrialState:
        now = batch if fixed else batch(jax.random.fold_in(carry.key, carry.t), carry.t)
        train, (loss, _) = train_step(loss_fn, optimizer_of(carry.hyperparameters))(carry.train, now)
        mean = carry.loss
        if mean is not None:
            new = jnp.stack([loss.astype(mean.dtype), jnp.ones((), mean.dtype)])
            mean = MEMORY * mean + (1 - MEMORY) * new
        return carry._replace(t=next_count(carry.t), train=train, loss=mean)

    def measure(carry: TrialState) -> Any:
        if evaluate is not None:
            return evaluate(carry.train.params)
        if carry.loss is not None:
            return carry.loss[0] / carry.loss[1]
        mean = loss_fn.mean if isinstance(loss_fn, SummedLoss) else loss_fn
        return mean(carry.train.params, batch)

    return Trial(start, step, measure)


class Reading(dict[str, Any]):
    """Hyperparameters that remember which of them were read."""

    def __init__(self, given: Hyperparameters) -> None:
        super().__init__(given)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def __missing__(self, name: str) -> Any:
        say(HyperparameterError, "sweep", f"train reads the hyperparameter {name!r}, which the space does not have",
            f"a space of {', '.join(sorted(self.plain()))}", f"Add it: {{{name!r}: [...]}}")  # fmt: skip

    def __iter__(self) -> Any:  # `dict(...)`, `**`
        self.read.update(super().keys())
        return super().__iter__()

    def get(self, name: str, default: Any = None) -> Any:
        """As that of a dict; it has been read then, if it is there or not."""
        self.read.add(name)
        return super().get(name, default)

    def values(self) -> Any:
        """As that of a dict; all have been read then."""
        self.read.update(super().keys())
        return super().values()

    def items(self) -> Any:
        """As that of a dict; all have been read then."""
        self.read.update(super().keys())
        return super().items()

    def plain(self) -> Hyperparameters:
        """The same, without a memory and without being read."""
        return dict(super().items())


def _flatten(reading: Reading) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    names = tuple(sorted(reading))  # who carries them all may read them all
    return tuple(reading[name] for name in names), names


def _unflatten(names: tuple[str, ...], leaves: Iterable[Any]) -> Any:
    return dict(zip(names, leaves, strict=True))


jax.tree_util.register_pytree_node(Reading, _flatten, _unflatten)


def unread(hyperparameters: Hyperparameters) -> Hyperparameters:
    """A dict of them that is not yet a use of them."""
    return hyperparameters.plain() if isinstance(hyperparameters, Reading) else dict(hyperparameters)


def as_metrics(metrics: Any) -> dict[str, jax.Array]:
    """What a run measured, as a dict of real numbers; one number alone is named "value"."""
    named = metrics if isinstance(metrics, dict) else {"value": metrics}
    made = {}
    for name, value in named.items():
        dtype = getattr(value, "dtype", None)
        real = isinstance(value, int | float) or jnp.dtype(dtype or object).kind in "iub"
        real = real or (dtype is not None and jnp.issubdtype(dtype, jnp.floating))
        if not isinstance(name, str) or not real or jnp.shape(value) != ():
            alone = named is not metrics
            said = f"metric{'s' if alone else f' {name!r}'} must be one real number{', or a dict of them' * alone}"
            say(TreeError, "sweep", said, describe(value), "Return a mean, or {name: number}: floats of shape ()")
        made[name] = jnp.asarray(value).astype(scalar_dtype())
    if not made:
        say(TreeError, "sweep", "metrics must have one number at least", "{}", "Return the loss")
    return made
