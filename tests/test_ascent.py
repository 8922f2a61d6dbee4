"""maximize: the sign of what an optimizer reads, and of nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import jaxopt_ko as jo
from cases import assert_same_bits, params_like

TOP = {"w": jnp.array([0.5, -1.0]), "b": jnp.array(2.0)}


def hill(p):
    """A concave function with its maximum, 3, at TOP."""
    return 3.0 - jnp.sum((p["w"] - TOP["w"]) ** 2) - 0.5 * (p["b"] - TOP["b"]) ** 2


def valley(p):
    return -hill(p)


def words(function, p):
    value, grad = jax.value_and_grad(function)(p)
    return {"value": value, "grad": grad, "value_fn": function, "obj_fn": function}


METHODS = {
    "adamw": lambda: jo.adamw(0.1, weight_decay=0.1),
    "a chain with coupled decay": lambda: jo.chain(jo.add_decayed_weights(0.1), jo.sgd(0.1, 0.9)),
    "rmsprop": lambda: jo.rmsprop(0.05),
    "muon": lambda: jo.muon(0.05),
    "plateau": lambda: jo.chain(jo.sgd(0.2), jo.reduce_on_plateau(patience=1)),
    "polyak_sgd": lambda: jo.polyak_sgd(f_min=-3.0),
    "momo": lambda: jo.momo(0.1, lower_bound=-3.0),
    "sophia": lambda: jo.sophia(0.05),
    "lbfgs": lambda: jo.lbfgs(),
    "backtracking": lambda: jo.chain(jo.sgd(1.0), jo.scale_by_backtracking_linesearch(10, store_grad=True)),
    "nonnegative": lambda: jo.chain(jo.sgd(0.1), jo.keep_params_nonnegative()),
    "inject": lambda: jo.inject_hyperparams(jo.adam)(0.1),
    "MultiSteps": lambda: jo.MultiSteps(jo.adam(0.1), 2),
    "schedule": lambda: jo.lamb(jo.exponential_decay(0.1, 5, 0.5)),
}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in METHODS.items()])
def test_going_up_is_going_down_the_negated_function(make):
    """With the state's layout, whatever the method reads; so decay and bounds are as on the way down."""
    up, down = jo.maximize(make()), make()
    start = jax.tree.map(lambda t: jnp.full_like(t, 0.25), TOP)

    def walk(opt, function):
        def step(carry, _):
            p, state = carry
            more = words(function, p)
            steps, state = opt.update(more["grad"], state, p, **more)
            return (jo.apply_updates(p, steps), state), None

        return quick.jit(lambda: jax.lax.scan(step, (start, opt.init(start)), None, 6)[0])()

    (climbed, state), (fell, other) = walk(up, hill), walk(down, valley)
    assert jax.tree.structure(state) == jax.tree.structure(other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), climbed, fell)
    assert hill(climbed) > hill(start)


def test_a_line_search_keeps_the_function_itself():
    """value_and_grad_from_state reads it there, and gives it to update, where its sign is changed once."""
    opt = jo.maximize(jo.lbfgs())
    p, value_and_grad = {"w": jnp.zeros(2), "b": jnp.zeros(())}, jo.value_and_grad_from_state(hill)

    @quick.jit
    def step(p, state):
        value, grad = value_and_grad(p, state=state)
        steps, state = opt.update(grad, state, p, value=value, grad=grad, value_fn=hill)
        return jo.apply_updates(p, steps), state, value

    state = opt.init(p)
    for _ in range(6):
        before = hill(p)
        p, state, value = step(p, state)
        np.testing.assert_allclose(value, before, rtol=1e-5)
    np.testing.assert_allclose(hill(p), 3.0, rtol=1e-5)


def test_only_what_is_differentiated_changes_its_sign():
    seen = {}

    def update(g, state, params=None, **extra):
        seen.update(extra, g=g)
        return g, state

    opt = jo.maximize(jo.GradientTransformation(lambda p: (), update))
    g = {"x": jnp.ones(2), "n": jnp.int32(3), "none": None, "half": jnp.float16(1), "c": jnp.complex64(1 + 2j)}
    aux = lambda p: (hill(p), "aux")  # noqa: E731
    opt.update(g, (), g, value=2, value_fn=aux, grad_fn=lambda p, i: {"x": p}, batch=jnp.ones(1), grad=None)
    np.testing.assert_array_equal(seen["g"]["x"], -1)
    assert seen["g"]["n"] == 3 and seen["g"]["none"] is None and seen["g"]["half"].dtype == jnp.float16
    assert seen["g"]["c"] == -1 - 2j and seen["value"] == -2 and seen["grad"] is None
    assert seen["batch"] == 1 and seen["grad_fn"](1.0, 0) == {"x": -1.0}
    value, word = seen["value_fn"](TOP)
    assert value == -3 and word == "aux"


def test_one_of_two_groups_climbs():
    labels = {"w": "up", "b": "down"}
    opt = jo.partition({"up": jo.maximize(jo.sgd(0.1)), "down": jo.sgd(0.1)}, labels)
    ones = jax.tree.map(jnp.ones_like, TOP)
    steps, _ = opt.update(ones, opt.init(TOP), TOP)
    np.testing.assert_allclose(steps["w"], 0.1)
    np.testing.assert_allclose(steps["b"], -0.1)


def test_twice_maximized_is_minimized():
    g = params_like()
    opt, twice = jo.adam(0.1), jo.maximize(jo.maximize(jo.adam(0.1)))
    assert_same_bits(twice.update(g, twice.init(g), g), opt.update(g, opt.init(g), g))
    assert jo.maximize(opt).update.__name__ == "maximize(adam)"


def test_what_cannot_go_up_says_so():
    for make in (
        jo.adam,
        jo.rmsprop,
        jo.sgd,
        jo.muon,
        lambda lr: jo.inject_hyperparams(jo.adam)(lr),
        jo.scale_by_learning_rate,
    ):
        with pytest.raises(jo.errors.HyperparameterError, match=r"uphill.*maximize\(optimizer\).*scale\(-1\)"):
            make(-0.1)
    with pytest.raises(jo.errors.HyperparameterError) as caught:
        jo.adam(float("nan"))
    assert "uphill" not in str(caught.value)
    with pytest.raises(jo.errors.TransformationError, match=r"minimize: .* go down.*negative"):
        jo.minimize(hill, TOP, jo.maximize(jo.adam(0.1)))
    with pytest.raises(jo.errors.TransformationError, match="sum of squares of a residual_fn is minimized"):
        jo.maximize(jo.levenberg_marquardt()).init(TOP, residual_fn=lambda p: p["w"])
    with pytest.raises(jo.errors.TransformationError, match="maximize: tx is the function adam"):
        jo.maximize(jo.adam)
