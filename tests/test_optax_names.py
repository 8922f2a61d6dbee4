"""Modules, names and signatures are optax's: what is imported there is here, and called with the same words."""

import importlib
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import jaxopt_ko as jo

MODULES = (
    "contrib", "losses", "microbatching", "projections", "schedules", "second_order", "transforms", "tree",
    "tree_utils",
)  # fmt: skip


def names(module):
    return [name for name in sorted(dir(module)) if not name.startswith("_")]


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_modules_with_optaxs_names(module):
    ours, theirs = (importlib.import_module(f"{library}.{module}") for library in ("jaxopt_ko", "optax"))
    assert ours is getattr(jo, module) and inspect.ismodule(ours)
    public = {name for name in names(theirs) if not inspect.ismodule(getattr(theirs, name))}
    assert {name for name in public if not hasattr(ours, name)} == set()


def test_the_version_is_one():
    assert jo.__version__.count(".") == 2


# ---- signatures -----------------------------------------------------------------------------------------

# what differs, and why: (name, argument) -> reason
EXCEPTIONS = {
    ("ScaleByLBFGSState", "skipped"): "the memory is one buffer, laid out otherwise; see tests/test_layouts.py",
    (
        "adadelta",
        "learning_rate",
    ): "optax's None adds the step; here it is 1, the paper's, and subtracts it",
    ("scale_by_learning_rate", "learning_rate"): "optax's None leaves out the minus: a step up the gradient",
}
# a default that is an object: a function or a transformation, which does the same in both
SAME = {"linesearch", "decay_rate_fn", "clip_value_fn", "hessian_diagonal_fn", "transform_fn", "metrics_fn"}
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def shared():
    """(name, optax's, ours), each object once."""
    seen = set()
    for module in ("", *MODULES):
        ours, theirs = (
            importlib.import_module(f"{library}.{module}".rstrip(".")) for library in ("jaxopt_ko", "optax")
        )
        for name in names(theirs):
            thing = getattr(theirs, name)
            known = inspect.isfunction(thing) or type(thing) is type
            if known and id(thing) not in seen and hasattr(ours, name):
                seen.add(id(thing))
                yield name, thing, getattr(ours, name)


def differences(name, theirs, ours):
    """What a call written for optax would notice: words, places, kinds, defaults."""
    want, have = inspect.signature(theirs).parameters, inspect.signature(ours).parameters
    for key, parameter in want.items():
        mine = have.get(key)
        if mine is None:
            yield key, "missing"
        elif mine.kind != parameter.kind:
            yield key, f"{mine.kind.name} instead of {parameter.kind.name}"
        elif (
            mine.default is not parameter.default and key not in SAME and repr(mine.default) != repr(parameter.default)
        ):
            yield key, f"{mine.default!r} instead of {parameter.default!r}"
    places = [[key for key, p in each.items() if p.kind in POSITIONAL] for each in (want, have)]
    if places[1][: len(places[0])] != places[0]:
        yield "order", f"{places[1]} instead of {places[0]}"
    for key in have.keys() - want.keys():
        if have[key].kind in POSITIONAL and have[key].default is inspect.Parameter.empty:
            yield key, "needed"


def test_signatures_are_optaxs():
    compared, found = 0, {}
    for name, theirs, ours in shared():
        compared += 1
        found |= {(name, key): what for key, what in differences(name, theirs, ours)}
    assert compared > 300
    assert {key: what for key, what in found.items() if key not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) <= set(found)


# ---- what optax has deprecated --------------------------------------------------------------------------

Q = jnp.asarray([[2.0, 1.0], [1.0, 5.0]])
PARAMS = {"a": jnp.ones(1), "b": jnp.ones((1, 1))}


def loss(params, inputs, targets):
    x = jnp.concatenate([params["a"], params["b"][0]]) - targets
    return 0.5 * x @ inputs @ x


OLD = {
    "optimistic_adam": lambda lib: lib.optimistic_adam(0.1, 0.2).update(
        PARAMS, lib.chain(lib.scale_by_adam(), lib.scale_by_optimistic_gradient(), lib.scale(1.0)).init(PARAMS)
    )[0],
    "convex_kl_divergence": lambda lib: lib.convex_kl_divergence(jnp.log(Q), Q),
    "losses.convex_kl_divergence": lambda lib: lib.losses.convex_kl_divergence(jnp.log(Q), Q, axis=0),
    "hvp": lambda lib: lib.second_order.hvp(loss, jnp.ones(2), PARAMS, Q, jnp.zeros(2)),
    "hessian_diag": lambda lib: lib.second_order.hessian_diag(loss, PARAMS, Q, jnp.zeros(2)),
    "fisher_diag": lambda lib: lib.second_order.fisher_diag(loss, PARAMS, Q, jnp.zeros(2)),
    "inject_stateful_hyperparams": lambda lib: lib.schedules.inject_stateful_hyperparams(lib.sgd)(0.1).init(PARAMS)[1],
    "add_noise(seed)": lambda lib: lib.add_noise(0.0, 1.0, seed=1).init(PARAMS)[0],
    "noisy_sgd(seed)": lambda lib: lib.noisy_sgd(0.1, seed=1).init(PARAMS)[0][0],
    "differentially_private_aggregate(seed)": lambda lib: jax.random.key_data(
        lib.contrib.differentially_private_aggregate(1.0, 1.0, seed=1).init(PARAMS)[0]
    ),
    "tree_scalar_mul": lambda lib: lib.tree_utils.tree_scalar_mul(2.0, PARAMS),
    "tree_add_scalar_mul": lambda lib: lib.tree_utils.tree_add_scalar_mul(PARAMS, 2.0, PARAMS),
    "tree_l1_norm": lambda lib: lib.tree_utils.tree_l1_norm(PARAMS),
    "tree_l2_norm": lambda lib: lib.tree_utils.tree_l2_norm(PARAMS),
    "tree_linf_norm": lambda lib: lib.tree_utils.tree_linf_norm(PARAMS),
}


OLD_NAME = r" is deprecated since 0\.1\.0: use `.*` instead\. It goes when optax's does\."


@pytest.mark.parametrize("name", OLD)
def test_what_optax_deprecates_warns_and_does_the_same(name):
    results = []
    for library in (jo, optax):
        with jax.numpy_dtype_promotion("standard"), pytest.warns(DeprecationWarning) as caught:
            results.append(OLD[name](library))
        if library is jo:
            assert [str(w.message) for w in caught if re.search(OLD_NAME, str(w.message))]
            assert all(w.filename == __file__ for w in caught)  # the line that calls
    ours, theirs = map(jax.tree.leaves, results)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5)


def test_older_names_without_a_warning():
    assert jo.safe_int32_increment is jo.safe_increment
    assert jo.multi_transform is jo.partition
    with pytest.raises(jo.errors.HyperparameterError, match="one of key and seed"), pytest.warns(DeprecationWarning):
        jo.add_noise(0.1, 0.5, 1, seed=1)
