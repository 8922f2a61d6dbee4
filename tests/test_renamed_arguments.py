"""Keywords that have a new word are taken by the old one still, with a warning, and make the same steps."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko.core.signature import renamed

G = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), jnp.float32), "b": jnp.ones(6)}
MATRIX = {"w": G["w"]}
RENAMED = [  # factory, old word, new word, a value, other arguments
    (jo.adamuon, "weight_decay_mask", "mask", {"w": True, "b": False}, {"learning_rate": 0.1, "weight_decay": 0.1}),
    (jo.normuon, "weight_decay_mask", "mask", {"w": True, "b": False}, {"learning_rate": 0.1, "weight_decay": 0.1}),
    (jo.dion, "mu", "b1", 0.5, {"learning_rate": 0.1}),
    (jo.dion, "seed", "key", 3, {"learning_rate": 0.1}),
    (jo.scale_by_dion, "mu", "b1", 0.5, {}),
    (jo.scale_by_dion, "seed", "key", 3, {}),
    (jo.scion, "momentum", "b1", 0.5, {"learning_rate": 0.1}),
    (jo.splus, "inverse_every", "precondition_frequency", 2, {"learning_rate": 0.1}),
    (jo.splus, "max_dim", "max_precondition_dim", 4, {"learning_rate": 0.1}),
    (jo.scale_by_splus, "inverse_every", "precondition_frequency", 2, {}),
    (jo.scale_by_splus, "max_dim", "max_precondition_dim", 4, {}),
    (jo.apollo, "seed", "key", 3, {"learning_rate": 0.1, "rank": 2}),
    (jo.scale_by_apollo, "seed", "key", 3, {"rank": 2}),
]
IDS = [f"{factory.__name__}-{old}" for factory, old, *_ in RENAMED]


def after_three(opt, params):
    state = opt.init(params)
    for _ in range(3):
        updates, state = jax.jit(opt.update)(params, state, params)
        params = jo.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(("factory", "old", "new", "value", "rest"), RENAMED, ids=IDS)
def test_the_old_word_warns_once_and_makes_the_same_steps(factory, old, new, value, rest):
    params = MATRIX if factory.__name__.startswith("scale_by") else G
    with pytest.warns(DeprecationWarning) as seen:
        by_old = factory(**rest, **{old: value})
    (said,) = (str(w.message) for w in seen)
    assert said.startswith(
        f"{factory.__name__}({old}=…) is deprecated since 0.2.0: use `{new}` instead. It goes in 0.3.0"
    )
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_new = factory(**rest, **{new: value})
    jax.tree.map(np.testing.assert_array_equal, after_three(by_old, params), after_three(by_new, params))


@pytest.mark.parametrize(("factory", "old", "new", "value", "rest"), RENAMED, ids=IDS)
def test_both_words_are_refused_and_the_signature_has_the_new_one(factory, old, new, value, rest):
    message = rf"{factory.__name__}: one of {new} and {old} must be given\. Got both\. Leave out {old}\."
    with pytest.raises(jo.errors.HyperparameterError, match=message):
        factory(**rest, **{old: value, new: value})
    parameters = inspect.signature(factory).parameters
    assert new in parameters and old not in parameters


def test_a_positional_argument_counts_as_the_new_word():
    with pytest.raises(jo.errors.HyperparameterError, match=r"scion: one of b1 and momentum"):
        jo.scion(0.1, 0.9, momentum=0.9)


def test_every_renamed_word_is_in_the_table():
    factories = {name: getattr(jo, name) for name in jo.__all__}
    found = {(name, *words) for name, f in factories.items() for words in getattr(f, "renamed", {}).items()}
    assert found == {(factory.__name__, old, new) for factory, old, new, *_ in RENAMED}


def test_inject_hyperparams_takes_the_old_word_too():
    with pytest.warns(DeprecationWarning, match="scion"):
        opt = jo.inject_hyperparams(jo.scion)(0.1, momentum=0.5)
    assert opt.init(G).hyperparams["b1"] == 0.5


def test_a_key_is_taken_as_its_seed():
    for factory, rest in ((jo.dion, {}), (jo.apollo, {"rank": 2})):
        ends = [after_three(factory(0.1, key=key, **rest), G) for key in (3, jax.random.key(3), jax.random.PRNGKey(3))]
        for end in ends[1:]:
            jax.tree.map(np.testing.assert_array_equal, ends[0], end)


def test_the_decorator_keeps_what_a_function_is():
    @renamed("0.7.0", old="new")
    def f(new=1, *, other=2):
        """What it does."""
        return new, other

    assert (f.__name__, f.__doc__, str(inspect.signature(f))) == ("f", "What it does.", "(new=1, *, other=2)")
    assert f() == (1, 2)
    assert f(3, other=4) == (3, 4)
    with pytest.warns(DeprecationWarning, match=r"f\(old=…\) is deprecated since 0.7.0: use `new` instead\."):
        assert f(old=5) == (5, 2)
