"""What type checkers make of a user's program: read by mypy --strict and by pyright, never run; see test_types.py.

A line that is meant to be wrong says so for both.
"""

from functools import partial
from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_ko as jo
from jaxopt_ko import loop, schedules

x: jax.Array = jnp.ones(3)
params = {"w": x}


def loss(p: Any) -> jax.Array:
    return jnp.sum(p**2)


def own_schedule(step: jax.Array) -> jax.Array:
    return 0.1 / step


def own_schedule_of_numbers(step: int) -> float:
    return 0.1 / step


# ---- hyperparameters: numbers, arrays, schedules, a user's functions ------------------------------------

assert_type(jo.adam(1e-3), jo.GradientTransformation)
assert_type(jo.adam(1), jo.GradientTransformation)
assert_type(jo.adam(x[0], b1=np.float32(0.9), b2=np.asarray(0.99)), jo.GradientTransformation)
assert_type(jo.adam(lambda t: 0.1), jo.GradientTransformation)
assert_type(jo.adam(lambda t: 0.1 / t), jo.GradientTransformation)
assert_type(jo.adam(own_schedule), jo.GradientTransformation)
assert_type(jo.adam(own_schedule_of_numbers, eps=own_schedule), jo.GradientTransformation)
assert_type(jo.adam(jo.cosine_decay_schedule(0.1, 100)), jo.GradientTransformation)
assert_type(schedules.linear_schedule(0.1, 0.0, 10)(3), jax.Array)
assert_type(jo.join_schedules([jo.constant_schedule(0.1), lambda t: 0.1], [10])(0), jax.Array)
assert_type(jo.inject_hyperparams(jo.adam)(0.1), jo.GradientTransformation)
jo.adam("0.1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
jo.adam(lambda t: "0.1")  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
jo.adam(0.1, beta1=0.9)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
jo.adm(0.1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
jo.losses.huber(x, x)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


# ---- transformations ------------------------------------------------------------------------------------

optimizer = jo.chain(jo.clip_by_global_norm(1.0), jo.masked(jo.adamw(1e-3), {"w": True}))
assert_type(optimizer, jo.GradientTransformation)
assert_type(jo.partition({"a": jo.adam(0.1), "b": jo.sgd(0.1)}, {"w": "a"}), jo.GradientTransformation)
state = optimizer.init(params)
updates, state = optimizer.update(params, state, params, value=x[0])
params = jo.apply_updates(params, updates)

several = jo.MultiSteps(optimizer, every_k_schedule=4)
assert_type(several, jo.MultiSteps)
assert_type(several.gradient_transformation(), jo.GradientTransformation)
assert_type(several.has_updated(several.init(params)), jax.Array)

routed = jo.route(
    jo.Group("hidden", partial(jo.muon, beta=0.9), 0.02, 0.1, role="matrix"),
    jo.Group("vectors", jo.adamw, lambda t: 3e-3, 0.0, role=("norm", "bias")),
)
assert_type(routed, jo.Routed)
jo.chain(routed, jo.scale(-1.0))
jo.chain(jo.adam)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# ---- solvers --------------------------------------------------------------------------------------------

solution = jo.minimize(loss, x, jo.lbfgs(), tol=1e-6, bounds=(0.0, None))
assert_type(solution, jo.Solution)
assert_type(solution.value, jax.Array)
assert_type(solution.status, jo.Status)
assert_type(solution.status.sentence, str)
assert_type(solution.status.success, jax.Array)
assert_type(solution.evaluations.gradient, jax.Array)
assert_type(solution.multipliers, jo.Multipliers | None)
assert_type(jo.least_squares(lambda p: p - 1.0, x), jo.Solution)
assert_type(jo.root(lambda p: p - 1.0, x), jo.Solution)
assert_type(jo.lbfgs(), jo.GradientTransformation)


# ---- training -------------------------------------------------------------------------------------------

run = loop.fit(
    lambda p, batch: loss(p), x, jo.adam(0.1), (x, x), jo.data.mini_batch(3, 2), key=jax.random.key(0), epochs=3
)
assert_type(run, loop.Run)
assert_type(jo.state_dict(jo.adam(0.1), state, params), dict[str, Any])


# ---- rooms that are imported late, by every path --------------------------------------------------------

assert_type(jo.solve.minimize(loss, x), jo.Solution)
assert_type(jo.debug.check_values(jo.adam(0.1)), jo.GradientTransformation)
assert_type(jo.sharding.state_dict(jo.adam(0.1), state, params), dict[str, Any])
assert_type(jo.catalog.ROWS[0], jo.catalog.Row)
assert_type(jo.Code.RUNNING.sentence, str)
