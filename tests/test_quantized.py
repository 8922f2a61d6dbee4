"""States in 8 and 4 bits: codes beside those of others, what a step sees, what a long run keeps."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from references.record_low_precision import recorded

import jaxopt_ko as jo
from cases import CASES, params_like, whole
from jaxopt_ko.core.quantizable import declarations, declared_by
from jaxopt_ko.precision import codecs
from jaxopt_ko.precision.codecs import CODECS
from jaxopt_ko.precision.packed import KINDS, bytes_of, is_packed, kind_of, pack, repack, shape_of, unpack

BOTH = [(codec, signed) for codec in CODECS for signed in (True, False)]
THEIRS = recorded()
BLOCK_OF_TINY = (1, slice(256, 512))  # of 1e-12 in m, 1e-24 in v, where torchao's scale is 1e-12 and ours is what it is


def unpacked_codes(packed):
    """uint8[…, n], also of codes that stand two to a byte."""
    codes = np.asarray(packed.codes)
    if packed.codec.bits == 4:
        codes = np.stack([codes >> 4, codes & 15], -1).reshape(*codes.shape[:-1], -1)[..., : shape_of(packed)[-1]]
    return codes


def heavy(shape, signed, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * np.exp(rng.normal(size=shape))
    return jnp.asarray(x if signed else x * x, jnp.float32)


# ---- codes beside those of others -------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [True, False])
def test_the_dynamic_rows_are_those_of_torchao_and_bitsandbytes(signed):
    word = "signed" if signed else "unsigned"
    row = np.asarray(kind_of("dynamic8", signed, (256,)).codec.number(jnp.arange(256, dtype=jnp.uint8)))
    np.testing.assert_array_equal(row, THEIRS[f"torchao8.map.{word}"])
    np.testing.assert_array_equal(row, THEIRS[f"bnb.map.{word}"])
    small = np.asarray(kind_of("four_bit", signed, (256,)).codec.number(jnp.arange(16, dtype=jnp.uint8)))
    np.testing.assert_array_equal(small, THEIRS[f"torchao4.map.{word}"])


@pytest.mark.parametrize("x", ["m", "v", "ties.signed8", "ties.unsigned8"])
def test_dynamic8_has_the_codes_of_torchao(x):
    made = pack(kind_of("dynamic8", x in ("m", "ties.signed8"), (512,)), jnp.asarray(THEIRS[x]))
    codes, theirs = unpacked_codes(made).copy(), THEIRS[f"torchao8.{x}.codes"]
    if x == "v":
        assert (codes[BLOCK_OF_TINY] != theirs[BLOCK_OF_TINY]).any()  # a scale of 1e-12 for squares of 1e-12: all lost
        codes[BLOCK_OF_TINY] = theirs[BLOCK_OF_TINY]
    np.testing.assert_array_equal(codes, theirs)


@pytest.mark.parametrize("x", ["m", "v"])
def test_dynamic8_has_the_codes_of_bitsandbytes(x):
    made = unpacked_codes(pack(kind_of("dynamic8", x == "m", (512,)), jnp.asarray(THEIRS[x])))
    np.testing.assert_array_equal(made, THEIRS[f"bnb.{x}.codes"])


@pytest.mark.parametrize("x", ["m", "v", "ties.signed4", "ties.unsigned4"])
def test_four_bit_has_the_codes_of_torchao(x):
    made = pack(kind_of("four_bit", x in ("m", "ties.signed4"), (512,)), jnp.asarray(THEIRS[x]))
    codes, theirs = unpacked_codes(made).copy(), THEIRS[f"torchao4.{x}.codes"]
    if x == "v":
        codes[BLOCK_OF_TINY] = theirs[BLOCK_OF_TINY]
    np.testing.assert_array_equal(codes, theirs)


def test_companding_has_the_codes_of_flashoptim_at_its_block_but_never_loses_a_square():
    def blocks(x):
        return jnp.asarray(x).reshape(*x.shape[:-1], -1, 32)

    codes, scales = codecs.coded(codecs.COMPANDED8, blocks(THEIRS["m"]), None)
    np.testing.assert_array_equal(codes.reshape(4, 512), THEIRS["flash.m.codes"])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(np.asarray(scales).astype(np.float16), THEIRS["flash.m.scales"])
    codes = np.asarray(codecs.coded(codecs.COMPANDED8_NONNEGATIVE, blocks(THEIRS["v"]), None)[0]).reshape(4, 512)
    theirs = THEIRS["flash.v.codes"]
    lost = (theirs == 0) & (THEIRS["v"] > 0)
    assert lost.sum() > 100 and (codes[lost] == 1).all()
    np.testing.assert_array_equal(codes[~lost], theirs[~lost])


def test_fp8_means_have_the_codes_of_torchao():
    made = unpacked_codes(pack(kind_of("fp8", True, (512,)), jnp.asarray(THEIRS["m"])))
    theirs = THEIRS["torchao_fp8.m.codes"]
    assert (made != theirs).mean() < 2e-3  # 448 (x / s) and x / (s / 448) may round to either side of a tie
    assert np.abs(made.astype(int) - theirs).max() <= 1


# ---- codes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec, signed", BOTH)
def test_codes_have_the_shape_of_the_array_and_as_many_bytes_as_is_said(codec, signed):
    for shape in ((3, 7), (2, 300), (64,), (5, 1, 129)):
        made = pack(kind_of(codec, signed, shape), heavy(shape, signed))
        assert shape_of(made) == shape == unpack(made).shape
        assert sum(x.nbytes for x in made) == bytes_of(codec, shape)
        if codec != "four_bit":
            assert made.codes.shape == shape


@pytest.mark.parametrize("codec, signed", BOTH)
def test_zero_is_read_as_zero_and_what_is_left_alone_keeps_its_codes(codec, signed):
    x = heavy((2, 600), signed).at[0, 5].set(0).at[1].set(0)
    made = pack(kind_of(codec, signed, x.shape), x)
    read = unpack(made)
    assert (read[1] == 0).all() and (read >= 0).all() | signed
    if signed or codec != "four_bit":  # whose squares have no 0
        assert read[0, 5] == 0
    again = repack(made, read, read + 0.0)
    assert all((a == b).all() for a, b in zip(made, again, strict=True))
    changed = repack(made, read, read.at[0, 599].set(100.0))
    first = slice(0, made.codec.block * made.codec.bits // 8)
    assert (changed.codes[0, first] == made.codes[0, first]).all() and (changed.codes[1] == made.codes[1]).all()
    assert abs(unpack(changed)[0, 599] - 100) < 1e-3


@pytest.mark.parametrize("codec, signed", BOTH)
def test_codes_at_random_have_the_number_as_their_mean(codec, signed):
    own = kind_of(codec, signed, (64,)).codec
    n = np.linspace(0.07, 0.88, 64, dtype=np.float32)
    n = np.where(np.arange(64) % 2, n, -n) if signed else n

    def one(key):
        return own.number(own.at_random(jnp.asarray(n), key))

    many = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), 4000)), np.float64)
    error, std = many.mean(0) - n, many.std(0)
    assert (std > 0).mean() > 0.9
    assert np.abs(error / (std / np.sqrt(4000) + 1e-6)).max() < 5


@pytest.mark.parametrize("codec, signed", BOTH)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_read_as_a_number(codec, signed, bad):
    x = heavy((1, 512), signed).at[0, 3].set(bad)
    read = unpack(pack(kind_of(codec, signed, x.shape), x))
    assert not np.isfinite(np.asarray(read[0, 3])) and np.isfinite(np.asarray(read[0, 256:])).all()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nodes_are_pickled(kind):
    made = pack(kind, heavy((4, 9 if "Odd" in kind.__name__ else 8), kind.codec.signed))
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is kind and all((a == b).all() for a, b in zip(made, again, strict=True))


# ---- what is declared -------------------------------------------------------------------------------------


def declared_nodes(state):
    nodes = jax.tree.leaves(state, is_leaf=lambda x: declared_by(x) is not None)
    return [x for x in nodes if declared_by(x) is not None]


def test_what_is_declared_nonnegative_is():
    """Four steps of the first method with each class of state."""
    seen = set()
    for case in CASES:
        if case.words or case.factory is jo.quantized:  # which want more than gradients
            continue
        opt, params = whole(case), params_like()
        kinds = {type(node) for node in declared_nodes(jax.eval_shape(opt.init, params))}
        if kinds <= seen:
            continue
        seen |= kinds
        state, step, rng = opt.init(params), quick.jit(opt.update), np.random.default_rng(5)
        for _ in range(4):
            g = jax.tree.map(lambda p, rng=rng: jnp.asarray(rng.normal(size=np.shape(p)), jnp.float32), params)
            _, state = step(g, state, params)
            for node in declared_nodes(state):
                for field in declared_by(node).nonnegative:
                    values = jax.tree.leaves(getattr(node, field))
                    assert all((np.asarray(x) >= 0).all() for x in values), (case.name, field)
    assert len(seen) > 30


def test_every_field_that_is_declared_is_one_of_its_class():
    assert len(declarations()) > 30
    for kind, told in declarations().items():
        assert set(told.fields) <= set(kind._fields)
        assert told.divisor is None or told.divisor in told.nonnegative


def test_a_declaration_of_a_field_that_is_not_there_is_refused():
    with pytest.raises(jo.errors.StateError, match="must be a NamedTuple with the field 'velocity'"):
        jo.quantizable(signed=("velocity",))(jo.EmptyState)


# ---- the wrapper ------------------------------------------------------------------------------------------


def big(seed=0):
    rng = np.random.default_rng(seed)
    return {"kernel": jnp.asarray(rng.normal(size=(64, 128)), jnp.float32), "bias": jnp.zeros(8)}


def step_of(tx, g, params):
    opt = jo.quantized(tx)
    return *jax.jit(opt.update)(g, opt.init(params), params), *jax.jit(tx.update)(g, tx.init(params), params)


def test_the_first_step_is_the_one_of_float32_and_small_leaves_are_not_touched():
    params = big()
    g = jax.tree.map(lambda p: p + 0.1, params)
    with jax.numpy_dtype_promotion("standard"):  # optax's own
        both = [step_of(tx, g, params) for tx in (jo.adamw(1e-2), optax.adamw(1e-2))]
    for u, state, v, plain in both:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), u, v)
        mu, nu = jo.tree.get(state, "mu"), jo.tree.get(state, "nu")
        assert is_packed(mu["kernel"]) and is_packed(nu["kernel"]) and not is_packed(mu["bias"])
        np.testing.assert_allclose(mu["bias"], jo.tree.get(plain, "mu")["bias"], rtol=1e-6)


def test_the_table_says_what_is_kept_and_its_bytes_are_those_of_the_state():
    params = {**big(), "embedding": jnp.ones((100, 64)), "pairs": jnp.ones((4000, 2)), "i": jnp.ones((80, 80), complex)}
    opt = jo.quantized(jo.chain(jo.clip_by_global_norm(1.0), jo.adamw(1e-3)), "dynamic8")
    table = opt.explain(params)
    kept = {row[0]: row[2] for row in table.body}
    assert kept["[1][0].mu['kernel']"] == "dynamic8, signed"
    assert kept["[1][0].nu['kernel']"] == "dynamic8, nonnegative"
    assert kept["[1][0].mu['embedding']"] == "as it is: an embedding"
    assert kept["[1][0].mu['pairs']"] == "as it is: its rows are shorter than their scales"
    assert kept["[1][0].mu['i']"] == "as it is: no real number"
    assert kept["[1][0].mu['bias']"] == "as it is: fewer than 4096 elements"
    assert kept["[1][0].count"] == "as it is: one number"
    state = opt.init(params)
    assert f"{sum(x.nbytes for x in jax.tree.leaves(state)):,}" == table.body[-1][-1]
    assert is_packed(jo.tree.get(jo.quantized(jo.adam(0.1), embeddings=True).init(params), "mu")["embedding"])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_a_coordinate_without_gradients_never_moves(codec, rounding):
    opt = jo.quantized(jo.adam(1e-2), codec, rounding=rounding)
    params = jnp.ones((1, 2048))
    still = jnp.arange(2048) % 3 == 0

    def step(carry, key):
        p, s = carry
        g = jnp.where(still, 0.0, jax.random.normal(key, p.shape) * 10.0 ** jax.random.uniform(key, p.shape, minval=-6))
        u, s = opt.update(g, s, p)
        return (jo.apply_updates(p, u), s), jnp.max(jnp.abs(u))

    keys = jax.random.split(jax.random.key(0), 150)
    (moved, _), longest = jax.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), keys))(params)
    assert (moved[:, still] == 1).all() and (moved[:, ~still] != 1).mean() > 0.99
    assert longest.max() < 0.1  # no quotient of a mean over a root of nothing


def displacement(tx, gs):
    def step(carry, g):
        p, s = carry
        u, s = tx.update(g, s, p)
        return (jo.apply_updates(p, u), s), jnp.max(jnp.abs(u))

    zero = jnp.zeros(gs.shape[1:])
    (p, _), longest = jax.jit(lambda gs: jax.lax.scan(step, (zero, tx.init(zero)), gs))(gs)
    return p, longest.max()


@pytest.mark.parametrize("spread", [0.0, 0.8])
@pytest.mark.parametrize("size, bar", [(1e-3, 0.2), (1e-6, 0.12), (1e-7, 0.12)])
def test_the_whole_way_of_small_gradients_is_that_of_float32(size, bar, spread):
    gs = size * jax.random.normal(jax.random.key(0), (200, 4, 512))
    gs *= jnp.exp(spread * jax.random.normal(jax.random.key(2), (1, 4, 512)) - spread**2 / 2)
    tx = jo.adamw(1e-3, weight_decay=0.0)
    way, longest = displacement(tx, gs)
    for rounding, more in (("nearest", 1.0), ("stochastic", 1.25)):
        found, longest_found = displacement(jo.quantized(tx, rounding=rounding, key=1), gs)
        assert jnp.linalg.norm(found - way) < more * bar * jnp.linalg.norm(way)
        assert longest_found < 3 * longest


@pytest.mark.parametrize("rounding, within", [("nearest", 0.05), ("stochastic", 0.01)])
def test_squares_forget_gradients_that_were_ten_times_as_large(rounding, within):
    opts = [jo.scale_by_adam(), jo.quantized(jo.scale_by_adam(), rounding=rounding)]

    def end(opt):
        def step(state, i):
            g = jax.random.normal(jax.random.fold_in(jax.random.key(4), i), (1, 512))
            return opt.update(g * jnp.where(i < 1000, 1e-2, 1e-3), state)[1], None

        state = jax.lax.scan(step, opt.init(jnp.zeros((1, 512))), jnp.arange(4000))[0]
        v = jo.tree.get(state, "nu")
        return jnp.sqrt(unpack(v) if is_packed(v) else v)

    true, found = (jax.jit(lambda opt=opt: end(opt))() for opt in opts)
    assert abs(jnp.median(found / true) - 1) < within


def test_options_are_refused_in_words():
    with pytest.raises(jo.errors.HyperparameterError, match="codec must be one of 'companded8'"):
        jo.quantized(jo.adam(0.1), "int8")
    with pytest.raises(jo.errors.HyperparameterError, match="rounding must be one of"):
        jo.quantized(jo.adam(0.1), rounding="up")
    with pytest.raises(jo.errors.HyperparameterError, match="min_size must be an integer of at least 0"):
        jo.quantized(jo.adam(0.1), min_size=-1)
    with pytest.raises(jo.errors.TransformationError, match="tx is the function adam"):
        jo.quantized(jo.adam)


def test_squares_in_bfloat16_fall_only_where_they_are_rounded_at_random():
    """v after 2,000 steps without gradients at b2 = 0.999: 0.1352 in float32."""

    def end(opt):
        def step(state, _):
            return opt.update(jnp.zeros((64, 64)), state)[1], None

        first = opt.update(jnp.full((64, 64), 1e3**0.5), opt.init(jnp.zeros((64, 64))))[1]  # v = 1
        state = jax.jit(lambda s: jax.lax.scan(step, s, length=2000)[0])(first)
        return float(jo.tree.get(state, "nu").astype(jnp.float32).mean())

    nearest = end(jo.scale_by_adam(nu_dtype=jnp.bfloat16))
    at_random = end(jo.quantized(jo.scale_by_adam(), "bfloat16", rounding="stochastic", min_size=0))
    assert nearest == 1 and abs(at_random / 0.999**2000 - 1) < 0.01
    with pytest.raises(jo.errors.HyperparameterError, match="bfloat16 must be rounded at random"):
        jo.quantized(jo.adam(0.1), "bfloat16")


def test_around_and_inside_of_other_wrappers():
    """The state that is kept is the same: codes are written at the steps that are made."""
    params = {"w": heavy((8, 96), True)}
    gs = [jax.tree.map(lambda p, i=i: jnp.sin((i + 2) * p), params) for i in range(4)]

    def end(opt):
        p, s = params, opt.init(params)
        update = jax.jit(opt.update)
        for g in gs:
            u, s = update(g, s, p)
            p = jo.apply_updates(p, u)
        return p["w"], s

    few = {"min_size": 64}
    plain, _ = end(jo.MultiSteps(jo.adam(1e-2), 2).gradient_transformation())
    for opt in (
        jo.MultiSteps(jo.quantized(jo.adam(1e-2), **few), 2).gradient_transformation(),
        jo.quantized(jo.MultiSteps(jo.adam(1e-2), 2).gradient_transformation(), **few),
        jo.partition({"a": jo.quantized(jo.MultiSteps(jo.adam(1e-2), 2).gradient_transformation(), **few)}, "a"),
        jo.MultiSteps(jo.quantized(jo.apply_if_finite(jo.adam(1e-2), 2), "dynamic8", **few), 2),
    ):
        found, state = end(opt)
        assert any(map(is_packed, jax.tree.leaves(state, is_leaf=is_packed)))
        assert jnp.linalg.norm(found - plain) < 0.02 * jnp.linalg.norm(plain - params["w"])


def test_a_stack_of_layers_has_the_codes_of_its_layers():
    layers = [heavy((64, 96), True, seed) for seed in range(3)]
    stacked = {"layers": jnp.stack(layers)}
    apart = {"layers": layers}

    def end(opt, p):
        s = opt.init(p)
        for i in range(3):
            u, s = jax.jit(opt.update)(jax.tree.map(lambda x, i=i: jnp.sin((i + 2) * x), p), s, p)
            p = jo.apply_updates(p, u)
        return p, jo.tree.get(s.inner_state.inner_states["muon"], "mu")["layers"]

    one, codes = end(jo.quantized(jo.muon(1e-2, stack_axes=1), min_size=64), stacked)
    several, codes_apart = end(jo.quantized(jo.muon(1e-2), min_size=64), apart)
    np.testing.assert_allclose(one["layers"], jnp.stack(several["layers"]), atol=2e-5)
    same = [np.mean(codes.codes[i] == own.codes) for i, own in enumerate(codes_apart)]
    assert min(same) > 0.99


@pytest.mark.parametrize("codec", CODECS)
def test_a_jitted_init_packs_when_it_runs_and_not_while_it_is_compiled(codec):
    """XLA folds what it knows, slowly: zeros of 20 M parameters took it a minute and more."""
    opt = jo.quantized(jo.adam(0.1), codec)
    assert jax.jit(opt.init).lower(jnp.ones((64, 256))).as_text().count("optimization_barrier") == 2
