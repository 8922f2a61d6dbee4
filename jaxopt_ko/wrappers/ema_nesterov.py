"""EMA-Nesterov: look ahead along the mean of the steps. Yau et al. 2026, arXiv:2605.25395."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.evaluation import evaluated, keeps_average
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import next_count
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.types import GradientTransformation, Hyper, Params, State


def _theta(own: EmaNesterovState, y: Array, m: Array) -> Array:
    return y - own.beta.astype(y.dtype) * m


@keeps_average("m", _theta, "beta")
class EmaNesterovState(NamedTuple):
    """State of the last part of `ema_nesterov`."""

    beta: Array  # float[]          beta_t, of the parameters as they are
    m: Params  # like params, f32+  m_t, mean of theta's steps


@recipe
def ema_nesterov(base_optimizer: GradientTransformation, beta: Hyper, gamma: Hyper) -> GradientTransformation:
    """The base optimizer's steps, made from a point that lies ahead by beta mean steps.

    y_t         = theta_t + beta_t m_t                                the parameters, where gradients are taken
    theta_{t+1} = y_t + u(g(y_t))
    m_{t+1}     = gamma m_t + (1 - gamma) (theta_{t+1} - theta_t)     m_0 = 0

    base_optimizer: a whole optimizer; its weight decay is of y.
    beta: how many mean steps ahead, >= 0; a schedule's t counts from 0. The authors schedule it to be 0 in warm-up and
        while the learning rate falls at the end.
    gamma: the weight of the past in m, in [0, 1).

    State: that of chain(base_optimizer, lookahead), 4 bytes a parameter beside the base optimizer's. Evaluate at theta:
    `eval_params`, `ema_nesterov_eval_params`.

    Raises HyperparameterError, when made, for numbers outside their domain; TransformationError if base_optimizer is
    none. Source: Yau et al. 2026, arXiv:2605.25395. Not inside `lookahead`, `schedule_free` or
    `generalized_primal_averaging`: each keeps a copy of the parameters, too.

    >>> tx = jo.ema_nesterov(jo.adamw(1e-3), beta=10.0, gamma=0.99)
    >>> state = tx.init(jnp.ones(2))
    """
    base_optimizer = errors.check_pair("ema_nesterov", "base_optimizer", base_optimizer)

    def init(p: Array) -> Memory:
        return (wide_like(p),)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"ahead": h.beta, "old": h.gamma + (1 - h.gamma) * h.ahead, "new": 1 - h.gamma}

    def rule(u: Array, p: Array, m: Array, h: Scalars) -> Step:
        m = h.old * m + h.new * u  # theta_{t+1} - theta_t = u + beta_t m
        return u + h.ahead * m, m

    hypers = {"beta": (_one_later(beta), NONNEGATIVE), "gamma": (gamma, FRACTION)}
    lookahead = leafwise(
        "ema_nesterov", EmaNesterovState, init=init, shared=shared, rule=rule, hypers=hypers, scalars={"ahead": 0.0},
        beside=True,
    )  # fmt: skip
    return chain(base_optimizer, lookahead)


def _one_later(hyper: Hyper) -> Hyper:
    return (lambda count: hyper(next_count(count))) if callable(hyper) else hyper


def ema_nesterov_eval_params(state: State, params: Params) -> Params:
    """The parameters of `ema_nesterov` to evaluate at.

    theta = y - beta m

    state: of the whole optimizer, with one `EmaNesterovState` in it or several for different leaves. Leaves that
        none of them covers stay as they are.
    params: the parameters y, a tree of floating arrays.

    Returns a tree like params. Raises StateError if there is no such state, or if two cover one leaf. Source: Yau et
    al. 2026, arXiv:2605.25395. Not for other kinds of averages: `eval_params` reads all of them.

    >>> tx, params = jo.ema_nesterov(jo.sgd(0.1), beta=10.0, gamma=0.99), jnp.ones(2)
    >>> theta = jo.ema_nesterov_eval_params(tx.init(params), params)
    """
    return evaluated("ema_nesterov_eval_params", state, params, (EmaNesterovState,))
