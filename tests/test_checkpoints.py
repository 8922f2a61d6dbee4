"""A run that one library began goes on in the other: the states of what both have are the same trees."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from flax import serialization
from references import record_states
from test_layouts import OPTIMIZERS, OPTIONS, SHARED, WRAPPED, called

import jaxopt_ko as jo

PARAMS = {"b": jnp.linspace(0.5, 1.0, 3), "w": jnp.linspace(-1.0, 1.0, 6).reshape(3, 2)}
WORDS = {"momo": "value", "momo_adam": "value", "sophia": "obj_fn", "sophia masked": "obj_fn"}

# Their states cross as the others do; their steps differ by more than rounding.
OTHER_STEPS = {
    "adan": "optax weighs the gradient's change by 1 - b2, where the paper has b2",
    "rprop": "optax makes the step before this one",
    "radam": "optax's rho cancels in float32; in float64 they agree (test_parity)",
    "adam in bfloat16": "optax steps by the mean as it is stored, here it is rounded behind the step",
}


def loss(p):
    return sum(jnp.sum(jnp.sin(x) ** 2 + 0.1 * x) for x in jax.tree.leaves(p))


def steps(lib, opt, words):
    """A function (params, state) -> both after three steps."""

    @quick.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        extra = {"value": {"value": value}, "obj_fn": {"obj_fn": loss}}.get(words, {})
        updates, state = opt.update(grads, state, params, **extra)
        return lib.apply_updates(params, updates), state

    def walk(params, state):
        for _ in range(3):
            params, state = step(params, state)
        return params, state

    return walk


def cases():
    for name in OPTIMIZERS.split():
        yield name, lambda lib, name=name: called(lib, name)(*SHARED[name])
    for label, (name, options) in OPTIONS.items():
        if name not in ("dpsgd", "add_decayed_weights"):
            yield label, lambda lib, name=name, options=options: called(lib, name)(**options)
    for name in ("chain", "masked", "partition", "MultiSteps", "apply_if_finite", "inject_hyperparams", "freeze"):
        yield name, WRAPPED[name]


@pytest.mark.parametrize(("name", "make"), [pytest.param(name, make, id=name) for name, make in cases()])
def test_a_run_goes_on_in_the_other_library(name, make):
    """flax's state dict, which its msgpack files hold, restored in both directions with no conversion."""
    with jax.numpy_dtype_promotion("standard"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        opts = {lib: make(lib) for lib in (optax, jo)}
        starts = {lib: opt.init(PARAMS) for lib, opt in opts.items()}
        walks = {lib: steps(lib, opt, WORDS.get(name, "")) for lib, opt in opts.items()}
        for first, second in ((optax, jo), (jo, optax)):
            params, state = walks[first](PARAMS, starts[first])
            restored = serialization.from_state_dict(starts[second], serialization.to_state_dict(state))
            assert jax.tree.structure(restored) == jax.tree.structure(starts[second])
            here, there = walks[first](params, state)[0], walks[second](params, restored)[0]
            if name not in OTHER_STEPS:
                jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6), here, there)


def adamw(lib):
    return lib.chain(lib.clip_by_global_norm(1.0), lib.adamw(0.1))


@pytest.mark.parametrize("first, second", [(optax, jo), (jo, optax)], ids=["from_optax", "to_optax"])
def test_bytes_of_msgpack_and_folders_of_orbax(first, second, tmp_path):
    import orbax.checkpoint as ocp

    makes = [adamw, *(WRAPPED[name] for name in ("MultiSteps", "masked", "partition", "inject_hyperparams", "sam"))]
    makes += [lambda lib, name=name: called(lib, name)(*SHARED[name]) for name in (
        "sgd", "lion", "adafactor", "muon", "schedule_free_adamw", "dog", "sm3"
    )]  # fmt: skip
    saver = ocp.PyTreeCheckpointer()
    warnings.simplefilter("ignore", UserWarning)  # orbax wants shardings
    for i, make in enumerate(makes):
        state, like = make(first).init(PARAMS), make(second).init(PARAMS)
        back = serialization.from_bytes(like, serialization.to_bytes(state))
        saver.save(tmp_path / str(i), state)
        found = saver.restore(tmp_path / str(i), item=like)
        for restored in (back, found):
            assert jax.tree.structure(restored) == jax.tree.structure(like)
            jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(restored), jax.tree.leaves(state))
        if second is jo:  # as orbax gives it without a target: dicts and lists
            opt, plain = make(jo), saver.restore(tmp_path / str(i))
            grads = jax.tree.map(jnp.ones_like, PARAMS)
            a, b = (opt.update(grads, s, PARAMS)[0] for s in (plain, like))
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


# ---- files of optax's -------------------------------------------------------------------------------------

GOLDEN = serialization.msgpack_restore(record_states.FILE.read_bytes())


def test_the_file_is_whole():
    assert set(GOLDEN) == {*record_states.METHODS, "versions"} and GOLDEN["versions"][0] == "optax 0.2.8"


@pytest.mark.parametrize("name", record_states.METHODS)
def test_a_file_of_optax_s_is_opened_and_the_run_goes_on(name):
    """Recorded once, to be opened for ever; the next steps are those that optax made."""
    opt, params = record_states.METHODS[name](jo), record_states.start(jo, name)
    state = serialization.from_bytes(opt.init(params), GOLDEN[name]["state"])
    step = quick.jit(lambda params, state: record_states.step(opt, jo, params, state))
    leaves, treedef = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    here, *path = ([x.reshape(p.shape) for x, p in zip(np.split(row, ends), leaves, strict=True)]
                   for row in GOLDEN[name]["params"])  # fmt: skip
    for there in path:
        params, new = step(treedef.unflatten(here), state)
        assert jax.tree.structure(new) == jax.tree.structure(state)
        for ours, theirs in zip(jax.tree.leaves(params), there, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
        here, state = there, new


@pytest.mark.references
def test_optax_still_writes_what_is_committed():
    for name, entry in record_states.record().items():
        if name != "versions":
            np.testing.assert_allclose(entry["params"], GOLDEN[name]["params"], rtol=1e-6, atol=1e-6, err_msg=name)
