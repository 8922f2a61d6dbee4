"""The learning rate and the step number, read from any state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick

import jaxopt_ko as jo
from cases import CASES, params_like

PARAMS = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
LABELS = {"w": "hidden", "b": "rest"}


def rate(step):
    return jnp.float32(0.5) / (1 + step.astype(jnp.float32))


def after(opt, steps):
    """The state after so many steps."""
    state = opt.init(PARAMS)
    step = quick.jit(lambda state: opt.update(PARAMS, state, PARAMS, value=jnp.float32(1))[1])
    for _ in range(steps):
        state = step(state)
    return state


WRAPPED = {
    "chain": lambda opt: jo.chain(jo.clip_by_global_norm(1.0), opt, jo.ema(0.9)),
    "named_chain": lambda opt: jo.named_chain(("clip", jo.clip(1.0)), ("opt", opt)),
    "masked": lambda opt: jo.masked(opt, {"w": True, "b": False}),
    "partition": lambda opt: jo.partition({"hidden": opt, "rest": jo.set_to_zero()}, LABELS),
    "apply_if_finite": lambda opt: jo.apply_if_finite(opt, 3),
    "maximize": jo.maximize,
    "flatten": jo.flatten,
    "cautious": jo.cautious,
    "route": lambda opt: jo.route(jo.Group("all", opt)),
    "plateau": lambda opt: jo.chain(opt, jo.reduce_on_plateau()),
    "split": jo.split_real_and_imaginary,
    "to_optax": jo.to_optax,
    "conditionally": lambda opt: jo.conditionally_transform(opt, lambda step: step < 9),
    "in optax": lambda opt: optax.chain(optax.clip_by_global_norm(1.0), opt),
}


@pytest.mark.parametrize("wrap", [pytest.param(wrap, id=name) for name, wrap in WRAPPED.items()])
def test_constants_and_schedules_through_wrappers(wrap):
    tx = wrap(jo.sgd(rate))
    for steps, expected in ((0, 0.5), (1, 0.5), (3, 0.5 / 3)):  # of the last step; before the first, of the first
        state = after(tx, steps)
        np.testing.assert_allclose(jo.learning_rate(state, tx), expected, rtol=1e-6)
        assert list(jo.learning_rates(state, tx).values()) == [jo.learning_rate(state, tx)]
        assert int(jo.step_count(state)) == steps
    constant = wrap(jo.sgd(0.125))
    np.testing.assert_array_equal(jo.learning_rate(constant.init(PARAMS), constant), 0.125)


def test_of_every_method():
    """As it was given; rprop's is of its first step alone, and sam has two."""
    several = {"sam", "sam-opaque"}
    asked = [case for case in CASES if "learning_rate" in case.hypers and "rprop" not in case.name and not case.words]
    assert len(asked) > 60
    for case in asked:
        tx, expected = case(), case.hypers["learning_rate"]
        state = tx.init(params_like())
        if case.name in several:
            assert len(jo.learning_rates(state, tx)) == 2
            with pytest.raises(jo.errors.StateError, match=r"several learning rates.*opt_state.*learning_rates"):
                jo.learning_rate(state, tx)
        else:
            np.testing.assert_allclose(jo.learning_rate(state, tx), expected, rtol=1e-6, err_msg=case.name)


def test_what_the_state_holds_itself():
    inject = optax.inject_hyperparams
    for tx in (jo.inject_hyperparams(jo.adam)(rate), inject(jo.adam)(rate), inject(optax.adam)(rate)):
        for steps, expected in ((0, 0.5), (1, 0.5), (3, 0.5 / 3)):
            with jax.numpy_dtype_promotion("standard"):
                state = after(tx, steps)
            np.testing.assert_allclose(jo.learning_rate(state), expected, rtol=1e-6)
            assert int(jo.step_count(state)) == steps
    tx = jo.chain(jo.clip(1.0), jo.inject_hyperparams(jo.adamw)(0.1, weight_decay=0.2))
    state = after(tx, 2)
    state[1].hyperparams["learning_rate"] = jnp.float32(0.75)  # as set from outside
    assert jo.learning_rate(state) == jo.learning_rate(state, tx) == 0.75
    assert set(jo.learning_rates(state)) == {"1"}
    search = jo.chain(jo.sgd(1.0), jo.scale_by_backtracking_linesearch(5))
    assert jo.learning_rate(search.init(PARAMS)) == 1.0  # the step length, before the first search


