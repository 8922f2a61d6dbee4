"""Budgets of jaxprs: how many equations, of what kind and shape, an update is traced to."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from counting import equations, shapes
from test_newton import rosenbrock

import jaxopt_ko as jo

# of one update of four leaves, traced by jax 0.10; by another release no more than a tenth more
EQUATIONS = {
    "sgd": 16, "adam": 110, "adamw": 118, "lion": 46, "adafactor": 475, "lamb": 498, "clip": 231, "multi_steps": 186,
    "muon": 346, "soap": 455, "shampoo": 617, "prodigy": 155,
}  # fmt: skip
METHODS = {
    "sgd": lambda: jo.sgd(0.1, 0.9),
    "adam": lambda: jo.adam(0.1),
    "adamw": lambda: jo.adamw(0.1),
    "lion": lambda: jo.lion(0.1),
    "adafactor": lambda: jo.adafactor(0.1, min_dim_size_to_factor=2),
    "lamb": lambda: jo.lamb(0.1),
    "clip": lambda: jo.chain(jo.clip_by_global_norm(1.0), jo.adamw(0.1)),
    "multi_steps": lambda: jo.MultiSteps(jo.adam(0.1), 4).gradient_transformation(),
    "muon": lambda: jo.muon(0.1),
    "soap": lambda: jo.soap(0.1),
    "shampoo": lambda: jo.shampoo(0.1),
    "prodigy": lambda: jo.prodigy(),
}


@pytest.mark.parametrize("name", METHODS)
def test_equations_of_one_update(name):
    params = {"a": jnp.ones((4, 3)), "b": jnp.ones((3, 5)), "c": jnp.ones(5), "d": jnp.ones(())}
    opt = METHODS[name]()
    count = equations(jax.make_jaxpr(opt.update)(params, opt.init(params), params).jaxpr)
    if jax.__version__.startswith("0.10."):
        assert count == EQUATIONS[name]
    assert count <= 1.1 * EQUATIONS[name]


def test_the_cost_of_a_partition_is_that_of_its_leaves():
    """200 leaves: 3 equations a group beside one for each leaf; inner programs are shared."""
    params = {f"p{i:03d}": jnp.ones(3) for i in range(200)}
    counts = []
    for groups in (1, 10, 100):
        labels = {name: f"g{i % groups:03d}" for i, name in enumerate(params)}
        opt = jo.partition({f"g{i:03d}": jo.adam(1e-3) for i in range(groups)}, labels)
        traced = jax.make_jaxpr(opt.update)(params, opt.init(params), params)
        counts.append(len(traced.jaxpr.eqns))
    assert counts[0] <= 210 and counts[1] - counts[0] <= 40 and counts[2] - counts[0] <= 400, counts


def test_no_stack_costs_nothing():
    params = {"w": jnp.ones((4, 3)), "b": jnp.ones(4)}
    counts = set()
    for axes in (0, {"w": 0, "b": 0}):
        opt = jo.lamb(0.1, stack_axes=axes)
        counts.add(equations(jax.make_jaxpr(opt.update)(params, opt.init(params), params).jaxpr))
    plain = jo.leafwise("plain", jo.ScaleByScheduleState, rule=lambda g, p, h: g - jnp.mean(g))
    assert len(counts) == 1
    # min and add for the count; the call for the leaf; sum, div and sub of the rule
    assert equations(jax.make_jaxpr(plain.update)(params["b"], plain.init(params["b"])).jaxpr) == 6


def test_a_fifth_of_optaxs_equations_on_fifty_leaves():
    params = {f"leaf{i}": jnp.ones((3, 2)) for i in range(50)}
    fun = lambda p: sum(jnp.sum((x - 2.0) ** 4) for x in p.values())  # noqa: E731
    value, grad = jax.value_and_grad(fun)(params)
    count = {}
    for lib in (jo, optax):
        opt = lib.lbfgs()
        update = lambda g, s, p, v, opt=opt: opt.update(g, s, p, value=v, grad=g, value_fn=fun)  # noqa: E731
        count[lib] = equations(jax.make_jaxpr(update)(grad, opt.init(params), params, value).jaxpr)
    assert count[jo] <= count[optax] / 5


@pytest.mark.parametrize("method", [jo.scale_by_soap, jo.scale_by_shampoo])
def test_factorizations_stand_in_branches_and_stacks_take_turns(method):
    params = {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 3)), "c": jnp.ones((2, 3))}
    opt = method(precondition_frequency=4)
    text = str(jax.make_jaxpr(opt.update)(params, opt.init(params)))
    outside = text.split("cond[", maxsplit=1)[0]
    assert "eigh" in text and "eigh" not in outside
    assert text.count("cond[") >= 2  # one for each shape, whatever the number of leaves


def test_newton_cg_never_holds_a_hessian():
    n, method = 500, jo.newton_cg()
    state = jax.eval_shape(lambda x: method.init(x, value_fn=rosenbrock), jnp.ones(n))
    update = jax.make_jaxpr(lambda x, s: method.update(jnp.zeros(n), s, x, value_fn=rosenbrock))(jnp.ones(n), state)
    assert max(np.prod(shape) for shape in shapes(update.jaxpr)) <= n
