"""States by name: every bit comes back; and they go to other chains, methods, libraries and layouts, never silently."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from data import named_states
from flax import serialization
from references import record_states

import jaxopt_ko as jo
from cases import assert_close, assert_same_bits, every, is_key, params_like, whole
from jaxopt_ko.errors import HyperparameterError, StateError, TransformationError

W = np.linspace(-1.0, 1.0, 6, dtype=np.float32).reshape(2, 3)
PARAMS = {"w": jnp.asarray(W), "b": jnp.asarray([0.5, -0.5, 0.25])}


def scrambled(state, seed=0):
    """Every leaf another number, so that what is mixed up shows."""
    rng = np.random.default_rng(seed)

    def other(x):
        if is_key(x):
            return jax.random.wrap_key_data(
                jnp.asarray(rng.integers(0, 2**32, jax.random.key_data(x).shape, np.uint32)),
                impl=jax.random.key_impl(x),
            )
        x = jnp.asarray(x)
        if x.dtype == bool:
            return jnp.asarray(rng.random(x.shape) > 0.5)
        if jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.asarray(rng.integers(1, 100, x.shape), x.dtype)
        imaginary = 1j * rng.normal(size=x.shape) if jnp.iscomplexobj(x) else 0
        return jnp.asarray(rng.normal(size=x.shape) + imaginary, x.dtype)

    return jax.tree.map(other, state)


def as_bytes(saved):
    return serialization.msgpack_restore(serialization.msgpack_serialize(jax.tree.map(np.asarray, saved)))


def kinds(report):
    """{name: what became of it}"""
    return {name: what for name, what, _ in report.body}


def load(tx, params, saved):
    return jo.load_state(tx, params, saved, on_missing="init", on_extra="drop")


def assert_comes_back(tx, params, saver=None, folder=None):
    state = scrambled(tx.init(params))
    saved = jo.state_dict(tx, state, params)
    assert all(isinstance(key, str) and isinstance(x, np.ndarray | jax.Array) for key, x in saved.items())
    stored = [saved, as_bytes(saved)]
    if saver is not None:
        saver.save(folder / "named", saved)
        stored.append(saver.restore(folder / "named"))
    for one in stored:
        back, report = jo.load_state(tx, params, one)
        assert_same_bits(back, state)
        assert set(kinds(report).values()) <= {"copied"}
        like = [jax.typeof(x).weak_type for x in jax.tree.leaves(tx.init(params))]
        assert [jax.typeof(x).weak_type for x in jax.tree.leaves(back)] == like  # the next step compiles nothing new


@every("named")
def test_a_state_comes_back_bit_for_bit(case):
    assert_comes_back(whole(case), params_like())


# ---- whatever parameters and chains people have ---------------------------------------------------------------


def module():
    import equinox as eqx

    return eqx.filter(eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0)), eqx.is_array)


def linen():
    from flax import linen as nn

    return nn.Sequential([nn.Dense(3), nn.Dense(2)]).init(jax.random.key(0), jnp.ones((1, 2)))


def groups(one, other):
    return jo.partition({"one": one, "other": other}, {"w": "one", "b": "other"})


STRANGE = {
    "two adams": (lambda: jo.chain(jo.adam(0.1), jo.adam(0.1)), PARAMS),
    "two emas": (lambda: jo.chain(jo.ema(0.9), jo.ema(0.5)), PARAMS),
    "traces around adam": (lambda: jo.chain(jo.trace(0.9), jo.adam(0.1), jo.trace(0.5)), PARAMS),
    "adams in groups": (lambda: groups(jo.adam(0.1), jo.adam(0.2)), PARAMS),
    "schedules": (lambda: jo.adam(lambda t: 0.1, b1=lambda t: 0.9, b2=lambda t: 0.99), PARAMS),
    "accumulation in accumulation": (
        lambda: jo.MultiSteps(jo.chain(jo.clip(1.0), jo.MultiSteps(jo.sgd(0.1, 0.9), 2)), 3), PARAMS),
    "galore": (lambda: jo.galore(0.1, rank=1), PARAMS),
    "noise": (lambda: jo.add_noise(0.1, 0.1, key=jax.random.key(3)), PARAMS),
    "lookahead": (lambda: jo.lookahead(jo.adam(0.1), 3, 0.5), jo.LookaheadParams.init_synced(PARAMS)),
    "one array": (lambda: jo.chain(jo.adam(0.1), jo.adam(0.1)), jnp.ones(4)),
    "one number": (lambda: jo.adam(0.1), jnp.ones(())),
    "nothing": (lambda: jo.adam(0.1), {}),
    "slashes": (lambda: jo.adam(0.1), {"a/b": jnp.ones(2), "a": {"b": jnp.ones(2)}, "mu/x": jnp.ones(1)}),
    "names of roles": (lambda: jo.adam(0.1), {"mu": jnp.ones(2), "count": jnp.ones(()), "0": {"nu": jnp.ones(1)}}),
    "lists": (lambda: jo.muon(0.1), [jnp.ones(2), (jnp.ones((3, 2)), [jnp.ones(1)])]),
    "numbers for keys": (lambda: jo.adam(0.1), {1: jnp.ones(2), 10: jnp.ones(3), 2: jnp.ones(1)}),
    "None": (lambda: jo.chain(jo.masked(jo.adam(0.1), {"w": True, "n": None, "b": False}), jo.trace(0.9)),
             PARAMS | {"n": None}),
    "empty": (lambda: jo.adam(0.1), {"w": jnp.ones((0, 3)), "b": jnp.ones(2)}),
    "complex": (lambda: jo.adam(0.1), {"w": jnp.ones(2, jnp.complex64)}),
    "half": (lambda: jo.adam(0.1, mu_dtype=jnp.bfloat16),
             {"w": jnp.ones(2, jnp.float16), "b": jnp.ones(2, jnp.bfloat16)}),
    "integers beside": (lambda: jo.masked(jo.adam(0.1), {"w": True, "i": False}),
                        {"w": jnp.ones(2), "i": jnp.arange(2)}),
    "weak": (lambda: jo.inject_hyperparams(jo.adam)(0.1), {"w": jax.lax.convert_element_type(1.0, float)}),
    "equinox": (lambda: jo.adamw(0.1), module),
    "linen": (lambda: jo.muon(0.1), linen),
    "optax": (lambda: optax.chain(optax.clip(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 10))), PARAMS),
    "optax masked": (lambda: optax.masked(optax.adam(0.1), {"w": True, "b": False}), PARAMS),
    "optax twice": (lambda: optax.chain(optax.adam(0.1), optax.adam(0.1)), jnp.ones(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_strange_ones_come_back_through_files(name, tmp_path):
    import orbax.checkpoint as ocp

    make, params = STRANGE[name]
    with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"):
        warnings.simplefilter("ignore")  # orbax wants shardings
        assert_comes_back(make(), params() if callable(params) else params, ocp.PyTreeCheckpointer(), tmp_path)


@pytest.mark.parametrize("name", [name for name in STRANGE if "half" not in name])
def test_strange_ones_come_back_from_whole_states(name):
    """As objects, and as the nest of dicts that flax restores without a target."""
    make, params = STRANGE[name]
    params, tx = params() if callable(params) else params, make()
    state = scrambled(tx.init(params))
    assert_same_bits(jo.load_state(tx, params, state)[0], state)
    if name not in ("equinox", "noise"):  # flax writes no modules and no keys
        nest = serialization.msgpack_restore(serialization.to_bytes(state))
        assert_same_bits(jo.load_state(tx, params, nest)[0], state)


def test_abstract_parameters_do():
    tx, abstract = jo.adamw(0.1), jax.eval_shape(lambda: PARAMS)
    state = scrambled(tx.init(PARAMS))
    saved = jo.state_dict(tx, state, abstract)
    assert_same_bits(jo.load_state(tx, abstract, saved)[0], state)
    assert_same_bits(jax.jit(lambda s: jo.state_dict(tx, s, PARAMS))(state), saved)
    free = jo.schedule_free_adamw(0.1)  # its init looks at values
    state = scrambled(free.init(PARAMS))
    assert_same_bits(jo.load_state(free, abstract, jo.state_dict(free, state, PARAMS))[0], state)
    with pytest.raises(StateError, match=r"nothing was saved for 'mu/b', 'mu/w'.*Pass real parameters"):
        jo.load_state(tx, abstract, {key: x for key, x in saved.items() if "mu" not in key}, on_missing="init")


def test_names_do_not_depend_on_the_place():
    names = lambda tx: set(jo.state_dict(tx, tx.init(PARAMS), PARAMS))  # noqa: E731
    alone = names(jo.adam(0.1))
    assert alone == {"count", "mu/w", "mu/b", "nu/w", "nu/b", "__format__"}
    for tx in (
        jo.chain(jo.clip(1.0), jo.adamw(lambda t: 0.1)),
        groups(jo.adam(0.1), jo.adam(0.1)),
        jo.chain(jo.masked(jo.adam(0.1), {"w": True, "b": True}), jo.add_decayed_weights(0.1)),
        optax.chain(optax.clip(1.0), optax.adam(0.1)),
    ):
        assert names(tx) == alone


# ---- refused ----------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_by_name():
    tx = jo.adamw(0.1)
    state = tx.init(PARAMS)
    saved = jo.state_dict(tx, state, PARAMS)
    for what, words in {
        lambda: jo.load_state(jo.sgd(0.1, 0.9), PARAMS, saved): r"no place for 'nu/b', 'nu/w'.*on_extra='drop'",
        lambda: jo.load_state(tx, PARAMS, {"__format__": 1}): r"nothing was saved for 'count', .*saved leaves none",
        lambda: jo.load_state(tx, PARAMS, jo.state_dict(jo.trace(0.9), jo.trace(0.9).init(PARAMS), PARAMS)):
            r"nothing was saved for 'nu/b', 'nu/w'.*'trace/b'",
        lambda: jo.load_state(tx, {"w": jnp.ones((2, 4))}, saved): r"'mu/w' must have the shape \(2, 4\)",
        lambda: jo.load_state(tx, PARAMS, None): r"nothing was saved for 'count'",
        lambda: jo.load_state(tx, PARAMS, saved | {"__format__": 2}): r"must be of format 1 or an earlier one.*Update",
        lambda: jo.load_state(tx, PARAMS, saved | {"__format__": "x"}): r"must be of format 1",
        lambda: jo.load_state(tx, PARAMS, saved | {"mu/w": "hello"}): r"'mu/w' must be an array of numbers",
        lambda: jo.load_state(tx, PARAMS, saved | {"mu/w": np.ones((2, 3), complex)}): r"'mu/w' is real",
        lambda: jo.state_dict(jo.sgd(0.1, 0.9), state, PARAMS): r"state_dict: the state is not what tx.init",
        lambda: jo.state_dict(tx, state, {"w": PARAMS["w"]}): r"state_dict: the state is not what tx.init",
    }.items():  # fmt: skip
        with pytest.raises(StateError, match=words):
            what()
    with pytest.raises(HyperparameterError, match="on_missing must be one of"):
        jo.load_state(tx, PARAMS, saved, on_missing="ignore")
    with pytest.raises(TransformationError, match="load_state: tx must be"):
        jo.load_state(3, PARAMS, saved)


# ---- from and to optax ------------------------------------------------------------------------------------------

GOLDEN = serialization.msgpack_restore(record_states.FILE.read_bytes())
NAMED = serialization.msgpack_restore(named_states.FILE.read_bytes())


@pytest.mark.parametrize("name", [n for n in record_states.METHODS if n != "lookahead"])
def test_msgpack_of_optax_is_opened_leaf_by_leaf(name):
    opt = record_states.METHODS[name](jo)
    like = opt.init(record_states.PARAMS)
    nest = serialization.msgpack_restore(GOLDEN[name]["state"])
    assert_same_bits(jo.load_state(opt, record_states.PARAMS, nest)[0], serialization.from_state_dict(like, nest))


@pytest.mark.parametrize(
    ("library", "name"), [*(("ours", n) for n in named_states.OURS), *(("optax", n) for n in named_states.THEIRS)]
)
def test_files_are_opened_for_ever(library, name):
    entry, opt = NAMED[library][name], record_states.METHODS[name](jo)
    params = jax.tree.map(jnp.asarray, entry["params"])
    state, report = jo.load_state(opt, params, entry["state"])
    assert set(kinds(report).values()) <= {"copied"}
    assert_close(record_states.step(opt, jo, params, state)[0], entry["then"])


@pytest.mark.references
def test_files_are_still_written_so():
    assert_close(named_states.record()["ours"], NAMED["ours"])


def steps(lib, opt, params, state, count=50):
    step = quick.jit(lambda p, s: record_states.step(opt, lib, p, s))
    for _ in range(count):
        params, state = step(params, state)
    return params, state


@pytest.mark.parametrize("name", named_states.THEIRS)
def test_runs_go_on_in_the_other_library(name, x64):
    """optax -> ours -> optax, leaf for leaf; the next 50 steps are the same."""
    start = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), record_states.PARAMS)
    with jax.numpy_dtype_promotion("standard"):
        theirs, ours = record_states.METHODS[name](optax), record_states.METHODS[name](jo)
        params, state = steps(optax, theirs, start, theirs.init(start), 20)
        here, _ = jo.load_state(ours, params, state)
        there, _ = jo.load_state(theirs, params, jo.state_dict(ours, here, params))
        assert_same_bits(jax.tree.leaves(there), jax.tree.leaves(state))
        for again in (
            jo.load_state(theirs, params, here)[0],
            jo.load_state(theirs, params, jo.state_dict(theirs, state, params))[0],
        ):
            assert_same_bits(jax.tree.leaves(again), jax.tree.leaves(state))
        want = steps(optax, theirs, params, state)[0]
        got = steps(jo, ours, params, here)[0]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), got, want)


def test_a_state_of_optax_goes_into_a_longer_chain():
    state = scrambled(optax.adamw(0.1).init(PARAMS))
    nest = serialization.msgpack_restore(serialization.to_bytes(state))
    tx = jo.chain(jo.clip_by_global_norm(1.0), jo.adamw(jo.linear_schedule(0.1, 0.0, 100)))
    for saved in (state, nest):
        new, report = jo.load_state(tx, PARAMS, saved)
        assert_same_bits(jo.tree.get(new, "mu"), state[0].mu)
        assert set(kinds(report).values()) == {"copied"}
        assert all(int(x) == int(state[0].count) for _, x in jo.tree.get_all_with_path(new, "count"))
    belief = scrambled(optax.adabelief(0.1).init(PARAMS))  # another meaning under the same name
    _, report = load(jo.chain(jo.clip(1.0), jo.adam(0.1)), PARAMS, belief)
    assert {what for name, what in kinds(report).items() if name.startswith("nu@")} == {"dropped"}


# ---- other chains, dtypes, parameters, layouts ------------------------------------------------------------------


def saved_of(tx, params=PARAMS, count=20):
    state = scrambled(tx.init(params))
    state = jo.tree.set(state, count=jnp.int32(count)) if jo.tree.get_all_with_path(state, "count") else state
    return jo.state_dict(tx, state, params)


def test_groups_clips_schedules_and_wrappers_change_nothing():
    saved = saved_of(jo.adamw(0.1))
    for tx in (
        groups(jo.adam(0.1), jo.adamw(0.1)),
        jo.chain(jo.clip_by_global_norm(1.0), jo.adamw(lambda t: 0.1)),
        jo.chain(jo.clip(1.0), jo.adam(0.1)),
    ):
        state, report = jo.load_state(tx, PARAMS, saved)
        assert set(kinds(report).values()) == {"copied"}
        again = jo.state_dict(tx, state, PARAMS)
        assert_same_bits({k: again[k] for k in saved}, saved)
        assert_same_bits(jo.state_dict(jo.adamw(0.1), jo.load_state(jo.adamw(0.1), PARAMS, again)[0], PARAMS), saved)
    wrapped = jo.apply_if_finite(jo.adamw(0.1), 3)
    assert kinds(load(wrapped, PARAMS, saved)[1])["last_finite"] == "initialized"


def test_dtypes_follow_the_new_state():
    wide, narrow = jo.adam(0.1), jo.adam(0.1, mu_dtype=jnp.bfloat16)
    saved = saved_of(wide)
    state, report = jo.load_state(narrow, PARAMS, saved)
    assert jo.tree.get(state, "mu")["w"].dtype == jnp.bfloat16
    assert [how for name, _, how in report.body if name == "mu/w"] == ["float32 to bfloat16"]
    back, _ = jo.load_state(wide, PARAMS, jo.state_dict(narrow, state, PARAMS))
    np.testing.assert_allclose(jo.tree.get(back, "mu")["w"], saved["mu/w"], rtol=1e-2)


def test_a_decay_that_becomes_a_schedule_knows_its_weight():
    saved = saved_of(jo.adam(0.1, b1=0.9))
    scheduled = jo.adam(0.1, b1=lambda t: 0.9)
    state, report = jo.load_state(scheduled, PARAMS, saved)
    assert kinds(report)["gathered/b1"] == "converted"
    np.testing.assert_allclose(jo.tree.get(state, "gathered")["b1"], 1 - 0.9**20, rtol=1e-5)
    back, report = jo.load_state(jo.adam(0.1, b1=0.9), PARAMS, jo.state_dict(scheduled, state, PARAMS))
    assert kinds(report)["gathered/b1"] == "dropped"
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    one, two = (tx.update(grads, s, PARAMS)[0] for tx, s in ((scheduled, state), (jo.adam(0.1, b1=0.9), back)))
    assert_close(one, two, rtol=1e-5)


STACKS = {
    "adamw": lambda stack: jo.adamw(0.1),
    "muon": lambda stack: jo.muon(0.1, stack_axes=stack),
    "shampoo": lambda stack: jo.shampoo(0.1, stack_axes=stack),
    "soap": lambda stack: jo.soap(0.1, stack_axes=stack),
    "psgd_kron": lambda stack: jo.psgd_kron(0.1, stack_axes=stack),
}


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("spelling", ["layers/0", "layer_0"])
def test_layers_are_stacked_and_taken_apart(spelling, name):
    """The memory of matrix methods, one row of a stack for each matrix, as well."""
    rng = np.random.default_rng(0)
    layers = [{"kernel": jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)} for _ in range(3)]
    stack = jax.tree.map(lambda *x: jnp.stack(x), *layers)
    numbered, joined = {"layers": layers}, {"layers": stack}
    if spelling == "layer_0":
        numbered, joined = {f"layer_{i}": layer for i, layer in enumerate(layers)}, {"layer": stack}
    apart, together = STACKS[name](0), STACKS[name](1)
    saved = saved_of(apart, numbered)
    state, report = jo.load_state(together, joined, saved)
    whole_names = [key for key in saved if "/" in key and "__" not in key]
    assert kinds(report) == {
        **dict.fromkeys(kinds(report), "converted"),
        **{key: "copied" for key in kinds(report) if "/" not in key},
    }
    back, _ = jo.load_state(apart, numbered, jo.state_dict(together, state, joined))
    again = jo.state_dict(apart, back, numbered)
    assert_same_bits({key: again[key] for key in whole_names}, {key: saved[key] for key in whole_names})


def test_fewer_layers_are_not_taken_in_silence():
    saved = saved_of(jo.lion(0.1), {"layers": jnp.ones((3, 2))})
    with pytest.raises(StateError, match=r"no place for 'mu/layers\[2\]'"):
        jo.load_state(jo.lion(0.1), {"layers": [jnp.ones(2)] * 2}, saved)
    saved = saved_of(jo.lion(0.1), {"layers": [jnp.ones(2)] * 3})
    with pytest.raises(StateError, match=r"no place for 'mu/layers/2'"):
        jo.load_state(jo.lion(0.1), {"layers": jnp.ones((2, 2))}, saved)
    with pytest.raises(StateError, match="nothing was saved for 'mu/layers'"):
        jo.load_state(jo.lion(0.1), {"layers": jnp.ones((4, 2))}, saved, on_extra="drop")


def test_parameters_come_and_go():
    more = PARAMS | {"new": jnp.ones(2)}
    saved = saved_of(jo.muon(0.1), more)
    state, report = jo.load_state(jo.muon(0.1), PARAMS, saved, on_extra="drop")
    assert {name for name, what in kinds(report).items() if what == "dropped"} == {"mu/new", "nu/new"}
    saved = saved_of(jo.lion(0.1))
    state, report = jo.load_state(jo.lion(0.1), more, saved, on_missing="init")
    assert kinds(report) == {"count": "copied", "mu/b": "copied", "mu/w": "copied", "mu/new": "initialized"}
    # Adam corrects all means by one count: those that there are take the weight of the first steps
    saved = saved_of(jo.adam(0.1))
    state, report = jo.load_state(jo.adam(0.1), more, saved, on_missing="init")
    assert kinds(report)["mu/new"] == kinds(report)["nu/new"] == "initialized"
    assert int(jo.tree.get(state, "count")) == 10 and kinds(report)["mu/w"] == "converted"
    for key, b in (("mu", 0.9), ("nu", 0.999)):
        corrected = jo.tree.get(state, key)["w"] / (1 - b**10)
        np.testing.assert_allclose(corrected, saved[f"{key}/w"] / (1 - b**20), rtol=1e-5)


def test_momentum_takes_its_scale_along():
    sgd, adam = jo.sgd(0.1, 0.8, dampening=0.1), jo.lion(0.1)
    saved = saved_of(sgd)
    gain = (1 - 0.1) / (1 - 0.8)
    np.testing.assert_allclose(saved["__gain__/trace"], gain, rtol=1e-6)
    state, report = jo.load_state(adam, PARAMS, saved, on_missing="init")
    np.testing.assert_allclose(jo.tree.get(state, "mu")["w"], saved["trace/w"] / gain, rtol=1e-6)
    assert any("trace times 0.2222: the decaying sum as the mean" in how for _, _, how in report.body)
    back, report = jo.load_state(sgd, PARAMS, jo.state_dict(adam, state, PARAMS))
    np.testing.assert_allclose(jo.tree.get(back, "trace")["w"], saved["trace/w"], rtol=1e-5)
    inside = jo.sgd(0.1, 0.8, lr_in_velocity=True)  # its velocity is made of steps
    assert kinds(load(inside, PARAMS, saved)[1])["trace/w"] == "dropped"
    two = groups(jo.sgd(0.1, 0.8), jo.sgd(0.1, 0.5))  # each sum has its own
    saved = saved_of(two)
    mean = jo.tree.get(load(adam, PARAMS, saved)[0], "mu")
    np.testing.assert_allclose(mean["w"], saved["trace/w"] * 0.2, rtol=1e-5)
    np.testing.assert_allclose(mean["b"], saved["trace/b"] * 0.5, rtol=1e-5)


# ---- from one method to another ---------------------------------------------------------------------------------

METHODS = {
    "sgd": lambda rate: jo.sgd(rate, 0.9), "adam": jo.adam, "adamw": jo.adamw,
    "rmsprop": jo.rmsprop, "adagrad": jo.adagrad, "lion": jo.lion, "adabelief": jo.adabelief, "yogi": jo.yogi,
    "adan": jo.adan, "muon": jo.muon, "shampoo": lambda rate: jo.shampoo(rate, precondition_frequency=1),
    "adafactor": lambda rate: jo.adafactor(rate, min_dim_size_to_factor=2),
}  # fmt: skip
MEANS = {"adam", "adamw", "lion", "adabelief", "yogi", "adan", "muon", "sgd"}  # they keep one of all gradients
SQUARES = {"adam", "adamw", "rmsprop"}
RATE, STEPS = 0.01, 60


@pytest.fixture(scope="module")
def runs():
    """name -> (the transformation, a function (state, gradients) -> (state, the longest element of each step))."""
    start = {"w": jnp.full((4, 3), 0.5), "b": jnp.asarray([0.5, -0.5, 0.0])}

    def run(make):
        tx = make(RATE)

        @quick.jit
        def walk(state, grads):
            def step(carry, g):
                params, state = carry
                updates, state = tx.update(g, state, params)
                longest = jnp.stack([jnp.max(jnp.abs(u)) for u in jax.tree.leaves(updates)])
                return (jo.apply_updates(params, updates), state), jnp.max(longest)

            (_, state), longest = jax.lax.scan(step, (start, state), grads)
            return state, longest

        return tx, walk

    rng = np.random.default_rng(0)
    rare = rng.random((2 * STEPS, 4, 1)) > 0.3  # rows without a gradient, and a leaf with tiny ones
    grads = {
        "w": jnp.asarray((rng.normal(size=(2 * STEPS, 4, 3)) + 0.3) * rare, jnp.float32),
        "b": jnp.asarray(1e-3 * rng.normal(size=(2 * STEPS, 3)), jnp.float32),
    }
    return start, {name: run(make) for name, make in METHODS.items()}, grads


@pytest.mark.parametrize("there", METHODS)
def test_from_every_method_to_every_other(there, runs):
    """Each leaf of the new state and each saved one is spoken of; no step is long."""
    params, made, grads = runs
    before, after = (jax.tree.map(lambda g, s=s: g[s], grads) for s in (slice(0, STEPS), slice(STEPS, None)))
    tx, walk = made[there]
    fresh = float(jnp.max(walk(tx.init(params), after)[1]))
    for here, (old, go) in made.items():
        saved = jo.state_dict(old, go(old.init(params), before)[0], params)
        state, report = load(tx, params, saved)
        what = kinds(report)
        names = set(jo.state_dict(tx, scrambled(tx.init(params)), params)) - {"__format__", "__gain__/trace"}
        assert names <= set(what), (here, there)
        carried = " ".join(how for _, _, how in report.body)
        for key in set(saved) - {"__format__"}:
            assert key in what or f"{key.partition('/')[0]} times" in carried or "__gain__" in key, (here, there, key)
        assert set(what.values()) <= {"copied", "converted", "initialized", "dropped"}
        if here == there:
            assert set(what.values()) == {"copied"}
        if here in MEANS and there in MEANS:
            role = "trace" if there == "sgd" else "mu"
            assert what[f"{role}/b"] in ("copied", "converted") and what[f"{role}/w"] in ("copied", "converted")
        if there in SQUARES:
            expected = ("copied",) if here in SQUARES else ("initialized", "converted")
            assert what["nu/w"] in expected, (here, there, what)
        longest = float(jnp.max(walk(state, after)[1]))
        assert longest <= 1.5 * fresh, (here, there, longest / fresh)
        different = set(what) - {"count"}
        if any(what[name] == "initialized" for name in different):
            with pytest.raises(StateError, match="nothing was saved for '"):
                jo.load_state(tx, params, saved, on_extra="drop")
        if any(what[name] == "dropped" and not name.startswith("count") for name in different):
            with pytest.raises(StateError, match="the new state has no place for '"):
                jo.load_state(tx, params, saved, on_missing="init")
