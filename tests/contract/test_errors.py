"""Bad input: who, what was wrong, what was got, what to do; when made if possible, else when traced."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from cases import CASES, every, params_like, whole

G = {"a": jnp.ones((2, 3)), "b": jnp.ones(3)}


def refuses(*words, error=(ValueError, TypeError)):
    """The message has every word, starts with a name and is three sentences at most."""
    pattern = "".join(f"(?=.*{re.escape(w)})" for w in words)
    return pytest.raises(error, match=f"(?s)^[^\n]*{pattern}")


# ---- when the optimizer is made -------------------------------------------------------------------------

OPTIMIZERS = sorted({case.factory for case in CASES if "learning_rate" in case.hypers and case.make is None}, key=str)


@pytest.mark.parametrize("factory", OPTIMIZERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "bad",
    [None, -0.1, float("nan"), float("inf"), "0.1", [0.1, 0.2], np.ones(3), jnp.ones((1,)), True, 1j, {"a": 0.1}],
    ids=repr,
)
def test_bad_learning_rates(factory, bad):
    with refuses("learning_rate", "Got"):
        factory(bad)


def bad_values(key):
    if key in ("b1", "b2", "decay", "rho", "momentum", "dampening"):
        return [1.0, -0.1, 1.5, float("nan"), "x", jnp.ones(2)]
    if key in (
        "eps",
        "eps_root",
        "weight_decay",
        "initial_scale",
        "initial_accumulator_value",
        "momentum_decay",
        "eta",
    ):
        return [-1e-8, float("nan"), float("inf"), "x", jnp.ones(2)]
    if key in ("max_delta", "max_norm"):
        return [0.0, -1.0, float("nan"), None, "x"]
    return [float("nan"), None, "x", jnp.ones(2)]


@pytest.mark.parametrize(
    ("case", "key"),
    [pytest.param(c, k, id=f"{c.name}-{k}") for c in CASES if c.make is None for k in c.hypers if k != "learning_rate"],
)
def test_bad_hyperparameters(case, key):
    for bad in bad_values(key):
        with refuses(key, "Got"):
            case(**{key: bad})
    case(**{key: lambda count: jnp.float32(0.5)})  # a schedule is fine, and so is what is traced:
    jax.eval_shape(lambda v: case(**{key: v}).init(G), jnp.float32(0.0))


@pytest.mark.parametrize("returned", [None, np.ones(2), "x", [1.0, 2.0], 1j, True], ids=repr)
def test_schedules_that_do_not_return_one_number(returned):
    with refuses("schedule for learning_rate", "must return one number"):
        jo.adam(lambda count: returned)
    with refuses("schedule for b1"):
        jo.adam(0.1, b1=lambda count: returned)


def test_a_schedule_that_cannot_be_traced_shows_itself_when_called():
    opt = jo.sgd(lambda count: 0.1 if int(count) < 3 else None)  # needs concrete steps: eager only
    state = opt.init(G)
    for _ in range(3):
        _, state = opt.update(G, state, G)
    with refuses("scale_by_learning_rate", "schedule for learning_rate", "None"):
        opt.update(G, state, G)


def test_forgotten_calls_and_strangers():
    with refuses("chain", "adam", "Call it first: adam(...)"):
        jo.chain(jo.clip(1.0), jo.adam)
    with refuses("chain", "argument 1", "3"):
        jo.chain(jo.adam(0.1), 3)
    with refuses("named_chain", "pair"):
        jo.named_chain(jo.adam(0.1))
    with refuses("named_chain", "twice"):
        jo.named_chain(("a", jo.adam(0.1)), ("a", jo.adam(0.1)))
    with refuses("masked", "inner", "adam"):
        jo.masked(jo.adam, True)
    with refuses("partition", "transforms['x']", "sgd"):
        jo.partition({"x": jo.sgd}, "x")
    with refuses("inject_hyperparams(adam)", "nope"):
        jo.inject_hyperparams(jo.adam, static_args="nope")
    with refuses("learning_rate"):
        jo.inject_hyperparams(jo.adam)(None)
    with refuses("amsgrad", "maximum", "'biggest'"):
        jo.amsgrad(0.1, maximum="biggest")
    with refuses("add_noise", "key"):
        jo.add_noise(0.1, 0.5, None)


def test_an_empty_chain_is_the_identity():
    opt = jo.chain()
    updates, state = opt.update(G, opt.init(G), G)
    assert updates is G and state == ()


# ---- when it is traced ----------------------------------------------------------------------------------


def cases_with_memory(case):
    """Those whose state alone shows which parameters it was made for."""
    return any(jnp.ndim(x) for x in jax.tree.leaves(whole(case).init(G))) and case.name != "add_noise"


@every("errors")
def test_gradient_trees_that_do_not_fit(case):
    opt = whole(case)
    state = opt.init(G)
    step = jax.jit(lambda g, s: opt.update(g, s, G))
    for bad, where in [
        ({"a": G["a"]}, "['b']"),
        ({**G, "c": jnp.ones(3)}, "['c']"),
        ({"a": G["a"], "B": G["b"]}, "['b']"),
    ]:
        if case.name not in ("identity",):
            with refuses(where):
                step(bad, state)
    for shape in [(3,), (1, 3), (2, 1), (), (2, 3, 1), (4, 4)]:
        if case.name not in ("identity",):
            with refuses("['a']", "(2, 3)"):
                step({"a": jnp.ones(shape), "b": G["b"]}, state)
    if case.name not in ("identity",):
        with refuses("['b']"):
            step({"a": G["a"], "b": jnp.ones(3, jnp.int32)}, state)
        with refuses("structure"):
            step([G["a"], G["b"]], state)


@every("errors", cases_with_memory)
def test_the_state_alone_shows_a_gradient_that_does_not_fit(case):
    opt = whole(case)
    state = opt.init(G)
    for bad in [{"a": G["a"]}, {"a": jnp.ones((1, 3)), "b": G["b"]}, {"a": jnp.ones(()), "b": G["b"]}]:
        with refuses("['"):
            opt.update(bad, state, bad)


@every("errors", lambda case: case.factory not in (jo.identity, jo.transform))
def test_states_of_others_and_swapped_arguments(case):
    opt = whole(case)
    state = opt.init(G)
    other = jo.chain(*[jo.sgd(0.1, 0.9)] * 5).init(G)
    with refuses("state", "Got"):
        opt.update(G, other, G)
    with refuses("state", "Got"):
        opt.update(state, G, G)  # swapped
    with refuses("state", "Got"):
        opt.update(G, None, G)


@pytest.mark.parametrize("name", ["adamw", "nadamw", "adamaxw", "adadelta"])
def test_missing_params(name):
    opt = getattr(jo, name)(0.1)
    with refuses("add_decayed_weights", "params is missing", "update(updates, state, params)"):
        opt.update(G, opt.init(G))


@every("errors", lambda case: case.factory not in (jo.identity, jo.masked, jo.partition, jo.scale_by_group))
def test_leaves_that_cannot_be_optimized(case):
    opt = whole(case)
    for bad in (jnp.ones(3, jnp.int32), jnp.tanh, jnp.ones(2, jnp.complex64), "text", jax.random.key(0), 3):
        if "mask" in case.options:
            continue
        with refuses("['x']"):
            opt.init({"w": jnp.ones(2), "x": bad})
    with refuses("masked"):
        opt.init({"w": jnp.ones((2, 2)), "x": jnp.ones((3, 3), jnp.int32)})


def test_an_integer_leaf_is_masked_as_the_message_says():
    params = {"w": jnp.ones(2), "n": jnp.arange(3), "f": jnp.tanh}
    floating = lambda tree: jax.tree.map(lambda x: x is None or (hasattr(x, "dtype") and x.dtype == jnp.float32), tree)  # noqa: E731
    opt = jo.masked(jo.adam(0.1), floating)
    state = opt.init(params)
    grads = {"w": jnp.ones(2), "n": None, "f": None}
    updates, _ = opt.update(grads, state, params)
    after = jo.apply_updates(params, updates)
    assert after["n"] is params["n"] and after["f"] is jnp.tanh and float(after["w"][0]) < 1


def test_masks_and_labels_that_do_not_fit():
    with refuses("masked(adam)", "['b']", "True or False", "1.5"):
        jo.masked(jo.adam(0.1), {"a": True, "b": 1.5}).init(G)
    with refuses("masked", "labels", "params"):
        jo.masked(jo.adam(0.1), {"a": True, "c": True}).init(G)
    with refuses("partition", "['b']", "'y'", "'x'"):
        jo.partition({"x": jo.adam(0.1)}, {"a": "x", "b": "y"}).init(G)
    opt = jo.partition({"x": jo.adam(0.1)}, "x")
    with refuses("partition", "PartitionState"):
        opt.update(G, opt.init(G).inner_states, G)


def test_apply_updates_does_not_broadcast():
    with refuses("apply_updates", "['a']", "(2, 3)"):
        jo.apply_updates(G, {"a": jnp.ones(3), "b": G["b"]})
    with refuses("apply_updates", "['b']"):
        jo.apply_updates(G, {"a": G["a"]})


def test_rules_of_a_users_own_are_held_to_the_contract():
    zeros = jax.tree.map(jnp.zeros_like, G)
    drift = jo.transform(
        "drift", lambda p: zeros, lambda g, s, p=None: (g, jax.tree.map(lambda x: x.astype("float16"), s))
    )
    with refuses("drift", "['a']", "float32[2,3]", "float16"):
        drift.update(G, drift.init(G), G)
    grow = jo.transform("grow", lambda p: (), lambda g, s, p=None: (g, (*s, 1)))
    with refuses("grow", "new state"):
        grow.update(G, (), G)
    shrink = jo.transform("shrink", lambda p: (), lambda g, s, p=None: (jax.tree.map(jnp.sum, g), s))
    with refuses("shrink", "updates", "['a']", "(2, 3)"):
        shrink.update(G, (), G)
    leaf = jo.leafwise("leaf", jo.ScaleByScheduleState, rule=lambda g, p, h: g * h.nothing)
    with pytest.raises(AttributeError, match="nothing"):
        leaf.update(G, leaf.init(G), G)
    outer = jo.leafwise("outer", jo.ScaleByScheduleState, rule=lambda g, p, h: g[None])
    with pytest.raises(AssertionError, match="outer"):
        outer.update(G, outer.init(G), G)


def test_traced_values_pass_unchecked():
    jax.eval_shape(lambda lr: jo.adam(lr, b1=lr).init(params_like()), jnp.float32(-1.0))
