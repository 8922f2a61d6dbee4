"""States in few bits, saved, restored in other codes or none, and cut over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

import jaxopt_ko as jo
from jaxopt_ko.errors import StateError
from jaxopt_ko.precision.codecs import CODECS
from jaxopt_ko.precision.packed import is_packed

RNG = np.random.default_rng(0)
PARAMS = {
    "layers": {"kernel": jnp.asarray(RNG.normal(size=(2, 8, 96)), jnp.float32)},
    "head": jnp.asarray(RNG.normal(size=(8, 97)), jnp.float32),
    "bias": jnp.zeros(5),
}


def quantized(codec="companded8", tx=None, **options):
    return jo.quantized(jo.adamw(1e-2) if tx is None else tx, codec, min_size=64, **options)


def after_steps(opt, steps=5, state=None, params=PARAMS):
    state = opt.init(params) if state is None else state

    def step(carry, i):
        p, s = carry
        g = jax.tree.map(lambda x: x * 0.1 + jnp.sin(37 * x + i), p)
        u, s = opt.update(g, s, p)
        return (jo.apply_updates(p, u), s), None

    return jax.jit(lambda p, s: jax.lax.scan(step, (p, s), jnp.arange(float(steps)))[0])(params, state)


def kinds(report):
    return {name: (what, how) for name, what, how in report.body}


def through_a_file(saved):
    return serialization.msgpack_restore(serialization.msgpack_serialize(jax.tree.map(np.asarray, saved)))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    data = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    assert all((data(x) == data(y)).all() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_a_state_by_name_comes_back_bit_for_bit(codec, rounding):
    opt = quantized(codec, rounding=rounding)
    _, state = after_steps(opt)
    saved = jo.state_dict(opt, state, PARAMS)
    for one in (saved, through_a_file(saved)):
        back, report = jo.load_state(opt, PARAMS, one)
        assert_same(back, state)
        assert {what for what, _ in kinds(report).values()} == {"copied"}


def test_names_say_which_codec_it_is():
    opt = quantized()
    saved = jo.state_dict(opt, after_steps(opt)[1], PARAMS)
    assert {"mu/layers/kernel/Companded8.codes", "nu/head/Companded8Nonnegative.scales", "mu/bias", "count"} < set(
        saved
    )


def test_flax_and_pickle_restore_the_very_state():
    import pickle

    opt = quantized("four_bit")
    _, state = after_steps(opt)
    assert_same(pickle.loads(pickle.dumps(state)), state)
    written = serialization.to_bytes(state)
    assert_same(jax.tree.map(jnp.asarray, serialization.from_bytes(opt.init(PARAMS), written)), state)
    nest = serialization.msgpack_restore(written)  # without a target: a nest of dicts
    back, report = jo.load_state(opt, PARAMS, nest)
    assert_same(back, state)
    assert {what for what, _ in kinds(report).values()} == {"copied"}


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_orbax_restores_the_very_state(tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    opt = quantized("companded8")
    _, state = after_steps(opt)
    saver = ocp.PyTreeCheckpointer()
    saver.save(tmp_path / "state", state)
    back, _ = jo.load_state(opt, PARAMS, saver.restore(tmp_path / "state"))
    assert_same(back, state)
    saver.save(tmp_path / "named", jo.state_dict(opt, state, PARAMS))
    back, _ = jo.load_state(opt, PARAMS, saver.restore(tmp_path / "named"))
    assert_same(back, state)


@pytest.mark.parametrize("codec", CODECS)
def test_from_float32_to_codes_and_back_in_mid_run_and_the_report_says_so(codec):
    plain, packed = jo.adamw(1e-2), quantized(codec)
    params, state = after_steps(plain)
    there, report = jo.load_state(packed, params, jo.state_dict(plain, state, params))
    said = kinds(report)
    assert said["mu/head"] == said["nu/layers/kernel"] == ("converted", f"float32 to {codec}")
    assert said["mu/bias"] == said["count"] == ("copied", "")
    assert is_packed(jo.tree.get(there, "mu")["head"])
    back, report = jo.load_state(plain, params, jo.state_dict(packed, there, params))
    assert kinds(report)["nu/head"] == ("converted", f"{codec} to float32")
    assert_same(back, jo.dequantized(there).inner_state)
    after, _ = after_steps(packed, 3, there, params)
    true, _ = after_steps(plain, 3, state, params)
    bar = {"companded8": 0.03, "dynamic8": 0.05, "fp8": 0.1, "four_bit": 0.8}[codec]
    way, found = true["head"] - params["head"], after["head"] - params["head"]
    assert jnp.linalg.norm(found - way) < bar * jnp.linalg.norm(way)


def test_from_codes_to_other_codes_layers_and_methods():
    opt, other = quantized("companded8"), quantized("dynamic8", tx=jo.chain(jo.clip(1.0), jo.adam(1e-2)))
    _, state = after_steps(opt)
    saved = jo.state_dict(opt, state, PARAMS)
    there, report = jo.load_state(other, PARAMS, saved)
    assert kinds(report)["mu/head"] == ("converted", "companded8 to dynamic8")
    mu = jo.tree.get(jo.dequantized(there), "mu")["head"]
    true = jo.tree.get(jo.dequantized(state), "mu")["head"]
    assert jnp.linalg.norm(mu - true) < 0.03 * jnp.linalg.norm(true)
    apart = {
        "layers": [{"kernel": k} for k in PARAMS["layers"]["kernel"]],
        "head": PARAMS["head"],
        "bias": jnp.zeros(5),
    }
    there, report = jo.load_state(opt, apart, saved)
    what, how = kinds(report)["mu/layers/1/kernel"]
    assert what == "converted" and "layer 1 of 'mu/layers/kernel'" in how and "float32 to companded8" in how
    heavy = jo.quantized(jo.sgd(0.1, 0.9), min_size=64)  # a sum where there was a mean
    there, report = jo.load_state(heavy, PARAMS, saved, on_extra="drop")
    trace = jo.tree.get(jo.dequantized(there), "trace")["head"]
    assert jnp.linalg.norm(trace - 10 * true) < 0.03 * jnp.linalg.norm(10 * true)
    assert "times 10" in kinds(report)["trace/head"][1]


def test_a_codec_for_other_leaves_and_a_broken_dictionary():
    opt = quantized()
    _, state = after_steps(opt)
    saved = jo.state_dict(opt, state, PARAMS)
    coarser = jo.quantized(jo.adamw(1e-2), min_size=800)  # the head is float32 here
    _, report = jo.load_state(coarser, PARAMS, saved)
    assert kinds(report)["mu/head"] == ("converted", "companded8 to float32")
    assert kinds(report)["mu/layers/kernel"] == ("copied", "")
    del saved["mu/head/Companded8.scales"]
    with pytest.raises(StateError, match=r"'mu/head/Companded8\.codes' has codes and no scales"):
        jo.load_state(opt, PARAMS, saved)


def test_abstract_parameters_are_enough_to_load():
    opt = quantized()
    _, state = after_steps(opt)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS)
    assert_same(jo.load_state(opt, shapes, jo.state_dict(opt, state, PARAMS))[0], state)