def test_one_rate_at_several_places_is_one():
    tx = jo.partition({"hidden": jo.muon(rate), "rest": jo.adamw(rate)}, LABELS)
    assert len(jo.learning_rates(after(tx, 2), tx)) > 2
    np.testing.assert_allclose(jo.learning_rate(after(tx, 2), tx), 0.25)
    ahead = jo.partition({"hidden": jo.MultiSteps(jo.adam(rate), 2), "rest": jo.sgd(rate)}, LABELS)
    np.testing.assert_allclose(jo.learning_rate(after(ahead, 4), ahead), 0.125)
    assert sorted(map(float, jo.learning_rates(after(ahead, 4), ahead).values())) == [0.125, 0.25]


def test_several_rates_are_listed_with_their_places():
    tx = jo.partition({"hidden": jo.sgd(0.02), "rest": jo.adamw(3e-4)}, LABELS)
    state = tx.init(PARAMS)
    with pytest.raises(jo.errors.StateError, match=r"0\.02 at inner_states/hidden.*0\.0003 at inner_states/rest"):
        jo.learning_rate(state, tx)
    rates = jo.learning_rates(state, tx)
    assert list(rates) == ["inner_states/hidden/inner_state/1", "inner_states/rest/inner_state/2"]
    np.testing.assert_allclose(list(rates.values()), [0.02, 3e-4], rtol=1e-6)


def test_steps_of_several_counters():
    multi = jo.MultiSteps(jo.adam(rate), 2)
    state = after(multi, 5)
    assert int(jo.step_count(state)) == 2  # of its optimizer
    np.testing.assert_allclose(jo.learning_rate(state, multi), 0.25)
    assert int(jo.step_count(after(jo.adan(0.1), 3))) == 3  # optax's name there is t
    assert int(jo.step_count(after(jo.chain(jo.sgd(rate), jo.reduce_on_plateau()), 3))) == 3
    clipped = after(jo.chain(jo.clip_by_global_norm(1.0), jo.adam(0.1)), 3)
    assert int(jo.tree.get(clipped, "count")) == int(jo.step_count(clipped)) == 3


def test_within_jit_vmap_and_scan():
    def run(peak):
        tx = jo.chain(jo.clip(1.0), jo.adamw(jo.exponential_decay(peak, 1, 0.5)))

        def step(state, _):
            _, state = tx.update(PARAMS, state, PARAMS)
            return state, (jo.learning_rate(state, tx), jo.step_count(state))

        return jax.lax.scan(step, tx.init(PARAMS), None, 3)[1]

    rates, steps = quick.jit(jax.vmap(run))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(rates, [[1.0, 0.5, 0.25], [2.0, 1.0, 0.5]])
    np.testing.assert_array_equal(steps, [[1, 2, 3], [1, 2, 3]])


def test_what_cannot_be_read_says_why():
    tx = jo.adam(0.1)
    for state in (tx.init(PARAMS), after(jo.adam(rate), 1)):
        with pytest.raises(jo.errors.StateError, match=r"learning_rate\(state, optimizer\).*inject_hyperparams"):
            jo.learning_rate(state)
    with pytest.raises(jo.errors.StateError, match=r"no hyperparameter called learning_rate.*scale_by_learning"):
        jo.learning_rate(jo.scale(-0.1).init(PARAMS), jo.scale(-0.1))
    with pytest.raises(jo.errors.StateError, match="nothing in this state counts steps"):
        jo.step_count(jo.sgd(0.1, 0.9).init(PARAMS))
    with pytest.raises(jo.errors.StateError, match="state"):
        jo.learning_rate(jo.sgd(0.1).init(PARAMS), jo.adam(rate))
    with pytest.raises(jo.errors.TransformationError, match="tx is the function adam"):
        jo.learning_rate(tx.init(PARAMS), jo.adam)
