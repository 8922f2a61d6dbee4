"""The skeletons that CONTRIBUTING.md gives to copy from are methods like any other."""

import ast
import importlib.util
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import jaxopt_ko as jo

SKELETONS = pathlib.Path(__file__).parents[1] / "docs" / "skeletons"
KINDS = ("optimizer", "solver", "transformation")


def load(kind):
    spec = importlib.util.spec_from_file_location(kind, SKELETONS / f"{kind}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OPTIMIZER, SOLVER, TRANSFORMATION = (load(kind) for kind in KINDS)
START = {"w": jnp.array([[1.0, -2.0], [3.0, 0.5]]), "b": jnp.array([-1.5])}


def loss(params):
    return 1.5 * jnp.sum(jnp.square(params["w"])) + 0.5 * jnp.sum(jnp.square(params["b"] - 1))


def descend(opt, steps, **extra_args):
    """(params, state) after so many steps, in one scan."""

    def step(carry, _):
        params, state = carry
        updates, state = opt.update(jax.grad(loss)(params), state, params, **extra_args)
        return (jo.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (START, opt.init(START, **extra_args)), None, length=steps)[0]


# name -> (make(hyperparameter), what is told at each step, a value of the hyperparameter, one to be refused, steps)
METHODS = {
    "softsign": (lambda lr: OPTIMIZER.softsign(lr), {}, 0.1, -0.1, 300),
    "armijo_descent": (lambda shrink: SOLVER.armijo_descent(shrink), {"value_fn": loss}, 0.5, 1.0, 60),
    "clip_by_mean_norm": (
        lambda growth: jo.chain(TRANSFORMATION.clip_by_mean_norm(growth), jo.sgd(0.1)), {}, 2.0, -2.0, 200,
    ),
}  # fmt: skip
each_method = pytest.mark.parametrize("name", METHODS)


@each_method
def test_a_jitted_scan_of_its_steps_ends_at_the_minimum(name):
    make, extra_args, hyper, _, steps = METHODS[name]
    params, _ = quick.jit(lambda: descend(make(hyper), steps, **extra_args))()
    assert loss(params) < 1e-6 and loss(START) > 20


@each_method
def test_the_state_threads_through_a_loop_of_jitted_steps(name):
    make, extra_args, hyper, _, _ = METHODS[name]
    opt = make(hyper)
    traces = []

    @quick.jit
    def step(params, state):
        traces.append(1)
        updates, state = opt.update(jax.grad(loss)(params), state, params, **extra_args)
        return jo.apply_updates(params, updates), state

    params, state = START, opt.init(START, **extra_args)
    for _ in range(3):
        params, state = step(params, state)
    assert len(traces) == 1
    scanned = descend(opt, 3, **extra_args)
    for a, b in zip(jax.tree.leaves(scanned), jax.tree.leaves((params, state)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@each_method
def test_a_hyperparameter_may_be_vmapped_and_be_a_schedule(name):
    make, extra_args, hyper, _, _ = METHODS[name]
    hypers = jnp.array([0.5, 1.0, 1.5]) * hyper
    many = quick.jit(jax.vmap(lambda hyper: descend(make(hyper), 9, **extra_args)[0]))(hypers)
    for i, one in enumerate(hypers):
        alone, _ = descend(make(float(one)), 9, **extra_args)
        scheduled, _ = descend(make(lambda count, one=one: one + 0 * count), 9, **extra_args)
        for a, b, c in zip(*map(jax.tree.leaves, (alone, scheduled, many)), strict=True):
            np.testing.assert_allclose(c[i], a, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@each_method
def test_errors_have_the_one_form(name):
    """name: what was wrong. Got … What to do."""
    make, extra_args, hyper, wrong, _ = METHODS[name]
    form = rf"(\w+: )*{name}: .*\. Got .*\. [A-Z].*"
    with pytest.raises(jo.errors.HyperparameterError) as error:
        make(wrong)
    assert re.fullmatch(form, str(error.value)), error.value
    with pytest.raises(jo.errors.HyperparameterError):
        make("large")
    opt, integers = make(hyper), jax.tree.map(jnp.int32, START)
    with pytest.raises(jo.errors.TreeError) as error:
        opt.update(integers, opt.init(START, **extra_args), START, **extra_args)
    assert re.fullmatch(form.replace(name, r"[\w()., ]+"), str(error.value)), error.value


@each_method
def test_half_precision_goes_through(name):
    make, extra_args, hyper, _, _ = METHODS[name]
    params = jax.tree.map(jnp.bfloat16, START)
    opt = make(hyper)
    updates, state = opt.update(jax.grad(loss)(params), opt.init(params, **extra_args), params, **extra_args)
    assert all(u.dtype == jnp.bfloat16 for u in jax.tree.leaves(updates))
    assert jax.tree.structure(state) == jax.tree.structure(opt.init(params, **extra_args))


def test_the_solver_runs_in_minimize_which_reads_its_info():
    solution = jo.minimize(loss, START, SOLVER.armijo_descent(), tol=1e-5)
    assert solution.status.success and solution.status.code == int(jo.Code.GRADIENT_SMALL)
    info = solution.state.info
    assert info.optimality <= 1e-5 and solution.value == info.value < 1e-9
    assert solution.steps == solution.state.count and solution.evaluations.function == solution.steps + 1
    few = jo.minimize(loss, START, SOLVER.armijo_descent(), max_steps=2)
    assert few.status.code == int(jo.Code.BUDGET_SPENT) and not few.status.success
    assert (
        jo.minimize(lambda x: jnp.log(x), jnp.float32(-1.0), SOLVER.armijo_descent()).status.code == jo.Code.NOT_FINITE
    )
    assert jo.minimize(lambda x: -x, jnp.float32(0.0), SOLVER.armijo_descent()).status.code == jo.Code.UNBOUNDED
    assert jo.minimize(lambda x: jnp.abs(x - 1), jnp.float32(3e6), SOLVER.armijo_descent()).value < 3e6
    derivative = jax.grad(
        lambda a: jo.minimize(lambda x, a: (x - a) ** 2, 0.0, SOLVER.armijo_descent(), args=(a,)).params
    )
    np.testing.assert_allclose(derivative(2.0), 1.0, rtol=1e-5)
    with pytest.raises(jo.errors.MissingArgumentError, match=r"^armijo_descent: .*value_fn"):
        SOLVER.armijo_descent().init(START)


def test_the_solver_hands_on_what_the_function_returns_beside_its_value():
    solution = jo.minimize(lambda p: (loss(p), p["b"] + 1), START, SOLVER.armijo_descent(), has_aux=True)
    np.testing.assert_allclose(solution.aux, 2.0, rtol=1e-3)


def test_the_transformation_shortens_what_is_longer_than_the_mean():
    clip = TRANSFORMATION.clip_by_mean_norm(growth=2.0, decay=0.5)
    g = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    state, norms = clip.init(g), []
    for factor in (1.0, 1.0, 10.0, 0.0, 1.0):
        u, state = clip.update(jax.tree.map(lambda x, factor=factor: factor * x, g), state)
        norms.append(float(jo.global_norm(u)))
    np.testing.assert_allclose(norms, [5.0, 5.0, 10.0, 0.0, 5.0], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_skeleton_is_a_page(kind):
    """Its equation, its state and its limits are said, as in the pages of the package."""
    source = (SKELETONS / f"{kind}.py").read_text(encoding="utf-8")
    (state,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    lines = source.splitlines()
    assert all("  # " in lines[field.lineno - 1] for field in state.body if isinstance(field, ast.AnnAssign))
    assert re.search(r"^    \w+ +=.*\n    \w+ +=", source, re.MULTILINE), "two equations, one below the other"
    assert len(lines) < 150
