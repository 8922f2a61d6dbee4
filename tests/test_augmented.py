"""The augmented Lagrangian over several methods: Hock and Schittkowski's problems, statuses, derivatives, lanes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data import hs_problems

import jaxopt_ko as jo
from jaxopt_ko.types import Code

HS = {problem["name"]: problem for problem in hs_problems.HS}
SMALL = ("HS7", "HS11", "HS28", "HS40", "HS100")


def solve(problem, inner, bounds=None):
    def stacked(name, sign):
        function = problem[name]
        return None if function is None else lambda x: sign * jnp.stack([jnp.asarray(v) for v in function(x, jnp)])

    with jax.numpy_dtype_promotion("standard"):
        return jo.minimize(
            lambda x: problem["f"](x, jnp), jnp.asarray(problem["x0"]), jo.augmented_lagrangian(inner),
            equality=stacked("eq", 1), inequality=stacked("ineq", -1), bounds=bounds,
        )  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_with_lbfgs_inside(x64, name):
    solution = solve(HS[name], jo.lbfgs())
    assert bool(solution.status.success), solution.status.sentence
    np.testing.assert_allclose(solution.value, HS[name]["fopt"], rtol=1e-6, atol=1e-6)
    assert float(solution.kkt.feasibility) < 1e-6 and float(solution.kkt.complementarity) < 1e-5


@pytest.mark.parametrize("name", ["HS17", "HS76"])
def test_with_bounds_for_the_inner_method(x64, name):
    box = tuple(
        jnp.array([s * np.inf if b is None else float(b) for b in HS[name][k]]) for k, s in (("lb", -1), ("ub", 1))
    )
    solution = solve(HS[name], jo.lbfgsb(), box)
    assert bool(solution.status.success), solution.status.sentence
    np.testing.assert_allclose(solution.value, HS[name]["fopt"], rtol=1e-6)
    assert bool(jnp.all((solution.params >= box[0]) & (solution.params <= box[1])))


def fun(x, a):
    return jnp.sum((x - a) ** 2) + x[0] ** 4


def on_the_circle(x, a):
    return x @ x - 1.0


def test_derivatives_multipliers_and_lanes(x64):
    method = jo.augmented_lagrangian(jo.newton())
    find = lambda a: jo.minimize(fun, jnp.array([0.5, 0.5]), method, args=(a,), equality=on_the_circle, tol=1e-11)  # noqa: E731
    a, d = jnp.array([1.0, 2.0]), jnp.array([0.3, -0.2])
    found = find(a)
    x, y = found.params, found.multipliers.equality
    np.testing.assert_allclose(jax.grad(fun)(x, a) + 2 * y * x, 0, atol=1e-8)
    slope = jax.jvp(lambda a: find(a).params, (a,), (d,))[1]
    np.testing.assert_allclose(slope, (find(a + 1e-5 * d).params - find(a - 1e-5 * d).params) / 2e-5, atol=1e-6)
    lanes = jax.vmap(find)(jnp.stack([a, a * jnp.nan, 2 * a]))
    assert list(lanes.status.success) == [True, False, True]
    np.testing.assert_allclose(lanes.params[0], x, atol=1e-9)


OUTCOMES = {
    "a square below zero": (lambda x: x[0] + x[1] ** 2, lambda x: jnp.stack([x[0] ** 2, -1.0]), False),
    "a circle of no size": (lambda x: jnp.sum((x - 1) ** 2), lambda x: jnp.stack([x @ x, -1.0]), False),
    "another square": (lambda x: x @ x, lambda x: jnp.stack([(x[0] - 3) ** 2, x[1] - 9.0]), False),
    "two half-planes": (lambda x: x @ x, lambda x: jnp.stack([x[0] + 1, 1 - x[0]]), True),
    "a circle of less": (lambda x: jnp.sum((x - 1) ** 2), lambda x: jnp.stack([x @ x + 1, -1.0]), True),
    "the same in other units": (lambda x: jnp.sum((x - 1) ** 2), lambda x: 1e-2 * jnp.stack([x @ x + 1, -1.0]), True),
    "in larger ones": (lambda x: jnp.sum((x - 1) ** 2), lambda x: 1e3 * jnp.stack([x @ x + 1, -1.0]), True),
    "a larger value": (lambda x: 1e3 * jnp.sum((x - 1) ** 2), lambda x: jnp.stack([x @ x + 1, -1.0]), True),
    "a small square": (lambda x: x[0] + x[1] ** 2, lambda x: 1e-1 * jnp.stack([x[0] ** 2, -1.0]), False),
    "two circles": (lambda x: x[0], lambda x: jnp.stack([(x[0] - 3) ** 2 + x[1] ** 2 - 1, x @ x - 1]), True),
}


def test_infeasible_is_what_is_and_nothing_else():
    functions, constraints, infeasible = (list(column) for column in zip(*OUTCOMES.values(), strict=True))
    method = jo.augmented_lagrangian(jo.lbfgs())
    for precise in (True, False):
        with jax.enable_x64(precise):
            solve = jax.vmap(
                lambda k: jo.minimize(
                    lambda x, k: jax.lax.switch(k, functions, x), jnp.array([1.0, 0.5]), method, args=(k,),
                    inequality=lambda x, k: jax.lax.switch(k, constraints, x),
                )
            )  # fmt: skip
            end = solve(jnp.arange(len(OUTCOMES)))
            assert list(end.status.code == int(Code.INFEASIBLE)) == infeasible, precise
            assert not any(bool(s) for s, no in zip(end.status.success, infeasible, strict=True) if no)


def test_what_cannot_be_and_what_is_refused():
    nowhere = jo.minimize(
        lambda x: jnp.sum(x**2),
        jnp.ones(2),
        jo.augmented_lagrangian(jo.lbfgs()),
        equality=lambda x: jnp.sum(x**2) + 1.0,
    )
    assert Code(int(nowhere.status.code)) == Code.INFEASIBLE
    with pytest.raises(jo.errors.TransformationError, match="must be a solver"):
        jo.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), jo.augmented_lagrangian(jo.sgd(0.1)), equality=jnp.sum)
    with pytest.raises(jo.errors.HyperparameterError, match="penalty"):
        jo.augmented_lagrangian(jo.lbfgs(), penalty=-1.0)
