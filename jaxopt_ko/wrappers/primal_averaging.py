"""Generalized primal averaging, GPA. Defazio et al. 2025, arXiv:2512.17131; their code: facebookresearch/optimizers."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.evaluation import evaluated, keeps_average
from jaxopt_ko.core.hyperparameters import Scalars, without_schedules
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import name_of
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import FRACTION, Domain
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, State, Updates

WEIGHT = Domain(0.0, 1.0, "in (0, 1]", low_open=True, infinite=True)


def _x(own: PrimalAveragesState, y: Array, z: Array) -> Array:
    x: Array = z + (y - z) / own.mu_y.astype(y.dtype)
    return x


@keeps_average("z", _x, "mu_y")
class PrimalAveragesState(NamedTuple):
    """The averages of `generalized_primal_averaging`."""

    mu_y: Array  # float[]          of the parameters as they are, to find x from y and z
    z: Params  # like params, f32+  where the base optimizer is; the parameters are y


class GeneralizedPrimalAveragingState(NamedTuple):
    """State of `generalized_primal_averaging`."""

    averages: PrimalAveragesState  # mu_y and z
    base_optimizer_state: State  # of the base optimizer


@options
def generalized_primal_averaging(
    base_optimizer: GradientTransformation,
    mu_x: Hyper = 0.9967,
    mu_y: Hyper = 0.7,
    state_dtype: DType | None = None,
    *,
    params_at: str = "y",
) -> GradientTransformation:
    """The base optimizer's steps at z, gradients at y between z and the decaying average x.

    y_t     = mu_y x_t + (1 - mu_y) z_t             the parameters;  x = z + (y - z) / mu_y
    z_{t+1} = z_t + u(g(y_t))
    x_{t+1} = mu_x x_t + (1 - mu_x) z_{t+1}

    base_optimizer: a whole optimizer, momentum and learning rate schedule included.
    mu_x: the weight of the past in x, in [0, 1): 0.9934, 0.9967 and 0.9984 for what DiLoCo does in 16, 32 and 64 local
        steps.
    mu_y: the weight of x in y, in (0, 1]; 0.7 in the paper.
    state_dtype: of z; None: float32 at least.
    params_at: the parameters that the base optimizer sees, for its weight decay: "y", as in `schedule_free`, or "z",
        the paper's; the authors' code has had either.

    State: 4 bytes a parameter, z, and a number, beside that of the base optimizer. Needs params. Evaluate at x:
    `eval_params`, `generalized_primal_averaging_eval_params`.

    Raises HyperparameterError, when made, for numbers outside their domain; TransformationError if base_optimizer is
    none; MissingArgumentError, when traced, without params. Source: Defazio et al. 2025, arXiv:2512.17131. Not for few
    steps: x lags 1 / (1 - mu_x) steps behind.

    >>> tx = jo.generalized_primal_averaging(jo.adamw(1e-3))
    >>> state = tx.init(jnp.ones(2))
    """
    errors.check_choice("generalized_primal_averaging", "params_at", params_at, ("y", "z"))
    pair = as_transformation("generalized_primal_averaging", "base_optimizer", base_optimizer)
    name = f"generalized_primal_averaging({name_of(pair)})"

    def start(p: Array) -> Memory:
        return (tree.kept_copy("generalized_primal_averaging", p, state_dtype),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        pull = 1 - h.mu_x * h.mu_y / h.last_mu_y
        return {"last_mu_y": h.mu_y, "pull": pull, "share": 1 - h.mu_x * h.mu_y}

    def rule(u: Array, y: Array, z: Array, h: Scalars) -> Step:
        return h.pull * (z - y) + h.share * u, z + u

    averages = leafwise(
        "generalized_primal_averaging",
        PrimalAveragesState,
        init=start,
        shared=shared,
        rule=rule,
        hypers={"mu_x": (mu_x, FRACTION), "mu_y": (mu_y, WEIGHT)},
        scalars={"last_mu_y": 1.0},
        dtypes={"state_dtype": state_dtype},
        needs_params=True,
        beside=True,
    )

    def init(params: Params, **problem: Any) -> GeneralizedPrimalAveragingState:
        return GeneralizedPrimalAveragingState(averages.init(params), pair.init(params, **problem))

    def update(
        updates: Updates, state: GeneralizedPrimalAveragingState, params: Params = None, **extra: Any
    ) -> tuple[Updates, GeneralizedPrimalAveragingState]:
        own, inner = state
        seen = params
        if params_at == "z":
            z = without_schedules(own).z
            given, like = (tree.left_out_as(x, z) for x in (tree.none_as(updates, z), params))
            seen = tree.put_back(tree.cast_like(given, like), params)
        u, inner = pair.update(updates, inner, seen, **extra)
        check_same_trees(name_of(pair), "updates", u, "gradients", updates)
        u, own = averages.update(u, own, params)
        return u, GeneralizedPrimalAveragingState(own, inner)

    return transform(name, init, update, needs_params=True, state_type=GeneralizedPrimalAveragingState, any_leaf=True)


def generalized_primal_averaging_eval_params(state: State, params: Params) -> Params:
    """The parameters of `generalized_primal_averaging` to evaluate at.

    x = z + (y - z) / mu_y, the average

    state: of the whole optimizer, with one `PrimalAveragesState` in it or several for different leaves. Leaves that
        none of them covers stay as they are.
    params: the parameters y, a tree of floating arrays.

    Returns a tree like params. Raises StateError if there is no such state, or if two cover one leaf. Source: Defazio
    et al. 2025, arXiv:2512.17131. Not for other kinds of averages: `eval_params` reads all of them.

    >>> tx, params = jo.generalized_primal_averaging(jo.sgd(0.1)), jnp.ones(2)
    >>> x = jo.generalized_primal_averaging_eval_params(tx.init(params), params)
    """
    return evaluated("generalized_primal_averaging_eval_params", state, params, (PrimalAveragesState,))
