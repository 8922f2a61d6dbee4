"""AggMo: several velocities at once. Lucas, Sun, Zemel & Grosse 2019, arXiv:1804.00325, equation 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import UNIT, HyperparameterError, describe, say
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Updates


class ScaleByAggmoState(NamedTuple):
    """State of `scale_by_aggmo`."""

    traces: Updates  # like params, f32+, a tuple for each leaf  v_1 … v_K, one for each beta


@options
def scale_by_aggmo(
    betas: Sequence[Hyper] = (0.0, 0.9, 0.99), *, accumulator_dtype: DType | None = None
) -> GradientTransformation:
    """The mean of several velocities, each with another decay.

    v_i = beta_i v_i + g;   u = (v_1 + … + v_K) / K

    betas: decays of the velocities, K >= 1 numbers, arrays or schedules, in [0, 1]; the paper's are 0, 0.9 and 0.99, in
        general 1 - 10**-(i - 1).
    accumulator_dtype: dtype of the velocities; None: float32 at least.

    State: the velocities, 4 K bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain, or no beta.
    Source: Lucas, Sun, Zemel & Grosse 2019, arXiv:1804.00325, equation 2.
    Not for use alone: u points up the gradient; `aggmo` turns it.

    >>> rule = jo.scale_by_aggmo((0.0, 0.9))
    >>> _, state = rule.update(jnp.array([1.0, 2.0]), rule.init(jnp.ones(2)))
    >>> [v.tolist() for v in state.traces]
    [[1.0, 2.0], [1.0, 2.0]]
    """
    if not isinstance(betas, list | tuple) or not betas:
        say(HyperparameterError, "scale_by_aggmo", "betas must be a sequence of decays, one at least", describe(betas),
            "Give (0.0, 0.9, 0.99)")  # fmt: skip
    names = [f"betas[{i}]" for i in range(len(betas))]

    def init(p: Array) -> Memory:
        return (tuple(wide_like(p, 0, accumulator_dtype) for _ in names),)

    def rule(g: Array, p: Array, traces: tuple[Array, ...], h: Scalars) -> Step:
        decays = h.values()
        traces = tuple(decays[name] * v + g for name, v in zip(names, traces, strict=True))
        return sum(traces[1:], start=traces[0]) / len(traces), traces

    hypers = {name: (beta, UNIT) for name, beta in zip(names, betas, strict=True)}
    dtypes = {"accumulator_dtype": accumulator_dtype}
    return leafwise("scale_by_aggmo", ScaleByAggmoState, init=init, rule=rule, hypers=hypers, dtypes=dtypes)


@recipe
def aggmo(
    learning_rate: Hyper,
    betas: Sequence[Hyper] = (0.0, 0.9, 0.99),
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    accumulator_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_aggmo`: large momentum whose oscillations the small ones damp.

    v_i = beta_i v_i + g;   p <- p - lr ((v_1 + … + v_K) / K + weight_decay p)

    Carried by torch_optimizer and pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; as for `sgd`
        with the middle one of the momenta.
    betas: decays of the velocities, K >= 1 numbers, arrays or schedules, in [0, 1]; the paper's are 0, 0.9 and 0.99.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    accumulator_dtype: dtype of the velocities; None: float32 at least.

    State: the velocities, 4 K bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain, or no beta; MissingArgumentError, in update,
        without params where weight_decay is not 0.
    Source: Lucas, Sun, Zemel & Grosse 2019, arXiv:1804.00325, equation 2.
    Not for scarce memory: it keeps K arrays of each parameter's size.

    >>> opt = jo.aggmo(0.1)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_aggmo(betas, accumulator_dtype=accumulator_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
